"""What judging a posed part from good ones costs beyond the network's features, on one thread.

    LINESIDE_DATA=… python benchmarks/anomaly_time.py [--package FILE] [--pictures 120] [--most 15]

A package is learned from the good pictures of mvtec-screw by `lineside train --task anomaly` with
defaults, or FILE is taken. Decoded pictures are judged by ``Predictor.predict`` as a device does:
figures of the picture, pose, one warp, network, score, decision. Beside it runs the same network,
cut off where its features are. ``beyond`` is the one less the other, picture by picture: all that
is not features, the bank of good patches included. Milliseconds are of the thread's CPU, which
other work on the machine hardly lengthens; those of the clock stand beside them. The exit status
is 1 where the median of ``beyond`` is above the limit.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import cv2
import numpy as np
import onnx
from measure import percentiles, write
from onnx import helper

from lineside.core import SystemClock
from lineside.models import OnnxEngine, Package, Predictor
from lineside.vision import Frame, decode_picture, fitted, grey_of, open_frame, prepare
from lineside.vision.picture import grey_health
from lineside.vision.pose import PoseEstimator, silhouette

SET = "mvtec-screw"
FEATURES, MAP = "features", "map"
MOST_BYTES = 64_000_000
WARM_UP = 5
SHOT = datetime(2026, 1, 1, tzinfo=UTC)
Spent = dict[str, list[float]]


def learned(data: Path, work: Path) -> Path:
    """A package of the set, by the command."""
    out = work / "parts.lspkg"
    subprocess.run(
        [
            sys.executable, "-m", "lineside", "train", "--task", "anomaly", "--data", str(data),
            "--out", str(out),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return out


def features_alone(network: bytes) -> bytes:
    """The same network, ended where its two maps of features are joined."""
    model = onnx.load_from_string(network)
    nodes = list(model.graph.node)
    laid = max(place for place, node in enumerate(nodes) if node.op_type == "Resize")
    joined = next(node for node in nodes[laid:] if node.op_type == "Concat")
    del model.graph.node[nodes.index(joined) + 1 :]
    model.graph.node.append(helper.make_node("Identity", [joined.output[0]], [FEATURES]))
    del model.graph.output[:]
    float32 = onnx.TensorProto.FLOAT
    model.graph.output.append(
        helper.make_tensor_value_info(FEATURES, float32, (1, "channels", "rows", "columns"))
    )
    used = {name for node in model.graph.node for name in node.input}
    kept = [each for each in model.graph.initializer if each.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return bytes(model.SerializeToString())


def frames(folder: Path, count: int) -> list[Frame]:
    """Pictures evenly spread over the set's own, decoded."""
    found = [
        path
        for path in sorted(folder.rglob("*.png"))
        if "masks" not in path.relative_to(folder).parts
    ]
    places = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
    return [
        open_frame(
            found[place].read_bytes(),
            camera=f"camera {place}",
            captured_at=SHOT,
            max_bytes=MOST_BYTES,
        )
        for place in places
    ]


