r"""The hash chain of one source: what is hashed, and how a break is found.

1. hash = sha256(previous + "\n" + source_position + "\n" + arrived_at + "\n" + body), written
   ``sha256:<hex>``; ``arrived_at`` is RFC 3339 UTC cut to milliseconds, which is what is kept.
2. The first entry of a chain has position 1 and the empty text as previous.
3. The body is the event: id, source, type, subject and time are columns only so that they can be
   searched, and must say what the body says. An entry that does not agree is refused when it is
   offered and found by ``fault_of`` when it was changed later.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from lineside.core import Digest, InvalidError, RefusedError, decode_fast, rfc3339
from lineside.store.contract import CHECKPOINT, Document, LogEntry, Logged
from lineside.store.names import check_name

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


def _difference(entry: LogEntry, said: _Attributes) -> str:
    pairs = (
        ("id", entry.id, said.id),
        ("source", entry.source, said.source),
        ("type", entry.type, said.type),
        ("subject", entry.subject, said.subject),
        ("time", entry.captured_at, said.time),
    )
    for what, kept, in_body in pairs:
        if kept != in_body:
            return f"{what} is {str(kept)[:80]!r} but the body says {str(in_body)[:80]!r}"
    return ""


def fault_of(logged: Logged, *, after: Link) -> str:
    """What is wrong with an entry that should follow ``after``; "" when nothing is."""
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
