"""Numpy and OpenCV, no I/O: frames, predictions, geometry, preparation, decisions, metrics."""

from lineside.vision.frame import Frame, FrameRef
from lineside.vision.health import picture_health
from lineside.vision.picture import (
    decode_picture,
    encode_jpeg,
    encode_png,
    open_frame,
    picture_size,
    thumbnail,
)
from lineside.vision.prediction import (
    PREDICTION_SCHEMA,
    Decision,
    HealthFigures,
    LabelAnswer,
    PictureState,
    Prediction,
    RegistrationFigures,
    StageTimes,
)
from lineside.vision.prepare import Crop, Prepare, crops_for, cut, normalise, prepare
from lineside.vision.registration import Registered, Registrar, RegistrationLimits

__all__ = [
    "PREDICTION_SCHEMA",
    "Crop",
    "Decision",
    "Frame",
    "FrameRef",
    "HealthFigures",
    "LabelAnswer",
    "PictureState",
    "Prediction",
    "Prepare",
    "Registered",
    "Registrar",
    "RegistrationFigures",
    "RegistrationLimits",
    "StageTimes",
    "crops_for",
    "cut",
    "decode_picture",
    "encode_jpeg",
    "encode_png",
    "normalise",
    "open_frame",
    "picture_health",
    "picture_size",
    "prepare",
    "thumbnail",
]
