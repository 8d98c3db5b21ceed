"""``lineside operating-point``: limits previewed, proposed, approved and rolled back."""

import json
from pathlib import Path
from typing import Any

import pytest

from lineside.cli.app import _run
from lineside.cli.model import registry
from lineside.models import build_package
from tests.hub.conftest import PLANT
from tests.models.conftest import package_parts


@pytest.fixture
def config(tmp_path: Path) -> str:
    file, plant = tmp_path / "hub.toml", tmp_path / "plant.toml"
    plant.write_bytes(PLANT)
    file.write_text(f'data_dir = "{tmp_path / "hub"}"\nplant = "{plant}"\n')
    (tmp_path / "hub").mkdir()
    with registry(file) as packages:
        added = packages.add(build_package(*package_parts()), by="ada")
        packages.use(added.digest, inspection="stock", by="eve", reason="good")
    return f"--config={file}"


def test_a_limit_goes_from_preview_to_approval_and_back(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*words: str) -> Any:  # noqa: ANN401  JSON
        assert _run(["operating-point", *words, config, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    moved = "--limit=disc=0.3:0.7"
    seen = told("preview", "stock", moved, "--costs=4,350,0.8")
    assert (seen["version"], seen["recorded"]["frames"]) == (0, 0)
    assert seen["after"][0] == {"name": "disc", "low": 0.3, "high": 0.7}
    assert told("propose", "stock", moved, "--by=ada", "--reason=doubt")["number"] == 1
    mine = ["operating-point", "approve", "stock", "1", "--by=ada", "--reason=mine", config]
    assert _run(mine) == 5
    assert "you can't approve your own version" in capsys.readouterr().err
    assert told("approve", "stock", "1", "--by=eve", "--reason=ok")["status"] == "Approved"
    back = told("rollback", "stock", "1", "--by=eve", "--reason=escape")
    assert (back["number"], back["rolled_back_to"]) == (2, 1)
    told("propose", "stock", moved, "--by=ada", "--reason=again")
    assert told("reject", "stock", "3", "--by=eve", "--reason=no")["status"] == "Rejected"
    assert [one["number"] for one in told("list", "stock")["versions"]] == [1, 2, 3]
    assert _run(["operating-point", "list", "stock", config]) == 0
    assert "disc 0.3 / 0.7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (["--limit=disc"], "Write NAME=LOW:HIGH."),
        (["--limit=disc=a:b"], "Write NAME=LOW:HIGH."),
        (["--limit=disc=0.1:0.2", "--costs=1"], "Write REJECT,ESCAPE,REVIEW."),
        (["--limit=pink=0.1:0.2"], "one of disc, ring"),
    ],
)
def test_wrong_words_say_how_to_write_them(
    config: str, capsys: pytest.CaptureFixture[str], *, words: list[str], fix: str
) -> None:
    assert _run(["operating-point", "preview", "stock", *words, config]) == 2
    assert fix in capsys.readouterr().err
