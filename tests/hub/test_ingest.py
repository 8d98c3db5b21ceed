"""Messages of the plant: kept once, in one transaction, or put away with a reason."""

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lineside.core import Plant, RouteKind, digest_of, encode, rfc3339
from lineside.core.plant import Route
from lineside.hub import Services
from lineside.hub.eventlog.dead_letters import DeadLetters
from lineside.hub.eventlog.topics import DeadLetterError, Reason, Router
from lineside.links import Message
from lineside.store import open_blobs, open_records
from lineside.testing import FakeClock
from lineside.vision import encode_png

if TYPE_CHECKING:
    from tests.hub.conftest import Line

Pictures = Callable[..., bytes]


def only_letter(hub: Services) -> tuple[str, bytes]:
    (letter,) = hub.dead_letters.page()
    return letter.reason, hub.dead_letters.payload(letter.id)


def test_no_dead_letter_is_left_out_of_the_pages_when_one_is_dated_before_another() -> None:
    """Two readers refuse at the same time, or the clock is set back."""
    with open_records("memory://", clock=FakeClock()) as records:
        clock = FakeClock()
        dead = DeadLetters(records, open_blobs("memory://", clock=clock), clock=clock)
        refusal = DeadLetterError(Reason.BAD_TIME, "not a time")
        letters = set()
        for seconds in (0, -5, 3, -4):
            clock.advance(seconds)
            letters.add(dead.keep(refusal, b"{}", topic="i/ldr").id)
        found: list[str] = []
        while page := dead.page(before=found[-1] if found else "", limit=1):
            found += [letter.id for letter in page]
        assert found == sorted(letters, reverse=True)


def test_a_frame_is_kept_with_its_bytes_thumbnail_and_event(
    hub: Services, line: "Line", jpeg: Pictures
) -> None:
    picture = jpeg("blue")
    line.send(line.camera(picture, sequence=7, part="p-1"))
    (row,) = hub.frames.page(camera="rack")
    assert row.digest == digest_of(picture)
    assert hub.frames.picture(row.id).data == picture
    assert hub.frames.thumbnail(row.id).media_type == "image/jpeg"
    assert (row.width_px, row.height_px, row.sequence, row.part) == (160, 120, 7, "p-1")
    (event,) = hub.events.page(kind="lineside.plant.frame.v1")
    assert event.event["data"]["frame"] == row.id
    assert "data" not in event.event["data"]


def test_a_message_delivered_twice_is_kept_once(
    hub: Services, line: "Line", jpeg: Pictures
) -> None:
    """Reference defect 10: the factory delivers at least once."""
    messages = [line.camera(jpeg()), line.said("f/i/order", state="ORDERED", type="RED")]
    line.send(*messages, *messages)
    hub.plant_ingest.take([*messages, *messages])
    assert len(hub.frames.page()) == 1
    assert len(hub.events.page()) == 2
    stats = hub.stats.plain()
    assert (stats["frames_published"], stats["frames_stored"]) == (4, 1)
    assert stats["frames_duplicate"] == 3


def test_two_pictures_in_one_burst_are_two_frames_each_with_its_own_answer(
    hub: Services, line: "Line", jpeg: Pictures
) -> None:
    """Reference defect 3: the picture that came is judged, not the newest one."""
    first, second = jpeg("blue", seed=1), jpeg("red", seed=2)
    now = hub.clock.now()
    later = now + timedelta(milliseconds=40)
    hub.plant_ingest.take([line.camera(first, at=now), line.camera(second, at=later)])
    line.send(
        line.status(),
        line.prediction("blue", at=now, picture=first),
        line.prediction("red", at=later, picture=second),
    )
    rows = hub.frames.page(camera="rack")
    assert len(rows) == 2
    for event in hub.events.page(kind="lineside.prediction.v1"):
        named = event.event["data"]["frame"]
        assert named["digest"] == next(row.digest for row in rows if row.id == named["id"])


