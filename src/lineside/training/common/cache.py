"""Features of frozen networks, kept on disk for every job that needs them again; pixels in memory.

1. An entry's name follows from the picture's digest, the network and how the picture was prepared;
   nothing else changes what is in it, so an entry is never wrong, only absent.
2. The folder holds at most ``most_bytes``. What was read longest ago goes first. The space is
   counted from the folder itself, so that several processes keep one limit.
3. Entries appear whole or not at all, and are not synced. One that a power cut damaged counts as
   absent and is made again; one that another process took away in the meantime likewise.
"""

import hashlib
import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from lineside.core import Digest, InvalidError, encode
from lineside.core.files import replacing_unsynced
from lineside.training.job import load_arrays, save_arrays
from lineside.vision import HealthFigures, Prepare

MOST_BYTES = 2_000_000_000
_ROOM = 0.9
_LOOKS_PER_LIMIT = 64
_SUFFIX = ".npz"

Arrays = Mapping[str, NDArray[np.generic]]


def feature_key(digest: Digest, *, backbone: str, prepare: Prepare) -> str:
    """Name of what a network sees of a picture.

    Args:
        digest: of the picture's bytes.
        backbone: names network and outputs: another set of weights has another name.
        prepare: how the picture becomes the network's input.
    """
    return hashlib.sha256(encode([digest, backbone, prepare])).hexdigest()


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    used_ns: int
    size_bytes: int


class FeatureCache:
    """A folder of arrays by name; safe from several processes, each with an object of its own."""

    def __init__(self, folder: Path, *, most_bytes: int = MOST_BYTES) -> None:
        if most_bytes < 1:
            raise InvalidError("above 0", where="most_bytes", fix=f"Write {MOST_BYTES}.")
        self._folder = folder
        self._most_bytes = most_bytes
        self._unseen_bytes = most_bytes  # of a folder nobody has looked at: look at the first put

    def get(self, key: str) -> dict[str, NDArray[np.generic]] | None:
        """The arrays of that name, from now on the last to go; None where there are none."""
        path = self._path(key)
        found = load_arrays(path)
        if found is not None:
            with suppress(OSError):  # another process may have taken it away, or it is not ours
                os.utime(path)
        return found

    def put(self, key: str, arrays: Arrays) -> None:
        """Keep arrays under a name; what was read longest ago goes where the room ends."""
        path = self._path(key)
        save_arrays(path, arrays, replacing=replacing_unsynced)
        self._unseen_bytes += path.stat().st_size if path.exists() else 0
        # Counting the folder costs a look at each entry: once per 64th of the limit is enough.
        if self._unseen_bytes * _LOOKS_PER_LIMIT >= self._most_bytes:
            self._unseen_bytes = 0
            self._evict()

    def held_bytes(self) -> int:
        """Return the bytes of all entries together."""
        return sum(entry.size_bytes for entry in self._entries())

    def _path(self, key: str) -> Path:
        if not (key and key.isalnum() and key.isascii()):
            raise InvalidError(f"{key!r} is no name of an entry", fix="Use feature_key.")
        return self._folder / key[:2] / f"{key}{_SUFFIX}"

    def _entries(self) -> Iterator[_Entry]:
        for path in self._folder.glob(f"??/*{_SUFFIX}"):
            with suppress(FileNotFoundError):
                observed = path.stat()
                yield _Entry(path, observed.st_mtime_ns, observed.st_size)

    def _evict(self) -> None:
        entries = sorted(self._entries(), key=lambda each: (each.used_ns, each.path.name))
        held = sum(entry.size_bytes for entry in entries)
        if held <= self._most_bytes:
            return
        for entry in entries:
            if held <= _ROOM * self._most_bytes:
                return
            entry.path.unlink(missing_ok=True)
            held -= entry.size_bytes


class _Sized(Protocol):
    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        ...


T = TypeVar("T", bound=_Sized)


class MemoryCache(Generic[T]):
    """Values kept while they fit into memory, else made again."""

    def __init__(self, *, most_bytes: int) -> None:
        self._spare_bytes = most_bytes
        self._held: dict[Hashable, T] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key; made where it is not held."""
        found = self._held.get(key)
        if found is None:
            found = make()
            if found.nbytes <= self._spare_bytes:
                self._held[key] = found
                self._spare_bytes -= found.nbytes
        return found


def health_array(health: HealthFigures) -> NDArray[np.float64]:
    """Figures of a picture's health as ``health_of`` takes them."""
    return np.array([health.sharpness, health.mean_grey, health.clipped_share])


def health_of(figures: NDArray[np.generic]) -> HealthFigures:
    """Figures of a picture's health from such an array."""
    sharpness, grey, clipped = (float(value) for value in np.asarray(figures, np.float64))
    return HealthFigures(sharpness=sharpness, mean_grey=grey, clipped_share=clipped)
