"""Learning to find objects: crops, targets, rounds, fits that go on, packages that answer."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import (
    Inspection,
    InvalidError,
    Policy,
    SystemClock,
    Task,
    decode_json,
    digest_of,
)
from lineside.datasets import Marked, Part, Sample
from lineside.models import Package, Predictor
from lineside.models.result import RANDOM_PART
from lineside.testing.pictures import tray, tray_folder
from lineside.training import JobCancelledError, Progress, TrainJob, TrainResult, run_job
from lineside.training.common.export import limits_of
from lineside.training.common.loop import MANY, LoopPlan, Parallel, Round, fit_rounds, rounds
from lineside.training.job import Steps
from lineside.training.tasks.detect.learn import (
    ValidationPicture,
    bound_of,
    hits_of,
    outcomes_of,
    rule_from,
)
from lineside.training.tasks.detect.network import targets_of
from lineside.training.tasks.detect.scene import (
    OBJECT_PX,
    Piece,
    Scene,
    draw_piece,
    scale_of,
    scene_of,
    whole_piece,
)
from lineside.vision import DetectRule, HealthFigures, encode_png, open_frame, picture_health
from lineside.vision.detections import Candidates, find_objects

QUICK = {"steps": 24.0, "batch_size": 4.0}
Image = np.ndarray


def train(
    data: Path,
    folder: Path,
    *,
    task: Task = Task.DETECT,
    settings: dict[str, float] | None = None,
    labels: tuple[str, ...] = (),
    progress: Callable[[Progress], None] = lambda _: None,
    cancelled: threading.Event | None = None,
) -> TrainResult:
    inspection = Inspection(id="tray", camera="", task=task, labels=labels)
    return run_job(
        TrainJob(inspection=inspection, data=str(data), settings=settings or QUICK),
        folder=folder,
        progress=progress,
        cancelled=cancelled or threading.Event(),
        clock=SystemClock(),
    )


def sample(number: int, *marks: Marked, group: str = "", split: Part = Part.OPEN) -> Sample:
    return Sample(
        name=f"{number}.png",
        digest=digest_of(str(number).encode()),
        marked=marks,
        group=group,
        split=split,
    )


def box(x0: float, y0: float, x1: float, y1: float, *, label: str = "disc") -> Marked:
    return Marked(label=label, x0_px=x0, y0_px=y0, x1_px=x1, y1_px=y1)


def scene(*boxes: tuple[float, float, float, float], size: tuple[int, int] = (200, 160)) -> Scene:
    return Scene(
        sample=sample(0),
        boxes_px=np.array(boxes, np.float64).reshape(-1, 4),
        label=np.zeros(len(boxes), np.intp),
        sized=np.ones(len(boxes), np.bool_),
        teaches_size=np.ones(len(boxes), np.bool_),
        size_px=size,
    )


@given(st.integers(0, 10_000))
def test_objects_stay_with_their_pixels_however_a_crop_is_drawn(seed: int) -> None:
    image = np.full((160, 200, 3), 20, np.uint8)
    image[60:90, 100:120] = 220
    piece = draw_piece(
        scene((100, 60, 120, 90)), image, side_px=96, rng=np.random.default_rng(seed)
    )
    assert piece.pixels.shape == (96, 96, 3)
    for x0, y0, x1, y1 in piece.boxes_px:
        x, y = int((x0 + x1) / 2), int((y0 + y1) / 2)
        assert piece.pixels[y, x].mean() > 110
        if piece.sized.all():
            bright = piece.pixels.mean(axis=2) > 90
            rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
            np.testing.assert_allclose((columns[0], columns[-1] + 1), (x0, x1), atol=2.0)
            np.testing.assert_allclose((rows[0], rows[-1] + 1), (y0, y1), atol=2.0)


def test_a_picture_and_its_template_are_changed_alike() -> None:
    image = tray(3, seed=4).image
    both = np.concatenate([image, image], axis=2)
    piece = draw_piece(scene(size=(96, 96)), both, side_px=96, rng=np.random.default_rng(2))
    np.testing.assert_array_equal(piece.pixels[..., :3], piece.pixels[..., 3:])


@given(
    st.lists(
        st.tuples(
            st.floats(4, 92),
            st.floats(4, 92),
            st.floats(4, 40),
            st.floats(4, 40),
            st.integers(0, 1),
        ),
        max_size=4,
    )
)
def test_maps_that_meet_their_targets_give_back_the_boxes(
    objects: list[tuple[float, float, float, float, int]],
) -> None:
    boxes = np.array([(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h, _ in objects])
    boxes = boxes.reshape(-1, 4)
    label = np.array([each[4] for each in objects], np.intp)
    piece = Piece(
        pixels=np.zeros((96, 96, 3), np.uint8),
        boxes_px=boxes,
        label=label,
        sized=np.ones(len(boxes), np.bool_),
    )
    targets = targets_of(piece)
    assert targets.objects == len(boxes)
    heat = np.clip(targets.heat, 1e-6, 1 - 1e-6)
    geometry = np.zeros((4, 24, 24), np.float32)
    classes = np.zeros((2, 24, 24), np.float32)
    rows, columns = targets.place.T
    geometry[:, rows, columns] = targets.geometry.T
    classes[targets.label, rows, columns] = 5.0
    rule = DetectRule(labels=("a", "b"), stride_px=4, cut=0.9, unsure_below=0.9, iou_max=0.95)
    found = find_objects((np.log(heat / (1 - heat))[None], geometry, classes), rule=rule)
    cells = {(int(x // 4), int(y // 4)) for x, y, *_ in objects}
    apart = all(max(abs(a[0] - b[0]), abs(a[1] - b[1])) > 2 for a in cells for b in cells if a != b)
    if len(cells) == len(objects) and apart:
        there = found.only(found.chance > rule.cut)
        assert len(there) == len(objects)
        for each, name in zip(there.boxes_px, there.label, strict=True):
            off = np.abs(boxes - each).max(axis=1)
            assert off.min() < 1e-2
            assert label[int(off.argmin())] == name


def test_pictures_are_scaled_so_that_the_median_object_is_as_large_as_wished() -> None:
    marked = [sample(0, box(0, 0, 60, 60), box(0, 0, 80, 80), box(0, 0, 100, 100))]
    assert scale_of(marked, labels=("disc",), side_px=640).zoom == pytest.approx(OBJECT_PX / 80)


def test_a_small_kind_of_object_is_not_scaled_away() -> None:
    marked = [sample(0, *[box(0, 0, 200, 200)] * 9, box(0, 0, 20, 20, label="speck"))]
    assert scale_of(marked, labels=("disc", "speck"), side_px=640).zoom == pytest.approx(0.5)


def test_points_without_boxes_take_their_size_from_how_near_they_lie() -> None:
    points = [box(x, y, x, y) for x in range(100, 400, 40) for y in range(100, 300, 40)]
    scale = scale_of([sample(0, *points)], labels=("disc",), side_px=640)
    assert scale.nominal_px["disc"] == (40, 40)


def test_points_of_each_label_take_their_own_size_where_enough_lie_near() -> None:
    beans = [box(x, y, x, y, label="bean") for x in range(100, 300, 30) for y in (100, 130)]
    nuts = [box(x, y, x, y, label="nut") for x in range(100, 500, 70) for y in (100, 170)]
    coin = [box(600, 400, 600, 400, label="coin")]
    labels = ("bean", "coin", "nut")
    scale = scale_of([sample(0, *beans), sample(1, *nuts, *coin)], labels=labels, side_px=640)
    assert scale.nominal_px == {"bean": (30, 30), "coin": (30, 30), "nut": (70, 70)}
    assert not scale.boxed


def test_points_teach_a_size_only_where_no_object_of_their_label_has_a_box() -> None:
    marks = (box(1, 1, 9, 9), box(20, 20, 20, 20), box(30, 30, 30, 30, label="square"))
    labels = ("disc", "square")
    scale = scale_of([sample(0, *marks)], labels=labels, side_px=64)
    learned = scene_of(sample(0, *marks), scale=scale, labels=labels, size_px=(64, 64))
    assert learned.sized.tolist() == [True, False, False]
    assert learned.teaches_size.tolist() == [True, False, True]
    piece = whole_piece(learned, np.zeros((64, 64, 3), np.uint8), multiple=16)
    assert piece.sized.tolist() == [True, False, True]


def test_the_large_objects_of_a_label_fit_into_a_crop_unless_others_become_too_small() -> None:
    discs = [box(x, 0, x + 20, 20) for x in range(0, 600, 50)]
    odd, labels = box(0, 50, 300, 70), ("disc", "plate")
    assert scale_of([sample(0, *discs, odd)], labels=labels, side_px=640).zoom == OBJECT_PX / 20
    for long, zoom, too_large in ((100, 1.4, ()), (250, 0.64, ()), (900, 0.5, ("plate",))):
        plate = box(0, 50, long, 150, label="plate")
        scale = scale_of([sample(0, *discs, plate)], labels=labels, side_px=640)
        assert (scale.zoom, scale.too_large) == (zoom, too_large)


def test_a_lone_point_still_gives_a_scale() -> None:
    scale = scale_of([sample(0, box(5, 5, 5, 5))], labels=("disc",), side_px=640)
    assert 0 < scale.zoom <= 4


def test_a_point_is_met_nearby_and_a_box_by_overlap_each_once() -> None:
    truth = Scene(
        sample=sample(0),
        boxes_px=np.array([(10.0, 10, 30, 30), (100, 100, 120, 120)]),
        label=np.zeros(2, np.intp),
        sized=np.array([True, False]),
        teaches_size=np.array([True, False]),
        size_px=(200, 200),
    )
    found = np.array([(11.0, 11, 31, 31), (12, 12, 32, 32), (104, 104, 114, 124), (60, 60, 70, 70)])
    assert hits_of(found, truth).tolist() == [0, -1, 1, -1]


def judged(pictures: int, *, each: int, seed: int) -> list[ValidationPicture]:
    """Pictures with some objects found; the surer, the likelier there is one."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(pictures):
        logit = np.sort(rng.normal(1.5, 1.5, each))[::-1]
        there = rng.random(each) < 1 / (1 + np.exp(-2 * logit))
        boxes = np.tile(np.array([[0.0, 0.0, 9.0, 9.0]]), (each, 1))
        found = Candidates(
            boxes_px=boxes, objectness=logit, chance=1 / (1 + np.exp(-logit)),
            label=np.zeros(each, np.intp), label_chance=np.ones(each),
        )  # fmt: skip
        shown = replace(scene(*boxes.tolist()), sample=sample(number))
        hit = np.where(there, np.arange(each), -1)
        made.append(ValidationPicture(scene=shown, found=found, hit=hit))
    return made


