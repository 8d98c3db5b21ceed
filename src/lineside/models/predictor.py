"""A package at work: from a frame to a prediction, the same on every machine.

1. Figures of the picture, then its place, then the network, then decisions. The first of them that
   refuses ends the work: a refused picture carries its state and reason, and no labels.
2. ``predict`` takes the next frame of a camera: its registration is kept, so a camera that stands
   still is only checked, and the same bytes again and again are a frozen camera.
3. ``predict_single`` takes a picture that somebody asks about: nothing is carried from one to the
   next, so the same picture gets the same answer, whoever asked before. ``explain``, ``heat`` and
   ``crops`` are of a single picture too.
4. ``predict`` computes no activation maps; ``explain`` does, on request.
5. Several threads predict at once; only the state of one camera (its registration, its repeated
   bytes) is for one thread at a time.
6. On another device than the CPU it has answered the golden pictures within the package's bound,
   by the session that goes on to answer, or there is none: GPUs round otherwise.

The manifest's limits are held against the picture's figures before and after the network.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from lineside.core import (
    Box,
    Clock,
    Digest,
    InvalidError,
    RefusedError,
    UnavailableError,
    decode,
)
from lineside.models.archive import Package
from lineside.models.engines import EngineDevice, EngineName
from lineside.models.manifest import Golden, HealthLimits, Manifest
from lineside.models.operating_point import OperatingPoint, check_point, ruled
from lineside.models.task_heads import HeadInput, HeadOutput, TaskHead, task_head_for
from lineside.vision import (
    Frame,
    FrameRef,
    HealthFigures,
    PictureState,
    Prediction,
    Registrar,
    RegistrationFigures,
    StageTimes,
    decode_picture,
    draw_heat,
    encode_png,
    grey_of,
)
from lineside.vision.picture import grey_health
from lineside.vision.prepare import at_trained_scale
from lineside.vision.registration import CameraRegistrar, Registered

# A covered lens gives a mean grey of 0-5 with noise; half of all pixels clipped leave no scene;
# a sharpness below the noise of a JPEG's blocks has no edge to register by.
_BLACK_BELOW = 12.0
_CLIPPED_ABOVE = 0.5
_FLAT_BELOW = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A state other than ``ok`` comes with the sentence that says why."""

    state: PictureState = PictureState.OK
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """Count of the same bytes in a row from one camera, each with a later capture time."""

    digest: Digest
    captured_at: datetime
    count: int = 1


def repeated(before: Repeats | None, frame: Frame | FrameRef) -> Repeats:
    """Count a frame; the same frame delivered twice is one picture, not two."""
    if before is None or before.digest != frame.digest:
        return Repeats(digest=frame.digest, captured_at=frame.captured_at)
    if frame.captured_at <= before.captured_at:
        return before
    return Repeats(digest=frame.digest, captured_at=frame.captured_at, count=before.count + 1)


def judge_repeats(limits: HealthLimits, *, repeats: int) -> Verdict:
    """A camera that sends the same bytes again and again shows the past."""
    if 0 < limits.frozen_after <= repeats:
        reason = f"the same picture {repeats} times in a row"
        return Verdict(state=PictureState.FROZEN, reason=reason)
    return Verdict()


def judge_picture(figures: HealthFigures, limits: HealthLimits) -> Verdict:
    """Exposure and sharpness as in the training pictures; the first fault found is the answer."""
    grey, clipped = figures.mean_grey, figures.clipped_share
    if grey < limits.mean_grey_min:
        reason = f"mean grey {grey:.1f} is below {limits.mean_grey_min:.1f}"
        return Verdict(state=PictureState.BLACK, reason=reason)
    if grey > limits.mean_grey_max:
        reason = f"mean grey {grey:.1f} is above {limits.mean_grey_max:.1f}"
        return Verdict(state=PictureState.OVEREXPOSED, reason=reason)
    if clipped > limits.clipped_share_max:
        reason = f"{clipped:.0%} of the picture is clipped, at most {limits.clipped_share_max:.0%}"
        return Verdict(state=PictureState.OVEREXPOSED, reason=reason)
    if figures.sharpness < limits.sharpness_min:
        reason = f"sharpness {figures.sharpness:.1f} is below {limits.sharpness_min:.1f}"
        return Verdict(state=PictureState.BLURRED, reason=reason)
    return Verdict()


