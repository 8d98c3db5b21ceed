"""Operating points of the site's inspections: propose, approve, roll back, preview.

1. Every decision is an event of the hub's chain, in the transaction that makes it.
2. Who proposes a version does not approve it, by the rule and the code of model versions.
3. In force for a package is its approved version of the highest number. A version below that is not
   approved any more; going back makes a new version with the earlier limits, so that devices take
   higher numbers only. A version that goes in waves is in force for the devices that a rollout told
   of it, and for the site once that is done.
4. What follows an approval (signing, telling the devices) is done by a follower of the log: in
   order, also of approvals by command while the hub was away, and perhaps twice after a crash.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace

from lineside.core import (
    Clock,
    ConflictError,
    Digest,
    InvalidError,
    Json,
    NotFoundError,
    Plant,
    RefusedError,
    decode_fast,
    decode_json,
    encode,
    parse_digest,
    to_plain,
)
from lineside.core.errors import retry_stale
from lineside.hub.config import HubConfig
from lineside.hub.eventlog.ledger import Journal, RecordsJournal, person_event
from lineside.models import Package, PackageRecord, Predictor, Registry, Status
from lineside.models.manifest import check_fits
from lineside.models.operating_point import (
    POINT_KIND,
    Costs,
    Limits,
    OperatingPoint,
    PointVersion,
    RecordedEffect,
    UnseenEffect,
    UnseenScores,
    approved_versions,
    check_limits,
    own_limits,
    point_named,
    point_versions,
    read_version,
    recorded_effect,
    ruled,
    unseen_scores,
    version_in_force,
)
from lineside.models.result import REPORT_FILE
from lineside.models.versions import Approvers, Verdict, is_maker, verdict_on
from lineside.store import Document, Logged, Records, open_blobs, open_records
from lineside.streams import PREDICTION_TYPE, decode_event, read_prediction
from lineside.vision import Prediction
from lineside.vision.metrics import LimitRow
from lineside.vision.verdict import reject_rule

logger = logging.getLogger(__name__)

POINT_TYPE = "lineside.operating_point.v1"
PROPOSED, APPROVED, REJECTED, ROLLED_BACK = "proposed", "approved", "rejected", "rolled back"
IN_FORCE = "in force"
RECORDED_FRAMES = 2000
"""Frames that a preview looks at where nobody says how many."""
_MOST_FRAMES = 10_000
_HEAD_KIND = "operating-point-head"
_PAGE = 1000
_BELIEVED_S = 2.0
_RECORDED_S = 5.0
_MOST_UNSEEN = 8
_EACH_COUNT = Costs(good_rejected=2.0, bad_passed=2.0, review=0.0)
"""With half of the parts each: a wrong count costs 1, whichever way it is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointProposal:
    """Body of a proposal.

    Attributes:
        limits: those that are to differ from the package's own.
        package: "" for the one in use.
        waves: whether a rollout brings them to devices; else all have them within seconds.
    """

    limits: tuple[Limits, ...]
    reason: str
    package: str = ""
    costs: Costs = field(default_factory=Costs)
    waves: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewRequest:
    """Body of a preview.

    Attributes:
        limits: those that are to differ from the package's own.
        package: "" for the one in use.
        frames: newest recorded frames to look at.
        bad_share: share of bad parts on the line, 0-1, that costs are reckoned with.
    """

    limits: tuple[Limits, ...] = ()
    package: str = ""
    frames: int = RECORDED_FRAMES
    costs: Costs = field(default_factory=Costs)
    bad_share: float = 0.02

    def __post_init__(self) -> None:
        if not 0 <= self.bad_share <= 1:
            raise InvalidError("a share from 0 to 1", where="bad_share", fix="Such as 0.02.")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnseenPreview:
    """Effect of one limit on held-out parts, with the cost of a thousand parts.

    Of a count the cost is how many of a thousand parts are counted wrongly.

    Attributes:
        cheapest: the limits of least cost; ``cost_cheapest`` theirs.
        scope: what the held-out parts are of where that is more than ``name``, such as "blue over
            all regions".
    """

    name: str
    before: UnseenEffect
    after: UnseenEffect
    cost_before: float
    cost_after: float
    cheapest: Limits
    cost_cheapest: float
    scope: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Effect of limits against those in force.

    Attributes:
        task: of the package.
        version: number of the version in force; 0: the package's own limits.
        before, after: every limit of the package.
        unseen: of each limit that the package's report has held-out scores of: escapes, false
            rejects, reviews, the cost of 1000 parts, the cheapest limits. Of a ``count`` the
            escapes are counts too low, the false rejects counts too high, the cost wrong counts.
        recorded: effect on the newest recorded frames that this package answered: verdicts before
            and after, and ``changes`` by kind, which add up to ``changed``.
    """

    inspection: str
    package: Digest
    task: str
    version: int
    before: tuple[Limits, ...]
    after: tuple[Limits, ...]
    unseen: tuple[UnseenPreview, ...]
    recorded: RecordedEffect


class OperatingPoints:
    """Safe from several threads and processes."""

    def __init__(
        self, records: Records, *, registry: Registry, journal: Journal, plant: Plant,
        config: HubConfig, clock: Clock,
    ) -> None:  # fmt: skip
        self._records = records
        self._documents = records.documents
        self._registry = registry
        self._journal = journal
        self._plant = plant
        self._clock = clock
        self._approvers = Approvers.ANYBODY if config.single_person else Approvers.OTHERS
        self._approved: list[Callable[[OperatingPoint], object]] = []
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], tuple[float, PointVersion | None]] = {}
        self._unseen: OrderedDict[str, Mapping[str, UnseenScores]] = OrderedDict()
        self._recorded: dict[tuple[str, str, int], tuple[float, tuple[Prediction, ...]]] = {}

    # ---- looking

    def versions(self, inspection: str) -> tuple[PointVersion, ...]:
        """Of an inspection by number; ``InvalidError`` where the plant has no such inspection."""
        self._plant.find_inspection(inspection)
        return point_versions(self._documents, inspection)

    def one(self, inspection: str, number: int) -> PointVersion:
        """``NotFoundError`` if there is none."""
        return self._current(inspection, number)[1]

    def in_force(self, inspection: str, package: str) -> PointVersion | None:
        """The version that a package decides by; None for its own limits. Believed for 2 s."""
        key, now_s = (inspection, package), self._clock.monotonic()
        with self._lock:
            until_s, known = self._known.get(key, (0.0, None))
        if now_s < until_s:
            return known
        found = version_in_force(self._documents, inspection, package)
        with self._lock:
            self._known[key] = (now_s + _BELIEVED_S, found)
        return found

    def on_device(self, inspection: str, package: str, *, number: int) -> PointVersion | None:
        """The version that a package decides by on a device that a rollout told of ``number``."""
        found = self.in_force(inspection, package)
        if number <= (found.number if found is not None else 0):
            return found
        ahead = self.one(inspection, number)
        return ahead if ahead.package == package and ahead.point is not None else found

    def apply(self, predictor: Predictor) -> None:
        """Let a loaded package decide by what is in force for it."""
        inspection = predictor.manifest.inspection
        found = self.in_force(inspection, predictor.package.digest) if inspection else None
        point = found.point if found is not None else None
        if predictor.operating_point != (point.digest if point is not None else ""):
            predictor.decide_by(point)

    def decided_by(self, prediction: Prediction) -> OperatingPoint | None:
        """The point that a prediction names; None for the package's own, or an unknown one."""
        digest = prediction.operating_point
        found = self.in_force(prediction.inspection, prediction.package) if digest else None
        if found is not None and found.point is not None and found.point.digest == digest:
            return found.point
        try:
            return point_named(self._documents, prediction.inspection, digest)
        except RefusedError:
            return None

    def content(self, inspection: str, number: int) -> bytes:
        """The bytes that are signed; ``NotFoundError`` unless the version is approved."""
        found = self.one(inspection, number)
        if found.point is None:
            raise NotFoundError(
                f"the version is {found.status}", where=found.name, fix="Approve it first."
            )
        return encode(found.point)

    def why_not(self, version: PointVersion, *, by: str) -> str:
        """Why this person may not approve a version, in words; "" where nothing speaks against."""
        if self._approvers is Approvers.OTHERS and is_maker((version.by,), by):
            return "You can't approve your own version."
        return ""

    def package(self, inspection: str, digest: str = "") -> PackageRecord:
        """The package that limits are set for: the one named, else the one in use.

        Raises:
            NotFoundError: there is no such inspection or package, or none is in use.
            RefusedError: the package cannot answer for the inspection.
        """
        asked = self._plant.find_inspection(inspection)
        if digest:
            record = self._registry.get(parse_digest(digest, where="package"))
            if record.manifest.inspection != inspection:
                check_fits(record.manifest, asked)
            return record
        used = self._registry.in_use(inspection)
        if used is None:
            raise NotFoundError(
                f"no package is in use for {inspection!r}",
                where=inspection,
                fix="Train one and take it into use; its operating point can be set then.",
            )
        return used

    def unseen(self, package: Digest) -> Mapping[str, UnseenScores]:
        """Return the held-out scores of a package by limit; empty where its report has none."""
        with self._lock:
            known = self._unseen.get(package)
        if known is None:
            record = self._registry.get(package)
            files = Package.read(self._registry.content(package), where=record.name).files
            known = unseen_scores(record.manifest, _tables(files.get(REPORT_FILE)))
            with self._lock:
                self._unseen[package] = known
                while len(self._unseen) > _MOST_UNSEEN:
                    self._unseen.popitem(last=False)
        return known

    def recorded(
        self, inspection: str, package: str, *, frames: int = RECORDED_FRAMES
    ) -> tuple[Prediction, ...]:
        """Return the package's answers among the newest ``frames`` of the inspection.

        They are believed for some seconds, so that a slider that moves reads them once.
        """
        key, now_s = (inspection, package, frames), self._clock.monotonic()
        with self._lock:
            until_s, known = self._recorded.get(key, (0.0, ()))
        if now_s < until_s:
            return known
        found = tuple(self._read(inspection, package, most=min(frames, _MOST_FRAMES)))
        with self._lock:
            self._recorded = {key: (now_s + _RECORDED_S, found)}
        return found

    def _read(self, inspection: str, package: str, *, most: int) -> Iterator[Prediction]:
        after, left = 0, most
        while left > 0:
            page = self._records.log.read(
                type=PREDICTION_TYPE, subject=inspection, after=after, limit=min(left, _PAGE),
                newest_first=True,
            )  # fmt: skip
            for one in page:
                answer = read_prediction(decode_event(one.entry.body, where=one.entry.id))
                if answer.package == package:
                    yield answer
            if len(page) < min(left, _PAGE):
                return
            after, left = page[-1].position, left - len(page)

    def preview(self, inspection: str, request: PreviewRequest) -> Preview:
        """Return what other limits would have done; nothing is written.

        Raises:
            NotFoundError: no package is in use.
            InvalidError: no such inspection, or the package cannot decide by the limits, with a
                fault for each.
        """
        record = self.package(inspection, request.package)
        if request.limits:
            check_limits(record.manifest, request.limits)
        used = self.in_force(inspection, record.digest)
        before = ruled(record.manifest, used.limits if used is not None else ())
        after = ruled(record.manifest, request.limits)
        old, new = own_limits(before), own_limits(after)
        scores, task = self.unseen(record.digest), record.manifest.task
        if task == "count":
            request = replace(request, costs=_EACH_COUNT, bad_share=0.5)
        pairs = [pair for pair in zip(old, new, strict=True) if pair[0].name in scores]
        return Preview(
            inspection=inspection, package=record.digest, task=task,
            version=used.number if used is not None else 0, before=old, after=new,
            unseen=tuple(
                _unseen(scores[pair[0].name], pair, request=request, single=task == "count")
                for pair in pairs
            ),
            recorded=recorded_effect(
                self.recorded(inspection, record.digest, frames=request.frames), before=before,
                after=after, rule=reject_rule(self._plant.find_inspection(inspection)),
                decided_by=used.point.digest if used is not None and used.point is not None else "",
            ),
        )  # fmt: skip

    # ---- deciding

    def propose(self, inspection: str, proposal: PointProposal, *, by: str) -> PointVersion:
        """Add a version that waits for another person.

        Raises:
            NotFoundError: no such package.
            InvalidError: no such inspection, limits that the package cannot decide by, no reason.
        """
        record = self.package(inspection, proposal.package)
        version = PointVersion(
            inspection=inspection, number=0, package=record.digest,
            limits=check_limits(record.manifest, proposal.limits), costs=proposal.costs, by=by,
            at=self._clock.now(), reason=_needed(proposal.reason, where=inspection),
            waves=proposal.waves,
        )  # fmt: skip
        return self._add(version, action=PROPOSED)

    def approve(self, inspection: str, number: int, *, by: str, reason: str) -> PointVersion:
        """Approve a version; devices decide by it within seconds, or in waves by a rollout.

        Raises:
            RefusedError: its proposer approves it.
            ConflictError: it was decided about, or a higher version is in force.
        """
        package = self.one(inspection, number).package
        head = self._head(inspection)  # of before what is looked at, so that nobody comes between
        newest = next(iter(approved_versions(self._documents, inspection, package)), None)
        if newest is not None and newest.number > number:
            raise ConflictError(
                f"version {newest.number} is {'on its way' if newest.waves else 'in force'} by now",
                where=f"{inspection}/{number}",
                fix="Propose these limits again, or roll back to an earlier version.",
            )
        return self._decide(inspection, number, Status.APPROVED, by=by, reason=reason, head=head)

    def reject(self, inspection: str, number: int, *, by: str, reason: str) -> PointVersion:
        """Reject a version that waits; one in force is left by ``roll_back``."""
        return self._decide(inspection, number, Status.REJECTED, by=by, reason=reason)

    def roll_back(self, inspection: str, number: int, *, by: str, reason: str) -> PointVersion:
        """Take the limits of an earlier approved version into force again, as a new version.

        Raises:
            ConflictError: that version was never approved, or its package is not in use.
        """
        earlier = self.one(inspection, number)
        if earlier.status is not Status.APPROVED:
            raise ConflictError(
                f"the version is {earlier.status}", where=earlier.name,
                fix="Name a version that was approved.",
            )  # fmt: skip
        used = self._registry.in_use(inspection)
        if used is None or used.digest != earlier.package:
            raise ConflictError(
                "the version is for a package that is not in use", where=earlier.name,
                fix="Take that package into use first, or propose limits for the one in use.",
            )  # fmt: skip
        now = self._clock.now()
        reason = _needed(reason, where=earlier.name)
        verdict = Verdict(status=Status.APPROVED, by=by, at=now, reason=reason)
        version = replace(
            earlier, number=0, by=by, at=now, reason=reason, rolled_back_to=number,
            verdicts=(verdict,), waves=False,
        )  # fmt: skip
        return self._add(version, action=ROLLED_BACK)

    def take_back(self, inspection: str, number: int, *, by: str, reason: str) -> None:
        """Take the limits before a version into force, as a new version; twice is once."""
        left = self.one(inspection, number)
        approved = approved_versions(self._documents, inspection, left.package)
        if any(one.number > number and not one.waves for one in approved):
            return
        before = self.before(left)
        manifest = self._registry.get(left.package).manifest
        now = self._clock.now()
        verdict = Verdict(status=Status.APPROVED, by=by, at=now, reason=reason)
        version = replace(
            left, number=0, by=by, at=now, reason=reason, verdicts=(verdict,), waves=False,
            limits=before.limits if before is not None else own_limits(manifest),
            costs=before.costs if before is not None else left.costs,
            rolled_back_to=before.number if before is not None else 0,
        )  # fmt: skip
        self._add(version, action=ROLLED_BACK)

    def before(self, version: PointVersion) -> PointVersion | None:
        """The version in force before another one; None for the package's own limits."""
        approved = approved_versions(self._documents, version.inspection, version.package)
        earlier = (one for one in approved if one.number < version.number and not one.waves)
        return next(earlier, None)

    def put_in_force(self, inspection: str, number: int, *, by: str, reason: str) -> None:
        """Take a version that went in waves into force for the site; twice is once."""
        document, version = self._current(inspection, number)
        if version.waves:
            self._record(
                replace(version, waves=False), action=IN_FORCE, by=by, reason=reason,
                expect=document.version, head=self._head(inspection),
            )  # fmt: skip

    @retry_stale
    def _add(self, version: PointVersion, *, action: str) -> PointVersion:
        """Under the inspection's next number."""
        head = self._head(version.inspection) if version.point is not None else 0
        there = point_versions(self._documents, version.inspection)
        made = replace(version, number=there[-1].number + 1 if there else 1)
        self._record(made, action=action, by=made.by, reason=made.reason, expect=0, head=head)
        return made

    def _decide(
        self, inspection: str, number: int, status: Status, *, by: str, reason: str, head: int = 0
    ) -> PointVersion:
        document, version = self._current(inspection, number)
        if version.status is not Status.PENDING:
            raise ConflictError(
                f"the version is {version.status}", where=version.name,
                fix="Propose another one, or roll back to an earlier one.",
            )  # fmt: skip
        verdict = verdict_on(
            version.name, makers=(version.by,), status=status, by=by, reason=reason,
            at=self._clock.now(), approvers=self._approvers,
        )  # fmt: skip
        decided = replace(version, status=status, verdicts=(*version.verdicts, verdict))
        action = APPROVED if status is Status.APPROVED else REJECTED
        self._record(
            decided, action=action, by=by, reason=reason, own=verdict.own,
            expect=document.version, head=head,
        )  # fmt: skip
        return decided

    def _record(
        self, version: PointVersion, *, action: str, by: str, reason: str, expect: int,
        head: int = 0, own: bool = False,
    ) -> None:  # fmt: skip
        """Write a version and its event in one transaction.

        An approved one is written with the inspection's head, of which ``head`` is expected: of two
        that come into force at once the second one looks again.
        """
        data: dict[str, Json] = {
            "action": action, "inspection": version.inspection, "version": version.number,
            "package": version.package, "limits": to_plain(version.limits),
            "digest": version.point.digest if version.point is not None else "",
            "by": by, "reason": reason, "own": own, "waves": version.waves,
        }  # fmt: skip
        if version.rolled_back_to:
            data["rolled_back_to"] = version.rolled_back_to
        event = person_event(
            POINT_TYPE, subject=version.inspection, site=self._plant.site, clock=self._clock,
            data=data,
        )  # fmt: skip

        def keep(_: list[Logged]) -> None:
            name = f"{version.inspection}/{version.number:08d}"
            self._documents.put(POINT_KIND, name, body=to_plain(version), expect=expect)
            if version.point is not None:
                approved: dict[str, Json] = {"approved": version.number}
                self._documents.put(_HEAD_KIND, version.inspection, body=approved, expect=head)

        self._journal.record([event], within=keep)
        self._forget()
        logger.info("operating point %s version=%s by=%s", action, version.name, by)

    # ---- what follows

    def on_approved(self, listener: Callable[[OperatingPoint], object]) -> None:
        """Call ``listener`` with what comes into force, perhaps twice, by the follower."""
        self._approved.append(listener)

    def follow(self, page: Sequence[Logged]) -> None:
        """Tell the listeners of the decisions in a page of the log that still hold."""
        for logged in page:
            data = decode_json(logged.entry.body, where=logged.entry.id)["data"]
            if data.get("action") not in (APPROVED, ROLLED_BACK, IN_FORCE):
                continue
            self._forget()
            version = self.one(str(data["inspection"]), int(data["version"]))
            if version.point is not None:
                for listener in self._approved:
                    listener(version.point)

    def _forget(self) -> None:
        with self._lock:
            self._known.clear()

    def _head(self, inspection: str) -> int:
        """Version of the document that every approval of an inspection writes; 0: there is none."""
        try:
            return self._documents.get(_HEAD_KIND, inspection).version
        except NotFoundError:
            return 0

    def _current(self, inspection: str, number: int) -> tuple[Document, PointVersion]:
        try:
            document = self._documents.get(POINT_KIND, f"{inspection}/{number:08d}")
        except NotFoundError:
            raise NotFoundError(
                f"no version {number} of the operating point of {inspection!r}",
                where=inspection,
                fix=f"List them: lineside operating-point list {inspection}.",
            ) from None
        return document, read_version(document)


