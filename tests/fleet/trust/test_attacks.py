"""The attacks that the TUF specification lists (1.5.2), tried on a device with real signatures."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile

from lineside.core import ConflictError, LinesideError, RefusedError, UnavailableError
from lineside.fleet import UpdateLimits, pin_root
from lineside.testing import FakeClock
from lineside.testing.trust import TrustSimulator
from tests.fleet.trust.conftest import ARCHIVE, Device, silent

DAY_S = 86_400.0
STAMP = "metadata/timestamp.json"


def refused(device: Device, match: str) -> None:
    """The device refuses, says so, and what it believed it still does.

    A timestamp that holds is kept though what it names does not (TUF 5.4.5): it guards.
    """
    before = device.kept()
    with pytest.raises(RefusedError, match=match) as told:
        device.client().refresh()
    assert told.value.fix
    after = device.kept()
    guards = ("timestamp.json", "snapshot.json")
    assert all(after[name] == data for name, data in before.items() if name not in guards)
    if before:
        device.client().recall()


def test_what_is_signed_is_found_and_fetched(
    site: TrustSimulator, device: Device, tmp_path: Path
) -> None:
    path = site.add(ARCHIVE, group="line-a", version="1")
    site.publish()
    client = device.refreshed()
    target = client.target(path)
    assert target.custom["version"] == "1"
    file = client.fetch(target, into=tmp_path / "in", progress=silent)
    assert file.read_bytes() == ARCHIVE
    signers = client.signers(path)
    assert (signers.role, signers.threshold) == ("line-a", 1)
    assert signers.keys == (site.signers["line-a"][0].public_key.keyid,)


# ---- arbitrary software


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "line-a"])
def test_metadata_by_a_stranger_are_refused(
    role: str, site: TrustSimulator, device: Device
) -> None:
    path = site.add(ARCHIVE, group="line-a", version="1")
    site.signers[role] = [CryptoSigner.generate_ed25519() for _ in site.signers[role]]
    if role == "root":
        site.root.version += 1
        site.publish_root()
    site.publish()
    client = device.client()
    with pytest.raises(RefusedError, match="not signed as it must be"):
        client.target(path)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_signatures_of_another_role_are_refused(
    role: str, site: TrustSimulator, device: Device
) -> None:
    site.signers[role] = site.signers["line-a"]
    site.publish()
    refused(device, f"{role} was signed by 0/1 keys")


def test_a_changed_word_in_a_signed_file_is_refused(site: TrustSimulator, device: Device) -> None:
    document = json.loads(site.served[STAMP])
    document["signed"]["version"] += 1
    site.served[STAMP] = json.dumps(document).encode()
    refused(device, "signed by 0/1 keys")


@pytest.mark.parametrize("change", [b"", b"{", b"[]", b"null", b"[" * 10_000, b'{"signed": {}}'])
def test_what_is_no_metadata_is_refused(
    change: bytes, site: TrustSimulator, device: Device
) -> None:
    site.served[STAMP] = change
    refused(device, "no metadata that can be believed")


def test_one_role_does_not_stand_for_another(site: TrustSimulator, device: Device) -> None:
    """Signed by the timestamp's own key, but no timestamp."""
    site.signers["snapshot"] += site.signers["timestamp"]
    site.publish_snapshot()
    site.served[STAMP] = site.served[f"metadata/{site.snapshot.version}.snapshot.json"]
    refused(device, "Expected 'timestamp', got 'snapshot'")


@pytest.mark.parametrize("signed_by", [0, 1])
def test_a_root_below_its_threshold_is_refused(
    signed_by: int, site: TrustSimulator, device: Device
) -> None:
    site.root.version += 1
    site.signers["root"] = site.signers["root"][:signed_by]
    site.publish_root()
    refused(device, f"root was signed by {signed_by}/2 keys")


def test_one_key_signing_twice_is_one_signature(site: TrustSimulator, device: Device) -> None:
    site.root.version += 1
    site.signers["root"] = site.signers["root"][:1]
    site.publish_root()
    raw = json.loads(site.served["metadata/2.root.json"])
    raw["signatures"] *= 2
    site.served["metadata/2.root.json"] = json.dumps(raw).encode()
    refused(device, "no metadata that can be believed")


