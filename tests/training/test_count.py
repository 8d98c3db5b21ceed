"""Learning to count: objects that are found, numbers alone, and intervals that hold."""

import json
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Inspection, InvalidError, Policy, SystemClock, Task
from lineside.models import Package, Predictor
from lineside.testing.pictures import tray, tray_folder
from lineside.training import TrainJob, TrainResult, run_job
from lineside.training.common.methods import temperature_of
from lineside.training.tasks.count.learn import reached
from lineside.training.tasks.count.numbers import (
    change,
    most_of,
    number_loss,
    number_rule,
)
from lineside.vision import CountRule, PictureState, Prediction, encode_png, open_frame
from lineside.vision.detections import count_likely

torch = pytest.importorskip("torch")

PLAIN = CountRule(most=50, reach=0.0, error_rate=0.1, calibration_pictures=40)


def train(
    data: Path, folder: Path, *, labels: tuple[str, ...] = (), rate: float = 0.3, **settings: float
) -> TrainResult:
    inspection = Inspection(
        id="tray", camera="", task=Task.COUNT, labels=labels, policy=Policy(error_rate=rate)
    )
    return run_job(
        TrainJob(
            inspection=inspection,
            data=str(data),
            settings={"steps": 16.0, "batch_size": 4.0, **settings},
        ),
        folder=folder,
        progress=lambda _: None,
        cancelled=threading.Event(),
        clock=SystemClock(),
    )


@pytest.mark.slow
def test_objects_marked_by_points_are_counted_with_an_interval(tmp_path: Path) -> None:
    data = tray_folder(tmp_path / "data", pictures=12, marks="points")
    result = train(data, tmp_path / "job", labels=("disc",))
    package = Package.read(result.package)
    rows = json.loads(package.files["evidence/report.json"])["limits"]["objects"]
    assert rows[0]["over_rejects"] == rows[-1]["escapes"] > 0
    assert package.manifest.count is not None
    assert package.manifest.detect is not None
    assert package.manifest.count.calibration_pictures >= 9
    predictor = Predictor(package, clock=SystemClock())
    predictor.check_golden()
    frame = open_frame(
        encode_png(tray(3, seed=77).image), camera="c", captured_at=SystemClock().now()
    )
    said = predictor.predict(frame)
    assert said.count is not None
    assert said.count.value == len(said.boxes)
    assert said.count.low <= said.count.value
    assert {"exact", "mae", "rmse", "mae_share", "coverage", "more"} <= set(result.metrics)
    assert predictor.explain(frame)["objects"].shape == (96, 96)
    golden = package.manifest.golden[0]
    known = open_frame(package.file(golden.file), camera="c", captured_at=SystemClock().now())
    near = predictor.nearest(known)
    assert near[0].picture == golden.digest
    assert near[0].distance < 0.01 < near[1].distance
    assert_scales_are_told(predictor)
    assert_boxes_are_about_as_large_as_objects(predictor)


def assert_scales_are_told(predictor: Predictor) -> None:
    """The same tray at other resolutions counts alike; a tray seen from near is not counted."""

    def ask(image: np.ndarray) -> Prediction:
        return predictor.predict_single(
            open_frame(encode_png(image), camera="c", captured_at=SystemClock().now())
        )

    shown = tray(3, seed=78).image
    wanted = ask(shown)
    assert wanted.count is not None
    for times in (0.5, 2.0, 3.0):
        how = cv2.INTER_AREA if times < 1 else cv2.INTER_NEAREST
        other = ask(cv2.resize(shown, None, fx=times, fy=times, interpolation=how))
        assert other.state is PictureState.OK
        assert other.count is not None
        assert other.count.value == wanted.count.value
    whole = tray(20, seed=2, half=36, side=384).image
    near = ask(np.ascontiguousarray(whole[200:296, 250:346]))
    assert near.state is PictureState.UNFAMILIAR
    assert "Unlike the training images" in near.reason
    assert near.count is None


def assert_boxes_are_about_as_large_as_objects(predictor: Predictor) -> None:
    """Points teach the size that follows from how near they lie."""
    shown = tray(3, seed=78)
    sides = [side for _, x0, y0, x1, y1 in shown.boxes for side in (x1 - x0, y1 - y0)]
    frame = open_frame(encode_png(shown.image), camera="c", captured_at=SystemClock().now())
    found = predictor.predict_single(frame).boxes
    assert found
    for box in found:
        for side in (box.x1_px - box.x0_px, box.y1_px - box.y0_px):
            assert min(sides) / 2 < side < 2 * max(sides)


@pytest.mark.slow
def test_numbers_alone_teach_a_count_too(tmp_path: Path) -> None:
    data = tray_folder(tmp_path / "data", pictures=12, marks="counts")
    result = train(data, tmp_path / "job", steps=8.0)
    package = Package.read(result.package)
    assert package.manifest.count is not None
    assert package.manifest.detect is None
    assert package.manifest.count.most == 4
    predictor = Predictor(package, clock=SystemClock())
    predictor.check_golden()
    frame = open_frame(
        encode_png(tray(3, seed=77).image), camera="c", captured_at=SystemClock().now()
    )
    said = predictor.predict(frame).count
    assert said is not None
    assert len(said.chances) == 6
    near = predictor.nearest(frame)
    assert len({one.picture for one in near}) == 4
    assert near[0].distance <= near[-1].distance
    heat = predictor.explain(frame)["objects"]
    assert heat.shape == (96, 96)
    assert 0 <= heat.min() <= heat.max() <= 1


