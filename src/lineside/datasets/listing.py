"""Make list files of a folder of pictures, in the order of the reference tool (``im2rec.py``).

1. Depth first, a folder's own pictures before its sub-folders, both in plain order of their names;
   links are followed, a link to a folder that holds it is not.
2. A folder gets the next class number when its first picture is met. The numbers are kept beside
   the lists in ``<prefix>_classes.txt``, one name a line from 0; lists made again keep them.
3. Pictures are numbered over the whole walk, then shuffled with Python's generator, seed 100.
4. Of each chunk the first ``int(size * test)`` rows are the test part, the next
   ``int(size * train)`` the training part, the rest the validation part; ``size`` is that of a
   full chunk. Where the two shares make up 1 there is no validation list, and what rounding leaves
   stands in none.
"""

import math
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lineside.core import ConflictError, InvalidError, NotFoundError, replace_durably
from lineside.datasets.classes import class_file, read_classes
from lineside.datasets.formats import NumberForm, write_lst

_SEED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPlan:
    """How lists are made; the defaults are those of the reference tool.

    Attributes:
        recursive: also sub-folders, each a class of its own; else every label is 0.
        train, test: shares of the rows; what is left is the validation part.
        chunks: lists of each part.
        shuffle: whether rows are shuffled before they are parted.
        suffixes: of the files taken, in lower case.
        form: how label numbers are written.
    """

    recursive: bool = False
    train: float = 1.0
    test: float = 0.0
    chunks: int = 1
    shuffle: bool = True
    suffixes: tuple[str, ...] = (".jpeg", ".jpg", ".png")
    form: NumberForm = "decimals"

    def __post_init__(self) -> None:
        if not (0 <= self.train <= 1 and 0 <= self.test <= 1 and self.train + self.test <= 1):
            raise InvalidError(
                f"shares {self.train} and {self.test}", fix="Two shares from 0, together at most 1."
            )
        if self.chunks < 1:
            raise InvalidError(f"{self.chunks} chunks", fix="Ask for one or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A picture with its number, its class number and its name relative to the root."""

    id: int
    label: int
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeLists:
    """What was written.

    Attributes:
        files: rows of each list file.
        classes: their names by number.
        left_out: pictures in no list, which is what rounding leaves where the shares make up 1.
    """

    files: dict[str, int]
    classes: tuple[str, ...]
    left_out: int = 0


def make_lists(
    prefix: Path, root: Path, *, plan: ListPlan, classes: Sequence[str] = ()
) -> MadeLists:
    """Write the lists of a folder and the names of its classes.

    Args:
        prefix: where they go: ``<prefix>_train.lst`` and so on.
        root: the folder of pictures.
        plan: what goes into which list.
        classes: names by number, where they are fixed already.

    Raises:
        NotFoundError: no such folder, or no picture in it.
        InvalidError: a folder that is none of the fixed classes.
        ConflictError: earlier lists of this prefix number the classes otherwise.
    """
    if not root.is_dir():
        raise NotFoundError("no such folder", where=str(root), fix="Check the path.")
    fixed = tuple(classes) or read_classes(class_file(prefix))
    rows, names = number_pictures(walk_pictures(root, plan=plan), plan=plan, fixed=fixed)
    if not rows:
        raise NotFoundError(
            "no picture in it", where=str(root), fix=f"Suffixes taken: {' '.join(plan.suffixes)}."
        )
    if plan.recursive:
        _keep_classes(class_file(prefix), names)
    written: dict[str, int] = {}
    for ending, part in parted(rows, plan=plan):
        path = prefix.with_name(prefix.name + ending + ".lst")
        raw = write_lst([(row.id, (row.label,), row.file) for row in part], form=plan.form)
        replace_durably(path, raw)
        written[str(path)] = len(part)
    return MadeLists(files=written, classes=names, left_out=len(rows) - sum(written.values()))


def walk_pictures(root: Path, *, plan: ListPlan) -> Iterator[PurePosixPath]:
    """Pictures relative to the root, in the order of the walk."""
    yield from _walk(root, PurePosixPath(), plan=plan, above=())


def _walk(
    root: Path, here: PurePosixPath, *, plan: ListPlan, above: tuple[tuple[int, int], ...]
) -> Iterator[PurePosixPath]:
    stat = (root / here).stat()
    if (stat.st_dev, stat.st_ino) in above:
        return
    with os.scandir(root / here) as entries:
        found = sorted((entry.name, entry.is_dir(), entry.is_file()) for entry in entries)
    for name, _, is_file in found:
        if is_file and PurePosixPath(name).suffix.lower() in plan.suffixes:
            yield here / name
    for name, is_folder, _ in found if plan.recursive else ():
        if is_folder:
            inner = (*above, (stat.st_dev, stat.st_ino))
            yield from _walk(root, here / name, plan=plan, above=inner)


def number_pictures(
    files: Iterator[PurePosixPath], *, plan: ListPlan, fixed: Sequence[str] = ()
) -> tuple[list[Listed], tuple[str, ...]]:
    """Pictures with their numbers in the order given, and the class names.

    Raises:
        InvalidError: a folder that is none of the fixed classes.
    """
    numbers = {name: number for number, name in enumerate(fixed)}
    rows: list[Listed] = []
    for file in files:
        name = file.parent.as_posix()
        if plan.recursive and fixed and name not in numbers:
            raise InvalidError(
                f"folder {name!r} is none of the {len(fixed)} classes that are numbered already",
                where=str(file),
                fix=f"Known: {', '.join(fixed)}. Add it at the end of the classes' file.",
            )
        label = numbers.setdefault(name, len(numbers)) if plan.recursive else 0
        rows.append(Listed(id=len(rows), label=label, file=file.as_posix()))
    return rows, tuple(numbers)


def parted(rows: Sequence[Listed], *, plan: ListPlan) -> Iterator[tuple[str, Sequence[Listed]]]:
    """The rows of each list, by what its name ends in."""
    rows = list(rows)
    if plan.shuffle:
        random.Random(_SEED).shuffle(rows)  # noqa: S311  the reference's order, no secret
    size = math.ceil(len(rows) / plan.chunks)
    train, test = int(size * plan.train), int(size * plan.test)
    for number in range(plan.chunks):
        chunk = rows[number * size : (number + 1) * size]
        ending = f"_{number}" if plan.chunks > 1 else ""
        if plan.train == 1.0:
            yield ending, chunk
            continue
        if plan.test:
            yield f"{ending}_test", chunk[:test]
        yield f"{ending}_train", chunk[test : test + train]
        if plan.train + plan.test < 1.0:
            yield f"{ending}_val", chunk[test + train :]


def _keep_classes(path: Path, names: Sequence[str]) -> None:
    raw = "".join(f"{name}\n" for name in names).encode()
    if any("\n" in name for name in names):
        raise InvalidError("a folder's name holds a line end", where=str(path), fix="Rename it.")
    if path.is_file():
        earlier = read_classes(path)
        if tuple(names[: len(earlier)]) != earlier:
            raise ConflictError(
                "earlier lists number the classes otherwise",
                where=str(path),
                fix="Take that file's order, or another prefix.",
            )
    replace_durably(path, raw)
