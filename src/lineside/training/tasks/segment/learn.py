"""Learn masks of defects from pictures with masks, with labels only, and from good ones.

1. A part of the training pictures is held out, by group: it chooses the epoch, the cut of pixels
   and the picture's band. The source's own validation part comes first.
2. Held-out maps are made by the exported file, through the cut that devices use.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from lineside.core import InvalidError, Policy
from lineside.datasets import Part, folds
from lineside.models import OnnxEngine
from lineside.training.common.export import CELLS, PICTURE, export, golden_of, limits_of
from lineside.training.common.feature_bank import FeatureBank, feature_bank
from lineside.training.job import TrainJob
from lineside.training.tasks.contract import Trained, Work
from lineside.training.tasks.metrics import GOOD_NAMES
from lineside.training.tasks.segment.decision import (
    HeldOutMap,
    drawn_maps,
    mask_rule,
    score_of,
    tops_of,
)
from lineside.training.tasks.segment.fit import FitPlan, Fitted, Fitting, fit, has_bf16
from lineside.training.tasks.segment.network import (
    OUTPUTS,
    MaskNetwork,
    UNet,
)
from lineside.training.tasks.segment.training_set import (
    Facts,
    Gallery,
    defect_labels,
    facts_of,
    prepare_for,
    stretched_to,
    zoom_for,
)
from lineside.vision import MaskRule, Prepare, prepare
from lineside.vision.masks import inside_picture, on_picture, set_pixels
from lineside.vision.metrics import auroc, average_precision, f1_of, pixel_counts
from lineside.vision.prepare import normalise

_FOLDER = "segment"
_NAME = "defect"
_FEW = 200
_MOST_MAPS = 80
_MOST_KNOWN = 256
_FEW_DEFECTS = 20
_MOST_SIDE_PX = 256
_LEAST_SPREAD = 1e-3
_MOST_STEPS = 40
_LEAST_STEPS = 20

Floats = NDArray[np.float32]
Item = TypeVar("Item")


def learn(job: TrainJob, work: Work) -> Trained:
    """Learn masks; see ``Learner``."""
    facts = _look(work)
    _check(facts)
    training, validation = hold_out(facts, seed=job.seed)
    if side_px := int(job.setting("input_px", 0)):
        settings = stretched_to(side_px)
    else:
        settings = prepare_for(job.setting("zoom", zoom_for(training)))
    gallery = Gallery(settings=settings, pictures=work)
    network, fitted = fit(
        plan_of(job, training, settings=settings),
        Fitting(
            training=training,
            validation=validation,
            show=gallery.show,
            settings=settings,
            folder=work.folder / _FOLDER,
            steps=work.steps,
            parallel=work.parallel,
        ),
    )
    work.steps.at(81, "exporting")
    golden = golden_of(
        [one.sample for one in sorted(training, key=lambda each: (each.share, each.sample.digest))]
    )
    exported = export(
        MaskNetwork(network, _known(network, training, gallery=gallery)).eval(),
        [prepare(work.picture(sample), settings) for sample in golden],
        outputs=OUTPUTS,
        varies={"crops": PICTURE, "map": CELLS},
    )
    held, farthest = _held(exported.engine, validation, settings=settings, work=work)
    label = label_of(job.inspection.labels)
    areas = [area for each in training for area in each.areas_px]
    rule = mask_rule(held, areas_px=areas, label=label, policy=job.inspection.policy)
    return Trained(
        network=exported.network,
        max_abs_diff=exported.max_abs_diff,
        prepare=settings,
        health=limits_of([each.health for each in facts], farthest=farthest),
        golden=golden,
        labels=(label,),
        mask=rule,
        baseline=baseline_of(facts),
        warnings=warnings_of(training, validation, policy=job.inspection.policy),
        held_out=figures_of(held, rule=rule),
        history=fitted.history,
        sections={"masks": _section(training, validation, fitted=fitted, rule=rule, zoom=settings)},
    )


def label_of(names: Sequence[str]) -> str:
    """Return the label of the masks: the inspection's one defect, where it names one alone."""
    defects = [name for name in names if name.lower() not in GOOD_NAMES]
    return defects[0] if len(defects) == 1 else _NAME


def _look(work: Work) -> list[Facts]:
    found = []
    for number, sample in enumerate(work.training):
        work.steps.at(2 + 6 * number / len(work.training), "looking at pictures and masks")
        found.append(facts_of(sample, pictures=work))
    return found


