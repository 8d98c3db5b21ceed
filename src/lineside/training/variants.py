"""An int8 variant of a package, held against its original, or refused with the figures.

1. Value ranges come from pictures that the package was trained on, prepared by its own settings;
   the loss from pictures it was not trained on. A package that does not say what it was trained on
   is calibrated on the data's training and validation part and tested on its test part.
2. The rungs of ``models.LADDER`` are tried in turn; the first whose loss keeps the bound is taken.
   None does: nothing is written, and the refusal carries every rung's figures.
3. Golden pictures stay; what they have to answer is what the variant answers here. Figures of the
   manifest are measured anew; the original's report stays in the package under another name.
4. Package, pictures and settings decide every byte of the variant. Times do not stand in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lineside.core import Clock, Digest, InvalidError, RefusedError, digest_of
from lineside.datasets import Part, Sample
from lineside.models import (
    MANIFEST_SCHEMA,
    Golden,
    Manifest,
    Package,
    Parity,
    Predictor,
    build_package,
)
from lineside.models.archive import SBOM_FILE, with_sbom
from lineside.models.quantize import Quantised, Rung, quantise, rungs_of
from lineside.training.common.methods import spread
from lineside.training.evaluation.compare import (
    TIMED_PICTURES,
    by_digest,
    metrics_of,
    paired_loss,
    timed,
)
from lineside.training.evaluation.evaluate import training_evidence
from lineside.training.report.page_parts import metrics_table, page, section, table, warnings
from lineside.training.source import LabelledData, is_labelled
from lineside.training.tasks.contract import MOST_BYTES, Case, Files
from lineside.training.tasks.metrics import judge_all
from lineside.vision import Frame, PictureState, decode_picture, open_frame


def parity_page(manifest: Manifest) -> bytes:
    """UTF-8 HTML of a manifest that carries a certificate."""
    parity = manifest.parity
    if parity is None:
        return page(manifest.name, ["<p>An original: there is nothing to hold it against.</p>"])
    loss = parity.loss
    facts = [
        ("made from", str(parity.original)),
        ("precision", f"{manifest.engine.precision}, {parity.quantised} of {parity.layers} layers"),
        ("in fp32", parity.kept),
        (loss.metric, f"{loss.original:.4f} before, {loss.variant:.4f} now"),
        ("lost", f"{loss.value:.4f} (95 % {loss.low:.4f} to {loss.high:.4f}), n {loss.n}"),
        ("bound", f"{parity.bound:g}, kept by the interval's upper end"),
        ("answered otherwise", f"{loss.changed} of {loss.n} pictures"),
        ("golden pictures", f"{parity.pictures}, differ by at most {parity.max_abs_diff:.3g}"),
        ("value ranges from", f"{parity.calibrated_on} training pictures"),
    ]
    return page(
        f"{manifest.name}: certificate of parity",
        [
            warnings(manifest.lineage.warnings),
            section("Certificate", table((), facts)),
            section("Figures of this variant", metrics_table(manifest.metrics)),
            section("Tried before", table(("rung",), [(line,) for line in parity.opinion])),
        ],
    )


Floats = NDArray[np.float32]

BOUND = 0.05
MOST_CALIBRATION = 64
_MOST_SIDE_PX = 1536
_REPORTS = ("evidence/report.html", "evidence/report.json")
_GOLDEN_BOUND = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantRequest:
    """Order of a variant.

    Attributes:
        bound: of the metric's loss, its interval's upper end included.
        bits: of the weights; 7 for processors without VNNI.
        pictures: that value ranges are taken from, at most.
    """

    bound: float = BOUND
    bits: Literal[7, 8] = 8
    pictures: int = MOST_CALIBRATION

    def __post_init__(self) -> None:
        if not 0 <= self.bound <= 1:
            raise InvalidError(
                f"{self.bound} is no loss of a metric", where="bound", fix="Use 0 to 1."
            )
        if self.pictures < 1:
            raise InvalidError("no calibration picture", where="calibrate", fix="Use 1 or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Medians of whole predictions, measured by turns on the same pictures in one run."""

    original_ms: float
    variant_ms: float
    pictures: int

    @property
    def ratio(self) -> float:
        """Variant / original; below 1 is faster."""
        return round(self.variant_ms / self.original_ms, 4) if self.original_ms else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A package that kept its bound, and the times of this machine."""

    package: bytes
    digest: Digest
    parity: Parity
    latency: Latency


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Bench:
    """Pictures and limits that every rung is tried on."""

    original: Package
    crops: tuple[Floats, ...]
    calibration: Digest
    test: tuple[Sample, ...]
    cases: tuple[Case, ...]
    files: Files
    clock: Clock


def together(sources: Sequence[LabelledData]) -> LabelledData:
    """Several sources as one; a picture that stands in two of them is taken from the first."""
    samples: dict[Digest, Sample] = {}
    owner: dict[Digest, LabelledData] = {}
    for source in sources:
        for sample in source.samples:
            samples.setdefault(sample.digest, sample)
            for digest in (sample.digest, sample.mask_digest, sample.template_digest):
                if digest is not None:
                    owner.setdefault(digest, source)

    def files(digest: Digest) -> bytes:
        return owner[digest].files(digest)

    skipped = tuple(line for source in sources for line in source.skipped)
    return LabelledData(samples=tuple(samples.values()), files=files, skipped=skipped)


def quantised_variant(
    package: Package,
    samples: Sequence[Sample],
    *,
    files: Files,
    clock: Clock,
    wanted: VariantRequest | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Variant:
    """The int8 variant of a package.

    Args:
        package: of fp32.
        samples: labelled; both what it was trained on and what it was not.
        files: gives the bytes of a picture, mask or template.
        clock: for predictors and times.
        wanted: how.
        tell: is given a line for each step.

    Raises:
        InvalidError: the package is a variant already, or pictures of either kind are missing.
        RefusedError: no rung keeps the bound; with the figures of each.
    """
    wanted = wanted or VariantRequest()
    _check(package)
    bench = _bench(package, samples, files=files, clock=clock, wanted=wanted)
    tell(f"{len(bench.crops)} pictures for value ranges, {len(bench.test)} to be tested on")
    broken: list[str] = []
    for rung in rungs_of(_network(package)):
        made = quantise(_network(package), bench.crops, rung=rung, bits=wanted.bits)
        manifest, cases = _certified(bench, made, rung=rung, bound=wanted.bound, opinion=broken)
        parity = _parity(manifest)
        tell(f"{rung.unquantized} in fp32: {parity.words}")
        if parity.holds:
            return _finished(bench, made, manifest=manifest, cases=cases)
        broken.append(f"{rung.unquantized} in fp32: {parity.words}")
    if not broken:
        raise InvalidError(
            "the network has no convolution, and only those become int8",
            where=package.manifest.name,
            fix="Use the fp32 package.",
        )
    raise RefusedError(
        f"no int8 variant keeps the bound {wanted.bound:g}: {'; '.join(broken)}",
        where=package.manifest.name,
        fix="Use the fp32 package, test on more pictures, or declare another --bound.",
    )


def _parity(manifest: Manifest) -> Parity:
    assert manifest.parity is not None  # noqa: S101  set by the only caller
    return manifest.parity


def _network(package: Package) -> bytes:
    return package.file(package.manifest.engine.file)


def _check(package: Package) -> None:
    manifest = package.manifest
    if manifest.engine.precision != "fp32":
        raise InvalidError(
            f"the package is {manifest.engine.precision} already",
            where=manifest.name,
            fix="Name the fp32 package it was made from.",
        )
    if not manifest.golden:
        raise InvalidError(
            "no golden pictures", where=manifest.name, fix="Export or wrap the package with some."
        )


# ---- pictures


def _bench(
    package: Package,
    samples: Sequence[Sample],
    *,
    files: Files,
    clock: Clock,
    wanted: VariantRequest,
) -> _Bench:
    trained, test = _parts(package, samples)
    chosen = spread(by_digest(trained), wanted.pictures)
    crops, stored = _crops(package, chosen, files=files, clock=clock)
    return _Bench(
        original=package,
        crops=crops,
        calibration=digest_of("\n".join(sample.digest for sample in stored).encode()),
        test=test,
        cases=tuple(judge_all(package, test, files=files, clock=clock)),
        files=files,
        clock=clock,
    )


def _parts(
    package: Package, samples: Sequence[Sample]
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """(calibration, test): what was trained on, and of the rest the test part if there is one."""
    observed = set(training_evidence(package).pictures)
    if observed:
        trained = tuple(sample for sample in samples if sample.digest in observed)
        rest = tuple(sample for sample in samples if sample.digest not in observed)
    else:
        trained = tuple(s for s in samples if s.split in (Part.TRAIN, Part.VALID))
        rest = tuple(s for s in samples if s.split is Part.TEST)
    known = tuple(sample for sample in rest if is_labelled(sample))
    test = tuple(sample for sample in known if sample.split is Part.TEST) or known
    if not trained:
        raise InvalidError(
            "none of the pictures was trained on, and value ranges are taken from such",
            where="data",
            fix="Name the data that the package was trained on.",
        )
    if not test:
        raise InvalidError(
            "every labelled picture was trained on, and the loss is measured on others",
            where="data",
            fix="Add pictures that were not trained on: --test SRC.",
        )
    return trained, test


def _crops(
    package: Package, samples: Sequence[Sample], *, files: Files, clock: Clock
) -> tuple[tuple[Floats, ...], list[Sample]]:
    """Return the network's inputs of the pictures; those that cannot be placed are left out."""
    predictor = Predictor(package, clock=clock)
    crops, stored = [], []
    for number, sample in enumerate(samples):
        if package.manifest.template and sample.template_digest is None:
            continue
        frame = _frame(files(sample.digest), number=number, clock=clock)
        try:
            found = predictor.crops(frame, template=_template(package, sample, files=files))
        except InvalidError:
            continue
        crops.append(np.ascontiguousarray(found[:, :, :_MOST_SIDE_PX, :_MOST_SIDE_PX]))
        stored.append(sample)
    return tuple(crops), stored


