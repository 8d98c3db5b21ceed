"""What every benchmark here shares: the machine it ran on, percentiles, a JSON file of results.

Times are wall time by a monotonic clock. A figure without its machine, its day and its commit says
nothing, so ``write`` adds them to every result. Each benchmark has a function ``answer`` that makes
one sentence of its stored result; ``renew.py`` puts these sentences into ``README.md``.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

Answer = Callable[[dict[str, Any]], str]
"""From a stored result, as JSON gives it, to its sentence in ``README.md``."""

BEGAN_S = perf_counter()
RESULTS = Path(__file__).parent / "results"
_LIBRARIES = (
    "lineside",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "sqlalchemy",
    "torch",
    "amqtt",
    "opencv-python-headless",
)


def machine() -> dict[str, object]:
    """Processor, cores that may be used, memory, system, and versions of what matters."""
    return {
        "processor": _line("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int((_line("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / 1e6, 1),
        "scheduler": "usual" if os.sched_getscheduler(0) == os.SCHED_OTHER else "real time",
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": {name: found for name in _LIBRARIES if (found := _version(name))},
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Count, and median, 95th, 99th percentile, largest in milliseconds (nearest rank)."""
    ordered = sorted(seconds)
    if not ordered:
        return {"n": 0}

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 4)

    return {
        "n": len(ordered),
        "p50_ms": at(0.5),
        "p95_ms": at(0.95),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
    }


def timed(call: Callable[[], object], *, times: int, warm_up: int = 20) -> list[float]:
    """Seconds of each of ``times`` calls, after some that do not count."""
    for _ in range(warm_up):
        call()
    taken = []
    for _ in range(times):
        start = perf_counter()
        call()
        taken.append(perf_counter() - start)
    return taken


def provenance() -> dict[str, object]:
    """Day, commit and number of uncommitted files without results; the day alone without git."""
    day = {"date": datetime.now(UTC).date().isoformat()}
    try:
        changed = _git(
            "status", "--porcelain", "--", ":/", ":(exclude)results", ":(exclude)README.md"
        )
        return {
            **day,
            "commit": _git("rev-parse", "HEAD"),
            "changed_files": len(changed.splitlines()),
        }
    except (OSError, subprocess.CalledProcessError):
        return {**day}


def write(
    name: str,
    result: Mapping[str, object],
    answer: Answer,
    *,
    out: Path | None = None,
    is_part: bool = False,
) -> Path:
    """Keep a result under ``results/<name>.json``, or ``out``, with its machine, day and commit.

    Args:
        name: of the result.
        result: what was measured.
        answer: makes the result's sentence of what is stored; printed too.
        out: another file.
        is_part: this run measured some rows only; the longest run so far stays known.
    """
    path = out or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    measured = {**provenance(), "seconds": round(perf_counter() - BEGAN_S, 1)}
    if is_part and path.exists():
        former = json.loads(path.read_bytes())["measured"]
        known = [former[key] for key in ("seconds", "seconds_at_least") if key in former]
        measured["seconds_at_least"] = max(known, default=0.0)
    head = {"machine": machine(), "measured": measured}
    own = {key: value for key, value in result.items() if key not in {*head, "answer"}}
    figures = json.loads(json.dumps(own, default=str))
    said = "No answer could be made of these figures."
    try:
        said = answer({**head, **figures})
    finally:  # what took hours is kept
        path.write_text(json.dumps({**head, "answer": said, **figures}, indent=2) + "\n")
    sys.stdout.write(f"{said}\n")
    return path


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), *arguments],  # noqa: S607  the one on the PATH
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def _line(file: str, key: str) -> str:
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
