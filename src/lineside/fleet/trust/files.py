"""Metadata files of a repository: several written as one, by one process at a time.

1. A change is written whole into ``staging/`` and becomes valid by one rename to ``commit/``; then
   its files move to ``metadata/``, ``timestamp.json`` last. kill -9 before the rename changes
   nothing; after it, whoever comes next finishes the moves.
2. Writers hold the lock file; readers need none, because every file is replaced atomically and
   the ones with a number in their name never change once they were moved.
3. Old numbered files stay for a while, so that a device in the middle of a refresh finds them;
   roots stay for ever (TUF 5.3.3: devices walk from the root they have, one by one).
"""

import fcntl
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lineside.core import InvalidError, NotFoundError, UnavailableError
from lineside.core.files import sync_path, write_durably

TIMESTAMP = "timestamp.json"
LAST_SNAPSHOT = "snapshot.json"
"""The snapshot that a device held last, whatever its number: it guards against older ones."""
LOCK_FILE = "lock"
NAME = re.compile(r"timestamp\.json|[1-9][0-9]{0,8}\.[A-Za-z0-9][A-Za-z0-9-]{0,79}\.json")
_KEPT = 16


class MetadataFiles:
    """``metadata/`` below a folder."""

    def __init__(self, folder: Path) -> None:
        """Touch nothing yet."""
        self._folder = folder
        self.metadata = folder / "metadata"
        self._staging = folder / "staging"
        self._commit = folder / "commit"

    def exists(self) -> bool:
        """Return whether there is a repository."""
        return (self.metadata / TIMESTAMP).exists() or (self._commit / TIMESTAMP).exists()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only writer; what a killed writer left half done is finished first."""
        try:
            self.metadata.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (self._folder / LOCK_FILE).open("ab")
        except OSError as error:
            raise _bad_disk(error, self._folder) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._finish()
            yield

    def write(self, files: Mapping[str, bytes]) -> None:
        """All of them or none; the caller holds the lock."""
        try:
            shutil.rmtree(self._staging, ignore_errors=True)
            self._staging.mkdir(mode=0o700)
            for name, data in files.items():
                write_durably(self._staging / name, data)
            sync_path(self._staging)
            self._staging.rename(self._commit)
            sync_path(self._folder)
        except OSError as error:
            raise _bad_disk(error, self._staging) from error
        self._finish()

    def read(self, name: str) -> bytes:
        """``NotFoundError`` if there is none of this name."""
        if not NAME.fullmatch(name):
            raise NotFoundError(f"{name[:80]!r} is no metadata file", where="metadata")
        try:
            return (self.metadata / name).read_bytes()
        except FileNotFoundError:
            raise NotFoundError("no such metadata", where=name, fix="Ask for one less.") from None

    def names(self) -> list[str]:
        """Every file's name."""
        return sorted(path.name for path in self.metadata.glob("*.json"))

    def newest_root(self) -> int:
        """Number of the newest root; 0 where there is none."""
        return max(
            (number for number, role in map(_parts, self.names()) if role == "root"), default=0
        )

    def _finish(self) -> None:
        if not self._commit.exists():
            return
        try:
            names = sorted(path.name for path in self._commit.iterdir())
            for name in sorted(names, key=lambda name: name == TIMESTAMP):
                (self._commit / name).replace(self.metadata / name)
            sync_path(self.metadata)
            self._commit.rmdir()
        except OSError as error:
            raise _bad_disk(error, self._commit) from error
        self._sweep()

    def _sweep(self) -> None:
        newest: dict[str, int] = {}
        found = [_parts(name) for name in self.names() if name != TIMESTAMP]
        for number, role in found:
            newest[role] = max(number, newest.get(role, 0))
        for number, role in found:
            if role != "root" and number <= newest[role] - _KEPT:
                (self.metadata / f"{number}.{role}.json").unlink(missing_ok=True)


@contextmanager
def lock_folders(*folders: Path) -> Iterator[None]:
    """Lock update repositories and certificate authorities: nobody signs meanwhile.

    What a killed writer left half done is finished first; a folder without either stays as it is.
    """
    with ExitStack() as stack:
        for folder in folders:
            files = MetadataFiles(folder)
            if files.exists():
                stack.enter_context(files.held())
            elif folder.is_dir():
                lock = stack.enter_context((folder / LOCK_FILE).open("ab"))
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def check_role_name(name: str) -> str:
    """Refuse what cannot stand in a file's name."""
    if not re.fullmatch(r"[A-Za-z0-9](-?[A-Za-z0-9]){0,62}", name) or name in _TOP:
        raise InvalidError(
            f"{name[:80]!r} names no group of devices",
            where="group",
            fix="Write letters, digits and single hyphens, at most 63.",
        )
    return name


_TOP = ("root", "targets", "snapshot", "timestamp")


def _parts(name: str) -> tuple[int, str]:
    number, _, rest = name.partition(".")
    return (int(number) if number.isdecimal() else 0), rest.removesuffix(".json")


def _bad_disk(error: OSError, path: Path) -> UnavailableError:
    return UnavailableError(
        f"cannot write: {error.strerror}", where=str(path), fix="Free space, and allow writing."
    )
