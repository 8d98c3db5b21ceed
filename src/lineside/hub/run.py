"""The hub program: opens everything in order, serves, closes in reverse.

SIGTERM ends it cleanly; kill -9 at any moment leaves a store that the next start goes on with.
``create_app`` is the application alone: middleware, API and pages over one set of services.
"""

import asyncio
import fcntl
import logging
import math
import os
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lineside.core import (
    Clock,
    ConflictError,
    Digest,
    Json,
    Plant,
    RefusedError,
    UnavailableError,
    decode_json,
    encode,
    load_plant,
    need,
    new_id,
)
from lineside.core.codec import faults_error
from lineside.core.files import replace_durably
from lineside.core.plant_check import plant_text_topic
from lineside.core.processes import Supervisor
from lineside.core.worker import Worker
from lineside.hub.access.accounts import TOKEN_TYPE
from lineside.hub.access.auth import issue_link
from lineside.hub.access.permissions import Role
from lineside.hub.access.tls import (
    REACHED_AT,
    check_ca,
    hosts_of,
    own_certificate,
    server_files,
)
from lineside.hub.alerts.service import alerts_topic
from lineside.hub.broker import SiteBroker, open_broker, open_job_listener
from lineside.hub.config import HubConfig, own_places
from lineside.hub.eventlog.followers import skip_entry
from lineside.hub.eventlog.leases import LeasedPart
from lineside.hub.eventlog.ledger import Commit, person_event
from lineside.hub.eventlog.stats import CAMERAS, worker_figures
from lineside.hub.eventlog.topics import hub_source
from lineside.hub.ingest.answers import AnswerIndex
from lineside.hub.learning.drift import DriftWatch
from lineside.hub.models.model_service import MODEL_TYPE
from lineside.hub.models.operating_points import POINT_TYPE
from lineside.hub.readers import (
    READERS,
    Reader,
    open_reader,
    part_of,
    watch_losses,
)
from lineside.hub.replay.repository import REPLAY_TYPE
from lineside.hub.rules.service import rules_follower
from lineside.hub.services import Services, build_services
from lineside.hub.sinks.kafka import start_kafka
from lineside.hub.sinks.mqtt import EventOutbox, HomeAssistant
from lineside.hub.sinks.opcua import check_opcua, start_opcua
from lineside.hub.sinks.sparkplug import SparkplugFeed
from lineside.hub.sinks.webhooks import Webhooks
from lineside.hub.timers import DEVICES, Peers, Timers
from lineside.links import Bus, MailboxFigures, open_bus
from lineside.links.otlp import Tracing
from lineside.store import Logged, open_blobs, open_records
from lineside.streams import EVENT_TYPE, PREDICTION_TYPE, VERDICT_TYPE
from lineside.streams.alerts import ALERT_TYPE

if TYPE_CHECKING:
    import uvicorn
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from lineside.hub.middleware import (
    Authentication,
    BodyLimit,
    HostCheck,
    RouteIndex,
    SecureHeaders,
)

if TYPE_CHECKING:
    from fastapi import FastAPI

_SMALL = 2_000_000
_PICTURE = 16_000_000
_MESSAGE = 12_000_000
_TENSORS = 64_000_000
_IMPORT = re.compile(r"/api/v1/datasets/[^/]+/import")


def create_app(services: Services) -> "FastAPI":
    """An ASGI application; the caller opens and closes the services."""
    need("fastapi", extra="hub")
    from fastapi import FastAPI

    from lineside.hub.api import mount_api
    from lineside.hub.pages import mount_pages, refusal_page

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        services.live.start()
        services.store_check.start()
        importing = asyncio.create_task(index.import_all())
        try:
            yield
        finally:  # also where the server ends by an error
            importing.cancel()
            services.store_check.stop()
            services.live.stop()

    app = FastAPI(
        title="lineside", version=version("lineside"), docs_url=None, redoc_url=None,
        openapi_url=None, lifespan=lifespan,
    )  # fmt: skip
    app.state.services = services
    config = services.config
    # The last added stands outermost: headers are on every response, refusals included.
    app.state.own_places = own = own_places(config)
    app.add_middleware(Authentication, auth=services.auth, page=refusal_page, own=own)
    app.add_middleware(BodyLimit, limit_of=_limit_of(config.max_body_bytes), folder=config.folder)
    app.add_middleware(
        HostCheck, names=hosts_of(config),
        any_name=not config.loopback_only and not config.allowed_hosts,
    )  # fmt: skip
    app.add_middleware(SecureHeaders)
    api = mount_api(app, contracts=config.contracts)
    index = RouteIndex([*api, *mount_pages(app, services)])
    app.router.routes.append(index)
    return app


