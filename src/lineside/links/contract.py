"""Contracts of live connections: message buses and cameras, whichever protocol carries them.

1. What is stored comes through a ``BusSession``: the broker keeps each message until its reader
   has stored it and acknowledged it. What is worthless when nobody fetches it in time comes through
   a ``Mailbox``, which is bounded, drops its oldest message and counts it.
2. Loss and return of the connection are handled inside, logged once each; a subscription
   survives them.
3. ``publish`` returns when the broker has taken the message over (QoS 1 and 2), raises
   ``UnavailableError`` when that did not happen within the deadline.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lineside.core import Box, InvalidError
from lineside.vision import Frame, encode_jpeg, open_frame
from lineside.vision.picture import cut_out

Qos = Literal[0, 1, 2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of the bus.

    Attributes:
        arrived_s: the receiver's monotonic clock.
        delivery: a name that the message keeps when the broker sends it once more, for those that
            cannot be told by what they say; empty: it was given none.
    """

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    arrived_s: float = 0.0
    delivery: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message that the broker keeps until it is acknowledged.

    Attributes:
        mid: the packet identifier, which no other message of the session has until then; 0 for a
            message of quality 0, which nobody keeps.
        connection: counts how often the session was joined.
        again: the broker says that it sends this message once more (flag DUP).
    """

    message: Message
    mid: int
    connection: int
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """Message that the broker publishes in our name when we vanish."""

    topic: str
    payload: bytes
    qos: Qos = 1
    retain: bool = True


WillSource = Will | Callable[[int], Will] | None
"""A last will, or the one of each connection: it is given how many there were before."""


def will_of(source: WillSource, *, connections: int) -> Will | None:
    """Return the last will of the connection that follows so many."""
    return source(connections) if callable(source) else source


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxFigures:
    """Counts since the mailbox or session was opened."""

    received: int
    handed_out: int
    dropped: int
    waiting: int


class Mailbox(Protocol):
    """A bounded queue of messages, filled by the bus, emptied by one reader."""

    def get(self, *, timeout_s: float | None) -> Message | None:
        """The oldest message; None when nothing came in time or the mailbox was closed."""
        ...

    def get_many(self, *, most: int, timeout_s: float | None) -> list[Message]:
        """Wait for one, then take what is there, up to ``most``."""
        ...

    def figures(self) -> MailboxFigures:
        """Counts, for metrics."""
        ...

    def close(self) -> None:
        """Stop the subscription; waiting readers get None."""
        ...


class BusSession(Protocol):
    """A subscription that outlives its reader: the broker keeps what was not acknowledged.

    1. A session is known by its client id. One program at a time reads it; a second one that opens
       it takes it over, with everything that was not acknowledged.
    2. Neither ``close`` nor a lost connection ends the subscription. Messages of quality 1 and 2
       that come meanwhile are kept by the broker, within the broker's own limits.
    3. Messages of one sender come in its order. A message may come twice, after a reader ended or
       a connection broke before the broker heard of the acknowledgement: ``Delivery.again``.
    4. The broker sends a limited number of messages ahead of their acknowledgement; the others
       wait there. A message of quality 0 that finds no room is dropped and counted; that is logged
       when it begins and when it ends.
    """

    def take(self, *, most: int, timeout_s: float) -> list[Delivery]:
        """The oldest messages that wait, up to ``most``; none when none came in time.

        Returns as soon as one is there; after ``stop`` it returns none, at once.
        """
        ...

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Let the broker forget these, which are stored now; those of an earlier join come again.

        The broker is told in the order in which it sent them, whatever the order of the calls.
        """
        ...

    def figures(self) -> MailboxFigures:
        """Counts, for metrics."""
        ...

    def connected(self) -> bool:
        """Return whether the broker answers right now."""
        ...

    def connections(self) -> int:
        """Return the number of connections so far; it grows when one was lost."""
        ...

    def agreed(self) -> bool:
        """Return whether the broker confirmed the patterns, and that it forgot those of before."""
        ...

    def stop(self) -> None:
        """Hand out nothing more. What was taken can still be acknowledged."""
        ...

    def close(self) -> None:
        """Tell the broker what was acknowledged, then leave; it keeps the session."""
        ...


class Bus(Protocol):
    """A client of a message bus; safe from several threads."""

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: Qos = 1,
        retain: bool = False,
        timeout_s: float = 5.0,
    ) -> None:
        """Hand one message over."""
        ...

    def publish_soon(
        self, topic: str, payload: bytes, *, qos: Qos = 1, retain: bool = False
    ) -> Callable[[], bool] | None:
        """Hand one message to the client without waiting for the broker.

        None, and nothing was taken, while the bus is away or too many messages are under way.
        Else a function that says whether the broker acknowledged the message by now. Who needs
        more than that waits for the receiver's own answer.
        """
        ...

    def subscribe(
        self, topics: tuple[str, ...], *, qos: Qos = 1, size: int = 1000, name: str = ""
    ) -> Mailbox:
        """Receive what matches these patterns in a mailbox that drops its oldest when full.

        A retained message may come again when another subscription of the same client begins.
        """
        ...

    def connected(self) -> bool:
        """Return whether the broker answers right now."""
        ...

    def connections(self) -> int:
        """Return the number of connections so far; it grows when one was lost."""
        ...

    def close(self) -> None:
        """Leave; the last will is not sent."""
        ...


