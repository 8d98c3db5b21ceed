"""Child programs that end with their parent, and the system's supervisor of a program.

``NOTIFY_SOCKET`` names systemd's socket, ``WATCHDOG_USEC`` how often it wants to hear that we are
alive. Where systemd does not ask, nothing is told.
"""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lineside.core.clock import Clock
from lineside.core.errors import InvalidError
from lineside.core.worker import Worker, backoff_s

# The kernel tells the child (prctl(2), PR_SET_PDEATHSIG) when its parent is gone, also after
# kill -9. A process of its own asks for it, because code between fork and exec can hang in a
# process with threads.
_TIE = """
import ctypes, os, sys
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl is not None:
    prctl(1, 15, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


def end_with_parent(command: Sequence[str]) -> list[str]:
    """Return a command that runs the given one and sends it SIGTERM when this process is gone.

    The thread that starts it counts as its parent (Linux), so it has to be one that lives as long
    as the child should. Where the system has no such call, the child runs on.
    """
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *command]


def inherited_environment() -> dict[str, str]:
    """Return what a child gets of this program's environment.

    The hub's settings, which may hold passwords, and the supervisor's own variables are left out: a
    child that told systemd of itself would speak in its parent's name.
    """
    return {key: value for key, value in os.environ.items() if not key.startswith(_OWN)}  # noqa: TID251  handed on to a child


logger = logging.getLogger(__name__)

_OWN = ("LINESIDE_HUB__", "NOTIFY_SOCKET", "WATCHDOG_")
_LONGEST = 1000
_END_S = 10.0
_SIGNAL_S = 0.5
_STEADY_S = 60.0


class SupervisedProgram:
    """A program that this process starts again whenever it ends, until it is stopped.

    1. It ends with this process, also when this one is killed.
    2. The pause before the next start doubles up to 15 s; a run of a minute resets it.

    Attributes:
        last_words: what the program said of its trouble; the log names it when the program ends.
    """

    def __init__(
        self, name: str, *, command: Callable[[], Sequence[str]], hear: Callable[[str], object],
        clock: Clock, environment: Callable[[], Mapping[str, str]] = dict,
        began: Callable[[int], object] = int, ended: Callable[[int], bool] = lambda _: False,
    ) -> None:  # fmt: skip
        """Start nothing yet.

        Args:
            name: of the program in the log.
            command: called before each start; where it raises an error, it is called again later.
            hear: is given each line of the program's standard error.
            clock: for the length of a run.
            environment: called before each start; what the program has beside
                ``inherited_environment``.
            began: is given the number of the process.
            ended: is given the exit code; returns whether the program is not to be started again.
        """
        self.last_words = ""
        self._name = name
        self._command = command
        self._environment = environment
        self._hear = hear
        self._clock = clock
        self._began = began
        self._ended = ended
        self._attempt = 0
        self._is_replaced = False
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._worker = Worker(name, self._supervise)

    @property
    def pid(self) -> int:
        """Number of the process; 0 while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    @property
    def failure(self) -> Exception | None:
        """The error for which it cannot be started now."""
        return self._worker.failure

    def start(self) -> None:
        """Begin; returns at once."""
        self._attempt = 0
        self._worker.start()

    def stop(self) -> None:
        """End the program, and start it no more."""
        self._worker.request_stop()
        self._end()
        self._worker.join()

    def restart(self) -> None:
        """End the program; it is started again at once, with a new command."""
        self._is_replaced = self.pid > 0
        self._end()
        self._worker.wake()

    def send(self, number: int) -> None:
        """Send a signal, where the program runs."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(number)

    def _end(self) -> None:
        with self._lock:
            process = self._process
        if process is not None:
            _end_process(process)

    def _supervise(self) -> float:
        """Run the program once; returns the seconds until it is to be started again."""
        began_s = self._clock.monotonic()
        code = self._run_once(self._command())
        if self._ended(code) or self._worker.stopping.is_set():
            self._worker.request_stop()
            return 0.0
        if self._is_replaced:
            self._is_replaced = False
            return 0.0
        if self._clock.monotonic() - began_s > _STEADY_S:
            self._attempt = 0
        wait_s = backoff_s(self._attempt)
        self._attempt += 1
        logger.error(
            "%s ended, it is started again code=%s in_s=%.1f said=%s",
            self._name, code, wait_s, self.last_words or "nothing",
        )  # fmt: skip
        return wait_s

    def _run_once(self, command: Sequence[str]) -> int:
        """Start the program, hear what it says until it ends; its exit code."""
        tied = end_with_parent(command)
        with self._lock:
            if self._worker.stopping.is_set():
                return 0
            # Ctrl-C in a terminal goes to a whole group: this one ends it when all is handed over.
            process = subprocess.Popen(  # noqa: S603  ours
                tied, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**inherited_environment(), **self._environment()},
            )  # fmt: skip
            self._process = process
        self._began(process.pid)
        assert process.stderr is not None  # noqa: S101  a pipe was asked for
        with process.stderr as lines:
            for line in lines:
                self._hear(line.decode(errors="replace").rstrip())
        return process.wait()


def _end_process(process: subprocess.Popen[bytes]) -> None:
    """End it; one that has just started forgets a first signal, so it is sent again."""
    for _ in range(int(_END_S / _SIGNAL_S)):
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SIGNAL_S)
            return
    process.kill()
    process.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervisor:
    """Whoever started this program and looks after it.

    Attributes:
        address: of a datagram socket; "": nobody listens.
        alive_every_s: how often it wants to hear of us; 0: not at all.
    """

    address: str = ""
    alive_every_s: float = 0.0

    def tell(self, *lines: str) -> None:
        """Say assignments such as ``READY=1``; a listener that is gone is no fault of ours."""
        if not self.address:
            return
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        words = "\n".join(line.replace("\n", " ")[:_LONGEST] for line in lines)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
                link.connect(address)
                link.send(words.encode())
        except OSError as error:
            logger.debug("supervisor not told: %s", error)


def supervisor_of(environ: Mapping[str, str]) -> Supervisor:
    """As the environment says; half of the watchdog's time is a reserve (sd_watchdog(3))."""
    meant = environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
    text = environ.get("WATCHDOG_USEC", "")
    every_s = int(text) / 2_000_000 if meant and text.isdigit() else 0.0
    return Supervisor(address=environ.get("NOTIFY_SOCKET", ""), alive_every_s=every_s)


