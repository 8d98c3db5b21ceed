"""Capture records: their pictures, their times, and what a model said as facts alone."""

import base64
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError
from lineside.datasets import load_source
from lineside.datasets.formats.captures import read_capture
from lineside.datasets.samples import Import
from lineside.vision import decode_picture, encode_jpeg

Put = Callable[[Path, int], Path]
SAID = {"Inference result": "Anomaly", "Confidence": 0.99}
EVENT = {
    "deviceFleetName": "fleet",
    "eventId": "capture-1",
    "inferenceTime": "2023-04-10T16:25:17_6",
    "modelName": "cube",
    "modelVersion": "1.0",
}


def packed(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def capture(**parts: object) -> bytes:
    return json.dumps({"eventMetadata": EVENT, "eventVersion": "0", **parts}).encode()


def by_reference(path: str, **more: object) -> bytes:
    item = {"data-ref": path, "encoding": "NONE", "observedContentType": "jpg"}
    told = packed(json.dumps(SAID).encode()).rstrip("=") + "=="
    output = {"data": told, "encoding": "BASE64", "observedContentType": "json"}
    return capture(deviceFleetAuxiliaryInputs=[item], deviceFleetAuxiliaryOutputs=[output], **more)


def tensor(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]], kind: str) -> bytes:
    shape = ", ".join(map(str, values.shape))
    item = {"data": packed(values.tobytes()), "observedContentType": f"Tensor[{kind}; {shape}]"}
    return capture(deviceFleetInputs=[item])


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Import]:
    def made(*lines: bytes) -> Import:
        (tmp_path / "c.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        return load_source(tmp_path)

    return made


@pytest.mark.parametrize("path", ["/dev/a_1.jpg", "file:///dev/a_1.jpg", "a_1.jpg", "..\\a_1.jpg"])
def test_a_picture_named_by_a_path_of_the_device_is_found_by_its_name(
    *, read: Callable[..., Import], put: Put, tmp_path: Path, path: str
) -> None:
    put(tmp_path / "pictures" / "a_1.jpg", 1)
    found = read(by_reference(path))
    (sample,) = found.samples
    assert (found.format, sample.name) == ("captures", "a_1.jpg")
    assert sample.captured_at == datetime(2023, 4, 10, 16, 25, 17, tzinfo=UTC)
    assert (sample.labels, sample.known) == ((), ())
    assert sample.facts == {
        "event": "capture-1", "fleet": "fleet", "model": "cube", "model_version": "1.0",
        "said": "Anomaly", "confidence": "0.99",
    }  # fmt: skip


def test_an_embedded_picture_is_itself(
    read: Callable[..., Import], png: Callable[[int], bytes]
) -> None:
    item = {"data": packed(png(1)), "encoding": "BASE64", "observedContentType": "png"}
    found = read(capture(deviceFleetAuxiliaryInputs=[item]))
    assert found.samples[0].name == "capture-1.png"
    assert found.read(found.samples[0]) == png(1)


def test_what_is_called_ground_truth_gives_a_picture_and_no_label(
    read: Callable[..., Import], put: Put, tmp_path: Path
) -> None:
    put(tmp_path / "x.jpg", 1)
    truth = {"source-ref": "file:/data/x.jpg", "anomaly-label-detected": 1}
    found = read(capture(deviceGroundTruthData=[truth], capture_folder="/data"))
    assert [(s.name, s.labels) for s in found.samples] == [("x.jpg", ())]


@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize(
    ("kind", "scale"), [("UINT8", 1), ("FLOAT", 1), ("FLOAT", 255), ("FLOAT64", 255)]
)
def test_a_tensor_of_a_pictures_shape_is_one(
    *, read: Callable[..., Import], kind: str, scale: int, channels_first: bool
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (8, 10, 3)).astype(np.uint8)
    ordered = np.moveaxis(image, 2, 0) if channels_first else image
    dtype = {"UINT8": "<u1", "FLOAT": "<f4", "FLOAT64": "<f8"}[kind]
    found = read(tensor((ordered[None] / scale).astype(dtype), kind))
    assert np.array_equal(decode_picture(found.read(found.samples[0])), image)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "JSON|malformed|truncated"),
        (b"[1]", "Expected"),
        (capture(), "without a picture"),
        (by_reference("/"), "names no file"),
        (by_reference("/gone.jpg"), "no such picture"),
        (tensor(np.zeros((1, 5, 4, 4), np.uint8), "UINT8"), "no picture"),
        (tensor(np.zeros((1, 3, 4, 4), np.uint8), "FLOAT"), "are no Tensor"),
        (tensor(np.full((3, 4, 4), np.nan, "<f4"), "FLOAT"), "no numbers"),
        (
            capture(deviceFleetAuxiliaryInputs=[{"data": "*", "observedContentType": "jpg"}]),
            "base64",
        ),
    ],
)
def test_a_record_without_a_usable_picture_is_named_with_its_line(
    *, read: Callable[..., Import], line: bytes, why: str, png: Callable[[int], bytes]
) -> None:
    item = {"data": packed(png(1)), "observedContentType": "png"}
    found = read(line, capture(deviceFleetAuxiliaryInputs=[item]))
    assert len(found.samples) == 1
    assert found.skipped[0].where == "c.jsonl:1"
    assert re.search(why, found.skipped[0].reason)


@given(st.binary(max_size=300))
def test_any_line_gives_a_row_or_a_sentence(line: bytes) -> None:
    try:
        read_capture(line, where="c.jsonl:1")
    except InvalidError as error:
        assert error.message  # noqa: PT017  either outcome is right


@pytest.mark.data
def test_real_records_are_read_with_the_pictures_they_name(
    data_folder: Path, tmp_path: Path
) -> None:
    for path in (data_folder / "surface-defects" / "capture-records").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
        for line in path.read_text().splitlines():
            reference = json.loads(line)["deviceFleetAuxiliaryInputs"][0]["data-ref"]
            name = reference.rpartition("/")[2]
            pixels = np.full((4, 4, 3), len(list(tmp_path.iterdir())), np.uint8)
            (tmp_path / name).write_bytes(encode_jpeg(pixels))
    found = load_source(tmp_path)
    assert (len(found.samples), found.skipped) == (3, ())
    assert {sample.facts["said"] for sample in found.samples} == {"Anomaly"}
    assert found.samples[0].captured_at == datetime(2023, 3, 14, 16, 11, 30, tzinfo=UTC)
