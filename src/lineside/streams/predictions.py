"""A prediction as an event, and back: the hot path of device and hub.

The event's id is a hash of frame, inspection and package, so the same package on the same frame is
the same event, whoever computes it and how often it is sent.
"""

import msgspec

from lineside.core import InvalidError, stable_id, to_plain
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
        id=stable_id("evt", frame.id, prediction.inspection, prediction.package),
        source=f"/{site}/device/{device}",
        type=PREDICTION_TYPE,
        time=frame.captured_at,
        data=to_plain(prediction),
        subject=prediction.inspection,
        dataschema=PREDICTION_SCHEMA,
        deviceseq=sequence,
        devicefirst=first,
    )


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
