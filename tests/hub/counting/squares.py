"""A site that counts bright squares: its plant file, its pictures, a package made by hand."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from lineside.core import Box, Policy, digest_of
from lineside.models import (
    Engine,
    Golden,
    HealthLimits,
    Lineage,
    Manifest,
    OnnxEngine,
    build_package,
)
from lineside.models.task_heads import probe
from lineside.vision import CountRule, Crop, Prepare, decode_picture, encode_jpeg, prepare

MOST = 5
SIDE = 64
PLANT = b"""
schema = "lineside.plant/1"
site = "store"
name = "Shelf bins"
[[line]]
id = "bins"
name = "Bins"
[[camera]]
id = "bin"
name = "Bin camera"
line = "bins"
source = "mqtt:bins/cam"
[[inspection]]
id = "contents"
camera = "bin"
task = "count"
endpoint = "bin-counter"
[[route]]
topic = "bins/cam"
kind = "frame"
camera = "bin"
"""


def bin_picture(count: int, *, seed: int = 1) -> NDArray[np.uint8]:
    """So many bright squares of 16 x 16 px on grey noise of 64 x 64."""
    rng = np.random.default_rng(seed)
    image = rng.integers(30, 50, (SIDE, SIDE, 3)).astype(np.uint8)
    for place in rng.permutation(16)[:count]:
        y, x = 16 * (int(place) // 4), 16 * (int(place) % 4)
        image[y : y + 16, x : x + 16] = 240
    return image


def bin_jpeg(count: int, *, seed: int = 1) -> bytes:
    return encode_jpeg(bin_picture(count, seed=seed), quality=95)


def network() -> bytes:
    """Logit of k = -8 (squares - k)^2, the squares being the mean brightness put to scale."""
    empty, one = (float(bin_picture(n).mean()) / 255 for n in (0, 1))
    scale = 1 / (one - empty)
    numbers = np.arange(MOST + 2, dtype=np.float32)[None]
    given = {"logits": [1, MOST + 2], "activation": [1, 1, SIDE, SIDE]}
    floats = TensorProto.FLOAT
    nodes = [
        helper.make_node("ReduceMean", ["crops", "all"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "empty"], ["above"]),
        helper.make_node("Mul", ["above", "scale"], ["squares"]),
        helper.make_node("Sub", ["squares", "numbers"], ["off"]),
        helper.make_node("Mul", ["off", "off"], ["far"]),
        helper.make_node("Mul", ["far", "steep"], ["logits"]),
        helper.make_node("ReduceMean", ["crops", "colours"], ["activation"], keepdims=1),
    ]
    graph = helper.make_graph(
        nodes,
        "squares",
        [helper.make_tensor_value_info("crops", floats, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, floats, shape) for name, shape in given.items()],
        [
            helper.make_tensor("all", TensorProto.INT64, [4], [0, 1, 2, 3]),
            helper.make_tensor("colours", TensorProto.INT64, [1], [1]),
            helper.make_tensor("empty", floats, [1, 1], [empty]),
            helper.make_tensor("scale", floats, [1, 1], [scale]),
            helper.make_tensor("steep", floats, [1, 1], [-8.0]),
            helper.make_tensor("numbers", floats, [1, MOST + 2], numbers.ravel()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def count_package() -> bytes:
    """The archive of a package that counts the squares, up to five of them."""
    settings = Prepare(
        crops=(Crop(region="", box_px=Box(x0_px=0, y0_px=0, x1_px=SIDE, y1_px=SIDE)),),
        width_px=SIDE,
        height_px=SIDE,
        mean=0.0,
        scale=255.0,
        fit="stretch",
    )
    model, golden = network(), bin_jpeg(3)
    engine = OnnxEngine(
        model, crops=(1, 3, SIDE, SIDE), where="made here", outputs=("logits", "activation")
    )
    crops = prepare(decode_picture(golden), settings)
    said = probe(*engine.run(crops, outputs=("logits", "activation")))
    manifest = Manifest(
        schema="lineside.manifest/2",
        name="squares",
        task="count",
        inspection="contents",
        labels=(),
        prepare=settings,
        rules=(),
        policy=Policy(),
        health=HealthLimits(
            sharpness_min=1.0, mean_grey_min=5.0, mean_grey_max=240.0, clipped_share_max=0.9,
            residual_max_px=3.0, feature_distance_max=5.0,
        ),
        engine=Engine(file="network.onnx", digest=digest_of(model)),
        golden=(
            Golden(
                file="golden/0.jpg",
                digest=digest_of(golden),
                logits=tuple(tuple(float(x) for x in row) for row in said),
            ),
        ),
        lineage=Lineage(
            dataset="squares/1", data_digest=digest_of(b"data"), pictures=16, seed=7,
            code_version="0.1.0", created_at="2026-01-01T12:00:00.000Z",
        ),
        count=CountRule(
            most=MOST, reach=0.0, error_rate=0.1, calibration_pictures=50, cut=0.9
        ),
    )  # fmt: skip
    return build_package(manifest, {"network.onnx": model, "golden/0.jpg": golden})


def write_store(folder: Path) -> Path:
    """Pictures 1 to 7 with 0, 1, 2, 3, 4, 5 and 9 objects, most of them with records.

    1-5 are recorded as they are, 6 as 2 (wrong), 7 not at all, 8 is no picture, 9 is black.
    """
    for name in ("bin-images", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, count in enumerate((0, 1, 2, 3, 4, 5, 9), start=1):
        (folder / "bin-images" / f"{number:05d}.jpg").write_bytes(bin_jpeg(count))
        if number < 7:
            record = {"BIN_FCSKU_DATA": {}, "EXPECTED_QUANTITY": 2 if number == 6 else count}
            (folder / "metadata" / f"{number:05d}.json").write_text(json.dumps(record))
    (folder / "bin-images" / "00008.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    black = encode_jpeg(np.zeros((SIDE, SIDE, 3), np.uint8))
    (folder / "bin-images" / "00009.jpg").write_bytes(black)
    return folder
