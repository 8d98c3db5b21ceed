"""A prediction as an event, and back: the hot path of device and hub.

The event's id is a hash of frame, inspection and package, so the same package on the same frame is
the same event, whoever computes it and how often it is sent.
"""

import msgspec

from lineside.core import InvalidError, encode, stable_id, to_plain
from lineside.streams.codec import written_time
from lineside.streams.event import PREDICTION_TYPE, Event
from lineside.vision import PREDICTION_SCHEMA, Prediction

_MOST_ANSWERS = 4096


def prediction_event(
    prediction: Prediction, *, site: str, device: str, sequence: int, first: int
) -> Event:
    """Wrap a prediction.

    Args:
        prediction: becomes ``data``; its frame's capture time is the event's time.
        site: the plant's site, first part of the source.
        device: second part of the source, ``/<site>/device/<device>``.
        sequence: the device's own count of this event, from 1.
        first: the lowest count the device still holds.
    """
    frame = prediction.frame
    return Event(
        id=prediction_id(prediction),
        source=f"/{site}/device/{device}",
        type=PREDICTION_TYPE,
        time=frame.captured_at,
        data=to_plain(prediction),
        subject=prediction.inspection,
        dataschema=PREDICTION_SCHEMA,
        deviceseq=sequence,
        devicefirst=first,
    )


def encode_prediction_event(
    prediction: Prediction, *, site: str, device: str, sequence: int, first: int
) -> bytes:
    """``encode_event(prediction_event(…))``, byte for byte, without plain objects in between.

    ``data`` is the first attribute of the canonical form, so the prediction's own canonical JSON
    stands before that of the envelope.
    """
    envelope: dict[str, object] = {
        "datacontenttype": "application/json",
        "dataschema": PREDICTION_SCHEMA,
        "deviceseq": sequence,
        "devicefirst": first,
        "id": prediction_id(prediction),
        "source": f"/{site}/device/{device}",
        "specversion": "1.0",
        "subject": prediction.inspection,
        "time": written_time(prediction.frame.captured_at),
        "type": PREDICTION_TYPE,
    }
    said = {name: value for name, value in envelope.items() if value not in (0, "")}
    return b'{"data":' + encode(prediction) + b"," + encode(said)[1:]


def prediction_id(prediction: Prediction) -> str:
    """The event's id: the same for the same package on the same frame."""
    frame, package = prediction.frame.id, prediction.package
    return stable_id("evt", frame, prediction.inspection, package)


def read_prediction(event: Event) -> Prediction:
    """The prediction in an event.

    Raises:
        InvalidError: another type, another shape, or a probability outside 0 to 1.
    """
    if event.type != PREDICTION_TYPE:
        raise _bad(event, f"type {event.type!r} is no prediction")
    try:
        prediction = msgspec.convert(event.data, Prediction)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _bad(event, str(error)) from error
    _check(event, prediction)
    return prediction


def _check(event: Event, prediction: Prediction) -> None:
    if prediction.schema != PREDICTION_SCHEMA:
        raise _bad(event, f"schema {prediction.schema!r} is not {PREDICTION_SCHEMA!r}")
    if prediction.frame.captured_at != event.time:
        raise _bad(event, "time is not the frame's capture time")
    if len(prediction.labels) > _MOST_ANSWERS:
        raise _bad(event, f"{len(prediction.labels)} answers, more than {_MOST_ANSWERS}")
    for answer in prediction.labels:
        if not 0.0 <= answer.probability <= 1.0:
            raise _bad(event, f"probability {answer.probability} of {answer.name!r} is not 0 to 1")


def _bad(event: Event, what: str) -> InvalidError:
    return InvalidError(
        what,
        where=f"event {event.id}",
        fix="Send the shape of docs/reference/messages.md, Prediction event.",
    )
