"""Metadata fetched and verified by python-tuf's updater, in a folder of its own.

1. The updater begins with the pinned root, always, and fetches through ``MetadataFetcher``: from a
   ``Source``, under the limits of ``download``.
2. It works on a copy of what the device holds. Whether a refresh ends well or not, only files that
   the library verified and stored are taken over (``changed``).
3. Where a new root names other timestamp or snapshot keys, timestamp and snapshot are forgotten
   and the refresh begins again (TUF 5.3.11); the library does so only where both keys change.
"""

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, Root
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from lineside.core import Clock, NotFoundError, RefusedError, UnavailableError
from lineside.fleet.trust.download import Source, UpdateLimits, read_metadata
from lineside.fleet.trust.files import LAST_SNAPSHOT, TIMESTAMP
from lineside.fleet.trust.verify import check_role_file, refusal_of

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
    ) -> None:
        """Copy what is held into a new folder, which goes with this object.

        Args:
            pinned: the root where trust begins.
            held: name in the updater's folder → bytes; see ``local_name``.
            fetcher: where new files come from.
            limits: what a source may cost.
            now: for messages; the library judges expiry by the machine's clock.

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
            self._folder = Path(tempfile.mkdtemp(prefix="lineside-trust-"))
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