def _limit_of(most: int) -> Callable[[str], int]:
    def limit(path: str) -> int:
        if path == "/api/v1/packages" or _IMPORT.fullmatch(path):
            return most
        if path == "/mqttingest":
            return min(most, _MESSAGE)
        if path.startswith("/v2/models/"):
            return min(most, _TENSORS)
        if path.endswith(("/predict", "/invocations", "/counts/uploaded")):
            return min(most, _PICTURE)
        return min(most, _SMALL)

    return limit


logger = logging.getLogger(__name__)

_TOKENS = (("admin", "api"), ("device", "device"))
ADDRESS_FILE = "hub.json"
ID_FILE = "hub.id"
_START_S = 30.0
_LOOK_S = 0.2
_GRACE_S = 3
_MOST_SOCKET_TEXT = 65_536
_RULE_EVENTS = 1000  # added in one commit
_ANSWERS_NOTED = 200  # positions of the log; what comes again changes nothing
_SINKS_S = 1.0
_NOTE_S = 1.0  # what a killed hub had not noted is said again, under the same ids
_GATHER_S = 0.5  # figures, answers and drift may lag; a page of one entry costs as much as of ten


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningHub:
    """Where a running hub is reached; ``inference`` is the gRPC port's address, "" for none."""

    url: str
    bus_url: str
    services: Services
    inference: str = ""


def run(
    config: HubConfig, *, clock: Clock, stop: threading.Event, announce: Callable[[str], None],
    supervisor: Supervisor | None = None,
) -> None:  # fmt: skip
    """Run until ``stop`` is set.

    Args:
        config: the settings.
        clock: where times come from.
        stop: ends the hub.
        announce: is given one line with the sign-in link, and one with the bus.
        supervisor: told that the hub is ready, and that it stops.
    """
    supervisor = supervisor or Supervisor()
    with running(config, clock=clock) as hub:
        token = hub.services.auth.issue_link(name="admin")
        announce(f"bus {hub.bus_url}")
        announce(f"sign in once: {config.public_url or hub.url}/sign-in?token={token}")
        supervisor.tell("READY=1", f"STATUS=page {hub.url}, bus {hub.bus_url}")
        stop.wait()
        supervisor.tell("STOPPING=1")
        logger.info("hub stops")


@contextmanager
def running(config: HubConfig, *, clock: Clock) -> Iterator[RunningHub]:
    """A hub for the length of a ``with``."""
    _check_settings(config, clock=clock)
    with ExitStack() as stack:
        stack.enter_context(only_one(config))
        services = _open(config, clock=clock, stack=stack)
        server, url = _bind(services, stack=stack)
        broker, taking = None, threading.Event()
        if config.bus == "embedded":
            broker = open_broker(services, stack=stack)
        bus, own_url, bus_url = _join_bus(config, services, broker=broker, stack=stack)
        services.join(bus, base_url=config.public_url or url)
        _start_work(services, bus, url=own_url, taking=taking, stack=stack)
        open_job_listener(services, bus, stack=stack)
        services.plants.on_change(lambda _: _tell_plant(services, bus))
        start_kafka(services, bus_url=own_url, stack=stack)
        if broker is not None:
            _admit_clients(broker, taking=taking, stack=stack)
        webhooks = Webhooks(services)
        stack.callback(webhooks.stop)
        webhooks.start()
        start_opcua(services, stack=stack)
        _serve(server, stack=stack)
        inference = _serve_inference(services, stack=stack)
        stack.enter_context(_address_file(config, url=url, bus_url=bus_url))
        if services.leases.alone:
            _tell_devices(services)
        stack.callback(services.local_device.close)
        services.local_device.begin(url)
        logger.info("hub runs url=%s bus=%s", url, bus_url)
        yield RunningHub(url=url, bus_url=bus_url, services=services, inference=inference)


