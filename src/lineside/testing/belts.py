"""Belts whose truth is known: things that pass, and what a classifier that flickers says of them.

Flicker is a process in time, not a coin thrown at each frame: an error begins, lasts ``burst_s`` on
average and ends, so thirty frames in a second see one error of a tenth of a second three times.
At the first and last ``edge_s`` of a thing any label may be said, the right one too.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from lineside.streams.rules.contract import Record

BLANK = "Blank"
LABELS = ("Confluent", "Databricks", "Github", "Google", "Mongo", "Streamsets", "Running Science")


@dataclass(frozen=True, slots=True, kw_only=True)
class Belt:
    """A plan; everything follows from it and its seed.

    Attributes:
        frames_hz: of the camera; each interval is off by up to ``jitter`` of itself.
        flicker: share of the time in which the answer is wrong, 0-1.
        dwell_s, gap_s: shortest and longest.
        touching: share of the things that follow another label's without a gap.
        doubles: share of the things that look like another label's, which half of their frames say.
    """

    seed: int
    things: int = 100
    frames_hz: float = 10.0
    flicker: float = 0.1
    dwell_s: tuple[float, float] = (2.0, 6.0)
    gap_s: tuple[float, float] = (2.0, 5.0)
    touching: float = 0.2
    doubles: float = 0.0
    burst_s: float = 0.1
    edge_s: float = 0.15
    jitter: float = 0.3
    labels: tuple[str, ...] = LABELS


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """One thing that was in view."""

    label: str
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BeltFrame:
    """Answer to one frame: every label's score, to 1 in sum."""

    at_s: float
    scores: dict[str, float]


def things_of(belt: Belt) -> list[Passed]:
    """Objects that pass, in order."""
    chance = Random(f"things {belt.seed}")  # noqa: S311  a simulation
    at, passed = chance.uniform(*belt.gap_s), list[Passed]()
    for _ in range(belt.things):
        label = chance.choice(belt.labels)
        end = at + chance.uniform(*belt.dwell_s)
        before = passed[-1] if passed else None
        if before is not None and before.end_s == at and before.label == label:
            label = belt.labels[(belt.labels.index(label) + 1) % len(belt.labels)]
        passed.append(Passed(label=label, begin_s=at, end_s=end))
        touches = chance.random() < belt.touching and len(belt.labels) > 1
        at = end if touches else end + chance.uniform(*belt.gap_s)
    return passed


def frames_of(belt: Belt) -> Iterator[BeltFrame]:
    """Return the classifier's answers, frame by frame, until all has passed."""
    chance = Random(f"frames {belt.seed}")  # noqa: S311  a simulation
    passed = things_of(belt)
    end = passed[-1].end_s + 2 * belt.gap_s[1]
    at, place, wrong = 0.0, 0, ""
    while at < end:
        while place < len(passed) and passed[place].end_s <= at:
            place += 1
        truth = _truth(passed, place, at=at)
        step = (1 + chance.uniform(-belt.jitter, belt.jitter)) / belt.frames_hz
        wrong = _error(wrong, truth, belt=belt, step_s=step, chance=chance)
        edge = truth != BLANK and _near_end(passed[place], at, edge_s=belt.edge_s)
        answer = chance.choice((*belt.labels, truth)) if edge else wrong or truth
        if answer == truth != BLANK and belt.doubles:
            answer = _double(belt, place, truth=truth, chance=chance)
        yield BeltFrame(
            at_s=at, scores=_scores(answer, right=answer == truth, belt=belt, chance=chance)
        )
        at += step


def _truth(passed: list[Passed], place: int, *, at: float) -> str:
    inside = place < len(passed) and passed[place].begin_s <= at
    return passed[place].label if inside else BLANK


def _near_end(thing: Passed, at: float, *, edge_s: float) -> bool:
    return at - thing.begin_s < edge_s or thing.end_s - at < edge_s


def _error(wrong: str, truth: str, *, belt: Belt, step_s: float, chance: Random) -> str:
    """The wrong answer of this moment; "" where it is right."""
    share, fade = belt.flicker, math.exp(-step_s / (belt.burst_s * (1 - belt.flicker)))
    stays = bool(wrong) and wrong != truth
    if chance.random() < share + ((1.0 if stays else 0.0) - share) * fade:
        others = [label for label in (*belt.labels, BLANK) if label != truth]
        return wrong if stays and chance.random() < fade else chance.choice(others)
    return ""


def _double(belt: Belt, place: int, *, truth: str, chance: Random) -> str:
    """The label, or the one it looks like."""
    own = Random(f"double {belt.seed} {place}")  # noqa: S311  a simulation
    like = own.choice([label for label in belt.labels if label != truth])
    doubled = own.random() < belt.doubles
    return like if doubled and chance.random() < 0.5 else truth


def _scores(answer: str, *, right: bool, belt: Belt, chance: Random) -> dict[str, float]:
    top = chance.uniform(0.5, 0.98) if right else chance.uniform(0.35, 0.9)
    others = [label for label in (*belt.labels, BLANK) if label != answer]
    parts = [chance.random() ** 3 + 1e-3 for _ in others]
    whole = max(sum(parts), max(parts) * (1 - top) / (0.95 * top))
    scores = {label: (1 - top) * part / whole for label, part in zip(others, parts, strict=True)}
    return {answer: top, **scores}


def records_of_belt(belt: Belt, *, camera: str = "c", start_us: int = 0) -> Iterator[Record]:
    """One record for each label of each frame, as ``answers = "each"`` gives them."""
    for number, observed in enumerate(frames_of(belt)):
        frame = f"{camera}_{number:06d}"
        for place, label in enumerate(sorted(observed.scores), start=1):
            yield _record(
                observed, label=label, frame=frame, id_=f"evt_{frame}#{place}", at=start_us
            )


def top_records_of_belt(belt: Belt, *, camera: str = "c", start_us: int = 0) -> Iterator[Record]:
    """One record for each frame, of its likeliest label."""
    for number, observed in enumerate(frames_of(belt)):
        frame = f"{camera}_{number:06d}"
        label = max(observed.scores, key=observed.scores.__getitem__)
        yield _record(observed, label=label, frame=frame, id_=f"evt_{frame}", at=start_us)


def _record(observed: BeltFrame, *, label: str, frame: str, id_: str, at: int) -> Record:
    at_us, camera = at + round(observed.at_s * 1e6), frame.rpartition("_")[0]
    return Record(
        id=id_, source=camera, at_us=at_us, arrived_us=at_us,
        fields={
            "camera": camera, "frame": f"frm_{frame}", "task": "classify", "state": "ok",
            "answer": "label", "label": label, "name": label, "probability": observed.scores[label],
        },
    )  # fmt: skip
