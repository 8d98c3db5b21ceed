"""Bins: the count is what the record expects, numbers are padded or not, neighbours stay one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lineside.datasets import load_source
from lineside.datasets.sources import Choice, Reading, read_ids

Put = Callable[[Path, int], Path]


def record(expected: object, *products: dict[str, object], **more: object) -> bytes:
    found = {f"key{place}": product for place, product in enumerate(products)}
    return json.dumps({"BIN_FCSKU_DATA": found, "EXPECTED_QUANTITY": expected, **more}).encode()


@pytest.fixture
def folder(tmp_path: Path, put: Put) -> Path:
    names = {
        "00002": record(17, {"asin": "B1", "quantity": 17}),
        "00100": record(0),
        "101": record(3),
    }
    notes = tmp_path / "metadata"
    notes.mkdir()
    for place, (name, raw) in enumerate(names.items()):
        put(tmp_path / "bin-images" / f"{name}.jpg", place)
        (notes / f"{name}.json").write_bytes(raw)
    return tmp_path


def test_counts_come_with_blocks_of_numbers_as_groups(folder: Path) -> None:
    found = load_source(folder)
    assert (found.format, found.skipped) == ("abid", ())
    assert [(s.name, s.count, s.group, s.labels) for s in found.samples] == [
        ("bin-images/00002.jpg", 17, "ids 0", ()),
        ("bin-images/00100.jpg", 0, "ids 100", ()),
        ("bin-images/101.jpg", 3, "ids 100", ()),
    ]
    by_ten = load_source(folder, group="ids:2").samples
    assert [sample.group for sample in by_ten] == ["ids 2", "ids 100", "ids 100"]


@pytest.mark.parametrize(
    ("picture", "note"), [("00523", "523"), ("523", "00523"), ("523", "000523")]
)
def test_a_number_is_found_however_it_is_written(
    *, tmp_path: Path, put: Put, picture: str, note: str
) -> None:
    put(tmp_path / f"{picture}.jpg", 1)
    (tmp_path / f"{note}.json").write_bytes(record(2, image_fname="523.jpg"))
    (sample,) = load_source(tmp_path).samples
    assert (sample.count, sample.group) == (2, "ids 500")


def test_keys_that_are_no_asin_and_fields_that_are_missing_do_no_harm(
    tmp_path: Path, put: Put
) -> None:
    put(tmp_path / "images" / "7.png", 1)
    (tmp_path / "metadata").mkdir()
    products: tuple[dict[str, object], ...] = (
        {
            "asin": "B2",
            "quantity": 1,
            "normalizedName": "x",
            "height": {"unit": "IN", "value": 2.4},
        },
        {"asin": None, "quantity": 1, "name": None},
        {"asin": "B1", "height": None},
    )
    (tmp_path / "metadata" / "7.json").write_bytes(record(3, *products))
    (sample,) = load_source(tmp_path).samples
    assert sample.count == 3
    assert sample.facts == {"products": "3", "asins": "B1;B2"}


@pytest.mark.parametrize("raw", [record(None), record(-1), record("3"), record(2.5), b"{", b"[]"])
def test_a_record_that_cannot_be_counted_is_named(folder: Path, raw: bytes) -> None:
    (folder / "metadata" / "101.json").write_bytes(raw)
    found = load_source(folder, format="abid")
    assert len(found.samples) == 2
    assert found.skipped[0].where == "bin-images/101.jpg"


def test_a_picture_without_a_record_is_named(folder: Path) -> None:
    (folder / "metadata" / "00002.json").unlink()
    found = load_source(folder, format="abid")
    assert found.skipped[0].where == "bin-images/00002.jpg"
    assert "no record" in found.skipped[0].reason


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("2\n101\n", ["00002", "101"]),
        ("id,count\n100,0\n", ["00100"]),
        ("count,id\n0,00101\n", ["101"]),
        ("00002.jpg\n00002\n", ["00002"]),
        ("2\n77\n", ["00002"]),
    ],
)
def test_ids_are_taken_in_any_writing(*, folder: Path, text: str, names: list[str]) -> None:
    (folder / "ids.txt").write_text(text)
    reading = Reading(choice=Choice(ids=read_ids(folder / "ids.txt")))
    found = load_source(folder, reading=reading)
    assert sorted({Path(sample.name).stem for sample in found.samples}) == names
    missing = [note.where for note in found.skipped if "no picture of this id" in note.reason]
    assert missing == (["77"] if "77" in text else [])


@pytest.mark.data
def test_the_published_examples_are_read(data_folder: Path) -> None:
    found = load_source(data_folder / "bin-counter", format="abid")
    (sample,) = found.samples
    assert sample.count == 3
    assert sample.facts["products"] == "3"
