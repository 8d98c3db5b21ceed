"""Registration on real pictures of two places, and on thousands of other things."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import Box, InvalidError, View
from lineside.testing.pictures import lit, shifted
from lineside.vision import Registrar, decode_picture, encode_jpeg
from lineside.vision.geometry import apply
from lineside.vision.registration import CameraRegistrar

pytestmark = pytest.mark.data

BOXES = (
    Box(x0_px=51, y0_px=34, x1_px=83, y1_px=53),
    Box(x0_px=57, y0_px=85, x1_px=89, y1_px=104),
    Box(x0_px=61, y0_px=136, x1_px=93, y1_px=155),
)
MARKS = np.array([[67.0, 43.0], [73.0, 94.0], [77.0, 145.0]])
PICTURES = (".jpg", ".jpeg", ".png")


def pictures_under(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in PICTURES)


def read(path: Path) -> NDArray[np.uint8]:
    return decode_picture(path.read_bytes())


@pytest.fixture(scope="module")
def rack(data_folder: Path) -> dict[str, NDArray[np.uint8]]:
    return {path.name: read(path) for path in pictures_under(data_folder / "smart-factory/imgs")}


@pytest.fixture(scope="module")
def rack_registrar(rack: dict[str, NDArray[np.uint8]]) -> Registrar:
    view = View(width_px=320, height_px=240)
    return Registrar(view, rack["no pieces - light.jpeg"], boxes=BOXES)


def test_pictures_of_the_training_lights_lie_where_the_reference_lies(
    rack: dict[str, NDArray[np.uint8]], rack_registrar: Registrar
) -> None:
    for name, image in rack.items():
        if " - " not in name:
            continue
        answer = rack_registrar.register(image)
        assert answer.matrix is not None, name
        assert np.abs(apply(answer.matrix, MARKS) - MARKS).max() < 0.5, name


def test_pictures_after_the_camera_was_moved_are_found_again(
    rack: dict[str, NDArray[np.uint8]], rack_registrar: Registrar
) -> None:
    later = [image for name, image in rack.items() if " - " not in name]
    assert len(later) == 8
    for image in later:
        figures = rack_registrar.register(image).figures
        assert figures.state == "aligned"
        assert figures.dx_px == pytest.approx(8, abs=1.5)
        assert figures.dy_px == pytest.approx(-17.5, abs=2)
        assert 0.2 < figures.rotation_deg < 0.7
        assert 1.004 < figures.scale < 1.014


@pytest.mark.slow
def test_the_rack_is_found_under_shift_light_and_compression(
    rack: dict[str, NDArray[np.uint8]], rack_registrar: Registrar
) -> None:
    rng = np.random.default_rng(7)
    for name, image in rack.items():
        before = rack_registrar.register(image)
        for _ in range(8):
            dx, dy = rng.uniform(-20, 20, 2)
            picture = lit(shifted(image, dx_px=dx, dy_px=dy), gain=float(rng.uniform(0.7, 1.3)))
            after = rack_registrar.register(decode_picture(encode_jpeg(picture, quality=50)))
            assert after.matrix is not None, (name, dx, dy, after.figures.reason)
            assert before.matrix is not None
            wanted = apply(before.matrix, MARKS) + np.array([dx, dy])
            assert np.abs(apply(after.matrix, MARKS) - wanted).max() < 1.0, (name, dx, dy)


def test_pieces_that_come_and_go_leave_the_camera_standing_still(
    rack: dict[str, NDArray[np.uint8]], rack_registrar: Registrar
) -> None:
    for light in (" - light", " - dark"):
        camera = CameraRegistrar(rack_registrar)
        states = [
            camera.register(image).figures.state for name, image in rack.items() if light in name
        ]
        assert states == ["aligned"] + ["still"] * 7


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_plain_wooden_board_is_found_in_97_pictures(data_folder: Path) -> None:
    """Turned up to 15 degrees, shifted up to 100 px, in sun and shade: at most 1 % lost."""
    paths = list(pictures_under(data_folder / "screw-presence/images"))
    images = [read(path) for path in paths]
    lost = []
    for reference in images[::32]:
        view = View(width_px=reference.shape[1], height_px=reference.shape[0])
        registrar = Registrar(view, reference)
        for path, image in zip(paths, images, strict=True):
            if registrar.register(image).matrix is None:
                lost.append(path.name)
    assert len(lost) <= 0.01 * len(images) * len(images[::32]), lost


def foreign(data_folder: Path, own: str, *, every: int) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    paths = (p for p in pictures_under(data_folder) if p.relative_to(data_folder).parts[0] != own)
    for path in islice(paths, None, None, every):
        try:
            yield path, read(path)
        except InvalidError:
            continue


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("own", "every"), [("smart-factory", 7), ("screw-presence", 29)])
def test_no_picture_of_anything_else_is_taken_for_the_view(
    *, own: str, every: int, data_folder: Path
) -> None:
    reference = read(next(pictures_under(data_folder / own)))
    view = View(width_px=reference.shape[1], height_px=reference.shape[0])
    registrar = Registrar(view, reference)
    taken, count = [], 0
    for path, image in foreign(data_folder, own, every=every):
        count += 1
        if registrar.register(image).matrix is not None:
            taken.append(path.name)
    assert count > 2300 / every  # all of them: benchmarks/real_pictures.py
    assert taken == []
