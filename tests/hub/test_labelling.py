"""Labelling by the API and its page: saving, conflicts, roles, what is refused, versions."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from lineside.core import digest_of, encode
from lineside.datasets import Marked, Sample, load_source
from lineside.datasets.writers import write_source
from lineside.hub import Role, Services, create_app
from lineside.hub.learning.labelling import judged_together
from lineside.testing.store import frame_row
from lineside.vision import decode_picture, encode_png

HERE = "/api/v1/datasets/plates"


def picture(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    return encode_png(rng.integers(0, 256, (30, 40, 3)).astype(np.uint8))


DIGEST = digest_of(picture(0))
BOX = {"label": "dent", "x0_px": 4.0, "y0_px": 5.0, "x1_px": 20.0, "y1_px": 22.0}
EMPTY: dict[str, Any] = {
    "labels": [], "known": [], "marked": None, "polygons": [], "mask": None, "count": None,
}  # fmt: skip


@pytest.fixture
def plates(hub: Services) -> Services:
    """Four pictures without labels, and the labels to use."""
    library = hub.datasets._library
    pictures = [picture(n) for n in range(4)]
    samples = [Sample(name=f"{n}.png", digest=digest_of(one)) for n, one in enumerate(pictures)]
    library.add("plates", zip(samples, pictures, strict=True), by="anna")
    library.declare("plates", ["dent", "scratch"])
    return hub


def save(client: TestClient, *, revision: int, state: str = "labelled", **said: object) -> Any:  # noqa: ANN401  a response
    body = {"revision": revision, "state": state, "annotation": {**EMPTY, **said}}
    return client.post(f"{HERE}/samples/{DIGEST}", json=body)


@pytest.mark.usefixtures("plates")
def test_a_picture_is_labelled_and_read_again(client: TestClient) -> None:
    before = client.get(f"{HERE}/samples/{DIGEST}").json()
    assert (before["revision"], before["state"], before["annotation"]) == (1, "todo", EMPTY)
    triangle = [[0.0, 0.0], [8.0, 0.0], [8.0, 8.0]]
    saved = save(client, revision=1, labels=["dent"], known=None, marked=[BOX], polygons=[triangle])
    assert saved.status_code == 200
    again = client.get(f"{HERE}/samples/{DIGEST}").json()
    assert again == saved.json()
    assert again["annotation"]["known"] == ["dent", "scratch"]
    assert again["annotation"]["polygons"] == [triangle]
    assert client.get(f"{HERE}/progress").json()["states"] == {"todo": 3, "labelled": 1}
    rows = client.get(f"{HERE}/samples?state=todo&limit=2").json()
    more = client.get(f"{HERE}/samples?state=todo&after={rows['next']}").json()
    names = [row["name"] for row in (*rows["items"], *more["items"])]
    assert names == ["1.png", "2.png", "3.png"]


@pytest.mark.usefixtures("plates")
def test_the_second_of_two_people_gets_both_versions(client: TestClient) -> None:
    assert save(client, revision=1, marked=[BOX]).status_code == 200
    second = save(client, revision=1, labels=["scratch"], known=["scratch"])
    assert second.status_code == 409
    told = second.json()
    assert told["stored"]["annotation"]["marked"] == [BOX]
    assert told["yours"]["annotation"]["labels"] == ["scratch"]
    assert "at revision 2, last judged by" in told["detail"]
    kept = save(client, revision=told["stored"]["revision"], labels=["scratch"], known=["scratch"])
    assert kept.json()["annotation"]["labels"] == ["scratch"]


@pytest.mark.usefixtures("plates")
def test_what_cannot_be_is_refused_in_words(client: TestClient) -> None:
    mask = {"rle": "100", "width_px": 10, "height_px": 10}
    outside = {**BOX, "x1_px": 99.0}
    answer = save(client, revision=1, labels=["rust"], marked=[outside], mask=mask)
    assert answer.status_code == 400
    assert [fault["path"] for fault in answer.json()["faults"]] == [
        "$.labels[0]", "$.marked[0]", "$.mask",
    ]  # fmt: skip
    assert "Known: " in answer.json()["fix"]
    assert client.get(f"{HERE}/samples?state=odd").status_code == 400
    assert client.get(f"{HERE}/samples/sha256:{'0' * 64}").status_code == 404
    assert client.post(f"{HERE}/labels", json={"labels": ["a,b"]}).status_code == 400
    assert client.get(f"{HERE}/samples/{DIGEST}").json()["revision"] == 1


def test_a_label_has_one_colour_on_every_picture_of_its_dataset(hub: Services) -> None:
    def marked(*labels: str) -> tuple[Marked, ...]:
        return tuple(
            Marked(label=one, x0_px=10, y0_px=10 + 30 * n, x1_px=40, y1_px=30 + 30 * n)
            for n, one in enumerate(labels)
        )

    shown = [encode_png(np.full((120, 80, 3), level, np.uint8)) for level in (100, 101, 102)]
    marks = [marked("nut"), marked("nut", "dent"), marked("dent")]
    samples = [
        Sample(name=f"{n}.png", digest=digest_of(one), marked=on)
        for n, (one, on) in enumerate(zip(shown, marks, strict=True))
    ]
    hub.datasets._library.add("parts", zip(samples, shown, strict=True), by="anna")
    nut, again, dent = (
        decode_picture(hub.datasets.drawn("parts", one.digest).data)[10, 14:36].mean(axis=0)
        for one in samples
    )
    assert np.abs(nut - again).max() < 8
    assert np.abs(nut - dent).max() > 40


def test_stored_boxes_over_the_edge_are_cut_so_that_their_image_can_be_changed(
    plates: Services, client: TestClient
) -> None:
    over = Marked(label="dent", x0_px=4, y0_px=-3, x1_px=44.5, y1_px=22)
    point = Marked(label="dent", x0_px=40.5, y0_px=9, x1_px=40.5, y1_px=9)
    lost = replace(over, x0_px=50, x1_px=60)
    sample = Sample(name="over.png", digest=digest_of(picture(9)), marked=(over, point, lost))
    plates.datasets._library.add("plates", [(sample, picture(9))], by="an earlier release")
    address = f"{HERE}/samples/{sample.digest}"
    told = client.get(address).json()
    cut, dot, outside = told["annotation"]["marked"]
    assert cut == {**BOX, "y0_px": 0.0, "x1_px": 40.0, "y1_px": 22.0}
    assert (dot["x0_px"], outside["x0_px"]) == (40.0, 50.0)
    body = {"revision": told["revision"], "state": "labelled", "annotation": told["annotation"]}
    refused = client.post(address, json=body)
    assert (refused.status_code, "or delete it" in refused.json()["fix"]) == (400, True)
    body["annotation"]["marked"].pop()
    assert client.post(address, json=body).status_code == 200
    assert client.get(address).json()["annotation"]["marked"] == [cut, dot]


@pytest.mark.usefixtures("plates")
def test_a_new_label_and_a_comment(client: TestClient) -> None:
    assert save(client, revision=1, labels=["rust"], known=None).status_code == 400
    declared = client.post(f"{HERE}/labels", json={"labels": ["rust"]}).json()
    assert declared == client.get(f"{HERE}/labels").json()
    assert declared == {"labels": ["dent", "scratch", "rust"], "task": "", "good": []}
    said = client.post(f"{HERE}/samples/{DIGEST}/comments", json={"text": "is it rust?"}).json()
    assert (said["comments"][0]["text"], said["revision"]) == ("is it rust?", 2)
    saved = save(client, revision=2, labels=["rust"], known=None, state="discuss").json()
    assert (saved["state"], len(saved["comments"])) == ("discuss", 1)


@pytest.mark.usefixtures("plates")
def test_a_label_is_renamed_or_made_one_with_another(client: TestClient, plates: Services) -> None:
    client.post(f"{HERE}/labels", json={"labels": ["rust"]})
    said: list[tuple[list[str], list[str]]] = [
        (["dent"], ["dent", "scratch"]), ([], ["dent", "scratch"]), ([], ["scratch"]),
        (["rust"], ["rust"]),
    ]  # fmt: skip
    for n, (labels, known) in enumerate(said):
        annotation = {**EMPTY, "labels": labels, "known": known, "marked": [BOX]}
        body = {"revision": 1, "state": "labelled", "annotation": annotation}
        address = f"{HERE}/samples/{digest_of(picture(n))}"
        assert client.post(address, json=body).status_code == 200

    def renamed(label: str, to: str) -> Any:  # noqa: ANN401  a response
        return client.post(f"{HERE}/labels/rename", json={"label": label, "name": to})

    def stand() -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        found = [plates.labelling.one("plates", digest_of(picture(n))) for n in range(4)]
        assert {mark.label for one in found for mark in one.annotation.marked or ()} == {named}
        return [(one.annotation.labels, one.annotation.known or ()) for one in found]

    named, frozen = "gouge", plates.datasets.freeze("plates", by="anna")
    assert renamed("dent", " gouge ").json()["labels"] == ["gouge", "scratch", "rust"]
    assert stand()[:3] == [
        (("gouge",), ("gouge", "scratch")), ((), ("gouge", "scratch")), ((), ("scratch",)),
    ]  # fmt: skip
    named = "scratch"
    assert renamed("gouge", "scratch").json()["labels"] == ["scratch", "rust"]
    assert stand() == [
        (("scratch",), ("scratch",)), ((), ("scratch",)), ((), ()), (("rust",), ("rust",)),
    ]  # fmt: skip
    assert save(client, revision=2, labels=["rust"], known=["rust"]).status_code == 409
    assert plates.datasets.version("plates", 1).digest == frozen.digest
    assert renamed("gouge", "other").json()["fix"] == "Its labels: scratch, rust."
    for label, to in (("rust", "rust"), ("rust", "A1/rust"), ("rust", "a,b"), ("rust", " ")):
        assert renamed(label, to).status_code == 400, to


@pytest.mark.usefixtures("plates")
def test_a_renamed_label_of_good_parts_stays_one(client: TestClient) -> None:
    body = {"labels": ["ok", "dent", "fit"], "good": ["ok", "fit"]}
    client.post(f"{HERE}/labels", json=body)

    def renamed(label: str, to: str) -> Any:  # noqa: ANN401  a response
        return client.post(f"{HERE}/labels/rename", json={"label": label, "name": to})

    assert renamed("ok", "fine").json()["good"] == ["fine", "fit"]
    assert renamed("dent", "gouge").json()["good"] == ["fine", "fit"]
    before = client.get(f"{HERE}/labels").json()
    for label, to in (("fine", "gouge"), ("gouge", "fine")):
        refused = renamed(label, to)
        assert (refused.status_code, refused.json()["where"]) == (400, "name")
        assert refused.json()["detail"] == "'fine' means a good part and 'gouge' does not"
        assert "declare both as good" in refused.json()["fix"]
    assert client.get(f"{HERE}/labels").json() == before
    assert renamed("fit", "fine").json()["good"] == ["fine"]


def test_a_frame_is_opened_whatever_the_draft_calls_its_picture(
    plates: Services, browser: TestClient
) -> None:
    row = frame_row(1, picture=picture(2))
    plates.records.frames.add([row])
    page = browser.get("/datasets/plates/label", params={"picture": row.id}).text
    start = json.loads(unescape(page.partition('data-start="')[2].partition('"')[0]))
    assert start["digest"] == row.digest
    assert browser.get("/datasets/plates/label", params={"picture": "frm_none"}).status_code == 200


def test_a_viewer_reads_and_does_not_save(plates: Services) -> None:
    token = plates.auth.issue_token("vi", kind="api", role=Role.VIEWER)
    client = TestClient(
        create_app(plates), base_url="http://127.0.0.1",
        headers={"Authorization": f"Bearer {token}"}, raise_server_exceptions=False,
    )  # fmt: skip
    assert client.get(f"{HERE}/samples/{DIGEST}").status_code == 200
    assert save(client, revision=1, marked=[BOX]).status_code == 403
    page = client.get("/datasets/plates/label", headers={"accept": "text/html"})
    assert "data-asks" not in page.text
    assert "Requires the role operator" in page.text


def test_a_version_made_of_it_is_read_by_the_reader(
    plates: Services, client: TestClient, tmp_path: Path
) -> None:
    assert save(client, revision=1, labels=["dent"], known=None, marked=[BOX]).status_code == 200
    assert client.post(f"{HERE}/freeze").status_code == 201
    version = plates.datasets.version("plates", 1)
    write_source(
        version.parted, files=plates.datasets._library.read_file, to=tmp_path / "out", format="csv"
    )
    read = load_source(tmp_path / "out")
    (dented,) = [one for one in read.samples if one.labels]
    assert (dented.labels, dented.digest) == (("dent",), DIGEST)
    assert dented.marked is not None
    assert (dented.marked[0].x1_px, dented.marked[0].label) == (20.0, "dent")


@pytest.mark.usefixtures("plates")
def test_the_page_says_what_is_left_and_begins_at_it(
    client: TestClient, browser: TestClient
) -> None:
    save(client, revision=1, labels=["dent"], known=None)
    page = browser.get("/datasets/plates/label").text
    assert "draft: 3 of 4 pictures left" in page
    start = json.loads(unescape(page.partition('data-start="')[2].partition('"')[0]))
    assert start["digest"] == digest_of(picture(1))
    assert "No picture in this state" in browser.get("/datasets/plates/label?state=checked").text


@pytest.mark.parametrize(
    ("declared", "drawn"),
    [
        ({"labels": ["good", "chip"], "task": "segment"}, ["dent", "scratch", "chip"]),
        ({"labels": ["fit"], "good": ["fit", "scratch"]}, ["dent"]),
        ({"good": ["dent", "scratch"]}, ["dent", "scratch"]),
        ({"labels": ["ok"], "task": "detect"}, ["dent", "scratch", "ok"]),
    ],
)
@pytest.mark.usefixtures("plates")
def test_no_label_of_good_parts_is_on_offer_for_a_defect_that_is_drawn(
    client: TestClient, browser: TestClient, declared: dict[str, Any], drawn: list[str]
) -> None:
    client.post(f"{HERE}/labels", json=declared)
    menu = browser.get("/datasets/plates/label").text.partition("data-shape-label>")[2]
    assert re.findall("<option>(.*?)</option>", menu.partition("</select>")[0]) == drawn


def test_a_label_alone_judges_its_own_group_only() -> None:
    groups = (("good", "bad"), ("A1/blue", "A1/red", "B2/blue"), ("good", "bad", "A1/blue", "own"))
    assert judged_together(["bad"], groups) == ("good", "bad")
    assert judged_together(["A1/red"], groups) == ("A1/blue", "A1/red")
    assert judged_together(["own"], groups) == ("own",)
    assert judged_together([], groups) == ()


@pytest.mark.usefixtures("plates")
def test_commands_label_images_and_rename_labels(
    lineside: Callable[..., Any], tmp_path: Path
) -> None:
    said = tmp_path / "said.json"
    said.write_bytes(encode({**EMPTY, "labels": ["dent"], "known": None}))
    assert lineside("dataset", "list", role=Role.VIEWER) == {"datasets": ["plates"]}
    image = next(
        one for one in lineside("dataset", "images", "plates")["images"] if one["digest"] == DIGEST
    )
    words = ("dataset", "annotate", "plates", DIGEST, "--annotation", str(said), "--revision", "1")
    saved = lineside(*words, "--state", "checked", role=Role.OPERATOR)
    assert (saved["name"], saved["state"], saved["by"]) == (
        image["name"],
        "checked",
        "some operator",
    )
    code, sentence = lineside(*words)
    wanted = ("at revision 2, last judged by some operator", "send it again with revision 2")
    assert (code, [one in sentence for one in wanted]) == (4, [True, True])
    noted = lineside("dataset", "comment", "plates", DIGEST, "deep?", role=Role.OPERATOR, text=True)
    assert noted == f"{image['name']}: revision 3"
    words_of_labels = ("dataset", "label", "plates", "--label", "good", "--good", "good")
    assert "good" in lineside(*words_of_labels, role=Role.OPERATOR, text=True).split(", ")
    renamed = lineside("dataset", "rename-label", "plates", "dent", "bump", role=Role.ENGINEER)
    assert {"bump", "dent"} & {*renamed["labels"]} == {"bump"}
    shown = lineside("dataset", "image", "plates", DIGEST, role=Role.VIEWER)
    assert shown["annotation"]["labels"] == ["bump"]
    assert [one["text"] for one in shown["comments"]] == ["deep?"]
    listed = lineside("dataset", "images", "plates", "--state", "checked", text=True)
    assert f"{DIGEST}  {image['name']}  checked  bump" in listed
    assert lineside("dataset", "image", "plates", DIGEST, text=True).endswith("revision 4")
    said.write_text("{")
    code, sentence = lineside(*words)
    assert (code, str(said) in sentence) == (2, True)