@pytest.mark.parametrize("cut", [None, 0.5])
def test_of_the_sure_boxes_no_more_are_wrong_than_was_shown(cut: float | None) -> None:
    policy, held = Policy(error_rate=0.1, present_above=cut), []
    fresh = judged(400, each=5, seed=99)
    for seed in range(12):
        rule, shown = rule_from(judged(60, each=5, seed=seed), labels=("a",), policy=policy, most=5)
        answers = outcomes_of(fresh, rule=rule)
        wrong = answers.wrong[answers.sureness >= rule.unsure_below]
        held.append(wrong.mean() <= shown.rate)
        assert rule.cut <= rule.unsure_below < 1
    assert np.mean(held) >= 0.9


def test_few_pictures_show_no_low_rate_of_wrong_boxes_however_many_they_show() -> None:
    policy = Policy(error_rate=0.05)
    _, few = rule_from(judged(8, each=40, seed=1), labels=("a",), policy=policy, most=40)
    assert few.rate > 0.05
    rule, none = rule_from([], labels=("a",), policy=policy, most=1)
    assert (rule.unsure_below, none.rate) == (1.0, 1.0)
    nothing = outcomes_of([], rule=rule)
    bound, (sentence,) = bound_of(nothing, rule=rule, limit=none, target=0.05)
    assert bound is None
    assert "every box is unsure" in sentence
    fixed = Policy(present_above=0.5)
    rule, wished = rule_from([], labels=("a",), policy=fixed, most=1)
    bound, (sentence,) = bound_of(nothing, rule=rule, limit=wished, target=0.05)
    assert bound is None
    assert "unsure" not in sentence  # the fixed cut decides all the same


