"""Recorded frames asked once more: the picture, the package, and what it remembered then.

1. A frame is asked with the names under which it was answered: camera, capture time, sequence,
   part, device. The same package on the same engine then says the same to the last bit.
2. What a package remembers of a camera is its last full registration. Where the record registered
   anew, so does the replay; where the span begins behind one, the frame of that registration is
   shown first, and the run of equal pictures before the span with it.
3. The package that answered then decides by the operating point of the record; another one by the
   point in force for it now. A point that is not known here any more refuses the frame.
4. A frame whose picture is gone, damaged or cannot be answered is said, not guessed.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace

from lineside.core import (
    Clock,
    Digest,
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
)
from lineside.models import EngineDevice, EngineName, Package, Predictor
from lineside.models.operating_point import OperatingPoint, point_named, version_in_force
from lineside.store import Blobs, Logged, Records
from lineside.streams import PREDICTION_TYPE, decode_event, read_prediction
from lineside.vision import Frame, Prediction, open_frame

_MOST_LOADED = 8
_MOST_BACK = 20_000
_MOST_REPEATS = 256
_PAGE = 500
_ANEW = ("aligned", "moved")


class PictureGoneError(NotFoundError):
    """The picture of a frame is not kept any more."""


class UnansweredError(RefusedError):
    """The picture of a frame is kept, and cannot be read or answered."""


FindPackage = Callable[[Digest], Package]


class RecordedPredictor:
    """Packages at work on recorded frames; owned by one thread."""

    def __init__(
        self, records: Records, blobs: Blobs, *, find: FindPackage, clock: Clock,
        engine: EngineName = EngineName.ONNX_RUNTIME, device: EngineDevice = EngineDevice.CPU,
    ) -> None:  # fmt: skip
        self._records = records
        self._blobs = blobs
        self._find = find
        self._clock = clock
        self._engine = engine
        self.device = device
        self._loaded: OrderedDict[tuple[str, str], Predictor] = OrderedDict()
        self._packages: OrderedDict[str, Package] = OrderedDict()
        self._points: dict[tuple[str, str, str | None], OperatingPoint | None] = {}

    def again(self, recorded: Prediction, *, package: Digest, position: int) -> Prediction:
        """Return a package's prediction of a recorded frame.

        Args:
            recorded: what was said of it.
            package: who is asked.
            position: of the record in the log.

        Raises:
            PictureGoneError: the picture aged out or was never stored here.
            UnansweredError: its bytes changed, or it cannot be read or answered.
            NotFoundError, InvalidError: there is no such package, or it cannot be asked again.
        """
        predictor = self._predictor(recorded, package=package, position=position)
        try:
            frame = self._open(recorded)
            self._decide(predictor, recorded)
            if recorded.registration.state in _ANEW:
                predictor.forget_place(frame.camera)
            return _expecting(predictor.predict(frame, device=recorded.device), recorded)
        except (RefusedError, InvalidError) as error:
            raise UnansweredError(error.message, where=recorded.frame.id, fix=error.fix) from error

    def _decide(self, predictor: Predictor, recorded: Prediction) -> None:
        """Let a package decide as rule 3 says."""
        package = predictor.package.digest
        by_record = package == recorded.package
        named = (recorded.inspection, package, recorded.operating_point if by_record else None)
        if named not in self._points:
            self._points[named] = self._point(*named)
        point = self._points[named]
        if predictor.operating_point != (point.digest if point is not None else ""):
            predictor.decide_by(point)

    def _point(self, inspection: str, package: str, digest: str | None) -> OperatingPoint | None:
        documents = self._records.documents
        if digest is not None:
            return point_named(documents, inspection, digest)
        version = version_in_force(documents, inspection, package)
        return version.point if version is not None else None

    def _open(self, recorded: Prediction) -> Frame:
        ref = recorded.frame
        try:
            row = self._records.frames.get(ref.id)
            if row.aged_out_at is not None:
                raise PictureGoneError(
                    "the picture aged out", where=ref.id, fix="Ask an earlier backup."
                )
            data = self._blobs.get(row.digest)
        except NotFoundError as error:
            raise PictureGoneError(
                "the picture is not here", where=ref.id, fix=error.fix
            ) from error
        if row.digest != ref.digest:
            raise RefusedError(
                "the answer was given on another picture", where=ref.id, fix="Trace the frame."
            )
        return open_frame(
            data, camera=ref.camera, captured_at=ref.captured_at, sequence=ref.sequence,
            part=ref.part, max_bytes=max(row.size_bytes, len(data)),
        )  # fmt: skip

    def _predictor(self, recorded: Prediction, *, package: Digest, position: int) -> Predictor:
        """The package as the device had it that judged the frame."""
        name = (package, f"{recorded.inspection}\n{recorded.device}")
        found = self._loaded.get(name)
        if found is None:
            bound = self.load(package).bound_to(recorded.inspection)
            found = Predictor(bound, clock=self._clock, engine=self._engine, device=self.device)
            self.device = found.device  # of "auto": what it came to, for all that follow
            self._remind(found, recorded, position=position)
            self._loaded[name] = found
            if len(self._loaded) > _MOST_LOADED:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(name)
        return found

    def load(self, digest: Digest) -> Package:
        """The package itself; ``InvalidError`` where it cannot be asked about a record."""
        if digest not in self._packages:
            package = self._find(digest)
            if package.manifest.template:
                raise InvalidError(
                    "the package judges a picture beside its template, and no record names one",
                    where=package.manifest.name, fix="Compare it: lineside package compare.",
                )  # fmt: skip
            self._packages[digest] = package
            if len(self._packages) > _MOST_LOADED:
                self._packages.popitem(last=False)
        return self._packages[digest]

    def _remind(self, predictor: Predictor, recorded: Prediction, *, position: int) -> None:
        """Show a package what it had seen before the span."""
        for one in self._remembered(recorded, position=position):
            try:
                frame = self._open(one)
            except LinesideError:
                continue
            predictor.predict(frame, device=one.device)

    def _remembered(self, recorded: Prediction, *, position: int) -> list[Prediction]:
        """The frame of the last full registration, then those with the very picture before."""
        posed: Prediction | None = None
        repeats: list[Prediction] = []
        repeating, needs_place = True, recorded.registration.state == "still"
        for one in self._back(recorded, position=position):
            repeating = repeating and one.frame.digest == recorded.frame.digest
            if repeating and len(repeats) < _MOST_REPEATS:
                repeats.append(one)
            # Of a package that came into use in between, the last frame before it was its first.
            settles = one.registration.state in _ANEW or one.package != recorded.package
            if needs_place and posed is None and settles:
                posed = one
            if not repeating and (posed is not None or not needs_place):
                break
        return [*([posed] if posed is not None else []), *reversed(repeats)]

    def _back(self, recorded: Prediction, *, position: int) -> Iterator[Prediction]:
        """Yield the device's earlier predictions of the inspection, newest first, bounded."""
        read = 0
        while read < _MOST_BACK:
            page: list[Logged] = self._records.log.read(
                type=PREDICTION_TYPE, subject=recorded.inspection, after=position, limit=_PAGE,
                newest_first=True,
            )  # fmt: skip
            if not page:
                return
            for logged in page:
                one = read_prediction(decode_event(logged.entry.body, where=logged.entry.id))
                if one.device == recorded.device:
                    yield one
            position = page[-1].position
            read += len(page)


def _expecting(found: Prediction, recorded: Prediction) -> Prediction:
    """Return a prediction with the number that the recorded trigger's message expected."""
    if found.count is None or recorded.count is None or recorded.count.expected is None:
        return found
    return replace(found, count=replace(found.count, expected=recorded.count.expected))