def _check(facts: Sequence[Facts]) -> None:
    """Refuse what cannot teach masks."""
    drawn = [each for each in facts if each.defective and each.drawn]
    if len(drawn) < 2:
        raise InvalidError(
            f"{len(drawn)} pictures have a mask with a defect on it, two are the least",
            where="data",
            fix="Draw masks (white on black) on some defective pictures, or train 'classify'.",
        )


def hold_out(facts: Sequence[Facts], *, seed: int) -> tuple[list[Facts], list[Facts]]:
    """Pictures to learn from, and pictures held out: the declared validation part, or one fold.

    A declared part is taken where it shows defects and where masks remain to learn from.
    """
    declared = [each.sample.split is Part.VALID for each in facts]
    if _serves(facts, declared):
        return _apart(facts, declared)
    count = 5 if len(facts) < _FEW else 8
    numbers = folds([each.sample for each in facts], count=count, seed=seed)
    for fold in sorted(set(numbers)):
        held = [number == fold for number in numbers]
        if _serves(facts, held):
            return _apart(facts, held)
    raise InvalidError(
        "all pictures with masks belong to one group; none can be held out by group",
        where="data",
        fix="Draw masks on pictures of another group (part, tile, time).",
    )


def _serves(facts: Sequence[Facts], held: Sequence[bool]) -> bool:
    drawn = [each.defective and each.drawn for each in facts]
    inside = [one for one, out in zip(drawn, held, strict=True) if out]
    return any(inside) and sum(inside) < sum(drawn)


def _apart(facts: Sequence[Facts], held: Sequence[bool]) -> tuple[list[Facts], list[Facts]]:
    pairs = list(zip(facts, held, strict=True))
    return [each for each, out in pairs if not out], [each for each, out in pairs if out]


def plan_of(job: TrainJob, training: Sequence[Facts], *, settings: Prepare) -> FitPlan:
    """Return length and learning rate, unless the job says."""
    batch = int(job.setting("batch_size", 8))
    steps = max(_LEAST_STEPS, min(_MOST_STEPS, round(len(training) / batch)))
    return FitPlan(
        seed=job.seed,
        epochs=int(job.setting("epochs", 12)),
        steps=int(job.setting("steps", steps)),
        batch=batch,
        side_px=int(job.setting("side_px", _side(training, settings=settings))),
        learning_rate=job.setting("learning_rate", 3e-4),
        weight_decay=job.setting("weight_decay", 1e-3),
        patience=int(job.setting("patience", 6)),
        bf16=bool(job.setting("bf16", float(has_bf16()))),
    )


