"""The plant's own messages: stock report, stations, sensors, alerts."""

import pytest

from lineside.core.factory import SLOTS
from lineside.testing.events import (
    COLOURS,
    after,
    factory_event,
    picture_event,
    plant_event,
    small_plant,
    station_event,
    stock_event,
)
from lineside.twin import apply, initial, order_event, replay
from lineside.twin.state import Outcome

PLANT = small_plant()
CLIMATE: dict[str, object] = {
    "t": 25.1, "rt": 27.93, "h": 40.0, "rh": 38.01, "p": 1000.2, "iaq": 200, "aq": 3, "gr": 161000,
}  # fmt: skip


def test_the_stock_report_is_kept_beside_the_picture() -> None:
    event = stock_event({"A1": "blue", "A2": ""}, at_s=3)
    state = replay([event], plant=PLANT)
    assert state.slots["A1"].reported == "blue"
    assert state.slots["A2"].reported == ""
    assert state.slots["A3"].reported is None
    assert state.slots["A1"].reported_evidence.event == event.id
    assert state.slots["A1"].evidence.at is None


def test_a_piece_without_type_counts_as_an_empty_place() -> None:
    items = [{"location": "A1", "workpiece": {"id": "04", "type": "NONE", "state": "RAW"}}]
    state = replay([plant_event("stock", at_s=1, stockItems=items)], plant=PLANT)
    assert state.slots["A1"].reported == ""


def test_places_that_the_plant_file_does_not_name_are_passed_over() -> None:
    state = initial(PLANT)
    applied = apply(state, stock_event({"Z9": "blue"}, at_s=1), plant=PLANT)
    assert applied.outcome is Outcome.IGNORED


def test_an_older_report_is_late() -> None:
    state = replay([stock_event({"A1": "blue"}, at_s=3)], plant=PLANT)
    applied = apply(state, stock_event({"A1": "red"}, at_s=2), plant=PLANT)
    assert applied.outcome is Outcome.LATE


def test_a_station_shows_what_it_last_said() -> None:
    event = station_event("vgr", active=True, at_s=4, target="mpo")
    state = replay([event], plant=PLANT)
    station = state.stations["vgr"]
    assert (station.active, station.target) == (True, "mpo")
    assert station.evidence.at == after(4)
    assert state.stations["hbw"].active is None


def test_a_station_is_known_by_its_topic_and_an_unknown_one_is_ignored() -> None:
    named = plant_event("station", topic="f/i/state/mpo", at_s=1, station="MPO 1", code=1)
    assert replay([named], plant=PLANT).stations["mpo"].active is False
    other = station_event("dsi", active=True, at_s=1)
    assert apply(initial(PLANT), other, plant=PLANT).outcome is Outcome.IGNORED


@pytest.mark.parametrize("colour", COLOURS)
def test_stations_that_begin_to_work_become_steps_of_the_running_order(colour: str) -> None:
    events = [
        picture_event(dict.fromkeys(SLOTS, colour), at_s=1),
        order_event("ord_1", "placed", at=after(1), site="hall", colour=colour, slot="A1"),
        order_event("ord_1", "sending", at=after(1), site="hall"),
        station_event("sld", active=True, at_s=2),
        factory_event("ORDERED", colour, at_s=3),
        station_event("hbw", active=True, at_s=4),
        station_event("hbw", active=False, at_s=5),
        station_event("hbw", active=True, at_s=6),
        station_event("vgr", active=True, at_s=7),
        factory_event("IN_PROCESS", colour, at_s=8),
        station_event("mpo", active=True, at_s=9),
        station_event("vgr", active=False, at_s=10),
        station_event("vgr", active=True, at_s=11),
        station_event("sld", active=False, at_s=12),
        station_event("sld", active=True, at_s=13),
        station_event("dso", active=True, at_s=14),
    ]
    names = [step.name for step in replay(events, plant=PLANT).orders[0].steps]
    assert names == [
        "placed", "sending", "ORDERED", "hbw", "vgr", "IN_PROCESS", "mpo", "vgr", "sld", "dso",
    ]  # fmt: skip


