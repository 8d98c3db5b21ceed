"""``lineside model``: numbered versions are listed, shown, approved and rejected by name."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lineside.cli.app import _run
from lineside.cli.config import load_hub
from lineside.cli.model import model_versions, registry
from lineside.cli.pipeline import _announce
from lineside.core import SystemClock
from lineside.store import open_records
from lineside.training import RunRecord
from lineside.training.pipeline import Outcome
from tests.hub.conftest import PLANT
from tests.training.test_evaluated_packages import CONSTANT, METER, network, packed

GROUP = "surface-models"


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "hub.toml"
    plant = tmp_path / "plant.toml"
    plant.write_bytes(PLANT)
    file.write_text(f'data_dir = "{tmp_path / "hub"}"\nplant = "{plant}"\n')
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
    with registry(Path(config)) as models:
        for used in (listed["models"][1]["digest"], listed["models"][0]["digest"]):
            models.use(used, inspection="stock", by="eve", reason="first day")
    assert _run(["model", "list", "--config", config]) == 0
    rows = capsys.readouterr().out.splitlines()[1:3]
    assert [row.split()[-1] for row in rows] == ["stock", "none"]
    one = told(["model", "show", f"{GROUP}/2", "--config", config], capsys)
    assert one["evidence"] == {"run": "run_1"}
    shown = told(["model", "show", one["digest"], "--config", config], capsys)
    assert shown["digest"] == one["digest"]


def test_a_person_approves_and_rejects_with_a_reason(
    config: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    who = ["--by", "eve", "--config", config]
    words = ["model", "approve", f"{GROUP}/1", "--reason", "looked at 40 escapes", *who]
    assert told(words, capsys)["status"] == "Approved"
    assert _run(["model", "reject", f"{GROUP}/2", "--reason", "one answer only", *who]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == "Rejected by eve: one answer only"
    assert len(rest) == 1, "figures are shown by lineside model show"
    assert "lineside.hub.models.model_service" not in {one.name for one in caplog.records}
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


def test_makers_do_not_approve_and_the_log_says_who_did(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--reason", "good", "--config", config]
    assert _run(["model", "approve", f"{GROUP}/1", "--by", "Ada", *where]) == 5
    assert "you can't approve your own version" in capsys.readouterr().err
    assert _run(["model", "approve", f"{GROUP}/1", "--by", "eve", *where]) == 0
    clock = SystemClock()
    with open_records(load_hub(Path(config)).config.records_url, clock=clock) as records:
        logged = records.log.read(type="lineside.model.v1")
    assert [json.loads(one.entry.body)["data"]["by"] for one in logged] == ["eve"]


def test_where_there_are_users_one_who_may_release_decides(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "password"
    secret.write_text("correct horse battery\n")
    for name, role in (("vic", "viewer"), ("eve", "approver")):
        words = ["user", "add", name, "--role", role, "--password-file", str(secret)]
        assert _run([*words, "--config", config]) == 0
    where = ["--reason", "good", "--config", config]
    for nobody in ("vic", "zoe"):
        assert _run(["model", "approve", f"{GROUP}/1", "--by", nobody, *where]) == 5
    assert "Who may: eve" in capsys.readouterr().err
    assert _run(["model", "approve", f"{GROUP}/1", "--by", "eve", *where]) == 0


def test_the_evidence_is_written_as_a_file(config: str, tmp_path: Path) -> None:
    page, document = tmp_path / "report.html", tmp_path / "report.json"
    for report in (page, document):
        words = ["model", "show", GROUP, "2", "--report", str(report), "--config", config]
        assert _run(words) == 0
    assert "<h1>surface-models/2</h1>" in page.read_text()
    assert "http" not in page.read_text().replace("http-equiv", "")
    evidence = json.loads(document.read_text())
    assert evidence["schema"] == "lineside.version-evidence/3"
    assert evidence["lineage"]["Made"][:19] == evidence["version"]["registered_at"][:19]
    assert _run(["model", "show", GROUP, "2", "--report", "/nowhere/x", "--config", config]) == 3


def test_a_package_is_registered_and_compared_by_command(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "third.lspkg"
    file.write_bytes(packed(network(gain=2.0, bias=1.0)))
    words = ["model", "register", GROUP, str(file), "--by", "ada", "--config", config]
    one = told(words, capsys)
    assert (one["version"], one["status"], one["registered_by"]) == (
        3,
        "PendingManualApproval",
        "ada",
    )
    again = ["model", "register", GROUP, one["digest"], "--by", "ada", "--config", config]
    assert told(again, capsys)["version"] == 3
    found = told(["model", "compare", f"{GROUP}/3", "--config", config], capsys)
    assert "Nothing is in use" in found["why_not"]
    page = tmp_path / "evidence.json"
    assert _run(["model", "show", f"{GROUP}/3", "--report", str(page), "--config", config]) == 0
    assert json.loads(page.read_text())["comparison"]["why_not"] == found["why_not"]
    clock = SystemClock()
    with open_records(load_hub(Path(config)).config.records_url, clock=clock) as records:
        logged = records.log.read(type="lineside.model.v1")
    assert [json.loads(each.entry.body)["data"]["action"] for each in logged] == ["registered"]
    missing = ["model", "register", GROUP, "none.lspkg", "--by", "ada", "--config", config]
    assert _run(missing) == 3
    assert _run(["model", "compare", f"{GROUP}/9", "--config", config]) == 3


def test_a_pipelines_version_is_told_to_the_hub(config: str) -> None:
    clock = SystemClock()
    record = RunRecord(
        id="run_1", pipeline="p", started_at=clock.now(), ended_at=clock.now(), by="ada",
        parameters={}, outcome=Outcome.SUCCEEDED, steps=(), version=f"{GROUP}/2",
    )  # fmt: skip
    _announce(record, config=Path(config))
    _announce(replace(record, version=""), config=Path(config))
    with open_records(load_hub(Path(config)).config.records_url, clock=clock) as records:
        (logged,) = records.log.read(type="lineside.model.v1")
    told = json.loads(logged.entry.body)["data"]
    assert (told["group"], told["action"], told["by"]) == (GROUP, "registered", "ada")
