"""Predictions, verdicts and status messages of devices: stored, folded, acknowledged.

1. Events of a batch are one transaction, with the new acknowledgement of each device in it.
2. A device gets its acknowledgement only after the commit. A lost acknowledgement costs a second
   delivery, which changes nothing, so nobody waits for it.
3. A known device's bad event is kept among the dead letters and need not come again; an unknown
   device gets no acknowledgement.
4. A prediction is read once, here: its event carries it to the twin and to the live view.
5. A device sends a verdict once and without a count, because the hub gives it where it is lost. The
   hub hears its own verdicts on the same topic and passes them over.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from lineside.core import Clock, InvalidError, Plant
from lineside.hub.devices.registry import AckState, DeviceRegistry, ack_payload
from lineside.hub.eventlog.dead_letters import FailurePolicy, store_batch
from lineside.hub.eventlog.ledger import Commit, Ledger
from lineside.hub.eventlog.stats import Stats
from lineside.hub.eventlog.topics import DeadLetterError, Reason, check_not_future
from lineside.hub.ingest.answers import answer_of
from lineside.links import Bus, Message
from lineside.store import Logged
from lineside.streams import (
    VERDICT_TYPE,
    Event,
    decode_event,
    prediction_id,
    read_prediction,
    read_verdict,
)
from lineside.vision import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEvent:
    """A device's event as it came from the bus; its prediction was read and checked."""

    device: str
    event: Event
    message: Message


