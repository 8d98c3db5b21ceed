"""A device's side of jobs: its documents checked, its talk with the job service. Pure.

What is refused here is answered REJECTED: the device will not be able to tomorrow either.

1. A newer version of the same group of models may replace the one in use, and so may the same one.
2. An older version may do so only when a rollback was asked for and the target's signed metadata
   allow it from the version in use (``rollback_from``). A signature alone never leads back.
3. A package that names platforms runs on those only.

The talk with the job service, messages in, steps out:

4. One request is under way at a time, with a token of its own; an answer with another token is
   somebody else's. A request that is not answered is said again.
5. The next job is asked for when the device joins the bus, when it hears of one, after each job,
   and now and then. ``start-next`` gives back a job that was in progress, so what a restart
   interrupted is taken up.
6. Every update names the version it expects. Where another one stands, the state that comes with
   the refusal decides: still in progress, and the update is said again; over, and the work is left.
7. Progress is told at most every ``PROGRESS_S``, the newest only, and renews the step timer.
8. A job is looked at again before its package comes into use, and when a notification no longer
   names it: what was cancelled, deleted or timed out meanwhile is left.
9. A job that was ended and is handed out once more is told its end again, not done again.
10. A message of another thing's topic, or one that is not as documented, changes nothing.

Source: AWS IoT developer guide, "Jobs device MQTT API" and "Devices and jobs".
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from lineside.core import Digest, InvalidError, RefusedError, decode_json, encode, parse_digest
from lineside.fleet.contract import ExecutionStatus, JobDocument, Target, newer, version_key
from lineside.fleet.jobs.requests import is_job_id, jobs_topic, place_of
from lineside.fleet.jobs.wire import JobMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A package that was put into use, as the repository named it."""

    inspection: str
    group: str
    version: str
    digest: Digest
    target: str


def installed_of(target: Target, *, inspection: str = "") -> Installed:
    """Return a target as the installed package that it would be.

    Args:
        target: a verified package.
        inspection: one of those that it is signed for; "": the first.
    """
    custom = target.custom
    return Installed(
        inspection=inspection or target.inspections[0], group=str(custom["group"]),
        version=str(custom["version"]), digest=Digest(str(custom["digest"])), target=target.path,
    )  # fmt: skip


def check_may_replace(
    target: Target, *, installed: Installed | None, rollback: bool, platform: str
) -> None:
    """Refuse a package that must not come here.

    Args:
        target: a verified package.
        installed: what runs now, None where nothing does.
        rollback: whether going back is what was asked for.
        platform: of this machine, such as "linux/x86_64".

    Raises:
        RefusedError: older than what is in use, and no signed way back.
        InvalidError: made for another platform.
    """
    asked = installed_of(target)
    platforms = _words(target.custom.get("platforms"))
    if platforms and platform not in platforms:
        raise InvalidError(
            f"made for {', '.join(platforms)}; this is {platform}",
            where=target.path,
            fix="Publish a package for this platform.",
        )
    if installed is None or installed.group != asked.group or installed.digest == asked.digest:
        return
    if newer(asked.version, than=installed.version):
        return
    place = f"version {asked.version} of {asked.group!r} is not newer than {installed.version}"
    if not rollback:
        raise RefusedError(
            f"{place}, which is in use", where=target.path, fix="Ask for a rollback (--rollback)."
        )
    if installed.version not in _words(target.custom.get("rollback_from")):
        raise RefusedError(
            f"{place}, and no way back from there is signed",
            where=target.path,
            fix=f"On the hub: lineside trust allow-rollback {target.path} "
            f"--from-version {installed.version}.",
        )