def _check_settings(config: HubConfig, *, clock: Clock) -> None:
    """Refuse what could not start, before keys, tokens or a database are made.

    Raises:
        NotFoundError, InvalidError: of the plant file, the authority, or the settings.
        MissingExtraError: a client library that the settings ask for is not installed.
    """
    if faults := config.plant_faults(load_plant(Path(config.plant))):
        raise faults_error(faults, where=config.plant)
    check_ca(config, clock=clock)
    check_opcua(config)
    for wanted, module, extra in (
        (config.kafka.brokers, "confluent_kafka", "kafka"),
        (config.mongo, "pymongo", "mongo"),
        (config.opcua, "asyncua", "opcua"),
        (config.otlp, "opentelemetry.exporter.otlp.proto.http.trace_exporter", "otel"),
    ):
        if wanted:
            need(module, extra=extra)


def _publish_alerts(services: Services, bus: Bus) -> None:
    """Say the open alerts, retained.

    Raises:
        UnavailableError: the bus is away.
    """
    site = services.plant.site
    if not bus.connected():
        raise UnavailableError("the bus is away", fix="The alerts are said on its return.")
    message = services.alerts.message(at=services.clock.now())
    bus.publish(alerts_topic(site), encode(message), qos=1, retain=True)


def _tell_devices(services: Services) -> None:
    """Say again what every device is to run and to do: a broker may have forgotten it."""
    services.desired.tell_all()
    services.job_requests.tell_again()
    bus = services.desired.bus
    told = services.alerts.book or services.config.homeassistant
    if bus is not None and bus.connected() and told:
        _publish_alerts(services, bus)
    if bus is not None and services.plants.newest().number > 1:
        try:
            _tell_plant(services, bus)
        except UnavailableError as error:
            logger.warning("plant file not told reason=%s", error)


def _tell_plant(services: Services, bus: Bus) -> list[str]:
    """Sign the plant file in force and say it to the devices.

    Raises:
        UnavailableError: the bus or the store of the signed files is away.
    """
    topic, message = plant_text_topic(services.plant.site), services.plants.message()
    digests = map(Digest, (message.digest, *message.known))
    try:
        services.releases.publish_plant(
            {message.number - place: digest for place, digest in enumerate(digests)}
        )
    except (ConflictError, RefusedError) as error:  # devices that ask for a signature stay
        logger.warning("plant file not signed version=%d reason=%s", message.number, error)
    bus.publish(topic, encode(message), qos=1, retain=True)
    return []


@contextmanager
def only_one(config: HubConfig) -> Iterator[None]:
    """Keep every other hub off a data folder meanwhile.

    Raises:
        ConflictError: another hub uses it.
    """
    config.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = config.folder / "hub.lock"
    with path.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConflictError(
                "another hub uses this data folder", where=str(config.folder), fix="Stop it first."
            ) from error
        yield


def _open(config: HubConfig, *, clock: Clock, stack: ExitStack) -> Services:
    plant = load_plant(Path(config.plant))
    records = stack.enter_context(open_records(config.records_url, clock=clock))
    blobs = open_blobs(config.blobs_url)
    stack.callback(blobs.close)
    services = build_services(
        config, plant=plant, records=records, blobs=blobs, clock=clock,
        hub=hub_id(config.folder, clock=clock),
    )  # fmt: skip
    stack.callback(services.leases.stop)
    services.load()
    declared = services.plants.begin(alone=services.leases.alone)
    if declared != plant:
        services.declare(declared)
    services.releases.ensure(keys=config.keys_folder)
    stack.callback(services.devices.flush_all)
    stack.callback(services.runs.close)
    for name, kind in _TOKENS:
        _ensure_token(services, config.folder / "tokens" / f"{name}.token", name=name, kind=kind)
    _ensure_token(services, config.ingest_token_path, name="ingest", kind="ingest")
    return services


def hub_id(folder: Path, *, clock: Clock) -> str:
    """The name of the hub of this data folder among those of its site; made at the first start."""
    path = folder / ID_FILE
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        made = new_id("hub", clock=clock)
        replace_durably(path, made.encode())
        return made


