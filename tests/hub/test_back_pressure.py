"""Too many calls: refused in each contract's own form, and nothing else waits for them."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.exceptions
import grpc
import numpy as np
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from fastapi.testclient import TestClient

from lineside.compat.open_inference import open_inference_pb2 as pb2
from lineside.compat.open_inference import open_inference_pb2_grpc
from lineside.core import LinesideError, SystemClock
from lineside.core.drivers import SecretUrl
from lineside.hub import AccessKey, HubConfig, Services, issue_access_key
from lineside.hub.api.open_inference import InferenceServer
from lineside.hub.config import FunctionConfig
from lineside.library.client import HubClient
from lineside.models import Package
from lineside.testing import FakeClock
from lineside.testing.links import wait_until
from lineside.vision import encode_jpeg
from tests.hub.conftest import PLANT, use_package
from tests.links.conftest import free_port

ENDPOINT = "smart-factory-wh-stock-inference"
FUNCTION = "serve-stock"
CLOCK = SystemClock()
CALLERS = 160
MORE = 32


@pytest.fixture
def clock() -> FakeClock:
    """AWS' clients sign with the machine's clock, so this one shows the same."""
    return FakeClock(start=CLOCK.now())


@pytest.fixture
def config(tmp_path: Path) -> HubConfig:
    (tmp_path / "plant.toml").write_bytes(PLANT)
    (tmp_path / "store").mkdir()
    return HubConfig(
        data_dir=str(tmp_path / "data"), plant=str(tmp_path / "plant.toml"), port=0, bus_port=0,
        records=SecretUrl("memory://"), blobs=SecretUrl("memory://"), endpoint_calls=1,
        max_body_bytes=100_000,
        function=(
            FunctionConfig(
                name=FUNCTION, endpoint=ENDPOINT, store=SecretUrl((tmp_path / "store").as_uri()),
                prefix=""
            ),
        ),
    )  # fmt: skip


@pytest.fixture
def held(hub: Services) -> Iterator[None]:
    """The one place of the endpoint, and that of its model, is taken."""
    with ExitStack() as stack:
        for endpoint in ("stock", "model stock"):
            stack.enter_context(hub.queue._place(endpoint))
        yield


@pytest.fixture
def aws(hub: Services, served: str) -> Iterator[Callable[[str], Any]]:
    """boto3's own clients, which try once."""
    key = issue_access_key(hub.records, name="caller", clock=hub.clock)
    opened: list[Any] = []

    def make(service: str) -> Any:  # noqa: ANN401  boto3 has no types
        opened.append(aws_client(service, url=served, key=key))
        return opened[-1]

    yield make
    for client in opened:
        client.close()


def aws_client(service: str, *, url: str, key: AccessKey) -> Any:  # noqa: ANN401  boto3 has no types
    session = boto3.session.Session(
        aws_access_key_id=key.id, aws_secret_access_key=key.secret, region_name="eu-west-1"
    )
    return session.client(service, endpoint_url=url, config=Config(retries={"max_attempts": 0}))


def raised(call: Callable[[], object]) -> dict[str, Any]:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call()
    response: dict[str, Any] = caught.value.response
    assert len(response["ResponseMetadata"]["RequestId"]) == 36
    assert response["Error"]["Message"]
    return response


# ---- each contract's own words


@pytest.mark.usefixtures("held")
def test_the_runtime_throttles_as_aws_does(aws: Callable[[str], Any]) -> None:
    client = aws("sagemaker-runtime")
    told = raised(
        lambda: client.invoke_endpoint(
            EndpointName=ENDPOINT, ContentType="image/jpeg", Body=b"\xff\xd8\xff"
        )
    )
    assert told["Error"]["Code"] == "ThrottlingException"
    assert told["ResponseMetadata"]["HTTPStatusCode"] == 429


@pytest.mark.usefixtures("held")
def test_functions_raise_the_client_s_own_class(aws: Callable[[str], Any]) -> None:
    client = aws("lambda")
    with pytest.raises(client.exceptions.TooManyRequestsException) as caught:
        client.invoke(FunctionName=FUNCTION, Payload=b"{}")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert caught.value.response["ResponseMetadata"]["RequestId"]


