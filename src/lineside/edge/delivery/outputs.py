"""Outputs of this device: the ``[[output]]`` of the plant file, switched on a line's verdicts.

Each output has a thread, a connection and a list of parts under way of its own, so that a PLC that
is slow or away delays no frame and no other output. What is written is decided by ``Switch``:

1. A verdict falls due ``delay_s`` after the capture of its part; then the part is at the output.
   One that is given later switches nothing: it would hit another part. It is counted (``late``).
2. One that is due but could not be written in time, because the other side was slow, switches for
   what is left of its pulse; where nothing is left it is late.
3. The fail-safe value is written while the line cannot be relied on (``fail``), and then until a
   verdict that was given since falls due. Whoever starts, or connects anew, begins there. Parts
   that were under way are forgotten.
4. An image that was not judged for a fault of its camera (``FAULTS``) makes the output fail-safe
   from when its part falls due until a verdict falls due after that inspection judged an image
   again. Meanwhile a verdict that ``on`` names switches as ever, unless it is ``ok``, and the
   fail-safe value stands in place of ``rest``. Parts under way before it were judged.
5. Without a pulse a value stands until the next verdict: where that is late, or its part was never
   seen by the camera that the delay counts from, the value would be said of the wrong part, and
   the output fails.

Where a PLC asks (``handshake``), ``Handshake`` decides:

1. The PLC sets its trigger once a part is in place; the first part whose images were all captured
   since gives the result: it is written, then ``done``. The PLC acknowledges and takes the trigger
   back; once both are 0 it may ask again. While ``done`` is 0 the fail-safe value stands.
2. Each trigger gets one result: the fail-safe value where no verdict comes within ``timeout_s``,
   the line cannot be relied on, or a camera has a fault and no verdict switches (rule 4 above). A
   trigger that is taken back before gets none.
3. A result that is not acknowledged within ``timeout_s`` is taken back, and is a fault.
4. After a start or a new connection, triggers count once trigger and acknowledgement were 0: a
   result may have been read that nobody knows of.

What is written is written again every ``_AGAIN_S``: a PLC that was restarted gets it back, and a
connection that is gone is noticed.
"""

import logging
import math
import threading
from bisect import insort
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Literal

from lineside.core import Clock, InvalidError, LinesideError, Plant, UnavailableError
from lineside.core.outputs import HandshakeConfig, OutputConfig
from lineside.core.worker import Worker
from lineside.edge.delivery.publisher import own_lines
from lineside.edge.messages import Counters
from lineside.fleet.contract import OUTPUT_WAITS, OutputCondition
from lineside.links.output import OutputDriver, open_output
from lineside.models.camera_faults import FAULTS
from lineside.streams.verdicts import InspectionAnswer, VerdictData, verdict_inspections

logger = logging.getLogger(__name__)

MOST_UNDER_WAY = 1000
"""Parts between camera and output."""
_AGAIN_S = 1.0
_LOOK_S = 0.1
_POLL_S = 0.005
"""Pause between two looks at a PLC's trigger."""
_LONGEST_RETRY_S = 2.0
_STOP_S = 5.0


def _switches(verdict: str, *, config: OutputConfig, fault: str) -> bool:
    """Return whether a verdict switches; an ok part does not while a camera has a fault."""
    return verdict in config.on and not (fault and verdict == "ok")


class Switch:
    """Decides the value of one output; times are seconds of one monotonic clock.

    Attributes:
        reason: why it is fail-safe; "" while it follows the verdicts.
        switched: how often a verdict switched it.
        late: verdicts that came too late to switch.
    """

    def __init__(self, config: OutputConfig) -> None:
        self._config = config
        self._under_way: list[tuple[float, bool, str]] = []
        self._until_s = -math.inf
        self.reason = OUTPUT_WAITS
        self.switched = 0
        self.late = 0

    def reset(self) -> None:
        """Begin anew, after a start or a new connection."""
        self.fail(OUTPUT_WAITS)

    def fail(self, reason: str) -> None:
        """Take the fail-safe value until a verdict that is given from now on falls due."""
        self._under_way.clear()
        self._until_s = -math.inf
        self.reason = reason

    def decide(self, verdict: str, *, captured_s: float, now_s: float, fault: str = "") -> None:
        """Take the verdict on a part that was captured then; ``fault``: of a camera, or ""."""
        config = self._config
        due_s = captured_s + config.delay_s
        if not config.delay_s and now_s - captured_s <= config.max_age_s:
            due_s = now_s
        if due_s < now_s:
            self._miss(fault)
        elif len(self._under_way) >= MOST_UNDER_WAY:
            self.fail(f"more than {MOST_UNDER_WAY} parts are under way")
        else:
            is_on = _switches(verdict, config=config, fault=fault)
            insort(self._under_way, (due_s, is_on, fault))

    def value(self, now_s: float) -> int:
        """The value that is to stand now."""
        config = self._config
        while self._under_way and self._under_way[0][0] <= now_s:
            due_s, is_on, fault = self._under_way.pop(0)
            ends_s = due_s + (config.pulse_s or math.inf)
            if ends_s <= now_s:
                self._miss(fault)
                continue
            self.reason = fault
            self.switched += is_on
            if is_on:
                self._until_s = ends_s
            elif not config.pulse_s:
                self._until_s = -math.inf
        if now_s < self._until_s:
            return config.value
        return config.fail_safe if self.reason else config.rest

    def next_s(self, now_s: float) -> float:
        """When the value may change by itself; infinite: not before the next verdict."""
        due_s = self._under_way[0][0] if self._under_way else math.inf
        return min(due_s, self._until_s) if now_s < self._until_s else due_s

    def _miss(self, fault: str) -> None:
        self.late += 1
        if not self._config.pulse_s:
            self.fail("a verdict came too late")
        self.reason = fault or self.reason