def _ensure_token(services: Services, path: Path, *, name: str, kind: str) -> None:
    hub = services.leases.hub
    if not services.auth.ensure_token_file(path, name=name, kind=kind, hub=hub):
        return
    role: dict[str, Json] = {"role": str(Role.ADMIN)} if kind == "api" else {}
    event = person_event(
        TOKEN_TYPE,
        subject=name,
        site=services.plant.site,
        clock=services.clock,
        data={"action": "issued", "kind": kind, "by": "hub", **role},
    )
    services.ledger.record([event])


def _join_bus(
    config: HubConfig, services: Services, *, broker: SiteBroker | None, stack: ExitStack
) -> tuple[Bus, str, str]:
    """The bus, its URL for further clients of the hub, and the one that others are told."""
    url, shown = (broker.own_url, broker.url) if broker else (config.bus, config.bus)
    bus = open_bus(
        url, client_id=f"hub-{services.plant.site}-{services.leases.hub}", clock=services.clock
    )
    stack.callback(bus.close)
    losses = None if broker else watch_losses(bus)
    if losses is not None:
        stack.callback(losses.stop)
        losses.start()
        services.stats.watch("broker_dropped", lambda: losses.count)
    return bus, url, shown


def _admit_clients(broker: SiteBroker, *, taking: threading.Event, stack: ExitStack) -> None:
    """Let others in as soon as this hub takes what they say; later where a lease is waited for."""

    def admit_when_taking() -> None:
        if taking.wait(_LOOK_S):
            broker.admit_clients()
            worker.request_stop()

    worker = Worker("broker-admits", admit_when_taking)
    worker.start()
    stack.callback(worker.stop)


def _start_work(
    services: Services, bus: Bus, *, url: str, taking: threading.Event, stack: ExitStack
) -> None:
    """Threads, in the order in which they may be needed; stopped in reverse."""
    services.leases.start()
    _start_tracing(services, stack=stack)
    services.stats.watch_each("part", "part", read=services.leases.figures)
    services.stats.watch_each("worker", "worker", read=worker_figures)
    if services.records.shared:
        peers = Peers(services)
        peers.start()
        stack.callback(peers.stop)
    source = hub_source(services.plant.site)
    stack.callback(services.ledger.keep_snapshot)
    services.stats.watch_each("follower", "follower", read=services.followers.figures)
    outbox = EventOutbox(bus, plant=services.plant)
    services.followers.follow(
        "events", outbox.publish, stack=stack, source=source, type=EVENT_TYPE, note_s=_NOTE_S
    )
    services.followers.follow(
        "verdicts", outbox.publish, stack=stack, type=VERDICT_TYPE, note_s=_NOTE_S
    )
    _watch_site(services)
    services.followers.follow(
        "alerts", lambda _: _publish_alerts(services, bus), stack=stack, type=ALERT_TYPE
    )
    _start_answers(services, stack=stack)
    _start_drift(services, stack=stack)
    _start_rules(services, stack=stack)
    _start_approvals(services, stack=stack)
    _start_replays(services, stack=stack)
    _start_mongo(services, stack=stack)
    timers = Timers(services, clock=services.clock)
    home_assistant, sparkplug = HomeAssistant(services), SparkplugFeed(services)
    timers.add("home assistant", home_assistant.tick, every_s=_SINKS_S, part=DEVICES)
    timers.add("sparkplug", sparkplug.tick, every_s=_SINKS_S / 2)
    services.stats.watch("sparkplug_dropped", lambda: sparkplug.dropped)
    timers.start()
    stack.callback(timers.stop)
    desk = services.job_requests
    services.stats.watch("job_messages_waiting", lambda: desk.waiting)
    services.stats.watch("job_messages_dropped", lambda: desk.dropped)
    throttle = desk.service.throttle
    services.stats.watch("job_requests_refused", lambda: throttle.refused)
    services.stats.watch("job_requests_ignored", lambda: throttle.ignored)
    slots = services.releases.slots
    services.stats.watch("downloads_now", lambda: slots.taken)
    services.stats.watch("downloads_sent_away", lambda: slots.refused)
    trials = services.rollouts.repository
    services.stats.watch("trial_reports_refused", lambda: trials.refused)
    _start_readers(services, url=url, taking=taking, sparkplug=sparkplug, stack=stack)
    stack.callback(services.failures.stop)


