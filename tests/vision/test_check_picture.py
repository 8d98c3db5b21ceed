"""Checking a picture reads all of it and refuses what decoding refuses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import InvalidError
from lineside.testing.pictures import rack
from lineside.vision import check_picture, decode_picture, encode_jpeg, encode_png, picture_size
from lineside.vision.picture import check_outline

JPEG = encode_jpeg(rack(width=320, height=240))
SMALL = encode_jpeg(rack(width=64, height=48))
PNG = encode_png(rack(width=320, height=240))


@pytest.mark.parametrize(
    ("encoded", "size", "small"),
    [(JPEG, (320, 240), (160, 120)), (PNG, (320, 240), (160, 120)), (SMALL, (64, 48), (64, 48))],
)
def test_size_and_thumbnail_are_those_of_the_picture(
    encoded: bytes, size: tuple[int, int], small: tuple[int, int]
) -> None:
    checked = check_picture(encoded, width_px=160)
    assert (checked.width_px, checked.height_px) == size
    assert picture_size(checked.thumbnail) == small
    shown, whole = decode_picture(checked.thumbnail), decode_picture(encoded)
    assert abs(float(shown.mean()) - float(whole.mean())) < 2.0


@pytest.mark.parametrize("encoded", [JPEG, PNG])
def test_a_picture_cut_anywhere_is_refused(encoded: bytes) -> None:
    for length in range(0, len(encoded) - 2, max(1, len(encoded) // 53)):
        with pytest.raises(InvalidError):
            check_picture(encoded[:length])


def test_limits_of_bytes_and_pixels_hold() -> None:
    with pytest.raises(InvalidError, match="bytes of picture"):
        check_picture(JPEG, max_bytes=100)
    with pytest.raises(InvalidError, match="320 x 240 pixels"):
        check_picture(JPEG, max_pixels=1000)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_decoding_refuses_checking_refuses(data: st.DataObject) -> None:
    encoded = bytearray(data.draw(st.sampled_from([JPEG, SMALL])))
    for place in data.draw(st.lists(st.integers(0, len(encoded) - 1), max_size=4)):
        encoded[place] = data.draw(st.integers(0, 255))
    assert _taken(check_picture, bytes(encoded)) == _taken(decode_picture, bytes(encoded))


def _taken(read: object, encoded: bytes) -> bool:
    try:
        read(encoded, max_pixels=200_000)  # type: ignore[operator]  # either function
    except InvalidError:
        return False
    return True


@pytest.mark.parametrize("encoded", [JPEG, PNG, SMALL])
def test_an_outline_gives_the_size_and_refuses_what_does_not_end(encoded: bytes) -> None:
    assert check_outline(encoded) == picture_size(encoded)
    for length in range(0, len(encoded) - 2, max(1, len(encoded) // 53)):
        with pytest.raises(InvalidError):
            check_outline(encoded[:length])
    with pytest.raises(InvalidError, match="bytes of picture"):
        check_outline(encoded, max_bytes=10)
    with pytest.raises(InvalidError, match="pixels, at most"):
        check_outline(encoded, max_pixels=10)
