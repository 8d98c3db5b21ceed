"""``lineside rule try`` and ``lineside rule export`` on a hub's own log."""

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from lineside.cli.app import app
from lineside.core import InvalidError, LinesideError, NotFoundError, load_plant, rfc3339
from lineside.hub import HubConfig
from lineside.testing import FakeClock
from tests.hub.conftest import PLANT, drain, open_hub
from tests.hub.test_rules import PAIRS, WINDOWS, follower, socks

RULES = f"[[rule]]{WINDOWS}\n[[rule]]\n{PAIRS}"


@pytest.fixture
def hub(tmp_path: Path, clock: FakeClock) -> tuple[Path, str, str]:
    """The settings of a hub whose rules have run, and the span in which socks passed."""
    (tmp_path / "plant.toml").write_bytes(PLANT + RULES.encode())
    config = HubConfig(data_dir=str(tmp_path / "data"), plant=str(tmp_path / "plant.toml"))
    (tmp_path / "hub.toml").write_text(
        f'data_dir = "{tmp_path / "data"}"\nplant = "{tmp_path / "plant.toml"}"\n'
    )
    (tmp_path / "data").mkdir()
    begin = clock.now()
    with open_hub(config, plant=load_plant(tmp_path / "plant.toml"), clock=clock) as services:
        made = follower(services)
        socks(services, clock)
        drain(made)
    return tmp_path / "hub.toml", rfc3339(begin), rfc3339(clock.now())


def run(*words: str) -> Result:
    result = CliRunner().invoke(app, ["rule", *words])
    if isinstance(result.exception, LinesideError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_what_rules_said_is_written_as_each_form(
    hub: tuple[Path, str, str], tmp_path: Path
) -> None:
    config = ("--config", str(hub[0]))
    lines = run("export", "--format", "jsonl", *config).stdout_bytes.splitlines()
    ids = [json.loads(line)["id"] for line in lines]
    assert len(ids) > 3
    for name in ("all.csv", "all.parquet"):
        told = json.loads(run("export", "--out", str(tmp_path / name), "--json", *config).stdout)
        assert told["bytes"] == (tmp_path / name).stat().st_size
    rows = list(csv.DictReader(io.StringIO((tmp_path / "all.csv").read_text())))
    assert [row["id"] for row in rows] == ids
    assert pq.read_table(tmp_path / "all.parquet")["id"].to_pylist() == ids
    some = run("export", "--rule", "windows", "--key", "mongo", *config).stdout
    assert {row["key.image"] for row in csv.DictReader(io.StringIO(some))} == {"Mongo"}
    assert not [one for one in tmp_path.iterdir() if one.name.endswith(".part")]


def test_a_changed_rule_is_tried_and_the_difference_said(
    hub: tuple[Path, str, str], tmp_path: Path
) -> None:
    config, begin, end = hub
    declared = tmp_path / "new.toml"
    declared.write_text("[[rule]]" + WINDOWS.replace("above = 1", "above = 4"))
    asked = ("try", "windows", "--declared", str(declared), "--from", begin, "--to", end)
    text = run(*asked, "--config", str(config)).stdout
    told = json.loads(run(*asked, "--config", str(config), "--json").stdout)
    assert told["added"] == []
    assert len(told["removed"]) > 0
    first = text.splitlines()[0]
    gone = len(told["removed"])
    assert first == f"same {told['same']}, changed 0, added 0, removed {gone}"
    assert text.count("\n- ") == len(told["removed"])
    before = run("export", "--format", "jsonl", "--config", str(config)).stdout_bytes
    run(*asked, "--config", str(config))
    assert run("export", "--format", "jsonl", "--config", str(config)).stdout_bytes == before


def test_what_cannot_be_tried_or_written_gets_a_sentence(
    hub: tuple[Path, str, str], tmp_path: Path
) -> None:
    config, begin, end = hub
    declared = tmp_path / "new.toml"
    declared.write_text("[[rule]]" + WINDOWS)
    span = ("--from", begin, "--to", end, "--config", str(config))
    with pytest.raises(InvalidError, match="declares the rule 'windows'"):
        run("try", "pairs", "--declared", str(declared), *span)
    with pytest.raises(NotFoundError, match="cannot read the declaration"):
        run("try", "pairs", "--declared", str(tmp_path / "none.toml"), *span)
    declared.write_text("[[rule]]" + WINDOWS.replace("size_s = 5", "size_s = 0"))
    with pytest.raises(InvalidError, match=r"line 6, window\.size_s"):
        run("try", "windows", "--declared", str(declared), *span)
    with pytest.raises(InvalidError, match="no form 'xlsx'"):
        run("export", "--out", str(tmp_path / "a.xlsx"), "--config", str(config))
    assert not (tmp_path / "a.xlsx").exists()
    with pytest.raises(InvalidError, match="no form 'json'") as unknown:
        run("export", "--format", "json", "--config", str(config))
    assert unknown.value.fix == "Known: csv, jsonl, parquet."
    with pytest.raises(InvalidError, match="two results"):
        run("export", "--json", "--config", str(config))
    with pytest.raises(NotFoundError):
        run("export", "--out", str(tmp_path / "no" / "a.csv"), "--config", str(config))


def test_a_rule_an_action_and_a_span_that_cannot_be_are_refused(
    hub: tuple[Path, str, str], tmp_path: Path
) -> None:
    config, begin, end = hub
    given, reversed_ = ("--config", str(config)), ("--from", end, "--to", begin)
    declared = tmp_path / "new.toml"
    declared.write_text("[[rule]]" + WINDOWS)
    with pytest.raises(NotFoundError, match="no rule 'nope'") as nobody:
        run("export", "--rule", "nope", *given)
    assert nobody.value.fix == "Known: windows, pairs."
    with pytest.raises(InvalidError, match="no action 'finale'"):
        run("export", "--action", "finale", *given)
    for asked in (("export",), ("try", "windows", "--declared", str(declared))):
        with pytest.raises(InvalidError, match="before it has begun") as refused:
            run(*asked, *reversed_, *given)
        assert refused.value.where == "--from --to"
    plant = tmp_path / "plant.toml"
    plant.write_bytes(PLANT)  # what a rule said before it was taken out is still to be had
    assert len(run("export", "--rule", "windows", *given).stdout.splitlines()) > 1
