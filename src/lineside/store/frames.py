"""The frame index over SQL."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from lineside.core import Clock, Digest, FrameId, InvalidError, NotFoundError
from lineside.store.contract import (
    LEAVING,
    MAX_KIND_BYTES,
    MOST_COUNTED,
    FrameAnswer,
    FrameCount,
    FrameFilter,
    FramePage,
    FrameRow,
    FrameWithAnswer,
    check_count,
    check_limit,
    check_moment,
    check_name,
)
from lineside.store.documents import SqlDocuments, in_chunks
from lineside.store.frame_query import (
    answers_to,
    count_frames,
    find_frames,
    note_answers,
    note_incomplete,
)
from lineside.store.session import Session
from lineside.store.sweep import Ageing, choose
from lineside.store.tables import Moment, answer_labels, answers, frames, mentions, pins

_KEPT = sa.text("aged_out_at_us IS NULL")  # literal, so that the partial indexes are used
_FREE = sa.text("aged_out_at_us IS NULL AND pinned = 0")
_AGED = sa.text("aged_out_at_us IS NOT NULL AND pinned = 0")
_ONE = sa.select(frames).where(frames.c.id == sa.bindparam("id"))
_NEWEST = (
    sa.select(frames)
    .where(frames.c.camera == sa.bindparam("camera"))
    .order_by(frames.c.captured_at_us.desc(), frames.c.id.desc())
    .limit(1)
)
_NAMES = ("id", "camera", "digest", "thumbnail")


class SqlFrameIndex:
    """``FrameIndex`` in four tables: frames, their pins, answers and their labels."""

    def __init__(self, session: Session, *, documents: SqlDocuments, clock: Clock) -> None:
        self._session = session
        self._documents = documents
        self._clock = clock

    def add(self, rows: Sequence[FrameRow]) -> int:
        for row in rows:
            _check(row)
        unique = {row.id: row for row in rows}
        if not unique:
            return 0
        with self._session.transaction() as connection:
            new = _insert(connection, list(unique.values()), session=self._session)
            known = [frame for frame in unique if frame not in new]
            self._leave_again(_find(connection, known))
        return len(new)

    def get(self, frame: FrameId) -> FrameRow:
        with self._session.reading() as connection:
            found = _with_pins(connection, connection.execute(_ONE, {"id": frame}).all())
        if not found:
            raise NotFoundError(
                f"no frame {frame!r}", where=self._session.flavour.where, fix="List the frames."
            )
        return found[0]

    def newest(self, camera: str) -> FrameRow | None:
        with self._session.reading() as connection:
            rows = connection.execute(_NEWEST, {"camera": camera}).all()
            found = _with_pins(connection, rows)
        return found[0] if found else None

    def page(
        self,
        *,
        camera: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        before: FrameId | None = None,
        limit: int = 100,
    ) -> list[FrameRow]:
        check_limit(limit)
        when = frames.c.captured_at_us
        query = sa.select(frames).order_by(when.desc(), frames.c.id.desc()).limit(limit)
        if camera:
            query = query.where(frames.c.camera == camera)
        for moment in (since, until):
            check_moment(moment, what="since or until")
        if since is not None:
            query = query.where(when >= since)
        if until is not None:
            query = query.where(when < until)
        if before is not None:
            edge = self.get(before)
            place = sa.tuple_(sa.literal(edge.captured_at, Moment()), sa.literal(edge.id))
            query = query.where(sa.tuple_(when, frames.c.id) < place)
        with self._session.reading() as connection:
            return _with_pins(connection, connection.execute(query).all())

    def answer(self, answers: Sequence[FrameAnswer]) -> None:
        _check_answers(answers)
        if answers:
            with self._session.writing() as connection:
                note_answers(connection, answers, session=self._session)

    def note_incomplete(self, answers: Sequence[FrameAnswer]) -> None:
        _check_answers(answers)
        if answers:
            with self._session.writing() as connection:
                note_incomplete(connection, answers, session=self._session)

    def has_answers(self) -> bool:
        with self._session.reading() as connection:
            return connection.execute(sa.select(answers.c.frame).limit(1)).first() is not None

    def find(self, wanted: FrameFilter, *, before: str = "", limit: int = 100) -> FramePage:
        check_limit(limit)
        _check_filter(wanted)
        with self._session.reading() as connection:
            found = find_frames(connection, wanted, before=before, limit=limit)
            rows = {row.id: row for row in _find(connection, found.frames)}
            said = answers_to(connection, found.frames)
        judged = [_judged(rows[one], said.get(one)) for one in found.frames if one in rows]
        return FramePage(frames=tuple(judged), following=found.following)

    def count(self, wanted: FrameFilter, *, most: int = MOST_COUNTED) -> FrameCount:
        check_limit(most)
        _check_filter(wanted)
        span = (wanted.since, wanted.until)
        with self._session.reading() as connection:
            return count_frames(connection, wanted, spans=[span], most=most)[0]

    def count_parts(
        self, wanted: FrameFilter, *, edges: Sequence[datetime], most: int = MOST_COUNTED
    ) -> list[FrameCount]:
        check_limit(most)
        spans = list(pairwise(edges))
        if not spans:
            return []
        for moment in edges:
            check_moment(moment, what="edge")
        bounded = replace(wanted, since=edges[0], until=edges[-1])
        _check_filter(bounded)
        with self._session.reading() as connection:
            return count_frames(connection, bounded, spans=spans, most=most)

    def pin(self, frames: Sequence[FrameId], *, reason: str) -> None:
        check_name(reason, what="reason", most=MAX_KIND_BYTES)
        wanted = sorted(set(frames))
        with self._session.writing() as connection:
            for chunk in in_chunks(wanted):
                _pin(connection, chunk, reason=reason, session=self._session)

    def set_thumbnails(self, thumbnails: Mapping[FrameId, Digest]) -> None:
        for digest in thumbnails.values():
            check_name(digest, what="thumbnail")
        with self._session.transaction() as connection:
            former = {row.thumbnail for row in _find(connection, list(thumbnails))}
            if not former:
                return
            statement = sa.update(frames).where(frames.c.id == sa.bindparam("frame"))
            values = [{"frame": frame, "small": each} for frame, each in thumbnails.items()]
            connection.execute(statement.values(thumbnail=sa.bindparam("small")), values)
            unnamed = former - named_by(connection, former)
            self._documents.note(LEAVING, unnamed)

    def age_out(
        self, *, older_than: datetime | None, excess_bytes: int = 0, limit: int = 1000
    ) -> list[FrameRow]:
        check_limit(limit)
        check_moment(older_than, what="older_than")
        if older_than is None and excess_bytes <= 0:
            return []
        now = self._clock.now()
        with self._session.transaction() as connection:
            free = _free(
                connection, limit=limit, older_than=None if excess_bytes > 0 else older_than
            )
            decision = choose(
                free,
                sizes=_stored_counts(connection, {row.digest for row in free}),
                older_than=older_than,
                excess_bytes=excess_bytes,
            )
            return self._carry_out(connection, decision, now=now)

    def forget(self, *, before: datetime, limit: int = 1000) -> int:
        check_limit(limit)
        check_moment(before, what="before")
        old = sa.and_(_AGED, frames.c.captured_at_us < before)
        query = sa.select(frames.c.id, frames.c.thumbnail).where(old)
        query = query.order_by(frames.c.captured_at_us, frames.c.id).limit(limit)
        with self._session.transaction() as connection:
            never_came = connection.execute(_answers_alone(before).limit(limit)).scalars().all()
            for chunk in in_chunks(never_came):
                for column in (answers.c.frame, answer_labels.c.frame):
                    connection.execute(sa.delete(column.table).where(column.in_(chunk)))
            found = connection.execute(query).all()
            for chunk in in_chunks([row.id for row in found]):
                for column in (frames.c.id, answers.c.frame, answer_labels.c.frame):
                    connection.execute(sa.delete(column.table).where(column.in_(chunk)))
            thumbnails = {Digest(row.thumbnail) for row in found}
            self._documents.note(LEAVING, thumbnails - named_by(connection, thumbnails))
        return len(found)

    def _carry_out(
        self, connection: sa.Connection, decision: Ageing, *, now: datetime
    ) -> list[FrameRow]:
        for chunk in in_chunks([row.id for row in decision.aged]):
            connection.execute(
                sa.update(frames).where(frames.c.id.in_(chunk)).values(aged_out_at_us=now)
            )
        named = named_by(connection, [row.digest for row in decision.freed])
        gone = [replace(row, aged_out_at=now) for row in decision.freed if row.digest not in named]
        self._documents.note(LEAVING, [row.digest for row in gone])
        return gone

    def _leave_again(self, known: Iterable[FrameRow]) -> None:
        """A tombstone's picture came once more: note that it has to go once more."""
        self._documents.note(LEAVING, {row.digest for row in known if row.aged_out_at is not None})

    def stored_bytes(self) -> int:
        each = (
            sa.select(sa.func.max(frames.c.size_bytes).label("size_bytes"))
            .where(_KEPT)
            .group_by(frames.c.digest)
            .subquery()
        )
        query = sa.select(sa.func.coalesce(sa.func.sum(each.c.size_bytes), 0))
        with self._session.reading() as connection:
            return int(connection.execute(query).scalar_one())


