"""Open a job's data: a labelled source on disk, or a frozen dataset version."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lineside.core import Clock, Digest, InvalidError
from lineside.datasets import (
    Leak,
    Library,
    Part,
    Sample,
    Skipped,
    grouped,
    label_names,
    load_source,
    split,
    version_digest,
)
from lineside.store import open_blobs, open_records
from lineside.training.job import TrainJob

_SCHEME = "dataset://"

_MOST_SAID = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What a job learns from and is measured on.

    Attributes:
        name: as packages and predictions name it: ``rack/3``, or the source's own name.
        digest: of pictures, labels, groups and parts.
        training, validation: validation is empty where the data has no such part.
        skipped: what the source left out.
        leaks: of a dataset version; a source's are looked for in training.
    """

    name: str
    digest: Digest
    training: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    read: Callable[[Sample], bytes]
    skipped: tuple[Skipped, ...] = ()
    leaks: tuple[Leak, ...] = ()


@contextmanager
def open_data(
    job: TrainJob, *, clock: Clock, records_url: str = "", blobs_url: str = ""
) -> Iterator[Data]:
    """The job's data, open as long as the block.

    Raises:
        InvalidError: nothing to train on, or a dataset without the store it is in.
        NotFoundError: no such source or version.
    """
    if job.data.startswith(_SCHEME):
        with _version(job, clock=clock, records_url=records_url, blobs_url=blobs_url) as data:
            yield data
    else:
        yield _source(job)


def _source(job: TrainJob) -> Data:
    path = Path(job.data)
    loaded = load_source(
        path,
        labels=job.labels or label_names(job.inspection),
        format=job.format,
        images=Path(job.images) if job.images else None,
        group=job.group,
    )
    parts: Mapping[Part, tuple[Sample, ...]] = {Part.TRAIN: loaded.samples}
    if any(sample.split is not Part.OPEN for sample in loaded.samples):
        parts = split(loaded.samples, shares={Part.TRAIN: 1.0})
    return _data(
        path.resolve().name,
        loaded.samples,
        parts=parts,
        read=loaded.read,
        skipped=loaded.skipped,
    )


@contextmanager
def _version(job: TrainJob, *, clock: Clock, records_url: str, blobs_url: str) -> Iterator[Data]:
    if not (records_url and blobs_url):
        raise InvalidError(
            f"{job.data} needs the store it is in", where="data", fix="Name records and blobs."
        )
    name, _, number = job.data.removeprefix(_SCHEME).partition("/")
    if number and not number.isdecimal():
        raise InvalidError(
            f"{number!r} is no version", where="data", fix=f"Write {_SCHEME}{name}/1."
        )
    with ExitStack() as stack:
        records = stack.enter_context(open_records(records_url, clock=clock))
        blobs = open_blobs(blobs_url)
        stack.callback(blobs.close)
        library = Library(records, blobs, clock=clock)
        version = library.version(name, int(number or 0))
        samples = grouped(version.samples, rule=job.group)
        where = {digest: part for part, members in version.splits.items() for digest in members}
        parts = {
            part: tuple(s for s in samples if where.get(s.digest, Part.TRAIN) == part)
            for part in (Part.TRAIN, Part.VALID, Part.TEST)
        }
        data = _data(f"{name}/{version.number}", samples, parts=parts, read=library.read)
        yield Data(
            name=data.name,
            digest=version.digest,
            training=data.training,
            validation=data.validation,
            read=data.read,
            leaks=version.leaks,
        )


def _data(
    name: str,
    samples: tuple[Sample, ...],
    *,
    parts: Mapping[Part, tuple[Sample, ...]],
    read: Callable[[Sample], bytes],
    skipped: tuple[Skipped, ...] = (),
) -> Data:
    training = tuple(sample for sample in parts.get(Part.TRAIN, ()) if sample.known)
    if not training:
        left_out = "; ".join(f"{line.where}: {line.reason}" for line in skipped[:_MOST_SAID])
        raise InvalidError(
            f"no labelled training pictures in {name}" + (f" ({left_out})" if left_out else ""),
            where="data",
            fix="Label some, or check the order and names of the labels.",
        )
    held = [s for part in (Part.VALID, Part.TEST) for s in parts.get(part, ()) if s.known]
    unjudged = [
        Skipped(where=sample.name, reason="no label of it was judged")
        for members in parts.values()
        for sample in members
        if not sample.known
    ]
    return Data(
        name=name,
        digest=version_digest(
            samples, {part: [s.digest for s in members] for part, members in parts.items()}
        ),
        training=training,
        validation=tuple(held),
        read=read,
        skipped=(*skipped, *unjudged),
    )
