"""A prediction: what a package says of a frame, calibrated, decided and explained.

These records are also the ``data`` of the event ``lineside.prediction.v1``; arrays never stand in
them.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

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


PREDICTION_SCHEMA = "lineside.prediction/1"


class Decision(StrEnum):
    """A label's verdict; unsure is an answer and goes to review."""

    PRESENT = "present"
    ABSENT = "absent"
    UNSURE = "unsure"


class PictureState(StrEnum):
    """State of the image; anything but ``ok`` carries no labels."""

    OK = "ok"
    CAMERA_MOVED = "camera moved"
    BLACK = "black"
    OVEREXPOSED = "overexposed"
    BLURRED = "blurred"
    FROZEN = "frozen"
    UNFAMILIAR = "unfamiliar"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelAnswer:
    """One label of one region.

    A presence region gives one answer. A region of k classes gives k answers of the same region:
    at most one is present; when the region is unsure, its likeliest classes are unsure and the
    rest absent.

    Attributes:
        name: ``blue`` for a presence label, ``A1/blue`` for a class of region A1.
        region: id of the region; "" for the whole picture.
        label: the bare label or class.
        probability: calibrated, 0-1, bounded by the number of training pictures.
    """

    name: str
    region: str
    label: str
    probability: float
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxAnswer:
    """One object or defect found, on the pixels of the picture; x1 and y1 lie outside it.

    Attributes:
        probability: that it is there and of that label, calibrated, 0-1.
        decision: present, or unsure where the probability lies in the unsure band.
    """

    label: str
    x0_px: float
    y0_px: float
    x1_px: float
    y1_px: float
    probability: float
    decision: Decision = Decision.PRESENT


@dataclass(frozen=True, slots=True, kw_only=True)
class CountAnswer:
    """Count of the objects in an image.

    Attributes:
        value: the likeliest number.
        low, high: every number from low to high is possible at the stated error rate.
        more: the picture shows more than ``high``, or may: what was learned ends there; ``high`` is
            then the largest number the package can tell.
        decision: present where low == high and not more, else unsure.
        chances: probabilities of 0, 1, …, the largest number the package can tell, and of more;
            empty where that number is above 254. Two answers that differ here alone are equal.
        expected: the number of a good part, as the message said that triggered the inspection;
            None: it said none. It is no part of what was seen: two answers that differ here alone
            are equal.
    """

    value: int
    low: int
    high: int
    more: bool = False
    decision: Decision = Decision.UNSURE
    chances: tuple[float, ...] = field(default=(), compare=False)
    expected: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskAnswer:
    """Mask of the defect pixels of an image.

    Attributes:
        rle: run lengths of the mask in COCO's uncompressed order (columns first, beginning with the
            run of zeros), separated by blanks; ``lineside.vision.masks.mask_of`` reads it.
        share: of the picture's pixels that are set, 0-1.
        areas_px: of each connected piece, largest first, at most 100.
    """

    rle: str
    width_px: int
    height_px: int
    share: float
    areas_px: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyAnswer:
    """Distance of an image from the good ones.

    Attributes:
        score: 0 and above; what one unit is, the manifest's rule says.
        limit: from good pictures alone; above it is present.
        reason: why no answer of the package can be relied on; "" otherwise.
    """

    score: float
    limit: float
    decision: Decision
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationFigures:
    """Registration of the image to the reference image.

    Attributes:
        state: ``aligned`` (computed anew), ``still`` (checked, the last transform holds),
            ``moved`` (refused) or ``none`` (the inspection has no reference view).
        dx_px, dy_px: shift of the view's centre, picture minus reference.
        residual_px: median distance of inlier matches after the transform; 0 where not measured.
        inliers: matches that agree with the transform.
        correlation: of edge strength in the overlap, -1..1.
        reason: why it was refused; "" otherwise.
    """

    state: str
    dx_px: float = 0.0
    dy_px: float = 0.0
    rotation_deg: float = 0.0
    scale: float = 1.0
    residual_px: float = 0.0
    inliers: int = 0
    correlation: float = 0.0
    reason: str = ""


# Tasks whose networks say how far a picture is from those learned from.
DISTANCE_TASKS = ("multilabel", "classify", "segment")


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFigures:
    """The picture itself, watched.

    Of a task that is not in ``DISTANCE_TASKS``, and of a picture that was refused before its
    network was asked, the distance is 0: nobody measured it.

    Attributes:
        sharpness: variance of the Laplacian of the grey picture (0-255 scale); low is blurred.
        mean_grey: 0-255.
        clipped_share: share of pixels at 0-2 or 253-255.
        feature_distance: distance of the picture's features from the training data, in units of
            the 99th percentile of the training pictures' own distances; above 1 is unusual.
    """

    sharpness: float
    mean_grey: float
    clipped_share: float
    feature_distance: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """Milliseconds of each stage on the device; total is wall time, not their sum."""

    decode: float = 0.0
    register: float = 0.0
    prepare: float = 0.0
    infer: float = 0.0
    decide: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Everything said of one frame by one package.

    Attributes:
        operating_point: digest of the limits that decided; "" for those of the package itself.
    """

    frame: FrameRef
    inspection: str
    task: str
    state: PictureState
    labels: tuple[LabelAnswer, ...]
    package: Digest
    dataset: str
    registration: RegistrationFigures
    health: HealthFigures
    latency_ms: StageTimes
    device: str = ""
    reason: str = ""
    boxes: tuple[BoxAnswer, ...] = ()
    count: CountAnswer | None = None
    mask: MaskAnswer | None = None
    anomaly: AnomalyAnswer | None = None
    operating_point: str = ""
    schema: str = PREDICTION_SCHEMA
