"""The package archive ``.lspkg``: a zip that is the same bytes for the same content.

1. Entries are stored without compression, in name order, all dated 1980-01-01, so equal inputs
   give equal bytes and no entry can unfold to more than it takes.
2. ``manifest.json`` and every other file stand in ``digests.json`` with their digests. The
   package's digest is the SHA-256 of ``digests.json``: it names manifest and files.
3. ``signatures/`` is left out of ``digests.json``: a signature speaks of the package's digest, and
   adding one does not change it.
4. Reading checks, in this order: size, structure, count, names, kinds, sizes; then the digest of
   every file; then the manifest; then that what the manifest names is there and fits. Nothing is
   written to a disk and nothing is run.

The bill of materials of a package, as a CycloneDX 1.6 document.

The same package says the same: no time and no serial number stand in it, both of which the format
leaves open (CycloneDX 1.6, 4.1: ``serialNumber`` and ``metadata.timestamp`` are optional).
"""

import io
import re
import stat
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from lineside.core import (
    Digest,
    InvalidError,
    NotFoundError,
    RefusedError,
    decode,
    digest_of,
    encode,
)
from lineside.core.codec import faults_error
from lineside.core.files import zip_headers
from lineside.models.manifest import PLATFORMS, Manifest, check_certificate, manifest_faults

MANIFEST_FILE = "manifest.json"
DIGESTS_FILE = "digests.json"
SIGNATURES = "signatures/"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}){0,3}")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_REBUILD = "Build the package again with build_package."
_PICTURES = {".jpg": b"\xff\xd8\xff", ".jpeg": b"\xff\xd8\xff", ".png": b"\x89PNG\r\n\x1a\n"}
_KINDS = frozenset({".json", ".onnx", ".txt", ".md", ".html", ".csv", ".svg", ".sig", *_PICTURES})


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageLimits:
    """The limits of an archive."""

    max_bytes: int = 512_000_000
    max_files: int = 256
    max_document_bytes: int = 16_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Digests:
    schema: Literal["lineside.digests/1"]
    files: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package that was read and checked; its files are in memory.

    Attributes:
        digest: of ``digests.json``: names manifest and files, not the signatures.
        files: everything but ``digests.json`` and the signatures.
        signatures: name below ``signatures/`` → bytes; not checked here.
    """

    manifest: Manifest
    digest: Digest
    files: Mapping[str, bytes]
    signatures: Mapping[str, bytes]

    @classmethod
    def read(
        cls, data: bytes, *, where: str = "package", limits: PackageLimits | None = None
    ) -> "Package":
        """Check an archive and open it.

        Raises:
            InvalidError: too large, no such archive, or a manifest that does not fit.
            RefusedError: a file's bytes are not those its digest promises.
        """
        entries = _entries(data, where=where, limits=limits or PackageLimits())
        signatures = {
            name.removeprefix(SIGNATURES): content
            for name, content in entries.items()
            if name.startswith(SIGNATURES)
        }
        files = {name: each for name, each in entries.items() if not name.startswith(SIGNATURES)}
        listed = files.pop(DIGESTS_FILE, None)
        if listed is None:
            raise InvalidError(f"no {DIGESTS_FILE} in it", where=where, fix=_REBUILD)
        digests = _verify_digests(listed, files, where=where)
        manifest = _manifest(files, digests, where=where)
        return cls(manifest=manifest, digest=digest_of(listed), files=files, signatures=signatures)

    @classmethod
    def open(cls, path: Path, *, limits: PackageLimits | None = None) -> "Package":
        """Read a ``.lspkg`` file; ``NotFoundError`` if there is none."""
        limits = limits or PackageLimits()
        try:
            size = path.stat().st_size
            if size > limits.max_bytes:
                raise _too_large(size, limits, where=str(path))
            data = path.read_bytes()
        except (FileNotFoundError, IsADirectoryError) as error:
            raise NotFoundError("no such package", where=str(path), fix="Name a file.") from error
        return cls.read(data, where=str(path), limits=limits)

    def bound_to(self, inspection: str) -> "Package":
        """The package as it answers for an inspection that it was released for."""
        return replace(self, manifest=replace(self.manifest, inspection=inspection))

    def file(self, name: str) -> bytes:
        """One file's bytes; ``NotFoundError`` lists the known ones."""
        try:
            return self.files[name]
        except KeyError as error:
            raise NotFoundError(
                f"no {name!r} in the package", fix=f"Known: {', '.join(sorted(self.files))}."
            ) from error


