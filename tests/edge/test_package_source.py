"""What may run on a device: signed packages only, also from its own disk, also backwards."""

import io
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest
from tuf.api.metadata import TargetFile

from lineside.core import Digest, InvalidError, decode, digest_of, encode
from lineside.core.errors import NotFoundError, RefusedError, UnavailableError
from lineside.edge import EdgeConfig
from lineside.edge.deploy.deployment import DeploymentStore
from lineside.edge.deploy.jobs import AbandonedError, Deployer
from lineside.edge.deploy.loader import Loader, Prepared
from lineside.edge.deploy.package_source import Choice, DamagedError, PackageSource, source_for
from lineside.edge.messages import Counters
from lineside.edge.packages import LoadedPackage
from lineside.fleet import DevicePolicy, ExecutionStatus, JobDocument, pin_root
from lineside.fleet.agent import Outcome, Work
from lineside.fleet.contract import Desired, DesiredPackage, DesiredPoint
from lineside.models.operating_point import Limits, OperatingPoint
from lineside.testing import FakeClock
from lineside.testing.links import wait_until
from lineside.testing.trust import TrustSimulator, release_of
from tests.edge.conftest import QuickJudge

ONE, TWO, THREE = (bytes([number]) * 4000 for number in (1, 2, 3))


def package(data: bytes) -> Digest:
    """As the simulator signs it."""
    return digest_of(b"package of " + data)


@dataclass
class Device:
    """Loader and supply over one folder; a second one on it is the device started again."""

    folder: Path
    site: TrustSimulator
    clock: FakeClock
    most_bytes: int = 100_000
    fails: set[bytes] = field(default_factory=set)
    said: list[dict[str, str]] = field(default_factory=list)
    confirmed: int = 0

    def __post_init__(self) -> None:
        pin_root(self.folder / "trust", self.site.first_root)
        self.counters, self.store = Counters(), DeploymentStore(self.folder)
        self.store.open()
        self.source = PackageSource(self.store, repository=self.site, clock=self.clock)
        self.loader = self._loader()
        policy = DevicePolicy(
            inspections=self.loader.inspections, allows=lambda name: name != "cat", signed=True
        )
        self.deployer = Deployer(self.loader, source=self.source, policy=policy)
        self.loader.start()

    def _loader(self) -> Loader:
        return Loader(
            self.store, source=self.source, make_ready=self.make_ready,
            inspections=frozenset({"stock"}), most=2, max_bytes=self.most_bytes,
            counters=self.counters, clock=self.clock,
        )  # fmt: skip

    def make_ready(self, data: bytes, inspection: str) -> LoadedPackage:
        if data in self.fails:
            raise RefusedError("the golden pictures' answers differ")
        judge = QuickJudge(package(data), self.clock)
        return LoadedPackage(
            digest=package(data), inspection=inspection, judge=judge, size_bytes=len(data)
        )

    def again(self) -> "Device":
        self.loader.close()
        return Device(folder=self.folder, site=self.site, clock=self.clock)

    def wish(
        self, data: bytes, *, revision: int = 0, bad: tuple[bytes, ...] = (), point: bytes = b""
    ) -> None:
        asked = DesiredPoint(digest=digest_of(point), url="/y") if point else None
        wanted = DesiredPackage(
            inspection="stock", digest=package(data), url="/x", operating_point=asked
        )
        revisions = {"stock": revision} if revision else {}
        wish = Desired(
            schema="lineside.desired/1", packages=(wanted,), revisions=revisions,
            bad=tuple(package(one) for one in bad),
        )  # fmt: skip
        self.store.keep_desired(wish)
        self.loader.set_desired(wish)

    def runs(self, data: bytes) -> bool:
        return [one.digest for one in self.loader.in_use()] == [package(data)]

    def running(self, data: bytes) -> None:
        wait_until(lambda: self.runs(data))

    def decides(self, point: bytes) -> bool:
        found = [one.operating_point for one in self.loader.in_use()]
        return found == [digest_of(point) if point else ""]

    def decide_by(self, point: bytes) -> None:
        self.wish(ONE, point=point)
        wait_until(lambda: self.decides(point))

    def refuses(self, point: bytes) -> bool:
        return [one.refused_point for one in self.loader.in_use()] == [digest_of(point)]

    def fault(self, words: str) -> None:
        wait_until(lambda: any(words in one for one in self.counters.read().faults))

    def job(self, data: bytes, **changes: object) -> Outcome:
        version = str(changes.pop("version", data[0]))
        release = release_of(data, version=version)
        document = {
            "type": "new_model", "model_name": "tiles", "model_version": version,
            "model_package_bucket": "b", "model_package_key": "k", "inspection": "stock",
            "target": release.target, "digest": package(data), **changes,
        }  # fmt: skip
        work = Work(job_id="j", number=1, version=1, document=document)
        return self.deployer.carry_out(work, self)

    # ``jobs.Control``

    def tell(self, details: Mapping[str, str]) -> None:
        self.said.append(dict(details))

    def confirm(self) -> None:
        self.confirmed += 1

    def wait(self, seconds: float) -> None:
        self.site.away = False
        assert seconds > 0


