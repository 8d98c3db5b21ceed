"""``lineside rule record``: its file gives what the log gives."""

import json
from pathlib import Path

import pytest

from lineside.core import InvalidError, NotFoundError
from lineside.streams import entry_line, entry_of, moment, read_entries
from lineside.testing.events import picture_event, plant_event, small_plant
from tests.cli.test_rule_log import hub, run

__all__ = ["hub"]
Hub = tuple[Path, str, str]


@pytest.mark.parametrize("rule", ["windows", "pairs"])
def test_a_file_says_what_the_log_says(hub: Hub, tmp_path: Path, rule: str) -> None:
    config, begin, end = hub
    later = end.replace("T12:00:22", "T12:01:22")  # so that what the rules said lies in it too
    assert later > end
    span, given = ("--from", begin, "--to", later), ("--config", str(config))
    wanted = run("run", rule, *span, *given).stdout
    assert wanted
    sizes = []
    for name, chosen in (("all", ()), ("some", ("--rule", rule))):
        out = tmp_path / f"{name}.jsonl"
        told = json.loads(run("record", *span, "--out", str(out), *chosen, *given, "--json").stdout)
        assert told["events"] == len(out.read_bytes().splitlines())
        assert run("run", rule, "--events", str(out), *given).stdout == wanted
        sizes.append(told["events"])
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("arrived_us", [1_700_000_000_123_457, 1_700_000_000_000_000, 1_000])
def test_a_line_is_read_as_the_entry_it_was_made_of(arrived_us: int) -> None:
    for event in (
        picture_event({}, at_s=3.25),
        plant_event("message", at_s=1, topic="a/ö", text='{"\\n\u2028}'),
    ):
        entry = entry_of(event, arrived_us=arrived_us)
        (read,) = read_entries([entry_line(entry)], plant=small_plant(), where="line")
        assert (read.type, read.subject, read.arrived_us) == (
            entry.type, entry.subject, arrived_us,
        )  # fmt: skip
        assert json.loads(read.body).items() > json.loads(entry.body).items()
        assert moment(read.arrived_us) == moment(arrived_us)


def test_arrival_is_kept_and_types_choose(hub: Hub, tmp_path: Path) -> None:
    config, begin, end = hub
    out = tmp_path / "plant.jsonl"
    out.write_text("before")
    asked = ("record", "--from", begin, "--to", end, "--out", str(out), "--config", str(config))
    text = run(*asked, "--type", "lineside.plant.*").stdout
    lines = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert text == f"{out}: {len(lines)} events, {out.stat().st_size} bytes\n"
    assert {one["type"] for one in lines} == {"lineside.plant.message.v1"}
    assert all(one["arrivedat"] for one in lines)
    assert [one.name for one in tmp_path.iterdir() if one.name.endswith(".new")] == []


def test_what_cannot_be_recorded_gets_a_sentence_and_leaves_the_file(
    hub: Hub, tmp_path: Path
) -> None:
    config, begin, end = hub
    out = tmp_path / "out.jsonl"
    out.write_text("before")
    asked = ("record", "--out", str(out), "--config", str(config))
    with pytest.raises(InvalidError, match="the span ends"):
        run(*asked, "--from", end, "--to", begin)
    with pytest.raises(InvalidError, match="two choices"):
        run(*asked, "--from", begin, "--to", end, "--rule", "pairs", "--type", "*")
    with pytest.raises(NotFoundError, match="no rule 'nobody'"):
        run(*asked, "--from", begin, "--to", end, "--rule", "nobody")
    assert out.read_text() == "before"
