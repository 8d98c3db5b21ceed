"""A network learns on a GPU where one is named and there; everything else stays on the CPU."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lineside.core import Inspection, InvalidError, SystemClock, Task, UnavailableError
from lineside.core.drivers import SecretUrl
from lineside.core.errors import MissingExtraError
from lineside.library.training import train, training_job
from lineside.models import Package, Predictor
from lineside.testing.pictures import tray_folder
from lineside.training import Cluster, TrainJob, TrainResult, run_job, train_on
from lineside.training import run as running
from lineside.training.common.backbone import lite0_full
from lineside.training.common.loop import Parallel
from lineside.training.common.torch_backbone import open_backbone
from lineside.training.job import LearningDevice
from lineside.training.tasks.count.numbers import NumberNetwork
from lineside.training.tasks.detect.network import CentreNetwork
from lineside.training.tasks.segment.network import new_unet


def job_on(data: Path, *, device: LearningDevice = "cpu", task: Task = Task.COUNT) -> TrainJob:
    labels = ("disc",) if task is Task.MULTILABEL else ()
    return TrainJob(
        inspection=Inspection(id="tray", camera="", task=task, labels=labels),
        data=str(data),
        settings={"steps": 3.0, "batch_size": 2.0},
        device=device,
    )


def trained(job: TrainJob, folder: Path) -> Package:
    result: TrainResult = run_job(
        job, folder=folder, progress=lambda _: None, cancelled=threading.Event(),
        clock=SystemClock(),
    )  # fmt: skip
    return Package.read(result.package)


@pytest.mark.slow
def test_a_network_that_learned_elsewhere_is_exported_on_the_cpu_and_says_where_it_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tray_folder(tmp_path / "data", pictures=8, marks="counts")
    plain = trained(job_on(data), tmp_path / "plain")
    # Not the default device, so that the network and all that it takes and gives are moved.
    monkeypatch.setattr(running, "learning_device", lambda _: torch.device("cpu:0"))
    moved = trained(job_on(data, device="auto"), tmp_path / "moved")
    assert moved.files["network.onnx"] == plain.files["network.onnx"]
    sentence = "learned on cpu:0: the same training again gives other weights"
    assert sentence in moved.manifest.lineage.warnings
    assert not any("learned on" in each for each in plain.manifest.lineage.warnings)
    assert Predictor(moved, clock=SystemClock()).check_golden().max_abs_diff < 1e-5


def test_a_network_takes_and_gives_tensors_of_the_cpu_and_is_free_of_it_afterwards() -> None:
    network, moving = torch.nn.Linear(2, 2), Parallel(torch.device("meta"))
    plain = Parallel()
    with plain.move_network(network):
        assert not network._forward_hooks
    with pytest.raises(NotImplementedError, match="meta"), moving.move_network(network):
        network(torch.zeros(1, 2))  # moved to where there are no numbers, and none come back
    assert not network._forward_hooks
    assert not network._forward_pre_hooks
    assert network.weight.device == torch.device("meta")
    assert (plain.used, moving.used) == (False, True)


def full(device: torch.device) -> None:
    if device != torch.device("cpu"):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_gpu_with_too_little_memory_is_told_with_what_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moving = Parallel(torch.device("cpu:0"))
    network = torch.nn.Linear(2, 2)
    with (
        pytest.raises(UnavailableError, match="little memory") as told,
        moving.move_network(network),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert "batch_size" in told.value.fix
    monkeypatch.setattr(network, "to", full)
    with pytest.raises(UnavailableError, match="little memory"), moving.move_network(network):
        pytest.fail("it is on no device")
    assert not network._forward_hooks


@pytest.mark.parametrize(
    "network",
    [
        new_unet(1, backbone=lite0_full()),
        NumberNetwork(backbone=open_backbone(""), most=3),
        CentreNetwork(backbone=open_backbone(""), labels=2, template=False),
        CentreNetwork(backbone=open_backbone(""), labels=2, template=True),
    ],
    ids=["masks", "numbers", "objects", "template"],
)
def test_no_network_makes_tensors_of_the_cpu_on_its_way(network: torch.nn.Module) -> None:
    """The device ``meta`` has shapes alone, and refuses tensors of another device as a GPU does."""
    meta = torch.device("meta")
    channels = 9 if getattr(network, "mix", None) is not None else 3
    found = network.to(meta)(torch.zeros((2, channels, 64, 64), device=meta))
    assert {each.device for each in found} == {meta}


def no_gpu(*_: object, device: str) -> torch.Tensor:
    raise RuntimeError(f"CUDA error: no kernel image is available on {device}")


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "ones", no_gpu)
    for version, kind in ((None, MissingExtraError), ("13.0", UnavailableError)):
        monkeypatch.setattr(torch.version, "cuda", version)
        with pytest.raises(kind) as told:
            train("classify", data=tmp_path / "nowhere", device="cuda")
        assert told.value.where == "device"
        assert "cpu" in told.value.fix
        with pytest.raises(kind):
            trained(job_on(tmp_path / "nowhere", device="cuda"), tmp_path / "job")
        assert not (tmp_path / "job").exists()


def test_auto_learns_on_the_cpu_then_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "ones", no_gpu)
    assert running.learning_device("auto") == torch.device("cpu")
    assert "training runs on the CPU reason=CUDA error: no kernel image" in caplog.text
    monkeypatch.setattr(torch, "ones", lambda *_, **__: torch.zeros(1))  # as one that works
    assert running.learning_device("auto") == running.learning_device("cuda")
    assert running.learning_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("task", [Task.ANOMALY, Task.MULTILABEL])
def test_a_task_whose_network_stays_frozen_has_no_device(task: Task, tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="keeps its network frozen"):
        job_on(tmp_path, device="cuda", task=task)


def test_a_cluster_and_a_word_that_is_no_device_are_refused(tmp_path: Path) -> None:
    job = job_on(tmp_path, device="cuda")
    with pytest.raises(InvalidError, match="learn on the CPU"):
        train_on(
            Cluster(on=SecretUrl("ray")), job, folder=tmp_path / "job", progress=lambda _: None
        )
    with pytest.raises(InvalidError, match="no device 'gpu'"):
        training_job(Task.COUNT, data=str(tmp_path), device="gpu")  # type: ignore[arg-type]  # as a program may say it


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("task", [Task.COUNT, Task.DETECT])
def test_a_network_that_learned_on_a_gpu_answers_on_the_cpu_as_promised(
    task: Task, tmp_path: Path, absent: Callable[[str, str], None]
) -> None:
    if not torch.cuda.is_available():
        absent("gpu", "torch finds no GPU of NVIDIA here")
    marks = "counts" if task is Task.COUNT else "boxes"
    data = tray_folder(tmp_path / "data", pictures=8, marks=marks)
    package = trained(job_on(data, device="cuda", task=task), tmp_path / "job")
    assert any("learned on NVIDIA" in each for each in package.manifest.lineage.warnings)
    Predictor(package, clock=SystemClock()).check_golden()
