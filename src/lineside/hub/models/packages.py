"""Packages: the registry, taking one into use, and trying one.

Taking into use is checked first and signed last; then it is one event in the hub's chain, written
with the registry's own record in one transaction, and the desired state of every device.
"""

import base64
import logging
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from lineside.core import (
    Clock,
    Digest,
    NotFoundError,
    Plant,
    RefusedError,
    parse_digest,
    rfc3339,
    stable_id,
    to_plain,
)
from lineside.hub.devices.registry import DeviceRegistry
from lineside.hub.eventlog.ledger import Ledger
from lineside.hub.eventlog.topics import hub_source
from lineside.hub.models.desired import DesiredStates
from lineside.hub.models.model_service import ModelService
from lineside.hub.models.operating_points import OperatingPoints
from lineside.hub.models.releases import Releases
from lineside.hub.views import PackageView, TrialPrediction
from lineside.models import Manifest, Package, PackageRecord, Predictor, Registry
from lineside.models.manifest import fitting
from lineside.models.predictor import NearPicture
from lineside.models.result import MeasuredResult, package_result
from lineside.models.versions import Verdict
from lineside.streams import Event
from lineside.vision import Frame, encode_png, open_frame
from lineside.vision.draw import heat_layer
from lineside.vision.verdict import RejectRule

logger = logging.getLogger(__name__)

PACKAGE_TYPE = "lineside.package.v1"
REPORT_FILE = "evidence/report.html"
_LOADED = 2
_MOST_PICTURE_BYTES = 16_000_000


