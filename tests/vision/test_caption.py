"""Red text on a picture, where it was and as large as it was."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.vision.draw import draw_caption

RED = np.array([255, 0, 0])


def written(height: int, width: int, *, text: str = "Google 97%") -> NDArray[np.bool_]:
    """Where the text stands."""
    grey = np.full((height, width, 3), 128, np.uint8)
    drawn = draw_caption(grey, text)
    assert drawn.shape == grey.shape
    assert (grey == 128).all()  # a copy was drawn on
    found: NDArray[np.bool_] = (drawn == RED).all(axis=2)
    return found


def outline(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def test_on_full_hd_it_stands_where_the_reference_put_it() -> None:
    left, top, right, bottom = outline(written(1080, 1920))
    assert 10 <= left <= 40
    assert 190 <= bottom <= 250  # the baseline is at 200; g hangs below it
    assert 80 <= top <= 110  # capitals of the font are some 21 px high at scale 1
    assert 700 < right < 1200


@pytest.mark.parametrize(("height", "width"), [(480, 854), (720, 1280), (2160, 3840)])
def test_it_grows_and_shrinks_with_the_picture(height: int, width: int) -> None:
    whole = np.array(outline(written(1080, 1920))) / 1080
    other = np.array(outline(written(height, width))) / height
    assert np.abs(whole - other).max() < 0.012


@pytest.mark.parametrize("size", [(480, 640), (120, 160), (480, 200), (8, 8), (1, 1)])
def test_long_text_stays_inside_a_narrow_picture(size: tuple[int, int]) -> None:
    height, width = size
    mask = written(height, width, text="Running Science 100%")
    if height > 100:
        left, _, right, _ = outline(mask)
        assert left >= 0
        assert right < width - 1


def test_letters_that_the_font_lacks_are_marked() -> None:
    assert (written(480, 854, text="Füße") == written(480, 854, text="F??e")).all()
