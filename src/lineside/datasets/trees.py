"""Trees of files that a source is read from: a folder, an archive, a bucket.

1. Nothing is listed ahead: names come one after the other, in no particular order.
2. A name never leads out, by dots or by links. One with composed letters (NFC) finds the file whose
   name was written with decomposed ones, and the reverse: macOS writes ``ü`` as ``u`` and ``¨``.
   Names in a bucket are found as they are written.
3. A file is refused by its length before it is read.

Archives are ``.zip`` (stored or deflated) and ``.tar`` (not compressed).

1. The directory is read once; a member is read where it lies, so order costs nothing.
2. Members are plain files with names inside the archive; links and devices are passed over. Names
   that are UTF-8 are read as such, even where the archive does not say so (macOS, Info-ZIP).
3. A member is refused by its declared length, and again where it unpacks to more.
"""

import os
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, Protocol

from lineside.core import InvalidError, NotFoundError
from lineside.core.files import zip_headers

MOST_LIST_BYTES = 1024 * 1024 * 1024
MOST_PICTURE_BYTES = 64 * 1024 * 1024
MOST_NOTE_BYTES = 4 * 1024 * 1024
_HEAD_BYTES = 1024 * 1024


class Tree(Protocol):
    """Files by POSIX names relative to its root, ``""`` being the root itself.

    ``read`` and ``open`` raise ``NotFoundError``, and ``InvalidError`` above ``most`` bytes.
    """

    @property
    def where(self) -> str:
        """Description of the tree, for messages."""
        ...

    def folders(self, folder: str = "") -> list[str]:
        """Direct sub-folders, sorted, hidden ones left out."""
        ...

    def files(self, folder: str = "") -> Iterator[str]:
        """Files directly in a folder, one after the other; nothing where it is not there."""
        ...

    def has(self, name: str) -> bool:
        """Return whether there is such a file."""
        ...

    def read(self, name: str, *, most: int) -> bytes:
        """All its bytes."""
        ...

    def open(self, name: str, *, most: int) -> BinaryIO:
        """The file, open for reading; whoever opens it closes it."""
        ...


class FolderTree:
    """A folder of this machine; links are followed to wherever only where that is said."""

    def __init__(self, root: Path, *, links: Literal["inside", "followed"] = "inside") -> None:
        self.root = root.resolve()
        self._inside = links == "inside"
        self.where = str(root)

    def folders(self, folder: str = "") -> list[str]:
        return sorted(self._name(entry) for entry in self._entries(folder) if _is_folder(entry))

    def files(self, folder: str = "") -> Iterator[str]:
        for entry in self._entries(folder):
            if entry.is_file() and not entry.name.startswith("."):
                yield self._name(entry)

    def has(self, name: str) -> bool:
        try:
            return self.path(name).is_file()
        except NotFoundError:
            return False

    def read(self, name: str, *, most: int) -> bytes:
        with self.open(name, most=most) as file:
            # Not ``most``: room is made ahead for as much as is asked for.
            return file.read(min(most, os.fstat(file.fileno()).st_size))

    def open(self, name: str, *, most: int) -> BinaryIO:
        path = self.path(name)
        try:
            size = path.stat().st_size
            if size > most:
                raise InvalidError(f"{size} bytes, at most {most} are taken", where=str(path))
            return path.open("rb")
        except FileNotFoundError as error:
            raise NotFoundError("there is no such file", where=str(path)) from error
        except OSError as error:
            raise InvalidError(f"cannot be read: {error.strerror}", where=str(path)) from error

    def path(self, name: str) -> Path:
        """Where the file is; ``InvalidError`` when its name leads out of the folder."""
        written = inside(name)
        try:
            places = [self.root / one for one in _spellings(written)]
            path = next((one for one in places if one.exists()), places[0])
            resolved = path.resolve()
        except (OSError, ValueError) as error:
            raise NotFoundError("no usable file name", where=self.where) from error
        if self._inside and not resolved.is_relative_to(self.root):
            raise InvalidError("the name leads out of the folder", where=self.where)
        return path

    def _entries(self, folder: str) -> Iterator["os.DirEntry[str]"]:
        path = self.path(folder)
        if path.is_dir():
            with os.scandir(path) as entries:
                yield from entries

    def _name(self, entry: "os.DirEntry[str]") -> str:
        return Path(entry.path).relative_to(self.root).as_posix()


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def inside(name: str) -> str:
    """The name as it is written; ``InvalidError`` when it could lead out of the folder."""
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        raise InvalidError("the name leads out of the folder")
    if "\0" in name or "\\" in name:
        raise InvalidError("no usable file name")
    return name


