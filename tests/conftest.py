"""What every test gets: real pictures where they are, and a check for what it leaves behind."""

import importlib.util
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("lineside.testing")
# How long an example takes, or its making, depends on what else the machine does; it is no property
# of the code. The gate tries the same examples in every run, ``make full`` draws new ones.
_ANY_SPEED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("full", _ANY_SPEED, print_blob=True)
settings.register_profile("gate", _ANY_SPEED, derandomize=True)
settings.load_profile("gate")

from lineside.core import SystemClock  # noqa: E402  pytest must rewrite lineside.testing first
from lineside.testing import FakeClock  # noqa: E402
from tests.selection import Selection  # noqa: E402

if TYPE_CHECKING:
    from lineside.store import Records
    from tests.links.conftest import Mosquitto
    from tests.links.hooks import Hooks

_REQUIRED = os.environ.get("LINESIDE_REQUIRE", "")  # noqa: TID251  the tests' own switch
# pytest sets the first for each test; cv2, sklearn (two) and torch the others when first used.
_NOT_OURS = (
    "PYTEST_CURRENT_TEST",
    "LD_LIBRARY_PATH",
    "KMP_DUPLICATE_LIB_OK",
    "KMP_INIT_AT_FORK",
    "TORCHINDUCTOR_CACHE_DIR",
)
# Java of pyspark, and multiprocessing's own.
_KEPT_PROGRAMS = ("org.apache.spark.deploy.SparkSubmit", "multiprocessing.resource_tracker")
_DATA = os.environ.get("LINESIDE_DATA", "")  # noqa: TID251  the tests' own switch


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--screenshots FOLDER`` writes images of the main pages, ``--result FILE`` what ran."""
    parser.addoption("--screenshots", type=Path, metavar="FOLDER", help="write pictures of pages")
    parser.addoption(
        "--result", type=Path, metavar="FILE",
        help="write counts and seconds there, and the files' seconds to durations.json",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Choose and order the tests."""
    config.pluginmanager.register(Selection(config), "selection")


def skip_or_fail(kind: str, reason: str) -> None:
    """Skip with the reason; where ``LINESIDE_REQUIRE`` names the kind, that is a failure."""
    if kind in _REQUIRED.split(","):
        pytest.fail(f"required here: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def absent() -> Callable[[str, str], None]:
    """Call it with kind and reason where a test cannot run on this machine."""
    return skip_or_fail


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real pictures; skips with a reason where there is none."""
    if not _DATA or not Path(_DATA).is_dir():
        skip_or_fail("data", "LINESIDE_DATA does not name the folder of real pictures")
    return Path(_DATA).resolve()


@pytest.fixture
def clock() -> FakeClock:
    """A clock that only the test moves."""
    return FakeClock()


@pytest.fixture(autouse=True, scope="session")
def updater_time() -> Iterator[None]:
    """Let python-tuf's updater judge expiry by the clock that its thread read last.

    It reads the machine's clock when it is made and takes no other; a device reads the clock it
    was given just before.
    """
    if importlib.util.find_spec("tuf") is None:
        yield
        return
    thread, fake_now, system_now = threading.local(), FakeClock.now, SystemClock.now

    def read_fake(clock: FakeClock) -> datetime:
        thread.now = fake_now(clock)
        return fake_now(clock)

    def read_system(clock: SystemClock) -> datetime:
        thread.now = system_now(clock)
        return system_now(clock)

    class Now(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            moment: datetime = getattr(thread, "now", datetime.now(tz))
            return moment

    library = "tuf.ngclient._internal.trusted_metadata_set.datetime"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeClock, "now", read_fake)
        patch.setattr(SystemClock, "now", read_system)
        patch.setattr(library, SimpleNamespace(datetime=Now, timezone=SimpleNamespace(utc=UTC)))
        yield


@pytest.fixture
def records(clock: FakeClock) -> "Iterator[Records]":
    """An empty store in memory."""
    from lineside.store import open_records

    with open_records("memory://", clock=clock) as opened:
        yield opened


@pytest.fixture
def hooks() -> "Iterator[Hooks]":
    """A receiver of webhooks."""
    from tests.links.hooks import hooks_server

    with hooks_server() as server:
        yield server


@pytest.fixture
def mosquitto(tmp_path: Path, absent: Callable[[str, str], None]) -> "Iterator[Mosquitto]":
    """A mosquitto that runs."""
    from tests.links.conftest import MOSQUITTO, Mosquitto

    if MOSQUITTO is None:
        absent("service", "mosquitto is not installed")
    server = Mosquitto(folder=tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mock_kafka() -> Iterator[str]:
    """Brokers of librdkafka's mock cluster, which lives in this process."""
    from tests.links.mock_kafka import mock_cluster

    with mock_cluster() as cluster:
        yield cluster.brokers


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread or an environment variable."""
    from lineside.testing.links import LONG_S

    threads = set(threading.enumerate())
    environment = dict(os.environ)  # noqa: TID251  compared, not read
    yield
    left = [thread for thread in threading.enumerate() if thread not in threads]
    for thread in left:
        thread.join(LONG_S)
    names = [thread.name for thread in left if thread.is_alive()]
    assert not names, f"threads left running: {names}"
    now = {k: v for k, v in os.environ.items() if k not in _NOT_OURS}  # noqa: TID251
    before = {k: v for k, v in environment.items() if k not in _NOT_OURS}
    assert now == before, "environment variables changed"


@pytest.fixture(autouse=True, scope="module")
def no_program_left() -> Iterator[None]:
    """End the programs that a module's tests left running, and fail for them.

    One that a test of another module would meet makes that one fail, for no fault of its own.
    """
    from lineside.testing.links import LONG_S

    before = set(psutil.Process().children(recursive=True))
    yield
    left = [one for one in psutil.Process().children(recursive=True) if one not in before]
    commands = {one: command for one in left if (command := _command(one))}
    _, running = psutil.wait_procs(list(commands), timeout=LONG_S)
    for one in running:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    assert not running, f"programs left running: {[commands[one] for one in running]}"


def _command(program: psutil.Process) -> str:
    """The command of a program; empty where it is over or a library keeps it while Python runs."""
    try:
        command = " ".join(program.cmdline())
    except psutil.Error:
        return ""
    return "" if any(name in command for name in _KEPT_PROGRAMS) else command
