"""OpenCV's video capture, which writes nothing on standard error.

OpenCV and the FFmpeg inside it print each damaged frame and each failed connection by themselves,
past every log. What went wrong is said by whoever reads the capture.
"""

import os
from functools import cache
from typing import Any

from lineside.core import need

_VARIABLE = "OPENCV_FFMPEG_LOGLEVEL"
_QUIET = "-8"  # AV_LOG_QUIET of FFmpeg


def new_capture() -> Any:  # noqa: ANN401  cv2.VideoCapture carries no type
    """Return a ``cv2.VideoCapture`` that is not opened yet; the caller releases it."""
    _silence()
    return need("cv2", extra="edge").VideoCapture()


@cache
def _silence() -> None:
    """Turn off what OpenCV and FFmpeg print in this process."""
    cv2 = need("cv2", extra="edge")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    # OpenCV reads this variable once, at the first opening by FFmpeg; there is no call for it.
    if _VARIABLE not in os.environ:  # noqa: TID251
        os.environ[_VARIABLE] = _QUIET  # noqa: TID251
        cv2.VideoCapture("", cv2.CAP_FFMPEG).release()
        del os.environ[_VARIABLE]  # noqa: TID251
