"""Children of the hub: programs that it runs beside itself.

1. What a child needs or fails at takes nothing with it.
2. A hub that stops ends its child; the work is done after the next start. A child whose hub is gone
   ends by itself.
"""

import re
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lineside.core import InvalidError, UnavailableError
from lineside.core.drivers import SecretUrl
from lineside.core.processes import end_with_parent, inherited_environment
from lineside.core.worker import Worker

_KILL_AFTER_S = 10.0
_MOST_SAID = 500
_MOST_LINES = 20
_PERCENT = re.compile(rb"^\s*(\d+) %")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSettings:
    """Settings of the child processes of one kind.

    Attributes:
        folder: where they work.
        records_url, blobs_url: the stores that they open.
        command: what each adds its own arguments to.
    """

    folder: Path
    records_url: SecretUrl
    blobs_url: SecretUrl
    command: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        """Environment that names the stores: arguments are for everybody on the machine to read."""
        return {
            **inherited_environment(),
            "LINESIDE_RECORDS": self.records_url.reveal(),
            "LINESIDE_BLOBS": self.blobs_url.reveal(),
        }


class ChildRunner:
    """One child at a time: a thread waits for it, others may end it.

    ``percent`` is the progress that the child wrote last to its standard error (``40 %``).
    """

    def __init__(self, *, most_bytes: int, limit_s: float = threading.TIMEOUT_MAX) -> None:
        """Bound the child's output and time."""
        self.percent = 0.0
        self.is_closing = False
        self._most_bytes = most_bytes
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, command: Sequence[str], *, folder: Path, environment: Mapping[str, str]) -> bytes:
        """Return what a command wrote to its standard output, which is a file in the folder.

        Raises:
            InvalidError: it failed, with its own sentence, or wrote too much.
            UnavailableError: the hub stops, or it took too long.
        """
        messages: deque[str] = deque(maxlen=_MOST_LINES)
        output = folder / "found.json"
        with output.open("wb") as out:
            child = self._start(command, out=out.fileno(), environment=environment)
            limit = Worker(
                "child-limit", lambda: end_child(child), every_s=None, delay_s=self._limit_s
            )
            limit.start()
            try:
                assert child.stderr is not None  # noqa: S101  opened as a pipe
                with child.stderr:
                    for line in child.stderr:
                        self._hear(line, messages)
                code = child.wait()
            finally:
                is_late = limit.busy_s > 0 or not limit.is_alive
                limit.stop()
                end_child(child)
                with self._lock:
                    self.process = None
        if is_late:
            raise UnavailableError(f"it took more than {self._limit_s / 60:.0f} min")
        if code != 0:
            raise InvalidError(why_it_failed(messages, code=code))
        data = output.read_bytes()
        if len(data) > self._most_bytes:
            raise InvalidError(f"it has {len(data)} bytes, {self._most_bytes} at most are kept")
        return data

    def end(self) -> None:
        """End the child at work, if there is one."""
        with self._lock:
            if self.process is not None:
                self.process.terminate()

    def close(self) -> None:
        """End the child at work and start no more."""
        self.is_closing = True
        self.end()

    def _start(
        self, command: Sequence[str], *, out: int, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self.is_closing:
                raise UnavailableError("the hub stops", fix="It goes on at its start.")
            self.percent = 0.0
            self.process = subprocess.Popen(  # noqa: S603  our own interpreter and module
                end_with_parent(command), stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.PIPE, start_new_session=True, env=environment,
            )  # fmt: skip
            return self.process

    def _hear(self, line: bytes, lines: deque[str]) -> None:
        progress = _PERCENT.match(line)
        if progress is None:
            lines.append(line.decode(errors="replace").strip())
        else:
            self.percent = min(100.0, float(progress.group(1)))


@contextmanager
def child_folder(place: Path) -> Iterator[Path]:
    """An empty folder for one child; what a killed hub left there goes first."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def end_child(child: subprocess.Popen[bytes]) -> None:
    """One that runs on is ended; one that ended stays as it is."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(timeout=_KILL_AFTER_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def why_it_failed(output: Iterable[str], *, code: int) -> str:
    """The child's own sentence with what helps, or how it ended.

    Args:
        output: lines of its standard error.
        code: its exit code; negative for a signal (POSIX).
    """
    if code < 0:
        more = ", perhaps because memory ran out" if -code == signal.SIGKILL else ""
        name = next((one.name for one in signal.Signals if one == -code), f"signal {-code}")
        return f"its process was killed by {name}{more}"
    lines = [line for line in output if line.strip()]
    named = next((line for line in lines if line.startswith(("error: ", "bug: "))), "")
    told = named.removeprefix("error: ") or (lines[-1] if lines else "it said nothing")
    fix = next((line for line in lines if named and line.startswith("fix: ")), "")
    sentences = filter(None, (told.rstrip("."), fix.removeprefix("fix: ")))
    return ". ".join(sentences)[:_MOST_SAID].rstrip(".")