def _words(value: object) -> Collection[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


_LONGEST = 1024
_MOST_TRIAL = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePolicy:
    """Limits on what a job may ask of a device.

    Attributes:
        inspections: it has a camera for.
        allows: whether a model of that name may be deployed.
        signed: whether only signed packages are taken.
    """

    inspections: frozenset[str]
    allows: Callable[[str], bool]
    signed: bool


def read_order(document: Mapping[str, object], *, policy: DevicePolicy) -> JobDocument:
    """The document as a record; fields of others are passed over.

    Raises:
        InvalidError: not a document that this device understands, or of something it has not.
        RefusedError: unsigned, and the policy asks for signatures.
    """
    if document.get("type") != "new_model":
        raise InvalidError(
            f"type {str(document.get('type'))[:60]!r} is not known here",
            where="type",
            fix='Send a document of type "new_model".',
        )
    size = document.get("size_bytes", 0)
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise InvalidError("not a number of bytes", where="size_bytes", fix="Leave it out.")
    trial = document.get("trial_frames", 0)
    if isinstance(trial, bool) or not isinstance(trial, int) or not 0 <= trial <= _MOST_TRIAL:
        raise InvalidError(
            f"not a number of 0 to {_MOST_TRIAL}", where="trial_frames", fix="Leave it out."
        )
    rollback = document.get("rollback", False)
    if not isinstance(rollback, bool):
        raise InvalidError("neither true nor false", where="rollback", fix="Leave it out.")
    order = JobDocument(
        model_name=_text(document, "model_name"),
        model_version=_text(document, "model_version"),
        model_package_bucket=_text(document, "model_package_bucket"),
        model_package_key=_text(document, "model_package_key"),
        inspection=_text(document, "inspection"),
        target=_text(document, "target"),
        digest=_text(document, "digest"),
        sha256=_text(document, "sha256"),
        size_bytes=size,
        rollback=rollback,
        rollout=_text(document, "rollout"),
        trial_frames=trial,
    )
    _check(order, policy)
    return order


def check_signed(order: JobDocument, target: Target) -> None:
    """A document that contradicts what is signed is refused.

    Raises:
        RefusedError: with the first contradiction.
    """
    is_signed_for = order.inspection in target.inspections
    signed = installed_of(target, inspection=order.inspection if is_signed_for else "")
    pairs = (
        ("model_name", order.model_name, signed.group),
        ("model_version", order.model_version, signed.version),
        ("inspection", order.inspection, signed.inspection),
        ("digest", order.digest, signed.digest),
        ("sha256", order.sha256, target.sha256),
    )
    for name, said, holds in pairs:
        if said and said != holds:
            raise RefusedError(
                f"the job says {said[:80]!r}, signed is {holds!r}",
                where=name,
                fix="Make the job from the release.",
            )


def _check(order: JobDocument, policy: DevicePolicy) -> None:
    version_key(order.model_version)
    if not policy.allows(order.model_name):
        raise InvalidError(
            f"model {order.model_name[:60]!r} is not among those this device takes",
            where="model_name",
            fix="Name it in the mappings of models_config.json.",
        )
    if order.inspection and order.inspection not in policy.inspections:
        raise InvalidError(
            f"this device has no inspection {order.inspection[:60]!r}",
            where="inspection",
            fix=f"It has {', '.join(sorted(policy.inspections)) or 'none'}.",
        )
    if order.digest:
        parse_digest(order.digest, where="digest")
    if policy.signed and not (order.target and order.digest):
        raise RefusedError(
            "the document names no signed package, and this device runs nothing else",
            where="target, digest",
            fix="Make the job from an approved release.",
        )


def _text(document: Mapping[str, object], name: str) -> str:
    value = document.get(name, "")
    needed = name in ("model_name", "model_version")
    good = isinstance(value, str) and value.isprintable() and len(value) <= _LONGEST
    if not good or (needed and not value):
        raise InvalidError(
            f"not text of {int(needed)} to {_LONGEST} characters", where=name, fix="Correct it."
        )
    return str(value)


ANSWER_S = 10.0
LONGEST_ANSWER_S = 60.0
PROGRESS_S = 5.0
POLL_S = 300.0
STEP_MINUTES = 10
_MOST_BYTES = 262_144
_REMEMBERED = 32
_MOST_COUNT = 2**53
_LONGEST_DETAIL = 1000

Body = Mapping[str, Any]
_Kind = Literal["list", "next", "look", "tell", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One job this device was given; ``number`` counts tries, ``version`` the service's updates."""

    job_id: str
    number: int
    version: int
    document: Body

    def same(self, other: "Work | None") -> bool:
        """Return whether it is the same try of the same job."""
        return other is not None and (self.job_id, self.number) == (other.job_id, other.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """End of a job: SUCCEEDED, FAILED or REJECTED, with details as text by text."""

    status: ExecutionStatus
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Start to carry a job out."""

    work: Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Continue:
    """The job is still wanted: its package may come into use."""

    work: Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandon:
    """The job is no longer wanted; nothing more is told of it."""

    work: Work
    reason: str


Step = JobMessage | Begin | Continue | Abandon


@dataclass(frozen=True, slots=True, kw_only=True)
class _PendingRequest:
    """A request under way."""

    kind: _Kind
    token: str
    topic: str
    payload: bytes
    sent_s: float
    tries: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsClient:
    """State of a device's side of the job service; its prefix is new with each start.

    Attributes:
        thing: whose jobs.
        prefix: of the tokens.
        work: the job under way.
        asked: the request under way.
        next_wanted: whether to ask for the next job.
        list_wanted: whether to ask what there is.
        look_wanted: whether to look at the job under way.
        confirming: whether somebody waits for that look.
        news: progress that was not told yet.
        outcome: how the job under way ended, until the service took it.
        told_s: when progress was told last.
        polled_s: when the next job was asked for last.
        over: how the last jobs ended.
        count: of requests.
    """

    thing: str
    prefix: str
    work: Work | None = None
    pending: _PendingRequest | None = None
    next_wanted: bool = False
    list_wanted: bool = False
    look_wanted: bool = False
    confirming: bool = False
    unreported: Mapping[str, str] | None = None
    outcome: Outcome | None = None
    reported_s: float = 0.0
    polled_s: float = 0.0
    over: tuple[tuple[Work, Outcome], ...] = ()
    count: int = 0


class Transition(NamedTuple):
    """The talk afterwards, and what is to be done now, in order."""

    session: JobsClient
    steps: tuple[Step, ...] = ()


def subscriptions(thing: str) -> tuple[str, ...]:
    """Return the topics to subscribe to; a broker need not send answers unasked."""
    topic = jobs_topic(thing)
    levels = ("get/+", "start-next/+", "+/get/+", "+/update/+", "notify", "notify-next")
    return tuple(f"{topic}/{each}" for each in levels)


# ---- what happens


def start_session(session: JobsClient, *, now_s: float) -> Transition:
    """The bus is there, for the first time or again: what was asked may be lost."""
    idle = session.work is None
    session = replace(session, pending=None, next_wanted=idle, look_wanted=not idle)
    return _pump(session, now_s=now_s)


def receive(session: JobsClient, topic: str, *, payload: bytes, now_s: float) -> Transition:
    """A message came."""
    place = place_of(topic)
    body = _read(payload)
    if place is None or place.thing != session.thing or body is None:
        return Transition(session)
    match place.levels:
        case ("notify",):
            transition = _read_notification(session, body)
        case ("notify-next",):
            transition = _next_changed(session, body)
        case (*_, "accepted" | "rejected"):
            transition = _read_reply(session, body, topic=topic, now_s=now_s)
        case _:
            return Transition(session)
    after = _pump(transition.session, now_s=now_s)
    return Transition(after.session, (*transition.steps, *after.steps))


def report_progress(session: JobsClient, details: Mapping[str, str], *, now_s: float) -> Transition:
    """The job under way came further."""
    if session.work is None or session.outcome is not None:
        return Transition(session)
    return _pump(replace(session, unreported=_fit(details)), now_s=now_s)


def confirm(session: JobsClient, work: Work, *, now_s: float) -> Transition:
    """Is a job still wanted? The answer is ``Continue`` or ``Abandon``."""
    if not work.same(session.work):
        return Transition(session, (Abandon(work=work, reason="the job is over"),))
    return _pump(replace(session, look_wanted=True, confirming=True), now_s=now_s)


def report_end(session: JobsClient, work: Work, *, outcome: Outcome, now_s: float) -> Transition:
    """A job was carried out, or was not; one that was abandoned is not spoken of."""
    if not work.same(session.work):
        return Transition(session)
    told = replace(outcome, details=_fit(outcome.details))
    over = (*session.over, (work, told))[-_REMEMBERED:]
    return _pump(replace(session, outcome=told, unreported=None, over=over), now_s=now_s)


def advance_time(session: JobsClient, *, now_s: float) -> Transition:
    """Time passed: say again what was not answered, tell what waits, ask now and then."""
    pending = session.pending
    if pending is not None:
        limit_s = min(ANSWER_S * pending.tries, LONGEST_ANSWER_S)
        if now_s - pending.sent_s < limit_s:
            return Transition(session)
        again = replace(pending, sent_s=now_s, tries=pending.tries + 1)
        return Transition(
            replace(session, pending=again),
            (JobMessage(topic=again.topic, payload=again.payload),),
        )
    if session.work is None and now_s - session.polled_s >= POLL_S:
        session = replace(session, list_wanted=True)
    return _pump(session, now_s=now_s)


# ---- what is asked next


def _pump(session: JobsClient, *, now_s: float) -> Transition:
    """Ask the most pressing thing, if nothing is under way."""
    if session.pending is not None:
        return Transition(session)
    if session.work is not None:
        return _pump_work(session, session.work, now_s=now_s)
    polled = replace(session, next_wanted=False, list_wanted=False, polled_s=now_s)
    if session.next_wanted:
        body = {"statusDetails": {"step": "accepted"}, "stepTimeoutInMinutes": STEP_MINUTES}
        return _ask(polled, "next", what="start-next", body=body, now_s=now_s)
    if session.list_wanted:
        return _ask(polled, "list", what="get", body={}, now_s=now_s)
    return Transition(session)


def _pump_work(session: JobsClient, work: Work, *, now_s: float) -> Transition:
    told = session.outcome
    if told is not None:
        body = _update(work, status=told.status, details=told.details)
        return _ask(session, "end", what=f"{work.job_id}/update", body=body, now_s=now_s)
    if session.look_wanted:
        body = {"executionNumber": work.number, "includeJobDocument": False}
        return _ask(session, "look", what=f"{work.job_id}/get", body=body, now_s=now_s)
    if session.unreported is not None and now_s - session.reported_s >= PROGRESS_S:
        body = _update(work, status=ExecutionStatus.IN_PROGRESS, details=session.unreported)
        body["stepTimeoutInMinutes"] = STEP_MINUTES
        session = replace(session, unreported=None, reported_s=now_s)
        return _ask(session, "tell", what=f"{work.job_id}/update", body=body, now_s=now_s)
    return Transition(session)


def _ask(session: JobsClient, kind: _Kind, *, what: str, body: Body, now_s: float) -> Transition:
    token = f"{session.prefix}-{session.count}"
    topic = f"{jobs_topic(session.thing)}/{what}"
    payload = encode({**body, "clientToken": token})
    pending = _PendingRequest(kind=kind, token=token, topic=topic, payload=payload, sent_s=now_s)
    after = replace(session, pending=pending, count=session.count + 1)
    return Transition(after, (JobMessage(topic=topic, payload=payload),))


def _update(work: Work, *, status: ExecutionStatus, details: Mapping[str, str]) -> dict[str, Any]:
    return {
        "status": status.value, "statusDetails": dict(details), "expectedVersion": work.version,
        "executionNumber": work.number, "includeJobExecutionState": True,
    }  # fmt: skip


# ---- what is heard


def _read_notification(session: JobsClient, body: Body) -> Transition:
    jobs = body.get("jobs")
    listed = [
        one.get("jobId")
        for found in (jobs.values() if isinstance(jobs, dict) else ())
        if isinstance(found, list)
        for one in found
        if isinstance(one, dict)
    ]
    if session.work is None:
        return Transition(replace(session, next_wanted=session.next_wanted or bool(listed)))
    gone = session.work.job_id not in listed
    return Transition(replace(session, look_wanted=session.look_wanted or gone))


def _next_changed(session: JobsClient, body: Body) -> Transition:
    execution = body.get("execution")
    head = execution.get("jobId") if isinstance(execution, dict) else None
    if session.work is None:
        return Transition(replace(session, next_wanted=session.next_wanted or head is not None))
    return Transition(
        replace(session, look_wanted=session.look_wanted or head != session.work.job_id)
    )


def _read_reply(session: JobsClient, body: Body, *, topic: str, now_s: float) -> Transition:
    pending = session.pending
    if pending is None or body.get("clientToken") != pending.token:
        return Transition(session)
    if topic == f"{pending.topic}/rejected":
        return _read_rejection(session, body, now_s=now_s)
    if topic == f"{pending.topic}/accepted":
        return _accepted(replace(session, pending=None), body, kind=pending.kind)
    return Transition(session)


def _accepted(free: JobsClient, body: Body, *, kind: _Kind) -> Transition:
    match kind:
        case "list":
            listed = bool(body.get("inProgressJobs")) or bool(body.get("queuedJobs"))
            return Transition(replace(free, next_wanted=listed))
        case "next":
            return _start_given(free, body)
        case "look":
            return _read_state(free, body)
        case "tell" | "end":
            return _read_update_reply(free, body, final=kind == "end")


def _start_given(session: JobsClient, body: Body) -> Transition:
    execution = body.get("execution")
    work = _work_of(execution, thing=session.thing) if isinstance(execution, dict) else None
    if work is None:
        return Transition(session)
    for done, outcome in session.over:
        if work.same(done):
            return Transition(replace(session, work=work, outcome=outcome))
    return Transition(
        replace(session, work=work, outcome=None, unreported=None), (Begin(work=work),)
    )


def _read_state(session: JobsClient, body: Body) -> Transition:
    work = session.work
    execution = body.get("execution")
    if work is None or not isinstance(execution, dict):
        return Transition(session)
    return _settle(session, work, state=execution)


def _settle(session: JobsClient, work: Work, *, state: Body) -> Transition:
    """Continue the job under way or leave it, by the state that the service reports."""
    if state.get("status") != ExecutionStatus.IN_PROGRESS.value:
        return _abandon(session, work, reason=f"the job is {str(state.get('status'))[:40]}")
    version = _count(state.get("versionNumber"), instead=work.version)
    known = replace(work, version=version)
    steps = (Continue(work=known),) if session.confirming else ()
    return Transition(replace(session, work=known, look_wanted=False, confirming=False), steps)


def _read_update_reply(session: JobsClient, body: Body, *, final: bool) -> Transition:
    if final:
        return Transition(replace(_idle(session), next_wanted=True))
    work = session.work
    if work is None:
        return Transition(session)
    state = body.get("executionState")
    told = state.get("versionNumber") if isinstance(state, dict) else None
    version = _count(told, instead=work.version + 1)
    return Transition(replace(session, work=replace(work, version=version)))


def _read_rejection(session: JobsClient, body: Body, *, now_s: float) -> Transition:
    """Handle a rejection; ``advance_time`` repeats a request that is worth another try."""
    code, state = body.get("code"), body.get("executionState")
    if code in ("InternalError", "RequestThrottled"):
        assert session.pending is not None  # noqa: S101  this is its answer
        return Transition(replace(session, pending=replace(session.pending, sent_s=now_s)))
    free, work = replace(session, pending=None), session.work
    if work is None:
        return Transition(free)
    if code == "VersionMismatch" and isinstance(state, dict):
        return _settle(free, work, state=state)
    return _abandon(free, work, reason=f"{code}: {str(body.get('message'))[:200]}")


def _abandon(session: JobsClient, work: Work, *, reason: str) -> Transition:
    """Nothing more is said of this job. Its end may be what was asked for, told twice."""
    after = replace(_idle(session), next_wanted=True)
    return Transition(
        after, () if session.outcome is not None else (Abandon(work=work, reason=reason),)
    )


def _idle(session: JobsClient) -> JobsClient:
    return replace(
        session, work=None, outcome=None, unreported=None, look_wanted=False, confirming=False
    )  # fmt: skip


# ---- reading


def _read(payload: bytes) -> Body | None:
    """The JSON object of a message; None where it is none."""
    if len(payload) > _MOST_BYTES:
        return None
    try:
        body = decode_json(payload, where="message")
    except (InvalidError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _work_of(execution: Body, *, thing: str) -> Work | None:
    """The job that was handed out; None where it is none of this device."""
    job_id, document = execution.get("jobId"), execution.get("jobDocument")
    if execution.get("thingName", thing) != thing or not is_job_id(job_id):
        return None
    return Work(
        job_id=str(job_id),
        number=_count(execution.get("executionNumber"), instead=1),
        version=_count(execution.get("versionNumber"), instead=1),
        document=document if isinstance(document, dict) else {},
    )


def _count(value: object, *, instead: int) -> int:
    good = isinstance(value, int) and not isinstance(value, bool) and 1 <= value < _MOST_COUNT
    return int(value) if good else instead  # type: ignore[call-overload]  # it is an int


def _fit(details: Mapping[str, str]) -> dict[str, str]:
    """As the contract takes them: 1 to 1,024 printable characters."""
    fitted = {key: "".join(filter(str.isprintable, value)) for key, value in details.items()}
    return {key: value[:_LONGEST_DETAIL] or "-" for key, value in fitted.items()}
