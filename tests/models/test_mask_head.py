"""Packages of masks: what is bright is the defect, in pictures of any size."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from lineside.core import Box, InvalidError, Policy, digest_of
from lineside.models import Golden, Package, Predictor, build_package
from lineside.models.task_heads import HeadInput, task_head_for
from lineside.testing.bare import bare_manifest
from lineside.testing.clock import FakeClock
from lineside.vision import Crop, Decision, MaskRule, PictureState, Prepare, encode_png, open_frame
from lineside.vision.masks import mask_of

WHOLE = (Crop(region="", box_px=Box(x0_px=0, y0_px=0, x1_px=32, y1_px=32)),)
Image = NDArray[np.uint8]
RULE = MaskRule(
    label="spot",
    cut=0.5,
    least_px=4,
    present_above=0.8,
    absent_below=0.3,
    error_rate=0.1,
    calibration_pictures=20,
    top_share=0.01,
    stride_px=2,
)


def network(*, outputs: tuple[str, ...] = ("map", "distance")) -> bytes:
    """Map = 20 x brightness on cells of two pixels; distance = the largest brightness."""
    weight = np.full((1, 3, 1, 1), 20.0 / 3.0, np.float32)
    nodes = [
        helper.make_node("Conv", ["crops", "weight"], ["bright"]),
        helper.make_node("AveragePool", ["bright"], ["map"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("ReduceMax", ["crops", "axes"], ["distance"], keepdims=0),
    ]
    shapes: dict[str, list[str | int]] = {"map": [1, 1, "rows", "columns"], "distance": [1]}
    graph = helper.make_graph(
        nodes,
        "spots",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, [1, 3, "height", "width"])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shapes[n]) for n in outputs],
        [
            helper.make_tensor("weight", TensorProto.FLOAT, weight.shape, weight.ravel()),
            helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def picture(*, spot: bool, size: tuple[int, int] = (45, 61)) -> Image:
    """Dark grain; a bright square of 8 x 6 pixels at (20, 10)."""
    rng = np.random.default_rng(4)
    image = rng.integers(30, 70, (*size, 3)).astype(np.uint8)
    if spot:
        image[10:16, 20:28] = 220
    return image


def package(
    model: bytes, *, rule: MaskRule | None = RULE, policy: Policy | None = None, zoom: float = 1.0
) -> Package:
    encoded = encode_png(picture(spot=True))
    look = Prepare(crops=WHOLE, width_px=32, height_px=32, fit="zoom", zoom=zoom)
    bare_one = bare_manifest("segment", labels=("spot",), prepare=look, network=model)
    manifest = replace(bare_one, policy=policy or Policy(), mask=rule)
    files = {"network.onnx": model}
    if rule is None:  # refused already when the archive is read
        return Package.read(build_package(replace(manifest, mask=RULE), files))
    bare = Package.read(build_package(manifest, files))
    logits = task_head_for(bare, clock=FakeClock()).golden(HeadInput(image=picture(spot=True)))
    golden = Golden(
        file="golden/0.png",
        digest=digest_of(encoded),
        logits=tuple(tuple(float(value) for value in row) for row in logits),
    )
    files["golden/0.png"] = encoded
    return Package.read(build_package(replace(manifest, golden=(golden,)), files))


@pytest.fixture(scope="module")
def spots() -> Package:
    return package(network())


def test_the_mask_has_the_pictures_size_and_lies_on_the_spot(spots: Package) -> None:
    said = task_head_for(spots, clock=FakeClock()).answer(HeadInput(image=picture(spot=True)))
    assert said.mask is not None
    mask = mask_of(said.mask.rle, width_px=61, height_px=45)
    assert mask[11:15, 21:27].all()
    assert not mask[:8].any()
    assert not mask[18:].any()
    assert not mask[:, :18].any()
    assert not mask[:, 30:].any()
    assert said.mask.areas_px == (int(mask.sum()),)
    assert said.mask.share == pytest.approx(mask.mean())
    assert said.labels[0].decision is Decision.PRESENT
    assert said.labels[0].name == "spot"


@pytest.mark.parametrize("zoom", [0.5, 2.0])
def test_another_scale_finds_the_same_spot(zoom: float) -> None:
    found = package(network(), zoom=zoom)
    said = task_head_for(found, clock=FakeClock()).answer(HeadInput(image=picture(spot=True)))
    assert said.mask is not None
    assert said.mask.share * 45 * 61 == pytest.approx(48, abs=30)


def test_where_the_defect_is_absent_the_mask_is_empty(spots: Package) -> None:
    said = task_head_for(spots, clock=FakeClock()).answer(HeadInput(image=picture(spot=False)))
    assert said.mask is not None
    assert (said.mask.share, said.mask.areas_px) == (0.0, ())
    assert said.labels[0].decision is Decision.ABSENT


def test_a_policy_may_fix_the_cut_of_the_picture() -> None:
    found = package(network(), policy=Policy(present_above=0.999999))
    said = task_head_for(found, clock=FakeClock()).answer(HeadInput(image=picture(spot=True)))
    assert said.labels[0].decision is Decision.ABSENT


def test_the_map_is_a_probability_on_the_pictures_pixels(spots: Package) -> None:
    head = task_head_for(spots, clock=FakeClock())
    heat = head.heat(HeadInput(image=picture(spot=True)))
    assert heat is not None
    assert heat.shape == (45, 61)
    assert heat.dtype == np.float32
    assert 0 <= heat.min() < 0.1
    assert 0.9 < heat[12, 23] <= 1
    shown = head.explain(HeadInput(image=picture(spot=True)))
    assert np.array_equal(shown["spot"], heat)


def test_a_frame_is_answered_and_the_golden_picture_agrees(spots: Package) -> None:
    clock = FakeClock()
    predictor = Predictor(spots, clock=clock)
    assert predictor.check_golden().max_abs_diff <= 1e-4
    frame = open_frame(encode_png(picture(spot=True)), camera="c", captured_at=clock.now())
    said = predictor.predict(frame)
    assert said.state is PictureState.OK
    assert said.mask is not None
    assert said.task == "segment"
    assert said.health.feature_distance == pytest.approx((220 - 127) / 128, abs=1e-3)


def test_a_network_without_a_map_is_refused() -> None:
    model = network(outputs=("distance",))
    with pytest.raises(InvalidError, match="map"):
        package(model)


def test_a_manifest_without_its_rule_is_refused() -> None:
    made = package(network(), rule=None)
    bare = replace(made, manifest=replace(made.manifest, mask=None))
    with pytest.raises(InvalidError, match="rule"):
        task_head_for(bare, clock=FakeClock())
