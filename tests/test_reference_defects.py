"""The known defects of the reference system, each with the tests that we do not repeat it.

``ELSEWHERE`` names the tests beside the code they are about; each name is checked to exist. What is
about the whole tree is tested here.
"""

import ast
import re
from pathlib import Path

from tests.named import defects_in, missing

ROOT = Path(__file__).parents[1]
DOCUMENTS = "twin/test_documents.py"
DUE = "twin/test_due.py"
ORDERS = "twin/test_orders.py"
PANEL = "twin/test_panel.py"
PICTURE = "twin/test_picture.py"
PLANT_EVENTS = "twin/test_plant_events.py"

ELSEWHERE: dict[int, tuple[str, ...]] = {
    1: (
        "streams/test_fresh.py::test_sixty_seconds_run_and_a_hair_more_does_not",
        "edge/test_agent.py::TestAFrame::test_of_sixty_seconds_is_judged_and_a_tenth_older_is_not",
    ),
    2: (
        f"{DOCUMENTS}::test_there_is_no_stock_document_before_the_first_picture",
        f"{DOCUMENTS}::test_the_first_picture_makes_the_one_stock_document",
        "hub/test_api_line.py::test_the_first_result_creates_the_stock_document",
    ),
    3: (
        f"{PICTURE}::test_two_pictures_of_a_burst_each_leave_their_own_evidence",
        "edge/test_agent.py::TestAFrame::test_in_a_burst_is_each_judged_for_itself",
        "hub/test_ingest.py::test_two_pictures_in_one_burst_are_two_frames_each_with_its_own_answer",
    ),
    4: (f"{DOCUMENTS}::test_the_first_picture_makes_the_one_stock_document",),
    5: (
        f"{PICTURE}::test_an_older_answer_that_comes_late_changes_nothing_and_is_called_late",
        "hub/test_ingest.py::test_an_older_answer_arriving_late_changes_nothing",
    ),
    6: (
        "edge/test_agent.py::TestAFrame::test_that_breaks_the_package_does_not_end_the_camera",
        "hub/test_api_line.py::test_ingest_answers_2xx_only_after_the_message_is_stored",
        "hub/test_devices.py::test_a_stored_prediction_is_acknowledged_and_moves_the_twin",
    ),
    7: (
        "hub/test_ingest.py::test_a_dead_letter_keeps_reason_time_topic_and_raw_bytes",
        "hub/test_topics.py::test_what_is_no_json_object_is_refused",
    ),
    8: (
        "core/test_factory_messages.py::test_a_message_without_a_readable_time_is_refused",
        "hub/test_topics.py::test_a_missing_or_unreadable_time_is_refused",
    ),
    9: ("hub/test_topics.py::test_an_unknown_and_a_missing_topic_are_told_apart",),
    10: (
        "hub/test_access.py::test_an_ingest_token_may_ingest_and_nothing_else",
        "hub/test_access.py::test_every_route_asks_who_it_is_unless_it_is_open",
        "hub/test_topics.py::test_a_payload_above_the_route_limit_is_refused",
        "hub/test_ingest.py::test_a_message_delivered_twice_is_kept_once",
    ),
    12: (
        "hub/test_access.py::test_nothing_secret_is_kept_readable",
        "hub/test_access.py::test_token_files_are_for_their_owner_only_and_survive_a_restart",
    ),
    13: (
        f"{DOCUMENTS}::test_the_first_picture_makes_the_one_stock_document",
        f"{ORDERS}::test_an_unsure_place_is_refused_with_its_own_sentence",
        "compat/aws/test_sagemaker_runtime.py::test_a_client_s_cut_is_the_package_s_cut",
        "compat/aws/test_sagemaker_runtime.py::test_classes_of_a_region_are_above_the_threshold_where_they_are_decided",
        "training/test_run.py::test_the_manifest_says_where_it_comes_from",
    ),
    14: (
        "training/test_run.py::test_a_validation_part_of_the_training_group_is_called_a_leak",
        "training/test_run.py::test_evaluating_on_training_pictures_is_refused",
        "training/test_run.py::test_the_same_job_gives_the_same_package_and_progress_rises_to_its_end",
        "training/test_run.py::test_the_package_answers_as_it_was_measured",
    ),
    15: (
        f"{PICTURE}::test_a_picture_that_cannot_be_judged_changes_no_slot_and_says_why",
        f"{ORDERS}::test_a_moved_camera_is_no_ground_for_an_order_even_where_stock_was_seen_before",
        "models/test_predictor.py::test_a_loose_fit_is_a_moved_camera",
        "vision/test_registration.py::test_what_is_not_the_view_is_refused_with_a_reason",
    ),
    16: (
        "training/test_run.py::test_colour_is_learned_over_all_places_and_held_out_by_light",
        "training/test_run.py::test_evaluating_on_new_pictures_gives_figures_with_intervals",
        "training/test_run.py::test_the_report_and_its_page_hold_the_evidence",
    ),
    17: (
        f"{PICTURE}::test_pieces_are_counted_and_placed_not_only_present",
        f"{DUE}::test_a_difference_that_lasts_is_an_event_and_its_end_another",
    ),
    18: (
        f"{ORDERS}::test_before_the_first_picture_the_order_is_refused_with_its_own_sentence",
        f"{ORDERS}::test_a_place_never_seen_is_refused_as_unknown",
    ),
    19: (
        f"{ORDERS}::test_before_the_first_picture_the_order_is_refused_with_its_own_sentence",
        f"{ORDERS}::test_an_order_reserves_one_named_place",
    ),
    20: (
        f"{DOCUMENTS}::test_the_stock_document_keeps_its_id_and_the_time_of_the_picture",
        f"{ORDERS}::test_a_piece_on_its_way_is_not_available",
        f"{PICTURE}::test_an_older_answer_that_comes_late_changes_nothing_and_is_called_late",
    ),
    21: (f"{ORDERS}::test_ordered_delivered_twice_is_one_run",),
    22: (f"{PLANT_EVENTS}::test_stations_that_begin_to_work_become_steps_of_the_running_order",),
    23: (
        f"{ORDERS}::test_an_order_reserves_one_named_place",
        f"{PLANT_EVENTS}::test_a_station_shows_what_it_last_said",
    ),
    24: (
        f"{ORDERS}::test_two_simultaneous_orders_for_one_piece_are_one_accepted_and_one_refused",
        f"{DOCUMENTS}::test_the_order_status_is_driven_on",
        f"{DUE}::test_an_order_never_answered_is_released_after_the_time_out",
        f"{DUE}::test_orders_go_to_the_factory_one_at_a_time_oldest_first",
    ),
    25: (
        f"{PLANT_EVENTS}::test_a_station_shows_what_it_last_said",
        f"{DUE}::test_an_order_begun_but_never_shipped_is_released_after_the_time_out",
    ),
    26: (
        f"{PANEL}::test_before_the_first_message_no_value_is_shown",
        f"{PANEL}::test_a_value_that_stopped_coming_says_since_when",
    ),
}


def test_defect_11_each_collection_name_of_the_reference_is_written_once() -> None:
    names = ("sagemaker_stock_inference", "digital_twin_orders", "factory_camera", "DTPartition")
    wrong = "sagemaker-stock-inference"
    source = [
        node.value
        for text in map(Path.read_text, (ROOT / "src").rglob("*.py"))
        if any(name in text for name in (*names, wrong))  # parsing all of them takes seconds
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant)
    ]
    for name in names:
        assert source.count(name) == 1, name
    assert not any(wrong in text for text in source if isinstance(text, str))


def test_defect_12_no_key_or_password_stands_in_the_tree() -> None:
    secret = re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----")
    for folder in ("src", "examples", "docs"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".toml", ".md", ".js", ".html", ".json"}:
                assert not secret.search(path.read_text()), path


def test_defect_27_there_is_no_stop_that_does_nothing() -> None:
    page = ROOT / "src/lineside/hub/pages/templates/twin.html"
    assert not re.search(r"\bstop\b", page.read_text(), re.IGNORECASE)


def test_every_defect_has_its_tests() -> None:
    assert defects_in("test_reference_defects.py") | ELSEWHERE.keys() == set(range(1, 28))
    assert missing(name for names in ELSEWHERE.values() for name in names) == []
