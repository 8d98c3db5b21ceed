"""Open a labelled source: find its format, its pictures, and say everything that was left out.

A picture is looked for by its written name in the source's own folder, then in each direct
sub-folder, or only in ``images`` when that is given. A name never leads out of these folders, by
dots or by links.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lineside.core import ConflictError, Digest, InvalidError, NotFoundError, digest_of
from lineside.datasets.formats import (
    BOXES,
    POINTS,
    Objects,
    Row,
    Source,
    looks_like_folders,
    read_folders,
    read_lst,
    read_objects,
    read_table,
)
from lineside.datasets.grouping import grouped
from lineside.datasets.samples import (
    Import,
    Marked,
    Part,
    Sample,
    Skipped,
    merge_same_pictures,
    part_of,
)
from lineside.vision import picture_size

_LARGEST_LIST = 64 * 1024 * 1024
_LARGEST_PICTURE = 64 * 1024 * 1024
_FORMATS = ("auto", "lst", "csv", "folders")


def load_source(
    src: Path,
    *,
    labels: Sequence[str] = (),
    format: str = "auto",  # noqa: A002  the command line's word
    images: Path | None = None,
    group: str = "",
) -> Import:
    """Read a labelled source: a list file, a CSV table, or a folder of either or of classes.

    Args:
        src: ``train.lst``, ``labels.csv``, a folder that holds them, or a folder of class folders.
            A folder's list files are read together; ``train`` and ``valid`` in their names are
            their rows' parts.
        labels: the wanted names, in the order of a list file's label columns; empty takes what the
            source has.
        format: ``lst``, ``csv``, ``folders``, or ``auto``.
        images: where the pictures are, if not beside the list.
        group: a rule of ``grouped``.

    Raises:
        NotFoundError: there is no such file or folder.
        InvalidError: nothing in it can be read as a labelled source.
    """
    if format not in _FORMATS:
        raise InvalidError(f"format {format!r} is unknown", fix=f"Known: {', '.join(_FORMATS)}.")
    if not src.exists():
        raise NotFoundError("no such file or folder", where=str(src), fix="Check the path.")
    source, root = _read_rows(src, labels=labels, wanted_format=format)
    shelf = _Shelf(root=root, images=images, objects=_objects(root))
    samples = tuple(sample for row in source.rows if (sample := shelf.sample(row)) is not None)
    merged, doubles = merge_same_pictures(samples)
    beside = shelf.objects.skipped if shelf.objects is not None else ()
    return Import(
        samples=grouped(merged, rule=group),
        skipped=(*source.skipped, *beside, *shelf.skipped, *doubles),
        format=source.format,
        reader=shelf.read,
    )


def _read_rows(src: Path, *, labels: Sequence[str], wanted_format: str) -> tuple[Source, Path]:
    if src.is_file():
        kind = {".lst": "lst", ".csv": "csv"}.get(src.suffix.lower(), wanted_format)
        if wanted_format in ("auto", kind) and kind in ("lst", "csv"):
            return _read_files([src], kind=kind, labels=labels), src.parent
        raise InvalidError(
            "this file is no labelled source", where=str(src), fix="Name a .lst or .csv file."
        )
    lists, table = sorted(src.glob("*.lst")), src / "labels.csv"
    if lists and wanted_format in ("auto", "lst"):
        return _read_files(lists, kind="lst", labels=labels), src
    if table.is_file() and wanted_format in ("auto", "csv"):
        return _read_files([table], kind="csv", labels=labels), src
    if wanted_format in ("auto", "folders") and looks_like_folders(src):
        return read_folders(src, labels=labels), src
    raise InvalidError(
        f"no labelled source of format {wanted_format} here",
        where=str(src),
        fix="A folder holds .lst files, a labels.csv, or one folder of pictures per class.",
    )


def _read_files(paths: Sequence[Path], *, kind: str, labels: Sequence[str]) -> Source:
    rows: list[Row] = []
    skipped: list[Skipped] = []
    for path in paths:
        raw = _read_list(path)
        if kind == "lst":
            source = read_lst(raw, where=path.name, labels=labels, split=_part_in_name(path))
        else:
            source = read_table(raw, where=path.name, labels=labels)
        rows += source.rows
        skipped += source.skipped
    return Source(format=kind, rows=tuple(rows), skipped=tuple(skipped))


def _read_list(path: Path) -> bytes:
    if path.stat().st_size > _LARGEST_LIST:
        raise InvalidError("a list above 64 MiB", where=str(path), fix="Split it.")
    return path.read_bytes()


def _objects(root: Path) -> Objects | None:
    """Objects marked in tables beside the source."""
    raw = {name: root / name for name in (BOXES, POINTS)}
    found = {name: _read_list(path) for name, path in raw.items() if path.is_file()}
    return read_objects(boxes=found.get(BOXES), points=found.get(POINTS))


def _part_in_name(path: Path) -> Part:
    """``rack_train.lst`` is the training part; a name without such a word declares none."""
    for word in path.stem.lower().replace("-", "_").replace(".", "_").split("_"):
        try:
            part = part_of(word)
        except InvalidError:
            continue
        if part is not Part.OPEN:
            return part
    return Part.OPEN


@dataclass(slots=True)
class _Shelf:
    """The folders a source's pictures stand in."""

    root: Path
    images: Path | None
    objects: Objects | None = None
    skipped: list[Skipped] = field(default_factory=list)
    paths: dict[Digest, Path] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.images is not None:
            self.folders = [self.images.resolve()]
        else:
            inner = sorted(path for path in self.root.iterdir() if path.is_dir())
            self.folders = [path.resolve() for path in (self.root, *inner)]

    def sample(self, row: Row) -> Sample | None:
        try:
            return Sample(
                name=row.file,
                digest=self._picture(row.file),
                labels=row.labels,
                known=row.known,
                group=row.group,
                split=row.split,
                captured_at=row.captured_at,
                mask=row.mask,
                count=row.count,
                mask_digest=self._picture(row.mask) if row.mask else None,
                template_digest=self._picture(row.template) if row.template else None,
                marked=self._marked(row),
                facts=row.facts,
            )
        except (InvalidError, NotFoundError) as error:
            self.skipped.append(Skipped(where=row.where, reason=error.message))
            return None

    def _picture(self, name: str) -> Digest:
        try:
            path = self.find(name)
            encoded = _read_picture(path)
            picture_size(encoded)
        except (InvalidError, NotFoundError) as error:
            raise InvalidError(f"{name}: {error.message}") from error
        digest = digest_of(encoded)
        self.paths.setdefault(digest, path)
        return digest

    def _marked(self, row: Row) -> tuple[Marked, ...] | None:
        if row.marked is not None or self.objects is None:
            return row.marked
        return self.objects.marks.get(row.file, ())

    def find(self, name: str) -> Path:
        written = PurePosixPath(name)
        if written.is_absolute() or ".." in written.parts:
            raise InvalidError("the name leads out of the folder")
        for folder in self.folders:
            try:
                path = (folder / written).resolve()
                found = path.is_file()
            except (OSError, ValueError) as error:
                raise InvalidError("no usable file name") from error
            if found and not path.is_relative_to(folder):
                raise InvalidError("the name leads out of the folder")
            if found:
                return path
        raise NotFoundError("no such picture in the folder or its direct sub-folders")

    def read(self, digest: Digest) -> bytes:
        path = self.paths.get(digest)
        if path is None:
            raise NotFoundError("not a picture of this source", where=digest)
        encoded = _read_picture(path)
        if digest_of(encoded) != digest:
            raise ConflictError(
                "the picture changed since the source was read",
                where=str(path),
                fix="Read the source again.",
            )
        return encoded


def _read_picture(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST_PICTURE:
            raise InvalidError("a picture above 64 MiB")
        return path.read_bytes()
    except OSError as error:
        raise InvalidError(f"cannot be read: {error.strerror}") from error
