"""labelme: every kind of shape, flags as labels, pictures by their written paths."""

import base64
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lineside.core import InvalidError
from lineside.datasets import Marked, Part, load_source
from lineside.datasets.formats.labelme import looks_like_labelme
from lineside.datasets.formats.readers import SourceRequest, reader_for
from lineside.datasets.samples import Import
from lineside.datasets.trees import ArchiveTree, FolderTree
from lineside.vision import decode_picture, encode_png

Put = Callable[[Path, int], Path]
PART = np.zeros((3, 4, 3), np.uint8)
PART[1, 1:3] = 1


def shape(kind: str, *points: tuple[float, float], **others: object) -> dict[str, object]:
    return {"label": "dent", "points": points, "shape_type": kind, "group_id": None, **others}


def note(path: Path, *shapes: dict[str, object], **others: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document: dict[str, object] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": f"{path.stem}.png",
    }
    document |= {"imageData": "AAAA", "imageHeight": 16, "imageWidth": 24}
    path.write_text(json.dumps(document | others))


def mask_of(found: Import) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    digest = found.samples[0].mask_digest
    assert digest is not None
    return np.asarray(decode_picture(found.read_file(digest))[..., 0] > 127)


@pytest.mark.parametrize(
    ("drawn", "corners", "pixels"),
    [
        (shape("polygon", (2, 2), (6, 2), (6, 5), (2, 5)), (2, 2, 6, 5), 12),
        (shape("rectangle", (6, 5), (2, 2)), (2, 2, 6, 5), 0),
        (shape("circle", (10, 8), (10, 11)), (7, 5, 13, 11), 32),
        (shape("point", (3.5, 4)), (3.5, 4, 3.5, 4), 0),
        (shape("line", (1, 2), (5, 2)), (1, 2, 6, 3), 5),
        (shape("linestrip", (1, 2), (5, 2), (5, 6)), (1, 2, 6, 7), 9),
        (
            shape("mask", (4, 5), (7, 7), mask=base64.b64encode(encode_png(PART)).decode()),
            (5, 6, 7, 7),
            2,
        ),
        (shape("polygon", (-4, 2), (6, 2), (6, 90), (-4, 90)), (0, 2, 6, 16), 84),
    ],
    ids=lambda one: one["shape_type"] if isinstance(one, dict) else "",
)
def test_a_shape_marks_its_object_and_fills_its_pixels(
    *, tmp_path: Path, put: Put, drawn: dict[str, object], corners: tuple[float, ...], pixels: int
) -> None:
    put(tmp_path / "a.png", 1)
    note(tmp_path / "a.json", drawn)
    found = load_source(tmp_path)
    assert (found.format, found.skipped) == ("labelme", ())
    x0, y0, x1, y1 = corners
    (marked,) = found.samples[0].marked or ()
    assert (marked.label, found.samples[0].labels) == ("dent", ("dent",))
    assert (marked.x0_px, marked.y0_px, marked.x1_px, marked.y1_px) == pytest.approx(
        (x0, y0, x1, y1)
    )
    assert (int(mask_of(found).sum()) if pixels else found.samples[0].mask_digest or 0) == pixels


def test_pictures_are_found_by_their_written_paths_and_folders_say_the_parts(
    tmp_path: Path, put: Put
) -> None:
    put(tmp_path / "images" / "a.png", 1)
    put(tmp_path / "train" / "b.png", 2)
    put(tmp_path / "val" / "c.png", 3)
    put(tmp_path / "val" / "bare.png", 4)
    note(tmp_path / "labels" / "a.json", imagePath="..\\images\\a.png")
    note(tmp_path / "train" / "b.json", imagePath="C:\\work\\b.png")
    note(tmp_path / "val" / "c.json", imagePath="../../../c.png", imageWidth=None)
    found = load_source(tmp_path)
    assert [(one.name, one.split, one.marked) for one in found.samples] == [
        ("images/a.png", Part.OPEN, ()),
        ("train/b.png", Part.TRAIN, ()),
        ("val/c.png", Part.VALID, ()),
    ]
    assert [one.reason for one in found.skipped] == [
        "1 pictures have no JSON file, such as bare; left out"
    ]


