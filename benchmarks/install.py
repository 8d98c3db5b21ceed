"""What an installation takes on the disk, and how soon its programs answer.

    python benchmarks/install.py [--rounds 5] [--keep FOLDER]

1. The wheel of this tree, installed with the extras ``edge``, ``hub``, ``train`` and with none,
   each into a new virtual environment of its own (pip takes the libraries from where it always
   does): megabytes of its packages, pip left out, and the ten largest.
2. In each: ``import lineside``, ``lineside --help``; with ``edge`` also ``lineside predict`` of one
   image with a new package, cold, and from the start of ``lineside edge`` until its package is in
   use (as ``edge.py`` measures it); with ``hub`` also from the start of
   ``lineside hub`` on an empty folder until ``/readyz`` says 200, and again on the folder that the
   first start made.

``--keep`` uses the environments of a folder again, with the wheel of this tree in them.

Programs take turns over all rounds, and each round starts an empty Python beside them: medians,
and their ratio to that; processor time too, of a hub until it has stopped. Targets: edge 250 MB,
hub 450 MB, ``import lineside`` 150 ms, ``--help`` 200 ms, predict 500 ms, hub 1.2 s. Results:
results/install.json; the exit status is 1 when one is missed.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import Distribution, distributions
from pathlib import Path
from statistics import median
from typing import Any

import measure
from edge import measure_start, signed_folder
from serving import PLANT, package, picture

ROOT = Path(__file__).parents[1]
KINDS = ("base", "edge", "hub", "train")
TARGETS = {
    "edge MB": 250.0, "hub MB": 450.0, "edge import": 0.15, "edge help": 0.2, "edge predict": 0.5,
    "hub first start": 1.2, "hub next start": 1.2,
}  # fmt: skip
CUT = (
    "hub: pyarrow, 176 MB, is the extra parquet",
    "edge: OpenCV, ONNX Runtime and NumPy alone take 311 MB; each is needed for an answer",
    "every command: its own module is imported, not those of all commands",
    "predict: the store is not imported; each file of a package is hashed once",
    "hub: gRPC and protobuf are imported where they are used; no garbage collection before ready",
    "hub: modules of routes and pages are imported when it is ready, or when a request is for one",
    "hub, first start: an empty store is made from its tables, without Alembic",
)
NEVER_S = 60.0


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--keep", type=Path)
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = given.keep or Path(made)
        folder.mkdir(exist_ok=True)
        sizes = {kind: size_of(installed(kind, folder)) for kind in KINDS}
        (folder / "parts.lspkg").write_bytes(package())
        (folder / "part.jpg").write_bytes(picture())
        (folder / "plant.toml").write_text(PLANT)
        programs = programs_in(folder)
        seconds: dict[str, list[float]] = {name: [] for name in programs}
        processor: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(given.rounds):
            for name, run in programs.items():
                before_s = processor_s()
                seconds[name].append(run())
                processor[name].append(processor_s() - before_s)
    found = {name: round(median(taken), 3) for name, taken in seconds.items()}
    figures = {f"{kind} MB": size["mb"] for kind, size in sizes.items()} | found
    missed = {name: most for name, most in TARGETS.items() if figures[name] > most}
    for name, figure in figures.items():
        print(
            f"{name:18} {figure:8.3f}" + (f"  more than {missed[name]}" if name in missed else "")
        )
    measure.write(
        "install",
        {
            "rounds": given.rounds, "sizes": sizes, "targets": TARGETS, "missed": sorted(missed),
            "cut": CUT, "median_s": found, "median_processor_s": {
                name: round(median(taken), 3) for name, taken in processor.items()
            }, "of_empty_python": {
                name: round(taken / found["python"], 1) for name, taken in found.items()
            },
        },
        answer,
    )  # fmt: skip
    return 1 if missed else 0


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    measured = {f"{kind} MB": size["mb"] for kind, size in result["sizes"].items()}
    measured |= result["median_s"]
    shown = {
        "edge MB": "Edge", "hub MB": "hub", "edge predict": "`predict`",
        "edge start": "edge agent", "hub first start": "hub",
    }  # fmt: skip
    missed = result["missed"]

    def said(name: str) -> str:
        number, unit = (".0f", "MB") if name.endswith("MB") else (".1f", "s")
        target = f" (target {result['targets'][name]:g} {unit} missed)" if name in missed else ""
        return f"{shown[name]} {measured[name]:{number}} {unit}{target}"

    others = ", ".join(name for name in missed if name not in shown)
    also = f"; also missed: {others}" if others else ""
    return f"{', '.join(map(said, shown))}; medians of {result['rounds']} rounds{also}."


def installed(kind: str, folder: Path) -> Path:
    """The virtual environment with this tree's wheel and the extra of a kind."""
    place = folder / kind
    extra = "" if kind == "base" else f"[{kind}]"
    command: list[str | Path] = [
        place / "bin" / "pip", "install", "--quiet", f"lineside{extra} @ {ROOT.as_uri()}"
    ]  # fmt: skip
    if place.exists():
        command += ["--no-deps", "--force-reinstall"]
    else:
        venv.create(place, with_pip=True)
    subprocess.run(command, check=True)
    return place


