"""Class folders: the folder's name is the label of every picture in it.

``<class>/picture`` or ``<part>/<class>/picture`` with parts called train, valid and test; one level
``images/`` above the classes is passed through. ``normal/`` and ``anomalous/`` are class folders.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from lineside.core import InvalidError
from lineside.datasets.formats.rows import Entry, Listing, Row, Truth, said
from lineside.datasets.samples import Part, Skipped, part_of
from lineside.datasets.trees import Tree, suffix_of

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


def looks_like_folders(tree: Tree) -> bool:
    """Return whether a tree holds class folders with pictures (possibly one level further in)."""
    return any(True for _, folder in _classes(tree) for _ in pictures(tree, folder))


def list_folders(tree: Tree, *, labels: Sequence[str] = ()) -> Listing:
    """The pictures of a tree of class folders."""
    found = [(part, folder) for part, folder in _classes(tree) if any(pictures(tree, folder))]
    names = {PurePosixPath(folder).name for _, folder in found}
    truth = Truth(tuple(labels) or tuple(sorted(names)))
    listing = Listing(format="folders", entries=iter(()), sorts=True)

    def entries() -> Iterator[Entry]:
        for part, folder in found:
            try:
                held = (truth.name(PurePosixPath(folder).name),)
            except InvalidError as error:
                reason = f"{error.message} {error.fix}"
                listing.skipped.append(Skipped(where=folder, reason=reason))
                continue
            known = truth.judged(held, over=truth.wanted)
            for name in pictures(tree, folder):
                yield said(Row(where=name, file=name, labels=held, known=known, split=part))

    return replace(listing, entries=entries())


def pictures(tree: Tree, folder: str) -> Iterator[str]:
    """Pictures directly in a folder, by their suffixes."""
    return (name for name in tree.files(folder) if suffix_of(name) in PICTURE_SUFFIXES)


def part_named(name: str) -> Part:
    """The part a folder's or file's name is; open for any other."""
    try:
        return part_of(PurePosixPath(name).name)
    except InvalidError:
        return Part.OPEN


def part_in(name: str) -> Part:
    """The part whose word stands in a name: ``rack_train`` is training; open where none does."""
    for word in name.lower().replace("-", "_").replace(".", "_").split("_"):
        part = part_named(word)
        if part is not Part.OPEN:
            return part
    return Part.OPEN


def _classes(tree: Tree) -> Iterator[tuple[Part, str]]:
    for folder in tree.folders():
        part = part_named(folder)
        if part is not Part.OPEN or folder == "images":
            yield from ((part, inner) for inner in tree.folders(folder))
        else:
            yield part, folder
