"""Lists of frames by what was answered: filtered, sorted, counted, a page at a time.

1. A page walks one index in its order, that of the narrowest field of the filter, and looks up the
   other fields of each place. Several values of that field are walked side by side.
2. It looks at ``MOST_LOOKED_AT`` places at most, in windows that grow, so that no filter reads a
   whole table; the next page goes on behind the last place looked at.
3. By score or doubt a narrow filter (so many places at most) is sorted as a whole; a wide one walks
   the index of the score.

The places of answers to frames that are not there are passed over.
"""

from collections.abc import Sequence
from datetime import datetime
from operator import eq, ge, le, lt
from typing import Any, NamedTuple

import sqlalchemy as sa

from lineside.core import FrameId, NotFoundError
from lineside.store.contract import FrameAnswer, FrameCount, FrameFilter, FrameOrder
from lineside.store.session import Session
from lineside.store.tables import answer_labels, answers, frames, pins
from lineside.vision.verdict import PartVerdict

MOST_LOOKED_AT = 5_000
_WIDER = 4
_UNSURE = sa.text("unsure = 1")  # literal, so that the partial index is used
_SINCE = sa.bindparam("since", type_=frames.c.captured_at_us.type)
_UNTIL = sa.bindparam("until", type_=frames.c.captured_at_us.type)
_NOT_ANSWERED = ""  # inspection of a frame that is known from its part's verdict alone
_WORST_LAST = {verdict: rank for rank, verdict in enumerate(reversed(PartVerdict))}

Span = tuple[datetime | None, datetime | None]
"""From when, until when; None: without bound."""


class _Walk(NamedTuple):
    """An index to go along, largest key first: of each arm's rows its key and frame."""

    key: Any
    id: Any
    arms: Sequence[Any]
    source: Any
    by_time: bool = True


class _Place(NamedTuple):
    key: Any
    id: str


class FrameIds(NamedTuple):
    """The frames of a page, and behind which frame the next one begins; "" at the end."""

    frames: list[FrameId]
    following: str


def find_frames(
    connection: sa.Connection, wanted: FrameFilter, *, before: str, limit: int
) -> FrameIds:
    """Return the ids of the frames that pass, in order, behind the frame ``before``."""
    walk = _walk_of(wanted)
    if wanted.order is not FrameOrder.NEWEST:
        ranked = answers.c.score if wanted.order is FrameOrder.SCORE else answers.c.doubt
        place = _ranked_place(connection, ranked, before)
        size = connection.execute(_size(walk, wanted, most=MOST_LOOKED_AT), _times(wanted))
        if size.scalar_one() <= MOST_LOOKED_AT:
            return _sorted(connection, walk, wanted, by=ranked, place=place, limit=limit)
        walk = _Walk(ranked, answers.c.frame, (sa.true(),), answers, by_time=False)
    else:
        place = _time_place(connection, before)
    return _walked(connection, walk, wanted, place=place, limit=limit)


def count_frames(
    connection: sa.Connection, wanted: FrameFilter, *, spans: Sequence[Span], most: int
) -> list[FrameCount]:
    """Count those that pass of each span of time, among its newest ``most`` of the narrowest field.

    Spans differ in their bounds alone, so the statements are made once for all of them.
    """
    walk = _walk_of(wanted)
    window = _window(walk, wanted, place=None, most=most)
    joined = window.join(frames, frames.c.id == window.c.id).outerjoin(
        answers, answers.c.frame == frames.c.id
    )
    query = sa.select(answers.c.verdict, sa.func.count()).select_from(joined)
    query = query.where(*_tests(wanted)).group_by(answers.c.verdict)
    looked_at = _size(walk, wanted, most=most)
    found = []
    for since, until in spans:
        times = {_SINCE.key: since, _UNTIL.key: until}
        counts: dict[str | None, int] = {row[0]: row[1] for row in connection.execute(query, times)}
        found.append(
            FrameCount(
                frames=sum(counts.values()),
                verdicts={one: counts[one] for one in PartVerdict if one in counts},
                whole=connection.execute(looked_at, times).scalar_one() <= most,
            )
        )
    return found


