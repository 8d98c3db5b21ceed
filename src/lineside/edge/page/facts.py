"""View model of the page: the device's state as records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from lineside.core import Box, Clock, Inspection, InvalidError, Plant, rfc3339
from lineside.edge.packages import Judge
from lineside.edge.page.gallery import NO_MASK, Gallery, NewestFrame
from lineside.fleet import identifier_of
from lineside.fleet.contract import DeviceStatus, OutputCondition
from lineside.models import Predictor
from lineside.vision import Prediction
from lineside.web.answers import answer_text, summary
from lineside.web.format import milliseconds, number, size, tail

NO_CLASS = "No image classification result available"
NO_ANSWER = "No result available"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """A loaded package.

    Attributes:
        identifier: name and version in one, as clients of the socket name it.
        inspection: for which it answers; "" where it is loaded by name.
        since: RFC 3339.
    """

    name: str
    version: str
    identifier: str
    digest: str
    inspection: str
    task: str
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubContact:
    """Contact of the device with its hub.

    Attributes:
        connected: whether the bus answers.
        heard_at: when the hub last said something, RFC 3339; "" before it did.
        clock_offset_s: the hub's clock minus this one's; None where nobody knows.
    """

    connected: bool
    heard_at: str = ""
    clock_offset_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningUpdate:
    """A job that is carried out right now; ``details`` as it tells the job service."""

    job: str
    model: str
    version: str
    details: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionPlan:
    """A region on the reference view: x0, y0, x1, y1 in pixels."""

    id: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Regions of an inspection, to be drawn."""

    width_px: int
    height_px: int
    regions: tuple[RegionPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionRow:
    """An inspection of this device; ``nothing`` is said while there is no answer."""

    id: str
    camera: str
    task: str
    nothing: str
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraRow:
    """A camera of this device; ``arrived_at`` is RFC 3339, "" before the first picture.

    ``silent_after_s``: None where no time without a picture is too long.
    """

    id: str
    name: str
    arrived_at: str
    silent_after_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTexts:
    """Figures of the status as the page writes them.

    Attributes:
        hub, counts: rows of name and value.
        updates: of each: how far it is.
        models: of each: the end of its digest.
        recent: of each: answer, latency, and the end of the frame's id.
        summaries: one sentence about all cameras for each number of them that are silent.
    """

    hub: tuple[tuple[str, str], ...]
    counts: tuple[tuple[str, str], ...]
    updates: tuple[str, ...]
    models: tuple[str, ...]
    recent: tuple[tuple[str, str, str], ...]
    summaries: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageStatus:
    """Everything the page says besides pictures."""

    device: str
    site: str
    version: str
    at: str
    hub: HubContact
    models: tuple[ModelRow, ...]
    cameras: tuple[CameraRow, ...]
    inspections: tuple[InspectionRow, ...]
    updates: tuple[RunningUpdate, ...]
    recent: tuple[Prediction, ...]
    spool_depth: int
    spool_dropped: int
    frames: int
    predictions: int
    refused: Mapping[str, int]
    faults: tuple[str, ...]
    viewers: int
    texts: PageTexts
    schema: Literal["lineside.page/1"] = "lineside.page/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The device as the page sees it; safe from several threads.

    Attributes:
        inspections: of this device.
        judge: what answers for an inspection.
        loaded: packages that are loaded by name.
        versions: group and version of packages that came with them, by digest.
    """

    name: str
    plant: Plant
    inspections: tuple[str, ...]
    status: Callable[[], DeviceStatus]
    judge: Callable[[str], Judge | None]
    hub: Callable[[], HubContact]
    loaded: Callable[[], Sequence[ModelRow]] = tuple
    versions: Callable[[], Mapping[str, tuple[str, str]]] = dict
    updates: Callable[[], Sequence[RunningUpdate]] = tuple

    def cameras(self) -> dict[str, str]:
        """The camera of each inspection."""
        return {name: self.plant.find_inspection(name).camera for name in self.inspections}


def page_status(device: Device, gallery: Gallery, *, clock: Clock, viewers: int) -> PageStatus:
    """State of everything right now."""
    status, hub, updates = device.status(), device.hub(), tuple(device.updates())
    models, recent = models_of(device, status), gallery.recent()
    return PageStatus(
        device=device.name,
        site=device.plant.name or device.plant.site,
        version=status.version,
        at=rfc3339(clock.now()),
        hub=hub,
        models=models,
        cameras=tuple(
            _camera(device.plant, camera, newest=gallery.newest(camera))
            for camera in gallery.cameras
        ),
        inspections=tuple(
            _inspection(device.plant.find_inspection(name)) for name in device.inspections
        ),
        updates=updates,
        recent=recent,
        spool_depth=status.spool_depth,
        spool_dropped=status.spool_dropped,
        frames=status.frames,
        predictions=status.predictions,
        refused=status.refused,
        faults=status.faults,
        viewers=viewers,
        texts=PageTexts(
            hub=_hub_rows(hub, status),
            counts=_count_rows(status),
            updates=tuple(_progress(one.details) for one in updates),
            models=tuple(tail(one.digest) for one in models),
            recent=tuple(
                (answer_text(one), milliseconds(one.latency_ms.total), tail(one.frame.id))
                for one in recent
            ),
            summaries=_summaries(len(gallery.cameras)),
        ),
    )


def _summaries(cameras: int) -> tuple[str, ...]:
    return tuple(
        summary(["no signal"] * silent + ["live"] * (cameras - silent))
        for silent in range(cameras + 1)
    )


def _hub_rows(hub: HubContact, status: DeviceStatus) -> tuple[tuple[str, str], ...]:
    offset_s = hub.clock_offset_s
    clock = "not known"
    if offset_s is not None:
        clock = f"{'behind' if offset_s < 0 else 'ahead'} by {milliseconds(abs(offset_s) * 1000)}"
    dropped = status.spool_dropped
    lost = (("Dropped for lack of room", number(dropped)),) if dropped else ()
    return (
        ("Waiting in the spool", number(status.spool_depth)),
        *lost,
        ("The hub's clock", clock),
    )


def _count_rows(status: DeviceStatus) -> tuple[tuple[str, str], ...]:
    return (
        ("Pictures", number(status.frames)),
        ("Decisions", number(status.predictions)),
        *((f"Left: {reason}", number(count)) for reason, count in status.refused.items()),
        *((f"Output {one.output}", output_text(one)) for one in status.outputs),
        ("Version", status.version),
    )


def output_text(one: OutputCondition) -> str:
    """Condition of an output in words."""
    state = "follows the verdicts" if one.state == "follows" else f"{one.state}: {one.reason}"
    late = f", {number(one.late)} verdicts too late" if one.late else ""
    return f"{state}; {number(one.switched)} switched{late}"


def _progress(details: Mapping[str, str]) -> str:
    step, there, whole = (details.get(key, "") for key in ("step", "bytes", "bytes_total"))
    known = there.isdigit() and whole.isdigit() and int(whole) > 0
    return (step or "begun") + (f", {size(int(there))} of {size(int(whole))}" if known else "")


def models_of(device: Device, status: DeviceStatus) -> tuple[ModelRow, ...]:
    """Packages in use for inspections, then those loaded by name."""
    versions = device.versions()
    rows = []
    for used in status.packages:
        judge = device.judge(used.inspection)
        manifest = judge.manifest if isinstance(judge, Predictor) else None
        digits = used.digest.removeprefix("sha256:")[:12]
        name, version = versions.get(
            used.digest, (manifest.name if manifest else used.inspection, digits)
        )
        rows.append(
            ModelRow(
                name=name,
                version=version,
                identifier=_identifier(name, version),
                digest=used.digest,
                inspection=used.inspection,
                task=manifest.task if manifest else "",
                since=used.loaded_at,
            )
        )
    return (*rows, *device.loaded())


def no_result(task: str) -> str:
    """Placeholder where there is no answer."""
    if task == "segment":
        return NO_MASK
    return NO_CLASS if task in ("classify", "multilabel") else NO_ANSWER


def _identifier(name: str, version: str) -> str:
    try:
        return identifier_of(name, version)
    except InvalidError:
        return f"{name}-{version}"


def _camera(plant: Plant, camera: str, *, newest: NewestFrame | None) -> CameraRow:
    known = plant.find_camera(camera)
    return CameraRow(
        id=camera,
        name=known.name or camera,
        arrived_at=rfc3339(newest.arrived_at) if newest is not None else "",
        silent_after_s=known.silent_after_s if isfinite(known.silent_after_s) else None,
    )


def _inspection(one: Inspection) -> InspectionRow:
    view = one.view
    return InspectionRow(
        id=one.id,
        camera=one.camera,
        task=str(one.task),
        nothing=no_result(str(one.task)),
        plan=Plan(
            width_px=view.width_px if view else 0,
            height_px=view.height_px if view else 0,
            regions=tuple(RegionPlan(id=each.id, box=_corners(each.box_px)) for each in one.region),
        ),
    )


def _corners(box: Box) -> tuple[float, float, float, float]:
    return (box.x0_px, box.y0_px, box.x1_px, box.y1_px)
