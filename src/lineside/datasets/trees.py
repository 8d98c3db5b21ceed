"""Where a source's files lie: a folder, an archive, a bucket; each read by relative names.

1. Nothing is listed ahead: names come one after the other, in no particular order.
2. A name never leads out, by dots or by links.
3. A file is refused by its length before it is read.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, Protocol

from lineside.core import InvalidError, NotFoundError

MOST_LIST_BYTES = 1024 * 1024 * 1024
MOST_PICTURE_BYTES = 64 * 1024 * 1024
MOST_NOTE_BYTES = 4 * 1024 * 1024


class Tree(Protocol):
    """Files by POSIX names relative to its root, ``""`` being the root itself.

    ``read`` and ``open`` raise ``NotFoundError``, and ``InvalidError`` above ``most`` bytes.
    """

    @property
    def where(self) -> str:
        """What it is, for messages."""
        ...

    def folders(self, folder: str = "") -> list[str]:
        """Direct sub-folders, sorted, hidden ones left out."""
        ...

    def files(self, folder: str = "") -> Iterator[str]:
        """Files directly in a folder, one after the other; nothing where it is not there."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    def read(self, name: str, *, most: int) -> bytes:
        """All its bytes."""
        ...

    def open(self, name: str, *, most: int) -> BinaryIO:
        """The file, open for reading; whoever opens it closes it."""
        ...


class FolderTree:
    """A folder of this machine; links are followed to wherever only where that is said."""

    def __init__(self, root: Path, *, links: Literal["inside", "followed"] = "inside") -> None:
        self.root = root.resolve()
        self._inside = links == "inside"
        self.where = str(root)

    def folders(self, folder: str = "") -> list[str]:
        return sorted(self._name(entry) for entry in self._entries(folder) if _is_folder(entry))

    def files(self, folder: str = "") -> Iterator[str]:
        for entry in self._entries(folder):
            if entry.is_file() and not entry.name.startswith("."):
                yield self._name(entry)

    def has(self, name: str) -> bool:
        try:
            return self.path(name).is_file()
        except NotFoundError:
            return False

    def read(self, name: str, *, most: int) -> bytes:
        with self.open(name, most=most) as file:
            # Not ``most``: room is made ahead for as much as is asked for.
            return file.read(min(most, os.fstat(file.fileno()).st_size))

    def open(self, name: str, *, most: int) -> BinaryIO:
        path = self.path(name)
        try:
            size = path.stat().st_size
            if size > most:
                raise InvalidError(f"{size} bytes, at most {most} are taken", where=str(path))
            return path.open("rb")
        except FileNotFoundError as error:
            raise NotFoundError("there is no such file", where=str(path)) from error
        except OSError as error:
            raise InvalidError(f"cannot be read: {error.strerror}", where=str(path)) from error

    def path(self, name: str) -> Path:
        """Where the file is; ``InvalidError`` when its name leads out of the folder."""
        written = inside(name)
        try:
            path = self.root / written
            resolved = path.resolve()
            path.is_file()
        except (OSError, ValueError) as error:
            raise NotFoundError("no usable file name", where=self.where) from error
        if self._inside and not resolved.is_relative_to(self.root):
            raise InvalidError("the name leads out of the folder", where=self.where)
        return path

    def _entries(self, folder: str) -> Iterator["os.DirEntry[str]"]:
        path = self.path(folder)
        if path.is_dir():
            with os.scandir(path) as entries:
                yield from entries

    def _name(self, entry: "os.DirEntry[str]") -> str:
        return Path(entry.path).relative_to(self.root).as_posix()


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def inside(name: str) -> str:
    """The name as it is written; ``InvalidError`` when it could lead out of the folder."""
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        raise InvalidError("the name leads out of the folder")
    if "\0" in name or "\\" in name:
        raise InvalidError("no usable file name")
    return name


def stem_of(name: str) -> str:
    """``b`` of ``a/b.png``."""
    return PurePosixPath(name).stem


def suffix_of(name: str) -> str:
    """``.png`` of ``a/b.PNG``."""
    return PurePosixPath(name).suffix.lower()


def walk(tree: Tree, folder: str = "", *, depth: int = 8) -> Iterator[str]:
    """Every file below a folder, at most ``depth`` folders deep."""
    yield from tree.files(folder)
    if depth > 0:
        for inner in tree.folders(folder):
            yield from walk(tree, inner, depth=depth - 1)
