"""The bins as a person starts them: rendered, trained on, counted live, held against the truth."""

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(920)]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """One scored demo of 15 s."""
    folder = tmp_path_factory.mktemp("bins")
    report = folder / "r.json"
    command = [sys.executable, "-m", "lineside", "demo", "bins", "--no-browser", "--fps", "4"]
    command += ["--for", "15", "--report", str(report), "--folder", str(folder / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return {**json.loads(report.read_text()), "said": done.stderr}


def figure(ran: dict[str, object], name: str) -> float:
    value = ran[name]
    assert isinstance(value, int | float)
    return float(value)


def test_every_published_frame_is_stored_or_counted_as_dropped(ran: dict[str, object]) -> None:
    dropped = ran["frames_dropped"]
    assert isinstance(dropped, dict)
    stored = figure(ran, "frames_stored")
    assert figure(ran, "frames_published") == stored + sum(dropped.values())
    assert stored > 20
    assert figure(ran, "predictions") > 0.9 * stored


def test_counts_beat_a_constant_answer_and_intervals_hold_what_they_promise(
    ran: dict[str, object],
) -> None:
    """The commonest count is one picture in seven; what a full training reaches, a study says."""
    assert figure(ran, "counts_exact") > 0.3
    assert figure(ran, "interval_coverage") > 0.75


def test_what_was_unsure_is_not_counted_as_right(ran: dict[str, object]) -> None:
    total = figure(ran, "decisions_total")
    assert figure(ran, "decisions_correct") + figure(ran, "decisions_unsure") <= total
    assert total == figure(ran, "predictions")


def test_the_page_is_printed(ran: dict[str, object]) -> None:
    said = str(ran["said"])
    assert "/sign-in?token=" in said
    assert "/count" in said
