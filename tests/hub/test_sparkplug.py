"""Sparkplug B as a host application reads it, by chapters 4 to 6 of its specification."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from lineside.core import InvalidError, SystemClock, parse_rfc3339
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, Services, running
from lineside.hub.sinks import sparkplug_b_pb2 as pb2
from lineside.hub.sinks.sparkplug import EdgeNode, SparkplugFeed, encode_payload
from lineside.links import Message, open_bus
from lineside.links.memory import MemoryBus
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S
from tests.hub.conftest import Line, drain
from tests.hub.test_rules import follower
from tests.hub.test_run import STATUS, Pictures, prediction_message
from tests.links.conftest import Mosquitto

Read = bool | int | float | str | None
GOLDEN = (
    "08f6c79edde23312120a05626453657118f6c79edde2332004580312180a044c6f616418f6c79edde233200a"
    "69000000000000f83f12130a064f6e6c696e6518f6c79edde233200b700112140a045061727418f6c79edde2"
    "33200c7a03412d3112140a075665726469637418f6c79edde233200c38011801"
)
KINDS = {4: "long_value", 10: "double_value", 11: "boolean_value", 12: "string_value"}


@dataclass
class Host:
    """A host application that holds each message against the specification."""

    node: dict[str, Read] = field(default_factory=dict)
    devices: dict[str, dict[str, Read]] = field(default_factory=dict)
    online: bool = False
    seq: int = 0
    kinds: list[str] = field(default_factory=list)
    historical: list[Read] = field(default_factory=list)
    verdicts: list[Read] = field(default_factory=list)
    bd_seqs: list[Read] = field(default_factory=list)

    def take(self, message: Message) -> None:
        space, group, kind, node, *device = message.topic.split("/")
        assert (space, group, node, message.retain) == ("spBv1.0", "Plant1", "hall", False)
        assert message.qos == 0 or kind == "NDEATH"
        payload = pb2.Payload.FromString(message.payload)
        assert payload.HasField("timestamp")
        metrics = {metric.name: self.value(metric) for metric in payload.metrics}
        self.kinds.append("/".join([kind, *device]))
        if kind == "NDEATH":
            assert not payload.HasField("seq")
            self.online = self.online and metrics != {"bdSeq": self.node["bdSeq"]}
            return
        self.seq = 0 if kind == "NBIRTH" else (self.seq + 1) % 256
        assert payload.seq == self.seq
        if kind == "NBIRTH":
            assert metrics["Node Control/Rebirth"] is False
            self.node, self.devices, self.online = metrics, {}, True
            self.bd_seqs.append(metrics["bdSeq"])
            return
        assert self.online
        self.take_device(kind, *device, metrics=metrics, payload=payload)

    def take_device(
        self, kind: str, name: str = "", *, metrics: dict[str, Read], payload: pb2.Payload
    ) -> None:
        if kind == "DBIRTH":
            self.devices[name] = metrics
            return
        known = self.devices[name] if name else self.node
        if kind == "DDEATH":
            del self.devices[name]
            return
        assert kind == ("DDATA" if name else "NDATA")
        assert metrics
        assert metrics.keys() <= known.keys()
        if payload.metrics[0].is_historical:
            self.historical.append(metrics["Verdict"])
        else:
            known.update(metrics)
        self.verdicts += [metrics["Event"]] if "Event" in metrics else []

    def value(self, metric: pb2.Payload.Metric) -> Read:
        assert metric.HasField("timestamp")
        assert metric.HasField("datatype")
        if metric.is_null:
            assert metric.WhichOneof("value") is None
            return None
        name = KINDS[metric.datatype]
        assert metric.WhichOneof("value") == name
        value: Read = getattr(metric, name)
        return value - 2**64 if name == "long_value" and value >= 2**63 else value  # type: ignore[operator]  # a number


@dataclass
class Site:
    """A hub's node and the host that hears it."""

    feed: SparkplugFeed
    host: Host
    url: str
    clock: FakeClock

    def __post_init__(self) -> None:
        self.bus = open_bus(self.url, client_id="host", clock=self.clock)
        self.heard = self.bus.subscribe(("spBv1.0/#",), size=10_000)

    def step(self) -> list[str]:
        """Two seconds later; what was said meanwhile."""
        self.clock.advance(2)
        self.feed.tick()
        return self.hear()

    def hear(self) -> list[str]:
        before = len(self.host.kinds)
        for message in self.heard.get_many(most=10_000, timeout_s=0):
            if "/NCMD/" not in message.topic:
                self.host.take(message)
        return self.host.kinds[before:]

    def connection(self) -> MemoryBus:
        bus = self.feed._bus
        assert isinstance(bus, MemoryBus)
        return bus


