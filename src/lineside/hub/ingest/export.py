"""Frames as files: a table (CSV, Parquet), or images with labels in a ZIP (CSV, COCO).

1. A table has a row for each frame, at most ``MOST_ROWS``, and is written while it is sent.
2. A ZIP is put together in a folder by the writers of datasets, with at most ``MOST_IMAGES``
   images; more are refused. It is sent file by file, uncompressed; then the folder is deleted. One
   ZIP is made and sent at a time.
3. The labels in a file are those that were answered, present or unsure; nobody judged them. COCO
   has the boxes of the answers and the pixels that they mark, with a box around those of each.
4. An image that aged out is in a table, not in a ZIP.
5. What the format of a ZIP has no words for stands in its ``left-out.txt``, a line each.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from numpy.typing import NDArray

from lineside.core import (
    Clock,
    Digest,
    FrameId,
    InvalidError,
    Plant,
    UnavailableError,
    decode,
    digest_of,
    rfc3339,
)
from lineside.datasets import Marked, Sample
from lineside.datasets.formats import box_of, mask_png
from lineside.datasets.writers import write_source
from lineside.hub.ingest.frames import Frames
from lineside.hub.tables import Column, Drain, csv_table, parquet_table
from lineside.store import Blobs, FrameFilter, FrameWithAnswer
from lineside.streams import Event, read_prediction
from lineside.vision import Decision
from lineside.vision.masks import mask_of

MOST_ROWS = 1_000_000
MOST_IMAGES = 5_000
MEDIA: Mapping[str, str] = {
    "zip": "application/zip",
    "coco": "application/zip",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
"""The forms of a file of frames, and what each is called on the wire."""

_PAGE = 1000
_LEFT_S = 86_400.0
_TURN = threading.Lock()
_FACTS = ("frame", "camera", "line", "part", "verdict", "score", "doubt", "inspection", "package")


class FrameFiles:
    """Makes files of the frames that pass a filter."""

    def __init__(
        self, frames: Frames, blobs: Blobs, *, plant: Plant, folder: Path, clock: Clock
    ) -> None:
        """``folder``: where images are put together; it is made where it is missing."""
        self._clock = clock
        self._frames = frames
        self._blobs = blobs
        self._columns = columns_of(plant)
        self._folder = folder

    def pieces(self, wanted: FrameFilter, *, form: str) -> Iterator[bytes]:
        """The file in pieces; it is never whole in memory.

        Raises:
            InvalidError: no such form, more images than a ZIP holds, or none that it has words for.
            MissingExtraError: Parquet, and pyarrow is not installed.
        """
        match form:
            case "csv":
                return csv_table(self._rows(wanted, most=MOST_ROWS), self._columns)
            case "parquet":
                return parquet_table(self._rows(wanted, most=MOST_ROWS), self._columns)
            case "zip" | "coco":
                return self._zip(wanted, form="csv" if form == "zip" else form)
            case _:
                known = ", ".join(MEDIA)
                raise InvalidError(f"no form {form!r}", where="format", fix=f"Known: {known}.")

    def _rows(self, wanted: FrameFilter, *, most: int) -> Iterator[FrameWithAnswer]:
        before, count = "", 0
        while True:
            page = self._frames.find(wanted, before=before, limit=min(_PAGE, most - count))
            yield from page.frames
            before, count = page.following, count + len(page.frames)
            if not before or count >= most:
                return

    def _zip(self, wanted: FrameFilter, *, form: str) -> Iterator[bytes]:
        rows = [row for row in self._rows(wanted, most=MOST_IMAGES + 1) if row.aged_out_at is None]
        if len(rows) > MOST_IMAGES:
            raise too_many_images(fix="Narrow the filter, by time say, or take csv or parquet.")
        masks: dict[Digest, bytes] = {}

        def files(digest: Digest) -> bytes:
            return masks[digest] if digest in masks else self._blobs.get(digest)

        def samples() -> Iterator[Sample]:
            for row in rows:
                sample = sample_of(row, columns=self._columns)
                if form == "coco":
                    marked, mask = drawn_on(self._frames, row.id)
                    digest = digest_of(mask) if mask else None
                    if digest and mask:
                        masks[digest] = mask
                    sample = replace(sample, marked=marked, mask_digest=digest)
                yield sample

        return zip_of_samples(
            samples(), files=files, form=form, folder=self._folder, now=self._clock.now()
        )


def too_many_images(*, fix: str) -> InvalidError:
    """The refusal of a ZIP with more than ``MOST_IMAGES`` images."""
    return InvalidError(f"more than {MOST_IMAGES:,} images", where="format", fix=fix)


def zip_of_samples(
    samples: Iterable[Sample],
    *,
    files: Callable[[Digest], bytes],
    form: str,
    folder: Path,
    now: datetime,
) -> Iterator[bytes]:
    """A ZIP of labelled images in pieces, put together in ``folder`` before the first.

    Raises:
        InvalidError: no such form, or no image that it has words for.
        UnavailableError: another ZIP is being made or sent.
    """
    pieces = _zip_pieces(samples, files=files, form=form, folder=folder, now=now)
    next(pieces)  # begun, so that the turn and the folder go also where nobody reads on
    return pieces


def _zip_pieces(
    samples: Iterable[Sample],
    *,
    files: Callable[[Digest], bytes],
    form: str,
    folder: Path,
    now: datetime,
) -> Iterator[bytes]:
    """An empty piece once the folder is written, then the ZIP."""
    if not _TURN.acquire(blocking=False):
        raise UnavailableError(
            "another export is under way", where="format", fix="Try again when it is done."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _delete_left(folder, now=now)
        with TemporaryDirectory(dir=folder, prefix="frames-") as name:
            written, drain = Path(name) / "frames", Drain()
            notes = write_source(samples, files=files, to=written, format=form).notes
            if notes:
                lines = "".join(f"{one.where}: {one.reason}\n" for one in notes)
                (written / "left-out.txt").write_text(lines, encoding="utf-8")
            yield b""
            with ZipFile(drain, "w", ZIP_STORED) as archive:
                for path in sorted(one for one in written.rglob("*") if one.is_file()):
                    archive.write(path, path.relative_to(written))
                    yield drain.pop()
            yield drain.pop()
    finally:
        _TURN.release()


def _delete_left(folder: Path, *, now: datetime) -> None:
    for old in folder.glob("frames-*"):  # left by a hub that was killed
        if now.timestamp() - old.stat().st_mtime > _LEFT_S:
            rmtree(old, ignore_errors=True)


def columns_of(plant: Plant) -> tuple[Column[FrameWithAnswer], ...]:
    """The columns of a table of frames."""
    lines = {one.id: one.line for one in plant.camera}

    def of_answer(name: str) -> Callable[[FrameWithAnswer], object]:
        return lambda row: None if row.answer is None else getattr(row.answer, name)

    def labels(row: FrameWithAnswer) -> object:
        return ";".join(row.answer.labels) if row.answer else None

    def datasets(row: FrameWithAnswer) -> object:
        held = [pin.removeprefix("dataset:") for pin in row.pins if pin.startswith("dataset:")]
        return ";".join(held)

    return (
        Column(name="frame", kind="text", of=lambda row: row.id),
        Column(name="captured_at", kind="time", of=lambda row: rfc3339(row.captured_at)),
        Column(name="camera", kind="text", of=lambda row: row.camera),
        Column(name="line", kind="text", of=lambda row: lines.get(row.camera, "")),
        Column(name="part", kind="text", of=lambda row: row.part),
        Column(name="verdict", kind="text", of=of_answer("verdict")),
        Column(name="label", kind="text", of=of_answer("label")),
        Column(name="labels", kind="text", of=labels),
        Column(name="score", kind="number", of=of_answer("score")),
        Column(name="doubt", kind="number", of=of_answer("doubt")),
        Column(name="inspection", kind="text", of=of_answer("inspection")),
        Column(name="package", kind="text", of=of_answer("package")),
        Column(name="datasets", kind="text", of=datasets),
        Column(name="width_px", kind="whole", of=lambda row: row.width_px),
        Column(name="height_px", kind="whole", of=lambda row: row.height_px),
        Column(name="size_bytes", kind="whole", of=lambda row: row.size_bytes),
        Column(name="digest", kind="text", of=lambda row: row.digest),
    )


def sample_of(row: FrameWithAnswer, *, columns: Sequence[Column[FrameWithAnswer]]) -> Sample:
    """A frame as a dataset's writers take it: answered labels, and what is known as facts."""
    values = {one.name: one.value(row) for one in columns if one.name in _FACTS}
    return Sample(
        name=row.id,
        digest=row.digest,
        labels=row.answer.labels if row.answer else (),
        group=row.part,
        captured_at=row.captured_at,
        facts={name: "" if value is None else str(value) for name, value in values.items()},
    )


