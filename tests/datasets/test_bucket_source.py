"""Sources in a bucket: only what was chosen is asked for, and nothing is asked for twice."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lineside.core import InvalidError, NotFoundError, RefusedError, UnavailableError
from lineside.datasets import load_source
from lineside.datasets.sources import Choice, Reading
from lineside.store import BucketObjects, open_objects
from tests.store.conftest import BucketServer, bucket, bucket_server

__all__ = ["bucket", "bucket_server"]
pytestmark = pytest.mark.service
Png = Callable[[int], bytes]


@pytest.fixture
def bins(*, bucket: str, bucket_server: BucketServer, png: Png) -> str:
    """The URL of forty bins."""
    for number in range(40):
        record = json.dumps({"EXPECTED_QUANTITY": number % 6, "BIN_FCSKU_DATA": {}}).encode()
        for key, body in (
            (f"abid/bin-images/{number:05d}.jpg", png(number)),
            (f"abid/metadata/{number:05d}.json", record),
        ):
            bucket_server.client.put_object(Bucket=bucket, Key=key, Body=body)
    bucket_server.asked.clear()
    return bucket_server.url(bucket, "abid")


def test_ids_fetch_their_objects_and_no_others(
    *, bins: str, bucket_server: BucketServer, tmp_path: Path
) -> None:
    reading = Reading(choice=Choice(ids=("7", "00011", "99")), keep=tmp_path)
    found = load_source(bins, format="abid", reading=reading)
    assert [sample.count for sample in found.samples] == [1, 5]
    assert "no picture of this id" in found.skipped[0].reason
    assert [found.read(sample)[:4] for sample in found.samples] == [b"\x89PNG", b"\x89PNG"]
    assert bucket_server.fetched() == ["00007.jpg", "00007.json", "00011.jpg", "00011.json"]
    found_ones = [
        path for method, path in bucket_server.asked if method == "HEAD" and "00011" in path
    ]
    assert len(found_ones) == 1


def test_a_sample_by_seed_fetches_its_objects_and_no_others(
    *, bins: str, bucket_server: BucketServer, tmp_path: Path
) -> None:
    reading = Reading(choice=Choice(most=5, seed=3), keep=tmp_path)
    found = load_source(bins, format="abid", reading=reading)
    again = load_source(bins, format="abid", reading=Reading(choice=Choice(most=5, seed=3)))
    assert [s.name for s in again.samples] == [s.name for s in found.samples]
    assert len(found.samples) == 5
    more = load_source(bins, format="abid", reading=Reading(choice=Choice(most=9, seed=3)))
    assert {s.name for s in found.samples} < {s.name for s in more.samples}
    other = load_source(bins, format="abid", reading=Reading(choice=Choice(most=5, seed=4)))
    assert {s.name for s in other.samples} != {s.name for s in found.samples}
    bucket_server.asked.clear()
    load_source(bins, format="abid", reading=reading)
    assert len(bucket_server.fetched()) == 10


def test_nothing_is_fetched_twice_where_there_is_a_place_to_keep_it(
    *, bins: str, bucket_server: BucketServer, tmp_path: Path
) -> None:
    found = load_source(bins, reading=Reading(choice=Choice(most=3), keep=tmp_path))
    bucket_server.asked.clear()
    assert all(found.read(sample) for sample in found.samples)
    assert bucket_server.asked == []
    assert found.format == "abid"


def test_a_table_of_a_bucket_fetches_the_pictures_of_its_chosen_rows(
    *, bucket: str, bucket_server: BucketServer, png: Png
) -> None:
    rows = "".join(f"{n}.png,{'dent' if n % 2 else 'good'}\n" for n in range(30))
    bucket_server.client.put_object(
        Bucket=bucket, Key="labels.csv", Body=f"file,label\n{rows}".encode()
    )
    for number in range(30):
        key = f"images/{number}.png" if number < 3 else f"{number}.png"
        bucket_server.client.put_object(Bucket=bucket, Key=key, Body=png(number))
    bucket_server.asked.clear()
    url = bucket_server.url(bucket, "")
    found = load_source(url, reading=Reading(choice=Choice(ids=("1", "17.png"))))
    assert [(s.name, s.labels) for s in found.samples] == [
        ("1.png", ("dent",)),
        ("17.png", ("dent",)),
    ]
    assert set(bucket_server.fetched()) == {"labels.csv", "1.png", "17.png"}


def test_class_folders_of_a_bucket(*, bucket: str, bucket_server: BucketServer, png: Png) -> None:
    for number, name in enumerate(("dent/a b,c.png", "dent/ü.png", "good/1.png")):
        bucket_server.client.put_object(Bucket=bucket, Key=f"set/{name}", Body=png(number))
    found = load_source(bucket_server.url(bucket, "set"))
    assert [(s.name, s.labels) for s in found.samples] == [
        ("dent/a b,c.png", ("dent",)),
        ("dent/ü.png", ("dent",)),
        ("good/1.png", ("good",)),
    ]


@pytest.fixture
def objects(*, bucket: str, bucket_server: BucketServer) -> BucketObjects:
    for key in ("a.txt", "x/1.txt", "x/y/2.txt", "x.txt", "z/3.txt", "~.txt"):
        bucket_server.client.put_object(Bucket=bucket, Key=f"p/{key}", Body=key.encode())
    bucket_server.client.put_object(Bucket=bucket, Key="pp/other.txt", Body=b"")
    return open_objects(bucket_server.url(bucket, "p"))


def test_objects_are_files_in_folders(objects: BucketObjects) -> None:
    assert objects.folders() == ["x", "z"]
    assert objects.folders("x") == ["x/y"]
    assert sorted(objects.files()) == ["a.txt", "x.txt", "~.txt"]
    assert list(objects.files("x")) == ["x/1.txt"]
    assert (objects.has("x/1.txt"), objects.has("x/9.txt"), objects.has("other.txt")) == (
        True, False, False,
    )  # fmt: skip
    assert objects.read("x/y/2.txt", most=99) == b"x/y/2.txt"
    with objects.open("a.txt", most=99) as file:
        assert file.read() == b"a.txt"
    with pytest.raises(InvalidError, match="9 bytes, at most 8"):
        objects.read("x/y/2.txt", most=8)
    with pytest.raises(NotFoundError):
        objects.read("none", most=8)


def test_a_bucket_that_anybody_may_read_needs_no_credentials(
    *, bucket: str, bucket_server: BucketServer, png: Png
) -> None:
    for key, body in (("00007.jpg", png(7)), ("00007.json", b'{"EXPECTED_QUANTITY": 4}')):
        bucket_server.client.put_object(Bucket=bucket, Key=key, Body=body, ACL="public-read")
    bare = bucket_server.url(bucket, "").partition("&credentials")[0] + "&anonymous=yes"
    bucket_server.signed.clear()
    found = load_source(bare, format="abid")
    assert [sample.count for sample in found.samples] == [4]
    assert bucket_server.signed
    assert not any(bucket_server.signed)
    bucket_server.client.put_object(Bucket=bucket, Key="00008.jpg", Body=png(8))
    with pytest.raises(RefusedError):
        open_objects(bare).read("00008.jpg", most=9999)


def test_a_bucket_that_is_not_there_and_a_server_that_is_away_are_said(
    bucket_server: BucketServer,
) -> None:
    with pytest.raises(NotFoundError):
        load_source(bucket_server.url("no-such-bucket", ""))
    away = BucketServer(endpoint="http://127.0.0.1:9", credentials=bucket_server.credentials)
    with pytest.raises(UnavailableError):
        load_source(away.url("b", ""))