def test_flags_are_labels_and_what_is_not_wanted_is_counted(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "a.png", 1)
    put(tmp_path / "b.png", 2)
    note(tmp_path / "a.json", flags={"scratch": True, "dirt": False})
    note(tmp_path / "b.json", shape("point", (1, 1), label="rust"), shape("point", (2, 2)))
    first, second = load_source(tmp_path).samples
    assert (first.labels, first.known, first.marked) == (("scratch",), ("dirt", "scratch"), None)
    assert second.labels == ("dent", "rust")
    found = load_source(tmp_path, labels=("dent", "dirt"))
    assert found.samples[1].marked == (Marked(label="dent", x0_px=2, y0_px=2, x1_px=2, y1_px=2),)
    assert sorted(one.reason for one in found.skipped) == [
        "1 shapes are of 'rust', which is not wanted",
        "1 shapes are of 'scratch', which is not wanted",
    ]


@pytest.mark.parametrize(
    ("drawn", "why"),
    [
        (shape("cuboid", (1, 1)), "shapes[1]: shape_type 'cuboid' is unknown. Known: polygon"),
        (shape("polygon", (1, 1), (2, 2)), "shapes[1]: 2 points where 3 to 100000 are expected"),
        (shape("point", (1e9, 1)), "a point at 1e+09, which lies on no picture"),
        (shape("point", (30, 1)), "a point outside the picture: 30 1"),
        (shape("rectangle", (30, 1), (40, 5)), "a shape without area on the picture"),
        (shape("circle", (1, 1), (1, 1)), "an ellipse of radius 0"),
        (shape("mask", (1, 1), (2, 2)), "a mask without its two points or its content"),
        (shape("mask", (1, 1), (2, 2), mask="?"), "a mask that is no base 64"),
        (shape("point", (1, 1), label=""), "a shape without label. Draw it again in labelme"),
        ({"label": "dent"}, "points"),
    ],
)
def test_a_shape_that_cannot_be_read_takes_its_picture_with_it(
    *, tmp_path: Path, put: Put, drawn: dict[str, object], why: str
) -> None:
    put(tmp_path / "a.png", 1)
    put(tmp_path / "b.png", 2)
    note(tmp_path / "a.json", shape("point", (1, 1)), drawn)
    note(tmp_path / "b.json")
    found = load_source(tmp_path)
    assert [one.name for one in found.samples] == ["b.png"]
    (skipped,) = found.skipped
    assert skipped.where == "a.json"
    assert why in skipped.reason


def test_a_file_without_a_picture_hides_no_picture_without_a_file(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "bare.png", 1)
    put(tmp_path / "a.png", 2)
    note(tmp_path / "a.json")
    note(tmp_path / "gone.json")
    reasons = [one.reason for one in load_source(tmp_path).skipped]
    assert "1 pictures have no JSON file, such as bare; left out" in reasons


def test_class_folders_stay_class_folders_with_a_file_of_shapes_in_one(
    tmp_path: Path, put: Put
) -> None:
    put(tmp_path / "good" / "a.png", 1)
    put(tmp_path / "bad" / "b.png", 2)
    note(tmp_path / "bad" / "b.json", shape("point", (1, 1)))
    assert load_source(tmp_path).format == "folders"
    assert [one.labels for one in load_source(tmp_path, format="labelme").samples] == [("dent",)]


def test_the_first_file_by_name_tells_the_format(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("z.json", "{}")
        archive.writestr("a.json", '{"shapes": []}')
    assert looks_like_labelme(ArchiveTree(tmp_path / "a.zip"))


@pytest.mark.parametrize(
    ("name", "begins", "mib", "word"),
    [
        ("a.json", b'{"images"', 129, "coco"),
        ("good/a.json", b'{"shapes"', 1025, "folders"),
        ("a.xml", b"<annotations>", 129, "cvat"),
        ("a.xml", b"<annotations>", 1025, "folders"),
    ],
)
def test_a_large_file_refuses_no_format_while_it_is_looked_for(
    *, tmp_path: Path, put: Put, name: str, begins: bytes, mib: int, word: str
) -> None:
    put(tmp_path / "good" / "a.png", 1)
    with (tmp_path / name).open("wb") as file:
        file.write(begins)
        file.truncate(mib << 20)
    assert reader_for(SourceRequest(tree=FolderTree(tmp_path)), "auto")[0] == word


def test_a_picture_of_another_size_or_none_is_reported(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "a.png", 1)
    note(tmp_path / "a.json", imageWidth=48)
    note(tmp_path / "gone.json")
    with pytest.raises(InvalidError, match="unknown"):
        load_source(tmp_path, format="labelme1")
    reasons = [one.reason for one in load_source(tmp_path).skipped]
    assert any("made for 48 x 16 pixels" in one for one in reasons)
    assert any("no such picture" in one for one in reasons)
