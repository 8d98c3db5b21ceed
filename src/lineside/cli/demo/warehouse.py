"""The warehouse's acts, each what a person would do on the pages, done through the hub's API."""

import json
from datetime import datetime
from pathlib import Path

from lineside.cli.demo.programs import Programs
from lineside.cli.demo.score import read_truth, score, twin_matches
from lineside.cli.demo.stage import Settings, Stage
from lineside.cli.output import say
from lineside.core import UnavailableError, rfc3339

_TAUGHT_PICTURES = 32
_TEACH_SEED = 7
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
        say(f"teaching: {_TAUGHT_PICTURES} pictures from the line, labelled by f/i/stock")
        since = self._clock.now()
        program = self._simulate(
            "teaching", f"--teach={_TAUGHT_PICTURES}", f"--seed={_TEACH_SEED}", "--fps=20"
        )
        self._programs.wait(program)
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
