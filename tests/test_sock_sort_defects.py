"""The known defects of the reference's sock sorting, each with the tests that we do not repeat it.

``ELSEWHERE`` names the tests that stand beside the code they are about; each name is checked to
exist. What is about its own files, or about several places at once, is tested here.
"""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from lineside.core import InvalidError, load_plant
from lineside.models.wrap import read_wrapping, wrapped
from lineside.testing import FakeClock
from lineside.testing.engines import file_of
from tests.named import defects_in, missing

ROOT = Path(__file__).parents[1]
PLANT = ROOT / "examples" / "socks" / "plant.toml"
SAYING = "edge/test_saying.py"
KSQL = "streams/test_rule_ksql.py"
SIGHTING = "streams/test_sighting.py"

ELSEWHERE: dict[int, tuple[str, ...]] = {
    1: (
        "datasets/test_listing.py::test_class_numbers_stay_when_a_folder_is_added",
        "datasets/test_packing.py::test_records_are_a_source_with_the_names_of_their_classes",
        "edge/test_suits.py::test_another_task_and_other_labels_are_refused",
    ),
    2: (
        "models/test_class_head.py::test_a_network_with_another_number_of_classes_is_refused",
        "models/test_predictor.py::test_a_network_with_other_outputs_is_refused",
    ),
    4: (
        "datasets/test_split.py::test_single_samples_are_spread_by_label_within_one_of_the_shares",
        "datasets/test_split.py::test_a_rare_label_reaches_every_part_where_a_plain_split_may_lose_it",
        "datasets/test_split.py::test_parts_are_disjoint_complete_and_never_cut_a_group",
    ),
    5: (
        "models/test_class_head.py::test_the_likeliest_class_is_present_in_pictures_of_any_size",
        "models/test_predictor.py::test_golden_pictures_are_answered_as_promised",
        "models/test_predictor.py::test_a_package_of_another_size_of_input_is_refused",
    ),
    6: ("datasets/test_packing.py::test_passing_through_leaves_bytes_untouched",),
    7: ("datasets/test_packing.py::test_several_labels_are_packed_or_their_loss_is_said",),
    8: (
        "models/test_predictor.py::test_a_network_that_answers_otherwise_is_refused",
        "edge/test_loader.py::test_other_bytes_than_wished_are_refused",
    ),
    9: (
        f"{SAYING}::TestOnTheBus::test_each_answer_is_one_message_and_nothing_else_goes_there",
        f"{SAYING}::TestOnTheBus::test_how_the_device_is_stands_on_its_own_topic_retained",
        "hub/test_ingest.py::test_a_greeting_among_the_answers_is_counted_and_the_answers_are_kept",
    ),
    10: (
        f"{SAYING}::test_the_extended_message_says_when_who_and_how_sure_beside_it",
        f"{SAYING}::TestOnTheBus::test_an_extended_message_names_device_time_and_package",
        "hub/test_ingest.py::test_a_message_with_its_own_time_keeps_it_and_is_one_however_often_it_comes",
    ),
    11: (
        f"{SAYING}::test_the_compatible_message_has_the_reference_s_very_bytes",
        f"{SAYING}::test_the_extended_message_says_when_who_and_how_sure_beside_it",
    ),
    12: (
        f"{SAYING}::test_an_unsure_answer_is_told_as_it_is_wished",
        "models/test_class_head.py::test_two_classes_alike_are_unsure",
        f"{SIGHTING}::test_a_label_less_sure_than_asked_for_is_unknown_and_stands_as_runner_up",
    ),
    13: (
        f"{SAYING}::test_of_a_picture_that_was_not_judged_nothing_or_the_unknown_is_said",
        "models/test_predictor.py::test_features_far_from_the_training_pictures_are_unfamiliar",
        f"{SIGHTING}::test_a_thing_that_none_of_the_labels_fits_is_unknown",
    ),
    14: (
        f"{SAYING}::TestOnTheBus::test_a_judge_that_fails_says_nothing_and_the_next_answer_is_said",
        f"{SAYING}::test_a_message_that_the_bus_does_not_take_is_counted_and_gone",
        "edge/test_agent.py::TestAFrame::test_that_breaks_the_package_does_not_end_the_camera",
        "links/test_mqtt_failures.py::test_a_broker_that_is_away_is_waited_for",
    ),
    15: (
        "edge/page/test_labelled.py::test_a_picture_is_made_once_and_at_most_ten_times_a_second",
        "edge/page/test_page_guard.py::test_who_does_not_read_is_let_go",
        "vision/test_caption.py::test_it_grows_and_shrinks_with_the_picture",
    ),
    16: (
        f"{KSQL}::test_defect_16_alignment_decides_windows_but_not_sessions",
        f"{SIGHTING}::test_one_sock_is_one_sighting_however_long_and_whenever",
    ),
    17: (f"{KSQL}::test_defect_17_blank_is_compared_exactly",),
    18: (f"{KSQL}::test_defect_18_times_are_whole_and_the_end_of_the_last_seen",),
    19: (f"{KSQL}::test_defect_19_counts_survive_a_restart_and_can_be_begun_anew",),
    20: (f"{KSQL}::test_defect_20_one_result_for_each_sock",),
    21: (f"{KSQL}::test_defect_21_four_socks_are_two_pairs",),
    22: (f"{KSQL}::test_defect_22_a_pair_is_an_event_that_others_can_act_on",),
    23: (
        f"{KSQL}::test_defect_23_the_frame_rate_decides_nothing_where_time_does",
        f"{SIGHTING}::test_the_frame_rate_does_not_matter",
    ),
    24: (f"{KSQL}::test_defect_24_what_cannot_be_read_is_counted_not_fatal",),
}


def network_of(outputs: int) -> bytes:
    """A classifier of 8 x 8 pictures with so many logits."""
    weight = np.ones((outputs, 3, 1, 1), np.float32)
    nodes = [
        helper.make_node("Conv", ["pixels", "weight"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["scores"]),
    ]
    return file_of(
        nodes, shape=("pixels", ["batch", 3, 8, 8]), given={"scores": ["batch", outputs]},
        constants={"weight": weight},
    )  # fmt: skip


@pytest.mark.data
def test_defect_2_eight_names_and_seven_outputs_are_refused(data_folder: Path) -> None:
    """The very names that stood beside the camera; a file without its last line end."""
    names = (data_folder / "sock-sort" / "sock_labels.txt").read_text().split("\n")
    assert len(names) == 8
    wrapping = read_wrapping(
        (
            f'name = "socks"\ntask = "classify"\nlabels = {names!r}\n'.replace("'", '"')
            + '[licence]\nweights = "MIT"\n[input]\nwidth_px = 8\nheight_px = 8\n'
        ).encode(),
        where="wrap.toml",
    )
    with pytest.raises(InvalidError, match="8 labels are named"):
        wrapped(network_of(7), wrapping, pictures=[], clock=FakeClock())
    assert wrapped(network_of(8), wrapping, pictures=[], clock=FakeClock())


def test_defect_3_names_are_spelled_once_for_camera_rules_and_messages() -> None:
    plant = load_plant(PLANT)
    inspection = plant.find_inspection("sock")
    rules = {rule.id: rule for rule in plant.rule}
    sighting = rules["sock-seen"].sighting
    assert sighting is not None
    assert {*sighting.labels, *sighting.blank} == set(inspection.labels)
    assert sighting.blank == ("Blank",)


def test_every_defect_has_its_tests() -> None:
    assert defects_in("test_sock_sort_defects.py") | ELSEWHERE.keys() == set(range(1, 25))
    assert missing(name for names in ELSEWHERE.values() for name in names) == []
