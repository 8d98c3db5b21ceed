"""The steps of a refresh over python-tuf's set of trusted metadata; rules stand in ``client``."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol, cast

from tuf.api.exceptions import (
    BadVersionNumberError,
    EqualVersionNumberError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, MetaFile, Root, TargetFile, Targets

# The updater around it opens connections, keeps files and reads the clock by itself.
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from lineside.core import NotFoundError, RefusedError, UnavailableError
from lineside.fleet.contract import Target
from lineside.fleet.trust.download import UpdateLimits
from lineside.fleet.trust.files import NAME, TIMESTAMP
from lineside.fleet.trust.state import target_of

logger = logging.getLogger(__name__)

LAST_SNAPSHOT = "snapshot.json"
"""The snapshot believed last, whatever its number: what guards against older ones."""


class Files(Protocol):
    """Metadata on the device's disk and at the source."""

    def local(self, name: str) -> bytes | None:
        """A file that was kept; None where there is none."""
        ...

    def remote(self, name: str, *, most_bytes: int) -> bytes:
        """A file of the source; ``NotFoundError`` if it has none."""
        ...

    def keep(self, name: str, data: bytes) -> None:
        """Keep what was verified."""
        ...

    def forget(self, *names: str) -> None:
        """Keep files no more."""
        ...

    def knows(self, role: str) -> bool:
        """Whether some version of a role was kept."""
        ...


class Believed:
    """Metadata that were verified at one moment.

    Methods are called in the order in which they stand here.
    """

    def __init__(self, pinned: bytes, *, files: Files, now: datetime, limits: UpdateLimits) -> None:
        """Begin with the pinned root.

        Raises:
            RefusedError: it is none.
        """
        self.now = now
        self._files = files
        self._limits = limits
        with sentences("pinned root", now):
            self._set = TrustedMetadataSet(pinned, EnvelopeType.METADATA)
        self._set.reference_time = now

    def follow_roots(self) -> None:
        """From the pinned root to the newest (5.3)."""
        first = self._set.root.version + 1
        for number in range(first, first + self._limits.roots):
            name = f"{number}.root.json"
            if self._take_kept_root(self._files.local(name)):
                continue
            try:
                data = self._files.remote(name, most_bytes=self._limits.root_bytes)
            except NotFoundError:
                return
            before = self._set.root
            with sentences(name, self.now):
                self._set.update_root(data)
            if _online_keys(before) != _online_keys(self._set.root):
                # 5.3.11, before the root is kept: a power cut between must not leave them.
                self._files.forget(TIMESTAMP, LAST_SNAPSHOT)
            self._files.keep(name, data)
            logger.info("root followed version=%d", number)
        raise RefusedError(
            f"more than {self._limits.roots} new roots", where="root", fix="Enrol the device again."
        )

    def _take_kept_root(self, data: bytes | None) -> bool:
        if data is None:
            return False
        try:
            self._set.update_root(data)
        except (RepositoryError, ValueError):
            logger.warning("a root that was kept does not hold, fetching it again")
            return False
        return True

    def take_timestamp(self) -> None:
        """The newest timestamp (5.4)."""
        kept = self._files.local(TIMESTAMP)
        if kept is not None:
            self._try(lambda: self._set.update_timestamp(kept))
        data = self._remote(TIMESTAMP, most_bytes=self._limits.timestamp_bytes)
        with sentences(TIMESTAMP, self.now):
            try:
                self._set.update_timestamp(data)
            except EqualVersionNumberError:
                # 5.4.3.1; whether the kept one is too old is asked when the snapshot is taken.
                return
        self._files.keep(TIMESTAMP, data)

    def take_snapshot(self) -> None:
        """The snapshot the timestamp names (5.5); the one kept guards against older ones."""
        kept = self._files.local(LAST_SNAPSHOT)
        listed = self._set.timestamp.snapshot_meta
        name = f"{listed.version}.snapshot.json"
        if kept is not None and self._try(lambda: self._set.update_snapshot(kept, trusted=True)):
            if self._files.local(name) != kept:
                self._files.keep(name, kept)
            return
        data = self._remote(name, most_bytes=listed.length or self._limits.snapshot_bytes)
        with sentences(name, self.now):
            self._set.update_snapshot(data)
        self._files.keep(name, data)
        self._files.keep(LAST_SNAPSHOT, data)

    def take_targets(self) -> None:
        """The targets the snapshot lists (5.6)."""
        with sentences("targets.json", self.now):
            self._take_role("targets", "root")
            # Roles asked for before are brought along, so that a start without the hub finds them.
            for name in self.delegated():
                if self._files.knows(name):
                    self._take_role(name, "targets")

    # ---- looking things up

    def find(self, path: str) -> Target | None:
        """What is signed under a path (5.6.7)."""
        found = self._walk(path)
        return target_of(found[2]) if found else None

    def everything(self, roles: Iterable[str]) -> Mapping[str, Target]:
        """Every target of some roles, as a search would find it."""
        found: dict[str, Target] = {}
        for name in roles:
            for path in self._take_role(name, "targets").targets:
                target = self.find(path)
                if target is not None:
                    found[path] = target
        return found

    def signers(self, path: str) -> tuple[str, tuple[str, ...], int]:
        """Role, keys that signed, threshold; only of a path that ``find`` found."""
        found = self._walk(path)
        assert found is not None  # noqa: S101  the caller asked before
        role, parent, _ = found
        delegator = cast("Root | Targets", self._set[parent])
        name = self._name_of(role)
        raw = self._files.local(name) or self._remote(name, most_bytes=self._limits.targets_bytes)
        with sentences(role, self.now):
            read = Metadata[Targets].from_bytes(raw)
            result = delegator.get_verification_result(role, read.signed_bytes, read.signatures)
        return role, tuple(sorted(result.signed)), result.threshold

    @property
    def root_version(self) -> int:
        """Number of the root that all of it hangs from."""
        return self._set.root.version

    def names(self) -> set[str]:
        """Files that belong to what is believed, beside the roots."""
        listed = {f"{meta.version}.{name}" for name, meta in self._set.snapshot.meta.items()}
        return {TIMESTAMP, LAST_SNAPSHOT, f"{self._set.snapshot.version}.snapshot.json", *listed}

    def _walk(self, path: str) -> tuple[str, str, TargetFile] | None:
        """Depth first, in order of delegation; the first role that has it speaks."""
        waiting = [("targets", "root")]
        asked: set[str] = set()
        while waiting and len(asked) < self._limits.delegations:
            role, parent = waiting.pop()
            if role in asked:
                continue
            asked.add(role)
            targets = self._take_role(role, parent)
            if path in targets.targets:
                return role, parent, targets.targets[path]
            if targets.delegations is None:
                continue
            below = []
            for name, terminating in targets.delegations.get_roles_for_target(path):
                below.append((name, role))
                if terminating:
                    waiting = []
                    break
            waiting += reversed(below)
        return None

    def _take_role(self, role: str, parent: str) -> Targets:
        if self._set.contains(role, parent):
            return cast("Targets", self._set[role])
        name = self._name_of(role)
        kept = self._files.local(name)
        if kept is not None and self._try(
            lambda: self._set.update_delegated_targets(kept, role, parent)
        ):
            return cast("Targets", self._set[role])
        most = self._listed(role).length or self._limits.targets_bytes
        data = self._remote(name, most_bytes=most)
        found = self._set.update_delegated_targets(data, role, parent)
        self._files.keep(name, data)
        return found

    def delegated(self) -> list[str]:
        """Roles of groups of devices."""
        delegations = self._set.targets.delegations
        return list(delegations.roles or {}) if delegations else []

    def _name_of(self, role: str) -> str:
        name = f"{self._listed(role).version}.{role}.json"
        if not NAME.fullmatch(name):  # it becomes a file's name here
            raise RefusedError(
                f"{role[:80]!r} is no name of a role", where="targets", fix="Name it plainly."
            )
        return name

    def _listed(self, role: str) -> MetaFile:
        listed = self._set.snapshot.meta.get(f"{role}.json")
        if listed is None:
            raise RefusedError(
                "delegated, but no part of the snapshot", where=role, fix="Publish again."
            )
        return listed

    def _remote(self, name: str, *, most_bytes: int) -> bytes:
        try:
            return self._files.remote(name, most_bytes=most_bytes)
        except NotFoundError as error:
            raise UnavailableError(
                "the repository does not have it", where=name, fix="Ask again in a while."
            ) from error

    def _try(self, load: Callable[[], object]) -> bool:
        """Load what was kept; what no longer holds, or is not the newest, is fetched instead."""
        try:
            load()
        except (RepositoryError, ValueError) as error:
            logger.debug("what was kept is not final: %s", error)
            return False
        return True


