"""Datasets without a hub: from files to a version, its leaks, changes, tags, report, and back."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lineside.cli.app import app
from lineside.core import InvalidError, SystemClock, digest_of, frame_id
from lineside.store import FrameRow, open_records
from lineside.vision import encode_png


def run(*words: str, ok: bool = True) -> Any:  # noqa: ANN401  whatever the command says
    done = CliRunner().invoke(app, ["dataset", *words, "--json"], catch_exceptions=not ok)
    assert (done.exit_code == 0) is ok, done.output
    return json.loads(done.stdout) if ok else done.exception


def picture(seed: int, *, level: int = 128) -> bytes:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(-60, 60, (6, 8, 3)).repeat(6, 0).repeat(6, 1)
    return encode_png(np.asarray(np.clip(level + blocks, 0, 255), np.uint8))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Pictures with labels, masks, boxes, counts, groups and a further column."""
    folder = tmp_path / "pictures"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows = ["file,label,mask,count,group,line"]
    boxes = ["file,x1,y1,x2,y2,type"]
    for number in range(30):
        name = f"images/{number:03d}.png"
        (folder / name).write_bytes(picture(number))
        bad = number % 3 == 0
        mask = f"masks/{number:03d}.png" if bad else ""
        if bad:
            covered = np.zeros((36, 48, 3), np.uint8)
            covered[: number + 1] = 255
            (folder / mask).write_bytes(encode_png(covered))
            boxes.append(f"{name},1,2,{10 + number},20.5,hole")
        label = "bad" if bad else "good"
        rows.append(f"{name},{label},{mask},{number % 4},tile {number // 2},{number % 2}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    (folder / "boxes.csv").write_text("\n".join(boxes) + "\n")
    return folder


def stored_frame(folder: Path, at: datetime) -> FrameRow:
    """A frame of the camera ``top``, in the records of a folder."""
    digest = digest_of(str(at).encode())
    row = FrameRow(
        id=frame_id(camera="top", captured_at=at, digest=digest), camera="top", captured_at=at,
        arrived_at=at, digest=digest, size_bytes=1, width_px=32, height_px=24, thumbnail=digest,
    )  # fmt: skip
    with open_records(f"sqlite:///{folder / 'records.db'}", clock=SystemClock()) as records:
        records.frames.add([row])
    return row


def test_stored_frames_are_taught_from_the_first_to_the_last(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    begin = datetime(2026, 1, 1, 12, tzinfo=UTC)
    rows = [stored_frame(tmp_path, begin + timedelta(seconds=each)) for each in range(4)]
    here = ("--label", "good", "--store", str(tmp_path))
    added = run("add", "parts", "--frames", f"{rows[1].id}..{rows[3].id}", *here)
    assert (added["added"], added["same"]) == (3, 0)
    assert run("add", "parts", "--frames", f"{rows[0].id}..{rows[0].id}", *here)["added"] == 1


def test_what_a_camera_shows_from_now_on_is_taught(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    now = SystemClock().now()
    for at in (now - timedelta(hours=1), now + timedelta(hours=1)):
        stored_frame(tmp_path, at)
    here = ("--label", "good", "--store", str(tmp_path), "--for", "0.1")
    assert run("add", "parts", "--camera", "top", *here)["added"] == 1
    silent = run("add", "parts", "--camera", "side", *here, ok=False)
    assert "no frame of side came within 0.1 s" in str(silent)
    for words in ((), ("--camera", "top", "--frames", "a..b")):
        assert isinstance(run("add", "parts", *words, *here, ok=False), InvalidError)


def test_a_folder_of_broken_pictures_is_no_import(tmp_path: Path) -> None:
    folder = tmp_path / "pictures" / "ok"
    folder.mkdir(parents=True)
    for name in ("b.jpg", "a.jpg"):
        (folder / name).write_bytes(b"\xff\xd8\xff\xe0 cut")
    words = ("import", str(folder.parent), "--into", "tiles", "--store", str(tmp_path / "store"))
    done = CliRunner().invoke(app, ["dataset", *words])
    assert isinstance(done.exception, InvalidError)
    told = done.stderr.splitlines()
    assert [line.split(":")[0] for line in told] == ["skipped ok/a.jpg", "skipped ok/b.jpg"]
    assert [line.count("ok/") for line in told] == [1, 1]


def test_from_files_to_a_version_and_back_gives_the_same_digest(
    tmp_path: Path, source: Path
) -> None:
    here = ("--store", str(tmp_path / "store"))
    assert run("import", str(source), "--into", "tiles", *here)["samples"] == 30
    parts = run("split", "tiles", "--shares", "0.6,0.2,0.2", "--seed", "4", *here)
    assert parts["splits"] == {"train": 18, "valid": 6, "test": 6}
    assert sum(parts["labels"]["bad"].values()) == 10
    frozen = run("freeze", "tiles", *here)
    assert (frozen["version"], frozen["splits"]) == (1, parts["splits"])
    shown = run("show", "tiles", *here)
    assert (shown["samples"], shown["labels"]) == (30, {"bad": 10, "good": 20})
    leaks = run("leaks", "tiles", *here)
    assert (leaks["leaks"], leaks["check"]["looked_at"]) == ([], 30)

    to = tmp_path / "out"
    draft = run("export", "tiles", "--draft", "--to", str(tmp_path / "draft"), *here)
    assert (draft["samples"], draft["version"]) == (30, 0)
    with pytest.raises(InvalidError, match="both the draft and version 1"):
        run("export", "tiles", "--draft", "--version", "1", "--to", str(to), *here)
    run("export", "tiles", "--to", str(to), *here)
    there = ("--store", str(tmp_path / "second"))
    assert run("import", str(to), "--into", "copy", *there)["samples"] == 30
    again = run("freeze", "copy", *there)
    assert again["digest"] == frozen["digest"]
    assert again["splits"] == frozen["splits"]


def test_changes_tags_and_report_of_versions(tmp_path: Path, source: Path) -> None:
    here = ("--store", str(tmp_path / "store"))
    run("import", str(source), "--into", "tiles", *here)
    run("freeze", "tiles", *here)
    run("tag", "tiles", "prod", "--by", "ann", *here)
    (source / "images" / "900.png").write_bytes(picture(900))
    table = source / "labels.csv"
    table.write_text(table.read_text() + "images/900.png,good,,0,tile 90,0\n")
    run("import", str(source), "--into", "tiles", *here)
    run("split", "tiles", "--fold", "1/3", *here)
    run("freeze", "tiles", *here)

    changed = run("diff", "tiles", "prod", *here)
    assert (changed["a"], changed["b"]) == ("tiles/1", "tiles/2")
    assert [change["name"] for change in changed["added"]] == ["images/900.png"]
    assert {change["after"] for change in changed["moved"]} == {"train", "test"}
    assert run("show", "tiles", "--version", "prod", *here)["version"] == 1

    (tag,) = run("tag", "tiles", "prod", "--version", "2", "--by", "bo", *here)["tags"]
    assert [(move["version"], move["by"]) for move in tag["history"]] == [(1, "ann"), (2, "bo")]
    assert run("show", "tiles", *here)["tags"] == ["prod"]
    assert run("tag", "tiles", "prod", "--remove", *here)["tags"][0]["version"] == 0

    page, told = tmp_path / "tiles.html", tmp_path / "tiles.json"
    short = run("report", "tiles", "--out", str(page), *here)
    assert (short["pictures"], short["examples"], short["masks"]) == (31, [], 10)
    assert page.read_text().startswith("<!doctype html>")
    run("report", "tiles", "--version", "1", "--out", str(told), *here)
    assert json.loads(told.read_text())["examples"]


def test_a_folder_is_reported_on_without_any_store(tmp_path: Path, source: Path) -> None:
    page = tmp_path / "source.html"
    told = run("report", str(source), "--out", str(page))
    assert (told["pictures"], told["masks"], told["objects"]) == (30, 10, {"hole": 10})
    assert b"data:image/jpeg;base64," in page.read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("list",), "no place of datasets"),
        (("list", "--store", "{0}/none"), "no datasets in this folder"),
        (("list", "--store", "{0}", "--records", "memory://"), "two places"),
        (("list", "--records", "memory://"), "two places"),
        (("list", "--store", "{0}/store", "--hub", "http://127.0.0.1:1"), "two places"),
        (("list", "--store", "{0}/store", "--token", "{0}/my.token"), "for a running hub"),
        (("split", "tiles", "--store", "{0}/store", "--fold", "x/3"), "no fold"),
        (("split", "tiles", "--store", "{0}/store", "--fold", "4/3"), "cannot be held out"),
        (("split", "tiles", "--store", "{0}/store", "--by", "tile"), "neither group nor sample"),
        (("split", "tiles", "--store", "{0}/store", "--shares", "nan,0,1"), "no split"),
        (("split", "tiles", "--store", "{0}/store", "--exact", "odd"), "no exact split"),
        (("split", "none", "--store", "{0}/store"), "no dataset"),
        (("show", "tiles", "--store", "{0}/store", "--version", "7"), "no version 7"),
        (("show", "tiles", "--store", "{0}/store", "--version", "prod"), "prod"),
        (("show", "tiles", "--store", "{0}/store", "--version", "9" * 40), "no version"),
        (("tag", "tiles", "a/b", "--store", "{0}/store"), "cannot be a tag"),
        (("report", "{0}/none"), "no such"),
    ],
)
def test_wrong_words_are_refused_with_a_sentence_and_a_fix(
    *, tmp_path: Path, source: Path, words: tuple[str, ...], said: str
) -> None:
    here = ("--store", str(tmp_path / "store"))
    run("import", str(source), "--into", "tiles", *here)
    run("freeze", "tiles", *here)
    refused = run(*(word.format(tmp_path) for word in words), ok=False)
    assert said in str(refused)
    assert getattr(refused, "fix", "")


