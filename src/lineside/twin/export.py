"""The twin with the plan of its plant as one document, for programs elsewhere.

A camera's source is left out, because it may hold a password.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from lineside.core import InvalidError, Plant
from lineside.core.plant import Slot, Station
from lineside.twin.state import LineState

EXPORT_SCHEMA = "lineside.twin-export/1"


class ExportForm(StrEnum):
    """The form of an export: our JSON, AAS as JSON, AAS as an AASX package."""

    JSON = "json"
    AAS = "aas"
    AASX = "aasx"


MEDIA = {
    ExportForm.JSON: "application/json",
    ExportForm.AAS: "application/asset-administration-shell+json",
    ExportForm.AASX: "application/asset-administration-shell-package",
}
"""The name of each form on the wire."""


def export_form(text: str, *, where: str) -> ExportForm:
    """Return the form of that name; ``InvalidError`` lists the known ones."""
    try:
        return ExportForm(text)
    except ValueError as error:
        known = ", ".join(form.value for form in ExportForm)
        raise InvalidError(f"no form {text!r}", where=where, fix=f"Known: {known}.") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraPlan:
    """A camera of a line."""

    id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionPlan:
    """An inspection with the camera that it looks through."""

    id: str
    camera: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePlan:
    """A production line; ``stations`` and ``places`` where the twin's inspection is on it."""

    id: str
    name: str
    cameras: tuple[CameraPlan, ...] = ()
    inspections: tuple[InspectionPlan, ...] = ()
    stations: tuple[Station, ...] = ()
    places: tuple[Slot, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinExport:
    """The twin at a time, with the plan of the plant.

    Attributes:
        at: the time that the state is of.
        software: what made it, with its version.
        stale_after_s: age from which a place's value is too old; None without a twin.
    """

    schema: str = EXPORT_SCHEMA
    site: str
    name: str
    at: datetime
    software: str
    stale_after_s: float | None
    lines: tuple[LinePlan, ...]
    state: LineState


def twin_export(state: LineState, *, plant: Plant, at: datetime, software: str) -> TwinExport:
    """Return the export of a state."""
    return TwinExport(
        site=plant.site, name=plant.name or plant.site, at=at, software=software,
        stale_after_s=plant.twin.stale_after_s if plant.twin else None,
        lines=tuple(_line_plan(line.id, line.name, plant) for line in plant.line),
        state=replace(state, recent=()),
    )  # fmt: skip


def _line_plan(line: str, name: str, plant: Plant) -> LinePlan:
    cameras = [one for one in plant.camera if one.line == line]
    known = {one.id for one in cameras}
    inspections = [one for one in plant.inspection if one.camera in known]
    twin = plant.twin
    has_twin = twin is not None and twin.inspection in {one.id for one in inspections}
    return LinePlan(
        id=line, name=name,
        cameras=tuple(CameraPlan(id=one.id, name=one.name or one.id) for one in cameras),
        inspections=tuple(InspectionPlan(id=one.id, camera=one.camera) for one in inspections),
        stations=twin.station if twin and has_twin else (),
        places=twin.slot if twin and has_twin else (),
    )  # fmt: skip
