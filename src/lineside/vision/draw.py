"""Evidence pictures: boxes and masks with their answers, and heat laid over the picture."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lineside.vision.geometry import Matrix, apply, corners
from lineside.vision.masks import mask_of
from lineside.vision.prediction import (
    BoxAnswer,
    CountAnswer,
    Decision,
    LabelAnswer,
    MaskAnswer,
    PictureState,
    Prediction,
)
from lineside.vision.prepare import Crop

_COLOURS: dict[Decision, tuple[int, int, int]] = {
    Decision.PRESENT: (44, 182, 125),
    Decision.ABSENT: (150, 160, 172),
    Decision.UNSURE: (245, 166, 35),
}
_REFUSED = (229, 72, 77)
_INK = (16, 18, 20)
_AMBER = (255, 176, 0)
_MAGENTA = (214, 0, 147)
_MOST_OPAQUE = 0.75
_TINT = 0.4
_PADDING_PX = 3


def draw_overlay(
    image: NDArray[np.uint8],
    prediction: Prediction,
    *,
    crops: Sequence[Crop] = (),
    matrix: Matrix | None = None,
) -> NDArray[np.uint8]:
    """A copy of the picture with each region's outline and answer, or with the refusal.

    Defective pixels are tinted and outlined. Found objects are outlined with their label; where
    they are counted, each is a dot and the count stands at the upper left.

    Args:
        image: (height, width, 3) uint8 RGB.
        prediction: of that picture.
        crops: where the regions lie on the reference view; regions not named get no outline, their
            answers stand at the upper left.
        matrix: reference px → picture px; None draws the boxes where the view has them.
    """
    canvas = np.array(image, np.uint8, copy=True)
    if prediction.state is not PictureState.OK:
        reason = f": {prediction.reason}" if prediction.reason else ""
        _text(canvas, f"{prediction.state.value}{reason}", at=(0, 0), colour=_REFUSED)
        return canvas
    if prediction.mask is not None:
        _masked(canvas, prediction.mask)
    places = {crop.region: crop for crop in crops}
    line = 0
    for region, answers in _by_region(prediction.labels).items():
        text, colour = _caption(answers)
        crop = places.get(region) if region else None
        if crop is None:
            line += _text(canvas, text, at=(0, line), colour=colour)
        else:
            _outlined(canvas, _outline(crop, matrix), text=text, colour=colour)
    for box in prediction.boxes:
        _object(canvas, box, counted=prediction.count is not None)
    if prediction.count is not None:
        colour = _COLOURS[prediction.count.decision]
        _text(canvas, _count_caption(prediction.count), at=(0, line), colour=colour)
    return canvas


def _masked(canvas: NDArray[np.uint8], answer: MaskAnswer) -> None:
    """Tint and outline the pixels of a mask; one of another picture's size is left out."""
    import cv2

    if canvas.shape[:2] != (answer.height_px, answer.width_px):
        return
    mask = mask_of(answer.rle, width_px=answer.width_px, height_px=answer.height_px)
    tint = np.array(_MAGENTA, np.float32)
    canvas[mask] = np.rint(canvas[mask] * (1 - _TINT) + tint * _TINT).astype(np.uint8)
    edge, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, edge, -1, _MAGENTA, _thick(canvas))


