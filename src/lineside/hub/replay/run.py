"""A recorded span once more: by another package, by other rules, or by the same.

1. Two sides are run over the same entries of the log in lockstep. *Before*: the answers as recorded
   and the plant's rules. *After*: the answers of the package that is tried, else those recorded,
   and the rules that are tried, else the plant's. Everything else stands as recorded, in log order
   and with its arrival times.
2. Both sides begin alike: the twin is folded from the log up to the span, and the rules begin so
   long before it as their memory reaches, over the answers as recorded. So a difference is due to
   what is tried and to nothing else. What the rules say is compared from the span on, up to when
   nothing more arrives.
3. What the rules say of the recorded answers is also held against what the log holds of them:
   whoever reads a replay sees whether it repeats the day at all.
4. A frame whose picture is gone or damaged keeps its recorded answer on both sides, and is counted.
5. One entry is held at a time; lists are bounded, and everything is counted. Nothing is written.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from lineside.core import (
    Clock,
    Digest,
    InvalidError,
    NotFoundError,
    Plant,
    Rule,
    decode,
    decode_toml,
    digest_of,
    encode,
    parse_digest,
    rfc3339,
    to_plain,
)
from lineside.core.codec import faults_error
from lineside.core.plant_check import check_references
from lineside.core.plant_rules import DwellTimes
from lineside.hub.eventlog.twin_history import earlier, position_before, span_of, twin_at
from lineside.hub.replay.answers import (
    PictureGoneError,
    RecordedPredictor,
    UnansweredError,
)
from lineside.hub.replay.repository import (
    AS_RECORDED,
    MOST_LISTED,
    DecisionChange,
    RecordCheck,
    ReplayCounts,
    ReplayOrder,
    ReplayResult,
    VerdictChange,
    sealed,
)
from lineside.hub.rules.service import entry_of_log
from lineside.models import EngineDevice, EngineName, Manifest, ModelVersions, Package, Registry
from lineside.models.manifest import check_fits
from lineside.store import Blobs, EventLog, Logged, Records
from lineside.streams import (
    PREDICTION_TYPE,
    Entry,
    Event,
    RuleSet,
    decode_event,
    encode_event,
    entry_of,
    memory_s,
    moment,
    prediction_id,
    read_prediction,
    read_verdict,
)
from lineside.streams.differences import (
    EventDifferences,
    Kind,
    Similarity,
    decided,
    largest_move,
    similarity,
)
from lineside.streams.verdicts import InspectionAnswer, LineVerdicts, VerdictData, verdict_lines
from lineside.twin import LineState, initial, moves_twin
from lineside.twin.runs import TwinDifferences, TwinRun, raised_anew
from lineside.vision import Prediction

_LEAST_WARM_UP_S = 60.0
_MOST_IDS = 4096
_MOST_SAID = 200_000
_END_US = 2**62

Tell = Callable[[float], None]
"""Is told how far a replay is, 0 to 1, about once a page of the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayTarget:
    """Inspections, rules and package that a replay compares with the record.

    Attributes:
        inspections: whose frames are asked; empty where nobody is asked.
        name: of the package.
        plant: with the rules that are tried; the hub's own plant where none are.
    """

    inspections: frozenset[str]
    name: str
    plant: Plant


class _PartVerdicts:
    """Verdicts on the parts of a span by both sides' answers, as a hub without devices gives them.

    Both sides see the same frames, so that the event of a part has one id on both.
    """

    def __init__(self, plant: Plant) -> None:
        self._sides = tuple(
            [LineVerdicts(plant, line) for line in verdict_lines(plant)] for _ in range(2)
        )
        self._waiting: tuple[dict[str, VerdictData], dict[str, VerdictData]] = ({}, {})
        self.changed: list[VerdictChange] = []
        self.count = 0

    def take(self, before: Entry, after: Entry | None) -> None:
        """Take an answer of each side; None where the log would know that of the second."""
        for side, entry in enumerate((before, after)):
            if entry is not None:
                for one in self._sides[side]:
                    if one.role(entry.type, entry.subject) == "record":
                        self._compare(one.take([entry]), side=side)

    def settle(self) -> None:
        """Forget what was given so far."""
        for given in self._waiting:
            given.clear()
        self.changed, self.count = [], 0

    def finish(self) -> None:
        """Judge the parts that still wait."""
        for side, lines in enumerate(self._sides):
            for one in lines:
                self._compare(one.advance(_END_US), side=side)

    def _compare(self, events: Sequence[Event], *, side: int) -> None:
        for event in events:
            given = read_verdict(event)
            other = self._waiting[1 - side].pop(event.id, None)
            if other is None:
                self._waiting[side][event.id] = given
            elif other.verdict is not given.verdict:
                self.count += 1
                if len(self.changed) < MOST_LISTED:
                    before, after = (other, given) if side else (given, other)
                    self.changed.append(_verdict_change(before, after, at=event.time))


