"""The thread that writes captures: batches, periods, fates, and a kill after SUCCESS."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lineside.compat.aws.edge_agent import (
    Auxiliary,
    Capture,
    CaptureStatus,
    Encoding,
    TensorPart,
)
from lineside.core import ConflictError, InvalidError, NotFoundError, UnavailableError
from lineside.edge.capture.buffer import Batch, Capturer, CaptureUploader, DiskCaptures
from lineside.edge.config import CaptureConfig
from lineside.edge.messages import Counters
from lineside.edge.packages import FullError
from lineside.store import open_place
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, wait_until


class HeldPlace:
    """Keeps batches in memory; the test holds it up or breaks it."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.tried: list[str] = []
        self.open = threading.Event()
        self.open.set()
        self.failing: Exception | None = None

    def address(self, name: str) -> str:
        return f"held:{name}"

    def keep(self, batch: Batch) -> None:
        self.tried.append(f"{batch.folder}/{batch.stem}")
        self.open.wait(LONG_S)
        if self.failing is not None:
            raise self.failing
        self.batches.append(batch)

    @property
    def lines(self) -> list[int]:
        return [len(batch.lines) for batch in self.batches]


@pytest.fixture
def place() -> HeldPlace:
    return HeldPlace()


Start = Callable[..., Capturer]


@pytest.fixture
def start(place: HeldPlace, clock: FakeClock) -> Iterator[Start]:
    made: list[Capturer] = []

    def start_one(counters: Counters | None = None, **settings: Any) -> Capturer:  # noqa: ANN401  any of its fields
        config = CaptureConfig(**{"buffer_size": 8, "batch_size": 4, **settings})
        capturer = Capturer(
            config, device="edge-1", place=place, clock=clock, counters=counters or Counters()
        )
        capturer.start()
        made.append(capturer)
        return capturer

    yield start_one
    place.open.set()
    place.failing = None
    for capturer in made:
        capturer.close()


def named(number: int) -> str:
    return str(uuid.UUID(int=number << 96 | number))


def capture(number: int, *, model: str = "unet-1", **more: Any) -> Capture:  # noqa: ANN401  any of its fields
    return Capture(model=model, capture_id=named(number), **more)


def test_a_full_batch_is_written_at_once(start: Start, place: HeldPlace) -> None:
    capturer = start()
    for number in range(4):
        capturer.offer(capture(number))
    wait_until(lambda: capturer.status(named(3)) is CaptureStatus.SUCCESS)
    assert place.lines == [4]


def test_fewer_are_written_when_the_period_has_passed(
    start: Start, place: HeldPlace, clock: FakeClock
) -> None:
    capturer = start(push_period_s=10.0)
    clock.advance(100)
    capturer.offer(capture(1))
    clock.advance(9.9)
    capturer.tick()
    assert capturer.status(named(1)) is CaptureStatus.IN_PROGRESS
    clock.advance(0.1)
    capturer.tick()
    wait_until(lambda: place.lines == [1])


def test_each_model_and_hour_has_its_folder(
    start: Start, place: HeldPlace, clock: FakeClock
) -> None:
    capturer = start(fleet="f", prefix="a/b")
    at = clock.now()
    capturer.offer(capture(1))
    capturer.offer(capture(2, inferred_at=at.replace(hour=3)))
    capturer.offer(capture(3, model="other"))
    capturer.offer(capture(4, inferred_at=at.replace(minute=59)))
    wait_until(lambda: len(place.batches) == 3)
    assert [(batch.folder, len(batch.lines)) for batch in place.batches] == [
        ("a/b/f/unet-1/2026/01/01/12", 2),
        ("a/b/f/unet-1/2026/01/01/03", 1),
        ("a/b/f/other/2026/01/01/12", 1),
    ]


def test_the_buffer_refuses_what_it_cannot_hold_and_keeps_what_it_took(
    start: Start, place: HeldPlace
) -> None:
    place.open.clear()
    capturer = start()
    for number in range(8):
        capturer.offer(capture(number))
    with pytest.raises(FullError, match="8 captures wait"):
        capturer.offer(capture(8))
    with pytest.raises(NotFoundError):
        capturer.status(named(8))
    place.open.set()
    wait_until(lambda: sum(place.lines) == 8)
    capturer.offer(capture(8))


def test_the_buffer_is_bounded_in_bytes_too(start: Start, place: HeldPlace) -> None:
    place.open.clear()
    capturer = start()
    big = TensorPart(data=bytes(40_000_000))
    capturer.offer(capture(1, input_tensors=(big,)))
    with pytest.raises(FullError, match="bytes wait"):
        capturer.offer(capture(2, input_tensors=(big,)))


def test_an_id_is_taken_once_whatever_became_of_it(start: Start, place: HeldPlace) -> None:
    capturer = start()
    place.failing = InvalidError("too large")
    for number in range(4):
        capturer.offer(capture(number))
    wait_until(lambda: capturer.status(named(0)) is CaptureStatus.FAILURE)
    with pytest.raises(ConflictError):
        capturer.offer(capture(0))


