"""A site's update repository: signs what was approved, so that devices need trust nobody else.

Rules (TUF is the specification of The Update Framework, 1.0):

1. Root and targets keys stand in a folder of their own, which is meant to leave the machine; no
   edit but a rotation, a new group or their renewal needs them (TUF 6.1: offline keys).
2. A target is signed by the role of the group of devices whose models it belongs to, or by
   ``default``; each delegation ends the search, so one group's key cannot speak for another's
   models (TUF 4.5, ``terminating``).
3. Snapshots are consistent (TUF 6.2): a file that was published under a number never changes, and
   archives are asked for by their digest.
4. What is on the disk is verified before it is signed again; a change appears whole or not at all,
   whatever process is killed when.
5. A version is published once: other bytes under its number are refused. A way back is signed as
   such (``rollback_from``), a version taken back disappears. An operating point is signed with its
   package and its version (``package``, ``point``), so that a list without it is noticed.
6. A new root is signed by the keys before it and by its own (TUF 5.3.4); when timestamp or snapshot
   keys change with it, devices forget what those had signed (TUF 5.3.11).

The metadata files, several written as one, by one process at a time:

7. A change is written whole into ``staging/`` and becomes valid by one rename to ``commit/``; then
   its files move to ``metadata/``, ``timestamp.json`` last. kill -9 before the rename changes
   nothing; after it, whoever comes next finishes the moves.
8. Writers hold the lock file; readers need none, because every file is replaced atomically and
   the ones with a number in their name never change once they were moved.
9. Old numbered files stay for a while, so that a device in the middle of a refresh finds them;
   roots stay for ever (TUF 5.3.3: devices walk from the root they have, one by one).
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from lineside.core import (
    Clock,
    ConflictError,
    Digest,
    InvalidError,
    NotFoundError,
    RefusedError,
    decode,
    need,
)
from lineside.core.codec import nearest
from lineside.fleet.contract import Release, Target
from lineside.fleet.trust.roles import (
    OFFLINE,
    ONLINE,
    TIMESTAMP,
    WHEELS,
    DeviceGroup,
    Lifetimes,
    RoleView,
    TrustView,
    check_custom,
    check_path,
    check_release,
    choose_signers,
    custom_of,
    drop_keys,
    find_target,
    is_point,
    new_key,
    read_keys,
    unprefixed,
    write_key,
)
from lineside.models.operating_point import OperatingPoint

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner
    from tuf.api.metadata import Root, Targets

    from lineside.fleet.trust.state import RepositoryEdit
import fcntl
import re
import shutil
from contextlib import ExitStack

from lineside.core import UnavailableError
from lineside.core.files import sync_path, write_durably
from lineside.fleet.trust.roles import DEFAULT, NewTrust

LOCK_FILE = "lock"
NAME = re.compile(r"timestamp\.json|[1-9][0-9]{0,8}\.[A-Za-z0-9][A-Za-z0-9-]{0,79}\.json")
_KEPT = 16


class MetadataFiles:
    """``metadata/`` below a folder."""

    def __init__(self, folder: Path) -> None:
        """Touch nothing yet."""
        self._folder = folder
        self.metadata = folder / "metadata"
        self._staging = folder / "staging"
        self._commit = folder / "commit"

    def exists(self) -> bool:
        """Return whether there is a repository."""
        return (self.metadata / TIMESTAMP).exists() or (self._commit / TIMESTAMP).exists()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only writer; what a killed writer left half done is finished first."""
        try:
            self.metadata.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (self._folder / LOCK_FILE).open("ab")
        except OSError as error:
            raise _bad_disk(error, self._folder) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._finish()
            yield

    def write(self, files: Mapping[str, bytes]) -> None:
        """All of them or none; the caller holds the lock."""
        try:
            shutil.rmtree(self._staging, ignore_errors=True)
            self._staging.mkdir(mode=0o700)
            for name, data in files.items():
                write_durably(self._staging / name, data)
            sync_path(self._staging)
            self._staging.rename(self._commit)
            sync_path(self._folder)
        except OSError as error:
            raise _bad_disk(error, self._staging) from error
        self._finish()

    def read(self, name: str) -> bytes:
        """``NotFoundError`` if there is none of this name."""
        if not NAME.fullmatch(name):
            raise NotFoundError(f"{name[:80]!r} is no metadata file", where="metadata")
        try:
            return (self.metadata / name).read_bytes()
        except FileNotFoundError:
            raise NotFoundError("no such metadata", where=name, fix="Ask for one less.") from None

    def names(self) -> list[str]:
        """Every file's name."""
        return sorted(path.name for path in self.metadata.glob("*.json"))

    def newest_root(self) -> int:
        """Number of the newest root; 0 where there is none."""
        return max(
            (number for number, role in map(_parts, self.names()) if role == "root"), default=0
        )

    def _finish(self) -> None:
        if not self._commit.exists():
            return
        try:
            names = sorted(path.name for path in self._commit.iterdir())
            for name in sorted(names, key=lambda name: name == TIMESTAMP):
                (self._commit / name).replace(self.metadata / name)
            sync_path(self.metadata)
            self._commit.rmdir()
        except OSError as error:
            raise _bad_disk(error, self._commit) from error
        self._sweep()

    def _sweep(self) -> None:
        newest: dict[str, int] = {}
        found = [_parts(name) for name in self.names() if name != TIMESTAMP]
        for number, role in found:
            newest[role] = max(number, newest.get(role, 0))
        for number, role in found:
            if role != "root" and number <= newest[role] - _KEPT:
                (self.metadata / f"{number}.{role}.json").unlink(missing_ok=True)


