"""What a device fetches of a package that it has an earlier version of."""

import io
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import RefusedError, UnavailableError
from lineside.fleet import Part, Target, UpdateClient
from lineside.fleet.trust.download import (
    END_BYTES,
    LEAST_KEPT_BYTES,
    MOST_PIECES,
    Entry,
    Piece,
    pieces_of,
    read_directory,
)
from lineside.testing.trust import TrustSimulator
from tests.fleet.trust.conftest import Device, silent


def zipped(files: Mapping[str, bytes]) -> bytes:
    """As ``models.archive`` writes them."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), files[name])
    return out.getvalue()


def noise(seed: int, size: int) -> bytes:
    return b"".join(struct.pack("<2L", seed, number) for number in range(size // 8))


OLD_FILES = {
    "a.png": noise(1, 60_000), "engine.onnx": noise(2, 200_000), "golden.png": noise(3, 90_000),
    "reports/x.json": noise(4, 80_000), "z.png": noise(5, 100_000),
}  # fmt: skip
OLD = zipped(OLD_FILES)
NEW = zipped({**OLD_FILES, "engine.onnx": noise(9, 210_000), "manifest.json": b"{}"})


def directory(archive: bytes) -> tuple[Entry, ...]:
    found = read_directory(archive[-END_BYTES:], size=len(archive))
    assert found is not None
    return found


# ---- the plan

FILES = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3),
    st.tuples(st.integers(0, 3), st.integers(0, 6)),
    max_size=6,
)


def files_of(drawn: Mapping[str, tuple[int, int]]) -> dict[str, bytes]:
    return {name: noise(seed, size * 8000) for name, (seed, size) in drawn.items()}


@given(old=FILES, new=FILES)
def test_kept_and_fetched_bytes_together_are_the_new_archive(
    old: Mapping[str, tuple[int, int]], new: Mapping[str, tuple[int, int]]
) -> None:
    before, after = zipped(files_of(old)), zipped(files_of(new))
    end = max(0, len(after) - END_BYTES)
    first, second = (read_directory(one, size=len(one)) for one in (before, after))
    pieces = pieces_of(second or (), first or (), end=end)
    made = b"".join(
        after[one.start : one.stop]
        if one.earlier_start is None
        else before[one.earlier_start : one.earlier_start + one.stop - one.start]
        for one in pieces
    )
    assert made == (after[:end] if pieces else b"")
    kept = [one for one in pieces if one.earlier_start is not None]
    assert all(one.stop - one.start >= LEAST_KEPT_BYTES for one in kept)


@given(data=st.binary(max_size=200) | st.binary(max_size=100).map(lambda one: one + OLD[-300:]))
def test_any_bytes_are_a_directory_or_none(data: bytes) -> None:
    for size in (len(data), len(data) + 1000, 0):
        found = read_directory(data, size=size)
        assert found is None or all(0 <= one.start < size for one in found)


@given(place=st.integers(0, 400), value=st.integers(0, 255))
def test_a_changed_directory_is_none_or_covers_the_archive_without_overlap(
    place: int, value: int
) -> None:
    end = bytearray(OLD[-END_BYTES:])
    end[-1 - place] = value
    found = read_directory(bytes(end), size=len(OLD))
    if found:
        stops = [one.start + one.kind.length for one in found]
        assert found[0].start == 0
        assert [one.start for one in found[1:]] == stops[:-1]


def test_many_small_changes_are_no_delta() -> None:
    old = zipped({f"{n:03}": noise(n, 17_000) for n in range(2 * MOST_PIECES)})
    new = zipped({f"{n:03}": noise(n + n % 2, 17_000) for n in range(2 * MOST_PIECES)})
    assert pieces_of(directory(new), directory(old), end=len(new)) == ()


def test_small_files_that_stand_together_are_kept_together() -> None:
    files = {f"{n:03}": noise(n, 4_000) for n in range(50)}
    old, new = zipped(files), zipped({**files, "zz": noise(77, 80_000)})
    stop = directory(new)[50].start
    pieces = pieces_of(directory(new), directory(old), end=len(new))
    assert pieces[0] == Piece(start=0, stop=stop, earlier_start=0)


# ---- the fetch


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    path = tmp_path / "previous.lspkg"
    path.write_bytes(OLD)
    return path


def signed(site: TrustSimulator, device: Device, data: bytes = NEW) -> tuple[UpdateClient, Target]:
    path = site.add(data, group="line-a", version="2")
    site.publish()
    client = device.refreshed()
    target = client.target(path)
    site.sent_bytes = 0
    return client, target


def fetched(client: UpdateClient, target: Target, previous: Path) -> bytes:
    into = previous.parent / "in"
    return client.fetch(target, into=into, progress=silent, previous=previous).read_bytes()


def test_only_what_changed_is_fetched(site: TrustSimulator, device: Device, previous: Path) -> None:
    client, target = signed(site, device)
    assert fetched(client, target, previous) == NEW
    assert site.sent_bytes < 210_000 + END_BYTES + 1000


def test_the_same_archive_again_costs_its_end(
    site: TrustSimulator, device: Device, previous: Path
) -> None:
    client, target = signed(site, device, OLD)
    assert fetched(client, target, previous) == OLD
    assert site.sent_bytes == END_BYTES


@pytest.mark.parametrize("kind", ["absent", "empty", "no archive", "other", "directory"])
def test_an_earlier_archive_that_is_none_costs_nothing_but_bytes(
    kind: str, site: TrustSimulator, device: Device, previous: Path
) -> None:
    client, target = signed(site, device)
    previous.unlink()
    if kind == "directory":
        previous.mkdir()
    elif kind != "absent":
        data = {"empty": b"", "no archive": b"x" * 99_999, "other": zipped({"q": noise(8, 90_000)})}
        previous.write_bytes(data[kind])
    assert fetched(client, target, previous) == NEW


def test_a_source_without_ranges_sends_all_of_it(
    site: TrustSimulator, device: Device, previous: Path
) -> None:
    client, target = signed(site, device)
    site.ranges = False
    assert fetched(client, target, previous) == NEW


def test_a_fetch_that_broke_off_is_gone_on_with_either_way(
    site: TrustSimulator, device: Device, previous: Path
) -> None:
    client, target = signed(site, device)
    site.break_after = 100_000
    for _ in range(2):
        with pytest.raises(UnavailableError, match="broken off"):
            fetched(client, target, previous)
    there = next((previous.parent / "in").glob("*.part")).stat().st_size
    assert there > 200_000, "two tries in the engine, and the picture before it"
    site.break_after = None
    site.asked.clear()
    previous.unlink()
    assert fetched(client, target, previous) == NEW
    assert site.asked[-1][1] == there


def test_an_earlier_archive_changed_on_the_disk_is_found_out(
    site: TrustSimulator, device: Device, previous: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client, target = signed(site, device)
    changed = bytearray(OLD)
    changed[1000] ^= 1
    previous.write_bytes(changed)
    assert fetched(client, target, previous) == NEW
    assert "delta did not hold" in caplog.text


def test_an_earlier_archive_cut_short_while_it_is_read_is_found_out(
    site: TrustSimulator, device: Device, previous: Path
) -> None:
    client, target = signed(site, device)
    whole = previous.parent / "in"

    def cut(there: int, _: int) -> None:
        if 0 < there < 200_000:
            previous.write_bytes(b"short")

    try:
        data = client.fetch(target, into=whole, progress=cut, previous=previous).read_bytes()
    except UnavailableError:
        data = fetched(client, target, previous)
    assert data == NEW


class Liar:
    """Answers ranges of archives with something else."""

    def __init__(self, site: TrustSimulator, *, how: str) -> None:
        self._site = site
        self._how = how

    @contextmanager
    def open(
        self, path: str, *, start_byte: int = 0, end_byte: int | None = None
    ) -> Iterator[Part]:
        with self._site.open(path, start_byte=start_byte, end_byte=end_byte) as part:
            asked = end_byte is not None and path.startswith("targets/")
            is_end = asked and end_byte == len(NEW)
            if asked and self._how == "other directory" and is_end:
                yield Part(start_byte=start_byte, chunks=iter([OLD[-END_BYTES:]]))
            elif asked and self._how == "other bytes" and not is_end:
                lie = b"\0" * ((end_byte or 0) - start_byte)
                yield Part(start_byte=start_byte, chunks=iter([lie]))
            elif asked and self._how == "elsewhere" and not is_end:
                yield Part(start_byte=0, chunks=part.chunks)
            elif asked and self._how == "nothing" and not is_end:
                yield Part(start_byte=start_byte, chunks=iter(()))
            elif asked and self._how == "short end" and is_end:
                yield Part(start_byte=start_byte, chunks=iter([b"short"]))
            elif asked and self._how == "endless":
                yield Part(start_byte=start_byte, chunks=_endless(part.chunks))
            else:
                yield part


def _endless(chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield from chunks
    while True:
        yield b"x" * 100_000


@pytest.mark.parametrize(
    "how", ["other directory", "other bytes", "elsewhere", "nothing", "short end", "endless"]
)
def test_whoever_lies_about_parts_is_asked_for_the_whole(
    how: str, site: TrustSimulator, device: Device, previous: Path
) -> None:
    _, target = signed(site, device)
    device.source = Liar(site, how=how)
    assert fetched(device.client(), target, previous) == NEW


def test_a_tampered_archive_is_refused_in_parts_as_in_one(
    site: TrustSimulator, device: Device, previous: Path
) -> None:
    client, target = signed(site, device)
    place = next(path for path in site.served if path.startswith("targets/"))
    wrong = bytearray(NEW)
    wrong[100_000] ^= 1
    site.served[place] = bytes(wrong)
    with pytest.raises(RefusedError, match="not the bytes that were signed"):
        fetched(client, target, previous)
    assert not list((previous.parent / "in").iterdir())
