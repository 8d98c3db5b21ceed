"""``lineside schema``: schemas that what is really sent satisfies."""

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator, ValidationError

from lineside.cli.app import _run
from lineside.cli.config import HUB_EVENT_DATA, JOB_MESSAGES, bus_document
from lineside.core import InvalidError, Json, NotFoundError, encode, load_plant, rfc3339
from lineside.core.factory import Colour, OrderCommand, write_message
from lineside.core.rule_check import HUB_EVENTS as HUB_RULES
from lineside.edge.delivery.publisher import LogEntry, payload_of
from lineside.fleet.contract import CameraCondition, DeviceStatus, Evidence, InUse, TrialReport
from lineside.hub import Services
from lineside.hub.devices.registry import ack_payload
from lineside.hub.learning.drift import drift_event
from lineside.hub.sinks.mqtt import EventOutbox
from lineside.links import Bus, Message
from lineside.streams import EVENT_TYPE, PREDICTION_TYPE, VERDICT_TYPE, decode_event, encode_event
from lineside.streams.drift import Drift
from lineside.streams.verdicts import VerdictData
from lineside.testing import FakeClock
from tests.hub.asyncapi import documented
from tests.hub.conftest import PACKAGE, Line, drain
from tests.hub.test_rules import follower

FORMAT = Path(__file__).parents[1] / "data" / "asyncapi-3.0.0.json"
EXAMPLES = Path(__file__).parents[2] / "examples"
PLANT_FILE = EXAMPLES / "warehouse" / "plant.toml"


def test_the_bus_document_is_asyncapi_with_and_without_a_plant(
    capsys: pytest.CaptureFixture[str],
) -> None:
    form = Draft7Validator(json.loads(FORMAT.read_bytes()))
    document: dict[str, Any] = {}
    for words in ([], ["--plant", str(PLANT_FILE)]):
        assert _run(["schema", "--asyncapi", *words]) == 0
        document = json.loads(capsys.readouterr().out)
        form.validate(document)
    topics = {channel["address"] for channel in document["channels"].values()}
    assert {"i/cam", "f/o/order", "f/i/state/{level3}"} <= topics
    assert document["channels"]["alerts"]["parameters"]["site"]["enum"] == ["demo"]
    assert document["channels"]["verdict"]["description"].endswith("part: verdict event.")
    assert document["operations"]["send-alerts"]["bindings"]["mqtt"]["retain"] is True
    assert _run(["schema", "ack", "--asyncapi"]) == InvalidError.exit_code
    assert "do not go together" in capsys.readouterr().err


def test_outputs_on_the_bus_of_the_plant_are_channels(tmp_path: Path) -> None:
    file = tmp_path / "plant.toml"
    output = """
        [[output]]
        id = "gate"
        line = "{line}"
        url = "{url}"
        switch = "belt/gate/set"
        fail_safe = 1
        heartbeat = "belt/gate/alive"
        message = {{ on = "ON", off = "OFF", qos = 2 }}
    """
    line, text = load_plant(PLANT_FILE).line[0].id, PLANT_FILE.read_text()
    file.write_text(text + dedent(output.format(line=line, url="mqtt:")))
    document = bus_document(load_plant(file))
    Draft7Validator(json.loads(FORMAT.read_bytes())).validate(document)
    assert document["channels"]["output-gate"]["address"] == "belt/gate/set"
    assert document["channels"]["output-gate-heartbeat"]["address"] == "belt/gate/alive"
    assert document["components"]["messages"]["output"]["contentType"] == "text/plain"
    file.write_text(text + dedent(output.format(line=line, url="mqtt://other.lan")))
    assert not {one for one in bus_document(load_plant(file))["channels"] if "output" in one}


