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
    """Reference to a frame: enough to find the image again, without its pixels.

    Attributes:
        id: made of camera, time and digest.
        camera: id in the plant file.
        captured_at: the camera's own time, with zone; the event's ``time``.
        digest: SHA-256 of the JPEG or PNG.
        sequence: counts up per camera where the source counts; gaps are lost frames.
        part: id of the part shown; empty where the line gives none.
    """

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
        region: id of the region; empty for the whole image.
        label: the bare label or class.
        probability: calibrated, 0 to 1, bounded by the number of training images.
        decision: ``present``, ``absent`` or ``unsure``.
    """

    name: str
    region: str
    label: str
    probability: float
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxAnswer:
    """One object or defect found, on the pixels of the image.

    Attributes:
        label: what the object is.
        x0_px, y0_px, x1_px, y1_px: pixels of the image from its upper left corner, x1 and y1 just
            outside the object.
        probability: probability that it is there and of that label, calibrated, 0 to 1.
        decision: ``present``, or ``unsure`` where the probability lies in the unsure band.
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
        value: the most likely number.
        low, high: between these the true number lies at the stated error rate.
        more: it may also lie above ``high``: what was learned ends there; ``high`` is then the
            largest number the package can tell.
        decision: ``present`` where low and high are one number and ``more`` is false, else
            ``unsure``.
        chances: probabilities of 0, 1, …, N, the largest number the package can tell, and of more
            than N; empty where N is above 254. Two answers that differ here alone are equal.
        expected: the number of a good part, as the message said that triggered the inspection. It
            is no part of what was seen: two answers that differ here alone are equal.
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
        width_px, height_px: size of the mask.
        share: share of the image's pixels that are defect, 0 to 1.
        areas_px: pixels of each connected piece, largest first, at most 100.
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
        score: distance, 0 and above; what one unit is, the manifest's rule says.
        limit: limit of the score, from good images alone; above it is ``present``.
        decision: ``present``, ``absent`` or ``unsure``.
        reason: why no answer of the package can be relied on; empty otherwise.
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
        dx_px, dy_px: shift of the view's centre in pixels, image less reference.
        rotation_deg, scale: turn and size of the image against the reference.
        residual_px: median distance of matches that agree, after the transform; 0 where not
            measured.
        inliers: matches that agree with the transform.
        correlation: correlation of edge strength in the overlap, -1 to 1.
        reason: why it was refused; empty otherwise.
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
        sharpness: variance of the Laplacian of the grey image (0-255 scale); low is blurred.
        mean_grey: mean of the grey image, 0 to 255.
        clipped_share: share of pixels at 0-2 or 253-255, 0 to 1.
        feature_distance: distance of the image's features from the training data, in units of the
            99th percentile of the training images' own distances; above 1 is unusual.
    """

    sharpness: float
    mean_grey: float
    clipped_share: float
    feature_distance: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """Milliseconds of each stage on the device.

    Attributes:
        decode, register, prepare, infer, decide: time of the stage.
        total: wall time of all, not their sum.
    """

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
        schema: name and version of this record.
        frame: the image.
        inspection: id in the plant file.
        task: ``multilabel``, ``classify``, ``detect``, ``count``, ``segment`` or ``anomaly``.
        state: ``ok``; or why the image was not judged, then without answers: ``camera moved``,
            ``black``, ``overexposed``, ``blurred``, ``frozen``, ``unfamiliar``.
        reason: the same in words.
        labels: one for each label, or class of each region, at most 4,096; may be empty.
        boxes: things found.
        count: number of objects, of the task ``count``.
        mask: which pixels are defect.
        anomaly: how unlike good parts it is.
        package: digest of what judged.
        dataset: version of the dataset that the package was trained on; empty where nobody knows.
        operating_point: digest of the [limits](packages.md#operating-points) that decided; empty
            for those of the package itself.
        registration: how the image lies against the reference view.
        health: figures of the image itself.
        latency_ms: milliseconds on the device.
        device: who judged.
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
