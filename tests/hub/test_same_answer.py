"""The same picture gets the same answer on every endpoint, in whatever order pictures are asked."""

import base64
import json
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from fastapi.testclient import TestClient

from lineside.compat.open_inference import open_inference_pb2 as pb2
from lineside.compat.open_inference import open_inference_pb2_grpc
from lineside.core import Plant, SystemClock, parse_plant
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, Services, issue_access_key
from lineside.hub.api.open_inference import InferenceServer
from lineside.hub.config import FunctionConfig
from lineside.models import build_package
from lineside.testing import FakeClock
from lineside.testing.pictures import shifted
from lineside.vision import encode_jpeg
from tests.models.conftest import package_parts, scene

PLANT = b"""
schema = "lineside.plant/1"
site = "hall"
name = "Hall"
[[line]]
id = "l"
name = "Line"
[[camera]]
id = "rack"
name = "Rack"
line = "l"
source = "mqtt:i/cam"
[[inspection]]
id = "stock"
camera = "rack"
endpoint = "stock-endpoint"
view = { width_px = 160, height_px = 120 }
[[inspection.region]]
id = "top"
label = "disc"
box_px = { x0_px = 22, y0_px = 22, x1_px = 46, y1_px = 42 }
[[inspection.region]]
id = "low"
label = "ring"
box_px = { x0_px = 102, y0_px = 62, x1_px = 126, y1_px = 82 }
"""
# The moves are so small that a camera which sent these pictures would count as standing still.
PICTURES = {
    f"{number}.jpg": encode_jpeg(
        shifted(scene(lit=number % 2 == 0), dx_px=0.2 * number, dy_px=-0.15 * number), quality=95
    )
    for number in range(6)
}
Ask = Callable[[str], Any]


@pytest.fixture
def clock() -> FakeClock:
    """The calls are signed with the machine's clock, so this one shows the same."""
    return FakeClock(start=SystemClock().now())


@pytest.fixture(scope="session")
def plant() -> Plant:
    return parse_plant(PLANT, where="plant")


@pytest.fixture
def config(tmp_path: Path) -> HubConfig:
    (tmp_path / "plant.toml").write_bytes(PLANT)
    (tmp_path / "store").mkdir()
    for name, picture in PICTURES.items():
        (tmp_path / "store" / name).write_bytes(picture)
    function = FunctionConfig(
        name="serve",
        endpoint="stock-endpoint",
        store=SecretUrl((tmp_path / "store").as_uri()),
        prefix="",
    )
    return HubConfig(
        data_dir=str(tmp_path / "data"), plant=str(tmp_path / "plant.toml"), port=0, bus_port=0,
        records=SecretUrl("memory://"), blobs=SecretUrl("memory://"), function=(function,),
    )  # fmt: skip


@pytest.fixture
def digest(hub: Services) -> str:
    """The package in use."""
    added = hub.packages.add(build_package(*package_parts()), by="anna").digest
    hub.packages.use(added, inspection="stock", by="anna", reason="test")
    return added


@pytest.fixture
def stub(hub: Services) -> Iterator[Any]:
    server = InferenceServer("127.0.0.1:0", services=hub, files=None)
    with grpc.insecure_channel(server.address) as channel:
        yield open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
    server.close()


def asked_of_all(hub: Services, client: TestClient, *, digest: str, stub: Any) -> dict[str, Ask]:  # noqa: ANN401
    """Each endpoint by its name: a picture's name in, everything it answers out."""
    key = issue_access_key(hub.records, name="caller", clock=hub.clock)

    def signed(path: str, body: bytes, *, service: str, kind: str) -> Any:  # noqa: ANN401
        request = AWSRequest(
            method="POST", url=f"http://127.0.0.1{path}", data=body, headers={"Content-Type": kind}
        )
        SigV4Auth(Credentials(key.id, key.secret), service, "eu-west-1").add_auth(request)
        answer = client.post(path, content=body, headers=dict(request.headers))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def runtime(name: str) -> Any:  # noqa: ANN401
        path = "/endpoints/stock-endpoint/invocations"
        return signed(path, PICTURES[name], service="sagemaker", kind="image/jpeg")

    def function(name: str) -> Any:  # noqa: ANN401
        document = {
            "s3_bucket": hub.functions.one("serve").bucket_name, "s3_prefix": "",
            "endpoint_name": "stock-endpoint", "image_name": name,
        }  # fmt: skip
        path = "/2015-03-31/functions/serve/invocations"
        told = signed(path, json.dumps(document).encode(), service="lambda", kind="text/json")
        return told["body"]["prediction"]

    def over_http(name: str) -> Any:  # noqa: ANN401
        data = [base64.b64encode(PICTURES[name]).decode()]
        image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": data}
        answer = client.post("/v2/models/stock/infer", json={"inputs": [image]})
        assert answer.status_code == 200, answer.text
        return {each["name"]: each["data"] for each in answer.json()["outputs"]}["probabilities"]

    token = hub.auth.issue_token("program", kind="api")

    def over_grpc(name: str) -> Any:  # noqa: ANN401
        message = pb2.ModelInferRequest(model_name="stock")
        message.inputs.add(name="image", datatype="BYTES", shape=[1])
        message.raw_input_contents.append(struct.pack("<I", len(PICTURES[name])) + PICTURES[name])
        said = stub.ModelInfer(message, metadata=(("authorization", f"Bearer {token}"),))
        place = [each.name for each in said.outputs].index("probabilities")
        return struct.unpack("<2f", said.raw_output_contents[place])

    def tried(name: str) -> Any:  # noqa: ANN401
        answer = client.post(
            f"/api/v1/packages/{digest}/predict", content=PICTURES[name],
            headers={"content-type": "image/jpeg"},
        )  # fmt: skip
        assert answer.status_code == 200, answer.text
        told = answer.json()
        said = told["prediction"]
        return [said[part] for part in ("labels", "registration", "health", "state")], told["heat"]

    return {
        "runtime": runtime, "function": function, "http": over_http, "grpc": over_grpc,
        "try": tried,
    }  # fmt: skip


@pytest.mark.slow
def test_no_endpoint_answers_by_who_asked_before(
    hub: Services,
    client: TestClient,
    digest: str,
    stub: Any,  # noqa: ANN401
) -> None:
    endpoints = asked_of_all(hub, client, digest=digest, stub=stub)
    first: dict[tuple[str, str], Any] = {}
    for seed in range(20):
        order = [(endpoint, name) for endpoint in endpoints for name in PICTURES]
        random.Random(seed).shuffle(order)  # noqa: S311  an order, no secret
        for endpoint, name in order:
            said = endpoints[endpoint](name)
            assert first.setdefault((endpoint, name), said) == said, (endpoint, name, seed)
