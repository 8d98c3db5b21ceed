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
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

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
from lineside.store import Documents, EventLog
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
    """Alerts of the camera that the twin sees by: until they are over, its places are not seen."""
    data, twin = event.data, plant.twin
    cause, camera = str(data.get("cause", "")), str(data.get("object", ""))
    action = data.get("action")
    of_twin = twin is not None and plant.find_inspection(twin.inspection).camera == camera
    if not of_twin or not cause.startswith("camera ") or action == AlertAction.ACKNOWLEDGED:
        return ignored(state)
    others = tuple(one for one in state.discrepancies if (one.camera, one.seen) != (camera, cause))
    if action == AlertAction.CLOSED:
        if len(others) == len(state.discrepancies):
            return ignored(state)
        return Applied(state=replace(state, discrepancies=others))
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
