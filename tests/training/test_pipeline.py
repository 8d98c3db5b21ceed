"""Pipelines: definition, parts before copies, cached steps, the gate, and the record of a run."""

import csv
import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineside.core import Digest, InvalidError, Task
from lineside.datasets import Part, Sample, load_source
from lineside.models import ModelVersions, Package, Predictor, Registry, build_package
from lineside.store import open_blobs, open_records
from lineside.testing import FakeClock
from lineside.training import JobCancelledError
from lineside.training.pipeline import (
    Outcome,
    Pipeline,
    PipelineContext,
    RunRecord,
    image_classification,
    run_pipeline,
    semantic_segmentation,
)
from lineside.training.pipeline.preparing import (
    changed,
    drawn,
    open_source,
    parted,
    prepare_pictures,
)
from lineside.training.pipeline.running import Cache, key_of
from lineside.vision import decode_picture
from tests.models.conftest import package_parts

Image = NDArray[np.uint8]


# ---- definition


def test_parameters_have_the_references_names_and_defaults_with_integers_for_numbers() -> None:
    made = image_classification.get_pipeline()
    told = {
        row["Name"]: (row["Type"], row["DefaultValue"]) for row in made.definition()["Parameters"]
    }
    assert (
        told.items()
        >= {
            "ProcessingInstanceType": ("String", "ml.m5.xlarge"),
            "ProcessingInstanceCount": ("Integer", 1),
            "TargetImageSize": ("Integer", 224),
            "AugmentCountNormal": ("Integer", 0),
            "AugmentCountAnomalous": ("Integer", 0),
            "TrainingInstanceType": ("String", "ml.p3.2xlarge"),
            "TrainingInstanceCount": ("Integer", 1),
            "TrainingNumTrainingSamples": ("Integer", 3600),
            "TrainingEpochs": ("Integer", 15),
            "InputData": ("String", ""),
            "ModelApprovalStatus": ("String", "PendingManualApproval"),
            "ModelPackageGroupName": ("String", "defect-detection-img-classification-model-group"),
        }.items()
    )
    other = semantic_segmentation.get_pipeline().definition()
    rows = {row["Name"]: row["DefaultValue"] for row in other["Parameters"]}
    assert (rows["TrainingEpochs"], rows["TrainingInstanceType"]) == (100, "ml.c5.xlarge")


def test_steps_follow_one_another_and_both_pipelines_are_gated() -> None:
    for made in (image_classification.get_pipeline(), semantic_segmentation.get_pipeline()):
        steps = made.definition()["Steps"]
        kinds = [step["Type"] for step in steps]
        assert kinds == ["Processing", "Training", "Evaluation", "Condition", "RegisterModel"]
        assert [step["DependsOn"] for step in steps[1:]] == [[s["Name"]] for s in steps[:-1]]
        assert steps[1]["CacheConfig"] == {"Enabled": True, "ExpireAfter": "30d"}
    names = [step["Name"] for step in image_classification.get_pipeline().definition()["Steps"]]
    assert names[0] == "DefectDetectionPreprocessing"
    assert names[3] == "DefectDetectionImageClassificationAccuracyCondition"


def test_what_callers_hand_in_is_taken() -> None:
    made = image_classification.get_pipeline(
        region="eu-west-1", role="arn:x", default_bucket="b", pipeline_name="mine",
        base_job_prefix="tiles", parameters={"TrainingEpochs": "7", "TargetImageSize": 128.0},
    )  # fmt: skip
    assert (made.name, made.base_job_prefix) == ("mine", "tiles")
    assert (made.value("TrainingEpochs"), made.value("TargetImageSize")) == (7, 128)


def test_every_wrong_parameter_is_told_at_once() -> None:
    with pytest.raises(InvalidError) as caught:
        image_classification.get_pipeline(
            parameters={
                "Epochs": 3,
                "TrainingEpochs": 1.5,
                "ModelApprovalStatus": "Maybe",
                "AugmentCountNormal": -1,
                "TargetImageSize": True,
            }
        )
    assert len(caught.value.faults) == 5


# ---- parting and copies