@contextmanager
def opened(hub: Services, url: str, clock: FakeClock) -> Iterator[Site]:
    site = Site(feed=SparkplugFeed(hub), host=Host(), url=url, clock=clock)
    site.feed.open(url)
    yield site
    site.feed.close()
    site.hear()
    site.bus.close()


@pytest.fixture
def config(config: HubConfig) -> HubConfig:
    return replace(config, sparkplug="Plant1")


@pytest.fixture
def site(hub: Services, bus_url: str, clock: FakeClock) -> Iterator[Site]:
    with opened(hub, bus_url, clock) as made:
        yield made


def test_births_come_first_then_changes_alone_and_a_clean_stop_is_a_death(
    hub: Services, line: Line, bus_url: str, clock: FakeClock
) -> None:
    line.send(line.status(frames=7, faults=["spool: full"]))
    with opened(hub, bus_url, clock) as site:
        assert site.step() == ["NBIRTH", "DBIRTH/line-warehouse", "DBIRTH/device-edge-1"]
        assert site.host.node["Devices/Online"] == 1
        assert site.host.devices["line-warehouse"]["Verdict"] is None
        device = site.host.devices["device-edge-1"]
        assert (device["Frames"], device["Faults"]) == (7, "spool: full")
        assert site.step() == []
        line.send(line.status(frames=8, faults=["spool: full"]))
        assert site.step() == ["DDATA/device-edge-1"]
        assert device["Frames"] == 8
    assert site.host.kinds[-1] == "NDEATH"
    assert not site.host.online


def test_a_device_that_looks_through_another_camera_is_born_again_and_one_that_leaves_dies(
    site: Site, line: Line
) -> None:
    line.send(line.status())
    site.step()
    line.send(line.status(cameras=[{"camera": "rack", "state": "lost"}]))
    assert site.step() == ["DBIRTH/device-edge-1"]
    assert site.host.devices["device-edge-1"]["Cameras/rack/Connected"] is False
    line.send(line.status(state="offline"))
    assert site.step() == ["DDEATH/device-edge-1", "NDATA"]
    assert site.host.node["Devices/Online"] == 0
    line.send(line.status())
    assert site.step()[0] == "DBIRTH/device-edge-1"


def test_the_sequence_begins_again_after_255(site: Site, line: Line) -> None:
    for number in range(300):
        line.send(line.status(frames=number))
        site.step()
    assert len(site.host.kinds) > 256
    assert site.host.devices["device-edge-1"]["Frames"] == 299


def test_each_verdict_is_said_once_and_late_ones_as_historical(
    site: Site, hub: Services, line: Line
) -> None:
    maker = follower(hub)
    site.step()
    for _ in range(2):
        line.see("red")
        drain(maker)
        line.wait(1)
    assert site.step().count("DDATA/line-warehouse") == 2
    assert len(set(site.host.verdicts)) == 2
    site.connection().lose()
    assert site.hear() == ["NDEATH"]
    line.see("blue")
    drain(maker)
    site.connection().regain()
    assert site.step()[:2] == ["NBIRTH", "DBIRTH/line-warehouse"]
    assert site.host.historical == [site.host.devices["line-warehouse"]["Verdict"]]
    assert len(set(site.host.verdicts)) == 3
    assert site.step() == []


def test_of_too_many_verdicts_the_oldest_go_and_are_counted(
    site: Site, hub: Services, line: Line
) -> None:
    maker = follower(hub)
    line.see("red")
    drain(maker)
    queue = site.feed._verdicts
    queue.extend([queue[0]] * 999)
    line.wait(1)
    line.see("blue")
    drain(maker)
    assert (site.feed.dropped, len(queue)) == (1, 1000)
    assert queue[-1] is not queue[0]


def test_a_line_that_the_plant_file_has_no_more_dies(clock: FakeClock) -> None:
    node, now = EdgeNode("Plant1", "hall"), clock.now()
    list(node.birth(0, {"a": 1}, {"line-x": {"Part": ""}, "line-y": {"Part": ""}}, at=now))
    said = list(node.changes({"a": 1}, {"line-y": {"Part": ""}}, at=now))
    assert [one.topic for one in said] == ["spBv1.0/Plant1/DDEATH/hall/line-x"]


def test_every_connection_has_the_next_bd_seq_also_after_a_restart(
    hub: Services, bus_url: str, clock: FakeClock
) -> None:
    with opened(hub, bus_url, clock) as site:
        for _ in range(3):
            site.step()
            site.connection().lose()
            site.hear()
            assert not site.host.online, "the will is of the birth before"
            site.connection().regain()
        site.step()
    assert site.host.bd_seqs == [0, 1, 2, 3]
    with opened(hub, bus_url, clock) as again:
        again.step()
    assert again.host.bd_seqs == [4]


