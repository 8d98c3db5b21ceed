"""The demo's acts, each what a person would do on the pages, done through the hub's API."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from lineside.cli.client import HubClient
from lineside.cli.demo.plant import example
from lineside.cli.demo.programs import Program, Programs, free_port
from lineside.cli.demo.score import Truth, read_truth, score, twin_matches
from lineside.cli.output import say
from lineside.core import SystemClock, UnavailableError, load_plant, rfc3339

T = TypeVar("T")

_TAUGHT_PICTURES = 32
_TEACH_SEED = 7
_DATASET = "rack"
_ORDER_EVERY_S = 10.0
_SETTLE_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line asks for; ``seconds`` 0 runs until stopped."""

    solution: str
    port: int
    fps: float
    speed: float
    seed: int
    seconds: float


class Demo:
    """One demo from start to score; the acts are called in the order they stand here."""

    def __init__(self, settings: Settings, *, folder: Path, programs: Programs) -> None:
        self._settings = settings
        self._folder = folder
        self._programs = programs
        self._plant_file = example(settings.solution, "plant.toml")
        self._plant = load_plant(self._plant_file)
        self._inspection = self._plant.inspection[0].id
        self._camera = self._plant.inspection[0].camera
        self._clock = SystemClock()
        self._pause = threading.Event()
        self._port = free_port(settings.port)
        self._bus_port = free_port()
        self._bus = f"mqtt://127.0.0.1:{self._bus_port}"
        self._base = f"http://127.0.0.1:{self._port}"
        self._hub = HubClient(self._base, token="")
        self._line: Program | None = None
        self._live_since: datetime | None = None
        self._orders: list[str] = []

    def start(self) -> str:
        """Start the hub and wait until it is ready; returns the one-time sign-in link."""
        (self._folder / "hub.toml").write_text(
            f'data_dir = "{self._folder / "hub"}"\nplant = "{self._plant_file}"\n'
            f'port = {self._port}\nbus = "embedded"\nbus_port = {self._bus_port}\n'
        )
        program = self._programs.start("hub", "hub", "--config", str(self._folder / "hub.toml"))
        link = self._until(lambda: self._sign_in_link(program.log), "the hub", 60)
        self._hub = HubClient(self._base, token=self._token("admin"))
        self._until(self._hub.ready, "the hub", 60)
        return link

    def teach(self) -> None:
        """Let the line show its pictures and label each by what the factory said of its stock."""
        say(f"teaching: {_TAUGHT_PICTURES} pictures from the line, labelled by f/i/stock")
        since = self._clock.now()
        program = self._simulate(
            "teaching", f"--teach={_TAUGHT_PICTURES}", f"--seed={_TEACH_SEED}", "--fps=20"
        )
        self._programs.wait(program, timeout_s=120)
        self._until(lambda: self._stored(since) >= _TAUGHT_PICTURES, "the taught frames", 20)
        self._hub.post(
            f"/datasets/{_DATASET}/samples",
            {"camera": self._camera, "since": rfc3339(since), "labels_from": "f/i/stock"},
        )
        self._hub.post(f"/datasets/{_DATASET}/freeze")

    def train(self) -> None:
        """Train in the hub's child process and take the package into use."""
        body = {"task": "multilabel", "dataset": _DATASET, "inspection": self._inspection}
        run = self._hub.post("/runs", body)
        shown = ""
        while run["state"] not in {"done", "failed", "cancelled"}:
            self._pause.wait(0.3)
            self._programs.check()
            run = self._hub.get(f"/runs/{run['id']}")
            step = f"{run['stage']} {run['percent'] // 20:.0f}"
            if step != shown:
                say(f"training: {run['percent']:.0f} % {run['stage']}")
            shown = step
        if run["state"] != "done":
            raise UnavailableError(
                f"training {run['state']}: {run['reason']}",
                where=run["id"],
                fix="Run it again with --folder DIR and read the logs there.",
            )
        digest = run["package"]
        self._hub.post(
            f"/packages/{digest}/use", {"inspection": self._inspection, "reason": "demo"}
        )
        say(f"trained package {digest[7:13]} is in use")

    def go_live(self) -> None:
        """Start the edge agent and the scored line, and wait for the first live answer."""
        (self._folder / "edge.toml").write_text(
            f'device = "edge-1"\nbus = "{self._bus}"\nhub = "{self._base}"\n'
            f'token_file = "{self._token_file("device")}"\nplant = "{self._plant_file}"\n'
            f'data_dir = "{self._folder / "edge"}"\n'
        )
        self._programs.start("edge", "edge", "--config", str(self._folder / "edge.toml"))
        self._until(self._device_is_loaded, "the edge agent", 60)
        self._live_since = self._clock.now()
        self._line = self._simulate(
            "line",
            f"--seed={self._settings.seed}",
            "--lighting=neutral",
            "--restock-after-s=20",
            f"--fps={self._settings.fps:g}",
            f"--speed={self._settings.speed:g}",
            f"--truth={self._truth_file}",
        )
        self._until(lambda: bool(self._predictions(limit=1)), "the first decision", 60)

    def watch(self) -> None:
        """Place an order now and then; return when the time is over."""
        began = self._clock.monotonic()
        next_order_s = began + 2
        while not self._settings.seconds or (
            self._clock.monotonic() - began < self._settings.seconds
        ):
            self._pause.wait(0.25)
            self._programs.check()
            if self._settings.seconds and self._clock.monotonic() >= next_order_s:
                self._order()
                next_order_s = self._clock.monotonic() + _ORDER_EVERY_S

    def finish(self) -> dict[str, object]:
        """Stop the line, let the last answers arrive, and count."""
        if self._line is not None:
            self._programs.stop(self._line)
        self._pause.wait(_SETTLE_S)
        lines = [json.loads(line) for line in self._truth_file.read_text().splitlines()]
        truths = read_truth(lines, camera=self._camera)
        return self._report(truths)

    def _report(self, truths: list[Truth]) -> dict[str, object]:
        predictions = self._predictions()
        stats = self._hub.get("/stats")
        stored = {row["id"] for row in self._frames()}
        missing = [truth.frame for truth in truths if truth.frame not in stored]
        counted = score(truths, predictions)
        answered = counted.total - counted.unsure
        return {
            "frames_published": len(truths),
            "frames_stored": len(truths) - len(missing),
            "frames_dropped": dict(Counter(stats["frames_dropped"]) if missing else Counter[str]()),
            "predictions": len(predictions),
            "events": self._hub.get("/stats")["events"],
            "decisions_correct": counted.correct,
            "decisions_unsure": counted.unsure,
            "decisions_total": counted.total,
            "right_of_answered": counted.correct / answered if answered else 0.0,
            "wrong": counted.wrong,
            "pictures_refused": counted.refused,
            "twin_matches_truth": bool(truths)
            and twin_matches(self._hub.get("/twin"), truths[-1].slots),
            "orders": [order["status"] for order in self._hub.get("/orders")["items"]],
            "latency_ms": stats["latency_ms"],
        }

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
        return [event["data"] for event in self._hub.items("/events", type=kind, limit=1000)]

    def _stored(self, since: datetime) -> int:
        return len(self._hub.get("/frames", since=rfc3339(since), limit=1000)["items"])

    def _order(self) -> None:
        """Order a colour that is free; the page would show the same refusal if there is none."""
        colours = self._hub.get("/twin")["colours"]
        free = [c for c, state in colours.items() if state["present"] > state["reserved"]]
        if free:
            colour = free[len(self._orders) % len(free)]
            self._hub.post("/orders", {"colour": colour})
            self._orders.append(colour)

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

    def _until(self, ask: Callable[[], T], what: str, within_s: float) -> T:
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
