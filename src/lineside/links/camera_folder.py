"""``folder:<path>``: the pictures of a folder, in the order of their names; then it ends.

A file's modification time is its capture time.
"""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from lineside.core import Camera as CameraRecord
from lineside.core import Clock, NotFoundError, RefusedError
from lineside.links.contract import Bus, Refused, Shot
from lineside.links.shots import UNREADABLE, ShotCamera, whole_ms

_KINDS = frozenset({".jpg", ".jpeg", ".png"})


def open_folder_camera(
    camera: CameraRecord,
    *,
    clock: Clock,
    bus: Bus | None,  # noqa: ARG001  every opener takes the same
    refused: Refused,
) -> "FolderCamera":
    """Look whether the folder can be read."""
    folder = Path(camera.source.removeprefix("folder:"))
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _KINDS)
    except PermissionError as error:
        raise RefusedError("may not be read", where=str(folder), fix="Allow reading.") from error
    except OSError as error:
        raise NotFoundError(
            f"no folder to read: {error.strerror}", where=str(folder), fix="Name a folder."
        ) from error
    return FolderCamera(camera, files=files, clock=clock, refused=refused)


class FolderCamera(ShotCamera):
    """Each file once."""

    def __init__(
        self, camera: CameraRecord, *, files: list[Path], clock: Clock, refused: Refused
    ) -> None:
        super().__init__(refused=refused)
        self._camera = camera
        self._files = files
        self._clock = clock
        self._stop = threading.Event()

    def shots(self) -> Iterator[Shot]:
        for number, path in enumerate(self._files, start=1):
            if self._stop.is_set():
                return
            try:
                size = path.stat()
                encoded = path.read_bytes() if self._fits(path, size.st_size) else b""
            except OSError as error:
                self._refused(UNREADABLE, f"{path}: {error.strerror}")
                continue
            if encoded:
                yield Shot(
                    camera=self._camera.id,
                    captured_at=whole_ms(datetime.fromtimestamp(size.st_mtime, tz=UTC)),
                    encoded=encoded,
                    sequence=number,
                    arrived_s=self._clock.monotonic(),
                    max_bytes=self._camera.max_frame_bytes,
                )

    def _fits(self, path: Path, size_bytes: int) -> bool:
        limit = self._camera.max_frame_bytes
        fits = 0 < size_bytes <= limit
        if not fits:
            self._refused(UNREADABLE, f"{path}: {size_bytes} bytes, 1 to {limit} are taken")
        return fits

    def close(self) -> None:
        """End ``shots`` before the next file."""
        self._stop.set()
