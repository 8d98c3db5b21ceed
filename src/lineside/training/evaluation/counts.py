"""Figures of counts in a table: what was there against what was said.

1. A count is a whole number from 0; anything else is a fault with its line.
2. Accuracy is the share of exact matches; RMSE and MAE are over the whole numbers.
3. A floor is what one answer, always given, reaches on the same rows; the baseline of each figure
   is the best of them.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import Fault, InvalidError
from lineside.models import Metric
from lineside.vision.metrics import Interval, bootstrap, wilson

_MOST_FAULTS = 20
_MOST_COUNT = 1_000_000
_ROUNDS = 400

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountTable:
    """(n,) whole numbers each, row by row."""

    truth: Counts
    predicted: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """Figures that a constant answer reaches."""

    accuracy: float
    rmse: float
    mae: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CountClass:
    """Figures of the rows of one true count."""

    n: int
    accuracy: float
    low: float
    high: float
    rmse: float
    mae: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CountFigures:
    """Everything about a table of counts.

    Attributes:
        metrics: the three figures with interval, count and best floor.
        per_class: by true count.
        classes: counts that occur in truth or answers, ascending.
        confusion: rows are the truth, columns the answers, both in the order of ``classes``.
        floors: by the answer always given, each count that occurs in the truth.
    """

    n: int
    accuracy: float
    rmse: float
    mae: float
    metrics: dict[str, Metric]
    per_class: dict[str, CountClass]
    classes: tuple[int, ...]
    confusion: tuple[tuple[int, ...], ...]
    floors: dict[str, Floor]


def read_counts(raw: bytes, *, truth: str, predicted: str, where: str) -> CountTable:
    """Two columns of a CSV table.

    Raises:
        InvalidError: not UTF-8 CSV, a column that is not there, no rows, or cells that are no
            counts, each with its line.
    """
    try:
        reader = csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
        _check_columns(reader.fieldnames or (), (truth, predicted), where=where)
        rows = [(reader.line_num, row[truth], row[predicted]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidError(
            f"no CSV table: {error}", where=where, fix="Write UTF-8 with one header line."
        ) from error
    cells = [(line, _count(a), _count(b)) for line, a, b in rows]
    faults = [
        Fault(
            path=f"{where}:{line}",
            value=f"{rows[place][1:]}",
            expected="two whole numbers",
            fix="Write whole numbers from 0.",
        )
        for place, (line, one, other) in enumerate(cells)
        if one is None or other is None
    ]
    if faults or not rows:
        raise InvalidError(
            f"{len(faults)} rows are no counts" if faults else "the table has no rows",
            where=faults[0].path if faults else where,
            fix="Write whole numbers from 0.",
            faults=tuple(faults[:_MOST_FAULTS]),
        )
    return CountTable(
        truth=np.array([one for _, one, _ in cells], np.int64),
        predicted=np.array([other for _, _, other in cells], np.int64),
    )


def _check_columns(there: Sequence[str], wanted: Sequence[str], *, where: str) -> None:
    missing = [name for name in wanted if name not in there]
    if missing:
        raise InvalidError(
            f"no column {missing[0]!r}", where=where, fix=f"Columns here: {', '.join(there)}."
        )


def _count(cell: str | None) -> int | None:
    text = (cell or "").strip()
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(_MOST_COUNT)):
        return None
    return int(text)


def count_figures(table: CountTable) -> CountFigures:
    """Figures, per true count, confusion and floors."""
    truth, answer = table.truth, table.predicted
    shown = sorted({*truth.tolist(), *answer.tolist()})
    floors = {
        str(value): Floor(
            accuracy=_exact(truth, np.full_like(truth, value)),
            rmse=_rmse(truth, np.full_like(truth, value)),
            mae=_mae(truth, np.full_like(truth, value)),
        )
        for value in sorted(set(truth.tolist()))
    }
    return CountFigures(
        n=len(truth),
        accuracy=_exact(truth, answer),
        rmse=_rmse(truth, answer),
        mae=_mae(truth, answer),
        metrics=_metrics(truth, answer, floors=tuple(floors.values())),
        per_class={str(v): _of_count(truth, answer, value=v) for v in sorted(set(truth.tolist()))},
        classes=tuple(shown),
        confusion=_confusion(truth, answer, shown=shown),
        floors=floors,
    )


def _exact(truth: Counts, counts: Counts) -> float:
    return int((truth == counts).sum()) / len(truth)


def _rmse(truth: Counts, counts: Counts) -> float:
    return math.sqrt(int(((counts - truth) ** 2).sum()) / len(truth))


def _mae(truth: Counts, counts: Counts) -> float:
    return int(np.abs(counts - truth).sum()) / len(truth)


def _metrics(truth: Counts, counts: Counts, *, floors: Sequence[Floor]) -> dict[str, Metric]:
    right = wilson(int((truth == counts).sum()), len(truth))
    return {
        "accuracy": _metric(right, baseline=max(floor.accuracy for floor in floors)),
        "rmse": _metric(
            bootstrap(_rmse, truth, counts, rounds=_ROUNDS),
            baseline=min(floor.rmse for floor in floors),
        ),
        "mae": _metric(
            bootstrap(_mae, truth, counts, rounds=_ROUNDS),
            baseline=min(floor.mae for floor in floors),
        ),
    }


def _metric(found: Interval, *, baseline: float) -> Metric:
    return Metric(value=found.value, low=found.low, high=found.high, n=found.n, baseline=baseline)


def _of_count(truth: Counts, counts: Counts, *, value: int) -> CountClass:
    mine = truth == value
    right = wilson(int((counts[mine] == value).sum()), int(mine.sum()))
    return CountClass(
        n=right.n,
        accuracy=right.value,
        low=right.low,
        high=right.high,
        rmse=_rmse(truth[mine], counts[mine]),
        mae=_mae(truth[mine], counts[mine]),
    )


def _confusion(
    truth: Counts, counts: Counts, *, shown: Sequence[int]
) -> tuple[tuple[int, ...], ...]:
    table = np.zeros((len(shown), len(shown)), np.int64)
    np.add.at(table, (np.searchsorted(shown, truth), np.searchsorted(shown, counts)), 1)
    return tuple(tuple(row) for row in table.tolist())
