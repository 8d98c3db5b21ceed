"""Any sequence of rollouts, orders, failures and kills ends with no device on a bad version.

The hub's own services decide; each device is the agent's own loader, deployer, disk and verifier,
driven step by step, so that what is heard, done and reported may come in any order. Only the
network (``hypothesis`` says which version answers wrongly on which device) and the bus are not
there: a device reads its retained message, and asks the job service, when its turn comes.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lineside.core import LinesideError, Plant, RefusedError, encode
from lineside.core.drivers import SecretUrl
from lineside.edge.deploy.deployment import DeploymentStore
from lineside.edge.deploy.jobs import AbandonedError, Deployer
from lineside.edge.deploy.loader import Loader
from lineside.edge.deploy.package_source import PackageSource
from lineside.edge.messages import Counters, read_desired
from lineside.edge.packages import LoadedPackage
from lineside.fleet import (
    DevicePolicy,
    Evidence,
    ExecutionStatus,
    JobDocument,
    Part,
    RolloutOrder,
    RolloutPlan,
    RolloutState,
    TrialReport,
    pin_root,
)
from lineside.fleet.agent import Work
from lineside.fleet.contract import DeviceStatus
from lineside.fleet.evidence import LiveLimits
from lineside.fleet.rollout import RolloutStep
from lineside.hub import HubConfig, Services, build_services
from lineside.hub.models.model_service import Registration
from lineside.hub.rollouts.rollout_service import NewRollout
from lineside.links import Message
from lineside.models import Package, build_package
from lineside.store import open_blobs, open_records
from lineside.testing import FakeClock
from tests.edge.conftest import QuickJudge

FRAMES = 40
NAMES = ("edge-1", "edge-2", "edge-3")
VERSIONS = (1, 2, 3, 4)
LIMITS = LiveLimits(frames=FRAMES)


class KilledError(BaseException):
    """kill -9, as far as a test in one process can have it."""


class HubFiles:
    """The hub's repository as a device reads it."""

    def __init__(self, site: "Site") -> None:
        self._site = site

    @contextmanager
    def open(
        self, path: str, *, start_byte: int = 0, end_byte: int | None = None
    ) -> Iterator[Part]:
        releases, (kind, _, name) = self._site.hub.releases, path.partition("/")
        data = releases.metadata(name) if kind == "metadata" else releases.archive(name)[1]
        yield Part(start_byte=start_byte, chunks=iter((data[start_byte:end_byte],)))


