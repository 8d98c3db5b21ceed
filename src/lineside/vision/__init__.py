"""Numpy and OpenCV, no I/O: frames, predictions, geometry, preparation, decisions, metrics."""

from lineside.vision.frame import Frame, FrameRef
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
from lineside.vision.prepare import Crop, Prepare

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
    "RegistrationFigures",
    "StageTimes",
]
