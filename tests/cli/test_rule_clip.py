"""``lineside rule learn`` and ``boxes``: from a clip to habits, and to events of a crossing."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from lineside.cli.app import app
from lineside.core import InvalidError, NotFoundError, load_plant
from lineside.core.plant_rules import read_dwell_times

PLANT = """
schema = "lineside.plant/1"
site = "here"
[[line]]
id = "belt"
name = "Belt"
[[camera]]
id = "above"
line = "belt"
source = "http-push://127.0.0.1:1/above"
[[inspection]]
id = "parts"
camera = "above"
task = "detect"
labels = ["thing"]
[[rule]]
id = "passed"
read = { predictions = "parts", answers = "each" }
key = ["camera"]
crossing = { x0_px = 10, y0_px = 100, x1_px = 150, y1_px = 100 }
[[rule]]
id = "socks"
read = { topic = "sockfound" }
sighting = { blank = ["Blank"]LEARNED }
"""


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["rule", *words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    path = tmp_path / "plant.toml"
    path.write_text(PLANT.replace("LEARNED", ""))
    return path


@pytest.fixture
def clip(tmp_path: Path) -> tuple[str, ...]:
    """Ten seconds of Blank and Google by turns, five answers a second, 8 of 100 of Google wrong."""
    lines = []
    for number in range(200):
        label = ("Blank", "Google")[number // 25 % 2]
        said = "Mongo" if number % 10 == 3 else label
        at = f"2026-01-01T12:00:{number / 5:06.3f}Z"
        payload = {"image": said, "probability": 90.0}
        lines.append(json.dumps({"topic": "sockfound", "payload": payload, "time": at}))
    events, labels = tmp_path / "events.jsonl", tmp_path / "labels.csv"
    events.write_text("\n".join(lines))
    rows = ["5,10,Google", "2026-01-01T12:00:15Z,2026-01-01T12:00:20Z,Google", "25,30,Google",
            "35,40,Google"]  # fmt: skip
    labels.write_text("\n".join(["t_from,t_to,label", *rows]))
    return "--events", str(events), "--labels", str(labels)


def test_a_clip_is_learned_and_the_rule_then_says_its_things(
    plant: Path, clip: tuple[str, ...]
) -> None:
    habits = plant.parent / "socks.json"
    told = run("learn", "socks", "--plant", str(plant), *clip, "--out", str(habits))
    assert "learned from 4 things in 200 frames" in told
    assert "dwell_s 2.5, gap_s 2.5" in told
    assert "Google: right in 92.0% of its frames" in told
    assert read_dwell_times(habits).confusion["Google"]["Mongo"] == pytest.approx(0.08, abs=0.01)
    plant.write_text(PLANT.replace("LEARNED", ', learned = "socks.json"'))
    events = clip[1]
    lines = run("run", "socks", "--plant", str(plant), "--events", events).splitlines()
    assert [json.loads(line)["data"]["values"]["label"] for line in lines] == ["Google"] * 4
    assert json.loads(lines[0])["time"].startswith("2026-01-01T12:00:09")


def test_a_plant_whose_learned_file_is_missing_or_wrong_is_refused_with_its_place(
    plant: Path,
) -> None:
    plant.write_text(PLANT.replace("LEARNED", ', learned = "socks.json"'))
    with pytest.raises(InvalidError, match="cannot read what was learned") as missing:
        load_plant(plant)
    assert missing.value.faults[0].path == "$.rule[1].sighting.learned"
    (plant.parent / "socks.json").write_text('{"dwell_s": -1, "gap_s": 2}')
    with pytest.raises(InvalidError, match="learned"):
        load_plant(plant)
    (plant.parent / "socks.json").write_bytes(b" " * 1_000_001)
    with pytest.raises(InvalidError, match="more than 1000000 bytes"):
        load_plant(plant)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b,c\n1,2,Google", "no column label, t_from, t_to"),
        ("t_from,t_to,label\n1,2", "too few columns"),
        ("t_from,t_to,label\n2,1,Google", "ends before it begins"),
        ("t_from,t_to,label\nsoon,2,Google", "soon"),
        ("t_from,t_to,label\nnan,2,Google", "nan"),
        ("t_from,t_to,label\n1,9,Google\n5,12,Mongo", "overlap"),
        ("t_from,t_to,label", "no frame lies in a labelled stretch"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(
    plant: Path, clip: tuple[str, ...], text: str, said: str
) -> None:
    Path(clip[3]).write_text(text)
    with pytest.raises(InvalidError, match=said):
        run("learn", "socks", "--plant", str(plant), *clip, "--out", str(plant.parent / "out"))
    assert not (plant.parent / "out").exists()


def test_a_rule_or_file_that_is_not_there_is_named(plant: Path, clip: tuple[str, ...]) -> None:
    out = ("--out", str(plant.parent / "out"))
    with pytest.raises(NotFoundError, match="Sighting rules: socks"):
        run("learn", "passed", "--plant", str(plant), *clip, *out)
    with pytest.raises(NotFoundError, match="cannot read the labels"):
        run("learn", "socks", "--plant", str(plant), *clip[:2], "--labels", "nowhere", *out)
    with pytest.raises(NotFoundError, match="cannot read the events"):
        run("learn", "socks", "--plant", str(plant), "--events", "nowhere", *clip[2:], *out)


@pytest.fixture
def belt_video(tmp_path: Path) -> Path:
    """Two dark things that move up a grey belt, and a seam that lies across it."""
    path = tmp_path / "belt.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (160, 200))
    for number in range(60):
        picture = np.full((200, 160, 3), 150, np.uint8)
        seam = 190 - 4 * number
        if 0 < seam < 190:
            picture[seam : seam + 6] = 240
        for left, late in ((40, 0), (90, 15)):
            top = 200 - 6 * (number - late)
            if top < 200:
                picture[max(0, top) : max(0, top + 40), left : left + 30] = (40, 40, 60)
        writer.write(picture)
    writer.release()
    return path


def test_what_stands_out_in_a_video_is_counted_where_it_crosses(
    plant: Path, belt_video: Path
) -> None:
    out = plant.parent / "boxes.jsonl"
    told = run("boxes", "passed", "--plant", str(plant), "--video", str(belt_video), "--out",
               str(out))  # fmt: skip
    assert "60 pictures" in told
    lines = run("run", "passed", "--plant", str(plant), "--events", str(out)).splitlines()
    values = [json.loads(line)["data"]["values"] for line in lines]
    assert [one["direction"] for one in values] == ["to left", "to left"]
    assert [round(one["x_px"]) for one in values] == [55, 105]


def test_a_camera_without_an_end_and_a_rule_without_boxes_are_refused(plant: Path) -> None:
    out = ("--out", str(plant.parent / "out"))
    with pytest.raises(InvalidError, match="never ends"):
        run("boxes", "passed", "--plant", str(plant), *out)
    with pytest.raises(NotFoundError, match="Crossing rules: passed"):
        run("boxes", "socks", "--plant", str(plant), *out)
