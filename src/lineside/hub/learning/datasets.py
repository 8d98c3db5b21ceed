"""Datasets of the hub: drafts, frozen versions, tags, differences and reports."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lineside.core import (
    Clock,
    Digest,
    FrameId,
    Inspection,
    InvalidError,
    NotFoundError,
    Plant,
    RouteKind,
    encode,
    parse_digest,
)
from lineside.core.factory import StockMessage, read_message
from lineside.core.plant import Slot
from lineside.datasets import (
    ComparisonLimits,
    DatasetVersion,
    Leak,
    Library,
    Part,
    Sample,
    SplitPlan,
    dataset_report,
    diff_versions,
    label_names,
    plan_freeze,
    report_page,
    subject_of_version,
)
from lineside.datasets.library import Draft
from lineside.datasets.report.report import drawn_thumbnail, marked_labels
from lineside.datasets.versions import Tag, VersionDiff, VersionFacts
from lineside.hub.frame_filter import FrameQuery
from lineside.hub.ingest.frames import Frames, picture_of_bytes
from lineside.hub.views import DatasetView, Picture, VersionView
from lineside.store import Blobs, Documents, EventLog, FrameFilter, FrameRow, Logged
from lineside.streams import decode_event

_REPORT = "dataset-report"
HELD_OUT = 0.3
"""Share of the pictures to measure on where a draft is frozen to train on it."""
_MOST_LOOKED_AT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class TagMoved:
    """Body of ``POST …/tags``; version 0 takes the tag off."""

    tag: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parted:
    """Preview of the next version's split.

    Attributes:
        splits: part → pictures.
        labels: label → part → pictures.
    """

    name: str
    splits: dict[str, int]
    labels: dict[str, dict[str, int]] = field(default_factory=dict)


class Versions:
    """Versions of the datasets of a library: figures, tags, differences, reports."""

    def __init__(self, library: Library, documents: Documents, *, blobs: Blobs) -> None:
        self._library = library
        self._documents = documents
        self._blobs = blobs

    def all(self, name: str) -> tuple[VersionView, ...]:
        """Every version in figures, newest first."""
        tags = self._library.tags(name)
        return tuple(view_of(facts, tags) for facts in self._library.versions(name))

    def one(self, name: str, number: int) -> VersionView:
        """The figures of one; ``NotFoundError`` if there is none."""
        for view in self.all(name):
            if view.number == number:
                return view
        raise NotFoundError(f"no version {number} of {name!r}", where=name, fix="List them.")

    def tags(self, name: str) -> tuple[Tag, ...]:
        """Every tag with its moves."""
        return self._library.tags(name)

    def tag(self, name: str, moved: TagMoved, *, by: str) -> Tag:
        """Put a tag on a version, or take it off."""
        if moved.version == 0:
            return self._library.untag(name, moved.tag, by=by)
        return self._library.tag(name, moved.tag, number=moved.version, by=by)

    def diff(self, name: str, *, a: str, b: str) -> VersionDiff:
        """Return the changes from version or tag ``a`` to ``b``; "" is the newest."""
        return diff_versions(self._library.find(name, a), self._library.find(name, b))

    def split(self, name: str, plan: SplitPlan) -> Parted:
        """Say how the next version is parted.

        Raises:
            InvalidError: it cannot be parted like that, or by a pattern: one that takes for ever
                would stop the hub.
        """
        if plan.group.startswith("regex:"):
            raise InvalidError(
                "patterns are taken on the command line only",
                where="group",
                fix="Use another rule, or lineside dataset split.",
            )
        parts = self._library.split(name, plan)
        labels: dict[str, dict[str, int]] = {}
        for part, members in parts.items():
            for label, count in Counter(name for s in members for name in s.labels).items():
                labels.setdefault(label, {})[str(part)] = count
        splits = {str(part): len(members) for part, members in parts.items()}
        return Parted(name=name, splits=splits, labels=dict(sorted(labels.items())))

    def report(self, name: str, number: int) -> bytes:
        """A version's report as one HTML file; made once, then kept with the version."""
        return self._report(name, number)[0]

    def report_json(self, name: str, number: int) -> bytes:
        """The same as JSON."""
        return self._report(name, number)[1]

    def _report(self, name: str, number: int) -> tuple[bytes, bytes]:
        version = self._library.version(name, number)
        key = f"{name}/{version.number:06d}"
        try:
            kept = self._documents.get(_REPORT, key).body
            return self._blobs.get(Digest(kept["page"])), self._blobs.get(Digest(kept["json"]))
        except NotFoundError:
            pass
        subject = subject_of_version(version, most_looked_at=_MOST_LOOKED_AT)
        made = dataset_report(subject, files=self._library.read_file)
        page, told = report_page(made), encode(made)
        digests = self._blobs.put_many([page, told])
        body = {"schema": "lineside.dataset-report-kept/1", "page": digests[0], "json": digests[1]}
        self._documents.put(_REPORT, key, body=body)
        return page, told


