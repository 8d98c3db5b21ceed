"""Trainings as orders of a few values, and run on this machine."""

import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from lineside.core import Inspection, InvalidError, SystemClock, Task, load_plant
from lineside.core.drivers import resolve_backbone
from lineside.library.model import Model, load
from lineside.training import Labelled, TrainJob, labels_of, run_job
from lineside.training.job import LearningDevice
from lineside.training.run import learning_device

if TYPE_CHECKING:
    from lineside.training import Progress

_NAMED = (Task.MULTILABEL, Task.CLASSIFY)


def train(
    task: str,
    *,
    data: str | PathLike[str],
    out: str | PathLike[str] | None = None,
    labels: Collection[str] = (),
    good: Collection[str] = (),
    plant: str | PathLike[str] | None = None,
    inspection: str = "",
    group: str = "",
    images: str | PathLike[str] = "",
    backbone: str | PathLike[str] = "",
    device: LearningDevice = "cpu",
    seed: int = 7,
    settings: Mapping[str, float] | None = None,
    folder: str | PathLike[str] | None = None,
    progress: "Callable[[Progress], None] | None" = None,
) -> Model:
    """Train a package from labelled images, and load it; the same as ``lineside train``.

    Args:
        task: multilabel, classify, detect, count, segment or anomaly.
        data: folder, ``.lst`` or ``.csv`` file.
        out: where the package is written; None keeps it in memory.
        labels: without a plant file, their names; empty: as the data says.
        good: without a plant file, the labels of a good part; empty: the usual words.
        plant: the plant file that declares the inspection; None: the whole image is judged.
        inspection: its id there; "" where the file declares one only.
        group: how images are grouped, so that no group is both trained on and measured.
        images: where the images of a list are.
        backbone: name of an installed torch network, or an ONNX file, in place of the network that
            comes with lineside.
        device: that it learns on: ``cpu``, ``cuda`` or ``auto``; see ``docs/how-to/gpu.md``.
        seed: everything random follows from it.
        settings: of the learner by name, such as ``epochs``.
        folder: of the job; run again with the same folder, a training goes on. None: a temporary
            one.
        progress: called after each step with stage, percent and seconds left; None prints a line
            for each stage and each ten percent to standard error.

    Raises:
        InvalidError: the data, a label or a setting does not fit the task, or no such device.
        MissingExtraError: torch is built without the device.
        NotFoundError: no such data or plant file.
    """
    job = training_job(
        _task(task), data=str(data), labels=tuple(labels), good=tuple(good),
        plant=None if plant is None else Path(plant), inspection=inspection, group=group,
        images=str(images), backbone=str(backbone), device=device, seed=seed,
        settings=settings,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="lineside-train-") as made:
        result = run_job(
            job, folder=Path(folder or made), progress=progress or stage_teller(_write_line),
            cancelled=threading.Event(), clock=SystemClock(),
        )  # fmt: skip
    if out is not None:
        Path(out).write_bytes(result.package)
    return load(result.package)


def training_job(
    task: Task,
    *,
    data: str,
    labels: tuple[str, ...] = (),
    good: tuple[str, ...] = (),
    plant: Path | None = None,
    inspection: str = "",
    group: str = "",
    images: str = "",
    reference: str = "",
    backbone: str = "",
    device: LearningDevice = "cpu",
    note: str = "",
    seed: int = 7,
    settings: Mapping[str, float] | None = None,
    records: str = "",
    blobs: str = "",
) -> TrainJob:
    """Return the order of a training; arguments as of ``train``.

    ``records`` and ``blobs`` are URLs of a site's stores, for data given as
    ``dataset://NAME/VERSION``.

    Raises:
        InvalidError: the plant's inspection is of another task, or no such device.
        MissingExtraError: torch is built without the device.
    """
    if device not in get_args(LearningDevice):
        known = ", ".join(get_args(LearningDevice))
        raise InvalidError(f"no device {device!r}", where="device", fix=f"Known: {known}.")
    learning_device(device)
    if plant is not None:
        declared = _declared(task, plant, inspection=inspection)
    else:
        source = Labelled(data=data, images=images, group=group, task=str(task))
        if not labels and task in _NAMED:
            labels = labels_of(source, clock=SystemClock(), records_url=records, blobs_url=blobs)
        declared = Inspection(id=_name_of(data), camera="", task=task, labels=labels, good=good)
    return TrainJob(
        inspection=declared, data=data, group=group, images=images, reference=reference,
        backbone=resolve_backbone(backbone), device=device, note=note, seed=seed,
        settings=settings or {},
    )  # fmt: skip


def _task(name: str) -> Task:
    if name not in list(Task):
        raise InvalidError(f"no task {name!r}", where="task", fix=f"Known: {', '.join(Task)}.")
    return Task(name)


def _name_of(data: str) -> str:
    """Name of an inspection without a plant file: that of its dataset, folder or list."""
    place = data.partition("?")[0]
    path = Path(place).resolve()
    stem = path.parent.name if path.name == "labels.csv" else path.stem
    if place.startswith("dataset://"):
        stem = place.split("/")[2]
    letters = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in stem)
    return letters or "pictures"


def _declared(task: Task, plant: Path, *, inspection: str) -> Inspection:
    declared = load_plant(plant)
    only = declared.inspection[0].id if len(declared.inspection) == 1 else ""
    found = declared.find_inspection(inspection or only)
    if found.task is not task:
        raise InvalidError(
            f"inspection {found.id} is of task {found.task}", where=str(plant),
            fix="Name that task.",
        )  # fmt: skip
    return found


def stage_teller(write: "Callable[[str], object]") -> "Callable[[Progress], None]":
    """Return a function that writes a line for each new stage and each ten percent."""
    last = ""

    def tell(progress: "Progress") -> None:
        nonlocal last
        step = f"{progress.stage} {progress.percent // 10:.0f}"
        if step != last:
            held = f", held out {progress.held_out:.3f}" if progress.held_out is not None else ""
            write(f"{progress.percent:3.0f} % {progress.stage}, {progress.eta_s:.0f} s left{held}")
        last = step

    return tell


def _write_line(line: str) -> None:
    sys.stderr.write(f"{line}\n")
