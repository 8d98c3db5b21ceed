"""The reference's sensor panel: five lines, this order and wording, each with its age."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from lineside.core import rfc3339
from lineside.twin.state import LineState, SensorState

PANEL_TITLE = "Real-Time BCN Sensors"
# The factory sends its sensors about once a minute; one and a half periods is silence.
SILENT_AFTER_S = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelLine:
    """One line of the panel.

    Attributes:
        text: label and value as the reference writes them; "no data" where none ever came.
        note: "" while data flows, else ``no data since <time>`` or ``no data since the start``.
        age_s: of the value; None where none ever came.
    """

    sensor: str
    text: str
    note: str
    age_s: float | None


def sensor_panel(
    state: LineState, *, now: datetime, silent_after_s: float = SILENT_AFTER_S
) -> tuple[PanelLine, ...]:
    """The five lines at ``now``."""
    return tuple(
        _line(sensor, now=now, silent_after_s=silent_after_s) for sensor in state.sensors.values()
    )


def _line(sensor: SensorState, *, now: datetime, silent_after_s: float) -> PanelLine:
    label, at = f"{sensor.name} [{sensor.unit}]", sensor.evidence.at
    if at is None:
        return PanelLine(
            sensor=sensor.id, text=f"{label}: no data", note="no data since the start", age_s=None
        )
    silent = now - at > timedelta(seconds=silent_after_s)
    return PanelLine(
        sensor=sensor.id,
        text=f"{label}: {sensor.shown}",
        note=f"no data since {rfc3339(at)}" if silent else "",
        age_s=(now - at).total_seconds(),
    )
