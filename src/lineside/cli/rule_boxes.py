"""``lineside rule boxes``: what stands out on a belt, as events that a crossing rule can be run on.

It needs no trained package; see ``lineside.vision.standing_out`` for what it takes for a thing.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.output import JsonFlag, show
from lineside.core import (
    Camera,
    InvalidError,
    NotFoundError,
    Plant,
    Rule,
    SystemClock,
    digest_of,
    load_plant,
    replace_durably,
)

if TYPE_CHECKING:
    from lineside.vision import Frame, Prediction


def boxes(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="A crossing rule of the plant file.")],
    plant: Annotated[Path, typer.Option(help="The plant file.")],
    out: Annotated[Path, typer.Option(help="The file of events to write.")],
    video: Annotated[Path | None, typer.Option(help="A video; else what the camera is.")] = None,
    contrast: Annotated[float, typer.Option(help="Least difference from the belt.")] = 28.0,
    least_px: Annotated[int, typer.Option(help="Smallest area of a thing.")] = 500,
    as_json: JsonFlag = False,
) -> None:
    """Find what stands out on a belt that moves up or down a video; one event for each picture."""
    from lineside.streams import encode_prediction_event

    declared = load_plant(plant)
    found, camera = _camera(declared, rule, video=video)
    lines, count = list[bytes](), 0
    for number, frame in enumerate(_frames(camera), start=1):
        told = _prediction(frame, found, contrast=contrast, least_px=least_px)
        count += len(told.boxes)
        lines.append(
            encode_prediction_event(
                told, site=declared.site, device="lineside", sequence=number, first=1
            )
        )
    replace_durably(out, b"".join(line + b"\n" for line in lines))
    told_of = {"pictures": len(lines), "boxes": count, "file": str(out)}
    show(told_of, as_json=as_json, text=lambda _: f"{out}: {len(lines)} pictures, {count} boxes")


def _camera(plant: Plant, name: str, *, video: Path | None) -> tuple[Rule, Camera]:
    rules = [one for one in plant.rule if one.crossing is not None and one.read.inspections]
    for rule in rules:
        if rule.id == name:
            inspection = plant.find_inspection(rule.read.inspections[0])
            camera = plant.find_camera(inspection.camera)
            return rule, camera if video is None else replace(camera, source=f"video:{video}")
    known = ", ".join(rule.id for rule in rules) or "none"
    raise NotFoundError(
        f"no crossing rule {name!r} that reads predictions", where="plant file",
        fix=f"Crossing rules: {known}.",
    )  # fmt: skip


def _frames(camera: Camera) -> "Iterator[Frame]":
    from lineside.links import open_camera

    if camera.source.partition(":")[0] not in {"video", "folder"}:
        raise InvalidError(
            "a camera that never ends", where=f"camera {camera.id}", fix="Give --video FILE."
        )
    with closing(open_camera(camera, clock=SystemClock())) as opened:
        yield from opened.frames()


def _prediction(frame: "Frame", rule: Rule, *, contrast: float, least_px: int) -> "Prediction":
    from lineside.vision import (
        PictureState,
        Prediction,
        RegistrationFigures,
        StageTimes,
        picture_health,
        standing_out,
    )

    return Prediction(
        frame=frame.ref, inspection=rule.read.inspections[0], task="detect", state=PictureState.OK,
        labels=(), package=digest_of(b"lineside.vision.standing_out"), dataset="",
        registration=RegistrationFigures(state="none"), health=picture_health(frame.image),
        latency_ms=StageTimes(),
        boxes=standing_out(frame.image, contrast=contrast, least_px=least_px),
    )  # fmt: skip
