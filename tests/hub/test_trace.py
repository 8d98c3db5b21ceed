"""From a value back to its evidence, and what a broken chain looks like."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from lineside.core import NotFoundError, Plant
from lineside.hub import HubConfig, Services, trace
from lineside.hub.eventlog.trace import Tracer, at_path
from lineside.hub.models.model_service import Registration
from lineside.hub.views import Trace
from lineside.models import Registry
from lineside.store import ChainReport, EventLog, Records, open_records
from lineside.testing import FakeClock
from tests.hub.conftest import Line, open_hub

Pictures = Callable[..., bytes]


@pytest.fixture
def seen(line: Line, jpeg: Pictures, package: str) -> bytes:
    """A picture that was stored and answered."""
    picture = jpeg("red")
    line.send(line.camera(picture), line.status())
    line.send(line.prediction("red", picture=picture, package=package))
    return picture


def kinds(found: Trace) -> list[str]:
    return [step.kind for step in found.steps]


def test_a_twin_value_leads_back_to_who_approved_its_package(
    hub: Services, seen: bytes, package: str
) -> None:
    assert seen
    found = hub.tracer.trace("slots/B1")
    assert found.chain_ok
    assert kinds(found)[:3] == ["twin", "event", "frame"]
    steps = {step.kind: step for step in found.steps}
    assert steps["package"].id == package
    assert "red present above 0.600" in steps["rule"].text
    assert "rack/1" in steps["dataset"].text
    assert "eve" in steps["approval"].text
    assert "good" in steps["approval"].text
    proved = [step.id for step in found.steps if step.kind == "chain"]
    assert {"/hall/device/edge-1", "/hall/hub"} <= set(proved)


def test_a_package_that_came_by_a_roll_out_leads_to_who_approved_its_version(
    hub: Services, line: Line, archive: bytes, jpeg: Pictures
) -> None:
    added = hub.packages.add(archive, by="trainer").digest
    version = hub.models.register("rack", Registration(package=added), by="ada")
    hub.models.approve("rack", version.number, by="eve", reason="fewer escapes")
    picture = jpeg("red")
    line.send(line.camera(picture), line.status())
    line.send(line.prediction("red", picture=picture, package=added))
    (row,) = hub.frames.page()
    found = hub.tracer.trace(row.id)
    (step,) = [step for step in found.steps if step.kind == "approval"]
    assert step.text == "approved by eve as rack/1: fewer escapes"
    assert found.chain_ok
    assert hub.packages.one(added).approved_by == "eve"


def test_an_answer_for_another_inspection_leads_to_who_released_its_package_for_it(
    config: HubConfig, plant: Plant, clock: FakeClock, archive: bytes, jpeg: Pictures
) -> None:
    stock = plant.find_inspection("stock")
    there = replace(plant, inspection=(stock, replace(stock, id="rear", endpoint="rear")))
    with open_hub(config, plant=there, clock=clock) as hub:
        line, picture = Line(hub, clock), jpeg("red")
        package = hub.packages.add(archive, by="ada").digest
        hub.models.register("discs", Registration(package=package), by="ada")
        hub.models.approve("discs", 1, by="eve", reason="alike", inspection="rear")
        line.send(line.camera(picture), line.status())
        line.send(line.prediction("red", picture=picture, package=package, inspection="rear"))
        (row,) = hub.frames.page()

        def steps() -> dict[str, str]:
            return {step.kind: step.text for step in hub.tracer.trace(row.id).steps}

        assert steps()["event"].startswith("rear on edge-1: ok")
        assert steps()["approval"] == "approved by eve as discs/1: alike"
        hub.packages.use(package, inspection="rear", by="eve", reason="good")
        assert steps()["approval"] == "taken into use by eve for rear: good"


def test_a_frame_leads_to_every_answer_about_it(hub: Services, seen: bytes) -> None:
    assert seen
    (row,) = hub.frames.page()
    found = hub.tracer.trace(row.id)
    assert kinds(found)[:2] == ["frame", "event"]
    assert "red present 0.970" in found.steps[1].text


def test_an_order_leads_to_the_answer_it_rests_on(hub: Services, seen: bytes) -> None:
    assert seen
    hub.orders.place("red", by="anna")
    (placed,) = hub.events.page(kind="lineside.order.v1")
    found = hub.tracer.trace(placed.id)
    assert kinds(found)[:3] == ["event", "event", "frame"]
    assert found.steps[0].text == "lineside.order.v1 placed"


def test_a_sensor_value_leads_to_its_message(hub: Services, line: Line) -> None:
    line.send(line.said("i/bme680", t=22.3))
    found = hub.tracer.trace("sensors/temperature")
    assert found.steps[0].text == "the twin says 22.3"
    assert found.steps[1].facts["data"]["t"] == 22.3


def test_it_works_without_a_running_hub(hub: Services, seen: bytes, clock: FakeClock) -> None:
    assert seen
    (event,) = hub.events.page(kind="lineside.prediction.v1")
    found = trace(hub.records, event.id)
    assert found.chain_ok
    assert "approval" in kinds(found)
    with open_records("memory://", clock=clock) as empty, pytest.raises(NotFoundError):
        trace(empty, event.id)


def test_a_frame_that_was_never_stored_is_said(hub: Services, line: Line, package: str) -> None:
    line.send(line.status(), line.prediction("red", package=package))
    found = hub.tracer.trace("slots/B1")
    assert not found.chain_ok
    frame = next(step for step in found.steps if step.kind == "frame")
    assert frame.text == "was never stored here"


def test_a_package_nobody_knows_is_said(hub: Services, line: Line, jpeg: Pictures) -> None:
    picture = jpeg("red")
    line.send(line.camera(picture), line.status(), line.prediction("red", picture=picture))
    found = hub.tracer.trace("slots/B1")
    assert not found.chain_ok
    assert any(step.text == "is not in the registry" for step in found.steps)


class BrokenLog:
    """The log, except that one chain does not hold."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    def verify(self, source: str) -> ChainReport:
        return ChainReport(source=source, entries=3, ok=False, broken_at=2, reason="changed")