def _walk_of(wanted: FrameFilter) -> _Walk:
    """Go along the index of the narrowest field, newest first."""
    narrow = _of_frames(wanted) or _of_labels(wanted) or _of_answers(wanted)
    if narrow is not None:
        return narrow
    of_answers = bool(wanted.verdicts) or wanted.order is not FrameOrder.NEWEST
    of_answers = of_answers or wanted.least_score is not None or wanted.most_score is not None
    table, frame = (answers, answers.c.frame) if of_answers else (frames, frames.c.id)
    cameras = [table.c.camera == camera for camera in wanted.cameras]
    return _Walk(table.c.captured_at_us, frame, cameras or (sa.true(),), table)


def _of_frames(wanted: FrameFilter) -> _Walk | None:
    when, frame = frames.c.captured_at_us, frames.c.id
    if wanted.frames:
        return _Walk(when, frame, (frame.in_(wanted.frames),), frames)
    if wanted.part:
        named = sa.and_(sa.text("part <> ''"), frames.c.part == wanted.part)
        return _Walk(when, frame, (named,), frames)
    if wanted.dataset:
        held = pins.c.reason == f"dataset:{wanted.dataset}"
        joined = pins.join(frames, frame == pins.c.frame)
        # The sum keeps planners from walking all frames in the order of their time.
        return _Walk(when + sa.literal_column("0"), frame, (held,), joined)
    return None


def _of_labels(wanted: FrameFilter) -> _Walk | None:
    if not wanted.label:
        return None
    table = answer_labels
    return _Walk(table.c.captured_at_us, table.c.frame, (table.c.label == wanted.label,), table)


def _of_answers(wanted: FrameFilter) -> _Walk | None:
    when, frame = answers.c.captured_at_us, answers.c.frame
    if wanted.unsure:
        return _Walk(when, frame, (_UNSURE,), answers)
    if wanted.verdicts and PartVerdict.OK not in wanted.verdicts:
        arms = [answers.c.verdict == verdict for verdict in wanted.verdicts]
        return _Walk(when, frame, arms, answers)
    if wanted.package:
        return _Walk(when, frame, (answers.c.package == wanted.package,), answers)
    return None


def _tests(wanted: FrameFilter) -> list[sa.ColumnElement[bool]]:
    """The conditions on a frame and on the answer to it."""
    found: list[sa.ColumnElement[bool]] = []
    for column, among in (
        (frames.c.camera, wanted.cameras),
        (frames.c.id, wanted.frames),
        (answers.c.verdict, wanted.verdicts),
    ):
        if among:
            found.append(column.in_(among))
    for column, compare, value in (
        (frames.c.part, eq, wanted.part or None),
        (answers.c.package, eq, wanted.package or None),
        (answers.c.unsure, eq, 1 if wanted.unsure else None),
        (frames.c.captured_at_us, ge, None if wanted.since is None else _SINCE),
        (frames.c.captured_at_us, lt, None if wanted.until is None else _UNTIL),
        (answers.c.score, ge, wanted.least_score),
        (answers.c.score, le, wanted.most_score),
    ):
        if value is not None:
            found.append(compare(column, value))
    if wanted.order is not FrameOrder.NEWEST:
        found.append(answers.c.frame.is_not(None))
    if wanted.label:
        named = sa.and_(answer_labels.c.frame == frames.c.id, answer_labels.c.label == wanted.label)
        found.append(sa.exists().where(named))
    if wanted.dataset:
        reason = f"dataset:{wanted.dataset}"
        found.append(sa.exists().where(pins.c.frame == frames.c.id, pins.c.reason == reason))
    return found


