"""From encoded bytes to pixels and back, under limits.

1. JPEG and PNG only, told apart by their first bytes, never by a name.
2. Width and height are read from the header and held against the limit before anything is decoded.
3. A picture that ends early or is damaged is refused; half a picture is no picture.
4. Pixels come as stored: an EXIF orientation is not applied, so that boxes in pixels mean the same
   for every reader.
"""

import struct
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError, digest_of
from lineside.vision.frame import Frame

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
_KINDS = "Send a JPEG or PNG picture."
_WHOLE = "Send the whole file again."


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPicture:
    """A picture that is whole: its size, and a small JPEG of it."""

    width_px: int
    height_px: int
    thumbnail: bytes


def decode_picture(
    encoded: bytes, *, max_bytes: int = 8_000_000, max_pixels: int = 40_000_000
) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG picture.

    Returns:
        (height, width, 3) uint8 RGB; grey pictures are repeated, transparency is dropped.

    Raises:
        InvalidError: too many bytes or pixels, another format, damaged or cut short.
    """
    if len(encoded) > max_bytes:
        raise _too_many_bytes(encoded, max_bytes=max_bytes)
    width, height = picture_size(encoded)
    _check_pixels((width, height), max_pixels=max_pixels)
    image = _decode_png(encoded) if encoded.startswith(_PNG) else _decode_jpeg(encoded)
    if image.shape != (height, width, 3):
        raise InvalidError(
            f"the header says {width} x {height}, the pixels {image.shape}", fix=_WHOLE
        )
    return image


def _too_many_bytes(encoded: bytes, *, max_bytes: int) -> InvalidError:
    return InvalidError(
        f"{len(encoded)} bytes of picture, at most {max_bytes} are taken",
        fix="Send a smaller picture, or raise max_frame_bytes of the camera.",
    )


def _check_pixels(size: tuple[int, int], *, max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise InvalidError(
            f"{size[0]} x {size[1]} pixels, at most {max_pixels} are taken",
            fix="Send the picture at a lower resolution.",
        )


def picture_size(encoded: bytes) -> tuple[int, int]:
    """Width and height in pixels from the header alone.

    Raises:
        InvalidError: neither JPEG nor PNG, or the header is damaged.
    """
    if encoded.startswith(_PNG):
        size = _png_size(encoded)
    elif encoded.startswith(_JPEG):
        size = _jpeg_size(encoded)
    else:
        raise InvalidError(f"neither JPEG nor PNG: begins with {encoded[:8].hex()!r}", fix=_KINDS)
    if not (size[0] and size[1]):
        raise InvalidError("a picture without width or height", fix=_WHOLE)
    return size


def open_frame(
    encoded: bytes,
    *,
    camera: str,
    captured_at: datetime,
    sequence: int = 0,
    part: str = "",
    max_bytes: int = 8_000_000,
) -> Frame:
    """Decode a picture into a ``Frame``; the error names the camera."""
    try:
        image = decode_picture(encoded, max_bytes=max_bytes)
    except InvalidError as error:
        raise InvalidError(error.message, where=camera, fix=error.fix) from error
    return Frame(
        image=image,
        encoded=encoded,
        camera=camera,
        captured_at=captured_at,
        digest=digest_of(encoded),
        sequence=sequence,
        part=part,
    )


def encode_jpeg(image: NDArray[np.uint8], *, quality: int = 90) -> bytes:
    """JPEG bytes of (height, width, 3) uint8 RGB; equal pixels give equal bytes."""
    simplejpeg = _simplejpeg()
    if simplejpeg is None:
        import cv2

        settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
        return bytes(cv2.imencode(".jpg", image[..., ::-1], settings)[1])
    pixels = np.ascontiguousarray(image)
    return bytes(
        simplejpeg.encode_jpeg(pixels, quality=quality, colorspace="RGB", colorsubsampling="420")
    )


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """PNG bytes of (height, width, 3) uint8 RGB or (height, width, 4) RGBA."""
    import cv2

    order = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
    return bytes(cv2.imencode(".png", cv2.cvtColor(image, order))[1])


def thumbnail(image: NDArray[np.uint8], *, width_px: int = 160) -> bytes:
    """A JPEG at most ``width_px`` wide with the same proportions, averaged, never enlarged."""
    import cv2

    height, width = image.shape[:2]
    if width <= width_px:
        return encode_jpeg(image, quality=80)
    size = (width_px, max(1, round(height * width_px / width)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return encode_jpeg(np.asarray(small, np.uint8), quality=80)


def check_outline(
    encoded: bytes, *, max_bytes: int = 8_000_000, max_pixels: int = 40_000_000
) -> tuple[int, int]:
    """Width and height of a picture that begins and ends as one; between, nothing is read.

    Takes a hundredth of the time of ``check_picture``, which somebody has to ask later.
    """
    if len(encoded) > max_bytes:
        raise _too_many_bytes(encoded, max_bytes=max_bytes)
    size = picture_size(encoded)
    _check_pixels(size, max_pixels=max_pixels)
    ending = b"IEND" if encoded.startswith(_PNG) else b"\xff\xd9"
    if ending not in encoded[-1024:]:
        raise InvalidError("a picture that ends before its end marker", fix=_WHOLE)
    return size


def check_whole(
    encoded: bytes, *, max_bytes: int = 8_000_000, max_pixels: int = 40_000_000
) -> tuple[int, int]:
    """Width and height of a picture that ``decode_picture`` takes; every byte of it is read."""
    if len(encoded) > max_bytes or encoded.startswith(_PNG) or _simplejpeg() is None:
        image = decode_picture(encoded, max_bytes=max_bytes, max_pixels=max_pixels)
        return image.shape[1], image.shape[0]
    size = picture_size(encoded)
    _check_pixels(size, max_pixels=max_pixels)
    _decode_jpeg(encoded, min_width_px=1 if min(size) > 1 else 0)
    return size


def check_picture(
    encoded: bytes,
    *,
    width_px: int = 160,
    max_bytes: int = 8_000_000,
    max_pixels: int = 40_000_000,
) -> CheckedPicture:
    """Whether a picture is whole, its size, and its thumbnail.

    Refuses what ``decode_picture`` refuses and reads every byte as it does, but makes pixels only
    as fine as the thumbnail needs, which saves a third of the time.
    """
    if len(encoded) > max_bytes or encoded.startswith(_PNG) or _simplejpeg() is None:
        image = decode_picture(encoded, max_bytes=max_bytes, max_pixels=max_pixels)
        size = (image.shape[1], image.shape[0])
    else:
        size = picture_size(encoded)
        _check_pixels(size, max_pixels=max_pixels)
        image = _decode_jpeg(encoded, min_width_px=width_px if size[0] >= 2 * width_px else 0)
    return CheckedPicture(
        width_px=size[0], height_px=size[1], thumbnail=thumbnail(image, width_px=width_px)
    )


def _simplejpeg() -> Any:  # noqa: ANN401  a module has no useful type
    """The faster JPEG library where it is installed; OpenCV does the same pixels otherwise."""
    try:
        import simplejpeg
    except ModuleNotFoundError:
        return None
    return simplejpeg


def _decode_jpeg(encoded: bytes, *, min_width_px: int = 0) -> NDArray[np.uint8]:
    """``min_width_px`` above 0: at most half as wide as stored, and at least that wide."""
    simplejpeg = _simplejpeg()
    if simplejpeg is None:
        return _decode_by_opencv(encoded)
    scaled = {"min_width": min_width_px, "min_factor": 2} if min_width_px else {}
    try:
        return np.asarray(simplejpeg.decode_jpeg(encoded, colorspace="RGB", strict=True, **scaled))
    except ValueError as error:
        raise InvalidError(f"a damaged JPEG: {error}", fix=_WHOLE) from error


def _decode_by_opencv(encoded: bytes) -> NDArray[np.uint8]:
    # OpenCV fills the rest of a cut JPEG with grey; only the end marker tells.
    if b"\xff\xd9" not in encoded[-1024:]:
        raise InvalidError("a JPEG that ends before its end marker", fix=_WHOLE)
    return _imdecode(encoded, kind="JPEG")


def _decode_png(encoded: bytes) -> NDArray[np.uint8]:
    if b"IEND" not in encoded[-1024:]:
        raise InvalidError("a PNG that ends before its end chunk", fix=_WHOLE)
    return _imdecode(encoded, kind="PNG")


def _imdecode(encoded: bytes, *, kind: str) -> NDArray[np.uint8]:
    import cv2

    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error as error:
        raise InvalidError(f"a damaged {kind}", fix=_WHOLE) from error
    if image is None:
        raise InvalidError(f"a damaged {kind}", fix=_WHOLE)
    return np.asarray(image, np.uint8)


def _png_size(encoded: bytes) -> tuple[int, int]:
    if len(encoded) < 33 or encoded[12:16] != b"IHDR":
        raise InvalidError("a PNG without its header chunk", fix=_WHOLE)
    width, height = struct.unpack(">II", encoded[16:24])
    return int(width), int(height)


def _jpeg_size(encoded: bytes) -> tuple[int, int]:
    """Walk the marker segments (ITU-T T.81, B.1.1) to the frame header (B.2.2)."""
    place = 2
    while place + 4 <= len(encoded):
        if encoded[place] != 0xFF:
            break
        marker = encoded[place + 1]
        if marker == 0xFF:  # fill byte, B.1.1.2
            place += 1
        elif marker in _LONE_MARKERS:
            place += 2
        elif marker in _FRAME_MARKERS and place + 9 <= len(encoded):
            height, width = struct.unpack(">HH", encoded[place + 5 : place + 9])
            return int(width), int(height)
        elif marker == 0xDA:
            break
        else:
            place += 2 + int.from_bytes(encoded[place + 2 : place + 4], "big")
    raise InvalidError("a JPEG without a frame header", fix=_WHOLE)
