"""``lineside simulate``: what it writes, and what it refuses."""

from pathlib import Path

import pytest

from lineside.cli.app import _run


def test_bins_are_written_as_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "bins", "--out", str(tmp_path / "bins"), "--pictures", "12", "--seed", "3"]
    assert _run(words) == 0
    said = capsys.readouterr()
    assert "12 pictures" in said.out
    assert "truth.csv" in said.out
    assert "100 %, 12 pictures" in said.err
    assert len(list((tmp_path / "bins" / "bin-images").iterdir())) == 12
    assert len(list((tmp_path / "bins" / "metadata").iterdir())) == 12


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["simulate", "bins"], "no broker"),
        (["simulate", "warehouse", "--out", "x"], "writes no folder"),
        (["simulate", "bins", "--bus", "memory://x", "--fps", "0"], "above 0"),
        (["simulate", "surface"], "no broker"),
        (["simulate", "socks"], "no broker"),
        (["simulate", "socks", "--bus", "memory://x", "--fps", "101"], "above 0"),
        (["simulate", "surface", "--bus", "memory://x", "--faulty-share", "2"], "0 to 1"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(words) == 2
    assert said in capsys.readouterr().err


def test_plates_are_written_as_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "surface", "--folder", str(tmp_path / "plates"), "--pictures", "4"]
    assert _run([*words, "--faulty-share", "0.5"]) == 0
    assert "4 pictures" in capsys.readouterr().out
    pictures = list((tmp_path / "plates" / "img-classification").glob("*/*.jpg"))
    assert len(pictures) == 4
    assert len(list((tmp_path / "plates" / "semantic-segmentation" / "masks").iterdir())) == 4


def test_a_line_of_plates_ends_after_its_frames(tmp_path: Path) -> None:
    truth = tmp_path / "truth.jsonl"
    words = ["simulate", "surface", "--bus", "memory://cli-plates", "--fps", "50", "--frames", "2"]
    assert _run([*words, "--truth", str(truth)]) == 0
    assert len(truth.read_text().splitlines()) == 3


def test_a_line_of_bins_ends_after_its_frames(tmp_path: Path) -> None:
    truth = tmp_path / "truth.jsonl"
    words = ["simulate", "bins", "--bus", "memory://cli-bins", "--fps", "50", "--frames", "2"]
    assert _run([*words, "--truth", str(truth)]) == 0
    assert len(truth.read_text().splitlines()) == 3


def test_socks_are_written_as_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "socks", "--out", str(tmp_path / "socks"), "--pictures", "4"]
    assert _run(words) == 0
    assert "4 pictures" in capsys.readouterr().out
    assert len(list((tmp_path / "socks" / "pictures").glob("*/*.jpg"))) == 4
    assert (tmp_path / "socks" / "truth.csv").read_text().startswith("file,label,group\n")
