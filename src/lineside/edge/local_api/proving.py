"""Whether an archive's bytes are signed in the update repository this device trusts.

Asked without the network: what was believed at the last refresh is verified again from the disk.
"""

import hashlib
from pathlib import Path

from lineside.core import Clock, RefusedError, UnavailableError
from lineside.edge.identity.trust import TRUST, no_trust, pinned
from lineside.edge.local_api.named import Prove
from lineside.fleet import FolderSource, UpdateClient


def prover(
    data_dir: Path, *, trust_root: str, clock: Clock, unsigned: str = "refused"
) -> Prove | None:
    """How archives are proved; None where unsigned ones are allowed and no root is trusted.

    Args:
        data_dir: the agent's; a device that was enrolled has its trust there.
        trust_root: the site's ``root.json``, or the folder it lies in; pinned if none is; "": none.
        clock: of the verification.
        unsigned: "allowed" or "refused", where no root is trusted.

    Raises:
        RefusedError: the root is none, or is not there.
        ConflictError: another one is pinned.
    """
    trust = data_dir / TRUST
    if not pinned(data_dir, trust_root=trust_root):
        return None if unsigned == "allowed" else _refuse

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


def _refuse(data: bytes, where: str) -> None:
    del data
    raise no_trust(where)
