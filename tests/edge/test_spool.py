"""The spool against a model, against kill -9, and against its limits."""

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lineside.core import InvalidError, UnavailableError
from lineside.edge.delivery.shipper import completed
from lineside.edge.delivery.spool import Draft, Row, Spool, open_spool
from lineside.streams import decode_event

ROOM = 1_000_000


def draft(size: int = 10, topic: str = "t") -> Draft:
    return Draft(topic=topic, make=lambda number: f"{number}:".encode().ljust(size, b"."))


def numbers(spool: Spool) -> list[int]:
    return [row.sequence for row in spool.after(0, most=100_000)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


def test_the_writer_gets_the_number_that_is_kept(path: Path) -> None:
    spool = open_spool(path, max_bytes=ROOM)
    rows = spool.append([draft(), draft()])
    assert [row.payload[:2] for row in rows] == [b"1:", b"2:"]
    assert spool.after(0, most=10) == rows
    assert spool.after(1, most=10) == rows[1:]
    spool.close()


def test_a_batch_whose_writer_fails_leaves_nothing(path: Path) -> None:
    def fail(_number: int) -> bytes:
        raise RuntimeError("broken")

    spool = open_spool(path, max_bytes=ROOM)
    with pytest.raises(RuntimeError):
        spool.append([draft(), Draft(topic="t", make=fail)])
    assert (spool.depth, spool.last) == (0, 0)
    assert spool.append([draft()])[0].sequence == 1
    spool.close()


def test_a_smaller_limit_takes_effect_with_the_next_event(path: Path) -> None:
    spool = open_spool(path, max_bytes=ROOM)
    spool.append([draft(936) for _ in range(10)])
    spool.close()
    spool = open_spool(path, max_bytes=3000)
    spool.append([draft(936)])
    assert numbers(spool) == [9, 10, 11]
    spool.close()


def test_a_file_that_is_no_spool_says_so(path: Path) -> None:
    path.write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(InvalidError, match="damaged"):
        open_spool(path, max_bytes=ROOM)


def test_a_spool_of_a_newer_program_is_not_touched(path: Path) -> None:
    link = sqlite3.connect(path)
    link.execute("PRAGMA user_version = 9")
    link.close()
    with pytest.raises(InvalidError, match="form 9"):
        open_spool(path, max_bytes=ROOM)


def test_a_folder_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        open_spool(tmp_path / "gone" / "spool.db", max_bytes=ROOM)


def test_a_full_disk_keeps_nothing_and_goes_on_when_there_is_room(path: Path) -> None:
    spool = open_spool(path, max_bytes=100 * ROOM)
    spool.append([draft()])
    pages = spool._link.execute("PRAGMA page_count").fetchone()[0]
    spool._link.execute(f"PRAGMA max_page_count = {pages + 5}")
    with pytest.raises(UnavailableError, match="full"):
        spool.append([draft(100_000)])
    assert (numbers(spool), spool.last, spool.depth) == ([1], 1, 1)
    spool._link.execute("PRAGMA max_page_count = 100000")
    assert spool.append([draft(100_000)])[0].sequence == 2
    spool.close()


class SpoolModel(RuleBasedStateMachine):
    """Any order of batches, acknowledgements, drops and restarts, against a plain list."""

    LIMIT = 5000

    @initialize()
    def begin(self) -> None:
        self.folder = Path(os.path.realpath(self._folder()))
        self.spool = open_spool(self.folder, max_bytes=self.LIMIT)
        self.kept: list[tuple[int, int, int]] = []
        self.last = 0
        self.dropped = 0

    def _folder(self) -> str:
        import tempfile

        self.temporary = tempfile.TemporaryDirectory()
        return str(Path(self.temporary.name) / "spool.db")

    @rule(
        sizes=st.lists(
            st.tuples(st.integers(5, 1500), st.just(0) | st.integers(1, 3000)), max_size=4
        )
    )
    def append(self, sizes: list[tuple[int, int]]) -> None:
        self.spool.append([replace(draft(size), image=bytes(image)) for size, image in sizes])
        before = self.last
        for size, image in sizes:
            self.last += 1
            self.kept.append((self.last, size + 64, image))
        for place, (number, size, image) in enumerate(self.kept):
            if self.over() > 0 and image:
                self.kept[place] = (number, size, 0)
        while self.kept and self.kept[0][0] <= before and self.over() > 0:
            self.kept.pop(0)
            self.dropped += 1

    def over(self) -> int:
        return sum(size + image for _, size, image in self.kept) - self.LIMIT

    @rule(upto=st.integers(0, 60))
    def acknowledge(self, upto: int) -> None:
        gone = [row for row in self.kept if row[0] <= upto] if upto <= self.last else []
        assert self.spool.acknowledge(upto) == len(gone)
        self.kept = [row for row in self.kept if row not in gone]

    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.spool = open_spool(self.folder, max_bytes=self.LIMIT)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "spool"):
            return
        held = [(number, len(self.spool.image(number) or b"")) for number in numbers(self.spool)]
        assert held == [(number, image) for number, _, image in self.kept]
        assert self.spool.depth == len(self.kept)
        assert self.spool.last == self.last
        assert self.spool.dropped == self.dropped
        assert self.spool.first == (self.kept[0][0] if self.kept else self.last + 1)

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.spool.close()
            self.temporary.cleanup()


