"""The hub's side: what it signs a device believes, whatever was killed when."""

import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lineside.core import (
    ConflictError,
    Digest,
    InvalidError,
    NotFoundError,
    RefusedError,
    SystemClock,
    digest_of,
)
from lineside.fleet import (
    FolderSource,
    Target,
    UpdateClient,
    UpdateRepository,
    create_repository,
    pin_root,
)
from lineside.fleet.trust.roles import DeviceGroup, Lifetimes, NewTrust, prefixed
from lineside.testing import FakeClock
from lineside.testing.trust import release_of
from tests.fleet.trust.conftest import ARCHIVE, silent

DAY_S = 86_400.0
OTHER = b"another archive" * 100


class Site:
    """A repository in a folder, its keys in another, its archives in a dictionary."""

    def __init__(self, folder: Path, clock: FakeClock, settings: NewTrust | None = None) -> None:
        self.folder, self.keys, self.clock = folder / "trust", folder / "keys", clock
        self.blobs: dict[Digest, bytes] = {}
        self.repository = create_repository(
            self.folder, keys=self.keys, clock=clock, read=self.read, settings=settings
        )
        self._device = folder / "device"

    def read(self, digest: Digest) -> bytes:
        return self.blobs[digest]

    def publish(
        self, data: bytes = ARCHIVE, *, rollback_from: tuple[str, ...] = (), **words: str
    ) -> Target:
        self.blobs[digest_of(data)] = data
        return self.repository.publish(
            release_of(data, **words),  # type: ignore[arg-type]  # words of a release
            data,
            rollback_from=rollback_from,
        )

    def client(self) -> UpdateClient:
        """A device that sees a mirror of the repository, archives included."""
        pin_root(self._device, self.repository.first_root())
        for target in self.repository.targets().values():
            place = self.folder / "targets" / prefixed(target.path, target.sha256)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(self.repository.archive(target))
        client = UpdateClient(self._device, source=FolderSource(self.folder), clock=self.clock)
        client.refresh()
        return client


@pytest.fixture
def site(tmp_path: Path, clock: FakeClock) -> Site:
    return Site(tmp_path, clock, NewTrust(groups=(DeviceGroup(name="line-a", models=("tiles",)),)))


def test_what_was_published_reaches_a_device(site: Site, tmp_path: Path) -> None:
    target = site.publish(version="1.10", platforms=("linux/x86_64",), rollback_from=("1.11",))  # type: ignore[arg-type]
    client = site.client()
    assert client.target(target.path) == target
    assert target.custom == {
        "group": "tiles", "version": "1.10", "inspection": "stock",
        "digest": digest_of(b"package of " + ARCHIVE), "platforms": ["linux/x86_64"],
        "rollback_from": ["1.11"],
    }  # fmt: skip
    file = client.fetch(target, into=tmp_path / "in", progress=silent)
    assert file.read_bytes() == ARCHIVE
    assert client.signers(target.path).role == "line-a"
    assert client.targets() == {target.path: target}


def test_models_of_no_group_are_signed_by_default(site: Site) -> None:
    target = site.publish(group="rack")
    assert site.client().signers(target.path).role == "default"


def test_the_same_release_twice_is_one(site: Site) -> None:
    first = site.publish()
    stamp = site.repository.metadata("timestamp.json")
    assert site.publish() == first
    assert site.repository.metadata("timestamp.json") == stamp


def test_other_bytes_under_a_version_are_refused(site: Site) -> None:
    site.publish()
    with pytest.raises(ConflictError, match="published with other bytes"):
        site.publish(OTHER)
    site.publish(OTHER, version="2")
    assert len(site.repository.targets()) == 2


def test_a_release_must_be_of_its_archive(site: Site) -> None:
    with pytest.raises(InvalidError, match="not the one that the release names"):
        site.repository.publish(release_of(ARCHIVE), OTHER)


