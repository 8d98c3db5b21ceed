"""Settings of the agent: one TOML file, ``LINESIDE_EDGE__KEY``, flags.

Captures (``[capture]``) and the device's own page (``[page]``) have sections of their own.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from lineside.core import InvalidError
from lineside.core.codec import refuse, unless
from lineside.models import EngineName

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageConfig:
    """Where the page stands and who may see it.

    Attributes:
        listen: address and port, such as ``127.0.0.1:8080`` or ``[::]:8080``; a port alone is on
            this machine only, port 0 is any free one; empty: no page.
        hosts: further names under which a page of this machine only is asked for.
        password_file: what ``lineside edge page-password`` wrote: people sign in with a password.
        token_file: a text of 16 characters or more that programs send as ``Bearer``.
        tls_cert, tls_key: PEM files that the page is served with; empty: as ``tls`` says.
        tls: ``auto``: an enrolled device's page that others reach has a certificate of the site's
            authority; ``off``: plain HTTP where no files are named, as behind a proxy.
        most_viewers: how many may watch at once.
        width_px: pictures wider than this are made smaller for who watches.
    """

    listen: str = ""
    hosts: tuple[str, ...] = ()
    password_file: str = ""
    token_file: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls: Literal["auto", "off"] = "auto"
    most_viewers: int = 8
    width_px: int = 1280

    def __post_init__(self) -> None:
        if self.listen:
            parse_listen(self.listen)
        refuse(
            self,
            unless(
                not self.listen or self.is_local or self.guarded, key="listen", value=self.listen,
                expected="a sign-in, where others than this machine can reach the page",
                fix="Set page.password_file (lineside edge page-password writes one) or "
                "page.token_file, or listen at 127.0.0.1.",
            ),
            unless(
                bool(self.tls_cert) == bool(self.tls_key), key="tls_key", value=self.tls_key,
                expected="a certificate with its key", fix="Name both files, or neither.",
            ),
            unless(
                1 <= self.most_viewers <= 16, key="most_viewers", value=self.most_viewers,
                expected="1 to 16", fix="Write most_viewers = 8.",
            ),
            unless(
                64 <= self.width_px <= 8192, key="width_px", value=self.width_px,
                expected="64 to 8192", fix="Write width_px = 1280.",
            ),
        )  # fmt: skip

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of ``listen``."""
        return parse_listen(self.listen)

    @property
    def is_local(self) -> bool:
        """True where only this machine reaches the page."""
        return self.address[0] in _LOOPBACK

    @property
    def guarded(self) -> bool:
        """True where one has to sign in."""
        return bool(self.password_file or self.token_file)


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port.

    Raises:
        InvalidError: not an address with a port.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else "127.0.0.1"
    whole = port.isascii() and port.isdigit() and int(port) <= 65535
    if not whole or not host or any(sign.isspace() or sign in "/@" for sign in host):
        raise InvalidError(
            f"{text[:80]!r} is no address with a port",
            where="listen",
            fix='Write listen = "127.0.0.1:8080".',
        )
    return host, int(port)


MOST_EMBEDDED_BYTES = 3072
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,99}")
_POLICY = re.compile(r"none|all|unsure|drift|every:([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureConfig:
    """Settings of captures: buffer, destination, sampling of own decisions.

    Attributes:
        fleet: a level of the captures' path, and the fleet their records name.
        destination: ``Disk`` writes below ``folder``; ``Cloud`` puts straight to ``upload``.
        folder: empty: ``captures`` in ``data_dir``.
        prefix: levels before the fleet.
        upload: ``s3://bucket/prefix?…`` or ``file:///dir``.
        upload_period_s: how often what lies on the disk is uploaded and then removed; 0: never.
        buffer_size: captures that may wait; more are refused.
        batch_size: so many are written at once, or what is there after ``push_period_s``.
        embed_max_bytes: longer values become files of their own beside the record.
        max_bytes: of captures on the disk; beyond it the oldest go, and are counted.
        inspections: which own decisions: none, all, every:N, unsure or drift.
    """

    fleet: str = "default"
    destination: Literal["Disk", "Cloud"] = "Disk"
    folder: str = ""
    prefix: str = ""
    upload: str = ""
    upload_period_s: float = 0.0
    buffer_size: int = 30
    batch_size: int = 10
    push_period_s: float = 10.0
    embed_max_bytes: int = MOST_EMBEDDED_BYTES
    max_bytes: int = 1_000_000_000
    inspections: str = "none"

    def __post_init__(self) -> None:
        levels = self.prefix.split("/") if self.prefix else []
        refuse(
            self,
            unless(
                _PART.fullmatch(self.fleet), key="fleet", value=self.fleet,
                expected="letters, digits, '_', '.', '-', at most 100",
                fix='Write fleet = "defect-detection".',
            ),
            unless(
                all(_PART.fullmatch(level) for level in levels), key="prefix", value=self.prefix,
                expected="names separated by /", fix='Write prefix = "line-a/captures".',
            ),
            unless(
                1 <= self.batch_size < self.buffer_size, key="batch_size", value=self.batch_size,
                expected=f"1 or more and below buffer_size ({self.buffer_size})",
                fix="Write batch_size = 10 and buffer_size = 30, say.",
            ),
            unless(
                self.push_period_s > 0, key="push_period_s", value=self.push_period_s,
                expected="above 0", fix="Write push_period_s = 10.",
            ),
            unless(
                0 <= self.embed_max_bytes <= MOST_EMBEDDED_BYTES, key="embed_max_bytes",
                value=self.embed_max_bytes, expected=f"0 to {MOST_EMBEDDED_BYTES}",
                fix=f"Write embed_max_bytes = {MOST_EMBEDDED_BYTES}.",
            ),
            unless(
                self.max_bytes >= 1_000_000, key="max_bytes", value=self.max_bytes,
                expected="1000000 or more", fix="Leave room for some captures.",
            ),
            unless(
                self.destination == "Disk" or self.upload, key="upload", value=self.upload,
                expected="a place, where destination is Cloud",
                fix='Write upload = "s3://bucket/prefix", or destination = "Disk".',
            ),
            unless(
                self.upload_period_s == 0 or (self.upload_period_s > 0 and self.upload),
                key="upload_period_s", value=self.upload_period_s,
                expected="0, or seconds above 0 beside upload",
                fix='Write upload = "s3://bucket/prefix".',
            ),
            unless(
                _POLICY.fullmatch(self.inspections), key="inspections", value=self.inspections,
                expected="none, all, every:N, unsure or drift",
                fix='Write inspections = "unsure".',
            ),
        )  # fmt: skip

    @property
    def every(self) -> int:
        """N of ``every:N``; 0 for the other policies."""
        found = _POLICY.fullmatch(self.inspections)
        if found is None:
            raise InvalidError("no policy", where="inspections")
        return int(found[1] or 0)


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