def _start_tracing(services: Services, *, stack: ExitStack) -> None:
    """Go on with the traces of devices: an event's way into the log, and to the twin."""
    config, clock = services.config, services.clock
    if not config.otlp:
        return
    tracing = Tracing(config.otlp, service="lineside-hub", instance=services.leases.hub)
    stack.callback(tracing.close)

    def trace(commit: Commit) -> None:
        for event, logged in zip(commit.events, commit.logged, strict=True):
            if event.traceparent and not commit.by_others:
                about: dict[str, str | int] = {
                    "event": event.id, "type": event.type, "position": logged.position
                }  # fmt: skip
                parent = tracing.span(
                    "event", start=logged.arrived_at, end=commit.at, attributes=about,
                    parent=event.traceparent,
                )  # fmt: skip
                revision = {"revision": commit.state.revision}
                tracing.span(
                    "twin", start=commit.at, end=clock.now(), attributes=revision, parent=parent
                )

    services.ledger.listen(trace)


def _certificate_ends_s(config: HubConfig) -> float:
    return own_certificate(config).ends_at.timestamp()


def _watch_site(services: Services) -> None:
    """Figures of cameras, devices, stores and the hub's certificate."""
    watch, watch_each, config = services.stats.watch, services.stats.watch_each, services.config
    watch("alerts_open", services.alerts.count)
    watch("log_position", lambda: services.ledger.position)
    watch("disk_free_bytes", lambda: config.free_bytes)
    watch("disk_least_bytes", lambda: config.min_free_bytes)
    if config.secure:
        watch("certificate_ends_timestamp_s", partial(_certificate_ends_s, config))
    watch_each("system", "system", read=services.systems)
    watch_each("device", "device", read=services.fleet.figures)
    services.stats.watch_drops(lambda: [one.id for one in services.plant.camera])

    def cameras() -> dict[str, dict[str, float]]:
        told = services.devices.camera_figures()
        return {name: one | told.get(name, {}) for name, one in services.cameras.figures().items()}

    watch_each("camera", "camera", read=cameras)


def _start_readers(
    services: Services, *, url: str, taking: threading.Event, sparkplug: SparkplugFeed,
    stack: ExitStack,
) -> None:  # fmt: skip
    """Start the readers of the bus, each session read by the hub that has the lease of its part.

    ``taking`` is set when this hub reads all of them.
    """
    readers: dict[str, Reader] = {}
    thumbnails = services.thumbnails
    thumbnails.busy = lambda: any(reader.busy for reader in list(readers.values()))
    services.stats.watch("frames_unfinished", lambda: thumbnails.waiting)
    thumbnails.start()
    stack.callback(thumbnails.stop)
    for name in READERS:
        services.stats.watch_mailbox(name, partial(_figures, readers, name))

    def read(name: str, *, opening: ExitStack) -> None:
        reader = open_reader(name, url=url, services=services)
        opening.callback(readers.pop, name)
        opening.callback(reader.stop)
        readers[name] = reader
        reader.start()
        if len(readers) == len(READERS):
            taking.set()

    def read_plant() -> Callable[[], None]:
        with ExitStack() as opening:
            read(CAMERAS, opening=opening)
            if not services.leases.alone:
                thumbnails.look_again()
            return opening.pop_all().close

    def read_devices() -> Callable[[], None]:
        with ExitStack() as opening:
            services.devices.refresh(is_mine=False)
            opening.callback(services.devices.flush_all)
            for name in (name for name in READERS if part_of(name) == DEVICES):
                read(name, opening=opening)
            sparkplug.open(url)
            opening.callback(sparkplug.close)
            if not services.leases.alone:
                _tell_devices(services)
            return opening.pop_all().close

    parts = {
        name: LeasedPart(services.leases.lease(name), opener=opener)
        for name, opener in ((CAMERAS, read_plant), (DEVICES, read_devices))
    }
    for part in parts.values():
        stack.callback(part.stop)
        part.start()
    services.plants.on_change(_resubscribing(services, parts[CAMERAS]))


def _resubscribing(services: Services, part: LeasedPart) -> Callable[[Plant], list[str]]:
    """Return a function that lets a part read by the topics of a changed plant.

    The broker keeps what comes in between.
    """
    topics = [services.router.patterns(unrouted=services.config.strays)]

    def resubscribe(_: Plant) -> list[str]:
        wanted = services.router.patterns(unrouted=services.config.strays)
        if wanted != topics[0]:
            part.reopen()
            topics[0] = wanted
        return []

    return resubscribe