def reason(outcome: Outcome) -> str:
    return outcome.details.get("reason", "")


@pytest.fixture
def site(clock: FakeClock) -> TrustSimulator:
    site = TrustSimulator(clock)
    for data in (ONE, TWO, THREE):
        site.add(data, group="tiles", version=str(data[0]))
    site.publish()
    return site


@pytest.fixture
def started(tmp_path: Path, site: TrustSimulator, clock: FakeClock) -> Iterator[list[Device]]:
    devices = [Device(folder=tmp_path, site=site, clock=clock)]
    yield devices
    devices[-1].loader.close()


@pytest.fixture
def device(started: list[Device]) -> Device:
    return started[0]


def allow_back(site: TrustSimulator, data: bytes, *, from_version: str) -> None:
    entry: TargetFile = site.roles["default"].targets[release_of(data, version=str(data[0])).target]
    cast("dict[str, list[str]]", entry.unrecognized_fields["custom"])["rollback_from"] = [
        from_version
    ]
    site.publish()


def signed_point(
    site: TrustSimulator, version: int, *, inspection: str = "stock", of: bytes = ONE
) -> bytes:
    """An operating point of a package, signed as the hub signs it."""
    at = site.clock.now()
    data = encode(
        OperatingPoint(
            inspection=inspection, package=package(of), version=version, by="ada", at=at,
            limits=(Limits(name="blue", low=0.1, high=version / 10),), reason="doubt",
            approved_by="eve", approved_at=at,
        )
    )  # fmt: skip
    path = site.add(data, group="operating-point-stock", version=str(version))
    custom = site.roles["default"].targets[path].unrecognized_fields["custom"]
    custom |= {"digest": digest_of(data), "inspection": inspection}
    site.publish()
    return data


