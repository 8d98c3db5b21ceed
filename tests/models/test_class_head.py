"""Packages of classes: the channel that is brightest names the picture, at any size."""

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
    ClassRule,
    Crop,
    Decision,
    PictureState,
    Prepare,
    encode_png,
    open_frame,
)

SIDE = 32
COLOURS = {"red": 0, "green": 1, "blue": 2}
Image = NDArray[np.uint8]
RULE = ClassRule(
    labels=tuple(COLOURS),
    temperature=1.0,
    floor=0.02,
    cuts=(0.3, 0.3, 0.3),
    error_rate=0.1,
    class_conditional=True,
    calibration_pictures=60,
)


def network(*, outputs: int = 3, side: int = SIDE) -> bytes:
    """Logits = 20 x a channel's mean; activation = the channels on 4 px cells; distance = 0."""
    weight = np.zeros((outputs, 3, 1, 1), np.float32)
    for place in range(outputs):
        weight[place, place % 3] = 20
    cells = side // 4
    nodes = [
        helper.make_node("Conv", ["crops", "weight"], ["bright"]),
        helper.make_node("ReduceMean", ["bright"], ["logits"], axes=[2, 3], keepdims=0),
        helper.make_node(
            "AveragePool", ["bright"], ["activation"], kernel_shape=[4, 4], strides=[4, 4]
        ),
        helper.make_node("ReduceMax", ["crops"], ["distance"], axes=[1, 2, 3], keepdims=0),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "colours",
        [value("crops", TensorProto.FLOAT, [1, 3, side, side])],
        [
            value("logits", TensorProto.FLOAT, [1, outputs]),
            value("activation", TensorProto.FLOAT, [1, outputs, cells, cells]),
            value("distance", TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor("weight", TensorProto.FLOAT, weight.shape, weight.ravel())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def picture(*colours: str, size: tuple[int, int] = (40, 56)) -> Image:
    """Grain; the left half is brighter in the channels named."""
    image = np.random.default_rng(1).integers(90, 130, (*size, 3)).astype(np.uint8)
    for colour in colours:
        image[:, : size[1] // 2, COLOURS[colour]] = 250
    return image


def package(model: bytes, *, rule: ClassRule | None = RULE, side: int = SIDE) -> Package:
    box = Box(x0_px=0, y0_px=0, x1_px=side, y1_px=side)
    look = Prepare(
        crops=(Crop(region="", box_px=box),), width_px=side, height_px=side, fit="stretch"
    )
    bare = bare_manifest("classify", labels=tuple(COLOURS), prepare=look, network=model)
    manifest = replace(bare, inspection="lamp", classes=rule)
    return Package.read(build_package(manifest, {"network.onnx": model}))


def decisions(clock: FakeClock, image: Image, *, rule: ClassRule = RULE) -> dict[str, Decision]:
    predictor = Predictor(package(network(), rule=rule), clock=clock)
    frame = open_frame(encode_png(image), camera="c", captured_at=clock.now())
    said = predictor.predict(frame)
    assert said.state is PictureState.OK
    return {answer.name: answer.decision for answer in said.labels}


def test_the_likeliest_class_is_present_in_pictures_of_any_size(clock: FakeClock) -> None:
    for size in ((40, 56), (90, 31), (32, 32)):
        said = decisions(clock, picture("green", size=size))
        assert said == {
            "red": Decision.ABSENT,
            "green": Decision.PRESENT,
            "blue": Decision.ABSENT,
        }


def test_two_classes_alike_are_unsure(clock: FakeClock) -> None:
    said = decisions(clock, picture("red", "blue"))
    assert said["red"] is said["blue"] is Decision.UNSURE
    assert said["green"] is Decision.ABSENT


def test_the_explanation_covers_the_picture_and_shows_the_side(clock: FakeClock) -> None:
    predictor = Predictor(package(network()), clock=clock)
    image = picture("green", size=(40, 57))
    frame = open_frame(encode_png(image), camera="c", captured_at=clock.now())
    maps = predictor.explain(frame)
    assert list(maps) == list(COLOURS)
    heat = maps["green"]
    assert heat.shape == (40, 57)
    assert heat[:, :20].mean() > 0.5 > heat[:, 40:].mean()
    assert predictor.heat(frame) is None


def test_golden_answers_are_all_logits(clock: FakeClock) -> None:
    head = task_head_for(package(network()), clock=clock)
    said = head.golden(HeadInput(image=picture("red")))
    assert said.shape == (1, 3)
    assert int(said.argmax()) == 0


def test_a_network_of_another_input_is_refused(clock: FakeClock) -> None:
    with pytest.raises(InvalidError, match="prepares"):
        Predictor(package(network(side=64)), clock=clock)


def test_a_network_with_another_number_of_classes_is_refused(clock: FakeClock) -> None:
    predictor = Predictor(package(network(outputs=4)), clock=clock)
    frame = open_frame(encode_png(picture("red")), camera="c", captured_at=clock.now())
    with pytest.raises(InvalidError, match="logits"):
        predictor.predict(frame)


def test_a_package_without_its_rule_is_refused(clock: FakeClock) -> None:
    whole = package(network())
    broken = replace(whole, manifest=replace(whole.manifest, classes=None))
    with pytest.raises(InvalidError, match="rule"):
        task_head_for(broken, clock=clock)


def test_bytes_that_are_no_network_are_refused(clock: FakeClock) -> None:
    model = network()
    for cut in (b"", model[:40], model[: len(model) // 2]):
        with pytest.raises(InvalidError):
            task_head_for(package(cut), clock=clock)
