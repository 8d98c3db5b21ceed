"""``lineside recordio``: lists, packs, reads and checks; what is wrong is said with its offset."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lineside.testing.pictures import rack
from lineside.vision import encode_jpeg, picture_size


def lineside(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lineside", "recordio", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "socks"
    for number in range(10):
        inner = folder / ("dark" if number < 6 else "light")
        inner.mkdir(parents=True, exist_ok=True)
        (inner / f"{number}.jpg").write_bytes(encode_jpeg(rack(width=40 + number, height=32)))
    return folder


def test_a_folder_becomes_lists_and_records_that_check_out(root: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "x"
    made = lineside("list", prefix, root, "--recursive", "--train-ratio", "0.8", "--json")
    told = json.loads(made.stdout)
    assert (told["records"], told["labels"]) == (10, {"dark": 0, "light": 1})
    assert sorted(told["files"].values()) == [2, 8]
    packed = lineside(
        "pack", prefix, root, "--resize", "24", "--center-crop", "--num-thread", "2", "--json"
    )
    assert json.loads(packed.stdout)["labels"] == {"dark": 6, "light": 4}
    read = lineside("read", f"{prefix}_train.rec", "--out", tmp_path / "out", "--json")
    rows = json.loads(read.stdout)["records"]
    assert rows[0]["offset"] == 0
    assert all(row["names"] == ["dark" if row["labels"] == [0.0] else "light"] for row in rows)
    first = (tmp_path / "out" / f"{rows[0]['id']}.jpg").read_bytes()
    assert picture_size(first) == (24, 24)
    one = lineside("read", f"{prefix}_train.rec", "--id", rows[3]["id"], "--json")
    assert json.loads(one.stdout)["records"] == [rows[3]]
    done = lineside("check", f"{prefix}_train.rec", "--json")
    assert done.returncode == 0
    size = Path(f"{prefix}_train.rec").stat().st_size
    assert {key: json.loads(done.stdout)[key] for key in ("records", "offset", "damage")} == {
        "records": 8,
        "offset": size,
        "damage": [],
    }


@pytest.mark.slow
def test_damage_is_named_with_its_offset_and_exit_code_2(root: Path, tmp_path: Path) -> None:
    lineside("list", tmp_path / "x", root)
    assert "no picture" in lineside("list", tmp_path / "x", root).stderr
    lineside("list", tmp_path / "x", root, "--recursive", "--plain", "--no-shuffle")
    lineside("pack", tmp_path / "x", root, "--pass-through")
    path = tmp_path / "x.rec"
    path.write_bytes(path.read_bytes()[:-1])
    done = lineside("check", path, "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 2
    assert (told["records"], told["offset"]) == (9, told["damage"][0]["offset"])
    assert "id 9: the index says" in told["faults"][0]
    assert f"byte {told['offset']}" in lineside("check", path).stdout
    read = lineside("read", path)
    assert read.returncode == 2
    assert f"byte {told['offset']}" in read.stderr


def test_an_index_is_made_again(root: Path, tmp_path: Path) -> None:
    lineside("list", tmp_path / "x", root, "--recursive")
    lineside("pack", tmp_path / "x", root)
    index = (tmp_path / "x.idx").read_bytes()
    (tmp_path / "x.idx").write_bytes(b"1\t4\n")
    assert lineside("check", tmp_path / "x.rec").returncode == 2
    assert lineside("check", tmp_path / "x.rec", "--write-index").returncode == 0
    assert (tmp_path / "x.idx").read_bytes() == index


def test_labels_that_are_lost_are_warned_of_on_stderr(root: Path, tmp_path: Path) -> None:
    (tmp_path / "x.lst").write_text("0\t1\t0\tdark/0.jpg\n1\t0\t1\tdark/gone.jpg\n")
    done = lineside("pack", tmp_path / "x", root)
    assert done.returncode == 0
    assert "only the first was packed" in done.stderr
    assert "dark/gone.jpg" in done.stderr
    assert "1 records" in done.stdout


@pytest.mark.parametrize(
    "words",
    [["check", "none.rec"], ["list", "x", "none"], ["pack", "none", "."], ["read", "none.rec"]],
    ids=" ".join,
)
def test_what_is_not_there_is_exit_code_3(words: list[str]) -> None:
    done = lineside(*words)
    assert done.returncode == 3
    assert "fix:" in done.stderr