def judge_place(
    figures: RegistrationFigures, health: HealthFigures, *, limits: HealthLimits
) -> Verdict:
    """Check that the regions of the image can be read and look as they were learned.

    A picture that does not fit the reference view is "camera moved", however it is exposed: the
    limits were learned on that view and say nothing of another. Only a picture that shows nothing
    at all is called black, overexposed or blurred instead.
    """
    looks = judge_picture(health, limits)
    if figures.state == "moved":
        if looks.state is not PictureState.OK and _shows_nothing(health):
            return looks
        more = f"; also, {looks.reason}" if looks.reason else ""
        return Verdict(state=PictureState.CAMERA_MOVED, reason=figures.reason + more)
    if looks.state is not PictureState.OK:
        return looks
    if figures.residual_px > limits.residual_max_px:
        reason = f"residual {figures.residual_px:.1f} px is above {limits.residual_max_px:.1f} px"
        return Verdict(state=PictureState.CAMERA_MOVED, reason=reason)
    return Verdict()


def _shows_nothing(health: HealthFigures) -> bool:
    dark, flat = health.mean_grey < _BLACK_BELOW, health.sharpness < _FLAT_BELOW
    return dark or flat or health.clipped_share > _CLIPPED_ABOVE


def judge_features(figures: HealthFigures, limits: HealthLimits) -> Verdict:
    """Check that the network was trained on images like this one."""
    distance, most = figures.feature_distance, limits.feature_distance_max
    if distance > most:
        reason = f"Unlike the training images ({distance:.2f}, limit {most:.2f})"
        return Verdict(state=PictureState.UNFAMILIAR, reason=reason)
    return Verdict()


logger = logging.getLogger(__name__)

NEAREST_FILE = "evidence/nearest.json"
_MOST_CAMERAS = 32
_MOST_GOLDEN_BYTES = 64_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenReport:
    """The result of the golden images: how near this engine came to the promised answers.

    Attributes:
        max_abs_diff: largest difference of any logit on any golden picture.
        pictures: how many were compared.
    """

    max_abs_diff: float
    bound: float
    pictures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedPictures:
    """``evidence/nearest.json``: whose features a network compares a picture's with.

    Attributes:
        pictures: of each crop, the digests of training pictures in the order of the network's
            ``bank_distances``.
    """

    pictures: tuple[tuple[Digest, ...], ...]
    schema: str = field(default="lineside.remembered-pictures/1")


@dataclass(frozen=True, slots=True, kw_only=True)
class NearPicture:
    """A training picture near to another one, as the network sees both.

    Attributes:
        region: "" for the whole picture.
        distance: up to 1 is usual between training pictures.
    """

    region: str
    picture: Digest
    distance: float


@dataclass(slots=True, kw_only=True)
class _Seat:
    """The state of one camera between its frames."""

    registrar: CameraRegistrar | None
    repeats: Repeats | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(slots=True, kw_only=True, eq=False)
class _Work:
    """The work on one frame so far."""

    verdict: Verdict
    health: HealthFigures
    registered: Registered
    output: HeadOutput = HeadOutput()  # noqa: RUF009  a frozen record
    times: StageTimes = StageTimes()  # noqa: RUF009  a frozen record
    operating_point: str = ""


_NOWHERE = Registered(figures=RegistrationFigures(state="none"), matrix=None)


class GoldenError(RefusedError):
    """This machine answers golden pictures otherwise than the package promises: it is whole."""


