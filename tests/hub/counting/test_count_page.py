"""The bin counter's page and its API: answers, agreement, corrections, and whose they are."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lineside.core import digest_of
from lineside.datasets import Library, Marked
from lineside.datasets.annotations import OBJECTS, Annotation, ReviewState
from lineside.hub import HubConfig, Role, Services, create_app
from lineside.hub.counting.counter import Agreement, CountView, headline, interval
from lineside.hub.pages.count import agreement_sentence
from lineside.store import LEAVING
from lineside.testing import FakeClock
from lineside.vision import PictureState
from tests.hub.counting.conftest import FUNCTION
from tests.hub.counting.squares import bin_jpeg

Person = Callable[[str], TestClient]


class Text(HTMLParser):
    """All text of a page, in one line."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def text_of(page: str) -> str:
    parser = Text()
    parser.feed(page)
    return " ".join(parser.words)


def ask(client: TestClient, picture: str) -> dict[str, object]:
    answer = client.post("/api/v1/counts", json={"function": FUNCTION, "picture": picture})
    assert answer.status_code == 201, answer.text
    told: dict[str, object] = answer.json()
    return told


def shown(client: TestClient, count_id: object) -> str:
    page = client.get(f"/count/{count_id}", headers={"accept": "text/html"})
    assert page.status_code == 200
    return text_of(page.text)


@pytest.mark.parametrize(
    ("picture", "heading", "agrees"),
    [
        ("4", "3 objects", "The record says 3 objects, and so does the picture."),
        ("00002.jpg", "1 object", "The record says 1 object, and so does the picture."),
        ("1", "0 objects", "The record says 0 objects, and so does the picture."),
        ("6", "5 objects", "The record says 2 objects; the picture rules that out."),
        ("7", "More than 5 objects", "there is no inventory record of this picture"),
    ],
)
def test_a_picture_on_offer_has_its_count_and_how_it_stands_to_the_record(
    used: str, person: Person, *, picture: str, heading: str, agrees: str
) -> None:
    assert used
    anna = person("anna")
    told = ask(anna, picture)
    page = shown(anna, told["id"])
    assert f"{heading} " in page
    assert agrees in page
    assert "Possible at 90 %" in page.replace("\u00a0", " ") or "Sure: no other" in page


def test_every_number_has_its_chance_and_the_record_its_mark(used: str, person: Person) -> None:
    assert used
    anna = person("anna")
    told = ask(anna, "6")
    chances = told["chances"]
    assert isinstance(chances, list)
    assert sum(chances) == pytest.approx(1, abs=1e-4)
    page = anna.get(f"/count/{told['id']}").text
    assert page.count("<meter") == len(chances) == 7
    assert "more than 5" in page
    assert page.count(">record</span>") == 1


def test_a_picture_that_cannot_be_judged_has_no_number_anywhere(used: str, person: Person) -> None:
    assert used
    anna = person("anna")
    told = ask(anna, "9")
    assert told["state"] == "black"
    assert told["value"] is None
    page = shown(anna, told["id"])
    assert "Not counted" in page
    assert "The picture is black" in page
    assert "1 object" not in page
    assert "1 object" not in text_of(anna.get("/count").text)


def test_a_command_says_a_count_as_its_page_does(used: str, lineside: Callable[..., Any]) -> None:
    assert used
    more = lineside("count", "image", FUNCTION, "7", text=True)
    assert ": More than 5 objects. Possible at 90 %: 5 or more." in more
    black = lineside("count", "image", FUNCTION, "9", text=True)
    assert ": Not counted. The picture is black" in black
    listed = lineside("count", "list", text=True)
    assert [" More than 5 objects " in listed, " Not counted " in listed] == [True, True]
    assert "  black  " in listed


@pytest.mark.parametrize(
    ("picture", "status", "said"),
    [
        ("8", 400, ""),
        ("999", 403, "not among the pictures on offer"),
        ("../metadata/00001.json", 403, "not among the pictures on offer"),
        ("", 403, "not among the pictures on offer"),
    ],
)
def test_an_unreadable_a_missing_and_a_foreign_picture_are_errors_with_sentences(
    used: str, person: Person, *, picture: str, status: int, said: str
) -> None:
    assert used
    anna = person("anna")
    answer = anna.post("/api/v1/counts", json={"function": FUNCTION, "picture": picture})
    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert answer.json()["detail"]
    assert anna.get("/api/v1/counts").json()["items"] == []


