"""A frozen backbone of somebody's own, in training, in the package and in its lineage."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from lineside.core import (
    Box,
    Inspection,
    InvalidError,
    NotFoundError,
    Region,
    SystemClock,
    Task,
    View,
    decode_json,
)
from lineside.datasets import load_source
from lineside.models import Package, Predictor
from lineside.training import TrainJob, run_job
from lineside.training.common.cache import FeatureCache
from lineside.training.common.export import CELLS, PICTURE, export
from lineside.training.common.onnx_backbone import SETTINGS_FILE, OnnxBackbone, read_backbone
from lineside.training.tasks.anomaly.scene import taps
from lineside.training.tasks.classify.features import FeatureReader, InputSpec
from lineside.training.tasks.multilabel.features import FeatureExtractor, choose_reference
from lineside.vision import Prepare, decode_picture, open_frame
from lineside.vision.prepare import crops_for
from tests.training.test_anomaly import cloth, write_source
from tests.training.test_classify import write_shapes

BOTH = {8: 24, 16: 32}
KINDS = ("disc", "square")
HALVES = tuple(
    Region(id=label, label=label, box_px=Box(x0_px=x, y0_px=0.0, x1_px=x + 60, y1_px=88.0))
    for label, x in zip(KINDS, (0.0, 60.0), strict=True)
)
INSPECTIONS = {
    Task.ANOMALY: Inspection(id="i", camera="", task=Task.ANOMALY),
    Task.CLASSIFY: Inspection(id="i", camera="", task=Task.CLASSIFY, labels=KINDS),
    Task.MULTILABEL: Inspection(
        id="i",
        camera="",
        view=View(width_px=120, height_px=88, register=False),
        region=HALVES,
    ),
}
SETTINGS = """
name = "tiny"
[licence]
weights = "LicenseRef-ours"
[input]
mean = [120.0, 110.0, 100.0]
scale = [60.0]
[outputs]
"""


def written(folder: Path, channels: dict[int, int], *, opset: int = 17, side: int = 0) -> Path:
    """A network of random filters with a map for each stride; ``side``: of the only input."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(sum(channels.values()))
    nodes, weights, outputs, lines = [], [], [], []
    for stride, count in channels.items():
        kernel = rng.normal(0, 0.3, (count, 3, 4, 4)).astype(np.float32)
        weights.append(helper.make_tensor(f"w{stride}", TensorProto.FLOAT, kernel.shape, kernel))
        nodes += [
            helper.make_node("Conv", ["pixels", f"w{stride}"], [f"c{stride}"], strides=[4, 4]),
            helper.make_node("Relu", [f"c{stride}"], [f"r{stride}"]),
            helper.make_node(
                "AveragePool", [f"r{stride}"], [f"map{stride}"],
                kernel_shape=[stride // 4] * 2, strides=[stride // 4] * 2,
            ),
        ]  # fmt: skip
        sizes: list[str | int | None] = ["n", count, f"rows{stride}", f"columns{stride}"]
        outputs.append(helper.make_tensor_value_info(f"map{stride}", TensorProto.FLOAT, sizes))
        lines.append(f'{stride} = "map{stride}"')
    shape: list[str | int | None] = ["n", 3, side or "height", side or "width"]
    graph = helper.make_graph(
        nodes, "tiny", [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        outputs, weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    path = folder / "tiny.onnx"
    onnx.save_model(model, path)
    (folder / SETTINGS_FILE).write_text(SETTINGS + "\n".join(lines) + "\n")
    return path


class Look(torch.nn.Module):
    """The features of a backbone alone."""

    def __init__(self, backbone: OnnxBackbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return taps(self.backbone, crops)


@pytest.mark.parametrize("side", [0, 64])
@pytest.mark.parametrize(("channels", "opset"), [(BOTH, 17), ({16: 40}, 13), ({4: 8, 32: 9}, 17)])
def test_an_exported_file_holds_the_backbone_itself(
    channels: dict[int, int], opset: int, side: int, tmp_path: Path
) -> None:
    backbone = read_backbone(written(tmp_path / "net", channels, opset=opset, side=side))
    rng = np.random.default_rng(3)
    crops = [rng.normal(0, 1, (1, 3, *size)).astype(np.float32) for size in ((64, 96), (128, 64))]
    exported = export(
        Look(backbone).eval(), crops, outputs=("map",), varies={"crops": PICTURE, "map": CELLS}
    )
    assert exported.max_abs_diff < 1e-4
    model = onnx.load_from_string(exported.network)
    assert {one.domain for one in model.graph.node} == {""}
    assert {one.version for one in model.opset_import} == {17}
    assert any(one.name.startswith("backbone/") for one in model.graph.initializer)


def job_for(task: Task, data: Path, backbone: Path, **settings: float) -> TrainJob:
    return TrainJob(
        inspection=INSPECTIONS[task],
        data=str(data),
        backbone=str(backbone),
        variants=1,
        settings=settings,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "channels", "side"),
    [
        (Task.ANOMALY, BOTH, 0),
        (Task.CLASSIFY, {4: 8, 32: 9}, 0),
        (Task.CLASSIFY, {14: 12}, 56),
        (Task.MULTILABEL, BOTH, 0),
    ],
)
def test_a_package_carries_the_backbone_that_it_was_trained_with(
    task: Task, channels: dict[int, int], side: int, tmp_path: Path
) -> None:
    file = written(tmp_path / "net", channels, side=side)
    if task is Task.ANOMALY:
        data = write_source(tmp_path / "data", cloth, train=8, good=2, bad=2)
    else:
        data = write_shapes(tmp_path / "data", each=7, kinds=KINDS)
    result = run_job(
        job_for(task, data, file),
        folder=tmp_path / "job",
        progress=lambda _: None,
        cancelled=threading.Event(),
        clock=SystemClock(),
    )
    package = Package.read(result.package)
    lineage = package.manifest.lineage
    assert (lineage.weights, lineage.weights_licence) == ("tiny", "LicenseRef-ours")
    sbom = decode_json(package.files[package.manifest.sbom_file], where="sbom")
    assert "LicenseRef-ours" in str(sbom)
    predictor = Predictor(package, clock=SystemClock())
    assert predictor.check_golden().max_abs_diff <= package.manifest.engine.bound
    network = onnx.load_from_string(package.files[package.manifest.engine.file])
    assert sum(one.name == f"backbone/w{min(channels)}" for one in network.graph.initializer) == 1
    image = min(data.glob("*.png"))
    frame = open_frame(image.read_bytes(), camera="c", captured_at=SystemClock().now())
    said = predictor.predict(frame)
    assert said.anomaly is not None or {each.label for each in said.labels} == set(KINDS)
    assert all(heat.shape == frame.image.shape[:2] for heat in predictor.explain(frame).values())
    report = json.loads(result.report)
    if task is Task.CLASSIFY:
        assert "stays frozen" in report["sections"]["How it was chosen"]["fine-tuning"]


def test_features_of_two_networks_are_never_mixed(tmp_path: Path) -> None:
    """Two networks of one width, and one of them with another normalisation."""
    files = [
        written(tmp_path / f"{n}", each) for n, each in enumerate((BOTH, {8: 32, 16: 24}, BOTH))
    ]
    settings = files[2].with_name(SETTINGS_FILE)
    settings.write_text(settings.read_text().replace("120.0", "90.0"))
    networks = [read_backbone(file) for file in files]
    source = load_source(write_shapes(tmp_path / "data", each=4, kinds=KINDS[:1]))
    spec, sample = InputSpec(width_px=64, height_px=64), source.samples[0]

    def of_whole(backbone: OnnxBackbone, folder: Path) -> np.ndarray:
        reader = FeatureReader(
            samples=[sample],
            files=source.read_file,
            picture=lambda one: decode_picture(source.read(one)),
            at=lambda *_: None,
            cache=FeatureCache(folder),
            backbone=backbone,
        )
        return reader.look([spec], first=0, last=1)[1][0]

    inspection = INSPECTIONS[Task.MULTILABEL]
    reference = choose_reference(inspection, [sample], read=source.read)
    extractor = FeatureExtractor(
        reference=reference,
        registrar=reference.registrar(),
        prepare=Prepare(
            crops=crops_for(inspection.region, width_px=120, height_px=88, margin=0.25),
            width_px=96,
            height_px=96,
            view=reference.view,
        ),
        read=source.read,
        seed=7,
        folder=tmp_path,
    )

    def of_regions(backbone: OnnxBackbone, folder: Path) -> np.ndarray:
        return (
            replace(extractor, backbone=backbone, folder=folder).look(sample, variants=0).features
        )

    for look in (of_whole, of_regions):
        shared = tmp_path / look.__name__
        found = [look(each, shared) for each in networks]
        assert len({each.tobytes() for each in found}) == 3
        assert found[0].shape == found[1].shape
        for number, each in enumerate(networks):
            alone = look(each, tmp_path / f"{look.__name__}-{number}")
            assert np.array_equal(alone, found[number])
            assert np.array_equal(look(each, shared), found[number])


def test_maps_are_brought_to_both_strides_and_normalised_as_the_settings_say(
    tmp_path: Path,
) -> None:
    backbone = read_backbone(written(tmp_path / "net", {16: 40}))
    pixels = torch.zeros(1, 3, 64, 96) + (120.0 - 127.0) / 128.0  # grey 120
    fine, coarse = backbone.at_strides(pixels, 8, 16)
    assert (tuple(fine.shape), tuple(coarse.shape)) == ((1, 40, 8, 12), (1, 40, 4, 6))
    normalised = pixels * backbone.factor + backbone.offset
    np.testing.assert_allclose(
        normalised[0, :, 0, 0], [0.0, 10 / 60, 20 / 60], rtol=1e-5, atol=1e-6
    )
    shapes = [tuple(one.shape[1:]) for one in backbone.taps(pixels)]
    assert shapes == [(40, 4, 6)]
    apart = read_backbone(written(tmp_path / "apart", {4: 8, 16: 5, 32: 9}))
    assert (apart.tap_strides, apart.tap_channels) == ((8, 16, 32), (8, 5, 9))
    shapes = [tuple(one.shape[1:]) for one in apart.taps(pixels)]
    assert shapes == [(8, 8, 12), (5, 4, 6), (9, 2, 3)]
    other = read_backbone(written(tmp_path / "other", BOTH))
    assert other.key != backbone.key
    assert other.key is other.key  # weights are hashed once, not for each picture
    assert (backbone.channels_at(8, 32), other.channels_at(8, 32)) == ((40, 40), (24, 32))


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    file = written(tmp_path / "net", BOTH)
    beside = file.with_name(SETTINGS_FILE)
    text = beside.read_text()
    beside.write_text(text.replace('"map16"', '"map17"'))
    with pytest.raises(InvalidError, match="gives \\['map16', 'map8'\\]"):
        read_backbone(file)
    beside.write_text(text.replace('16 = "map16"', '32 = "map16"'))
    with pytest.raises(InvalidError, match=r"the output of stride 32 is \(1, 32, 14, 14\)"):
        read_backbone(file)
    beside.write_text(text.replace('16 = "map16"', '5 = "map16"'))
    with pytest.raises(InvalidError, match="outputs by stride"):
        read_backbone(file)
    beside.write_text(text.replace('weights = "LicenseRef-ours"', 'weights = ""'))
    with pytest.raises(InvalidError, match="terms are unknown"):
        read_backbone(file)
    beside.write_text(text)
    for domain, opset, words in (
        ("com.microsoft", 17, "operators of com.microsoft"),
        ("", 20, "opset 20 cannot be brought to opset 17"),
    ):
        model = onnx.load(written(tmp_path / f"net{opset}", BOTH, opset=opset))
        model.graph.node[1].op_type, model.graph.node[1].domain = "Gelu", domain
        if domain:
            model.opset_import.append(helper.make_opsetid(domain, 1))
        onnx.save_model(model, file)
        with pytest.raises(InvalidError, match=words):
            read_backbone(file)
    beside.unlink()
    with pytest.raises(NotFoundError, match="no such file"):
        read_backbone(file)


def test_a_network_for_one_image_at_a_time_is_refused_where_regions_go_together(
    tmp_path: Path,
) -> None:
    file = written(tmp_path / "net", BOTH)
    model = onnx.load(file)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save_model(model, file)
    read_backbone(file)
    data = write_shapes(tmp_path / "data", each=4, kinds=KINDS)
    with pytest.raises(InvalidError, match="fails on 2 images") as refused:
        run_job(
            job_for(Task.MULTILABEL, data, file),
            folder=tmp_path / "job",
            progress=lambda _: None,
            cancelled=threading.Event(),
            clock=SystemClock(),
        )
    assert "any number of images" in refused.value.fix


def test_jobs_that_would_change_the_backbone_are_refused() -> None:
    detect = Inspection(id="x", camera="", task=Task.DETECT, labels=("a",))
    with pytest.raises(InvalidError, match="detect fine-tunes its backbone, and an") as refused:
        TrainJob(inspection=detect, data="x", backbone="net.onnx")
    assert "anomaly, classify, multilabel" in refused.value.fix
    net, data = Path("net.onnx"), Path("x")
    with pytest.raises(InvalidError, match="cannot be fine-tuned"):
        job_for(Task.CLASSIFY, data, net, tune=1)
    assert job_for(Task.CLASSIFY, data, net, tune=0).backbone == "net.onnx"
