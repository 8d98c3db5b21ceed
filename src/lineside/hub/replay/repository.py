"""Replays as they are kept: who asked for which, how far it is, what it found.

1. A replay is a document that changes with its state, and its result another that does not. Asking,
   ending and cancelling are events of the hub's chain, each in the transaction that keeps it; the
   last one carries the result's digest.
2. Frames whose decision a kept result lists are pinned: evidence does not age out.
3. The newest ``MOST_KEPT`` stay; what the log says of the others stays with it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import msgspec

from lineside.core import (
    Clock,
    ConflictError,
    Digest,
    FrameId,
    InvalidError,
    Json,
    NotFoundError,
    decode_fast,
    digest_of,
    encode,
    new_id,
    to_plain,
)
from lineside.core.clock import require_order
from lineside.hub.eventlog.ledger import Journal, person_event
from lineside.store import Document, Documents, Records, every_document
from lineside.streams import Event
from lineside.streams.differences import EventChange
from lineside.twin.runs import TwinChange
from lineside.web.format import counted

REPLAY_SCHEMA = "lineside.replay/1"
MOST_LISTED = 500
"""Differences of one kind that are listed; all are counted."""

AS_RECORDED = "recorded"
"""In the place of a package: each frame by the package that answered it then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOrder:
    """A recorded span, and what it is to be answered and judged by.

    Attributes:
        since, until: what arrived at the hub from ``since`` on and before ``until``.
        package: digest of the package that answers, ``recorded`` for the one that answered then,
            "" to leave the answers as they were recorded.
        inspection: whose frames are asked; "" for every inspection that ``package`` answers.
        warm_up_s: how long before the span rules begin; None: as far as their memory reaches.
    """

    since: datetime
    until: datetime
    package: str = ""
    inspection: str = ""
    warm_up_s: float | None = None

    def __post_init__(self) -> None:
        require_order(self.since, self.until, where="from, to")
        if self.warm_up_s is not None and not 0 <= self.warm_up_s < 1e9:
            raise InvalidError(
                f"a warm-up of {self.warm_up_s} s", where="warm_up_s", fix="Write 0 or more."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionChange:
    """A frame that was decided otherwise.

    Attributes:
        event: the prediction in the log; ``event_after`` is what it would have been called.
        before, after: the state of the picture and what was decided, label by label.
    """

    frame: str
    camera: str
    inspection: str
    at: datetime
    before: dict[str, Any]
    after: dict[str, Any]
    package_before: Digest
    package_after: Digest
    event: str
    event_after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictChange:
    """A part that gets another verdict.

    Attributes:
        part: its id; "" where the frame is the part.
        frame: the earliest of those that its verdict rests on.
        at: capture time of its newest frame.
        before, after: verdict and reasons, ``reject: scratch 0.94``.
    """

    line: str
    part: str
    frame: str
    at: datetime
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayCounts:
    """Every frame and event of the span, once.

    Attributes:
        frames: asked again; ``frames_missing`` have no picture any more, ``frames_damaged`` one
            that cannot be read or answered: of both the recorded answer stands.
        identical: answered the same to the last bit; ``figures_moved``: decided alike, other
            figures; ``decisions_changed``: the rest.
        answers_kept: recorded answers that no package judged again; a key of stored results.
        entries: of the log that arrived in the span.
        events_same: said by the rules of both sides alike; ``events_moved``: alike but for
            fractions; ``events_changed``: the rest.
        twin_changed: places of the twin.
        verdicts_changed: parts with another verdict.
        largest_move: of a label's probability.
    """

    frames: int = 0
    frames_missing: int = 0
    frames_damaged: int = 0
    identical: int = 0
    figures_moved: int = 0
    decisions_changed: int = 0
    answers_kept: int = 0
    entries: int = 0
    events_same: int = 0
    events_moved: int = 0
    events_changed: int = 0
    twin_changed: int = 0
    verdicts_changed: int = 0
    largest_move: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordCheck:
    """Events of the rules on the recorded answers, against the log.

    Attributes:
        same: in the log with the same bytes.
        differ: in the log under the same id, with other values.
        absent: not in the log; ``only``: in the log, and not said again.
    """

    same: int = 0
    differ: int = 0
    absent: int = 0
    only: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """Result of a replay; ``digest`` covers all but ``digest``, ``seconds`` and ``engine``.

    Attributes:
        package: digest, ``recorded`` or "".
        rules: digest of the rules that were tried; "" where the plant's own stand.
        rules_begin: when the rules of both sides began to read.
        bit_identical: nothing differs: no answer, no event, no value of the twin.
        seconds: what it took; ``ms_per_frame`` of that the picture and its answer.
        remarks: what whoever reads it should know, in sentences.
    """

    since: datetime
    until: datetime
    package: str
    package_name: str
    inspections: tuple[str, ...]
    rules: str
    rules_begin: datetime
    frames: int
    counts: ReplayCounts
    bit_identical: bool
    decisions_changed: tuple[DecisionChange, ...]
    events_changed: tuple[EventChange, ...]
    twin_changed: tuple[TwinChange, ...]
    record: RecordCheck
    verdicts_changed: tuple[VerdictChange, ...] = ()
    remarks: tuple[str, ...] = ()
    engine: str = ""
    seconds: float = 0.0
    ms_per_frame: float = 0.0
    digest: str = ""
    schema: str = field(default=REPLAY_SCHEMA)


def sealed(result: ReplayResult) -> ReplayResult:
    """The result with the digest of what it says."""
    said = replace(result, engine="", seconds=0.0, ms_per_frame=0.0, digest="")
    return replace(result, digest=digest_of(encode(said)))


REPLAY_TYPE = "lineside.replay.v1"
REPLAY_KIND, RESULT_KIND = "replay", "replay-result"
ASKED = "asked"
WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
MOST_KEPT = 300
MOST_WAITING = 20
_MOST_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayLine:
    """A difference as a person reads it.

    Attributes:
        kind: ``decision``, ``verdict``, ``event`` or ``twin``.
        what: label, part or line, rule or path.
        frame: picture that shows it; "" where none does.
    """

    kind: str
    what: str
    before: str
    after: str
    at: datetime
    frame: str = ""


class ReplayView(msgspec.Struct, frozen=True, kw_only=True):
    """A replay as it stands; stored and sent with the names of its first release.

    Attributes:
        state: ``waiting``, ``running``, ``done``, ``failed`` or ``cancelled``.
        package_name: of the registry; "" where no package or several are asked.
        rules: digest of the text that was tried; "" for the plant's own rules.
        reason: why it failed.
        counts, bit_identical, digest: of the result, once it is done.
        lines: the first differences of each kind.
    """

    id: str
    state: str
    order: ReplayOrder
    requested_by: str = msgspec.field(name="asked_by")
    requested_at: datetime = msgspec.field(name="asked_at")
    package_name: str = ""
    rules: str = ""
    percent: float = 0.0
    ended_at: datetime | None = None
    reason: str = ""
    frames: int = 0
    counts: ReplayCounts = msgspec.field(default_factory=ReplayCounts)
    bit_identical: bool = False
    digest: str = ""
    remarks: tuple[str, ...] = ()
    lines: tuple[ReplayLine, ...] = ()

    @property
    def ended(self) -> bool:
        """True where the replay is done, failed or cancelled."""
        return self.state in (DONE, FAILED, CANCELLED)


class ReplayRepository:
    """Replays over records; safe from several threads and processes."""

    def __init__(self, records: Records, *, journal: Journal, site: str, clock: Clock) -> None:
        self._records = records
        self._documents: Documents = records.documents
        self._journal = journal
        self._site = site
        self._clock = clock

    # ---- looking

    def all(self) -> tuple[ReplayView, ...]:
        """Newest first."""
        return tuple(sorted(views_in(self._documents), key=lambda one: one.id, reverse=True))

    def one(self, replay_id: str) -> ReplayView:
        """``NotFoundError`` if there is none."""
        return _view(self._document(replay_id))

    def rules(self, replay_id: str) -> bytes:
        """The rules that are tried; b"" where the plant's own stand."""
        return str(self._document(replay_id).body["rules_text"]).encode()

    def result(self, replay_id: str) -> dict[str, Any]:
        """All that a replay found, plain.

        Raises:
            NotFoundError: there is no such replay, or it is not done.
        """
        view = self.one(replay_id)
        try:
            return self._documents.get(RESULT_KIND, replay_id).body
        except NotFoundError as error:
            raise NotFoundError(
                f"the replay is {view.state} and has no result", where=replay_id, fix="Wait for it."
            ) from error

    # ---- moving

    def ask(self, order: ReplayOrder, *, rules: bytes, name: str, by: str) -> ReplayView:
        """Note down a replay that somebody wants.

        Raises:
            ConflictError: too many wait already.
        """
        waiting = sum(not one.ended for one in views_in(self._documents))
        if waiting >= MOST_WAITING:
            raise ConflictError(
                f"{waiting} replays wait already", where="replays", fix="Cancel one, or wait."
            )
        view = self._new(order, rules=rules, name=name, by=by)
        self._journal.record(
            [self._event(view, ASKED, by=by)], within=lambda _: self._put(view, rules=rules)
        )
        self._tidy()
        return view

    def run(self, view: ReplayView) -> ReplayView:
        """It is at work."""
        return self._move(view, msgspec.structs.replace(view, state=RUNNING, percent=0.0))

    def keep(
        self, result: ReplayResult, *, rules: bytes, by: str, view: ReplayView | None = None
    ) -> ReplayView:
        """Keep what a replay found, and say so in the log.

        Args:
            result: what was found.
            rules: that were tried.
            by: who asked.
            view: as it was asked; None for one that is made and kept at once.

        Raises:
            ConflictError: it was cancelled, or made by another hub, meanwhile.
        """
        order = ReplayOrder(
            since=result.since, until=result.until, package=result.package,
            inspection=result.inspections[0] if len(result.inspections) == 1 else "",
        )  # fmt: skip
        before = view or self._new(order, rules=rules, name=result.package_name, by=by)
        after = msgspec.structs.replace(
            before, state=DONE, percent=100.0, ended_at=self._clock.now(), frames=result.frames,
            counts=result.counts, bit_identical=result.bit_identical, digest=result.digest,
            remarks=result.remarks, lines=tuple(lines_of(result)), package_name=result.package_name,
        )  # fmt: skip

        def keep(_: object) -> None:
            if view is not None and self.one(view.id).ended:
                raise ConflictError("the replay has ended meanwhile", where=view.id)
            self._put(after, rules=rules)
            self._documents.put(RESULT_KIND, after.id, body=to_plain(result))
            frames = sorted({FrameId(one.frame) for one in result.decisions_changed})
            if frames:
                self._records.frames.pin(frames, reason=f"replay:{after.id}")

        self._journal.record([self._event(after, DONE, by=by)], within=keep)
        self._tidy()
        return after

    def fail(self, view: ReplayView, *, reason: str) -> ReplayView:
        """It ended without a result."""
        return self._end(view, FAILED, by=view.requested_by, reason=reason)

    def cancel(self, replay_id: str, *, by: str) -> ReplayView:
        """Nobody wants it any more; ``ConflictError`` where it ended already."""
        view = self.one(replay_id)
        if view.ended:
            raise ConflictError(
                f"the replay is {view.state}", where=replay_id, fix="Nothing to do."
            )
        return self._end(view, CANCELLED, by=by, reason=f"cancelled by {by}")

    def _end(self, view: ReplayView, state: str, *, by: str, reason: str) -> ReplayView:
        after = msgspec.structs.replace(
            view, state=state, reason=reason, ended_at=self._clock.now()
        )

        def keep(_: object) -> None:
            self._move(view, after)

        self._journal.record([self._event(after, state, by=by)], within=keep)
        return after

    def _move(self, before: ReplayView, after: ReplayView) -> ReplayView:
        document = self._document(before.id)
        stored = _view(document)
        if stored.ended:
            raise ConflictError(f"the replay is {stored.state}", where=before.id, fix="Look again.")
        body = {**document.body, "view": to_plain(after)}
        self._documents.put(REPLAY_KIND, before.id, body=body, expect=document.version)
        return after

    # ---- documents

    def _new(self, order: ReplayOrder, *, rules: bytes, name: str, by: str) -> ReplayView:
        return ReplayView(
            id=new_id("rpl", clock=self._clock), state=WAITING, order=order, requested_by=by,
            requested_at=self._clock.now(), package_name=name,
            rules=digest_of(rules) if rules else "",
        )  # fmt: skip

    def _put(self, view: ReplayView, *, rules: bytes) -> None:
        body = {"view": to_plain(view), "rules_text": rules.decode()}
        self._documents.put(REPLAY_KIND, view.id, body=body)

    def _document(self, replay_id: str) -> Document:
        try:
            return self._documents.get(REPLAY_KIND, replay_id)
        except NotFoundError as error:
            raise NotFoundError(
                "no such replay", where=replay_id, fix="List /api/v1/replays."
            ) from error

    def _tidy(self) -> None:
        ended = [one for one in self.all() if one.ended]
        for one in ended[MOST_KEPT:]:
            self._documents.delete(RESULT_KIND, one.id)
            self._documents.delete(REPLAY_KIND, one.id)

    def _event(self, view: ReplayView, action: str, *, by: str) -> Event:
        order = to_plain(view.order)
        data: dict[str, Json] = {
            "action": action, "replay": view.id, "by": by, "package": order["package"],
            "inspection": order["inspection"], "rules": view.rules, "since": order["since"],
            "until": order["until"],
        }  # fmt: skip
        if action == DONE:
            data |= {"digest": view.digest, "frames": view.frames, "counts": to_plain(view.counts)}
        if view.reason:
            data["reason"] = view.reason
        return person_event(
            REPLAY_TYPE, subject=view.id, site=self._site, clock=self._clock, data=data
        )


def _view(document: Document) -> ReplayView:
    where = f"{REPLAY_KIND} {document.id}"
    return decode_fast(ReplayView, encode(document.body["view"]), where=where)


def views_in(documents: Documents) -> Iterator[ReplayView]:
    """Every replay, oldest first."""
    return map(_view, every_document(documents, REPLAY_KIND))


def replays_of(documents: Documents, package: str) -> tuple[ReplayView, ...]:
    """Those of a package that found something out, newest first."""
    found = [
        one for one in views_in(documents) if one.state == DONE and one.order.package == package
    ]
    return tuple(sorted(found, key=lambda one: one.id, reverse=True))


# ---- in words


def lines_of(result: ReplayResult) -> Iterator[ReplayLine]:
    """The first differences of each kind, as a person reads them."""
    for one in result.decisions_changed[:_MOST_SHOWN]:
        before, after = _differing(one.before, one.after)
        yield ReplayLine(
            kind="decision", what=one.inspection, before=before, after=after, at=one.at,
            frame=one.frame,
        )  # fmt: skip
    for part in result.verdicts_changed[:_MOST_SHOWN]:
        yield ReplayLine(
            kind="verdict", what=part.part or part.line, before=part.before, after=part.after,
            at=part.at, frame=part.frame,
        )  # fmt: skip
    for event in result.events_changed[:_MOST_SHOWN]:
        said = _event_sides(event)
        shown = event.after or event.before
        frame = str(shown.data.get("frame", "")) if shown else ""
        yield ReplayLine(
            kind="event", what=event.rule, before=said[0], after=said[1], at=event.at, frame=frame
        )
    for place in result.twin_changed[:_MOST_SHOWN]:
        frame = place.after_evidence.frame or place.before_evidence.frame
        yield ReplayLine(
            kind="twin", what=place.path, before=_words(place.before), after=_words(place.after),
            at=place.first_at, frame=frame,
        )  # fmt: skip


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, str]:
    """Only what is not alike, of two decisions."""
    sides = [dict(_parts(one)) for one in (before, after)]
    names = [name for name in sides[0] | sides[1] if sides[0].get(name) != sides[1].get(name)]
    told = [", ".join(side[name] for name in names if name in side) for side in sides]
    return told[0] or "nothing", told[1] or "nothing"


