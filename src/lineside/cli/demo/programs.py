"""The demo's processes: started, awaited, stopped; a death is noticed and said."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from lineside.core import UnavailableError
from lineside.core.processes import end_with_parent

_STOP_WITHIN_S = 15.0
_QUIET_S = 300.0  # longest time between two lines of progress, on a busy machine


def free_port(wanted: int = 0) -> int:
    """A port nobody listens on: the wanted one if it is free, else any."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise UnavailableError("no free port on this machine", fix="Close a server and try again.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One running ``lineside`` command and the file its output goes to."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Programs:
    """Starts ``lineside`` commands and stops them in the reverse order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[Program] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for program in list(reversed(self._running)):
                self.stop(program)
        except KeyboardInterrupt:  # a second Ctrl-C: at once
            for program in self._running:
                program.process.kill()
                program.process.wait()
            raise

    def start(self, name: str, *arguments: str) -> Program:
        """Start ``lineside <arguments>`` with its output in ``<folder>/<name>.log``."""
        log = self._folder / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603  our own interpreter and module
                end_with_parent([sys.executable, "-m", "lineside", *arguments]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},  # noqa: TID251  handed on to a child
                start_new_session=True,
            )
        program = Program(name=name, process=process, log=log)
        self._running.append(program)
        return program

    def check(self) -> None:
        """Raise if a program that should run has ended."""
        for program in self._running:
            code = program.process.poll()
            if code is not None:
                raise UnavailableError(
                    f"{program.name} ended with code {code}: {last_words(program.log)}",
                    where=str(program.log),
                    fix="Read the log named; then start the demo again.",
                )

    def wait(self, program: Program) -> None:
        """Wait for a program that ends by itself, as long as its log grows.

        Raises:
            UnavailableError: it failed, or said nothing for too long.
        """
        code, said_bytes = None, -1
        while code is None:
            before, said_bytes = said_bytes, program.log.stat().st_size
            if before == said_bytes:
                raise UnavailableError(
                    f"{program.name} made no progress for {_QUIET_S:.0f} s: "
                    f"{last_words(program.log)}",
                    where=str(program.log),
                    fix="Read the log named; then start the demo again.",
                )
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = program.process.wait(_QUIET_S)
        self._running.remove(program)
        if code:
            raise UnavailableError(
                f"{program.name} ended with code {code}: {last_words(program.log)}",
                where=str(program.log),
            )

    def stop(self, program: Program) -> None:
        """Ask it to end; kill it when it does not."""
        if program.process.poll() is None:
            program.process.send_signal(signal.SIGTERM)
            try:
                program.process.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                program.process.kill()
                program.process.wait()
        if program in self._running:
            self._running.remove(program)


def last_words(log: Path) -> str:
    """The last line a program wrote, for an error message."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][-300:] if lines else "it wrote nothing"
