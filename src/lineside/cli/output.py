"""Shared parts of the commands: results, questions, errors, passwords, signals, logs, units.

1. Results go to stdout, everything else to stderr; a failure is a sentence with its fix.
2. SIGTERM and Ctrl-C become an event that a program waits on. A program that SIGTERM ends leaves
   with exit code 0, Ctrl-C makes it leave with 130.
3. A password is never a word of the command line.
4. Under systemd a log line carries its priority, and the journal the time.
"""

import logging
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Annotated, Literal, TextIO, TypeVar

import msgspec
import typer

from lineside.core import (
    InvalidError,
    LinesideError,
    NotFoundError,
    encode,
    parse_rfc3339,
    rfc3339,
    to_plain,
)
from lineside.core.clock import require_order
from lineside.core.processes import STATE_FOLDER, unit_file
from lineside.core.worker import Worker

T = TypeVar("T")
Command = Callable[..., None]

_SIGNAL_CHECK_S = 1.0
_NO_SIGNAL = 0

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
COMMAND_LINE = "command line"
"""Who did it, where a command names nobody."""


def add_commands(
    app: typer.Typer, noun: str, line: str, commands: Mapping[str, Command]
) -> typer.Typer:
    """Add a group of commands; the group."""
    group = typer.Typer(help=line, no_args_is_help=True)
    for name, command in commands.items():
        group.command(name)(command)
    app.add_typer(group, name=noun)
    return group


def show(result: T, *, as_json: bool, text: Callable[[T], str]) -> None:
    """Print a result: as JSON for programs, as text for people."""
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(to_plain(result))).decode() + "\n")
    else:
        sys.stdout.write(text(result).rstrip("\n") + "\n")


def say(line: str) -> None:
    """Progress and remarks, on stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def ask(question: str, *, yes: bool) -> None:
    """Go on where a person agrees, or ``--yes`` was given.

    Raises:
        InvalidError: neither, and no terminal is there to ask at.
        typer.Abort: the person does not agree.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidError(
            f"{question} Nobody is there to ask", where="--yes", fix="Add --yes to do it unasked."
        )
    typer.confirm(question, abort=True, err=True)


def explain(error: LinesideError) -> None:
    """A failure in words: what and where, every fault, how to fix."""
    place = f" ({error.where})" if error.where else ""
    say(f"error: {error.message}{place}")
    if len(error.faults) > 1:
        for fault in error.faults:
            say(f"  - {fault}")
    if error.fix:
        say(f"fix: {error.fix}")


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows as aligned columns."""
    if not rows:
        return ""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def writable(path: Path | None) -> None:
    """Refuse an output file that could not be written, before any work is done for it."""
    if path is None:
        return
    if path.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise NotFoundError(
            "no file can be written there", where=str(path), fix="Name a file in a folder of yours."
        )


def read_file(path: Path) -> bytes:
    """The bytes of a file that was named.

    Raises:
        NotFoundError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"cannot be read: {str(error.strerror).lower()}", where=str(path), fix="Name a file."
        ) from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def read_settings(written: Sequence[str]) -> dict[str, float]:
    """Settings of a learner by name, written as ``NAME=NUMBER``."""
    found = {}
    for text in written:
        name, _, number = text.partition("=")
        try:
            found[name.strip()] = _finite(number)
        except ValueError as error:
            raise InvalidError(
                f"{text!r} is no setting", where="--setting", fix="Write it as epochs=20."
            ) from error
    return found


def read_seconds(text: str) -> float:
    """Seconds of ``--warm-up``, as typed."""
    try:
        return _finite(text)
    except ValueError as error:
        raise InvalidError(
            f"{text!r} is no number of seconds", where="--warm-up", fix="Write it as 60."
        ) from error


WarmUpOption = Annotated[
    float | None,
    typer.Option(
        "--warm-up", help="Seconds that rules begin before the span.", parser=read_seconds,
        metavar="SECONDS",
    ),
]  # fmt: skip


def read_span(since: str, until: str) -> tuple[datetime, datetime]:
    """A span of which both ends are given.

    Raises:
        InvalidError: an end is missing or no time, or the span ends before it begins.
    """
    if not (since and until):
        raise InvalidError("half a span", where="--from --to", fix="Give both --from and --to.")
    begin, end = parse_rfc3339(since, where="--from"), parse_rfc3339(until, where="--to")
    require_order(begin, end, where="--from --to")
    return begin, end


EngineOption = Annotated[
    Literal["onnxruntime", "openvino", "tensorrt"],
    typer.Option(help="What runs the network; openvino needs the extra of that name."),
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda", "gpu"],
    typer.Option(help="Processor it runs on: cuda of NVIDIA, gpu of Intel (openvino)."),
]


