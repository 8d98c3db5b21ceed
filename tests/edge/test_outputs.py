import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Clock, Inspection, UnavailableError, parse_plant
from lineside.core.drivers import SecretUrl
from lineside.core.outputs import HandshakeConfig, OutputConfig
from lineside.core.plant import Trigger
from lineside.edge.delivery import outputs
from lineside.edge.delivery.outputs import (
    MOST_UNDER_WAY,
    Handshake,
    LineOutputs,
    OutputWorker,
    Switch,
)
from lineside.edge.messages import Counters
from lineside.streams.verdicts import InspectionAnswer, VerdictData
from lineside.testing import FakeClock
from lineside.testing.links import wait_until
from lineside.vision import PictureState
from lineside.vision.verdict import PartVerdict
from tests.edge.conftest import GOOD, StartBench
from tests.edge.conftest import Bench as AgentBench
from tests.links.modbus_plc import ModbusPlc, modbus_plc
from tests.links.output_peers import Peer, broker_peer, opcua_peer, patient_outputs

PLANT = """
schema = "lineside.plant/1"
site = "demo"
line = [{ id = "belt", name = "Belt" }]
camera = [{ id = "top", line = "belt", source = "mqtt:i/cam" }]
inspection = [{ id = "stock", camera = "top", labels = ["blue"] }]
"""
ON, REST, SAFE = 1, 0, 7


def gate(**changes: object) -> OutputConfig:
    fields: dict[str, object] = {
        "id": "gate", "line": "belt", "url": SecretUrl("modbus://plc"), "switch": "register/12",
        "value": ON, "rest": REST, "fail_safe": SAFE, "pulse_s": 0.2, "delay_s": 1.0,
    }  # fmt: skip
    return OutputConfig(**fields | changes)  # type: ignore[arg-type]  # as the plant file has it


