"""``folder:<path>``: the pictures that stand in a folder and those that are put there later.

1. The folder is looked at twenty times a second, less often where a look takes long. A picture is
   taken when its size and time have not changed since the look before and it has its format's end,
   or when they have not changed for half a second: a file that is still being written is left until
   it is whole. Older files are taken at once when the camera is opened.
2. Pictures are taken in the order of their modification times, which are their capture times; at
   one look, files of one time in the order of their names.
3. Each file is taken once. With ``folder:<path>?move=<folder>`` it is moved there once its picture
   was dealt with; a relative name is seen from the watched folder. Else the camera remembers name,
   size and time of what it took, in the device's data folder where it has one: a file that is
   written anew is another picture, and a restart takes none twice.
4. A folder that vanishes is waited for, as any camera that is lost.
"""

import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from urllib.parse import parse_qs

from lineside.core import Camera as CameraRecord
from lineside.core import Clock, InvalidError, NotFoundError, RefusedError, UnavailableError
from lineside.core.files import replace_durably
from lineside.links.contract import Bus, Refused, Shot
from lineside.links.shots import NOT_PUT_AWAY, UNREADABLE, ShotCamera, whole_ms

logger = logging.getLogger(__name__)

_KINDS = frozenset({".jpg", ".jpeg", ".png"})
_LOOK_S = 0.05
_SETTLED_S = 0.5
_ENDS = (b"\xff\xd9", b"IEND\xaeB`\x82")
_TAIL_BYTES = 4096
_MOST_LOOKING = 0.05  # share of the time
_MOST_LINES = 10_000

_State = tuple[int, int]
"""Modification time (ns) and size (bytes) of a file."""


def open_folder_camera(
    camera: CameraRecord,
    *,
    clock: Clock,
    bus: Bus | None,  # noqa: ARG001  every opener takes the same
    refused: Refused,
    folder: Path | None = None,
) -> "FolderCamera":
    """Open the folder of a camera.

    Args:
        camera: its ``source`` names the folder.
        clock: gives the time of arrival.
        bus: not used.
        refused: told of each file that gave no picture.
        folder: where the camera remembers what it took; None: until it is closed.

    Raises:
        NotFoundError: no such folder.
        RefusedError: the folder, or the one to move to, may not be used.
        InvalidError: the address has an unknown option.
    """
    path, _, options = camera.source.reveal().removeprefix("folder:").partition("?")
    watched = Path(path)
    moved_to = _move_option(options, watched=watched, where=camera.source)
    try:
        now_ns = clock.now().timestamp() * 1e9
        first = {
            name: (state, -_SETTLED_S)
            for name, state in _states(watched).items()
            if now_ns - state[0] > _SETTLED_S * 1e9
        }
        if moved_to is not None:
            moved_to.mkdir(exist_ok=True)
    except PermissionError as error:
        raise RefusedError(
            "may not be used", where=str(error.filename), fix="Allow reading and, to move, writing."
        ) from error
    except OSError as error:
        raise NotFoundError(
            f"no folder to read: {error.strerror}", where=str(watched), fix="Name a folder."
        ) from error
    memory = folder / f"camera-{camera.id}.taken" if folder is not None else None
    return FolderCamera(
        camera, watched=watched, moved_to=moved_to, memory=memory, first=first, clock=clock,
        refused=refused,
    )  # fmt: skip