def test_while_the_place_is_away_captures_stay_under_way_under_one_name(
    start: Start, place: HeldPlace
) -> None:
    place.failing = UnavailableError("the bucket is away")
    counters = Counters()
    capturer = start(counters)
    for number in range(4):
        capturer.offer(capture(number))
    wait_until(lambda: len(place.tried) >= 3)
    assert capturer.status(named(0)) is CaptureStatus.IN_PROGRESS
    assert counters.read().faults == ("captures: the bucket is away",)
    place.failing = None
    wait_until(lambda: capturer.status(named(0)) is CaptureStatus.SUCCESS)
    assert len(set(place.tried)) == 1
    wait_until(lambda: counters.read().faults == ())


def test_closing_writes_what_waits(start: Start, place: HeldPlace) -> None:
    capturer = start()
    capturer.offer(capture(1))
    capturer.close()
    assert place.lines == [1]


def test_a_bug_in_one_batch_ends_nothing(start: Start, place: HeldPlace) -> None:
    capturer = start()
    place.failing = ZeroDivisionError("bug")
    for number in range(4):
        capturer.offer(capture(number))
    wait_until(lambda: capturer.status(named(3)) is CaptureStatus.FAILURE)
    place.failing = None
    for number in range(4, 8):
        capturer.offer(capture(number))
    wait_until(lambda: capturer.status(named(7)) is CaptureStatus.SUCCESS)


class TestTheUploader:
    def kept(self, folder: Path) -> DiskCaptures:
        disk = DiskCaptures(folder, max_bytes=1_000_000)
        for number in range(3):
            stem = f"20260101T12000000000{number}-{number:08d}"
            disk.keep(Batch(folder="f/m/2026/01/01/12", stem=stem, lines=(b"{}",)))
        return disk

    def test_brings_what_lies_there_and_what_comes(self, tmp_path: Path, clock: FakeClock) -> None:
        disk = self.kept(tmp_path / "disk")
        place = open_place(f"file://{tmp_path}/bucket")
        uploader = CaptureUploader(disk, place=place, period_s=60, clock=clock, counters=Counters())
        uploader.start()
        try:
            bucket = tmp_path / "bucket"
            wait_until(lambda: disk.held_bytes == 0)
            assert len(list(bucket.rglob("*.jsonl"))) == 3
            stem = "20260101T130000000000-00000009"
            disk.keep(Batch(folder="f/m/2026/01/01/13", stem=stem, lines=(b"{}",)))
            clock.advance(60)
            uploader.tick()
            wait_until(lambda: disk.held_bytes == 0)
            assert (bucket / f"f/m/2026/01/01/13/{stem}.jsonl").read_bytes() == b"{}\n"
        finally:
            uploader.close()

    def test_tries_again_after_the_period_and_says_what_is_wrong(
        self, tmp_path: Path, clock: FakeClock
    ) -> None:
        disk = self.kept(tmp_path / "disk")
        (tmp_path / "bucket").write_bytes(b"")
        counters = Counters()
        place = open_place(f"file://{tmp_path}/bucket")
        uploader = CaptureUploader(disk, place=place, period_s=60, clock=clock, counters=counters)
        uploader.start()
        try:
            wait_until(lambda: bool(counters.read().faults))
            (tmp_path / "bucket").unlink()
            clock.advance(60)
            uploader.tick()
            wait_until(lambda: disk.held_bytes == 0)
            wait_until(lambda: counters.read().faults == ())
        finally:
            uploader.close()


WRITER = """
import sys, uuid
from pathlib import Path
from lineside.compat.aws.edge_agent import Capture, CaptureStatus, TensorPart
from lineside.core import SystemClock
from lineside.edge.capture.buffer import Capturer
from lineside.edge.config import CaptureConfig
from lineside.edge.capture.buffer import DiskCaptures
from lineside.edge.packages import FullError
from lineside.edge.messages import Counters

disk = DiskCaptures(Path(sys.argv[1]), max_bytes=50_000_000)
capturer = Capturer(
    CaptureConfig(batch_size=3), device="d", place=disk, clock=SystemClock(), counters=Counters()
)
capturer.start()
waiting = []
while True:
    name = str(uuid.uuid4())
    try:
        part = TensorPart(data=bytes(5000))
        capturer.offer(Capture(model="m", capture_id=name, input_tensors=(part,)))
        waiting.append(name)
    except FullError:
        pass
    done = [each for each in waiting if capturer.status(each) is CaptureStatus.SUCCESS]
    for each in done:
        print(each, flush=True)
        waiting.remove(each)
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 7, 40])
def test_what_was_called_a_success_is_there_after_a_kill(tmp_path: Path, after: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(after)]
        os.kill(process.pid, signal.SIGKILL)
        told += [line.strip() for line in process.stdout if len(line.strip()) == 36]
    disk = DiskCaptures(tmp_path, max_bytes=50_000_000)
    kept = set(disk.newest_ids(1_000_000))
    assert told
    assert set(told) <= kept
    for manifest in tmp_path.rglob("*.jsonl"):
        files = list(manifest.with_suffix("").iterdir())
        assert len(files) == len(manifest.read_bytes().splitlines())
        assert all(file.stat().st_size == 5000 for file in files)


def test_auxiliary_data_count_for_the_buffer_too(start: Start, place: HeldPlace) -> None:
    place.open.clear()
    capturer = start()
    big = Auxiliary(name="p", encoding=Encoding.NONE, data=bytes(40_000_000))
    capturer.offer(capture(1, inputs=(big,)))
    with pytest.raises(FullError, match="bytes wait"):
        capturer.offer(capture(2, outputs=(big,)))
