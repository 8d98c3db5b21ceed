"""Devices and what they are asked to run: jobs, trust, roll-outs, and wire formats.

Main names: ``Release`` and ``JobDocument`` (what is to run), ``Jobs`` (the job service's operator
side), ``Updates`` and ``Target`` (what is signed), ``newer`` (versions compared as versions),
``Evidence`` (what a roll-out is judged by). Inside: ``jobs/`` (the AWS IoT Jobs service),
``trust/`` (the update repository and the site's certificates), ``wire/`` (protocols with their
stubs). Not here: threads, sockets and pages; plans are pure, and the programs carry them out.
"""

from lineside.fleet.contract import (
    Evidence,
    Execution,
    ExecutionStatus,
    Job,
    JobDocument,
    Jobs,
    JobStatus,
    NewJob,
    Progress,
    Release,
    Target,
    Updates,
)
from lineside.fleet.trust.authority import (
    DeviceCertificate,
    ServerCertificate,
    SiteAuthority,
    renewal_due,
    server_certificate,
)
from lineside.fleet.identifiers import check_distinct, check_identifier, identifier_of
from lineside.fleet.versions import newer, version_key

__all__ = [
    "DeviceCertificate",
    "Evidence",
    "Execution",
    "ExecutionStatus",
    "Job",
    "JobDocument",
    "JobStatus",
    "Jobs",
    "NewJob",
    "Progress",
    "Release",
    "ServerCertificate",
    "SiteAuthority",
    "Target",
    "Updates",
    "check_distinct",
    "check_identifier",
    "identifier_of",
    "newer",
    "renewal_due",
    "server_certificate",
    "version_key",
]
