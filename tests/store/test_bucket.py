"""Blobs in an S3-compatible bucket keep the contract."""

import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lineside.core import Digest, InvalidError, NotFoundError, RefusedError, UnavailableError
from lineside.store import Blobs, open_blobs
from lineside.testing import FakeClock
from lineside.testing.store import BlobsContract, Tamper
from tests.store.conftest import BucketServer

pytestmark = pytest.mark.service


@pytest.fixture
def clock() -> FakeClock:
    """Begins now, because the server writes its own time beside each object."""
    return FakeClock(start=datetime.now(tz=UTC))


@pytest.fixture
def blobs(bucket_server: BucketServer, bucket: str, clock: FakeClock) -> Blobs:
    return open_blobs(bucket_server.url(bucket, "line a/pictures"), clock=clock)


@pytest.fixture
def tamper(bucket_server: BucketServer, bucket: str) -> Tamper:
    def overwrite(digest: Digest, data: bytes) -> None:
        key = f"line a/pictures/{digest.removeprefix('sha256:')}"
        bucket_server.client.head_object(Bucket=bucket, Key=key)
        bucket_server.client.put_object(Bucket=bucket, Key=key, Body=data)

    return overwrite


class TestBlobs(BlobsContract):
    own_time = False


@pytest.mark.slow
def test_every_object_of_many_pages_is_listed(blobs: Blobs) -> None:
    put = {blobs.put(str(number).encode()) for number in range(1100)}
    assert set(blobs.digests()) == put


def test_two_prefixes_do_not_mix(bucket_server: BucketServer, bucket: str) -> None:
    first = open_blobs(bucket_server.url(bucket, "a"))
    second = open_blobs(bucket_server.url(bucket, "ab"))
    first.put(b"one")
    assert list(second.digests()) == []


def test_a_bucket_that_is_not_there_is_said(bucket_server: BucketServer) -> None:
    with pytest.raises(NotFoundError):
        open_blobs(bucket_server.url("no-such-bucket", ""))


def test_a_server_that_is_away_is_said(bucket_server: BucketServer) -> None:
    credentials = bucket_server.credentials
    url = f"s3://b/?endpoint=http://127.0.0.1:9&region=x&credentials={credentials}"
    with pytest.raises(UnavailableError):
        open_blobs(url)


class Refusing(BaseHTTPRequestHandler):
    """A server that knows nobody."""

    def do_GET(self) -> None:
        self.send_response(403)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


def test_credentials_that_are_refused_are_said(bucket_server: BucketServer) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, name="refusing")
        thread.start()
        port = server.server_address[1]
        query = f"endpoint=http://127.0.0.1:{port}&credentials={bucket_server.credentials}"
        try:
            with pytest.raises(RefusedError) as caught:
                open_blobs(f"s3://b/?{query}")
        finally:
            server.shutdown()
            thread.join()
    assert "side" not in str(caught.value)


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "s3://bucket?secret=x"])
def test_a_url_without_bucket_or_with_unknown_settings_is_refused(url: str) -> None:
    with pytest.raises(InvalidError):
        open_blobs(url)


def test_a_credentials_file_that_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        open_blobs(f"s3://b/?credentials={tmp_path}/none")
    (tmp_path / "wrong.toml").write_text('user = "x"\n')
    with pytest.raises(InvalidError):
        open_blobs(f"s3://b/?credentials={tmp_path}/wrong.toml")
