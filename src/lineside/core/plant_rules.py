"""The rules of a plant file: a small declarative language over what was seen and said.

1. A rule reads one kind of record, filters it (``where``), tells things apart (``key``) and does
   **one** step: ``window``, ``sighting``, ``crossing``, ``sequence``, ``pair``, ``rate``, ``hold``,
   ``repeat``, ``join`` or ``python``. What it gives out are events that other rules may read:
   rules form chains, never circles.
2. Time is the records' own unless ``time = "arrival"``. A record later than ``lateness_s`` behind
   the newest of its source is late: counted, and with ``late = "event"`` told too.
3. ``emit = "final"``: one event when nothing can change it any more; ``"changes"``: each change;
   ``"edges"``: of windows, when ``having`` begins to hold and when that ends.
4. State is bounded: ``most_keys`` at a time; the one unused longest is given out and forgotten.

What the steps mean exactly stands in ``lineside.streams`` and docs/reference/rules.md.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from lineside.core.clock import Seconds, duration_toml
from lineside.core.codec import above_zero, decode, entries, refuse, unless, within, zero_or_more
from lineside.core.errors import Fault, InvalidError

_MOST_BYTES = 1_000_000
# A dozen frames in the shortest stay, of which dwell_s is half, count wholly; more say no more.
_LOOKS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class DwellTimes:
    """Set by two numbers, or learned from a labelled clip.

    Attributes:
        dwell_s: a thing is in view at least so long.
        gap_s: an absence shorter than this does not end a sighting.
        look_s: frames closer than this err alike; 0 for a sixth of ``dwell_s``.
        flicker: share of frames that are wrong, where ``confusion`` says nothing else, above 0.
        confusion: what is in view → what a frame says → share of frames; ``""`` is nothing.
        things, frames: that it was learned from; 0 where it was not.
    """

    dwell_s: float
    gap_s: float
    look_s: float = 0.0
    flicker: float = 0.3
    confusion: dict[str, dict[str, float]] = field(default_factory=dict)
    things: int = 0
    frames: int = 0
    schema: Literal["lineside.sighting/1"] = "lineside.sighting/1"

    def __post_init__(self) -> None:
        shares = [share for row in self.confusion.values() for share in row.values()]
        again = "Learn the file anew: lineside rule learn."
        refuse(
            self,
            above_zero(self, "dwell_s", "gap_s"),
            zero_or_more(self, "look_s"),
            unless(
                0.0 < self.flicker < 1.0, key="flicker", value=self.flicker,
                expected="above 0 and below 1", fix=again,
            ),
            unless(
                all(0.0 <= share <= 1.0 for share in shares), key="confusion",
                value=self.confusion, expected="shares from 0 to 1", fix=again,
            ),
        )  # fmt: skip

    @property
    def look(self) -> float:
        """Seconds after which a frame is evidence of its own."""
        return self.look_s or self.dwell_s / _LOOKS


def read_dwell_times(path: Path) -> DwellTimes:
    """Content of a file of learned values.

    Raises:
        InvalidError: it cannot be read, or says something else.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InvalidError(
            f"cannot read what was learned: {error.strerror}", where=str(path),
            fix="Make it: lineside rule learn.",
        ) from error  # fmt: skip
    if len(raw) > _MOST_BYTES:
        raise InvalidError(
            f"more than {_MOST_BYTES} bytes", where=str(path), fix="Learn the file anew."
        )
    return decode(DwellTimes, raw, where=str(path))


