"""Which packages answer what an inspection asks."""

from dataclasses import replace

import pytest

from lineside.core import Box, Inspection, RefusedError, Region, Task, View
from lineside.edge.packages import check_compatible, check_machine, labels_of
from lineside.testing.packages import bare_manifest
from tests.models.conftest import package_parts

MANIFEST, _ = package_parts()
BOX = Box(x0_px=1, y0_px=1, x1_px=9, y1_px=9)


def stock(**more: object) -> Inspection:
    return Inspection(id="stock", camera="c", **more)  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize("labels", [("disc", "ring"), ("ring", "x", "disc")])
def test_what_says_no_more_than_is_asked_may_run(labels: tuple[str, ...]) -> None:
    check_compatible(MANIFEST, [stock(labels=labels)])


def test_regions_ask_with_their_label_or_their_classes() -> None:
    regions = (
        Region(id="a", box_px=BOX, label="disc"),
        Region(id="b", box_px=BOX, classes=("ring", "none")),
    )
    asked = stock(region=regions, view=View(width_px=160, height_px=120))
    assert asked.known_labels == {"disc", "ring", "none"}
    assert labels_of(MANIFEST) == ("disc", "ring")
    check_compatible(MANIFEST, [asked])


def test_an_inspection_without_labels_takes_any_and_one_elsewhere_is_not_judged() -> None:
    counted = bare_manifest("count", labels=("bolt",))
    check_compatible(counted, [Inspection(id="parts", camera="c", task=Task.COUNT)])
    check_compatible(MANIFEST, [Inspection(id="other", camera="c", labels=("blue",))])
    check_compatible(MANIFEST, [])


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
        check_compatible(MANIFEST, [asked])
    assert "plant file" in told.value.fix


def test_a_package_of_another_machine_is_refused_and_one_of_none_is_not() -> None:
    check_machine(MANIFEST, "linux/x86_64")
    both = replace(MANIFEST, targets=("linux/x86_64", "linux/aarch64"))
    check_machine(both, "linux/aarch64")
    with pytest.raises(RefusedError, match="built for linux/aarch64, this is linux/x86_64"):
        check_machine(replace(both, targets=("linux/aarch64",)), "linux/x86_64")
