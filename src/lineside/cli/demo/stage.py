"""Shared stage of the demos: start programs, wait, call the hub, score at the end."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

import lineside
from lineside.cli.demo.score import FrameTruth, Mark, Row, Score, read_truth, score
from lineside.cli.output import say
from lineside.core import NotFoundError, SystemClock, UnavailableError, load_plant, rfc3339, short
from lineside.core.processes import end_with_parent
from lineside.library.client import HubClient

_STOP_WITHIN_S = 15.0
_QUIET_S = 300.0  # longest time without progress, on a busy machine


def free_port(wanted: int = 0) -> int:
    """A port nobody listens on: the wanted one if it is free, else any."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise UnavailableError("no free port on this machine", fix="Close a server and try again.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One running ``lineside`` command and the file its output goes to."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Programs:
    """Starts ``lineside`` commands and stops them in the reverse order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[Program] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for program in list(reversed(self._running)):
                self.stop(program)
        except KeyboardInterrupt:  # a second Ctrl-C: at once
            for program in self._running:
                program.process.kill()
                program.process.wait()
            raise

    def start(self, name: str, *arguments: str) -> Program:
        """Start ``lineside <arguments>`` with its output in ``<folder>/<name>.log``."""
        log = self._folder / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603  our own interpreter and module
                end_with_parent([sys.executable, "-m", "lineside", *arguments]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},  # noqa: TID251  handed on to a child
                start_new_session=True,
            )
        program = Program(name=name, process=process, log=log)
        self._running.append(program)
        return program

    def check(self) -> None:
        """Raise if a program that should run has ended."""
        for program in self._running:
            code = program.process.poll()
            if code is not None:
                raise UnavailableError(
                    f"{program.name} ended with code {code}: {last_words(program.log)}",
                    where=str(program.log),
                    fix="Read the log named; then start the demo again.",
                )

    def wait(self, program: Program) -> None:
        """Wait for a program that ends by itself, as long as its log grows.

        Raises:
            UnavailableError: it failed, or said nothing for too long.
        """
        code, said_bytes = None, -1
        while code is None:
            before, said_bytes = said_bytes, program.log.stat().st_size
            if before == said_bytes:
                raise UnavailableError(
                    f"{program.name} made no progress for {_QUIET_S:.0f} s: "
                    f"{last_words(program.log)}",
                    where=str(program.log),
                    fix="Read the log named; then start the demo again.",
                )
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = program.process.wait(_QUIET_S)
        self._running.remove(program)
        if code:
            raise UnavailableError(
                f"{program.name} ended with code {code}: {last_words(program.log)}",
                where=str(program.log),
            )

    def stop(self, program: Program) -> None:
        """Ask it to end; kill it when it does not."""
        if program.process.poll() is None:
            program.process.send_signal(signal.SIGTERM)
            try:
                program.process.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                program.process.kill()
                program.process.wait()
        if program in self._running:
            self._running.remove(program)


def last_words(log: Path) -> str:
    """The error a program ended with, or else the last line it wrote; for an error message."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    for number, line in reversed(list(enumerate(lines))):
        if line.startswith("error: "):
            return " ".join(one.strip() for one in lines[number:])[:300]
    return lines[-1][-300:] if lines else "it wrote nothing"


def example(solution: str, name: str) -> Path:
    """The path of an example's file."""
    package = Path(lineside.__file__).parent
    for folder in (package / "examples", package.parents[1] / "examples"):
        path = folder / solution / name
        if path.is_file():
            return path
    raise NotFoundError(
        f"the example {solution} has no {name}", where=str(package), fix="Install lineside again."
    )


T = TypeVar("T")

