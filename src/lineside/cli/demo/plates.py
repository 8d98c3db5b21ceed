"""Answers the hub stored, held against what the simulated belt wrote down as true."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lineside.core import frame_id, parse_rfc3339

NORMAL, ANOMALOUS = "normal", "anomalous"
_SAID = {"present": ANOMALOUS, "absent": NORMAL}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateTruth:
    """One published frame, and what a person would say of its plate."""

    frame: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateScore:
    """Answered frames of one inspection.

    Attributes:
        correct, unsure, total: decisions; a picture that was not judged is unsure.
        missed: faulty plates said to be normal.
        stopped: good plates said to be anomalous.
    """

    correct: int
    unsure: int
    total: int
    missed: int
    stopped: int
    wrong: tuple[str, ...]
    refused: Mapping[str, int]


def read_plates(lines: Iterable[Mapping[str, Any]], *, camera: str) -> list[PlateTruth]:
    """The truth file's frame lines; other lines are passed over."""
    return [
        PlateTruth(
            frame=frame_id(
                camera=camera, captured_at=parse_rfc3339(line["ts"]), digest=line["digest"]
            ),
            label=line["label"],
        )
        for line in lines
        if "digest" in line
    ]


def score_plates(
    truths: Iterable[PlateTruth], predictions: Iterable[Mapping[str, Any]]
) -> PlateScore:
    """Count decisions of answered frames; all of one inspection and package."""
    known = {truth.frame: truth.label for truth in truths}
    counts: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    wrong: list[str] = []
    for prediction in predictions:
        frame = prediction["frame"]["id"]
        if frame not in known:
            continue
        said = said_of(prediction)
        kind = _kind(said, true=known[frame])
        counts[kind] += 1
        if prediction["state"] != "ok":
            refused[prediction["state"]] += 1
        if kind in {"missed", "stopped"}:
            wrong.append(f"{frame}: {known[frame]} said {said}")
    return PlateScore(
        correct=counts["correct"],
        unsure=counts["unsure"],
        total=counts.total(),
        missed=counts["missed"],
        stopped=counts["stopped"],
        wrong=tuple(wrong[:20]),
        refused=dict(refused),
    )


def said_of(prediction: Mapping[str, Any]) -> str:
    """Normal or anomalous, whichever task said it; "" where it is unsure or was not judged."""
    if prediction["state"] != "ok":
        return ""
    if prediction["anomaly"] is not None:
        return _SAID.get(prediction["anomaly"]["decision"], "")
    if prediction["task"] == "segment":
        return _SAID.get(prediction["labels"][0]["decision"], "")
    sure = [one["label"] for one in prediction["labels"] if one["decision"] == "present"]
    return str(sure[0]) if len(sure) == 1 else ""


def _kind(said: str, *, true: str) -> str:
    if not said:
        return "unsure"
    if said == true:
        return "correct"
    return "missed" if true == ANOMALOUS else "stopped"