class Handshake:
    """Answers the triggers of a PLC; times are seconds of one monotonic clock.

    Attributes:
        phase: ``release``: until trigger and acknowledgement are 0; ``idle``; ``waiting`` for a
            verdict; ``done``: the result stands until it is acknowledged.
        reason: why the last result was no verdict, or was not acknowledged; "": neither.
        switched: results by which a verdict switched the output.
        late: triggers that no verdict answered in time.
    """

    def __init__(self, config: OutputConfig, shake: HandshakeConfig) -> None:
        self._config = config
        self._shake = shake
        self._since_s = -math.inf
        self._result = config.fail_safe
        self.phase: Literal["release", "idle", "waiting", "done"] = "release"
        self.reason = OUTPUT_WAITS
        self.switched = 0
        self.late = 0

    def value(self, now_s: float) -> int:
        """The value that is to stand now."""
        del now_s
        return self._result if self.phase == "done" else self._config.fail_safe

    def reset(self) -> None:
        """Begin anew, after a start or a new connection."""
        self.phase, self.reason = "release", OUTPUT_WAITS

    def next_s(self, now_s: float) -> float:
        """When the PLC is to be looked at again."""
        return now_s + _POLL_S

    def fail(self, reason: str) -> None:
        """Answer a trigger that waits with the fail-safe value."""
        self.reason = reason
        if self.phase == "waiting":
            self._finish(self._config.fail_safe)

    def decide(self, verdict: str, *, captured_s: float, fault: str = "") -> None:
        """Take the verdict on a part whose first image was captured then; see ``Switch``."""
        if self.phase == "waiting" and captured_s >= self._since_s + self._shake.settle_s:
            is_on = _switches(verdict, config=self._config, fault=fault)
            self.switched += is_on
            self.reason = fault
            rest = self._config.fail_safe if fault else self._config.rest
            self._finish(self._config.value if is_on else rest)

    def look(self, *, trigger: bool, acknowledge: bool, untrusted: str, now_s: float) -> bool:
        """Take what the PLC says; True where a trigger is accepted.

        Args:
            trigger: as it was read before ``now_s``: an image from before that may be of the part
                before.
            acknowledge: as it was read last.
            untrusted: why the line cannot be relied on; "" where it can.
            now_s: the time.
        """
        if self.phase == "done":
            self._since_s = min(self._since_s, now_s)
        is_over = now_s - self._since_s > self._shake.timeout_s
        match self.phase:
            case "release" if not trigger and not acknowledge:
                self.phase = "idle"
            case "idle" if trigger and not acknowledge:
                self.phase, self._since_s = "waiting", now_s
                if untrusted:
                    self.fail(untrusted)
                return not untrusted
            case "waiting" if not trigger:
                self.phase = "release"
            case "waiting" if is_over:
                self.late += 1
                self.fail("no verdict in time")
            case "done" if acknowledge:
                self.phase = "release"
            case "done" if is_over:
                self.phase, self.reason = "release", "the PLC acknowledged no result"
        return False

    def _finish(self, result: int) -> None:
        self.phase, self._result = "done", result
        self._since_s = math.inf  # the next look sees how long it stands


