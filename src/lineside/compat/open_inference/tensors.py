"""Tensors of the Open Inference Protocol, version 2: datatypes, JSON, and the binary extension.

1. Data in JSON are flat or nested, in row-major order; behind a JSON header they are raw bytes,
   little-endian, in the order of the inputs that announce ``binary_data_size`` (KServe, "Binary
   Tensor Data Extension"). FP16 has no JSON form.
2. An element of BYTES is four bytes of length and its content when raw. In JSON it is text: of
   ``image`` and ``template`` base64, because no picture is UTF-8.
3. Nothing is trusted: sizes are checked against shapes before anything is allocated, the number of
   tensors and of elements is bounded.
"""

import base64
import binascii
import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError, decode_json, encode

DATATYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
BYTES = "BYTES"
ENCODED = ("image", "template")
"""Inputs whose BYTES are base64 in JSON."""

_MOST_TENSORS = 16
_MOST_DIMENSIONS = 8
_MOST_VALUES = 1 << 26
_MOST_BYTES_ITEMS = 256
_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tensor:
    """A named array; of BYTES the array holds ``bytes`` objects."""

    name: str
    datatype: str
    values: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return self.values.shape


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedOutput:
    """An output that is asked for."""

    name: str
    binary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InferRequest:
    """A call as either transport brings it.

    Attributes:
        outputs: wanted; empty: all that go with the inputs.
        binary: whether outputs are raw where nothing else is said of them.
    """

    inputs: tuple[Tensor, ...]
    id: str = ""
    outputs: tuple[RequestedOutput, ...] = ()
    binary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InferResponse:
    """An answer as either transport takes it."""

    model: str
    version: str
    outputs: tuple[Tensor, ...]
    id: str = ""


def tensor(name: str, values: NDArray[Any], *, datatype: str = "") -> Tensor:
    """A tensor of an array, its datatype from the array's own where none is named."""
    named = datatype or next(
        (word for word, kind in DATATYPES.items() if values.dtype == kind), BYTES
    )
    return Tensor(name=name, datatype=named, values=values)


def texts(name: str, words: Sequence[Sequence[str]] | Sequence[str]) -> Tensor:
    """A tensor of BYTES that hold UTF-8 text."""
    array = np.array(words, dtype=object)
    encoded = np.array([str(word).encode() for word in array.reshape(-1)], dtype=object)
    return Tensor(name=name, datatype=BYTES, values=encoded.reshape(array.shape))


# ---- raw


def checked_shape(shape: Iterable[object], *, datatype: str, where: str) -> tuple[int, ...]:
    """A shape that may be allocated.

    Raises:
        InvalidError: unknown datatype, a negative size, or more elements than are taken.
    """
    if datatype not in DATATYPES and datatype != BYTES:
        known = ", ".join([*DATATYPES, BYTES])
        raise InvalidError(
            f"datatype {datatype[:_SHOWN]!r} is unknown", where=where, fix=f"Use one of {known}."
        )
    asked = list(shape)
    whole = [size for size in asked if isinstance(size, int) and not isinstance(size, bool)]
    sizes = tuple(size for size in whole if size >= 0)
    most = _MOST_BYTES_ITEMS if datatype == BYTES else _MOST_VALUES
    few = len(asked) == len(sizes) <= _MOST_DIMENSIONS
    if not few or math.prod(sizes) > most:
        raise InvalidError(
            f"a shape of {str(asked)[:_SHOWN]}",
            where=where,
            fix=f"Send at most {most} elements of sizes 0 and above.",
        )
    return sizes


def tensor_from_raw(raw: bytes, shape: Iterable[int], *, datatype: str, name: str) -> Tensor:
    """A tensor of raw bytes.

    Raises:
        InvalidError: they are not as many as the shape needs.
    """
    where = f"input {name[:_SHOWN]!r}"
    sizes = checked_shape(shape, datatype=datatype, where=where)
    if datatype == BYTES:
        return Tensor(name=name, datatype=BYTES, values=_strings(raw, sizes, where=where))
    kind = np.dtype(DATATYPES[datatype]).newbyteorder("<")
    wanted = math.prod(sizes) * kind.itemsize
    if len(raw) != wanted:
        raise InvalidError(
            f"{len(raw)} bytes, {datatype} of {list(sizes)} has {wanted}",
            where=where,
            fix="Send all values, little-endian, last dimension fastest.",
        )
    values = np.frombuffer(raw, kind).reshape(sizes).astype(DATATYPES[datatype], copy=False)
    return Tensor(name=name, datatype=datatype, values=values)


