"""An answer and the truth of a picture, each in a few words."""

from collections import Counter
from collections.abc import Iterable

from lineside.training.measures import Case
from lineside.training.measures.counts import in_words
from lineside.training.measures.shared import is_defective
from lineside.vision import Decision, PictureState, Prediction

_ANOMALY = {
    Decision.PRESENT: "defective",
    Decision.ABSENT: "good",
    Decision.UNSURE: "unsure",
}
_NOTHING = "nothing"


def said_words(said: Prediction) -> str:
    """What a prediction says: refused and why, a count, boxes, good or defective, labels."""
    if said.state is not PictureState.OK:
        return f"{said.state}: {said.reason}" if said.reason else str(said.state)
    if said.count is not None:
        return in_words(said.count)
    if said.anomaly is not None:
        return _ANOMALY[said.anomaly.decision]
    if said.boxes or not (said.labels or said.mask):
        return _counted(
            box.label + (" (unsure)" if box.decision is Decision.UNSURE else "")
            for box in said.boxes
        )
    found = [each.name for each in said.labels if each.decision is Decision.PRESENT]
    doubtful = [f"{each.name}?" for each in said.labels if each.decision is Decision.UNSURE]
    return ", ".join([*found, *doubtful]) or _NOTHING


def truth_words(case: Case) -> str:
    """What people said of the picture."""
    sample = case.sample
    if case.prediction.task == "count" and sample.count is not None:
        return str(sample.count)
    if sample.marked is not None:
        return _counted(mark.label for mark in sample.marked)
    if case.prediction.task in ("segment", "anomaly"):
        return "defective" if is_defective(case) else "good"
    return ", ".join(sample.labels) or _NOTHING


def _counted(labels: Iterable[str]) -> str:
    """``2 bolt, 1 nut``."""
    return ", ".join(f"{n} {label}" for label, n in sorted(Counter(labels).items())) or _NOTHING
