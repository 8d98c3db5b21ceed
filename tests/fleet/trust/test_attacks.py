"""The attacks that the TUF specification lists (1.5.2) on metadata, against real signatures."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import MetaFile

from lineside.core import RefusedError, UnavailableError
from lineside.fleet.trust.download import UpdateLimits
from lineside.testing import FakeClock
from lineside.testing.trust import TrustSimulator
from tests.fleet.trust.conftest import ARCHIVE, DAY_S, Device, refused, silent

STAMP = "metadata/timestamp.json"


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