def test_a_new_root_must_be_signed_by_the_keys_before_it(
    site: TrustSimulator, device: Device
) -> None:
    """TUF 5.3.4."""
    old = site.rotate("root")
    device.refreshed()
    site.root.version += 1
    site.signers["root"], mine = [CryptoSigner.generate_ed25519() for _ in old], old
    for before, new in zip(list(site.root.roles["root"].keyids), site.signers["root"], strict=True):
        site.root.add_key(new.public_key, "root")
        site.root.revoke_key(before, "root")
    site.publish_root(*mine)
    refused(device, "root was signed by 0/2 keys")


def test_roots_are_taken_one_by_one(site: TrustSimulator, device: Device) -> None:
    """TUF 5.3.5: a number left out is no next root."""
    site.root.version = 3
    site.publish_root()
    site.served["metadata/2.root.json"] = site.served["metadata/3.root.json"]
    refused(device, "Expected root version 2 instead got version 3")


def test_roots_without_end_are_not_followed(site: TrustSimulator, device: Device) -> None:
    for _ in range(5):
        site.root.version += 1
        site.publish_root()
    with pytest.raises(RefusedError, match="more than 4 new roots"):
        device.client(UpdateLimits(roots=4)).refresh()


# ---- rollback


def test_an_older_timestamp_is_refused(site: TrustSimulator, device: Device) -> None:
    old = site.served[STAMP]
    site.publish()
    device.refreshed()
    site.served[STAMP] = old
    refused(device, "New timestamp version 1 must be >= 2")


def test_a_timestamp_with_an_older_snapshot_is_refused(
    site: TrustSimulator, device: Device
) -> None:
    site.publish()
    device.refreshed()
    site.timestamp.snapshot_meta = MetaFile(1)
    site.publish_timestamp()
    refused(device, "New snapshot version must be >= 2")


@pytest.mark.parametrize("role", ["targets", "line-a"])
def test_a_snapshot_with_an_older_role_is_refused(
    role: str, site: TrustSimulator, device: Device
) -> None:
    site.publish()
    device.refreshed()
    site.snapshot.meta[f"{role}.json"] = MetaFile(1)
    site.publish_snapshot()
    refused(device, f"Expected {role}.json version")


def test_a_snapshot_that_drops_a_role_is_refused(site: TrustSimulator, device: Device) -> None:
    device.refreshed()
    del site.snapshot.meta["line-a.json"]
    site.publish_snapshot()
    refused(device, "missing info for 'line-a.json'")


def test_rollback_is_noticed_after_a_restart_too(site: TrustSimulator, device: Device) -> None:
    served = dict(site.served)
    site.publish()
    device.refreshed()
    site.served = served
    refused(device, "not the version it must be")


# ---- indefinite freeze, expiry of each role


def test_a_frozen_repository_is_refused_once_it_expires(device: Device, clock: FakeClock) -> None:
    device.refreshed()
    clock.advance(29 * DAY_S)
    device.refreshed()
    clock.advance(2 * DAY_S)
    refused(device, r"timestamp.json is expired|root.json is expired")


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "line-a"])
def test_each_expired_role_is_refused(
    role: str, site: TrustSimulator, device: Device, clock: FakeClock
) -> None:
    path = site.add(ARCHIVE, group="line-a", version="1")
    site.live[role] = timedelta(days=1)
    site.root.version += 1
    site.publish_root()
    site.publish()
    clock.advance(2 * DAY_S)
    with pytest.raises(RefusedError, match="expired; the clock says 2026-01-03") as told:
        device.client().target(path)
    assert "lineside trust renew" in told.value.fix


def test_an_expired_root_leads_to_the_next(
    site: TrustSimulator, device: Device, clock: FakeClock
) -> None:
    """TUF 5.3.10 asks for the last root only."""
    clock.advance(40 * DAY_S)
    site.root.version += 1
    site.publish_root()
    site.publish()
    device.refreshed()


