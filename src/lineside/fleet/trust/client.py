"""A device's client of the update repository: verified from one pinned root, step by step.

Rules, in the order of TUF's client workflow (The Update Framework, specification 1.0, clause 5).
python-tuf's updater carries out 2 to 8 when it fetches; what is held is verified
again, by the same rules, whenever it is read (``verify``).

1.  5.1  One reference time is fixed for a whole refresh; expiry is judged by it alone. A clock
    that stands before this program was written, or before the last refresh that held, is no time.
2.  5.2, 5.3  Trust begins with the root that was pinned at enrolment, always; roots that were
    verified before are walked again from the disk, newer ones are asked for one by one. Each is
    signed by a threshold of the keys before it and of its own; its number is the next.
3.  5.3.10  The last root must not have expired.
4.  5.3.11  When it names other timestamp or snapshot keys, the timestamp and snapshot kept here
    are forgotten first: what a stolen key numbered too high is no obstacle any more.
5.  5.4  A timestamp is signed by its role, not older than the one kept, names no older snapshot,
    and has not expired. The same one again is fine.
6.  5.5  A snapshot has the length, digest and version that the timestamp says, is signed by its
    role, lists nothing in an older version than the one kept, drops nothing, has not expired.
7.  5.6  Targets and delegated roles have the length, digest and version that the snapshot says,
    are signed by the keys their delegator names, and have not expired.
8.  5.6.7  A target is looked for in the order of delegation; a role that may not sign for a path
    is not asked, a terminating one ends the search, 32 roles are asked at most.
9.  5.7  Of a target no byte is used before all of it has the signed length and SHA-256.
10. Each verified file is kept atomically, under the name it has in the repository, also where the
    refresh fails later: the folder is a mirror of what is believed. What no longer holds is
    fetched anew.
11. Nothing is longer than is known before it is read, nothing takes for ever (``download``).

No byte of an archive is unpacked here, and nothing is taken over the network by this module: where
bytes come from is handed in (``source``). The updater reads the machine's clock where this module
reads the one that is handed in; on a device both are the same.
"""

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lineside.core import (
    Clock,
    ConflictError,
    LinesideError,
    RefusedError,
    UnavailableError,
    decode,
    digest_of,
    encode,
    need,
    parse_rfc3339,
    replace_durably,
    rfc3339,
)
from lineside.fleet.contract import Progress, Target
from lineside.fleet.trust.download import DeltaSource, Source, UpdateLimits, fetch_target
from lineside.fleet.trust.roles import (
    LAST_SNAPSHOT,
    TIMESTAMP,
    Signers,
    check_custom,
    check_path,
    find_target,
)

if TYPE_CHECKING:
    from lineside.fleet.trust.verify import MetadataUpdater, ReadFile, StoredMetadata
import tempfile

from lineside.core import NotFoundError
from lineside.fleet.trust.download import FolderSource

logger = logging.getLogger(__name__)

PINNED = "pinned.json"
_LAST_REFRESH = "seen.json"
_STAMP = "believed.json"
_WRITTEN = datetime(2025, 6, 1, tzinfo=UTC)
_SLACK = timedelta(days=1)
_MOST_BYTES = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _LastRefresh:
    """``lineside.trust-seen/2``: when the last refresh held, and from which root.

    Its own digest stands with it: one changed digit of the year would stop the device for good.
    """

    schema: Literal["lineside.trust-seen/2"] = "lineside.trust-seen/2"
    at: str
    root: int
    digest: str = ""

    @property
    def proper_digest(self) -> str:
        return digest_of(encode({"at": self.at, "root": self.root}))


def pin_root(folder: Path, root: bytes) -> None:
    """Make a root the beginning of trust in a device's folder; the same one again is fine.

    Raises:
        RefusedError: it is no root that is signed by its own keys.
        ConflictError: another one is pinned.
    """
    need("tuf", extra="edge")
    from lineside.fleet.trust.verify import check_root

    check_root(root)
    path = folder / PINNED
    if path.exists() and path.read_bytes() != root:
        raise ConflictError(
            "this device trusts another root",
            where=str(path),
            fix="Enrol it again, with an empty trust folder, if the site has a new repository.",
        )
    replace_durably(path, root)