class TestSwitch:
    def test_a_reject_is_switched_for_its_pulse_when_its_part_is_there(self) -> None:
        switch = Switch(gate())
        switch.decide("reject", captured_s=10.0, now_s=10.1)
        found = [(at, switch.value(at)) for at in (10.5, 10.999, 11.0, 11.19, 11.2, 20.0)]
        assert [value for _, value in found] == [SAFE, SAFE, ON, ON, REST, REST]
        assert (switch.switched, switch.late) == (1, 0)

    def test_an_ok_part_ends_the_fail_safe_state_and_switches_nothing(self) -> None:
        switch = Switch(gate())
        switch.decide("ok", captured_s=10.0, now_s=10.1)
        assert [switch.value(at) for at in (10.9, 11.0, 12.0)] == [SAFE, REST, REST]
        assert (switch.switched, switch.reason) == (0, "")

    def test_a_late_verdict_is_counted_and_switches_nothing(self) -> None:
        switch = Switch(gate())
        switch.decide("ok", captured_s=10.0, now_s=10.1)
        assert switch.value(11.0) == REST
        switch.decide("reject", captured_s=10.5, now_s=11.6)
        assert [switch.value(at) for at in (11.6, 11.7, 12.0)] == [REST] * 3
        assert (switch.switched, switch.late) == (0, 1)

    def test_one_that_could_not_be_written_in_time_switches_for_the_rest_of_its_pulse(self) -> None:
        switch = Switch(gate())
        switch.decide("reject", captured_s=10.0, now_s=10.1)
        switch.decide("reject", captured_s=15.0, now_s=15.1)
        assert [switch.value(at) for at in (11.15, 11.2, 16.2)] == [ON, REST, REST]
        assert (switch.switched, switch.late) == (1, 1)

    def test_parts_are_switched_in_the_order_in_which_they_arrive(self) -> None:
        switch = Switch(gate())
        switch.decide("reject", captured_s=11.0, now_s=11.1)
        switch.decide("ok", captured_s=10.5, now_s=11.2)  # it waited for another camera
        assert [switch.value(at) for at in (11.4, 11.5, 12.0, 12.3)] == [SAFE, REST, ON, REST]

    def test_failing_forgets_parts_under_way_and_holds_until_a_newer_verdict(self) -> None:
        switch = Switch(gate())
        switch.decide("reject", captured_s=10.0, now_s=10.1)
        assert switch.value(11.0) == ON
        switch.decide("reject", captured_s=10.5, now_s=11.1)
        switch.fail("camera top is lost")
        assert [switch.value(at) for at in (11.1, 11.5, 99.0)] == [SAFE] * 3
        switch.decide("ok", captured_s=99.0, now_s=99.1)
        assert [switch.value(at) for at in (99.9, 100.0)] == [SAFE, REST]

    def test_without_a_pulse_the_value_stands_until_the_next_verdict(self) -> None:
        switch = Switch(gate(pulse_s=0.0))
        for verdict, at in (("reject", 10.0), ("ok", 12.0), ("review", 14.0)):
            switch.decide(verdict, captured_s=at, now_s=at)
        assert [switch.value(at) for at in (11.0, 12.9, 13.0, 15.0)] == [ON, ON, REST, ON]
        switch.decide("ok", captured_s=15.0, now_s=16.5)  # late: the value would be of another part
        assert switch.value(16.5) == SAFE
        assert switch.late == 1

    def test_without_a_delay_it_switches_at_once_unless_the_image_is_old(self) -> None:
        switch = Switch(gate(delay_s=0.0, max_age_s=0.5))
        switch.decide("reject", captured_s=10.0, now_s=10.4)
        assert [switch.value(at) for at in (10.4, 10.6)] == [ON, REST]
        switch.decide("reject", captured_s=11.0, now_s=11.6)
        assert switch.value(11.6) == REST
        assert switch.late == 1

    def test_more_parts_under_way_than_it_may_hold_make_it_fail(self) -> None:
        switch = Switch(gate(delay_s=1e6))
        for number in range(MOST_UNDER_WAY + 1):
            switch.decide("ok", captured_s=float(number), now_s=float(number))
        assert "parts are under way" in switch.reason

    def test_a_fault_of_a_camera_falls_due_with_its_part_and_ends_with_one_that_was_judged(
        self,
    ) -> None:
        switch = Switch(gate(on=("reject",)))
        for verdict, at, fault in (
            ("ok", 10.0, ""), ("reject", 10.5, ""), ("review", 11.0, "dark"), ("ok", 13.0, ""),
        ):  # fmt: skip
            switch.decide(verdict, captured_s=at, now_s=at, fault=fault)
        found = [(switch.value(at), switch.reason) for at in (11.0, 11.5, 11.7, 12.0, 13.9, 14.0)]
        assert [value for value, _ in found] == [REST, ON, REST, SAFE, SAFE, REST]
        assert [reason for _, reason in found] == ["", "", "", "dark", "dark", ""]

    @pytest.mark.parametrize(("pulse_s", "after"), [(0.2, SAFE), (0.0, ON)])
    def test_a_verdict_in_on_switches_though_a_camera_has_a_fault(
        self, pulse_s: float, after: int
    ) -> None:
        switch = Switch(gate(pulse_s=pulse_s))
        switch.decide("review", captured_s=10.0, now_s=10.0, fault="dark")
        assert [switch.value(at) for at in (11.0, 11.3, 20.0)] == [ON, after, after]
        assert (switch.switched, switch.reason) == (1, "dark")

    def test_an_ok_part_opens_no_gate_while_a_camera_has_a_fault(self) -> None:
        switch = Switch(gate(on=("ok",), pulse_s=0.0))
        for at, fault in ((10.0, ""), (12.0, "dark"), (14.0, "")):
            switch.decide("ok", captured_s=at, now_s=at, fault=fault)
        assert [switch.value(at) for at in (11.0, 13.0, 15.0)] == [ON, SAFE, ON]

    @pytest.mark.parametrize(("now_s", "at"), [(11.5, 11.5), (10.0, 12.0)])
    def test_a_fault_counts_though_its_verdict_comes_or_is_written_late(
        self, now_s: float, at: float
    ) -> None:
        switch = Switch(gate())
        switch.decide("review", captured_s=10.0, now_s=now_s, fault="dark")
        assert (switch.value(at), switch.late, switch.reason) == (SAFE, 1, "dark")

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["ok", "reject", "dark", "fail", "look"]),
                st.floats(0.0, 1.5),  # how long the verdict took
                st.floats(0.0, 0.7),  # until the next one
            ),
            max_size=12,
        )
    )
    def test_it_switches_for_parts_alone_that_are_at_the_output_then(
        self, steps: list[tuple[str, float, float]]
    ) -> None:
        switch, now_s, windows = Switch(gate()), 100.0, list[tuple[float, float]]()
        for kind, took_s, pause_s in steps:
            if kind == "fail":
                switch.fail("lost")
                windows.clear()
            elif kind != "look":
                fault = kind if kind == "dark" else ""
                switch.decide(kind, captured_s=now_s - took_s, now_s=now_s, fault=fault)
                due_s = now_s - took_s + 1.0
                if kind == "reject" and due_s >= now_s:
                    windows.append((due_s, due_s + 0.2))
            value = switch.value(now_s)
            hit = any(begin <= now_s < end for begin, end in windows)
            assert value == (ON if hit else SAFE if switch.reason else REST)
            following = switch.next_s(now_s)
            assert following > now_s
            assert following == math.inf or switch.value(following) is not None
            now_s = max(now_s, 0.0 if following == math.inf else following) + pause_s


