"""Good parts alone: drawn keys laid anyhow, and a grainy surface in pictures of various sizes."""

import base64
import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import Inspection, InvalidError, SystemClock, Task, decode_json, worker
from lineside.models import Package, Predictor
from lineside.models.result import example_file, package_result
from lineside.training import JobCancelledError, TrainJob, TrainResult
from lineside.training.tasks.anomaly.power import KINDS as DRAWN
from lineside.vision import Decision, PictureState, encode_png, open_frame
from tests.training.conftest import trained

CLOCK = SystemClock()
PAGE_FILE = "evidence/report.html"
Image = NDArray[np.uint8]
Draw = Callable[..., tuple[Image, NDArray[np.bool_]]]


def key(seed: int, *, spoilt: bool = False) -> tuple[Image, NDArray[np.bool_]]:
    """(200, 220, 3): a dark key on a bright ground, anywhere; a chip is a bright spot on it."""
    rng = np.random.default_rng(seed)
    part, chip = np.zeros((200, 220), np.float32), np.zeros((200, 220), np.float32)
    cv2.circle(part, (75, 100), 20, 110.0, -1)
    cv2.circle(part, (75, 100), 7, 40.0, -1)
    cv2.rectangle(part, (92, 94), (150, 106), 110.0, -1)
    cv2.rectangle(part, (136, 106), (143, 118), 110.0, -1)
    if spoilt:
        cv2.circle(chip, (int(rng.integers(100, 128)), 100), 4, 1.0, -1)
    turn = cv2.getRotationMatrix2D((110, 100), float(rng.uniform(0, 360)), 1)
    shift = rng.uniform(-10, 10, (2, 1))
    matrix = np.hstack([turn[:, :2], turn[:, 2:] + shift])
    laid = np.asarray(cv2.warpAffine(part * (1 - 0.8 * chip), matrix, (220, 200)), np.float32)
    mask = np.asarray(cv2.warpAffine(chip, matrix, (220, 200)), np.float32) > 0.5
    grey = (180 - laid + rng.normal(0, 2, laid.shape)) * rng.uniform(0.8, 1.1)
    image = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return image, np.asarray(mask, np.bool_)


def cloth(seed: int, *, spoilt: bool = False) -> tuple[Image, NDArray[np.bool_]]:
    """Woven grain in pictures of various sizes; a tear is a dark line."""
    rng = np.random.default_rng(seed)
    height, width = 128 + 16 * (seed % 3), 160
    y, x = np.mgrid[:height, :width]
    grey = 130 + 20 * np.sin(x / 2.0 + seed) + 20 * np.sin(y / 2.5) + rng.normal(0, 6, x.shape)
    mask = np.zeros((height, width), np.uint8)
    if spoilt:
        start = int(rng.integers(20, 60)), int(rng.integers(20, 90))
        cv2.line(mask, start, (start[0] + 70, start[1] + 20), 1, 5)
        grey = np.where(mask > 0, 40, grey)
    image = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return image, mask > 0


def write_source(
    folder: Path, draw: Draw, *, train: int, good: int, bad: int, lots: int = 0, fine: str = "good",
    test: str = "test",
) -> Path:  # fmt: skip
    """A CSV source; the training part holds one defective picture too."""
    (folder / "masks").mkdir(parents=True)
    rows = [["file", "label", "mask", "split", "group"]]
    kinds = [("good", "train")] * train + [("chip", "train")]
    kinds += [("good", test)] * good + [("chip", test)] * bad
    for number, (kind, part) in enumerate(kinds):
        image, mask = draw(number, spoilt=kind != "good")
        (folder / f"{number:03d}.png").write_bytes(encode_png(image))
        name = ""
        if kind != "good" and number % 4:  # a few defects were never drawn
            name = f"masks/{number:03d}.png"
            white = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
            (folder / name).write_bytes(encode_png(white))
        rows.append(
            [
                f"{number:03d}.png",
                fine if kind == "good" else kind,
                name,
                part,
                f"{part} {number % lots}" if lots else "",
            ]
        )
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def job_for(data: Path, *, power_pictures: int = 0, good: tuple[str, ...] = ()) -> TrainJob:
    inspection = Inspection(id="keys", camera="top", task=Task.ANOMALY, good=good)
    settings = {"power_pictures": float(power_pictures)}
    return TrainJob(inspection=inspection, data=str(data), settings=settings)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("s") / "keys", key, train=14, good=6, bad=6)


