"""Wheel and sdist: contents, metadata, dependencies that resolve, and real use once installed.

uv makes them, resolves and installs. What it downloads is kept in pytest's cache, and so are the
environments of other Pythons, in which quick tests run once more.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import numpy as np
import pytest
from packaging.metadata import Metadata
from trove_classifiers import classifiers
from uv import find_uv_bin

import lineside
from lineside.testing.objects import untrained_bytes
from lineside.vision import encode_png
from tests.conftest import skip_or_fail

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
PARTS = ("core", "datasets", "hub", "models", "twin", "vision")
QUICK = "not full and not quarantined and not service and not browser"
EVERY = "every"
# What pip is configured with: uv reads nothing of it.
OF_PIP = {
    "index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
}  # fmt: skip
AWAY = ("client error", "error sending request", "timed out", "Failed to fetch")
NO_WHEEL = "pyspark"  # a source archive of 400 MB, which the extra spark names alone
FROM_SOURCE = "wsdiscovery"  # pure Python, of which only a source archive is published
LINUX, ARM = "x86_64-manylinux_2_28", "aarch64-manylinux_2_28"
USE = """
import sys
other = sys.argv[3] == "other"
if other:  # a system without the modules that only Unix has
    sys.modules |= dict.fromkeys(("fcntl", "grp", "pwd", "resource", "termios"))
import lineside
from lineside.cli.demo.stage import example
print(lineside.__file__)
print(example("warehouse", "plant.toml"))
print(len(lineside.load(sys.argv[1]).predict(sys.argv[2]).boxes))
if other:
    from lineside.cli.app import _run
    assert _run(["edge", "--config", "edge.toml"]) == 7
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Uv = Callable[..., str]


def ran(*words: str | Path, environ: dict[str, str]) -> str:
    """Run a program, which has to end well; return its output."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty folder on the disk of uv's cache, whose files uv links instead of copying them."""
    cache = request.config.cache
    assert cache is not None
    with TemporaryDirectory(dir=cache.mkdir("packaging")) as made:
        yield Path(made)


@pytest.fixture(scope="module")
def environ(place: Path) -> dict[str, str]:
    """The environment of uv and of what it installs; the checkout is not on its path."""
    listed = ran(sys.executable, "-m", "pip", "config", "list", environ=dict(os.environ))  # noqa: TID251
    indexes: dict[str, str] = {}
    for line in listed.splitlines():  # those of the environment, which come first, hold
        name, _, value = line.partition("=")
        known = OF_PIP.get(name.rpartition(".")[2])
        if known:
            between = "," if known == "UV_FIND_LINKS" else " "
            indexes.setdefault(known, between.join(ast.literal_eval(value).split()))
    left_out = place / "no-wheel.txt"
    left_out.write_text(NO_WHEEL)
    outer = {"PYTHONPATH", "PYTEST_ADDOPTS"}
    given = {k: v for k, v in os.environ.items() if k not in outer}  # noqa: TID251
    return {
        "UV_CACHE_DIR": str(place.parent / "uv"), "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1",
        "UV_TOOL_DIR": str(place / "tools"), "UV_TOOL_BIN_DIR": str(place / "bin"),
        "PIPX_HOME": str(place / "pipx"), "PIPX_BIN_DIR": str(place / "pipx" / "bin"),
        "UV_EXCLUDE": str(left_out), **indexes, **given,
    }  # fmt: skip