def build_package(
    manifest: Manifest,
    files: Mapping[str, bytes],
    *,
    signatures: Mapping[str, bytes] | None = None,
) -> bytes:
    """The archive's bytes; the same inputs give the same bytes.

    Args:
        manifest: names ``files`` with their digests.
        files: engine, golden pictures, reference picture, reports; not the manifest itself.
        signatures: name below ``signatures/`` → bytes.

    Raises:
        InvalidError, RefusedError: what ``Package.read`` would say of the result.
    """
    content = {MANIFEST_FILE: encode(manifest), **files}
    if DIGESTS_FILE in content or content[MANIFEST_FILE] != encode(manifest):
        raise InvalidError(f"{MANIFEST_FILE} and {DIGESTS_FILE} are made here", fix="Leave them.")
    digests = {name: str(digest_of(each)) for name, each in content.items()}
    content[DIGESTS_FILE] = encode(_Digests(schema="lineside.digests/1", files=digests))
    content |= {SIGNATURES + name: each for name, each in (signatures or {}).items()}
    data = _zip(content)
    Package.read(data, where=manifest.name)
    return data


def _zip(content: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.create_system = 3  # Unix, whatever this machine is
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, content[name])
    return out.getvalue()


def _too_large(size: int, limits: PackageLimits, *, where: str) -> InvalidError:
    return InvalidError(
        f"{size} bytes of package, at most {limits.max_bytes} are taken",
        where=where,
        fix="Use a smaller network.",
    )


def _entries(data: bytes, *, where: str, limits: PackageLimits) -> dict[str, bytes]:
    """Name → bytes of every entry, under the limits."""
    if len(data) > limits.max_bytes:
        raise _too_large(len(data), limits, where=where)
    refusal = InvalidError(f"more than {limits.max_files} files", where=where, fix=_REBUILD)
    file = io.BytesIO(data)
    try:
        headers = zip_headers(file, most_files=limits.max_files, refusal=refusal)
        with zipfile.ZipFile(headers) as archive:
            _check_list(archive.infolist(), len(data), where=where, limits=limits)
        with zipfile.ZipFile(file) as archive:
            return {entry.filename: archive.read(entry) for entry in archive.infolist()}
    except _DAMAGE as error:
        raise InvalidError(
            f"not a package archive: {error}", where=where, fix="Send the whole file again."
        ) from error


