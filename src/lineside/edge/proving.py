"""Whether an archive's bytes are signed in the update repository this device trusts.

Asked without the network: what was believed at the last refresh is verified again from the disk.
"""

import hashlib
from pathlib import Path

from lineside.core import Clock, RefusedError, UnavailableError
from lineside.edge.named import Prove
from lineside.fleet import FolderSource, UpdateClient, pin_root

_TRUST = "trust"
_ROOT = "root.json"


def prover(data_dir: Path, *, trust_root: str, clock: Clock) -> Prove | None:
    """How archives are proved; None where no trust root is configured.

    Args:
        data_dir: the agent's; a device that was enrolled has its trust there.
        trust_root: a folder with the site's ``root.json``, which is pinned if none is; "": none.
        clock: of the verification.

    Raises:
        RefusedError: the root is none, or is not there.
        ConflictError: another one is pinned.
    """
    trust = data_dir / _TRUST
    if trust_root:
        pin_root(trust, _root_in(Path(trust_root)))
    if not trust.is_dir():
        return None

    def prove(data: bytes, where: str) -> None:
        client = UpdateClient(trust, source=FolderSource(trust / "metadata"), clock=clock)
        try:
            client.recall()
        except UnavailableError as error:
            raise RefusedError(error.message, where=error.where, fix=error.fix) from error
        sha256, size = hashlib.sha256(data).hexdigest(), len(data)
        signed = client.targets().values()
        if not any((each.sha256, each.size_bytes) == (sha256, size) for each in signed):
            raise RefusedError(
                "the package is not signed for this device",
                where=where,
                fix="Approve and publish it on the hub, and let the device refresh.",
            )

    return prove


def _root_in(folder: Path) -> bytes:
    try:
        return (folder / _ROOT).read_bytes()
    except OSError as error:
        raise RefusedError(
            f"no {_ROOT} in it: {error.strerror}",
            where=str(folder),
            fix=f"Put the site's {_ROOT} there; lineside hub init made it.",
        ) from error
