"""Model packages: built, checked, registered, run and served.

Main names: ``Manifest``, ``build_package`` and ``Package`` (the ``.lspkg`` archive), ``Predictor``
(from a frame to a prediction), ``Registry`` (which packages there are and which is in use), the
answer shapes of others' contracts in ``serving``. Not here: training, and what knows torch.
"""

from lineside.models.archive import Package, build_package
from lineside.models.engines import EngineName, OnnxEngine
from lineside.models.manifest import (
    MANIFEST_SCHEMA,
    Engine,
    Golden,
    HealthLimits,
    Lineage,
    Manifest,
    Metric,
    Parity,
)
from lineside.models.predictor import Predictor, heat_png
from lineside.models.registry import PackageRecord, Registry
from lineside.models.versions import (
    Change,
    Comparison,
    ModelVersion,
    ModelVersions,
    Speed,
    Status,
    Window,
)

__all__ = [
    "MANIFEST_SCHEMA",
    "Change",
    "Comparison",
    "Engine",
    "EngineName",
    "Golden",
    "HealthLimits",
    "Lineage",
    "Manifest",
    "Metric",
    "ModelVersion",
    "ModelVersions",
    "OnnxEngine",
    "Package",
    "PackageRecord",
    "Parity",
    "Predictor",
    "Registry",
    "Speed",
    "Status",
    "Window",
    "build_package",
    "heat_png",
]
