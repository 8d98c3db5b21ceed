"""Requests a second of the hub's contracts beside other servers of the same network.

Every server is a process of its own on this machine, every client a thread of this one with a
connection of its own. All get the same JPEG and answer with the scores or the decision. The others
run in environments of their own, made once (``pip install``) and kept under ``--environments``,
usually ``/tmp/serving-environments``; one that cannot be installed, or that answers with other
scores, is left out and named. Each is set up as its project advises, without usage reports and
lines of log for each request. FastAPI by hand has one process for the network, with threads; the
others have two processes, one for each of two cores.

Triton is left out: its server comes as a container, PyPI has bindings that need its library, and
PyTriton, a server of Python functions without Triton's part for ONNX Runtime.

Rounds go through all servers by turns, at 1 and at 8 clients, so that whatever else the machine
does meets all alike; figures are medians over rounds, ratios are medians of the ratios within a
round. All servers stay up meanwhile; ``idle_cores`` is what each takes when nobody asks.
"""

import base64
import http.client
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import venv
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distributions
from itertools import zip_longest
from math import isclose
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple
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
_EVERY = ("numpy", "onnxruntime", "opencv-python-headless")
_START_S = 300.0
_STOP_S = 10.0
_IDLE_S = 10.0
_PAUSE = threading.Event()
_NUMBER = re.compile(rb"-?\d+\.?\d*(?:e-?\d+)?")

Call = Callable[[], bytes]


class System(NamedTuple):
    """Another server.

    Attributes:
        script: in ``serving_systems``.
        packages: of its environment, its own first.
        path: that answers.
        form: of a request, from the JPEG in base64; None where the JPEG is the body.
    """

    script: str
    packages: tuple[str, ...]
    path: str = "/predict"
    form: Callable[[str], object] | None = None


SYSTEMS = {
    BY_HAND: System("fastapi_by_hand.py", ("fastapi", "uvicorn")),
    "LitServe": System("litserve_server.py", ("litserve",), form=lambda text: {"image": text}),
    "MLflow": System(
        "mlflow_server.py", ("mlflow",), path="/invocations", form=lambda text: {"inputs": [text]}
    ),
    "BentoML": System("bentoml_server.py", ("bentoml",)),
    "Ray Serve": System("ray_server.py", ("ray[serve]",)),
}


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
                raise ConnectionError(f"{url}: {response.status} {found[:300]!r}")
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
def started(words: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:  # noqa: ANN401  Popen's
    """A server for the length of a ``with``, its children included."""
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **options
    ) as child:
        own = psutil.Process(child.pid)
        try:
            yield child
        finally:
            family = _family(own)
            for end in (psutil.Process.terminate, psutil.Process.kill):
                for one in family:
                    with suppress(psutil.NoSuchProcess):
                        end(one)
                family = psutil.wait_procs(family, timeout=_STOP_S)[1]


def _family(own: psutil.Process) -> list[psutil.Process]:
    """The process with its children; none where it has ended."""
    with suppress(psutil.NoSuchProcess):
        return [own, *own.children(recursive=True)]
    return []


# ---- the others


def environment(name: str, packages: Sequence[str], *, folder: Path) -> Path | None:
    """The environment with these packages; None where they do not install."""
    own = folder / name
    complete = own / "complete"
    if complete.exists():
        return own
    venv.create(own, with_pip=True)
    words = [str(own / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages, *_EVERY]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name} is left out: {done.stderr[-200:]}", file=sys.stderr)
        return None
    complete.touch()
    return own


