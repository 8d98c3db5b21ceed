"""From any event, frame or twin value back to its evidence, with the chains proved on the way.

    twin value → event → prediction → frame → package → cuts → data set version → approval

Each step says in one sentence what it rests on. Every chain that is touched is recomputed from
its first entry, and the hub's anchors are compared with what they name.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lineside.core import (
    Digest,
    FrameId,
    InvalidError,
    NotFoundError,
    Plant,
    RefusedError,
    parse_digest,
    rfc3339,
    short,
    stable_id,
    to_plain,
)
from lineside.hub.views import Trace, TraceStep
from lineside.models import Manifest, PackageRecord, Registry
from lineside.models.operating_point import point_named
from lineside.store import Documents, FrameRow, Logged, Records, check_anchors, open_blobs
from lineside.streams import PREDICTION_TYPE, Event, decode_event, read_prediction
from lineside.twin import LineState
from lineside.vision import Prediction

_MOST_CAUSES = 8
_PACKAGE_TYPE = "lineside.package.v1"
_MODEL_TYPE = "lineside.model.v1"
_BACK = ("cause", "evidence", "report")


@dataclass(slots=True, kw_only=True)
class _Walk:
    """State of one walk; ``packages``: for which inspection each of them answered."""

    steps: list[TraceStep] = field(default_factory=list)
    sources: dict[str, None] = field(default_factory=dict)
    visited: set[str] = field(default_factory=set)
    packages: dict[str, str] = field(default_factory=dict)


class Tracer:
    """Walks back through one store."""

    def __init__(
        self, records: Records, *, registry: Registry, plant: Plant | None = None,
        state: Callable[[], LineState] | None = None,
    ) -> None:  # fmt: skip
        self._records = records
        self._registry = registry
        self._plant = plant
        self._state = state

    def trace(self, identifier: str) -> Trace:
        """Walk back from an event's or frame's id, or where there is a twin from a path in it.

        Raises:
            NotFoundError: nothing of that name.
        """
        walk = _Walk()
        if identifier.startswith("frm_"):
            self._from_frame(identifier, walk)
        elif identifier.startswith("evt_"):
            self._from_event(identifier, walk)
        else:
            self._from_twin(identifier, walk)
        for digest, inspection in walk.packages.items():
            self._add_package(digest, inspection, walk)
        walk.steps += self._proofs(walk)
        return Trace(
            id=identifier,
            chain_ok=all(step.ok for step in walk.steps),
            steps=tuple(walk.steps),
        )

    # ---- where it begins

    def _from_twin(self, path: str, walk: _Walk) -> None:
        if self._state is None:
            raise NotFoundError(
                f"no event or frame {path!r}", where=path, fix="Name an evt_… or frm_… id."
            )
        value = at_path(to_plain(self._state()), path)
        evidence = _evidence_of(value)
        event = str(evidence.get("event", ""))
        walk.steps.append(
            TraceStep(
                kind="twin", id=path, text=f"the twin says {_brief(value)}",
                facts={"value": value}, ok=True,
            )
        )  # fmt: skip
        if not event:
            raise NotFoundError(
                "nothing was ever said of this value", where=path, fix="Ask for a slot or sensor."
            )
        self._from_event(event, walk)

    def _from_frame(self, frame: str, walk: _Walk) -> None:
        row = self._records.frames.get(FrameId(frame))
        walk.steps.append(_frame_step(row))
        for logged in self._answers(row):
            self._add_event(logged, walk)

    def _answers(self, row: FrameRow) -> Iterator[Logged]:
        plant = () if self._plant is None else self._plant.inspection
        here = [one.id for one in plant if one.camera == row.camera]
        for record in self._registry.list():
            used = (one.inspection for one in record.approvals)
            for name in dict.fromkeys((record.inspection, *used, *here)):
                try:
                    yield self._records.log.get(stable_id("evt", row.id, name, record.digest))
                except NotFoundError:
                    continue

    def _from_event(self, event_id: str, walk: _Walk) -> None:
        self._add_event(self._records.log.get(event_id), walk)

    # ---- on the way

    def _add_event(self, logged: Logged, walk: _Walk) -> None:
        if logged.entry.id in walk.visited or len(walk.visited) >= _MOST_CAUSES:
            return
        walk.visited.add(logged.entry.id)
        walk.sources[logged.entry.source] = None
        event = decode_event(logged.entry.body, where=logged.entry.id)
        if event.type == PREDICTION_TYPE:
            self._add_prediction(event, logged, walk=walk)
            return
        walk.steps.append(_event_step(event, logged))
        self._add_frame_of(event, walk)
        for name in _BACK:
            self._add_cause(event.data.get(name), walk)

    def _add_cause(self, event_id: object, walk: _Walk) -> None:
        if isinstance(event_id, str) and event_id.startswith("evt_"):
            try:
                self._from_event(event_id, walk)
            except NotFoundError:
                walk.steps.append(
                    TraceStep(kind="event", id=event_id, text="is not in the log", ok=False)
                )

    def _add_frame_of(self, event: Event, walk: _Walk) -> None:
        frame = event.data.get("frame")
        if isinstance(frame, str) and frame and not _BACK_KNOWN.intersection(event.data):
            self._add_frame(frame, walk)

    def _add_prediction(self, event: Event, logged: Logged, *, walk: _Walk) -> None:
        prediction = read_prediction(event)
        walk.steps.append(_prediction_step(event, prediction, logged=logged))
        self._add_frame(prediction.frame.id, walk, digest=prediction.frame.digest)
        walk.packages.setdefault(prediction.package, prediction.inspection)
        if prediction.operating_point:
            walk.steps.append(_point_step(self._records.documents, prediction))

    def _add_frame(self, frame: str, walk: _Walk, *, digest: str = "") -> None:
        if any(step.id == frame for step in walk.steps):
            return
        try:
            row = self._records.frames.get(FrameId(frame))
        except NotFoundError:
            walk.steps.append(
                TraceStep(kind="frame", id=frame, text="was never stored here", ok=False)
            )
            return
        walk.steps.append(_frame_step(row, digest=digest))

    # ---- what answered

    def _add_package(self, digest: str, inspection: str, walk: _Walk) -> None:
        try:
            record = self._registry.get(parse_digest(digest))
        except (NotFoundError, InvalidError):
            text = "is not in the registry"
            walk.steps.append(TraceStep(kind="package", id=digest, text=text, ok=False))
            return
        walk.steps += _package_steps(record)
        walk.steps.append(self._approval(record, inspection, walk))

    def _approval(self, record: PackageRecord, inspection: str, walk: _Walk) -> TraceStep:
        """The event that took the package into use, else that approved it as a model's version."""
        for kind, subject in ((_PACKAGE_TYPE, inspection), (_MODEL_TYPE, "")):
            for logged in self._records.log.read(
                type=kind, subject=subject, newest_first=True, limit=1000
            ):
                event = decode_event(logged.entry.body, where=logged.entry.id)
                if _lets_run(event, record.digest):
                    walk.sources[logged.entry.source] = None
                    return _approval_step(event, inspection=inspection)
        return TraceStep(
            kind="approval", id=record.digest, ok=True,
            text="nobody took this package into use here",
        )  # fmt: skip

    # ---- proofs

    def _proofs(self, walk: _Walk) -> Iterator[TraceStep]:
        for source in walk.sources:
            report = self._records.log.verify(source)
            text = f"{report.entries} entries of {source} hold"
            if not report.ok:
                text = f"{source} is broken at entry {report.broken_at}: {report.reason}"
            yield TraceStep(kind="chain", id=source, text=text, ok=report.ok)
        yield from self._anchors(walk)

    def _anchors(self, walk: _Walk) -> Iterator[TraceStep]:
        hubs = [source for source in self._records.log.heads() if source.endswith("/hub")]
        for hub in hubs if walk.sources else ():
            report = check_anchors(self._records.log, source=hub)
            text = f"{report.entries} anchored heads stand as {hub} named them"
            if not report.ok:
                text = f"anchors of {hub} do not hold: {report.reason}"
            yield TraceStep(kind="chain", id=f"{hub} anchors", text=text, ok=report.ok)


