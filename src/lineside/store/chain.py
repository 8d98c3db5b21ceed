r"""The hash chain of one source: what is hashed, and how a break is found.

1. hash = sha256(previous + "\n" + source_position + "\n" + arrived_at + "\n" + body), written
   ``sha256:<hex>``; ``arrived_at`` is RFC 3339 UTC cut to milliseconds, which is what is kept.
2. The first entry of a chain has position 1 and the empty text as previous.
3. The body is the event: id, source, type, subject and time are columns only so that they can be
   searched, and must say what the body says. An entry that does not agree is refused when it is
   offered and found by ``fault_of`` when it was changed later.

Anchors are entries that name the heads of all chains, so that one chain vouches for the others.

A chain alone shows that nothing inside it was changed, not that its end was not cut off or all of
it written anew. The hub appends an anchor to its own chain at intervals; ``check_anchors`` then
compares what each anchor named with what the log holds.

A checkpoint, where entries were forgotten, stands outside every chain, so it is signed:
``checkpoint_bytes`` are what its signature is over.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from lineside.core import (
    Clock,
    Digest,
    InvalidError,
    Json,
    RefusedError,
    decode_fast,
    encode,
    rfc3339,
    stable_id,
)
from lineside.store.contract import (
    CHECKPOINT,
    ChainReport,
    Document,
    EventLog,
    LogEntry,
    Logged,
    check_name,
)

FIRST_PREVIOUS = ""
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Where a chain stands: the position and hash of one entry; 0 and "" before the first."""

    source_position: int = 0
    hash: str = FIRST_PREVIOUS

    @classmethod
    def of_checkpoint(cls, checkpoint: Document) -> "Link":
        """The last entry that a chain's checkpoint says was pruned.

        Raises:
            RefusedError: the checkpoint does not say.
        """
        position = checkpoint.body.get("source_position")
        last = checkpoint.body.get("hash")
        if not isinstance(position, int) or not isinstance(last, str):
            raise RefusedError(
                f"the checkpoint of {checkpoint.id} is damaged",
                where=CHECKPOINT,
                fix="Restore a backup.",
            )
        return cls(source_position=position, hash=last)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attributes:
    """The attributes of a CloudEvent that the log keeps as columns."""

    id: str
    source: str
    type: str
    time: datetime
    subject: str = ""


def checkpoint_bytes(body: Mapping[str, Json]) -> bytes:
    """A checkpoint as it is signed: all but its signature, canonical, behind a line of its own."""
    plain = {name: value for name, value in body.items() if name != "signature"}
    return b"lineside log checkpoint\n" + encode(plain)


def cut_to_milliseconds(moment: datetime) -> datetime:
    """The moment as the wire can carry it."""
    return moment.astimezone(UTC).replace(microsecond=moment.microsecond // 1000 * 1000)


def chain_hash(*, previous: str, source_position: int, arrived_at: datetime, body: bytes) -> Digest:
    """The hash of one entry (rule 1)."""
    head = f"{previous}\n{source_position}\n{rfc3339(arrived_at)}\n".encode()
    return Digest("sha256:" + hashlib.sha256(head + body).hexdigest())


def checked(entry: LogEntry) -> LogEntry:
    """The entry as it may be kept: its capture time is the body's own.

    Raises:
        InvalidError: the body is no event, or says something else than the attributes.
    """
    where = f"event {entry.id[:80]}"
    for what in ("id", "source", "type", "subject"):
        check_name(getattr(entry, what), what=what, empty=what == "subject")
    said = _attributes(entry.body, where=where)
    if entry.captured_at.tzinfo is None:
        raise InvalidError("captured_at names no zone", where=where, fix="Attach a UTC offset.")
    if abs(said.time - entry.captured_at) >= _MILLISECOND:
        raise InvalidError(
            f"captured_at is {entry.captured_at} but the body says {said.time}",
            where=where,
            fix="Send the attributes that the body holds.",
        )
    whole = entry
    if entry.captured_at != said.time or entry.captured_at.tzinfo is not UTC:
        whole = replace(entry, captured_at=said.time.astimezone(UTC))
    different = _difference(whole, said)
    if different:
        raise InvalidError(different, where=where, fix="Send the attributes that the body holds.")
    return whole


def _attributes(body: bytes, *, where: str) -> _Attributes:
    said = decode_fast(_Attributes, body, where=where)
    if said.time.tzinfo is None:
        raise InvalidError("the body's time names no zone", where=where, fix="Write it with Z.")
    return said


def _difference(entry: LogEntry, attributes: _Attributes) -> str:
    pairs = (
        ("id", entry.id, attributes.id),
        ("source", entry.source, attributes.source),
        ("type", entry.type, attributes.type),
        ("subject", entry.subject, attributes.subject),
        ("time", entry.captured_at, attributes.time),
    )
    for what, kept, in_body in pairs:
        if kept != in_body:
            return f"{what} is {str(kept)[:80]!r} but the body says {str(in_body)[:80]!r}"
    return ""


def fault_of(logged: Logged, *, after: Link) -> str:
    """Return the fault of an entry that should follow ``after``; "" when there is none."""
    expected = after.source_position + 1
    if logged.source_position != expected:
        return f"entry {expected} is missing: {logged.source_position} stands in its place"
    if logged.previous != after.hash:
        return "the hash it names as previous is not that of the entry before"
    whole = chain_hash(
        previous=logged.previous,
        source_position=logged.source_position,
        arrived_at=logged.arrived_at,
        body=logged.entry.body,
    )
    if logged.hash != whole or cut_to_milliseconds(logged.arrived_at) != logged.arrived_at:
        return "its hash is not that of its content"
    try:
        said = _attributes(logged.entry.body, where=logged.entry.id)
    except InvalidError as error:
        return f"its body is no event: {error.message}"
    return _difference(logged.entry, said)


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
    """State of the comparison of anchor after anchor."""

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
