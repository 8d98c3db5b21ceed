"""``lineside dataset import`` and ``export``: what goes in by one format comes out by another."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lineside.datasets import load_source
from lineside.datasets.formats import write_lst
from lineside.vision import encode_png


def lineside(*words: object) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "lineside", "dataset", *map(str, words), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


@pytest.mark.slow
def test_chosen_pictures_go_in_and_come_out_in_another_format(tmp_path: Path) -> None:
    source, store = tmp_path / "source", tmp_path / "store"
    source.mkdir()
    for number in range(12):
        pixels = np.full((8, 8, 3), number * 20, np.uint8)
        (source / f"{number:05d}.png").write_bytes(encode_png(pixels))
    rows = [(number, [number % 2], f"{number:05d}.png") for number in range(12)]
    (source / "x_train.lst").write_bytes(write_lst(rows))
    (source / "x_classes.txt").write_text("dent\ngood\n")
    (tmp_path / "ids.csv").write_text("id,count\n3,1\n8,1\n99,1\n")
    told = lineside(
        "import", source, "--into", "parts", "--store", store, "--ids", tmp_path / "ids.csv"
    )
    assert (told["samples"], told["format"]) == (2, "lst")
    told = lineside("import", source, "--into", "few", "--store", store, "--sample", 4, "--seed", 2)
    assert told["samples"] == 4
    lineside("freeze", "parts", "--store", store)
    out = tmp_path / "out"
    lineside("export", "parts", "--to", out, "--format", "folders", "--store", store)
    found = load_source(out)
    assert sorted(sample.labels[0] for sample in found.samples) == ["dent", "good"]
    assert {sample.digest for sample in found.samples} <= {
        sample.digest for sample in load_source(source).samples
    }
