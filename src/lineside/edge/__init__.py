"""The device beside the line: looks, decides, keeps what it decided until the hub has it.

Main names: ``EdgeConfig``, ``Agent``, ``run``. Not here: training, pages, what a decision does to
the line.
"""

from lineside.edge.agent import Agent
from lineside.edge.airgap import TRUST, Applied, apply_bundle, this_platform
from lineside.edge.config import EdgeConfig
from lineside.edge.run import run
from lineside.edge.updates import HubSource

__all__ = [
    "TRUST",
    "Agent",
    "Applied",
    "EdgeConfig",
    "HubSource",
    "apply_bundle",
    "run",
    "this_platform",
]
