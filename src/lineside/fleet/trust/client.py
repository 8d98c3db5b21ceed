"""What a device believes of the update repository: verified from one pinned root, step by step.

Rules, in the order of TUF's client workflow (The Update Framework, specification 1.0, clause 5):

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
10. Each file is kept as soon as it is verified, atomically, under the name it has in the
    repository: the folder is a mirror of what is believed. What is kept is verified again each
    time; what no longer holds is fetched anew.
11. Nothing is longer than is known before it is read, nothing takes for ever (``download``).

No byte of an archive is unpacked here, and nothing is taken over the network by this module: where
bytes come from is handed in (``source``).
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lineside.core import (
    Clock,
    ConflictError,
    LinesideError,
    NotFoundError,
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
from lineside.fleet.trust.delta import DeltaSource
from lineside.fleet.trust.download import UpdateLimits, fetch_target, read_metadata
from lineside.fleet.trust.files import TIMESTAMP
from lineside.fleet.trust.roles import check_custom, check_path
from lineside.fleet.trust.source import Source

if TYPE_CHECKING:
    from lineside.fleet.trust.verify import Believed

logger = logging.getLogger(__name__)

PINNED = "pinned.json"
_SEEN = "seen.json"
_STAMP = "believed.json"
_WRITTEN = datetime(2025, 6, 1, tzinfo=UTC)
_SLACK = timedelta(days=1)
_MOST_BYTES = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Signers:
    """Who signed a target: the role, its keys that did, and how many had to."""

    role: str
    keys: tuple[str, ...]
    threshold: int


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
    """A device's view of the repository (``fleet.Updates``); one folder, one thread."""

    def __init__(
        self, folder: Path, *, source: Source, clock: Clock, limits: UpdateLimits | None = None
    ) -> None:
        """Read nothing yet.

        Args:
            folder: with a pinned root; everything that is believed is kept in it.
            source: where bytes come from.
            clock: what expiry is judged by.
            limits: what a source may cost.
        """
        self._folder = folder
        self._metadata = folder / "metadata"
        self._source = source
        self._clock = clock
        self._limits = limits or UpdateLimits()
        self._believed: Believed | None = None
        self._recalled = False

    def refresh(self) -> None:
        """Bring the metadata up to date; what was believed before stays where that fails."""
        need("tuf", extra="edge")
        from lineside.fleet.trust.verify import Believed

        now = self._time()
        self._believed = _walked(Believed(self._pinned(), files=self, now=now, limits=self._limits))
        self._recalled = False
        self._keep_seen(now)
        self._sweep()

    def recall(self) -> None:
        """Believe what was believed at the last refresh that held, without asking the source.

        For a device that starts while the hub is away: everything is verified again, expiry as of
        that refresh, so that what runs goes on.

        Raises:
            RefusedError: what was kept no longer holds.
            UnavailableError: nothing was kept.
        """
        need("tuf", extra="edge")
        from lineside.fleet.trust.verify import Believed

        seen = self._seen()
        self._recalled = True
        files, now = _Kept(self, root=seen.root), parse_rfc3339(seen.at)
        self._believed = _walked(
            Believed(self._pinned(), files=files, now=now, limits=self._limits)
        )

    def target(self, path: str) -> Target:
        """What is signed under a path; refreshes first where that was not done yet.

        Raises:
            RefusedError: nothing is, or no role that may sign it did, or its words contradict it.
        """
        from lineside.fleet.trust.verify import sentences

        check_path(path)
        believed = self._current()
        with sentences(path, believed.now):
            found = believed.find(path)
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
        """The file in the folder ``into``, named after its digest."""
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
        """Everything signed, by path; after ``recall`` what the roles sign that were asked before.

        Fetches the metadata of every role.
        """
        from lineside.fleet.trust.verify import sentences

        believed = self._current()
        with sentences("targets", believed.now):
            roles = [
                name for name in believed.delegated() if not self._recalled or self.knows(name)
            ]
            return believed.everything(roles)

    def signers(self, path: str) -> Signers:
        """Who signed a target.

        Raises:
            RefusedError: nobody did.
        """
        target = self.target(path)
        role, keys, threshold = self._current().signers(target.path)
        return Signers(role=role, keys=keys, threshold=threshold)

    def _current(self) -> "Believed":
        if self._believed is None:
            self.refresh()
        assert self._believed is not None  # noqa: S101  refresh sets it or raises
        return self._believed

    # ---- what ``Believed`` reads and writes through

    def local(self, name: str) -> bytes | None:
        """A file that was kept; None where there is none that could be one."""
        try:
            with (self._metadata / name).open("rb") as file:
                return file.read(_MOST_BYTES)
        except OSError:
            return None

    def remote(self, name: str, *, most_bytes: int) -> bytes:
        """A file of the source; ``NotFoundError`` if it has none."""
        return read_metadata(
            self._source, name, most_bytes=most_bytes, clock=self._clock, limits=self._limits
        )

    def keep(self, name: str, data: bytes) -> None:
        """Keep a file that was verified."""
        replace_durably(self._metadata / name, data)

    def forget(self, *names: str) -> None:
        """Keep files no more; those that are not there are fine."""
        for name in names:
            (self._metadata / name).unlink(missing_ok=True)

    def knows(self, role: str) -> bool:
        """Whether some version of a role was kept."""
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
        floor = max(_WRITTEN, parse_rfc3339(self._seen().at) - _SLACK)
        if now < floor:
            raise UnavailableError(
                f"this device's clock says {now:%Y-%m-%d %H:%M} UTC, and it is at least "
                f"{floor:%Y-%m-%d}: what has expired cannot be told",
                where="clock",
                fix="Set the clock (NTP, or by hand) and try again.",
            )
        return now

    def _seen(self) -> _Seen:
        path, nothing = self._folder / _SEEN, _Seen(at=rfc3339(_WRITTEN), root=0)
        try:
            seen = decode(_Seen, path.read_bytes(), where=str(path))
            parse_rfc3339(seen.at, where=str(path))
        except (OSError, LinesideError):
            return nothing
        return seen if seen.digest == seen.proper_digest else nothing

    def _keep_seen(self, now: datetime) -> None:
        """What ``recall`` begins with; the timestamp first, so that both fit after a power cut."""
        stamp = self.local(TIMESTAMP)
        assert stamp is not None  # noqa: S101  kept a moment ago
        replace_durably(self._folder / _STAMP, stamp)
        seen = _Seen(at=rfc3339(now), root=self._current().root_version)
        kept = replace(seen, digest=seen.proper_digest)
        replace_durably(self._folder / _SEEN, encode(kept))

    def stamp(self) -> bytes | None:
        """The timestamp of the last refresh that held."""
        try:
            return (self._folder / _STAMP).read_bytes()
        except OSError:
            return None

    def _sweep(self) -> None:
        """Forget what is no longer part of what is believed; roots stay."""
        keep = self._current().names()
        for path in self._metadata.glob("*.json"):
            if path.name not in keep and not path.name.endswith(".root.json"):
                path.unlink(missing_ok=True)


class _Kept:
    """What a device believed at its last refresh, as if it were the source's."""

    def __init__(self, client: UpdateClient, *, root: int) -> None:
        self._client = client
        self._root = root

    def local(self, name: str) -> bytes | None:
        """Roots up to the one of that refresh, and its timestamp; the rest is asked for."""
        number, _, rest = name.partition(".")
        if rest == "root.json":
            return self._client.local(name) if int(number) <= self._root else None
        return self._client.stamp() if name == TIMESTAMP else None

    def remote(self, name: str, *, most_bytes: int) -> bytes:
        """Kept files once more."""
        data = self._client.stamp() if name == TIMESTAMP else self._client.local(name)
        if data is None or len(data) > most_bytes or name.endswith(".root.json"):
            raise NotFoundError("not kept", where=name)
        return data

    def keep(self, name: str, data: bytes) -> None:
        """They are."""

    def forget(self, *names: str) -> None:
        """Nothing new is followed."""

    def knows(self, role: str) -> bool:
        """They are asked for when they are needed."""
        del role
        return False


def _walked(believed: "Believed") -> "Believed":
    believed.follow_roots()
    believed.take_timestamp()
    believed.take_snapshot()
    believed.take_targets()
    return believed
