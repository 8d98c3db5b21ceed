"""``lineside rule``: listed, explained, run over recorded events."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lineside.cli.app import app
from lineside.core import InvalidError, NotFoundError
from tests.hub.conftest import PLANT as HALL

PLANT = Path(__file__).parents[2] / "examples" / "socks" / "ksql.toml"


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["rule", *words, "--plant", str(PLANT)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Two socks in both forms a line may have."""
    lines = []
    for second in (*range(5), *range(15, 20)):
        at = f"2026-01-01T12:00:{second:02d}.000Z"
        payload = {"image": "Google", "probability": 97.3}
        lines += [{"topic": "sockfound", "payload": payload, "time": at}]
    told = {
        "specversion": "1.0", "id": "evt_1", "source": "/socks/plant", "subject": "sockfound",
        "type": "lineside.plant.message.v1", "time": "2026-01-01T12:00:21.000Z",
        "data": {"image": "Blank", "topic": "sockfound"},
    }  # fmt: skip
    text = json.dumps({"topic": "sockfound", "payload": '{"image": "Blank"}',
                       "time": "2026-01-01T12:00:22Z"})  # fmt: skip
    path = tmp_path / "recorded.jsonl"
    path.write_text("\n".join([*map(json.dumps, lines), "", json.dumps(told), text]))
    return path


def test_rules_are_listed_with_what_they_read() -> None:
    assert "sock-stream-smoothed  topic sockfound" in run("list")
    assert [one["id"] for one in json.loads(run("list", "--json"))["rules"]][1] == "socks-seen"


def test_a_rule_is_explained_in_words() -> None:
    words = run("explain", "sock-stream-smoothed")
    assert "where image is not 'Blank'" in words
    assert "stretches of 5 s" in words
    assert "count is above 3" in words


