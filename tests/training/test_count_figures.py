"""Figures of counts, by hand."""

from dataclasses import replace

import pytest

from lineside.core import digest_of
from lineside.datasets import Marked, Sample
from lineside.models import Manifest
from lineside.testing import FakeClock
from lineside.testing.bare import bare_frame, bare_manifest, bare_prediction
from lineside.testing.objects import UNTRAINED_RULE, untrained
from lineside.testing.pictures import tray
from lineside.training.tasks.contract import Case
from lineside.training.tasks.count.metrics import in_words, measure, true_count
from lineside.training.tasks.metrics import judge_all
from lineside.vision import (
    CountAnswer,
    CountRule,
    DetectRule,
    PictureState,
    encode_png,
)

RULE = CountRule(most=9, reach=1.0, error_rate=0.1, calibration_pictures=40)
GUESS = {"median_count": 2.0, "mean_count": 2.5}


def manifest(rule: CountRule = RULE) -> Manifest:
    return replace(bare_manifest("count"), count=rule)


def case(truth: int | None, said: CountAnswer | None, *, number: int = 0) -> Case:
    sample = Sample(name=f"{number}.png", digest=digest_of(str(number).encode()), count=truth)
    prediction = bare_prediction(
        bare_frame(f"frm_{number}", digest=sample.digest), task="count", count=said,
        state=PictureState.OK if said else PictureState.BLACK,
    )  # fmt: skip
    return Case(sample=sample, prediction=prediction)


def told(value: int, *, reach: int = 1, more: bool = False) -> CountAnswer:
    return CountAnswer(value=value, low=max(0, value - reach), high=value + reach, more=more)


def test_each_limit_has_the_pictures_counted_too_low_and_too_high() -> None:
    listed = ((2, (0.9, 0.6)), (1, (0.8, 0.3)), (0, ()), (1, ()))
    cases = [
        replace(case(truth, told(truth), number=number), objects=objects)
        for number, (truth, objects) in enumerate(listed)
    ]
    rows = measure(cases, manifest=manifest(), baseline=GUESS).limits["objects"]
    found = {round(row.cut, 3): (row.escapes, row.over_rejects) for row in rows}
    assert found == {
        0.0: (0, 4), 0.175: (1, 1), 0.45: (1, 0), 0.7: (2, 0), 0.85: (3, 0), 0.95: (3, 0),
        1.0: (4, 0),
    }  # fmt: skip
    assert measure([case(1, told(1))], manifest=manifest(), baseline=GUESS).limits == {}


def test_objects_of_one_label_are_listed_beside_a_template_and_those_of_several_not() -> None:
    made = tray(3, seed=2)
    files = {digest_of(data): data for data in map(encode_png, (made.image, made.empty))}
    picture, empty = files
    sample = Sample(name="0.png", digest=picture, count=3, template_digest=empty)

    def judged(rule: DetectRule) -> Case:
        package = untrained(template=True, count=RULE, rule=rule)
        (found,) = judge_all(
            package, [sample], files=files.__getitem__, clock=FakeClock(), objects=True
        )
        return found

    found = judged(replace(UNTRAINED_RULE, labels=("disc",)))
    assert found.objects is not None
    assert found.prediction.count is not None
    assert sum(one > UNTRAINED_RULE.cut for one in found.objects) == found.prediction.count.value
    assert judged(UNTRAINED_RULE).objects is None  # told by another score than they are counted by


def test_figures_are_those_counted_by_hand() -> None:
    cases = [
        case(3, told(3), number=0),
        case(4, told(3), number=1),
        case(2, told(5), number=2),
        case(1, None, number=3),
    ]
    found = measure(cases, manifest=manifest(), baseline=GUESS)
    figures = found.metrics
    assert figures["exact"].value == pytest.approx(1 / 4)
    assert figures["exact"].baseline == pytest.approx(1 / 4)
    assert figures["mae"].value == pytest.approx(4 / 3)
    assert figures["mae"].baseline == pytest.approx((1 + 2 + 0 + 1) / 4)
    assert figures["rmse"].value == pytest.approx((10 / 3) ** 0.5)
    assert figures["mae_share"].value == pytest.approx(4 / 9)
    assert figures["coverage"].value == pytest.approx(2 / 4)
    assert figures["coverage"].baseline == pytest.approx(0.9)
    assert figures["width"].value == pytest.approx(3.0)
    assert figures["refused_rate"].value == pytest.approx(1 / 4)
    assert [mistake.picture for mistake in found.mistakes] == ["3.png", "2.png", "1.png"]


def test_more_holds_every_number_from_its_lower_end() -> None:
    answer = CountAnswer(value=12, low=9, high=9, more=True)
    found = measure([case(14, answer), case(9, answer, number=1)], manifest=manifest(), baseline={})
    assert found.metrics["coverage"].value == 1.0
    assert found.metrics["more"].value == 1.0
    assert "width" not in found.metrics


def test_per_true_count_and_confusion() -> None:
    cases = [case(2, told(2), number=0), case(2, told(1), number=1), case(0, told(0), number=2)]
    found = measure(cases, manifest=manifest(), baseline=GUESS)
    assert found.per_class["exact/2"].value == pytest.approx(0.5)
    assert found.per_class["mae/0"].value == 0.0
    table = found.confusion["count"]
    assert table.classes == ("0", "1", "2")
    assert table.rows == ((1, 0, 0, 0), (0, 0, 0, 0), (0, 1, 1, 0))


def test_counts_no_better_than_the_median_are_warned_of() -> None:
    poor = [case(2, told(5), number=n) for n in range(4)]
    assert "do not beat" in measure(poor, manifest=manifest(), baseline=GUESS).warnings[0]
    fine = [case(n, told(n), number=n) for n in range(6)]
    assert measure(fine, manifest=manifest(), baseline=GUESS).warnings == ()


def test_intervals_that_break_their_promise_are_warned_of() -> None:
    cases = [case(n % 9, told(n % 9 + (n % 2) * 3, reach=0), number=n) for n in range(60)]
    warnings = measure(cases, manifest=manifest(), baseline={"median_count": 100}).warnings
    assert any("promise" in warning for warning in warnings)


def test_marked_objects_say_the_count_where_there_are_any() -> None:
    def mark(label: str) -> Marked:
        return Marked(label=label, x0_px=1, y0_px=1, x1_px=2, y1_px=2)

    sample = Sample(
        name="a", digest=digest_of(b"a"), count=9, marked=(mark("disc"), mark("square"))
    )
    assert true_count(sample, labels=()) == 2
    assert true_count(sample, labels=("disc",)) == 1
    assert true_count(Sample(name="b", digest=digest_of(b"b"), count=9), labels=()) == 9


def test_pictures_that_nobody_counted_are_passed_over() -> None:
    assert measure([case(None, told(2))], manifest=manifest(), baseline={}).metrics == {}


def test_a_count_in_words_says_its_interval() -> None:
    assert in_words(told(4, reach=0)) == "4"
    assert in_words(told(4)) == "4 (3 to 5)"
    assert in_words(CountAnswer(value=12, low=9, high=9, more=True)) == "12 (9 or more)"
