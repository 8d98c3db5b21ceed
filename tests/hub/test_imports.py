"""Files imported into a draft and exported from a version: looked at first, kept when said so."""

import io
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from lineside.core import InvalidError, digest_of
from lineside.hub import Role, Services
from lineside.hub.ingest import export
from lineside.vision import encode_png
from tests.hub.test_labelling import picture

HERE = "/api/v1/datasets/plates"
ZIP = {"content-type": "application/zip"}


def packed(files: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return held.getvalue()


CLASSES = packed(
    {
        "plates/good/1.png": picture(1),
        "plates/good/2.png": picture(2),
        "plates/dent/3.png": picture(3),
        "plates/dent/4.png": b"no picture",
    }
)


def send(client: TestClient, data: bytes, *, keep: str = "") -> Any:  # noqa: ANN401  a response
    query = f"?keep={keep}" if keep else ""
    return client.post(f"{HERE}/import{query}", content=data, headers=ZIP)


def test_an_upload_is_reported_first_and_kept_when_it_is_the_same(
    hub: Services, client: TestClient
) -> None:
    told = send(client, CLASSES).json()
    assert (told["form"], told["images"], told["new"], told["added"]) == ("folders", 3, 3, False)
    assert told["labels"] == {"dent": 1, "good": 2}
    (skipped,) = told["skipped"]
    assert "4.png" in skipped["where"]
    assert hub.datasets.all() == ()
    other = send(client, packed({"a.png": picture(9)}), keep=told["digest"])
    assert other.status_code == 409
    kept = send(client, CLASSES, keep=told["digest"]).json()
    assert kept["added"]
    assert hub.datasets.one("plates").labels == {"dent": 1, "good": 2}
    assert send(client, CLASSES).json()["new"] == 0


def test_a_report_names_no_folder_of_the_hub(client: TestClient) -> None:
    told = send(client, packed({"good/1.png": picture(1), "2.png": picture(2)})).json()
    assert [one["where"] for one in told["skipped"]] == ["upload.zip"]


def test_bare_pictures_are_to_do(client: TestClient) -> None:
    data = packed({"new/1.png": picture(1), "new/2.png": picture(1), "new/3.png": picture(3)})
    told = send(client, data, keep=digest_of(data)).json()
    assert (told["form"], told["images"], told["labels"]) == ("images", 2, {})
    assert "the same picture" in told["skipped"][0]["reason"]
    assert client.get(f"{HERE}/progress").json()["states"] == {"todo": 2}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK no archive", ""),
        (packed({}), "no labelled pictures"),
        (packed({"a/notes.txt": b"x"}), "no labelled pictures"),
        (packed({"a.png": b"x"}), "no image of it can be imported"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(
    client: TestClient, data: bytes, words: str
) -> None:
    answer = send(client, data)
    assert answer.status_code == 400
    assert words in answer.json()["detail"]
    assert client.post(f"{HERE}/import", content=b"x").status_code == 415


def large(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    return encode_png(rng.integers(0, 256, (800, 1200, 3)).astype(np.uint8))


def test_an_upload_may_be_as_large_as_the_hub_takes(client: TestClient) -> None:
    data = packed({"good/1.png": large(1), "dent/2.png": large(2)})
    assert len(data) > 4_000_000
    assert send(client, data).json()["images"] == 2


def test_an_upload_that_unpacks_to_much_more_than_its_size_is_refused(client: TestClient) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", picture(1))
        with archive.open("labels.csv", "w") as file:
            for _ in range(65):
                file.write(bytes(1024 * 1024))
    answer = send(client, held.getvalue())
    assert (len(held.getvalue()) < 100_000, answer.status_code) == (True, 400)
    assert "unpacked, at most 67,108,864 are taken" in answer.json()["detail"]
    lying = bytearray(held.getvalue())
    place = lying.rindex(b"PK\x01\x02")
    lying[place + 24 : place + 28] = (500).to_bytes(4, "little")
    answer = send(client, bytes(lying))
    assert (answer.status_code, "damaged" in answer.json()["detail"]) == (400, True)


def test_an_upload_of_too_many_files_is_refused_before_they_are_read(client: TestClient) -> None:
    answer = send(client, packed({f"{number}/a.png": b"" for number in range(10_001)}))
    assert (answer.status_code, answer.json()["detail"]) == (400, "more than 10,000 files")


def test_one_upload_is_read_at_a_time(hub: Services, client: TestClient) -> None:
    with hub.imports._opened(CLASSES):
        busy = send(client, CLASSES)
        assert (busy.status_code, busy.json()["fix"]) == (503, "Try again when it is done.")
    assert send(client, CLASSES).status_code == 200


def test_an_operator_does_not_import(people: Callable[..., TestClient]) -> None:
    assert send(people(Role.OPERATOR), CLASSES).status_code == 403


def test_a_version_goes_out_and_comes_back_the_same(hub: Services, client: TestClient) -> None:
    send(client, CLASSES, keep=digest_of(CLASSES))
    client.post(f"{HERE}/freeze")
    out = client.get(f"{HERE}/versions/1/export?format=csv")
    assert out.headers["content-disposition"] == 'attachment; filename="plates-1-csv.zip"'
    again = client.post(
        f"/api/v1/datasets/again/import?keep={digest_of(out.content)}",
        content=out.content, headers=ZIP,
    )  # fmt: skip
    assert again.json()["images"] == 3
    sent, back = (
        {one.digest: one.labels for one in hub.datasets.draft(name).samples}
        for name in ("plates", "again")
    )
    assert sent == back
    draft = client.get(f"{HERE}/export?format=csv")
    assert draft.headers["content-disposition"] == 'attachment; filename="plates-draft-csv.zip"'
    names = [zipfile.ZipFile(io.BytesIO(one.content)).namelist() for one in (draft, out)]
    assert (names[0], len(names[0])) == (names[1], 4)
    assert 'export?format=folders"' in client.get("/datasets/plates").text
    assert client.get(f"{HERE}/versions/1/export?format=odd").status_code == 400
    page = client.get("/datasets/plates/versions/1", headers={"accept": "text/html"}).text
    assert "export?format=csv" in page
    assert "export?format=coco" not in page
    assert not list((hub.config.folder / "imports").iterdir())


@pytest.mark.parametrize("task", ["", "classify", "segment", "multilabel"])
def test_an_image_is_not_good_and_defective_at_once(
    hub: Services, client: TestClient, task: str
) -> None:
    client.post(f"{HERE}/labels", json={"labels": ["good", "dent"], "task": task})
    table = b"file,label\na.png,good; dent\nb.png,good\n"
    data = packed({"labels.csv": table, "a.png": picture(1), "b.png": picture(2)})
    told = send(client, data, keep=digest_of(data)).json()
    said = {"labels": ["dent", "good"], "known": None, "polygons": [], "marked": None}
    answer = client.post(
        f"{HERE}/samples/{digest_of(picture(2))}", json={"revision": 1, "annotation": said}
    )
    if task in {"", "multilabel"}:
        assert (told["images"], answer.status_code) == (2, 200)
        return
    sentence = "'dent' does not, so both cannot hold"
    assert (told["images"], sentence in told["skipped"][0]["reason"]) == (1, True)
    assert (answer.status_code, sentence in answer.json()["detail"]) == (400, True)
    with pytest.raises(InvalidError, match=sentence):
        hub.datasets._library.add_frames("plates", [], ["good", "dent"], by="anna")


def test_an_export_names_what_its_format_left_out(client: TestClient) -> None:
    send(client, CLASSES, keep=digest_of(CLASSES))
    both = ["dent", "good"]
    digest = digest_of(picture(3))
    change = {"revision": 1, "annotation": {"labels": both}, "state": "labelled"}
    assert client.post(f"{HERE}/samples/{digest}", json=change).status_code == 200
    out = client.get(f"{HERE}/export?format=folders").content
    held = zipfile.ZipFile(io.BytesIO(out))
    assert sorted(held.namelist()) == ["good/1.png", "good/2.png", "left-out.txt"]
    left = "3.png: 2 labels; a class folder has one\n"
    assert held.read("left-out.txt").decode().endswith(left)
    again = client.post("/api/v1/datasets/again/import", content=out, headers=ZIP).json()
    assert (again["form"], again["images"], again["skipped"]) == ("folders", 2, [])
    whole = client.get(f"{HERE}/export?format=csv").content
    assert "left-out.txt" not in zipfile.ZipFile(io.BytesIO(whole)).namelist()


def test_an_export_is_for_operators_of_few_images_and_one_at_a_time(
    client: TestClient,
    hub: Services,
    people: Callable[..., TestClient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send(client, CLASSES, keep=digest_of(CLASSES))
    client.post(f"{HERE}/freeze")
    address, page = f"{HERE}/versions/1/export", "/datasets/plates/versions/1"
    viewer, operator = people(Role.VIEWER), people(Role.OPERATOR)
    assert (viewer.get(address).status_code, operator.get(address).status_code) == (403, 200)
    assert "export?format=csv" not in viewer.get(page).text
    assert "Requires the role operator" in viewer.get(page).text
    assert "export?format=csv" in operator.get(page).text
    folder = hub.config.folder / "exports"
    pieces = export.zip_of_samples(
        hub.datasets.version("plates", 1).samples, files=hub.datasets.read_file, form="csv",
        folder=folder, now=hub.clock.now(),
    )  # fmt: skip
    assert client.get(address).status_code == 503
    del pieces  # nobody reads on
    assert client.get(address).status_code == 200
    assert list(folder.iterdir()) == []
    monkeypatch.setattr(export, "MOST_IMAGES", 2)
    refused = client.get(f"{address}?format=folders")
    assert (refused.status_code, refused.json()["detail"]) == (400, "more than 2 images")
    assert "`lineside dataset export plates --version 1 --to FOLDER" in refused.json()["fix"]
