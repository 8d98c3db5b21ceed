"""Packages and wishes on the device's disk, so that it starts while the hub is away.

``packages/<hex of the digest>.lspkg``, ``desired.json`` and ``placed.json``, each replaced
atomically. What stands here is checked again whenever it is loaded.
"""

import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path

from lineside.core import Digest, LinesideError, UnavailableError, replace_durably
from lineside.edge.messages import Desired, read_desired
from lineside.edge.placed import Placed, keep_placed, read_placed

_PACKAGES = "packages"


class Shelf:
    """One folder, one process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._packages = folder / _PACKAGES

    def open(self) -> None:
        """Make the folders; ``UnavailableError`` when that is not allowed."""
        try:
            self._packages.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _bad_disk(error, self._packages) from error

    def desired(self) -> Desired | None:
        """The wish that was kept last; None where there is none that can be read."""
        path = self._folder / "desired.json"
        try:
            return read_desired(path.read_bytes(), where=str(path))
        except (OSError, LinesideError):
            return None

    def keep_desired(self, raw: bytes) -> None:
        """Keep a wish, as it was sent."""
        replace_durably(self._folder / "desired.json", raw)

    @property
    def folder(self) -> Path:
        """Where all of it stands."""
        return self._folder

    def placed(self) -> dict[str, Placed]:
        """What was in use last, by inspection."""
        return read_placed(self._folder)

    def keep_placed(self, placed: Mapping[str, Placed]) -> None:
        """Keep what is in use now."""
        keep_placed(self._folder, placed=placed)

    def get(self, digest: Digest) -> bytes | None:
        """A package's archive; None where it is not here."""
        try:
            return self._path(digest).read_bytes()
        except OSError:
            return None

    def put(self, digest: Digest, data: bytes) -> None:
        """Keep an archive."""
        replace_durably(self._path(digest), data)

    def remove(self, digest: Digest) -> None:
        """Throw an archive away, as one that turned out to be damaged."""
        with contextlib.suppress(OSError):
            self._path(digest).unlink()

    def sweep(self, *, keep: Collection[Digest]) -> None:
        """Throw away every archive but these."""
        names = {self._path(digest).name for digest in keep}
        for path in self._packages.glob("*"):
            if path.name not in names:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _path(self, digest: Digest) -> Path:
        return kept_at(self._folder, digest)


def kept_at(folder: Path, digest: Digest) -> Path:
    """Where a package's archive stands in the agent's folder, if it does."""
    return folder / _PACKAGES / f"{digest.removeprefix('sha256:')}.lspkg"


def _bad_disk(error: OSError, path: Path) -> UnavailableError:
    return UnavailableError(
        f"cannot write: {error.strerror}", where=str(path), fix="Free space, and allow writing."
    )
