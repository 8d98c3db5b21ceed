"""Labelling of a dataset's draft: annotations with their revision, comments, and what is left.

1. An annotation is saved as a whole, and only over the revision that its author has seen. Somebody
   who comes second gets ``LabelConflictError`` with what stands now, and chooses.
2. A label is one that an inspection of the plant answers, one that people declared for the dataset,
   or one that its draft has already.
3. Nothing here is part of a version until the draft is frozen.
"""

import logging
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from math import ceil

from lineside.core import (
    ConflictError,
    Digest,
    Fault,
    InvalidError,
    NotFoundError,
    Plant,
    Task,
    parse_digest,
)
from lineside.datasets import Library, Sample, label_names, shows_defect
from lineside.datasets.annotations import (
    Annotation,
    Comment,
    Entry,
    ReviewState,
    annotation_faults,
    check_comment,
    check_label,
    pixel_mask,
)
from lineside.datasets.report.report import is_drawn_on
from lineside.datasets.samples import Marked, judged
from lineside.hub.learning.datasets import HELD_OUT
from lineside.vision import picture_size
from lineside.vision.metrics import wilson
from lineside.vision.verdict import RejectRule, reject_rule

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedSample:
    """An image of a draft with all that is said of it.

    Attributes:
        revision: counts the changes of the image; a change names the one it was made on.
        picture: address of the image's bytes.
        by, at: who judged it last, and when.
        disputed: what was judged in two ways, until somebody saves a judgement of it.
        contradicting: numbers of the judgements that contradict each other on it.
    """

    dataset: str
    digest: Digest
    name: str
    picture: str
    width_px: int
    height_px: int
    revision: int
    state: ReviewState
    annotation: Annotation
    by: str
    at: datetime
    disputed: tuple[str, ...] = ()
    contradicting: tuple[int, ...] = ()
    comments: tuple[Comment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRow:
    """An image of a draft in a list; ``thumbnail`` shows what is drawn on it."""

    digest: Digest
    name: str
    picture: str
    thumbnail: str
    state: ReviewState
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationChange:
    """Body of ``POST …/samples/{digest}``; ``revision``: the one that it was made on."""

    revision: int
    annotation: Annotation
    state: ReviewState = ReviewState.LABELLED


@dataclass(frozen=True, slots=True, kw_only=True)
class CommentText:
    """Body of ``POST …/comments``."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelList:
    """Labels that may be used in a dataset, those of the plant first; a body adds some.

    ``task``: that the dataset is for; "" where nobody said, and in a body for no change.
    ``good``: labels that mean a good part, every one where they only tell kinds; likewise empty.
    """

    labels: tuple[str, ...] = ()
    task: str = ""
    good: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.task and self.task not in list(Task):
            raise InvalidError(
                f"no task {self.task!r}", where="task", fix=f"Known: {', '.join(Task)}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRename:
    """Body of ``POST …/labels/rename``: a label of the dataset, and its name from now on."""

    label: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelProgress:
    """Images of a draft by how far they are."""

    images: int
    states: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelNeed:
    """Pictures of one kind that a first training wants.

    Attributes:
        label: or what the pictures are of, such as ``pictures with a count``.
        count: that the draft has.
        wanted: that it should have; ``least``: without which no training begins.
        why: what the wanted number is for.
        without: pictures that were judged not to show it, of which a training needs ``least`` too;
            None where it needs none.
    """

    label: str
    count: int
    wanted: int
    least: int
    why: str
    without: int | None = None

    @property
    def missing(self) -> int:
        """Count of those still wanted."""
        return max(0, self.wanted - self.count)

    @property
    def lacking(self) -> tuple[str, ...]:
        """Return the needs of a training that are not met: ``2 more without blue``."""
        more = {"with": self.least - self.count}
        if self.without is not None:
            more["without"] = self.least - self.without
        return tuple(f"{n} more {side} {self.label}" for side, n in more.items() if n > 0)


class LabelConflictError(ConflictError):
    """A change of another revision than the newest; ``stored`` is what stands now."""

    def __init__(self, stored: AnnotatedSample, *, revision: int) -> None:
        super().__init__(
            f"the image is at revision {stored.revision}, last judged by {stored.by}; the change"
            f" was made on revision {revision}",
            where=stored.name,
            fix=f"Compare both (lineside dataset image {stored.dataset} {stored.digest} --json); to"
            f" keep yours, send it again with revision {stored.revision}.",
        )
        self.stored = stored


class Labelling:
    """Annotations of the drafts of a library."""

    def __init__(self, library: Library, *, plant: Plant) -> None:
        self._library = library
        self._plant = plant

    def labels(self, name: str) -> LabelList:
        """The labels to offer in a dataset: its own, and all of inspections that have one of them.

        Of a dataset without labels: those of every inspection.
        """
        return self.labels_among(name, self._library.draft(name).samples)

    def own_labels(self, name: str, samples: Sequence[Sample] = ()) -> LabelList:
        """The labels that were declared for a dataset or stand on samples of it, and its task.

        Where the plant has regions for the inspection of its name, theirs in place of the declared.
        """
        of_draft = {label for one in samples for label in _labels_on(one)}
        drawn = next((one for one in self._plant.inspection if one.id == name and one.region), None)
        named = label_names(drawn) if drawn else self._library.labels(name)
        own = dict.fromkeys((*named, *sorted(of_draft)))
        task, good = self._library.purpose(name)
        return LabelList(labels=tuple(own), task=task, good=good)

    def labels_among(self, name: str, samples: Sequence[Sample]) -> LabelList:
        """The same of samples that were read already."""
        declared = self.own_labels(name, samples)
        own = dict.fromkeys(declared.labels)
        groups = [label_names(one) for one in self._plant.inspection]
        fitting = [group for group in groups if not own.keys().isdisjoint(group)]
        offered = (label for group in fitting or (() if own else groups) for label in group)
        return replace(declared, labels=tuple(dict.fromkeys((*offered, *own))))

    def reject_rule(self, inspection: str) -> RejectRule | None:
        """Return the answers of an inspection that reject a part; None: the usual words.

        By the plant; of one still to come by the labels that people called good in its dataset.
        """
        known = next((one for one in self._plant.inspection if one.id == inspection), None)
        if known is not None:
            return reject_rule(known)
        if inspection not in self._library.names():
            return None
        good = self._library.purpose(inspection)[1]
        return RejectRule(good=good) if good else None

    def check_empty(self, name: str) -> None:
        """Refuse a name whose dataset has images already, with ``ConflictError``."""
        try:
            images = len(self._library.draft(name).entries)
        except NotFoundError:
            return
        if images:
            raise ConflictError(
                f"the dataset has {images} images already", where=name,
                fix="Take another name, or go on with it on the page of that inspection.",
            )  # fmt: skip

    def declare(self, name: str, wanted: LabelList) -> LabelList:
        """Add labels to a dataset, where those that are there stay, and set task and good ones."""
        labels = [check_label(label) for label in wanted.labels]
        good = [check_label(label) for label in wanted.good]
        self._library.declare(name, labels, task=wanted.task, good=good)
        return self.labels(name)

    def rename(self, name: str, wanted: LabelRename, *, by: str) -> LabelList:
        """Rename a label in the draft; where the new name is a label too, both become one.

        Raises:
            NotFoundError: no such dataset, or it has no such label.
            InvalidError: the new name is the old one, cannot name a label, or is of another region;
                or as ``Library.relabel`` says.
        """
        known = self.own_labels(name, self._library.draft(name).samples).labels
        label, to = wanted.label, check_label(wanted.name)
        if label not in known:
            named = ", ".join(known) or "none"
            raise NotFoundError(
                f"the dataset has no label {label!r}", where="label", fix=f"Its labels: {named}."
            )
        regions = [one.rpartition("/")[0] for one in (label, to)]
        if label == to or regions[0] != regions[1]:
            raise InvalidError(
                f"{label!r} cannot become {to!r}", where="name",
                fix="Write another name; of a region's class one of the same region, A1/blue say.",
            )  # fmt: skip
        self._library.relabel(name, label, to=to, by=by)
        logger.info("label renamed dataset=%s label=%s to=%s by=%s", name, label, to, by)
        return self.labels(name)

    def rows(
        self, name: str, *, state: str = "", after: str = "", limit: int = 100
    ) -> tuple[SampleRow, ...]:
        """Images of a draft by capture time and name, those after ``after`` (a digest).

        Raises:
            InvalidError: no such state.
        """
        return rows_of(
            name, self._library.draft(name).entries, state=state, after=after, limit=limit
        )

    def progress(self, name: str) -> LabelProgress:
        """Count the images of a draft by state."""
        return progress_of(self._library.draft(name).entries)

    def one(self, name: str, digest: str, *, judgement: int = 0) -> AnnotatedSample:
        """An image of a draft with its annotation.

        Args:
            name: of the dataset.
            digest: of the image.
            judgement: as the judgement of this number, from 1, annotated it; 0: as it stands.

        Raises:
            NotFoundError: the draft has no such image, or the image no such judgement.
        """
        entry, revision = self._library.entry(name, parse_digest(digest, where="digest"))
        if judgement > len(entry.judgements):
            raise NotFoundError(
                f"no judgement {judgement}", where=entry.sample.name,
                fix=f"The image has {len(entry.judgements)}.",
            )  # fmt: skip
        if judgement:
            said = entry.judgements[judgement - 1]
            sample = replace(
                entry.sample, labels=said.labels, known=said.known, count=said.count,
                mask_digest=said.mask_digest, marked=said.marked,
            )  # fmt: skip
            entry = replace(
                entry, sample=sample, judgements=(said,), disputed=(), polygons=(), painted=None
            )
        return self._view(name, entry, revision)

    def save(self, name: str, digest: str, change: AnnotationChange, *, by: str) -> AnnotatedSample:
        """Replace all that is said of an image.

        Raises:
            NotFoundError: the draft holds no such image.
            InvalidError: the annotation does not fit the image or the labels; every fault.
            LabelConflictError: it was made on another revision than the newest.
        """
        found = parse_digest(digest, where="digest")
        entry, revision = self._library.entry(name, found)
        if revision != change.revision:
            raise LabelConflictError(self._view(name, entry, revision), revision=change.revision)
        wanted = change.annotation
        names = self._names_for(name, entry, wanted)
        size = picture_size(self._library.read(entry.sample))
        check_faults(annotation_faults(wanted, size=size, names=names), where=entry.sample.name)
        if wanted.known is None:
            groups = (*(label_names(one) for one in self._plant.inspection), names)
            wanted = replace(wanted, known=judged_together(wanted.labels, groups))
        try:
            revision = self._library.annotate(
                name, found, wanted, review=change.state, by=by, expect=change.revision
            )
        except ConflictError as error:
            raise LabelConflictError(self.one(name, digest), revision=change.revision) from error
        logger.info("image labelled dataset=%s digest=%s by=%s", name, digest, by)
        entry, revision = self._library.entry(name, found)
        return self._view(name, entry, revision)

    def comment(self, name: str, digest: str, text: str, *, by: str) -> AnnotatedSample:
        """Add a comment to an image; it changes the revision, not the annotation."""
        found = parse_digest(digest, where="digest")
        self._library.comment(name, found, check_comment(text), by=by)
        return self.one(name, digest)

    # ---- parts

    def _names(self, name: str, samples: Sequence[Sample]) -> tuple[str, ...]:
        of_plant = (label for one in self._plant.inspection for label in label_names(one))
        of_draft = {label for sample in samples for label in _labels_on(sample)}
        named = (*of_plant, *self._library.labels(name), *sorted(of_draft))
        return tuple(dict.fromkeys(named))

    def _names_for(self, name: str, entry: Entry, wanted: Annotation) -> tuple[str, ...]:
        """The names that may be used; the whole draft is read only for one that is new."""
        names = self._names(name, [entry.sample])
        used = {*wanted.labels, *(wanted.known or ()), *(m.label for m in wanted.marked or ())}
        if used <= set(names):
            return names
        every = self._names(name, self._library.draft(name).samples)
        if used <= set(every):
            self._library.declare(name, sorted(used - set(names)))
        return every

    def _view(self, name: str, entry: Entry, revision: int) -> AnnotatedSample:
        sample, last = entry.sample, entry.judgements[-1]
        width, height = picture_size(self._library.read(sample))
        mask = entry.painted
        if mask is None and not entry.polygons and sample.mask_digest is not None:
            mask = pixel_mask(self._library.read_file(sample.mask_digest))
        marked = sample.marked and tuple(_cut(one, width, height) for one in sample.marked)
        return AnnotatedSample(
            dataset=name, digest=sample.digest, name=sample.name,
            picture=picture_address(name, sample), width_px=width, height_px=height,
            revision=revision, state=entry.state,
            annotation=Annotation(
                labels=sample.labels, known=sample.known, marked=marked,
                polygons=entry.polygons, mask=mask, count=sample.count,
            ),
            by=last.by, at=last.at, disputed=entry.disputed,
            contradicting=entry.contradicting, comments=entry.comments,
        )  # fmt: skip


def _cut(mark: Marked, width: int, height: int) -> Marked:
    """The mark as an import cuts it; one that lies outside as it is, so that it can be deleted.

    Imports of earlier releases kept boxes over the edge of their image, which a change refuses.
    """
    try:
        return mark.cut_at(width, height=height)
    except InvalidError:
        return mark


def judged_together(labels: Sequence[str], groups: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the names that somebody judged who named these labels alone.

    Labels exclude only names of their own group, an inspection's say; the last group is that of
    all names and takes the labels that no other has.
    """
    left, known = set(labels), dict[str, None]()
    for group in groups[:-1]:
        of_group = [label for label in labels if label in group]
        if of_group:
            known |= dict.fromkeys(judged(of_group, group))
            left -= set(of_group)
    if left:
        others = {name for group in groups[:-1] for name in group}
        own = [name for name in groups[-1] if name not in others]
        known |= dict.fromkeys(judged([name for name in labels if name in left], own))
    return tuple(known)


def check_faults(faults: Sequence[Fault], *, where: str) -> None:
    """Refuse an annotation that has faults, with all of them."""
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise InvalidError(
            f"{faults[0].sentence}{more}",
            where=where,
            fix=faults[0].fix,
            faults=tuple(faults),
        )


def ordered_entries(entries: Sequence[Entry]) -> list[Entry]:
    """Entries in the order in which a person goes through them: by time, then by name."""
    return sorted(
        entries,
        key=lambda entry: (
            entry.sample.captured_at is None,
            entry.sample.captured_at.timestamp() if entry.sample.captured_at else 0.0,
            entry.sample.name,
            entry.sample.digest,
        ),
    )


def rows_of(
    dataset: str, entries: Sequence[Entry], *, state: str = "", after: str = "", limit: int = 0
) -> tuple[SampleRow, ...]:
    """Entries of one state in order, those after ``after`` (a digest); 0: all of them.

    Raises:
        InvalidError: no such state.
    """
    if state and state not in list(ReviewState):
        known = ", ".join(ReviewState)
        raise InvalidError(f"no state {state!r}", where="state", fix=f"Known: {known}.")
    ordered = ordered_entries(entries)
    places = [n for n, entry in enumerate(ordered) if entry.sample.digest == after]
    behind = ordered[places[0] + 1 :] if places else ordered
    found = [entry for entry in behind if not state or entry.state == state]
    return tuple(row_of(dataset, entry) for entry in (found[:limit] if limit else found))


def progress_of(entries: Sequence[Entry]) -> LabelProgress:
    """Count entries by state."""
    counts = Counter(str(entry.state) for entry in entries)
    states = {str(state): counts[state] for state in ReviewState if counts[state]}
    return LabelProgress(images=len(entries), states=states)


_DOUBT = 0.2
_LEAST = 3  # two of three are learned from, and two are the least that a learner takes
_LEAST_GOOD = 8  # five of eight are learned from, the least of the task anomaly


def label_needs(
    task: str,
    labels: Sequence[str],
    samples: Sequence[Sample],
    *,
    needed: AbstractSet[str] = frozenset(),
    good: Collection[str] = (),
) -> tuple[LabelNeed, ...]:
    """Return what a first training of a task wants of a draft, kind by kind.

    So many are wanted that, of those held out to measure on, no mistake at all leaves at most 20 of
    100 possible (the upper end of Wilson's interval); only a share is held out.

    Args:
        task: of the dataset.
        labels: declared or used.
        samples: of the draft.
        needed: labels that a training of presence needs even where no picture shows them yet.
        good: labels that mean a good part; empty: the usual words.
    """
    held_out = next(n for n in count(1) if wilson(0, n).high <= _DOUBT)
    wanted = ceil(held_out / HELD_OUT)
    why = (
        f"{held_out} of them become the test set: were all of these right, up to"
        f" {round(100 * _DOUBT)} of 100 could still be wrong"
    )
    counts: dict[str, int] = {}
    if task == Task.MULTILABEL:
        return _presence_needs(labels, samples, needed=needed, wanted=wanted, why=why)
    if task == Task.CLASSIFY:
        counts = {one: sum(one in sample.labels for sample in samples) for one in labels}
    elif task == Task.ANOMALY:
        bad = Counter(shows_defect(s, good=good) for s in samples if s.labels)
        optional = LabelNeed(
            label="defect", count=bad[True], wanted=wanted, least=0,
            why="not learned from: they say how many slip through",
        )  # fmt: skip
        first = LabelNeed(label="good", count=bad[False], wanted=wanted, least=_LEAST_GOOD, why=why)
        return first, optional
    elif task == Task.DETECT:
        marked = [mark.label for sample in samples for mark in sample.marked or ()]
        counts = {one: marked.count(one) for one in labels}
    elif task == Task.COUNT:
        counts = {"pictures with a count": sum(s.count is not None for s in samples)}
    elif task == Task.SEGMENT:
        drawn = sum(sample.mask_digest is not None for sample in samples)
        fine = sum(shows_defect(s, good=good) is False for s in samples if s.labels)
        counts = {"pictures with a drawn defect": drawn, "good": fine}
    return tuple(
        LabelNeed(label=name, count=number, wanted=wanted, least=_LEAST, why=why)
        for name, number in counts.items()
    )


def _presence_needs(
    labels: Sequence[str], samples: Sequence[Sample], *, needed: AbstractSet[str], wanted: int,
    why: str,
) -> tuple[LabelNeed, ...]:  # fmt: skip
    """Labels and classes; one of several regions with the same classes is learned as one."""
    classes: dict[str, list[str]] = {}
    for name in labels:
        region, _, label = name.rpartition("/")
        classes.setdefault(region, []).append(label)
    heads: dict[tuple[str, ...], list[str]] = {}
    for name in labels:
        region, _, label = name.rpartition("/")
        heads.setdefault((label, *(classes[region] if region else ())), []).append(name)
    found = []
    for (label, *_), names in heads.items():
        shown = sum(any(one in sample.labels for one in names) for sample in samples)
        without = sum(any(_is_absent(one, sample) for one in names) for sample in samples)
        is_used = bool(shown) or not needed.isdisjoint(names)
        found.append(
            LabelNeed(
                label=label, count=shown, wanted=wanted, least=_LEAST if is_used else 0, why=why,
                without=without,
            )
        )  # fmt: skip
    return tuple(found)


def _is_absent(name: str, sample: Sample) -> bool:
    """Return whether a label was judged not to hold, or another class of its region does."""
    region, slash, _ = name.rpartition("/")
    if slash:
        return any(one != name and one.startswith(f"{region}/") for one in sample.labels)
    return name in sample.known and name not in sample.labels


def can_train(needs: Sequence[LabelNeed], *, task: str) -> bool:
    """Return whether a training has what it cannot do without.

    Where it tells kinds: two or more, and enough of each kind that any picture shows. Of things
    that are present or not: enough pictures with each of them, and enough without it.
    """
    enough = [need for need in needs if need.count >= max(1, need.least)]
    if task == Task.CLASSIFY:
        return len(enough) >= 2 and all(need in enough for need in needs if need.count)
    if task == Task.MULTILABEL:
        return bool(enough) and not any(need.lacking for need in needs)
    if task == Task.DETECT:
        return bool(enough)
    return bool(needs) and needs[0] in enough


_GOOD_WORDS = frozenset(
    [
        *("good", "ok", "okay", "pass", "passed", "fine", "clean", "intact", "normal", "io"),
        *("gut", "gutteil", "fehlerfrei", "einwandfrei", "ordnung"),
        *("bon", "bonne", "conforme", "buono", "buona", "bueno", "buena", "correcto", "bom", "boa"),
        *("goed", "dobry", "dobra", "dobre", "dobrá", "dobrý", "jó", "bra", "god"),
        *("iyi", "хорошо", "годен", "良品", "良", "合格", "양품"),
    ]
)
_NOT_WORDS = frozenset(
    ["not", "no", "non", "nicht", "kein", "keine", "n", "pas", "niet", "nie", "ne", "不", "fail"]
)


def guess_good(counts: Mapping[str, int]) -> tuple[str, str]:
    """Return the label that likely means a good part, and why: its name, or the most pictures.

    A guess that a person has to confirm; verdicts go by ``says_good`` and by what people said.

    Args:
        counts: pictures by label, one label or more.
    """
    for label in counts:
        words = set(re.findall(r"\w+", label.casefold().replace(".", "").replace("_", " ")))
        if words & _GOOD_WORDS and not words & _NOT_WORDS:
            return label, "by its name"
    return max(counts, key=counts.__getitem__), "because most pictures show it"


def picture_address(dataset: str, sample: Sample) -> str:
    """Where the bytes of a sample's image are."""
    return f"/datasets/{dataset}/pictures/{sample.digest}"


def row_of(dataset: str, entry: Entry) -> SampleRow:
    """An image of a draft in a list."""
    sample = entry.sample
    picture = picture_address(dataset, sample)
    is_small = sample.name.startswith("frm_") and not is_drawn_on(sample)
    return SampleRow(
        digest=sample.digest, name=sample.name, picture=picture,
        thumbnail=f"/api/v1/frames/{sample.name}/thumbnail" if is_small else f"{picture}/drawn",
        state=entry.state, labels=sample.labels,
    )  # fmt: skip


def _labels_on(sample: Sample) -> tuple[str, ...]:
    return (*sample.known, *(mark.label for mark in sample.marked or ()))
