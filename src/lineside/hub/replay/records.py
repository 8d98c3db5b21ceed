"""Records of a replay's order and result, JSON as they stand."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from lineside.core import Digest, InvalidError, digest_of, encode, require_order
from lineside.streams import EventChange
from lineside.twin import TwinChange

REPLAY_SCHEMA = "lineside.replay/1"
MOST_LISTED = 500
"""Differences of one kind that are listed; all are counted."""

AS_RECORDED = "recorded"
"""In the place of a package: each frame by the package that answered it then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOrder:
    """A recorded span, and what it is to be answered and judged by.

    Attributes:
        since, until: what arrived at the hub from ``since`` on and before ``until``.
        package: digest of the package that answers, ``recorded`` for the one that answered then,
            "" to leave the answers as they were recorded.
        inspection: whose frames are asked; "" for every inspection that ``package`` answers.
        warm_up_s: how long before the span rules begin; None: as far as their memory reaches.
    """

    since: datetime
    until: datetime
    package: str = ""
    inspection: str = ""
    warm_up_s: float | None = None

    def __post_init__(self) -> None:
        require_order(self.since, self.until, where="from, to")
        if self.warm_up_s is not None and not 0 <= self.warm_up_s < 1e9:
            raise InvalidError(
                f"a warm-up of {self.warm_up_s} s", where="warm_up_s", fix="Write 0 or more."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionChange:
    """A frame that was decided otherwise.

    Attributes:
        event: the prediction in the log; ``event_after`` is what it would have been called.
        before, after: the state of the picture and what was decided, label by label.
    """

    frame: str
    camera: str
    inspection: str
    at: datetime
    before: dict[str, Any]
    after: dict[str, Any]
    package_before: Digest
    package_after: Digest
    event: str
    event_after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayCounts:
    """Every frame and event of the span, once.

    Attributes:
        frames: asked again; ``frames_missing`` have no picture any more, ``frames_damaged`` one
            that cannot be read or answered: of both the recorded answer stands.
        identical: answered the same to the last bit; ``figures_moved``: decided alike, other
            figures; ``decisions_changed``: the rest.
        answers_kept: recorded answers that nothing was asked about.
        entries: of the log that arrived in the span.
        events_same: said by the rules of both sides alike; ``events_moved``: alike but for
            fractions; ``events_changed``: the rest.
        twin_changed: places of the twin.
        largest_move: of a label's probability.
    """

    frames: int = 0
    frames_missing: int = 0
    frames_damaged: int = 0
    identical: int = 0
    figures_moved: int = 0
    decisions_changed: int = 0
    answers_kept: int = 0
    entries: int = 0
    events_same: int = 0
    events_moved: int = 0
    events_changed: int = 0
    twin_changed: int = 0
    largest_move: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordCheck:
    """Events of the rules on the recorded answers, against the log.

    Attributes:
        same: in the log with the same bytes.
        differ: in the log under the same id, with other values.
        absent: not in the log; ``only``: in the log, and not said again.
    """

    same: int = 0
    differ: int = 0
    absent: int = 0
    only: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """Result of a replay; ``digest`` covers all but ``digest``, ``seconds`` and ``engine``.

    Attributes:
        package: digest, ``recorded`` or "".
        rules: digest of the rules that were tried; "" where the plant's own stand.
        rules_begin: when the rules of both sides began to read.
        bit_identical: nothing differs: no answer, no event, no value of the twin.
        seconds: what it took; ``ms_per_frame`` of that the picture and its answer.
        remarks: what whoever reads it should know, in sentences.
    """

    since: datetime
    until: datetime
    package: str
    package_name: str
    inspections: tuple[str, ...]
    rules: str
    rules_begin: datetime
    frames: int
    counts: ReplayCounts
    bit_identical: bool
    decisions_changed: tuple[DecisionChange, ...]
    events_changed: tuple[EventChange, ...]
    twin_changed: tuple[TwinChange, ...]
    record: RecordCheck
    remarks: tuple[str, ...] = ()
    engine: str = ""
    seconds: float = 0.0
    ms_per_frame: float = 0.0
    digest: str = ""
    schema: str = field(default=REPLAY_SCHEMA)


def sealed(result: ReplayResult) -> ReplayResult:
    """The result with the digest of what it says."""
    said = replace(result, engine="", seconds=0.0, ms_per_frame=0.0, digest="")
    return replace(result, digest=digest_of(encode(said)))
