"""Processes that are killed, that start at once, that write at once, and disks that are full."""

import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from lineside.core import SystemClock, digest_of
from lineside.store import Records, open_blobs, open_records
from lineside.testing.links import LONG_S, wait_until
from lineside.testing.store import frame_row
from tests.store.conftest import PostgresServer
from tests.store.program import event_at
from tests.store.rule_sums import check_sums

PROGRAM = Path(__file__).with_name("program.py")


class Urls:
    """Where one test keeps its things."""

    def __init__(self, records: str, folder: Path) -> None:
        self.records = records
        self.blobs = f"file://{folder}/blobs"

    def start(self, source: str, *, count: int) -> "subprocess.Popen[str]":
        words = [str(PROGRAM), self.records, self.blobs, source, str(count)]
        return subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)

    def nobody_writes(self) -> bool:
        """Return whether what a killed program asked for has ended; a file needs no server."""
        return True


class PostgresUrls(Urls):
    """Records in a server, which may still end what a killed program had asked for."""

    def __init__(self, records: str, folder: Path, *, server: PostgresServer) -> None:
        super().__init__(records, folder)
        self._server = server

    def nobody_writes(self) -> bool:
        name = self.records.partition("@/")[2].partition("?")[0]
        count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608  our own
        return self._server.tell(count) == "0"


@pytest.fixture
def urls(tmp_path: Path) -> Urls:
    return Urls(f"sqlite:///{tmp_path}/records.db", tmp_path)


@pytest.fixture
def postgres(tmp_path: Path, postgres_url: str, postgres_server: PostgresServer) -> Urls:
    return PostgresUrls(postgres_url, tmp_path, server=postgres_server)


def kill_after(program: "subprocess.Popen[str]", *, lines: int) -> set[int]:
    """Kill the program as soon as it acknowledged so many steps; every step it acknowledged."""
    assert program.stdout is not None
    with program.stdout:
        said = [program.stdout.readline() for _ in range(lines)]
        program.kill()
        said += program.stdout.readlines()
    program.wait()
    return {int(line) for line in said if line.endswith("\n")}


