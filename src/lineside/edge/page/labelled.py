"""Pictures with their answer written on them, for panels and browsers far from the page.

1. Text and picture are of one frame: both come from the gallery, which shows a picture once its
   inspections have answered.
2. Made while somebody watches, at most every ``PERIOD_S``, once for all who watch alike.
"""

import threading
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lineside.core import Clock, InvalidError
from lineside.edge.page.gallery import MOST_BYTES, PERIOD_S, Gallery, Newest, Small
from lineside.vision import (
    PictureState,
    Prediction,
    decode_picture,
    draw_caption,
    draw_overlay,
    encode_jpeg,
)

SIZES = {"480p": 480, "720p": 720, "1080p": 1080}
USUAL_SIZE = "480p"
_WAITING = "no answer yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody watches: an inspection's answers, at a height."""

    inspection: str
    size: str = USUAL_SIZE

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise InvalidError(
                f"{self.size[:20]!r} is no size", where="size", fix=f"Known: {', '.join(SIZES)}."
            )


@dataclass(slots=True, kw_only=True, eq=False)
class _Made:
    small: Small | None = None
    made_s: float = -PERIOD_S
    making: threading.Lock = field(default_factory=threading.Lock)


class Labelled:
    """Safe from several threads; holds one picture for each inspection and size that was asked."""

    def __init__(self, gallery: Gallery, *, clock: Clock) -> None:
        self._gallery = gallery
        self._clock = clock
        self._lock = threading.Lock()
        self._made: dict[Wish, _Made] = {}

    def small(self, camera: str, *, wish: Wish) -> Small | None:
        """A camera's newest picture with its answer; may be ``PERIOD_S`` behind.

        Raises:
            InvalidError: the picture cannot be read.
        """
        with self._lock:
            made = self._made.setdefault(wish, _Made())
        with made.making:
            newest, now_s = self._gallery.newest(camera), self._clock.monotonic()
            if newest is None:
                return None
            same = made.small is not None and made.small.newest is newest
            if not same and (made.small is None or now_s - made.made_s >= PERIOD_S):
                made.small, made.made_s = labelled(newest, wish=wish), now_s
            return made.small


def labelled(newest: Newest, *, wish: Wish) -> Small:
    """A picture of the wished height, and what was said of it.

    Of labels, the likeliest and its percentage are written large; boxes, counts and masks are
    drawn as on the page.
    """
    image = decode_picture(newest.encoded, max_bytes=MOST_BYTES)
    prediction = newest.predictions.get(wish.inspection)
    if prediction is not None and not prediction.labels and prediction.state is PictureState.OK:
        drawn = draw_overlay(image, prediction)
        shown = _of_height(drawn, SIZES[wish.size])
    else:
        shown = draw_caption(_of_height(image, SIZES[wish.size]), caption_of(prediction))
    height_px, width_px = shown.shape[:2]
    return Small(
        newest=newest,
        picture=encode_jpeg(shown, quality=80),
        width_px=width_px,
        height_px=height_px,
    )


def caption_of(prediction: Prediction | None) -> str:
    """``Google 97%``: the likeliest label with its percentage, or why there is none."""
    if prediction is None:
        return _WAITING
    if prediction.state is not PictureState.OK or not prediction.labels:
        return str(prediction.state.value)
    best = max(prediction.labels, key=lambda one: one.probability)
    return f"{best.name} {best.probability * 100:.0f}%"


def _of_height(image: NDArray[np.uint8], height_px: int) -> NDArray[np.uint8]:
    """The picture scaled to a height, its proportions kept, its width even."""
    import cv2

    height, width = image.shape[:2]
    size = (2 * max(1, round(width * height_px / height / 2)), height_px)
    how = cv2.INTER_AREA if height > height_px else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)
