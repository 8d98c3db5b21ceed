"""A restore that is killed: other files are whole or absent, and nothing looks restored."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lineside.core import ConflictError, SystemClock
from lineside.store import backup, open_blobs, open_records, restore
from lineside.testing.links import LONG_S

# Kills itself at the n-th change of a file's name or contents below the folder of the target.
RESTORER = """
import os, pathlib, signal, sys
from lineside.core import SystemClock
from lineside.store import restore
archive, target, left = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), [int(sys.argv[3])]

def look(event, words):
    writes = event == "open" and isinstance(words[2], int) and words[2] & os.O_CREAT
    if writes or event in ("os.rename", "os.mkdir"):
        if str(words[0]).startswith(str(target)):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(look)
restore(
    archive, records_url=f"sqlite:///{target}/records.db", blobs_url=f"file://{target}/blobs",
    clock=SystemClock(), extra={"trust": target / "trust"},
)
print(100_000 - left[0] if left[0] > 0 else left[0])
"""
FILES = {
    "metadata/1.root.json": (b"root", 0o644),
    "metadata/timestamp.json": (b"timestamp", 0o644),
    "online/default.pem": (b"a key", 0o600),
}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A site with one document, one blob and a trust folder."""
    trust = tmp_path / "site" / "trust"
    for name, (content, mode) in FILES.items():
        (trust / name).parent.mkdir(parents=True, exist_ok=True)
        (trust / name).write_bytes(content)
        (trust / name).chmod(mode)
    blobs = open_blobs("memory://")
    blobs.put(b"a package")
    with open_records("memory://", clock=SystemClock()) as records:
        records.documents.put("release", "one", body={})
        backup(records, blobs, to=tmp_path / "all.tar", extra={"trust": trust})
    return tmp_path / "all.tar"


def restored(archive: Path, target: Path, *, kill_at: int) -> "subprocess.CompletedProcess[str]":
    target.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", RESTORER, str(archive), str(target), str(kill_at)],
        capture_output=True, text=True, timeout=LONG_S, check=False,
    )  # fmt: skip


def check_whole(trust: Path) -> None:
    for name, (content, mode) in FILES.items():
        assert (trust / name).read_bytes() == content
        assert (trust / name).stat().st_mode & 0o777 == mode
    assert (trust / "online").stat().st_mode & 0o777 == 0o700


def documents(target: Path) -> int:
    with open_records(f"sqlite:///{target}/records.db", clock=SystemClock()) as records:
        return len(records.documents.page("release"))


@pytest.mark.slow
def test_a_restore_that_is_killed_leaves_the_trust_folder_whole_or_absent(
    archive: Path, tmp_path: Path
) -> None:
    whole = restored(archive, tmp_path / "whole", kill_at=100_000)
    assert whole.returncode == 0, whole.stderr
    check_whole(tmp_path / "whole" / "trust")
    assert documents(tmp_path / "whole") == 1
    steps = int(whole.stdout)
    assert steps > 10
    came = 0
    for kill_at in sorted({*range(steps - 7, steps + 1), steps // 2}):
        target = tmp_path / f"killed-{kill_at}"
        done = restored(archive, target, kill_at=kill_at)
        assert done.returncode == -signal.SIGKILL, (kill_at, done.stderr)
        trust = target / "trust"
        if trust.exists():
            came += 1
            check_whole(trust)
        assert documents(target) == 0 or trust.exists()
    assert came < 9, "no moment was before the folder came to its place"


def test_what_a_killed_restore_left_beside_its_place_goes_with_the_next(
    archive: Path, tmp_path: Path
) -> None:
    target = tmp_path / "again"
    left = target / ".trust.0a1b2c3d.part"
    left.mkdir(parents=True)
    (left / "default.pem").write_bytes(b"half a key")

    def again(records: str) -> None:
        url = f"sqlite:///{target}/{records}.db"
        blobs_url, extra = f"file://{target}/blobs-{records}", {"trust": target / "trust"}
        restore(archive, records_url=url, blobs_url=blobs_url, clock=SystemClock(), extra=extra)

    again("first")
    assert not left.exists()
    check_whole(target / "trust")
    with pytest.raises(ConflictError, match="there already"):
        again("second")
