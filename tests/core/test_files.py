"""Files that are there whole or not at all."""

from pathlib import Path

import pytest

from lineside.core import UnavailableError, replacing_durably


def test_what_is_written_piece_by_piece_takes_the_place_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before")
    with replacing_durably(path) as file:
        file.write(b"one ")
        file.write(b"two")
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"one two"
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_what_ends_in_a_fault_leaves_what_stood_there(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before")
    with pytest.raises(TypeError), replacing_durably(path) as file:
        file.writelines([b"one", "two"])  # type: ignore[list-item]  # the fault that is meant
    assert path.read_bytes() == b"before"
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_a_place_that_takes_no_file_gets_a_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(UnavailableError, match="cannot be written: No such file"),
        replacing_durably(tmp_path / "none" / "out"),
    ):
        pass
