"""Training from the page: any task, time left, and the report a package carries."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from lineside.models import Package, build_package
from lineside.training.report.page_parts import curve_plot, section
from lineside.training.report.page_parts import page as report_page

pytestmark = pytest.mark.browser

MADE_HERE = ("manifest.json", "digests.json")


def test_a_run_of_another_task_is_started_on_the_whole_picture(
    line: Any,  # noqa: ANN401  conftest's Line
    page: Callable[[str], Page],
) -> None:
    runs = page("/training")
    runs.locator("select[name=inspection]").select_option("")
    runs.locator("select[name=task]").select_option("anomaly")
    runs.get_by_role("button", name="Start").click()
    runs.wait_for_url("**/training/run_*")
    expect(runs.get_by_text(re.compile("^anomaly, rack on"))).to_be_visible()
    run = runs.url.rpartition("/")[2]
    assert line.hub.services.runs.one(run).task == "anomaly"
    runs.get_by_role("button", name="Cancel after this step").click()
    expect(runs.get_by_role("button", name="Resume")).to_be_visible()


def test_the_report_of_a_package_opens_and_runs_nothing(
    line: Any,  # noqa: ANN401  conftest's Line
    page: Callable[[str], Page],
) -> None:
    packages = line.hub.services.packages
    opened = Package.read(packages.content(line.package))
    files = {name: raw for name, raw in opened.files.items() if name not in MADE_HERE}
    plot = curve_plot({"loss": [(1.0, 2.0), (2.0, 1.0)]}, title="Loss", across="epoch")
    files["evidence/report.html"] = report_page("Training of tiles", [section("Training", plot)])
    made = build_package(replace(opened.manifest, name="tiles"), files)
    digest = packages.add(made, by="M. Keller").digest
    report = page(f"/models/{digest}/report")
    expect(report.get_by_role("heading", level=1)).to_have_text("Training of tiles")
    expect(report.get_by_role("img", name="Loss")).to_be_visible()
    colour = "() => getComputedStyle(document.querySelector('.line')).stroke"
    assert report.evaluate(colour) != "none"
