"""The device on the hub's own machine: it comes, follows the site, and goes with the hub."""

from functools import partial
from pathlib import Path

import pytest

from lineside.core import ConflictError, NotFoundError, SystemClock, decode, digest_of
from lineside.fleet import NewInvitation
from lineside.fleet.enrolment import EnrolmentRequest, read_code
from lineside.fleet.trust.certificates import device_request, new_device_key
from lineside.hub import HubConfig, RunningHub, init_site, running
from lineside.testing.links import wait_until
from lineside.vision import encode_jpeg
from tests.hub.conftest import scene

CLOCK = SystemClock()
PLANT = """schema = "lineside.plant/1"
site = "here"

[[line]]
id = "one"
name = "One"

[[line]]
id = "two"
name = "Two"

[[camera]]
id = "in"
line = "one"
source = "folder:in"

[[camera]]
id = "gate"
line = "two"
source = "rtsp://viewer:s3cret@127.0.0.1:9/stream"
"""
pytestmark = pytest.mark.slow


def settings(folder: Path, **more: object) -> HubConfig:
    (folder / "in").mkdir(exist_ok=True)
    (folder / "plant.toml").write_text(PLANT)
    given = {"data_dir": str(folder / "hub"), "plant": str(folder / "plant.toml")}
    return decode(HubConfig, {**given, "port": 0, "bus_port": 0, **more}, where="settings")


def is_online(hub: RunningHub) -> bool:
    name = hub.services.local_device.state().device
    return [one.state for one in hub.services.devices.some((name,))] == ["online"]


def has_image(hub: RunningHub, image: bytes) -> bool:
    return digest_of(image) in [one.digest for one in hub.services.frames.page()]


def actions(hub: RunningHub) -> list[str]:
    """What happened to devices, oldest first."""
    return [
        one.event["data"]["action"] for one in hub.services.events.page(kind="lineside.device.v1")
    ]


def plant_of_device(folder: Path) -> str:
    return (folder / "hub" / "device" / "plant.toml").read_text()


def test_it_takes_images_after_each_start_of_the_hub(tmp_path: Path) -> None:
    config = settings(tmp_path, device_here=True)
    for number in range(2):
        with running(config, clock=CLOCK) as hub:
            wait_until(lambda: is_online(hub))
            image = encode_jpeg(scene("blue", seed=number))
            (tmp_path / "in" / f"{number}.jpg").write_bytes(image)
            wait_until(partial(has_image, hub, image))
            found = hub.services.local_device.state()
            assert (found.state, found.reason, found.from_settings) == ("running", "", True)
            with pytest.raises(ConflictError, match="device_here"):
                hub.services.local_device.stop()
            assert actions(hub) == ["invited", "enrolled"]


def test_it_inspects_the_lines_of_nobody_else_over_tls(tmp_path: Path) -> None:
    config = settings(tmp_path, tls="site", bus_tls="127.0.0.1:0")
    init_site(config, password=lambda: "", clock=CLOCK)
    with running(config, clock=CLOCK) as hub:
        local, enrolment = hub.services.local_device, hub.services.enrolment
        assert local.state().state == "off"
        assert local.start(by="anna").lines == ("one", "two")
        wait_until(lambda: is_online(hub))
        assert "s3cret" in plant_of_device(tmp_path)

        enrol(hub, "edge-1", lines=("two",))
        wait_until(
            lambda: local.state().lines == ("one",) and "s3cret" not in plant_of_device(tmp_path)
        )
        wait_until(lambda: is_online(hub) and local.state().state == "running")
        own = enrolment.inventory.one(local.state().device)
        assert own.lines == ("one",)

        enrolment.revoke(own.device, by="anna", reason="moved")
        wait_until(lambda: "was revoked: moved" in local.state().reason)
        local.start(by="ben")
        wait_until(lambda: is_online(hub) and local.state().state == "running")

        assert local.stop().state == "off"
        enrol(hub, "edge-2", lines=("one",))
        with pytest.raises(NotFoundError, match="no camera is left"):
            local.start(by="anna")
    with running(config, clock=CLOCK) as hub:
        assert hub.services.local_device.state().state == "off"


def enrol(hub: RunningHub, device: str, *, lines: tuple[str, ...]) -> None:
    """Enrol another device, which never comes."""
    enrolment = hub.services.enrolment
    issued = enrolment.invite(NewInvitation(device=device, lines=lines), by="anna")
    request = device_request(new_device_key(), device=device).decode()
    body = EnrolmentRequest(secret=read_code(issued.code).secret, request=request)
    enrolment.enrol(body, address="127.0.0.1")
