"""The bin counter's acts: render, train on that, count live, hold against what is true."""

import json
from pathlib import Path

from lineside.cli.demo.counts import read_bins, score_counts
from lineside.cli.demo.stage import Stage
from lineside.cli.output import say

_TAUGHT_PICTURES, _TEACH_SEED = 600, 7
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
        say(f"teaching: {_TAUGHT_PICTURES} rendered pictures with what lies in each bin")
        self._render(self._taught, pictures=_TAUGHT_PICTURES, seed=_TEACH_SEED)

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