def test_pictures_that_nobody_counted_teach_nothing(tmp_path: Path) -> None:
    data = tray_folder(tmp_path / "data", pictures=4, marks="counts")
    table = data / "labels.csv"
    table.write_text(table.read_text().replace("count", "weight"))
    with pytest.raises(InvalidError, match="how many objects"):
        train(data, tmp_path / "job")


@given(st.lists(st.integers(0, 6), min_size=12, max_size=80))
def test_the_reach_covers_as_many_held_out_pictures_as_it_promises(errors: list[int]) -> None:
    off = np.array(errors, np.float64)
    rule = CountRule(most=50, reach=0.0, error_rate=0.1, calibration_pictures=len(errors))
    made = reached(rule, off=off, doubt=np.full(len(off), 0.5))
    reach = made.reach * (0.5 if made.scaled else 1.0)
    inside = np.sum(off <= np.floor(reach + 1e-9))
    assert inside >= np.ceil((1 - made.error_rate) * (len(off) + 1) - 1e-6) - (
        made.error_rate <= 1 / (len(off) + 1)
    )
    assert made.error_rate <= 0.1


def test_an_interval_that_is_right_more_often_than_asked_promises_more() -> None:
    off = np.zeros(40)
    off[0] = 3
    made = reached(PLAIN, off=off, doubt=np.full(40, 0.5))
    assert made.reach == 0
    assert made.error_rate == pytest.approx(2 / 41)


def test_pictures_that_doubt_themselves_get_wider_intervals_where_that_pays() -> None:
    off = np.array([0.0] * 30 + [6.0] * 10)
    doubt = np.array([0.3] * 30 + [4.0] * 10)
    made = reached(PLAIN, off=off, doubt=doubt)
    assert made.scaled
    assert made.reach * 0.3 < 1 <= made.reach * 4


def test_too_few_pictures_promise_nothing() -> None:
    rule = CountRule(most=50, reach=0.0, error_rate=0.1, calibration_pictures=8)
    made = reached(rule, off=np.zeros(8), doubt=np.full(8, 0.5))
    assert not made.promises
    assert made.error_rate == 0.1


@given(st.lists(st.integers(0, 300), min_size=1, max_size=90))
def test_the_largest_number_taught_is_one_that_pictures_show(counts: list[int]) -> None:
    assert 0 <= most_of(counts) <= min(253, max(counts))


def test_a_number_that_too_few_pictures_show_is_told_as_more() -> None:
    assert most_of([0, 1, 2, 3] * 10 + [9]) == 3
    assert most_of([0, 1, 9]) == 9


@given(st.integers(0, 5000))
def test_no_change_of_a_training_picture_takes_an_object_out_of_it(seed: int) -> None:
    image = np.zeros((192, 192, 3), np.uint8)
    for x, y in ((6, 6), (185, 6), (6, 185), (185, 185), (96, 96)):
        cv2.circle(image, (x, y), 5, (200, 200, 200), -1)
    changed = change(image, rng=np.random.default_rng(seed))
    grey = (changed.mean(axis=2) > 60).astype(np.uint8)
    assert cv2.connectedComponents(grey)[0] - 1 == 5


def test_a_number_next_to_the_right_one_costs_less_than_one_far_away() -> None:
    truth = torch.tensor([3])
    costs = [
        float(
            number_loss(
                -3.0 * (torch.arange(8)[None] - said).abs(),
                torch.tensor([float(said)]),
                truth=truth,
            )
        )
        for said in range(8)
    ]
    assert int(np.argmin(costs)) == 3
    assert costs[3] < costs[4] < costs[5] < costs[6]
    assert costs[3] < costs[2] < costs[1] < costs[0]


def test_runs_of_numbers_hold_the_truth_as_often_as_they_promise() -> None:
    rng = np.random.default_rng(1)
    covered, promised = [], []
    for _ in range(20):
        truth = rng.integers(0, 7, 600)
        seen = truth + rng.normal(0, 0.9, 600)
        logits = (-0.5 * (np.arange(8)[None] - seen[:, None]) ** 2).astype(np.float32)
        rule = number_rule(logits[:200], truth[:200], most=6, policy=Policy(error_rate=0.1))
        told = [count_likely(row, rule) for row in logits[200:]]
        covered.append(
            np.mean(
                [
                    s.low <= t and (s.more or t <= s.high)
                    for s, t in zip(told, truth[200:], strict=True)
                ]
            )
        )
        promised.append(1 - rule.error_rate)
    assert abs(np.mean(covered) - np.mean(promised)) < 0.02
    assert np.mean(covered) >= 0.9


def test_the_temperature_undoes_too_sure_a_network() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 4000)
    honest = rng.normal(0, 1, (4000, 5))
    honest[np.arange(4000), truth] += 1.5
    cold, warm = (temperature_of(honest * f, truth) for f in (4.0, 1.0))
    assert cold == pytest.approx(4 * warm, rel=0.15)
