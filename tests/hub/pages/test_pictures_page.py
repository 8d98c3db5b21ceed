"""The page of pictures: cards, filters in the address, pages, search of parts."""

from collections.abc import Callable
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from fastapi.testclient import TestClient

from lineside.core import parse_rfc3339, rfc3339
from lineside.hub import Services
from lineside.hub.frame_filter import FrameQuery
from lineside.hub.ingest.answers import AnswerIndex
from lineside.hub.learning.datasets import Teaching
from lineside.hub.pages.pictures import count_text, timeline_bars, timeline_edges
from lineside.store import FrameCount
from lineside.streams import PREDICTION_TYPE
from lineside.vision.verdict import PartVerdict
from tests.hub.conftest import Line
from tests.hub.pages.test_pages import read, words

Pictures = Callable[..., bytes]


@pytest.fixture
def pictures(hub: Services, line: Line, jpeg: Pictures) -> list[str]:
    """Seven pictures, newest first; blue on the even ones, the newest not answered."""
    line.send(line.status())
    for number in range(7):
        picture, labels = jpeg(seed=number), ("blue",) if number % 2 == 0 else ()
        at = line.ago(10 - number)
        line.send(line.camera(picture, at=at, part=f"plate-{number // 2}"))
        if number < 6:
            line.send(line.prediction(*labels, at=at, picture=picture))
    AnswerIndex(hub.records.frames, plant=hub.plant).take(
        hub.records.log.read(type=PREDICTION_TYPE)
    )
    return [row.id for row in hub.frames.page()]


def shown(text: str) -> list[str]:
    return [named["data-frame"] for named in read(text).all("li") if "data-frame" in named]


def test_the_gallery_shows_verdict_label_score_place_and_part(
    browser: TestClient, pictures: list[str]
) -> None:
    page = browser.get("/pictures").text
    assert shown(page) == pictures
    text = words(page)
    for part in (
        "7 pictures: 6 ok",
        "blue 0.97 Rack camera",
        "no answer",
    ):
        assert part in text
    alts = [image["alt"] for image in read(page).all("img")]
    assert alts[0] == "no answer"
    assert alts[2] == "ok, blue, 0.97"
    assert 'href="/pictures?part=plate-2"' in page


def test_every_filter_stands_in_the_address_and_in_the_form(
    browser: TestClient, pictures: list[str]
) -> None:
    address = "/pictures?verdict=ok&verdict=reject&label=blue&min_score=0.5&part=plate-1"
    page = browser.get(address).text
    assert shown(page) == [pictures[4]]
    fields = read(page).all("input")
    values = {(one["name"], one.get("value")) for one in fields if "name" in one}
    assert {("label", "blue"), ("part", "plate-1"), ("min_score", "0.5")} <= values
    ticked = [one["value"] for one in fields if one.get("name") == "verdict" and "checked" in one]
    assert ticked == ["ok", "reject"]
    empty = "/pictures?since=&camera=&label=&verdict=review"
    assert "No picture matches" in browser.get(empty).text
    assert browser.get("/pictures?camera=&line=").text.count("data-frame") == 7
    moved = browser.get("/frames?label=blue", follow_redirects=False)
    assert (moved.status_code, moved.headers["location"]) == (308, "/pictures?label=blue")
    assert browser.get("/pictures?verdict=bad", headers={"Accept": "text/html"}).status_code == 400


