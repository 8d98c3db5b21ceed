"""The first day of a new user, on the way that ``benchmarks/first_day.py`` measures.

It ends when a verdict came on MQTT, the coil of a PLC switched, and a panel of a dashboard has an
answer. A bare Debian and the wheels are kept in pytest's cache.
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

DAY = Path(__file__).parents[2] / "benchmarks" / "first_day.py"
MOST_PROCESSOR_S = 900.0


def test_from_a_bare_debian_to_verdict_coil_and_dashboard(
    pytestconfig: pytest.Config, tmp_path: Path, absent: Callable[[str, str], NoReturn]
) -> None:
    if os.geteuid() or not all(map(shutil.which, ("debootstrap", "prometheus"))):
        absent("root", "the first day needs root, debootstrap and Prometheus")
    cache, out = pytestconfig.cache, tmp_path / "first_day.json"
    assert cache is not None
    folder = cache.mkdir("first-day")
    subprocess.run([sys.executable, DAY, "--folder", folder, "--out", out], check=True)
    assert json.loads(out.read_bytes())["processor_s"] < MOST_PROCESSOR_S