def _unseen(
    scores: UnseenScores, pair: tuple[Limits, Limits], *, request: PreviewRequest, single: bool
) -> UnseenPreview:
    before, after = pair
    costs, share = request.costs, request.bad_share
    cheapest = scores.cheapest(before.name, costs, bad_share=share, single=single)
    old, new, best = (scores.effect(one) for one in (before, after, cheapest))
    return UnseenPreview(
        name=before.name, before=old, after=new, cheapest=cheapest,
        cost_before=old.cost(costs, bad_share=share), cost_after=new.cost(costs, bad_share=share),
        cost_cheapest=best.cost(costs, bad_share=share), scope=scores.scope,
    )  # fmt: skip


def _tables(report: bytes | None) -> Mapping[str, tuple[LimitRow, ...]]:
    """The limit tables of a report; of another form they are as good as none."""
    if report is None:
        return {}
    try:
        body = decode_json(report, where=REPORT_FILE)
        limits = body.get("limits", {}) if isinstance(body, dict) else {}
        return decode_fast(dict[str, tuple[LimitRow, ...]], encode(limits), where=REPORT_FILE)
    except InvalidError:
        return {}


def _needed(reason: str, *, where: str) -> str:
    if not reason.strip():
        raise InvalidError("a change without a reason", where=where, fix="Say why.")
    return reason


@contextmanager
def open_points(config: HubConfig, *, plant: Plant, clock: Clock) -> Iterator[OperatingPoints]:
    """Operating points for a command beside the hub, whether or not it runs."""
    with (
        open_records(config.records_url, clock=clock) as records,
        closing(open_blobs(config.blobs_url)) as blobs,
    ):
        yield OperatingPoints(
            records, registry=Registry(records, blobs, clock=clock),
            journal=RecordsJournal(records), plant=plant, config=config, clock=clock,
        )  # fmt: skip
