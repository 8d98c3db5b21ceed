"""The first day of a new user, on the way that ``benchmarks/first_day.py`` measures.

Docker and Compose build and start what ``deploy/`` has, by the commands of the documentation. It
ends when a verdict came on MQTT, the coil of a PLC switched, a panel of a dashboard has an answer,
and the containers went on after a kill, a restart, an upgrade, a new start and a restored backup.
Where an emulator is registered, a device of ARM takes the line over then. Bare systems and the
wheels are kept in pytest's cache.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

EMULATOR = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
DAY = Path(__file__).parents[2] / "benchmarks" / "first_day.py"


def test_from_a_bare_debian_to_verdict_coil_dashboard_and_an_upgrade(
    pytestconfig: pytest.Config, tmp_path: Path, absent: Callable[[str, str], NoReturn]
) -> None:
    if os.geteuid() or not shutil.which("debootstrap"):
        absent("root", "the first day needs root and debootstrap")
    cache, out = pytestconfig.cache, tmp_path / "first_day.json"
    assert cache is not None
    folder = cache.mkdir("first-day")
    arm = ["--arm"] if EMULATOR.exists() else []
    subprocess.run([sys.executable, DAY, *arm, "--folder", folder, "--out", out], check=True)
    found = json.loads(out.read_bytes())
    assert found["total_s"] < 900
    assert len(found["operation"]) == 6 + len(arm)