def test_what_is_read_by_people_is_text(tmp_path: Path, source: Path) -> None:
    def read(*words: str) -> str:
        words = (*words, "--store", str(tmp_path / "store"))
        done = CliRunner().invoke(app, ["dataset", *words], catch_exceptions=False)
        assert done.exit_code == 0
        return done.stdout

    assert "30 new pictures" in read("import", str(source), "--into", "tiles")
    assert "The next version is split like this." in read("split", "tiles", "--group", "ids:5")
    assert "tiles/1 sha256:" in read("freeze", "tiles")
    assert "labels   bad 10, good 20" in read("show", "tiles")
    assert "30 of 30 pictures were compared by whole pictures" in read("leaks", "tiles")
    assert "added 0" in read("diff", "tiles", "1")
    assert read("tag", "tiles").strip() == "no tags"
    assert "prod  version 1  command line" in read("tag", "tiles", "prod")
    assert "30 pictures of tiles/1" in read("export", "tiles", "--to", str(tmp_path / "out"))
    assert read("list").split() == ["tiles"]


def test_a_store_is_used_by_one_command_after_the_other_from_the_prompt(
    tmp_path: Path, source: Path
) -> None:
    place = ["--records", f"sqlite:///{tmp_path / 'r.db'}", "--blobs", f"file://{tmp_path / 'b'}"]
    for words in (["import", str(source), "--into", "tiles"], ["freeze", "tiles"]):
        done = subprocess.run(
            [sys.executable, "-m", "lineside", "dataset", *words, *place],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
