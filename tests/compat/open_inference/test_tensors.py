"""Tensors on the wire: there and back in both forms, and sentences for what is not one."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineside.compat.open_inference.tensors import (
    DATATYPES,
    InferRequest,
    InferResponse,
    RequestedOutput,
    Tensor,
    read_request,
    tensor_from_raw,
    tensor_to_raw,
    write_response,
)
from lineside.core import InvalidError

SHAPES = st.lists(st.integers(0, 4), min_size=0, max_size=4)


@st.composite
def tensors(draw: st.DrawFn, *, raw: bool = False) -> Tensor:
    names = [*DATATYPES, "BYTES"]
    datatype = draw(st.sampled_from([name for name in names if raw or name != "FP16"]))
    shape = tuple(draw(SHAPES))
    size = int(np.prod(shape))
    values: NDArray[Any]
    if datatype == "BYTES":
        items = draw(st.lists(st.binary(max_size=9), min_size=size, max_size=size))
        if not raw:
            words = st.text(st.characters(codec="utf-8"), max_size=9)
            items = [word.encode() for word in draw(st.lists(words, min_size=size, max_size=size))]
        values = np.empty(size, dtype=object)
        values[:] = items
    else:
        values = np.array(draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)))
        values = values.astype(DATATYPES[datatype])
    return Tensor(name="x", datatype=datatype, values=values.reshape(shape))


@given(tensors(raw=True))
def test_raw_there_and_back(one: Tensor) -> None:
    back = tensor_from_raw(tensor_to_raw(one), one.shape, datatype=one.datatype, name="x")
    assert back.shape == one.shape
    assert back.values.reshape(-1).tolist() == one.values.reshape(-1).tolist()


@given(tensors(), st.booleans())
def test_an_answer_reads_as_a_request(one: Tensor, binary: bool) -> None:  # noqa: FBT001
    response = InferResponse(model="m", version="1", outputs=(one,), id="7")
    asked = InferRequest(inputs=(), outputs=(RequestedOutput(name="x", binary=binary),))
    body, length = write_response(response, asked)
    assert (length is not None) == binary
    head = json.loads(body[:length])
    assert (head["model_name"], head["model_version"], head["id"]) == ("m", "1", "7")
    again = json.dumps({"inputs": head["outputs"], "id": head["id"]}).encode()
    tail = b"" if length is None else body[length:]
    back = read_request(again + tail, header_bytes=len(again))
    assert back.inputs[0].shape == one.shape
    assert back.inputs[0].values.reshape(-1).tolist() == one.values.reshape(-1).tolist()


def body(**changes: Any) -> bytes:  # noqa: ANN401
    one = {"name": "crops", "datatype": "FP32", "shape": [2], "data": [1, 2]} | changes
    return json.dumps({"inputs": [one]}).encode()


def test_nested_data_are_row_major() -> None:
    read = read_request(body(shape=[2, 2], data=[[1, 2], [3, 4.5]]), header_bytes=None)
    assert read.inputs[0].values.tolist() == [[1, 2], [3, 4.5]]


def test_pictures_in_json_are_base64_and_other_bytes_are_text() -> None:
    picture = base64.b64encode(b"\xff\xd8\xff").decode()
    for text in (picture, f"data:image/jpeg;base64,{picture}"):
        read = read_request(
            body(name="image", datatype="BYTES", shape=[1], data=[text]), header_bytes=None
        )
        assert read.inputs[0].values.tolist() == [b"\xff\xd8\xff"]
    read = read_request(
        body(name="word", datatype="BYTES", shape=[1], data=["ja"]), header_bytes=None
    )
    assert read.inputs[0].values.tolist() == [b"ja"]


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"[]", "no object"),
        (b"{", "not JSON"),
        (b"{}", "no inputs"),
        (b'{"inputs": []}', "no inputs"),
        (b'{"inputs": [1]}', "no object"),
        (json.dumps({"inputs": [{"name": "a"}]}).encode(), "without name, datatype or shape"),
        (body(shape=[3]), "2 values for a shape"),
        (body(shape=[-1]), "a shape of"),
        (body(shape=[True, 2]), "a shape of"),
        (body(shape=["2"]), "a shape of"),
        (body(shape=[1 << 40]), "a shape of"),
        (body(shape=[1] * 9), "a shape of"),
        (body(datatype="FP8"), "datatype 'FP8' is unknown"),
        (body(datatype="FP16"), "FP16"),
        (body(data=None), "no data"),
        (body(data=["1", "2"]), "values of FP32"),
        (body(data=[1, None]), "values of FP32"),
        (body(datatype="UINT8", data=[1, 300]), "UINT8"),
        (body(datatype="INT8", data=[1.5, 2]), "values of INT8"),
        (body(datatype="BOOL", data=[1, 0]), "values of BOOL"),
        (body(datatype="BYTES", data=[1, 2]), "no text"),
        (body(name="image", datatype="BYTES", data=["?", "!"]), "not base64"),
        (body(parameters={"binary_data_size": 8}), "8, 0 bytes are left"),
        (body(parameters={"binary_data_size": "8"}), "binary_data_size"),
        (body(parameters=[]), "no object"),
        (body() + b"  x", "not JSON"),
    ],
)
def test_what_is_no_request_is_named(raw: bytes, sentence: str) -> None:
    with pytest.raises(InvalidError, match=sentence):
        read_request(raw, header_bytes=None)


def test_outputs_that_are_no_list_are_named() -> None:
    one = json.loads(body()) | {"outputs": "all"}
    with pytest.raises(InvalidError, match="no list"):
        read_request(json.dumps(one).encode(), header_bytes=None)


@pytest.mark.parametrize(
    ("tail", "size", "sentence"),
    [
        (b"1234567", 8, "are left"),
        (b"1234567", 7, "7 bytes, FP32"),
        (b"123456789", 8, "1 bytes behind the last tensor"),
    ],
)
def test_raw_data_fit_what_is_announced(tail: bytes, size: int, sentence: str) -> None:
    head = body(parameters={"binary_data_size": size})
    with pytest.raises(InvalidError, match=sentence):
        read_request(head + tail, header_bytes=len(head))


def test_a_header_longer_than_the_body_is_named() -> None:
    with pytest.raises(InvalidError, match="a header of 999 bytes"):
        read_request(body(), header_bytes=999)


@given(st.binary(max_size=60), st.integers(0, 3))
def test_damaged_strings_are_named_or_read(raw: bytes, count: int) -> None:
    try:
        found = tensor_from_raw(raw, [count], datatype="BYTES", name="image")
    except InvalidError:
        return
    assert tensor_to_raw(found) == raw


@given(st.binary(max_size=200))
def test_bytes_that_are_no_request_are_named_or_read(raw: bytes) -> None:
    try:
        read_request(raw, header_bytes=None)
    except InvalidError:
        return
