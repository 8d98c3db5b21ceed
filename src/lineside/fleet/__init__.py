"""Devices and what they are asked to run: jobs, trust, roll-outs, and wire formats.

Main names: ``Release`` and ``JobDocument`` (what is to run), ``Jobs`` (the job service's operator
side), ``Updates`` and ``Target`` (what is signed), ``newer`` (versions compared as versions), ``identifier_of`` (what a version is loaded as),
``Evidence`` (what a roll-out is judged by), ``JobService`` (fulfils ``Jobs``).
Inside: ``jobs/`` (the AWS IoT Jobs service),
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
from lineside.fleet.evidence import Judged, LiveLimits, Verdict, judge_evidence
from lineside.fleet.identifiers import check_distinct, check_identifier, identifier_of
from lineside.fleet.jobs.book import JobRow
from lineside.fleet.jobs.directory import Directory, ThingDirectory
from lineside.fleet.jobs.errors import JobThereError, JobTransitionError, JobVersionError
from lineside.fleet.jobs.executions import Run
from lineside.fleet.jobs.lists import JobPage, JobQuery
from lineside.fleet.jobs.making import JobExtras
from lineside.fleet.jobs.names import arn_of
from lineside.fleet.jobs.operator import (
    described_job,
    described_run,
    job_answer,
    new_job,
    reported_run,
    summary_of_job,
    summary_of_run,
    with_text,
)
from lineside.fleet.jobs.presigned import Presign
from lineside.fleet.jobs.rates import Tally
from lineside.fleet.jobs.requests import Asked, Code, JobRejectedError, read_body, read_fields
from lineside.fleet.jobs.service import CancelExecution, ExecutionName, JobService
from lineside.fleet.jobs.wire import JobMessage
from lineside.fleet.trust.authority import (
    DeviceCertificate,
    ServerCertificate,
    SiteAuthority,
    renewal_due,
    server_certificate,
)
from lineside.fleet.trust.bundle import Bundle, BundleLimits, BundleList, open_bundle, write_bundle
from lineside.fleet.trust.client import Signers, UpdateClient, pin_root
from lineside.fleet.trust.creation import create_repository
from lineside.fleet.trust.download import UpdateLimits
from lineside.fleet.trust.files import replace_durably
from lineside.fleet.trust.repository import UpdateRepository
from lineside.fleet.trust.roles import (
    DeviceGroup,
    Lifetimes,
    NewTrust,
    RoleView,
    TrustView,
    prefixed,
)
from lineside.fleet.trust.rules import Installed, check_may_replace, installed_of
from lineside.fleet.trust.source import FolderSource, Part, Source
from lineside.fleet.trust.vouching import Vouched, vouched
from lineside.fleet.versions import newer, version_key

__all__ = [
    "Asked",
    "Bundle",
    "BundleLimits",
    "BundleList",
    "CancelExecution",
    "Code",
    "DeviceCertificate",
    "DeviceGroup",
    "Directory",
    "Evidence",
    "Execution",
    "ExecutionName",
    "ExecutionStatus",
    "FolderSource",
    "Installed",
    "Job",
    "JobDocument",
    "JobExtras",
    "JobMessage",
    "JobPage",
    "JobQuery",
    "JobRejectedError",
    "JobRow",
    "JobService",
    "JobStatus",
    "JobThereError",
    "JobTransitionError",
    "JobVersionError",
    "Jobs",
    "Judged",
    "Lifetimes",
    "LiveLimits",
    "NewJob",
    "NewTrust",
    "Part",
    "Presign",
    "Progress",
    "Release",
    "RoleView",
    "Run",
    "ServerCertificate",
    "Signers",
    "SiteAuthority",
    "Source",
    "Tally",
    "Target",
    "ThingDirectory",
    "TrustView",
    "UpdateClient",
    "UpdateLimits",
    "UpdateRepository",
    "Updates",
    "Verdict",
    "Vouched",
    "arn_of",
    "check_distinct",
    "check_identifier",
    "check_may_replace",
    "create_repository",
    "described_job",
    "described_run",
    "identifier_of",
    "installed_of",
    "job_answer",
    "judge_evidence",
    "new_job",
    "newer",
    "open_bundle",
    "pin_root",
    "prefixed",
    "read_body",
    "read_fields",
    "renewal_due",
    "replace_durably",
    "reported_run",
    "server_certificate",
    "summary_of_job",
    "summary_of_run",
    "version_key",
    "vouched",
    "with_text",
    "write_bundle",
]
