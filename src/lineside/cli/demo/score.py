"""Scores of the demos: what the hub stored against what the simulated line notes as true."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lineside.core import frame_id, parse_rfc3339

EMPTY = "empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """One published frame as the simulated line knows it: the content of every slot."""

    frame: str
    slots: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Right, unsure and all decisions, one for each slot of each answered frame."""

    correct: int
    unsure: int
    total: int
    wrong: tuple[str, ...]
    refused: Mapping[str, int]


def read_truth(lines: Iterable[Mapping[str, Any]], *, camera: str) -> list[Truth]:
    """The notebook's frame lines; other lines are passed over."""
    return [
        Truth(
            frame=frame_id(
                camera=camera, captured_at=parse_rfc3339(line["ts"]), digest=line["digest"]
            ),
            slots=line["slots"],
        )
        for line in lines
        if "digest" in line
    ]


def score(truths: Iterable[Truth], predictions: Iterable[Mapping[str, Any]]) -> Score:
    """Count slot decisions. A frame the model refused to judge counts as unsure in every slot."""
    known = {truth.frame: truth for truth in truths}
    counts: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    wrong: list[str] = []
    for prediction in predictions:
        truth = known.get(prediction["frame"]["id"])
        if truth is None:
            continue
        answers = slot_answers(prediction)
        if prediction["state"] != "ok":
            refused[prediction["state"]] += 1
        for slot, content in truth.slots.items():
            said = answers.get(slot, "")
            kind = "unsure" if not said else "correct" if said == content else "wrong"
            counts[kind] += 1
            if kind == "wrong":
                wrong.append(f"{truth.frame} {slot}: {content} said {said}")
    return Score(
        correct=counts["correct"],
        unsure=counts["unsure"],
        total=sum(counts.values()),
        wrong=tuple(wrong[:20]),
        refused=dict(refused),
    )


def slot_answers(prediction: Mapping[str, Any]) -> dict[str, str]:
    """Region → the class said to be present; regions without one are left out (unsure)."""
    return {
        answer["region"]: answer["label"]
        for answer in prediction["labels"]
        if answer["decision"] == "present"
    }


def twin_matches(twin: Mapping[str, Any], truth: Mapping[str, str]) -> bool:
    """Return True where every slot of the twin shows what the rack holds."""
    return all(_shown(twin["slots"].get(slot, {})) == content for slot, content in truth.items())


def _shown(slot: Mapping[str, Any]) -> str:
    if slot.get("seen") == "absent":
        return EMPTY
    return str(slot.get("colour", "")) if slot.get("seen") == "present" else "?"


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
    """Count the outcomes of one judged frame."""
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
