"""Videos become frames that are read again without keeping any."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from lineside.core import ConflictError, InvalidError
from lineside.datasets import load_source
from lineside.datasets.sources import Reading
from lineside.vision import decode_picture


def write(path: Path, *, frames: int, rate: float = 4.0, code: str = "MJPG") -> Path:
    fourcc = cv2.VideoWriter.fourcc(*code)
    writer = cv2.VideoWriter(str(path), fourcc, rate, (64, 48))
    rng = np.random.default_rng(1)
    for number in range(frames):
        image = rng.integers(0, 60, (48, 64, 3)).astype(np.uint8)
        image[:, : 1 + number] = 255
        writer.write(image)
    writer.release()
    return path


@pytest.mark.parametrize(("suffix", "code"), [(".avi", "MJPG"), (".mp4", "mp4v")])
def test_each_so_many_frames_is_a_picture_and_reads_again_in_any_order(
    *, tmp_path: Path, suffix: str, code: str
) -> None:
    path = write(tmp_path / f"clip{suffix}", frames=50, code=code)
    found = load_source(path, reading=Reading(every=20))
    assert found.format == "video"
    assert [sample.name for sample in found.samples] == [
        "clip/000000.png",
        "clip/000020.png",
        "clip/000040.png",
    ]
    assert [sample.group for sample in found.samples] == [
        f"clip{suffix} 0000",
        f"clip{suffix} 0000",
        f"clip{suffix} 0001",
    ]
    assert found.samples[1].facts == {"frame": "20", "seconds": "5.000"}
    white = [
        int((decode_picture(found.read(sample)).min(axis=(0, 2)) > 150).sum())
        for sample in reversed(found.samples)
    ]
    assert white == pytest.approx([41, 21, 1], abs=2)


def test_all_videos_of_a_folder_are_read(tmp_path: Path) -> None:
    write(tmp_path / "a.avi", frames=2)
    write(tmp_path / "b.avi", frames=1)
    (tmp_path / "c.avi").write_bytes(b"RIFF none")
    found = load_source(tmp_path)
    names = [sample.name for sample in found.samples]
    assert names == ["a/000000.png", "a/000001.png"]  # the first of both is the same picture
    assert {note.where for note in found.skipped} == {"b/000000.png", "c.avi"}


def test_a_video_that_changed_is_a_conflict(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.avi", frames=4)
    found = load_source(path)
    write(path, frames=2)
    with pytest.raises(ConflictError):
        found.read(found.samples[3])
    with pytest.raises(InvalidError, match="each 0 frames"):
        load_source(path, reading=Reading(every=0))
