"""SIGTERM and Ctrl-C become an event that a program waits on.

A program that SIGTERM ends did what it was told (exit code 0); Ctrl-C makes it leave with 130.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lineside.cli.output import explain
from lineside.core import LinesideError


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Give an event that is set by SIGTERM or SIGINT; the old handlers come back afterwards.

    Raises:
        KeyboardInterrupt: at the end of the block, where SIGINT was received.
    """
    stop, interrupted = threading.Event(), threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  the handler's form
        stop.set()
        if number == signal.SIGINT:
            interrupted.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    except LinesideError as error:
        if not interrupted.is_set():
            raise
        explain(error)  # such as: cancelled, and how to go on
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if interrupted.is_set():
        raise KeyboardInterrupt
