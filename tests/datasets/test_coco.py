"""COCO files: boxes, polygons and run lengths as the format's own tools write them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lineside.core import InvalidError
from lineside.datasets import Marked, Part, load_source
from lineside.datasets.formats.rle import (
    box_of,
    compressed,
    mask_of_polygon,
    mask_of_runs,
    runs_of,
    uncompressed,
)
from lineside.datasets.samples import Import
from lineside.vision import decode_picture

Put = Callable[[Path, int], Path]
MASKS = arrays.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def test_run_lengths_as_text_are_those_of_the_formats_own_tool() -> None:
    runs = [6, 1, 40, 4, 5, 4, 5, 4, 21]
    assert compressed(runs) == "61X13mN000`0"
    assert uncompressed("61X13mN000`0") == runs


@given(MASKS)
def test_masks_come_back_from_runs_and_from_text(
    mask: np.ndarray[tuple[int, int], np.dtype[np.bool_]],
) -> None:
    height, width = mask.shape
    runs = runs_of(mask)
    assert sum(runs) == mask.size
    assert np.array_equal(mask_of_runs(runs, width=width, height=height), mask)
    assert uncompressed(compressed(runs)) == runs


@given(st.lists(st.integers(0, 10**6), max_size=40))
def test_any_runs_come_back_from_text(runs: list[int]) -> None:
    assert uncompressed(compressed(runs)) == runs


@given(st.text(max_size=30))
def test_any_text_gives_runs_or_a_sentence(text: str) -> None:
    try:
        runs = uncompressed(text)
    except InvalidError as error:
        assert error.message  # noqa: PT017  either outcome is right
    else:
        assert len(runs) <= len(text)


def test_runs_go_down_the_columns() -> None:
    mask = np.array([[True, False], [True, False]])
    assert runs_of(mask) == [0, 2, 2]


@pytest.mark.parametrize("runs", [[3, 2], [5, -1], [7], []])
def test_runs_that_do_not_fill_the_picture_are_refused(runs: list[int]) -> None:
    with pytest.raises(InvalidError, match="do not fill"):
        mask_of_runs(runs, width=2, height=2)


def test_a_polygon_holds_the_pixels_whose_centres_lie_inside() -> None:
    mask = mask_of_polygon([1, 1, 4, 1, 4, 3, 1, 3], width=6, height=5)
    assert box_of(mask) == (1, 1, 4, 3)
    assert int(mask.sum()) == 6
    triangle = mask_of_polygon([0, 0, 4.5, 0, 0, 4.5], width=4, height=4)
    assert triangle.sum(axis=1).tolist() == [4, 3, 2, 1]
    outside = mask_of_polygon([-9, -9, 99, -9, 99, 99, -9, 99], width=3, height=2)
    assert outside.all()
    for wrong in ([1, 1, 2, 2], [1, 1, 2, 2, 3], [1, 1, 2, 2, 3, float("nan")]):
        with pytest.raises(InvalidError, match="polygon"):
            mask_of_polygon(wrong, width=6, height=5)


def document(*annotations: dict[str, object], **more: object) -> bytes:
    made = {
        "info": {"year": 2024},
        "images": [
            {"id": 7, "file_name": "a.png", "width": 24, "height": 16, "license": 1},
            {"id": 9, "file_name": "b.png", "width": 24, "height": 16},
        ],
        "categories": [{"id": 3, "name": "dent"}, {"id": 1, "name": "rust", "supercategory": "x"}],
        "annotations": list(annotations),
    }
    return json.dumps({**made, **more}).encode()


def on(image: int, category: int, **more: object) -> dict[str, object]:
    return {"id": 1, "image_id": image, "category_id": category, **more}


@pytest.fixture
def read(tmp_path: Path, put: Put) -> Callable[..., Import]:
    def made(raw: bytes, *, name: str = "annotations/instances_val.json") -> Import:
        put(tmp_path / "images" / "a.png", 1)
        put(tmp_path / "images" / "b.png", 2)
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(raw)
        return load_source(tmp_path)

    return made


def test_boxes_and_parts_are_read_and_a_picture_without_objects_shows_none(
    read: Callable[..., Import], tmp_path: Path
) -> None:
    found = read(document(on(7, 3, bbox=[2, 3, 10, 5.5], area=55, iscrowd=0)))
    first, second = found.samples
    assert found.format == "coco"
    assert first.marked == (Marked(label="dent", x0_px=2, y0_px=3, x1_px=12, y1_px=8.5),)
    assert (first.labels, first.known, first.split) == (("dent",), ("dent", "rust"), Part.VALID)
    assert (second.marked, second.labels, second.known) == ((), (), ("dent", "rust"))
    alone = load_source(tmp_path / "annotations" / "instances_val.json")
    assert alone.samples == found.samples


def test_segments_of_every_kind_are_drawn_into_one_mask(read: Callable[..., Import]) -> None:
    column = np.zeros((16, 24), np.bool_)
    column[:, 20] = True
    dot = np.zeros((16, 24), np.bool_)
    dot[15, 0] = True
    found = read(
        document(
            on(7, 3, bbox=[1, 1, 3, 2], segmentation=[[1, 1, 4, 1, 4, 3, 1, 3]]),
            on(7, 1, segmentation={"size": [16, 24], "counts": runs_of(column)}),
            on(
                7,
                1,
                bbox=[0, 15, 1, 1],
                iscrowd=1,
                segmentation={
                    "size": [16, 24],
                    "counts": compressed(runs_of(dot)),
                },
            ),
        )
    )
    sample = found.samples[0]
    assert [(m.label, m.x0_px, m.y1_px) for m in sample.marked or ()] == [
        ("dent", 1, 3),
        ("rust", 20, 16),
    ]
    mask = decode_picture(found.read_file(sample.mask_digest or sample.digest))[..., 0]
    expected = column | dot
    expected[1:3, 1:4] = True
    assert np.array_equal(mask > 127, expected)
    assert sample.labels == ("dent", "rust")


@pytest.mark.parametrize(
    ("annotation", "why"),
    [
        (on(7, 8, bbox=[1, 1, 2, 2]), "category 8"),
        (on(7, 3, bbox=[1, 1, 0, 2]), "neither a box of some area"),
        (on(7, 3), "neither a box of some area"),
    ],
)
def test_an_annotation_that_makes_no_sense_takes_its_picture_with_it(
    *, read: Callable[..., Import], annotation: dict[str, object], why: str
) -> None:
    found = read(document(annotation))
    assert why in found.skipped[0].reason
    assert [sample.name for sample in found.samples] == ["b.png"]


def test_annotations_and_pictures_without_each_other_are_reported(
    read: Callable[..., Import], tmp_path: Path, put: Put
) -> None:
    put(tmp_path / "images" / "c.png", 3)
    found = read(document(on(99, 3, bbox=[1, 1, 2, 2])))
    assert [sample.marked for sample in found.samples] == [(), ()]
    assert [note.reason for note in found.skipped] == [
        "1 annotations are of images that the file does not name, such as annotation 1 of image 99",
        "1 pictures have no entry in the file, such as c; left out",
    ]


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [24, 16], "counts": [384]},
        {"size": [16, 24], "counts": "~~~"},
        {"size": [16, 24], "counts": [1]},
        [[1, 1, 2, 2]],
    ],
)
def test_segments_that_cannot_be_drawn_take_their_picture_with_them(
    *, read: Callable[..., Import], segmentation: object
) -> None:
    found = read(document(on(7, 3, bbox=[1, 1, 2, 2], segmentation=segmentation)))
    assert [sample.name for sample in found.samples] == ["b.png"]
    assert "a.png" in found.skipped[0].reason


def test_a_box_without_area_is_that_around_its_segments(read: Callable[..., Import]) -> None:
    corner = [[1, 1, 4, 1, 4, 3, 1, 3]]
    found = read(document(on(7, 3, bbox=[0, 0, 0, 0], segmentation=corner)))
    around = Marked(label="dent", x0_px=1, y0_px=1, x1_px=4, y1_px=3)
    assert found.samples[0].marked == (around,)


def test_a_box_ends_at_the_edge_of_its_picture(read: Callable[..., Import]) -> None:
    found = read(document(on(7, 3, bbox=[-0.5, 10, 8, 6.4]), on(9, 3, bbox=[24.5, 1, 3, 3])))
    assert [sample.marked for sample in found.samples] == [
        (Marked(label="dent", x0_px=0, y0_px=10, x1_px=7.5, y1_px=16),)
    ]
    assert "a shape without area on the picture: 24.5 1 27.5 4" in found.skipped[0].reason


def test_boxes_of_another_size_of_picture_are_not_taken(read: Callable[..., Import]) -> None:
    images = [{"id": 7, "file_name": "a.png", "width": 48, "height": 32}]
    found = read(document(on(7, 3, bbox=[1, 1, 40, 2]), images=images))
    assert found.samples == ()
    assert "made for 48 x 32 pixels, the picture has 24 x 16" in found.skipped[1].reason


def test_categories_that_are_not_wanted_are_counted(
    read: Callable[..., Import], tmp_path: Path
) -> None:
    read(
        document(
            on(7, 3, bbox=[1, 1, 2, 2]), on(7, 1, bbox=[1, 1, 2, 2]), on(9, 1, bbox=[0, 0, 1, 1])
        )
    )
    found = load_source(tmp_path, labels=("dent",))
    assert [sample.labels for sample in found.samples] == [("dent",), ()]
    assert [note.reason for note in found.skipped] == [
        "2 annotations are of 'rust', which is not wanted"
    ]


def test_pictures_two_folders_deep_are_found(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "images" / "val2017" / "a.png", 1)
    put(tmp_path / "images" / "val2017" / "b.png", 2)
    (tmp_path / "annotations").mkdir()
    raw = document(on(7, 3, bbox=[1, 1, 2, 2]))
    (tmp_path / "annotations" / "instances_val2017.json").write_bytes(raw)
    found = load_source(tmp_path)
    assert [sample.name for sample in found.samples] == [
        "images/val2017/a.png",
        "images/val2017/b.png",
    ]


@pytest.mark.parametrize("raw", [b"{", b"[]", b'{"images": 3}', b'{"images": [{"id": "x"}]}'])
def test_a_file_that_is_none_is_said(read: Callable[..., Import], raw: bytes) -> None:
    with pytest.raises(InvalidError):
        read(raw, name="labels.json")
