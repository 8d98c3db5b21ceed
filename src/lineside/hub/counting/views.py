"""Records of the bin counter."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from lineside.core import Digest, InvalidError
from lineside.vision import PictureState

_MOST_COUNT = 1_000_000


class Agreement(StrEnum):
    """How a count stands to what was recorded."""

    AGREES = "agrees"
    POSSIBLE = "possible"
    DISAGREES = "disagrees"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What a person counted, and the dataset it went into."""

    count: int
    dataset: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """Body of a correction."""

    count: int
    dataset: str

    def __post_init__(self) -> None:
        if not 0 <= self.count <= _MOST_COUNT:
            raise InvalidError("a whole number from 0", where="count", fix="Count again.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Body of a question: which function, and which of its pictures."""

    function: str
    picture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionView:
    """A function on offer; ``counts``: its endpoint counts objects."""

    name: str
    endpoint: str
    bucket: str
    prefix: str
    counts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CountView:
    """One picture that somebody had counted.

    Attributes:
        picture: its name in the store; "" for one that was uploaded.
        state: whether it could be judged; unless ``ok`` there is no number, and ``reason`` says
            why.
        value, low, high, more, chances: as ``CountAnswer`` says them; None and empty where the
            picture was not judged.
        error_rate: of the interval, as the package promises it.
        recorded: what the inventory says; None with ``record_reason`` where it says nothing.
    """

    id: str
    at: datetime
    by: str
    function: str
    picture: str
    digest: Digest
    package: Digest
    state: PictureState
    reason: str = ""
    value: int | None = None
    low: int = 0
    high: int = 0
    more: bool = False
    chances: tuple[float, ...] = ()
    error_rate: float = 0.0
    recorded: int | None = None
    record_reason: str = ""
    correction: Correction | None = None

    @property
    def most(self) -> int:
        """The largest number the package can tell."""
        return max(0, len(self.chances) - 2)

    @property
    def surely_more(self) -> bool:
        """Whether "more than ``most``" is the likeliest answer."""
        return bool(self.chances) and self.chances[-1] >= max(self.chances)

    @property
    def agreement(self) -> Agreement:
        """Whether the count agrees with the inventory record."""
        if self.value is None or self.recorded is None:
            return Agreement.UNKNOWN
        above = self.recorded > self.high and self.more
        if not (self.low <= self.recorded <= self.high or above):
            return Agreement.DISAGREES
        same = self.recorded == self.value and not self.surely_more
        return Agreement.AGREES if same else Agreement.POSSIBLE
