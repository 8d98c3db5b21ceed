"""Readers between the bus and the log: each stores the messages of one session, in batches.

1. A message is acknowledged to the broker when it stands in the log or among the dead letters, not
   before: a message that the broker accepted is here after any kill.
2. Several threads may prepare batches of one session at once (decoding and writing images wait
   for different things); they commit in the order in which they took them out.
3. While the store is away the batch in hand is tried again. The broker keeps the others, and sends
   only as many ahead as it may.
4. A batch that fails in a way nobody foresaw is stored message by message; the one that fails alone
   becomes a dead letter, so that it stops nothing.
5. A reader that ends finishes the batch in hand and leaves; the broker keeps its session.

Names of deliveries, for messages that carry no time of their own:

6. A message gets its name before it is passed on, and the name is written down before that.
7. A message that the broker sends once more (flag DUP) under the packet identifier and with the
   content of a named one gets that one's name, so that both are stored as one event (MQTT 3.1.1,
   2.3.1 and 3.3.1.1: until it is acknowledged, a message keeps its identifier, and nothing else
   gets it).
8. An acknowledgement may be lost with the hub, so names are kept for a while behind it. A broker
   that gives an identifier away again at once can thus make one of two messages: where the second
   has the same content, was sent into a connection that broke, and its like had just been
   acknowledged. mosquitto counts its identifiers up, so there it takes 65,535 messages.
9. Of several hubs only the one that may read the session names its messages: messages that another
   one still has in hand, the broker sends again.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from lineside.core import (
    Clock,
    ConflictError,
    Json,
    NotFoundError,
    RefusedError,
    UnavailableError,
    digest_of,
    new_id,
)
from lineside.core.worker import Worker, retry
from lineside.hub.eventlog.dead_letters import FailurePolicy
from lineside.hub.eventlog.stats import CAMERAS
from lineside.hub.eventlog.topics import DeadLetterError, Reason, Router
from lineside.hub.learning.job_service import TOPICS as JOB_TOPICS
from lineside.hub.services import Services
from lineside.hub.timers import DEVICES
from lineside.links import (
    Bus,
    BusSession,
    Delivery,
    Mailbox,
    MailboxFigures,
    Message,
    open_session,
)
from lineside.store import Documents

Writing = Callable[[], AbstractContextManager[None]]

MOST_NAMES = 500
_KIND = "mqtt-deliveries"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryName:
    """A message that was named: its packet identifier, the digest of topic and payload, its name.

    ``content`` tells messages apart, it proves nothing; a part of the digest is enough.
    """

    mid: int
    content: str
    name: str


def content_key(delivery: Delivery) -> str:
    """Part of a digest over topic and payload."""
    message = delivery.message
    digest = digest_of(message.topic.encode() + b"\0" + message.payload)
    return digest.removeprefix("sha256:")[:16]


def name_deliveries(
    deliveries: Sequence[Delivery], known: Sequence[DeliveryName], *, fresh: Callable[[], str]
) -> tuple[list[str], list[DeliveryName]]:
    """A name for each message, and what is to be remembered, oldest first.

    A message of quality 0 is sent once, and has no name.
    """
    remembered = {one.mid: one for one in known}
    names = []
    for one in deliveries:
        if not one.message.qos:
            names.append("")
            continue
        content, held = content_key(one), remembered.pop(one.mid, None)
        same = one.again and held is not None and held.content == content
        name = held.name if same and held is not None else fresh()
        remembered[one.mid] = DeliveryName(mid=one.mid, content=content, name=name)
        names.append(name)
    return names, list(remembered.values())[-MOST_NAMES:]


class DeliveryNames:
    """The names of one MQTT session; used by one thread."""

    def __init__(
        self, documents: Documents, *, session: str, clock: Clock, writing: Writing = nullcontext
    ) -> None:
        """``writing``: a transaction of the hub that may read the session, or a conflict."""
        self._writing = writing
        self._documents = documents
        self._session = session
        self._clock = clock
        self._known: list[DeliveryName] | None = None

    def names(self, deliveries: Sequence[Delivery]) -> list[str]:
        """A name for each message, written down when this returns; "" where it has none.

        Raises:
            UnavailableError: the store is away, or another hub reads the session; ask again.
        """
        if not deliveries:
            return []
        known = self._loaded()
        names, remembered = name_deliveries(
            deliveries, known, fresh=lambda: new_id("dlv", clock=self._clock)
        )
        if remembered != known:
            self._save([[one.mid, one.content, one.name] for one in remembered])
            self._known = remembered
        return names

    def _save(self, rows: list[list[Json]]) -> None:
        try:
            with self._writing():
                self._documents.put(_KIND, self._session, body={"named": rows})
        except ConflictError as error:
            raise UnavailableError(error.message, where=error.where, fix=error.fix) from error

    def _loaded(self) -> list[DeliveryName]:
        if self._known is None:
            self._known = self._read()
        return self._known

    def _read(self) -> list[DeliveryName]:
        try:
            rows = self._documents.get(_KIND, self._session).body["named"]
        except NotFoundError:
            return []
        return [DeliveryName(mid=mid, content=content, name=name) for mid, content, name in rows]


logger = logging.getLogger(__name__)

Identify = Callable[[Sequence[Delivery]], list[Message]]

READERS = ("jobs", "evidence", "devices", CAMERAS)
"""Readers of the bus, each with a session of its own."""
_BATCH = 64
_WAIT_S = 0.5
_STUCK_S = 60.0
_PLANT_THREADS = 2  # one reads and decodes while the other waits for the disk
_SESSION_KIND = "bus-session"
_DROPPED = "$SYS/broker/publish/messages/dropped"


def messages_of(deliveries: Sequence[Delivery]) -> list[Message]:
    """The messages themselves, which tell by their content what they are."""
    return [one.message for one in deliveries]


class MessageStore(Protocol):
    """Store of one kind of messages; only it knows what it prepares."""

    def prepare(self, messages: Sequence[Message]) -> Any:  # noqa: ANN401  its own
        """Read and judge a batch; several threads may, each with one of its own."""
        ...

    def commit(self, prepared: Any) -> None:  # noqa: ANN401  its own
        """Store what was prepared, in the order of the batches."""
        ...


class Reader:
    """One session and the threads that store what comes through it."""

    def __init__(
        self,
        name: str,
        *,
        session: BusSession,
        store: MessageStore,
        failures: FailurePolicy,
        identify: Identify = messages_of,
        threads: int = 1,
    ) -> None:
        """``identify``: gives messages their delivery; it is called in the order they came."""
        self.name = name
        self._session = session
        self._store = store
        self._failures = failures
        self._identify = identify
        self._taking = threading.Lock()
        self._turn = threading.Condition()
        self._taken = 0
        self._committed = 0
        self._workers = [
            Worker(f"read-{name}-{number}", self._store_batch, stuck_s=_STUCK_S)
            for number in range(threads)
        ]
        self._stop = self._workers[0].stopping

    def start(self) -> None:
        """Begin."""
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        """Finish the batch in hand, acknowledge it, and leave; the broker keeps the session."""
        for worker in self._workers:
            worker.request_stop()
        self._session.stop()
        for worker in self._workers:
            worker.join()
        self._session.close()

    def figures(self) -> MailboxFigures:
        """Of the session."""
        return self._session.figures()

    @property
    def busy(self) -> bool:
        """True while messages wait here, or are not stored yet."""
        return self._taken != self._committed or bool(self._session.figures().waiting)

    def _store_batch(self) -> None:
        with self._taking:
            deliveries = self._session.take(most=_BATCH, timeout_s=_WAIT_S)
            messages = self._identified(deliveries) if deliveries else []
            number = self._taken
            self._taken += bool(messages)
        if messages and self._stored_in_turn(messages, number=number):
            self._session.acknowledge(deliveries)

    def _identified(self, deliveries: Sequence[Delivery]) -> list[Message]:
        """The messages with their deliveries; none where the hub stops before the store is back."""
        try:
            identified = self._retried(lambda: self._identify(deliveries))
        except Exception:  # boundary
            logger.exception("deliveries not named reader=%s", self.name)
            return messages_of(deliveries)
        return identified[0] if identified else []

    def _stored_in_turn(self, messages: Sequence[Message], *, number: int) -> bool:
        """Store a batch after those taken before it; False where not all of it is stored."""
        prepared: list[Any] = []
        try:
            prepared.append(self._store.prepare(messages))
        except UnavailableError:
            pass  # it is tried again below, in its turn
        except Exception:  # boundary
            logger.exception("batch not read reader=%s messages=%d", self.name, len(messages))
        with self._turn:
            self._turn.wait_for(lambda: self._committed == number)
        try:
            return self._stored(messages, prepared)
        except Exception:  # boundary
            logger.exception("batch not kept reader=%s messages=%d", self.name, len(messages))
            return all(self._stored_alone(message) for message in messages)
        finally:
            with self._turn:
                self._committed += 1
                self._turn.notify_all()

    def _stored(self, messages: Sequence[Message], prepared: list[Any]) -> bool:
        def store() -> None:
            self._store.commit(prepared.pop() if prepared else self._store.prepare(messages))

        return bool(self._retried(store))

    def _stored_alone(self, message: Message) -> bool:
        """Store one message of a batch that failed, if only as a dead letter; False at the end."""
        try:
            return self._stored([message], [])
        except Exception as error:  # boundary
            logger.exception("message not kept reader=%s topic=%s", self.name, message.topic)
            why = DeadLetterError(Reason.FAILED, f"{type(error).__name__}: {error}")
        return bool(
            self._retried(lambda: self._failures.refuse(why, message.payload, topic=message.topic))
        )

    def _retried(self, act: Callable[[], Any]) -> list[Any]:
        """The result of ``act``, called again while the store is away; empty if the hub stops."""
        try:
            return [retry(act, stop=self._stop)]
        except UnavailableError:
            return []


def with_names(
    deliveries: Sequence[Delivery], *, names: DeliveryNames, is_timeless: Callable[[Message], bool]
) -> list[Message]:
    """The messages in their order, those without a time of their own with their delivery's name.

    All others are identified by their content, also when they come again. One thread calls this.

    Raises:
        UnavailableError: the store is away; call again.
    """
    timeless = [is_timeless(one.message) for one in deliveries]
    given = iter(names.names([one for one, bare in zip(deliveries, timeless, strict=True) if bare]))
    return [
        replace(one.message, delivery=next(given)) if bare else one.message
        for one, bare in zip(deliveries, timeless, strict=True)
    ]


def part_of(reader: str) -> str:
    """The part of the hub's work that a reader belongs to."""
    return CAMERAS if reader == CAMERAS else DEVICES


