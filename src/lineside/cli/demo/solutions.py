"""Stages of the four example solutions: what each prepares, starts and scores."""

import json
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lineside.cli.client import HubClient
from lineside.cli.demo.score import (
    ANOMALOUS,
    NORMAL,
    PlateTruth,
    SockTruth,
    read_bins,
    read_plates,
    read_socks,
    read_truth,
    score,
    score_counts,
    score_plates,
    score_socks,
    socks_passed,
    twin_matches,
)
from lineside.cli.demo.stage import Program, Programs, Settings, Stage, free_port
from lineside.cli.output import say
from lineside.core import UnavailableError, rfc3339

MAKER, APPROVER = "R. Novak", "M. Keller"
_PIPELINES = "lineside.training.pipeline"
_MINUTES_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One pipeline run: ``inspection`` is also the group's name."""

    module: str
    inspection: str
    pictures: Path
    parameters: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Releasing:
    """Trains, approves and rolls out; ``until`` waits for something of the hub."""

    hub: HubClient
    base: str
    folder: Path
    programs: Programs
    until: Callable[[Callable[[], Any], str, float], Any]

    def add_approver(self) -> None:
        """A second person, because nobody approves what is their own."""
        password = self.folder / "approver-password"
        password.write_text(secrets.token_urlsafe(12) + "\n")
        password.chmod(0o600)
        self._run(
            "approver",
            *("user", "add", APPROVER, "--role=approver", f"--password-file={password}"),
        )
        say(f"{APPROVER} may approve; the password is in {password}")

    def begin(self, name: str, recipe: Recipe) -> Program:
        """Start a pipeline run; ``end`` waits for it."""
        given = {
            "base_job_prefix": recipe.inspection,
            "parameters": {
                "InputData": str(recipe.pictures),
                "ModelPackageGroupName": recipe.inspection,
                **recipe.parameters,
            },
        }
        return self.programs.start(
            name,
            *("pipeline", "run", f"--module-name={_PIPELINES}.{recipe.module}"),
            *(f"--kwargs={given!r}", f"--folder={self.folder / 'pipelines'}", f"--by={MAKER}"),
            *("--description=lineside demo", f"--config={self._config}"),
        )

    def end(self, running: Program) -> None:
        """Until the run's gate has passed and the version is registered."""
        self.programs.wait(running)

    def approve(self, group: str, number: int, *, reason: str) -> None:
        """As the second person; says where the same is done by hand."""
        page = f"{self.base}/models/groups/{group}/{number}"
        say(f"{group}/{number} waits for approval; by hand, as {APPROVER}: {page}")
        self._run(
            f"approve-{group}-{number}",
            *("model", "approve", f"{group}/{number}", f"--by={APPROVER}", f"--reason={reason}"),
        )
        say(f"{group}/{number} is approved by {APPROVER}")

    def roll_out(self, group: str, number: int, *, plan: dict[str, object]) -> Any:  # noqa: ANN401  JSON
        """Begin a roll-out and wait until it goes no further by itself."""
        asked = {"group": group, "version": number, "plan": plan, "reason": "demo"}
        started = self.hub.post("/rollouts", asked)
        told: list[str] = []

        def ended() -> Any:  # noqa: ANN401  JSON
            now = self.hub.get(f"/rollouts/{started['id']}")
            words = f"{group}/{number} {now['state']}: {now['why']}"
            if words not in told:
                told.append(words)
                say(words)
            return now if now["state"] in {"done", "aborted", "rolled back"} else None

        return self.until(ended, f"the end of roll-out {started['id']}", _MINUTES_S)

    @property
    def _config(self) -> Path:
        return self.folder / "hub.toml"

    def _run(self, name: str, *words: str) -> None:
        self.programs.wait(self.programs.start(name, *words, f"--config={self._config}"))


_UNLIKE, _SURFACE, _DEFECTS = "unlike", "surface", "defects"
_DEVICES = ("edge-1", "edge-2", "edge-3")
_GOOD_PICTURES, _GOOD_SEED = 40, 3
_LABELLED_PICTURES, _LABELLED_SEED = 160, 7
_EARLY_SEED = 5
_FAULTY_SHARE = "0.5"
_CLASSES, _PIXELS = Path("img-classification"), Path("semantic-segmentation")
# Enough for plates as plain as these; the learner's own choice takes some minutes.
_OF_CLASSES = {"TargetImageSize": 256, "TrainingEpochs": 5}
_OF_PIXELS = {"TrainingEpochs": 5}
_CANARY_FIRST: dict[str, object] = {
    "devices": list(_DEVICES),
    "steps": [{"canary": 1}, {"percent": 100}],
    "limits": {"frames": 20},
}