def check_steps(records: Records, urls: Urls, *, source: str) -> set[int]:
    """Which steps were kept, each of them whole."""
    assert records.log.verify(source).ok
    logged = records.log.read(source=source, limit=100_000)
    numbers = [int(one.entry.id.removeprefix("evt_")) for one in logged]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) % 3 == 0
    upto = records.rule_sums.position()
    entries = records.log.read(limit=100_000)
    check_sums(records, [event_at(one.position) for one in entries if one.position <= upto])
    steps = set(range(len(numbers) // 3))
    with closing(open_blobs(urls.blobs)) as blobs:
        for step in steps:
            picture = f"{source} {step}".encode() * 50
            row = frame_row(step, camera=source, picture=picture)
            assert records.frames.get(row.id).digest == digest_of(picture)
            assert blobs.get(row.digest) == picture
    assert len(records.frames.page(camera=source, limit=100_000)) == len(steps)
    return steps


def check_kills(urls: Urls, *, seed: int) -> None:
    """Kill a writer again and again, on the same records."""
    moments = random.Random(seed)  # noqa: S311  a seeded choice of moments
    acknowledged: set[int] = set()
    for _ in range(4):
        program = urls.start("/site/device/a", count=100_000)
        acknowledged |= kill_after(program, lines=moments.randint(1, 60))
        wait_until(urls.nobody_writes)
        with open_records(urls.records, clock=SystemClock()) as records:
            assert acknowledged <= check_steps(records, urls, source="/site/device/a")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_what_was_acknowledged_survives_kill_9(urls: Urls, seed: int) -> None:
    check_kills(urls, seed=seed)


@pytest.mark.slow
@pytest.mark.service
def test_what_was_acknowledged_survives_kill_9_on_postgresql(postgres: Urls) -> None:
    check_kills(postgres, seed=3)


def check_writers_at_once(urls: Urls) -> None:
    sources = [f"/site/device/{name}" for name in "abcd"]
    programs = [urls.start(source, count=25) for source in sources]
    for program in programs:
        assert program.communicate(timeout=2 * LONG_S)[0].split() == [
            str(step) for step in range(25)
        ]
        assert program.returncode == 0
    with open_records(urls.records, clock=SystemClock()) as records:
        for source in sources:
            assert check_steps(records, urls, source=source) == set(range(25))
        positions = [logged.position for logged in records.log.read(limit=1000)]
        assert len(set(positions)) == 300
        assert records.rule_sums.position() == positions[-1]


@pytest.mark.slow
def test_processes_may_open_new_records_and_write_at_once(urls: Urls) -> None:
    check_writers_at_once(urls)


@pytest.mark.slow
@pytest.mark.service
def test_processes_may_open_new_records_and_write_at_once_on_postgresql(postgres: Urls) -> None:
    check_writers_at_once(postgres)


def run_limited(code: str, *, most_bytes: int) -> str:
    """Run code in a process whose files may not grow beyond a size, as on a full disk."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({most_bytes},) * 2)\n"
    done = subprocess.run(
        [sys.executable, "-c", limit + code],
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_full_disk_is_said_and_leaves_no_half_blob(tmp_path: Path) -> None:
    code = f"""
from lineside.core import UnavailableError
from lineside.store import open_blobs
blobs = open_blobs("file://{tmp_path}/blobs")
blobs.put(b"small")
try:
    blobs.put(bytes(100_000))
except UnavailableError as error:
    print(error)
blobs.put(b"small too")
"""
    assert "the disk is full" in run_limited(code, most_bytes=50_000)
    with closing(open_blobs(f"file://{tmp_path}/blobs")) as blobs:
        assert set(blobs.digests()) == {digest_of(b"small"), digest_of(b"small too")}
    files = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert len(files) == 2


def test_of_many_blobs_on_a_full_disk_none_is_half(tmp_path: Path) -> None:
    code = f"""
from lineside.core import UnavailableError
from lineside.store import open_blobs
blobs = open_blobs("file://{tmp_path}/blobs")
try:
    blobs.put_many([b"a" * 10, b"b" * 20, b"c" * 100_000, b"d" * 30, b"e" * 40])
except UnavailableError as error:
    print(error)
"""
    assert "the disk is full" in run_limited(code, most_bytes=50_000)
    with closing(open_blobs(f"file://{tmp_path}/blobs")) as blobs:
        assert all(len(blobs.get(digest)) < 50 for digest in blobs.digests())
    assert list((tmp_path / "blobs" / "passing").iterdir()) == []


def test_a_transaction_cut_off_by_a_full_disk_keeps_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    with open_records(url, clock=SystemClock()) as records:
        records.documents.put("order", "before", body={})
    code = f"""
from lineside.core import SystemClock, UnavailableError
from lineside.store import open_records
with open_records("{url}", clock=SystemClock()) as records:
    try:
        with records.transaction():
            records.documents.put("order", "first", body={{}})
            try:
                for number in range(40):
                    records.documents.put("order", str(number), body={{"text": "x" * 1_000_000}})
            except UnavailableError as error:
                print("inside:", error.fix)
            records.documents.put("order", "last", body={{}})
    except UnavailableError as error:
        print("outside:", error)
"""
    said = run_limited(code, most_bytes=8_000_000)
    assert "outside:" in said, said
    with open_records(url, clock=SystemClock()) as records:
        assert [document.id for document in records.documents.page("order")] == ["before"]
        records.documents.put("order", "after", body={})


def test_an_archive_on_a_full_disk_does_not_appear(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from lineside.core import SystemClock, UnavailableError
from lineside.store import open_blobs, open_records
from lineside.store import backup
blobs = open_blobs("memory://")
blobs.put(bytes(200_000))
with open_records("memory://", clock=SystemClock()) as records:
    try:
        backup(records, blobs, to=Path("{tmp_path}/backup.tar"), extra={{}})
    except UnavailableError as error:
        print(error)
"""
    assert "cannot be written" in run_limited(code, most_bytes=100_000)
    assert list(tmp_path.iterdir()) == []