class EdgeDevice:
    """What an agent does between its cameras and the bus, one step at a time."""

    def __init__(self, site: "Site", name: str) -> None:
        self.site, self.name = site, name
        self.order: JobDocument | None = None
        self.on_confirmed: Callable[[], object] = lambda: None
        pin_root(site.folder / name / "trust", site.hub.releases.repository.first_root())
        self.start()

    def start(self) -> None:
        """Begin anew from the disk, as after kill -9."""
        folder = self.site.folder / self.name
        store, counters = DeploymentStore(folder), Counters()
        store.open()
        source = PackageSource(store, repository=HubFiles(self.site), clock=self.site.clock)
        self.store = store
        self.loader = Loader(
            store, source=source, make_ready=self._ready, inspections=frozenset({"stock"}),
            most=2, max_bytes=10_000_000, counters=counters, clock=self.site.clock,
        )  # fmt: skip
        policy = DevicePolicy(
            inspections=self.loader.inspections, allows=lambda _: True, signed=True
        )
        self.deployer = Deployer(
            self.loader, source=source, policy=policy, on_deployed=self._placed
        )
        self.loader._deployed, self.loader._desired = store.deployed(), store.desired()
        self.loader._carry_out(self.loader._desired)

    def _ready(self, data: bytes, inspection: str) -> LoadedPackage:
        digest = Package.read(data).digest
        if (self.name, digest) in self.site.fails:
            raise RefusedError("the golden pictures' answers differ")
        judge = QuickJudge(digest, self.site.clock)
        return LoadedPackage(
            digest=digest, inspection=inspection, judge=judge, size_bytes=len(data)
        )

    def _placed(self, order: JobDocument) -> None:
        self.order = order

    @property
    def runs(self) -> str:
        return next((str(one.digest) for one in self.loader.in_use()), "")

    def hear(self) -> None:
        """Read the retained message."""
        hub = self.site.hub
        payload = hub.desired.payload(self.name, hub.desired.of(self.name))
        desired = read_desired(payload, where="test")
        self.store.keep_desired(desired)
        self.loader.set_desired(desired)
        self.loader._failed.clear()
        self.loader._carry_out(desired)

    def work(self) -> None:
        """Carry out the next job, if there is one; what was begun is gone on with."""
        given = self._ask("start-next", {}).get("execution")
        if given is None:
            return
        self.job_id = str(given["jobId"])
        work = Work(
            job_id=self.job_id, number=given["executionNumber"], version=given["versionNumber"],
            document=given["jobDocument"],
        )  # fmt: skip
        with suppress(AbandonedError):
            outcome = self.deployer.carry_out(work, self)
            self._ask(f"{self.job_id}/update", {"status": outcome.status.value})

    def report(self) -> None:
        """Say what runs."""
        status = DeviceStatus(
            device=self.name, state="online", version="1", at="2026-01-01T00:00:00.000Z",
            packages=self.loader.in_use(), desired=self.loader.revisions(),
        )  # fmt: skip
        self.site.hub.devices.take_status(self.name, encode(status))

    def judge(self) -> None:
        """Say what the trial of the package in use has shown."""
        order = self.order
        if order is None or not order.trial_frames or order.digest != self.runs:
            return
        changed = FRAMES if (self.name, order.digest) in self.site.wrong else 0
        found = Evidence(device=self.name, inspection="stock", frames=FRAMES, changed=changed)
        told = TrialReport(rollout=order.rollout, old="", new=order.digest, evidence=found)
        topic = f"lineside/hall/device/{self.name}/evidence"
        book = self.site.hub.rollouts.repository
        book.commit(book.prepare([Message(topic=topic, payload=encode(told))]))

    def _ask(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        topic = f"$aws/things/{self.name}/jobs/{what}"
        said = self.site.hub.job_requests.service.answer(topic, json.dumps(body).encode())
        answer: dict[str, Any] = json.loads(said[0].payload)
        return answer if said[0].topic.endswith("/accepted") else {}

    # ``deploying.Control``

    def tell(self, details: Mapping[str, str]) -> None:
        del details

    def confirm(self) -> None:
        run = self.site.hub.job_requests.service.execution(self.name, self.job_id)
        if run.status is not ExecutionStatus.IN_PROGRESS:
            raise AbandonedError("the job was called off")
        race, self.on_confirmed = self.on_confirmed, lambda: None
        race()

    def wait(self, seconds: float) -> None:
        raise AssertionError(seconds)


@dataclass
class Site:
    """A hub that may die, its devices, and what is wrong with whom."""

    folder: Path
    plant: Plant
    archive: bytes
    stack: ExitStack
    clock: FakeClock = field(default_factory=FakeClock)
    fails: set[tuple[str, str]] = field(default_factory=set)
    wrong: set[tuple[str, str]] = field(default_factory=set)
    digests: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.records = self.stack.enter_context(open_records("memory://", clock=self.clock))
        self.blobs = open_blobs("memory://", clock=self.clock)
        self.config = HubConfig(
            data_dir=str(self.folder / "hub"), plant="plant.toml", port=0, bus_port=0,
            records=SecretUrl("memory://"), blobs=SecretUrl("memory://"),
        )  # fmt: skip
        self.hub = self.start_hub()
        self.stack.callback(lambda: self.hub.runs.close())  # noqa: PLW0108  another hub by then
        self.hub.releases.ensure(keys=self.config.keys_folder)
        for version in VERSIONS:
            package = Package.read(self.archive)
            files = {name: data for name, data in package.files.items() if name != "manifest.json"}
            data = build_package(replace(package.manifest, name=f"v{version}"), files)
            digest = self.hub.packages.add(data, by="ada").digest
            self.hub.models.register("discs", Registration(package=digest), by="ada")
            self.hub.models.approve("discs", version, by="eve", reason="good")
            self.digests[version] = digest
        for name in NAMES:
            self.hub.things.add(name)
            self.hub.devices.enrol(name)
        self.devices = [EdgeDevice(self, name) for name in NAMES]

    def start_hub(self) -> Services:
        hub = build_services(
            self.config, plant=self.plant, records=self.records, blobs=self.blobs, clock=self.clock
        )
        hub.load()
        return hub

    # ---- what may happen

    def start(self, version: int, devices: tuple[str, ...], back: bool) -> None:  # noqa: FBT001
        plan = RolloutPlan(
            steps=(RolloutStep(canary=1), RolloutStep(percent=100.0)), devices=devices,
            limits=LIMITS,
        )  # fmt: skip
        asked = NewRollout(group="discs", version=version, plan=plan, rollback=back)
        with suppress(LinesideError):
            self.hub.rollouts.start(asked, by="eve")

    def order(self, order: RolloutOrder, at: int) -> None:
        found = self.hub.rollouts.all()
        if found:
            with suppress(LinesideError):
                self.hub.rollouts.order(found[at % len(found)].id, order, by="eve", reason="")

    def use(self, version: int) -> None:
        with suppress(LinesideError):
            self.hub.packages.use(self.digests[version], inspection="stock", by="eve", reason="x")

    def tick(self) -> None:
        self.clock.advance(1)
        self.hub.devices.flush()
        self.hub.desired.tick()
        self.hub.rollouts.tick()
        self.hub.job_requests.tick()

    def tick_and_tell(self, device: EdgeDevice) -> None:
        self.tick()
        device.hear()

    def rounds(self, times: int) -> None:
        """So often the hub looks, and every device does what it can."""
        for _ in range(times):
            self.tick()
            for device in self.devices:
                for what in ("hear", "work", "report", "judge"):
                    getattr(device, what)()

    def act(self, at: int, what: str) -> None:
        device = self.devices[at]
        if what == "killed after the switch":
            device._ask("start-next", {})
            real, device._ask = device._ask, _dying(device._ask)  # type: ignore[method-assign]
            with suppress(KilledError):
                device.work()
            device._ask = real  # type: ignore[method-assign]
            device.start()
        elif what == "start":
            device.start()
        elif what == "work while the hub looks":
            device.on_confirmed = self.tick
            device.work()
        elif what == "work while the hub looks and is heard":
            device.on_confirmed = lambda: self.tick_and_tell(device)
            device.work()
        else:
            getattr(device, what)()

    def hub_dies(self, part: str, call: int) -> None:
        """In the middle of a look: before or after the n-th call of one of its parts."""
        owner: Any = {
            "write": self.hub.desired, "make": self.hub.rollouts._jobs,
            "call_off": self.hub.rollouts._jobs, "mark_bad": self.hub.desired,
            "keep": self.hub.rollouts.repository, "allow_rollback": self.hub.releases,
        }[part]  # fmt: skip
        setattr(owner, part, _dying_at(getattr(owner, part), call // 2, after=call % 2 == 1))
        with suppress(KilledError):
            self.tick()
        self.hub.runs.close()
        self.hub = self.start_hub()

    # ---- the end

    def settle(self) -> None:
        """Everybody is there, paused rollouts go on, and all that can happen does."""
        for _ in range(4):
            for rollout in self.hub.rollouts.all():
                if rollout.state is RolloutState.PAUSED:
                    self.order(RolloutOrder.RESUME, self.hub.rollouts.all().index(rollout))
            self.rounds(10)

    def check(self) -> None:
        told = {digest: f"v{version}" for version, digest in self.digests.items()}
        for device in self.devices:
            wanted = self.hub.desired.of(device.name).of("stock").digest
            where = (device.name, told.get(device.runs), told.get(wanted))
            assert self.hub.desired.verdict(device.runs, inspection="stock") is None, where
            assert self.hub.desired.running("stock").get(device.name, "") == device.runs, where
            if (device.name, wanted) not in self.fails:
                assert device.runs == wanted, where
        assert all(one.settled for one in self.hub.rollouts.all())


def _dying(ask: Callable[..., Any]) -> Callable[..., Any]:
    def die(what: str, body: dict[str, Any]) -> Any:  # noqa: ANN401  handed on
        if what.endswith("/update"):
            raise KilledError
        return ask(what, body)

    return die


def _dying_at(call: Callable[..., Any], number: int, *, after: bool) -> Callable[..., Any]:
    left = [number]

    def die(*given: Any, **more: Any) -> Any:  # noqa: ANN401  handed on
        left[0] -= 1
        found = call(*given, **more) if left[0] >= 0 or after else None
        if left[0] < 0:
            raise KilledError
        return found

    return die


STARTS = st.tuples(
    st.just("start"), st.sampled_from(VERSIONS),
    st.lists(st.sampled_from(NAMES), min_size=1, unique=True).map(tuple), st.booleans(),
)  # fmt: skip
ORDERS = st.tuples(st.just("order"), st.sampled_from(RolloutOrder), st.integers(0, 5))
USES = st.tuples(st.just("use"), st.sampled_from(VERSIONS))
TICKS = st.tuples(st.just("tick"))
DEVICES = st.tuples(
    st.just("act"), st.integers(0, len(NAMES) - 1),
    st.sampled_from((
        "hear", "work", "work", "report", "judge", "start", "killed after the switch",
        "work while the hub looks", "work while the hub looks and is heard",
    )),
)  # fmt: skip
DEATHS = st.tuples(
    st.just("hub_dies"),
    st.sampled_from(("write", "make", "call_off", "mark_bad", "keep", "allow_rollback")),
    st.integers(0, 3),
)  # fmt: skip
ROUNDS = st.tuples(st.just("rounds"), st.integers(1, 5))
EVENTS = st.lists(
    st.one_of(STARTS, STARTS, ROUNDS, ROUNDS, ORDERS, USES, TICKS, DEVICES, DEVICES, DEATHS),
    max_size=30,
)
WRONG = st.sets(st.tuples(st.sampled_from(NAMES), st.sampled_from(VERSIONS)), max_size=8)
FAILS = st.sets(st.tuples(st.sampled_from(NAMES), st.sampled_from(VERSIONS)), max_size=2)
BAD_EVERYWHERE = {(name, 2) for name in NAMES}


@pytest.fixture
def build_site(plant: Plant, archive: bytes) -> Callable[[Path, ExitStack], Site]:
    """A function, so that a report of a failing example does not write the archive out."""

    def build(folder: Path, stack: ExitStack) -> Site:
        return Site(folder=folder, plant=plant, archive=archive, stack=stack)

    return build


@pytest.mark.slow
@settings(
    max_examples=12, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(wrong=WRONG, fails=FAILS, events=EVENTS)
@example(
    wrong={("edge-1", 4)}, fails={("edge-1", 3)},
    events=[
        ("start", 2, NAMES[:1], False), ("rounds", 2), ("use", 3), ("rounds", 1),
        ("start", 4, NAMES[:1], False),
    ],
)  # fmt: skip
@example(
    wrong={("edge-3", 1)}, fails={("edge-3", 2)},
    events=[
        ("start", 1, NAMES[2:], False), ("rounds", 1), ("order", RolloutOrder.ABORT, 0), ("use", 2),
        ("hub_dies", "call_off", 2),
    ],
)  # fmt: skip
@example(
    wrong={("edge-1", 3)}, fails=set(),
    events=[("start", 3, NAMES[:2], False), ("rounds", 2), ("use", 2)],
)  # fmt: skip
@example(
    wrong=BAD_EVERYWHERE, fails=set(),
    events=[
        ("start", 1, NAMES, False), ("rounds", 4),
        ("start", 2, NAMES[:2], False),
    ],
)  # fmt: skip
def test_no_device_ends_on_a_version_that_was_judged_bad(
    build_site: Callable[[Path, ExitStack], Site],
    wrong: set[tuple[str, int]],
    fails: set[tuple[str, int]],
    events: list[tuple[Any, ...]],
) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        site = build_site(folder, stack)
        site.wrong = {(name, site.digests[version]) for name, version in wrong}
        site.fails = {(name, site.digests[version]) for name, version in fails}
        for what, *more in events:
            getattr(site, what)(*more)
        site.settle()
        site.check()
