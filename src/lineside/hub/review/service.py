"""The review queue: what waits for a person, their answers, and the quality that follows from them.

An item is a document; so is its place in the queue of its inspection, whose id sorts it:
disagreements, then what is for review, then the random audit, newest first in each. A settled item
has a place by its time instead, from which figures are counted. Answers are events of the log,
written in the transaction that moves the item: a kill leaves both or neither.

What the queue holds is bounded: of each inspection and kind the newest ``MOST_WAITING``.
"""

import heapq
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from lineside.core import (
    Clock,
    ConflictError,
    Inspection,
    InvalidError,
    NotFoundError,
    Plant,
    decode,
    rfc3339,
    stable_id,
    to_plain,
)
from lineside.datasets import label_names
from lineside.datasets.versions import check_name
from lineside.hub.eventlog.ledger import Ledger
from lineside.hub.eventlog.topics import hub_source
from lineside.hub.ingest.answers import PredictionAnswer
from lineside.hub.ingest.frames import Frames
from lineside.hub.learning.datasets import Datasets, Teaching
from lineside.hub.review.items import (
    OK,
    REVIEW_SCHEMA,
    REVIEW_TYPE,
    ReviewAnswer,
    ReviewChoice,
    ReviewItem,
    ReviewStatus,
    answered,
    choice_of,
    choices_of,
    is_drawn,
    may_see,
    review_share,
    visible_answers,
    withdrawn,
)
from lineside.hub.views import Picture
from lineside.store import Document, FrameRow, Records
from lineside.store.contract import every_document
from lineside.streams import Event
from lineside.streams.rules.records import microseconds
from lineside.streams.verdicts import reject_rule
from lineside.vision.audit import Agreement, AuditFigures, AuditStratum, agreement, audit_figures
from lineside.vision.decide import says_good
from lineside.vision.verdict import PartVerdict, judge_prediction

MOST_WAITING = 5_000
SPAN = timedelta(days=7)
_KIND = "review"
_KEY = "review-key"
_LAST_US = 10**17 - 1
_TRIM_EVERY = 500
_MOST_LOOKED_AT = 5_000
_MOST_COUNTED = 100
_COUNT_FOR_S = 2.0
_KEPT_FOR, _MOST_FIGURES = 20.0, 100
_COMES_WITHIN = timedelta(hours=1)
_TRIES = 5
_READ = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewFinding:
    """An inspection's answer to a picture in review, with its origin.

    Attributes:
        event: id of the prediction event.
        reasons: why it is for review, or rejected.
    """

    frame: str
    part: str
    captured_at: datetime
    package: str
    event: str
    verdict: PartVerdict
    label: str
    score: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewView:
    """A picture in review, as a person may see it now.

    Attributes:
        audit: whether it was drawn at random.
        choices: answers on offer, in the order of their keys.
        answers: of a picture that still waits, the person's own alone.
        finding: None for an audited picture before it is settled.
        cursor: ``after`` for the pictures behind it; "" for one that does not wait.
    """

    id: str
    inspection: str
    camera: str
    audit: bool
    status: ReviewStatus
    width_px: int
    height_px: int
    choices: tuple[ReviewChoice, ...]
    answers: tuple[ReviewAnswer, ...]
    finding: ReviewFinding | None
    cursor: str = ""


class ReviewPage(NamedTuple):
    """A page of the queue; ``following``: cursor of the next, "" at the end."""

    items: tuple[ReviewView, ...]
    following: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReviewAnswer:
    """Body of ``POST /review/{item}/answer``.

    Attributes:
        answer: the value of a choice.
        settles: it settles two answers that differ.
        dataset: also add the picture to this dataset, with the answer as its label; "" for none.
    """

    answer: str
    settles: bool = False
    dataset: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewQuality:
    """Quality of an inspection, by its audit within a span of capture times.

    Attributes:
        passed, rejected: audited and settled pictures by the verdict they had.
        waiting: audited pictures that are not settled, whatever their verdict.
        figures: rates with 95 % intervals.
        agreement: of two people on the same pictures; None where nobody answered twice.
    """

    inspection: str
    since: datetime
    until: datetime
    audit: float
    passed: AuditStratum
    rejected: AuditStratum
    waiting: int
    figures: AuditFigures
    agreement: Agreement | None


