"""The known defects of the reference's edge system, each with the tests that ours does not have it.

``ELSEWHERE`` names the tests that stand beside the code they are about; each name is checked to
exist. Defects 1 to 6 and 12 are of the pipelines alone (``training/test_pipeline_defects.py``).
What no other test proves is tested here and, for jobs, in ``edge/test_job_client.py``.
"""

import os
import threading
import tracemalloc
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import (
    Camera,
    Inspection,
    InvalidError,
    Task,
    decode,
    digest_of,
    to_plain,
)
from lineside.core.drivers import SecretUrl
from lineside.edge.delivery.publisher import log_topic
from lineside.fleet import UpdateClient, pin_root
from lineside.links import device_access, open_camera
from lineside.models import Manifest, OnnxEngine, Package, Predictor, build_package
from lineside.testing import FakeClock
from lineside.testing.bare import NETWORK_FILE, bare_manifest
from lineside.testing.trust import TrustSimulator, release_of
from lineside.vision import Prepare, encode_png, fitted, open_frame
from lineside.vision.prepare import crops_for
from tests.edge.conftest import PLANT
from tests.edge.test_package_source import Device
from tests.models.conftest import network, rule
from tests.named import defects_in, missing

TESTS = Path(__file__).parent
OF_PIPELINES = {1, 2, 3, 4, 5, 6, 12}
SUPPLY = "edge/test_package_source.py"
TALK = "fleet/test_agent_steps.py"
WORK = "edge/test_job_client.py"
AGENT = "edge/test_grpc_agent.py"
PAGE = "edge/page/test_page_http.py"
GUARD = "edge/page/test_page_guard.py"
RUN_PIPELINE = "training/test_pipeline.py::test_a_run_registers_what_passes_and_does_nothing_twice"
GATED = "training/test_pipeline.py::test_a_gate_that_refuses_registers_nothing_and_says_why"

Image = NDArray[np.uint8]

