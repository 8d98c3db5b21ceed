"""Kafka both ways through confluent-kafka.

1. ``KafkaSender.send`` returns when every record stands on all in-sync replicas (``acks=all``,
   idempotent producer, so that the library's own retries neither double nor reorder). When it
   raises, any of them may stand there: sending again is at-least-once, so records carry ids.
2. ``KafkaReceiver`` takes part in a consumer group. An offset is committed when its reader says
   that the record was dealt with, never before, and only while the partition is ours: a group's
   offset would go back behind what its new reader has committed, and be read twice.
3. Memory is bounded: so many bytes wait to be sent, so many fetched records wait to be taken; a
   reader that cannot go on pauses, and keeps its place in the group meanwhile.
4. Loss and return are logged once each.

Settings are passed on, secrets come from files:

5. Options are librdkafka's own names, handed on as they are
   (https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md), but for those that the
   promises of this adapter rest on, which are refused.
6. A secret is never a value: its option is named with the file that holds it, and the file is read
   each time a client is made, so that a renewed one counts from then on.
7. A client's failures are told apart: away (try again), refused (credentials, authorisation,
   unknown authority), hopeless (an option that cannot be).
"""

import logging
import re
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from lineside.core import (
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    need,
)

OURS = (
    "acks", "bootstrap.servers", "client.id", "enable.auto.commit", "enable.auto.offset.store",
    "enable.gapless.guarantee", "enable.idempotence", "group.id", "metadata.broker.list",
    "plugin.library.paths", "request.required.acks",
)  # fmt: skip
_SECRET = re.compile(r"(password|secret|\.pem$|jaas|^sasl\.username$|assertion)")
_SECRET_BUT_NAMES = ("ssl.ca.pem", "ssl.certificate.pem")
_MOST_SECRET_BYTES = 65_536
_REFUSED = (
    "_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "TOPIC_AUTHORIZATION_FAILED",
    "GROUP_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED", "_SSL",
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
)  # fmt: skip
_NEVER = (
    "MSG_SIZE_TOO_LARGE", "INVALID_MSG", "RECORD_LIST_TOO_LARGE", "INVALID_RECORD",
    "TOPIC_EXCEPTION", "_INVALID_ARG",
)  # fmt: skip


class KafkaFault(Protocol):
    """Used part of ``confluent_kafka.KafkaError``."""

    def name(self) -> str: ...
    def str(self) -> str: ...
    def fatal(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaPlace:
    """A cluster and how it is spoken to.

    Attributes:
        brokers: ``host:port`` of some of its brokers, with commas between.
        options: further settings of the client library.
        secret_files: of options whose value is a secret: the file it stands in.
    """

    brokers: str
    options: Mapping[str, str] = field(default_factory=dict)
    secret_files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.options, *self.secret_files):
            if name in OURS or name.endswith("_cb"):
                raise InvalidError(
                    f"{name!r} is set by lineside itself", where=f"kafka.options.{name}",
                    fix="Leave it out.",
                )  # fmt: skip
        for name in self.options:
            if _SECRET.search(name) and name not in _SECRET_BUT_NAMES:
                raise InvalidError(
                    f"{name!r} is a secret, and secrets stand in files",
                    where=f"kafka.options.{name}",
                    fix=f'Write "{name}" = "/path/of/its/file" under secret_files.',
                )

    def settings(self) -> dict[str, Any]:
        """Everything the client library is told, secrets read.

        Raises:
            NotFoundError: a secret's file cannot be read.
        """
        settings: dict[str, Any] = {"bootstrap.servers": self.brokers, **self.options}
        settings |= {name: _secret(Path(path)) for name, path in self.secret_files.items()}
        return settings


