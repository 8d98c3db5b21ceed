"""Verification of metadata from bytes: one reference time, no network, no clock.

The rules stand in ``fleet.trust.client``; clauses are those of the TUF specification 1.0. The
library's updater verifies what it fetches. What is held is verified here whenever it is read: by a
device after a refresh or a start without its hub, and by the repository before it signs on top of
its own files.

python-tuf's updater, in a folder of its own:

1. The updater begins with the pinned root, always, and fetches through ``MetadataFetcher``: from a
   ``Source``, under the limits of ``download``.
2. It works on a copy of what the device holds. Whether a refresh ends well or not, only files that
   the library verified and stored are taken over (``changed``).
3. Where a new root names other timestamp or snapshot keys, timestamp and snapshot are forgotten
   and the refresh begins again (TUF 5.3.11); the library does so only where both keys change.
"""

import logging
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from lineside.core import Clock, NotFoundError, RefusedError, UnavailableError
from lineside.fleet.contract import Target
from lineside.fleet.trust.download import Source, UpdateLimits, read_metadata
from lineside.fleet.trust.roles import LAST_SNAPSHOT, TIMESTAMP, Signers

logger = logging.getLogger(__name__)

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)
ReadFile = Callable[[str], bytes | None]
"""Bytes of a metadata file by its name; None where it is not held."""

_ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,79}")


def load_metadata(
    kind: type[S],
    data: bytes,
    *,
    delegator: Root | Targets,
    role: str,
    listed: MetaFile | None = None,
    now: datetime | None = None,
) -> Metadata[S]:
    """Return a role's verified metadata.

    Args:
        kind: of metadata.
        data: the file.
        delegator: names the keys that must sign it.
        role: its name.
        listed: the length, digest and version it must have.
        now: when it must not have expired; None: it may have.

    Raises:
        RepositoryError: any of it does not hold.
    """
    if listed is not None:
        listed.verify_length_and_hashes(data)
    loaded: Metadata[S] = Metadata.from_bytes(data)
    if not isinstance(loaded.signed, kind):
        raise RepositoryError(f"Expected '{kind.type}', got '{loaded.signed.type}'")
    delegator.verify_delegate(role, loaded.signed_bytes, loaded.signatures)
    if listed is not None and loaded.signed.version != listed.version:
        raise BadVersionNumberError(
            f"Expected {role} v{listed.version}, got v{loaded.signed.version}"
        )
    if now is not None and loaded.signed.is_expired(now):
        raise ExpiredMetadataError(f"{role}.json is expired")
    return loaded


def load_root(data: bytes) -> Metadata[Root]:
    """Return a root that is signed by its own keys: a beginning of trust.

    Raises:
        RepositoryError: it is none.
    """
    unverified = Metadata[Root].from_bytes(data)
    if not isinstance(unverified.signed, Root):
        raise RepositoryError(f"Expected 'root', got '{unverified.signed.type}'")
    return load_metadata(Root, data, delegator=unverified.signed, role="root")


def check_root(data: bytes, *, where: str = "root") -> Metadata[Root]:
    """Return a root that is signed by its own keys; ``RefusedError`` where it is none."""
    with refusals(where, None):
        return load_root(data)


def follow_roots(
    first: Metadata[Root], read: ReadFile, *, newest: int | None = None
) -> Metadata[Root]:
    """Return the last root of a chain that holds (5.3.4, 5.3.5).

    Args:
        first: where trust begins.
        read: the files of the chain.
        newest: number of the last root to follow; None: as many as hold.
    """
    root = first
    while newest is None or root.signed.version < newest:
        number = root.signed.version + 1
        data = read(f"{number}.root.json")
        if data is None:
            break
        try:
            following = load_root(data)
            root.signed.verify_delegate("root", following.signed_bytes, following.signatures)
            if following.signed.version != number:
                raise BadVersionNumberError(
                    f"Expected root version {number} instead got {following.signed.version}"
                )
        except (RepositoryError, ValueError) as error:
            logger.warning("held root does not hold version=%d: %s", number, error)
            break
        root = following
    return root


