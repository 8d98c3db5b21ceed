"""The air-gap bundle ``.lsbundle``: packages, the metadata that vouch for them, wheels; one file.

1. A zip without compression, entries in name order, all dated 1980-01-01: the same repository and
   packages give the same bytes.
2. ``bundle.json`` says what is in it, ``metadata/`` and ``targets/`` are a repository as a device
   would find it on the network. None of it is believed: the device's own verifier reads it, from
   the root that the device trusts already.
3. A package comes with the operating point in force for it, which is the highest signed one. A
   list without points has no such key, so that older devices read it; one with points they refuse
   rather than decide by other limits. The list is not signed: a device holds it against the points
   that the signed metadata name for each package.
4. Reading checks size, the list's size, count, names, kinds and sizes before an entry is opened.
"""

import io
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal

from lineside.core import (
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    decode,
    encode,
    to_plain,
)
from lineside.core.files import replacing_durably
from lineside.fleet.contract import Target, version_key
from lineside.fleet.trust.download import Part
from lineside.fleet.trust.repository import NAME, UpdateRepository
from lineside.fleet.trust.roles import WHEELS, check_path, is_point, prefixed
from lineside.models.operating_point import OperatingPoint

_LIST = "bundle.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK_BYTES = 1 << 18
_REBUILD = "Write it again: lineside package bundle."
_DAMAGE = (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError)
_END, _END_BYTES, _LOCATOR, _LOCATOR_BYTES = b"PK\x05\x06", 22, b"PK\x06\x07", 20
_MOST_ENTRY_WORDS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleLimits:
    """Limits on a bundle."""

    max_bytes: int = 4_000_000_000
    max_files: int = 2048
    max_list_bytes: int = 256_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleList:
    """``lineside.bundle/1``: paths of targets; ``points``: operating points of the packages."""

    schema: Literal["lineside.bundle/1"] = "lineside.bundle/1"
    packages: tuple[str, ...]
    wheels: tuple[str, ...] = ()
    points: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for path in (*self.packages, *self.wheels, *self.points):
            check_path(path)
        for path in self.wheels:
            if not path.startswith(f"{WHEELS}/"):
                raise InvalidError("a wheel stands below wheels/", where=path, fix=_REBUILD)


def write_bundle(
    repository: UpdateRepository,
    paths: Iterable[str],
    *,
    to: Path,
    wheels: Iterable[tuple[str, bytes]] = (),
) -> BundleList:
    """Write targets, their operating points and all the metadata they need into one file.

    Args:
        repository: where they are signed.
        paths: of packages.
        to: the file; replaced atomically.
        wheels: name and bytes of files of the runtime; they are signed here.

    Raises:
        NotFoundError: a path is not signed.
        InvalidError: as ``package_of_each``.
    """
    targets = [repository.served(path) for path in dict.fromkeys(paths)]
    answering = package_of_each(targets)
    signed = [(repository.publish_wheel(name, data), data) for name, data in wheels]
    points = [
        point
        for inspection, target in answering.items()
        if (point := _point_of(repository, target, inspection=inspection)) is not None
    ]
    listed = BundleList(
        packages=tuple(target.path for target in targets),
        wheels=tuple(sorted(target.path for target, _ in signed)),
        points=tuple(point.path for point in points),
    )
    metadata, kept = repository.mirror(), to_plain(listed)
    if not points:
        del kept["points"]
    content: dict[str, Callable[[], bytes]] = {_LIST: lambda: encode(kept)}
    for name in metadata:
        content[f"metadata/{name}"] = partial(metadata.__getitem__, name)
    for target in (*targets, *points):
        content[_place(target)] = partial(repository.archive, target)
    for target, data in signed:
        content[_place(target)] = partial(bytes, data)
    _write(to, content)
    return listed


def _place(target: Target) -> str:
    return f"targets/{prefixed(target.path, target.sha256)}"


def _point_of(repository: UpdateRepository, package: Target, *, inspection: str) -> Target | None:
    """The signed operating point of the highest version for a package; None: its own limits."""
    found = {
        point.version: one
        for one in repository.targets().values()
        if is_point(one.custom, sha256=one.sha256) and one.custom.get("inspection") == inspection
        for point in [decode(OperatingPoint, repository.archive(one), where=one.path)]
        if point.package == package.custom.get("digest")
    }
    return found[max(found)] if found else None


def package_of_each(targets: Sequence[Target]) -> dict[str, Target]:
    """Return the package that answers for each inspection, of those of a bundle.

    One that is signed for several inspections leaves those to others for which a higher version of
    its group is there.

    Raises:
        InvalidError: no package, two of different groups for one inspection, or one that is left
            with none.
    """
    if not targets:
        raise InvalidError("a bundle of nothing", where="bundle", fix="Name a package.")
    found: dict[str, Target] = {}
    for target in targets:
        for inspection in target.inspections:
            other = found.setdefault(inspection, target)
            if _group(other) != _group(target):
                raise _two_packages(inspection)
            found[inspection] = max(other, target, key=_version)
    for target in targets:
        if target not in found.values():
            raise _two_packages(target.inspections[0])
    return found


def _group(target: Target) -> str:
    return str(target.custom.get("group", target.path))


def _version(target: Target) -> tuple[int, ...]:
    return version_key(str(target.custom.get("version", "0")))


def _two_packages(inspection: str) -> InvalidError:
    return InvalidError(
        f"two packages for inspection {inspection!r}", where="bundle", fix="Choose one of them."
    )


