"""Open a job's data: a labelled source on disk, or a frozen dataset version."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lineside.core import Clock, Digest, Inspection, InvalidError, Task
from lineside.datasets import (
    ComparisonLimits,
    DatasetVersion,
    Leak,
    Library,
    Part,
    Sample,
    label_names,
    load_source,
)
from lineside.datasets.leaks import check_leaks, look_at
from lineside.datasets.samples import Skipped, part_of
from lineside.datasets.splitting import grouped, split
from lineside.datasets.versions import decode_version, version_digest
from lineside.models import Lineage
from lineside.models.manifest import code_version
from lineside.store import Blobs, open_blobs, open_records
from lineside.training.common.torch_backbone import backbone_facts
from lineside.training.job import TrainJob

_SCHEME = "dataset://"
_FROZEN = "version://"
_WANTING = ("multilabel", "classify")

_MOST_SAID = 5
_SHARES = {Part.TRAIN: 0.8, Part.VALID: 0.1, Part.TEST: 0.1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Pictures that a job learns from and is measured on.

    Attributes:
        name: as packages and predictions name it: ``rack/3``, or the source's own name.
        digest: of pictures, labels, groups and parts.
        training: what may be learned from.
        validation: what is never learned from and the package is measured on; empty where the data
            has no such part.
        is_drawn: whether ``validation`` was drawn at random, because nobody gave such a part.
        skipped: what the source left out.
        leaks: of a dataset version; a source's are looked for in training.
    """

    name: str
    digest: Digest
    training: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    files: Callable[[Digest], bytes]
    skipped: tuple[Skipped, ...] = ()
    leaks: tuple[Leak, ...] = ()
    is_drawn: bool = False

    @property
    def has_given_part(self) -> bool:
        """Return whether somebody gave a part to measure on."""
        return bool(self.validation) and not self.is_drawn

    def read(self, sample: Sample) -> bytes:
        """The picture's bytes."""
        return self.files(sample.digest)


