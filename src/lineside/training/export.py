"""From fitted heads to a package: network, parity, golden pictures, health limits, manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray

from lineside.core import RefusedError, digest_of
from lineside.models import (
    LABEL_OUTPUTS,
    MANIFEST_SCHEMA,
    Engine,
    Golden,
    HealthLimits,
    LabelRule,
    Lineage,
    Manifest,
    Metric,
    OnnxEngine,
    build_package,
    inventoried,
)
from lineside.training.architectures import lite0_trunk
from lineside.training.job import TrainJob
from lineside.training.network import Heads, RegionNetwork
from lineside.training.onnx_file import write_onnx
from lineside.training.pictures import Looked
from lineside.training.source import Data
from lineside.training.view import Read, Reference
from lineside.vision import Prepare, decode_picture, prepare

ENGINE_FILE = "network.onnx"
BOUND = 1e-3
_GOLDEN = 3
_WEIGHTS_LICENCE = "Apache-2.0"  # of the trunk; what was learned on top is the data's owner's
_LEAST_DISTANCE = 3.0
_DISTANCE_ROOM = 2.0

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exported:
    """A network file that agrees with the network, and the pictures that show it.

    Attributes:
        files: engine, reference and golden pictures by their names in the package.
    """

    engine: Engine
    golden: tuple[Golden, ...]
    reference_file: str
    files: Mapping[str, bytes]


def export(
    heads: Heads,
    *,
    settings: Prepare,
    reference: Reference,
    pictures: Sequence[Looked],
    read: Read,
) -> Exported:
    """Write the network and hold it against torch on golden pictures.

    Raises:
        RefusedError: an output differs by more than 0.001.
    """
    network = write_onnx(heads, trunk=lite0_trunk(), crop_px=settings.width_px)
    size = (len(settings.crops), 3, settings.height_px, settings.width_px)
    engine = OnnxEngine(network, crops=size, where=ENGINE_FILE)
    torch_network = RegionNetwork(heads, trunk=lite0_trunk()).eval()
    files = {ENGINE_FILE: network, **_picture_file("reference", reference.encoded)}
    worst, golden = 0.0, []
    for number, looked in enumerate(golden_pictures(pictures)):
        encoded = read(looked.sample)
        crops = prepare(decode_picture(encoded), settings, matrix=looked.matrix)
        logits = engine.run(crops, outputs=("logits",))[0]
        worst = max(worst, _difference(torch_network, engine, crops=crops))
        file = _picture_file(f"golden/{number}", encoded)
        files |= file
        golden.append(
            Golden(
                file=next(iter(file)),
                digest=looked.sample.digest,
                logits=_nested(logits),
                matrix=() if looked.matrix is None else _nested(looked.matrix),
            )
        )
    if not worst <= BOUND:
        raise RefusedError(
            f"the exported network differs from the trained one by {worst:.2g}",
            where=ENGINE_FILE,
            fix=f"At most {BOUND} is taken; report this processor.",
        )
    return Exported(
        engine=Engine(file=ENGINE_FILE, digest=digest_of(network), max_abs_diff=worst, bound=BOUND),
        golden=tuple(golden),
        reference_file=next(name for name in files if name.startswith("reference")),
        files=files,
    )


def golden_pictures(pictures: Sequence[Looked]) -> list[Looked]:
    """The picture with most labels, the one with fewest, and one between, all different."""
    ordered = sorted(pictures, key=lambda p: (len(p.sample.labels), p.sample.digest))
    places = dict.fromkeys((len(ordered) - 1, 0, len(ordered) // 2))
    return [ordered[place] for place in places][:_GOLDEN]


def _difference(network: RegionNetwork, engine: OnnxEngine, *, crops: Floats) -> float:
    said = engine.run(crops, outputs=LABEL_OUTPUTS)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(crops))
    return max(
        float(np.abs(ours.numpy() - theirs).max())
        for ours, theirs in zip(wanted, said, strict=True)
    )


def _picture_file(stem: str, encoded: bytes) -> dict[str, bytes]:
    suffix = ".png" if encoded.startswith(b"\x89PNG") else ".jpeg"
    return {str(PurePosixPath(stem).with_suffix(suffix)): encoded}


def _nested(values: NDArray[np.floating]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in values)


def health_limits(pictures: Sequence[Looked], distances: Floats) -> HealthLimits:
    """Limits with room around what the training pictures show.

    Sharpness may fall to a quarter of the dullest training picture's, light to a third or to a
    third of what was left above the brightest, the residual may treble. The feature distance may be
    twice what any held-out picture or its changed copies had.

    Args:
        pictures: accepted training pictures.
        distances: (pictures, copies, regions) held out.
    """
    health = [picture.health for picture in pictures]
    greys = [each.mean_grey for each in health]
    clipped = max(each.clipped_share for each in health)
    residual = max(picture.place.residual_px for picture in pictures)
    farthest = float(distances.max()) if distances.size else 0.0
    return HealthLimits(
        sharpness_min=round(min(each.sharpness for each in health) / 4, 3),
        mean_grey_min=round(min(greys) / 3, 3),
        mean_grey_max=round(255 - (255 - max(greys)) / 3, 3),
        clipped_share_max=round(min(0.95, max(0.3, 3 * clipped)), 3),
        residual_max_px=round(max(4.0, 3 * residual), 3),
        feature_distance_max=round(max(_LEAST_DISTANCE, _DISTANCE_ROOM * farthest), 3),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """Everything a package is put together from, but its figures."""

    job: TrainJob
    data: Data
    settings: Prepare
    rules: tuple[LabelRule, ...]
    health: HealthLimits
    exported: Exported
    warnings: tuple[str, ...]
    pictures: int


def package_bytes(
    parts: Parts, *, metrics: Mapping[str, Metric], evidence: Mapping[str, bytes]
) -> bytes:
    """The package, byte by byte the same for the same parts."""
    job, exported = parts.job, parts.exported
    manifest = Manifest(
        schema=MANIFEST_SCHEMA,
        name=job.package_name,
        task=str(job.inspection.task),
        inspection=job.inspection.id,
        labels=tuple(rule.name for rule in parts.rules),
        prepare=parts.settings,
        rules=parts.rules,
        policy=job.inspection.policy,
        health=parts.health,
        engine=exported.engine,
        golden=exported.golden,
        lineage=lineage_of(job, data=parts.data, warnings=parts.warnings, pictures=parts.pictures),
        metrics=dict(metrics),
        reference_file=exported.reference_file,
        reference_digest=digest_of(exported.files[exported.reference_file]),
    )
    return build_package(*inventoried(manifest, {**exported.files, **evidence}))


def lineage_of(job: TrainJob, *, data: Data, warnings: tuple[str, ...], pictures: int) -> Lineage:
    """What a package was made from."""
    return Lineage(
        dataset=data.name,
        data_digest=data.digest,
        pictures=pictures,
        seed=job.seed,
        code_version=_code_version(),
        created_at=job.created_at,
        trained_by=job.trained_by,
        data_licence=job.data_licence,
        weights_licence=_WEIGHTS_LICENCE,
        warnings=warnings,
    )


def _code_version() -> str:
    try:
        return f"lineside {version('lineside')}"
    except PackageNotFoundError:
        return "lineside"