def check_root(data: bytes) -> None:
    """Refuse what is no root signed by its own keys."""
    with sentences("root", None):
        TrustedMetadataSet(data, EnvelopeType.METADATA)


@contextmanager
def sentences(where: str, now: datetime | None) -> Iterator[None]:
    """The library's errors as refusals."""
    try:
        yield
    except ExpiredMetadataError as error:
        raise RefusedError(
            f"{error}; the clock says {now:%Y-%m-%d %H:%M} UTC",
            where=where,
            fix="Start the hub, or run lineside trust renew there; check the clock.",
        ) from error
    except UnsignedMetadataError as error:
        raise RefusedError(
            f"not signed as it must be: {error}",
            where=where,
            fix="Look who changed the repository; rotate a key that may be stolen.",
        ) from error
    except BadVersionNumberError as error:
        raise RefusedError(
            f"not the version it must be: {error}",
            where=where,
            fix="Look who serves old metadata; restore the newest.",
        ) from error
    except LengthOrHashMismatchError as error:
        raise RefusedError(
            f"not the bytes that are signed: {error}",
            where=where,
            fix="Fetch again; if it stays so, look after the repository.",
        ) from error
    except (RepositoryError, ValueError) as error:
        raise RefusedError(
            f"no metadata that can be believed: {error}",
            where=where,
            fix="Look after the repository.",
        ) from error


def _online_keys(root: Root) -> list[tuple[list[str], int]]:
    return [
        (sorted(root.roles[name].keyids), root.roles[name].threshold)
        for name in ("snapshot", "timestamp")
    ]
