"""Who asked, so that the answer reaches them without a subscription.

The broker of AWS hands ``T/accepted`` and ``T/rejected`` to whoever published to ``T``, whether
subscribed or not, and there are clients that rely on it. Rules:

1. Only below the patterns handed in, and only for what the hub itself says.
2. Each question is worth one answer, to the connection that asked; the oldest question first.
3. At most ``_MOST_TOPICS`` topics and ``_MOST_ASKERS`` questions of one topic are remembered, the
   oldest are forgotten; a session that ended is not kept.
"""

import weakref
from collections import OrderedDict, deque
from dataclasses import dataclass

from amqtt.session import Session

from lineside.links.topics import topic_matches

_ANSWERS = ("accepted", "rejected")
_MOST_TOPICS = 10_000
_MOST_ASKERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    session: "weakref.ref[Session]"
    qos: int


class Askers:
    """Lives with one broker, on its event loop."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._patterns = patterns
        self._questions: OrderedDict[str, deque[_Question]] = OrderedDict()

    def note(self, topic: str, session: Session, *, qos: int) -> None:
        """Somebody published here."""
        if topic.endswith(_ANSWERS) or not self._covers(topic):
            return
        waiting = self._questions.setdefault(topic, deque(maxlen=_MOST_ASKERS))
        waiting.append(_Question(session=weakref.ref(session), qos=qos))
        self._questions.move_to_end(topic)
        if len(self._questions) > _MOST_TOPICS:
            self._questions.popitem(last=False)

    def take(self, topic: str) -> tuple[Session, int] | None:
        """Who is to get this answer too, and with which QoS."""
        asked, _, last = topic.rpartition("/")
        waiting = self._questions.get(asked) if last in _ANSWERS else None
        if not waiting:
            return None
        question = waiting.popleft()
        if not waiting:
            del self._questions[asked]
        session = question.session()
        return None if session is None else (session, question.qos)

    def _covers(self, topic: str) -> bool:
        return any(topic_matches(pattern, topic) for pattern in self._patterns)