def view_of(facts: VersionFacts, tags: Sequence[Tag] = ()) -> VersionView:
    """The figures of a version, with the tags that are on it."""
    return VersionView(
        number=facts.number,
        digest=facts.digest,
        samples=facts.samples,
        splits=dict(facts.splits),
        leaks=facts.leaks,
        leaking=facts.leaking,
        created_at=facts.created_at,
        created_by=facts.created_by,
        tags=tuple(tag.name for tag in tags if tag.version == facts.number),
    )


def kinds_of(samples: Sequence[Sample]) -> dict[str, int]:
    """Count the images by kind of truth; kinds without images are left out."""
    counts = {
        "labels": sum(bool(sample.known) for sample in samples),
        "count": sum(sample.count is not None for sample in samples),
        "objects": sum(sample.marked is not None for sample in samples),
        "mask": sum(sample.mask_digest is not None for sample in samples),
    }
    return {kind: count for kind, count in counts.items() if count}


logger = logging.getLogger(__name__)

_MOST_FRAMES = 20_000
_PAGE = 1000
_LOOK = ComparisonLimits(pictures=5000)  # a person waits for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching:
    """Frames to add to a dataset, and their labels.

    Frames: ``frames`` (ids), or ``where`` (a filter of frames), or the span ``from_frame`` …
    ``to_frame`` of one camera, or ``camera`` with ``since`` and ``until``. Labels: ``labels`` hold
    and ``known`` were judged (empty: every name of the inspection), or ``labels_from`` names the
    stock topic whose message before each frame says it. ``judged`` false: they join without a
    judgement, to be labelled later. A body may say ``from`` and ``to``.
    """

    frames: tuple[str, ...] = ()
    where: FrameQuery | None = None
    judged: bool = True
    from_frame: str = ""
    to_frame: str = ""
    camera: str = ""
    since: datetime | None = None
    until: datetime | None = None
    labels: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    labels_from: str = ""
    inspection: str = ""