def open_reader(name: str, *, url: str, services: Services) -> Reader:
    """Go on with the session of one of ``READERS``; the caller starts and stops it.

    Raises:
        InvalidError, RefusedError: as ``open_session``.
    """
    lease = services.leases.lease(part_of(name))
    client_id = f"hub-{services.plant.site}-{name}"
    session = open_hub_session(
        url, client_id=client_id, patterns=_patterns(services)[name], services=services,
        may_join=lambda: lease.is_held,
    )  # fmt: skip
    plant = services.plant_ingest
    stores: dict[str, MessageStore] = {
        "jobs": services.job_requests, "evidence": services.rollouts.repository,
        "devices": services.device_ingest, CAMERAS: plant,
    }  # fmt: skip
    identify: Identify = messages_of
    if name == CAMERAS:
        names = DeliveryNames(
            services.records.documents, session=client_id, clock=services.clock,
            writing=lease.writing,
        )  # fmt: skip
        identify = partial(with_names, names=names, is_timeless=plant.is_timeless)
    return Reader(
        name, session=session, store=stores[name], failures=services.failures, identify=identify,
        threads=_PLANT_THREADS if name == CAMERAS else 1,
    )  # fmt: skip


def bus_sessions(services: Services) -> dict[str, tuple[str, ...]]:
    """Return the patterns of each session that the hub keeps at the bus, by its client id."""
    bridged = tuple(dict.fromkeys(one.mqtt for one in services.config.kafka.bridge))
    wanted = _patterns(services) | ({"kafka": bridged} if bridged else {})
    return {f"hub-{services.plant.site}-{name}": one for name, one in wanted.items()}