class TestAPoint:
    def test_decides_from_the_first_frame_and_after_a_restart_without_the_hub(
        self, started: list[Device], site: TrustSimulator
    ) -> None:
        point = signed_point(site, 1)
        started[0].decide_by(point)
        site.away = True
        started.append(started[0].again())
        started[1].running(ONE)
        wait_until(lambda: started[1].decides(point))

    def test_is_kept_where_the_desired_state_names_none_any_more(
        self, started: list[Device], site: TrustSimulator
    ) -> None:
        point = signed_point(site, 1)
        started[0].decide_by(point)
        started[0].wish(ONE)
        started[0].fault("the desired state names none, although version 1 was used")
        assert started[0].decides(point)
        started.append(started[0].again())
        started[1].fault("the desired state names none, although version 1 was used")
        assert started[1].decides(point)
        started[1].wish(ONE, point=point)
        wait_until(lambda: started[1].counters.read().faults == ())

    def test_of_a_lower_version_is_refused_through_none_another_package_and_restarts(
        self, started: list[Device], site: TrustSimulator
    ) -> None:
        low, high = signed_point(site, 1), signed_point(site, 2)
        other = signed_point(site, 3, of=TWO)
        started[0].decide_by(high)
        started[0].wish(ONE)
        started[0].fault("the desired state names none")
        started[0].wish(ONE, point=low)
        started[0].fault("operating point 1 is older than 2")
        assert started[0].decides(high)
        started[0].wish(TWO, point=other)
        wait_until(lambda: started[0].decides(other))
        started.append(started[0].again())
        started[1].running(TWO)
        allow_back(site, ONE, from_version="2")
        started[1].wish(ONE, point=low)
        started[1].running(ONE)
        started[1].fault("operating point 1 is older than 2")
        assert started[1].decides(high)
        for point in (high, other):
            assert started[1].store.get(digest_of(point)) == point

    def test_is_written_before_it_decides(
        self, started: list[Device], site: TrustSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        device, point = started[0], signed_point(site, 1)
        device.wish(ONE)
        device.running(ONE)

        def full(*_: object, **__: object) -> None:
            raise UnavailableError("no space left")

        with monkeypatch.context() as patch:
            patch.setattr(device.store, "keep_deployed", full)
            device.wish(ONE, point=point)
            device.fault("operating point of stock: no space left")
            assert device.decides(b"")
        wait_until(lambda: device.decides(point))
        assert [one.version for one in device.store.read().points] == [1]

    def test_of_a_package_that_a_job_brings_back_decides_from_its_first_frame(
        self, device: Device, site: TrustSimulator
    ) -> None:
        point = signed_point(site, 1)
        device.decide_by(point)
        device.job(TWO)
        assert device.runs(TWO)
        assert device.decides(b"")
        allow_back(site, ONE, from_version="2")
        seen: list[str] = []
        place = device.loader.place

        def placed(made: Prepared) -> None:
            seen.append(made.ready.judge.operating_point)
            place(made)

        device.loader.place = placed  # type: ignore[method-assign]  # looks at what comes
        assert device.job(ONE, rollback=True).status is ExecutionStatus.SUCCEEDED
        assert seen == [digest_of(point)]
        assert device.decides(point)

    def test_is_that_of_the_package_that_judges_beside(
        self, device: Device, site: TrustSimulator
    ) -> None:
        point = signed_point(site, 1)
        device.decide_by(point)
        device.job(TWO)
        before = DesiredPackage(inspection="stock", digest=package(ONE), url="")
        assert device.loader.load_previous(before).judge.operating_point == digest_of(point)
        assert device.decides(b"")

    def test_that_cannot_be_had_keeps_a_new_package_off_the_line(
        self, started: list[Device], site: TrustSimulator
    ) -> None:
        device, point = started[0], signed_point(site, 1, of=TWO)
        device.wish(ONE)
        device.running(ONE)
        served = {path: data for path, data in site.served.items() if data == point}
        for path in served:
            site.served[path] = point.replace(b"doubt", b"trust")
        device.wish(TWO, point=point)
        device.fault("package of stock: its operating point cannot be had, what answers goes on")
        assert device.runs(ONE)
        started.append(started[0].again())  # also where both begin
        started[1].fault("its operating point cannot be had, what answers goes on")
        assert started[1].runs(ONE)
        site.served |= served
        wait_until(lambda: started[1].decides(point))
        assert started[1].runs(TWO)
        wait_until(lambda: started[1].counters.read().faults == ())

    def test_changed_on_the_way_is_refused_and_the_former_stays_also_after_a_restart(
        self, started: list[Device], site: TrustSimulator
    ) -> None:
        first, second = signed_point(site, 1), signed_point(site, 2)
        started[0].decide_by(first)
        for path, data in site.served.items():
            if data == second:
                site.served[path] = second.replace(b"doubt", b"trust")
        started[0].wish(ONE, point=second)
        started[0].fault("operating point of stock: ")
        assert started[0].decides(first)
        started.append(started[0].again())
        started[1].fault("operating point of stock: ")
        wait_until(lambda: started[1].decides(first))

    def test_a_lower_version_is_refused_also_after_a_restart(
        self, started: list[Device], site: TrustSimulator
    ) -> None:
        first, second = signed_point(site, 1), signed_point(site, 2)
        started[0].decide_by(second)
        started[0].wish(ONE, point=first)
        started[0].fault("operating point 1 is older than 2, which was in use")
        wait_until(lambda: started[0].refuses(first))
        started.append(started[0].again())
        started[1].fault("operating point 1 is older than 2, which was in use")
        wait_until(lambda: started[1].decides(second) and started[1].refuses(first))

    def test_of_another_inspection_or_of_nobody_is_refused(
        self, device: Device, site: TrustSimulator
    ) -> None:
        device.wish(ONE, point=b"{}")
        device.fault("is not signed for this device")
        device.wish(ONE, point=signed_point(site, 1, inspection="scratch"))
        device.running(ONE)
        wait_until(lambda: device.decides(b""))


class TestAWish:
    def test_brings_what_is_signed(self, device: Device) -> None:
        device.wish(ONE)
        device.running(ONE)
        assert device.store.installed()["stock"].version == "1"
        assert not list((device.folder / "incoming").glob("*"))

    def test_for_what_nobody_signed_is_refused(self, device: Device) -> None:
        device.wish(b"unsigned")
        device.fault("is not signed for this device")
        assert device.loader.in_use() == ()

    def test_for_an_older_version_needs_a_signed_way_back(
        self, device: Device, site: TrustSimulator
    ) -> None:
        device.wish(TWO)
        device.running(TWO)
        device.wish(ONE)
        device.fault("no way back")
        assert device.runs(TWO)
        allow_back(site, ONE, from_version="2")
        device.wish(ONE)
        device.running(ONE)

    def test_that_is_tampered_with_on_the_way_leaves_the_one_before(
        self, device: Device, site: TrustSimulator
    ) -> None:
        device.wish(ONE)
        device.running(ONE)
        for path in [path for path in site.served if path.startswith("targets/packages/tiles/2")]:
            site.served[path] = b"\0" * len(TWO)
        device.wish(TWO)
        device.fault("not the bytes that were signed")
        assert device.runs(ONE)

    @pytest.mark.parametrize("before", [True, False])
    def test_that_fails_does_not_let_a_bad_package_go_on(
        self,
        started: list[Device],
        before: bool,  # noqa: FBT001  of the parameters
    ) -> None:
        device = started[0]
        for data in (ONE, TWO) if before else (TWO,):
            device.wish(data)
            device.running(data)
        device.fails.add(THREE)
        device.wish(THREE, revision=2, bad=(TWO,))
        device.fault("golden pictures' answers differ")
        wait_until(lambda: device.runs(ONE) if before else device.loader.in_use() == ())


class TestTheDisk:
    def archive(self, device: Device, data: bytes) -> Path:
        return device.folder / "packages" / f"{package(data)[7:]}.lspkg"

    def test_changed_after_verification_is_refused_and_the_one_before_goes_on(
        self, started: list[Device], site: TrustSimulator
    ) -> None:
        device = started[0]
        for data in (ONE, TWO):
            device.wish(data)
            device.running(data)
        device.loader.close()
        self.archive(device, TWO).write_bytes(TWO[:-1] + b"!")
        site.away = True
        started.append(again := device.again())
        again.fault("was changed after it was verified")
        again.running(ONE)
        site.away = False
        again.running(TWO)
        wait_until(lambda: again.counters.read().faults == ())
        assert self.archive(again, TWO).read_bytes() == TWO

    def test_is_verified_before_a_package_of_before_judges_beside(self, device: Device) -> None:
        for data in (ONE, TWO):
            device.job(data)
        before = DesiredPackage(inspection="stock", digest=package(ONE), url="")
        assert device.loader.load_previous(before).digest == before.digest
        path = self.archive(device, ONE)
        path.write_bytes(ONE + b"x")
        with pytest.raises(DamagedError):
            device.loader.load_previous(before)
        path.unlink()
        with pytest.raises(NotFoundError, match="not on this device's disk"):
            device.loader.load_previous(before)

    def test_is_enough_to_start_while_the_hub_is_away(
        self, started: list[Device], site: TrustSimulator
    ) -> None:
        started[0].wish(ONE)
        started[0].running(ONE)
        started[0].loader.close()
        site.away = True
        started.append(again := started[0].again())
        again.running(ONE)
        assert again.counters.read().faults == ()

    def test_without_the_wish_goes_on_with_what_ran_last(
        self, started: list[Device], site: TrustSimulator
    ) -> None:
        started[0].wish(ONE)
        started[0].running(ONE)
        site.away = True
        started[0].wish(TWO)
        started[0].fault("nobody answers")
        started.append(again := started[0].again())
        again.fault("nobody answers")
        again.running(ONE)

    def test_has_the_way_back_while_the_hub_is_away(
        self, device: Device, site: TrustSimulator
    ) -> None:
        allow_back(site, ONE, from_version="2")
        for data in (ONE, TWO):
            device.wish(data)
            device.running(data)
        site.away = True
        device.wish(ONE)
        device.running(ONE)


class Undecided(Device):
    """The hub changes what it wants between its word on a job and the switch."""

    def confirm(self) -> None:
        super().confirm()
        if self.confirmed == 1:
            self.wish(ONE, revision=2)
        elif self.called_off:
            raise AbandonedError("the job was called off")

    called_off = True


class TestAJob:
    @pytest.mark.parametrize("called_off", [True, False])
    def test_is_confirmed_again_where_the_hub_changed_what_it_wants(
        self,
        tmp_path: Path,
        site: TrustSimulator,
        clock: FakeClock,
        called_off: bool,  # noqa: FBT001  of the parameters
    ) -> None:
        device = Undecided(folder=tmp_path / "undecided", site=site, clock=clock)
        device.called_off = called_off
        try:
            device.wish(ONE, revision=1)
            device.running(ONE)
            if called_off:
                with pytest.raises(AbandonedError):
                    device.job(TWO)
                assert device.runs(ONE)
            else:
                assert device.job(TWO).status is ExecutionStatus.SUCCEEDED
                device.wish(ONE, revision=2)  # the same word again, a retained message
                assert device.runs(TWO)
            assert device.confirmed == 2
        finally:
            device.loader.close()

    def test_ends_with_a_new_revision_of_the_same_package(
        self, device: Device, site: TrustSimulator
    ) -> None:
        allow_back(site, ONE, from_version="2")
        device.wish(ONE, revision=1)
        device.running(ONE)
        device.job(TWO)
        device.wish(ONE, revision=1)
        assert device.runs(TWO)
        device.wish(ONE, revision=2)
        device.running(ONE)

    def test_brings_a_package_into_use_and_tells_of_the_bytes(self, device: Device) -> None:
        outcome = device.job(ONE)
        assert outcome.status is ExecutionStatus.SUCCEEDED
        assert device.runs(ONE)
        assert outcome.details["digest"] == package(ONE)
        fetched = [one["bytes"] for one in device.said if one["step"] == "fetching"]
        assert fetched == ["1000", "2000", "3000", "4000"]
        assert device.confirmed == 1

    def test_done_twice_is_a_success_twice(self, device: Device) -> None:
        assert device.job(ONE).status is device.job(ONE).status is ExecutionStatus.SUCCEEDED
        assert device.confirmed == 1

    def test_outlasts_the_wish_it_came_before_and_no_later_one(
        self, started: list[Device], site: TrustSimulator
    ) -> None:
        device = started[0]
        device.wish(ONE)
        device.running(ONE)
        assert device.job(TWO).status is ExecutionStatus.SUCCEEDED
        device.wish(ONE)  # the retained wish, again after a lost connection
        device.wish(ONE)
        started.append(again := device.again())
        again.running(TWO)
        again.wish(THREE)
        again.running(THREE)
        allow_back(site, TWO, from_version="3")
        again.wish(TWO)
        again.running(TWO)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"type": "reboot"}, "type 'reboot' is not known"),
            ({"type": None}, "type 'None' is not known"),
            ({"model_name": "cat"}, "'cat' is not among those"),
            ({"model_name": ""}, "not text of 1"),
            ({"model_name": 5}, "not text of 1"),
            ({"model_name": "a\nb"}, "not text of 1"),
            ({"model_name": "x" * 2000}, "not text of 1"),
            ({"model_name": "other"}, "the job says 'other', signed is 'tiles'"),
            ({"model_version": "latest"}, "is no version"),
            ({"model_version": "9"}, "the job says '9', signed is '1'"),
            ({"inspection": "elsewhere"}, "no inspection 'elsewhere'"),
            ({"target": ""}, "names no signed package"),
            ({"digest": ""}, "names no signed package"),
            ({"digest": "md5:1"}, "digest"),
            ({"digest": package(TWO)}, "the job says"),
            ({"sha256": "0" * 64}, "the job says"),
            ({"target": "packages/tiles/7/0123456789abcdef.lspkg"}, "nothing is signed"),
            ({"target": "../../etc/passwd"}, ""),
            ({"target": ["x"]}, "not text"),
            ({"size_bytes": -1}, "not a number of bytes"),
            ({"size_bytes": True}, "not a number of bytes"),
            ({"rollback": "yes"}, "neither true nor false"),
        ],
    )  # fmt: skip
    def test_that_cannot_be_done_is_rejected_and_nothing_is_fetched(
        self, device: Device, changes: dict[str, object], words: str
    ) -> None:
        outcome = device.job(ONE, **changes)
        assert outcome.status is ExecutionStatus.REJECTED
        assert words in reason(outcome)
        assert device.loader.in_use() == ()
        assert not any(path.startswith("targets/") for path, _ in device.site.asked)

    def test_for_another_machine_is_rejected(self, device: Device, site: TrustSimulator) -> None:
        entry = site.roles["default"].targets[release_of(ONE, version="1").target]
        cast("dict[str, list[str]]", entry.unrecognized_fields["custom"])["platforms"] = [
            "plan9/6502"
        ]
        site.publish()
        outcome = device.job(ONE)
        assert outcome.status is ExecutionStatus.REJECTED
        assert "made for plan9/6502" in reason(outcome)

    def test_backwards_needs_the_word_and_the_signature(
        self, device: Device, site: TrustSimulator
    ) -> None:
        device.job(TWO)
        for rollback, words in ((False, "not newer"), (True, "no way back")):
            outcome = device.job(ONE, rollback=rollback)
            assert outcome.status is ExecutionStatus.REJECTED
            assert words in reason(outcome)
        allow_back(site, ONE, from_version="2")
        assert device.job(ONE).status is ExecutionStatus.REJECTED
        assert device.job(ONE, rollback=True).status is ExecutionStatus.SUCCEEDED
        assert device.runs(ONE)

    def test_whose_package_answers_differently_fails_and_the_one_before_goes_on(
        self, device: Device
    ) -> None:
        device.job(ONE)
        device.fails.add(TWO)
        outcome = device.job(TWO)
        assert outcome.status is ExecutionStatus.FAILED
        assert "golden" in reason(outcome)
        assert device.runs(ONE)

    def test_that_was_tampered_with_on_the_way_fails(
        self, device: Device, site: TrustSimulator
    ) -> None:
        for path in [path for path in site.served if path.startswith("targets/")]:
            site.served[path] = b"\0" * 4000
        outcome = device.job(ONE)
        assert outcome.status is ExecutionStatus.FAILED
        assert "not the bytes that were signed" in reason(outcome)

    def test_whose_metadata_cannot_be_believed_fails(
        self, device: Device, site: TrustSimulator
    ) -> None:
        site.served["metadata/timestamp.json"] = b"{}"
        assert device.job(ONE).status is ExecutionStatus.FAILED

    def test_waits_for_a_hub_that_is_away(self, device: Device, site: TrustSimulator) -> None:
        site.away = True
        assert device.job(ONE).status is ExecutionStatus.SUCCEEDED

    def test_without_room_fails(self, device: Device) -> None:
        device.loader._max_bytes = 3000
        outcome = device.job(ONE)
        assert outcome.status is ExecutionStatus.FAILED
        assert "max_loaded_bytes" in reason(outcome)


