"""The device's own disk and clock: damage, power cuts, no time, no hub."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from lineside.core import ConflictError, LinesideError, RefusedError, UnavailableError
from lineside.fleet import pin_root
from lineside.testing import FakeClock
from lineside.testing.trust import TrustSimulator
from tests.fleet.trust.conftest import ARCHIVE, DAY_S, Device, refused


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


def test_a_kept_root_that_was_damaged_is_fetched_anew(site: TrustSimulator, device: Device) -> None:
    site.rotate("root")
    site.publish()
    device.refreshed()
    good = device.kept()
    (device.folder / "metadata" / "2.root.json").write_bytes(b"{}")
    device.refreshed()
    assert device.kept() == good


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json"])
def test_a_repository_that_lacks_a_file_is_asked_again_later(
    name: str, site: TrustSimulator, device: Device
) -> None:
    del site.served[f"metadata/{name}"]
    with pytest.raises(UnavailableError, match="does not have it"):
        device.client().refresh()


def test_a_delegated_role_outside_the_snapshot_is_refused(
    site: TrustSimulator, device: Device
) -> None:
    del site.snapshot.meta["line-a.json"]
    site.publish_snapshot()
    with pytest.raises(RefusedError, match="no part of the snapshot"):
        device.client().target("packages/line-a/1/x.lspkg")


def test_one_changed_digit_of_the_year_does_not_stop_a_device(
    site: TrustSimulator, device: Device
) -> None:
    device.refreshed()
    seen = device.folder / "seen.json"
    seen.write_bytes(seen.read_bytes().replace(b'"at":"202', b'"at":"203'))
    device.refreshed()
    assert site.clock.now().year == 2026
    assert b'"at":"2026' in seen.read_bytes()
