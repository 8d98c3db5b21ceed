"""From encoded bytes to pixels and back, under limits; training and devices decode by this alone.

1. JPEG and PNG only, told apart by their first bytes, never by a name. Of others the kind is named.
2. Width and height are read from the header and held against the limit before anything is decoded.
3. A picture that ends early or is damaged is refused; half a picture is no picture. So is a
   progressive JPEG of more than 100 scans: each costs as much as the whole picture.
4. A picture that says how it was held (EXIF orientation, in either format) is turned upright, as
   every browser shows it, and width and height are those of the upright picture. Boxes in pixels
   are of what a person sees.
5. Grey is repeated, a palette looked up, transparency dropped (the colours stay as they are
   stored), of 16 bits the upper 8 are taken. ``check_whole`` refuses 16-bit pictures whose upper
   four bits are empty: a 12-bit camera's values written unscaled would be all but black.
6. Four inks (CMYK) become ``ink * black / 255``, as Adobe's programs store them, inverted. Without
   Adobe's marker nobody knows which way they are meant, and the picture is refused.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.core import Box, InvalidError, digest_of, need
from lineside.vision.prediction import Frame, HealthFigures

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
_KINDS = "Send a JPEG or PNG picture."
_OTHERS = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"%PDF": "PDF",
}
_EXIF = b"Exif\0\0"
_ADOBE = b"Adobe"
_ORIENTATION = 0x0112
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_MOST_SCANS = 100
_UPPER_BITS_FROM = 4096
_WHOLE = "Send the whole file again."
_SMALL_QUALITY = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPicture:
    """A picture that is whole: its size, a small JPEG of it, and the figures of the small one."""

    width_px: int
    height_px: int
    thumbnail: bytes
    health: HealthFigures


def decode_picture(
    encoded: bytes, *, max_bytes: int = 8_000_000, max_pixels: int = 40_000_000
) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG picture.

    Returns:
        (height, width, 3) uint8 RGB, upright.

    Raises:
        InvalidError: too many bytes or pixels, another format, damaged or cut short.
    """
    if len(encoded) > max_bytes:
        raise _too_many_bytes(encoded, max_bytes=max_bytes)
    width, height = picture_size(encoded)
    _check_pixels((width, height), max_pixels=max_pixels)
    stored = _decode_png(encoded) if encoded.startswith(_PNG) else _decode_jpeg(encoded)
    image = _upright(stored, orientation_of(encoded))
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
    """Width and height in pixels of the upright picture, from the header alone.

    Raises:
        InvalidError: neither JPEG nor PNG, or the header is damaged.
    """
    if encoded.startswith(_PNG):
        size = _png_size(encoded)
    elif encoded.startswith(_JPEG):
        size = _jpeg_size(encoded)
    else:
        raise InvalidError(f"neither JPEG nor PNG: {_kind_of(encoded)}", fix=_KINDS)
    if not (size[0] and size[1]):
        raise InvalidError("a picture without width or height", fix=_WHOLE)
    return (size[1], size[0]) if orientation_of(encoded) > 4 else size


def _kind_of(encoded: bytes) -> str:
    """First bytes of other image formats."""
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        return "a WebP"
    if encoded[4:8] == b"ftyp":
        return "a HEIC or AVIF picture, or a video"
    named = next((name for start, name in _OTHERS.items() if encoded.startswith(start)), "")
    return f"a {named}" if named else f"begins with {encoded[:8].hex()!r}"


def orientation_of(encoded: bytes) -> int:
    """The EXIF orientation (1 to 8) that a JPEG or PNG says; 1 where it says none that is known.

    CIPA DC-008, 4.6.4; PNG third edition, 11.3.3.2.
    """
    if encoded.startswith(_PNG):
        told = next((data for kind, data in _png_chunks(encoded) if kind == b"eXIf"), b"")
    else:
        bodies = (body for marker, body in _jpeg_segments(encoded) if marker == 0xE1)
        told = next((body[len(_EXIF) :] for body in bodies if body.startswith(_EXIF)), b"")
    return _orientation_in(told)


