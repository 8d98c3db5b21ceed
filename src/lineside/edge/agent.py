"""The device's work, wired: cameras, packages, spool, and messages on the bus.

Acknowledgements and the job service's answers are the hub's own words and show that it is there; a
retained message is the broker's. The answers carry the hub's time in whole seconds, so the offset
of its clock is known to one second.
"""

import logging
import math
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from lineside.core import Camera as CameraRecord
from lineside.core import (
    Clock,
    Digest,
    Inspection,
    InvalidError,
    LinesideError,
    Plant,
    decode_json,
    encode,
    rfc3339,
    short,
)
from lineside.core.outputs import trigger_topic
from lineside.core.topics import topic_matches
from lineside.core.worker import Worker
from lineside.edge.config import EdgeConfig
from lineside.edge.delivery.outputs import LineOutputs
from lineside.edge.delivery.publisher import ResultPublisher, VerdictPublisher
from lineside.edge.delivery.shipper import Shipper
from lineside.edge.delivery.spool import Draft, Spool
from lineside.edge.deploy.deployment import DeploymentStore
from lineside.edge.deploy.jobs import Deployer, JobClient, JobInProgress
from lineside.edge.deploy.loader import Loader
from lineside.edge.deploy.package_source import source_for
from lineside.edge.deploy.shadow import ShadowDeployment
from lineside.edge.local_api.models_config import read_models
from lineside.edge.messages import (
    Counters,
    device_topic,
    frame_topic,
    offline,
    prediction_topic,
    read_ack,
    read_desired,
    read_expected,
)
from lineside.edge.packages import Judge, LoadedPackage, LoadPackage, Observer, notify
from lineside.edge.worker import MOST_STUCK, CameraWorker, Shown, WatchedWorker, state_of
from lineside.fleet import DevicePolicy, JobDocument
from lineside.fleet.contract import DesiredPackage, DeviceStatus
from lineside.links import Bus, Camera, Message, Will, open_camera
from lineside.links.otlp import Tracing
from lineside.streams import encode_prediction_event
from lineside.streams.verdicts import verdict_inspections
from lineside.vision import Frame, Prediction
from lineside.vision.verdict import RejectRule, reject_rule

_MOST_BYTES = 262_144
_MOST_STAMP = 2**53


