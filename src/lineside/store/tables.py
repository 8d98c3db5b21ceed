"""The tables as the newest migration leaves them, and as an empty database gets them.

Times are whole microseconds since 1970 UTC, so that both databases sort and compare them alike.
Names are compared byte by byte (collation ``C`` on PostgreSQL, SQLite's own order).

Which index serves what:

- ``entries_source``, ``entries_source_type``, ``entries_type``, ``entries_subject``: filtered
  readers with a cursor; see ``PLACE``.
- ``entries_chain``: walking a chain; no place in it is taken twice.
- ``entries_id``: "is it there already", and an event by its id.
- ``leases_token``: none; see ``leases``.
- ``frames_camera``: the newest frame of a camera in one step, whatever the number of frames.
- ``frames_part``, ``answers_…``, ``answer_labels_label``, ``pins_reason``: lists of frames, each
  the narrowest field of a filter; see ``frame_query``.
- ``frames_free``: what may age out, oldest first; ``frames_kept``: bytes kept, and whether a
  kept frame names a picture, without reading the table itself.
- ``rule_events_at``: rule events of a span; ``rule_events_series``: all that is added up, without
  reading the table itself; ``rule_events_name``: whether a name was there before;
  ``rule_events_again``, ``rule_events_session``: the last of each name that came again, and of each
  session; see ``sums``.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

_ZERO = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Moment(sa.TypeDecorator[datetime]):
    """An aware time as whole microseconds since 1970 UTC."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        del dialect
        return None if value is None else (value - _ZERO) // _MICROSECOND

    def process_result_value(
        self,
        value: int | None,
        dialect: sa.Dialect,
    ) -> datetime | None:
        del dialect
        return None if value is None else _ZERO + timedelta(microseconds=value)


Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Count = sa.BigInteger()
Key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # INTEGER is SQLite's row id

metadata = sa.MetaData()
sa.Sequence("log_positions", metadata=metadata)  # where the database has sequences