class Datasets:
    """The library as the hub uses it."""

    def __init__(
        self,
        library: Library,
        *,
        versions: Versions,
        frames: Frames,
        log: EventLog,
        plant: Plant,
        clock: Clock,
        frozen: Callable[[str, int], None] = lambda _name, _number: None,
    ) -> None:
        """``frozen`` is told of each new version."""
        self._frozen = frozen
        self.versions = versions
        self._library = library
        self._frames = frames
        self._log = log
        self._plant = plant
        self._clock = clock
        self._marked: dict[str, set[str]] = {}

    def names(self) -> tuple[str, ...]:
        """Names of every data set, in order."""
        return tuple(self._library.names())

    def all(self) -> tuple[DatasetView, ...]:
        """Every data set, by name."""
        return tuple(self.one(name) for name in self.names())

    def one(self, name: str) -> DatasetView:
        """``NotFoundError`` if there is none of that name."""
        draft = self._library.draft(name)
        counts = Counter(label for sample in draft.samples for label in sample.labels)
        return DatasetView(
            name=name,
            draft_samples=len(draft.samples),
            labels=dict(sorted(counts.items())),
            versions=self.versions.all(name),
            kinds=kinds_of(draft.samples),
            tags={tag.name: tag.version for tag in self.versions.tags(name) if tag.version},
        )

    def draft(self, name: str) -> Draft:
        """Return the content of the next version."""
        return self._library.draft(name)

    def picture(self, name: str, digest: str) -> Picture:
        """A sample's picture, of the draft or any version.

        Raises:
            NotFoundError: the data set holds no such picture.
        """
        return picture_of_bytes(self._library.read(self.sample(name, digest)))

    def sample(self, name: str, digest: str) -> Sample:
        """One picture with its labels, of the draft or any version; ``NotFoundError`` for none."""
        return self._library.sample(name, parse_digest(digest, where="digest"))

    def drawn(self, name: str, digest: str) -> Picture:
        """The same, small, with its objects and its mask's outline on it."""
        sample = self.sample(name, digest)
        labels, own = self._marked.get(name, set()), marked_labels([sample])
        if not own <= labels:  # the draft is read where it may have a new label, not each time
            labels = self._marked[name] = own | labels | marked_labels(self.draft(name).samples)
        encoded = drawn_thumbnail(sample, labels=labels, files=self._library.read_file)
        return picture_of_bytes(encoded)

    def version(self, name: str, number: int) -> DatasetVersion:
        """A frozen version, 0 for the newest."""
        return self._library.version(name, number)

    def read_file(self, digest: Digest) -> bytes:
        """The bytes of an image, mask or template by digest."""
        return self._library.read_file(digest)

    def leaks(self, name: str, number: int) -> tuple[Leak, ...]:
        """Its leak report."""
        return self._library.version(name, number).leaks

    def freeze(self, name: str, *, by: str) -> VersionView:
        """Freeze the draft; its leak report looks at the regions of the plant's inspection."""
        plan = plan_freeze(self._library, name, inspections=self._plant.inspection, limits=_LOOK)
        known = {facts.number for facts in self._library.versions(name)}
        version = self._library.freeze(name, by=by, plan=plan)
        if version.number not in known:
            self._frozen(name, version.number)
        return self.versions.one(name, version.number)

    def freeze_to_train(self, name: str, *, by: str) -> VersionView:
        """Freeze the draft for a run that the caller starts: no rule is told of the version.

        ``HELD_OUT`` of the pictures without a part is held out to measure on, where nobody said
        how the dataset is split. The draft keeps that split, so that every later version has it.
        """
        plan = plan_freeze(self._library, name, inspections=self._plant.inspection, limits=_LOOK)
        if self._library.draft(name).split is None:
            shares = {Part.TRAIN: 1.0 - HELD_OUT, Part.TEST: HELD_OUT}
            self._library.split(name, SplitPlan(shares=shares, is_default=True))
        version = self._library.freeze(name, by=by, plan=plan)
        return self.versions.one(name, version.number)

    def teach(self, name: str, teaching: Teaching, *, by: str) -> DatasetView:
        """Add frames with labels.

        Raises:
            NotFoundError: a frame is not there.
            InvalidError: no frames chosen, or labels nobody knows.
        """
        rows = self._rows(teaching)
        if not rows:
            raise InvalidError("no frame chosen", where="frames", fix="Name stored frames.")
        if not teaching.judged:
            if teaching.labels or teaching.known or teaching.labels_from:
                raise InvalidError(
                    "labels of frames that nobody judged", where="judged",
                    fix="Leave judged out, or the labels.",
                )  # fmt: skip
            self._library.add_frames(name, rows, by=by)
            return self.one(name)
        inspection = self._inspection(teaching, rows[0])
        for labels, same in self._labelled(rows, teaching, inspection=inspection).items():
            known = teaching.known or label_names(inspection)
            self._library.add_frames(name, same, labels, by=by, known=known)
        logger.info("frames taught dataset=%s frames=%d by=%s", name, len(rows), by)
        return self.one(name)

    def withdraw(self, name: str, frame: str, *, by: str) -> None:
        """Take a frame out of a draft where nobody else judged it."""
        self._library.withdraw(name, self._frames.row(frame).digest, by=by)

    def _inspection(self, teaching: Teaching, row: FrameRow) -> Inspection:
        if teaching.inspection:
            return self._plant.find_inspection(teaching.inspection)
        for inspection in self._plant.inspection:
            if inspection.camera == row.camera:
                return inspection
        raise InvalidError(
            f"no inspection looks through camera {row.camera!r}",
            where="inspection",
            fix="Declare one in the plant file.",
        )

    # ---- frames

    def _rows(self, teaching: Teaching) -> list[FrameRow]:
        if teaching.frames:
            return [self._frames.row(frame) for frame in teaching.frames]
        if teaching.where is not None:
            return self._passing(teaching.where.filter(self._plant))
        if teaching.from_frame or teaching.to_frame:
            return self._span(teaching)
        if not teaching.camera:
            raise InvalidError(
                "frames, from and to, or camera and since", where="frames", fix="Choose frames."
            )
        self._plant.find_camera(teaching.camera)
        return self._page(teaching.camera, since=teaching.since, until=teaching.until)

    def _passing(self, wanted: FrameFilter) -> list[FrameRow]:
        rows: list[FrameRow] = []
        before = ""
        while len(rows) <= _MOST_FRAMES:
            page = self._frames.find(wanted, before=before, limit=_PAGE)
            rows += page.frames
            before = page.following
            if not before:
                return rows
        raise InvalidError(
            f"more than {_MOST_FRAMES} frames", where="where", fix="Narrow the filter."
        )

    def _span(self, teaching: Teaching) -> list[FrameRow]:
        first = self._frames.row(teaching.from_frame or teaching.to_frame)
        last = self._frames.row(teaching.to_frame or teaching.from_frame)
        if first.camera != last.camera:
            raise InvalidError(
                "both ends of the span on one camera", where="to", fix="Choose another frame."
            )
        early, late = sorted((first, last), key=lambda row: (row.captured_at, row.id))
        until = late.captured_at + timedelta(milliseconds=1)
        rows = self._page(early.camera, since=early.captured_at, until=until)
        inside = (early.captured_at, early.id), (late.captured_at, late.id)
        return [row for row in rows if inside[0] <= (row.captured_at, row.id) <= inside[1]]

    def _page(
        self, camera: str, *, since: datetime | None, until: datetime | None
    ) -> list[FrameRow]:
        rows: list[FrameRow] = []
        before = ""
        while True:
            page = self._frames.page(
                camera=camera, since=since, until=until, before=before, limit=_PAGE
            )
            rows += page
            if len(page) < _PAGE:
                return rows
            if len(rows) > _MOST_FRAMES:
                raise InvalidError(
                    f"more than {_MOST_FRAMES} frames", where="since", fix="Choose a shorter span."
                )
            before = FrameId(page[-1].id)

    # ---- labels

    def _labelled(
        self, rows: Sequence[FrameRow], teaching: Teaching, *, inspection: Inspection
    ) -> dict[tuple[str, ...], list[FrameRow]]:
        if not teaching.labels_from:
            _check_labels((*teaching.labels, *teaching.known), inspection)
            return {tuple(teaching.labels): list(rows)}
        stock = self._stock_before(rows, topic=teaching.labels_from)
        slots = self._plant.twin.slot if self._plant.twin else ()
        by_labels: dict[tuple[str, ...], list[FrameRow]] = defaultdict(list)
        for row in rows:
            content = stock.get(row.id)
            if content is not None:
                by_labels[_labels_of(content, slots, inspection=inspection)].append(row)
        if not by_labels:
            raise NotFoundError(
                f"no message on {teaching.labels_from!r} before these frames",
                where="labels_from",
                fix="Name the stock topic of the plant file.",
            )
        return by_labels

    def _stock_before(
        self, rows: Sequence[FrameRow], *, topic: str
    ) -> dict[FrameId, dict[str, str]]:
        """For each frame the content of every place (slot → colour) as last reported before it."""
        told = sorted(
            ((logged.entry.captured_at, _content(logged)) for logged in self._stock(topic)),
            key=lambda pair: pair[0],
        )
        found: dict[FrameId, dict[str, str]] = {}
        place = -1
        for row in sorted(rows, key=lambda row: row.captured_at):
            while place + 1 < len(told) and told[place + 1][0] <= row.captured_at:
                place += 1
            if place >= 0:
                found[row.id] = told[place][1]
        return found

    def _stock(self, topic: str) -> list[Logged]:
        kind = f"lineside.plant.{RouteKind.STOCK}.v1"
        entries: list[Logged] = []
        before = 0
        while page := self._log.read(
            after=before, limit=_PAGE, type=kind, subject=topic, newest_first=True
        ):
            entries += page
            before = page[-1].position
            if len(page) < _PAGE or len(entries) > _MOST_FRAMES:
                break
        return entries


def _content(logged: Logged) -> dict[str, str]:
    data = decode_event(logged.entry.body, where=logged.entry.id).data
    message = read_message(StockMessage, data, where=logged.entry.id)
    return {
        item.location: item.workpiece.type.lower() if item.workpiece else ""
        for item in message.stock_items
    }


def _labels_of(
    content: dict[str, str], slots: Sequence[Slot], *, inspection: Inspection
) -> tuple[str, ...]:
    """Return the label of each region from the stock report, in the inspection's own names."""
    regions = {region.id: region for region in inspection.region}
    labels = []
    for slot in slots:
        region = regions.get(slot.region)
        colour = content.get(slot.id, "")
        colour = "" if colour == "none" else colour
        if region is None:
            continue
        if region.classes:
            labels.append(f"{region.id}/{colour or slot.empty_class}")
        elif colour == slot.colour:
            labels.append(region.label)
    return tuple(labels)


def _check_labels(labels: Sequence[str], inspection: Inspection) -> None:
    known = label_names(inspection)
    for label in labels:
        if label not in known:
            raise InvalidError(
                f"no label {label!r}", where="labels", fix=f"Known: {', '.join(known)}."
            )
