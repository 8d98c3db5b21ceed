"""The bounded queue between a bus and its reader: drops its oldest message when full."""

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from lineside.core import InvalidError
from lineside.links.contract import MailboxFigures, Message


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
                taken=self._taken,
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
