"""Answers about plates, held against the simulated belt's truth."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.cli.demo.score import FrameTruth, judge_plate, plate_label, read_truth, score
from lineside.core import frame_id, parse_rfc3339

LABELS = ("normal", "anomalous")


def answer(
    frame: str,
    *,
    task: str = "classify",
    state: str = "ok",
    labels: Sequence[tuple[str, str]] = (),
    anomaly: str = "",
) -> Mapping[str, Any]:
    return {
        "frame": {"id": frame},
        "state": state,
        "task": task,
        "labels": [{"label": label, "decision": said} for label, said in labels],
        "anomaly": {"decision": anomaly} if anomaly else None,
    }


@pytest.mark.parametrize(
    ("prediction", "said"),
    [
        (answer("f", labels=[("normal", "absent"), ("anomalous", "present")]), "anomalous"),
        (answer("f", labels=[("normal", "present"), ("anomalous", "absent")]), "normal"),
        (answer("f", labels=[("normal", "unsure"), ("anomalous", "unsure")]), ""),
        (answer("f", labels=[("normal", "present"), ("anomalous", "present")]), ""),
        (answer("f", task="segment", labels=[("anomalous", "present")]), "anomalous"),
        (answer("f", task="segment", labels=[("anomalous", "absent")]), "normal"),
        (answer("f", task="segment", labels=[("anomalous", "unsure")]), ""),
        (answer("f", task="anomaly", anomaly="present"), "anomalous"),
        (answer("f", task="anomaly", anomaly="absent"), "normal"),
        (answer("f", task="anomaly", anomaly="unsure"), ""),
        (answer("f", state="too dark", labels=[("normal", "present")]), ""),
    ],
)
def test_what_is_said_is_read_whichever_task_said_it(
    prediction: Mapping[str, Any], said: str
) -> None:
    assert plate_label(prediction) == said


def test_the_truth_file_is_read_without_its_last_line() -> None:
    line = {"ts": "2026-03-01T10:00:00Z", "digest": "sha256:" + "0" * 64, "label": "normal"}
    found = read_truth([line, {"end": True, "frames": 1, "dropped": 0}], camera="plate")
    at = parse_rfc3339(str(line["ts"]))
    frame = frame_id(camera="plate", captured_at=at, digest=str(line["digest"]))
    assert found == [FrameTruth(frame=frame, note=line)]


@given(
    st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, "unsure", "too dark"])))
)
def test_every_answered_frame_is_counted_once(rows: list[tuple[str, str]]) -> None:
    truths = [FrameTruth(frame=f"f{n}", note={"label": true}) for n, (true, _) in enumerate(rows)]
    said = [
        answer(
            f"f{n}",
            state="too dark" if one == "too dark" else "ok",
            labels=[(label, "present" if label == one else "absent") for label in LABELS],
        )
        for n, (_, one) in enumerate(rows)
    ]
    found = score(
        truths,
        [*said, answer("unknown", labels=[("normal", "present")])],
        judge=judge_plate,
    )
    assert found.total == len(rows)
    marks = found.marks
    assert marks["correct"] + marks["unsure"] + marks["missed"] + marks["stopped"] == found.total
    assert marks["correct"] == sum(true == one for true, one in rows)
    assert marks["missed"] == rows.count(("anomalous", "normal"))
    assert marks["stopped"] == rows.count(("normal", "anomalous"))
    assert sum(found.refused.values()) == sum(one == "too dark" for _, one in rows)
    assert len(found.wrong) == min(20, marks["missed"] + marks["stopped"])
