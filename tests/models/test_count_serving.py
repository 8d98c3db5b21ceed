"""Counts in the shape of others' contracts."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Digest, InvalidError, digest_of, frame_id
from lineside.models.serving.sagemaker import count_answer
from lineside.vision import (
    CountAnswer,
    FrameRef,
    HealthFigures,
    PictureState,
    Prediction,
    RegistrationFigures,
    StageTimes,
)

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
REF = FrameRef(
    id=frame_id(camera="bin", captured_at=AT, digest=digest_of(b"p")),
    camera="bin",
    captured_at=AT,
    digest=digest_of(b"p"),
)


def prediction(
    *chances: float, state: PictureState = PictureState.OK, reason: str = ""
) -> Prediction:
    count = CountAnswer(value=0, low=0, high=0, chances=chances)
    return Prediction(
        frame=REF,
        inspection="contents",
        task="count",
        state=state,
        labels=(),
        package=Digest(digest_of(b"package")),
        dataset="bins/1",
        registration=RegistrationFigures(state="none"),
        health=HealthFigures(sharpness=1.0, mean_grey=100.0, clipped_share=0.0),
        latency_ms=StageTimes(),
        reason=reason,
        count=count if state is PictureState.OK else None,
    )


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12).filter(lambda xs: sum(xs) > 0.1))
def test_the_largest_and_the_softmax_of_logits_are_those_of_the_probabilities(
    raw: list[float],
) -> None:
    chances = tuple(value / sum(raw) for value in raw)
    (row,) = count_answer(prediction(*chances))
    (logits,) = count_answer(prediction(*chances), form="logits")
    assert row == list(chances)
    powers = [math.exp(value) for value in logits]
    for power, chance in zip(powers, row, strict=True):
        assert power / sum(powers) == pytest.approx(chance, abs=1e-5)
    assert all(math.isfinite(value) and value <= 0 for value in logits)


def test_a_picture_that_was_not_judged_has_no_numbers() -> None:
    refused = prediction(state=PictureState.BLACK, reason="mean grey 0")
    with pytest.raises(InvalidError, match="cannot be judged, black: mean grey 0"):
        count_answer(refused)


def test_a_package_without_probabilities_says_so() -> None:
    with pytest.raises(InvalidError, match="no probabilities of numbers"):
        count_answer(prediction())
