"""Messages of the Open Inference Protocol: there and back, typed and raw, and refusals."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.compat.open_inference import open_inference_pb2 as pb2
from lineside.compat.open_inference.grpc import infer_from_wire, infer_to_wire, model_meta_to_wire
from lineside.compat.open_inference.models import ModelMeta, TensorMeta
from lineside.compat.open_inference.tensors import DATATYPES, InferResponse, Tensor
from lineside.core import InvalidError


def example(datatype: str) -> Tensor:
    values: NDArray[Any]
    if datatype == "BYTES":
        values = np.array([[b"a"], [b"\xff\x00"]], dtype=object)
    else:
        values = np.array([[0], [1]]).astype(DATATYPES[datatype])
    return Tensor(name="x", datatype=datatype, values=values)


@pytest.mark.parametrize("datatype", [*DATATYPES, "BYTES"])
@pytest.mark.parametrize("raw", [True, False])
def test_every_datatype_there_and_back(datatype: str, raw: bool) -> None:  # noqa: FBT001
    sent = infer_to_wire(
        InferResponse(model="m", version="3", outputs=(example(datatype),), id="i"), raw=raw
    )
    assert (sent.model_name, sent.model_version, sent.id) == ("m", "3", "i")
    back = pb2.ModelInferRequest(raw_input_contents=sent.raw_output_contents, id="i")
    for each in sent.outputs:
        back.inputs.add(
            name=each.name, datatype=each.datatype, shape=each.shape, contents=each.contents
        )
    read = infer_from_wire(pb2.ModelInferRequest.FromString(back.SerializeToString()))
    assert read.binary == (raw or datatype == "FP16")
    assert read.inputs[0].shape == (2, 1)
    assert read.inputs[0].values.tolist() == example(datatype).values.tolist()


def message(**changes: Any) -> pb2.ModelInferRequest:  # noqa: ANN401
    made = pb2.ModelInferRequest()
    made.inputs.add(**({"name": "x", "datatype": "FP32", "shape": [2]} | changes))
    return made


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (message(), "0 values in fp32_contents"),
        (message(shape=[-1]), "a shape of"),
        (message(datatype="BF16"), "is unknown"),
        (message(datatype="FP16", shape=[0]), "no typed contents"),
        (
            message(
                datatype="UINT8", shape=[1], contents=pb2.InferTensorContents(uint_contents=[300])
            ),
            "UINT8",
        ),
    ],
)
def test_contents_that_do_not_fit_are_named(given: pb2.ModelInferRequest, sentence: str) -> None:
    with pytest.raises(InvalidError, match=sentence):
        infer_from_wire(given)


def test_raw_contents_are_of_every_input_or_none() -> None:
    given = message()
    given.raw_input_contents.extend([b"", b""])
    with pytest.raises(InvalidError, match="2 raw contents for 1 inputs"):
        infer_from_wire(given)


def test_metadata_carry_open_sizes() -> None:
    slot = TensorMeta(name="crops", datatype="FP32", shape=(-1, 3, 8, 8))
    meta = ModelMeta(name="m", versions=("2",), platform="p", inputs=(slot,), outputs=())
    sent = model_meta_to_wire(meta)
    assert (list(sent.inputs[0].shape), list(sent.versions)) == ([-1, 3, 8, 8], ["2"])