def _figures(readers: Mapping[str, Reader], name: str) -> MailboxFigures:
    """Of a reader; of none while another hub reads that session."""
    reader = readers.get(name)
    return (
        reader.figures()
        if reader
        else MailboxFigures(received=0, handed_out=0, dropped=0, waiting=0)
    )


def _start_drift(services: Services, *, stack: ExitStack) -> None:
    """Predictions tested for drift, in log order."""
    watch = DriftWatch(services.records, ledger=services.ledger, plant=services.plant)
    watch.listen(services.retraining.drifted)
    services.stats.watch_each("inspection", "inspection", read=watch.figures)
    services.followers.follow(
        "drift", watch.take, stack=stack, type=PREDICTION_TYPE, skip=skip_entry,
        note_s=_NOTE_S, gather_s=_GATHER_S, resume=watch.resume,
    )  # fmt: skip


def _start_answers(services: Services, *, stack: ExitStack) -> None:
    """Start the followers that keep answers and figures for pages; their positions may lag."""
    index = AnswerIndex(services.records.frames, plant=services.plant, also=services.reviews.take)
    services.followers.follow(
        "pictures", index.take, stack=stack, type=PREDICTION_TYPE, note_every=_ANSWERS_NOTED,
        gather_s=_GATHER_S, resume=index.resume,
    )  # fmt: skip

    counts, clock = services.counts, services.clock
    services.stats.watch_each("shift", "line", read=lambda: counts.totals(clock.now()))

    def take_verdicts(entries: Sequence[Logged]) -> None:
        index.take_verdicts(entries)
        counts.take(entries)

    services.followers.follow(
        "line-figures", take_verdicts, stack=stack, type=VERDICT_TYPE,
        note_every=_ANSWERS_NOTED, gather_s=_GATHER_S, skip=skip_entry, resume=counts.resume,
    )  # fmt: skip


def _start_rules(services: Services, *, stack: ExitStack) -> None:
    """The plant's rules and verdicts, over the whole log; a plant without may get some later."""
    rules = services.rules
    follower = rules_follower(rules, records=services.records, ledger=services.ledger)
    stack.callback(rules.keep)
    services.followers.start(follower, stack=stack)
    counts = services.rule_counts
    services.followers.follow(
        "rule-sums", counts.take, stack=stack, type=EVENT_TYPE, page=_RULE_EVENTS, fills=True,
        note_every=_ANSWERS_NOTED, gather_s=_GATHER_S, skip=counts.skip, resume=counts.resume,
    )  # fmt: skip
    services.stats.watch_each("rule_records", "rule", read=rules.totals)
    services.stats.watch_each("verdicts", "line", read=rules.verdicts)


def _start_approvals(services: Services, *, stack: ExitStack) -> None:
    """Start the follower of approvals, in log order, also of those made by command."""
    services.followers.follow("approvals", services.models.follow, stack=stack, type=MODEL_TYPE)
    services.followers.follow(
        "operating-points", services.points.follow, stack=stack, type=POINT_TYPE
    )
    services.followers.follow(
        "comparisons", services.comparisons.take, stack=stack, type=MODEL_TYPE, stuck_s=math.inf
    )
    stack.callback(services.comparisons.close)


def _start_replays(services: Services, *, stack: ExitStack) -> None:
    """Recorded spans by other packages and rules, one at a time, in log order."""
    services.followers.follow(
        "replays", services.replays.take, stack=stack, type=REPLAY_TYPE, stuck_s=math.inf
    )
    stack.callback(services.replays.close)


def _start_mongo(services: Services, *, stack: ExitStack) -> None:
    if not services.config.mongo:
        return
    from lineside.hub.sinks.mongo import MongoOrders, MongoWriter
    from lineside.links.mongo import MongoSink

    sink = MongoSink(services.config.mongo)
    stack.callback(sink.close)
    writer = MongoWriter(sink, services=services)
    services.followers.follow("mongo", writer.write, stack=stack, resume=writer.resume)
    orders = MongoOrders(sink, services=services)
    orders.start()
    stack.callback(orders.stop)


