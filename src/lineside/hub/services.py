"""The hub's parts and the open stores that every route may use.

Everything here is synchronous and safe from several threads; async code calls it by
``asyncio.to_thread`` (a plain ``def`` route does so by itself). Failures are the six errors of
``core``; the application turns them into problem documents, or into a page for a browser.

What a page or route mostly calls (``hub/views.py`` holds the records):

* ``cameras``: ``all()``, ``one(id)``
* ``frames``: ``page(…)``, ``view(id)``, ``picture(id)``, ``thumbnail(id)``, ``activation(…)``
* ``datasets``: ``all()``, ``one(name)``, ``teach(name, Teaching, by=)``, ``freeze(name, by=)``
* ``labelling``: ``rows(name)``, ``one(name, digest)``, ``save(name, digest, change, by=)``
* ``reviews``: ``page(by=)``, ``answer(item, NewReviewAnswer, by=)``, ``undo(item, by=)``,
  ``quality(…)``
* ``packages``: ``all()``, ``one(digest)``, ``add(data, by=)``, ``use(…)``, ``try_picture(…)``
* ``models``: ``all()``, ``group(name)``, ``one(group, number)``, ``approve(…)``, ``on_approved(…)``
* ``points``: ``versions(…)``, ``propose(…)``, ``approve(…)``, ``roll_back(…)``, ``preview(…)``
* ``runs``: ``all()``, ``one(id)``, ``start(RunRequest, by=)``, ``cancel(id)``, ``resume(id)``
* ``events``: ``page(…)``, ``one(id)``; ``ledger.state`` is the twin, ``twin(at)`` of the past
* ``functions``: ``all()``, ``call(name, FunctionRequest)``; ``counter``:
  ``ask(CountRequest, who=)``, ``look(…)``, ``all(who=)``, ``one(id, who=)``, ``correct(…, who=)``
* ``orders``: ``place(colour, by=)`` (``ConflictError`` with the sentence), ``all()``
* ``rollouts``: ``all()``, ``view(id)``, ``start(NewRollout, by=)``, ``order(id, …)``
* ``job_requests.service`` (``fleet.JobService``): jobs of the fleet; ``things``: what they are for
* ``bucket``: ``read(bucket, key)``, ``put(…)``, ``delete(…)``, and links to what stands there
* ``enrolment``: ``invite(…)``, ``revoke(…)``, ``inventory`` (rows of enrolled devices)
* ``local_device``: ``state()``, ``start(by=)``, ``stop()``
* ``counts``: ``figures(line, period)``, ``rows(line, period)``, ``period(span, at)``
* ``accounts``: ``users()``, ``set_password(name, …, by=)``, ``issue(NewToken, by=)``
* ``alerts``: ``open()``, ``history(…)``, ``one(id)``, ``acknowledge(id, …, by=)``, ``count()``
* ``rules``: ``all()``, ``one(id)``; ``rule_trial.attempt``, ``rule_log.page_of``
* ``replays``: ``all()``, ``one(id)``, ``ask(order, rules=, by=)``, ``cancel(id, by=)``
* ``followers``: ``views()``, ``quarantined(name)``, ``retry(name, by=)``, ``discard(name, by=)``
* ``plants``: ``newest()``, ``propose(…)``, ``change(…, by=, reason=)``, ``roll_back(number, …)``
* ``devices``, ``dead_letters``, ``stats``, ``tracer.trace(id or twin path)``

A route finds them as ``request.app.state.services`` and who asks as ``request.state.identity``
(``views.Identity``; its ``name`` is the ``by`` of every call). Records are in ``hub/views.py``.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from lineside.core import Clock, Plant, new_id
from lineside.core.plant import Retention
from lineside.core.webhooks import WebhookConfig
from lineside.core.worker import Worker, WorkerState, running_workers
from lineside.datasets import Library
from lineside.fleet import JobService, ThingDirectory
from lineside.hub.access.accounts import Accounts
from lineside.hub.access.auth import Auth
from lineside.hub.alerts.observations import AlertWatch
from lineside.hub.alerts.service import Alerts
from lineside.hub.children import ChildSettings
from lineside.hub.config import HubConfig, webhooks_in_force
from lineside.hub.counting.counter import Counter
from lineside.hub.devices.enrolment import Enrolment
from lineside.hub.devices.local_device import LocalDevice
from lineside.hub.devices.registry import DeviceInventory, DeviceRegistry
from lineside.hub.eventlog.dead_letters import DeadLetters, FailurePolicy
from lineside.hub.eventlog.followers import Followers, FollowerState
from lineside.hub.eventlog.leases import HubLeases
from lineside.hub.eventlog.ledger import Ledger
from lineside.hub.eventlog.stats import Stats
from lineside.hub.eventlog.topics import Router
from lineside.hub.eventlog.trace import Tracer
from lineside.hub.eventlog.twin_history import known_twin_at
from lineside.hub.inference.endpoints import InferenceQueue
from lineside.hub.inference.functions import Functions
from lineside.hub.inference.model_server import ModelServer
from lineside.hub.ingest.frames import Frames, ThumbnailWorker
from lineside.hub.ingest.line_figures import LineCounts
from lineside.hub.ingest.predictions import DeviceIngest
from lineside.hub.ingest.service import FrameDecoder, PlantIngest
from lineside.hub.learning.datasets import Datasets, Versions
from lineside.hub.learning.imports import DatasetImports
from lineside.hub.learning.job_service import JobRequestHandler
from lineside.hub.learning.jobs import Retraining, Runs
from lineside.hub.learning.labelling import Labelling
from lineside.hub.live import LiveCameras, LiveFeed
from lineside.hub.models.comparison import Comparisons
from lineside.hub.models.desired import DesiredStates
from lineside.hub.models.model_service import ModelService
from lineside.hub.models.operating_points import OperatingPoints
from lineside.hub.models.packages import Packages
from lineside.hub.models.releases import Releases
from lineside.hub.orders import Orders
from lineside.hub.replay.repository import ReplayRepository
from lineside.hub.replay.service import Replays
from lineside.hub.review.service import Reviews
from lineside.hub.rollouts.bucket import Bucket
from lineside.hub.rollouts.jobs import RolloutJobs
from lineside.hub.rollouts.rollout_service import RolloutService
from lineside.hub.rules.log import RuleCounts
from lineside.hub.rules.service import Rules
from lineside.hub.setup.versions import PlantVersions, SitePlant
from lineside.hub.site_init import make_ca
from lineside.hub.views import Events
from lineside.links import Bus
from lineside.models import ModelVersions, Registry
from lineside.store import Blobs, FrameRow, Records
from lineside.twin import LineState
from lineside.vision import HealthFigures

_LINESIDE = (sys.executable, "-m", "lineside")
_STORE_AWAY_S = 8.0  # a transaction that has not begun for so long makes the hub unready


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The hub's parts over one open store."""

    config: HubConfig
    plant: SitePlant
    plants: PlantVersions
    router: Router
    clock: Clock
    records: Records
    blobs: Blobs
    stats: Stats
    auth: Auth
    ledger: Ledger
    followers: Followers
    failures: FailurePolicy
    thumbnails: ThumbnailWorker
    plant_ingest: PlantIngest
    device_ingest: DeviceIngest
    dead_letters: DeadLetters
    devices: DeviceRegistry
    cameras: LiveCameras
    packages: Packages
    desired: DesiredStates
    models: ModelService
    points: OperatingPoints
    comparisons: Comparisons
    inference: ModelServer
    queue: InferenceQueue
    releases: Releases
    bucket: Bucket
    frames: Frames
    datasets: Datasets
    labelling: Labelling
    reviews: Reviews
    imports: DatasetImports
    runs: Runs
    events: Events
    orders: Orders
    tracer: Tracer
    live: LiveFeed
    functions: Functions
    counter: Counter
    retraining: Retraining
    things: ThingDirectory
    enrolment: Enrolment
    job_requests: JobRequestHandler
    rollouts: RolloutService
    rules: Rules
    counts: LineCounts
    rule_counts: RuleCounts
    replays: Replays
    leases: HubLeases
    alerts: Alerts
    alert_watch: AlertWatch
    store_check: Worker
    local_device: LocalDevice

    @property
    def accounts(self) -> Accounts:
        """Users and tokens, whose changes stand in the log."""
        return Accounts(self.records, journal=self.ledger, site=self.plant.site, clock=self.clock)

    @property
    def fleet(self) -> DeviceInventory:
        """Devices with their reports, enrolment and jobs."""
        return DeviceInventory(
            self.devices, enrolment=self.enrolment, jobs=self.job_requests.service
        )

    @property
    def webhooks(self) -> tuple[WebhookConfig, ...]:
        """Those in force: of the plant file, and of the settings under other names."""
        return webhooks_in_force(self.config, self.plant)

    @property
    def retention(self) -> Retention:
        """The one in force: of the plant file, or else of the settings."""
        return self.plant.retention or self.config.retention

    def load(self) -> None:
        """Bring everything up from the store; once, before the first message."""
        self.ledger.rebuild()
        self.enrolment.inventory.heard(self.devices.known())
        self.cameras.load()
        self.runs.load()
        self.alerts.load()
        self.bucket.link_key()

    def declare(self, plant: Plant) -> list[str]:
        """Hand a changed plant to every part that has derived something from the one before."""
        self.ledger.change_plant(lambda: self.plant.become(plant))
        self.router.declare()
        self.cameras.declare()
        self.rules.declare()
        return []

    def twin(self, at: str = "") -> tuple[LineState, datetime]:
        """The twin at a time of the past, in RFC 3339, and that time; "": as it stands now.

        Raises:
            InvalidError: no time.
            NotFoundError: the log does not reach back so far, or the time has not come.
        """
        now = self.clock.now()
        if not at:
            return self.ledger.state, now
        return known_twin_at(
            self.records, at, plant=self.plant, now=now, keep=self.records.documents
        )

    def join(self, bus: Bus, *, base_url: str) -> None:
        """Give the bus to everything that speaks on it."""
        self.device_ingest.bus = bus
        self.orders.bus = bus
        self.desired.bus = bus
        self.desired.base_url = base_url
        self.bucket.base_url = base_url
        self.job_requests.bus = bus

    def systems(self) -> dict[str, dict[str, bool]]:
        """For each system that the hub cannot work without, whether it is up; waits for none."""
        bus, check = self.orders.bus, self.store_check
        up = {
            "records": not check.failures and check.busy_s < _STORE_AWAY_S,
            "bus": bus is not None and bus.connected(),
            "disk": self.config.free_bytes >= self.config.min_free_bytes,
        }
        return {name: {"up": is_up} for name, is_up in up.items()}

    def away(self) -> list[str]:
        """Names of the parts that do not answer now; empty when the hub can do its work."""
        stuck = {one.name for one in running_workers() if one.state is WorkerState.STUCK}
        views = self.followers.views()
        return [
            *(name for name, one in self.systems().items() if not one["up"]),
            *(f"follower {one.name}" for one in views if one.state is FollowerState.STOPPED),
            *(f"worker {name}" for name in sorted(stuck)),
        ]

    def tick(self) -> None:
        """Time-outs and due orders; called about twice a second by one thread."""
        self.ledger.pass_time()
        self.orders.dispatch()


