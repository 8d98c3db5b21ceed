"""A prediction: what a package says of a frame, calibrated, decided and explained.

These records are also the ``data`` of the event ``lineside.prediction.v1``; arrays never stand in
them.
"""

from dataclasses import dataclass
from enum import StrEnum

from lineside.core import Digest
from lineside.vision.frame import FrameRef

PREDICTION_SCHEMA = "lineside.prediction/1"


class Decision(StrEnum):
    """A label's verdict; unsure is an answer and goes to review."""

    PRESENT = "present"
    ABSENT = "absent"
    UNSURE = "unsure"


class PictureState(StrEnum):
    """Whether the picture could be judged at all; anything but ``ok`` carries no labels."""

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
class RegistrationFigures:
    """How the picture lay against the reference view.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFigures:
    """The picture itself, watched.

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
    """Everything said of one frame by one package."""

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
    schema: str = PREDICTION_SCHEMA
