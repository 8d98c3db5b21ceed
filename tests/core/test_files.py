"""Files that are there whole or not at all."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import pytest

from lineside.core.errors import UnavailableError
from lineside.core.files import (
    replace_durably,
    replacing_durably,
    replacing_folder,
    replacing_unsynced,
)

EACH = pytest.mark.parametrize("replacing", [replacing_durably, replacing_unsynced])
Replacing = Callable[[Path], AbstractContextManager[BinaryIO]]


@EACH
def test_what_is_written_piece_by_piece_takes_the_place_at_the_end(
    replacing: Replacing, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before")
    with replacing(path) as file:
        file.write(b"one ")
        file.write(b"two")
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"one two"
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


@EACH
def test_what_ends_in_a_fault_leaves_what_stood_there(replacing: Replacing, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before")
    with pytest.raises(TypeError), replacing(path) as file:
        file.writelines([b"one", "two"])  # type: ignore[list-item]  # the fault that is meant
    assert path.read_bytes() == b"before"
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


@EACH
def test_a_place_that_takes_no_file_gets_a_sentence(replacing: Replacing, tmp_path: Path) -> None:
    with (
        pytest.raises(UnavailableError, match="cannot be written: No such file"),
        replacing(tmp_path / "none" / "out"),
    ):
        pass


def test_a_folder_takes_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "set", mode=0o700) as folder:
        (folder / "a").write_bytes(b"1")
        assert not (tmp_path / "set").exists()
    assert (tmp_path / "set").stat().st_mode & 0o777 == 0o700
    with pytest.raises(UnavailableError), replacing_folder(tmp_path / "other") as folder:
        raise UnavailableError("half of it is there")
    assert [one.name for one in tmp_path.iterdir()] == ["set"]


def test_rights_hold_from_the_first_byte(tmp_path: Path) -> None:
    replace_durably(tmp_path / "below" / "key", b"secret", mode=0o600)
    assert (tmp_path / "below" / "key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "below").stat().st_mode & 0o777 == 0o700