def _verdict_change(before: VerdictData, after: VerdictData, *, at: datetime) -> VerdictChange:
    said = [
        f"{one.verdict}{': ' if one.reasons else ''}{', '.join(one.reasons)}"
        for one in (before, after)
    ]
    return VerdictChange(
        line=before.line, part=before.part, frame=min(before.answers, key=_captured).frame,
        at=at, before=said[0], after=said[1],
    )  # fmt: skip


def _captured(answer: InspectionAnswer) -> datetime:
    return answer.captured_at


@dataclass(slots=True, kw_only=True)
class _Side:
    """A twin and rules over one version of the record."""

    twin: TwinRun
    rules: RuleSet

    def take(self, event: Event | None, entry: Entry) -> list[Event]:
        """Return the events of twin and rules; ``event`` None where it moves no twin."""
        raised: list[Event] = []
        if event is not None:
            raised = self.twin.take(event, arrived_at=moment(entry.arrived_us))
        entries = [entry, *(entry_of(one, arrived_us=entry.arrived_us) for one in raised)]
        return [*raised, *self.rules.take(entries)]


class Replay:
    """One replay; ``run`` once, on one thread.

    Args:
        order: the span, and what it is answered by.
        records: the hub's.
        plant: the hub's own.
        tried: beside it.
        answers: packages; asked only where the order names one.
        clock: for what it takes.
    """

    def __init__(
        self, order: ReplayOrder, *, records: Records, plant: Plant, target: ReplayTarget,
        answers: RecordedPredictor, clock: Clock,
    ) -> None:  # fmt: skip
        self._order = order
        self._log: EventLog = records.log
        self._records = records
        self._plant = plant
        self._tried = target
        self._answers = answers
        self._clock = clock
        self._counts: Counter[str] = Counter()
        self._largest = self._answer_s = 0.0
        self._decisions: list[DecisionChange] = []
        self._damage: dict[str, str] = {}
        self._twins = TwinDifferences()
        self._parts = _PartVerdicts(plant)
        self._said: dict[str, bytes] = {}
        self._recorded: dict[str, bytes] = {}
        self._sent: dict[tuple[str, str], None] = {}

    def run(self, *, tell: Tell) -> ReplayResult:
        """Both sides over the span.

        Raises:
            NotFoundError: nothing arrived in the span, or a package is not there.
        """
        order, started_s = self._order, self._clock.monotonic()
        begin = earlier(order.since, by=timedelta(seconds=self._warm_up_s()))
        before, after = self._sides(begin=begin, since=order.since)
        events = EventDifferences(most=MOST_LISTED, fractions=_fractions(order))
        first, last = (position_before(self._log, at) for at in (order.since, order.until))
        for logged in span_of(self._log, since=order.since, until=order.until):
            self._step(logged, before=before, after=after, events=events)
            tell(min(1.0, max(0.0, (logged.position - first) / max(1, last - first))))
        self._check_found()
        events.take(before=list(before.rules.finish()), after=list(after.rules.finish()))
        self._parts.finish()
        found = self._result(begin=begin, events=events)
        ends_alike = before.twin.state == after.twin.state or order.package not in ("", AS_RECORDED)
        found = sealed(replace(found, bit_identical=_quiet(found) and ends_alike))
        seconds = self._clock.monotonic() - started_s
        asked = max(1, found.counts.frames)
        return replace(
            found, seconds=round(seconds, 3),
            ms_per_frame=round(1000 * self._answer_s / asked, 3),
        )  # fmt: skip

    # ---- how both sides begin

    def _warm_up_s(self) -> float:
        if self._order.warm_up_s is not None:
            return self._order.warm_up_s
        return max(_LEAST_WARM_UP_S, memory_s(self._plant), memory_s(self._tried.plant))

    def _sides(self, *, begin: datetime, since: datetime) -> tuple[_Side, _Side]:
        state = self._state_before(since)
        before, after = (
            _Side(twin=TwinRun(state, plant=self._plant), rules=RuleSet(plant))
            for plant in (self._plant, self._tried.plant)
        )
        for logged in span_of(self._log, since=begin, until=since):
            entry = entry_of_log(logged)
            if before.rules.says(entry) or after.rules.says(entry):
                continue
            self._note_events(before.rules.take([entry]))
            after.rules.take([entry])
            self._parts_take(entry, entry)
        self._parts.settle()
        return before, after

    def _parts_take(self, before: Entry, after: Entry | None) -> None:
        """Verdicts go by predictions alone: what hub or device said then is not asked."""
        if before.type == PREDICTION_TYPE:
            self._parts.take(before, after)

    def _state_before(self, since: datetime) -> LineState:
        """The twin after everything that arrived before ``since``."""
        if self._plant.twin is None:
            return initial(self._plant)
        at = earlier(since, by=timedelta(microseconds=1))
        return twin_at(self._records, at, plant=self._plant)

    def _moves(self, logged: Logged) -> bool:
        """Return True where an entry may move the twin."""
        entry = logged.entry
        twin = self._plant.twin
        return twin is not None and moves_twin(entry.type, entry.subject, plant=self._plant)

    # ---- an entry

    def _step(
        self, logged: Logged, *, before: _Side, after: _Side, events: EventDifferences
    ) -> None:
        self._counts["entries"] += 1
        entry = entry_of_log(logged)
        if before.rules.says(entry):
            self._note_recorded(logged)
            return
        if after.rules.says(entry) or raised_anew(entry.type, entry.subject):
            return
        event, tried = self._both(logged)
        moves = self._moves(logged)
        said = before.take(event if moves else None, entry)
        self._note_events(said)
        others: list[Event] = []
        if tried is event:
            others = after.take(event if moves else None, entry)
            self._parts_take(entry, entry)
        elif tried is not None:
            other = msgspec.structs.replace(entry, body=encode_event(tried))
            others = after.take(tried if moves else None, other)
            self._parts_take(entry, other)
        else:
            self._parts_take(entry, None)
        events.take(before=said, after=others)
        self._twins.look(before.twin.state, after.twin.state, at=logged.entry.captured_at)

    def _both(self, logged: Logged) -> tuple[Event | None, Event | None]:
        """The event as recorded and as it would be; None where nobody needs it."""
        is_answer = logged.entry.type == PREDICTION_TYPE
        if not is_answer and not self._moves(logged):
            return None, None
        event = decode_event(logged.entry.body, where=logged.entry.id)
        return event, self._answered(event, logged) if is_answer else event

    def _answered(self, event: Event, logged: Logged) -> Event | None:
        """The answer of what is tried; None where the log would know it already."""
        if event.subject not in self._tried.inspections:
            self._counts["answers_kept"] += 1
            return event
        recorded, order = read_prediction(event), self._order
        package = recorded.package if order.package == AS_RECORDED else Digest(order.package)
        started_s = self._clock.monotonic()
        try:
            found = self._answers.again(recorded, package=package, position=logged.position)
        except PictureGoneError:
            self._counts["frames_missing"] += 1
            return event
        except UnansweredError as error:
            self._counts["frames_damaged"] += 1
            if not self._damage:
                self._damage[recorded.frame.id] = error.message
            return event
        self._answer_s += self._clock.monotonic() - started_s
        self._counts["frames"] += 1
        tried = replace(event, id=prediction_id(found), data=to_plain(found))
        self._compare(event, recorded, other=tried, found=found)
        return tried if self._is_new(tried) else None

    def _is_new(self, event: Event) -> bool:
        """Return True where the log has no answer of that id from this source yet."""
        name = (event.source, event.id)
        if name in self._sent:
            return False
        self._sent[name] = None
        if len(self._sent) > _MOST_IDS:
            self._sent.pop(next(iter(self._sent)))
        return True

    def _compare(
        self, event: Event, recorded: Prediction, *, other: Event, found: Prediction
    ) -> None:
        match similarity(recorded, found):
            case Similarity.IDENTICAL:
                self._counts["identical"] += 1
                return
            case Similarity.FIGURES:
                self._counts["figures_moved"] += 1
            case Similarity.DECISION:
                self._counts["decisions_changed"] += 1
                if len(self._decisions) < MOST_LISTED:
                    change = DecisionChange(
                        frame=recorded.frame.id, camera=recorded.frame.camera,
                        inspection=recorded.inspection, at=recorded.frame.captured_at,
                        before=decided(recorded), after=decided(found),
                        package_before=recorded.package, package_after=found.package,
                        event=event.id, event_after=other.id,
                    )  # fmt: skip
                    self._decisions.append(change)
        self._largest = max(self._largest, largest_move(recorded, found))

    # ---- against the log

    def _note_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if "name" in event.data:
                self._said[event.id] = _digest(encode_event(event))
                if len(self._said) > _MOST_SAID:
                    self._said.pop(next(iter(self._said)))

    def _note_recorded(self, logged: Logged) -> None:
        if len(self._recorded) < _MOST_SAID:
            self._recorded[logged.entry.id] = _digest(logged.entry.body)

    def _record_check(self) -> RecordCheck:
        found = RecordCheck()
        for name, digest in self._recorded.items():
            said = self._said.pop(name, None)
            kind = "only" if said is None else "same" if said == digest else "differ"
            found = replace(found, **{kind: getattr(found, kind) + 1})
        return found

    # ---- what came of it

    def _check_found(self) -> None:
        counts, order = self._counts, self._order
        span = f"{rfc3339(order.since)} to {rfc3339(order.until)}"
        if not counts["entries"]:
            raise NotFoundError(
                f"nothing arrived at the hub from {span}", where="--from --to",
                fix=self._log_words(),
            )  # fmt: skip
        asked = sum(counts[name] for name in ("frames", *_UNASKED))
        if self._tried.inspections and not asked:
            named = ", ".join(sorted(self._tried.inspections))
            raise NotFoundError(
                f"no frame of {named} was answered from {span}", where="--from --to",
                fix="Choose a span in which the inspection ran.",
            )  # fmt: skip

    def _log_words(self) -> str:
        oldest, newest = self._log.read(limit=1), self._log.read(newest_first=True, limit=1)
        if not oldest:
            return "The log is empty."
        first, last = rfc3339(oldest[0].arrived_at), rfc3339(newest[0].arrived_at)
        return f"The log holds what arrived from {first} to {last}."

    def _result(self, *, begin: datetime, events: EventDifferences) -> ReplayResult:
        order, twin = self._order, self._twins.finish()
        listed = events.finish()
        counts = ReplayCounts(
            **self._counts, events_same=events.same, events_changed=events.changed,
            events_moved=events.counts[Kind.FIGURES], twin_changed=len(twin),
            verdicts_changed=self._parts.count, largest_move=self._largest,
        )  # fmt: skip
        kept = counts.answers_kept if not self._tried.inspections else 0
        tries_rules = self._tried.plant.rule != self._plant.rule
        check = self._record_check()
        return ReplayResult(
            since=order.since, until=order.until, package=order.package,
            package_name=self._tried.name, inspections=tuple(sorted(self._tried.inspections)),
            rules=digest_of(encode(self._tried.plant.rule)) if tries_rules else "",
            rules_begin=begin, counts=counts, bit_identical=False,
            frames=counts.frames + counts.frames_missing + counts.frames_damaged + kept,
            decisions_changed=tuple(self._decisions), events_changed=listed,
            twin_changed=twin[:MOST_LISTED], record=check,
            verdicts_changed=tuple(self._parts.changed),
            remarks=(
                *lacking(self._tried.plant, self._plant),
                *remarks(counts, check, damage=self._damage),
            ),
        )  # fmt: skip


