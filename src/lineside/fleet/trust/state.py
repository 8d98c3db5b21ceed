"""A repository's metadata in memory: read and verified, changed, signed again.

1. Nothing is signed on top of what was changed at rest: before an edit every file is verified
   from the first root up, as a device would, but for expiry.
2. An edit ends in files: the changed roles with the next version, then a snapshot that lists
   every role with version, length and digest, then a timestamp that does so with the snapshot
   (TUF 4.4, 4.6). Roots are numbered without a gap (TUF 5.3.5).
3. Signing lasts from now for the role's lifetime, cut to whole seconds.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from datetime import datetime
from typing import TYPE_CHECKING, Any

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import BadVersionNumberError, RepositoryError
from tuf.api.metadata import (
    TOP_LEVEL_ROLE_NAMES,
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.repository import Repository

from lineside.core import ConflictError, NotFoundError, RefusedError
from lineside.fleet.contract import Target
from lineside.fleet.trust.roles import (
    DEFAULT,
    DEFAULT_PATHS,
    ONLINE,
    TIMESTAMP,
    DeviceGroup,
    Lifetimes,
    choose_signers,
)
from lineside.fleet.trust.verify import follow_roots, load_metadata, load_root, target_of

if TYPE_CHECKING:
    from securesystemslib.signer import Key

Read = Callable[[str], bytes]
Keys = Mapping[str, CryptoSigner]
_MEND = "Restore the trust folder from a backup; see docs/reference/trust.md."


class RepositoryEdit(Repository):
    """Verified metadata of one moment, and the files of what is signed on top of them.

    Attributes:
        metadata: by role.
        files: what was signed, by name.
    """

    def __init__(self, metadata: dict[str, Metadata[Any]], *, root: Root | None = None) -> None:
        """``root``: whose keys sign the next root beside its own; None: its own keys alone."""
        self.metadata = metadata
        self.files: dict[str, bytes] = {}
        self._root_before = root

    def open(self, role: str) -> Metadata[Any]:
        """A role's metadata."""
        return self.metadata[role]

    def close(self, role: str, md: Metadata[Any]) -> None:
        """Sign the next version, and list it where it has to be."""
        md.signed.version += 1
        md.signed.expires = (self._now + self._lifetimes.of(role)).replace(microsecond=0)
        md.signatures.clear()
        for signer in self._signers(role):
            md.sign(signer, append=True)
        version, raw = md.signed.version, md.to_bytes()
        self.files[TIMESTAMP if role == "timestamp" else f"{version}.{role}.json"] = raw
        info = MetaFile.from_data(version, raw, ["sha256"])
        if role == "snapshot":
            self.timestamp().snapshot_meta = info
        elif role not in ("root", "timestamp"):
            self.snapshot().meta[f"{role}.json"] = info

    def sign(
        self, changed: Iterable[str], *, keys: Keys, now: datetime, lifetimes: Lifetimes
    ) -> dict[str, bytes]:
        """Sign the changed roles, then snapshot and timestamp; every file that is to be written."""
        self._keys, self._now, self._lifetimes = keys, now, lifetimes
        for role in dict.fromkeys((*changed, *ONLINE)):
            self.close(role, self.open(role))
        return self.files

    def _signers(self, role: str) -> Iterable[CryptoSigner]:
        """Of a root: a threshold of the keys before and of its own (TUF 5.3.4)."""
        before = [self._root_before] if role == "root" and self._root_before else []
        own = self.root() if role in TOP_LEVEL_ROLE_NAMES else self.targets()
        signers: dict[str, CryptoSigner] = {}
        for delegator in (*before, own):
            entry = delegator.get_delegated_role(role)
            chosen = choose_signers(self._keys, entry.keyids, role=role, threshold=entry.threshold)
            signers |= {signer.public_key.keyid: signer for signer in chosen}
        return signers.values()

    @property
    def delegations(self) -> Delegations:
        """Delegations: the roles and the paths that each may sign."""
        delegations = self.targets().delegations
        assert delegations is not None  # noqa: S101  the default role is always delegated
        return delegations

    @property
    def delegated(self) -> dict[str, DelegatedRole]:
        """Roles of groups of devices, in the order in which devices ask them."""
        return self.delegations.roles or {}

    def role_for(self, path: str) -> str:
        """The role that signs a path.

        Raises:
            NotFoundError: none may.
        """
        for name, _ in self.delegations.get_roles_for_target(path):
            return name
        raise NotFoundError(
            "no role may sign this path", where=path, fix="Publish below packages/."
        )

    def find(self, path: str) -> tuple[str, TargetFile] | None:
        """Role and entry of a target."""
        name = next((name for name, _ in self.delegations.get_roles_for_target(path)), "")
        entry = self.targets(name).targets.get(path) if name else None
        return (name, entry) if entry is not None else None

    def all_targets(self) -> dict[str, Target]:
        """Every target that a device would find, by path."""
        return {
            path: target_of(entry)
            for name in self.delegated
            for path, entry in self.targets(name).targets.items()
            if self.role_for(path) == name
        }


