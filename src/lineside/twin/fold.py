"""The twin is a fold: one pure function from state and event to state.

Rules of ``apply``:

1. No clock, no disk: the same events in the same order give the same state, live or replayed.
2. An event that comes again changes nothing. Its id is known among the recent ones; further back
   its capture time is not newer than what stands, and an order has each of its steps once.
3. A value is overwritten by a newer capture time only: each slot, report, station, sensor, the
   picture and the factory's order state for itself. What comes too late is ``late`` and changes
   nothing, so the caller can count it.
4. What cannot be read is ``unreadable`` and changes nothing: a bad entry never stops a replay.
5. Unknown is not absent, and a missing value is not invented.


A snapshot is the state with its place in the log, so that a start folds only what came after.
It belongs to one way of folding: the schema of the state and the plant's twin. After a
change of either it is passed over and the whole log is folded anew, which always gives the truth.
The newest one is kept for the next start. Of each ``CHECKPOINT_EVERY`` positions of the log one is
kept as long as those entries, so that a state of the past is folded from the one before it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from lineside.core import (
    InvalidError,
    NotFoundError,
    Plant,
    decode,
    digest_of,
    encode,
    parse_rfc3339,
    to_plain,
)
from lineside.store import Documents, EventLog, every_document
from lineside.streams import (
    EVENT_TYPE,
    PREDICTION_TYPE,
    VERDICT_TYPE,
    Event,
    decode_event,
    read_verdict,
)
from lineside.streams.alerts import ALERT_TYPE, AlertAction
from lineside.twin.orders import ORDER_TYPE, fold_factory_order, fold_order, listed_discrepancies
from lineside.twin.plant_events import fold_alert, fold_sensor, fold_station, fold_stock
from lineside.twin.predictions import fold_prediction
from lineside.twin.state import (
    Applied,
    Discrepancy,
    Evidence,
    LastVerdict,
    LineState,
    Outcome,
    ignored,
    initial,
    is_newer,
    late,
    remembered,
    with_claims,
)


def apply(state: LineState, event: Event, *, plant: Plant) -> Applied:
    """Fold one event into the state; see the rules at the top of this file."""
    fold = _FOLDS.get(event.type)
    if fold is None:
        return ignored(state)
    if event.id in state.recent:
        return Applied(state=state, outcome=Outcome.DUPLICATE)
    try:
        applied = fold(state, event, plant=plant)
    except InvalidError as error:
        return Applied(state=state, outcome=Outcome.UNREADABLE, reason=str(error))
    if applied.state is state:
        return applied
    settled = with_claims(applied.state, event, plant=plant)
    return replace(applied, state=remembered(settled, event))


def replay(events: Iterable[Event], *, plant: Plant, state: LineState | None = None) -> LineState:
    """The state after all events, from the empty twin or from ``state``."""
    folded = initial(plant) if state is None else state
    for event in events:
        folded = apply(folded, event, plant=plant).state
    return folded


def _fold_rule(state: LineState, event: Event, *, plant: Plant) -> Applied:
    """Rule events: a discrepancy that began or ended; others are shown by the log."""
    del plant
    if event.subject != "discrepancy":
        return ignored(state)
    discrepancies = listed_discrepancies(state, event)
    if discrepancies is state.discrepancies:
        return ignored(state)
    return Applied(state=replace(state, discrepancies=discrepancies))


def _fold_alert(state: LineState, event: Event, *, plant: Plant) -> Applied:
    """Alerts of the camera that the twin sees by: until they are over, its places are not seen.

    One that is over goes also where the twin sees by another camera since.
    """
    data, twin = event.data, plant.twin
    cause, camera = str(data.get("cause", "")), str(data.get("object", ""))
    action = data.get("action")
    if not cause.startswith("camera ") or action == AlertAction.ACKNOWLEDGED:
        return ignored(state)
    others = tuple(one for one in state.discrepancies if (one.camera, one.seen) != (camera, cause))
    if action == AlertAction.CLOSED:
        if len(others) == len(state.discrepancies):
            return ignored(state)
        return Applied(state=replace(state, discrepancies=others))
    if twin is None or plant.find_inspection(twin.inspection).camera != camera:
        return ignored(state)
    since = parse_rfc3339(str(data.get("since")), where="since")
    found = Discrepancy(
        slot="", seen=cause, reported="", since=since, event=event.id, camera=camera
    )
    return Applied(state=replace(state, discrepancies=(*others, found)))


def _fold_verdict(state: LineState, event: Event, *, plant: Plant) -> Applied:
    """Verdicts: the newest part of each line."""
    del plant
    given = read_verdict(event)
    before = state.verdicts.get(given.line)
    if before is not None and not is_newer(before.evidence, event):
        return late(state, before.evidence)
    shown = next((one for one in given.answers if one.verdict is given.verdict), None)
    evidence = Evidence(
        at=event.time, event=event.id, frame=shown.frame if shown else "",
        package=shown.package if shown else "",
    )  # fmt: skip
    verdict = LastVerdict(
        line=given.line, part=given.part, verdict=str(given.verdict), reasons=given.reasons,
        evidence=evidence,
    )  # fmt: skip
    return Applied(state=replace(state, verdicts={**state.verdicts, given.line: verdict}))


_FOLDS: dict[str, Callable[..., Applied]] = {
    PREDICTION_TYPE: fold_prediction,
    EVENT_TYPE: _fold_rule,
    VERDICT_TYPE: _fold_verdict,
    ALERT_TYPE: _fold_alert,
    ORDER_TYPE: fold_order,
    "lineside.plant.stock.v1": fold_stock,
    "lineside.plant.station.v1": fold_station,
    "lineside.plant.sensor.v1": fold_sensor,
    "lineside.plant.order.v1": fold_factory_order,
    "lineside.plant.alert.v1": fold_alert,
}

FOLDED = frozenset(_FOLDS)
"""Types of events that can move the twin."""


def moves_twin(kind: str, subject: str, *, plant: Plant) -> bool:
    """Return whether an event can move the twin; most others need no reading.

    Args:
        kind: its type.
        subject: of a prediction the inspection.
        plant: whose twin.
    """
    if kind != PREDICTION_TYPE:
        return kind in FOLDED
    return plant.twin is not None and subject == plant.twin.inspection


SNAPSHOT_SCHEMA = "lineside.twin-snapshot/1"

CHECKPOINT_EVERY = 2000

_KIND = "twin"
_CHECKPOINT_KIND = "twin-checkpoint"
_PAGE = 1000
_FEW = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state after every log entry up to ``position``."""

    state: LineState
    position: int


