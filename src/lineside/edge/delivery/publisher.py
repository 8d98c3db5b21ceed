"""Publisher of results on the plant's own topics, in the plant's message form.

1. Decided by ``message_of``, a pure function; said in the camera's own thread, without waiting.
2. Nothing but answers goes there: how the device is stands on its own topic, retained.
3. A message that the bus does not take is counted and gone. What must not be lost goes by
   lineside's own topics, through the spool.

Verdicts on parts, on the line's own topic: ``VerdictPublisher``.

The device's log on the bus: ``edge-manager-app/logs/<device>``, ``{"logs": [entry, …]}``.

1. Entries are sent once more than 10 have gathered, or when the oldest has waited ``period_s``.
2. While a send runs, and while the bus is away, entries are kept, at most ``_KEPT``; beyond it the
   oldest go, and the next entry that is sent says how many.
3. What was not taken over by the broker is sent again.
4. What this module and the bus itself log is not published: a lost connection would feed itself.
"""

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from lineside.core import Clock, Json, LinesideError, Plant, encode, rfc3339
from lineside.core.worker import Worker
from lineside.edge.messages import Counters
from lineside.links import Bus
from lineside.streams import (
    Event,
    LineVerdicts,
    encode_event,
    prediction_id,
    verdict_lines,
)
from lineside.streams.verdicts import (
    VerdictData,
    read_verdict,
    verdict_inspections,
    verdict_topic,
)
from lineside.vision import Decision, Frame, PictureState, Prediction
from lineside.vision.verdict import RejectRule, judge_prediction, reject_rule


@dataclass(frozen=True, slots=True, kw_only=True)
class _Best:
    """The likeliest names of an answer, with their probabilities."""

    label: str
    score: float
    decision: Decision
    second: str = ""
    second_score: float = 0.0


class ResultPublisher:
    """An onlooker: says each answer on the topics that the plant file names."""

    def __init__(
        self, plant: Plant, *, inspections: Sequence[str], device: str, bus: Bus, counters: Counters
    ) -> None:
        tasks = {item.id: str(item.task) for item in plant.inspection}
        self._said = tuple(
            (route.topic, route.say, route.say.all_fields(tasks[route.say.inspection]))
            for route in plant.route
            if route.say is not None and route.say.inspection in inspections
        )
        self._rules = {one.id: reject_rule(one) for one in plant.inspection}
        self._device = device
        self._bus = bus
        self._counters = counters

    @property
    def topics(self) -> tuple[str, ...]:
        """Where something is said."""
        return tuple(topic for topic, _, _ in self._said)

    def look(self, frame: Frame, prediction: Prediction) -> None:
        """An inspection answered."""
        del frame
        for topic, say, fields in self._said:
            if say.inspection == prediction.inspection:
                message = message_of(
                    prediction, fields, unknown=say.unknown, device=self._device,
                    rule=self._rules[say.inspection],
                )  # fmt: skip
                if message is not None and not self._bus.publish_soon(topic, message, qos=0):
                    self._counters.refuse("not said to the plant")


class VerdictPublisher:
    """Judges the parts of the lines that this device inspects alone, and publishes the verdicts.

    1. A line is the device's own where all inspections that count run on it. It waits for those
       that have a package in use.
    2. A verdict is handed to the line's outputs (``take``), and then to the bus before its
       prediction is spooled. So the hub hears it first, records it as the part's one verdict, and
       gives none itself.
    3. What the bus does not take is counted and left: the hub gives the same verdict, under the
       same id, when the prediction reaches it.
    """

    def __init__(
        self, plant: Plant, *, inspections: Sequence[str], device: str, bus: Bus,
        counters: Counters, clock: Clock, in_use: Callable[[str], bool],
        take: Callable[[VerdictData], object],
    ) -> None:  # fmt: skip
        own = own_lines(plant, inspections)
        self._lines = {line: LineVerdicts(plant, line, device=device) for line in own}
        self._line_of = {name: self._lines[line] for line, names in own.items() for name in names}
        self._names = own
        self._plant = plant
        self._bus = bus
        self._counters = counters
        self._clock = clock
        self._in_use = in_use
        self._take = take
        self._lock = threading.Lock()

    def look(self, frame: Frame, prediction: Prediction) -> None:
        """An inspection answered."""
        del frame
        line = self._line_of.get(prediction.inspection)
        if line is None:
            return
        with self._lock:
            line.expect(name for name in self._names[line.line] if self._in_use(name))
            answer = line.judge(prediction, event=prediction_id(prediction))
            self._publish(line.add(answer, at_us=self._now_us()))

    def pass_time(self) -> None:
        """Give the verdicts on parts that waited long enough."""
        with self._lock:
            for line in self._lines.values():
                self._publish(line.advance(self._now_us()))

    def _now_us(self) -> int:
        return round(self._clock.monotonic() * 1e6)

    def _publish(self, events: Sequence[Event]) -> None:
        for event in events:
            self._take(read_verdict(event))
            topic = verdict_topic(self._plant, event.subject)
            if not self._bus.publish_soon(topic, encode_event(event)):
                self._counters.refuse("verdict left to the hub")


