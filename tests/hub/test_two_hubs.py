"""Two hubs at one log: one state, each piece sold once, each event raised once."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from lineside.core import ConflictError, Plant, parse_plant, to_plain
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, Services
from lineside.hub.alerts.service import Acknowledgement
from lineside.hub.eventlog.ledger import Commit
from lineside.hub.timers import Peers
from lineside.hub.views import RunView
from lineside.links import Message
from lineside.store import open_records
from lineside.testing import FakeClock
from lineside.twin import rebuild
from lineside.vision import encode_jpeg
from lineside.web.security import UnauthenticatedError
from tests.hub.conftest import LIMITED, Line, another_hub, open_hub
from tests.store.conftest import PostgresServer, postgres_server

__all__ = ["postgres_server"]
pytestmark = pytest.mark.service


@pytest.fixture
def hubs(
    config: HubConfig, plant: Plant, clock: FakeClock, postgres_server: PostgresServer
) -> Iterator[list[Services]]:
    """Two at one database."""
    url = postgres_server.fresh_database()
    with ExitStack() as stack:
        hub = stack.enter_context(
            open_hub(replace(config, records=SecretUrl(url)), plant=plant, clock=clock)
        )
        records = stack.enter_context(open_records(url, clock=clock))
        other = another_hub(hub, records=records)
        stack.callback(other.runs.close)
        yield [hub, other]


def test_an_order_is_decided_by_what_the_other_hub_saw(
    hubs: list[Services], clock: FakeClock
) -> None:
    first, second = hubs
    Line(first, clock).see("red")
    assert second.ledger.state.revision == 0
    order = second.orders.place("red", by="anna")
    with pytest.raises(ConflictError):
        first.orders.place("red", by="bert")
    assert first.orders.one(order.id).slot == "B1"


def test_each_piece_is_sold_once_whichever_hub_is_asked(
    hubs: list[Services], clock: FakeClock
) -> None:
    Line(hubs[0], clock).see("red", "blue", "white")

    def buy(number: int) -> str:
        try:
            order = hubs[number % 2].orders.place(("red", "blue", "white")[number % 3], by="anna")
        except ConflictError:
            return ""
        return order.slot

    with ThreadPoolExecutor(8) as people:
        slots = Counter(people.map(buy, range(24)))
    assert slots == {"A1": 1, "B1": 1, "C1": 1, "": 21}
    for hub in hubs:
        hub.ledger.catch_up()
    assert hubs[0].ledger.state == hubs[1].ledger.state


@pytest.mark.parametrize("seed", range(5))
def test_the_twin_of_every_hub_is_the_fold_of_the_log(
    hubs: list[Services], clock: FakeClock, plant: Plant, seed: int
) -> None:
    random = Random(seed)  # noqa: S311  repeatable, not secret
    lines = [Line(hub, clock) for hub in hubs]
    lines[0].see("red")
    hubs[1].devices.enrol("edge-1")
    for _ in range(60):
        clock.advance(random.choice([0.1, 2.0, 30.0]))
        hub = random.randrange(2)
        line, colour = lines[hub], random.choice(["RED", "BLUE", "WHITE"])
        turn = random.randrange(5)
        if turn == 0:
            seen = random.sample(["red", "blue", "white"], k=random.randrange(4))
            line.send(line.prediction(*seen))
        elif turn == 1:
            state = random.choice(["ORDERED", "IN_PROCESS", "SHIPPED", "WAITING_FOR_ORDER"])
            line.send(line.said("f/i/order", state=state, type=colour))
        elif turn == 2:
            hubs[hub].ledger.pass_time()
        elif turn == 3:
            again = line.said("f/i/order", state="ORDERED", type=colour)
            lines[0].send(again)
            lines[1].send(again)  # the broker delivers it to both
        else:
            try:
                hubs[hub].orders.place(colour.lower(), by="anna")
            except ConflictError:
                continue
    for hub_ in hubs:
        hub_.ledger.catch_up()
    log = hubs[0].records.log
    assert hubs[0].ledger.state == hubs[1].ledger.state == rebuild(log, plant=plant).state
    entries = log.read(limit=1000)
    assert len({one.entry.id for one in entries}) == len(entries)
    assert all(log.verify(source).ok for source in log.heads())


def test_a_hub_that_writes_nothing_hears_of_everything_once(
    hubs: list[Services], clock: FakeClock
) -> None:
    writer, listener = hubs
    heard: list[Commit] = []
    listener.ledger.listen(heard.append)
    Line(writer, clock).see("red")
    writer.orders.place("red", by="anna")
    assert listener.ledger.catch_up() == 2
    assert listener.ledger.catch_up() == 0
    events = [event for recorded in heard for event in recorded.events]
    assert [event.type for event in events] == ["lineside.prediction.v1", "lineside.order.v1"]
    assert listener.ledger.state == writer.ledger.state
    assert listener.ledger.committed == writer.ledger.committed


def test_what_a_failed_transaction_had_read_is_read_again(
    hubs: list[Services], clock: FakeClock
) -> None:
    writer, other = hubs
    Line(writer, clock).see("red")

    def fail(_: object) -> None:
        raise ConflictError("no")

    with pytest.raises(ConflictError):
        other.ledger.record([], within=fail)
    assert other.ledger.state.revision == 0
    other.ledger.record([])
    assert other.ledger.state == writer.ledger.state


def test_an_anchor_passes_over_nothing_that_others_wrote(
    hubs: list[Services], clock: FakeClock
) -> None:
    writer, other = hubs
    Line(writer, clock).see("red")
    other.ledger.anchor()
    assert other.ledger.state == writer.ledger.state


def test_a_frame_that_another_hub_brings_is_pinned_for_the_order_that_named_it(
    hubs: list[Services], clock: FakeClock, jpeg: Callable[..., bytes]
) -> None:
    first, second = hubs
    picture, line = jpeg("red"), Line(first, clock)
    line.send(line.status(), line.prediction("red", picture=picture))
    order = first.orders.place("red", by="anna")
    Line(second, clock).send(line.camera(picture))
    (row,) = second.records.frames.page()
    assert row.pins == (f"order:{order.id}",)


def test_each_hub_has_token_files_of_its_own(hubs: list[Services], tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.token" for number in range(2)]
    for number, (hub, path) in enumerate(zip(hubs, files, strict=True)):
        assert hub.auth.ensure_token_file(path, name="admin", kind="api", hub=f"hub_{number}")
    for hub in hubs:
        assert [hub.auth.identify(path.read_text().strip()).name for path in files] == ["admin"] * 2
    first, second = hubs
    old = files[0].read_text().strip()
    files[0].unlink()
    assert first.auth.ensure_token_file(files[0], name="admin", kind="api", hub="hub_0")
    with pytest.raises(UnauthenticatedError):
        second.auth.identify(old)
    assert first.auth.identify(files[1].read_text().strip()).name == "admin"


def test_who_signed_in_at_one_hub_is_signed_in_at_the_other(hubs: list[Services]) -> None:
    first, second = hubs
    session = second.auth.sign_in(first.auth.issue_link(name="anna"))
    assert first.auth.session(session).identity.name == "anna"
    second.auth.sign_out(session)
    with pytest.raises(UnauthenticatedError):
        first.auth.session(session)


def test_a_picture_and_its_answer_are_shown_by_the_hub_that_did_not_take_them(
    hubs: list[Services], clock: FakeClock, jpeg: Callable[..., bytes]
) -> None:
    first, second = hubs
    peers, picture, line = Peers(second), jpeg("red"), Line(first, clock)
    line.send(line.status(), line.camera(picture), line.prediction("red", picture=picture))
    assert second.cameras.state("rack")[0] == "never"
    peers.step()
    shown = second.cameras.shown("rack")
    assert shown is not None
    assert shown.jpeg == picture
    assert shown.prediction == first.cameras.one("rack").prediction
    assert shown.prediction is not None
    assert second.cameras.state("rack")[0] == "live"


@pytest.mark.parametrize("plant", [parse_plant(LIMITED, where="plant")], scope="session")
def test_an_alert_of_one_hub_is_acknowledged_at_the_other(
    hubs: list[Services], clock: FakeClock
) -> None:
    first, second = hubs
    line, peers = Line(first, clock), Peers(second)
    for grey in (1, 2, 3):
        line.wait(0.5)
        line.send(line.camera(encode_jpeg(np.full((120, 160, 3), grey, np.uint8))))
        peers.step()
    assert [hub.cameras.state("rack")[0] for hub in hubs] == ["dark", "dark"]
    second.alerts.load()
    first.alert_watch.tick()
    said = second.alerts.message(at=clock.now())
    assert said.open == first.alerts.open() != ()
    second.alert_watch.tick()
    line.wait(2)
    (alert,) = second.alerts.open()
    second.alerts.acknowledge(alert.id, Acknowledgement(note="seen"), by="bert")
    with pytest.raises(ConflictError, match="by bert"):
        first.alerts.acknowledge(alert.id, Acknowledgement(), by="anna")
    for wait_s in (60, 11):
        line.wait(wait_s)
        first.alert_watch.tick()
    peers.step()
    unacknowledged = [one for one in first.alerts.open() if one.acknowledged_at is None]
    assert [hub.alerts.count() for hub in hubs] == [len(unacknowledged)] * 2
    dark = [one for one in second.alerts.history() if one.id == alert.id]
    assert [(one.acknowledged_by, one.note) for one in dark] == [("bert", "seen")]


def test_what_a_device_told_one_hub_is_known_to_the_other(
    hubs: list[Services], clock: FakeClock
) -> None:
    first, second = hubs
    peers, line = Peers(second), Line(first, clock)
    line.send(line.status("edge-1", spool_depth=3))
    peers.step()
    assert second.devices.some(["edge-1"])[0].spool_depth == 3
    clock.advance(3)
    line.send(line.status("edge-1", spool_depth=5, version="2"), line.prediction("red"))
    first.devices.flush()
    peers.step()
    told = second.devices.some(["edge-1"])[0]
    assert (told.spool_depth, told.version, told.acked) == (5, "2", 1)
    for _ in range(10):
        clock.advance(11)
        line.send(line.status("edge-1", version="2"))
        first.devices.flush()
        peers.step()
        assert second.devices.some(["edge-1"])[0].state == "online", "the rows come once a minute"


def test_a_message_that_one_hub_refused_is_listed_by_the_other(
    hubs: list[Services], clock: FakeClock
) -> None:
    first, second = hubs
    peers = [Peers(hub) for hub in hubs]
    for number in range(150):
        clock.advance(3)
        Line(hubs[number % 2], clock).send(Message(topic="i/cam", payload=b"spoilt"))
        for peer in peers:
            peer.step()
    listed = [[letter.id for letter in hub.dead_letters.page(limit=1000)] for hub in hubs]
    assert listed[0] == listed[1]
    assert len(set(listed[0])) == 150
    assert listed[0] == sorted(listed[0], reverse=True)
    assert first.dead_letters.counts() == second.dead_letters.counts()
    assert sum(first.dead_letters.counts().values()) == 150


def test_a_hub_that_hears_the_devices_takes_nothing_old_from_their_rows(
    hubs: list[Services], clock: FakeClock
) -> None:
    first, second = hubs
    line = Line(first, clock)
    line.send(line.status("edge-1", spool_depth=3))
    clock.advance(1)
    line.send(line.status("edge-1", spool_depth=4))
    second.devices.enrol("edge-2")
    first.devices.refresh(is_mine=True)
    assert first.devices.some(["edge-1"])[0].spool_depth == 4
    assert first.devices.knows("edge-2")


def test_a_training_run_of_one_hub_is_seen_at_the_other_and_left_alone(
    hubs: list[Services], clock: FakeClock
) -> None:
    first, second = hubs
    view = RunView(
        id="run_1", state="running", task="multilabel", dataset="rack", version=1,
        inspection="stock", seed=7, started_at=clock.now(), started_by="anna", stage="starting",
    )  # fmt: skip
    body = {"view": to_plain(view), "pid": 1, "hub": first.leases.hub}
    first.records.documents.put("run", "run_1", body=body)
    peers = Peers(second)
    peers.step()
    assert second.runs.one("run_1") == view
    second.runs.load()
    assert second.runs.one("run_1").state == "running", "its own hub settles it"
    with pytest.raises(ConflictError, match="another hub of the site"):
        second.runs.cancel("run_1")
    ended = {**body, "view": to_plain(replace(view, state="done", percent=100.0))}
    clock.advance(3)
    first.records.documents.put("run", "run_1", body=ended)
    peers.step()
    assert second.runs.one("run_1").state == "done"
