"""From frame to prediction: what is said, what is refused, and why."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import (
    Digest,
    InvalidError,
    NotFoundError,
    RefusedError,
    SystemClock,
    digest_of,
    encode,
)
from lineside.models import Manifest, OnnxEngine, Package, Predictor, build_package, heat_png
from lineside.models.predictor import check_camera
from lineside.testing import FakeClock
from lineside.testing.engines import shades, spots
from lineside.testing.objects import untrained
from lineside.testing.pictures import moved, rack
from lineside.vision import (
    CountRule,
    Decision,
    Frame,
    PictureState,
    Prediction,
    decode_picture,
    encode_jpeg,
    encode_png,
    open_frame,
)
from lineside.vision.geometry import similarity
from lineside.vision.pose import Pose
from tests.hub.counting.squares import count_package
from tests.models import test_anomaly_head as anomaly
from tests.models.conftest import package_parts, scene
from tests.models.test_wrap import SHADES, SPOTS, pack

Parts = tuple[Manifest, dict[str, bytes]]
MOMENT = datetime(2026, 1, 1, 12, tzinfo=UTC)


def frame_of(image: NDArray[np.uint8], *, camera: str = "rack", after_s: float = 0.0) -> Frame:
    at = MOMENT + timedelta(seconds=after_s)
    return open_frame(encode_jpeg(image, quality=95), camera=camera, captured_at=at)


def repackaged(parts: Parts, **changes: Any) -> Package:  # noqa: ANN401  any field
    manifest, files = parts
    return Package.read(build_package(replace(manifest, **changes), files))


@pytest.fixture
def predictor(archive: bytes, clock: FakeClock) -> Predictor:
    return Predictor(Package.read(archive), clock=clock)


def test_a_prediction_names_frame_package_and_data(
    predictor: Predictor, lit_scene: NDArray[np.uint8]
) -> None:
    frame = frame_of(lit_scene)
    answer = predictor.predict(frame, device="edge-1", decode_ms=1.5)
    assert answer.frame == frame.ref
    assert answer.package == predictor.package.digest
    assert (answer.dataset, answer.inspection, answer.device) == ("rack/1", "stock", "edge-1")
    assert answer.latency_ms.decode == answer.latency_ms.total == 1.5
    assert answer.state is PictureState.OK
    assert answer.registration.state == "aligned"


def test_the_lit_region_is_told_from_the_dark_one(
    predictor: Predictor, lit_scene: NDArray[np.uint8]
) -> None:
    disc, ring = predictor.predict(frame_of(lit_scene)).labels
    assert (disc.name, ring.name) == ("disc", "ring")
    assert disc.probability > ring.probability


def test_the_answer_follows_the_camera(predictor: Predictor, lit_scene: NDArray[np.uint8]) -> None:
    still = predictor.predict(frame_of(lit_scene))
    slid = predictor.predict(frame_of(moved(lit_scene, similarity(dx_px=7.0, dy_px=-5.0))))
    assert slid.registration.dx_px == pytest.approx(7.0, abs=0.5)
    assert slid.registration.dy_px == pytest.approx(-5.0, abs=0.5)
    for before, after in zip(still.labels, slid.labels, strict=True):
        assert after.probability == pytest.approx(before.probability, abs=0.08)


def test_a_camera_that_stands_still_is_only_checked(
    predictor: Predictor, lit_scene: NDArray[np.uint8], dark_scene: NDArray[np.uint8]
) -> None:
    predictor.predict(frame_of(lit_scene))
    answer = predictor.predict(frame_of(dark_scene, after_s=1))
    assert answer.registration.state == "still"


def test_each_camera_has_its_own_place(predictor: Predictor, lit_scene: NDArray[np.uint8]) -> None:
    slid = moved(lit_scene, similarity(dx_px=9.0))
    for camera, picture in (("a", lit_scene), ("b", slid), ("a", lit_scene)):
        predictor.predict(frame_of(picture, camera=camera))
    here = predictor.predict(frame_of(lit_scene, camera="a", after_s=1))
    there = predictor.predict(frame_of(slid, camera="b", after_s=1))
    assert here.registration.state == there.registration.state == "still"
    assert here.registration.dx_px == pytest.approx(0.0, abs=0.5)
    assert there.registration.dx_px == pytest.approx(9.0, abs=0.5)


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda image: image // 20, PictureState.BLACK),
        (lambda image: np.clip(image * 4.0, 0, 255).astype(np.uint8), PictureState.OVEREXPOSED),
        (lambda image: np.full_like(image, 120), PictureState.BLURRED),
        (lambda image: image[:, ::-1], PictureState.CAMERA_MOVED),
        (lambda _: rack(width=160, height=120, seed=99), PictureState.CAMERA_MOVED),
    ],
)
def test_a_picture_that_cannot_be_judged_says_why_and_nothing_else(
    *, predictor: Predictor, lit_scene: NDArray[np.uint8], change: object, state: PictureState
) -> None:
    assert callable(change)
    answer = predictor.predict(frame_of(change(lit_scene)))
    assert answer.state is state
    assert answer.reason
    assert answer.labels == ()


def test_the_same_bytes_again_and_again_are_a_frozen_camera(
    predictor: Predictor, lit_scene: NDArray[np.uint8]
) -> None:
    states = [predictor.predict(frame_of(lit_scene, after_s=n)).state for n in range(6)]
    assert states == [PictureState.OK] * 4 + [PictureState.FROZEN] * 2
    fresh = lit_scene.copy()
    fresh[0, 0] += 3
    assert predictor.predict(frame_of(fresh, after_s=9)).state is PictureState.OK


def test_one_frame_delivered_many_times_is_not_frozen(
    predictor: Predictor, lit_scene: NDArray[np.uint8]
) -> None:
    states = {predictor.predict(frame_of(lit_scene)).state for _ in range(9)}
    assert states == {PictureState.OK}


def test_features_far_from_the_training_pictures_are_unfamiliar(
    parts: Parts, lit_scene: NDArray[np.uint8]
) -> None:
    strict = replace(parts[0].health, feature_distance_max=0.2)
    answer = Predictor(repackaged(parts, health=strict), clock=SystemClock()).predict(
        frame_of(lit_scene)
    )
    assert answer.state is PictureState.UNFAMILIAR
    assert answer.labels == ()
    assert answer.health.feature_distance > 0.2


def test_a_loose_fit_is_a_moved_camera(parts: Parts, lit_scene: NDArray[np.uint8]) -> None:
    strict = replace(parts[0].health, residual_max_px=0.0)
    predictor = Predictor(repackaged(parts, health=strict), clock=SystemClock())
    answer = predictor.predict(frame_of(moved(lit_scene, similarity(dx_px=3.3, rotation_deg=1))))
    assert answer.state is PictureState.CAMERA_MOVED
    assert "residual" in answer.reason


def test_the_times_of_all_stages_are_told(archive: bytes, lit_scene: NDArray[np.uint8]) -> None:
    predictor = Predictor(Package.read(archive), clock=SystemClock())
    times = predictor.predict(frame_of(lit_scene)).latency_ms
    assert min(times.register, times.prepare, times.infer, times.decide) > 0
    parts_ms = times.register + times.prepare + times.infer + times.decide
    assert parts_ms <= times.total + 1e-6


def test_an_explanation_lies_on_the_picture_where_the_label_was_seen(
    predictor: Predictor, lit_scene: NDArray[np.uint8]
) -> None:
    maps = predictor.explain(frame_of(lit_scene))
    assert set(maps) == {"disc", "ring"}
    heat = maps["disc"]
    assert heat.shape == (120, 160)
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    assert heat.max() <= 1
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    assert abs(column - 34) <= 6
    assert abs(row - 32) <= 6
    assert heat[:15].max() == heat[:, 70:].max() == 0


def test_an_explanation_moves_with_the_camera(
    predictor: Predictor, lit_scene: NDArray[np.uint8]
) -> None:
    before = predictor.explain(frame_of(lit_scene))["disc"]
    after = predictor.explain(frame_of(moved(lit_scene, similarity(dx_px=10, dy_px=6))))["disc"]
    for axis, slid in ((0, 6), (1, 10)):
        marks = [
            float((heat.sum(axis=1 - axis) * np.arange(heat.shape[axis])).sum() / heat.sum())
            for heat in (before, after)
        ]
        assert marks[1] - marks[0] == pytest.approx(slid, abs=1.0)


def test_a_picture_without_a_place_has_no_explanation(predictor: Predictor) -> None:
    assert predictor.explain(frame_of(rack(width=160, height=120, seed=99))) == {}


def test_a_heat_picture_is_a_png_of_the_picture(
    predictor: Predictor, lit_scene: NDArray[np.uint8]
) -> None:
    heat = predictor.explain(frame_of(lit_scene))["disc"]
    drawn = decode_picture(heat_png(lit_scene, heat))
    assert drawn.shape == lit_scene.shape
    assert np.array_equal(drawn[100:, 80:], lit_scene[100:, 80:])
    assert not np.array_equal(drawn, lit_scene)


def test_golden_pictures_are_answered_as_promised(predictor: Predictor) -> None:
    report = predictor.check_golden()
    assert report.pictures == 1
    assert report.max_abs_diff <= report.bound


def test_golden_pictures_without_a_transform_are_registered(parts: Parts, clock: FakeClock) -> None:
    golden = replace(parts[0].golden[0], matrix=())
    loose = replace(parts[0].engine, bound=0.2)
    report = Predictor(repackaged(parts, golden=(golden,), engine=loose), clock=clock)
    assert report.check_golden().max_abs_diff < 0.2


def test_a_network_that_answers_otherwise_is_refused(parts: Parts, clock: FakeClock) -> None:
    golden = parts[0].golden[0]
    other = tuple(tuple(value + 0.01 for value in row) for row in golden.logits)
    package = repackaged(parts, golden=(replace(golden, logits=other),))
    with pytest.raises(RefusedError, match=r"differ by 0\.01"):
        Predictor(package, clock=clock).check_golden()


def test_a_package_without_golden_pictures_proves_nothing(parts: Parts, clock: FakeClock) -> None:
    with pytest.raises(InvalidError, match="no golden pictures"):
        Predictor(repackaged(parts, golden=()), clock=clock).check_golden()


def test_without_a_view_nothing_is_registered(
    parts: Parts, clock: FakeClock, lit_scene: NDArray[np.uint8]
) -> None:
    settings = replace(parts[0].prepare, view=None)
    package = repackaged(parts, prepare=settings, reference_file="", reference_digest="")
    answer = Predictor(package, clock=clock).predict(frame_of(lit_scene))
    assert answer.registration.state == "none"
    assert answer.state is PictureState.OK


def test_one_fixed_cut_leaves_nothing_unsure(
    parts: Parts, clock: FakeClock, lit_scene: NDArray[np.uint8]
) -> None:
    policy = replace(parts[0].policy, present_above=0.2)
    predictor = Predictor(repackaged(parts, policy=policy), clock=clock)
    answers = predictor.predict(frame_of(lit_scene)).labels
    assert [answer.decision for answer in answers] == [Decision.PRESENT, Decision.ABSENT]


def test_two_predictors_of_one_package_say_the_same(
    archive: bytes, clock: FakeClock, lit_scene: NDArray[np.uint8]
) -> None:
    frame = frame_of(moved(lit_scene, similarity(dx_px=4.2, rotation_deg=0.7)))
    said = [Predictor(Package.read(archive), clock=clock).predict(frame) for _ in range(2)]
    assert said[0] == said[1]


def test_bytes_that_are_no_network_do_not_load() -> None:
    with pytest.raises(InvalidError, match="does not load"):
        OnnxEngine(b"no network", crops=(2, 3, 16, 16), where="upload")


def test_a_network_of_another_shape_is_refused(parts: Parts) -> None:
    with pytest.raises(InvalidError, match="the manifest prepares"):
        OnnxEngine(parts[1]["network.onnx"], crops=(2, 3, 32, 32), where="upload")


def test_a_package_of_another_size_of_input_is_refused(parts: Parts, clock: FakeClock) -> None:
    settings = replace(parts[0].prepare, width_px=24)
    with pytest.raises(InvalidError, match="the manifest prepares"):
        Predictor(repackaged(parts, prepare=settings), clock=clock)


def test_a_network_with_other_outputs_is_refused(
    parts: Parts, plain_network: bytes, clock: FakeClock
) -> None:
    manifest, files = parts
    engine = replace(manifest.engine, digest=digest_of(plain_network))
    data = build_package(replace(manifest, engine=engine), {**files, "network.onnx": plain_network})
    with pytest.raises(InvalidError, match="must take 'crops'"):
        Predictor(Package.read(data), clock=clock)


def test_a_network_that_points_outside_itself_is_refused(outside_network: bytes) -> None:
    with pytest.raises((InvalidError, NotFoundError)):
        OnnxEngine(outside_network, crops=(1, 3, 16, 16), where="upload")


def test_a_golden_picture_that_cannot_be_placed_is_refused(parts: Parts, clock: FakeClock) -> None:
    manifest, files = parts
    strange = encode_jpeg(rack(width=160, height=120, seed=99))
    golden = replace(manifest.golden[0], digest=digest_of(strange), matrix=())
    data = build_package(replace(manifest, golden=(golden,)), {**files, "golden/0.jpg": strange})
    with pytest.raises(RefusedError, match="is not placed"):
        Predictor(Package.read(data), clock=clock).check_golden()


def test_golden_pictures_without_a_view_are_cut_as_they_are(parts: Parts, clock: FakeClock) -> None:
    golden = replace(parts[0].golden[0], matrix=())
    settings = replace(parts[0].prepare, view=None)
    package = repackaged(
        parts, prepare=settings, golden=(golden,), reference_file="", reference_digest=""
    )
    assert Predictor(package, clock=clock).check_golden().max_abs_diff <= 1e-3


def test_golden_answers_of_another_width_are_refused(parts: Parts, clock: FakeClock) -> None:
    golden = parts[0].golden[0]
    wide = tuple((*row, 0.0) for row in golden.logits)
    package = repackaged(parts, golden=(replace(golden, logits=wide),))
    with pytest.raises(InvalidError, match="the manifest promises"):
        Predictor(package, clock=clock).check_golden()


def test_the_places_of_only_so_many_cameras_are_kept(
    predictor: Predictor, lit_scene: NDArray[np.uint8]
) -> None:
    for number in range(33):
        predictor.predict(frame_of(lit_scene, camera=f"cam-{number}"))
    again = predictor.predict(frame_of(lit_scene, camera="cam-0", after_s=1))
    assert again.registration.state == "aligned"
    newest = predictor.predict(frame_of(lit_scene, camera="cam-32", after_s=1))
    assert newest.registration.state == "still"


def test_input_of_another_shape_is_refused_by_the_engine(parts: Parts) -> None:
    engine = OnnxEngine(parts[1]["network.onnx"], crops=(2, 3, 16, 16), where="rack")
    with pytest.raises(InvalidError, match="the network failed"):
        engine.run(np.zeros((1, 3, 8, 8), np.float32), outputs=("logits",))


# ---- several threads


COUNTED = CountRule(most=50, reach=0.0, error_rate=0.1, calibration_pictures=40)
POSE = Pose(template_file="pose.png", zoom=1.0, area_low=1, area_high=99, correlation_min=0.0)
PACKAGES: dict[str, Callable[[], Package]] = {
    "multilabel": lambda: Package.read(build_package(*package_parts())),  # with a registration
    "classify": lambda: pack(shades(), SHADES),
    "detect": untrained,
    "count of objects": lambda: untrained(count=COUNTED),
    "count of numbers": lambda: Package.read(count_package()),
    "segment": lambda: pack(spots(), SPOTS),
    "anomaly": anomaly.package,
    "anomaly with a pose": lambda: anomaly.package(
        pose=POSE, pose_file=encode_png(scenes()[0][:64, :64])
    ),
}


def scenes() -> list[NDArray[np.uint8]]:
    """Four pictures of a rack that slides and turns, and one of another place."""
    steps = [
        similarity(dx_px=2.0 * number, dy_px=-1.5 * number, rotation_deg=0.4 * number)
        for number in range(4)
    ]
    return [*(moved(scene(), step) for step in steps), rack(width=160, height=120, seed=99)]


def digest_of_predictions(predictor: Predictor, frames: Sequence[Frame], *, threads: int) -> Digest:
    """Digest of the answers to single pictures, and of the cameras' answers in their order.

    Each camera sends its frames in order from one thread; every thread has a camera of its own.
    """

    def follow(camera: int) -> list[Prediction]:
        named = [replace(frame, camera=f"c{camera}") for frame in frames]
        return [predictor.predict(frame) for frame in named]

    with ThreadPoolExecutor(threads) as pool:
        single = list(pool.map(predictor.predict_single, [*frames] * 2))
        followed = list(pool.map(follow, range(4)))
    return digest_of(encode([single, followed]))


@pytest.mark.parametrize("task", PACKAGES)
def test_many_threads_answer_as_one(task: str, clock: FakeClock) -> None:
    package = PACKAGES[task]()
    frames = [frame_of(image, after_s=number) for number, image in enumerate(scenes())]
    digests = {
        digest_of_predictions(Predictor(package, clock=clock), frames, threads=threads)
        for threads in (1, 8)
    }
    assert len(digests) == 1


@pytest.mark.parametrize("camera", ["", "one for both"])
def test_two_threads_run_the_network_at_once(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, camera: str
) -> None:
    inside, run = threading.Barrier(2, timeout=10), OnnxEngine.run

    def meet(self: OnnxEngine, crops: Any, *, outputs: Sequence[str]) -> Any:  # noqa: ANN401
        inside.wait()
        return run(self, crops, outputs=outputs)

    monkeypatch.setattr(OnnxEngine, "run", meet)
    frames = [
        frame_of(image, camera=camera or f"c{number}", after_s=number)
        for number, image in enumerate(scenes()[:2])
    ]
    with ThreadPoolExecutor(2) as pool:
        states = [answer.state for answer in pool.map(predictor.predict, frames)]
    assert states == [PictureState.OK] * 2


def test_a_camera_shows_the_reference_view_where_a_device_would_inspect_one_of_its_images() -> None:
    manifest, files = package_parts()
    package = Package.read(build_package(manifest, files))
    good, other = encode_jpeg(scene(lit=False)), encode_jpeg(scene(seed=8))
    check_camera(package, [good[:-200], other, good], camera="gate")
    with pytest.raises(RefusedError, match="its newest image: scale"):
        check_camera(package, [other, good[:-200]], camera="gate")
    with pytest.raises(RefusedError, match=r"its newest image: .*(damaged|ends|cut)"):
        check_camera(package, [good[:-200]], camera="gate")
    with pytest.raises(RefusedError, match="no image of camera 'gate' is kept here"):
        check_camera(package, [], camera="gate")
    strict = replace(manifest, health=replace(manifest.health, residual_max_px=0.0))
    with pytest.raises(
        RefusedError, match=r"its newest image: residual 0[.]. px is above 0[.]0 px"
    ):
        check_camera(Package.read(build_package(strict, files)), [good], camera="gate")
