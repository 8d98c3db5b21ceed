"""What the figures of every task are made of."""

import numpy as np
import pytest

from lineside.core import Digest
from lineside.datasets import Sample
from lineside.models.result import Mistake
from lineside.testing.bare import bare_frame, bare_prediction
from lineside.training.tasks.contract import Case
from lineside.training.tasks.metrics import (
    MOST_LIMITS,
    bounded,
    confusion_table,
    lighting,
    limits_of,
    owners,
    picture_words,
    ranking,
    rarest,
    rate,
    refused,
    reliability_of,
    slices,
    statistic,
    worst_first,
)
from lineside.vision import (
    HealthFigures,
    PictureState,
)
from lineside.vision.metrics import auroc

DIGEST = Digest("sha256:" + "0" * 64)


def case(
    name: str, *, grey: float = 100.0, group: str = "", state: PictureState = PictureState.OK
) -> Case:
    said = bare_prediction(
        bare_frame(name), state=state, reason="too dark" if state is PictureState.BLACK else "",
        health=HealthFigures(sharpness=1.0, mean_grey=grey, clipped_share=0.0),
    )  # fmt: skip
    return Case(sample=Sample(name=name, digest=DIGEST, group=group), prediction=said)


def test_a_rate_has_wilsons_interval_and_its_count() -> None:
    found = rate([True] * 9 + [False], baseline=0.5)
    assert (found.value, found.n, found.baseline) == (0.9, 10, 0.5)
    assert found.low == pytest.approx(0.5958, abs=1e-3)


def test_a_rate_over_groups_is_no_narrower_than_groups_drawn_again() -> None:
    flags, parts = [True] * 40 + [False] * 20, np.arange(60) // 20
    alone, grouped = rate(flags, baseline=0.5), rate(flags, baseline=0.5, groups=parts)
    assert (grouped.value, grouped.n) == (alone.value, alone.n)
    assert (grouped.low, grouped.high) == (0.0, 1.0)  # three parts, one of them wrong
    assert rate(flags, baseline=0.5, groups=np.arange(60)) == alone
    flawless = rate([True] * 60, baseline=0.5, groups=parts)
    assert flawless.low == pytest.approx(0.438, abs=1e-3)  # three of three


def test_a_rate_of_nothing_is_as_wide_as_can_be() -> None:
    found = rate([], baseline=float("nan"))
    assert (found.value, found.low, found.high, found.n, found.baseline) == (0, 0, 1, 0, 0)


def test_a_flawless_figure_keeps_the_interval_of_its_pictures() -> None:
    truth, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])
    found = bounded(auroc, truth, scores, baseline=0.5, pictures=4)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low < 0.6


def test_a_flawless_ranking_is_as_sure_as_its_rarer_class_is_large() -> None:
    truth = np.array([0] * 40 + [1] * 2)
    found = ranking(truth, truth + 0.0, groups=np.arange(42))
    for metric in found.values():
        assert (metric.value, metric.high, metric.n) == (1.0, 1.0, 42)
        assert metric.low == pytest.approx(0.342, abs=1e-3)  # two of two
    one_part = ranking(np.array([0] * 9 + [1] * 9), np.arange(18.0), groups=np.arange(18) // 9)
    assert one_part["auroc"].low == pytest.approx(0.207, abs=1e-3)  # nine pictures of one part


def test_a_figure_without_an_error_may_have_one_that_its_pictures_do_not_show() -> None:
    right = np.zeros(5)
    found = statistic(lambda off: float(off.mean()), right, baseline=1.0, flawed=float)
    assert (found.value, found.low, found.n) == (0.0, 0.0, 5)
    assert found.high == pytest.approx(0.434, abs=1e-3)  # of none of five
    paired = statistic(
        lambda off: float(off.mean()), right, groups=np.array([0, 0, 1, 1, 1]), baseline=1.0,
        flawed=float,
    )  # fmt: skip
    assert paired.high == pytest.approx(0.658, abs=1e-3)  # of none of two
    assert statistic(lambda off: float(off.mean()), right, baseline=1.0).high == 0.0


def test_the_rarest_class_is_counted_by_its_groups() -> None:
    truth = np.array([0, 0, 0, 1, 1])
    assert (rarest(truth), rarest(truth, np.array([0, 1, 2, 3, 3])), rarest(truth[:0])) == (2, 1, 0)


def test_an_error_is_not_cut_off_at_one() -> None:
    errors = np.array([1.0, 3.0, 5.0, 7.0])
    found = statistic(lambda column: float(np.mean(column)), errors, baseline=9.0)
    assert (found.value, found.n, found.baseline) == (4.0, 4, 9.0)
    assert 1.0 <= found.low < 4.0 < found.high <= 7.0


def test_pictures_of_one_group_have_one_owner_and_others_their_own() -> None:
    cases = [case("a", group="g"), case("b"), case("c", group="g"), case("d")]
    assert owners(cases).tolist() == [0, 1, 0, 2]
    assert owners([case("a", group="g"), case("b", group="g")]).tolist() == [0, 1]


def test_lighting_is_thirds_of_mean_grey() -> None:
    cases = [case(str(n), grey=10.0 * n) for n in range(9)]
    assert lighting(cases) == ["dark"] * 3 + ["middle"] * 3 + ["bright"] * 3


def test_slices_leave_out_what_has_one_name_only() -> None:
    cases = [case(str(n), grey=10.0 * n, group="only") for n in range(6)]
    found = slices(
        cases,
        lambda some: rate([True for _ in some], baseline=0.0),
        kinds={"surface": ["mat", "shiny", "", "mat", "mat", "mat"]},
    )
    assert list(found) == ["lighting", "surface"]
    assert {name: metric.n for name, metric in found["surface"].items()} == {"mat": 4, "shiny": 1}


def test_a_limit_table_takes_scores_above_one_and_stays_short() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(900) < 0.3
    scores = rng.random(900) * 5 + truth
    table = limits_of(truth.tolist(), scores.tolist())
    assert len(table) == MOST_LIMITS
    assert (table[0].escapes, table[-1].over_rejects) == (0, 0)
    assert table[-1].cut >= scores.max()
    assert limits_of([], []) == ()


def test_what_was_said_with_more_certainty_is_worse_and_unsure_comes_last() -> None:
    some = [
        Mistake(picture="a", truth="x", said="unsure", probability=0.99),
        Mistake(picture="b", truth="x", said="y", probability=0.6),
        Mistake(picture="c", truth="x", said="y", probability=0.9),
    ]
    assert [worst.picture for worst in worst_first(some)] == ["c", "b", "a"]


def test_a_refused_picture_is_counted_and_said_in_words() -> None:
    cases = [case("a"), case("b", state=PictureState.BLACK)]
    assert refused(cases).value == 0.5
    assert [picture_words(one) for one in cases] == ["", "black: too dark"]


def test_reliability_of_nothing_is_empty() -> None:
    assert reliability_of([], []) == ()
    assert reliability_of([True, False], [0.95, 0.05])[0].n == 1


def test_a_table_of_answers_counts_the_parts_of_each_class() -> None:
    truth, answers = [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, -1, 1]

    table = confusion_table(("good", "bad"), truth, answers, groups=np.array([7, 7, 8, 9, 9, 9]))

    assert table.rows == ((2, 1, 0), (0, 2, 1))
    assert table.groups == (2, 1)
    assert confusion_table(("good", "bad"), truth, answers, groups=np.arange(6)).groups == ()
