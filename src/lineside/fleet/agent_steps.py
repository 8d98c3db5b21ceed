"""A device's talk with the job service: messages in, steps out. Pure.

Rules:

1. One request is under way at a time, with a token of its own; an answer with another token is
   somebody else's. A request that is not answered is said again.
2. The next job is asked for when the device joins the bus, when it hears of one, after each job,
   and now and then. ``start-next`` gives back a job that was in progress, so what a restart
   interrupted is taken up.
3. Every update names the version it expects. Where another one stands, the state that comes with
   the refusal decides: still in progress, and the update is said again; over, and the work is left.
4. Progress is told at most every ``PROGRESS_S``, the newest only, and renews the step timer.
5. A job is looked at again before its package comes into use, and when a notification no longer
   names it: what was cancelled, deleted or timed out meanwhile is left.
6. A job that was ended and is handed out once more is told its end again, not done again.
7. A message of another thing's topic, or one that is not as documented, changes nothing.

Source: AWS IoT developer guide, "Jobs device MQTT API" and "Devices and jobs".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from lineside.core import InvalidError, decode_json, encode
from lineside.fleet.contract import ExecutionStatus
from lineside.fleet.jobs.names import is_job_id, jobs_topic, place_of

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
        """Whether it is the same try of the same job."""
        return other is not None and (self.job_id, self.number) == (other.job_id, other.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a job ended: SUCCEEDED, FAILED or REJECTED, with details as text by text."""

    status: ExecutionStatus
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """Publish, at least once."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Start to carry a job out."""

    work: Work


@dataclass(frozen=True, slots=True, kw_only=True)
class GoOn:
    """The job is still wanted: its package may come into use."""

    work: Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandon:
    """The job is no longer wanted; nothing more is told of it."""

    work: Work
    reason: str


