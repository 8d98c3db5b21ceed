"""Masks learned from a few drawn plates with scratches: some masks, some labels, most good."""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import Inspection, InvalidError, SystemClock, Task, decode_json
from lineside.models import Package, Predictor
from lineside.models.engines import BareEngine
from lineside.models.result import RANDOM_PART
from lineside.training import JobCancelledError, TrainJob, TrainResult
from lineside.vision import Decision, PictureState, encode_png, open_frame
from lineside.vision.masks import mask_of
from tests.training.conftest import trained

pytestmark = pytest.mark.slow

CLOCK = SystemClock()
QUICK = {"steps": 50, "side_px": 64, "zoom": 1.0}
Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plate:
    """A drawn picture and its mask."""

    image: Image
    mask: NDArray[np.bool_]


def plate(seed: int, *, scratched: bool, size: tuple[int, int] = (72, 96)) -> Plate:
    """A grey, grainy plate, dark scratches on it."""
    rng = np.random.default_rng(seed)
    height, width = size
    grey = np.full(size, rng.uniform(120, 150), np.float32) + rng.normal(0, 6, size)
    mask = np.zeros(size, np.uint8)
    if scratched:
        for _ in range(2):
            x, y = rng.integers(12, width - 12), rng.integers(12, height - 12)
            far = (int(x + rng.integers(-24, 24)), int(y + rng.integers(8, 24)))
            cv2.line(mask, (int(x), int(y)), far, 255, 4)
        grey = np.where(mask > 0, grey - 70, grey)
    image = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return Plate(image=image, mask=mask > 0)


def write_source(folder: Path, *, good: int, drawn: int, bare: int, part: str = "") -> Path:
    """A CSV source: good plates, scratched ones with masks, scratched ones without."""
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    table = folder / "labels.csv"
    rows = [] if table.exists() else ["file,label,mask,split"]
    kinds = ["good"] * good + ["drawn"] * drawn + ["bare"] * bare
    for number, kind in enumerate(kinds):
        name = f"{part}{number:03d}"
        shown = plate(
            sum(map(ord, part)) * 1000 + number,
            scratched=kind != "good",
            size=(72 + number % 3 * 8, 96),
        )
        (folder / f"{name}.png").write_bytes(encode_png(shown.image))
        mask = ""
        if kind == "drawn":
            mask = f"masks/{name}.png"
            white = np.repeat(shown.mask[..., None].astype(np.uint8) * 255, 3, axis=2)
            (folder / mask).write_bytes(encode_png(white))
        rows.append(f"{name}.png,{'i.O.' if kind == 'good' else 'kratzer'},{mask},{part}")
    with table.open("a") as file:
        file.write("\n".join(rows) + "\n")
    return folder


def job_for(data: Path, **settings: float) -> TrainJob:
    inspection = Inspection(
        id="scratches", camera="top", task=Task.SEGMENT, labels=("i.O.", "kratzer"), good=("i.O.",)
    )
    return TrainJob(inspection=inspection, data=str(data), settings={**QUICK, **settings})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plates")
    write_source(folder, good=14, drawn=12, bare=3, part="train")
    return write_source(folder, good=6, drawn=6, bare=1, part="test")