class OutputWorker:
    """Drives one output; started and closed by ``LineOutputs``."""

    def __init__(
        self, config: OutputConfig, *, connect: Callable[[], OutputDriver],
        untrusted: Callable[[], str], triggered: Callable[[], object], counters: Counters,
        clock: Clock,
    ) -> None:  # fmt: skip
        """Connect to nothing yet.

        Args:
            config: of the output.
            connect: opens its points; see ``links.output.open_output``.
            untrusted: why the line cannot be relied on now; "" where it can.
            triggered: called when a PLC wants a part judged.
            counters: where faults are said.
            clock: of capture times and waiting.
        """
        self.config = config
        self._place = f"output {config.id}"
        self._open = connect
        self._untrusted = untrusted
        self._counters = counters
        self._clock = clock
        self._lock = threading.Lock()
        shake = config.handshake
        self._decider = Switch(config) if shake is None else Handshake(config, shake)
        self._triggered = triggered
        self._driver: OutputDriver | None = None
        self._written: dict[str, int] = {}
        self._again_s, self._beat_s = -math.inf, -math.inf if config.heartbeat else math.inf
        self._beats = 0
        self._answers: dict[str, InspectionAnswer] = {}
        self._distrusted = ""
        self._reported = ("", "")
        self._worker = Worker(
            f"output-{config.id}", self._turn, longest_retry_s=_LONGEST_RETRY_S,
            at_end=self._leave, report=self._note, clock=clock,
        )  # fmt: skip

    def start(self) -> None:
        """Begin to drive."""
        self._worker.start()

    def request_stop(self) -> None:
        """Begin to end, without waiting."""
        self._worker.request_stop()

    def close(self) -> None:
        """End; the fail-safe value stands."""
        self._worker.stop(_STOP_S)

    def take(self, verdict: VerdictData) -> None:
        """Take the verdict on a part; it does not wait."""
        camera, is_waiting = self.config.camera, False
        found = [one.captured_at for one in verdict.answers if camera in {"", one.camera}]
        with self._lock:
            decider = self._decider
            self._answers |= {
                one.inspection: one for one in verdict.answers
                if one.captured_at >= self._answers.get(one.inspection, one).captured_at
            }  # fmt: skip
            fault = next((
                f"camera {one.camera} is {FAULTS[one.state]}"
                for one in self._answers.values() if one.state in FAULTS
            ), "")  # fmt: skip
            if isinstance(decider, Handshake):
                first_s = self._seconds(min(one.captured_at for one in verdict.answers))
                decider.decide(verdict.verdict, captured_s=first_s, fault=fault)
                is_waiting = decider.phase == "waiting"
            elif found:
                captured_s, now_s = self._seconds(max(found)), self._clock.monotonic()
                decider.decide(verdict.verdict, captured_s=captured_s, now_s=now_s, fault=fault)
            else:
                decider.fail(f"a part without an image of camera {camera}")
        if is_waiting:  # that image was older than the trigger: the next one has to be judged
            self._triggered()
        self._worker.wake()

    def fail(self, reason: str) -> None:
        """Take the fail-safe value until the next verdict."""
        with self._lock:
            self._decider.fail(reason)
        self._worker.wake()

    @property
    def condition(self) -> OutputCondition:
        """Condition for the status of the device."""
        switch, is_there = self._decider, self._driver is not None
        state: Literal["follows", "fail-safe", "away"] = "away"
        if is_there:
            state = "fail-safe" if switch.reason else "follows"
        return OutputCondition(
            output=self.config.id, state=state, reason=switch.reason,
            switched=switch.switched, late=switch.late,
        )  # fmt: skip

    def _seconds(self, at: datetime) -> float:
        """A time of day on the monotonic clock."""
        return self._clock.monotonic() - (self._clock.now() - at).total_seconds()

    def _turn(self) -> float:
        """Connect where that is needed, and write what is to stand; the pause behind it."""
        try:
            if self._driver is None:
                self._driver = self._connect()
            return self._drive(self._driver)
        except Exception:
            self._disconnect()
            raise

    def _connect(self) -> OutputDriver:
        with self._lock:
            self._decider.fail("no connection")
        driver = self._open()
        with self._lock:  # verdicts that came meanwhile are those of parts that nobody saw pass
            self._decider.reset()
        self._written.clear()
        return driver

    def _drive(self, driver: OutputDriver) -> float:
        config, now_s, untrusted = self.config, self._clock.monotonic(), self._untrusted()
        with self._lock:
            if untrusted:
                self._decider.fail(untrusted)
            elif self._distrusted and self._decider.reason:
                self._decider.reason = OUTPUT_WAITS
            self._distrusted = untrusted
        is_again = now_s >= self._again_s
        for point, value in self._values(driver, now_s).items():
            if is_again or self._written.get(point) != value:
                driver.write(point, value)
                self._written[point] = value
        if is_again:
            self._again_s = now_s + _AGAIN_S
        if now_s >= self._beat_s:
            self._beats = (self._beats + 1) % (config.most_value(config.heartbeat) + 1)
            driver.write(config.heartbeat, self._beats)
            self._beat_s = now_s + config.heartbeat_s
        self._report()
        with self._lock:
            next_s = min(
                self._decider.next_s(now_s), self._beat_s, self._again_s, now_s + _LOOK_S
            )  # fmt: skip
        return max(0.0, next_s - self._clock.monotonic())

    def _values(self, driver: OutputDriver, now_s: float) -> dict[str, int]:
        """The values that are to stand now, in the order in which they are written."""
        config, shake, decider = self.config, self.config.handshake, self._decider
        if shake is None or isinstance(decider, Switch):
            with self._lock:
                return {config.switch: decider.value(now_s)}
        trigger = driver.read(shake.trigger)
        now_s = self._clock.monotonic()
        acknowledge = driver.read(shake.acknowledge)
        with self._lock:
            is_accepted = decider.look(
                trigger=trigger, acknowledge=acknowledge, untrusted=self._distrusted, now_s=now_s
            )
        if is_accepted:
            self._triggered()
        with self._lock:
            value = decider.value(now_s)
            if decider.phase == "done":
                return {config.switch: value, shake.done: 1}
        return {shake.done: 0, config.switch: value}

    def _disconnect(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            with suppress(LinesideError):
                driver.close()

    def _leave(self) -> None:
        """Leave the fail-safe value behind, where the other side is there."""
        config = self.config
        done = {config.handshake.done: 0} if config.handshake is not None else {}
        for _ in range(2):  # a connection that broke is opened once more
            with suppress(LinesideError):
                driver = self._driver = self._driver or self._connect()
                for point, value in {**done, config.switch: config.fail_safe}.items():
                    driver.write(point, value)
                break
            self._disconnect()
        self._disconnect()
        with self._lock:
            self._decider.fail("the device stops")

    # what is said of it

    def _report(self) -> None:
        condition = self.condition.state, self._decider.reason
        _, reason = condition
        if reason not in {"", OUTPUT_WAITS}:
            self._fault(UnavailableError(f"it is fail-safe: {reason}"))
        elif not self._worker.failures:
            self._counters.mended(self._place)
        if condition != self._reported:
            self._reported = condition
            self._counters.changed()

    def _note(self, error: Exception | None) -> None:
        if error is None:
            self._counters.mended(self._place)
        else:
            self._fault(error)

    def _fault(self, error: Exception) -> None:
        if self._counters.fault(self._place, error):
            trace = None if isinstance(error, LinesideError) else error
            logger.warning("output fails output=%s: %s", self.config.id, error, exc_info=trace)


class LineOutputs:
    """The outputs that this device drives: those of lines that it inspects alone."""

    def __init__(
        self, plant: Plant, *, device: str, bus: str, inspections: Collection[str],
        untrusted: Callable[[str], str], triggered: Callable[[str], object], counters: Counters,
        clock: Clock,
    ) -> None:  # fmt: skip
        """Drive nothing yet.

        Args:
            plant: declares them.
            device: this one.
            bus: address of the plant's bus, as the device reaches it.
            inspections: those of this device.
            untrusted: line → why it cannot be relied on now; "" where it can.
            triggered: told of a line whose PLC wants a part judged.
            counters: where faults are said.
            clock: of capture times and waiting.
        """
        mine = [one for one in plant.output if one.device in {"", device}]
        lines = own_lines(plant, inspections)
        self._workers = tuple(
            OutputWorker(
                one,
                connect=partial(
                    open_output, one, bus=bus,
                    client_id=f"lineside-{plant.site}-{device}-output-{one.id}",
                ),
                untrusted=partial(untrusted, one.line), triggered=partial(triggered, one.line),
                counters=counters, clock=clock,
            )
            for one in mine if one.line in lines
        )  # fmt: skip
        for one in mine:
            here = any(each.id in inspections for each in verdict_inspections(plant, one.line))
            if one.line not in lines and (here or one.device):
                counters.fault(f"output {one.id}", InvalidError(
                    f"not driven: this device does not have every inspection of line {one.line}, "
                    "so the hub gives the verdict"
                ))  # fmt: skip

    def start(self) -> None:
        """Begin to drive."""
        for worker in self._workers:
            worker.start()

    def close(self) -> None:
        """Leave every output with its fail-safe value; they end beside each other."""
        for worker in self._workers:
            worker.request_stop()
        for worker in self._workers:
            worker.close()

    def take(self, verdict: VerdictData) -> None:
        """Take a verdict that this device gives; it does not wait."""
        for worker in self._of(verdict.line):
            worker.take(verdict)

    def fail(self, line: str, reason: str) -> None:
        """Give the outputs of a line their fail-safe value until the next verdict."""
        for worker in self._of(line):
            worker.fail(reason)

    def conditions(self) -> tuple[OutputCondition, ...]:
        """Conditions for the status of the device."""
        return tuple(worker.condition for worker in self._workers)

    def _of(self, line: str) -> Sequence[OutputWorker]:
        return [worker for worker in self._workers if worker.config.line == line]