def test_an_older_answer_arriving_late_changes_nothing(
    hub: Services, line: "Line", jpeg: Pictures
) -> None:
    """Reference defect 5."""
    line.send(line.status(), line.prediction("blue", picture=jpeg(seed=1)))
    state = hub.ledger.state
    line.send(line.prediction("red", at=line.ago(10), picture=jpeg(seed=2)))
    assert hub.ledger.state.colours == state.colours
    assert hub.ledger.state.slots["A1"].seen == "present"


def test_a_dead_letter_keeps_reason_time_topic_and_raw_bytes(
    hub: Services, clock: FakeClock, line: "Line"
) -> None:
    """Reference defect 7."""
    line.send(Message(topic="f/i/order", payload=b'{"ts": broken'))
    (letter,) = hub.dead_letters.page()
    assert letter.reason == Reason.NOT_JSON
    assert letter.topic == "f/i/order"
    assert letter.at == clock.now()
    assert letter.detail
    assert hub.dead_letters.payload(letter.id) == b'{"ts": broken'
    assert hub.stats.plain()["refused"] == {"not JSON": 1}
    assert hub.stats.plain()["frames_dropped"] == {}


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:200],
        lambda data: data[:40] + b"\0" * 200 + data[40:240],
        lambda _: b"GIF",
    ],
)
def test_a_picture_that_cannot_be_read_becomes_a_dead_letter(
    hub: Services, line: "Line", jpeg: Pictures, damage: Callable[[bytes], bytes]
) -> None:
    line.send(line.camera(damage(jpeg())))
    assert only_letter(hub)[0] == "picture cannot be read"
    assert hub.frames.page() == []


def test_bad_messages_of_a_batch_do_not_stop_the_good_ones(
    hub: Services, line: "Line", jpeg: Pictures
) -> None:
    good = line.camera(jpeg())
    hub.plant_ingest.take([Message(topic="i/cam", payload=b"no"), good, line.said("i/none")])
    assert len(hub.frames.page()) == 1
    assert len(hub.dead_letters.page()) == 2


def test_late_frames_are_kept_and_counted_and_future_ones_refused(
    hub: Services, line: "Line", jpeg: Pictures, clock: FakeClock
) -> None:
    """Reference defect 1: the freshness rule compares times, 60 s inclusive, skew 5 s."""
    line.send(line.camera(jpeg(seed=1), at=line.ago(60.0)))
    assert hub.stats.plain()["skew"] == {"late": 0, "future": 0}
    line.send(line.camera(jpeg(seed=2), at=line.ago(60.1)))
    line.send(line.camera(jpeg(seed=3), at=clock.now() + timedelta(seconds=5)))
    line.send(line.camera(jpeg(seed=4), at=clock.now() + timedelta(seconds=5.1)))
    assert hub.stats.plain()["skew"] == {"late": 1, "future": 1}
    assert len(hub.frames.page()) == 3
    assert only_letter(hub)[0] == "from the future"


def test_bare_bytes_take_their_arrival_as_time_and_say_so(
    hub: Services, line: "Line", jpeg: Pictures, clock: FakeClock
) -> None:
    topic = "lineside/hall/warehouse/gate/frame"
    message = Message(topic=topic, payload=jpeg())
    line.send(message)
    clock.advance(0.2)
    line.send(message)
    (row,) = hub.frames.page(camera="gate")
    (event,) = hub.events.page()
    assert event.event["data"]["ts_is"] == "arrival"
    assert event.event["data"]["frame"] == row.id


def test_a_png_is_kept_as_it_came_and_shown_as_jpeg(hub: Services, line: "Line") -> None:
    import numpy as np

    png = encode_png(np.zeros((30, 40, 3), np.uint8) + 90)
    line.send(Message(topic="lineside/hall/warehouse/gate/frame", payload=png))
    (row,) = hub.frames.page(camera="gate")
    assert hub.frames.picture(row.id).media_type == "image/png"
    shown = hub.cameras.shown("gate")
    assert shown is not None
    assert shown.jpeg.startswith(b"\xff\xd8\xff")


