"""How pictures are taken out of an open OpenCV capture."""

from typing import Any

from lineside.core import need
from lineside.links.shots import Grab, Pixels


def grab_from(capture: Any) -> Grab:  # noqa: ANN401  the library is optional
    """Takes the next picture as RGB; None where the capture has none any more."""
    cv2 = need("cv2", extra="edge")

    def grab() -> Pixels | None:
        good, image = capture.read()
        found: Pixels | None = cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if good else None
        return found

    return grab
