"""Socks as a person starts them: rendered, trained on, sorted live, watched, held against truth."""

import http.client
import json
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import confluent_kafka
import pytest

from lineside.testing.links import LONG_S
from tests.links.mock_kafka import mock_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(920)]
_PICTURES = 4


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One scored demo of 28 s, with somebody who watches the camera, and a Kafka cluster."""
    folder = tmp_path_factory.mktemp("socks")
    report, demo, log = folder / "r.json", folder / "demo", folder / "said"
    command = [sys.executable, "-m", "lineside", "demo", "socks", "--no-browser", "--for", "28"]
    command += ["--port", "0", "--report", str(report), "--folder", str(demo)]
    watched: list[bytes] = []
    with mock_cluster() as kafka, log.open("wb") as said:
        command.append(f"--kafka={kafka.brokers}")
        running = subprocess.Popen(command, stdout=said, stderr=said)
        watcher = threading.Thread(
            target=lambda: watched.extend(watch(running, log=log, demo=demo)), name="watcher"
        )
        watcher.start()
        code = running.wait(900)
        watcher.join()
        taken = {topic: taken_from(kafka.brokers, topic) for topic in ("data_mqtt", "socks")}
    assert code == 0, log.read_text()
    return {**json.loads(report.read_text()), "watched": watched, "kafka": taken}


def taken_from(brokers: str, topic: str) -> list[bytes]:
    """Every value that stands in a topic of one partition or more."""
    reader = confluent_kafka.Consumer(
        {
            "bootstrap.servers": brokers, "group.id": f"read-{topic}",
            "auto.offset.reset": "earliest", "enable.partition.eof": True,
        }
    )  # fmt: skip
    partitions = reader.list_topics(topic, timeout=LONG_S).topics[topic].partitions
    reader.assign([confluent_kafka.TopicPartition(topic, one, 0) for one in partitions])
    values: list[bytes] = []
    ended = 0
    while ended < len(partitions) and (message := reader.poll(LONG_S)) is not None:
        if message.error() is None:
            values.append(message.value() or b"")
        ended += message.error() is not None
    reader.close()
    return values


def watch(running: "subprocess.Popen[bytes]", *, log: Path, demo: Path) -> list[bytes]:
    """What a browser is shown that trusts the site's authority."""
    pause = threading.Event()
    while "camera: https:" not in log.read_text():
        if running.poll() is not None:
            return []
        pause.wait(0.2)
    (line,) = [one for one in log.read_text().splitlines() if one.startswith("camera: ")]
    place = urlsplit(line.split()[1])
    trust = ssl.create_default_context(cafile=str(demo / "hub" / "authority" / "authority.crt"))
    browser = http.client.HTTPSConnection(
        place.hostname or "", place.port or 0, context=trust, timeout=LONG_S
    )
    try:
        browser.request("GET", place.path)
        return [part_of(answer) for answer in [browser.getresponse()] for _ in range(_PICTURES)]
    finally:
        browser.close()


def part_of(answer: http.client.HTTPResponse) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += answer.readline()
    picture = answer.read(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
    answer.readline()
    return picture


def test_every_published_frame_is_stored_or_counted_as_dropped(ran: dict[str, Any]) -> None:
    assert ran["frames_published"] == ran["frames_stored"] + sum(ran["frames_dropped"].values())
    assert ran["frames_stored"] > 40


def test_what_was_answered_is_mostly_right(ran: dict[str, Any]) -> None:
    total = ran["decisions_total"]
    assert total + ran["decisions_between"] == ran["predictions"]
    assert ran["decisions_correct"] + ran["decisions_unsure"] <= total
    assert ran["right_of_answered"] > 0.9


def test_the_hub_hears_a_message_for_each_answer(ran: dict[str, Any]) -> None:
    assert ran["predictions"] * 0.9 < ran["messages_heard"] <= ran["predictions"]


def test_each_sock_is_one_event_and_pairs_are_counted(ran: dict[str, Any]) -> None:
    """However long it lay there; one that was still there at the end may be told too."""
    passed, seen = ran["socks_passed"], ran["socks_seen"]
    assert len(passed) >= 2
    assert seen[: len(passed)] == passed
    assert len(seen) <= len(passed) + 1
    assert ran["pairs_true"] <= ran["pairs_found"] <= ran["pairs_true"] + 1


def test_the_camera_is_watched_by_https_with_the_answer_on_each_picture(
    ran: dict[str, Any],
) -> None:
    assert len(ran["watched"]) == _PICTURES
    assert all(picture.startswith(b"\xff\xd8\xff") for picture in ran["watched"])
    assert len(set(ran["watched"])) == _PICTURES


def test_answers_reach_kafka_unchanged_and_socks_as_events(ran: dict[str, Any]) -> None:
    said, events = ran["kafka"]["data_mqtt"], ran["kafka"]["socks"]
    assert len(said) == ran["messages_heard"]
    assert all(value.startswith(b'{"image": "') for value in said)
    assert {json.loads(value)["device"] for value in said} == {"edge-1"}
    seen = [json.loads(value) for value in events]
    found = [one["data"]["values"]["label"] for one in seen if one["subject"] == "sock-seen"]
    assert found == ran["socks_seen"]
