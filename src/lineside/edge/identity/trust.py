"""Trust of this device in its site's update repository: pinned root, signed packages.

Signed packages are looked up without the network: the metadata that were believed at the last
refresh are verified again from the disk.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from lineside.core import Clock, RefusedError, UnavailableError
from lineside.fleet import FolderSource, Source, Target, UpdateClient, pin_root

TRUST = "trust"
_ROOT = "root.json"
_PINNED = "pinned.json"

Verify = Callable[[bytes, str], None]
"""Raises ``RefusedError`` where an archive's bytes, from the place named, may not run."""


class SignedPackages:
    """Signed packages of the site, for a device that has a root pinned; safe from threads."""

    def __init__(self, data_dir: Path, *, clock: Clock, source: Source | None = None) -> None:
        """Read nothing yet.

        Args:
            data_dir: the agent's; its ``trust`` has the pinned root and the metadata.
            clock: of expiry.
            source: of the repository; None: only what is on the disk is looked up.
        """
        self._trust = data_dir / TRUST
        self._source = source or FolderSource(self._trust / "metadata")
        self._clock = clock
        self._metadata = threading.Lock()

    def client(self) -> UpdateClient:
        """A client that has read nothing yet, to fetch targets with."""
        return UpdateClient(self._trust, source=self._source, clock=self._clock)

    def refresh(self) -> None:
        """Fetch the metadata that are signed now.

        Raises:
            RefusedError: what came cannot be believed.
            UnavailableError: the hub is away.
        """
        with self._metadata:
            client = self.client()
            client.refresh()
            client.targets()  # every role's metadata are on the disk then, for ``recall``

    def target(self, path: str) -> Target:
        """One target; ``RefusedError`` where it is not signed."""
        with self._metadata:
            return self._recalled().target(path)

    def targets(self) -> list[Target]:
        """All targets; ``RefusedError`` where nothing believable is on the disk."""
        with self._metadata:
            return list(self._recalled().targets().values())

    def _recalled(self) -> UpdateClient:
        client = self.client()
        try:
            client.recall()
        except UnavailableError as error:
            raise RefusedError(error.message, where=error.where, fix=error.fix) from error
        return client


def of_archive(targets: Iterable[Target], data: bytes) -> list[Target]:
    """Those of exactly these bytes."""
    sha256, size = hashlib.sha256(data).hexdigest(), len(data)
    return [one for one in targets if (one.sha256, one.size_bytes) == (sha256, size)]


def verifier(
    data_dir: Path, *, trust_root: str, clock: Clock, unsigned: str = "refused"
) -> Verify | None:
    """Check of archives by signature; None where unsigned ones are allowed and no root is trusted.

    Args:
        data_dir: the agent's; a device that was enrolled has its trust there.
        trust_root: the site's ``root.json``, or the folder it lies in; pinned if none is; "": none.
        clock: of the verification.
        unsigned: "allowed" or "refused", where no root is trusted.

    Raises:
        RefusedError: the root is none, or is not there.
        ConflictError: another one is pinned.
    """
    if not pinned(data_dir, trust_root=trust_root):
        return None if unsigned == "allowed" else _refuse
    signed = SignedPackages(data_dir, clock=clock)

    def verify(data: bytes, where: str) -> None:
        if not of_archive(signed.targets(), data):
            raise RefusedError(
                "the package is not signed for this device",
                where=where,
                fix="Approve and publish it on the hub, and let the device refresh.",
            )

    return verify


def _refuse(data: bytes, where: str) -> None:
    del data
    raise no_trust(where)


def pinned(data_dir: Path, *, trust_root: str) -> bool:
    """Pin the root that the settings name, at the first start; True where a root is trusted.

    Raises:
        RefusedError: the root is none, or is not there.
        ConflictError: another one is pinned.
    """
    trust = data_dir / TRUST
    path = Path(trust_root)
    if path.is_dir():
        path /= _ROOT
    if trust_root and (path.exists() or not (trust / _PINNED).exists()):
        pin_root(trust, _read(path))
    return trust.is_dir()


def no_trust(where: str = "") -> RefusedError:
    """Error of a device that trusts nobody."""
    return RefusedError(
        "this device trusts no update repository, and unsigned packages are not allowed",
        where=where or "trust_root",
        fix='Enrol it or set trust_root; or say unsigned = "allowed".',
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RefusedError(
            f"no {_ROOT} there: {error.strerror}",
            where=str(path),
            fix=f"Put the site's {_ROOT} there; the hub writes it at its first start.",
        ) from error
