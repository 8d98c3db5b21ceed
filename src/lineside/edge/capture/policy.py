"""Sampling of the device's own decisions for capture, and the captures made of them.

1. ``all``; ``every:N``: the first and each N-th of an inspection; ``unsure``: those with an unsure
   answer; ``drift``: from the moment a figure of the inspection leaves what was usual, the next
   ``DRIFT_PICTURES`` ones (the alarm itself is ``lineside.streams.feed_drift``'s).
2. A capture's id follows from frame, inspection and package: the same decision is one capture.
3. What was said stands as JSON beside the picture, with the words that others' records use
   (``Inference result``, ``Confidence``, ``Anomaly_score``) and the whole prediction.
"""

import logging
import re
import uuid
from dataclasses import dataclass, field, replace

from lineside.core import ConflictError, encode, short, to_plain
from lineside.edge.capture.buffer import Capturer
from lineside.edge.config import CaptureConfig
from lineside.edge.counters import Counters
from lineside.edge.packages import FullError
from lineside.fleet import wire
from lineside.streams import prediction_id
from lineside.streams.drift import DriftState, feed_drift, is_unsure
from lineside.vision import Frame, Prediction

logger = logging.getLogger(__name__)

DRIFT_PICTURES = 100
_NAMESPACE = uuid.UUID("9d1c8f0a-6c54-4f0e-9a36-0d3a5b1c7e21")
_UNSAFE = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingState:
    """State of a policy for one inspection.

    Attributes:
        seen: decisions so far.
        left: of the pictures that are captured since a figure drifted.
    """

    seen: int = 0
    left: int = 0
    drift: DriftState = field(default_factory=DriftState)


def sample(
    prediction: Prediction, sampling: SamplingState, *, config: CaptureConfig
) -> tuple[SamplingState, bool]:
    """Decide whether to capture, with the policy's next state."""
    sampling = replace(sampling, seen=sampling.seen + 1)
    match config.inspections:
        case "none":
            return sampling, False
        case "all":
            return sampling, True
        case "unsure":
            return sampling, is_unsure(prediction)
        case "drift":
            return _since_drift(sampling, prediction)
        case _:
            return sampling, (sampling.seen - 1) % config.every == 0


def _since_drift(sampling: SamplingState, prediction: Prediction) -> tuple[SamplingState, bool]:
    drift, found = feed_drift(sampling.drift, prediction)
    left = DRIFT_PICTURES if found else sampling.left
    return replace(sampling, drift=drift, left=max(0, left - 1)), left > 0


def capture_of(frame: Frame, prediction: Prediction) -> wire.Capture:
    """A decision with its picture."""
    suffix = "png" if frame.encoded.startswith(b"\x89PNG") else "jpg"
    picture = wire.Auxiliary(
        name=f"{frame.id}.{suffix}", encoding=wire.Encoding.NONE, data=frame.encoded
    )
    told = encode({**_words(prediction), "prediction": to_plain(prediction)})
    return wire.Capture(
        model=_UNSAFE.sub("-", prediction.inspection).strip("-") or "inspection",
        capture_id=str(uuid.uuid5(_NAMESPACE, prediction_id(prediction))),
        inferred_at=prediction.frame.captured_at,
        inputs=(picture,),
        outputs=(wire.Auxiliary(name="prediction.json", encoding=wire.Encoding.JSON, data=told),),
        version=short(prediction.package),
    )


def _words(prediction: Prediction) -> dict[str, object]:
    """The prediction in words of the capture protocol."""
    found: dict[str, object] = {"Inference result": _result(prediction)}
    answers = [(each.decision, each.probability) for each in prediction.labels]
    answers += [(box.decision, box.probability) for box in prediction.boxes]
    likely = [chance for decision, chance in answers if decision != "absent"]
    if likely:
        found["Confidence"] = max(likely)
    if prediction.anomaly is not None:
        found["Anomaly_score"] = prediction.anomaly.score
    return found


def _result(prediction: Prediction) -> str:
    if prediction.state != "ok":
        return str(prediction.state)
    if prediction.count is not None:
        return str(prediction.count.value)
    if prediction.anomaly is not None:
        return {"present": "Anomaly", "absent": "Normal"}.get(prediction.anomaly.decision, "unsure")
    there = [each.name for each in prediction.labels if each.decision == "present"]
    there += [box.label for box in prediction.boxes if box.decision == "present"]
    return ", ".join(dict.fromkeys(there)) or ("unsure" if is_unsure(prediction) else "none")


class DecisionCapture:
    """Told of every decision, by the camera threads; never holds one up."""

    def __init__(self, config: CaptureConfig, *, capturer: Capturer, counters: Counters) -> None:
        self._config = config
        self._capturer = capturer
        self._counters = counters
        self._samplings: dict[str, SamplingState] = {}

    def look(self, frame: Frame, prediction: Prediction) -> None:
        """Capture the decision where the policy asks for it; an inspection has one thread."""
        before = self._samplings.get(prediction.inspection, SamplingState())
        after, wanted = sample(prediction, before, config=self._config)
        self._samplings[prediction.inspection] = after
        if not wanted:
            return
        try:
            self._capturer.offer(capture_of(frame, prediction))
        except ConflictError:
            logger.debug("decision captured already frame=%s", frame.id)
        except FullError:
            self._counters.refuse("not captured, too many wait")
