"""Settings of a job: rollout, abort, retry, time-out, schedule, presigned links.

Limits are those of the API reference of ``CreateJob``. Keys are the contract's (camel case);
faults name them so.

1. A maintenance window is a cron expression of six parts in UTC, ``cron(minutes hours day-of-month
   month day-of-week year)``; each part is ``*``, ``?``, a number, a name (``JAN``, ``MON``), a
   range ``a-b``, a list ``a,b`` or a step ``a/n``. Sunday is 1; ``L``, ``W`` and ``#`` are refused.
   Source: AWS IoT developer guide, "Job scheduling".
2. ``${aws:iot:s3-presigned-url:<object>}`` in a document (also ``s3-presigned-url-v2``) becomes a
   short-lived link to a URL or ``bucket/key``. It is checked when the job is made, so that a device
   never waits for a link that nobody can make, and made each time a device gets the document.
   Source: AWS IoT developer guide, "Managing jobs", "Presigned URLs".

Rollout rate, abort criteria and retries:

3. A minute begins when the first thing is told in it; within a minute at most the rate is told.
4. The exponential rate is fixed when a minute begins: base x factor^k, k = things counted / n,
   and never above ``maximumPerMinute``.
5. Executed things are those whose last try ended as SUCCEEDED, FAILED, REJECTED or TIMED_OUT; a
   thing that tries again is not executed yet. (That the percentage is of these is deduced.)
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

from lineside.core import InvalidError, LinesideError, decode
from lineside.core.codec import refuse, unless
from lineside.fleet.contract import ExecutionStatus
from lineside.fleet.jobs.executions import Run

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_PARTS = (
    ("minutes", 0, 59, ()), ("hours", 0, 23, ()), ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS), ("day of week", 1, 7, _DAYS), ("year", 1970, 2199, ()),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """The numbers that each part allows, in the order of the expression."""

    parts: tuple[frozenset[int], ...]

    def starts_at(self, moment: datetime) -> bool:
        """Return whether a window opens in this minute."""
        minutes, hours, *_ = self.parts
        return moment.minute in minutes and moment.hour in hours and self.on_day(moment)

    def on_day(self, moment: datetime) -> bool:
        """Return whether a window opens some time on this day."""
        _, _, days, months, weekdays, years = self.parts
        return (
            moment.day in days
            and moment.month in months
            and moment.isoweekday() % 7 + 1 in weekdays
            and moment.year in years
        )


def parse_cron(text: str) -> Cron:
    """Read an expression, with ``cron(…)`` around it or without.

    Raises:
        InvalidError: it is none.
    """
    bare = text.removeprefix("cron(").removesuffix(")") if text.startswith("cron(") else text
    parts = bare.split()
    if len(parts) != len(_PARTS):
        raise _cron_error(text, f"{len(_PARTS)} parts are needed, there are {len(parts)}")
    return Cron(
        parts=tuple(
            frozenset(
                number
                for item in part.upper().split(",")
                for number in _numbers(item, row, text=text)
            )
            for part, row in zip(parts, _PARTS, strict=True)
        )
    )


def open_since(cron: Cron, *, minutes: int, now: datetime) -> datetime | None:
    """Return the time at which the present window opened, the latest; None: it is closed."""
    minute = now.replace(second=0, microsecond=0)
    for back in range(minutes + 1):
        moment = minute - timedelta(minutes=back)
        if moment + timedelta(minutes=minutes) > now and cron.starts_at(moment):
            return moment
    return None


def _numbers(item: str, row: tuple[str, int, int, tuple[str, ...]], *, text: str) -> range:
    name, low, high, names = row
    span, _, step = item.partition("/")
    if span in ("*", "?"):
        first, last = low, high
    else:
        start, dash, end = span.partition("-")
        first = _cron_number(start, names, text=text, name=name)
        last = _cron_number(end, names, text=text, name=name) if dash else first
        last = high if step and not dash else last
    width = _cron_number(step, (), text=text, name=name) if step else 1
    if not low <= first <= last <= high or width < 1:
        raise _cron_error(text, f"{item!r} is out of range for {name} ({low} to {high})")
    return range(first, last + 1, width)


def _cron_number(text_of: str, names: tuple[str, ...], *, text: str, name: str) -> int:
    if text_of in names:
        return names.index(text_of) + 1
    if not text_of.isascii() or not text_of.isdigit() or len(text_of) > 4:
        raise _cron_error(text, f"{text_of[:20]!r} is no {name}")
    return int(text_of)


def _cron_error(text: str, why: str) -> InvalidError:
    return InvalidError(
        f"{text[:60]!r} is no cron expression: {why}", where="startTime",
        fix="Write cron(0 22 ? * MON-FRI *).",
    )  # fmt: skip


MOST_PER_MINUTE = 1_000
MOST_RETRIES = 10
_MOST_MINUTES = 10_080
_MOST_WINDOW_MINUTES = 1_430
_LEAST_SPAN = timedelta(minutes=30)
_CAMEL = re.compile(r"(?<=[a-z0-9])([A-Z])")
_SNAKE = re.compile(r"(?<=[a-z0-9])_([a-z0-9])")

Failure = Literal["FAILED", "REJECTED", "TIMED_OUT", "ALL"]
FAILURE_WORDS: Mapping[Failure, str] = {
    "FAILED": "failed", "REJECTED": "rejected it", "TIMED_OUT": "timed out",
    "ALL": "failed, rejected it or timed out",
}  # fmt: skip


def _within(value: float, name: str, *, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidError(
            f"{value:g} is out of range", where=name, fix=f"Choose {low:g} to {high:g}."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RateIncrease:
    """After how many things the rate rises; exactly one of the two is set."""

    number_of_notified_things: int | None = None
    number_of_succeeded_things: int | None = None

    def __post_init__(self) -> None:
        given = [
            count
            for count in (self.number_of_notified_things, self.number_of_succeeded_things)
            if count is not None
        ]
        if len(given) != 1 or given[0] < 1:
            raise InvalidError(
                "not one count", fix="Give numberOfNotifiedThings or numberOfSucceededThings."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExponentialRate:
    """A rate that rises by a factor."""

    base_rate_per_minute: int
    increment_factor: float
    rate_increase_criteria: RateIncrease

    def __post_init__(self) -> None:
        _within(self.base_rate_per_minute, "baseRatePerMinute", low=1, high=MOST_PER_MINUTE)
        _within(self.increment_factor, "incrementFactor", low=1.1, high=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Rate of a rollout in things per minute."""

    maximum_per_minute: int = MOST_PER_MINUTE
    exponential_rate: ExponentialRate | None = None

    def __post_init__(self) -> None:
        _within(self.maximum_per_minute, "maximumPerMinute", low=1, high=MOST_PER_MINUTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortCriterion:
    """Criteria on which a job cancels itself."""

    failure_type: Failure
    threshold_percentage: float
    min_number_of_executed_things: int
    action: Literal["CANCEL"] = "CANCEL"

    def __post_init__(self) -> None:
        # As a rollout's plan writes them; ``read_settings`` says the contract's names.
        refuse(
            self,
            *(
                unless(
                    low <= getattr(self, name) <= high, key=name, value=getattr(self, name),
                    expected=f"a number from {low:g} to {high:g}", fix=f"Write {usual}, say.",
                )
                for name, low, high, usual in (
                    ("threshold_percentage", 0.01, 100, 10),
                    ("min_number_of_executed_things", 1, 1e9, 1),
                )
            ),
        )  # fmt: skip

    @property
    def words(self) -> str:
        """The criterion as text, to follow "once"."""
        return (
            f"{self.threshold_percentage:g} % of the devices that ended their job, "
            f"{self.min_number_of_executed_things} or more, {FAILURE_WORDS[self.failure_type]}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """Any of these."""

    criteria_list: tuple[AbortCriterion, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryCriterion:
    """Number of retries of a thing."""

    failure_type: Literal["FAILED", "TIMED_OUT", "ALL"]
    number_of_retries: int

    def __post_init__(self) -> None:
        _within(self.number_of_retries, "numberOfRetries", low=0, high=MOST_RETRIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Each failure at most once, ten retries in all; ``REJECTED`` is never tried again."""

    criteria_list: tuple[RetryCriterion, ...] = ()

    def __post_init__(self) -> None:
        kinds = [one.failure_type for one in self.criteria_list]
        if len(set(kinds)) != len(kinds) or ("ALL" in kinds and len(kinds) > 1):
            raise InvalidError("a failure named twice", where="criteriaList", fix="Name it once.")
        if sum(one.number_of_retries for one in self.criteria_list) > MOST_RETRIES:
            raise InvalidError(
                f"more than {MOST_RETRIES} retries", where="criteriaList", fix="Ask for fewer."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeout:
    """The in-progress timer."""

    in_progress_timeout_in_minutes: int | None = None

    def __post_init__(self) -> None:
        if self.in_progress_timeout_in_minutes is not None:
            _within(
                self.in_progress_timeout_in_minutes, "inProgressTimeoutInMinutes", low=1,
                high=_MOST_MINUTES,
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PresignedUrl:
    """Lifetime of a link; ``role_arn`` is accepted from AWS' clients and has no meaning here."""

    expires_in_sec: int = 3_600
    role_arn: str = ""

    def __post_init__(self) -> None:
        _within(self.expires_in_sec, "expiresInSec", low=60, high=3_600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A maintenance window: a six-part cron expression (UTC) and its length."""

    start_time: str
    duration_in_minutes: int

    def __post_init__(self) -> None:
        parse_cron(self.start_time)
        _within(self.duration_in_minutes, "durationInMinutes", low=1, high=_MOST_WINDOW_MINUTES)

    @property
    def cron(self) -> Cron:
        """Return when it opens."""
        return parse_cron(self.start_time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Begin and end of a rollout, and its maintenance windows."""

    start_time: str = ""
    end_time: str = ""
    end_behavior: Literal["STOP_ROLLOUT", "CANCEL", "FORCE_CANCEL", ""] = ""
    maintenance_windows: tuple[Window, ...] = ()

    def __post_init__(self) -> None:
        starts_at, ends_at = self.starts_at, self.ends_at
        if self.end_behavior and ends_at is None:
            raise InvalidError("no end", where="endBehavior", fix="Give endTime as well.")
        if starts_at is not None and ends_at is not None and ends_at - starts_at < _LEAST_SPAN:
            raise InvalidError(
                "less than 30 minutes after the start", where="endTime", fix="Choose a later end."
            )

    @property
    def starts_at(self) -> datetime | None:
        """None: at once."""
        return _moment(self.start_time, where="startTime")

    @property
    def ends_at(self) -> datetime | None:
        """None: never."""
        return _moment(self.end_time, where="endTime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of a job's settings."""

    job_executions_rollout_config: Rollout = field(default_factory=Rollout)
    abort_config: Abort = field(default_factory=Abort)
    timeout_config: Timeout = field(default_factory=Timeout)
    job_executions_retry_config: Retry = field(default_factory=Retry)
    presigned_url_config: PresignedUrl = field(default_factory=PresignedUrl)
    scheduling_config: Schedule = field(default_factory=Schedule)


def read_settings(document: Mapping[str, object]) -> Settings:
    """The settings of a new job.

    Raises:
        InvalidError: unknown keys, or limits broken; every fault with its path.
    """
    try:
        return decode(Settings, _snake(document), where="job")
    except LinesideError as error:
        fix = _camel(error.fix)
        raise InvalidError(_camel(error.message), where="job", fix=fix) from error


def _snake(value: Any) -> Any:  # noqa: ANN401  any JSON
    if isinstance(value, Mapping):
        return {_CAMEL.sub(r"_\1", str(key)).lower(): _snake(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_snake(one) for one in value]
    return value


def _camel(text: str) -> str:
    return _SNAKE.sub(lambda found: found[1].upper(), text)


def _moment(text: str, *, where: str) -> datetime | None:
    """ISO 8601; without a zone it is UTC, as AWS' clients write it."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidError(
            f"{text[:40]!r} is no time", where=where, fix="Write 2026-05-01T22:00Z."
        ) from error
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


MOST_LINKS = 32
_MOST_DEPTH = 64
_BEGINS = "${aws:iot:s3-presigned-url"
_PLACEHOLDER = re.compile(r"\$\{aws:iot:s3-presigned-url(?:-v2)?:([^}\s]+)\}")


class ObjectLinks(Protocol):
    """Short-lived links to objects; safe from several threads."""

    def check(self, url: str) -> None:
        """``InvalidError`` where no link can be made to this object."""
        ...

    def link(self, url: str, *, seconds: int) -> str:
        """A link that works for so long, to an object that was checked before; never raises."""
        ...


def asks_for_links(document: object) -> bool:
    """Return whether a link is to be made when a device gets the document."""
    return any(_BEGINS in text for text, _ in _texts_of(document))


def check_links(document: object, links: ObjectLinks | None) -> None:
    """``InvalidError`` for placeholders that cannot be replaced."""
    wanted: dict[str, None] = {}
    for text, depth in _texts_of(document):
        found = _PLACEHOLDER.findall(text)
        if text.count(_BEGINS) != len(found):
            raise _link_error(
                "a placeholder without an object",
                fix="Write ${aws:iot:s3-presigned-url:https://s3.region.amazonaws.com/bucket/key}.",
            )
        if found and depth > _MOST_DEPTH:
            raise _link_error("a placeholder too deep inside", fix="Move it further out.")
        wanted |= dict.fromkeys(found)
    if len(wanted) > MOST_LINKS:
        raise _link_error(f"{len(wanted)} presigned links", fix=f"Ask for at most {MOST_LINKS}.")
    for url in wanted:
        if links is None:
            raise _link_error(
                "the document asks for presigned links, and no store here makes them",
                fix="Name the object by a URL that the device may read.",
            )
        links.check(url)


def with_links(document: Any, links: ObjectLinks, *, seconds: int) -> Any:  # noqa: ANN401  any JSON
    """The document, which was checked, with every placeholder replaced; keys stay as they are."""
    match document:
        case str():
            return _PLACEHOLDER.sub(lambda found: links.link(found[1], seconds=seconds), document)
        case Mapping() | list() | tuple() if not asks_for_links(document):
            return document
        case Mapping():
            return {
                key: with_links(value, links, seconds=seconds) for key, value in document.items()
            }
        case list() | tuple():
            return [with_links(value, links, seconds=seconds) for value in document]
        case _:
            return document


def _texts_of(document: object) -> Iterator[tuple[str, int]]:
    """Every text that is a value, with how deep inside it stands."""
    waiting: list[tuple[object, int]] = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        match value:
            case str():
                yield value, depth
            case Mapping():
                waiting += [(inner, depth + 1) for inner in value.values()]
            case list() | tuple():
                waiting += [(inner, depth + 1) for inner in value]
            case _:
                pass


def _link_error(message: str, *, fix: str) -> InvalidError:
    return InvalidError(message, where="document", fix=fix)


MINUTE = timedelta(minutes=1)
_EXECUTED = ("SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT")
_FAILURES = ("FAILED", "REJECTED", "TIMED_OUT")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCounters:
    """Counts of a job's executions by status, and how far its rollout is.

    Attributes:
        counts: things by the state of their last try.
        waiting: things that were not told yet.
        notified: things told so far.
        minute_at, minute_rate, minute_used: of the minute under way.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0
    notified: int = 0
    minute_at: datetime | None = None
    minute_rate: int = 0
    minute_used: int = 0

    def count(self, status: str) -> int:
        """Things in this state."""
        return self.counts.get(status, 0)

    @property
    def pending(self) -> int:
        """Things that have still to do something."""
        return self.count("QUEUED") + self.count("IN_PROGRESS")

    def shifted(
        self, before: ExecutionStatus | None, after: ExecutionStatus | None
    ) -> "JobCounters":
        """With a thing moved from one state to another; None: not among the job's things."""
        counts = dict(self.counts)
        if before is not None:
            counts[before.value] = counts.get(before.value, 0) - 1
        if after is not None:
            counts[after.value] = counts.get(after.value, 0) + 1
        return replace(self, counts={key: count for key, count in counts.items() if count})


def rate_of(rollout: Rollout, counters: JobCounters) -> int:
    """Things a minute, for a minute that begins now."""
    rising = rollout.exponential_rate
    if rising is None:
        return rollout.maximum_per_minute
    needed = rising.rate_increase_criteria
    if needed.number_of_notified_things is not None:
        raises = counters.notified // needed.number_of_notified_things
    else:
        raises = counters.count("SUCCEEDED") // (needed.number_of_succeeded_things or 1)
    rate, most = float(rising.base_rate_per_minute), rollout.maximum_per_minute
    for _ in range(raises):
        if rate >= most:
            break
        rate *= rising.increment_factor
    return max(1, min(most, int(rate)))


def in_minute(rollout: Rollout, counters: JobCounters, *, now: datetime) -> JobCounters:
    """The tally in the minute that is under way, a new one where the last is over."""
    if counters.minute_at is not None and now < counters.minute_at + MINUTE:
        return counters
    return replace(counters, minute_at=now, minute_rate=rate_of(rollout, counters), minute_used=0)


def count_notified(counters: JobCounters, count: int) -> JobCounters:
    """After so many more things were told."""
    return replace(
        counters,
        waiting=counters.waiting - count,
        notified=counters.notified + count,
        minute_used=counters.minute_used + count,
    )


def is_open(schedule: Schedule, *, now: datetime) -> bool:
    """Return whether a rollout may go on now: inside a maintenance window, if there are any."""
    windows = schedule.maintenance_windows
    return not windows or any(
        open_since(window.cron, minutes=window.duration_in_minutes, now=now) for window in windows
    )


def tries_again(retry: Retry, run: Run) -> bool:
    """Return whether this failed try is followed by another."""
    for one in retry.criteria_list:
        if one.failure_type == "ALL" and run.status.value in ("FAILED", "TIMED_OUT"):
            return run.attempts < one.number_of_retries
        if one.failure_type == run.status.value:
            return run.retries.get(run.status.value, 0) < one.number_of_retries
    return False


def abort_reason(abort: Abort, counters: JobCounters) -> str:
    """The sentence of the first criterion that is met; empty: none is."""
    executed = sum(counters.count(name) for name in _EXECUTED)
    for one in abort.criteria_list:
        failed = _failed(one, counters)
        enough = executed >= one.min_number_of_executed_things
        if enough and failed and 100 * failed >= one.threshold_percentage * executed:
            return (
                f"{failed} of {executed} executed things {_named(one)}, "
                f"at least {one.threshold_percentage:g} %"
            )
    return ""


def _named(criterion: AbortCriterion) -> str:
    every = criterion.failure_type == "ALL"
    return "FAILED, REJECTED or TIMED_OUT" if every else criterion.failure_type


def _failed(criterion: AbortCriterion, counters: JobCounters) -> int:
    kinds = _FAILURES if criterion.failure_type == "ALL" else (criterion.failure_type,)
    return sum(counters.count(name) for name in kinds)
