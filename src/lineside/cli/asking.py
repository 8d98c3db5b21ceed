"""What ``train`` and ``tune`` ask for alike: the job, the stores, the cluster."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.dataset_place import place_of
from lineside.core import Inspection, InvalidError, SystemClock, Task, load_plant

if TYPE_CHECKING:
    from lineside.training import Labelled, TrainJob

HERE = "local"
_NAMED = (Task.MULTILABEL, Task.CLASSIFY)

OnOption = Annotated[str, typer.Option("--on", help="local, ray, or ray://HOST:PORT.")]
WorkersOption = Annotated[int, typer.Option(help="Processes at once on a cluster.")]
StorageOption = Annotated[str, typer.Option(help="Where a cluster keeps checkpoints: s3://….")]
MlflowOption = Annotated[str, typer.Option(help="Copy the run record to this tracking server.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A training as it was typed."""

    task: Task
    data: str
    labels: str = ""
    plant: Path | None = None
    inspection: str = ""
    group: str = ""
    images: str = ""
    reference: str = ""
    note: str = ""
    seed: int = 7
    settings: tuple[str, ...] = ()


def stores(
    config: Path | None, *, store: Path | None = None, records: str = "", blobs: str = ""
) -> tuple[str, str]:
    """Records and blobs of ``dataset://`` data; both empty where none are named."""
    if config is None and store is None and not (records or blobs):
        return "", ""
    place = place_of(config=config, store=store, records=records, blobs=blobs)
    return place.records, place.blobs


def job_of(wish: Wish, *, records: str, blobs: str) -> "TrainJob":
    """The job that was typed.

    Raises:
        InvalidError: the plant's inspection is of another task, or a setting is no number.
    """
    from lineside.training import Labelled, TrainJob

    source = Labelled(data=wish.data, images=wish.images, group=wish.group, task=str(wish.task))
    if wish.plant is None:
        names = _names(wish, source, records=records, blobs=blobs)
        made = TrainJob(inspection=_bare_inspection(source, names), data=wish.data)
    else:
        made = TrainJob(inspection=_declared(wish, wish.plant), data=wish.data)
    return replace(
        made,
        group=wish.group,
        images=wish.images,
        reference=wish.reference,
        note=wish.note,
        seed=wish.seed,
        settings=_settings(wish.settings),
    )


def _settings(written: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for text in written:
        name, _, number = text.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError as error:
            raise InvalidError(
                f"{text!r} is no setting", where="--setting", fix="Write it as epochs=20."
            ) from error
    return found


def _names(wish: Wish, source: "Labelled", *, records: str, blobs: str) -> tuple[str, ...]:
    """What a training without a plant file answers."""
    from lineside.training import labels_of

    named = tuple(name.strip() for name in wish.labels.split(",") if name.strip())
    if named or wish.task not in _NAMED:
        return named
    return labels_of(source, clock=SystemClock(), records_url=records, blobs_url=blobs)


def _bare_inspection(source: "Labelled", labels: tuple[str, ...]) -> Inspection:
    """The whole picture, judged by the defaults; named after the data."""
    name = source.data.removeprefix("dataset://").rstrip("/").split("/")
    stem = name[0] if source.data.startswith("dataset://") else Path(name[-1]).stem
    kept = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in stem)
    return Inspection(id=kept or "pictures", camera="", task=Task(source.task), labels=labels)


def _declared(wish: Wish, plant: Path) -> Inspection:
    declared = load_plant(plant)
    only = declared.inspection[0].id if len(declared.inspection) == 1 else ""
    found = declared.find_inspection(wish.inspection or only)
    if found.task is not wish.task:
        raise InvalidError(
            f"inspection {found.id} is of task {found.task}", where=str(plant), fix="Change --task."
        )
    return found
