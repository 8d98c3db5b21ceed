import ctypes
import inspect
import json
import platform
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.cli.app import _run
from lineside.core import (
    ConflictError,
    Inspection,
    InvalidError,
    NotFoundError,
    SystemClock,
    View,
    digest_of,
    worker,
)
from lineside.datasets import Library, Part, load_source
from lineside.models import Package, Predictor
from lineside.models.result import GIVEN_PART
from lineside.store import open_blobs, open_records
from lineside.training import (
    JobCancelledError,
    Progress,
    TrainJob,
    TrainResult,
    evaluate,
    read_job,
    read_result,
    run_job,
    write_job,
)
from lineside.training.pipeline import Limits, check_quality
from lineside.vision import Decision, PictureState, encode_png, open_frame

pytestmark = pytest.mark.slow

Done = tuple[TrainResult, Path]
Train = Callable[[TrainJob, Path], TrainResult]
Draw = Callable[..., NDArray[np.uint8]]
Write = Callable[..., Path]
Lessons = Callable[..., list[Any]]
CLOCK = SystemClock()


def gives_back_memory() -> bool:
    """Return True where malloc maps a large block; the heap ends at sbrk."""
    library = ctypes.CDLL(None)
    library.malloc.restype = library.sbrk.restype = ctypes.c_void_p
    block = library.malloc(60_000_000)  # fits into the heap of a thread
    library.free(ctypes.c_void_p(block))
    return bool(block > library.sbrk(0))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these options")
@pytest.mark.parametrize(
    ("call", "gives_back"),
    [
        ("from lineside.cli.app import _run; _run(['train'])", False),
        ("import lineside; lineside.train('classify', data='nowhere', out='out.lspkg')", True),
    ],
)
def test_the_command_alone_keeps_freed_memory(call: str, *, gives_back: bool) -> None:
    code = f"""
import contextlib, ctypes, threading
{inspect.getsource(gives_back_memory)}
with contextlib.suppress(Exception):
    {call}
threading.Thread(target=lambda: print(gives_back_memory())).start()
"""
    # In a process of its own: a test that runs the command keeps the memory of its own.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith(f"{gives_back}\n")


def test_presence_is_learned_from_few_pictures(presence_result: Done) -> None:
    result, _ = presence_result
    assert result.pictures == 14
    assert result.metrics["accuracy"].value >= 17 / 18
    assert result.metrics["accuracy"].n == 18
    assert result.metrics["exact"].n == 6
    for metric in result.metrics.values():
        assert metric.low <= metric.value <= metric.high or metric.low == metric.high


def test_the_package_answers_as_it_was_measured(presence_result: Done, draw: Draw) -> None:
    package = Package.read(presence_result[0].package)
    predictor = Predictor(package, clock=CLOCK)
    report = predictor.check_golden()
    assert report.pictures == 3
    assert report.max_abs_diff <= 1e-4
    image = draw({"top": "red", "bottom": "blue"}, seed=77, light=0.95, move_px=2.0)
    frame = open_frame(encode_png(image), camera="rack", captured_at=CLOCK.now())
    said = {label.name: label.decision for label in predictor.predict(frame).labels}
    assert said == {
        "left": Decision.PRESENT,
        "centre": Decision.ABSENT,
        "right": Decision.PRESENT,
    }


@pytest.mark.parametrize("result", ["presence_result", "colours_result"])
def test_a_known_picture_is_the_nearest_to_itself_in_every_region(
    result: str, request: pytest.FixtureRequest
) -> None:
    package = Package.read(request.getfixturevalue(result)[0].package)
    golden = package.manifest.golden[0]
    shown = open_frame(package.file(golden.file), camera="rack", captured_at=CLOCK.now())
    found = Predictor(package, clock=CLOCK).nearest(shown, most=3)
    regions = [crop.region for crop in package.manifest.prepare.crops]
    assert [one.region for one in found] == [name for name in regions for _ in range(3)]
    assert {one.picture for one in found[::3]} == {golden.digest}
    assert all(
        one.distance <= other.distance for one, other in zip(found[::3], found[1::3], strict=True)
    )