@given(pictures=st.integers(2, 60), grouped=st.booleans(), seed=st.integers(0, 5))
def test_every_picture_of_a_small_set_is_held_out_once_and_groups_stay_together(
    *, pictures: int, grouped: bool, seed: int
) -> None:
    samples = [sample(n, group=f"g{n // 3}" if grouped else "") for n in range(pictures)]
    planned = rounds(samples, seed=seed)
    judged = [each.name for part in planned for each in part.judge]
    assert sorted(judged) == sorted({each.name for each in samples}) or not planned
    for part in planned:
        assert not {s.group for s in part.learn if s.group} & {s.group for s in part.judge}
        assert len(part.learn) + len(part.judge) == pictures


def test_a_declared_validation_part_is_what_is_held_out() -> None:
    samples = [sample(n, split=Part.VALID if n < 12 else Part.OPEN) for n in range(MANY)]
    (part,) = rounds(samples, seed=0)
    assert {each.name for each in part.judge} == {f"{n}.png" for n in range(12)}


def test_with_many_pictures_one_part_is_enough() -> None:
    samples = [sample(n) for n in range(MANY)]
    assert len(rounds(samples, seed=0)) == 1


class OneNumber:
    """A student of one weight."""

    def __init__(self, plan: LoopPlan, each: Round) -> None:
        del plan
        self.network = torch.nn.Linear(1, 1, bias=False)
        self.learned = {one.name for one in each.learn}

    def loss(self, step: int, *, parallel: Parallel) -> tuple[torch.Tensor | None, int]:
        del step, parallel
        return self.network(torch.ones(1)).square().mean(), 1

    def watched(self) -> float | None:
        return None