def test_the_time_of_one_refresh_stands_still(
    site: TrustSimulator, device: Device, clock: FakeClock
) -> None:
    """TUF 5.1: what expires while it is fetched was valid when the refresh began."""
    path = site.add(ARCHIVE, group="line-a", version="1")
    site.publish()
    clock.advance(30 * DAY_S - 2)
    site.chunk_s = 1.0
    limits = UpdateLimits(metadata_s=1e6)
    assert device.client(limits).target(path).path == path


# ---- fast-forward


@pytest.mark.parametrize("rotated", ["snapshot", "timestamp"])
def test_versions_set_high_by_a_stolen_key_are_recovered_from(
    rotated: str, site: TrustSimulator, device: Device
) -> None:
    """TUF 5.3.11: one of the two keys rotated is enough."""
    path = site.add(ARCHIVE, group="line-a", version="1")
    site.publish()
    device.refreshed()
    site.timestamp.version = site.snapshot.version = 2**31
    site.roles["line-a"].version = 2**31 - 1
    site.publish()
    device.refreshed()
    site.rotate(rotated)
    site.timestamp.version = site.snapshot.version = 3
    site.roles["line-a"].version = 3
    site.publish()
    assert device.refreshed().target(path).path == path


def test_without_rotation_high_versions_stay(site: TrustSimulator, device: Device) -> None:
    site.timestamp.version = 2**31
    site.publish()
    device.refreshed()
    site.timestamp.version = 3
    site.publish()
    refused(device, "must be >= 2147483649")


# ---- mix and match


@pytest.mark.parametrize("role", ["snapshot", "targets", "line-a"])
def test_metadata_of_different_times_do_not_mix(
    role: str, site: TrustSimulator, device: Device
) -> None:
    path = site.add(ARCHIVE, group="line-a", version="1")
    site.publish()
    version = site.snapshot.version
    old = site.served[f"metadata/{version}.{role}.json"]
    site.publish()
    site.served[f"metadata/{version + 1}.{role}.json"] = old
    with pytest.raises(RefusedError, match="not the bytes that are signed"):
        device.client().target(path)


def test_a_snapshot_without_digests_still_pins_versions(
    site: TrustSimulator, device: Device
) -> None:
    old = site.served["metadata/1.targets.json"]
    site.publish()
    site.snapshot.meta["targets.json"] = MetaFile(2)
    site.publish_snapshot()
    site.served["metadata/2.targets.json"] = old
    refused(device, "Expected targets v2, got v1")


# ---- endless data, slow retrieval


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("timestamp.json", UpdateLimits(timestamp_bytes=20_000)),
        ("2.root.json", UpdateLimits(root_bytes=20_000)),
        ("1.snapshot.json", UpdateLimits()),
        ("1.targets.json", UpdateLimits()),
    ],
)
def test_endless_metadata_end_at_the_limit(
    name: str, limits: UpdateLimits, site: TrustSimulator, device: Device
) -> None:
    site.served[f"metadata/{name}"] = b" " * 50_000_000
    with pytest.raises(RefusedError, match=r"more than the \d+ bytes"):
        device.client(limits).refresh()
    assert f"metadata/{name}" in {path for path, _ in site.asked}


def test_metadata_that_trickle_are_left(site: TrustSimulator, device: Device) -> None:
    site.chunk_bytes, site.chunk_s = 10, 5.0
    with pytest.raises(UnavailableError, match="too slowly"):
        device.client().refresh()


def test_an_archive_that_trickles_is_left_and_gone_on_with(
    site: TrustSimulator, device: Device, tmp_path: Path
) -> None:
    client, target = _target(site, device)
    site.chunk_bytes, site.chunk_s = 100, 10.0
    with pytest.raises(UnavailableError, match="too slowly"):
        client.fetch(target, into=tmp_path, progress=silent)
    site.chunk_s = 0.0
    assert client.fetch(target, into=tmp_path, progress=silent).read_bytes() == ARCHIVE
    assert site.asked[-1][1] == 300


# ---- the archive itself


def _target(site: TrustSimulator, device: Device):  # type: ignore[no-untyped-def]  # noqa: ANN202  client and target
    path = site.add(ARCHIVE, group="line-a", version="1")
    site.publish()
    client = device.refreshed()
    return client, client.target(path)


