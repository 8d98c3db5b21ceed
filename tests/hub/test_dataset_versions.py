"""Tags, changes, partings, reports and drawn pictures of datasets, by API and page."""

import numpy as np
import pytest
from fastapi.testclient import TestClient

from lineside.core import digest_of
from lineside.datasets import Marked, Part, Sample
from lineside.hub import Services
from lineside.vision import encode_png
from tests.hub.test_labelling import picture

HERE = "/api/v1/datasets/tiles"


@pytest.fixture
def tiles(hub: Services) -> Services:
    """Twelve pictures: labels, one with boxes, one with a mask, one with a count; frozen once."""
    library = hub.datasets._library
    mask = encode_png(np.full((30, 40, 3), 255, np.uint8))
    facts: dict[int, dict[str, object]] = {
        0: {"marked": (Marked(label="hole", x0_px=4, y0_px=5, x1_px=20, y1_px=22),)},
        1: {"mask_digest": digest_of(mask)},
        2: {"count": 7},
    }
    samples = [
        (
            Sample(
                name=f"{n:03d}.png",
                digest=digest_of(picture(n)),
                labels=("bad" if n % 2 else "good",),
                **facts.get(n, {}),  # type: ignore[arg-type]  # by name
            ),
            picture(n),
        )
        for n in range(12)
    ]
    library.add("tiles", samples, by="anna", files={digest_of(mask): mask}.__getitem__)
    hub.datasets.freeze("tiles", by="anna")
    return hub


def correct(client: TestClient, number: int, labels: list[str]) -> None:
    change = {"revision": 1, "annotation": {"labels": labels}}
    url = f"{HERE}/samples/{digest_of(picture(number))}"
    assert client.post(url, json=change).status_code == 200


@pytest.mark.usefixtures("tiles")
def test_a_data_set_says_what_kinds_of_truth_it_holds(client: TestClient) -> None:
    told = client.get(HERE).json()
    assert told["kinds"] == {"labels": 12, "count": 1, "objects": 1, "mask": 1}
    assert told["versions"][0]["leaking"] is False


@pytest.mark.usefixtures("tiles")
def test_a_parting_asked_for_is_the_next_versions(client: TestClient) -> None:
    asked = client.post(f"{HERE}/split", json={"shares": {"train": 0.5, "test": 0.5}})
    assert asked.status_code == 200
    assert asked.json()["splits"] == {"train": 6, "test": 6}
    assert asked.json()["labels"]["bad"] == {"train": 3, "test": 3}
    version = client.post(f"{HERE}/freeze").json()
    assert (version["number"], version["splits"]) == (2, {"train": 6, "test": 6})


@pytest.mark.parametrize(
    "body",
    [
        {"fold": 3},
        {"shares": {"train": -1}},
        {"shares": {"tarin": 1.0}},
        {"shares": {"": 1.0}},
        {"shares": {"train": 0}},
        {"exact": "draws", "seed": -1},
        {"exact": "cuts", "seed": 10**12},
        {"exact": "odd"},
        {"group": "regex:("},
        {"group": "regex:(a+)+$"},
        {"sharse": {}},
        {"by": "tile"},
        {"fold": 9, "folds": 50},
    ],
    ids=str,
)
@pytest.mark.usefixtures("tiles")
def test_a_parting_that_cannot_be_is_a_problem(client: TestClient, body: dict[str, object]) -> None:
    refused = client.post(f"{HERE}/split", json=body)
    assert refused.status_code == 400
    assert refused.headers["content-type"] == "application/problem+json"
    assert client.post(f"{HERE}/freeze").json()["number"] == 1


@pytest.mark.usefixtures("tiles")
def test_a_tag_is_moved_and_taken_off(client: TestClient) -> None:
    put = client.post(f"{HERE}/tags", json={"tag": "prod", "version": 1})
    assert put.json()["history"][0]["by"] == "tester"
    assert client.get(HERE).json()["tags"] == {"prod": 1}
    assert client.get(HERE).json()["versions"][0]["tags"] == ["prod"]
    assert client.post(f"{HERE}/tags", json={"tag": "prod", "version": 9}).status_code == 404
    assert client.post(f"{HERE}/tags", json={"tag": "a b", "version": 1}).status_code == 400
    client.post(f"{HERE}/tags", json={"tag": "prod", "version": 0})
    (tag,) = client.get(f"{HERE}/tags").json()["items"]
    assert [move["version"] for move in tag["history"]] == [1, 0]
    assert client.get(HERE).json()["tags"] == {}


