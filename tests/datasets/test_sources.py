from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import (
    Box,
    ConflictError,
    Inspection,
    InvalidError,
    NotFoundError,
    Region,
    View,
    digest_of,
)
from lineside.datasets import Marked, Part, Sample, label_names, load_source, shows_defect

Put = Callable[[Path, int], Path]
COLOURS = ("blue", "red", "white")


def test_pictures_are_found_beside_the_list_and_in_direct_sub_folders(
    tmp_path: Path, put: Put
) -> None:
    put(tmp_path / "a.png", 1)
    put(tmp_path / "imgs" / "b, c.png", 2)
    put(tmp_path / "imgs" / "deep" / "d.png", 3)
    (tmp_path / "train.lst").write_text(
        "1\t1\t0\t0\ta.png\n2\t0\t1\t0\tb, c.png\n3\t0\t0\t1\td.png"
    )
    loaded = load_source(tmp_path / "train.lst", labels=COLOURS)
    assert [sample.name for sample in loaded.samples] == ["a.png", "b, c.png"]
    assert "d.png: no such picture" in loaded.skipped[0].reason
    assert loaded.skipped[0].where == "train.lst:3"


def test_a_folder_of_their_own_can_be_named(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "elsewhere" / "a.png", 1)
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "all.lst").write_text("1\t1\t0\t0\ta.png")
    assert load_source(lists, labels=COLOURS).samples == ()
    loaded = load_source(lists, labels=COLOURS, images=tmp_path / "elsewhere")
    assert loaded.samples[0].split is Part.OPEN


def test_a_folders_lists_are_read_together_and_their_names_say_the_part(
    tmp_path: Path, put: Put
) -> None:
    put(tmp_path / "a.png", 1)
    put(tmp_path / "b.png", 2)
    (tmp_path / "rack_train.lst").write_text("1\t1\t0\t0\ta.png")
    (tmp_path / "rack_valid.lst").write_text("2\t1\t0\t0\tb.png")
    loaded = load_source(tmp_path, labels=COLOURS)
    assert [sample.split for sample in loaded.samples] == [Part.TRAIN, Part.VALID]


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "imgs/../../secret.png"])
def test_a_name_never_leads_out_of_the_folder(*, tmp_path: Path, put: Put, name: str) -> None:
    put(tmp_path / "secret.png", 1)
    inside = tmp_path / "data"
    inside.mkdir()
    (inside / "all.lst").write_text(f"1\t1\t0\t0\t{name}")
    loaded = load_source(inside, labels=COLOURS)
    assert loaded.samples == ()
    assert "leads out of the folder" in loaded.skipped[0].reason


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path, put: Put) -> None:
    secret = put(tmp_path / "secret.png", 1)
    inside = tmp_path / "data"
    inside.mkdir()
    (inside / "link.png").symlink_to(secret)
    (inside / "all.lst").write_text("1\t1\t0\t0\tlink.png")
    assert "leads out" in load_source(inside, labels=COLOURS).skipped[0].reason


def test_what_is_no_picture_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"GIF89a")
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "labels.csv").write_text("file,label\na.png,x\nb.png,x\n")
    loaded = load_source(tmp_path)
    assert loaded.samples == ()
    assert [note.where for note in loaded.skipped] == ["labels.csv:2", "labels.csv:3"]


def test_the_same_picture_twice_is_one_sample_and_is_reported(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "a.png", 1)
    put(tmp_path / "b.png", 1)
    (tmp_path / "labels.csv").write_text("file,label\na.png,blue;red\nb.png,blue;white\n")
    loaded = load_source(tmp_path, labels=COLOURS)
    (sample,) = loaded.samples
    assert sample.labels == ("blue",)
    assert sample.known == ("blue",)
    assert "same picture as a.png" in loaded.skipped[0].reason
    assert "disagree on red, white" in loaded.skipped[0].reason


OVER = "<object><name>dent</name>{}</object>".format(
    "<bndbox><xmin>{}</xmin><ymin>3</ymin><xmax>{}</xmax><ymax>9</ymax></bndbox>"
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("boxes.csv", "file,x1,y1,x2,y2,type\na.png,{},2,{},9,dent\n"),
        ("Annotations/a.xml", f"<annotation>{OVER}</annotation>"),
    ],
)
def test_a_box_ends_at_the_edge_of_its_picture_and_none_lies_outside(
    *, tmp_path: Path, put: Put, name: str, text: str
) -> None:
    put(tmp_path / "a.png", 1)
    table = tmp_path / name
    table.parent.mkdir(exist_ok=True)
    if name == "boxes.csv":
        (tmp_path / "labels.csv").write_text("file,label\na.png,\n")
    table.write_text(text.format(20, 24.4))
    ((mark,),) = [sample.marked or () for sample in load_source(tmp_path).samples]
    assert (mark.x1_px, mark.y1_px) == (24, 9)
    table.write_text(text.format(26, 30))
    outside = load_source(tmp_path)
    assert outside.samples == ()
    assert "a shape without area on the picture" in outside.skipped[0].reason


def test_class_folders_label_their_pictures(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "images" / "dent" / "1.png", 1)
    put(tmp_path / "images" / "good" / "2.png", 2)
    loaded = load_source(tmp_path)
    assert loaded.format == "folders"
    assert [(s.name, s.labels, s.known) for s in loaded.samples] == [
        ("images/dent/1.png", ("dent",), ("dent", "good")),
        ("images/good/2.png", ("good",), ("dent", "good")),
    ]