@contextmanager
def open_data(
    job: TrainJob, *, clock: Clock, records_url: str = "", blobs_url: str = ""
) -> Iterator[Data]:
    """The job's data, open as long as the block.

    Raises:
        InvalidError: nothing to train on, or a dataset without the store it is in.
        NotFoundError: no such source or version.
    """
    if job.data.startswith(_FROZEN):
        with _blobs(blobs_url) as blobs:
            yield _of_version(job, read_version(blobs, job.data), files=blobs.get)
    elif job.data.startswith(_SCHEME):
        with _version(job, clock=clock, records_url=records_url, blobs_url=blobs_url) as data:
            yield data
    else:
        yield _source(job)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Labelled pictures to be measured on, as a person names them.

    Attributes:
        data, images, group: as ``TrainJob`` takes them.
        labels: the names wanted.
        part: ``train``, ``valid`` or ``test``; "" for all.
        task: whose names they are; ``classify`` and ``multilabel`` want labels in the source.
        trained_on: pictures of the package's training. Of files that declare no parts, the part
            ``test`` is all others.
    """

    data: str
    labels: tuple[str, ...] = ()
    images: str = ""
    group: str = ""
    part: str = ""
    task: str = "multilabel"
    trained_on: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledData:
    """Samples with their bytes and what was left out.

    Attributes:
        leaks: of the frozen version they are from.
        version: its digest; None for any other source.
    """

    samples: tuple[Sample, ...]
    files: Callable[[Digest], bytes]
    skipped: tuple[Skipped, ...] = ()
    leaks: tuple[Leak, ...] = ()
    version: Digest | None = None


@contextmanager
def open_labelled(
    source: Labelled, *, clock: Clock, records_url: str = "", blobs_url: str = ""
) -> Iterator[LabelledData]:
    """Labelled pictures, open as long as the block.

    Raises:
        InvalidError: no picture of that part, or a dataset without the store it is in.
        NotFoundError: no such source or version.
    """
    part = part_of(source.part, where="part")
    if not source.data.startswith(_SCHEME):
        wanted = source.labels if source.task in _WANTING else ()
        loaded = load_source(
            source.data,
            labels=wanted,
            images=Path(source.images) if source.images else None,
            group=source.group,
        )
        stored = _of_part(loaded.samples, part, trained_on=source.trained_on)
        yield _opened(
            source, LabelledData(samples=stored, files=loaded.read_file, skipped=loaded.skipped)
        )
        return
    with _library(clock=clock, records_url=records_url, blobs_url=blobs_url) as library:
        version = library.find(*_named(source.data))
        samples = version.part(part) if part else version.samples
        found = LabelledData(
            samples=grouped(samples, rule=source.group),
            files=library.read_file,
            leaks=version.leaks,
            version=version.digest,
        )
        yield _opened(source, found)


def _of_part(
    samples: tuple[Sample, ...], part: Part, *, trained_on: Sequence[Digest]
) -> tuple[Sample, ...]:
    """The samples of a part; where none has one, the test part is what was not trained on."""
    if part is Part.TEST and trained_on and all(one.split is Part.OPEN for one in samples):
        observed = set(trained_on)
        return tuple(one for one in samples if one.digest not in observed)
    return tuple(one for one in samples if not part or one.split is part)


def _opened(source: Labelled, found: LabelledData) -> LabelledData:
    if found.samples:
        return found
    if source.part:
        raise InvalidError(
            f"no pictures in the part {source.part!r} of {source.data}",
            where="part",
            fix="Name other pictures, or put them into folders train, valid and test.",
        )
    raise InvalidError(
        f"no picture can be used{_in_words(found.skipped)}",
        where=source.data,
        fix="Replace what cannot be read; docs/reference/formats.md says what can.",
    )


def _in_words(skipped: Sequence[Skipped]) -> str:
    """The first lines that were left out; "" for none."""
    told = "; ".join(f"{line.where}: {line.reason}" for line in skipped[:_MOST_SAID])
    return f" ({told})" if told else ""


def labels_of(
    source: Labelled, *, clock: Clock, records_url: str = "", blobs_url: str = ""
) -> tuple[str, ...]:
    """Every label that holds on some picture, sorted."""
    bare = replace(source, labels=())
    with open_labelled(bare, clock=clock, records_url=records_url, blobs_url=blobs_url) as found:
        return tuple(sorted({label for sample in found.samples for label in sample.labels}))


def _source(job: TrainJob) -> Data:
    loaded = load_source(
        job.data,
        labels=job.labels or _wanted(job.inspection),
        format=job.format,
        images=Path(job.images) if job.images else None,
        group=job.group,
    )
    parts: Mapping[Part, tuple[Sample, ...]] = {}
    if any(sample.split is not Part.OPEN for sample in loaded.samples):
        parts = split(loaded.samples, shares={Part.TRAIN: 1.0})
    data = _data(
        Path(job.data.partition("?")[0]).resolve().name,
        loaded.samples,
        parts=_parted(job, loaded.samples, parts=parts),
        files=loaded.read_file,
        skipped=loaded.skipped,
    )
    return replace(data, is_drawn=_is_unparted(parts))


def _wanted(inspection: Inspection) -> tuple[str, ...]:
    """Names that a source has to give; of other tasks every name a source has is taken."""
    return label_names(inspection) if str(inspection.task) in _WANTING else ()


def _parted(
    job: TrainJob, samples: tuple[Sample, ...], *, parts: Mapping[Part, tuple[Sample, ...]]
) -> Mapping[Part, tuple[Sample, ...]]:
    """Parts as a learner needs them.

    Labels are judged by cross-validation where the data declares no parts. Other tasks need a part
    to be measured on: what declares none is split 80:10:10 by group, and where there is a test
    part, the validation part is handed to the learner, which may choose and calibrate by it.
    """
    if job.inspection.task is Task.MULTILABEL:
        return parts or {Part.TRAIN: samples}
    if _is_unparted(parts):
        parts = split(samples, seed=job.seed, shares=_SHARES)
    if Part.TEST not in parts:
        return parts
    chosen = tuple(replace(sample, split=Part.VALID) for sample in parts.get(Part.VALID, ()))
    return {Part.TRAIN: (*parts.get(Part.TRAIN, ()), *chosen), Part.TEST: parts[Part.TEST]}


def _is_unparted(parts: Mapping[Part, tuple[Sample, ...]]) -> bool:
    """Return whether there is nothing to measure on."""
    return set(parts) <= {Part.TRAIN}


@contextmanager
def _version(job: TrainJob, *, clock: Clock, records_url: str, blobs_url: str) -> Iterator[Data]:
    with _library(clock=clock, records_url=records_url, blobs_url=blobs_url) as library:
        yield _of_version(job, library.find(*_named(job.data)), files=library.read_file)


def _of_version(
    job: TrainJob, version: DatasetVersion, *, files: Callable[[Digest], bytes]
) -> Data:
    samples = grouped(version.samples, rule=job.group)
    where = {digest: part for part, members in version.splits.items() for digest in members}
    known = {
        part: tuple(s for s in samples if where.get(s.digest, Part.TRAIN) == part)
        for part in (Part.TRAIN, Part.VALID, Part.TEST)
    }
    parts = {part: some for part, some in known.items() if some}
    data = _data(
        f"{version.name}/{version.number}",
        samples,
        parts=_parted(job, samples, parts=parts),
        files=files,
    )
    is_drawn = _is_unparted(parts) or (
        version.parting is not None
        and version.parting.is_default
        and not any(sample.split is Part.TEST for sample in version.samples)
    )
    return replace(data, digest=version.digest, leaks=version.leaks, is_drawn=is_drawn)


@contextmanager
def open_version(
    data: str, *, clock: Clock, records_url: str, blobs_url: str
) -> Iterator[tuple[DatasetVersion, Callable[[Digest], bytes]]]:
    """A frozen version with what reads its pictures, open as long as the block.

    Raises:
        NotFoundError: no such dataset or version.
        InvalidError: no store is named.
    """
    with _library(clock=clock, records_url=records_url, blobs_url=blobs_url) as library:
        yield library.find(*_named(data)), library.read_file


def frozen_data(data: str, *, clock: Clock, records_url: str, blobs_url: str) -> str:
    """``dataset://NAME/N`` as ``version://DIGEST``, which the blobs alone can answer.

    Other data stays as it is.
    """
    if not data.startswith(_SCHEME):
        return data
    with _library(clock=clock, records_url=records_url, blobs_url=blobs_url) as library:
        name, which = _named(data)
        return _FROZEN + library.content(name, library.number_of(name, which))


def read_version(blobs: Blobs, data: str) -> DatasetVersion:
    """The dataset version whose document is a blob."""
    content = blobs.get(Digest(data.removeprefix(_FROZEN)))
    return decode_version(content, where=data)


@contextmanager
def _blobs(url: str) -> Iterator[Blobs]:
    if not url:
        raise InvalidError(
            "a dataset version needs the blobs it is in", where="data", fix="Name the blobs."
        )
    blobs = open_blobs(url)
    try:
        yield blobs
    finally:
        blobs.close()


def is_labelled(sample: Sample) -> bool:
    """Return whether anybody said anything of the picture."""
    marked = sample.marked is not None or sample.mask_digest is not None
    return bool(sample.known) or marked or sample.count is not None


@contextmanager
def _library(*, clock: Clock, records_url: str, blobs_url: str) -> Iterator[Library]:
    if not (records_url and blobs_url):
        raise InvalidError(
            "a dataset is in a store, and none is named",
            where="data",
            fix="Name the hub's file (--config), a folder (--store), or --records and --blobs.",
        )
    with ExitStack() as stack:
        records = stack.enter_context(open_records(records_url, clock=clock))
        blobs = open_blobs(blobs_url)
        stack.callback(blobs.close)
        yield Library(records, blobs, clock=clock)


def _named(data: str) -> tuple[str, str]:
    """A dataset's name, and the number or tag of its version; "" for the newest."""
    name, _, which = data.removeprefix(_SCHEME).partition("/")
    return name, which


