"""Tensors and captures: to the wire and back, and what is refused."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.compat.aws import agent_pb2
from lineside.compat.aws.edge_agent import (
    DTYPES,
    Auxiliary,
    Capture,
    CaptureStatus,
    Encoding,
    FutureError,
    TensorPart,
    auxiliary_from_wire,
    capture_from_wire,
    model_to_wire,
    moment_from_wire,
    slot_to_wire,
    status_to_wire,
    tensor_from_wire,
    tensor_to_wire,
)
from lineside.core import InvalidError
from lineside.models.engines import TensorSlot
from tests.compat.aws.agent_client import capture_to_wire, moment_to_wire

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
sides = st.lists(st.integers(-1, 2**31 - 1), max_size=4).map(tuple)
slots = st.builds(
    TensorSlot,
    name=names,
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.integers(-1, 2**31 - 1), max_size=4).map(tuple),
)
said_parts = st.builds(
    TensorPart,
    data=st.binary(max_size=50),
    name=names,
    dtype=st.sampled_from(DTYPES),
    shape=sides,
).filter(lambda part: part.dtype != "uint8" or part.shape)
bare_parts = st.builds(TensorPart, data=st.binary(max_size=50), name=names)
parts = said_parts | bare_parts
auxiliaries = st.builds(
    Auxiliary, name=names, encoding=st.sampled_from(Encoding), data=st.binary(max_size=50)
)
moments = st.datetimes(timezones=st.just(UTC))
captures = st.builds(
    Capture,
    model=names,
    capture_id=names,
    inferred_at=st.none() | moments,
    input_tensors=st.lists(parts, max_size=2).map(tuple),
    output_tensors=st.lists(parts, max_size=2).map(tuple),
    inputs=st.lists(auxiliaries, max_size=2).map(tuple),
    outputs=st.lists(auxiliaries, max_size=2).map(tuple),
    version=st.just(""),
)


@given(slots)
def test_facts_of_a_tensor_come_back(slot: TensorSlot) -> None:
    sent = slot_to_wire(slot)
    assert (sent.name, DTYPES[sent.data_type], tuple(sent.shape)) == (
        slot.name, slot.dtype, slot.shape,
    )  # fmt: skip


@given(parts)
def test_a_tensor_comes_back(part: TensorPart) -> None:
    sent = agent_pb2.Tensor.FromString(tensor_to_wire(part).SerializeToString())
    assert tensor_from_wire(sent, where="tensors[0]") == part


@given(captures)
def test_a_capture_comes_back(capture: Capture) -> None:
    sent = agent_pb2.CaptureDataRequest.FromString(capture_to_wire(capture).SerializeToString())
    assert capture_from_wire(sent) == capture


@given(moments)
def test_a_time_comes_back_to_the_microsecond(moment: datetime) -> None:
    assert moment_from_wire(moment_to_wire(moment)) == moment


def test_a_time_of_another_zone_is_the_same_moment() -> None:
    moment = datetime.fromisoformat("2026-01-01T01:00:00.25+01:00")
    assert moment_to_wire(moment) == agent_pb2.Timestamp(seconds=1767225600, nanos=250_000_000)
    assert moment_from_wire(moment_to_wire(moment)) - moment == timedelta(0)


@pytest.mark.parametrize("status", CaptureStatus)
def test_every_status_has_its_number(status: CaptureStatus) -> None:
    assert agent_pb2.CaptureDataStatus.Name(status_to_wire(status)) == status


def test_a_model_says_what_it_takes_and_gives() -> None:
    slot = TensorSlot(name="data", dtype="float32", shape=(1, 3, 224, 224))
    message = model_to_wire(name="unet-1", url="/m", inputs=(slot,), outputs=())
    assert (message.name, message.url) == ("unet-1", "/m")
    assert list(message.input_tensor_metadatas) == [slot_to_wire(slot)]
    assert list(message.output_tensor_metadatas) == []


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (agent_pb2.Tensor(), "no data"),
        (
            agent_pb2.Tensor(shared_memory_handle=agent_pb2.SharedMemoryHandle(size=1)),
            "shared memory is not taken",
        ),
        (
            agent_pb2.Tensor(
                tensor_metadata=agent_pb2.TensorMetadata(data_type=7),  # type: ignore[arg-type]  # a number the protocol lacks
                byte_data=b"",
            ),
            "data type 7 is none",
        ),
        (
            agent_pb2.Tensor(
                tensor_metadata=agent_pb2.TensorMetadata(shape=[1, -2]), byte_data=b""
            ),
            r"a tensor of shape \[1, -2\]",
        ),
    ],
)
def test_a_tensor_that_is_none_is_refused_at_its_place(message: agent_pb2.Tensor, why: str) -> None:
    with pytest.raises(InvalidError, match=why) as refused:
        tensor_from_wire(message, where="tensors[3]")
    assert refused.value.where == "tensors[3]"
    assert refused.value.fix


def test_an_unknown_encoding_and_a_handle_beside_it_are_refused() -> None:
    with pytest.raises(InvalidError, match="encoding 9 is none"):
        auxiliary_from_wire(agent_pb2.AuxilaryData(encoding=9, byte_data=b""), where="inputs[0]")  # type: ignore[arg-type]  # a number the protocol lacks
    handle = agent_pb2.AuxilaryData(shared_memory_handle=agent_pb2.SharedMemoryHandle(size=1))
    with pytest.raises(InvalidError, match="shared memory"):
        auxiliary_from_wire(handle, where="inputs[0]")


@pytest.mark.parametrize(
    ("seconds", "nanos", "kind"),
    [
        (2**62, 0, FutureError),
        (-(2**62), 0, InvalidError),
        (0, -1, InvalidError),
        (0, 10**9, InvalidError),
    ],
)
def test_a_time_that_is_none_is_refused(seconds: int, nanos: int, kind: type[InvalidError]) -> None:
    with pytest.raises(InvalidError) as refused:
        moment_from_wire(agent_pb2.Timestamp(seconds=seconds, nanos=nanos))
    assert type(refused.value) is kind