def test_a_picture_that_vanished_since_it_was_offered_is_an_error(
    used: str, person: Person, hub: Services
) -> None:
    assert used
    anna = person("anna")
    assert len(hub.counter.offered(FUNCTION)) == 9
    folder = Path(hub.config.function[0].store.removeprefix("file://"))
    (folder / "bin-images" / "00003.jpg").unlink()
    answer = anna.post("/api/v1/counts", json={"function": FUNCTION, "picture": "3"})
    assert answer.status_code == 404
    assert "there is no picture" in answer.json()["detail"]


def test_without_a_package_the_page_stands_and_the_answer_says_what_is_missing(
    person: Person,
) -> None:
    anna = person("anna")
    assert "9 pictures available" in text_of(anna.get("/count").text)
    answer = anna.post("/api/v1/counts", json={"function": FUNCTION, "picture": "3"})
    assert answer.status_code == 404
    assert "no package is in use" in answer.json()["detail"]


def test_an_uploaded_picture_is_counted_and_has_no_record(used: str, person: Person) -> None:
    assert used
    anna = person("anna")
    answer = anna.post(
        "/api/v1/counts/uploaded",
        params={"function": FUNCTION},
        content=bin_jpeg(2, seed=9),
        headers={"content-type": "image/jpeg"},
    )
    assert answer.status_code == 201
    page = shown(anna, answer.json()["id"])
    assert "2 objects" in page
    assert "an uploaded picture has no inventory record" in page


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"GIF89a", "image/jpeg", 400),
        (b"", "image/jpeg", 400),
        (b"x", "text/plain", 415),
        (b"\xff\xd8\xff" + b"x" * 17_000_000, "image/jpeg", 413),
    ],
)
def test_an_upload_that_is_no_picture_is_refused(
    used: str, person: Person, *, body: bytes, kind: str, status: int
) -> None:
    assert used
    answer = person("anna").post(
        "/api/v1/counts/uploaded",
        params={"function": FUNCTION},
        content=body,
        headers={"content-type": kind},
    )
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_two_people_never_see_each_other_s_pictures(used: str, person: Person) -> None:
    assert used
    anna, bert = person("anna"), person("bert")
    hers, his = ask(anna, "4"), ask(bert, "6")
    for client, own, other in ((anna, hers, his), (bert, his, hers)):
        (row,) = client.get("/api/v1/counts").json()["items"]
        assert row["id"] == own["id"]
        for address in (
            f"/api/v1/counts/{other['id']}", f"/api/v1/counts/{other['id']}/picture",
            f"/count/{other['id']}", f"/count/{other['id']}/picture",
            f"/count/{other['id']}/activation",
        ):  # fmt: skip
            assert client.get(address).status_code == 404
        correct = {"count": 1, "dataset": "stolen"}
        address = f"/api/v1/counts/{other['id']}/correction"
        assert client.post(address, json=correct).status_code == 404
        assert str(other["id"]) not in client.get("/count").text
    assert digest_of(anna.get(f"/count/{hers['id']}/picture").content) == hers["digest"]


def test_nothing_of_it_is_kept_by_a_browser(used: str, person: Person) -> None:
    assert used
    anna = person("anna")
    told = ask(anna, "4")
    own = f"/count/{told['id']}"
    for address in ("/count", own, f"{own}/picture", f"{own}/activation"):
        headers = anna.get(address).headers
        assert headers["cache-control"] == "no-store"
        assert headers["pragma"] == "no-cache"
        assert headers["expires"] == "-1"


def test_the_page_is_for_those_who_are_signed_in(nobody: TestClient) -> None:
    asked = nobody.get("/count", headers={"accept": "text/html"}, follow_redirects=False)
    assert asked.status_code == 303
    assert asked.headers["location"] == "/welcome?next=%2Fcount"