def _place(site: TrustSimulator) -> str:
    return next(path for path in site.served if path.startswith("targets/"))


@pytest.mark.parametrize("at", [0, 5_000, len(ARCHIVE) - 1])
def test_a_tampered_archive_is_thrown_away(
    at: int, site: TrustSimulator, device: Device, tmp_path: Path
) -> None:
    client, target = _target(site, device)
    wrong = bytearray(ARCHIVE)
    wrong[at] ^= 1
    site.served[_place(site)] = bytes(wrong)
    with pytest.raises(RefusedError, match="not the bytes that were signed"):
        client.fetch(target, into=tmp_path / "in", progress=silent)
    assert not list((tmp_path / "in").iterdir())


def test_a_longer_archive_ends_at_its_signed_length(
    site: TrustSimulator, device: Device, tmp_path: Path
) -> None:
    client, target = _target(site, device)
    site.served[_place(site)] = ARCHIVE + b"x" * 100_000_000
    with pytest.raises(RefusedError, match=f"more than the {len(ARCHIVE)} bytes"):
        client.fetch(target, into=tmp_path / "in", progress=silent)
    assert not list((tmp_path / "in").iterdir())


def test_a_truncated_archive_is_asked_for_again_then_refused(
    site: TrustSimulator, device: Device, tmp_path: Path
) -> None:
    client, target = _target(site, device)
    site.served[_place(site)] = ARCHIVE[:5000]
    with pytest.raises(UnavailableError, match="broken off after 5000 of 10240"):
        client.fetch(target, into=tmp_path / "in", progress=silent)
    with pytest.raises(RefusedError, match="ends after 5000 of 10240"):
        client.fetch(target, into=tmp_path / "in", progress=silent)
    assert not list((tmp_path / "in").iterdir())


def test_a_package_larger_than_a_device_takes_is_not_asked_for(
    site: TrustSimulator, device: Device, tmp_path: Path
) -> None:
    path = site.add(ARCHIVE, group="line-a", version="1")
    site.publish()
    client = device.client(UpdateLimits(target_bytes=10_000))
    with pytest.raises(RefusedError, match="at most 10000 are taken"):
        client.fetch(client.target(path), into=tmp_path, progress=silent)
    assert not [asked for asked, _ in site.asked if asked.startswith("targets/")]


def test_an_unsigned_path_is_refused(device: Device) -> None:
    with pytest.raises(RefusedError, match="nothing is signed"):
        device.refreshed().target("packages/line-a/9/0000.lspkg")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "packages//x", "a/../b", "", "x" * 300])
def test_a_path_that_leads_elsewhere_is_refused(path: str, device: Device) -> None:
    with pytest.raises(LinesideError, match="no target's path"):
        device.client().target(path)


# ---- delegation


@pytest.mark.parametrize("other", ["line-b", "default"])
def test_another_groups_role_cannot_sign_for_this_group(
    other: str, site: TrustSimulator, device: Device
) -> None:
    path = site.add(ARCHIVE, group="line-a", version="1", role=other)
    site.publish()
    with pytest.raises(RefusedError, match="nothing is signed"):
        device.refreshed().target(path)
    assert path not in device.refreshed().targets()


def test_two_roles_that_disagree_the_groups_own_speaks(
    site: TrustSimulator, device: Device
) -> None:
    path = site.add(ARCHIVE, group="line-a", version="1")
    site.roles["default"].targets[path] = site.roles["line-a"].targets[path]
    site.roles["default"].targets[path].length += 0
    site.publish()
    assert device.refreshed().signers(path).role == "line-a"


def test_words_that_contradict_the_path_are_refused(site: TrustSimulator, device: Device) -> None:
    """An older archive signed under a newer version's path."""
    path = site.add(ARCHIVE, group="line-a", version="2")
    site.roles["line-a"].targets[path].unrecognized_fields["custom"]["version"] = "1"
    site.publish()
    with pytest.raises(RefusedError, match="signed as version '1'"):
        device.refreshed().target(path)


