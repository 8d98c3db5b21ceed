"""Measures again what was measured longest ago, and writes the answers into README.md.

    python benchmarks/renew.py [--minutes 30] [--each 10] [FILE.py …]

1. The table in README.md names every benchmark with its options, its question and its result; the
   last three columns are made of the results. ``--minutes 0`` renews the table alone.
2. Results are renewed from the oldest on, until ``--minutes`` are over. One that takes longer than
   ``--each`` minutes is stopped, keeps its former result with the note that it takes longer, and is
   passed over the next time, as is one whose options need a variable that is not set. To renew
   these, name their files, with more minutes.
3. A missed target is part of an answer. The exit status is 1 when a benchmark failed: its former
   result stands, and its last line says why.
"""

import argparse
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import IO, Any

import psutil

FOLDER = Path(__file__).parent
TABLE = FOLDER / "README.md"
_ROW = re.compile(
    r"\| \[`(?P<file>\w+\.py)`]\((?P=file)\)(?: `(?P<options>[^`]+)`)? \| (?P<question>[^|]+) \|"
    r"[^|]*\|[^|]*\|[^|]*]\(results/(?P<result>[\w-]+)\.json\) \|"
)
_TOLD_CHARACTERS = 300
_STOP_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the table: a benchmark with its options, and its stored result."""

    file: str
    options: str
    question: str
    result: str

    @property
    def path(self) -> Path:
        return FOLDER / "results" / f"{self.result}.json"

    @property
    def stored(self) -> dict[str, Any]:
        """The result; an empty one where there is none yet."""
        if not self.path.exists():
            return {"measured": {"date": "never"}, "answer": "Not measured yet."}
        found: dict[str, Any] = json.loads(self.path.read_bytes())
        return found

    @property
    def measured(self) -> dict[str, Any]:
        """Day, commit and seconds of the stored result."""
        found: dict[str, Any] = self.stored["measured"]
        return found

    @property
    def seconds(self) -> float:
        """How long it takes at least; 0 where nobody knows."""
        known = self.measured
        return float(max(known.get("seconds", 0), known.get("seconds_at_least", 0)))

    def __str__(self) -> str:
        options = f" `{self.options}`" if self.options else ""
        cells = (
            f"[`{self.file}`]({self.file}){options}", self.question, self.stored["answer"],
            _length(self.measured), f"[{_day(self.measured)}](results/{self.result}.json)",
        )  # fmt: skip
        return "".join(f"| {cell} " for cell in cells) + "|"


def main() -> int:
    asked = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    asked.add_argument("--minutes", type=float, default=30.0, help="for all together")
    asked.add_argument("--each", type=float, default=10.0, help="for one of them")
    asked.add_argument("file", nargs="*", help="these alone, however long they take")
    given = asked.parse_args()
    every = rows(TABLE.read_text())
    if unknown := set(given.file) - {row.file for row in every}:
        asked.error(f"not in the table of README.md: {', '.join(sorted(unknown))}")
    ends_s, failed = monotonic() + 60 * given.minutes, 0
    for row in chosen(every, files=given.file):
        missing = _variables_not_set(row.options, os.environ)  # noqa: TID251  a command line
        left_s = min(ends_s - monotonic(), math.inf if given.file else 60 * given.each)
        if missing or row.seconds >= left_s:
            takes = f"takes {_length(row.measured)}" if row.seconds else "the time is over"
            why = f"{missing[0]} is not set" if missing else takes
            print(f"left out {row.file}: {why}", flush=True)
        else:
            failed += not measure_again(row, within_s=left_s)
            TABLE.write_text(renewed(TABLE.read_text()))
    TABLE.write_text(renewed(TABLE.read_text()))
    return 1 if failed else 0


def rows(text: str) -> list[Row]:
    """The rows of the table."""
    found = (match.groupdict(default="") for match in _ROW.finditer(text))
    return [Row(**one) for one in found]


def renewed(text: str) -> str:
    """The text with each row of the table made of its result."""
    return _ROW.sub(lambda match: str(Row(**match.groupdict(default=""))), text)


def chosen(every: list[Row], *, files: list[str]) -> list[Row]:
    """Those of ``files``, or all; what has no commit first, then by day."""
    wanted = [row for row in every if not files or row.file in files]
    return sorted(wanted, key=lambda row: ("commit" in row.measured, row.measured.get("date", "")))


def measure_again(row: Row, *, within_s: float) -> bool:
    """Run a benchmark, and print its answer; False where it failed to give one."""
    options = [os.path.expandvars(one) for one in shlex.split(row.options)]
    before = row.path.read_bytes() if row.path.exists() else None
    print(f"{row.file} {row.options}", flush=True)
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        status = _run([sys.executable, FOLDER / row.file, *options], output, within_s=within_s)
        output.seek(0)
        told = output.read()
    is_new = row.path.exists() and row.path.read_bytes() != before
    last = told.strip().rpartition("\n")[2][-_TOLD_CHARACTERS:]
    if status in {0, 1} and "Traceback (most recent" not in told and (is_new or status == 0):
        # One that goes on where it ended may have nothing left to do.
        print(f"  {_answer_of(row, missed=status == 1) if is_new else last}", flush=True)
        return True
    if is_new and before is not None:
        row.path.write_bytes(before)  # some write what they have in between
    if status is None:
        print(f"  stopped after {within_s:.0f} s", flush=True)
        _note_length(row, at_least_s=math.ceil(within_s))
        return True
    print(f"  no new result (exit status {status}): {last}", flush=True)
    return False


def _run(command: list[str | Path], output: IO[str], *, within_s: float) -> int | None:
    """The exit status; None where the time was over, and the program was stopped."""
    with subprocess.Popen(
        command, cwd=FOLDER.parent, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    ) as running:
        try:
            return running.wait(None if math.isinf(within_s) else within_s)
        except BaseException as error:
            _stop(running)
            if isinstance(error, subprocess.TimeoutExpired):
                return None
            raise


def _stop(running: "subprocess.Popen[bytes]") -> None:
    """End a benchmark as by Ctrl+C, so that it stops what it started; then by force."""
    with suppress(psutil.NoSuchProcess):
        started = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(signal.SIGINT)
        _, left = psutil.wait_procs([psutil.Process(running.pid), *started], timeout=_STOP_S)
        for one in left:
            with suppress(psutil.NoSuchProcess):
                one.kill()


def _answer_of(row: Row, *, missed: bool) -> str:
    """The answer of a new result, which says at least that a target is missed."""
    stored = row.stored
    if missed and not re.search("missed|exceeded|not held", stored["answer"]):
        stored["answer"] += " A target is missed."
        row.path.write_text(json.dumps(stored, indent=2) + "\n")
    return str(stored["answer"])


def _note_length(row: Row, *, at_least_s: float) -> None:
    """Keep that a benchmark takes longer, in the result that it has."""
    if row.path.exists():
        stored = row.stored
        stored["measured"]["seconds_at_least"] = at_least_s
        row.path.write_text(json.dumps(stored, indent=2) + "\n")


def _variables_not_set(options: str, environ: Mapping[str, str]) -> list[str]:
    return [name for name in re.findall(r"\$(\w+)", options) if not environ.get(name)]


def _length(measured: Mapping[str, Any]) -> str:
    """How long a run took, in words of the table."""
    seconds, least = measured.get("seconds", 0.0), measured.get("seconds_at_least", 0.0)
    if not measured.keys() & {"seconds", "seconds_at_least"}:
        return "not known"
    more, longest = ("> ", least) if least > seconds else ("", seconds)
    minutes = longest / 60
    if longest < 100:
        return f"{more}{longest:.0f} s"
    return f"{more}{minutes:.0f} min" if minutes < 100 else f"{more}{minutes / 60:.1f} h"


def _day(measured: Mapping[str, Any]) -> str:
    commit = measured.get("commit", "")
    return f"{measured['date']} {commit[:8]}".strip()


if __name__ == "__main__":
    sys.exit(main())