@contextmanager
def lock_folders(*folders: Path) -> Iterator[None]:
    """Lock update repositories and certificate authorities: nobody signs meanwhile.

    What a killed writer left half done is finished first; a folder without either stays as it is.
    """
    with ExitStack() as stack:
        for folder in folders:
            files = MetadataFiles(folder)
            if files.exists():
                stack.enter_context(files.held())
            elif folder.is_dir():
                lock = stack.enter_context((folder / LOCK_FILE).open("ab"))
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _parts(name: str) -> tuple[int, str]:
    number, _, rest = name.partition(".")
    return (int(number) if number.isdecimal() else 0), rest.removesuffix(".json")


def _bad_disk(error: OSError, path: Path) -> UnavailableError:
    return UnavailableError(
        f"cannot write: {error.strerror}", where=str(path), fix="Free space, and allow writing."
    )


logger = logging.getLogger(__name__)

ReadArchive = Callable[[Digest], bytes]
"""Bytes by their digest: ``Blobs.get``."""

_WARN = timedelta(days=30)


class UpdateRepository:
    """One folder; safe from several threads and processes.

    ``metadata/`` is what devices may read, ``online/`` holds the keys that the hub signs with.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock,
        read: ReadArchive,
        lifetimes: Lifetimes | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            folder: of the repository; ``create_repository`` makes one.
            clock: what expiry counts from.
            read: an archive that was published.
            lifetimes: how long what is signed from now on may be believed.
        """
        self._folder = folder
        self._files = MetadataFiles(folder)
        self._online = folder / "online"
        self._clock = clock
        self._read = read
        self._lifetimes = lifetimes or Lifetimes()
        self._seen: tuple[bytes, Mapping[str, Target]] = (b"", {})

    def exists(self) -> bool:
        """Return whether it was created."""
        return self._files.exists()

    # ---- what devices read

    def metadata(self, name: str) -> bytes:
        """A metadata file; ``NotFoundError`` if there is none of this name."""
        return self._files.read(name)

    def first_root(self) -> bytes:
        """Return the root that a device is given at enrolment and trusts from then on."""
        return self.metadata("1.root.json")

    def targets(self) -> Mapping[str, Target]:
        """Everything signed, by path."""
        stamp = self.metadata(TIMESTAMP)
        seen, found = self._seen
        if stamp != seen:
            found = self._settled().all_targets()
            self._seen = (stamp, found)
        return found

    def served(self, path: str) -> Target:
        """The target that a path with a digest before its name asks for (TUF 6.2), or one without.

        Raises:
            NotFoundError: nothing of this name and digest is signed.
        """
        plain, sha256 = unprefixed(path)
        found = self.targets().get(plain or path)
        if found is None or (sha256 and found.sha256 != sha256):
            folder = (plain or path).rpartition("/")[0] + "/"
            known = sorted(one for one in self.targets() if one.startswith(folder))
            fix = nearest(plain or path, known) if known else "Publish it."
            raise NotFoundError("no such target is signed", where=path[:200], fix=fix)
        return found

    def find(self, name: str) -> Target:
        """A target by its name; see ``find_target``."""
        return find_target(self.targets().values(), name)

    def archive(self, target: Target) -> bytes:
        """A target's bytes."""
        return self._read(Digest(f"sha256:{target.sha256}"))

    def mirror(self) -> dict[str, bytes]:
        """Every metadata file that a device may need now, of one moment."""
        with self._edit() as state:
            snapshot = state.snapshot()
            names = [f"{number}.root.json" for number in range(1, state.root().version + 1)]
            names += [f"{meta.version}.{name}" for name, meta in snapshot.meta.items()]
            names += [f"{snapshot.version}.snapshot.json", TIMESTAMP]
            return {name: self.metadata(name) for name in names}

    # ---- other bytes of the site

    def sign(self, content: bytes) -> dict[str, str]:
        """Sign bytes that are no metadata with a key of ``snapshot``; they must say what they are.

        Raises:
            NotFoundError: there is no repository.
            RefusedError: its key is not here.
        """
        ids = self._settled().root().get_delegated_role("snapshot").keyids
        (signer, *_) = choose_signers(read_keys(self._online), ids, role="snapshot", threshold=1)
        signature = signer.sign(content)
        return {"keyid": signature.keyid, "sig": signature.signature}

    def check_signature(self, content: bytes, signature: Mapping[str, object]) -> None:
        """Check what ``sign`` made; keys that were replaced since still count.

        Raises:
            RefusedError: no root names the key for ``snapshot``, or these are not the bytes.
        """
        from securesystemslib.exceptions import UnverifiedSignatureError
        from securesystemslib.signer import Signature
        from tuf.api.metadata import Metadata, Root

        found = Signature(str(signature.get("keyid")), str(signature.get("sig")), {})
        for number in range(1, self._settled().root().version + 1):
            root = Metadata[Root].from_bytes(self.metadata(f"{number}.root.json")).signed
            if found.keyid in root.get_delegated_role("snapshot").keyids:
                try:
                    root.get_key(found.keyid).verify_signature(found, content)
                except UnverifiedSignatureError as error:
                    raise RefusedError("the signature is not of these bytes") from error
                return
        raise RefusedError("the signature is by no key of the site")

    # ---- what the hub signs

    def publish(
        self, release: Release, archive: bytes, *, rollback_from: Iterable[str] = ()
    ) -> Target:
        """Sign an approved archive; the same one again adds its inspection and ways back.

        Raises:
            InvalidError: the release does not fit the archive.
            ConflictError: the version is published with other bytes.
            RefusedError: the metadata were changed at rest.
        """
        check_release(release, archive=archive, sha256=hashlib.sha256(archive).hexdigest())
        path = check_path(release.target)
        with self._edit() as state:
            _check_single(state, release)
            kept = state.all_targets().get(path)
            before = _ways_back(kept.custom) if kept else ()
            custom = custom_of(
                release,
                rollback_from=(*before, *rollback_from),
                inspections=kept.inspections if kept else (),
            )
            if is_point(custom, sha256=release.sha256):
                point = decode(OperatingPoint, archive, where=path)
                custom |= {"package": point.package, "point": point.version}
            self._put(state, path, data=archive, custom=custom)
        return self.targets()[path]

    def publish_wheel(self, name: str, data: bytes) -> Target:
        """Sign a file of the runtime, for bundles."""
        path = check_path(f"{WHEELS}/{name}")
        with self._edit() as state:
            self._put(state, path, data=data, custom={})
        return self.targets()[path]

    def allow_rollback(self, path: str, *, from_version: str) -> Target:
        """Sign that devices may go back to a target from a newer version.

        Raises:
            NotFoundError: it is not signed.
            InvalidError: no version.
        """
        target = self.served(path)
        check_custom(target.path, target.custom)
        archive = self.archive(target)
        return self.publish(target.release, archive, rollback_from=(from_version,))

    def withdraw(self, path: str) -> None:
        """Sign it no more; devices that run it go on, others do not take it.

        Raises:
            NotFoundError: it is not signed.
        """
        with self._edit() as state:
            found = state.find(path)
            if found is None:
                raise NotFoundError("no such target is signed", where=path, fix="List them.")
            del state.targets(found[0]).targets[path]
            self._commit(state, [found[0]])
        logger.info("target withdrawn path=%s", path)

    def renew(self) -> tuple[str, ...]:
        """Sign again what the hub's own keys sign and has less than half its life left.

        Returns:
            The roles that were signed again.
        """
        with self._edit() as state:
            due = [name for name in (*state.delegated, *ONLINE) if self._is_due(state, name)]
            if not due:
                return ()
            roles = (*(name for name in due if name not in ONLINE), *ONLINE)
            self._commit(state, roles)
        logger.info("metadata renewed roles=%s", ",".join(roles))
        return roles

    def extend(self, days: float) -> None:
        """Sign snapshot and timestamp for longer than usual, as a bundle on its way needs it."""
        if not 0 < days <= 366:
            raise InvalidError("more than 0 and at most 366", where="days", fix="Such as 30.")
        life = timedelta(days=days)
        with self._edit() as state:
            self._commit(state, [], lifetimes=Lifetimes(snapshot=life, timestamp=life))

    # ---- what needs the offline keys

    def renew_offline(self, role: str, *, keys: Path, passphrase: bytes = b"") -> int:
        """Sign root or targets again, with the keys they have; the new version's number.

        Raises:
            InvalidError: another role.
            NotFoundError, RefusedError: its keys are not in the folder.
        """
        if role not in OFFLINE:
            raise InvalidError(
                f"{role!r} is renewed by the hub", where="role", fix="Renew root or targets."
            )
        offline = read_keys(keys, passphrase=passphrase)
        with self._edit() as state:
            self._commit(state, [role], offline=offline)
            return int(state.open(role).signed.version)

    def rotate(
        self, role: str, *, keys: Path, passphrase: bytes = b"", lost: str = ""
    ) -> tuple[str, ...]:
        """Give a role new keys; what the old ones sign is worth nothing afterwards.

        Args:
            role: ``root``, ``targets``, ``snapshot``, ``timestamp``, ``default`` or a group's.
            keys: folder of the offline keys; new offline keys are added to it.
            passphrase: of its files, and of the new ones.
            lost: of the root's keys, the id (or its beginning) of the only one to replace.

        Returns:
            Ids of the new keys.

        Raises:
            NotFoundError: no such role or key.
            RefusedError: too few of the keys that must agree are in the folder.
        """
        offline = read_keys(keys, passphrase=passphrase)
        is_top = role in (*OFFLINE, *ONLINE)
        with self._edit() as state:
            delegator = state.root() if is_top else state.targets()
            old = _replaced(delegator, role, lost=lost)
            folder = keys if role in OFFLINE else self._online
            added = {}
            for key_id in old:
                key = new_key()
                write_key(key, folder, role=role, passphrase=passphrase if role in OFFLINE else b"")
                delegator.add_key(key.public_key, role)
                delegator.revoke_key(key_id, role)
                added[key.public_key.keyid] = key
            offline |= added
            changed = ["root"] if is_top else ["targets", role]
            if role == "targets":
                changed.append(role)
            self._commit(state, changed, offline=offline)
            drop_keys(self._online, old)
        logger.info("keys rotated role=%s", role)
        return tuple(added)

    def add_group(self, group: DeviceGroup, *, keys: Path, passphrase: bytes = b"") -> None:
        """Give a group of devices a role of its own; its models' targets move there.

        Raises:
            ConflictError: there is such a group.
            RefusedError: the key of targets is not in the folder.
        """
        offline = read_keys(keys, passphrase=passphrase)
        from lineside.fleet.trust.state import delegate

        with self._edit() as state:
            key = new_key()
            changed = delegate(state, group, key=key.public_key)
            write_key(key, self._online, role=group.name)
            self._commit(state, ["targets", *changed], offline=offline)
        logger.info("group of devices added name=%s", group.name)

    # ---- looking

    def show(self) -> TrustView:
        """Roles, what is signed, and what a person must see to."""
        state = self._settled()
        roles = []
        for name in (*OFFLINE, *ONLINE, *state.delegated):
            entry, made = state.delegated.get(name), state.open(name).signed
            role = entry or state.root().get_delegated_role(name)
            roles.append(
                RoleView(
                    role=name, version=made.version, expires=made.expires,
                    threshold=role.threshold, keys=tuple(role.keyids),
                    online=name not in OFFLINE,
                    paths=tuple(entry.paths or ()) if entry else (),
                    targets=len(made.targets) if entry else 0,
                )
            )  # fmt: skip
        return TrustView(
            roles=tuple(roles),
            targets=tuple(sorted(state.all_targets())),
            warnings=tuple(self._warning(role) for role in roles if self._ends_soon(role)),
        )

    def _ends_soon(self, role: RoleView) -> bool:
        left = role.expires - self._clock.now()
        return left < (timedelta() if role.online else _WARN)

    def _warning(self, role: RoleView) -> str:
        over = role.expires <= self._clock.now()
        told = "is over since" if over else "ends on"
        how = "start the hub" if role.online else f"lineside trust renew {role.role} --keys FOLDER"
        return f"{role.role} {told} {role.expires:%Y-%m-%d}: {how}"

    # ---- underneath

    def _settled(self) -> "RepositoryEdit":
        """Read between two writers, never in the middle of one."""
        with self._edit() as state:
            return state

    @contextmanager
    def _edit(self) -> "Iterator[RepositoryEdit]":
        need("tuf", extra="edge")
        from lineside.fleet.trust.state import load

        if not self.exists():
            raise NotFoundError(
                "no update repository", where=str(self._folder), fix="Run: lineside trust init."
            )
        with self._files.held():
            yield load(self._files.read, newest_root=self._files.newest_root())

    def _put(
        self, state: "RepositoryEdit", path: str, *, data: bytes, custom: Mapping[str, object]
    ) -> None:
        from tuf.api.metadata import TargetFile

        role = state.role_for(path)
        entry = TargetFile.from_data(path, data, ["sha256"])
        if custom:
            entry.unrecognized_fields["custom"] = dict(custom)
        targets = state.targets(role).targets
        if targets.get(path) == entry:
            return
        targets[path] = entry
        self._commit(state, [role])
        logger.info("target published path=%s role=%s", path, role)

    def _commit(
        self,
        state: "RepositoryEdit",
        changed: Iterable[str],
        *,
        offline: "Mapping[str, CryptoSigner] | None" = None,
        lifetimes: Lifetimes | None = None,
    ) -> None:
        keys = {**read_keys(self._online), **(offline or {})}
        now = self._clock.now()
        files = state.sign(changed, keys=keys, now=now, lifetimes=lifetimes or self._lifetimes)
        self._files.write(files)

    def _is_due(self, state: "RepositoryEdit", name: str) -> bool:
        left: timedelta = state.open(name).signed.expires - self._clock.now()
        return left < self._lifetimes.of(name) / 2


