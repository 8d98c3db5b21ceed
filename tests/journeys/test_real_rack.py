"""The real factory's pictures through the running programs: trained, published, decided, folded.

Training uses the 16 pictures of ``train.lst``. The eight of ``valid.lst`` are published as
``i/cam`` messages, as the factory does; what the hub's log and twin say is held against the labels.
The design of the method looked at these eight pictures; the figures are not those of a blind test.
"""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from lineside.core import SystemClock, digest_of, frame_id, load_plant, rfc3339
from lineside.datasets import load_source
from lineside.datasets.samples import Import
from lineside.library.client import HubClient
from lineside.links import Bus, open_bus
from lineside.streams import PREDICTION_TYPE
from lineside.testing.links import LONG_S
from lineside.training import TrainJob, run_job
from tests.faults.site import wait_for
from tests.links.conftest import free_port

pytestmark = [pytest.mark.data, pytest.mark.slow]

REAL = Path(__file__).parents[2] / "examples" / "warehouse" / "real.toml"
CLOCK = SystemClock()
PAUSE = threading.Event()
COLOURS = ("blue", "red", "white")


@dataclass(frozen=True, slots=True)
class Site:
    """A running hub and agent with the package of the real rack."""

    hub: HubClient
    url: str
    bus: Bus
    folder: Path
    validation: Import


def start(stack: ExitStack, folder: Path, name: str) -> None:
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "lineside", name, "--config", str(folder / f"{name}.toml")],
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # noqa: TID251  handed on to a child
        )
    stack.callback(process.wait)
    stack.callback(process.terminate)


