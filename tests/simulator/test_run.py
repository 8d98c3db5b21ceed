import itertools
import json
import logging
from pathlib import Path

import msgspec
import pytest

from lineside.core import InvalidError, decode, digest_of, load_plant
from lineside.core.factory import (
    SLOTS,
    BrightnessMessage,
    BroadcastMessage,
    CameraMessage,
    ClimateMessage,
    OrderMessage,
    PanTiltMessage,
    StationMessage,
    StockMessage,
    TagMessage,
    order_command,
    read_message,
)
from lineside.core.topics import topic_matches
from lineside.simulator import SimulateSettings, slot_boxes
from lineside.vision import decode_picture
from tests.simulator.conftest import Line

PLANT = Path(__file__).parents[2] / "examples" / "warehouse" / "plant.toml"
KINDS: dict[str, type[msgspec.Struct]] = {
    "i/cam": CameraMessage,
    "i/bme680": ClimateMessage,
    "i/ldr": BrightnessMessage,
    "i/broadcast": BroadcastMessage,
    "i/ptu/pos": PanTiltMessage,
    "f/i/stock": StockMessage,
    "f/i/order": OrderMessage,
    "f/i/nfc/ds": TagMessage,
}


def red(line: Line) -> bytes:
    return order_command("red", at=line.clock.now())


def rows(file: Path) -> list[dict[str, object]]:
    return [json.loads(row) for row in file.read_text().splitlines()]


def run_an_order(line: Line, settings: SimulateSettings) -> None:
    line.at(2, line.order(red(line)))
    line.run(settings, seconds=22)


def test_the_same_seed_says_the_same_bytes(line: Line) -> None:
    settings = SimulateSettings(seed=4, teach=0, frames=8)
    line.run(settings, seconds=10)
    first = [(one.topic, one.payload) for one in line.said()]
    line.clock._now, line.clock._monotonic_s = type(line.clock)().now(), 0.0
    line.run(settings, seconds=10)
    assert [(one.topic, one.payload) for one in line.said()] == first


@pytest.mark.parametrize("other", [{"seed": 5}, {"lighting": "dark"}, {"drift_px": 9.0}])
def test_another_seed_lighting_or_drift_shows_other_pictures(
    line: Line, other: dict[str, object]
) -> None:
    line.run(SimulateSettings(frames=2), seconds=10)
    first = [json.loads(one.payload)["data"] for one in line.said("i/cam")]
    line.run(decode(SimulateSettings, {"frames": 2, **other}, where=""), seconds=10)
    then = [json.loads(one.payload)["data"] for one in line.said("i/cam")]
    assert len(first) == len(then) == 2
    assert not set(first) & set(then)


def test_every_message_has_the_documented_shape_and_a_route(line: Line) -> None:
    run_an_order(line, SimulateSettings(speed=10, restock_after_s=1))
    plant = load_plant(PLANT)
    messages = [one for one in line.said() if one.topic != "f/o/order"]
    assert {one.topic for one in messages} == {
        *KINDS, *(f"f/i/state/{code}" for code in ("hbw", "vgr", "mpo", "sld", "dsi", "dso")),
    }  # fmt: skip
    for one in messages:
        kind = KINDS.get(one.topic, StationMessage)
        read_message(kind, one.payload, where=one.topic)
        assert one.qos == (0 if one.topic == "i/cam" else 1)
        assert not one.retain
        (route,) = [r for r in plant.route if topic_matches(r.topic, one.topic)]
        assert len(one.payload) <= plant.limit_bytes(route)


def test_shapes_carry_exactly_the_fields_of_the_firmware(line: Line) -> None:
    run_an_order(line, SimulateSettings(speed=10))
    said = {one.topic: list(json.loads(one.payload)) for one in line.said()}
    assert said["i/cam"] == ["ts", "data"]
    assert said["i/bme680"] == ["ts", "t", "rt", "h", "rh", "p", "iaq", "aq", "gr"]
    assert said["i/ldr"] == ["ts", "ldr", "br"]
    assert said["f/i/stock"] == ["ts", "stockItems"]
    assert said["f/i/order"] == ["ts", "state", "type"]
    assert said["f/i/state/dso"] == ["ts", "station", "code", "description", "active"]
    assert said["f/i/nfc/ds"] == ["ts", "workpiece", "history"]
    assert said["i/ptu/pos"] == ["ts", "pan", "tilt"]
    assert said["i/broadcast"] == [
        "ts", "hardwareId", "hardwareModel", "softwareName", "softwareVersion", "message",
    ]  # fmt: skip


