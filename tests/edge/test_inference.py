"""The Open Inference Protocol on the device's socket: packages loaded by name."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lineside.compat.open_inference import open_inference_pb2 as pb2
from lineside.models.wrap import read_wrapping, wrapped
from lineside.testing import FakeClock
from lineside.testing.engines import shades
from lineside.vision import encode_png
from tests.edge.serving import edge_config, refused, served
from tests.models.test_wrap import SHADES

WARM = np.full((1, 3, 16, 16), 250, np.float32)


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Any]:
    folder = tmp_path / "shades" / "7"
    folder.mkdir(parents=True)
    wrapping = read_wrapping(SHADES.encode(), where="wrap.toml")
    made = wrapped(shades(), wrapping, pictures=[], clock=FakeClock())
    (folder / "shades.lspkg").write_bytes(made)
    with served(edge_config(tmp_path), clock=FakeClock()) as device:
        device.serving.packages.load(url=str(folder), name="shades-7")
        yield device.client.inference


def asked(name: str, *, datatype: str, shape: tuple[int, ...], raw: bytes) -> pb2.ModelInferRequest:
    message = pb2.ModelInferRequest(model_name="shades-7", model_version="7")
    message.inputs.add(name=name, datatype=datatype, shape=shape)
    message.raw_input_contents.append(raw)
    return message


def test_loaded_packages_answer_on_the_socket(stub: Any) -> None:  # noqa: ANN401  generated type
    assert stub.ServerReady(pb2.ServerReadyRequest()).ready
    assert stub.ModelReady(pb2.ModelReadyRequest(name="shades-7")).ready
    meta = stub.ModelMetadata(pb2.ModelMetadataRequest(name="shades-7"))
    assert list(meta.versions) == ["7"]
    said = stub.ModelInfer(asked("crops", datatype="FP32", shape=WARM.shape, raw=WARM.tobytes()))
    names = [each.name for each in said.outputs]
    logits = np.frombuffer(said.raw_output_contents[names.index("logits")], np.float32)
    assert logits[1] > logits[0]
    picture = encode_png(np.full((20, 20, 3), 250, np.uint8))
    raw = struct.pack("<I", len(picture)) + picture
    for _ in range(8):  # asked again and again, no camera is frozen
        said = stub.ModelInfer(asked("image", datatype="BYTES", shape=(1,), raw=raw))
        names = [each.name for each in said.outputs]
        state = said.raw_output_contents[names.index("state")]
        assert state == struct.pack("<I", 2) + b"ok"


def test_a_package_that_is_not_loaded_is_not_found(stub: Any) -> None:  # noqa: ANN401  likewise
    unknown = pb2.ModelMetadataRequest(name="shades-7", version="8")
    assert refused(stub.ModelReady, pb2.ModelReadyRequest(name="shades-8"))[0] == "NOT_FOUND"
    assert refused(stub.ModelMetadata, unknown)[0] == "NOT_FOUND"
