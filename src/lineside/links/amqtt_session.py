"""State of one client of the embedded broker, which outlives its connection; no I/O.

1. Messages are sent in the order they came, at most ``in_flight`` of them unanswered. What was sent
   and not answered when the connection ended is sent again, with the same number (MQTT-4.4.0-1).
2. What waits is bounded in messages and bytes: beyond that the oldest go, and are counted. A
   message whose sender waits for the answer (``Receipt``) is never dropped; its sender is slowed
   down.
3. Numbers of messages in with quality 2 are kept until PUBREL, also over a lost connection
   (MQTT 3.1.1, 4.3.3): a client that comes back before it had PUBREC sends again, and is answered.
4. A question is worth one answer (``Questions``): the one with its ``clientToken``, or where it has
   none the next one without. Questions end with the connection that asked.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from lineside.core import LinesideError, decode_json
from lineside.core.topics import topic_matches
from lineside.links.broker_contract import AuthenticatedDevice, BrokerLimits
from lineside.links.bus_access import TopicAccess

_ANSWERS = ("accepted", "rejected")
_MOST_QUESTIONS = 10_000
_MOST_NUMBER = 65_535
_MOST_QUESTION_BYTES = 131_072


class Receipt:
    """Counts the readers that have yet to store one message; then its sender is answered."""

    def __init__(self, *, answer: Callable[[], None], give_up: Callable[[], None]) -> None:
        """Take what is called once: when all have stored it, or when one never will."""
        self._answer = answer
        self._give_up = give_up
        self._open = 0
        self._over = False

    def expect(self) -> None:
        """One reader more."""
        self._open += 1

    def settle(self) -> None:
        """A reader has stored it."""
        self._open -= 1
        self.answer_if_stored()

    def answer_if_stored(self) -> None:
        """Answer, unless a reader is expected to store it."""
        if self._open <= 0 and not self._over:
            self._over = True
            self._answer()

    def fail(self) -> None:
        """A reader is gone for good: the sender hears no answer, and has to send again."""
        if not self._over:
            self._over = True
            self._give_up()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parcel:
    """One message for one session."""

    topic: str
    data: bytes
    qos: int
    retain: bool = False
    receipt: Receipt | None = None


@dataclass(slots=True, kw_only=True)
class Counts:
    """Events since the broker was started."""

    received: int = 0
    delivered: int = 0
    dropped: int = 0
    cut_off: int = 0
    refused: int = 0
    oversized: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class Session:
    """One client by its id.

    Attributes:
        clean: nothing is kept without a connection.
        own: of the broker's own process, which stores what it acknowledges.
        device: the device that came in by certificate.
        access: what it may say and hear; None: everything.
        subscriptions: granted quality by pattern.
        received: numbers of messages in with quality 2, and whether they are stored.
        left_s: when its connection ended; None while there is one.
    """

    client_id: str
    clean: bool
    own: bool
    limits: BrokerLimits
    counts: Counts
    device: AuthenticatedDevice | None = None
    access: TopicAccess | None = None
    subscriptions: dict[str, int] = field(default_factory=dict)
    received: dict[int, bool] = field(default_factory=dict)
    left_s: float | None = None
    held_bytes: int = 0
    _waiting: deque[Parcel] = field(default_factory=deque)
    _sent: dict[int, Parcel] = field(default_factory=dict)
    _released: dict[int, Parcel] = field(default_factory=dict)
    _number: int = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent) + len(self._released)

    def keeps(self, parcel: Parcel) -> bool:
        """Return whether a message is for it: it is connected, or keeps this one meanwhile."""
        return self.left_s is None or (not self.clean and parcel.qos > 0)

    def put(self, parcel: Parcel) -> None:
        """Let a message wait; the oldest go where it is more than may be held."""
        self._waiting.append(parcel)
        self.held_bytes += len(parcel.data)
        while self._is_over() and self._drop_oldest():
            self.counts.dropped += 1

    def take(self) -> tuple[Parcel, int] | None:
        """The next message to send with its number, 0 for quality 0; None while it has to wait."""
        if not self._waiting:
            return None
        parcel = self._waiting[0]
        if not parcel.qos:
            self._waiting.popleft()
            self._forget(parcel)
            return parcel, 0
        if len(self._sent) + len(self._released) >= self.limits.in_flight:
            return None
        self._waiting.popleft()
        number = self._next_number()
        self._sent[number] = parcel
        return parcel, number

    def again(self) -> Iterator[tuple[Parcel | None, int]]:
        """After a return: what was not answered, then (None) numbers whose PUBREL is due."""
        yield from [(parcel, number) for number, parcel in self._sent.items()]
        yield from [(None, number) for number in self._released]

    def acknowledge(self, number: int) -> None:
        """PUBACK: the message is the reader's now."""
        self._settle(self._sent.pop(number, None))

    def release(self, number: int) -> bool:
        """PUBREC; whether PUBREL is the answer."""
        parcel = self._sent.pop(number, None)
        if parcel is not None:
            self._released[number] = parcel
        return number in self._released

    def complete(self, number: int) -> None:
        """PUBCOMP."""
        self._settle(self._released.pop(number, None))

    def end(self) -> None:
        """Forget everything; senders that wait for an answer are told that none comes."""
        for parcel in (*self._waiting, *self._sent.values(), *self._released.values()):
            if parcel.receipt is not None:
                parcel.receipt.fail()
        self._waiting.clear()
        self._sent.clear()
        self._released.clear()
        self.subscriptions.clear()
        self.held_bytes = 0

    def granted(self, topic: str) -> int | None:
        """The best quality at which it hears a topic (MQTT-3.3.5-1); None where it does not."""
        found = self.subscriptions.get(topic, -1)
        for pattern, qos in self.subscriptions.items():
            if qos > found and topic_matches(pattern, topic):
                found = qos
        return found if found >= 0 else None

    def _settle(self, parcel: Parcel | None) -> None:
        if parcel is None:
            return
        self._forget(parcel)
        if parcel.receipt is not None:
            parcel.receipt.settle()

    def _forget(self, parcel: Parcel) -> None:
        self.held_bytes -= len(parcel.data)
        self.counts.delivered += 1

    def _is_over(self) -> bool:
        limits = self.limits
        return len(self) > limits.outbox_messages or self.held_bytes > limits.outbox_bytes

    def _drop_oldest(self) -> bool:
        for place, parcel in enumerate(self._waiting):
            if parcel.receipt is None:
                del self._waiting[place]
                self.held_bytes -= len(parcel.data)
                return True
        return False

    def _next_number(self) -> int:
        while True:
            self._number = self._number % _MOST_NUMBER + 1
            if self._number not in self._sent and self._number not in self._released:
                return self._number