def test_pictures_outside_class_folders_and_objects_without_a_row_are_reported(
    tmp_path: Path, put: Put
) -> None:
    put(tmp_path / "dent" / "1.png", 1)
    put(tmp_path / "1.png", 2)
    put(tmp_path / "train" / "2.png", 3)
    (tmp_path / "boxes.csv").write_text("file,x1,y1,x2,y2,type\ndint/1.png,1,1,5,5,dent\n")
    assert [note.reason for note in load_source(tmp_path).skipped] == [
        "2 pictures lie in no class folder, such as 1.png; left out",
        "1 files have objects and no row that was read, such as dint/1.png",
    ]
    (tmp_path / "train.csv").write_text("file,label\ndent/1.png,dent\n")
    assert load_source(tmp_path / "train.csv").skipped == ()


@pytest.mark.parametrize(
    ("name", "header", "line", "reason"),
    [
        ("boxes.csv", "file,x1,y1,x2,y2,type", "1,1,5,x,dent", "'x' is not a number"),
        ("boxes.csv", "file,x1,y1,x2,y2,type", "1,1,1,5,dent", "a box without area: 1 1 1 5"),
        ("boxes.csv", "file,x1,y1,x2,y2,type", "1,1,5,5", "no file or no type"),
        ("boxes.csv", "file,x1,y1,x2,y2,type", "1,5,1,5,5,dent", "more cells than the header has"),
        ("points.csv", "file,x,y,type", "1,,dent", "'' is not a number"),
    ],
)
def test_a_line_on_an_object_that_cannot_be_read_takes_its_picture_with_it(
    *, tmp_path: Path, put: Put, name: str, header: str, line: str, reason: str
) -> None:
    put(tmp_path / "dent" / "1.png", 1)
    put(tmp_path / "dent" / "2.png", 2)
    (tmp_path / name).write_text(f"{header}\ndent/1.png,{line}\n,1\nnone.png,{line}\n")
    loaded = load_source(tmp_path)
    assert [sample.name for sample in loaded.samples] == ["dent/2.png"]
    assert [(note.where, note.reason) for note in loaded.skipped] == [
        ("dent/1.png", f"{name}:2: {reason}. Correct the line, or delete it."),
        (f"{name}:3", "no file or no type"),
        (str(tmp_path), "1 files have objects and no row that was read, such as none.png"),
    ]


def test_two_spellings_of_an_accent_are_one_name(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "Mu\u0308ller" / "u\u0308.png", 1)
    table = "file,x1,y1,x2,y2,type\nM\u00fcller/\u00fc.png,1,1,5,5,dent\n"
    (tmp_path / "boxes.csv").write_text(table)
    found = load_source(tmp_path, labels=["M\u00fcller", "good"])
    assert found.skipped == ()
    assert [(one.labels, len(one.marked or ())) for one in found.samples] == [(("M\u00fcller",), 1)]


def test_part_folders_above_the_classes_declare_the_split(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "train" / "dent" / "1.png", 1)
    put(tmp_path / "valid" / "dent" / "2.png", 2)
    put(tmp_path / "valid" / "rust" / "3.png", 3)
    loaded = load_source(tmp_path, labels=("dent", "good"))
    assert [sample.split for sample in loaded.samples] == [Part.TRAIN, Part.VALID]
    assert "rust" in loaded.skipped[0].reason


@pytest.mark.parametrize("made", ["nothing.lst", "empty", "text.txt"])
def test_what_is_no_source_is_refused_with_the_way_to_mend_it(tmp_path: Path, made: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises((NotFoundError, InvalidError)) as caught:
        load_source(tmp_path / made)
    assert caught.value.fix


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="format 'xls'"):
        load_source(tmp_path, format="xls")


def test_a_picture_that_changed_since_is_a_conflict(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "a.png", 1)
    (tmp_path / "labels.csv").write_text("file,label\na.png,x\n")
    loaded = load_source(tmp_path)
    put(tmp_path / "a.png", 2)
    with pytest.raises(ConflictError):
        loaded.read(loaded.samples[0])


def test_an_inspections_names_follow_its_regions() -> None:
    box = Box(x0_px=0, y0_px=0, x1_px=8, y1_px=8)
    inspection = Inspection(
        id="stock",
        camera="rack",
        view=View(width_px=32, height_px=32),
        region=(
            Region(id="top", box_px=box, label="blue"),
            Region(id="A1", box_px=box, classes=("empty", "red")),
        ),
    )
    assert label_names(inspection) == ("blue", "A1/empty", "A1/red")


CLEAN, SET = np.zeros((3, 3), np.bool_), np.eye(3, dtype=np.bool_)


@pytest.mark.parametrize(
    ("known", "mask", "good", "defective"),
    [
        ({}, None, (), None),
        ({}, CLEAN, (), False),
        ({}, SET, (), True),
        ({"labels": ("Good",)}, None, (), False),
        ({"labels": ("functional",)}, CLEAN, (), False),
        ({"labels": ("good",)}, SET, (), True),
        ({"labels": ("crack",)}, CLEAN, (), True),
        ({"labels": ("good", "crack")}, None, (), True),
        ({"labels": ("i.O.",)}, None, (), True),
        ({"labels": ("i.O.",)}, None, ("i.O.",), False),
        ({"labels": ("good",)}, None, ("i.O.",), True),
        ({"known": ("crack",)}, None, (), False),
        ({"marked": ()}, None, (), False),
        ({"marked": (), "labels": ("crack",)}, None, (), True),
        ({"marked": (Marked(label="dent", x0_px=1, y0_px=1, x1_px=2, y1_px=2),)}, None, (), True),
    ],
)
def test_a_defect_is_drawn_marked_or_a_label_that_is_not_good(
    known: dict[str, Any],
    mask: NDArray[np.bool_] | None,
    good: tuple[str, ...],
    defective: bool | None,  # noqa: FBT001  a table
) -> None:
    shown = Sample(name="a", digest=digest_of(b"a"), **known)
    assert shows_defect(shown, mask=mask, good=good) is defective
