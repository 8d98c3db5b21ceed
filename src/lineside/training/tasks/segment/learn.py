"""Learn masks of defects from pictures with masks, with labels only, and from good ones.

1. Below 300 pictures each is held out once, by group, in three fits; then one on all follows. From
   300 on, a seventh is held out, or the source's own validation part of ten pictures or more;
   masks are on both sides.
2. Held-out maps go through the cut that devices use.

From maps of pictures held out to a rule: the pixels' cut, the least piece, the picture's band:

1. The cut is the one of the best pixel F1: the mean of F1 over all pixels together and of F1
   picture by picture, so that neither large defects nor many small ones decide alone.
2. Pieces are dropped below the size that serves the same figure best, never above half of what
   nineteen of twenty drawn pieces have.
3. The picture's score takes the top share that ranks defective pictures best; among equals the
   usual one.
4. Probability and band as of labels (``common.methods``): Platt scaling, conformal
   quantiles per side, never below 1 / (n + 1); a gap between the sides is unsure in its middle.
5. The band is widened on both sides of its cut until an exact test shows the wished error rate
   among the answers that remain, or else the next rate of the ladder.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from lineside.core import InvalidError, Policy
from lineside.datasets import Part, Sample
from lineside.datasets.splitting import folds
from lineside.models.result import ErrorBound
from lineside.training.common.export import CELLS, PICTURE, export, golden_of, limits_of
from lineside.training.common.loop import (
    BATCH,
    LEAST_HELD,
    MANY,
    Round,
    fit_rounds,
    owners_of,
)
from lineside.training.common.methods import (
    CONFIDENCE,
    Band,
    CalibratedCut,
    FeatureBank,
    calibrated_cut,
    error_bound,
    feature_bank,
    rate_warning,
    shown_rate,
    spread,
    unsure_between,
)
from lineside.training.common.torch_backbone import open_backbone
from lineside.training.job import TrainJob
from lineside.training.tasks.contract import Trained, Work
from lineside.training.tasks.segment.fit import MaskStudent, has_bf16
from lineside.training.tasks.segment.network import (
    OUTPUTS,
    STRIDE_PX,
    MaskNetwork,
    UNet,
)
from lineside.training.tasks.segment.training_set import (
    Facts,
    TrainingSet,
    defect_labels,
    facts_of,
    prepare_for,
    shown_by,
    stretched_to,
    zoom_for,
)
from lineside.vision import MaskRule, Prepare, prepare
from lineside.vision.masks import (
    inside_picture,
    on_picture,
    probability_score,
    top_mean,
)
from lineside.vision.metrics import (
    auroc,
    average_precision,
    cheapest_cut,
    f1_of,
    pixel_counts,
)
from lineside.vision.prepare import normalise

Floats = NDArray[np.float32]

USUAL_SHARE = 0.001
_SHARES = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.03)
_BETTER = 0.02
_CUTS = tuple(round(0.1 + 0.05 * step, 2) for step in range(17))
_EDGE = 1e-6
_FEWEST_AREAS = 5

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ValidationMap:
    """Answer of the network to a held-out picture.

    Attributes:
        tops: mean probability of the top cells, one per share of ``_SHARES``.
        logits: (height, width) on the picture's pixels; None where the mask is not known, or enough
            others are kept.
        truth: (height, width) bool; None likewise.
    """

    facts: Facts
    tops: tuple[float, ...]
    logits: NDArray[np.float16] | None = None
    truth: NDArray[np.bool_] | None = None


def tops_of(cells: Floats) -> tuple[float, ...]:
    """The scores of a picture's cells, one per share."""
    return tuple(top_mean(cells, share=share) for share in _SHARES)


def score_of(held: ValidationMap, rule: MaskRule) -> float:
    """The score by a rule's share."""
    return held.tops[_SHARES.index(rule.top_share)]


