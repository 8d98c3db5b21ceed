"""Kafka beside the hub: MQTT → Kafka, events → Kafka, Kafka → the log.

1. ``KafkaBridge`` passes MQTT messages on unchanged and acknowledges them to the MQTT broker when
   Kafka has them. Retained messages are passed over: they are old, and come at each start.
   ``KafkaEvents`` follows the log. Neither loses a message; a reader may get one twice and
   recognises it by the delivery's name, or the event's id.
2. ``KafkaReader`` commits offsets after the records are in the log. While the store is away it
   pauses, and keeps its place in the group. A record that cannot be taken goes to the topic of dead
   letters and to the hub's own, and stops nothing.
3. A record is a message of the plant: a JSON object under the MQTT topic that the settings name.
   With ``ts``, topic and content make it one event, as over MQTT. Without, its time is the
   record's, ``ts_is`` says so, and its place in the cluster makes it one event; a record that the
   bridge wrote carries the name of its MQTT delivery instead, since it may stand there twice.
4. A CloudEvent in structured mode (content type ``application/cloudevents+json``) is taken apart:
   its ``data`` is the message, its ``time`` the time, and source and id make it one event, also
   where its sender sent it twice. Every record arrived when the cluster says (``recordedtime``),
   not when the hub read it.
5. Events go out as they stand in the log, in structured mode (CloudEvents, Kafka protocol binding
   1.0.2, 3.3), with ``ce_id`` and ``ce_source`` as headers too, so that a reader that takes each
   once need not open them.
"""

import logging
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from lineside.core import (
    InvalidError,
    LinesideError,
    RefusedError,
    UnavailableError,
    decode_json,
    digest_of,
    need,
    rfc3339,
    stable_id,
)
from lineside.core.plant import Route
from lineside.core.topics import topic_matches
from lineside.core.worker import Worker, retry
from lineside.hub.config import KafkaBridgeConfig, KafkaSendConfig, KafkaTakeConfig, key_of
from lineside.hub.eventlog.dead_letters import store_batch
from lineside.hub.eventlog.followers import Rejection, follow_from_now
from lineside.hub.eventlog.leases import LeasedPart
from lineside.hub.eventlog.topics import (
    DeadLetterError,
    Reason,
    check_not_future,
    check_size,
    is_late,
    plant_event,
)
from lineside.hub.readers import DeliveryNames, open_hub_session
from lineside.hub.services import Services
from lineside.links import BusSession, Delivery, MailboxFigures, Message
from lineside.links.kafka import KafkaReceiver, KafkaRecord, KafkaSender, ReceivedRecord
from lineside.store import Logged
from lineside.streams import Event, decode_event

CONTENT = "application/cloudevents+json"
DELIVERY = "lineside_delivery"
_NAME = re.compile(r"dlv_[0-9a-z]{1,60}")
_MOST_KEY_BYTES = 1024
_MOST_DETAIL_BYTES = 500


def event_of(record: ReceivedRecord, route: Route, *, topic: str, site: str) -> Event:
    """The event of a record.

    Raises:
        DeadLetterError: it cannot be taken.
    """
    made = _event_of(record, route, topic=topic, site=site)
    return replace(made, recordedtime=record.at)


def _event_of(record: ReceivedRecord, route: Route, *, topic: str, site: str) -> Event:
    if record.value is None:
        raise DeadLetterError(Reason.NOT_JSON, "a deletion mark", where=record.place)
    check_size(route, len(record.value), topic=topic)
    if _header(record, "content-type").startswith(CONTENT):
        return _of_cloud_event(record.value, route, topic=topic, site=site, place=record.place)
    document = _document(record.value, record.place)
    if "ts" in document:
        return plant_event(route, document, topic=topic, site=site)
    named = _delivery(record)
    document |= {"ts": rfc3339(record.at), "ts_is": "arrival", "delivery": named or record.place}
    made = plant_event(route, document, topic=topic, site=site)
    if not named:
        return made
    return replace(made, id=stable_id("evt", topic, named, digest_of(record.value)))


def _of_cloud_event(raw: bytes, route: Route, *, topic: str, site: str, place: str) -> Event:
    try:
        event = decode_event(raw, where=place)
    except InvalidError as error:
        raise DeadLetterError(Reason.NOT_AN_EVENT, str(error), where=place) from error
    document = {**event.data, "ts": rfc3339(event.time), "said_by": event.source, "says": event.id}
    made = plant_event(route, document, topic=topic, site=site)
    return replace(made, id=stable_id("evt", topic, event.source, event.id))


