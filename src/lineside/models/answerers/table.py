"""Which answerer a task has."""

import importlib

from lineside.core import Clock, InvalidError
from lineside.models.answerers.contract import Answerer
from lineside.models.archive import Package
from lineside.models.engines.contract import EngineName, engine_named

_ANSWERERS = {
    "multilabel": "lineside.models.answerers.labels",
    "classify": "lineside.models.answerers.classes",
    "detect": "lineside.models.answerers.objects",
    "count": "lineside.models.answerers.counts",
    "segment": "lineside.models.answerers.masks",
    "anomaly": "lineside.models.answerers.anomaly",
}


def answerer_for(
    package: Package, *, clock: Clock, engine: EngineName = EngineName.ONNX_RUNTIME
) -> Answerer:
    """The answerer of a package's task, its network loaded.

    Raises:
        InvalidError: the network does not load or does not fit the manifest.
        MissingExtraError: the engine's library is not installed.
    """
    task = package.manifest.task
    if task not in _ANSWERERS:
        raise InvalidError(
            f"no task {task!r}", where=package.manifest.name, fix=f"Known: {', '.join(_ANSWERERS)}."
        )
    made: Answerer = importlib.import_module(_ANSWERERS[task]).answerer(
        package, clock=clock, engine=engine_named(engine)
    )
    return made
