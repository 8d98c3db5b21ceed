"""``benchmarks/renew.py`` over a folder of small benchmarks, run as a program."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAD = "| File | Question | Last answer | Time | Measured |\n|---|---|---|---|---|\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of benchmarks without any row."""
    made = tmp_path / "benchmarks"
    (made / "results").mkdir(parents=True)
    for name in ("renew.py", "measure.py"):
        shutil.copy(ROOT / "benchmarks" / name, made)
    (made / "README.md").write_text(HEAD)
    return made


def add(
    folder: Path, name: str, code: str, *, options: str = "", day: str, **measured: int
) -> Path:
    """Add a benchmark with a row, and a result of a day that says 1."""
    text = f"import measure, sys, time\n{code}\n"
    text += f"measure.write({name!r}, {{'n': 2}}, lambda one: str(one['n']) + ' found.')\n"
    (folder / f"{name}.py").write_text(text)
    result = folder / "results" / f"{name}.json"
    result.write_text(json.dumps({"measured": {"date": day, **measured}, "answer": "1.", "n": 1}))
    options = options and f" `{options}`"
    with (folder / "README.md").open("a") as table:
        table.write(
            f"| [`{name}.py`]({name}.py){options} | How many? | | | [x](results/{name}.json) |\n"
        )
    return result


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, folder / "renew.py", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_oldest_come_first_and_the_table_has_their_answers(folder: Path) -> None:
    for name, day in (("newer", "2026-01-02"), ("older", "2026-01-01")):
        add(folder, name, "", day=day)
    add(folder, "fails", "sys.exit('no camera')", day="2026-01-03")
    add(folder, "needs", "", day="2026-01-01", options="--data $NOWHERE_SET")
    add(folder, "long", "", day="2026-01-01", seconds=5000)
    done = run(folder, "--minutes", "5")
    lines = done.stdout.splitlines()
    assert lines[0] == "older.py "
    assert lines[2:4] == [
        "left out needs.py: NOWHERE_SET is not set",
        "left out long.py: takes 83 min",
    ]
    assert lines[4:6] == ["newer.py ", "  2 found."]
    assert (done.returncode, lines[-1]) == (1, "  no new result (exit status 1): no camera")
    table = (folder / "README.md").read_text().removeprefix(HEAD).splitlines()
    assert table[1].startswith("| [`older.py`](older.py) | How many? | 2 found. | 0 s | [20")
    assert table[2].startswith(
        "| [`fails.py`](fails.py) | How many? | 1. | not known | [2026-01-03]"
    )
    assert run(folder, "--minutes", "0").stdout.count("left out") == 5


def test_what_takes_too_long_is_stopped_and_passed_over_the_next_time(folder: Path) -> None:
    part = "measure.write('slow', {'n': 9}, lambda one: 'A part.')\ntime.sleep(60)"
    result = add(folder, "slow", part, day="2026-01-01")
    assert run(folder, "--minutes", "0.02").stdout.splitlines()[1:] == ["  stopped after 1 s"]
    stored = json.loads(result.read_bytes())
    assert (stored["answer"], stored["measured"]["seconds_at_least"]) == ("1.", 2)
    assert run(folder, "--minutes", "0.02").stdout == "left out slow.py: takes > 2 s\n"


def test_a_run_of_some_rows_does_not_hide_how_long_all_take(folder: Path) -> None:
    part = "measure.write('rows', {'n': 9}, lambda one: 'A part.', is_part=True)\nsys.exit()"
    result = add(folder, "rows", part, day="2026-01-01", seconds=400)
    run(folder, "rows.py")
    assert json.loads(result.read_bytes())["measured"]["seconds_at_least"] == 400
    assert run(folder, "--minutes", "5").stdout == "left out rows.py: takes > 7 min\n"


def test_a_missed_target_is_said_and_a_failure_keeps_the_former_result(folder: Path) -> None:
    add(folder, "misses", "import atexit, os\natexit.register(os._exit, 1)", day="2026-01-01")
    part = "measure.write('breaks', {'n': 9}, lambda one: 'A part.')\nraise ValueError('torn')"
    broken = add(folder, "breaks", part, day="2026-01-02")
    done = run(folder, "misses.py", "breaks.py")
    assert done.stdout.splitlines()[1::2] == [
        "  2 found. A target is missed.",
        "  no new result (exit status 1): ValueError: torn",
    ]
    assert (done.returncode, json.loads(broken.read_bytes())["answer"]) == (1, "1.")
    assert "not in the table of README.md: typo.py" in run(folder, "typo.py").stderr
