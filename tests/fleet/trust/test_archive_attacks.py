"""Attacks on the bytes of an archive: changed, longer, cut off, slow."""

from pathlib import Path

import pytest

from lineside.core import LinesideError, RefusedError, UnavailableError
from lineside.fleet import Target, UpdateClient, UpdateLimits
from lineside.testing.trust import TrustSimulator
from tests.fleet.trust.conftest import ARCHIVE, Device, silent


def _target(site: TrustSimulator, device: Device) -> tuple[UpdateClient, Target]:
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
