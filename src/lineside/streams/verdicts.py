"""One verdict for each part: the answers of a line's inspections combined.

Rules:

1. Answers with a part id belong to that part, whatever their camera. An answer without one belongs
   to the part that its frame shows, with the inspections of that camera that have the same trigger.
2. A part waits for every inspection that looks at each frame or part and has answered once since
   the line began: one that never had a package keeps nobody waiting. Where all inspections of a
   line have other triggers, it waits for all of them.
3. When all have answered, or ``wait_s`` after the arrival of the first answer, the verdict is
   given, once (``vision.verdict.judge_part``). Of several answers of one inspection the one that
   outweighs the others counts, the earliest of those alike: order and doubles change nothing.
4. An answer that comes after the verdict is counted (``late``) and changes nothing. A part id is
   another part when it was not captured for ``again_s``.
5. The event's source is the line, its id is made of the line, the part and its earliest frame: the
   same answers give the same event, whoever combines them, and the log keeps one. A verdict that a
   device gave is as good as an own one.
6. At most ``MOST_PARTS`` parts wait, and as many that have their verdict are known. Beyond that,
   the part without an answer for longest gets its verdict early, and is counted.

Time is that of arrival, handed in; a fold without a clock, whose memory is plain JSON.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from lineside.core import Inspection, InvalidError, Plant, Rule, digest_of, encode, stable_id
from lineside.core import to_plain as plain_of
from lineside.core.plant_rules import RuleInput, Scalar
from lineside.streams.event import PREDICTION_TYPE, Event
from lineside.streams.rules.contract import moment
from lineside.streams.rules.engine import Counters
from lineside.streams.rules.keyed_state import KeyedState, read_memory
from lineside.streams.rules.records import TICK_TYPE, Entry, microseconds
from lineside.vision import PictureState, Prediction
from lineside.vision.verdict import (
    Judgement,
    PartVerdict,
    judge_part,
    judge_prediction,
    reject_rule,
)

VERDICT_TYPE = "lineside.verdict.v1"
VERDICT_SCHEMA: Literal["lineside.verdict/1"] = "lineside.verdict/1"
MOST_PARTS = 10_000
_RANK = {verdict: place for place, verdict in enumerate(PartVerdict)}

Key = tuple[Scalar, ...]


class InspectionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of one inspection, as it counts for a part.

    Attributes:
        inspection: id in the plant file.
        event: id of the prediction event that it was made of.
        camera, frame: ids in that event.
        captured_at: capture time of the frame.
        part: id of the frame's part; empty where the frame carries none.
        package: digest of the package whose thresholds applied.
        device: who judged.
        verdict: what this inspection alone says of the part.
        reasons: why it is not ok, a short sentence each.
        state: state of its image, as in the prediction; anything but ``ok``: the image was not
            judged. Events of older devices lack it.
        operating_point: the limits that applied, as far as the prediction says them:
            ``anomaly_limit``.
        operating_point_digest: digest of the [operating point](packages.md#operating-points) whose
            limits applied in place of the package's own; empty for none.
    """

    inspection: str
    event: str
    camera: str
    frame: str
    captured_at: Annotated[datetime, msgspec.Meta(tz=True)]
    package: str
    verdict: PartVerdict
    reasons: tuple[str, ...] = ()
    device: str = ""
    part: str = ""
    state: PictureState = PictureState.OK
    operating_point: Mapping[str, float] = {}
    operating_point_digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictData:
    """``data`` of ``lineside.verdict.v1``.

    Attributes:
        schema: name and version of this record.
        line: id in the plant file.
        part: the part's id; empty where the line gives none, and the frame is the part.
        verdict: ``ok``, ``reject``, ``review`` or ``incomplete``.
        reasons: why it is not ok, a short sentence each.
        missing: inspections that did not answer in time.
        frames: ids of the frames, in the order of ``answers``.
        answers: what it rests on, in the order of the plant file.
        device: the device that gave the verdict; empty for the hub.
    """

    line: str
    part: str
    verdict: PartVerdict
    reasons: tuple[str, ...]
    frames: tuple[str, ...]
    answers: tuple[InspectionAnswer, ...]
    missing: tuple[str, ...] = ()
    device: str = ""
    schema: Literal["lineside.verdict/1"] = VERDICT_SCHEMA


def read_verdict(event: Event) -> VerdictData:
    """The data of a verdict's event; ``InvalidError`` where it is none."""
    return verdict_data(event.data, where=f"event {event.id}")


