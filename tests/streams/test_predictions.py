"""A prediction as an event, and back."""

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError, digest_of
from lineside.core.factory import SLOTS
from lineside.streams import (
    PREDICTION_TYPE,
    Event,
    decode_event,
    encode_event,
    encode_prediction_event,
    prediction_event,
    read_prediction,
)
from lineside.testing.events import after, factory_event, picture_event, prediction_of
from lineside.vision import PictureState, Prediction

SHOWN = st.dictionaries(
    st.sampled_from(SLOTS), st.sampled_from(["empty", "blue", "red", "white", "?", "?red"])
)


@given(shown=SHOWN, at_s=st.integers(0, 10_000), state=st.sampled_from(PictureState))
def test_a_prediction_comes_back_as_it_was(
    *, shown: dict[str, str], at_s: int, state: PictureState
) -> None:
    prediction = prediction_of(shown, at_s=at_s, state=state)
    event = prediction_event(prediction, site="hall", device="edge-1", sequence=4, first=2)
    read = decode_event(encode_event(event), where="x")
    assert read == event
    assert read_prediction(read) == prediction


@given(
    shown=SHOWN,
    at_s=st.integers(0, 10_000),
    micros=st.integers(0, 999_999),
    sequence=st.integers(0, 2**53 - 1),
    first=st.integers(0, 2**53 - 1),
    traceparent=st.sampled_from(("", f"00-{'a' * 32}-{'b' * 16}-01")),
)
def test_the_direct_way_writes_the_same_bytes(
    *, shown: dict[str, str], at_s: int, micros: int, sequence: int, first: int, traceparent: str
) -> None:
    made = prediction_of(shown, at_s=at_s)
    at = made.frame.captured_at.replace(microsecond=micros)
    prediction = replace(made, frame=replace(made.frame, captured_at=at), reason='a "reason", ü')
    counts = {"sequence": sequence, "first": first}
    event = prediction_event(prediction, site="hall", device="edge-1", **counts)
    event = replace(event, traceparent=traceparent)
    direct = encode_prediction_event(
        prediction, site="hall", device="edge-1", traceparent=traceparent, **counts
    )
    assert direct == encode_event(event)
    assert decode_event(direct, where="x") == event


def test_the_event_names_frame_device_and_time() -> None:
    prediction = prediction_of({"A1": "blue"}, at_s=3)
    event = prediction_event(prediction, site="hall", device="edge-1", sequence=4, first=2)
    assert event.source == "/hall/device/edge-1"
    assert event.type == PREDICTION_TYPE
    assert event.time == prediction.frame.captured_at == after(3)
    assert event.subject == "stock"
    assert (event.deviceseq, event.devicefirst) == (4, 2)
    assert event.data["frame"]["id"] == prediction.frame.id
    assert event.data["package"] == prediction.package


def test_the_same_package_on_the_same_frame_is_the_same_event() -> None:
    prediction = prediction_of({"A1": "blue"}, at_s=3)

    def event_id(prediction: Prediction) -> str:
        return prediction_event(prediction, site="s", device="d", sequence=1, first=1).id

    again = prediction_event(prediction, site="s", device="other", sequence=9, first=9).id
    assert event_id(prediction) == again
    assert event_id(replace(prediction, package=digest_of(b"next"))) != again
    assert event_id(replace(prediction, inspection="lid")) != again
    assert event_id(replace(prediction, frame=prediction_of({}, at_s=4).frame)) != again


def spoiled(**changes: object) -> Event:
    event = picture_event({"A1": "blue"}, at_s=3)
    return replace(event, data={**event.data, **changes})


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (factory_event("ORDERED", at_s=1), "is no prediction"),
        (spoiled(labels=None), "labels"),
        (spoiled(state="asleep"), "state"),
        (spoiled(schema="lineside.prediction/9"), "'lineside.prediction/9' is not"),
        (spoiled(frame={"id": "x"}), "frame"),
        (spoiled(labels=[{"name": "A1/blue"}]), "labels"),
        (replace(spoiled(), time=after(4)), "time is not the frame's capture time"),
    ],
)
def test_another_shape_is_refused_with_the_field(event: Event, said: str) -> None:
    with pytest.raises(InvalidError) as refused:
        read_prediction(event)
    assert said in refused.value.message
    assert refused.value.where == f"event {event.id}"


@pytest.mark.parametrize("probability", [-0.001, 1.001, 17.0])
def test_a_probability_outside_nought_and_one_is_refused(probability: float) -> None:
    event = picture_event({"A1": "blue"}, at_s=3)
    event.data["labels"][0]["probability"] = probability
    with pytest.raises(InvalidError, match="is not 0 to 1"):
        read_prediction(event)


def test_a_list_of_answers_without_end_is_refused() -> None:
    event = picture_event({"A1": "blue"}, at_s=3)
    event.data["labels"] = event.data["labels"] * 2000
    with pytest.raises(InvalidError, match="8000 answers, more than 4096"):
        read_prediction(event)


def test_thirty_six_answers_are_wrapped_and_read_in_well_under_a_millisecond() -> None:
    prediction = prediction_of(dict.fromkeys(SLOTS, "red"), at_s=3)

    def once() -> float:
        began = time.perf_counter()
        event = prediction_event(prediction, site="s", device="d", sequence=1, first=1)
        read_prediction(decode_event(encode_event(event), where="x"))
        return time.perf_counter() - began

    assert min(once() for _ in range(50)) < 0.001
