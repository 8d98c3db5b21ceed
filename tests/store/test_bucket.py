"""Blobs in an S3-compatible bucket keep the contract."""

import uuid
from datetime import UTC, datetime
from typing import Protocol

import pytest

from lineside.core import Digest
from lineside.store import Blobs, open_blobs
from lineside.testing import FakeClock
from lineside.testing.store import BlobsContract, Tamper

pytestmark = pytest.mark.service


class Client(Protocol):
    """The part of boto3's client that is used here."""

    def create_bucket(self, *, Bucket: str) -> object: ...  # noqa: N803  the service's names

    def head_object(self, *, Bucket: str, Key: str) -> object: ...  # noqa: N803  likewise

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> object: ...  # noqa: N803  likewise


class Server(Protocol):
    """The fixture ``bucket_server``."""

    endpoint: str

    def url(self, bucket: str, prefix: str) -> str: ...


@pytest.fixture
def clock() -> FakeClock:
    """Begins now, because the server writes its own time beside each object."""
    return FakeClock(start=datetime.now(tz=UTC))


@pytest.fixture
def client(bucket_server: Server) -> Client:
    import boto3

    made: Client = boto3.client(
        "s3",
        endpoint_url=bucket_server.endpoint,
        region_name="us-east-1",
        aws_access_key_id="line",
        aws_secret_access_key="side",  # noqa: S106  of the server in this process
    )
    return made


@pytest.fixture
def bucket(client: Client) -> str:
    name = f"b-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def blobs(bucket_server: Server, bucket: str, clock: FakeClock) -> Blobs:
    return open_blobs(bucket_server.url(bucket, "line a/pictures"), clock=clock)


@pytest.fixture
def tamper(client: Client, bucket: str) -> Tamper:
    def overwrite(digest: Digest, data: bytes) -> None:
        key = f"line a/pictures/{digest.removeprefix('sha256:')}"
        client.head_object(Bucket=bucket, Key=key)
        client.put_object(Bucket=bucket, Key=key, Body=data)

    return overwrite


class TestBlobs(BlobsContract):
    own_time = False
