"""A folder is read by names that stay inside it."""

from pathlib import Path

import pytest

from lineside.core import InvalidError, NotFoundError
from lineside.datasets.trees import FolderTree, walk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.txt", "x/1.txt", "x/y/2.txt", ".hidden/3.txt", "x/.4.txt"):
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "outside.txt").write_text("secret")
    (tmp_path / "root" / "link.txt").symlink_to(tmp_path / "outside.txt")
    return tmp_path / "root"


def test_files_and_folders_come_without_hidden_ones(folder: Path) -> None:
    tree = FolderTree(folder)
    assert tree.folders() == ["x"]
    assert tree.folders("x") == ["x/y"]
    assert list(tree.files("x")) == ["x/1.txt"]
    assert list(tree.files("none")) == []
    assert sorted(walk(tree)) == ["a.txt", "link.txt", "x/1.txt", "x/y/2.txt"]
    assert sorted(walk(tree, depth=0)) == ["a.txt", "link.txt"]
    assert tree.read("x/y/2.txt", most=99) == b"x/y/2.txt"


@pytest.mark.parametrize(
    "name", ["../outside.txt", "/etc/passwd", "x/../../outside.txt", "link.txt"]
)
def test_names_that_lead_out_are_refused(folder: Path, name: str) -> None:
    tree = FolderTree(folder)
    with pytest.raises(InvalidError, match="leads out"):
        tree.read(name, most=99)
    with pytest.raises(InvalidError, match="leads out"):
        tree.has(name)


def test_links_are_followed_where_that_is_said(folder: Path) -> None:
    assert FolderTree(folder, links="followed").read("link.txt", most=99) == b"secret"


def test_what_cannot_be_read_is_said(folder: Path) -> None:
    tree = FolderTree(folder)
    with pytest.raises(InvalidError, match="5 bytes, at most 4"):
        tree.read("a.txt", most=4)
    with pytest.raises(NotFoundError):
        tree.read("none.txt", most=4)
    with pytest.raises(InvalidError, match="cannot be read"):
        tree.read("x", most=10**6)
    for name in ("a\0b", "a\\b"):
        with pytest.raises(InvalidError, match="no usable file name"):
            tree.has(name)
    assert not tree.has("y" * 5000)
