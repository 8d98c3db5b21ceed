"""Any message a client can send is answered or refused with a sentence; nothing else gets out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lineside.compat.aws import agent_pb2
from lineside.core import LinesideError
from lineside.edge.capture.buffer import Capturer, DiskCaptures
from lineside.edge.config import CaptureConfig
from lineside.edge.local_api import lineside_edge_v1_pb2 as edge_pb2
from lineside.edge.local_api.grpc_edge import AgentService, EdgeService, Watchers
from lineside.edge.local_api.grpc_server import CODES
from lineside.edge.local_api.models import LoadedModels
from lineside.edge.messages import Counters
from lineside.models import build_package
from lineside.testing import FakeClock
from lineside.web.grpc_server import code_of
from tests.edge.conftest import picture
from tests.models.conftest import package_parts

# reference 9.3, INVALID_ARGUMENT for names, and NOT_FOUND for captures of other models
ALLOWED = {
    "Predict": {"NOT_FOUND", "INVALID_ARGUMENT"},
    "LoadModel": {
        "NOT_FOUND", "ALREADY_EXISTS", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
        "INVALID_ARGUMENT",
    },
    "UnLoadModel": {"NOT_FOUND"},
    "DescribeModel": {"NOT_FOUND"},
    "CaptureData": {
        "ALREADY_EXISTS", "RESOURCE_EXHAUSTED", "OUT_OF_RANGE", "INVALID_ARGUMENT", "NOT_FOUND",
    },
    "GetCaptureDataStatus": {"NOT_FOUND"},
}  # fmt: skip
UUIDS = st.uuids().map(str)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
names = texts | st.just("bright-1") | st.just("/") | st.just("/dev") | st.just("/proc/self/fd")
whole = st.integers(-(2**31), 2**31 - 1)
data = st.binary(max_size=40) | st.just(bytes(2 * 3 * 16 * 16 * 4)) | st.just(picture())
handles = st.builds(agent_pb2.SharedMemoryHandle, size=st.integers(0, 2**64 - 1))
facts = st.builds(
    agent_pb2.TensorMetadata,
    name=texts | st.just("crops"),
    data_type=st.integers(0, 9),
    shape=st.lists(whole | st.sampled_from([-1, 0, 2, 3, 16]), max_size=5),
)
tensors = st.one_of(
    st.builds(agent_pb2.Tensor, tensor_metadata=st.none() | facts, byte_data=data),
    st.builds(agent_pb2.Tensor, shared_memory_handle=handles),
    st.just(agent_pb2.Tensor()),
)
auxiliaries = st.one_of(
    st.builds(agent_pb2.AuxilaryData, name=texts, encoding=st.integers(0, 6), byte_data=data),
    st.builds(agent_pb2.AuxilaryData, name=texts, shared_memory_handle=handles),
)
moments = st.builds(agent_pb2.Timestamp, seconds=st.integers(-(2**63), 2**63 - 1), nanos=whole)
requests = {
    "Predict": st.builds(
        agent_pb2.PredictRequest, name=names, tensors=st.lists(tensors, max_size=2)
    ),
    "LoadModel": st.builds(agent_pb2.LoadModelRequest, name=names, url=names),
    "UnLoadModel": st.builds(agent_pb2.UnLoadModelRequest, name=texts),
    "DescribeModel": st.builds(agent_pb2.DescribeModelRequest, name=names),
    "CaptureData": st.builds(
        agent_pb2.CaptureDataRequest,
        model_name=names,
        capture_id=texts | UUIDS,
        inference_timestamp=st.none() | moments,
        input_tensors=st.lists(tensors, max_size=2),
        output_tensors=st.lists(tensors, max_size=2),
        inputs=st.lists(auxiliaries, max_size=2),
        outputs=st.lists(auxiliaries, max_size=2),
    ),
    "GetCaptureDataStatus": st.builds(
        agent_pb2.GetCaptureDataStatusRequest, capture_id=texts | UUIDS
    ),
}


@pytest.fixture(scope="module")
def services(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[AgentService, EdgeService]]:
    folder: Path = tmp_path_factory.mktemp("hostile")
    place = folder / "bright" / "1"
    place.mkdir(parents=True)
    (place / "a.lspkg").write_bytes(build_package(*package_parts()))
    clock = FakeClock()
    packages = LoadedModels(clock=clock, most=2, max_bytes=10_000_000)
    packages.load(url=str(place), name="bright-1")
    capturer = Capturer(
        CaptureConfig(batch_size=1, embed_max_bytes=4),
        device="d",
        place=DiskCaptures(folder / "captures", max_bytes=50_000_000),
        clock=clock,
        counters=Counters(),
    )
    yield (
        AgentService(packages, capturer=capturer, clock=clock),
        EdgeService(packages, device="d", watchers=Watchers(), clock=clock),
    )
    while capturer.waiting:
        capturer._flush()  # what was taken can be written


@pytest.mark.parametrize("call", sorted(ALLOWED))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.data())
def test_a_request_is_answered_or_refused_by_a_code_of_the_contract(
    services: tuple[AgentService, EdgeService], call: str, drawn: st.DataObject
) -> None:
    request = drawn.draw(requests[call])
    assert asked(getattr(services[0], call), request) in {"OK", *ALLOWED[call]}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    request_=st.builds(
        edge_pb2.PredictRequest,
        model=names,
        picture=data,
        template=st.just(b"") | data,
        camera=texts,
        captured_at=st.none()
        | st.fixed_dictionaries({"seconds": st.integers(-(2**63), 2**63 - 1), "nanos": whole}),
        part=texts,
        sequence=st.integers(-(2**63), 2**63 - 1),
    )
)
def test_a_picture_is_judged_or_refused(
    services: tuple[AgentService, EdgeService], request_: edge_pb2.PredictRequest
) -> None:
    for call in (services[1].Predict, services[1].Explain):
        assert asked(call, request_) in {"OK", "NOT_FOUND", "INVALID_ARGUMENT"}


def asked(call: Any, request: Any) -> str:  # noqa: ANN401  generated types
    """OK, or the code of the refusal."""
    try:
        call(type(request).FromString(request.SerializeToString()), None)
    except LinesideError as error:
        return code_of(error, CODES) if error.message else "no sentence"
    return "OK"
