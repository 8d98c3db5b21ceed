"""Leases over SQL.

1. Times are those of the database's clock, so that hubs whose clocks differ agree.
2. A lease that goes to another holder gets a new token. What was begun under the old one is refused
   by ``check``, and what was checked before waits for nobody: the taker waits for it.
3. A renewal moves only the end. PostgreSQL lets it pass beside a check (``FOR KEY SHARE``), while
   the token belongs to a unique index and its change waits, or is passed over, until the
   checked transaction has ended.
"""

from collections.abc import Sequence
from datetime import timedelta

import sqlalchemy as sa

from lineside.core import Clock, ConflictError
from lineside.store.contract import Lease, check_name
from lineside.store.session import Session
from lineside.store.tables import leases

_ALL = (leases.c.name, leases.c.holder, leases.c.token, leases.c.ends_at_us)
_NAMES = leases.c.name.in_(sa.bindparam("names", expanding=True))
_MINE = leases.c.holder == sa.bindparam("me")
_RENEW = sa.update(leases).where(_NAMES, _MINE).values(ends_at_us=sa.bindparam("ends"))
_FREE = (
    sa.select(leases.c.name)
    .where(_NAMES, leases.c.ends_at_us <= sa.bindparam("now"))
    .order_by(leases.c.name)
    .with_for_update(skip_locked=True)
)
_TAKE = (
    sa.update(leases)
    .where(_NAMES)
    .values(
        holder=sa.bindparam("me"), token=leases.c.token + 1, ends_at_us=sa.bindparam("ends")
    )
)  # fmt: skip
_END = sa.update(leases).where(_NAMES, _MINE).values(holder="", ends_at_us=sa.bindparam("now"))
_HELD = sa.select(*_ALL).where(leases.c.ends_at_us > sa.bindparam("now")).order_by(leases.c.name)
_CHECK = sa.select(leases.c.name).where(
    leases.c.name == sa.bindparam("name"), leases.c.token == sa.bindparam("token")
).with_for_update(read=True, key_share=True)  # fmt: skip


class SqlLeases:
    """``Leases`` in one table."""

    def __init__(self, session: Session, *, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    def renew(self, names: Sequence[str], *, holder: str, length_s: float) -> list[Lease]:
        with self._session.writing() as connection:
            ends = self._session.flavour.now(connection, self._clock) + timedelta(seconds=length_s)
            statement = _RENEW.returning(*_ALL)
            return _leases(
                connection.execute(statement, {"names": list(names), "me": holder, "ends": ends})
            )

    def take(self, names: Sequence[str], *, holder: str, length_s: float) -> list[Lease]:
        for name in (*names, holder):
            check_name(name, what="lease")
        with self._session.writing() as connection:
            now = self._session.flavour.now(connection, self._clock)
            new = [{"name": name, "holder": holder, "token": 0, "ends_at_us": now}
                   for name in sorted(set(names))]  # fmt: skip
            if not new:
                return []
            statement = self._session.flavour.insert(leases).on_conflict_do_nothing()
            connection.execute(statement, new)
            free = connection.execute(_FREE, {"names": list(names), "now": now}).scalars().all()
            ends = now + timedelta(seconds=length_s)
            given = {"names": list(free), "me": holder, "ends": ends}
            return _leases(connection.execute(_TAKE.returning(*_ALL), given))

    def release(self, names: Sequence[str], *, holder: str) -> None:
        with self._session.writing() as connection:
            now = self._session.flavour.now(connection, self._clock)
            connection.execute(_END, {"names": list(names), "me": holder, "now": now})

    def held(self) -> list[Lease]:
        with self._session.reading() as connection:
            now = self._session.flavour.now(connection, self._clock)
            return _leases(connection.execute(_HELD, {"now": now}))

    def check(self, lease: Lease) -> None:
        with self._session.writing() as connection:
            named = {"name": lease.name, "token": lease.token}
            if connection.execute(_CHECK, named).one_or_none() is None:
                raise ConflictError(
                    f"another hub has taken {lease.name!r} over",
                    where=self._session.flavour.where,
                    fix="Nothing: that hub goes on with it.",
                )


def _leases(rows: sa.CursorResult[tuple[str, str, int, object]]) -> list[Lease]:
    found = [
        Lease(name=row.name, holder=row.holder, token=row.token, ends_at=row.ends_at_us)
        for row in rows
    ]
    return sorted(found, key=lambda lease: lease.name)
