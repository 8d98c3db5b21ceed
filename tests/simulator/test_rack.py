from pathlib import Path

import numpy as np
import pytest

from lineside.core import load_plant
from lineside.core.factory import SLOTS
from lineside.simulator import slot_boxes
from lineside.simulator.warehouse.scene import (
    FINE,
    HEIGHT_PX,
    SEATS,
    WIDTH_PX,
    Brush,
    Content,
    Patch,
    Scene,
    Seat,
    disc_box,
    project,
)

EXAMPLES = Path(__file__).parents[2] / "examples" / "warehouse"


def test_the_rack_lies_where_the_real_one_was_measured() -> None:
    fittings = project([(0, 0, 0), (110, 80, 0), (220, 160, 0), (330, 0, 0), (330, 160, 0)])
    measured = [(30, 45), (96, 116), (171, 193), (277, 79), (259, 224)]
    assert np.abs(fittings - measured).max() < 2.5


def test_the_plant_files_regions_are_the_simulated_slots() -> None:
    inspection = load_plant(EXAMPLES / "plant.toml").find_inspection("stock")
    assert {region.id: region.box_px for region in inspection.region} == slot_boxes()
    assert inspection.view is not None
    assert (inspection.view.width_px, inspection.view.height_px) == (WIDTH_PX, HEIGHT_PX)


@pytest.mark.parametrize("seat", SEATS, ids=SLOTS)
def test_a_region_holds_its_disc_with_room_and_no_other(seat: Seat) -> None:
    disc, region = disc_box(seat), slot_boxes()[seat.slot]
    assert region.x0_px + 4 < disc.x0_px < disc.x1_px < region.x1_px - 4
    assert region.y0_px + 4 < disc.y0_px < disc.y1_px < region.y1_px - 4
    for other in SEATS:
        if other is not seat:
            far = disc_box(other)
            beside = far.x0_px >= region.x1_px or far.x1_px <= region.x0_px
            assert beside or far.y0_px >= region.y1_px or far.y1_px <= region.y0_px


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(np.random.default_rng(1))


def changed(one: Patch, other: Patch) -> tuple[float, float, float, float]:
    """The box, in pixels of the view, where two patches of one slot differ."""
    rows, columns = np.nonzero((one.pixels != other.pixels).any(axis=2))
    x, y = one.x0_px, one.y0_px
    edges = (columns.min() / FINE, rows.min() / FINE, columns.max() / FINE, rows.max() / FINE)
    return x + edges[0], y + edges[1], x + edges[2], y + edges[3]


@pytest.mark.parametrize("seat", SEATS, ids=SLOTS)
@pytest.mark.parametrize("colour", [Content.BLUE, Content.RED, Content.WHITE])
def test_a_painted_disc_lies_inside_its_region(scene: Scene, seat: Seat, colour: Content) -> None:
    x0, y0, x1, y1 = changed(scene.slot(seat, colour), scene.slot(seat, Content.EMPTY))
    region = slot_boxes()[seat.slot]
    assert region.x0_px <= x0 < x1 <= region.x1_px
    assert region.y0_px <= y0 < y1 <= region.y1_px
    assert x1 - x0 > 16
    assert y1 - y0 > 7


@pytest.mark.parametrize("seat", SEATS, ids=SLOTS)
def test_a_patch_holds_the_whole_tray(scene: Scene, seat: Seat) -> None:
    patch = scene.slot(seat, Content.EMPTY)
    x0, y0, x1, y1 = changed(patch, scene.slot(seat, Content.BARE))
    height, width = (side / FINE for side in patch.pixels.shape[:2])
    assert x0 > patch.x0_px
    assert x1 < patch.x0_px + width - 1 / FINE
    assert y0 > patch.y0_px
    assert y1 < patch.y0_px + height - 1 / FINE


def test_a_brush_paints_where_the_view_says() -> None:
    from lineside.simulator.warehouse.scene import Paint

    brush = Brush(x0_px=10, y0_px=20, width_px=8, height_px=8)
    square = np.array([[12, 22], [14, 22], [14, 24], [12, 24]], dtype=np.float64)
    brush.polygon(square - 0.5, Paint(red=10, green=20, blue=30, shine=40))
    rows, columns = np.nonzero(brush.cover)
    assert (rows.min(), columns.min()) == (2 * FINE, 2 * FINE)
    assert (rows.max(), columns.max()) == (4 * FINE, 4 * FINE)
    assert tuple(brush.pixels[2 * FINE, 2 * FINE]) == (10, 20, 30, 40)