def test_a_rule_runs_over_a_file_with_the_rules_it_reads(recorded: Path) -> None:
    events = [
        json.loads(line)
        for line in run("run", "sock-pairs", "--events", str(recorded)).splitlines()
    ]
    assert [one["data"]["values"]["pair_seen"] for one in events] == ["Pair"]
    assert events[0]["type"] == "lineside.event.v1"
    seen = run("run", "socks-seen", "--events", str(recorded)).splitlines()
    assert [json.loads(line)["data"]["values"]["seen"] for line in seen] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("[]", "not a JSON object"),
        ("{}", "neither a CloudEvent nor a message"),
        ('{"topic": "a", "payload": 3}', "payload"),
        ('{"topic": "a", "payload": {}}', "without time"),
        ('{"topic": "a", "payload": {}, "time": "noon"}', "time"),
        ('{"specversion": "1.0"}', "id"),
        ('{"topic": "a', "not JSON"),
    ],
)
def test_a_line_that_is_no_event_is_named(tmp_path: Path, line: str, word: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("\n" + line)
    with pytest.raises(InvalidError, match=word) as caught:
        run("run", "socks-seen", "--events", str(path))
    assert "bad.jsonl:2" in caught.value.where


def test_what_is_not_there_is_told(tmp_path: Path, recorded: Path) -> None:
    with pytest.raises(NotFoundError, match="no rule 'sock'"):
        run("explain", "sock")
    with pytest.raises(NotFoundError, match="cannot read the events"):
        run("run", "socks-seen", "--events", str(tmp_path / "none"))
    with pytest.raises(InvalidError, match="one source of events"):
        run("run", "socks-seen")
    with pytest.raises(InvalidError, match="one source of events"):
        run("run", "socks-seen", "--events", str(recorded), "--from", "2026-01-01T00:00:00Z")
    with pytest.raises(InvalidError, match="half a span"):
        run("run", "socks-seen", "--from", "2026-01-01T00:00:00Z")


def test_a_rule_runs_over_what_arrived_at_the_hub(tmp_path: Path, recorded: Path) -> None:
    from lineside.core import SystemClock, load_plant
    from lineside.hub import HubConfig
    from lineside.store import LogEntry, open_records
    from lineside.streams import decode_event, read_entries

    hub = HubConfig(data_dir=str(tmp_path / "data"), plant=str(PLANT))
    config = tmp_path / "hub.toml"
    config.write_text(f'data_dir = "{hub.data_dir}"\nplant = "{PLANT}"\n')
    hub.folder.mkdir(parents=True)
    with (
        recorded.open("rb") as lines,
        open_records(hub.records_url, clock=SystemClock()) as records,
    ):
        for entry in read_entries(lines, plant=load_plant(PLANT), where="r"):
            event = decode_event(entry.body, where="r")
            records.log.append([
                LogEntry(id=event.id, source=event.source, type=event.type, subject=event.subject,
                         captured_at=event.time, body=entry.body)
            ])  # fmt: skip
    span = ["--from", "2020-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z"]
    events = run("run", "sock-pairs", *span, "--config", str(config)).splitlines()
    assert len(events) == 1
    early = ["--from", "2020-01-01T00:00:00Z", "--to", "2021-01-01T00:00:00Z"]
    assert run("run", "sock-pairs", *early, "--config", str(config)) == ""


RULES = b"""
[[route]]
topic = "sock/+"
kind = "message"
[[rule]]
id = "windows"
read = { topic = "sock/+" }
key = ["image"]
window = { size_s = 5 }
[[rule]]
id = "pairs"
read = { event = "windows" }
key = ["image"]
pair = {}
[[rule]]
id = "boxes"
read = { predictions = "stock" }
window = { size_s = 5 }
"""


@pytest.fixture
def faulty(tmp_path: Path) -> tuple[str, ...]:
    """A plant, and records of which one is late, one has no key and one cannot be read."""
    (tmp_path / "plant.toml").write_bytes(HALL + RULES)
    lines: list[dict[str, object]] = [
        {"topic": "sock/1", "payload": {"image": "Google"}, "time": f"2026-01-01T12:00:{at:02d}Z"}
        for at in (1, 20, 40)
    ]
    late = {"image": "Google", "ts": "2026-01-01T12:00:02Z"}
    lines += [{"topic": "sock/1", "payload": late, "time": "2026-01-01T12:00:41Z"}]
    lines += [{"topic": "sock/1", "payload": {}, "time": "2026-01-01T12:00:42Z"}]
    lines += [{
        "specversion": "1.0", "id": "p", "source": "/s/x", "type": "lineside.prediction.v1",
        "subject": "stock", "time": "2026-01-01T12:00:43Z", "data": {"nothing": 1},
    }]  # fmt: skip
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return "--events", str(tmp_path / "events.jsonl"), "--plant", str(tmp_path / "plant.toml")


def said_of(rule: str, *words: str) -> str:
    result = CliRunner().invoke(app, ["rule", "run", rule, *words])
    assert result.exit_code == 0, result.output
    return result.stderr


def test_what_is_left_out_of_the_input_is_said_at_the_end(faulty: tuple[str, ...]) -> None:
    assert said_of("windows", *faulty) == "left out: late 1, without key 1, unreadable 0\n"
    assert said_of("pairs", *faulty).endswith("unreadable 0 (windows)\n")
    assert said_of("boxes", *faulty) == "left out: late 0, without key 0, unreadable 1\n"


def test_input_of_which_nothing_is_read_is_said(faulty: tuple[str, ...], recorded: Path) -> None:
    other = ("--events", str(recorded), *faulty[2:])
    assert said_of("windows", *other) == "none of 12 entries is read by this rule\n"


def test_a_span_that_ends_first_and_settings_without_spark_are_refused(recorded: Path) -> None:
    span = ("--from", "2026-01-02T00:00:00Z", "--to", "2026-01-01T00:00:00Z")
    with pytest.raises(InvalidError, match=r"ends at 2026-01-01.* begun at 2026-01-02") as caught:
        run("run", "socks-seen", *span)
    assert caught.value.where == "--from --to"
    for more in (("--batch", "5"), ("--checkpoint", "place")):
        with pytest.raises(InvalidError, match="without Spark"):
            run("run", "socks-seen", "--events", str(recorded), *more)