@pytest.mark.parametrize("custom", [None, [], "x", {"group": "line-a"}, {"rollback_from": 3}])
def test_words_of_another_kind_are_refused(
    custom: object, site: TrustSimulator, device: Device
) -> None:
    path = site.add(ARCHIVE, group="line-a", version="1")
    site.roles["line-a"].targets[path].unrecognized_fields["custom"] = custom
    site.publish()
    with pytest.raises(RefusedError, match="signed without"):
        device.refreshed().target(path)


@pytest.mark.parametrize("name", ["../../evil", "a/b", "x" * 200, ".."])
def test_a_role_whose_name_leads_elsewhere_writes_nothing(
    name: str, site: TrustSimulator, device: Device
) -> None:
    """The targets key is stolen; still no file is written where it says."""
    site.delegate(name, paths=["packages/*/*/*"])
    assert site.targets.delegations is not None
    assert site.targets.delegations.roles is not None
    roles = site.targets.delegations.roles
    site.targets.delegations.roles = {name: roles[name], **roles}
    site.publish()
    with pytest.raises(RefusedError, match="no name of a role"):
        device.refreshed().target("packages/line-a/1/0.lspkg")


def test_roles_without_end_are_not_asked(site: TrustSimulator, device: Device) -> None:
    """TUF 5.6.7.1: a search has an end."""
    for number in range(50):
        site.delegate(f"more-{number}", paths=["packages/none/*/*"], terminating=False)
    site.publish()
    client = device.refreshed()
    site.asked.clear()
    with pytest.raises(RefusedError, match="nothing is signed"):
        client.target("packages/none/1/0.lspkg")
    assert len(site.asked) <= 32


# ---- key compromise and recovery


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "root"])
def test_after_a_rotation_the_old_key_signs_nothing(
    role: str, site: TrustSimulator, device: Device
) -> None:
    device.refreshed()
    stolen = site.rotate(role)
    site.publish()
    device.refreshed()
    new, site.signers[role] = site.signers[role], stolen
    if role == "root":
        site.root.version += 1
        site.publish_root()
    site.publish()
    refused(device, "not signed as it must be")
    site.signers[role] = new
    if role == "root":
        site.publish_root()
    site.publish()
    device.refreshed()


def test_a_device_that_was_away_follows_every_rotation(
    site: TrustSimulator, device: Device
) -> None:
    path = site.add(ARCHIVE, group="line-a", version="1")
    for role in ("root", "timestamp", "root", "snapshot", "targets", "root"):
        site.rotate(role)
    site.publish()
    assert device.refreshed().target(path).path == path
    assert "7.root.json" in device.kept()


def test_a_groups_stolen_key_is_rotated_by_targets(site: TrustSimulator, device: Device) -> None:
    path = site.add(ARCHIVE, group="line-a", version="1")
    site.publish()
    device.refreshed().target(path)
    stolen = site.signers["line-a"][0]
    site.signers["line-a"] = [CryptoSigner.generate_ed25519()]
    site.targets.add_key(site.signers["line-a"][0].public_key, "line-a")
    site.targets.revoke_key(stolen.public_key.keyid, "line-a")
    site.publish()
    assert device.refreshed().target(path).path == path
    site.signers["line-a"] = [stolen]
    site.publish()
    with pytest.raises(RefusedError, match="not signed as it must be"):
        device.client().target(path)


# ---- the device's own disk and clock


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json"])
@pytest.mark.parametrize("damage", [b"", b"{}", b"\x00" * 100], ids=["empty", "other", "zeros"])
def test_what_was_damaged_on_the_disk_is_fetched_anew(
    name: str, damage: bytes, device: Device
) -> None:
    device.refreshed()
    good = device.kept()
    (device.folder / "metadata" / name).write_bytes(damage)
    device.refreshed()
    assert device.kept() == good


def test_a_pinned_root_that_was_changed_is_refused(device: Device) -> None:
    raw = json.loads((device.folder / "pinned.json").read_bytes())
    raw["signed"]["roles"]["root"]["threshold"] = 1
    (device.folder / "pinned.json").write_text(json.dumps(raw))
    refused(device, "not signed as it must be")


