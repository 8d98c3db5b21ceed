"""How the demo of the bins starts, and holds what was counted against what is true."""

import socket
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lineside.cli.demo.score import FrameTruth, Score, judge_count, read_truth, score
from lineside.cli.demo.solutions import Bins
from lineside.cli.demo.stage import Programs, Settings, last_words

TRUTHS = [
    FrameTruth(frame="frm_1", note={"count": 3, "recorded": 3}),
    FrameTruth(frame="frm_2", note={"count": 5, "recorded": 4}),
    FrameTruth(frame="frm_3", note={"count": 0, "recorded": 0}),
]


def said(frame: str, value: int, *, low: int, high: int, more: bool = False) -> dict[str, Any]:
    sure = low == high and not more
    count = {
        "value": value, "low": low, "high": high, "more": more,
        "decision": "present" if sure else "unsure",
    }  # fmt: skip
    return {"frame": {"id": frame}, "state": "ok", "count": count}


def counted(predictions: list[dict[str, Any]]) -> Score:
    return score(TRUTHS, predictions, judge=judge_count)


def test_sure_and_right_is_correct_and_an_interval_is_unsure() -> None:
    found = counted([said("frm_1", 3, low=3, high=3), said("frm_2", 5, low=4, high=6)])
    assert (found.marks["correct"], found.marks["unsure"], found.total) == (1, 1, 2)
    assert (found.marks["exact"], found.marks["within"]) == (2, 2)
    assert found.wrong == ()


def test_sure_and_wrong_is_named() -> None:
    found = counted([said("frm_3", 1, low=1, high=1)])
    assert (found.marks["correct"], found.marks["unsure"], found.marks["within"]) == (0, 0, 0)
    assert found.wrong == ("frm_3: 0 said 1",)
    assert found.marks["records_doubted"] == 1


@pytest.mark.parametrize(
    ("low", "high", "more", "caught"),
    [(5, 6, False, 1), (4, 5, False, 0), (5, 5, True, 1), (1, 3, True, 0)],
)
def test_a_wrong_record_is_caught_where_the_interval_rules_it_out(
    low: int, high: int, *, more: bool, caught: int
) -> None:
    found = counted([said("frm_2", 5, low=low, high=high, more=more)])
    assert (found.marks["records_wrong"], found.marks["records_caught"]) == (1, caught)


def test_a_picture_that_was_not_judged_is_unsure_and_named_by_its_state() -> None:
    refused = {"frame": {"id": "frm_1"}, "state": "blurred", "count": None}
    stranger = said("frm_9", 1, low=1, high=1)
    found = counted([refused, stranger])
    assert (found.marks["unsure"], found.total, found.marks["exact"]) == (1, 1, 0)
    assert found.refused == {"blurred": 1}


def test_the_truth_file_names_frames_as_the_hub_does() -> None:
    lines: list[dict[str, Any]] = [
        {
            "ts": "2026-01-01T12:00:00.000Z", "digest": "sha256:" + "0" * 64, "part": "bin-00001",
            "count": 2, "recorded": 3,
        },
        {"end": True, "frames": 1, "dropped": 0},
    ]  # fmt: skip
    (truth,) = read_truth(lines, camera="bin")
    assert truth.frame.startswith("frm_")
    assert (truth.note["count"], truth.note["recorded"]) == (2, 3)


def test_the_plant_file_of_a_demo_is_a_copy_that_people_edit(tmp_path: Path) -> None:
    settings = Settings(solution="bins", port=0, fps=0, speed=1, seed=1, seconds=1)
    with Programs(tmp_path) as programs:
        Bins(settings, folder=tmp_path, programs=programs)
        copy = tmp_path / "bins.toml"
        shipped = copy.read_bytes()
        copy.write_bytes(shipped + b"# edited\n")
        stage = Bins(settings, folder=tmp_path, programs=programs)
        stage._write_hub_settings()
    assert copy.read_bytes() == shipped + b"# edited\n"
    assert tomllib.loads((tmp_path / "hub.toml").read_text())["plant"] == str(copy)


@pytest.mark.slow
def test_a_port_that_is_taken_meanwhile_is_replaced(tmp_path: Path) -> None:
    settings = Settings(solution="bins", port=0, fps=0, speed=1, seed=1, seconds=1)
    with Programs(tmp_path) as programs, socket.socket() as taken:
        stage = Bins(settings, folder=tmp_path, programs=programs)
        wanted = stage._port
        taken.bind(("127.0.0.1", wanted))
        taken.listen()
        link = stage.start()
    assert link.startswith("http://127.0.0.1:")
    assert f":{wanted}/" not in link


def test_a_program_that_ended_is_quoted_with_its_whole_error(tmp_path: Path) -> None:
    log = tmp_path / "hub.log"
    log.write_text("hub starts\nerror: cannot listen (127.0.0.1:1)\n  fix: Choose a free port.\n")
    assert last_words(log) == "error: cannot listen (127.0.0.1:1) fix: Choose a free port."
    log.write_text("one\nkilled\n")
    assert last_words(log) == "killed"
