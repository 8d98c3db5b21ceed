"""Plates under a camera, for tutorials and the first day of a new user."""

from collections.abc import Sequence
from itertools import islice

import cv2

from lineside.simulator.surface import encode_part, parts, render_part
from lineside.testing.links import wait_until

FPS = 8


class Plates:
    """What lies under a camera of ``FPS``: plates of one kind, a new one every 0.5 s.

    Attributes:
        good, bad: as JPEG.
        below: those that lie there.
    """

    def __init__(self, count: int = 24) -> None:
        plates = [render_part(one).picture for one in islice(parts(3, faulty_share=0), count)]
        self.good = [encode_part(plate) for plate in plates]
        for plate in plates:
            cv2.circle(plate, (150, 110), 24, (25, 20, 18), -1)
        self.bad = [encode_part(plate) for plate in plates]
        self.below: Sequence[bytes] = self.good
        self._count = 0

    def lay(self, plates: Sequence[bytes]) -> None:
        """Lay other plates, and wait until the stream has shown them for a second."""
        self.below, since = plates, self._count
        wait_until(lambda: self._count > since + FPS)

    def picture(self) -> bytes:
        self._count += 1
        return self.below[self._count * 2 // FPS % len(self.below)]
