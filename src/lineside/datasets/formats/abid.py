"""Bins of a warehouse: a picture and a JSON record of one number, as the Amazon Bin Image Dataset.

1. Pictures stand in ``bin-images/`` or ``images/``, records in ``metadata/``, or both in the root.
   Numbers are written plainly or with zeros before them, in either folder.
2. The count is ``EXPECTED_QUANTITY`` alone. The products' keys are not always their ``asin``, an
   ``asin`` may be null, any other field may be missing, further ones may stand there.
3. Neighbouring numbers show one bin before and after a pick: samples are grouped in blocks of 100
   numbers unless a rule for groups says otherwise (``ids:N`` for blocks of N).
4. A picture without a record and a record that cannot be read are named and left out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from lineside.core import InvalidError, NotFoundError, decode_fast
from lineside.datasets.formats.folders import PICTURE_SUFFIXES, pictures
from lineside.datasets.formats.rows import Entry, Listing, Row
from lineside.datasets.splitting import number_in
from lineside.datasets.trees import MOST_NOTE_BYTES, Tree, joined, stem_of

_PICTURES = ("bin-images", "images", "")
_RECORDS = ("metadata", "")
_WIDTHS = (5, 6, 1)
_BLOCK = 100
_LOOKED_AT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Product:
    asin: str | None = None
    name: str | None = None
    quantity: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bin:
    EXPECTED_QUANTITY: int | None = None
    BIN_FCSKU_DATA: Mapping[str, _Product] = field(default_factory=dict)


def looks_like_abid(tree: Tree) -> bool:
    """Return whether a picture of the tree has a record that tells an expected quantity."""
    place = _Place.of(tree)
    noted = (name for name in pictures(tree, place.images) if place.record_of(name))
    return any(place.counts(name) for name in islice(noted, _LOOKED_AT))


def list_abid(tree: Tree) -> Listing:
    """The bins that have a picture."""
    place = _Place.of(tree)

    def entry(name: str) -> Entry:
        return Entry(file=name, where=name, row=partial(place.row, name))

    def of_id(word: str) -> Iterator[Entry]:
        yield Entry(file=word, where=word, row=partial(place.row_of_id, word))

    entries = (entry(name) for name in pictures(tree, place.images))
    return Listing(format="abid", entries=entries, sorts=True, of_id=of_id)


@dataclass(slots=True, kw_only=True)
class _Place:
    """Where pictures and records stand, and how the last number was written that was found."""

    tree: Tree
    images: str
    records: str
    written: tuple[int, str] = (_WIDTHS[0], PICTURE_SUFFIXES[0])

    @classmethod
    def of(cls, tree: Tree) -> "_Place":
        inner = tree.folders()
        return cls(
            tree=tree,
            images=next(name for name in _PICTURES if not name or name in inner),
            records=next(name for name in _RECORDS if not name or name in inner),
        )

    def row(self, name: str) -> Row:
        record, raw = self.note(name)
        told = decode_fast(_Bin, raw, where=record)
        if told.EXPECTED_QUANTITY is None or told.EXPECTED_QUANTITY < 0:
            raise InvalidError(f"{record} has no EXPECTED_QUANTITY from 0")
        products = told.BIN_FCSKU_DATA.values()
        asins = sorted({product.asin for product in products if product.asin})
        return Row(
            where=name,
            file=name,
            count=told.EXPECTED_QUANTITY,
            group=_block(name),
            facts={"products": str(len(products)), "asins": ";".join(asins)},
        )

    def row_of_id(self, word: str) -> Row:
        """The row of a number; ``NotFoundError`` where no picture has it."""
        name = next(self.named(word), "")
        if not name:
            raise NotFoundError("no picture of this id")
        return self.row(name)

    def note(self, name: str) -> tuple[str, bytes]:
        """Name and bytes of a picture's record, asked for as it is most likely written."""
        for stem in _written(stem_of(name)):
            record = joined(self.records, f"{stem}.json")
            try:
                return record, self.tree.read(record, most=MOST_NOTE_BYTES)
            except NotFoundError:
                continue
        raise InvalidError("no record of this number", fix="Add its JSON file.")

    def counts(self, name: str) -> bool:
        """Return whether the picture's record tells an expected quantity."""
        try:
            return self.row(name).count is not None
        except (InvalidError, NotFoundError):
            return False

    def record_of(self, name: str) -> str:
        """Where the picture's record stands; empty for nowhere."""
        found = (joined(self.records, f"{stem}.json") for stem in _written(stem_of(name)))
        return next((record for record in found if self.tree.has(record)), "")

    def named(self, word: str) -> Iterator[str]:
        """The picture of a number, with as few questions as may be."""
        for stem, suffix in self._forms(stem_of(word)):
            name = joined(self.images, stem + suffix)
            if self.tree.has(name):
                self.written = (len(stem), suffix)
                yield name
                return

    def _forms(self, stem: str) -> Iterator[tuple[str, str]]:
        width, suffix = self.written
        if stem.isascii() and stem.isdigit():
            yield f"{int(stem):0{width}d}", suffix
        for form in _written(stem):
            yield from ((form, one) for one in PICTURE_SUFFIXES)


def _block(name: str) -> str:
    number = number_in(name)
    return "" if number is None else f"ids {number // _BLOCK * _BLOCK}"


def _written(stem: str) -> list[str]:
    """A number as others may write it, its own form first."""
    if not (stem.isascii() and stem.isdigit()):
        return [stem]
    return list(dict.fromkeys([stem, *(f"{int(stem):0{width}d}" for width in _WIDTHS)]))
