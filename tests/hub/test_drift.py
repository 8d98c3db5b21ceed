"""The hub watches its predictions for drift and says so, once, across restarts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lineside.hub import Services
from lineside.hub.eventlog.followers import Follower
from lineside.hub.learning.drift import DriftWatch
from lineside.streams import PREDICTION_TYPE, Event, prediction_event
from lineside.testing import FakeClock
from lineside.vision import FrameRef, HealthFigures
from tests.hub.conftest import PACKAGE, answered, drain


def events(clock: FakeClock, *, count: int, grey: float, seed: int) -> list[Event]:
    from lineside.core import digest_of, frame_id

    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        clock.advance(0.5)
        digest, at = digest_of(f"{seed} {number}".encode()), clock.now()
        ref = FrameRef(
            id=frame_id(camera="rack", captured_at=at, digest=digest),
            camera="rack", captured_at=at, digest=digest,
        )  # fmt: skip
        health = HealthFigures(
            sharpness=100.0, mean_grey=grey + float(rng.normal(0, 3)), clipped_share=0.0
        )
        said = replace(answered(ref, ("red",), package=PACKAGE), health=health)
        found.append(prediction_event(said, site="hall", device="edge-1", sequence=0, first=0))
    return found


def follower(hub: Services) -> tuple[Follower, list[Event]]:
    told: list[Event] = []
    watch = DriftWatch(hub.records, ledger=hub.ledger, plant=hub.plant)
    watch.listen(told.append)
    made = Follower(
        "drift", records=hub.records, ledger=hub.ledger, handle=watch.take,
        type=PREDICTION_TYPE,
    )  # fmt: skip
    return made, told


def raised(hub: Services) -> list[dict[str, Any]]:
    views = hub.events.page(subject="drift", limit=100)
    return [view.event["data"] for view in views]


@pytest.fixture
def faded(hub: Services, clock: FakeClock) -> Services:
    """500 pictures as usual, then 300 darker ones."""
    hub.ledger.record(events(clock, count=500, grey=120.0, seed=1))
    hub.ledger.record(events(clock, count=300, grey=105.0, seed=2))
    return hub


def test_a_fading_light_becomes_an_event_with_its_reason(faded: Services) -> None:
    made, told = follower(faded)
    drain(made)
    (data,) = raised(faded)
    assert (data["inspection"], data["figure"], data["direction"]) == ("stock", "mean_grey", "down")
    assert data["frame"].startswith("frm_")
    assert data["package"] == PACKAGE
    assert "the mean grey of pictures fell from 1" in data["reason"]
    assert [event.subject for event in told] == ["drift"]


def test_metrics_show_how_near_a_figure_is_to_drift_and_how_often_it_was_told(
    hub: Services, clock: FakeClock
) -> None:
    watch = DriftWatch(hub.records, ledger=hub.ledger, plant=hub.plant)
    hub.stats.watch_each("inspection", "inspection", read=watch.figures)

    def shown(series: str) -> float:
        """Of the mean grey, after what was recorded."""
        drain(Follower(
            "drift", records=hub.records, ledger=hub.ledger, handle=watch.take,
            type=PREDICTION_TYPE,
        ))  # fmt: skip
        name = f'{series}{{figure="mean grey",inspection="stock"}} '
        (line,) = [one for one in hub.stats.exposition().decode().splitlines() if name in one]
        return float(line.removeprefix(name))

    hub.ledger.record(events(clock, count=500, grey=120.0, seed=1))
    assert 0 <= shown("lineside_inspection_drift") < 0.5
    assert shown("lineside_inspection_drifts_total") == 0
    hub.ledger.record(events(clock, count=40, grey=112.0, seed=2))
    assert 0.5 < shown("lineside_inspection_drift") < 1
    hub.ledger.record(events(clock, count=100, grey=105.0, seed=3))
    assert shown("lineside_inspection_drifts_total") == 1


def test_after_a_restart_the_test_goes_on_where_it_stood(hub: Services, clock: FakeClock) -> None:
    hub.ledger.record(events(clock, count=500, grey=120.0, seed=1))
    drain(follower(hub)[0])
    hub.ledger.record(events(clock, count=300, grey=105.0, seed=2))
    drain(follower(hub)[0])
    assert len(raised(hub)) == 1


def test_a_page_that_comes_again_raises_nothing_twice(faded: Services) -> None:
    made, _ = follower(faded)
    drain(made)
    faded.records.documents.put("cursor", "drift", body={"position": 0})
    drain(follower(faded)[0])
    assert len(raised(faded)) == 1


def test_the_twin_is_not_moved_by_drift(faded: Services) -> None:
    before = faded.ledger.state.slots
    drain(follower(faded)[0])
    assert faded.ledger.state.slots == before
