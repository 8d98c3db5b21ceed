"""Stages of the four example solutions: what each prepares, starts and scores."""

import secrets
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from lineside.cli.demo.score import (
    ANOMALOUS,
    NORMAL,
    judge_count,
    judge_plate,
    judge_slots,
    judge_sock,
    score,
    socks_passed,
    twin_matches,
)
from lineside.cli.demo.stage import Program, Programs, RenderedTraining, Settings, Stage, free_port
from lineside.cli.output import say
from lineside.core import UnavailableError, rfc3339

MAKER, APPROVER = "R. Novak", "M. Keller"
_PIPELINES = "lineside.training.pipeline"
_MINUTES_S = 900.0
_UNLIKE, _SURFACE, _DEFECTS = "unlike", "surface", "defects"
_DEVICES = ("edge-1", "edge-2", "edge-3")
_LABELLED_PICTURES, _LABELLED_SEED = 100, 7
_EARLY_SEED = 5
_EARLY_SLOWER = 4.0  # the machine is to learn meanwhile
_CLASSES, _PIXELS = Path("img-classification"), Path("semantic-segmentation")
# Enough for plates as plain as these; the learner's own choice takes some minutes.
_OF_CLASSES: dict[str, object] = {"TargetImageSize": 128, "TrainingEpochs": 5}
_OF_PIXELS: dict[str, object] = {"TargetImageSize": 160, "TrainingEpochs": 8}
_CANARY_FIRST: dict[str, object] = {
    "devices": list(_DEVICES),
    "steps": [{"canary": 1}, {"percent": 100}],
    "limits": {"frames": 20},
}


