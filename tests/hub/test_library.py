"""A hub read from Python: rows page by page, images, packages, tables and refusals."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient

import lineside
from lineside.core import InvalidError, NotFoundError, RefusedError, UnavailableError
from lineside.hub import Role, Services
from lineside.hub.learning.datasets import Teaching
from lineside.library.hub import Hub
from lineside.testing.links import wait_until
from lineside.vision import decode_picture
from tests.hub.conftest import Line, serve_hub
from tests.library.conftest import python_example

OTHER = "0123"  # no token of this hub
FROM = "2026-11-19T06:00:00Z"


@pytest.fixture
def remote(served: str, client: TestClient) -> Hub:
    token = client.headers["authorization"].removeprefix("Bearer ")
    return lineside.connect(served, token=token)


def test_frames_and_events_are_read_page_by_page(
    remote: Hub, line: Line, hub: Services, jpeg: Callable[..., bytes]
) -> None:
    for seed in range(5):
        picture = jpeg(seed=seed)
        line.send(line.camera(picture), line.status(), line.prediction("blue", picture=picture))
        line.wait(1)
    kept = hub.frames.page(limit=100)
    query = remote.frames(camera=kept[0].camera, limit=2)
    assert [row["id"] for row in query] == [row.id for row in kept]
    assert next(iter(remote.events(kind="lineside.prediction.v1")))["type"].endswith("v1")
    assert not list(remote.frames(until=line.ago(3600)))
    two = [kept[0].id, kept[3].id]
    assert [row["id"] for row in remote.frames(frame=two)] == two


def test_rows_that_arrive_meanwhile_are_given_once(
    remote: Hub, line: Line, hub: Services, jpeg: Callable[..., bytes]
) -> None:
    def send(*seeds: int) -> None:
        for seed in seeds:
            line.send(line.camera(jpeg(seed=seed)))
            line.wait(1)

    send(1, 2, 3)
    stood = [row.id for row in hub.frames.page(limit=100)]
    walks = [
        iter(rows(limit=2))
        for rows in (remote.frames, remote.events, partial(remote.events, newest_first=True))
    ]
    begun = [next(walk) for walk in walks]
    send(4, 5)
    line.send(line.camera(jpeg(seed=6), at=line.ago(60)))  # a device sends what it kept
    frames, log, newest = ([first, *walk] for first, walk in zip(begun, walks, strict=True))
    late = [row.id for row in hub.frames.page(limit=100)][-1:]
    assert [row["id"] for row in frames] == [*stood, *late]
    positions = [[row["log"]["position"] for row in rows] for rows in (log, newest)]
    assert positions[0] == [view.position for view in hub.events.page(limit=1000)]
    assert positions[1] == positions[0][positions[0].index(positions[1][0]) :: -1]


def test_rows_go_on_where_they_were_when_the_hub_was_restarted(
    client: TestClient, line: Line, hub: Services, caplog: pytest.LogCaptureFixture,
    jpeg: Callable[..., bytes],
) -> None:  # fmt: skip
    for seed in range(4):
        line.send(line.camera(jpeg(seed=seed)))
        line.wait(1)
    token = client.headers["authorization"].removeprefix("Bearer ")
    with serve_hub(hub) as url:
        frames = lineside.connect(url, token=token).frames(limit=2)
        whole, brief = [row["id"] for row in frames], lineside.connect(url, token=token, retry_s=0)
        walk, ended = iter(frames), iter(brief.frames(limit=2))
        begun = [next(walk)["id"], next(walk)["id"]]
        assert next(ended) != next(ended)
    with pytest.raises(UnavailableError, match="does not answer"):
        next(ended)
    with ThreadPoolExecutor() as other, caplog.at_level("WARNING", logger="lineside.core"):
        rest = other.submit(list, walk)
        wait_until(lambda: "away, trying again" in caplog.text)
        with serve_hub(hub, port=urlsplit(url).port or 0):
            assert begun + [row["id"] for row in rest.result()] == whole


def test_images_are_arrays(
    remote: Hub, line: Line, hub: Services, jpeg: Callable[..., bytes]
) -> None:
    line.send(line.camera(jpeg()))
    row = next(iter(remote.frames()))
    for named in (row, row["id"]):
        assert (remote.image(named) == decode_picture(hub.frames.picture(row["id"]).data)).all()
    for ask in (remote.image, remote.samples, remote.versions, remote.package, remote.changes):
        with pytest.raises(
            InvalidError, match=r"\{'a': 'b'\} is no text and has no '.*fix: Give a"
        ):
            ask({"a": "b"})


def test_rows_become_a_table(remote: Hub, line: Line, jpeg: Callable[..., bytes]) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    line.send(line.camera(jpeg()))
    frames = remote.frames().to_pandas()
    assert len(frames) == len(list(remote.frames())) > 0
    assert remote.image(frames.iloc[0]).ndim == 3


def test_every_list_can_be_read(
    remote: Hub, line: Line, hub: Services, jpeg: Callable[..., bytes]
) -> None:
    line.send(line.camera(jpeg()))
    frames = [row["id"] for row in remote.frames()]
    hub.datasets.teach("rack.1", Teaching(frames=tuple(frames), labels=("blue",)), by="anna")
    (dataset,) = remote.datasets()
    assert [row["state"] for row in remote.samples(dataset)] == ["labelled"]
    for rows in (remote.cameras(), remote.datasets(), remote.runs(), remote.models(),
                 remote.packages(), remote.replays()):  # fmt: skip
        assert list(rows) is not None


def test_refusals_are_those_of_the_hub(remote: Hub, served: str, hub: Services) -> None:
    with pytest.raises(RefusedError):
        list(lineside.connect(served, token=OTHER).frames())
    device = lineside.connect(served, token=hub.auth.issue_token("edge-1", kind="device"))
    viewer = hub.auth.issue_token("someone", kind="api", role=Role.VIEWER)
    with pytest.raises(RefusedError, match="device"):
        list(device.events())
    with pytest.raises(RefusedError, match=r"(?i)build"):
        lineside.connect(served, token=viewer).replay(since=FROM, until=FROM)
    with pytest.raises(NotFoundError):
        remote.image("no-such-frame")
    with pytest.raises(InvalidError, match=r"'verdikt' is not a .*Did you mean 'verdict'"):
        list(remote.frames(verdikt="reject"))
    with pytest.raises(InvalidError, match="https://HOST:PORT"):
        lineside.connect("hub.plant.lan", token=OTHER)
    with pytest.raises(UnavailableError, match="does not answer"):
        list(lineside.connect("http://127.0.0.1:9", token=OTHER).frames())


def test_the_example_of_the_docs_runs(
    served: str, remote: Hub, line: Line, jpeg: Callable[..., bytes]
) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    picture = jpeg()
    line.send(line.camera(picture), line.status(), line.prediction("blue", picture=picture))
    names = {"url": served, "token": remote.client._token}
    exec(python_example("A hub"), names)  # noqa: S102  the example of our own page
    assert names["image"].shape[2] == 3  # type: ignore[attr-defined]
    assert len(names["table"]) == 1