def _strings(raw: bytes, sizes: tuple[int, ...], *, where: str) -> NDArray[Any]:
    found: list[bytes] = []
    place = 0
    while place < len(raw) and len(found) < math.prod(sizes):
        if place + 4 > len(raw):
            break
        (length,) = struct.unpack_from("<I", raw, place)
        if place + 4 + length > len(raw):
            break
        found.append(raw[place + 4 : place + 4 + length])
        place += 4 + length
    return strings(found, sizes, where=where, whole=place == len(raw))


def strings(
    items: Sequence[bytes], sizes: tuple[int, ...], *, where: str, whole: bool = True
) -> NDArray[Any]:
    """An object array of so many elements.

    Raises:
        InvalidError: another number of them, or bytes left over.
    """
    if len(items) != math.prod(sizes) or not whole:
        raise InvalidError(
            f"{len(items)} whole elements of BYTES for a shape of {list(sizes)}",
            where=where,
            fix="Send each as four bytes of its length, little-endian, and its bytes.",
        )
    values = np.empty(len(items), dtype=object)
    values[:] = list(items)
    return values.reshape(sizes)


def tensor_to_raw(given: Tensor) -> bytes:
    """A tensor's bytes on the wire."""
    if given.datatype == BYTES:
        items = given.values.reshape(-1).tolist()
        return b"".join(struct.pack("<I", len(item)) + item for item in items)
    kind = np.dtype(DATATYPES[given.datatype]).newbyteorder("<")
    return np.ascontiguousarray(given.values, dtype=kind).tobytes()


# ---- HTTP


def read_request(body: bytes, *, header_bytes: int | None) -> InferRequest:
    """The body of an ``infer`` request.

    Args:
        body: JSON, or JSON and raw tensors behind it.
        header_bytes: ``Inference-Header-Content-Length``; None: all is JSON.

    Raises:
        InvalidError: with the place of what is wrong.
    """
    length = len(body) if header_bytes is None else header_bytes
    if not 0 <= length <= len(body):
        raise InvalidError(
            f"a header of {length} bytes in a body of {len(body)}",
            where="Inference-Header-Content-Length",
            fix="Write the length of the JSON part.",
        )
    document = decode_json(body[:length], where="body")
    if not isinstance(document, dict):
        raise InvalidError("no object", where="body", fix='Send {"inputs": […]}.')
    inputs, used = _inputs(document.get("inputs"), body[length:])
    if used != len(body) - length:
        raise InvalidError(
            f"{len(body) - length - used} bytes behind the last tensor",
            where="body",
            fix="Let binary_data_size name all of them.",
        )
    parameters = _object(document.get("parameters"), where="$.parameters")
    binary = bool(parameters.get("binary_data_output", False))
    return InferRequest(
        inputs=inputs,
        id=str(document.get("id", "")),
        outputs=_wanted(document.get("outputs"), binary=binary),
        binary=binary,
    )


def _inputs(listed: object, raw: bytes) -> tuple[tuple[Tensor, ...], int]:
    if not isinstance(listed, list) or not 1 <= len(listed) <= _MOST_TENSORS:
        raise InvalidError(
            "no inputs, or too many", where="$.inputs", fix=f"Send 1 to {_MOST_TENSORS}."
        )
    found, used = [], 0
    for place, each in enumerate(listed):
        where = f"$.inputs[{place}]"
        one = _object(each, where=where)
        size = _object(one.get("parameters"), where=f"{where}.parameters").get("binary_data_size")
        if size is None:
            found.append(_from_json(one, where=where))
            continue
        if not isinstance(size, int) or not 0 <= size <= len(raw) - used:
            raise InvalidError(
                f"binary_data_size is {str(size)[:_SHOWN]}, {len(raw) - used} bytes are left",
                where=where,
                fix="Send as many bytes as are announced.",
            )
        found.append(_raw_input(one, raw[used : used + size], where=where))
        used += size
    return tuple(found), used


def _raw_input(one: dict[str, Any], raw: bytes, *, where: str) -> Tensor:
    name, datatype, shape = _described(one, where=where)
    return tensor_from_raw(raw, shape, datatype=datatype, name=name)