def _replaced(delegator: "Root | Targets", role: str, *, lost: str) -> list[str]:
    """Ids of the keys to replace."""
    try:
        ids = list(delegator.get_delegated_role(role).keyids)
    except ValueError:
        raise NotFoundError(
            f"no role {role[:80]!r}", where="role", fix="List them: lineside trust show."
        ) from None
    if not lost:
        return ids
    found = [key_id for key_id in ids if key_id.startswith(lost)]
    if len(found) != 1:
        raise NotFoundError(
            f"{len(found)} keys of {role!r} begin with {lost[:80]!r}",
            where="key",
            fix=f"One of: {', '.join(key_id[:12] for key_id in ids)}.",
        )
    return found


def _check_single(state: "RepositoryEdit", release: Release) -> None:
    place = f"packages/{release.group}/{release.version}/"
    for path in state.all_targets():
        if path.startswith(place) and path != release.target:
            raise ConflictError(
                "this version is published with other bytes",
                where=path,
                fix="Register the package as the next version, or withdraw that one first.",
            )


def _ways_back(custom: object) -> tuple[str, ...]:
    found = custom.get("rollback_from", ()) if isinstance(custom, dict) else ()
    return tuple(str(version) for version in found)


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
    from lineside.fleet.trust.state import new_repository

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
        state = new_repository(made, ids=ids, threshold=settings.threshold, groups=settings.groups)
        roles = (*OFFLINE, *state.delegated)
        files.write(state.sign(roles, keys=made, now=clock.now(), lifetimes=lifetimes))
    logger.info("update repository created folder=%s keys=%s", folder, keys)
    return UpdateRepository(folder, clock=clock, read=read, lifetimes=lifetimes)
