"""Logs for people, and in the journal's form where systemd listens."""

import json
import logging
import os
from pathlib import Path

import pytest

from lineside.cli.output import JournalFormatter, JsonFormatter, is_journal, priority_of


def record(level: int, text: str, **more: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "lineside.edge", "levelno": level, "msg": text, **more})


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.CRITICAL, 2),
        (logging.ERROR, 3),
        (logging.WARNING, 4),
        (logging.INFO, 6),
        (logging.DEBUG, 7),
        (5, 7),
    ],
)
def test_a_level_has_its_priority(level: int, priority: int) -> None:
    assert priority_of(level) == priority
    told = JournalFormatter().format(record(level, "camera lost"))
    assert told == f"<{priority}>lineside.edge: camera lost"


def test_each_line_of_a_trace_carries_its_priority() -> None:
    broken = ZeroDivisionError("bug")
    told = JournalFormatter().format(
        record(logging.ERROR, "failed\nbadly", exc_info=(ZeroDivisionError, broken, None))
    )
    lines = told.splitlines()
    assert lines[0] == "<3>lineside.edge: failed"
    assert len(lines) == 3
    assert all(line.startswith("<3>") for line in lines)
    assert JournalFormatter().format(record(logging.INFO, "")) == "<6>lineside.edge: "


def test_an_entry_as_json_is_one_line_with_its_trace() -> None:
    broken = ZeroDivisionError("bug")
    told = JsonFormatter().format(
        record(
            logging.ERROR,
            'failed "%s"\nbadly',
            args=("ä\udcff",),
            levelname="ERROR",
            created=0.25,
            exc_info=(ZeroDivisionError, broken, None),
        )
    )
    assert "\n" not in told
    assert json.loads(told) == {
        "ts": "1970-01-01T00:00:00.250Z",
        "level": "ERROR",
        "logger": "lineside.edge",
        "message": 'failed "ä\\udcff"\nbadly',
        "error": "ZeroDivisionError: bug",
    }
    plain = JsonFormatter().format(record(logging.INFO, "camera lost", levelname="INFO"))
    assert set(json.loads(plain)) == {"ts", "level", "logger", "message"}


@pytest.mark.parametrize(
    ("text", "args", "fields"),
    [
        ("camera lost camera=%s: %s", ("rack", "by=none"), {"camera": "rack"}),
        ("%s ended code=%d in_s=%.1f%%", ("hub", 3, 0.25), {"code": "3", "in_s": "0.2"}),
        ("job job=%s by=%s", ('a by=eve "\n', "bob"), {"job": 'a by=eve "\n', "by": "bob"}),
        ("free_mb=%ld", (3,), {"free_mb": "3"}),
        ("refused topic=%.3r", ("abcdef",), {"topic": "'ab"}),
        ("name=%s", ("%s by=%d \udcff",), {"name": "%s by=%d \\udcff"}),
        ("found=%s", ({"by": "eve"},), None),  # logging takes it for a mapping
        ("wide=%*d by=%s", (4, 2, "bob"), None),
        ("by=%(by)s", ({"by": "eve"},), None),
        ("by=eve 100% by=%s", (), None),
        ("camera lost", (), None),
    ],
)
def test_values_that_a_message_names_are_fields_of_the_json(
    text: str, args: tuple[object, ...], fields: dict[str, str] | None
) -> None:
    made = logging.LogRecord("lineside", logging.INFO, "", 0, text, args, None)
    told = json.loads(JsonFormatter().format(made))
    assert told.get("fields") == fields
    assert told["message"] == made.getMessage().replace("\udcff", "\\udcff")


def test_a_stream_is_the_journal_where_device_and_inode_are(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream:
        there = os.fstat(stream.fileno())
        named = {"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino}"}
        assert is_journal(stream, named)
        assert not is_journal(stream, {"JOURNAL_STREAM": f"{there.st_dev}:1"})
        assert not is_journal(stream, {"JOURNAL_STREAM": "nonsense"})
        assert not is_journal(stream, {})
