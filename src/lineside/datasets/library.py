"""The datasets of a site, on the store: drafts that grow, versions that never change.

1. A picture is kept by content digest; the same picture added twice is one sample. Its mask and
   template are kept likewise, and versions keep all of them.
2. A judgement that contradicts an earlier one does not replace it: the disputed labels are reported
   and count as not judged until ``annotate`` settles them.
3. Frames are pinned before they are looked at, so that they cannot age out in between.
4. A version is written once. Freezing unchanged content returns the version that holds it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from lineside.core import (
    Clock,
    ConflictError,
    Digest,
    FrameId,
    Inspection,
    InvalidError,
    NotFoundError,
    decode,
    decode_fast,
    digest_of,
    encode,
    to_plain,
)
from lineside.core.errors import retry_stale
from lineside.datasets.annotations import (
    COUNT,
    OBJECTS,
    Annotation,
    Comment,
    Entry,
    ReviewState,
    encoded_mask,
    is_judged_once,
    merged,
    notes,
    pixel_mask,
    relabelled,
    renamed,
    undecided,
)
from lineside.datasets.leaks import (
    Appearance,
    ComparisonLimits,
    NearLimits,
    check_leaks,
    look_at,
    parts_of,
)
from lineside.datasets.samples import Part, Sample, Skipped, check_labels, sample_of_frame
from lineside.datasets.splitting import Parts, SplitPlan, parted
from lineside.datasets.versions import (
    DatasetVersion,
    Judgement,
    Tag,
    TagMove,
    Tags,
    VersionFacts,
    check_name,
    decode_version,
    facts_of,
    version_digest,
)
from lineside.store import Blobs, Document, FrameRow, Records, every_document
from lineside.vision import picture_size


def files_of(sample: Sample) -> tuple[Digest, ...]:
    """Digests of the picture and of what belongs to it: mask and template."""
    beside = (sample.mask_digest, sample.template_digest)
    return (sample.digest, *(digest for digest in beside if digest is not None))


_BATCH = 64
_BATCH_BYTES = 64 * 1024 * 1024

Files = Callable[[Digest], bytes]


def batches(
    items: Iterable[tuple[Sample, tuple[bytes, ...]]],
) -> Iterator[list[tuple[Sample, tuple[bytes, ...]]]]:
    """As many at a time, in pictures and in bytes, as one commit takes."""
    batch: list[tuple[Sample, tuple[bytes, ...]]] = []
    size = 0
    for sample, encoded in items:
        batch.append((sample, encoded))
        size += sum(map(len, encoded))
        if len(batch) >= _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class Incoming:
    """Checks what is to be kept; a template that many share is read once."""

    blobs: Blobs
    files: Files | None
    there: set[Digest] = field(default_factory=set)

    def checked(self, sample: Sample, encoded: bytes) -> tuple[Sample, tuple[bytes, ...]]:
        """The sample with its bytes, then those of mask and template that are not kept yet."""
        _check(sample, encoded, digest=sample.digest)
        beside = [digest for digest in files_of(sample)[1:] if digest not in self.there]
        self.there.update(beside)
        return sample, (encoded, *(self._read(sample, digest) for digest in beside))

    def _read(self, sample: Sample, digest: Digest) -> bytes:
        try:
            encoded = self.files(digest) if self.files else self.blobs.get(digest)
        except NotFoundError as error:
            raise InvalidError(
                "its mask or template is not there", where=sample.name, fix="Hand it in."
            ) from error
        _check(sample, encoded, digest=digest)
        return encoded


def _check(sample: Sample, encoded: bytes, *, digest: Digest) -> None:
    if digest_of(encoded) != digest:
        raise InvalidError(
            "the bytes are not those of the digest", where=sample.name, fix="Read again."
        )
    picture_size(encoded)


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezePlan:
    """The plan of a freeze: how a version is split and searched for leaks.

    Attributes:
        split: how it is parted; None takes what was kept with the draft.
        features: digest → what the picture looks like without its background (``look_at``).
        features_by: what was compared, for the report.
        limits: how many pairs of vectors are compared.
    """

    split: SplitPlan | None = None
    features: Mapping[Digest, Appearance] = field(default_factory=dict)
    features_by: str = ""
    limits: NearLimits = field(default_factory=NearLimits)


def parted_now(
    draft: "Draft", plan: SplitPlan, *, newest: DatasetVersion | None
) -> tuple[tuple[Sample, ...], Parts]:
    """The samples with their groups, and those of each part.

    Pictures that the newest version parted in the same way keep their part.
    """
    before: dict[Digest, Part] = {}
    if newest is not None and newest.parting == plan and plan.shares:
        before = {digest: part for part, held in newest.splits.items() for digest in held}
    return parted(draft.samples, plan, before=before)


MOST_RENAMED = 2_000  # images: others wait meanwhile, some seconds at most
_ONE_SITTING = timedelta(hours=1)
_EVERY, _NEWEST = slice(None), slice(-1, None)
"""Judgements of a picture that are not said again: of an import, and of frames from the line."""
_DATASET = "dataset"
_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Content of the next version.

    Attributes:
        split: how the next version will be parted; None as the source declares.
    """

    name: str
    entries: tuple[Entry, ...]
    versions: int
    split: SplitPlan | None = None

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples, in order of their digests."""
        return tuple(entry.sample for entry in self.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """The result of adding: new images, images that were there, and what needs a review."""

    new: int
    same: int
    reported: tuple[Skipped, ...] = ()


class Library:
    """Datasets by name."""

    def __init__(self, records: Records, blobs: Blobs, *, clock: Clock) -> None:
        self._records = records
        self._blobs = blobs
        self._clock = clock

    def names(self) -> tuple[str, ...]:
        """Every dataset's name, in order."""
        return tuple(
            sorted(document.id for document in every_document(self._records.documents, _DATASET))
        )

    def add(
        self,
        name: str,
        samples: Iterable[tuple[Sample, bytes]],
        *,
        by: str,
        files: Files | None = None,
    ) -> Added:
        """Add pictures with their labels, and with all else that is known of them.

        Args:
            name: of the dataset; made when it is new.
            samples: with the bytes of a JPEG or PNG of the sample's digest; read one by one.
            by: whose labels these are, where a sample does not say so.
            files: gives the bytes of masks and templates by digest; without it they must be in
                the store already.

        Raises:
            InvalidError: bytes that are not those of their digest, or no picture. What was added
                before them stays.
        """
        self._open(name)
        kept = Incoming(self._blobs, files)
        new = same = 0
        reported: list[Skipped] = []
        for batch in batches(kept.checked(sample, encoded) for sample, encoded in samples):
            self._blobs.put_many([one for _, encoded in batch for one in encoded])
            with self._records.transaction():
                for sample, _ in batch:
                    whose = sample.author or by
                    fresh, said = self._judge(name, sample, by=whose, again=_EVERY)
                    new, same = new + fresh, same + (not fresh)
                    reported += said
        return Added(new=new, same=same, reported=tuple(reported))

    def add_frames(
        self,
        name: str,
        rows: Sequence[FrameRow],
        labels: Sequence[str] = (),
        *,
        by: str,
        known: Sequence[str] = (),
    ) -> Added:
        """Add frames of the live line with one judgement for all of them; pins the frames.

        Args:
            name: of the dataset; made when it is new.
            rows: from the frame index; a tombstone has no picture any more and is reported.
            labels: names that hold on each of the frames.
            by: who says so.
            known: further names that were judged and do not hold.
        """
        check_labels(labels, self.purpose(name), None)
        self._open(name)
        self._records.frames.pin([row.id for row in rows], reason=f"dataset:{name}")
        new = same = 0
        reported: list[Skipped] = []
        for row in rows:
            if self._records.frames.get(row.id).aged_out_at is not None:
                reported.append(Skipped(where=row.id, reason="the picture has aged out"))
                continue
            fresh, notes = self._judge(
                name, sample_of_frame(row, labels=labels, known=known), by=by, again=_NEWEST
            )
            new, same = new + fresh, same + (not fresh)
            reported += notes
        return Added(new=new, same=same, reported=tuple(reported))

    def recount(self, name: str, digest: Digest, *, count: int, by: str) -> Entry:
        """Settle how many objects a picture shows; its labels and its mask stay.

        Objects that are marked on it become disputed where they are not so many.
        """

        def settled(entry: Entry) -> Entry:
            marked, left = entry.sample.marked, {*entry.disputed} - {COUNT}
            if marked is not None and len(marked) != count:
                marked, left = None, {*left, OBJECTS}
            sample = replace(entry.sample, count=count, marked=marked, author=by)
            said = self._judgement(sample, by=by)
            return entry.judged_again(sample, said, disputed=tuple(sorted(left)))

        return self._update(name, digest, change=settled)

    def entry(self, name: str, digest: Digest) -> tuple[Entry, int]:
        """A sample of the draft with its revision, which counts its changes from 1.

        Raises:
            NotFoundError: the draft holds no such picture.
        """
        try:
            document = self._records.documents.get(_samples_of(name), digest)
        except NotFoundError as error:
            raise NotFoundError(
                f"no image {digest} in the draft of {name!r}", where=name,
                fix="List them: lineside dataset images.",
            ) from error  # fmt: skip
        return decode_fast(Entry, encode(document.body), where=digest), document.version

    def annotate(
        self,
        name: str,
        digest: Digest,
        annotation: Annotation,
        *,
        review: ReviewState,
        by: str,
        expect: int,
    ) -> int:
        """Replace all that is said of a picture of the draft; gives its new revision.

        What one person saves within the hour is one judgement: a page saves every stroke. What is
        disputed and not judged by it stays disputed.

        Args:
            name: of the dataset.
            digest: of the picture.
            annotation: checked by ``annotation_faults``, its ``known`` filled in.
            review: how far the picture is.
            by: who says so.
            expect: the revision that was changed.

        Raises:
            NotFoundError: the draft holds no such picture.
            ConflictError: somebody else changed it since.
        """
        purpose = self.purpose(name)
        check_labels(annotation.labels, purpose, annotation.marked)
        entry, _ = self.entry(name, digest)
        sample = replace(
            entry.sample,
            labels=annotation.labels,
            known=annotation.known or (),
            count=annotation.count,
            marked=annotation.marked,
            mask_digest=self._mask_of(annotation, entry),
            author=by,
        )
        judgement, last = self._judgement(sample, by=by), entry.judgements[-1]
        left = undecided(entry.disputed, sample, purpose)
        if left != entry.disputed or replace(judgement, at=last.at) != last:
            contradicts = len(entry.judgements) in entry.contradicting
            same = entry.review and last.by == by and judgement.at - last.at < _ONE_SITTING
            if same and not contradicts:
                entry = replace(entry, judgements=entry.judgements[:-1])
            entry = entry.judged_again(sample, judgement, disputed=left)
        fresh = replace(
            entry,
            review=review,
            polygons=annotation.polygons,
            painted=annotation.mask if annotation.polygons else None,
        )
        kind = _samples_of(name)
        return self._records.documents.put(
            kind, digest, body=to_plain(fresh), expect=expect
        ).version

    def _mask_of(self, annotation: Annotation, entry: Entry) -> Digest | None:
        """The file of the mask: the one that is there where its pixels are the same."""
        png = encoded_mask(annotation, size=picture_size(self._blobs.get(entry.sample.digest)))
        kept = entry.sample.mask_digest
        if png is None:
            return None
        if kept is not None and pixel_mask(self._blobs.get(kept)) == pixel_mask(png):
            return kept
        return self._blobs.put(png)

    def comment(self, name: str, digest: Digest, text: str, *, by: str) -> Entry:
        """Add a remark to a picture of the draft."""
        remark = Comment(text=text, by=by, at=self._clock.now())
        return self._update(
            name, digest, change=lambda old: replace(old, comments=(*old.comments, remark))
        )

    def labels(self, name: str) -> tuple[str, ...]:
        """Labels that people declared for a dataset, in the order they did."""
        body = self._records.documents.get(_DATASET, check_name(name)).body
        return tuple(body.get("labels", ()))

    def purpose(self, name: str) -> tuple[str, tuple[str, ...]]:
        """Return the declared task and labels of a good part; "" and empty where nobody did."""
        with suppress(NotFoundError):
            body = self._records.documents.get(_DATASET, check_name(name)).body
            return str(body.get("task", "")), tuple(body.get("good", ()))
        return "", ()

    def declare(
        self, name: str, labels: Iterable[str], *, task: str = "", good: Sequence[str] = ()
    ) -> None:
        """Declare labels of a dataset, which is made when it is new, its task, and its good ones.

        Raises:
            ConflictError: another task was declared; its labels would be useless to this one.
        """
        self._open(name)
        wanted = tuple(labels)

        def declared(body: dict[str, Any]) -> dict[str, Any]:
            known = body.get("task", "")
            if task and known and task != known:
                raise ConflictError(
                    f"the dataset is for the task {known}, not {task}", where=name,
                    fix="Take another name for the other task.",
                )  # fmt: skip
            names = list(dict.fromkeys((*body.get("labels", ()), *wanted)))
            fine = list(good) or body.get("good", [])
            return {"labels": names, "task": task or known, "good": fine}

        self._change(name, declared)

    def relabel(self, name: str, label: str, *, to: str, by: str) -> None:
        """Rename a label of the draft, or make it one with another; all images or none.

        See ``relabelled``. A merge is where ``to`` is a label of the dataset already. What somebody
        saves meanwhile stays, and is renamed as it was saved.

        Raises:
            InvalidError: see ``renamed``; or the label is on more than ``MOST_RENAMED`` images.
        """
        begun = self._clock.now() - timedelta(minutes=1)  # clocks of several hubs differ
        entries, declared = self.draft(name).entries, self.labels(name)
        merges = to in {*declared, *(one for entry in entries for one in entry.names)}

        def change(old: Entry) -> Entry:
            now, odd = relabelled(old, label, to=to, merges=merges)
            if (now, odd) == (old.sample, old.disputed):
                return old
            return old.judged_again(now, self._judgement(now, by=by), disputed=odd)

        def touched(found: Iterable[Entry]) -> list[Digest]:
            return [entry.sample.digest for entry in found if change(entry) is not entry]

        affected = touched(entries)
        if len(affected) > MOST_RENAMED:
            raise InvalidError(
                f"{label!r} is on {len(affected):,} images, more than {MOST_RENAMED:,}",
                fix=f"Run `lineside dataset export {name} --draft --to FOLDER`, rename it in "
                "labels.csv, and import that folder as another dataset.", where="label",
            )  # fmt: skip
        with self._records.transaction():  # others wait: all that can be read before was
            self._change(name, lambda body: renamed(body, label, to=to, merges=merges))
            late = touched(self._entries(name, since=begun))
            for digest in dict.fromkeys((*affected, *late)):
                with suppress(NotFoundError):  # somebody took it out meanwhile
                    self._update(name, digest, change=change)

    @retry_stale
    def _change(self, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Change the dataset's own document; again when somebody else wrote in between."""
        document = self._records.documents.get(_DATASET, check_name(name))
        body = {**document.body, **change(document.body)}
        self._records.documents.put(_DATASET, name, body=body, expect=document.version)

    @retry_stale
    def withdraw(self, name: str, digest: Digest, *, by: str) -> None:
        """Take a frame out of the draft where nothing but one judgement of labels made it.

        It stays where anybody judged it again, drew on it, commented on it or set its state, and
        where somebody saves it meanwhile; absent is fine.
        """
        with suppress(NotFoundError):
            entry, revision = self.entry(name, digest)
            if is_judged_once(entry, by=by):
                self._records.documents.delete(_samples_of(name), digest, expect=revision)

    def draft(self, name: str) -> Draft:
        """Return the content of the next version; ``NotFoundError`` for an unknown name."""
        body = self._records.documents.get(_DATASET, check_name(name)).body
        ordered = sorted(self._entries(name), key=lambda entry: entry.sample.digest)
        split = decode(SplitPlan, body["parting"], where=name) if body.get("parting") else None
        return Draft(name=name, entries=tuple(ordered), versions=int(body["versions"]), split=split)

    def _entries(self, name: str, *, since: datetime | None = None) -> Iterator[Entry]:
        """Entries of the draft, or those written since a moment."""
        for document in every_document(self._records.documents, _samples_of(name), since=since):
            yield decode_fast(Entry, encode(document.body), where=document.id)

    def sample(self, name: str, digest: Digest) -> Sample:
        """A picture of the draft, or of the newest version that holds it.

        Raises:
            NotFoundError: no such dataset, or it never held that picture.
        """
        versions = int(self._records.documents.get(_DATASET, check_name(name)).body["versions"])
        try:
            document = self._records.documents.get(_samples_of(name), digest)
        except NotFoundError:
            for number in range(versions, 0, -1):
                for sample in self.version(name, number).samples:
                    if sample.digest == digest:
                        return sample
            raise
        return decode_fast(Entry, encode(document.body), where=digest).sample

    def split(self, name: str, plan: SplitPlan) -> Parts:
        """Say how the next versions are parted; the parts, as they would be now.

        Raises:
            NotFoundError: no such dataset.
            InvalidError: it is empty, or cannot be parted like that.
        """
        draft = self.draft(name)
        parts = parted_now(draft, plan, newest=self._newest(draft))[1]
        self._change(name, lambda _: {"parting": to_plain(plan)})
        return parts

    def freeze(self, name: str, *, by: str, plan: FreezePlan | None = None) -> DatasetVersion:
        """Make the draft an immutable version with its split and its leak report.

        Pictures that the newest version parted in the same way keep their part.

        Raises:
            NotFoundError: no such dataset.
            InvalidError: it is empty, or cannot be parted as asked.
        """
        plan = plan or FreezePlan()
        draft = self.draft(name)
        newest = self._newest(draft)
        before = newest.parting if newest is not None else None
        # Older releases kept a split that nobody chose with the version alone.
        usual = before if before is not None and before.is_default else SplitPlan()
        split = plan.split or draft.split or usual
        samples, parts = parted_now(draft, split, newest=newest)
        splits = {part: tuple(s.digest for s in members) for part, members in parts.items()}
        digest = version_digest(samples, splits)
        if newest is not None and newest.digest == digest:
            return newest
        report = check_leaks(
            samples, plan.features, parts=parts_of(samples, parts), limits=plan.limits,
            read=lambda sample: self.read_file(sample.digest),
        )  # fmt: skip
        version = DatasetVersion(
            name=name,
            number=(newest.number if newest else 0) + 1,
            digest=digest,
            samples=samples,
            splits=splits,
            leaks=report.leaks,
            created_at=self._clock.now(),
            created_by=by,
            lineage={entry.sample.digest: entry.judgements for entry in draft.entries},
            leaks_by=plan.features_by,
            leak_check=report.check,
            parting=split,
        )
        self._write(version)
        return version

    def _newest(self, draft: Draft) -> DatasetVersion | None:
        """The version before the one a draft becomes; the draft must hold something."""
        if not draft.entries:
            raise InvalidError(
                "nothing to freeze", where=draft.name, fix="Add labelled pictures first."
            )
        return self.version(draft.name) if draft.versions else None

    def version(self, name: str, number: int = 0) -> DatasetVersion:
        """A frozen version; 0 is the newest. ``NotFoundError`` if there is none."""
        content = self._blobs.get(self.content(name, number))
        return decode_version(content, where=f"{name}/{number or 'newest'}")

    def content(self, name: str, number: int = 0) -> Digest:
        """The digest of the document that ``version`` reads, a blob like any other."""
        return Digest(str(self._version_row(name, number).body["content"]))

    def versions(self, name: str) -> tuple[VersionFacts, ...]:
        """Every version in figures, newest first; ``NotFoundError`` for an unknown name."""
        self._records.documents.get(_DATASET, check_name(name))
        rows = list(every_document(self._records.documents, _versions_of(name)))
        return tuple(
            decode(VersionFacts, row.body["facts"], where=f"{name}/{row.id}")
            if "facts" in row.body
            else facts_of(self.version(name, int(row.id)))
            for row in reversed(rows)
        )

    def _version_row(self, name: str, number: int) -> Document:
        newest = int(self._records.documents.get(_DATASET, check_name(name)).body["versions"])
        wanted = number or newest
        if not 1 <= wanted <= newest:
            raise NotFoundError(
                f"no version {wanted} of {name!r}" if newest else f"{name!r} has no version yet",
                where=name,
                fix=f"The newest is {newest}." if newest else "Freeze the draft first.",
            )
        return self._records.documents.get(_versions_of(name), f"{wanted:06d}")

    def find(self, name: str, which: str) -> DatasetVersion:
        """The version of that number or tag; "" is the newest.

        Raises:
            NotFoundError: no such version, or the tag is on none.
        """
        return self.version(name, self.number_of(name, which))

    def number_of(self, name: str, which: str) -> int:
        """The number that a number or tag names; 0 for "", the newest.

        Raises:
            NotFoundError: the tag is on no version.
        """
        if not which or which.isdecimal():
            return int(which[:9] or 0)
        number = self._tags(name).one(which).version
        if not number:
            raise NotFoundError(
                f"tag {which!r} is on no version", where=name, fix="Put it on one first."
            )
        return number

    # ---- tags

    def tags(self, name: str) -> tuple[Tag, ...]:
        """Every tag of a dataset with its moves; ``NotFoundError`` for an unknown name."""
        self._records.documents.get(_DATASET, check_name(name))
        return self._tags(name).all()

    def tag(self, name: str, tag: str, *, number: int = 0, by: str) -> Tag:
        """Put a tag on a version (0: the newest); it leaves the one it was on."""
        wanted = int(self._version_row(name, number).id)
        move = TagMove(version=wanted, by=by, at=self._clock.now())
        return self._tags(name).move(tag, move)

    def untag(self, name: str, tag: str, *, by: str) -> Tag:
        """Take a tag off the version it is on; its history stays."""
        tags = self._tags(name)
        tags.one(tag)
        return tags.move(tag, TagMove(version=0, by=by, at=self._clock.now()))

    def _tags(self, name: str) -> Tags:
        return Tags(self._records.documents, dataset=check_name(name))

    # ---- bytes

    def read(self, sample: Sample) -> bytes:
        """The picture's bytes."""
        return self._blobs.get(sample.digest)

    def read_file(self, digest: Digest) -> bytes:
        """The bytes of a picture, mask or template by digest."""
        return self._blobs.get(digest)

    def _open(self, name: str) -> None:
        """Make the dataset known; one that is there stays as it is."""
        body = {"schema": "lineside.dataset/1", "versions": 0}
        try:
            self._records.documents.put(_DATASET, check_name(name), body=body, expect=0)
        except ConflictError:
            return

    def _judge(
        self, name: str, sample: Sample, *, by: str, again: slice
    ) -> tuple[bool, list[Skipped]]:
        """Add one judgement; whether the picture is new, and what has to be reported."""
        sample = replace(sample, author=by)
        judgement = self._judgement(sample, by=by)
        first = Entry(sample=sample, judgements=(judgement,))
        try:
            self._records.documents.put(
                _samples_of(name), sample.digest, body=to_plain(first), expect=0
            )
        except ConflictError:
            entry = self._update(
                name, sample.digest,
                change=lambda old: merged(
                    old, sample, judgement=judgement, again=again, purpose=self.purpose(name)
                ),
            )  # fmt: skip
            return False, notes(entry, sample)
        return True, []

    def _judgement(self, sample: Sample, *, by: str) -> Judgement:
        return Judgement(
            labels=sample.labels, known=sample.known, by=by, at=self._clock.now(),
            count=sample.count, mask_digest=sample.mask_digest, marked=sample.marked,
        )  # fmt: skip

    @retry_stale
    def _update(self, name: str, digest: Digest, *, change: Callable[[Entry], Entry]) -> Entry:
        """Read, change, write; again when somebody else wrote in between."""
        kind = _samples_of(name)
        document = self._records.documents.get(kind, digest)
        entry = change(decode(Entry, document.body, where=digest))
        self._records.documents.put(kind, digest, body=to_plain(entry), expect=document.version)
        return entry

    def _write(self, version: DatasetVersion) -> None:
        """Content first, then the rows, then the count: what is counted is there."""
        content = self._blobs.put(encode(version))
        self._pin(version)
        dataset = self._records.documents.get(_DATASET, version.name)
        if int(dataset.body["versions"]) != version.number - 1:
            raise ConflictError(
                "somebody froze it meanwhile", where=version.name, fix="Freeze again."
            )
        key = f"{version.number:06d}"
        with self._records.transaction():
            self._keep_pictures(version)
            self._records.documents.put(
                _versions_of(version.name),
                key,
                body={
                    "content": content,
                    "digest": version.digest,
                    "samples": len(version.samples),
                    "facts": to_plain(facts_of(version)),
                },
            )
            self._records.documents.put(
                _DATASET,
                version.name,
                body={**dataset.body, "versions": version.number},
                expect=dataset.version,
            )

    def _pin(self, version: DatasetVersion) -> None:
        frames = [FrameId(s.name) for s in version.samples if s.name.startswith("frm_")]
        if frames:
            reason = f"dataset:{version.name}/{version.number}"
            self._records.frames.pin(frames, reason=reason)

    def _keep_pictures(self, version: DatasetVersion) -> None:
        """Name the version's files in documents, so that the store keeps their bytes."""
        named = (digest for sample in version.samples for digest in files_of(sample))
        digests = list(dict.fromkeys(named))
        for start in range(0, len(digests), _PAGE):
            self._records.documents.put(
                f"dataset-pictures:{version.name}",
                f"{version.number:06d}-{start:08d}",
                body={"pictures": digests[start : start + _PAGE]},
            )


def _samples_of(name: str) -> str:
    return f"dataset-sample:{check_name(name)}"


def _versions_of(name: str) -> str:
    return f"dataset-version:{check_name(name)}"


def plan_freeze(
    library: Library,
    name: str,
    *,
    inspections: Sequence[Inspection],
    limits: ComparisonLimits | None = None,
) -> FreezePlan:
    """A plan whose leak report looks for near-duplicates, as the module says."""
    features, by = look_at(
        library.draft(name).samples, read=library.read, inspections=inspections, limits=limits
    )
    return FreezePlan(features=features, features_by=by)