# ---- reading


def load(read: Read, *, newest_root: int) -> RepositoryEdit:
    """Read and verify a repository's newest metadata; expired ones too.

    Raises:
        RefusedError: a file was changed at rest.
        NotFoundError: a file is not there.
    """
    if not newest_root:
        raise NotFoundError("no root", where="trust", fix="Run: lineside trust init.")
    try:
        root = follow_roots(load_root(read("1.root.json")), read, newest=newest_root)
        _check_newest(root, newest_root)
        timestamp = load_metadata(
            Timestamp, read(TIMESTAMP), delegator=root.signed, role="timestamp"
        )
        listed = timestamp.signed.snapshot_meta
        raw = read(f"{listed.version}.snapshot.json")
        snapshot = load_metadata(
            Snapshot, raw, delegator=root.signed, role="snapshot", listed=listed
        )
        targets = _load_listed(read, snapshot.signed, role="targets", delegator=root.signed)
        metadata: dict[str, Metadata[Any]] = {
            "root": root, "targets": targets, "snapshot": snapshot, "timestamp": timestamp,
        }  # fmt: skip
        edit = RepositoryEdit(metadata, root=deepcopy(root.signed))
        for name in edit.delegated:
            metadata[name] = _load_listed(
                read, snapshot.signed, role=name, delegator=targets.signed
            )
    except (RepositoryError, ValueError, KeyError) as error:
        raise RefusedError(
            f"the repository's metadata were changed at rest: {error}",
            where="trust",
            fix=_MEND,
        ) from error
    return edit


def _check_newest(root: Metadata[Root], newest: int) -> None:
    if root.signed.version != newest:
        raise BadVersionNumberError(f"{root.signed.version + 1}.root.json does not hold")


def _load_listed(
    read: Read, snapshot: Snapshot, *, role: str, delegator: Root | Targets
) -> Metadata[Targets]:
    listed = snapshot.meta[f"{role}.json"]
    raw = read(f"{listed.version}.{role}.json")
    return load_metadata(Targets, raw, delegator=delegator, role=role, listed=listed)


# ---- making


def new_repository(
    keys: Keys, *, ids: Mapping[str, list[str]], threshold: int, groups: Iterable[DeviceGroup]
) -> RepositoryEdit:
    """A repository of version 0, that ``sign`` makes one of version 1.

    Args:
        keys: all of them by id.
        ids: role → ids of its keys.
        threshold: of the root.
        groups: roles of devices beside ``default``.
    """
    root = Root(consistent_snapshot=True)
    for role in TOP_LEVEL_ROLE_NAMES:
        for key_id in ids[role]:
            root.add_key(keys[key_id].public_key, role)
    root.roles["root"].threshold = threshold
    edit = RepositoryEdit(
        {
            "root": Metadata(root),
            "targets": Metadata(Targets(delegations=Delegations(keys={}, roles={}))),
            "snapshot": Metadata(Snapshot(meta={})),
            "timestamp": Metadata(Timestamp()),
        }
    )
    for group in (*groups, None):
        name = group.name if group else DEFAULT
        delegate(edit, group, key=keys[ids[name][0]].public_key)
    for made in edit.metadata.values():
        made.signed.version = 0
    return edit


def delegate(edit: RepositoryEdit, group: DeviceGroup | None, *, key: "Key") -> list[str]:
    """Let a group's role sign for its models, ``default`` where None; which roles changed by it.

    Targets of these models move to it: its delegation ends a device's search (TUF 4.5,
    ``terminating``), so that no other role can speak for them.

    Raises:
        ConflictError: there is such a role.
    """
    name, paths = (group.name, group.paths) if group else (DEFAULT, DEFAULT_PATHS)
    if name in edit.delegated:
        raise ConflictError("there is such a group", where=name, fix="Rotate its key instead.")
    role = DelegatedRole(name, [], 1, True, list(paths))  # noqa: FBT003  the library's signature
    others = {each: found for each, found in edit.delegated.items() if each != DEFAULT}
    edit.delegations.roles = {**others, name: role} | edit.delegated
    edit.targets().add_key(key, name)
    made = Targets()
    made.version = 0
    edit.metadata[name] = Metadata(made)
    return [name, *_move_to_owners(edit)]


def _move_to_owners(edit: RepositoryEdit) -> list[str]:
    changed = []
    for name in edit.delegated:
        entries = edit.targets(name).targets
        moving = [path for path in entries if edit.role_for(path) != name]
        for path in moving:
            edit.targets(edit.role_for(path)).targets[path] = entries.pop(path)
        changed += [name] if moving else []
    return changed
