"""The plant file of a device that follows the hub's, without a new start of the program."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lineside.core import SystemClock, digest_of, encode, load_plant
from lineside.core.plant_check import plant_text_topic
from lineside.edge import EdgeConfig, run
from lineside.edge.run import PlantFile
from lineside.links import Bus, open_bus
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, wait_until

PLANT = """schema = "lineside.plant/1"
site = "demo"
line = [{ id = "warehouse", name = "Warehouse" }]

[[camera]]
id = "rack"
line = "warehouse"
source = "mqtt:i/cam"

[[inspection]]
id = "stock"
camera = "rack"
task = "anomaly"
"""
SECOND = '\n[[inspection]]\nid = "second"\ncamera = "rack"\ntask = "anomaly"\n'


def told(text: str, *, known: tuple[str, ...] = (PLANT,), digest: str = "") -> dict[str, Any]:
    return {
        "schema": "lineside.plant-text/1", "number": 2, "text": text,
        "digest": digest or digest_of(text.encode()),
        "known": [digest_of(one.encode()) for one in known],
    }  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> EdgeConfig:
    (tmp_path / "plant.toml").write_text(PLANT)
    return EdgeConfig(
        device="edge-1", bus=f"memory://{tmp_path.name}", plant=str(tmp_path / "plant.toml"),
        data_dir=str(tmp_path / "edge"), unsigned="allowed",
    )  # fmt: skip


@pytest.fixture
def bus(config: EdgeConfig, clock: FakeClock) -> Iterator[Bus]:
    opened = open_bus(config.bus, client_id="hub", clock=clock)
    yield opened
    opened.close()


def follows(config: EdgeConfig, bus: Bus, payload: bytes) -> bool:
    file = PlantFile(config, plant=load_plant(Path(config.plant)), bus=bus)
    try:
        assert not file.has_changed()
        bus.publish(plant_text_topic("demo"), payload, retain=True)
        mailbox = file._mailbox
        assert mailbox is not None
        wait_until(lambda: mailbox.figures().received > 0)
        return file.has_changed()
    finally:
        file.close()


def test_a_file_that_came_from_the_hub_follows_it(config: EdgeConfig, bus: Bus) -> None:
    assert follows(config, bus, encode(told(PLANT + SECOND)))
    assert Path(config.plant).read_text() == PLANT + SECOND


@pytest.mark.parametrize(
    "message",
    [
        told(PLANT),
        told(PLANT + SECOND, known=("another file",)),
        told(PLANT + SECOND, digest=digest_of(b"other")),
        told(PLANT.replace('"demo"', '"elsewhere"')),
        told(PLANT.partition("[[inspection]]")[0]),
        told("nonsense"),
        {"schema": "lineside.plant-text/1"},
    ],
    ids=["same", "own", "damaged", "other site", "nothing to look at", "no plant", "no text"],
)
def test_any_other_text_leaves_the_device_as_it_is(
    config: EdgeConfig, bus: Bus, message: dict[str, Any]
) -> None:
    assert not follows(config, bus, encode(message))
    assert Path(config.plant).read_text() == PLANT


def test_the_program_goes_on_with_the_changed_file_without_a_new_start(config: EdgeConfig) -> None:
    clock, stop = SystemClock(), threading.Event()
    hub = open_bus(config.bus, client_id="hub", clock=clock)
    status = hub.subscribe(("lineside/demo/device/edge-1/status",), name="status")
    program = threading.Thread(
        target=run, args=(config,), kwargs={"clock": clock, "stop": stop}, name="program"
    )
    program.start()
    states = []
    for expected in (b'"online"', b'"offline"', b'"online"'):
        if expected == b'"offline"':
            hub.publish(plant_text_topic("demo"), encode(told(PLANT + SECOND)), retain=True)
        while message := status.get(timeout_s=LONG_S):
            if expected in message.payload:
                states.append(expected)
                break
    stop.set()
    program.join(LONG_S)
    hub.close()
    assert len(states) == 3
    assert [one.id for one in load_plant(Path(config.plant)).inspection] == ["stock", "second"]
