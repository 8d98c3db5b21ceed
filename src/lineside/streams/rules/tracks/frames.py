"""The scores of one frame, gathered from its records: label → share of 1.

Records of one frame follow one another and share the part of their id before ``#``. ``classify``
answers and the classes of a region shut each other out, so their probabilities are shares already.
Presence labels and boxes do not; of these, shares of "only this" and "none" are made by their odds.
The reference's own message, ``image`` and a percentage, is read too.
"""

from collections.abc import Mapping
from typing import Any

from lineside.core.plant_rules import Scalar, SightingStep
from lineside.streams.rules.contract import Record
from lineside.streams.rules.tracks.smoothing import BLANK, Observation

MOST_LABELS = 64
_LARGEST = 0.9999


def frame_id(record: Record) -> str:
    """Return the part of the id that the records of one frame share."""
    return record.id.partition("#")[0]


def label_and_score(record: Record) -> tuple[str, float] | None:
    """A record's label and its probability, 0-1; None where it names none."""
    fields = record.fields
    if "label" in fields or "image" not in fields:
        label, unit = fields.get("label"), 1.0
    else:
        label, unit = fields["image"], 100.0
    if "score" in fields and "probability" not in fields:
        score, unit = fields["score"], 1.0
    else:
        score = fields.get("probability", unit)
    if not isinstance(label, str) or not label or isinstance(score, bool | str):
        return None
    share = score / unit
    return (label, min(1.0, max(0.0, share))) if share == share else None  # noqa: PLR0124  NaN


def shuts_out(fields: Mapping[str, Scalar]) -> bool:
    """Return whether the labels of its frame are classes, of which only one can be right."""
    if fields.get("answer") in {"box", "none"}:
        return False
    named = fields.get("name", fields.get("label")) != fields.get("label")
    return fields.get("task", "classify") == "classify" or named


def shows_nothing(fields: Mapping[str, Scalar]) -> bool:
    """Return whether its frame could be judged and showed nothing: no box, say."""
    return fields.get("answer") == "none" and fields.get("state", "ok") == "ok"


class Gathered:
    """The records of one frame so far."""

    def __init__(self, record: Record) -> None:
        """``record``: the first."""
        self.at_us = record.at_us
        self.id, self.cause = frame_id(record), record.id
        self.frame = str(record.fields.get("frame", ""))
        self.classes = shuts_out(record.fields)
        self.empty = shows_nothing(record.fields)
        self.scores: dict[str, float] = {}
        self.take(record)

    def take(self, record: Record) -> None:
        """Add a record; of two boxes of one label the likelier counts."""
        found = label_and_score(record)
        if found is not None:
            label, score = found
            self.scores[label] = max(score, self.scores.get(label, 0.0))

    def says(self) -> bool:
        """Return whether the frame has an answer; an image that could not be judged has none."""
        return self.empty or bool(self.scores)

    def observation(self, step: SightingStep) -> Observation:
        """Its shares; labels that cannot be seen by this rule say nothing."""
        scores = pooled(self.scores, step=step)
        shares = as_classes(scores) if self.classes else as_presence(scores)
        return Observation(at_us=self.at_us, id=self.cause, frame=self.frame, scores=shares)

    def dump(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "at_us": self.at_us, "id": self.id, "cause": self.cause, "frame": self.frame,
            "classes": self.classes, "empty": self.empty, "scores": self.scores,
        }  # fmt: skip

    @classmethod
    def loaded(cls, memory: Mapping[str, Any]) -> "Gathered":
        """From a dump."""
        made = cls.__new__(cls)
        made.at_us, made.id = int(memory["at_us"]), str(memory["id"])
        made.cause = str(memory["cause"])
        made.frame = str(memory["frame"])
        made.classes, made.empty = bool(memory["classes"]), bool(memory["empty"])
        made.scores = {str(label): float(score) for label, score in memory["scores"].items()}
        return made


def pooled(scores: Mapping[str, float], *, step: SightingStep) -> dict[str, float]:
    """Blank labels become ``BLANK``; where the rule lists labels, others are left out."""
    pool: dict[str, float] = {}
    for label in sorted(scores):
        name = BLANK if label in step.blank else label
        if name == BLANK or not step.labels or label in step.labels:
            pool[name] = pool.get(name, 0.0) + scores[label]
    return pool


def as_classes(scores: Mapping[str, float]) -> dict[str, float]:
    """Shares of 1 as they are, made smaller where they come to more."""
    total = max(1.0, sum(scores.values()))
    return {label: score / total for label, score in scores.items()}


def as_presence(scores: Mapping[str, float]) -> dict[str, float]:
    """Each label alone in view, or none, given that two are not: by the odds."""
    odds = {
        label: min(score, _LARGEST) / (1.0 - min(score, _LARGEST))
        for label, score in scores.items()
    }
    total = sum(odds.values()) + (0.0 if BLANK in odds else 1.0)
    shares = {label: one / total for label, one in odds.items()}
    return {**shares, BLANK: shares.get(BLANK, 1.0 / total)}
