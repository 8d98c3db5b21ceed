"""Files as labelled images of a dataset: looked at first, kept only when a person says so.

1. The upload is a ZIP in any form that ``datasets.load_source`` reads. One of bare images without
   labels is taken too: they are to do.
2. Looking keeps nothing, not even the upload. Its report has the upload's digest; to keep it, the
   same bytes are sent again with that digest, so that what is kept is what was reported.
3. One upload is read at a time. One of more than ``MOST_FILES``, or that unpacks to much more than
   its own size, is refused by its directory before anything of it is read.
4. A judgement that contradicts one of the draft is reported and settled on the label page.
"""

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from lineside.core import (
    ConflictError,
    Digest,
    InvalidError,
    NotFoundError,
    UnavailableError,
    digest_of,
)
from lineside.datasets import Library, Sample, load_source
from lineside.datasets.formats.folders import PICTURE_SUFFIXES
from lineside.datasets.samples import Import, Skipped, checked_import
from lineside.datasets.trees import MOST_PICTURE_BYTES, ArchiveTree, suffix_of, walk
from lineside.hub.learning.datasets import kinds_of
from lineside.vision import picture_size

logger = logging.getLogger(__name__)

BARE = "images"
"""The form of an upload of images without labels."""
MOST_SHOWN = 200
MOST_FILES = 10_000
_UNPACKED_BYTES = 64 * 1024 * 1024
_UNPACKED_TIMES = 20  # lists and tables deflate to a tenth, images hardly


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """Content of an upload, and whether it was kept.

    Attributes:
        digest: of the upload; to keep it, send it again with this.
        form: how it was read, by its word in the table of formats, or ``images``.
        images: that can be read; ``new``: of them, those that the draft does not have yet.
        labels: images on which each holds.
        kinds: images that have ``labels``, a ``count``, ``objects`` or a ``mask``.
        parts: images of each part that the source declares.
        skipped: what was left out or needs a person, at most 200; ``more``: how many beyond.
        added: whether the draft has it now.
    """

    dataset: str
    digest: Digest
    form: str
    images: int
    new: int
    labels: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    more: int = 0
    added: bool = False


class DatasetImports:
    """Uploads of labelled images into the drafts of a library."""

    def __init__(self, library: Library, *, folder: Path) -> None:
        """``folder``: where an upload lies while it is read; it is made where it is missing."""
        self._library = library
        self._folder = folder
        self._turn = threading.Lock()

    def read(self, name: str, data: bytes, *, keep: str = "", by: str) -> ImportReport:
        """Look at an upload; with its digest as ``keep``, add it to the draft.

        Raises:
            InvalidError: it is no ZIP, or nothing in it can be read.
            ConflictError: ``keep`` is the digest of other bytes.
            UnavailableError: another upload is being read.
        """
        digest = digest_of(data)
        if keep and keep != digest:
            raise ConflictError(
                "these are not the files that were reported", where="keep", fix="Look again."
            )
        with self._opened(data) as opened:
            found = checked_import(opened, self._library.purpose(name))
            if not found.samples:
                first = found.skipped[0] if found.skipped else None
                why = f": {first.where}: {first.reason}" if first else ""
                raise InvalidError(
                    f"no image of it can be imported{why}", where="body",
                    fix="Replace what cannot be read; docs/reference/formats.md says what can.",
                )  # fmt: skip
            new = sum(self._is_new(name, sample.digest) for sample in found.samples)
            notes = found.skipped
            if keep:
                images = ((sample, found.read(sample)) for sample in found.samples)
                result = self._library.add(name, images, by=by, files=found.read_file)
                notes = (*notes, *result.reported)
                logger.info("files imported dataset=%s images=%d by=%s", name, new, by)
            return report_of(name, digest, found, new=new, notes=notes, is_added=bool(keep))

    def _is_new(self, name: str, digest: Digest) -> bool:
        try:
            self._library.entry(name, digest)
        except NotFoundError:
            return True
        return False

    @contextmanager
    def _opened(self, data: bytes) -> Iterator[Import]:
        if not self._turn.acquire(blocking=False):
            raise UnavailableError(
                "another import is under way", where="body", fix="Try again when it is done."
            )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=self._folder, prefix="import-") as made:
                path = Path(made) / "upload.zip"
                path.write_bytes(data)
                yield read_upload(path)
        finally:
            self._turn.release()


def read_upload(path: Path) -> Import:
    """Read a ZIP of labelled images in any form, or one of bare images in a single folder.

    Raises:
        InvalidError: no ZIP, more than ``MOST_FILES``, or its files are more than 64 MiB and 20
            times its size.
    """
    tree = ArchiveTree(path, most_files=MOST_FILES)
    most = max(_UNPACKED_BYTES, _UNPACKED_TIMES * path.stat().st_size)
    if tree.unpacked_bytes > most:
        raise InvalidError(
            f"its files are {tree.unpacked_bytes:,} bytes unpacked, at most {most:,} are taken",
            where="body", fix="Send fewer files at a time, or use `lineside dataset import`.",
        )  # fmt: skip
    names = sorted(walk(tree))
    folders = {name.rpartition("/")[0] for name in names}
    if names and len(folders) == 1 and all(suffix_of(one) in PICTURE_SUFFIXES for one in names):
        return _bare(tree, names)
    found = load_source(path)
    skipped = (replace(one, where=one.where.replace(str(path), path.name)) for one in found.skipped)
    return replace(found, skipped=tuple(skipped))


def _bare(tree: ArchiveTree, names: Sequence[str]) -> Import:
    """Images of which nothing is known yet; those that cannot be read are reported."""
    found: dict[Digest, Sample] = {}
    skipped: list[Skipped] = []
    places: dict[Digest, str] = {}
    for name in names:
        try:
            encoded = tree.read(name, most=MOST_PICTURE_BYTES)
            picture_size(encoded)
        except InvalidError as error:
            skipped.append(Skipped(where=name, reason=error.message))
            continue
        digest = digest_of(encoded)
        if digest in found:
            reason = f"the same picture as {found[digest].name}; kept once"
            skipped.append(Skipped(where=name, reason=reason))
            continue
        places[digest] = name
        found[digest] = Sample(name=name.rpartition("/")[2], digest=digest)

    def read(digest: Digest) -> bytes:
        return tree.read(places[digest], most=MOST_PICTURE_BYTES)

    return Import(samples=tuple(found.values()), skipped=tuple(skipped), format=BARE, reader=read)


def report_of(
    name: str,
    digest: Digest,
    found: Import,
    *,
    new: int,
    notes: Sequence[Skipped],
    is_added: bool,
) -> ImportReport:
    """The figures of an upload."""
    labels = Counter(label for sample in found.samples for label in sample.labels)
    parts = Counter(str(sample.split) for sample in found.samples if sample.split)
    return ImportReport(
        dataset=name,
        digest=digest,
        form=found.format,
        images=len(found.samples),
        new=new,
        labels=dict(sorted(labels.items())),
        kinds=kinds_of(found.samples),
        parts=dict(parts),
        skipped=tuple(notes[:MOST_SHOWN]),
        more=max(0, len(notes) - MOST_SHOWN),
        added=is_added,
    )
