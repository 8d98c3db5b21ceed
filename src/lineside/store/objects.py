"""Somebody else's objects in an S3-compatible bucket, by their names, read only.

The URL is that of ``lineside.store.bucket``; its prefix is the folder that names are relative to.

1. Listing goes page by page (1,000 names a request) and holds no more than a page.
2. An object is asked for by one request, and refused by its length before its body is taken.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO

from lineside.core import InvalidError, NotFoundError, need
from lineside.store.bucket import open_store, said_by_bucket

if TYPE_CHECKING:
    from obstore.store import S3Store

_PAGE = 1000
_LAST = "\U0010ffff"


def open_objects(url: str) -> "BucketObjects":
    """The objects below ``s3://bucket/prefix?…``; nothing is asked of the bucket yet.

    Raises:
        InvalidError: no bucket in the URL, or an unknown setting.
        MissingExtraError: the driver is not installed.
    """
    need("obstore", extra="s3")
    return BucketObjects(open_store(url), where=url.partition("?")[0])


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
        """Whether there is such an object; one request."""
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
        with said_by_bucket(what, where=self.where):
            yield
