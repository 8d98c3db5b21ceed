"""Requests of devices: topic and payload read into records, or refused with a code.

1. An empty payload is ``{}``; unknown fields are passed over, as the service of AWS does.
2. What is refused names the client token, if it can be read.
3. Source: AWS IoT developer guide, "Jobs device MQTT API"; codes from "ErrorResponse".

Topics, job ids, things and groups have the names of "Jobs MQTT API"; limits are those of the API
reference of ``CreateJob`` and ``UpdateJobExecution``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal, Required, TypedDict, get_args
from unicodedata import category

from msgspec import Meta

from lineside.core import ConflictError, InvalidError, LinesideError, decode_json
from lineside.fleet.contract import ExecutionStatus

NEXT = "$next"
MOST_DOCUMENT = 32_768
MOST_TEXT = 2_028
MOST_TARGETS = 10_000
MOST_DETAILS = 10
MOST_STEP_MINUTES = 10_080
MOST_PAYLOAD_BYTES = 131_072
GROUP = "group/"

_ROOT = "$aws/things/"
_JOB_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NAME = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
_REASON = re.compile(r"[A-Z0-9_]{1,128}")
_ARN = re.compile(r"arn:[^:]*:iot:[^:]*:[^:]*:(thing|thinggroup)/(.+)")
_ANSWERS = ("accepted", "rejected", "notify", "notify-next")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Parsed topic of the jobs namespace.

    Attributes:
        thing: whose topic.
        levels: what stands behind ``…/jobs/``.
    """

    topic: str
    thing: str
    levels: tuple[str, ...]

    @property
    def answers(self) -> bool:
        """Return whether it is an answer or notification: the service sends and never reads it."""
        return bool(self.levels) and self.levels[-1] in _ANSWERS


def place_of(topic: str) -> Place | None:
    """Whose topic it is; None outside the jobs namespace."""
    if not topic.startswith(_ROOT):
        return None
    thing, _, rest = topic.removeprefix(_ROOT).partition("/")
    name, _, tail = rest.partition("/")
    if name != "jobs" or not thing:
        return None
    return Place(topic=topic, thing=thing, levels=tuple(tail.split("/")) if tail else ())


def jobs_topic(thing: str) -> str:
    """``$aws/things/<thing>/jobs``."""
    return f"{_ROOT}{thing}/jobs"


def is_job_id(text: object) -> bool:
    """1 to 64 of letters, digits, ``_`` and ``-``."""
    return isinstance(text, str) and _JOB_ID.fullmatch(text) is not None


def is_name(text: object) -> bool:
    """Of a thing or group: 1 to 128 of letters, digits, ``:``, ``_`` and ``-``."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def check_job_id(text: str) -> str:
    """``InvalidError`` for an id that the contract does not know."""
    if not is_job_id(text):
        raise InvalidError(
            f"{text[:80]!r} is no job id", where="jobId", fix="Use 1 to 64 of a-z A-Z 0-9 _ -."
        )
    return text


def check_reason(text: str) -> str:
    """``InvalidError`` for a reason code that the contract does not know."""
    if text and not _REASON.fullmatch(text):
        raise InvalidError(
            f"{text[:80]!r} is no reason code", where="reasonCode",
            fix="Use 1 to 128 of A-Z 0-9 _.",
        )  # fmt: skip
    return text


def check_text(text: str, *, where: str) -> str:
    """``InvalidError`` for control characters, or more than 2,028 characters."""
    if len(text) > MOST_TEXT or not text.isprintable():
        raise InvalidError(
            "too long, or with control characters", where=where,
            fix=f"Write at most {MOST_TEXT} characters on one line.",
        )  # fmt: skip
    return text


def target_of(text: str) -> str:
    """A target as the service keeps it: a thing's name, or ``group/<name>``; ARNs are read.

    Raises:
        InvalidError: neither.
    """
    found = _ARN.fullmatch(text)
    kind, name = found.groups() if found else ("", text)
    if kind == "thinggroup":
        name = GROUP + name
    if not is_name(name.removeprefix(GROUP)) or (not found and text.startswith("arn:")):
        raise InvalidError(
            f"{text[:80]!r} is no target", where="targets",
            fix="Name a thing, group/<name>, or an ARN of either.",
        )  # fmt: skip
    return name


def arn_of(target: str) -> str:
    """A target, as AWS' clients read it."""
    kind = "thinggroup" if target.startswith(GROUP) else "thing"
    return f"arn:aws:iot:local:000000000000:{kind}/{target.removeprefix(GROUP)}"


def job_arn(job_id: str) -> str:
    """A job, as AWS' clients read it."""
    return f"arn:aws:iot:local:000000000000:job/{job_id}"


_MOST_TOKEN = 64
_MOST_KEY = 128
_MOST_VALUE = 1_024
_MOST_NUMBER = 2**53
CANCEL_STEP = -1

