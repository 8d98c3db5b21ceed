"""Kafka beside the hub: MQTT → Kafka, events → Kafka, Kafka → the log.

1. ``KafkaBridge`` passes MQTT messages on unchanged and acknowledges them to the MQTT broker when
   Kafka has them. Retained messages are passed over: they say what was, and come at each start.
   ``KafkaEvents`` follows the log. So neither loses what was said; a reader may get
   a message twice, never not at all, and tells by the delivery's name, or the event's id.
2. ``KafkaIntake`` commits offsets after the records are in the log. While the store is away it
   pauses, and keeps its place in the group. What cannot be taken goes to the topic of dead letters,
   to the hub's own, and stops nothing.
"""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from lineside.core import LinesideError, RefusedError, UnavailableError, need
from lineside.core.worker import backoff_s
from lineside.hub.config import KafkaBridged, KafkaRead, KafkaSent
from lineside.hub.eventlog.deliveries import Deliveries
from lineside.hub.eventlog.failures import keep_batch
from lineside.hub.eventlog.followers import Follower, Rejection, Selection, follow_from_now
from lineside.hub.eventlog.leases import LeasedPart
from lineside.hub.eventlog.ledger import is_late
from lineside.hub.eventlog.topics import DeadLetterError, Reason, Router, check_not_ahead
from lineside.hub.readers import open_hub_session
from lineside.hub.services import Services
from lineside.hub.sinks.kafka_words import bridged_record, dead_record, event_of, is_sent, record_of
from lineside.links import (
    BusSession,
    Delivery,
    KafkaReceiver,
    KafkaRecord,
    KafkaSender,
    KafkaTaken,
    MailboxFigures,
    topic_matches,
)
from lineside.store import Logged
from lineside.streams import Event

logger = logging.getLogger(__name__)

BRIDGE = "kafka-bridge"
"""The part that reads the bridge's session."""
_BATCH = 500
_WAIT_S = 0.5
_PAUSE_S = 1.0


class KafkaEvents:
    """Handler of a follower over the log."""

    def __init__(self, sent: KafkaSent, *, sender: KafkaSender) -> None:
        self._sent = sent
        self._sender = sender
        self.count = 0

    def send(self, entries: Sequence[Logged]) -> list[Rejection]:
        """Send those that go to the topic; those that Kafka does not take are returned.

        Raises:
            UnavailableError: the brokers are away, or refuse the credentials; that is of no record.
        """
        wanted = [each for each in entries if is_sent(each, self._sent)]
        if not wanted:
            return []
        try:
            refused = self._sender.send([record_of(each, self._sent) for each in wanted])
        except RefusedError as error:
            raise UnavailableError(error.message, where=error.where, fix=error.fix) from error
        self.count += len(wanted) - len(refused)
        return [Rejection(wanted[each.index], each.error.message) for each in refused]


class _Worker(ABC):
    """A thread that does the same step again and again, and survives what it does not foresee."""

    def __init__(self, name: str) -> None:
        self._stop = threading.Event()
        self._lost = False
        self._name = name
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step in hand."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    @abstractmethod
    def step(self) -> None:
        """One turn."""

    def _run(self) -> None:
        attempt = 0
        while not self._stop.is_set():
            try:
                self.step()
                attempt = 0
            except LinesideError as error:
                self._note_lost(error)
                self._stop.wait(backoff_s(attempt))
                attempt += 1
            except Exception:  # boundary
                logger.exception("step failed name=%s", self._name)
                self._stop.wait(backoff_s(attempt))
                attempt += 1

    def _note_lost(self, why: LinesideError) -> None:
        if not self._lost:
            logger.warning("waiting name=%s reason=%s", self._name, why)
        self._lost = True

    def _note_back(self) -> None:
        if self._lost:
            logger.info("goes on name=%s", self._name)
        self._lost = False


