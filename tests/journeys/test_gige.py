"""A GigE Vision camera, a verdict, a coil of a PLC: through the running programs, and its faults.

A package is trained on images of a rack. The device takes them from a camera that speaks GigE
Vision on a real socket, and switches a real Modbus server. Power and network of the camera, its
exposure and its packets fail one after the other. Each time the coil and a register, which tells
the fail-safe value from a verdict's, have to be right, and the hub has to say why.
"""

import csv
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lineside.core import SystemClock, parse_plant
from lineside.library.client import HubClient
from lineside.testing.links import wait_until
from lineside.training import TrainJob, run_job
from lineside.vision import encode_jpeg
from tests.faults.site import wait_for
from tests.journeys.test_real_rack import start
from tests.links.conftest import free_port
from tests.links.gige_camera import SOURCE, FakeCamera, gige_port, scene_camera
from tests.links.modbus_plc import ModbusPlc, modbus_plc
from tests.models.conftest import scene

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(900)]

COIL, REGISTER = "coil/12", "register/20"
OK, REJECT, FAIL_SAFE = (0, 0), (1, 1), (1, 7)
"""What stands at both."""
PLANT = """
schema = "lineside.plant/1"
site = "hall"
line = [{{ id = "belt", name = "Belt" }}]

[[camera]]
id = "rack"
line = "belt"
source = "{source}"
every_s = 0.2
exposure_us = 10000

[[inspection]]
id = "stock"
camera = "rack"
reject = ["disc"]
view = {{ width_px = 160, height_px = 120 }}

[[inspection.region]]
id = "top"
label = "disc"
box_px = {{ x0_px = 22, y0_px = 22, x1_px = 46, y1_px = 42 }}

[[inspection.region]]
id = "low"
label = "ring"
box_px = {{ x0_px = 102, y0_px = 62, x1_px = 126, y1_px = 82 }}

[[output]]
id = "gate"
line = "belt"
url = "{plc}"
switch = "coil/12"
on = ["reject"]
fail_safe = 1
max_age_s = 30

[[output]]
id = "state"
line = "belt"
url = "{plc}"
switch = "register/20"
on = ["reject"]
fail_safe = 7
max_age_s = 30
"""