def own_lines(plant: Plant, inspections: Collection[str]) -> dict[str, set[str]]:
    """Line → its inspections that count, where all of them are among those of a device."""
    counting = {
        line: {one.id for one in verdict_inspections(plant, line)} for line in verdict_lines(plant)
    }
    return {line: names for line, names in counting.items() if names <= set(inspections)}


def message_of(
    prediction: Prediction, fields: dict[str, str], *, unknown: str = "", device: str = "",
    rule: RejectRule | None = None,
) -> bytes | None:  # fmt: skip
    """The message of an answer; None where there is nothing to say.

    Args:
        prediction: the answer.
        fields: name → what it says, in order, as ``Say.all_fields`` gives them.
        unknown: the label of an answer that is unsure, and of a picture that was not judged; "":
            the likeliest label is said, and of such a picture nothing.
        device: who says it.
        rule: which answers reject, for ``verdict`` and ``reasons``; None: the usual ones.

    Returns:
        JSON with a blank after comma and colon and all letters in ASCII, as Python's own codec
        writes it: a reader before may compare bytes.
    """
    best = _best(prediction)
    about_label = "label" in fields.values()
    if about_label and not unknown and (best is None or prediction.state is not PictureState.OK):
        return None
    sure = best is not None and best.decision is not Decision.UNSURE
    heard = prediction.state is PictureState.OK and sure
    label = best.label if best is not None and (heard or not unknown) else unknown
    judgement = judge_prediction(prediction, rule or RejectRule())
    known = {
        **_known(prediction, best, label=label, device=device),
        "verdict": judgement.verdict.value,
        "reasons": list(judgement.reasons),
    }
    return json.dumps({name: known[told] for name, told in fields.items()}).encode()


def _known(
    prediction: Prediction, best: _Best | None, *, label: str, device: str
) -> dict[str, Json]:
    frame = prediction.frame
    return {
        **_figures(prediction, best),
        "label": label,
        "state": prediction.state.value,
        "ts": rfc3339(frame.captured_at),
        "sequence": frame.sequence,
        "part": frame.part,
        "frame": frame.id,
        "camera": frame.camera,
        "inspection": prediction.inspection,
        "device": device,
        "package": prediction.package,
        "dataset": prediction.dataset,
    }


def _figures(prediction: Prediction, best: _Best | None) -> dict[str, Json]:
    count, anomaly, mask = prediction.count, prediction.anomaly, prediction.mask
    score = best.score if best is not None else anomaly.score if anomaly is not None else 0.0
    said = [one.decision for one in (best, count, anomaly) if one is not None]
    return {
        "score": score,
        "percent": score * 100,
        "second": best.second if best is not None else "",
        "second_score": best.second_score if best is not None else 0.0,
        "decision": said[0].value if said else Decision.UNSURE.value,
        "limit": anomaly.limit if anomaly is not None else 0.0,
        "count": count.value if count is not None else None,
        "count_low": count.low if count is not None else None,
        "count_high": count.high if count is not None else None,
        "boxes": len(prediction.boxes),
        "defect_share": mask.share if mask is not None else 0.0,
    }


def _best(prediction: Prediction) -> _Best | None:
    """The likeliest label, and the next; of boxes the likeliest one."""
    named = [(one.probability, one.name, one.decision) for one in prediction.labels]
    named += [(one.probability, one.label, one.decision) for one in prediction.boxes]
    ordered = sorted(named, key=lambda one: (-one[0], one[1]))
    if not ordered:
        return None
    (score, label, decision), rest = ordered[0], ordered[1:]
    second_score, second = rest[0][:2] if rest else (0.0, "")
    return _Best(
        label=label, score=score, decision=decision, second=second, second_score=second_score
    )


logger = logging.getLogger(__name__)

GATHERED = 10
_KEPT = 1000
_AT_ONCE = 50
_LONGEST = 2000
_RETRY_S = 5.0
_OWN = ("lineside.links", __name__)


class LogEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the log.

    Attributes:
        ts: time of the line, RFC 3339 in UTC.
        level, logger, message: level, logger and text of the line.
        dropped: how many lines before it were not kept.
    """

    ts: str
    level: str
    logger: str
    message: str
    dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMessage:
    """Lines of a device's log.

    Attributes:
        logs: the lines, oldest first.
    """

    logs: tuple[LogEntry, ...]


def log_topic(device: str) -> str:
    """Where a device's log is published."""
    return f"edge-manager-app/logs/{device}"


