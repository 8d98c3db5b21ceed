"""The registry of packages: all of them, the one an inspection uses, and who approved it.

1. A package is known by its digest; adding it again changes nothing but takes over signatures that
   the copy kept here does not have.
2. What is added was read and checked first; what is handed out is checked again against its digest.
3. Taking a package into use is an approval: by whom, when, for which inspection, and why. All of
   them stay with the package; the newest use of an inspection is the one in force.
4. Two people who decide at once: the later one gets ``ConflictError`` if the package changed
   meanwhile, and reads again.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lineside.core import (
    Clock,
    Digest,
    InvalidError,
    NotFoundError,
    decode_fast,
    encode,
    parse_digest,
    to_plain,
)
from lineside.models.archive import Package
from lineside.models.manifest import Manifest

if TYPE_CHECKING:
    from lineside.store import Blobs, Document, Records

PACKAGE_KIND = "package"
USE_KIND = "package-use"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One decision to use a package."""

    inspection: str
    by: str
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageRecord:
    """A package as the registry knows it.

    Attributes:
        digest: of the package, whatever signatures the archive carries.
        inspection: the one it was trained for; a release may name others. "": none.
        approved_by, approved_at, reason: of the newest approval; empty while there is none.
        archive: digest of the archive's bytes among the blobs.
        approvals: all of them, oldest first.
    """

    digest: Digest
    name: str
    inspection: str
    added_at: datetime
    added_by: str
    manifest: Manifest
    archive: Digest
    size_bytes: int
    approved_by: str = ""
    approved_at: datetime | None = None
    reason: str = ""
    approvals: tuple[Approval, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    digest: Digest
    by: str
    at: datetime
    reason: str


class Registry:
    """Packages over records and blobs; safe from several threads and processes."""

    def __init__(self, records: "Records", blobs: "Blobs", *, clock: Clock) -> None:
        """Use what others opened and will close."""
        self._records = records
        self._blobs = blobs
        self._clock = clock

    def add(self, data: bytes, *, by: str) -> PackageRecord:
        """Check an archive and keep it; the record as it stands afterwards.

        Raises:
            InvalidError, RefusedError: what ``Package.read`` says of it.
        """
        package = Package.read(data, where="upload")
        archive = self._blobs.put(data)
        with self._records.transaction():
            kept = self._find(package.digest)
            if kept is None:
                return self._write(
                    self._new(package, archive, by=by, size_bytes=len(data)), expect=0
                )
            record, version = kept
            if archive == record.archive or not self._signs_more(package, record):
                return record
            signed = replace(record, archive=archive, size_bytes=len(data))
            return self._write(signed, expect=version)

    def get(self, digest: str) -> PackageRecord:
        """``NotFoundError`` if there is none."""
        found = self._find(parse_digest(digest, where="digest"))
        if found is None:
            raise NotFoundError(
                f"no package {digest}", where="registry", fix="List the packages there are."
            )
        return found[0]

    def list(self) -> list[PackageRecord]:
        """Every package, newest first."""
        from lineside.store import every_document

        found = map(_record, every_document(self._records.documents, PACKAGE_KIND))
        return sorted(found, key=lambda record: (record.added_at, record.digest), reverse=True)

    def content(self, digest: str) -> bytes:
        """The archive's bytes; ``RefusedError`` if they are no longer what was kept."""
        return self._blobs.get(self.get(digest).archive)

    def use(self, digest: str, *, inspection: str, by: str, reason: str) -> PackageRecord:
        """Approve a package and put it in force for an inspection.

        Raises:
            NotFoundError: no such package.
            InvalidError: no one, no inspection or no reason is named.
            ConflictError: someone else changed it at the same moment.
        """
        with self._records.transaction():
            record, version = self._usable(digest, inspection=inspection, by=by, reason=reason)
            now = self._clock.now()
            approval = Approval(inspection=inspection, by=by, at=now, reason=reason)
            approved = replace(
                record,
                approved_by=by,
                approved_at=now,
                reason=reason,
                approvals=(*record.approvals, approval),
            )
            used = _Use(digest=record.digest, by=by, at=now, reason=reason)
            self._records.documents.put(USE_KIND, inspection, body=to_plain(used))
            return self._write(approved, expect=version)

    def check_use(self, digest: str, *, inspection: str, by: str, reason: str) -> None:
        """Raise what ``use`` would raise, and change nothing."""
        self._usable(digest, inspection=inspection, by=by, reason=reason)

    def _usable(
        self, digest: str, *, inspection: str, by: str, reason: str
    ) -> tuple[PackageRecord, int]:
        if not (by.strip() and reason.strip() and inspection):
            raise InvalidError(
                "an approval without person, reason or inspection",
                fix="Name who approves, for which inspection, and why.",
            )
        found = self._find(parse_digest(digest, where="digest"))
        if found is None:
            raise NotFoundError(f"no package {digest}", where="registry", fix="Add it first.")
        return found

    def in_use(self, inspection: str) -> PackageRecord | None:
        """The package in force for an inspection, or None."""
        return self._records.read_once((USE_KIND, inspection), lambda: self._used(inspection))

    def _used(self, inspection: str) -> PackageRecord | None:
        try:
            document = self._records.documents.get(USE_KIND, inspection)
        except NotFoundError:
            return None
        use = decode_fast(_Use, encode(document.body), where=f"{USE_KIND} {inspection}")
        return self.get(use.digest)

    def _new(self, package: Package, archive: Digest, *, by: str, size_bytes: int) -> PackageRecord:
        return PackageRecord(
            digest=package.digest,
            name=package.manifest.name,
            inspection=package.manifest.inspection,
            added_at=self._clock.now(),
            added_by=by,
            manifest=package.manifest,
            archive=archive,
            size_bytes=size_bytes,
        )

    def _signs_more(self, package: Package, record: PackageRecord) -> bool:
        kept = Package.read(self._blobs.get(record.archive), where=record.digest)
        return set(package.signatures) > set(kept.signatures)

    def _find(self, digest: Digest) -> tuple[PackageRecord, int] | None:
        try:
            document = self._records.documents.get(PACKAGE_KIND, digest)
        except NotFoundError:
            return None
        return _record(document), document.version

    def _write(self, record: PackageRecord, *, expect: int) -> PackageRecord:
        body: dict[str, Any] = to_plain(record)
        self._records.documents.put(PACKAGE_KIND, record.digest, body=body, expect=expect)
        return record


def _record(document: "Document") -> PackageRecord:
    where = f"{document.kind} {document.id}"
    return decode_fast(PackageRecord, encode(document.body), where=where)
