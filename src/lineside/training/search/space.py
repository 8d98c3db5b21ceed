"""The space of a search: a TOML file that Optuna and Ray Tune read alike.

    schema = "lineside.search-space/1"
    objective = "validation_loss"      # the smallest of its epochs
    trials = 6

    [[parameter]]
    name = "learning_rate"
    low = 0.001
    high = 0.01
    log = true

    [[parameter]]
    name = "batch_size"
    choices = [32, 64]

An objective is what a learner watched on pictures that it did not fit to, without augmentation.
Figures of the test part are no objective: what is chosen by them can no longer be measured on them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lineside.core import InvalidError, NotFoundError, decode, decode_toml
from lineside.core.codec import refuse, unless

SPACE_SCHEMA = "lineside.search-space/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One hyper-parameter: a range, or choices.

    Attributes:
        name: as the learner calls it: ``learning_rate``, ``batch_size``, ``epochs``, ….
        low, high: both inside the range.
        whole: whole numbers alone.
        log: drawn evenly on a logarithmic scale.
        choices: numbers to choose from, instead of a range.
    """

    name: str
    low: float | None = None
    high: float | None = None
    whole: bool = False
    log: bool = False
    choices: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        ranged = self.low is not None and self.high is not None and self.low <= self.high
        positive = self.low is not None and self.low > 0
        refuse(
            self,
            unless(
                ranged != bool(self.choices),
                expected="a range with low <= high, or choices",
                fix="Write low and high, or choices.",
            ),
            unless(
                not self.log or positive, key="low", value=self.low,
                expected="above 0 where log is true", fix="Raise low, or drop log.",
            ),
        )  # fmt: skip

    @property
    def range(self) -> tuple[float, float]:
        """(low, high) of a parameter that is one."""
        if self.low is None or self.high is None:
            raise InvalidError(f"{self.name} has no range", fix="Use its choices.")
        return self.low, self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Search space and objective.

    Attributes:
        objective: of a training's history.
        direction: whether the least or the greatest of it is best.
        trials: how many trainings by default.
        prune: whether a training may be stopped that is worse than most at the same epoch.
    """

    parameter: tuple[Parameter, ...]
    objective: str = "validation_loss"
    direction: Literal["minimize", "maximize"] = "minimize"
    trials: int = 6
    prune: bool = True
    schema: Literal["lineside.search-space/1"] = "lineside.search-space/1"

    def __post_init__(self) -> None:
        names = [one.name for one in self.parameter]
        refuse(
            self,
            unless(
                names and len(set(names)) == len(names), key="parameter", value=names,
                expected="parameters of different names", fix="Name each once.",
            ),
            unless(
                self.trials >= 1, key="trials", value=self.trials,
                expected="1 or more", fix="Write trials = 6.",
            ),
        )  # fmt: skip

    def best(self, values: list[float]) -> float:
        """Of a training's epochs, or of several trainings."""
        return min(values) if self.direction == "minimize" else max(values)


def read_space(path: Path) -> Space:
    """Read a space file.

    Raises:
        NotFoundError: no such file.
        InvalidError: every fault at once.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"cannot read the space: {error.strerror}", where=str(path), fix="Name a TOML file."
        ) from error
    return decode(Space, decode_toml(raw, where=str(path)), where=str(path))
