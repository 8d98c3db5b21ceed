"""Numpy and OpenCV, no I/O: what is done to pictures and to answers about them.

Main names: ``Frame`` and ``open_frame``; ``Registrar``, ``prepare`` and ``decide``, which training,
evaluation and devices share; ``Prediction``; the metrics; ``draw_overlay`` and ``draw_heat``.
Not here: cameras, files, networks and engines.
"""

from lineside.vision.anomaly import AnomalyRule
from lineside.vision.decide import ClassRule, LabelRule
from lineside.vision.detections import CountRule, DetectRule
from lineside.vision.draw import draw_heat
from lineside.vision.geometry import Matrix
from lineside.vision.masks import MaskRule
from lineside.vision.picture import (
    check_picture,
    decode_picture,
    encode_jpeg,
    encode_png,
    grey_of,
    open_frame,
    picture_health,
    picture_size,
    thumbnail,
)
from lineside.vision.prediction import (
    AnomalyAnswer,
    BoxAnswer,
    CountAnswer,
    Decision,
    Frame,
    FrameRef,
    HealthFigures,
    LabelAnswer,
    MaskAnswer,
    PictureState,
    Prediction,
    RegistrationFigures,
    StageTimes,
)
from lineside.vision.prepare import Crop, Prepare, fitted, prepare
from lineside.vision.registration import Registrar

__all__ = [
    "AnomalyAnswer",
    "AnomalyRule",
    "BoxAnswer",
    "ClassRule",
    "CountAnswer",
    "CountRule",
    "Crop",
    "Decision",
    "DetectRule",
    "Frame",
    "FrameRef",
    "HealthFigures",
    "LabelAnswer",
    "LabelRule",
    "MaskAnswer",
    "MaskRule",
    "Matrix",
    "PictureState",
    "Prediction",
    "Prepare",
    "Registrar",
    "RegistrationFigures",
    "StageTimes",
    "check_picture",
    "decode_picture",
    "draw_heat",
    "encode_jpeg",
    "encode_png",
    "fitted",
    "grey_of",
    "open_frame",
    "picture_health",
    "picture_size",
    "prepare",
    "thumbnail",
]