def mask_rule(
    held: Sequence[ValidationMap], *, areas_px: Sequence[int], label: str, policy: Policy
) -> tuple[MaskRule, ErrorBound]:
    """The rule that follows from pictures held out, and the error among its answers.

    Args:
        held: of every picture held out.
        areas_px: of the pieces drawn in the pictures learned from.
        label: what the masks show.
        policy: error rate and costs.
    """
    truth = np.array([each.facts.defective for each in held], np.bool_)
    place = _share(np.array([each.tops for each in held]), truth)
    cut = _cut(held)
    rarer = int(min(truth.sum(), (~truth).sum()))
    logits = logit(np.array([each.tops[place] for each in held]))
    band = unsure_between(logits, truth, rarer=rarer, policy=policy, clamped=False)
    chances = 1.0 / (1.0 + np.exp(-np.clip(band.slope * logits + band.offset, -60.0, 60.0)))
    owners = owners_of([each.facts.sample for each in held])
    picture, bound = _test_band(band, chances, truth, owners=owners, policy=policy)
    rule = MaskRule(
        label=label,
        cut=cut,
        least_px=_least(held, cut=cut, areas_px=areas_px),
        present_above=1.0,
        absent_below=0.0,
        error_rate=picture.error_rate,
        calibration_pictures=len(held),
        top_share=_SHARES[place],
        slope=picture.slope,
        offset=picture.offset,
        stride_px=STRIDE_PX,
        floor=picture.floor,
    )
    if picture.error_rate < 1.0 and rarer:
        low, high = (probability_score(each, rule) for each in (picture.low, picture.high))
        rule = replace(rule, present_above=high, absent_below=low)
    return rule, bound


def _test_band(
    band: Band,
    chances: Numbers,
    truth: NDArray[np.bool_],
    *,
    owners: Sequence[object],
    policy: Policy,
) -> tuple[Band, ErrorBound]:
    """The band as wide as an exact test of the error among the answers needs it.

    An answer is the surer the nearer its probability is to 0 or 1, seen from the cheapest cut. The
    band is never narrower than before: the test counts all answers alike, and few defects among
    many good pictures could all be missed. The stated rate is the one that was tested, or the next
    of the ladder that the answers outside both bands show. Where none below 1 is shown, every
    picture is unsure. Of a cut that the policy fixes, which answers all, it is the rate shown.
    """
    limit, middle = CalibratedCut(0.0, policy.error_rate, CONFIDENCE), policy.present_above
    probabilities = np.clip(chances, band.floor, 1.0 - band.floor)  # as ``score_probability``
    answered = np.ones(len(truth), np.bool_)
    if middle is not None:
        middle = min(max(middle, _EDGE), 1.0 - _EDGE)
        wrong = (probabilities > middle) != truth
    else:
        middle = cheapest_cut(band.table) if band.table else 0.5
        wrong = (chances > middle) != truth
        sureness = _sureness(probabilities, middle=middle)
        limit = calibrated_cut(sureness, wrong, owners=owners, rate=policy.error_rate)
        reach = limit.cut if limit.cut > sureness.min() else 0.0
        low, high = middle * (1.0 - reach), middle + reach * (1.0 - middle)
        band = replace(band, low=min(band.low, low), high=max(band.high, high))
        answered = (chances < band.low) | (chances > band.high)
    shown = shown_rate(
        wrong,
        answered=answered,
        owners=owners,
        rate=policy.error_rate,
        confidence=limit.confidence,
    )
    rate = max(limit.rate, shown)
    if rate >= 1.0 and policy.present_above is None:
        band, answered = replace(band, low=0.0, high=1.0), np.zeros(len(truth), np.bool_)
    bound = error_bound(
        _sureness(probabilities, middle=middle),
        wrong,
        answered=answered,
        owners=owners,
        target=policy.error_rate,
        confidence=limit.confidence,
        shown=rate,
    )
    return replace(band, error_rate=rate), bound if band.table else replace(bound, curve=())


def _sureness(chances: Numbers, *, middle: float) -> Numbers:
    """0 at the middle, 1 at probabilities of 0 and 1."""
    above = (chances - middle) / (1.0 - middle)
    return np.where(chances > middle, above, (middle - chances) / middle)


def _share(tops: Numbers, truth: NDArray[np.bool_]) -> int:
    """Place of the share whose scores rank best."""
    usual = _SHARES.index(USUAL_SHARE)
    if truth.all() or not truth.any():
        return usual
    worth = [auroc(truth, scores) + average_precision(truth, scores) for scores in tops.T]
    return usual if max(worth) < worth[usual] + _BETTER else int(np.argmax(worth))


# ---- pixels


def drawn_maps(held: Sequence[ValidationMap]) -> list[tuple[Floats, NDArray[np.bool_]]]:
    """Maps and masks of the pictures whose masks are known."""
    return [
        (np.asarray(each.logits, np.float32), each.truth)
        for each in held
        if each.logits is not None and each.truth is not None
    ]