def test_a_busy_station_names_its_target(line: Line) -> None:
    run_an_order(line, SimulateSettings(speed=10))
    shown = [json.loads(one.payload) for one in line.said("f/i/state/vgr")]
    targets = [one.get("target") for one in shown if one["active"] == 1]
    assert targets == sorted(targets, key=["mpo", "dso"].index)
    assert {"mpo", "dso"} == set(targets)


def test_brightness_is_text_with_one_decimal_that_follows_from_the_resistance(line: Line) -> None:
    for lighting in ("dark", "light", "neutral"):
        settings = decode(SimulateSettings, {"lighting": lighting, "frames": 30}, where="")
        line.run(settings, seconds=10)
    values = [json.loads(one.payload) for one in line.said("i/ldr")]
    assert len(values) >= 9
    for value in values:
        assert isinstance(value["br"], str)
        assert value["br"] == f"{(15000 - value['ldr']) / 150:.1f}"
    assert float(values[0]["br"]) < float(values[-1]["br"])


def test_a_picture_message_is_whole_and_as_large_as_the_real_ones(line: Line) -> None:
    line.run(SimulateSettings(frames=3), seconds=10)
    for one in line.said("i/cam"):
        assert 51_000 < len(one.payload) < 78_000
        message = read_message(CameraMessage, one.payload, where="")
        assert message.data.startswith("data:image/jpeg;base64,/9j/")
        picture = message.picture()
        assert picture[:2] == b"\xff\xd8"
        assert picture[-2:] == b"\xff\xd9"
        assert decode_picture(picture).shape == (240, 320, 3)


def test_stock_lists_the_nine_slots_in_order_and_empty_ones_as_null(line: Line) -> None:
    line.run(SimulateSettings(frames=1), seconds=10)
    (stock, *_) = line.said("f/i/stock")
    items = json.loads(stock.payload)["stockItems"]
    assert [item["location"] for item in items] == list(SLOTS)
    assert sum(item["workpiece"] is None for item in items) == 3


def test_an_ordered_colour_vanishes_from_picture_stock_and_notebook(
    line: Line, tmp_path: Path
) -> None:
    file = tmp_path / "truth.jsonl"
    run_an_order(line, SimulateSettings(speed=10, drift_px=0, truth=str(file)))
    *frames, end = rows(file)
    before, after = frames[0]["slots"], frames[-1]["slots"]
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    (slot,) = [slot for slot in SLOTS if before[slot] != after[slot]]
    assert (before[slot], after[slot]) == ("red", "empty")
    assert end["slots"] == after
    messages = line.said()
    pictures = [
        decode_picture(read_message(CameraMessage, one.payload, where="").picture())
        for one in messages
        if one.topic == "i/cam"
    ]
    box = slot_boxes()[slot]
    y, x = int(box.y0_px + box.y1_px) // 2 - 2, int(box.x0_px + box.x1_px) // 2
    first, last = (
        p[y - 1 : y + 2, x - 3 : x + 4].mean(axis=(0, 1)) for p in pictures[:: len(pictures) - 1]
    )
    assert first[0] - first[2] > last[0] - last[2] + 40
    stocks = [json.loads(one.payload)["stockItems"] for one in messages if one.topic == "f/i/stock"]
    place = SLOTS.index(slot)
    assert stocks[0][place]["workpiece"]["type"] == "RED"
    assert stocks[-1][place]["workpiece"] is None


def test_truth_lines_name_every_published_frame(line: Line, tmp_path: Path) -> None:
    file = tmp_path / "truth.jsonl"
    run_an_order(line, SimulateSettings(speed=10, truth=str(file)))
    *frames, end = rows(file)
    messages = line.said()
    published = [
        read_message(CameraMessage, m.payload, where="") for m in messages if m.topic == "i/cam"
    ]
    assert [(row["ts"], row["digest"]) for row in frames] == [
        (one.ts, digest_of(one.picture())) for one in published
    ]
    assert end == {
        "end": True, "ts": end["ts"], "slots": frames[-1]["slots"],
        "frames": len(published), "dropped": 0,
    }  # fmt: skip