SHAKE = HandshakeConfig(trigger="input/1", acknowledge="coil/2", done="coil/3", timeout_s=2.0)


def asked(**changes: object) -> OutputConfig:
    return gate(handshake=SHAKE, delay_s=0.0, pulse_s=0.0, on=("reject",), **changes)


class Asking:
    """A handshake as its PLC sees it; ``now_s`` moves by hand."""

    def __init__(self) -> None:
        self.shake, self.now_s, self.untrusted = Handshake(asked(), SHAKE), 100.0, ""
        self.look()

    def look(self, *, trigger: int = 0, acknowledge: int = 0, after_s: float = 0.01) -> bool:
        self.now_s += after_s
        return self.shake.look(
            trigger=bool(trigger), acknowledge=bool(acknowledge), untrusted=self.untrusted,
            now_s=self.now_s,
        )  # fmt: skip

    def decide(self, verdict: str, *, age_s: float = 0.0, fault: str = "") -> None:
        self.shake.decide(verdict, captured_s=self.now_s - age_s, fault=fault)

    @property
    def stands(self) -> tuple[int, bool]:
        """Value and whether it is a result."""
        return self.shake.value(self.now_s), self.shake.phase == "done"


class TestHandshake:
    def test_a_trigger_gets_a_result_that_stands_until_it_is_acknowledged(self) -> None:
        plc = Asking()
        assert plc.look(trigger=1)
        assert plc.stands == (SAFE, False)
        plc.decide("reject")
        assert plc.stands == (ON, True)
        assert not plc.look(trigger=1)
        plc.look(trigger=1, acknowledge=1)
        assert plc.stands == (SAFE, False)
        plc.look(trigger=1)  # still set: no new part
        plc.decide("ok")
        assert plc.stands == (SAFE, False)
        plc.look()
        assert plc.look(trigger=1)
        plc.decide("ok")
        assert plc.stands == (REST, True)
        assert (plc.shake.switched, plc.shake.late, plc.shake.reason) == (1, 0, "")

    def test_an_image_from_before_the_trigger_is_of_another_part(self) -> None:
        plc = Asking()
        plc.look(trigger=1)
        plc.decide("ok", age_s=0.001)
        assert plc.stands == (SAFE, False)
        plc.decide("reject")
        assert plc.stands == (ON, True)

    def test_without_a_verdict_in_time_the_result_is_fail_safe(self) -> None:
        plc = Asking()
        plc.look(trigger=1)
        plc.look(trigger=1, after_s=1.9)
        assert plc.stands == (SAFE, False)
        plc.look(trigger=1, after_s=0.2)
        assert plc.stands == (SAFE, True)
        plc.decide("ok")
        assert plc.stands == (SAFE, True)
        assert (plc.shake.late, plc.shake.reason) == (1, "no verdict in time")

    def test_a_result_that_nobody_acknowledges_is_taken_back(self) -> None:
        plc = Asking()
        plc.look(trigger=1)
        plc.decide("ok")
        plc.look(trigger=1)
        plc.look(trigger=1, after_s=2.1)
        assert plc.stands == (SAFE, False)
        assert plc.shake.reason == "the PLC acknowledged no result"

    def test_while_the_line_cannot_be_relied_on_each_trigger_gets_the_fail_safe_value(self) -> None:
        plc = Asking()
        plc.untrusted = "camera top is lost"
        assert not plc.look(trigger=1)
        assert plc.stands == (SAFE, True)

    @pytest.mark.parametrize(("verdict", "value"), [("review", SAFE), ("reject", ON)])
    def test_a_fault_of_a_camera_takes_the_place_of_rest(self, verdict: str, value: int) -> None:
        plc = Asking()
        plc.look(trigger=1)
        plc.decide(verdict, fault="camera top is dark")
        assert (plc.stands, plc.shake.reason) == ((value, True), "camera top is dark")

    def test_a_new_connection_begins_when_nothing_is_asked(self) -> None:
        plc = Asking()
        plc.look(trigger=1)
        plc.shake.reset()
        assert not plc.look(trigger=1)
        plc.decide("ok")
        assert plc.stands == (SAFE, False)
        plc.look()
        assert plc.look(trigger=1)

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("look"), st.booleans(), st.booleans(), st.floats(0.0, 1.5)),
                st.tuples(st.just("ok"), st.floats(0.0, 1.0)),
                st.tuples(st.just("fail"), st.just(0.0)),
                st.tuples(st.just("reset"), st.just(0.0)),
            ),
            max_size=25,
        )
    )
    def test_in_any_order_of_inputs_a_trigger_has_one_result_and_never_that_of_another_part(
        self, steps: list[tuple[str, float] | tuple[str, bool, bool, float]]
    ) -> None:
        plc = Asking()
        was, results, risen_s = False, 0, -1.0  # of the trigger: as it was, and since it is set
        for step in steps:
            had, (_, stood) = plc.shake.value(plc.now_s), plc.stands
            if len(step) == 4:
                _, trigger, acknowledge, after_s = step
                plc.look(trigger=trigger, acknowledge=acknowledge, after_s=after_s)
                if trigger and not was:
                    results, risen_s = 0, plc.now_s
                was = trigger
                if stood and acknowledge:
                    assert plc.stands == (SAFE, False)
            elif step[0] == "fail":
                plc.shake.fail("failed")
            elif step[0] == "reset":
                plc.shake.reset()
            else:
                plc.decide("ok", age_s=step[1])
                if not stood and plc.stands == (REST, True):
                    assert was
                    assert plc.now_s - step[1] >= risen_s
            value, is_done = plc.stands
            results += is_done and not stood
            assert results <= 1
            assert is_done or value == SAFE
            if stood and is_done:
                assert value == had  # a result does not change while it stands


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    patient_outputs(monkeypatch)