class StoredMetadata:
    """The metadata that a device holds: verified when made, delegated roles when asked for."""

    def __init__(
        self,
        root: Metadata[Root],
        *,
        read: ReadFile,
        now: datetime,
        max_delegations: int,
        fetch: Callable[[str], None] | None = None,
    ) -> None:
        """Verify the four top roles.

        Args:
            root: the newest one, see ``follow_roots``.
            read: held files.
            now: the only time that expiry is judged by (5.1).
            max_delegations: roles that one search may ask.
            fetch: brings the roles that a search for a path asks; None: without the network.

        Raises:
            RefusedError: a file does not hold.
            UnavailableError: a file is not held.
        """
        self.root = root.signed
        self._read = read
        self._now = now
        self._max_delegations = max_delegations
        self._fetch = fetch
        with refusals("metadata", now):
            if self.root.is_expired(now):  # 5.3.10
                raise ExpiredMetadataError("Final root.json is expired")
            stamp = load_metadata(
                Timestamp, self._held(TIMESTAMP), delegator=self.root, role="timestamp", now=now
            )
            listed = stamp.signed.snapshot_meta
            self.snapshot = load_metadata(
                Snapshot, self._held(f"{listed.version}.snapshot.json"),
                delegator=self.root, role="snapshot", listed=listed, now=now,
            ).signed  # fmt: skip
            self._roles: dict[tuple[str, int], Metadata[Targets]] = {}
            self.targets = self._role("targets", self.root, path=None).signed

    def find(self, path: str) -> Target | None:
        """Return what is signed under a path (5.6.7); None where nothing is."""
        with refusals(path, self._now):
            found = self._search(path)
            return target_of(found[2]) if found else None

    def targets_of(self, roles: Iterable[str]) -> Mapping[str, Target]:
        """Return every target of some held roles that a search would find, by path."""
        targets: dict[str, Target] = {}
        with refusals("targets", self._now):
            for name in roles:
                for path in self._role(name, self.targets, path=None).signed.targets:
                    target = self.find(path)
                    if target is not None:
                        targets[path] = target
        return targets

    def signers(self, path: str) -> Signers:
        """Return who signed a target that ``find`` found."""
        with refusals(path, self._now):
            found = self._search(path)
            assert found is not None  # noqa: S101  the caller looked it up
            name, delegator, _ = found
            role = self._role(name, delegator, path=path)
            result = delegator.get_verification_result(name, role.signed_bytes, role.signatures)
        return Signers(role=name, keys=tuple(sorted(result.signed)), threshold=result.threshold)

    @property
    def delegated(self) -> dict[str, tuple[str, ...]]:
        """Roles of groups of devices, each with the patterns of its paths."""
        delegations = self.targets.delegations
        roles = (delegations.roles or {}) if delegations else {}
        return {name: tuple(role.paths or ()) for name, role in roles.items()}

    @property
    def names(self) -> set[str]:
        """Files that belong to it, beside the roots and the snapshot's second name."""
        listed = {f"{meta.version}.{name}" for name, meta in self.snapshot.meta.items()}
        return {TIMESTAMP, f"{self.snapshot.version}.snapshot.json", *listed}

    def _search(self, path: str) -> tuple[str, Root | Targets, TargetFile] | None:
        """Role, delegator and entry: depth first; the first role that has the path speaks."""
        waiting: list[tuple[str, Root | Targets]] = [("targets", self.root)]
        visited: set[str] = set()
        while waiting and len(visited) < self._max_delegations:
            name, delegator = waiting.pop()
            if name in visited:
                continue
            visited.add(name)
            targets = self._role(name, delegator, path=path).signed
            if path in targets.targets:
                return name, delegator, targets.targets[path]
            if targets.delegations is None:
                continue
            below: list[tuple[str, Root | Targets]] = []
            for child, terminating in targets.delegations.get_roles_for_target(path):
                below.append((child, targets))
                if terminating:
                    waiting = []
                    break
            waiting += reversed(below)
        return None

    def _role(self, name: str, delegator: Root | Targets, *, path: str | None) -> Metadata[Targets]:
        """A role's metadata; fetched, if it must be, by a search for ``path``."""
        key = (name, id(delegator))
        if key in self._roles:
            return self._roles[key]
        listed = self.snapshot.meta.get(f"{name}.json")
        if listed is None:
            raise RefusedError(
                "delegated, but no part of the snapshot", where=name, fix="Publish again."
            )
        file = f"{listed.version}.{check_role_file(name)}.json"
        load = partial(
            load_metadata, Targets, delegator=delegator, role=name, listed=listed, now=self._now
        )
        try:
            role = load(self._held(file))
        except (UnavailableError, RepositoryError, ValueError):
            if self._fetch is None or path is None:
                raise
            self._fetch(path)
            role = load(self._held(file))
        self._roles[key] = role
        return role

    def _held(self, name: str) -> bytes:
        data = self._read(name)
        if data is None:
            raise UnavailableError(
                "the repository does not have it", where=name, fix="Ask again in a while."
            )
        return data


def check_role_file(name: str) -> str:
    """Refuse a role's name that cannot stand in a file's name."""
    if not _ROLE.fullmatch(name):
        raise RefusedError(
            f"{name[:80]!r} is no name of a role", where="targets", fix="Name it plainly."
        )
    return name