Step = Say | Begin | GoOn | Abandon


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    """A request under way."""

    kind: _Kind
    token: str
    topic: str
    payload: bytes
    said_s: float
    tries: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """Where the talk stands; made with a name and a prefix that no earlier start used.

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
    asked: _Ask | None = None
    next_wanted: bool = False
    list_wanted: bool = False
    look_wanted: bool = False
    confirming: bool = False
    news: Mapping[str, str] | None = None
    outcome: Outcome | None = None
    told_s: float = 0.0
    polled_s: float = 0.0
    over: tuple[tuple[Work, Outcome], ...] = ()
    count: int = 0


class Turn(NamedTuple):
    """The talk afterwards, and what is to be done now, in order."""

    talk: Talk
    steps: tuple[Step, ...] = ()


def subscriptions(thing: str) -> tuple[str, ...]:
    """What the device listens to; a broker need not hand out answers unasked."""
    topic = jobs_topic(thing)
    levels = ("get/+", "start-next/+", "+/get/+", "+/update/+", "notify", "notify-next")
    return tuple(f"{topic}/{each}" for each in levels)


# ---- what happens


def joined(talk: Talk, *, now_s: float) -> Turn:
    """The bus is there, for the first time or again: what was asked may be lost."""
    idle = talk.work is None
    talk = replace(talk, asked=None, next_wanted=idle, look_wanted=not idle)
    return _pump(talk, now_s=now_s)


def heard(talk: Talk, topic: str, *, payload: bytes, now_s: float) -> Turn:
    """A message came."""
    place = place_of(topic)
    body = _read(payload)
    if place is None or place.thing != talk.thing or body is None:
        return Turn(talk)
    match place.levels:
        case ("notify",):
            turn = _notified(talk, body)
        case ("notify-next",):
            turn = _next_changed(talk, body)
        case (*_, "accepted" | "rejected"):
            turn = _answered(talk, body, topic=topic, now_s=now_s)
        case _:
            return Turn(talk)
    return _then_pump(turn, now_s=now_s)


def progressed(talk: Talk, details: Mapping[str, str], *, now_s: float) -> Turn:
    """The job under way came further."""
    if talk.work is None or talk.outcome is not None:
        return Turn(talk)
    return _pump(replace(talk, news=_fit(details)), now_s=now_s)


def confirm(talk: Talk, work: Work, *, now_s: float) -> Turn:
    """Is a job still wanted? The answer is ``GoOn`` or ``Abandon``."""
    if not work.same(talk.work):
        return Turn(talk, (Abandon(work=work, reason="the job is over"),))
    return _pump(replace(talk, look_wanted=True, confirming=True), now_s=now_s)


def ended(talk: Talk, work: Work, *, outcome: Outcome, now_s: float) -> Turn:
    """A job was carried out, or was not; one that was abandoned is not spoken of."""
    if not work.same(talk.work):
        return Turn(talk)
    told = replace(outcome, details=_fit(outcome.details))
    over = (*talk.over, (work, told))[-_REMEMBERED:]
    return _pump(replace(talk, outcome=told, news=None, over=over), now_s=now_s)


def ticked(talk: Talk, *, now_s: float) -> Turn:
    """Time passed: say again what was not answered, tell what waits, ask now and then."""
    asked = talk.asked
    if asked is not None:
        patience_s = min(ANSWER_S * asked.tries, LONGEST_ANSWER_S)
        if now_s - asked.said_s < patience_s:
            return Turn(talk)
        again = replace(asked, said_s=now_s, tries=asked.tries + 1)
        return Turn(replace(talk, asked=again), (Say(topic=again.topic, payload=again.payload),))
    if talk.work is None and now_s - talk.polled_s >= POLL_S:
        talk = replace(talk, list_wanted=True)
    return _pump(talk, now_s=now_s)


# ---- what is asked next


def _then_pump(turn: Turn, *, now_s: float) -> Turn:
    after = _pump(turn.talk, now_s=now_s)
    return Turn(after.talk, (*turn.steps, *after.steps))


def _pump(talk: Talk, *, now_s: float) -> Turn:
    """Ask the most pressing thing, if nothing is under way."""
    if talk.asked is not None:
        return Turn(talk)
    if talk.work is not None:
        return _pump_work(talk, talk.work, now_s=now_s)
    polled = replace(talk, next_wanted=False, list_wanted=False, polled_s=now_s)
    if talk.next_wanted:
        body = {"statusDetails": {"step": "accepted"}, "stepTimeoutInMinutes": STEP_MINUTES}
        return _ask(polled, "next", what="start-next", body=body, now_s=now_s)
    if talk.list_wanted:
        return _ask(polled, "list", what="get", body={}, now_s=now_s)
    return Turn(talk)


def _pump_work(talk: Talk, work: Work, *, now_s: float) -> Turn:
    told = talk.outcome
    if told is not None:
        body = _update(work, status=told.status, details=told.details)
        return _ask(talk, "end", what=f"{work.job_id}/update", body=body, now_s=now_s)
    if talk.look_wanted:
        body = {"executionNumber": work.number, "includeJobDocument": False}
        return _ask(talk, "look", what=f"{work.job_id}/get", body=body, now_s=now_s)
    if talk.news is not None and now_s - talk.told_s >= PROGRESS_S:
        body = _update(work, status=ExecutionStatus.IN_PROGRESS, details=talk.news)
        body["stepTimeoutInMinutes"] = STEP_MINUTES
        talk = replace(talk, news=None, told_s=now_s)
        return _ask(talk, "tell", what=f"{work.job_id}/update", body=body, now_s=now_s)
    return Turn(talk)


def _ask(talk: Talk, kind: _Kind, *, what: str, body: Body, now_s: float) -> Turn:
    token = f"{talk.prefix}-{talk.count}"
    topic = f"{jobs_topic(talk.thing)}/{what}"
    payload = encode({**body, "clientToken": token})
    asked = _Ask(kind=kind, token=token, topic=topic, payload=payload, said_s=now_s)
    after = replace(talk, asked=asked, count=talk.count + 1)
    return Turn(after, (Say(topic=topic, payload=payload),))


def _update(work: Work, *, status: ExecutionStatus, details: Mapping[str, str]) -> dict[str, Any]:
    return {
        "status": status.value, "statusDetails": dict(details), "expectedVersion": work.version,
        "executionNumber": work.number, "includeJobExecutionState": True,
    }  # fmt: skip


# ---- what is heard


def _notified(talk: Talk, body: Body) -> Turn:
    jobs = body.get("jobs")
    listed = [
        one.get("jobId")
        for found in (jobs.values() if isinstance(jobs, dict) else ())
        if isinstance(found, list)
        for one in found
        if isinstance(one, dict)
    ]
    if talk.work is None:
        return Turn(replace(talk, next_wanted=talk.next_wanted or bool(listed)))
    gone = talk.work.job_id not in listed
    return Turn(replace(talk, look_wanted=talk.look_wanted or gone))


def _next_changed(talk: Talk, body: Body) -> Turn:
    execution = body.get("execution")
    head = execution.get("jobId") if isinstance(execution, dict) else None
    if talk.work is None:
        return Turn(replace(talk, next_wanted=talk.next_wanted or head is not None))
    return Turn(replace(talk, look_wanted=talk.look_wanted or head != talk.work.job_id))


def _answered(talk: Talk, body: Body, *, topic: str, now_s: float) -> Turn:
    asked = talk.asked
    if asked is None or body.get("clientToken") != asked.token:
        return Turn(talk)
    if topic == f"{asked.topic}/rejected":
        return _rejected(talk, body, now_s=now_s)
    if topic == f"{asked.topic}/accepted":
        return _accepted(replace(talk, asked=None), body, kind=asked.kind)
    return Turn(talk)


def _accepted(free: Talk, body: Body, *, kind: _Kind) -> Turn:
    match kind:
        case "list":
            listed = bool(body.get("inProgressJobs")) or bool(body.get("queuedJobs"))
            return Turn(replace(free, next_wanted=listed))
        case "next":
            return _given(free, body)
        case "look":
            return _looked(free, body)
        case "tell" | "end":
            return _taken(free, body, final=kind == "end")


def _given(talk: Talk, body: Body) -> Turn:
    execution = body.get("execution")
    work = _work_of(execution, thing=talk.thing) if isinstance(execution, dict) else None
    if work is None:
        return Turn(talk)
    for done, outcome in talk.over:
        if work.same(done):
            return Turn(replace(talk, work=work, outcome=outcome))
    return Turn(replace(talk, work=work, outcome=None, news=None), (Begin(work=work),))


def _looked(talk: Talk, body: Body) -> Turn:
    work = talk.work
    execution = body.get("execution")
    if work is None or not isinstance(execution, dict):
        return Turn(talk)
    return _judged(talk, work, state=execution)


def _judged(talk: Talk, work: Work, *, state: Body) -> Turn:
    """What the service says of the job under way: it goes on, or it is left."""
    if state.get("status") != ExecutionStatus.IN_PROGRESS.value:
        return _left(talk, work, reason=f"the job is {str(state.get('status'))[:40]}")
    version = _count(state.get("versionNumber"), instead=work.version)
    known = replace(work, version=version)
    steps = (GoOn(work=known),) if talk.confirming else ()
    return Turn(replace(talk, work=known, look_wanted=False, confirming=False), steps)


def _taken(talk: Talk, body: Body, *, final: bool) -> Turn:
    if final:
        return Turn(replace(_idle(talk), next_wanted=True))
    work = talk.work
    if work is None:
        return Turn(talk)
    state = body.get("executionState")
    told = state.get("versionNumber") if isinstance(state, dict) else None
    version = _count(told, instead=work.version + 1)
    return Turn(replace(talk, work=replace(work, version=version)))


def _rejected(talk: Talk, body: Body, *, now_s: float) -> Turn:
    """Another answer than the good one; what is worth another try is said again by ``ticked``."""
    code, state = body.get("code"), body.get("executionState")
    if code in ("InternalError", "RequestThrottled"):
        assert talk.asked is not None  # noqa: S101  this is its answer
        return Turn(replace(talk, asked=replace(talk.asked, said_s=now_s)))
    free, work = replace(talk, asked=None), talk.work
    if work is None:
        return Turn(free)
    if code == "VersionMismatch" and isinstance(state, dict):
        return _judged(free, work, state=state)
    return _left(free, work, reason=f"{code}: {str(body.get('message'))[:200]}")


def _left(talk: Talk, work: Work, *, reason: str) -> Turn:
    """Nothing more is said of this job. Its end may be what was asked for, told twice."""
    after = replace(_idle(talk), next_wanted=True)
    return Turn(after, () if talk.outcome is not None else (Abandon(work=work, reason=reason),))


def _idle(talk: Talk) -> Talk:
    return replace(
        talk, work=None, outcome=None, news=None, look_wanted=False, confirming=False
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