def test_a_connection_that_is_lost_during_a_step_is_followed_by_a_birth(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.step()
    bus = site.connection()
    counts = iter((bus.connections(),))

    def connections() -> int:
        count = next(counts, 0)
        if not count:
            return MemoryBus.connections(bus)
        bus.lose()
        bus.regain()
        return count

    monkeypatch.setattr(bus, "connections", connections)
    site.step()
    site.step()
    assert site.host.online
    assert site.host.bd_seqs == [0, 1]


def test_a_rebirth_is_said_with_the_same_bd_seq_and_bad_commands_are_passed_over(
    site: Site, clock: FakeClock
) -> None:
    site.step()
    first = list(site.host.kinds)
    command = "spBv1.0/Plant1/NCMD/hall"
    site.bus.publish(command, b"\xff\xff")
    site.bus.publish(command, encode_payload({"Node Control/Rebirth": False}, at=clock.now()))
    assert site.step() == []
    site.bus.publish(command, encode_payload({"Node Control/Rebirth": True}, at=clock.now()))
    assert site.step() == first
    assert site.host.bd_seqs == [0, 0]


def test_numbers_below_zero_are_twos_complement() -> None:
    clock = FakeClock()
    read = pb2.Payload.FromString(encode_payload({"a": -2, "b": 1.5}, at=clock.now()))
    assert [Host().value(metric) for metric in read.metrics] == [-2, 1.5]
    assert read.metrics[0].long_value == 2**64 - 2
    assert EdgeNode("g", "n").topic("DDATA", "d") == "spBv1.0/g/DDATA/n/d"


def test_the_bytes_are_those_that_an_independent_decoder_reads() -> None:
    at = parse_rfc3339("2026-05-15T12:41:07.318Z")
    metrics: dict[str, Read] = {
        "bdSeq": 3,
        "Load": 1.5,
        "Online": True,
        "Part": "A-1",
        "Verdict": None,
    }
    # pysparkplug 0.6.1 reads: seq 1, Int64 3, Double 1.5, Boolean True, String "A-1", String null.
    assert encode_payload(metrics, at=at, seq=1).hex() == GOLDEN


def test_a_group_of_several_levels_is_refused(config: HubConfig) -> None:
    with pytest.raises(InvalidError, match="one level of a topic"):
        replace(config, sparkplug="plant/one")


def throw_out(port: int, name: str) -> None:
    """Join a broker once under a name that another client has, and leave."""
    head = b"\x00\x04MQTT\x04\x02\x00\x3c"  # 3.1.1, a clean session, a minute's keep-alive
    body = head + len(name).to_bytes(2) + name.encode()
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(b"\x10" + bytes([len(body)]) + body)
        assert link.recv(4) == b"\x20\x02\x00\x00"
        link.sendall(b"\xe0\x00")


@pytest.mark.service
def test_a_host_on_mosquitto_follows_a_hub_through_loss_rebirth_and_stop(
    config: HubConfig, mosquitto: Mosquitto, jpeg: Pictures
) -> None:
    clock, host = SystemClock(), Host()
    bus = open_bus(mosquitto.url, client_id="host", clock=clock)
    heard = bus.subscribe(("spBv1.0/+/+/hall/#", "spBv1.0/+/+/hall"), size=10_000)

    def hear(until: str) -> None:
        while host.kinds[-1:] != [until]:
            message = heard.get(timeout_s=LONG_S)
            assert message is not None, host.kinds
            if "/NCMD/" not in message.topic:
                host.take(message)

    stored = replace(
        config, records=SecretUrl(""), blobs=SecretUrl(""), bus=SecretUrl(mosquitto.url)
    )
    with running(stored, clock=clock) as hub:
        hear("DBIRTH/line-warehouse")
        bus.publish("lineside/hall/device/edge-1/status", STATUS, retain=True)
        hear("DBIRTH/device-edge-1")
        bus.publish(
            "lineside/hall/warehouse/rack/prediction", prediction_message(jpeg("red"), sequence=1)
        )
        hear("DDATA/line-warehouse")
        assert host.devices["line-warehouse"]["Verdict"] in {"ok", "review", "reject"}
        # Another client of that name throws the node out: the broker says its last will.
        name = f"hub-hall-{hub.services.leases.hub}-sparkplug"
        throw_out(mosquitto.port, name)
        hear("NDEATH")
        assert not host.online
        hear("NBIRTH")
        assert host.bd_seqs == [0, 1]
        rebirth = encode_payload({"Node Control/Rebirth": True}, at=clock.now())
        bus.publish("spBv1.0/Plant1/NCMD/hall", rebirth)
        hear("DBIRTH/device-edge-1")
        hear("NBIRTH")
        assert host.bd_seqs == [0, 1, 1]
    hear("NDEATH")
    assert not host.online
    bus.close()
