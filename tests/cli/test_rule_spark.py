"""``lineside rule run --on spark`` and ``rule explain --as spark``."""

import fcntl
import importlib.util
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from lineside.cli.app import app
from lineside.core import InvalidError, LinesideError, UnavailableError
from lineside.core.errors import MissingExtraError

PAUSE = threading.Event()
PLANT = """
schema = "lineside.plant/1"
site = "s"
[[rule]]
id = "windows"
read = { topic = "sock/+" }
where = [{ field = "image", none_of = ["Blank"] }]
key = ["image"]
window = { size_s = 5 }
having = [{ field = "count", above = 3 }]
late = "event"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A plant file, and six hundred messages of two topics, some of them late."""
    (tmp_path / "plant.toml").write_text(PLANT)
    draws = random.Random(11)  # noqa: S311  the same lines each time
    lines = []
    for number in range(600):
        at_s = number * 0.1 - draws.choice((0, 0, 0, 7))
        lines.append({
            "topic": f"sock/{number % 2}", "time": f"2026-01-01T12:{number // 600:02d}:"
            f"{number * 0.1 % 60:09.6f}Z",
            "payload": {"image": draws.choice(("Google", "Github", "Blank")), "number": number,
                        "ts": f"2026-01-01T11:59:{at_s % 60:09.6f}Z" if at_s < 0 else
                        f"2026-01-01T12:00:{at_s:09.6f}Z"},
        })  # fmt: skip
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


@pytest.fixture
def spark(absent: Callable[[str, str], None]) -> None:
    if importlib.util.find_spec("pyspark") is None or shutil.which("java") is None:
        absent("scale", "pyspark or Java is not installed")


def words(place: Path, *more: str) -> list[str]:
    events, plant = str(place / "events.jsonl"), str(place / "plant.toml")
    return ["rule", "run", "windows", "--events", events, "--plant", plant, *more]


def invoke(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(*words: str) -> LinesideError:
    with pytest.raises(LinesideError) as refused:
        invoke(*words)
    return refused.value


def test_a_rule_is_printed_as_a_program(place: Path) -> None:
    words = ("rule", "explain", "windows", "--as", "spark", "--plant", str(place / "plant.toml"))
    program = invoke(*words)
    assert "GROUP BY window(at, '5 seconds'), `image as key`" in program
    assert "WHERE event IS NOT NULL OR (_count > 3)" in program
    assert "spark-submit --packages org.apache.spark:spark-sql-kafka" in program
    assert json.loads(invoke(*words, "--json"))["explanation"].strip() == program.strip()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("spark")
def test_a_driver_killed_in_the_middle_loses_and_doubles_nothing(place: Path) -> None:
    """The driver is killed after its first commit; the same command again ends the run."""
    more = ("--on", "local[2]", "--checkpoint", str(place / "kept"), "--batch", "120")
    command = [sys.executable, "-m", "lineside", *words(place, *more)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    commits = place / "kept" / "checkpoint" / "commits"
    while not (commits / "1").exists():
        assert first.poll() is None, first.communicate()[1]
        PAUSE.wait(0.05)
    (driver,) = psutil.Process(first.pid).children()
    gateway = driver.children(recursive=True)
    driver.send_signal(signal.SIGKILL)
    _, told = first.communicate()
    assert first.returncode
    assert b"Spark failed" in told
    assert not (commits / "5").exists()
    psutil.wait_procs(gateway, timeout=60)  # Java sees that its driver is gone, and ends
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    here = invoke(*words(place)).splitlines()
    assert sorted(second.stdout.splitlines()) == sorted(here)
    assert {json.loads(line)["data"]["action"] for line in here} == {"final", "late"}


def test_what_cannot_run_on_spark_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    span = ("--from", "2026-01-01T00:00:00Z", "--to", "2026-01-02T00:00:00Z")
    plant = ("--plant", str(place / "plant.toml"))
    none = refusal("rule", "run", "windows", *span, *plant, "--on", "spark")
    assert isinstance(none, InvalidError)
    assert "--events" in none.fix
    sparc = refusal(*words(place, "--on", "sparc"))
    assert (sparc.where, "spark://HOST:PORT" in sparc.fix) == ("--on", True)
    monkeypatch.setitem(sys.modules, "pyspark", None)
    missing = refusal(*words(place, "--on", "spark"))
    assert isinstance(missing, MissingExtraError)
    assert missing.fix == 'pip install "lineside[spark]"'


def test_a_machine_without_java_is_told_what_to_install(
    place: Path, monkeypatch: pytest.MonkeyPatch, absent: Callable[[str, str], None]
) -> None:
    if importlib.util.find_spec("pyspark") is None:
        absent("scale", "pyspark is not installed")
    monkeypatch.setenv("JAVA_HOME", "/nonexistent")
    assert "no Java in /nonexistent" in refusal(*words(place, "--on", "spark")).message
    monkeypatch.setenv("PATH", str(place))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    refused = refusal(*words(place, "--on", "spark"))
    assert isinstance(refused, UnavailableError)
    assert "default-jre-headless" in refused.fix


@pytest.mark.usefixtures("spark")
def test_a_cluster_that_is_not_there_is_said_at_once(place: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        master = f"spark://127.0.0.1:{free.getsockname()[1]}"
        refused = CliRunner().invoke(
            app, words(place, "--on", master, "--checkpoint", str(place / "kept"))
        )
    assert refused.stderr == f"connecting to {master}\n"
    assert isinstance(refused.exception, UnavailableError)
    assert f"no Spark answers at {master}" in refused.exception.message


@pytest.mark.usefixtures("spark")
def test_a_checkpoint_is_of_one_run(place: Path) -> None:
    assert "--checkpoint" in refusal(*words(place, "--on", "spark://nowhere:7077")).where
    kept = place / "kept"
    kept.mkdir()
    (kept / "job.json").write_text('{"digest":"of another"}')
    refused = refusal(*words(place, "--on", "spark", "--checkpoint", str(kept)))
    assert "another rule" in refused.message
    other = {"topic": "b", "payload": {}, "time": "2026-01-01T12:00:00Z"}
    (place / "events.jsonl").write_text(json.dumps(other))
    typed = CliRunner().invoke(app, words(place, "--on", "spark", "--checkpoint", str(kept)))
    assert typed.stderr == "none of 1 entries is read by this rule\n"
    with (kept / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = refusal(*words(place, "--on", "spark", "--checkpoint", str(kept)))
    assert "at work" in refused.message
