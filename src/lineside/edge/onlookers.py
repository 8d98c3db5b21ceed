"""Those who see each decision beside its frame: captures, and clients who watch.

They are called in the camera's own thread, so they return at once, and what fails in one of them
is told and holds nothing up.
"""

import logging
from collections.abc import Callable, Sequence

from lineside.edge.contract import Judge
from lineside.edge.tally import Tally
from lineside.vision import Frame, Prediction

logger = logging.getLogger(__name__)

Onlooker = Callable[[Frame, Prediction], None]
FindJudge = Callable[[str], Judge | None]


def observed(find_judge: FindJudge, *, onlookers: Sequence[Onlooker], tally: Tally) -> FindJudge:
    """``find_judge`` whose judges tell the onlookers of each prediction."""

    def find(inspection: str) -> Judge | None:
        judge = find_judge(inspection)
        if judge is None or not onlookers:
            return judge
        return _Observed(judge, onlookers=onlookers, tally=tally)

    return find


class _Observed:
    def __init__(self, judge: Judge, *, onlookers: Sequence[Onlooker], tally: Tally) -> None:
        self._judge = judge
        self._onlookers = onlookers
        self._tally = tally

    def predict(self, frame: Frame, *, device: str = "", decode_ms: float = 0.0) -> Prediction:
        prediction = self._judge.predict(frame, device=device, decode_ms=decode_ms)
        for onlooker in self._onlookers:
            try:
                onlooker(frame, prediction)
            except Exception as error:  # boundary: looking on must not hold up the line
                if self._tally.fault("onlooker", error):
                    logger.exception("onlooker failed")
        return prediction
