"""Predictions and status messages of devices: stored, folded, acknowledged.

1. Events of a batch are one transaction, with the new acknowledgement of each device in it.
2. A device is told what is stored only after the commit. A lost acknowledgement costs a second
   delivery, which changes nothing, so nobody waits for it.
3. A known device's bad event is kept among the dead letters and need not come again; an unknown
   device is told nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from lineside.core import Clock, InvalidError, Plant, stable_id
from lineside.hub.devices.registry import AckState, Devices, ack_payload
from lineside.hub.eventlog.dead_letters import Keeping, keep_batch
from lineside.hub.eventlog.ledger import Ledger, Recorded
from lineside.hub.eventlog.stats import Stats
from lineside.hub.eventlog.topics import DeadLetterError, Reason, check_not_ahead
from lineside.links import Bus, Message
from lineside.store import Logged
from lineside.streams import Event, decode_event, read_prediction
from lineside.vision import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceWatchers:
    """Who hears of what devices said."""

    prediction: Callable[[Prediction, str], None]
    device: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A prediction read from the bus."""

    device: str
    event: Event
    prediction: Prediction
    message: Message


class DeviceIngest:
    """What devices say."""

    def __init__(
        self, *, plant: Plant, ledger: Ledger, devices: Devices, keeping: Keeping, stats: Stats,
        clock: Clock, watchers: DeviceWatchers,
    ) -> None:  # fmt: skip
        self._plant = plant
        self._ledger = ledger
        self._devices = devices
        self._keeping = keeping
        self._stats = stats
        self._clock = clock
        self._watchers = watchers
        self.bus: Bus | None = None

    def take(self, messages: Sequence[Message]) -> None:
        """One batch from the bus: ``prepare``, then ``commit``."""
        self.commit(self.prepare(messages))

    def prepare(self, messages: Sequence[Message]) -> list[Said]:
        """Take in status messages; read and judge predictions."""
        said: list[Said] = []
        for message in messages:
            try:
                if message.topic.endswith("/status"):
                    self._keeping.patiently(partial(self._take_status, message))
                else:
                    said += self._read(message)
            except DeadLetterError as refusal:
                self._keeping.refuse(refusal, message.payload, topic=message.topic)
        self._keeping.patiently(self._devices.save_new)
        return said

    def commit(self, said: Sequence[Said]) -> None:
        """Into the log and the twin, in one transaction; then tell the devices."""
        keep_batch(said, self._commit, refuse=self._put_away)

    def _take_status(self, message: Message) -> None:
        self._stats.count("status_messages")
        if not message.payload:
            return
        device = message.topic.split("/")[3]
        is_new = not self._devices.knows(device)
        self._devices.take_status(device, message.payload, retained=message.retain)
        if is_new:
            self._watchers.device(device)
        if changes := self._devices.camera_events(device):
            self._ledger.record(changes)

    def _read(self, message: Message) -> list[Said]:
        _, _, line, camera, _ = message.topic.split("/")
        try:
            event = decode_event(message.payload, where=message.topic)
        except InvalidError as error:
            raise DeadLetterError(Reason.NOT_AN_EVENT, str(error), where=message.topic) from error
        device = self._devices.check(event, line=line, camera=camera)
        try:
            prediction = self._judge(event, camera=camera)
        except DeadLetterError as refusal:
            if refusal.reason is Reason.FUTURE:
                self._stats.skewed("future")
            self._set_aside(device, event, refusal=refusal, message=message)
            return []
        return [Said(device=device, event=event, prediction=prediction, message=message)]

    def _judge(self, event: Event, *, camera: str) -> Prediction:
        check_not_ahead(event.time, now=self._clock.now(), where=event.id)
        try:
            prediction = read_prediction(event)
        except InvalidError as error:
            raise DeadLetterError(Reason.NOT_AN_EVENT, str(error), where=event.id) from error
        named = (prediction.frame.id, prediction.inspection, prediction.package)
        if event.id != stable_id("evt", *named) or event.subject != prediction.inspection:
            raise DeadLetterError(
                Reason.NOT_AN_EVENT, "id or subject are not those of its frame and inspection"
            )
        asked = {one.id for one in self._plant.inspection if one.camera == camera}
        if prediction.inspection not in asked:
            raise DeadLetterError(
                Reason.WRONG_CAMERA, f"{camera!r} has no inspection {prediction.inspection!r}"
            )
        return prediction

    def _put_away(self, said: Said, refusal: DeadLetterError) -> None:
        self._set_aside(said.device, said.event, refusal=refusal, message=said.message)

    def _set_aside(
        self, device: str, event: Event, *, refusal: DeadLetterError, message: Message
    ) -> None:
        """Keep it among the dead letters first; then the device need not hold it any longer."""
        self._keeping.refuse(refusal, message.payload, topic=message.topic)
        state = self._devices.set_aside(device, event)
        self._tell(device, state.acked)

    def _commit(self, said: Sequence[Said]) -> None:
        states: dict[str, AckState] = {}

        def note(logged: list[Logged]) -> None:
            by_device: dict[str, list[tuple[Event, Logged]]] = defaultdict(list)
            for item, kept in zip(said, logged, strict=True):
                by_device[item.device].append((item.event, kept))
            for device, counts in by_device.items():
                states[device] = self._devices.stored(device, counts)

        events = [item.event for item in said]
        recorded = self._keeping.patiently(lambda: self._ledger.record(events, within=note))
        for device, state in states.items():
            self._devices.committed(device, state)
            self._tell(device, state.acked)
        self._count(said, recorded)

    def _count(self, said: Sequence[Said], recorded: Recorded) -> None:
        for item, logged in zip(said, recorded.logged, strict=True):
            if logged.duplicate:
                self._stats.count("predictions_duplicate")
                continue
            self._stats.count("predictions")
            self._stats.latency((recorded.at - item.event.time).total_seconds())
            self._watchers.prediction(item.prediction, item.event.id)
        fresh = sum(not logged.duplicate for logged in recorded.logged)
        self._stats.count("events", by=fresh + len(recorded.raised))

    def _tell(self, device: str, acked: int) -> None:
        if self.bus is not None:
            topic = f"lineside/{self._plant.site}/device/{device}/ack"
            self.bus.publish_soon(topic, ack_payload(device, acked), qos=1)
