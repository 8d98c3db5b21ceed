"""Requests of the hub's contracts beside other servers, and beside the bare session.

    python benchmarks/serving.py [--calls 200] [--rounds 5] [--seconds 4] [--environments FOLDER]
        [--only-peers]

The network is EfficientNet-Lite0's trunk, wrapped as others' networks are, with a free batch.

1. Requests a second, with 1 and 8 clients, of gRPC, SageMaker contract and Open Inference HTTP
   beside FastAPI with ONNX Runtime by hand, LitServe, MLflow, BentoML and Ray Serve, at 320 pixels;
   see ``serving_peers``.
   ``--only-peers`` measures this alone and keeps the other figures.

2. One caller at 128 pixels, in one process on one core with the hub, so that every figure has both
   sides' work in it: median and 99th percentile of the bare session, of the predictor (JPEG to
   decision) and of both over gRPC and HTTP, each as a ratio to what it serves.
"""

import argparse
import base64
import contextlib
import io
import json
import struct
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import serving_peers
from measure import RESULTS, percentiles, timed, write

from lineside.compat.open_inference import open_inference_pb2 as pb2
from lineside.compat.open_inference import open_inference_pb2_grpc
from lineside.core import SystemClock
from lineside.hub import HubConfig, RunningHub, running
from lineside.hub.access.auth import issue_access_key
from lineside.hub.models.model_service import Registration
from lineside.models import Package, Predictor
from lineside.models.engines import BareEngine
from lineside.models.wrap import read_wrapping, wrapped
from lineside.vision import encode_jpeg, open_frame

SIDE = 128
PEERS_SIDE = 320
MODEL = "lite0"
CLOCK = SystemClock()
CONTRACTS = {
    "hub, gRPC": "gRPC",
    "hub, SageMaker contract": "SageMaker",
    "hub, Open Inference HTTP": "HTTP",
}
LABELS = json.dumps([f"kind-{place}" for place in range(10)])
PLANT = f"""
schema = "lineside.plant/1"
site = "bench"
name = "Bench"
[[line]]
id = "one"
name = "One"
[[camera]]
id = "top"
line = "one"
source = "folder:/nowhere"
[[inspection]]
id = "lite0"
camera = "top"
task = "classify"
labels = {LABELS}
"""


@cache
def network() -> bytes:
    """The file of ``make_network``, by a process of its own: no process measured holds torch."""
    made = subprocess.run(
        [sys.executable, __file__, "--network"], stdout=subprocess.PIPE, check=True
    )
    return made.stdout


