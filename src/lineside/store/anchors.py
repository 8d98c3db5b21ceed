"""Anchors: entries that name the heads of all chains, so that one chain vouches for the others.

A chain alone shows that nothing inside it was changed, not that its end was not cut off or all of
it written anew. The hub appends an anchor to its own chain at intervals; ``check_anchors`` then
compares what each anchor named with what the log holds. A signature of the newest anchor would
vouch for everything.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lineside.core import Clock, InvalidError, decode_fast, encode, rfc3339, stable_id
from lineside.store.chain import Link
from lineside.store.contract import ChainReport, EventLog, LogEntry, Logged

ANCHOR_TYPE = "lineside.anchor.v1"
_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """One chain's end as an anchor names it."""

    position: int
    source_position: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heads:
    heads: dict[str, _Head]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Anchor:
    """The part of an anchor's body that is read back."""

    data: _Heads


def anchor(log: EventLog, *, clock: Clock, source: str) -> Logged | None:
    """Append an anchor of all chains to the chain of ``source``.

    None when nothing came since the last anchor, so that an idle line writes nothing.
    """
    heads = log.heads()
    if not heads or not _changed(heads, source=source):
        return None
    return log.append([_entry(heads, clock=clock, source=source)])[0]


def anchored_head(anchored: Logged, *, source: str) -> Link | None:
    """Where a source's chain stood when the anchor was written; None if it was not named."""
    head = _heads_of(anchored).get(source)
    if head is None:
        return None
    return Link(source_position=head.source_position, hash=head.hash)


def check_anchors(log: EventLog, *, source: str) -> ChainReport:
    """Compare every anchor in the chain of ``source`` with the entries it named.

    ``entries`` counts the heads compared; ``broken_at`` is the anchor's place in its own chain.
    Heads of entries that were pruned since cannot be compared and are passed over.
    """
    walk = _Walk(log)
    for anchored in _anchors(log, source):
        reason = walk.fault_of(anchored)
        if reason:
            return ChainReport(
                source=source,
                entries=walk.compared,
                ok=False,
                broken_at=anchored.source_position,
                reason=reason,
            )
    return ChainReport(source=source, entries=walk.compared, ok=True)


class _Walk:
    """What is known while anchor after anchor is compared."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._seen: dict[str, str] = {}
        self._first_kept: dict[str, int] = {}
        self.compared = 0

    def fault_of(self, anchored: Logged) -> str:
        try:
            heads = _heads_of(anchored)
        except InvalidError as error:
            return f"its body is no anchor: {error.message}"
        for source, head in heads.items():
            if self._is_pruned(source, head) or self._seen.get(source) == head.hash:
                continue
            reason = _head_fault(self._log, source, head=head)
            if reason:
                return reason
            self._seen[source] = head.hash
            self.compared += 1
        return ""

    def _is_pruned(self, source: str, head: _Head) -> bool:
        if source not in self._first_kept:
            first = self._log.read(limit=1, source=source)
            self._first_kept[source] = first[0].source_position if first else 1
        return head.source_position < self._first_kept[source]


def _changed(heads: Mapping[str, Logged], *, source: str) -> bool:
    own = heads.get(source)
    if own is None or own.entry.type != ANCHOR_TYPE:
        return True
    named = _heads_of(own)
    return any(
        name not in named or named[name].hash != head.hash
        for name, head in heads.items()
        if name != source
    )


def _entry(heads: Mapping[str, Logged], *, clock: Clock, source: str) -> LogEntry:
    named = {
        name: _Head(position=head.position, source_position=head.source_position, hash=head.hash)
        for name, head in heads.items()
    }
    event_id = stable_id("evt", source, "anchor", encode(named).decode())
    now = clock.now()
    body = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": ANCHOR_TYPE,
        "time": rfc3339(now),
        "datacontenttype": "application/json",
        "data": {"schema": "lineside.anchor/1", "heads": named},
    }
    return LogEntry(
        id=event_id,
        source=source,
        type=ANCHOR_TYPE,
        subject="",
        captured_at=now,
        body=encode(body),
    )


def _heads_of(anchored: Logged) -> dict[str, _Head]:
    return decode_fast(_Anchor, anchored.entry.body, where=anchored.entry.id).data.heads


def _anchors(log: EventLog, source: str) -> Iterator[Logged]:
    after = 0
    while page := log.read(after=after, limit=_PAGE, source=source, type=ANCHOR_TYPE):
        yield from page
        after = page[-1].position


def _head_fault(log: EventLog, source: str, *, head: _Head) -> str:
    found = log.read(after=head.position - 1, limit=1, source=source)
    if not found or found[0].position != head.position:
        return f"entry {head.source_position} of {source} is gone"
    if (found[0].source_position, found[0].hash) != (head.source_position, head.hash):
        return f"entry {head.source_position} of {source} has another hash"
    return ""
