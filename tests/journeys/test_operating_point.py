"""An operating point on its way: previewed, approved by a second person, decided by, undone."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lineside.core import RefusedError, SystemClock, digest_of, encode
from lineside.hub import HubConfig, running
from lineside.hub.models.operating_points import PointProposal, PreviewRequest
from lineside.links import open_bus
from lineside.models.operating_point import Limits
from lineside.streams import PREDICTION_TYPE
from lineside.testing.links import wait_until
from tests.hub.conftest import DISC_PLANT
from tests.journeys.test_rollout import Plant, _camera, package


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    (tmp_path / "plant.toml").write_bytes(DISC_PLANT)
    config = HubConfig(
        data_dir=str(tmp_path / "hub"), plant=str(tmp_path / "plant.toml"), port=0, bus_port=0
    )
    with ExitStack() as stack:
        hub = stack.enter_context(running(config, clock=SystemClock()))
        made = Plant(hub=hub, folder=tmp_path, stack=stack)
        made.approve(package("first"))
        hub.services.packages.use(made.versions[0], inspection="stock", by="eve", reason="good")
        hub.services.things.add("edge-1")
        made.device("edge-1")
        stack.enter_context(_camera(hub.bus_url))
        wait_until(lambda: made.runs() == {"edge-1": made.versions[0]})
        yield made


def decides_by(plant: Plant, digest: str) -> bool:
    """Whether the newest recorded answer was decided by it."""
    page = plant.hub.services.events.page(kind=PREDICTION_TYPE, newest_first=True, limit=1)
    return bool(page) and page[0].event["data"]["operating_point"] == digest


def faults(plant: Plant) -> list[str]:
    return [str(one) for one in plant.hub.services.devices.one("edge-1").status.get("faults", [])]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_moved_limit_decides_on_the_device_within_seconds_and_goes_back(plant: Plant) -> None:
    points, package_digest = plant.hub.services.points, plant.versions[0]
    wait_until(lambda: decides_by(plant, ""))
    limits = (Limits(name="disc", low=0.0, high=1.0),)
    seen = points.preview("stock", PreviewRequest(limits=limits))
    assert seen.recorded.frames > 0
    made = points.propose("stock", PointProposal(limits=limits, reason="see all"), by="ada")
    with pytest.raises(RefusedError, match="you can't approve your own version"):
        points.approve("stock", made.number, by="ada", reason="mine")
    first = points.approve("stock", made.number, by="eve", reason="saw the preview").point
    assert first is not None
    wait_until(lambda: decides_by(plant, first.digest))
    newest = plant.hub.services.events.page(kind=PREDICTION_TYPE, newest_first=True, limit=1)[0]
    answers = {one["name"]: one["decision"] for one in newest.event["data"]["labels"]}
    assert answers["disc"] == "unsure"
    assert plant.runs() == {"edge-1": package_digest}

    # Forged on the bus: the bytes are nobody's, and the former point stays.
    def say(digest: str) -> None:
        wanted = {
            "inspection": "stock", "digest": package_digest, "url": f"{plant.hub.url}/x",
            "operating_point": {"digest": digest, "url": f"{plant.hub.url}/x"},
        }  # fmt: skip
        desired = encode({"schema": "lineside.desired/1", "packages": [wanted]})
        bus.publish("lineside/hall/device/edge-1/desired", desired, qos=1)

    bus = open_bus(plant.hub.bus_url, client_id="intruder", clock=SystemClock())
    say(digest_of(b"forged"))
    wait_until(lambda: any("is not signed for this device" in one for one in faults(plant)))
    assert decides_by(plant, first.digest)

    second = points.propose(
        "stock", PointProposal(limits=(Limits(name="disc", low=0.2, high=0.3),), reason="less"),
        by="ada",
    )  # fmt: skip
    there = points.approve("stock", second.number, by="eve", reason="better").point
    assert there is not None
    wait_until(lambda: decides_by(plant, there.digest))
    back = points.roll_back("stock", first.version, by="eve", reason="escapes").point
    assert back is not None
    assert back.limits == first.limits
    wait_until(lambda: decides_by(plant, back.digest))

    # An older signed one, said again by somebody on the bus, is refused.
    say(there.digest)
    wait_until(lambda: any("is older than" in one for one in faults(plant)))
    assert decides_by(plant, back.digest)
    bus.close()