class Predictor:
    """Runs one package; safe from several threads, which predict at once."""

    def __init__(
        self,
        package: Package,
        *,
        clock: Clock,
        engine: EngineName = EngineName.ONNX_RUNTIME,
        device: EngineDevice = EngineDevice.CPU,
    ) -> None:
        """Load the network and the reference picture.

        Raises:
            InvalidError: the network, the reference picture or the device is not usable.
            MissingExtraError: the engine's library is not installed, or not for this device.
            GoldenError: on another device than the CPU an answer differs too much.
            UnavailableError: such a device is named, and does not run the network.
        """
        self._package = package
        self._clock = clock
        self._lock = threading.Lock()
        self._seats: OrderedDict[str, _Seat] = OrderedDict()
        self._registrar = _registrar(package)
        # One tuple, replaced whole: a prediction reads it once, and names what decided.
        self._deciding = (task_head_for(package, clock=clock, engine=engine, device=device), "")
        if self.device is not EngineDevice.CPU:
            try:
                self.check_golden()
            except UnavailableError as error:
                if device is not EngineDevice.AUTO:
                    raise
                logger.warning(
                    "network runs on the CPU package=%s reason=%s", self.manifest.name, error
                )
                if engine is EngineName.TENSORRT:
                    engine = EngineName.ONNX_RUNTIME
                self._deciding = (task_head_for(package, clock=clock, engine=engine), "")

    @property
    def package(self) -> Package:
        """The package that is run."""
        return self._package

    @property
    def manifest(self) -> Manifest:
        """Of the package that is run."""
        return self._package.manifest

    @property
    def device(self) -> EngineDevice:
        """The processor that the network runs on; never ``auto``."""
        return self._head.device

    @property
    def operating_point(self) -> str:
        """Digest of the operating point that decides; "" for the package's own limits."""
        return self._deciding[1]

    def decide_by(self, point: OperatingPoint | None) -> None:
        """Decide from the next frame on by an operating point, or by the package's own limits.

        Raises:
            InvalidError: it is for another package, or not to be decided by.
        """
        if point is not None:
            check_point(point, self.manifest, package=self._package.digest)
        manifest = ruled(self.manifest, point.limits if point is not None else ())
        head = copy(self._deciding[0])
        head.decide_by(manifest)
        self._deciding = (head, point.digest if point is not None else "")

    def predict(
        self,
        frame: Frame,
        *,
        device: str = "",
        decode_ms: float = 0.0,
        template: NDArray[np.uint8] | None = None,
    ) -> Prediction:
        """Judge the next frame of its camera.

        Args:
            frame: any size; its pixels are as they came.
            device: who says it.
            decode_ms: what decoding took, where the caller measured it.
            template: the picture that shows how the frame should look, where the package takes one.

        Raises:
            InvalidError: a template is missing, or is of another size than the frame.
        """
        self._check_template(frame, template)
        started_s = self._clock.monotonic()
        work = self._judge(frame, template, seat=self._seat(frame.camera))
        return self._prediction(
            frame, work, device=device, decode_ms=decode_ms, started_s=started_s
        )

    def predict_single(
        self,
        frame: Frame,
        *,
        device: str = "",
        decode_ms: float = 0.0,
        template: NDArray[np.uint8] | None = None,
    ) -> Prediction:
        """Judge a picture by itself; arguments and errors as of ``predict``."""
        self._check_template(frame, template)
        started_s = self._clock.monotonic()
        work = self._judge(frame, template, seat=None)
        return self._prediction(
            frame, work, device=device, decode_ms=decode_ms, started_s=started_s
        )

    def _prediction(
        self, frame: Frame, work: _Work, *, device: str, decode_ms: float, started_s: float
    ) -> Prediction:
        total_ms = (self._clock.monotonic() - started_s) * 1000 + decode_ms
        return Prediction(
            frame=frame.ref,
            inspection=self.manifest.inspection,
            task=self.manifest.task,
            state=work.verdict.state,
            labels=work.output.labels,
            boxes=work.output.boxes,
            count=work.output.count,
            mask=work.output.mask,
            anomaly=work.output.anomaly,
            package=self._package.digest,
            dataset=self.manifest.lineage.dataset,
            registration=work.registered.figures,
            health=work.health,
            latency_ms=replace(work.times, decode=decode_ms, total=total_ms),
            device=device,
            reason=work.verdict.reason,
            operating_point=work.operating_point,
        )

    def forget_place(self, camera: str) -> None:
        """Register the camera's next picture in full, whatever was before."""
        with self._lock:
            seat = self._seats.get(camera)
        if seat is not None and seat.registrar is not None:
            with seat.lock:
                seat.registrar.forget()

    def explain(
        self, frame: Frame, *, template: NDArray[np.uint8] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Return the heat map of each answer, on the image's own pixels.

        Returns:
            Label name (``objects`` for boxes and counts, ``anomaly``) → (height, width) float32,
            0-1: the share of a place's support in the strongest support for or against it anywhere.
            Empty where the picture's place cannot be found.
        """
        registration, place = self._single(frame, template)
        return {} if registration.state == "moved" else self._head.explain(place)

    def heat(
        self, frame: Frame, *, template: NDArray[np.uint8] | None = None
    ) -> NDArray[np.float32] | None:
        """The map of defects in the task's own unit; see ``TaskHead.heat``."""
        return self._head.heat(self._single(frame, template)[1])

    def nearest(self, frame: Frame, *, most: int = 4) -> tuple[NearPicture, ...]:
        """Return the nearest training pictures of each region, the nearest first.

        Empty where the package does not name the pictures that it remembers: one of another task,
        made elsewhere, or of an earlier release.

        Raises:
            InvalidError: the picture's place cannot be found, or the network gives no distances.
        """
        raw = self._package.files.get(NEAREST_FILE)
        if raw is None:
            return ()
        known = decode(RememberedPictures, raw, where=f"{self.manifest.name}: {NEAREST_FILE}")
        apart = self._head.bank_distances(self._single(frame, None)[1])
        lengths = [len(pictures) for pictures in known.pictures]
        if not lengths or {apart.shape} != {(len(lengths), length) for length in lengths}:
            raise InvalidError(
                f"{apart.shape} distances from {lengths} pictures",
                where=f"{self.manifest.name}: {NEAREST_FILE}", fix="Train the package again.",
            )  # fmt: skip
        found = []
        for crop, row, pictures in zip(
            self.manifest.prepare.crops, apart, known.pictures, strict=True
        ):
            by_picture: dict[Digest, float] = {}
            for place in np.argsort(row, kind="stable"):
                by_picture.setdefault(pictures[place], float(row[place]))
            found += [
                NearPicture(region=crop.region, picture=picture, distance=distance)
                for picture, distance in list(by_picture.items())[:most]
            ]
        return tuple(found)

    def crops(
        self, frame: Frame, *, template: NDArray[np.uint8] | None = None
    ) -> NDArray[np.float32]:
        """Return the network's input for an image, (n, channels, height, width).

        Raises:
            InvalidError: the picture's place cannot be found, or its template is missing.
        """
        registration, place = self._single(frame, template)
        if registration.state == "moved":
            raise InvalidError(
                f"the picture is not placed: {registration.reason}",
                where=frame.camera,
                fix="Use a picture of the place the package was trained for.",
            )
        return self._head.crops(place)

    def _single(
        self, frame: Frame, template: NDArray[np.uint8] | None
    ) -> tuple[RegistrationFigures, HeadInput]:
        """The place of a picture by itself, and what the head takes of it."""
        self._check_template(frame, template)
        registered = _place(self._registrar, grey_of(frame.image))
        place = HeadInput(image=frame.image, matrix=registered.matrix, template=template)
        return registered.figures, place

    def _check_template(self, frame: Frame, template: NDArray[np.uint8] | None) -> None:
        if not self.manifest.template:
            return
        if template is None or template.shape != frame.image.shape:
            seen = "none" if template is None else f"one of {template.shape[:2]}"
            raise InvalidError(
                f"the package judges a picture beside its template, and there is {seen}",
                where=self.manifest.name,
                fix=f"Hand in the template, {frame.image.shape[:2]} (height, width) pixels.",
            )

    def check_golden(self) -> GoldenReport:
        """Ask for the golden pictures' answers again, through registration, crops and engine.

        Raises:
            GoldenError: an answer differs by more than the manifest's bound.
            InvalidError: the package has no golden picture, or one cannot be read.
        """
        if not self.manifest.golden:
            raise InvalidError(
                "no golden pictures", where=self.manifest.name, fix="Export the package again."
            )
        # numpy's max, because that of Python passes over what is no number.
        found = [self._golden_difference(golden) for golden in self.manifest.golden]
        worst = float(np.max(found))
        bound = self.manifest.engine.bound
        if not worst <= bound:
            raise GoldenError(
                f"the golden pictures' answers differ by {worst:.3g} on {self.device}, "
                f"at most {bound:.3g} is taken",
                where=self.manifest.name,
                fix="Export the package again, or report this processor."
                if self.device is EngineDevice.CPU
                else "Run it on the CPU: engine_device of a device's settings, --device, device=.",
            )
        return GoldenReport(max_abs_diff=worst, bound=bound, pictures=len(self.manifest.golden))

    def golden_answer(self, golden: Golden) -> NDArray[np.float32]:
        """Return this engine's answer to a golden image, in the form of ``Golden.logits``."""
        image = decode_picture(self._package.file(golden.file), max_bytes=_MOST_GOLDEN_BYTES)
        matrix = np.array(golden.matrix) if golden.matrix else self._golden_place(image, golden)
        template = None
        if golden.template_file:
            template = decode_picture(
                self._package.file(golden.template_file), max_bytes=_MOST_GOLDEN_BYTES
            )
        return self._head.golden(HeadInput(image=image, matrix=matrix, template=template))

    def _golden_difference(self, golden: Golden) -> float:
        answer = self.golden_answer(golden)
        wanted = np.array(golden.logits, np.float64)
        if wanted.shape != answer.shape:
            raise InvalidError(
                f"the engine answers {answer.shape}, the manifest promises {wanted.shape}",
                where=golden.file,
                fix="Export the package again.",
            )
        return float(np.abs(answer - wanted).max())

    def _golden_place(self, image: NDArray[np.uint8], golden: Golden) -> NDArray[np.float64] | None:
        if self._registrar is None:
            return None
        registered = self._registrar.register(image)
        if registered.matrix is None:
            reason = registered.figures.reason
            raise RefusedError(f"a golden picture is not placed: {reason}", where=golden.file)
        return registered.matrix

    @property
    def _head(self) -> TaskHead:
        return self._deciding[0]

    def _seat(self, camera: str) -> _Seat:
        with self._lock:
            seat = self._seats.pop(camera, None)
            if seat is None:
                registrar = None if self._registrar is None else CameraRegistrar(self._registrar)
                seat = _Seat(registrar=registrar)
            self._seats[camera] = seat
            if len(self._seats) > _MOST_CAMERAS:
                self._seats.popitem(last=False)
            return seat

    def _judge(
        self, frame: Frame, template: NDArray[np.uint8] | None, *, seat: _Seat | None
    ) -> _Work:
        """Judge a frame of the camera whose state is ``seat``; None for a picture by itself."""
        (head, point), start_s = self._deciding, self._clock.monotonic()
        grey = grey_of(frame.image)
        health = grey_health(at_trained_scale(grey, self.manifest.prepare))
        seen_s = self._clock.monotonic()
        if seat is None:
            verdict, registered = Verdict(), _place(self._registrar, grey)
        else:
            with seat.lock:
                verdict, registered = self._followed(frame, grey, seat=seat)
        work = _Work(verdict=verdict, health=health, registered=registered, operating_point=point)
        if work.verdict.state is not PictureState.OK:
            return work
        work.verdict = judge_place(registered.figures, health, limits=self.manifest.health)
        placed_s = self._clock.monotonic()
        work.times = StageTimes(
            prepare=(seen_s - start_s) * 1000, register=(placed_s - seen_s) * 1000
        )
        if work.verdict.state is PictureState.OK:
            place = HeadInput(image=frame.image, matrix=registered.matrix, template=template)
            self._answer(work, place, head=head)
        return work

    def _followed(
        self, frame: Frame, grey: NDArray[np.uint8], *, seat: _Seat
    ) -> tuple[Verdict, Registered]:
        """Count a camera's bytes, and register its frame unless they are frozen."""
        seat.repeats = repeated(seat.repeats, frame)
        verdict = judge_repeats(self.manifest.health, repeats=seat.repeats.count)
        if verdict.state is not PictureState.OK:
            return verdict, _NOWHERE
        return verdict, _place(seat.registrar, grey)

    def _answer(self, work: _Work, place: HeadInput, *, head: TaskHead) -> None:
        start_s = self._clock.monotonic()
        output = head.answer(place)
        work.health = replace(work.health, feature_distance=output.distance)
        work.verdict = judge_features(work.health, self.manifest.health)
        if output.reason:
            work.verdict = Verdict(state=PictureState.CAMERA_MOVED, reason=output.reason)
        elif output.unfamiliar and work.verdict.state is PictureState.OK:
            work.verdict = Verdict(state=PictureState.UNFAMILIAR, reason=output.unfamiliar)
        if work.verdict.state is PictureState.OK:
            work.output = output
        spent_ms = (self._clock.monotonic() - start_s) * 1000
        work.times = replace(
            work.times,
            prepare=work.times.prepare + output.prepare_ms,
            infer=output.infer_ms,
            decide=max(0.0, spent_ms - output.prepare_ms - output.infer_ms),
        )


def _place(registrar: Registrar | CameraRegistrar | None, grey: NDArray[np.uint8]) -> Registered:
    return _NOWHERE if registrar is None else registrar.register_grey(grey)


def check_camera(package: Package, pictures: Iterable[bytes], *, camera: str) -> None:
    """Refuse a package for a camera none of whose pictures lies on the package's reference view.

    Pictures are judged by the limits that devices use.

    Args:
        package: which is registered to a view.
        pictures: of the camera as files, the newest first.
        camera: which.

    Raises:
        RefusedError: there is no picture, or none would be inspected; says why of the newest.
    """
    registrar, reasons = _registrar(package), list[str]()
    for picture in pictures:
        try:
            grey = grey_of(decode_picture(picture, max_bytes=len(picture)))
        except InvalidError as error:
            reasons.append(error.message)
            continue
        found = _place(registrar, grey)
        health = grey_health(at_trained_scale(grey, package.manifest.prepare))
        verdict = judge_place(found.figures, health, limits=package.manifest.health)
        if verdict.state is PictureState.OK:
            return
        reasons.append(verdict.reason)
    raise RefusedError(
        f"camera {camera!r} does not show the reference view of the package; its newest image: "
        f"{reasons[0]}"
        if reasons
        else f"the package is registered to a reference view, and no image of camera {camera!r} is "
        "kept here to compare with it",
        where=camera,
        fix="Aim the camera like the one that the package was trained on, let it send an image, "
        "and try again; or train a package for it.",
    )


def heat_png(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> bytes:
    """PNG of the picture with one of ``explain``'s maps laid over it."""
    return encode_png(draw_heat(image, heat))


def _registrar(package: Package) -> Registrar | None:
    """To the package's reference picture; None where nothing is registered."""
    manifest = package.manifest
    view, name = manifest.prepare.view, manifest.reference_file
    if view is None or not name:
        return None
    return Registrar(view, decode_picture(package.file(name)), boxes=_boxes(manifest))


def _boxes(manifest: Manifest) -> list[Box]:
    """Regions that must lie in the picture; a whole view may reach over its edge."""
    return [crop.region_px or crop.box_px for crop in manifest.prepare.crops if crop.region]