ELSEWHERE: dict[int, tuple[str, ...]] = {
    7: (
        "training/test_gate.py::test_always_normal_on_a_set_that_is_89_percent_normal_is_refused_and_told_why",
    ),
    8: ("training/test_pipeline.py::test_steps_follow_one_another_and_both_pipelines_are_gated",),
    9: (GATED, "training/test_gate.py::test_the_published_report_has_numbers_only"),
    10: (RUN_PIPELINE,),
    11: (
        RUN_PIPELINE,
        "models/test_versions.py::test_more_versions_than_a_page_holds_are_all_read",
        "models/test_versions.py::test_nobody_approves_what_is_their_own",
    ),
    15: (
        "training/test_run.py::test_the_package_answers_as_it_was_measured",
        f"{AGENT}::test_a_loaded_model_says_what_it_takes_and_gives",
    ),
    16: (
        f"{SUPPLY}::test_that_was_tampered_with_on_the_way_fails",
        f"{SUPPLY}::test_for_what_nobody_signed_is_refused",
        "edge/test_hostile.py::test_what_is_refused_changes_nothing",
        "edge/test_hostile.py::test_an_archive_that_would_harm_is_refused_though_it_is_signed",
        "models/test_archive.py::test_links_folders_and_pipes_are_refused",
    ),
    17: (
        f"{SUPPLY}::test_whose_package_answers_differently_fails_and_the_one_before_goes_on",
        f"{SUPPLY}::test_brings_a_package_into_use_and_tells_of_the_bytes",
        f"{TALK}::test_a_job_that_timed_out_meanwhile_is_left",
        f"{TALK}::test_whatever_is_lost_doubled_or_restarted_every_job_ends_as_the_device_said",
    ),
    18: (
        f"{TALK}::test_a_job_in_progress_is_taken_up_after_a_restart",
        "journeys/test_device_jobs.py::test_kill_9_in_a_download_and_in_a_switch_only_costs_time",
    ),
    19: (
        f"{TALK}::test_every_answer_is_subscribed_to_by_its_own_pattern",
        f"{TALK}::test_a_service_that_is_in_trouble_is_asked_again",
        f"{TALK}::test_an_operator_who_wrote_in_between_is_no_obstacle",
        "hub/test_job_clients.py::test_a_client_with_wrong_subscriptions_gets_its_job",
    ),
    20: (
        f"{TALK}::test_jobs_are_taken_one_after_the_other",
        f"{TALK}::test_what_is_lost_is_said_again",
        "journeys/test_device_jobs.py::test_jobs_run_one_after_the_other_and_say_what_came_of_them",
    ),
    21: (
        "fleet/test_versions.py::test_versions_stand_in_their_order",
        "fleet/test_versions.py::test_what_is_no_version_gets_a_sentence",
        f"{SUPPLY}::test_backwards_needs_the_word_and_the_signature",
    ),
    22: (f"{SUPPLY}::test_that_cannot_be_done_is_rejected_and_nothing_is_fetched",),
    23: (
        "fleet/trust/test_archive_attacks.py::test_a_tampered_archive_is_thrown_away",
        "edge/test_power_cuts.py::test_any_one_file_cut_or_changed_leaves_a_device_that_starts_and_says_so",
        "edge/test_loader.py::test_the_one_in_use_and_the_one_before_stay_on_the_disk",
        f"{SUPPLY}::test_broken_off_fetches_leave_few_parts",
    ),
    24: (
        f"{WORK}::test_a_download_that_hangs_keeps_the_device_from_nothing",
        f"{TALK}::test_progress_is_told_seldom_newest_only_and_renews_the_step_timer",
    ),
    25: (
        f"{WORK}::test_every_update_names_the_version_it_knows_and_asks_by_a_token_of_its_own",
        f"{WORK}::test_a_download_that_hangs_keeps_the_device_from_nothing",
    ),
    26: (
        f"{PAGE}::test_an_inspection_has_nothing_to_say_before_its_first_answer",
        "edge/page/test_page_run.py::test_a_camera_is_shown_though_no_package_answers",
        "edge/test_agent.py::test_that_breaks_the_package_does_not_end_the_camera",
    ),
    27: (f"{AGENT}::test_unloading_waits_for_the_call_under_way",),
    28: (
        f"{AGENT}::test_loads_what_was_loaded_in_order_without_a_clean_stop",
        f"{SUPPLY}::test_outlasts_the_wish_it_came_before_and_no_later_one",
        "edge/test_run.py::test_kill_9_of_device_and_broker_loses_and_doubles_nothing",
    ),
    30: (
        f"{PAGE}::test_who_looks_makes_nobody_decide",
        f"{PAGE}::test_the_page_names_its_device_and_plant_and_loads_its_own_files_only",
    ),
    31: (
        f"{AGENT}::test_a_capture_is_under_way_then_kept",
        f"{AGENT}::test_a_moment_ahead_is_out_of_range_and_now_is_not",
        "edge/test_capture.py::test_the_buffer_refuses_what_it_cannot_hold_and_keeps_what_it_took",
        "edge/test_capture.py::test_while_the_place_is_away_captures_stay_under_way_under_one_name",
    ),
    32: (
        "edge/test_run_services.py::test_frames_are_captured_watched_and_imported_as_samples",
        "edge/test_log_publisher.py::test_what_was_not_taken_is_sent_again_whole",
    ),
    33: (
        "fleet/trust/test_authority.py::test_a_device_gets_a_certificate_in_its_name_for_asking_only",
        "hub/test_enrolment.py::test_no_event_or_document_holds_a_secret",
        "edge/test_access.py::test_a_hub_of_another_authority_is_not_believed",
        "links/test_topic_access.py::test_a_device_says_what_is_its_own_and_its_lines",
        "links/test_device_door.py::test_what_is_another_devices_is_neither_said_nor_heard",
    ),
    34: (
        "edge/page/test_page_config.py::test_a_page_that_others_reach_needs_a_sign_in",
        f"{GUARD}::test_nobody_sees_anything_without_a_sign_in",
        "edge/page/test_page_config.py::test_an_address_is_a_host_and_a_port_and_a_port_alone_is_this_machine_s",
    ),
}  # fmt: skip


# ---- 8: the best weights


@pytest.mark.slow
def test_defect_8_segmentation_keeps_the_best_weights_and_not_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    from lineside.training.common import loop
    from lineside.training.common.backbone import lite0_full
    from lineside.training.tasks.segment.fit import MaskStudent
    from lineside.training.tasks.segment.training_set import (
        TrainingSet,
        prepare_for,
        prepared_picture,
    )
    from tests.training.test_segment_parts import facts, marked

    image, mask = marked((64, 96))
    shown = prepared_picture(image, mask=mask, settings=prepare_for(1.0))
    known = TrainingSet(
        facts={each.sample.digest: each for each in (facts(n, defective=True) for n in "ab")},
        show=lambda _: shown, settings=prepare_for(1.0), side_px=32, bf16=False,
    )  # fmt: skip
    losses, seen = iter([1.0, 5.0, 7.0]), list[Any]()

    def watched(student: MaskStudent) -> float:
        seen.append({name: one.clone() for name, one in student.network.state_dict().items()})
        return next(losses)

    monkeypatch.setattr(MaskStudent, "watched", watched)
    monkeypatch.setattr(loop, "EPOCH", 1)
    samples = tuple(each.sample for each in known.facts.values())
    plan = loop.LoopPlan(name="part", seed=1, steps=3, rate=2e-3, batch=2, best=True)
    each = loop.Round(name="part", learn=samples, judge=samples)
    student = MaskStudent(plan, each, known=known, backbone=lite0_full())
    loop.descend(student, plan, course=loop.Course(
        folder=tmp_path, tell=lambda *_: None, epoch=lambda _: None, parallel=loop.Parallel(),
    ))  # fmt: skip
    moved = [name for name, one in seen[0].items() if not torch.equal(one, seen[2][name])]
    assert moved
    assert all(torch.equal(student.network.state_dict()[name], seen[0][name]) for name in moved)