def test_the_flow_for_node_red_reads_topics_that_there_are() -> None:
    flow = json.loads((EXAMPLES / "node-red" / "flow.json").read_bytes())
    nodes = {node["id"]: node for node in flow}
    addresses = [channel["address"] for channel in bus_document(None)["channels"].values()]
    topics = {re.sub(r"{\w+}", "+", one) for one in addresses}
    assert {node["topic"] for node in flow if node["type"] == "mqtt in"} <= topics
    ends = [end for node in flow for wire in node.get("wires", []) for end in wire]
    assert {*ends, *(node["z"] for node in flow if "z" in node)} <= nodes.keys()
    fields = re.findall(r"payload\.data\.(\w+)", json.dumps(flow))
    assert fields
    assert set(fields) <= {field.name for field in dataclasses.fields(VerdictData)}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_page_on_tools_has_commands_for_curl_that_work(
    hub: Services, line: Line, served: str, clock: FakeClock, tmp_path: Path
) -> None:
    made = follower(hub)
    line.see("red")
    drain(made)
    for name, kind in (("reader", "api"), ("ingest", "ingest")):
        (tmp_path / f"{name}.token").write_text(hub.auth.issue_token(name, kind=kind))
    page = (EXAMPLES.parent / "docs" / "how-to" / "bus-tools.md").read_text()
    code = next(one for one in re.findall(r"\n\n((?:    .*\n)+)", page) if "curl" in one)
    code = code.replace("http://hub.plant.lan:8080", served)
    code = code.replace("$(date -u +%FT%TZ)", rfc3339(clock.now()))
    done = subprocess.run(
        ["/bin/bash", "-ec", dedent(code)], cwd=tmp_path, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert '"verdict"' in done.stdout
    assert hub.records.log.read(type="lineside.plant.sensor.v1")


def test_payloads_that_a_small_site_rarely_sends_are_as_documented(clock: FakeClock) -> None:
    entry = LogEntry(ts="2026-01-01T12:00:00.000Z", level="INFO", logger="lineside", message="up")
    evidence = Evidence(device="edge-1", inspection="stock", frames=3)
    report = TrialReport(rollout="rol_1", old="", new=PACKAGE, evidence=evidence)
    order = OrderCommand(ts=rfc3339(clock.now()), type=Colour.RED)
    sent = {
        "edge-manager-app/logs/edge-1": payload_of((entry, entry), dropped=2),
        "lineside/demo/device/edge-1/evidence": encode(report),
        "f/o/order": write_message(order),
        "i/ldr": b'{"ts":"2026-01-01T12:00:00.000Z","ldr":1,"br":"84.3","firmware":"2"}',
    }
    messages = [Message(topic=topic, payload=payload) for topic, payload in sent.items()]
    assert documented(messages, plant=load_plant(PLANT_FILE)) >= {"log", "evidence", "order"}


def test_events_of_the_hub_itself_are_as_documented(
    hub: Services, line: Line, bus: Bus, factory: Bus
) -> None:
    mailbox = factory.subscribe(("lineside/+/+/event/+",))
    lost: dict[str, Json] = {"camera": "rack", "state": "lost", "since": "2026-01-01T12:00:00Z"}
    line.see("red")
    line.send(line.status(cameras=[lost]))
    line.send(line.said("f/i/stock", stockItems=[{"location": "B1", "workpiece": None}]))
    line.wait(4)
    hub.tick()
    seen = decode_event(line.prediction().payload, where="prediction")
    data = {**seen.data, "state": "black", "reason": "no light", "labels": []}
    topic = "lineside/hall/warehouse/rack/prediction"
    line.send(Message(topic=topic, payload=encode_event(dataclasses.replace(seen, data=data))))
    drift = Drift(figure="sharpness", usual=4.0, spread=0.5, now=1.0, direction="down")
    hub.ledger.record([drift_event(hub.plant, seen, drift=drift, package=PACKAGE)])
    EventOutbox(bus, plant=hub.plant).publish(hub.records.log.read(type=EVENT_TYPE))
    messages = mailbox.get_many(most=10, timeout_s=2.0)
    assert documented(messages) == {"event"}
    sent = {message.topic.rpartition("/")[2]: json.loads(message.payload) for message in messages}
    assert sent.keys() == set(HUB_RULES) - {"device"}
    assert len(sent) == len(HUB_EVENT_DATA)
    for event in sent.values():
        wrong: list[dict[str, Json]] = [
            {**event["data"], "action": "final"}, {**event["data"], "other": 1}, {}
        ]  # fmt: skip
        for one in wrong:
            refused(messages[0].topic, {**event, "data": one})


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("$aws/things/edge-1/jobs/get", {"clientToken": 1}),
        ("$aws/things/edge-1/jobs/start-next", {"stepTimeoutInMinutes": 0}),
        ("$aws/things/edge-1/jobs/a/get", {"executionNumber": "1"}),
        ("$aws/things/edge-1/jobs/a/update", {}),
        ("$aws/things/edge-1/jobs/a/update", {"status": "DONE"}),
        ("$aws/things/edge-1/jobs/get/accepted", {"timestamp": 1}),
        ("$aws/things/edge-1/jobs/a/get/accepted", {"timestamp": 1, "execution": {"jobId": "a"}}),
        ("$aws/things/edge-1/jobs/a/update/accepted", {}),
        (
            "$aws/things/edge-1/jobs/a/update/rejected",
            {"timestamp": 1, "code": "No", "message": ""},
        ),
        ("$aws/things/edge-1/jobs/notify", {"timestamp": 1, "jobs": {"FAILED": []}}),
        ("$aws/things/edge-1/jobs/notify-next", {"timestamp": "now"}),
        ("$aws/events/job/a/completed", {"eventType": "JOB", "jobId": "a"}),
        ("$aws/events/jobExecution/a/failed", {"eventType": "JOB"}),
        ("lineside/hall/warehouse/event/windows", {"specversion": "1.0"}),
    ],
)
def test_a_message_of_another_shape_is_refused(topic: str, body: dict[str, Json]) -> None:
    refused(topic, body)


