"""Video files into frames: each so many frames one picture, lossless.

1. A frame is named ``clip/000120.png`` by its number from 0 in the whole video.
2. Frames of one clip within ten seconds are one group: neighbours in time are alike, and no split
   may part them.
3. No frame is kept. What is asked for again is sought in the file, or the file is read from its
   beginning where its codec seeks badly; the picture's digest says which was right.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lineside.core import Digest, InvalidError, digest_of, need
from lineside.datasets.formats.rows import Entry, Listing, Row
from lineside.datasets.samples import Skipped
from lineside.datasets.trees import FolderTree, Tree, suffix_of
from lineside.vision import encode_png
from lineside.vision.picture import new_capture

if TYPE_CHECKING:
    import cv2

SUFFIXES = (".avi", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".webm")
_BLOCK_S = 10.0
_USUAL_HZ = 25.0


def looks_like_video(tree: Tree) -> bool:
    """Return whether a tree holds videos."""
    return any(suffix_of(name) in SUFFIXES for name in tree.files())


def list_video(tree: Tree, name: str, *, every: int = 1) -> Listing:
    """Each so many frames of one video."""
    if not isinstance(tree, FolderTree):
        raise InvalidError(
            "videos are read from folders", where=tree.where, fix="Copy it to this machine."
        )
    if every < 1:
        raise InvalidError(f"each {every} frames", fix="Take each frame, each second, ….")
    path = tree.path(name)
    listing = Listing(format="video", entries=iter(()))

    def entries() -> Iterator[Entry]:
        rate = _rate(path)
        for number, encoded in _frames(path, every=every):
            yield _entry(path, number, encoded, rate=rate)
        if not _opens(path):
            reason = "no video that can be read; convert it to MP4"
            listing.skipped.append(Skipped(where=name, reason=reason))

    return replace(listing, entries=entries())


def _entry(path: Path, number: int, encoded: bytes, *, rate: float) -> Entry:
    seconds = number / rate
    row = Row(
        where=f"{path.name}, frame {number}",
        file=f"{path.stem}/{number:06d}.png",
        group=f"{path.name} {int(seconds // _BLOCK_S):04d}",
        facts={"frame": str(number), "seconds": f"{seconds:.3f}"},
        picture=partial(_again, path, number, digest=digest_of(encoded)),
    )
    return Entry(file=row.file, where=row.where, row=lambda: row)


def _capture(path: Path) -> "cv2.VideoCapture":
    capture: cv2.VideoCapture = new_capture()
    capture.open(str(path), need("cv2", extra="edge").CAP_FFMPEG)
    return capture


def _opens(path: Path) -> bool:
    capture = _capture(path)
    try:
        return bool(capture.isOpened())
    finally:
        capture.release()


def _rate(path: Path) -> float:
    cv2 = need("cv2", extra="edge")
    capture = _capture(path)
    try:
        rate = float(capture.get(cv2.CAP_PROP_FPS))
    finally:
        capture.release()
    return rate if np.isfinite(rate) and rate > 0 else _USUAL_HZ


def _frames(path: Path, *, every: int, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Each so many frames with their numbers; the others are passed over undecoded."""
    capture = _capture(path)
    try:
        number = 0
        while capture.grab():
            if number >= start and number % every == 0:
                good, image = capture.retrieve()
                if good:
                    yield number, _encoded(image)
            number += 1
    finally:
        capture.release()


def _encoded(image: object) -> bytes:
    return encode_png(np.ascontiguousarray(np.asarray(image, np.uint8)[..., ::-1]))


def _again(path: Path, number: int, *, digest: Digest) -> bytes:
    """The bytes of a frame seen before."""
    cv2 = need("cv2", extra="edge")
    capture = _capture(path)
    try:
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        good, image = capture.read()
    finally:
        capture.release()
    sought = _encoded(image) if good else b""
    if digest_of(sought) == digest:
        return sought
    return next(_frames(path, every=max(number, 1), start=number), (number, b""))[1]
