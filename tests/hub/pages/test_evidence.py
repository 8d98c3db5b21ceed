"""Figures and rules of packages of every task, and the report a package carries."""

from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from lineside.hub import Services
from lineside.hub.pages.learning import decision_facts, first_metric
from lineside.models import Package, build_package

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
    page = client.get("/runs").text
    assert "Start a run" in page