class UpdateClient:
    """A device's view of the repository, verified before a byte is used; one folder, one thread."""

    def __init__(
        self, folder: Path, *, source: Source, clock: Clock, limits: UpdateLimits | None = None,
        scratch: Path | None = None,
    ) -> None:  # fmt: skip
        """Read nothing yet.

        Args:
            folder: with a pinned root; everything that is believed is kept in it.
            source: where bytes come from.
            clock: what expiry is judged by.
            limits: what a source may cost.
            scratch: for files of a refresh; None: the machine's temporary folder.
        """
        self._folder = folder
        self._metadata = folder / "metadata"
        self._source = source
        self._clock = clock
        self._limits = limits or UpdateLimits()
        self._scratch = scratch
        self._held: StoredMetadata | None = None
        self._updater: MetadataUpdater | None = None

    def refresh(self) -> None:
        """Bring the metadata up to date; what was held before stays where that fails.

        Raises:
            RefusedError: a file does not hold, or no root is pinned.
            UnavailableError: the source is away, or this device has no time.
        """
        need("tuf", extra="edge")
        from lineside.fleet.trust.verify import (
            MetadataFetcher,
            MetadataUpdater,
            check_root,
            follow_roots,
            local_names,
        )

        pinned, now = self._pinned(), self._time()
        root = follow_roots(check_root(pinned, where="pinned root"), self.local)
        local = local_names(path.name for path in self._metadata.glob("*.json"))
        held = {name: self.local(file) or b"" for name, file in local.items()}
        fetcher = MetadataFetcher(
            self._source, root=root.signed, clock=self._clock, limits=self._limits
        )
        updater = MetadataUpdater(
            pinned, held=held, fetcher=fetcher, limits=self._limits, now=now, scratch=self._scratch
        )
        try:
            updater.refresh()
        finally:
            if updater.online_keys_changed:
                # Before the root is kept: a power cut between must not leave them.
                self.forget(TIMESTAMP, LAST_SNAPSHOT)
            self._keep_changed(updater)
        verified = self._verified(self.local, now=now, fetch=partial(self._look_up, updater))
        # Roles asked for before are brought along, so that a start without the hub finds them.
        self._bring(
            updater, [paths for name, paths in verified.delegated.items() if self.knows(name)]
        )
        self._held, self._updater = verified, updater
        self._keep_last_refresh(now, root=verified.root.version)
        self._sweep(verified.names)

    def recall(self) -> None:
        """Verify what was held at the last refresh that ended well, without asking the source.

        For a device that starts while the hub is away: everything is verified again, expiry as of
        that refresh, so that what runs goes on.

        Raises:
            RefusedError: what was kept no longer holds.
            UnavailableError: nothing was kept.
        """
        need("tuf", extra="edge")
        seen = self._last_refresh()
        self._updater = None
        self._held = self._verified(
            lambda name: self.stamp() if name == TIMESTAMP else self.local(name),
            now=parse_rfc3339(seen.at), newest_root=seen.root,
        )  # fmt: skip

    def _verified(
        self,
        read: "ReadFile",
        *,
        now: datetime,
        newest_root: int | None = None,
        fetch: Callable[[str], None] | None = None,
    ) -> "StoredMetadata":
        from lineside.fleet.trust.verify import StoredMetadata, check_root, follow_roots

        first = check_root(self._pinned(), where="pinned root")
        root = follow_roots(first, read, newest=newest_root)
        return StoredMetadata(
            root, read=read, now=now, max_delegations=self._limits.delegations, fetch=fetch
        )

    def target(self, path: str) -> Target:
        """Return what is signed under a path; refreshes first where that was not done yet.

        Raises:
            RefusedError: nothing is, or no role that may sign it did, or its words contradict it.
        """
        check_path(path)
        found = self._current().find(path)
        if found is None:
            raise RefusedError(
                "nothing is signed under this path",
                where=path,
                fix="Approve and publish the package on the hub.",
            )
        if path.startswith("packages/"):
            try:
                check_custom(path, found.custom)
            except LinesideError as error:
                raise RefusedError(error.message, where=path, fix=error.fix) from error
        return found

    def fetch(
        self, target: Target, *, into: Path, progress: Progress, previous: Path | None = None
    ) -> Path:
        """Fetch a target, whole and verified; go on where an earlier fetch of it broke off.

        Args:
            target: what is signed.
            into: folder of the file, which is named after its digest.
            progress: called with the bytes there are.
            previous: an archive whose entries need not be fetched where they are the same.

        Raises:
            RefusedError: length or digest differ; what was fetched is thrown away.
            UnavailableError: broken off; what was fetched stays for the next try.
        """
        if previous is not None:
            source = DeltaSource(self._source, previous=previous, size_bytes=target.size_bytes)
            try:
                return self._fetched(source, target, into=into, progress=progress)
            except RefusedError as error:
                logger.warning("delta did not hold, all is fetched: %s", error)
        return self._fetched(self._source, target, into=into, progress=progress)

    def _fetched(self, source: Source, target: Target, *, into: Path, progress: Progress) -> Path:
        return fetch_target(
            source, target, into=into, progress=progress, clock=self._clock, limits=self._limits
        )

    def targets(self) -> Mapping[str, Target]:
        """Return everything signed, by path; after ``recall`` only of roles that are held.

        Fetches the metadata of every role.
        """
        held = self._current()
        if self._updater is not None:
            self._bring(self._updater, held.delegated.values())
        return held.targets_of(name for name in held.delegated if self.knows(name))

    def find(self, name: str) -> Target:
        """Return the target of a name; see ``find_target``."""
        return self.target(find_target(self.targets().values(), name).path)

    def signers(self, path: str) -> Signers:
        """Return who signed a target.

        Raises:
            RefusedError: nobody did.
        """
        return self._current().signers(self.target(path).path)

    def _current(self) -> "StoredMetadata":
        if self._held is None:
            self.refresh()
        assert self._held is not None  # noqa: S101  refresh sets it or raises
        return self._held

    # ---- the updater's files, taken over

    def _bring(self, updater: "MetadataUpdater", roles: Iterable[tuple[str, ...]]) -> None:
        """Fetch roles by the patterns of their paths: a search for such a path asks them."""
        for pattern in itertools.chain.from_iterable(roles):
            self._look_up(updater, pattern.replace("*", "-").replace("?", "-"))

    def _look_up(self, updater: "MetadataUpdater", path: str) -> None:
        try:
            updater.look_up(path)
        finally:
            self._keep_changed(updater)

    def _keep_changed(self, updater: "MetadataUpdater") -> None:
        for name, data in updater.changed().items():
            if self.local(name) != data:
                self.keep(name, data)

    # ---- held files

    def local(self, name: str) -> bytes | None:
        """Return a held file; None where there is none."""
        try:
            with (self._metadata / name).open("rb") as file:
                return file.read(_MOST_BYTES)
        except OSError:
            return None

    def keep(self, name: str, data: bytes) -> None:
        """Keep a file that was verified."""
        replace_durably(self._metadata / name, data)

    def forget(self, *names: str) -> None:
        """Remove held files; those that are not there are fine."""
        for name in names:
            (self._metadata / name).unlink(missing_ok=True)

    def knows(self, role: str) -> bool:
        """Return whether some version of a role is held."""
        ending = f".{role}.json"
        return any(path.name.endswith(ending) for path in self._metadata.glob("*.json"))

    # ---- time, and the pinned root

    def _pinned(self) -> bytes:
        path = self._folder / PINNED
        try:
            return path.read_bytes()
        except OSError as error:
            raise RefusedError(
                "this device trusts no root yet",
                where=str(path),
                fix="Enrol it, or name the site's root: --root root.json.",
            ) from error

    def _time(self) -> datetime:
        now = self._clock.now()
        floor = max(_WRITTEN, parse_rfc3339(self._last_refresh().at) - _SLACK)
        if now < floor:
            raise UnavailableError(
                f"this device's clock says {now:%Y-%m-%d %H:%M} UTC, and it is at least "
                f"{floor:%Y-%m-%d}: what has expired cannot be told",
                where="clock",
                fix="Set the clock (NTP, or by hand) and try again.",
            )
        return now

    def _last_refresh(self) -> _LastRefresh:
        path, nothing = self._folder / _LAST_REFRESH, _LastRefresh(at=rfc3339(_WRITTEN), root=0)
        try:
            seen = decode(_LastRefresh, path.read_bytes(), where=str(path))
            parse_rfc3339(seen.at, where=str(path))
        except (OSError, LinesideError):
            return nothing
        return seen if seen.digest == seen.proper_digest else nothing

    def _keep_last_refresh(self, now: datetime, *, root: int) -> None:
        """Keep the time and root for ``recall``; the timestamp first, so that both fit together."""
        stamp = self.local(TIMESTAMP)
        assert stamp is not None  # noqa: S101  kept a moment ago
        replace_durably(self._folder / _STAMP, stamp)
        seen = _LastRefresh(at=rfc3339(now), root=root)
        kept = replace(seen, digest=seen.proper_digest)
        replace_durably(self._folder / _LAST_REFRESH, encode(kept))

    def stamp(self) -> bytes | None:
        """Return the timestamp of the last refresh that held."""
        try:
            return (self._folder / _STAMP).read_bytes()
        except OSError:
            return None

    def _sweep(self, names: set[str]) -> None:
        """Forget what is no longer part of what is believed; roots stay."""
        for path in self._metadata.glob("*.json"):
            if path.name not in {LAST_SNAPSHOT, *names} and not path.name.endswith(".root.json"):
                path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedFile:
    """A signed file and its signers."""

    target: Target
    signers: Signers


def find_signed_file(folder: Path, *, sha256: str, clock: Clock) -> SignedFile:
    """Return the target that these bytes are and who signed it.

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
        made = Path(scratch)
        client = UpdateClient(made, source=FolderSource(folder), clock=clock, scratch=made)
        client.refresh()
        return _found(client, sha256, where=str(folder))


def _found(client: UpdateClient, sha256: str, *, where: str) -> SignedFile:
    for path, target in sorted(client.targets().items()):
        if target.sha256 == sha256:
            return SignedFile(target=client.target(path), signers=client.signers(path))
    raise RefusedError(
        "nobody signed this file", where=where, fix="Approve it on the hub, then try again."
    )
