"""Pictures and masks are paired by name; one pixel is a defect; nothing is paired by position."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lineside.datasets import Part, load_source
from lineside.datasets.sources import Choice, Reading
from lineside.vision import decode_picture, encode_png

Put = Callable[[Path, int], Path]


def mask(*pixels: tuple[int, int], value: int = 255, size: tuple[int, int] = (16, 24)) -> bytes:
    made = np.zeros((*size, 3), np.uint8)
    for y, x in pixels:
        made[y, x] = value
    return encode_png(made)


@pytest.fixture
def folder(tmp_path: Path, put: Put) -> Path:
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        put(tmp_path / "images" / name, number)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").write_bytes(mask())
    (tmp_path / "masks" / "b_GT.png").write_bytes(mask((15, 23)))
    (tmp_path / "masks" / "c.png").write_bytes(mask((0, 0), (1, 1)))
    return tmp_path


def test_one_pixel_is_anomalous_and_none_is_normal(folder: Path) -> None:
    found = load_source(folder)
    assert (found.format, found.skipped) == ("masks", ())
    told = [(s.name, s.labels, s.mask, s.mask_digest is not None) for s in found.samples]
    assert told == [
        ("images/a.png", ("normal",), "", False),
        ("images/b.png", ("anomalous",), "masks/b_GT.png", True),
        ("images/c.png", ("anomalous",), "masks/c.png", True),
    ]
    assert all(sample.known == ("anomalous", "normal") for sample in found.samples)


def test_a_missing_and_a_surplus_mask_are_named_and_shift_no_pair(folder: Path) -> None:
    (folder / "masks" / "a.png").rename(folder / "masks" / "aa.png")
    found = load_source(folder)
    assert [sample.labels for sample in found.samples] == [("anomalous",), ("anomalous",)]
    assert [(note.where, note.reason.split(".")[0]) for note in found.skipped] == [
        ("images/a.png", "no mask of this name"),
        ("masks/aa.png", "a mask without a picture of its name"),
    ]


def test_faint_marks_are_lifted_so_that_they_count(folder: Path) -> None:
    (folder / "masks" / "c.png").write_bytes(mask((3, 4), (5, 6), value=1))
    found = load_source(folder)
    sample = found.samples[2]
    assert sample.labels == ("anomalous",)
    drawn = decode_picture(found.read_file(sample.mask_digest or sample.digest))[..., 0]
    assert sorted(map(tuple, np.argwhere(drawn > 127).tolist())) == [(3, 4), (5, 6)]


def test_a_mask_of_another_size_is_refused(folder: Path) -> None:
    (folder / "masks" / "c.png").write_bytes(mask((0, 0), size=(8, 8)))
    found = load_source(folder)
    assert len(found.samples) == 2
    assert "made for 8 x 8 pixels, the picture has 24 x 16" in found.skipped[0].reason


def test_flat_folders_of_parts_pair_by_their_ending(tmp_path: Path, put: Put) -> None:
    for part in ("train", "test"):
        put(tmp_path / part / "10000.png", len(part))
        (tmp_path / part / "10000_GT.png").write_bytes(mask((1, 1)))
    found = load_source(tmp_path)
    assert [(s.name, s.split, s.mask) for s in found.samples] == [
        ("test/10000.png", Part.TEST, "test/10000_GT.png"),
        ("train/10000.png", Part.TRAIN, "train/10000_GT.png"),
    ]


def test_folders_of_parts_hold_pictures_and_masks(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "train" / "images" / "1.png", 1)
    (tmp_path / "train" / "masks").mkdir()
    (tmp_path / "train" / "masks" / "1.png").write_bytes(mask((1, 1)))
    (sample,) = load_source(tmp_path, labels=("normal", "anomalous")).samples
    assert (sample.split, sample.labels) == (Part.TRAIN, ("anomalous",))


def test_normal_and_anomalous_are_class_folders(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "normal" / "1.png", 1)
    put(tmp_path / "anomalous" / "2.jpg", 2)
    found = load_source(tmp_path)
    assert found.format == "folders"
    assert [(s.labels, s.known) for s in found.samples] == [
        (("anomalous",), ("anomalous", "normal")),
        (("normal",), ("anomalous", "normal")),
    ]


@pytest.mark.data
def test_the_published_samples_pair_and_the_smallest_defect_counts(data_folder: Path) -> None:
    root = data_folder / "surface-defects" / "kolektorsdd2"
    found = load_source(root)
    assert (found.format, found.skipped) == ("masks", ())
    told = {Path(sample.name).stem: sample.labels for sample in found.samples}
    assert told == {
        f"{letter}{n:02d}": (("anomalous",) if letter == "d" else ("normal",))
        for letter in "dn"
        for n in range(8)
    }
    by_folder = load_source(root / "classification")
    assert {s.digest: s.labels for s in by_folder.samples} == {
        s.digest: s.labels for s in found.samples
    }


@pytest.mark.parametrize("word", ["b", "b.png", "images/b.png"])
def test_an_id_finds_its_pair_without_listing(folder: Path, word: str) -> None:
    found = load_source(folder, reading=Reading(choice=Choice(ids=(word, "z"))))
    assert [sample.name for sample in found.samples] == ["images/b.png"]
    assert [note.where for note in found.skipped] == ["z"]


def test_a_mask_that_is_no_picture_is_named(folder: Path) -> None:
    (folder / "masks" / "a.png").write_bytes(b"none")
    assert "masks/a.png: neither JPEG nor PNG" in load_source(folder).skipped[0].reason