def _orientation_in(tiff: bytes) -> int:
    """Of the first directory of a TIFF header (TIFF 6.0, section 2)."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2], "")
    if not order or len(tiff) < 10:
        return 1
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for place in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, place)
        if tag == _ORIENTATION:
            return int(value) if kind == 3 and 1 <= value <= 8 else 1
    return 1


def cut_out(
    image: NDArray[np.uint8], *, rotate_deg: int, box: Box | None, camera: str
) -> NDArray[np.uint8]:
    """Rotate a picture of a camera, then keep a part of it.

    Args:
        image: (height, width, 3) uint8.
        rotate_deg: clockwise: 0, 90, 180 or 270.
        box: of the rotated picture in whole pixels; None: all of it.
        camera: named where the box reaches beyond the picture.

    Raises:
        InvalidError: the box reaches beyond the rotated picture.
    """
    if rotate_deg:
        import cv2

        image = cv2.rotate(image, rotate_deg // 90 - 1).astype(np.uint8, copy=False)
    if box is not None:
        height, width = image.shape[:2]
        if box.x1_px > width or box.y1_px > height:
            raise InvalidError(
                f"a crop to x1_px {box.x1_px:g} and y1_px {box.y1_px:g} of a picture of {width} x "
                f"{height} pixels",
                where=camera,
                fix="Mend crop_px of the camera, or set the camera to its resolution of before.",
            )
        image = image[int(box.y0_px) : int(box.y1_px), int(box.x0_px) : int(box.x1_px)]
    return np.ascontiguousarray(image)


def _upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    if orientation > 4:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


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
    return encode_jpeg(_at_most(image, width_px=width_px), quality=_SMALL_QUALITY)


def _at_most(image: NDArray[np.uint8], *, width_px: int) -> NDArray[np.uint8]:
    import cv2

    height, width = image.shape[:2]
    if width <= width_px:
        return image
    size = (width_px, max(1, round(height * width_px / width)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


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
    """Width and height of a picture that ``decode_picture`` takes; every byte of it is read.

    Refuses what that refuses, and what it would make unusable (rule 5).
    """
    if len(encoded) > max_bytes or encoded.startswith(_PNG) or _simplejpeg() is None:
        image = decode_picture(encoded, max_bytes=max_bytes, max_pixels=max_pixels)
        _check_depth(encoded)
        return image.shape[1], image.shape[0]
    size = picture_size(encoded)
    _check_pixels(size, max_pixels=max_pixels)
    _decode_jpeg(encoded, at_least={"min_width": 1})
    return size


def _check_depth(encoded: bytes) -> None:
    import cv2

    if not encoded.startswith(_PNG) or encoded[24] != 16:
        return
    values = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    colours = np.asarray(values) if values is None or values.ndim < 3 else values[..., :3]
    highest = int(colours.max())
    if 0 < highest < _UPPER_BITS_FROM:
        raise InvalidError(
            f"a 16-bit PNG whose values end at {highest}; its upper 8 bits are all but black",
            fix="Scale its values to the whole range, or save it with 8 bits.",
        )


def check_picture(
    encoded: bytes,
    *,
    width_px: int = 160,
    max_bytes: int = 8_000_000,
    max_pixels: int = 40_000_000,
) -> CheckedPicture:
    """Return whether a picture is whole, its size, and its thumbnail.

    Refuses what ``decode_picture`` refuses and reads every byte as it does, but makes pixels only
    as fine as the thumbnail needs, which saves a third of the time.
    """
    if len(encoded) > max_bytes or encoded.startswith(_PNG) or _simplejpeg() is None:
        image = decode_picture(encoded, max_bytes=max_bytes, max_pixels=max_pixels)
        size = (image.shape[1], image.shape[0])
    else:
        size = picture_size(encoded)
        _check_pixels(size, max_pixels=max_pixels)
        turned = orientation_of(encoded)
        across = "min_height" if turned > 4 else "min_width"
        at_least = {across: width_px} if size[0] >= 2 * width_px else {}
        image = _upright(_decode_jpeg(encoded, at_least=at_least), turned)
    small = _at_most(image, width_px=width_px)
    return CheckedPicture(
        width_px=size[0], height_px=size[1], thumbnail=encode_jpeg(small, quality=_SMALL_QUALITY),
        health=picture_health(small),
    )  # fmt: skip


def _simplejpeg() -> Any:  # noqa: ANN401  a module has no useful type
    """The faster JPEG library where it is installed; OpenCV does the same pixels otherwise."""
    try:
        import simplejpeg
    except ModuleNotFoundError:
        return None
    return simplejpeg


def _decode_jpeg(encoded: bytes, *, at_least: dict[str, int] | None = None) -> NDArray[np.uint8]:
    """As stored; ``at_least`` of min_width or min_height: half as large or less, not below that."""
    _check_inks(encoded)
    simplejpeg = _simplejpeg()
    if simplejpeg is None:
        return _decode_by_opencv(encoded)
    scaled = {**at_least, "min_factor": 2} if at_least else {}
    try:
        return np.asarray(simplejpeg.decode_jpeg(encoded, colorspace="RGB", strict=True, **scaled))
    except ValueError as error:
        raise InvalidError(f"a damaged JPEG: {error}", fix=_WHOLE) from error


def _check_inks(encoded: bytes) -> None:
    """Refuse four inks that nobody says the meaning of, and a picture that takes for ever."""
    inks = 0
    adobe = progressive = False
    for marker, body in _jpeg_segments(encoded):
        adobe = adobe or (marker == 0xEE and body.startswith(_ADOBE))
        if marker in _FRAME_MARKERS and len(body) > 5:
            inks, progressive = body[5], marker in _PROGRESSIVE
    if inks == 4 and not adobe:
        raise InvalidError(
            "a CMYK JPEG that does not say how its inks are meant", fix="Save it as RGB."
        )
    if progressive and encoded.count(b"\xff\xda") > _MOST_SCANS:
        raise InvalidError(
            f"a progressive JPEG of more than {_MOST_SCANS} scans",
            fix="Save it as a baseline JPEG.",
        )


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


def _png_chunks(encoded: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and data of the chunks before the pixels."""
    place = len(_PNG)
    while place + 8 <= len(encoded):
        length = int.from_bytes(encoded[place : place + 4], "big")
        kind = encoded[place + 4 : place + 8]
        if kind in (b"IDAT", b"IEND"):
            return
        yield kind, encoded[place + 8 : place + 8 + length]
        place += 12 + length


