"""The hub's one S3-compatible bucket, read by devices and by jobs.

1. Below ``packages/`` stands what the update repository signed; nobody puts anything there.
2. Below ``documents/`` stand job documents that operators put there: JSON objects of at most
   32,768 bytes, 1,000 in all. A job that is made from one keeps its own copy.
3. Objects are named ``s3://lineside/<key>`` or by the hub's own address; in placeholders of a job's
   document also by the addresses of AWS' hosts, which stand for this bucket.
4. Links are signed with a key of their own that can do nothing else.
5. Listed are documents and signed packages, in the order of their keys.
6. A package may be read as ``….tar.gz`` too, for clients of the edge-manager sample, which unpack
   what they fetch: an archive of the one signed file, unchanged, so that whoever loads it from the
   folder proves it as ever. It is made when it is read, always of the same bytes.
"""

import gzip
import io
import re
import secrets
import tarfile
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from lineside.compat.aws.s3 import ObjectEntry
from lineside.compat.aws.sigv4 import BUCKET, LinkKey, signed_link
from lineside.core import (
    Clock,
    ConflictError,
    InvalidError,
    NotFoundError,
    RefusedError,
    decode_json,
    digest_of,
    rfc3339,
)
from lineside.core.config import LOOPBACK
from lineside.hub.access.auth import access_key
from lineside.hub.models.releases import Releases
from lineside.store import Records, every_document

OBJECT_KIND = "s3-object"
MOST_BYTES = 32_768
MOST_OBJECTS = 1_000
_KEY_KIND = "link-key"
_KEY_NAME = "hub"
_PATH = "/s3/"
TARRED = ".tar.gz"
_PACKAGE = ".lspkg"
_OCTETS = "application/octet-stream"
_DOCUMENT = re.compile(r"documents(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){1,4}")
_AWS_HOST = re.compile(r"(?:(.+)\.)?s3(?:\.dualstack)?(?:[.-][a-z0-9-]+)?\.amazonaws\.com(?:\.cn)?")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredObject:
    """Object under a key; ``sha256`` of its bytes is its tag."""

    data: bytes
    sha256: str
    media_type: str = _OCTETS


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectAddress:
    """An object by its names, and whether it was named by a host of AWS."""

    bucket: str
    key: str
    aws: bool = False