def test_another_root_cannot_be_pinned(device: Device, clock: FakeClock) -> None:
    with pytest.raises(ConflictError, match="trusts another root"):
        pin_root(device.folder, TrustSimulator(clock).first_root)
    with pytest.raises(RefusedError, match="no metadata"):
        pin_root(device.folder, b"{}")


def test_without_a_root_nothing_is_trusted(
    tmp_path: Path, site: TrustSimulator, clock: FakeClock
) -> None:
    with pytest.raises(RefusedError, match="trusts no root yet"):
        Device(tmp_path / "new", source=site, clock=clock).client().refresh()


@pytest.mark.parametrize("year", [1970, 2000, 2024])
def test_a_device_without_time_says_so(year: int, site: TrustSimulator, device: Device) -> None:
    device.clock = FakeClock(datetime(year, 1, 1, tzinfo=UTC))
    with pytest.raises(UnavailableError, match=f"clock says {year}-01-01") as told:
        device.client().refresh()
    assert "NTP" in told.value.fix
    assert not site.asked


def test_a_clock_set_back_does_not_revive_what_expired(device: Device, clock: FakeClock) -> None:
    """Freeze by way of the clock: 20 days on, then back."""
    clock.advance(20 * DAY_S)
    device.refreshed()
    device.clock = FakeClock()
    with pytest.raises(UnavailableError, match="at least 2026-01-20"):
        device.client().refresh()


def test_a_clock_far_ahead_refuses_and_recovers(device: Device) -> None:
    right, device.clock = device.clock, FakeClock(datetime(2099, 1, 1, tzinfo=UTC))
    refused(device, "clock says 2099-01-01")
    device.clock = right
    device.refreshed()


# ---- power cuts: whatever was kept last, the next start goes on


def test_a_refresh_may_end_after_any_file(
    site: TrustSimulator, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = site.add(ARCHIVE, group="line-a", version="1")
    site.publish()
    device.refreshed()
    site.rotate("snapshot")
    site.publish()
    for allowed in range(8):
        client = device.client()
        keep, left = client.keep, [allowed]

        def cut(
            name: str, data: bytes, *, keep: Callable[[str, bytes], None] = keep,
            left: list[int] = left,
        ) -> None:  # fmt: skip
            left[0] -= 1
            if left[0] < 0:
                raise UnavailableError("the power is gone", where=name, fix="Wait.")
            keep(name, data)

        monkeypatch.setattr(client, "keep", cut)
        try:
            client.target(path)
        except UnavailableError:
            continue
    assert device.refreshed().target(path).path == path


def test_what_was_believed_is_recalled_without_the_hub(
    site: TrustSimulator, device: Device, clock: FakeClock
) -> None:
    path = site.add(ARCHIVE, group="line-a", version="1")
    site.publish()
    device.refreshed().target(path)
    site.away = True
    clock.advance(100 * DAY_S)
    client = device.client()
    with pytest.raises(UnavailableError):
        client.refresh()
    client.recall()
    assert client.target(path).custom["version"] == "1"
    assert client.signers(path).role == "line-a"
    assert list(client.targets()) == [path]
    name = next(name for name in device.kept() if name.endswith("line-a.json"))
    (device.folder / "metadata" / name).write_bytes(b"{}")
    client.recall()
    with pytest.raises(LinesideError):
        client.target(path)


def test_old_metadata_do_not_pile_up(site: TrustSimulator, device: Device) -> None:
    path = site.add(ARCHIVE, group="line-a", version="1")
    for _ in range(5):
        site.publish()
        device.refreshed().target(path)
    device.refreshed()
    names = [name for name in device.kept() if not name.endswith("root.json")]
    assert sorted(name.split(".")[-2] for name in names) == [
        "line-a", "snapshot", "snapshot", "targets", "timestamp"
    ]  # fmt: skip


def test_the_library_reads_what_the_device_kept(device: Device) -> None:
    device.refreshed()
    for name, data in device.kept().items():
        if name != "seen.json":
            assert Metadata.from_bytes(data).signed.version == 1
