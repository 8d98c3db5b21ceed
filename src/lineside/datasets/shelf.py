"""A source's pictures, masks and templates: found, checked whole, and given out by digest."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Lock

from lineside.core import (
    ConflictError,
    Digest,
    InvalidError,
    LinesideError,
    NotFoundError,
    digest_of,
)
from lineside.datasets.formats import Objects, Row
from lineside.datasets.samples import Marked, Sample, Skipped
from lineside.datasets.trees import MOST_PICTURE_BYTES, Tree, inside
from lineside.vision import check_whole

Recipe = Callable[[], bytes]


@dataclass(slots=True)
class Shelf:
    """What has been seen of a source; safe from several threads.

    Attributes:
        tree: the source.
        images: where pictures are instead, if anywhere.
        objects: marked in tables beside the source.
        keep: a folder for the bytes of every file of a bucket.
        notes: for the report.
    """

    tree: Tree
    images: Tree | None = None
    objects: Objects | None = None
    keep: Path | None = None
    notes: list[Skipped] = field(default_factory=list)
    _recipes: dict[Digest, str | Recipe] = field(default_factory=dict)
    _folders: list[str] | None = None
    _lock: Lock = field(default_factory=Lock)

    def sample(self, row: Row) -> Sample:
        """The sample of a row; ``InvalidError`` says what of it cannot be used."""
        digest, size = self._picture(row.file, made=row.picture)
        if row.size not in (None, size):
            raise InvalidError(_other_size(row.file, size, told=row.size))
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
            raise InvalidError(_other_size(row.mask or row.file, size, told=drawn))
        return digest

    def _marked(self, row: Row, size: tuple[int, int]) -> tuple[Marked, ...] | None:
        if row.marked is None:
            return self.objects.marks.get(row.file, ()) if self.objects is not None else None
        if not row.in_shares:
            return row.marked
        width, height = size
        return tuple(
            replace(
                mark,
                x0_px=mark.x0_px * width,
                y0_px=mark.y0_px * height,
                x1_px=mark.x1_px * width,
                y1_px=mark.y1_px * height,
            )
            for mark in row.marked
        )

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


def _other_size(name: str, size: tuple[int, int], *, told: tuple[int, int] | None) -> str:
    width, height = told or (0, 0)
    return f"{name}: made for {width} x {height} pixels, the picture has {size[0]} x {size[1]}"