def target_of(entry: TargetFile) -> Target:
    """Return the library's entry as a ``Target``.

    Raises:
        RefusedError: it has no SHA-256, or its custom metadata are no object.
    """
    custom = entry.custom if entry.custom is not None else {}
    if "sha256" not in entry.hashes or not isinstance(custom, dict):
        raise RefusedError("signed without SHA-256", where=entry.path, fix="Publish it again.")
    return Target(
        path=entry.path, sha256=entry.hashes["sha256"], size_bytes=entry.length, custom=custom
    )


@contextmanager
def refusals(where: str, now: datetime | None) -> Iterator[None]:
    """Raise the library's errors as refusals."""
    try:
        yield
    except (RepositoryError, ValueError) as error:
        raise refusal_of(error, where=where, now=now) from error


def refusal_of(error: Exception, *, where: str, now: datetime | None) -> RefusedError:
    """Return the refusal that an error of the library stands for."""
    match error:
        case ExpiredMetadataError():
            message = f"{error}; the clock says {now:%Y-%m-%d %H:%M} UTC"
            fix = "Start the hub, or run lineside trust renew there; check the clock."
        case UnsignedMetadataError():
            message = f"not signed as it must be: {error}"
            fix = "Look who changed the repository; rotate a key that may be stolen."
        case BadVersionNumberError():
            message = f"not the version it must be: {error}"
            fix = "Look who serves old metadata; restore the newest."
        case LengthOrHashMismatchError():
            message = f"not the bytes that are signed: {error}"
            fix = "Fetch again; if it stays so, look after the repository."
        case _:
            message = f"no metadata that can be believed: {error}"
            fix = "Look after the repository."
    return RefusedError(message, where=where, fix=fix)


_BASE = "metadata/"
_ROOTS = "root_history"
_TYPES = {TIMESTAMP: "timestamp", LAST_SNAPSHOT: "snapshot"}


class OnlineKeysChangedError(Exception):
    """A new root names other timestamp or snapshot keys."""


