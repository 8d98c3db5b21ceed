"""The page of pictures: cards, filters in the address, pages, search of parts."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from lineside.hub import Services
from lineside.hub.ingest.answers import AnswerIndex
from lineside.hub.pages.pictures import count_text
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
    assert "7 pictures: 6 ok" in text
    assert "blue 0.97 Rack camera" in text
    assert "no answer" in text
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
