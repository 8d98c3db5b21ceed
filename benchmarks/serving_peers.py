"""Requests a second of the hub's contracts beside other servers of the same network.

Every server is a process of its own on this machine, every client a thread of this one with a
connection of its own. All get the same JPEG and answer with the scores or the decision. The others
run in environments of their own, made once under ``--environments`` (``pip install``); one that
cannot be installed is left out and named. Rounds go through all servers by turns, at 1 and at 8
clients, so that whatever else the machine does meets all alike; figures are medians over rounds,
ratios are medians of the ratios within a round.
"""

import base64
import http.client
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import venv
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import grpc
import psutil
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lineside.compat.open_inference import open_inference_pb2 as pb2
from lineside.compat.open_inference import open_inference_pb2_grpc

HERE = Path(__file__).parent / "serving_systems"
BY_HAND = "FastAPI by hand"
SYSTEMS = {
    BY_HAND: ("fastapi_by_hand.py", ("fastapi", "uvicorn")),
    "LitServe": ("litserve_server.py", ("litserve",)),
}
_EVERY = ("numpy", "onnxruntime", "opencv-python-headless")
_START_S = 120.0
_PAUSE = threading.Event()

Call = Callable[[], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server that runs.

    Attributes:
        connect: opens one client's connection; what it returns sends one request.
        process: of the server, with its children; None for work in this process.
    """

    connect: Callable[[], Call]
    process: psutil.Process | None


def http_target(
    url: str, *, body: bytes, process: psutil.Process, headers_of: Callable[[], dict[str, str]]
) -> Target:
    parts = urlsplit(url)

    def connect() -> Call:
        headers = headers_of()  # a signature holds for five minutes
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def call() -> bytes:
            connection.request("POST", parts.path, body=body, headers=headers)
            response = connection.getresponse()
            found = response.read()
            if response.status != 200:
                raise SystemExit(f"{url}: {response.status} {found[:300]!r}")
            return found

        return call

    return Target(connect=connect, process=process)


def in_base64(jpeg: bytes, form: Callable[[str], object]) -> bytes:
    return json.dumps(form(base64.b64encode(jpeg).decode())).encode()


# ---- the hub


def hub_targets(
    facts: dict[str, str], jpeg: bytes, *, model: str, process: psutil.Process
) -> dict[str, Target]:
    """The hub's three contracts, of a child that printed ``facts``."""
    url = f"{facts['url']}/endpoints/{model}/invocations"

    def signed() -> dict[str, str]:
        request = AWSRequest("POST", url, data=jpeg, headers={"Content-Type": "image/jpeg"})
        credentials = Credentials(facts["key"], facts["secret"])
        SigV4Auth(credentials, "sagemaker", "eu-west-1").add_auth(request)
        return {name: str(value) for name, value in request.headers.items()}

    image = in_base64(
        jpeg,
        lambda text: {
            "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}],
            "outputs": [{"name": "decisions"}],
        },
    )
    bearer = {"Authorization": f"Bearer {facts['token']}", "Content-Type": "application/json"}
    message = pb2.ModelInferRequest(model_name=model)
    message.inputs.add(name="image", datatype="BYTES", shape=[1])
    message.outputs.add(name="decisions")
    message.raw_input_contents.append(struct.pack("<I", len(jpeg)) + jpeg)

    def connect() -> Call:
        channel = grpc.insecure_channel(
            facts["grpc"], options=(("grpc.use_local_subchannel_pool", 1),)
        )
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        metadata = (("authorization", f"Bearer {facts['token']}"),)
        return lambda: bytes(stub.ModelInfer(message, metadata=metadata).SerializeToString())

    return {
        "hub, gRPC": Target(connect=connect, process=process),
        "hub, SageMaker contract": http_target(url, body=jpeg, headers_of=signed, process=process),
        "hub, Open Inference HTTP": http_target(
            f"{facts['url']}/v2/models/{model}/infer",
            body=image,
            headers_of=lambda: bearer,
            process=process,
        ),
    }


@contextmanager
def started(words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A server for the length of a ``with``, its children included."""
    child = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield child
    finally:
        family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
        for one in family:
            one.terminate()
        for one in psutil.wait_procs(family, timeout=10)[1]:
            one.kill()


# ---- the others


def environment(name: str, packages: Sequence[str], *, folder: Path) -> Path | None:
    """The Python of an environment with these packages; None where they do not install."""
    own = folder / name
    python, complete = own / "bin" / "python", own / "complete"
    if complete.exists():
        return python
    venv.create(own, with_pip=True)
    words = [str(python), "-m", "pip", "install", "--quiet", *packages, *_EVERY]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name} is left out: {done.stderr[-200:]}", file=sys.stderr)
        return None
    complete.touch()
    return python


def other_targets(
    network: Path, jpeg: bytes, *, side: int, folder: Path, stack: ExitStack
) -> dict[str, Target]:
    found: dict[str, Target] = {}
    for name, (script, packages) in SYSTEMS.items():
        python = environment(script.partition("_")[0], packages, folder=folder)
        if python is None:
            continue
        port = _free_port()
        words = [str(python), str(HERE / script), str(network), str(side), str(port)]
        child = stack.enter_context(started(words))
        body, kind = in_base64(jpeg, lambda text: {"image": text}), "application/json"
        if name == BY_HAND:
            body, kind = jpeg, "image/jpeg"
        target = http_target(
            f"http://127.0.0.1:{port}/predict", body=body, process=psutil.Process(child.pid),
            headers_of=partial(dict, {"Content-Type": kind}),
        )  # fmt: skip
        if _answers(target, child):
            found[name] = target
        else:
            print(f"{name} is left out: it does not answer", file=sys.stderr)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(target: Target, child: subprocess.Popen[str]) -> bool:
    ends_s = perf_counter() + _START_S
    while perf_counter() < ends_s and child.poll() is None:
        try:
            target.connect()()
        except (OSError, http.client.HTTPException):
            _PAUSE.wait(0.5)
        else:
            return True
    return False


# ---- measuring


def rounds_of(targets: dict[str, Target], *, rounds: int, seconds: float) -> dict[str, Any]:
    """By number of clients: each target's figures, ratios to FastAPI by hand first."""
    for target in targets.values():
        one_round(target, clients=8, seconds=min(1.0, seconds))
    return {
        f"{clients} clients": _summary(
            [
                {
                    name: one_round(target, clients=clients, seconds=seconds)
                    for name, target in targets.items()
                }
                for _ in range(rounds)
            ]
        )
        for clients in (1, 8)
    }


def one_round(target: Target, *, clients: int, seconds: float) -> dict[str, float]:
    calls = [target.connect() for _ in range(clients)]
    for call in calls:
        call()
    begun_s, cpu_s = perf_counter(), _cpu_s(target)
    ends_s = begun_s + seconds

    def work(call: Call) -> list[float]:
        spent = []
        while (start := perf_counter()) < ends_s:
            call()
            spent.append(perf_counter() - start)
        return spent

    with ThreadPoolExecutor(clients) as pool:
        spent = sorted(each for found in pool.map(work, calls) for each in found)
    took_s, used_s = perf_counter() - begun_s, _cpu_s(target) - cpu_s
    return {
        "per_s": len(spent) / took_s,
        "p50_ms": spent[len(spent) // 2] * 1000,
        "p99_ms": spent[min(len(spent) - 1, int(0.99 * len(spent)))] * 1000,
        "processor_ms": used_s / len(spent) * 1000,
        "resident_mb": _resident_mb(target),
    }


def _family(target: Target) -> list[psutil.Process]:
    own = target.process or psutil.Process()
    return [own] if target.process is None else [own, *own.children(recursive=True)]


def _cpu_s(target: Target) -> float:
    times = [one.cpu_times() for one in _family(target)]
    return float(sum(each.user + each.system for each in times))


def _resident_mb(target: Target) -> float:
    return float(sum(one.memory_full_info().pss for one in _family(target)) / 1e6)


def _summary(found: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for name in found[0]:
        rows = [each[name] for each in found]
        beside = [each[BY_HAND] for each in found]
        pairs = list(zip(rows, beside, strict=True))
        summary[name] = {
            "rate_to_fastapi": round(median(a["per_s"] / b["per_s"] for a, b in pairs), 3),
            "p99_to_fastapi": round(median(a["p99_ms"] / b["p99_ms"] for a, b in pairs), 3),
            "processor_to_fastapi": round(
                median(a["processor_ms"] / b["processor_ms"] for a, b in pairs), 3
            ),
            **{key: round(median(row[key] for row in rows), 2) for key in rows[0]},
        }
    return summary


def beside_others(
    hub: Sequence[str], *, network: bytes, jpeg: bytes, model: str, side: int, own: Call,
    limit: Call, folder: Path, rounds: int, seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """Every figure.

    Args:
        hub: command of a hub that prints one line of JSON: url, grpc, token, key, secret.
        network: of the others.
        own: judges the picture by the predictor in this process.
        limit: decodes, prepares and runs the bare network in this process.
        folder: of the environments.
    """
    with ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "network.onnx"
        path.write_bytes(network)
        load = os.getloadavg()
        child = stack.enter_context(started(hub))
        assert child.stdout is not None
        line = child.stdout.readline()
        assert line, f"the hub did not start; run {' '.join(hub)} to see why"
        facts = json.loads(line)
        targets = {
            "in process: decode, prepare, network": Target(connect=lambda: limit, process=None),
            "in process: predictor": Target(connect=lambda: own, process=None),
            **hub_targets(facts, jpeg, model=model, process=psutil.Process(child.pid)),
            **other_targets(path, jpeg, side=side, folder=folder, stack=stack),
        }
        found = rounds_of(targets, rounds=rounds, seconds=seconds)
    return {
        "load_average": {"before": load, "after": os.getloadavg()},
        "rounds": rounds,
        "seconds": seconds,
        "left_out": [name for name in SYSTEMS if name not in targets],
        **found,
    }