def named_by(connection: sa.Connection, digests: Iterable[Digest]) -> set[Digest]:
    """Those digests that a kept frame, a thumbnail or a document names."""
    named: set[Digest] = set()
    for chunk in in_chunks(digests):
        for column, condition in (
            (frames.c.digest, _KEPT),
            (frames.c.thumbnail, sa.true()),
            (mentions.c.digest, sa.true()),
        ):
            query = sa.select(column).where(column.in_(chunk), condition).distinct()
            named |= {Digest(digest) for digest in connection.execute(query).scalars()}
    return named


def all_frames(connection: sa.Connection) -> Iterator[FrameRow]:
    """Every frame, by id."""
    seen = ""
    while True:
        query = sa.select(frames).where(frames.c.id > seen).order_by(frames.c.id).limit(1000)
        rows = connection.execute(query).all()
        if not rows:
            return
        yield from _with_pins(connection, rows)
        seen = rows[-1].id


def insert_frames(connection: sa.Connection, rows: Sequence[FrameRow]) -> None:
    """Write rows as they are into an empty table."""
    connection.execute(sa.insert(frames), [_values(row) for row in rows])
    _insert_pins(connection, rows)


_MOST_NAMED = 1000


def _answers_alone(before: datetime) -> sa.Select[Any]:
    """Answers, captured before a moment, to frames that are not there."""
    query = sa.select(answers.c.frame).outerjoin(frames, frames.c.id == answers.c.frame)
    return query.where(answers.c.captured_at_us < before, frames.c.id.is_(None))