def _worth(counts: NDArray[np.int64]) -> float:
    """Mean of F1 of all pixels and of F1 by picture; counts as of ``pixel_counts``."""
    marked = [row[None] for row in counts if row[0] + row[2]]
    if not marked:
        return 0.0
    return (f1_of(counts) + float(np.mean([f1_of(row) for row in marked]))) / 2


def _cut(held: Sequence[ValidationMap]) -> float:
    """The probability of the best pixel F1; the middle where no mask is known."""
    maps = drawn_maps(held)
    worth = [_worth(_counts(maps, limit=math.log(cut / (1 - cut)))) for cut in _CUTS]
    return _CUTS[int(np.argmax(worth))] if max(worth) > 0 else 0.5


def _counts(maps: Sequence[tuple[Floats, NDArray[np.bool_]]], *, limit: float) -> NDArray[np.int64]:
    found = [logits > limit for logits, _ in maps]
    return pixel_counts(found, [truth for _, truth in maps])


def _least(held: Sequence[ValidationMap], *, cut: float, areas_px: Sequence[int]) -> int:
    """Size below which pieces are dropped."""
    if len(areas_px) < _FEWEST_AREAS:
        return 1
    most = max(1, int(np.quantile(areas_px, 0.05) / 2))
    sizes = sorted({1, *(max(1, most >> shift) for shift in range(4))})
    pieces = [_piece_counts(*each, limit=math.log(cut / (1 - cut))) for each in drawn_maps(held)]
    worth = [
        _worth(np.array([_remaining(*each, least=least) for each in pieces])) for least in sizes
    ]
    return sizes[int(np.argmax(worth))] if pieces else 1


def _piece_counts(
    logits: Floats, truth: NDArray[np.bool_], *, limit: float
) -> tuple[NDArray[np.int64], int]:
    """((pieces, 2) size and rightly set pixels of each piece found, pixels truly defect)."""
    import cv2

    mask = (logits > limit).astype(np.uint8)
    count, numbers = cv2.connectedComponents(mask, connectivity=8)
    sizes = np.bincount(numbers.reshape(-1), minlength=count)[1:]
    hits = np.bincount(numbers[truth], minlength=count)[1:]
    return np.stack([sizes, hits], axis=1), int(truth.sum())


def _remaining(pieces: NDArray[np.int64], truth: int, *, least: int) -> tuple[int, int, int]:
    sizes, hits = pieces[pieces[:, 0] >= least].sum(axis=0).tolist()
    return hits, sizes - hits, truth - hits


# ---- pictures


def logit(chances: Numbers) -> Numbers:
    """Log odds, held between those of 1e-6 and of 1 - 1e-6."""
    held = np.clip(chances, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(held / (1 - held)), np.float64)


_FOLDER = "segment"
_NAME = "defect"
_TURNS, _LEAST_STEPS, _MOST_STEPS = 12, 240, 480
_RATE = 1.2e-3
_PARTS = 7
_MOST_MAPS = 80
_MOST_KNOWN = 256
_FEW_DEFECTS = 20
_MOST_SIDE_PX = 256
_LEAST_SPREAD = 1e-3


def learn(job: TrainJob, work: Work) -> Trained:
    """Learn masks; see ``Learner``."""
    backbone = open_backbone(job.backbone, deepest=32)
    facts = _look(work, good=job.inspection.good)
    samples = samples_to_fit(facts, seed=job.seed)
    known = _training_set(job, work, facts)
    trained, history, folds = fit_rounds(
        samples,
        job=job,
        steps=work.steps,
        folder=work.folder / _FOLDER / backbone.key[:16],
        parallel=work.parallel,
        usual=min(_MOST_STEPS, max(_LEAST_STEPS, round(_TURNS * len(facts) / BATCH))),
        rate=_RATE,
        student=partial(MaskStudent, known=known, backbone=backbone),
        judge=lambda one, each: _held(one.network, each, known=known, work=work),
        taught=partial(_taught, job=job, work=work, known=known),
    )
    return replace(trained, history=history, folds=folds)


