"""The function contract over an endpoint of labels: the warehouse's answer through AWS' clients."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from lineside.core import SystemClock
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, Services, issue_access_key
from lineside.hub.config import FunctionConfig
from lineside.testing import FakeClock
from lineside.vision import encode_jpeg
from tests.hub.conftest import scene, use_package

ENDPOINT = "smart-factory-wh-stock-inference"


@pytest.fixture
def clock() -> FakeClock:
    """The clients sign with the machine's clock, so this one shows the same."""
    return FakeClock(start=SystemClock().now())


@pytest.fixture
def config(config: HubConfig, tmp_path: Path) -> HubConfig:
    folder = tmp_path / "shots"
    folder.mkdir()
    (folder / "rack.jpg").write_bytes(encode_jpeg(scene("blue", "white")))
    function = FunctionConfig(name="stock", endpoint=ENDPOINT, store=SecretUrl(folder.as_uri()))
    return replace(config, function=(function,))


def test_the_lambda_client_gets_blue_red_white_and_the_picture(
    hub: Services, archive: bytes, served: str, clock: FakeClock
) -> None:
    use_package(hub, archive)
    key = issue_access_key(hub.records, name="twin", clock=clock)
    client = boto3.client(
        "lambda",
        endpoint_url=served,
        region_name="eu-west-1",
        aws_access_key_id=key.id,
        aws_secret_access_key=key.secret,
        config=Config(retries={"max_attempts": 0}),
    )
    asked = {
        "s3_bucket": "shots", "s3_prefix": "", "endpoint_name": ENDPOINT, "image_name": "rack.jpg",
    }  # fmt: skip
    answer = client.invoke(FunctionName="stock", Payload=json.dumps(asked).encode())
    told = json.loads(answer["Payload"].read())
    client.close()
    assert told["statusCode"] == 200
    blue, red, white = told["body"]["prediction"]
    assert blue > 0.85
    assert white > 0.85
    assert red < 0.15
    assert base64.b64decode(told["body"]["image"]) == encode_jpeg(scene("blue", "white"))


def test_a_function_of_labels_is_not_offered_for_counting(hub: Services) -> None:
    (one,) = hub.counter.functions()
    assert not one.counts
