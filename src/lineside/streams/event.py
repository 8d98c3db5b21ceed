"""CloudEvents 1.0 (JSON format, structured mode): the form of everything lineside says.

Attributes follow https://github.com/cloudevents/spec v1.0.2: ``id`` with ``source`` is unique, so
a second delivery changes nothing; ``time`` is the capture time, never the time of sending.
``deviceseq`` and ``devicefirst`` are extension attributes: the sender's own count, which the hub
acknowledges, and the lowest count the sender still holds, below which nothing will come again.
``recordedtime`` is CloudEvents' own extension of that name: what waited in a Kafka topic arrived
there then, whenever the hub took it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

PREDICTION_TYPE = "lineside.prediction.v1"
EVENT_TYPE = "lineside.event.v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened.

    Attributes:
        id: stable for the same happening; see ``core.stable_id``.
        source: who says it: ``/site/camera/<c>``, ``/site/device/<d>``, ``/site/hub``,
            ``/site/plant`` (messages of the plant itself).
        type: ``lineside.prediction.v1``, ``lineside.event.v1``, ``lineside.plant.<kind>.v1``,
            ``lineside.order.v1``, ``lineside.anchor.v1``.
        subject: the inspection, topic, order or rule it is about.
        time: aware UTC, when it happened at the camera or station.
        data: plain JSON of the documented shape of ``type``.
    """

    id: str
    source: str
    type: str
    time: datetime
    data: dict[str, Any]
    subject: str = ""
    specversion: Literal["1.0"] = "1.0"
    datacontenttype: str = "application/json"
    dataschema: str = ""
    deviceseq: int = 0
    devicefirst: int = 0
    recordedtime: datetime | None = None
