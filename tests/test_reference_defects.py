"""The known defects of the reference system, each with the tests that we do not repeat it.

Those of the twin and of the pure data path are tested here. ``ELSEWHERE`` names, for the others and
in addition, tests beside the code they are about; each name is checked to exist.
"""

import ast
import re
from datetime import timedelta
from pathlib import Path

import pytest

from lineside.core import InvalidError
from lineside.core.factory import SLOTS, BrightnessMessage, OrderMessage, StockMessage, read_message
from lineside.streams import Event, NotFresh, freshness
from lineside.streams.event import Fresh
from lineside.testing.events import (
    COLOURS,
    PACKAGE,
    START,
    after,
    factory_event,
    picture_event,
    plant_event,
    small_plant,
    station_event,
    stock_event,
)
from lineside.twin import (
    LineState,
    apply,
    documents,
    due,
    initial,
    next_to_send,
    order_event,
    place,
    replay,
    sensor_panel,
)
from lineside.twin.documents import stock_document
from lineside.twin.state import Outcome
from lineside.vision import PictureState
from tests.named import defects_in, missing

ROOT = Path(__file__).parents[1]
PLANT = small_plant()
EMPTY = dict.fromkeys(SLOTS, "empty")
RAINBOW = {**EMPTY, "A1": "blue", "A2": "red", "A3": "white"}

ELSEWHERE: dict[int, tuple[str, ...]] = {
    1: (
        "edge/test_agent.py::TestAFrame::test_of_sixty_seconds_is_judged_and_a_tenth_older_is_not",
    ),
    2: ("hub/test_api_line.py::test_the_first_result_creates_the_stock_document",),
    3: (
        "edge/test_agent.py::TestAFrame::test_in_a_burst_is_each_judged_for_itself",
        "hub/test_ingest.py::test_two_pictures_in_one_burst_are_two_frames_each_with_its_own_answer",
    ),
    5: ("hub/test_ingest.py::test_an_older_answer_arriving_late_changes_nothing",),
    6: (
        "edge/test_agent.py::TestAFrame::test_that_breaks_the_package_does_not_end_the_camera",
        "hub/test_api_line.py::test_ingest_answers_2xx_only_after_the_message_is_stored",
        "hub/test_devices.py::test_a_stored_prediction_is_acknowledged_and_moves_the_twin",
    ),
    7: (
        "hub/test_ingest.py::test_a_dead_letter_keeps_reason_time_topic_and_raw_bytes",
        "hub/test_topics.py::test_what_is_no_json_object_is_refused",
    ),
    8: ("hub/test_ingest.py::test_a_bad_time_becomes_a_dead_letter",),
    9: (
        "hub/test_ingest.py::test_unknown_and_missing_topics_become_dead_letters_of_their_own_reason",
        "hub/test_topics.py::test_an_unknown_and_a_missing_topic_are_told_apart",
    ),
    10: (
        "hub/test_access.py::test_an_ingest_token_may_ingest_and_nothing_else",
        "hub/test_access.py::test_every_route_asks_who_it_is_unless_it_is_open",
        "hub/test_ingest.py::test_a_message_above_its_limit_becomes_a_dead_letter",
        "hub/test_ingest.py::test_a_message_delivered_twice_is_kept_once",
    ),
    12: (
        "hub/test_access.py::test_nothing_secret_is_kept_readable",
        "hub/test_access.py::test_token_files_are_for_their_owner_only_and_survive_a_restart",
    ),
    13: (
        "models/test_sagemaker.py::test_a_client_s_cut_is_the_package_s_cut",
        "models/test_sagemaker.py::test_classes_of_a_region_are_above_the_threshold_where_they_are_decided",
        "training/test_run.py::test_the_manifest_says_where_it_comes_from",
    ),
    14: (
        "training/test_run.py::test_a_validation_part_of_the_training_group_is_called_a_leak",
        "training/test_run.py::test_evaluating_on_training_pictures_is_refused",
        "training/test_run.py::test_the_same_job_gives_the_same_package_and_progress_rises_to_its_end",
        "training/test_run.py::test_the_package_answers_as_it_was_measured",
    ),
    15: (
        "models/test_predictor.py::test_a_loose_fit_is_a_moved_camera",
        "vision/test_registration.py::test_what_is_not_the_view_is_refused_with_a_reason",
    ),
    16: (
        "training/test_run.py::test_colour_is_learned_over_all_places_and_held_out_by_light",
        "training/test_run.py::test_evaluating_on_new_pictures_gives_figures_with_intervals",
        "training/test_run.py::test_the_report_and_its_page_hold_the_evidence",
    ),
}


def seen(shown: dict[str, str], *, at_s: float = 10) -> LineState:
    return replay([picture_event(shown, at_s=at_s)], plant=PLANT)


def told(state: LineState, *events: Event) -> LineState:
    return replay(events, plant=PLANT, state=state)


