"""Class names by number, kept in a text file beside the lists and records that use the numbers."""

from collections.abc import Iterator
from pathlib import Path

from lineside.core import InvalidError

CLASSES = "_classes.txt"


def class_file(prefix: Path) -> Path:
    """Where the class names of a prefix are kept."""
    return prefix.with_name(prefix.name + CLASSES)


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names by number; empty where there is no such file.

    Raises:
        InvalidError: no text, or a name stands there twice.
    """
    if not path.is_file():
        return ()
    try:
        return parse_classes(path.read_bytes(), where=str(path))
    except OSError as error:
        raise InvalidError(f"cannot be read: {error.strerror}", where=str(path)) from error


def parse_classes(raw: bytes, *, where: str) -> tuple[str, ...]:
    """Class names of the bytes of such a file: line number from 0, spaces behind cut off."""
    try:
        lines = raw.decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise InvalidError("not UTF-8 text", where=where, fix="Save it as UTF-8.") from error
    names = tuple(line.rstrip() for line in lines)
    if "" in names or len(set(names)) != len(names):
        raise InvalidError(
            "an empty name, or one that stands twice", where=where, fix="One name in each line."
        )
    return names


def classes_beside(path: Path) -> tuple[str, ...]:
    """The class names kept with the lists a record or list file was made of; empty for none.

    ``socks_train.rec`` takes ``socks_train_classes.txt``, ``socks_classes.txt`` or ``classes.txt``.
    """
    found = (read_classes(path.with_name(file)) for file in class_files(path.stem))
    return next((names for names in found if names), ())


def class_files(stem: str) -> Iterator[str]:
    """Names such a file may have, the nearest first."""
    words = stem.split("_")
    for count in range(len(words), 0, -1):
        yield "_".join(words[:count]) + CLASSES
    yield CLASSES.removeprefix("_")


def picture_suffix(encoded: bytes) -> str:
    """The suffix of a picture's file, by its first bytes."""
    if encoded.startswith(b"\xff\xd8\xff"):
        return ".jpg"
    return ".png" if encoded.startswith(b"\x89PNG") else ".bin"
