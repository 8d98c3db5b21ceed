"""The twin before anything was heard: every place unknown, every sensor without data."""

from lineside.core import Plant
from lineside.twin.state import ColourState, LineState, SensorState, SlotState, StationState

# Ids, names and order of the reference's sensor panel.
_SENSORS = (
    ("temperature", "Temperature", "°C"),
    ("brightness", "Room Brightness", "%"),
    ("pressure", "Air Pressure", "hPa"),
    ("humidity", "Humidity", "%"),
    ("air_quality", "Air Quality Index", "0-500"),
)


def initial(plant: Plant) -> LineState:
    """The empty twin of a plant; one without ``[twin]`` has sensors only."""
    twin = plant.twin
    sensors = {key: SensorState(id=key, name=name, unit=unit) for key, name, unit in _SENSORS}
    if twin is None:
        return LineState(sensors=sensors)
    return LineState(
        slots={slot.id: SlotState(id=slot.id) for slot in twin.slot},
        colours={colour: ColourState(colour=colour) for colour in twin.colours},
        stations={
            station.id: StationState(
                id=station.id, name=station.name, code=station.code, shape=station.shape
            )
            for station in twin.station
        },
        sensors=sensors,
    )
