"""Attacks on the bytes of an archive: changed, longer, cut off, slow."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lineside.core import LinesideError, RefusedError, UnavailableError
from lineside.fleet import Part, Target, UpdateClient
from lineside.fleet.trust import download
from lineside.fleet.trust.download import UpdateLimits
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


# ---- going on, and what is there already


def test_a_file_that_is_there_is_not_fetched_again_unless_it_was_changed(
    site: TrustSimulator, device: Device, tmp_path: Path
) -> None:
    client, target = _target(site, device)
    file = client.fetch(target, into=tmp_path, progress=silent)
    asked = len(site.asked)
    assert client.fetch(target, into=tmp_path, progress=silent) == file
    assert len(site.asked) == asked
    file.write_bytes(bytes(len(ARCHIVE)))
    assert client.fetch(target, into=tmp_path, progress=silent).read_bytes() == ARCHIVE
    assert len(site.asked) == asked + 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_fetch_goes_on_with_ranges_or_without(
    ranges: bool,  # noqa: FBT001  a parameter of the table
    site: TrustSimulator,
    device: Device,
    tmp_path: Path,
) -> None:
    client, target = _target(site, device)
    site.break_after = 4000
    with pytest.raises(UnavailableError, match="broken off after 4000"):
        client.fetch(target, into=tmp_path, progress=silent)
    site.break_after, site.ranges = None, ranges
    seen: list[int] = []
    file = client.fetch(target, into=tmp_path, progress=lambda there, _: seen.append(there))
    assert file.read_bytes() == ARCHIVE
    assert seen[0] == (5000 if ranges else 1000)
    assert [path.name for path in tmp_path.glob("*.part")] == []


@pytest.mark.parametrize("kept", [ARCHIVE + b"more", ARCHIVE])
def test_a_part_that_holds_too_much_or_all_of_it(
    kept: bytes, site: TrustSimulator, device: Device, tmp_path: Path
) -> None:
    client, target = _target(site, device)
    (tmp_path / f"{target.sha256}.part").write_bytes(kept)
    assert client.fetch(target, into=tmp_path, progress=silent).read_bytes() == ARCHIVE


def test_wrong_bytes_kept_from_before_do_not_stay(
    site: TrustSimulator, device: Device, tmp_path: Path
) -> None:
    client, target = _target(site, device)
    (tmp_path / f"{target.sha256}.part").write_bytes(b"x" * 100)
    with pytest.raises(RefusedError, match="not the bytes that were signed"):
        client.fetch(target, into=tmp_path, progress=silent)
    assert client.fetch(target, into=tmp_path, progress=silent).read_bytes() == ARCHIVE


def test_a_signed_file_that_is_not_there_is_asked_for_again_later(
    site: TrustSimulator, device: Device, tmp_path: Path
) -> None:
    client, target = _target(site, device)
    del site.served[_place(site)]
    with pytest.raises(UnavailableError, match="signed, but the repository does not have it"):
        client.fetch(target, into=tmp_path, progress=silent)


class Elsewhere:
    """A source that begins where it was not asked to."""

    def __init__(self, site: TrustSimulator) -> None:
        self._site = site

    @contextmanager
    def open(
        self, path: str, *, start_byte: int = 0, end_byte: int | None = None
    ) -> Iterator[Part]:
        with self._site.open(path, start_byte=start_byte, end_byte=end_byte) as part:
            lie = part.start_byte + 7 if path.startswith("targets/") else part.start_byte
            yield Part(start_byte=lie, chunks=part.chunks)


def test_a_source_that_begins_elsewhere_is_refused(
    site: TrustSimulator, device: Device, tmp_path: Path
) -> None:
    _, target = _target(site, device)
    device.source = Elsewhere(site)
    with pytest.raises(RefusedError, match="asked for byte 0, got byte 7"):
        device.client().fetch(target, into=tmp_path, progress=silent)


def test_a_folder_that_cannot_be_written_and_a_full_disk_are_sentences(
    site: TrustSimulator, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, target = _target(site, device)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnavailableError, match="cannot be written"):
        client.fetch(target, into=tmp_path / "file", progress=silent)
    monkeypatch.setattr(download, "_free", lambda _: 100)
    with pytest.raises(UnavailableError, match="10240 bytes are needed, 100 are free"):
        client.fetch(target, into=tmp_path, progress=silent)