def samples(count: int, *, anomalous: int, group: str = "") -> list[Sample]:
    return [
        Sample(
            name=str(n),
            digest=Digest(f"sha256:{n:064x}"),
            labels=("anomalous",) if n < anomalous else ("normal",),
            group=f"{group}{n // 4}" if group else "",
        )
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("count", "held", "train"), [(10, 1, 8), (16, 1, 14), (2332, 233, 1866), (3336, 333, 2670)]
)
def test_parts_have_the_published_sizes(count: int, held: int, train: int) -> None:
    parts = parted(samples(count, anomalous=count // 9), share=0.1, seed=42)
    assert [len(parts[part]) for part in (Part.TRAIN, Part.VALID, Part.TEST)] == [train, held, held]


@given(st.integers(10, 300), st.integers(0, 10), st.integers(0, 5))
@settings(max_examples=30)
def test_parts_are_disjoint_stable_and_spread_labels(count: int, tenth: int, seed: int) -> None:
    some = samples(count, anomalous=count * tenth // 10)
    parts = parted(some, share=0.1, seed=seed)
    digests = [sample.digest for members in parts.values() for sample in members]
    assert sorted(digests) == sorted(sample.digest for sample in some)
    assert parts == {
        part: tuple(s for s in some if s in members)
        for part, members in parted(some[::-1], share=0.1, seed=seed).items()
    }
    for part in (Part.VALID, Part.TEST):
        rare = sum("anomalous" in sample.labels for sample in parts[part])
        assert abs(rare - len(parts[part]) * (count * tenth // 10) / count) < 1


def test_groups_never_cross_a_part() -> None:
    parts = parted(samples(200, anomalous=60, group="p"), share=0.1, seed=42)
    seen = [{sample.group for sample in members} for members in parts.values()]
    assert not seen[0] & seen[1]
    assert not (seen[0] | seen[1]) & seen[2]


def test_a_copy_always_differs_and_none_means_none() -> None:
    image = np.random.default_rng(0).integers(0, 255, (12, 12, 3)).astype(np.uint8)
    rng = np.random.default_rng(1)
    assert not any(np.array_equal(changed(image, rng=rng), image) for _ in range(200))
    black = np.zeros((4, 4, 3), np.uint8)
    assert np.array_equal(changed(black, rng=rng), black)
    some = samples(5, anomalous=5)
    assert drawn(some, count=0, seed=1) == []
    assert drawn([], count=9, seed=1) == []
    assert len(drawn(some, count=9, seed=1)) == 9


def spot(seed: int, *, bad: bool) -> Image:
    rng = np.random.default_rng(seed)
    pixels = rng.normal(120, 12, (64, 48, 3))
    image = np.array(cv2.GaussianBlur(np.clip(pixels, 0, 255).astype(np.uint8), (5, 5), 0))
    if bad:
        x, y = (int(value) for value in rng.integers(10, 38, 2))
        cv2.circle(image, (x, y), 6, (40, 40, 230), -1)
    return np.asarray(image, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``normal/`` and ``anomalous/``, 60 pictures, a third of them anomalous."""
    return write_pictures(tmp_path / "spots", count=60, every=3)


def write_pictures(root: Path, *, count: int, every: int) -> Path:
    """Write pictures into folders of their classes, every so many of them anomalous; the root."""
    for number in range(count):
        bad = number % every == 0
        place = root / ("anomalous" if bad else "normal")
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"{number:03d}.png"), spot(number, bad=bad))
    return root


def prepared(
    folder: Path, to: Path, clock: FakeClock, **parameters: object
) -> list[dict[str, str]]:
    pipeline = image_classification.get_pipeline(parameters=parameters)
    copies = {"normal": int(pipeline.number("AugmentCountNormal")),
              "anomalous": int(pipeline.number("AugmentCountAnomalous"))}  # fmt: skip
    with open_source(str(folder), clock=clock) as source:
        prepare_pictures(pipeline, source, folder=to, copies=copies)
    with (to / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_copies_are_made_after_the_split_of_training_pictures_alone(
    folder: Path, tmp_path: Path, clock: FakeClock
) -> None:
    rows = prepared(folder, tmp_path / "out", clock, AugmentCountAnomalous=30)
    copies = [row for row in rows if "-anomalous-" in row["file"]]
    assert len(copies) == 30
    assert {row["split"] for row in copies} == {"train"}
    held = {row["file"].split("/")[1].split(".")[0] for row in rows if row["split"] != "train"}
    assert not held & {row["group"] for row in copies}
    originals = {row["group"]: row["split"] for row in rows if row not in copies and row["group"]}
    assert all(originals[row["group"]] == "train" for row in copies)
    digests = load_source(tmp_path / "out").samples
    assert len({sample.digest for sample in digests}) == len(rows)  # no copy is another's double
    report = json.loads((tmp_path / "out" / "preprocessing_report.json").read_text())
    assert report["preprocessing"]["dataset"] == {
        "num_training_samples": 78, "num_test_samples": 6, "num_val_samples": 6,
    }  # fmt: skip


def test_no_copies_are_asked_for_and_none_are_made(
    folder: Path, tmp_path: Path, clock: FakeClock
) -> None:
    rows = prepared(folder, tmp_path / "out", clock)
    assert len(rows) == 60
    for row in rows:
        written = (tmp_path / "out" / row["file"]).read_bytes()
        assert any(path.read_bytes() == written for path in folder.rglob("*.png"))


def test_masks_are_paired_by_name_and_kept_pixel_by_pixel(tmp_path: Path, clock: FakeClock) -> None:
    root = tmp_path / "strips"
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for number in range(20):
        cv2.imwrite(str(root / "images" / f"{number}.png"), spot(number, bad=False))
        mask = np.zeros((64, 48), np.uint8)
        if number % 2:
            mask[number : number + 3, 5:9] = 255
        if number != 7:  # its mask is missing: the rest must not shift
            cv2.imwrite(str(root / "masks" / f"{number}.png"), mask)
    pipeline = semantic_segmentation.get_pipeline()
    with open_source(str(root), clock=clock) as source:
        assert any("7" in line.where for line in source.opened.skipped)
        prepare_pictures(pipeline, source, folder=tmp_path / "out", copies={})
    for sample in load_source(tmp_path / "out").samples:
        row = next(n for n in range(20) if n != 7 and _is(root, n, tmp_path / "out" / sample.name))
        assert (sample.mask_digest is not None) == bool(row % 2)
        if sample.mask_digest is not None:
            files = load_source(tmp_path / "out")
            mask = decode_picture(files.read_file(sample.mask_digest))[..., 0]
            assert set(np.unique(mask).tolist()) == {0, 255}
            assert mask[row : row + 3, 5:9].all()


def _is(root: Path, number: int, written: Path) -> bool:
    return (root / "images" / f"{number}.png").read_bytes() == written.read_bytes()


@pytest.mark.parametrize("names", [("good", "bad"), ("normal", "scratch")])
def test_other_labels_are_refused_with_a_sentence(
    tmp_path: Path, clock: FakeClock, names: tuple[str, str]
) -> None:
    for name in names:
        (tmp_path / name).mkdir()
        for number in range(6):
            image = spot(number + 100 * len(name), bad=False)
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), image)
    with (
        pytest.raises(InvalidError, match="neither normal nor anomalous"),
        open_source(str(tmp_path), clock=clock),
    ):
        pass


# ---- cached steps


def test_a_step_is_kept_for_thirty_days_and_only_when_whole(
    tmp_path: Path, clock: FakeClock
) -> None:
    cache = Cache(tmp_path, clock=clock)
    key = key_of("Train", inputs={"data": "sha256:1"})
    assert cache.find(key) is None
    cache.folder(key).mkdir(parents=True)
    (cache.folder(key) / "half").write_text("work under way")
    assert cache.find(key) is None
    assert (cache.folder(key) / "half").exists()
    cache.finish(key, step="Train", facts={"n": 3})
    clock.advance(timedelta(days=29).total_seconds())
    found = cache.find(key)
    assert found is not None
    assert found.facts == {"n": 3}
    clock.advance(timedelta(days=1).total_seconds())
    assert cache.find(key) is None
    assert not cache.folder(key).exists()


def test_other_inputs_are_another_step() -> None:
    keys = {
        key_of("a", inputs={"x": 1}),
        key_of("b", inputs={"x": 1}),
        key_of("a", inputs={"x": 2}),
    }
    assert len(keys) == 3


# ---- whole runs

Run = Callable[..., RunRecord]


@pytest.fixture
def versions(clock: FakeClock) -> Iterator[ModelVersions]:
    with open_records("memory://", clock=clock) as records:
        blobs = open_blobs("memory://")
        yield ModelVersions(records, Registry(records, blobs, clock=clock), clock=clock)
        blobs.close()


@pytest.fixture
def run(folder: Path, tmp_path: Path, versions: ModelVersions, clock: FakeClock) -> Run:
    def carry_out(cancelled: threading.Event | None = None, **parameters: object) -> RunRecord:
        pipeline = image_classification.get_pipeline(
            parameters={
                "InputData": str(folder),
                "TargetImageSize": 64,
                "GateRecall": 0.1,
                "GateBalancedAccuracy": 0.5,
                **parameters,
            }
        )
        return run_pipeline(pipeline, _ground(tmp_path, versions, clock, cancelled))

    return carry_out


def _ground(
    folder: Path, versions: ModelVersions, clock: FakeClock, cancelled: threading.Event | None
) -> PipelineContext:
    return PipelineContext(
        folder=folder / "pipelines",
        versions=versions,
        by="ada",
        clock=clock,
        progress=lambda _: None,
        cancelled=cancelled or threading.Event(),
    )


@pytest.mark.slow
def test_a_run_registers_what_passes_and_does_nothing_twice(
    run: Run, versions: ModelVersions, tmp_path: Path, clock: FakeClock
) -> None:
    # Six test pictures of each class: fewer, all right, are no proof against a guess.
    asked = {
        "InputData": str(write_pictures(tmp_path / "even", count=120, every=2)),
        "ModelApprovalStatus": "Approved",
        "TrainingNumTrainingSamples": 17,
    }
    first = run(**asked)
    assert first.outcome is Outcome.SUCCEEDED
    assert [step.outcome for step in first.steps] == [Outcome.SUCCEEDED] * 5
    group = "defect-detection-img-classification-model-group"
    registered = versions.one(group, 1)
    assert (first.version, registered.status) == (f"{group}/1", "PendingManualApproval")
    assert registered.metrics["accuracy"].n == 12
    assert registered.evidence["run"] == first.id
    remarks = " ".join(first.remarks)
    assert "a person approves" in remarks
    assert "96 pictures were counted" in remarks
    again = run(**asked)
    assert [step.cached for step in again.steps] == [True, True, True, False, False]
    assert again.version == first.version
    assert len(list((tmp_path / "pipelines" / "runs").glob("*.json"))) == 2
    trained = next(iter((tmp_path / "pipelines" / "steps").glob("*/package.lspkg")))
    package = Package.open(trained)
    prepare = package.manifest.prepare
    assert (prepare.colour, prepare.scale > 0) == ("rgb", True)  # the input is made as it says
    # What a device answers to a picture of other proportions is what was trained: one way to it.
    assert Predictor(package, clock=clock).check_golden().max_abs_diff < 1e-3


def _no_network(*_: object) -> None:
    raise AssertionError("a run asks nobody")


def test_a_gate_that_refuses_registers_nothing_and_says_why(
    run: Run, versions: ModelVersions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", _no_network)
    found = run(GateRecall=0.99)
    assert found.outcome is Outcome.REFUSED
    assert "0.990 is asked of the lower end" in found.reason
    assert found.steps[3].outcome is Outcome.REFUSED
    assert found.steps[4].outcome is Outcome.NOT_RUN
    assert found.version == ""
    assert versions.groups() == ()
    kept = next((tmp_path / "pipelines" / "runs").glob("*.json")).read_text()
    assert "is asked of the lower end" in kept


def test_a_group_of_another_task_is_refused_before_anything_is_prepared(
    run: Run, versions: ModelVersions, tmp_path: Path
) -> None:
    versions.register(build_package(*package_parts()), group="tiles", by="ada", metrics={})
    with pytest.raises(InvalidError, match="of task classify, and tiles/1 is of task multilabel"):
        run(ModelPackageGroupName="tiles")
    assert not (tmp_path / "pipelines" / "steps").exists()
    (kept,) = (tmp_path / "pipelines" / "runs").glob("*.json")
    assert "tiles/1 is of task multilabel" in json.loads(kept.read_text())["reason"]


def test_a_cancelled_run_leaves_its_record_and_goes_on_later(run: Run, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(JobCancelledError):
        run(cancelled=stop)
    (kept,) = (tmp_path / "pipelines" / "runs").glob("*.json")
    told = json.loads(kept.read_text())
    assert told["outcome"] == "Cancelled"
    assert told["steps"][1]["outcome"] == "Cancelled"
    assert told["reason"].startswith("DefectDetectionImageClassificationTrain: ")


def test_no_data_is_a_failed_run_with_its_sentence(
    tmp_path: Path, versions: ModelVersions, clock: FakeClock
) -> None:
    pipeline: Pipeline = image_classification.get_pipeline()
    assert pipeline.task is Task.CLASSIFY
    with pytest.raises(InvalidError, match="no data"):
        run_pipeline(pipeline, _ground(tmp_path, versions, clock, None))
    (kept,) = (tmp_path / "pipelines" / "runs").glob("*.json")
    assert json.loads(kept.read_text())["reason"].endswith("no data to train on")
