"""First tables: documents, event log, frames.

Written out rather than taken from ``tables.py``, because that file goes on changing.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_COUNT = sa.BigInteger()
_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_PLACE = sa.text("(position + 0)")
_KEPT = sa.text("aged_out_at_us IS NULL")
_FREE = sa.text("aged_out_at_us IS NULL AND pinned = 0")


def _filled(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def upgrade() -> None:
    """Make every table of the first format."""
    _documents()
    _log()
    _frames()
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE log_positions")


def _documents() -> None:
    op.create_table(
        "documents",
        sa.Column("kind", _NAME, primary_key=True),
        sa.Column("id", _NAME, primary_key=True),
        _filled("version", _COUNT),
        _filled("updated_at_us", _COUNT),
        _filled("body", sa.LargeBinary()),
    )
    op.create_table(
        "mentions",
        sa.Column("digest", _NAME, primary_key=True),
        sa.Column("kind", _NAME, primary_key=True),
        sa.Column("id", _NAME, primary_key=True),
    )


def _log() -> None:
    op.create_table(
        "chains",
        sa.Column("chain", _KEY, primary_key=True),
        sa.Column("source", _NAME, nullable=False, unique=True),
        _filled("length", _COUNT),
        _filled("head_position", _COUNT),
        _filled("head_hash", _NAME),
    )
    op.create_table(
        "entries",
        sa.Column("position", _KEY, primary_key=True, autoincrement=False),
        _filled("chain", _COUNT),
        _filled("source_position", _COUNT),
        _filled("id", _NAME),
        _filled("type", _NAME),
        _filled("subject", _NAME),
        _filled("captured_at_us", _COUNT),
        _filled("arrived_at_us", _COUNT),
        _filled("body", sa.LargeBinary()),
        _filled("previous", _NAME),
        _filled("hash", _NAME),
    )
    op.create_index("entries_chain", "entries", ["chain", "source_position"], unique=True)
    op.create_index("entries_source", "entries", ["chain", _PLACE])
    op.create_index("entries_source_type", "entries", ["chain", "type", _PLACE])
    op.create_index("entries_id", "entries", ["id", "chain"], unique=True)
    op.create_index("entries_type", "entries", ["type", _PLACE])
    op.create_index("entries_subject", "entries", ["subject", _PLACE])


def _frames() -> None:
    op.create_table(
        "frames",
        sa.Column("id", _NAME, primary_key=True),
        _filled("camera", _NAME),
        _filled("captured_at_us", _COUNT),
        _filled("arrived_at_us", _COUNT),
        _filled("digest", _NAME),
        _filled("size_bytes", _COUNT),
        _filled("width_px", _COUNT),
        _filled("height_px", _COUNT),
        _filled("thumbnail", _NAME),
        _filled("part", _NAME),
        _filled("sequence", _COUNT),
        sa.Column("aged_out_at_us", _COUNT),
        _filled("pinned", _COUNT),
    )
    op.create_index("frames_camera", "frames", ["camera", "captured_at_us", "id"])
    op.create_index("frames_captured", "frames", ["captured_at_us", "id"])
    op.create_index("frames_thumbnail", "frames", ["thumbnail"])
    op.create_index(
        "frames_kept",
        "frames",
        ["digest", "size_bytes", "aged_out_at_us"],
        sqlite_where=_KEPT,
        postgresql_where=_KEPT,
    )
    op.create_index(
        "frames_free",
        "frames",
        ["captured_at_us", "id"],
        sqlite_where=_FREE,
        postgresql_where=_FREE,
    )
    op.create_table(
        "pins",
        sa.Column("frame", _NAME, primary_key=True),
        sa.Column("reason", _NAME, primary_key=True),
    )
