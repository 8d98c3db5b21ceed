"""Bytes put under names of the writer's choice: ``file:///abs/dir`` and ``s3://bucket/prefix?…``.

For what others read by name, such as capture records. A file appears whole or not at all and is on
the disk when ``put`` returns. Putting again replaces.
"""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from lineside.core import InvalidError, need, replace_durably
from lineside.core.drivers import SecretUrl, find_driver
from lineside.store.bucket import bucket_error, open_store
from lineside.store.contract import Place

if TYPE_CHECKING:
    from obstore.store import S3Store

_PLACES = {
    "file": "lineside.store.places:open_folder_place",
    "s3": "lineside.store.places:open_bucket_place",
}


def open_place(url: str) -> Place:
    """Open a place to put named bytes at; nothing is asked of a bucket yet.

    Raises:
        InvalidError: no such place, or an unknown setting.
        NotFoundError: the credentials file is not there.
        MissingExtraError: the driver is not installed.
    """
    place: Place = find_driver("places", url, table=_PLACES)(SecretUrl(url).reveal())
    return place


def open_folder_place(url: str) -> "FolderPlace":
    """A folder; made when something is put."""
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not path.is_absolute():
        raise InvalidError("no absolute folder", where=url, fix="Write file:///abs/dir.")
    return FolderPlace(path)


def open_bucket_place(url: str) -> "BucketPlace":
    """A bucket that is there already."""
    need("obstore", extra="s3")
    return BucketPlace(open_store(url), url=url.partition("?")[0].rstrip("/"))


class FolderPlace:
    """``Place`` as files."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, name: str, data: bytes) -> None:
        path = self._root / _inside(name)
        replace_durably(path, data)

    def address(self, name: str) -> str:
        return f"file://{self._root / name}"


class BucketPlace:
    """``Place`` as objects."""

    def __init__(self, store: "S3Store", *, url: str) -> None:
        self._store = store
        self._url = url

    def put(self, name: str, data: bytes) -> None:
        _inside(name)
        with bucket_error("the bucket", where=self._url):
            self._store.put(name, data, use_multipart=False)

    def address(self, name: str) -> str:
        return f"{self._url}/{name}"


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise InvalidError(
            f"{name[:60]!r} is no name inside a place", where="name", fix="Write a/b/c."
        )
    return name