TestSpoolModel = SpoolModel.TestCase
TestSpoolModel.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)

CHILD = """
import sys
from pathlib import Path
from lineside.edge.delivery.spool import Draft, open_spool
spool = open_spool(Path(sys.argv[1]), max_bytes=10**9)
def draft():
    return Draft(topic="t", make=lambda number: str(number).encode(), image=b"image" * 2000)
while True:
    rows = spool.append([draft() for _ in range(3)])
    if rows[-1].sequence % 30 == 0:
        spool.acknowledge(rows[-1].sequence - 20)
    print(rows[-1].sequence, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 7, 30, 100])
def test_kill_9_takes_nothing_back_and_doubles_nothing(path: Path, lines: int) -> None:
    command = [sys.executable, "-c", CHILD, str(path)]
    committed = 0
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            told = [int(child.stdout.readline()) for _ in range(lines)]
            child.send_signal(signal.SIGKILL)
            told += [int(line) for line in child.stdout.read().split("\n")[:-1]]
        assert told[0] > committed
        committed = told[-1]
        spool = open_spool(path, max_bytes=10**9)
        found = spool.after(0, most=100_000)
        assert [row.sequence for row in found] == list(range(spool.first, spool.last + 1))
        assert spool.last >= committed
        assert spool.first <= max(1, committed)
        assert all(row.payload == str(row.sequence).encode() for row in found)
        assert all(spool.image(row.sequence) == b"image" * 2000 for row in found)
        committed = spool.last
        spool.close()


class TestTheLowestNumberHeld:
    EVENT = (
        b'{"data":{"a":",\\"deviceseq\\":9"},"datacontenttype":"application/json","deviceseq":7,'
        b'"id":"evt_1","source":"/s/device/d","specversion":"1.0","time":"2026-01-01T12:00:00Z",'
        b'"type":"t"}'
    )

    def test_is_written_into_the_event_when_it_is_sent(self) -> None:
        sent = completed(
            Row(sequence=7, topic="t", payload=self.EVENT),
            first=3,
            missing=b',"imagemissing":"no room"',
        )
        event = decode_event(sent, where="sent")
        assert (event.deviceseq, event.devicefirst, event.imagemissing) == (7, 3, "no room")
        assert event.data == {"a": ',"deviceseq":9'}

    def test_leaves_other_payloads_alone(self) -> None:
        assert completed(Row(sequence=1, topic="t", payload=b"{}"), first=3) == b"{}"
