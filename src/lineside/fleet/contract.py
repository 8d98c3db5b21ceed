"""Records that the parts of a fleet exchange, versions and identifiers.

1. A device has one name: that of its certificate, its thing, its topics and its row in the
   inventory.
2. A release names a package twice: by its digest, which says what runs, and by the path of the
   target in the update repository, which says that it may.
3. What a device is asked to do is a job document; the five fields of others' ``new_model``
   documents are in it, so that a client which knows only those can read it.
4. Versions are compared as versions: 1 < 2 < 10, 1.9 < 1.10, 1.0 = 1.0.0.
5. A model's name and version become one identifier, dots of the version as dashes: ``unet`` ``1.2``
   is ``unet-1-2``. Versions ``1.2`` and ``1-2`` meet there, so no two models may share one.
6. Messages between the hub and a device are records that both use: ``Desired``, ``Ack`` and
   ``DeviceStatus``. They need neither protobuf nor gRPC.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from lineside.core import Digest, InvalidError, encode, parse_digest, to_plain

MOST_COUNT = 2**53 - 1
_MOST_FRAMES = 2**53
_ROUNDED = 1e-6  # sums of floating-point numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """An approved version of a model, ready to be signed into the update repository.

    Attributes:
        group: of the model, as ``models.ModelVersions`` names it.
        version: of the group, as text: "4", or dotted.
        inspection: which inspection it answers for.
        digest: of the package (its ``digests.json``).
        sha256: of the archive's bytes, hexadecimal.
        size_bytes: of the archive.
        platforms: machines it may run on, such as "linux/x86_64"; empty: any.
    """

    group: str
    version: str
    inspection: str
    digest: Digest
    sha256: str
    size_bytes: int
    platforms: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """Path of the archive in the update repository."""
        return f"packages/{self.group}/{self.version}/{self.sha256[:16]}.lspkg"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDocument:
    """Document of a job: the package that a device is to run (``type`` "new_model").

    ``model_name``, ``model_version``, ``model_package_bucket`` and ``model_package_key`` are those
    of clients which fetch from an S3-compatible path and unpack what they get: the key is that of
    an archive, ``target`` that of the package. A document without ``target`` or ``digest`` is
    refused by a device whose policy asks for signatures, which is the default.

    Attributes:
        rollback: whether an older version than the one in use is meant; the target's signed custom
            metadata must say so too.
    """

    type: Literal["new_model"] = "new_model"
    model_name: str
    model_version: str
    model_package_bucket: str
    model_package_key: str
    inspection: str = ""
    target: str = ""
    digest: str = ""
    sha256: str = ""
    size_bytes: int = 0
    rollback: bool = False
    rollout: str = ""
    trial_frames: int = 0


class ExecutionStatus(StrEnum):
    """State of one job on one device; all but the first two are final."""

    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    REJECTED = "REJECTED"
    CANCELED = "CANCELED"
    REMOVED = "REMOVED"


class JobStatus(StrEnum):
    """State of a job."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"
    DELETION_IN_PROGRESS = "DELETION_IN_PROGRESS"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to be made; ``settings`` are the contract's own objects, checked when it is made.

    Attributes:
        targets: names of things, and of groups as ``group/<name>``.
        document: any JSON object; ours are ``JobDocument``.
        settings: ``jobExecutionsRolloutConfig``, ``abortConfig``, ``timeoutConfig``,
            ``jobExecutionsRetryConfig``, ``presignedUrlConfig``, ``schedulingConfig`` by name.
        tags, document_source: of AWS' clients, kept and given back.
    """

    job_id: str
    targets: tuple[str, ...]
    document: Mapping[str, Any]
    description: str = ""
    continuous: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[Mapping[str, str], ...] = ()
    document_source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One job on one device."""

    job_id: str
    thing: str
    status: ExecutionStatus
    queued_at: datetime
    last_updated_at: datetime
    started_at: datetime | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    version: int = 1
    number: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as the service knows it."""

    job_id: str
    status: JobStatus
    targets: tuple[str, ...]
    document: Mapping[str, Any]
    created_at: datetime
    description: str = ""
    continuous: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A signed file of the update repository, as its metadata describes it.

    Attributes:
        custom: signed with it: ``group``, ``version``, ``inspection``, ``digest``, ``platforms``,
            ``rollback_from`` (versions that may go back to it), and ``inspections`` where it may
            answer for more than one.
    """

    path: str
    sha256: str
    size_bytes: int
    custom: Mapping[str, Any]

    @property
    def inspections(self) -> tuple[str, ...]:
        """Inspections that a package may answer for; the first is that of its publication."""
        more = self.custom.get("inspections")
        words = more if isinstance(more, list) else []
        return tuple(dict.fromkeys((str(self.custom.get("inspection", "")), *map(str, words))))

    @property
    def release(self) -> Release:
        """The release that a package was published from, for the first of its inspections."""
        words = {name: str(self.custom[name]) for name in ("group", "version", "inspection")}
        return Release(
            **words, digest=Digest(str(self.custom["digest"])), sha256=self.sha256,
            size_bytes=self.size_bytes, platforms=tuple(self.custom.get("platforms", ())),
        )  # fmt: skip


