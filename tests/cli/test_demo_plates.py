"""Answers about plates, held against the simulated belt's truth."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.cli.demo.score import PlateTruth, read_plates, said_of, score_plates
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
    assert said_of(prediction) == said


def test_the_truth_file_is_read_without_its_last_line() -> None:
    line = {"ts": "2026-03-01T10:00:00Z", "digest": "sha256:" + "0" * 64, "label": "normal"}
    found = read_plates([line, {"end": True, "frames": 1, "dropped": 0}], camera="plate")
    at = parse_rfc3339(str(line["ts"]))
    frame = frame_id(camera="plate", captured_at=at, digest=str(line["digest"]))
    assert found == [PlateTruth(frame=frame, label="normal")]


@given(
    st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, "unsure", "too dark"])))
)
def test_every_answered_frame_is_counted_once(rows: list[tuple[str, str]]) -> None:
    truths = [PlateTruth(frame=f"f{n}", label=true) for n, (true, _) in enumerate(rows)]
    said = [
        answer(
            f"f{n}",
            state="too dark" if one == "too dark" else "ok",
            labels=[(label, "present" if label == one else "absent") for label in LABELS],
        )
        for n, (_, one) in enumerate(rows)
    ]
    found = score_plates(truths, [*said, answer("unknown", labels=[("normal", "present")])])
    assert found.total == len(rows)
    assert found.correct + found.unsure + found.missed + found.stopped == found.total
    assert found.correct == sum(true == one for true, one in rows)
    assert found.missed == rows.count(("anomalous", "normal"))
    assert found.stopped == rows.count(("normal", "anomalous"))
    assert sum(found.refused.values()) == sum(one == "too dark" for _, one in rows)
    assert len(found.wrong) == min(20, found.missed + found.stopped)
