"""A frame: one picture, with the camera's own time and its content's digest."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from lineside.core import Digest, FrameId, InvalidError, frame_id


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRef:
    """Reference to a frame: enough to find the image again, without its pixels."""

    id: FrameId
    camera: str
    captured_at: datetime
    digest: Digest
    sequence: int = 0
    part: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """A decoded picture.

    Attributes:
        image: (height, width, 3) uint8 RGB, read-only.
        encoded: the JPEG or PNG bytes as they came; their digest is the frame's digest.
        captured_at: aware UTC, the camera's own time.
        sequence: counts up per camera where the source counts; gaps are lost frames.
        part: id of the part shown; "" where the line gives none.
    """

    image: NDArray[np.uint8]
    encoded: bytes
    camera: str
    captured_at: datetime
    digest: Digest
    sequence: int = 0
    part: str = ""

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise InvalidError(
                f"a frame has shape {self.image.shape} and type {self.image.dtype}",
                where=self.camera,
                fix="Hand in (height, width, 3) uint8 RGB.",
            )
        self.image.flags.writeable = False

    @property
    def id(self) -> FrameId:
        """The same for every program that sees this picture of this moment."""
        return frame_id(camera=self.camera, captured_at=self.captured_at, digest=self.digest)

    @property
    def ref(self) -> FrameRef:
        """The frame's name without its pixels."""
        return FrameRef(
            id=self.id,
            camera=self.camera,
            captured_at=self.captured_at,
            digest=self.digest,
            sequence=self.sequence,
            part=self.part,
        )