@pytest.fixture(scope="module")
def site(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    port, bus_port = free_port(), free_port()
    (folder / "hub.toml").write_text(
        f'data_dir = "{folder / "hub"}"\nplant = "{REAL}"\nport = {port}\nbus_port = {bus_port}\n'
    )
    (folder / "edge.toml").write_text(
        f'device = "edge-1"\nbus = "mqtt://127.0.0.1:{bus_port}"\nplant = "{REAL}"\n'
        f'hub = "http://127.0.0.1:{port}"\ndata_dir = "{folder / "edge"}"\n'
        f'token_file = "{folder}/hub/tokens/device.token"\n'
        f'trust_root = "{folder}/hub/trust/root.json"\n'
    )
    rack = data_folder / "smart-factory"
    inspection = load_plant(REAL).find_inspection("stock")
    with ExitStack() as stack:
        start(stack, folder, "hub")
        token = folder / "hub" / "tokens" / "admin.token"
        wait_for(token.exists, why="the hub's token")
        hub = HubClient(f"http://127.0.0.1:{port}", token=token.read_text().strip())
        wait_for(hub.ready, why="the hub")
        start(stack, folder, "edge")
        result = run_job(
            TrainJob(inspection=inspection, data=str(rack / "train.lst")),
            folder=folder / "job",
            progress=lambda _: None,
            cancelled=threading.Event(),
            clock=CLOCK,
        )
        (folder / "rack.lspkg").write_bytes(result.package)
        subprocess.run(
            [
                *(sys.executable, "-m", "lineside", "model", "add", str(folder / "rack.lspkg")),
                *("--config", str(folder / "hub.toml")),
            ],
            check=True,
        )
        hub.post(f"/packages/{result.digest}/use", {"inspection": "stock", "reason": "journey"})
        wait_for(lambda: any(d["packages"] for d in hub.get("/devices")["items"]), why="the device")
        bus = open_bus(f"mqtt://127.0.0.1:{bus_port}", client_id="factory", clock=CLOCK)
        stack.callback(bus.close)
        validation = load_source(rack / "valid.lst", labels=("blue", "red", "white"))
        yield Site(
            hub=hub, url=f"http://127.0.0.1:{port}", bus=bus, folder=folder, validation=validation
        )


def publish(site: Site, encoded: bytes) -> dict[str, Any]:
    """One picture as the factory sends it; the prediction the hub stored of it."""
    data = "data:image/jpeg;base64," + base64.b64encode(encoded).decode()
    now = CLOCK.now()
    message = json.dumps({"ts": rfc3339(now), "data": data}).encode()
    site.bus.publish("i/cam", message, qos=0, timeout_s=LONG_S)
    frame = frame_id(camera="rack", captured_at=now, digest=digest_of(encoded))

    def stored() -> dict[str, Any] | None:
        for event in site.hub.get("/events", type=PREDICTION_TYPE, newest_first=True)["items"]:
            said: dict[str, Any] = event["data"]
            if said["frame"]["id"] == frame:
                return said
        return None

    found: dict[str, Any] = wait_for(stored, why="the frame")
    return found


def test_the_validation_pictures_are_answered_right_through_the_bus(site: Site) -> None:
    right, whole = 0, 0
    for sample in site.validation.samples:
        said = publish(site, site.validation.read(sample))
        assert said["state"] == "ok", said["reason"]
        wanted = {name: "present" if name in sample.labels else "absent" for name in sample.known}
        correct = [a["decision"] == wanted[a["name"]] for a in said["labels"]]
        right += sum(correct)
        whole += all(correct)
    assert right >= 23
    assert whole >= 7


def endpoint_answers(site: Site) -> list[tuple[dict[str, bool], dict[str, bool]]]:
    """What the earlier client makes of the endpoint's answer, and the truth, for each picture.

    Its arithmetic: the array is blue, red, white, and present is strictly greater than 0.85.
    """
    command = (sys.executable, "-m", "lineside", "hub", "key", "client", "--json")
    config = ("--config", str(site.folder / "hub.toml"))
    key = json.loads(subprocess.run([*command, *config], check=True, capture_output=True).stdout)
    client = boto3.session.Session(
        aws_access_key_id=key["id"], aws_secret_access_key=key["secret"], region_name="eu-west-1"
    ).client("sagemaker-runtime", endpoint_url=site.url)
    found = []
    for sample in site.validation.samples:
        answer = client.invoke_endpoint(
            EndpointName="smart-factory-wh-stock-inference", ContentType="image/jpeg",
            Body=site.validation.read(sample),
        )  # fmt: skip
        numbers = json.loads(answer["Body"].read())
        said = {name: n > 0.85 for name, n in zip(COLOURS, numbers, strict=True)}
        found.append((said, {name: name in sample.labels for name in COLOURS}))
    client.close()
    return found


def test_a_client_with_one_fixed_cut_is_answered_right(site: Site) -> None:
    found = endpoint_answers(site)
    assert sum(said[name] == truth[name] for said, truth in found for name in COLOURS) == 24
    assert sum(said == truth for said, truth in found) == 8


def showing(site: Site, frame: str) -> dict[str, Any] | None:
    """The twin, once its picture is this frame's."""
    twin: dict[str, Any] = site.hub.get("/twin")
    return twin if twin["picture"]["evidence"]["frame"] == frame else None


def test_the_twin_shows_what_the_last_picture_showed(site: Site) -> None:
    sample = site.validation.samples[0]
    said = publish(site, site.validation.read(sample))
    twin = wait_for(lambda: showing(site, said["frame"]["id"]), why="the twin")
    colours = twin["colours"]
    assert {c for c, state in colours.items() if state["seen"] == "present"} == set(sample.labels)
    documents = site.hub.get("/twin/documents/sagemaker_stock_inference")["items"]
    present = documents[-1]["is_present"]
    assert {colour for colour, there in present.items() if there} == set(sample.labels)


def test_a_picture_of_something_else_is_camera_moved(site: Site, data_folder: Path) -> None:
    foreign = min((data_folder / "screw-presence" / "images").glob("*.jpg"))
    said = publish(site, foreign.read_bytes())
    assert said["state"] == "camera moved"
    assert said["labels"] == []
