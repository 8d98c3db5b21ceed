"""``lineside demo``: hub, edge agent and simulated line as processes, taught and scored.

The three know one another by their messages alone; the demo itself is a fourth, which starts them,
asks the hub's HTTP API for what a person would click, and at the end holds what the hub stored
against what the simulated line wrote down as true.
"""

from lineside.cli.demo.command import register

__all__ = ["register"]