_SETTLE_S, _SETTLE_MOST_S = 1.5, 120.0
_PORT_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of a demo; ``seconds`` 0 runs until stopped, ``kafka`` "" is none."""

    solution: str
    port: int
    fps: float
    speed: float
    seed: int
    seconds: float
    kafka: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedTraining:
    """Pictures rendered for training, and the training: what is said of them and the options.

    ``into`` is the option that names the folder of the rendered pictures.
    """

    pictures: int
    seed: int
    task: str
    teaching: str
    training: str
    use: str
    inspection: str = ""
    into: str = "out"
    options: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


class Stage(ABC):
    """One demo from start to score; the acts are called in the order they stand here."""

    rendered: ClassVar[RenderedTraining]

    def __init__(self, settings: Settings, *, folder: Path, programs: Programs) -> None:
        self._settings = settings
        self._folder = folder
        self._programs = programs
        self._plant_file = folder / f"{settings.solution}.toml"  # of its own: people edit it
        if not self._plant_file.exists():
            shutil.copyfile(example(settings.solution, "plant.toml"), self._plant_file)
        self._plant = load_plant(self._plant_file)
        self._inspection = self._plant.inspection[0].id
        self._camera = self._plant.inspection[0].camera
        self._clock = SystemClock()
        self._pause = threading.Event()
        self._choose_ports()
        self._hub = HubClient(self._base, token="")
        self._line: Program | None = None
        self._live_since: datetime | None = None
        self._truths: list[FrameTruth] = []
        self._answers: list[Any] = []
        self._score = Score(marks=Counter(), wrong=(), refused={})

    def start(self) -> str:
        """Start the hub and wait until it is ready; returns the one-time sign-in link.

        Another program may take a port between the look for a free one and the hub's start: then
        the hub is started again with others.
        """
        self._write_hub_settings()
        self.prepare_site()
        attempts = 0
        while True:
            program = self._programs.start("hub", "hub", self._config)
            try:
                return self._ready_hub(program)
            except UnavailableError:
                self._programs.stop(program)
                attempts += 1
                if attempts == _PORT_ATTEMPTS or self._has_free_ports():
                    raise
                self._choose_ports()
                self._write_hub_settings()

    def _choose_ports(self) -> None:
        self._port = free_port(self._settings.port)
        self._bus_port = free_port()
        self._bus = f"mqtt://127.0.0.1:{self._bus_port}"
        self._base = f"http://127.0.0.1:{self._port}"

    def _has_free_ports(self) -> bool:
        return all(free_port(port) == port for port in (self._port, self._bus_port))

    def _write_hub_settings(self) -> None:
        (self._folder / "hub.toml").write_text(
            f'data_dir = "{self._folder / "hub"}"\nplant = "{self._plant_file}"\n'
            f'port = {self._port}\nbus = "embedded"\nbus_port = {self._bus_port}\n'
            f"{self.hub_settings()}"
        )

    def _ready_hub(self, program: Program) -> str:
        link = self._until(lambda: self._sign_in_link(program.log), "the hub")
        self._hub = HubClient(self._base, token=self._token("admin"))
        self._until(self._hub.ready, "the hub")
        return link

    def hub_settings(self) -> str:
        """Further lines of the hub's settings."""
        return ""

    def prepare_site(self) -> None:
        """Prepare the site after the hub's settings are written and before it starts."""
        return

    def device_settings(self) -> str:
        """Further lines of the edge agent's settings."""
        return ""

    def teach(self) -> None:
        """Bring labelled pictures to where they are learned from."""
        say(f"teaching: {self.rendered.pictures} {self.rendered.teaching}")
        self._render(
            self._taught, pictures=self.rendered.pictures, seed=self.rendered.seed,
            options=self.rendered.options,
        )  # fmt: skip

    def train(self) -> None:
        """Make a package and take it into use."""
        say(f"training: {self.rendered.training}")
        inspection = self.rendered.inspection or self._inspection
        package = self._folder / f"{inspection}.lspkg"
        self._run(
            "train",
            *("train", f"--task={self.rendered.task}", f"--data={self._taught / 'truth.csv'}"),
            *(f"--plant={self._plant_file}", f"--inspection={inspection}"),
            *(f"--setting={one}" for one in self.rendered.settings),
            *(f"--job={self._folder / 'job'}", f"--out={package}"),
        )
        digest = self._hub.upload("/packages", package.read_bytes())["digest"]
        name = self._use(digest, inspection=inspection)
        say(f"trained package {name} is in use{self.rendered.use.format(hub=self._base)}")

    def line_options(self) -> tuple[str, ...]:
        """Options of the scored line, beside seed, pace and truth file."""
        return ()

    def step(self) -> None:
        """Act from time to time while the line runs."""
        return

    @staticmethod
    @abstractmethod
    def judge(note: Row, prediction: Row) -> Iterable[Mark]:
        """Hold one prediction against the truth of its frame."""

    @abstractmethod
    def figures(self) -> dict[str, object]:
        """Return the figures of this demo alone; the line has stopped and is scored."""

    def answers(self) -> list[Any]:
        """Return all predictions that the hub stored."""
        return self._predictions()

    def scored(self) -> list[Any]:
        """Return the predictions that the score is about."""
        return self._answers

    def go_live(self) -> None:
        """Start the edge agent and the scored line, and wait for the first live answer."""
        self._start_device("edge-1")
        self._until(self._device_is_loaded, "the edge agent")
        self._start_line()

    def _start_device(self, name: str) -> None:
        """Start an edge agent that trusts what the hub signs, and nothing else."""
        settings = self._folder / f"{name}.toml"
        settings.write_text(
            f'device = "{name}"\nbus = "{self._bus}"\nhub = "{self._base}"\n'
            f'token_file = "{self._token_file("device")}"\nplant = "{self._plant_file}"\n'
            f'data_dir = "{self._folder / name}"\n'
            f'trust_root = "{self._folder / "hub" / "trust" / "root.json"}"\n'
            f"{self.device_settings()}"
        )
        self._programs.start(name, "edge", "--config", str(settings))

    def _start_line(self) -> None:
        self._live_since = self._clock.now()
        self._line = self._simulate(
            "line",
            f"--seed={self._settings.seed}",
            f"--fps={self._settings.fps:g}",
            f"--truth={self._truth_file}",
            *self.line_options(),
        )
        self._until(lambda: bool(self._predictions(limit=1)), "the first decision")

    def watch(self) -> None:
        """Return when the time is over."""
        began = self._clock.monotonic()
        while not self._settings.seconds or (
            self._clock.monotonic() - began < self._settings.seconds
        ):
            self._pause.wait(0.25)
            self._programs.check()
            self.step()

    def finish(self) -> dict[str, object]:
        """Stop the line, let the last answers arrive, and count; the figures by name."""
        if self._line is not None:
            self._programs.stop(self._line)
        lines = [json.loads(line) for line in self._truth_file.read_text().splitlines()]
        self._truths = read_truth(lines, camera=self._camera)
        self._settle()
        self._answers = self.answers()
        found = self._score = score(self._truths, self.scored(), judge=self.judge)
        return {
            **self._flow(),
            "predictions": len(self._answers),
            "verdicts": self._verdicts(),
            "decisions_correct": found.marks["correct"],
            "decisions_unsure": found.marks["unsure"],
            "decisions_total": found.total,
            "right_of_answered": found.right_of_answered,
            "wrong": found.wrong,
            "pictures_refused": found.refused,
            "twin_matches_truth": None,
            **self.figures(),
        }

    def _settle(self) -> None:
        """Until nothing more comes in and every frame is accounted for; not for ever."""
        deadline_s = self._clock.monotonic() + _SETTLE_MOST_S
        before: list[object] = []
        while self._clock.monotonic() < deadline_s:
            self._pause.wait(_SETTLE_S)
            stats = self._hub.get("/stats")
            now = [stats["frames_stored"], stats["predictions"]]
            if now == before and len(self._missing()) <= sum(stats["frames_dropped"].values()):
                return
            before = now

    def _missing(self) -> list[str]:
        """Return the frames that the line sent and the hub did not store."""
        stored = {row["id"] for row in self._frames()}
        return [truth.frame for truth in self._truths if truth.frame not in stored]

    def _run(self, name: str, *words: str) -> None:
        """Run a command that ends by itself."""
        self._programs.wait(self._programs.start(name, *words))

    def _render(
        self, folder: Path, *, pictures: int, seed: int, options: tuple[str, ...] = ()
    ) -> None:
        """Write pictures of the simulated line with their truth into a folder."""
        self._run(
            f"render-{folder.name}",
            *("simulate", self._settings.solution, f"--{self.rendered.into}={folder}"),
            *(f"--pictures={pictures}", f"--seed={seed}", *options),
        )

    def _use(self, digest: str, *, inspection: str) -> str:
        """Take a package into use; its short name."""
        body = {"inspection": inspection, "reason": "demo"}
        self._hub.post(f"/packages/{digest}/use", body)
        return short(digest)

    def _flow(self) -> dict[str, object]:
        """Return the outcome of every frame that the line sent."""
        sent, missing = len(self._truths), self._missing()
        stats = self._hub.get("/stats")
        return {
            "frames_published": sent,
            "frames_stored": sent - len(missing),
            "frames_dropped": dict(Counter(stats["frames_dropped"]) if missing else Counter[str]()),
            "events": stats["events"],
            "latency_ms": stats["latency_ms"],
        }

    @property
    def _config(self) -> str:
        return f"--config={self._folder / 'hub.toml'}"

    @property
    def _taught(self) -> Path:
        return self._folder / "taught"

    @property
    def _truth_file(self) -> Path:
        return self._folder / "truth.jsonl"

    def _simulate(self, name: str, *options: str) -> Program:
        return self._programs.start(
            name,
            *("simulate", self._settings.solution, f"--bus={self._bus}", *options),
        )

    def _frames(self) -> list[Any]:
        since = rfc3339((self._live_since or self._clock.now()) - timedelta(seconds=1))
        return self._hub.items("/frames", camera=self._camera, since=since, limit=1000)

    def _predictions(self, limit: int = 0) -> list[Any]:
        kind = "lineside.prediction.v1"
        if limit:
            return list(self._hub.get("/events", type=kind, limit=limit)["items"])
        return self._data_of(kind)

    def _verdicts(self) -> dict[str, int]:
        """Return how many parts had which verdict."""
        return dict(Counter(one["verdict"] for one in self._data_of("lineside.verdict.v1")))

    def _data_of(self, kind: str) -> list[Any]:
        """Return the data of all events of a type."""
        return [event["data"] for event in self._hub.items("/events", type=kind, limit=1000)]

    def _device_is_loaded(self) -> bool:
        return any(device.get("packages") for device in self._hub.get("/devices")["items"])

    def _token_file(self, name: str) -> Path:
        return self._folder / "hub" / "tokens" / f"{name}.token"

    def _token(self, name: str) -> str:
        return self._token_file(name).read_text().strip()

    def _sign_in_link(self, log: Path) -> str:
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        links = [word for line in lines for word in line.split() if "/sign-in?" in word]
        return links[-1] if links else ""

    def _until(self, ask: Callable[[], T], what: str, within_s: float = _QUIET_S) -> T:
        deadline_s = self._clock.monotonic() + within_s
        while self._clock.monotonic() < deadline_s:
            self._programs.check()
            answer = ask()
            if answer:
                return answer
            self._pause.wait(0.1)
        raise UnavailableError(
            f"{what} did not come up within {within_s:.0f} s",
            where=str(self._folder),
            fix="Run it again with --folder DIR and read the logs there.",
        )
