"""Answers to frames, and the indexes that lists of frames are read by.

Written out rather than taken from ``tables.py``, because that file goes on changing. The tables
begin empty: the hub fills them from the event log.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_COUNT = sa.BigInteger()
_HAS_PART = sa.text("part <> ''")
_UNSURE = sa.text("unsure = 1")


def upgrade() -> None:
    """Make the tables of answers; index frames by part and pins by reason."""
    op.create_table(
        "answers",
        sa.Column("frame", _NAME, primary_key=True),
        sa.Column("camera", _NAME, nullable=False),
        sa.Column("captured_at_us", _COUNT, nullable=False),
        sa.Column("inspection", _NAME, nullable=False),
        sa.Column("package", _NAME, nullable=False),
        sa.Column("verdict", _NAME, nullable=False),
        sa.Column("label", _NAME, nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("doubt", sa.Double(), nullable=False),
        sa.Column("unsure", _COUNT, nullable=False),
    )
    for name in ("camera", "package", "verdict"):
        op.create_index(f"answers_{name}", "answers", [name, "captured_at_us", "frame"])
    for name in ("score", "doubt"):
        op.create_index(f"answers_{name}", "answers", [name, "frame"])
    when = ["captured_at_us", "frame"]
    op.create_index("answers_captured", "answers", when)
    op.create_index(
        "answers_unsure", "answers", when, sqlite_where=_UNSURE, postgresql_where=_UNSURE
    )
    op.create_table(
        "answer_labels",
        sa.Column("frame", _NAME, primary_key=True),
        sa.Column("label", _NAME, primary_key=True),
        sa.Column("captured_at_us", _COUNT, nullable=False),
    )
    op.create_index("answer_labels_label", "answer_labels", ["label", *when])
    op.create_index(
        "frames_part",
        "frames",
        ["part", "captured_at_us", "id"],
        sqlite_where=_HAS_PART,
        postgresql_where=_HAS_PART,
    )
    op.create_index("pins_reason", "pins", ["reason", "frame"])
