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
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from lineside.core import InvalidError, Plant
from lineside.streams import EVENT_TYPE, PREDICTION_TYPE, Event
from lineside.twin.change import Applied, Outcome, ignored, remembered
from lineside.twin.claims import with_claims
from lineside.twin.due import listed_discrepancies
from lineside.twin.order_events import ORDER_TYPE
from lineside.twin.orders import fold_factory_order, fold_order
from lineside.twin.picture import fold_prediction
from lineside.twin.plant_events import fold_alert, fold_sensor, fold_station, fold_stock
from lineside.twin.start import initial
from lineside.twin.state import LineState


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


_FOLDS: dict[str, Callable[..., Applied]] = {
    PREDICTION_TYPE: fold_prediction,
    EVENT_TYPE: _fold_rule,
    ORDER_TYPE: fold_order,
    "lineside.plant.stock.v1": fold_stock,
    "lineside.plant.station.v1": fold_station,
    "lineside.plant.sensor.v1": fold_sensor,
    "lineside.plant.order.v1": fold_factory_order,
    "lineside.plant.alert.v1": fold_alert,
}

FOLDED = frozenset(_FOLDS)
"""Types of events that can move the twin."""
