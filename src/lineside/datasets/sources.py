"""Open a labelled source: find its format, its pictures, and say everything that was left out.

1. A picture is looked for by its written name in the source's own folder, then in each direct
   sub-folder, or only in ``images`` when that is given. A name never leads out of these folders, by
   dots or by links.
2. Every picture is decoded once: what could not be trained on is named here, not hours later.
3. Nothing is listed ahead. Pictures are opened one after the other (of a bucket, a few at once),
   and of a choice only the chosen ones.
4. A mask or template that cannot be used takes its picture with it; a mask has its picture's size.


A choice of a source: all pictures, those of a list of ids, or a seeded sample. A sample is the
pictures whose names hash lowest with the seed: the same on every machine and in any
order of listing, and with a larger number the same ones and more.
"""

import csv
import hashlib
import heapq
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from threading import Lock

from lineside.core import (
    ConflictError,
    Digest,
    InvalidError,
    LinesideError,
    NotFoundError,
    digest_of,
)
from lineside.core.worker import PICTURES_AT_ONCE, prefetch
from lineside.datasets.formats import (
    BOXES,
    POINTS,
    Entry,
    Listing,
    Objects,
    Row,
    SourceRequest,
    left_out,
    none_here,
    read_objects,
    reader_for,
)
from lineside.datasets.samples import Import, Marked, Sample, Skipped, merge_same_pictures
from lineside.datasets.splitting import grouped
from lineside.datasets.trees import (
    ARCHIVES,
    MOST_LIST_BYTES,
    MOST_PICTURE_BYTES,
    ArchiveTree,
    FolderTree,
    Tree,
    composed,
    inside,
    stem_of,
)
from lineside.store import open_objects
from lineside.vision.picture import check_whole

