"""``--on spark``: a rule's program of Spark over recorded events, in a process of its own.

The events are cut into files, which are Spark's micro-batches; place, memory and output are Spark's
in the checkpoint's folder. The same command again goes on where a kill stopped it.
"""

import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lineside.cli.output import read_file, say
from lineside.core import (
    InvalidError,
    Plant,
    Rule,
    UnavailableError,
    decode_json,
    digest_of,
    encode,
    need,
)

HERE = "local[*]"
BATCH = 25_000
"""Events that Spark takes at a time, where nobody says how many."""

_MASTERS = re.compile(r"spark|local(\[.+\])?|spark://[^/]+:\d+|yarn|k8s://.+")
_ANSWER_S = 5.0
"""How long a machine of a cluster may take to accept a connection."""
_DAY_S = 86_400
_OLDEST_JAVA = 17


def program_text(rule: Rule, plant: Plant) -> str:
    """The program, for the Spark that is installed."""
    from lineside.streams.spark.rule import spark_program

    try:
        installed = version("pyspark")
    except PackageNotFoundError:
        installed = "4.3.0"
    return spark_program(rule, plant=plant, spark=installed)


def run_on_spark(
    rule: Rule, *, plant: Plant, events: Path, master: str, checkpoint: Path | None, batch: int
) -> Iterator[bytes]:
    """Return the rule's events of a recorded file, in order of time.

    Args:
        rule: run with those it reads.
        plant: the plant file it stands in.
        events: one JSON document a line.
        master: where Spark runs; ``spark`` for this machine.
        checkpoint: kept, so that a run that was killed goes on; None for a folder of its own.
        batch: lines that Spark takes at a time.

    Raises:
        MissingExtraError: pyspark is not installed.
        UnavailableError: no Java, or Spark failed.
        InvalidError: events that cannot be read, or a checkpoint of another rule or file.
    """
    if not _MASTERS.fullmatch(master):
        raise InvalidError(
            f"no place to run: {master!r}", where="--on",
            fix="Write spark for this machine, local[N], spark://HOST:PORT, yarn or k8s://….",
        )  # fmt: skip
    master = HERE if master == "spark" else master
    _ready(master, checkpoint)
    _reach(master)
    with _place(checkpoint) as folder:
        with _alone(folder) as lock:
            _stage(rule, plant=plant, events=events, folder=folder, batch=batch)
            said = _run_spark(folder, master=master, lock=lock, keep_log=checkpoint is not None)
        yield from sorted(said, key=_by_time)


def _ready(master: str, checkpoint: Path | None) -> None:
    need("pyspark", extra="spark")
    need("pandas", extra="spark")
    need("pyarrow", extra="spark")
    home = os.environ.get("JAVA_HOME", "")  # noqa: TID251  where Spark's own launcher looks first
    if home and not Path(home, "bin", "java").exists():
        raise UnavailableError(
            f"no Java in {home}, where JAVA_HOME says it is", where="JAVA_HOME",
            fix=f"Name the folder of Java {_OLDEST_JAVA} or later, or unset it.",
        )  # fmt: skip
    if not home and not shutil.which("java"):
        raise UnavailableError(
            f"Spark needs Java {_OLDEST_JAVA} or later, and none is installed",
            fix="apt install default-jre-headless, or set JAVA_HOME.",
        )
    if not master.startswith("local") and checkpoint is None:
        raise InvalidError(
            "a cluster without a checkpoint", where="--checkpoint",
            fix="Name a folder that every machine of the cluster sees.",
        )  # fmt: skip


def _reach(master: str) -> None:
    """Refuse a cluster of which no machine accepts a connection: Spark itself would try on."""
    if not master.startswith("spark://"):
        return
    say(f"connecting to {master}")
    reasons = [_refusal(one) for one in master.removeprefix("spark://").split(",")]
    if all(reasons):
        raise UnavailableError(
            f"no Spark answers at {master}: {reasons[0]}", where="--on",
            fix="Start the cluster's master, or name its host and port.",
        )  # fmt: skip