def _filled(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


documents = sa.Table(
    "documents",
    metadata,
    sa.Column("kind", Name, primary_key=True),
    sa.Column("id", Name, primary_key=True),
    _filled("version", Count),
    _filled("updated_at_us", Moment()),
    _filled("body", sa.LargeBinary()),
)

# Which documents hold a digest in their body.
mentions = sa.Table(
    "mentions",
    metadata,
    sa.Column("digest", Name, primary_key=True),
    sa.Column("kind", Name, primary_key=True),
    sa.Column("id", Name, primary_key=True),
)

chains = sa.Table(
    "chains",
    metadata,
    sa.Column("chain", Key, primary_key=True),
    sa.Column("source", Name, nullable=False, unique=True),
    _filled("length", Count),
    _filled("head_position", Count),
    _filled("head_hash", Name),
)

PLACE = sa.text("(position + 0)")
"""What filtered readers of the log sort by, so that the primary key cannot serve the order.

A planner may otherwise walk the primary key and drop what does not fit, which reads the whole log
for a source that has been silent for long.
"""

entries = sa.Table(
    "entries",
    metadata,
    sa.Column("position", Key, primary_key=True, autoincrement=False),
    _filled("chain", Count),
    _filled("source_position", Count),
    _filled("id", Name),
    _filled("type", Name),
    _filled("subject", Name),
    _filled("captured_at_us", Moment()),
    _filled("arrived_at_us", Moment()),
    _filled("body", sa.LargeBinary()),
    _filled("previous", Name),
    _filled("hash", Name),
    sa.Index("entries_chain", "chain", "source_position", unique=True),
    sa.Index("entries_source", "chain", PLACE),
    sa.Index("entries_source_type", "chain", "type", PLACE),
    sa.Index("entries_id", "id", "chain", unique=True),
    sa.Index("entries_type", "type", PLACE),
    sa.Index("entries_subject", "subject", PLACE),
)

frames = sa.Table(
    "frames",
    metadata,
    sa.Column("id", Name, primary_key=True),
    _filled("camera", Name),
    _filled("captured_at_us", Moment()),
    _filled("arrived_at_us", Moment()),
    _filled("digest", Name),
    _filled("size_bytes", Count),
    _filled("width_px", Count),
    _filled("height_px", Count),
    _filled("thumbnail", Name),
    _filled("part", Name),
    _filled("sequence", Count),
    sa.Column("aged_out_at_us", Moment()),
    _filled("pinned", Count),
    sa.Index("frames_camera", "camera", "captured_at_us", "id"),
    sa.Index("frames_captured", "captured_at_us", "id"),
    sa.Index("frames_thumbnail", "thumbnail"),
    sa.Index(
        "frames_part",
        "part",
        "captured_at_us",
        "id",
        sqlite_where=sa.text("part <> ''"),
        postgresql_where=sa.text("part <> ''"),
    ),
    sa.Index(
        "frames_kept",
        "digest",
        "size_bytes",
        "aged_out_at_us",
        sqlite_where=sa.text("aged_out_at_us IS NULL"),
        postgresql_where=sa.text("aged_out_at_us IS NULL"),
    ),
    sa.Index(
        "frames_free",
        "captured_at_us",
        "id",
        sqlite_where=sa.text("aged_out_at_us IS NULL AND pinned = 0"),
        postgresql_where=sa.text("aged_out_at_us IS NULL AND pinned = 0"),
    ),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", Name, primary_key=True),
    _filled("holder", Name),
    _filled("token", Count),
    _filled("ends_at_us", Moment()),
    # Makes a change of the token a change of a key: see ``SqlLeases.check``.
    sa.Index("leases_token", "name", "token", unique=True),
)

pins = sa.Table(
    "pins",
    metadata,
    sa.Column("frame", Name, primary_key=True),
    sa.Column("reason", Name, primary_key=True),
    sa.Index("pins_reason", "reason", "frame"),
)

# The answer that lists of frames go by. It may be there before its frame is.
answers = sa.Table(
    "answers",
    metadata,
    sa.Column("frame", Name, primary_key=True),
    _filled("camera", Name),
    _filled("captured_at_us", Moment()),
    _filled("inspection", Name),
    _filled("package", Name),
    _filled("verdict", Name),
    _filled("label", Name),
    _filled("score", sa.Double()),
    _filled("doubt", sa.Double()),
    _filled("unsure", Count),
    sa.Index("answers_captured", "captured_at_us", "frame"),
    sa.Index("answers_camera", "camera", "captured_at_us", "frame"),
    sa.Index("answers_package", "package", "captured_at_us", "frame"),
    sa.Index("answers_verdict", "verdict", "captured_at_us", "frame"),
    sa.Index(
        "answers_unsure",
        "captured_at_us",
        "frame",
        sqlite_where=sa.text("unsure = 1"),
        postgresql_where=sa.text("unsure = 1"),
    ),
    sa.Index("answers_score", "score", "frame"),
    sa.Index("answers_doubt", "doubt", "frame"),
)

answer_labels = sa.Table(
    "answer_labels",
    metadata,
    sa.Column("frame", Name, primary_key=True),
    sa.Column("label", Name, primary_key=True),
    _filled("captured_at_us", Moment()),
    sa.Index("answer_labels_label", "label", "captured_at_us", "frame"),
)

# A row for each rule event of the log, by which they are added up.
rule_events = sa.Table(
    "rule_events",
    metadata,
    sa.Column("position", Key, primary_key=True, autoincrement=False),
    _filled("kind", Count),
    _filled("series", Count),
    _filled("rule", Name),
    _filled("key", Name),
    _filled("lowered", Name),
    _filled("action", Name),
    _filled("at_us", Moment()),
    sa.Column("name", Count),
    _filled("again", Count),
    _filled("counted", Count),
    sa.Column("session", Count),
    _filled("pairs", Count),
    _filled("unpaired", Count),
    sa.Index("rule_events_at", "at_us"),
    sa.Index(
        "rule_events_series",
        *("series", "at_us", "kind", "again", "counted", "session", "pairs", "unpaired"),
    ),
    sa.Index("rule_events_name", "name", "position"),
    sa.Index(
        "rule_events_again",
        *("name", "position", "at_us", "action"),
        sqlite_where=sa.text("again = 1"),
        postgresql_where=sa.text("again = 1"),
    ),
    sa.Index(
        "rule_events_session",
        *("session", "position", "at_us", "action"),
        sqlite_where=sa.text("session IS NOT NULL"),
        postgresql_where=sa.text("session IS NOT NULL"),
    ),
)
