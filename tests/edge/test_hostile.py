"""What is refused on its way to a running package, each with its sentence, and nothing changed.

Real packages, real signatures, and the device's own way: a job and a wish, the fetch, the check,
the load. Tampering is tried at the hub and on the way (``WAY``), in what was signed all the same
(``HARMFUL``), and on the device's disk after verification. Who is refused at the doors of hub and
bus stands beside those (``DOORS``); each name is checked to exist.
"""

import hashlib
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lineside.core import Digest, Inspection, InvalidError, RefusedError, digest_of
from lineside.edge.packages import LoadedPackage, loading
from lineside.fleet import ExecutionStatus, JobDocument
from lineside.fleet.contract import Desired, DesiredPackage
from lineside.fleet.trust.roles import prefixed
from lineside.models import Package, build_package
from lineside.testing import FakeClock
from lineside.testing.links import wait_until
from lineside.testing.trust import TrustSimulator, release_of
from lineside.vision import encode_jpeg, open_frame
from tests.edge.test_package_source import Device, reason
from tests.models.conftest import package_parts, scene
from tests.models.test_archive import entries_of, with_digests, zipped
from tests.named import missing

TESTS = Path(__file__).parents[1]
STOCK = Inspection(id="stock", camera="rack", labels=("disc", "ring"))
DAY_S = 86_400.0

DOORS: dict[str, tuple[str, ...]] = {
    "expired certificate": (
        "links/test_device_door.py::test_a_certificate_that_is_over_is_refused",
        "hub/test_enrolment.py::test_a_certificate_that_is_over_or_revoked_is_not_renewed",
    ),
    "revoked device": (
        "links/test_device_door.py::test_a_revoked_certificate_is_refused_and_its_connection_cut",
        "journeys/test_enrolment.py::test_a_revoked_device_is_cut_off_and_refused_everywhere",
        "hub/test_enrolment.py::test_revocation_ends_certificate_token_keys_and_work",
    ),
    "other device's topic": (
        "links/test_device_door.py::test_what_is_another_devices_is_neither_said_nor_heard",
        "links/test_topic_access.py::test_a_device_says_what_is_its_own_and_its_lines",
        "hub/test_job_clients.py::test_another_thing_s_certificate_hears_nothing_and_changes_nothing",
        "hub/test_iot_clients.py::test_only_a_key_of_this_thing_takes_its_jobs",
        "fleet/test_agent_steps.py::test_what_is_of_another_or_is_none_changes_nothing",
    ),
    "tampering at the hub": (
        "journeys/test_tampering.py::test_an_archive_changed_in_the_hubs_store_comes_to_no_device",
        "journeys/test_tampering.py::test_metadata_changed_in_the_hubs_folder_are_believed_by_no_device",
        "fleet/trust/test_repository.py::test_nothing_is_signed_on_top_of_what_was_changed_at_rest",
        "models/test_registry.py::test_an_archive_changed_on_disk_is_refused",
    ),
    "a stick": (
        "edge/test_airgap.py::test_a_refusal_changes_nothing_that_runs",
        "edge/test_airgap.py::test_a_bundle_that_expired_on_its_way_is_refused",
        "fleet/trust/test_bundle.py::test_links_bombs_and_too_much_are_refused",
        "fleet/trust/test_bundle.py::test_an_entry_that_leads_elsewhere_is_refused",
    ),
}


def made(name: str, **changes: object) -> bytes:
    """A real package that answers ``STOCK``."""
    manifest, files = package_parts()
    return build_package(replace(manifest, name=name, **changes), files)  # type: ignore[arg-type]  # by name


ONE, TWO, THREE = (made(name) for name in ("one", "two", "three"))
DIGESTS = {data: Package.read(data).digest for data in (ONE, TWO, THREE)}