def _data(
    name: str,
    samples: tuple[Sample, ...],
    *,
    parts: Mapping[Part, tuple[Sample, ...]],
    files: Callable[[Digest], bytes],
    skipped: tuple[Skipped, ...] = (),
) -> Data:
    training = tuple(sample for sample in parts.get(Part.TRAIN, ()) if is_labelled(sample))
    if not training:
        raise InvalidError(
            f"no labelled training pictures in {name}{_in_words(skipped)}",
            where="data",
            fix="Label some, or check the order and names of the labels.",
        )
    held = [s for part in (Part.VALID, Part.TEST) for s in parts.get(part, ()) if is_labelled(s)]
    unjudged = [
        Skipped(where=sample.name, reason="no label of it was judged")
        for members in parts.values()
        for sample in members
        if not is_labelled(sample)
    ]
    return Data(
        name=name,
        digest=version_digest(
            samples, {part: [s.digest for s in members] for part, members in parts.items()}
        ),
        training=training,
        validation=tuple(held),
        files=files,
        skipped=(*skipped, *unjudged),
    )


_MOST_PICTURES = 3000
_MOST_REGISTERED = 0
OF_VERSION = "as the dataset version says"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakSearch:
    """The leaks, and in words how they were looked for; "" where nobody looked."""

    leaks: tuple[Leak, ...]
    how: str


def leaks_of(data: Data, *, of_version: bool) -> LeakSearch:
    """Pairs that a split may not part, of a version as it says, else looked for now."""
    if of_version:
        return LeakSearch(leaks=data.leaks, how=OF_VERSION)
    if not data.validation:
        return LeakSearch(leaks=(), how="")
    everyone = (*data.training, *data.validation)
    parts = [Part.TRAIN] * len(data.training) + [Part.TEST] * len(data.validation)
    looks, by = look_at(
        everyone,
        read=data.read,
        limits=ComparisonLimits(pictures=_MOST_PICTURES, registered=_MOST_REGISTERED),
    )
    found = check_leaks(everyone, looks, parts=parts, read=data.read)
    how = "; ".join([by or "digests and groups alone", *found.check.gaps])
    return LeakSearch(leaks=found.leaks, how=how)


_WEIGHTS_LICENCE = "Apache-2.0"  # of the trunk; what was learned on top is the data's owner's


def lineage_of(job: TrainJob, *, data: Data, warnings: tuple[str, ...], pictures: int) -> Lineage:
    """Return the lineage of a package."""
    lineage = Lineage(
        dataset=data.name,
        data_digest=data.digest,
        pictures=pictures,
        seed=job.seed,
        code_version=code_version(),
        created_at=job.created_at,
        trained_by=job.trained_by,
        data_licence=job.data_licence,
        weights_licence=_WEIGHTS_LICENCE,
        warnings=warnings,
    )
    if not job.backbone:
        return lineage
    own = backbone_facts(job.backbone)
    return replace(lineage, weights=own.weights, weights_licence=own.licence)


def leak_warning(pairs: int) -> tuple[str, ...]:
    """Return the warning of a leaking split."""
    if not pairs:
        return ()
    said = "1 pair stands" if pairs == 1 else f"{pairs} pairs stand"
    return (f"the data leaks: {said} on both sides of the split; figures are too good",)