class Surface(Stage):
    """Three devices; the inspection that is scored is the one that was rolled out to them."""

    def __init__(self, settings: Settings, *, folder: Path, programs: Programs) -> None:
        super().__init__(settings, folder=folder, programs=programs)
        self._inspection = _SURFACE
        self._rollouts: list[Any] = []

    def teach(self) -> None:
        """Render good plates: what a line has on its first day."""
        say(f"teaching: {_GOOD_PICTURES} good plates, not one with a fault")
        self._render("good", pictures=_GOOD_PICTURES, seed=_GOOD_SEED, faulty_share="0")

    def train(self) -> None:
        """Learn what good plates look like, and take that into use."""
        say("training: what good plates have in common")
        name = self._train("anomaly", data=self._folder / "good", inspection=_UNLIKE)
        say(f"trained package {name} is in use: it says which plates are unlike good ones")

    def line_options(self) -> tuple[str, ...]:
        return ()

    def go_live(self) -> None:
        """Three devices on what good plates taught; then labels, approval, canary, all three."""
        for name in _DEVICES:
            self._start_device(name)
        self._until(self._all_loaded, "three edge agents", 120)
        early = self._simulate("early", f"--seed={_EARLY_SEED}", f"--fps={self._settings.fps:g}")
        self._until(lambda: bool(self._predictions(limit=1)), "the first decision", 60)
        say(f"live on good plates alone: {self._base}/lines/belt")
        self._release_the_first(self._releasing())
        self._programs.stop(early)
        self._start_line()

    def step(self) -> None:
        """Nothing: plates are judged as they come."""

    def watch(self) -> None:
        """A bad version first, until the canary went back; then for the time asked for."""
        self._release_a_bad_one(self._releasing())
        super().watch()

    def report(self) -> dict[str, object]:
        lines = [json.loads(line) for line in self._truth_file.read_text().splitlines()]
        truths = read_plates(lines, camera=self._camera)
        predictions = _once(self._predictions())
        found = score_plates(truths, self._of_first_release(predictions))
        answered = found.total - found.unsure
        return {
            **self._flow(truth.frame for truth in truths),
            "predictions": len(predictions),
            "decisions_correct": found.correct,
            "decisions_unsure": found.unsure,
            "decisions_total": found.total,
            "right_of_answered": found.correct / answered if answered else 0.0,
            "faulty_missed": found.missed,
            "good_stopped": found.stopped,
            **self._beside(truths, predictions),
            "wrong": found.wrong,
            "pictures_refused": found.refused,
            "rollouts": self._rollouts,
            "bad_answers_heard": self._answers_of_bad(predictions),
            "devices": self._running(),
            "twin_matches_truth": None,
        }

    # ---- releases

    def _release_the_first(self, releasing: Releasing) -> None:
        say(f"labels: {_LABELLED_PICTURES} plates, with masks of what is wrong")
        self._render(
            "labelled",
            pictures=_LABELLED_PICTURES,
            seed=_LABELLED_SEED,
            faulty_share=_FAULTY_SHARE,
        )
        releasing.add_approver()
        labelled = self._folder / "labelled"
        say("training: two pipelines, good or not, and which pixels, each with its gate")
        pixels = releasing.begin("pipeline-defects", self._of_pixels(labelled))
        classes = releasing.begin("pipeline-surface", self._of_classes(labelled / _CLASSES))
        for running, group in ((classes, _SURFACE), (pixels, _DEFECTS)):
            releasing.end(running)
            releasing.approve(group, 1, reason="looked at its report")
            self._bring_out(releasing, group, number=1)

    def _release_a_bad_one(self, releasing: Releasing) -> None:
        """Its pictures lay in the wrong folders: gate and golden pictures see nothing of that."""
        say("now a bad version: somebody mixed the two folders up")
        swapped = _swapped(self._folder / "labelled" / _CLASSES, into=self._folder / "swapped")
        releasing.end(releasing.begin("pipeline-swapped", self._of_classes(swapped)))
        releasing.approve(_SURFACE, 2, reason="the gate passed it")
        self._bring_out(releasing, _SURFACE, number=2)

    def _bring_out(self, releasing: Releasing, group: str, *, number: int) -> None:
        ended = releasing.roll_out(group, number, plan=_CANARY_FIRST)
        turned = [one["why"] for one in ended["history"] if one["state"] == "going back"]
        self._rollouts.append(
            {
                "version": f"{group}/{number}",
                "package": ended["release"]["digest"],
                "state": ended["state"],
                "why": turned[0] if turned else ended["why"],
            }
        )

    def _of_classes(self, pictures: Path) -> Recipe:
        return Recipe(
            module="image_classification",
            inspection=_SURFACE,
            pictures=pictures,
            parameters=dict(_OF_CLASSES),
        )

    def _of_pixels(self, labelled: Path) -> Recipe:
        return Recipe(
            module="semantic_segmentation",
            inspection=_DEFECTS,
            pictures=labelled / _PIXELS,
            parameters=dict(_OF_PIXELS),
        )

    def _releasing(self) -> Releasing:
        return Releasing(
            hub=self._hub,
            base=self._base,
            folder=self._folder,
            programs=self._programs,
            until=self._until,
        )

    # ---- figures

    def _package(self, version: str) -> str:
        found = [one["package"] for one in self._rollouts if one["version"] == version]
        return str(found[0]) if found else ""

    def _of_first_release(self, predictions: list[Any]) -> list[Any]:
        package = self._package(f"{_SURFACE}/1")
        return [one for one in predictions if one["package"] == package]

    def _answers_of_bad(self, predictions: list[Any]) -> int:
        package = self._package(f"{_SURFACE}/2")
        return sum(one["package"] == package for one in predictions)

    def _beside(self, truths: list[PlateTruth], predictions: list[Any]) -> dict[str, object]:
        """The two inspections beside the scored one, in shares of their sure answers."""
        said: dict[str, object] = {}
        for inspection in (_UNLIKE, _DEFECTS):
            own = [one for one in predictions if one["inspection"] == inspection]
            found = score_plates(truths, own)
            sure = found.total - found.unsure
            said[f"right_of_answered_{inspection}"] = found.correct / sure if sure else 0.0
        return said

    def _running(self) -> dict[str, list[str]]:
        """Device → the packages that it says it runs."""
        return {
            device["id"]: sorted(one["digest"] for one in device["packages"])
            for device in self._hub.get("/devices")["items"]
        }

    def _all_loaded(self) -> bool:
        return len(self._running()) == len(_DEVICES) and all(self._running().values())

    def _render(self, name: str, *, pictures: int, seed: int, faulty_share: str) -> None:
        program = self._programs.start(
            f"render-{name}",
            *("simulate", "surface", f"--folder={self._folder / name}", f"--seed={seed}"),
            *(f"--pictures={pictures}", f"--faulty-share={faulty_share}"),
        )
        self._programs.wait(program)