class FolderCamera(ShotCamera):
    """Watches a folder until it is closed; see the module's rules."""

    def __init__(
        self, camera: CameraRecord, *, watched: Path, moved_to: Path | None, memory: Path | None,
        first: dict[str, tuple[_State, float]], clock: Clock, refused: Refused,
    ) -> None:  # fmt: skip
        super().__init__(refused=refused)
        self._camera = camera
        self._watched = watched
        self._moved_to = moved_to
        self._memory = memory
        self._before = first
        self._clock = clock
        self._taken = _remembered(memory)
        self._lines = _MOST_LINES + 2 * len(self._taken)  # written anew at the first file
        self._fault = ""
        self._stop = threading.Event()

    def shots(self) -> Iterator[Shot]:
        number = 0
        while not self._stop.is_set():
            began_s = monotonic()
            complete = self._complete()
            pause_s = max(_LOOK_S, (monotonic() - began_s) / _MOST_LOOKING)
            for name, state in complete:
                number += 1
                shot = self._shot(name, state, number=number)
                if shot is not None:
                    yield shot
                self._finish(name, state)  # asked for the next: this one was dealt with
                if self._stop.is_set():
                    return
            self._stop.wait(pause_s)

    def fault(self) -> str:
        return self._fault

    def close(self) -> None:
        """End ``shots`` before the next file."""
        self._stop.set()

    def _complete(self) -> list[tuple[str, _State]]:
        """Return the files to take now, in order; each is whole and was not taken before."""
        try:
            states = _states(self._watched)
        except OSError as error:
            if not self._fault:
                logger.warning("camera lost camera=%s: %s", self._camera.id, error)
            self._fault = f"the folder cannot be read: {error.strerror}"
            return []
        if self._fault:
            logger.info("camera regained camera=%s", self._camera.id)
            self._fault = ""
        before, now_s = self._before, monotonic()
        self._before = {
            name: before[name] if name in before and before[name][0] == state else (state, now_s)
            for name, state in states.items()
        }
        self._taken = {name: state for name, state in self._taken.items() if name in states}
        ready = [
            (name, state)
            for name, (state, since_s) in self._before.items()
            if self._taken.get(name) != state
            and self._is_whole(name, state, unchanged_s=now_s - since_s)
        ]
        return sorted(ready, key=lambda item: (item[1][0], item[0]))

    def _is_whole(self, name: str, state: _State, *, unchanged_s: float) -> bool:
        if 0 < unchanged_s < _SETTLED_S and state[1] > 0:
            with suppress(OSError), (self._watched / name).open("rb") as file:
                file.seek(max(0, state[1] - _TAIL_BYTES))
                return file.read(_TAIL_BYTES).rstrip(b"\0").endswith(_ENDS)
        return unchanged_s >= _SETTLED_S

    def _shot(self, name: str, state: _State, *, number: int) -> Shot | None:
        path = self._watched / name
        modified_ns, size_bytes = state
        limit = self._camera.max_frame_bytes
        if not 0 < size_bytes <= limit:
            self._refused(UNREADABLE, f"{path}: {size_bytes} bytes, 1 to {limit} are taken")
            return None
        try:
            encoded = path.read_bytes()
        except OSError as error:
            self._refused(UNREADABLE, f"{path}: {error.strerror}")
            return None
        return Shot(
            camera=self._camera.id,
            captured_at=whole_ms(datetime.fromtimestamp(modified_ns / 1e9, tz=UTC)),
            encoded=encoded,
            sequence=number,
            arrived_s=self._clock.monotonic(),
            max_bytes=limit,
            rotate_deg=self._camera.rotate_deg,
            crop_px=self._camera.crop_px,
        )

    def _finish(self, name: str, state: _State) -> None:
        """Move the file away, or remember it."""
        self._taken[name] = state
        path = self._watched / name
        try:
            if self._moved_to is not None:
                shutil.move(path, _free_name(self._moved_to / name))
            elif self._memory is not None:
                self._remember(self._memory, name, state)
        except (OSError, UnavailableError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.message
            self._refused(NOT_PUT_AWAY, f"{path}: {reason}")

    def _remember(self, memory: Path, name: str, state: _State) -> None:
        """Add a line; once there are many, keep only what still stands in the folder."""
        if self._lines < _MOST_LINES + 2 * len(self._taken):
            with memory.open("a") as lines:
                lines.write(_line(name, state))
            self._lines += 1
            return
        replace_durably(memory, "".join(_line(*one) for one in self._taken.items()).encode())
        self._lines = len(self._taken)


def _move_option(options: str, *, watched: Path, where: str) -> Path | None:
    named = parse_qs(options, keep_blank_values=True)
    moved_to = named.pop("move", [""])[-1]
    if named or (options and not moved_to):
        raise InvalidError(
            f"{options!r} is no option of a folder", where=where,
            fix='Write "folder:<path>" or "folder:<path>?move=<folder>".',
        )  # fmt: skip
    return watched / moved_to if moved_to else None


def _states(folder: Path) -> dict[str, _State]:
    """Return size and time of each picture file of a folder, by name."""
    found: dict[str, _State] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if Path(entry.name).suffix.lower() in _KINDS and not entry.name.startswith("."):
                try:
                    about = entry.stat()
                except FileNotFoundError:
                    if entry.is_symlink():  # leads nowhere: refused when it is read
                        found[entry.name] = (0, 1)
                    continue  # else moved away since it was listed
                found[entry.name] = (about.st_mtime_ns, about.st_size)
    return found


def _remembered(memory: Path | None) -> dict[str, _State]:
    """Return what was taken in earlier runs; a line that was cut off is left out."""
    processed: dict[str, _State] = {}
    lines = memory.read_text().splitlines() if memory is not None and memory.exists() else []
    for line in lines:
        try:
            name, modified_ns, size_bytes = json.loads(line)
            processed[str(name)] = (int(modified_ns), int(size_bytes))
        except (ValueError, TypeError):
            continue
    return processed


def _line(name: str, state: _State) -> str:
    return json.dumps([name, *state]) + "\n"


def _free_name(path: Path) -> Path:
    """Return the path, with a number where a file of that name is there already."""
    number, free = 1, path
    while free.exists():
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return free
