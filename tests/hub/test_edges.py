"""What seldom happens: parts that fail in threads, databases that are away, odd requests."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lineside.core import (
    ConflictError,
    InvalidError,
    NotFoundError,
    Plant,
    UnavailableError,
    encode,
    rfc3339,
)
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, Services, running
from lineside.hub.api.documents import document_of
from lineside.hub.eventlog.dead_letters import FailurePolicy, store_batch
from lineside.hub.eventlog.followers import Follower
from lineside.hub.eventlog.topics import DeadLetterError, Reason, Router
from lineside.hub.learning.datasets import Teaching
from lineside.hub.readers import DeliveryNames, Reader, with_names
from lineside.links import Bus, BusSession, Message, open_session
from lineside.store import Logged
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S
from tests.hub.conftest import Line

Pictures = Callable[..., bytes]


# ---- readers


class Steps:
    """A store of messages that writes down what it commits; some it cannot read or keep."""

    def __init__(self) -> None:
        self.committed: list[bytes] = []
        self.all = threading.Event()
        self.away = 0
        self.gone = threading.Event()

    def prepare(self, messages: Sequence[Message]) -> list[bytes]:
        if any(message.payload == b"bad" for message in messages):
            raise ValueError("cannot be read")
        return [message.payload for message in messages]

    def commit(self, batch: list[bytes]) -> None:
        if b"worse" in batch:
            raise ValueError("cannot be kept")
        if self.away:
            self.away -= 1
            self.gone.set()
            raise UnavailableError("away")
        self.committed += batch
        if b"last" in batch:
            self.all.set()


@pytest.fixture
def read(hub: Services, factory: Bus, bus_url: str) -> Iterator[Callable[..., Reader]]:
    """Starts readers of one session, one after the other."""
    assert factory.connected()
    started: list[Reader] = []

    def start(steps: Steps, *, threads: int = 1, **more: Any) -> Reader:  # noqa: ANN401  as given
        session = open_session(bus_url, client_id="reader", patterns=("t",), clock=hub.clock)
        reader = Reader(
            "test", session=session, store=steps, failures=hub.failures, threads=threads, **more
        )
        reader.start()
        started.append(reader)
        return reader

    yield start
    for reader in started:
        reader.stop()


def test_batches_are_committed_in_order_and_what_fails_alone_becomes_a_dead_letter(
    hub: Services, factory: Bus, read: Callable[..., Reader], caplog: pytest.LogCaptureFixture
) -> None:
    steps = Steps()
    reader = read(steps, threads=3)
    words = [b"%d" % number for number in range(2000)]
    for word in (*words[:900], b"bad", b"worse", *words[900:], b"last"):
        factory.publish("t", word)
    assert steps.all.wait(LONG_S)
    reader.stop()
    assert steps.committed == [*words, b"last"]
    assert hub.dead_letters.counts() == {"could not be processed": 2}
    assert caplog.text.count("message not kept") == 2


def test_a_reader_that_ends_leaves_what_it_did_not_store_to_the_next_one(
    factory: Bus, read: Callable[..., Reader]
) -> None:
    """The store is away when the first one ends."""
    first, second = Steps(), Steps()
    first.away = 1_000_000
    reader = read(first)
    words = [b"%d" % number for number in range(100)]
    for word in words:
        factory.publish("t", word)
    assert first.gone.wait(LONG_S)
    reader.stop()
    assert first.committed == []
    read(second)
    factory.publish("t", b"last")
    assert second.all.wait(LONG_S)
    assert second.committed == [*words, b"last"]


def test_while_the_store_is_away_nothing_is_acknowledged_and_then_all_is_stored_once(
    factory: Bus, read: Callable[..., Reader]
) -> None:
    steps = Steps()
    steps.away = 3
    reader = read(steps, threads=2)
    words = [b"%d" % number for number in range(300)]
    for word in (*words, b"last"):
        factory.publish("t", word)
    assert steps.gone.wait(LONG_S)
    assert steps.all.wait(LONG_S)
    reader.stop()
    assert steps.committed == [*words, b"last"]


def test_messages_without_a_time_keep_their_name_when_they_come_again(
    hub: Services, factory: Bus, bus_url: str
) -> None:
    """Killed after the commit, before the broker heard: the next reader gets them once more."""
    names = DeliveryNames(hub.records.documents, session="reader", clock=hub.clock)
    identify = partial(
        with_names, names=names, is_timeless=lambda message: message.payload != b"dated"
    )

    def open_again() -> BusSession:
        return open_session(bus_url, client_id="reader", patterns=("t",), clock=hub.clock)

    first = open_again()
    for word in (b"same", b"dated", b"same"):
        factory.publish("t", word)
    named = identify(first.take(most=9, timeout_s=1))
    first.close()
    second = open_again()
    assert [replace(one, arrived_s=0.0) for one in named] == [
        replace(one, arrived_s=0.0) for one in identify(second.take(most=9, timeout_s=1))
    ]
    assert [bool(one.delivery) for one in named] == [True, False, True]
    assert len({one.delivery for one in named}) == 3
    second.close()


def test_a_batch_that_is_refused_is_kept_one_by_one() -> None:
    kept: list[int] = []
    refused: list[int] = []

    def keep(items: Sequence[int]) -> None:
        if 3 in items:
            raise InvalidError("no threes")
        kept.extend(items)

    store_batch([1, 2, 3, 4], keep, refuse=lambda item, _: refused.append(item))
    assert (kept, refused) == ([1, 2, 4], [3])


def test_patience_ends_when_the_hub_stops(hub: Services) -> None:
    failures = FailurePolicy(hub.dead_letters, stats=hub.stats)
    failures.stop()

    def fails() -> None:
        raise UnavailableError("away")

    with pytest.raises(UnavailableError):
        failures.retry(fails)


# ---- followers


def test_a_follower_that_fails_says_so_once_and_goes_on_when_it_can(
    hub: Services, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    failures: list[Exception] = [OSError("odd"), UnavailableError("away"), ConflictError("moved")]
    done = threading.Event()

    def handle(entries: Sequence[Logged]) -> None:
        if failures:
            raise failures.pop()
        assert entries
        done.set()

    line.see("blue")
    follower = Follower(
        "test",
        records=hub.records,
        ledger=hub.ledger,
        handle=handle,
    )
    follower.start()
    assert done.wait(LONG_S)
    follower.stop()
    assert caplog.text.count("follower waits name=test") == 1
    assert "follower goes on name=test" in caplog.text
    assert follower.behind == 0


# ---- a database of others that is away from the start


@pytest.mark.slow
def test_the_hub_runs_while_mongodb_is_away(
    config: HubConfig, caplog: pytest.LogCaptureFixture
) -> None:
    stored = replace(
        config, records=SecretUrl(""), blobs=SecretUrl(""), mongo=SecretUrl("mongodb://127.0.0.1:1")
    )
    from lineside.core import SystemClock

    with running(stored, clock=SystemClock()) as hub:
        body = {"topic": "i/ldr", "ts": rfc3339(SystemClock().now()), "ldr": 1}
        hub.services.plant_ingest.take_http(encode(body))
        assert hub.services.followers.one("mongo").view().lag >= 1
        pause = threading.Event()
        while "follower waits name=mongo" not in caplog.text:
            pause.wait(0.05)


# ---- data sets


def test_a_picture_of_a_data_set_is_found_in_draft_and_versions(
    hub: Services, line: Line, jpeg: Pictures
) -> None:
    picture = jpeg("blue")
    line.send(line.camera(picture))
    (row,) = hub.frames.page()
    hub.datasets.teach("rack", Teaching(frames=(row.id,), labels=("blue",)), by="anna")
    assert hub.datasets.picture("rack", row.digest).data == picture
    hub.datasets.freeze("rack", by="anna")
    hub.datasets._library.withdraw("rack", row.digest, by="anna")
    assert hub.datasets.picture("rack", row.digest).data == picture
    with pytest.raises(NotFoundError):
        hub.datasets.picture("rack", "sha256:" + "0" * 64)


def test_a_span_is_of_one_camera_and_either_end_alone_is_one_frame(
    hub: Services, line: Line, jpeg: Pictures
) -> None:
    line.send(line.camera(jpeg(seed=1)))
    line.send(Message(topic="lineside/hall/warehouse/gate/frame", payload=jpeg(seed=2)))
    rack, gate = (hub.frames.page(camera=camera)[0].id for camera in ("rack", "gate"))
    only = Teaching(from_frame=rack, labels=("red",), inspection="stock")
    assert hub.datasets.teach("rack", only, by="anna").draft_samples == 1
    with pytest.raises(InvalidError, match="one camera"):
        hub.datasets.teach("rack", Teaching(from_frame=rack, to_frame=gate), by="anna")
    with pytest.raises(InvalidError, match="no inspection looks through"):
        hub.datasets.teach("rack", Teaching(frames=(gate,)), by="anna")


# ---- the reference's documents


def test_a_message_whose_route_is_gone_or_has_no_collection_stands_in_none(
    hub: Services, line: Line, plant: Plant
) -> None:
    line.send(line.said("i/ldr", ldr=1))
    (view,) = hub.events.page()
    from lineside.streams import decode_event

    event = decode_event(encode(view.event), where="x")
    bare = replace(plant, route=tuple(replace(route, collection="") for route in plant.route))
    for changed in (replace(plant, route=()), bare):
        made = document_of(event, router=Router(changed), blobs=hub.blobs, picture="text")
        assert made is None


def test_a_picture_that_is_gone_leaves_an_empty_text(
    hub: Services, client: TestClient, line: Line, jpeg: Pictures
) -> None:
    line.send(line.camera(jpeg()))
    hub.blobs.delete(hub.frames.page()[0].digest)
    (document,) = client.get("/api/v1/twin/documents/factory_camera").json()["items"]
    assert document["data"].endswith(";base64,")


def test_a_collection_comes_in_pages(client: TestClient, line: Line) -> None:
    for number in range(5):
        line.send(line.said("i/ldr", ldr=number))
    seen, after = [], ""
    while True:
        page = client.get(
            "/api/v1/twin/documents/sensors", params={"limit": 2, "after": after}
        ).json()
        seen += [document["ldr"] for document in page["items"]]
        if not page["next"]:
            break
        after = page["next"]
    assert seen == [0, 1, 2, 3, 4]


# ---- requests


def test_ingest_takes_json_only(client: TestClient) -> None:
    answer = client.post("/mqttingest", content=b"x", headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 415


def test_a_browser_gets_a_page_for_a_failure_and_a_program_a_document(
    browser: TestClient,
) -> None:
    page = browser.get("/frames/frm_0", headers={"Accept": "text/html"})
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    nowhere = browser.get("/nowhere", headers={"Accept": "text/html"})
    assert nowhere.status_code == 404
    assert nowhere.headers["content-type"].startswith("text/html")
    document = browser.get("/frames/frm_0")
    assert document.headers["content-type"] == "application/problem+json"


def test_server_sent_events_of_the_twin_need_a_session_too(nobody: TestClient) -> None:
    assert nobody.get("/api/v1/twin/live").status_code == 401


def test_a_dead_letter_forgotten_meanwhile_is_left_out(hub: Services, line: Line) -> None:
    line.send(line.said("i/none"), line.said("i/nothing"))
    forgotten, left = hub.dead_letters.page()
    hub.records.documents.delete("dead-letter", forgotten.id)
    assert hub.dead_letters.page() == [left]


def test_a_refusal_says_its_reason_first() -> None:
    assert str(DeadLetterError(Reason.FUTURE, "7 s ahead")).startswith("from the future: 7 s")
    assert str(DeadLetterError(Reason.FUTURE, "")) == "from the future"


# ---- the bus


class BusyBus:
    """A bus on which publishing never ends in time."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  the rest is real
        return getattr(self._bus, name)

    def publish(self, *_: object, **__: object) -> None:
        raise UnavailableError("no answer in time")


@contextmanager
def busy(hub: Services) -> Iterator[None]:
    bus = hub.orders.bus
    assert bus is not None
    hub.join(BusyBus(bus), base_url="")
    yield
    hub.join(bus, base_url="")


def test_an_order_without_answer_of_the_broker_is_not_sent_again(
    hub: Services, line: Line, clock: FakeClock
) -> None:
    line.see("red")
    order = hub.orders.place("red", by="anna")
    with busy(hub):
        hub.tick()
    for _ in range(3):
        clock.advance(1)
        hub.tick()
    assert [step.name for step in hub.orders.one(order.id).steps] == ["placed", "sending"]


def test_using_a_package_works_while_the_bus_is_away(
    hub: Services, line: Line, archive: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    line.send(line.status())
    digest = hub.packages.add(archive, by="anna").digest
    with busy(hub):
        hub.packages.use(digest, inspection="stock", by="anna", reason="test")
    assert hub.packages.in_use("stock") == digest
    assert "desired packages not told" in caplog.text