LONGEST_PART = 200
"""Most characters of a part id."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shot:
    """A picture as it came, not looked at yet: what decides whether it is worth opening.

    Attributes:
        captured_at: aware UTC; the camera's own time, or the time of arrival.
        own_time: whether ``captured_at`` is the camera's; False for bare picture bytes.
        encoded: JPEG or PNG bytes; empty where the source gives pixels.
        image: (height, width, 3) uint8 RGB, where the source gives pixels.
        arrived_s: monotonic time of arrival.
        rotate_deg, crop_px: as of the plant file's camera, made when it is opened.
    """

    camera: str
    captured_at: datetime
    own_time: bool = True
    encoded: bytes = b""
    image: NDArray[np.uint8] | None = None
    sequence: int = 0
    part: str = ""
    arrived_s: float = 0.0
    max_bytes: int = 8_000_000
    rotate_deg: int = 0
    crop_px: Box | None = None

    def open(self) -> Frame:
        """Decode it. Pixels are encoded first, so that what is judged is what can be kept.

        Raises:
            InvalidError: the bytes are no picture, or too large, or the crop reaches beyond it.
        """
        image = self.image
        if self.rotate_deg or self.crop_px is not None:
            if image is None:
                image = replace(self, rotate_deg=0, crop_px=None).open().image
            image = cut_out(image, rotate_deg=self.rotate_deg, box=self.crop_px, camera=self.camera)
        encoded = encode_jpeg(image) if image is not None else self.encoded
        return open_frame(
            encoded,
            camera=self.camera,
            captured_at=self.captured_at,
            sequence=self.sequence,
            part=self.part,
            max_bytes=self.max_bytes,
        )


Refused = Callable[[str, str], None]
"""Told of each message that gave no picture: a short reason to count by, and a sentence."""


class Camera(Protocol):
    """A source of pictures.

    Opening one that cannot work raises ``UnavailableError`` (try later), ``RefusedError`` (wrong
    credentials), or ``InvalidError`` and ``NotFoundError`` (hopeless). A live source that is lost
    later is opened again inside; loss and return are logged once each.
    """

    def shots(self) -> Iterator[Shot]:
        """Pictures until the source ends or ``close`` is called, in capture order.

        A live source drops its oldest waiting shot when they are not taken fast enough.
        """
        ...

    def frames(self) -> Iterator[Frame]:
        """The same, opened; what cannot be opened is refused and passed over."""
        ...

    def dropped(self) -> int:
        """Return how many shots were not taken in time."""
        ...

    def fault(self) -> str:
        """Return why no pictures come right now, in words; "" while the source is connected."""
        ...

    def trigger(self) -> None:
        """Take a picture now, where the camera waits for that; others take no notice."""
        ...

    def close(self) -> None:
        """End ``shots`` and free the source; safe from another thread."""
        ...


class BoundedMailbox:
    """Filled by the bus with ``put``, emptied by one reader; see ``contract.Mailbox``.

    What was received before ``close`` can still be taken; after that readers get None at once.
    """

    def __init__(self, *, size: int, on_close: Callable[[], None] | None = None) -> None:
        if size < 1:
            raise InvalidError(f"{size} is no mailbox size", where="size", fix="Give 1 or more.")
        self._waiting: deque[Message] = deque(maxlen=size)
        self._changed = threading.Condition()
        self._on_close = on_close
        self._closed = False
        self._received = 0
        self._taken = 0
        self._dropped = 0

    def put(self, message: Message) -> None:
        """Add one message; never blocks."""
        with self._changed:
            if self._closed:
                return
            self._received += 1
            if len(self._waiting) == self._waiting.maxlen:
                self._dropped += 1
            self._waiting.append(message)
            self._changed.notify()

    def get(self, *, timeout_s: float | None) -> Message | None:
        taken = self.get_many(most=1, timeout_s=timeout_s)
        return taken[0] if taken else None

    def get_many(self, *, most: int, timeout_s: float | None) -> list[Message]:
        deadline_s = None if timeout_s is None else monotonic() + timeout_s
        with self._changed:
            while not self._waiting and not self._closed:
                left_s = None if deadline_s is None else deadline_s - monotonic()
                if left_s is not None and left_s <= 0:
                    return []
                self._changed.wait(left_s)
            taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._taken += len(taken)
            return taken

    def figures(self) -> MailboxFigures:
        with self._changed:
            return MailboxFigures(
                received=self._received,
                handed_out=self._taken,
                dropped=self._dropped,
                waiting=len(self._waiting),
            )

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        if self._on_close is not None:
            self._on_close()