@pytest.mark.usefixtures("tiles")
def test_what_changed_is_told_between_numbers_and_tags(client: TestClient) -> None:
    client.post(f"{HERE}/tags", json={"tag": "prod", "version": 1})
    correct(client, 3, ["good"])
    client.post(f"{HERE}/freeze")
    changed = client.get(f"{HERE}/diff", params={"a": "prod"}).json()
    (one,) = changed["relabelled"]
    assert (one["before"], one["after"], one["by"]) == ("bad", "good, not bad, not hole", "tester")
    assert client.get(f"{HERE}/diff", params={"a": "7"}).status_code == 404


@pytest.mark.usefixtures("tiles")
def test_a_report_is_one_page_that_may_run_nothing_and_is_made_once(client: TestClient) -> None:
    page = client.get(f"{HERE}/versions/1/report")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert client.get(f"{HERE}/versions/1/report").content == page.content
    told = client.get(f"{HERE}/versions/1/report", params={"format": "json"}).json()
    assert (told["pictures"], told["masks"]) == (12, 1)
    newest = client.get(f"{HERE}/versions/0/report")
    assert newest.headers["cache-control"] == "no-store"
    assert client.get(f"{HERE}/versions/5/report").status_code == 404


@pytest.mark.usefixtures("tiles")
def test_pages_show_kinds_tags_changes_and_what_is_drawn(
    browser: TestClient, client: TestClient
) -> None:
    client.post(f"{HERE}/tags", json={"tag": "prod", "version": 1})
    draft = browser.get("/datasets/tiles").text
    for part in (
        "with marked objects",
        "good; 1 box",
        "bad; mask",
        "good; 7 objects",
    ):
        assert part in draft
    version = browser.get("/datasets/tiles/versions/1").text
    for part in (
        f"{HERE}/versions/1/report",
        "prod",
        "12 of 12 pictures were compared",
    ):
        assert part in version
    assert "DatasetVersion(" not in version
    assert "same pictures" in browser.get("/datasets/tiles/diff?a=1&b=1").text
    drawn = browser.get(f"/datasets/tiles/pictures/{digest_of(picture(0))}/drawn")
    assert (drawn.status_code, drawn.headers["content-type"]) == (200, "image/jpeg")
    absent = browser.get(f"/datasets/tiles/pictures/{digest_of(b'x')}/drawn")
    assert absent.status_code == 404


@pytest.mark.usefixtures("tiles")
def test_a_page_of_changes_lists_them(browser: TestClient, client: TestClient) -> None:
    client.post(f"{HERE}/labels", json={"labels": ["<b>"]})
    correct(client, 3, ["<b>"])
    client.post(f"{HERE}/freeze")
    text = browser.get("/datasets/tiles/diff?a=1&b=2").text
    assert "Other labels, 1 picture" in text
    assert "&lt;b&gt;" in text
    assert "/datasets/tiles/diff?a=1&amp;b=2" in browser.get("/datasets/tiles").text


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize(
    ("parting", "words"),
    [
        (None, "Split as its sources declare"),
        ({"shares": {"train": 0.5, "test": 0.5}, "seed": 3}, "train 0.5, test 0.5, groups stay"),
        ({"fold": 1, "folds": 3, "by": "sample"}, "Fold 1 of 3 is the test part, each picture"),
        ({"exact": "draws", "group": "ids:5"}, "exact rule draws, grouped by ids:5, seed 0"),
    ],
    ids=str,
)
def test_the_page_says_how_the_next_version_is_parted(
    *, browser: TestClient, client: TestClient, parting: dict[str, object] | None, words: str
) -> None:
    if parting is not None:
        assert client.post(f"{HERE}/split", json=parting).status_code == 200
    assert words in browser.get("/datasets/tiles").text


def test_pairs_that_leak_are_shown_side_by_side(hub: Services, browser: TestClient) -> None:
    library = hub.datasets._library
    samples = [
        Sample(
            name=f"{n}.png",
            digest=digest_of(picture(n)),
            group="one tile",
            split=Part.TEST if n else Part.TRAIN,
        )
        for n in range(2)
    ]
    library.add("leaky", [(s, picture(n)) for n, s in enumerate(samples)], by="anna")
    hub.datasets.freeze("leaky", by="anna")
    text = browser.get("/datasets/leaky/versions/1").text
    assert "same group, train and test" in text
    for sample in samples:
        assert text.count(f'src="/datasets/leaky/pictures/{sample.digest}"') == 2