_MOST_NAMED = 5
_UNASKED = ("frames_missing", "frames_damaged")


def _fractions(order: ReplayOrder) -> Kind:
    """Of another package every mean and probability moves a little."""
    return Kind.CHANGED if order.package in ("", AS_RECORDED) else Kind.FIGURES


def _quiet(found: ReplayResult) -> bool:
    counts = found.counts
    return not (
        counts.decisions_changed or counts.figures_moved or counts.events_changed
        or counts.events_moved or counts.twin_changed or counts.verdicts_changed
    )  # fmt: skip


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


def lacking(candidate: Plant, plant: Plant) -> Iterator[str]:
    """That rules in use say nothing on the side of what is tried, because it has not got them."""
    there = {rule.id for rule in candidate.rule}
    gone = [rule.id for rule in plant.rule if rule.id not in there]
    if gone:
        some = ", ".join([*gone[:_MOST_NAMED], *("…" for _ in gone[_MOST_NAMED : _MOST_NAMED + 1])])
        are = "rule of the plant file is" if len(gone) == 1 else "rules of the plant file are"
        yield (
            f"{len(gone)} {are} not in the rules that were tried ({some}), which stand in place of "
            "all: everything the log has of them counts as gone."
        )


def remarks(
    counts: ReplayCounts, check: RecordCheck, *, damage: Mapping[str, str]
) -> Iterator[str]:
    """Return remarks for the reader of a replay."""
    if counts.frames_missing:
        yield (
            f"{counts.frames_missing} frames have no picture any more; their recorded answers "
            "stand on both sides."
        )
    if counts.frames_damaged:
        frame, why = next(iter(damage.items()))
        yield (
            f"{counts.frames_damaged} frames could not be answered, and their recorded answers "
            f"stand; the first is {frame}: {why}."
        )
    if check.differ or check.only:
        yield (
            f"Of the rules' events in the log {check.same} are repeated as they stand, "
            f"{check.differ} with other values and {check.only} not at all: a rule remembers what "
            "lies before its warm-up, or was declared otherwise then; a longer warm-up (--warm-up, "
            "warm_up_s) tells which. Both sides begin alike, so "
            "the differences above do not come from that."
        )
    if max(counts.decisions_changed, counts.events_changed, counts.twin_changed) > MOST_LISTED:
        yield f"Of each kind of difference the first {MOST_LISTED} are listed; all are counted."