class MetadataFetcher(FetcherInterface):
    """Metadata of a source, under limits.

    Attributes:
        name: of the file asked for last.
    """

    def __init__(self, source: Source, *, root: Root, clock: Clock, limits: UpdateLimits) -> None:
        """``root``: the newest one that the device holds."""
        self.name = ""
        self._source = source
        self._root = root
        self._clock = clock
        self._limits = limits
        self._new_roots: list[bytes] = []
        self._reached_newest_root = False

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return a file; ``DownloadHTTPError`` where there is no newer root."""
        self.name = url.removeprefix(_BASE)
        is_root = self.name.endswith(".root.json")
        if self.name == TIMESTAMP:
            self._check_roots()
        else:
            check_role_file(self.name.partition(".")[2].removesuffix(".json"))
        try:
            data = read_metadata(
                self._source, self.name, most_bytes=max_length,
                clock=self._clock, limits=self._limits,
            )  # fmt: skip
        except NotFoundError as error:
            if is_root:
                self._reached_newest_root = True
                raise DownloadHTTPError("no newer root", 404) from error
            raise UnavailableError(
                "the repository does not have it", where=self.name, fix="Ask again in a while."
            ) from error
        if is_root:
            self._new_roots.append(data)
        return data

    def _fetch(self, url: str) -> Iterator[bytes]:
        yield self.download_bytes(url, self._limits.targets_bytes)

    def _check_roots(self) -> None:
        """The updater asks for the timestamp once it has verified every new root."""
        if not self._reached_newest_root:
            raise RefusedError(
                f"more than {self._limits.roots} new roots",
                where="root",
                fix="Enrol the device again.",
            )
        new_roots, self._new_roots = self._new_roots, []
        for data in new_roots:
            before, self._root = self._root, Metadata[Root].from_bytes(data).signed
            if _online_keys(before) != _online_keys(self._root):
                raise OnlineKeysChangedError


class MetadataUpdater:
    """One refresh, and the searches after it, at one reference time."""

    def __init__(
        self,
        pinned: bytes,
        *,
        held: Mapping[str, bytes],
        fetcher: MetadataFetcher,
        limits: UpdateLimits,
        now: datetime,
        scratch: Path | None = None,
    ) -> None:
        """Copy what is held into a new folder, which goes with this object.

        Args:
            pinned: the root where trust begins.
            held: name in the updater's folder → bytes; see ``local_name``.
            fetcher: where new files come from.
            limits: what a source may cost.
            now: for messages; the library judges expiry by the machine's clock.
            scratch: where the new folder is made; None: the machine's temporary folder.

        Raises:
            UnavailableError: the temporary folder cannot be written.
        """
        self.online_keys_changed = False
        self._pinned = pinned
        version = Metadata[Root].from_bytes(pinned).signed.version
        self._held = {**held, f"{_ROOTS}/{version}.root.json": pinned}  # stays where it is pinned
        self._fetcher = fetcher
        self._now = now
        self._config = UpdaterConfig(
            max_root_rotations=limits.roots,
            max_delegations=limits.delegations - 1,  # the library counts the first role as none
            root_max_length=limits.root_bytes,
            timestamp_max_length=limits.timestamp_bytes,
            snapshot_max_length=limits.snapshot_bytes,
            targets_max_length=limits.targets_bytes,
        )
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="lineside-trust-", dir=scratch))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            (self._folder / _ROOTS).mkdir()
            for name, data in held.items():
                (self._folder / name).write_bytes(data)
        except OSError as error:
            raise _bad_disk(error) from error

    def refresh(self) -> None:
        """Bring the top roles up to date.

        Raises:
            RefusedError, UnavailableError: a file does not hold or cannot be had.
        """
        with self._errors():
            self._updater = self._new_updater()
            try:
                self._updater.refresh()
            except OnlineKeysChangedError:
                self.online_keys_changed = True
                for name in (TIMESTAMP, LAST_SNAPSHOT):
                    (self._folder / name).unlink(missing_ok=True)
                self._updater = self._new_updater()
                self._updater.refresh()
        self._held.pop(LAST_SNAPSHOT, None)  # it holds: both files of it must be the same

    def look_up(self, path: str) -> None:
        """Fetch the metadata of the roles that a search for a path asks.

        Raises:
            RefusedError, UnavailableError: as ``refresh``.
        """
        with self._errors(path):
            self._updater.get_targetinfo(path)

    def changed(self) -> dict[str, bytes]:
        """Return what the library stored since the last call, by its name in a repository.

        In the order in which it was verified: roots, timestamp, snapshot, other roles.
        """
        changed: dict[str, bytes] = {}
        for path in sorted(self._folder.rglob("*.json"), key=_order):
            name, data = str(path.relative_to(self._folder)), path.read_bytes()
            if path.is_symlink() or self._held.get(name) == data:
                continue
            self._held[name] = data
            signed = Metadata.from_bytes(data).signed
            if signed.type != _TYPES.get(path.name, "root" if _ROOTS in name else "targets"):
                continue  # a delegated role that has a top role's name
            versioned = f"{signed.version}.{path.name}"
            changed[path.name if signed.type in ("root", "timestamp") else versioned] = data
            if signed.type == "snapshot":
                changed[LAST_SNAPSHOT] = data
        return changed

    def _new_updater(self) -> Updater:
        return Updater(
            str(self._folder), _BASE,
            fetcher=self._fetcher, config=self._config, bootstrap=self._pinned,
        )  # fmt: skip

    @contextmanager
    def _errors(self, where: str = "") -> Iterator[None]:
        try:
            yield
        except (RepositoryError, DownloadError, ValueError) as error:
            where = where or self._fetcher.name or "pinned root"
            raise refusal_of(error, where=where, now=self._now) from error
        except OSError as error:
            raise _bad_disk(error) from error


def local_names(held: Iterable[str]) -> dict[str, str]:
    """Return name in the updater's folder → name of the held file that stands there."""
    names = {}
    newest: dict[str, int] = {}
    for name in held:
        number, _, file = name.partition(".")
        if name in (TIMESTAMP, LAST_SNAPSHOT):
            names[name] = name
        elif file == "root.json":
            names[f"{_ROOTS}/{name}"] = name
        elif number.isdecimal() and file not in _TYPES and int(number) > newest.get(file, 0):
            names[file], newest[file] = name, int(number)
    return names


def _order(path: Path) -> tuple[int, int]:
    """Roots by number, then as the library stores them."""
    if path.parent.name == _ROOTS:
        return 0, int(path.name.partition(".")[0])
    top = (TIMESTAMP, LAST_SNAPSHOT, "targets.json")
    return 1, top.index(path.name) if path.name in top else len(top)


def _online_keys(root: Root) -> list[tuple[list[str], int]]:
    return [
        (sorted(root.roles[name].keyids), root.roles[name].threshold)
        for name in ("snapshot", "timestamp")
    ]


def _bad_disk(error: OSError) -> UnavailableError:
    return UnavailableError(
        f"cannot be written: {error.strerror}", where=tempfile.gettempdir(), fix="Free space there."
    )