def test_activation_lies_on_the_disc_and_nowhere_else(presence_result: Done, draw: Draw) -> None:
    predictor = Predictor(Package.read(presence_result[0].package), clock=CLOCK)
    image = draw({"top": "red"}, seed=5, move_px=0.0)
    frame = open_frame(encode_png(image), camera="rack", captured_at=CLOCK.now())
    heat = predictor.explain(frame)["left"]
    assert heat.shape == (120, 160)
    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    assert abs(x - 40) <= 20
    assert abs(y - 30) <= 16
    assert float(heat[60:, 80:].max()) == 0.0


def test_a_picture_of_something_else_is_refused(presence_result: Done) -> None:
    predictor = Predictor(Package.read(presence_result[0].package), clock=CLOCK)
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (120, 160, 3)).astype(np.uint8)
    frame = open_frame(encode_png(image), camera="rack", captured_at=CLOCK.now())
    said = predictor.predict(frame)
    assert said.state is not PictureState.OK
    assert said.labels == ()


def test_the_manifest_says_where_it_comes_from(presence_result: Done) -> None:
    result, folder = presence_result
    package = Package.read(result.package)
    manifest, lineage = package.manifest, package.manifest.lineage
    assert (lineage.pictures, lineage.dataset, lineage.seed) == (14, "data", 7)
    assert package.digest == result.digest
    assert manifest.metrics == dict(result.metrics)
    assert any("few pictures" in warning for warning in lineage.warnings)
    assert any("confounded with place" in warning for warning in lineage.warnings)
    assert all(rule.floor <= rule.low <= rule.high <= 1 - rule.floor for rule in manifest.rules)
    shown = json.loads(result.report)["error_bound"]["bound"]
    assert {rule.error_rate for rule in manifest.rules} == {shown}
    assert shown > 0.05  # so few pictures cannot show less
    assert f"the package states {shown:.3g}" in " ".join(lineage.warnings)
    assert str(folder) not in str(manifest)


def test_the_report_and_its_page_hold_the_evidence(presence_result: Done) -> None:
    result, folder = presence_result
    report = json.loads(result.report)
    assert report["evidence"] == GIVEN_PART
    assert report["validation_pictures"] == 6
    thresholds = report["sections"]["Thresholds and calibration"]
    assert {label["name"] for label in thresholds} == {"left", "centre", "right"}
    assert set(report["limits"]) == {"left", "centre", "right"}
    assert all(report["limits"].values())
    page = (folder / "report.html").read_text()
    for needed in ("<h2>Figures</h2>", "Thresholds and calibration", "few pictures", "<svg"):
        assert needed in page
    for foreign in ("http://", "https://", "<script", "src=", "@import", "url("):
        assert foreign not in page


