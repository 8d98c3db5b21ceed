"""From an approval on the hub to a device that never had a network, by way of a stick."""

import json
import threading
from pathlib import Path

import pytest

from lineside.cli.app import _run
from lineside.cli.config import load_edge
from lineside.core import SystemClock, decode_json
from lineside.edge import EdgeConfig, run
from lineside.hub import HubConfig, running
from lineside.hub.models.model_service import Registration
from lineside.links import open_bus
from lineside.models import Package, build_package
from lineside.testing.links import LONG_S, wait_until
from tests.hub.conftest import DISC_PLANT
from tests.models.conftest import package_parts

BUS = "memory://stick"
STATUS = "lineside/hall/device/edge-1/status"


@pytest.fixture
def hub(tmp_path: Path) -> HubConfig:
    (tmp_path / "plant.toml").write_bytes(DISC_PLANT)
    return HubConfig(
        data_dir=str(tmp_path / "hub"), plant=str(tmp_path / "plant.toml"), port=0, bus_port=0
    )


@pytest.fixture
def config_file(hub: HubConfig, tmp_path: Path) -> str:
    path = tmp_path / "hub.toml"
    path.write_text(f'data_dir = "{hub.data_dir}"\nplant = "{hub.plant}"\n')
    return str(path)


@pytest.fixture
def edge(tmp_path: Path) -> EdgeConfig:
    settings = {
        "device": "edge-1", "bus": BUS, "plant": str(tmp_path / "plant.toml"),
        "data_dir": str(tmp_path / "edge"),
    }  # fmt: skip
    lines = [f'{name} = "{value}"' for name, value in settings.items()]
    path = tmp_path / "edge.toml"
    path.write_text("\n".join(lines))
    return load_edge(path).config


def in_use(edge: EdgeConfig) -> str:
    """Start the agent, wait for its first package, stop it; the package's digest."""
    clock, stop = SystemClock(), threading.Event()
    watcher = open_bus(BUS, client_id="watcher", clock=clock)
    mailbox = watcher.subscribe((STATUS,), name="status")
    thread = threading.Thread(target=run, args=(edge,), kwargs={"clock": clock, "stop": stop})
    thread.start()
    try:
        while (message := mailbox.get(timeout_s=LONG_S)) is not None:
            status = decode_json(message.payload, where=message.topic)
            if status["packages"]:
                return str(status["packages"][0]["digest"])
        return ""
    finally:
        stop.set()
        thread.join()
        mailbox.close()
        watcher.close()


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return tmp_path / "site.lsbundle"


@pytest.mark.slow
def test_a_stick_brings_a_device_from_nothing_to_the_approved_package(
    hub: HubConfig,
    config_file: str,
    edge: EdgeConfig,
    stick: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = build_package(*package_parts())
    digest = Package.read(data).digest
    with running(hub, clock=SystemClock()) as started:
        services = started.services
        services.packages.add(data, by="anna")
        services.models.register("discs", Registration(package=digest), by="anna")
        services.models.approve("discs", 1, by="berta", reason="measured")
        wait_until(lambda: services.releases.target_of(digest) is not None)
    bundle = ["package", "bundle", "discs/1", "--out", str(stick), "--config", config_file]
    assert _run(bundle) == 0
    root = str(tmp_path / "root.json")
    assert _run(["trust", "root", root, "--config", config_file]) == 0
    capsys.readouterr()
    words = ["package", "apply", str(stick), "--config", str(tmp_path / "edge.toml"), "--json"]
    assert _run([*words, "--root", root]) == 0
    (applied,) = json.loads(capsys.readouterr().out)["packages"]
    assert (applied["group"], applied["version"], applied["digest"]) == ("discs", "1", digest)
    assert in_use(edge) == digest