class KafkaBridge(_Worker):
    """MQTT → Kafka, value bytes unchanged, the MQTT topic as key."""

    def __init__(
        self, bridges: Sequence[KafkaBridged], *, session: BusSession, sender: KafkaSender,
        services: Services, name: str,
    ) -> None:  # fmt: skip
        super().__init__("kafka-bridge")
        self._bridges = bridges
        self._session = session
        self._sender = sender
        self._keeping = services.keeping
        self._deliveries = Deliveries(
            services.records.documents, session=name, clock=services.clock,
            writing=services.leases.lease(BRIDGE).writing,
        )  # fmt: skip
        self.count = 0

    def figures(self) -> MailboxFigures:
        """Of its session."""
        return self._session.figures()

    def step(self) -> None:
        """Pass on what is there; returns when Kafka has it, or at the end."""
        taken = self._session.take(most=_BATCH, timeout_s=_WAIT_S)
        names = self._named(taken)
        records = [
            bridged_record(each.message, topic=bridge.topic, delivery=name)
            for each, name in zip(taken, names, strict=False)
            for bridge in self._bridges
            if not each.message.retain and topic_matches(bridge.mqtt, each.message.topic)
        ]
        if len(names) == len(taken) and self._sent(records):
            self._session.acknowledge(taken)

    def _named(self, taken: Sequence[Delivery]) -> list[str]:
        """The deliveries' names, asked for while the store is away; none if the hub stops before.

        What was taken is not acknowledged, and would not come again while the connection holds.
        """
        attempt = 0
        while taken and not self._stop.is_set():
            try:
                return self._deliveries.names(taken)
            except LinesideError as error:
                self._note_lost(error)
                self._stop.wait(backoff_s(attempt))
                attempt += 1
        return []

    def _sent(self, records: Sequence[KafkaRecord]) -> bool:
        """Again and again while Kafka is away; False when the hub stops before."""
        attempt = 0
        while records and not self._stop.is_set():
            try:
                refused = self._sender.send(records)
            except LinesideError as error:
                self._note_lost(error)
                self._stop.wait(backoff_s(attempt))
                attempt += 1
                continue
            self._note_back()
            for refusal in refused:
                record = records[refusal.index]
                why = DeadLetterError(Reason.NOT_SENT, refusal.error.message)
                self._keeping.refuse(why, record.value, topic=(record.key or b"").decode())
            self.count += len(records) - len(refused)
            return True
        return not records


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Item:
    event: Event
    taken: KafkaTaken


class KafkaIntake(_Worker):
    """Kafka → the log."""

    def __init__(
        self, reads: Sequence[KafkaRead], *, receiver: KafkaReceiver, dead: KafkaSender,
        services: Services,
    ) -> None:  # fmt: skip
        super().__init__("kafka-intake")
        self._routes = {each.topic: each.route for each in reads}
        self._router = Router(services.plant)
        self._receiver = receiver
        self._dead = dead
        self._services = services
        self._keeping = services.keeping.hasty()
        self._refused: set[str] = set()
        self.count = 0
        self.dead_count = 0

    def step(self) -> None:
        """Take what came, keep it, and only then commit its offsets."""
        taken = self._receiver.take(most=_BATCH, timeout_s=_WAIT_S)
        if not taken:
            return
        while not self._stop.is_set():
            try:
                self._keep(taken)
            except LinesideError as error:
                self._note_lost(error)
                self._receiver.pause(timeout_s=_PAUSE_S)
                continue
            self._note_back()
            self._receiver.resume()
            self._receiver.commit(taken)
            self._refused.clear()
            return

    def _keep(self, taken: Sequence[KafkaTaken]) -> None:
        items = []
        for record in taken:
            try:
                items.append(_Item(event=self._event_of(record), taken=record))
            except DeadLetterError as refusal:
                self._refuse(record, refusal)
        keep_batch(items, self._record, refuse=lambda one, why: self._refuse(one.taken, why))

    def _event_of(self, record: KafkaTaken) -> Event:
        topic, stats = self._routes[record.topic], self._services.stats
        route = self._router.find(topic)
        event = event_of(record, route, topic=topic, site=self._services.plant.site)
        now = self._services.clock.now()
        check_not_ahead(event.time, now=now, where=record.place)
        if is_late(event.time, now=now):
            stats.skewed("late")
        return event

    def _record(self, items: Sequence[_Item]) -> None:
        recorded = self._services.ledger.record([item.event for item in items])
        stats = self._services.stats
        fresh = sum(not logged.duplicate for logged in recorded.logged)
        stats.count("messages_received", by=len(items))
        stats.count("messages_duplicate", by=len(items) - fresh)
        stats.count("events", by=fresh + len(recorded.raised))
        self.count += fresh

    def _refuse(self, taken: KafkaTaken, refusal: DeadLetterError) -> None:
        """Once each, however often the batch is tried."""
        if taken.place in self._refused:
            return
        topic = self._services.config.kafka.dead
        if topic:
            self._dead.send([dead_record(taken, refusal, topic=topic)])
        self._keeping.refuse(refusal, taken.value or b"", topic=f"kafka:{taken.place}")
        self._refused.add(taken.place)
        self.dead_count += 1


