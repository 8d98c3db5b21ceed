"""The known defects of the reference bin counter and its benchmark, each with its tests.

``ELSEWHERE`` names the tests that stand beside the code they are about; each name is checked to
exist. What is not about one place of the code is tested here. Defects 21 to 23 are those of object
verification (is product X in this bin), which lineside does not offer.
"""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import SystemClock, Task, digest_of
from lineside.datasets import Sample
from lineside.simulator import write_bins
from tests.named import defects_in, missing

ROOT = Path(__file__).parents[1]
NOT_OFFERED = {21, 22, 23}
COUNT = "training/test_count.py"
PAGE = "hub/counting/test_count_page.py"
ENDPOINT = "hub/counting/test_count_endpoint.py"
FUNCTIONS = "hub/counting/test_functions.py"

ELSEWHERE: dict[int, tuple[str, ...]] = {
    1: (
        "datasets/test_abid.py::test_counts_come_with_blocks_of_numbers_as_groups",
        "datasets/test_choice.py::test_a_sample_is_the_same_in_any_order_and_grows_by_adding",
        "datasets/test_split.py::test_parts_are_disjoint_complete_and_never_cut_a_group",
        "simulator/test_bins.py::test_a_bin_s_pictures_follow_one_another_and_change_by_one_piece_at_most",
    ),
    2: (
        f"{PAGE}::test_a_correction_goes_into_a_dataset_and_the_last_one_stands",
        f"{PAGE}::test_a_record_agrees_is_possible_or_is_ruled_out",
        "simulator/test_bins.py::test_some_records_are_wrong_and_stay_so_until_the_bin_is_left",
    ),
    3: (f"{COUNT}::test_no_change_of_a_training_picture_takes_an_object_out_of_it",),
    8: (f"{COUNT}::test_a_number_next_to_the_right_one_costs_less_than_one_far_away",),
    9: (
        f"{COUNT}::test_a_number_that_too_few_pictures_show_is_told_as_more",
        f"{COUNT}::test_runs_of_numbers_hold_the_truth_as_often_as_they_promise",
        f"{ENDPOINT}::test_more_than_the_package_can_tell_is_the_last_number",
        f"{PAGE}::test_counts_in_words",
    ),
    11: (
        f"{ENDPOINT}::test_an_unmodified_client_gets_a_row_of_probabilities",
        f"{ENDPOINT}::test_logits_are_given_where_the_endpoint_asks_for_them_only",
    ),
    12: (
        f"{ENDPOINT}::test_a_grey_a_turned_and_a_png_picture_are_counted",
        "vision/test_picture.py::test_every_common_jpeg_becomes_rgb",
        "vision/test_picture.py::test_every_common_png_becomes_rgb",
    ),
    13: (
        f"{ENDPOINT}::test_what_is_no_picture_is_refused_with_its_status_and_a_sentence",
        f"{ENDPOINT}::test_a_picture_that_cannot_be_judged_has_no_numbers",
    ),
    14: (
        f"{FUNCTIONS}::test_nothing_but_what_is_configured_is_read",
        f"{FUNCTIONS}::test_every_field_is_needed",
        f"{FUNCTIONS}::test_a_reply_tells_nothing_of_the_machine_and_lets_no_foreign_page_read_it",
    ),
    15: (
        f"{PAGE}::test_an_unreadable_a_missing_and_a_foreign_picture_are_errors_with_sentences",
        f"{PAGE}::test_a_picture_that_cannot_be_judged_has_no_number_anywhere",
        "browser/test_count_page.py::test_an_unreadable_and_a_missing_picture_are_errors_in_words",
    ),
    16: (
        f"{PAGE}::test_two_people_never_see_each_other_s_pictures",
        f"{FUNCTIONS}::test_an_unmodified_client_gets_picture_and_prediction",
    ),
    17: (
        f"{PAGE}::test_the_page_is_for_those_who_are_signed_in",
        f"{FUNCTIONS}::test_a_list_says_what_is_on_offer",
        "browser/test_count_page.py::test_the_pages_are_accessible_and_fit",
    ),
    18: (
        f"{PAGE}::test_an_uploaded_picture_is_counted_and_has_no_record",
        f"{PAGE}::test_a_picture_on_offer_has_its_count_and_how_it_stands_to_the_record",
        f"{PAGE}::test_a_correction_goes_into_a_dataset_and_the_last_one_stands",
    ),
    20: (
        "datasets/test_abid.py::test_a_picture_without_a_record_is_named",
        f"{FUNCTIONS}::test_a_record_that_says_nothing_usable_is_no_quantity",
    ),
    24: (
        "datasets/test_abid.py::test_a_number_is_found_however_it_is_written",
        f"{FUNCTIONS}::test_numbers_name_files_of_five_digits",
        "simulator/test_bins.py::test_files_are_named_as_in_the_data_set",
    ),
}


class Grey:
    """Pictures of noise, without a source behind them."""

    def picture(self, sample: Sample) -> NDArray[np.uint8]:
        rng = np.random.default_rng(int(sample.digest[7:15], 16))
        return rng.integers(0, 255, (40, 50, 3)).astype(np.uint8)


