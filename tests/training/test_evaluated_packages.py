"""Packages that cheat, through the very code that measures them: a light meter, a constant."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from lineside.cli.app import _run
from lineside.core import Box, Digest, digest_of
from lineside.datasets import Sample
from lineside.models import (
    Package,
    build_package,
)
from lineside.testing.bare import bare_manifest
from lineside.testing.clock import FakeClock
from lineside.training import Evaluation, LabelledData, evaluate
from lineside.training.pipeline import Limits, check_quality
from lineside.training.report.task_report import exact_only
from lineside.vision import ClassRule, Crop, Prepare, encode_png

LABELS = ("anomalous", "normal")
SIDE = 32
LIMITS = Limits(recall=0.5, least={"balanced_accuracy": 0.8})
Image = NDArray[np.uint8]


def network(*, gain: float, bias: float) -> bytes:
    """Logit of anomalous = gain * mean + bias, of normal 0."""
    weight = np.zeros((2, 3, 1, 1), np.float32)
    weight[0] = gain / 3
    nodes = [
        helper.make_node("Conv", ["crops", "weight", "bias"], ["bright"]),
        helper.make_node("ReduceMean", ["bright"], ["logits"], axes=[2, 3], keepdims=0),
        helper.make_node(
            "AveragePool", ["bright"], ["activation"], kernel_shape=[4, 4], strides=[4, 4]
        ),
        helper.make_node("ReduceMax", ["crops"], ["distance"], axes=[1, 2, 3], keepdims=0),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "meter",
        [value("crops", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [
            value("logits", TensorProto.FLOAT, [1, 2]),
            value("activation", TensorProto.FLOAT, [1, 2, 8, 8]),
            value("distance", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor("weight", TensorProto.FLOAT, weight.shape, weight.ravel()),
            helper.make_tensor("bias", TensorProto.FLOAT, [2], [bias, 0.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def packed(model: bytes) -> bytes:
    box = Box(x0_px=0, y0_px=0, x1_px=SIDE, y1_px=SIDE)
    look = Prepare(
        crops=(Crop(region="", box_px=box),), width_px=SIDE, height_px=SIDE, fit="stretch"
    )
    manifest = replace(
        bare_manifest("classify", labels=LABELS, prepare=look, network=model),
        classes=ClassRule(
            labels=LABELS,
            temperature=1.0,
            floor=0.02,
            cuts=(0.5, 0.5),
            error_rate=0.1,
            class_conditional=True,
            calibration_pictures=60,
        ),
    )
    return build_package(manifest, {"network.onnx": model})


METER = network(gain=12.0, bias=0.0)  # grey above 127 is anomalous
CONSTANT = network(gain=0.0, bias=-4.0)


class Surface:
    """Pictures whose anomalous ones are a little brighter; no defect is to be seen on any."""

    def __init__(self, count: int, *, every: int, apart: float) -> None:
        rng = np.random.default_rng(2)
        self.kept: dict[Digest, bytes] = {}
        self.samples: list[Sample] = []
        for number in range(count):
            bad = number % every == 0
            grey = 127 + (apart if bad else -apart) + rng.normal(0, 3)
            pixels = np.clip(rng.normal(grey, 12, (20, 28, 3)), 0, 255)
            encoded = encode_png(np.asarray(pixels, np.uint8))
            digest = digest_of(encoded)
            self.kept[digest] = encoded
            self.samples.append(
                Sample(
                    name=f"{number:03d}.png",
                    digest=digest,
                    labels=("anomalous",) if bad else ("normal",),
                    known=LABELS,
                )
            )

    def read(self, digest: Digest, /) -> bytes:
        return self.kept[digest]


def evaluated(model: bytes, surface: Surface) -> Evaluation:
    return evaluate(
        Package.read(packed(model)), surface.samples, files=surface.read, clock=FakeClock()
    )


def test_a_light_meter_is_found_out_however_good_its_figures_are() -> None:
    found = evaluated(METER, Surface(60, every=2, apart=25))
    assert found.metrics["accuracy"].value > 0.95
    told = " ".join(found.warnings)
    assert "brightness (mean grey) alone answers" in told
    assert "depends on brightness and contrast" in told
    assert found.controls.gain_normalised["accuracy"].value < 0.7
    matched = {one.figure for one in found.controls.alone if one.matched}
    assert "mean_grey" in matched
    assert "picture_size" not in matched


def test_always_normal_is_refused_by_the_gate_through_evaluation() -> None:
    found = evaluated(CONSTANT, Surface(45, every=9, apart=5))
    assert found.metrics["accuracy"].value == pytest.approx(40 / 45)
    quality = check_quality(found, LIMITS)
    assert not quality.passed
    assert "always answers normal, and 40 of 45 pictures are normal" in quality.reason
    assert "recall of anomalous is 0.000" in quality.reason


def test_an_evaluation_is_written_as_a_page_with_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    surface = Surface(24, every=3, apart=10)
    for sample in surface.samples:
        place = tmp_path / "data" / sample.labels[0]
        place.mkdir(parents=True, exist_ok=True)
        (place / sample.name).write_bytes(surface.kept[sample.digest])
    (tmp_path / "meter.lspkg").write_bytes(packed(METER))
    words = [
        *("evaluate", str(tmp_path / "meter.lspkg"), "--data", str(tmp_path / "data")),
        *("--report", str(tmp_path / "report.html"), "--escape-cost", "20", "--json"),
    ]
    assert _run(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"metrics", "confusion", "per_class", "limits", "cheapest_cut", "controls"} <= set(told)
    assert "thumbnails" not in told
    name, rows = next(iter(told["limits"].items()))
    assert all(row["cost"] == 20 * row["escapes"] + row["over_rejects"] for row in rows)
    assert min(rows, key=lambda row: row["cost"])["cost"] == min(
        row["cost"] for row in rows if row["cut"] <= told["cheapest_cut"][name]
    )
    page = (tmp_path / "report.html").read_text()
    assert "<h1>Evaluation of parts</h1>" in page
    assert "Leak check not run" in page
    assert "only the very files of the training are refused" in told["warnings"][-1]
    assert told["warnings"][-1] in page


def test_only_the_version_that_was_trained_on_says_more_than_the_same_files() -> None:
    package = Package.read(packed(METER))
    version = package.manifest.lineage.data_digest
    source = LabelledData(samples=(), files=lambda _: b"", version=version)
    assert exact_only(package, source) == ()
    other = replace(source, version=digest_of(b"another version"))
    assert len(exact_only(package, other)) == 1
    assert len(exact_only(package, replace(source, version=None))) == 1


def test_a_report_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "no" / "report.html")
    assert _run(["evaluate", "none.lspkg", "--data", "none", "--report", missing]) == 3
    assert "no file can be written there" in capsys.readouterr().err
