"""``lineside model``: numbered versions are listed, shown, approved and rejected by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from lineside.cli.app import _run
from lineside.cli.model import model_versions
from tests.training.test_evaluated_packages import CONSTANT, METER, packed

GROUP = "surface-models"


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "hub.toml"
    file.write_text(f'data_dir = "{tmp_path / "hub"}"\nplant = "plant.toml"\n')
    (tmp_path / "hub").mkdir()
    with model_versions(file) as versions:
        for model in (METER, CONSTANT):
            versions.register(
                packed(model), group=GROUP, by="ada", metrics={}, evidence={"run": "run_1"}
            )
    return str(file)


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> Any:  # noqa: ANN401  JSON
    assert _run([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_versions_are_listed_and_shown(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    listed = told(["model", "list", "--config", config], capsys)
    assert [(one["name"], one["version"], one["status"]) for one in listed["versions"]] == [
        (GROUP, 1, "PendingManualApproval"),
        (GROUP, 2, "PendingManualApproval"),
    ]
    assert len(listed["models"]) == 2
    one = told(["model", "show", f"{GROUP}/2", "--config", config], capsys)
    assert one["evidence"] == {"run": "run_1"}
    shown = told(["model", "show", one["digest"], "--config", config], capsys)
    assert shown["digest"] == one["digest"]


def test_a_person_approves_and_rejects_with_a_reason(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    who = ["--by", "eve", "--config", config]
    words = ["model", "approve", f"{GROUP}/1", "--reason", "looked at 40 escapes", *who]
    assert told(words, capsys)["status"] == "Approved"
    assert _run(["model", "reject", f"{GROUP}/2", "--reason", "one answer only", *who]) == 0
    assert "Rejected by eve: one answer only" in capsys.readouterr().out
    assert _run(["model", "list", "--config", config]) == 0
    assert f"{GROUP}/1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["approve", f"{GROUP}/9", "--by", "eve", "--reason", "x"], 3),
        (["approve", f"{GROUP}/1", "--by", " ", "--reason", "x"], 2),
        (["approve", "nonsense", "--by", "eve", "--reason", "x"], 2),
        (["show", f"{GROUP}/one"], 2),
        (["approve", f"{GROUP}/1"], 2),
    ],
)
def test_what_makes_no_sense_gets_its_sentence(config: str, words: list[str], code: int) -> None:
    assert _run(["model", *words, "--config", config]) == code
