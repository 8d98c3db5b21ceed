"""Answers about socks, held against the simulated sorting table's truth."""

import tomllib
from pathlib import Path
from typing import Any

from lineside.cli.demo.score import judge_sock, read_truth, score, socks_passed
from lineside.cli.demo.solutions import Socks
from lineside.cli.demo.stage import Programs, Settings
from lineside.core import decode, frame_id, parse_rfc3339
from lineside.hub import HubConfig


def line(second: float, label: str, *, sock: str = "", design: str = "") -> dict[str, Any]:
    return {
        "ts": f"2026-01-01T12:00:{second:06.3f}Z", "digest": f"sha256:{second}", "part": "",
        "label": label, "sock": sock, "design": design, "pair": 0, "share": 1.0,
    }  # fmt: skip


def frame_of(row: dict[str, Any]) -> str:
    return frame_id(camera="overhead", captured_at=parse_rfc3339(row["ts"]), digest=row["digest"])


def said(
    row: dict[str, Any], label: str, *, decision: str = "present", state: str = "ok"
) -> dict[str, Any]:
    labels = [
        {"label": label, "decision": decision}, {"label": "Blank?", "decision": "absent"}
    ]  # fmt: skip
    return {"frame": {"id": frame_of(row)}, "state": state, "labels": labels}


def test_right_wrong_unsure_and_in_between_are_told_apart() -> None:
    rows = [
        line(1, "Blank"),
        line(2, "", sock="sock-1", design="Dots"),
        line(3, "Dots", sock="sock-1", design="Dots"),
        line(4, "Dots", sock="sock-1", design="Dots"),
        line(5, "Dots", sock="sock-1", design="Dots"),
        line(6, "Blank"),
        {"end": True, "frames": 6, "dropped": 0},
    ]
    truths = read_truth(rows, camera="overhead")
    assert len(truths) == 6
    found = score(
        truths,
        [
            said(rows[0], "Blank"),
            said(rows[1], "Stripes"),
            said(rows[2], "Dots"),
            said(rows[3], "Argyle"),
            said(rows[4], "Dots", decision="unsure"),
            {**said(rows[5], "Blank"), "labels": [], "state": "black"},
            said(line(9, "Blank"), "Blank"),  # of another line
        ],
        judge=judge_sock,
    )
    assert (found.marks["correct"], found.marks["unsure"], found.total, found.marks["between"]) == (
        2,
        2,
        5,
        1,
    )
    assert found.wrong == (f"{frame_of(rows[3])}: Dots said Argyle",)
    assert found.refused == {"black": 1}


def test_socks_count_once_each_when_they_have_left() -> None:
    rows = [
        line(1, "", sock="a", design="Dots"),
        line(2, "Dots", sock="a", design="Dots"),
        line(3, "Dots", sock="a", design="Dots"),
        line(4, "Blank"),
        line(5, "", sock="b", design="Stripes"),  # brought and taken away unseen
        line(8, "Dots", sock="c", design="Dots"),
        line(9, "Blank"),
        line(12, "Blank"),
        line(13, "Zigzag", sock="d", design="Zigzag"),
    ]
    assert socks_passed(read_truth(rows, camera="overhead")) == ["Dots", "Dots"]
    assert socks_passed([]) == []


def test_kafka_is_asked_for_where_brokers_are_named(tmp_path: Path) -> None:
    def settings(kafka: str) -> str:
        asked = Settings(solution="socks", port=0, fps=5, speed=1, seed=1, seconds=1, kafka=kafka)
        with Programs(tmp_path) as programs:
            return Socks(asked, folder=tmp_path, programs=programs).hub_settings()

    assert settings("") == ""
    told = tomllib.loads(settings("broker-1:9092,broker-2:9092"))
    base = {"data_dir": str(tmp_path), "plant": "plant.toml"}
    kafka = decode(HubConfig, {**base, **told}, where="hub.toml").kafka
    assert kafka.brokers == "broker-1:9092,broker-2:9092"
    assert [(one.mqtt, one.topic) for one in kafka.bridge] == [("sockfound", "data_mqtt")]
    assert [one.topic for one in kafka.send] == ["socks"]