Progress = Callable[[int, int], None]
"""Bytes there, bytes in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Figures of one device while a release is tried on it; no labels are needed.

    Both packages judge the same frames; what the line hears is said by one of them.

    Attributes:
        device: name of the device.
        inspection: id in the plant file.
        frames: frames judged by both packages, in the order of capture.
        changed: frames that got another decision of the new package.
        rejects_old: frames in which the old package finds something, whether or not it rejects.
        rejects_gained: frames in which the new package finds what the old one does not.
        rejects_lost: frames in which the old package finds what the new one does not.
        verdicts: frames judged by both packages of which the verdict by the plant file was counted;
            0 of a device that does not tell it.
        verdict_rejects_old, verdict_rejects_new: frames of ``verdicts`` that the package rejects.
        unsure_old: frames that the old package leaves undecided.
        unsure_gained: frames that only the new package leaves undecided.
        score_sum, score_squares: sum of the differences new - old of the decision's score, each in
            [-1, 1], and of their squares.
        latency_ms_old, latency_ms_new: median latencies, measured while both packages run.
        latency_p95_ms: 95th percentile of the new package's latency, measured while both packages
            run; 0 of a device that does not tell it.
        crashes: crashes of the new package or the agent since it runs.
    """

    device: str
    inspection: str
    frames: int = 0
    changed: int = 0
    rejects_old: int = 0
    rejects_gained: int = 0
    rejects_lost: int = 0
    verdicts: int = 0
    verdict_rejects_old: int = 0
    verdict_rejects_new: int = 0
    unsure_old: int = 0
    unsure_gained: int = 0
    score_sum: float = 0.0
    score_squares: float = 0.0
    latency_ms_old: float = 0.0
    latency_ms_new: float = 0.0
    latency_p95_ms: float = 0.0
    crashes: int = 0

    def __post_init__(self) -> None:
        parts = (
            self.changed, self.rejects_old, self.rejects_gained, self.rejects_lost,
            self.unsure_old, self.unsure_gained, self.verdicts,
        )  # fmt: skip
        sums = (
            self.score_sum, self.score_squares, self.latency_ms_old, self.latency_ms_new,
            self.latency_p95_ms,
        )  # fmt: skip
        fine = (
            0 <= self.frames <= _MOST_FRAMES
            and 0 <= self.crashes <= _MOST_FRAMES
            and all(0 <= part <= self.frames for part in parts)
            and 0 <= self.verdict_rejects_old <= self.verdicts
            and 0 <= self.verdict_rejects_new <= self.verdicts
            and all(math.isfinite(value) for value in sums)
            and abs(self.score_sum) <= self.frames + _ROUNDED
            and 0 <= self.score_squares <= self.frames + _ROUNDED
            and min(self.latency_ms_old, self.latency_ms_new, self.latency_p95_ms) >= 0
        )
        if not fine:
            raise InvalidError(
                "figures that no frames can give", where="evidence", fix="Count each frame once."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialReport:
    """``lineside.evidence/1``: what a device tells of a trial, anew and in all each time.

    Attributes:
        schema: name and version of this message.
        rollout: id of the rollout; the job's document names it.
        old, new: digests of the two packages; ``old`` empty: there was none, so that nothing can be
            compared and frames are those of the new one.
        left: frames that the old package did not judge, since the device was busy.
        ended: whether the frames asked for were judged; crashes and nothing else may follow.
        evidence: the figures.
    """

    rollout: str
    old: str
    new: str
    evidence: Evidence
    left: int = 0
    ended: bool = False
    schema: Literal["lineside.evidence/1"] = "lineside.evidence/1"


_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,7}")


