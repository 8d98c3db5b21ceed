"""Captures: taken at once, written by a thread in batches, their fate told on request.

1. At most ``buffer_size`` captures and ``_MOST_BYTES`` wait; what comes beyond is refused, nothing
   that was taken is dropped.
2. A batch is written when ``batch_size`` wait, or what is there when ``push_period_s`` has passed
   since the last one, or since the oldest of them came.
3. SUCCESS is said when the batch is safe at its place: a kill after that loses nothing. While the
   place is away a capture stays IN_PROGRESS and is tried again; FAILURE is said of what will not
   work.
4. The fate of the last captures is remembered, over a restart for those on the disk.

Sampling of the device's own decisions for capture, and the captures made of them.

1. ``all``; ``every:N``: the first and each N-th of an inspection; ``unsure``: those with an unsure
   answer; ``drift``: from the moment a figure of the inspection leaves what was usual, the next
   ``DRIFT_PICTURES`` ones (the alarm itself is ``lineside.streams.feed_drift``'s).
2. A capture's id follows from frame, inspection and package: the same decision is one capture.
3. What was said stands as JSON beside the picture, with the words that others' records use
   (``Inference result``, ``Confidence``, ``Anomaly_score``) and the whole prediction.

Where batches of captures go: the disk, with a bound, or a place elsewhere.

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
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from lineside.compat.aws.edge_agent import Auxiliary, Capture, CaptureStatus, Encoding
from lineside.core import (
    Clock,
    ConflictError,
    InvalidError,
    LinesideError,
    NotFoundError,
    UnavailableError,
    decode_fast,
    encode,
    short,
    to_plain,
)
from lineside.core.worker import Worker
from lineside.edge.capture.record import written
from lineside.edge.config import CaptureConfig
from lineside.edge.messages import Counters
from lineside.edge.packages import FullError
from lineside.store import Place, open_place
from lineside.streams import prediction_id
from lineside.streams.drift import DriftState, feed_drift, is_unsure
from lineside.vision import Frame, Prediction

_SUFFIX = ".jsonl"
_STEM = re.compile(r"[0-9]{8}T[0-9]{12}-[0-9a-f]{8}")


def stem_of(captured_at: datetime, capture_id: str) -> str:
    """Of a batch, by when its first capture was taken and that capture's id."""
    return f"{captured_at.astimezone(UTC):%Y%m%dT%H%M%S%f}-{capture_id[:8].lower()}"


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
        self, root: Path, *, max_bytes: int, notify: Callable[[int], None] = lambda _: None
    ) -> None:
        """Find what is there; folders without a manifest are removed.

        Args:
            root: made when absent.
            max_bytes: of all batches together.
            notify: called with how many captures were dropped, each time.

        Raises:
            UnavailableError: the folder cannot be read or written.
        """
        self._root = root
        self._max_bytes = max_bytes
        self._told = notify
        self._lock = threading.Lock()
        self.dropped = 0
        try:
            root.mkdir(parents=True, exist_ok=True)
            _clear_unfinished(root)
            found = sorted(root.rglob(f"*{_SUFFIX}"), key=lambda path: path.name)
            self._there = deque((path, _size_on_disk(path)) for path in found)
        except OSError as error:
            raise UnavailableError(
                f"cannot be used: {error.strerror}", where=str(root), fix="Allow writing there."
            ) from error
        self._held_bytes = sum(size for _, size in self._there)

    def address(self, name: str) -> str:
        return f"file://{self._root / name}"

    def keep(self, batch: Batch) -> None:
        with self._lock:
            self._free_space(batch.size_bytes)
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

    def _free_space(self, size: int) -> None:
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


def _size_on_disk(path: Path) -> int:
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


_UPLOAD = "upload of captures"


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
            self._counters.mended(_UPLOAD)
        except LinesideError as error:
            if self._counters.fault(_UPLOAD, error):
                logger.warning("captures stay on the disk: %s", error)
        except Exception as error:  # boundary: the thread goes on
            logger.exception("upload of captures failed")
            self._counters.fault(_UPLOAD, error)