class TestASetting:
    def config(self, folder: Path, **changes: object) -> EdgeConfig:
        settings = {"device": "e", "bus": "", "plant": "", "data_dir": str(folder), **changes}
        return decode(EdgeConfig, settings, where="settings")

    def test_decides_what_may_run(
        self, tmp_path: Path, site: TrustSimulator, clock: FakeClock
    ) -> None:
        def source(config: EdgeConfig) -> PackageSource:
            return source_for(config, store=DeploymentStore(config.folder), clock=clock)

        def check(source: PackageSource) -> object:
            wanted = DesiredPackage(inspection="stock", digest=package(ONE), url="/x")
            return source.check(ONE, wanted=wanted, changes=False)

        nothing = source(self.config(tmp_path / "a"))
        assert nothing.signed
        with pytest.raises(RefusedError, match="trusts no update repository"):
            check(nothing)
        anything = source(self.config(tmp_path / "a", unsigned="allowed"))
        assert not anything.signed
        assert check(anything) is None
        (tmp_path / "root.json").write_bytes(site.first_root)
        config = self.config(
            tmp_path / "b", trust_root=str(tmp_path / "root.json"), unsigned="allowed"
        )
        for trusting in (config, replace(config, trust_root=str(tmp_path))):
            with pytest.raises(RefusedError, match="the repository does not have it"):
                check(source(trusting))
        (tmp_path / "root.json").unlink()
        assert source(config).signed
        with pytest.raises(RefusedError, match=r"root\.json"):
            source(self.config(tmp_path / "c", trust_root=str(tmp_path)))

    def test_without_trust_every_way_is_refused(self, tmp_path: Path) -> None:
        source = PackageSource(DeploymentStore(tmp_path), clock=FakeClock())
        wanted = DesiredPackage(inspection="stock", digest=package(ONE), url="/x")
        order = JobDocument(
            model_name="m", model_version="1", model_package_bucket="", model_package_key=""
        )
        choice = Choice(inspection="stock", digest=wanted.digest, url="/x")
        for ask in (
            lambda: source.check(ONE, wanted=wanted, changes=False),
            lambda: source.of_desired(wanted),
            lambda: source.of_job(order),
            lambda: source.fetch(choice, progress=lambda *_: None),
        ):
            with pytest.raises(RefusedError, match="trusts no update repository"):
                ask()