class Surface(Stage):
    """Three devices; the inspection that is scored is the one that was rolled out to them.

    Good plates are what a line has on its first day; labels, approvals and rollouts come later.
    """

    rendered = RenderedTraining(
        pictures=40,
        seed=3,
        task="anomaly",
        teaching="good plates, not one with a fault",
        training="what good plates have in common",
        use=": it says which plates are unlike good ones",
        inspection=_UNLIKE,
        into="folder",
        options=("--faulty-share=0",),
        # Of the power test; the usual 20 take half of the training's time.
        settings=("power_pictures=6",),
    )
    judge = staticmethod(judge_plate)

    def __init__(self, settings: Settings, *, folder: Path, programs: Programs) -> None:
        super().__init__(settings, folder=folder, programs=programs)
        self._inspection = _SURFACE
        self._rollouts: list[Any] = []

    def go_live(self) -> None:
        """Three devices on what good plates taught; then labels, approval, canary, all three."""
        for name in _DEVICES:
            self._start_device(name)
        self._until(self._all_loaded, "three edge agents")
        pace = self._settings.fps / _EARLY_SLOWER
        early = self._simulate("early", f"--seed={_EARLY_SEED}", f"--fps={pace:g}")
        self._until(lambda: bool(self._predictions(limit=1)), "the first decision")
        say(f"live on good plates alone: {self._base}/lines/belt")
        self._train_the_first()
        self._programs.stop(early)
        self._start_line()
        for group in (_SURFACE, _DEFECTS):
            self._approve(group, 1, reason="looked at its report")
            self._roll_out(group, 1)

    def watch(self) -> None:
        """A bad version first, until the canary went back; then for the time asked for."""
        self._release_a_bad_one()
        super().watch()

    def answers(self) -> list[Any]:
        """Each package's answer to a frame once, whichever of the devices gave it first."""
        named = {
            (one["frame"]["id"], one["inspection"], one["package"]): one
            for one in reversed(self._predictions())
        }
        return list(named.values())

    def scored(self) -> list[Any]:
        return self._answers_of(f"{_SURFACE}/1")

    def figures(self) -> dict[str, object]:
        return {
            "faulty_missed": self._score.marks["missed"],
            "good_stopped": self._score.marks["stopped"],
            **{
                f"right_of_answered_{inspection}": score(
                    self._truths,
                    [one for one in self._answers if one["inspection"] == inspection],
                    judge=judge_plate,
                ).right_of_answered
                for inspection in (_UNLIKE, _DEFECTS)
            },
            "rollouts": self._rollouts,
            "bad_answers_heard": len(self._answers_of(f"{_SURFACE}/2")),
            "devices": self._running(),
        }

    # ---- releases

    def _train_the_first(self) -> None:
        say(f"labels: {_LABELLED_PICTURES} plates, with masks of what is wrong")
        labelled = self._folder / "labelled"
        self._render(
            labelled, pictures=_LABELLED_PICTURES, seed=_LABELLED_SEED,
            options=("--faulty-share=0.5",),
        )  # fmt: skip
        self._add_approver()
        say("training: two pipelines, good or not, and which pixels, each with its gate")
        pixels = self._start_pipeline(
            "semantic_segmentation", labelled / _PIXELS, group=_DEFECTS, parameters=_OF_PIXELS
        )
        self._programs.wait(self._start_classes("pipeline-surface", labelled / _CLASSES))
        self._programs.wait(pixels)

    def _release_a_bad_one(self) -> None:
        """Its pictures lay in the wrong folders: gate and golden pictures see nothing of that."""
        say("now a bad version: somebody mixed the two folders up")
        swapped = self._folder / "swapped"
        for name, other in ((NORMAL, ANOMALOUS), (ANOMALOUS, NORMAL)):
            labelled = self._folder / "labelled" / _CLASSES / name
            shutil.copytree(labelled, swapped / other, dirs_exist_ok=True)
        self._programs.wait(self._start_classes("pipeline-swapped", swapped))
        self._approve(_SURFACE, 2, reason="the gate passed it")
        self._roll_out(_SURFACE, 2)

    def _add_approver(self) -> None:
        """A second person, because nobody approves what is their own."""
        password = self._folder / "approver-password"
        password.write_text(secrets.token_urlsafe(12) + "\n")
        password.chmod(0o600)
        self._run(
            "approver",
            *("user", "add", APPROVER, "--role=approver", f"--password-file={password}"),
            self._config,
        )
        say(f"{APPROVER} may approve; the password is in {password}")

    def _start_classes(self, name: str, pictures: Path) -> Program:
        return self._start_pipeline(
            "image_classification", pictures, group=_SURFACE, parameters=_OF_CLASSES, name=name
        )

    def _start_pipeline(
        self, module: str, pictures: Path, *, group: str, parameters: dict[str, object],
        name: str = "",
    ) -> Program:  # fmt: skip
        """Start a pipeline run; it ends when its gate has passed and the version is registered."""
        given = {
            "base_job_prefix": group,
            "parameters": {
                "InputData": str(pictures), "ModelPackageGroupName": group, **parameters,
            },
        }  # fmt: skip
        return self._programs.start(
            name or f"pipeline-{group}",
            *("pipeline", "run", f"--module-name={_PIPELINES}.{module}"),
            *(f"--kwargs={given!r}", f"--folder={self._folder / 'pipelines'}", f"--by={MAKER}"),
            *("--description=lineside demo", self._config),
        )

    def _approve(self, group: str, number: int, *, reason: str) -> None:
        """As the second person; says where the same is done by hand."""
        page = f"{self._base}/models/groups/{group}/{number}"
        say(f"{group}/{number} waits for approval; by hand, as {APPROVER}: {page}")
        self._run(
            f"approve-{group}-{number}",
            *("model", "approve", f"{group}/{number}", f"--by={APPROVER}", f"--reason={reason}"),
            self._config,
        )
        say(f"{group}/{number} is approved by {APPROVER}")

    def _roll_out(self, group: str, number: int) -> None:
        """Begin a rollout, wait until it goes no further by itself, and note how it ended."""
        order = {"group": group, "version": number, "plan": _CANARY_FIRST, "reason": "demo"}
        started = self._hub.post("/rollouts", order)
        lines: list[str] = []

        def ended() -> Any:  # noqa: ANN401  JSON
            now = self._hub.get(f"/rollouts/{started['id']}")
            line = f"{group}/{number} {now['state']}: {now['why']}"
            if line not in lines:
                lines.append(line)
                say(line)
            return now if now["state"] in {"done", "aborted", "rolled back"} else None

        end = self._until(ended, f"the end of rollout {started['id']}", _MINUTES_S)
        turned = [one["why"] for one in end["history"] if one["state"] == "going back"]
        self._rollouts.append(
            {
                "version": f"{group}/{number}",
                "package": end["release"]["digest"],
                "state": end["state"],
                "why": turned[0] if turned else end["why"],
            }
        )

    # ---- figures

    def _answers_of(self, version: str) -> list[Any]:
        packages = {one["package"] for one in self._rollouts if one["version"] == version}
        return [one for one in self._answers if one["package"] in packages]

    def _running(self) -> dict[str, list[str]]:
        """Device → the packages that it says it runs."""
        return {
            device["id"]: sorted(one["digest"] for one in device["packages"])
            for device in self._hub.get("/devices")["items"]
        }

    def _all_loaded(self) -> bool:
        return len(self._running()) == len(_DEVICES) and all(self._running().values())


_OFFERED_PICTURES, _OFFERED_SEED = 80, 23
_FUNCTION = "serve-cv-object-counter"
_STORE = "amazon-bin-images-sub"


class Bins(Stage):
    """Trained from a rendered folder; counts bin after bin, and serves pictures of a store."""

    rendered = RenderedTraining(
        pictures=300,
        seed=7,
        task="count",
        teaching="rendered pictures with what lies in each bin",
        training="a distribution over numbers from counts alone",
        use="; count pictures at {hub}/count",
        # Half a minute; the learner's own choice takes some minutes and counts better.
        settings=("steps=160",),
    )
    judge = staticmethod(judge_count)

    def hub_settings(self) -> str:
        """The function that page and AWS' clients use, over a store of rendered pictures."""
        store = self._folder / _STORE
        self._render(store, pictures=_OFFERED_PICTURES, seed=_OFFERED_SEED)
        return (
            f'[[function]]\nname = "{_FUNCTION}"\nendpoint = "{self._inspection}"\n'
            f'store = "{store.as_uri()}"\nprefix = "bin-images/"\nrecords = "metadata/"\n'
        )

    def figures(self) -> dict[str, object]:
        judged = self._score.total - sum(self._score.refused.values())
        return {
            "counts_exact": self._score.marks["exact"] / judged if judged else 0.0,
            "interval_coverage": self._score.marks["within"] / judged if judged else 0.0,
            **{
                name: self._score.marks[name]
                for name in ("records_wrong", "records_caught", "records_doubted")
            },
        }


