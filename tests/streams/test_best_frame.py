"""Which frame of a thing is shown."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Rule
from lineside.core.plant_rules import RuleInput, Scalar, TrackStep
from lineside.streams.rules.contract import Output, Record
from lineside.streams.rules.steps import make_step
from lineside.streams.rules.tracks.smoothing import MOST_EQUAL, BestFrame, Look

SECOND = 1_000_000
SCORES = st.lists(st.sampled_from([0.2, 0.9, 0.9000000001, 1.0]), min_size=1, max_size=40)
RULE = Rule(
    id="socks", read=RuleInput(predictions="sock"), key=("camera",),
    sighting=TrackStep(blank=("Blank",)),
)  # fmt: skip


def look(at_us: int) -> Look:
    return Look(at_us=at_us, id=f"evt_{at_us}", frame=f"frm_{at_us}")


def fed(scores: Sequence[float], *, since: int = 0) -> BestFrame:
    best = BestFrame()
    for at_us, score in enumerate(scores, start=since):
        best.see(look(at_us), score=score)
    return best


@given(scores=SCORES)
def test_the_surest_and_of_equals_the_one_nearest_the_middle(scores: list[float]) -> None:
    last = len(scores) - 1
    surest = [n for n, one in enumerate(scores) if round(one, 6) == round(max(scores), 6)]
    nearest = min(surest, key=lambda n: (abs(2 * n - last), n))
    assert fed(scores).chosen(first_us=0, last_us=last) == look(nearest)


@given(scores=SCORES, cut=st.integers(0, 40))
def test_parts_are_as_good_as_the_whole(scores: list[float], cut: int) -> None:
    first, later = fed(scores[:cut]), fed(scores[cut:], since=cut)
    first.absorb(BestFrame.loaded(json.loads(json.dumps(asdict(later)))))
    assert first == fed(scores)


@pytest.mark.parametrize("frames", [MOST_EQUAL, 65, 1000, 30_000])
def test_a_long_stay_takes_little_and_its_middle_is_near(frames: int) -> None:
    best = fed([1.0] * frames)
    assert len(best.looks) <= MOST_EQUAL
    assert best.equals == frames
    chosen = best.chosen(first_us=0, last_us=frames - 1)
    assert abs(chosen.at_us - frames / 2) <= 1 + frames / MOST_EQUAL


def test_a_lower_score_is_not_kept_and_a_higher_one_alone() -> None:
    assert fed([0.5, 0.4, 0.5]).looks == [look(0), look(2)]
    assert fed([0.5, 0.5, 0.6]).looks == [look(2)]


def test_a_sighting_of_equally_sure_frames_shows_its_middle() -> None:
    step, found = make_step(RULE), list[Output]()
    for n in range(100):
        label = "Google" if 20 <= n < 61 else "Blank"
        at_us = n * SECOND // 10
        fields: dict[str, Scalar] = {
            "camera": "c", "frame": f"frm_{n}", "label": label, "probability": 1.0
        }  # fmt: skip
        record = Record(id=f"evt_{n:03d}", source="c", at_us=at_us, arrived_us=at_us, fields=fields)
        found += step.feed(record, key=("c",))
        again = make_step(RULE)
        again.load(json.loads(json.dumps(step.dump())))
        step = again
    (one,) = [*found, *step.advance(1000 * SECOND)]
    assert (one.values["frame"], one.values["best_after_s"]) == ("frm_40", 2.0)
    assert "evt_040" in one.causes
