"""The SageMaker contract: what goes in, what comes out, and the strict cut."""

import base64
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.compat.aws.sagemaker_runtime import (
    answer_labels,
    count_answer,
    endpoint_score,
    invocation_picture,
    sagemaker_answer,
)
from lineside.core import InvalidError, Policy
from lineside.models import Manifest
from lineside.testing.bare import bare_prediction
from lineside.vision import (
    AnomalyRule,
    CountAnswer,
    Decision,
    LabelRule,
    PictureState,
    Prediction,
)
from lineside.vision.decide import decide_probabilities

PICTURE = b"\xff\xd8\xff\xe0 picture"
CUT = Policy(present_above=0.85)


def rule(name: str, region: str) -> LabelRule:
    return LabelRule(
        name=name,
        region=region,
        label=name.rpartition("/")[2],
        output=0,
        slope=1.0,
        offset=0.0,
        floor=0.0,
        low=0.4,
        high=0.6,
        error_rate=0.1,
        calibration_pictures=16,
    )


RACK = (rule("blue", "top"), rule("red", "middle"), rule("white", "bottom"))
SLOTS = tuple(
    rule(f"{slot}/{kind}", slot) for slot in ("A1", "A2") for kind in ("empty", "blue", "red")
)


def prediction(
    chances: list[float], rules: tuple[LabelRule, ...] = RACK, *, policy: Policy | None = None
) -> Prediction:
    labels = decide_probabilities(np.array(chances), rules, policy=policy or Policy())
    return bare_prediction(inspection="stock", task="multilabel", labels=labels)


@pytest.fixture(scope="session")
def rack_manifest(parts: tuple[Manifest, dict[str, bytes]]) -> Manifest:
    return replace(parts[0], rules=RACK, labels=("blue", "red", "white"))


@pytest.fixture(scope="session")
def slot_manifest(parts: tuple[Manifest, dict[str, bytes]]) -> Manifest:
    return replace(parts[0], rules=SLOTS, labels=tuple(each.name for each in SLOTS))


def test_the_answer_is_one_probability_per_label_in_declared_order(rack_manifest: Manifest) -> None:
    said = sagemaker_answer(prediction([0.9731, 0.0412, 0.85]), rack_manifest)
    assert json.dumps(said) == "[0.9731, 0.0412, 0.85]"


def test_labels_may_be_asked_for_in_another_order(rack_manifest: Manifest) -> None:
    answer = prediction([0.1, 0.2, 0.3])
    assert sagemaker_answer(answer, rack_manifest, labels=["white", "blue"]) == [0.3, 0.1]
    with pytest.raises(InvalidError, match="'green' is unknown") as caught:
        sagemaker_answer(answer, rack_manifest, labels=["green"])
    assert "blue, red, white" in caught.value.fix


def test_a_class_of_many_regions_is_given_where_it_is_likeliest(slot_manifest: Manifest) -> None:
    answer = prediction([0.1, 0.8, 0.2, 0.7, 0.3, 0.05], SLOTS)
    assert answer_labels(slot_manifest) == ("empty", "blue", "red")
    assert sagemaker_answer(answer, slot_manifest) == [0.7, 0.8, 0.2]
    assert sagemaker_answer(answer, slot_manifest, labels=["blue", "red"]) == [0.8, 0.2]


def test_a_picture_that_could_not_be_judged_gives_no_numbers(rack_manifest: Manifest) -> None:
    refused = replace(
        prediction([0.5] * 3), state=PictureState.CAMERA_MOVED, labels=(), reason="scale 2.00"
    )
    with pytest.raises(InvalidError, match=r"camera moved: scale 2\.00"):
        sagemaker_answer(refused, rack_manifest)


CUTS = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)
THRESHOLDS = st.floats(0.01, 0.99)


def scored(chance: float, *, low: float, high: float, threshold: float) -> float:
    """The score of a label that decides by itself."""
    rule = replace(RACK[0], low=low, high=high)
    (answer,) = decide_probabilities(np.array([chance]), (rule,), policy=Policy())
    return endpoint_score(answer, low=low, high=high, threshold=threshold)


@given(cuts=CUTS, threshold=THRESHOLDS, chance=st.floats(0, 1))
def test_a_client_s_cut_is_the_package_s_cut(
    *, cuts: list[float], threshold: float, chance: float
) -> None:
    low, high = cuts
    score = scored(chance, low=low, high=high, threshold=threshold)
    assert 0.0 <= score <= 1.0
    assert (score > threshold) == (chance > high)
    lower = min(threshold / 2, 1 - threshold) if low < high else threshold
    assert (score < lower) == (chance < low)


