"""The bill of materials of a package, as a CycloneDX 1.6 document.

The same package says the same: no time and no serial number stand in it, both of which the format
leaves open (CycloneDX 1.6, 4.1: ``serialNumber`` and ``metadata.timestamp`` are optional).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lineside.core import Digest, encode
from lineside.models.manifest import PLATFORMS, Manifest

SBOM_FILE = "sbom.cdx.json"
MADE_WITH = ("lineside", "torch", "onnx", "onnxruntime", "numpy", "opencv-python-headless")
"""Distributions whose versions decide what a network answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """The input of a bill of materials.

    Attributes:
        name: of the package.
        network: name and digest of the ONNX file.
        weights: where the network's weights came from, in words.
        weights_licence, data_licence: SPDX identifier or words; "" where nobody said.
        dataset, data_digest: what it learned from.
        libraries: name → version of what made it.
        original: digest of the package that this is a variant of; "" for none.
    """

    name: str
    network: tuple[str, Digest]
    weights: str
    weights_licence: str
    data_licence: str
    dataset: str
    data_digest: Digest
    libraries: Mapping[str, str]
    original: str = ""


def sbom_bytes(inside: Inside) -> bytes:
    """The document; canonical JSON."""
    return encode(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {
                "component": {
                    "type": "machine-learning-model",
                    "bom-ref": "package",
                    "name": inside.name,
                }
            },
            "components": [_network(inside), _data(inside), *_libraries(inside.libraries)],
            "dependencies": [
                {
                    "ref": "package",
                    "dependsOn": ["network", "data", *(f"lib:{n}" for n in inside.libraries)],
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


def _network(inside: Inside) -> dict[str, Any]:
    file, digest = inside.network
    made: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": "network",
        "name": file,
        "description": inside.weights,
        "hashes": [_hash(digest)],
    }
    if inside.original:
        made["pedigree"] = {"ancestors": [{"type": "file", "name": inside.original}]}
    return made | _licensed(inside.weights_licence)


def _data(inside: Inside) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "data",
        "bom-ref": "data",
        "name": inside.dataset or "unnamed",
        "hashes": [_hash(inside.data_digest)],
    }
    return made | _licensed(inside.data_licence)


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
    lineage = manifest.lineage
    inside = Inside(
        name=manifest.name,
        network=(manifest.engine.file, manifest.engine.digest),
        weights=lineage.weights,
        weights_licence=lineage.weights_licence,
        data_licence=lineage.data_licence,
        dataset=lineage.dataset,
        data_digest=lineage.data_digest,
        libraries=libraries_here() if libraries is None else libraries,
        original="" if manifest.parity is None else manifest.parity.original,
    )
    told = replace(manifest, targets=manifest.targets or PLATFORMS, sbom_file=SBOM_FILE)
    return told, {**files, SBOM_FILE: sbom_bytes(inside)}
