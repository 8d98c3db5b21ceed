"""What the hub stored, held against what the simulated line wrote down as true."""

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
    """Whether every slot of the twin shows what the rack holds."""
    return all(_shown(twin["slots"].get(slot, {})) == content for slot, content in truth.items())


def _shown(slot: Mapping[str, Any]) -> str:
    if slot.get("seen") == "absent":
        return EMPTY
    return str(slot.get("colour", "")) if slot.get("seen") == "present" else "?"
