"""The metal plates' acts: good ones first, then labels, a canary, and one that goes back."""

import json
import shutil
from pathlib import Path
from typing import Any

from lineside.cli.demo.plates import ANOMALOUS, NORMAL, PlateTruth, read_plates, score_plates
from lineside.cli.demo.programs import Programs
from lineside.cli.demo.releasing import Recipe, Releasing
from lineside.cli.demo.stage import Settings, Stage
from lineside.cli.output import say

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
