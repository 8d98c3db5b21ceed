"""Figures and rules of packages of every task, and the report a package carries."""

from dataclasses import dataclass, replace
from html import unescape

import pytest
from fastapi.testclient import TestClient

from lineside.core import decode_json, encode
from lineside.hub import Registration, Services
from lineside.hub.models.evidence import change_words, figure_groups
from lineside.hub.pages.learning import decision_facts, first_metric
from lineside.models import Change, Comparison, Package, build_package

FIGURE = {"value": 0.9, "low": 0.8, "high": 1.0, "n": 9, "baseline": 0.5}


@pytest.mark.parametrize(
    ("task", "names", "first"),
    [
        ("anomaly", ("pro", "auroc", "auroc/thread"), "auroc"),
        ("detect", ("recall_iou50", "f1_iou50"), "f1_iou50"),
        ("detect", ("exact",), "exact"),
        ("count", ("mae", "exact"), "exact"),
        ("segment", ("auroc", "pixel_f1"), "pixel_f1"),
        ("classify", ("accuracy",), "accuracy"),
    ],
)
def test_a_list_shows_the_figure_of_the_task(task: str, names: tuple[str, ...], first: str) -> None:
    found = first_metric({"task": task, "metrics": dict.fromkeys(names, FIGURE)})
    assert found is not None
    assert found[0] == first


def test_without_figures_there_is_none() -> None:
    assert first_metric({"task": "anomaly", "metrics": {}}) is None


def test_a_rule_is_told_in_numbers() -> None:
    rule = {"labels": ["a", "b"], "cut": 0.35, "most": 1000, "fits": True, "note": "", "more": {}}
    told = decision_facts({"task": "detect", "detect": rule, "classes": None})
    assert [(name, value) for name, value, _ in told] == [
        ("Labels", "a, b"), ("Cut", "0.35"), ("Most", "1\u202f000"), ("Fits", "yes"),
    ]  # fmt: skip
    assert decision_facts({"task": "multilabel"}) == ()


def test_a_report_is_served_as_it_is_and_may_run_nothing(
    client: TestClient, hub: Services, archive: bytes
) -> None:
    opened = Package.read(archive)
    made_here = ("manifest.json", "digests.json")
    manifest = opened.manifest
    files = {name: raw for name, raw in opened.files.items() if name not in made_here}
    page = b"<!doctype html><title>report</title>"
    made = build_package(replace(manifest, name="told"), {**files, "evidence/report.html": page})
    digest = hub.packages.add(made, by="anna").digest
    answer = client.get(f"/models/{digest}/report")
    assert answer.content == page
    policy = answer.headers["content-security-policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
    assert f"/models/{digest}/report" in client.get(f"/models/{digest}").text


def test_a_package_without_report_says_so(
    client: TestClient, hub: Services, archive: bytes
) -> None:
    digest = hub.packages.add(archive, by="anna").digest
    assert client.get(f"/models/{digest}/report").status_code == 404
    assert f"/models/{digest}/report" not in client.get(f"/models/{digest}").text


def test_every_task_is_on_offer(client: TestClient) -> None:
    page = client.get("/training").text
    assert "Start a run" in page


@dataclass(frozen=True)
class Named:
    name: str


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (("mae", "exact", "unsure_rate", "recall/bolt"), ("exact", "mae")),
        (("f1_iou50", "auroc", "calibration_error"), ("f1_iou50", "auroc")),
        (("a", "b", "a/blue"), ("a", "b")),
        (("accuracy/blue",), ("accuracy/blue",)),
        ((), ()),
    ],
)
def test_the_headline_stands_apart_from_labels_and_the_rest(
    names: tuple[str, ...], first: tuple[str, ...]
) -> None:
    groups = figure_groups(map(Named, names))
    shown = [one.name for _, figures in groups for one in figures]
    assert sorted(shown) == sorted(names)
    assert tuple(one.name for one in groups[0][1]) == first if groups else not first


def test_what_changed_is_told_in_a_sentence_where_it_was_compared() -> None:
    found = Comparison(in_use_name="plates", n=46, better_count=3, worse_count=1)
    assert change_words(found) == (
        "Right on 3 pictures that plates gets wrong, wrong on 1 that it gets right, of 46 held-out"
        " ones."
    )
    assert "the same pictures" in change_words(replace(found, better_count=0, worse_count=0))
    assert change_words(Comparison(why_not="Nothing is in use.")) == change_words(None) == ""


def test_a_version_begins_with_its_result_and_what_changed(
    client: TestClient, hub: Services, archive: bytes
) -> None:
    opened = Package.read(archive)
    report = {
        "task": "multilabel", "validation_pictures": 46,
        "confusion": {
            "blue": {"classes": ["absent", "present"], "rows": [[20, 1, 0], [2, 22, 1]]}
        },
        "controls": {"alone": [
            {"figure": "mean_grey", "metric": "accuracy", "reached": FIGURE, "package": FIGURE,
             "matched": True}
        ]},
    }  # fmt: skip
    made_here = ("manifest.json", "digests.json")
    files = {name: raw for name, raw in opened.files.items() if name not in made_here}
    files["evidence/report.json"] = encode(report)
    digest = hub.packages.add(build_package(opened.manifest, files), by="ada").digest
    version = hub.models.register("discs", Registration(package=digest), by="ada")
    changed = Change(
        picture="left.png",
        before="nothing",
        after="blue",
        truth="blue",
        digest="sha256:" + "2" * 64,
    )
    hub.models.store_comparison(
        version,
        Comparison(
            in_use_name="plates", at=hub.clock.now(), dataset="rack/1", n=46,
            better=(changed,) * 8, better_count=8,
        ),
    )  # fmt: skip
    page = unescape(client.get("/models/groups/discs/1").text)
    places = [page.index(words) for words in (
        "Of 100 answers about 7 are wrong", "Measured on 46 pictures it had not seen",
        "Right on 8 pictures that plates gets wrong",
        f"/datasets/rack/pictures/{changed.digest}/drawn", "Calibration", "mean grey",
    )]  # fmt: skip
    assert places == sorted(places)
    assert page.count("/drawn") == 6
    told = client.get("/api/v1/models/discs/versions/1/report", params={"format": "json"})
    body = decode_json(told.content, where="report")
    assert body["shortcuts"][0]["figure"] == "mean_grey"
    assert body["result"][0].startswith("Of 100 answers")
