"""Learning the class of whole pictures: chosen by held-out pictures, measured, explained, kept."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import Inspection, InvalidError, Policy, SystemClock, Task
from lineside.models import Package, Predictor
from lineside.models.engines import BareEngine
from lineside.models.result import GIVEN_PART, RANDOM_PART, report_result
from lineside.training import TrainJob, TrainResult, run_job
from lineside.training.job import JobCancelledError
from lineside.training.tasks import metrics
from lineside.training.tasks.classify import features
from lineside.vision import Decision, Frame, PictureState, encode_png, open_frame

PAGE = "evidence/report.html"
SHAPES = ("disc", "ring", "square")
Image = NDArray[np.uint8]


def shape(kind: str, *, seed: int) -> Image:
    """(88, 120, 3) uint8: one bright shape of a kind somewhere on noise."""
    rng = np.random.default_rng(seed)
    image = np.full((88, 120, 3), 60, np.uint8)
    middle = (int(rng.integers(35, 85)), int(rng.integers(32, 56)))
    size = int(rng.integers(16, 24))
    shade = tuple(int(v) for v in rng.integers(150, 240, 3))
    if kind == "square":
        corner = (middle[0] - size, middle[1] - size)
        cv2.rectangle(image, corner, (middle[0] + size, middle[1] + size), shade, -1)
    else:
        cv2.circle(image, middle, size, shade, 5 if kind == "ring" else -1, cv2.LINE_AA)
    return np.asarray(np.clip(image + rng.normal(0, 6, image.shape), 0, 255), np.uint8)


def write_shapes(folder: Path, *, each: int = 12, kinds: tuple[str, ...] = SHAPES) -> Path:
    """A folder with ``labels.csv``; the last three of each kind are the test part."""
    folder.mkdir(parents=True)
    rows = ["file,label,split"]
    for number, kind in enumerate(kinds):
        for place in range(each):
            name = f"{kind}-{place}.png"
            (folder / name).write_bytes(encode_png(shape(kind, seed=100 * number + place)))
            rows.append(f"{name},{kind},{'test' if place >= each - 3 else 'train'}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def inspection(*labels: str, error_rate: float = 0.1) -> Inspection:
    return Inspection(
        id="shape",
        camera="bench",
        task=Task.CLASSIFY,
        labels=labels,
        policy=Policy(error_rate=error_rate),
    )


def train(
    data: Path,
    folder: Path,
    *,
    labels: tuple[str, ...] = SHAPES,
    cache: Path | None = None,
    tell: Callable[[object], None] = lambda _: None,
    cancelled: threading.Event | None = None,
    settings: dict[str, float] | None = None,
) -> TrainResult:
    job = TrainJob(inspection=inspection(*labels), data=str(data), settings=settings or {})
    return run_job(
        job,
        folder=folder,
        progress=tell,
        cancelled=cancelled or threading.Event(),
        clock=SystemClock(),
        cache=cache,
    )


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes") / "data")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def trained(shapes: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train(shapes, tmp_path_factory.mktemp("job"), cache=shared)


def frame(kind: str, *, seed: int) -> Frame:
    return open_frame(
        encode_png(shape(kind, seed=seed)), camera=f"{seed}", captured_at=SystemClock().now()
    )


def test_shapes_are_told_apart_on_pictures_never_trained_on(trained: TrainResult) -> None:
    assert trained.metrics["argmax_accuracy"].value >= 8 / 9
    assert trained.metrics["argmax_accuracy"].n == 9
    assert trained.metrics["argmax_accuracy"].baseline == pytest.approx(1 / 3, abs=1e-6)
    assert trained.metrics["coverage"].value >= 8 / 9


def test_the_figures_of_a_given_test_part_are_named_as_such(trained: TrainResult) -> None:
    report = json.loads(trained.report)
    assert (report["evidence"], report["validation_pictures"]) == (GIVEN_PART, 9)
    found = report_result(trained.report)
    assert found is not None
    assert found.measured == "Measured on 9 pictures it had not seen, the data's own test part."


def test_the_package_holds_what_its_golden_pictures_promise(trained: TrainResult) -> None:
    predictor = Predictor(Package.read(trained.package), clock=SystemClock())
    report = predictor.check_golden()
    assert report.pictures == 3
    assert report.max_abs_diff <= 1e-4


def test_a_known_picture_is_the_nearest_to_itself(trained: TrainResult) -> None:
    package = Package.read(trained.package)
    golden = package.manifest.golden[0]
    seen = open_frame(package.file(golden.file), camera="c", captured_at=SystemClock().now())
    found = Predictor(package, clock=SystemClock()).nearest(seen)
    assert found[0].picture == golden.digest
    assert found[0].distance < 0.01 < found[1].distance
    assert len({one.picture for one in found}) == 4


def test_a_picture_of_another_size_is_fitted_and_answered(trained: TrainResult) -> None:
    predictor = Predictor(Package.read(trained.package), clock=SystemClock())
    small = shape("ring", seed=77)
    grown = np.asarray(cv2.resize(small, (162, 119), interpolation=cv2.INTER_NEAREST), np.uint8)
    seen = predictor.predict(
        open_frame(encode_png(grown), camera="c", captured_at=SystemClock().now())
    )
    assert seen.state is PictureState.OK
    best = max(seen.labels, key=lambda answer: answer.probability)
    assert best.label == "ring"


def test_the_explanation_lies_where_the_shape_is(trained: TrainResult) -> None:
    predictor = Predictor(Package.read(trained.package), clock=SystemClock())
    shown = frame("square", seed=4242)
    maps = predictor.explain(shown)
    assert set(maps) == set(SHAPES)
    heat = maps["square"]
    assert heat.shape == shown.image.shape[:2]
    assert 0 <= float(heat.min()) <= float(heat.max()) <= 1
    inside = cv2.dilate((shown.image.mean(axis=2) > 110).astype(np.uint8), np.ones((15, 15)))
    assert heat[inside == 1].mean() > 1.5 * heat[inside == 0].mean()


def test_something_else_entirely_is_unfamiliar(trained: TrainResult) -> None:
    predictor = Predictor(Package.read(trained.package), clock=SystemClock())
    noise = np.random.default_rng(3).integers(40, 160, (88, 120, 3)).astype(np.uint8)
    seen = predictor.predict(
        open_frame(encode_png(noise), camera="n", captured_at=SystemClock().now())
    )
    own = predictor.predict(frame("disc", seed=900))
    assert own.health.feature_distance < seen.health.feature_distance


def test_every_set_holds_one_class_or_says_unsure(trained: TrainResult) -> None:
    predictor = Predictor(Package.read(trained.package), clock=SystemClock())
    for seed in range(5):
        answers = predictor.predict(frame("disc", seed=500 + seed)).labels
        present = [each for each in answers if each.decision is Decision.PRESENT]
        unsure = [each for each in answers if each.decision is Decision.UNSURE]
        assert (len(present), bool(unsure)) in {(1, False), (0, True)}
        assert sum(each.probability for each in answers) == pytest.approx(1, abs=0.2)


@pytest.mark.slow
def test_the_same_job_gives_the_same_bytes_with_any_cache_and_number_of_threads(
    trained: TrainResult,
    shapes: Path,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    again = train(shapes, tmp_path / "again", cache=shared)
    for module in (features, metrics):
        monkeypatch.setattr(module, "PICTURES_AT_ONCE", module.PICTURES_AT_ONCE + 2)
    assert again.digest == trained.digest == train(shapes, tmp_path / "alone").digest
    assert [path.parent.name for path in tmp_path.glob("*/features")] == ["alone"]


@pytest.mark.slow
def test_a_stopped_job_goes_on_to_the_same_package(
    trained: TrainResult, shapes: Path, tmp_path: Path
) -> None:
    stop = threading.Event()

    def tell(progress: object) -> None:
        if getattr(progress, "percent", 0) > 20:
            stop.set()

    with pytest.raises(JobCancelledError):
        train(shapes, tmp_path / "job", tell=tell, cancelled=stop)
    assert train(shapes, tmp_path / "job").digest == trained.digest


@pytest.fixture(scope="module")
def unparted(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> TrainResult:
    """Learned from 20 pictures that name no parts."""
    folder = tmp_path_factory.mktemp("unparted")
    table = write_shapes(folder / "data", kinds=("disc", "ring"), each=10) / "labels.csv"
    table.write_text("\n".join(row.rpartition(",")[0] for row in table.read_text().split()))
    return train(folder / "data", folder / "job", labels=("disc", "ring"), cache=shared)


def test_two_classes_get_the_ranking_figures_of_the_rarer_one(unparted: TrainResult) -> None:
    metrics = unparted.metrics
    assert {"auroc", "average_precision", "auroc/disc", "auroc/ring"} <= set(metrics)
    assert metrics["auroc"].value >= 0.8


def test_without_a_given_part_the_figures_are_of_all_pictures(unparted: TrainResult) -> None:
    report = json.loads(unparted.report)
    assert unparted.pictures == 18
    assert {unparted.metrics[name].n for name in ("accuracy", "auroc", "unsure_rate")} == {20}
    assert Package.read(unparted.package).manifest.metrics == unparted.metrics
    assert sum(map(sum, report["confusion"]["shape"]["rows"])) == 20
    limits = report["limits"]["disc"]
    assert limits[0]["over_rejects"] + limits[-1]["escapes"] == 20
    assert report["evidence"] == f"cross-validation and {RANDOM_PART}"
    assert report["validation_pictures"] == 0
    rule = Package.read(unparted.package).manifest.classes
    assert rule is not None
    assert report["error_bound"]["bound"] == rule.error_rate > 0.1  # 20 images cannot show less
    found = report_result(unparted.report)
    assert found is not None
    assert found.measured.startswith("Cross-validated on 20 pictures:")
    assert escape(found.words) in Package.read(unparted.package).file(PAGE).decode()


def test_the_package_judges_again_only_what_it_has_not_learned_from(unparted: TrainResult) -> None:
    controls = json.loads(unparted.report)["controls"]
    assert {figure["reached"]["n"] for figure in controls["alone"]} == {20}
    assert controls["gain_plain"]["accuracy"]["n"] == 2


@pytest.mark.slow
def test_a_side_in_pixels_can_be_prescribed(shapes: Path, tmp_path: Path, shared: Path) -> None:
    result = train(shapes, tmp_path / "job", cache=shared, settings={"input_px": 160})
    prepare = Package.read(result.package).manifest.prepare
    assert (prepare.width_px, prepare.height_px) == (192, 128)


@pytest.mark.slow
def test_a_network_that_clients_feed_takes_pixels_of_exactly_that_square(
    shapes: Path, tmp_path: Path, shared: Path
) -> None:
    settings = {"input_px": 64.0, "input_scale": 1.0, "tune": 0.0}
    fed = train(shapes, tmp_path / "fed", cache=shared, settings=settings)
    package = Package.read(fed.package)
    prepare = package.manifest.prepare
    assert (prepare.width_px, prepare.height_px, prepare.fit) == (64, 64, "stretch")
    assert (prepare.mean, prepare.scale, prepare.level) == (0.0, 1.0, 0.0)
    network = BareEngine(package.file(package.manifest.engine.file), where="network")
    assert [slot.shape for slot in network.inputs] == [(1, 3, 64, 64)]
    image = shape("ring", seed=3)
    values = cv2.resize(image, (64, 64), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    logits = network.run({network.inputs[0].name: values.transpose(2, 0, 1)[None]})[0]
    assert SHAPES[int(logits.argmax())] == "ring"
    Predictor(package, clock=SystemClock()).check_golden()


def _lit(folder: Path, gain: Callable[[str, np.random.Generator], float]) -> Path:
    """The pictures of a folder, each multiplied by a gain of its own."""
    rng = np.random.default_rng(5)
    for path in sorted(folder.glob("*.png")):
        kind, _, place = path.stem.partition("-")
        image = shape("ring" if kind == "ring" else "disc", seed=int(place))
        path.write_bytes(encode_png((image * gain(kind, rng)).astype(np.uint8)))
    return folder


@pytest.mark.slow
def test_light_that_says_nothing_is_evened_out(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "data", kinds=("disc", "ring"), each=20)
    _lit(data, lambda _, rng: float(rng.uniform(0.15, 1.0)))
    settings = {"input_px": 64.0, "tune": 0.0}
    result = train(data, tmp_path / "job", labels=("disc", "ring"), settings=settings)
    assert Package.read(result.package).manifest.prepare.level == 127.0
    assert "one brightness" in json.loads(result.report)["sections"]["How it was chosen"]["input"]


@pytest.mark.slow
def test_light_that_tells_classes_apart_is_kept(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "data", kinds=("dim", "bright"), each=20)
    _lit(data, lambda kind, rng: float(rng.uniform(0.9, 1.0)) * (0.5 if kind == "dim" else 1.0))
    settings = {"input_px": 64.0, "tune": 0.0}
    result = train(data, tmp_path / "job", labels=("dim", "bright"), settings=settings)
    assert Package.read(result.package).manifest.prepare.level == 0.0
    assert result.metrics["argmax_accuracy"].value == 1.0


def test_a_class_without_a_picture_to_learn_from_is_named(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "data", each=4)
    rows = (data / "labels.csv").read_text().splitlines()
    kept = [row for row in rows if not row.endswith("square,train")]
    (data / "labels.csv").write_text("\n".join(kept) + "\n")
    with pytest.raises(InvalidError, match="square: 0"):
        train(data, tmp_path / "job", labels=SHAPES)


@pytest.mark.slow
@pytest.mark.parametrize("each", ["", "class "])
def test_pictures_of_one_group_are_told_apart_and_the_report_says_so(
    tmp_path: Path, shared: Path, each: str
) -> None:
    """All of one group, or all of a class: the network that had not seen it would not know it."""
    data = write_shapes(tmp_path / "data", kinds=("disc", "square"), each=8)
    rows = (data / "labels.csv").read_text().splitlines()
    line = [row.split(",")[1] if each else "line" for row in rows[1:]]
    grouped = [
        f"{row},{group if row.endswith('train') else 'other'}"
        for row, group in zip(rows[1:], line, strict=True)
    ]
    (data / "labels.csv").write_text("\n".join([rows[0] + ",group", *grouped]) + "\n")
    result = train(
        data, tmp_path / "job", labels=("disc", "square"), cache=shared,
        settings={"input_px": 64.0, "tune": 0.0},
    )  # fmt: skip
    assert result.metrics["refused_rate"].value == 0
    lineage = Package.read(result.package).manifest.lineage
    assert any("of one group" in warning for warning in lineage.warnings)
    assert ("of disc, square are of one group each" in str(lineage.warnings)) is bool(each)


def test_a_job_names_two_classes_at_least(shapes: Path, tmp_path: Path) -> None:
    job = TrainJob(inspection=inspection("disc"), data=str(shapes))
    with pytest.raises(InvalidError, match="too few pictures"):
        run_job(
            replace(job, labels=()),
            folder=tmp_path,
            progress=lambda _: None,
            cancelled=threading.Event(),
            clock=SystemClock(),
        )


@pytest.mark.slow
def test_fine_tuning_is_tried_watched_and_kept_only_where_it_pays(
    shapes: Path, shared: Path, tmp_path: Path
) -> None:
    settings = {"tune": 2.0, "epochs": 1.0, "input_px": 64.0}
    result = train(shapes, tmp_path / "job", cache=shared, settings=settings)
    report = json.loads(result.report)
    said = report["sections"]["How it was chosen"]
    assert said["network"] in {"frozen", "fine-tuned"}
    assert said["epochs"]
    assert set(report["history"][0]) == {"epoch", "validation_loss", "accuracy"}
    assert list((tmp_path / "job" / "classify").glob("*.npz"))
    assert train(shapes, tmp_path / "again", cache=shared, settings=settings).digest == (
        result.digest
    )


@pytest.mark.data
@pytest.mark.slow
def test_real_castings_are_told_apart_and_none_is_refused(
    data_folder: Path, tmp_path: Path
) -> None:
    data = data_folder / "casting"
    names = ("defective", "good")
    result = train(data, tmp_path, labels=names, settings={"input_px": 224.0, "tune": 0.0})
    assert result.metrics["argmax_accuracy"].value >= 0.9
    assert result.metrics["coverage"].value >= 0.9
    assert result.metrics["refused_rate"].value == 0