# What zipfile lets out when an archive's bytes are damaged.
_DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def _check_list(
    entries: list[zipfile.ZipInfo], size: int, *, where: str, limits: PackageLimits
) -> None:
    if len(entries) > limits.max_files:
        raise InvalidError(
            f"{len(entries)} files, at most {limits.max_files} are taken", where=where, fix=_REBUILD
        )
    names = [entry.filename.lower() for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidError(f"{twice[0]!r} is there twice", where=where, fix=_REBUILD)
    for entry in entries:
        reason = _entry_fault(entry, limits)
        if reason:
            raise InvalidError(f"{entry.filename[:80]!r} {reason}", where=where, fix=_REBUILD)
    # Entries that share bytes would sum to more than the archive.
    if sum(entry.file_size for entry in entries) > size:
        raise InvalidError("files larger than the archive", where=where, fix=_REBUILD)


def _entry_fault(entry: zipfile.ZipInfo, limits: PackageLimits) -> str:
    name, mode = entry.filename, entry.external_attr >> 16
    suffix = PurePosixPath(name).suffix.lower()
    faults = {
        "is no plain relative name": not _NAME.fullmatch(name) or ".." in name,
        "is no regular file": mode and not stat.S_ISREG(mode),
        "is encrypted": entry.flag_bits & 0x1,
        "is compressed": entry.compress_type != zipfile.ZIP_STORED
        or entry.compress_size != entry.file_size,
        f"is of a kind not taken ({', '.join(sorted(_KINDS))})": suffix not in _KINDS,
        f"has more than {limits.max_document_bytes} bytes": suffix != ".onnx"
        and entry.file_size > limits.max_document_bytes,
    }
    return next((fault for fault, holds in faults.items() if holds), "")


def _verify_digests(listed: bytes, files: Mapping[str, bytes], *, where: str) -> Mapping[str, str]:
    """Return name → digest of each file, held against its bytes."""
    digests = decode(_Digests, listed, where=f"{where}: {DIGESTS_FILE}")
    if encode(digests) != listed:
        raise InvalidError(f"{DIGESTS_FILE} is not canonical JSON", where=where, fix=_REBUILD)
    if set(digests.files) != set(files):
        odd = sorted(set(digests.files) ^ set(files))
        raise RefusedError(
            f"{odd[0]!r} stands in only one of archive and {DIGESTS_FILE}",
            where=where,
            fix=_REBUILD,
        )
    for name, content in files.items():
        _check_digest(name, digest_of(content), promised=digests.files[name], where=where)
        _check_picture(name, content, where=where)
    return digests.files


def _check_digest(name: str, found: str, *, promised: str, where: str) -> None:
    if found != promised:
        raise RefusedError(
            f"{name} was changed: its digest is {found}, not {promised}",
            where=where,
            fix="Fetch the package again from where it was made.",
        )


def _check_picture(name: str, content: bytes, *, where: str) -> None:
    start = _PICTURES.get(PurePosixPath(name).suffix.lower(), b"")
    if not content.startswith(start):
        raise InvalidError(f"{name} is not the picture its name says", where=where, fix=_REBUILD)


def _manifest(files: Mapping[str, bytes], digests: Mapping[str, str], *, where: str) -> Manifest:
    raw = files.get(MANIFEST_FILE)
    if raw is None:
        raise InvalidError(f"no {MANIFEST_FILE} in it", where=where, fix=_REBUILD)
    manifest = decode(Manifest, raw, where=f"{where}: {MANIFEST_FILE}")
    faults = manifest_faults(manifest)
    if faults:
        raise faults_error(faults, where=f"{where}: {MANIFEST_FILE}")
    check_certificate(manifest.parity, precision=manifest.engine.precision, where=where)
    if manifest.sbom_file and manifest.sbom_file not in files:
        raise InvalidError(
            f"the manifest names {manifest.sbom_file!r}", where=where, fix="Add that file."
        )
    for name, promised in _named(manifest):
        if name not in files:
            raise InvalidError(f"the manifest names {name!r}", where=where, fix="Add that file.")
        _check_digest(name, digests[name], promised=promised, where=where)
    return manifest


def _named(manifest: Manifest) -> list[tuple[str, str]]:
    """Every file a manifest names, with the digest it states."""
    named = [(manifest.engine.file, str(manifest.engine.digest))]
    named += [(golden.file, str(golden.digest)) for golden in manifest.golden]
    if manifest.reference_file:
        named.append((manifest.reference_file, manifest.reference_digest))
    return named


SBOM_FILE = "sbom.cdx.json"
MADE_WITH = ("lineside", "torch", "onnx", "onnxruntime", "numpy", "opencv-python-headless")
"""Distributions whose versions decide what a network answers."""


def sbom_bytes(manifest: Manifest, *, libraries: Mapping[str, str]) -> bytes:
    """The document; canonical JSON.

    Args:
        manifest: of the package.
        libraries: name → version of what made it.
    """
    return encode(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {
                "component": {
                    "type": "machine-learning-model",
                    "bom-ref": "package",
                    "name": manifest.name,
                }
            },
            "components": [_network(manifest), _data(manifest), *_libraries(libraries)],
            "dependencies": [
                {
                    "ref": "package",
                    "dependsOn": ["network", "data", *(f"lib:{n}" for n in libraries)],
                }
            ],
        }
    )


def libraries_here(names: Sequence[str] = MADE_WITH) -> dict[str, str]:
    """Versions of what is installed of them, in the order of ``names``."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _network(manifest: Manifest) -> dict[str, Any]:
    engine, lineage, parity = manifest.engine, manifest.lineage, manifest.parity
    made: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": "network",
        "name": engine.file,
        "description": lineage.weights,
        "hashes": [_hash(engine.digest)],
    }
    if parity is not None and parity.original:
        made["pedigree"] = {"ancestors": [{"type": "file", "name": parity.original}]}
    return made | _licensed(lineage.weights_licence)


def _data(manifest: Manifest) -> dict[str, Any]:
    lineage = manifest.lineage
    made: dict[str, Any] = {
        "type": "data",
        "bom-ref": "data",
        "name": lineage.dataset or "unnamed",
        "hashes": [_hash(lineage.data_digest)],
    }
    return made | _licensed(lineage.data_licence)


def _libraries(libraries: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "type": "library",
            "bom-ref": f"lib:{name}",
            "name": name,
            "version": number,
            "purl": f"pkg:pypi/{name}@{number.replace('+', '%2B')}",
        }
        for name, number in libraries.items()
    ]


def _hash(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest.removeprefix("sha256:")}


def _licensed(licence: str) -> dict[str, Any]:
    return {"licenses": [{"license": {"name": licence}}]} if licence else {}


def with_sbom(
    manifest: Manifest,
    files: Mapping[str, bytes],
    *,
    libraries: Mapping[str, str] | None = None,
) -> tuple[Manifest, dict[str, bytes]]:
    """A manifest and its files with the bill of materials and the platforms it may run on.

    Args:
        manifest: of any package.
        files: of that package.
        libraries: that made it; default: those installed here.
    """
    versions = libraries_here() if libraries is None else libraries
    extended = replace(manifest, targets=manifest.targets or PLATFORMS, sbom_file=SBOM_FILE)
    return extended, {**files, SBOM_FILE: sbom_bytes(manifest, libraries=versions)}
