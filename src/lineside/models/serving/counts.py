"""Counts for others' contracts: one array of one row, a number per count.

1. The row holds the probabilities of 0, 1, …, N, and last that of "more than N"; they sum to 1. A
   client that takes the largest of them reads "more than N" as N + 1.
2. Probabilities are the package's own (``CountAnswer.chances``): of a distribution those of its
   calibrated network, of found objects those of how many of the candidates are there.
3. As logits the row holds the natural logarithms of the same probabilities: what a client computes
   from logits, their largest or their softmax, is then right without a change. A probability of 0
   is written as that of 1e-9.
4. A picture that could not be judged has no numbers; the call fails and says why.
"""

import math
from typing import Literal

from lineside.core import InvalidError
from lineside.vision import CountAnswer, PictureState, Prediction

_LEAST = 1e-9


def count_answer(
    prediction: Prediction, *, form: Literal["probabilities", "logits"] = "probabilities"
) -> list[list[float]]:
    """The array of the contract, ``[[p0, …, pN, more]]``.

    Raises:
        InvalidError: the picture could not be judged, or the package tells no probabilities.
    """
    if prediction.state is not PictureState.OK:
        reason = f": {prediction.reason}" if prediction.reason else ""
        raise InvalidError(
            f"the picture cannot be judged, {prediction.state.value}{reason}",
            where="picture",
            fix="Send a picture of the place the package was trained for.",
        )
    row = _chances(prediction.count)
    if form == "probabilities":
        return [row]
    return [[round(math.log(max(chance, _LEAST)), 6) for chance in row]]


def _chances(count: CountAnswer | None) -> list[float]:
    if count is None or not count.chances:
        raise InvalidError(
            "the package in use tells no probabilities of numbers",
            where="package",
            fix="Use a package of the task count with at most 254 objects.",
        )
    return list(count.chances)