class Stopwatch:
    """Times of the clock and of the thread, by name."""

    def __init__(self) -> None:
        self.clock: Spent = {}
        self.thread: Spent = {}

    def time(self, name: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401  what was called decides
        started, begun = perf_counter(), thread_time()
        found = call()
        self.thread.setdefault(name, []).append(thread_time() - begun)
        self.clock.setdefault(name, []).append(perf_counter() - started)
        return found

    def forget(self) -> None:
        self.clock.clear()
        self.thread.clear()

    def told(self) -> dict[str, Any]:
        return {
            name: {"clock": percentiles(self.clock[name]), "cpu": percentiles(self.thread[name])}
            for name in self.clock
        }


def judge(package: Package, pictures: list[Frame]) -> Stopwatch:
    predictor = Predictor(package, clock=SystemClock())
    manifest, settings = package.manifest, package.manifest.prepare
    if settings.pose is None:
        raise SystemExit("the package does not lay parts into one place")
    template = decode_picture(package.file(settings.pose.template_file), max_bytes=MOST_BYTES)
    finder = PoseEstimator(settings.pose, template)
    network = package.file(manifest.engine.file)
    size = (1, 3, settings.height_px, settings.width_px)
    whole = OnnxEngine(network, crops=size, where="network", outputs=(MAP,))
    features = OnnxEngine(
        features_alone(network), crops=size, where="features", outputs=(FEATURES,)
    )
    watch = Stopwatch()
    for number, frame in enumerate([*pictures[:WARM_UP], *pictures]):
        if number == WARM_UP:
            watch.forget()
        watch.time("judged", partial(predictor.predict, frame))
        grey = watch.time("grey and health", partial(_looked_at, frame))
        watch.time("silhouette", partial(silhouette, grey))
        posed = watch.time("pose, silhouette included", partial(finder.find, grey))
        warp = partial(prepare, frame.image, settings, matrix=posed.matrix)
        crops = watch.time("warp and normalise", warp)
        watch.time("network", partial(whole.run, crops, outputs=(MAP,)))
        watch.time("features", partial(features.run, crops, outputs=(FEATURES,)))
    for spent in (watch.clock, watch.thread):
        pairs = zip(spent["judged"], spent["features"], strict=True)
        spent["beyond"] = [max(0.0, all_ - part) for all_, part in pairs]
    return watch


def _looked_at(frame: Frame) -> np.ndarray[Any, np.dtype[np.uint8]]:
    grey = grey_of(frame.image)
    grey_health(grey)
    return grey


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    known = os.environ.get("LINESIDE_DATA")  # noqa: TID251  the benchmark's own switch
    parser.add_argument("--data", type=Path, default=known)
    parser.add_argument("--package", type=Path)
    parser.add_argument("--pictures", type=int, default=120)
    parser.add_argument("--most", type=float, default=15.0)
    asked = parser.parse_args()
    if asked.data is None:
        raise SystemExit("name the folder of data sets by --data or LINESIDE_DATA")
    cv2.setNumThreads(1)
    folder = Path(asked.data).resolve() / SET
    with tempfile.TemporaryDirectory(prefix="anomaly-") as made:
        package = Package.open(asked.package or learned(folder, Path(made)))
    pictures = frames(folder, asked.pictures)
    told = judge(package, pictures).told()
    frame = fitted(package.manifest.prepare, width_px=1, height_px=1)
    beyond = told["beyond"]
    result = {
        "data": SET,
        "threads": 1,
        "picture": list(pictures[0].image.shape[:2]),
        "frame": [frame.height_px, frame.width_px],
        "most_ms": asked.most,
        "met": beyond["cpu"]["p50_ms"] <= asked.most,
        "met_by_p95": beyond["cpu"]["p95_ms"] <= asked.most,
        "beyond_over_features": round(
            beyond["cpu"]["p50_ms"] / told["features"]["cpu"]["p50_ms"], 3
        ),
        "stages": told,
    }
    write("anomaly_time", result, answer)
    for name, spent in told.items():
        clock, cpu = spent["clock"], spent["cpu"]
        print(
            f"{name:28} p50 {clock['p50_ms']:7.2f} p95 {clock['p95_ms']:7.2f} ms,"
            f" CPU p50 {cpu['p50_ms']:7.2f} p95 {cpu['p95_ms']:7.2f} ms"
        )
    verdict = "met" if result["met"] else "NOT MET"
    print(f"beyond features at most {asked.most:g} ms: {verdict}")
    raise SystemExit(0 if result["met"] else 1)


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    beyond, verdict = result["stages"]["beyond"]["cpu"], "" if result["met"] else " exceeded"
    return (
        f"Median {beyond['p50_ms']:.1f} ms of one core (p95 {beyond['p95_ms']:.1f} ms,"
        f" n {beyond['n']:,}; limit of the median {result['most_ms']:g} ms{verdict}),"
        f" {result['beyond_over_features']:.2f} times the features."
    )


if __name__ == "__main__":
    main()