@pytest.mark.parametrize("pictures", [12, MANY])
def test_no_picture_has_a_say_in_what_judges_it(pictures: int, tmp_path: Path) -> None:
    job = TrainJob(
        inspection=Inspection(id="tray", camera="", task=Task.DETECT),
        data="",
        settings={"steps": 2, "batch_size": 1},
    )
    samples = [sample(number) for number in range(pictures)]
    own, _, folds = fit_rounds(
        samples,
        job=job,
        steps=Steps(clock=SystemClock(), progress=lambda _: None, cancelled=threading.Event()),
        folder=tmp_path,
        parallel=Parallel(),
        usual=2,
        student=OneNumber,
        judge=lambda _, each: [one.name for one in each.judge],
        taught=lambda student, some, held: (student.learned, {s.name for s in some}, set(held)),
    )
    everything = {one.name for one in samples}
    if pictures == MANY:
        assert not folds
        assert own[1] == everything == own[0] | own[2]
        assert not own[0] & own[2]
        return
    assert own == (everything, everything, everything)
    assert sorted(one.name for fold in folds for one in fold.samples) == sorted(everything)
    for fold in folds:
        apart = everything - {one.name for one in fold.samples}
        assert fold.trained() == (apart, apart, apart)


def test_pictures_of_black_and_white_alone_are_not_refused_for_being_clipped() -> None:
    binary = np.where(np.random.default_rng(0).random((60, 60, 1)) > 0.5, 255, 0).astype(np.uint8)
    limits = limits_of([picture_health(np.repeat(binary, 3, axis=2))])
    assert limits.clipped_share_max == 1.0
    usual = limits_of([HealthFigures(sharpness=80, mean_grey=120, clipped_share=0.05)])
    assert usual.clipped_share_max == pytest.approx(0.3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, Path, list[Progress]]:
    folder = tmp_path_factory.mktemp("detect")
    data = tray_folder(folder / "data", pictures=12, marks="boxes", template=True)
    seen: list[Progress] = []
    result = train(data, folder / "job", progress=seen.append)
    return result, data, seen


