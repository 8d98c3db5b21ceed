"""The result of a measurement in words: what is counted as what, and how doubt is told."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core.codec import encode
from lineside.models import Metric
from lineside.models.result import (
    GIVEN_PART,
    RANDOM_PART,
    Confusion,
    CurvePoint,
    DefectPower,
    LearningCurve,
    MeasuredResult,
    MeasuredShare,
    PowerTest,
    SmallestSize,
    measured_result,
    report_result,
    smallest_size,
)
from lineside.vision.metrics import wilson
from lineside.vision.verdict import RejectRule

PARTS = Confusion(
    classes=("good", "scratch", "stain"), rows=((114, 4, 0, 2), (3, 50, 1, 6), (0, 1, 39, 0))
)


def result(task: str, table: Confusion, *, name: str = "surface", n: int = 0) -> MeasuredResult:
    found = measured_result(task, confusion={name: table}, metrics={}, pictures=n)
    assert found is not None
    return found


def test_the_result_of_good_and_bad_parts_is_told_as_on_the_line() -> None:
    found = result("classify", PARTS, n=220)

    assert found.words == (
        "Of 100 bad parts about 3 slip through (1 to 9); of 100 good parts about 3 are rejected"
        " (1 to 9); of 100 measured parts about 4 go to review (1 to 8). Measured on 220 pictures"
        " it had not seen. More pictures of scratch would help most."
    )
    assert [one.interval.n for one in found.shares] == [100, 120, 220]


def test_the_intervals_are_of_parts_where_these_were_seen_several_times() -> None:
    grouped = replace(PARTS, groups=(12, 6, 4))

    every, parts = result("classify", PARTS).shares, result("classify", grouped).shares

    assert [one.interval.value for one in parts] == [one.interval.value for one in every]
    assert [one.interval.n for one in parts] == [10, 12, 22]
    assert [one.bounds for one in parts] == ["0 to 32", "0 to 30", "0 to 21"]


def test_a_count_has_the_interval_of_its_figure() -> None:
    exact = Metric(value=0.8, low=0.5, high=0.9, n=40, baseline=0.3)

    found = measured_result("count", confusion={}, metrics={"exact": exact}, pictures=40)

    assert found is not None
    assert [one.words for one in found.shares] == [
        "of 100 pictures about 20 are counted wrongly (10 to 50)"
    ]


def test_a_bad_part_with_another_bad_label_does_not_slip_through() -> None:
    table = Confusion(
        classes=("good", "scratch", "stain"), rows=((9, 0, 0, 0), (0, 0, 9, 0), (0, 0, 9, 0))
    )

    assert result("classify", table).shares[0].interval.value == 0.0


def test_the_good_labels_of_the_inspection_are_the_good_parts() -> None:
    table = Confusion(classes=("1111", "other"), rows=((9, 1, 0), (2, 8, 0)))

    found = measured_result(
        "classify", confusion={"": table}, metrics={}, pictures=20, rule=RejectRule(good=["1111"])
    )

    assert found is not None
    assert [one.interval.value for one in found.shares] == [0.2, 0.1, 0.0]
    assert "another kind" in result("classify", table).headline


def test_a_label_that_rejects_nothing_lets_a_bad_part_slip_through() -> None:
    table = Confusion(
        classes=("good", "scratch", "stain"), rows=((9, 0, 1, 0), (1, 7, 2, 0), (0, 1, 9, 0))
    )

    found = measured_result(
        "classify", confusion={"": table}, metrics={}, pictures=30,
        rule=RejectRule(reject=["scratch"]),
    )  # fmt: skip

    assert found is not None
    told = [(one.of, one.interval.value, one.interval.n) for one in found.shares[:2]]
    assert told == [("bad parts", 0.3, 10), ("good parts", 0.05, 20)]


def test_parts_of_which_none_was_measured_are_told_as_a_gap() -> None:
    table = Confusion(classes=("good", "defect"), rows=((20, 0, 0), (0, 0, 0)))

    found = result("anomaly", table, n=20)

    assert "No bad part was measured" in found.words
    assert "slip through (" not in found.words
    assert found.help_label == "defect"


def test_a_share_of_none_keeps_the_bound_that_its_number_leaves() -> None:
    table = Confusion(classes=("good", "bad"), rows=((5000, 0, 0), (0, 214, 0)))

    escapes, rejects, _ = result("classify", table).shares

    assert escapes.words == "of 100 bad parts 0 slip through (0 to 2)"
    assert rejects.bounds == "0 to 1"


def test_objects_are_missed_misnamed_or_none() -> None:
    table = Confusion(
        classes=("nut", "bolt", "nothing"), rows=((8, 1, 1, 0), (0, 9, 1, 0), (2, 0, 0, 0))
    )

    told = [(one.of, one.does, one.interval.value) for one in result("detect", table).shares]

    assert told == [
        ("objects", "are missed", 0.1), ("objects", "get another label", 0.05),
        ("finds", "are none", 0.1),
    ]  # fmt: skip


def test_counts_and_presence_labels_are_told_by_wrong_answers() -> None:
    exact = Metric(value=0.9, low=0.8, high=0.97, n=50, baseline=0.2)
    counted = measured_result("count", confusion={}, metrics={"exact": exact}, pictures=50)
    present = Confusion(classes=("absent", "present"), rows=((40, 0, 0), (6, 13, 1)))

    assert counted is not None
    assert counted.headline.startswith("Of 100 pictures about 10 are counted wrongly")
    sure = Confusion(classes=present.classes, rows=((9, 0, 0), (0, 30, 0)))

    found = measured_result(
        "multilabel", confusion={"left": present, "right": sure}, metrics={}, pictures=60
    )

    assert found is not None
    assert found.shares[0].words.startswith("of 100 answers about 6 are wrong")
    assert found.help_label == "left"


def test_figures_without_held_out_pictures_are_told_as_cross_validated() -> None:
    assert "Cross-validated on 220 pictures" in result("classify", PARTS).measured


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (GIVEN_PART, "Measured on 220 pictures it had not seen, the data's own test part."),
        (RANDOM_PART, "Measured on 220 pictures it had not seen, a test part drawn at random."),
        ("pictures whose files were not trained on", "Measured on 220 pictures it had not seen."),
    ],
)
def test_a_part_is_named_as_what_it_is(evidence: str, words: str) -> None:
    found = measured_result(
        "classify", confusion={"surface": PARTS}, metrics={}, pictures=220, evidence=evidence
    )
    assert found is not None
    assert found.measured == words


def curve_of(scratch: Metric) -> LearningCurve:
    """Right answers of half and of all pictures; ``scratch``: its gain."""
    half, whole = (
        Metric(value=value, low=value - 0.04, high=value + 0.03, n=200, baseline=0.0)
        for value in (0.86, 0.91)
    )
    points = tuple(
        CurvePoint(share=share, pictures=round(140 * share), right=right, labels={"scratch": right})
        for share, right in ((0.5, half), (1.0, whole))
    )
    return LearningCurve(points=points, gain=scratch, gains={"scratch": scratch}, heads="a head")


def test_the_learning_curve_says_what_gained_and_how_half_would_have_done() -> None:
    sure = Metric(value=0.05, low=0.01, high=0.09, n=60, baseline=0.0)
    body = {
        "task": "classify", "confusion": {"surface": PARTS}, "validation_pictures": 220,
        "learning_curve": curve_of(sure),
    }  # fmt: skip

    found = report_result(encode(body))
    doubtful = report_result(
        encode({**body, "learning_curve": curve_of(Metric(
            value=0.05, low=-0.01, high=0.09, n=60, baseline=0.0
        ))})
    )  # fmt: skip

    assert found is not None
    assert doubtful is not None
    assert found.help_label == "scratch"
    assert found.advice == (
        "More pictures of scratch would help most. Of 100 answers 86 (82 to 89) would have been"
        " right from half of the pictures, 91 (87 to 94) from all of them; of those on scratch 86"
        " (82 to 89) and 91 (87 to 94)."
    )
    assert doubtful.advice.startswith("The widest doubt is on scratch. Of 100 answers")
    assert doubtful.advice.endswith("that more of the same would help is not sure.")
    assert report_result(encode({**body, "learning_curve": {"heads": "not estimated: why"}})) == (
        report_result(encode({**body, "learning_curve": LearningCurve(heads="not estimated: why")}))
    )
    assert report_result(encode({**body, "learning_curve": {"points": 3}})) is None


@pytest.mark.parametrize(
    "report",
    [b"", b"[]", b"{}", b'{"task":"classify","confusion":{"a":1}}', encode({"task": "classify"})],
)
def test_a_report_of_another_form_tells_nothing(report: bytes) -> None:
    assert report_result(report) is None


def test_a_report_tells_what_its_figures_tell() -> None:
    report = {
        "task": "classify", "confusion": {"surface": PARTS}, "validation_pictures": 220,
        "evidence": "pictures never trained on", "unknown": [1],
        "mistakes": [{"picture": "a.png", "truth": "scratch", "said": "good", "probability": 0.9}],
    }  # fmt: skip

    found = report_result(encode(report))

    assert found is not None
    assert found.words == result("classify", PARTS, n=220).words
    assert found.mistakes[0].picture == "a.png"


@given(st.integers(0, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(max(n, 1)))))
def test_the_bounds_in_words_hold_the_interval(counts: tuple[int, int]) -> None:
    between = wilson(*counts)
    told = MeasuredShare(of="parts", does="fail", interval=between).bounds

    low, high = map(int, told.split(" to "))

    assert 0 <= low <= 100 * between.low + 1e-6
    assert 100 * between.high - 1e-6 <= high <= 100


def drawn(kind: str, contrast: float, *found: int) -> DefectPower:
    sizes = (4.0, 8.0, 16.0)
    at = {share: smallest_size(sizes, found, n=20, share=share) for share in (0.8, 0.95)}
    return DefectPower(
        kind=kind, contrast=contrast, n=20, sizes_px=sizes, found=found, at_80=at[0.8],
        at_95=at[0.95],
    )  # fmt: skip


def test_the_smallest_size_found_has_the_interval_of_order_statistics() -> None:
    sizes = (4.0, 8.0, 16.0, 32.0, 64.0)
    found = smallest_size(sizes, (0, 11, 12, 16, 20), n=20, share=0.8)
    assert found == SmallestSize(size_px=32.0, low_px=16.0, high_px=64.0)  # ranks 12, 16, 20
    assert found.words == "32 px (16 to 64)"
    all_found = smallest_size(sizes, (0, 20, 20, 20, 20), n=20, share=0.95)
    assert all_found == SmallestSize(size_px=8.0, low_px=8.0, high_px=None), "20 prove no 95 %"
    assert smallest_size(sizes, (0, 0, 0, 0, 11), n=20, share=0.8).words == "not found"
    few = smallest_size(sizes, (0, 2, 2, 2, 2), n=2, share=0.8)
    assert few.words == "8 px (0 to more than drawn)"


def test_what_is_not_found_is_said_not_to_be_usable() -> None:
    power = PowerTest(
        defects=(
            drawn("hairline", 80.0, 0, 2, 5),
            drawn("hairline", 40.0, 0, 0, 0),
            drawn("hairline", 20.0, 0, 0, 0),
            drawn("scratch", 80.0, 0, 20, 20),
            drawn("scratch", 40.0, 0, 18, 20),
            drawn("scratch", 20.0, 0, 0, 6),
        ),
        pictures=20,
        part_px=100.0,
    )
    assert power.gaps == (
        (
            "not usable for hairlines: drawn 80 grey levels from their surroundings, 5 of 20 "
            "hairlines of 16 px are found"
        ),
        (
            "not usable for scratches of 20 grey levels or less: drawn 20 grey levels from their "
            "surroundings, 6 of 20 scratches of 16 px are found"
        ),
    )
    assert power.words == (
        "Of defects drawn onto 20 good pictures, 40 grey levels from their surroundings, 80 of 100 "
        "are found: scratches from 8 px (8 to 16)."
    )
    assert power.size_words(power.defects[3].at_80) == "8 px (8 to 8), 8.0 % of the part"
    assert (power.example("scratch").contrast, power.example("scratch").size_px) == (40.0, 8.0)
    assert "not found" in power.example("hairline").words("hairline")
    body = {"task": "anomaly", "confusion": {}, "power": power}
    assert report_result(encode({**body, "power": {"defects": 1}})) is None
