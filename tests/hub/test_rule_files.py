"""What rules said as CSV, JSON Lines and Parquet: read back it is what the log holds."""

import csv
import io
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError, Plant, decode_json, encode
from lineside.core.errors import MissingExtraError
from lineside.hub import HubConfig, Services
from lineside.hub.rules.log import columns_of, file_of
from lineside.hub.tables import Column, parquet_table
from lineside.hub.views import EventView
from lineside.streams import EVENT_TYPE, read_entries
from lineside.testing import FakeClock
from lineside.testing.rules import rule_of
from tests.hub.conftest import drain, open_hub
from tests.hub.test_rules import PAIRS, WINDOWS, follower, socks

SIGHTING = """
id = "passed"
read = { predictions = "stock", answers = "each" }
key = ["camera"]
sighting = { labels = ["blue"] }
"""
AT = datetime(2026, 1, 1, 12, 0, 5, 123456, tzinfo=UTC)


@pytest.fixture
def hub(config: HubConfig, plant: Plant, clock: FakeClock) -> Iterator[Services]:
    """Two rules have run over a belt of socks."""
    ruled = replace(plant, rule=(rule_of(WINDOWS), rule_of(PAIRS)))
    with open_hub(config, plant=ruled, clock=clock) as services:
        made = follower(services)
        socks(services, clock)
        drain(made)
        services.rule_counts.take(services.records.log.read(type=EVENT_TYPE))
        yield services


def event(data: dict[str, Any], *, position: int = 1, rule: str = "windows") -> EventView:
    told = {"rule": rule, "action": "final", "key": {}, "values": {}, "causes": [], **data}
    return EventView(
        position=position, source_position=position, id=f"evt_{position}", source="/hall/hub",
        type=EVENT_TYPE, subject=rule, time=AT, arrived_at=AT + timedelta(seconds=1), hash="",
        previous="", event={"id": f"evt_{position}", "time": "2026-01-01T12:00:05.123456Z",
                            "data": told},
    )  # fmt: skip


def written(events: Iterable[EventView], *texts: str, form: str) -> bytes:
    return b"".join(file_of(events, columns_of(map(rule_of, texts)), form=form))


def rows_of(raw: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(raw.decode(), newline="")))


def unquoted(cell: str) -> str:
    return cell.removeprefix("'")


def logged(hub: Services) -> list[dict[str, Any]]:
    """What the log holds of the rules, oldest first."""
    found = hub.records.log.read(type=EVENT_TYPE)
    return [decode_json(one.entry.body, where="log") for one in found]


