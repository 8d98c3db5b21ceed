"""Counts the hub stored, held against what the simulated store wrote down as true."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lineside.core import frame_id, parse_rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class BinTruth:
    """One published frame: what lay in the bin, and what the inventory says of it."""

    frame: str
    count: int
    recorded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CountScore:
    """Answered frames.

    Attributes:
        correct, unsure, total: decisions; an interval of more than one number is unsure, and so is
            a picture that was not judged.
        exact: the likeliest number is the true one, sure or not.
        within: the true number lies in the interval.
        records_wrong: frames whose inventory record is wrong; ``records_caught`` of them the
            interval rules out, ``records_doubted`` of the right ones it rules out too.
    """

    correct: int
    unsure: int
    total: int
    exact: int
    within: int
    records_wrong: int
    records_caught: int
    records_doubted: int
    wrong: tuple[str, ...]
    refused: Mapping[str, int]


def read_bins(lines: Iterable[Mapping[str, Any]], *, camera: str) -> list[BinTruth]:
    """The truth file's frame lines; other lines are passed over."""
    return [
        BinTruth(
            frame=frame_id(
                camera=camera, captured_at=parse_rfc3339(line["ts"]), digest=line["digest"]
            ),
            count=line["count"],
            recorded=line["recorded"],
        )
        for line in lines
        if "digest" in line
    ]


def score_counts(
    truths: Iterable[BinTruth], predictions: Iterable[Mapping[str, Any]]
) -> CountScore:
    """Count decisions of answered frames."""
    known = {truth.frame: truth for truth in truths}
    tally: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    wrong: list[str] = []
    for prediction in predictions:
        truth = known.get(prediction["frame"]["id"])
        if truth is None:
            continue
        said = prediction["count"]
        tally["total"] += 1
        if prediction["state"] != "ok" or said is None:
            refused[prediction["state"]] += 1
            tally["unsure"] += 1
            continue
        tally.update(_marks(truth, said))
        if said["decision"] == "present" and said["value"] != truth.count:
            wrong.append(f"{truth.frame}: {truth.count} said {said['value']}")
    return CountScore(
        correct=tally["correct"],
        unsure=tally["unsure"],
        total=tally["total"],
        exact=tally["exact"],
        within=tally["within"],
        records_wrong=tally["records_wrong"],
        records_caught=tally["records_caught"],
        records_doubted=tally["records_doubted"],
        wrong=tuple(wrong[:20]),
        refused=dict(refused),
    )


def _marks(truth: BinTruth, said: Mapping[str, Any]) -> list[str]:
    """What is to be counted of one judged frame."""
    sure = said["decision"] == "present"
    exact = said["value"] == truth.count
    marks = [] if sure else ["unsure"]
    marks += ["exact"] if exact else []
    marks += ["correct"] if sure and exact else []
    marks += ["within"] if _possible(truth.count, said) else []
    ruled_out = not _possible(truth.recorded, said)
    if truth.recorded != truth.count:
        marks += ["records_wrong", *(["records_caught"] if ruled_out else [])]
    elif ruled_out:
        marks += ["records_doubted"]
    return marks


def _possible(count: int, said: Mapping[str, Any]) -> bool:
    inside: bool = said["low"] <= count <= said["high"]
    return inside or bool(said["more"] and count > said["high"])
