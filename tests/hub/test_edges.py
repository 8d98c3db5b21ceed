"""What seldom happens: parts that fail in threads, databases that are away, odd requests."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lineside.core import InvalidError, NotFoundError, Plant, UnavailableError, encode, rfc3339
from lineside.hub import HubConfig, Services, running
from lineside.hub.datasets import Teaching
from lineside.hub.follow import Follower, Selection
from lineside.hub.keeping import Keeping, keep_batch
from lineside.hub.readers import Reader
from lineside.hub.reference import document_of
from lineside.hub.topics import DeadLetterError, Reason, Router
from lineside.links import BoundedMailbox, Bus, Message
from lineside.store import Logged
from lineside.testing import FakeClock
from tests.hub.conftest import Line

Pictures = Callable[..., bytes]


# ---- readers


class Steps:
    """A reader's two halves, written down; some batches fail."""

    def __init__(self) -> None:
        self.committed: list[bytes] = []
        self.all = threading.Event()

    def prepare(self, messages: Sequence[Message]) -> list[bytes]:
        if any(message.payload == b"bad" for message in messages):
            raise ValueError("cannot be read")
        return [message.payload for message in messages]

    def commit(self, batch: list[bytes]) -> None:
        if b"worse" in batch:
            raise ValueError("cannot be kept")
        self.committed += batch
        if b"last" in batch:
            self.all.set()


def test_batches_are_committed_in_the_order_they_came_and_failures_stop_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    steps, mailbox = Steps(), BoundedMailbox(size=10_000)
    reader = Reader("test", mailbox=mailbox, prepare=steps.prepare, commit=steps.commit, threads=3)
    reader.start()
    words = [b"%d" % number for number in range(2000)]
    for word in (*words[:900], b"bad", b"worse", *words[900:], b"last"):
        mailbox.put(Message(topic="t", payload=word))
    assert steps.all.wait(timeout=20)
    reader.stop()
    numbers = [int(word) for word in steps.committed if word.isdigit()]
    assert numbers == sorted(numbers)
    assert len(numbers) >= 2000 - 2 * 64
    assert reader.figures().waiting == 0
    assert caplog.text.count("batch not") in (1, 2)


def test_what_waits_in_the_mailbox_is_taken_before_a_reader_ends() -> None:
    steps, mailbox = Steps(), BoundedMailbox(size=1000)
    for number in range(500):
        mailbox.put(Message(topic="t", payload=b"%d" % number))
    reader = Reader("test", mailbox=mailbox, prepare=steps.prepare, commit=steps.commit)
    reader.start()
    reader.stop()
    assert len(steps.committed) == 500


def test_a_batch_that_is_refused_is_kept_one_by_one() -> None:
    kept: list[int] = []
    refused: list[int] = []

    def keep(items: Sequence[int]) -> None:
        if 3 in items:
            raise InvalidError("no threes")
        kept.extend(items)

    keep_batch([1, 2, 3, 4], keep, refuse=lambda item, _: refused.append(item))
    assert (kept, refused) == ([1, 2, 4], [3])


def test_patience_ends_when_the_hub_stops(hub: Services) -> None:
    keeping = Keeping(hub.dead_letters, stats=hub.stats)
    keeping.stop()

    def fails() -> None:
        raise UnavailableError("away")

    with pytest.raises(UnavailableError):
        keeping.patiently(fails)


# ---- followers


def test_a_follower_that_fails_says_so_once_and_goes_on_when_it_can(
    hub: Services, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    failures: list[Exception] = [ValueError("odd"), UnavailableError("away"), ValueError("odd")]
    done = threading.Event()

    def handle(entries: Sequence[Logged]) -> None:
        if failures:
            raise failures.pop()
        assert entries
        done.set()

    line.see("blue")
    follower = Follower(
        "test", records=hub.records, ledger=hub.ledger, handle=handle, selection=Selection()
    )
    follower.start()
    while not done.wait(0.05):
        with hub.ledger.grown:
            hub.ledger.grown.notify_all()
    follower.stop()
    assert caplog.text.count("follower failed") == 1
    assert "follower goes on name=test" in caplog.text
    assert follower.behind == 0


# ---- a database of others that is away from the start


def test_the_hub_runs_while_mongodb_is_away(
    config: HubConfig, caplog: pytest.LogCaptureFixture
) -> None:
    stored = replace(config, records="", blobs="", mongo="mongodb://127.0.0.1:1")
    from lineside.core import SystemClock

    with running(stored, clock=SystemClock()) as hub:
        body = {"topic": "i/ldr", "ts": rfc3339(SystemClock().now()), "ldr": 1}
        hub.services.plant_ingest.take_http(encode(body))
        assert hub.services.stats.plain()["gauges"]["mongo_behind"] >= 1
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
    hub.datasets._library.remove("rack", row.digest)
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
    newest = hub.dead_letters.page()[0]
    hub.records.documents.delete("dead-letter", newest.id)
    assert [letter.topic for letter in hub.dead_letters.page()] == ["i/none"]


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
