"""Child programs that end with their parent, and the system's supervisor of a program.

``NOTIFY_SOCKET`` names systemd's socket, ``WATCHDOG_USEC`` how often it wants to hear that we are
alive. Where systemd does not ask, nothing is told.
"""

import logging
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lineside.core.errors import InvalidError

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


logger = logging.getLogger(__name__)

_LONGEST = 1000


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