def build_services(
    config: HubConfig, *, plant: Plant, records: Records, blobs: Blobs, clock: Clock,
    run_command: tuple[str, ...] = (), hub: str = "",
) -> Services:  # fmt: skip
    """Put the hub's parts together over an open store; opens and starts nothing.

    ``hub`` is its name among the hubs at these records; one is made up where there is none.
    """
    hub, plant = hub or new_id("hub", clock=clock), SitePlant.of(plant)
    leases = HubLeases(records, hub=hub, clock=clock, alone=not records.shared)
    stats, router = Stats(), Router(plant)
    ledger = Ledger(records, plant=plant, clock=clock, observe=stats.count_commit)
    devices = DeviceRegistry(
        records, plant=plant, clock=clock, most=config.most_devices,
        silent_after_s=config.device_silent_s,
    )  # fmt: skip
    registry = Registry(records, blobs, clock=clock)
    library = Library(records, blobs, clock=clock)
    models = ModelService(records, blobs, journal=ledger, plant=plant, config=config, clock=clock)
    releases = Releases(
        records, blobs, folder=config.trust_folder, clock=clock, downloads=config.downloads
    )  # fmt: skip
    models.on_approved(lambda version, _: releases.publish(models.release(version)))
    models.on_rejected(releases.withdraw)
    points = OperatingPoints(
        records, registry=registry, journal=ledger, plant=plant, config=config, clock=clock
    )
    desired = DesiredStates(
        records, registry=registry, releases=releases, devices=devices, points=points,
        plant=plant, clock=clock,
    )  # fmt: skip
    points.on_approved(releases.publish_point)
    points.on_approved(lambda _: desired.tell_all())
    packages = Packages(
        registry, ledger=ledger, devices=devices, plant=plant, clock=clock,
        models=models, releases=releases, desired=desired, points=points,
    )  # fmt: skip
    frames = Frames(records, blobs, plant=plant, packages=packages)
    cameras = LiveCameras(records, plant=plant, clock=clock)
    dead = DeadLetters(records, blobs, clock=clock, most=config.dead_letters)
    decoder = FrameDecoder(router, plant=plant, blobs=blobs, clock=clock, stats=stats)
    failures = FailurePolicy(dead, stats=stats)
    thumbnails = ThumbnailWorker(records, blobs, failures=failures)

    thumbnails.on_finished = cameras.finished

    def on_frame(row: FrameRow, encoded: bytes, health: HealthFigures | None) -> None:
        cameras.frame(row, encoded, health)
        thumbnails.add([row])

    plant_ingest = PlantIngest(
        router=router, decoder=decoder, ledger=ledger, failures=failures, stats=stats,
        frames=records.frames, clock=clock, on_frame=on_frame,
    )  # fmt: skip
    plants = PlantVersions(
        records, path=Path(config.plant), hub=hub, journal=ledger, clock=clock,
        faults=config.plant_faults,
    )  # fmt: skip
    enrolment = Enrolment(
        records,
        journal=ledger,
        plant=plant,
        config=config,
        clock=clock,
        plant_text=lambda lines: plants.text(lines=lines),
    )
    enrolment.enrolled += [devices.enrol, desired.tell]
    enrolment.appeared += [desired.tell]
    device_ingest = DeviceIngest(
        plant=plant, ledger=ledger, devices=devices, failures=failures, stats=stats, clock=clock,
        on_prediction=cameras.prediction, on_new_device=enrolment.heard,
    )  # fmt: skip
    runs = Runs(
        records, settings=_child_settings(
            config, folder="runs", command=run_command or (*_LINESIDE, "train")
        ), plant=plant, library=library,
        packages=packages, models=models, clock=clock, hub=hub, device=config.training_device,
        backbones=config.backbones,
    )  # fmt: skip
    retraining = Retraining(config.retrain, runs=runs)
    things = enrolment.inventory.things
    bucket = Bucket(
        records, releases=releases, clock=clock, names=config.allowed_hosts,
        base_url=config.public_url or f"http://{config.host}:{config.port}",
    )  # fmt: skip
    desk = JobRequestHandler(JobService(
        records, clock=clock, directory=things,
        links=bucket if "s3" in config.contracts else None,
    ))  # fmt: skip
    desk.service.on_success = desired.job_succeeded
    rollouts = RolloutService(
        records, ledger=ledger, things=things, devices=devices, desired=desired,
        packages=packages, models=models, releases=releases, points=points, plant=plant,
        zone=ZoneInfo(config.time_zone), clock=clock,
        jobs=RolloutJobs(desk.service, things=things, documents=records.documents),
    )  # fmt: skip
    models.on_approved(rollouts.follow_approval)
    datasets = Datasets(
        library, versions=Versions(library, records.documents, blobs=blobs), frames=frames,
        log=records.log, plant=plant, clock=clock, frozen=retraining.version_frozen,
    )  # fmt: skip
    rules = Rules(records, ledger=ledger, plant=plant, clock=clock)
    functions = Functions(config.function, plant=plant, packages=packages, clock=clock)
    followers = Followers(records, ledger=ledger, site=plant.site, leases=leases)
    counts = LineCounts(records, plant=plant, zone=ZoneInfo(config.time_zone))
    alerts = Alerts(records, ledger=ledger, plant=plant, clock=clock)
    services = Services(
        config=config, plant=plant, plants=plants, router=router, clock=clock,
        records=records, blobs=blobs, stats=stats,
        auth=Auth(records, clock=clock, session_hours=config.session_hours),
        ledger=ledger, followers=followers, failures=failures, thumbnails=thumbnails,
        plant_ingest=plant_ingest, device_ingest=device_ingest,
        dead_letters=dead, devices=devices, cameras=cameras,
        packages=packages, desired=desired, models=models, points=points,
        comparisons=Comparisons(
            models, clock=clock,
            settings=_child_settings(
                config, folder="comparing", command=(*_LINESIDE, "package", "compare")
            ),
        ),
        inference=ModelServer(models, packages=packages, plant=plant, clock=clock),
        queue=InferenceQueue(most=config.endpoint_calls),
        releases=releases, bucket=bucket, frames=frames, runs=runs,
        events=Events(records.log),
        datasets=datasets,
        reviews=Reviews(
            records, ledger=ledger, frames=frames, datasets=datasets, plant=plant, clock=clock
        ),
        labelling=Labelling(library, plant=plant),
        imports=DatasetImports(library, folder=config.folder / "imports"),
        retraining=retraining,
        orders=Orders(ledger, plant=plant, clock=clock, stats=stats),
        tracer=Tracer(records, registry=registry, plant=plant, state=lambda: ledger.state),
        live=LiveFeed(cameras=cameras, ledger=ledger, devices=devices, runs=runs, rules=rules),
        functions=functions,
        things=things,
        enrolment=enrolment,
        job_requests=desk,
        rollouts=rollouts,
        replays=Replays(
            ReplayRepository(records, journal=ledger, site=plant.site, clock=clock),
            settings=_child_settings(
                config, folder="replaying", command=(*_LINESIDE, "replay")
            ),
            plant=plant, plant_file=config.plant, registry=registry,
            versions=ModelVersions(records, registry, clock=clock),
        ),
        rules=rules,
        counts=counts,
        rule_counts=RuleCounts(records, clock=clock),
        leases=leases,
        store_check=Worker(
            "store", partial(_check_store, records), every_s=1.0, longest_retry_s=1.0, clock=clock
        ),
        alerts=alerts,
        alert_watch=AlertWatch(
            alerts, cameras=cameras, counts=counts, devices=devices, enrolment=enrolment,
            followers=followers, log=records.log, config=config, plant=plant, clock=clock,
        ),
        counter=Counter(
            records, blobs, functions=functions, plant=plant, library=library, clock=clock
        ),
        local_device=LocalDevice(
            enrolment, devices=devices, config=config, plant=plant, documents=records.documents,
            hub=leases.hub, plant_text=lambda lines: plants.text(lines=lines), clock=clock,
            command=_LINESIDE, make_ca=partial(make_ca, config, site=plant.site, clock=clock),
        ),
    )  # fmt: skip
    plants.on_change(services.declare)
    services.live.count_alerts = alerts.count
    return services


def _check_store(records: Records) -> None:
    """Begin a transaction: who holds the store keeps writers waiting, and readers not."""
    with records.transaction():
        records.log.read(newest_first=True, limit=1)


def _child_settings(config: HubConfig, *, folder: str, command: Sequence[str]) -> ChildSettings:
    return ChildSettings(
        folder=config.folder / folder, records_url=config.records_url, blobs_url=config.blobs_url,
        command=tuple(command),
    )  # fmt: skip