_LEAST_DIGITS = 6
_NUMBER = re.compile(r"[0-9]{1,9}")
_SUFFIX = ".lspkg"


def named_package(text: str, registry: Registry, *, versions: ModelVersions) -> Digest:
    """The digest of a package of the registry.

    Raises:
        NotFoundError: there is none of that name.
        InvalidError: several begin so, or it is no name.
    """
    group, _, number = text.replace(":", "/").rpartition("/")
    if text.startswith("sha256:"):
        return registry.get(parse_digest(text, where="package")).digest
    if group and _NUMBER.fullmatch(number):
        return versions.one(group, int(number)).digest
    found = [one.digest for one in registry.list() if one.digest[7:].startswith(text)]
    if len(text) < _LEAST_DIGITS or len(found) > 1:
        raise InvalidError(
            f"{text!r} names no one package", where="package",
            fix="Write its digest or the first digits of it, GROUP/NUMBER, or a .lspkg file.",
        )  # fmt: skip
    if not found:
        raise NotFoundError(
            f"no package {text!r}", where="registry", fix="List them: lineside model list."
        )
    return found[0]


def package_file(text: str) -> Package | None:
    """The package in a file; None where no file is named."""
    path = Path(text)
    return Package.open(path) if path.suffix == _SUFFIX or path.is_file() else None