def _once(predictions: list[Any]) -> list[Any]:
    """Each package's answer to a frame once, whichever of the devices gave it first."""
    named = {
        (one["frame"]["id"], one["inspection"], one["package"]): one
        for one in reversed(predictions)
    }
    return list(named.values())


def _swapped(folder: Path, *, into: Path) -> Path:
    """The same pictures, each in the other folder."""
    for name, other in ((NORMAL, ANOMALOUS), (ANOMALOUS, NORMAL)):
        shutil.copytree(folder / name, into / other, dirs_exist_ok=True)
    return into


_BIN_PICTURES, _BIN_SEED = 600, 7
_STEPS = 320  # about a minute; the learner's own choice takes three and counts a little better
_OFFERED_PICTURES, _OFFERED_SEED = 80, 23
_FUNCTION = "serve-cv-object-counter"
_STORE = "amazon-bin-images-sub"


class Bins(Stage):
    """Trained from a rendered folder; counts bin after bin, and serves pictures of a store."""

    def hub_settings(self) -> str:
        """The function that page and AWS' clients use, over a store of rendered pictures."""
        store = self._folder / _STORE
        self._render(store, pictures=_OFFERED_PICTURES, seed=_OFFERED_SEED)
        return (
            f'[[function]]\nname = "{_FUNCTION}"\nendpoint = "{self._inspection}"\n'
            f'store = "{store.as_uri()}"\nprefix = "bin-images/"\nrecords = "metadata/"\n'
        )

    def teach(self) -> None:
        """Render bins that neither the page nor the line will show."""
        say(f"teaching: {_BIN_PICTURES} rendered pictures with what lies in each bin")
        self._render(self._taught, pictures=_BIN_PICTURES, seed=_BIN_SEED)

    def train(self) -> None:
        """Train the package that counts, and take it into use."""
        say("training: a distribution over numbers from counts alone")
        name = self._train(
            "count", data=self._taught, inspection=self._inspection, settings=(f"steps={_STEPS}",)
        )
        say(f"trained package {name} is in use; count pictures at {self._base}/count")

    def line_options(self) -> tuple[str, ...]:
        return ()

    def step(self) -> None:
        """Nothing: bins are counted as they come."""

    def report(self) -> dict[str, object]:
        lines = [json.loads(line) for line in self._truth_file.read_text().splitlines()]
        truths = read_bins(lines, camera=self._camera)
        predictions = self._predictions()
        counted = score_counts(truths, predictions)
        answered = counted.total - counted.unsure
        judged = counted.total - sum(counted.refused.values())
        return {
            **self._flow(truth.frame for truth in truths),
            "predictions": len(predictions),
            "decisions_correct": counted.correct,
            "decisions_unsure": counted.unsure,
            "decisions_total": counted.total,
            "right_of_answered": counted.correct / answered if answered else 0.0,
            "counts_exact": counted.exact / judged if judged else 0.0,
            "interval_coverage": counted.within / judged if judged else 0.0,
            "records_wrong": counted.records_wrong,
            "records_caught": counted.records_caught,
            "records_doubted": counted.records_doubted,
            "wrong": counted.wrong,
            "pictures_refused": counted.refused,
            "twin_matches_truth": None,
        }

    @property
    def _taught(self) -> Path:
        return self._folder / "taught"

    def _render(self, folder: Path, *, pictures: int, seed: int) -> None:
        program = self._programs.start(
            f"render-{folder.name}",
            *("simulate", "bins", f"--out={folder}", f"--pictures={pictures}", f"--seed={seed}"),
        )
        self._programs.wait(program)


