"""Others' ONNX networks as packages: the same answers, and sentences for what does not fit."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from lineside.core import InvalidError
from lineside.models import Package, Predictor
from lineside.models.task_heads import HeadInput, task_head_for
from lineside.models.wrap import read_wrapping, wrapped
from lineside.testing import FakeClock
from lineside.testing.engines import file_of, shades, spots
from lineside.vision import Decision, encode_png

SHADES = """
name = "shades"
task = "classify"
labels = ["dark", "bright"]
[licence]
weights = "MIT"
[input]
width_px = 16
height_px = 16
"""
SPOTS = """
name = "spots"
task = "segment"
labels = ["spot"]
[licence]
weights = "MIT"
[input]
width_px = 32
height_px = 32
[output]
form = "probabilities"
[decide]
absent_below = 0.3
"""
Image = NDArray[np.uint8]


def pack(network: bytes, toml: str, *, pictures: list[bytes] | None = None) -> Package:
    wrapping = read_wrapping(toml.encode(), where="wrap.toml")
    made = wrapped(network, wrapping, pictures=pictures or [], clock=FakeClock())
    return Package.read(made)


def plain(value: int) -> Image:
    return np.full((20, 30, 3), value, np.uint8)


def test_a_classifier_decides_by_its_own_numbers_and_proves_itself() -> None:
    package = pack(shades(), SHADES)
    head = task_head_for(package, clock=FakeClock())
    for value, wanted in ((10, "dark"), (250, "bright")):
        said = head.answer(HeadInput(image=plain(value))).labels
        assert [each.label for each in said if each.decision is Decision.PRESENT] == [wanted]
    report = Predictor(package, clock=FakeClock()).check_golden()
    assert report.pictures == 3
    assert package.manifest.lineage.weights_licence == "MIT"
    assert any("not calibrated" in warning for warning in package.manifest.lineage.warnings)
    assert not head.explain(HeadInput(image=plain(10)))["dark"].any()


def test_golden_pictures_of_ones_own_stand_in_the_package() -> None:
    picture = encode_png(plain(77))
    package = pack(shades(), SHADES, pictures=[picture])
    assert package.file("golden/0.png") == picture


def test_the_same_inputs_give_the_same_package() -> None:
    assert pack(shades(), SHADES).digest == pack(shades(), SHADES).digest


def channels_last(*, bgr: bool) -> bytes:
    """Red minus blue on NHWC pixels, whose channels come in the order named."""
    weight = np.zeros((2, 3, 1, 1), np.float32)
    red, blue = (2, 0) if bgr else (0, 2)
    weight[0, red], weight[0, blue] = 1.0, -1.0
    nodes = [
        helper.make_node("Transpose", ["crops"], ["logits"], perm=[0, 3, 1, 2]),  # names of ours
        helper.make_node("Conv", ["logits", "w"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Softmax", ["flat"], ["chances"], axis=1),
    ]
    return file_of(
        nodes, shape=("crops", (1, 16, 16, 3)), given={"chances": (1, 2)}, constants={"w": weight}
    )


@pytest.mark.parametrize("bgr", [True, False])
def test_layout_colour_means_and_probabilities_become_nodes(bgr: bool) -> None:  # noqa: FBT001
    toml = SHADES.replace('"dark", "bright"', '"red", "other"') + (
        f'layout = "NHWC"\ncolour = "{"bgr" if bgr else "rgb"}"\nmean = [10, 20, 30]\n'
        'scale = [50, 60, 70]\n[output]\nform = "probabilities"\n'
    )
    package = pack(channels_last(bgr=bgr), toml)
    image = plain(0)
    image[:, :, 0] = 250
    said = task_head_for(package, clock=FakeClock()).answer(HeadInput(image=image)).labels
    channels = (np.array([250.0, 0, 0]) if not bgr else np.array([0, 0, 250.0])) - [10, 20, 30]
    values = channels / [50, 60, 70]
    logit = values[2] - values[0] if bgr else values[0] - values[2]
    assert said[0].probability == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-4)
    assert package.manifest.engine.max_abs_diff < 1e-4


@pytest.mark.parametrize("form", ["probabilities", "logits"])
def test_a_map_becomes_a_mask_on_the_picture(form: str) -> None:
    package = pack(spots(form=form), SPOTS.replace('"probabilities"', f'"{form}"'))
    image = np.full((64, 64, 3), 30, np.uint8)
    image[16:32, 16:32] = 255
    said = task_head_for(package, clock=FakeClock()).answer(HeadInput(image=image))
    assert said.mask is not None
    assert said.mask.share == pytest.approx(256 / 64**2, rel=0.3)
    assert said.labels[0].decision is Decision.PRESENT


def two_channels() -> bytes:
    nodes = [helper.make_node("Conv", ["pixels", "w"], ["heat"])]
    weight = np.stack([np.full((3, 1, 1), -5.0), np.full((3, 1, 1), 5.0)]).astype(np.float32)
    return file_of(
        nodes, shape=("pixels", (1, 3, 32, 32)), given={"heat": (1, 2, 32, 32)},
        constants={"w": weight},
    )  # fmt: skip


def test_of_two_channels_of_logits_the_difference_counts() -> None:
    toml = SPOTS.replace('form = "probabilities"', "channel = 1") + "\ncut = 0.99\n"
    package = pack(two_channels(), toml)
    said = task_head_for(package, clock=FakeClock()).answer(HeadInput(image=plain(255)))
    assert said.mask is not None
    assert said.mask.share == 1.0


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        (SHADES.replace('"dark", "bright"', '"a", "b", "c"'), "3 labels are named"),
        (SHADES.replace("height_px = 16", "height_px = 24"), r"the network takes"),
        (SHADES + 'layout = "NHWC"\n', "the network takes"),
        (SHADES + 'name = "image"\n', "the network takes pixels"),
        (SHADES + '[output]\nname = "odds"\n', "no output 'odds'"),
        (SHADES.replace('"classify"', '"segment"').replace('"dark", ', ""), "no map"),
        (SHADES.replace('"classify"', '"detect"'), "no output 'objectness'"),
        (SHADES.replace('weights = "MIT"', 'weights = ""'), "terms are unknown"),
        (SHADES.replace("[licence]\n", "").replace('weights = "MIT"', ""), "licence"),
        (SHADES + "scale = 2\n", "is not a list"),
        (SHADES + "scale = [0]\n", "above 0"),
        (SHADES + "mean = [1, 2]\n", "one a channel"),
        (SHADES + "zoom = 2\n", "zoom"),
        ("name = ", "not TOML"),
    ],
)
def test_what_does_not_fit_is_named(toml: str, sentence: str) -> None:
    with pytest.raises(InvalidError, match=sentence):
        pack(shades(), toml)


def test_networks_that_cannot_be_taken_are_named(outside_network: bytes) -> None:
    with pytest.raises(InvalidError, match="no ONNX network"):
        pack(b"PK\x03\x04 no network", SHADES)
    with pytest.raises(InvalidError, match="outside of the file"):
        pack(outside_network, SHADES)
    whole = file_of(
        [helper.make_node("Cast", ["pixels"], ["scores"], to=TensorProto.FLOAT)],
        shape=("pixels", (1, 3, 16, 16)),
        given={"scores": (1, 3, 16, 16)},
        constants={},
        kind=TensorProto.INT64,
    )
    with pytest.raises(InvalidError, match="int64"):
        pack(whole, SHADES)
    with pytest.raises(InvalidError, match="opset 12"):
        pack(_old(), SHADES)


def _old() -> bytes:
    weight: dict[str, NDArray[Any]] = {"w": np.ones((2, 3, 16, 16), np.float32)}
    nodes = [
        helper.make_node("Conv", ["pixels", "w"], ["v"]),
        helper.make_node("Flatten", ["v"], ["scores"]),
    ]
    return file_of(
        nodes, shape=("pixels", (1, 3, 16, 16)), given={"scores": (1, 2)}, constants=weight,
        opset=12,
    )  # fmt: skip
