"""A hub read from Python: rows page by page, images, packages, tables and refusals."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

import lineside
from lineside.core import InvalidError, NotFoundError, RefusedError, UnavailableError
from lineside.hub import Services
from lineside.library.hub import Hub
from lineside.vision import decode_picture
from tests.hub.conftest import Line
from tests.library.conftest import python_example

OTHER = "0123"  # no token of this hub


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
    query = remote.frames(camera=kept[0].camera)
    query._query["limit"] = 2
    assert [row["id"] for row in query] == [row.id for row in kept]
    assert next(iter(remote.events(kind="lineside.prediction.v1")))["type"].endswith("v1")
    assert not list(remote.frames(until=line.ago(3600)))


def test_images_are_arrays_and_packages_answer(
    remote: Hub, line: Line, hub: Services, archive: bytes, jpeg: Callable[..., bytes]
) -> None:
    line.send(line.camera(jpeg()))
    row = next(iter(remote.frames()))
    assert (remote.image(row["id"]) == decode_picture(hub.frames.picture(row["id"]).data)).all()
    added = hub.packages.add(archive, by="a person")
    model = remote.package(added.digest)
    assert model.digest == added.digest == next(iter(remote.packages()))["digest"]
    assert model.predict(jpeg()).task == "multilabel"


def test_rows_become_a_table(remote: Hub, line: Line, jpeg: Callable[..., bytes]) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    line.send(line.camera(jpeg()))
    assert len(remote.frames().to_pandas()) == len(list(remote.frames())) > 0


def test_every_list_can_be_read(remote: Hub) -> None:
    for rows in (remote.cameras(), remote.datasets(), remote.runs(), remote.models(),
                 remote.packages(), remote.replays()):  # fmt: skip
        assert list(rows) is not None


def test_refusals_are_those_of_the_hub(remote: Hub, served: str) -> None:
    with pytest.raises(RefusedError):
        list(lineside.connect(served, token=OTHER).frames())
    with pytest.raises(NotFoundError):
        remote.image("no-such-frame")
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
