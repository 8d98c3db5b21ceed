"""Files made by others are the very ones listed, and nothing stands beside the list."""

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lineside.hub.pages.site import STATIC
from lineside.web.answers import SHARED_STATIC

FOLDERS = (
    STATIC / "vendor",
    SHARED_STATIC / "vendor",
    Path(__file__).parents[2] / "browser" / "vendor",
)


def listed(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = tomllib.loads((folder / "VENDOR.toml").read_text())["file"]
    return rows


@pytest.mark.parametrize("folder", FOLDERS, ids=["pages", "shared", "tests"])
def test_every_vendored_file_has_the_digest_written_down(folder: Path) -> None:
    for row in listed(folder):
        assert hashlib.sha256((folder / row["file"]).read_bytes()).hexdigest() == row["sha256"]


@pytest.mark.parametrize("folder", FOLDERS, ids=["pages", "shared", "tests"])
def test_every_vendored_file_names_version_licence_and_home(folder: Path) -> None:
    for row in listed(folder):
        assert row["name"]
        assert row["version"]
        assert row["licence"] in ("0BSD", "MIT", "OFL-1.1", "MPL-2.0")
        assert row["url"].startswith("https://")
        assert (folder / row["licence_file"]).stat().st_size > 100


@pytest.mark.parametrize("folder", FOLDERS, ids=["pages", "shared", "tests"])
def test_no_file_stands_there_unlisted(folder: Path) -> None:
    known = {row["file"] for row in listed(folder)} | {
        row["licence_file"] for row in listed(folder)
    }
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {name for name in there - known if "LICENSE-3RD-PARTY" not in name} == {"VENDOR.toml"}


def test_no_style_crops_a_picture() -> None:
    sheets = [sheet for folder in (STATIC, SHARED_STATIC) for sheet in folder.rglob("*.css")]
    assert sheets
    assert [sheet.name for sheet in sheets if "object-fit: cover" in sheet.read_text()] == []
