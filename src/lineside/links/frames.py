"""A picture as a message of the bus."""

from lineside.core import CameraMessage


class FrameMessage(CameraMessage, frozen=True, kw_only=True, omit_defaults=True):
    """The factory's camera message with the two fields lineside adds."""

    sequence: int = 0
    part: str = ""
