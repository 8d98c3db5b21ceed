"""Limits apart from the package: what they decide, and that a preview says the same."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Digest, InvalidError, digest_of
from lineside.core.codec import decode, encode
from lineside.models import Manifest, Package, Predictor
from lineside.models.operating_point import (
    Costs,
    Limits,
    OperatingPoint,
    UnseenScores,
    check_limits,
    decide_again,
    own_limits,
    recorded_effect,
    ruled,
    unseen_scores,
)
from lineside.testing import FakeClock
from lineside.testing.bare import bare_frame, bare_prediction
from lineside.vision import (
    AnomalyRule,
    BoxAnswer,
    ClassRule,
    CountRule,
    Decision,
    DetectRule,
    LabelAnswer,
    MaskRule,
    Prediction,
    encode_jpeg,
    open_frame,
)
from lineside.vision.anomaly import decide_anomaly
from lineside.vision.decide import decide_classes
from lineside.vision.detections import count_found, doubt_of
from lineside.vision.masks import decide_score, probability_score, score_probability
from lineside.vision.metrics import limit_table
from lineside.vision.verdict import PartVerdict, RejectRule
from tests.models.conftest import package_parts

AT = datetime(2026, 1, 1, tzinfo=UTC)
BASE = package_parts()[0]
MASK = MaskRule(
    label="scratch", cut=0.5, least_px=4, present_above=0.6, absent_below=0.4, error_rate=0.1,
    calibration_pictures=20, slope=1.5, offset=-0.2, floor=0.01,
)  # fmt: skip
CLASSES = ClassRule(
    labels=("good", "scratch"), temperature=1.3, floor=0.01, cuts=(0.3, 0.2), error_rate=0.1,
    class_conditional=True, calibration_pictures=20,
)  # fmt: skip
ANOMALY = AnomalyRule(
    limit=1.1, unsure_above=0.9, unit=2.0, false_reject_rate=0.05, calibration_pictures=30
)
chances = st.floats(0, 1)
inside = st.floats(0.011, 0.989)
pairs = st.tuples(inside, inside).map(sorted)


def of_task(task: str, **rules: Any) -> Manifest:  # noqa: ANN401  any of its fields
    return replace(BASE, task=task, rules=(), labels=(), **rules)


def said(task: str, number: int = 0, **answers: Any) -> Prediction:  # noqa: ANN401  any of its fields
    return bare_prediction(bare_frame(f"frm_{number}"), inspection="stock", task=task, **answers)


def point(limits: tuple[Limits, ...], *, package: str) -> OperatingPoint:
    return OperatingPoint(
        inspection="stock", package=Digest(package), version=1, limits=limits, by="ada", at=AT,
        reason="try", approved_by="eve", approved_at=AT,
    )  # fmt: skip


def test_a_point_is_canonical_bytes_and_comes_back() -> None:
    made = point((Limits(name="disc", low=0.2, high=0.4),), package=digest_of(b"p"))
    again = decode(OperatingPoint, encode(made), where="point")
    assert again == made
    assert again.digest == made.digest == digest_of(encode(made))


def test_a_predictor_decides_by_it_and_by_its_own_limits_again(
    archive: bytes, clock: FakeClock, lit_scene: np.ndarray[Any, Any]
) -> None:
    package = Package.read(archive)
    predictor = Predictor(package, clock=clock)
    frame = open_frame(
        encode_jpeg(lit_scene),
        camera="rack", captured_at=AT, max_bytes=10**7,
    )  # fmt: skip
    before = predictor.predict_single(frame)
    own = own_limits(package.manifest)
    wide = tuple(replace(one, low=0.0, high=1.0) for one in own)
    predictor.decide_by(point(wide, package=package.digest))
    unsure = predictor.predict_single(frame)
    assert {one.decision for one in unsure.labels} == {Decision.UNSURE}
    assert unsure.operating_point == predictor.operating_point != ""
    assert [one.probability for one in unsure.labels] == [one.probability for one in before.labels]
    again = decide_again(before, ruled(package.manifest, wide))
    assert again.labels == unsure.labels
    predictor.decide_by(None)
    assert predictor.predict_single(frame).labels == before.labels
    with pytest.raises(InvalidError, match="the operating point is for"):
        predictor.decide_by(point(wide, package=digest_of(b"other")))


@given(limits=pairs, chance=chances)
def test_two_classes_are_decided_by_one_pair(limits: list[float], chance: float) -> None:
    manifest = of_task("classify", classes=CLASSES)
    (own,) = own_limits(manifest)
    assert own.name == "scratch"
    assert own_limits(replace(manifest, good=("scratch",)))[0].name == "good"
    changed = ruled(manifest, (replace(own, low=limits[0], high=limits[1]),))
    assert changed.classes is not None
    held = min(max(chance, 1e-12), 1 - 1e-12)
    logit = CLASSES.temperature * np.log(held / (1 - held))
    answer = decide_classes(np.array([0.0, logit], np.float32), changed.classes)
    again = decide_again(said("classify", labels=answer), changed)
    assert again.labels == answer
    bad = answer[1]
    if min(abs(bad.probability - one) for one in limits) > 1e-6:
        expected = (
            Decision.PRESENT if bad.probability > limits[1]
            else Decision.ABSENT if bad.probability < limits[0] else Decision.UNSURE
        )  # fmt: skip
        assert bad.decision is expected


@given(limits=pairs, chance=chances)
def test_a_recorded_mask_is_decided_as_the_device_would(limits: list[float], chance: float) -> None:
    manifest = of_task("segment", mask=MASK)
    changed = ruled(manifest, (Limits(name="scratch", low=limits[0], high=limits[1]),))
    assert changed.mask is not None
    score = probability_score(chance, MASK)
    recorded = min(max(chance, MASK.floor), 1 - MASK.floor)
    assert score_probability(score, MASK) == pytest.approx(recorded, abs=1e-9)
    answer = decide_score(score, changed.mask, policy=changed.policy)
    again = decide_again(said("segment", labels=(answer,)), changed)
    if min(abs(chance - one) for one in limits) > 1e-6:
        assert again.labels == (answer,)


@given(limits=pairs, score=st.floats(0, 3))
def test_a_recorded_anomaly_is_decided_as_the_device_would(
    limits: list[float], score: float
) -> None:
    manifest = of_task("anomaly", anomaly=ANOMALY)
    changed = ruled(manifest, (Limits(name="anomaly", low=limits[0], high=limits[1]),))
    assert changed.anomaly is not None
    recorded = said("anomaly", anomaly=decide_anomaly(score, ANOMALY))
    assert decide_again(recorded, changed).anomaly == decide_anomaly(score, changed.anomaly)
    assert decide_again(recorded, manifest) == recorded


@given(
    scores=st.lists(chances, max_size=30), before=pairs, after=pairs,
)  # fmt: skip
def test_the_kinds_of_change_add_up(
    scores: list[float], before: list[float], after: list[float]
) -> None:
    manifest = of_task("segment", mask=MASK)
    recorded = [
        said(
            "segment", number,
            labels=(LabelAnswer(name="scratch", region="", label="scratch", probability=score,
                                decision=Decision.ABSENT),),
        )
        for number, score in enumerate(scores)
    ]  # fmt: skip
    old, new = (
        ruled(manifest, (Limits(name="scratch", low=low, high=high),))
        for low, high in (before, after)
    )
    found = recorded_effect(recorded, before=old, after=new, rule=RejectRule())
    assert found.frames == len(scores)
    assert sum(found.before.values()) == sum(found.after.values()) == found.frames
    assert sum(one.count for one in found.changes) == found.changed <= found.frames
    for verdict in (PartVerdict.OK, PartVerdict.REVIEW, PartVerdict.REJECT):
        gained = sum(one.count for one in found.changes if one.after is verdict)
        lost = sum(one.count for one in found.changes if one.before is verdict)
        assert found.after[verdict] - found.before[verdict] == gained - lost
    same = recorded_effect(recorded, before=new, after=new, rule=RejectRule())
    assert (same.changed, same.changes) == (0, ())


@given(chance=chances, task=st.sampled_from(["classify", "segment"]))
def test_limits_of_0_and_1_mean_never_on_the_device_and_in_the_preview(
    chance: float, task: str
) -> None:
    rules = {"classes": CLASSES} if task == "classify" else {"mask": MASK}
    never = ruled(of_task(task, **rules), (Limits(name="scratch", low=0.0, high=1.0),))
    if task == "segment":
        assert never.mask is not None
        answers: tuple[LabelAnswer, ...] = (decide_score(chance, never.mask, policy=never.policy),)
    else:
        assert never.classes is not None
        held = min(max(chance, 1e-12), 1 - 1e-12)
        logits = np.array([0.0, CLASSES.temperature * np.log(held / (1 - held))], np.float32)
        answers = decide_classes(logits, never.classes)
    assert {one.decision for one in answers} == {Decision.UNSURE}
    assert decide_again(said(task, labels=answers), never).labels == answers


def test_a_record_by_the_limits_in_force_stands_as_it_was_decided() -> None:
    narrow = replace(CLASSES, cuts=(0.002, 0.2))  # present above 0.998, beyond the floor of 0.01
    manifest = of_task("classify", classes=narrow)
    answers = decide_classes(np.array([0.0, 9.0], np.float32), narrow)
    assert [one.decision for one in answers] == [Decision.ABSENT, Decision.PRESENT]
    recorded = [said("classify", labels=answers)]
    rule = RejectRule()
    found = recorded_effect(recorded, before=manifest, after=manifest, rule=rule, decided_by="")
    assert (found.before[PartVerdict.REJECT], found.changed) == (1, 0)
    wide = ruled(manifest, (Limits(name="scratch", low=0.1, high=0.5),))
    assert not recorded_effect(
        recorded, before=manifest, after=wide, rule=rule, decided_by=""
    ).changed


@given(
    objects=st.lists(st.tuples(chances, st.floats(0.3, 1)), max_size=8),
    cut=st.floats(0.05, 0.5), lower=st.floats(0.01, 1),
)  # fmt: skip
def test_recorded_objects_stay_unless_the_cut_is_raised(
    objects: list[tuple[float, float]], cut: float, lower: float
) -> None:
    rule = DetectRule(labels=("dent", "scratch"), stride_px=8, cut=cut, unsure_below=0.6)
    manifest = of_task("detect", detect=rule)

    def device(least: float) -> tuple[BoxAnswer, ...]:
        return tuple(
            BoxAnswer(
                label="dent", x0_px=0, y0_px=0, x1_px=5, y1_px=5, probability=there * label,
                decision=Decision.PRESENT if there * label >= 0.6 else Decision.UNSURE,
            )
            for there, label in objects
            if there > least
        )  # fmt: skip

    recorded = said("detect", boxes=device(cut))
    assert decide_again(recorded, manifest, recorded=manifest) == recorded
    lowered = ruled(manifest, (Limits(name="objects", low=cut * lower, high=0.6),))
    assert decide_again(recorded, lowered, recorded=manifest) == recorded
    raised = ruled(manifest, (Limits(name="objects", low=0.55, high=0.6),))
    seen = recorded_effect([recorded], before=manifest, after=raised, rule=RejectRule())
    assert "Of several labels" in seen.note
    same = recorded_effect([recorded], before=manifest, after=lowered, rule=RejectRule())
    assert same.note == ""
    single = decide_again(said("detect", boxes=device(0.0)), raised, recorded=None)
    assert {one.probability > 0.55 for one in single.boxes} <= {True}


@given(
    objects=st.lists(chances, max_size=12), cut=st.floats(0.05, 0.5), raised=st.floats(0.5, 0.99),
    reach=st.floats(0, 3), scaled=st.booleans(), most=st.integers(0, 9),
)  # fmt: skip
def test_a_recorded_count_is_the_count_of_the_objects_above_a_higher_limit(
    objects: list[float], cut: float, *, raised: float, reach: float, scaled: bool, most: int
) -> None:
    rule = DetectRule(labels=("disc",), stride_px=8, cut=cut, unsure_below=0.6)
    count = CountRule(
        most=most, reach=reach, scaled=scaled, error_rate=0.1, calibration_pictures=40
    )
    manifest = of_task("count", detect=rule, count=count)
    assert own_limits(manifest) == (Limits(name="objects", low=cut, high=cut),)
    higher = ruled(manifest, (Limits(name="objects", low=raised, high=raised),))
    assert higher.detect is not None

    def device(least: float) -> Prediction:
        boxes = tuple(
            BoxAnswer(label="disc", x0_px=0, y0_px=0, x1_px=5, y1_px=5, probability=one)
            for one in objects if one > least
        )  # fmt: skip
        answer = count_found(np.array(objects, np.float64), cut=least, rule=count)
        return said("count", boxes=boxes, count=replace(answer, expected=3))

    again, wanted = decide_again(device(cut), higher).count, device(raised).count
    assert again is not None
    assert wanted is not None
    assert (again.value, again.expected) == (wanted.value, 3)
    near = abs(reach * doubt_of(np.array(objects)) % 1 - 0.5) < 0.49  # of rounded chances
    if not scaled or (near and len(objects) <= most + 1):  # else the doubt is an estimate
        assert (again.low, again.high, again.more) == (wanted.low, wanted.high, wanted.more)


def test_a_count_of_objects_has_one_limit_and_a_count_of_numbers_none() -> None:
    rule = DetectRule(labels=("disc",), stride_px=8, cut=0.4, unsure_below=0.6)
    manifest = of_task("count", detect=rule)
    with pytest.raises(InvalidError, match="low again: one limit decides here"):
        check_limits(manifest, (Limits(name="objects", low=0.3, high=0.5),))
    moved = ruled(manifest, check_limits(manifest, (Limits(name="objects", low=0.7, high=0.7),)))
    assert moved.detect is not None
    assert (moved.detect.cut, moved.detect.unsure_below) == (0.7, 0.7)
    lowered = ruled(manifest, (Limits(name="objects", low=0.2, high=0.2),))
    note = recorded_effect((), before=manifest, after=lowered, rule=RejectRule()).note
    assert "were not recorded, so more would be counted" in note
    several = replace(manifest, detect=replace(rule, labels=("disc", "square")))
    raised = ruled(several, (Limits(name="objects", low=0.7, high=0.7),))
    note = recorded_effect((), before=several, after=raised, rule=RejectRule()).note
    assert "The interval of a count" in note
    assert "Of several labels" in note
    assert own_limits(of_task("count")) == ()


@given(
    bad=st.lists(chances, min_size=1, max_size=20), good=st.lists(chances, min_size=1, max_size=20),
    limits=st.tuples(chances, chances).map(sorted), on_cuts=st.booleans(),
)  # fmt: skip
def test_no_mistake_on_unseen_parts_is_left_out(
    bad: list[float], good: list[float], *, limits: list[float], on_cuts: bool
) -> None:
    table = limit_table(np.array([True] * len(bad) + [False] * len(good)), np.array(bad + good))
    scores = UnseenScores(
        cuts=tuple(row.cut for row in table), bad_below=tuple(row.escapes for row in table),
        good_above=tuple(row.over_rejects for row in table),
    )  # fmt: skip
    low, high = (
        max(cut for cut in scores.cuts if cut <= one) if on_cuts else one for one in limits
    )
    found = scores.effect(Limits(name="scratch", low=low, high=high))
    escapes, rejects = sum(one < low for one in bad), sum(one > high for one in good)
    assert escapes <= found.escapes
    assert rejects <= found.false_rejects
    assert sum(one <= high for one in bad) <= found.escapes + found.bad_review
    if on_cuts:
        assert found.escapes == sum(one <= low for one in bad)
        assert found.false_rejects == rejects


def test_parts_between_a_cut_and_the_limit_escape() -> None:
    table = limit_table(np.array([True] * 20 + [False]), np.array([0.045] * 5 + [0.9] * 15 + [0.0]))
    scores = unseen_scores(of_task("classify", classes=CLASSES), {"scratch": table})["scratch"]
    assert scores.effect(Limits(name="scratch", low=0.1, high=0.5)).escapes == 5


def test_a_class_of_a_region_has_the_scores_of_its_label_over_all_regions() -> None:
    (rule, *_) = BASE.rules
    classes = tuple(
        replace(rule, name=f"{region}/blue", region=region, label="blue") for region in ("A1", "B1")
    )
    table = limit_table(np.array([True, False]), np.array([0.9, 0.1]))
    found = unseen_scores(replace(BASE, rules=classes), {"blue": table})
    assert {name: one.scope for name, one in found.items()} == {
        "A1/blue": "blue over all regions", "B1/blue": "blue over all regions",
    }  # fmt: skip


def test_the_cheapest_limits_of_a_mask_are_such_as_can_be_proposed() -> None:
    flags, raw = np.array([True, True, False, False]), np.array([1e-6, 0.9, 0.2, 0.0])
    manifest = of_task("segment", mask=MASK)
    scores = unseen_scores(manifest, {"scratch": limit_table(flags, raw)})["scratch"]
    assert (scores.cuts[0], scores.cuts[-1]) == (0.0, 1.0)
    for share in (0.01, 0.5, 0.99):
        check_limits(manifest, (scores.cheapest("scratch", Costs(), bad_share=share),))


def test_the_digest_of_a_stored_point_stays_what_was_signed() -> None:
    made = point((Limits(name="disc", low=0.2, high=0.4),), package=digest_of(b"p"))
    # A later field of the record must not change these bytes: devices and the log name them.
    assert made.digest == "sha256:252d4bdd101b45276c5fe87c33d4e456892e4c0c21a5b8b2d70d5011072d06b8"


@given(
    bad=st.lists(inside, min_size=1, max_size=20), good=st.lists(inside, min_size=1, max_size=20),
    limits=pairs, share=st.floats(0.01, 0.5),
)  # fmt: skip
def test_unseen_parts_are_counted_once_and_the_cheapest_limits_cost_least(
    bad: list[float], good: list[float], *, limits: list[float], share: float
) -> None:
    truth = np.array([True] * len(bad) + [False] * len(good))
    table = limit_table(truth, np.array(bad + good))
    scores = UnseenScores(
        cuts=tuple(row.cut for row in table), bad_below=tuple(row.escapes for row in table),
        good_above=tuple(row.over_rejects for row in table),
    )  # fmt: skip
    found = scores.effect(Limits(name="scratch", low=limits[0], high=limits[1]))
    assert (found.bad, found.good) == (len(bad), len(good))
    assert 0 <= found.escapes <= found.escapes + found.bad_review <= found.bad
    assert 0 <= found.false_rejects <= found.false_rejects + found.good_review <= found.good
    costs = Costs()
    best = scores.cheapest("scratch", costs, bad_share=share)
    assert best.low <= best.high
    least = scores.effect(best).cost(costs, bad_share=share)
    every = [
        scores.effect(Limits(name="scratch", low=low, high=high)).cost(costs, bad_share=share)
        for place, low in enumerate(scores.cuts) for high in scores.cuts[place:]
    ]  # fmt: skip
    assert least == pytest.approx(min(every))
    bars = scores.bars([0.0, *limits, 1.0])
    assert (sum(one for one, _ in bars), sum(two for _, two in bars)) == (len(good), len(bad))


def test_a_report_gives_the_scores_of_the_limits_that_it_has_a_table_of() -> None:
    table = limit_table(np.array([True, False]), np.array([0.9, 0.1]))
    manifest = of_task("classify", classes=CLASSES)
    assert unseen_scores(manifest, {"defect": table})["scratch"].bad_below[-1] == 1
    assert unseen_scores(manifest, {"other": table}) == {}
    assert list(unseen_scores(of_task("segment", mask=MASK), {"scratch": table})) == ["scratch"]


def test_of_three_classes_each_has_one_limit() -> None:
    rule = replace(CLASSES, labels=("a", "b", "c"), cuts=(0.2, 0.3, 0.4))
    manifest = of_task("classify", classes=rule)
    assert [one.low for one in own_limits(manifest)] == [0.2, 0.3, 0.4]
    changed = ruled(manifest, (Limits(name="b", low=0.5, high=0.5),))
    assert changed.classes is not None
    assert changed.classes.cuts == (0.2, 0.5, 0.4)
    with pytest.raises(InvalidError, match="one limit decides here"):
        check_limits(manifest, (Limits(name="b", low=0.1, high=0.5),))


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ((), "one pair or more"),
        ((Limits(name="pink", low=0.1, high=0.2),), "one of scratch"),
        ((Limits(name="scratch", low=0.5, high=0.2),), "at most high"),
        ((Limits(name="scratch", low=0.5, high=1.2),), "a number from 0 to 1"),
        ((Limits(name="scratch", low=float("nan"), high=0.2),), "a number from 0 to 1"),
        ((Limits(name="scratch", low=0.005, high=0.2),), "or 0 for never"),
        ((Limits(name="scratch", low=0.5, high=0.995),), "or 1 for never"),
        (2 * (Limits(name="scratch", low=0.1, high=0.2),), "each name once"),
    ],
)
def test_each_refusal_is_a_sentence(limits: tuple[Limits, ...], words: str) -> None:
    with pytest.raises(InvalidError) as error:
        check_limits(of_task("segment", mask=MASK), limits)
    assert words in " ".join([error.value.message, *(one.expected for one in error.value.faults)])


def test_a_task_without_limits_says_so() -> None:
    with pytest.raises(InvalidError, match="has no limits to set"):
        check_limits(of_task("count"), (Limits(name="x", low=0.1, high=0.2),))