logger = logging.getLogger(__name__)

_REMEMBERED = 10_000
_MOST_BYTES = 64_000_000
_LONGEST_REST_S = 60.0
_PLACE = "captures"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    capture: Capture
    at: datetime
    accepted_at: datetime
    accepted_s: float
    size_bytes: int


class Capturer:
    """Started and closed by whoever made it; safe from several threads."""

    def __init__(
        self,
        config: CaptureConfig,
        *,
        device: str,
        place: CaptureDestination,
        clock: Clock,
        counters: Counters,
        known: Iterable[str] = (),
    ) -> None:
        """Nothing waits yet.

        Args:
            config: sizes and periods.
            device: as the records name it.
            place: where batches are kept.
            clock: of times and periods.
            counters: told of what fails.
            known: ids of captures that are kept already, newest first.
        """
        self._config = config
        self._device = device
        self._place = place
        self._clock = clock
        self._counters = counters
        self._waiting: deque[_Waiting] = deque()
        self._held_bytes = 0
        self._fates: OrderedDict[str, CaptureStatus] = OrderedDict(
            (_key(each), CaptureStatus.SUCCESS) for each in reversed(tuple(known))
        )
        self._pushed_s = clock.monotonic()
        self._changed = threading.Condition()
        self._worker = Worker("capture", self._turn, at_end=self._finish, report=self._note)
        self._stop = self._worker.stopping

    def start(self) -> None:
        """Begin to write."""
        self._worker.start()

    def offer(self, capture: Capture) -> None:
        """Take a capture that is well formed; returns at once.

        Raises:
            ConflictError: its id was seen.
            FullError: too many wait.
        """
        key, size = _key(capture.capture_id), _size(capture)
        now = self._clock.now()
        taken = _Waiting(
            capture=capture,
            at=capture.inferred_at or now,
            accepted_at=now,
            accepted_s=self._clock.monotonic(),
            size_bytes=size,
        )
        with self._changed:
            if key in self._fates:
                raise ConflictError(
                    f"{capture.capture_id} was captured already",
                    where="capture_id",
                    fix="Take an id of its own for each capture.",
                )
            self._check_space(size)
            self._waiting.append(taken)
            self._held_bytes += size
            self._remember(key, CaptureStatus.IN_PROGRESS)
            self._changed.notify_all()

    def status(self, capture_id: str) -> CaptureStatus:
        """State of a capture; ``NotFoundError`` of one that is not remembered."""
        with self._changed:
            fate = self._fates.get(_key(capture_id))
        if fate is None:
            raise NotFoundError(
                f"no capture {capture_id[:60]!r}",
                where="capture_id",
                fix=f"The last {_REMEMBERED} are remembered.",
            )
        return fate

    @property
    def waiting(self) -> int:
        """Captures taken and not yet written."""
        return len(self._waiting)

    def tick(self) -> None:
        """Look at the clock again, as after it was moved by hand."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Write what waits, once, and end."""
        self._worker.request_stop()
        self.tick()
        self._worker.join()

    def _check_space(self, size: int) -> None:
        if len(self._waiting) >= self._config.buffer_size:
            raise FullError(
                f"{len(self._waiting)} captures wait to be written",
                where="buffer_size",
                fix="Capture less often, or allow more.",
            )
        if self._waiting and self._held_bytes + size > _MOST_BYTES:
            raise FullError(
                f"{self._held_bytes} bytes wait to be written",
                where="captures",
                fix="Capture less often, or smaller tensors.",
            )

    def _remember(self, key: str, fate: CaptureStatus) -> None:
        self._fates[key] = fate
        self._fates.move_to_end(key)
        while len(self._fates) > _REMEMBERED + self._config.buffer_size:
            self._fates.popitem(last=False)

    def _turn(self) -> None:
        with self._changed:
            due = self._changed.wait_for(self._is_due, timeout=self._rest_s())
        if due and not self._stop.is_set():
            self._flush()

    def _finish(self) -> None:
        """Write what waits, until the disk refuses it."""
        try:
            while self._waiting:
                self._flush()
        except LinesideError as error:
            self._note(error)

    def _is_due(self) -> bool:
        if self._stop.is_set() or len(self._waiting) >= self._config.batch_size:
            return True
        return bool(self._waiting) and self._rest_s() <= 0

    def _rest_s(self) -> float:
        if not self._waiting:
            return _LONGEST_REST_S
        since_s = max(self._pushed_s, self._waiting[0].accepted_s)
        return max(0.0, self._config.push_period_s - (self._clock.monotonic() - since_s))

    def _flush(self) -> None:
        """Write a batch.

        Raises:
            UnavailableError: it is to be tried again.
        """
        most = min(len(self._waiting), self._config.batch_size)
        taken = [self._waiting[place] for place in range(most)]
        for group in _groups(taken):
            try:
                self._keep(group)
            except UnavailableError:
                raise
            except LinesideError as error:
                self._note(error)
                self._settle(group, CaptureStatus.FAILURE)
            except Exception as error:  # boundary: one capture must not end the thread
                logger.exception("capture failed")
                self._counters.fault(_PLACE, error)
                self._settle(group, CaptureStatus.FAILURE)
            else:
                self._counters.mended(_PLACE)
                self._settle(group, CaptureStatus.SUCCESS)
        self._pushed_s = self._clock.monotonic()

    def _keep(self, group: list[_Waiting]) -> None:
        folder = self._folder(group[0])
        # Tried again, the batch has the same names, so that nothing stays twice.
        stem = stem_of(group[0].accepted_at, group[0].capture.capture_id)
        records = [
            written(
                each.capture,
                fleet=self._config.fleet,
                device=self._device,
                at=each.at,
                embed_max_bytes=self._config.embed_max_bytes,
                address=lambda name: self._place.address(f"{folder}/{stem}/{name}"),
            )
            for each in group
        ]
        batch = Batch(
            folder=folder,
            stem=stem,
            lines=tuple(line for line, _ in records),
            files={name: data for _, files in records for name, data in files.items()},
        )
        self._place.keep(batch)

    def _folder(self, first: _Waiting) -> str:
        at = first.at.astimezone(UTC)
        prefix = f"{self._config.prefix}/" if self._config.prefix else ""
        day = f"{at.year:04d}/{at:%m/%d/%H}"
        return f"{prefix}{self._config.fleet}/{first.capture.model}/{day}"

    def _settle(self, group: list[_Waiting], fate: CaptureStatus) -> None:
        done = {id(each) for each in group}
        with self._changed:
            self._waiting = deque(each for each in self._waiting if id(each) not in done)
            self._held_bytes -= sum(each.size_bytes for each in group)
            for each in group:
                self._remember(_key(each.capture.capture_id), fate)

    def _note(self, error: Exception | None) -> None:
        if error is not None and self._counters.fault(_PLACE, error):
            logger.warning("captures cannot be kept: %s", error)


