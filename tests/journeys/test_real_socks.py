"""The how-to on sorting, as written, on the published pictures: from a folder to a device.

Every command of docs/how-to/socks.md is run but those of a screen; eighteen pictures prove nothing
about accuracy (benchmarks/socks_study.py), so what is held here is that each step takes what the
one before made.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lineside.core import SystemClock, decode_json
from lineside.library.client import HubClient
from lineside.links import open_bus
from lineside.testing.links import LONG_S
from tests.faults.site import wait_for
from tests.links.conftest import free_port

pytestmark = [pytest.mark.data, pytest.mark.slow, pytest.mark.timeout(900)]

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "socks.md"
CLOCK = SystemClock()
HEAD = """schema = "lineside.plant/1"
site = "laundry"
line = [{ id = "table", name = "Sorting table" }]
camera = [{ id = "overhead", line = "table", source = "mqtt:socks/cam" }]
"""
CAMERA_ROUTE = '[[route]]\ntopic = "socks/cam"\nkind = "frame"\ncamera = "overhead"\n'
LEFT_OUT = ("simulate", "demo", "edge")  # tried elsewhere, or started here as a program


@dataclass
class Walked:
    """A folder in which the how-to was followed."""

    folder: Path
    samples: Path
    said: dict[str, str] = field(default_factory=dict)
    heard: list[bytes] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)


def commands() -> list[list[str]]:
    lines = re.findall(r"^    lineside (.*)$", GUIDE.read_text().replace("\\\n", ""), re.MULTILINE)
    return [words for line in lines if (words := shlex.split(line))[0] not in LEFT_OUT]


def block(first: str) -> str:
    """The indented lines of the how-to from a line on, until its next paragraph."""
    text = GUIDE.read_text()
    start = text.index(f"    {first}\n")
    end = re.compile(r"\n\n(?! {4})").search(text, start)
    assert end is not None
    return re.sub("^ {4}", "", text[start : end.start()], flags=re.MULTILINE) + "\n"


@pytest.fixture(scope="module")
def walked(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walked]:
    folder = tmp_path_factory.mktemp("real-socks")
    walk = Walked(folder=folder, samples=data_folder / "sock-sort" / "sock-images-sample")
    ports = prepare(folder)
    for words in commands():
        if words[:2] == ["model", "add"]:
            break
        run(walk, words)
    with ExitStack() as stack:
        live(walk, stack, port=ports[0], bus_port=ports[1])
        yield walk


def prepare(folder: Path) -> tuple[int, int]:
    port, bus_port = free_port(), free_port()
    plant = HEAD + block("[[inspection]]") + CAMERA_ROUTE + block("[[route]]")
    (folder / "plant.toml").write_text(plant)
    (folder / "hub.toml").write_text(
        f'data_dir = "hub"\nplant = "plant.toml"\nport = {port}\nbus_port = {bus_port}\n'
    )
    (folder / "edge.toml").write_text(
        f'device = "edge-1"\nbus = "mqtt://127.0.0.1:{bus_port}"\nplant = "plant.toml"\n'
        f'hub = "http://127.0.0.1:{port}"\ndata_dir = "edge"\n'
        'token_file = "hub/tokens/device.token"\ntrust_root = "hub/trust/root.json"\n'
    )
    (folder / "lists").mkdir()
    (folder / "whole").mkdir()
    return port, bus_port


def run(walk: Walked, words: list[str]) -> None:
    given = [word.replace("PICTURES", str(walk.samples)) for word in words]
    done = subprocess.run(
        [sys.executable, "-m", "lineside", *given],
        cwd=walk.folder, capture_output=True, text=True, timeout=800, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # noqa: TID251  handed on to a child
    )  # fmt: skip
    assert done.returncode == 0, (words, done.stderr)
    walk.said[" ".join(words[:2])] = done.stdout


def live(walk: Walked, stack: ExitStack, *, port: int, bus_port: int) -> None:
    """Steps 4 and 5: in use on a device, which says what lies under the camera."""
    start(walk, stack, "hub")
    token = walk.folder / "hub" / "tokens" / "admin.token"
    wait_for(token.exists, why="the hub's token")
    hub = HubClient(f"http://127.0.0.1:{port}", token=token.read_text().strip())
    wait_for(hub.ready, why="the hub")
    (add,) = [words for words in commands() if words[:2] == ["model", "add"]]
    run(walk, add)
    (package,) = hub.get("/packages")["items"]
    hub.post(f"/packages/{package['digest']}/use", {"inspection": "sock", "reason": "journey"})
    start(walk, stack, "edge")
    wait_for(lambda: any(one["packages"] for one in hub.get("/devices")["items"]), why="the device")
    bus = open_bus(f"mqtt://127.0.0.1:{bus_port}", client_id="line", clock=CLOCK)
    stack.callback(bus.close)
    said = bus.subscribe(("sockfound",), qos=0, name="said")
    picture = walk.samples / "class-mongo" / "file_107.jpg"
    bus.publish("socks/cam", picture.read_bytes(), qos=0, timeout_s=LONG_S)
    message = said.get(timeout_s=LONG_S)
    assert message is not None
    walk.heard.append(message.payload)
    walk.events = wait_for(
        lambda: hub.get("/events", type="lineside.plant.message.v1")["items"], why="messages"
    )


def start(walk: Walked, stack: ExitStack, name: str) -> None:
    with (walk.folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "lineside", name, "--config", f"{name}.toml"],
            cwd=walk.folder, stdout=log, stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # noqa: TID251  handed on to a child
        )  # fmt: skip
    stack.callback(process.wait)
    stack.callback(process.terminate)


def test_lists_and_records_are_those_of_the_reference(walked: Walked) -> None:
    lists = walked.folder / "lists"
    ids = [line.split("\t")[0] for line in (lists / "socks_val.lst").read_text().splitlines()]
    assert ids == ["12", "16", "14", "4"]
    names = (lists / "socks_classes.txt").read_text().split()
    assert names == sorted(one.name for one in walked.samples.iterdir())
    assert (walked.folder / "whole" / "socks.rec").stat().st_size > 18 * 17_000


def test_the_package_answers_with_the_names_of_the_plant_file(walked: Walked) -> None:
    (said,) = json.loads(walked.said["predict socks.lspkg"])
    names = {one["name"] for one in said["labels"]}
    assert names == {one.name for one in walked.samples.iterdir()}
    best = max(said["labels"], key=lambda one: one["probability"])
    assert best["name"] == "class-google"  # it learned from this picture
    assert (walked.folder / "report.html").stat().st_size > 10_000


def test_the_device_says_two_fields_and_the_hub_takes_them(walked: Walked) -> None:
    (payload,) = walked.heard
    read = decode_json(payload, where="sockfound")
    assert list(read) == ["image", "probability"]
    assert read["image"] in {one.name for one in walked.samples.iterdir()}
    assert 100 / 6 < read["probability"] <= 100
    assert payload.startswith(b'{"image": "class-')
    (event,) = walked.events
    assert event["data"]["ts_is"] == "arrival"
    assert event["data"]["image"] == read["image"]
