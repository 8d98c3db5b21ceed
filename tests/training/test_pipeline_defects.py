"""The known defects of the reference's pipelines, each with the tests that ours do not have it."""

from pathlib import Path

from lineside.training.pipeline import image_classification, semantic_segmentation
from tests.named import missing

TESTS = Path(__file__).parents[1]

# number: (what was wrong, tests that it is not)
DEFECTS: dict[int, tuple[str, tuple[str, ...]]] = {
    1: (
        "copies were made before the split, half of them unchanged",
        (
            "training/test_pipeline.py::test_copies_are_made_after_the_split_of_training_pictures_alone",
            "training/test_pipeline.py::test_a_copy_always_differs_and_none_means_none",
        ),
    ),
    2: (
        "asking for no copies doubled the data",
        ("training/test_pipeline.py::test_no_copies_are_asked_for_and_none_are_made",),
    ),
    3: (
        "turned and mirrored variants of one photograph stood in every part",
        ("training/test_pipeline.py::test_masks_are_paired_by_name_and_kept_pixel_by_pixel",),
    ),
    4: (
        "variants were squashed before the padding",
        ("training/test_pipeline.py::test_no_copies_are_asked_for_and_none_are_made",),
    ),
    5: (
        "the split was not stratified, masks were paired by position",
        (
            "training/test_pipeline.py::test_parts_are_disjoint_stable_and_spread_labels",
            "training/test_pipeline.py::test_masks_are_paired_by_name_and_kept_pixel_by_pixel",
        ),
    ),
    6: (
        "masks were interpolated",
        ("training/test_pipeline.py::test_masks_are_paired_by_name_and_kept_pixel_by_pixel",),
    ),
    7: (
        "a constant answer passed the gate",
        (
            "training/test_gate.py::test_always_normal_on_a_set_that_is_89_percent_normal_is_refused_and_told_why",
        ),
    ),
    8: (
        "segmentation had no gate and its test part was never used",
        ("training/test_pipeline.py::test_steps_follow_one_another_and_both_pipelines_are_gated",),
    ),
    9: (
        "a refused model left a successful run without a reason, and NaN in its report",
        (
            "training/test_pipeline.py::test_a_gate_that_refuses_registers_nothing_and_says_why",
            "training/test_gate.py::test_the_published_report_has_numbers_only",
        ),
    ),
    10: (
        "the number of pictures was typed by hand",
        ("training/test_pipeline.py::test_a_run_registers_what_passes_and_does_nothing_twice",),
    ),
    11: (
        "approval was skipped, and only the first page of versions was read",
        (
            "training/test_pipeline.py::test_a_run_registers_what_passes_and_does_nothing_twice",
            "models/test_versions.py::test_more_versions_than_a_page_holds_are_all_read",
        ),
    ),
    12: (
        "packages and tools were fetched while it ran",
        ("training/test_pipeline.py::test_a_gate_that_refuses_registers_nothing_and_says_why",),
    ),
    13: (
        "the device threw the padding away",
        ("training/test_pipeline.py::test_a_run_registers_what_passes_and_does_nothing_twice",),
    ),
    14: (
        "trained on one order of colours, served with another",
        ("training/test_pipeline.py::test_a_run_registers_what_passes_and_does_nothing_twice",),
    ),
    15: (
        "nothing in the package said how its input is made",
        ("training/test_pipeline.py::test_a_run_registers_what_passes_and_does_nothing_twice",),
    ),
}


def test_segmentation_writes_no_variants_to_be_split() -> None:
    made = semantic_segmentation.get_pipeline()
    assert "AugmentCountNormal" not in {parameter.name for parameter in made.parameters}
    assert "AugmentCountNormal" in {
        parameter.name for parameter in image_classification.get_pipeline().parameters
    }


def test_every_defect_has_a_test_that_is_there() -> None:
    assert DEFECTS.keys() == set(range(1, 16))
    assert missing(name for _, names in DEFECTS.values() for name in names) == []
