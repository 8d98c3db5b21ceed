"""Metal plates as a person starts them: good ones, labels, approval, canary, and a way back."""

import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1520)]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One scored demo."""
    folder = tmp_path_factory.mktemp("surface")
    report = folder / "r.json"
    command = [sys.executable, "-m", "lineside", "demo", "surface", "--no-browser", "--for", "5"]
    command += ["--report", str(report), "--folder", str(folder / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr
    return {**json.loads(report.read_text()), "said": done.stderr}


def test_every_published_frame_is_stored_or_counted_as_dropped(ran: dict[str, Any]) -> None:
    assert ran["frames_published"] == ran["frames_stored"] + sum(ran["frames_dropped"].values())
    assert ran["frames_stored"] > 20


def test_good_versions_reach_all_three_devices(ran: dict[str, Any]) -> None:
    states = {one["version"]: one["state"] for one in ran["rollouts"]}
    assert states["surface/1"] == states["defects/1"] == "done"
    good = {one["package"] for one in ran["rollouts"] if one["state"] == "done"}
    assert set(ran["devices"]) == {"edge-1", "edge-2", "edge-3"}
    for running in ran["devices"].values():
        assert good <= set(running)


def test_the_bad_version_goes_back_by_itself_and_says_why(ran: dict[str, Any]) -> None:
    (bad,) = [one for one in ran["rollouts"] if one["version"] == "surface/2"]
    assert bad["state"] == "rolled back"
    assert "edge-1/surface: " in bad["why"]
    assert "surface/2 going back" in ran["said"]
    assert all(bad["package"] not in running for running in ran["devices"].values())


def test_what_was_answered_is_mostly_right(ran: dict[str, Any]) -> None:
    total = ran["decisions_total"]
    assert ran["decisions_correct"] + ran["decisions_unsure"] <= total
    assert total > 20
    assert ran["right_of_answered"] > 0.9
    assert ran["right_of_answered_defects"] > 0.75


def test_plates_are_rejected_and_passed(ran: dict[str, Any]) -> None:
    """A plate has one verdict, however many inspections answer for it."""
    verdicts = ran["verdicts"]
    assert min(verdicts["ok"], verdicts["reject"]) > 0
    assert sum(verdicts.values()) < ran["predictions"]


def test_approval_by_hand_is_told(ran: dict[str, Any]) -> None:
    assert "/sign-in?token=" in ran["said"]
    assert "surface/1 waits for approval; by hand, as M. Keller: http://" in ran["said"]
    assert "surface/1 is approved by M. Keller" in ran["said"]