def verdict_data(data: object, *, where: str) -> VerdictData:
    """The key ``data`` of a verdict's event; ``InvalidError`` where it is none."""
    try:
        return msgspec.convert(data, VerdictData)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidError(
            str(error), where=where,
            fix="Send the shape of docs/reference/messages.md, Verdict event.",
        ) from error  # fmt: skip


def frame_judgement(predictions: Sequence[Prediction], *, plant: Plant) -> Judgement | None:
    """Return the verdict by the answers to one frame; None where none of them counts."""
    rules = {one.id: reject_rule(one) for one in plant.inspection if one.verdict}
    found = [
        judge_prediction(one, rules[one.inspection])
        for one in predictions
        if one.inspection in rules
    ]
    return judge_part(found) if found else None


def verdict_inspections(plant: Plant, line: str) -> tuple[Inspection, ...]:
    """The inspections of a line whose answers count for its verdicts, in the plant file's order."""
    cameras = {camera.id for camera in plant.camera if camera.line == line}
    return tuple(one for one in plant.inspection if one.verdict and one.camera in cameras)


class _Part(msgspec.Struct, kw_only=True):
    """A part that waits: its answers by inspection, its earliest frame, its newest capture."""

    key: Key
    due_us: int
    born: int = 0
    answers: dict[str, InspectionAnswer]
    first: tuple[int, str]
    newest_us: int


class _Memory(msgspec.Struct):
    parts: list[_Part]
    decided: list[tuple[Key, tuple[int, bool]]]
    heard: list[str]
    now_us: int
    evicted: int
    counters: Counters
    given: dict[str, int]


