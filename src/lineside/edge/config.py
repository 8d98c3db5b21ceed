"""Settings of the agent: one TOML file, ``LINESIDE_EDGE__KEY``, flags."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from lineside.core import InvalidError
from lineside.edge.capture_config import CaptureConfig
from lineside.edge.page.config import PageConfig
from lineside.models import EngineName

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
        ca: PEM file of the site's authority, which vouches for bus and hub; empty: the machine's.
        certificate, key: PEM files by which the device proves its name; one may hold both. Written
            by enrolment; empty: none is shown.
        cameras: which cameras of the plant this device looks at; empty: all.
        spool_max_bytes: what may wait for the hub; beyond it the oldest events are dropped.
        max_loaded_packages: how many networks may be in memory, for inspections and, apart from
            these, loaded by name.
        max_loaded_bytes: of memory that the packages of all inspections take, measured as they are
            loaded; and, apart from these, of the archives that are loaded by name.
        resend_after_s: how long an event may stay unacknowledged before it is sent again.
        status_every_s: how often the device says how it is; changes are said at once.
        grpc: socket of the gRPC services, such as ``unix:///tmp/edge_agent``; empty: none.
        home: folder of models that are named by name and version; empty: ``data_dir``.
        models_config: the list of models loaded at start; empty: ``models_config.json`` in
            ``data_dir``.
        trust_root: the site's ``root.json``, or the folder it lies in; pinned at the first start.
            What is not signed in the site's update repository does not run then, as on a device
            that was enrolled.
        unsigned: ``allowed``: packages run unsigned where no root is trusted; otherwise none do.
        hang_after_s: how long a camera may be at one picture before it is started anew.
        publish_logs: whether the log is said on the bus too.
        log_period_s: how long an entry of the log may wait for others.
        engine: what runs packages, of inspections and loaded by name.
        capture: what is kept of what models were given and said.
        page: the device's own page.
    """

    device: str
    bus: str
    plant: str
    data_dir: str
    hub: str = ""
    token_file: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    cameras: tuple[str, ...] = ()
    spool_max_bytes: int = 256_000_000
    max_loaded_packages: int = 8
    max_loaded_bytes: int = 512_000_000
    resend_after_s: float = 5.0
    status_every_s: float = 10.0
    grpc: str = ""
    home: str = ""
    models_config: str = ""
    trust_root: str = ""
    unsigned: Literal["refused", "allowed"] = "refused"
    hang_after_s: float = 30.0
    publish_logs: bool = True
    log_period_s: float = 30.0
    engine: EngineName = EngineName.ONNX_RUNTIME
    capture: CaptureConfig = field(default_factory=CaptureConfig)
    page: PageConfig = field(default_factory=PageConfig)

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
        _check_pair(self.certificate, self.key)
        if self.spool_max_bytes < 1_000_000:
            raise InvalidError(
                "1000000 or more", where="spool_max_bytes", fix="Leave room for some events."
            )
        if self.max_loaded_packages < 1:
            raise InvalidError("1 or more", where="max_loaded_packages", fix="Allow one package.")
        for name in ("resend_after_s", "status_every_s", "log_period_s", "hang_after_s"):
            if getattr(self, name) <= 0:
                raise InvalidError("above 0", where=name, fix="Give seconds above 0.")
        if self.max_loaded_bytes < 1:
            raise InvalidError("1 or more", where="max_loaded_bytes", fix="Allow one package.")
        if self.grpc and not self.grpc.startswith("unix:"):
            raise InvalidError(
                "the address of a socket",
                where="grpc",
                fix='Write grpc = "unix:///tmp/edge_agent".',
            )

    @property
    def bus_url(self) -> str:
        """``bus`` with the files of ``ca``, ``certificate`` and ``key`` where it is encrypted."""
        if not self.bus.startswith("mqtts:"):
            return self.bus
        named = {"ca": self.ca, "certificate": self.certificate, "key": self.key}
        base, _, options = self.bus.partition("?")
        given = {**{name: path for name, path in named.items() if path}, **dict(parse_qsl(options))}
        return f"{base}?{urlencode(given)}" if given else base

    @property
    def folder(self) -> Path:
        """``data_dir`` as an absolute path."""
        return Path(self.data_dir).absolute()

    @property
    def home_path(self) -> Path:
        """``home`` as an absolute path."""
        return Path(self.home).absolute() if self.home else self.folder

    @property
    def models_path(self) -> Path:
        """``models_config`` as an absolute path."""
        return Path(self.models_config or self.folder / "models_config.json").absolute()


def _check_pair(certificate: str, key: str) -> None:
    if bool(certificate) != bool(key):
        raise InvalidError(
            "a certificate and its key", where="certificate, key", fix="Name both files."
        )
