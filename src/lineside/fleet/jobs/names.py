"""Names of the job contract: topics, job ids, things, groups, and how much of each is allowed.

Sources: AWS IoT developer guide, "Jobs MQTT API"; API reference of ``CreateJob`` and
``UpdateJobExecution`` for the limits.
"""

import re
from dataclasses import dataclass

from lineside.core import InvalidError

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