def ordered(state: LineState, colour: str, *, order: str = "ord_1", at_s: float = 11) -> Event:
    return place(state, colour=colour, by="a", now=after(at_s), order_id=order, plant=PLANT)


def running(colour: str) -> LineState:
    state = seen(RAINBOW)
    return told(
        state,
        ordered(state, colour),
        order_event("ord_1", "sending", at=after(11), site="hall"),
        factory_event("ORDERED", colour, at_s=12),
    )


def test_defect_1_freshness_compares_the_pictures_own_time_with_now() -> None:
    for age_s, kind in (
        (0, Fresh),
        (60.0, Fresh),
        (60.1, NotFresh),
        (-5.0, Fresh),
        (-5.1, NotFresh),
    ):
        captured = START - timedelta(seconds=age_s)
        assert isinstance(freshness(captured, START, max_age_s=60, max_skew_s=5), kind)


def test_defect_2_the_first_result_creates_the_stock_document_with_its_partition() -> None:
    assert documents(initial(PLANT), plant=PLANT)["sagemaker_stock_inference"] == []
    (stock,) = documents(seen(RAINBOW), plant=PLANT)["sagemaker_stock_inference"]
    assert stock["_partition"] == "DTPartition"
    assert stock["is_present"] == {"blue": True, "red": True, "white": True}


def test_defect_3_each_picture_of_a_burst_gives_a_result_that_names_it() -> None:
    burst = [picture_event(RAINBOW, at_s=10 + number / 100) for number in range(5)]
    state = initial(PLANT)
    for event in burst:
        state = told(state, event)
        assert state.slots["A1"].evidence.frame == event.data["frame"]["id"]
    assert len({event.id for event in burst}) == 5


def test_defect_4_a_result_carries_picture_probabilities_package_and_the_pictures_time() -> None:
    event = picture_event(RAINBOW, at_s=10)
    stock = stock_document(replay([event], plant=PLANT), plant=PLANT)
    assert stock is not None
    assert stock["ts"] == after(10)
    assert stock["probability"] == {"blue": 0.97, "red": 0.97, "white": 0.97}
    assert stock["evidence"]["red"] == {
        "ts": after(10),
        "event": event.id,
        "frame": event.data["frame"]["id"],
        "package": PACKAGE,
    }


def test_defect_5_a_slow_answer_for_an_older_picture_overwrites_nothing() -> None:
    state = seen(EMPTY, at_s=10)
    applied = apply(state, picture_event(RAINBOW, at_s=9), plant=PLANT)
    assert applied.outcome is Outcome.LATE
    assert applied.state is state


@pytest.mark.parametrize(
    "ts", [..., None, "", "yesterday", 1684154467318, "2023-05-15T12:41:07.318"]
)
def test_defect_8_a_message_without_a_readable_time_is_refused(ts: object) -> None:
    fields: dict[str, object] = {"state": "ORDERED", "type": "RED", "stockItems": [], "br": "84.3"}
    document = fields if ts is ... else {**fields, "ts": ts}
    for kind in (OrderMessage, StockMessage, BrightnessMessage):
        with pytest.raises(InvalidError):
            read_message(kind, document, where="f/i/order")


def test_defect_11_each_collection_name_of_the_reference_is_written_once() -> None:
    source = [
        node.value
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
    ]
    for name in (
        "sagemaker_stock_inference",
        "digital_twin_orders",
        "factory_camera",
        "DTPartition",
    ):
        assert source.count(name) == 1, name
    assert not any("sagemaker-stock-inference" in text for text in source if isinstance(text, str))


def test_defect_12_no_key_or_password_stands_in_the_tree() -> None:
    secret = re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----")
    for folder in ("src", "examples", "docs"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".toml", ".md", ".js", ".html", ".json"}:
                assert not secret.search(path.read_text()), path


def test_defect_13_unsure_is_an_answer_of_its_own_and_blocks_an_order() -> None:
    state = seen({**EMPTY, "B2": "?red"})
    stock = stock_document(state, plant=PLANT)
    assert stock is not None
    assert (stock["is_present"]["red"], stock["state"]["red"]) == (False, "unsure")
    assert ordered(state, "red").data["code"] == "unsure"


def test_defect_15_a_moved_camera_is_an_answer_and_no_guess() -> None:
    state = told(seen(RAINBOW), picture_event({}, at_s=10.5, state=PictureState.CAMERA_MOVED))
    assert state.picture.state == "camera moved"
    assert ordered(state, "red").data["code"] == "picture"


def test_defect_17_places_are_told_pieces_counted_and_the_report_is_cross_checked() -> None:
    state = told(
        seen({**RAINBOW, "C1": "red"}), stock_event({"A2": "red", "C1": "blue"}, at_s=10.5)
    )
    assert state.colours["red"].present == 2
    (begun,) = due(state, now=after(14), plant=PLANT)
    assert begun.subject == "discrepancy"
    assert begun.data["sentence"] == "C1: the picture shows red, the factory reports blue"