def _document(raw: bytes, place: str) -> dict[str, Any]:
    try:
        document = decode_json(raw, where=place)
    except (InvalidError, RecursionError) as error:
        raise DeadLetterError(Reason.NOT_JSON, str(error), where=place) from error
    if not isinstance(document, dict):
        raise DeadLetterError(Reason.NOT_JSON, "not a JSON object", where=place)
    return document


def _header(record: ReceivedRecord, name: str) -> str:
    found = (value for key, value in record.headers if key.lower() == name)
    return next(found, b"").decode(errors="replace").lower()


def _delivery(record: ReceivedRecord) -> str:
    """The name that a bridge gave, "" without; one that is no name of ours counts as none."""
    found = _header(record, DELIVERY)
    return found if _NAME.fullmatch(found) else ""


def bridged_record(message: Message, *, topic: str, delivery: str) -> KafkaRecord:
    """An MQTT message as it goes to a topic: the payload's bytes, its own topic as key.

    ``delivery`` "": the broker will not send it again, and its record has no name.
    """
    headers = ((DELIVERY, delivery.encode()),) if delivery else ()
    key = message.topic.encode()
    return KafkaRecord(topic=topic, value=message.payload, key=key, headers=headers)


def is_sent(logged: Logged, sent: KafkaSendConfig) -> bool:
    """Return True if an event goes to this topic."""
    return any(fnmatchcase(logged.entry.type, pattern) for pattern in sent.types)


def record_of(logged: Logged, sent: KafkaSendConfig) -> KafkaRecord:
    """An event of the log as a record."""
    entry = logged.entry
    return KafkaRecord(
        topic=sent.topic,
        value=entry.body,
        key=key_of(logged, sent.key).encode()[:_MOST_KEY_BYTES],
        headers=(
            ("content-type", f"{CONTENT}; charset=UTF-8".encode()),
            ("ce_id", entry.id.encode()),
            ("ce_source", entry.source.encode()),
        ),
    )


def dead_record(record: ReceivedRecord, refusal: DeadLetterError, *, topic: str) -> KafkaRecord:
    """A record that could not be taken, as it came, with the reason in its headers."""
    return KafkaRecord(
        topic=topic,
        value=record.value or b"",
        key=record.key,
        headers=(
            *record.headers,
            ("lineside_reason", str(refusal.reason).encode()),
            ("lineside_detail", refusal.detail.encode()[:_MOST_DETAIL_BYTES]),
            ("lineside_place", record.place.encode()),
        ),
    )


logger = logging.getLogger(__name__)

BRIDGE = "kafka-bridge"
"""The part that reads the bridge's session."""
_BATCH = 500
_WAIT_S = 0.5
_PAUSE_S = 1.0


class KafkaEvents:
    """Handler of a follower over the log."""

    def __init__(self, sent: KafkaSendConfig, *, sender: KafkaSender) -> None:
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


class KafkaBridge:
    """MQTT → Kafka, value bytes unchanged, the MQTT topic as key."""

    def __init__(
        self, bridges: Sequence[KafkaBridgeConfig], *, session: BusSession, sender: KafkaSender,
        services: Services, name: str,
    ) -> None:  # fmt: skip
        self.worker = Worker("kafka-bridge", self.step)
        self._stop = self.worker.stopping
        self._bridges = bridges
        self._session = session
        self._sender = sender
        self._failures = services.failures
        self._deliveries = DeliveryNames(
            services.records.documents, session=name, clock=services.clock,
            writing=services.leases.lease(BRIDGE).writing,
        )  # fmt: skip
        self.count = 0

    def figures(self) -> MailboxFigures:
        """Of its session."""
        return self._session.figures()

    def step(self) -> None:
        """Pass on what is there; returns when Kafka has it, or at the end."""
        deliveries = self._session.take(most=_BATCH, timeout_s=_WAIT_S)
        names = self._named(deliveries)
        records = [
            bridged_record(each.message, topic=bridge.topic, delivery=name)
            for each, name in zip(deliveries, names, strict=False)
            for bridge in self._bridges
            if not each.message.retain and topic_matches(bridge.mqtt, each.message.topic)
        ]
        if len(names) == len(deliveries) and self._sent(records):
            self._session.acknowledge(deliveries)

    def _named(self, deliveries: Sequence[Delivery]) -> list[str]:
        """The deliveries' names, asked for while the store is away; none if the hub stops before.

        They are not acknowledged yet, and would not come again while the connection holds.
        """
        try:
            return retry(
                lambda: self._deliveries.names(deliveries) if deliveries else [],
                stop=self._stop, on=LinesideError,
            )  # fmt: skip
        except LinesideError:
            return []

    def _sent(self, records: Sequence[KafkaRecord]) -> bool:
        """Again and again while Kafka is away; False when the hub stops before."""
        if not records:
            return True
        try:
            refused = retry(lambda: self._sender.send(records), stop=self._stop, on=LinesideError)
        except LinesideError:
            return False
        for refusal in refused:
            record = records[refusal.index]
            why = DeadLetterError(Reason.NOT_SENT, refusal.error.message)
            self._failures.refuse(why, record.value, topic=(record.key or b"").decode())
        self.count += len(records) - len(refused)
        return True