def version_key(version: str) -> tuple[int, ...]:
    """Return a version's sort key; zeros at the end do not count.

    Raises:
        InvalidError: anything but whole numbers with dots between them.
    """
    if not _VERSION.fullmatch(version):
        raise InvalidError(
            f"{version!r} is no version",
            where="version",
            fix="Write whole numbers with dots between them, such as 4 or 1.10.",
        )
    numbers = [int(part) for part in version.split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def newer(version: str, *, than: str) -> bool:
    """Return whether a version comes after another; equal ones do not."""
    return version_key(version) > version_key(than)


_RULE = "[a-zA-Z0-9](-*[a-zA-Z0-9])*"
_NAME = re.compile(_RULE)
_LONGEST = 200
_SHOWN = 60


def check_identifier(name: str, *, where: str) -> str:
    """The name, when it follows the rule ``^[a-zA-Z0-9](-*[a-zA-Z0-9])*$``.

    Raises:
        InvalidError: it does not, or is longer than 200 characters.
    """
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        raise InvalidError(
            f"{name[:_SHOWN]!r} is no name of a model",
            where=where,
            fix=f"Use letters, digits and inner dashes, no dots or underscores (^{_RULE}$).",
        )
    return name


def identifier_of(name: str, version: str) -> str:
    """Return the identifier that a model version is loaded as; ``InvalidError`` for a bad one."""
    return check_identifier(
        f"{name}-{version.replace('.', '-')}", where=f"{name} {version}"[:_SHOWN]
    )


def check_distinct(models: Iterable[tuple[str, str]]) -> None:
    """Refuse names and versions of which two become one identifier.

    Raises:
        InvalidError: as ``1.2`` and ``1-2`` of one model.
    """
    known: dict[str, str] = {}
    for name, version in models:
        identifier, told = identifier_of(name, version), f"{name} {version}"
        if identifier in known:
            raise InvalidError(
                f"{known[identifier]} and {told} are both {identifier}",
                where=identifier,
                fix="Keep one of them, or give the other another version.",
            )
        known[identifier] = told


# ---- messages between the hub and a device (docs/reference/messages.md)


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredPoint:
    """Operating point that a package should decide by.

    Attributes:
        digest: digest of the limits; a device with a trust root fetches them from the update
            repository by it.
        url: address where any other device fetches them.
    """

    digest: Digest
    url: str

    def __post_init__(self) -> None:
        parse_digest(self.digest, where="digest")


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredPackage:
    """One package the hub wants run here, and the limits that it should decide by.

    Attributes:
        inspection: id in the plant file.
        digest: digest of the package.
        url: address where the device fetches it with its token.
        operating_point: [limits](packages.md#operating-points) that it decides by, said to devices
            whose ``reads`` or ``packages`` have ``operating_point``. Left out: the package's own
            limits decide, or the last point that the package had on this device: then a fault says
            that none is named.
    """

    inspection: str
    digest: Digest
    url: str
    operating_point: DesiredPoint | None = None

    def __post_init__(self) -> None:
        parse_digest(self.digest, where="digest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """``lineside.desired/1``.

    Attributes:
        schema: name and version of this message.
        packages: one for each inspection that should have one.
        revisions: how often the hub changed each inspection's package; also of those that should
            have none. A hub that does not count says nothing.
        bad: digests that were judged bad on the line: where a device cannot have what it should
            run, it does not go on with one of these. ``<inspection>/<digest>`` beside one says for
            which inspections, and for others it may go on; an earlier hub says none, and means all.
    """

    schema: Literal["lineside.desired/1"]
    packages: tuple[DesiredPackage, ...] = ()
    revisions: Mapping[str, int] = field(default_factory=dict)
    bad: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [wanted.inspection for wanted in self.packages]
        if len(set(names)) != len(names):
            raise InvalidError("one package for each inspection", where="packages")

    def of(self, inspection: str) -> tuple[str, int]:
        """Digest and revision of an inspection; "" for no package, 0 where nobody counted."""
        found = (one.digest for one in self.packages if one.inspection == inspection)
        return next(found, ""), self.revisions.get(inspection, 0)

    def is_bad(self, digest: str, *, inspection: str) -> bool:
        """Return whether a package was judged bad on the line for an inspection."""
        named = [one for one in self.bad if one.endswith(f"/{digest}")]
        return f"{inspection}/{digest}" in named if named else digest in self.bad


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """``lineside.ack/1``: everything up to ``sequence`` is stored.

    Attributes:
        schema: name and version of this message.
        device: name of the device whose events they are.
        sequence: the highest ``deviceseq`` up to which everything was stored.
    """

    schema: Literal["lineside.ack/1"]
    device: str
    sequence: int

    def __post_init__(self) -> None:
        if not 0 <= self.sequence <= MOST_COUNT:
            raise InvalidError("a count", where="sequence")


@dataclass(frozen=True, slots=True, kw_only=True)
class InUse:
    """A package that answers for its inspection.

    Attributes:
        inspection: id in the plant file.
        digest: digest of the package.
        loaded_at: time since which it answers, RFC 3339.
        operating_point: digest of the limits it decides by; empty for its own.
        refused_point: digest of the desired limits, where they do not fit, so that it does not try
            them again; empty otherwise.
        engine_device: the [processor](../how-to/gpu.md) that its network runs on; with ``auto`` a
            GPU, or ``cpu`` where that cannot be used; empty of devices that do not say.
    """

    inspection: str
    digest: Digest
    loaded_at: str
    operating_point: str = ""
    refused_point: str = ""
    engine_device: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraCondition:
    """Condition of a camera.

    Attributes:
        camera: id in the plant file.
        state: whether images come: ``connected`` or ``lost``.
        since: time of the last loss or return, RFC 3339; empty where there was none since the
            start.
        reason: cause of a loss, in words.
    """

    camera: str
    state: Literal["connected", "lost"] = "connected"
    since: str = ""
    reason: str = ""


OUTPUT_WAITS = "it waits for a verdict"
"""Reason of an output that is fail-safe because no verdict fell due yet: no fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputCondition:
    """Condition of an output.

    Attributes:
        output: id in the plant file.
        state: whether it ``follows`` the verdicts, is ``fail-safe``, or the other side is ``away``.
        reason: why it does not follow, in words.
        switched: how often a verdict switched it since the start.
        late: verdicts that came too late to switch it.
    """

    output: str
    state: Literal["follows", "fail-safe", "away"]
    reason: str = ""
    switched: int = 0
    late: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStatus:
    """``lineside.device/1``.

    Attributes:
        schema: name and version of this message.
        device: name of the device.
        state: ``online``, or ``offline`` in the last will and at a clean stop; beside ``device``,
            ``version`` and ``at`` everything is empty then.
        version: version of its program.
        at: time of this status, RFC 3339.
        packages: what answers for each inspection.
        spool_depth: events that wait to be sent.
        spool_dropped: events that were dropped for lack of room.
        frames, predictions: number since the start.
        refused: number of refused frames or messages by reason.
        images_lost: of these, images that got lost or could not be judged, by camera and reason.
        faults: what is wrong, in sentences.
        cameras: condition of each camera of the device.
        outputs: condition of each [output](plant-file.md#output) that the device drives.
        desired: revision of the desired state that the device heard, by inspection; the hub says
            that state again where it is not the newest.
        every_s: how often the device says this at least, in seconds; 0: it does not tell.
        reads: what beyond packages it reads in the desired state: ``operating_point``; the hub
            keeps the last one while a device is offline.
    """

    device: str
    state: Literal["online", "offline"]
    version: str
    at: str
    packages: tuple[InUse, ...] = ()
    spool_depth: int = 0
    spool_dropped: int = 0
    frames: int = 0
    predictions: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    images_lost: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    cameras: tuple[CameraCondition, ...] = ()
    outputs: tuple[OutputCondition, ...] = ()
    desired: Mapping[str, int] = field(default_factory=dict)
    every_s: float = 0.0
    reads: tuple[str, ...] = ()
    schema: Literal["lineside.device/1"] = "lineside.device/1"


def package_entries(packages: Iterable[DesiredPackage]) -> list[dict[str, Any]]:
    """Desired packages as JSON has them: without ``operating_point`` where there is none."""
    return [
        {name: value for name, value in to_plain(one).items() if value is not None}
        for one in packages
    ]


def write_desired(desired: Desired) -> bytes:
    """Return the message; without revisions, a device is not told what is bad either."""
    body: dict[str, Any] = {"schema": desired.schema, "packages": package_entries(desired.packages)}
    if desired.revisions:
        body |= {"revisions": desired.revisions, "bad": desired.bad}
    return encode(body)