def _groups(requests: Iterable[_Waiting]) -> list[list[_Waiting]]:
    """By model and hour, in the order they came."""
    found: dict[tuple[str, str], list[_Waiting]] = {}
    for each in requests:
        hour = each.at.astimezone(UTC).isoformat(timespec="hours")
        found.setdefault((each.capture.model, hour), []).append(each)
    return list(found.values())


def _size(capture: Capture) -> int:
    tensors = (*capture.input_tensors, *capture.output_tensors)
    others = (*capture.inputs, *capture.outputs)
    return sum(len(part.data) for part in tensors) + sum(len(each.data) for each in others)


def _key(capture_id: str) -> str:
    return capture_id.lower()


DRIFT_PICTURES = 100
_NAMESPACE = uuid.UUID("9d1c8f0a-6c54-4f0e-9a36-0d3a5b1c7e21")
_UNSAFE = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingState:
    """State of a policy for one inspection.

    Attributes:
        decisions: counted so far.
        left: of the pictures that are captured since a figure drifted.
    """

    decisions: int = 0
    left: int = 0
    drift: DriftState = field(default_factory=DriftState)


def sample(
    prediction: Prediction, sampling: SamplingState, *, config: CaptureConfig
) -> tuple[SamplingState, bool]:
    """Decide whether to capture, with the policy's next state."""
    sampling = replace(sampling, decisions=sampling.decisions + 1)
    match config.inspections:
        case "none":
            return sampling, False
        case "all":
            return sampling, True
        case "unsure":
            return sampling, is_unsure(prediction)
        case "drift":
            return _since_drift(sampling, prediction)
        case _:
            return sampling, (sampling.decisions - 1) % config.every == 0


