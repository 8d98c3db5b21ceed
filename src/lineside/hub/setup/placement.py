"""Place of a package in the plant file: its inspection, and its camera and line where missing.

1. The inspection has the package's own name of it, task and labels, and the labels of a good part
   that the verdict needs; everything else keeps its default and is edited in the set-up.
2. A camera or line that the plant file has is used as it is; one that it lacks is added with it, in
   one version of the file.
3. An inspection that is there already is moved to the camera, and keeps the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lineside.core import ConflictError, Inspection, InvalidError, Plant, Task, decode
from lineside.hub.setup.toml_edit import PlantEdit
from lineside.models import Manifest
from lineside.vision.decide import says_good

_LABELLED = (Task.MULTILABEL, Task.CLASSIFY, Task.DETECT, Task.SEGMENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagePlacement:
    """Body of ``POST /packages/{digest}/inspection``.

    Attributes:
        camera: id of the camera that its pictures come from.
        source, line: of a camera that the plant file lacks; ``line`` is the id of one that it has,
            or the name of a new one.
        good: labels of a good part. Of the task classify: those that reject nothing, which it
            needs where neither the package nor a label says good by itself; of multilabel: those
            that have to be present, every one where it is empty. Other tasks take those of the
            package, and an inspection that is there ignores it.
        reason: stands in the history of the plant file.
        base: number of the version that was seen; 0: whatever is in force.
    """

    camera: str
    source: str = ""
    line: str = ""
    good: tuple[str, ...] = ()
    reason: str
    base: int = 0


def placement_edits(
    manifest: Manifest, placement: PackagePlacement, *, plant: Plant
) -> tuple[PlantEdit, ...]:
    """Return the edits of the plant file that place a package, in order.

    Args:
        manifest: of the package.
        placement: where its pictures come from.
        plant: in force.

    Raises:
        InvalidError: a new camera without source or line; a package that answers regions, which
            are drawn in the set-up; or no label of a good part.
        ConflictError: a camera of that id is there and has another source.
    """
    known = next((one for one in plant.inspection if one.id == manifest.inspection), None)
    edits = list(_camera_edits(placement, plant=plant))
    if known is None:
        edits.append(PlantEdit(section="inspection", values=_entry(manifest, placement)))
    elif known.camera != placement.camera:
        moved = {"camera": placement.camera}
        edits.append(PlantEdit(section="inspection", id=known.id, values=moved))
    return tuple(edits)


def _camera_edits(placement: PackagePlacement, *, plant: Plant) -> list[PlantEdit]:
    there = next((one for one in plant.camera if one.id == placement.camera), None)
    if there is not None and placement.source not in ("", there.source):
        raise ConflictError(
            f"the plant file has a camera {placement.camera!r} with another source",
            where="camera",
            fix="Leave the source out to use that camera, or give the new one another id.",
        )
    if there is not None:
        return []
    if not placement.source or not placement.line:
        raise InvalidError(
            f"the plant file has no camera {placement.camera!r}",
            where="camera",
            fix="Name one that it has, or give the source and the line of a new one.",
        )
    line = next((one.id for one in plant.line if placement.line in (one.id, one.name)), "")
    edits = []
    if not line:
        line = _id_of(placement.line)
        edits.append(PlantEdit(section="line", values={"id": line, "name": placement.line}))
    camera = {"id": placement.camera, "line": line, "source": placement.source}
    return [*edits, PlantEdit(section="camera", values=camera)]


def _id_of(name: str) -> str:
    """``Line 2`` as ``line-2``."""
    letters = "".join(one if one.isalnum() else " " for one in name.lower())
    return "-".join(letters.split()) or "line"


def _entry(manifest: Manifest, placement: PackagePlacement) -> Mapping[str, Any]:
    """The keys of an inspection that answers what the package answers."""
    if any(crop.region for crop in manifest.prepare.crops):
        raise InvalidError(
            "the package answers regions, which the plant file lacks",
            where=manifest.name,
            fix="Add the inspection with its regions in the set-up; draw them on Regions.",
        )
    entry: dict[str, Any] = {
        "id": manifest.inspection, "camera": placement.camera, "task": manifest.task,
    }  # fmt: skip
    if manifest.task in _LABELLED and manifest.labels:
        entry["labels"] = list(manifest.labels)
    if manifest.task == Task.MULTILABEL:
        entry["expected"] = list(placement.good or manifest.labels)
    elif manifest.task == Task.CLASSIFY:
        good = placement.good or manifest.good
        if not good and not any(says_good(one) for one in manifest.labels):
            raise InvalidError(
                "no label means a good part, so that every part would be rejected",
                where="good",
                fix=f"Name those of {', '.join(manifest.labels)} that a good part may have; every"
                " one of them where they are product types.",
            )
        if good:
            entry["good"] = list(good)
    elif manifest.good and manifest.task in (Task.SEGMENT, Task.ANOMALY):
        entry |= {"labels": [*manifest.labels, *manifest.good], "good": list(manifest.good)}
    decode(Inspection, entry, where="inspection")
    return entry