_WATCH_PORT = 4000
_MESSAGE_TOPIC = "sockfound"
_SEEN, _PAIRED = "sock-seen", "pair-found"
_KAFKA_MESSAGES, _KAFKA_EVENTS = "data_mqtt", "socks"


class Socks(Stage):
    """Trained from a rendered folder; the camera is watched over HTTPS, socks become events."""

    rendered = RenderedTraining(
        pictures=168,
        seed=7,
        task="classify",
        teaching="rendered pictures of six designs and the empty table",
        training="which sock, or none",
        use="; pairs stand at {hub}/events",
    )
    judge = staticmethod(judge_sock)

    def hub_settings(self) -> str:
        """Messages unchanged and events as they are to Kafka, where one is named."""
        if not self._settings.kafka:
            return ""
        return (
            f'[kafka]\nbrokers = "{self._settings.kafka}"\n'
            f'[[kafka.bridge]]\nmqtt = "{_MESSAGE_TOPIC}"\ntopic = "{_KAFKA_MESSAGES}"\n'
            f'[[kafka.send]]\ntopic = "{_KAFKA_EVENTS}"\n'
        )

    def prepare_site(self) -> None:
        """The site's authority, and of it a certificate for the camera's page."""
        self._run("site", "hub", "init", self._config)
        self._run(
            "page-certificate",
            *("hub", "certificate", self._config),
            *(f"--to={self._tls}", "--hosts=localhost,127.0.0.1"),
        )

    def device_settings(self) -> str:
        """The device's page by HTTPS, where the cameras of before had theirs."""
        self._watch_port = free_port(_WATCH_PORT)
        return (
            f'[page]\nlisten = "127.0.0.1:{self._watch_port}"\n'
            f'tls_cert = "{self._tls / "server.crt"}"\ntls_key = "{self._tls / "server.key"}"\n'
        )

    def go_live(self) -> None:
        super().go_live()
        camera = f"https://127.0.0.1:{self._watch_port}"
        say(f"camera: {camera}/cameras/{self._camera}/answers.mjpeg (page: {camera}/)")
        say(f"its certificate is of the site's authority: {self._tls / 'server.crt'}")

    def figures(self) -> dict[str, object]:
        """Socks and pairs as the rules counted them, and as they were."""
        passed = socks_passed(self._truths)
        pairs = {
            event["key"]["label"]: event["values"]["pairs"] for event in self._events_of(_PAIRED)
        }
        messages = self._hub.items("/events", type="lineside.plant.message.v1", limit=1000)
        return {
            "decisions_between": self._score.marks["between"],
            "messages_heard": sum(event["subject"] == _MESSAGE_TOPIC for event in messages),
            "socks_passed": passed,
            "socks_seen": [event["values"]["label"] for event in self._events_of(_SEEN)],
            "pairs_true": sum(passed.count(design) // 2 for design in set(passed)),
            "pairs_found": sum(pairs.values()),
        }

    def _events_of(self, rule: str) -> list[Any]:
        """Data of a rule's events, oldest first."""
        events = self._hub.items("/events", type="lineside.event.v1", limit=1000)
        found = [event for event in events if event["subject"] == rule]
        return [event["data"] for event in sorted(found, key=lambda one: str(one["time"]))]

    @property
    def _tls(self) -> Path:
        return self._folder / "page-tls"


_RACK_PICTURES, _RACK_SEED = 32, 7
_DATASET = "rack"
_ORDER_EVERY_S = 10.0


class Warehouse(Stage):
    """Taught by the line itself, ordered from while it runs, held against its twin."""

    judge = staticmethod(judge_slots)

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
        self._until(lambda: self._stored(since) >= _RACK_PICTURES, "the taught frames")
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
        return ("--lighting=neutral", "--restock-after-s=20", f"--speed={self._settings.speed:g}")

    def watch(self) -> None:
        self._next_order_s = self._clock.monotonic() + 2
        super().watch()

    def step(self) -> None:
        """Place an order now and then."""
        if self._settings.seconds and self._clock.monotonic() >= self._next_order_s:
            self._order()
            self._next_order_s = self._clock.monotonic() + _ORDER_EVERY_S

    def figures(self) -> dict[str, object]:
        return {
            "twin_matches_truth": bool(self._truths)
            and twin_matches(self._hub.get("/twin"), self._truths[-1].note["slots"]),
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