class Contact:
    """Safe from several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._heard_at: datetime | None = None
        self._offset_s: float | None = None

    def heard(self, payload: bytes = b"") -> None:
        """The hub said something, with its time or without."""
        now = self._clock.now()
        stamp = stamp_of(payload)
        with self._lock:
            self._heard_at = now
            if stamp is not None:
                self._offset_s = stamp - math.floor(now.timestamp())

    @property
    def heard_at(self) -> datetime | None:
        """None before the hub said anything."""
        with self._lock:
            return self._heard_at

    @property
    def offset_s(self) -> float | None:
        """The hub's clock minus this one's, to one second; None before it told its time."""
        with self._lock:
            return self._offset_s


def stamp_of(payload: bytes) -> float | None:
    """``timestamp`` of an answer of the job service, in seconds since 1970; None without one."""
    if not payload or len(payload) > _MOST_BYTES:
        return None
    try:
        said = decode_json(payload, where="answer")
    except InvalidError:
        return None
    found = said.get("timestamp") if isinstance(said, dict) else None
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if 0 <= found < _MOST_STAMP else None


logger = logging.getLogger(__name__)

_TURN_S = 0.25
_TELL_S = 2.0


def last_will(plant: Plant, *, device: str, clock: Clock) -> Will:
    """Status that the broker publishes when the device vanishes."""
    return Will(
        topic=device_topic(plant, device=device, noun="status"),
        payload=offline(device=device, version=program_version(), at=clock.now()),
    )


def program_version() -> str:
    """The installed version."""
    try:
        return version("lineside")
    except PackageNotFoundError:
        return "unknown"


class Agent:
    """Started and closed by ``run``; bus and spool are closed by whoever opened them."""

    def __init__(
        self,
        config: EdgeConfig,
        *,
        plant: Plant,
        bus: Bus,
        spool: Spool,
        clock: Clock,
        make_ready: LoadPackage,
        counters: Counters | None = None,
        observers: Sequence[Observer] = (),
        tracing: Tracing | None = None,
    ) -> None:
        self._config = config
        self._tracing = tracing
        self._plant = plant
        self._bus = bus
        self._clock = clock
        self._make_ready = make_ready
        self._counters = counters or Counters()
        self._shown: tuple[Shown, ...] = ()
        self.contact = Contact(clock)
        self._store = DeploymentStore(config.folder)
        self._cameras = chosen_cameras(plant, config.cameras)
        names = {camera.id for camera in self._cameras}
        self._inspections = tuple(item for item in plant.inspection if item.camera in names)
        sayer = ResultPublisher(
            plant,
            inspections=self.inspections,
            device=config.device,
            bus=bus,
            counters=self._counters,
        )
        self._observers = (*observers, *((sayer.look,) if sayer.topics else ()))
        self._shipper = Shipper(
            spool,
            bus=bus,
            clock=clock,
            counters=self._counters,
            resend_after_s=config.resend_after_s,
            announce=self.tell_status,
        )
        self.source = source = source_for(config, store=self._store, clock=clock)
        self._loader = Loader(
            self._store,
            source=source,
            make_ready=self._rehearsed,
            inspections=frozenset(item.id for item in self._inspections),
            most=config.max_loaded_packages,
            max_bytes=config.max_loaded_bytes,
            counters=self._counters,
            clock=clock,
        )
        self._outputs = LineOutputs(
            plant,
            device=config.device,
            bus=config.bus_url,
            inspections=self.inspections,
            untrusted=self._untrusted,
            triggered=self._triggered,
            counters=self._counters,
            clock=clock,
        )
        self._verdicts = VerdictPublisher(
            plant,
            inspections=self.inspections,
            device=config.device,
            bus=bus,
            counters=self._counters,
            clock=clock,
            in_use=lambda name: self._loader.judge(name) is not None,
            take=self._outputs.take,
        )
        policy = DevicePolicy(
            inspections=self._loader.inspections,
            allows=lambda name: read_models(config.models_path).allows(name),
            signed=source.signed,
        )
        rules = {one.id: reject_rule(one) for one in self._inspections}
        self._shadow = ShadowDeployment(
            config.folder,
            device=config.device,
            find_old=self._find_previous,
            tell=lambda payload: bool(bus.publish_soon(self._topics["evidence"], payload)),
            find_rule=lambda name: rules.get(name, RejectRule()),
            counters=self._counters,
            clock=clock,
        )
        self._jobs = JobClient(
            bus,
            thing=config.device,
            carry_out=Deployer(
                self._loader, source=source, policy=policy, on_deployed=self._try_out
            ).carry_out,
            counters=self._counters,
            clock=clock,
            heard=self.contact.heard,
        )
        self._workers = tuple(self._worker(camera) for camera in self._cameras)
        self._left: tuple[CameraWorker, ...] = ()
        self._turned_s = clock.monotonic()
        self._topics = {
            noun: device_topic(plant, device=config.device, noun=noun)
            for noun in ("status", "desired", "ack", "evidence")
        }
        self._control = Worker("control", self._listen, clock=clock)
        self._told: tuple[int, float] | None = None

    def show_to(self, shown: Shown) -> None:
        """Tell of each picture once its inspections have had their turn; before ``start``."""
        self._shown = (shown,)

    def start(self) -> None:
        """Subscribe, load what the disk has, begin to look."""
        self._store.open()
        triggers = tuple(item.trigger.topic for item in self._inspections if item.trigger.topic)
        self._mailbox = self._bus.subscribe(
            (self._topics["desired"], self._topics["ack"], *dict.fromkeys(triggers)), name="control"
        )
        self._control.start()
        self._loader.start()
        self._shadow.start()
        self._jobs.start()
        self._shipper.start()
        for worker in self._workers:
            worker.start()
        self._outputs.start()

    def close(self) -> None:
        """Leave outputs fail-safe, finish the frames under work, commit events, say goodbye."""
        self._outputs.close()
        for worker in self._workers:
            worker.close()
        self._jobs.close()
        self._shadow.close()
        self._loader.close()
        self._shipper.close()
        self._control.request_stop()
        self._mailbox.close()
        self._control.join()
        self._say_goodbye()

    @property
    def inspections(self) -> tuple[str, ...]:
        """Ids of what this device inspects."""
        return tuple(item.id for item in self._inspections)

    def judge(self, inspection: str) -> Judge | None:
        """The package in use for an inspection; None where there is none."""
        return self._loader.judge(inspection)

    def doing(self) -> JobInProgress | None:
        """The job that is carried out right now."""
        return self._jobs.doing()

    def guarded(self) -> tuple[WatchedWorker, ...]:
        """The workers that the watchdog looks after."""
        return tuple(
            WatchedWorker(
                name=f"camera {worker.camera.id}",
                pulse=worker.pulse,
                restart=partial(self._restart, worker),
            )
            for worker in self._workers
        )

    def unsound(self) -> str:
        """Fault that only a new start of the program mends; "": none."""
        self._left = tuple(worker for worker in self._left if worker.stuck)
        if len(self._left) >= MOST_STUCK:
            return f"{len(self._left)} threads hang"
        silent_s = self._clock.monotonic() - self._turned_s
        if not self._control.is_alive or silent_s > self._config.hang_after_s:
            return "the control thread is gone"
        alive = {
            "loader": self._loader.alive,
            "jobs": self._jobs.alive,
            "shipper": self._shipper.alive,
        }
        gone = [name for name, lives in alive.items() if not lives]
        return f"{', '.join(gone)} ended" if gone else ""

    def summary(self) -> str:
        """A line for whoever looks at the service."""
        status = self.status()
        used = ", ".join(f"{one.inspection} {short(one.digest)}" for one in status.packages)
        faults = f"; {status.faults[0]}" if status.faults else ""
        return (
            f"{status.predictions} of {status.frames} frames judged; {used or 'no package'}; "
            f"{status.spool_depth} events wait{faults}"
        )

    def _restart(self, worker: CameraWorker) -> None:
        """Put a new worker in the place of one that hangs."""
        worker.leave()
        self._outputs.fail(worker.camera.line, f"camera {worker.camera.id} was started anew")
        for inspection in worker.inspections:
            self._shadow.failed(inspection.id)
        new = self._worker(worker.camera)
        self._workers = tuple(new if one is worker else one for one in self._workers)
        self._left = (*self._left, worker)
        new.start()

    def status(self) -> DeviceStatus:
        """Status of the device right now."""
        counted = self._counters.read()
        return DeviceStatus(
            device=self._config.device,
            state="online",
            version=program_version(),
            at=rfc3339(self._clock.now()),
            packages=self._loader.in_use(),
            spool_depth=self._shipper.depth(),
            spool_dropped=self._shipper.dropped(),
            frames=counted.frames,
            predictions=counted.predictions,
            refused=counted.refused,
            images_lost=counted.images_lost,
            faults=counted.faults,
            cameras=tuple(worker.condition for worker in self._workers),
            outputs=self._outputs.conditions(),
            desired=self._loader.revisions(),
            every_s=self._config.status_every_s,
            reads=("operating_point",),
        )

    def tell_status(self) -> None:
        """Say it on the bus; ``UnavailableError`` while the bus is away."""
        told = (self._counters.revision, self._clock.monotonic())
        payload = encode(self.status())
        self._bus.publish(self._topics["status"], payload, retain=True, timeout_s=_TELL_S)
        self._told = told

    def _worker(self, camera: CameraRecord) -> CameraWorker:
        return CameraWorker(
            camera,
            inspections=tuple(i for i in self._inspections if i.camera == camera.id),
            device=self._config.device,
            open_camera=self._open_camera,
            find_judge=self._loader.judge,
            decided=self._decided,
            failed=self._failed,
            forward=partial(self._bus.publish_soon, frame_topic(self._plant, camera.id)),
            shown=lambda frame: notify(self._shown, frame, counters=self._counters),
            counters=self._counters,
            clock=self._clock,
        )

    def _rehearsed(self, data: bytes, inspection: str) -> LoadedPackage:
        """Load a package and show it a frame, so that the line does not wait for its first one."""
        ready = self._make_ready(data, inspection)
        for worker in self._workers:
            worker.rehearse(ready.inspection, judge=ready.judge)
        return ready

    def _find_previous(self, inspection: str, digest: str) -> Judge:
        """A package that judges beside the one in use."""
        wanted = DesiredPackage(inspection=inspection, digest=Digest(digest), url="")
        return self._loader.load_previous(wanted).judge

    def _try_out(self, order: JobDocument) -> None:
        """A job brought a package: it may ask for a trial beside the one before."""
        deployed = self._store.deployed().get(order.inspection)
        self._shadow.begin(order, before=deployed.previous if deployed is not None else "")

    def _open_camera(self, camera: CameraRecord, refused: Callable[[str, str], None]) -> Camera:
        return open_camera(
            camera, clock=self._clock, bus=self._bus, refused=refused, folder=self._config.folder
        )

    def _decided(self, frame: Frame, prediction: Prediction, image: bytes | None) -> bool:
        """Tell who looks on, and hand the event to the shipper; False when it is closing."""
        notify((*self._observers, self._verdicts.look), frame, prediction, counters=self._counters)
        self._shadow.look(frame, prediction)
        traceparent = self._trace(prediction)

        def make(sequence: int) -> bytes:
            return encode_prediction_event(
                prediction,
                site=self._plant.site,
                device=self._config.device,
                sequence=sequence,
                first=0,  # told when it is sent
                traceparent=traceparent,
            )

        return self._shipper.ship(
            Draft(topic=prediction_topic(self._plant, frame.camera), make=make, image=image)
        )

    def _trace(self, prediction: Prediction) -> str:
        """Say the image's way to its decision as spans; return the context of the last one."""
        if self._tracing is None:
            return ""
        frame, end = prediction.frame, self._clock.now()
        begun = end - timedelta(milliseconds=prediction.latency_ms.total)
        seen = {"camera": frame.camera, "frame": frame.id}
        parent = self._tracing.span("frame", start=frame.captured_at, end=begun, attributes=seen)
        about = {
            **seen, "inspection": prediction.inspection, "package": prediction.package,
            "state": str(prediction.state),
        }  # fmt: skip
        return self._tracing.span("decision", start=begun, end=end, attributes=about, parent=parent)

    def _failed(self, inspection: str, error: Exception) -> None:
        """An image cannot be read, or a package failed on it: there will be no answer."""
        self._shadow.failed(inspection, error)
        found = self._plant.find_inspection(inspection)
        line = self._plant.find_camera(found.camera).line
        if found in verdict_inspections(self._plant, line):
            detail = f": {error.message}" if isinstance(error, LinesideError) else ""
            self._outputs.fail(line, f"inspection {inspection} failed on an image{detail}")

    def _triggered(self, line: str) -> None:
        """A PLC wants a part judged: as if a message had come on the line's topic of triggers."""
        self._arm(Message(topic=trigger_topic(self._plant.site, line), payload=b""))

    def _untrusted(self, line: str) -> str:
        """Why the verdicts of a line cannot be relied on now; "" where they can."""
        counting = verdict_inspections(self._plant, line)
        for worker in self._workers:
            own = [one.id for one in counting if one.camera == worker.camera.id]
            pulse, is_on_bus = worker.pulse(), worker.camera.source.startswith("mqtt:")
            state = state_of(pulse, hang_after_s=self._config.hang_after_s)
            is_lost = worker.condition.state == "lost" or (is_on_bus and not self._bus.connected())
            if own and (pulse.done or is_lost or state != "fine"):
                return f"camera {worker.camera.id} is lost"
            for name in own:
                if self._loader.judge(name) is None:
                    return f"inspection {name} has no package"
        return ""

    # what the bus says

    def _listen(self) -> None:
        self._turned_s = self._clock.monotonic()
        for message in self._mailbox.get_many(most=100, timeout_s=_TURN_S):
            try:
                self._take(message)
            except Exception as error:  # boundary: one message must not end the device
                logger.exception("message failed topic=%s", message.topic)
                self._counters.fault(message.topic, error)
        for worker in self._workers:
            worker.check_source()
        self._verdicts.pass_time()
        self._tell_when_due()

    def _take(self, message: Message) -> None:
        try:
            if message.topic == self._topics["ack"]:
                device = self._config.device
                sequence = read_ack(message.payload, device=device, where=message.topic)
                self.contact.heard()
                self._shipper.acknowledge(sequence)
            elif message.topic == self._topics["desired"]:
                self._set_desired(message)
        except LinesideError as error:
            self._counters.refuse("message not as documented")
            logger.warning("message refused: %s", error)
        self._arm(message)

    def _set_desired(self, message: Message) -> None:
        if not message.payload:
            return  # a retained message was cleared: no wish is no change
        desired = read_desired(message.payload, where=message.topic)
        self._store.keep_desired(desired)
        self._loader.set_desired(desired)
        self._counters.changed()

    def _arm(self, message: Message) -> None:
        for worker in self._workers:
            due = [
                one
                for one in worker.inspections
                if one.trigger.on == "topic" and topic_matches(one.trigger.topic, message.topic)
            ]
            for inspection in due:
                worker.arm(inspection.id, expected=self._expected(inspection, message))
            if due:
                worker.trigger()

    def _expected(self, inspection: Inspection, message: Message) -> int | None:
        """The number of objects that a trigger's message expects; None where it says none."""
        field = inspection.expected_field
        if not field:
            return None
        try:
            return read_expected(message.payload, field=field, where=message.topic)
        except LinesideError as error:
            self._counters.refuse("message not as documented")
            logger.warning("expected number refused inspection=%s: %s", inspection.id, error)
            return None

    def _tell_when_due(self) -> None:
        if self._told is None or not self._bus.connected():
            return  # the first of a connection is said by the shipper
        revision, told_s = self._told
        late = self._clock.monotonic() - told_s >= self._config.status_every_s
        if late or revision != self._counters.revision:
            try:
                self.tell_status()
            except LinesideError as error:
                logger.debug("status not told: %s", error)

    def _say_goodbye(self) -> None:
        goodbye = offline(
            device=self._config.device, version=program_version(), at=self._clock.now()
        )
        if self._bus.connected():
            try:
                self._bus.publish(self._topics["status"], goodbye, retain=True, timeout_s=_TELL_S)
            except LinesideError as error:
                logger.debug("goodbye not told: %s", error)


def chosen_cameras(plant: Plant, names: tuple[str, ...]) -> tuple[CameraRecord, ...]:
    """The cameras this device looks at: those named, or all.

    Not those of the bus that no inspection needs: the hub sees their images itself.

    Raises:
        InvalidError: a name that the plant does not have, or none that an inspection needs.
    """
    chosen = tuple(plant.find_camera(name) for name in names) if names else plant.camera
    needed = {inspection.camera for inspection in plant.inspection}
    found = tuple(
        camera for camera in chosen
        if camera.id in needed or not camera.source.startswith("mqtt:")
    )  # fmt: skip
    if not found and plant.inspection:
        raise InvalidError(
            "no camera to look at", where="cameras", fix="Declare an inspection on a camera."
        )
    return found