@pytest.fixture
def plc() -> Iterator[ModbusPlc]:
    with modbus_plc() as plc:
        yield plc


def verdict_of(
    verdict: str, *, clock: Clock, camera: str = "top", age_s: float = 0.0,
    state: PictureState = PictureState.OK,
) -> VerdictData:  # fmt: skip
    answer = InspectionAnswer(
        inspection=f"stock-{camera}", event="evt", camera=camera, frame="f",
        captured_at=clock.now() - timedelta(seconds=age_s), package="p",
        verdict=PartVerdict(verdict), state=state,
    )  # fmt: skip
    return VerdictData(
        line="belt", part="", verdict=PartVerdict(verdict), reasons=(), frames=("f",),
        answers=(answer,),
    )  # fmt: skip


@dataclass
class Points:
    """The points of a PLC in memory.

    Attributes:
        answer_s: how long it takes for each answer.
        is_away: it answers nothing.
        breaks: so many of the next questions it does not answer.
    """

    clock: FakeClock
    answer_s: float = 0.0
    is_away: bool = False
    breaks: int = 0
    values: dict[str, int] = field(default_factory=dict)

    def open(self, _: str, **__: object) -> Self:
        self._answer()
        return self

    def read(self, point: str) -> bool:
        self._answer()
        return bool(self.values.get(point, 0))

    def write(self, point: str, value: int) -> None:
        self._answer()
        self.values[point] = value

    def close(self) -> None:
        """Nothing is held."""

    def _answer(self) -> None:
        self.clock.advance(self.answer_s)
        self.breaks -= 1
        if self.is_away or self.breaks >= 0:
            raise UnavailableError("the PLC is away")


