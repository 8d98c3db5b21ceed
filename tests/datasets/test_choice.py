"""What is wanted of a source is chosen by name before anything is opened, and nothing is kept."""

from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError, NotFoundError
from lineside.datasets import Part, load_source
from lineside.datasets.formats.folders import list_folders
from lineside.datasets.formats.lst import list_lst
from lineside.datasets.formats.rows import Entry, Row, entry_of
from lineside.datasets.formats.table import list_table
from lineside.datasets.leaks import find_leaks, parts_of
from lineside.datasets.sources import Choice, Reading, chosen, plan_source, read_ids
from lineside.datasets.splitting import grouped, split

Put = Callable[[Path, int], Path]


def entries(names: list[str]) -> Iterator[Entry]:
    return (entry_of(Row(where=name, file=name)) for name in names)


def names(choice: Choice, *, of: list[str]) -> list[str]:
    return [entry.file for entry in chosen(entries(of), choice)]


@given(
    files=st.lists(st.text("abc0123456789", min_size=1), unique=True),
    most=st.integers(1, 9),
    seed=st.integers(0, 3),
    rng=st.randoms(use_true_random=False),
)
def test_a_sample_is_the_same_in_any_order_and_grows_by_adding(
    *, files: list[str], most: int, seed: int, rng: object
) -> None:
    first = names(Choice(most=most, seed=seed), of=files)
    shuffled = list(files)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]  # a Random
    assert names(Choice(most=most, seed=seed), of=shuffled) == first
    assert len(first) == min(most, len(files))
    assert set(first) <= set(names(Choice(most=most + 1, seed=seed), of=files))


@pytest.mark.parametrize(
    ("word", "matched"),
    [
        ("2", ["x/00002.jpg", "y/2.png"]),
        ("00002", ["x/00002.jpg", "y/2.png"]),
        ("2.png", ["y/2.png"]),
        ("x/00002.jpg", ["x/00002.jpg"]),
        ("red, white", ["red, white.jpeg"]),
        ("7", []),
    ],
)
def test_an_id_is_a_name_with_or_without_folder_suffix_and_zeros(
    word: str, matched: list[str]
) -> None:
    of = ["x/00002.jpg", "y/2.png", "red, white.jpeg", "22.png"]
    assert names(Choice(ids=(word,)), of=of) == matched


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("1\n2\n\n2\n", ("1", "2")),
        ("\ufeffid,count\n1,5\n2,6\n", ("1", "2")),
        ("file\na, b.png\n", ("a",)),
        ("a, b.png\nc.png", ("a, b.png", "c.png")),
    ],
)
def test_ids_are_lines_or_a_column(tmp_path: Path, text: str, ids: tuple[str, ...]) -> None:
    (tmp_path / "ids").write_text(text)
    assert read_ids(tmp_path / "ids") == ids


