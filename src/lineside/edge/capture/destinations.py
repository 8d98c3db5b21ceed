"""Where batches of captures go: the disk, with a bound, or a place elsewhere.

1. A batch is a manifest ``<stem>.jsonl`` and, beside it, a folder ``<stem>`` with the files it
   names. Files are put first and the manifest last, so a manifest names nothing that is not there.
2. On the disk each file is synced before it gets its name: what was kept survives kill and power
   cut. A folder without its manifest is the rest of a batch that was not finished; it goes at the
   next start.
3. Above ``max_bytes`` the oldest batches go, whole, and their captures are counted.
4. What lies on the disk is uploaded oldest first, then removed. A batch that was uploaded and not
   yet removed is put again under the same names.
"""

import contextlib
import logging
import re
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from lineside.core import Clock, InvalidError, LinesideError, UnavailableError, decode_fast
from lineside.core.worker import Worker
from lineside.edge.counters import Counters
from lineside.store import Place, open_place

logger = logging.getLogger(__name__)

_SUFFIX = ".jsonl"
_STEM = re.compile(r"[0-9]{8}T[0-9]{12}-[0-9a-f]{8}")


def stem_of(taken_at: datetime, capture_id: str) -> str:
    """Of a batch, by when its first capture was taken and that capture's id."""
    return f"{taken_at.astimezone(UTC):%Y%m%dT%H%M%S%f}-{capture_id[:8].lower()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Files of one flush into one folder.

    Attributes:
        folder: relative, ``fleet/model/YYYY/MM/DD/HH``.
        stem: of the manifest's name; later batches sort behind earlier ones.
        files: beside the manifest, by their names.
    """

    folder: str
    stem: str
    lines: tuple[bytes, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def manifest(self) -> bytes:
        """The manifest's bytes."""
        return b"".join(line + b"\n" for line in self.lines)

    @property
    def size_bytes(self) -> int:
        """Of manifest and files."""
        return sum(len(line) + 1 for line in self.lines) + sum(map(len, self.files.values()))


class CaptureDestination(Protocol):
    """Where batches are kept."""

    def address(self, name: str) -> str:
        """Address of a file in a record, by its path below the destination."""
        ...

    def keep(self, batch: Batch) -> None:
        """Keep a batch; it is safe when this returns.

        Raises:
            UnavailableError: try again.
            InvalidError, RefusedError, NotFoundError: it will not work.
        """
        ...


