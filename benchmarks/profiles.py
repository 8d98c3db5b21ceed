"""Where the processor time of the hot paths goes: a flame graph of each, and its largest costs.

    python benchmarks/profiles.py [--paths predictor,serving,hub,device,ingest,training]
        [--seconds 20]

Real programs, each sampled a thousand times a second by ``sampling/sitecustomize.py``: what counts
is processor time, so that a thread that waits costs nothing.

* ``predictor``: JPEG to decision in one process, EfficientNet-Lite0 at 320 pixels;
* ``serving``: a hub that answers four clients over HTTP with the same package;
* ``hub``, ``device``: one camera at ten frames a second, with a browser on the Lines page;
* ``ingest``: a hub that takes camera frames of 20 kB as fast as it can;
* ``training``: a first model of 200 images with a frozen network.

``results/profiles/<path>.svg`` is the flame graph: the width of a bar is its share of the processor
time, callers above what they call, first row by thread; bars below a five-hundredth are left out.
``results/profiles.json`` names of each path the three threads and the three functions that took
most: a function's own time, that of native code and of libraries that it called included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html import escape
from pathlib import Path
from time import monotonic
from typing import Any

import first_model
import ingest
import live
import measure
import serving
from fleet import Child
from serving_peers import hub_targets, one_round

from lineside.core import SystemClock
from lineside.models import Package, Predictor
from lineside.vision import open_frame

HERE = Path(__file__).parent
FOLDER = "LINESIDE_PROFILE"
Stacks = Counter[tuple[str, ...]]
MOST = 3
LEAST_SHARE = 0.002
WIDTH_PX, ROW_PX, LETTER_PX = 1200, 17, 6.6
TRAINED_IMAGES = 200
INGESTED = 20_000


@contextmanager
def sampled(found: list[tuple[str, Stacks]]) -> Iterator[None]:
    """Sample every Python program that is started inside; command and stacks of each."""
    with tempfile.TemporaryDirectory(prefix="lineside-profile-") as name:
        before = os.environ.get("PYTHONPATH", "")  # noqa: TID251  handed on to children
        path = os.pathsep.join(one for one in (str(HERE / "sampling"), before) if one)
        os.environ |= {"PYTHONPATH": path, FOLDER: name}  # noqa: TID251  likewise
        try:
            yield
        finally:
            os.environ["PYTHONPATH"] = before  # noqa: TID251  likewise
            del os.environ[FOLDER]  # noqa: TID251  likewise
        found += [read(path) for path in sorted(Path(name).glob("*.txt"))]


def begin() -> None:
    """Let the programs be sampled from now on: what their start took is of no interest."""
    (Path(os.environ[FOLDER]) / "begin").touch()  # noqa: TID251  of ``sampled``


def read(path: Path) -> tuple[str, Stacks]:
    """Command and stacks of a program, as ``sampling/sitecustomize.py`` writes them."""
    command, *lines = path.read_text().splitlines()
    stacks = Stacks()
    for line in lines:
        stack, _, spent_us = line.rpartition(" ")
        stacks[tuple(stack.split(";"))] += int(spent_us)
    return command, stacks


# ---- the paths


def loop(seconds: float) -> None:
    """Predict for so long; a program of its own."""
    predictor = Predictor(Package.read(serving.package(serving.PEERS_SIDE)), clock=SystemClock())
    jpeg, since, until = serving.picture(), SystemClock().now(), monotonic() + seconds
    begin()
    while monotonic() < until:
        predictor.predict(open_frame(jpeg, camera="bench", captured_at=since))


def train(folder: str) -> None:
    """Train a first model; a program of its own."""
    data = first_model.write_pictures(Path(folder) / "data", count=TRAINED_IMAGES)
    begin()
    first_model.first_model(data, Path(folder) / "run", cache=Path(folder) / "cache")


def of_predictor(seconds: float) -> None:
    subprocess.run([sys.executable, __file__, "--loop", str(seconds)], check=True)


def of_training(_seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, __file__, "--train", folder], check=True)


def of_serving(seconds: float) -> None:
    hub = Child(str(serving.__file__), "--serve")
    try:
        facts, jpeg = hub.answer(), serving.picture()
        targets = hub_targets(facts, jpeg, model=serving.MODEL, process=hub.usage)
        begin()
        one_round(targets["hub, Open Inference HTTP"], clients=4, seconds=seconds)
    finally:
        hub.close()


def of_line(seconds: float) -> None:
    archive, shown = serving.package(serving.PEERS_SIDE), live.pictures()
    with (
        tempfile.TemporaryDirectory(prefix="lineside-profile-live-") as name,
        live.site_running(Path(name), archive=archive, shown=shown) as site,
    ):
        begin()
        site.measured(cameras=1, fps=10, seconds=seconds)


def of_ingest(_seconds: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        frames = Path(name) / "frames"
        ingest.write_frames(frames, count=INGESTED)
        with ingest.mosquitto(Path(name)) as port:
            hub = ingest.Hub(Path(name) / "hub", bus=f"mqtt://127.0.0.1:{port}", bus_port=port)
            begin()
            try:
                ingest.hub_rate(hub, port, frames=frames, count=INGESTED)
            finally:
                hub.close()


PATHS: Mapping[str, tuple[Callable[[float], None], str]] = {
    "predictor": (of_predictor, "--loop"),
    "serving": (of_serving, "--serve"),
    "hub": (of_line, "--serve"),
    "device": (of_line, "lineside edge"),
    "ingest": (of_ingest, "lineside hub"),
    "training": (of_training, "--train"),
}
"""What runs each path, and a part of the command of the program that is looked at."""

WHOSE = {
    "predictor": "the predictor's",
    "serving": "serving's",
    "hub": "the hub's",
    "device": "a device's",
    "ingest": "ingest's",
    "training": "training's",
}
NETWORK = "OnnxEngine._run "


# ---- what was found


def costs(stacks: Stacks) -> dict[str, Any]:
    """Processor seconds, and the largest threads and functions with their shares."""
    total = sum(stacks.values())
    threads, functions = Counter[str](), Counter[str]()
    for stack, spent_us in stacks.items():
        threads[stack[0]] += spent_us
        functions[own_of(stack)] += spent_us
    return {
        "processor_s": round(total / 1e6, 2),
        "threads": {name: round(us / total, 3) for name, us in threads.most_common(MOST)},
        "functions": {name: round(us / total, 3) for name, us in functions.most_common(MOST)},
    }


def own_of(stack: tuple[str, ...]) -> str:
    """The innermost function of lineside, to which what it called counts; else the innermost."""
    return next((name for name in reversed(stack) if "(lineside/" in name), stack[-1])


def flame_graph(stacks: Stacks, *, title: str) -> str:
    """An SVG picture: a bar for each call, as wide as its share of the processor time."""
    total, deepest, bars = sum(stacks.values()), 0, list[str]()

    def draw(under: Mapping[tuple[str, ...], int], depth: int, left: float) -> None:
        nonlocal deepest
        by_name: dict[str, Stacks] = {}
        for stack, spent_us in under.items():
            if len(stack) > depth:
                by_name.setdefault(stack[depth], Stacks())[stack] += spent_us
        for name, below in sorted(by_name.items()):
            share = below.total() / total
            if share >= LEAST_SHARE:
                deepest = max(deepest, depth)
                bars.append(bar(name, share, left=left, depth=depth))
                draw(below, depth + 1, left)
            left += share

    draw(stacks, 0, 0.0)
    height = (deepest + 3) * ROW_PX
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {height}" '
        f'font-family="monospace" font-size="11"><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="4" y="13">{escape(title)}</text>\n' + "\n".join(bars) + "\n</svg>\n"
    )


def bar(name: str, share: float, *, left: float, depth: int) -> str:
    """One bar, with its name as far as it fits and in whole where the pointer rests on it."""
    x, y, width = left * WIDTH_PX, (depth + 1.5) * ROW_PX, share * WIDTH_PX
    fill = "#cfe3f7" if "(lineside/" in name else "#e4e4e4"
    shown = escape(name[: int(width / LETTER_PX)]) if width > 4 * LETTER_PX else ""
    return (
        f"<g><title>{escape(name)} {share:.1%}</title>"
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width - 0.4, 0.4):.1f}" height="{ROW_PX - 1}" '
        f'fill="{fill}"/><text x="{x + 2:.1f}" y="{y + 12:.1f}">{shown}</text></g>'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paths", default=",".join(PATHS))
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--loop", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--train", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.loop or asked.train:
        loop(asked.loop) if asked.loop else train(asked.train)
        return
    folder, result = measure.RESULTS / "profiles", dict[str, Any]()
    folder.mkdir(exist_ok=True)
    for name in asked.paths.split(","):
        run, word = PATHS[name]
        found: list[tuple[str, Stacks]] = []
        with sampled(found):
            run(asked.seconds)
        stacks = next(stacks for command, stacks in found if word in command)
        result[name] = costs(stacks)
        print(name, json.dumps(result[name], indent=1), flush=True)
        title = f"{name}: {result[name]['processor_s']} s of processor time"
        (folder / f"{name}.svg").write_text(flame_graph(stacks, title=title))
    print(measure.write("profiles", {"seconds": asked.seconds, **result}, answer))


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    on_network, others = [], []
    for path, whose in WHOSE.items():
        if path in result:
            largest, share = max(result[path]["functions"].items(), key=lambda one: float(one[1]))
            if largest.startswith(NETWORK):
                on_network.append(f"{percent(share)} of {whose}")
            else:
                others.append(share)
    graphs = "([flame graphs](results/profiles/))"
    rest = f"the largest function takes {percent(max(others))}" if others else ""
    if not on_network:
        return f"In {len(others)} paths {rest} {graphs}."
    rest = f"; in the other paths {rest}" if rest else ""
    return f"The largest part goes to ONNX Runtime: {', '.join(on_network)} {graphs}{rest}."


def percent(share: float) -> str:
    return f"{int(100 * share + 0.5)} %"


if __name__ == "__main__":
    main()
