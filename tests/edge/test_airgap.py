"""A bundle on a stick: a device without network comes from nothing to the approved package."""

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from lineside.core import (
    ConflictError,
    Digest,
    InvalidError,
    LinesideError,
    RefusedError,
    UnavailableError,
    digest_of,
    encode,
)
from lineside.edge import TRUST, apply_bundle
from lineside.edge.deploy.deployment import DeploymentStore, UsedPoint
from lineside.edge.deploy.package_source import PackageSource
from lineside.edge.machine import sole_user
from lineside.edge.packages import LoadedPackage
from lineside.fleet import FolderSource, Release, UpdateRepository, create_repository
from lineside.fleet.contract import Desired, DesiredPoint
from lineside.fleet.trust.bundle import write_bundle
from lineside.fleet.trust.roles import prefixed
from lineside.models import Package, build_package
from lineside.models.operating_point import Limits, OperatingPoint
from lineside.testing import FakeClock
from tests.edge.conftest import QuickJudge
from tests.models.conftest import package_parts


class Site:
    """A hub's repository, its package, and the stick."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.folder, self.clock = folder, clock
        self.blobs: dict[Digest, bytes] = {}
        self.repository: UpdateRepository = create_repository(
            folder / "trust", keys=folder / "keys", clock=clock, read=self.blobs.__getitem__
        )

    def release(
        self, version: str, *, name: str = "discs", inspections: tuple[str, ...] = ("stock",)
    ) -> tuple[str, Digest]:
        """Publish a real package; its path and digest."""
        manifest, files = package_parts()
        data = build_package(replace(manifest, name=name), files)
        self.blobs[digest_of(data)] = data
        package, path = Package.read(data), ""
        for inspection in inspections:
            release = Release(
                group="tiles", version=version, inspection=inspection, digest=package.digest,
                sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data),
            )  # fmt: skip
            path = self.repository.publish(release, data).path
        return path, package.digest

    def point(self, version: int, *, package: Digest, inspection: str = "stock") -> OperatingPoint:
        """Publish an operating point of a package as the hub does."""
        point = OperatingPoint(
            inspection=inspection, package=package, version=version,
            limits=(Limits(name="disc", low=0.2, high=0.9),), by="ada", at=self.clock.now(),
            reason="too many reviews", approved_by="eve", approved_at=self.clock.now(),
        )  # fmt: skip
        data = encode(point)
        self.blobs[point.digest] = data
        release = Release(
            group=f"operating-point-{inspection}", version=str(version), inspection=inspection,
            digest=point.digest, sha256=point.digest.removeprefix("sha256:"),
            size_bytes=len(data),
        )  # fmt: skip
        self.repository.publish(release, data)
        return point

    def place(self, point: OperatingPoint) -> tuple[str, str]:
        """The path of a published point, and the name of its bytes in a bundle."""
        (one,) = (
            each
            for each in self.repository.targets().values()
            if each.custom.get("digest") == point.digest
        )
        return one.path, f"targets/{prefixed(one.path, one.sha256)}"

    def stick(self, *paths: str, wheels: tuple[tuple[str, bytes], ...] = ()) -> Path:
        path = self.folder / "site.lsbundle"
        write_bundle(self.repository, paths, to=path, wheels=wheels)
        return path


def write_again(stick: Path, changed: Mapping[str, bytes]) -> None:
    """The same bundle with other bytes of some entries, or further ones; check sums are right."""
    with zipfile.ZipFile(stick) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(stick, "w") as archive:
        for name, data in sorted({**found, **changed}.items()):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)


def listing(*packages: str, points: tuple[str, ...] = ()) -> dict[str, bytes]:
    listed = {"schema": "lineside.bundle/1", "packages": packages, "points": points}
    return {"bundle.json": encode(listed)}


@pytest.fixture
def site(tmp_path: Path, clock: FakeClock) -> Site:
    return Site(tmp_path / "hub", clock)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "device"


def test_from_nothing_to_the_approved_package(site: Site, folder: Path, clock: FakeClock) -> None:
    path, digest = site.release("1")
    stick = site.stick(path, wheels=(("lineside-1.0.whl", b"wheel"),))
    applied = apply_bundle(stick, folder=folder, clock=clock, root=site.repository.first_root())
    assert [one.digest for one in applied.packages] == [digest]
    assert [one.role for one in applied.signed_by] == ["default"]
    assert [wheel.read_bytes() for wheel in applied.wheels] == [b"wheel"]
    store = DeploymentStore(folder)
    wish, data = store.desired(), store.get(digest)
    assert wish is not None
    assert [wanted.digest for wanted in wish.packages] == [digest]
    assert data is not None
    assert Package.read(data).digest == digest
    assert not (folder / "incoming").exists()


def test_the_same_stick_twice_changes_nothing(site: Site, folder: Path, clock: FakeClock) -> None:
    stick = site.stick(site.release("1")[0])
    first = apply_bundle(stick, folder=folder, clock=clock, root=site.repository.first_root())
    kept = (folder / "deployment.json").read_bytes()
    assert apply_bundle(stick, folder=folder, clock=clock) == first
    assert (folder / "deployment.json").read_bytes() == kept


def test_a_package_keeps_the_operating_point_that_it_had(
    site: Site, folder: Path, clock: FakeClock
) -> None:
    path, digest = site.release("1")
    stick = site.stick(path)
    apply_bundle(stick, folder=folder, clock=clock, root=site.repository.first_root())
    store, point = DeploymentStore(folder), digest_of(b"point")
    (wanted,) = store.read().desired.packages  # type: ignore[union-attr]  # just applied
    asked = replace(wanted, operating_point=DesiredPoint(digest=point, url="/x"))
    store.keep_desired(Desired(schema="lineside.desired/1", packages=(asked,)))
    apply_bundle(stick, folder=folder, clock=clock)
    assert store.desired() == Desired(schema="lineside.desired/1", packages=(asked,))
    used = UsedPoint(inspection=wanted.inspection, package=digest, version=2, digest=point)
    store.keep_deployed({}, points=(used,))
    other = site.stick(site.release("2", name="other")[0])
    apply_bundle(other, folder=folder, clock=clock)
    site.repository.allow_rollback(path, from_version="2")
    apply_bundle(site.stick(path), folder=folder, clock=clock, rollback=True)
    (back,) = store.read().desired.packages  # type: ignore[union-attr]  # just applied
    assert back.operating_point == DesiredPoint(digest=point, url="")


def test_a_bundle_brings_the_point_in_force_and_never_an_older_one(
    site: Site, folder: Path, clock: FakeClock
) -> None:
    path, digest = site.release("1")
    first, second = (site.point(number, package=digest) for number in (1, 2))
    site.point(3, package=site.release("2", name="other")[1])
    stick = site.stick(path)
    root = site.repository.first_root()
    applied = apply_bundle(stick, folder=folder, clock=clock, root=root)
    assert applied.points == (second,)
    store = DeploymentStore(folder)
    (wanted,) = store.read().desired.packages  # type: ignore[union-attr]  # just applied
    assert wanted.operating_point == DesiredPoint(digest=second.digest, url="")
    source = PackageSource(store, clock=clock, repository=FolderSource(folder))
    assert source.point(wanted.operating_point, inspection="stock") == second
    used = UsedPoint(inspection="stock", package=digest, version=3, digest=first.digest)
    store.keep_deployed({}, points=(used,))
    with pytest.raises(RefusedError, match="operating point 2 is older than 3"):
        apply_bundle(stick, folder=folder, clock=clock)


def test_a_point_that_is_not_what_is_signed_keeps_the_stick_out(
    site: Site, folder: Path, clock: FakeClock
) -> None:
    path, digest = site.release("1")
    point = site.point(1, package=digest)
    stick, (listed, name) = site.stick(path), site.place(point)
    changed = encode(point).replace(b'"high":0.9', b'"high":0.8')
    write_again(stick, {name: changed, **listing(path, points=(listed,))})
    with pytest.raises(RefusedError, match="not the bytes that were signed"):
        apply_bundle(stick, folder=folder, clock=clock, root=site.repository.first_root())
    assert DeploymentStore(folder).desired() is None
    write_again(stick, {name: encode(point)})
    assert apply_bundle(
        stick, folder=folder, clock=clock, root=site.repository.first_root()
    ).points == (point,)


def test_a_point_for_no_package_of_the_bundle_keeps_the_stick_out(
    site: Site, folder: Path, clock: FakeClock
) -> None:
    path, digest = site.release("1")
    other = site.point(1, package=digest, inspection="lids")
    stick, (listed, name) = site.stick(path), site.place(other)
    write_again(stick, {name: encode(other), **listing(path, points=(listed,))})
    with pytest.raises(RefusedError, match="for no package of the bundle"):
        apply_bundle(stick, folder=folder, clock=clock, root=site.repository.first_root())
    assert DeploymentStore(folder).desired() is None


def test_a_list_without_the_newest_signed_point_keeps_the_stick_out(
    site: Site, folder: Path, clock: FakeClock
) -> None:
    path, digest = site.release("1")
    first, second = (site.point(number, package=digest) for number in (1, 2))
    stick, (listed, name) = site.stick(path), site.place(first)
    for points in ((), (listed,)):
        write_again(stick, {name: encode(first), **listing(path, points=points)})
        with pytest.raises(RefusedError, match="operating point 2 is signed for the package"):
            apply_bundle(stick, folder=folder, clock=clock, root=site.repository.first_root())
    assert DeploymentStore(folder).desired() is None
    assert apply_bundle(
        site.stick(path), folder=folder, clock=clock, root=site.repository.first_root()
    ).points == (second,)


def test_a_package_for_two_inspections_leaves_one_to_a_newer_version(
    site: Site, folder: Path, clock: FakeClock
) -> None:
    both, first = site.release("1", inspections=("stock", "rear"))
    newer, second = site.release("2", name="other", inspections=("rear",))
    site.point(1, package=first, inspection="rear")
    point = site.point(2, package=second, inspection="rear")

    def make_ready(data: bytes, inspection: str) -> LoadedPackage:
        digest = Package.read(data).digest
        judge = QuickJudge(digest, clock, inspection=inspection)
        return LoadedPackage(digest=digest, inspection=inspection, judge=judge)

    applied = apply_bundle(
        site.stick(both, newer), folder=folder, clock=clock, root=site.repository.first_root(),
        make_ready=make_ready,
    )  # fmt: skip
    assert {one.inspection: one.digest for one in applied.packages} == {
        "stock": first, "rear": second,
    }  # fmt: skip
    assert applied.points == (point,)
    with pytest.raises(RefusedError, match="is not newer than 2"):
        apply_bundle(site.stick(both), folder=folder, clock=clock, make_ready=make_ready)


def test_back_only_where_it_is_signed_and_asked_for(
    site: Site, folder: Path, clock: FakeClock
) -> None:
    old, digest = site.release("1")
    new, _ = site.release("2", name="other")
    root = site.repository.first_root()
    apply_bundle(site.stick(new), folder=folder, clock=clock, root=root)
    for asked in (False, True):
        with pytest.raises(RefusedError, match="is not newer than 2"):
            apply_bundle(site.stick(old), folder=folder, clock=clock, rollback=asked)
    site.repository.allow_rollback(old, from_version="2")
    with pytest.raises(RefusedError, match="Ask for a rollback"):
        apply_bundle(site.stick(old), folder=folder, clock=clock)
    apply_bundle(site.stick(old), folder=folder, clock=clock, rollback=True)
    (installed,) = DeploymentStore(folder).installed().values()
    assert (installed.version, installed.digest) == ("1", digest)


def unchanged(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and TRUST not in path.parts and path.name != "lock"
    }


def test_a_refusal_changes_nothing_that_runs(site: Site, folder: Path, clock: FakeClock) -> None:
    path, _ = site.release("1")
    stick = site.stick(path)
    apply_bundle(stick, folder=folder, clock=clock, root=site.repository.first_root())
    before = unchanged(folder)
    newer = site.stick(site.release("2", name="other")[0])

    def wrong(data: bytes, inspection: str) -> LoadedPackage:
        raise RefusedError(f"golden pictures differ in {len(data)} bytes", where=inspection)

    with pytest.raises(RefusedError, match="golden pictures differ"):
        apply_bundle(newer, folder=folder, clock=clock, make_ready=wrong)
    raw = bytearray(newer.read_bytes())
    raw[raw.index(b"targets/packages") + 2000] ^= 1
    newer.write_bytes(raw)
    with pytest.raises(LinesideError):
        apply_bundle(newer, folder=folder, clock=clock)
    assert unchanged(folder) == before


def test_a_signed_package_must_be_what_is_signed_of_it(
    site: Site, folder: Path, clock: FakeClock
) -> None:
    manifest, files = package_parts()
    data = build_package(manifest, files)
    site.blobs[digest_of(data)] = data
    release = Release(
        group="tiles", version="1", inspection="stock", digest=digest_of(b"another"),
        sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data),
    )  # fmt: skip
    stick = site.stick(site.repository.publish(release, data).path)
    with pytest.raises(RefusedError, match=r"the package is .*, signed is"):
        apply_bundle(stick, folder=folder, clock=clock, root=site.repository.first_root())


def test_a_bundle_that_expired_on_its_way_is_refused(
    site: Site, folder: Path, clock: FakeClock
) -> None:
    stick = site.stick(site.release("1")[0])
    clock.advance(10 * 86_400)
    with pytest.raises(RefusedError, match="expired"):
        apply_bundle(stick, folder=folder, clock=clock, root=site.repository.first_root())
    site.repository.extend(60)
    stick = site.stick(*site.repository.targets())
    clock.advance(30 * 86_400)
    apply_bundle(stick, folder=folder, clock=clock)


def test_another_sites_bundle_is_refused(
    site: Site, folder: Path, clock: FakeClock, tmp_path: Path
) -> None:
    apply_bundle(
        site.stick(site.release("1")[0]), folder=folder, clock=clock,
        root=site.repository.first_root(),
    )  # fmt: skip
    other = Site(tmp_path / "other", clock)
    stick = other.stick(other.release("9")[0])
    with pytest.raises(RefusedError, match="not signed as it must be"):
        apply_bundle(stick, folder=folder, clock=clock)
    with pytest.raises(ConflictError, match="trusts another root"):
        apply_bundle(stick, folder=folder, clock=clock, root=other.repository.first_root())


def test_without_a_root_or_beside_a_running_agent_nothing_happens(
    site: Site, folder: Path, clock: FakeClock
) -> None:
    stick = site.stick(site.release("1")[0])
    with pytest.raises(RefusedError, match="trusts no root yet"):
        apply_bundle(stick, folder=folder, clock=clock)
    with sole_user(folder), pytest.raises(ConflictError, match="another agent"):
        apply_bundle(stick, folder=folder, clock=clock, root=site.repository.first_root())


def test_a_damaged_list_of_versions_does_not_open_the_way_back(
    site: Site, folder: Path, clock: FakeClock
) -> None:
    stick = site.stick(site.release("1")[0])
    apply_bundle(stick, folder=folder, clock=clock, root=site.repository.first_root())
    for path in folder.glob("deployment*.json"):
        path.write_bytes(b"{")
    with pytest.raises(RefusedError, match="cannot be read"):
        apply_bundle(stick, folder=folder, clock=clock)


def test_a_full_disk_is_a_sentence(site: Site, tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "file").write_bytes(b"")
    stick = site.stick(site.release("1")[0])
    with pytest.raises((UnavailableError, InvalidError)):
        apply_bundle(
            stick, folder=tmp_path / "file" / "x", clock=clock, root=site.repository.first_root()
        )