Scalar = str | int | float | bool
STEPS = (
    "window", "sighting", "crossing", "sequence", "pair", "rate", "hold", "repeat", "join",
    "python",
)  # fmt: skip
MOST_LOOKED_AT = 1000
"""Records of a key that the step ``repeat`` looks at, at most."""
_BOUNDS = ("at_least", "at_most", "above", "below")
_TESTS = ("equals", "any_of", "none_of", "like", "at_least", "at_most", "above", "below", "known")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One test of one field; several tests in one table must all hold.

    A record that lacks the field fails every test but ``none_of`` and ``known = false``.

    Attributes:
        field: which field.
        equals: this value; text exactly (``blank`` is not ``Blank``), figures with figures.
        any_of, none_of: lists; one of these, none of these.
        like: a pattern with ``*`` and ``?``, upper and lower case told apart.
        at_least, at_most, above, below: of figures.
        known: ``true`` or ``false``; whether the record has the field at all.
    """

    field: str
    equals: Scalar | None = None
    any_of: tuple[Scalar, ...] = ()
    none_of: tuple[Scalar, ...] = ()
    like: str = ""
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None
    known: bool | None = None

    def __post_init__(self) -> None:
        tested = any(getattr(self, name) not in {None, "", ()} for name in _TESTS)
        refuse(
            self,
            unless(
                tested, expected="a condition that tests something",
                fix=f"Add one of: {', '.join(_TESTS)}.",
            ),
            unless(
                self.field, key="field", value="", expected="the name of a field",
                fix='Write field = "label", say.',
            ),
            unless(
                self._leaves_margin, expected="bounds between which a figure fits",
                fix="Exchange or remove one of them.", needs=_BOUNDS,
            ),
        )  # fmt: skip

    @property
    def _leaves_margin(self) -> bool:
        """Return whether some figure lies between the bounds."""
        low, high = (_known(self.at_least, self.above), _known(self.at_most, self.below))
        if not low or not high or max(low) < min(high):
            return True
        return max(low) == min(high) and self.above not in high and self.below not in low


def _known(*figures: float | None) -> list[float]:
    return [figure for figure in figures if figure is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleInput:
    """Input of a rule; exactly one of the first four.

    Attributes:
        predictions: id of an inspection, or a list of them; its answers.
        event: id of another rule, or one the hub says itself, or a list of them; what it gives out.
        plant: kind of a route (``alert``, ``sensor``, …); each message of that kind.
        topic: MQTT pattern; each message of the plant on such a topic, whatever its route's kind.
            Some ``[[route]]`` takes it, or it is where a camera's images come, unless the plant has
            no route at all.
        answers: of predictions: ``top``, the most likely label of each image; ``each``, one record
            for each label, box, count, mask or anomaly.
        cameras: list of ids; of these only; empty: all.
    """

    predictions: str | tuple[str, ...] = ""
    event: str | tuple[str, ...] = ""
    plant: str = ""
    topic: str = ""
    answers: Literal["top", "each"] = "top"
    cameras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        named = [each for each in (self.predictions, self.event, self.plant, self.topic) if each]
        refuse(
            self,
            unless(
                len(named) == 1, expected="a rule that reads one kind of record",
                fix='Write predictions = "…", event = "…", plant = "alert" or topic = "a/b".',
            ),
        )  # fmt: skip

    @property
    def inspections(self) -> tuple[str, ...]:
        """The inspections whose answers are read."""
        return _names(self.predictions)

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules whose events are read."""
        return _names(self.event)

    @property
    def source(self) -> tuple[str, str]:
        """Return the input in words: which of the four kinds, and its names."""
        kinds = {
            "predictions": ", ".join(self.inspections), "event": ", ".join(self.rules),
            "plant": self.plant, "topic": self.topic,
        }  # fmt: skip
        return next((kind, names) for kind, names in kinds.items() if names)


def _names(named: str | tuple[str, ...]) -> tuple[str, ...]:
    return (named,) if named and isinstance(named, str) else tuple(named)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowStep:
    """Stretches of time, aligned to the epoch (``start = t - t mod every_s``) unless sessions.

    Attributes:
        kind: ``tumbling``: one after the other; ``hopping``: a new one every ``every_s``;
            ``session``: as long as records follow one another within ``gap_s``.
        size_s: needed with tumbling and hopping; seconds above 0; how long.
        every_s: needed with hopping; seconds above 0, at most ``size_s``.
        gap_s: needed with sessions; seconds above 0; a longer pause ends one.
        offset_s: seconds, 0 or more; when the first began, after midnight of 1 January 1970, such
            as ``"6 h"``; not of sessions.
        zone: IANA name; of tumbling: by whose clock, such as ``Europe/Berlin``: a day has 23 or 25
            hours there where the clock is changed. Empty: UTC.
    """

    kind: Literal["tumbling", "hopping", "session"] = "tumbling"
    size_s: Seconds = 0.0
    every_s: Seconds = 0.0
    gap_s: Seconds = 0.0
    offset_s: Seconds = 0.0
    zone: str = ""

    def __post_init__(self) -> None:
        session = self.kind == "session"
        refuse(
            self,
            above_zero(self, "gap_s") if session else above_zero(self, "size_s"),
            above_zero(self, "every_s") if self.kind == "hopping" else (),
            unless(
                self.kind != "hopping" or self.every_s <= self.size_s, key="every_s",
                value=self.every_s, expected="at most size_s, so that windows leave no gaps",
                fix=f"Write every_s = {duration_toml(self.size_s)}, or less.",
                needs=("kind", "size_s"),
            ),
            zero_or_more(self, "offset_s"),
            unless(
                not session or not self.offset_s, key="offset_s", value=self.offset_s,
                expected="of windows that follow the clock, which sessions do not",
                fix="Remove it.", needs=("kind",),
            ),
            unless(
                not self.zone or self.kind == "tumbling", key="zone", value=self.zone,
                expected="of tumbling windows only", fix="Remove it, or kind.", needs=("kind",),
            ),
            known_zone(self.zone),
        )  # fmt: skip