def make_network() -> bytes:
    """``scores`` (n, 10) of ``crops`` (n, 3, h, w): the trunk, a linear layer on its features."""
    import onnx
    from onnx import helper, numpy_helper

    from lineside.training.common.backbone import lite0_full
    from lineside.training.tasks.classify.features import POOLED, features_bytes

    model = onnx.load_model_from_string(features_bytes(lite0_full(), scales=1))
    width = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    weight = np.random.default_rng(0).normal(0, 0.05, (width, 10)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "head"))
    model.graph.node.append(helper.make_node("MatMul", [POOLED, "head"], ["scores"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("scores", 1, ["n", 10]))
    return bytes(model.SerializeToString(deterministic=True))


def package(side: int = SIDE) -> bytes:
    toml = (
        f'name = "{MODEL}"\ninspection = "{MODEL}"\ntask = "classify"\nlabels = {LABELS}\n'
        f'[licence]\nweights = "Apache-2.0"\n'
        f"[input]\nwidth_px = {side}\nheight_px = {side}\nmean = [127]\nscale = [128]\n"
    )
    wrapping = read_wrapping(toml.encode(), where="benchmark")
    return wrapped(network(), wrapping, pictures=[], clock=CLOCK)


def picture() -> bytes:
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 255, (30, 40, 3)).astype(np.uint8)
    return encode_jpeg(np.repeat(np.repeat(coarse, 16, axis=0), 16, axis=1))


class Caller:
    """Both transports of one hub."""

    def __init__(self, hub: RunningHub) -> None:
        self.url = f"{hub.url}/v2/models/{MODEL}/infer"
        self.token = hub.services.auth.issue_token("bench", kind="api")
        self.channel = grpc.insecure_channel(
            hub.inference, options=(("grpc.max_send_message_length", 64_000_000),)
        )
        self.stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        self.metadata = (("authorization", f"Bearer {self.token}"),)
        crops = np.random.default_rng(2).integers(0, 255, (1, 3, SIDE, SIDE))
        self.crops = crops.astype(np.float32)
        self.jpeg = picture()

    def by_grpc_image(self) -> None:
        message = pb2.ModelInferRequest(model_name=MODEL)
        message.inputs.add(name="image", datatype="BYTES", shape=[1])
        message.outputs.add(name="decisions")
        message.raw_input_contents.append(struct.pack("<I", len(self.jpeg)) + self.jpeg)
        self.stub.ModelInfer(message, metadata=self.metadata)

    def by_grpc_crops(self) -> None:
        message = pb2.ModelInferRequest(model_name=MODEL)
        message.inputs.add(name="crops", datatype="FP32", shape=self.crops.shape)
        message.outputs.add(name="logits")
        message.raw_input_contents.append(self.crops.tobytes())
        self.stub.ModelInfer(message, metadata=self.metadata)

    def by_http_image(self) -> None:
        data = [base64.b64encode(self.jpeg).decode()]
        one = {"name": "image", "datatype": "BYTES", "shape": [1], "data": data}
        self._post(json.dumps({"inputs": [one], "outputs": [{"name": "decisions"}]}).encode())

    def by_http_crops(self) -> None:
        one = {
            "name": "crops", "datatype": "FP32", "shape": list(self.crops.shape),
            "parameters": {"binary_data_size": self.crops.nbytes},
        }  # fmt: skip
        wanted = [{"name": "logits", "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": [one], "outputs": wanted}).encode()
        self._post(head + self.crops.tobytes(), length=len(head))

    def _post(self, body: bytes, *, length: int | None = None) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        if length is not None:
            headers["Inference-Header-Content-Length"] = str(length)
        request = urllib.request.Request(self.url, data=body, headers=headers)  # noqa: S310  ours
        with urllib.request.urlopen(request) as answer:  # noqa: S310  likewise
            io.BytesIO(answer.read())


def one_caller(caller: Caller, archive: bytes, *, calls: int) -> dict[str, Any]:
    """Each way by turns."""
    opened = Package.read(archive)
    bare = BareEngine(opened.file(opened.manifest.engine.file), where="benchmark")
    predictor = Predictor(opened, clock=CLOCK)
    since = CLOCK.now()

    def judge() -> None:
        predictor.predict(open_frame(caller.jpeg, camera="bench", captured_at=since))

    ways: dict[str, Callable[[], object]] = {
        "bare session, tensor": lambda: bare.run({"crops": caller.crops}),
        "gRPC, tensor": caller.by_grpc_crops,
        "HTTP, tensor": caller.by_http_crops,
        "predictor, JPEG": judge,
        "gRPC, JPEG": caller.by_grpc_image,
        "HTTP, JPEG": caller.by_http_image,
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(calls):  # by turns, so that whatever else the machine does meets all alike
        for name, call in ways.items():
            spent[name] += timed(call, times=1, warm_up=0)
    found: dict[str, Any] = {name: percentiles(each) for name, each in spent.items()}
    for name, of in (("tensor", "bare session, tensor"), ("JPEG", "predictor, JPEG")):
        for way in ("gRPC", "HTTP"):
            served = found[f"{way}, {name}"]
            served["ratio"] = round(served["p50_ms"] / found[of]["p50_ms"], 3)
    return found


@contextlib.contextmanager
def hub_of(archive: bytes) -> Iterator[RunningHub]:
    """A hub with the package approved as a model and in use for the inspection of its name."""
    with tempfile.TemporaryDirectory(prefix="serving-") as folder:
        plant = Path(folder) / "plant.toml"
        plant.write_text(PLANT)
        config = HubConfig(
            data_dir=f"{folder}/hub", plant=str(plant), port=0, bus_port=0, single_person=True,
            inference_grpc="127.0.0.1:0",
        )  # fmt: skip
        with running(config, clock=CLOCK) as hub:
            digest = hub.services.packages.add(archive, by="bench").digest
            hub.services.models.register(MODEL, Registration(package=digest), by="bench")
            hub.services.models.approve(MODEL, 1, by="other", reason="benchmark")
            hub.services.packages.use(digest, inspection=MODEL, by="bench", reason="benchmark")
            yield hub


def serve() -> None:
    """A hub for ``serving_peers``, until its standard input ends."""
    with hub_of(package(PEERS_SIDE)) as hub:
        key = issue_access_key(hub.services.records, name="bench", clock=CLOCK)
        facts = {
            "url": hub.url, "grpc": hub.inference, "key": key.id, "secret": key.secret,
            "token": hub.services.auth.issue_token("bench", kind="api"),
        }  # fmt: skip
        print(json.dumps(facts), flush=True)
        sys.stdin.read()


def beside_others(folder: Path, *, rounds: int, seconds: float) -> dict[str, Any]:
    sys.path.insert(0, str(serving_peers.HERE))
    from answer import Answerer

    opened, jpeg, since = Package.read(package(PEERS_SIDE)), picture(), CLOCK.now()
    predictor = Predictor(opened, clock=CLOCK)
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(network())
        file.flush()
        bare = Answerer(file.name, side=PEERS_SIDE)

    def judge() -> bytes:
        frame = open_frame(jpeg, camera="bench", captured_at=since)
        return predictor.predict_single(frame).state.encode()

    return serving_peers.beside_others(
        [sys.executable, __file__, "--serve"], network=network(), jpeg=jpeg, model=MODEL,
        side=PEERS_SIDE, own=judge, limit=lambda: str(bare.scores(jpeg)).encode(), folder=folder,
        rounds=rounds, seconds=seconds,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument(
        "--environments", type=Path, default=Path(tempfile.gettempdir()) / "serving-environments"
    )
    parser.add_argument("--only-peers", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--network", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.network:
        sys.stdout.buffer.write(make_network())
        return
    if asked.serve:
        serve()
        return
    result: dict[str, Any] = {
        "beside_others": beside_others(
            asked.environments, rounds=asked.rounds, seconds=asked.seconds
        )
    }
    if asked.only_peers:
        before = json.loads((RESULTS / "serving.json").read_bytes())
        rest = {
            "one_process_measured_on": before.pop("machine"),
            "one_process_measured": before.pop("measured", {}),
        }
        result = {**rest, **before, **result}
    else:
        archive = package()
        with hub_of(archive) as hub:
            caller = Caller(hub)
            result["one_caller"] = one_caller(caller, archive, calls=asked.calls)
            caller.channel.close()
    print(json.dumps(result, indent=1))
    write("serving", result, answer)


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    found = result["beside_others"]
    return (
        f"One client: {beside(found['1 clients'], of=' of the rate of FastAPI by hand')}; "
        f"eight: {beside(found['8 clients'])} ({found['rounds']} rounds)."
    )


def beside(systems: dict[str, dict[str, float]], *, of: str = "") -> str:
    """The slowest and the fastest contract of the hub, then the others that ran."""
    rates = {name: one["rate_to_fastapi"] for name, one in systems.items()}
    low, high = min(CONTRACTS, key=rates.__getitem__), max(CONTRACTS, key=rates.__getitem__)
    told = f"{rates[low]:.2f} ({CONTRACTS[low]}) to {rates[high]:.2f} ({CONTRACTS[high]}){of}"
    names = [name for name in serving_peers.SYSTEMS if name != serving_peers.BY_HAND]
    return ", ".join([told, *(f"{name} {rates[name]:.2f}" for name in names if name in rates)])


if __name__ == "__main__":
    main()