def _taught(
    student: MaskStudent,
    learned: Sequence[Sample],
    held: Sequence[ValidationMap],
    *,
    job: TrainJob,
    work: Work,
    known: TrainingSet,
) -> Trained:
    """The network with the rule that follows from pictures held out.

    Args:
        student: taught; batch normalisation is folded into its layers here.
        learned: the pictures that it learned from.
        held: answers to pictures held out.
        job: for the inspection.
        work: for pictures.
        known: everything known of the pictures.
    """
    facts = [known.facts[sample.digest] for sample in learned]
    good = job.inspection.good
    network = student.network.requires_grad_(requires_grad=False)
    network.fold()
    golden = golden_of(
        [one.sample for one in sorted(facts, key=lambda each: (each.share, each.sample.digest))]
    )
    chosen = spread(facts, _MOST_KNOWN)
    bank = _bank(network, chosen, known=known)
    work.steps.at(89, "exporting")
    exported = export(
        MaskNetwork(network, bank).eval(),
        [prepare(work.picture(sample), known.settings) for sample in golden],
        outputs=OUTPUTS,
        varies={"crops": PICTURE, "map": CELLS},
    )
    label = label_of(job.inspection.labels, good=good)
    areas = [area for each in facts for area in each.areas_px]
    rule, bound = mask_rule(held, areas_px=areas, label=label, policy=job.inspection.policy)
    of_each = len(facts) / len(held)  # more of all pictures are needed than of these
    bound = replace(
        bound,
        more=math.ceil(bound.more * of_each),
        more_groups=math.ceil(bound.more_groups * of_each),
    )
    return Trained(
        network=exported.network,
        max_abs_diff=exported.max_abs_diff,
        prepare=known.settings,
        health=limits_of([each.health for each in facts], farthest=bank.farthest),
        golden=golden,
        labels=(label,),
        mask=rule,
        baseline=baseline_of(facts),
        warnings=warnings_of(facts, [each.facts for each in held], rule=rule, bound=bound),
        error_bound=bound,
        remembered=(tuple(chosen[row].sample.digest for row in bank.rows),),
        sections={"masks": _section(facts, held, rule=rule, zoom=known.settings, good=good)},
    )


def label_of(names: Sequence[str], *, good: Collection[str] = ()) -> str:
    """Return the label of the masks: the inspection's one defect, where it names one alone."""
    defects = defect_labels(names, good=good)
    return defects[0] if len(defects) == 1 else _NAME


def _look(work: Work, *, good: Collection[str]) -> list[Facts]:
    found = []
    for number, sample in enumerate(work.training):
        work.steps.at(1 + 2 * number / len(work.training), "looking at pictures and masks")
        found.append(facts_of(sample, work=work, good=good))
    return found


def samples_to_fit(facts: Sequence[Facts], *, seed: int) -> list[Sample]:
    """The samples, with labels by which each fold gets its share of masks.

    Where one part is held out, it is the declared one or a fold, such that masks are on both sides.

    Raises:
        InvalidError: fewer than two masks, or those of one group alone.
    """
    drawn = [each.sample for each in facts if each.defective and each.drawn]
    if len(drawn) < 2:
        raise InvalidError(
            f"{len(drawn)} pictures have a mask with a defect on it, two are the least",
            where="data",
            fix="Draw masks (white on black) on some defective pictures, or train 'classify'.",
        )
    if drawn[0].group and len({sample.group for sample in drawn}) == 1:
        raise InvalidError(
            "all pictures with masks belong to one group; none can be held out by group",
            where="data",
            fix="Draw masks on pictures of another group (part, tile, time).",
        )
    samples = [replace(each.sample, labels=(_kind(each), *each.sample.labels)) for each in facts]
    if len(samples) < MANY:
        return samples
    place = folds(samples, count=_PARTS, seed=seed)
    parts = [
        {each.digest for each in samples if each.split is Part.VALID},
        *({s.digest for s, p in zip(samples, place, strict=True) if p == n} for n in range(_PARTS)),
    ]
    for part in parts:
        masks = sum(sample.digest in part for sample in drawn)
        if len(part) >= LEAST_HELD and 0 < masks < len(drawn):
            return [
                replace(each, split=Part.VALID if each.digest in part else Part.OPEN)
                for each in samples
            ]
    return samples


def _kind(facts: Facts) -> str:
    if not facts.defective:
        return "good"
    return "mask" if facts.drawn else "no mask"


def _training_set(job: TrainJob, work: Work, facts: Sequence[Facts]) -> TrainingSet:
    if input_px := int(job.setting("input_px", 0)):
        settings = stretched_to(input_px)
    else:
        settings = prepare_for(
            job.setting("zoom", zoom_for(facts)),
            sizes_px={(one.width_px, one.height_px) for one in facts},
        )
    return TrainingSet(
        facts={each.sample.digest: each for each in facts},
        show=shown_by(settings, work=work),
        settings=settings,
        side_px=_side(int(job.setting("side_px", 0)), facts, settings=settings),
        bf16=bool(job.setting("bf16", float(has_bf16()))),
    )


