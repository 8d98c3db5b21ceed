"""A repository's beginning: keys, first root, roles that sign nothing yet."""

import logging
from pathlib import Path

from lineside.core import Clock, ConflictError, need
from lineside.fleet.trust.files import MetadataFiles
from lineside.fleet.trust.keys import new_key, write_key
from lineside.fleet.trust.repository import ReadArchive, UpdateRepository
from lineside.fleet.trust.roles import DEFAULT, OFFLINE, ONLINE, Lifetimes, NewTrust

logger = logging.getLogger(__name__)


def create_repository(
    folder: Path,
    *,
    keys: Path,
    clock: Clock,
    read: ReadArchive,
    settings: NewTrust | None = None,
    lifetimes: Lifetimes | None = None,
) -> UpdateRepository:
    """Make a repository and its keys; nothing is signed for devices yet.

    Args:
        folder: of the repository.
        keys: folder that the keys of root and targets are written to.
        clock: what expiry counts from.
        read: an archive that was published.
        settings: how many keys, which groups of devices.
        lifetimes: how long metadata may be believed.

    Raises:
        ConflictError: there is one.
    """
    need("tuf", extra="edge")
    from lineside.fleet.trust.state import finish, fresh, sign_root

    settings, lifetimes = settings or NewTrust(), lifetimes or Lifetimes()
    files = MetadataFiles(folder)
    with files.held():
        if files.exists():
            raise ConflictError(
                "there is an update repository", where=str(folder), fix="Rotate its keys instead."
            )
        ids, made = {}, {}
        names = (*OFFLINE, *ONLINE, DEFAULT, *(group.name for group in settings.groups))
        for role in names:
            home = keys if role in OFFLINE else folder / "online"
            phrase = settings.passphrase if role in OFFLINE else b""
            count = settings.root_keys if role == "root" else 1
            role_keys = [new_key() for _ in range(count)]
            for key in role_keys:
                write_key(key, home, role=role, passphrase=phrase)
                made[key.public_key.keyid] = key
            ids[role] = [key.public_key.keyid for key in role_keys]
        state = fresh(made, ids=ids, threshold=settings.threshold, groups=settings.groups)
        now = clock.now()
        sign_root(state, made, now=now, lifetimes=lifetimes)
        roles = ["targets", *state.roles]
        files.write(finish(state, roles, keys=made, now=now, lifetimes=lifetimes))
    logger.info("update repository created folder=%s keys=%s", folder, keys)
    return UpdateRepository(folder, clock=clock, read=read, lifetimes=lifetimes)
