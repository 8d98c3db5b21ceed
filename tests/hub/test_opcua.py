"""What the hub says over OPC UA: decisions, the twin, rules and counters, over restarts too."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from asyncua import Client, ua

from lineside.core import InvalidError, Plant, SystemClock, rfc3339, to_plain
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, Services
from lineside.hub.access.accounts import Accounts
from lineside.hub.access.permissions import Role
from lineside.hub.rules.service import entry_of_log
from lineside.hub.run import running
from lineside.hub.sinks.opcua import (
    OpcuaFeed,
    PlantSnapshot,
    RuleCount,
    is_signed_in_user,
    node_values,
    opcua_settings,
    start_opcua,
)
from lineside.links import open_bus
from lineside.links.opcua import NAMESPACE, Kind, OpcuaEvent, OpcuaNode, OpcuaValue, Quality
from lineside.store import Logged
from lineside.streams import EVENT_TYPE, PREDICTION_TYPE, VERDICT_TYPE, Event, LineVerdicts
from lineside.streams.verdicts import VerdictData
from lineside.testing import FakeClock
from lineside.vision import Decision, PictureState
from lineside.vision.verdict import PartVerdict
from tests.hub.conftest import Line, another_hub, answered
from tests.links.conftest import free_port
from tests.links.opcua_client import Heard, asked, node_of, until, value_of

BLUE = OpcuaNode(path="Inspections/stock/Labels/blue/Decision", kind=Kind.TEXT)
LIKELY = OpcuaNode(path="Inspections/stock/Labels/blue/Probability", kind=Kind.DOUBLE)
STATE = OpcuaNode(path="Inspections/stock/State", kind=Kind.TEXT)
SLOT = OpcuaNode(path="Twin/Slots/A1/Seen", kind=Kind.TEXT)
COUNT = OpcuaNode(path="Rules/drift/Count", kind=Kind.INTEGER)
LAST = OpcuaNode(path="Rules/drift/Last", kind=Kind.TEXT)
LAST_ID = OpcuaNode(path="Rules/drift/LastId", kind=Kind.TEXT)
SEQUENCE = OpcuaNode(path="Lines/warehouse/Sequence", kind=Kind.INTEGER)
TEMPERATURE = OpcuaNode(path="Twin/Sensors/temperature", kind=Kind.DOUBLE)


TYPES: dict[Kind, type | tuple[type, ...]] = {
    Kind.TEXT: str, Kind.DOUBLE: (int, float), Kind.INTEGER: int, Kind.BOOLEAN: bool,
}  # fmt: skip


class Said:
    """Stands for the server: keeps what is set and told."""

    def __init__(self) -> None:
        self.values: dict[OpcuaNode, OpcuaValue] = {}
        self.events: list[OpcuaEvent] = []
        self.writes = 0

    def set(self, values: Mapping[OpcuaNode, OpcuaValue]) -> None:
        self.values.update(values)
        self.writes += len(values)

    def tell(self, events: Iterable[OpcuaEvent]) -> None:
        self.events += events


def feed_of(hub: Services) -> tuple[OpcuaFeed, Said]:
    said = Said()
    feed = OpcuaFeed(said, services=hub)  # type: ignore[arg-type]  # the part of it that is used
    feed.load()
    hub.ledger.listen(feed._heard)
    return feed, said


def rule_event(hub: Services, number: int, *, rule: str = "drift") -> Event:
    return Event(
        id=f"evt_{number}", source="/hall/hub", type=EVENT_TYPE, subject=rule,
        time=hub.clock.now(), data={"action": "begun", "number": number},
    )  # fmt: skip


def logged_events(hub: Services) -> list[Logged]:
    return hub.records.log.read(type=EVENT_TYPE)


def test_everything_waits_before_anything_was_seen(hub: Services) -> None:
    _, said = feed_of(hub)
    for node in (BLUE, STATE, SLOT, LAST):
        assert said.values[node] == OpcuaValue(value=None, at=None, quality=Quality.WAITING)
    assert said.values[COUNT].value == 0
    assert said.values[COUNT].quality is Quality.GOOD


def test_a_decision_is_told_with_its_capture_time(hub: Services, line: Line) -> None:
    feed, said = feed_of(hub)
    line.see("blue")
    feed.step()
    at = hub.clock.now()
    assert said.values[BLUE] == OpcuaValue(value="present", at=at)
    assert said.values[LIKELY] == OpcuaValue(value=0.97, at=at)
    assert said.values[SLOT] == OpcuaValue(value="present", at=at)


def test_the_newest_verdict_of_a_line_is_told(hub: Services, clock: FakeClock, line: Line) -> None:
    feed, said = feed_of(hub)
    node = OpcuaNode(path="Lines/warehouse/Verdict", kind=Kind.TEXT)
    assert said.values[node].quality is Quality.WAITING
    line.see("blue")
    engine = LineVerdicts(hub.plant, "warehouse")
    found = hub.records.log.read(type=PREDICTION_TYPE)
    hub.ledger.record(engine.take([entry_of_log(one) for one in found]))
    feed.step()
    assert said.values[node] == OpcuaValue(value="ok", at=clock.now())


def test_only_what_changed_is_written(hub: Services, line: Line) -> None:
    feed, said = feed_of(hub)
    line.see("blue")
    feed.step()
    before = said.writes
    assert feed.step() == 0
    assert said.writes == before


def test_an_old_decision_is_stale_and_keeps_its_value(hub: Services, line: Line) -> None:
    feed, said = feed_of(hub)
    line.see("blue")
    feed.step()
    at = hub.clock.now()
    line.wait(61)
    feed.step()
    assert said.values[BLUE] == OpcuaValue(value="present", at=at, quality=Quality.STALE)
    assert said.values[SLOT].quality is Quality.STALE
    line.see("red")
    feed.step()
    assert said.values[BLUE] == OpcuaValue(value="absent", at=hub.clock.now())


def test_an_unsure_decision_is_uncertain(hub: Services, plant: Plant, line: Line) -> None:
    line.see("blue")
    known = known_of(hub)
    (prediction,) = known.predictions.values()
    labels = tuple(replace(one, decision=Decision.UNSURE) for one in prediction.labels)
    unsure = replace(known, predictions={"stock": replace(prediction, labels=labels)})
    told = node_values(unsure, plant=plant)
    assert told[BLUE].quality is Quality.UNSURE
    assert told[STATE].quality is Quality.GOOD


def test_labels_are_stale_while_the_picture_cannot_be_judged(
    hub: Services, line: Line, plant: Plant
) -> None:
    from lineside.hub.sinks.opcua import changes

    line.see("blue")
    known = known_of(hub)
    before = changes(node_values(known, plant=plant), before={}, now=known.now)
    (prediction,) = known.predictions.values()
    moved = replace(prediction, state=PictureState.CAMERA_MOVED, labels=())
    told = node_values(replace(known, predictions={"stock": moved}), plant=plant)
    found = changes(told, before=before, now=known.now)
    assert found[BLUE] == replace(before[BLUE], quality=Quality.STALE)
    assert found[STATE].value == "camera moved"
    assert changes(told, before={**before, **found}, now=known.now + timedelta(seconds=1)) == {}


def test_a_nodes_type_is_the_same_whatever_it_says(hub: Services, plant: Plant, line: Line) -> None:
    """A PLC lays out its memory once: no path has two types, no value another than its node."""
    feed, said = feed_of(hub)
    line.see("blue")
    feed.step()
    known = known_of(hub)
    (prediction,) = known.predictions.values()
    unsure = tuple(replace(one, decision=Decision.UNSURE) for one in prediction.labels)
    states = [
        replace(known, predictions={}),
        known,
        replace(known, predictions={"stock": replace(prediction, labels=unsure)}),
        replace(known, predictions={"stock": replace(prediction, state=PictureState.BLACK)}),
        replace(known, now=known.now + timedelta(hours=1)),
        replace(known, rules={"drift": RuleCount(count=3, last=rule_event(hub, 1))}),
    ]
    told = [item for state in states for item in node_values(state, plant=plant).items()]
    told += said.values.items()
    kinds: dict[str, Kind] = {}
    for node, value in told:
        assert kinds.setdefault(node.path, node.kind) is node.kind
        assert value.value is None or isinstance(value.value, TYPES[node.kind])
        assert (value.value is None) == (value.quality is Quality.WAITING)


def known_of(hub: Services) -> PlantSnapshot:
    ref = hub.cameras.one("rack").prediction
    assert ref is not None
    return PlantSnapshot(
        state=hub.ledger.state,
        predictions={"stock": answered(ref.frame, ("blue",), package=ref.package)},
        rules={"drift": RuleCount()},
        counters={"Counters/events": 1},
        now=hub.clock.now(),
    )


def test_rule_events_are_counted_once_over_a_crash_and_told(hub: Services) -> None:
    feed, said = feed_of(hub)
    hub.ledger.record([rule_event(hub, n) for n in range(3)])
    page = logged_events(hub)
    feed.take(page[:2])
    feed.take(page)  # the follower's own place was not written before the crash
    feed.step()
    assert said.values[COUNT].value == 3
    assert [one.fields["LinesideId"] for one in said.events] == ["evt_0", "evt_1", "evt_2"]
    again, told = feed_of(hub)
    assert told.values[COUNT].value == 3
    assert told.values[LAST].value == '{"action":"begun","number":2}'
    again.take(page)
    again.step()
    assert told.values[COUNT].value == 3
    assert told.events == []


def test_events_of_a_hub_that_was_away_are_counted_and_not_fired(hub: Services, line: Line) -> None:
    feed, said = feed_of(hub)
    hub.ledger.record([rule_event(hub, 1)])
    line.wait(120)
    feed.take(logged_events(hub))
    feed.step()
    assert said.values[COUNT].value == 1
    assert said.events == []


# ---- settings


def test_a_server_that_nobody_could_enter_is_refused(hub: Services) -> None:
    closed = replace(hub, config=replace(hub.config, opcua="opc.tcp://127.0.0.1:4840"))
    with pytest.raises(InvalidError, match="nobody could sign in"):
        opcua_settings(closed)
    assert opcua_settings(
        replace(closed, config=replace(closed.config, opcua_anonymous=True))
    ).anonymous
    with pytest.raises(InvalidError, match="no address of OPC UA"):
        replace(hub.config, opcua="4840")


def test_the_certificate_is_the_sites_and_renewed_when_it_is_due(
    hub: Services, clock: FakeClock
) -> None:
    from lineside.fleet import CertificateAuthority

    config = replace(hub.config, opcua="opc.tcp://127.0.0.1:4840")
    hub = replace(hub, config=config)
    CertificateAuthority.create(config.ca_folder, site="hall", clock=clock)
    first = opcua_settings(hub)
    assert first.certificate is not None
    made = first.certificate.read_bytes()
    assert opcua_settings(hub).certificate == first.certificate
    assert first.certificate.read_bytes() == made
    clock.advance(300 * 86_400)
    opcua_settings(hub)
    assert first.certificate.read_bytes() != made
    assert first.key is not None
    first.key.unlink()
    opcua_settings(hub)
    assert first.key.exists()


def test_a_user_of_lineside_enters_by_password_and_nobody_else(hub: Services) -> None:
    accounts = Accounts(hub.records, journal=hub.ledger, site="hall", clock=hub.clock)
    right, wrong = "four quiet words here", "another"
    accounts.add("plc", role=Role.VIEWER, password=right, by="anna")
    assert is_signed_in_user(hub, name="plc", password=right)
    assert not is_signed_in_user(hub, name="plc", password=wrong)
    assert not is_signed_in_user(hub, name="nobody", password=right)


# ---- the whole hub


def part_verdict(hub: Services, number: int, *, verdict: PartVerdict = PartVerdict.OK) -> Event:
    given = VerdictData(
        line="warehouse", part=f"A-{number}", verdict=verdict, reasons=("why",), frames=(),
        answers=(),
    )  # fmt: skip
    return Event(
        id=f"evt_v{number}", source="/hall/line/warehouse", type=VERDICT_TYPE, subject="warehouse",
        time=hub.clock.now(), data=to_plain(given),
    )  # fmt: skip


@contextmanager
def opened(hub: Services, **line: Any) -> Iterator[Services]:  # noqa: ANN401  keys of the line
    """The hub with its OPC UA server."""
    with ExitStack() as stack:
        url = f"opc.tcp://127.0.0.1:{free_port()}"
        plant = replace(hub.plant, line=(replace(hub.plant.line[0], **line),))
        config = replace(hub.config, opcua=url, opcua_anonymous=True)
        hub = replace(hub, plant=plant, config=config)
        start_opcua(hub, stack=stack)
        yield hub


async def good(client: Client, *nodes: OpcuaNode, status: str = "Good") -> list[Any]:
    """The values of nodes, each once it has this status."""
    return [
        await value_of(client, node, until=lambda one: one.StatusCode.name == status)
        for node in nodes
    ]


@pytest.mark.parametrize(("limit_s", "old_s"), [(None, 61), (5, 6)])
def test_only_a_fresh_decision_on_a_part_is_good(
    hub: Services, clock: FakeClock, limit_s: int | None, old_s: int
) -> None:
    nodes = [
        OpcuaNode(path=f"Lines/warehouse/{name}", kind=Kind.TEXT)
        for name in ("Verdict", "Part", "Reasons", "LastId")
    ]
    expected = {"reject": "Good", "review": "Uncertain", "ok": "Good", "incomplete": "Uncertain"}

    async def look(client: Client) -> None:
        for number, (verdict, status) in enumerate(expected.items()):
            hub.ledger.record([part_verdict(hub, number, verdict=PartVerdict(verdict))])
            told = await good(client, *nodes, status=status)
            assert [one.Value.Value for one in told] == [
                verdict, f"A-{number}", "why", f"evt_v{number}",
            ]  # fmt: skip
        clock.advance(old_s)
        old = await good(client, *nodes, status="UncertainLastUsableValue")
        assert [one.Value.Value for one in old] == ["incomplete", "A-3", "why", "evt_v3"]

    with opened(hub, max_age_s=limit_s) as served:
        asked(served.config.opcua, look)


def test_a_client_hears_of_each_part_by_an_event(hub: Services) -> None:
    async def look(client: Client) -> Any:  # noqa: ANN401  of the library
        assert (await good(client, SEQUENCE))[0].Value.Value == 0
        index = await client.get_namespace_index(NAMESPACE)
        kind = await client.nodes.base_event_type.get_child(f"{index}:LinesideVerdictEventType")
        plain, typed = Heard(), Heard()
        await (await client.create_subscription(100, plain)).subscribe_events(queuesize=1)
        await (await client.create_subscription(100, typed)).subscribe_events(evtypes=kind)
        hub.ledger.record([part_verdict(hub, number) for number in range(40)])
        await until(lambda: len(plain.events) == len(typed.events) == 40)
        assert [(one.SourceName, one.Message.Text) for one in plain.events] == [
            ("warehouse", f"A-{number} ok") for number in range(40)
        ]
        await value_of(client, SEQUENCE, until=lambda one: one.Value.Value == 40)
        return [(one.Sequence, one.Part, one.Verdict, one.Reasons) for one in typed.events]

    with opened(hub) as served:
        heard = asked(served.config.opcua, look)
    assert heard == [(number + 1, f"A-{number}", "ok", "why") for number in range(40)]


def test_the_sequence_of_a_line_never_goes_back(hub: Services) -> None:
    hub.ledger.record([part_verdict(hub, number) for number in range(3)])
    feed, said = feed_of(another_hub(hub))
    assert said.values[SEQUENCE].value == 3
    feed.take_verdicts(hub.records.log.read(type=VERDICT_TYPE)[:1])  # what a crash brings again
    feed.step()
    assert said.values[SEQUENCE].value == 3


async def layout(client: Client) -> dict[str, object]:
    """Every variable below ``Lineside``: identifier and type."""
    found = dict[str, object]()
    folders = [await node_of(client, "Lineside")]
    for folder in folders:
        folders += await folder.get_children(nodeclassmask=ua.NodeClass.Object)
        for node in await folder.get_children(nodeclassmask=ua.NodeClass.Variable):
            found[node.nodeid.to_string()] = await node.read_data_type()
    return found


@pytest.mark.slow
def test_a_plc_reads_a_sensor_over_a_restart(config: HubConfig) -> None:
    url = f"opc.tcp://127.0.0.1:{free_port()}"
    settings = replace(
        config, records=SecretUrl(""), blobs=SecretUrl(""), opcua=url, opcua_anonymous=True
    )
    at = SystemClock().now()
    with running(settings, clock=SystemClock()) as hub:
        bus = open_bus(hub.bus_url, client_id="factory", clock=SystemClock())
        body = f'{{"ts":"{rfc3339(at)}","t":21.5,"rt":21.5,"h":40.0,"rh":40.0,"p":1000.0}}'
        bus.publish("i/bme680", body.encode())
        found = asked(url, lambda client: good(client, TEMPERATURE))[0]
        assert abs(found.SourceTimestamp - at) < timedelta(milliseconds=1)
        hub.services.ledger.record([rule_event(hub.services, 1)])
        asked(url, lambda client: good(client, LAST_ID))
        before = asked(url, layout)
        assert hub.services.stats.plain()["gauges"]["opcua_dropped"] == 0
        bus.close()
    with running(settings, clock=SystemClock()) as hub:
        again = asked(url, lambda client: good(client, TEMPERATURE, LAST_ID))
        assert [one.Value.Value for one in again] == [21.5, "evt_1"]
        assert asked(url, layout) == before
        assert len(before) > 20
        assert hub.services.stats.plain()["gauges"]["opcua_clients"] >= 0