_BACK_KNOWN = frozenset(_BACK)


def trace(records: Records, identifier: str) -> Trace:
    """Walk back through a store that is open, without a running hub."""
    blobs = open_blobs("memory://")
    try:
        registry = Registry(records, blobs, clock=records.clock)
        return Tracer(records, registry=registry).trace(identifier)
    finally:
        blobs.close()


def _lets_run(event: Event, digest: Digest) -> bool:
    return event.data.get("digest") == digest and event.data.get("action") in ("used", "approved")


def _approval_step(event: Event, *, inspection: str) -> TraceStep:
    by, reason = event.data.get("by", ""), event.data.get("reason", "")
    text = f"taken into use by {by} for {inspection}: {reason}"
    if event.data.get("action") == "approved":
        text = f"approved by {by} as {event.subject}/{event.data.get('version')}: {reason}"
    return TraceStep(kind="approval", id=event.id, at=event.time, text=text, facts=dict(event.data))


def at_path(plain: Any, path: str) -> Any:  # noqa: ANN401  JSON of any shape
    """A value inside plain JSON by ``slots/A1/colour``; lists by index or by ``id``.

    Raises:
        NotFoundError: the path leads nowhere; the fix lists what is there.
    """
    value = plain
    for step in (part for part in path.split("/") if part):
        found = _step_into(value, step)
        if found is None:
            raise NotFoundError(f"nothing at {step!r}", where=path, fix=_known(value))
        value = found[0]
    return value