class RemoteCaptures:
    """Batches put straight to a place, such as a bucket."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def address(self, name: str) -> str:
        return self._place.address(name)

    def keep(self, batch: Batch) -> None:
        put_batch(batch, place=self._place)


def put_batch(batch: Batch, *, place: Place) -> None:
    """Files first, the manifest last."""
    for name, data in batch.files.items():
        place.put(f"{batch.folder}/{batch.stem}/{name}", data)
    place.put(f"{batch.folder}/{batch.stem}{_SUFFIX}", batch.manifest)


class DiskCaptures:
    """Batches in a folder of bounded size; safe from several threads."""

    def __init__(
        self, root: Path, *, max_bytes: int, told: Callable[[int], None] = lambda _: None
    ) -> None:
        """Find what is there; folders without a manifest are removed.

        Args:
            root: made when absent.
            max_bytes: of all batches together.
            told: of how many captures were dropped, each time.

        Raises:
            UnavailableError: the folder cannot be read or written.
        """
        self._root = root
        self._max_bytes = max_bytes
        self._told = told
        self._lock = threading.Lock()
        self.dropped = 0
        try:
            root.mkdir(parents=True, exist_ok=True)
            _clear_unfinished(root)
            found = sorted(root.rglob(f"*{_SUFFIX}"), key=lambda path: path.name)
            self._there = deque((path, _size(path)) for path in found)
        except OSError as error:
            raise UnavailableError(
                f"cannot be used: {error.strerror}", where=str(root), fix="Allow writing there."
            ) from error
        self._held_bytes = sum(size for _, size in self._there)

    def address(self, name: str) -> str:
        return f"file://{self._root / name}"

    def keep(self, batch: Batch) -> None:
        with self._lock:
            self._make_room(batch.size_bytes)
            put_batch(batch, place=open_place(f"file://{self._root}"))
            self._there.append((self._manifest(batch), batch.size_bytes))
            self._held_bytes += batch.size_bytes

    @property
    def held_bytes(self) -> int:
        """Of all batches."""
        return self._held_bytes

    def newest_ids(self, most: int) -> list[str]:
        """Ids of the captures kept last, newest first."""
        found: list[str] = []
        for path, _ in reversed(tuple(self._there)):
            found += reversed([name for name in _ids(path) if name])
            if len(found) >= most:
                break
        return found[:most]

    def upload_oldest(self, place: Place) -> bool:
        """Put the oldest batch to a place and remove it here; False when there is none.

        Raises:
            as ``Place.put``.
        """
        with self._lock:
            if not self._there:
                return False
            path, size = self._there[0]
        try:
            self._put(path, place)
        except FileNotFoundError:
            return True  # dropped meanwhile
        with self._lock:
            if self._there and self._there[0][0] == path:
                self._there.popleft()
                self._remove(path, size)
        return True

    def _put(self, path: Path, place: Place) -> None:
        beside = path.with_suffix("")
        for each in sorted(beside.iterdir()) if beside.is_dir() else ():
            place.put(str(each.relative_to(self._root)), each.read_bytes())
        place.put(str(path.relative_to(self._root)), path.read_bytes())

    def _make_room(self, size: int) -> None:
        if size > self._max_bytes:
            raise InvalidError(
                f"{size} bytes at once, at most {self._max_bytes} are kept",
                where="max_bytes",
                fix="Allow more, or write smaller batches.",
            )
        while self._there and self._held_bytes + size > self._max_bytes:
            path, gone = self._there.popleft()
            count = sum(1 for _ in _ids(path))
            self.dropped += count
            self._told(count)
            self._remove(path, gone)
            logger.debug("captures dropped for lack of room batch=%s", path.name)

    def _remove(self, path: Path, size: int) -> None:
        """The manifest first: without it the files are nothing."""
        with contextlib.suppress(OSError):
            path.unlink()
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        self._held_bytes -= size
        for parent in path.parents:
            if parent == self._root:
                break
            try:
                parent.rmdir()
            except OSError:
                break  # not empty

    def _manifest(self, batch: Batch) -> Path:
        return self._root / batch.folder / f"{batch.stem}{_SUFFIX}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    eventId: str = ""  # noqa: N815  the record's own word


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    eventMetadata: _Event = field(default_factory=_Event)  # noqa: N815  likewise


def _ids(path: Path) -> Iterable[str]:
    """The capture ids of a manifest; "" for a line that cannot be read."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        for line in file:
            yield _id(line)


def _id(line: bytes) -> str:
    try:
        return decode_fast(_Line, line, where="captures").eventMetadata.eventId
    except InvalidError:
        return ""


def _size(path: Path) -> int:
    beside = path.with_suffix("")
    files: Iterator[Path] = beside.iterdir() if beside.is_dir() else iter(())
    return path.stat().st_size + sum(each.stat().st_size for each in files)


def _clear_unfinished(root: Path) -> None:
    for passing in root.rglob(".*.new"):
        passing.unlink()
    for folder in sorted(path for path in root.rglob("*T*-*") if path.is_dir()):
        finished = folder.with_name(folder.name + _SUFFIX).exists()
        if _STEM.fullmatch(folder.name) and not finished:
            shutil.rmtree(folder)


_PLACE = "upload of captures"
_LONGEST_REST_S = 60.0


class CaptureUploader:
    """Started and closed by whoever made it."""

    def __init__(
        self, disk: DiskCaptures, *, place: Place, period_s: float, clock: Clock, counters: Counters
    ) -> None:
        self._disk = disk
        self._place = place
        self._period_s = period_s
        self._clock = clock
        self._counters = counters
        self._began_s = clock.monotonic()
        self._worker = Worker("capture-upload", self._turn)
        self._stop = self._worker.stopping

    def start(self) -> None:
        """Begin; what lies there goes first."""
        self._began_s -= self._period_s
        self._worker.start()

    def tick(self) -> None:
        """Look at the clock again, as after it was moved by hand."""
        self._worker.wake()

    def close(self) -> None:
        """End; a batch under way is finished first, the rest stays on the disk."""
        self._worker.stop()

    def _turn(self) -> float:
        if self._rest_s() <= 0:
            self._began_s = self._clock.monotonic()
            self._upload()
        return min(self._rest_s(), _LONGEST_REST_S)

    def _rest_s(self) -> float:
        return max(0.0, self._period_s - (self._clock.monotonic() - self._began_s))

    def _upload(self) -> None:
        try:
            while not self._stop.is_set() and self._disk.upload_oldest(self._place):
                pass
            self._counters.mended(_PLACE)
        except LinesideError as error:
            if self._counters.fault(_PLACE, error):
                logger.warning("captures stay on the disk: %s", error)
        except Exception as error:  # boundary: the thread goes on
            logger.exception("upload of captures failed")
            self._counters.fault(_PLACE, error)
