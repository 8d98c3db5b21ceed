"""Where a device's verifier gets bytes from: a hub, a folder, a bundle. Nothing here is believed.

Paths are those of a repository of consistent snapshots (TUF 6.2): ``metadata/3.root.json``,
``metadata/timestamp.json``, ``targets/packages/<group>/<version>/<sha256>.<name>``.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lineside.core import NotFoundError, UnavailableError
from lineside.fleet.trust.roles import check_path

_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """A file from some byte on.

    Attributes:
        start_byte: where it begins; 0 where the source does not know ranges.
        chunks: its bytes; reading them may raise ``UnavailableError``.
    """

    start_byte: int
    chunks: Iterator[bytes]


class Source(Protocol):
    """Files of a repository; may lie about every one of them."""

    def open(
        self, path: str, *, start_byte: int = 0, end_byte: int | None = None
    ) -> AbstractContextManager[Part]:
        """A file from a byte on, or from its beginning.

        Args:
            path: of the file.
            start_byte: the first that is wanted.
            end_byte: the one after the last that is wanted, above ``start_byte``; more may come.
                None: the file's end.

        Raises:
            NotFoundError: there is none.
            UnavailableError: it cannot be reached now.
        """
        ...


class FolderSource:
    """A copy of a repository in a folder: ``metadata/`` and, where it holds any, ``targets/``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def open(
        self, path: str, *, start_byte: int = 0, end_byte: int | None = None
    ) -> Iterator[Part]:
        """From the disk; until whoever reads has enough."""
        del end_byte
        place = self._folder / check_path(path)
        try:
            file = place.open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFoundError("no such file", where=str(place), fix="Copy it all.") from None
        except OSError as error:
            raise UnavailableError(
                f"cannot be read: {error.strerror}", where=str(place), fix="Check the disk."
            ) from error
        with file:
            file.seek(start_byte)
            yield Part(start_byte=start_byte, chunks=iter(lambda: file.read(_CHUNK_BYTES), b""))
