"""Shortcut controls: what a light meter would reach, and what is left without light or defect."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import Digest, digest_of
from lineside.datasets import Marked, Sample
from lineside.models import Metric
from lineside.models.result import TrivialFigure
from lineside.testing.bare import bare_frame, bare_prediction
from lineside.training.evaluation.baselines import (
    Question,
    erased,
    marked_area,
    reached,
    trivial_figures,
)
from lineside.training.evaluation.shortcuts import (
    ErasedTest,
    ShortcutTests,
    against,
    defect_score,
    gain_normaliser,
    questions_of,
    with_sentences,
)
from lineside.training.tasks.contract import Case
from lineside.vision import (
    AnomalyAnswer,
    Decision,
    LabelAnswer,
    Prediction,
    decode_picture,
    encode_png,
)

DIGEST = Digest("sha256:" + "0" * 64)
START = datetime(2026, 3, 1, tzinfo=UTC)


def prediction(task: str = "classify") -> Prediction:
    return bare_prediction(bare_frame("f", at=START), task=task)


def picture(*, grey: float, seed: int = 0, size: int = 24) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(0, 6, (size, size, 3))
    return np.asarray(np.clip(grey + noise, 0, 255), np.uint8)


class Shelf:
    """Pictures by digest."""

    def __init__(self) -> None:
        self.kept: dict[Digest, bytes] = {}

    def __call__(self, digest: Digest, /) -> bytes:
        return self.kept[digest]

    def put(self, image: NDArray[np.uint8], name: str, *labels: str) -> Sample:
        encoded = encode_png(image)
        digest = digest_of(encoded)
        self.kept[digest] = encoded
        return Sample(name=name, digest=digest, labels=labels, known=("good", "bad"))


def metric(value: float, *, low: float, high: float = 1.0, baseline: float = 0.5) -> Metric:
    return Metric(value=value, low=low, high=high, n=60, baseline=baseline)


def test_a_light_meter_that_tells_defects_is_found_out() -> None:
    shelf = Shelf()
    samples = [
        shelf.put(picture(grey=90 + 40 * (n % 2), seed=n), f"a{n}x", "bad" if n % 2 else "good")
        for n in range(60)
    ]
    cases = [Case(sample=sample, prediction=prediction("anomaly")) for sample in samples]
    (question,) = questions_of("anomaly", cases, labels=())
    figures = trivial_figures(samples, files=shelf)
    assert "picture_size" not in figures  # all alike
    found = against(question, figures=figures, metrics={"auroc": metric(0.99, low=0.95)})
    grey = next(one for one in found if one.figure == "mean_grey")
    assert grey.reached.value == 1.0
    assert grey.matched
    (sentence,) = with_sentences(ShortcutTests(alone=tuple(found))).by_metric["auroc"]
    assert "brightness (mean grey) alone reaches 1.000" in sentence


def test_noise_does_not_match_a_good_package() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 2, 80)
    question = Question(kind="yes", truth=truth, owners=np.arange(80))
    figures = {"mean_grey": rng.random(80), "file_size": rng.random(80)}
    found = against(question, figures=figures, metrics={"auroc": metric(0.95, low=0.9)})
    assert {one.figure for one in found} == {"mean_grey", "file_size", "together"}
    assert not any(one.matched for one in found)


def test_noise_matches_no_package_that_is_noise_itself() -> None:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 2, 80)
    question = Question(kind="yes", truth=truth, owners=np.arange(80))
    noise = np.asarray(rng.random(80), np.float64)
    weak = {"auroc": metric(0.5, low=0.37, high=0.63)}
    found = against(question, figures={"mean_grey": noise}, metrics=weak)
    assert not any(one.matched for one in found)


def test_a_figure_that_matters_in_the_middle_is_read_by_the_tree() -> None:
    values = np.asarray(np.linspace(0, 1, 90), np.float64)
    truth = ((values > 1 / 3) & (values < 2 / 3)).astype(np.int64)
    question = Question(kind="yes", truth=truth, owners=np.arange(90))
    (found,) = list(reached(question, {"contrast": values}))
    assert (found[0], found[1]) == ("contrast", "auroc")
    assert found[2].value > 0.9


def test_classes_and_counts_are_asked_in_their_own_figures() -> None:
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(3), 20)
    brightness = np.asarray(classes * 40.0 + rng.normal(0, 2, 60), np.float64)
    question = Question(kind="class", truth=classes, owners=np.arange(60))
    found = {metric: value for _, metric, value in reached(question, {"mean_grey": brightness})}
    assert found["accuracy"].value > 0.95
    assert found["balanced_accuracy"].baseline == pytest.approx(1 / 3)
    counts = Question(kind="count", truth=classes * 2, owners=np.arange(60))
    told = {metric: value for _, metric, value in reached(counts, {"mean_grey": brightness})}
    assert told["exact"].value > 0.9
    assert told["mae"].value < 0.2 < told["mae"].baseline


def test_an_error_matches_from_below() -> None:
    truth = np.repeat(np.arange(4), 15)
    question = Question(kind="count", truth=truth, owners=np.arange(60))
    mae = Metric(value=0.4, low=0.3, high=0.5, n=60, baseline=1.0)
    figures = {"file_size": np.asarray(truth * 100.0, np.float64)}
    found = against(question, figures=figures, metrics={"mae": mae, "pixel_f1": mae})
    assert [(one.metric, one.matched) for one in found] == [("mae", True)]
    found = against(question, figures=figures, metrics={"count_mae": mae})
    assert [(one.metric, one.matched) for one in found] == [("count_mae", True)]


def test_groups_are_never_on_both_sides() -> None:
    # Within a group grey says the truth, and each group says it the other way round.
    owners = np.repeat(np.arange(8), 10)
    truth = np.tile(np.arange(2), 40)
    grey = np.asarray(owners * 10.0 + truth * np.where(owners % 2 == 0, 3.0, -3.0), np.float64)
    (found,) = reached(Question(kind="yes", truth=truth, owners=owners), {"mean_grey": grey})
    assert found[2].value <= 0.6


@pytest.mark.parametrize(
    "truth",
    [np.zeros(20, np.int64), np.r_[np.zeros(19, np.int64), 1], np.full(20, -1)],
    ids=["one class", "one picture of a class", "nothing known"],
)
def test_what_cannot_be_learned_and_tested_is_left_out(truth: NDArray[np.int64]) -> None:
    kinds: tuple[Literal["yes", "class"], ...] = ("yes", "class")
    for kind in kinds:
        question = Question(kind=kind, truth=truth, owners=np.arange(20))
        assert list(reached(question, {"mean_grey": np.arange(20.0)})) == []


def test_time_of_capture_gives_time_of_day_and_order() -> None:
    shelf = Shelf()
    samples = [
        replace(
            shelf.put(picture(grey=100, seed=n), f"x{n}.png"),
            captured_at=START + timedelta(hours=7 * n),
        )
        for n in range(5)
    ]
    figures = trivial_figures(samples, files=shelf)
    assert figures["order"].tolist() == [0, 1, 2, 3, 4]
    assert figures["time_of_day"].tolist() == [0, 25200, 50400, 75600, 14400]


def test_order_follows_numbers_only_where_names_differ_in_them_alone() -> None:
    shelf = Shelf()
    alike = [shelf.put(picture(grey=100, seed=n), f"cam/{9 - n}.png") for n in range(3)]
    assert trivial_figures(alike, files=shelf)["order"].tolist() == [2, 1, 0]
    named = [shelf.put(picture(grey=100, seed=n), f"{w}/1.png") for n, w in enumerate("ab")]
    assert "order" not in trivial_figures(named, files=shelf)


def test_gain_is_taken_away_and_other_files_are_left_alone() -> None:
    shelf = Shelf()
    samples = [shelf.put(picture(grey=40.0 * n, seed=n), f"{n}") for n in (1, 3, 5)]
    mask = digest_of(b"mask")
    shelf.kept[mask] = b"mask"
    read = gain_normaliser(samples, files=shelf)
    assert read(mask) == b"mask"
    greys = [decode_picture(read(sample.digest)).mean() for sample in samples]
    assert max(greys) - min(greys) < 1.0


def test_a_defect_is_painted_over_and_the_rest_is_untouched() -> None:
    image = np.full((60, 80, 3), 120, np.uint8)
    image[20:30, 30:45] = 255
    mask = np.zeros((60, 80), np.bool_)
    mask[20:30, 30:45] = True
    case = Case(sample=Sample(name="x", digest=DIGEST), prediction=prediction(), truth_mask=mask)
    after = decode_picture(erased(encode_png(image), case))
    assert np.abs(after.astype(int) - 120).max() <= 2
    assert (after[:10] == 120).all()


def test_a_mark_over_most_of_the_picture_becomes_one_grey() -> None:
    image = np.full((40, 40, 3), 200, np.uint8)
    image[6:34, 6:34] = 10
    marked = (Marked(label="x", x0_px=6, y0_px=6, x1_px=34, y1_px=34),)
    case = Case(sample=Sample(name="x", digest=DIGEST, marked=marked), prediction=prediction())
    assert (decode_picture(erased(encode_png(image), case)) == 200).all()


def test_points_have_no_area_to_erase_and_boxes_may_leave_the_picture() -> None:
    point = (Marked(label="x", x0_px=5, y0_px=5, x1_px=5, y1_px=5),)
    alone = Case(sample=Sample(name="x", digest=DIGEST, marked=point), prediction=prediction())
    assert marked_area(alone) is None
    wide = (Marked(label="x", x0_px=-4, y0_px=15, x1_px=4, y1_px=400),)
    case = Case(sample=Sample(name="x", digest=DIGEST, marked=wide), prediction=prediction())
    assert len(erased(encode_png(picture(grey=100)), case)) > 0


def test_a_package_that_goes_on_without_the_defect_is_warned_of() -> None:
    gone = ErasedTest(
        pictures=20,
        still=metric(0.1, low=0.02, high=0.3),
        before=metric(0.99, low=0.97),
        after=metric(0.55, low=0.40),
    )
    assert with_sentences(ShortcutTests(erased=gone)).by_metric == {}
    stays = replace(gone, after=metric(0.93, low=0.85))
    (sentence,) = with_sentences(ShortcutTests(erased=stays)).by_metric["erased"]
    assert "AUROC 0.930" in sentence
    alone = ErasedTest(pictures=20, still=metric(0.9, low=0.7, baseline=0.05))
    (sentence,) = with_sentences(ShortcutTests(erased=alone)).by_metric["erased"]
    assert "90% of 60 pictures" in sentence


def test_a_fall_without_light_is_warned_of() -> None:
    found = ShortcutTests(
        gain_plain={"auroc": metric(0.99, low=0.96), "mae": metric(0.4, low=0.3, high=0.5)},
        gain_normalised={"auroc": metric(0.7, low=0.6), "mae": metric(0.9, low=0.8, high=1.0)},
    )
    lines = with_sentences(found).by_metric
    assert set(lines) == {"auroc", "mae"}
    assert "leans on the light" in lines["auroc"][0]


def test_a_small_fall_of_a_narrow_figure_is_not_warned_of() -> None:
    found = ShortcutTests(
        gain_plain={"pixel_f1": metric(0.98, low=0.975, baseline=0.02)},
        gain_normalised={"pixel_f1": metric(0.96, low=0.95, baseline=0.02)},
    )
    assert with_sentences(found).by_metric == {}


def test_a_match_names_the_single_figure_before_all_together() -> None:
    both = tuple(
        TrivialFigure(
            figure=figure,
            metric="accuracy",
            reached=metric(value, low=0.8),
            package=metric(0.9, low=0.85),
            matched=True,
        )
        for figure, value in (("together", 0.95), ("file_size", 0.9))
    )
    (sentence,) = with_sentences(ShortcutTests(alone=both)).by_metric["accuracy"]
    assert "the file's size alone" in sentence


def trivial(figure: str, value: float = 0.97) -> TrivialFigure:
    """A figure that matches a package of AUROC 0.99."""
    return TrivialFigure(
        figure=figure, metric="auroc", reached=metric(value, low=0.9),
        package=metric(0.99, low=0.96), matched=value > 0.96,
    )  # fmt: skip


LIGHT = (trivial("mean_grey"), trivial("together"))
PLAIN = {"auroc": metric(0.99, low=0.96)}
LOST = ErasedTest(
    pictures=20,
    still=metric(0.1, low=0.02, high=0.3),
    before=metric(0.99, low=0.97),
    after=metric(0.55, low=0.40, high=0.7),
)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            ShortcutTests(
                alone=LIGHT, gain_plain=PLAIN, gain_normalised={"auroc": metric(0.98, low=0.9)}
            ),
            (
                "no shortcut: brightness (mean grey) alone reaches 0.970 (AUROC) too, but with"
                " brightness and"
                " contrast normalised the package still reaches 0.980"
            ),
        ),
        (
            ShortcutTests(alone=(trivial("file_size"),), erased=LOST),
            (
                "no shortcut: the file's size alone reaches 0.970 (AUROC) too, but without the"
                " marked defects the package finds none"
            ),
        ),
        (
            ShortcutTests(alone=(trivial("mean_grey", 0.6),)),
            (
                "no shortcut was found: no trivial figure of the same pictures both surely beats"
                " guessing and comes near the package"
            ),
        ),
        (ShortcutTests(), ""),
    ],
)
def test_a_figure_is_acquitted_where_the_package_does_without_it(
    found: ShortcutTests, words: str
) -> None:
    told = with_sentences(found)
    assert (told.conclusion, told.warnings, dict(told.by_metric)) == (words, (), {})


@pytest.mark.parametrize(
    "found",
    [
        ShortcutTests(alone=LIGHT),
        ShortcutTests(  # normalising takes no file size away
            alone=(trivial("file_size"),), gain_plain=PLAIN,
            gain_normalised={"auroc": metric(0.99, low=0.9)},
        ),
        ShortcutTests(  # too few to show anything
            alone=LIGHT, gain_plain=PLAIN, gain_normalised={"auroc": metric(1.0, low=0.34)}
        ),
        ShortcutTests(alone=LIGHT, erased=replace(LOST, after=metric(0.9, low=0.8))),
    ],
)  # fmt: skip
def test_what_no_other_control_acquits_is_warned_of(found: ShortcutTests) -> None:
    (warning,) = with_sentences(found).warnings
    assert " alone answers these pictures as well as this model; take " in warning


def test_every_control_is_in_the_one_sentence_once() -> None:
    both = {name: metric(0.99, low=0.96) for name in ("auroc", "accuracy")}
    dark = {name: metric(0.7, low=0.6, high=0.8) for name in both}
    found = ShortcutTests(alone=LIGHT, gain_plain=both, gain_normalised=dark)
    (warning,) = with_sentences(found).warnings
    assert warning == (
        "a shortcut may explain the figures: brightness (mean grey) alone answers these pictures as"
        " well as this model; take more under other light; the model depends on brightness and"
        " contrast"
    )


def test_trivial_figures_are_asked_for_defects_by_the_named_good_label() -> None:
    shown = Sample(name="x", digest=DIGEST, labels=("i.O.",))
    cases = [Case(sample=shown, prediction=prediction("classify"))]
    asked = questions_of("classify", cases, labels=("i.O.", "rost", "delle"), good=("i.O.",))
    assert [(one.kind, one.truth.tolist()) for one in asked] == [("class", [0]), ("yes", [0])]


def test_scores_are_the_tasks_own() -> None:
    anomaly = AnomalyAnswer(score=3.0, limit=1.0, decision=Decision.PRESENT)
    case = Case(
        sample=Sample(name="x", digest=DIGEST),
        prediction=replace(prediction("anomaly"), anomaly=anomaly),
    )
    assert defect_score(case, good=frozenset()) == 3.0
    labels = tuple(
        LabelAnswer(name=name, region="", label=name, probability=chance, decision=Decision.UNSURE)
        for name, chance in (("good", 0.25), ("bad", 0.75))
    )
    case = replace(case, prediction=replace(prediction(), labels=labels))
    assert defect_score(case, good=frozenset({"good"})) == 0.75
    assert defect_score(case, good=frozenset()) is None
