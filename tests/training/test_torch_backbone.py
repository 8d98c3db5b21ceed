"""A torch network that an installed package brings, in training, in the package and its lineage."""

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from lineside.core import Inspection, InvalidError, SystemClock, Task, decode_json
from lineside.core.worker import look_at_each
from lineside.library.training import train as train_here
from lineside.library.training import training_job
from lineside.models import Package, Predictor
from lineside.testing.pictures import tray_folder
from lineside.training import TrainJob, TrainResult, run_job
from lineside.training.common.backbone import lite0_full
from lineside.training.common.torch_backbone import installed_backbone, open_backbone
from lineside.training.job import load_arrays
from lineside.training.tasks.classify import tuning
from lineside.training.tasks.classify.features import pooled_by
from lineside.training.tasks.classify.network import Space
from tests.training.test_anomaly import cloth, write_source
from tests.training.test_class_head import _training_set, _tune
from tests.training.test_classify import write_shapes
from tests.training.test_onnx_backbone import INSPECTIONS, KINDS
from tests.training.test_segment import write_source as write_plates

MODULE = """
import time

import torch
from torch import nn

from lineside.training import TorchBackbone

CHANNELS = {4: 12, 8: 16, 32: 20}


class Net(nn.Module):
    def __init__(self, seed=5):
        super().__init__()
        if seed:
            torch.manual_seed(seed)
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 4, 4), nn.BatchNorm2d(12), nn.ReLU())
        self.fine = nn.Sequential(nn.Conv2d(12, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.deep = nn.Sequential(nn.Dropout(), nn.Conv2d(16, 20, 5, 4, 2), nn.ReLU())
        self.unread = nn.Linear(20, 1000)

    def forward(self, pixels):
        stem = self.stem(pixels)
        fine = self.fine(stem)
        return stem, fine, self.deep(fine)


def made(network, **other):
    facts = {"name": "tiny", "licence": "LicenseRef-ours", "channels": CHANNELS}
    return TorchBackbone(network, **(facts | other))


def tiny():
    network = Net()
    network.stem.requires_grad_(False)
    return made(network, mean=[120.0, 110.0, 100.0], scale=[60.0], source="https://example.org")


def square():
    return made(Net(), size_px=(64, 64))


def still():
    return made(Net().requires_grad_(False))


def channels():
    return made(Net(), channels={4: 12, 8: 16, 32: 21})


def strides():
    return made(Net(), channels={4: 12, 8: 16, 16: 20})


def fewer():
    return made(Net(), channels={4: 12, 8: 16})


def nan():
    network = Net()
    network.fine[0].bias.data[3] = float("nan")
    return made(network)


def free():
    return made(Net(), licence=" ")


def silent():
    return TorchBackbone(Net(), name="tiny", channels=CHANNELS)


def nameless():
    return made(Net(), name="")


def bare():
    return Net()


def lost():
    raise OSError("weights.pt is not there")


class Moody(Net):
    def forward(self, pixels):
        return [one * (2 if pixels.shape[3] > 200 else 1) for one in super().forward(pixels)]


class Step(torch.autograd.Function):
    @staticmethod
    def forward(_, x):
        return (x > 0).float()

    @staticmethod
    def symbolic(g, x):
        return g.op("Relu", x)

    @staticmethod
    def backward(_, __):
        raise RuntimeError("one is not differentiable")


class Steps(Net):
    def forward(self, pixels):
        return [Step.apply(one) for one in super().forward(pixels)]


def step():
    return made(Steps())


def moody():
    return made(Moody())


class Odd(Net):
    def forward(self, pixels):
        stem, fine, deep = super().forward(pixels)
        return stem, torch.fft.fft2(fine).real, deep


def odd():
    return made(Odd())


def whole():
    return made(Net(), mean=0, scale=255.0)


def drawn():
    return made(Net(seed=0))


def other():
    torch.seed()
    return made(Net(seed=0))


def left():
    raise SystemExit("no weights")


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.found = Net(), {}
        for name in ("stem", "fine", "deep"):
            keep = lambda *given, name=name: self.found.__setitem__(name, given[2])
            getattr(self.inner, name).register_forward_hook(keep)

    def forward(self, pixels):
        self.inner(pixels)
        return tuple(self.found.values())


def hooked():
    return made(Hooked())


class Kept(Net):
    def forward(self, pixels):
        self.found = super().forward(pixels)
        time.sleep(0.002)
        return self.found


def kept():
    return made(Kept())


class Bound(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Net()
        self.maps = lambda pixels: self.inner(pixels)

    def forward(self, pixels):
        return self.maps(pixels)


def bound():
    return made(Bound())


class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = [Net().eval()]

    def forward(self, pixels):
        return self.inner[0](pixels)


def listed():
    return made(Listed())


def batch():
    network = Net()
    network.fine[1] = nn.BatchNorm2d(16, track_running_stats=False)
    return made(network)


class Mean(Net):
    def forward(self, pixels):
        return [one - one.mean((0, 2, 3), keepdim=True) for one in super().forward(pixels)]


def mean():
    return made(Mean())


class Half(Net):
    def forward(self, pixels):
        return [one.half() for one in super().forward(pixels)]


def half():
    return made(Half())
"""
NAMES = (
    "tiny", "square", "still", "channels", "strides", "fewer", "nan", "free", "silent", "nameless",
    "bare", "lost", "moody", "odd", "step", "whole", "drawn", "other", "left", "hooked", "bound",
    "listed", "batch", "mean", "half", "with.dot", "kept",
)  # fmt: skip


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution whose entry points name the functions."""
    site = tmp_path / "site"
    write_package(site, "tiny-nets", NAMES)
    (site / "tiny_nets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(site))


def write_package(site: Path, name: str, points: Sequence[str]) -> None:
    about = site / f"{name.replace('-', '_')}-1.2.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    lines = [f"{point} = tiny_nets:{point}" for point in points]
    (about / "entry_points.txt").write_text("[lineside.backbones]\n" + "\n".join(lines) + "\n")


def train(job: TrainJob, folder: Path) -> TrainResult:
    return run_job(
        job,
        folder=folder,
        progress=lambda _: None,
        cancelled=threading.Event(),
        clock=SystemClock(),
    )


def job_for(task: Task, folder: Path, *, backbone: str = "tiny") -> TrainJob:
    settings = {"steps": 12.0, "batch_size": 4.0}
    inspection = INSPECTIONS.get(task) or Inspection(id="i", camera="", task=task)
    match task:
        case Task.DETECT | Task.COUNT:
            marks = "boxes" if task is Task.DETECT else "counts"
            data = tray_folder(folder, pictures=12, marks=marks)
        case Task.SEGMENT:
            data = write_plates(folder, good=6, drawn=6, bare=2)
            settings = {"steps": 12.0, "side_px": 64.0, "zoom": 1.0}
            labels = ("i.O.", "kratzer")
            inspection = replace(inspection, labels=labels, good=labels[:1])
        case Task.ANOMALY:
            data = write_source(folder, cloth, train=8, good=2, bad=2)
            settings = {"power_pictures": 2.0}
        case _:
            data = write_shapes(folder, each=7, kinds=KINDS)
            settings = {"tune": 2.0, "epochs": 1.0} if task is Task.CLASSIFY else {}
    return TrainJob(
        inspection=inspection, data=str(data), backbone=backbone, variants=1, settings=settings
    )


def weights_of_fit(folder: Path) -> dict[str, np.ndarray]:
    """The network's weights at the end of the package's own fit."""
    (file,) = folder.glob("*/*/all.npz")
    prefix = "w/trunk.network."
    arrays = load_arrays(file) or {}
    return {
        name.removeprefix(prefix): np.asarray(value)
        for name, value in arrays.items()
        if name.startswith(prefix)
    }


@pytest.mark.parametrize(
    "task",
    [
        *(Task.CLASSIFY, Task.COUNT, Task.DETECT, Task.MULTILABEL),
        *(pytest.param(task, marks=pytest.mark.slow) for task in (Task.ANOMALY, Task.SEGMENT)),
    ],
)
def test_every_task_learns_on_an_installed_network(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_LEAST_GAIN", -100.0)  # so few pictures show no gain
    monkeypatch.setattr(tuning, "is_better", lambda *_, **__: True)
    result = train(job_for(task, tmp_path / "data"), tmp_path / "job")
    package = Package.read(result.package)
    lineage = package.manifest.lineage
    assert lineage.weights == "tiny (https://example.org, tiny-nets 1.2)"
    assert lineage.weights_licence == "LicenseRef-ours"
    sbom = decode_json(package.files[package.manifest.sbom_file], where="sbom")
    assert all(words in str(sbom) for words in ("LicenseRef-ours", "tiny-nets 1.2"))
    engine = package.manifest.engine
    assert engine.max_abs_diff <= engine.bound
    assert Predictor(package, clock=SystemClock()).check_golden().max_abs_diff <= engine.bound
    nodes = onnx.load_from_string(package.files[engine.file]).graph.node
    assert {one.domain for one in nodes} == {""}
    assert not any(one.op_type == "Dropout" for one in nodes)
    stated = json.loads(result.report)["sections"]["Backbone"]
    assert stated["licence"] == "LicenseRef-ours"
    assert stated["channels"] == "12 at stride 4, 16 at stride 8, 20 at stride 32"
    assert stated["parameters that may learn"] == "9,796 of 31,408"
    if task in {Task.DETECT, Task.COUNT, Task.SEGMENT}:
        before, after = open_backbone("tiny").state_dict(), weights_of_fit(tmp_path / "job")
        moved = {
            name.partition(".")[0]
            for name, value in after.items()
            if not np.array_equal(value, before[f"network.{name}"].numpy())
        }
        assert moved == ({"fine", "deep"} if task is Task.SEGMENT else {"fine"})
        assert np.array_equal(after["fine.1.running_var"], np.ones(16))
    if task is Task.CLASSIFY:
        chosen = json.loads(result.report)["sections"]["How it was chosen"]
        assert (chosen["network"], chosen["epochs"]) == ("fine-tuned", 1)


@pytest.mark.slow
def test_a_training_that_was_stopped_gives_the_same_package(tmp_path: Path) -> None:
    job = job_for(Task.DETECT, tmp_path / "data")
    whole = train(job, tmp_path / "whole")
    cancelled = threading.Event()
    stopped = 0

    def stop(progress: object) -> None:
        nonlocal stopped
        stopped += "part 2" in str(progress)
        if stopped == 1:
            cancelled.set()

    with pytest.raises(Exception, match="cancelled"):
        run_job(
            job,
            folder=tmp_path / "job",
            progress=stop,
            cancelled=cancelled,
            clock=SystemClock(),
        )
    assert train(job, tmp_path / "job").digest == whole.digest


def test_a_tuned_network_is_exported_as_it_was_trained(tmp_path: Path) -> None:
    backbone = open_backbone("tiny", deepest=32)
    features = np.random.default_rng(0).normal(0, 1, (24, 2 * 48)).astype(np.float32)
    known = _training_set()
    start = Space(features).fit(known.truth, classes=2, strength=0.1)
    known = replace(known, start=start, backbone=backbone)
    tuned = _tune(tmp_path, known=known)
    pooled = pooled_by(tuned.backbone, known.pictures, count=24)
    answers = tuned.head.logits(pooled[known.outside])
    assert np.abs(answers - tuned.logits).max() < 1e-3
    before, after = backbone.state_dict(), tuned.backbone.state_dict()
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert {name.split(".")[1] for name in moved} == {"fine", "deep"}
    assert not any("running" in name for name in moved)
    assert not any(one.requires_grad for one in tuned.backbone.parameters())
    again = _tune(tmp_path / "again", known=known)
    assert np.array_equal(again.head.weight, tuned.head.weight)
    other = _tune(tmp_path, known=replace(known, backbone=open_backbone("whole", deepest=32)))
    assert not np.array_equal(other.head.weight, tuned.head.weight)


def test_maps_of_any_stride_are_the_nearest_of_its_own() -> None:
    for backbone in (open_backbone("tiny"), open_backbone("square")):
        assert backbone.channels_at(2, 4, 8, 16, 32) == (12, 12, 16, 16, 20)
        maps = backbone.at_strides(torch.zeros(2, 3, 96, 64), 2, 16, 32)
        shapes = [tuple(one.shape) for one in maps]
        assert shapes == [(2, 12, 48, 32), (2, 16, 6, 4), (2, 20, 3, 2)]
    assert (open_backbone("tiny").most_scales, open_backbone("square").most_scales) == (2, 1)
    grey = (torch.tensor([120.0, 110.0, 100.0]) - 127.0) / 128.0
    tiny = installed_backbone("tiny")
    pixels = grey.reshape(1, 3, 1, 1).expand(1, 3, 64, 64)
    (stem,) = tiny.at_strides(pixels, 4)
    with torch.no_grad():
        wanted = tiny.network.stem(torch.zeros(1, 3, 64, 64))  # type: ignore[operator]  # a module
    assert torch.allclose(stem, wanted, atol=1e-5)


def test_frozen_networks_differ_by_name_in_caches() -> None:
    keys = {open_backbone(name).key for name in ("tiny", "square", "still", "")}
    assert len(keys) == 4
    assert lite0_full().key == ""
    assert not open_backbone("still").learns
    assert open_backbone("whole").key != open_backbone("still").key


@pytest.mark.filterwarnings("ignore:TF32")
def test_a_key_depends_on_no_processor_and_on_no_random_numbers() -> None:
    keys = []
    for fast in (True, False):
        installed_backbone.cache_clear()
        torch.manual_seed(fast)
        state = torch.random.get_rng_state()
        with torch.backends.mkldnn.flags(enabled=fast):
            keys.append([open_backbone(name).key for name in ("tiny", "square", "drawn")])
        assert torch.equal(torch.random.get_rng_state(), state)
    assert keys[0] == keys[1]


def test_evaluation_mode_stays() -> None:
    network = open_backbone("tiny").learning(after=4).train()
    assert not any(one.training for one in network.modules())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("channels", r"the maps at strides \(4, 8, 32\) have \(12, 16, 20\) channels, not \(12, "),
        ("strides", r"the output of stride 16 is \(2, 20, 8, 7\) for 208 x 240 px"),
        ("fewer", "the network gives 3 maps, and 2 strides are stated"),
        ("nan", "the output of stride 8 has values that are not finite"),
        ("free", "nobody may run a network whose terms are unknown"),
        ("silent", "missing 1 required keyword-only argument: 'licence'"),
        ("step", "the network has no gradient: one is not differentiable"),
        ("nameless", "a name, and outputs by stride"),
        ("bare", "tiny_nets:bare returns Net"),
        ("lost", "tiny_nets:lost fails: OSError: weights.pt is not there"),
        ("moody", "as an ONNX file the network gives other maps"),
        ("odd", "the network cannot be written as an ONNX file"),
        ("other", "tiny_nets:other gives another network each time that it is called"),
        ("left", "tiny_nets:left fails: SystemExit: no weights"),
        ("hooked", "its maps come from the original network, not from its copy"),
        ("bound", "its maps come from the original network, not from its copy"),
        ("listed", "its maps have a gradient by tensors that are no parameters"),
        ("batch", "the maps of an image depend on the other images of the batch"),
        ("mean", "the maps of an image depend on the other images of the batch"),
        ("half", "the output of stride 4 is of float16"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_before_anything_is_learned(
    name: str, words: str, tmp_path: Path
) -> None:
    data = tray_folder(tmp_path / "data", pictures=2, marks="boxes")
    inspection = Inspection(id="i", camera="", task=Task.DETECT)
    with pytest.raises(InvalidError, match=words) as refused:
        train(TrainJob(inspection=inspection, data=str(data), backbone=name), tmp_path / "job")
    assert refused.value.where == f"backbone {name}"
    assert refused.value.fix


def test_a_network_that_keeps_its_maps_in_itself_answers_each_of_several_threads() -> None:
    backbone = open_backbone("kept")
    images = [torch.full((1, 3, 64, 64), float(value)) for value in range(16)]
    with torch.no_grad():
        alone = [backbone.taps(image)[0] for image in images]
    together = look_at_each(torch.no_grad()(lambda image: backbone.taps(image)[0]), images)
    assert all(map(torch.equal, together, alone))


def test_an_unknown_name_is_answered_with_those_that_are_installed() -> None:
    with pytest.raises(InvalidError, match="no backbone 'tinny' is installed") as refused:
        open_backbone("tinny")
    assert "bare, batch, bound, channels, drawn, fewer, free" in refused.value.fix
    assert "tiny" in refused.value.fix
    assert "with.dot" not in refused.value.fix


def test_a_name_that_two_packages_bring_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(tmp_path / "second", "big-nets", ["whole"])
    monkeypatch.syspath_prepend(str(tmp_path / "second"))
    installed_backbone.cache_clear()
    with pytest.raises(InvalidError, match="2 packages bring it: big-nets, tiny-nets"):
        open_backbone("whole")


def test_the_library_trains_on_a_network_whose_layers_all_stay(tmp_path: Path) -> None:
    data = tray_folder(tmp_path / "data", pictures=8, marks="boxes")
    settings = {"steps": 2.0, "batch_size": 2.0}
    made = train_here("detect", data=data, backbone="still", settings=settings, folder=tmp_path)
    assert made.manifest.lineage.weights == "tiny (tiny-nets 1.2)"
    before = open_backbone("still").state_dict()
    for name, value in weights_of_fit(tmp_path).items():
        assert np.array_equal(value, before[f"network.{name}"].numpy())


def test_a_name_stays_and_a_file_is_named_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("plain", "tiny"):
        (tmp_path / name).touch()
    for written, kept in (
        ("tiny", "tiny"), ("", ""), ("plain", str(tmp_path / "plain")),
        ("net.onnx", str(tmp_path / "net.onnx")),
    ):  # fmt: skip
        assert training_job(Task.ANOMALY, data="x", backbone=written).backbone == kept
    tuned = job_for(Task.CLASSIFY, tmp_path / "data")
    assert tuned.settings["tune"] == 2
    with pytest.raises(InvalidError, match="an ONNX file stays frozen") as refused:
        replace(tuned, backbone="net.onnx")
    assert "name an installed torch network" in refused.value.fix