def _template(package: Package, sample: Sample, *, files: Files) -> NDArray[np.uint8] | None:
    if not package.manifest.template or sample.template_digest is None:
        return None
    return decode_picture(files(sample.template_digest), max_bytes=MOST_BYTES)


def _frame(data: bytes, *, number: int, clock: Clock) -> Frame:
    return open_frame(
        data, camera=f"quantise-{number}", captured_at=clock.now(), max_bytes=MOST_BYTES
    )


# ---- one rung


def _certified(
    bench: _Bench, made: Quantised, *, rung: Rung, bound: float, opinion: Sequence[str]
) -> tuple[Manifest, tuple[Case, ...]]:
    """The manifest of a rung with its certificate, whether that holds or not, and its answers."""
    original = bench.original
    bare = _unproven(original, made)
    cases = tuple(judge_all(bare, bench.test, files=bench.files, clock=bench.clock))
    golden, worst = _golden(original, bare, clock=bench.clock)
    parity = Parity(
        original=original.digest,
        max_abs_diff=worst,
        pictures=len(golden),
        loss=paired_loss(bench.cases, cases, manifest=original.manifest),
        bound=bound,
        calibration=bench.calibration,
        calibrated_on=len(bench.crops),
        kept=rung.unquantized,
        quantised=made.reduced,
        layers=made.layers,
        opinion=tuple(opinion),
    )
    manifest = replace(
        original.manifest,
        schema=MANIFEST_SCHEMA,
        engine=replace(
            original.manifest.engine,
            digest=digest_of(made.network),
            precision="int8",
            max_abs_diff=worst,
            # On another processor the variant may be as far from its answers here as these are
            # from the original's; saturated products are farther.
            bound=max(_GOLDEN_BOUND, worst),
        ),
        golden=golden,
        parity=parity,
    )
    return manifest, cases


