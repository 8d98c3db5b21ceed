"""Images of the rack: the scene from a slightly wandering camera, with noise, as JPEG."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.simulator.warehouse.scene import (
    FINE,
    HEIGHT_PX,
    MARGIN_PX,
    SEATS,
    WIDTH_PX,
    Content,
    Lighting,
    Patch,
    Scene,
    Seat,
    light_scene,
    veil_of,
)

MOST_DRIFT_PX = 20.0
_WORK = 2
_TURN_DEG_PER_PX = 0.06
_SCALE_PER_PX = 0.0007
_NOISE_GREY, _NOISE_COLOUR = 3.0, 1.6
_NOISE_FIELDS, _NOISE_SLACK_PX = 6, 48
_QUALITY = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Drift of the camera, as shares (-1 to 1) of the limit."""

    right: float = 0.0
    down: float = 0.0
    turn: float = 0.0
    nearer: float = 0.0

    def matrix(self, *, drift_px: float) -> NDArray[np.float64]:
        """(2, 3): pixels of the unmoved view → pixels of the picture, about the middle."""
        angle = np.deg2rad(self.turn * drift_px * _TURN_DEG_PER_PX)
        scale = 1 + self.nearer * drift_px * _SCALE_PER_PX
        turned = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = np.array([WIDTH_PX / 2, HEIGHT_PX / 2])
        moved = np.array([self.right, self.down]) * drift_px
        return np.column_stack([turned, middle + moved - turned @ middle])


def first_pose(rng: np.random.Generator) -> Pose:
    """Anywhere in the allowed range."""
    right, down, turn, nearer = rng.uniform(-1, 1, 4)
    return Pose(right=right, down=down, turn=turn, nearer=nearer)


def next_pose(pose: Pose, rng: np.random.Generator, *, stride: float) -> Pose:
    """One step of a random walk of deviation ``stride``, thrown back at the range's ends."""
    right, down, turn, nearer = (
        _thrown_back(share + step)
        for share, step in zip(
            (pose.right, pose.down, pose.turn, pose.nearer), rng.normal(0, stride, 4), strict=True
        )
    )
    return Pose(right=right, down=down, turn=turn, nearer=nearer)


def _thrown_back(share: float) -> float:
    """Fold the line onto -1 … 1, as a ball between two walls."""
    return float(abs((share - 3) % 4 - 2) - 1)


class RackCamera:
    """Renders pictures of one room; the same seed and calls give the same pictures."""

    def __init__(self, *, seed: int, drift_px: float, blur_px: float = 0.0) -> None:
        room, self._rng = (
            np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2)
        )
        self._scene = Scene(room)
        self._drift_px = drift_px
        self._blur_px = blur_px
        self._views: dict[Lighting, _LitScene] = {}
        self._noise = _noise_fields(self._rng)

    def picture(
        self, contents: Sequence[Content], *, lighting: Lighting, pose: Pose
    ) -> NDArray[np.uint8]:
        """(240, 320, 3) uint8 RGB of the rack with these nine contents, A1 to C3."""
        import cv2

        if lighting not in self._views:
            self._views[lighting] = _LitScene(self._scene, lighting)
        canvas = self._views[lighting].with_contents(tuple(contents))
        seen = _photograph(canvas, pose.matrix(drift_px=self._drift_px))
        if self._blur_px > 0:
            seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), self._blur_px), dtype=np.uint8)
        return self._grainy(seen)

    def _grainy(self, seen: NDArray[np.uint8]) -> NDArray[np.uint8]:
        field, down, right = self._rng.integers(0, (_NOISE_FIELDS, *(_NOISE_SLACK_PX,) * 2))
        noise = self._noise[field, down : down + HEIGHT_PX, right : right + WIDTH_PX]
        return np.asarray(np.clip(seen + noise, 0, 255), dtype=np.uint8)


class _LitScene:
    """The scene by one light, at twice the camera's resolution; slots are lit when first shown."""

    def __init__(self, scene: Scene, lighting: Lighting) -> None:
        self._scene, self._lighting = scene, lighting
        pixels = _worked(scene.without_discs())
        self._veil = veil_of(pixels, lighting=lighting)
        self._canvas = light_scene(pixels, veil=self._veil, lighting=lighting)
        self._shown: list[Content | None] = [None] * len(SEATS)
        self._patches: dict[tuple[str, Content], NDArray[np.uint8]] = {}

    def with_contents(self, contents: tuple[Content, ...]) -> NDArray[np.uint8]:
        """The canvas with these contents; only slots that changed are laid anew."""
        for place, (seat, content) in enumerate(zip(SEATS, contents, strict=True)):
            if self._shown[place] != content:
                self._lay(seat, content)
                self._shown[place] = content
        return self._canvas

    def _lay(self, seat: Seat, content: Content) -> None:
        patch = self._scene.slot(seat, content)
        top, left = ((side + MARGIN_PX) * _WORK for side in (patch.y0_px, patch.x0_px))
        height, width = (side * _WORK // FINE for side in patch.pixels.shape[:2])
        piece = np.s_[top : top + height, left : left + width]
        if (seat.slot, content) not in self._patches:
            self._patches[seat.slot, content] = light_scene(
                _worked(patch), veil=self._veil[piece], lighting=self._lighting
            )
        self._canvas[piece] = self._patches[seat.slot, content]


def _worked(patch: Patch) -> NDArray[np.uint8]:
    """A patch at twice the camera's resolution: what was painted finely, averaged."""
    import cv2

    height, width = (side * _WORK // FINE for side in patch.pixels.shape[:2])
    small = cv2.resize(patch.pixels, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def _photograph(canvas: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The canvas through the camera's pose, averaged down to the camera's pixels."""
    import cv2

    fine = np.array([[_WORK, 0, (_WORK - 1) / 2], [0, _WORK, (_WORK - 1) / 2], [0, 0, 1]])
    margin = np.array([[1, 0, MARGIN_PX], [0, 1, MARGIN_PX], [0, 0, 1]])
    moved = fine @ np.vstack([matrix, [0, 0, 1]]) @ np.linalg.inv(fine @ margin)
    size = (WIDTH_PX * _WORK, HEIGHT_PX * _WORK)
    seen = cv2.warpAffine(canvas, moved[:2], size, flags=cv2.INTER_LINEAR)
    small = cv2.resize(seen, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def _noise_fields(rng: np.random.Generator) -> NDArray[np.int16]:
    """Noise of the sensor, (n, h, w, 3): grey and colour parts, larger than a picture."""
    height, width = HEIGHT_PX + _NOISE_SLACK_PX, WIDTH_PX + _NOISE_SLACK_PX
    shape = (_NOISE_FIELDS, height, width)
    grey = rng.normal(0, _NOISE_GREY, (*shape, 1))
    colour = rng.normal(0, _NOISE_COLOUR, (*shape, 3))
    return np.round(grey + colour).astype(np.int16)


def encode(picture: NDArray[np.uint8]) -> bytes:
    """The picture as the camera sends it; of high quality, 38-57 kB, as the factory's own."""
    from lineside.vision import encode_jpeg

    return encode_jpeg(picture, quality=_QUALITY)
