"""``lineside evaluate`` and ``lineside predict``: what a package says, and how right it is."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lineside.cli.output import JsonFlag, show
from lineside.cli.package import PackageFile, metric_lines
from lineside.core import SystemClock

if TYPE_CHECKING:
    from lineside.models import Predictor
    from lineside.vision import LabelAnswer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("evaluate")(evaluate)
    app.command("predict")(predict)


def evaluate(
    package: PackageFile,
    *,
    data: Annotated[Path, typer.Option(help="Folder, .lst or .csv with labels.")],
    group: Annotated[str, typer.Option(help="How pictures are grouped, see the docs.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Measure a package on labelled pictures; refuses pictures it was trained on."""
    from lineside.datasets import load_source
    from lineside.models import Package
    from lineside.training import evaluate as measure

    opened = Package.open(package)
    found = load_source(data, labels=opened.manifest.labels, group=group)
    result = measure(opened, found.samples, read=found.read, clock=SystemClock())
    skipped = [f"skipped {line.where}: {line.reason}" for line in found.skipped]
    show(
        result,
        as_json=as_json,
        text=lambda done: "\n".join([*metric_lines(dict(done.metrics)), *done.warnings, *skipped]),
    )


def predict(
    package: PackageFile,
    image: Annotated[list[Path], typer.Argument(help="JPEG or PNG files.")],
    *,
    heat: Annotated[
        bool, typer.Option(help="Add each label's activation map (JSON only).")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Print a package's decisions for pictures."""
    from lineside.models import Package, Predictor

    predictor = Predictor(Package.open(package), clock=SystemClock())
    answers = [_answer(predictor, path, heat=heat) for path in image]
    show(answers, as_json=as_json, text=lambda found: "\n".join(_words(one) for one in found))


def _answer(predictor: "Predictor", path: Path, *, heat: bool) -> dict[str, Any]:
    from lineside.core import NotFoundError
    from lineside.models import heat_png
    from lineside.vision import open_frame

    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"cannot read the picture: {error.strerror}", where=str(path), fix="Name a JPEG or PNG."
        ) from error
    frame = open_frame(encoded, camera="file", captured_at=SystemClock().now())
    said = predictor.predict(frame)
    maps = predictor.explain(frame) if heat else {}
    return {
        "file": str(path),
        "task": said.task,
        "state": said.state,
        "reason": said.reason,
        "labels": [_label(answer) for answer in said.labels],
        "heat_png": {
            name: base64.b64encode(heat_png(frame.image, found)).decode()
            for name, found in maps.items()
        },
        "latency_ms": said.latency_ms.total,
    }


def _label(answer: "LabelAnswer") -> dict[str, Any]:
    return {
        "name": answer.name,
        "probability": answer.probability,
        "decision": answer.decision,
    }


def _words(answer: dict[str, Any]) -> str:
    if answer["state"] != "ok":
        return f"{answer['file']}: {answer['state']} ({answer['reason']})"
    found = [
        f"{label['name']} {label['decision']} {label['probability']:.2f}"
        for label in answer["labels"]
        if label["decision"] != "absent" or "/" not in label["name"]
    ]
    return f"{answer['file']}: " + ", ".join(found)