@pytest.mark.parametrize(
    "words",
    [
        {"group": "../x"}, {"group": ""}, {"group": "a/b"}, {"version": "latest"},
        {"version": "../1"}, {"digest": "md5:1"},
    ],
)  # fmt: skip
def test_a_release_that_could_lead_elsewhere_is_refused(words: dict[str, str], site: Site) -> None:
    with pytest.raises(InvalidError):
        site.publish(ARCHIVE, **words)  # type: ignore[arg-type]  # words of a release
    assert not site.repository.targets()


def test_a_way_back_is_signed_when_it_is_allowed(site: Site) -> None:
    old = site.publish()
    site.publish(OTHER, version="2")
    assert site.repository.allow_rollback(old.path, from_version="2").custom["rollback_from"] == [
        "2"
    ]
    site.publish()
    assert site.client().target(old.path).custom["rollback_from"] == ["2"]


def test_what_is_withdrawn_is_gone(site: Site) -> None:
    target = site.publish()
    site.client()
    site.repository.withdraw(target.path)
    with pytest.raises(RefusedError, match="nothing is signed"):
        site.client().target(target.path)
    with pytest.raises(NotFoundError):
        site.repository.withdraw(target.path)


def test_only_what_is_signed_is_served(site: Site) -> None:
    target = site.publish()
    assert site.repository.served(prefixed(target.path, target.sha256)) == target
    assert site.repository.served(target.path) == target
    for path in ("x", prefixed(target.path, "0" * 64), "packages/tiles/1/x.lspkg", "../keys"):
        with pytest.raises(NotFoundError):
            site.repository.served(path)
    for name in ("../online/x.pem", "lock", "1.root.json/..", "0.root.json", "99.root.json"):
        with pytest.raises(NotFoundError):
            site.repository.metadata(name)


# ---- keys


