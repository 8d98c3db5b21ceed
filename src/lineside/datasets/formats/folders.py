"""Class folders: the folder's name is the label of every picture in it.

``<class>/picture`` or ``<part>/<class>/picture`` with parts called train, valid and test; one level
``images/`` above the classes is passed through. ``normal/`` and ``anomalous/`` are class folders.

Pictures in ``images/`` and their masks in ``masks/``, paired by name.

1. The mask of ``images/7.png`` is ``masks/7.png``, or ``7_GT`` for ``7``; suffixes may differ. In
   one flat folder ``7.png`` and ``7_GT.png`` pair likewise. Folders ``train``, ``valid`` and
   ``test`` above say the part.
2. A mask without any pixel above zero says ``normal``, any other ``anomalous``: one pixel is
   enough. Only an anomalous picture keeps its mask.
3. A mask with marks above 127 is kept as it is, and cut there by whoever uses it; one whose marks
   are all fainter (class numbers, 1 for defect) is lifted to 255.
4. A picture without mask and a mask without picture are named and left out. Pairs are never formed
   by position.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError, LinesideError
from lineside.datasets.formats.rle import mask_png
from lineside.datasets.formats.rows import Entry, Listing, Row, Truth, entry_of
from lineside.datasets.samples import Part, Skipped, part_of
from lineside.datasets.trees import (
    MOST_PICTURE_BYTES,
    Tree,
    composed,
    joined,
    stem_of,
    suffix_of,
    walk,
)
from lineside.vision import decode_picture

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


def looks_like_folders(tree: Tree) -> bool:
    """Return whether a tree holds class folders with pictures (possibly one level further in)."""
    return any(True for _, folder in _classes(tree) for _ in pictures(tree, folder))


def list_folders(tree: Tree, *, labels: Sequence[str] = ()) -> Listing:
    """The pictures of a tree of class folders, with a report on those beside."""
    found = [(part, folder) for part, folder in _classes(tree) if any(pictures(tree, folder))]
    names = {composed(PurePosixPath(folder).name) for _, folder in found}
    truth = Truth(tuple(labels) or tuple(sorted(names)))
    listing = Listing(format="folders", entries=iter(()), sorts=True)

    def entries() -> Iterator[Entry]:
        for part, folder in found:
            try:
                held = (truth.name(composed(PurePosixPath(folder).name)),)
            except InvalidError as error:
                reason = f"{error.message} {error.fix}"
                listing.skipped.append(Skipped(where=folder, reason=reason))
                continue
            known = truth.judged(held, over=truth.wanted)
            for name in pictures(tree, folder):
                yield entry_of(Row(where=name, file=name, labels=held, known=known, split=part))

    def unpaired() -> Iterator[Skipped]:
        places = ["", *(one for one in tree.folders() if _holds_classes(one))]
        bare = [name for place in places for name in pictures(tree, place)]
        if bare:
            reason = f"{len(bare)} pictures lie in no class folder, such as {bare[0]}; left out"
            yield Skipped(where=tree.where, reason=reason)

    return replace(listing, entries=entries(), unpaired=unpaired)


def pictures(tree: Tree, folder: str) -> Iterator[str]:
    """Pictures directly in a folder, by their suffixes."""
    return (name for name in tree.files(folder) if suffix_of(name) in PICTURE_SUFFIXES)


def with_bare(
    listing: Listing, tree: Tree, *, lacking: str, folder: str = "", depth: int = 8
) -> Listing:
    """The listing, with a report on how many pictures of a folder it has no entry for.

    A picture and its entry have one stem.
    """
    entered: Counter[str] = Counter()

    def entries() -> Iterator[Entry]:
        for entry in listing.entries:
            entered[composed(stem_of(entry.file))] += 1
            yield entry

    def unpaired() -> Iterator[Skipped]:
        names = walk(tree, folder, depth=depth)
        found = Counter(
            composed(stem_of(name)) for name in names if suffix_of(name) in PICTURE_SUFFIXES
        )
        if bare := found - entered:
            reason = f"{bare.total()} pictures have no {lacking}, such as {min(bare)}; left out"
            yield Skipped(where=folder or tree.where, reason=reason)

    return replace(listing, entries=entries(), unpaired=unpaired)


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
        if _holds_classes(folder):
            yield from ((part, inner) for inner in tree.folders(folder))
        else:
            yield part, folder


def _holds_classes(folder: str) -> bool:
    return folder == "images" or part_named(folder) is not Part.OPEN


NORMAL, ANOMALOUS = "normal", "anomalous"
_MARK = "_GT"


def looks_like_masks(tree: Tree) -> bool:
    """Return whether a tree holds pictures with masks (possibly below the parts)."""
    return any(True for _ in _pairings(tree))


def list_masks(tree: Tree, *, labels: Sequence[str] = ()) -> Listing:
    """The pictures that have a mask, with a report on masks that no picture has."""
    truth = Truth(tuple(labels) or (NORMAL, ANOMALOUS))
    listing = Listing(format="masks", entries=iter(()), sorts=True)

    def entries() -> Iterator[Entry]:
        for pairing in _pairings(tree):
            for name in pictures(tree, pairing.images):
                if pairing.flat and stem_of(name).endswith(_MARK):
                    continue
                row = partial(pairing.row, name, truth=truth)
                yield Entry(file=name, where=name, row=row)

    def of_id(word: str) -> Iterator[Entry]:
        for pairing in _pairings(tree):
            for name in pairing.named(word):
                row = partial(pairing.row, name, truth=truth)
                yield Entry(file=name, where=name, row=row)

    return replace(
        listing,
        entries=entries(),
        of_id=of_id,
        unpaired=lambda: chain.from_iterable(one.left_over() for one in _pairings(tree)),
    )


def _pairings(tree: Tree) -> Iterator["_Pairing"]:
    inner = tree.folders()
    if "images" in inner and "masks" in inner:
        yield _Pairing(tree, "images", "masks", part=Part.OPEN)
        return
    parts = [folder for folder in inner if part_named(folder) is not Part.OPEN]
    for folder in parts or [""]:
        names = tree.folders(folder)
        both = (f"{folder}/images", f"{folder}/masks")
        if set(both) <= set(names):
            yield _Pairing(tree, *both, part=part_named(folder))
        elif any(stem_of(name).endswith(_MARK) for name in pictures(tree, folder)):
            yield _Pairing(tree, folder, folder, part=part_named(folder) if folder else Part.OPEN)


class _Pairing:
    """One folder of pictures and the folder of its masks."""

    def __init__(self, tree: Tree, images: str, masks: str, *, part: Part) -> None:
        self.tree, self.images, self.masks, self.part = tree, images, masks, part
        self.flat = images == masks

    def row(self, name: str, *, truth: Truth) -> Row:
        mask = self.mask_of(name)
        if mask is None:
            raise InvalidError("no mask of this name", fix="Draw one, all black for a good part.")
        try:
            highest = int(_opened(self.tree, mask).max())
        except LinesideError as error:
            raise InvalidError(f"{mask}: {error.message}") from error
        held = (truth.name(ANOMALOUS if highest else NORMAL),)
        return Row(
            where=name,
            file=name,
            labels=held,
            known=truth.judged(held, over=truth.wanted),
            split=self.part,
            mask=mask if highest else "",
            drawn=partial(_lifted, self.tree, mask) if 0 < highest <= 127 else None,
        )

    def mask_of(self, name: str) -> str | None:
        stem = stem_of(name)
        endings = [_MARK] if self.flat else ["", _MARK]
        for ending in endings:
            for suffix in _suffixes(name):
                mask = joined(self.masks, f"{stem}{ending}{suffix}")
                if self.tree.has(mask):
                    return mask
        return None

    def left_over(self) -> Iterator[Skipped]:
        """Masks that no picture has."""
        for mask in pictures(self.tree, self.masks):
            stem = stem_of(mask)
            if self.flat and not stem.endswith(_MARK):
                continue
            stems = {stem.removesuffix(_MARK)} if self.flat else {stem, stem.removesuffix(_MARK)}
            if not any(next(self.named(stem), "") for stem in stems):
                yield Skipped(where=mask, reason="a mask without a picture of its name")

    def named(self, word: str) -> Iterator[str]:
        """The picture of a name, with or without folder and suffix."""
        bare = PurePosixPath(word).name
        whole = [bare] if PurePosixPath(bare).suffix.lower() in PICTURE_SUFFIXES else []
        for name in whole or [bare + suffix for suffix in _suffixes("")]:
            found = joined(self.images, name)
            if self.tree.has(found):
                yield found
                return


def _lifted(tree: Tree, mask: str, width: int, height: int) -> bytes:  # noqa: PLR0917  the last two as ``Row.drawn`` says
    """The mask with every mark at 255; its size is looked at by whoever asked."""
    del width, height
    return mask_png(np.asarray(_opened(tree, mask).any(axis=2), np.bool_))


def _opened(tree: Tree, mask: str) -> NDArray[np.uint8]:
    encoded = tree.read(mask, most=MOST_PICTURE_BYTES)
    return decode_picture(encoded, max_bytes=MOST_PICTURE_BYTES)


def _suffixes(name: str) -> list[str]:
    """The name's own suffix first; masks are PNG more often than not."""
    own = PurePosixPath(name).suffix
    return list(dict.fromkeys([*([own] if own else []), ".png", ".jpg", ".jpeg", ".PNG", ".JPG"]))
