"""Simulated lines: what is true, what the camera sees, what the messages say.

Main names: ``simulate`` runs one on a bus by its ``SimulateSettings``; ``slot_boxes`` are the
warehouse's regions as its plant file names them. The other programs know a simulated line by its
messages alone. Not here: training, models, anything that looks at a plant file.
"""

from lineside.simulator.run import Simulated, Stop, simulate
from lineside.simulator.settings import SimulateSettings
from lineside.simulator.warehouse.rack import slot_boxes

__all__ = ["SimulateSettings", "Simulated", "Stop", "simulate", "slot_boxes"]