def _since_drift(sampling: SamplingState, prediction: Prediction) -> tuple[SamplingState, bool]:
    drift, found = feed_drift(sampling.drift, prediction)
    left = DRIFT_PICTURES if found else sampling.left
    return replace(sampling, drift=drift, left=max(0, left - 1)), left > 0


def capture_of(frame: Frame, prediction: Prediction) -> Capture:
    """A decision with its picture."""
    suffix = "png" if frame.encoded.startswith(b"\x89PNG") else "jpg"
    picture = Auxiliary(name=f"{frame.id}.{suffix}", encoding=Encoding.NONE, data=frame.encoded)
    told = encode({**_words(prediction), "prediction": to_plain(prediction)})
    return Capture(
        model=_UNSAFE.sub("-", prediction.inspection).strip("-") or "inspection",
        capture_id=str(uuid.uuid5(_NAMESPACE, prediction_id(prediction))),
        inferred_at=prediction.frame.captured_at,
        inputs=(picture,),
        outputs=(Auxiliary(name="prediction.json", encoding=Encoding.JSON, data=told),),
        version=short(prediction.package),
    )


def _words(prediction: Prediction) -> dict[str, object]:
    """The prediction in words of the capture protocol."""
    found: dict[str, object] = {"Inference result": _result(prediction)}
    answers = [(each.decision, each.probability) for each in prediction.labels]
    answers += [(box.decision, box.probability) for box in prediction.boxes]
    likely = [chance for decision, chance in answers if decision != "absent"]
    if likely:
        found["Confidence"] = max(likely)
    if prediction.anomaly is not None:
        found["Anomaly_score"] = prediction.anomaly.score
    return found


def _result(prediction: Prediction) -> str:
    if prediction.state != "ok":
        return str(prediction.state)
    if prediction.count is not None:
        return str(prediction.count.value)
    if prediction.anomaly is not None:
        return {"present": "Anomaly", "absent": "Normal"}.get(prediction.anomaly.decision, "unsure")
    there = [each.name for each in prediction.labels if each.decision == "present"]
    there += [box.label for box in prediction.boxes if box.decision == "present"]
    return ", ".join(dict.fromkeys(there)) or ("unsure" if is_unsure(prediction) else "none")


class DecisionCapture:
    """Told of every decision, by the camera threads; never holds one up."""

    def __init__(self, config: CaptureConfig, *, capturer: Capturer, counters: Counters) -> None:
        self._config = config
        self._capturer = capturer
        self._counters = counters
        self._samplings: dict[str, SamplingState] = {}

    def look(self, frame: Frame, prediction: Prediction) -> None:
        """Capture the decision where the policy asks for it; an inspection has one thread."""
        before = self._samplings.get(prediction.inspection, SamplingState())
        after, wanted = sample(prediction, before, config=self._config)
        self._samplings[prediction.inspection] = after
        if not wanted:
            return
        try:
            self._capturer.offer(capture_of(frame, prediction))
        except ConflictError:
            logger.debug("decision captured already frame=%s", frame.id)
        except FullError:
            self._counters.refuse("not captured, too many wait")
