"""Blobs in an S3-compatible bucket through obstore.

``s3://bucket/prefix?endpoint=http://host:9000&region=…&credentials=/abs/file``; the file is TOML
with ``access_key_id`` and ``secret_access_key`` (and ``session_token``); without it the usual
places are asked (environment, profile, instance). ``anonymous=yes`` signs nothing, for buckets that
anybody may read.

1. A put is one request and is acknowledged by the bucket; nothing is kept here.
2. Putting again makes the object's ``LastModified`` new, which is what ``discard`` goes by. Between
   its look and the deletion lies one request: a put in that moment is lost, so callers leave an
   ``idle_s`` that is long beside it and never discard what was put a moment ago.

Other people's objects are read by their names:

1. Listing goes page by page (1,000 names a request) and holds no more than a page.
2. An object is asked for by one request, and refused by its length before its body is taken.
"""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from lineside.core import (
    Clock,
    Digest,
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    decode,
    decode_toml,
    digest_of,
    need,
    parse_digest,
)
from lineside.core.drivers import SecretUrl

if TYPE_CHECKING:
    from obstore.store import S3Store
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from obstore.store import S3Store

_KNOWN = {"anonymous", "credentials", "endpoint", "region"}
_PATIENCE_S = 20
_PUTS_AT_ONCE = 8
_STATUS = re.compile(r"status code: (401|403|404)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Credentials:
    """Content of the credentials file."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""


def open_bucket(url: str, *, clock: Clock) -> "BucketBlobs":
    """Open a bucket that is there already.

    Raises:
        NotFoundError: no such bucket.
        RefusedError: the credentials are wrong or may not list it.
        UnavailableError: the server does not answer.
    """
    need("obstore", extra="s3")
    blobs = BucketBlobs(open_store(url), where=url.partition("?")[0], clock=clock)
    blobs.check()
    return blobs


def open_store(url: str) -> "S3Store":
    """The driver's own view of a bucket; nothing is asked of it yet."""
    from obstore.store import S3Store

    parts = urlsplit(url)
    asked = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    if not parts.hostname or not asked.keys() <= _KNOWN:
        raise InvalidError(
            "no bucket, or an unknown setting",
            where=url.partition("?")[0],
            fix=f"Write s3://bucket/prefix?… with {', '.join(sorted(_KNOWN))}.",
        )
    config: dict[str, object] = {"region": asked.get("region", "us-east-1")}
    if "endpoint" in asked:
        config["endpoint"] = asked["endpoint"]
    if asked.get("anonymous") == "yes":
        config["skip_signature"] = True
    if "credentials" in asked:
        config |= _read_credentials(Path(asked["credentials"]))
    return S3Store(
        parts.netloc,
        prefix=unquote(parts.path).strip("/") or None,
        config=config,  # type: ignore[arg-type]  # a TypedDict built key by key
        client_options={
            "allow_http": asked.get("endpoint", "").startswith("http://"),
            "timeout": timedelta(seconds=_PATIENCE_S),
            "connect_timeout": timedelta(seconds=5),
        },
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=_PATIENCE_S)},
    )


def _read_credentials(path: Path) -> dict[str, str]:
    try:
        document = decode_toml(path.read_bytes(), where=str(path))
    except OSError as error:
        raise NotFoundError(
            f"cannot read the credentials: {error.strerror}", where=str(path), fix="Name a file."
        ) from error
    read = decode(_Credentials, document, where=str(path))
    found = {"access_key_id": read.access_key_id, "secret_access_key": read.secret_access_key}
    return found | ({"session_token": read.session_token} if read.session_token else {})


