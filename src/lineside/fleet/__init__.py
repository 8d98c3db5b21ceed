"""Devices and what they are asked to run: jobs, trust, roll-outs, and wire formats.

Main names: ``Release`` and ``JobDocument`` (what is to run), ``Jobs`` (the job service's operator
side), ``Updates`` and ``Target`` (what is signed), ``newer`` (versions compared as versions),
``identifier_of`` (what a version is loaded as),
``Evidence`` (what a roll-out is judged by), ``JobService`` (fulfils ``Jobs``), ``Talk`` (a device's
side of it).
Inside: ``jobs/`` (the AWS IoT Jobs service),
``trust/`` (the update repository and the site's certificates), ``wire/`` (protocols with their
stubs). Not here: threads, sockets and pages; plans are pure, and the programs carry them out.
"""

from lineside.fleet.agent_order import DevicePolicy, check_signed, read_order
from lineside.fleet.agent_steps import (
    Abandon,
    Begin,
    GoOn,
    Outcome,
    Say,
    Step,
    Talk,
    Turn,
    Work,
    confirm,
    ended,
    heard,
    joined,
    progressed,
    subscriptions,
    ticked,
)
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
    TrialReport,
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
from lineside.fleet.rollout import (
    ANY_FAILURE,
    FIRST_ONE,
    Rollout,
    RolloutJob,
    RolloutOrder,
    RolloutPlan,
    RolloutState,
    RolloutStep,
    may_order,
    ordered,
    share_out,
)
from lineside.fleet.rollout_step import (
    Ask,
    GoBack,
    RolloutFacts,
    Wait,
    applied,
    judged,
    next_step,
)
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
    "ANY_FAILURE",
    "FIRST_ONE",
    "Abandon",
    "Ask",
    "Asked",
    "Begin",
    "Bundle",
    "BundleLimits",
    "BundleList",
    "CancelExecution",
    "Code",
    "DeviceCertificate",
    "DeviceGroup",
    "DevicePolicy",
    "Directory",
    "Evidence",
    "Execution",
    "ExecutionName",
    "ExecutionStatus",
    "FolderSource",
    "GoBack",
    "GoOn",
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
    "Outcome",
    "Part",
    "Presign",
    "Progress",
    "Release",
    "RoleView",
    "Rollout",
    "RolloutFacts",
    "RolloutJob",
    "RolloutOrder",
    "RolloutPlan",
    "RolloutState",
    "RolloutStep",
    "Run",
    "Say",
    "ServerCertificate",
    "Signers",
    "SiteAuthority",
    "Source",
    "Step",
    "Talk",
    "Tally",
    "Target",
    "ThingDirectory",
    "TrialReport",
    "TrustView",
    "Turn",
    "UpdateClient",
    "UpdateLimits",
    "UpdateRepository",
    "Updates",
    "Verdict",
    "Vouched",
    "Wait",
    "Work",
    "applied",
    "arn_of",
    "check_distinct",
    "check_identifier",
    "check_may_replace",
    "check_signed",
    "confirm",
    "create_repository",
    "described_job",
    "described_run",
    "ended",
    "heard",
    "identifier_of",
    "installed_of",
    "job_answer",
    "joined",
    "judge_evidence",
    "judged",
    "may_order",
    "new_job",
    "newer",
    "next_step",
    "open_bundle",
    "ordered",
    "pin_root",
    "prefixed",
    "progressed",
    "read_body",
    "read_fields",
    "read_order",
    "renewal_due",
    "replace_durably",
    "reported_run",
    "server_certificate",
    "share_out",
    "subscriptions",
    "summary_of_job",
    "summary_of_run",
    "ticked",
    "version_key",
    "vouched",
    "with_text",
    "write_bundle",
]
