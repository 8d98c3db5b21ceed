"""A site's folders that an earlier version wrote open with today's: hub, device, package, data.

``site-1.tar.gz`` holds the hub's records, blobs and update repository and one device's folder. Two
versions of a model were rolled out; the device runs the second one. Twelve labelled images were
frozen. Its private keys are not in it.
"""

import tarfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from lineside.core import Plant, UnavailableError
from lineside.edge.delivery.spool import Draft, open_spool
from lineside.edge.deploy.deployment import DeploymentStore
from lineside.edge.deploy.loader import Loader
from lineside.edge.deploy.package_source import PackageSource
from lineside.edge.messages import Counters
from lineside.edge.packages import LoadedPackage
from lineside.fleet import FolderSource, Part, RolloutState, UpdateClient
from lineside.hub import HubConfig, Services
from lineside.models import Package
from lineside.testing import FakeClock
from lineside.testing.links import wait_until
from tests.edge.conftest import QuickJudge
from tests.hub.conftest import open_hub

SITE = Path(__file__).parents[1] / "data" / "formats" / "site-1.tar.gz"
SECOND = "sha256:cc40ad727de0056065647426ae265692b4e90fc4d427075d02b08f47be5f534f"
FROZEN = "sha256:03fc5b402e5952061a7f78952f98baa466c3bba3b25f4f4de195932249948e68"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with tarfile.open(SITE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def old_hub(folder: Path, plant: Plant, clock: FakeClock) -> Iterator[Services]:
    config = HubConfig(data_dir=str(folder / "hub"), plant="plant.toml", port=0, bus_port=0)
    with open_hub(config, plant=plant, clock=clock) as hub:
        yield hub


def test_its_log_rollouts_and_desired_states_stand(old_hub: Services) -> None:
    sources = old_hub.records.log.sources()
    assert sources
    assert all(old_hub.records.log.verify(source).ok for source in sources)
    assert [one.state for one in old_hub.rollouts.all()] == [RolloutState.DONE] * 2
    assert old_hub.desired.of("edge-1").of("stock").digest == SECOND
    assert old_hub.models.one("discs", 3).digest == SECOND
    assert old_hub.models.one("discs", 3).approved


def test_its_dataset_version_opens_with_every_image(old_hub: Services) -> None:
    version = old_hub.datasets.version("discs", 1)
    assert version.digest == FROZEN
    assert {one.labels for one in version.samples} == {("red",), ("blue",)}
    assert all(old_hub.blobs.get(one.digest) for one in version.samples)


class NoHub:
    """A hub that cannot be reached: the package in use must need nothing of it."""

    def open(
        self, path: str, *, start_byte: int = 0, end_byte: int | None = None
    ) -> AbstractContextManager[Part]:
        del start_byte, end_byte
        raise UnavailableError("the hub is away", where=path)


def test_its_device_runs_its_package_and_holds_its_events(folder: Path, clock: FakeClock) -> None:
    def make_ready(data: bytes, inspection: str) -> LoadedPackage:
        digest = Package.read(data).digest
        judge = QuickJudge(digest, clock)
        return LoadedPackage(
            digest=digest, inspection=inspection, judge=judge, size_bytes=len(data)
        )

    device = folder / "edge-1"
    store = DeploymentStore(device)
    store.open()
    loader = Loader(
        store, source=PackageSource(store, repository=NoHub(), clock=clock), make_ready=make_ready,
        inspections=frozenset({"stock"}), most=2, max_bytes=10_000_000, counters=Counters(),
        clock=clock,
    )  # fmt: skip
    loader.start()
    try:
        wait_until(lambda: [one.digest for one in loader.in_use()] == [SECOND])
    finally:
        loader.close()
    spool = open_spool(device / "spool.db", max_bytes=1_000_000)
    spool.append([Draft(topic="a/prediction", make=lambda _: b"{}", image=b"image")])
    held = [(row.sequence, spool.image(row.sequence)) for row in spool.after(0, most=10)]
    assert held == [(2, None), (3, None), (4, b"image")]
    spool.close()


def test_its_device_trusts_what_it_held_and_follows_its_hub(folder: Path, clock: FakeClock) -> None:
    trust, hub = folder / "edge-1" / "trust", FolderSource(folder / "hub" / "trust")
    held = {path.name for path in (trust / "metadata").iterdir()}
    away = UpdateClient(trust, source=NoHub(), clock=clock)
    away.recall()
    targets = away.targets()
    assert [target.custom["digest"] for target in targets.values()].count(SECOND) == 1
    clock.advance(60)
    client = UpdateClient(trust, source=hub, clock=clock)
    client.refresh()
    assert client.targets() == targets
    assert {client.signers(path).role for path in targets} == {"default"}
    assert {path.name for path in (trust / "metadata").iterdir()} == held
