"""The output of every format reader: rows that name an image, and the truth of names over classes.

A wanted name is bare (``blue``: holds or not, on its own) or ``<region>/<class>``; of the classes
of one region exactly one holds. A source may write the bare class where only one wanted name ends
in it.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from lineside.core import InvalidError, LinesideError
from lineside.datasets.samples import Marked, Part, Skipped

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


Made = Callable[[], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A picture as a source names it, ``where`` it does so, and what is known of it.

    Attributes:
        size: width and height of the picture its marks were made on; None for not told.
        in_shares: ``marked`` is in shares of width and height instead of pixels.
        picture: makes the picture's bytes where it is no file of its own; always the same bytes.
        drawn: makes the mask's bytes, likewise, given the picture's width and height.
    """

    where: str
    file: str
    labels: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    group: str = ""
    split: Part = Part.OPEN
    captured_at: datetime | None = None
    mask: str = ""
    count: int | None = None
    template: str = ""
    marked: tuple[Marked, ...] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    in_shares: bool = False
    picture: Made | None = None
    drawn: Callable[[int, int], bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A picture a source names; ``row`` reads what is said of it, and nothing before.

    ``row`` raises ``InvalidError`` or ``NotFoundError`` where that cannot be used.
    """

    file: str
    where: str
    row: Callable[[], Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A source whose pictures come one after the other.

    Attributes:
        entries: read once; ``skipped`` grows while they are.
        sorts: the order of the entries means nothing, so samples are put in order of their names.
        unpaired: report on files of which no entry spoke, called after the last one, and only where
            all of the source is wanted.
        of_id: entries of one id without listing anything, where the format can.
    """

    format: str
    entries: Iterator[Entry]
    skipped: list[Skipped] = field(default_factory=list)
    sorts: bool = False
    unpaired: Callable[[], Iterable[Skipped]] = tuple
    of_id: Callable[[str], Iterator[Entry]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """All rows of one source."""

    format: str
    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, slots=True)
class Truth:
    """The names that a source may give, and what one row's names say of all of them."""

    wanted: tuple[str, ...]
    regions: Mapping[str, tuple[str, ...]] = field(init=False)
    by_class: Mapping[str, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        regions: dict[str, list[str]] = {}
        by_class: dict[str, list[str]] = {}
        for name in self.wanted:
            region, slash, bare = name.rpartition("/")
            if slash:
                regions.setdefault(region, []).append(name)
                by_class.setdefault(bare, []).append(name)
        object.__setattr__(self, "regions", {key: tuple(value) for key, value in regions.items()})
        object.__setattr__(self, "by_class", {key: tuple(value) for key, value in by_class.items()})

    def name(self, written: str) -> str:
        """The wanted name a source means; with nothing wanted, every name is taken as it stands.

        Raises:
            InvalidError: it is none of the wanted names, or several end in it.
        """
        if not self.wanted or written in self.wanted:
            return written
        ends = self.by_class.get(written, ())
        if len(ends) == 1:
            return ends[0]
        if ends:
            raise InvalidError(
                f"label {written!r} is a class of {len(ends)} regions", fix=f"Write {ends[0]!r}."
            )
        raise InvalidError(f"label {written!r} is unknown", fix=f"Known: {', '.join(self.wanted)}.")

    def judged(self, held: Iterable[str], *, over: Sequence[str]) -> tuple[str, ...]:
        """Of the names ``over`` which a row speaks, those it judges, given those that hold.

        A bare name is judged by being left out; a class only where one class of its region holds.

        Raises:
            InvalidError: two classes of one region hold.
        """
        held = set(held)
        known: set[str] = set()
        for region, names in self.regions.items():
            holding = held.intersection(names)
            if len(holding) > 1:
                both = " and ".join(sorted(holding))
                raise InvalidError(
                    f"region {region} cannot be {both} at once", fix="Keep one of them."
                )
            if holding:
                known.update(names)
        known.update(name for name in over if "/" not in name)
        return tuple(sorted(known))


def number(text: str) -> float:
    """A plain decimal number; ``InvalidError`` for anything else, infinities included."""
    if _NUMBER.fullmatch(text) is None or not math.isfinite(value := float(text)):
        raise InvalidError(f"{text[:40]!r} is not a number")
    return value


def zero_or_one(text: str) -> bool:
    """Return whether a label column says 1; ``InvalidError`` unless it says 0 or 1."""
    value = number(text)
    if value not in (0.0, 1.0):
        raise InvalidError(f"{text!r} is neither 0 nor 1")
    return value == 1.0


def entry_of(row: Row) -> Entry:
    """The entry of a row that is read already."""
    return Entry(file=row.file, where=row.where, row=lambda: row)


def collected(listing: Listing) -> Source:
    """Every row of a listing at once."""
    rows: list[Row] = []
    for entry in listing.entries:
        try:
            rows.append(entry.row())
        except InvalidError as error:
            listing.skipped.append(left_out(entry.where, error))
    return Source(format=listing.format, rows=tuple(rows), skipped=tuple(listing.skipped))


def left_out(where: str, error: LinesideError) -> Skipped:
    """Return the report on a row that cannot be used."""
    told = error.message.removeprefix(f"{where}: ")
    return Skipped(where=where, reason=f"{told}. {error.fix}" if error.fix else told)