_SOCK_PICTURES, _SOCK_SEED = 168, 7
_WATCH_PORT = 4000
_SAID = "sockfound"
_SEEN, _PAIRED = "sock-seen", "pair-found"
_KAFKA_SAID, _KAFKA_EVENTS = "data_mqtt", "socks"


class Socks(Stage):
    """Trained from a rendered folder; the camera is watched over HTTPS, socks become events."""

    def hub_settings(self) -> str:
        """Messages unchanged and events as they are to Kafka, where one is named."""
        if not self._settings.kafka:
            return ""
        return (
            f'[kafka]\nbrokers = "{self._settings.kafka}"\n'
            f'[[kafka.bridge]]\nmqtt = "{_SAID}"\ntopic = "{_KAFKA_SAID}"\n'
            f'[[kafka.send]]\ntopic = "{_KAFKA_EVENTS}"\n'
        )

    def prepare_site(self) -> None:
        """The site's authority, and of it a certificate for the camera's page."""
        config = f"--config={self._folder / 'hub.toml'}"
        for name, words in (
            ("site", ("hub", "init", config)),
            ("page-certificate",
             ("hub", "certificate", config, f"--to={self._tls}", "--hosts=localhost,127.0.0.1")),
        ):  # fmt: skip
            self._programs.wait(self._programs.start(name, *words))

    def device_settings(self) -> str:
        """The device's page by HTTPS, where the cameras of before had theirs."""
        self._watch_port = free_port(_WATCH_PORT)
        return (
            f'[page]\nlisten = "127.0.0.1:{self._watch_port}"\n'
            f'tls_cert = "{self._tls / "server.crt"}"\ntls_key = "{self._tls / "server.key"}"\n'
        )

    def teach(self) -> None:
        """Render socks that the line will not show."""
        say(f"teaching: {_SOCK_PICTURES} rendered pictures of six designs and the empty table")
        program = self._programs.start(
            "render-taught",
            *("simulate", "socks", f"--out={self._taught}"),
            *(f"--pictures={_SOCK_PICTURES}", f"--seed={_SOCK_SEED}"),
        )
        self._programs.wait(program)

    def train(self) -> None:
        """Train the package that tells designs apart, and take it into use."""
        say("training: which sock, or none")
        name = self._train("classify", data=self._taught, inspection=self._inspection)
        say(f"trained package {name} is in use; pairs stand at {self._base}/events")

    def go_live(self) -> None:
        super().go_live()
        camera = f"https://127.0.0.1:{self._watch_port}"
        say(f"camera: {camera}/cameras/{self._camera}/answers.mjpeg (page: {camera}/)")
        say(f"its certificate is of the site's authority: {self._tls / 'server.crt'}")

    def line_options(self) -> tuple[str, ...]:
        return ()

    def step(self) -> None:
        """Nothing: socks come and go by themselves."""

    def report(self) -> dict[str, object]:
        lines = [json.loads(line) for line in self._truth_file.read_text().splitlines()]
        truths = read_socks(lines, camera=self._camera)
        predictions = self._predictions()
        found = score_socks(truths, predictions)
        answered = found.total - found.unsure
        return {
            **self._flow(truth.frame for truth in truths),
            "predictions": len(predictions),
            "decisions_correct": found.correct,
            "decisions_unsure": found.unsure,
            "decisions_total": found.total,
            "decisions_between": found.between,
            "right_of_answered": found.correct / answered if answered else 0.0,
            "messages_heard": len(self._heard()),
            **self._counted(truths),
            "wrong": found.wrong,
            "pictures_refused": found.refused,
            "twin_matches_truth": None,
        }

    def _counted(self, truths: list[SockTruth]) -> dict[str, object]:
        """Socks and pairs as the rules counted them, and as they were."""
        passed = socks_passed(truths)
        seen = [event["values"]["label"] for event in self._events_of(_SEEN)]
        paired = {
            event["key"]["label"]: event["values"]["pairs"] for event in self._events_of(_PAIRED)
        }
        return {
            "socks_passed": passed,
            "socks_seen": seen,
            "pairs_true": sum(passed.count(design) // 2 for design in set(passed)),
            "pairs_found": sum(paired.values()),
        }

    def _events_of(self, rule: str) -> list[Any]:
        """Data of a rule's events, oldest first."""
        events = self._hub.items("/events", type="lineside.event.v1", limit=1000)
        found = [event for event in events if event["subject"] == rule]
        return [event["data"] for event in sorted(found, key=lambda one: str(one["time"]))]

    def _heard(self) -> list[Any]:
        """Return the device's messages in the plant's own form, as the hub received them."""
        events = self._hub.items("/events", type="lineside.plant.message.v1", limit=1000)
        return [event for event in events if event["subject"] == _SAID]

    @property
    def _taught(self) -> Path:
        return self._folder / "taught"

    @property
    def _tls(self) -> Path:
        return self._folder / "page-tls"


_RACK_PICTURES = 32
_RACK_SEED = 7
_DATASET = "rack"
_ORDER_EVERY_S = 10.0


class Warehouse(Stage):
    """Taught by the line itself, ordered from while it runs, held against its twin."""

    def __init__(self, settings: Settings, *, folder: Path, programs: Programs) -> None:
        super().__init__(settings, folder=folder, programs=programs)
        self._orders: list[str] = []
        self._next_order_s = 0.0

    def teach(self) -> None:
        """Let the line show its pictures and label each by what the factory said of its stock."""
        say(f"teaching: {_RACK_PICTURES} pictures from the line, labelled by f/i/stock")
        since = self._clock.now()
        program = self._simulate(
            "teaching", f"--teach={_RACK_PICTURES}", f"--seed={_RACK_SEED}", "--fps=20"
        )
        self._programs.wait(program)
        self._until(lambda: self._stored(since) >= _RACK_PICTURES, "the taught frames", 20)
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
        name = self._use(run["package"], inspection=self._inspection)
        say(f"trained package {name} is in use")

    def line_options(self) -> tuple[str, ...]:
        return (
            "--lighting=neutral",
            "--restock-after-s=20",
            f"--speed={self._settings.speed:g}",
        )

    def watch(self) -> None:
        self._next_order_s = self._clock.monotonic() + 2
        super().watch()

    def step(self) -> None:
        """Place an order now and then."""
        if self._settings.seconds and self._clock.monotonic() >= self._next_order_s:
            self._order()
            self._next_order_s = self._clock.monotonic() + _ORDER_EVERY_S

    def report(self) -> dict[str, object]:
        lines = [json.loads(line) for line in self._truth_file.read_text().splitlines()]
        truths = read_truth(lines, camera=self._camera)
        predictions = self._predictions()
        counted = score(truths, predictions)
        answered = counted.total - counted.unsure
        return {
            **self._flow(truth.frame for truth in truths),
            "predictions": len(predictions),
            "decisions_correct": counted.correct,
            "decisions_unsure": counted.unsure,
            "decisions_total": counted.total,
            "right_of_answered": counted.correct / answered if answered else 0.0,
            "wrong": counted.wrong,
            "pictures_refused": counted.refused,
            "twin_matches_truth": bool(truths)
            and twin_matches(self._hub.get("/twin"), truths[-1].slots),
            "orders": [order["status"] for order in self._hub.get("/orders")["items"]],
        }

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
