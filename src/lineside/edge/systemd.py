"""What systemd is told: ready, alive, in what state (sd_notify(3)); nothing where it does not ask.

``NOTIFY_SOCKET`` names its socket, ``WATCHDOG_USEC`` how often it wants to hear that we are alive.
"""

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

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
