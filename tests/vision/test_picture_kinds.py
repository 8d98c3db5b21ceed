"""Every kind of picture gets its right treatment or its sentence, wherever it is decoded."""

import struct
from io import BytesIO

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from lineside.core import InvalidError
from lineside.testing.pictures import rack
from lineside.vision import check_picture, decode_picture, encode_jpeg, encode_png, picture_size
from lineside.vision import picture as picture_file
from lineside.vision.picture import check_outline, check_whole
from tests.vision.test_picture import written

IMAGE = rack(width=64, height=48)


def held(orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(rack(width=400, height=300))
    return written(image, kind, exif=exif.tobytes())


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright_however_the_camera_was_held(*, orientation: int, kind: str) -> None:
    encoded = held(orientation, kind)
    with Image.open(BytesIO(encoded)) as image:
        shown = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    image_read = decode_picture(encoded)
    assert np.array_equal(image_read, shown)
    size = (shown.shape[1], shown.shape[0])
    assert picture_size(encoded) == check_outline(encoded) == check_whole(encoded) == size
    checked = check_picture(encoded, width_px=80)
    assert (checked.width_px, checked.height_px) == size
    small = decode_picture(checked.thumbnail).astype(int)
    same = cv2.resize(shown, small.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(small - same).mean() < 16  # turned otherwise it is above 30


@pytest.mark.parametrize("orientation", range(1, 9))
def test_both_jpeg_decoders_turn_alike(
    *, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = held(orientation, "JPEG")
    first = decode_picture(encoded)
    monkeypatch.setattr(picture_file, "_simplejpeg", lambda: None)
    assert np.array_equal(decode_picture(encoded), first)


@given(tiff=st.binary(max_size=80), order=st.sampled_from([b"II*\0", b"MM\0*", b""]))
def test_any_words_about_orientation_do_no_harm(tiff: bytes, order: bytes) -> None:
    body = b"Exif\0\0" + order + tiff
    plain = encode_jpeg(IMAGE)
    encoded = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]
    assert sorted(decode_picture(encoded).shape) == [3, 48, 64]


def test_of_sixteen_bits_the_upper_eight_are_taken() -> None:
    deep = np.random.default_rng(1).integers(0, 65536, (48, 64, 3)).astype(np.uint16)
    encoded = bytes(cv2.imencode(".png", deep[..., ::-1])[1])
    assert np.array_equal(decode_picture(encoded), (deep >> 8).astype(np.uint8))
    grey = bytes(cv2.imencode(".png", deep[..., 0])[1])
    assert np.array_equal(decode_picture(grey)[..., 1], (deep[..., 0] >> 8).astype(np.uint8))
    assert check_whole(encoded) == (64, 48)


def test_twelve_bits_in_the_lower_part_of_sixteen_are_not_learned_from() -> None:
    faint = np.random.default_rng(1).integers(0, 4096, (48, 64)).astype(np.uint16)
    encoded = bytes(cv2.imencode(".png", faint)[1])
    with pytest.raises(InvalidError, match="all but black") as caught:
        check_whole(encoded)
    assert "Scale" in caught.value.fix
    black = bytes(cv2.imencode(".png", np.zeros((48, 64), np.uint16))[1])
    assert check_whole(black) == (64, 48)


def test_four_inks_as_adobe_writes_them_become_colours() -> None:
    inks = Image.fromarray(IMAGE).convert("CMYK")
    encoded = written(inks, "JPEG", quality=95)
    assert np.abs(decode_picture(encoded).astype(int) - IMAGE).mean() < 6
    assert check_whole(encoded) == (64, 48)


def test_both_decoders_mix_inks_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = written(Image.fromarray(IMAGE).convert("CMYK"), "JPEG", quality=95)
    first = decode_picture(encoded)
    monkeypatch.setattr(picture_file, "_simplejpeg", lambda: None)
    assert np.array_equal(decode_picture(encoded), first)


def test_four_inks_that_nobody_explains_are_refused() -> None:
    encoded = written(Image.fromarray(IMAGE).convert("CMYK"), "JPEG")
    place = encoded.index(b"\xff\xee")
    length = int.from_bytes(encoded[place + 2 : place + 4], "big")
    bare = encoded[:place] + encoded[place + 2 + length :]
    for read in (decode_picture, check_whole, check_picture):
        with pytest.raises(InvalidError, match="CMYK") as caught:
            read(bare)
        assert caught.value.fix == "Save it as RGB."


@pytest.mark.parametrize("mode", ["L", "1", "LA", "P", "PA"])
def test_grey_palette_and_transparent_pictures_show_their_colours(mode: str) -> None:
    source = Image.fromarray(IMAGE)
    if mode == "PA":
        image = source.convert("P")
        encoded = written(image, "PNG", transparency=3)
    else:
        image = source.convert(mode)
        encoded = written(image, "PNG")
    flat = image.convert("L" if mode in ("L", "1", "LA") else "RGB").convert("RGB")
    assert np.array_equal(decode_picture(encoded), np.asarray(flat))


def test_transparency_is_dropped_and_the_stored_colours_stay() -> None:
    alpha = np.dstack([IMAGE, np.zeros((48, 64), np.uint8)])
    assert np.array_equal(decode_picture(encode_png(alpha)), IMAGE)


def test_a_grey_jpeg_is_repeated() -> None:
    image = decode_picture(written(Image.fromarray(IMAGE).convert("L"), "JPEG", quality=95))
    assert np.array_equal(image[..., 0], image[..., 2])


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"GIF89a", "GIF"),
        (b"BM\0\0", "BMP"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"RIFF\0\0\0\0WEBP", "WebP"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"%PDF-1.7", "PDF"),
    ],
)
def test_other_pictures_are_called_by_their_name(start: bytes, name: str) -> None:
    with pytest.raises(InvalidError, match=f"neither JPEG nor PNG: a .*{name}"):
        decode_picture(start + bytes(40))


