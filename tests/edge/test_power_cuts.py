"""Power cut at any byte: whatever stands half written on the device's disk, it starts again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lineside.core import RefusedError, encode
from lineside.edge.deploy.deployment import (
    DeployedPackage,
    Deployment,
    DeploymentStore,
    settled,
    wanted_now,
)
from lineside.fleet.contract import Desired, DesiredPackage
from lineside.testing import FakeClock
from lineside.testing.trust import TrustSimulator
from tests.edge.test_package_source import ONE, TWO, Device, package

KEPT = ("deployment.json", "deployment-copy.json")


@pytest.fixture(scope="module")
def site() -> TrustSimulator:
    made = TrustSimulator(FakeClock())
    for data in (ONE, TWO):
        made.add(data, group="tiles", version=str(data[0]))
    made.publish()
    return made


class Disk(dict[str, bytes]):
    """Files by name; short where a failing example is printed."""

    def __repr__(self) -> str:
        return f"<{len(self)} files>"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, site: TrustSimulator) -> Disk:
    """Every file of a device that ran version 1 and then version 2."""
    folder = tmp_path_factory.mktemp("disk")
    device = Device(folder=folder, site=site, clock=site.clock)
    for data in (ONE, TWO):
        device.wish(data)
        device.running(data)
    device.loader.close()
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return Disk({str(path.relative_to(folder)): path.read_bytes() for path in files})


@pytest.fixture
def away(site: TrustSimulator) -> Iterator[None]:
    site.away = True
    yield
    site.away = False


def laid(disk: Disk, folder: Path) -> Path:
    for name, data in disk.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 10_000), share=st.floats(0, 1), flip=st.booleans())
def test_any_one_file_cut_or_changed_leaves_a_device_that_starts_and_says_so(
    disk: Disk,
    site: TrustSimulator,
    tmp_path_factory: pytest.TempPathFactory,
    place: int,
    share: float,
    flip: object,
) -> None:
    """Nothing that is not signed runs; with the hub there, all is well again."""
    folder = laid(disk, tmp_path_factory.mktemp("cut"))
    names = [name for name in disk if not name.startswith("trust/pinned")]
    name = names[place % len(names)]
    data, at = disk[name], int(share * len(disk[name]))
    broken = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if flip and at < len(data) else None
    (folder / name).write_bytes(data[:at] if broken is None else broken)
    device = Device(folder=folder, site=site, clock=site.clock)
    try:
        device.wish(TWO)
        device.running(TWO)
        assert device.store.get(package(TWO)) == TWO
    finally:
        device.loader.close()


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.usefixtures("away")
def test_with_the_hub_away_a_cut_list_leaves_what_can_be_proved(
    disk: Disk, site: TrustSimulator, tmp_path: Path, name: str
) -> None:
    folder = laid(disk, tmp_path)
    (folder / name).write_bytes(disk[name][: len(disk[name]) // 2])
    device = Device(folder=folder, site=site, clock=site.clock)
    try:
        device.running(TWO)
    finally:
        device.loader.close()


@pytest.mark.usefixtures("away")
def test_with_the_hub_away_a_cut_archive_leaves_the_one_before(
    disk: Disk, site: TrustSimulator, tmp_path: Path
) -> None:
    folder = laid(disk, tmp_path)
    (folder / "packages" / f"{package(TWO)[7:]}.lspkg").write_bytes(TWO[:100])
    device = Device(folder=folder, site=site, clock=site.clock)
    try:
        device.running(ONE)
        device.fault("was changed after it was verified")
    finally:
        device.loader.close()


def desired(data: bytes | None, *, revision: int = 0) -> Desired:
    wanted = (DesiredPackage(inspection="stock", digest=package(data), url="/x"),) if data else ()
    revisions = {"stock": revision} if revision else {}
    return Desired(schema="lineside.desired/1", packages=wanted, revisions=revisions)


def test_what_a_job_brought_holds_until_the_desired_state_is_another_one() -> None:
    by_job = DeployedPackage(
        inspection="stock", digest=package(TWO), by_job=True, desired_digest=package(ONE)
    )
    deployed = {"stock": by_job}
    assert [one.digest for one in wanted_now(desired(ONE), deployed)] == [package(TWO)]
    assert settled(desired(ONE), deployed) == deployed
    assert [one.digest for one in wanted_now(desired(TWO), deployed)] == [package(TWO)]
    after = settled(desired(TWO), deployed)
    assert not after["stock"].by_job
    assert [one.digest for one in wanted_now(desired(ONE), after)] == [package(ONE)]
    assert [one.digest for one in wanted_now(None, after)] == [package(TWO)]
    assert settled(None, deployed) == deployed


def test_a_new_revision_ends_what_a_job_brought_also_where_the_package_is_the_same() -> None:
    by_job = DeployedPackage(
        inspection="stock", digest=package(TWO), by_job=True, desired_digest=package(ONE),
        desired_revision=3,
    )  # fmt: skip
    deployed = {"stock": by_job}
    assert wanted_now(desired(ONE, revision=3), deployed)[0].digest == package(TWO)
    assert wanted_now(desired(ONE, revision=4), deployed)[0].digest == package(ONE)
    assert wanted_now(desired(None, revision=4), deployed) == ()
    first = {"stock": DeployedPackage(inspection="stock", digest=package(TWO), by_job=True)}
    assert wanted_now(desired(None), first)[0].digest == package(TWO)
    assert wanted_now(desired(None, revision=1), first) == ()


def test_what_is_in_use_is_kept_and_read_back_also_from_the_copy(tmp_path: Path) -> None:
    deployed = DeployedPackage(
        inspection="stock", digest=package(ONE), previous=package(TWO), url="/x"
    )
    assert DeploymentStore(tmp_path).read() == Deployment()
    DeploymentStore(tmp_path).write(Deployment(packages=(deployed,)))
    (tmp_path / "deployment.json").write_bytes(encode({"schema": "lineside.deployment/9"}))
    assert DeploymentStore(tmp_path).read().packages == (deployed,)
    (tmp_path / "deployment-copy.json").write_bytes(b"")
    with pytest.raises(RefusedError, match="cannot be read"):
        DeploymentStore(tmp_path).read()
