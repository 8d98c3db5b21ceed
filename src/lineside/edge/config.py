"""Settings of the agent: one TOML file, ``LINESIDE_EDGE__KEY``, flags.

Captures (``[capture]``) and the device's own page (``[page]``) have sections of their own.

``config_edge_device.json`` of the managed edge agent, mapped onto our settings.

1. ``$WORKDIR`` is replaced by the folder that holds ``agent/conf/``, else by the one above the
   file's own, or by the one named.
2. Unknown keys are refused by name, all at once. What has no effect here is told.
3. Credentials are ours: certificates of the old agent open nothing here. A bucket is reached with
   the machine's own credentials, or by the place that ``capture.upload`` names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from lineside.core import InvalidError, NotFoundError, decode, decode_json
from lineside.core.codec import refuse, unless
from lineside.core.config import LOOPBACK
from lineside.core.drivers import SecretUrl
from lineside.models import EngineDevice, EngineName
from lineside.models.engines import check_device


@dataclass(frozen=True, slots=True, kw_only=True)
class PageConfig:
    """Where the page stands and who may see it.

    Attributes:
        listen: address and port, such as ``"127.0.0.1:8080"`` or ``"0.0.0.0:8080"``; a port alone
            (``"8080"``) is on this machine only, port 0 is any free one; empty: no page. An address
            that others reach needs ``password_file`` or ``token_file``, else the agent does not
            start.
        hosts: further names under which a page without sign-in may be asked for, besides
            ``localhost``, ``127.0.0.1`` and ``::1``.
        password_file: what ``lineside edge page-password`` wrote: people sign in with a password.
        token_file: a random text of 16 characters or more that programs send as ``Authorization:
            Bearer …``.
        tls_cert, tls_key: PEM files that the page is served with; read again when they change; over
            or missing: the agent says so and does not start. Empty: as ``tls`` says.
        tls: ``auto``: a page that others reach has a certificate of the site's authority, where the
            device is enrolled; ``off``: plain HTTP, as behind a proxy.
        most_viewers: how many may watch images at once, 1 to 16.
        width_px: images wider than this are made smaller for who watches; 64 to 8192.
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
        return self.address[0] in LOOPBACK

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
        destination: ``Disk`` writes below ``folder``, ``Cloud`` straight to ``upload``.
        folder: where ``Disk`` writes; empty: ``captures`` in ``data_dir``.
        prefix: levels before the fleet.
        upload: ``s3://bucket/prefix?…`` or ``file:///dir``.
        upload_period_s: how often what lies on the disk is uploaded and then removed; 0: never.
        buffer_size: captures that may wait; more are refused.
        batch_size: so many are written at once; below ``buffer_size``; 1 or more.
        push_period_s: after which what waits is written; above 0.
        embed_max_bytes: longer values become files beside the record; 0 to 3072.
        max_bytes: of captures on the disk; beyond it the oldest go, and are counted; 1000000 or
            more.
        inspections: which own decisions are captured: ``none``, ``all``, ``every:N`` (1 or more),
            ``unsure``, ``drift``.
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


