"""``lineside evaluate`` and ``lineside predict``: what a package says, and how right it is."""

import base64
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lineside.cli.dataset import BlobsOption, RecordsOption, StoreOption, stores
from lineside.cli.hub import ConfigOption
from lineside.cli.output import DeviceOption, EngineOption, JsonFlag, explain, say, show, writable
from lineside.cli.package import PackageFile, metric_lines
from lineside.core import InvalidError, LinesideError, SystemClock, to_plain

if TYPE_CHECKING:
    from lineside.library.model import Model


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("evaluate")(evaluate)
    app.command("predict")(predict)


def evaluate(
    package: PackageFile,
    *,
    data: Annotated[str, typer.Option(help="Folder, .lst, .csv, or dataset://NAME/VERSION.")],
    part: Annotated[str, typer.Option(help="Only train, valid or test; default: all.")] = "",
    images: Annotated[str, typer.Option(help="Where a list's pictures are.")] = "",
    group: Annotated[
        str, typer.Option(help="How pictures are grouped: docs/reference/datasets.md.")
    ] = "",
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    report: Annotated[Path | None, typer.Option(help="Write the report page here.")] = None,
    escape_cost: Annotated[float, typer.Option(help="Cost of a defect let through.")] = 1.0,
    over_reject_cost: Annotated[float, typer.Option(help="Cost of a good part stopped.")] = 1.0,
    as_json: JsonFlag = False,
) -> None:
    """Measure a package on labelled pictures; refuses the very files it was trained on."""
    from lineside.models import Package
    from lineside.models.result import measured_result
    from lineside.training import Labelled, open_labelled
    from lineside.training import evaluate as measure
    from lineside.training.evaluation.evaluate import training_evidence
    from lineside.training.report.task_report import (
        cheapest_cuts,
        evaluation_page,
        evaluation_report,
        exact_only,
        priced,
    )

    writable(report)
    opened = Package.open(package)
    records, blobs = stores(config, store=store, records=records, blobs=blobs)
    source = Labelled(
        data=data, labels=opened.manifest.labels, images=images, group=group, part=part,
        task=opened.manifest.task, trained_on=training_evidence(opened).pictures,
    )  # fmt: skip
    clock = SystemClock()
    with open_labelled(source, clock=clock, records_url=records, blobs_url=blobs) as found:
        for line in found.skipped:
            say(f"skipped {line.where}: {line.reason}")
        result = measure(opened, found.samples, files=found.files, clock=clock, leaks=found.leaks)
    result = replace(result, warnings=(*result.warnings, *exact_only(opened, found)))
    result = priced(result, escape_cost=escape_cost, over_reject_cost=over_reject_cost)
    if report is not None:
        told = evaluation_report(opened, found.samples, found=result, source=found, name=data)
        report.write_bytes(evaluation_page(told, pictures=result.thumbnails))
    plain = to_plain(replace(result, thumbnails={})) | {"cheapest_cut": cheapest_cuts(result)}
    del plain["thumbnails"]  # they stand on the page
    words = measured_result(
        opened.manifest.task, confusion=result.confusion, metrics=result.metrics,
        pictures=len(found.samples),
    )  # fmt: skip
    warnings = [f"warning: {told}" for told in result.warnings]
    lines = [*([words.words] if words else []), *metric_lines(dict(result.metrics))]
    show(
        {**plain, "skipped": found.skipped},
        as_json=as_json,
        text=lambda _: "\n".join(
            [*lines, *warnings] if len(result.metrics) > 1 else [*warnings, *lines]
        ),
    )


def predict(
    package: PackageFile,
    image: Annotated[list[Path], typer.Argument(help="JPEG or PNG files.")],
    *,
    heat: Annotated[
        bool, typer.Option(help="Add each label's activation map (JSON only).")
    ] = False,
    template: Annotated[
        Path | None, typer.Option(help="How the pictures should look, where the package compares.")
    ] = None,
    engine: EngineOption = "onnxruntime",
    device: DeviceOption = "cpu",
    as_json: JsonFlag = False,
) -> None:
    """Print a package's decisions for pictures."""
    from lineside.library.model import load

    model = load(package, engine=engine, device=device)
    if template is not None and not model.manifest.template:
        raise InvalidError(
            "this package compares a picture with no other", where="--template", fix="Leave it out."
        )
    answers, failed = [], 0
    for path in image:
        try:
            answers.append(_answer(model, path, heat=heat, template=template))
        except LinesideError as error:
            explain(error)
            failed = failed or error.exit_code
    show(answers, as_json=as_json, text=lambda found: "\n".join(_words(one) for one in found))
    if failed:
        raise typer.Exit(failed)


def _answer(model: "Model", path: Path, *, heat: bool, template: Path | None) -> dict[str, Any]:
    from lineside.models import heat_png

    result = model.predict(path, template=template)
    maps = result.heat if heat else {}
    pictures = {
        name: base64.b64encode(heat_png(result.image, found)).decode()
        for name, found in maps.items()
    }
    return {**result.to_dict(), "heat_png": pictures}


def _words(answer: dict[str, Any]) -> str:
    if answer["state"] != "ok":
        return f"{answer['file']}: {answer['state']} ({answer['reason']})"
    found = [
        f"{label['name']} {label['decision']} {label['probability']:.2f}"
        for label in answer["labels"]
        if label["decision"] != "absent" or "/" not in label["name"]
    ]
    found += [
        f"{box['label']} {box['probability']:.2f} at {box['x0_px']:.0f} {box['y0_px']:.0f} "
        f"{box['x1_px']:.0f} {box['y1_px']:.0f}"
        for box in ([] if answer["count"] else answer["boxes"])
    ]
    if answer["count"]:
        found.append(_count_words(answer["count"]))
    if answer["mask"] and answer["mask"]["areas_px"]:
        found.append(_mask_words(answer["mask"]))
    if answer["anomaly"]:
        found.append(_anomaly_words(answer["anomaly"]))
    return f"{answer['file']}: " + ", ".join(found)


def _anomaly_words(anomaly: dict[str, Any]) -> str:
    words = {"present": "not like good ones", "absent": "like good ones", "unsure": "unsure"}
    said = (
        f"{words[anomaly['decision']]}, score {anomaly['score']:.2f}, limit {anomaly['limit']:.2f}"
    )
    return f"{said}; {anomaly['reason']}" if anomaly["reason"] else said


def _mask_words(mask: dict[str, Any]) -> str:
    largest = mask["areas_px"][0]
    return f"{mask['share']:.2%} of its pixels, the largest piece {largest} px"


def _count_words(count: dict[str, Any]) -> str:
    objects = f"{count['value']} object{'' if count['value'] == 1 else 's'}"
    if not count["more"] and count["low"] == count["high"]:
        return objects
    return f"{objects} ({count['low']} to {count['high']}{', or more' if count['more'] else ''})"
