"""ksqlDB's documented semantics of windows, and those of the other steps, written anew and slowly.

Nothing of lineside is imported: what this says and what the engine says come from two hands.

1. What WHERE rejects and what has no key moves no stream time and is in no window.
2. Stream time is the newest time of a partition; a window takes a row as long as its end and the
   grace period are not behind stream time. Here a row is late by itself (see docs/reference).
3. Windows begin at multiples of their advance since the epoch; a row at the end is of the next.
4. Sessions join rows that are at most the gap apart, and merge where a row lies between two.
5. COUNT(*) counts rows; SUM, MIN, MAX and AVG pass over nulls; the sum of none is 0.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Row(NamedTuple):
    at: int
    key: str | None
    value: float | None
    kind: str
    partition: str


Rows = list[Row]
Span = tuple[str, int, int]


def judged(rows: Iterable[Row], *, lateness: int) -> Iterator[tuple[Row, bool]]:
    """The rows that count, in order of arrival, each with whether it is late."""
    low, newest = -(10**18), dict[str, int]()
    for row in rows:
        if row.kind == "rejected" or row.key is None:
            continue
        yield row, row.at < low or row.at < newest.get(row.partition, row.at) - lateness
        newest[row.partition] = max(newest.get(row.partition, row.at), row.at)
        low = max(low, min(newest.values()) - lateness)


def open_windows(row: Row, *, size: int, every: int, stream_time: int, grace: int) -> list[int]:
    """The windows that ksqlDB still puts a row into, by their start."""
    last = row.at // every * every
    starts = range(last, row.at - size, -every)
    return [start for start in starts if start + size + grace > stream_time]


def windows(rows: Rows, *, size: int, every: int) -> dict[Span, Rows]:
    found: dict[Span, Rows] = defaultdict(list)
    for row in rows:
        for start in range(row.at // every * every, row.at - size, -every):
            found[str(row.key), start, start + size].append(row)
    return found


def sessions(rows: Rows, *, gap: int) -> Iterator[tuple[Span, Rows]]:
    """Each session as it stands after each row."""
    found: dict[str, list[Rows]] = defaultdict(list)
    for row in rows:
        near, far = list[Rows](), list[Rows]()
        for one in found[str(row.key)]:
            times = [other.at for other in one]
            joins = min(times) - gap <= row.at <= max(times) + gap
            (near if joins else far).append(one)
        whole = [other for one in near for other in one] + [row]
        found[str(row.key)] = [*far, whole]
        times = [other.at for other in whole]
        yield (str(row.key), min(times), max(times)), whole


def figures(rows: Rows) -> dict[str, float]:
    values = [row.value for row in rows if row.value is not None]
    told = {"count": float(len(rows)), "sum": float(sum(values))}
    if values:
        told |= {"min": min(values), "max": max(values), "mean": sum(values) / len(values)}
    return told


def still_taken(rows: Iterable[Row], *, size: int, grace: int) -> Rows:
    """The rows that ksqlDB puts into a tumbling window, in order of arrival."""
    taken, stream_time = Rows(), -(10**18)
    for row in rows:
        if row.kind != "rejected" and row.key is not None:
            stream_time = max(stream_time, row.at)
            if open_windows(row, size=size, every=size, stream_time=stream_time, grace=grace):
                taken.append(row)
    return taken


def windows_seen(rows: Rows, *, size: int, above: int) -> Iterator[tuple[str, int]]:
    """Two statements: windows with more than so many rows, and how many of a key there were."""
    counts: dict[tuple[str, int], int] = defaultdict(int)
    seen: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        key, start = str(row.key), row.at // size * size
        counts[key, start] += 1
        if counts[key, start] > above:
            seen[key].add(start)
            yield key, len(seen[key])


def by_key(rows: Rows) -> Iterator[tuple[str, Rows]]:
    """Rows of each key in order of time, those of one time as they arrived."""
    for key in sorted({str(row.key) for row in rows}):
        yield key, sorted((row for row in rows if row.key == key), key=lambda row: row.at)


def sequences(rows: Rows, *, within: int, missing: bool) -> Iterator[Span]:
    """Each B with the As before it that no B answered yet; or each A that none answered."""
    for key, mine in by_key(rows):
        waiting: list[int] = []
        for row in mine:
            gone = [at for at in waiting if at < row.at - within]
            if missing:
                yield from ((key, at, at + within) for at in gone)
            waiting = [at for at in waiting if at not in gone]
            if row.kind == "B" and waiting:
                if not missing:
                    yield key, min(waiting), row.at
                waiting = []
            if row.kind == "A":
                waiting.append(row.at)
        if missing:
            yield from ((key, at, at + within) for at in waiting)


def pairs(rows: Rows, *, within: int) -> Iterator[tuple[Span, str]]:
    """Two by two; who waits longer than allowed stays alone."""
    for key, mine in by_key(rows):
        alone: int | None = None
        for row in mine:
            if alone is not None and row.at - alone > within:
                yield (key, alone, alone), "Un-matched"
                alone = None
            if alone is None:
                alone = row.at
            else:
                yield (key, alone, row.at), "Pair"
                alone = None
        if alone is not None:
            yield (key, alone, alone), "Un-matched"


def rates(
    rows: Rows, *, per: int, above: float | None = None, below: float | None = None
) -> Iterator[tuple[str, str, int]]:
    """When too many begin and end to stand in ``(now - per, now]``, asked at every moment."""
    for key, mine in by_key(rows):
        moments = sorted({row.at for row in mine} | {row.at + per for row in mine})
        begun = False
        for now in moments:
            count = sum(now - per < row.at <= now for row in mine)
            wrong = count > above if above is not None else count < (below or 0)
            if below is not None and now < mine[0].at + per:
                continue
            if wrong is not begun:
                begun = wrong
                yield key, "begun" if begun else "ended", now
