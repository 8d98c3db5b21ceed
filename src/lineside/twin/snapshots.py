"""The state kept with its place in the log, so that a start folds only what came after.

A snapshot belongs to one way of folding: the schema of the state and the plant's twin. After a
change of either it is passed over and the whole log is folded anew, which always gives the truth.
"""

from dataclasses import dataclass

from lineside.core import InvalidError, NotFoundError, Plant, decode, digest_of, encode, to_plain
from lineside.store import Documents, EventLog
from lineside.streams import decode_event
from lineside.twin.fold import apply
from lineside.twin.start import initial
from lineside.twin.state import LineState

SNAPSHOT_SCHEMA = "lineside.twin-snapshot/1"

_KIND = "twin"
_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state after every log entry up to ``position``."""

    state: LineState
    position: int


def save_snapshot(documents: Documents, snapshot: Snapshot, *, plant: Plant) -> None:
    """Keep it as the plant's only one."""
    body = {
        "schema": SNAPSHOT_SCHEMA,
        "position": snapshot.position,
        "folded_by": _folded_by(plant),
        "state": to_plain(snapshot.state),
    }
    documents.put(_KIND, plant.site, body=body)


def load_snapshot(documents: Documents, *, plant: Plant) -> Snapshot | None:
    """The kept one, or None where there is none that still fits."""
    try:
        body = documents.get(_KIND, plant.site).body
    except NotFoundError:
        return None
    if body.get("schema") != SNAPSHOT_SCHEMA or body.get("folded_by") != _folded_by(plant):
        return None
    try:
        state = decode(LineState, body.get("state"), where="twin snapshot")
        position = decode(int, body.get("position"), where="twin snapshot position")
    except InvalidError:
        # Written by a release whose state looked otherwise: the log holds everything.
        return None
    return Snapshot(state=state, position=position)


def rebuild(log: EventLog, *, plant: Plant, snapshot: Snapshot | None = None) -> Snapshot:
    """Fold the log behind a snapshot, or all of it, a page at a time."""
    state = snapshot.state if snapshot else initial(plant)
    position = snapshot.position if snapshot else 0
    while page := log.read(after=position, limit=_PAGE):
        for logged in page:
            event = decode_event(logged.entry.body, where=f"log position {logged.position}")
            state = apply(state, event, plant=plant).state
            position = logged.position
    return Snapshot(state=state, position=position)


def _folded_by(plant: Plant) -> str:
    return digest_of(encode(plant.twin))
