"""Rule events as rows, to be added up.

Written out rather than taken from ``tables.py``, because that file goes on changing. The table
begins empty: the hub fills it from the event log.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_COUNT = sa.BigInteger()
_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "rule_events",
        sa.Column("position", _KEY, primary_key=True, autoincrement=False),
        *(sa.Column(name, _COUNT, nullable=False) for name in ("kind", "series")),
        *(sa.Column(name, _NAME, nullable=False) for name in ("rule", "key", "lowered", "action")),
        sa.Column("at_us", _COUNT, nullable=False),
        sa.Column("name", _COUNT),
        *(sa.Column(name, _COUNT, nullable=False) for name in ("again", "counted")),
        sa.Column("session", _COUNT),
        *(sa.Column(name, _COUNT, nullable=False) for name in ("pairs", "unpaired")),
    )
    summed = ["series", "at_us", "kind", "again", "counted", "session", "pairs", "unpaired"]
    op.create_index("rule_events_at", "rule_events", ["at_us"])
    op.create_index("rule_events_series", "rule_events", summed)
    op.create_index("rule_events_name", "rule_events", ["name", "position"])
    for name, of, only in (
        ("rule_events_again", "name", sa.text("again = 1")),
        ("rule_events_session", "session", sa.text("session IS NOT NULL")),
    ):
        columns = [of, "position", "at_us", "action"]
        op.create_index(name, "rule_events", columns, sqlite_where=only, postgresql_where=only)