_UNIT = """\
[Unit]
Description=lineside {name}
Documentation=man:systemd.service(5)
Wants=network-online.target
After=network-online.target time-sync.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={command}
WorkingDirectory={working}
Environment=OMP_NUM_THREADS=1 MALLOC_ARENA_MAX=2
User={user}
{own}Restart=always
RestartSec=2
TimeoutStopSec=60
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
{writable}PrivateTmp=no
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectProc=invisible
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
LockPersonality=yes
CapabilityBoundingSet=
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
STATE_FOLDER = Path("/var/lib")
"""Folders right below it are made by systemd itself."""


def unit_file(
    name: str, *, command: Sequence[str], working: Path, writable: Sequence[Path], user: str,
    own: Mapping[str, str] | None = None,
) -> str:  # fmt: skip
    """Return a unit that starts from anywhere, may write to its data only, and is restarted.

    Args:
        name: the program, in words.
        command: program and arguments; the program by an absolute path.
        working: the folder from which relative paths in the program's settings are seen.
        writable: folders it writes to. One that stands right below ``/var/lib`` is made by systemd
            and belongs to ``user``; any other has to be there.
        user: the account it runs as.
        own: further settings of the section ``[Service]``.

    Raises:
        InvalidError: a path or name that cannot stand in a unit, or a program without a path.
    """
    folders = [folder.absolute() for folder in writable]
    for word in (*command, str(working), *map(str, folders), user):
        if not word.isprintable() or any(letter in word for letter in " \"'%\\$") or not word:
            raise InvalidError(
                f"{word!r} cannot stand in a unit",
                where="unit",
                fix="Use a path without spaces, quotes, '%', '$' and backslashes.",
            )
    if not Path(command[0]).is_absolute():
        raise InvalidError(
            f"{command[0]!r} is no absolute path", where="unit", fix="Call lineside by its path."
        )
    made = [folder.name for folder in folders if folder.parent == STATE_FOLDER]
    others = [str(folder) for folder in folders if folder.parent != STATE_FOLDER]
    lines = [f"StateDirectory={' '.join(made)}", "StateDirectoryMode=0700"] if made else []
    lines += [f"ReadWritePaths={' '.join(others)}"] if others else []
    return _UNIT.format(
        name=name,
        command=" ".join(command),
        working=working.absolute(),
        user=user,
        own="".join(f"{key}={value}\n" for key, value in (own or {}).items()),
        writable="".join(f"{line}\n" for line in lines),
    )
