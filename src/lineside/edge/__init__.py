"""The device beside the line: looks, decides, keeps what it decided until the hub has it.

Main names: ``EdgeConfig``, ``Agent``, ``run``. Not here: training, pages, what a decision does to
the line.
"""

from lineside.edge.agent import Agent
from lineside.edge.config import EdgeConfig
from lineside.edge.run import run

__all__ = ["Agent", "EdgeConfig", "run"]