def test_stock_is_told_before_the_first_picture_that_shows_it(line: Line, tmp_path: Path) -> None:
    file = tmp_path / "truth.jsonl"
    run_an_order(line, SimulateSettings(speed=10, truth=str(file)))
    truth = {row["digest"]: row["slots"] for row in rows(file) if "digest" in row}
    told: dict[str, str] = {}
    for one in line.said():
        if one.topic == "f/i/stock":
            items = read_message(StockMessage, one.payload, where="").stock_items
            told = {
                i.location: i.workpiece.type.value.lower() if i.workpiece else "empty"
                for i in items
            }
        if one.topic == "i/cam":
            picture = read_message(CameraMessage, one.payload, where="").picture()
            assert truth[digest_of(picture)] == told


def test_frames_come_at_the_rate_that_was_set(line: Line) -> None:
    sent = line.run(SimulateSettings(fps=4), seconds=5)
    times = [read_message(CameraMessage, m.payload, where="").at for m in line.said("i/cam")]
    gaps = {round((b - a).total_seconds(), 3) for a, b in itertools.pairwise(times)}
    assert gaps == {0.25}
    assert sent.frames == len(times) == 20


def test_a_topic_prefix_stands_before_what_is_said_and_heard(line: Line) -> None:
    line.at(1, line.order(red(line)))
    line.at(1, line.order(red(line), topic="west/f/o/order"))
    line.run(SimulateSettings(speed=50, topic_prefix="west/"), seconds=5)
    said = [one for one in line.said() if one.topic != "f/o/order"]
    assert all(one.topic.startswith("west/") for one in said)
    states = [json.loads(m.payload)["state"] for m in said if m.topic == "west/f/i/order"]
    assert states.count("ORDERED") == 1


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff\xfe", b"[]", b'{"type":"RED"}', b'{"ts":"now","type":"RED"}',
     b'{"ts":"2026-01-01T12:00:00.000Z","type":"GREEN"}', b" " * 5000],
)  # fmt: skip
def test_a_command_that_is_none_is_refused_and_the_line_goes_on(
    line: Line, payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    line.at(0.5, line.order(payload))
    with caplog.at_level(logging.WARNING):
        sent = line.run(SimulateSettings(), seconds=2)
    assert sent.frames >= 10
    assert "command refused" in caplog.text


def test_an_order_that_cannot_be_filled_is_ignored_with_a_line_in_the_log(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    for place in range(3):
        stamp = b'{"ts":"2026-01-01T12:00:0%d.000Z","type":"BLUE"}' % place
        line.at(0.5 + place, line.order(stamp))
    with caplog.at_level(logging.WARNING):
        line.run(SimulateSettings(), seconds=5)
    assert "no free blue piece in the rack" in caplog.text


def test_while_the_broker_is_away_pictures_are_dropped_and_the_rest_waits(
    line: Line, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "truth.jsonl"
    line.at(1, line.order(red(line)))
    line.at(3, line.bus.lose)  # type: ignore[attr-defined]  # the memory bus can be cut
    line.at(8, line.bus.regain)  # type: ignore[attr-defined]  # and mended
    with caplog.at_level(logging.INFO):
        sent = line.run(SimulateSettings(speed=20, truth=str(file)), seconds=12)
    messages = line.said()
    assert 24 <= sent.dropped <= 26
    assert sent.frames == sum(m.topic == "i/cam" for m in messages)
    assert len(rows(file)) == sent.frames + 1
    states = [json.loads(m.payload)["state"] for m in messages if m.topic == "f/i/order"]
    assert states == [
        "WAITING_FOR_ORDER", "ORDERED", "IN_PROCESS", "SHIPPED",
        "WAITING_FOR_ORDER", "WAITING_FOR_ORDER",
    ]  # fmt: skip
    assert caplog.text.count("broker lost") == 1
    assert caplog.text.count("broker is back") == 1


@pytest.mark.slow
def test_what_waits_for_the_broker_is_bounded(line: Line) -> None:
    line.bus.lose()  # type: ignore[attr-defined]  # the memory bus can be cut
    sent = line.run(SimulateSettings(fps=1), seconds=1200)
    assert sent.frames == 0
    assert sent.dropped > 1200
    line.bus.regain()  # type: ignore[attr-defined]  # and mended


@pytest.mark.parametrize(
    ("key", "value"),
    [("drift_px", 21), ("drift_px", -1), ("fps", 0), ("speed", 0), ("seed", -1),
     ("teach", -1), ("frames", -2), ("blur_px", 9), ("restock_after_s", -1)],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(key: str, value: float) -> None:
    with pytest.raises(InvalidError) as caught:
        decode(SimulateSettings, {key: value}, where="flags")
    assert [fault.path for fault in caught.value.faults] == [f"$.{key}"]