# ---- the web server


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    """A server that listens already and does not serve yet."""

    server: "uvicorn.Server"
    listener: socket.socket


def _bind(services: Services, *, stack: ExitStack) -> tuple[_Bound, str]:
    import uvicorn

    from lineside.web.connections import ConnectionFigures, ConnectionLimits, limited_http

    config = services.config
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    stack.callback(listener.close)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # asyncio leaves this out for sockets it did not make: 40 ms for each answer of two writes.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        raise UnavailableError(
            f"cannot listen: {error.strerror}", where=f"{config.host}:{config.port}",
            fix="Choose a free port.",
        ) from error  # fmt: skip
    files = server_files(config, clock=services.clock)
    authority = config.ca_folder / "authority.crt"
    limits = ConnectionLimits(
        most=config.http_connections, most_per_address=config.http_connections_per_address
    )
    figures = ConnectionFigures()
    services.stats.watch("inference_waiting", lambda: services.queue.waiting)
    services.stats.watch("inference_refused", lambda: services.queue.refused)
    services.stats.watch("http_connections_refused", lambda: figures.refused)
    services.stats.watch("http_connections_too_slow", lambda: figures.too_slow)
    settings = uvicorn.Config(
        create_app(services), log_config=None, access_log=False, server_header=False,
        http=limited_http(limits, figures), backlog=limits.backlog(), log_level="error",
        # Pictures are compressed already: to try it again is most of what a viewer would cost.
        ws_max_size=_MOST_SOCKET_TEXT, ws_per_message_deflate=False, lifespan="on",
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=files.certificate if files else None, ssl_keyfile=files.key if files else None,
        # A device may show its certificate; nobody else has one of this authority.
        ssl_ca_certs=str(authority) if files and authority.is_file() else None,
        ssl_cert_reqs=ssl.CERT_OPTIONAL if files and authority.is_file() else ssl.CERT_NONE,
    )  # fmt: skip
    host = REACHED_AT.get(config.host, config.host)
    host = f"[{host}]" if family == socket.AF_INET6 else host
    url = f"{'https' if files else 'http'}://{host}:{listener.getsockname()[1]}"
    return _Bound(server=uvicorn.Server(settings), listener=listener), url


def _serve_inference(services: Services, *, stack: ExitStack) -> str:
    """The gRPC port of inference, where the settings name one; its address, "" for none."""
    config = services.config
    if not config.inference_grpc:
        return ""
    from lineside.hub.api.open_inference import InferenceServer

    files = server_files(config, clock=services.clock)
    server = InferenceServer(config.inference_grpc, services=services, files=files)
    stack.callback(server.close)
    return server.address


def _serve(bound: _Bound, *, stack: ExitStack) -> None:
    """Serve on a thread of its own; returns when requests are answered."""
    server = bound.server
    worker = Worker("web", lambda: server.run(sockets=[bound.listener]), every_s=None)
    worker.start()

    def end() -> None:
        server.should_exit = True
        worker.join()

    stack.callback(end)
    pause = threading.Event()
    waited_s = 0.0
    while not server.started:
        if not worker.is_alive or waited_s > _START_S:
            raise UnavailableError("the web server did not start", fix="Read the log above.")
        pause.wait(0.01)
        waited_s += 0.01


@contextmanager
def _address_file(config: HubConfig, *, url: str, bus_url: str) -> Iterator[None]:
    """``hub.json``: where this hub is reached, for programs beside it, while it runs."""
    path = config.folder / ADDRESS_FILE
    replace_durably(path, encode({"url": url, "bus": bus_url, "pid": os.getpid()}))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def sign_in_link(config: HubConfig, *, name: str, clock: Clock) -> str:
    """A further one-time link, for a hub that runs already.

    Raises:
        UnavailableError: no hub runs on this data folder.
    """
    path = config.folder / ADDRESS_FILE
    try:
        address = decode_json(path.read_bytes(), where=str(path))
    except FileNotFoundError as error:
        raise UnavailableError(
            "no hub runs on this data folder", where=str(config.folder), fix="Start it."
        ) from error
    with open_records(config.records_url, clock=clock) as records:
        token = issue_link(records, name=name, clock=clock)
    return f"{config.public_url or address['url']}/sign-in?token={token}"
