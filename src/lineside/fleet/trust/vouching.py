"""Who vouches for a file that lies here: a hub's repository or a device's memory of it is asked."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from lineside.core import Clock, NotFoundError, RefusedError
from lineside.fleet.contract import Target
from lineside.fleet.trust.client import PINNED, UpdateClient, pin_root
from lineside.fleet.trust.roles import Signers
from lineside.fleet.trust.source import FolderSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """A signed file and who signed it."""

    target: Target
    signers: Signers


def vouched(folder: Path, *, sha256: str, clock: Clock) -> Vouched:
    """What is signed of these bytes.

    Args:
        folder: a device's trust folder, asked for what it believed last; or a hub's, whose first
            root is believed for this once.
        sha256: of the file, hexadecimal.
        clock: what expiry is judged by.

    Raises:
        NotFoundError: the folder is neither.
        RefusedError: nobody signed them, or the folder does not hold.
    """
    if (folder / PINNED).exists():
        client = UpdateClient(folder, source=FolderSource(folder), clock=clock)
        client.recall()
        return _found(client, sha256, where=str(folder))
    try:
        root = (folder / "metadata" / "1.root.json").read_bytes()
    except OSError as error:
        raise NotFoundError(
            "no trust folder", where=str(folder), fix="Name a hub's or a device's trust folder."
        ) from error
    with tempfile.TemporaryDirectory(prefix="lineside-trust-") as scratch:
        pin_root(Path(scratch), root)
        client = UpdateClient(Path(scratch), source=FolderSource(folder), clock=clock)
        client.refresh()
        return _found(client, sha256, where=str(folder))


def _found(client: UpdateClient, sha256: str, *, where: str) -> Vouched:
    for path, target in sorted(client.targets().items()):
        if target.sha256 == sha256:
            return Vouched(target=client.target(path), signers=client.signers(path))
    raise RefusedError(
        "nobody signed this file", where=where, fix="Approve it on the hub, then try again."
    )