def replay_inspections(
    order: ReplayOrder, plant: Plant, *, manifest: Manifest | None
) -> frozenset[str]:
    """Whose frames a package is asked about.

    Args:
        order: names the package, and the inspection where somebody chose it.
        plant: declares inspections.
        manifest: of the package; None for ``recorded`` and for none.

    Raises:
        NotFoundError: the plant has no such inspection.
        InvalidError: the package fits several inspections, and none is named.
        RefusedError: it cannot answer for the inspection.
    """
    if order.inspection:
        plant.find_inspection(order.inspection)
    if not order.package:
        return frozenset()
    if manifest is None:
        return frozenset({order.inspection} if order.inspection else _all(plant))
    name = order.inspection or manifest.inspection
    if not name:
        fits = [one.id for one in plant.inspection if str(one.task) == manifest.task]
        if len(fits) != 1:
            raise InvalidError(
                "the package fits any inspection", where="inspection",
                fix=f"Name one: {', '.join(_all(plant)) or 'the plant has none'}.",
            )  # fmt: skip
        name = fits[0]
    check_fits(manifest, plant.find_inspection(name))
    return frozenset({name})


def _all(plant: Plant) -> list[str]:
    return [one.id for one in plant.inspection]


def with_rules(plant: Plant, raw: bytes, *, where: str) -> Plant:
    """The plant with the rules of a text in place of its own.

    What a sighting rule learned is known of the files that the plant file names.

    Raises:
        InvalidError: there are none, or every fault of form, then of reference.
    """
    if not raw:
        return plant
    tables = decode_toml(raw, where=where).get("rule")
    if not isinstance(tables, list):
        raise InvalidError(
            "no [[rule]] tables", where=where, fix="Write a plant file's rules, or all of it."
        )
    rules = decode(tuple[Rule, ...], tables, where=where)
    known = {
        one.sighting.learned: one.sighting.habits for one in plant.rule if one.sighting is not None
    }
    ruled = replace(plant, rule=tuple(_learned(rule, known, where=where) for rule in rules))
    before = set(check_references(plant))
    faults = tuple(one for one in check_references(ruled) if one not in before)
    if faults:
        raise faults_error(faults, where=where)
    return ruled


