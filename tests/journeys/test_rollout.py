"""A release on its way to three real devices: widened where it is good, led back where it is bad.

The bad one is signed and answers its golden pictures; only what it decides on the line is wrong.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from lineside.core import SystemClock
from lineside.core.drivers import SecretUrl
from lineside.edge import EdgeConfig, run
from lineside.fleet import Rollout, RolloutOrder, RolloutPlan, RolloutState
from lineside.fleet.evidence import LiveLimits
from lineside.fleet.rollout import RolloutStep
from lineside.hub import HubConfig, RunningHub, running
from lineside.hub.models.model_service import Registration
from lineside.hub.rollouts.repository import ROLLOUT_TYPE
from lineside.hub.rollouts.rollout_service import NewRollout
from lineside.links import open_bus
from lineside.models import build_package
from lineside.testing.links import LONG_S, wait_until
from lineside.vision import encode_jpeg
from tests.hub.conftest import DISC_PLANT
from tests.models.conftest import package_parts, scene

NAMES = ("edge-1", "edge-2", "edge-3")
FRAMES = 10
# Three devices on one busy machine: how long an answer takes says nothing of the package.
PLAN = RolloutPlan(
    steps=(RolloutStep(canary=1), RolloutStep(percent=100.0)),
    limits=LiveLimits(frames=FRAMES, latency_ms=1000.0),
)
# What ends a release that finds a part everywhere; which of the two is seen first goes by how many
# frames the device has judged when it tells of them.
BAD = ("decide otherwise", "have new findings")
EVERY_S = 0.2


def package(name: str, *, low: float = 0.4, high: float = 0.6) -> bytes:
    """The same network; ``low`` and ``high`` are where it begins to be unsure and to be sure."""
    manifest, files = package_parts()
    rules = tuple(replace(one, low=low, high=high) for one in manifest.rules)
    return build_package(replace(manifest, name=name, rules=rules), files)


@dataclass
class Plant:
    """A hub, devices that look at one camera, and the camera."""

    hub: RunningHub
    folder: Path
    stack: ExitStack
    group: str = "discs"
    versions: list[str] = field(default_factory=list)

    def device(self, name: str) -> None:
        config = EdgeConfig(
            device=name,
            bus=SecretUrl(self.hub.bus_url),
            plant=str(self.folder / "plant.toml"),
            data_dir=str(self.folder / name),
            hub=self.hub.url,
            token_file=str(self.folder / "hub" / "tokens" / "device.token"),
            trust_root=str(self.folder / "hub" / "trust" / "root.json"),
            status_every_s=1.0,
            publish_logs=False,
        )
        self.stack.enter_context(_running(config))

    def approve(self, archive: bytes) -> None:
        services = self.hub.services
        digest = services.packages.add(archive, by="ada").digest
        made = services.models.register(self.group, Registration(package=digest), by="ada")
        services.models.approve(self.group, made.number, by="eve", reason="good on the test part")
        self.versions.append(digest)

    def runs(self) -> dict[str, str]:
        return {
            device.id: str(one["digest"])
            for device in self.hub.services.devices.all()
            for one in device.packages
        }

    def roll_out(self, version: int) -> str:
        asked = NewRollout(group=self.group, version=version, plan=PLAN)
        return self.hub.services.rollouts.start(asked, by="eve").id

    def ended(self, rollout: str) -> Rollout:
        rollouts = self.hub.services.rollouts
        clock, pause = SystemClock(), threading.Event()
        until_s = clock.monotonic() + LONG_S
        while not rollouts.one(rollout).settled:
            assert clock.monotonic() < until_s, rollouts.view(rollout)
            pause.wait(EVERY_S)
        return rollouts.one(rollout)


@contextmanager
def _running(config: EdgeConfig) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(
        target=run, args=(config,), kwargs={"clock": SystemClock(), "stop": stop}, name="device"
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(LONG_S)
        assert not thread.is_alive()


@contextmanager
def camera_running(bus_url: str, pictures: Sequence[bytes]) -> Iterator[None]:
    """A part every fifth of a second."""
    bus = open_bus(bus_url, client_id="camera", clock=SystemClock())
    stop = threading.Event()

    def show() -> None:
        shown = 0
        while not stop.wait(EVERY_S):
            bus.publish_soon("i/cam", pictures[shown % len(pictures)], qos=0)
            shown += 1

    thread = threading.Thread(target=show, name="camera")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        bus.close()


def discs() -> list[bytes]:
    """Pictures of the same part, each its own."""
    return [encode_jpeg(scene(seed=3), quality=q) for q in range(60, 96)]


@contextmanager
def plant_running(
    folder: Path,
    archive: bytes,
    *,
    toml: bytes = DISC_PLANT,
    names: Sequence[str] = NAMES,
    inspection: str = "stock",
    group: str = "discs",
    pictures: Sequence[bytes] = (),
) -> Iterator[Plant]:
    """A hub whose devices run one approved package on the pictures of a camera."""
    (folder / "plant.toml").write_bytes(toml)
    config = HubConfig(
        data_dir=str(folder / "hub"), plant=str(folder / "plant.toml"), port=0, bus_port=0
    )
    with ExitStack() as stack:
        hub = stack.enter_context(running(config, clock=SystemClock()))
        made = Plant(hub=hub, folder=folder, stack=stack, group=group)
        made.approve(archive)
        hub.services.packages.use(made.versions[0], inspection=inspection, by="eve", reason="good")
        for name in names:
            hub.services.things.add(name)
            made.device(name)
        stack.enter_context(camera_running(hub.bus_url, pictures or discs()))
        wait_until(lambda: made.runs() == dict.fromkeys(names, made.versions[0]))
        yield made


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with plant_running(tmp_path, package("first")) as made:
        yield made


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_good_release_widens_and_a_bad_one_goes_back_from_the_canary_alone(plant: Plant) -> None:
    plant.approve(package("second", low=0.41, high=0.61))
    good = plant.ended(plant.roll_out(2))
    assert (good.state, good.why) == (RolloutState.DONE, "3 of 3 devices run it")
    wait_until(lambda: plant.runs() == dict.fromkeys(NAMES, plant.versions[1]))
    services = plant.hub.services
    told = services.rollouts.repository.reports(good.id)
    assert {one.evidence.device for one in told} == set(NAMES)
    assert all(one.evidence.frames >= FRAMES and one.evidence.changed == 0 for one in told)
    assert services.packages.in_use("stock") == plant.versions[1]

    plant.approve(package("third", low=0.001, high=0.002))  # everything is present
    bad = plant.ended(plant.roll_out(3))
    assert bad.state is RolloutState.ROLLED_BACK, bad.why
    assert bad.requested == ("edge-1",)
    wait_until(lambda: plant.runs() == dict.fromkeys(NAMES, plant.versions[1]))
    for name in NAMES[1:]:
        digests = [path.stem for path in (plant.folder / name / "packages").iterdir()]
        assert plant.versions[2].removeprefix("sha256:") not in digests
    back = [
        one.event["data"]
        for one in services.events.page(kind=ROLLOUT_TYPE)
        if one.event["data"]["action"] == "going back"
    ]
    assert len(back) == 1
    assert any(words in back[0]["reason"] for words in BAD)
    assert back[0]["figures"]["evidence"][0]["changed"] > 0

    services.rollouts.order(good.id, RolloutOrder.ROLLBACK, by="eve", reason="drill")
    assert plant.ended(good.id).state is RolloutState.ROLLED_BACK
    wait_until(lambda: plant.runs() == dict.fromkeys(NAMES, plant.versions[0]))