_NO_CONTROLS = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$"
_Reportable = Literal["IN_PROGRESS", "SUCCEEDED", "FAILED", "REJECTED"]
_Number = Annotated[int, Meta(ge=1, lt=_MOST_NUMBER)]
_Minutes = Annotated[int, Meta(ge=1, le=MOST_STEP_MINUTES)]
_NewMinutes = Annotated[
    int, Meta(ge=CANCEL_STEP, le=MOST_STEP_MINUTES, extra_json_schema={"not": {"const": 0}})
]
_Details = Annotated[
    dict[
        Annotated[str, Meta(pattern=f"^{_NAME.pattern}$")],
        Annotated[str, Meta(min_length=1, max_length=_MOST_VALUE, pattern=_NO_CONTROLS)],
    ],
    Meta(max_length=MOST_DETAILS),
]


class ListRequest(TypedDict, total=False):
    """Ask for open executions."""

    clientToken: Annotated[str, Meta(min_length=1, max_length=_MOST_TOKEN)] | None


class StartRequest(ListRequest, total=False):
    """Start the next job, or give the one in progress."""

    statusDetails: _Details | None
    stepTimeoutInMinutes: _Minutes | None


class DescribeRequest(ListRequest, total=False):
    """Describe an execution."""

    executionNumber: _Number | None
    includeJobDocument: bool | None


class UpdateRequest(ListRequest, total=False):
    """Report the state of an execution."""

    status: Required[_Reportable]
    statusDetails: _Details | None
    expectedVersion: _Number | None
    executionNumber: _Number | None
    includeJobExecutionState: bool | None
    includeJobDocument: bool | None
    stepTimeoutInMinutes: _NewMinutes | None


class ExecutionState(TypedDict):
    """State of an execution."""

    status: ExecutionStatus
    statusDetails: dict[str, str]
    versionNumber: int


class Code(StrEnum):
    """Why a request was rejected."""

    INVALID_TOPIC = "InvalidTopic"
    INVALID_JSON = "InvalidJson"
    INVALID_REQUEST = "InvalidRequest"
    INVALID_STATE_TRANSITION = "InvalidStateTransition"
    RESOURCE_NOT_FOUND = "ResourceNotFound"
    VERSION_MISMATCH = "VersionMismatch"
    INTERNAL_ERROR = "InternalError"
    REQUEST_THROTTLED = "RequestThrottled"
    TERMINAL_STATE_REACHED = "TerminalStateReached"


_STATUS = {
    Code.RESOURCE_NOT_FOUND: 404, Code.INVALID_STATE_TRANSITION: 409, Code.VERSION_MISMATCH: 409,
    Code.TERMINAL_STATE_REACHED: 410, Code.REQUEST_THROTTLED: 429, Code.INTERNAL_ERROR: 500,
}  # fmt: skip


