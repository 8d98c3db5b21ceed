"""A hub that counts squares, its functions, and AWS' own clients."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from fastapi.testclient import TestClient

from lineside.core import Plant, SystemClock, parse_plant
from lineside.core.drivers import SecretUrl
from lineside.hub import AccessKey, HubConfig, Services, create_app, issue_access_key
from lineside.hub.config import FunctionConfig
from lineside.testing import FakeClock
from tests.hub.conftest import use_package
from tests.hub.counting.squares import PLANT, count_package, write_store

FUNCTION = "serve-cv-object-counter"


@pytest.fixture
def clock() -> FakeClock:
    """AWS' clients sign with the machine's clock, so this one shows the same."""
    return FakeClock(start=SystemClock().now())


@pytest.fixture(scope="session")
def plant() -> Plant:
    return parse_plant(PLANT, where="plant")


@pytest.fixture(scope="session")
def archive() -> bytes:
    return count_package()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "amazon-bin-images-sub")


@pytest.fixture
def function(store: Path) -> FunctionConfig:
    return FunctionConfig(
        name=FUNCTION,
        endpoint="bin-counter",
        store=SecretUrl(store.as_uri()),
        prefix="bin-images/",
        records="metadata/",
    )


@pytest.fixture
def config(tmp_path: Path, function: FunctionConfig) -> HubConfig:
    (tmp_path / "plant.toml").write_bytes(PLANT)
    return HubConfig(
        data_dir=str(tmp_path / "data"),
        plant=str(tmp_path / "plant.toml"),
        port=0,
        bus_port=0,
        records=SecretUrl("memory://"),
        blobs=SecretUrl("memory://"),
        function=(function,),
    )


@pytest.fixture
def used(hub: Services, archive: bytes) -> str:
    """The package in use."""
    return use_package(hub, archive, inspection="contents")


@pytest.fixture
def key(hub: Services, clock: FakeClock) -> AccessKey:
    return issue_access_key(hub.records, name="caller", clock=clock)


@pytest.fixture
def aws(served: str, key: AccessKey) -> Iterator[Callable[..., Any]]:
    """boto3's own clients; nothing but the endpoint's address is changed."""
    opened = []

    def make(service: str, *, secret: str = key.secret) -> Any:  # noqa: ANN401  boto3 has no types
        session = boto3.session.Session(
            aws_access_key_id=key.id, aws_secret_access_key=secret, region_name="eu-west-1"
        )
        config = Config(retries={"max_attempts": 0})
        opened.append(session.client(service, endpoint_url=served, config=config))
        return opened[-1]

    yield make
    for client in opened:
        client.close()


@pytest.fixture
def person(hub: Services) -> Iterator[Callable[[str], TestClient]]:
    """A signed-in browser of somebody."""
    opened: list[TestClient] = []

    def make(name: str) -> TestClient:
        client = TestClient(
            create_app(hub), base_url="http://127.0.0.1", raise_server_exceptions=False
        )
        client.__enter__()
        opened.append(client)
        token = hub.auth.issue_link(name=name)
        assert client.get("/sign-in", params={"token": token}).status_code == 200
        client.headers["sec-fetch-site"] = "same-origin"
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)
