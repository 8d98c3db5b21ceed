"""``lineside plant``: versions of a plant file, beside a hub that runs and without one."""

import json
from pathlib import Path

import pytest

from lineside.cli.app import _run
from lineside.core import SystemClock
from lineside.hub import HubConfig, running
from lineside.testing.links import wait_until
from tests.hub.conftest import PLANT


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    (tmp_path / "plant.toml").write_bytes(PLANT)
    file = tmp_path / "hub.toml"
    file.write_text(f'data_dir = "{tmp_path / "data"}"\nplant = "{tmp_path / "plant.toml"}"\n')
    return str(file)


def test_versions_are_listed_shown_applied_and_rolled_back(
    config_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at, why = ["--config", config_file], ["--reason", "renamed"]
    plant, new = tmp_path / "plant.toml", tmp_path / "new.toml"
    new.write_bytes(PLANT.replace(b"Training hall", b"Hall 4"))
    assert _run(["plant", "apply", str(new), *at, *why, "--by", "anna"]) == 0
    assert plant.read_bytes() == new.read_bytes()
    assert _run(["plant", "history", *at, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(one["number"], one["by"]) for one in told["versions"]] == [(2, "anna"), (1, "hub")]
    assert _run(["plant", "diff", "2", *at]) == 0
    assert '+name = "Hall 4"' in capsys.readouterr().out
    assert _run(["plant", "apply", str(new), *at, *why, "--base", "1"]) == 4
    assert "version 2 of the plant file is in force" in "".join(capsys.readouterr())
    assert _run(["plant", "rollback", "1", *at, "--reason", "back"]) == 0
    assert plant.read_bytes() == PLANT
    plant.write_bytes(PLANT + b"# by hand\n")
    assert _run(["plant", "history", *at]) == 0
    assert "changed by hand" in capsys.readouterr().out
    assert _run(["plant", "rollback", "2", *at, "--reason", "again"]) == 4
    assert _run(["plant", "restore", *at]) == 0
    assert plant.read_bytes() == PLANT
    plant.write_bytes(PLANT + b"# by hand\n")
    assert _run(["plant", "apply", *at, "--reason", "it was right"]) == 0
    assert _run(["plant", "apply", str(new), *at, "--reason", ""]) == 2


def test_a_hub_that_runs_applies_what_a_command_kept(config_file: str, tmp_path: Path) -> None:
    config = HubConfig(
        data_dir=str(tmp_path / "data"), plant=str(tmp_path / "plant.toml"), port=0, bus_port=0
    )
    new = tmp_path / "new.toml"
    new.write_bytes(PLANT.replace(b"Training hall", b"Hall 4"))
    with running(config, clock=SystemClock()) as hub:
        assert hub.services.plant.name == "Training hall"
        assert _run(["plant", "apply", str(new), "--config", config_file, "--reason", "new"]) == 0
        wait_until(lambda: hub.services.plant.name == "Hall 4")
    with running(config, clock=SystemClock()) as hub:
        assert hub.services.plant.name == "Hall 4"
        assert hub.services.plants.newest().number == 2