def drawn_on(frames: Frames, frame: FrameId) -> tuple[tuple[Marked, ...], bytes | None]:
    """Return the boxes of all answers to a frame, and the pixels they mark as a PNG, if any.

    Pixels have a box of their own answer's label around them. Where such boxes of two answers
    overlap, the pixels inside both go by both.
    """
    boxes: list[Marked] = []
    pixels: NDArray[np.bool_] | None = None
    for entry in frames.view(frame).predictions:
        prediction = read_prediction(decode(Event, dict(entry.event), where=entry.id))
        boxes += [
            Marked(
                label=one.label, x0_px=one.x0_px, y0_px=one.y0_px, x1_px=one.x1_px, y1_px=one.y1_px
            )
            for one in prediction.boxes
            if one.decision is not Decision.ABSENT
        ]
        said = prediction.mask
        if said is not None and said.share:
            own = mask_of(said.rle, width_px=said.width_px, height_px=said.height_px)
            named = [one for one in prediction.labels if one.decision is not Decision.ABSENT]
            around = box_of(own)
            if not named or around is None:
                continue
            label = max(named, key=lambda one: one.probability).label
            x0, y0, x1, y1 = around
            boxes.append(Marked(label=label, x0_px=x0, y0_px=y0, x1_px=x1, y1_px=y1))
            pixels = own if pixels is None or pixels.shape != own.shape else pixels | own
    return tuple(boxes), None if pixels is None else mask_png(pixels)
