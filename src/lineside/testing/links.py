"""Contract suites of the links room: an adapter's test class subclasses one, with its fixtures.

Main names: ``BusContract`` and ``SessionContract`` (fixture ``url``), ``CameraContract`` (fixture
``opened``). Waits are on conditions with deadlines far above what a working adapter needs.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest

from lineside.core import InvalidError, SystemClock
from lineside.links import (
    Bus,
    BusSession,
    Camera,
    Delivery,
    Mailbox,
    Message,
    Qos,
    Will,
    open_bus,
    open_session,
)

LONG_S = 60.0 * float(os.environ.get("LINESIDE_PATIENCE", "1"))  # noqa: TID251  the tests' switch
"""Deadline of every wait for a condition; only a failure takes so long.

``LINESIDE_PATIENCE`` multiplies it, for machines that do much else.
"""
SHORT_S = 0.3

Join = Callable[..., Bus]
Go = Callable[..., BusSession]


def take(mailbox: Mailbox, count: int) -> list[Message]:
    """The next ``count`` messages, fewer when they do not come."""
    arrived: list[Message] = []
    while len(arrived) < count:
        message = mailbox.get(timeout_s=LONG_S)
        if message is None:
            break
        arrived.append(message)
    return arrived


def nothing_more(mailbox: Mailbox) -> bool:
    """Return whether the mailbox stays empty for a while."""
    return mailbox.get(timeout_s=SHORT_S) is None


class BusContract:
    """Contract suite of bus adapters; the fixture ``url`` names a fresh, empty broker.

    Attributes:
        copy_per_pattern: the broker may send a message once for each pattern that matches
            (allowed by MQTT 5, 3.3.4); who counts messages then tells them apart by their ids.
    """

    copy_per_pattern = False

    @pytest.fixture
    def join(self, url: str) -> Iterator[Join]:
        """Opens clients and closes them after the test, last first."""
        opened: list[Bus] = []

        def open_one(client_id: str, *, will: Will | None = None) -> Bus:
            bus = open_bus(url, client_id=client_id, clock=SystemClock(), will=will)
            opened.append(bus)
            return bus

        yield open_one
        for bus in reversed(opened):
            bus.close()

    def vanish(self, bus: Bus) -> None:
        """Cut the client's connection without a word; an adapter's test says how."""
        raise NotImplementedError

    @pytest.mark.parametrize("qos", [0, 1, 2])
    def test_a_message_arrives_once_whatever_its_quality(self, join: Join, qos: Qos) -> None:
        sender, receiver = join("sender"), join("receiver")
        mailbox = receiver.subscribe(("line/a",), qos=qos)
        sender.publish("line/a", b"\x00payload\xff", qos=qos)
        message = mailbox.get(timeout_s=LONG_S)
        assert message is not None
        assert (message.topic, message.payload) == ("line/a", b"\x00payload\xff")
        assert (message.qos, message.retain) == (qos, False)
        assert message.arrived_s > 0
        assert nothing_more(mailbox)

    def test_messages_of_one_sender_keep_their_order(self, join: Join) -> None:
        sender, receiver = join("sender"), join("receiver")
        mailbox = receiver.subscribe(("line/#",))
        for number in range(50):
            sender.publish(f"line/{number % 3}", str(number).encode())
        assert [int(m.payload) for m in take(mailbox, 50)] == list(range(50))

    def test_a_client_hears_itself(self, join: Join) -> None:
        bus = join("alone")
        mailbox = bus.subscribe(("line/a",))
        bus.publish("line/a", b"1")
        assert len(take(mailbox, 1)) == 1

    def test_wildcards_choose_levels(self, join: Join) -> None:
        bus = join("one")
        plus = bus.subscribe(("f/+/state",), name="plus")
        hash_ = bus.subscribe(("f/i/#",), name="hash")
        for topic in ("f/i/state", "f/o/state", "f/i/state/hbw", "f/i"):
            bus.publish(topic, topic.encode())
        assert [m.topic for m in take(plus, 2)] == ["f/i/state", "f/o/state"]
        assert [m.topic for m in take(hash_, 3)] == ["f/i/state", "f/i/state/hbw", "f/i"]
        assert nothing_more(plus)
        assert nothing_more(hash_)

    def test_a_mailbox_gets_a_message_once_though_two_patterns_match(self, join: Join) -> None:
        sender, receiver = join("sender"), join("receiver")
        mailbox = receiver.subscribe(("line/#", "line/+", "line/a"))
        sender.publish("line/a", b"1")
        assert len(take(mailbox, 1)) == 1
        assert self.copy_per_pattern or nothing_more(mailbox)

    def test_dollar_topics_pass_and_stay_out_of_wildcards(self, join: Join) -> None:
        bus = join("thing")
        named = bus.subscribe(("$aws/things/+/jobs/#",), name="named")
        everything = bus.subscribe(("#",), name="everything")
        bus.publish("$aws/things/dev1/jobs/notify", b"{}")
        bus.publish("line/a", b"1")
        assert [m.topic for m in take(named, 1)] == ["$aws/things/dev1/jobs/notify"]
        assert [m.topic for m in take(everything, 1)] == ["line/a"]
        assert nothing_more(everything)

    def test_a_retained_message_waits_for_late_subscribers(self, join: Join) -> None:
        sender, late = join("sender"), join("late")
        sender.publish("device/d/desired", b"1", retain=True)
        sender.publish("device/d/desired", b"2", retain=True)
        message = late.subscribe(("device/+/desired",)).get(timeout_s=LONG_S)
        assert message is not None
        assert (message.payload, message.retain) == (b"2", True)

    def test_an_empty_retained_message_clears_the_topic(self, join: Join) -> None:
        sender, late = join("sender"), join("late")
        sender.publish("device/d/desired", b"1", retain=True)
        sender.publish("device/d/desired", b"", retain=True)
        assert nothing_more(late.subscribe(("device/+/desired",)))

    def test_a_full_mailbox_drops_its_oldest_and_counts(self, join: Join) -> None:
        sender, receiver = join("sender"), join("receiver")
        small = receiver.subscribe(("line/a",), size=2, name="small")
        last = receiver.subscribe(("line/end",), name="last")
        for number in range(5):
            sender.publish("line/a", str(number).encode())
        sender.publish("line/end", b"")
        assert len(take(last, 1)) == 1
        figures = small.figures()
        assert (figures.received, figures.dropped, figures.waiting) == (5, 3, 2)
        assert [m.payload for m in take(small, 2)] == [b"3", b"4"]

    def test_a_closed_mailbox_frees_its_reader_and_gets_no_more(self, join: Join) -> None:
        bus = join("one")
        mailbox = bus.subscribe(("line/a",), name="closed")
        other = bus.subscribe(("line/a",), name="other")
        with ThreadPoolExecutor() as threads:
            reading = threads.submit(mailbox.get, timeout_s=None)
            mailbox.close()
            assert reading.result(LONG_S) is None
        bus.publish("line/a", b"1")
        assert len(take(other, 1)) == 1
        assert mailbox.figures().received == 0

    def test_closing_the_bus_closes_its_mailboxes(self, join: Join) -> None:
        bus = join("one")
        mailbox = bus.subscribe(("line/a",))
        bus.close()
        assert mailbox.get(timeout_s=None) is None
        assert not bus.connected()
        assert not bus.publish_soon("line/a", b"1")
        bus.close()

    def test_the_last_will_is_said_when_a_client_vanishes(self, join: Join) -> None:
        watcher = join("watcher")
        mailbox = watcher.subscribe(("device/+/status",))
        device = join("device", will=Will(topic="device/d/status", payload=b"offline"))
        self.vanish(device)
        message = mailbox.get(timeout_s=LONG_S)
        assert message is not None
        assert message.payload == b"offline"
        late = join("late").subscribe(("device/+/status",)).get(timeout_s=LONG_S)
        assert late is not None
        assert late.retain

    def test_the_last_will_is_not_said_when_a_client_leaves(self, join: Join) -> None:
        watcher = join("watcher")
        mailbox = watcher.subscribe(("device/+/status",))
        device = join("device", will=Will(topic="device/d/status", payload=b"offline"))
        device.close()
        assert nothing_more(mailbox)

    def come_back(self, bus: Bus) -> None:
        """Wait until a vanished client is there again; an adapter may have to help it."""
        wait_until(bus.connected)

    def test_a_subscription_outlives_a_lost_connection(self, join: Join) -> None:
        sender, receiver = join("sender"), join("receiver")
        mailbox = receiver.subscribe(("line/a",))
        assert receiver.connections() == 1
        self.vanish(receiver)
        self.come_back(receiver)
        wait_until(lambda: receiver.connections() == 2)
        wait_until(lambda: _reaches(sender, mailbox))

    def test_a_payload_of_eight_megabytes_passes(self, join: Join) -> None:
        sender, receiver = join("sender"), join("receiver")
        mailbox = receiver.subscribe(("cam/frame",), size=2)
        payload = bytes(range(256)) * 31250
        sender.publish("cam/frame", payload, timeout_s=LONG_S)
        message = mailbox.get(timeout_s=LONG_S)
        assert message is not None
        assert message.payload == payload

    def test_messages_handed_over_without_waiting_all_arrive(self, join: Join) -> None:
        sender, receiver = join("sender"), join("receiver")
        mailbox = receiver.subscribe(("line/a",), size=3000)
        sent = 0
        pause = threading.Event()
        while sent < 2000:
            if is_acknowledged := sender.publish_soon("line/a", str(sent).encode()):
                sent += 1
            else:
                pause.wait(0.001)
        assert [int(m.payload) for m in take(mailbox, 2000)] == list(range(2000))
        wait_until(lambda: is_acknowledged is None or is_acknowledged())

    def test_several_threads_publish_on_one_client(self, join: Join) -> None:
        sender, receiver = join("sender"), join("receiver")
        mailbox = receiver.subscribe(("line/#",))

        def work(name: str) -> None:
            for number in range(50):
                sender.publish(f"line/{name}", str(number).encode())

        with ThreadPoolExecutor(max_workers=4) as threads:
            list(threads.map(work, map(str, range(4))))
        messages = take(mailbox, 200)
        for name in range(4):
            own = [int(m.payload) for m in messages if m.topic == f"line/{name}"]
            assert own == list(range(50))

    @pytest.mark.parametrize("topic", ["", "a/+", "a/#", "a\0b", "x" * 70_000])
    def test_impossible_topics_are_refused(self, join: Join, topic: str) -> None:
        bus = join("one")
        with pytest.raises(InvalidError):
            bus.publish(topic, b"")
        with pytest.raises(InvalidError):
            bus.publish_soon(topic, b"")

    @pytest.mark.parametrize("pattern", ["", "a#", "#/a", "a+/b", "a\0b"])
    def test_impossible_patterns_are_refused(self, join: Join, pattern: str) -> None:
        with pytest.raises(InvalidError):
            join("one").subscribe((pattern,))


def wait_until(
    holds: Callable[[], object], *, within_s: float = LONG_S, why: str = "did not happen in time"
) -> None:
    """Return when it holds; fail after a long while. What is dear to ask is asked less often."""
    pause = threading.Event()
    clock = SystemClock()
    deadline_s = clock.monotonic() + within_s
    while (asked_s := clock.monotonic()) and not holds():
        assert asked_s < deadline_s, why
        pause.wait(min(0.5, max(0.02, 3 * (clock.monotonic() - asked_s))))


def _reaches(sender: Bus, mailbox: Mailbox) -> bool:
    sender.publish("line/a", b"?")
    return mailbox.get(timeout_s=SHORT_S) is not None


def take_from(session: BusSession, count: int) -> list[Delivery]:
    """The next ``count`` messages, unacknowledged; fewer when they do not come."""
    arrived: list[Delivery] = []
    while len(arrived) < count:
        came = session.take(most=count - len(arrived), timeout_s=LONG_S)
        if not came:
            break
        arrived += came
    return arrived


def store_from(session: BusSession, count: int) -> list[Delivery]:
    """The same, each batch acknowledged as it comes."""
    arrived: list[Delivery] = []
    while len(arrived) < count:
        came = session.take(most=count - len(arrived), timeout_s=LONG_S)
        if not came:
            break
        session.acknowledge(came)
        arrived += came
    return arrived


def numbers(arrived: list[Delivery]) -> list[int]:
    """Payloads as numbers."""
    return [int(one.message.payload) for one in arrived]


class SessionContract:
    """Contract suite of sessions; the fixture ``url`` names a fresh, empty broker.

    Attributes:
        says_again: the broker marks a message that it sends once more (flag DUP).
    """

    says_again = True

    @pytest.fixture
    def open_again(self, url: str) -> Iterator[Go]:
        """Opens the same session again and again."""
        opened: list[BusSession] = []

        def open_one(*patterns: str, former: tuple[str, ...] = ()) -> BusSession:
            session = open_session(
                url, client_id="reader", patterns=patterns or ("line/#",), clock=SystemClock(),
                former=former,
            )  # fmt: skip
            opened.append(session)
            return session

        yield open_one
        for session in reversed(opened):
            session.close()

    @pytest.fixture
    def sender(self, url: str) -> Iterator[Bus]:
        """The other side; it keeps an in-memory broker alive."""
        bus = open_bus(url, client_id="sender", clock=SystemClock())
        yield bus
        bus.close()

    def vanish(self, session: BusSession) -> None:
        """Cut the connection without a word; an adapter's test says how."""
        raise NotImplementedError

    def come_back(self, session: BusSession) -> None:
        """Wait until a vanished session is there again; an adapter may have to help it."""
        wait_until(session.connected)

    def close_after_acknowledgements(self, session: BusSession) -> None:
        """Close a session whose acknowledgements the broker has read; an adapter may have to wait.

        A broker may take up the next connection before it has read what the one before still
        said, and then sends those messages again.
        """
        session.close()

    def send(self, sender: Bus, *payloads: int, qos: Qos = 1, topic: str = "line/a") -> None:
        """One message for each number."""
        for number in payloads:
            sender.publish(topic, b"%d" % number, qos=qos)

    @pytest.mark.parametrize("qos", [0, 1, 2])
    def test_a_message_is_handed_out_once(self, sender: Bus, open_again: Go, qos: Qos) -> None:
        session = open_again()
        sender.publish("line/a", b"\x00payload\xff", qos=qos)
        (one,) = store_from(session, 1)
        assert (one.message.topic, one.message.payload) == ("line/a", b"\x00payload\xff")
        assert (one.message.retain, one.again) == (False, False)
        assert bool(one.mid) is bool(qos)
        assert session.take(most=9, timeout_s=SHORT_S) == []

    def test_a_session_without_topics_is_joined_and_can_be_given_some(
        self, url: str, sender: Bus, open_again: Go
    ) -> None:
        bare = open_session(url, client_id="reader", patterns=(), clock=SystemClock())
        wait_until(bare.agreed)
        bare.close()
        session = open_again("line/#")
        self.send(sender, 1)
        assert numbers(store_from(session, 1)) == [1]

    @pytest.mark.parametrize("qos", [1, 2])
    def test_what_was_not_acknowledged_comes_again_to_the_next_reader(
        self, sender: Bus, open_again: Go, qos: Qos
    ) -> None:
        first = open_again()
        self.send(sender, *range(5), qos=qos)
        arrived = take_from(first, 5)
        first.acknowledge(arrived[:2])
        self.close_after_acknowledgements(first)
        second = open_again()
        again = store_from(second, 3)
        assert numbers(again) == [2, 3, 4]
        assert not self.says_again or all(one.again for one in again)
        assert second.take(most=9, timeout_s=SHORT_S) == []

    @pytest.mark.parametrize("qos", [1, 2])
    def test_what_comes_while_nobody_reads_is_kept(
        self, sender: Bus, open_again: Go, qos: Qos
    ) -> None:
        open_again().close()
        self.send(sender, *range(100), qos=qos)
        assert numbers(store_from(open_again(), 100)) == list(range(100))

    def test_the_broker_waits_with_more_while_many_are_not_acknowledged(
        self, sender: Bus, open_again: Go
    ) -> None:
        session = open_again()
        self.send(sender, *range(300))
        held = take_from(session, 1)
        while came := session.take(most=300, timeout_s=SHORT_S):
            held += came
        assert 1 <= len(held) < 300
        session.acknowledge(held)
        assert numbers([*held, *store_from(session, 300 - len(held))]) == list(range(300))

    def test_calls_to_acknowledge_may_come_in_any_order(self, sender: Bus, open_again: Go) -> None:
        session = open_again()
        self.send(sender, *range(60))
        done: list[Delivery] = []
        while len(done) < 60:
            came = session.take(most=7, timeout_s=LONG_S)
            assert came
            for one in reversed(came):
                session.acknowledge([one])
            done += came
        assert numbers(done) == list(range(60))
        self.close_after_acknowledgements(session)
        assert open_again().take(most=9, timeout_s=SHORT_S) == []

    def test_a_lost_connection_brings_what_was_not_acknowledged_again(
        self, sender: Bus, open_again: Go
    ) -> None:
        session = open_again()
        self.send(sender, *range(10))
        before = take_from(session, 4)
        self.vanish(session)
        self.send(sender, 10, 11)
        self.come_back(session)
        session.acknowledge(before)  # of the connection before: it changes nothing
        found: set[int] = set()
        while found != set(range(12)):
            found |= set(numbers(store_from(session, 1)))
        assert session.connections() >= 2

    def test_messages_of_quality_0_that_find_no_room_are_counted_and_said_once(
        self, sender: Bus, open_again: Go, caplog: pytest.LogCaptureFixture
    ) -> None:
        session = open_again()
        sent = 0
        pause = threading.Event()
        while session.figures().dropped < 20:
            assert sent < 100_000, "nothing was dropped"
            if sender.publish_soon("line/a", b"%d" % sent, qos=0):
                sent += 1
            else:
                pause.wait(0.001)
            if sent % 100 == 0:  # few are under way when the first ones are dropped
                wait_until(lambda: session.figures().received >= sent)  # noqa: B023  of this round
        self.send(sender, 7, topic="line/kept")
        kept = [one for one in self.rest(session) if one.message.topic == "line/kept"]
        assert numbers(kept) == [7]
        assert caplog.text.count("messages of quality 0 are dropped") == 1

    def rest(self, session: BusSession) -> list[Delivery]:
        """Everything up to the message that ends it."""
        arrived: list[Delivery] = []
        while not arrived or arrived[-1].message.topic != "line/kept":
            came = session.take(most=500, timeout_s=LONG_S)
            assert came
            session.acknowledge(came)
            arrived += came
        return arrived

    def test_other_patterns_at_the_next_start_replace_those_of_before(
        self, sender: Bus, open_again: Go
    ) -> None:
        open_again("line/a", "line/b").close()
        session = open_again("line/b", "line/c", former=("line/a", "line/b"))
        wait_until(session.agreed)
        for number, topic in enumerate(("line/a", "line/b", "line/c")):
            self.send(sender, number, topic=topic)
        assert numbers(store_from(session, 2)) == [1, 2]
        assert session.take(most=9, timeout_s=SHORT_S) == []

    def test_a_retained_message_comes_at_the_start(self, sender: Bus, open_again: Go) -> None:
        sender.publish("line/state", b"1", retain=True)
        (one,) = store_from(open_again(), 1)
        assert (one.message.payload, one.message.retain) == (b"1", True)

    def test_stopping_frees_the_reader_and_what_was_taken_can_be_acknowledged(
        self, sender: Bus, open_again: Go
    ) -> None:
        session = open_again()
        self.send(sender, 0)
        arrived = take_from(session, 1)
        with ThreadPoolExecutor() as threads:
            reading = threads.submit(session.take, most=1, timeout_s=LONG_S)
            session.stop()
            assert reading.result(LONG_S) == []
        self.send(sender, 1)
        session.acknowledge(arrived)
        self.close_after_acknowledgements(session)
        assert numbers(store_from(open_again(), 1)) == [1]

    @pytest.mark.parametrize("pattern", ["", "a#", "#/a", "a+/b", "a\0b"])
    def test_impossible_patterns_are_refused(self, open_again: Go, pattern: str) -> None:
        with pytest.raises(InvalidError):
            open_again(pattern, "line/a")