def test_ids_that_are_none_are_said(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_ids(tmp_path / "none")
    for raw in (b"", b"id\n", b"\xff\xfe\xff"):
        (tmp_path / "ids").write_bytes(raw)
        with pytest.raises(InvalidError):
            read_ids(tmp_path / "ids")
    for wrong in ({"most": -1}, {"ids": ()}):
        with pytest.raises(InvalidError):
            Choice(**wrong)


class Endless:
    """A tree of one class folder whose files never end."""

    where = "endless"

    def __init__(self) -> None:
        self.named = 0

    def folders(self, folder: str = "") -> list[str]:
        return [] if folder else ["good"]

    def files(self, folder: str = "") -> Iterator[str]:
        while folder:
            self.named += 1
            yield f"{folder}/{self.named}.png"

    def has(self, name: str) -> bool:
        return bool(name)

    def read(self, name: str, *, most: int) -> bytes:
        raise NotImplementedError(name, most)

    def open(self, name: str, *, most: int) -> BinaryIO:
        raise NotImplementedError(name, most)


def test_a_folder_is_never_listed_ahead() -> None:
    tree = Endless()
    listing = list_folders(tree)
    before = tree.named
    first = [entry.file for entry in islice(listing.entries, 3)]
    assert len(first) == 3
    assert tree.named - before == 3


def test_a_table_and_a_list_are_never_read_ahead() -> None:
    rows = b"".join(b"%d.png,good\n" % number for number in range(200_000))
    opened = [BytesIO(b"file,label\n" + rows) for _ in range(2)]
    listing = list_table(lambda: opened.pop(0), where="t")
    last = opened[0]
    assert next(listing.entries).file == "0.png"
    assert last.tell() < 100_000
    file = BytesIO(b"".join(b"%d\t1\t%d.png\n" % (n, n) for n in range(200_000)))
    listed = list_lst(lambda: file, where="t")
    assert next(listed.entries).file == "0.png"
    assert file.tell() < 100


def test_planning_needs_no_picture(tmp_path: Path) -> None:
    rows = "".join(f"{number}.jpg,{'dent' if number % 3 else 'good'}\n" for number in range(500))
    (tmp_path / "labels.csv").write_text("file,label\n" + rows + "bad\n")
    plan = plan_source(tmp_path, labels=("dent", "good"), group="ids:50")
    assert len(plan.samples) == 500
    assert plan.skipped[0].where == "labels.csv:502"
    parts = split(plan.samples, seed=1)
    assert find_leaks(plan.samples, parts=parts_of(plan.samples, parts)) == ()
    with pytest.raises(NotFoundError, match="planned with"):
        plan.read(plan.samples[0])
    few = plan_source(tmp_path, reading=Reading(choice=Choice(most=7)))
    assert len(few.samples) == 7
    by_ten = grouped(few.samples, rule="ids:10")
    assert all(sample.group.startswith("ids ") for sample in by_ten)


def test_a_sample_of_a_folder_opens_its_pictures_alone(tmp_path: Path, put: Put) -> None:
    for number in range(6):
        put(tmp_path / "good" / f"{number}.png", number)
    (tmp_path / "good" / "9.png").write_bytes(b"never opened")
    found = load_source(tmp_path, reading=Reading(choice=Choice(ids=("1", "good/4.png"))))
    assert [sample.name for sample in found.samples] == ["good/1.png", "good/4.png"]
    assert found.skipped == ()


@pytest.mark.parametrize(
    ("pictures", "note", "reason"),
    [
        ("JPEGImages/a JPEGImages/z", ("a.xml", "<annotation></annotation>"),
         "1 pictures have no annotation, such as z; left out"),
        ("a z", ("a.json", '{"shapes": []}'),
         "1 pictures have no JSON file, such as z; left out"),
        ("images/a masks/a masks/z", ("note", ""), "a mask without a picture of its name"),
        ("a z", ("data.json", '{"images": [{"id": 1, "file_name": "a.png"}]}'),
         "1 pictures have no entry in the file, such as z; left out"),
        ("good/a z", ("note", ""), "1 pictures lie in no class folder, such as z.png; left out"),
    ],
    ids=["voc", "labelme", "masks", "coco", "folders"],
)  # fmt: skip
def test_what_has_no_partner_is_reported_of_a_whole_source_alone(
    *, tmp_path: Path, put: Put, pictures: str, note: tuple[str, str], reason: str
) -> None:
    for number, name in enumerate(pictures.split()):
        put(tmp_path / f"{name}.png", number)
    (tmp_path / note[0]).write_text(note[1])
    assert [one.reason for one in load_source(tmp_path).skipped] == [reason]
    assert not any(
        load_source(tmp_path, reading=Reading(choice=one)).skipped
        for one in (Choice(most=9), Choice(ids=("a",)))
    )


def test_a_damaged_picture_is_named_when_the_source_is_read(tmp_path: Path, put: Put) -> None:
    whole = put(tmp_path / "a.png", 1).read_bytes()
    (tmp_path / "b.png").write_bytes(whole[:-20])
    broken = bytearray(whole)
    broken[len(broken) // 2] ^= 0x55
    (tmp_path / "c.png").write_bytes(bytes(broken))
    (tmp_path / "train.lst").write_text("1\t0\ta.png\n2\t0\tb.png\n3\t0\tc.png\n")
    found = load_source(tmp_path)
    assert [(s.name, s.split) for s in found.samples] == [("a.png", Part.TRAIN)]
    assert [note.reason.split(":")[0] for note in found.skipped] == ["b.png", "c.png"]
