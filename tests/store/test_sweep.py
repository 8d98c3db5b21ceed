"""Retention: frames age out, their pictures go, and nothing that is still named goes with them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Digest, NotFoundError, UnavailableError
from lineside.store import LEAVING, Blobs, FrameRow, Records, open_blobs, open_records, sweep
from lineside.store.memory import MemoryBlobs
from lineside.store.sweep import choose
from lineside.testing import FakeClock
from lineside.testing.store import NOON, frame_row

LATER = NOON + timedelta(days=1)


class Kept:
    """Records and blobs of one test, and a way to put frames into both."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.records: Records = open_records("memory://", clock=clock)
        self.blobs: Blobs = open_blobs("memory://", clock=clock)

    def add(self, second: float, *, picture: bytes = b"") -> FrameRow:
        content = picture or f"picture {second}".encode()
        row = frame_row(second, picture=content, size_bytes=len(content))
        row = replace(row, thumbnail=self.blobs.put(b"small " + content))
        self.blobs.put(content)
        self.records.frames.add([row])
        return row

    def has(self, digest: Digest) -> bool:
        try:
            self.blobs.get(digest)
        except NotFoundError:
            return False
        return True

    def notes(self) -> list[str]:
        return [note.id for note in self.records.documents.page(LEAVING)]


@pytest.fixture
def kept(clock: FakeClock) -> Iterator[Kept]:
    opened = Kept(clock)
    with opened.records:
        yield opened


def test_pictures_go_and_thumbnails_stay(kept: Kept) -> None:
    rows = [kept.add(second) for second in range(4)]
    kept.clock.advance(3600)
    limit = NOON + timedelta(seconds=2)
    assert sweep(kept.records, kept.blobs, older_than=limit)[0] == 2
    assert [kept.has(row.digest) for row in rows] == [False, False, True, True]
    assert all(kept.has(row.thumbnail) for row in rows)
    assert kept.notes() == []


def test_more_than_one_batch_goes_in_one_sweep(kept: Kept) -> None:
    for second in range(1200):
        kept.add(second)
    kept.clock.advance(3600)
    assert sweep(kept.records, kept.blobs, older_than=LATER)[0] == 1200
    assert len(list(kept.blobs.digests())) == 1200


def test_a_picture_put_a_moment_ago_waits_for_a_later_sweep(kept: Kept) -> None:
    row = kept.add(1)
    assert sweep(kept.records, kept.blobs, older_than=LATER)[0] == 1
    assert kept.has(row.digest)
    assert kept.notes() == [row.digest]
    kept.clock.advance(3600)
    assert sweep(kept.records, kept.blobs, older_than=LATER) == (0, 0)
    assert not kept.has(row.digest)


def test_pinned_frames_and_pictures_named_in_documents_stay(kept: Kept) -> None:
    pinned, named, gone = (kept.add(second) for second in range(3))
    kept.records.frames.pin([pinned.id], reason="dataset:rack/1")
    kept.records.documents.put("dataset-sample", "1", body={"digest": named.digest})
    kept.clock.advance(3600)
    sweep(kept.records, kept.blobs, older_than=LATER, excess_bytes=1000)
    assert [kept.has(row.digest) for row in (pinned, named, gone)] == [True, True, False]


class Failing(MemoryBlobs):
    """Blobs that go away when something is to be deleted."""

    away = True

    def discard(self, digest: Digest, *, idle_s: float) -> bool:
        if self.away:
            raise UnavailableError("the bucket is away")
        return super().discard(digest, idle_s=idle_s)


def test_what_was_cut_off_between_commit_and_deletion_is_done_later(
    kept: Kept, clock: FakeClock
) -> None:
    kept.blobs = blobs = Failing(clock=clock)
    row = kept.add(1)
    clock.advance(3600)
    with pytest.raises(UnavailableError):
        sweep(kept.records, blobs, older_than=LATER)
    assert kept.records.frames.get(row.id).aged_out_at is not None
    assert kept.has(row.digest)
    blobs.away = False
    sweep(kept.records, blobs, older_than=None)
    assert not kept.has(row.digest)
    assert kept.notes() == []


class Interrupted(MemoryBlobs):
    """Blobs that somebody uses just before each deletion."""

    def before(self) -> None:
        """What somebody does."""

    def discard(self, digest: Digest, *, idle_s: float) -> bool:
        self.before()
        return super().discard(digest, idle_s=idle_s)


def test_a_picture_that_a_new_frame_names_meanwhile_stays(kept: Kept, clock: FakeClock) -> None:
    kept.blobs = blobs = Interrupted(clock=clock)
    old = kept.add(1, picture=b"the same bytes")
    clock.advance(3600)
    added: list[FrameRow] = []

    def add_again() -> None:
        added.append(kept.add(2, picture=b"the same bytes"))

    blobs.before = add_again  # type: ignore[method-assign]  # the test's moment
    sweep(kept.records, blobs, older_than=NOON + timedelta(seconds=2))
    assert added[0].digest == old.digest
    assert kept.has(old.digest)
    blobs.before = Interrupted.before.__get__(blobs)  # type: ignore[method-assign]  # and over
    clock.advance(3600)
    sweep(kept.records, blobs, older_than=NOON + timedelta(seconds=2))
    assert kept.has(old.digest)
    sweep(kept.records, blobs, older_than=LATER)
    assert not kept.has(old.digest)
    assert kept.notes() == []


FRAMES = st.lists(
    st.tuples(
        st.integers(min_value=0, max_value=20),
        st.sampled_from([b"a", b"b", b"c", b"d", b"e"]),
        st.booleans(),
    ),
    max_size=12,
    unique_by=lambda frame: frame[:2],
)


@given(
    frames=FRAMES,
    age=st.one_of(st.none(), st.integers(min_value=0, max_value=21)),
    keep_bytes=st.integers(min_value=0, max_value=600),
)
def test_what_ages_out_is_the_least_that_keeps_both_limits(
    frames: list[tuple[int, bytes, bool]], age: int | None, *, keep_bytes: int
) -> None:
    rows = sorted(
        (
            replace(frame_row(second, picture=picture), pins=("x",) if pinned else ())
            for second, picture, pinned in frames
        ),
        key=lambda row: (row.captured_at, row.id),
    )
    limit = None if age is None else NOON + timedelta(seconds=age)

    def size(kept: list[FrameRow]) -> int:
        return 100 * len({row.digest for row in kept})

    decision = choose(
        [row for row in rows if not row.pins],
        sizes={row.digest: sum(other.digest == row.digest for other in rows) for row in rows},
        older_than=limit,
        excess_bytes=size(rows) - keep_bytes,
    )
    left = [row for row in rows if row not in decision.aged]
    assert all(row.pins or limit is None or row.captured_at >= limit for row in left)
    assert size(left) <= keep_bytes or all(row.pins for row in left)
    freed = {row.digest for row in decision.freed}
    assert freed == {row.digest for row in rows} - {row.digest for row in left}
    if decision.aged:
        last = decision.aged[-1]
        too_old = limit is not None and last.captured_at < limit
        assert too_old or size([*left, last]) > keep_bytes