def begin_sessions(url: str, *, services: Services) -> bool:
    """Let the broker keep messages for every session from now on; True where it agreed to all."""
    with ExitStack() as stack:
        opened = [
            stack.enter_context(
                closing(open_hub_session(url, client_id=name, patterns=one, services=services))
            )
            for name, one in bus_sessions(services).items()
        ]
        return all(session.agreed() for session in opened)


def _patterns(services: Services) -> dict[str, tuple[str, ...]]:
    """Subscriptions of each reader."""
    site, router = services.plant.site, Router(services.plant)
    return {
        "jobs": JOB_TOPICS,
        "evidence": (f"lineside/{site}/device/+/evidence",),
        "devices": (
            f"lineside/{site}/+/+/prediction",
            f"lineside/{site}/+/verdict",
            f"lineside/{site}/device/+/status",
        ),
        CAMERAS: router.patterns(unrouted=services.config.strays),
    }


def open_hub_session(
    url: str, *, client_id: str, patterns: tuple[str, ...], services: Services,
    may_join: Callable[[], bool] = lambda: True,
) -> BusSession:  # fmt: skip
    """A session whose patterns of before, which the plant file may not have any more, are known.

    They are forgotten only when the broker said that it forgot them.
    """
    documents = services.records.documents
    former = _former_patterns(documents, client_id)
    both = tuple(dict.fromkeys([*former, *patterns]))
    documents.put(_SESSION_KIND, client_id, body={"patterns": list(both)})
    session = open_session(
        url, client_id=client_id, patterns=patterns, clock=services.clock, former=former,
        may_join=may_join,
    )  # fmt: skip
    if session.agreed() and both != patterns:
        documents.put(_SESSION_KIND, client_id, body={"patterns": list(patterns)})
    return session


