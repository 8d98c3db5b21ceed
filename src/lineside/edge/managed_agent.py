"""``config_edge_device.json`` of the managed edge agent, mapped onto our settings.

1. ``$WORKDIR`` is replaced by the folder that holds ``agent/conf/``, else by the one above the
   file's own, or by the one named.
2. Unknown keys are refused by name, all at once. What has no effect here is told.
3. Credentials are ours: certificates of the old agent open nothing here. A bucket is reached with
   the machine's own credentials, or by the place that ``capture.upload`` names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from lineside.core import InvalidError, NotFoundError, decode, decode_json
from lineside.core.codec import refuse, unless

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