def known_zone(name: str, *, key: str = "zone") -> Iterator[Fault]:
    """A fault where a name is no time zone of the IANA database."""
    try:
        if name:
            ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        zones = available_timezones()
        near = difflib.get_close_matches(name, zones, n=1)
        fix = f"Did you mean {near[0]!r}?" if near else f'Write {key} = "Europe/Berlin", say.'
        none = "Install the Python package tzdata: this machine has no time zones."
        yield Fault(
            path=key, value=repr(name), expected="a time zone of the IANA database",
            fix=fix if zones else none,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """A figure of a window: its name, and how it is made.

    Attributes:
        name: what the figure is called in the event.
        of: ``count`` of records; ``mean``, ``min``, ``max``, ``sum`` of ``field``; ``distinct``:
            how many values of it; ``share`` of records that fulfil ``where``; ``first``, ``last``
            value by time.
        field: which field; all but ``count`` and ``share`` need it.
        where: conditions; only records that fulfil them; needed with ``share``, which is their
            share of all.
    """

    name: str
    of: Literal["count", "mean", "min", "max", "sum", "distinct", "share", "first", "last"]
    field: str = ""
    where: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        needs_field = self.of not in {"count", "share"}
        refuse(
            self,
            unless(
                self.field or not needs_field, key="field", value="",
                expected=f"the field that {self.of} is made of", fix='Write field = "score", say.',
            ),
            unless(
                self.where or self.of != "share", key="where", value=(),
                expected="what share is the share of", fix="Add where = [{ field = …, … }].",
            ),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackStep:
    """One event for each thing that passes, from answers that flicker.

    Read with ``answers = "each"`` or ``"top"``. Either two numbers set it, or a learned file.

    Attributes:
        blank: list of labels; what means that nothing is in view.
        labels: list of labels; what may be seen; empty: all.
        dwell_s: seconds above 0; a thing is in view at least so long.
        gap_s: seconds above 0; an absence shorter than this does not end a sighting.
        learned: path, from the plant file's folder; a file that ``lineside rule learn`` wrote from
            a labelled clip, instead of the two numbers.
        least_probability: 0-1; of its own answer; below it the label is ``unknown``.
        habits: table; what the learned file says, filled in from it where the plant file is read:
            ``schema``, ``look_s``, ``flicker``, ``confusion``, ``things``, ``frames`` beside the
            two numbers ([sightings](sightings.md)). It is part of a rule's digest.
    """

    blank: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    dwell_s: Seconds = 0.6
    gap_s: Seconds = 1.5
    learned: str = ""
    least_probability: float = 0.5
    habits: DwellTimes | None = None

    def __post_init__(self) -> None:
        refuse(
            self,
            above_zero(self, "dwell_s", "gap_s"),
            within(self, "least_probability"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossingStep:
    """Counts things whose centre passes a line from one side to the other, by boxes.

    Attributes:
        x0_px, y0_px, x1_px, y1_px: figures; the line, from the first point to the second, in pixels
            of the image.
        direction: ``either``, or ``to left`` or ``to right``, looking along the line.
        lost_s: seconds above 0; a track without a box for so long has ended.
        reach_px: above 0; how far a thing moves between two images at most.
    """

    x0_px: float
    y0_px: float
    x1_px: float
    y1_px: float
    direction: Literal["either", "to left", "to right"] = "either"
    lost_s: Seconds = 1.0
    reach_px: float = 80.0

    def __post_init__(self) -> None:
        refuse(
            self,
            above_zero(self, "lost_s", "reach_px"),
            unless(
                (self.x0_px, self.y0_px) != (self.x1_px, self.y1_px),
                expected="a line between two different points", fix="Move one end.",
            ),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceStep:
    """A then B with the same key within ``within_s``; or, ``missing``, A and no B after it.

    Attributes:
        first, then: conditions; what comes first, what follows.
        within_s: seconds above 0; how long after the first.
        missing: tell when the second did not come.
    """

    first: tuple[Condition, ...]
    then: tuple[Condition, ...]
    within_s: Seconds
    missing: bool = False

    def __post_init__(self) -> None:
        refuse(
            self,
            above_zero(self, "within_s"),
            unless(
                self.first, key="first", value=(), expected="what comes first",
                fix="Add a condition.",
            ),
            unless(
                self.then, key="then", value=(), expected="what follows", fix="Add a condition."
            ),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PairStep:
    """Every second record of a key makes a pair with the one before it.

    Attributes:
        within_s: seconds, 0 or more; the two may be so far apart; 0: any time.
        session: topic; a message there begins a new sorting session, with new counts.
    """

    within_s: Seconds = 0.0
    session: str = ""

    def __post_init__(self) -> None:
        refuse(self, zero_or_more(self, "within_s"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RateStep:
    """More than ``above``, or fewer than ``below``, records in any ``per_s``.

    Told when it begins and when it ends.

    Attributes:
        per_s: seconds above 0; the stretch in which records are counted.
        above, below: figure, one of them; more than, fewer than so many.
    """

    per_s: Seconds
    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        refuse(
            self,
            above_zero(self, "per_s"),
            unless(
                (self.above is None) != (self.below is None),
                expected="a rate with either above or below", fix="Write one of them.",
            ),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldStep:
    """A field has had one value for ``for_s`` (debounce), or ``where`` has held.

    Attributes:
        for_s: seconds above 0; how long it must have held.
        field: whose value must stay; told once for each value that lasted, with the time at which
            it began. Empty: the rule's ``where`` must hold (something in region R for longer than
            t).
        gap_s: seconds, 0 or more; without ``field``: how long ``where`` may fail in between; 0: a
            record of the key that fails ends it. With ``field`` it does nothing.
    """

    for_s: Seconds
    field: str = ""
    gap_s: Seconds = 0.0

    def __post_init__(self) -> None:
        refuse(self, above_zero(self, "for_s"), zero_or_more(self, "gap_s"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatStep:
    """``times`` records in a row that ``match``; or ``times`` of the ``last`` so many.

    Told when it begins and when it ends.

    Attributes:
        match: conditions; what such a record fulfils; others of the key count as those that do not.
        times: 1 to 1000; how many of them.
        last: ``times`` to 1000; of so many records; 0: as many as ``times``, so many in a row.
        within_s: seconds, 0 or more; how far the first of them may lie before the last; 0: any
            time.
    """

    match: tuple[Condition, ...]
    times: int
    last: int = 0
    within_s: Seconds = 0.0

    def __post_init__(self) -> None:
        refuse(
            self,
            above_zero(self, "times"),
            zero_or_more(self, "within_s"),
            unless(
                self.match, key="match", value=(), expected="what such a record fulfils",
                fix="Add a condition.",
            ),
            unless(
                self.times <= MOST_LOOKED_AT, key="times", value=self.times,
                expected=f"at most {MOST_LOOKED_AT}", fix="Use a window with figures.",
            ),
            unless(
                self.last == 0 or self.times <= self.last <= MOST_LOOKED_AT, key="last",
                value=self.last, expected=f"between times and {MOST_LOOKED_AT}, or 0",
                fix="Leave it out for so many in a row.", needs=("times",),
            ),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinStep:
    """One record of each inspection (or rule) that is read, of the same key and about one time.

    Attributes:
        within_s: seconds above 0; how far the last of them may lie behind the first.
        fields: list; told of each, as ``<inspection>.<field>``; of the first, whether all say the
            same.
        incomplete: tell it, too, where one did not come.
    """

    within_s: Seconds
    fields: tuple[str, ...] = ("label", "decision", "probability")
    incomplete: bool = False

    def __post_init__(self) -> None:
        refuse(
            self,
            above_zero(self, "within_s"),
            unless(
                self.fields, key="fields", value=(), expected="at least one field",
                fix='Write fields = ["label"], say.',
            ),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule.

    Attributes:
        id: id; last level of its topic ``lineside/<site>/<line>/event/<id>``, subject of its
            events; not ``camera``, ``device``, ``discrepancy``, ``drift`` or ``picture``, which the
            hub says itself.
        name: what people call it.
        line: id of a line; whose topic it is; left out: the line of the camera it reads, else the
            first line.
        read: table; [what it reads](#read).
        where: [conditions](#conditions-where-having-first-then); what a record must fulfil.
        key: list of fields; things apart: one window, one pair, one count for each combination.
        window, sighting, crossing, sequence, pair, rate, hold, repeat, join: table; the step;
            exactly one, or ``python``.
        python: an entry point of the group ``lineside.rules``: a step written in Python, for what
            the language lacks.
        settings: table; what is handed to it.
        aggregate: tables; figures of a window.
        having: conditions; what the step's result must fulfil to be told.
        emit: ``final``: one event when nothing can change it any more; ``changes``: each change, as
            records come; ``edges``: of tumbling and hopping windows, when ``having`` begins to hold
            and when that ends.
        time: the time it goes by; ``capture``, or ``arrival``: when the hub took the record, or
            Kafka did.
        lateness_s: seconds, 0 or more; how far a record may lie behind the newest of its source.
        late: records later than that: ``count``: counted; ``event``: told too.
        idle_s: seconds above 0; a source silent for so long (by arrival) does not hold time back
            any more; [when all are silent](rules.md#time).
        most_keys: above 0; kept at a time; the one unused longest is given out and forgotten, and
            counted.
    """

    id: str
    read: RuleInput
    line: str = ""
    name: str = ""
    where: tuple[Condition, ...] = ()
    key: tuple[str, ...] = ()
    window: WindowStep | None = None
    aggregate: tuple[Aggregate, ...] = ()
    having: tuple[Condition, ...] = ()
    sighting: TrackStep | None = None
    crossing: CrossingStep | None = None
    sequence: SequenceStep | None = None
    pair: PairStep | None = None
    rate: RateStep | None = None
    hold: HoldStep | None = None
    repeat: RepeatStep | None = None
    join: JoinStep | None = None
    python: str = ""
    settings: dict[str, Scalar] = field(default_factory=dict)
    emit: Literal["final", "changes", "edges"] = "final"
    time: Literal["capture", "arrival"] = "capture"
    lateness_s: Seconds = 0.0
    late: Literal["count", "event"] = "count"
    idle_s: Seconds = 10.0
    most_keys: int = 10_000

    def __post_init__(self) -> None:
        steps = [name for name in STEPS if getattr(self, name)]
        refuse(
            self,
            zero_or_more(self, "lateness_s"),
            above_zero(self, "idle_s", "most_keys"),
            unless(
                len(steps) == 1,
                expected=f"a rule with one step, not {', '.join(steps) or 'none'}",
                fix=f"Write one of: {', '.join(STEPS)}; a second step is another rule.",
            ),
            unless(
                self.window or not self.aggregate, key="aggregate",
                value=[figure.name for _, figure in entries(self.aggregate)],
                expected="figures of a window", fix="Add [rule.window].", needs=("window",),
            ),
            unless(
                self.emit != "edges" or (self.having and self._aligned), key="emit",
                value=self.emit, expected="of tumbling or hopping windows with having",
                fix="Add having, or leave emit out: rate, hold and repeat tell begin and end.",
                needs=("window", "having"),
            ),
            unless(
                self.python or not self.settings, key="settings", value=self.settings,
                expected="settings of a Python rule", fix='Name it: python = "…".',
                needs=("python",),
            ),
        )  # fmt: skip

    @property
    def _aligned(self) -> bool:
        return self.window is not None and self.window.kind != "session"

    @property
    def step(self) -> str:
        """Return which of ``STEPS`` it does."""
        return next(name for name in STEPS if getattr(self, name))