def _described(one: dict[str, Any], *, where: str) -> tuple[str, str, list[int]]:
    name, datatype, shape = one.get("name"), one.get("datatype"), one.get("shape")
    if not (isinstance(name, str) and isinstance(datatype, str) and isinstance(shape, list)):
        raise InvalidError(
            "a tensor without name, datatype or shape", where=where, fix="Send all three."
        )
    return name, datatype, shape


def _from_json(one: dict[str, Any], *, where: str) -> Tensor:
    name, datatype, shape = _described(one, where=where)
    sizes = checked_shape(shape, datatype=datatype, where=where)
    flat = _flat(one.get("data"), where=f"{where}.data")
    if len(flat) != math.prod(sizes):
        raise InvalidError(
            f"{len(flat)} values for a shape of {list(sizes)}",
            where=f"{where}.data",
            fix="Send all values in row-major order.",
        )
    if datatype == BYTES:
        items = [_item(value, encoded=name in ENCODED, where=f"{where}.data") for value in flat]
        values = strings(items, sizes, where=where)
    else:
        values = _numbers(flat, datatype, where=where).reshape(sizes)
    return Tensor(name=name, datatype=datatype, values=values)


def _numbers(flat: list[Any], datatype: str, *, where: str) -> NDArray[Any]:
    kind = np.dtype(DATATYPES[datatype])
    plain = bool if datatype == "BOOL" else (int, float) if kind.kind == "f" else int
    odd = [value for value in flat if not isinstance(value, plain)]
    if datatype == "FP16" or odd:
        raise InvalidError(
            f"values of {datatype} in JSON, {str(odd[:1])[:_SHOWN]} among them",
            where=f"{where}.data",
            fix="Send numbers of that type, FP16 as binary data only.",
        )
    try:
        return np.array(flat, kind)
    except (OverflowError, ValueError) as error:
        raise InvalidError(
            f"{datatype}: {error}", where=f"{where}.data", fix="Send numbers of that type."
        ) from error


def _item(value: object, *, encoded: bool, where: str) -> bytes:
    if not isinstance(value, str):
        raise InvalidError("BYTES that are no text", where=where, fix="Send strings.")
    if not encoded:
        return value.encode()
    try:
        return base64.b64decode(value.rpartition(";base64,")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidError("not base64", where=where, fix="Encode as RFC 4648.") from error


def _flat(data: object, *, where: str) -> list[Any]:
    if not isinstance(data, list):
        raise InvalidError("no data", where=where, fix="Send an array of values.")
    level = data
    for _ in range(_MOST_DIMENSIONS):
        if not any(isinstance(each, list) for each in level):
            return level
        level = [each for part in level for each in (part if isinstance(part, list) else [part])]
    raise InvalidError("data nested too deeply", where=where, fix="Send them flat.")


def _wanted(listed: object, *, binary: bool) -> tuple[RequestedOutput, ...]:
    if listed is None:
        return ()
    if not isinstance(listed, list):
        raise InvalidError("no list", where="$.outputs", fix='Send [{"name": …}].')
    found = []
    for place, each in enumerate(listed):
        where = f"$.outputs[{place}]"
        one = _object(each, where=where)
        parameters = _object(one.get("parameters"), where=f"{where}.parameters")
        raw = bool(parameters.get("binary_data", binary))
        found.append(RequestedOutput(name=str(one.get("name", "")), binary=raw))
    return tuple(found)


def _object(value: object, *, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidError("no object", where=where, fix="Send a JSON object.")
    return value


def write_response(response: InferResponse, request: InferRequest) -> tuple[bytes, int | None]:
    """(body, length of its JSON part; None where all of it is JSON)."""
    raw = {each.name: each.binary for each in request.outputs}
    parts, described = [], []
    for each in response.outputs:
        entry: dict[str, Any] = {
            "name": each.name, "datatype": each.datatype, "shape": list(each.shape),
        }  # fmt: skip
        if raw.get(each.name, request.binary):
            parts.append(tensor_to_raw(each))
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry["data"] = _plain(each)
        described.append(entry)
    document = {
        "model_name": response.model, "model_version": response.version, "outputs": described,
    }  # fmt: skip
    if response.id:
        document["id"] = response.id
    head = encode(document)
    return head + b"".join(parts), len(head) if parts else None


def _plain(given: Tensor) -> list[Any]:
    flat: list[Any] = given.values.reshape(-1).tolist()
    if given.datatype == BYTES:
        return [item.decode("utf-8", errors="replace") for item in flat]
    return flat