# ---- starting


def start_kafka(services: Services, *, bus_url: str, stack: ExitStack) -> None:
    """Everything the settings ask for; ended by the stack in reverse.

    Raises:
        MissingExtraError: the client library is not installed.
        InvalidError, RefusedError: the bus takes no further client of these settings.
    """
    if not services.config.kafka.brokers:
        return
    need("confluent_kafka", extra="kafka")
    _start_events(services, stack=stack)
    _start_bridge(services, bus_url=bus_url, stack=stack)
    _start_intake(services, stack=stack)


def _sender(services: Services, part: str) -> KafkaSender:
    name = f"lineside-{services.plant.site}-{part}"
    return KafkaSender(services.config.kafka.place, client_id=name)


def _start_events(services: Services, *, stack: ExitStack) -> None:
    handlers = []
    for sent in services.config.kafka.send:
        name = f"kafka-{sent.topic}"
        sender = _sender(services, sent.topic)
        handlers.append(KafkaEvents(sent, sender=sender))
        follow_from_now(name, records=services.records, ledger=services.ledger)
        follower = Follower(
            name, records=services.records, ledger=services.ledger, handle=handlers[-1].send,
            selection=Selection(type=_only(sent.types)),
        )  # fmt: skip
        services.followers.start(follower, stack=stack)
        stack.callback(sender.close)
        services.stats.watch(f"kafka_behind_{_figure(sent.topic)}", partial(_behind, follower))
    if handlers:
        services.stats.watch("kafka_sent", lambda: sum(one.count for one in handlers))


def _behind(follower: Follower) -> int:
    return follower.behind


def _start_bridge(services: Services, *, bus_url: str, stack: ExitStack) -> None:
    bridges = services.config.kafka.bridge
    if not bridges:
        return
    name = f"hub-{services.plant.site}-kafka"
    lease = services.leases.lease(BRIDGE)
    running: list[KafkaBridge] = []

    def begin() -> Callable[[], None]:
        with ExitStack() as opening:
            session = open_hub_session(
                bus_url, client_id=name, patterns=tuple(dict.fromkeys(one.mqtt for one in bridges)),
                services=services, may_join=lambda: lease.is_held,
            )  # fmt: skip
            opening.callback(session.close)
            sender = _sender(services, "bridge")
            bridge = KafkaBridge(
                bridges, session=session, sender=sender, services=services, name=name
            )
            _run(bridge, sender=sender, stack=opening)
            running.append(bridge)
            opening.callback(running.clear)
            return opening.pop_all().close

    part = LeasedPart(lease, opener=begin)
    stack.callback(part.stop)
    part.start()
    watch = services.stats.watch
    watch("kafka_bridged", lambda: sum(one.count for one in running))
    watch("kafka_bridge_waiting", lambda: sum(one.figures().waiting for one in running))
    watch("kafka_bridge_dropped", lambda: sum(one.figures().dropped for one in running))


def _start_intake(services: Services, *, stack: ExitStack) -> None:
    config = services.config.kafka
    if not config.take:
        return
    receiver = KafkaReceiver(
        config.place, topics=[one.topic for one in config.take], group=config.group,
        client_id=f"lineside-{services.plant.site}-intake",
    )  # fmt: skip
    stack.callback(receiver.close)
    dead = _sender(services, "dead")
    intake = KafkaIntake(config.take, receiver=receiver, dead=dead, services=services)
    _run(intake, sender=dead, stack=stack)
    services.stats.watch("kafka_taken", lambda: intake.count)
    services.stats.watch("kafka_dead", lambda: intake.dead_count)


def _run(worker: _Worker, *, sender: KafkaSender, stack: ExitStack) -> None:
    worker.start()
    stack.callback(worker.stop)
    stack.callback(sender.close)


def _only(types: Sequence[str]) -> str:
    """The one type to select by; "" where there are several or patterns."""
    plain = len(types) == 1 and not set(types[0]) & set("*?[")
    return types[0] if plain else ""


def _figure(name: str) -> str:
    """A name as metrics take it."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)