def _learned(rule: Rule, known: Mapping[str, DwellTimes | None], *, where: str) -> Rule:
    step = rule.sighting
    if step is None or not step.learned:
        return rule
    if step.learned not in known:
        raise InvalidError(
            f"rule {rule.id} learned from {step.learned!r}, which the plant file does not name",
            where=where, fix="Write dwell_s and gap_s, or name the file in the plant file first.",
        )  # fmt: skip
    return replace(rule, sighting=replace(step, habits=known[step.learned]))


def check_request(
    order: ReplayOrder, registry: Registry, *, plant: Plant, package: Package | None = None,
    rules: bytes = b"", where: str = "rules",
) -> ReplayTarget:  # fmt: skip
    """Check the request of a replay before anything is read.

    Args:
        order: its ``package`` is a digest, ``recorded`` or "".
        registry: has the package.
        plant: the hub's own.
        package: the file where it is none of the registry's; None else.
        rules: TOML with ``[[rule]]`` tables, a whole plant file or those alone; b"" for the
            plant's own.
        where: the rules come from.

    Raises:
        InvalidError, NotFoundError: what the functions above say.
    """
    manifest, name = None, ""
    if package is not None:
        manifest, name = package.manifest, package.manifest.name
    elif order.package not in ("", AS_RECORDED):
        record = registry.get(order.package)
        manifest, name = record.manifest, record.name
    ruled = with_rules(plant, rules, where=where)
    if not order.package and not rules:
        raise InvalidError(
            "nothing is tried", where="package",
            fix="Name a package (recorded: the one that answered then), or rules.",
        )  # fmt: skip
    inspections = replay_inspections(order, plant, manifest=manifest)
    return ReplayTarget(inspections=inspections, name=name, plant=ruled)


def replay(
    order: ReplayOrder, records: Records, blobs: Blobs, *, plant: Plant, clock: Clock, tell: Tell,
    package: Package | None = None, rules: bytes = b"", where: str = "rules",
    engine: EngineName = EngineName.ONNX_RUNTIME, device: EngineDevice = EngineDevice.CPU,
) -> ReplayResult:  # fmt: skip
    """Replay a span here and now; see ``check_request``. Nothing is written."""
    registry = Registry(records, blobs, clock=clock)
    tried = check_request(order, registry, plant=plant, package=package, rules=rules, where=where)

    def find(digest: Digest) -> Package:
        if package is not None and package.digest == digest:
            return package
        return Package.read(registry.content(digest), where=digest)

    answers = RecordedPredictor(
        records, blobs, find=find, clock=clock, engine=engine, device=device
    )
    if order.package not in ("", AS_RECORDED):
        answers.load(Digest(order.package))
    run = Replay(order, records=records, plant=plant, target=tried, answers=answers, clock=clock)
    found = run.run(tell=tell)
    name = engine.value if device is EngineDevice.CPU else f"{engine} on {answers.device}"
    return replace(found, engine=name if tried.inspections else "")
