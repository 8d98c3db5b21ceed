"""One package behind the Open Inference Protocol: decisions, raw outputs, refusals."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.compat.open_inference.models import ServedModel, decided_tensors
from lineside.compat.open_inference.tensors import InferRequest, RequestedOutput, Tensor
from lineside.core import InvalidError
from lineside.models import Package, Predictor
from lineside.testing import FakeClock
from lineside.testing.objects import untrained
from lineside.testing.pictures import tray
from lineside.vision import (
    AnomalyAnswer,
    CountAnswer,
    Decision,
    PictureState,
    encode_jpeg,
    encode_png,
    open_frame,
)
from tests.models.conftest import scene
from tests.models.test_wrap import SHADES, SPOTS, pack
from tests.training.test_parity_scores import BLANK, REFUSED

from lineside.testing.engines import shades, spots  # isort: skip
from lineside.testing.bare import bare_manifest  # isort: skip
from dataclasses import replace  # isort: skip


def pictures(*encoded: bytes, name: str = "image") -> Tensor:
    values = np.empty(len(encoded), dtype=object)
    values[:] = list(encoded)
    return Tensor(name=name, datatype="BYTES", values=values)


def crops(values: NDArray[Any]) -> Tensor:
    return Tensor(name="crops", datatype="FP32", values=values.astype(np.float32))


def asked(model: ServedModel, *inputs: Tensor, outputs: tuple[str, ...] = ()) -> dict[str, Any]:
    wanted = tuple(RequestedOutput(name=name) for name in outputs)
    said = model.infer(InferRequest(inputs=inputs, outputs=wanted))
    return {each.name: each.values for each in said}


@pytest.fixture(scope="module")
def model() -> ServedModel:
    return served_by(pack(shades(), SHADES))


def served_by(package: Package) -> ServedModel:
    return ServedModel(Predictor(package, clock=FakeClock()), since=FakeClock().now())


def grey(value: int) -> bytes:
    return encode_png(np.full((20, 30, 3), value, np.uint8))


def test_pictures_become_decisions_in_their_order(model: ServedModel) -> None:
    said = asked(model, pictures(grey(10), grey(250)))
    assert said["state"].tolist() == [b"ok", b"ok"]
    assert said["labels"].tolist() == [[b"dark", b"bright"]] * 2
    assert said["decisions"].tolist() == [[b"present", b"absent"], [b"absent", b"present"]]
    assert said["probabilities"].shape == (2, 2)
    whole = json.loads(said["prediction"][1])
    assert whole["labels"][1]["decision"] == "present"


def test_the_networks_own_tensors_give_its_own_outputs(model: ServedModel) -> None:
    given = np.stack([np.full((3, 16, 16), 0.0), np.full((3, 16, 16), 255.0)])
    said = asked(model, crops(given), outputs=("logits",))
    assert list(said) == ["logits"]
    np.testing.assert_allclose(said["logits"], [[8, -8], [-8, 8]], atol=1e-3)


def test_pictures_give_every_output_of_the_metadata_where_none_is_named(model: ServedModel) -> None:
    said = asked(model, pictures(grey(10), grey(250)))
    listed = model.metadata("shades", versions=()).outputs
    assert set(said) == {each.name for each in listed}
    np.testing.assert_allclose(said["logits"], [[7.37, -7.37], [-7.69, 7.69]], atol=0.01)
    named = asked(model, pictures(grey(10)), outputs=("logits", "state"))
    assert {name: len(values) for name, values in named.items()} == {"logits": 1, "state": 1}


def test_metadata_name_both_kinds(model: ServedModel) -> None:
    meta = model.metadata("shades", versions=("2", "1"))
    assert [(each.name, each.datatype, each.shape) for each in meta.inputs] == [
        ("image", "BYTES", (-1,)),
        ("crops", "FP32", (-1, 3, 16, 16)),
    ]
    assert meta.versions == ("2", "1")


def test_a_network_of_fixed_batch_says_so() -> None:
    fixed = served_by(pack(shades(batch=1), SHADES))
    assert fixed.metadata("m", versions=()).inputs[1].shape == (1, 3, 16, 16)
    with pytest.raises(InvalidError, match=r"FP32 of \[2, 3, 16, 16\]"):
        asked(fixed, crops(np.zeros((2, 3, 16, 16))))


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ((Tensor(name="x", datatype="FP32", values=np.zeros(1)),), "inputs x"),
        ((pictures(grey(1)), crops(np.zeros((1, 3, 16, 16)))), "inputs crops, image"),
        ((pictures(grey(1)), pictures(grey(1))), "given twice"),
        ((pictures(),), "BYTES of"),
        ((pictures(*[b"x"] * 33),), "BYTES of"),
        ((Tensor(name="image", datatype="UINT8", values=np.zeros(3, np.uint8)),), "UINT8 of"),
        ((pictures(b"GIF89a"),), "picture"),
        ((crops(np.zeros((1, 3, 8, 8))),), "FP32 of"),
        ((crops(np.zeros((0, 3, 16, 16))),), "FP32 of"),
        ((crops(np.full((1, 3, 16, 16), np.nan)),), "finite"),
        ((Tensor(name="crops", datatype="FP64", values=np.zeros((1, 3, 16, 16))),), "FP64"),
        ((pictures(grey(1)), pictures(grey(1), grey(2), name="template")), "2 templates"),
    ],
)
def test_inputs_that_do_not_go_together_are_named(
    model: ServedModel, inputs: tuple[Tensor, ...], sentence: str
) -> None:
    with pytest.raises(InvalidError, match=sentence):
        asked(model, *inputs)


def test_an_output_that_is_not_there_is_named(model: ServedModel) -> None:
    with pytest.raises(InvalidError, match="no output 'boxes'"):
        asked(model, pictures(grey(1)), outputs=("boxes",))


def test_a_picture_without_its_place_has_no_outputs_of_the_network(archive: bytes) -> None:
    served, elsewhere = served_by(Package.read(archive)), pictures(grey(120))
    assert "logits" not in asked(served, elsewhere)
    with pytest.raises(InvalidError, match="not placed"):
        asked(served, elsewhere, outputs=("logits",))


def test_labels_of_regions_are_told(archive: bytes) -> None:
    served = served_by(Package.read(archive))
    encoded = encode_jpeg(scene())
    said = asked(served, pictures(encoded))
    frame = open_frame(encoded, camera="c", captured_at=FakeClock().now())
    direct = Predictor(Package.read(archive), clock=FakeClock()).predict(frame)
    assert said["labels"].tolist() == [[b"disc", b"ring"]]
    assert said["decisions"].tolist() == [[str(a.decision).encode() for a in direct.labels]]
    np.testing.assert_allclose(said["probabilities"][0], [a.probability for a in direct.labels])


def test_boxes_of_several_pictures_say_which_one() -> None:
    served = served_by(untrained())
    one, two = (encode_png(tray(count, seed=count).image) for count in (2, 3))
    said = asked(served, pictures(one, two))
    assert said["boxes"].shape == (len(said["box_image"]), 4)
    assert set(said["box_image"].tolist()) <= {0, 1}
    alone = asked(served, pictures(two))
    assert (said["box_image"] == 1).sum() == len(alone["boxes"])
    assert said["objectness"].shape == (2, *alone["objectness"].shape[1:])
    with pytest.raises(InvalidError, match="several sizes"):
        asked(served, pictures(one, grey(9)), outputs=("objectness",))


def test_masks_are_told() -> None:
    served = served_by(pack(spots(), SPOTS))
    said = asked(served, pictures(grey(255)))
    assert said["mask_share"].tolist() == [1.0]
    assert said["decisions"].tolist() == [[b"present"]]


def test_a_template_stands_beside_its_picture() -> None:
    served = served_by(untrained(template=True))
    made = tray(2, seed=2)
    image, empty = encode_png(made.image), encode_png(made.empty)
    said = asked(served, pictures(image), pictures(empty, name="template"))
    assert said["state"].tolist() == [b"ok"]
    assert [each.name for each in served.metadata("m", versions=()).inputs][:2] == [
        "image",
        "template",
    ]
    with pytest.raises(InvalidError, match="template"):
        asked(served, pictures(image))


def test_counts_and_scores_are_told_and_refused_pictures_have_none() -> None:
    counted = replace(BLANK, count=CountAnswer(value=3, low=2, high=4, more=False))
    said = {t.name: t.values for t in decided_tensors([counted, REFUSED], bare_manifest("count"))}
    assert said["count"].tolist() == [3, -1]
    assert said["count_high"].tolist() == [4, -1]
    assert said["state"].tolist() == [b"ok", PictureState.BLACK.value.encode()]
    odd = replace(BLANK, anomaly=AnomalyAnswer(score=2.0, limit=1.0, decision=Decision.PRESENT))
    told = {t.name: t.values for t in decided_tensors([odd, REFUSED], bare_manifest("anomaly"))}
    assert told["score"][0] == 2.0
    assert np.isnan(told["score"][1])
    assert told["decision"].tolist() == [b"present", b"unsure"]
    manifest = bare_manifest("classify", labels=("a", "b"))
    refused = {t.name: t.values for t in decided_tensors([REFUSED], manifest)}
    assert refused["decisions"].tolist() == [[b"unsure", b"unsure"]]
    assert np.isnan(refused["probabilities"]).all()
