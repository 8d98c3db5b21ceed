"""Directory of things and groups: the job service's contract, and one over records.

A revision is any text that differs whenever a thing or a membership did.
"""

from collections.abc import Sequence
from typing import Protocol

from lineside.core import InvalidError, NotFoundError
from lineside.fleet.jobs.names import is_name
from lineside.store import Documents, Records

_PAGE = 500
_KEY = "all"


class Directory(Protocol):
    """Things and groups; safe from several threads."""

    def has(self, thing: str) -> bool:
        """Return whether there is such a thing."""
        ...

    def things(self) -> Sequence[str]:
        """All of them, in order."""
        ...

    def members(self, group: str) -> Sequence[str]:
        """Things of a group, in order; ``NotFoundError`` where there is no such group."""
        ...

    def groups(self, thing: str) -> Sequence[str]:
        """Groups of a thing, in order."""
        ...

    def revision(self) -> str:
        """Another text after every change."""
        ...


class ThingDirectory:
    """``Directory`` over documents, with what fills it."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def add_group(self, group: str) -> None:
        """Make a group; one that is there stays as it is."""
        _check(group)
        with self._records.transaction():
            self._documents.put("thing-group", group, body={"schema": "lineside.group/1"})
            self._touch()

    def add(self, thing: str, *, groups: Sequence[str] = ()) -> None:
        """Make a thing, or say anew which groups it is in; groups are made as needed."""
        for name in (thing, *groups):
            _check(name)
        with self._records.transaction():
            for group in groups:
                self.add_group(group)
            self._leave(thing, stay=groups)
            body = {"schema": "lineside.thing/1", "groups": sorted(set(groups))}
            self._documents.put("thing", thing, body=body)
            for group in groups:
                self._documents.put("thing-member", f"{group}/{thing}", body={})
            self._touch()

    def remove(self, thing: str) -> None:
        """Forget a thing; one that is not there is fine."""
        with self._records.transaction():
            self._leave(thing, stay=())
            self._documents.delete("thing", thing)
            self._touch()

    def has(self, thing: str) -> bool:
        return _there(self._documents, kind="thing", name=thing)

    def things(self) -> list[str]:
        return _ids(self._documents, "thing", prefix="")

    def members(self, group: str) -> list[str]:
        if not _there(self._documents, kind="thing-group", name=group):
            raise NotFoundError(
                f"no group {group!r}", where="targets", fix="List the groups of the fleet."
            )
        prefix = f"{group}/"
        found = _ids(self._documents, "thing-member", prefix=prefix)
        return [one.removeprefix(prefix) for one in found]

    def all_groups(self) -> list[str]:
        """Every group there is, in order."""
        return _ids(self._documents, "thing-group", prefix="")

    def groups(self, thing: str) -> list[str]:
        try:
            return list(self._documents.get("thing", thing).body["groups"])
        except NotFoundError:
            return []

    def revision(self) -> str:
        try:
            return str(self._documents.get("thing-revision", _KEY).version)
        except NotFoundError:
            return "0"

    @property
    def _documents(self) -> Documents:
        return self._records.documents

    def _leave(self, thing: str, *, stay: Sequence[str]) -> None:
        for group in self.groups(thing):
            if group not in stay:
                self._documents.delete("thing-member", f"{group}/{thing}")

    def _touch(self) -> None:
        self._documents.put("thing-revision", _KEY, body={})


def _check(name: str) -> None:
    if not is_name(name):
        raise InvalidError(
            f"{name[:80]!r} is no name of a thing or group", where="name",
            fix="Use 1 to 128 of a-z A-Z 0-9 : _ -.",
        )  # fmt: skip


def _there(documents: Documents, *, kind: str, name: str) -> bool:
    try:
        documents.get(kind, name)
    except NotFoundError:
        return False
    return True


def _ids(documents: Documents, kind: str, *, prefix: str) -> list[str]:
    found: list[str] = []
    after = prefix
    while True:
        page = documents.page(kind, after=after, limit=_PAGE)
        found += [one.id for one in page if one.id.startswith(prefix)]
        if len(page) < _PAGE or not page[-1].id.startswith(prefix):
            return found
        after = page[-1].id
