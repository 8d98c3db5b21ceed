"""``lineside predict``: boxes, counts, and many pictures in one call."""

import itertools
import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from lineside.cli.app import app
from lineside.models import build_package
from lineside.testing.objects import untrained_bytes
from lineside.testing.pictures import shifted, tray
from lineside.vision import CountRule, encode_png
from tests.models.conftest import package_parts, scene


def predict(folder: Path, *words: str, ok: bool = True) -> list[dict[str, Any]]:
    done = CliRunner().invoke(app, ["predict", str(folder / "p.lspkg"), *words, "--json"])
    assert (done.exit_code == 0) == ok, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_boxes_are_told_on_the_pictures_pixels_beside_the_template(tmp_path: Path) -> None:
    made = tray(3, seed=2)
    (tmp_path / "p.lspkg").write_bytes(untrained_bytes(template=True))
    (tmp_path / "seen.png").write_bytes(encode_png(made.image))
    (tmp_path / "wanted.png").write_bytes(encode_png(made.empty))
    picture, template = str(tmp_path / "seen.png"), str(tmp_path / "wanted.png")
    (said,) = predict(tmp_path, picture, "--template", template)
    assert said["boxes"]
    for box in said["boxes"]:
        assert set(box) >= {"label", "x0_px", "y0_px", "x1_px", "y1_px", "probability"}
        assert 0 <= box["x0_px"] <= box["x1_px"] <= 96
    assert said["count"] is None
    assert predict(tmp_path, picture, ok=False) == []
    words = ["predict", str(tmp_path / "p.lspkg"), picture, "--template", template]
    assert said["boxes"][0]["label"] in CliRunner().invoke(app, words).stdout


def test_a_count_is_told_with_its_interval(tmp_path: Path) -> None:
    rule = CountRule(most=400, reach=1.0, error_rate=0.5, calibration_pictures=9)
    (tmp_path / "p.lspkg").write_bytes(untrained_bytes(count=rule))
    (tmp_path / "seen.png").write_bytes(encode_png(tray(3, seed=2).image))
    (said,) = predict(tmp_path, str(tmp_path / "seen.png"))
    count = said["count"]
    assert count["value"] == len(said["boxes"])
    assert (count["low"], count["high"]) == (max(0, count["value"] - 1), count["value"] + 1)
    assert count["more"] is False
    words = ["predict", str(tmp_path / "p.lspkg"), str(tmp_path / "seen.png")]
    assert f"{count['value']} objects" in CliRunner().invoke(app, words).stdout


def test_pictures_are_answered_alike_in_every_order(tmp_path: Path) -> None:
    """Small moves, after which a camera would count as standing still."""
    (tmp_path / "p.lspkg").write_bytes(build_package(*package_parts()))
    names = [str(tmp_path / f"{number}.png") for number in range(4)]
    for number, name in enumerate(names):
        picture = shifted(scene(lit=number % 2 == 0), dx_px=0.2 * number, dy_px=-0.15 * number)
        Path(name).write_bytes(encode_png(picture))
    first = {said["file"]: said["labels"] for said in predict(tmp_path, *names)}
    for order in list(itertools.permutations(names))[1::6]:
        assert {said["file"]: said["labels"] for said in predict(tmp_path, *order)} == first
