"""CVAT for images 1.1: every element, subsets as parts, hostile XML refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lineside.core import InvalidError
from lineside.datasets import Part, load_source
from lineside.datasets.formats import voc
from lineside.vision import decode_picture

Put = Callable[[Path, int], Path]
META = "<meta><task><labels>{}</labels></task></meta>".format(
    "".join(f"<label><name>{name}</name></label>" for name in ("dent", "rust"))
)


def image(*elements: str, name: str = "a.png", subset: str = "", width: int = 24) -> str:
    part = f' subset="{subset}"' if subset else ""
    head = f'<image id="0" name="{name}"{part} width="{width}" height="16">'
    return f"{head}{''.join(elements)}</image>"


def drawn(kind: str, **written: object) -> str:
    words = " ".join(f'{word}="{value}"' for word, value in written.items())
    return (
        f'<{kind} label="dent" occluded="0" {words}><attribute name="deep">1</attribute></{kind}>'
    )


def write(folder: Path, *images: str, name: str = "annotations.xml") -> Path:
    text = f"<annotations><version>1.1</version>{META}{''.join(images)}</annotations>"
    (folder / name).write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{text}')
    return folder


@pytest.mark.parametrize(
    ("element", "corners", "pixels"),
    [
        (drawn("box", xtl=2, ytl="2.50", xbr=6, ybr=5), [(2, 2.5, 6, 5)], 0),
        (drawn("box", xtl=4, ytl=6, xbr=12, ybr=8, rotation=90), [(7, 3, 9, 11)], 16),
        (drawn("polygon", points="2.00,2.00;6,2;6,5;2,5"), [(2, 2, 6, 5)], 12),
        (drawn("polyline", points="1,2;5,2;5,6"), [(1, 2, 6, 7)], 9),
        (drawn("points", points="1,2;5,2.5"), [(1, 2, 1, 2), (5, 2.5, 5, 2.5)], 0),
        (drawn("ellipse", cx=10, cy=8, rx=4, ry=2), [(6, 6, 14, 10)], 28),
        (
            drawn("mask", rle="1, 2, 1, 0, 3, 1", left=4, top=5, width=4, height=2),
            [(5, 5, 8, 7)],
            3,
        ),
    ],
)
def test_an_element_marks_its_objects_and_fills_its_pixels(
    *, tmp_path: Path, put: Put, element: str, corners: list[tuple[float, ...]], pixels: int
) -> None:
    put(tmp_path / "images" / "a.png", 1)
    found = load_source(write(tmp_path, image(element)))
    assert (found.format, found.skipped) == ("cvat", ())
    (sample,) = found.samples
    marks = [(one.x0_px, one.y0_px, one.x1_px, one.y1_px) for one in sample.marked or ()]
    assert marks == [pytest.approx(one) for one in corners]
    assert (sample.labels, sample.known) == (("dent",), ("dent", "rust"))
    count = 0
    if sample.mask_digest is not None:
        count = int((decode_picture(found.read_file(sample.mask_digest))[..., 0] > 127).sum())
    assert count == pixels


def test_subsets_are_parts_tags_labels_and_an_empty_image_shows_nothing(
    tmp_path: Path, put: Put
) -> None:
    put(tmp_path / "images" / "Train" / "a.png", 1)
    put(tmp_path / "images" / "default" / "line 1" / "b.png", 2)
    put(tmp_path / "c.png", 3)
    tag = '<tag label="rust" source="manual"></tag>'
    write(
        tmp_path,
        image(tag, subset="Train"),
        image(name="line 1/b.png", subset="default"),
        image(drawn("points", points="1,1"), tag, name="c.png", subset="Validation"),
    )
    first, second, third = load_source(tmp_path).samples
    assert (first.labels, first.split, first.marked) == (("rust",), Part.TRAIN, None)
    assert (second.labels, second.split, second.marked) == ((), Part.OPEN, ())
    assert (third.labels, third.split) == (("dent", "rust"), Part.VALID)
    found = load_source(tmp_path / "annotations.xml", labels=("dent",))
    assert [one.known for one in found.samples] == [("dent",)] * 3
    assert [one.reason for one in found.skipped] == ["2 shapes are of 'rust', which is not wanted"]


@pytest.mark.parametrize(
    ("spoilt", "why"),
    [
        (image(drawn("cuboid", xtl1=1)), "cuboid (1 of this image): 'cuboid' is not read. Known:"),
        (image(drawn("box", xtl=2, ytl=2, xbr=2, ybr=5)), "a shape without area on the picture"),
        (image(drawn("box", xtl=2, ytl=5, xbr=2, ybr=5)), "a shape without area on the picture"),
        (image(drawn("box", xtl=2)), "ytl is missing. Draw it again in CVAT"),
        (image(drawn("polygon", points="1,2;3;4,5")), "points that are no pairs"),
        (image(drawn("polygon", points="1,2;nan,3;4,5")), "'nan' is not a number"),
        (image(drawn("mask", rle="1", left=0, top=0, width=2, height=2)), "do not fill"),
        (image(drawn("mask", rle="1,1,0,0,0,0,0,0,2", left=0, top=0, width=2, height=2)), "fill"),
        (image(drawn("points", points="1,2;25,2")), "a point outside the picture: 25 2"),
        (image(drawn("mask", rle="1", left=0, top=0, width="9" * 9, height=2)), "a mask of 999"),
        (image(drawn("mask", rle="4", left=0, top=0, width=2, height=2)), "without a pixel"),
        (image('<box xtl="1"/>'), "a shape without label"),
        (image(width=48), "made for 48 x 16"),
        (image(width=0), "a picture of 0 x 16"),
        (image(name="none.png"), "no such picture"),
        (image(name=""), "an image without name"),
        (image(name="../a.png"), "leads out"),
    ],
)
def test_a_shape_that_cannot_be_read_takes_its_picture_with_it(
    *, tmp_path: Path, put: Put, spoilt: str, why: str
) -> None:
    put(tmp_path / "a.png", 1)
    put(tmp_path / "b.png", 2)
    write(tmp_path, spoilt, image(name="b.png"))
    found = load_source(tmp_path / "annotations.xml")
    assert [one.name for one in found.samples] == ["b.png"]
    (skipped,) = found.skipped
    assert skipped.where.startswith("annotations.xml: image ")
    assert why in skipped.reason


def test_all_files_of_cvat_are_read_in_order_and_pictures_of_none_counted(
    tmp_path: Path, put: Put
) -> None:
    for seed, name in enumerate(("a.png", "images/default/b.png", "images/bare.png", "c/a.png")):
        put(tmp_path / name, seed)
    write(tmp_path, image(drawn("points", points="1,1")), name="2.xml")
    write(tmp_path, image(name="b.png"), name="10.xml")
    (tmp_path / "0.xml").write_text("<other/>")
    found = load_source(tmp_path)
    assert found.format == "cvat"
    assert [one.name for one in found.samples] == ["images/default/b.png", "a.png"]
    assert [one.reason for one in found.skipped] == [
        "2 pictures have no image element, such as a; left out"
    ]


def test_very_many_elements_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voc, "_MOST_NODES", 20)
    with pytest.raises(InvalidError, match="more than 20 elements"):
        load_source(write(tmp_path, image(*["<a/>"] * 20)))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('<!DOCTYPE a [<!ENTITY b "bb">]><annotations>&b;</annotations>', "document type"),
        ("<annotations><track/></annotations>", "tracks of a video"),
        ("<annotations><image>", "not XML"),
        ("<annotation/>", "<annotation> where the images of CVAT are expected"),
    ],
)
def test_hostile_and_other_documents_are_refused(*, tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "annotations.xml").write_text(text)
    with pytest.raises(InvalidError, match=why):
        load_source(tmp_path / "annotations.xml")
