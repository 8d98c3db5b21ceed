"""Model packages: built, checked, registered and run.

Main names: ``Manifest``, ``build_package`` and ``Package`` (the ``.lspkg`` archive), ``Predictor``
(from a frame to a prediction), ``Registry`` (which packages there are and which is in use).
Not here: training, what knows torch, and the contracts of others who ask packages (``compat``).
"""

from lineside.models.archive import Package, build_package
from lineside.models.engines import EngineDevice, EngineName, OnnxEngine
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
    "EngineDevice",
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
