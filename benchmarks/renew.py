"""Measures again what was measured longest ago, and writes the answers into README.md.

    python benchmarks/renew.py [--minutes 30] [--each 10] [FILE.py …]

1. The table in README.md names every benchmark with its options, its question and its result; the
   last three columns are made of the results. ``--minutes 0`` renews the table alone.
2. Results are renewed from the oldest on, until ``--minutes`` are over. One that takes longer than
   ``--each`` minutes is stopped, keeps its former result with the note that it takes longer, and is
   passed over the next time, as is one whose options need a variable that is not set. To renew
   these, name their files, with more minutes.
3. A missed target is part of an answer. The exit status is 1 when a benchmark ended without a new
   result: its last line says why.
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
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

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
        return float(known.get("seconds") or known.get("seconds_at_least") or 0)

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
    ends_s, failed = monotonic() + 60 * given.minutes, 0
    for row in chosen(rows(TABLE.read_text()), files=given.file):
        missing = _variables_not_set(row.options, os.environ)  # noqa: TID251  a command line
        left_s = min(ends_s - monotonic(), math.inf if given.file else 60 * given.each)
        if missing or row.seconds > left_s:
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
    options = shlex.split(os.path.expandvars(row.options))
    before = row.path.stat().st_mtime_ns if row.path.exists() else 0
    print(f"{row.file} {row.options}", flush=True)
    began_s = monotonic()
    with subprocess.Popen(
        [sys.executable, FOLDER / row.file, *options], cwd=FOLDER.parent, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    ) as running:  # fmt: skip
        try:
            told, _ = running.communicate(timeout=None if math.isinf(within_s) else within_s)
        except subprocess.TimeoutExpired:
            _stop(running)
            print(f"  stopped after {within_s:.0f} s", flush=True)
            _note_length(row, at_least_s=monotonic() - began_s)
            return True
    if row.path.exists() and row.path.stat().st_mtime_ns != before:
        print(f"  {row.stored['answer']}", flush=True)
        return True
    last = told.strip().rpartition("\n")[2][-_TOLD_CHARACTERS:]
    print(f"  no new result (exit status {running.returncode}): {last}", flush=True)
    return running.returncode == 0  # of one that goes on where it ended, everything may be there


def _stop(running: subprocess.Popen[str]) -> None:
    """End a benchmark as by Ctrl+C, so that it stops what it started; else by force."""
    running.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        running.communicate(timeout=_STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.communicate()


def _note_length(row: Row, *, at_least_s: float) -> None:
    """Keep that a benchmark takes longer, in the result that it has."""
    if row.path.exists() and "seconds" not in row.measured:
        stored = row.stored
        stored["measured"]["seconds_at_least"] = round(at_least_s)
        row.path.write_text(json.dumps(stored, indent=2) + "\n")


def _variables_not_set(options: str, environ: Mapping[str, str]) -> list[str]:
    return [name for name in re.findall(r"\$(\w+)", options) if name not in environ]


def _length(measured: Mapping[str, Any]) -> str:
    """How long a run took, in words of the table."""
    seconds, more = measured.get("seconds"), ""
    if seconds is None:
        seconds, more = measured.get("seconds_at_least"), "> "
    if seconds is None:
        return "not known"
    if seconds < 100:
        return f"{more}{seconds:.0f} s"
    minutes = seconds / 60
    return f"{more}{minutes:.0f} min" if minutes < 100 else f"{more}{minutes / 60:.1f} h"


def _day(measured: Mapping[str, Any]) -> str:
    commit = measured.get("commit", "")
    return f"{measured['date']} {commit[:8]}".strip()


if __name__ == "__main__":
    sys.exit(main())
