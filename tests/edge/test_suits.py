"""Which packages answer what an inspection asks."""

from dataclasses import replace

import pytest

from lineside.core import Box, Inspection, Plant, RefusedError, Region, Task, View
from lineside.core.drivers import SecretUrl
from lineside.core.plant import Camera, Line
from lineside.edge.packages import check_machine, loading
from lineside.models import Manifest, build_package
from lineside.models.manifest import check_fits, fitting, labels_of
from lineside.testing import FakeClock
from lineside.testing.bare import bare_manifest
from tests.models.conftest import package_parts

MANIFEST, _ = package_parts()
BOX = Box(x0_px=1, y0_px=1, x1_px=9, y1_px=9)


def stock(**more: object) -> Inspection:
    return Inspection(id="stock", camera="c", **more)  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize("labels", [("disc", "ring"), ("ring", "x", "disc")])
def test_what_says_no_more_than_is_asked_may_run(labels: tuple[str, ...]) -> None:
    check_fits(MANIFEST, stock(labels=labels))


def test_regions_ask_with_their_label_or_their_classes() -> None:
    regions = (
        Region(id="a", box_px=BOX, label="disc"),
        Region(id="b", box_px=BOX, classes=("ring", "none")),
    )
    asked = stock(region=regions, view=View(width_px=160, height_px=120))
    assert asked.known_labels == {"disc", "ring", "none"}
    assert labels_of(MANIFEST) == ("disc", "ring")
    check_fits(MANIFEST, asked)


def test_an_inspection_without_labels_takes_any() -> None:
    counted = bare_manifest("count", labels=("bolt",))
    check_fits(counted, Inspection(id="parts", camera="c", task=Task.COUNT))
    check_fits(counted, Inspection(id="line-2", camera="d", task=Task.COUNT))


def free() -> Manifest:
    """The same package, registered to no reference view."""
    return replace(MANIFEST, prepare=replace(MANIFEST.prepare, view=None))


def regions(shift_px: float = 0.0) -> tuple[Region, ...]:
    label = {rule.region: rule.label for rule in MANIFEST.rules}
    found = []
    for crop in MANIFEST.prepare.crops:
        box = crop.region_px or crop.box_px
        box = replace(box, x0_px=box.x0_px + shift_px)
        found.append(Region(id=crop.region, box_px=box, label=label[crop.region]))
    return tuple(found)


def test_a_second_station_alike_takes_the_package_and_one_laid_out_otherwise_does_not() -> None:
    unregistered = View(width_px=160, height_px=120, register=False)
    alike = Inspection(id="rear", camera="d", region=regions(), view=unregistered)
    check_fits(free(), alike)
    other = replace(alike, region=regions(shift_px=2.0))
    with pytest.raises(RefusedError, match="of 'rear' region 'top' is elsewhere"):
        check_fits(free(), other)
    besides = Region(id="edge", box_px=BOX, classes=("ring", "none"))
    more = replace(alike, region=(*regions(), besides))
    with pytest.raises(RefusedError, match="of 'rear' region 'edge' is not looked at"):
        check_fits(free(), more)
    registered = replace(alike, view=replace(unregistered, register=True))
    check_fits(MANIFEST, registered)
    with pytest.raises(RefusedError, match="to a view of 160 x 120, those of the package not"):
        check_fits(free(), registered)
    with pytest.raises(RefusedError, match="not registered, those of the package registered to"):
        check_fits(MANIFEST, alike)
    larger = replace(registered, view=View(width_px=320, height_px=240))
    with pytest.raises(RefusedError, match="registered to a view of 320 x 240, those of the pac"):
        check_fits(MANIFEST, larger)


def test_a_device_loads_a_registered_package_for_a_second_camera() -> None:
    rear = Inspection(id="rear", camera="d", region=regions(), view=MANIFEST.prepare.view)
    load = loading(FakeClock(), inspections=(rear,))
    assert load(build_package(*package_parts()), "rear").inspection == "rear"


@pytest.mark.parametrize("asked", [{"expected": ("bolt", "nut")}, {"reject": ("nut",)}])
def test_a_package_that_cannot_say_what_rejects_a_part_is_refused_elsewhere(
    asked: dict[str, tuple[str, ...]],
) -> None:
    rear = Inspection(id="rear", camera="d", labels=("bolt", "nut"), **asked)  # type: ignore[arg-type]  # by name
    known = bare_manifest("multilabel", labels=("bolt",))
    with pytest.raises(RefusedError, match="does not say 'nut', by which inspection 'rear'"):
        check_fits(replace(known, inspection="front"), rear)
    check_fits(replace(known, inspection="rear"), rear)


def test_inspections_that_a_package_can_answer_for_are_those_of_its_task_and_labels() -> None:
    counted = bare_manifest("count", labels=("bolt",))
    asked = (
        Inspection(id="parts", camera="c", task=Task.COUNT, labels=("bolt", "nut")),
        Inspection(id="line-2", camera="c", task=Task.COUNT),
        Inspection(id="nuts", camera="c", task=Task.COUNT, labels=("nut",)),
        Inspection(id="boxes", camera="c", task=Task.DETECT, labels=("bolt",)),
    )
    plant = Plant(
        schema="lineside.plant/1",
        site="hall",
        line=(Line(id="l", name="L"),),
        camera=(Camera(id="c", line="l", source=SecretUrl("mqtt:c")),),
        inspection=asked,
    )
    assert fitting(counted, plant) == ("parts", "line-2")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (stock(labels=("blue",)), "'disc', 'ring', which inspection 'stock' does not have"),
        (stock(labels=("disc",)), "says 'ring', which"),
        (stock(labels=("disc", "ring"), task=Task.CLASSIFY), "asks for classify"),
        (stock(task=Task.COUNT), "answers multilabel, inspection 'stock' asks for count"),
    ],
)
def test_another_task_and_other_labels_are_refused(asked: Inspection, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as told:
        check_fits(MANIFEST, asked)
    assert "plant file" in told.value.fix


def test_a_package_of_another_machine_is_refused_and_one_of_none_is_not() -> None:
    check_machine(MANIFEST, "linux/x86_64")
    both = replace(MANIFEST, targets=("linux/x86_64", "linux/aarch64"))
    check_machine(both, "linux/aarch64")
    with pytest.raises(RefusedError, match="built for linux/aarch64, this is linux/x86_64"):
        check_machine(replace(both, targets=("linux/aarch64",)), "linux/x86_64")
