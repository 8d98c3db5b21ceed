"""Packages and their deployment on the device's disk, so that it starts while the hub is away.

``packages/<hex of the digest>.lspkg`` and ``deployment.json``, each replaced atomically. What
stands here is checked again whenever it is loaded.
"""

import contextlib
import threading
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from lineside.core import Digest, LinesideError, UnavailableError, replace_durably
from lineside.edge.deploy.deployment import (
    DeployedPackage,
    Deployment,
    keep_deployment,
    read_deployment,
    upgrade,
)
from lineside.edge.messages import Desired
from lineside.fleet import Installed

_PACKAGES = "packages"


class Shelf:
    """One folder, one process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._packages = folder / _PACKAGES
        self._writing = threading.Lock()

    def open(self) -> None:
        """Make the folders, and one file of what older agents kept in three.

        Raises:
            UnavailableError: that is not allowed.
        """
        try:
            self._packages.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _bad_disk(error, self._packages) from error
        with contextlib.suppress(LinesideError):  # told where it is read
            upgrade(self._folder)

    def desired(self) -> Desired | None:
        """The desired state that was kept last; None where there is none that can be read."""
        return self._deployment().desired

    def keep_desired(self, desired: Desired) -> None:
        """Keep what the hub wants."""
        with self._writing:
            known = read_deployment(self._folder)
            keep_deployment(self._folder, replace(known, desired=desired))

    @property
    def folder(self) -> Path:
        """Where all of it stands."""
        return self._folder

    def deployed(self) -> dict[str, DeployedPackage]:
        """What was in use last, by inspection; nothing where that cannot be read."""
        return self._deployment().deployed()

    def keep_deployed(
        self, deployed: Mapping[str, DeployedPackage], *, installed: Installed | None = None
    ) -> None:
        """Keep what is in use now, and which signed version was installed for it."""
        with self._writing:
            known = read_deployment(self._folder)
            keep_deployment(self._folder, known.having(deployed, installed=installed))

    def _deployment(self) -> Deployment:
        try:
            return read_deployment(self._folder)
        except (OSError, LinesideError):
            return Deployment()

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