def test_too_large_a_body_is_told_in_the_contract_s_form(aws: Callable[[str], Any]) -> None:
    runtime, functions = aws("sagemaker-runtime"), aws("lambda")
    body = bytes(200_000)
    with pytest.raises(runtime.exceptions.ValidationError) as caught:
        runtime.invoke_endpoint(EndpointName=ENDPOINT, ContentType="image/jpeg", Body=body)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    with pytest.raises(functions.exceptions.RequestTooLargeException):
        functions.invoke(FunctionName=FUNCTION, Payload=b'"' + body + b'"')


def test_calls_that_are_not_offered_are_named_in_the_contract_s_form(
    aws: Callable[[str], Any],
) -> None:
    runtime, functions = aws("sagemaker-runtime"), aws("lambda")
    calls = (
        lambda: runtime.invoke_endpoint_async(EndpointName=ENDPOINT, InputLocation="s3://a/b"),
        functions.list_functions,
        lambda: functions.get_function(FunctionName=FUNCTION),
    )
    for call in calls:
        told = raised(call)
        assert told["Error"]["Code"] == "UnknownOperationException"
        assert "Offered: InvokeEndpoint" in told["Error"]["Message"]


@pytest.mark.usefixtures("held")
def test_the_open_inference_protocol_answers_an_error_member(client: TestClient) -> None:
    answer = client.post("/v2/models/stock/infer", json={"inputs": []})
    assert answer.status_code == 429
    assert "wait already" in answer.json()["error"]
    large = client.post("/v2/models/stock/infer", content=bytes(200_000))
    assert large.status_code == 413
    assert "bytes" in large.json()["error"]


@pytest.mark.usefixtures("held")
def test_pages_and_the_api_get_a_problem_document(client: TestClient) -> None:
    asked = {"s3_bucket": "", "s3_prefix": "", "endpoint_name": ENDPOINT, "image_name": "1.jpg"}
    answer = client.post(f"/api/v1/functions/{FUNCTION}/call", json=asked)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["title"] == "Too many requests"


def test_a_place_is_free_again_whatever_became_of_its_call(hub: Services) -> None:
    def fails() -> None:
        raise LinesideError("broken")

    async def asks() -> None:
        for _ in range(3):
            with pytest.raises(LinesideError, match="broken"):
                await hub.queue.run("stock", fails)
        assert await hub.queue.run("stock", lambda: 7) == 7

    asyncio.run(asks())
    assert (hub.queue.waiting, hub.queue.refused) == (0, 0)


def test_too_many_calls_by_grpc_are_resource_exhausted(hub: Services, archive: bytes) -> None:
    use_package(hub, archive)
    token = hub.auth.issue_token("program", kind="api")
    message = pb2.ModelInferRequest(model_name="stock")
    tensor = message.inputs.add(name="image", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(large_picture())
    server = InferenceServer("127.0.0.1:0", services=hub, files=None)
    with grpc.insecure_channel(server.address) as channel:
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        who = (("authorization", f"Bearer {token}"),)
        calls = [stub.ModelInfer.future(message, metadata=who) for _ in range(CALLERS)]
        codes = Counter(call.code() for call in calls)
    server.close()
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}


# ---- 160 callers of the real program


def large_picture() -> bytes:
    """A picture that takes a processor some tens of milliseconds to decode."""
    image = np.full((2400, 3200, 3), 90, np.uint8)
    image[400:800, 300:2000] = 200
    image[1500:1600] = 10
    return encode_jpeg(image, quality=60)


