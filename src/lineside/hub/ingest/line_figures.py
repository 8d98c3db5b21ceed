"""Figures of lines, kept from verdicts as the log grows: parts by verdict and reason.

Rules:

1. A verdict counts once, in the five minutes in which its part's newest image was captured. One
   document holds an hour of a line and the log position of the last verdict in it: what comes
   again after a restart is not counted again, and two hubs never write one version.
2. A verdict counts for one reason, the first, without its figures (``vision.reason_group``), so
   that the reasons of a verdict add up to its parts. A document names ``MOST_REASONS`` reasons of
   a verdict; further ones count as ``other``.
3. Every verdict is of a part of its own, as the verdicts themselves have it: first-pass yield is
   the share of parts that were ok at once, without review and with every answer in time.
4. Latency is the time from the capture of the part's newest image to the verdict in the log. It is
   counted in classes 10 % wide; a quantile is the middle of its class.
5. Where no document is there, all are made from the log. Documents older than ``DAYS_KEPT`` go.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from math import ceil, log
from zoneinfo import ZoneInfo

import msgspec

from lineside.core import InvalidError, NotFoundError, Plant, parse_rfc3339, rfc3339
from lineside.core.plant import Line
from lineside.core.shifts import STEP_S, Period, day_at, shift_at
from lineside.hub.tables import Column
from lineside.store import Document, Logged, Records, every_document
from lineside.streams import decode_event, read_verdict
from lineside.streams.verdicts import VerdictData
from lineside.vision.verdict import PartVerdict, reason_group

KIND = "line-figures"
DAYS_KEPT = 400
MOST_REASONS = 50
OTHER = "other"
ALL = "all"
"""Stands for every line of the site where an address names one."""
SHIFT, HOUR, DAY = "shift", "hour", "today"
SPANS: Mapping[str, str] = {SHIFT: "Shift", HOUR: "Last hour", DAY: "Day"}
_HOUR = timedelta(hours=1)
_STEP = timedelta(seconds=STEP_S)
_CLASS = log(1.1)
_LONGEST_MS = 60_000.0
_YEARS = range(1970, 3000)


class PartCounts(msgspec.Struct, omit_defaults=True):
    """Parts of some minutes: by verdict, by verdict and reason, by class of latency."""

    verdicts: dict[str, int] = {}
    reasons: dict[str, dict[str, int]] = {}
    latency: dict[int, int] = {}

    def add(self, given: VerdictData, *, latency_s: float) -> None:
        """Count one part."""
        verdict = str(given.verdict)
        self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1
        if given.reasons:
            named = self.reasons.setdefault(verdict, {})
            reason = reason_group(given.reasons[0])
            reason = reason if reason in named or len(named) < MOST_REASONS else OTHER
            named[reason] = named.get(reason, 0) + 1
        latency_ms = min(max(latency_s * 1000, 1.0), _LONGEST_MS)
        place = ceil(log(latency_ms) / _CLASS)
        self.latency[place] = self.latency.get(place, 0) + 1


class _Hour(msgspec.Struct):
    """An hour of a line: counts by the minute at which they begin, up to a log position."""

    position: int = 0
    cells: dict[int, PartCounts] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonCount:
    """Parts with a verdict for one reason; ``share``: of all parts with that verdict (0-1)."""

    verdict: PartVerdict
    reason: str
    parts: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFigures:
    """Parts and rejects from ``begin`` on, for an hour or five minutes."""

    begin: datetime
    parts: int
    rejects: int
    reject_rate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFigures:
    """Figures of a line over a period.

    Attributes:
        line: id; "" for all lines together.
        period: name of the shift, or the day, or the hour; ``begin`` inside, ``end`` outside.
        verdicts: parts of each verdict.
        reject_rate, review_share, first_pass_yield: shares of ``parts`` (0-1); None without parts.
            Incomplete parts count among those for review.
        latency_p50_ms, latency_p99_ms: capture to verdict; None without parts.
        limit_reject, goal_yield, limit_latency_ms: of the plant file; None where it says none.
        reasons: most frequent first, of rejects before the others.
        steps: in order of time; an hour each, five minutes each in a period of one hour.
    """

    line: str
    period: str
    begin: datetime
    end: datetime
    parts: int
    verdicts: dict[PartVerdict, int]
    reject_rate: float | None = None
    review_share: float | None = None
    first_pass_yield: float | None = None
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    limit_reject: float | None = None
    goal_yield: float | None = None
    limit_latency_ms: float | None = None
    reasons: tuple[ReasonCount, ...] = ()
    steps: tuple[StepFigures, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRow:
    """Parts of a line from ``begin`` on, for five minutes, with one verdict and reason."""

    line: str
    begin: datetime
    verdict: str
    reason: str
    parts: int


COLUMNS: tuple[Column[CountRow], ...] = (
    Column(name="line", kind="text", of=lambda row: row.line),
    Column(name="begin", kind="time", of=lambda row: rfc3339(row.begin)),
    Column(name="verdict", kind="text", of=lambda row: row.verdict),
    Column(name="reason", kind="text", of=lambda row: row.reason),
    Column(name="parts", kind="whole", of=lambda row: row.parts),
)


class LineCounts:
    """Counts of parts by line and time, in documents; safe from several threads.

    Args:
        records: where they are kept.
        plant: declares lines and shifts.
        zone: of shifts and days where the plant file names none.
    """

    def __init__(self, records: Records, *, plant: Plant, zone: tzinfo) -> None:
        self._zone = zone
        self._records, self._documents = records, records.documents
        self._plant = plant

    @property
    def zone(self) -> tzinfo:
        """Time zone of shifts and days."""
        name = self._plant.time_zone
        return ZoneInfo(name) if name else self._zone

    # ---- the fold

    def take(self, entries: Sequence[Logged]) -> None:
        """Count a page of verdicts, in one transaction; twice is as once."""
        hours: dict[str, tuple[_Hour, int]] = {}
        with self._records.transaction():
            for logged in entries:
                event = decode_event(logged.entry.body, where=f"log position {logged.position}")
                given = read_verdict(event)
                at = logged.entry.captured_at.astimezone(UTC)
                name = _name(given.line, at)
                hour, _ = hours.get(name) or hours.setdefault(name, self._load(name))
                if logged.position > hour.position:
                    cell = hour.cells.setdefault(
                        at.minute * 60 // STEP_S * STEP_S // 60, PartCounts()
                    )
                    latency_s = (logged.arrived_at - logged.entry.captured_at).total_seconds()
                    cell.add(given, latency_s=latency_s)
                    hour.position = logged.position
            for name, (hour, version) in hours.items():
                body = msgspec.to_builtins(hour, str_keys=True)
                self._documents.put(KIND, name, body=body, expect=version)
                if not version:
                    self._forget(name)

    def resume(self, position: int) -> int:
        """Begin at the first verdict where nothing is counted yet."""
        return position if self._documents.page(KIND, limit=1) else 0

    def _load(self, name: str) -> tuple[_Hour, int]:
        try:
            document = self._documents.get(KIND, name)
        except NotFoundError:
            return _Hour(), 0
        return _hour(document), document.version

    def _forget(self, name: str) -> None:
        """Delete the oldest documents of a line, as it gets a new one."""
        line, _, at = name.partition("/")
        newest = datetime.fromisoformat(f"{at}:00+00:00")
        oldest = _name(line, newest - timedelta(days=DAYS_KEPT))
        for one in self._documents.page(KIND, after=f"{line}/", limit=24):
            if f"{line}/" < one.id < oldest:
                self._documents.delete(KIND, one.id)

    # ---- reading

    def period_of(self, line: str, *, span: str, at: str, now: datetime) -> tuple[str, Period]:
        """Return the line, "" for every one, and the period that an address asks for.

        Raises:
            NotFoundError: the plant has no such line.
            InvalidError: no such span, or ``at`` is no time that has figures.
        """
        known = [one.id for one in self._plant.line]
        if line not in ("", ALL, *known):
            fix = f"Lines: {', '.join(known) or 'none'}; {ALL} for every one."
            raise NotFoundError(f"no line {line!r}", where="line", fix=fix)
        if span and span not in SPANS:
            raise InvalidError(f"no span {span!r}", where="span", fix=f"Known: {', '.join(SPANS)}.")
        moment = read_moment(at, where="at") if at else now
        return "" if line == ALL else line, self.period(span or SHIFT, moment)

    def period(self, span: str, at: datetime) -> Period:
        """Return the shift or day that a moment lies in, or the hour before it.

        Between two shifts, and where none is declared, the day stands for the shift.
        """
        if span == HOUR:
            end = at - timedelta(seconds=at.timestamp() % STEP_S) + _STEP
            return Period(name="last hour", begin=end - _HOUR, end=end)
        shift = shift_at(self._plant.shift, at, zone=self.zone) if span == SHIFT else None
        return shift or day_at(at, zone=self.zone)

    def figures(self, line: str, period: Period) -> LineFigures:
        """Return the figures of a line, of all together with "".

        Limits that differ between lines are no limit of all together.
        """
        lines = [one for one in self._plant.line if line in ("", one.id)]
        cells = [cell for one in lines for cell in self._cells(one.id, period)]
        return line_figures(cells, line=line, limits=lines, period=period, zone=self.zone)

    def totals(self, now: datetime) -> dict[str, dict[str, float]]:
        """For each line the figures of the shift that runs, for ``/metrics``."""
        names = (
            "parts", "reject_rate", "review_share", "first_pass_yield", "latency_p50_ms",
            "latency_p99_ms", "limit_reject",
        )  # fmt: skip
        period, found = self.period(SHIFT, now), dict[str, dict[str, float]]()
        for line in self._plant.line:
            figures = self.figures(line.id, period)
            values = {name: getattr(figures, name) for name in names}
            found[line.id] = {name: value for name, value in values.items() if value is not None}
        return found

    def rows(self, line: str, period: Period) -> Iterator[CountRow]:
        """Return the counts of a line, of every one with "", as rows of a table."""
        for one in self._plant.line:
            if line in ("", one.id):
                for begin, cell in self._cells(one.id, period):
                    for verdict, count in sorted(cell.verdicts.items()):
                        reasons = cell.reasons.get(verdict, {})
                        unnamed = count - sum(reasons.values())
                        for reason, parts in (*sorted(reasons.items()), ("", unnamed)):
                            if parts:
                                yield CountRow(
                                    line=one.id, begin=begin, verdict=verdict, reason=reason,
                                    parts=parts,
                                )  # fmt: skip

    def _cells(self, line: str, period: Period) -> Iterator[tuple[datetime, PartCounts]]:
        begin = _name(line, period.begin)
        for document in every_document(self._documents, KIND, after=begin[:-1], size=48):
            if not document.id.startswith(f"{line}/") or document.id > _name(line, period.end):
                return
            hour_at = datetime.fromisoformat(f"{document.id.partition('/')[2]}:00+00:00")
            for minute, cell in sorted(_hour(document).cells.items()):
                at = hour_at + timedelta(minutes=minute)
                if at in period:
                    yield at, cell


def read_moment(text: str, *, where: str) -> datetime:
    """Return a time as addresses carry it; ``InvalidError`` where no figures can be of it."""
    moment = parse_rfc3339(text.replace(" ", "+"), where=where)
    if moment.year not in _YEARS:
        raise InvalidError(
            f"no figures of the year {moment.year}", where=where,
            fix=f"Write a time from {_YEARS[0]} to {_YEARS[-1]}.",
        )  # fmt: skip
    return moment


def line_figures(
    cells: Iterable[tuple[datetime, PartCounts]], *, line: str, limits: Sequence[Line],
    period: Period, zone: tzinfo,
) -> LineFigures:  # fmt: skip
    """Add up counts; ``limits``: the lines that they are of."""
    verdicts, latency = Counter[str](), Counter[int]()
    reasons, steps = Counter[tuple[str, str]](), dict[datetime, Counter[str]]()
    for begin in _steps(period, zone=zone):
        steps[begin] = Counter()
    for at, cell in cells:
        verdicts.update(cell.verdicts)
        latency.update(cell.latency)
        steps[max(begin for begin in steps if begin <= at)].update(cell.verdicts)
        for verdict, named in cell.reasons.items():
            reasons.update({(verdict, reason): count for reason, count in named.items()})
    parts = sum(verdicts.values())
    review = verdicts[PartVerdict.REVIEW] + verdicts[PartVerdict.INCOMPLETE]
    rank = {verdict: place for place, verdict in enumerate(PartVerdict)}
    order = sorted(reasons.items(), key=lambda one: (rank[PartVerdict(one[0][0])], -one[1], one[0]))
    return LineFigures(
        line=line, period=period.name, begin=period.begin, end=period.end, parts=parts,
        verdicts={one: verdicts[one] for one in PartVerdict},
        reject_rate=_share(verdicts[PartVerdict.REJECT], parts),
        review_share=_share(review, parts),
        first_pass_yield=_share(verdicts[PartVerdict.OK], parts),
        latency_p50_ms=_quantile_ms(latency, 0.5), latency_p99_ms=_quantile_ms(latency, 0.99),
        limit_reject=_common([one.limit_reject for one in limits]),
        goal_yield=_common([one.goal_yield for one in limits]),
        limit_latency_ms=_common([one.limit_latency_ms for one in limits]),
        reasons=tuple(
            ReasonCount(
                verdict=PartVerdict(verdict), reason=reason, parts=count,
                share=count / verdicts[verdict],
            )
            for (verdict, reason), count in order
        ),
        steps=tuple(
            StepFigures(
                begin=begin, parts=sum(each.values()), rejects=each[PartVerdict.REJECT],
                reject_rate=_share(each[PartVerdict.REJECT], sum(each.values())),
            )
            for begin, each in steps.items()
        ),
    )  # fmt: skip


def _steps(period: Period, *, zone: tzinfo) -> Iterator[datetime]:
    """Where steps begin: at whole local hours, and where the period does."""
    short = period.end - period.begin <= _HOUR
    begin = period.begin
    while begin < period.end:
        yield begin
        past = timedelta() if short else timedelta(minutes=begin.astimezone(zone).minute)
        begin += (_STEP if short else _HOUR) - past


def _share(count: int, of: int) -> float | None:
    return count / of if of else None


def _common(limits: Sequence[float | None]) -> float | None:
    return limits[0] if len(set(limits)) == 1 else None


def _quantile_ms(latency: Counter[int], share: float) -> float | None:
    left = share * sum(latency.values())
    for place in sorted(latency):
        left -= latency[place]
        if left <= 0:
            return round(float(1.1 ** (place - 0.5)), 1)
    return None


def _name(line: str, at: datetime) -> str:
    return f"{line}/{at.astimezone(UTC):%Y-%m-%dT%H}"


def _hour(document: Document) -> _Hour:
    return msgspec.convert(document.body, _Hour, str_keys=True)
