"""What a device says on the plant's own topics, byte for byte, and when it does not."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Plant, decode_json, digest_of, frame_id, parse_plant
from lineside.core.plant_say import Say
from lineside.edge.delivery.publisher import ResultPublisher, message_of
from lineside.edge.messages import Counters
from lineside.links import open_bus
from lineside.testing import FakeClock
from lineside.testing.bare import bare_frame, bare_label, bare_prediction
from lineside.testing.links import LONG_S, nothing_more, wait_until
from lineside.vision import (
    AnomalyAnswer,
    BoxAnswer,
    CountAnswer,
    Decision,
    MaskAnswer,
    PictureState,
    Prediction,
    open_frame,
)
from lineside.vision.verdict import RejectRule
from tests.edge.conftest import PLANT, StartBench, picture

AT = datetime(2026, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)
DIGEST = digest_of(b"picture")
COMPATIBLE = {"image": "label", "probability": "percent"}
SOCKS = {"Google": 0.97314453125, "Mongo": 0.0134, "Blank": 0.01345546875}
SAID = """
[[route]]
topic = "sockfound"
kind = "message"
time = "arrival"
[route.say]
inspection = "stock"
form = "{form}"
fields = {{ image = "label", probability = "percent" }}
"""


def answer(
    said: dict[str, float] | None = None, *, decision: Decision = Decision.PRESENT
) -> Prediction:
    named = SOCKS if said is None else said
    best = max(named, key=lambda name: named[name], default="")
    labels = tuple(
        bare_label(name, probability, decision if name == best else Decision.ABSENT)
        for name, probability in named.items()
    )
    frame = bare_frame(camera="top", at=AT, digest=DIGEST, sequence=12, part="p-7")
    package = digest_of(b"package")
    return bare_prediction(frame, inspection="sock", labels=labels, package=package)


def test_the_compatible_message_has_the_reference_s_very_bytes() -> None:
    message = message_of(answer(), COMPATIBLE)
    assert message == b'{"image": "Google", "probability": 97.314453125}'
    assert len(message) == 48
    assert message.hex().startswith("7b22696d616765223a2022")


@pytest.mark.parametrize(
    "percent", [37.59765625, 41.162109375, 94.970703125, 50.634765625, 86.279296875]
)
def test_published_figures_come_out_digit_for_digit(percent: float) -> None:
    message = message_of(answer({"Blank": percent / 100, "Mongo": 0.0}), COMPATIBLE)
    assert message == f'{{"image": "Blank", "probability": {percent}}}'.encode()


def test_names_beyond_ascii_are_written_as_python_does() -> None:
    assert message_of(answer({"Füße": 0.5}), COMPATIBLE) == (
        b'{"image": "F\\u00fc\\u00dfe", "probability": 50.0}'
    )


def test_the_extended_message_says_when_who_and_how_sure_beside_it() -> None:
    fields = Say(inspection="sock", fields=COMPATIBLE).all_fields("classify")
    message = message_of(answer(), fields, device="edge-1")
    assert message is not None
    assert message.startswith(b'{"image": "Google", "probability": 97.314453125, "score": 0.973')
    assert decode_json(message, where="message") == {
        "image": "Google", "probability": 97.314453125, "score": 0.97314453125,
        "second": "Blank", "second_score": 0.01345546875, "decision": "present", "state": "ok",
        "ts": "2026-01-01T12:00:00.250Z", "sequence": 12,
        "frame": frame_id(camera="top", captured_at=AT, digest=DIGEST),
        "device": "edge-1", "package": digest_of(b"package"),
    }  # fmt: skip


def test_the_verdict_is_told_with_its_reasons() -> None:
    fields = {"part": "part", "eject": "verdict", "why": "reasons"}
    rejected = message_of(answer(), fields)
    assert decode_json(rejected or b"", where="said") == {
        "part": "p-7", "eject": "reject", "why": ["Google 0.97"],
    }  # fmt: skip
    rule = RejectRule(good=tuple(SOCKS))
    fine = message_of(answer(), fields, rule=rule)
    assert decode_json(fine or b"", where="said") == {"part": "p-7", "eject": "ok", "why": []}


def test_an_unsure_answer_is_told_as_it_is_wished() -> None:
    unsure = answer({"Mongo": 0.34, "Google": 0.33}, decision=Decision.UNSURE)
    as_before = message_of(unsure, COMPATIBLE)
    assert as_before is not None
    assert b'"image": "Mongo"' in as_before
    known = message_of(unsure, COMPATIBLE, unknown="Unknown")
    assert known is not None
    assert decode_json(known, where="")["image"] == "Unknown"
    sure = message_of(answer(), COMPATIBLE, unknown="Unknown")
    assert sure is not None
    assert b"Google" in sure


def test_an_unsure_answer_has_a_word_of_its_own_where_the_plant_file_names_none() -> None:
    (route,) = plant_saying("compatible").route
    assert route.say is not None
    unsure = answer({"Mongo": 0.34, "Google": 0.33}, decision=Decision.UNSURE)
    said = message_of(unsure, COMPATIBLE, unknown=route.say.unknown)
    assert said is not None
    assert decode_json(said, where="")["image"] == "unsure"


def test_of_a_picture_that_was_not_judged_nothing_or_the_unknown_is_said() -> None:
    refused = replace(answer({}), state=PictureState.UNFAMILIAR)
    assert message_of(refused, COMPATIBLE) is None
    said = message_of(refused, {**COMPATIBLE, "why": "state"}, unknown="Unknown")
    assert said == b'{"image": "Unknown", "probability": 0.0, "why": "unfamiliar"}'


def test_other_tasks_say_what_they_have() -> None:
    nothing = answer({})
    counted = replace(nothing, task="count", count=CountAnswer(value=4, low=3, high=5))
    assert message_of(counted, {"n": "count", "from": "count_low", "to": "count_high"}) == (
        b'{"n": 4, "from": 3, "to": 5}'
    )
    odd = AnomalyAnswer(score=2.5, limit=1.5, decision=Decision.PRESENT)
    assert (
        message_of(
            replace(nothing, task="anomaly", anomaly=odd),
            {"s": "score", "l": "limit", "d": "decision"},
        )
        == b'{"s": 2.5, "l": 1.5, "d": "present"}'
    )
    mask = MaskAnswer(rle="0", width_px=2, height_px=2, share=0.25)
    assert (
        message_of(replace(nothing, task="segment", mask=mask), {"bad": "defect_share"})
        == b'{"bad": 0.25}'
    )
    box = BoxAnswer(label="nut", x0_px=0, y0_px=0, x1_px=2, y1_px=2, probability=0.75)
    assert (
        message_of(
            replace(nothing, task="detect", boxes=(box,)),
            {"what": "label", "how": "percent", "many": "boxes", "of": "part"},
        )
        == b'{"what": "nut", "how": 75.0, "many": 1, "of": "p-7"}'
    )


@given(st.dictionaries(st.text(min_size=1, max_size=6), st.floats(0, 1), min_size=1, max_size=5))
def test_any_answer_is_a_line_of_json_with_both_keys(said: dict[str, float]) -> None:
    message = message_of(answer(said), COMPATIBLE)
    assert message is not None
    assert b"\n" not in message
    read = decode_json(message, where="message")
    assert list(read) == ["image", "probability"]
    assert read["probability"] == pytest.approx(max(said.values()) * 100)
    assert said[read["image"]] == max(said.values())


def plant_saying(form: str) -> Plant:
    return parse_plant((PLANT + SAID.format(form=form)).encode(), where="plant")


class TestOnTheBus:
    def test_each_answer_is_one_message_and_nothing_else_goes_there(
        self, start: StartBench
    ) -> None:
        """No greeting: whoever reads the topic reads JSON (defect 9)."""
        bench = start(route=plant_saying("compatible").route)
        said = bench.hub.subscribe(("sockfound",), name="said")
        bench.wish()
        wait_until(bench.loaded)
        for number in range(3):
            bench.clock.advance(0.1)
            bench.frame(number)
            bench.events(1)
        messages = [said.get(timeout_s=LONG_S) for _ in range(3)]
        assert {one.payload for one in messages if one} == {
            b'{"image": "blue", "probability": 90.0}'
        }
        assert {(one.qos, one.retain) for one in messages if one} == {(0, False)}
        bench.close()
        assert nothing_more(said)
        said.close()

    def test_how_the_device_is_stands_on_its_own_topic_retained(self, start: StartBench) -> None:
        bench = start(route=plant_saying("compatible").route)
        wait_until(lambda: bench.status()["state"] == "online")
        bench.device.lose()  # cut off: the broker speaks for it
        wait_until(lambda: bench.status()["state"] == "offline")

    def test_an_extended_message_names_device_time_and_package(self, start: StartBench) -> None:
        bench = start(route=plant_saying("extended").route)
        said = bench.hub.subscribe(("sockfound",), name="said")
        bench.wish()
        wait_until(bench.loaded)
        at = bench.frame(1, sequence=9)
        message = said.get(timeout_s=LONG_S)
        assert message is not None
        read = decode_json(message.payload, where="said")
        assert (read["image"], read["device"], read["sequence"]) == ("blue", "edge-1", 9)
        assert read["ts"].startswith(at.strftime("%Y-%m-%dT%H:%M:%S"))
        assert read["package"] == bench.agent.status().packages[0].digest
        said.close()

    def test_a_judge_that_fails_says_nothing_and_the_next_answer_is_said(
        self, start: StartBench
    ) -> None:
        """One exception does not end the loop (defect 14)."""
        bench = start(route=plant_saying("compatible").route)
        said = bench.hub.subscribe(("sockfound",), name="said")
        bench.wish()
        wait_until(bench.loaded)
        for judge in bench.judges.values():
            judge.failing = True
        bench.frame(1)
        wait_until(lambda: bench.refused().get("failed") == 1)
        for judge in bench.judges.values():
            judge.failing = False
        bench.clock.advance(0.1)
        bench.frame(2)
        assert said.get(timeout_s=LONG_S) is not None
        assert nothing_more(said)
        said.close()


def test_a_message_that_the_bus_does_not_take_is_counted_and_gone(clock: FakeClock) -> None:
    bus = open_bus("memory://saying", client_id="device", clock=clock)
    counters = Counters()
    sayer = ResultPublisher(
        plant_saying("compatible"),
        inspections=("stock",),
        device="edge-1",
        bus=bus,
        counters=counters,
    )
    bus.close()
    sayer.look(
        open_frame(picture(), camera="rack", captured_at=AT), replace(answer(), inspection="stock")
    )
    assert counters.read().refused == {"not said to the plant": 1}


def test_a_device_says_only_what_it_inspects(clock: FakeClock) -> None:
    bus = open_bus("memory://saying-2", client_id="device", clock=clock)
    plant = plant_saying("compatible")
    for inspections, topics in ((("stock",), ("sockfound",)), ((), ())):
        sayer = ResultPublisher(
            plant, inspections=inspections, device="d", bus=bus, counters=Counters()
        )
        assert sayer.topics == topics
    bus.close()