@pytest.fixture(scope="module")
def result(source: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return trained(job_for(source), tmp_path_factory.mktemp("job"))


def said_of(predictor: Predictor, image: Image) -> tuple[Decision, NDArray[np.bool_]]:
    frame = open_frame(encode_png(image), camera=f"c{image.sum()}", captured_at=CLOCK.now())
    said = predictor.predict(frame)
    assert said.state is PictureState.OK, said.reason
    assert said.mask is not None
    size = {"width_px": said.mask.width_px, "height_px": said.mask.height_px}
    return said.labels[0].decision, mask_of(said.mask.rle, **size)


def test_scratches_are_found_and_measured(result: TrainResult) -> None:
    metrics = result.metrics
    assert metrics["auroc"].value >= 0.95
    assert metrics["pixel_f1"].value >= 0.6
    assert metrics["pixel_f1_per_picture"].n == 6
    assert metrics["pro"].value >= 0.8
    assert metrics["pixel_auroc"].value >= 0.9
    assert (metrics["auroc"].n, metrics["pixel_f1"].n) == (13, 12)
    assert decode_json(result.report, where="report")["controls"]["alone"]
    for metric in metrics.values():
        assert metric.low <= metric.value <= metric.high


def test_all_pictures_are_measured_where_nobody_gave_a_test_part(tmp_path: Path) -> None:
    data = write_source(tmp_path / "data", good=10, drawn=10, bare=0)
    made = trained(job_for(data, steps=10), tmp_path / "job")
    report = decode_json(made.report, where="report")
    assert report["evidence"] == f"cross-validation and {RANDOM_PART}"
    assert made.pictures < made.metrics["auroc"].n == made.metrics["pixel_f1"].n == 20
    kinds = {name for name in report["per_class"] if name.startswith("recall/")}
    assert kinds == {"recall/i.O.", "recall/kratzer"}  # as the source says them


def test_the_mask_lies_on_the_scratch_of_a_picture_of_another_size(predictor: Predictor) -> None:
    shown = plate(991, scratched=True, size=(101, 131))
    decision, mask = said_of(predictor, shown.image)
    assert decision is not Decision.ABSENT
    assert mask.shape == shown.image.shape[:2]
    both = int((mask & shown.mask).sum())
    assert 2 * both / (int(mask.sum()) + int(shown.mask.sum())) >= 0.5


def test_the_map_of_probabilities_is_highest_on_the_scratch(predictor: Predictor) -> None:
    shown = plate(992, scratched=True)
    frame = open_frame(encode_png(shown.image), camera="m", captured_at=CLOCK.now())
    heat = predictor.heat(frame)
    assert heat is not None
    assert 0 <= heat.min() <= heat.max() <= 1
    assert heat[shown.mask].mean() > 3 * heat[~shown.mask].mean()
    assert set(predictor.explain(frame)) == {"kratzer"}


def test_a_good_picture_is_not_called_scratched(predictor: Predictor) -> None:
    decisions = [said_of(predictor, plate(700 + n, scratched=False).image)[0] for n in range(5)]
    assert Decision.PRESENT not in decisions


def test_a_known_picture_is_the_nearest_to_itself(predictor: Predictor) -> None:
    golden = predictor.manifest.golden[0]
    seen = open_frame(predictor.package.file(golden.file), camera="c", captured_at=CLOCK.now())
    found = predictor.nearest(seen)
    assert found[0].picture == golden.digest
    assert found[0].distance < 0.01 < found[1].distance


def test_the_package_answers_its_golden_pictures(predictor: Predictor) -> None:
    report = predictor.check_golden()
    assert report.pictures == 3
    assert report.max_abs_diff <= 1e-3


def test_the_manifest_says_how_much_it_rests_on(predictor: Predictor) -> None:
    manifest = predictor.manifest
    assert manifest.mask is not None
    assert (manifest.labels, manifest.good) == (("kratzer",), ("i.O.",))
    assert (manifest.mask.stride_px, manifest.mask.calibration_pictures) == (2, 29)
    assert manifest.mask.error_rate > 0.05  # 29 answers show no such rate
    assert any("few masks" in warning for warning in manifest.lineage.warnings)
    assert any("without a mask" in warning for warning in manifest.lineage.warnings)


def test_the_same_job_gives_the_same_package_also_when_it_was_stopped(
    source: Path, result: TrainResult, tmp_path: Path
) -> None:
    with pytest.raises(JobCancelledError):
        trained(job_for(source), tmp_path, cancel_at=50)
    assert (tmp_path / "segment" / "fold-0.npz").exists()
    assert trained(job_for(source), tmp_path).digest == result.digest


def test_a_network_that_clients_feed_takes_shares_of_white_on_exactly_that_square(
    source: Path, tmp_path: Path
) -> None:
    settings = {**QUICK, "input_px": 96.0, "input_scale": 255.0}
    package = Package.read(trained(job_for(source, **settings), tmp_path).package)
    prepare = package.manifest.prepare
    assert (prepare.width_px, prepare.height_px, prepare.fit) == (96, 96, "stretch")
    assert (prepare.mean, prepare.scale) == (0.0, 255.0)
    network = BareEngine(package.file(package.manifest.engine.file), where="network")
    (slot,) = network.inputs
    assert slot.shape == (1, 3, 96, 96)
    shown = plate(1, scratched=True)
    values = cv2.resize(shown.image, (96, 96)).astype(np.float32).transpose(2, 0, 1)[None] / 255
    cells = network.run({slot.name: values})[0][0, 0]
    marked = cv2.resize(shown.mask.astype(np.uint8), cells.shape[::-1]) > 0
    assert cells[marked].mean() > cells[~marked].mean() + 1
    Predictor(package, clock=CLOCK).check_golden()


def test_without_masks_nothing_is_learned(tmp_path: Path) -> None:
    data = write_source(tmp_path / "bare", good=8, drawn=1, bare=6)
    with pytest.raises(InvalidError, match="mask"):
        trained(job_for(data), tmp_path / "job")


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_hairline_cracks_of_real_parts_are_found(data_folder: Path, tmp_path: Path) -> None:
    job = job_for(data_folder / "kolektor-sdd")
    job = replace(
        job,
        inspection=replace(job.inspection, labels=("good", "defect"), good=()),
        settings={"steps": 40, "side_px": 128, "batch_size": 6},
    )
    result = trained(job, tmp_path)
    prepare = Package.read(result.package).manifest.prepare
    assert prepare.zoom == 0.5  # cracks a few pixels wide survive
    assert result.metrics["pixel_f1"].value >= 0.4
    assert result.metrics["pixel_auroc"].value >= 0.95
    assert result.metrics["auroc"].value > result.metrics["auroc"].baseline