class CameraContract:
    """Contract suite of cameras; fixture ``opened``: one that has at least three images to give."""

    def test_shots_open_to_the_frames(self, opened: Camera) -> None:
        shots = list(islice(opened.shots(), 3))
        assert len(shots) == 3
        for shot in shots:
            frame = shot.open()
            assert frame.image.ndim == 3
            assert frame.camera == shot.camera
            assert frame.captured_at == shot.captured_at
            assert not frame.image.flags.writeable
        opened.close()

    def test_shots_come_in_capture_order_with_whole_milliseconds(self, opened: Camera) -> None:
        times = [shot.captured_at for shot in islice(opened.shots(), 3)]
        assert times == sorted(times)
        assert all(time.tzinfo is not None and time.microsecond % 1000 == 0 for time in times)
        opened.close()

    def test_frames_are_decoded(self, opened: Camera) -> None:
        frames = list(islice(opened.frames(), 2))
        assert all(frame.image.shape[2] == 3 for frame in frames)
        assert frames[0].id != frames[1].id
        opened.close()

    def test_closing_ends_a_reader_in_another_thread(self, opened: Camera) -> None:
        with ThreadPoolExecutor() as threads:
            reading = threads.submit(lambda: deque(opened.shots(), maxlen=0))
            opened.close()
            reading.result(LONG_S)
        opened.close()
