"""Functions over a bucket: the same answers, and what is said when it is away."""

from dataclasses import replace
from pathlib import Path

import pytest

from lineside.core import NotFoundError, UnavailableError
from lineside.core.drivers import SecretUrl
from lineside.hub.config import FunctionConfig
from lineside.hub.inference.functions import PictureStore
from lineside.testing import FakeClock
from tests.hub.counting.squares import bin_jpeg
from tests.store.conftest import BucketServer, bucket_server

__all__ = ["bucket_server"]
pytestmark = pytest.mark.service


@pytest.fixture
def bucket(bucket_server: BucketServer, function: FunctionConfig, store: Path) -> FunctionConfig:
    """The pictures of the store in a bucket."""
    client = bucket_server.client
    client.create_bucket(Bucket="bins")
    for path in sorted(store.rglob("*.*")):
        name = f"abid/{path.relative_to(store).as_posix()}"
        client.put_object(Bucket="bins", Key=name, Body=path.read_bytes())
    client.close()
    return replace(function, store=SecretUrl(bucket_server.url("bins", "abid")), bucket="bins")


def test_a_bucket_is_read_by_name_and_nothing_else_of_it(bucket: FunctionConfig) -> None:
    shelf = PictureStore(bucket, clock=FakeClock())
    assert shelf.names()[:2] == ("00001.jpg", "00002.jpg")
    assert shelf.offered("4") == "00004.jpg"
    assert shelf.read("00004.jpg") == bin_jpeg(3)
    assert shelf.inventory_record("00004.jpg").quantity == 3
    assert shelf.inventory_record("00007.jpg").quantity is None
    with pytest.raises(NotFoundError, match=r"there is no picture '00999\.jpg'"):
        shelf.read("00999.jpg")


def test_a_bucket_that_does_not_answer_is_away(
    bucket_server: BucketServer, function: FunctionConfig
) -> None:
    url = bucket_server.url("bins", "abid").replace(bucket_server.endpoint, "http://127.0.0.1:9")
    shelf = PictureStore(replace(function, store=SecretUrl(url)), clock=FakeClock())
    with pytest.raises(UnavailableError):
        shelf.read("00004.jpg")


def test_a_bucket_that_is_not_there_is_named(
    bucket_server: BucketServer, function: FunctionConfig
) -> None:
    shelf = PictureStore(
        replace(function, store=SecretUrl(bucket_server.url("gone", "x"))), clock=FakeClock()
    )
    with pytest.raises(NotFoundError):
        shelf.names()