class DeviceIngest:
    """Stores the events of devices and keeps their status."""

    def __init__(
        self, *, plant: Plant, ledger: Ledger, devices: DeviceRegistry, failures: FailurePolicy,
        stats: Stats, clock: Clock, on_prediction: Callable[[Prediction, str], None],
        on_new_device: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._plant = plant
        self._ledger = ledger
        self._devices = devices
        self._failures = failures
        self._stats = stats
        self._clock = clock
        self._on_prediction = on_prediction
        self._on_new_device = on_new_device
        self.bus: Bus | None = None

    def take(self, messages: Sequence[Message]) -> None:
        """One batch from the bus: ``prepare``, then ``commit``."""
        self.commit(self.prepare(messages))

    def prepare(self, messages: Sequence[Message]) -> list[DeviceEvent]:
        """Take in status messages; read and check predictions."""
        items: list[DeviceEvent] = []
        for message in messages:
            try:
                if message.topic.endswith("/status"):
                    self._failures.retry(partial(self._take_status, message))
                elif message.topic.endswith("/verdict"):
                    items += self._read_verdict(message)
                else:
                    items += self._read(message)
            except DeadLetterError as refusal:
                self._failures.refuse(refusal, message.payload, topic=message.topic)
        self._failures.retry(self._devices.save_new)
        return items

    def commit(self, items: Sequence[DeviceEvent]) -> None:
        """Into the log and the twin, in one transaction; then acknowledge to the devices."""
        store_batch(items, self._commit, refuse=self._refuse)

    def _take_status(self, message: Message) -> None:
        self._stats.count("status_messages")
        if not message.payload:
            return
        device = message.topic.split("/")[3]
        is_new = not self._devices.knows(device)
        self._devices.take_status(device, message.payload, retained=message.retain)
        if is_new:
            self._on_new_device(device)
        if changes := self._devices.camera_events(device):
            self._ledger.record(changes)

    def _read(self, message: Message) -> list[DeviceEvent]:
        _, _, line, camera, _ = message.topic.split("/")
        event = _event_of(message)
        device = self._devices.check(event, line=line, camera=camera)
        try:
            prediction = self._check(event, camera=camera)
        except DeadLetterError as refusal:
            if refusal.reason is Reason.FUTURE:
                self._stats.count("skew", "future")
            self._set_aside(device, event, refusal=refusal, message=message)
            return []
        event = replace(event, prediction=prediction)
        return [DeviceEvent(device=device, event=event, message=message)]

    def _read_verdict(self, message: Message) -> list[DeviceEvent]:
        event, line = _event_of(message), message.topic.split("/")[2]
        check_not_future(event.time, now=self._clock.now(), where=event.id)
        try:
            given = read_verdict(event)
        except InvalidError as error:
            raise DeadLetterError(Reason.NOT_AN_EVENT, str(error), where=event.id) from error
        if not given.device:
            return []
        if not self._devices.knows(given.device):
            raise DeadLetterError(
                Reason.UNKNOWN_DEVICE, f"{given.device!r} never told its status", where=event.id
            )
        source = f"/{self._plant.site}/line/{line}"
        told = (event.type, event.source, event.subject, given.line)
        if told != (VERDICT_TYPE, source, line, line):
            raise DeadLetterError(Reason.NOT_AN_EVENT, f"no verdict of the line {line!r}")
        return [DeviceEvent(device=given.device, event=event, message=message)]

    def _check(self, event: Event, *, camera: str) -> Prediction:
        check_not_future(event.time, now=self._clock.now(), where=event.id)
        try:
            prediction = read_prediction(event)
        except InvalidError as error:
            raise DeadLetterError(Reason.NOT_AN_EVENT, str(error), where=event.id) from error
        if event.id != prediction_id(prediction) or event.subject != prediction.inspection:
            raise DeadLetterError(
                Reason.NOT_AN_EVENT, "id or subject are not those of its frame and inspection"
            )
        inspections = {one.id for one in self._plant.inspection if one.camera == camera}
        if prediction.inspection not in inspections:
            raise DeadLetterError(
                Reason.WRONG_CAMERA, f"{camera!r} has no inspection {prediction.inspection!r}"
            )
        return prediction

    def _refuse(self, item: DeviceEvent, refusal: DeadLetterError) -> None:
        if item.event.type == VERDICT_TYPE:
            self._failures.refuse(refusal, item.message.payload, topic=item.message.topic)
        else:
            self._set_aside(item.device, item.event, refusal=refusal, message=item.message)

    def _set_aside(
        self, device: str, event: Event, *, refusal: DeadLetterError, message: Message
    ) -> None:
        """Keep it among the dead letters first; then the device need not hold it any longer."""
        self._failures.refuse(refusal, message.payload, topic=message.topic)
        state = self._devices.set_aside(device, event)
        self._acknowledge(device, state.acked)

    def _commit(self, items: Sequence[DeviceEvent]) -> None:
        states: dict[str, AckState] = {}

        def note(logged: list[Logged]) -> None:
            by_device: dict[str, list[tuple[Event, Logged]]] = defaultdict(list)
            for item, entry in zip(items, logged, strict=True):
                if item.event.type != VERDICT_TYPE:
                    by_device[item.device].append((item.event, entry))
            for device, counts in by_device.items():
                states[device] = self._devices.stored(device, counts)

        events = [item.event for item in items]
        commit = self._failures.retry(lambda: self._ledger.record(events, within=note))
        for device, state in states.items():
            self._devices.committed(device, state)
            self._acknowledge(device, state.acked)
        self._count(items, commit)

    def _count(self, items: Sequence[DeviceEvent], commit: Commit) -> None:
        inspections = {one.id: one for one in self._plant.inspection}
        for item, logged in zip(items, commit.logged, strict=True):
            if item.event.type == VERDICT_TYPE:
                continue
            if logged.duplicate:
                self._stats.count("predictions_duplicate")
                continue
            prediction = read_prediction(item.event)
            answer = answer_of(prediction, inspections.get(prediction.inspection))
            self._stats.count_answer(
                prediction, verdict=answer.verdict, unsure=answer.unsure,
                latency_s=(commit.at - item.event.time).total_seconds(),
            )  # fmt: skip
            self._on_prediction(prediction, item.event.id)
        fresh = sum(not logged.duplicate for logged in commit.logged)
        self._stats.count("events", by=fresh + len(commit.raised))

    def _acknowledge(self, device: str, acked: int) -> None:
        if self.bus is not None:
            topic = f"lineside/{self._plant.site}/device/{device}/ack"
            self.bus.publish_soon(topic, ack_payload(device, acked), qos=1)


def _event_of(message: Message) -> Event:
    try:
        return decode_event(message.payload, where=message.topic)
    except InvalidError as error:
        raise DeadLetterError(Reason.NOT_AN_EVENT, str(error), where=message.topic) from error