class Questions:
    """Who asked, for clients that rely on an answer without a subscription.

    The broker of AWS hands ``T/accepted`` and ``T/rejected`` to whoever published to ``T``. The
    oldest questions are forgotten beyond ``_MOST_QUESTIONS``.
    """

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._patterns = patterns
        self._asked: OrderedDict[int, tuple[tuple[str, str], Session, int]] = OrderedDict()
        self._by_key: dict[tuple[str, str], deque[int]] = {}
        self._count = 0

    def note(self, topic: str, payload: bytes, *, by: Session, qos: int) -> None:
        """Somebody published here."""
        if topic.endswith(_ANSWERS) or not any(topic_matches(one, topic) for one in self._patterns):
            return
        key = topic, _token(payload)
        self._count += 1
        self._asked[self._count] = key, by, qos
        self._by_key.setdefault(key, deque()).append(self._count)
        if len(self._asked) > _MOST_QUESTIONS:
            self._remove(next(iter(self._asked)))

    def take(self, topic: str, payload: bytes) -> tuple[Session, int] | None:
        """Who is to get this answer too, and with which quality."""
        asked, _, last = topic.rpartition("/")
        if last not in _ANSWERS:
            return None
        numbers = self._by_key.get((asked, _token(payload)))
        if not numbers:
            return None
        _, session, qos = self._asked[numbers[0]]
        self._remove(numbers[0])
        return session, qos

    def forget(self, session: Session) -> None:
        """Its connection ended: nobody hears the answers any more."""
        for number in [n for n, (_, by, _) in self._asked.items() if by is session]:
            self._remove(number)

    def _remove(self, number: int) -> None:
        key, _, _ = self._asked.pop(number)
        numbers = self._by_key[key]
        numbers.remove(number)
        if not numbers:
            del self._by_key[key]


def _token(payload: bytes) -> str:
    """The ``clientToken`` that an answer repeats; "" where there is none."""
    if not payload or len(payload) > _MOST_QUESTION_BYTES:
        return ""
    try:
        told = decode_json(payload, where="question")
    except LinesideError:
        return ""
    token = told.get("clientToken") if isinstance(told, dict) else None
    return token if isinstance(token, str) else ""