class KafkaReader:
    """Kafka → the log."""

    def __init__(
        self, reads: Sequence[KafkaTakeConfig], *, receiver: KafkaReceiver, dead: KafkaSender,
        services: Services,
    ) -> None:  # fmt: skip
        self.worker = Worker("kafka-intake", self.step)
        self._stop = self.worker.stopping
        self._is_lost = False
        self._routes = {each.topic: each.route for each in reads}
        self._router = services.router
        self._receiver = receiver
        self._dead = dead
        self._services = services
        self._failures = services.failures.without_retry()
        self._refused: set[str] = set()
        self.count = 0
        self.dead_count = 0

    def step(self) -> None:
        """Take what came, keep it, and only then commit its offsets."""
        batch = self._receiver.take(most=_BATCH, timeout_s=_WAIT_S)
        if not batch:
            return
        while not self._stop.is_set():
            try:
                self._keep(batch)
            except LinesideError as error:
                if not self._is_lost:
                    logger.warning("waiting name=kafka-intake reason=%s", error)
                self._is_lost = True
                self._receiver.pause(timeout_s=_PAUSE_S)
                continue
            if self._is_lost:
                logger.info("goes on name=kafka-intake")
            self._is_lost = False
            self._receiver.resume()
            self._receiver.commit(batch)
            self._refused.clear()
            return

    def _keep(self, batch: Sequence[ReceivedRecord]) -> None:
        items = []
        for record in batch:
            try:
                items.append((self._event_of(record), record))
            except DeadLetterError as refusal:
                self._refuse(record, refusal)
        store_batch(items, self._record, refuse=lambda item, why: self._refuse(item[1], why))

    def _event_of(self, record: ReceivedRecord) -> Event:
        topic, stats = self._routes[record.topic], self._services.stats
        route = self._router.find(topic)
        event = event_of(record, route, topic=topic, site=self._services.plant.site)
        now = self._services.clock.now()
        check_not_future(event.time, now=now, where=record.place)
        if is_late(event.time, now=now):
            stats.count("skew", "late")
        return event

    def _record(self, items: Sequence[tuple[Event, ReceivedRecord]]) -> None:
        commit = self._services.ledger.record([event for event, _ in items])
        stats = self._services.stats
        fresh = sum(not logged.duplicate for logged in commit.logged)
        stats.count("messages_received", by=len(items))
        stats.count("messages_duplicate", by=len(items) - fresh)
        stats.count("events", by=fresh + len(commit.raised))
        self.count += fresh

    def _refuse(self, record: ReceivedRecord, refusal: DeadLetterError) -> None:
        """Once each, however often the batch is tried."""
        if record.place in self._refused:
            return
        topic = self._services.config.kafka.dead
        if topic:
            self._dead.send([dead_record(record, refusal, topic=topic)])
        self._failures.refuse(refusal, record.value or b"", topic=f"kafka:{record.place}")
        self._refused.add(record.place)
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
    _start_reader(services, stack=stack)


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
        services.followers.follow(name, handlers[-1].send, stack=stack, type=_only(sent.types))
        stack.callback(sender.close)
    if handlers:
        services.stats.watch("kafka_sent", lambda: sum(one.count for one in handlers))


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
            _run(bridge.worker, sender=sender, stack=opening)
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


def _start_reader(services: Services, *, stack: ExitStack) -> None:
    config = services.config.kafka
    if not config.take:
        return
    receiver = KafkaReceiver(
        config.place, topics=[one.topic for one in config.take], group=config.group,
        client_id=f"lineside-{services.plant.site}-intake",
    )  # fmt: skip
    stack.callback(receiver.close)
    dead = _sender(services, "dead")
    reader = KafkaReader(config.take, receiver=receiver, dead=dead, services=services)
    _run(reader.worker, sender=dead, stack=stack)
    services.stats.watch("kafka_taken", lambda: reader.count)
    services.stats.watch("kafka_dead", lambda: reader.dead_count)


def _run(worker: Worker, *, sender: KafkaSender, stack: ExitStack) -> None:
    worker.start()
    stack.callback(worker.stop)
    stack.callback(sender.close)


def _only(types: Sequence[str]) -> str:
    """The one type to select by; "" where there are several or patterns."""
    plain = len(types) == 1 and not set(types[0]) & set("*?[")
    return types[0] if plain else ""
