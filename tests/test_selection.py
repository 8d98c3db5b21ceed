"""The choice of tests: what is full, what is in quarantine, and what a run says of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import selection
from tests.selection import has_test, is_full, matches, read_quarantine

ENTRY = """
[[test]]
test = "test_some.py::test_{number}"
since = "2026-11-23"
symptom = "the page stays empty"
cause = "a wait of five seconds"
"""
CONFTEST = """
from pathlib import Path
import pytest
from tests import selection

selection.FOLDER = Path(__file__).parent
selection.PROGRAMS = ("test_some.py",)
selection.FULL = ("test_full.py",)

def pytest_addoption(parser):
    parser.addoption("--result", type=Path)

def pytest_configure(config):
    for name in ("full", "quarantined", "slow"):
        config.addinivalue_line("markers", f"{name}: one")
    config.pluginmanager.register(selection.Selection(config), "selection")
"""
FAILS_ONCE = """
import pytest
tried = set()

@pytest.mark.parametrize("number", range({count}))
def test_once(number):
    first = number not in tried
    tried.add(number)
    assert not first
"""


def run(folder: Path, *arguments: str, quarantine: str = "") -> subprocess.CompletedProcess[str]:
    """Run pytest over a folder of tests with the project's selection."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "quarantine.toml").write_text(quarantine)
    (folder / "durations.json").write_text('{"test_b.py": 2.0, "test_c.py": 3.0}')
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--randomly-seed=1",
         "-c", "/dev/null", "--rootdir", str(folder), *arguments, str(folder)],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTEST_ADDOPTS": ""},  # noqa: TID251  handed on to a child
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("hub/test_run.py", True),
        ("hub/*", True),
        ("hub/test_run.py::test_it", True),
        ("hub/test_run.py::test_it[a-1]", True),
        ("hub/test_run.py::test_it[b]", False),
        ("hub/test_run.py::test_other", False),
        ("hub", False),
    ],
)
def test_a_pattern_names_a_folder_a_file_a_test_or_one_of_its_cases(
    pattern: str, *, named: bool
) -> None:
    assert matches("hub/test_run.py::test_it[a-1]", [pattern]) == named


def test_what_the_gate_names_is_not_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "FULL", ("journeys/*",))
    monkeypatch.setattr(selection, "GATE", ("journeys/test_a.py",))
    assert is_full("journeys/test_b.py::test_it", is_slow=False)
    assert not is_full("journeys/test_a.py::test_it", is_slow=True)
    assert is_full("hub/test_a.py::test_it", is_slow=True)
    assert not is_full("hub/test_a.py::test_it", is_slow=False)


def test_every_rule_and_every_entry_in_quarantine_names_a_test() -> None:
    folder = Path(__file__).parent
    named = [each.test for each in read_quarantine(folder / "quarantine.toml")]
    patterns = [*selection.FULL, *selection.GATE, *selection.PROGRAMS, *named]
    assert [each for each in patterns if not has_test(each, folder)] == []


def test_an_eleventh_test_in_quarantine_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text("def test_0(): pass\n")
    entries = "".join(ENTRY.format(number=number) for number in range(11))
    done = run(tmp_path, quarantine=entries)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "holds 11 tests, at most 10 may stand there: mend one first" in done.stderr


def test_an_entry_without_its_cause_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "quarantine.toml"
    file.write_text(ENTRY.format(number=1).replace("cause", "because"))
    with pytest.raises(pytest.UsageError, match="test, since, symptom and cause"):
        read_quarantine(file)


def test_a_test_in_quarantine_runs_where_all_run_and_every_run_names_it(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text("def test_0(): pass\ndef test_1(): assert False\n")
    entry = ENTRY.format(number=1)
    gate = run(tmp_path, "-m", "not full and not quarantined", quarantine=entry)
    assert gate.returncode == 0, gate.stdout
    assert "1 passed, 1 deselected" in gate.stdout
    assert "QUARANTINED test_some.py::test_1 since 2026-11-23: the page stays empty" in gate.stdout
    assert run(tmp_path, quarantine=entry).returncode == 1


@pytest.mark.parametrize(("count", "code"), [(3, 0), (4, 1)])
def test_a_fourth_rerun_fails_the_run(tmp_path: Path, count: int, code: int) -> None:
    (tmp_path / "test_some.py").write_text(FAILS_ONCE.format(count=count))
    done = run(tmp_path)
    assert f"{count} passed, {count} rerun" in done.stdout
    assert "RERUN test_some.py::test_once[0]" in done.stdout
    assert done.stdout.count("assert not first") == count  # why each failed the first time
    assert done.returncode == code


def test_a_test_without_programs_is_not_run_again(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(FAILS_ONCE.format(count=1))
    assert run(tmp_path).returncode == 1


def test_files_run_in_the_order_of_their_seconds(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"test_{name}.py").write_text("def test_it(): pass\n")
    said = run(tmp_path).stdout
    places = [said.index(f"test_{name}.py::test_it") for name in "cba"]
    assert places == sorted(places)


def test_a_long_test_is_listed_and_fails_the_full_run(tmp_path: Path) -> None:
    long = "from tests import selection\nselection.MOST_PROCESSOR_S = 0.0\ndef test_it(): pass\n"
    (tmp_path / "test_some.py").write_text(long)
    (tmp_path / "test_full.py").write_text("def test_it(): pass\n")
    gate = run(tmp_path)
    assert gate.returncode == 0
    assert "TOO LONG test_some.py::test_it" in gate.stdout
    assert "TOO LONG test_full.py" not in gate.stdout
    assert run(tmp_path, f"--result={tmp_path / 'r.json'}").returncode == 1


def test_the_full_run_keeps_its_result_and_the_seconds_of_each_file(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text("def test_it(): pass\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    result = tmp_path / "r.json"
    assert run(tmp_path, f"--result={result}").returncode == 0
    found = json.loads(result.read_text())
    assert (found["result"], found["passed"], found["failed"]) == ("passed", 1, 0)
    assert len(found["commit"]) == 40
    assert list(json.loads((tmp_path / "durations.json").read_text())) == ["test_some.py"]