def _jpeg_size(encoded: bytes) -> tuple[int, int]:
    """Of the frame header (ITU-T T.81, B.2.2)."""
    for marker, body in _jpeg_segments(encoded):
        if marker in _FRAME_MARKERS and len(body) >= 5:
            height, width = struct.unpack(">HH", body[1:5])
            return int(width), int(height)
    raise InvalidError("a JPEG without a frame header", fix=_WHOLE)


def _jpeg_segments(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of the segments before the first scan (ITU-T T.81, B.1.1)."""
    place = 2
    while place + 4 <= len(encoded) and encoded[place] == 0xFF:
        marker = encoded[place + 1]
        if marker == 0xFF:  # fill byte, B.1.1.2
            place += 1
        elif marker in _LONE_MARKERS:
            place += 2
        elif marker == 0xDA:
            return
        else:
            length = int.from_bytes(encoded[place + 2 : place + 4], "big")
            yield marker, encoded[place + 4 : place + 2 + length]
            place += 2 + length


def grey_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(height, width) uint8 grey of an RGB picture (ITU-R BT.601 weights)."""
    import cv2

    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def picture_health(image: NDArray[np.uint8]) -> HealthFigures:
    """Sharpness, mean grey and clipped share of an RGB picture; the network adds its distance."""
    return grey_health(grey_of(image))


def grey_health(grey: NDArray[np.uint8]) -> HealthFigures:
    """The same figures from (height, width) uint8 grey, for callers that have it already."""
    import cv2

    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    inside = cv2.countNonZero(cv2.inRange(grey, 3, 252))
    return HealthFigures(
        sharpness=float(deviation[0, 0]) ** 2,
        mean_grey=cv2.sumElems(grey)[0] / grey.size,
        clipped_share=(grey.size - inside) / grey.size,
    )


_VARIABLE = "OPENCV_FFMPEG_LOGLEVEL"
_QUIET = "-8"  # AV_LOG_QUIET of FFmpeg


def new_capture() -> Any:  # noqa: ANN401  cv2.VideoCapture carries no type
    """Return a ``cv2.VideoCapture`` that is not opened yet; the caller releases it."""
    _silence()
    return need("cv2", extra="edge").VideoCapture()


@cache
def _silence() -> None:
    """Turn off what OpenCV and FFmpeg print in this process."""
    cv2 = need("cv2", extra="edge")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    # OpenCV reads this variable once, at the first opening by FFmpeg; there is no call for it.
    if _VARIABLE not in os.environ:  # noqa: TID251
        os.environ[_VARIABLE] = _QUIET  # noqa: TID251
        cv2.VideoCapture("", cv2.CAP_FFMPEG).release()
        del os.environ[_VARIABLE]  # noqa: TID251