class LineVerdicts:
    """The verdicts of one line, as one of the rules over the log; owned by one thread.

    It has what ``RuleEngine`` has for whoever runs rules: ``rule``, ``digest``, ``role``, ``take``,
    ``ticks_at_us``, ``counted``, ``written`` and ``load``.

    Args:
        plant: declares the inspections.
        line: an id of a line on which some inspection counts.
        device: which gives the verdicts; "" for the hub.
        most: parts that may wait, and parts that are known to have their verdict.
    """

    def __init__(
        self, plant: Plant, line: str, *, device: str = "", most: int = MOST_PARTS
    ) -> None:  # fmt: skip
        found = verdict_inspections(plant, line)
        declared = next(one for one in plant.line if one.id == line)
        self.line, self._device = line, device
        self._source = f"/{plant.site}/line/{line}"
        self.rule = Rule(
            id=f"verdict/{line}", line=line, name=f"Verdict of {declared.name}", python="verdict",
            read=RuleInput(predictions=tuple(one.id for one in found)), time="arrival", idle_s=1.0,
        )  # fmt: skip
        # Parts that wait keep waiting when the plant file changes.
        self.digest = digest_of(encode([VERDICT_SCHEMA, line]))
        self.counters = Counters()
        self.given = dict.fromkeys(map(str, PartVerdict), 0)
        self._inspections = {one.id: one for one in found}
        self._rules = {one.id: reject_rule(one) for one in found}
        self._same_trigger = {one.id: _same_trigger(one, found) for one in found}
        self._each = tuple(one.id for one in found if one.trigger.on in ("frame", "part"))
        self._wait_us = round(declared.wait_s * 1e6)
        self._again_us = round(declared.again_s * 1e6)
        self._parts: KeyedState[_Part] = KeyedState(most)
        self._most = most
        self._decided: OrderedDict[Key, tuple[int, bool]] = OrderedDict()
        self._heard: set[str] = set()
        self._now_us = 0

    # ---- the fold

    def expect(self, inspections: Iterable[str]) -> None:
        """Wait for these from now on, and for no other, whether or not they have answered."""
        self._heard = {one for one in inspections if one in self._inspections}

    def judge(self, prediction: Prediction, *, event: str) -> InspectionAnswer:
        """Return an inspection's answer, of the prediction event of that id.

        ``KeyError``: the inspection is none that counts on this line.
        """
        found = judge_prediction(prediction, self._rules[prediction.inspection])
        anomaly = prediction.anomaly
        return InspectionAnswer(
            inspection=prediction.inspection, event=event,
            camera=prediction.frame.camera, frame=prediction.frame.id,
            captured_at=prediction.frame.captured_at, package=prediction.package,
            device=prediction.device, part=prediction.frame.part,
            verdict=found.verdict, reasons=found.reasons, state=prediction.state,
            operating_point={} if anomaly is None else {"anomaly_limit": anomaly.limit},
            operating_point_digest=prediction.operating_point,
        )  # fmt: skip

    def add(self, answer: InspectionAnswer, *, at_us: int) -> list[Event]:
        """Take one answer; the verdicts that it brings, those that fell due before it first."""
        events = self.advance(at_us)
        self._heard.add(answer.inspection)
        captured_us, key = microseconds(answer.captured_at), self._key(answer)
        if self._is_late(key, captured_us):
            return events
        part = self._parts.use(key)
        if part is None:
            part = _Part(
                key=key, due_us=self._now_us + self._wait_us, answers={},
                first=(captured_us, answer.frame), newest_us=captured_us,
            )  # fmt: skip
        part.first = min(part.first, (captured_us, answer.frame))
        part.newest_us = max(part.newest_us, captured_us)
        other = part.answers.get(answer.inspection)
        part.answers[answer.inspection] = answer if other is None else min(other, answer, key=_rank)
        if not self._missing(part):
            self._parts.drop(key)
            events.append(self._tell(part))
        elif not part.born and (left := self._parts.add(key, part)) is not None:
            events.append(self._tell(left))
        return events

    def advance(self, now_us: int) -> list[Event]:
        """Let time pass; the verdicts on parts that waited long enough."""
        self._now_us = max(self._now_us, now_us)
        if self._now_us < self._parts.next_us:
            return []
        return [self._tell(part) for _, part in self._parts.due(self._now_us)]

    def note(self, given: VerdictData) -> None:
        """Take over a verdict that was given elsewhere; its answers may come behind it."""
        self.given[given.verdict] += 1
        for answer in given.answers[:1]:
            self._parts.drop(key := self._key(answer))
            newest = max(one.captured_at for one in given.answers)
            self._remember(key, microseconds(newest), own=False)
        self._heard.update(one.inspection for one in given.answers)

    def _key(self, answer: InspectionAnswer) -> Key:
        if answer.part:
            return ("part", answer.part)
        alike = self._same_trigger.get(answer.inspection, (answer.inspection,))
        return ("frame", answer.frame, alike[0])

    def _is_late(self, key: Key, captured_us: int) -> bool:
        newest_us, own = self._decided.get(key, (None, True))
        if newest_us is None:
            return False
        if captured_us > newest_us + self._again_us:
            del self._decided[key]
            return False
        self.counters.late += own
        self._remember(key, max(newest_us, captured_us), own=own)
        return True

    def _remember(self, key: Key, newest_us: int, *, own: bool) -> None:
        self._decided[key] = newest_us, own
        self._decided.move_to_end(key)
        if len(self._decided) > self._most:
            self._decided.popitem(last=False)

    def _missing(self, part: _Part) -> list[str]:
        """The inspections that the part waits for."""
        if part.key[0] == "frame":
            wanted: Iterable[str] = self._same_trigger.get(str(part.key[2]), ())
        else:
            each = [one for one in self._each if one in self._heard]
            wanted = each or self._inspections
        return [one for one in wanted if one in self._heard and one not in part.answers]

    def _tell(self, part: _Part) -> Event:
        order = list(self._inspections)
        answers = sorted(part.answers.values(), key=lambda one: order.index(one.inspection))
        missing = self._missing(part)
        found = judge_part(
            [Judgement(verdict=one.verdict, reasons=one.reasons) for one in answers],
            missing=missing,
        )
        given = VerdictData(
            line=self.line, part=answers[0].part, verdict=found.verdict, reasons=found.reasons,
            frames=tuple(dict.fromkeys(one.frame for one in answers)), answers=tuple(answers),
            missing=tuple(missing), device=self._device,
        )  # fmt: skip
        self.counters.given += 1
        self.given[given.verdict] += 1
        if part.key[0] == "part" or len(self._same_trigger[answers[0].inspection]) > 1:
            self._remember(part.key, part.newest_us, own=True)
        return Event(
            id=_event_id(self.line, part.key, part.first[1]),
            source=self._source, type=VERDICT_TYPE, subject=self.line,
            time=moment(part.newest_us), dataschema=VERDICT_SCHEMA, data=plain_of(given),
        )  # fmt: skip

    # ---- as a rule over the log

    def role(self, type_: str, subject: str) -> str:
        """Return the role of an entry: ``record``, ``tick`` or "" for none."""
        if type_ == TICK_TYPE:
            return "tick"
        reads = (type_ == PREDICTION_TYPE and subject in self._inspections) or (
            type_ == VERDICT_TYPE and subject == self.line
        )
        return "record" if reads else ""

    def take(self, entries: Iterable[Entry]) -> list[Event]:
        """Take entries of the log, in its order; the verdicts that they bring."""
        events: list[Event] = []
        for entry in entries:
            role = self.role(entry.type, entry.subject)
            if role == "tick":
                events += self.advance(entry.arrived_us)
            elif role:
                events += self._read(entry)
        return events

    def _read(self, entry: Entry) -> Iterator[Event]:
        self.counters.read += 1
        try:
            if entry.type == VERDICT_TYPE:
                verdict = _VERDICT.decode(entry.body)
                if verdict.data.device != self._device:
                    self.note(verdict.data)
                return
            prediction = _PREDICTION.decode(entry.body)
            answer = self.judge(prediction.data, event=prediction.id)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.counters.unreadable += 1
            return
        self.counters.passed += 1
        yield from self.add(answer, at_us=entry.arrived_us)

    @property
    def held(self) -> int:
        """Parts that wait now."""
        return len(self._parts)

    @property
    def low_us(self) -> int | None:
        """The arrival up to which everything was told; None before the first answer."""
        return self._now_us or None

    def counted(self) -> Counters:
        """The counters as they stand."""
        self.counters.evicted = self._parts.evicted
        return self.counters

    def ticks_at_us(self) -> int | None:
        """From which arrival on a tick would bring a verdict; None while no part waits."""
        return min((part.due_us for part in self._parts), default=None)

    def written(self) -> bytes:
        """The whole memory, as JSON text."""
        return encode(
            _Memory(
                parts=list(self._parts), decided=list(self._decided.items()),
                heard=sorted(self._heard), now_us=self._now_us, evicted=self._parts.evicted,
                counters=self.counted(), given=self.given,
            )
        )  # fmt: skip

    def load(self, memory: Mapping[str, Any]) -> None:
        """Go on from what was written; ``InvalidError`` where it is no memory of verdicts."""
        kept = read_memory(memory, _Memory, of="verdicts")
        for part in kept.parts:  # of what the plant file no longer declares nothing is left
            for name in part.answers.keys() - self._inspections.keys():
                del part.answers[name]
        parts = [(part.key, part) for part in kept.parts if part.answers]
        self._parts.restore(parts, evicted=kept.evicted)
        self._decided = OrderedDict(kept.decided)
        self._heard = {one for one in kept.heard if one in self._inspections}
        self._now_us, self.counters = kept.now_us, kept.counters
        self.given |= kept.given


