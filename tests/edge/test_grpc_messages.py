"""Predictions: to the wire without loss."""

from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError
from lineside.edge.local_api import lineside_edge_v1_pb2 as edge_pb2
from lineside.edge.local_api.grpc_edge import prediction_to_wire, time_from_wire, time_to_wire
from lineside.vision import (
    AnomalyAnswer,
    BoxAnswer,
    CountAnswer,
    Decision,
    FrameRef,
    HealthFigures,
    LabelAnswer,
    MaskAnswer,
    PictureState,
    Prediction,
    RegistrationFigures,
    StageTimes,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
figures = st.floats(allow_nan=False)
whole = st.integers(0, 2**53)
decisions = st.sampled_from(Decision)
moments = st.datetimes(timezones=st.just(UTC))
predictions = st.builds(
    Prediction,
    frame=st.builds(
        FrameRef, id=texts, camera=texts, captured_at=moments, digest=texts, sequence=whole,
        part=texts,
    ),
    inspection=texts,
    task=texts,
    state=st.sampled_from(PictureState),
    labels=st.lists(
        st.builds(
            LabelAnswer, name=texts, region=texts, label=texts, probability=figures,
            decision=decisions,
        ),
        max_size=2,
    ).map(tuple),
    package=texts,
    dataset=texts,
    registration=st.builds(
        RegistrationFigures, state=texts, dx_px=figures, dy_px=figures, rotation_deg=figures,
        scale=figures, residual_px=figures, inliers=whole, correlation=figures, reason=texts,
    ),
    health=st.builds(
        HealthFigures, sharpness=figures, mean_grey=figures, clipped_share=figures,
        feature_distance=figures,
    ),
    latency_ms=st.builds(
        StageTimes, decode=figures, register=figures, prepare=figures, infer=figures,
        decide=figures, total=figures,
    ),
    device=texts,
    reason=texts,
    boxes=st.lists(
        st.builds(
            BoxAnswer, label=texts, x0_px=figures, y0_px=figures, x1_px=figures, y1_px=figures,
            probability=figures, decision=decisions,
        ),
        max_size=2,
    ).map(tuple),
    count=st.none()
    | st.builds(
        CountAnswer, value=whole, low=whole, high=whole, more=st.booleans(), decision=decisions,
        chances=st.lists(figures, max_size=3).map(tuple), expected=st.none() | whole,
    ),
    mask=st.none()
    | st.builds(
        MaskAnswer, rle=texts, width_px=whole, height_px=whole, share=figures,
        areas_px=st.lists(whole, max_size=3).map(tuple),
    ),
    anomaly=st.none()
    | st.builds(AnomalyAnswer, score=figures, limit=figures, decision=decisions, reason=texts),
    operating_point=texts,
    schema=texts,
)  # fmt: skip


def check_sent(value: object, sent: Any) -> None:  # noqa: ANN401  any part of a message
    match value:
        case Decision():
            assert edge_pb2.Decision.Name(sent) == f"DECISION_{value.name}"
        case PictureState():
            assert edge_pb2.PictureState.Name(sent) == f"PICTURE_STATE_{value.name}"
        case datetime():
            assert time_from_wire(sent, where="time") == value
        case tuple():
            for one, part in zip(value, sent, strict=True):
                check_sent(one, part)
        case StageTimes():
            assert {f"{each.name}_ms": getattr(value, each.name) for each in fields(value)} == {
                each.name: getattr(sent, each.name) for each in sent.DESCRIPTOR.fields
            }
        case _ if is_dataclass(value):
            for each in fields(value):
                part, name = getattr(value, each.name), each.name.removesuffix("latency_ms")
                if part is None:
                    assert not sent.HasField(name)
                else:
                    check_sent(part, getattr(sent, name or "latency"))
        case _:
            assert sent == value


@given(predictions)
def test_every_field_of_a_prediction_is_sent(prediction: Prediction) -> None:
    sent = edge_pb2.Prediction.FromString(prediction_to_wire(prediction).SerializeToString())
    check_sent(prediction, sent)


@given(moments)
def test_a_time_comes_back(moment: object) -> None:
    assert isinstance(moment, datetime)
    assert time_from_wire(time_to_wire(moment), where="time") == moment


@pytest.mark.parametrize("state", PictureState)
def test_every_state_has_a_number_of_its_own(state: PictureState) -> None:
    assert edge_pb2.PictureState.Value(f"PICTURE_STATE_{state.name}") > 0


@pytest.mark.parametrize("decision", Decision)
def test_every_decision_has_a_number_of_its_own(decision: Decision) -> None:
    assert edge_pb2.Decision.Value(f"DECISION_{decision.name}") > 0


@pytest.mark.parametrize("message", [Timestamp(seconds=2**60), Timestamp(nanos=-5)])
def test_a_time_that_is_none_is_refused(message: Timestamp) -> None:
    with pytest.raises(InvalidError, match="are no time"):
        time_from_wire(message, where="captured_at")