def refused(topic: str, body: dict[str, Json]) -> None:
    with pytest.raises(ValidationError):
        documented([Message(topic=topic, payload=encode(body))])


def test_messages_are_as_their_schemas_say(
    hub: Services, line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    made = follower(hub)  # verdicts begin where they were declared
    line.see("red")
    drain(made)
    data = {
        kind: json.loads(hub.records.log.read(type=kind)[0].entry.body)["data"]
        for kind in (PREDICTION_TYPE, VERDICT_TYPE)
    }
    status = DeviceStatus(
        device="edge-1", state="online", version="0.1.0", at="2026-01-01T12:00:00.000Z",
        packages=(InUse(inspection="stock", digest=PACKAGE, loaded_at=""),),
        cameras=(CameraCondition(camera="rack"),),
    )  # fmt: skip
    hub.alert_watch.tick()
    sent: dict[str, Any] = {
        "alerts": json.loads(encode(hub.alerts.message(at=hub.clock.now()))),
        "ack": json.loads(ack_payload("edge-1", 7)),
        "device": json.loads(encode(status)),
        "plant-text": json.loads(encode(hub.plants.message())),
        "prediction": data[PREDICTION_TYPE],
        "verdict": data[VERDICT_TYPE],
    }
    assert _run(["schema"]) == 0
    rest = ("desired", "event", "evidence", "frame", "log", *JOB_MESSAGES)
    assert set(capsys.readouterr().out.split()) == {*sent, *rest}
    for name in (*sent, *rest):
        assert _run(["schema", name]) == 0
        schema = json.loads(capsys.readouterr().out)
        Draft202012Validator.check_schema(schema)
        if name in sent:
            Draft202012Validator(schema).validate(sent[name])
            assert not Draft202012Validator(schema).is_valid({**sent[name], "other": 1})
    assert _run(["schema", "order"]) == NotFoundError.exit_code
    assert "plant-text" in capsys.readouterr().err