def save_snapshot(documents: Documents, snapshot: Snapshot, *, plant: Plant) -> None:
    """Keep it as the plant's newest."""
    documents.put(_KIND, plant.site, body=_body(snapshot, plant=plant))


def load_snapshot(documents: Documents, *, plant: Plant) -> Snapshot | None:
    """The newest one, or None where there is none that still fits."""
    return _load(documents, _KIND, plant.site, plant=plant)


def save_checkpoint(documents: Documents, snapshot: Snapshot, *, plant: Plant) -> None:
    """Keep it for its part of the log, unless one of that part is kept."""
    name = _checkpoint_id(snapshot.position, plant)
    if _load(documents, _CHECKPOINT_KIND, name, plant=plant) is None:
        documents.put(_CHECKPOINT_KIND, name, body=_body(snapshot, plant=plant))


def first_checkpoint(
    documents: Documents, *, since: int, upto: int, plant: Plant
) -> Snapshot | None:
    """The oldest checkpoint from the log position ``since`` on, to the part of ``upto``."""
    for block in range(since // CHECKPOINT_EVERY, upto // CHECKPOINT_EVERY + 1):
        name = _checkpoint_id(block * CHECKPOINT_EVERY, plant)
        kept = _load(documents, _CHECKPOINT_KIND, name, plant=plant)
        if kept is not None and kept.position >= since:
            return kept
    return None


def forget_checkpoints(documents: Documents, *, before: int, plant: Plant) -> None:
    """Delete the checkpoints of parts of the log whose entries all lie before a position."""
    first = _checkpoint_id(before, plant)
    for kept in every_document(documents, _CHECKPOINT_KIND, prefix=f"{plant.site}/", size=_FEW):
        if kept.id >= first:
            return
        documents.delete(_CHECKPOINT_KIND, kept.id)


def load_checkpoint(documents: Documents, *, upto: int, plant: Plant) -> Snapshot | None:
    """The newest checkpoint that stands at the log position ``upto`` or before it."""
    for position in range(upto, -CHECKPOINT_EVERY, -CHECKPOINT_EVERY):
        name = _checkpoint_id(max(0, position), plant)
        kept = _load(documents, _CHECKPOINT_KIND, name, plant=plant)
        if kept is not None and kept.position <= upto:
            return kept
    return None


def rebuild(
    log: EventLog, *, plant: Plant, snapshot: Snapshot | None = None,
    until: datetime | None = None, keep: Documents | None = None,
) -> Snapshot:  # fmt: skip
    """Fold the log behind a snapshot, or all of it, a page at a time.

    Args:
        log: of the plant.
        plant: whose twin.
        snapshot: where the fold begins; None: before the first entry.
        until: entries that arrived later are left out.
        keep: gets the checkpoints on the way.
    """
    state = snapshot.state if snapshot else initial(plant)
    position = kept = snapshot.position if snapshot else 0
    while page := log.read(after=position, limit=_PAGE):
        for logged in page:
            if until is not None and logged.arrived_at > until:
                return Snapshot(state=state, position=position)
            if moves_twin(logged.entry.type, logged.entry.subject, plant=plant):
                event = decode_event(logged.entry.body, where=f"log position {logged.position}")
                state = apply(state, event, plant=plant).state
            position = logged.position
        if keep is not None and position - kept >= CHECKPOINT_EVERY:
            save_checkpoint(keep, Snapshot(state=state, position=position), plant=plant)
            kept = position
    return Snapshot(state=state, position=position)


def _body(snapshot: Snapshot, *, plant: Plant) -> dict[str, object]:
    return {
        "schema": SNAPSHOT_SCHEMA,
        "position": snapshot.position,
        "folded_by": _folded_by(plant),
        "state": to_plain(snapshot.state),
    }


def _load(documents: Documents, kind: str, name: str, *, plant: Plant) -> Snapshot | None:
    try:
        body = documents.get(kind, name).body
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


def _checkpoint_id(position: int, plant: Plant) -> str:
    return f"{plant.site}/{position // CHECKPOINT_EVERY:012d}"


def _folded_by(plant: Plant) -> str:
    return digest_of(encode(plant.twin))