def test_pages_go_on_by_cursor_with_the_same_filter(
    browser: TestClient, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lineside.hub.pages import pictures as page

    monkeypatch.setattr(page, "_PAGE", 2)
    seen, address = list[str](), "/pictures?label=blue&sort=score"
    while address:
        found = read(text := browser.get(address).text)
        seen += shown(text)
        following = [one["href"] for one in found.all("a") if one.get("rel") == "next"]
        address = following[0] if following else ""
    assert sorted(seen) == sorted([pictures[2], pictures[4], pictures[6]])


def test_the_search_finds_parts(browser: TestClient, pictures: list[str]) -> None:
    assert pictures
    found = browser.get("/search?q=plate-1", follow_redirects=False)
    assert (found.status_code, found.headers["location"]) == (303, "/pictures?part=plate-1")
    assert browser.get("/search?q=plate-9").status_code == 200


def test_a_count_says_where_it_ended() -> None:
    count = FrameCount(frames=10_000, verdicts={PartVerdict.REJECT: 12, PartVerdict.OK: 9000})
    assert count_text(count) == "10\u202f000 pictures: 9\u202f000 ok, 12 reject"
    more = FrameCount(frames=1, whole=False)
    assert count_text(more) == "At least 1 picture"


@pytest.mark.parametrize(
    ("begin", "end", "bars", "second"),
    [
        ("2026-01-01T12:20:00.000Z", "2026-01-02T12:20:00.000Z", 25, "2026-01-01T13:00:00.000Z"),
        ("2026-01-01T12:20:30.000Z", "2026-01-01T13:20:30.000Z", 13, "2026-01-01T12:25:00.000Z"),
        ("2026-01-01T12:20:00.000Z", "2026-01-20T12:20:00.000Z", 20, "2026-01-01T23:00:00.000Z"),
        ("2026-01-01T12:20:00.000Z", "2026-01-01T12:20:30.000Z", 1, "2026-01-01T12:20:30.000Z"),
        # the clock is set on 29 March and on 25 October 2026, from 2 to 3 and from 3 to 2
        ("2026-03-28T22:00:00.000Z", "2026-03-30T22:00:00.000Z", 13, "2026-03-28T23:00:00.000Z"),
        ("2026-03-29T00:30:00.000Z", "2026-03-31T00:30:00.000Z", 13, "2026-03-29T02:00:00.000Z"),
        ("2026-10-24T22:00:00.000Z", "2026-11-10T22:30:00.000Z", 17, "2026-10-25T23:00:00.000Z"),
        ("2026-10-24T23:10:00.000Z", "2026-10-25T22:30:00.000Z", 24, "2026-10-25T00:00:00.000Z"),
    ],
)
def test_a_timeline_is_by_minutes_hours_or_days_of_the_site(
    begin: str, end: str, *, bars: int, second: str
) -> None:
    times = [parse_rfc3339(one, where="test") for one in (begin, end)]
    edges = timeline_edges(times[0], times[1], zone=ZoneInfo("Europe/Zurich"))
    assert (len(edges) - 1, rfc3339(edges[1])) == (bars, second)
    assert [edges[0], edges[-1]] == times
    assert edges == sorted(set(edges))
    if times[1] - times[0] > timedelta(days=1):
        inner = [edge.astimezone(ZoneInfo("Europe/Zurich")) for edge in edges[1:-1]]
        assert {(edge.hour % 4, edge.minute) for edge in inner} == {(0, 0)}


def test_a_bar_of_the_timeline_narrows_the_filter_and_marks_rejects(
    browser: TestClient, pictures: list[str]
) -> None:
    counts = [
        FrameCount(frames=4, verdicts={PartVerdict.REJECT: 1}), FrameCount(frames=2, whole=False),
    ]  # fmt: skip
    edges = [parse_rfc3339(f"2026-01-01T1{hour}:00:00.000Z", where="test") for hour in range(3)]
    first, second = timeline_bars(FrameQuery(label="blue"), edges, counts=counts)
    assert (first.height, first.rejects, second.height, second.rejects) == (100, 25, 50, 0)
    assert (first.text, second.text) == ("4 pictures: 1 reject", "At least 2 pictures")
    assert "label=blue" in first.href
    page = read(browser.get("/pictures").text)
    bars = [one["href"] for one in page.all("a") if "until=" in one["href"]]
    assert len(bars) in (1, 2)  # those of the other hours are empty
    assert sum(len(shown(browser.get(bar).text)) for bar in bars) == len(pictures)
    assert "until=" not in browser.get("/pictures?label=none").text


def test_a_bar_that_did_not_look_at_all_its_pictures_is_never_empty() -> None:
    counts = [FrameCount(frames=200), FrameCount(frames=0, whole=False), FrameCount(frames=0)]
    edges = [parse_rfc3339(f"2026-01-01T1{hour}:00:00.000Z", where="test") for hour in range(4)]
    whole, unseen, empty = timeline_bars(FrameQuery(min_score="0.9"), edges, counts=counts)
    assert (whole.height, empty.height) == (100, 0)
    assert unseen.height > 0
    assert unseen.text == "At least 0 pictures"


def test_there_is_a_timeline_on_the_first_page_and_of_no_dataset(
    browser: TestClient, hub: Services, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lineside.hub.pages import pictures as page

    hub.datasets.teach("rack", Teaching(frames=tuple(pictures), judged=False), by="ann")
    monkeypatch.setattr(page, "_PAGE", 4)
    first, held = (browser.get(f"/pictures{query}").text for query in ("", "?dataset=rack"))
    (following,) = [one["href"] for one in read(first).all("a") if one.get("rel") == "next"]
    assert "until=" in first
    assert len(shown(held)) == 4
    assert "until=" not in held
    further = browser.get(following).text
    assert len(shown(further)) == 3
    assert "until=" not in further