def size_of(place: Path) -> dict[str, Any]:
    """Megabytes of an environment's packages, and the largest of them."""
    (site,) = place.glob("lib/python*/site-packages")
    found = {one.metadata["Name"]: megabytes(one) for one in distributions(path=[str(site)])}
    for name in ("pip", "setuptools"):
        found.pop(name, None)
    largest = sorted(found.items(), key=lambda one: -one[1])[:10]
    return {
        "mb": round(sum(found.values()), 1), "distributions": len(found),
        "largest": {name: round(size, 1) for name, size in largest},
    }  # fmt: skip


def megabytes(one: Distribution) -> float:
    """Size of the files that a distribution brought, those that Python compiled left in."""
    paths = [Path(str(one.locate_file(file))) for file in one.files or ()]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def programs_in(folder: Path) -> dict[str, Callable[[], float]]:
    """Name → what runs a program once and returns its seconds."""
    programs: dict[str, Callable[[], float]] = {
        "python": lambda: seconds_of(folder / "base/bin/python", "-c", "pass"),
    }
    for kind in KINDS:
        python, command = folder / kind / "bin/python", folder / kind / "bin/lineside"
        programs[f"{kind} import"] = lambda python=python: seconds_of(
            python, "-c", "import lineside"
        )  # type: ignore[misc]  # a default of a lambda
        programs[f"{kind} help"] = lambda command=command: seconds_of(command, "--help")  # type: ignore[misc]
    edge, hub = folder / "edge/bin/lineside", folder / "hub/bin/lineside"
    package_file, image_file = folder / "parts.lspkg", folder / "part.jpg"
    programs["edge predict"] = lambda: seconds_of(edge, "predict", package_file, image_file)
    shutil.rmtree(folder / "signed", ignore_errors=True)
    device = signed_folder(folder / "signed", package_file.read_bytes())
    plant = folder / "plant.toml"
    programs["edge start"] = lambda: float(
        str(measure_start(device, python=folder / "edge/bin/python", plant=plant)["in_use_s"])
    )
    programs["hub first start"] = lambda: seconds_to_ready(hub, new_site(folder))
    programs["hub next start"] = lambda: seconds_to_ready(hub, folder / "site")
    return programs


def processor_s() -> float:
    """Processor time of the programs that ended so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds_of(*command: str | Path) -> float:
    began_s = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began_s


def new_site(folder: Path) -> Path:
    """An empty folder of a hub."""
    site = folder / "site"
    shutil.rmtree(site, ignore_errors=True)
    site.mkdir()
    (site / "plant.toml").write_text('schema = "lineside.plant/1"\nsite = "hall"\n')
    (site / "hub.toml").write_text('data_dir = "data"\nplant = "plant.toml"\nbus_port = 0\n')
    return site


def seconds_to_ready(hub: Path, site: Path) -> float:
    """From the start of a hub's program until it says that it is ready."""
    port, pause = 18_080, threading.Event()
    began_s = time.perf_counter()
    command: list[str | Path] = [hub, "hub", f"--config={site / 'hub.toml'}", f"--port={port}"]
    with subprocess.Popen(
        command, cwd=site, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as running:
        try:
            while time.perf_counter() - began_s < NEVER_S:
                with suppress(urllib.error.URLError, ConnectionError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz")
                    return time.perf_counter() - began_s
                pause.wait(0.01)
        finally:
            running.terminate()
    raise TimeoutError(f"the hub in {site} is not ready after {NEVER_S:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
