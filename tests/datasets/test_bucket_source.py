"""Sources in a bucket: only what was chosen is asked for, and nothing is asked for twice."""

import importlib.util
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from lineside.core import InvalidError, NotFoundError, RefusedError, UnavailableError
from lineside.datasets import Choice, Reading, load_source
from lineside.store import BucketObjects, open_objects

pytestmark = pytest.mark.service
Png = Callable[[int], bytes]


class Client(Protocol):
    """The part of boto3's client that is used here."""

    def create_bucket(self, *, Bucket: str) -> object: ...  # noqa: N803  the service's names

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, ACL: str = "private") -> object: ...  # noqa: N803  likewise


@dataclass
class Server:
    """An S3 server in this process that remembers what it was asked."""

    endpoint: str
    credentials: Path
    asked: list[tuple[str, str]] = field(default_factory=list)
    signed: list[bool] = field(default_factory=list)

    def url(self, bucket: str, prefix: str) -> str:
        query = f"endpoint={self.endpoint}&region=us-east-1&credentials={self.credentials}"
        return f"s3://{bucket}/{prefix}?{query}"

    def fetched(self) -> list[str]:
        """Names of the objects whose bytes were asked for."""
        return sorted(
            path.rpartition("/")[2]
            for method, path in self.asked
            if method == "GET" and "." in path
        )


@pytest.fixture(scope="session")
def server(
    absent: Callable[[str, str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    if importlib.util.find_spec("moto") is None:
        absent("service", "moto is not installed")
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = DomainDispatcherApplication(create_backend_app)
    path = tmp_path_factory.mktemp("s3") / "credentials.toml"
    path.write_text('access_key_id = "line"\nsecret_access_key = "side"\n')
    made = Server(endpoint="", credentials=path)

    def counted(environ: dict[str, Any], start: object) -> object:
        made.asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        made.signed.append("HTTP_AUTHORIZATION" in environ)
        return app(environ, start)

    running = make_server("127.0.0.1", 0, counted, threaded=True)  # type: ignore[arg-type]  # a WSGI app
    made.endpoint = f"http://127.0.0.1:{running.server_port}"
    thread = threading.Thread(target=running.serve_forever, name="bucket")
    thread.start()
    yield made
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def client(server: Server) -> Client:
    import boto3

    made: Client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
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
def bins(*, client: Client, bucket: str, server: Server, png: Png) -> str:
    """The URL of forty bins."""
    for number in range(40):
        record = json.dumps({"EXPECTED_QUANTITY": number % 6, "BIN_FCSKU_DATA": {}}).encode()
        for key, body in (
            (f"abid/bin-images/{number:05d}.jpg", png(number)),
            (f"abid/metadata/{number:05d}.json", record),
        ):
            client.put_object(Bucket=bucket, Key=key, Body=body)
    server.asked.clear()
    return server.url(bucket, "abid")


def test_ids_fetch_their_objects_and_no_others(
    *, bins: str, server: Server, tmp_path: Path
) -> None:
    reading = Reading(choice=Choice(ids=("7", "00011", "99")), keep=tmp_path)
    found = load_source(bins, format="abid", reading=reading)
    assert [sample.count for sample in found.samples] == [1, 5]
    assert "no picture of this id" in found.skipped[0].reason
    assert [found.read(sample)[:4] for sample in found.samples] == [b"\x89PNG", b"\x89PNG"]
    assert server.fetched() == ["00007.jpg", "00007.json", "00011.jpg", "00011.json"]
    found_ones = [path for method, path in server.asked if method == "HEAD" and "00011" in path]
    assert len(found_ones) == 1


def test_a_sample_by_seed_fetches_its_objects_and_no_others(
    *, bins: str, server: Server, tmp_path: Path
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
    server.asked.clear()
    load_source(bins, format="abid", reading=reading)
    assert len(server.fetched()) == 10


def test_nothing_is_fetched_twice_where_there_is_a_place_to_keep_it(
    *, bins: str, server: Server, tmp_path: Path
) -> None:
    found = load_source(bins, reading=Reading(choice=Choice(most=3), keep=tmp_path))
    server.asked.clear()
    assert all(found.read(sample) for sample in found.samples)
    assert server.asked == []
    assert found.format == "abid"


def test_a_table_of_a_bucket_fetches_the_pictures_of_its_chosen_rows(
    *, client: Client, bucket: str, server: Server, png: Png
) -> None:
    rows = "".join(f"{n}.png,{'dent' if n % 2 else 'good'}\n" for n in range(30))
    client.put_object(Bucket=bucket, Key="labels.csv", Body=f"file,label\n{rows}".encode())
    for number in range(30):
        key = f"images/{number}.png" if number < 3 else f"{number}.png"
        client.put_object(Bucket=bucket, Key=key, Body=png(number))
    server.asked.clear()
    url = server.url(bucket, "")
    found = load_source(url, reading=Reading(choice=Choice(ids=("1", "17.png"))))
    assert [(s.name, s.labels) for s in found.samples] == [
        ("1.png", ("dent",)),
        ("17.png", ("dent",)),
    ]
    assert set(server.fetched()) == {"labels.csv", "1.png", "17.png"}


def test_class_folders_of_a_bucket(
    *, client: Client, bucket: str, server: Server, png: Png
) -> None:
    for number, name in enumerate(("dent/a b,c.png", "dent/ü.png", "good/1.png")):
        client.put_object(Bucket=bucket, Key=f"set/{name}", Body=png(number))
    found = load_source(server.url(bucket, "set"))
    assert [(s.name, s.labels) for s in found.samples] == [
        ("dent/a b,c.png", ("dent",)),
        ("dent/ü.png", ("dent",)),
        ("good/1.png", ("good",)),
    ]


@pytest.fixture
def objects(*, client: Client, bucket: str, server: Server) -> BucketObjects:
    for key in ("a.txt", "x/1.txt", "x/y/2.txt", "x.txt", "z/3.txt", "~.txt"):
        client.put_object(Bucket=bucket, Key=f"p/{key}", Body=key.encode())
    client.put_object(Bucket=bucket, Key="pp/other.txt", Body=b"")
    return open_objects(server.url(bucket, "p"))


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
    *, client: Client, bucket: str, server: Server, png: Png
) -> None:
    for key, body in (("00007.jpg", png(7)), ("00007.json", b'{"EXPECTED_QUANTITY": 4}')):
        client.put_object(Bucket=bucket, Key=key, Body=body, ACL="public-read")
    bare = server.url(bucket, "").partition("&credentials")[0] + "&anonymous=yes"
    server.signed.clear()
    found = load_source(bare, format="abid")
    assert [sample.count for sample in found.samples] == [4]
    assert server.signed
    assert not any(server.signed)
    client.put_object(Bucket=bucket, Key="00008.jpg", Body=png(8))
    with pytest.raises(RefusedError):
        open_objects(bare).read("00008.jpg", most=9999)


def test_a_bucket_that_is_not_there_and_a_server_that_is_away_are_said(server: Server) -> None:
    with pytest.raises(NotFoundError):
        load_source(server.url("no-such-bucket", ""))
    away = Server(endpoint="http://127.0.0.1:9", credentials=server.credentials)
    with pytest.raises(UnavailableError):
        load_source(away.url("b", ""))