def _check_filter(wanted: FrameFilter) -> None:
    for moment in (wanted.since, wanted.until):
        check_moment(moment, what="since or until")
    if len(wanted.frames) > _MOST_NAMED:
        raise InvalidError(
            f"{len(wanted.frames)} frames named, more than {_MOST_NAMED}",
            where="frames",
            fix="Ask for fewer, or by a filter.",
        )
    for name in (*wanted.frames, *wanted.cameras, wanted.label, wanted.part, wanted.package,
                 wanted.dataset):  # fmt: skip
        check_name(name, what="name in a filter", empty=True)


def _check_answers(answers: Sequence[FrameAnswer]) -> None:
    for one in answers:
        for what in ("frame", "camera", "inspection", "package"):
            check_name(getattr(one, what), what=what)
        for label in one.labels:
            check_name(label, what="label")
        check_name(one.label, what="label", empty=True)
        check_moment(one.captured_at, what="time of a frame")


def _judged(row: FrameRow, answer: FrameAnswer | None) -> FrameWithAnswer:
    return FrameWithAnswer(
        **{one.name: getattr(row, one.name) for one in fields(row)}, answer=answer
    )


def _check(row: FrameRow) -> None:
    for what in _NAMES:
        check_name(getattr(row, what), what=what)
    check_name(row.part, what="part", empty=True)
    for what in ("size_bytes", "width_px", "height_px", "sequence"):
        check_count(getattr(row, what), what=what)
    for moment in (row.captured_at, row.arrived_at, row.aged_out_at):
        check_moment(moment, what="time of a frame")
    for reason in row.pins:
        check_name(reason, what="reason", most=MAX_KIND_BYTES)