def verdict_lines(plant: Plant) -> tuple[str, ...]:
    """The lines whose parts get verdicts: those with an inspection that counts."""
    return tuple(line.id for line in plant.line if verdict_inspections(plant, line.id))


def verdict_topic(plant: Plant, line: str) -> str:
    """The topic on which the verdicts of a line are published."""
    return f"lineside/{plant.site}/{line}/verdict"


def verdict_id(plant: Plant, prediction: Prediction, *, first: str = "") -> str:
    """The id of the verdict's event on the part that a prediction is about.

    ``first``: id of the part's earliest frame; "" where that is the prediction's own.
    """
    line = plant.find_camera(prediction.frame.camera).line
    found = verdict_inspections(plant, line)
    inspection = next((one for one in found if one.id == prediction.inspection), None)
    alike = _same_trigger(inspection, found) if inspection else (prediction.inspection,)
    frame, part = prediction.frame.id, prediction.frame.part
    key: Key = ("part", part) if part else ("frame", frame, alike[0])
    return _event_id(line, key, first or frame)


def _event_id(line: str, key: Key, first: str) -> str:
    return stable_id("evt", VERDICT_TYPE, line, *map(str, key), first)


def _same_trigger(inspection: Inspection, others: Iterable[Inspection]) -> tuple[str, ...]:
    """The inspections of the same camera and trigger, in the order of the plant file."""
    place = (inspection.camera, inspection.trigger)
    return tuple(one.id for one in others if (one.camera, one.trigger) == place)


def _rank(answer: InspectionAnswer) -> tuple[int, datetime, str, str]:
    return _RANK[answer.verdict], answer.captured_at, answer.frame, answer.package


class _PredictionEvent(msgspec.Struct):
    id: str
    data: Prediction


class _VerdictEvent(msgspec.Struct):
    data: VerdictData


_PREDICTION = msgspec.json.Decoder(_PredictionEvent)
_VERDICT = msgspec.json.Decoder(_VerdictEvent)
