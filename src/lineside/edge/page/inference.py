"""Everything that is loaded on this device, behind the Open Inference Protocol over HTTP.

1. An inspection is a model: the package in use answers, by the first twelve digits of its digest.
   Packages that are loaded by name are models too; an inspection of the same name goes first.
2. One call is answered at a time, and few may wait: the line's own pictures are judged by the same
   networks.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from lineside.core import Clock, Digest, UnavailableError
from lineside.edge.packages import Judge
from lineside.models import Predictor
from lineside.models.serving.open_inference import (
    InferenceModels,
    ModelMeta,
    ServedModel,
    choose_version,
)
from lineside.models.serving.tensors import InferRequest, InferResponse

_MOST_WAITING = 4
_DIGITS = 12


class PageInference:
    """``InferenceModels`` of the page."""

    def __init__(
        self,
        inspections: Sequence[str],
        *,
        judge: Callable[[str], Judge | None],
        clock: Clock,
        named: InferenceModels | None = None,
    ) -> None:
        """Load nothing: predictors are those at work.

        Args:
            inspections: of this device.
            judge: what answers for one.
            clock: when pictures are said to be taken.
            named: packages that are loaded by name.
        """
        self._inspections = tuple(inspections)
        self._judge = judge
        self._named = named
        self._since: datetime = clock.now()
        self._places = threading.BoundedSemaphore(_MOST_WAITING)
        self._running = threading.Lock()
        self._served: dict[Digest, ServedModel] = {}

    def names(self) -> Sequence[str]:
        """Inspections with a package, then names of loaded packages."""
        used = [name for name in self._inspections if self._predictor(name) is not None]
        loaded = self._named.names() if self._named is not None else ()
        return tuple(dict.fromkeys([*used, *loaded]))

    def ready(self, name: str, *, version: str) -> bool:
        """A loaded package answers."""
        predictor = self._predictor(name)
        if predictor is not None:
            choose_version((_number(predictor),), version, name=name)
            return True
        return self._others(name).ready(name, version=version)

    def metadata(self, name: str, *, version: str) -> ModelMeta:
        predictor = self._predictor(name)
        if predictor is None:
            return self._others(name).metadata(name, version=version)
        number = choose_version((_number(predictor),), version, name=name)
        with self._turn():
            return self._model(predictor).metadata(name, versions=(number,))

    def infer(self, name: str, *, version: str, request: InferRequest) -> InferResponse:
        predictor = self._predictor(name)
        with self._turn():
            if predictor is None:
                return self._others(name).infer(name, version=version, request=request)
            number = choose_version((_number(predictor),), version, name=name)
            outputs = self._model(predictor).infer(request)
        return InferResponse(model=name, version=number, outputs=outputs, id=request.id)

    def _predictor(self, name: str) -> Predictor | None:
        judge = self._judge(name) if name in self._inspections else None
        return judge if isinstance(judge, Predictor) else None

    def _others(self, name: str) -> InferenceModels:
        if self._named is None:
            choose_version((), "", name=name)  # says that there is none
            raise AssertionError
        return self._named

    def _model(self, predictor: Predictor) -> ServedModel:
        """Kept while it is in use, so that its bare network is loaded once; called in turn."""
        digest = predictor.package.digest
        used = [self._predictor(name) for name in self._inspections]
        there = {one.package.digest for one in used if one is not None} | {digest}
        self._served = {key: model for key, model in self._served.items() if key in there}
        if digest not in self._served:
            self._served[digest] = ServedModel(predictor, since=self._since)
        return self._served[digest]

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise UnavailableError(
                f"{_MOST_WAITING} calls wait already", where="infer", fix="Call again later."
            )
        try:
            with self._running:
                yield
        finally:
            self._places.release()


def _number(predictor: Predictor) -> str:
    return predictor.package.digest.removeprefix("sha256:")[:_DIGITS]