def claims(encoded: bytes, *, width: int, height: int) -> bytes:
    """The same JPEG with another size in its frame header."""
    place = next(
        encoded.index(bytes([0xFF, m])) for m in (0xC0, 0xC2) if bytes([0xFF, m]) in encoded
    )
    return encoded[: place + 5] + struct.pack(">HH", height, width) + encoded[place + 9 :]


def test_a_bomb_is_refused_by_the_size_it_claims() -> None:
    bomb = claims(encode_jpeg(IMAGE), width=65_000, height=65_000)
    for read in (decode_picture, check_whole, check_picture, check_outline):
        with pytest.raises(InvalidError, match="65000 x 65000 pixels, at most"):
            read(bomb)


def test_a_bomb_of_scans_is_refused() -> None:
    encoded = written(Image.fromarray(IMAGE), "JPEG", progressive=True)
    assert decode_picture(encoded).shape == (48, 64, 3)
    last = encoded.rindex(b"\xff\xda")
    bomb = encoded[:last] + encoded[last:-2] * 200 + encoded[-2:]
    for read in (decode_picture, check_whole):
        with pytest.raises(InvalidError, match="more than 100 scans"):
            read(bomb)


@pytest.mark.parametrize("encoded", [encode_jpeg(IMAGE), encode_png(IMAGE)])
def test_what_is_cut_is_found_when_it_is_checked(encoded: bytes) -> None:
    assert check_whole(encoded) == (64, 48)
    for length in range(0, len(encoded) - 2, max(1, len(encoded) // 53)):
        with pytest.raises(InvalidError):
            check_whole(encoded[:length])


def test_a_png_with_a_byte_changed_is_found_when_it_is_checked() -> None:
    encoded = encode_png(IMAGE)
    for place in range(encoded.index(b"IDAT") + 4, len(encoded) - 16, 37):
        broken = bytearray(encoded)
        broken[place] ^= 0x55
        with pytest.raises(InvalidError, match="damaged PNG"):
            check_whole(bytes(broken))
