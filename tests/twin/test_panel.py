"""The sensor panel: the reference's five lines, with ages instead of invented values."""

from lineside.testing.events import after, plant_event, small_plant
from lineside.twin import initial, replay, sensor_panel
from lineside.twin.documents import PANEL_TITLE

PLANT = small_plant()


def test_the_panel_has_the_references_lines_in_its_order_and_wording() -> None:
    state = replay(
        [
            plant_event("sensor", at_s=1, t=22.3, p=1020, h=31.7, iaq=188),
            plant_event("sensor", topic="i/ldr", at_s=2, br="84.3"),
        ],
        plant=PLANT,
    )
    panel = sensor_panel(state, now=after(3))
    assert PANEL_TITLE == "Real-Time BCN Sensors"
    assert [line.text for line in panel] == [
        "Temperature [°C]: 22.3",
        "Room Brightness [%]: 84.3",
        "Air Pressure [hPa]: 1020",
        "Humidity [%]: 31.7",
        "Air Quality Index [0-500]: 188",
    ]
    assert [line.age_s for line in panel] == [2.0, 1.0, 2.0, 2.0, 2.0]
    assert {line.note for line in panel} == {""}


def test_before_the_first_message_no_value_is_shown() -> None:
    panel = sensor_panel(initial(PLANT), now=after(3))
    assert [line.text for line in panel] == [
        "Temperature [°C]: no data",
        "Room Brightness [%]: no data",
        "Air Pressure [hPa]: no data",
        "Humidity [%]: no data",
        "Air Quality Index [0-500]: no data",
    ]
    assert {line.note for line in panel} == {"no data since the start"}
    assert {line.age_s for line in panel} == {None}


def test_a_value_that_stopped_coming_says_since_when() -> None:
    state = replay([plant_event("sensor", at_s=0, t=22.3)], plant=PLANT)
    assert sensor_panel(state, now=after(90))[0].note == ""
    silent = sensor_panel(state, now=after(90.001))[0]
    assert silent.note == "no data since 2026-01-01T12:00:00.000Z"
    assert silent.text == "Temperature [°C]: 22.3"
    assert sensor_panel(state, now=after(11), silent_after_s=10)[0].note.startswith("no data since")