@pytest.fixture
def program(tmp_path: Path, archive: bytes) -> Iterator[tuple[str, AccessKey, Path]]:
    """A hub in a process of its own with a package in use; its address, a key, its folder."""
    (tmp_path / "plant.toml").write_bytes(PLANT)
    (tmp_path / "bright.lspkg").write_bytes(archive)
    port = free_port()
    settings = tmp_path / "hub.toml"
    settings.write_text(
        f'data_dir = "{tmp_path / "hub"}"\nplant = "{tmp_path / "plant.toml"}"\nport = {port}\n'
        f"bus_port = {free_port()}\nendpoint_calls = {CALLERS}\n"
    )

    def lineside(*words: str) -> list[str]:
        return [sys.executable, "-m", "lineside", *words, "--config", str(settings)]

    with (tmp_path / "hub.log").open("ab") as log, ExitStack() as stack:
        hub = subprocess.Popen(lineside("hub"), stdout=log, stderr=log, env={**os.environ})  # noqa: TID251  handed on to a child
        stack.callback(hub.wait)
        stack.callback(hub.terminate)
        wait_until(lambda: _is_ready(port))
        subprocess.run(lineside("model", "add", str(tmp_path / "bright.lspkg")), check=True)
        token = (tmp_path / "hub" / "tokens" / "admin.token").read_text().strip()
        client = HubClient(f"http://127.0.0.1:{port}", token=token)
        used = f"/packages/{Package.read(archive).digest}/use"
        client.post(used, {"inspection": "stock", "reason": "test"})
        made = subprocess.run(
            lineside("hub", "key", "caller", "--json"), check=True, capture_output=True
        )
        key = json.loads(made.stdout)
        yield (
            f"http://127.0.0.1:{port}",
            AccessKey(id=key["id"], secret=key["secret"], name="caller"),
            tmp_path,
        )


def _is_ready(port: int) -> bool:
    try:
        return asyncio.run(_answer(port, "GET /readyz"))[0] == 200
    except OSError:
        return False


async def _answer(
    port: int, call: str, *, headers: dict[str, str] | None = None, body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    """One request over a connection of its own: status, headers, body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = {"host": f"127.0.0.1:{port}", "content-length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"{call} HTTP/1.1\r\n{head}connection: close\r\n\r\n".encode() + body)
    told = await reader.read()
    writer.close()
    top, _, rest = told.partition(b"\r\n\r\n")
    status, *named = top.decode().split("\r\n")
    found = dict(line.lower().split(": ", 1) for line in named)
    return int(status.split()[1]), found, rest


@pytest.mark.slow
def test_health_and_reads_do_not_wait_behind_160_callers(
    program: tuple[str, AccessKey, Path],
) -> None:
    url, key, folder = program
    port = urlsplit(url).port or 0
    path, picture = f"/endpoints/{ENDPOINT}/invocations", large_picture()
    request = AWSRequest("POST", url + path, data=picture, headers={"Content-Type": "image/jpeg"})
    SigV4Auth(Credentials(key.id, key.secret), "sagemaker", "eu-west-1").add_auth(request)
    headers = {name.lower(): str(value) for name, value in request.headers.items()}
    headers.pop("content-length", None)
    token = (folder / "hub" / "tokens" / "admin.token").read_text().strip()
    reads = {
        "GET /healthz": {}, "GET /readyz": {}, "GET /ping": {},
        "GET /api/v1/cameras": {"authorization": f"Bearer {token}"},
    }  # fmt: skip
    answered = Counter[str]()

    async def ask() -> list[tuple[int, dict[str, str], bytes]]:
        calls = [
            asyncio.create_task(_answer(port, f"POST {path}", headers=headers, body=picture))
            for _ in range(CALLERS + MORE)
        ]
        for refused in asyncio.as_completed(calls):  # the queue is full
            if (await refused)[0] == 429:
                break
        while any(not call.done() for call in calls):
            for call, more in reads.items():
                assert (await _answer(port, call, headers=more))[0] == 200
                answered[call] += 1
        return [call.result() for call in calls]

    answers = asyncio.run(ask())
    statuses = Counter(status for status, *_ in answers)
    assert set(statuses) == {200, 429}
    assert statuses[200] >= CALLERS
    for status, named, body in answers:
        if status == 429:
            assert named["x-amzn-errortype"] == "throttlingexception"
            assert (bool(named["x-amzn-requestid"]), named["retry-after"]) == (True, "1")
            assert json.loads(body)["ErrorCode"] == "ThrottlingException"
    # One that waited behind the callers would be answered once at most before they all are.
    assert set(answered) == set(reads)
    assert min(answered.values()) >= 10
