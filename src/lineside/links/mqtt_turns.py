"""The network turns of a paho client, taken by a thread of ours.

paho's own loop waits in ``select``, which fails above 1024 open files, sleeps a whole second when
it is to end, and leaves its wake-up sockets to the garbage collector.
"""

import contextlib
import os
import select
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import paho.mqtt.client as paho


class Turns:
    """One thread takes turns, any thread wakes it; closed by the thread that takes turns."""

    def __init__(self, client: "paho.Client") -> None:
        self._client = client
        self._lock = threading.Lock()
        self._open = False
        self._read_end = -1
        self._write_end = -1
        # With this callback set, paho leaves all writing to the thread that takes turns.
        client.on_socket_register_write = self._wanted

    def open(self) -> None:
        """Make the wake-up pipe."""
        self._read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._open = True

    def close(self) -> None:
        """Free the pipe, and the socket if it is still there."""
        with self._lock:
            self._open = False
            os.close(self._read_end)
            os.close(self._write_end)
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def wake(self) -> None:
        """End the wait of the turn under way."""
        with self._lock, contextlib.suppress(BlockingIOError):
            if self._open:
                os.write(self._write_end, b"\0")

    def turn(self, *, timeout_s: float, read: bool = True) -> bool:
        """Wait, then read and write what is due; False when the connection is gone.

        Without ``read`` what arrives stays with the network, which slows the broker down.
        """
        sock = self._client.socket()
        if sock is None:
            return False
        readable = self._wait(sock, timeout_s=timeout_s, read=read)
        if readable and self._client.loop_read() != 0:
            return False
        if self._client.want_write() and self._client.loop_write() != 0:
            return False
        return self._client.loop_misc() == 0 and self._client.socket() is not None

    def _wait(self, sock: "paho.SocketLike", *, timeout_s: float, read: bool) -> bool:
        """Whether there may be something to read; errors show when reading."""
        pending = getattr(sock, "pending", None)  # of a TLS socket: decrypted already
        if read and pending is not None and pending():
            return True
        try:
            handle = sock.fileno()
            poll = select.poll()
            events_wanted = (select.POLLIN * read) | (select.POLLOUT * self._client.want_write())
            poll.register(handle, events_wanted)
            poll.register(self._read_end, select.POLLIN)
            events = dict(poll.poll(timeout_s * 1000))
        except (OSError, ValueError):
            return True
        if self._read_end in events:
            os.read(self._read_end, 4096)
        return bool(events.get(handle, 0) & ~select.POLLOUT)

    def _wanted(self, *_: object) -> None:
        self.wake()
