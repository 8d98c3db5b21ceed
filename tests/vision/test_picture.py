"""Encoded bytes come in under limits, or not at all."""

import struct
import sys
import zlib
from datetime import UTC, datetime
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lineside.core import InvalidError, digest_of
from lineside.testing.pictures import rack
from lineside.vision import (
    Frame,
    decode_picture,
    encode_jpeg,
    encode_png,
    open_frame,
    picture_size,
    thumbnail,
)
from lineside.vision import picture as picture_file

MOMENT = datetime(2023, 5, 15, 12, 41, 7, tzinfo=UTC)
JPEG = encode_jpeg(rack(width=64, height=48))
PNG = encode_png(rack(width=64, height=48))


def written(image: Image.Image, kind: str, **settings: object) -> bytes:
    out = BytesIO()
    image.save(out, kind, **settings)
    return out.getvalue()


def test_png_keeps_every_pixel() -> None:
    image = rack(width=33, height=21)
    assert np.array_equal(decode_picture(encode_png(image)), image)


def test_jpeg_stays_close_and_equal_pixels_give_equal_bytes() -> None:
    image = rack()
    encoded = encode_jpeg(image, quality=95)
    assert encoded == encode_jpeg(image.copy(), quality=95)
    assert np.abs(decode_picture(encoded).astype(int) - image).mean() < 4


def test_both_jpeg_decoders_give_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = encode_jpeg(rack(), quality=80)
    first = decode_picture(encoded)
    monkeypatch.setattr(picture_file, "_simplejpeg", lambda: None)
    assert np.array_equal(decode_picture(encoded), first)
    assert np.abs(decode_picture(encode_jpeg(rack(), quality=80)).astype(int) - first).max() < 32


def test_the_other_decoder_refuses_a_cut_jpeg_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_file, "_simplejpeg", lambda: None)
    with pytest.raises(InvalidError, match="end marker"):
        decode_picture(JPEG[:-40])


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_common_jpeg_becomes_rgb(mode: str) -> None:
    image = Image.fromarray(rack(width=40, height=30)).convert(mode)
    assert decode_picture(written(image, "JPEG")).shape == (30, 40, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_common_png_becomes_rgb(mode: str) -> None:
    source = Image.fromarray(rack(width=40, height=30))
    image = source.convert("L").convert("I;16") if mode == "I;16" else source.convert(mode)
    assert decode_picture(written(image, "PNG")).shape == (30, 40, 3)


def test_a_progressive_jpeg_is_read() -> None:
    image = Image.fromarray(rack(width=64, height=48))
    assert decode_picture(written(image, "JPEG", progressive=True)).shape == (48, 64, 3)


@pytest.mark.parametrize("encoded", [JPEG, PNG])
def test_a_picture_cut_anywhere_is_refused(encoded: bytes) -> None:
    for length in range(0, len(encoded) - 2, max(1, len(encoded) // 97)):
        with pytest.raises(InvalidError):
            decode_picture(encoded[:length])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_bytes_give_a_picture_or_a_sentence(data: st.DataObject) -> None:
    encoded = bytearray(data.draw(st.sampled_from([JPEG, PNG])))
    for place in data.draw(st.lists(st.integers(0, len(encoded) - 1), max_size=6)):
        encoded[place] = data.draw(st.integers(0, 255))
    try:
        image = decode_picture(bytes(encoded), max_pixels=100_000)
    except InvalidError as error:
        said = bool(error.message and error.fix)
    else:
        said = image.dtype == np.uint8 and image.shape[2] == 3
    assert said


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(InvalidError):
        decode_picture(noise)
    with pytest.raises(InvalidError):
        decode_picture(b"\xff\xd8\xff" + noise[:40])


def png_that_claims(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    head = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + head + b"\0\0\0\0IEND\xaeB`\x82"


def test_the_size_is_refused_before_anything_is_decoded() -> None:
    with pytest.raises(InvalidError, match="60000 x 60000 pixels"):
        decode_picture(png_that_claims(60_000, 60_000))
    with pytest.raises(InvalidError, match="without width"):
        decode_picture(png_that_claims(0, 10))


def test_too_many_bytes_are_refused_by_count() -> None:
    with pytest.raises(InvalidError, match=r"at most 100 are taken"):
        decode_picture(JPEG, max_bytes=100)


@pytest.mark.parametrize("start", [b"GIF89a", b"RIFF", b"BM", b"II*\0", b"<svg"])
def test_other_formats_are_refused_by_name_of_what_is_taken(start: bytes) -> None:
    with pytest.raises(InvalidError, match="neither JPEG nor PNG") as caught:
        decode_picture(start + bytes(100))
    assert caught.value.fix == "Send a JPEG or PNG picture."


def test_a_frame_is_named_by_camera_time_and_bytes() -> None:
    frame = open_frame(JPEG, camera="rack", captured_at=MOMENT, sequence=3, part="p1")
    again = open_frame(JPEG, camera="rack", captured_at=MOMENT)
    assert frame.id == again.id
    assert frame.digest == digest_of(JPEG)
    assert (frame.ref.sequence, frame.ref.part) == (3, "p1")
    assert not frame.image.flags.writeable


def test_a_refused_frame_names_its_camera() -> None:
    with pytest.raises(InvalidError) as caught:
        open_frame(b"no picture", camera="rack", captured_at=MOMENT)
    assert caught.value.where == "rack"


@pytest.mark.parametrize(
    ("width", "height", "expected"), [(320, 240, (160, 120)), (100, 7, (100, 7))]
)
def test_a_thumbnail_keeps_proportions_and_never_enlarges(
    *, width: int, height: int, expected: tuple[int, int]
) -> None:
    assert picture_size(thumbnail(rack(width=width, height=height))) == expected


def test_a_header_that_contradicts_its_pixels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_file, "picture_size", lambda _: (10, 10))
    with pytest.raises(InvalidError, match="the header says 10 x 10"):
        decode_picture(JPEG)


def test_without_the_faster_library_pictures_are_still_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    image = rack(width=64, height=48)
    assert np.abs(decode_picture(encode_jpeg(image, quality=95)).astype(int) - image).mean() < 4


@pytest.mark.parametrize(
    "encoded",
    [
        PNG[:8] + bytes(24) + b"IEND",
        PNG[:60] + bytes(40) + b"IEND\xaeB`\x82",
        b"\xff\xd8\xff\xff\xff\xda\0\0",
        b"\xff\xd8\xff\x01\xff\xe0\0\x02\0\0\0\0\0",
    ],
)
def test_a_damaged_header_or_body_is_refused(encoded: bytes) -> None:
    with pytest.raises(InvalidError):
        decode_picture(encoded)


def test_a_frame_must_be_rgb_bytes() -> None:
    for image in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(InvalidError, match="a frame has shape"):
            Frame(
                image=image,  # type: ignore[arg-type]  # the refusal is the test
                encoded=b"",
                camera="rack",
                captured_at=MOMENT,
                digest=digest_of(b""),
            )
