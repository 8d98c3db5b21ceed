"""Figures of lines: each verdict counted once, by shift, day and hour, in the API and as CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient

from lineside.core import ConflictError, Plant, rfc3339
from lineside.core.shifts import Shift
from lineside.hub import Services
from lineside.hub.alerts.observations import look_at_lines
from lineside.hub.eventlog.followers import Follower, skip_entry
from lineside.hub.ingest.line_figures import DAY, HOUR, KIND, SHIFT, LineCounts
from lineside.streams import VERDICT_TYPE, Event
from lineside.streams.alerts import AlertCause
from lineside.testing import FakeClock
from lineside.vision.verdict import PartVerdict
from tests.hub.conftest import Line, drain

OK, REJECT, REVIEW = PartVerdict.OK, PartVerdict.REJECT, PartVerdict.REVIEW
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def verdict_event(
    number: int, verdict: PartVerdict, *reasons: str, at: datetime, line: str = "warehouse"
) -> Event:
    data = {
        "schema": "lineside.verdict/1", "line": line, "part": f"p{number}", "device": "",
        "verdict": str(verdict), "reasons": list(reasons), "frames": [f"frm_{number}"],
        "answers": [], "missing": [],
    }  # fmt: skip
    return Event(
        id=f"evt_{number}", source=f"/hall/line/{line}", type=VERDICT_TYPE, subject=line, time=at,
        dataschema="lineside.verdict/1", data=data,
    )  # fmt: skip


@pytest.fixture
def counts(hub: Services) -> LineCounts:
    shifts = (
        Shift(name="Early", begin="06:00", end="14:00"),
        Shift(name="Late", begin="14:00", end="22:00"),
    )
    line = replace(hub.plant.line[0], limit_reject=0.02)
    plant = replace(hub.plant, shift=shifts, time_zone="Europe/Berlin", line=(line,))
    return LineCounts(hub.records, plant=plant, zone=UTC)


def follow(hub: Services, counts: LineCounts, *, page: int = 200, note: int = 1) -> Follower:
    return Follower(
        "line-figures", records=hub.records, ledger=hub.ledger, handle=counts.take,
        type=VERDICT_TYPE, page=page, note_every=note, skip=skip_entry, resume=counts.resume,
    )  # fmt: skip


def said(hub: Services, verdicts: Sequence[tuple[PartVerdict, str]], *, at: datetime) -> None:
    hub.ledger.record(
        [
            verdict_event(number, one, *filter(None, [reason]), at=at + timedelta(minutes=number))
            for number, (one, reason) in enumerate(verdicts)
        ]
    )


SAID = (
    (OK, ""), (REJECT, "scratch 0.93"), (OK, ""), (REJECT, "scratch 0.71"), (REVIEW, "dent 0.52"),
    (REJECT, "not like good parts: 2.41, limit 1.10"), (PartVerdict.INCOMPLETE, "no answer of top"),
    (OK, ""),
)  # fmt: skip


def test_parts_are_counted_by_verdict_and_reason_for_shift_day_and_hour(
    hub: Services, counts: LineCounts
) -> None:
    said(hub, SAID, at=NOON)
    drain(follow(hub, counts))
    found = counts.figures("warehouse", counts.period(SHIFT, NOON))
    assert (found.period, found.begin, found.end) == (
        "Early", NOON - timedelta(hours=7), NOON + timedelta(hours=1)
    )  # fmt: skip
    assert found.parts == 8
    assert found.verdicts == {REJECT: 3, PartVerdict.INCOMPLETE: 1, REVIEW: 1, OK: 3}
    assert (found.reject_rate, found.review_share, found.first_pass_yield) == (3 / 8, 1 / 4, 3 / 8)
    assert [(one.reason, one.parts) for one in found.reasons] == [
        ("scratch", 2), ("not like good parts", 1), ("no answer of top", 1), ("dent", 1),
    ]  # fmt: skip
    assert found.limit_reject == 0.02
    assert found.latency_p50_ms is not None
    assert sum(one.parts for one in found.steps) == 8
    assert len(found.steps) == 8  # hours
    hour = counts.figures("warehouse", counts.period(HOUR, NOON + timedelta(minutes=4)))
    assert (hour.parts, len(hour.steps)) == (5, 12)
    late = counts.figures("warehouse", counts.period(SHIFT, NOON + timedelta(hours=2)))
    assert (late.period, late.parts, late.reject_rate) == ("Late", 0, None)
    assert counts.figures("", counts.period(DAY, NOON)).parts == 8


@pytest.mark.parametrize(("page", "note"), [(1, 1), (3, 1), (200, 1), (2, 1000)])
def test_each_verdict_counts_once_over_restarts_doubles_and_two_hubs(
    hub: Services, counts: LineCounts, page: int, note: int
) -> None:
    said(hub, SAID[:5], at=NOON)
    first = follow(hub, counts, page=page, note=note)
    first.step()
    said(hub, SAID, at=NOON)  # the first five once more
    other = LineCounts(hub.records, plant=hub.plant, zone=UTC)
    for again in (follow(hub, other, page=page, note=note), first, follow(hub, other, page=page)):
        drain(again)
    assert counts.figures("warehouse", counts.period(DAY, NOON)).parts == len(SAID)


def test_of_two_hubs_that_count_at_once_one_is_refused_and_counts_anew(
    hub: Services, counts: LineCounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(hub, SAID, at=NOON)
    log = hub.records.log.read(type=VERDICT_TYPE)
    counts.take(log[:2])
    load = counts._load

    def overtaken(name: str) -> object:
        found = load(name)
        monkeypatch.undo()
        LineCounts(hub.records, plant=hub.plant, zone=UTC).take(log[:5])
        return found

    monkeypatch.setattr(counts, "_load", overtaken)
    with pytest.raises(ConflictError):
        counts.take(log)
    counts.take(log)
    assert counts.figures("", counts.period(DAY, NOON)).parts == len(SAID)


def test_figures_are_made_from_the_log_where_none_are_kept(
    hub: Services, counts: LineCounts
) -> None:
    said(hub, SAID, at=NOON)
    drain(follow(hub, counts))
    whole = counts.figures("", counts.period(DAY, NOON))
    for one in hub.records.documents.page(KIND):
        hub.records.documents.delete(KIND, one.id)
    drain(follow(hub, counts))
    assert counts.figures("", counts.period(DAY, NOON)) == whole


def test_figures_older_than_their_time_go(hub: Services, counts: LineCounts) -> None:
    for days in (0, 399, 402):
        said(hub, SAID[:1], at=NOON + timedelta(days=days))
        hub.ledger.record([verdict_event(100 + days, OK, at=NOON + timedelta(days=days))])
        drain(follow(hub, counts))
    kept = [one.id for one in hub.records.documents.page(KIND)]
    assert kept == ["warehouse/2027-02-04T12", "warehouse/2027-02-07T12"]


@pytest.fixture
def judged(hub: Services, line: Line, clock: FakeClock) -> Callable[[], None]:
    del line

    def judge() -> None:
        said(hub, SAID, at=clock.now() - timedelta(minutes=20))
        drain(follow(hub, hub.counts))

    return judge


def test_figures_over_http_as_json_and_as_a_table(
    client: TestClient, judged: Callable[[], None], clock: FakeClock
) -> None:
    judged()
    found = client.get("/api/v1/lines/warehouse/figures", params={"span": "hour"}).json()
    assert (found["parts"], found["verdicts"]["reject"]) == (8, 3)
    everything = client.get("/api/v1/lines/all/figures", params={"at": rfc3339(clock.now())})
    assert everything.json()["parts"] >= 8
    table = client.get("/api/v1/lines/all/figures", params={"span": "hour", "format": "csv"})
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert sum(int(row["parts"]) for row in rows) == 8
    assert {row["reason"] for row in rows if row["verdict"] == "reject"} == {
        "scratch", "not like good parts",
    }  # fmt: skip
    for asked, status in (
        ("/api/v1/lines/none/figures", 404), ("/api/v1/lines/all/figures?span=week", 400),
        ("/api/v1/lines/all/figures?at=noon", 400), ("/api/v1/lines/all/figures?format=pdf", 400),
        ("/api/v1/lines/all/figures?at=9999-12-31T12:00:00Z", 400),
        ("/api/v1/lines/all/figures?at=0001-01-01T00:00:00Z", 400),
    ):  # fmt: skip
        answer = client.get(asked)
        assert (answer.status_code, bool(answer.json()["fix"])) == (status, True)


def test_the_metrics_have_the_shift_of_each_line(
    hub: Services, judged: Callable[[], None], clock: FakeClock
) -> None:
    judged()
    hub.stats.watch_each("shift", "line", read=lambda: hub.counts.totals(clock.now()))
    text = hub.stats.exposition().decode()
    assert 'lineside_shift_parts{line="warehouse"} 8.0' in text
    assert 'lineside_shift_reject_rate{line="warehouse"} 0.375' in text
    assert "limit_reject" not in text


def test_limits_that_differ_are_no_limit_of_all_lines(hub: Services, plant: Plant) -> None:
    lines = (
        replace(plant.line[0], limit_reject=0.02),
        replace(plant.line[0], id="other", limit_reject=0.05),
    )
    counts = LineCounts(hub.records, plant=replace(plant, line=lines), zone=UTC)
    day = counts.period(DAY, NOON)
    assert counts.figures("", day).limit_reject is None
    assert counts.figures("other", day).limit_reject == 0.05


def test_a_line_whose_last_hour_is_above_its_limit_is_observed(
    hub: Services, counts: LineCounts
) -> None:
    said(hub, [(REJECT, "scratch 0.93")] * 25, at=NOON)
    drain(follow(hub, counts))
    line, now = replace(hub.plant.line[0], limit_reject=0.02), NOON + timedelta(minutes=30)
    (found,) = look_at_lines(counts, plant=replace(hub.plant, line=(line,)), now=now).present
    assert (found.cause, found.object) == (AlertCause.REJECT_RATE, "warehouse")
    later = now + timedelta(minutes=60)
    assert look_at_lines(counts, plant=replace(hub.plant, line=(line,)), now=later).present == []