def test_a_correction_goes_into_a_dataset_and_the_last_one_stands(
    used: str, person: Person, hub: Services
) -> None:
    assert used
    anna = person("anna")
    told = ask(anna, "6")
    address = f"/api/v1/counts/{told['id']}/correction"
    for count in (4, 5):
        answer = anna.post(address, json={"count": count, "dataset": "bins"})
        assert answer.status_code == 200
        assert answer.json()["correction"]["count"] == count
    (entry,) = hub.datasets.draft("bins").entries
    sample = entry.sample
    assert len(entry.judgements) == 2
    assert (sample.count, sample.digest, sample.author) == (5, told["digest"], "anna")
    assert sample.group == f"{FUNCTION}/0"
    marks = tuple(Marked(label="square", x0_px=n, y0_px=1, x1_px=n, y1_px=1) for n in range(5))
    library, drawn = Library(hub.records, hub.blobs, clock=hub.clock), Annotation(marked=marks)
    state = ReviewState.LABELLED
    library.annotate("bins", sample.digest, drawn, review=state, by="bo", expect=2)
    assert anna.post(address, json={"count": 6, "dataset": "bins"}).status_code == 200
    (entry,) = hub.datasets.draft("bins").entries
    assert (entry.sample.count, entry.sample.marked) == (6, None)
    assert (entry.disputed, entry.judgements[2].marked) == ((OBJECTS,), marks)
    anna.post(address, json={"count": 5, "dataset": "bins"})
    assert "anna counted 5" in shown(anna, told["id"])
    assert hub.datasets.picture("bins", str(told["digest"])).media_type == "image/jpeg"


@pytest.mark.parametrize(
    "said",
    [
        {"count": -1, "dataset": "bins"},
        {"count": 2.5, "dataset": "bins"},
        {"count": "3", "dataset": "bins"},
        {"count": 3},
        {"count": 3, "dataset": ""},
        {"count": 3, "dataset": "../bins"},
    ],
)
def test_a_correction_that_makes_no_sense_is_refused(
    used: str, person: Person, said: dict[str, object]
) -> None:
    assert used
    anna = person("anna")
    told = ask(anna, "6")
    answer = anna.post(f"/api/v1/counts/{told['id']}/correction", json=said)
    assert answer.status_code == 400
    assert anna.get(f"/api/v1/counts/{told['id']}").json()["correction"] is None


def test_the_newest_hundred_are_kept_and_older_pictures_may_go(
    used: str, person: Person, hub: Services, clock: FakeClock
) -> None:
    assert used
    anna = person("anna")
    first = anna.post(
        "/api/v1/counts/uploaded",
        params={"function": FUNCTION},
        content=bin_jpeg(1, seed=77),
        headers={"content-type": "image/jpeg"},
    ).json()
    for _ in range(100):
        clock.advance(1)
        ask(anna, "4")
    rows = anna.get("/api/v1/counts").json()["items"]
    assert len(rows) == 100
    assert first["id"] not in [row["id"] for row in rows]
    assert rows[0]["at"] > rows[-1]["at"]
    leaving = hub.records.documents.page(LEAVING)
    assert [one.id for one in leaving] == [first["digest"]]


# ---- words


def view(**changes: object) -> CountView:
    said: dict[str, object] = {
        "id": "cnt_1", "at": FakeClock().now(), "by": "anna", "function": FUNCTION,
        "picture": "00004.jpg", "digest": digest_of(b"x"), "package": digest_of(b"y"),
        "state": PictureState.OK, "value": 3, "low": 2, "high": 4,
        "chances": (0.0, 0.1, 0.2, 0.5, 0.1, 0.1, 0.0), "error_rate": 0.1, "recorded": 3,
    }  # fmt: skip
    return CountView(**(said | changes))  # type: ignore[arg-type]  # one field or another