class Reviews:
    """The pictures in review."""

    def __init__(
        self, records: Records, *, ledger: Ledger, frames: Frames, datasets: Datasets,
        plant: Plant, clock: Clock,
    ) -> None:  # fmt: skip
        self._records = records
        self._documents = records.documents
        self._ledger = ledger
        self._frames = frames
        self._datasets = datasets
        self._plant = plant
        self._clock = clock
        self._secret = ""
        self._added: Counter[str] = Counter()
        self._counted: dict[str, tuple[float, int]] = {}
        self._figures: dict[tuple[str, int, int], tuple[float, ReviewQuality]] = {}

    # ---- what comes in

    def take(self, judged: Sequence[PredictionAnswer]) -> None:
        """Keep what is for review or drawn for the audit; twice is as once."""
        found = [item for one in judged if (item := self._item_of(one)) is not None]
        if not found:
            return
        with self._records.transaction():
            added = [item for item in found if self._add(item)]
        if added:
            self._counted = {}
        for item in added:
            self._added[item.inspection] += 1
            if self._added[item.inspection] % _TRIM_EVERY == 0:
                self._trim(item.inspection)

    def _item_of(self, judged: PredictionAnswer) -> ReviewItem | None:
        prediction, answer = judged.prediction, judged.answer
        inspection = self._inspection(prediction.inspection)
        if inspection is None:
            return None
        share, key = review_share(inspection, answer.verdict), self._key()
        drawn = is_drawn(share, key=key, inspection=inspection.id, frame=answer.frame)
        if answer.verdict is not PartVerdict.REVIEW and not drawn:
            return None
        judgement = judge_prediction(prediction, reject_rule(inspection))
        return ReviewItem(
            id=stable_id("rev", key, inspection.id, answer.frame), frame=answer.frame,
            camera=answer.camera, inspection=inspection.id, part=prediction.frame.part,
            captured_at=answer.captured_at, package=answer.package, event=judged.event,
            verdict=answer.verdict, label=answer.label, score=answer.score,
            reasons=judgement.reasons, share=share if drawn else 0.0,
        )  # fmt: skip

    def _add(self, item: ReviewItem) -> bool:
        try:
            self._documents.put(_KIND, item.id, body=to_plain(item), expect=0)
        except ConflictError:
            return False
        kind, name = _place(item)
        self._documents.put(kind, name, body=_summary(item))
        return True

    def _trim(self, inspection: str) -> None:
        """Drop the oldest of what waits beyond the bound; disagreements stay."""
        waiting: Counter[str] = Counter()
        for place in every_document(self._documents, _waiting(inspection)):
            rank = place.id[0]
            waiting[rank] += 1
            if waiting[rank] > MOST_WAITING and rank > "0" and not place.body["by"]:
                self._drop(place)

    def _drop(self, place: Document) -> None:
        self._counted = {}
        with self._records.transaction():
            self._documents.delete(place.kind, place.id)
            self._documents.delete(_KIND, place.body["item"])

    def _inspection(self, name: str) -> Inspection | None:
        """The inspection as the plant declares it now; None where it does not any more."""
        return next((one for one in self._plant.inspection if one.id == name), None)

    def _key(self) -> str:
        """The hub's own key, by which the audit is drawn; the same for every hub."""
        if not self._secret:
            body = {
                "schema": "lineside.review-key/1", "secret": secrets.token_urlsafe(30),
                "issued_at": rfc3339(self._clock.now()),
            }  # fmt: skip
            try:
                self._documents.put(_KEY, "hub", body=body, expect=0)
            except ConflictError:
                body = self._documents.get(_KEY, "hub").body
            self._secret = str(body["secret"])
        return self._secret

    # ---- the queue

    def page(
        self, *, by: str, line: str = "", inspection: str = "", after: str = "", limit: int = 20
    ) -> ReviewPage:
        """Return what waits for this person, behind the cursor ``after``."""
        found: list[ReviewView] = []
        last, looked_at = "", 0
        for place in self._queue(self.inspections(line=line, inspection=inspection), after=after):
            if len(found) == limit or looked_at == _MOST_LOOKED_AT:
                return ReviewPage(tuple(found), last)
            last, looked_at = place.id, looked_at + 1
            if place.id.startswith("0") or by not in place.body["by"]:
                found += filter(None, [self._shown(place, by=by)])
        return ReviewPage(tuple(found), "")

    def count(self, line: str = "") -> int:
        """Number of pictures that wait, of a line or of all, up to a hundred; two seconds old."""
        now = self._clock.monotonic()
        at, count = self._counted.get(line, (-_COUNT_FOR_S, 0))
        if now - at >= _COUNT_FOR_S:
            places = self._queue(self.inspections(line=line), after="")
            count = sum(1 for _ in zip(range(_MOST_COUNTED), places, strict=False))
            self._counted[line] = now, count
        return count

    def one(self, item: str, *, by: str) -> ReviewView:
        """Return a picture in review; ``NotFoundError`` where there is none."""
        found, _ = self._read(item)
        return self._view(found, self._frames.row(found.frame), by=by)

    def picture(self, item: str, *, small: bool = False) -> Picture:
        """Return its bytes, or those of its thumbnail."""
        frame = self._read(item)[0].frame
        return self._frames.thumbnail(frame) if small else self._frames.picture(frame)

    def inspections(self, *, line: str = "", inspection: str = "") -> list[Inspection]:
        """The inspections of a line, or one, or all; ``InvalidError`` for a wrong name."""
        if inspection:
            return [self._plant.find_inspection(inspection)]
        if line and line not in {one.id for one in self._plant.line}:
            known = ", ".join(one.id for one in self._plant.line) or "none"
            raise InvalidError(f"no line {line!r}", where="line", fix=f"Lines: {known}.")
        cameras = {one.id for one in self._plant.camera if not line or one.line == line}
        return [one for one in self._plant.inspection if one.camera in cameras]

    def _queue(self, inspections: Iterable[Inspection], *, after: str) -> Iterator[Document]:
        each = [
            every_document(self._documents, _waiting(one.id), after=after, size=_READ)
            for one in inspections
        ]
        return heapq.merge(*each, key=lambda place: place.id)

    def _shown(self, place: Document, *, by: str) -> ReviewView | None:
        """The picture at a place; None where it has not come yet, or aged out, which drops it."""
        try:
            item = self._read(place.body["item"])[0]
        except NotFoundError:  # dropped in between
            return None
        try:
            row = self._frames.row(item.frame)
        except NotFoundError:
            row = None
        late = self._clock.now() - item.captured_at > _COMES_WITHIN
        if row.aged_out_at is not None if row else late:
            self._drop(place)
            return None
        return self._view(item, row, by=by) if row else None

    def _view(self, item: ReviewItem, row: FrameRow, *, by: str) -> ReviewView:
        kind, name = _place(item)
        inspection = self._inspection(item.inspection)
        return ReviewView(
            id=item.id, inspection=item.inspection, camera=item.camera, audit=item.is_audit,
            status=item.status, width_px=row.width_px, height_px=row.height_px,
            choices=choices_of(inspection) if inspection else (),
            answers=visible_answers(item, by=by), finding=_finding(item) if may_see(item) else None,
            cursor=name if kind == _waiting(item.inspection) else "",
        )  # fmt: skip

    def _read(self, item: str) -> tuple[ReviewItem, int]:
        document = self._documents.get(_KIND, item)
        return decode(ReviewItem, document.body, where=item), document.version

    # ---- answers

    def answer(self, item: str, given: NewReviewAnswer, *, by: str) -> ReviewView:
        """Count an answer, once however often it comes.

        Raises:
            NotFoundError: no such picture in review.
            InvalidError: the answer is not on offer, or the dataset cannot have that name.
            ConflictError: the person gave another answer, or the picture is settled.
        """
        if given.dataset:
            check_name(given.dataset)

        def change(before: ReviewItem) -> ReviewItem:
            inspection = self._plant.find_inspection(before.inspection)
            choice = choice_of(inspection, given.answer)
            new = ReviewAnswer(
                by=by, at=self._clock.now(), answer=choice.value, verdict=choice.verdict,
                event=_event_id(before), dataset=given.dataset,
            )  # fmt: skip
            return answered(before, new, reviewers=inspection.reviewers, settles=given.settles)

        after = self._change(item, change, action="answered", by=by)
        if given.dataset:
            self._datasets.teach(given.dataset, self._teaching(after, given.answer), by=by)
        return self.one(item, by=by)

    def undo(self, item: str, *, by: str) -> ReviewView:
        """Take the person's newest answer back, also out of the dataset that it went to.

        Raises:
            NotFoundError: no such picture, or no answer of this person.
            ConflictError: somebody answered behind it.
        """
        undone: list[ReviewAnswer] = []

        def change(before: ReviewItem) -> ReviewItem:
            inspection = self._plant.find_inspection(before.inspection)
            after = withdrawn(before, by=by, reviewers=inspection.reviewers)
            undone[:] = before.answers[-1:]
            return after

        after = self._change(item, change, action="withdrawn", by=by)
        for one in undone:
            if one.dataset:
                self._datasets.withdraw(one.dataset, after.frame, by=by)
        return self.one(item, by=by)

    def _change(
        self, item: str, change: Callable[[ReviewItem], ReviewItem], *, action: str, by: str
    ) -> ReviewItem:
        """Change an item and say so in the log; again where somebody changed it in between."""
        for left in reversed(range(_TRIES)):
            before, version = self._read(item)
            after = change(before)
            if after is before:
                return before
            event = self._event(before, after, action=action, by=by)
            move = partial(self._move, before, after, version)
            try:
                self._ledger.record([event], within=move)
            except ConflictError:
                if not left:
                    raise
            else:
                self._counted = {}
                return after
        raise AssertionError(item)

    def _move(
        self, before: ReviewItem, after: ReviewItem, version: int, _logged: object = None
    ) -> None:
        self._documents.put(_KIND, after.id, body=to_plain(after), expect=version)
        old, new = _place(before), _place(after)
        if old != new:
            self._documents.delete(*old)
        self._documents.put(*new, body=_summary(after))

    def _event(self, before: ReviewItem, after: ReviewItem, *, action: str, by: str) -> Event:
        kept = after if action == "answered" else before
        answer = kept.answers[-1]
        data = {
            "schema": REVIEW_SCHEMA, "action": action, "by": by, "item": after.id,
            "frame": after.frame, "camera": after.camera, "part": after.part,
            "inspection": after.inspection, "package": after.package, "prediction": after.event,
            "answer": answer.answer, "answer_verdict": str(answer.verdict),
            "verdict": str(after.verdict), "label": after.label, "score": after.score,
            "audit": after.share, "status": str(after.status),
        }  # fmt: skip
        return Event(
            id=_event_id(before), source=hub_source(self._plant.site), type=REVIEW_TYPE,
            subject=after.inspection, time=self._clock.now(), data=data,
        )  # fmt: skip

    def _teaching(self, item: ReviewItem, answer: str) -> Teaching:
        """The answer as a label of the dataset, where the inspection has one that says it."""
        inspection = self._plant.find_inspection(item.inspection)
        names = label_names(inspection)
        good = [name for name in names if says_good(name, named=inspection.good)]
        label = answer if answer in names else good[0] if answer == OK and good else ""
        if not label:
            return Teaching(frames=(item.frame,), judged=False)
        return Teaching(frames=(item.frame,), labels=(label,), inspection=inspection.id)

    # ---- quality

    def quality(
        self, *, line: str = "", inspection: str = "", since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[ReviewQuality]:  # fmt: skip
        """Return the figures of each inspection, of the last seven days where no span is given."""
        end = until or self._clock.now()
        start = since or end - SPAN
        return [
            self._cached_quality(one, since=start, until=end)
            for one in self.inspections(line=line, inspection=inspection)
        ]

    def _cached_quality(
        self, inspection: Inspection, *, since: datetime, until: datetime
    ) -> ReviewQuality:
        """The figures, kept for so long that counting them takes a twentieth of the time."""
        key = inspection.id, int(since.timestamp()) // 60, int(until.timestamp()) // 60
        begun = self._clock.monotonic()
        if key in self._figures and begun < self._figures[key][0]:
            return self._figures[key][1]
        if len(self._figures) >= _MOST_FIGURES:
            self._figures.clear()
        found = self._quality(inspection, since=since, until=until)
        now = self._clock.monotonic()
        self._figures[key] = now + _KEPT_FOR * (now - begun), found
        return found

    def _quality(
        self, inspection: Inspection, *, since: datetime, until: datetime
    ) -> ReviewQuality:
        settled = list(self._settled(inspection.id, since=since, until=until))
        audited = [one for one in settled if one["share"]]
        passed, rejected = (_stratum(one, audited) for one in (PartVerdict.OK, PartVerdict.REJECT))
        pairs = [(one["answers"][0], one["answers"][1]) for one in settled if one["answers"][1:]]
        return ReviewQuality(
            inspection=inspection.id, since=since, until=until, audit=inspection.audit,
            passed=passed, rejected=rejected,
            waiting=self._audit_waiting(inspection.id, since=since, until=until),
            figures=audit_figures(passed=passed, rejected=rejected),
            agreement=agreement(pairs),
        )  # fmt: skip

    def _settled(
        self, inspection: str, *, since: datetime, until: datetime
    ) -> Iterator[dict[str, Any]]:
        last = f"{microseconds(until):017d}"
        for place in every_document(
            self._documents, _done(inspection), after=f"{microseconds(since):017d}", size=1000
        ):
            if place.id >= last:
                return
            yield place.body

    def _audit_waiting(self, inspection: str, *, since: datetime, until: datetime) -> int:
        """Count the audited pictures of a span that wait; nobody may know of which verdict."""
        found = 0
        for rank in ("0", "2"):
            first, last = (f"{rank}-{_LAST_US - microseconds(one):017d}" for one in (until, since))
            for place in every_document(self._documents, _waiting(inspection), after=first):
                if place.id > f"{last}~":
                    break
                found += bool(place.body["share"])
        return found


def _event_id(before: ReviewItem) -> str:
    return stable_id("evt", before.id, f"{before.revision}")


def _waiting(inspection: str) -> str:
    return f"review-waiting/{inspection}"


def _done(inspection: str) -> str:
    return f"review-done/{inspection}"


def _place(item: ReviewItem) -> tuple[str, str]:
    """Kind and id of the document that sorts an item."""
    captured_us = microseconds(item.captured_at)
    if item.status is ReviewStatus.DONE:
        return _done(item.inspection), f"{captured_us:017d}-{item.id}"
    rank = 0 if item.status is ReviewStatus.DISAGREEMENT else 2 if item.is_audit else 1
    return _waiting(item.inspection), f"{rank}-{_LAST_US - captured_us:017d}-{item.id}"


def _summary(item: ReviewItem) -> dict[str, Any]:
    """Summarise an item for the queue and the figures, which do not read it."""
    return {
        "item": item.id, "share": item.share, "verdict": str(item.verdict),
        "by": [one.by for one in item.answers], "answers": [one.answer for one in item.answers],
        "found": str(item.answers[-1].verdict) if item.answers else "",
    }  # fmt: skip


def _finding(item: ReviewItem) -> ReviewFinding:
    return ReviewFinding(
        frame=item.frame, part=item.part, captured_at=item.captured_at, package=item.package,
        event=item.event, verdict=item.verdict, label=item.label, score=item.score,
        reasons=item.reasons,
    )  # fmt: skip


def _stratum(verdict: PartVerdict, audited: Sequence[dict[str, Any]]) -> AuditStratum:
    """The settled pictures of a verdict; people answer blindly, so those that wait are alike."""
    mine = [one for one in audited if one["verdict"] == verdict]
    good = sum(one["found"] == PartVerdict.OK for one in mine)
    return AuditStratum(
        good=good, bad=len(mine) - good, parts=sum(1.0 / one["share"] for one in mine)
    )