def _window(walk: _Walk, wanted: FrameFilter, *, place: _Place | None, most: int) -> Any:  # noqa: ANN401  a subquery of either shape
    """The next places of a walk: of each arm as many, so that they can be merged."""
    key, frame = walk.key, walk.id
    arms = []
    for arm in walk.arms:
        query = sa.select(key.label("key"), frame.label("id")).select_from(walk.source).where(arm)
        if walk.by_time and wanted.since is not None:
            query = query.where(key >= _SINCE)
        if walk.by_time and wanted.until is not None:
            query = query.where(key < _UNTIL)
        if place is not None:
            query = query.where(_behind(key, frame, place))
        arms.append(query.order_by(key.desc(), frame.desc()).limit(most).subquery())
    if len(arms) == 1:
        return arms[0]
    merged = sa.union_all(*(sa.select(arm) for arm in arms)).subquery()
    return (
        sa.select(merged).order_by(merged.c.key.desc(), merged.c.id.desc()).limit(most).subquery()
    )


def _behind(key: Any, frame: Any, place: _Place) -> sa.ColumnElement[bool]:  # noqa: ANN401  columns
    there = sa.tuple_(sa.literal(place.key, key.type), sa.literal(place.id))
    return sa.tuple_(key, frame) < there


def _walked(
    connection: sa.Connection, walk: _Walk, wanted: FrameFilter, *, place: _Place | None, limit: int
) -> FrameIds:
    passing: list[FrameId] = []
    looked_at, size = 0, limit + 1
    passes = sa.and_(frames.c.id.is_not(None), *_tests(wanted)).label("passes")
    while True:
        window = _window(walk, wanted, place=place, most=size)
        joined = window.outerjoin(frames, frames.c.id == window.c.id).outerjoin(
            answers, answers.c.frame == window.c.id
        )
        query = sa.select(window.c.key, window.c.id, passes).select_from(joined)
        query = query.order_by(window.c.key.desc(), window.c.id.desc())
        rows = connection.execute(query, _times(wanted)).all()
        for number, row in enumerate(rows):
            if not row.passes:
                continue
            passing.append(FrameId(row.id))
            if len(passing) == limit:
                more = number + 1 < len(rows) or len(rows) == size
                return FrameIds(passing, row.id if more else "")
        if len(rows) < size:
            return FrameIds(passing, "")
        place, looked_at = _Place(rows[-1].key, rows[-1].id), looked_at + len(rows)
        if looked_at >= MOST_LOOKED_AT:
            return FrameIds(passing, place.id)
        size = min(size * _WIDER, MOST_LOOKED_AT - looked_at)


def _sorted(
    connection: sa.Connection, walk: _Walk, wanted: FrameFilter, *, by: Any,  # noqa: ANN401  a column
    place: _Place | None, limit: int,
) -> FrameIds:  # fmt: skip
    window = _window(walk, wanted, place=None, most=MOST_LOOKED_AT)
    joined = window.join(frames, frames.c.id == window.c.id).join(
        answers, answers.c.frame == window.c.id
    )
    query = sa.select(answers.c.frame).select_from(joined).where(*_tests(wanted))
    if place is not None:
        query = query.where(_behind(by, answers.c.frame, place))
    query = query.order_by((by + sa.literal_column("0")).desc(), answers.c.frame.desc())
    rows = connection.execute(query.limit(limit + 1), _times(wanted))
    found = [FrameId(one) for one in rows.scalars()]
    return FrameIds(found[:limit], found[limit - 1] if len(found) > limit else "")


def _size(walk: _Walk, wanted: FrameFilter, *, most: int) -> sa.Select[int]:
    """The number of places of a walk, at most one above ``most``."""
    window = _window(walk, wanted, place=None, most=most + 1)
    return sa.select(sa.func.count()).select_from(window)


def _times(wanted: FrameFilter) -> dict[str, datetime | None]:
    """The bounds, as the statements name them."""
    return {_SINCE.key: wanted.since, _UNTIL.key: wanted.until}


def _time_place(connection: sa.Connection, before: str) -> _Place | None:
    if not before:
        return None
    for key, frame in (
        (frames.c.captured_at_us, frames.c.id),
        (answers.c.captured_at_us, answers.c.frame),
    ):
        found = connection.execute(sa.select(key).where(frame == before)).scalar_one_or_none()
        if found is not None:
            return _Place(found, before)
    raise _no_frame(before)


