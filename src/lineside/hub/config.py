"""Settings of the hub: one TOML file, then ``LINESIDE_HUB__<KEY>``, then flags.

Each key is described in ``docs/reference/configuration.md``.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lineside.core import InvalidError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """When pictures that nothing pins age out; 0 switches a limit off."""

    max_age_days: float = 0.0
    max_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HubConfig:
    """Everything the hub is told.

    Attributes:
        data_dir: folder of everything the hub keeps; made when absent.
        plant: path of the plant file.
        host, port: where pages and API listen; port 0 takes a free one.
        allowed_hosts: further host names under which browsers may reach it.
        bus: ``embedded``, or the URL of a broker.
        bus_host, bus_port: where the embedded broker listens; port 0 takes a free one.
        bus_password_file: ``name:argon2 hash`` lines; needed when ``bus_host`` is not loopback.
        public_url: how devices reach the hub; empty: ``http://host:port``.
        strays: also listen beside the routed topics, so that a mistyped topic becomes a dead
            letter instead of nothing.
        records, blobs: URLs; empty: SQLite and a folder in ``data_dir``.
        mongo: URL of a MongoDB that gets the reference's documents; empty: none.
        mongo_picture: how a picture stands in its document there.
        ingest_token_file: token of ``/mqttingest``; empty: ``data_dir/tokens/ingest.token``.
        session_hours: how long a sign-in lasts.
        max_body_bytes: largest request body; uploads of packages and pictures included.
        dead_letters: how many refused messages are kept.
    """

    data_dir: str
    plant: str
    host: str = "127.0.0.1"
    port: int = 8080
    allowed_hosts: tuple[str, ...] = ()
    bus: str = "embedded"
    bus_host: str = "127.0.0.1"
    bus_port: int = 1883
    bus_password_file: str = ""
    public_url: str = ""
    strays: bool = True
    records: str = ""
    blobs: str = ""
    mongo: str = ""
    mongo_picture: Literal["text", "binary", "digest"] = "text"
    retention: Retention = field(default_factory=Retention)
    ingest_token_file: str = ""
    session_hours: float = 12.0
    max_body_bytes: int = 256_000_000
    dead_letters: int = 1000

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535 or not 0 <= self.bus_port <= 65535:
            raise InvalidError("a port from 0 to 65535", where="port", fix="Choose another port.")
        if self.session_hours <= 0:
            raise InvalidError("above 0", where="session_hours", fix="Write session_hours = 12.")

    @property
    def folder(self) -> Path:
        """``data_dir`` as an absolute path."""
        return Path(self.data_dir).absolute()

    @property
    def records_url(self) -> str:
        """Where records stand."""
        return self.records or f"sqlite:///{self.folder / 'records.db'}"

    @property
    def blobs_url(self) -> str:
        """Where pictures and packages stand."""
        return self.blobs or f"file://{self.folder / 'blobs'}"

    @property
    def ingest_token_path(self) -> Path:
        """The file of the token of ``/mqttingest``."""
        return Path(self.ingest_token_file or self.folder / "tokens" / "ingest.token")

    @property
    def loopback_only(self) -> bool:
        """Whether nobody outside this machine can reach the pages."""
        return self.host in _LOOPBACK