@pytest.fixture(scope="module")
def result(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return trained(job_for(keys, power_pictures=1), tmp_path_factory.mktemp("job"))


def test_chips_are_told_from_good_keys_that_lie_anyhow(result: TrainResult) -> None:
    metrics = result.metrics
    assert metrics["auroc"].value >= 0.95
    assert metrics["auroc"].n == 12
    assert metrics["pixel_auroc"].value >= 0.9
    assert metrics["pro"].n < 12  # defects that nobody drew are left out
    assert metrics["recall"].n == 6
    assert metrics["false_reject_rate"].n == 6
    for metric in metrics.values():
        assert metric.low <= metric.value <= metric.high


@pytest.mark.slow
def test_good_and_bad_pictures_are_measured_where_nobody_gave_a_test_part(tmp_path: Path) -> None:
    data = write_source(tmp_path / "keys", key, train=9, good=0, bad=3, test="train")
    made = trained(job_for(data), tmp_path / "job")
    report = decode_json(made.report, where="report")
    assert report["evidence"] == "cross-validation"
    figures = made.metrics
    assert (figures["auroc"].n, figures["recall"].n, figures["false_reject_rate"].n) == (13, 4, 9)
    assert figures["auroc"].value >= 0.9


def test_the_package_holds_its_pose_and_says_what_it_was_made_from(result: TrainResult) -> None:
    package = Package.read(result.package)
    manifest = package.manifest
    assert manifest.prepare.pose is not None
    assert manifest.prepare.pose.template_file in package.files
    assert manifest.anomaly is not None
    assert manifest.anomaly.false_reject_rate == 0.1575  # the first above 1 - 0.1 ** (1 / 14)
    assert manifest.anomaly.calibration_pictures == 14
    said = " ".join(manifest.lineage.warnings)
    assert "1 pictures of the training part show defects" in said
    assert "few pictures" in said


def test_the_report_says_and_shows_which_drawn_defects_are_found(result: TrainResult) -> None:
    package = Package.read(result.package)
    measured = package_result(package)
    assert measured is not None
    assert measured.power is not None
    power = measured.power
    assert (power.pictures, power.kinds, len(power.defects)) == (1, DRAWN, 15)
    assert power.words in measured.words
    assert set(power.gaps) <= set(package.manifest.lineage.warnings)
    page = package.files[PAGE_FILE].decode()
    assert "Drawn defects" in page
    for kind in DRAWN:
        jpeg = package.files[example_file(kind)]
        assert base64.b64encode(jpeg).decode() in page


def test_golden_answers_are_given_again(predictor: Predictor) -> None:
    report = predictor.check_golden()
    assert report.pictures == 3
    assert report.max_abs_diff <= 1e-4


def test_heat_is_highest_on_the_chip(predictor: Predictor) -> None:
    image, mask = key(901, spoilt=True)
    frame = open_frame(encode_png(image), camera="h", captured_at=CLOCK.now())
    said = predictor.predict(frame)
    assert said.anomaly is not None
    assert said.anomaly.decision is not Decision.ABSENT
    heat = predictor.heat(frame)
    assert heat is not None
    assert heat.shape == mask.shape
    assert heat[mask].mean() > 2 * heat[~mask].mean()
    near = predictor.nearest(frame)
    assert len({one.picture for one in near}) == 4
    assert near[0].distance <= near[-1].distance
    explained = predictor.explain(frame)["anomaly"]
    assert 0 <= explained.min() <= explained.max() <= 1


def test_what_cannot_be_placed_is_refused_with_the_reason(predictor: Predictor) -> None:
    rng = np.random.default_rng(5)
    bare = np.clip(180 + rng.normal(0, 4, (200, 220, 3)), 0, 255).astype(np.uint8)
    cv2.line(bare, (0, 60), (219, 90), (60, 60, 60), 30)
    frame = open_frame(encode_png(bare), camera="b", captured_at=CLOCK.now())
    said = predictor.predict(frame)
    assert said.state is PictureState.CAMERA_MOVED
    assert said.anomaly is None
    assert said.reason
    assert predictor.heat(frame) is None


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_package_with_any_number_of_threads(
    keys: Path, result: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PICTURES_AT_ONCE", worker.PICTURES_AT_ONCE + 2)
    with pytest.raises(JobCancelledError):
        trained(job_for(keys, power_pictures=1), tmp_path, cancel_at=50)
    kept = sorted((tmp_path / "anomaly").iterdir())
    kept[0].write_bytes(kept[0].read_bytes()[:200])  # as a power cut leaves it
    assert trained(job_for(keys, power_pictures=1), tmp_path).package == result.package


@pytest.mark.slow
def test_a_surface_of_various_sizes_is_learned_without_places(tmp_path: Path) -> None:
    # Two lots are two folds: half as many scorers to fit as of pictures without a group.
    source = write_source(tmp_path / "cloth", cloth, train=12, good=6, bad=6, lots=2, fine="i.O.")
    result = trained(job_for(source, good=("i.O.",)), tmp_path / "job")
    package = Package.read(result.package)
    prepare = package.manifest.prepare
    assert (prepare.fit, prepare.pose, package.manifest.good) == ("zoom", None, ("i.O.",))
    assert result.metrics["auroc"].value >= 0.9
    assert result.metrics["false_reject_rate"].n == 6
    assert decode_json(result.report, where="report")["controls"]["alone"]
    assert Predictor(package, clock=CLOCK).check_golden().max_abs_diff <= 1e-3


def test_too_few_good_pictures_are_refused(tmp_path: Path) -> None:
    source = write_source(tmp_path / "few", key, train=3, good=2, bad=1)
    with pytest.raises(InvalidError, match="3 good pictures"):
        trained(job_for(source), tmp_path / "job")


@pytest.mark.slow
def test_a_folder_of_good_pictures_alone_is_enough(tmp_path: Path) -> None:
    """Pictures that hardly differ: what tells them apart is stretched most."""
    rng = np.random.default_rng(5)
    (tmp_path / "plain" / "normal").mkdir(parents=True)
    waves = np.sin(np.arange(192) / 3)[None, :, None]
    for number in range(20):
        grain = rng.normal(0, 1, (192, 192, 3)) + rng.normal(0, 4)
        image = np.clip(120 + 20 * waves + grain, 0, 255).astype(np.uint8)
        (tmp_path / "plain" / "normal" / f"{number}.png").write_bytes(encode_png(image))
    result = trained(job_for(tmp_path / "plain"), tmp_path / "job")
    assert set(result.metrics) == {"false_reject_rate", "unsure_rate", "refused_rate"}
    assert result.metrics["false_reject_rate"].n == 20
    assert result.metrics["false_reject_rate"].high > 0.15, "twenty pictures promise little"
    package = Package.read(result.package)
    said = " ".join(package.manifest.lineage.warnings)
    assert "many defects are found is not" in said
    assert Predictor(package, clock=CLOCK).check_golden().max_abs_diff <= 1e-3
