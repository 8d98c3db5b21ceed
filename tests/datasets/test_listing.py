"""Lists are made in the order of the reference tool, and class numbers are kept."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import ConflictError, InvalidError, NotFoundError
from lineside.datasets import load_source
from lineside.datasets.packing import ListedImage, ListSettings, make_lists, parted
from lineside.datasets.recordio import read_classes
from lineside.vision import encode_png

SAMPLES = {
    "class-confluent": (12, 16, 5),
    "class-databricks": (86, 87, 99),
    "class-github": (103, 90, 96),
    "class-google": (118, 127, 128),
    "class-mongo": (107, 108, 95),
    "class-streamset": (109, 92, 98),
}
TRAIN = """13 4 mongo 108|9 3 google 118|7 2 github 90|3 1 databricks 86|10 3 google 127|
0 0 confluent 12|17 5 streamset 98|1 0 confluent 16|8 2 github 96|15 5 streamset 109|
5 1 databricks 99|6 2 github 103|11 3 google 128|2 0 confluent 5"""
VALID = "12 4 mongo 107|16 5 streamset 92|14 4 mongo 95|4 1 databricks 87"


def rows(count: int) -> list[ListedImage]:
    return [ListedImage(id=number, label=0, file=f"{number}.jpg") for number in range(count)]


def ids(count: int, plan: ListSettings) -> dict[str, list[int]]:
    return {ending: [row.id for row in part] for ending, part in parted(rows(count), plan=plan)}


def expected(text: str, *, decimals: bool) -> str:
    found = re.findall(r"(\d+) (\d+) (\w+) (\d+)", text)
    zeros = ".000000" if decimals else ""
    return "".join(f"{i}\t{n}{zeros}\tclass-{c}/file_{f}.jpg\n" for i, n, c, f in found)


@pytest.fixture
def socks(tmp_path: Path) -> Path:
    root = tmp_path / "socks"
    for folder, numbers in SAMPLES.items():
        (root / folder).mkdir(parents=True)
        for number in numbers:
            (root / folder / f"file_{number}.jpg").write_bytes(b"")
    return root


@pytest.mark.parametrize("form", ["decimals", "plain"])
def test_the_lists_of_the_samples_are_those_of_the_reference(
    *, socks: Path, tmp_path: Path, form: str
) -> None:
    plan = ListSettings(recursive=True, train=0.8, form=form)  # type: ignore[arg-type]  # both forms
    made = make_lists(tmp_path / "prefix", socks, plan=plan)
    assert made.classes == tuple(SAMPLES)
    written = {Path(name).name: count for name, count in made.files.items()}
    assert written == {"prefix_train.lst": 14, "prefix_val.lst": 4}
    decimals = form == "decimals"
    train, valid = tmp_path / "prefix_train.lst", tmp_path / "prefix_val.lst"
    assert train.read_text() == expected(TRAIN, decimals=decimals)
    assert valid.read_text() == expected(VALID, decimals=decimals)
    assert not (tmp_path / "prefix_test.lst").exists()


def test_681_pictures_are_544_and_137_in_the_order_of_the_reference() -> None:
    made = ids(681, ListSettings(train=0.8))
    train, valid = made["_train"], made["_val"]
    assert (len(train), len(valid)) == (544, 137)
    assert train[:12] == [110, 660, 13, 387, 158, 627, 270, 107, 91, 27, 363, 632]
    assert valid[:6] == [213, 148, 427, 559, 198, 536]
    assert valid[-3:] == [465, 470, 149]


def test_the_test_part_comes_first_and_a_whole_share_is_one_list() -> None:
    plan = ListSettings(train=0.5, test=0.2, shuffle=False)
    assert ids(10, plan) == {
        "_test": [0, 1],
        "_train": [2, 3, 4, 5, 6],
        "_val": [7, 8, 9],
    }
    assert list(ids(10, ListSettings(train=0.8, test=0.2))) == ["_test", "_train"]
    assert ids(3, ListSettings(shuffle=False)) == {"": [0, 1, 2]}


def test_a_shorter_last_chunk_gets_fewer_validation_rows() -> None:
    plan = ListSettings(train=0.5, chunks=2, shuffle=False)
    assert ids(5, plan) == {
        "_0_train": [0],
        "_0_val": [1, 2],
        "_1_train": [3],
        "_1_val": [4],
    }


@given(st.integers(0, 300), st.integers(0, 20), st.integers(0, 19), st.integers(1, 5))
def test_every_picture_stands_in_one_list(count: int, train: int, test: int, chunks: int) -> None:
    plan = ListSettings(train=train / 40, test=test / 40, chunks=chunks)
    listed = [number for part in ids(count, plan).values() for number in part]
    assert sorted(listed) == list(range(count))


def test_pictures_that_rounding_leaves_in_no_list_are_counted(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}.png").write_bytes(b"")
    made = make_lists(tmp_path / "x", tmp_path, plan=ListSettings(train=0.5, test=0.5))
    assert sorted(made.files.values()) == [3, 3]
    assert made.left_out == 1


def test_folders_are_numbered_when_their_first_picture_is_met(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("b/2.PNG", "b/inner/1.jpeg", "a/notes.txt", "c/1.jpg", "top.jpg"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (root / "empty").mkdir()
    (root / "c" / "loop").symlink_to(root)
    plan = ListSettings(recursive=True, shuffle=False, form="plain")
    made = make_lists(tmp_path / "x", root, plan=plan)
    assert made.classes == (".", "b", "b/inner", "c")
    text = (tmp_path / "x.lst").read_text()
    assert text == "0\t0\ttop.jpg\n1\t1\tb/2.PNG\n2\t2\tb/inner/1.jpeg\n3\t3\tc/1.jpg\n"
    flat = make_lists(tmp_path / "y", root, plan=ListSettings(shuffle=False))
    assert flat.files == {str(tmp_path / "y.lst"): 1}
    assert not (tmp_path / "y_classes.txt").exists()


def test_a_linked_folder_is_walked(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.jpg").write_bytes(b"")
    root = tmp_path / "root"
    root.mkdir()
    (root / "dent").symlink_to(tmp_path / "elsewhere")
    made = make_lists(tmp_path / "x", root, plan=ListSettings(recursive=True))
    assert made.classes == ("dent",)


def test_class_numbers_stay_when_a_folder_is_added(socks: Path, tmp_path: Path) -> None:
    plan = ListSettings(recursive=True, train=0.8)
    make_lists(tmp_path / "x", socks, plan=plan)
    kept = tmp_path / "x_classes.txt"
    assert read_classes(kept) == tuple(SAMPLES)
    (socks / "class-apple").mkdir()
    (socks / "class-apple" / "1.jpg").write_bytes(b"")
    with pytest.raises(InvalidError, match="none of the 6 classes") as caught:
        make_lists(tmp_path / "x", socks, plan=plan)
    assert "class-confluent" in caught.value.fix
    kept.write_text(kept.read_text() + "class-apple\n")
    made = make_lists(tmp_path / "x", socks, plan=plan)
    assert made.classes[-1] == "class-apple"
    with pytest.raises(ConflictError, match="otherwise"):
        make_lists(tmp_path / "x", socks, plan=plan, classes=["class-apple", *SAMPLES])


def test_the_kept_names_are_those_of_the_classes_read_from_the_lists(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number, name in enumerate(("dent", "good")):
        (root / name).mkdir(parents=True)
        pixels = np.full((4, 4, 3), number, np.uint8)
        (root / name / "1.png").write_bytes(encode_png(pixels))
    make_lists(root / "x", root, plan=ListSettings(recursive=True, shuffle=False))
    found = load_source(root / "x.lst")
    assert [(s.labels, s.known) for s in found.samples] == [
        (("dent",), ("dent", "good")),
        (("good",), ("dent", "good")),
    ]


@pytest.mark.parametrize("text", ["a\n\nb\n", "a\na\n", ""])
def test_a_file_of_names_that_is_wrong_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_text(text)
    with pytest.raises(InvalidError, match="name"):
        read_classes(path)


def test_the_last_name_may_lack_its_line_end_and_spaces_behind_go(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("Running Science \nBlank")
    assert read_classes(path) == ("Running Science", "Blank")


def test_what_cannot_be_listed_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such folder"):
        make_lists(tmp_path / "x", tmp_path / "none", plan=ListSettings())
    with pytest.raises(NotFoundError, match="no picture"):
        make_lists(tmp_path / "x", tmp_path, plan=ListSettings())
    for wrong in ({"train": 0.9, "test": 0.2}, {"train": -0.1}, {"chunks": 0}):
        with pytest.raises(InvalidError):
            ListSettings(**wrong)


@pytest.mark.data
def test_the_published_samples_give_the_published_lists(data_folder: Path, tmp_path: Path) -> None:
    root = data_folder / "sock-sort" / "sock-images-sample"
    make_lists(tmp_path / "prefix", root, plan=ListSettings(recursive=True, train=0.8))
    assert (tmp_path / "prefix_train.lst").read_text() == expected(TRAIN, decimals=True)
    assert (tmp_path / "prefix_val.lst").read_text() == expected(VALID, decimals=True)