def _side(training: Sequence[Facts], *, settings: Prepare) -> int:
    """Side of the pieces: as long as the longer side of the middle picture, 256 at the most."""
    if settings.fit == "stretch":
        return min(_MOST_SIDE_PX, settings.width_px)
    longer = float(np.median([max(each.width_px, each.height_px) for each in training]))
    multiple = settings.multiple
    return min(_MOST_SIDE_PX, max(multiple, int(-(-longer * settings.zoom // multiple)) * multiple))


def _known(network: UNet, training: Sequence[Facts], *, gallery: Gallery) -> FeatureBank:
    features = []
    for facts in spread_over(training, most=_MOST_KNOWN):
        crops = normalise(gallery.show(facts.sample).pixels[None], gallery.settings)
        with torch.inference_mode():
            features.append(network.taps(torch.from_numpy(crops))[1].mean(dim=(2, 3)).numpy())
    means = np.concatenate(features)
    spread = np.maximum(means.std(axis=0), _LEAST_SPREAD)
    return feature_bank(means, spread=spread, owners=range(len(means)), size=len(means))


def _held(
    engine: OnnxEngine, validation: Sequence[Facts], *, settings: Prepare, work: Work
) -> tuple[list[HeldOutMap], float]:
    """Maps of the pictures held out, as a device makes them, and the largest distance.

    Whole maps are kept of 80 pictures at the most, evenly spread; scores of all.
    """
    drawn = [number for number, each in enumerate(validation) if each.drawn]
    wanted = set(spread_over(drawn, most=_MOST_MAPS))
    found, farthest = [], 0.0
    for number, facts in enumerate(validation):
        work.steps.at(82 + 5 * number / len(validation), "looking at what was held out")
        image = work.picture(facts.sample)
        maps, distance = engine.run(prepare(image, settings), outputs=OUTPUTS)
        farthest = max(farthest, float(distance.max()))
        height, width = image.shape[:2]
        grid = maps[0, 0]
        cells = inside_picture(grid, settings, width_px=width, height_px=height)
        found.append(
            HeldOutMap(
                facts=facts,
                tops=tops_of(cells),
                logits=_laid(grid, settings, size=(width, height)) if number in wanted else None,
                truth=_truth(facts, work=work) if number in wanted else None,
            )
        )
    return found, farthest


def spread_over(items: Sequence[Item], *, most: int) -> list[Item]:
    """All of them, or as many as ``most``, evenly spread."""
    places = np.linspace(0, len(items) - 1, min(len(items), most)).round().astype(np.intp)
    return [items[place] for place in places.tolist()]


def _laid(grid: Floats, settings: Prepare, *, size: tuple[int, int]) -> NDArray[np.float16]:
    return on_picture(grid, settings, width_px=size[0], height_px=size[1]).astype(np.float16)


def _truth(facts: Facts, *, work: Work) -> NDArray[np.bool_]:
    mask = work.mask(facts.sample)
    return np.zeros((facts.height_px, facts.width_px), np.bool_) if mask is None else mask


def baseline_of(facts: Sequence[Facts]) -> dict[str, float]:
    """Shares of defective pictures and of defective pixels."""
    drawn = [each for each in facts if each.drawn]
    pixels = sum(each.width_px * each.height_px for each in drawn)
    marked = sum(each.share * each.width_px * each.height_px for each in drawn)
    return {
        "defect_share": float(np.mean([each.defective for each in facts])),
        "pixel_share": marked / pixels if pixels else 0.0,
    }


def warnings_of(
    training: Sequence[Facts], validation: Sequence[Facts], *, policy: Policy
) -> tuple[str, ...]:
    """Return the sentences that stand beside every figure."""
    told = []
    drawn = sum(each.defective and each.drawn for each in training)
    if drawn < _FEW_DEFECTS:
        told.append(f"few masks: {drawn} were learned from; draw {_FEW_DEFECTS} or more")
    bare = sum(not each.drawn for each in training)
    if bare:
        told.append(f"{bare} defective pictures without a mask taught the picture's score alone")
    ups = sum(each.defective for each in validation)
    rarer = min(ups, len(validation) - ups)
    if not rarer:
        side = "good" if ups else "defective"
        told.append(f"no {side} picture was held out: every picture is answered unsure")
    elif 1 / (rarer + 1) > policy.error_rate:
        told.append(
            f"decisions rest on {rarer} pictures held out of the rarer side: an error rate below "
            f"{1 / (rarer + 1):.2f} cannot be promised"
        )
    return tuple(told)


def figures_of(held: Sequence[HeldOutMap], *, rule: MaskRule) -> dict[str, float]:
    """Figures on what was held out; it chose epoch and cuts, so they flatter a little."""
    truth = np.array([each.facts.defective for each in held], np.bool_)
    scores = np.array([score_of(each, rule) for each in held])
    kept = drawn_maps(held)
    found = [set_pixels(logits, rule)[0] for logits, _ in kept]
    counts = pixel_counts(found, [mask for _, mask in kept])
    by_picture = [f1_of(row[None]) for row in counts if row[0] + row[2]]
    figures = {
        "auroc": auroc(truth, scores),
        "average_precision": average_precision(truth, scores),
        "pixel_f1": f1_of(counts),
        "pixel_f1_per_picture": float(np.mean(by_picture)) if by_picture else float("nan"),
        "pictures": float(len(held)),
    }
    return {name: round(value, 6) for name, value in figures.items() if np.isfinite(value)}


def _section(
    training: Sequence[Facts],
    validation: Sequence[Facts],
    *,
    fitted: Fitted,
    rule: MaskRule,
    zoom: Prepare,
) -> Mapping[str, object]:
    kinds: dict[str, int] = {}
    for each in training:
        for name in defect_labels(each.sample) or ("good",):
            kinds[name] = kinds.get(name, 0) + 1
    return {
        "pictures learned from": len(training),
        "pictures held out": len(validation),
        "with a drawn defect": sum(each.defective and each.drawn for each in training),
        "defective, mask not drawn": sum(not each.drawn for each in training),
        "by label": kinds,
        "network pixels per picture pixel": zoom.zoom if zoom.fit == "zoom" else "stretched",
        "best epoch": fitted.best_epoch + 1,
        "pixel cut": rule.cut,
        "least piece in pixels": rule.least_px,
        "share of cells in the score": rule.top_share,
    }
