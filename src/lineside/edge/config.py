"""Settings of the agent: one TOML file, ``LINESIDE_EDGE__KEY``, flags."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lineside.core import InvalidError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    """Everything the agent is told.

    Attributes:
        device: the device's name, a level of its topics.
        bus: URL of the site's bus.
        plant: path of the plant file.
        data_dir: folder of spool and packages; made when absent.
        hub: base URL that packages are fetched from; empty: only what lies in ``data_dir`` runs.
        token_file: file with the device's token for the hub; empty: none is sent.
        cameras: which cameras of the plant this device looks at; empty: all.
        spool_max_bytes: what may wait for the hub; beyond it the oldest events are dropped.
        max_loaded_packages: how many networks may be in memory.
        resend_after_s: how long an event may stay unacknowledged before it is sent again.
        status_every_s: how often the device says how it is; changes are said at once.
    """

    device: str
    bus: str
    plant: str
    data_dir: str
    hub: str = ""
    token_file: str = ""
    cameras: tuple[str, ...] = ()
    spool_max_bytes: int = 256_000_000
    max_loaded_packages: int = 8
    resend_after_s: float = 5.0
    status_every_s: float = 10.0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.device):
            raise InvalidError(
                "letters, digits, '_', '.', '-', at most 64",
                where="device",
                fix='Write device = "edge-1".',
            )
        if self.hub and urlsplit(self.hub).scheme not in ("http", "https"):
            raise InvalidError(
                "an http or https address", where="hub", fix='Write hub = "http://host:8080".'
            )
        if self.spool_max_bytes < 1_000_000:
            raise InvalidError(
                "1000000 or more", where="spool_max_bytes", fix="Leave room for some events."
            )
        if self.max_loaded_packages < 1:
            raise InvalidError("1 or more", where="max_loaded_packages", fix="Allow one package.")
        if self.resend_after_s <= 0 or self.status_every_s <= 0:
            raise InvalidError("above 0", where="resend_after_s", fix="Give seconds above 0.")

    @property
    def folder(self) -> Path:
        """``data_dir`` as an absolute path."""
        return Path(self.data_dir).absolute()