def test_a_station_that_works_without_an_order_of_ours_moves_no_order() -> None:
    state = replay([station_event("hbw", active=True, at_s=1)], plant=PLANT)
    assert state.orders == ()


def test_sensors_fill_in_from_both_messages() -> None:
    state = replay(
        [
            plant_event("sensor", at_s=1, topic="i/bme680", **CLIMATE),
            plant_event("sensor", topic="i/ldr", at_s=2, ldr=2355, br="84.3"),
        ],
        plant=PLANT,
    )
    shown = {sensor.id: (sensor.value, sensor.shown) for sensor in state.sensors.values()}
    assert shown == {
        "temperature": (25.1, "25.1"),
        "brightness": (84.3, "84.3"),
        "pressure": (1000.2, "1000.2"),
        "humidity": (40.0, "40"),
        "air_quality": (200.0, "200"),
    }


@pytest.mark.parametrize("br", ["84.3", 84.3])
def test_brightness_is_taken_as_text_and_as_a_number(br: str | float) -> None:
    state = replay([plant_event("sensor", topic="i/ldr", at_s=2, br=br)], plant=PLANT)
    assert (state.sensors["brightness"].value, state.sensors["brightness"].shown) == (84.3, "84.3")


def test_a_value_that_is_missing_stays_without_data_and_is_not_invented() -> None:
    state = replay([plant_event("sensor", at_s=1, t=21.0)], plant=PLANT)
    for sensor in ("pressure", "humidity", "air_quality", "brightness"):
        assert state.sensors[sensor].value is None
        assert state.sensors[sensor].evidence.at is None


def test_a_value_that_stops_coming_keeps_its_own_age() -> None:
    events = [plant_event("sensor", at_s=1, t=21.0, p=1000), plant_event("sensor", at_s=9, t=22.0)]
    state = replay(events, plant=PLANT)
    assert state.sensors["temperature"].evidence.at == after(9)
    assert state.sensors["pressure"].evidence.at == after(1)


def test_a_sensor_message_without_known_values_is_ignored() -> None:
    applied = apply(initial(PLANT), plant_event("sensor", at_s=1, lux=3), plant=PLANT)
    assert applied.outcome is Outcome.IGNORED


@pytest.mark.parametrize(
    ("code", "data", "text"),
    [
        (100, "data:image/jpeg;base64,AAAA", "Movement before the camera"),
        (200, 3.5, "Frost: 3.5 °C, limit 4 °C"),
        (300, 81, "Humidity 81 %, limit 80 %"),
        (300, "81.5", "Humidity 81.5 %, limit 80 %"),
        (999, "x" * 1000, "Alert 999 of cam"),
    ],
)
def test_an_alert_is_said_in_words_without_its_picture(
    *, code: int, data: str | float, text: str
) -> None:
    state = replay([plant_event("alert", at_s=1, id="cam", code=code, data=data)], plant=PLANT)
    assert [alert.text for alert in state.alerts] == [text]


def test_alerts_are_the_newest_of_each_kind_newest_first_and_bounded() -> None:
    many = [plant_event("alert", at_s=n, id=f"s{n}", code=200, data=n) for n in range(30)]
    state = replay(many, plant=PLANT)
    assert [alert.id for alert in state.alerts] == [f"s{n}" for n in range(29, 9, -1)]
    again = plant_event("alert", at_s=40, id="s15", code=200, data=1)
    assert replay([again], plant=PLANT, state=state).alerts[0].id == "s15"
    assert len(replay([again], plant=PLANT, state=state).alerts) == 20
    pushed_out = apply(state, plant_event("alert", at_s=2.5, id="z", code=200, data=1), plant=PLANT)
    assert pushed_out.outcome is Outcome.LATE