def _secret(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            text = opened.read(_MOST_SECRET_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise NotFoundError(
            "the secret cannot be read", where=str(path), fix="Name a text file that is there."
        ) from error
    return text.removesuffix("\n")


def make_client(kind: str, settings: Mapping[str, Any]) -> Any:  # noqa: ANN401  of the library
    """A ``Producer``, ``Consumer`` … of the client library.

    Raises:
        MissingExtraError: it is not installed.
        InvalidError: an option that it does not know, or a value it cannot have.
    """
    library = need("confluent_kafka", extra="kafka")
    try:
        # What the library would write to stderr at each try is said once, by the adapters.
        return getattr(library, kind)({"log_level": 0, **settings})
    except library.KafkaException as error:
        raise InvalidError(
            f"the Kafka client refuses its settings: {error.args[0].str()}",
            where="kafka.options", fix="Mend or leave out the option it names.",
        ) from error  # fmt: skip
    except (TypeError, ValueError) as error:
        raise InvalidError(
            f"the Kafka client refuses its settings: {error}",
            where="kafka.options", fix="Write options as text.",
        ) from error  # fmt: skip


def is_permanent(fault: KafkaFault) -> bool:
    """Return whether this record will be refused as often as it is sent."""
    return fault.name() in _NEVER


def failure_of(fault: KafkaFault, *, where: str) -> LinesideError:
    """A fault of the library as one of the six."""
    name = fault.name()
    if name in _REFUSED:
        return RefusedError(
            f"Kafka refuses: {fault.str()}", where=where,
            fix="Check user, password, authority and the access list of the cluster.",
        )  # fmt: skip
    if name in _NEVER:
        return InvalidError(
            f"Kafka can not take this: {fault.str()}", where=where,
            fix="Make it smaller, or raise message.max.bytes on the topic.",
        )  # fmt: skip
    return UnavailableError(
        f"Kafka is away: {fault.str()}", where=where, fix="Nothing: it is tried again."
    )


def probe_kafka(place: KafkaPlace, *, timeout_s: float = 5.0) -> int:
    """Return how many brokers answer.

    Raises:
        UnavailableError, RefusedError, InvalidError, MissingExtraError: see the module.
    """
    library = need("confluent_kafka", extra="kafka")
    faults: list[KafkaFault] = []
    client = make_client("Producer", {**place.settings(), "error_cb": faults.append})
    try:
        brokers = client.list_topics(timeout=timeout_s).brokers
    except library.KafkaException as error:
        client.poll(0)
        refused = [fault for fault in faults if fault.name() in _REFUSED]
        raise failure_of((refused or [error.args[0]])[0], where=place.brokers) from error
    return len(brokers)


logger = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 253_402_300_799_000
"""The last second of the year 9999: what ``datetime`` can say."""
_DELIVERY_MS = 15_000
_ROOM_S = 0.05
_LEAVE_S = 2.0
_PROBE_S = 0.5
_QUIET = ("_PARTITION_EOF", "UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC")
_SENDER = {
    "acks": "all",
    "enable.idempotence": True,
    "linger.ms": 0,
    "message.timeout.ms": _DELIVERY_MS,
    "queue.buffering.max.messages": 10_000,
    "queue.buffering.max.kbytes": 65_536,
}
_RECEIVER = {
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "queued.min.messages": 1000,
    "queued.max.messages.kbytes": 16_384,
}

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaRecord:
    """A record to be sent; ``key`` None leaves the partition to chance."""

    topic: str
    value: bytes
    key: bytes | None = None
    headers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRecord:
    """A record as it came. ``value`` None is Kafka's deletion mark; ``at`` is the record's time."""

    topic: str
    partition: int
    offset: int
    at: datetime
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()

    @property
    def place(self) -> str:
        """``topic/partition/offset``: its name in the cluster."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaRefusal:
    """A record of a batch that Kafka can never take: its index, and why."""

    index: int
    error: InvalidError


class KafkaSender:
    """A producer; safe from several threads; connects when it is first used."""

    def __init__(self, place: KafkaPlace, *, client_id: str) -> None:
        self._place = place
        self._client_id = client_id
        self._producer: Any = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._refused: KafkaFault | None = None

    def send(self, records: Sequence[KafkaRecord]) -> list[KafkaRefusal]:
        """Send in order and wait for the brokers.

        Returns:
            Those that can never be taken; every other one stands on the brokers.

        Raises:
            UnavailableError: the cluster is away; send all of them again.
            RefusedError: it refuses us, or a topic to us.
        """
        with self._lock:
            if self._closed.is_set():
                raise UnavailableError("the sender was closed", where=self._place.brokers)
            if self._producer is None:
                self._producer = self._made()
            faults = self._delivered(self._producer, records)
            failed = [fault for fault in faults if fault and not is_permanent(fault)]
            if failed:
                self._drop()
                raise failure_of(self._refused or failed[0], where=self._place.brokers)
            self._refused = None
        return [
            KafkaRefusal(index=index, error=InvalidError(fault.str(), where=records[index].topic))
            for index, fault in enumerate(faults)
            if fault
        ]

    def close(self) -> None:
        """Leave; a ``send`` in another thread that takes much longer is given up, and raises."""
        self._closed.set()
        producer = self._producer
        if not self._lock.acquire(timeout=_LEAVE_S):
            if producer is not None:
                producer.purge()
            self._lock.acquire()
        try:
            if self._producer is not None:
                self._drop()
        finally:
            self._lock.release()

    def _made(self) -> Any:  # noqa: ANN401  of the library
        self._refused = None
        settings = {**_SENDER, **self._place.settings(), "client.id": self._client_id}
        return make_client("Producer", {**settings, "error_cb": self._note})

    def _note(self, fault: KafkaFault) -> None:
        if not isinstance(failure_of(fault, where=""), UnavailableError):
            self._refused = fault

    def _delivered(self, producer: Any, records: Sequence[KafkaRecord]) -> list[KafkaFault | None]:  # noqa: ANN401  of the library
        """Each record's fault; those without a word are lost too."""
        library = need("confluent_kafka", extra="kafka")
        away: KafkaFault = library.KafkaError(library.KafkaError._MSG_TIMED_OUT)  # noqa: SLF001  the library's own name
        faults: list[KafkaFault | None] = [away] * len(records)

        def report_of(index: int, fault: KafkaFault | None) -> None:
            faults[index] = fault

        deadline_s = monotonic() + 2 * _DELIVERY_MS / 1000
        for index, record in enumerate(records):
            if self._closed.is_set() or monotonic() > deadline_s:
                break
            try:
                self._produce(
                    producer, record, report=lambda fault, _, at=index: report_of(at, fault)
                )
            except library.KafkaException as error:
                report_of(index, error.args[0])
        producer.flush(max(0.0, deadline_s - monotonic()))
        return faults

    def _produce(self, producer: Any, record: KafkaRecord, *, report: Any) -> None:  # noqa: ANN401  of the library
        while not self._closed.is_set():
            try:
                producer.produce(
                    record.topic, value=record.value, key=record.key,
                    headers=list(record.headers), on_delivery=report,
                )  # fmt: skip
            except BufferError:  # full: the brokers' answers make room
                producer.poll(_ROOM_S)
            else:
                producer.poll(0)
                return

    def _drop(self) -> None:
        """A producer that failed is not gone on with: its memory of what was sent ends here."""
        producer, self._producer = self._producer, None
        producer.purge()
        producer.flush(0)


class KafkaReceiver:
    """A member of a consumer group; used by one thread, but for ``close``'s flag."""

    def __init__(
        self, place: KafkaPlace, *, topics: Sequence[str], group: str, client_id: str
    ) -> None:
        self._place = place
        self._topics = list(topics)
        self._group = group
        self._client_id = client_id
        self._consumer: Any = None
        self._paused = False
        self._lost = False
        self._failed: KafkaFault | None = None
        self._held: deque[ReceivedRecord] = deque()
        self._partitions: set[tuple[str, int]] = set()

    def take(self, *, most: int, timeout_s: float) -> list[ReceivedRecord]:
        """The next records, at most ``most``, fewer or none when they do not come in time.

        Raises:
            RefusedError: the cluster refuses us, the group or a topic to us.
            InvalidError, MissingExtraError: the client cannot be made.
        """
        if self._held:
            return [self._held.popleft() for _ in range(min(most, len(self._held)))]
        return self._consumed(most=most, timeout_s=timeout_s)

    def commit(self, records: Sequence[ReceivedRecord]) -> bool:
        """Say that these were dealt with; False where the group took some from us meanwhile.

        Those then come again, to whoever has their partition now.
        """
        library = need("confluent_kafka", extra="kafka")
        ends: dict[tuple[str, int], int] = {}
        for record in records:
            key = (record.topic, record.partition)
            ends[key] = max(ends.get(key, 0), record.offset + 1)
        ours = ends.keys() & self._partitions
        if not ours:
            return not ends
        try:
            offsets = [library.TopicPartition(*key, ends[key]) for key in ours]
            self._opened().commit(offsets=offsets, asynchronous=False)
        except library.KafkaException as error:
            logger.debug("offsets not committed group=%s why=%s", self._group, error.args[0])
            return False
        return ours == ends.keys()

    def pause(self, *, timeout_s: float) -> None:
        """Fetch nothing, and stay in the group; call again and again until ``resume``."""
        consumer = self._opened()
        if not self._paused:
            self._paused = True
            consumer.pause(consumer.assignment())
        self._held.extend(self._consumed(most=1, timeout_s=timeout_s))

    def resume(self) -> None:
        """Fetch again."""
        if self._paused:
            self._paused = False
            consumer = self._opened()
            consumer.resume(consumer.assignment())

    def close(self) -> None:
        """Leave the group; what was not committed goes to others."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()
        self._held.clear()
        self._partitions.clear()

    def _opened(self) -> Any:  # noqa: ANN401  of the library
        if self._consumer is None:
            told = {"client.id": self._client_id, "group.id": self._group, "error_cb": self._note}
            self._consumer = make_client(
                "Consumer", {**_RECEIVER, **self._place.settings(), **told}
            )
            self._consumer.subscribe(
                self._topics, on_assign=self._assigned, on_revoke=self._revoked,
                on_lost=self._revoked,
            )  # fmt: skip
        return self._consumer

    def _assigned(self, consumer: Any, partitions: Any) -> None:  # noqa: ANN401  of the library
        if self._paused:
            consumer.pause(partitions)
        self._partitions |= {(one.topic, one.partition) for one in partitions}
        names = ",".join(f"{one.topic}/{one.partition}" for one in partitions)
        logger.info("partitions taken group=%s partitions=%s", self._group, names)

    def _revoked(self, _consumer: object, partitions: Any) -> None:  # noqa: ANN401  of the library
        gone = {(one.topic, one.partition) for one in partitions}
        self._partitions -= gone
        self._held = deque(one for one in self._held if (one.topic, one.partition) not in gone)

    def _note(self, fault: KafkaFault) -> None:
        if fault.fatal() or not isinstance(failure_of(fault, where=""), UnavailableError):
            self._failed = fault
        elif fault.name() == "_ALL_BROKERS_DOWN" and not self._lost:
            self._lost = True
            logger.warning("kafka lost group=%s brokers=%s", self._group, self._place.brokers)

    def _consumed(self, *, most: int, timeout_s: float) -> list[ReceivedRecord]:
        came = self._opened().consume(most, timeout=timeout_s)
        records = [_received(message) for message in came if message.error() is None]
        for message in came:
            if message.error() is not None and message.error().name() not in _QUIET:
                self._note(message.error())
        if self._lost and (records or self._answers()):
            self._lost = False
            logger.info("kafka back group=%s brokers=%s", self._group, self._place.brokers)
        if self._failed is not None and not records:
            fault, self._failed = self._failed, None
            self.close()
            raise failure_of(fault, where=self._place.brokers)
        return records

    def _answers(self) -> bool:
        library = need("confluent_kafka", extra="kafka")
        try:
            self._opened().list_topics(timeout=_PROBE_S)
        except library.KafkaException:
            return False
        return True


def _received(message: Any) -> ReceivedRecord:  # noqa: ANN401  of the library
    """Never raises: one record that could not be told would take its batch with it."""
    _, at_ms = message.timestamp()
    return ReceivedRecord(
        topic=message.topic(), partition=message.partition(), offset=message.offset(),
        at=_EPOCH + timedelta(milliseconds=min(max(0, at_ms), _LAST_MS)), value=message.value(),
        key=message.key(), headers=_headers(message),
    )  # fmt: skip


def _headers(message: Any) -> Headers:  # noqa: ANN401  of the library
    """None where one's name is no text: confluent-kafka 2.16 gives all at once, or fails."""
    try:
        return tuple((name, value or b"") for name, value in message.headers() or ())
    except (UnicodeDecodeError, SystemError):
        return ()
