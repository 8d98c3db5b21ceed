"""Packages of anomalies: what is bright is far from good, in pictures of any size."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from lineside.core import Box, InvalidError
from lineside.models import Package, Predictor, build_package
from lineside.models.task_heads import HeadInput, task_head_for
from lineside.testing.bare import bare_manifest
from lineside.testing.clock import FakeClock
from lineside.vision import (
    AnomalyRule,
    Crop,
    Decision,
    PictureState,
    Prepare,
    encode_png,
    open_frame,
)
from lineside.vision.pose import Pose

Image = NDArray[np.uint8]
RULE = AnomalyRule(
    limit=1.5,
    unsure_above=1.2,
    unit=1.0,
    false_reject_rate=0.05,
    calibration_pictures=19,
    top_share=0.02,
)


def network(output: str = "map") -> bytes:
    """Map = 2 x brightness + 1.05, on cells of 8 pixels."""
    weight = np.full((1, 3, 1, 1), 2.0 / 3.0, np.float32)
    nodes = [
        helper.make_node("Conv", ["crops", "weight", "bias"], ["bright"]),
        helper.make_node("AveragePool", ["bright"], [output], kernel_shape=[8, 8], strides=[8, 8]),
    ]
    graph = helper.make_graph(
        nodes,
        "spots",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, [1, 3, "height", "width"])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, 1, "rows", "columns"])],
        [
            helper.make_tensor("weight", TensorProto.FLOAT, weight.shape, weight.ravel()),
            helper.make_tensor("bias", TensorProto.FLOAT, [1], [1.05]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def prepare(pose: Pose | None = None) -> Prepare:
    box = Box(x0_px=0, y0_px=0, x1_px=64, y1_px=64)
    return Prepare(
        crops=(Crop(region="", box_px=box),),
        width_px=64,
        height_px=64,
        mean=127.0,
        scale=128.0,
        fit="zoom" if pose is None else "view",
        pose=pose,
    )


def package(
    *,
    rule: AnomalyRule = RULE,
    pose: Pose | None = None,
    model: bytes = b"",
    pose_file: bytes = b"",
) -> Package:
    model = model or network()
    bare = bare_manifest("anomaly", prepare=prepare(pose), network=model)
    manifest = replace(bare, anomaly=rule)
    named = {"pose.png": pose_file} if pose_file else {}
    return Package.read(build_package(manifest, {"network.onnx": model, **named}))


def picture(*, spot: int = 0, size: tuple[int, int] = (90, 70)) -> Image:
    """Grain around 127; a square of 16 pixels at (24, 40), brighter by ``spot``."""
    image = np.random.default_rng(4).integers(117, 138, (*size, 3)).astype(np.uint8)
    image[40:56, 24:40] += np.uint8(spot)
    return image


def said(built: Package, image: Image) -> tuple[PictureState, Decision | None]:
    frame = open_frame(encode_png(image), camera="c", captured_at=FakeClock().now())
    answer = Predictor(built, clock=FakeClock()).predict(frame)
    return answer.state, answer.anomaly.decision if answer.anomaly else None


def test_a_bright_spot_is_anomalous_a_faint_one_unsure_and_none_good() -> None:
    built = package()
    assert said(built, picture()) == (PictureState.OK, Decision.ABSENT)
    assert said(built, picture(spot=18)) == (PictureState.OK, Decision.UNSURE)
    assert said(built, picture(spot=100)) == (PictureState.OK, Decision.PRESENT)


def test_a_package_that_is_not_usable_is_always_unsure() -> None:
    built = package(rule=replace(RULE, usable=False, reason="good pictures differ"))
    assert said(built, picture(spot=100)) == (PictureState.OK, Decision.UNSURE)
    assert said(built, picture()) == (PictureState.OK, Decision.UNSURE)


def test_heat_lies_on_the_spot_in_the_rules_unit() -> None:
    head = task_head_for(package(), clock=FakeClock())
    heat = head.heat(HeadInput(image=picture(spot=100)))
    assert heat is not None
    assert heat.shape == (90, 70)
    assert heat[48, 32] == pytest.approx(2.6, abs=0.2)
    assert heat[10, 10] == pytest.approx(1.05, abs=0.1)
    explained = head.explain(HeadInput(image=picture(spot=100)))
    assert explained["anomaly"].max() <= 1
    assert head.golden(HeadInput(image=picture())).shape == (1, 64)


def test_a_part_that_is_not_there_is_said_to_have_moved() -> None:
    pose = Pose(template_file="pose.png", zoom=1.0, area_low=5, area_high=60, correlation_min=0.3)
    template = encode_png(np.full((64, 64, 3), 128, np.uint8))
    built = package(pose=pose, pose_file=template)
    state, decision = said(built, picture())
    assert state is PictureState.CAMERA_MOVED
    assert decision is None
    head = task_head_for(built, clock=FakeClock())
    assert head.heat(HeadInput(image=picture())) is None
    assert head.explain(HeadInput(image=picture())) == {}
    with pytest.raises(InvalidError, match="not placed"):
        head.golden(HeadInput(image=picture()))


def test_a_template_of_another_size_is_refused() -> None:
    pose = Pose(template_file="pose.png", zoom=1.0, area_low=5, area_high=60, correlation_min=0.3)
    built = package(pose=pose, pose_file=encode_png(np.zeros((32, 64, 3), np.uint8)))
    with pytest.raises(InvalidError, match="template"):
        task_head_for(built, clock=FakeClock())


def test_a_network_with_another_output_is_refused() -> None:
    with pytest.raises(InvalidError, match="map"):
        task_head_for(package(model=network("other")), clock=FakeClock())