# ---- 13 to 15: from a picture to the network's input


def _device_of(prepare: Prepare, *, clock: FakeClock) -> Predictor:
    side = prepare.width_px
    made = network(rows=1, outputs=1, side=side)
    whole = crops_for((), width_px=side, height_px=side, margin=0.0)
    prepare = replace(prepare, crops=whole)
    manifest = replace(
        bare_manifest("multilabel", labels=("disc",), prepare=prepare, network=made),
        rules=(rule("disc", region="", output=0),),
    )
    return Predictor(Package.read(build_package(manifest, {NETWORK_FILE: made})), clock=clock)


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.float32]]:
    """What networks are given."""
    given: list[NDArray[np.float32]] = []
    run = OnnxEngine.run

    def watched(engine: OnnxEngine, crops: NDArray[np.float32], **more: Any) -> Any:  # noqa: ANN401  the engine's
        given.append(crops)
        return run(engine, crops, **more)

    monkeypatch.setattr(OnnxEngine, "run", watched)
    return given


@pytest.mark.parametrize(
    ("width", "height", "side", "x", "y"),
    [(255, 86, 255, 0, 84), (86, 255, 255, 84, 0), (230, 630, 630, 200, 0), (32, 25, 32, 0, 3)],
)
def test_defect_13_the_device_feeds_the_padded_picture_as_published(
    width: int, height: int, side: int, x: int, y: int, clock: FakeClock,
    fed: list[NDArray[np.float32]],
) -> None:  # fmt: skip
    image = np.random.default_rng(3).integers(1, 255, (height, width, 3), dtype=np.uint8)
    prepare = Prepare(crops=(), width_px=side, height_px=side, fit="pad", border="black")
    frame = open_frame(encode_png(image), camera="c", captured_at=clock.now())
    _device_of(prepare, clock=clock).predict(frame)
    padded = np.zeros((side, side, 3), np.float32)
    padded[y : y + height, x : x + width] = image
    wanted = ((padded - prepare.mean) / prepare.scale).transpose(2, 0, 1)
    np.testing.assert_allclose(fed[0][0], wanted, atol=1e-6)


@pytest.mark.parametrize(("width", "height", "x", "y"), [(5, 4, 0, 0), (4, 5, 0, 0)])
def test_defect_13_an_odd_pixel_is_left_over_at_the_right_or_the_bottom(
    width: int, height: int, x: int, y: int
) -> None:
    square = Prepare(crops=(), width_px=5, height_px=5, fit="pad", border="black")
    (crop,) = fitted(square, width_px=width, height_px=height).crops
    box = crop.box_px
    assert (box.x0_px, box.y0_px, box.x1_px, box.y1_px) == (-x, -y, 5 - x, 5 - y)


def test_defect_14_red_is_red_where_it_is_learned_and_where_it_is_judged(
    tmp_path: Path, clock: FakeClock, fed: list[NDArray[np.float32]]
) -> None:
    pytest.importorskip("torch")
    from lineside.training import TrainJob
    from lineside.training.job import Steps
    from lineside.training.source import open_data
    from lineside.training.tasks.contract import Work

    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0], red[..., 1] = 250, 60
    for name in ("normal", "anomalous"):
        (tmp_path / name).mkdir()
        for number in range(4):
            red[number, 0, 2] = len(name)  # no two of them are the same bytes
            (tmp_path / name / f"{number}.png").write_bytes(encode_png(red))
    labels = ("normal", "anomalous")
    inspection = Inspection(id="parts", camera="", task=Task.CLASSIFY, labels=labels)
    job = TrainJob(inspection=inspection, data=str(tmp_path))
    with open_data(job, clock=clock) as data:
        steps = Steps(clock=clock, progress=lambda _: None, cancelled=threading.Event())
        work = Work(folder=tmp_path, steps=steps, training=data.training, files=data.files)
        learned = work.picture(data.training[0])
    assert learned[5, 5].tolist() == [250, 60, 0]
    prepare = Prepare(crops=(), width_px=32, height_px=32, fit="pad")
    frame = open_frame(encode_png(red), camera="c", captured_at=clock.now())
    _device_of(prepare, clock=clock).predict(frame)
    back = fed[0][0, :, 5, 5] * prepare.scale + prepare.mean
    np.testing.assert_allclose(back, [250, 60, 0], atol=1e-3)