class BrokenRecords:
    """Records with that log."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self.log = BrokenLog(records.log)

    def __getattr__(self, name: str) -> object:
        return getattr(self._records, name)


def test_a_broken_chain_is_said_and_named(hub: Services, seen: bytes) -> None:
    assert seen
    broken: Records = BrokenRecords(hub.records)  # type: ignore[assignment]  # all but verify is real
    registry = Registry(hub.records, hub.blobs, clock=hub.clock)
    tracer = Tracer(broken, registry=registry, state=lambda: hub.ledger.state)
    found = tracer.trace("slots/B1")
    assert not found.chain_ok
    assert any("is broken at entry 2: changed" in step.text for step in found.steps)


def test_anchors_are_written_each_minute_and_compared(hub: Services, line: Line) -> None:
    line.see("blue")
    hub.ledger.anchor()
    hub.ledger.anchor()
    (anchor,) = hub.events.page(kind="lineside.anchor.v1")
    assert anchor.source == "/hall/hub"
    assert set(anchor.event["data"]["heads"]) == {"/hall/device/edge-1"}
    found = hub.tracer.trace(hub.events.page(kind="lineside.prediction.v1")[0].id)
    assert any("anchored heads stand" in step.text for step in found.steps)


@pytest.mark.parametrize("wanted", ["evt_0", "frm_0", "slots/Z9", "slots/A1"])
def test_what_is_not_there_is_a_problem(client: TestClient, wanted: str) -> None:
    assert client.get(f"/api/v1/trace/{wanted}").status_code == 404


def test_the_api_answers_the_same_steps(client: TestClient, hub: Services, seen: bytes) -> None:
    assert seen
    answer = client.get("/api/v1/trace/slots/B1").json()
    assert answer["chain_ok"] is True
    assert [step["text"] for step in answer["steps"]] == [
        step.text for step in hub.tracer.trace("slots/B1").steps
    ]


def test_paths_lead_through_tables_lists_and_ids() -> None:
    plain = {"orders": [{"id": "ord_1", "colour": "red"}], "n": 1}
    assert at_path(plain, "orders/ord_1/colour") == "red"
    assert at_path(plain, "orders/0/colour") == "red"
    assert at_path(plain, "") == plain
    for path, known in (("x", "orders, n"), ("orders/7", "A list of 1"), ("n/x", "no parts")):
        with pytest.raises(NotFoundError) as missing:
            at_path(plain, path)
        assert known in missing.value.fix