def _spellings(name: str) -> list[str]:
    """The name as it is written, and with composed and decomposed letters."""
    if name.isascii():
        return [name]
    return [name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)]


def composed(name: str) -> str:
    """The name with composed letters, so that two spellings of it are equal."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def stem_of(name: str) -> str:
    """``b`` of ``a/b.png``."""
    return PurePosixPath(name).stem


def suffix_of(name: str) -> str:
    """``.png`` of ``a/b.PNG``."""
    return PurePosixPath(name).suffix.lower()


def joined(folder: str, name: str) -> str:
    """``a/b`` of ``a`` and ``b``; the root's name is empty."""
    return f"{folder}/{name}" if folder else name


def head_of(tree: Tree, name: str) -> bytes:
    """The first bytes of a file, to tell its format; none where it cannot be opened."""
    try:
        with tree.open(name, most=MOST_LIST_BYTES) as file:
            return file.read(_HEAD_BYTES)
    except (InvalidError, NotFoundError):
        return b""


def walk(tree: Tree, folder: str = "", *, depth: int = 8) -> Iterator[str]:
    """Every file below a folder, at most ``depth`` folders deep."""
    yield from tree.files(folder)
    if depth > 0:
        for inner in tree.folders(folder):
            yield from walk(tree, inner, depth=depth - 1)


ARCHIVES = (".zip", ".tar")
_MOST_MEMBERS = 2_000_000
_MOST_DEPTH = 64  # folders around a file
_APPLE = "__MACOSX"  # what macOS puts beside the files of an archive
_LOCAL_HEADER = 30  # APPNOTE.TXT 4.3.7
_STORED, _DEFLATED = 0, 8
_SAYS_UTF_8 = 0x800  # APPNOTE.TXT 4.4.4, bit 11; names are read as code page 437 without it


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a member lies: of a zip, its local header; of a tar, its bytes."""

    offset: int
    packed: int
    size: int
    method: int = _STORED
    check: int = 0

    def lies_in(self, size: int) -> bool:
        """Return whether an archive of that size can hold it; a damaged one may say anything."""
        return min(self.offset, self.packed, self.size) >= 0 and self.offset + self.packed <= size


class ArchiveTree:
    """An archive's files by name, or those below one of its folders; safe from several threads."""

    def __init__(self, path: Path, *, below: str = "", most_files: int = _MOST_MEMBERS) -> None:
        """``most_files``: an archive of more is refused by its directory."""
        self.where = f"{path}:{below}" if below else str(path)
        self._path = path
        self._zipped = path.suffix.lower() == ".zip"
        head = f"{below}/" if below else ""
        self._spots = {
            name.removeprefix(head): spot
            for name, spot in _directory(path, zipped=self._zipped, most=most_files).items()
            if name.startswith(head)
        }
        self._files: dict[str, list[str]] = {"": []}
        self._folders: dict[str, list[str]] = {"": []}
        for name in self._spots:
            self._files[self._opened(name.rpartition("/")[0])].append(name)

    @property
    def unpacked_bytes(self) -> int:
        """Size of all its files together; reading one of them never gives more than it declares."""
        return sum(spot.size for spot in self._spots.values())

    def _opened(self, folder: str) -> str:
        """The folder, known from now on with those around it."""
        if folder not in self._files:
            around = self._opened(folder.rpartition("/")[0])
            self._files[folder], self._folders[folder] = [], []
            self._folders[around].append(folder)
        return folder

    def folders(self, folder: str = "") -> list[str]:
        inner = self._folders.get(folder, ())
        return sorted(one for one in inner if not _is_hidden(one))

    def files(self, folder: str = "") -> Iterator[str]:
        return (name for name in self._files.get(folder, ()) if not _is_hidden(name))

    def has(self, name: str) -> bool:
        return self._spot(name) is not None

    def _spot(self, name: str) -> _Spot | None:
        return next(
            (self._spots[one] for one in _spellings(inside(name)) if one in self._spots), None
        )

    def read(self, name: str, *, most: int) -> bytes:
        spot = self._spot(name)
        if spot is None:
            raise NotFoundError("there is no such file", where=f"{self.where}:{name}")
        if spot.size > most:
            raise InvalidError(
                f"{spot.size} bytes, at most {most} are taken", where=f"{self.where}:{name}"
            )
        data = None
        with self._path.open("rb") as file:
            if spot.lies_in(self._path.stat().st_size):
                data = _unpacked(file, spot) if self._zipped else _plain(file, spot)
        if data is None:
            raise InvalidError("a damaged member of the archive", where=f"{self.where}:{name}")
        return data

    def open(self, name: str, *, most: int) -> BinaryIO:
        return BytesIO(self.read(name, most=most))