def _parts(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if result["state"] != "ok":
        yield "state", str(result["state"])
    for one in result.get("labels", ()):
        yield f"label {one['name']}", f"{one['name']} {one['decision']}"
    boxes: Sequence[Mapping[str, Any]] = result.get("boxes", ())
    if boxes:
        yield "boxes", f"{len(boxes)} boxes: {', '.join(str(one['label']) for one in boxes[:6])}"
    if "count" in result:
        count = result["count"]
        more = " or more" if count["more"] else ""
        yield "count", f"{count['value']} ({count['low']} to {count['high']}{more})"
    if "anomaly" in result:
        yield "anomaly", f"anomaly {result['anomaly']['decision']}"


def _event_sides(change: EventChange) -> tuple[str, str]:
    """Both sides of an event; of one that both say, only what is not alike."""
    sides = [one.data if one is not None else None for one in (change.before, change.after)]
    values = [dict(one.get("values", {})) if one else {} for one in sides]
    alike = {name for name in values[0] if values[0][name] == values[1].get(name)}
    before, after = (
        "nothing" if data is None else _event_words(data, told, but=alike)
        for data, told in zip(sides, values, strict=True)
    )
    return before, after


def _event_words(
    data: Mapping[str, Any], values: Mapping[str, Any], *, but: Collection[str]
) -> str:
    """Return an event's values, without the figures in ``but`` and the names of frames."""
    if "name" not in data:
        return str(data.get("sentence") or f"{data.get('action', '')} {data.get('state', '')}")
    key = ", ".join(str(value) for value in data.get("key", {}).values())
    told = {name: value for name, value in values.items() if name not in but}
    plain = ", ".join(f"{k} {v}" for k, v in told.items() if not str(v).startswith("frm_"))
    return " ".join(part for part in (str(data["action"]), key, plain) if part)[:200]


def _words(value: Any) -> str:  # noqa: ANN401  JSON of any shape
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        names = sorted(value, key=lambda name: (name != "seen", name))
        return ", ".join(_words(value[name]) for name in names if value[name] not in ("", []))
    return " or ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def replay_words(view: ReplayView) -> str:
    """Return the result of a replay as a sentence; "" while it is not done."""
    if view.state != DONE:
        return ""
    frames = counted(view.frames, "frame")
    if view.bit_identical:
        return f"{frames}: nothing differs, to the last bit."
    counts = view.counts
    get = "gets" if counts.verdicts_changed == 1 else "get"
    parts = f" {counted(counts.verdicts_changed, 'part')} {get} another verdict."
    return (
        f"{frames}: {counts.decisions_changed} decided otherwise;"
        f" {counted(counts.events_changed, 'event')} and"
        f" {counted(counts.twin_changed, 'place')} of the twin differ."
        f"{parts if counts.verdicts_changed else ''}"
    )
