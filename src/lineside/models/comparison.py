"""How a version answers beside the one in use: the same pictures, both lists of changed answers.

1. Both packages judge the pictures that the version was held out from, in its own dataset version;
   what the package in use was trained on is left out for both.
2. A change is ``better`` where a wrong answer became right, ``worse`` where a right one became
   wrong. Answers that changed and stayed wrong are counted (``otherwise``).
3. Where answers cannot be compared ``why_not`` says so in a sentence; the speed is measured all the
   same, on the golden pictures.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from lineside.models.manifest import Metric

COMPARISON_SCHEMA = "lineside.comparison/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A picture that is answered otherwise than by the version in use.

    Attributes:
        picture: its name in the dataset, a frame's id, or its digest.
        truth: what a person said; "" where nobody did.
        digest: of the picture's bytes; "" where it is not known.
    """

    picture: str
    before: str
    after: str
    truth: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Whole predictions of one machine, one picture at a time.

    Attributes:
        median_ms, p95_ms: of the version.
        in_use_ms: median of the package in use, by turns on the same pictures; None for none.
        n: predictions that were timed; ``pictures`` which: ``test`` or ``golden``.
        machine: name of the machine that measured; ``processor`` what it has.
    """

    median_ms: float
    p95_ms: float
    n: int
    machine: str
    processor: str
    pictures: str
    in_use_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What came of it.

    Attributes:
        in_use: digest of the package compared with; "" where nothing was in use.
        at: when it was measured; None where it was not yet.
        why_not: why answers were not compared; "" where they were.
        dataset: whose pictures: ``rack/3``; "" for none.
        n: pictures that both answered; ``left_out`` those that the package in use was trained on.
        this, beside: figures of both on these pictures.
        better, worse: the first of each; ``better_count``, ``worse_count`` how many there are.
        otherwise: changed, and right before or after cannot be said or is not.
        speed: None where it could not be measured.
        remarks: further sentences that stand beside the figures.
    """

    in_use: str = ""
    in_use_name: str = ""
    at: datetime | None = None
    why_not: str = ""
    dataset: str = ""
    n: int = 0
    left_out: int = 0
    this: Mapping[str, Metric] = field(default_factory=dict)
    beside: Mapping[str, Metric] = field(default_factory=dict)
    better: tuple[Change, ...] = ()
    worse: tuple[Change, ...] = ()
    better_count: int = 0
    worse_count: int = 0
    otherwise: int = 0
    speed: Speed | None = None
    remarks: tuple[str, ...] = ()
    schema: str = COMPARISON_SCHEMA