def _refusal(address: str) -> str:
    """Why a machine accepts no connection; "" where it does."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S):
            return ""
    except (OSError, ValueError, OverflowError, UnicodeError) as error:
        return str(error)


@contextmanager
def _place(checkpoint: Path | None) -> Iterator[Path]:
    if checkpoint is not None:
        checkpoint.mkdir(parents=True, exist_ok=True)
        yield checkpoint.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="lineside-spark-") as name:
        yield Path(name)


@contextmanager
def _alone(folder: Path) -> Iterator[int]:
    """One run at a time; what outlives a killed command keeps the lock until it ends."""
    with (folder / "lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UnavailableError(
                "another run is at work in the checkpoint", where=str(folder),
                fix="Wait until it ends, or end it.",
            ) from error  # fmt: skip
        yield lock.fileno()


def _stage(rule: Rule, *, plant: Plant, events: Path, folder: Path, batch: int) -> None:
    """Program and events as files of the checkpoint, the same ones each time."""
    from lineside.streams import Chain, read_entries

    raw = read_file(events)
    lines = [line for line in raw.splitlines() if line.strip()]
    entries = list(read_entries(lines, plant=plant, where=str(events)))
    arrived = [one.arrived_us for one in entries]
    chain = Chain(rule, plant=plant)
    if not any(map(chain.reads, entries)):
        say(f"none of {len(entries)} entries is read by this rule")
    program = program_text(rule, plant)
    _is_of(folder / "job.json", digest_of(encode([program, digest_of(raw), batch])))
    (folder / "program.py").write_text(program, encoding="utf-8")
    lines += _ticks(rule, plant=plant, newest_us=max(arrived, default=0))
    parts = folder / "events"
    parts.mkdir(exist_ok=True)
    for place, begin in enumerate(range(0, len(lines), batch)):
        path = parts / f"{place:06d}.jsonl"
        path.write_bytes(b"\n".join(lines[begin : begin + batch]) + b"\n")
        os.utime(path, (_DAY_S + place, _DAY_S + place))  # Spark takes files by their age


def _is_of(mark: Path, digest: str) -> None:
    """Refuse a checkpoint that another rule or file began."""
    if not mark.exists():
        mark.write_bytes(encode({"digest": digest}))
    elif decode_json(mark.read_bytes(), where=str(mark)) != {"digest": digest}:
        raise InvalidError(
            "the checkpoint is of another rule, file of events or size of batch",
            where=str(mark.parent), fix="Name an empty folder.",
        )  # fmt: skip


def _ticks(rule: Rule, *, plant: Plant, newest_us: int) -> list[bytes]:
    """Return the ticks that the hub would write when nothing arrives any more."""
    from lineside.streams import Event, closing_ticks, encode_event, moment

    return [
        encode_event(
            Event(
                id=f"tick_{tick.arrived_us}", source=f"/{plant.site}/hub", type=tick.type,
                time=moment(tick.arrived_us), data={},
            )
        )
        for tick in closing_ticks(rule, plant=plant, newest_us=newest_us)
    ]  # fmt: skip


def _run_spark(folder: Path, *, master: str, lock: int, keep_log: bool) -> list[bytes]:
    here = [] if not master.startswith("local") else ["--partitions", "2"]
    command = [
        sys.executable, str(folder / "program.py"), "--folder", str(folder / "events"),
        "--out", str(folder / "out"), "--checkpoint", str(folder / "checkpoint"), "--once",
        "--show", "--master", master, *here,
    ]  # fmt: skip
    # Spark's workers are another program unless they are told which Python is meant.
    environ = {**os.environ, "PYSPARK_PYTHON": sys.executable}  # noqa: TID251  handed to the child
    log = folder / "spark.log"
    with log.open("wb") as errors:
        done = subprocess.run(  # noqa: S603  our own program
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environ,
            check=False,
            pass_fds=(lock,),
        )
    if done.returncode:
        raise UnavailableError(
            f"Spark failed: {_last_words(log)}", where=str(log) if keep_log else "",
            fix="Its log says more." if keep_log else "With --checkpoint its log is kept.",
        )  # fmt: skip
    return done.stdout.splitlines()


def _last_words(log: Path) -> str:
    """The line of Spark's log that says most."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if any("JAVA_GATEWAY_EXITED" in line for line in lines):
        return f"Java ended before it began; it needs Java {_OLDEST_JAVA} or later"
    if any("All masters are unresponsive" in line for line in lines):
        return "no master of the cluster answers as Spark's do"
    named: Sequence[str] = [line for line in lines if "Error: " in line or "Exception: " in line]
    return (named or lines or ["nothing said"])[-1].strip()[:300]


def _by_time(line: bytes) -> tuple[str, str]:
    event = decode_json(line, where="an event")
    return event["data"]["to"], event["id"]
