"""Alerts are a fold: one open for each cause and object, whatever comes in which order."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import ConflictError, decode, encode
from lineside.streams import decode_event, encode_event
from lineside.streams.alerts import (
    RULES,
    Alert,
    AlertAction,
    AlertBook,
    AlertCause,
    AlertChange,
    AlertEntry,
    Observation,
    acknowledge_alert,
    alert_event,
    feed_alerts,
    survey,
)

BEGIN = datetime(2026, 1, 1, 12, tzinfo=UTC)
DARK, DRIFT = AlertCause.CAMERA_DARK, AlertCause.DRIFT


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def seen(
    seconds: float, *, holds: bool = True, cause: AlertCause = DARK, name: str = "rack"
) -> Observation:
    return Observation(cause=cause, object=name, at=at(seconds), holds=holds, reason="grey 2")


def fed(*steps: tuple[float, Observation]) -> tuple[AlertBook, list[AlertChange]]:
    book: AlertBook = {}
    changes: list[AlertChange] = []
    for seconds, observation in steps:
        book, news = feed_alerts(book, [observation], now=at(seconds))
        changes += news
    return book, changes


def actions(changes: list[AlertChange]) -> list[str]:
    return [str(one.action) for one in changes]


def test_an_alert_opens_with_its_words_and_closes_when_its_cause_is_gone() -> None:
    _, changes = fed(
        (0, seen(0)), (2, seen(0)), (4, seen(4, holds=False)), (13, seen(13, holds=False)),
        (14, seen(14, holds=False)), (20, seen(20, holds=False)),
    )  # fmt: skip
    assert actions(changes) == ["opened", "closed"]
    opened, closed = (one.alert for one in changes)
    assert (opened.since, opened.reason, opened.consequence) == (at(0), "grey 2", RULES[DARK][0])
    assert closed.id == opened.id
    assert closed.ended_at == at(4)


def test_a_lost_camera_opens_only_when_it_lasts() -> None:
    lost = seen(0, cause=AlertCause.CAMERA_LOST)
    gone = seen(4, cause=AlertCause.CAMERA_LOST, holds=False)
    assert actions(fed((0, lost), (4, gone), (6, lost), (8, lost))[1]) == []
    assert actions(fed((0, lost), (4, lost), (6, lost))[1]) == ["opened"]


def test_what_flaps_stays_one_alert_and_says_so_ever_less_often() -> None:
    book: AlertBook = {}
    changes: list[AlertChange] = []
    for second in range(0, 7200, 2):
        book, news = feed_alerts(book, [seen(second, holds=second % 40 < 20)], now=at(second))
        changes += news
    assert len({one.alert.id for one in changes}) == 1
    assert len(changes) < 8
    (entry,) = book.values()
    assert entry.alert is not None
    assert entry.alert.open


def test_what_comes_back_is_acknowledged_again() -> None:
    book, (opened,) = fed((0, seen(0)))
    done = acknowledge_alert(opened.alert, by="ada", note="cleaned", at=at(1))
    book = {done.key: AlertEntry(alert=done)}
    for second in (2, 12):
        book, _ = feed_alerts(book, [seen(second, holds=False)], now=at(second))
    _, (again,) = feed_alerts(book, [seen(20)], now=at(20))
    assert (again.action, again.alert.id) == (AlertAction.REOPENED, opened.alert.id)
    assert (again.alert.acknowledged_by, again.alert.acknowledged_at) == ("", None)
    assert acknowledge_alert(again.alert, by="bob", note="", at=at(21)).acknowledged_by == "bob"


def test_a_clock_that_is_set_back_delays_nothing_by_more_than_the_rule_says() -> None:
    lost = seen(0, cause=AlertCause.CAMERA_LOST)
    assert actions(fed((0, lost), (-3600, lost), (-3594, lost))[1]) == ["opened"]
    gone = seen(0, holds=False)
    changes = fed((0, seen(0)), (1, gone), (-3600, gone), (-3590, gone))[1]
    assert actions(changes) == ["opened", "closed"]


def test_an_object_may_have_a_consequence_of_its_own() -> None:
    _, (opened,) = fed((0, replace(seen(0), consequence="Only the wall is dark.")))
    assert opened.alert.consequence == "Only the wall is dark."


def test_the_same_cause_much_later_is_another_alert() -> None:
    _, changes = fed(
        (0, seen(0)), (10, seen(10, holds=False)), (20, seen(20, holds=False)), (400, seen(400))
    )
    assert actions(changes) == ["opened", "closed", "opened"]
    assert changes[0].alert.id != changes[2].alert.id


def test_drift_is_over_with_its_acknowledgement_and_old_news_opens_nothing() -> None:
    book, (opened,) = fed((5, seen(3, cause=DRIFT)))
    done = acknowledge_alert(opened.alert, by="ada", note="lens cleaned", at=at(60))
    assert not done.open
    book = {done.key: AlertEntry(alert=done)}
    book, none = feed_alerts(book, [seen(3, cause=DRIFT), seen(40, cause=DRIFT)], now=at(61))
    assert none == ()
    _, again = feed_alerts(book, [seen(70, cause=DRIFT)], now=at(71))
    assert actions(list(again)) == ["opened"]
    with pytest.raises(ConflictError, match="already acknowledged by ada"):
        acknowledge_alert(done, by="bob", note="", at=at(80))


def test_an_acknowledged_camera_alert_stays_open_until_its_cause_is_gone() -> None:
    _, (opened,) = fed((0, seen(0)))
    done = acknowledge_alert(opened.alert, by="ada", note="", at=at(5))
    assert done.open
    book: AlertBook = {done.key: AlertEntry(alert=done)}
    book, _ = feed_alerts(book, [seen(6, holds=False)], now=at(6))
    _, changes = feed_alerts(book, [seen(16, holds=False)], now=at(16))
    assert changes[0].action is AlertAction.CLOSED
    assert changes[0].alert.acknowledged_by == "ada"


def test_a_survey_ends_what_it_does_not_find_and_leaves_what_it_cannot_see() -> None:
    book, _ = fed((0, seen(0)), (0, seen(0, name="gate")), (0, seen(0, cause=DRIFT)))
    found = survey(book, [], causes=(DARK,), now=at(2), unknown=("gate",))
    assert [(one.object, one.cause, one.holds) for one in found] == [("rack", DARK, False)]


def test_an_alert_event_is_the_same_for_the_same_change_and_can_be_read_again() -> None:
    _, (opened,) = fed((0, seen(0)))
    event = alert_event(opened, source="/hall/hub")
    assert event == alert_event(opened, source="/hall/hub")
    assert decode_event(encode_event(event), where="event") == event
    assert event.subject == "camera dark"
    assert event.data["action"] == "opened"
    assert decode(Alert, encode(opened.alert), where="alert") == opened.alert


observed = st.builds(
    seen,
    st.integers(0, 600),
    holds=st.booleans(),
    cause=st.sampled_from((DARK, DRIFT, AlertCause.CAMERA_LOST)),
    name=st.sampled_from(("rack", "gate")),
)
steps = st.lists(st.tuples(st.integers(-60, 60), st.lists(observed, max_size=5)), max_size=30)


@given(steps)
def test_no_order_and_no_doubling_opens_two_alerts(
    told: list[tuple[int, list[Observation]]],
) -> None:
    once: AlertBook = {}
    twice: AlertBook = {}
    open_now: dict[object, str] = {}
    now = BEGIN
    for wait_s, observations in told:
        now += timedelta(seconds=wait_s)
        for one in observations:
            once, changes = feed_alerts(once, [one], now=now)
            twice, doubled = feed_alerts(twice, [one, one], now=now)
            assert doubled == changes
            for change in changes:
                key = change.alert.key
                if change.action is AlertAction.CLOSED:
                    assert open_now.pop(key) == change.alert.id
                else:
                    assert key not in open_now
                    open_now[key] = change.alert.id
    assert once == twice