_MOST_IDS_BYTES = 256 * 1024 * 1024
_ID_COLUMNS = ("id", "file", "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The selection of a source.

    Attributes:
        ids: names of pictures, with or without folder and suffix; a number also matches the same
            number padded with zeros. None takes all.
        most: how many to sample; 0 takes all.
        seed: another seed, another sample.
    """

    ids: tuple[str, ...] | None = None
    most: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.most < 0:
            raise InvalidError(f"a sample of {self.most} pictures", fix="Ask for one or more.")
        if self.ids is not None and not self.ids:
            raise InvalidError("no ids", fix="Name one in each line.")


def read_ids(path: Path) -> tuple[str, ...]:
    """The ids in a file: one in each line, or the column ``id``, ``file`` or ``name`` of a CSV.

    Raises:
        NotFoundError: no such file.
        InvalidError: it is no text, or holds none.
    """
    try:
        if path.stat().st_size > _MOST_IDS_BYTES:
            raise InvalidError("a list of ids above 256 MiB", where=str(path), fix="Split it.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise NotFoundError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise InvalidError("not UTF-8 text", where=str(path), fix="Save it as UTF-8.") from error
    found = list(_column(text))
    if not any(found):
        raise InvalidError("no ids in it", where=str(path), fix="Name one in each line.")
    return tuple(dict.fromkeys(word for word in found if word))


def _column(text: str) -> Iterator[str]:
    """The id column of a table, or the lines as they stand."""
    header = [cell.strip() for cell in text.partition("\n")[0].split(",")]
    name = next((name for name in _ID_COLUMNS if name in header), "")
    if not name:
        yield from (line.strip() for line in text.splitlines())
        return
    rows = csv.DictReader(io.StringIO(text.partition("\n")[2], newline=""), fieldnames=header)
    for row in rows:
        yield (row[name] or "").strip()


def plain_number(word: str) -> str:
    """``2`` for ``00002``; other words as they stand."""
    return str(int(word)) if word.isascii() and word.isdigit() else word


def chosen(entries: Iterable[Entry], choice: Choice) -> Iterator[Entry]:
    """The wanted entries; of a sample in the order of their names, else as they come."""
    kept = iter(entries)
    if choice.ids is not None:
        kept = _named(kept, choice.ids)
    if choice.most:
        lowest = heapq.nsmallest(choice.most, kept, key=lambda entry: _rank(entry.file, choice))
        return iter(sorted(lowest, key=lambda entry: entry.file))
    return kept


def _named(entries: Iterator[Entry], ids: Sequence[str]) -> Iterator[Entry]:
    wanted = {form for word in map(composed, ids) for form in (word, plain_number(word))}
    return (entry for entry in entries if not wanted.isdisjoint(_forms(entry.file)))


def _forms(file: str) -> tuple[str, str, str, str]:
    """Return the names that a person may write for an image."""
    file = composed(file)
    stem = stem_of(file)
    return file, PurePosixPath(file).name, stem, plain_number(stem)


def _rank(file: str, choice: Choice) -> bytes:
    return hashlib.sha256(f"{choice.seed}\n{file}".encode()).digest()


Recipe = Callable[[], bytes]


@dataclass(slots=True)
class SourceCache:
    """The parts of a source that were read so far; safe from several threads.

    Attributes:
        tree: the source.
        images: where pictures are instead, if anywhere.
        objects: marked in tables beside the source.
        keep: a folder for the bytes of every file of a bucket.
        named: files of the rows.
    """

    tree: Tree
    images: Tree | None = None
    objects: Objects | None = None
    keep: Path | None = None
    named: set[str] = field(default_factory=set)
    _recipes: dict[Digest, str | Recipe] = field(default_factory=dict)
    _folders: list[str] | None = None
    _lock: Lock = field(default_factory=Lock)

    def sample(self, row: Row) -> Sample:
        """The sample of a row; ``InvalidError`` says what of it cannot be used."""
        self.named.add(composed(row.file))
        digest, size = self._picture(row.file, made=row.picture)
        if row.size not in (None, size):
            raise InvalidError(_other_size(row.file, size, made_for=row.size))
        return Sample(
            name=row.file,
            digest=digest,
            labels=row.labels,
            known=row.known,
            group=row.group,
            split=row.split,
            captured_at=row.captured_at,
            mask=row.mask,
            count=row.count,
            mask_digest=self._mask(row, size),
            template_digest=self._picture(row.template)[0] if row.template else None,
            marked=self._marked(row, size),
            facts=row.facts,
        )

    def read(self, digest: Digest) -> bytes:
        """Bytes of what was seen; ``ConflictError`` when they are others by now."""
        with self._lock:
            recipe = self._recipes.get(digest)
        if recipe is None:
            raise NotFoundError("not a picture of this source", where=digest)
        kept = self.keep / digest.removeprefix("sha256:") if self.keep is not None else None
        if kept is not None and kept.is_file():
            encoded = kept.read_bytes()
        else:
            encoded = self._find(recipe) if isinstance(recipe, str) else recipe()
        if digest_of(encoded) != digest:
            raise ConflictError(
                "the picture changed since the source was read",
                where=recipe if isinstance(recipe, str) else self.tree.where,
                fix="Read the source again.",
            )
        return encoded

    def _picture(self, name: str, *, made: Recipe | None = None) -> tuple[Digest, tuple[int, int]]:
        try:
            encoded = self._find(name) if made is None else made()
            size = check_whole(encoded, max_bytes=MOST_PICTURE_BYTES)
        except LinesideError as error:
            raise InvalidError(f"{name}: {error.message}") from error
        return self._take(encoded, made or name), size

    def _take(self, encoded: bytes, recipe: str | Recipe) -> Digest:
        digest = digest_of(encoded)
        with self._lock:
            self._recipes.setdefault(digest, recipe)
        if self.keep is not None and isinstance(recipe, str):
            (self.keep / digest.removeprefix("sha256:")).write_bytes(encoded)
        return digest

    def _mask(self, row: Row, size: tuple[int, int]) -> Digest | None:
        if row.drawn is not None:
            made = partial(row.drawn, *size)
            digest, drawn = self._picture(row.mask or row.file, made=made)
        elif row.mask:
            digest, drawn = self._picture(row.mask)
        else:
            return None
        if drawn != size:
            raise InvalidError(_other_size(row.mask or row.file, size, made_for=drawn))
        return digest

    def _marked(self, row: Row, size: tuple[int, int]) -> tuple[Marked, ...] | None:
        marks = row.marked
        if marks is None and self.objects is not None:
            marks = self.objects.marked_on(composed(row.file))
        if marks is None:
            return None
        width, height = size
        if row.in_shares:
            marks = tuple(
                replace(
                    mark,
                    x0_px=mark.x0_px * width,
                    y0_px=mark.y0_px * height,
                    x1_px=mark.x1_px * width,
                    y1_px=mark.y1_px * height,
                )
                for mark in marks
            )
        try:
            return tuple(mark.cut_at(width, height=height) for mark in marks)
        except InvalidError as error:
            raise InvalidError(f"{row.file}: {error.message}") from error

    def _find(self, name: str) -> bytes:
        inside(name)
        if self.images is not None:
            return self.images.read(name, most=MOST_PICTURE_BYTES)
        try:
            return self.tree.read(name, most=MOST_PICTURE_BYTES)
        except NotFoundError:
            for folder in self._sub_folders():
                try:
                    return self.tree.read(f"{folder}/{name}", most=MOST_PICTURE_BYTES)
                except NotFoundError:
                    continue
        raise NotFoundError("no such picture in the folder or its direct sub-folders")

    def _sub_folders(self) -> list[str]:
        with self._lock:
            if self._folders is None:
                self._folders = self.tree.folders()
            return self._folders


def _other_size(name: str, size: tuple[int, int], *, made_for: tuple[int, int] | None) -> str:
    width, height = made_for or (0, 0)
    return f"{name}: made for {width} x {height} pixels, the picture has {size[0]} x {size[1]}"


_BUCKET = "s3://"
_FETCHES_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Settings of a reading that few sources need.

    Attributes:
        choice: which pictures are wanted.
        every: of a video, each so many frames one picture.
        keep: a folder for what is fetched from a bucket, so that nothing is fetched twice.
    """

    choice: Choice = field(default_factory=Choice)
    every: int = 1
    keep: Path | None = None


def load_source(
    src: Path | str,
    *,
    labels: Sequence[str] = (),
    format: str = "auto",  # noqa: A002  the command line's word
    images: Path | None = None,
    group: str = "",
    reading: Reading | None = None,
) -> Import:
    """Read a labelled source: a list file, a table, a folder, an archive or a bucket of either.

    Args:
        src: a file such as ``train.lst`` or ``labels.csv``, a folder that holds them or class
            folders, a ``.zip`` or ``.tar`` of such a folder, or ``s3://bucket/prefix``. A folder's
            list files are read together; ``train`` and ``valid`` in their names are their rows'
            parts.
        labels: the wanted names, in the order of a list file's label columns; empty takes what the
            source has.
        format: one of ``FORMATS``, or ``auto``.
        images: where the pictures are, if not beside the list.
        group: a rule of ``grouped``.
        reading: what is wanted of it.

    Raises:
        NotFoundError: there is no such file or folder.
        InvalidError: nothing in it can be read as a labelled source.
    """
    reading = reading or Reading()
    request = _request(src, labels=labels, reading=reading)
    name, reader = reader_for(request, format)
    listing = reader.listing(request)
    cache = SourceCache(
        tree=request.tree,
        images=FolderTree(images) if images is not None else None,
        objects=_objects(request.tree),
        keep=reading.keep if _in_bucket(src) else None,
    )
    entries = _wanted(listing, reading.choice, is_whole=request.is_whole)
    threads = _FETCHES_AT_ONCE if _in_bucket(src) else PICTURES_AT_ONCE
    entries = entries if _in_bucket(src) else _read_in_turn(entries, skipped=listing.skipped)
    samples = _opened(entries, cache=cache, skipped=listing.skipped, threads=threads)
    if not samples and not listing.skipped and name == format:
        raise none_here(request, format)
    ordered = sorted(samples, key=lambda sample: sample.name) if listing.sorts else samples
    if listing.sorts:
        listing.skipped.sort(key=lambda line: line.where)
    merged, doubles = merge_same_pictures(ordered)
    beside = cache.objects.skipped if cache.objects is not None else ()
    if request.is_whole:
        beside += _lost_objects(cache)
    return Import(
        samples=grouped(merged, rule=group),
        skipped=(*listing.skipped, *beside, *doubles),
        format=name,
        reader=cache.read,
    )


def _lost_objects(cache: SourceCache) -> tuple[Skipped, ...]:
    """The report on objects in the tables whose pictures were not read."""
    objects = cache.objects
    lost = sorted((objects.marks.keys() | objects.unread) - cache.named) if objects else []
    if not lost:
        return ()
    reason = f"{len(lost)} files have objects and no row that was read, such as {lost[0]}"
    return (Skipped(where=cache.tree.where, reason=reason),)


def plan_source(
    src: Path | str,
    *,
    labels: Sequence[str] = (),
    format: str = "auto",  # noqa: A002  the command line's word
    group: str = "",
    reading: Reading | None = None,
) -> Import:
    """The rows of a source; none of the images they name has to be there.

    For planning splits and groups of what is not fetched yet. A sample's digest is that of its
    name, so nothing is found to be the same picture, and nothing can be read.
    """
    reading = reading or Reading()
    request = _request(src, labels=labels, reading=reading)
    name, reader = reader_for(request, format)
    listing = reader.listing(request)
    entries = _wanted(listing, reading.choice, is_whole=request.is_whole)
    samples = list(_planned(entries, skipped=listing.skipped))
    if listing.sorts:
        samples.sort(key=lambda sample: sample.name)
    return Import(
        samples=grouped(samples, rule=group),
        skipped=tuple(listing.skipped),
        format=name,
        reader=_not_opened,
    )


def _in_bucket(src: Path | str) -> bool:
    return isinstance(src, str) and src.startswith(_BUCKET)


def _request(src: Path | str, *, labels: Sequence[str], reading: Reading) -> SourceRequest:
    request = partial(
        SourceRequest,
        labels=tuple(labels),
        every=reading.every,
        is_whole=reading.choice == Choice(),
    )
    if _in_bucket(src):
        return request(tree=open_objects(str(src)))
    path = Path(src)
    if not path.exists():
        raise NotFoundError("no such file or folder", where=str(src), fix="Check the path.")
    if path.is_file() and path.suffix.lower() in ARCHIVES:
        return request(tree=_archive(path))
    if path.is_file():
        # COCO keeps its files in a folder beside that of the pictures.
        root = path.parent.parent if path.parent.name == "annotations" else path.parent
        file = path.relative_to(root).as_posix()
        return request(tree=FolderTree(root), file=file, is_whole=False)
    return request(tree=FolderTree(path))


def _archive(path: Path) -> Tree:
    """The archive; where it holds one folder and nothing else, that folder."""
    tree = ArchiveTree(path)
    folders = tree.folders()
    alone = len(folders) == 1 and not any(tree.files())
    return ArchiveTree(path, below=folders[0]) if alone else tree


def _wanted(listing: Listing, choice: Choice, *, is_whole: bool) -> Iterator[Entry]:
    """The chosen entries; of a whole source with the report on what has no partner in it."""
    if choice.ids is not None and listing.of_id is not None:
        named = chain.from_iterable(_of_word(word, listing) for word in choice.ids)
        yield from chosen(named, replace(choice, ids=None))
        return
    yield from chosen(listing.entries, choice)
    if is_whole:
        listing.skipped.extend(listing.unpaired())


def _of_word(word: str, listing: Listing) -> Iterator[Entry]:
    found = False
    for entry in listing.of_id(word) if listing.of_id is not None else ():
        found = True
        yield entry
    if not found:
        listing.skipped.append(Skipped(where=word, reason="no picture of this id"))


def _read_in_turn(entries: Iterable[Entry], *, skipped: list[Skipped]) -> Iterator[Entry]:
    """Entries whose rows are read, so that what a reading reports comes in one order."""
    for entry in entries:
        try:
            row = entry.row()
        except (InvalidError, NotFoundError) as error:
            skipped.append(left_out(entry.where, error))
        else:
            yield replace(entry, row=partial(_same, row))


def _same(row: Row) -> Row:
    return row


def _opened(
    entries: Iterable[Entry], *, cache: SourceCache, skipped: list[Skipped], threads: int
) -> list[Sample]:
    def look(entry: Entry) -> Sample | Skipped:
        try:
            return cache.sample(entry.row())
        except (InvalidError, NotFoundError) as error:
            return left_out(entry.where, error)

    samples: list[Sample] = []
    for found in prefetch(look, entries, threads=threads):
        if isinstance(found, Sample):
            samples.append(found)
        else:
            skipped.append(found)
    return samples


def _planned(entries: Iterable[Entry], *, skipped: list[Skipped]) -> Iterator[Sample]:
    for entry in entries:
        try:
            row = entry.row()
        except (InvalidError, NotFoundError) as error:
            skipped.append(left_out(entry.where, error))
            continue
        yield Sample(
            name=row.file,
            digest=digest_of(row.file.encode()),
            labels=row.labels,
            known=row.known,
            group=row.group,
            split=row.split,
            captured_at=row.captured_at,
            mask=row.mask,
            count=row.count,
            facts=row.facts,
        )


def _not_opened(digest: str) -> bytes:
    raise NotFoundError("the picture was planned with, not opened", where=digest)


def _objects(tree: Tree) -> Objects | None:
    """Objects marked in tables beside the source."""
    found = {
        name: tree.read(name, most=MOST_LIST_BYTES) for name in (BOXES, POINTS) if tree.has(name)
    }
    return read_objects(boxes=found.get(BOXES), points=found.get(POINTS))
