"""YOLO folders: names and parts of the yaml, boxes in shares, polygons into masks."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lineside.core import InvalidError
from lineside.datasets import Marked, Part, load_source
from lineside.datasets.sources import Choice, Reading
from lineside.vision import decode_picture

Put = Callable[[Path, int], Path]


@pytest.fixture
def folder(tmp_path: Path, put: Put) -> Path:
    put(tmp_path / "images" / "train" / "a.png", 1)
    put(tmp_path / "images" / "val" / "b.png", 2)
    labels = tmp_path / "labels"
    (labels / "train").mkdir(parents=True)
    (labels / "train" / "a.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    (tmp_path / "data.yaml").write_text(
        "path: ../datasets/rack\ntrain: images/train\nval: images/val\nnc: 2\n"
        "names:\n  0: dent\n  1: rust\n"
    )
    return tmp_path


def test_boxes_are_read_in_pixels_and_the_yaml_says_names_and_parts(folder: Path) -> None:
    found = load_source(folder)
    first, second = found.samples
    assert first.marked == (Marked(label="rust", x0_px=9, y0_px=4, x1_px=15, y1_px=12),)
    assert (first.labels, first.known, first.split) == (("rust",), ("dent", "rust"), Part.TRAIN)
    assert (second.marked, second.split, found.format) == ((), Part.VALID, "yolo")
    assert "1 pictures have no label file, such as images/" in found.skipped[0].reason
    assert load_source(folder / "data.yaml").samples == found.samples


@pytest.mark.parametrize(
    "text",
    [
        "names: [dent, rust]\ntrain: ../train/images\nval: ../valid/images\n",
        "names: {0: dent, 1: rust}\npath: /somewhere/else\ntrain: train/images\n",
        "train: [train/images]\nnames:\n- dent\n- rust\n",
    ],
)
def test_paths_of_another_machine_are_found_where_the_folder_is(
    *, tmp_path: Path, put: Put, text: str
) -> None:
    put(tmp_path / "train" / "images" / "a.png", 1)
    (tmp_path / "train" / "labels").mkdir()
    (tmp_path / "train" / "labels" / "a.txt").write_text("0 0.5 0.5 1 1\n")
    (tmp_path / "data.yaml").write_text(text)
    found = load_source(tmp_path)
    assert [(s.name, s.labels, s.split) for s in found.samples] == [
        ("train/images/a.png", ("dent",), Part.TRAIN)
    ]


def test_a_part_may_be_a_list_of_files_and_names_a_plain_file(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "images" / "a.png", 1)
    put(tmp_path / "b.png", 2)
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text("dent\n")
    found = load_source(tmp_path)
    assert [(s.name, s.labels) for s in found.samples] == [
        ("b.png", ("dent",)),
        ("images/a.png", ()),
    ]
    (tmp_path / "test.txt").write_text("./images/a.png\n")
    (tmp_path / "data.yaml").write_text("names: [dent]\ntest: test.txt\n")
    (sample,) = load_source(tmp_path).samples
    assert (sample.name, sample.split) == ("images/a.png", Part.TEST)


def test_a_polygon_gives_a_box_and_is_drawn(folder: Path) -> None:
    (folder / "labels" / "train" / "a.txt").write_text("0 0 0 0.5 0 0.5 0.5 0 0.5\n")
    found = load_source(folder)
    sample = found.samples[0]
    assert sample.marked == (Marked(label="dent", x0_px=0, y0_px=0, x1_px=12, y1_px=8),)
    mask = decode_picture(found.read_file(sample.mask_digest or sample.digest))[..., 0] > 127
    assert mask[:8, :12].all()
    assert int(mask.sum()) == 96


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("0 0.5 0.5 0.5", "4 numbers"),
        ("0 0.5 0.5 0.5 x", "not a number"),
        ("7 0.5 0.5 0.5 0.5", "class 7"),
        ("0.5 0.5 0.5 0.5 0.5", "class 0.5"),
        ("0 0.5 0.5 0 0.5", "without area"),
        ("0 0.9 0.5 0.5 0.5", "outside"),
        ("0 120 80 40 20", "outside"),
    ],
)
def test_a_wrong_line_takes_its_picture_with_it(*, folder: Path, line: str, why: str) -> None:
    (folder / "labels" / "train" / "a.txt").write_text(f"1 0.5 0.5 0.25 0.5\n{line}\n")
    found = load_source(folder)
    assert [sample.name for sample in found.samples] == ["images/val/b.png"]
    assert any("a.txt:2" in note.reason and why in note.reason for note in found.skipped)


def test_label_files_without_a_picture_are_reported_where_the_whole_folder_is_read(
    folder: Path,
) -> None:
    labels = folder / "labels"
    (labels / "train" / "c.txt").write_text("")
    (folder / "images" / "d.txt").write_text("0 .5 .5 1 1\n")
    (folder / "README.txt").write_text("From the rack, 5 parts a day.\n")
    for place in (folder, labels, labels / "train"):  # as programs for labelling write it
        (place / "classes.txt").write_text("dent\nrust\n")
    *_, lost = load_source(folder).skipped
    assert lost.reason == "2 label files are of no picture that was read, such as images/d.txt"
    assert load_source(folder, reading=Reading(choice=Choice(ids=("a",)))).skipped == ()


def test_a_box_over_the_edge_by_rounding_is_cut(folder: Path) -> None:
    (folder / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 1.000002 1.000002\n")
    assert load_source(folder).samples[0].marked == (
        Marked(label="dent", x0_px=0, y0_px=0, x1_px=24, y1_px=16),
    )


@pytest.mark.parametrize(
    "text",
    ["names: 3\n", "names: {x: y}\n", "names: [a\n", "- names\n", "names: &a [*a]\n", "\0names"],
)
def test_a_yaml_without_names_is_said(folder: Path, text: str) -> None:
    (folder / "data.yaml").write_text(text)
    with pytest.raises(InvalidError) as caught:
        load_source(folder, format="yolo")
    assert caught.value.fix
