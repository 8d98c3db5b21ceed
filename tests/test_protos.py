"""The generated stubs are those of the protocols, and the numbers are the contract's."""

import importlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from grpc_tools import protoc

from lineside.compat.aws import agent_pb2

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "lineside"

# reference: edge-defect-detection 9.1 and 9.2, message → field → (number, type, repeated)
FIELDS = {
    "TensorMetadata": {"name": 1, "data_type": 2, "shape": 3},
    "SharedMemoryHandle": {"size": 1, "offset": 2, "segment_id": 3},
    "Tensor": {"tensor_metadata": 1, "byte_data": 4, "shared_memory_handle": 5},
    "Model": {"url": 1, "name": 2, "input_tensor_metadatas": 3, "output_tensor_metadatas": 4},
    "PredictRequest": {"name": 1, "tensors": 2},
    "PredictResponse": {"tensors": 1},
    "LoadModelRequest": {"url": 1, "name": 2},
    "LoadModelResponse": {"model": 1},
    "UnLoadModelRequest": {"name": 1},
    "UnLoadModelResponse": {},
    "ListModelsRequest": {},
    "ListModelsResponse": {"models": 1},
    "DescribeModelRequest": {"name": 1},
    "DescribeModelResponse": {"model": 1},
    "AuxilaryData": {"name": 1, "encoding": 2, "byte_data": 3, "shared_memory_handle": 4},
    "CaptureDataRequest": {
        "model_name": 1, "capture_id": 2, "inference_timestamp": 3, "input_tensors": 4,
        "output_tensors": 5, "inputs": 6, "outputs": 7,
    },
    "CaptureDataResponse": {},
    "GetCaptureDataStatusRequest": {"capture_id": 1},
    "GetCaptureDataStatusResponse": {"status": 1},
    "Timestamp": {"seconds": 1, "nanos": 2},
}  # fmt: skip
ENUMS = {
    "DataType": ["UINT8", "INT16", "INT32", "INT64", "FLOAT16", "FLOAT32", "FLOAT64"],
    "Encoding": ["CSV", "JSON", "NONE", "BASE64"],
    "CaptureDataStatus": ["FAILURE", "SUCCESS", "IN_PROGRESS", "NOT_FOUND"],
}
CALLS = [
    "Predict", "LoadModel", "UnLoadModel", "ListModels", "DescribeModel", "CaptureData",
    "GetCaptureDataStatus",
]  # fmt: skip


def made_again(into: Path) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "protos.py"), str(into)],
        capture_output=True, text=True, check=True, timeout=250,
    )  # fmt: skip
    return {Path(line).name: Path(line).read_text() for line in done.stdout.splitlines()}


def test_stubs_made_again_are_those_that_are_checked_in(tmp_path: Path) -> None:
    made = made_again(tmp_path)
    kept = {path.name: path.read_text() for path in SOURCE.rglob("*_pb2*") if path.suffix != ".pyc"}
    protocols = [path.read_text() for path in SOURCE.rglob("*.proto")]
    assert len(kept) == sum(3 if "\nservice " in text else 2 for text in protocols)
    assert sorted(made) == sorted(kept)
    if f"'{version('grpcio-tools')}'" not in kept["agent_pb2_grpc.py"]:
        pytest.skip("another release of the generator: only what is declared is compared")
    assert made == kept


@pytest.mark.parametrize("name", ["compat/aws/agent", "edge/local_api/lineside_edge_v1"])
def test_what_the_checked_in_stub_declares_is_what_the_protocol_says(
    name: str, tmp_path: Path
) -> None:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

    well_known = Path(protoc.__file__).parent / "_proto"
    wanted = tmp_path / "wanted"
    code = protoc.main(
        ["protoc", f"-I{ROOT / 'src'}", f"-I{well_known}", f"--descriptor_set_out={wanted}",
         str(SOURCE / f"{name}.proto")]
    )  # fmt: skip
    assert code == 0
    module = importlib.import_module(f"lineside.{name.replace('/', '.')}_pb2")
    found = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
    (said,) = FileDescriptorSet.FromString(wanted.read_bytes()).file
    for message in said.message_type:  # names in JSON are not in the stubs
        for each in (message, *message.nested_type):
            for field in each.field:
                field.ClearField("json_name")
    assert found == said


def test_messages_and_numbers_are_the_contracts() -> None:
    found = agent_pb2.DESCRIPTOR
    assert found.package == "AWS.SageMaker.Edge"
    told = {
        name: {field.name: field.number for field in message.fields}
        for name, message in found.message_types_by_name.items()
    }
    assert told == FIELDS


def test_enums_are_the_contracts() -> None:
    told = {
        name: [value.name for value in sorted(enum.values, key=lambda each: each.number)]
        for name, enum in agent_pb2.DESCRIPTOR.enum_types_by_name.items()
    }
    assert told == ENUMS
    for enum in agent_pb2.DESCRIPTOR.enum_types_by_name.values():
        assert [value.number for value in enum.values] == list(range(len(enum.values)))


def test_the_service_has_seven_unary_calls() -> None:
    service = agent_pb2.DESCRIPTOR.services_by_name["Agent"]
    assert [method.name for method in service.methods] == CALLS
    assert not any(m.client_streaming or m.server_streaming for m in service.methods)
    for method in service.methods:
        assert method.input_type.name == f"{method.name}Request"
        assert method.output_type.name == f"{method.name}Response"


@pytest.mark.parametrize(("message", "numbers"), [("Tensor", {4, 5}), ("AuxilaryData", {3, 4})])
def test_data_are_bytes_or_a_handle(message: str, numbers: set[int]) -> None:
    found = agent_pb2.DESCRIPTOR.message_types_by_name[message].oneofs_by_name["data"]
    assert {field.number for field in found.fields} == numbers


def test_the_face_of_the_room_stays_free_of_protobuf_and_grpc() -> None:
    code = (
        "import sys, lineside.fleet; print(sorted({'grpc', 'google.protobuf'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=250
    )
    assert done.stdout == "[]\n"
