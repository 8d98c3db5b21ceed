"""``lineside pipeline``: flags, exit codes and literals as of the tools it replaces."""

import json
from pathlib import Path

import pytest

from lineside.cli.app import _run

CLASSIFICATION = "lineside.training.pipeline.image_classification"


def test_the_definition_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-role-arn", "arn:aws:iam::1:role/x", "-kwargs", "{'pipeline_name': 'mine'}"]
    assert _run(["pipeline", "definition", "-n", CLASSIFICATION, *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["Metadata"]["Name"] == "mine"
    assert len(told["Steps"]) == 5


def test_the_definition_goes_into_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "definition.json"
    words = ["--module-name", CLASSIFICATION, "-f", str(file)]
    assert _run(["pipeline", "definition", *words]) == 0
    assert capsys.readouterr().out == ""
    assert json.loads(file.read_text())["Version"] == "2020-12-01"


@pytest.mark.parametrize("command", ["definition", "run"])
def test_without_a_module_the_help_is_printed_and_the_code_is_2(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(["pipeline", command]) == 2
    assert "--module-name" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-n", "no.such.module"], "no module"),
        (["-n", "json"], "get_pipeline"),
        (["-n", CLASSIFICATION, "-kwargs", "__import__('os').getcwd()"], "no literal"),
        (["-n", CLASSIFICATION, "-kwargs", "[1, 2]"], "a list"),
        (["-n", CLASSIFICATION, "-kwargs", "(" * 3000], "no literal"),
        (["-n", CLASSIFICATION, "-kwargs", "{'colour': 'blue'}"], "colour"),
        (["-n", CLASSIFICATION, "-kwargs", "{'parameters': {'Epochs': 1}}"], "Epochs"),
    ],
)
def test_any_failure_is_an_exception_on_stderr_and_code_1(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(["pipeline", "definition", *words]) == 1
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err.startswith("Exception: ")
    assert said in caught.err


def test_a_run_without_data_fails_after_its_definition(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-n", CLASSIFICATION, "--folder", str(tmp_path / "runs"), "-description", "night run"]
    assert _run(["pipeline", "run", *words, "-tags", "[{'Key': 'line', 'Value': '3'}]"]) == 1
    caught = capsys.readouterr()
    assert json.loads(caught.out)["Version"] == "2020-12-01"
    assert "Exception: no data to train on" in caught.err
    (kept,) = (tmp_path / "runs" / "runs").glob("*.json")
    record = json.loads(kept.read_text())
    assert (record["outcome"], record["description"]) == ("Failed", "night run")
    assert record["tags"] == {"line": "3"}


@pytest.mark.parametrize("tags", ["[{'Key': 'a'}]", "{'a': 1}", "['a']", "[print]"])
def test_tags_are_a_list_of_keys_and_values(
    tags: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-n", CLASSIFICATION, "--folder", str(tmp_path), "--tags", tags]
    assert _run(["pipeline", "run", *words]) == 1
    assert "(-tags)" in capsys.readouterr().err


def test_a_module_of_ones_own_is_found_where_one_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "our_tiles.py").write_text(
        "from lineside.training.pipeline import image_classification\n"
        "def get_pipeline(**kwargs):\n"
        "    return image_classification.get_pipeline(pipeline_name='tiles', **kwargs)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert _run(["pipeline", "definition", "-n", "our_tiles"]) == 0
    assert json.loads(capsys.readouterr().out)["Metadata"]["Name"] == "tiles"