class BucketBlobs:
    """``Blobs`` as objects named by their hexadecimal digest."""

    def __init__(self, store: "S3Store", *, where: str, clock: Clock) -> None:
        self._store = store
        self._where = where
        self._clock = clock

    def check(self) -> None:
        """Ask for nothing in particular, to learn whether the bucket answers."""
        with self._translated("the bucket"):
            for _ in self._store.list(chunk_size=1):
                break

    def put(self, data: bytes) -> Digest:
        digest = digest_of(data)
        with self._translated("the bucket"):
            self._store.put(_key(digest), data, use_multipart=False)
        return digest

    def put_many(self, data: Sequence[bytes]) -> list[Digest]:
        with ThreadPoolExecutor(min(_PUTS_AT_ONCE, len(data) or 1), "put") as threads:
            return list(threads.map(self.put, data))

    def get(self, digest: Digest) -> bytes:
        with self._translated(digest):
            data = self._store.get(_key(digest)).bytes().to_bytes()
        if digest_of(data) != digest:
            raise RefusedError(
                f"the bytes in the bucket are not those of {digest}",
                where=self._where,
                fix="Restore the object from a backup.",
            )
        return data

    def has(self, digest: Digest) -> bool:
        try:
            with self._translated(digest):
                self._store.head(_key(digest))
        except NotFoundError:
            return False
        return True

    def delete(self, digest: Digest) -> None:
        try:
            with self._translated(digest):
                self._store.delete(_key(digest))
        except NotFoundError:
            return

    def discard(self, digest: Digest, *, idle_s: float) -> bool:
        try:
            with self._translated(digest):
                put_at = self._store.head(_key(digest))["last_modified"]
        except NotFoundError:
            return True
        if (self._clock.now() - put_at).total_seconds() < idle_s:
            return False
        self.delete(digest)
        return True

    def digests(self) -> Iterator[Digest]:
        with self._translated("the bucket"):
            for page in self._store.list(chunk_size=1000):
                for item in page:
                    name = item["path"].rpartition("/")[2]
                    if len(name) == 64:
                        yield Digest("sha256:" + name)

    def close(self) -> None:
        """Connections close by themselves when idle."""

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        with bucket_error(what, where=self._where):
            yield


@contextmanager
def bucket_error(what: str, *, where: str) -> Iterator[None]:
    """Translate the driver's errors inside the block into errors of lineside."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        said = str(error).splitlines()[0][:300]
        status = _STATUS.search(said)  # a listing's errors carry it in their text alone
        code = status.group(1) if status else ""
        if isinstance(error, FileNotFoundError) or code == "404":
            raise NotFoundError(
                f"{what} is not there", where=where, fix="It was deleted, or never made."
            ) from error
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or code:
            raise RefusedError(
                "the bucket refused the credentials", where=where, fix="Correct them."
            ) from error
        raise UnavailableError(
            f"the bucket cannot be used: {said}",
            where=where,
            fix="Look at the server, then try again.",
        ) from error


def _key(digest: Digest) -> str:
    return parse_digest(digest, where="blob")[len("sha256:") :]


_PAGE = 1000
_LAST = "\U0010ffff"


def open_objects(url: str) -> "BucketObjects":
    """The objects below ``s3://bucket/prefix?…``; nothing is asked of the bucket yet.

    Raises:
        InvalidError: no bucket in the URL, or an unknown setting.
        MissingExtraError: the driver is not installed.
    """
    need("obstore", extra="s3")
    return BucketObjects(open_store(SecretUrl(url).reveal()), where=str(SecretUrl(url)))


class BucketObjects:
    """Objects as files by relative name; safe from several threads."""

    def __init__(self, store: "S3Store", *, where: str) -> None:
        self.where = where
        self._store = store

    def folders(self, folder: str = "") -> list[str]:
        """Names of the direct sub-folders, sorted; one request for each of them."""
        head = f"{folder}/" if folder else ""
        found: list[str] = []
        after = ""
        while True:
            name = self._first_folder(head, after=after)
            if name is None:
                return found
            found.append(head + name)
            after = f"{head}{name}/{_LAST}"

    def files(self, folder: str = "") -> Iterator[str]:
        """Names of the objects directly in a folder, in the order of the bucket."""
        head = f"{folder}/" if folder else ""
        for name in self._names(folder):
            if name.startswith(head) and "/" not in name[len(head) :]:
                yield name

    def has(self, name: str) -> bool:
        """Return whether there is such an object; one request."""
        try:
            with self._translated(name):
                self._store.head(name)
        except NotFoundError:
            return False
        return True

    def read(self, name: str, *, most: int) -> bytes:
        """An object of at most ``most`` bytes; one request."""
        with self._translated(name):
            answer = self._store.get(name)
            size = answer.meta["size"]
            if size <= most:
                return answer.bytes().to_bytes()
        raise InvalidError(
            f"an object of {size} bytes, at most {most} are taken", where=f"{self.where}/{name}"
        )

    def open(self, name: str, *, most: int) -> BinaryIO:
        """The same as an open file."""
        return BytesIO(self.read(name, most=most))

    def _first_folder(self, head: str, *, after: str) -> str | None:
        for name in self._names(head.rstrip("/"), after=after):
            inner, slash, _ = name[len(head) :].partition("/")
            if slash:
                return inner
        return None

    def _names(self, folder: str, *, after: str = "") -> Iterator[str]:
        with self._translated(folder or "the bucket"):
            pages = self._store.list(folder or None, offset=after or None, chunk_size=_PAGE)
            for page in pages:
                for item in page:
                    yield item["path"]

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        with bucket_error(what, where=self.where):
            yield