@pytest.fixture(scope="module")
def uv(environ: dict[str, str], absent: Callable[[str, str], NoReturn]) -> Uv:
    """Return a function that runs uv and returns its output."""

    def run(*words: str | Path) -> str:
        done = subprocess.run(
            [find_uv_bin(), *words], capture_output=True, text=True, check=False, env=environ
        )
        if any(sign in done.stderr for sign in AWAY):
            absent("index", f"no index of packages answers: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return run


@pytest.fixture(scope="module")
def built(uv: Uv, place: Path) -> Path:
    """The folder with the sdist, and the wheel that was made of it."""
    folder = place / "dist"
    uv(
        "build", "--no-build-isolation", f"--python={sys.executable}", f"--out-dir={folder}", ROOT
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


def interpreter_of(version: str) -> Path:
    """The interpreter of a version, or a skip; pyenv's own, because its shims may refuse."""
    of_pyenv = [*Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    on_path = shutil.which(f"python{version}")
    found = [*of_pyenv, *(Path(one) for one in (on_path,) if one and "shims" not in one)]
    if not found:
        skip_or_fail("python", f"Python {version} is not installed")
    return found[0]


def pins(uv: Uv, extras: str, *, version: str, resolution: str, platform: str = LINUX) -> str:
    """The requirements of extras, resolved for an interpreter and a platform.

    Each has a wheel but ``FROM_SOURCE``.
    """
    chosen = ["--all-extras"] if extras == EVERY else [f"--extra={extras}"]
    return uv(
        "pip", "compile", ROOT / "pyproject.toml", *chosen, f"--python={sys.executable}",
        f"--python-version={version}", f"--python-platform={platform}",
        f"--resolution={resolution}", "--only-binary=:all:",
        f"--no-binary={FROM_SOURCE}", "--no-annotate", "--no-header",
    )  # fmt: skip


def test_the_wheel_made_of_the_sdist_has_all_of_the_package_and_nothing_else(
    built: Path, wheel: Path
) -> None:
    there = {
        Path("lineside", folder, path.relative_to(ROOT / root)).as_posix()
        for root, folder in (("src/lineside", ""), ("examples", "examples"))
        for path in (ROOT / root).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for ending in ("/py.typed", ".html", ".css", ".js", ".json", ".toml", "/v0001_first_tables.py"):
        assert any(name.endswith(ending) for name in there), ending
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == there
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as sources:
        tops = {name.split("/")[1] for name in sources.getnames()}
    assert tops == {
        ".gitignore", "CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "examples",
        "pyproject.toml", "src",
    }  # fmt: skip


def test_the_metadata_is_what_an_index_takes(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        found = Metadata.from_email(archive.read(name), validate=True)
    assert {*(found.classifiers or ())} <= classifiers
    assert found.license_expression == "Apache-2.0"
    assert found.license_files == ["LICENSE"]
    assert found.description_content_type == "text/markdown"
    assert found.description == (ROOT / "README.md").read_text()
    named = {one.rpartition(" ")[2] for one in found.classifiers or () if ":: 3." in one}
    assert named == {*VERSIONS}
    assert all(version in (found.requires_python or "") for version in VERSIONS)


@pytest.mark.service
@pytest.mark.parametrize(
    ("extras", "platform", "version", "resolution"),
    [
        *product(["edge"], [ARM], VERSIONS, ["lowest-direct", "highest"]),
        (EVERY, LINUX, "3.11", "lowest-direct"),
        *product([EVERY], [LINUX], VERSIONS, ["highest"]),
    ],
)
def test_the_oldest_and_the_newest_dependencies_resolve(
    uv: Uv, extras: str, platform: str, version: str, resolution: str
) -> None:
    found = pins(uv, extras, version=version, resolution=resolution, platform=platform)
    assert "onnxruntime==" in found


@pytest.mark.service
def test_the_constraints_are_those_that_make_writes(uv: Uv, place: Path) -> None:
    again = Path(shutil.copy(ROOT / "constraints.txt", place))
    uv(
        "pip", "compile", ROOT / "pyproject.toml", "--all-extras", "--universal",
        "--python-version=3.11", "--no-annotate", "--no-header", "--quiet",
        "--excludes=/dev/null", f"--output-file={again}",
    )  # fmt: skip
    assert again.read_text() == (ROOT / again.name).read_text(), "run make constraints"


def check_use(programs: Path, *, place: Path, environ: dict[str, str]) -> None:
    """An installed lineside predicts as command and as library, also where Unix' modules are not.

    What it finds is its own, not this checkout's.
    """
    package, image = place / "parts.lspkg", place / "part.png"
    package.write_bytes(untrained_bytes())
    image.write_bytes(encode_png(np.full((96, 96, 3), 128, np.uint8)))
    command = programs / "lineside"
    assert ran(command, "--version", environ=environ) == f"lineside {lineside.__version__}\n"
    (told,) = json.loads(ran(command, "predict", package, image, "--json", environ=environ))
    for system in ("this", "other"):
        used = ran(programs / "python", "-c", USE, package, image, system, environ=environ)
        *files, boxes = used.splitlines()
        assert all(file.startswith(str(programs.parent)) for file in files)
        assert int(boxes) == len(told["boxes"])


@pytest.mark.service
def test_a_device_predicts_with_the_oldest_dependencies(
    uv: Uv, place: Path, wheel: Path, environ: dict[str, str]
) -> None:
    folder, resolved = place / "oldest", place / "oldest.txt"
    resolved.write_text(pins(uv, "edge", version="3.12", resolution="lowest-direct"))
    uv("venv", f"--python={interpreter_of('3.12')}", folder)
    uv("pip", "sync", f"--python={folder}", resolved)
    uv("pip", "install", f"--python={folder}", "--no-deps", wheel)
    check_use(folder / "bin", place=place, environ=environ)


@pytest.mark.service
@pytest.mark.parametrize(
    ("words", "commands", "home"),
    [("tool install", "bin", "tools"), ("tool run pipx install", "pipx/bin", "pipx/venvs")],
)
def test_uv_and_pipx_install_the_newest_as_a_tool(
    uv: Uv,
    place: Path,
    wheel: Path,
    environ: dict[str, str],
    *,
    words: str,
    commands: str,
    home: str,
) -> None:
    uv(*words.split(), f"--python={interpreter_of('3.13')}", f"{wheel}[edge]")
    printed = ran(place / commands / "lineside", "--version", environ=environ)
    assert printed == f"lineside {lineside.__version__}\n"
    check_use(place / home / "lineside" / "bin", place=place, environ=environ)


@pytest.mark.service
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("version", VERSIONS[1:])
def test_quick_tests_pass_with_another_python(
    uv: Uv, place: Path, environ: dict[str, str], version: str
) -> None:
    folder, pinned = place.parent / f"python{version}", f"--constraint={ROOT / 'constraints.txt'}"
    uv("venv", "--allow-existing", f"--python={interpreter_of(version)}", folder)
    uv("pip", "install", f"--python={folder}", pinned, f"--editable={ROOT}[all,test]")
    ran(
        folder / "bin" / "python", "-m", "pytest", "--quiet", "--reruns=0", f"-m={QUICK}",
        "--randomly-seed=1", "-p", "no:cacheprovider",
        *(ROOT / "tests" / part for part in PARTS), environ=environ,
    )  # fmt: skip
