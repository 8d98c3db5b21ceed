"""From others' ONNX to a package, from a package to its int8 variant, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lineside.cli.app import _run
from lineside.models import Package
from lineside.testing.engines import shades
from lineside.vision import encode_png

WRAP = """
name = "shades"
task = "classify"
labels = ["dark", "bright"]
[licence]
weights = "MIT"
data = "CC0-1.0"
[input]
width_px = 16
height_px = 16
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Dark and bright pictures with grain; the last eight are the test part."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = ["file,label,split"]
    rng = np.random.default_rng(1)
    for number in range(32):
        bright = bool(number % 2)
        image = rng.integers(150 if bright else 0, 250 if bright else 100, (20, 20, 3))
        (folder / f"{number}.png").write_bytes(encode_png(np.asarray(image, np.uint8)))
        part = "test" if number >= 24 else "valid" if number >= 20 else "train"
        rows.append(f"{number}.png,{'bright' if bright else 'dark'},{part}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def pack(folder: Path, *, fragile: bool = False) -> Path:
    (folder / "o.onnx").write_bytes(shades(fragile=fragile))
    (folder / "o.toml").write_text(WRAP)
    out = folder / "shades.lspkg"
    words = ["package", "wrap", str(folder / "o.onnx"), "--manifest", str(folder / "o.toml")]
    assert _run([*words, "--out", str(out)]) == 0
    return out


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> Any:  # noqa: ANN401  JSON
    capsys.readouterr()
    assert _run([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_package_is_quantised_shown_and_proved(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package, page = pack(tmp_path), tmp_path / "report.html"
    words = ["package", "quantize", str(package), "--data", str(data), "--report", str(page)]
    made = told(words, capsys)
    assert made["package"] == str(tmp_path / "shades.int8.lspkg")
    assert made["parity"]["metric_loss"] == 0.0
    assert made["parity"]["n"] == 8
    assert made["latency_ms"]["ratio"] > 0
    assert b"certificate of parity" in page.read_bytes()
    shown = told(["package", "show", made["package"]], capsys)
    assert shown["precision"] == "int8"
    assert shown["parity"]["original"] == Package.open(package).digest
    assert shown["licence"] == {"weights": "MIT", "data": "CC0-1.0"}
    assert shown["targets"] == ["linux/x86_64", "linux/aarch64"]
    assert {"onnxruntime", "network.onnx"} <= {each["name"] for each in shown["sbom"]}
    assert shown["manifest"]["metrics"]["accuracy"]["n"] == 8
    assert told(["package", "verify", made["package"]], capsys)["digest"] == made["digest"]
    assert _run(["package", "show", made["package"]]) == 0
    text = capsys.readouterr().out
    assert "parity: accuracy 1.0000 -> 1.0000" in text
    assert ", in raw outputs (logits, distances)\n" in text
    assert "warning: 8 pictures say little; name more with --test" in text


def test_the_same_package_and_pictures_give_the_same_bytes(tmp_path: Path, data: Path) -> None:
    package = pack(tmp_path)
    outs = [tmp_path / "one.lspkg", tmp_path / "two.lspkg"]
    for out in outs:
        words = ["package", "quantize", str(package), "--data", str(data), "--out", str(out)]
        assert _run(words) == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_a_variant_that_loses_too_much_is_not_written(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = pack(tmp_path, fragile=True)
    assert _run(["package", "quantize", str(package), "--data", str(data)]) == 5
    said = capsys.readouterr().err
    assert "no int8 variant keeps the bound 0.05" in said
    assert said.count("accuracy 1.0000 ->") >= 3  # every rung with its figures
    assert not (tmp_path / "shades.int8.lspkg").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--bound", "2"], "is no loss"),
        (["--weight-bits", "4"], "weights of 4 bits"),
        (["--calibrate", "0"], "no calibration picture"),
        (["--out", "/nowhere/x.lspkg"], "no file can be written there"),
    ],
)
def test_wishes_that_make_no_sense_are_named(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    package = pack(tmp_path)
    assert _run(["package", "quantize", str(package), "--data", str(data), *words]) in (2, 3)
    assert sentence in capsys.readouterr().err


def test_data_without_either_kind_of_picture_is_named(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package, table = pack(tmp_path), data / "labels.csv"
    lines = table.read_text().splitlines()
    whole = "\n".join(lines)
    table.write_text(whole.replace(",test", ",train"))
    assert _run(["package", "quantize", str(package), "--data", str(data)]) == 2
    assert "--test SRC" in capsys.readouterr().err
    table.write_text(whole.replace(",train", ",test").replace(",valid", ",test"))
    assert _run(["package", "quantize", str(package), "--data", str(data)]) == 2
    assert "value ranges" in capsys.readouterr().err


def test_two_sources_are_read_as_one(tmp_path: Path, data: Path) -> None:
    package = pack(tmp_path)
    table = data / "labels.csv"
    lines = table.read_text().splitlines()
    for name, part in (("train", "train"), ("test", "test")):
        kept = [line for line in lines[1:] if line.endswith(part)]
        (data / f"{name}.csv").write_text("\n".join([lines[0], *kept]) + "\n")
    words = ["package", "quantize", str(package), "--data", str(data / "train.csv")]
    assert _run([*words, "--test", str(data / "test.csv")]) == 0
    assert Package.open(tmp_path / "shades.int8.lspkg").manifest.parity is not None


def test_a_variant_is_not_quantised_again(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = pack(tmp_path)
    assert _run(["package", "quantize", str(package), "--data", str(data)]) == 0
    variant = tmp_path / "shades.int8.lspkg"
    assert _run(["package", "quantize", str(variant), "--data", str(data)]) == 2
    assert "int8 already" in capsys.readouterr().err


def test_files_that_are_not_there_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["package", "wrap", str(tmp_path / "none.onnx"), "--manifest", str(tmp_path / "n.toml")]
    assert _run([*words, "--out", str(tmp_path / "o.lspkg")]) == 3
    assert "none.onnx" in capsys.readouterr().err
    (tmp_path / "o.onnx").write_bytes(shades())
    (tmp_path / "o.toml").write_text(WRAP)
    words = ["package", "wrap", str(tmp_path / "o.onnx"), "--manifest", str(tmp_path / "o.toml")]
    words += ["--out", str(tmp_path / "o.lspkg"), "--golden", str(tmp_path / "nowhere")]
    assert _run(words) == 2
    assert "no folder" in capsys.readouterr().err