def test_a_csv_read_back_is_what_the_log_holds(hub: Services, client: TestClient) -> None:
    answer = client.get("/api/v1/rule-events", params={"format": "csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="rule-events-all.csv"' in answer.headers["content-disposition"]
    rows, told = rows_of(answer.content), logged(hub)
    assert len(rows) == len(told) > 3
    for row, one in zip(rows, told, strict=True):
        data = one["data"]
        assert (row["id"], row["rule"], row["time"]) == (one["id"], data["rule"], one["time"])
        assert decode_json(row["key"], where="key") == data["key"]
        assert decode_json(row["values"], where="values") == data["values"]
        assert decode_json(row["causes"], where="causes") == data["causes"]
        assert (row["from"], row["to"], float(row["seconds"])) == (
            data["from"], data["to"], data["seconds"],
        )  # fmt: skip
        assert unquoted(row["key.image"]) == data["key"]["image"]
        assert row["values.count"] == str(data["values"].get("count", ""))
        assert row["values.pairs"] == str(data["values"].get("pairs", ""))


def test_parquet_read_back_is_what_the_log_holds(hub: Services, client: TestClient) -> None:
    answer = client.get("/api/v1/rule-events", params={"format": "parquet", "rule": "windows"})
    table = pq.read_table(io.BytesIO(answer.content))
    told = [one for one in logged(hub) if one["data"]["rule"] == "windows"]
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == [one["id"] for one in told]
    assert [row["values.count"] for row in rows] == [one["data"]["values"]["count"] for one in told]
    assert [row["key.image"] for row in rows] == [one["data"]["key"]["image"] for one in told]
    assert [row["time"] for row in rows] == [datetime.fromisoformat(one["time"]) for one in told]
    assert "values.pairs" not in table.column_names
    kinds = {str(field.name): str(field.type) for field in table.schema}
    assert kinds["time"] == kinds["from"] == "timestamp[us, tz=UTC]"
    assert (kinds["values.count"], kinds["seconds"]) == ("int64", "double")


def test_json_lines_are_events_that_a_rule_can_be_run_on(hub: Services, client: TestClient) -> None:
    answer = client.get("/api/v1/rule-events", params={"format": "jsonl"})
    lines = answer.content.splitlines()
    told = [decode_json(line, where="line") for line in lines]
    arrived = [one.pop("arrivedat") for one in told]
    assert told == logged(hub)
    entries = list(read_entries(lines, plant=hub.plant, where="export"))
    assert [one.arrived_us for one in entries] == [
        round(datetime.fromisoformat(at).timestamp() * 1e6) for at in arrived
    ]


def test_filters_hold_for_files_pages_and_sums_alike(client: TestClient) -> None:
    asked = {"rule": "windows", "key": "goog"}
    rows = rows_of(client.get("/api/v1/rule-events", params={**asked, "format": "csv"}).content)
    items = client.get("/api/v1/rule-events", params=asked).json()["items"]
    summed = client.get("/api/v1/rule-events/summary", params=asked).json()
    assert [row["id"] for row in rows] == [one["id"] for one in items]
    assert {row["key.image"] for row in rows} == {"Google"}
    assert (summed["all"], summed["sums"]["told"]) == (True, len(rows))
    between = {**asked, "from": items[0]["time"], "to": items[1]["time"]}
    bounded = client.get("/api/v1/rule-events", params=between).json()["items"]
    assert [one["id"] for one in bounded] == [items[0]["id"]]


def test_pages_follow_one_another_either_way(client: TestClient, hub: Services) -> None:
    ids = [one["id"] for one in logged(hub)]
    for newest_first in (False, True):
        seen: list[str] = []
        after: str | None = ""
        while after is not None:
            page = client.get(
                "/api/v1/rule-events",
                params={"after": after, "limit": 2, "newest_first": newest_first},
            ).json()
            seen += [one["id"] for one in page["items"]]
            after = page["next"]
        assert seen == (ids[::-1] if newest_first else ids)


def test_what_is_asked_for_wrongly_gets_a_sentence(client: TestClient) -> None:
    unknown = client.get("/api/v1/rule-events", params={"format": "xlsx"})
    assert (unknown.status_code, "csv, jsonl, parquet" in unknown.json()["fix"]) == (400, True)
    assert client.get("/api/v1/rule-events", params={"from": "noon"}).status_code == 400
    assert client.get("/api/v1/rule-events", params={"action": "finale"}).status_code == 400
    reversed_ = {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
    for path in ("rule-events", "rule-events/summary"):
        assert client.get(f"/api/v1/{path}", params={"rule": "nope"}).status_code == 404
        assert client.get(f"/api/v1/{path}", params=reversed_).status_code == 400
    assert client.get("/api/v1/rule-events", params={"after": "x"}).status_code == 400


@pytest.mark.parametrize(
    "key", ["", "%", "\u0130", "a" * 2000, "/_" * 1000, "' OR 1=1 --"], ids=range(6)
)
def test_sums_of_any_key_and_span_are_those_of_the_list(client: TestClient, key: str) -> None:
    first, last = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"
    for begin, end in (("", ""), (first, last), ("2026-01-01T12:00:05.000001Z", "")):
        asked = {"key": key, "from": begin, "to": end}
        items = client.get("/api/v1/rule-events", params=asked).json()["items"]
        sums = client.get("/api/v1/rule-events/summary", params=asked).json()["sums"]
        assert sums["told"] == len(items)
    for path in ("rule-events", "rule-events/summary"):
        for name in ("rule", "key"):
            for odd in ("\x00", "r" * 2001):
                answer = client.get(f"/api/v1/{path}", params={name: odd})
                assert (answer.status_code, bool(answer.json()["fix"])) == (400, True)


def test_no_event_is_a_file_with_its_columns() -> None:
    header = written([], WINDOWS, form="csv").decode()
    assert header.startswith("position,id,rule,action,name,revision,time,arrived_at,from,to,")
    assert header.endswith("key.image,values.count\r\n")
    assert pq.read_table(io.BytesIO(written([], WINDOWS, form="parquet"))).num_rows == 0
    assert written([], WINDOWS, form="jsonl") == b""


@given(st.lists(st.text(max_size=12), min_size=1, max_size=8))
def test_no_cell_is_a_formula_and_every_text_comes_back(texts: list[str]) -> None:
    told = [event({"key": {"image": one}}, position=n) for n, one in enumerate(texts)]
    raw = written(told, WINDOWS, form="csv")
    cells = [row["key.image"] for row in rows_of(raw)]
    assert [unquoted(cell) for cell in cells] == texts
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    back = pq.read_table(io.BytesIO(written(told, WINDOWS, form="parquet")))
    assert back["key.image"].to_pylist() == texts


def test_numbers_stay_numbers() -> None:
    minus = event({"values": {"probability": -0.5, "frames": -3, "label": "-3"}}, rule="passed")
    (row,) = rows_of(written([minus], SIGHTING, form="csv"))
    assert (row["values.probability"], row["values.frames"]) == ("-0.5", "-3")
    assert row["values.label"] == "'-3"


@pytest.mark.parametrize("odd", [True, "many", 1.5, 10**400, -(2**63), None, [1], {"a": 1}])
def test_what_fits_no_column_stands_in_values_alone(odd: object) -> None:
    one = event({"values": {"count": odd}})
    (row,) = rows_of(written([one], WINDOWS, form="csv"))
    assert (row["values.count"], row["values"]) == ("", encode({"count": odd}).decode())
    back = pq.read_table(io.BytesIO(written([one], WINDOWS, form="parquet"))).to_pylist()
    assert back[0]["values.count"] is None


def test_a_time_that_is_none_is_empty_in_parquet() -> None:
    one = event({"from": "yesterday", "to": ""})
    back = pq.read_table(io.BytesIO(written([one], WINDOWS, form="parquet"))).to_pylist()
    assert (back[0]["from"], back[0]["to"]) == (None, None)


def test_a_figure_that_two_rules_make_differently_is_text() -> None:
    other = WINDOWS.replace('"windows"', '"longest"').replace("count", "best").replace(
        "window =", 'aggregate = [{ name = "best", of = "last", field = "image" }]\nwindow ='
    )  # fmt: skip
    most = other.replace('"longest"', '"most"').replace('of = "last"', 'of = "max"')
    kinds = {one.name: one.kind for one in columns_of(map(rule_of, (other, most)))}
    assert (kinds["values.best"], kinds["values.count"]) == ("text", "whole")
    one = event({"values": {"best": 2.5}}, rule="most")
    assert rows_of(written([one], other, most, form="csv"))[0]["values.best"] == "2.5"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_memory_does_not_grow_with_the_file(form: str) -> None:
    columns = columns_of([rule_of(WINDOWS)])

    def most(count: int) -> int:
        events = (event({"key": {"image": "x" * 100}}, position=n) for n in range(count))
        tracemalloc.start()
        size = sum(map(len, file_of(events, columns, form=form)))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert size > 0
        return peak

    assert most(20_000) < 1.2 * most(10_000) + 100_000


def test_pieces_that_nobody_takes_leave_nothing_open() -> None:
    events = (event({}, position=n) for n in range(12_000))
    pieces = file_of(events, columns_of([rule_of(WINDOWS)]), form="parquet")
    assert next(pieces)
    pieces.close()  # type: ignore[attr-defined]  # a generator


def test_a_form_that_is_not_known_is_refused_before_the_first_piece() -> None:
    with pytest.raises(InvalidError, match="no form 'xml'"):
        file_of([], [Column(name="id", kind="text", of=lambda one: one.id)], form="xml")


def test_parquet_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError) as told:
        parquet_table([1], ())
    assert told.value.fix == 'pip install "lineside[parquet]"'