def _unproven(original: Package, made: Quantised) -> Package:
    """The package with the other network, in memory only; no archive like it can be read."""
    manifest = replace(
        original.manifest,
        engine=replace(original.manifest.engine, digest=digest_of(made.network)),
    )
    files = {**original.files, manifest.engine.file: made.network}
    return replace(original, manifest=manifest, files=files)


def _golden(
    original: Package, variant: Package, *, clock: Clock
) -> tuple[tuple[Golden, ...], float]:
    """Return the golden answers of the variant, and how far they are from the original's."""
    first, second = Predictor(original, clock=clock), Predictor(variant, clock=clock)
    found, worst = [], 0.0
    for golden in original.manifest.golden:
        answer = second.golden_answer(golden)
        worst = max(worst, float(np.abs(answer - first.golden_answer(golden)).max()))
        rows = tuple(tuple(float(value) for value in row) for row in answer)
        found.append(replace(golden, logits=rows))
    return tuple(found), worst


# ---- the package


def _finished(
    bench: _Bench, made: Quantised, *, manifest: Manifest, cases: Sequence[Case]
) -> Variant:
    manifest = replace(manifest, metrics=metrics_of(bench.original, cases))
    files = {
        name: content
        for name, content in bench.original.files.items()
        if name not in (*_REPORTS, SBOM_FILE, "manifest.json")
    }
    for name in _REPORTS:
        if name in bench.original.files:
            files[name.replace("report", "original")] = bench.original.files[name]
    files[manifest.engine.file] = made.network
    files["evidence/report.html"] = parity_page(manifest)
    package = build_package(*with_sbom(manifest, files))
    opened = Package.read(package, where=manifest.name)
    return Variant(
        package=package,
        digest=opened.digest,
        parity=_parity(manifest),
        latency=_latency(bench, opened),
    )


def _latency(bench: _Bench, variant: Package) -> Latency:
    """Whole predictions of both, by turns; pictures that are judged, so that both do the work."""
    both = (Predictor(bench.original, clock=bench.clock), Predictor(variant, clock=bench.clock))
    judged = [c.sample for c in bench.cases if c.prediction.state is PictureState.OK]
    frames = [
        (
            _frame(bench.files(sample.digest), number=number, clock=bench.clock),
            _template(bench.original, sample, files=bench.files),
        )
        for number, sample in enumerate(judged[:TIMED_PICTURES])
    ]
    spent = timed(both, frames, clock=bench.clock)
    first, second = (round(float(np.median(each)) * 1000, 3) if each else 0.0 for each in spent)
    return Latency(original_ms=first, variant_ms=second, pictures=len(frames))
