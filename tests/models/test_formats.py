"""Packages of every released manifest still open and answer; what is inside is told."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lineside.core import InvalidError, decode_json
from lineside.models import MANIFEST_SCHEMA, Manifest, Package, Predictor, build_package
from lineside.models.archive import SBOM_FILE, with_sbom
from lineside.testing import FakeClock

FORMATS = Path(__file__).parents[1] / "data" / "formats"


@pytest.mark.parametrize("number", [1, 2])
def test_a_package_of_an_earlier_schema_opens_and_answers(number: int) -> None:
    opened = Package.open(FORMATS / f"package-manifest-{number}.lspkg")
    assert opened.manifest.schema == f"lineside.manifest/{number}"
    manifest = opened.manifest
    assert (manifest.targets, manifest.parity, manifest.good) == ((), None, ())
    assert Predictor(opened, clock=FakeClock()).check_golden().pictures == 1


def test_an_earlier_package_is_written_anew_as_it_was() -> None:
    for number in (1, 2):
        opened = Package.open(FORMATS / f"package-manifest-{number}.lspkg")
        files = {name: each for name, each in opened.files.items() if name != "manifest.json"}
        again = Package.read(build_package(opened.manifest, files))
        assert again.manifest == opened.manifest


def sbom(parts: tuple[Manifest, dict[str, bytes]], **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    manifest, files = with_sbom(*parts, libraries={"onnx": "1.20.0", "torch": "2.9+cpu"})
    opened = Package.read(build_package(manifest, files))
    assert opened.manifest.targets == ("linux/x86_64", "linux/aarch64")
    found: dict[str, Any] = decode_json(opened.file(SBOM_FILE), where=SBOM_FILE)
    return found | changes


def test_the_bill_of_materials_names_weights_data_and_libraries(
    parts: tuple[Manifest, dict[str, bytes]],
) -> None:
    found = sbom(parts)
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    by_name = {each["name"]: each for each in found["components"]}
    network = parts[0].engine.digest.removeprefix("sha256:")
    assert by_name["network.onnx"]["hashes"] == [{"alg": "SHA-256", "content": network}]
    assert by_name["rack/1"]["type"] == "data"
    assert by_name["torch"]["purl"] == "pkg:pypi/torch@2.9%2Bcpu"
    named = {each["bom-ref"] for each in found["components"]}
    assert set(found["dependencies"][0]["dependsOn"]) == named


def test_the_same_package_says_the_same(parts: tuple[Manifest, dict[str, bytes]]) -> None:
    assert sbom(parts) == sbom(parts)
    first, second = (build_package(*with_sbom(*parts)) for _ in range(2))
    assert first == second


def test_a_manifest_of_this_version_says_so(parts: tuple[Manifest, dict[str, bytes]]) -> None:
    assert MANIFEST_SCHEMA == "lineside.manifest/3"
    manifest, files = with_sbom(*parts)
    del files[SBOM_FILE]
    with pytest.raises(InvalidError, match=SBOM_FILE):
        build_package(manifest, files)


def test_a_platform_nobody_builds_for_is_a_fault(
    parts: tuple[Manifest, dict[str, bytes]],
) -> None:
    manifest = replace(parts[0], targets=("linux/riscv64",))
    with pytest.raises(InvalidError, match="linux/riscv64"):
        build_package(manifest, parts[1])