def counted(number: int) -> Sample:
    return Sample(name=f"{number}.jpg", digest=digest_of(b"%d" % number), count=number % 3)


def test_defect_4_what_is_watched_in_training_is_never_changed_by_chance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = pytest.importorskip("torch")
    from lineside.training.common.backbone import lite0_backbone
    from lineside.training.common.loop import LoopPlan, Round
    from lineside.training.tasks.count import numbers

    samples = tuple(counted(number) for number in range(6))
    plan = LoopPlan(name="part", seed=1, steps=1, rate=1e-3, batch=2)
    each = Round(name="part", learn=samples[:4], judge=samples[4:])
    numbered = numbers.Numbered(Grey(), most=2)  # type: ignore[arg-type]  # all it needs
    student = numbers.NumberStudent(plan, each, numbered=numbered, backbone=lite0_backbone())
    student.network.eval()

    def changed(*_: object, **__: object) -> None:
        pytest.fail("a watched picture was changed")

    monkeypatch.setattr(numbers, "change", changed)
    with torch.inference_mode():
        assert student.watched() == student.watched()


def test_defect_5_pictures_are_prepared_as_the_trunk_was_and_nothing_moves_with_a_batch() -> None:
    torch = pytest.importorskip("torch")
    from lineside.training.common.backbone import lite0_backbone
    from lineside.training.tasks.count.numbers import NumberNetwork, number_prepare

    prepare = number_prepare()
    assert (prepare.mean, prepare.scale) == (127.0, 128.0)  # what the trunk was trained with
    network = NumberNetwork(backbone=lite0_backbone(), most=3)
    norms = [one for one in network.modules() if "BatchNorm" in type(one).__name__]
    assert norms == []
    assert all(isinstance(one, torch.Tensor) for one in network.parameters())


def test_defect_6_the_best_weights_are_kept_and_not_the_last(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from lineside.training.common.loop import EPOCH, Course, LoopPlan, Parallel, descend

    class Student:
        """One number that grows; what is watched is best after the first epoch."""

        def __init__(self) -> None:
            self.network = torch.nn.Linear(1, 1, bias=False)
            self.looks = iter([1.0, 5.0, 7.0])
            self.seen: list[float] = []

        def loss(self, step: int, *, parallel: Parallel) -> tuple[object, int]:  # noqa: ARG002  the contract's
            return -self.network.weight.sum(), 1

        def watched(self) -> float:
            self.seen.append(float(self.network.weight.detach()))
            return next(self.looks)

    student = Student()
    plan = LoopPlan(name="part", seed=1, steps=3 * EPOCH, rate=1e-3, batch=1, best=True)
    course = Course(
        folder=tmp_path, tell=lambda *_: None, epoch=lambda _: None, parallel=Parallel()
    )
    descend(student, plan, course=course)  # type: ignore[arg-type]  # a pupil of one number
    assert student.seen[0] < student.seen[1] < student.seen[2]
    assert float(student.network.weight.detach()) == pytest.approx(student.seen[0])


def test_defect_7_the_test_part_is_handed_to_no_learner(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from lineside.core import Inspection
    from lineside.training import TrainJob
    from lineside.training.source import open_data

    truth = write_bins(tmp_path, pictures=30, seed=4)
    head, *rows = truth.read_text().splitlines()
    parts = ["train"] * 20 + ["valid"] * 4 + ["test"] * 6
    table = [f"{row},{part}" for row, part in zip(rows, parts, strict=True)]
    (tmp_path / "split.csv").write_text("\n".join([f"{head},split", *table]))
    inspection = Inspection(id="bins", camera="", task=Task.COUNT)
    job = TrainJob(inspection=inspection, data=str(tmp_path / "split.csv"))
    with open_data(job, clock=SystemClock()) as data:
        learned = {sample.name for sample in data.training}
        judged = {sample.name for sample in data.validation}
    named = [row.partition(",")[0] for row in rows]
    assert learned == set(named[:24])
    assert judged == set(named[24:])


def test_defect_10_a_search_keeps_numbers_as_numbers() -> None:
    pytest.importorskip("torch")
    from lineside.core import decode, to_plain
    from lineside.training.search.study import TrialRecord

    trial = TrialRecord(
        number=0, state="done", params={"batch_size": 32}, value=1.3, seconds=2.0,
        history=({"epoch": 0.0, "loss": 1.4, "accuracy": 0.4, "rmse": 1.1},),
    )  # fmt: skip
    again = decode(TrialRecord, to_plain(trial), where="trial")
    assert repr(again.params["batch_size"]) in {"32", "32.0"}
    assert again.history[0]["rmse"] == 1.1


def test_defect_19_every_file_is_for_this_python() -> None:
    assert sys.version_info >= (3, 11)
    for path in (ROOT / "src").rglob("*.py"):
        ast.parse(path.read_text(), str(path))


def test_every_defect_has_its_tests() -> None:
    assert defects_in("test_bin_counter_defects.py") | ELSEWHERE.keys() | NOT_OFFERED == set(
        range(1, 25)
    )
    assert missing(name for names in ELSEWHERE.values() for name in names) == []
