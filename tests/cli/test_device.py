"""``lineside device``: what people are told of a device that they invite or look at."""

from pathlib import Path

import pytest

from lineside.cli.app import _run
from lineside.cli.hub import settings
from lineside.core import SystemClock, encode
from lineside.hub import open_inventory
from tests.hub.conftest import PLANT


@pytest.fixture
def file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A site with its authority, no hub running."""
    (tmp_path / "plant.toml").write_bytes(PLANT)
    made = tmp_path / "hub.toml"
    made.write_text(
        f'data_dir = "{tmp_path / "data"}"\nplant = "{tmp_path / "plant.toml"}"\n'
        'public_url = "https://hub.lan:8443"\n'
    )
    assert _run(["hub", "init", "--config", str(made)]) == 0
    capsys.readouterr()
    return made


def test_an_invitation_ends_with_the_line_for_the_device(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(["device", "invite", "--name", "edge-1", "--config", str(file)]) == 0
    said = capsys.readouterr()
    line = f"lineside device enrol --hub https://hub.lan:8443 --code {said.out.strip()}"
    assert said.err.splitlines()[-1] == line


def test_a_device_that_is_off_shows_what_it_told_last(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"schema": "lineside.device/1", "device": "edge-1", "state": "online", "version": "1"}
    with open_inventory(settings(file), clock=SystemClock()) as inventory:
        for more in ({"packages": [{"inspection": "stock"}]}, {"state": "offline", "packages": []}):
            inventory.devices.take_status("edge-1", encode(told | more))
        inventory.devices.flush_all()
    assert _run(["device", "show", "edge-1", "--config", str(file)]) == 0
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["packages", "1 (as last reported)"] in rows
    assert ["state", "offline"] in rows


@pytest.mark.parametrize(
    "words", [["device", "revoke", "edge-1", "--reason", "stolen"], ["user", "remove", "anna"]]
)
def test_what_cannot_be_undone_asks_for_yes_where_nobody_is_there_to_ask(
    file: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run([*words, "--config", str(file)]) == 2
    told = capsys.readouterr().err
    assert "Nobody is there to ask" in told
    assert "fix: Add --yes to do it unasked." in told
