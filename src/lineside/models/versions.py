"""Numbered versions of a model and what was decided about each.

1. A group holds versions 1, 2, 3, …; a package that is registered again keeps its number.
2. A version waits (``PendingManualApproval``) until a person approves or rejects it, with a reason;
   every decision stays. Nothing else approves.
3. The newest approved version is the approved one of the highest number, however many there are.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from lineside.core import (
    Clock,
    ConflictError,
    Digest,
    InvalidError,
    NotFoundError,
    decode_fast,
    encode,
    to_plain,
)
from lineside.models.manifest import Metric
from lineside.models.registry import Registry
from lineside.store import Document, Records

VERSION_KIND = "model-version"
_PAGE = 100
_TRIES = 16
_GROUP = re.compile(r"[A-Za-z0-9](-?[A-Za-z0-9]){0,62}")


class Status(StrEnum):
    """Whether a version may be released."""

    PENDING = "PendingManualApproval"
    APPROVED = "Approved"
    REJECTED = "Rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One decision about a version."""

    status: Status
    by: str
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A version as the registry knows it.

    Attributes:
        digest: of the package.
        metrics: what it was measured at when it was registered.
        evidence: where its evidence stands, by name: dataset, data digest, run.
        verdicts: all of them, oldest first.
    """

    group: str
    number: int
    digest: Digest
    registered_at: datetime
    registered_by: str
    status: Status = Status.PENDING
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    evidence: Mapping[str, str] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()


class ModelVersions:
    """Versions over a registry; safe from several threads and processes."""

    def __init__(self, records: Records, registry: Registry, *, clock: Clock) -> None:
        """Use what others opened and will close."""
        self._documents = records.documents
        self._registry = registry
        self._clock = clock

    def register(
        self,
        package: bytes,
        *,
        group: str,
        by: str,
        metrics: Mapping[str, Metric],
        evidence: Mapping[str, str] | None = None,
    ) -> ModelVersion:
        """Add a package as the group's next version; it waits for a person.

        Raises:
            InvalidError, RefusedError: no package, or no name of a group.
            ConflictError: others registered at the same moment, again and again.
        """
        if not _GROUP.fullmatch(group):
            raise InvalidError(
                f"{group!r} names no group",
                where="group",
                fix="Write letters, digits and single hyphens, at most 63.",
            )
        digest = self._registry.add(package, by=by).digest
        for _ in range(_TRIES):
            there = self.of(group)
            kept = next((one for one in there if one.digest == digest), None)
            if kept is not None:
                return kept
            made = ModelVersion(
                group=group,
                number=there[-1].number + 1 if there else 1,
                digest=digest,
                registered_at=self._clock.now(),
                registered_by=by,
                metrics=dict(metrics),
                evidence=dict(evidence or {}),
            )
            if self._write(made):
                return made
        raise ConflictError("others register too", where=group, fix="Do it again.")

    def groups(self) -> tuple[str, ...]:
        """Every group that has a version, by name."""
        return tuple(sorted({_id_parts(document.id)[0] for document in self._all("")}))

    def of(self, group: str) -> tuple[ModelVersion, ...]:
        """Versions of a group by number; empty for an unknown one."""
        found = []
        for document in self._all(f"{group}/"):
            if not document.id.startswith(f"{group}/"):
                break
            found.append(_version(document))
        return tuple(found)

    def one(self, group: str, number: int) -> ModelVersion:
        """``NotFoundError`` if there is none."""
        return _version(self._document(group, number))

    def newest_approved(self, group: str) -> ModelVersion:
        """The approved version of the highest number; ``NotFoundError`` if none is approved."""
        approved = [one for one in self.of(group) if one.status is Status.APPROVED]
        if not approved:
            raise NotFoundError(
                f"no version of {group!r} is approved",
                where=group,
                fix=f"Look at them and run: lineside model approve {group} NUMBER.",
            )
        return approved[-1]

    def decide(
        self, group: str, number: int, *, status: Status, by: str, reason: str
    ) -> ModelVersion:
        """Approve or reject a version.

        Raises:
            NotFoundError: no such version.
            InvalidError: nobody or no reason is named, or it is put back to waiting.
            ConflictError: someone else decided at the same moment.
        """
        if not (by.strip() and reason.strip()) or status is Status.PENDING:
            raise InvalidError(
                "a decision without person or reason",
                where=f"{group}/{number}",
                fix="Name who approves or rejects, and why.",
            )
        document = self._document(group, number)
        verdict = Verdict(status=status, by=by, at=self._clock.now(), reason=reason)
        kept = _version(document)
        decided = replace(kept, status=status, verdicts=(*kept.verdicts, verdict))
        self._documents.put(
            VERSION_KIND, document.id, body=to_plain(decided), expect=document.version
        )
        return decided

    def _write(self, made: ModelVersion) -> bool:
        try:
            self._documents.put(
                VERSION_KIND, _id(made.group, made.number), body=to_plain(made), expect=0
            )
        except ConflictError:
            return False
        return True

    def _document(self, group: str, number: int) -> Document:
        try:
            return self._documents.get(VERSION_KIND, _id(group, number))
        except NotFoundError:
            raise NotFoundError(
                f"no version {number} of {group!r}",
                where="registry",
                fix="List them with lineside model list.",
            ) from None

    def _all(self, after: str) -> Iterator[Document]:
        while page := self._documents.page(VERSION_KIND, after=after, limit=_PAGE):
            yield from page
            after = page[-1].id


def _id(group: str, number: int) -> str:
    return f"{group}/{number:08d}"


def _id_parts(doc_id: str) -> tuple[str, int]:
    group, _, number = doc_id.rpartition("/")
    return group, int(number)


def _version(document: Document) -> ModelVersion:
    where = f"{document.kind} {document.id}"
    return decode_fast(ModelVersion, encode(document.body), where=where)
