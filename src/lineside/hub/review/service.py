"""The review queue: what waits for a person, their answers, and the quality that follows from them.

An item is a document; so is its place in the queue of its inspection, whose id sorts it:
disagreements, then what is for review, then the random audit. What is for review goes by doubt,
greatest first, as lists of frames do (``hub.ingest.answers``), and newest first where that is
equal. The others go newest first: the order of the audit tells nothing of what was judged. A
settled item has a place by its time instead, from which figures are counted. Answers are events of
the log, written in the transaction that moves the item: a kill leaves both or neither.

What the queue holds is bounded: of each inspection and kind the newest ``MOST_WAITING``, whatever
their doubt.
"""

import heapq
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

from lineside.core import (
    Clock,
    ConflictError,
    Inspection,
    InvalidError,
    Json,
    LinesideError,
    NotFoundError,
    Plant,
    decode,
    parse_rfc3339,
    rfc3339,
    stable_id,
    to_plain,
)
from lineside.core.errors import retry_stale
from lineside.core.plant import Task
from lineside.datasets import label_names
from lineside.datasets.versions import check_name
from lineside.hub.eventlog.ledger import Ledger
from lineside.hub.eventlog.topics import hub_source
from lineside.hub.ingest.answers import PredictionAnswer, answer_of
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
    may_tell,
    review_share,
    visible_answers,
    withdrawn,
)
from lineside.hub.views import Picture
from lineside.store import Document, FrameRow, Records
from lineside.store.contract import every_document
from lineside.streams import Event, decode_event, read_prediction
from lineside.streams.rules.records import microseconds
from lineside.vision.audit import Agreement, AuditFigures, AuditStratum, agreement, audit_figures
from lineside.vision.decide import says_good
from lineside.vision.verdict import PartVerdict, judge_prediction, reject_rule

