"""Cross references of a plant file: ids used once, names that point somewhere, boxes in view."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from lineside.core.codec import decode, decode_toml, faults_error
from lineside.core.errors import Fault, NotFoundError
from lineside.core.plant import Inspection, Plant, RouteKind, Slot, Twin


def load_plant(path: Path) -> Plant:
    """Read a plant file.

    Raises:
        NotFoundError: no such file.
        InvalidError: every fault at once, of form first, then of reference.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"cannot read the plant file: {error.strerror}", where=str(path), fix="Name a file."
        ) from error
    return parse_plant(raw, where=str(path))


def parse_plant(raw: bytes, *, where: str) -> Plant:
    """Decode and check the bytes of a plant file."""
    plant = decode(Plant, decode_toml(raw, where=where), where=where)
    faults = list(check_references(plant))
    if faults:
        raise faults_error(faults, where=where)
    return plant


def check_references(plant: Plant) -> Iterator[Fault]:
    """Every reference that leads nowhere, every id used twice, every box outside its view."""
    lines = [line.id for line in plant.line]
    cameras = [camera.id for camera in plant.camera]
    inspections = [inspection.id for inspection in plant.inspection]
    yield from _twice(lines, "$.line")
    yield from _twice(cameras, "$.camera")
    yield from _twice(inspections, "$.inspection")
    for place, camera in enumerate(plant.camera):
        yield from _known(camera.line, lines, f"$.camera[{place}].line", "line")
    for place, inspection in enumerate(plant.inspection):
        path = f"$.inspection[{place}]"
        yield from _known(inspection.camera, cameras, f"{path}.camera", "camera")
        yield from _check_regions(inspection, path)
    yield from _check_routes(plant, cameras)
    if plant.twin is not None:
        yield from _check_twin(plant, plant.twin, inspections)


def _check_regions(inspection: Inspection, path: str) -> Iterator[Fault]:
    yield from _twice([region.id for region in inspection.region], f"{path}.region")
    yield from _twice([region.label for region in inspection.region if region.label], path)
    view = inspection.view
    if view is None:
        return
    for place, region in enumerate(inspection.region):
        box = region.box_px
        if min(box.x0_px, box.y0_px) < 0 or box.x1_px > view.width_px or box.y1_px > view.height_px:
            yield Fault(
                path=f"{path}.region[{place}].box_px",
                value=f"{box.x0_px:g},{box.y0_px:g}..{box.x1_px:g},{box.y1_px:g}",
                expected=f"inside the view of {view.width_px}x{view.height_px} px",
                fix="Move the box, or correct the view's size.",
            )


def _check_routes(plant: Plant, cameras: list[str]) -> Iterator[Fault]:
    yield from _twice([route.topic for route in plant.route], "$.route")
    for place, route in enumerate(plant.route):
        if route.kind is RouteKind.FRAME:
            yield from _known(route.camera, cameras, f"$.route[{place}].camera", "camera")


def _check_twin(plant: Plant, twin: Twin, inspections: list[str]) -> Iterator[Fault]:
    yield from _twice([slot.id for slot in twin.slot], "$.twin.slot")
    yield from _twice([station.code for station in twin.station], "$.twin.station")
    if twin.inspection not in inspections:
        yield from _known(twin.inspection, inspections, "$.twin.inspection", "inspection")
        return
    inspection = plant.find_inspection(twin.inspection)
    for place, slot in enumerate(twin.slot):
        yield from _check_slot(slot, inspection, twin, f"$.twin.slot[{place}]")


def _check_slot(slot: Slot, inspection: Inspection, twin: Twin, path: str) -> Iterator[Fault]:
    regions = {region.id: region for region in inspection.region}
    yield from _known(slot.region, list(regions), f"{path}.region", "region")
    region = regions.get(slot.region)
    if region is None:
        return
    if slot.colour:
        yield from _known(slot.colour, list(twin.colours), f"{path}.colour", "colour")
    elif region.label:
        yield Fault(
            path=f"{path}.colour",
            value="nothing",
            expected="the colour that presence here means",
            fix=f'Add colour = "{twin.colours[0]}".',
        )
    for name in region.classes:
        if name != slot.empty_class:
            yield from _known(name, list(twin.colours), f"{path}.region", "colour")


def _known(name: str, known: list[str], path: str, noun: str) -> Iterator[Fault]:
    if name not in known:
        listed = ", ".join(known) or f"no {noun} is declared"
        yield Fault(
            path=path, value=repr(name), expected=f"a declared {noun}", fix=f"Known: {listed}."
        )


def _twice(names: Iterable[str], path: str) -> Iterator[Fault]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield Fault(path=path, value=repr(name), expected="used once", fix="Rename one.")
        seen.add(name)