class Bucket:
    """Fulfils ``fleet.ObjectLinks``; safe from several threads and processes."""

    def __init__(
        self, records: Records, *, releases: Releases, clock: Clock, base_url: str,
        names: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """Read nothing yet.

        Args:
            records: where documents and the key of links are kept.
            releases: what is signed.
            clock: what links begin by.
            base_url: how devices reach the hub; may be set again before the first link.
            names: further names of the hub's host.
        """
        self._records = records
        self._releases = releases
        self._clock = clock
        self.base_url = base_url
        self._names = names

    # ---- objects

    def read(self, bucket: str, key: str) -> StoredObject:
        """``NotFoundError`` where there is no such bucket or key."""
        _check_bucket(bucket)
        if _DOCUMENT.fullmatch(key):
            body = self._records.documents.get(OBJECT_KIND, key).body
            return StoredObject(
                data=str(body["text"]).encode(), sha256=str(body["sha256"]),
                media_type="application/json",
            )  # fmt: skip
        target, data = self._releases.archive(_package_of(key))
        if not key.endswith(TARRED):
            return StoredObject(data=data, sha256=target.sha256)
        packed = _packed(target.path.rpartition("/")[2], data)
        return StoredObject(data=packed, sha256=digest_of(packed).removeprefix("sha256:"))

    def entries(self, bucket: str) -> list[ObjectEntry]:
        """Everything that can be read, by key; ``NotFoundError`` where there is no such bucket."""
        _check_bucket(bucket)
        documents = [
            ObjectEntry(
                key=one.id, size_bytes=len(str(one.body["text"]).encode()),
                sha256=str(one.body["sha256"]), changed_at=one.updated_at,
            )
            for one in every_document(self._records.documents, OBJECT_KIND)
        ]  # fmt: skip
        packages = [
            ObjectEntry(
                key=target.path, size_bytes=target.size_bytes, sha256=target.sha256, changed_at=at
            )
            for target, at in self._releases.published()
        ]
        return sorted([*documents, *packages], key=lambda one: one.key)

    def put(self, bucket: str, key: str, *, data: bytes) -> StoredObject:
        """Keep a job document, or replace it.

        Raises:
            NotFoundError: no such bucket.
            RefusedError: the key is not one of documents, or there are too many.
            InvalidError: no JSON object, or too large.
        """
        _check_bucket(bucket)
        _check_key(key)
        text = _checked(data)
        sha256 = digest_of(data).removeprefix("sha256:")
        with self._records.transaction():
            self._check_count(key)
            body = {
                "schema": "lineside.object/1", "text": text, "sha256": sha256,
                "at": rfc3339(self._clock.now()),
            }  # fmt: skip
            self._records.documents.put(OBJECT_KIND, key, body=body)
        return StoredObject(data=data, sha256=sha256, media_type="application/json")

    def delete(self, bucket: str, key: str) -> None:
        """Forget a job document; one that is not there is fine, as with S3."""
        _check_bucket(bucket)
        _check_key(key)
        self._records.documents.delete(OBJECT_KIND, key)

    def _check_count(self, key: str) -> None:
        stored = {one.id for one in every_document(self._records.documents, OBJECT_KIND)}
        if key not in stored and len(stored) >= MOST_OBJECTS:
            raise RefusedError(
                f"{MOST_OBJECTS} documents are kept already", where=key,
                fix="Delete some that no new job will be made from.",
            )  # fmt: skip

    def _there(self, key: str) -> bool:
        """Return whether there is an object under a key; packages are not read for it."""
        try:
            if _DOCUMENT.fullmatch(key):
                self._records.documents.get(OBJECT_KIND, key)
            elif self._releases.repository.exists():
                self._releases.repository.served(_package_of(key))
            else:
                return False
        except NotFoundError:
            return False
        return True

    # ---- by address

    def document(self, source: str) -> str:
        """The text of the job document that ``documentSource`` names.

        Raises:
            InvalidError: it is not the address of a document here.
        """
        found = parse_address(source, base_url=self.base_url, names=self._names)
        if found is None or found.aws or "://" not in source:
            raise InvalidError(
                f"{source[:200]!r} is not in this hub's store", where="documentSource",
                fix=f"Put it there and name s3://{BUCKET}/documents/<name>, or "
                f"{self.base_url}{_PATH}{BUCKET}/documents/<name>.",
            )  # fmt: skip
        try:
            _check_bucket(found.bucket)
            _check_key(found.key)
            return self.read(found.bucket, found.key).data.decode()
        except (NotFoundError, RefusedError) as error:
            raise InvalidError(
                f"there is no document {source[:200]!r}", where="documentSource",
                fix=f"Put it at s3://{BUCKET}/documents/<name> first.",
            ) from error  # fmt: skip

    def check(self, url: str) -> None:
        found = parse_address(url, base_url=self.base_url, names=self._names)
        if found is None or found.bucket != BUCKET or not self._there(found.key):
            raise InvalidError(
                f"no link can be made to {url[:200]!r}, which is not in this hub's store",
                where="document",
                fix=f"Name a package that is signed, such as "
                f"https://s3.region.amazonaws.com/{BUCKET}/packages/<group>/<version>/<name>.lspkg.",
            )

    def link(self, url: str, *, seconds: int) -> str:
        found = parse_address(url, base_url=self.base_url, names=self._names)
        key = "" if found is None else found.key  # of a hub that changed its name since
        return signed_link(
            f"{_PATH}{BUCKET}/{quote(key)}", base_url=self.base_url, key=self.link_key(),
            seconds=seconds, now=self._clock.now(),
        )  # fmt: skip

    # ---- keys of links

    def link_key(self) -> LinkKey:
        """The hub's own; made at the first start, the same for every process."""
        documents = self._records.documents
        try:
            body = documents.get(_KEY_KIND, _KEY_NAME).body
        except NotFoundError:
            body = {
                "schema": "lineside.link-key/1", "id": "LSLK" + secrets.token_hex(8).upper(),
                "secret": secrets.token_urlsafe(30), "issued_at": rfc3339(self._clock.now()),
            }  # fmt: skip
            try:
                documents.put(_KEY_KIND, _KEY_NAME, body=body, expect=0)
            except ConflictError:
                body = documents.get(_KEY_KIND, _KEY_NAME).body
        return LinkKey(id=str(body["id"]), secret=str(body["secret"]))

    def secret_of(self, key_id: str) -> str:
        """Of the hub's own key, or of one that was issued; ``NotFoundError``."""
        own = self.link_key()
        if key_id == own.id:
            return own.secret
        return access_key(self._records, key_id, now=self._clock.now()).secret

    def is_own(self, key_id: str) -> bool:
        """Return whether the hub itself signed with this key."""
        return key_id == self.link_key().id


def parse_address(text: str, *, base_url: str, names: tuple[str, ...] = ()) -> ObjectAddress | None:
    """The object that a text names; None where it is not the hub's to know.

    Args:
        text: ``s3://bucket/key``, ``bucket/key``, the hub's own address, or one of AWS' hosts.
        base_url: of the hub.
        names: further names of the hub's host.
    """
    try:
        parts = urlsplit(text)
        odd = parts.query or parts.fragment or parts.username is not None
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    if odd or parts.scheme not in ("", "s3", "http", "https"):
        return None
    if parts.scheme in ("", "s3"):
        return _address(f"{parts.netloc}{parts.path}")
    path = unquote(parts.path)
    if found := _AWS_HOST.fullmatch(host):
        return _address(f"{found[1]}{path}" if found[1] else path[1:], aws=True)
    own = urlsplit(base_url)
    before = own.path.rstrip("/") + _PATH
    here = host in (own.hostname, *names, *LOOPBACK) and port == own.port
    return _address(path.removeprefix(before)) if here and path.startswith(before) else None


def _address(text: str, *, aws: bool = False) -> ObjectAddress | None:
    bucket, _, key = text.partition("/")
    return ObjectAddress(bucket=bucket, key=key, aws=aws) if bucket and key else None


def _check_bucket(bucket: str) -> None:
    if bucket != BUCKET:
        raise NotFoundError("no such bucket", where=bucket[:80], fix=f"Use {BUCKET}.")


def _check_key(key: str) -> None:
    if not _DOCUMENT.fullmatch(key):
        raise RefusedError(
            "only job documents are put here", where=key[:200],
            fix="Name it documents/<name> of letters, digits, '.', '_', '-', at most four levels.",
        )  # fmt: skip


def tar_key(key: str) -> str:
    """Return the key under which a package is read as an archive, by clients that unpack it."""
    return key.removesuffix(_PACKAGE) + TARRED


def _package_of(key: str) -> str:
    return key.removesuffix(TARRED) + _PACKAGE if key.endswith(TARRED) else key


def _packed(name: str, data: bytes) -> bytes:
    """One file as ``.tar.gz``; a package is compressed already, so it is only wrapped."""
    whole = io.BytesIO()
    zipped = gzip.GzipFile(filename="", fileobj=whole, mode="wb", compresslevel=0, mtime=0)
    with zipped, tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return whole.getvalue()


def _checked(data: bytes) -> str:
    if len(data) > MOST_BYTES:
        raise InvalidError(
            f"the document has {len(data)} bytes", where="body", fix=f"Keep it below {MOST_BYTES}."
        )
    document = decode_json(data, where="body")
    if not isinstance(document, dict):
        raise InvalidError("no JSON object", where="body", fix="Put the document of a job.")
    return data.decode()