MOST_WAITING = 5_000
MOST_COUNTED = 100
SPAN = timedelta(days=7)
_KIND = "review"
_KEY = "review-key"
_LAST_US = 10**17 - 1
_WITHOUT_DOUBT = "1-9"
_TIDY_EVERY = 500
_MOST_UPGRADED = 200
_MOST_LOOKED_AT = 5_000
_COUNT_FOR_S = 2.0
_KEPT_FOR, _MOST_FIGURES = 20.0, 100
_COMES_WITHIN = timedelta(hours=1)
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
        status: ``open``, ``disagreement`` or ``done``.
        choices: answers on offer, in the order of their keys.
        answers: of a picture that still waits, the person's own alone.
        finding: None for an audited picture before it is settled.
        cursor: its id, ``after`` for the pictures behind it; "" for one that does not wait.
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
        passed, rejected: audited and settled pictures by the verdict they had, and of about how
            many ``parts``.
        waiting: audited pictures that are not settled, whatever their verdict.
        disagreements: those of them of which two people differ; no rate has them.
        figures: rates with 95 % intervals; None where no part was judged.
        agreement: of two people on the same pictures, settled or not; None where nobody answered
            twice.
    """

    inspection: str
    since: datetime
    until: datetime
    audit: float
    passed: AuditStratum
    rejected: AuditStratum
    waiting: int
    disagreements: int
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
        self._counted: dict[tuple[str, str], tuple[float, int]] = {}
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
        for inspection, count in Counter(item.inspection for item in added).items():
            before = self._added[inspection]
            is_due = -before % _TIDY_EVERY < count  # the first one of a start too
            is_done = not is_due or self._tidy(inspection)
            self._added[inspection] = before + count if is_done else 0

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
            reasons=judgement.reasons, share=share if drawn else 0.0, doubt=answer.doubt,
        )  # fmt: skip

    def _add(self, item: ReviewItem) -> bool:
        try:
            self._documents.put(_KIND, item.id, body=to_plain(item), expect=0)
        except ConflictError:
            return False
        kind, name = _place(item)
        self._documents.put(kind, name, body=_summary(item))
        return True

    def _tidy(self, inspection: str) -> bool:
        """Drop the oldest of what waits beyond the bound; give items of schema 1 their doubt.

        At most ``_MOST_UPGRADED`` of them; returns whether none is left.
        """
        old: list[Document] = []
        for rank in "12":  # disagreements stay
            places = list(every_document(self._documents, _waiting(inspection), prefix=rank))
            places.sort(key=lambda place: place.id.split("-")[-2])
            for place in places[MOST_WAITING:]:
                if not place.body["by"]:
                    self._drop(place)
            if rank == "1":
                old = [place for place in places[:MOST_WAITING] if place.id >= _WITHOUT_DOUBT]
        for place in old[:_MOST_UPGRADED]:
            self._upgrade(place.body["item"])
        return len(old) <= _MOST_UPGRADED

    def _upgrade(self, item: str) -> None:
        """Give an item of schema 1 its doubt, and the place that follows from it."""
        with suppress(NotFoundError, ConflictError, InvalidError), self._records.transaction():
            before, version = self._read(item)
            if before.doubt is None:
                after = replace(before, doubt=self._doubt_of(before), schema="lineside.review/2")
                self._move(before, after, version)

    def _doubt_of(self, item: ReviewItem) -> float:
        """The doubt of the prediction in the log; 0 where it was pruned or cannot be read."""
        try:
            logged = self._records.log.get(item.event)
            prediction = read_prediction(decode_event(logged.entry.body, where=item.id))
        except LinesideError:
            return 0.0
        return answer_of(prediction, self._inspection(item.inspection)).doubt

    def _drop(self, place: Document) -> None:
        """Delete an item as it was read in its place; one that was answered since stays."""
        self._counted = {}
        with suppress(NotFoundError, ConflictError), self._records.transaction():
            item, version = self._read(place.body["item"])
            if [one.by for one in item.answers] == place.body["by"]:
                # written once more, so that an answer at another hub is refused or comes first
                self._documents.put(_KIND, item.id, body=to_plain(item), expect=version)
                self._documents.delete(place.kind, place.id)
                self._documents.delete(_KIND, item.id)

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
        """Return what waits for this person, behind the picture ``after``.

        From the head where that picture is in review no more. The cursor of the next page has the
        time of the first, since when no disagreement moves to the head, which was read before.
        """
        found: list[ReviewView] = []
        item, _, time = after.partition("@")
        begun = parse_rfc3339(time, where="after") if time else None
        here = rfc3339(begun or self._clock.now())
        last, looked_at, begin = "", 0, self._behind(item, begun)
        asked = self.inspections(line=line, inspection=inspection)
        for place in self._queue(asked, after=begin, begun=begun):
            if len(found) == limit or looked_at == _MOST_LOOKED_AT:
                return ReviewPage(tuple(found), f"{last}@{here}")
            if place.id.startswith("0") or by not in place.body["by"]:
                view = self._shown(place, by=by)
                if view is None:
                    continue  # a place that may be gone is no cursor
                found.append(view)
            last, looked_at = place.body["item"], looked_at + 1
        return ReviewPage(tuple(found), "")

    def _behind(self, item: str, begun: datetime | None) -> str:
        """The place in the queue that a picture has, or had before it was settled."""
        if not item:
            return ""
        try:
            return _waiting_place(self._read(item)[0], begun=begun)
        except NotFoundError:
            return ""

    def count(self, line: str = "", *, inspection: str = "") -> int:
        """Number of pictures that wait, of a line, of an inspection or of all; two seconds old.

        ``MOST_COUNTED`` stands for that many and more.
        """
        now = self._clock.monotonic()
        at, count = self._counted.get((line, inspection), (-_COUNT_FOR_S, 0))
        if now - at >= _COUNT_FOR_S:
            places = self._queue(self.inspections(line=line, inspection=inspection), after="")
            count = sum(1 for _ in zip(range(MOST_COUNTED), places, strict=False))
            self._counted[line, inspection] = now, count
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

    def _queue(
        self, inspections: Iterable[Inspection], *, after: str, begun: datetime | None = None
    ) -> Iterator[Document]:
        """Places behind ``after``; that of a disagreement since ``begun`` comes where it was."""
        read = partial(every_document, self._documents, size=_READ)
        kinds = [_waiting(one.id) for one in inspections]
        moved = {
            place.id: (self._behind(place.body["item"], begun), place)
            for kind in (kinds if begun else ())
            for place in read(kind, prefix="0")
            if begun and place.updated_at >= begun
        }
        places = (
            ((place.id, place) for place in read(kind, after=after) if place.id not in moved)
            for kind in kinds
        )
        before = sorted((one for one in moved.values() if one[0] > after), key=itemgetter(0))
        return (place for _, place in heapq.merge(*places, before, key=itemgetter(0)))

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
        inspection = self._inspection(item.inspection)
        return ReviewView(
            id=item.id, inspection=item.inspection, camera=item.camera, audit=item.is_audit,
            status=item.status, width_px=row.width_px, height_px=row.height_px,
            choices=choices_of(inspection) if inspection else (),
            answers=visible_answers(item, by=by), finding=_finding(item) if may_see(item) else None,
            cursor="" if item.status is ReviewStatus.DONE else item.id,
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

        The dataset comes first: an undo that a kill cuts short is done by the next one.

        Raises:
            NotFoundError: no such picture, or no answer of this person.
            ConflictError: somebody answered behind it.
        """

        def change(before: ReviewItem) -> ReviewItem:
            inspection = self._plant.find_inspection(before.inspection)
            after = withdrawn(before, by=by, reviewers=inspection.reviewers)
            dataset = before.answers[-1].dataset
            if dataset:
                self._datasets.withdraw(dataset, before.frame, by=by)
            return after

        self._change(item, change, action="withdrawn", by=by)
        return self.one(item, by=by)

    @retry_stale
    def _change(
        self, item: str, change: Callable[[ReviewItem], ReviewItem], *, action: str, by: str
    ) -> ReviewItem:
        """Change an item and say so in the log; again where somebody changed it in between."""
        before, version = self._read(item)
        after = change(before)
        if after is not before:
            event = self._event(before, after, action=action, by=by)
            self._ledger.record([event], within=partial(self._move, before, after, version))
            self._counted = {}
        return after

    def _move(
        self, before: ReviewItem, after: ReviewItem, version: int, _logged: object = None
    ) -> None:
        self._documents.put(_KIND, after.id, body=to_plain(after), expect=version)
        old, new = _place(before), _place(after)
        if old != new:
            self._documents.delete(*old)
        self._documents.put(*new, body=_summary(after))

    def _event(self, before: ReviewItem, after: ReviewItem, *, action: str, by: str) -> Event:
        data: dict[str, Json] = {
            "schema": REVIEW_SCHEMA, "action": action, "by": by, "item": after.id,
            "camera": after.camera, "inspection": after.inspection, "status": str(after.status),
        }  # fmt: skip
        if may_tell(before) or may_tell(after):
            data |= _evidence(after, answers=max(before.answers, after.answers, key=len))
        return Event(
            id=_event_id(before), source=hub_source(self._plant.site), type=REVIEW_TYPE,
            subject=after.inspection, time=self._clock.now(), data=data,
        )  # fmt: skip

    def _teaching(self, item: ReviewItem, answer: str) -> Teaching:
        """The answer as labels of the dataset, where the inspection has some that say it.

        A part that is ok shows none of the defects of a mask.
        """
        inspection = self._plant.find_inspection(item.inspection)
        names = label_names(inspection)
        good = [name for name in names if says_good(name, named=inspection.good)]
        labels = (answer,) if answer in names else tuple(good[:1]) if answer == OK else ()
        judged = bool(labels) or (answer == OK and inspection.task is Task.SEGMENT)
        if not judged:
            return Teaching(frames=(item.frame,), judged=False)
        return Teaching(frames=(item.frame,), labels=labels, inspection=inspection.id)

    # ---- quality

    def quality(
        self, *, line: str = "", inspection: str = "", since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[ReviewQuality]:  # fmt: skip
        """Return the figures of each inspection, of the last seven days where no span is given.

        Raises:
            InvalidError: the span ends before it begins, or no such line or inspection.
        """
        end = until or self._clock.now()
        start = since or end - SPAN
        if start > end:
            raise InvalidError(
                f"the span begins at {rfc3339(start)} and ends at {rfc3339(end)}",
                where="since", fix="Write a since that is not behind until, or now without one.",
            )  # fmt: skip
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
        cached = self._figures.get(key)
        if cached is not None and begun < cached[0]:
            return cached[1]
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
        apart = list(self._waits(inspection.id, rank="0", since=since, until=until))
        audited_apart = sum(1 for one in apart if one["share"])
        alone = self._waits(inspection.id, rank="2", since=since, until=until)
        twice = [one["answers"] for one in (*settled, *apart) if one["answers"][1:]]
        return ReviewQuality(
            inspection=inspection.id, since=since, until=until, audit=inspection.audit,
            passed=passed, rejected=rejected,
            waiting=audited_apart + sum(1 for _ in alone), disagreements=audited_apart,
            figures=audit_figures(passed=passed, rejected=rejected),
            agreement=agreement([(one[0], one[1]) for one in twice]),
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

    def _waits(
        self, inspection: str, *, rank: str, since: datetime, until: datetime
    ) -> Iterator[dict[str, Any]]:
        """Summaries of what waits in a span: rank 0 disagreements, 1 in doubt, 2 of the audit."""
        first, last = (f"{rank}-{_LAST_US - microseconds(one):017d}" for one in (until, since))
        for place in every_document(self._documents, _waiting(inspection), after=first):
            if place.id > f"{last}~":
                return
            yield place.body


def _event_id(before: ReviewItem) -> str:
    return stable_id("evt", before.id, f"{before.revision}")


def _waiting(inspection: str) -> str:
    return f"review-waiting/{inspection}"


def _done(inspection: str) -> str:
    return f"review-done/{inspection}"


def _place(item: ReviewItem) -> tuple[str, str]:
    """Kind and id of the document that sorts an item."""
    if item.status is ReviewStatus.DONE:
        return _done(item.inspection), f"{microseconds(item.captured_at):017d}-{item.id}"
    return _waiting(item.inspection), _waiting_place(item)


def _waiting_place(item: ReviewItem, *, begun: datetime | None = None) -> str:
    """Id of the document in the queue; of a settled item the one that it had last.

    With ``begun``, of an item of which two people differ since then, the one that it had before.

    Of what is for review it begins with seven digits that fall as doubt grows; that of an item of
    schema 1 with seventeen of its time, and so stands behind them (``_WITHOUT_DOUBT``).
    """
    apart = item.status is ReviewStatus.DISAGREEMENT or len(item.answers) > 2
    if apart and begun is not None:
        apart = item.answers[1].at < begun
    rank = 0 if apart else 2 if item.is_audit else 1
    doubt = "" if rank != 1 or item.doubt is None else f"{round(1e6 * (1.0 - item.doubt)):07d}-"
    return f"{rank}-{doubt}{_LAST_US - microseconds(item.captured_at):017d}-{item.id}"


def _summary(item: ReviewItem) -> dict[str, Any]:
    """Summarise an item for the queue and the figures, which do not read it."""
    return {
        "item": item.id, "share": item.share, "verdict": str(item.verdict),
        "by": [one.by for one in item.answers], "answers": [one.answer for one in item.answers],
        "found": str(item.answers[-1].verdict) if item.answers else "",
    }  # fmt: skip


def _evidence(item: ReviewItem, *, answers: Sequence[ReviewAnswer]) -> dict[str, Json]:
    """Fields of an event of an item that its reviewers may see whole."""
    return {
        "frame": item.frame, "part": item.part, "package": item.package, "prediction": item.event,
        "answer": answers[-1].answer, "answer_verdict": str(answers[-1].verdict),
        "answers": [
            {"by": one.by, "answer": one.answer, "answer_verdict": str(one.verdict)}
            for one in answers
        ],
        "verdict": str(item.verdict), "label": item.label, "score": item.score,
        "audit": item.share,
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