@pytest.fixture
def points(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Points:
    points = Points(clock)
    monkeypatch.setattr(outputs, "open_output", points.open)
    return points


def worker_of(config: OutputConfig, points: Points) -> OutputWorker:
    """One whose turns the test takes by itself."""
    return OutputWorker(
        config, connect=partial(points.open, config.url), untrusted=str, triggered=str,
        counters=Counters(), clock=points.clock,
    )  # fmt: skip


class TestTurns:
    def test_an_image_from_before_the_trigger_was_read_is_of_another_part(
        self, points: Points
    ) -> None:
        worker = worker_of(asked(), points)
        worker._turn()
        points.values["input/1"], points.answer_s = 1, 0.1
        worker._turn()  # two questions of 0.1 s: it was set before the first was answered
        worker.take(verdict_of("ok", clock=points.clock, age_s=0.15))
        worker._turn()
        assert points.values["coil/3"] == 0
        worker.take(verdict_of("reject", clock=points.clock))
        worker._turn()
        assert (points.values["coil/3"], points.values["register/12"]) == (1, ON)

    def test_each_reason_not_to_follow_is_a_fault_until_it_follows(self, points: Points) -> None:
        worker, counters = worker_of(gate(delay_s=0.0, pulse_s=0.0), points), Counters()
        worker._counters = counters
        worker._turn()
        assert counters.read().faults == ()  # it begins
        worker.take(verdict_of("ok", clock=points.clock, age_s=60.0))
        worker._turn()
        assert counters.read().faults == ("output gate: it is fail-safe: a verdict came too late",)
        worker.take(verdict_of("ok", clock=points.clock))
        worker._turn()
        assert counters.read().faults == ()

    @pytest.mark.parametrize(
        ("state", "fault"),
        [
            ("black", "dark"), ("overexposed", "overexposed"), ("blurred", "blurred"),
            ("frozen", "frozen"), ("camera moved", "moved"), ("unfamiliar", ""), ("ok", ""),
        ],
    )  # fmt: skip
    def test_a_fault_of_a_camera_holds_until_its_own_image_is_judged(
        self, points: Points, state: str, fault: str
    ) -> None:
        worker = worker_of(gate(on=("reject",), delay_s=0.0), points)
        for camera, verdict, shown, age_s, expected in (
            ("top", "review", state, 0.0, fault), ("side", "ok", "ok", 0.0, fault),
            ("top", "ok", "ok", 0.01, fault), ("top", "ok", "ok", 0.0, ""),
        ):  # fmt: skip
            worker._turn()
            worker.take(verdict_of(
                verdict, camera=camera, state=PictureState(shown), clock=points.clock, age_s=age_s
            ))  # fmt: skip
            worker._turn()
            assert points.values["register/12"] == (SAFE if expected else REST)
            assert worker.condition.reason == (f"camera top is {expected}" if expected else "")

    @pytest.mark.parametrize("is_noticed", [True, False])
    def test_a_connection_that_broke_is_opened_once_more_to_leave_the_fail_safe_value(
        self, points: Points, *, is_noticed: bool
    ) -> None:
        worker = worker_of(gate(delay_s=0.0, pulse_s=0.0), points)
        worker._turn()
        worker.take(verdict_of("reject", clock=points.clock))
        worker._turn()
        assert points.values["register/12"] == ON
        if is_noticed:
            points.is_away = True
            points.clock.advance(1.0)
            with pytest.raises(UnavailableError):
                worker._turn()
            points.is_away = False
        else:
            points.breaks = 1
        worker._leave()
        assert points.values["register/12"] == SAFE

    def test_a_plc_that_is_away_does_not_hold_up_the_end(self, points: Points) -> None:
        worker = worker_of(gate(), points)
        points.is_away, points.answer_s = True, 0.5
        worker._leave()
        assert points.clock.monotonic() <= 1.0


class TestOfAnAgent:
    @pytest.fixture
    def device(self, start: StartBench, points: Points) -> AgentBench:
        """One whose gate follows the verdicts."""
        device = start(output=(gate(line="warehouse", on=("reject",), delay_s=0.0, pulse_s=0.0),))
        device.wish()
        wait_until(device.loaded)
        wait_until(lambda: points.values.get("register/12") == SAFE)
        device.frame(1)
        wait_until(lambda: points.values["register/12"] == REST)
        return device

    @pytest.mark.parametrize(
        "lose",
        [
            lambda device: device.agent.guarded()[0].restart(),
            lambda device: device.device.lose(),
            lambda device: device.agent._workers[0].close(),
        ],
        ids=["was started anew", "is on a bus that is away", "ended"],
    )
    def test_a_camera_sees_no_part_that(
        self, device: AgentBench, points: Points, lose: Callable[[AgentBench], object]
    ) -> None:
        lose(device)
        wait_until(lambda: points.values["register/12"] == SAFE)

    def test_a_camera_that_refuses_an_image_saw_no_part(
        self, device: AgentBench, points: Points
    ) -> None:
        device.hub.publish("i/cam", b"no image")
        wait_until(lambda: points.values["register/12"] == SAFE)
        fault = "inspection stock failed on an image: fields not as documented"
        wait_until(lambda: f"output gate: it is fail-safe: {fault}" in device.agent.status().faults)
        device.frame(2)
        wait_until(lambda: points.values["register/12"] == REST)

    @pytest.mark.parametrize(
        "trigger", [Trigger(on="interval", interval_s=1.0), Trigger(on="topic", topic="gate")]
    )
    def test_an_image_that_nobody_wants_may_be_refused(
        self, start: StartBench, points: Points, trigger: Trigger
    ) -> None:
        inspection = Inspection(id="stock", camera="rack", labels=("blue",), trigger=trigger)
        device = start(
            output=(gate(line="warehouse", on=("reject",), delay_s=0.0, pulse_s=0.0),),
            inspection=(inspection,),
        )
        device.wish()
        wait_until(device.loaded)
        if trigger.topic:
            device.hub.publish("gate", b"")
            wait_until(lambda: device.agent._workers[0]._seen["stock"].armed)
        device.frame(1)
        wait_until(lambda: points.values.get("register/12") == REST)
        device.hub.publish("i/cam", b"no image")
        wait_until(lambda: device.refused().get("fields not as documented") == 1)
        assert device.agent.status().outputs[0].state == "follows"
        device.clock.advance(2.0)
        device.hub.publish("gate", b"")
        wait_until(lambda: device.agent._workers[0]._seen["stock"].armed or not trigger.topic)
        device.hub.publish("i/cam", b"no image")  # of the next one they do
        wait_until(lambda: points.values["register/12"] == SAFE)

    def test_an_image_is_missed_by_inspections_alone_whose_answers_count_for_verdicts(
        self, start: StartBench, points: Points
    ) -> None:
        counts = Inspection(id="stock", camera="rack", labels=("blue",))
        tried = replace(counts, id="tried", verdict=False, trigger=Trigger(on="topic", topic="try"))
        counts = replace(counts, trigger=Trigger(on="topic", topic="gate"))
        device = start(
            output=(gate(line="warehouse", on=("reject",), delay_s=0.0, pulse_s=0.0),),
            inspection=(counts, tried),
        )
        device.wish()
        wait_until(device.loaded)
        worker = device.agent._workers[0]
        for topic in ("gate", "try"):
            device.hub.publish(topic, b"")
        wait_until(lambda: worker._seen["stock"].armed and worker._seen["tried"].armed)
        device.frame(1)
        wait_until(lambda: points.values.get("register/12") == REST)
        assert worker._seen["tried"].armed
        device.hub.publish("i/cam", b"no image")
        wait_until(lambda: device.refused().get("fields not as documented") == 1)
        assert device.agent.status().outputs[0].state == "follows"

    def test_a_camera_with_a_fault_sees_no_part_until_its_image_is_judged_again(
        self, device: AgentBench, points: Points
    ) -> None:
        judge, fault = device.judges[GOOD], "output gate: it is fail-safe: camera rack is dark"
        judge.state = PictureState.BLACK
        device.frame(2)
        wait_until(lambda: points.values["register/12"] == SAFE)
        wait_until(lambda: fault in device.agent.status().faults)
        judge.state = PictureState.OK
        device.frame(3)
        wait_until(lambda: points.values["register/12"] == REST)
        wait_until(lambda: not device.agent.status().faults)


class Bench:
    """Outputs of the line ``belt``, the trust that the test gives it, and its time."""

    def __init__(
        self, *outputs: OutputConfig, bus: str = "", inspections: tuple[str, ...] = ("stock",)
    ) -> None:  # fmt: skip
        self.clock, self.counters, self.untrusted = FakeClock(), Counters(), ""
        self.triggers: list[str] = []
        plant = replace(parse_plant(PLANT.encode(), where="plant"), output=outputs)
        self.outputs = LineOutputs(
            plant, device="edge-1", bus=bus, inspections=inspections,
            untrusted=lambda _: self.untrusted, triggered=self.triggers.append,
            counters=self.counters, clock=self.clock,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self.outputs.start()
        for place in range(len(self.outputs.conditions())):
            wait_until(partial(self.is_connected, place))
        return self

    def __exit__(self, *_: object) -> None:
        self.outputs.close()

    def wait(self, holds: Callable[[], object]) -> None:
        """Let time pass until it holds."""

        def holds_later() -> object:
            self.clock.advance(0.02)
            return holds()

        wait_until(holds_later)

    def is_connected(self, place: int) -> bool:
        return self.state(place) == "fail-safe"

    def give(self, verdict: str, *, camera: str = "top", age_s: float = 0.0) -> None:
        self.outputs.take(verdict_of(verdict, camera=camera, age_s=age_s, clock=self.clock))

    def phase(self) -> str:
        decider = self.outputs._workers[0]._decider
        assert isinstance(decider, Handshake)
        return decider.phase

    def worked_s(self) -> float:
        """When the first output took its last turn."""
        return self.outputs._workers[0]._worker.progress_s

    def state(self, place: int = 0) -> str:
        return self.outputs.conditions()[place].state


def at_once(plc: ModbusPlc, **changes: object) -> OutputConfig:
    return gate(url=SecretUrl(plc.url), delay_s=0.0, pulse_s=0.5, **changes)


@pytest.fixture(params=["modbus", "mqtt", "opcua"])
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    """One of each kind of server."""
    if request.param == "modbus":
        with modbus_plc() as plc:
            yield plc
    elif request.param == "opcua":
        with opcua_peer() as server:
            yield server
    else:
        with broker_peer() as broker:
            yield broker


class TestEachKind:
    def test_says_fail_safe_rest_and_value_and_when_the_peer_returns_begins_anew(
        self, peer: Peer
    ) -> None:
        switch, alive = peer.points
        gate_there = gate(
            url=SecretUrl(peer.url), switch=switch, fail_safe=1, delay_s=0.0, pulse_s=0.0,
            heartbeat=alive, heartbeat_s=0.02,
        )  # fmt: skip
        with Bench(gate_there) as bench:
            wait_until(lambda: peer.values(switch) == [1])
            bench.give("ok")
            wait_until(lambda: peer.values(switch) == [1, 0])
            bench.give("reject")
            wait_until(lambda: peer.values(switch) == [1, 0, 1])
            bench.wait(lambda: len(peer.values(alive)) > 3)
            bench.give("ok")
            wait_until(lambda: peer.values(switch) == [1, 0, 1, 0])
            peer.switch_off()
            bench.wait(lambda: bench.state() == "away")
            wait_until(lambda: "output gate" in "".join(bench.counters.read().faults))
            bench.give("ok")
            peer.switch_on()
            wait_until(lambda: peer.values(switch) == [1])
            wait_until(lambda: not bench.counters.read().faults)
            bench.give("ok")
            wait_until(lambda: peer.values(switch) == [1, 0])
        wait_until(lambda: peer.values(switch) == [1, 0, 1])


class TestOutputs:
    def test_wait_for_the_part(self, plc: ModbusPlc) -> None:
        with Bench(gate(url=SecretUrl(plc.url), delay_s=0.5, pulse_s=30.0)) as bench:
            wait_until(lambda: plc.value("register/12") == SAFE)
            bench.give("reject", age_s=0.1)
            bench.clock.advance(0.39)
            wait_until(lambda: bench.worked_s() == bench.clock.monotonic())
            assert plc.values("register/12") == [SAFE]
            bench.clock.advance(0.02)
            wait_until(lambda: plc.values("register/12") == [SAFE, ON])

    def test_are_fail_safe_while_the_line_cannot_be_relied_on(self, plc: ModbusPlc) -> None:
        with Bench(at_once(plc)) as bench:
            bench.give("ok")
            wait_until(lambda: plc.value("register/12") == REST)
            bench.untrusted = "camera top is lost"
            wait_until(lambda: plc.value("register/12") == SAFE)
            wait_until(
                lambda: (
                    bench.counters.read().faults
                    == ("output gate: it is fail-safe: camera top is lost",)
                )
            )
            bench.untrusted = ""
            wait_until(lambda: not bench.counters.read().faults)
            assert bench.state() == "fail-safe"  # until the next verdict
            bench.give("ok")
            wait_until(lambda: plc.value("register/12") == REST)

    def test_show_that_the_device_is_alive(self, plc: ModbusPlc) -> None:
        beats = {"heartbeat": "coil/13", "heartbeat_s": 0.02}
        other = at_once(
            plc, id="lamp", switch="coil/14", fail_safe=0, heartbeat="register/15", heartbeat_s=0.02
        )
        with Bench(at_once(plc, **beats), other) as bench:
            bench.wait(
                lambda: len(plc.values("coil/13")) > 3 and len(plc.values("register/15")) > 3
            )
        assert plc.values("coil/13")[:4] == [1, 0, 1, 0]
        assert plc.values("register/15")[:4] == [1, 2, 3, 4]

    def test_of_a_slow_plc_hold_up_no_other_and_no_frame(self, plc: ModbusPlc) -> None:
        with modbus_plc() as slow, Bench(at_once(slow, id="slow"), at_once(plc)) as bench:
            wait_until(lambda: all(each._written for each in bench.outputs._workers))
            slow.is_held = True
            for _ in range(20):
                bench.give("reject")
            wait_until(lambda: plc.values("register/12") == [SAFE, ON])
            wait_until(lambda: slow.values("register/12") == [SAFE, ON])
            bench.clock.advance(0.5)
            wait_until(lambda: plc.values("register/12") == [SAFE, ON, REST])
            assert slow.values("register/12") == [SAFE, ON]
            assert bench.state(0) == "follows"  # it waits for its first answer all the while
            slow.is_held = False

    def test_fail_where_the_camera_of_the_delay_did_not_see_the_part(self, plc: ModbusPlc) -> None:
        with Bench(at_once(plc, camera="top")) as bench:
            bench.give("ok")
            wait_until(lambda: plc.value("register/12") == REST)
            bench.give("incomplete", camera="side")
            wait_until(lambda: plc.value("register/12") == SAFE)

    def test_answer_a_plc_that_asks(self, plc: ModbusPlc) -> None:
        with Bench(asked(url=SecretUrl(plc.url))) as bench:
            for verdict, value in (("reject", ON), ("ok", REST)):
                wait_until(lambda: bench.phase() == "idle")
                plc.put("input/1", 1)
                wait_until(lambda: bench.triggers)
                bench.give("ok", age_s=60.0)  # of the part before: the next image is asked for
                wait_until(lambda: len(bench.triggers) == 2)
                bench.clock.advance(0.01)
                bench.give(verdict)
                wait_until(lambda: plc.value("coil/3") == 1)
                assert plc.value("register/12") == value
                plc.put("coil/2", 1)
                wait_until(lambda: plc.value("coil/3") == 0)
                plc.put("input/1", 0)
                plc.put("coil/2", 0)
                wait_until(lambda: plc.value("register/12") == SAFE)
                bench.triggers.clear()
        wait_until(lambda: plc.values("register/12") == [SAFE, ON, SAFE, REST, SAFE])

    def test_of_a_line_whose_verdicts_the_hub_gives_are_a_fault(self) -> None:
        bench = Bench(gate(device="edge-1"), inspections=())
        assert bench.outputs.conditions() == ()
        assert "not driven" in bench.counters.read().faults[0]

    def test_of_other_devices_are_left_alone(self) -> None:
        bench = Bench(gate(device="edge-2"))
        assert bench.outputs.conditions() == ()
        assert not bench.counters.read().faults