def heat_layer(heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(height, width, 4) uint8 RGBA of a 0-1 map: transparent, through amber, to magenta."""
    level = np.clip(heat, 0.0, 1.0).astype(np.float32)[..., None]
    low, high = np.array(_AMBER, np.float32), np.array(_MAGENTA, np.float32)
    blend = np.clip(2 * level - 1, 0.0, 1.0)
    colour = low + blend * (high - low)
    opacity = 255 * _MOST_OPAQUE * np.minimum(1.0, 2 * level)
    return np.asarray(np.rint(np.concatenate([colour, opacity], axis=2)), np.uint8)


def draw_heat(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The picture with a 0-1 map of its own size laid over it."""
    layer = heat_layer(heat).astype(np.float32)
    opacity = layer[..., 3:] / 255
    mixed = image * (1 - opacity) + layer[..., :3] * opacity
    return np.asarray(np.rint(mixed), np.uint8)


def _object(canvas: NDArray[np.uint8], box: BoxAnswer, *, counted: bool) -> None:
    import cv2

    colour = _COLOURS[box.decision]
    if counted:
        middle = (round((box.x0_px + box.x1_px) / 2), round((box.y0_px + box.y1_px) / 2))
        cv2.circle(canvas, middle, 2 + 2 * _thick(canvas), _INK, thickness=-1)
        cv2.circle(canvas, middle, 1 + 2 * _thick(canvas), colour, thickness=-1)
        return
    edge = np.array(
        [
            (box.x0_px, box.y0_px),
            (box.x1_px, box.y0_px),
            (box.x1_px, box.y1_px),
            (box.x0_px, box.y1_px),
        ]
    )
    mark = "? " if box.decision is Decision.UNSURE else ""
    _outlined(canvas, edge, text=f"{mark}{box.label} {box.probability:.2f}", colour=colour)


def _count_caption(count: CountAnswer) -> str:
    if count.more:
        return f"{count.value}: {count.low} to {count.high}, or more"
    if count.low == count.high:
        return str(count.value)
    return f"{count.value}: {count.low} to {count.high}"


def _by_region(answers: Sequence[LabelAnswer]) -> dict[str, list[LabelAnswer]]:
    """Answers of one region together; whole-picture labels and single ones each by themselves."""
    found: dict[str, list[LabelAnswer]] = {}
    for answer in answers:
        found.setdefault(answer.region, []).append(answer)
    return found


def _caption(answers: Sequence[LabelAnswer]) -> tuple[str, tuple[int, int, int]]:
    """Return a region's text: what is present, else unsure, else most likely absent."""
    for wanted in (Decision.PRESENT, Decision.UNSURE):
        chosen = [answer for answer in answers if answer.decision is wanted]
        if chosen:
            words = ", ".join(f"{answer.label} {answer.probability:.2f}" for answer in chosen)
            mark = "? " if wanted is Decision.UNSURE else ""
            return mark + words, _COLOURS[wanted]
    best = max(answers, key=lambda answer: answer.probability)
    return f"no {best.label} {best.probability:.2f}", _COLOURS[Decision.ABSENT]


def _outline(crop: Crop, matrix: Matrix | None) -> NDArray[np.float64]:
    edge = corners(crop.box_px)
    return edge if matrix is None else apply(matrix, edge)


def _outlined(
    canvas: NDArray[np.uint8],
    edge: NDArray[np.float64],
    *,
    text: str,
    colour: tuple[int, int, int],
) -> None:
    import cv2

    points = np.rint(edge).astype(np.int32)
    cv2.polylines(canvas, [points], isClosed=True, color=colour, thickness=_thick(canvas))
    left, top = int(points[:, 0].min()), int(points[:, 1].min())
    _text(canvas, text, at=(left, top - _line_height(canvas)), colour=colour)


def _thick(canvas: NDArray[np.uint8]) -> int:
    return max(1, int(canvas.shape[1] / 640 + 0.5))


def _font_scale(canvas: NDArray[np.uint8]) -> float:
    return max(0.35, float(canvas.shape[1]) / 1400)


def _line_height(canvas: NDArray[np.uint8]) -> int:
    import cv2

    (_, height), below = cv2.getTextSize("Ag", cv2.FONT_HERSHEY_SIMPLEX, _font_scale(canvas), 1)
    return int(height) + int(below) + _PADDING_PX


def _text(
    canvas: NDArray[np.uint8], text: str, *, at: tuple[int, int], colour: tuple[int, int, int]
) -> int:
    """Dark text on a colour, moved so far that it lies inside the picture; returns its height."""
    import cv2

    scale, line = _font_scale(canvas), _line_height(canvas)
    plain = text.encode("ascii", "replace").decode()  # the built-in font has no other letters
    (width, height), _ = cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    left = max(0, min(at[0], canvas.shape[1] - int(width) - 2 * _PADDING_PX))
    top = max(0, min(at[1], canvas.shape[0] - line))
    corner = (left + int(width) + 2 * _PADDING_PX - 1, top + line - 1)
    cv2.rectangle(canvas, (left, top), corner, colour, thickness=-1)
    origin = (left + _PADDING_PX, top + int(height) + _PADDING_PX // 2 + 1)
    cv2.putText(canvas, plain, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)
    return line


# Of a Full HD picture: OpenCV's simple Hershey font at scale 5, 12 px thick, its baseline beginning
# at (20, 200). Everything scales with the picture's height.
_HEIGHT_PX = 1080
_SCALE, _THICK_PX = 5.0, 12.0
_LEFT_PX, _BASE_PX = 20.0, 200.0
_RED = (255, 0, 0)


def draw_caption(image: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A copy of the picture with red text at its upper left; long text is set smaller to fit.

    Args:
        image: (height, width, 3) uint8 RGB.
        text: letters that the built-in font lacks become question marks.
    """
    import cv2

    canvas = np.array(image, np.uint8, copy=True)
    height, width = canvas.shape[:2]
    share = height / _HEIGHT_PX
    plain = text.encode("ascii", "replace").decode()
    left, font = round(_LEFT_PX * share), cv2.FONT_HERSHEY_SIMPLEX
    scale, thick = _SCALE * share, max(1, round(_THICK_PX * share))
    (wide, _), _ = cv2.getTextSize(plain, font, scale, thick)
    room = width - 2 * left
    if wide > room:
        scale *= room / wide
        thick = max(1, round(thick * room / wide))
    base = (left, round(_BASE_PX * share))
    cv2.putText(canvas, plain, base, font, scale, _RED, thick, cv2.LINE_AA)
    return canvas
