"""Figures of counts that another program predicted, from the command line."""

import json
from pathlib import Path

import pytest

from lineside.cli.app import _run

TABLE = "id,count,said\n1,0,0\n2,1,1\n3,1,2\n4,3,1\n5,1,1\n"


def test_counts_are_reported_with_intervals_classes_confusion_and_floors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "said.csv"
    file.write_text(TABLE)
    code = _run(["metrics", "counts", str(file), "--truth", "count", "--predicted", "said"])
    told = capsys.readouterr().out
    assert code == 0
    assert "accuracy: 0.600" in told
    assert "always 1  0.600" in told


def test_json_has_plain_figures_and_full_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "said.csv"
    file.write_text(TABLE)
    words = ["metrics", "counts", str(file), "--truth", "count", "--predicted", "said", "--json"]
    assert _run(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["accuracy"], told["rmse"], told["mae"]) == (0.6, 1.0, 0.6)
    assert told["classes"] == [0, 1, 2, 3]
    assert told["confusion"] == [[1, 0, 0, 0], [0, 2, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert told["per_class"]["1"]["n"] == 3
    assert told["floors"]["1"] == {"accuracy": 0.6, "rmse": 1.0, "mae": 0.6}
    assert set(told["metrics"]["rmse"]) == {"value", "low", "high", "n", "baseline"}


@pytest.mark.parametrize(
    ("content", "code", "sentence"),
    [
        (b"", 2, "no column"),
        (b"count,said\n", 2, "no rows"),
        (b"count,said\n1,x\n", 2, "said.csv:2"),
        (b"count,said\n1\n", 2, "said.csv:2"),
        (b"count,said\n-1,2.5\n", 2, "whole numbers"),
        (b"count,said\n1,99999999999999999999\n", 2, "said.csv:2"),
        (b"count;said\n1;1\n", 2, "Columns here: count;said"),
        (b"\xff\xfe\x00", 2, "no CSV table"),
        (b'count,said\n"1,2\n', 2, "no CSV table"),
    ],
)
def test_a_table_that_is_none_gets_its_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, code: int, sentence: str
) -> None:
    file = tmp_path / "said.csv"
    file.write_bytes(content)
    words = ["metrics", "counts", str(file), "--truth", "count", "--predicted", "said"]
    assert _run(words) == code
    assert sentence in capsys.readouterr().err


def test_a_missing_table_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["metrics", "counts", str(tmp_path / "none.csv")]) == 3
    assert "none.csv" in capsys.readouterr().err


@pytest.mark.data
def test_published_bin_counts_come_out_as_published(
    data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = data_folder / "bin-counter" / "results" / "test_wpred.csv"
    words = ["--truth", "label", "--predicted", "predicted_label", "--json"]
    assert _run(["metrics", "counts", str(file), *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["accuracy"] == 0.43515850144092216
    assert told["rmse"] == 1.1540604249432982
    assert told["mae"] == 0.7900687209044558
    classes = told["per_class"]
    assert [classes[str(k)]["n"] for k in range(6)] == [124, 537, 961, 1124, 987, 778]
    assert classes["0"]["accuracy"] == 0.9274193548387096
    assert classes["5"]["rmse"] == 1.6693209370116644
    assert told["confusion"] == [
        [115, 8, 0, 0, 0, 1],
        [5, 398, 118, 14, 2, 0],
        [2, 179, 525, 206, 26, 23],
        [0, 57, 351, 438, 137, 141],
        [1, 26, 192, 349, 160, 259],
        [0, 14, 104, 225, 108, 327],
    ]
    assert (round(told["floors"]["3"]["accuracy"], 3), round(told["floors"]["3"]["rmse"], 3)) == (
        0.249,
        1.358,
    )
    assert (round(told["floors"]["4"]["accuracy"], 3), round(told["floors"]["4"]["rmse"], 3)) == (
        0.219,
        1.669,
    )