def _ranked_place(connection: sa.Connection, ranked: Any, before: str) -> _Place | None:  # noqa: ANN401  a column
    if not before:
        return None
    query = sa.select(ranked).where(answers.c.frame == before)
    found = connection.execute(query).scalar_one_or_none()
    if found is None:
        raise _no_frame(before)
    return _Place(found, before)


def _no_frame(frame: str) -> NotFoundError:
    return NotFoundError(f"no frame {frame!r}", where="before", fix="List the frames anew.")


def note_answers(
    connection: sa.Connection, given: Sequence[FrameAnswer], *, session: Session
) -> None:
    """Keep answers and their labels; see ``FrameIndex.answer``."""
    statement = session.flavour.insert(answers)
    new = statement.excluded
    stored, offered = (
        sa.case(_WORST_LAST, value=verdict, else_=0) for verdict in (answers.c.verdict, new.verdict)
    )
    stays = sa.and_(answers.c.verdict == PartVerdict.INCOMPLETE, new.verdict != PartVerdict.REJECT)
    names = [column.name for column in answers.c if column.name not in {"frame", "verdict"}]
    statement = statement.on_conflict_do_update(
        index_elements=["frame"],
        set_={
            "verdict": sa.case((stays, PartVerdict.INCOMPLETE), else_=new.verdict),
            **{name: new[name] for name in names},
        },
        where=sa.or_(answers.c.inspection.in_([new.inspection, _NOT_ANSWERED]), offered >= stored),
    )
    connection.execute(statement, [_answer_values(one) for one in given])
    named = [
        {"frame": one.frame, "label": label, "captured_at_us": one.captured_at}
        for one in given
        for label in one.labels
    ]
    if named:
        connection.execute(session.flavour.insert(answer_labels).on_conflict_do_nothing(), named)


def note_incomplete(
    connection: sa.Connection, given: Sequence[FrameAnswer], *, session: Session
) -> None:
    """Note frames of incomplete parts; see ``FrameIndex.note_incomplete``."""
    statement = session.flavour.insert(answers)
    statement = statement.on_conflict_do_update(
        index_elements=["frame"],
        set_={"verdict": PartVerdict.INCOMPLETE},
        where=answers.c.verdict != PartVerdict.REJECT,
    )
    own = {"verdict": PartVerdict.INCOMPLETE, "inspection": _NOT_ANSWERED}
    connection.execute(statement, [{**_answer_values(one), **own} for one in given])


def _answer_values(one: FrameAnswer) -> dict[str, Any]:
    return {
        "frame": one.frame,
        "camera": one.camera,
        "captured_at_us": one.captured_at,
        "inspection": one.inspection,
        "package": one.package,
        "verdict": one.verdict,
        "label": one.label,
        "score": one.score,
        "doubt": one.doubt,
        "unsure": int(one.unsure),
    }


def answers_to(connection: sa.Connection, wanted: Sequence[FrameId]) -> dict[FrameId, FrameAnswer]:
    """The answers to these frames, with their labels."""
    labels: dict[str, list[str]] = {}
    query = sa.select(answer_labels).where(answer_labels.c.frame.in_(wanted))
    for row in connection.execute(query.order_by(answer_labels.c.label)):
        labels.setdefault(row.frame, []).append(row.label)
    found = connection.execute(sa.select(answers).where(answers.c.frame.in_(wanted)))
    return {
        FrameId(row.frame): FrameAnswer(
            frame=FrameId(row.frame),
            camera=row.camera,
            captured_at=row.captured_at_us,
            inspection=row.inspection,
            package=row.package,
            verdict=PartVerdict(row.verdict),
            label=row.label,
            labels=tuple(labels.get(row.frame, ())),
            score=row.score,
            doubt=row.doubt,
            unsure=bool(row.unsure),
        )
        for row in found
    }
