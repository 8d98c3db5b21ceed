"""What a person gets without a checkout: the wheel, with everything the demo needs inside."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
ALONE = ["--no-deps", "--no-build-isolation", "--no-index"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_the_wheel_carries_examples_pages_and_migrations(tmp_path: Path) -> None:
    subprocess.run(
        [*PIP, "wheel", *ALONE, "--wheel-dir", str(tmp_path), str(ROOT)],
        check=True,
    )
    wheel = next(tmp_path.glob("lineside-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "lineside/examples/warehouse/plant.toml" in names
    assert "lineside/examples/warehouse/real.toml" in names
    for folder, ending in [
        ("lineside/hub/pages/templates/", ".html"),
        ("lineside/hub/pages/static/", ".js"),
        ("lineside/web/static/", ".css"),
        ("lineside/edge/page/static/", ".js"),
        ("lineside/edge/page/templates/", ".html"),
        ("lineside/store/migrations/versions/", ".py"),
    ]:
        assert any(name.startswith(folder) and name.endswith(ending) for name in names), folder


def test_the_demo_finds_its_plant_file_inside_an_installed_package(tmp_path: Path) -> None:
    subprocess.run(
        [*PIP, "install", *ALONE, "--target", str(tmp_path), str(ROOT)],
        check=True,
    )
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import lineside; "
        "from lineside.cli.demo.stage import example; "
        "print(lineside.__file__); print(example('warehouse', 'plant.toml'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert all(line.startswith(str(tmp_path)) for line in done.stdout.splitlines())