def test_defect_18_unknown_stock_is_not_available() -> None:
    event = ordered(initial(PLANT), "blue")
    assert event.data["action"] == "refused"
    assert ordered(seen({"A1": "empty"}), "blue").data["action"] == "refused"


def test_defect_19_without_any_stock_an_order_is_answered_and_may_be_repeated() -> None:
    assert ordered(initial(PLANT), "blue").data["reason"]
    assert ordered(seen(RAINBOW), "blue").data["action"] == "placed"


def test_defect_20_the_newest_stock_decides_not_the_first() -> None:
    state = told(seen(RAINBOW, at_s=9), picture_event({**RAINBOW, "A1": "empty"}, at_s=10))
    assert ordered(state, "blue").data["action"] == "refused"
    assert len(documents(state, plant=PLANT)["sagemaker_stock_inference"]) == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_defect_21_one_ordered_is_one_run_however_often_it_is_said(colour: str) -> None:
    state = running(colour)
    again = [factory_event("ORDERED", colour, at_s=second) for second in (12, 12, 13, 14)]
    state = told(state, *again)
    assert [step.name for step in state.orders[0].steps].count("ORDERED") == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_defect_22_every_colour_runs_through_every_station(colour: str) -> None:
    state = running(colour)
    codes = ["hbw", "vgr", "mpo", "sld", "dso"]
    for second, code in enumerate(codes):
        state = told(state, station_event(code, active=True, at_s=20 + second))
    assert [step.name for step in state.orders[0].steps[3:]] == codes


@pytest.mark.parametrize("colour", COLOURS)
def test_defect_23_no_colour_starts_before_the_factory_says_so(colour: str) -> None:
    state = seen(RAINBOW)
    state = told(state, ordered(state, colour))
    assert state.orders[0].status == "Order Submitted"
    assert {station.active for station in state.stations.values()} == {None}


def test_defect_24_two_orders_cannot_have_one_piece() -> None:
    state = seen(RAINBOW)
    state = told(state, ordered(state, "red"))
    second = ordered(state, "red", order="ord_2")
    assert second.data["action"] == "refused"
    assert second.data["reason"] == (
        "The red piece you are requesting is out of stock in the Physical Factory!"
    )


def test_defect_24_the_status_is_driven_on_and_a_time_out_releases() -> None:
    state, shown = running("red"), []
    for second, factory in enumerate(("IN_PROCESS", "SHIPPED")):
        shown.append(documents(state, plant=PLANT)["digital_twin_orders"][0]["orderStatus"])
        state = told(state, factory_event(factory, "red", at_s=20 + second))
    shown.append(documents(state, plant=PLANT)["digital_twin_orders"][0]["orderStatus"])
    assert shown == ["ORDERED", "IN_PROCESS", "SHIPPED"]
    late = running("red")
    (event,) = due(late, now=after(12 + 300), plant=PLANT)
    assert event.data["action"] == "released"
    assert told(late, event).slots["A2"].reserved_by == ""


def test_defect_24_an_accepted_order_goes_to_the_factory_once() -> None:
    state = seen(RAINBOW)
    state = told(state, ordered(state, "red"))
    assert next_to_send(state, now=after(12), plant=PLANT) is state.orders[0]
    state = told(state, order_event("ord_1", "sending", at=after(12), site="hall"))
    assert next_to_send(state, now=after(13), plant=PLANT) is None


def test_defect_25_stations_move_by_their_messages_and_never_by_time() -> None:
    state = running("red")
    assert due(state, now=after(200), plant=PLANT) == ()
    assert {station.active for station in state.stations.values()} == {None}
    state = told(state, station_event("mpo", active=True, at_s=20))
    assert [station.id for station in state.stations.values() if station.active] == ["mpo"]


def test_defect_26_missing_sensor_values_are_no_data_and_old_ones_say_since_when() -> None:
    state = told(initial(PLANT), plant_event("sensor", at_s=0, t=21.5))
    panel = sensor_panel(state, now=after(120))
    assert panel[0].text == "Temperature [°C]: 21.5"
    assert panel[0].note == "no data since 2026-01-01T12:00:00.000Z"
    assert [line.text for line in panel[1:]] == [
        "Room Brightness [%]: no data",
        "Air Pressure [hPa]: no data",
        "Humidity [%]: no data",
        "Air Quality Index [0-500]: no data",
    ]


def test_defect_27_there_is_no_stop_that_does_nothing() -> None:
    page = ROOT / "src/lineside/hub/pages/templates/twin.html"
    assert not re.search(r"\bstop\b", page.read_text(), re.IGNORECASE)


def test_every_defect_has_its_tests() -> None:
    assert defects_in("test_reference_defects.py") | ELSEWHERE.keys() == set(range(1, 28))
    assert missing(name for names in ELSEWHERE.values() for name in names) == []