Contract = Literal["edge-agent", "open-inference"]
"""A contract of another system whose calls a device can answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    """Everything the agent is told.

    Attributes:
        device: the device's name, a level of its topics: letters, digits, ``_``, ``.``, ``-``, at
            most 64.
        bus: URL of the site's bus.
        plant: path of the plant file.
        plant_folder: where relative paths in the plant file start; empty: the folder it lies in.
        data_dir: folder of spool and packages; made when absent.
        hub: base URL that packages are fetched from, directly and not by a proxy of the
            environment; empty: only what lies in ``data_dir`` runs.
        token_file: file with the device's token for the hub; empty: none is sent.
        ca: PEM file of the authorities that may vouch for hub (``https://``) and bus
            (``mqtts://``); empty: the machine's own.
        certificate, key: PEM files by which the device proves its name to bus and hub; one may hold
            both. Written by [enrolment](../how-to/fleet.md), and renewed then; empty: none is
            shown.
        cameras: which cameras of the plant this device looks at; empty: all. Of one that no
            inspection has, it sends the hub an image every 2 s.
        spool_max_bytes: what may wait for the hub; beyond it the oldest images are dropped, and
            then the oldest events, which are counted; 1000000 or more.
        max_loaded_packages: how many different packages may be in memory; inspections that run one
            package share its network; 1 or more.
        resend_after_s: how long an event may stay unacknowledged before it is sent again; above 0.
        status_every_s: how often the device says how it is; changes are said at once; above 0.
        contracts: contracts of other systems whose calls the device answers: ``"edge-agent"``
            (``AWS.SageMaker.Edge``, on the socket), ``"open-inference"`` (on the socket and the
            page). ``[]`` answers none.
        grpc: socket of the [gRPC services](edge-agent.md), such as ``unix:///tmp/edge_agent``;
            empty: none.
        home: folder of models named by name and version (``<home>/model/dev/<name>/<version>``);
            empty: ``data_dir``.
        models_config: the list of models loaded at start; empty: ``models_config.json`` in
            ``data_dir``.
        max_loaded_bytes: of memory that the packages of all inspections take together, measured as
            they are loaded; and, apart from these, of the archives loaded by name.
            ``max_loaded_packages`` bounds their number too; 1 or more.
        trust_root: the site's ``root.json``, or the folder it lies in; the hub writes it to ``<its
            data_dir>/trust/root.json`` at its first start. Pinned at the device's first start: what
            is not [signed](trust.md) does not run then, as on a device that was enrolled.
        engine: what runs packages, those of inspections and those loaded by name (raw tensors go to
            ONNX Runtime in any case): ``onnxruntime``, ``openvino``
            ([extra](edge-agent.md#engines) of that name) or ``tensorrt``; golden images are
            answered within the package's bound on each, else it does not run.
        engine_device: processor that the engine runs on: ``cpu``, ``cuda`` (``onnxruntime``,
            ``tensorrt``), ``gpu`` (``openvino``), or ``auto``: the engine's
            [GPU](../how-to/gpu.md), else the CPU, and the log says which.
        unsigned: ``"allowed"``: packages run unsigned, and the hub's plant file is taken over
            unsigned, where no root is trusted; otherwise such a device runs none and keeps its
            file.
        hang_after_s: how long a camera may be at one image before it is [started
            anew](edge-agent.md#watchdog); above 0.
        publish_logs: whether the log is said on the bus too.
        log_period_s: how long an entry of the log may wait for others; above 0.
        otlp: address of an OpenTelemetry collector, such as ``"http://127.0.0.1:4318"``, that gets
            [traces](metrics.md#traces); empty: none.
        capture: a table, ``[capture]``, as below.
        page: a table, ``[page]``, as below.
    """

    device: str
    bus: SecretUrl
    plant: str
    data_dir: str
    plant_folder: str = ""
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
    contracts: tuple[Contract, ...] = get_args(Contract)
    grpc: str = ""
    home: str = ""
    models_config: str = ""
    trust_root: str = ""
    unsigned: Literal["refused", "allowed"] = "refused"
    hang_after_s: float = 30.0
    publish_logs: bool = True
    log_period_s: float = 30.0
    otlp: SecretUrl = SecretUrl("")
    engine: EngineName = EngineName.ONNX_RUNTIME
    engine_device: EngineDevice = EngineDevice.CPU
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
        check_device(self.engine, self.engine_device, where="engine_device")
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
    def bus_url(self) -> SecretUrl:
        """``bus`` with the files of ``ca``, ``certificate`` and ``key`` where it is encrypted."""
        if not self.bus.startswith("mqtts:"):
            return self.bus
        named = {"ca": self.ca, "certificate": self.certificate, "key": self.key}
        base, _, options = self.bus.reveal().partition("?")
        given = {**{name: path for name, path in named.items() if path}, **dict(parse_qsl(options))}
        return SecretUrl(f"{base}?{urlencode(given)}" if given else base)

    @property
    def folder(self) -> Path:
        """``data_dir`` as an absolute path."""
        return Path(self.data_dir).absolute()

    @property
    def plant_base(self) -> Path | None:
        """``plant_folder`` as a path; None for the folder that the plant file lies in."""
        return Path(self.plant_folder) if self.plant_folder else None

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


_USUAL_SOCKET = "unix:///tmp/edge_agent"
_MOST_BYTES = 1_000_000
_ROOT = "root.json"
_UNPROVED = (
    "sagemaker_edge_core_root_certs_path has no effect: no root.json of the site lies there, so "
    "packages in local folders are loaded unsigned unless the device is enrolled."
)
_WITHOUT_EFFECT = {
    "sagemaker_edge_provider_provider_path": "uploads are our own",
    "sagemaker_edge_provider_aws_ca_cert_file": "enrol the device instead",
    "sagemaker_edge_provider_aws_cert_file": "enrol the device instead",
    "sagemaker_edge_provider_aws_cert_pk_file": "enrol the device instead",
    "sagemaker_edge_provider_aws_iot_cred_endpoint": "name credentials in capture.upload",
    "sagemaker_edge_telemetry_libsystemd_path": "the journal has the crashes",
    "sagemaker_edge_log_verbose": "start with lineside --debug",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFile:
    """The file's keys as they stand; the last word is what they mean."""

    sagemaker_edge_core_device_name: str
    sagemaker_edge_core_device_fleet_name: str
    sagemaker_edge_core_region: str = ""
    sagemaker_edge_core_root_certs_path: str = ""
    sagemaker_edge_core_folder_prefix: str = ""
    sagemaker_edge_core_capture_data_destination: Literal["Cloud", "Disk"] = "Disk"
    sagemaker_edge_core_capture_data_disk_path: str = ""
    sagemaker_edge_core_capture_data_buffer_size: int = 30
    sagemaker_edge_core_capture_data_batch_size: int = 10
    sagemaker_edge_core_capture_data_push_period_seconds: float = 10
    sagemaker_edge_core_capture_data_base64_embed_limit: int = 3072
    sagemaker_edge_core_capture_data_periodic_upload: bool = False
    sagemaker_edge_core_capture_data_periodic_upload_period_seconds: float = 60
    sagemaker_edge_provider_provider: Literal["Aws", "None", "Custom"] = "Aws"
    sagemaker_edge_provider_provider_path: str = ""
    sagemaker_edge_provider_aws_ca_cert_file: str = ""
    sagemaker_edge_provider_aws_cert_file: str = ""
    sagemaker_edge_provider_aws_cert_pk_file: str = ""
    sagemaker_edge_provider_aws_iot_cred_endpoint: str = ""
    sagemaker_edge_provider_s3_bucket_name: str = ""
    sagemaker_edge_log_verbose: bool = False
    sagemaker_edge_telemetry_libsystemd_path: str = ""

    def __post_init__(self) -> None:
        disk = self.sagemaker_edge_core_capture_data_disk_path
        bucket = self.sagemaker_edge_provider_s3_bucket_name
        uploads = (
            self.sagemaker_edge_core_capture_data_destination == "Cloud"
            or self.sagemaker_edge_core_capture_data_periodic_upload
        )
        provider = self.sagemaker_edge_provider_provider
        refuse(
            self,
            unless(
                not disk or Path(disk).is_absolute(), value=disk,
                key="sagemaker_edge_core_capture_data_disk_path",
                expected="an absolute folder", fix="Begin it with / or $WORKDIR.",
            ),
            unless(
                not uploads or provider != "Aws" or bucket, value=bucket,
                key="sagemaker_edge_provider_s3_bucket_name",
                expected="a bucket, where captures are uploaded", fix="Name the bucket.",
            ),
            unless(
                provider != "Custom", value=provider, key="sagemaker_edge_provider_provider",
                expected="Aws or None",
                fix="No uploader libraries are loaded: write None, and name capture.upload.",
            ),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """The file as settings of ours.

    Attributes:
        settings: by dotted key, as ``load_config`` takes flags.
        without_effect: sentences about keys that stand there and do nothing here.
    """

    settings: Mapping[str, object]
    without_effect: tuple[str, ...]


def read_agent_file(path: Path, *, workdir: Path | None = None) -> AgentSettings:
    """Read and map the file.

    Raises:
        NotFoundError: it is not there.
        InvalidError: every fault of it.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"cannot read the agent's settings: {error.strerror}", where=str(path), fix="Name it."
        ) from error
    if len(raw) > _MOST_BYTES:
        raise InvalidError(f"{len(raw)} bytes of settings", where=str(path), fix="Shorten it.")
    home = workdir or _workdir(path.absolute())
    document = _replaced(decode_json(raw, where=str(path)), home)
    file = decode(AgentFile, document, where=str(path))
    root = file.sagemaker_edge_core_root_certs_path
    return mapped(file, home=home, proves=bool(root) and (Path(root) / _ROOT).is_file())


def mapped(file: AgentFile, *, home: Path, proves: bool) -> AgentSettings:
    """The file's settings as ours.

    Args:
        file: the file.
        home: what ``$WORKDIR`` stands for.
        proves: whether the site's root lies in the folder of root certificates.
    """
    root = file.sagemaker_edge_core_root_certs_path
    capture: dict[str, object] = {
        "fleet": file.sagemaker_edge_core_device_fleet_name,
        "prefix": file.sagemaker_edge_core_folder_prefix.strip("/"),
        "destination": file.sagemaker_edge_core_capture_data_destination,
        "folder": file.sagemaker_edge_core_capture_data_disk_path,
        "buffer_size": file.sagemaker_edge_core_capture_data_buffer_size,
        "batch_size": file.sagemaker_edge_core_capture_data_batch_size,
        "push_period_s": file.sagemaker_edge_core_capture_data_push_period_seconds,
        "embed_max_bytes": file.sagemaker_edge_core_capture_data_base64_embed_limit,
        "upload": _upload(file),
        "upload_period_s": _upload_period(file),
    }
    given = {f"capture.{key}": value for key, value in capture.items() if value not in ("", None)}
    ours: dict[str, object] = {
        "device": file.sagemaker_edge_core_device_name,
        "grpc": _USUAL_SOCKET,
        "home": str(home / "agent") if (home / "agent").is_dir() else str(home),
    }
    if proves:
        ours["trust_root"] = root
    unproved = (_UNPROVED,) if root and not proves else ()
    return AgentSettings(settings=ours | given, without_effect=(*unproved, *_idle(file)))


def _workdir(path: Path) -> Path:
    above = path.parent.parent
    return above.parent if above.name == "agent" else above


def _replaced(value: object, home: Path) -> object:
    """``$WORKDIR`` in every text of a document."""
    if isinstance(value, str):
        return value.replace("$WORKDIR", str(home))
    if isinstance(value, dict):
        return {key: _replaced(each, home) for key, each in value.items()}
    return value


def _upload(file: AgentFile) -> str:
    if file.sagemaker_edge_provider_provider != "Aws":
        return ""
    bucket, region = file.sagemaker_edge_provider_s3_bucket_name, file.sagemaker_edge_core_region
    query = f"?region={quote(region)}" if region else ""
    return f"s3://{bucket}{query}" if bucket else ""


def _upload_period(file: AgentFile) -> float | None:
    if not file.sagemaker_edge_core_capture_data_periodic_upload:
        return None
    return file.sagemaker_edge_core_capture_data_periodic_upload_period_seconds


def _idle(file: AgentFile) -> tuple[str, ...]:
    usual = {each.name: each.default for each in fields(AgentFile)}
    return tuple(
        f"{key} has no effect: {why}."
        for key, why in _WITHOUT_EFFECT.items()
        if getattr(file, key) != usual[key]
    )
