"""Blobs in a folder keep the contract."""

from pathlib import Path

import pytest

from lineside.core import Digest
from lineside.store import Blobs, open_blobs
from lineside.testing import FakeClock
from lineside.testing.store import BlobsContract, Tamper


@pytest.fixture
def blobs(tmp_path: Path, clock: FakeClock) -> Blobs:
    return open_blobs(f"file://{tmp_path}/blobs", clock=clock)


@pytest.fixture
def tamper(tmp_path: Path) -> Tamper:
    def overwrite(digest: Digest, data: bytes) -> None:
        (path,) = (tmp_path / "blobs").glob(f"*/*/{digest.removeprefix('sha256:')}")
        path.write_bytes(data)

    return overwrite


class TestBlobs(BlobsContract):
    pass
