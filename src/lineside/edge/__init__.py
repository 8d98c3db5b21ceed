"""The device beside the line: looks, decides, keeps what it decided until the hub has it.

Main names: ``EdgeConfig`` and ``CaptureConfig``, ``Agent``, ``run``; ``read_agent_file`` takes over
the settings of a managed edge agent. Not here: training, the hub's pages, what a decision does to
the line.
"""

from lineside.edge.agent import Agent
from lineside.edge.agent_config import read_agent_file
from lineside.edge.airgap import Applied, apply_bundle
from lineside.edge.capture_config import CaptureConfig
from lineside.edge.config import EdgeConfig
from lineside.edge.enrol import Enrolled, EnrolWish, check_bus, enrol
from lineside.edge.machine import this_platform
from lineside.edge.page.door import write_page_password
from lineside.edge.renewal import renew
from lineside.edge.run import run
from lineside.edge.trusting import TRUST
from lineside.edge.updates import HubSource

__all__ = [
    "TRUST",
    "Agent",
    "Applied",
    "CaptureConfig",
    "EdgeConfig",
    "EnrolWish",
    "Enrolled",
    "HubSource",
    "apply_bundle",
    "check_bus",
    "enrol",
    "read_agent_file",
    "renew",
    "run",
    "this_platform",
    "write_page_password",
]