def _side(side_px: int, facts: Sequence[Facts], *, settings: Prepare) -> int:
    """Side of the pieces: as asked, else as the longer side of the middle picture, 256 at most."""
    if side_px:
        return side_px
    if settings.fit == "stretch":
        return min(_MOST_SIDE_PX, settings.width_px)
    longer = float(np.median([max(each.width_px, each.height_px) for each in facts]))
    multiple = settings.multiple
    return min(_MOST_SIDE_PX, max(multiple, int(-(-longer * settings.zoom // multiple)) * multiple))


def _bank(network: UNet, chosen: Sequence[Facts], *, known: TrainingSet) -> FeatureBank:
    features = []
    for facts in chosen:
        crops = normalise(known.show(facts.sample).pixels[None], known.settings)
        with torch.inference_mode():
            features.append(network.taps(torch.from_numpy(crops))[1].mean(dim=(2, 3)).numpy())
    means = np.concatenate(features)
    deviation = np.maximum(means.std(axis=0), _LEAST_SPREAD)
    owners = owners_of([facts.sample for facts in chosen])
    return feature_bank(means, spread=deviation, owners=owners, size=len(means))


def _held(network: UNet, each: Round, *, known: TrainingSet, work: Work) -> list[ValidationMap]:
    """Maps of pictures that the network has not seen, laid on them as a device does.

    Whole maps are kept of 80 pictures in all at the most, evenly spread; scores of all.
    """
    judged = [known.facts[sample.digest] for sample in each.judge]
    drawn = [number for number, facts in enumerate(judged) if facts.drawn]
    wanted = set(spread(drawn, _MOST_MAPS if each.name == "part" else _MOST_MAPS // 3))
    found = []
    for number, facts in enumerate(judged):
        work.steps.at(work.steps.percent, "looking at what was held out")
        image = work.picture(facts.sample)
        with torch.inference_mode():
            maps, _ = network(torch.from_numpy(prepare(image, known.settings)))
        grid, (height, width) = maps[0, 0].numpy(), image.shape[:2]
        cells = inside_picture(grid, known.settings, width_px=width, height_px=height)
        found.append(
            ValidationMap(
                facts=facts,
                tops=tops_of(cells),
                logits=_laid(grid, known.settings, size=(width, height))
                if number in wanted
                else None,
                truth=_truth(facts, work=work) if number in wanted else None,
            )
        )
    return found


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
    facts: Sequence[Facts], held: Sequence[Facts], *, rule: MaskRule, bound: ErrorBound
) -> tuple[str, ...]:
    """Return the sentences that stand beside every figure."""
    sentences = []
    drawn = sum(each.defective and each.drawn for each in facts)
    if drawn < _FEW_DEFECTS:
        sentences.append(f"few masks: {drawn}; draw {_FEW_DEFECTS} or more")
    bare = sum(not each.drawn for each in facts)
    if bare:
        sentences.append(
            f"{bare} defective pictures without a mask taught the picture's score alone"
        )
    ups = sum(each.defective for each in held)
    rarer, side = min((ups, "defective"), (len(held) - ups, "good"))
    if not rarer:
        unsure = "" if bound.answered else ": every picture is answered unsure"
        sentences.append(f"no {side} picture was held out{unsure}")
    elif 1 / (rarer + 1) > bound.target:
        sentences.append(
            f"held out of the {side} pictures: {rarer}; up to {1 / (rarer + 1):.0%} of such "
            "pictures may be answered wrongly"
        )
    if rarer and rule.error_rate > bound.target:
        sentences.append(rate_warning(bound))
    return tuple(sentences)


def _section(
    facts: Sequence[Facts],
    held: Sequence[ValidationMap],
    *,
    rule: MaskRule,
    zoom: Prepare,
    good: Collection[str],
) -> Mapping[str, object]:
    kinds: dict[str, int] = {}
    for each in facts:
        for name in defect_labels(each.sample.labels, good=good) or ("good",):
            kinds[name] = kinds.get(name, 0) + 1
    return {
        "pictures": len(facts),
        "pictures held out": len(held),
        "with a drawn defect": sum(each.defective and each.drawn for each in facts),
        "defective, mask not drawn": sum(not each.drawn for each in facts),
        "by label": kinds,
        "network pixels per picture pixel": zoom.zoom if zoom.fit == "zoom" else "stretched",
        "pixel cut": rule.cut,
        "least piece in pixels": rule.least_px,
        "share of cells in the score": rule.top_share,
    }
