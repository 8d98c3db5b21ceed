"""Scores of the demos: what the hub stored against what the simulated line notes as true.

A judge holds one prediction against the line of the truth file about its frame. It yields marks:
``correct``, ``unsure`` or ``wrong`` once for each decision, and further marks of its solution.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lineside.core import frame_id, parse_rfc3339

EMPTY = "empty"
NORMAL, ANOMALOUS = "normal", "anomalous"
_SAID = {"present": ANOMALOUS, "absent": NORMAL}
_LEFT_S = 4.0
"""The rule ``sock-seen`` decides blocks of images of 1.5 s, each by the block after it."""

Row = Mapping[str, Any]
Mark = tuple[str, str]
Judge = Callable[[Row, Row], Iterable[Mark]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTruth:
    """One published frame, and the line of the truth file about it."""

    frame: str
    note: Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Marks of all answered frames; ``refused`` counts frames that were not judged, by state."""

    marks: Counter[str]
    wrong: tuple[str, ...]
    refused: Mapping[str, int]

    @property
    def total(self) -> int:
        """Return the number of decisions."""
        return self.marks["correct"] + self.marks["unsure"] + self.marks["wrong"]

    @property
    def right_of_answered(self) -> float:
        """Return the share of right decisions among the sure ones."""
        sure = self.marks["correct"] + self.marks["wrong"]
        return self.marks["correct"] / sure if sure else 0.0


def read_truth(lines: Iterable[Row], *, camera: str) -> list[FrameTruth]:
    """Return the truth file's frame lines; other lines are passed over."""
    return [
        FrameTruth(
            frame=frame_id(
                camera=camera, captured_at=parse_rfc3339(line["ts"]), digest=line["digest"]
            ),
            note=line,
        )
        for line in lines
        if "digest" in line
    ]


def score(truths: Iterable[FrameTruth], predictions: Iterable[Row], *, judge: Judge) -> Score:
    """Count the marks of the predictions whose frames the line published."""
    notes = {truth.frame: truth.note for truth in truths}
    marks: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    wrong: list[str] = []
    for prediction in predictions:
        frame = prediction["frame"]["id"]
        if frame not in notes:
            continue
        if prediction["state"] != "ok":
            refused[prediction["state"]] += 1
        for mark, text in judge(notes[frame], prediction):
            marks[mark] += 1
            if text:
                wrong.append(frame + text)
    return Score(marks=marks, wrong=tuple(wrong[:20]), refused=dict(refused))


def judge_slots(note: Row, prediction: Row) -> Iterator[Mark]:
    """Give one decision for each slot; a frame that was not judged is unsure in all of them."""
    answers = {
        answer["region"]: answer["label"]
        for answer in prediction["labels"]
        if answer["decision"] == "present"
    }
    for slot, content in note["slots"].items():
        yield _decision(answers.get(slot, ""), true=content, where=f" {slot}")


def judge_plate(note: Row, prediction: Row) -> Iterator[Mark]:
    """Give one decision; ``missed`` is a faulty plate, ``stopped`` a good one that was wrong."""
    mark = _decision(plate_label(prediction), true=note["label"])
    yield mark
    if mark[0] == "wrong":
        yield "missed" if note["label"] == ANOMALOUS else "stopped", ""


def plate_label(prediction: Row) -> str:
    """Normal or anomalous, whichever task said it; "" where it is unsure or was not judged."""
    if prediction["state"] != "ok":
        return ""
    if prediction["anomaly"] is not None:
        return _SAID.get(prediction["anomaly"]["decision"], "")
    if prediction["task"] == "segment":
        return _SAID.get(prediction["labels"][0]["decision"], "")
    sure = [one["label"] for one in prediction["labels"] if one["decision"] == "present"]
    return str(sure[0]) if len(sure) == 1 else ""


def judge_count(note: Row, prediction: Row) -> Iterator[Mark]:
    """Give one decision; an interval of more than one number is unsure.

    ``exact``: the likeliest number is the true one, sure or not. ``within``: the true number lies
    in the interval. ``records_wrong``: the inventory record is wrong; ``records_caught``: the
    interval rules it out; ``records_doubted``: it rules out a right one.
    """
    answer, count, recorded = prediction["count"], note["count"], note["recorded"]
    if prediction["state"] != "ok" or answer is None:
        yield "unsure", ""
        return
    sure = answer["decision"] == "present"
    yield _decision(str(answer["value"]) if sure else "", true=str(count))
    ruled_out = not _possible(recorded, answer)
    marks = {
        "exact": answer["value"] == count,
        "within": _possible(count, answer),
        "records_wrong": recorded != count,
        "records_caught": recorded != count and ruled_out,
        "records_doubted": recorded == count and ruled_out,
    }
    yield from ((mark, "") for mark, holds in marks.items() if holds)


def judge_sock(note: Row, prediction: Row) -> Iterator[Mark]:
    """Give one decision, or ``between`` where nobody could say what is right."""
    present = [one["label"] for one in prediction["labels"] if one["decision"] == "present"]
    if note["label"]:
        yield _decision(str(present[0]) if present else "", true=note["label"])
    else:
        yield "between", ""


def _decision(answer: str, *, true: str, where: str = "") -> Mark:
    if not answer:
        return "unsure", ""
    return ("correct", "") if answer == true else ("wrong", f"{where}: {true} said {answer}")


def _possible(count: int, answer: Row) -> bool:
    inside: bool = answer["low"] <= count <= answer["high"]
    return inside or bool(answer["more"] and count > answer["high"])


def twin_matches(twin: Row, truth: Mapping[str, str]) -> bool:
    """Return True where every slot of the twin shows what the rack holds."""
    return all(_shown(twin["slots"].get(slot, {})) == content for slot, content in truth.items())


def _shown(slot: Row) -> str:
    if slot.get("seen") == "absent":
        return EMPTY
    return str(slot.get("colour", "")) if slot.get("seen") == "present" else "?"


def socks_passed(truths: Iterable[FrameTruth]) -> list[str]:
    """Designs of the socks that came, and had left for a while when the line stopped, in order.

    A sock that was never seen well enough to be recognised is left out.
    """
    designs: dict[str, str] = {}
    last_s: dict[str, float] = {}
    at_s = 0.0
    for note in (truth.note for truth in truths):
        at_s = parse_rfc3339(note["ts"]).timestamp()
        last_s[note["sock"]] = at_s
        if note["label"] == note["design"] != "":
            designs[note["sock"]] = note["design"]
    return [design for sock, design in designs.items() if last_s[sock] <= at_s - _LEFT_S]