def test_objects_beside_their_template_are_found_and_measured(
    trained: tuple[TrainResult, Path, list[Progress]],
) -> None:
    result, data, seen = trained
    manifest = Package.read(result.package).manifest
    assert (manifest.task, manifest.template) == ("detect", True)
    assert manifest.labels == ("disc", "square")
    assert {"f1_iou33", "f1_iou50", "f1_any_iou33", "average_precision"} <= set(result.metrics)
    predictor = Predictor(Package.read(result.package), clock=SystemClock())
    predictor.check_golden()
    made = tray(4, seed=900)
    frame = open_frame(
        (data / "images/004.png").read_bytes(), camera="c", captured_at=SystemClock().now()
    )
    said = predictor.predict(frame, template=made.empty)
    assert said.state == "ok"
    for ask in (predictor.predict, predictor.nearest):
        with pytest.raises(InvalidError, match="beside its template"):
            ask(frame)
    assert [each.percent for each in seen] == sorted(each.percent for each in seen)
    assert seen[-1].percent == 100


def test_every_picture_is_measured_where_nobody_gave_a_test_part(
    trained: tuple[TrainResult, Path, list[Progress]],
) -> None:
    result, _, _ = trained
    report = decode_json(result.report, where="report")
    assert report["evidence"] == f"cross-validation and {RANDOM_PART}"
    assert result.pictures < result.metrics["count_exact"].n == 12


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on_to_the_same_package(
    trained: tuple[TrainResult, Path, list[Progress]], tmp_path: Path
) -> None:
    result, data, _ = trained
    stop = threading.Event()

    def after_a_while(progress: Progress) -> None:
        if progress.percent > 60:
            stop.set()

    with pytest.raises(JobCancelledError):
        train(data, tmp_path, progress=after_a_while, cancelled=stop)
    assert train(data, tmp_path).package == result.package


def test_pictures_without_any_object_teach_nothing(tmp_path: Path) -> None:
    data = tray_folder(tmp_path / "data", pictures=6, marks="boxes")
    with pytest.raises(InvalidError, match="no object"):
        train(data, tmp_path / "job", labels=("bolt",))


def test_what_is_held_out_is_counted_from_one() -> None:
    planned = rounds([sample(number) for number in range(9)], seed=1)
    assert [each.stage for each in planned] == [f"holding out part {n} of 3" for n in (1, 2, 3)]
    (part,) = rounds([sample(number) for number in range(MANY)], seed=1)
    assert part.stage == "fitting"


def test_labels_without_marks_teach_no_places(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "ok"
    folder.mkdir(parents=True)
    (folder / "0.png").write_bytes(encode_png(np.full((64, 64, 3), 90, np.uint8)))
    with pytest.raises(InvalidError, match="objects marked") as refused:
        train(tmp_path / "data", tmp_path / "job")
    assert "classify" in refused.value.fix


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_real_defects_are_found_beside_their_template(data_folder: Path, tmp_path: Path) -> None:
    result = train(data_folder / "deeppcb", tmp_path, settings={"steps": 60, "batch_size": 8})
    assert result.metrics["f1_any_iou33"].value > 0.5
