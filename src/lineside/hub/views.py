"""Records the hub answers with, in the API and on the pages; ``core.to_plain`` is the JSON."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NotRequired, TypedDict, cast

from lineside.core import Digest, decode_json
from lineside.models.camera_faults import CameraFault
from lineside.store import EventLog, FrameRow, Logged
from lineside.vision import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """One entry of the event log with its place in the chain. ``event`` is the CloudEvent."""

    position: int
    source_position: int
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    arrived_at: datetime
    hash: str
    previous: str
    event: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraView:
    """A camera now; ``since`` of its state.

    ``state``: ``live``, ``no signal``, ``never``, or a fault of its pictures: ``moved``, ``dark``,
    ``overexposed``, ``blurred``, ``frozen``; ``fault`` says more of it.

    ``also``: answers of further inspections to the frame of ``prediction``.
    """

    id: str
    name: str
    line: str
    inspections: tuple[str, ...]
    state: str
    since: datetime | None
    newest: FrameRow | None
    prediction: Prediction | None
    event: str = ""
    also: tuple[Prediction, ...] = ()
    fault: CameraFault | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameView:
    """A frame and all that names it."""

    row: FrameRow
    predictions: tuple[EventView, ...]
    events: tuple[EventView, ...]
    orders: tuple[str, ...]
    datasets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Bytes of a picture with their media type."""

    data: bytes
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetView:
    """A data set: its draft and its frozen versions (number → digest, samples, leaks).

    Attributes:
        labels: pictures of the draft on which each holds.
        kinds: pictures of the draft that have ``labels``, a ``count``, ``objects`` or a ``mask``;
            those that have none are not named.
        tags: tag → version it is on.
    """

    name: str
    draft_samples: int
    labels: dict[str, int]
    versions: tuple["VersionView", ...]
    kinds: dict[str, int] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionView:
    """A frozen version in figures."""

    number: int
    digest: Digest
    samples: int
    splits: dict[str, int]
    leaks: int
    created_at: datetime
    created_by: str
    leaking: bool = False
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A training run.

    Attributes:
        state: ``running``, ``done``, ``failed`` or ``cancelled``.
        loss, held_out: the last figures; None before the first.
        history: (percent, loss, held-out figure) of each report, thinned to at most 500.
        log: the child's last lines of standard error.
        register_as: the group of models that the package becomes a version of; "" for none.
        version_name: ``rack/3``, once it is one.
        backbone: by its name in the hub's settings; "" for the network that comes with lineside.
        refused: the trainer refused its images or settings, and would refuse them again.
    """

    id: str
    state: str
    task: str
    dataset: str
    version: int
    inspection: str
    seed: int
    started_at: datetime
    started_by: str
    ended_at: datetime | None = None
    percent: float = 0.0
    eta_s: float | None = None
    stage: str = ""
    loss: float | None = None
    held_out: float | None = None
    reason: str = ""
    package: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    history: tuple[tuple[float, float | None, float | None], ...] = ()
    log: tuple[str, ...] = ()
    register_as: str = ""
    version_name: str = ""
    backbone: str = ""
    refused: bool = False

    @property
    def resumable(self) -> bool:
        """True where the run could go on from where it stopped."""
        return self.state not in ("running", "done") and not self.refused


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageView:
    """A package in the registry; ``used_by`` names inspections that run it now."""

    digest: Digest
    name: str
    inspection: str
    added_at: datetime
    added_by: str
    approved_by: str
    approved_at: datetime | None
    reason: str
    used_by: tuple[str, ...]
    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPrediction:
    """A package's answer to a picture that nobody stores. ``heat``: label → PNG as data URL."""

    prediction: Prediction
    heat: dict[str, str]
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """A device as it last told of itself, with what is wished of it and what was acknowledged.

    Attributes:
        state: "online", "offline", "silent" (it said no goodbye, and nothing else for too long) or
            "never".
        clock_offset_s: above 0: its clock is ahead of the hub's; None: not measured yet.
    """

    id: str
    state: str
    at: datetime | None
    version: str
    packages: tuple[dict[str, Any], ...]
    desired: tuple[dict[str, Any], ...]
    spool_depth: int
    acked: int
    status: dict[str, Any]
    clock_offset_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterView:
    """A message that was refused; its bytes stand under ``digest``."""

    id: str
    reason: str
    detail: str
    topic: str
    at: datetime
    size_bytes: int
    digest: Digest
    truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceStep:
    """One step back.

    ``kind``: ``twin``, ``event``, ``frame``, ``package``, ``rule`` (cuts), ``limits`` (the
    operating point in place of them), ``dataset``, ``approval`` or ``chain``.
    """

    kind: str
    id: str
    text: str
    at: datetime | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    ok: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A value back to its evidence; ``chain_ok`` is false when any hash on the way fails."""

    id: str
    chain_ok: bool
    steps: tuple[TraceStep, ...]


class Events:
    """Entries of the log with their place in the chain."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def page(
        self, *, after: int = 0, kind: str = "", source: str = "", subject: str = "",
        limit: int = 100, newest_first: bool = False,
    ) -> list[EventView]:  # fmt: skip
        """Entries by position; with ``newest_first`` those before ``after`` (0: the end)."""
        page = self._log.read(
            after=after, limit=limit, source=source, type=kind, subject=subject,
            newest_first=newest_first,
        )  # fmt: skip
        return [view_of(logged) for logged in page]

    def one(self, event_id: str) -> EventView:
        """``NotFoundError`` if there is none."""
        return view_of(self._log.get(event_id))


def view_of(logged: Logged) -> EventView:
    """An entry of the log as it is shown."""
    entry = logged.entry
    return EventView(
        position=logged.position,
        source_position=logged.source_position,
        id=entry.id,
        source=entry.source,
        type=entry.type,
        subject=entry.subject,
        time=entry.captured_at,
        arrived_at=logged.arrived_at,
        hash=logged.hash,
        previous=logged.previous,
        event=decode_json(entry.body, where=f"log {logged.position}"),
    )


class LogPlace(TypedDict):
    """The place of an event in the log and in its chain."""

    position: int
    source_position: int
    arrived_at: datetime
    previous: str
    hash: str


class LoggedEvent(TypedDict):
    """A CloudEvent with its place in the log."""

    specversion: str
    id: str
    source: str
    type: str
    time: str
    datacontenttype: str
    data: dict[str, Any]
    subject: NotRequired[str]
    dataschema: NotRequired[str]
    deviceseq: NotRequired[int]
    devicefirst: NotRequired[int]
    imagemissing: NotRequired[str]
    recordedtime: NotRequired[str]
    log: LogPlace


def plain(view: EventView) -> LoggedEvent:
    """The CloudEvent with its place in the log beside it, as the API answers."""
    place = LogPlace(
        position=view.position, source_position=view.source_position, arrived_at=view.arrived_at,
        previous=view.previous, hash=view.hash,
    )  # fmt: skip
    return cast("LoggedEvent", {**view.event, "log": place})