def read_password(file: Path | None) -> str:
    """From a file, from standard input, or typed twice.

    Raises:
        InvalidError: nobody can be asked, and no file is named.
    """
    if file is not None and str(file) != "-":
        with file.open(encoding="utf-8") as opened:
            return opened.readline().rstrip("\r\n")
    if file is not None:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise InvalidError(
            "no password, and nobody to ask",
            where="--password-file",
            fix="Name a file, or - for standard input.",
        )
    typed: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return typed


class _StopEvent(threading.Event):
    """An event that a signal sets, whichever thread the kernel hands the signal to.

    Python's handlers run in the main thread, and only when it is awake: one that waits without
    limit does not notice a signal that another thread received.
    """

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is not None:
            return super().wait(timeout)
        while not super().wait(_SIGNAL_CHECK_S):
            pass
        return True


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Give an event that is set by SIGTERM or SIGINT; the old handlers come back afterwards.

    Raises:
        KeyboardInterrupt: at the end of the block, where SIGINT was received.
    """
    stop, interrupted = _StopEvent(), threading.Event()
    received: SimpleQueue[int] = SimpleQueue()

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  the handler's form
        # Not ``stop.set()``: the main thread may hold the event's lock, and would wait for itself.
        received.put(number)

    def pass_on() -> None:
        with suppress(Empty):
            number = received.get(timeout=_SIGNAL_CHECK_S)
            if number == signal.SIGINT:
                interrupted.set()
            if number != _NO_SIGNAL:
                stop.set()

    worker = Worker("signals", pass_on)
    worker.start()
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
        worker.request_stop()
        received.put(_NO_SIGNAL)
        worker.join()
        while not received.empty():
            pass_on()
    if interrupted.is_set():
        raise KeyboardInterrupt


UnitUserOption = Annotated[str, typer.Option("--user", help="Whom the program runs as.")]


def show_unit(
    name: str, noun: str, *, config: Path | None, user: str, writable: Sequence[Path],
    own: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Print the unit of a program; what has to be made by hand goes to stderr."""
    if config is None:
        raise InvalidError("no configuration named", where="--config", fix="Name the TOML file.")
    program = Path(sys.argv[0]).absolute()
    called = [str(program)] if os.access(program, os.X_OK) else [sys.executable, "-m", "lineside"]
    text = unit_file(
        name, command=[*called, noun, "--config", str(config.absolute())], working=Path.cwd(),
        writable=writable, user=user, own=own,
    )  # fmt: skip
    show({"unit": text}, as_json=False, text=lambda found: found["unit"].rstrip())
    missing = [str(each) for each in writable if not each.exists() and each.parent != STATE_FOLDER]
    say(f"before the first start: useradd --system --shell /usr/sbin/nologin {user}")
    for folder in missing:
        say(f"before the first start: install -d -m 700 -o {user} {folder}")


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


_CONVERSION = re.compile(r"(?:\b(\w+)=)?(%(?:%|[-#0 +]*\d*(?:\.\d+)?[hlL]?[a-zA-Z]))")


def fields_of(record: logging.LogRecord) -> dict[str, str]:
    """Values that the message's format names, as ``camera=%s`` does, each as in the message.

    A value is not searched: ``by=eve`` within one is no field.
    """
    found = [one for one in _CONVERSION.findall(str(record.msg)) if one[1] != "%%"]
    if not isinstance(record.args, tuple) or len(found) != len(record.args):
        return {}
    values = zip(found, record.args, strict=True)
    return {name: form % (value,) for (name, form), value in values if name}


class JsonFormatter(logging.Formatter):
    """One JSON object on a line, with ``ts``, ``level``, ``logger``, ``message``.

    ``fields`` has the values that the message names, ``error`` the traceback, where there are any.
    """

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "ts": rfc3339(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        whole: dict[str, object] = _as_utf8(entry)
        if fields := fields_of(record):
            whole["fields"] = _as_utf8(fields)
        return encode(whole).decode()


def _as_utf8(texts: Mapping[str, str]) -> dict[str, object]:
    return {key: text.encode(errors="backslashreplace").decode() for key, text in texts.items()}


def priority_of(level: int) -> int:
    """The number that syslog gives a level."""
    return next((number for least, number in _PRIORITIES if level >= least), _DEBUG)


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return True where a stream leads to the journal."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        there = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(there.st_dev), str(there.st_ino))


def set_up_logging(*, level: int, as_json: bool, environ: Mapping[str, str]) -> None:
    """Logs of the whole program, to stderr: as JSON, in the journal's form, or for people."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    if as_json:
        formatter = JsonFormatter()
    elif is_journal(sys.stderr, environ):
        formatter = JournalFormatter()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler])
