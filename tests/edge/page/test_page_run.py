"""The whole agent with its page: a package on the disk, pictures on the bus, and no hub at all."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lineside.core import SystemClock, UnavailableError, decode_json
from lineside.core.drivers import SecretUrl
from lineside.edge import EdgeConfig, run
from lineside.edge.config import PageConfig
from lineside.edge.deploy.deployment import DeploymentStore
from lineside.edge.messages import read_desired
from lineside.links import Bus, EmbeddedBroker, open_bus
from lineside.models import Package, build_package
from lineside.testing.links import LONG_S, wait_until
from tests.edge.page.asking import ask, parts_of
from tests.edge.test_run import PLANT, desired, shown
from tests.models.conftest import package_parts


@contextmanager
def device(folder: Path, *, bus: str, page: PageConfig, **more: Any) -> Iterator[str]:  # noqa: ANN401  settings
    """A running agent; the address of its page."""
    (folder / "plant.toml").write_text(PLANT)
    config = EdgeConfig(
        device="edge-1", bus=SecretUrl(bus), plant=str(folder / "plant.toml"),
        data_dir=str(folder / "edge"),
        unsigned="allowed", page=page, **more,
    )  # fmt: skip
    stop = threading.Event()
    thread = threading.Thread(
        target=run, args=(config,), kwargs={"clock": SystemClock(), "stop": stop}, name="program"
    )
    thread.start()
    told = folder / "edge" / "page.json"
    try:
        wait_until(lambda: told.exists() and told.stat().st_size > 0)
        yield str(decode_json(told.read_bytes(), where="page.json")["url"])
    finally:
        stop.set()
        thread.join(LONG_S)
    assert not thread.is_alive()
    assert not told.exists()


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def camera(broker: EmbeddedBroker) -> Iterator[Bus]:
    bus = open_bus(broker.url, client_id="camera", clock=SystemClock())
    yield bus
    bus.close()


def with_package(folder: Path) -> Package:
    """What the device ran before: a package on its disk, and the wish for it."""
    archive = build_package(*package_parts())
    package = Package.read(archive)
    store = DeploymentStore(folder / "edge")
    (folder / "edge").mkdir()
    store.open()
    store.put(package.digest, archive)
    store.keep_desired(read_desired(desired(package.digest, "http://away/package"), where="test"))
    return package


def test_the_page_shows_the_live_line_while_the_hub_is_away(
    tmp_path: Path, broker: EmbeddedBroker, camera: Bus
) -> None:
    package = with_package(tmp_path)
    settings = PageConfig(listen="0")
    away = "http://127.0.0.1:9"
    with device(tmp_path, bus=broker.url, page=settings, hub=away) as url:
        wait_until(lambda: len(ask(url, "/api/status").json["models"]) == 1)
        camera.publish("i/cam", shown(lit=True), retain=True)  # also for a later camera
        wait_until(lambda: ask(url, "/api/latest/stock").json["prediction"] is not None)
        said = ask(url, "/api/status").json
        assert said["models"][0]["digest"] == package.digest
        assert said["models"][0]["name"] == "bright"
        assert said["hub"] == {"connected": True, "heard_at": "", "clock_offset_s": None}
        wait_until(lambda: ask(url, "/api/status").json["spool_depth"] == 1)
        [(header, picture)] = parts_of(ask(url, "/api/live?after=0").body)
        assert header["predictions"]["stock"]["package"] == package.digest
        assert picture.startswith(b"\xff\xd8")
        assert ask(url, "/api/latest/stock/heat").status == 200
        # an acknowledgement is the hub's own word
        camera.publish(
            "lineside/demo/device/edge-1/ack",
            b'{"schema":"lineside.ack/1","device":"edge-1","sequence":1}',
        )
        wait_until(lambda: ask(url, "/api/status").json["hub"]["heard_at"] != "")
        wait_until(lambda: ask(url, "/api/status").json["spool_depth"] == 0)


def test_a_camera_is_shown_though_no_package_answers(
    tmp_path: Path, broker: EmbeddedBroker, camera: Bus
) -> None:
    with device(tmp_path, bus=broker.url, page=PageConfig(listen="127.0.0.1:0")) as url:
        camera.publish("i/cam", shown(), retain=True)  # also for a later camera
        wait_until(lambda: ask(url, "/api/status").json["cameras"][0]["arrived_at"] != "")
        [(header, _)] = parts_of(ask(url, "/api/live?after=0").body)
        assert header["predictions"] == {}
        said = ask(url, "/api/status").json
        assert said["models"] == []
        assert said["refused"] == {"no package": 1}


def test_a_page_that_cannot_stand_ends_the_agent_before_it_looks(
    tmp_path: Path, broker: EmbeddedBroker
) -> None:
    (tmp_path / "plant.toml").write_text(PLANT)
    port = broker.url.rpartition(":")[2]
    config = EdgeConfig(
        device="edge-1", bus=SecretUrl(broker.url), plant=str(tmp_path / "plant.toml"),
        data_dir=str(tmp_path / "edge"), unsigned="allowed", page=PageConfig(listen=port),
    )  # fmt: skip
    with pytest.raises(UnavailableError, match="cannot listen"):
        run(config, clock=SystemClock(), stop=threading.Event())
