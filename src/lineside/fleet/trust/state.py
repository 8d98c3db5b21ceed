"""A repository's metadata in memory: read and verified, changed, signed again.

1. Nothing is signed on top of what was changed at rest: before an edit every file is verified
   from the first root up, as a device would, but for expiry.
2. An edit ends in files: the changed roles with the next version, then a snapshot that lists
   every role with version, length and digest, then a timestamp that does so with the snapshot
   (TUF 4.4, 4.6). Roots are numbered without a gap (TUF 5.3.5).
3. Signing lasts from now for the role's lifetime, cut to whole seconds.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import BadVersionNumberError, RepositoryError
from tuf.api.metadata import (
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

from lineside.core import ConflictError, NotFoundError, RefusedError
from lineside.fleet.contract import Target
from lineside.fleet.trust.files import TIMESTAMP
from lineside.fleet.trust.roles import (
    DEFAULT,
    DEFAULT_PATHS,
    ONLINE,
    DeviceGroup,
    Lifetimes,
    choose_signers,
)
from lineside.fleet.trust.verify import S, follow_roots, load_metadata, load_root, target_of

if TYPE_CHECKING:
    from securesystemslib.signer import Key

Read = Callable[[str], bytes]
Keys = Mapping[str, CryptoSigner]
_MEND = "Restore the trust folder from a backup; see docs/reference/trust.md."


@dataclass(slots=True, kw_only=True)
class State:
    """Verified metadata of one moment.

    Attributes:
        files: what an edit wrote, by name.
        root_before: whose keys sign the next root beside its own; None: its own keys alone.
    """

    root: Metadata[Root]
    targets: Metadata[Targets]
    snapshot: Metadata[Snapshot]
    timestamp: Metadata[Timestamp]
    roles: dict[str, Metadata[Targets]]
    files: dict[str, bytes] = field(default_factory=dict)
    root_before: Root | None = None

    @property
    def delegations(self) -> Delegations:
        """Delegations: the roles and the paths that each may sign."""
        delegations = self.targets.signed.delegations
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
        entry = self.roles[name].signed.targets.get(path) if name else None
        return (name, entry) if entry is not None else None

    def all_targets(self) -> dict[str, Target]:
        """Every target that a device would find, by path."""
        found = {}
        for name, role in self.roles.items():
            for path, entry in role.signed.targets.items():
                if self.role_for(path) == name:
                    found[path] = target_of(entry)
        return found


# ---- reading


def load(read: Read, *, newest_root: int) -> State:
    """Read and verify a repository's newest metadata; expired ones too.

    Raises:
        RefusedError: a file was changed at rest.
        NotFoundError: a file is not there.
    """
    if not newest_root:
        raise NotFoundError("no root", where="trust", fix="Run: lineside trust init.")
    try:
        root = _load_newest_root(read, newest_root)
        timestamp = load_metadata(
            Timestamp, read(TIMESTAMP), delegator=root.signed, role="timestamp"
        )
        listed = timestamp.signed.snapshot_meta
        raw = read(f"{listed.version}.snapshot.json")
        snapshot = load_metadata(
            Snapshot, raw, delegator=root.signed, role="snapshot", listed=listed
        )
        targets = _load_listed(read, snapshot.signed, role="targets", delegator=root.signed)
        state = State(root=root, targets=targets, snapshot=snapshot, timestamp=timestamp, roles={})
        for name in state.delegated:
            state.roles[name] = _load_listed(
                read, snapshot.signed, role=name, delegator=targets.signed
            )
    except (RepositoryError, ValueError, KeyError) as error:
        raise RefusedError(
            f"the repository's metadata were changed at rest: {error}",
            where="trust",
            fix=_MEND,
        ) from error
    return state


def _load_newest_root(read: Read, newest: int) -> Metadata[Root]:
    root = follow_roots(load_root(read("1.root.json")), read, newest=newest)
    if root.signed.version != newest:
        raise BadVersionNumberError(f"{root.signed.version + 1}.root.json does not hold")
    return root


def _load_listed(
    read: Read, snapshot: Snapshot, *, role: str, delegator: Root | Targets
) -> Metadata[Targets]:
    listed = snapshot.meta[f"{role}.json"]
    raw = read(f"{listed.version}.{role}.json")
    return load_metadata(Targets, raw, delegator=delegator, role=role, listed=listed)


# ---- making


def new_state(
    keys: Keys, *, ids: Mapping[str, list[str]], threshold: int, groups: Iterable[DeviceGroup]
) -> State:
    """A repository of version 0, that ``sign_root`` and ``finish`` make one of version 1.

    Args:
        keys: all of them by id.
        ids: role → ids of its keys.
        threshold: of the root.
        groups: roles of devices beside ``default``.
    """
    root = Root(consistent_snapshot=True)
    for role in ("root", "targets", *ONLINE):
        for key_id in ids[role]:
            root.add_key(keys[key_id].public_key, role)
    root.roles["root"].threshold = threshold
    targets = Targets(delegations=Delegations(keys={}, roles={}))
    state = State(
        root=Metadata(root),
        targets=Metadata(targets),
        snapshot=Metadata(Snapshot()),
        timestamp=Metadata(Timestamp()),
        roles={},
    )
    for group in (*groups, None):
        name = group.name if group else DEFAULT
        delegate(state, group, key=keys[ids[name][0]].public_key)
    for signed in (root, targets, state.snapshot.signed, state.timestamp.signed):
        signed.version = 0
    return state


def delegate(state: State, group: DeviceGroup | None, *, key: "Key") -> list[str]:
    """Let a group's role sign for its models, ``default`` where None; which roles changed by it.

    Targets of these models move to it: its delegation ends a device's search (TUF 4.5,
    ``terminating``), so that no other role can speak for them.

    Raises:
        ConflictError: there is such a role.
    """
    name, paths = (group.name, group.paths) if group else (DEFAULT, DEFAULT_PATHS)
    if name in state.delegated:
        raise ConflictError("there is such a group", where=name, fix="Rotate its key instead.")
    role = DelegatedRole(name, [], 1, True, list(paths))  # noqa: FBT003  the library's signature
    others = {each: found for each, found in state.delegated.items() if each != DEFAULT}
    last = {each: found for each, found in state.delegated.items() if each == DEFAULT}
    state.delegations.roles = {**others, name: role, **last}
    state.targets.signed.add_key(key, name)
    made = Targets()
    made.version = 0
    state.roles[name] = Metadata(made)
    return [name, *_move_to_owners(state)]


def _move_to_owners(state: State) -> list[str]:
    changed = []
    for name, role in state.roles.items():
        moving = [path for path in role.signed.targets if state.role_for(path) != name]
        for path in moving:
            owner = state.roles[state.role_for(path)]
            owner.signed.targets[path] = role.signed.targets.pop(path)
        changed += [name] if moving else []
    return changed


# ---- signing


def keep_root(state: State) -> None:
    """Remember the root as it is, before its keys are changed."""
    state.root_before = Metadata[Root].from_bytes(state.root.to_bytes()).signed


def sign_root(state: State, keys: Keys, *, now: datetime, lifetimes: Lifetimes) -> None:
    """The next root, by a threshold of the keys before and of its own (TUF 5.3.4)."""
    signers: dict[str, CryptoSigner] = {}
    for root in (state.root_before, state.root.signed):
        if root is not None:
            role = root.roles["root"]
            for signer in choose_signers(keys, role.keyids, role="root", threshold=role.threshold):
                signers[signer.public_key.keyid] = signer
    _sign(state.root, list(signers.values()), now=now, lifetime=lifetimes.root)
    state.files[f"{state.root.signed.version}.root.json"] = state.root.to_bytes()


def finish(
    state: State, changed: Iterable[str], *, keys: Keys, now: datetime, lifetimes: Lifetimes
) -> dict[str, bytes]:
    """Sign the changed roles, then snapshot and timestamp; every file that is to be written."""
    listed = state.snapshot.signed.meta
    if "targets.json" in listed and listed["targets.json"].length is None:
        del listed["targets.json"]  # the library's placeholder of a new snapshot
    for name in dict.fromkeys(changed):
        role, within = _role_of(state, name)
        signers = _signers(within, name, keys=keys)
        _sign(role, signers, now=now, lifetime=lifetimes.of(name))
        raw, version = role.to_bytes(), role.signed.version
        listed[f"{name}.json"] = MetaFile.from_data(version, raw, ["sha256"])
        state.files[f"{version}.{name}.json"] = raw
    _finish_snapshot(state, keys=keys, now=now, lifetimes=lifetimes)
    signers = _signers(state.root.signed, "timestamp", keys=keys)
    _sign(state.timestamp, signers, now=now, lifetime=lifetimes.timestamp)
    state.files[TIMESTAMP] = state.timestamp.to_bytes()
    return state.files


def _finish_snapshot(state: State, *, keys: Keys, now: datetime, lifetimes: Lifetimes) -> None:
    signers = _signers(state.root.signed, "snapshot", keys=keys)
    _sign(state.snapshot, signers, now=now, lifetime=lifetimes.snapshot)
    raw, version = state.snapshot.to_bytes(), state.snapshot.signed.version
    state.files[f"{version}.snapshot.json"] = raw
    state.timestamp.signed.snapshot_meta = MetaFile.from_data(version, raw, ["sha256"])


def _role_of(state: State, name: str) -> tuple[Metadata[Targets], Root | Targets]:
    if name == "targets":
        return state.targets, state.root.signed
    return state.roles[name], state.targets.signed


def _signers(within: Root | Targets, name: str, *, keys: Keys) -> list[CryptoSigner]:
    role = within.get_delegated_role(name)
    return choose_signers(keys, role.keyids, role=name, threshold=role.threshold)


def _sign(
    made: Metadata[S], signers: list[CryptoSigner], *, now: datetime, lifetime: timedelta
) -> None:
    made.signed.version += 1
    made.signed.expires = (now + lifetime).replace(microsecond=0)
    made.signatures.clear()
    for signer in signers:
        made.sign(signer, append=True)