@given(cuts=CUTS, threshold=THRESHOLDS, pair=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_the_likelier_never_scores_lower(
    *, cuts: list[float], threshold: float, pair: tuple[float, float]
) -> None:
    less, more = (
        scored(chance, low=cuts[0], high=cuts[1], threshold=threshold) for chance in sorted(pair)
    )
    assert less <= more


@given(
    low=st.floats(0.05, 0.45), high=st.floats(0.55, 0.95), threshold=THRESHOLDS,
    chance=st.floats(0, 0.999),
)  # fmt: skip
def test_the_score_makes_no_jump(
    *, low: float, high: float, threshold: float, chance: float
) -> None:
    step = 1e-6
    before = scored(chance, low=low, high=high, threshold=threshold)
    after = scored(chance + step, low=low, high=high, threshold=threshold)
    assert 0 < after - before < 30 * step  # no segment is steeper than 1 / 0.05


@given(chances=st.lists(st.floats(0, 1), min_size=6, max_size=6), threshold=THRESHOLDS)
def test_classes_of_a_region_are_above_the_threshold_where_they_are_decided(
    slot_manifest: Manifest, *, chances: list[float], threshold: float
) -> None:
    said = prediction(chances, SLOTS)
    numbers = sagemaker_answer(said, slot_manifest, threshold=threshold)
    present = {each.label for each in said.labels if each.decision is Decision.PRESENT}
    labels = answer_labels(slot_manifest)
    assert [number > threshold for number in numbers] == [one in present for one in labels]


def test_a_task_without_labels_names_the_other_protocol(rack_manifest: Manifest) -> None:
    rule = AnomalyRule(
        limit=2.0, unsure_above=1.5, unit=1.0, false_reject_rate=0.1, calibration_pictures=9
    )
    scored_task = replace(rack_manifest, task="anomaly", rules=(), anomaly=rule)
    with pytest.raises(InvalidError, match="no probabilities of labels") as caught:
        sagemaker_answer(prediction([0.5] * 3), scored_task)
    assert "Open Inference" in caught.value.fix


@pytest.mark.parametrize(
    "content_type",
    ["image/jpeg", "IMAGE/PNG", "application/x-image", "image/*", "image/jpeg; charset=binary"],
)
def test_bare_bytes_are_taken_as_they_are(content_type: str) -> None:
    assert invocation_picture(PICTURE, content_type=content_type) == PICTURE


@pytest.mark.parametrize("prefix", ["", "data:image/jpeg;base64,"])
def test_a_picture_in_json_is_taken_out(prefix: str) -> None:
    text = prefix + base64.b64encode(PICTURE).decode()
    body = json.dumps({"image": text}).encode()
    assert invocation_picture(body, content_type="application/json; charset=utf-8") == PICTURE


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{}", "application/json"),
        (b"[]", "application/json"),
        (b"{", "application/json"),
        (b'{"image": 3}', "application/json"),
        (b'{"image": "not base64!"}', "application/json"),
        (PICTURE, "text/csv"),
        (PICTURE, ""),
    ],
)
def test_anything_else_is_refused_with_what_to_send(body: bytes, content_type: str) -> None:
    with pytest.raises(InvalidError) as caught:
        invocation_picture(body, content_type=content_type)
    assert caught.value.fix


def counted(*chances: float) -> Prediction:
    count = CountAnswer(value=0, low=0, high=0, chances=chances)
    return replace(prediction([], ()), task="count", labels=(), count=count)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12).filter(lambda xs: sum(xs) > 0.1))
def test_the_largest_and_the_softmax_of_logits_are_those_of_the_probabilities(
    raw: list[float],
) -> None:
    chances = tuple(value / sum(raw) for value in raw)
    (row,) = count_answer(counted(*chances))
    (logits,) = count_answer(counted(*chances), form="logits")
    assert row == list(chances)
    powers = [math.exp(value) for value in logits]
    for power, chance in zip(powers, row, strict=True):
        assert power / sum(powers) == pytest.approx(chance, abs=1e-5)
    assert all(math.isfinite(value) and value <= 0 for value in logits)


def test_a_picture_that_was_not_judged_has_no_numbers() -> None:
    refused = replace(counted(), state=PictureState.BLACK, reason="mean grey 0", count=None)
    with pytest.raises(InvalidError, match="cannot be judged, black: mean grey 0"):
        count_answer(refused)


def test_a_package_without_probabilities_says_so() -> None:
    with pytest.raises(InvalidError, match="no probabilities of numbers"):
        count_answer(counted())
