"""How logs are written: for people on a terminal, for the journal where it listens.

systemd names its socket in ``JOURNAL_STREAM`` as ``device:inode`` of the stream (systemd.exec(5)).
A line for the journal begins with its priority (sd-daemon(3)) and leaves out the time, which the
journal has; a trace is one entry, each of its lines with the priority.
"""

import logging
import os
import sys
from collections.abc import Mapping
from typing import TextIO

_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
_DEBUG = 7


class JournalFormatter(logging.Formatter):
    """``<6>lineside.edge.run: device started device=edge-1``."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        mark = f"<{priority_of(record.levelno)}>"
        return "\n".join(mark + line for line in super().format(record).splitlines() or [""])


def priority_of(level: int) -> int:
    """The number that syslog gives a level."""
    return next((number for least, number in _PRIORITIES if level >= least), _DEBUG)


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether a stream leads to the journal."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        there = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(there.st_dev), str(there.st_ino))


def set_up(*, level: int, environ: Mapping[str, str]) -> None:
    """Logs of the whole program, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    journal = is_journal(sys.stderr, environ)
    people = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler.setFormatter(JournalFormatter() if journal else people)
    logging.basicConfig(level=level, handlers=[handler])