class TestUnsigned:
    def test_documents_of_others_are_taken_from_the_bucket(self, tmp_path: Path) -> None:
        asked: list[str] = []

        def fetch(url: str) -> bytes:
            asked.append(url)
            return ONE

        source = PackageSource(DeploymentStore(tmp_path), unsigned=fetch, clock=FakeClock())
        order = JobDocument(
            model_name="unet", model_version="4", model_package_bucket="b",
            model_package_key="k/x.lspkg",
        )  # fmt: skip
        choice = source.of_job(order)
        assert source.fetch(choice, progress=lambda *_: None) == ONE
        assert asked == ["/s3/b/k/x.lspkg"]
        packed = replace(order, model_package_key="k/x.tar.gz", target="k/x.lspkg")
        assert source.of_job(packed).url == choice.url


def test_a_package_signed_for_another_inspection_is_not_taken(device: Device) -> None:
    wanted = DesiredPackage(inspection="scratch", digest=package(ONE), url="/x")
    with pytest.raises(InvalidError, match="another inspection"):
        device.source.of_desired(wanted)


def test_broken_off_fetches_leave_few_parts(device: Device, site: TrustSimulator) -> None:
    incoming = device.folder / "incoming"
    incoming.mkdir()
    for number in range(6):
        (incoming / f"{number}.part").write_bytes(b"x")
    choice = device.source.of_desired(
        DesiredPackage(inspection="stock", digest=package(ONE), url="")
    )
    site.break_after = 1000
    with pytest.raises(UnavailableError):
        device.source.fetch(choice, progress=lambda *_: None)
    assert len(list(incoming.iterdir())) == 3


def test_of_a_newer_package_only_what_changed_is_fetched(
    device: Device, site: TrustSimulator
) -> None:
    picture, engine = os.urandom(200_000), [os.urandom(50_000), os.urandom(50_000)]
    old, new = (_archive({"engine.onnx": one, "a.png": picture}) for one in engine)
    for version, data in (("10", old), ("11", new)):
        site.add(data, group="tiles", version=version)
    site.publish()
    device.loader._max_bytes = 2_000_000
    assert device.job(old, version="10").status is ExecutionStatus.SUCCEEDED
    site.sent_bytes = 0
    assert device.job(new, version="11").status is ExecutionStatus.SUCCEEDED
    assert device.runs(new)
    assert site.sent_bytes < 150_000, "engine, directory and metadata"


def _archive(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name), files[name])
    return out.getvalue()
