"""Simulated lines: what is true, what the camera sees, what the messages say.

Main names: ``simulate`` runs the warehouse on a bus by its ``SimulateSettings``; ``slot_boxes`` are
its regions as its plant file names them. ``simulate_bins`` runs the store of shelf bins by its
``BinsSettings``, and ``write_bins`` renders it into a folder; ``simulate_surface``,
``SurfaceSettings`` and ``write_surface`` are those of the belt with metal parts,
``simulate_socks``, ``SocksSettings`` and ``write_socks`` those of the table that socks are sorted
on. The other programs know a simulated line by its messages alone. Not here: training, models,
anything that looks at a plant file.
"""

from lineside.simulator.bins import BinsSettings, simulate_bins, write_bins
from lineside.simulator.playback import SimulateSettings, SimulationResult, Stop
from lineside.simulator.socks import SocksSettings, simulate_socks, write_socks
from lineside.simulator.surface import SurfaceSettings, simulate_surface, write_surface
from lineside.simulator.warehouse.line import simulate
from lineside.simulator.warehouse.scene import slot_boxes

__all__ = [
    "BinsSettings",
    "SimulateSettings",
    "SimulationResult",
    "SocksSettings",
    "Stop",
    "SurfaceSettings",
    "simulate",
    "simulate_bins",
    "simulate_socks",
    "simulate_surface",
    "slot_boxes",
    "write_bins",
    "write_socks",
    "write_surface",
]
