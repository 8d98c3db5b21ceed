"""tritonclient, unchanged, in an environment of its own: it needs an older protobuf than we do."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from lineside.core import SystemClock
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig
from lineside.hub.models.model_service import Registration
from lineside.hub.run import RunningHub, running
from lineside.models.wrap import read_wrapping, wrapped
from lineside.testing.engines import shades
from lineside.vision import encode_png
from tests.models.test_wrap import SHADES

CLIENT = "tritonclient[http,grpc]==2.73.0"
SCRIPT = Path(__file__).with_name("triton_client.py")
MODEL = "shades"

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest, absent: Callable[[str, str], NoReturn]) -> Path:
    """The interpreter of an environment that has the client; made once, kept in pytest's cache."""
    cache = request.config.cache
    assert cache is not None
    folder = cache.mkdir("tritonclient") / CLIENT.rpartition("=")[2]
    found, ready = folder / "bin" / "python", folder / "ready"
    if ready.exists():
        return found
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if made.returncode:
        absent("service", f"no environment can be made here: {made.stderr[-200:]}")
    try:
        got = subprocess.run(
            [str(found), "-m", "pip", "install", "--quiet", CLIENT],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        absent("service", "tritonclient could not be installed within five minutes")
    if got.returncode:
        absent("service", f"tritonclient cannot be installed here: {got.stderr[-200:]}")
    ready.touch()
    return found


@pytest.fixture
def hub(config: HubConfig, tmp_path: Path) -> Iterator[RunningHub]:
    settings = replace(
        config, records=SecretUrl(""), blobs=SecretUrl(""), single_person=True,
        inference_grpc="127.0.0.1:0",
        data_dir=str(tmp_path / "hub"),
    )  # fmt: skip
    wrapping = read_wrapping(SHADES.encode(), where="wrap.toml")
    package = wrapped(shades(), wrapping, pictures=[], clock=SystemClock())
    with running(settings, clock=SystemClock()) as found:
        digest = found.services.packages.add(package, by="ada").digest
        found.services.models.register(MODEL, Registration(package=digest), by="ada")
        found.services.models.approve(MODEL, 1, by="eve", reason="seen")
        yield found


def test_tritonclient_works_unchanged(python: Path, hub: RunningHub, tmp_path: Path) -> None:
    picture = tmp_path / "bright.png"
    picture.write_bytes(encode_png(np.full((20, 20, 3), 250, np.uint8)))
    token = hub.services.auth.issue_token("triton", kind="api")
    http = hub.url.partition("://")[2]
    done = subprocess.run(
        [str(python), str(SCRIPT), http, hub.inference, token, MODEL, str(picture)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for transport in ("http", "grpc"):
        said = found[transport]
        assert said["decisions"] == ["absent", "present"]
        assert said["probabilities"][1] == pytest.approx(1.0, abs=1e-4)
        assert said["logits"] == pytest.approx([-7.686, 7.686], abs=0.01)
        assert (said["server"], said["versions"], said["missing"]) == ("lineside", ["1"], [])
        assert len(said["failures"]) == 2
        assert "no approved model 'nothing'" in said["failures"][0]
        assert "inputs crops, image" in said["failures"][1]
