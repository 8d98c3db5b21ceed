"""Publisher of results on the plant's own topics, in the plant's message form.

1. Decided by ``message_of``, a pure function; said in the camera's own thread, without waiting.
2. Nothing but answers goes there: how the device is stands on its own topic, retained.
3. A message that the bus does not take is counted and gone. What must not be lost goes by
   lineside's own topics, through the spool.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from lineside.core import Json, Plant, rfc3339
from lineside.edge.counters import Counters
from lineside.links import Bus
from lineside.vision import Decision, Frame, PictureState, Prediction

_NOT_SAID = "not said to the plant"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Best:
    """The likeliest names of an answer, with their probabilities."""

    label: str
    score: float
    decision: Decision
    second: str = ""
    second_score: float = 0.0


class ResultPublisher:
    """An onlooker: says each answer on the topics that the plant file names."""

    def __init__(
        self, plant: Plant, *, inspections: Sequence[str], device: str, bus: Bus, counters: Counters
    ) -> None:
        tasks = {item.id: str(item.task) for item in plant.inspection}
        self._said = tuple(
            (route.topic, route.say, route.say.all_fields(tasks[route.say.inspection]))
            for route in plant.route
            if route.say is not None and route.say.inspection in inspections
        )
        self._device = device
        self._bus = bus
        self._counters = counters

    @property
    def topics(self) -> tuple[str, ...]:
        """Where something is said."""
        return tuple(topic for topic, _, _ in self._said)

    def look(self, frame: Frame, prediction: Prediction) -> None:
        """An inspection answered."""
        del frame
        for topic, say, fields in self._said:
            if say.inspection == prediction.inspection:
                message = message_of(prediction, fields, unknown=say.unknown, device=self._device)
                self._say(topic, message)

    def _say(self, topic: str, message: bytes | None) -> None:
        if message is not None and not self._bus.publish_soon(topic, message, qos=0, retain=False):
            self._counters.refuse(_NOT_SAID)


def message_of(
    prediction: Prediction, fields: dict[str, str], *, unknown: str = "", device: str = ""
) -> bytes | None:
    """The message of an answer; None where there is nothing to say.

    Args:
        prediction: the answer.
        fields: name → what it says, in order, as ``Say.all_fields`` gives them.
        unknown: the label of an answer that is unsure, and of a picture that was not judged; "":
            the likeliest label is said, and of such a picture nothing.
        device: who says it.

    Returns:
        JSON with a blank after comma and colon and all letters in ASCII, as Python's own codec
        writes it: a reader before may compare bytes.
    """
    best = _best(prediction)
    about_label = "label" in fields.values()
    if about_label and not unknown and (best is None or prediction.state is not PictureState.OK):
        return None
    sure = best is not None and best.decision is not Decision.UNSURE
    heard = prediction.state is PictureState.OK and sure
    label = best.label if best is not None and (heard or not unknown) else unknown
    known = _known(prediction, best, label=label, device=device)
    return json.dumps({name: known[told] for name, told in fields.items()}).encode()


def _known(
    prediction: Prediction, best: _Best | None, *, label: str, device: str
) -> dict[str, Json]:
    frame = prediction.frame
    return {
        **_figures(prediction, best),
        "label": label,
        "state": prediction.state.value,
        "ts": rfc3339(frame.captured_at),
        "sequence": frame.sequence,
        "part": frame.part,
        "frame": frame.id,
        "camera": frame.camera,
        "inspection": prediction.inspection,
        "device": device,
        "package": prediction.package,
        "dataset": prediction.dataset,
    }


def _figures(prediction: Prediction, best: _Best | None) -> dict[str, Json]:
    count, anomaly, mask = prediction.count, prediction.anomaly, prediction.mask
    score = best.score if best is not None else anomaly.score if anomaly is not None else 0.0
    said = [one.decision for one in (best, count, anomaly) if one is not None]
    return {
        "score": score,
        "percent": score * 100,
        "second": best.second if best is not None else "",
        "second_score": best.second_score if best is not None else 0.0,
        "decision": said[0].value if said else Decision.UNSURE.value,
        "limit": anomaly.limit if anomaly is not None else 0.0,
        "count": count.value if count is not None else None,
        "count_low": count.low if count is not None else None,
        "count_high": count.high if count is not None else None,
        "boxes": len(prediction.boxes),
        "defect_share": mask.share if mask is not None else 0.0,
    }


def _best(prediction: Prediction) -> _Best | None:
    """The likeliest label, and the next; of boxes the likeliest one."""
    named = [(one.probability, one.name, one.decision) for one in prediction.labels]
    named += [(one.probability, one.label, one.decision) for one in prediction.boxes]
    ordered = sorted(named, key=lambda one: (-one[0], one[1]))
    if not ordered:
        return None
    (score, label, decision), rest = ordered[0], ordered[1:]
    second_score, second = rest[0][:2] if rest else (0.0, "")
    return _Best(
        label=label, score=score, decision=decision, second=second, second_score=second_score
    )
