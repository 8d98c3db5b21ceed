"""Drift: a sequential test over what each prediction measured.

1. Watched per inspection and package: the distance of features from the training pictures, mean
   grey, sharpness, residual of the registration, the score of the answers, and whether any is
   unsure. The score is the mean probability of what the answers say, present or absent, so that
   a batch of bad parts moves it little; of ``anomaly`` the share of its limit. ``segment`` and
   images in which ``detect`` finds nothing have none.
2. Neighbouring pictures are alike, so figures are averaged over blocks of ``block`` pictures first.
3. What is usual is learned while it is tested (Hawkins 1987): a block is held against mean and
   spread of all blocks before it, and its t value is turned into a normal one (Wallace 1959), so
   that few blocks raise no more alarms than many. The first ``burn_in`` blocks are only learned;
   blocks under suspicion (a third of the limit) are not, or a change would hide itself.
4. Page's cumulative sums (Page 1954), one up and one down, add what a block lies beyond ``slack``
   spreads; a sum above ``limit`` is drift. With slack 0.5 and limit 12, blocks that stay as they
   were raise an alarm once in some million; a shift by one spread is found after about 24 blocks,
   by three spreads after five.
5. After an alarm the figure is learned anew: what lasts is told once.
6. Time is that of capture. A picture older than the newest is passed over.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from lineside.core import Digest
from lineside.vision import Decision, PictureState, Prediction

DriftFigure = Literal["feature_distance", "mean_grey", "sharpness", "residual", "unsure", "score"]
_DOUBTFUL = 1 / 3
_LEAST_SPREAD: Mapping[DriftFigure, float] = {
    "feature_distance": 0.02,
    "mean_grey": 1.0,
    "sharpness": 0.02,
    "residual": 0.05,
    "unsure": 0.02,
    "score": 0.02,
}
"""Below these a change means nothing to a person, however steady the figure is (sharpness as the
logarithm of its variance, residual in px, grey in levels of 255)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSettings:
    """The sensitivity of the test; see the module.

    Attributes:
        block: pictures that are averaged first.
        burn_in: blocks that are only learned from, at least 2.
        slack, limit: in spreads of a block.
    """

    block: int = 20
    burn_in: int = 10
    slack: float = 0.5
    limit: float = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureState:
    """One figure's test: the open block, what is usual (Welford 1962), the two sums."""

    total: float = 0.0
    inside: int = 0
    blocks: int = 0
    mean: float = 0.0
    squares: float = 0.0
    up: float = 0.0
    down: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftState:
    """The test of one inspection's package; JSON-like, so that it can be kept."""

    package: Digest | None = None
    newest: datetime | None = None
    figures: Mapping[str, FigureState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """A figure left what was usual.

    Attributes:
        figure: which; its unit is that of ``_LEAST_SPREAD``.
        usual, spread: mean of a block and how blocks vary, as learned.
        now: mean of the last block.
        direction: in which it went.
    """

    figure: DriftFigure
    usual: float
    spread: float
    now: float
    direction: Literal["up", "down"]


def feed_drift(
    state: DriftState, prediction: Prediction, *, settings: DriftSettings | None = None
) -> tuple[DriftState, tuple[Drift, ...]]:
    """Take one prediction in.

    Args:
        state: of this inspection; a new package begins anew.
        prediction: in the order of capture; older ones change nothing.
        settings: of the test.
    """
    settings = settings or DriftSettings()
    at = prediction.frame.captured_at
    if state.package != prediction.package:
        state = DriftState(package=prediction.package)
    elif state.newest is not None and at < state.newest:
        return state, ()
    figures = dict(state.figures)
    found: list[Drift] = []
    for name, value in figures_of(prediction).items():
        figures[name], drift = _feed(
            figures.get(name, FigureState()), value, name=name, settings=settings
        )
        found += [drift] if drift is not None else []
    return replace(state, newest=at, figures=figures), tuple(found)


def figures_of(prediction: Prediction) -> dict[DriftFigure, float]:
    """Return the watched figures; an image that could not be judged has no answers."""
    health = prediction.health
    found: dict[DriftFigure, float] = {
        "mean_grey": health.mean_grey,
        "sharpness": math.log(max(health.sharpness, 1e-3)),
    }
    if prediction.registration.state == "aligned":
        found["residual"] = prediction.registration.residual_px
    if prediction.state is PictureState.OK:
        found["feature_distance"] = health.feature_distance
        found["unsure"] = float(is_unsure(prediction))
        if (score := score_of(prediction)) is not None:
            found["score"] = score
    return found


def score_of(prediction: Prediction) -> float | None:
    """Return the score of the answers, see the module; None where there is none."""
    if prediction.anomaly is not None:
        return min(prediction.anomaly.score / max(prediction.anomaly.limit, 1e-9), 1.0)
    answers = defaultdict[str, list[float]](list)
    for one in prediction.labels:  # classes of one region, or of the image, are one answer
        is_class = one.region or prediction.task == "classify"
        answers[one.region if is_class else one.name].append(one.probability)
    scores = [max(*found, 1 - sum(found)) for found in answers.values()]
    scores += [box.probability for box in prediction.boxes]
    if prediction.count is not None and prediction.count.chances:
        scores.append(max(prediction.count.chances))
    return sum(scores) / len(scores) if scores else None


def is_unsure(prediction: Prediction) -> bool:
    """Return whether any answer is unsure."""
    decisions = [label.decision for label in prediction.labels]
    decisions += [box.decision for box in prediction.boxes]
    if prediction.count is not None:
        decisions.append(prediction.count.decision)
    if prediction.anomaly is not None:
        decisions.append(prediction.anomaly.decision)
    return Decision.UNSURE in decisions


def _feed(
    state: FigureState, value: float, *, name: DriftFigure, settings: DriftSettings
) -> tuple[FigureState, Drift | None]:
    if not math.isfinite(value):
        return state, None
    state = replace(state, total=state.total + value, inside=state.inside + 1)
    if state.inside < settings.block:
        return state, None
    block = state.total / state.inside
    state = replace(state, total=0.0, inside=0)
    if state.blocks < settings.burn_in:
        return _learned(state, block), None
    return _tested(state, block, name=name, settings=settings)


def _learned(state: FigureState, block: float) -> FigureState:
    blocks = state.blocks + 1
    apart = block - state.mean
    mean = state.mean + apart / blocks
    squares = state.squares + apart * (block - mean)
    return replace(state, blocks=blocks, mean=mean, squares=squares)


def _tested(
    state: FigureState, block: float, *, name: DriftFigure, settings: DriftSettings
) -> tuple[FigureState, Drift | None]:
    spread = max(math.sqrt(state.squares / (state.blocks - 1)), _LEAST_SPREAD[name])
    apart = _normal((block - state.mean) / spread, blocks=state.blocks)
    up = max(0.0, state.up + apart - settings.slack)
    down = max(0.0, state.down - apart - settings.slack)
    if max(up, down) <= settings.limit:
        doubtful = max(up, down) > settings.limit * _DOUBTFUL
        kept = state if doubtful else _learned(state, block)
        return replace(kept, up=up, down=down), None
    drift = Drift(
        figure=name,
        usual=state.mean,
        spread=spread,
        now=block,
        direction="up" if up > down else "down",
    )
    return FigureState(), drift


def _normal(apart: float, *, blocks: int) -> float:
    """Return a block's distance from ``blocks`` earlier ones, as a standard normal value."""
    freedom = blocks - 1
    t = apart * math.sqrt(blocks / (blocks + 1))
    size = math.sqrt(freedom * math.log1p(t * t / freedom))
    return math.copysign(size * (8 * freedom + 1) / (8 * freedom + 3), t)
