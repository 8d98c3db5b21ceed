"""What is live: a message bus and cameras, whichever protocol carries them.

1. A subscription hands messages to a bounded mailbox; what does not fit is dropped by a stated
   rule and counted, never queued without limit.
2. Loss and return of the connection are handled inside, logged once each; a subscription
   survives them.
3. ``publish`` returns when the broker has taken the message over (QoS 1 and 2), raises
   ``UnavailableError`` when that did not happen within the deadline.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lineside.vision import Frame, encode_jpeg, open_frame

Qos = Literal[0, 1, 2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of the bus. ``arrived_s`` is the receiver's monotonic clock."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    arrived_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker says in our name when we vanish."""

    topic: str
    payload: bytes
    qos: Qos = 1
    retain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxFigures:
    """Counts since the mailbox was made."""

    received: int
    taken: int
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
    ) -> bool:
        """Hand one message to the client without waiting for the broker.

        False, and nothing was taken, while the bus is away or too many messages are under way.
        True promises nothing about delivery: who needs it waits for the receiver's own answer.
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
        """Whether the broker answers right now."""
        ...

    def connections(self) -> int:
        """How often the broker was joined; a higher number means it was lost in between."""
        ...

    def close(self) -> None:
        """Leave; the last will is not sent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shot:
    """A picture as it came, not looked at yet: what decides whether it is worth opening.

    Attributes:
        captured_at: aware UTC; the camera's own time, or the time of arrival.
        own_time: whether ``captured_at`` is the camera's; False for bare picture bytes.
        encoded: JPEG or PNG bytes; empty where the source gives pixels.
        image: (height, width, 3) uint8 RGB, where the source gives pixels.
        arrived_s: monotonic time of arrival.
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

    def open(self) -> Frame:
        """Decode it. Pixels are encoded first, so that what is judged is what can be kept.

        Raises:
            InvalidError: the bytes are no picture, or too large.
        """
        encoded = encode_jpeg(self.image) if self.image is not None else self.encoded
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
        """How many shots were not taken in time."""
        ...

    def close(self) -> None:
        """End ``shots`` and free the source; safe from another thread."""
        ...