class JobRejectedError(LinesideError):
    """A device's request that is refused; ``state`` is the execution's where the contract says."""

    title = "Rejected"

    def __init__(
        self, code: Code, message: str, *, token: str = "", state: ExecutionState | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.token = token
        self.state = state
        self.http_status = _STATUS.get(code, 400)


@dataclass(frozen=True, slots=True, kw_only=True)
class GetPending:
    """``get``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartNext:
    """``start-next``."""

    details: Mapping[str, str] = field(default_factory=dict)
    step_minutes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Describe:
    """``<jobId>/get``; the job id may be ``$next``."""

    job_id: str
    number: int | None = None
    with_document: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """``<jobId>/update``; ``details`` None: unchanged; ``step_minutes`` -1: no timer any more."""

    job_id: str
    status: ExecutionStatus
    details: Mapping[str, str] | None = None
    expected_version: int | None = None
    number: int | None = None
    with_state: bool = False
    with_document: bool = False
    step_minutes: int | None = None


Request = GetPending | StartNext | Describe | Update


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """A request with what its answer repeats."""

    thing: str
    request: Request
    token: str = ""


def read_request(place: Place, payload: bytes) -> JobRequest:
    """Return the request in a message.

    Raises:
        JobRejectedError: it asks for nothing that there is.
    """
    operation, job_id = _operation(place)
    body = read_body(payload)
    token = _token(body)
    try:
        request = read_fields(operation, body, job_id=job_id)
    except InvalidError as error:
        raise JobRejectedError(Code.INVALID_REQUEST, str(error), token=token) from error
    return JobRequest(thing=place.thing, request=request, token=token)


def read_body(payload: bytes) -> Mapping[str, Any]:
    """The JSON object of a payload; ``JobRejectedError`` where it is none."""
    if len(payload) > MOST_PAYLOAD_BYTES:
        raise JobRejectedError(Code.INVALID_REQUEST, f"more than {MOST_PAYLOAD_BYTES} bytes")
    if not payload:
        return {}
    try:
        body = decode_json(payload, where="payload")
    except InvalidError as error:
        raise JobRejectedError(Code.INVALID_JSON, str(error)) from error
    if not isinstance(body, dict):
        raise JobRejectedError(Code.INVALID_REQUEST, "the payload is no JSON object")
    return body


def read_fields(operation: str, body: Mapping[str, Any], *, job_id: str) -> Request:
    """The record of an operation: ``get``, ``start-next``, ``describe`` or ``update``.

    Raises:
        InvalidError: a field is not what it may be.
    """
    match operation:
        case "get":
            return GetPending()
        case "start-next":
            return StartNext(details=read_details(body) or {}, step_minutes=_step(body, low=1))
        case "describe":
            return Describe(
                job_id=job_id,
                number=_number(body, "executionNumber"),
                with_document=_flag(body, "includeJobDocument", default=True),
            )
        case _:
            return _update(body, job_id=job_id)


def _update(body: Mapping[str, Any], *, job_id: str) -> Update:
    return Update(
        job_id=job_id,
        status=_status(body),
        details=read_details(body),
        expected_version=_number(body, "expectedVersion"),
        number=_number(body, "executionNumber"),
        with_state=_flag(body, "includeJobExecutionState", default=False),
        with_document=_flag(body, "includeJobDocument", default=False),
        step_minutes=_step(body, low=CANCEL_STEP),
    )


def read_token(payload: bytes) -> str:
    """The client token of a request that is not looked at otherwise; empty: none can be read."""
    try:
        return _token(read_body(payload))
    except JobRejectedError:
        return ""


def _operation(place: Place) -> tuple[str, str]:
    if not is_name(place.thing):
        raise JobRejectedError(Code.INVALID_TOPIC, f"{place.thing[:80]!r} is no thing's name")
    match place.levels:
        case ("get" | "start-next" as operation,):
            return operation, ""
        case (job_id, "get") if job_id == NEXT or is_job_id(job_id):
            return "describe", job_id
        case (job_id, "update") if is_job_id(job_id):
            return "update", job_id
    raise JobRejectedError(
        Code.INVALID_TOPIC,
        f"{place.topic[:200]} is no operation; there are get, start-next, <jobId>/get and "
        "<jobId>/update",
    )


def _token(body: Mapping[str, Any]) -> str:
    token = body.get("clientToken")
    if token is None:
        return ""
    if not isinstance(token, str) or not 1 <= len(token) <= _MOST_TOKEN:
        raise JobRejectedError(
            Code.INVALID_REQUEST, f"clientToken is not text of 1 to {_MOST_TOKEN} characters"
        )
    return token


def _wrong(name: str, expected: str) -> InvalidError:
    return InvalidError(f"{name} is not {expected}", where=name)


def _number(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < _MOST_NUMBER:
        raise _wrong(name, "a whole number from 1")
    return value


def _flag(body: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise _wrong(name, "true or false")
    return default if value is None else value


def _step(body: Mapping[str, Any], *, low: int) -> int | None:
    name = "stepTimeoutInMinutes"
    value = body.get(name)
    if value is None:
        return None
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not low <= value <= MOST_STEP_MINUTES or value == 0:
        raise _wrong(name, f"a whole number of minutes from 1 to {MOST_STEP_MINUTES}")
    return int(value)


def _status(body: Mapping[str, Any]) -> ExecutionStatus:
    value = body.get("status")
    if not isinstance(value, str) or value not in get_args(_Reportable):
        raise _wrong("status", f"one of {', '.join(get_args(_Reportable))}")
    return ExecutionStatus(value)


def read_details(body: Mapping[str, Any]) -> dict[str, str] | None:
    """``statusDetails``; None where it was left out.

    Raises:
        InvalidError: not text by text, or beyond the limits.
    """
    details = body.get("statusDetails")
    if details is None:
        return None
    if not isinstance(details, dict) or len(details) > MOST_DETAILS:
        raise _wrong("statusDetails", f"an object of at most {MOST_DETAILS} entries")
    for key, value in details.items():
        if not is_name(key):
            raise _wrong("statusDetails", f"keyed by 1 to {_MOST_KEY} of a-z A-Z 0-9 : _ -")
        if not isinstance(value, str) or not 1 <= len(value) <= _MOST_VALUE or _has_control(value):
            raise _wrong(
                f"statusDetails.{key}",
                f"text of 1 to {_MOST_VALUE} characters, without controls but tabs and line ends",
            )
    return dict(details)


def _has_control(text: str) -> bool:
    """Controls, formats, surrogates, private and unassigned: all that the contract leaves out.

    Tabs and line ends are taken: devices report the texts of exceptions, and a job of which the
    report is refused never ends.
    """
    return any(category(letter).startswith("C") for letter in text if letter not in "\t\n\r")


class JobThereError(ConflictError):
    """The job id is taken by another job."""


class JobTransitionError(ConflictError):
    """The state forbids it."""


class JobVersionError(ConflictError):
    """The execution is at another version than expected."""