class LogBuffer:
    """Entries that wait to be sent, in order; safe from several threads."""

    def __init__(self, *, period_s: float, clock: Clock) -> None:
        self._period_s = period_s
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: deque[LogEntry] = deque()
        self._since_s = 0.0
        self._dropped = 0
        self.dropped = 0

    def add(self, entry: LogEntry) -> None:
        """Keep an entry; the oldest goes where there are too many."""
        with self._lock:
            if not self._entries:
                self._since_s = self._clock.monotonic()
            self._entries.append(entry)
            if len(self._entries) > _KEPT:
                self._entries.popleft()
                self._dropped += 1
                self.dropped += 1

    def due(self) -> tuple[tuple[LogEntry, ...], int]:
        """Entries to send now, and the number dropped before them; none while it waits."""
        with self._lock:
            if not self._is_due():
                return (), 0
            return tuple(self._entries)[:_AT_ONCE], self._dropped

    def rest(self) -> tuple[tuple[LogEntry, ...], int]:
        """The next to be sent, due or not."""
        with self._lock:
            return tuple(self._entries)[:_AT_ONCE], self._dropped

    def sent(self, batch: tuple[LogEntry, ...], *, dropped: int) -> None:
        """These were taken over; those of them that went meanwhile are not counted as dropped."""
        with self._lock:
            for entry in batch:
                if self._entries and self._entries[0] is entry:
                    self._entries.popleft()
                else:
                    self._dropped -= 1
                    self.dropped -= 1
            self._dropped -= dropped
            self._since_s = self._clock.monotonic()

    def wait_s(self) -> float:
        """For how long nothing is due unless something comes."""
        with self._lock:
            if not self._entries:
                return self._period_s
            return max(0.0, self._period_s - (self._clock.monotonic() - self._since_s))

    def _is_due(self) -> bool:
        waited_s = self._clock.monotonic() - self._since_s
        return bool(self._entries) and (len(self._entries) > GATHERED or waited_s >= self._period_s)


def payload_of(batch: tuple[LogEntry, ...], *, dropped: int) -> bytes:
    """The message of a batch."""
    first = msgspec.structs.replace(batch[0], dropped=dropped)
    return encode(LogMessage(logs=(first, *batch[1:])))


class LogPublisher(logging.Handler):
    """Attached to a logger by the program; started and closed by it too."""

    def __init__(self, bus: Bus, *, device: str, period_s: float, clock: Clock) -> None:
        super().__init__(level=logging.INFO)
        self._bus = bus
        self._topic = log_topic(device)
        self._gathered = LogBuffer(period_s=period_s, clock=clock)
        self._worker = Worker("log-publisher", self._turn, at_end=self._send_rest)

    @property
    def dropped(self) -> int:
        """Entries that were not kept, in all."""
        return self._gathered.dropped

    def start(self) -> None:
        """Begin to send."""
        self._worker.start()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(_OWN):
            return
        try:
            self._gathered.add(_entry(record))
        except Exception:  # noqa: BLE001  # boundary: a line of the log must not end its writer
            self.handleError(record)
        self.tick()

    def tick(self) -> None:
        """Look again, as after the clock was moved by hand."""
        self._worker.wake()

    def close(self) -> None:
        """Send what is there once, end."""
        self._worker.stop()
        super().close()

    def _turn(self) -> float:
        batch, dropped = self._gathered.due()
        if batch and not self._send(batch, dropped=dropped):
            self._worker.stopping.wait(_RETRY_S)  # a new entry does not end this pause
        return 0.0 if batch else self._gathered.wait_s()

    def _send_rest(self) -> None:
        batch, dropped = self._gathered.rest()
        if batch and self._bus.connected():
            self._send(batch, dropped=dropped)

    def _send(self, batch: tuple[LogEntry, ...], *, dropped: int) -> bool:
        try:
            self._bus.publish(self._topic, payload_of(batch, dropped=dropped))
        except LinesideError as error:
            logger.debug("log not published: %s", error)
            return False
        except Exception:  # boundary: the thread goes on
            logger.exception("log cannot be published")
            return False
        self._gathered.sent(batch, dropped=dropped)
        return True


def _entry(record: logging.LogRecord) -> LogEntry:
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        text = f"{text}: {record.exc_info[1]!r}"
    return LogEntry(
        ts=rfc3339(datetime.fromtimestamp(record.created, tz=UTC)),
        level=record.levelname,
        logger=record.name,
        message=text[:_LONGEST],
    )