class Packages:
    """The registry as the hub uses it."""

    def __init__(
        self, registry: Registry, *, ledger: Ledger, devices: DeviceRegistry, plant: Plant,
        clock: Clock, models: ModelService, releases: Releases, desired: DesiredStates,
        points: OperatingPoints,
    ) -> None:  # fmt: skip
        self._desired = desired
        self._registry = registry
        self._ledger = ledger
        self._devices = devices
        self._plant = plant
        self._clock = clock
        self._models = models
        self._releases = releases
        self.points = points
        self._lock = threading.Lock()
        self._loaded: OrderedDict[tuple[str, str], Predictor] = OrderedDict()

    def all(self) -> tuple[PackageView, ...]:
        """Every package, newest first."""
        used, approvals = self._desired.in_force(), self._releases.approvals()
        return tuple(
            _view(record, used=used, approvals=approvals) for record in self._registry.list()
        )

    def one(self, digest: str) -> PackageView:
        """``NotFoundError`` if it is not in the registry."""
        record = self._registry.get(parse_digest(digest, where="digest"))
        return _view(record, used=self._desired.in_force(), approvals=self._releases.approvals())

    def manifest(self, digest: str) -> Manifest:
        """``NotFoundError`` if it is not in the registry."""
        return self._registry.get(parse_digest(digest, where="digest")).manifest

    def digests(self) -> tuple[Digest, ...]:
        """Every package's digest."""
        return tuple(record.digest for record in self._registry.list())

    def content(self, digest: str) -> bytes:
        """The archive's bytes."""
        return self._registry.content(parse_digest(digest, where="digest"))

    def has_report(self, digest: str) -> bool:
        """Return whether the package carries its page of evidence."""
        return REPORT_FILE in Package.read(self.content(digest), where=digest).files

    def report(self, digest: str) -> bytes:
        """The page of evidence that the package carries; ``NotFoundError`` if it has none."""
        page = Package.read(self.content(digest), where=digest).files.get(REPORT_FILE)
        if page is None:
            raise NotFoundError(
                "the package carries no report",
                where=digest,
                fix="Evaluate it: lineside evaluate PACKAGE --data FOLDER --report FILE.",
            )
        return page

    def result(self, digest: str, *, rule: RejectRule | None = None) -> MeasuredResult | None:
        """The result that the package's own report tells; None where it has none to tell."""
        return package_result(Package.read(self.content(digest), where=digest), rule=rule)

    def add(self, data: bytes, *, by: str) -> PackageView:
        """Check an archive and keep it."""
        record = self._registry.add(data, by=by)
        logger.info("package added digest=%s by=%s", record.digest, by)
        return _view(record, used=self._desired.in_force(), approvals=self._releases.approvals())

    def use(self, digest: str, *, inspection: str, by: str, reason: str) -> PackageView:
        """Take a package into use for an inspection, on every device.

        Raises:
            InvalidError: without a person or reason; nothing is signed.
            RefusedError: it cannot answer for the inspection, is a version of a model that nobody
                approved, was judged bad on the line, or cannot be signed.
        """
        self.use_on_site(digest, inspection=inspection, by=by, reason=reason)
        self._desired.write(self._devices.known(), inspection, digest=digest, by=by, reason=reason)
        return self.one(digest)

    def use_on_site(self, digest: str, *, inspection: str, by: str, reason: str) -> None:
        """Take a package into use for devices that come later; those that are there keep theirs."""
        self._plant.find_inspection(inspection)
        parsed = parse_digest(digest, where="digest")
        self._registry.check_use(parsed, inspection=inspection, by=by, reason=reason)
        # Of its own inspection each device checks the plant file there.
        if self._registry.get(parsed).inspection != inspection:
            self._models.check_fits(parsed, inspection)
        self._models.check_use(parsed)
        self._check_not_bad(parsed, inspection=inspection)
        before = self._registry.in_use(inspection)
        leaving = self._desired.ever_run(inspection) | {before.digest if before else ""}
        self._releases.used(parsed, inspection=inspection, leaving=leaving - {""})
        now = self._clock.now()
        event = Event(
            id=stable_id("evt", "used", parsed, inspection, by, rfc3339(now)),
            source=hub_source(self._plant.site), type=PACKAGE_TYPE, subject=inspection, time=now,
            data={
                "action": "used", "digest": parsed, "inspection": inspection, "by": by,
                "reason": reason,
            },
        )  # fmt: skip

        def put_into_use(_: object) -> None:
            self._registry.use(parsed, inspection=inspection, by=by, reason=reason)

        self._ledger.record([event], within=put_into_use)
        logger.info("package in use digest=%s inspection=%s by=%s", digest, inspection, by)

    def _check_not_bad(self, digest: Digest, *, inspection: str) -> None:
        why = self._desired.verdict(digest, inspection=inspection)
        if why is not None:
            raise RefusedError(
                f"the package was judged bad on the line: {why}",
                where=inspection,
                fix="Take a mended version; or roll this one out again, which tries it beside the "
                "one that runs: lineside rollout start GROUP/NUMBER.",
            )

    # ---- looking

    def inspections(self, digest: str) -> tuple[str, ...]:
        """Inspections of the plant that a package can answer for, in the plant's order."""
        return fitting(self.manifest(digest), self._plant)

    def predictor(self, digest: str, *, inspection: str = "") -> Predictor:
        """A loaded package, at its operating point; the two used last are kept.

        Args:
            digest: of the package.
            inspection: which it answers for; "": the one that it was trained for.
        """
        name = (digest, inspection)
        with self._lock:
            if name not in self._loaded:
                package = Package.read(self.content(digest))
                package = package.bound_to(inspection) if inspection else package
                self._loaded[name] = Predictor(package, clock=self._clock)
            self._loaded.move_to_end(name)
            while len(self._loaded) > _LOADED:
                self._loaded.popitem(last=False)
            found = self._loaded[name]
        self.points.apply(found)
        return found

    def explain(self, digest: str, frame: Frame) -> dict[str, NDArray[np.float32]]:
        """Label → where the network looked, 0-1, in the picture's own pixels."""
        return dict(self.predictor(digest).explain(frame))

    def nearest(self, digest: str, frame: Frame) -> tuple[NearPicture, ...]:
        """Return the training pictures nearest to a frame; see ``Predictor.nearest``."""
        return self.predictor(digest).nearest(frame)

    def in_use(self, inspection: str) -> Digest:
        """The package an inspection runs; ``NotFoundError`` when none was taken into use."""
        record = self._registry.in_use(inspection)
        if record is None:
            raise NotFoundError(
                f"no package is in use for {inspection!r}",
                where=inspection,
                fix="Train one and take it into use.",
            )
        return record.digest

    def judge(self, digest: str, data: bytes, *, inspection: str = "") -> tuple[Frame, Predictor]:
        """A picture of somebody's, opened for a package; nothing of it is stored."""
        predictor = self.predictor(digest, inspection=inspection)
        frame = open_frame(
            data, camera="tried", captured_at=self._clock.now(), max_bytes=_MOST_PICTURE_BYTES
        )
        return frame, predictor

    def try_picture(self, digest: str, data: bytes) -> TrialPrediction:
        """Return a package's prediction for a picture, with its activation maps."""
        frame, predictor = self.judge(digest, data)
        heat = predictor.explain(frame)
        return TrialPrediction(
            prediction=predictor.predict_single(frame),
            heat={name: _data_url(values) for name, values in heat.items()},
            width_px=int(frame.image.shape[1]),
            height_px=int(frame.image.shape[0]),
        )


def _data_url(heat: NDArray[np.float32]) -> str:
    png = encode_png(heat_layer(heat))
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _view(
    record: PackageRecord,
    *,
    used: Mapping[str, Collection[Digest]],
    approvals: Mapping[Digest, Verdict],
) -> PackageView:
    """With who approved it as a version of a model, else who took it into use."""
    verdict = approvals.get(record.digest)
    return PackageView(
        digest=record.digest,
        name=record.name,
        inspection=record.inspection,
        added_at=record.added_at,
        added_by=record.added_by,
        approved_by=record.approved_by if verdict is None else verdict.by,
        approved_at=record.approved_at if verdict is None else verdict.at,
        reason=record.reason if verdict is None else verdict.reason,
        used_by=tuple(name for name, digests in used.items() if record.digest in digests),
        manifest=to_plain(record.manifest),
    )
