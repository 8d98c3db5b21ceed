"""Choice of tests: those of the gate, those of ``make full`` alone, and those in quarantine.

1. A test is ``full`` when ``FULL`` names its file or when it is marked ``slow``. What ``GATE``
   names is not: these are the journeys and the real servers that the gate runs once each.
2. ``slow`` goes by measurement: any other test that takes more than ``MOST_PROCESSOR_S`` is listed
   after every run, and fails ``make full``.
3. A test of ``quarantine.toml`` runs in ``make full`` alone. Every run lists all of them. At most
   ``MOST_QUARANTINED`` may stand there; with one more, no test runs.
4. A test that starts real programs runs once more when it fails. Every run prints the failures
   before these reruns; with more than ``MOST_RERUNS`` of them the run fails.
5. Files run in the order of their seconds in ``durations.json``, longest first. One that begins
   last would keep a single worker busy while the others have nothing left.
"""

import fnmatch
import json
import resource
import subprocess
import time
import tomllib
from collections import defaultdict
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
FULL = (
    "browser/*",
    "faults/*",
    "journeys/*",
    "library/test_notebooks.py",
    "links/test_kafka.py",
    "test_budget.py",
    "test_deploy.py",
    "test_packaging.py",
)
GATE = (
    "browser/test_new_inspection.py",
    "journeys/test_real_rack.py",
    "journeys/test_real_socks.py",
    "journeys/test_rollout.py",
)
PROGRAMS = ("browser/*", "faults/*", "journeys/*")
"""Files whose tests start real programs."""
MOST_QUARANTINED = 10
MOST_RERUNS = 3
MOST_PROCESSOR_S = 5.0
_PROCESSOR = "processor_s"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedTest:
    """A test that failed without a defect in the product.

    Attributes:
        test: its file from the folder of tests on, ``::``, its name without parameters.
        since: the day of the entry, ISO 8601.
        symptom: of the failure.
        cause: the suspected one.
    """

    test: str
    since: str
    symptom: str
    cause: str


def read_quarantine(path: Path) -> tuple[QuarantinedTest, ...]:
    """Return the tests in quarantine.

    Raises:
        pytest.UsageError: an entry lacks a field, or there are more than ``MOST_QUARANTINED``.
    """
    entries = tomllib.loads(path.read_text()).get("test", [])
    if len(entries) > MOST_QUARANTINED:
        raise pytest.UsageError(
            f"{path.name} holds {len(entries)} tests, at most {MOST_QUARANTINED} may stand there: "
            "mend one first"
        )
    try:
        return tuple(QuarantinedTest(**entry) for entry in entries)
    except TypeError as error:
        raise pytest.UsageError(
            f"{path.name}: an entry has test, since, symptom and cause: {error}"
        ) from error


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether one of the patterns names a test, its file or its function.

    Args:
        name: of a test, such as ``hub/test_run.py::test_it[one]``.
        patterns: ``hub/test_run.py``, ``hub/*``, ``hub/test_run.py::test_it`` or with parameters.
    """
    file = name.partition("::")[0]
    parts = (file, name.partition("[")[0], name)
    return any(
        part == each or fnmatch.fnmatchcase(part, each) for part in parts for each in patterns
    )


def is_full(name: str, *, is_slow: bool) -> bool:
    """Return whether only ``make full`` runs a test (rule 1)."""
    return (is_slow or matches(name, FULL)) and not matches(name, GATE)


def has_test(pattern: str, folder: Path) -> bool:
    """Return whether a pattern of ``matches`` names a test that the folder holds."""
    file, _, test = pattern.partition("::")
    return any(
        not test or f"def {test.partition('[')[0]}(" in path.read_text()
        for path in folder.glob(file)
    )


class Selection:
    """Plugin of pytest for the five rules."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._quarantine = read_quarantine(FOLDER / "quarantine.toml")
        self._durations = FOLDER / "durations.json"
        self._file_s: dict[str, float] = json.loads(self._durations.read_text())
        self._result: Path | None = config.getoption("--result")
        self._started_s = time.monotonic()
        self._spent_s: defaultdict[str, float] = defaultdict(float)
        self._too_long: dict[str, float] = {}
        self._reruns: list[tuple[str, str]] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        held = [each.test for each in self._quarantine]
        for item in items:
            name = _name(item.nodeid)
            if is_full(name, is_slow=item.get_closest_marker("slow") is not None):
                item.add_marker("full")
            if matches(name, held):
                item.add_marker("quarantined")
            if matches(name, PROGRAMS):
                item.add_marker(pytest.mark.flaky(reruns=1))
        items.sort(key=lambda item: -self._file_s.get(_name(item.nodeid).partition("::")[0], 0.0))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        before_s = _processor_s()
        try:
            return (yield)
        finally:
            if item.get_closest_marker("full") is None and not matches(_name(item.nodeid), GATE):
                item.user_properties.append((_PROCESSOR, _processor_s() - before_s))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = _name(report.nodeid)
        self._spent_s[name.partition("::")[0]] += report.duration
        if str(report.outcome) == "rerun":
            self._reruns.append((name, report.longreprtext))
        for key, seconds in report.user_properties:
            if key == _PROCESSOR and isinstance(seconds, float) and seconds > MOST_PROCESSOR_S:
                self._too_long[name] = seconds

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        write = terminalreporter.write_line
        for each in self._quarantine:
            write(f"QUARANTINED {each.test} since {each.since}: {each.symptom}")
        for name, failure in self._reruns:
            write(f"{failure}\nRERUN {name}")
        for name, seconds in sorted(self._too_long.items()):
            write(f"TOO LONG {name}: {seconds:.1f} s of processor time; mark it slow")
        write(f"{len(self._quarantine)} in quarantine, {len(self._reruns)} run again")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(self._config, "workerinput"):
            return
        if len(self._reruns) > MOST_RERUNS or (self._result and self._too_long):
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
        if self._result is not None:
            self._write_result(self._result, passed=session.exitstatus == pytest.ExitCode.OK)

    def _write_result(self, path: Path, *, passed: bool) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        assert isinstance(reporter, pytest.TerminalReporter)
        kinds = ("passed", "failed", "error", "skipped", "xfailed", "rerun")
        result = {
            "commit": _git("rev-parse", "HEAD"),
            "changed_files": len(_git("status", "--porcelain").splitlines()),
            "date": datetime.now(UTC).date().isoformat(),
            "result": "passed" if passed else "failed",
            "seconds": round(time.monotonic() - self._started_s),
            "seed": self._config.getoption("randomly_seed"),
            "quarantined": len(self._quarantine),
            **{kind: len(reporter.stats.get(kind, [])) for kind in kinds},
        }
        path.write_text(json.dumps(result, indent=2) + "\n")
        files = {name: round(seconds, 1) for name, seconds in sorted(self._spent_s.items())}
        self._durations.write_text(json.dumps(files, indent=0) + "\n")


def _name(nodeid: str) -> str:
    return nodeid.removeprefix("tests/")


def _processor_s() -> float:
    """Processor seconds of this process and of the programs that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(FOLDER), *arguments],  # noqa: S607  the one on the PATH
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