def other_targets(
    network: Path, jpeg: bytes, *, side: int, scores: bytes, folder: Path, usual: dict[str, str],
    stack: ExitStack,
) -> tuple[dict[str, Target], dict[str, str]]:  # fmt: skip
    """The others that run and answer with these scores, and the version of each."""
    found: dict[str, Target] = {}
    versions: dict[str, str] = {}
    settings = {
        "BENTOML_HOME": usual["TMPDIR"], "BENTOML_DO_NOT_TRACK": "True",
        "MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0",
        "UVICORN_ACCESS_LOG": "false",
    }  # fmt: skip
    for name, system in SYSTEMS.items():
        own = environment(system.script.partition("_")[0], system.packages, folder=folder)
        if own is None:
            continue
        port = _free_port()
        words = [str(own / "bin" / "python"), str(HERE / system.script), str(network)]
        path = f"{own / 'bin'}{os.pathsep}{usual['PATH']}"  # as where an environment is activated
        child = stack.enter_context(started(
            [*words, str(side), str(port)], env={**usual, **settings, "PATH": path},
            stdout=subprocess.DEVNULL,
        ))  # fmt: skip
        body, kind = jpeg, "image/jpeg"
        if system.form:
            body, kind = in_base64(jpeg, system.form), "application/json"
        target = http_target(
            f"http://127.0.0.1:{port}{system.path}", body=body, process=psutil.Process(child.pid),
            headers_of=partial(dict, {"Content-Type": kind}),
        )  # fmt: skip
        if _answers(target, child, scores=scores):
            found[name] = target
            package = system.packages[0].partition("[")[0]
            sites = [str(site) for site in own.glob("lib/*/site-packages")]
            versions[name] = next(iter(distributions(name=package, path=sites))).version
        else:
            print(f"{name} is left out: it does not answer as the others", file=sys.stderr)
    return found, versions


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(target: Target, child: subprocess.Popen[str], *, scores: bytes) -> bool:
    ends_s = perf_counter() + _START_S
    while perf_counter() < ends_s and child.poll() is None:
        try:
            answer = target.connect()()
        except (OSError, http.client.HTTPException):
            _PAUSE.wait(0.5)
        else:
            pairs = zip_longest(_NUMBER.findall(answer), _NUMBER.findall(scores), fillvalue="nan")
            return all(isclose(float(a), float(b), abs_tol=1e-3) for a, b in pairs)
    return False


# ---- measuring


def rounds_of(targets: dict[str, Target], *, rounds: int, seconds: float) -> dict[str, Any]:
    """What servers take when idle; by number of clients each target's figures, ratios first."""
    for target in targets.values():
        one_round(target, clients=8, seconds=min(1.0, seconds))
    before = {name: _cpu_s(target) for name, target in targets.items()}
    _PAUSE.wait(_IDLE_S)
    idle = {
        name: round((_cpu_s(target) - before[name]) / _IDLE_S, 3)
        for name, target in targets.items()
        if target.process
    }
    return {"idle_cores": idle} | {
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


def _cpu_s(target: Target) -> float:
    # Of children that ended, it is their parent's.
    return _sum(target, lambda one: sum(one.cpu_times()[:4]))


def _resident_mb(target: Target) -> float:
    return _sum(target, lambda one: one.memory_full_info().pss / 1e6)


def _sum(target: Target, figure: Callable[[psutil.Process], float]) -> float:
    """Over the server's processes; one that ends meanwhile has none."""
    total = 0.0
    for one in _family(target.process) if target.process else [psutil.Process()]:
        with suppress(psutil.NoSuchProcess):
            total += figure(one)
    return total


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
        # Files of the servers go with the network's folder, also of those that have to be killed.
        usual = {**os.environ, "TMPDIR": str(path.parent)}  # noqa: TID251  for children
        child = stack.enter_context(started(hub, env=usual, stdout=subprocess.PIPE))
        assert child.stdout is not None
        line = child.stdout.readline()
        assert line, f"the hub did not start; run {' '.join(hub)} to see why"
        facts = json.loads(line)
        others, versions = other_targets(
            path, jpeg, side=side, scores=limit(), folder=folder.absolute(), usual=usual,
            stack=stack,
        )  # fmt: skip
        targets = {
            "in process: decode, prepare, network": Target(connect=lambda: limit, process=None),
            "in process: predictor": Target(connect=lambda: own, process=None),
            **hub_targets(facts, jpeg, model=model, process=psutil.Process(child.pid)),
            **others,
        }
        found = rounds_of(targets, rounds=rounds, seconds=seconds)
    return {
        "load_average": {"before": load, "after": os.getloadavg()},
        "rounds": rounds,
        "seconds": seconds,
        "versions": versions,
        "left_out": [name for name in SYSTEMS if name not in targets],
        **found,
    }