def _step_into(value: Any, step: str) -> tuple[Any] | None:  # noqa: ANN401
    if isinstance(value, dict):
        return (value[step],) if step in value else None
    if isinstance(value, list):
        for item in value:
            if isinstance(item, dict) and item.get("id", item.get("slot")) == step:
                return (item,)
        if step.isdigit() and int(step) < len(value):
            return (value[int(step)],)
    return None


def _known(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, dict):
        return f"Known: {', '.join(value)}."
    return f"A list of {len(value)}." if isinstance(value, list) else "This value has no parts."


def _evidence_of(value: Any) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(value, dict):
        return {}
    if "event" in value:
        return value
    found = value.get("evidence", {})
    if isinstance(found, dict) and found.get("event"):
        return found
    steps = value.get("steps")
    return dict(steps[-1]) if isinstance(steps, list) and steps else {}


def _brief(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, dict):
        told = (value.get(key) for key in ("seen", "colour", "shown", "state", "status"))
        return " ".join(str(part) for part in told if part) or "so"
    return str(value)


def _event_step(event: Event, logged: Logged) -> TraceStep:
    what = event.data.get("sentence") or event.data.get("action") or event.subject
    return TraceStep(
        kind="event", id=event.id, at=event.time, text=f"{event.type} {what}".strip(),
        facts={"source": event.source, "position": logged.position, "hash": logged.hash,
               "data": event.data},
    )  # fmt: skip


def _answers(prediction: Prediction) -> Iterator[str]:
    for label in prediction.labels:
        yield f"{label.name} {label.decision} {label.probability:.3f}"
    if prediction.count is not None:
        count = prediction.count
        yield f"count {count.value}, {count.low} to {count.high}{' or more' * count.more}"
    if prediction.boxes:
        yield f"{len(prediction.boxes)} boxes"
    if prediction.mask is not None:
        yield f"defect on {prediction.mask.share:.4%} of the picture"
    if prediction.anomaly is not None:
        anomaly = prediction.anomaly
        yield f"anomaly {anomaly.decision}, {anomaly.score:.3f} against {anomaly.limit:.3f}"


