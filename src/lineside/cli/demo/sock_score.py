"""Answers the hub stored, held against what the simulated sorting table wrote down as true."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lineside.core import frame_id, parse_rfc3339

_LEFT_S = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SockTruth:
    """One published frame: what a person would say, and which sock it was.

    Attributes:
        label: a design, ``Blank``, or "" where too little of a sock is seen to say.
        sock, design: of what is under the camera, seen or not; "" for an empty table.
        at_s: capture time, in seconds since the epoch.
    """

    frame: str
    label: str
    sock: str
    design: str
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SockScore:
    """Answered frames.

    Attributes:
        correct, unsure, total: decisions; a picture that was not judged is unsure.
        between: further answered frames of which nobody could say what is right.
    """

    correct: int
    unsure: int
    total: int
    between: int
    wrong: tuple[str, ...]
    refused: Mapping[str, int]


def read_socks(lines: Iterable[Mapping[str, Any]], *, camera: str) -> list[SockTruth]:
    """The truth file's frame lines; other lines are passed over."""
    return [
        SockTruth(
            frame=frame_id(
                camera=camera, captured_at=parse_rfc3339(line["ts"]), digest=line["digest"]
            ),
            label=line["label"],
            sock=line["sock"],
            design=line["design"],
            at_s=parse_rfc3339(line["ts"]).timestamp(),
        )
        for line in lines
        if "digest" in line
    ]


def score_socks(truths: Iterable[SockTruth], predictions: Iterable[Mapping[str, Any]]) -> SockScore:
    """Count decisions of answered frames."""
    known = {truth.frame: truth.label for truth in truths}
    tally: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    wrong: list[str] = []
    for prediction in predictions:
        label = known.get(prediction["frame"]["id"])
        if label is None:
            continue
        if prediction["state"] != "ok":
            refused[prediction["state"]] += 1
        said = _said(prediction)
        kind = "unsure" if not said else "correct" if said == label else "wrong"
        tally[kind if label else "between"] += 1
        if label and kind == "wrong":
            wrong.append(f"{prediction['frame']['id']}: {label} said {said}")
    return SockScore(
        correct=tally["correct"],
        unsure=tally["unsure"],
        total=tally["correct"] + tally["unsure"] + tally["wrong"],
        between=tally["between"],
        wrong=tuple(wrong[:20]),
        refused=dict(refused),
    )


def socks_passed(truths: Iterable[SockTruth]) -> list[str]:
    """Designs of the socks that came, and had left for a while when the line stopped, in order.

    A sock that was never seen well enough to be told is none.
    """
    there = list(truths)
    if not there:
        return []
    ends_s = there[-1].at_s - _LEFT_S
    seen = {truth.sock: truth.design for truth in there if truth.label == truth.design != ""}
    last_s = {truth.sock: truth.at_s for truth in there}
    return [design for sock, design in seen.items() if last_s[sock] <= ends_s]


def _said(prediction: Mapping[str, Any]) -> str:
    """The class said to be present; "" where the answer is unsure."""
    present = [one["label"] for one in prediction["labels"] if one["decision"] == "present"]
    return str(present[0]) if present else ""