def test_keys_stand_apart_and_are_nobody_elses(site: Site) -> None:
    names = sorted(path.name.partition("-")[0] for path in site.keys.iterdir())
    assert names == ["root", "root", "root", "targets"]
    for path in (*site.keys.iterdir(), *(site.folder / "online").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(site.keys.stat().st_mode) == 0o700


def test_publishing_needs_no_offline_key(site: Site) -> None:
    site.keys.rename(site.keys.with_name("on-a-stick"))
    target = site.publish()
    assert site.client().target(target.path) == target
    with pytest.raises(NotFoundError, match="no folder of keys"):
        site.repository.rotate("root", keys=site.keys)


def test_encrypted_keys_need_their_passphrase(tmp_path: Path, clock: FakeClock) -> None:
    site = Site(tmp_path, clock, NewTrust(passphrase=b"a long one"))
    assert all(b"ENCRYPTED" in path.read_bytes() for path in site.keys.iterdir())
    with pytest.raises(RefusedError, match="encrypted"):
        site.repository.rotate("root", keys=site.keys)
    with pytest.raises(RefusedError, match="does not open"):
        site.repository.rotate("root", keys=site.keys, passphrase=b"wrong")
    site.repository.rotate("root", keys=site.keys, passphrase=b"a long one")
    assert all(b"ENCRYPTED" in path.read_bytes() for path in site.keys.iterdir())
    site.client()


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp", "default", "line-a"])
def test_devices_follow_a_rotation_and_the_old_keys_are_worth_nothing(
    role: str, site: Site
) -> None:
    target = site.publish()
    site.client()
    before = {view.role: set(view.keys) for view in site.repository.show().roles}
    added = site.repository.rotate(role, keys=site.keys)
    now = {view.role: set(view.keys) for view in site.repository.show().roles}
    assert now[role] == set(added)
    assert not now[role] & before[role]
    assert all(now[name] == before[name] for name in now if name != role)
    assert site.client().target(target.path) == target
    site.publish(OTHER, version="2")
    assert len(site.client().targets()) == 2


def test_one_lost_root_key_is_replaced_by_the_others(site: Site) -> None:
    lost = next(iter(site.repository.show().roles)).keys[0]
    next(site.keys.glob(f"root-{lost[:12]}*")).unlink()
    site.repository.rotate("root", keys=site.keys, lost=lost[:12])
    assert lost not in site.repository.show().roles[0].keys
    site.client()
    with pytest.raises(NotFoundError, match="0 keys"):
        site.repository.rotate("root", keys=site.keys, lost=lost)


def test_two_lost_root_keys_are_too_many(site: Site) -> None:
    root = site.repository.show().roles[0]
    for lost in root.keys[:2]:
        next(site.keys.glob(f"root-{lost[:12]}*")).unlink()
    with pytest.raises(RefusedError, match="needs 2 of its keys, 1 are here"):
        site.repository.rotate("root", keys=site.keys, lost=root.keys[0])
    assert site.repository.show().roles[0] == root


def test_a_new_group_takes_its_models_over(site: Site) -> None:
    target = site.publish(group="rack")
    site.repository.add_group(DeviceGroup(name="line-b", models=("rack",)), keys=site.keys)
    client = site.client()
    assert client.target(target.path) == target
    assert client.signers(target.path).role == "line-b"
    with pytest.raises(ConflictError):
        site.repository.add_group(DeviceGroup(name="line-b"), keys=site.keys)


@pytest.mark.parametrize("name", ["default", "root", "a/b", "", "-", "../x", "snapshot"])
def test_a_group_needs_a_plain_name(name: str) -> None:
    with pytest.raises(InvalidError):
        DeviceGroup(name=name)


@pytest.mark.parametrize(("keys", "threshold"), [(1, 2), (0, 0), (3, 0), (17, 2)])
def test_a_threshold_must_be_reachable(keys: int, threshold: int) -> None:
    with pytest.raises(InvalidError, match="root keys cannot sign"):
        NewTrust(root_keys=keys, threshold=threshold)


def test_a_second_repository_does_not_replace_the_first(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ConflictError):
        create_repository(site.folder, keys=tmp_path / "more", clock=site.clock, read=site.read)
    assert not (tmp_path / "more").exists()


# ---- time


def test_the_hub_renews_its_own_roles_and_says_when_root_ends(site: Site) -> None:
    assert site.repository.renew() == ()
    for _ in range(110):
        site.clock.advance(3 * DAY_S)
        site.repository.renew()
    site.client()
    assert site.repository.show().warnings == ()
    site.clock.advance(10 * DAY_S)
    site.repository.renew()
    root, targets = site.repository.show().warnings
    assert root.startswith("root ends on 2027-01-01: lineside trust renew root")
    assert targets.startswith("targets ends on")
    site.repository.renew_offline("root", keys=site.keys)
    site.repository.renew_offline("targets", keys=site.keys)
    assert site.repository.show().warnings == ()
    site.clock.advance(100 * DAY_S)
    assert set(site.repository.renew()) == {"default", "line-a", "snapshot", "timestamp"}
    site.client()
    with pytest.raises(InvalidError, match="renewed by the hub"):
        site.repository.renew_offline("snapshot", keys=site.keys)


def test_a_hub_that_slept_too_long_renews_at_its_start(site: Site) -> None:
    site.clock.advance(20 * DAY_S)
    with pytest.raises(RefusedError, match="expired"):
        site.client()
    assert len(site.repository.show().warnings) == 2
    site.repository.renew()
    site.client()


def test_metadata_of_a_bundle_may_live_longer(site: Site) -> None:
    site.repository.extend(60)
    site.clock.advance(59 * DAY_S)
    site.client()
    with pytest.raises(InvalidError):
        site.repository.extend(1000)


# ---- the disk


@pytest.mark.parametrize("name", ["1.root.json", "1.targets.json", "2.line-a.json"])
def test_nothing_is_signed_on_top_of_what_was_changed_at_rest(name: str, site: Site) -> None:
    """Otherwise the hub itself would vouch for an archive that somebody wrote into its files."""
    site.publish()
    path = site.folder / "metadata" / name
    document = json.loads(path.read_bytes())
    document["signed"]["targets"] = {}
    path.write_text(json.dumps(document))
    stamp = site.repository.metadata("timestamp.json")
    with pytest.raises(RefusedError, match="changed at rest"):
        site.publish(OTHER, version="2")
    assert site.repository.metadata("timestamp.json") == stamp


def test_old_metadata_go_after_a_while(site: Site) -> None:
    for number in range(40):
        site.publish(b"archive %d" % number, version=str(number))
    names = [path.name for path in (site.folder / "metadata").iterdir()]
    assert sum(name.endswith("snapshot.json") for name in names) <= 17
    assert sum(name.endswith("line-a.json") for name in names) <= 17
    assert len(site.client().targets()) == 40


def test_several_threads_publish_at_once(site: Site) -> None:
    def work(first: int) -> None:
        repository = UpdateRepository(site.folder, clock=site.clock, read=site.read)
        for number in range(first, first + 5):
            data = b"archive %d" % number
            site.blobs[digest_of(data)] = data
            repository.publish(release_of(data, version=str(number)), data)

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(site.client().targets()) == 20


def test_a_commit_that_was_cut_is_finished_by_the_next(site: Site) -> None:
    """The rename made it valid; the moves were not all done."""
    metadata, commit = site.folder / "metadata", site.folder / "commit"
    before = set(metadata.iterdir())
    target = site.publish()
    new = sorted(set(metadata.iterdir()) - before)
    commit.mkdir()
    for path in [*new[1:], metadata / "timestamp.json"]:
        path.replace(commit / path.name)
    assert site.repository.exists()
    assert site.repository.renew() == ()
    assert site.client().target(target.path) == target
    assert not commit.exists()


def test_what_was_only_staged_never_was(site: Site) -> None:
    (site.folder / "staging").mkdir()
    (site.folder / "staging" / "timestamp.json").write_bytes(b"half")
    target = site.publish()
    assert site.client().target(target.path) == target


PROGRAM = """
import sys
from pathlib import Path
from lineside.core import SystemClock
from lineside.fleet import UpdateRepository
from lineside.testing.trust import release_of
repository = UpdateRepository(Path(sys.argv[1]), clock=SystemClock(), read=lambda digest: b"")
keys = Path(sys.argv[2])
for number in range(int(sys.argv[3]), 100000):
    data = b"archive %d" % number
    repository.publish(release_of(data, version=str(number)), data)
    if number % 3 == 2:
        repository.rotate(("snapshot", "timestamp", "root", "default")[number // 3 % 4], keys=keys)
    print(number, flush=True)
"""


@pytest.fixture
def killed() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.slow
def test_kill_at_any_moment_leaves_a_valid_repository(
    tmp_path: Path, killed: list[subprocess.Popen[str]]
) -> None:
    """What was told as published is there, rotations included; a device follows all of it."""
    folder, keys, clock, told = tmp_path / "trust", tmp_path / "keys", SystemClock(), -1
    repository = create_repository(folder, keys=keys, clock=clock, read=lambda _: b"")
    pin_root(tmp_path / "device", repository.first_root())
    chance = random.Random(7)  # noqa: S311  when to kill
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder), str(keys), str(told + 1)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        killed.append(process)
        assert process.stdout is not None
        for line, _ in zip(process.stdout, range(chance.randint(1, 4)), strict=False):
            told = int(line)
        threading.Event().wait(chance.random() * 0.03)
        os.kill(process.pid, signal.SIGKILL)
        for line in process.stdout:
            told = int(line)
        process.wait()
        repository.renew()
        client = UpdateClient(tmp_path / "device", source=FolderSource(folder), clock=clock)
        client.refresh()
        versions = {int(str(target.custom["version"])) for target in client.targets().values()}
        assert set(range(told + 1)) <= versions
        told = max(versions)
    assert told > 6


def test_lifetimes_are_the_documented_ones() -> None:
    lifetimes = Lifetimes()
    days = [lifetimes.of(role).days for role in ("root", "targets", "x", "snapshot", "timestamp")]
    assert days == [365, 365, 90, 14, 7]