def learn(folder: Path, plant: str) -> bytes:
    """A package that was trained on 24 images, in light that differs a little."""
    rng, data = np.random.default_rng(5), folder / "images"
    data.mkdir()
    with (data / "labels.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "label"))
        for number in range(24):
            has_disc, has_ring = number % 2, number // 2 % 2
            image = scene(lit=bool(has_disc))
            if has_ring:
                cv2.ellipse(image, (114, 72), (10, 7), 0, 0, 360, (250, 250, 250), -1)
            seen = image * rng.uniform(0.85, 1.1) + rng.integers(-4, 5, image.shape)
            encoded = encode_jpeg(seen.clip(0, 255).astype(np.uint8), quality=95)
            (data / f"{number}.jpg").write_bytes(encoded)
            rows.writerow((f"{number}.jpg", ";".join(["disc"] * has_disc + ["ring"] * has_ring)))
    inspection = parse_plant(plant.encode(), where="plant").find_inspection("stock")
    return run_job(
        TrainJob(inspection=inspection, data=str(data / "labels.csv")), folder=folder / "job",
        progress=lambda _: None, cancelled=threading.Event(), clock=SystemClock(),
    ).package  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Site:
    """A hub, a device with a trained package, its camera and its PLC."""

    hub: HubClient
    url: str
    token: str
    camera: FakeCamera
    plc: ModbusPlc

    def stands(self, *values: tuple[int, int]) -> None:
        """Wait until both points of the PLC have these values."""
        wait_until(
            lambda: (self.plc.value(COIL), self.plc.value(REGISTER)) in values,
            why=f"not {values}",
        )

    def status(self) -> dict[str, Any]:
        """The device's own, as the hub's API has it."""
        return dict(self.hub.get("/devices/edge-1")["told"]["status"])

    def says(self, state: str, reason: str = "") -> None:
        """Wait until both outputs are said to be in a state, for a reason."""

        def said() -> bool:
            outputs = self.status()["outputs"]
            return [one["state"] for one in outputs] == [state] * 2 and all(
                one.get("reason", "").startswith(reason) for one in outputs
            )

        wait_for(said, why=f"{state} {reason}")

    def metric(self, name: str) -> str:
        """A line of ``/metrics`` without its name."""
        asked = urllib.request.Request(  # noqa: S310  the hub of this test
            f"{self.url}/metrics", headers={"authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(asked) as answer:  # noqa: S310
            lines = answer.read().decode().splitlines()
        return next((one.removeprefix(name).strip() for one in lines if one.startswith(name)), "")

    def measures(self, name: str, value: int) -> None:
        wait_for(lambda: self.metric(name) == f"{value:.1f}", why=f"{name} {value}")

    def alerts(self, *causes: str) -> None:
        """Wait until these alerts are open and no others."""
        wait_for(
            lambda: (
                [one["cause"] for one in self.hub.get("/alerts", state="open")["items"]]
                == list(causes)
            ),
            why=f"alerts {causes}",
        )

    def expose(self, exposure_us: int) -> None:
        """Set another exposure in the plant file, as on the page of the camera."""
        change = {"section": "camera", "id": "rack", "values": {"exposure_us": exposure_us}}
        self.hub.post("/plant", {**change, "reason": "exposure"})

    def follows(self) -> None:
        """A good part passes, a bad one is rejected, and nothing is wrong."""
        for name, values in (("good", OK), ("bad", REJECT), ("good", OK)):
            self.camera.say(name)
            self.stands(values)
        self.says("follows")
        self.measures('lineside_device_outputs_fail_safe{device="edge-1"}', 0)
        wait_for(lambda: not self.status()["faults"], why="no fault")


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, absent: Callable[[str, str], None]
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("gige")
    port, bus_port = free_port(), free_port()
    with ExitStack() as stack:
        stack.enter_context(gige_port(absent))
        camera = scene_camera(
            folder / "scenes.npz", {"good": scene(lit=False), "bad": scene(lit=True)}
        )
        stack.callback(camera.unplug)
        plc = stack.enter_context(modbus_plc())
        plant = PLANT.format(source=SOURCE, plc=plc.url)
        (folder / "plant.toml").write_text(plant)
        (folder / "hub.toml").write_text(
            f'data_dir = "{folder}/hub"\nplant = "{folder}/plant.toml"\nport = {port}\n'
            f"bus_port = {bus_port}\n"
        )
        (folder / "device.toml").write_text(plant)
        (folder / "edge.toml").write_text(
            f'device = "edge-1"\nbus = "mqtt://127.0.0.1:{bus_port}"\n'
            f'plant = "{folder}/device.toml"\nhub = "http://127.0.0.1:{port}"\n'
            f'data_dir = "{folder}/edge"\nstatus_every_s = 1.0\n'
            f'token_file = "{folder}/hub/tokens/device.token"\n'
            f'trust_root = "{folder}/hub/trust/root.json"\n'
        )
        start(stack, folder, "hub")
        token = folder / "hub" / "tokens" / "admin.token"
        wait_for(token.exists, why="the hub's token")
        hub = HubClient(f"http://127.0.0.1:{port}", token=token.read_text().strip())
        wait_for(hub.ready, why="the hub")
        start(stack, folder, "edge")
        found = Site(
            hub=hub, url=f"http://127.0.0.1:{port}", token=token.read_text().strip(),
            camera=camera, plc=plc,
        )  # fmt: skip
        found.stands(FAIL_SAFE)  # nothing can be judged yet
        found.says("fail-safe", "inspection stock has no package")
        digest = hub.upload("/packages", learn(folder, plant))["digest"]
        hub.post(f"/packages/{digest}/use", {"inspection": "stock", "reason": "journey"})
        yield found


def test_a_frame_leads_to_a_verdict_and_the_verdict_to_a_coil(site: Site) -> None:
    site.follows()
    site.alerts()
    newest = site.hub.get("/verdicts", limit=50)["items"]
    assert {"ok", "reject"} <= {one["verdict"]["verdict"] for one in newest}


@pytest.mark.parametrize(
    ("lose", "regain"),
    [(FakeCamera.unplug, FakeCamera.plug_in), (FakeCamera.cut, FakeCamera.mend)],
    ids=["power", "network"],
)
def test_a_camera_that_is_away_is_said_and_fail_safe_until_it_is_back(
    site: Site, lose: Callable[[FakeCamera], None], regain: Callable[[FakeCamera], None]
) -> None:
    site.follows()
    lose(site.camera)
    site.stands(FAIL_SAFE)
    site.says("fail-safe", "camera rack is lost")
    (condition,) = site.status()["cameras"]
    assert condition["state"] == "lost"
    assert "does not answer" in condition["reason"]
    site.measures('lineside_device_outputs_fail_safe{device="edge-1"}', 2)
    site.measures('lineside_camera_lost{camera="rack"}', 1)
    site.alerts("camera lost")
    regain(site.camera)
    site.follows()
    site.measures('lineside_camera_lost{camera="rack"}', 0)
    site.alerts()


def test_a_wrong_exposure_is_said_and_fail_safe_until_it_is_right(site: Site) -> None:
    for exposure_us, fault in ((80_000, "overexposed"), (1_000, "dark")):
        site.follows()
        site.expose(exposure_us)
        site.stands(FAIL_SAFE)
        site.says("fail-safe", f"camera rack is {fault}")
        site.measures(f'lineside_camera_state{{camera="rack",state="{fault}"}}', 1)
        site.alerts(f"camera {fault}")
        site.expose(10_000)
        site.follows()
        site.alerts()


def test_images_that_come_in_part_are_said_and_fail_safe_until_one_is_whole(site: Site) -> None:
    site.follows()
    site.camera.say("lose 0.5")
    site.stands(FAIL_SAFE)
    site.says("fail-safe", "inspection stock failed on an image: picture cannot be read")
    site.camera.say("lose 0")
    site.follows()
    assert site.status()["refused"]["picture cannot be read"] > 0