class RealDevice(Device):
    """Loads what it is given as the program does."""

    def make_ready(self, data: bytes, inspection: str) -> LoadedPackage:
        return loading(self.clock, inspections=(STOCK,))(data, inspection)

    def again(self) -> "RealDevice":
        self.loader.close()
        return RealDevice(folder=self.folder, site=self.site, clock=self.clock, most_bytes=10**9)

    def wishes(self, digest: str) -> None:
        wanted = DesiredPackage(inspection="stock", digest=Digest(digest), url="/x")
        wish = Desired(schema="lineside.desired/1", packages=(wanted,))
        self.store.keep_desired(wish)
        self.loader.set_desired(wish)

    def uses(self, data: bytes) -> bool:
        return [one.digest for one in self.loader.in_use()] == [DIGESTS[data]]

    def answers(self, data: bytes) -> bool:
        """Whether a frame is judged, by this package."""
        judge = self.loader.judge("stock")
        frame = open_frame(encode_jpeg(scene()), camera="rack", captured_at=self.clock.now())
        return judge is not None and judge.predict(frame).package == DIGESTS[data]

    def state(self, *, but: tuple[str, ...] = ("trust",)) -> dict[str, bytes]:
        """All that stands on the disk; what is believed of the repository may rightly grow."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.relative_to(self.folder).parts[0] not in but
        }


def sign(site: TrustSimulator, data: bytes, *, version: str, digest: str = "") -> None:
    """Whoever holds the key signs these bytes."""
    path = site.add(data, group="tiles", version=version)
    custom: Any = site.roles["default"].targets[path].unrecognized_fields["custom"]
    custom["digest"] = digest or DIGESTS[data]


@pytest.fixture
def site(clock: FakeClock) -> TrustSimulator:
    site = TrustSimulator(clock)
    for version, data in (("1", ONE), ("2", TWO), ("3", THREE)):
        sign(site, data, version=version)
    site.publish()
    return site


@pytest.fixture
def started(tmp_path: Path, site: TrustSimulator, clock: FakeClock) -> Iterator[list[RealDevice]]:
    folder = tmp_path / "device"
    devices = [RealDevice(folder=folder, site=site, clock=clock, most_bytes=10**9)]
    yield devices
    devices[-1].loader.close()


@pytest.fixture
def device(started: list[RealDevice]) -> RealDevice:
    """Version 1 is in use."""
    found = started[0]
    assert found.job(ONE, version="1", digest=DIGESTS[ONE]).status is ExecutionStatus.SUCCEEDED
    return found


# ---- at the hub and on the way, by somebody without keys


def _archive(data: bytes, *, version: str) -> str:
    release = release_of(data, version=version)
    return f"targets/{prefixed(release.target, release.sha256)}"


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[TrustSimulator], None]:
    def twist(site: TrustSimulator) -> None:
        path = _archive(TWO, version="2")
        site.served[path] = change(site.served[path])

    return twist


def _signs_for_itself(site: TrustSimulator) -> None:
    """Other bytes are named in the role's file, as somebody in the hub's folder would write it."""
    site.publish()
    path = f"metadata/{site.roles['default'].version}.default.json"
    signed, wrong = digest_of(TWO)[7:].encode(), digest_of(THREE)[7:].encode()
    assert signed in site.served[path]
    site.served[path] = site.served[path].replace(signed, wrong)


def _another_site(site: TrustSimulator) -> None:
    other = TrustSimulator(site.clock)
    sign(other, TWO, version="2")
    for _ in range(3):
        other.publish()
    site.served = other.served


WAY: dict[str, tuple[Callable[[TrustSimulator], None], str]] = {
    "a bit": (_bytes(lambda raw: raw[:90] + bytes([raw[90] ^ 1]) + raw[91:]), "not the bytes that"),
    "another signed archive": (_bytes(lambda _: ONE.ljust(len(TWO), b"\0")), "not the bytes that"),
    "more bytes": (_bytes(lambda raw: raw + b"x" * 10_000_000), "more than the"),
    "a target nobody signed": (_signs_for_itself, "not the bytes that are signed"),
    "another site's": (_another_site, "timestamp"),
}


def refused_by_job(device: RealDevice, words: str, **job: object) -> None:
    """A job that brings version 2 is refused with these words, and nothing changed."""
    before = device.state()
    outcome = device.job(TWO, **{"version": "2", "digest": DIGESTS[TWO], **job})
    assert outcome.status in (ExecutionStatus.FAILED, ExecutionStatus.REJECTED)
    assert words in reason(outcome)
    assert device.state() == before
    assert device.uses(ONE)
    assert device.answers(ONE)


def refused_by_wish(device: RealDevice, words: str, *, digest: str = DIGESTS[TWO]) -> None:
    """So is a wish; that it is known is all that changes."""
    kept = ("trust", "deployment.json", "deployment-copy.json")
    before, known = device.state(but=kept), device.store.read()
    device.wishes(digest)
    device.fault(words)
    assert device.state(but=kept) == before
    after = device.store.read()
    assert after.deployed()["stock"].digest == known.deployed()["stock"].digest
    assert after.installed == known.installed
    assert device.uses(ONE)
    assert device.answers(ONE)


@pytest.mark.parametrize("name", WAY)
def test_what_is_refused_changes_nothing(
    name: str, device: RealDevice, site: TrustSimulator
) -> None:
    twist, words = WAY[name]
    twist(site)
    refused_by_job(device, words)
    refused_by_wish(device, words)


def test_stale_metadata_are_refused(device: RealDevice, site: TrustSimulator) -> None:
    old = dict(site.served)
    site.publish()
    device.source.refresh()
    site.served = old
    refused_by_job(device, "must be >= ")
    refused_by_wish(device, "must be >= ")


def test_metadata_that_somebody_holds_back_end(
    device: RealDevice, site: TrustSimulator, clock: FakeClock
) -> None:
    clock.advance(31 * DAY_S)
    refused_by_job(device, "expired")
    refused_by_wish(device, "expired")
    assert site.served


# ---- signed all the same: by a stolen key, or by somebody who did not look


def _with(**more: bytes) -> dict[str, bytes]:
    return with_digests({**entries_of(TWO), **more})


def _other_machine() -> str:
    return "linux/aarch64" if os.uname().machine == "x86_64" else "linux/x86_64"


def _other_labels() -> bytes:
    manifest, _ = package_parts()
    rules = tuple(
        replace(rule, name=rule.name + "s", label=rule.label + "s") for rule in manifest.rules
    )
    return made("labels", labels=("discs", "rings"), rules=rules)


def _other_answers() -> bytes:
    manifest, _ = package_parts()
    (golden,) = manifest.golden
    moved = tuple(tuple(value + 1.0 for value in row) for row in golden.logits)
    return made("answers", golden=(replace(golden, logits=moved),))


HARMFUL: dict[str, tuple[Callable[[], bytes], str]] = {
    "path traversal": (lambda: zipped(_with(**{"../../escape.json": b"{}"})), "no plain relative"),
    "an absolute path": (lambda: zipped(_with(**{"/escape.json": b"{}"})), "no plain relative"),
    "links": (lambda: zipped(_with(), mode=stat.S_IFLNK | 0o777), "no regular file"),
    "a device file": (lambda: zipped(_with(), mode=stat.S_IFCHR | 0o666), "no regular file"),
    "a bomb": (
        lambda: zipped(_with(**{"big.json": bytes(30_000_000)}), compression=zipfile.ZIP_DEFLATED),
        "is compressed",
    ),
    "a program": (lambda: zipped(_with(**{"run.py": b"import os"})), "of a kind not taken"),
    "a changed network": (
        lambda: zipped({**entries_of(TWO), "network.onnx": b"another"}), "was changed",
    ),
    "no archive": (lambda: b"#!/bin/sh\n" * 100, "not a package archive"),
    "wrong machine": (
        lambda: made("arm", schema="lineside.manifest/3", targets=(_other_machine(),)),
        f"the package is built for {_other_machine()}, this is",
    ),
    "wrong labels": (
        _other_labels, "says 'discs', 'rings', which inspection 'stock' does not have",
    ),
    "wrong inspection": (
        lambda: made("elsewhere", inspection="scratch"), "made for inspection 'scratch'",
    ),
    "wrong answers": (_other_answers, "the golden pictures' answers differ"),
    "another package": (lambda: THREE, "wanted"),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMFUL)
def test_an_archive_that_would_harm_is_refused_though_it_is_signed(
    name: str, device: RealDevice, site: TrustSimulator, tmp_path: Path
) -> None:
    make, words = HARMFUL[name]
    data = make()
    digest = digest_of(b"promised" + data[:10])
    if name not in ("another package", "no archive"):
        digest = digest_of(entries_of(data)["digests.json"])
    sign(site, data, version="9", digest=digest)
    site.publish()
    outside = {path for path in tmp_path.rglob("*") if device.folder not in path.parents}
    before = device.state(but=("trust", "incoming"))
    outcome = device.job(data, version="9", digest=digest)
    assert (outcome.status, words in reason(outcome)) == (ExecutionStatus.FAILED, True), outcome
    assert device.state(but=("trust", "incoming")) == before
    refused_by_wish(device, words, digest=digest)
    assert {path for path in tmp_path.rglob("*") if device.folder not in path.parents} == outside
    assert not Path("/escape.json").exists()


def test_signed_for_another_machine_is_not_even_fetched(
    device: RealDevice, site: TrustSimulator
) -> None:
    (entry,) = (
        entry
        for path, entry in site.roles["default"].targets.items()
        if path.startswith("packages/tiles/2/")
    )
    custom: Any = entry.unrecognized_fields["custom"]
    custom["platforms"] = ["plan9/6502"]
    site.publish()
    asked = len(site.asked)
    refused_by_job(device, "made for plan9/6502")
    refused_by_wish(device, "made for plan9/6502")
    assert not any(path.startswith("targets/") for path, _ in site.asked[asked:])


def test_a_package_is_taken_for_each_inspection_that_is_signed_and_for_no_other(
    device: RealDevice, site: TrustSimulator
) -> None:
    data = THREE
    (path,) = (one for one in site.roles["default"].targets if "/tiles/3/" in one)
    custom: Any = site.roles["default"].targets[path].unrecognized_fields["custom"]
    custom["inspections"] = ["stock", "scratch"]
    site.publish()
    for name in ("stock", "scratch"):
        wanted = DesiredPackage(inspection=name, digest=DIGESTS[data], url="/x")
        choice = device.source.of_desired(wanted)
        kept = device.source.check(data, wanted=wanted, changes=True)
        found = [one.inspection for one in (choice, choice.installed, kept) if one is not None]
        assert found == [name] * 3
    other = DesiredPackage(inspection="lids", digest=DIGESTS[data], url="/x")
    with pytest.raises(InvalidError, match="signed for another inspection"):
        device.source.of_desired(other)
    order = JobDocument(
        model_name="tiles", model_version="3", model_package_bucket="lineside", target=path,
        model_package_key=path, digest=DIGESTS[data], inspection="scratch",
    )  # fmt: skip
    assert device.source.of_job(order).inspection == "scratch"
    with pytest.raises(RefusedError, match="the job says 'lids', signed is 'stock'"):
        device.source.of_job(replace(order, inspection="lids"))
    custom["inspections"] = "scratch"
    site.publish()
    device.source.refresh()
    with pytest.raises(RefusedError, match="without a usable 'inspections'"):
        device.source.of_job(order)


# ---- replayed


def test_a_replayed_job_brings_nothing_back(device: RealDevice) -> None:
    first = {"version": "1", "digest": DIGESTS[ONE]}
    assert device.job(TWO, version="2", digest=DIGESTS[TWO]).status is ExecutionStatus.SUCCEEDED
    before = device.state()
    for again, words in (
        (first, "version 1 of 'tiles' is not newer than 2"),
        ({**first, "rollback": True}, "no way back"),
    ):
        outcome = device.job(ONE, **again)
        assert (outcome.status, words in reason(outcome)) == (ExecutionStatus.REJECTED, True)
    left = device.folder / "incoming" / f"{hashlib.sha256(TWO).hexdigest()}.lspkg"
    left.write_bytes(TWO)  # as a kill leaves it between the package's use and the tidying
    assert device.job(TWO, version="2", digest=DIGESTS[TWO]).details["how"] == "was in use already"
    assert device.state() == before
    assert device.uses(TWO)
    assert device.answers(TWO)


# ---- on the device's disk, after verification


def _linked(path: Path) -> None:
    (path.parent.parent / "aside").write_bytes(path.read_bytes() + b"!")
    path.unlink()
    path.symlink_to(path.parent.parent / "aside")


DISK: dict[str, Callable[[Path], object]] = {
    "a bit": lambda path: path.write_bytes(path.read_bytes()[:-30] + b"!" * 30),
    "the older archive under the newer's name": lambda path: path.write_bytes(ONE),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:1000]),
    "nothing": lambda path: path.write_bytes(b""),
    "a link to another file": _linked,
}


@pytest.mark.parametrize("name", DISK)
def test_an_archive_changed_on_the_disk_does_not_run(
    name: str, device: RealDevice, started: list[RealDevice], site: TrustSimulator
) -> None:
    assert device.job(TWO, version="2", digest=DIGESTS[TWO]).status is ExecutionStatus.SUCCEEDED
    device.loader.close()
    archive = device.folder / "packages" / f"{DIGESTS[TWO][7:]}.lspkg"
    DISK[name](archive)
    site.away = True
    started.append(again := device.again())
    again.fault("the archive on this device's disk was changed after it was verified")
    wait_until(lambda: again.uses(ONE))
    assert again.answers(ONE)
    assert not archive.exists()
    site.away = False
    again.wishes(DIGESTS[TWO])
    wait_until(lambda: again.uses(TWO))
    assert archive.read_bytes() == TWO
    assert not archive.is_symlink()


@pytest.mark.parametrize("file", ["pinned.json", "metadata"])
def test_what_a_device_trusts_is_not_changed_on_its_disk(
    file: str, device: RealDevice, site: TrustSimulator, clock: FakeClock
) -> None:
    stranger = TrustSimulator(clock)
    sign(stranger, TWO, version="2")
    stranger.publish()
    trust = device.folder / "trust"
    if file == "pinned.json":
        (trust / file).write_bytes(stranger.first_root)
        refused_by_job(device, "not signed as it must be")
        refused_by_wish(device, "not signed as it must be")
        return
    for path in (trust / "metadata").glob("*.json"):
        path.write_bytes(path.read_bytes().replace(b"tiles", b"tilez"))
    site.away = True
    with pytest.raises(RefusedError, match="signed"):
        device.source.check(
            TWO,
            wanted=DesiredPackage(inspection="stock", digest=DIGESTS[TWO], url=""),
            changes=True,
        )
    assert device.answers(ONE)


# ---- who knocks


def test_a_door_that_is_named_has_its_test() -> None:
    assert missing(name for names in DOORS.values() for name in names) == []