@pytest.mark.parametrize(
    ("changes", "agreement"),
    [
        ({}, Agreement.AGREES),
        ({"recorded": 4}, Agreement.POSSIBLE),
        ({"recorded": 5}, Agreement.DISAGREES),
        ({"recorded": 17}, Agreement.DISAGREES),
        ({"recorded": 17, "more": True, "high": 5}, Agreement.POSSIBLE),
        ({"recorded": 1}, Agreement.DISAGREES),
        ({"recorded": None}, Agreement.UNKNOWN),
        ({"value": None, "state": PictureState.BLACK}, Agreement.UNKNOWN),
        ({"recorded": 5, "value": 5, "high": 5, "more": True,
          "chances": (0, 0, 0, 0, 0, 0.2, 0.8)}, Agreement.POSSIBLE),
    ],
)  # fmt: skip
def test_a_record_agrees_is_possible_or_is_ruled_out(
    changes: dict[str, object], agreement: Agreement
) -> None:
    assert view(**changes).agreement is agreement
    assert agreement_sentence(view(**changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ("3 objects", "Possible at 90 %: 2 to 4.")),
        ({"low": 3, "high": 3}, ("3 objects", "Sure: no other number is possible at 90 %.")),
        ({"more": True, "high": 5}, ("3 objects", "Possible at 90 %: 2 to 5 or more.")),
        (
            {"error_rate": 1.0, "low": 0, "high": 5, "more": True},
            ("3 objects", "The package has no interval: too few pictures showed an error rate."),
        ),
        (
            {"more": True, "low": 5, "high": 5, "value": 5,
             "chances": (0, 0, 0, 0, 0, 0.1, 0.9)},
            ("More than 5 objects", "Possible at 90 %: 5 or more."),
        ),
        ({"value": 1, "low": 1, "high": 1, "chances": (0, 1.0, 0, 0, 0, 0, 0)},
         ("1 object", "Sure: no other number is possible at 90 %.")),
        (
            {"value": None, "state": PictureState.BLURRED, "reason": "sharpness 1"},
            ("Not counted", "The picture is blurred: sharpness 1."),
        ),
    ],
)  # fmt: skip
def test_counts_in_words(changes: dict[str, object], said: tuple[str, str]) -> None:
    shown = view(**changes)
    assert headline(shown) == said[0]
    assert interval(shown).replace("\u00a0", " ").startswith(said[1])


def test_a_store_that_is_away_stands_on_the_page_as_a_sentence(
    used: str, person: Person, hub: Services
) -> None:
    assert used
    shutil.rmtree(hub.config.function[0].store.removeprefix("file://"))
    page = text_of(person("anna").get("/count").text)
    assert "No picture available" in page
    assert "there is no such folder of pictures" in page


class TestNothingToCount:
    """A hub without functions."""

    @pytest.fixture
    def config(self, config: HubConfig) -> HubConfig:
        return replace(config, function=())

    def test_the_page_says_the_next_step(self, person: Person) -> None:
        assert "lineside demo bins" in text_of(person("anna").get("/count").text)


def test_who_may_look_only_is_offered_no_count(used: str, person: Person, hub: Services) -> None:
    assert used
    assert "data-json" in person("anna").get("/count").text
    token = hub.auth.issue_token("vic", kind="api", role=Role.VIEWER)
    headers = {"Authorization": f"Bearer {token}"}
    with TestClient(create_app(hub), base_url="http://127.0.0.1", headers=headers) as vic:
        page = vic.get("/count").text
        refused = vic.post("/api/v1/counts", json={"function": FUNCTION, "picture": "4"})
    assert "data-json" not in page
    assert "data-upload" not in page
    assert "Requires the role" in page
    assert refused.status_code == 403


@pytest.mark.usefixtures("used")
def test_commands_count_an_image_and_correct_the_number(
    hub: Services, lineside: Callable[..., Any], store: Path
) -> None:
    picture = hub.counter.offered(FUNCTION)[5]
    counted = lineside("count", "image", FUNCTION, picture, role=Role.OPERATOR)
    assert (counted["value"], counted["by"]) == (5, "some operator")
    file = store / "bin-images" / "00003.jpg"
    words = ["count", "upload", FUNCTION, "--image", str(file)]
    assert lineside(*words, role=Role.OPERATOR, text=True).endswith(
        ": 2 objects. Sure: no other number is possible at 90 %."
    )
    words = ["count", "correct", counted["id"], "4", "--dataset", "bins"]
    assert lineside(*words, role=Role.OPERATOR)["correction"]["count"] == 4
    listed = lineside("count", "list", role=Role.OPERATOR)["counts"]
    assert {one["picture"]: one["value"] for one in listed} == {picture: 5, "": 2}
    assert "uploaded" in lineside("count", "list", role=Role.OPERATOR, text=True)
    assert lineside("count", "list", text=True) == "Nothing was counted yet."