def _write(to: Path, content: Mapping[str, Callable[[], bytes]]) -> None:
    """One entry in memory at a time."""
    with replacing_durably(to) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.create_system = 3  # Unix, whatever this machine is
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content[name]())


# ---- reading


class Bundle:
    """An open bundle: a ``Source``, and the list of what it brings."""

    def __init__(self, archive: zipfile.ZipFile, *, where: str) -> None:
        self._archive = archive
        self._where = where
        raw = self._bytes(_LIST)
        self.listed = decode(BundleList, raw, where=f"{where}: {_LIST}")

    @contextmanager
    def open(
        self, path: str, *, start_byte: int = 0, end_byte: int | None = None
    ) -> Iterator[Part]:
        """An entry from a byte on; until whoever reads has enough."""
        del end_byte
        try:
            file = self._archive.open(check_path(path))
        except KeyError:
            raise NotFoundError("not in the bundle", where=path, fix=_REBUILD) from None
        except _DAMAGE as error:
            raise _damaged(error, self._where) from error
        with file:
            file.seek(start_byte)
            yield Part(start_byte=start_byte, chunks=self._chunks(file))

    def _chunks(self, file: IO[bytes]) -> Iterator[bytes]:
        try:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
        except _DAMAGE as error:
            raise _damaged(error, self._where) from error

    def _bytes(self, name: str) -> bytes:
        with self.open(name) as part:
            return b"".join(part.chunks)


@contextmanager
def open_bundle(path: Path, *, limits: BundleLimits | None = None) -> Iterator[Bundle]:
    """A bundle, checked as far as can be without believing it.

    Raises:
        NotFoundError: no such file.
        InvalidError: no bundle, or beyond the limits.
        UnavailableError: the medium cannot be read.
    """
    limits, where = limits or BundleLimits(), str(path)
    try:
        with path.open("rb") as file:
            size = _check_ends(file, where=where, limits=limits)
            try:
                with zipfile.ZipFile(file) as archive:
                    _check_entries(archive.infolist(), size, where=where, limits=limits)
                    yield Bundle(archive, where=where)
            except _DAMAGE as error:
                raise _damaged(error, where) from error
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFoundError("no such bundle", where=where, fix="Name a .lsbundle file.") from error
    except OSError as error:
        raise UnavailableError(
            f"cannot be read: {error.strerror}", where=where, fix="Check the medium."
        ) from error


def _check_ends(file: io.BufferedReader, *, where: str, limits: BundleLimits) -> int:
    """The list of entries is read whole into memory, so its size comes first (APPNOTE 4.3.16)."""
    size = file.seek(0, io.SEEK_END)
    if size > limits.max_bytes:
        raise InvalidError(
            f"{size} bytes, at most {limits.max_bytes} are taken", where=where, fix=_REBUILD
        )
    tail_bytes = min(size, _END_BYTES + _LOCATOR_BYTES)
    file.seek(size - tail_bytes)
    tail = file.read(tail_bytes)
    end = tail[-_END_BYTES:]
    if len(end) < _END_BYTES or not end.startswith(_END) or tail.startswith(_LOCATOR):
        raise InvalidError("no bundle, or not all of it", where=where, fix=_REBUILD)
    (listed,) = struct.unpack_from("<I", end, 12)
    if listed > limits.max_files * _MOST_ENTRY_WORDS:
        raise InvalidError("its list is too long", where=where, fix=_REBUILD)
    file.seek(0)
    return size


def _check_entries(
    entries: list[zipfile.ZipInfo], size: int, *, where: str, limits: BundleLimits
) -> None:
    if len(entries) > limits.max_files:
        raise InvalidError(
            f"{len(entries)} files, at most {limits.max_files}", where=where, fix=_REBUILD
        )
    names = [entry.filename for entry in entries]
    if len({name.lower() for name in names}) != len(names):
        raise InvalidError("a name is there twice", where=where, fix=_REBUILD)
    for entry in entries:
        _check_entry(entry, where=where, limits=limits)
    # Entries that share bytes would sum to more than the file.
    if sum(entry.file_size for entry in entries) > size:
        raise InvalidError("files larger than the bundle", where=where, fix=_REBUILD)


def _check_entry(entry: zipfile.ZipInfo, *, where: str, limits: BundleLimits) -> None:
    name = entry.filename
    if name != _LIST:
        folder, _, rest = name.partition("/")
        if folder not in ("metadata", "targets") or (
            folder == "metadata" and not NAME.fullmatch(rest)
        ):
            raise InvalidError(f"{name[:80]!r} has no place in it", where=where, fix=_REBUILD)
        check_path(name)
    mode = entry.external_attr >> 16
    if mode and mode & 0o170000 != 0o100000:
        raise InvalidError(f"{name[:80]!r} is no regular file", where=where, fix=_REBUILD)
    if entry.flag_bits & 0x1 or entry.compress_type != zipfile.ZIP_STORED:
        raise InvalidError(f"{name[:80]!r} is compressed or locked", where=where, fix=_REBUILD)
    if entry.file_size != entry.compress_size:
        raise InvalidError(f"{name[:80]!r} has two sizes", where=where, fix=_REBUILD)
    if name == _LIST and entry.file_size > limits.max_list_bytes:
        raise InvalidError(f"{_LIST} is too long", where=where, fix=_REBUILD)


def _damaged(error: Exception, where: str) -> RefusedError:
    return RefusedError(
        f"the bundle is damaged: {error}", where=where, fix="Copy it again from where it was made."
    )