def _is_hidden(name: str) -> bool:
    base = name.rpartition("/")[2]
    return base == _APPLE or base.startswith(".")


def _directory(path: Path, *, zipped: bool, most: int) -> dict[str, _Spot]:
    spots: dict[str, _Spot] = {}
    fix = "Send fewer files at a time, or use `lineside dataset import`."
    refusal = InvalidError(f"more than {most:,} files", where=str(path), fix=fix)
    members = _zip_members(path, most=most, refusal=refusal) if zipped else _tar_members(path)
    try:
        for name, spot in members:
            if name.count("/") > _MOST_DEPTH:
                raise InvalidError(f"a file in more than {_MOST_DEPTH} folders", where=str(path))
            spots.setdefault(inside(name.removeprefix("./")), spot)
            if len(spots) > most:
                raise refusal
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, UnicodeDecodeError) as error:
        raise InvalidError(
            f"not an archive: {error}", where=str(path), fix="Pack it again as .zip or plain .tar."
        ) from error
    return spots


def _zip_members(path: Path, *, most: int, refusal: InvalidError) -> Iterator[tuple[str, _Spot]]:
    with (
        path.open("rb") as file,
        zipfile.ZipFile(zip_headers(file, most_files=most, refusal=refusal)) as archive,
    ):
        for info in archive.infolist():
            if info.is_dir():
                continue
            if info.compress_type not in (_STORED, _DEFLATED) or info.flag_bits & 1:
                raise InvalidError(
                    f"{info.filename} is encrypted or packed in an unusual way",
                    where=str(path),
                    fix="Pack it again, deflated and without password.",
                )
            yield (
                _name_in_zip(info),
                _Spot(
                    info.header_offset,
                    info.compress_size,
                    info.file_size,
                    info.compress_type,
                    info.CRC,
                ),
            )


def _name_in_zip(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & _SAYS_UTF_8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode()
    except UnicodeError:
        return info.filename


def _tar_members(path: Path) -> Iterator[tuple[str, _Spot]]:
    with tarfile.open(path, mode="r:") as archive:
        for info in archive:
            if info.isreg():
                yield info.name, _Spot(info.offset_data, info.size, info.size)


def _plain(file: BinaryIO, spot: _Spot) -> bytes | None:
    file.seek(spot.offset)
    data = file.read(spot.size)
    return data if len(data) == spot.size else None


def _unpacked(file: BinaryIO, spot: _Spot) -> bytes | None:
    file.seek(spot.offset)
    header = file.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
        return None
    skipped = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    file.seek(skipped, 1)
    packed = file.read(spot.packed)
    if spot.method == _DEFLATED:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            packed = unpacker.decompress(packed, spot.size + 1)
        except zlib.error:
            return None
    whole = len(packed) == spot.size and zlib.crc32(packed) == spot.check
    return packed if whole else None
