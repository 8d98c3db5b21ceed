"""Learning to count: objects that are found, numbers alone, and intervals that hold."""

import json
import threading
from dataclasses import replace
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
from lineside.training.tasks.count.learn import bound_of, reached
from lineside.training.tasks.count.numbers import (
    change,
    most_of,
    number_loss,
    number_rule,
)
from lineside.vision import CountRule, PictureState, Prediction, encode_png, open_frame
from lineside.vision.detections import count_likely
from lineside.vision.metrics import upper_share

torch = pytest.importorskip("torch")

PLAIN = CountRule(most=50, reach=0.0, error_rate=1.0, calibration_pictures=40)


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


def reach_of(off: list[float], *, doubt: list[float], owners: list[int] | None = None) -> CountRule:
    """The rule of some errors, where one of ten intervals may miss."""
    places = list(range(len(off)))
    rule, missed = reached(
        replace(PLAIN, calibration_pictures=len(off)),
        off=np.array(off),
        doubt=np.array(doubt),
        owners=owners or places,
        target=0.1,
    )
    reach = rule.reach * np.array(doubt) if rule.scaled else rule.reach
    assert missed.tolist() == (np.array(off) > np.floor(reach + 1e-9)).tolist()
    return rule


@given(st.lists(st.integers(0, 6), min_size=1, max_size=80))
def test_no_more_intervals_miss_than_a_test_of_the_stated_rate_allows(errors: list[int]) -> None:
    rule = reach_of([float(one) for one in errors], doubt=[0.5] * len(errors))
    reach = rule.reach * (0.5 if rule.scaled else 1.0)
    missed = sum(one > np.floor(reach + 1e-9) for one in errors)
    assert rule.error_rate >= 0.1
    assert rule.error_rate == 1 or upper_share(missed, len(errors), confidence=0.9) <= (
        rule.error_rate + 1e-9
    )


def test_intervals_hold_their_rate_in_nine_of_ten_trainings() -> None:
    rng = np.random.default_rng(3)
    rates = np.array([0.6, 0.25, 0.1, 0.05])  # of errors 0, 1, 2, 3
    kept = 0
    for _ in range(200):
        off = rng.choice(4, size=60, p=rates).astype(float).tolist()
        rule = reach_of(off, doubt=[0.5] * 60)
        reach = int(np.floor(rule.reach * (0.5 if rule.scaled else 1.0) + 1e-9))
        kept += rates[reach + 1 :].sum() <= rule.error_rate
    assert kept >= 180


def test_pictures_that_doubt_themselves_get_wider_intervals_where_that_pays() -> None:
    rule = reach_of([0.0] * 30 + [6.0] * 10, doubt=[0.3] * 30 + [4.0] * 10)
    assert rule.scaled
    assert rule.reach * 0.3 < 1 <= rule.reach * 4


def test_few_pictures_state_the_rate_that_they_show() -> None:
    rule = reach_of([0.0] * 9, doubt=[0.5] * 9)
    assert rule.promises
    assert rule.error_rate == 0.25
    bound, (warning,) = bound_of(rule, np.zeros(9, np.bool_), owners=range(9), target=0.1)
    assert bound is not None
    assert (bound.bound, bound.pictures, bound.more) == (0.25, 9, 13)
    assert warning == (
        "an error rate of 0.1 among the answers could not be shown with 90% confidence: the package"
        " states 0.25; about 13 more intervals of counts like these would show it"
    )


def test_two_groups_that_show_no_rate_leave_no_interval_and_say_what_would() -> None:
    owners = [0] * 45 + [1] * 5
    rule = reach_of([0.0] * 50, doubt=[0.5] * 50, owners=owners)
    assert not rule.promises
    bound, (warning,) = bound_of(rule, np.zeros(50, np.bool_), owners=owners, target=0.1)
    assert bound is not None
    assert (bound.answered, bound.bound) == (0, 1.0)
    assert warning.startswith("no error rate among the answers could be shown")


def test_misses_that_the_limit_allowed_hide_no_need_for_more_groups() -> None:
    owners = [place // 25 for place in range(50)]
    rule = reach_of([float(place) for place in range(50)], doubt=[0.5] * 50, owners=owners)
    missed = np.arange(50) > rule.reach
    assert missed.mean() > 0.1
    bound, (warning,) = bound_of(rule, missed, owners=owners, target=0.1)
    assert bound is not None
    assert bound.more_groups == 20  # 22 groups show 10 %
    assert "20 more pictures, each of another part" in warning


def test_pictures_of_one_part_count_as_one() -> None:
    alone, together = (
        reach_of([0.0] * 40, doubt=[0.5] * 40, owners=owners)
        for owners in (list(range(40)), [place // 10 for place in range(40)])
    )
    assert alone.error_rate == 0.1
    assert together.error_rate == 0.5


def test_without_a_picture_held_out_there_is_no_interval() -> None:
    rule = reach_of([], doubt=[])
    assert not rule.promises
    bound, (warning,) = bound_of(rule, np.zeros(0, np.bool_), owners=[], target=0.1)
    assert bound is None
    assert warning.startswith("no interval")
    numbers, missed = number_rule(
        np.zeros((0, 8), np.float32), np.zeros(0, np.intp), most=6, owners=[], policy=Policy()
    )
    assert not numbers.promises
    assert not len(missed)


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
    for _ in range(40):
        truth = rng.integers(0, 7, 600)
        seen = truth + rng.normal(0, 0.9, 600)
        logits = (-0.5 * (np.arange(8)[None] - seen[:, None]) ** 2).astype(np.float32)
        rule, _ = number_rule(
            logits[:200], truth[:200], most=6, owners=range(200), policy=Policy(error_rate=0.1)
        )
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
    kept = np.array(covered) >= np.array(promised) - 1e-9
    assert kept.sum() >= 34
    assert np.mean(covered) < 0.97


def test_the_temperature_undoes_too_sure_a_network() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 4000)
    honest = rng.normal(0, 1, (4000, 5))
    honest[np.arange(4000), truth] += 1.5
    cold, warm = (temperature_of(honest * f, truth) for f in (4.0, 1.0))
    assert cold == pytest.approx(4 * warm, rel=0.15)