@pytest.mark.parametrize("key", ["prepare", "labels", "rules", "health", "engine"])
def test_defect_15_a_manifest_that_does_not_say_how_its_input_is_made_is_none(key: str) -> None:
    plain = to_plain(bare_manifest("classify", labels=("normal", "anomalous")))
    prepare = plain["prepare"]
    assert {"width_px", "height_px", "mean", "scale", "colour", "fit", "border"} <= prepare.keys()
    assert decode(Manifest, plain, where="manifest").labels == ("normal", "anomalous")
    del plain[key]
    with pytest.raises(InvalidError, match=key):
        decode(Manifest, plain, where="manifest")


# ---- 23: a download


def test_defect_23_a_download_goes_to_the_disk_in_pieces(tmp_path: Path, clock: FakeClock) -> None:
    site = TrustSimulator(clock)
    data = np.random.default_rng(1).bytes(24_000_000)
    site.add(data, group="tiles", version="1")
    site.publish()
    site.chunk_bytes = 65_536
    pin_root(tmp_path / "trust", site.first_root)
    client = UpdateClient(tmp_path / "trust", source=site, clock=clock)
    client.refresh()
    target = client.target(release_of(data, version="1").target)
    tracemalloc.start()
    try:
        path = client.fetch(target, into=tmp_path / "in", progress=lambda *_: None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert digest_of(path.read_bytes()) == digest_of(data)
    assert peak < len(data) / 4


# ---- 27: who reads while somebody swaps


def test_defect_27_who_reads_the_models_while_one_is_swapped_sees_one_or_the_other(
    tmp_path: Path, clock: FakeClock
) -> None:
    site, versions = TrustSimulator(clock), [bytes([number]) * 500 for number in range(1, 13)]
    for data in versions:
        site.add(data, group="tiles", version=str(data[0]))
    site.publish()
    device = Device(folder=tmp_path, site=site, clock=clock)
    device.job(versions[0])
    seen: list[list[str]] = [[], [], []]
    torn: list[object] = []
    over = threading.Event()

    def look(into: list[str]) -> None:
        while not over.wait(0.0002):
            used, judge = device.loader.in_use(), device.loader.judge("stock")
            if len(used) != 1 or judge is None:
                torn.append(used)
            elif not into or into[-1] != used[0].digest:
                into.append(used[0].digest)

    readers = [threading.Thread(target=look, args=(into,), name="reader") for into in seen]
    for reader in readers:
        reader.start()
    for data in versions[1:]:
        device.job(data)
    over.set()
    for reader in readers:
        reader.join()
    device.loader.close()
    assert torn == []
    order = [release_of(data, version=str(data[0])).digest for data in versions]
    for into in seen:
        places = [order.index(digest) for digest in into]  # type: ignore[arg-type]  # digests are text
        assert all(one < other for one, other in pairwise(places)), "a version never comes back"


# ---- 29: pictures of a folder


def test_defect_29_pictures_of_a_folder_are_found_whatever_their_kind_and_taken_in_turn(
    tmp_path: Path, clock: FakeClock
) -> None:
    from PIL import Image as Pillow

    names = ["10.PNG", "2.jpeg", "a.jpg", "b.png"]
    for number, name in enumerate(reversed(names)):
        Pillow.new("RGB", (32, 24), (40 * number, 9, 9)).save(tmp_path / name)
        os.utime(tmp_path / name, (1_700_000_000, 1_700_000_000))
    (tmp_path / "notes.txt").write_text("no picture")
    record = Camera(id="c", line="l", source=SecretUrl(f"folder:{tmp_path}"))
    for _ in range(2):
        camera = open_camera(record, clock=clock)
        taken = [shot.encoded for shot in islice(camera.shots(), len(names))]
        camera.close()
        assert taken == [(tmp_path / name).read_bytes() for name in names]


# ---- 32: a device may say its log


def test_defect_32_a_device_may_say_its_log_and_no_other_device_s() -> None:
    from lineside.core import parse_plant

    may = device_access(parse_plant(PLANT.encode(), where="plant"), device="e", lines=("l",))
    assert may.may_publish(log_topic("e"))
    assert not may.may_publish(log_topic("f"))


# ---- the list itself


def test_every_defect_has_its_tests() -> None:
    assert defects_in("test_edge_defects.py") | ELSEWHERE.keys() | OF_PIPELINES == set(range(1, 35))
    assert missing(name for names in ELSEWHERE.values() for name in names) == []
