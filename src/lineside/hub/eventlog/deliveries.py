"""Names of MQTT deliveries that survive a kill, for messages that say no time of their own.

1. A message gets its name before it is passed on, and the name is written down before that.
2. What the broker sends once more (flag DUP) under the packet identifier and with the words of a
   message that was named gets that one's name: whoever reads what was passed on tells by it that
   both are one (MQTT 3.1.1, 2.3.1 and 3.3.1.1: until it is acknowledged, a message keeps its
   identifier, and nothing else gets it).
3. An acknowledgement may be lost with the hub, so names are kept for a while behind it. A broker
   that gives an identifier away again at once can thus make one of two messages: where the second
   has the same words, was sent into a connection that broke, and its like had just been
   acknowledged. mosquitto counts its identifiers up, so there it takes 65,535 messages.
4. Of several hubs only the one that may read the session names its messages: what another one still
   has in hand, the broker hands out again.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from lineside.core import (
    Clock,
    ConflictError,
    Json,
    NotFoundError,
    UnavailableError,
    digest_of,
    new_id,
)
from lineside.links import Delivery
from lineside.store import Documents

Writing = Callable[[], AbstractContextManager[None]]

MOST_NAMES = 500
_KIND = "mqtt-deliveries"


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A message that was named: its packet identifier, the digest of topic and payload, its name.

    ``words`` tells messages apart, it proves nothing; a part of the digest is enough.
    """

    mid: int
    words: str
    name: str


def words_of(delivery: Delivery) -> str:
    """What a message says, in short."""
    message = delivery.message
    digest = digest_of(message.topic.encode() + b"\0" + message.payload)
    return digest.removeprefix("sha256:")[:16]


def name_all(
    deliveries: Sequence[Delivery], known: Sequence[Named], *, fresh: Callable[[], str]
) -> tuple[list[str], list[Named]]:
    """A name for each message, and what is to be remembered, oldest first.

    A message of quality 0 is sent once, and has no name.
    """
    remembered = {one.mid: one for one in known}
    names = []
    for one in deliveries:
        if not one.message.qos:
            names.append("")
            continue
        words, held = words_of(one), remembered.pop(one.mid, None)
        same = one.again and held is not None and held.words == words
        name = held.name if same and held is not None else fresh()
        remembered[one.mid] = Named(mid=one.mid, words=words, name=name)
        names.append(name)
    return names, list(remembered.values())[-MOST_NAMES:]


class Deliveries:
    """The names of one MQTT session; used by one thread."""

    def __init__(
        self, documents: Documents, *, session: str, clock: Clock, writing: Writing = nullcontext
    ) -> None:
        """``writing``: a transaction of the hub that may read the session, or a conflict."""
        self._writing = writing
        self._documents = documents
        self._session = session
        self._clock = clock
        self._known: list[Named] | None = None

    def names(self, deliveries: Sequence[Delivery]) -> list[str]:
        """A name for each message, written down when this returns; "" where it has none.

        Raises:
            UnavailableError: the store is away, or another hub reads the session; ask again.
        """
        known = self._loaded()
        names, remembered = name_all(
            deliveries, known, fresh=lambda: new_id("dlv", clock=self._clock)
        )
        if remembered != known:
            told: list[list[Json]] = [[one.mid, one.words, one.name] for one in remembered]
            self._keep(told)
            self._known = remembered
        return names

    def _keep(self, told: list[list[Json]]) -> None:
        try:
            with self._writing():
                self._documents.put(_KIND, self._session, body={"named": told})
        except ConflictError as error:
            raise UnavailableError(error.message, where=error.where, fix=error.fix) from error

    def _loaded(self) -> list[Named]:
        if self._known is None:
            self._known = self._read()
        return self._known

    def _read(self) -> list[Named]:
        try:
            told = self._documents.get(_KIND, self._session).body["named"]
        except NotFoundError:
            return []
        return [Named(mid=mid, words=words, name=name) for mid, words, name in told]
