"""The device beside the line: looks, decides, keeps what it decided until the hub has it.

Main names: ``EdgeConfig`` and ``CaptureConfig``, ``Agent``, ``run``; ``read_agent_file`` takes over
the settings of a managed edge agent. Not here: training, the hub's pages, what a decision does to
the line.
"""

from lineside.edge.agent import Agent
from lineside.edge.config import CaptureConfig, EdgeConfig, read_agent_file
from lineside.edge.deploy.package_source import Applied, apply_bundle
from lineside.edge.hub_client import HubClient
from lineside.edge.identity.enrolment import EnrolmentResult, check_bus, enrol, renew
from lineside.edge.identity.trust import TRUST
from lineside.edge.machine import this_platform
from lineside.edge.page.access import write_page_password
from lineside.edge.run import run

__all__ = [
    "TRUST",
    "Agent",
    "Applied",
    "CaptureConfig",
    "EdgeConfig",
    "EnrolmentResult",
    "HubClient",
    "apply_bundle",
    "check_bus",
    "enrol",
    "read_agent_file",
    "renew",
    "run",
    "this_platform",
    "write_page_password",
]
