"""A small network and a package around it, for every test of the room."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from lineside.core import Box, Policy, Region, View, digest_of
from lineside.models import (
    Engine,
    Golden,
    HealthLimits,
    Lineage,
    Manifest,
    Metric,
    OnnxEngine,
    build_package,
)
from lineside.vision import LabelRule, Prepare, decode_picture, encode_jpeg, prepare
from lineside.vision.prepare import crops_for

SIDE = 16
VIEW = View(width_px=160, height_px=120)


def scene(*, lit: bool = True, seed: int = 3) -> NDArray[np.uint8]:
    """A rack-like picture full of corners; ``lit`` puts a bright disc into the first region."""
    import cv2

    rng = np.random.default_rng(seed)
    image = np.full((120, 160, 3), 90, np.uint8)
    for _ in range(60):
        x, y = int(rng.integers(0, 150)), int(rng.integers(0, 110))
        w, h = int(rng.integers(4, 24)), int(rng.integers(4, 18))
        colour = tuple(int(c) for c in rng.integers(20, 200, 3))
        cv2.rectangle(image, (x, y), (x + w, y + h), colour, thickness=-1)
    cv2.rectangle(image, (20, 20), (47, 43), (60, 60, 60), thickness=-1)
    cv2.rectangle(image, (100, 60), (127, 83), (60, 60, 60), thickness=-1)
    if lit:
        cv2.ellipse(image, (34, 32), (10, 7), 0, 0, 360, (250, 250, 250), thickness=-1)
    return image


REGIONS = (
    Region(id="top", label="disc", box_px=Box(x0_px=22, y0_px=22, x1_px=46, y1_px=42)),
    Region(id="low", label="ring", box_px=Box(x0_px=102, y0_px=62, x1_px=126, y1_px=82)),
)


def network(*, rows: int = 2, outputs: int = 2, side: int = SIDE) -> bytes:
    """Logit = mean brightness of the crop; activation = brightness on a 4 x 4 grid."""
    weight = np.zeros((outputs, 3, 1, 1), np.float32)
    weight[:] = 4.0 / 3.0
    cell = side // 4
    nodes = [
        helper.make_node("Conv", ["crops", "weight"], ["bright"]),
        helper.make_node(
            "AveragePool",
            ["bright"],
            ["activation"],
            kernel_shape=[cell, cell],
            strides=[cell, cell],
        ),
        helper.make_node("ReduceMean", ["activation", "axes"], ["logits"], keepdims=0),
        helper.make_node("ReduceMax", ["crops", "all_axes"], ["distance"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, [rows, 3, side, side])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [rows, outputs]),
            helper.make_tensor_value_info("activation", TensorProto.FLOAT, [rows, outputs, 4, 4]),
            helper.make_tensor_value_info("distance", TensorProto.FLOAT, [rows]),
        ],
        [
            helper.make_tensor("weight", TensorProto.FLOAT, weight.shape, weight.ravel()),
            helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]),
            helper.make_tensor("all_axes", TensorProto.INT64, [3], [1, 2, 3]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def rule(name: str, *, region: str, output: int, **changes: Any) -> LabelRule:  # noqa: ANN401  any of its fields
    label = name.rpartition("/")[2]
    made = LabelRule(
        name=name,
        region=region,
        label=label,
        output=output,
        slope=2.0,
        offset=0.0,
        floor=0.05,
        low=0.4,
        high=0.6,
        error_rate=0.1,
        calibration_pictures=16,
    )
    return replace(made, **changes)


def package_parts() -> tuple[Manifest, dict[str, bytes]]:
    """A manifest and its files that fit together."""
    settings = Prepare(
        crops=crops_for(REGIONS, width_px=160, height_px=120, margin=0.2),
        width_px=SIDE,
        height_px=SIDE,
        view=VIEW,
    )
    reference, golden = encode_jpeg(scene(lit=False), quality=95), encode_jpeg(scene(), quality=95)
    model = network()
    crops = prepare(decode_picture(golden), settings)
    logits = OnnxEngine(model, crops=(2, 3, SIDE, SIDE), where="made here").run(
        crops, outputs=("logits",)
    )[0]
    manifest = Manifest(
        schema="lineside.manifest/1",
        name="bright",
        task="multilabel",
        inspection="stock",
        labels=("disc", "ring"),
        prepare=settings,
        rules=(rule("disc", region="top", output=0), rule("ring", region="low", output=1)),
        policy=Policy(),
        health=HealthLimits(
            sharpness_min=20.0,
            mean_grey_min=20.0,
            mean_grey_max=200.0,
            clipped_share_max=0.5,
            residual_max_px=3.0,
            feature_distance_max=1.5,
        ),
        engine=Engine(file="network.onnx", digest=digest_of(model)),
        golden=(
            Golden(
                file="golden/0.jpg",
                digest=digest_of(golden),
                logits=tuple(tuple(float(x) for x in row) for row in logits),
                matrix=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
            ),
        ),
        lineage=Lineage(
            dataset="rack/1",
            data_digest=digest_of(b"data"),
            pictures=16,
            seed=7,
            code_version="0.1.0",
            created_at="2026-01-01T12:00:00.000Z",
        ),
        metrics={"accuracy": Metric(value=1.0, low=0.86, high=1.0, n=24, baseline=0.5)},
        reference_file="reference.jpg",
        reference_digest=digest_of(reference),
    )
    return manifest, {"network.onnx": model, "golden/0.jpg": golden, "reference.jpg": reference}


@pytest.fixture(scope="session")
def parts() -> tuple[Manifest, dict[str, bytes]]:
    return package_parts()


@pytest.fixture(scope="session")
def archive(parts: tuple[Manifest, dict[str, bytes]]) -> bytes:
    return build_package(*parts)


@pytest.fixture
def lit_scene() -> NDArray[np.uint8]:
    return scene()


@pytest.fixture
def dark_scene() -> NDArray[np.uint8]:
    return scene(lit=False)


def _model(nodes: list[onnx.NodeProto], *, outputs: list[str], weights: list[TensorProto]) -> bytes:
    taken = helper.make_tensor_value_info("crops", TensorProto.FLOAT, [1, 3, 16, 16])
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "other", [taken], given, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


@pytest.fixture
def plain_network() -> bytes:
    """A network as others export it: one output, named otherwise."""
    node = helper.make_node("Flatten", ["crops"], ["scores"])
    return _model([node], outputs=["scores"], weights=[])


@pytest.fixture
def outside_network() -> bytes:
    """A network whose weights are said to stand in a file of this machine."""
    weight = TensorProto()
    weight.name = "weight"
    weight.data_type = TensorProto.FLOAT
    weight.dims.extend([1])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "/etc/hostname"), ("offset", "0"), ("length", "4")):
        weight.external_data.add(key=key, value=value)
    nodes = [
        helper.make_node("Mul", ["crops", "weight"], [name])
        for name in ("logits", "activation", "distance")
    ]
    return _model(nodes, outputs=["logits", "activation", "distance"], weights=[weight])