def _former_patterns(documents: Documents, client_id: str) -> tuple[str, ...]:
    try:
        return tuple(documents.get(_SESSION_KIND, client_id).body["patterns"])
    except NotFoundError:
        return ()


class BrokerLosses:
    """Counter of messages that an outside broker dropped since it began, for any of its clients.

    mosquitto says it (mosquitto(8), broker status). A queue that was too short for the hub shows
    nowhere else: the broker acknowledges to the sender what it drops then.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._first: int | None = None
        self.count = 0
        self._worker = Worker("broker-losses", self._read)

    def start(self) -> None:
        """Begin."""
        self._worker.start()

    def stop(self) -> None:
        """End."""
        self._mailbox.close()
        self._worker.stop()

    def _read(self) -> None:
        message = self._mailbox.get(timeout_s=None)
        if message is None:  # closed, here or together with its bus
            self._worker.request_stop()
            return
        text = message.payload.decode("ascii", errors="replace")
        if not text.isdigit():
            return
        if self._first is not None and int(text) > self.count == self._first:
            logger.warning(
                "the broker drops messages dropped=%s: what may wait there for a client is too"
                " little (max_queued_messages of mosquitto), or they are of quality 0",
                text,
            )
        self.count = int(text)
        self._first = self.count if self._first is None else self._first


def watch_losses(bus: Bus) -> BrokerLosses | None:
    """A counter of dropped messages, not started; None where the broker does not publish it."""
    try:
        return BrokerLosses(bus.subscribe((_DROPPED,), qos=0, size=1, name="dropped"))
    except RefusedError:
        return None
