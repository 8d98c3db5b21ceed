"""From wishes to packages at work, and what stays on the disk."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from lineside.core import Digest, LinesideError, RefusedError, UnavailableError, digest_of, encode
from lineside.edge.deploy.deployment import DeploymentStore, UsedPoint, wanted_now
from lineside.edge.deploy.loader import Loader
from lineside.edge.deploy.package_source import PackageSource
from lineside.edge.messages import Counters
from lineside.edge.packages import LoadedPackage
from lineside.fleet.contract import Desired, DesiredPackage
from lineside.models.predictor import GoldenError
from lineside.testing import FakeClock
from lineside.testing.links import wait_until
from tests.edge.conftest import QuickJudge


@dataclass
class Hub:
    """Gives any archive that is its own address; can be away or give something else."""

    away: int = 0
    wrong: bytes = b""
    asked: list[str] = field(default_factory=list)

    def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        if self.away:
            self.away -= 1
            raise UnavailableError("the hub is away")
        return self.wrong or url.encode()


@dataclass
class Maker:
    """Makes ready what begins with the name of the inspection that it is loaded for, or "any"."""

    clock: FakeClock
    golden_fails: set[bytes] = field(default_factory=set)
    fails: list[LinesideError] = field(default_factory=list)
    made: list[bytes] = field(default_factory=list)

    def __call__(self, data: bytes, inspection: str) -> LoadedPackage:
        self.made.append(data)
        if self.fails:
            raise self.fails.pop()
        if data in self.golden_fails:
            raise RefusedError("the golden pictures' answers differ")
        if data == b"broken":
            raise ZeroDivisionError
        if data.decode().partition("-")[0] not in (inspection, "any"):
            raise RefusedError(f"{data.decode()} does not answer what {inspection} asks")
        judge = QuickJudge(digest_of(data), self.clock, inspection=inspection)
        return LoadedPackage(digest=digest_of(data), inspection=inspection, judge=judge)


@dataclass
class Rig:
    loader: Loader
    hub: Hub
    maker: Maker
    counters: Counters
    store: DeploymentStore
    folder: Path

    def wish(self, *names: str) -> None:
        self.loader.set_desired(desired(*names))

    def loaded(self, *names: str) -> bool:
        return {item.digest for item in self.loader.in_use()} == {digest(name) for name in names}

    def on_disk(self) -> set[str]:
        return {path.stem for path in (self.folder / "packages").iterdir()}


def digest(name: str) -> Digest:
    return digest_of(name.encode())


def desired(*names: str) -> Desired:
    wanted = [
        DesiredPackage(inspection=name.partition("-")[0], digest=digest(name), url=name)
        for name in names
    ]
    return Desired(schema="lineside.desired/1", packages=tuple(wanted))


@pytest.fixture
def rig(tmp_path: Path, clock: FakeClock) -> Iterator[Rig]:
    made = make_rig(tmp_path, clock)
    made.loader.start()
    yield made
    made.loader.close()


def make_rig(folder: Path, clock: FakeClock) -> Rig:
    hub, maker, counters, store = Hub(), Maker(clock), Counters(), DeploymentStore(folder)
    store.open()
    loader = Loader(
        store,
        source=PackageSource(store, unsigned=hub.fetch, clock=clock),
        make_ready=maker,
        inspections=frozenset({"stock", "scratch"}),
        most=2,
        max_bytes=1_000_000,
        counters=counters,
        clock=clock,
    )
    return Rig(loader=loader, hub=hub, maker=maker, counters=counters, store=store, folder=folder)


def test_a_wish_is_fetched_checked_and_put_to_work(rig: Rig) -> None:
    rig.wish("stock-1", "scratch-1")
    wait_until(lambda: rig.loaded("stock-1", "scratch-1"))
    assert rig.loader.judge("stock") is not None
    assert rig.loader.judge("other") is None
    assert rig.hub.asked == ["stock-1", "scratch-1"]


def test_what_is_on_the_disk_is_not_fetched_again(tmp_path: Path, clock: FakeClock) -> None:
    first = make_rig(tmp_path, clock)
    first.loader.start()
    first.wish("stock-1")
    wait_until(lambda: first.loaded("stock-1"))
    first.loader.close()
    second = make_rig(tmp_path, clock)
    second.loader.start()
    second.wish("stock-1")
    wait_until(lambda: second.loaded("stock-1"))
    second.loader.close()
    assert second.hub.asked == []


def test_a_damaged_archive_on_the_disk_is_fetched_anew(rig: Rig) -> None:
    rig.store.put(digest("stock-1"), b"stock-damaged")
    rig.wish("stock-1")
    wait_until(lambda: rig.loaded("stock-1"))
    assert rig.store.get(digest("stock-1")) == b"stock-1"


@pytest.mark.parametrize("kept", [False, True])
def test_a_gpu_that_is_away_is_asked_again_and_costs_no_archive(rig: Rig, *, kept: bool) -> None:
    if kept:
        rig.store.put(digest("stock-1"), b"stock-1")
    rig.maker.fails.append(UnavailableError("CUDAExecutionProvider cannot be used here"))
    rig.wish("stock-1")
    wait_until(lambda: rig.loaded("stock-1"))
    assert rig.hub.asked == ([] if kept else ["stock-1"])
    assert rig.maker.made == [b"stock-1"] * 2


def test_an_archive_whose_answers_differ_here_stays_for_another_device(rig: Rig) -> None:
    rig.store.put(digest("stock-1"), b"stock-1")
    rig.maker.fails.append(GoldenError("the golden pictures' answers differ on cuda"))
    rig.wish("stock-1")
    wait_until(lambda: any("differ on cuda" in one for one in rig.counters.read().faults))
    assert rig.store.get(digest("stock-1")) == b"stock-1"
    assert rig.hub.asked == []


def test_a_hub_that_is_away_is_asked_again(rig: Rig) -> None:
    rig.hub.away = 1
    rig.wish("stock-1")
    wait_until(lambda: rig.counters.read().faults != ())
    wait_until(lambda: rig.loaded("stock-1"))
    wait_until(lambda: rig.counters.read().faults == ())  # told once the package is in its place


@pytest.mark.parametrize("bad", ["stock-bad", "broken"])
def test_a_package_that_must_not_run_leaves_the_one_before(rig: Rig, bad: str) -> None:
    rig.wish("stock-1")
    wait_until(lambda: rig.loaded("stock-1"))
    rig.maker.golden_fails.add(b"stock-bad")
    wanted = DesiredPackage(inspection="stock", digest=digest(bad), url=bad)
    rig.loader.set_desired(Desired(schema="lineside.desired/1", packages=(wanted,)))
    wait_until(lambda: rig.counters.read().faults != ())
    assert rig.loaded("stock-1")
    assert digest(bad)[7:] not in rig.on_disk()


@pytest.mark.parametrize("wrong", [b"stock-2", b"scratch-1"])
def test_other_bytes_than_wished_are_refused(rig: Rig, wrong: bytes) -> None:
    rig.hub.wrong = wrong
    rig.wish("stock-1")
    wait_until(lambda: rig.counters.read().faults != ())
    assert rig.loader.in_use() == ()
    assert rig.on_disk() == set()


def test_a_package_that_does_not_fit_its_inspection_is_refused(rig: Rig) -> None:
    wanted = DesiredPackage(inspection="stock", digest=digest("scratch-1"), url="scratch-1")
    rig.loader.set_desired(Desired(schema="lineside.desired/1", packages=(wanted,)))
    wait_until(lambda: rig.counters.read().faults != ())
    assert "scratch" in rig.counters.read().faults[0]


def test_an_archive_that_fits_one_inspection_alone_stays_for_it(rig: Rig) -> None:
    rig.wish("stock-1")
    wait_until(lambda: rig.loaded("stock-1"))
    both = [
        DesiredPackage(inspection=name, digest=digest("stock-1"), url="stock-1")
        for name in ("stock", "scratch")
    ]
    rig.loader.set_desired(Desired(schema="lineside.desired/1", packages=tuple(both)))
    wait_until(lambda: any("package of scratch" in one for one in rig.counters.read().faults))
    assert rig.store.get(digest("stock-1")) == b"stock-1"


@pytest.mark.parametrize("inspection", ["stock", "scratch"])
def test_what_is_bad_for_one_inspection_goes_on_for_another(rig: Rig, inspection: str) -> None:
    rig.wish("stock-1")
    wait_until(lambda: rig.loaded("stock-1"))
    rig.maker.golden_fails.add(b"stock-2")
    marks = (digest("stock-1"), f"{inspection}/{digest('stock-1')}")
    rig.loader.set_desired(replace(desired("stock-2"), revisions={"stock": 2}, bad=marks))
    wait_until(lambda: rig.counters.read().faults != ())
    rig.loader.close()
    assert rig.loaded("stock-1") == (inspection == "scratch")


def test_a_refused_package_is_tried_again_when_it_is_wished_again(rig: Rig) -> None:
    rig.maker.golden_fails.add(b"stock-1")
    rig.wish("stock-1")
    wait_until(lambda: rig.counters.read().faults != ())
    rig.maker.golden_fails.clear()
    rig.loader.set_desired(replace(desired("stock-1"), revisions={"stock": 2}))
    wait_until(lambda: rig.loaded("stock-1"))


def test_a_refused_package_is_left_while_the_same_is_said_again(rig: Rig) -> None:
    rig.maker.golden_fails.add(b"stock-1")
    rig.wish("stock-1", "scratch-1")
    wait_until(lambda: rig.loaded("scratch-1"))
    made = len(rig.maker.made)
    for _ in range(3):
        rig.wish("stock-1", "scratch-1")
        wait_until(lambda: not rig.loader._new)
    rig.loader.close()
    assert len(rig.maker.made) == made


def test_a_desired_state_that_is_kept_already_is_not_written_again(rig: Rig) -> None:
    rig.store.keep_desired(desired("stock-1"))
    file = rig.folder / "deployment.json"
    kept = file.stat().st_mtime_ns
    rig.store.keep_desired(desired("stock-1"))
    assert file.stat().st_mtime_ns == kept
    rig.store.keep_desired(desired("stock-2"))
    assert rig.store.desired() == desired("stock-2")


def test_a_record_of_an_older_agent_says_which_point_was_used_last(tmp_path: Path) -> None:
    store = DeploymentStore(tmp_path)
    store.open()
    point = digest_of(b"point")
    row = {"inspection": "stock", "digest": digest("stock-1"), "operating_point": point}
    body = {"schema": "lineside.deployment/1", "packages": [row]}
    (tmp_path / "deployment.json").write_bytes(encode(body))
    used = UsedPoint(inspection="stock", package=digest("stock-1"), version=0, digest=point)
    assert store.used_points() == {("stock", digest("stock-1")): used}
    newer = replace(used, version=3, digest=digest_of(b"newer"))
    store.keep_deployed(store.deployed(), points=(newer,))
    assert store.used_points() == {("stock", digest("stock-1")): newer}
    (job,) = wanted_now(None, store.deployed())
    assert job.operating_point is not None
    assert job.operating_point.digest == point


def test_no_more_are_loaded_than_allowed(rig: Rig) -> None:
    rig.loader._most = 1
    rig.wish("stock-1", "scratch-1")
    wait_until(lambda: rig.counters.read().faults != ())
    assert rig.loaded("stock-1")
    rig.wish("scratch-1")
    wait_until(lambda: rig.loaded("scratch-1"))


def test_inspections_that_run_one_package_count_it_once(rig: Rig) -> None:
    rig.loader._most = 1
    both = (DesiredPackage(inspection=name, digest=digest("any-1"), url="any-1")
            for name in ("stock", "scratch"))  # fmt: skip
    rig.loader.set_desired(Desired(schema="lineside.desired/1", packages=tuple(both)))
    wait_until(lambda: [one.digest for one in rig.loader.in_use()] == 2 * [digest("any-1")])
    assert rig.counters.read().faults == ()


def test_packages_of_inspections_elsewhere_are_passed_over(rig: Rig) -> None:
    rig.wish("stock-1", "elsewhere-1")
    wait_until(lambda: rig.loaded("stock-1"))
    assert rig.hub.asked == ["stock-1"]


def test_the_one_in_use_and_the_one_before_stay_on_the_disk(rig: Rig) -> None:
    for name in ("stock-1", "stock-2", "stock-3"):
        rig.wish(name)
        wait_until(lambda wished=name: rig.loaded(wished))  # type: ignore[misc]  # a default of a lambda
    wait_until(lambda: rig.on_disk() == {digest("stock-2")[7:], digest("stock-3")[7:]})


def test_a_shelf_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError):
        DeploymentStore(tmp_path / "file").open()
    store = DeploymentStore(tmp_path)
    store.open()
    (tmp_path / "packages").rmdir()
    (tmp_path / "packages").touch()
    with pytest.raises(LinesideError):
        store.put(digest("stock-1"), b"x")


def test_a_kept_wish_that_is_damaged_is_no_wish(tmp_path: Path) -> None:
    store = DeploymentStore(tmp_path)
    store.open()
    assert store.desired() is None
    store.keep_desired(desired())
    assert store.desired() == desired()
    (tmp_path / "deployment.json").write_bytes(b'{"schema"')
    assert store.desired() == desired()  # of the copy
    (tmp_path / "deployment-copy.json").write_bytes(b"")
    assert store.desired() is None
