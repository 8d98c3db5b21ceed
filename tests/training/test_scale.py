"""The same jobs on a Ray cluster of this machine, through the command line.

The commands run in processes of their own: Ray leaves threads and environment variables behind.
"""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from lineside.core import SystemClock, digest_of
from lineside.store import FrameRow, open_blobs, open_records
from lineside.vision import encode_jpeg

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = ("steps=12", "side_px=64", "bf16=0")
SHARED = ("--on", "ray", "--workers", "2")
Absent = Callable[[str, str], None]


@pytest.fixture(scope="module", autouse=True)
def ray_is_there(absent: Absent) -> None:
    if importlib.util.find_spec("ray") is None:
        absent("scale", "ray is not installed")


@pytest.fixture(scope="module")
def dents(write_dents: Callable[[int], Path]) -> Path:
    return write_dents(30)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lineside", *arguments]


def lineside(*arguments: str) -> Any:  # noqa: ANN401  a command's JSON
    done = subprocess.run(command(*arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def training(data: Path, *, settings: tuple[str, ...] = SMALL) -> list[str]:
    chosen = [part for setting in settings for part in ("--setting", setting)]
    return ["train", "--task", "segment", "--data", str(data), "--seed", "5", "--json", *chosen]


def values(result: dict[str, Any]) -> dict[str, float]:
    return {name: metric["value"] for name, metric in result["metrics"].items()}


@pytest.fixture(scope="module")
def shared(dents: Path) -> dict[str, float]:
    """Figures of a training that two workers shared."""
    return values(lineside(*training(dents), *SHARED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """A training by one process."""

    figures: dict[str, float]
    package: Path


@pytest.fixture(scope="module")
def alone(dents: Path, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    package = tmp_path_factory.mktemp("alone") / "dents.lspkg"
    return Alone(figures=values(lineside(*training(dents), "--out", str(package))), package=package)


def test_two_workers_learn_what_one_process_learns(shared: dict[str, float], alone: Alone) -> None:
    assert shared == pytest.approx(alone.figures, abs=0.02)


def test_a_killed_worker_is_survived(dents: Path, shared: dict[str, float], tmp_path: Path) -> None:
    job = tmp_path / "job"
    run = subprocess.Popen(
        command(*training(dents), *SHARED, "--job", str(job)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with run:
        killed = killed_worker(run, job=job)
        out, errors = run.communicate()
    assert run.returncode == 0, errors
    assert killed
    assert values(json.loads(out)) == pytest.approx(shared, abs=1e-6)


def killed_worker(run: "subprocess.Popen[str]", *, job: Path) -> bool:
    """Kill one of the workers once a checkpoint stands; whether that was possible."""
    while run.poll() is None:
        if any(job.glob("ray/training/checkpoint_*")):
            for process in workers_of(run.pid):
                process.kill()
                return True
        with suppress(subprocess.TimeoutExpired):
            run.wait(timeout=0.1)
    return False


def workers_of(pid: int) -> Iterator[psutil.Process]:
    for process in psutil.Process(pid).children(recursive=True):
        try:
            words = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if "TrainWorker" in words or "_RayTrainWorker" in words:
            yield process


def test_four_trials_are_searched_side_by_side(dents: Path, tmp_path: Path) -> None:
    space = tmp_path / "space.toml"
    fixed = "".join(
        f'[[parameter]]\nname = "{name}"\nchoices = [{value}]\n'
        for name, value in (("steps", 4), ("side_px", 64), ("bf16", 0))
    )
    space.write_text(
        'schema = "lineside.search-space/1"\ntrials = 4\nprune = false\n'
        '[[parameter]]\nname = "learning_rate"\nlow = 0.0001\nhigh = 0.01\nlog = true\n' + fixed
    )
    found = lineside(
        "tune", "--task", "segment", "--data", str(dents), "--space", str(space), "--folder",
        str(tmp_path / "study"), "--on", "ray", "--workers", "2", "--json",
    )  # fmt: skip
    done = [trial for trial in found["trials"] if trial["state"] == "done"]
    assert len(done) == 4
    assert all(trial["package"].startswith("sha256:") for trial in done)
    assert all(len(trial["history"]) == 4 for trial in done)
    assert found["best"]["value"] == min(trial["value"] for trial in done)
    assert len({trial["params"]["learning_rate"] for trial in done}) == 4


def test_frames_are_scored_as_by_one_process(alone: Alone, tmp_path: Path) -> None:
    store = tmp_path / "store"
    stored_frames(store, count=70)
    lines = {}
    for on in ("local", "ray"):
        out = tmp_path / f"{on}.jsonl"
        done = subprocess.run(
            command(
                "score",
                str(alone.package),
                "--store",
                str(store),
                "--camera",
                "line",
                "--on",
                on,
                "--out",
                str(out),
            ),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "70 frames scored" in done.stderr
        lines[on] = [without_times(line) for line in out.read_text().splitlines()]
    assert len(lines["local"]) == 70
    assert lines["ray"] == lines["local"]


def stored_frames(store: Path, *, count: int) -> None:
    (store / "blobs").mkdir(parents=True)
    clock, rng = SystemClock(), np.random.default_rng(9)
    with open_records(f"sqlite:///{store}/records.db", clock=clock) as records:
        blobs = open_blobs(f"file://{store}/blobs")
        rows = []
        for number in range(count):
            picture = encode_jpeg(rng.integers(80, 110, (64, 64, 3)).astype(np.uint8))
            rows.append(row_of(picture, number))
            blobs.put(picture)
        records.frames.add(rows)
        blobs.close()


def row_of(picture: bytes, number: int) -> FrameRow:
    from lineside.core import frame_id

    at, digest = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number), digest_of(picture)
    return FrameRow(
        id=frame_id(camera="line", captured_at=at, digest=digest), camera="line", captured_at=at,
        arrived_at=at, digest=digest, thumbnail=digest, width_px=64, height_px=64,
        size_bytes=len(picture),
    )  # fmt: skip


def without_times(line: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(line)
    document["prediction"].pop("latency_ms")
    return document
