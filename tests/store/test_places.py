"""Named bytes in a folder and in a bucket."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lineside.core import InvalidError, NotFoundError, UnavailableError
from lineside.store import Place, open_objects, open_place
from tests.store.conftest import BucketServer

Read = Callable[[str], bytes]


@pytest.fixture(params=["file", "s3"])
def place(
    request: pytest.FixtureRequest, bucket_server: BucketServer, tmp_path: Path
) -> Iterator[tuple[Place, Read, str]]:
    """A place, how its bytes are read, and its address."""
    if request.param == "file":
        root = tmp_path / "place"
        yield open_place(f"file://{root}"), lambda n: (root / n).read_bytes(), f"file://{root}"
        return
    bucket = bucket_server.fresh_bucket()
    url = bucket_server.url(bucket, "edge")
    objects = open_objects(url)
    yield open_place(url), lambda n: objects.read(n, most=1000), f"s3://{bucket}/edge"


def test_bytes_stand_under_their_name(place: tuple[Place, Read, str]) -> None:
    kept, read, address = place
    kept.put("fleet/unet-1/2026/01/01/12/a.jsonl", b"first")
    kept.put("fleet/unet-1/2026/01/01/12/a.jsonl", b"second")
    assert read("fleet/unet-1/2026/01/01/12/a.jsonl") == b"second"
    assert kept.address("fleet/a.jsonl") == f"{address}/fleet/a.jsonl"


@pytest.mark.parametrize("name", ["", "/a", "../a", "a/../../b", "a\0b"])
def test_a_name_that_leads_out_is_refused(place: tuple[Place, Read, str], name: str) -> None:
    with pytest.raises(InvalidError, match="no name inside a place"):
        place[0].put(name, b"")


def test_a_folder_that_cannot_be_written_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnavailableError, match="cannot be written"):
        open_place(f"file://{tmp_path}/file").put("a/b", b"")
    (tmp_path / "place" / "taken").mkdir(parents=True)
    with pytest.raises(UnavailableError, match="cannot be written"):
        open_place(f"file://{tmp_path}/place").put("taken", b"x")
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["taken"]


def test_a_name_as_long_as_a_file_system_takes_is_taken(tmp_path: Path) -> None:
    open_place(f"file://{tmp_path}").put("n" * 255, b"x")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"x"


def test_a_bucket_that_is_not_there_is_told_apart(bucket_server: BucketServer) -> None:
    place = open_place(bucket_server.url(f"b-{uuid.uuid4().hex}", ""))
    with pytest.raises(NotFoundError):
        place.put("a", b"x")


@pytest.mark.parametrize("url", ["file://relative/a", "file:a", "s3://", "ftp://host/a"])
def test_an_address_that_is_no_place_is_refused(url: str) -> None:
    with pytest.raises(InvalidError):
        open_place(url)
