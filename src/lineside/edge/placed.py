"""What answers for each inspection, what did before it, and who brought it: ``placed.json``.

1. The wish on the bus is what the hub wants for good; a job brings a package sooner, to some
   devices first. What a job brought stays until the wish becomes another one than it was then.
2. A wish that is not known (lost with a part of the disk, never heard) changes nothing.
3. The package before stays on the disk; it goes on when the one in use must not run any more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lineside.core import Digest, LinesideError, decode, encode, replace_durably
from lineside.edge.messages import Desired, Wanted

_FILE = "placed.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """The package of one inspection.

    Attributes:
        digest: of the package in use.
        before: of the one before it; "": none.
        url: where it may be had again; "": the update repository says so.
        by_job: whether a job brought it, and the wish has not changed since.
        instead_of: digest that the wish named then; "": none.
    """

    inspection: str
    digest: Digest
    before: str = ""
    url: str = ""
    by_job: bool = False
    instead_of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    schema: Literal["lineside.placed/1"] = "lineside.placed/1"
    packages: tuple[Placed, ...] = ()


def wanted_now(wish: Desired | None, placed: Mapping[str, Placed]) -> tuple[Wanted, ...]:
    """What should answer: the wish, but for what a job brought since; without a wish, as it was."""
    wished = {one.inspection: one for one in wish.packages} if wish is not None else {}
    by_job = {
        name: Wanted(inspection=name, digest=one.digest, url=one.url)
        for name, one in placed.items()
        if wish is None or _holds(one, wished)
    }
    return tuple({**wished, **by_job}.values())


def settled(wish: Desired | None, placed: Mapping[str, Placed]) -> dict[str, Placed]:
    """The same, where the wish has not changed; else what a job brought is as if wished."""
    if wish is None:
        return dict(placed)
    wished = {one.inspection: one for one in wish.packages}
    return {
        name: one if _holds(one, wished) else replace(one, by_job=False, instead_of="")
        for name, one in placed.items()
    }


def _holds(one: Placed, wished: Mapping[str, Wanted]) -> bool:
    there = wished.get(one.inspection)
    return one.by_job and one.instead_of == (there.digest if there is not None else "")


def read_placed(folder: Path) -> dict[str, Placed]:
    """By inspection; nothing where the file is not there or was damaged: the wish says enough."""
    path = folder / _FILE
    try:
        document = decode(_Document, path.read_bytes(), where=str(path))
    except (OSError, LinesideError):
        return {}
    return {one.inspection: one for one in document.packages}


def keep_placed(folder: Path, *, placed: Mapping[str, Placed]) -> None:
    """Keep it; ``UnavailableError`` where the disk does not take it."""
    kept = tuple(placed[name] for name in sorted(placed))
    replace_durably(folder / _FILE, encode(_Document(packages=kept)))