def _insert(
    connection: sa.Connection, rows: Sequence[FrameRow], *, session: Session
) -> set[FrameId]:
    statement = session.flavour.insert(frames).on_conflict_do_nothing().returning(frames.c.id)
    inserted = connection.execute(statement, [_values(row) for row in rows]).scalars()
    new = {FrameId(frame) for frame in inserted}
    _insert_pins(connection, [row for row in rows if row.id in new])
    return new


def _insert_pins(connection: sa.Connection, rows: Sequence[FrameRow]) -> None:
    values = [{"frame": row.id, "reason": reason} for row in rows for reason in set(row.pins)]
    if values:
        connection.execute(sa.insert(pins), values)


def _values(row: FrameRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "camera": row.camera,
        "captured_at_us": row.captured_at,
        "arrived_at_us": row.arrived_at,
        "digest": row.digest,
        "size_bytes": row.size_bytes,
        "width_px": row.width_px,
        "height_px": row.height_px,
        "thumbnail": row.thumbnail,
        "part": row.part,
        "sequence": row.sequence,
        "aged_out_at_us": row.aged_out_at,
        "pinned": 1 if row.pins else 0,
    }


def _find(connection: sa.Connection, wanted: Sequence[FrameId]) -> list[FrameRow]:
    found: list[FrameRow] = []
    for chunk in in_chunks(wanted):
        rows = connection.execute(sa.select(frames).where(frames.c.id.in_(chunk))).all()
        found += _with_pins(connection, rows)
    return found


def _with_pins(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> list[FrameRow]:
    reasons: dict[str, list[str]] = {}
    for chunk in in_chunks([row.id for row in rows if row.pinned]):
        query = sa.select(pins).where(pins.c.frame.in_(chunk)).order_by(pins.c.reason)
        for pin in connection.execute(query):
            reasons.setdefault(pin.frame, []).append(pin.reason)
    return [_row(row, reasons=tuple(reasons.get(row.id, ()))) for row in rows]


def _row(row: sa.Row[Any], *, reasons: tuple[str, ...]) -> FrameRow:
    return FrameRow(
        id=row.id,
        camera=row.camera,
        captured_at=row.captured_at_us,
        arrived_at=row.arrived_at_us,
        digest=row.digest,
        size_bytes=row.size_bytes,
        width_px=row.width_px,
        height_px=row.height_px,
        thumbnail=row.thumbnail,
        part=row.part,
        sequence=row.sequence,
        pins=reasons,
        aged_out_at=row.aged_out_at_us,
    )


def _pin(
    connection: sa.Connection, chunk: Sequence[FrameId], *, reason: str, session: Session
) -> None:
    touched = connection.execute(
        sa.update(frames).where(frames.c.id.in_(chunk)).values(pinned=1)
    ).rowcount
    if touched != len(chunk):
        present = {row.id for row in _find(connection, chunk)}
        absent = next(frame for frame in chunk if frame not in present)
        raise NotFoundError(
            f"no frame {absent!r}", where=session.flavour.where, fix="Pin frames that are there."
        )
    connection.execute(
        session.flavour.insert(pins).on_conflict_do_nothing(),
        [{"frame": frame, "reason": reason} for frame in chunk],
    )


def _free(connection: sa.Connection, *, limit: int, older_than: datetime | None) -> list[FrameRow]:
    query = sa.select(frames).where(_FREE).order_by(frames.c.captured_at_us, frames.c.id)
    if older_than is not None:
        query = query.where(frames.c.captured_at_us < older_than)
    rows = connection.execute(query.limit(limit).with_for_update(skip_locked=True))
    return [_row(row, reasons=()) for row in rows]


def _stored_counts(connection: sa.Connection, digests: set[Digest]) -> dict[Digest, int]:
    counts: dict[Digest, int] = {}
    for chunk in in_chunks(sorted(digests)):
        query = (
            sa.select(frames.c.digest, sa.func.count())
            .where(frames.c.digest.in_(chunk), _KEPT)
            .group_by(frames.c.digest)
        )
        counts |= {Digest(digest): count for digest, count in connection.execute(query)}
    return counts