def _prediction_step(event: Event, prediction: Prediction, *, logged: Logged) -> TraceStep:
    answers = ", ".join(_answers(prediction))
    text = f"{event.subject} on {prediction.device or event.source}: {prediction.state}"
    return TraceStep(
        kind="event", id=event.id, at=event.time, text=f"{text}; {answers}" if answers else text,
        facts={"source": event.source, "position": logged.position, "hash": logged.hash,
               "frame": prediction.frame.id, "package": prediction.package,
               "registration": to_plain(prediction.registration)},
    )  # fmt: skip


def _point_step(documents: Documents, prediction: Prediction) -> TraceStep:
    """The operating point that decided; a point that no approval made is a broken link."""
    inspection, digest = prediction.inspection, prediction.operating_point
    try:
        point = point_named(documents, inspection, digest)
    except RefusedError as error:
        return TraceStep(kind="limits", id=inspection, text=error.message, ok=False)
    text = "" if point is None else point.words
    at = None if point is None else point.approved_at
    return TraceStep(kind="limits", id=inspection, at=at, text=text, facts=to_plain(point))


def _frame_step(row: FrameRow, *, digest: str = "") -> TraceStep:
    text = f"picture {short(row.digest)} of {row.camera}, {row.width_px} x {row.height_px} px"
    if row.aged_out_at is not None:
        text += f", aged out {rfc3339(row.aged_out_at)}"
    ok = not digest or digest == row.digest
    if not ok:
        text += f"; the answer was given on {short(Digest(digest))}"
    return TraceStep(
        kind="frame", id=row.id, at=row.captured_at, text=text, ok=ok, facts=to_plain(row)
    )


def _package_steps(record: PackageRecord) -> Iterator[TraceStep]:
    manifest, lineage = record.manifest, record.manifest.lineage
    yield TraceStep(
        kind="package", id=record.digest, at=record.added_at,
        text=f"package {record.name} {short(record.digest)}, code {lineage.code_version}",
        facts={"task": manifest.task, "engine": to_plain(manifest.engine)},
    )  # fmt: skip
    cuts = ", ".join(_cuts(manifest))
    yield TraceStep(kind="rule", id=record.digest, text=cuts, facts=to_plain(manifest.policy))
    text = f"trained on {lineage.dataset}, {lineage.pictures} pictures, seed {lineage.seed}"
    yield TraceStep(kind="dataset", id=lineage.dataset, text=text, facts=to_plain(lineage))


def _cuts(manifest: Manifest) -> Iterator[str]:
    """Thresholds that turned the network's numbers into a decision."""
    for rule in manifest.rules:
        yield f"{rule.name} present above {rule.high:.3f}, absent below {rule.low:.3f}"
    if manifest.classes is not None:
        for label, cut in zip(manifest.classes.labels, manifest.classes.cuts, strict=True):
            yield f"{label} possible from {cut:.3f}"
    if manifest.detect is not None:
        detect = manifest.detect
        yield f"there above {detect.cut:.3f}, sure above {detect.unsure_below:.3f}"
    if manifest.count is not None:
        count = manifest.count
        held = f"missed by at most {count.error_rate:.3f}" if count.promises else "none"
        yield f"counts up to {count.most}, intervals {held}"
    if manifest.mask is not None:
        mask = manifest.mask
        yield (
            f"{mask.label} pixels above {mask.cut:.3f}, present above {mask.present_above:.3f},"
            f" absent below {mask.absent_below:.3f}"
        )
    if manifest.anomaly is not None:
        anomaly = manifest.anomaly
        yield f"anomaly above {anomaly.limit:.3f}, unsure from {anomaly.unsure_above:.3f}"
