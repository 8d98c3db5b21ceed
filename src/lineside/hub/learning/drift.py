"""The running inspection watched for drift: a follower of predictions that raises rule events.

The test's state is kept with each page of the log, so that a restart neither forgets nor counts
twice: entries that come again are older than the newest and change nothing.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, TypedDict

from lineside.core import NotFoundError, Plant, decode, stable_id, to_plain
from lineside.hub.eventlog.ledger import Ledger
from lineside.hub.eventlog.topics import hub_source
from lineside.store import Logged, Records
from lineside.streams import EVENT_TYPE, Event, decode_event, read_prediction
from lineside.streams.drift import Drift, DriftFigure, DriftSettings, DriftState, feed_drift

DRIFT: Literal["drift"] = "drift"
_KIND = "drift"

Listener = Callable[[Event], None]


class DriftWatch:
    """Handler of a follower over predictions."""

    def __init__(self, records: Records, *, ledger: Ledger, plant: Plant) -> None:
        self._records = records
        self._ledger = ledger
        self._plant = plant
        self._listeners: list[Listener] = []
        self._states: dict[str, DriftState] = {}
        self._raised = Counter[tuple[str, str]]()

    def listen(self, listener: Listener) -> None:
        """Call with every drift event after it was stored."""
        self._listeners.append(listener)

    def resume(self, position: int) -> int:
        """Forget what is in memory; another hub may have gone on from there."""
        self._states.clear()
        return position

    def take(self, entries: Sequence[Logged]) -> None:
        """One page of the log."""
        touched: set[str] = set()
        for logged in entries:
            event = decode_event(logged.entry.body, where=logged.entry.id)
            touched.add(event.subject)
            self._feed(event)
        with self._records.transaction():
            for inspection in touched:
                body = {"state": to_plain(self._states[inspection])}
                self._records.documents.put(_KIND, inspection, body=body)

    def figures(self) -> dict[str, dict[str, float]]:
        """Inspection → figures for ``/metrics`` of all that is tested."""
        found: dict[str, dict[str, float]] = {}
        for inspection, state in dict(self._states).items():
            mine = found.setdefault(inspection, {})
            for figure, test in state.figures.items():
                name = figure.replace("_", " ")
                mine[f"drift_{name}"] = max(test.up, test.down) / DriftSettings().limit
                mine[f"drifts_{name}"] = self._raised[inspection, figure]
        return found

    def _feed(self, event: Event) -> None:
        prediction = read_prediction(event)
        state, found = feed_drift(self._state(event.subject), prediction)
        for drift in found:
            self._raise(event, drift, package=str(prediction.package))
        self._states[event.subject] = state  # at the end: what failed half-way is fed again

    def _state(self, inspection: str) -> DriftState:
        if inspection not in self._states:
            try:
                body = self._records.documents.get(_KIND, inspection).body
                self._states[inspection] = decode(DriftState, body["state"], where=inspection)
            except NotFoundError:
                self._states[inspection] = DriftState()
        return self._states[inspection]

    def _raise(self, cause: Event, drift: Drift, *, package: str) -> None:
        event = drift_event(self._plant, cause, drift=drift, package=package)
        self._ledger.record([event])
        self._raised[cause.subject, drift.figure] += 1
        for listener in self._listeners:
            listener(event)


class DriftData(TypedDict):
    """A figure of an inspection drifts."""

    rule: Literal["drift"]
    action: Literal["begun"]
    inspection: str
    figure: DriftFigure
    direction: Literal["up", "down"]
    usual: float
    spread: float
    now: float
    frame: str
    package: str
    cause: str
    reason: str


def drift_event(plant: Plant, cause: Event, *, drift: Drift, package: str) -> Event:
    """``lineside.event.v1`` with subject ``drift``; one per cause and figure."""
    data: DriftData = {
        "rule": DRIFT,
        "action": "begun",
        "inspection": cause.subject,
        "figure": drift.figure,
        "direction": drift.direction,
        "usual": round(drift.usual, 6),
        "spread": round(drift.spread, 6),
        "now": round(drift.now, 6),
        "frame": cause.data.get("frame", {}).get("id", ""),
        "package": package,
        "cause": cause.id,
        "reason": sentence(drift),
    }
    return Event(
        id=stable_id("evt", DRIFT, drift.figure, cause.id),
        source=hub_source(plant.site),
        type=EVENT_TYPE,
        time=cause.time,
        subject=DRIFT,
        data=dict(data),
    )


_WORDS = {
    "feature_distance": "the distance of pictures from the training pictures",
    "mean_grey": "the mean grey of pictures",
    "sharpness": "the sharpness of pictures (logarithm)",
    "residual": "the residual of the registration (px)",
    "unsure": "the share of pictures with an unsure answer",
    "score": "the score of the answers (mean probability, or share of the limit)",
}


def sentence(drift: Drift) -> str:
    """Return the drift event as a sentence."""
    went = "rose" if drift.direction == "up" else "fell"
    return (
        f"{_WORDS[drift.figure]} {went} from {drift.usual:.3g} to {drift.now:.3g}"
        f" ({abs(drift.now - drift.usual) / drift.spread:.1f} times what blocks vary)"
    )
