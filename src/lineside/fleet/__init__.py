"""Devices and what they are asked to run: jobs, trust and rollouts.

Main names: ``Release`` and ``JobDocument`` (the package to run), ``Target`` (a signed file),
``JobService`` (the operator's and the devices' side of jobs), ``Rollout``, ``UpdateRepository`` and
``UpdateClient`` (the hub's and a device's side of signed updates), ``CertificateAuthority``.
Inside: ``jobs/`` (the AWS IoT Jobs service) and ``trust/`` (the update repository and the site's
certificates). What one other package needs is imported from the module that owns it. Not here:
threads, sockets and pages; plans are pure, and the programs carry them out.
"""

from lineside.fleet.agent import DevicePolicy, Installed
from lineside.fleet.contract import (
    Evidence,
    Execution,
    ExecutionStatus,
    Job,
    JobDocument,
    JobStatus,
    NewJob,
    Progress,
    Release,
    Target,
    TrialReport,
    identifier_of,
    newer,
    version_key,
)
from lineside.fleet.enrolment import EnrolledDevice, Inventory, NewInvitation, Presence
from lineside.fleet.jobs.repository import ThingDirectory
from lineside.fleet.jobs.service import JobQuery, JobService
from lineside.fleet.rollout import Rollout, RolloutOrder, RolloutPlan, RolloutState
from lineside.fleet.trust.certificate_authority import (
    CertificateAuthority,
    renewal_due,
    server_certificate,
)
from lineside.fleet.trust.certificates import device_request
from lineside.fleet.trust.client import UpdateClient, pin_root
from lineside.fleet.trust.download import FolderSource, Part, Source
from lineside.fleet.trust.repository import UpdateRepository, create_repository
from lineside.fleet.trust.roles import Signers

__all__ = [
    "CertificateAuthority",
    "DevicePolicy",
    "EnrolledDevice",
    "Evidence",
    "Execution",
    "ExecutionStatus",
    "FolderSource",
    "Installed",
    "Inventory",
    "Job",
    "JobDocument",
    "JobQuery",
    "JobService",
    "JobStatus",
    "NewInvitation",
    "NewJob",
    "Part",
    "Presence",
    "Progress",
    "Release",
    "Rollout",
    "RolloutOrder",
    "RolloutPlan",
    "RolloutState",
    "Signers",
    "Source",
    "Target",
    "ThingDirectory",
    "TrialReport",
    "UpdateClient",
    "UpdateRepository",
    "create_repository",
    "device_request",
    "identifier_of",
    "newer",
    "pin_root",
    "renewal_due",
    "server_certificate",
    "version_key",
]