def test_over_http_a_stored_message_names_its_event(hub: Services, clock: FakeClock) -> None:
    body = {"topic": "f/i/order", "ts": rfc3339(clock.now()), "state": "ORDERED", "type": "RED"}
    taken = hub.plant_ingest.take_http(encode(body))
    (event,) = hub.events.page()
    assert taken.logged[0].entry.id == event.id  # type: ignore[union-attr]  # it was taken
    assert event.event["data"]["topic"] == "f/i/order"


def test_bus_and_http_give_the_same_event(hub: Services, line: "Line", clock: FakeClock) -> None:
    line.send(line.said("f/i/order", state="ORDERED", type="RED"))
    body = {"topic": "f/i/order", "ts": rfc3339(clock.now()), "state": "ORDERED", "type": "RED"}
    hub.plant_ingest.take_http(encode(body))
    assert len(hub.events.page()) == 1


def test_a_name_the_log_refuses_becomes_a_dead_letter(hub: Services, line: "Line") -> None:
    good = line.said("f/i/order", state="ORDERED", type="RED")
    bad = line.said("f/i/state/" + "x" * 3000, station="x", code=1)
    hub.plant_ingest.take([bad, good])
    assert len(hub.events.page()) == 1
    assert only_letter(hub)[0] == "fields not as documented"


def test_dead_letters_are_bounded_and_the_oldest_go(hub: Services, line: "Line") -> None:
    for number in range(1005):
        line.send(Message(topic="i/none", payload=b"%d" % number))
        line.wait(0.002)
    page = hub.dead_letters.page(limit=1000)
    assert len(page) == 1000
    assert hub.dead_letters.payload(page[0].id) == b"1004"
    assert hub.dead_letters.payload(page[-1].id) == b"5"
    assert len(list(hub.blobs.digests())) == 1000


SOCK = b'{"image": "Google", "probability": 97.314453125}'


@pytest.fixture
def sorting(plant: Plant) -> Plant:
    """A plant that hears answers of a device before ours, which name no time."""
    route = Route(topic="sockfound", kind=RouteKind.MESSAGE, time="arrival")
    return replace(plant, route=(*plant.route, route))


def heard(hub: Services, plant: Plant, *payloads: bytes) -> None:
    ingest = copy(hub.plant_ingest)
    ingest._router = Router(plant)
    ingest.take([Message(topic="sockfound", payload=payload) for payload in payloads])


def test_a_message_without_a_time_is_dated_when_it_comes_where_its_route_says_so(
    hub: Services, sorting: Plant, clock: FakeClock
) -> None:
    heard(hub, sorting, SOCK, SOCK)
    clock.advance(1)
    heard(hub, sorting, SOCK)
    events = [one.event for one in hub.events.page(kind="lineside.plant.message.v1")]
    assert len(events) == 3  # the same words again are another answer
    for event in events:
        assert (event["data"]["image"], event["data"]["probability"]) == ("Google", 97.314453125)
        assert event["data"]["ts_is"] == "arrival"
    assert len({event["time"] for event in events}) == 2


def test_a_message_with_its_own_time_keeps_it_and_is_one_however_often_it_comes(
    hub: Services, sorting: Plant, clock: FakeClock
) -> None:
    at = rfc3339(clock.now() - timedelta(seconds=2))
    own = encode({"image": "Google", "probability": 97.3, "ts": at})
    heard(hub, sorting, own, own)
    (only,) = hub.events.page(kind="lineside.plant.message.v1")
    assert only.event["time"] == at
    assert "ts_is" not in only.event["data"]


def test_a_greeting_among_the_answers_is_counted_and_the_answers_are_kept(
    hub: Services, sorting: Plant
) -> None:
    heard(hub, sorting, b"Hello from deeplens", SOCK)
    assert only_letter(hub) == (Reason.NOT_JSON, b"Hello from deeplens")
    assert len(hub.events.page(kind="lineside.plant.message.v1")) == 1
