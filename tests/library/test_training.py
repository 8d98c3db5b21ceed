"""Trainings started from Python give the model that the command gives."""

from pathlib import Path

import numpy as np
import pytest

import lineside
from lineside.core import InvalidError, NotFoundError, Task
from lineside.library.training import training_job
from lineside.vision import encode_png

SHADES = {"bright": 200, "dark": 60}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty images of each of two classes that a mean grey tells apart."""
    root = tmp_path_factory.mktemp("parts")
    random = np.random.default_rng(3)
    for label, shade in SHADES.items():
        (root / label).mkdir()
        for number in range(20):
            image = random.normal(shade, 20, (64, 64, 3)).clip(0, 255).astype(np.uint8)
            (root / label / f"{number}.png").write_bytes(encode_png(image))
    return root


@pytest.mark.slow
def test_a_folder_becomes_a_package_that_answers(folders: Path, tmp_path: Path) -> None:
    stages: list[str] = []
    model = lineside.train(
        "classify",
        data=folders,
        out=tmp_path / "parts.lspkg",
        progress=lambda progress: stages.append(progress.stage),
        settings={"tune": 0, "input_px": 64},
    )
    assert stages
    assert lineside.load(tmp_path / "parts.lspkg").digest == model.digest
    image = np.full((64, 64, 3), 200, np.uint8)
    image[::2] = 180
    result = lineside.load(tmp_path / "parts.lspkg", good=["dark"]).predict(
        folders / "bright/0.png"
    )
    assert {label.label for label in result.labels} == set(SHADES)
    assert result.verdict in {"reject", "review"}


def test_an_unknown_task_and_missing_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="Known: multilabel, classify"):
        lineside.train("sort", data=tmp_path)
    assert training_job(Task.ANOMALY, data="x", good=("i.O.",)).inspection.good == ("i.O.",)
    with pytest.raises(NotFoundError, match="none"):
        lineside.train("classify", data=tmp_path / "none")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("parts/", "parts"),
        ("parts/train.lst", "train"),
        ("parts/labels.csv", "parts"),
        ("parts?group=folder", "parts"),
        ("dataset://tiles/4", "tiles"),
        (".", "line-2"),
        ("/", "pictures"),
    ],
)
def test_a_package_is_named_after_its_data(
    *, data: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "line 2").mkdir()
    monkeypatch.chdir(tmp_path / "line 2")
    assert training_job(Task.ANOMALY, data=data).inspection.id == name
