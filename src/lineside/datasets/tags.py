"""Tags: names that a person moves from version to version, such as ``prod``.

A tag is unique in its dataset and names one version at a time, or none after it was taken off.
Every move is kept with its author and time.
"""

from dataclasses import dataclass
from datetime import datetime

from lineside.core import ConflictError, InvalidError, NotFoundError, decode, to_plain
from lineside.store import Documents

_SCHEMA = "lineside.dataset-tag/1"
_ATTEMPTS = 8
_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class TagMove:
    """A tag was put on a version; 0 for taken off."""

    version: int
    by: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A tag with all its moves, oldest first."""

    name: str
    history: tuple[TagMove, ...]
    schema: str = _SCHEMA

    @property
    def version(self) -> int:
        """The version it is on; 0 for none."""
        return self.history[-1].version


def check_tag(tag: str) -> str:
    """A tag: up to 32 letters, digits, ``-``, ``_``, ``.``, a letter first."""
    plain = tag.replace("-", "").replace("_", "").replace(".", "")
    if not (plain.isascii() and plain.isalnum() and tag[0].isalpha() and len(tag) <= 32):
        raise InvalidError(
            f"{tag!r} cannot be a tag",
            where="tag",
            fix="Use up to 32 letters, digits, '-', '_' and '.', a letter first.",
        )
    return tag


class Tags:
    """The tags of one dataset, in documents."""

    def __init__(self, documents: Documents, *, dataset: str) -> None:
        self._documents = documents
        self._kind = f"dataset-tag:{dataset}"

    def all(self) -> tuple[Tag, ...]:
        """Every tag there ever was, by name."""
        found: list[Tag] = []
        after = ""
        while page := self._documents.page(self._kind, after=after, limit=_PAGE):
            found += [decode(Tag, document.body, where=document.id) for document in page]
            after = page[-1].id
        return tuple(found)

    def one(self, tag: str) -> Tag:
        """``NotFoundError`` if there never was one."""
        document = self._documents.get(self._kind, check_tag(tag))
        return decode(Tag, document.body, where=tag)

    def move(self, tag: str, move: TagMove) -> Tag:
        """Put it on the version of ``move``; on the one it is on already, nothing changes."""
        for _ in range(_ATTEMPTS):
            old, expect = self._read(check_tag(tag))
            if (old[-1].version if old else 0) == move.version:
                return Tag(name=tag, history=old or (move,))
            fresh = Tag(name=tag, history=(*old, move))
            try:
                self._documents.put(self._kind, tag, body=to_plain(fresh), expect=expect)
            except ConflictError:
                continue
            return fresh
        raise ConflictError("the tag is being moved all the time", where=tag, fix="Try again.")

    def _read(self, tag: str) -> tuple[tuple[TagMove, ...], int]:
        try:
            document = self._documents.get(self._kind, tag)
        except NotFoundError:
            return (), 0
        return decode(Tag, document.body, where=tag).history, document.version