def test_the_same_job_gives_the_same_package_and_progress_rises_to_its_end(
    presence_job: TrainJob, presence_result: Done, *, train: Train, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    again = run_job(
        presence_job,
        folder=tmp_path / "again",
        progress=seen.append,
        cancelled=threading.Event(),
        clock=CLOCK,
    )
    assert digest_of(again.package) == digest_of(presence_result[0].package)
    percents = [progress.percent for progress in seen]
    assert percents == sorted(percents)
    assert (percents[-1], seen[-1].stage) == (100, "done")
    assert seen[-1].held_out is not None
    assert seen[-1].loss is not None
    assert all(progress.eta_s >= 0 for progress in seen)
    other = train(replace(presence_job, seed=8), tmp_path / "other")
    assert digest_of(other.package) != digest_of(again.package)


def test_a_job_that_was_stopped_thrice_goes_on_and_gives_the_same_with_any_number_of_threads(
    presence_job: TrainJob, presence_result: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PICTURES_AT_ONCE", worker.PICTURES_AT_ONCE + 2)
    for stop_at in (20.0, 63.0, 90.0):
        cancelled = threading.Event()

        def tell(
            progress: Progress, stop_at: float = stop_at, event: threading.Event = cancelled
        ) -> None:
            if progress.percent >= stop_at:
                event.set()

        with pytest.raises(JobCancelledError):
            run_job(presence_job, folder=tmp_path, progress=tell, cancelled=cancelled, clock=CLOCK)
        assert read_result(tmp_path) is None
        left = next(tmp_path.rglob("*.npz"))
        left.write_bytes(left.read_bytes()[:100])  # as a power cut may leave it
    result = run_job(
        read_job(tmp_path),
        folder=tmp_path,
        progress=lambda _: None,
        cancelled=threading.Event(),
        clock=CLOCK,
    )
    assert digest_of(result.package) == digest_of(presence_result[0].package)


def test_a_finished_job_is_not_done_again(
    presence_job: TrainJob, presence_result: Done, train: Train
) -> None:
    result, folder = presence_result
    kept = train(presence_job, folder)
    assert kept == read_result(folder)
    assert kept.digest == result.digest


def test_a_folder_holds_one_job(presence_job: TrainJob, tmp_path: Path) -> None:
    write_job(presence_job, folder=tmp_path)
    write_job(presence_job, folder=tmp_path)
    assert read_job(tmp_path) == presence_job
    with pytest.raises(ConflictError):
        write_job(replace(presence_job, seed=9), folder=tmp_path)
    with pytest.raises(NotFoundError):
        read_job(tmp_path / "nowhere")


def test_colour_is_learned_over_all_places_and_held_out_by_light(colours_result: Done) -> None:
    result, _ = colours_result
    report = json.loads(result.report)
    assert report["evidence"] == "cross-validation"
    left_out = report["sections"]["Groups left out, one by one"]
    assert {row["group"] for row in left_out} == {"bright", "dim"}
    assert result.metrics["accuracy"].n == 48
    assert result.metrics["accuracy"].value >= 0.9
    assert report["confusion"]["empty / blue / red"]["classes"] == ["empty", "blue", "red"]
    warnings = Package.read(result.package).manifest.lineage.warnings
    assert not any("confounded" in warning for warning in warnings)
    assert any("no validation part" in warning for warning in warnings)


def test_regions_of_one_class_list_share_one_head(colours_result: Done) -> None:
    rules = Package.read(colours_result[0].package).manifest.rules
    blue = [rule for rule in rules if rule.label == "blue"]
    assert [rule.name for rule in blue] == ["top/blue", "middle/blue", "bottom/blue"]
    assert len({(rule.slope, rule.offset, rule.low, rule.high) for rule in blue}) == 1


def test_evaluating_on_training_pictures_is_refused(colours_result: Done) -> None:
    result, data = colours_result
    package = Package.read(result.package)
    loaded = load_source(data, labels=package.manifest.labels)
    with pytest.raises(InvalidError, match="16 of 16 pictures were trained on"):
        evaluate(package, loaded.samples, files=loaded.read_file, clock=CLOCK)


def test_evaluating_on_new_pictures_gives_figures_with_intervals(
    colours_result: Done, *, write: Write, lessons: Lessons, tmp_path: Path
) -> None:
    package = Package.read(colours_result[0].package)
    data = write(tmp_path / "new", lessons(count=6, seed=9), classes=True, seed=5)
    loaded = load_source(data, labels=package.manifest.labels)
    found = evaluate(package, loaded.samples, files=loaded.read_file, clock=CLOCK)
    assert found.metrics["accuracy"].n == 18
    assert found.metrics["accuracy"].value >= 0.9
    assert 0 < found.metrics["accuracy"].baseline < 1
    assert set(found.slices["group"]) == {"bright", "dim"}
    assert sum(map(sum, found.confusion["empty / blue / red"].rows)) == 18
    assert set(found.per_class) >= {"recall/blue", "precision/red"}


def test_pictures_that_are_all_refused_have_no_figures(
    colours_result: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = Package.read(colours_result[0].package)
    rng = np.random.default_rng(4)
    image = rng.integers(0, 256, (120, 160, 3)).astype(np.uint8)
    (tmp_path / "x.png").write_bytes(encode_png(image))
    (tmp_path / "labels.csv").write_text("file,label\nx.png,top/empty;middle/empty\n")
    loaded = load_source(tmp_path, labels=package.manifest.labels)
    found = evaluate(package, loaded.samples, files=loaded.read_file, clock=CLOCK)
    assert {name: one.value for name, one in found.metrics.items()} == {"refused_rate": 1}
    assert "every picture is refused" in check_quality(found, Limits(recall=0.5, least={})).reason
    (tmp_path / "a.lspkg").write_bytes(colours_result[0].package)
    report = ("--report", str(tmp_path / "report.html"))
    assert _run(["evaluate", str(tmp_path / "a.lspkg"), "--data", str(tmp_path), *report]) == 0
    said = capsys.readouterr().out
    assert said.startswith("warning: none of the 1 images was answered, so nothing was measured; ")


def test_a_dataset_version_is_trained_on_and_named(
    colours: Inspection, *, write: Write, lessons: Lessons, train: Train, tmp_path: Path
) -> None:
    data = write(tmp_path / "data", lessons(count=12, seed=3), classes=True)
    urls = {
        "records_url": f"sqlite:///{tmp_path}/records.db",
        "blobs_url": f"file://{tmp_path}/blobs",
    }
    with open_records(urls["records_url"], clock=CLOCK) as records:
        blobs = open_blobs(urls["blobs_url"])
        library = Library(records, blobs, clock=CLOCK)
        loaded = load_source(data)
        library.add("rack", ((s, loaded.read(s)) for s in loaded.samples), by="ann")
        version = library.freeze("rack", by="ann")
        library.tag("rack", "prod", by="ann")
        blobs.close()
    job = TrainJob(inspection=colours, data="dataset://rack/prod", crop_px=48, variants=0)
    result = run_job(
        job,
        folder=tmp_path / "job",
        progress=lambda _: None,
        cancelled=threading.Event(),
        clock=CLOCK,
        records_url=urls["records_url"],
        blobs_url=urls["blobs_url"],
    )
    lineage = Package.read(result.package).manifest.lineage
    assert (lineage.dataset, lineage.data_digest) == ("rack/1", version.digest)
    with pytest.raises(InvalidError, match="a dataset is in a store"):
        train(job, tmp_path / "without")


def test_whole_pictures_are_learned_where_no_region_is_named(
    *, write: Write, lessons: Lessons, train: Train, tmp_path: Path
) -> None:
    shown = [
        replace(one, pieces={} if number % 4 < 2 else dict.fromkeys(("top", "bottom"), "red"))
        for number, one in enumerate(lessons(count=12, seed=3))
    ]
    data = write(tmp_path / "data", shown, classes=False)
    inspection = Inspection(id="full", camera="rack", labels=("left", "right"))
    result = train(
        TrainJob(inspection=inspection, data=str(data), crop_px=96, variants=0, folds=3),
        tmp_path / "job",
    )
    package = Package.read(result.package)
    assert package.manifest.prepare.view == View(width_px=160, height_px=120, register=False)
    assert package.manifest.labels == ("left", "right")
    assert result.metrics["accuracy"].value >= 0.8


def test_pictures_that_cannot_be_placed_are_reported_and_not_learned_from(
    presence: Inspection, *, write: Write, lessons: Lessons, train: Train, tmp_path: Path
) -> None:
    data = write(tmp_path / "data", lessons(count=10, seed=1), classes=False)
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (120, 160, 3)).astype(np.uint8)
    (data / "odd.png").write_bytes(encode_png(image))
    with (data / "labels.csv").open("a") as table:
        table.write("odd.png,left,bright,\n")
    job = TrainJob(inspection=presence, data=str(data), crop_px=48, variants=0, reference="p00.png")
    result = train(job, tmp_path / "job")
    report = json.loads(result.report)
    assert [note["where"] for note in report["skipped"]] == ["odd.png"]
    assert result.pictures == 10
    assert any("could not be placed" in warning for warning in report["warnings"])


def test_a_validation_part_of_the_training_group_is_called_a_leak(
    presence: Inspection, *, write: Write, lessons: Lessons, train: Train, tmp_path: Path
) -> None:
    shown = [*lessons(count=8, seed=1, part="train"), *lessons(count=4, seed=2, part="valid")]
    data = write(tmp_path / "data", shown, classes=False)
    job = TrainJob(
        inspection=presence, data=str(data), group="regex:(0[01])", crop_px=48, variants=0,
        reference="train00.png",
    )  # fmt: skip
    warnings = Package.read(train(job, tmp_path / "job").package).manifest.lineage.warnings
    assert any("the data leaks" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ("left;right;centre", "centre: 6 pictures show it, 0 do not"),
        ("", "left: 0 pictures show it, 6 do not"),
    ],
)
def test_too_few_pictures_are_refused_with_what_is_lacking(
    presence: Inspection, *, draw: Draw, train: Train, tmp_path: Path, labels: str, why: str
) -> None:
    rows = ["file,label"]
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(encode_png(draw({}, seed=number)))
        rows.append(f"{number}.png,{labels}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    job = TrainJob(inspection=presence, data=str(tmp_path), crop_px=48, variants=0)
    with pytest.raises(InvalidError) as caught:
        train(job, tmp_path / "job")
    assert why in str(caught.value)


def test_a_view_of_another_size_is_refused_with_the_sizes_there_are(
    presence_job: TrainJob, train: Train, tmp_path: Path
) -> None:
    view = View(width_px=640, height_px=480)
    job = replace(presence_job, inspection=replace(presence_job.inspection, view=view))
    with pytest.raises(InvalidError) as caught:
        train(job, tmp_path)
    assert "Pictures here: 160x120" in str(caught.value)


def test_data_without_labels_is_refused(
    presence: Inspection, *, draw: Draw, train: Train, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(draw({}, seed=1)))
    (tmp_path / "labels.csv").write_text("file\na.png\n")
    with pytest.raises(InvalidError, match="no labelled training pictures"):
        train(TrainJob(inspection=presence, data=str(tmp_path)), tmp_path / "job")


@pytest.mark.parametrize(
    "facts", [{"crop_px": 50}, {"crop_px": 0}, {"variants": 65}, {"folds": 1}, {"folds": -1}]
)
def test_a_job_that_makes_no_sense_is_refused(presence: Inspection, facts: dict[str, int]) -> None:
    with pytest.raises(InvalidError):
        replace(TrainJob(inspection=presence, data="x"), **facts)  # type: ignore[arg-type]  # whole numbers


@pytest.mark.data
def test_sixteen_real_pictures_teach_the_rack(
    data_folder: Path, train: Train, tmp_path: Path
) -> None:
    from lineside.core import load_plant

    plant = Path(__file__).parents[2] / "examples" / "warehouse" / "real.toml"
    inspection = load_plant(plant).find_inspection("stock")
    data = data_folder / "smart-factory"
    result = train(TrainJob(inspection=inspection, data=str(data)), tmp_path / "job")
    assert result.metrics["accuracy"].n == 24
    assert result.metrics["accuracy"].value >= 23 / 24
    assert result.metrics["exact"].value >= 7 / 8
    warnings = " ".join(Package.read(result.package).manifest.lineage.warnings)
    assert "few pictures" in warnings
    assert "cannot show that colour" in warnings
    assert len([s for s in load_source(data).samples if s.split is Part.TRAIN]) == 16
