"""Learn presence and classes of regions on a registered view.

1. The reference view is chosen, every picture is registered to it, and the frozen network's
   features of each region's crop are kept in the job's folder.
2. Linear heads are cross-validated by group; rules rest on the held-out answers.
3. The heads of the package are fitted to all pictures that could be placed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial

import numpy as np

from lineside.core import InvalidError
from lineside.core.worker import look_at_each
from lineside.datasets import Sample
from lineside.datasets.leaks import find_leaks, merge_leaks, region_features
from lineside.datasets.samples import Skipped
from lineside.datasets.splitting import folds
from lineside.models import HealthLimits
from lineside.models.engines import BANK_OUTPUT, LABEL_OUTPUTS
from lineside.models.manifest import FEW_PICTURES
from lineside.models.result import ErrorBound
from lineside.training.common.export import export, golden_of, limits_of
from lineside.training.common.loop import apart, one_group, owners_of
from lineside.training.common.methods import (
    CONFIDENCE,
    error_bound,
    rate_warning,
    shown_rate,
)
from lineside.training.common.torch_backbone import open_backbone
from lineside.training.job import TrainJob
from lineside.training.source import LeakSearch
from lineside.training.tasks.contract import MAJORITY, Trained, Work, held_out_case
from lineside.training.tasks.metrics import share
from lineside.training.tasks.multilabel.features import (
    FeatureExtractor,
    PictureFeatures,
    Reference,
    choose_reference,
)
from lineside.training.tasks.multilabel.heads import (
    Floats,
    HeadPlan,
    Heads,
    RegionNetwork,
    Truth,
    check_enough,
    fit_heads,
    logits_of,
    plan_heads,
    truth_of,
)
from lineside.training.tasks.multilabel.held_out import (
    CrossValidation,
    cross_validate,
    curve_of,
    held_out_labels,
    rules_for,
)
from lineside.training.tasks.multilabel.metrics import (
    Majority,
    PictureAnswers,
    accuracy_of,
    answers_of,
    majority_of,
)
from lineside.vision import LabelRule, Prepare, prepare
from lineside.vision.decide import decide
from lineside.vision.metrics import UNSURE
from lineside.vision.prepare import crops_for

_MARGIN = 0.25
_MOST_CLIPPED = 0.95
_MOST_CROPS = 1500
_MOST_VARIANTS = 6
_MOST_GROUPS = 12
_MOST_NAMES = 5
_LEAK_PARTS = ("train", "valid")
_LEAKS_BY = "regions of the registered view"


def learn(job: TrainJob, work: Work) -> Trained:
    """See ``Learner``."""
    steps = work.steps
    backbone = open_backbone(job.backbone, batch=2)
    steps.at(2, "choosing the reference view")
    reference = choose_reference(
        job.inspection, work.training, read=work.encoded, named=job.reference
    )
    settings = _prepare(job, reference)
    looker = FeatureExtractor(
        reference=reference,
        registrar=reference.registrar(),
        prepare=settings,
        read=work.encoded,
        seed=job.seed,
        folder=work.folder / "features",
        backbone=backbone,
    )
    looked = _look(looker, work, variants=_variants(job, work, settings=settings))
    pictures = [picture for picture in looked if picture.matrix is not None]
    refused = [picture for picture in looked if picture.matrix is None]
    if not pictures:
        raise InvalidError(
            f"none of {len(looked)} pictures could be placed on the reference view",
            where="data",
            fix="Check the view, or name the picture the regions were drawn on (reference).",
        )
    samples = [picture.sample for picture in pictures]
    plan = plan_heads(job.inspection)
    truth = truth_of(plan, samples)
    check_enough(plan, truth)
    held_out = cross_validate(
        plan,
        pictures,
        truth=truth,
        folds=folds(apart(samples), count=job.folds, seed=job.seed),
        folder=work.folder / "folds",
        report=partial(_tell_fold, work, first=62, last=76),
    )
    policy = job.inspection.policy
    labels = held_out_labels(plan, held_out=held_out, truth=truth, policy=policy)
    answered = [answers_of(plan, s, answer) for s, answer in zip(samples, labels, strict=True)]
    left_out = _leave_out(job, pictures, plan=plan, truth=truth, work=work)
    curve = curve_of(
        plan,
        pictures,
        truth=truth,
        held_out=held_out,
        groups=owners_of(samples),
        seed=job.seed,
        folder=work.folder / "folds",
        report=lambda: steps.at(83, "estimating what more pictures bring"),
    )
    steps.at(84, "fitting")
    fitted = fit_heads(plan, [picture.features for picture in pictures], truth=truth)
    bound = bound_of(answered, target=policy.error_rate)
    everyone = range(len(pictures))
    made = rules_for(plan, held_out.logits, truth=truth, policy=policy, pictures=everyone)
    rules = tuple(replace(rule, error_rate=bound.bound if bound else 1.0) for rule in made)
    steps.at(88, "exporting")
    golden = golden_of(
        sorted(pictures, key=lambda each: (len(each.sample.labels), each.sample.digest))
    )
    exported = export(
        RegionNetwork(fitted.heads, backbone=backbone).eval(),
        [prepare(work.picture(one.sample), settings, matrix=one.matrix) for one in golden],
        outputs=(*LABEL_OUTPUTS, BANK_OUTPUT),
    )
    majority = majority_of(answered)
    return Trained(
        network=exported.network,
        max_abs_diff=exported.max_abs_diff,
        prepare=settings,
        health=_limits(pictures, held_out.distances),
        golden=[picture.sample for picture in golden],
        matrices=[picture.matrix for picture in golden if picture.matrix is not None],
        labels=tuple(rule.name for rule in rules),
        rules=rules,
        baseline={f"{MAJORITY}{name}": float(place) for name, place in majority.items()},
        warnings=_warnings(
            plan, truth, answered=answered, rules=made, bound=bound, refused=len(refused)
        ),
        error_bound=bound,
        curve=curve,
        remembered=tuple(tuple(samples[owner].digest for owner in row) for row in fitted.owners),
        sections={
            "Reference view": reference.sample.name,
            "Groups left out, one by one": _group_rows(left_out, majority=majority),
            "Changed copies answered like the picture itself": _stability(
                job, samples, plan=plan, held_out=held_out, rules=rules
            ),
            "Thresholds and calibration": _thresholds(rules),
            "Answers of a head to other places": _other_places(
                plan,
                fitted.heads,
                features=[picture.features for picture in pictures],
                truth=truth,
            ),
        },
        files={reference.file: reference.encoded},
        reference_file=reference.file,
        refused=tuple(Skipped(where=one.sample.name, reason=one.reason) for one in refused),
        cases=[
            held_out_case(
                job, picture.sample, labels=answer, health=picture.health, place=picture.place
            )
            for picture, answer in zip(pictures, labels, strict=True)
        ],
        find_leaks=lambda others: _leaks(pictures, others, looker=looker, work=work),
    )


def bound_of(answered: Sequence[PictureAnswers], *, target: float) -> ErrorBound | None:
    """The error among the answers to pictures held out, whose rules came from other folds.

    Args:
        answered: each picture by heads and rules that had not seen it.
        target: error rate of the policy.
    """
    found = [
        (answer, owner)
        for picture, owner in zip(answered, owners_of([p.sample for p in answered]), strict=True)
        for answer in picture.answers
        if answer.chances
    ]
    if not found:
        return None
    whose = [owner for _, owner in found]
    given = np.array([one.predicted != UNSURE for one, _ in found])
    said = [
        one.predicted if one.predicted != UNSURE else int(np.argmax(one.chances))
        for one, _ in found
    ]
    wrong = np.array(said) != np.array([one.truth for one, _ in found])
    return error_bound(
        np.array([max(one.chances) for one, _ in found]),
        wrong,
        answered=given,
        owners=whose,
        target=target,
        confidence=CONFIDENCE,  # no cut was chosen by the answers that it is tested on
        shown=shown_rate(wrong, answered=given, owners=whose, rate=target),
        noun="labels on pictures",
    )


def _limits(pictures: Sequence[PictureFeatures], distances: Floats) -> HealthLimits:
    """Limits of health; on a registered view some light is never clipped."""
    found = limits_of(
        [picture.health for picture in pictures],
        farthest=float(distances.max()) if distances.size else 0.0,
        residual_px=max(picture.place.residual_px for picture in pictures),
    )
    return replace(found, clipped_share_max=min(_MOST_CLIPPED, found.clipped_share_max))


def _tell_fold(
    work: Work, done: float, *, loss: float, held_out: float, first: float, last: float
) -> None:
    steps = work.steps
    steps.loss, steps.held_out = round(loss, 4), round(held_out, 4)
    steps.at(first + (last - first) * done, "cross-validating")


def _prepare(job: TrainJob, reference: Reference) -> Prepare:
    view = reference.view
    return Prepare(
        crops=crops_for(
            job.inspection.region,
            width_px=view.width_px,
            height_px=view.height_px,
            margin=_MARGIN,
        ),
        width_px=job.crop_px,
        height_px=job.crop_px,
        view=view,
    )


def _variants(job: TrainJob, work: Work, *, settings: Prepare) -> int:
    """The fewer crops there are to learn from, the more changed copies of each."""
    if job.variants >= 0:
        return job.variants
    crops = len(work.training) * len(settings.crops)
    return max(1, min(_MOST_VARIANTS, _MOST_CROPS // crops - 1))


def _look(looker: FeatureExtractor, work: Work, *, variants: int) -> list[PictureFeatures]:
    at, count = work.steps.at, len(work.training)
    return look_at_each(
        partial(looker.look, variants=variants),
        work.training,
        tell=lambda done: at(8 + 52 * done / count, "looking at pictures"),
    )


def _leave_out(
    job: TrainJob,
    pictures: Sequence[PictureFeatures],
    *,
    plan: HeadPlan,
    truth: Truth,
    work: Work,
) -> tuple[PictureAnswers, ...]:
    """Each group answered by heads that saw none of it; nothing where there are no few groups."""
    samples = [picture.sample for picture in pictures]
    groups = sorted({sample.group for sample in samples})
    if not all(groups) or not 2 <= len(groups) <= _MOST_GROUPS:
        return ()
    held_out = cross_validate(
        plan,
        pictures,
        truth=truth,
        folds=[groups.index(sample.group) for sample in samples],
        folder=work.folder / "folds",
        report=partial(_tell_fold, work, first=76, last=82),
    )
    labels = held_out_labels(plan, held_out=held_out, truth=truth, policy=job.inspection.policy)
    return tuple(answers_of(plan, s, answer) for s, answer in zip(samples, labels, strict=True))


def _leaks(
    training: Sequence[PictureFeatures],
    others: Sequence[Sample],
    *,
    looker: FeatureExtractor,
    work: Work,
) -> LeakSearch:
    """Compare what was learned from with other pictures, region by region."""
    placed = []
    for number, sample in enumerate(others):
        work.steps.at(94 + number / len(others), "looking for leaks")
        looked = looker.look(sample, variants=0)
        if looked.matrix is not None:
            placed.append(looked)
    everyone = [*training, *placed]
    parts = [_LEAK_PARTS[0]] * len(training) + [_LEAK_PARTS[1]] * len(placed)
    vectors = region_features(np.stack([picture.crops for picture in everyone]), cell_px=1)
    found = find_leaks([picture.sample for picture in everyone], vectors, parts=parts)
    return LeakSearch(leaks=merge_leaks(work.leaks, found), how=_LEAKS_BY)


def _group_rows(
    pictures: Sequence[PictureAnswers], *, majority: Majority
) -> list[dict[str, object]]:
    """Accuracy on each group by heads that had seen none of it."""
    rows = []
    for group in sorted({picture.sample.group for picture in pictures}):
        mine = [picture for picture in pictures if picture.sample.group == group]
        rows.append({"group": group, **asdict(accuracy_of(mine, majority=majority))})
    return rows


def _thresholds(rules: Sequence[LabelRule]) -> list[dict[str, object]]:
    """The band of each label and its evidence; of a class, over all regions."""
    found: dict[str, dict[str, object]] = {}
    for rule in rules:
        name = rule.label if rule.is_class else rule.name
        found.setdefault(
            name,
            {
                "name": name,
                "absent below": rule.low,
                "present above": rule.high,
                "least probability": rule.floor,
                "error rate": rule.error_rate,
                "pictures": rule.calibration_pictures,
            },
        )
    return list(found.values())


def _stability(
    job: TrainJob,
    samples: Sequence[Sample],
    *,
    plan: HeadPlan,
    held_out: CrossValidation,
    rules: Sequence[LabelRule],
) -> Mapping[str, object]:
    """Return how often a changed copy of a held-out picture is answered like the picture."""

    def places(sample: Sample, logits: Floats) -> list[int]:
        labels = decide(logits, rules, regions=plan.regions, policy=job.inspection.policy)
        return [answer.predicted for answer in answers_of(plan, sample, labels).answers]

    same = [
        places(sample, copy) == places(sample, own)
        for sample, own, copies in zip(samples, held_out.logits, held_out.varied, strict=True)
        for copy in copies
    ]
    return asdict(share(sum(same), len(same), baseline=0.0)) if same else {}


def _other_places(
    plan: HeadPlan, heads: Heads, *, features: Sequence[Floats], truth: Truth
) -> list[dict[str, object]]:
    """Ask every presence head about what lies in the other presence regions.

    A head that says yes there recognises that something lies, not what.
    """
    single = [head for head in plan.heads if not head.exclusive and plan.regions != ("",)]
    found: list[dict[str, object]] = []
    for head in single:
        row = head.rows[0]
        for other in single:
            place = other.rows[0]
            if place == row:
                continue
            held = [n for n in range(len(features)) if truth[n, place, 0] == 1]
            moved = np.stack([features[n][0, [place]] for n in held]) if held else None
            mine = Heads(
                weight=heads.weight[[row]],
                bias=heads.bias[[row]],
                mean=heads.mean[[row]],
                bank=heads.bank[[row]],
                spread=heads.spread[[row]],
                unit=heads.unit[[row]],
            )
            yes = 0 if moved is None else int((logits_of(mine, moved)[:, 0, 0] > 0).sum())
            found.append(
                {
                    "head": head.labels[0],
                    "shown the region of": other.labels[0],
                    "says yes": yes,
                    "of": len(held),
                }
            )
    return found


def _warnings(
    plan: HeadPlan,
    truth: Truth,
    *,
    answered: Sequence[PictureAnswers],
    rules: Sequence[LabelRule],
    bound: ErrorBound | None,
    refused: int,
) -> tuple[str, ...]:
    """Sentences that stand beside every figure."""
    found = []
    fewest = min((rule.calibration_pictures for rule in rules), default=0)
    if rules and fewest < FEW_PICTURES:
        found.append(
            f"few pictures: calibrated on {fewest}, so that no probability leaves "
            f"{rules[0].floor:.3f} to {1 - rules[0].floor:.3f}"
        )
    found += [rate_warning(bound)] if bound and bound.bound > bound.target else []
    rare = [rule.name for rule in rules if bound and rule.error_rate > bound.target]
    if rare:
        found.append(
            f"the stated rate is of all labels together; of {', '.join(rare[:_MOST_NAMES])}"
            f"{f' and {len(rare) - _MOST_NAMES} more' * (len(rare) > _MOST_NAMES)} too few pictures"
            " are known to state one"
        )
    found += confounded(plan, truth)
    if refused:
        found.append(f"{refused} training pictures could not be placed and were not learned from")
    found += [f"{name}: held-out pictures get one answer only" for name in monotonous(answered)]
    if one_group([picture.sample for picture in answered]):
        found.append(
            "all training pictures are of one group; held-out figures are of pictures much like "
            "those learned from"
        )
    return tuple(found)


def monotonous(answered: Sequence[PictureAnswers]) -> list[str]:
    """Kinds of answers of which several are true and only one is ever given."""
    true: dict[str, set[int]] = {}
    given: dict[str, set[int]] = {}
    for answer in (answer for picture in answered for answer in picture.answers):
        true.setdefault(answer.kind, set()).add(answer.truth)
        given.setdefault(answer.kind, set()).add(answer.predicted)
    return [kind for kind in true if len(true[kind]) > 1 and len(given[kind]) == 1]


def confounded(plan: HeadPlan, truth: Truth) -> list[str]:
    """Labels of which the data cannot tell what they are from where they are."""
    found = []
    if plan.regions != ("",):
        places = [head.labels[0] for head in plan.heads if not head.exclusive]
        if places:
            found.append(
                f"label confounded with place: {', '.join(places)} each stand at their own region "
                "only, and nothing else ever does; the answer is that something is there, and this "
                "data cannot show that colour or kind is recognised"
            )
    for head in plan.heads:
        if not head.exclusive:
            continue
        shown = np.array(
            [[(truth[:, row, place] == 1).any() for place in range(len(head.labels))]
             for row in head.rows]
        )  # fmt: skip
        background = int(np.argmax([(truth[:, list(head.rows), p] == 1).sum()
                                    for p in range(len(head.labels))]))  # fmt: skip
        for place, label in enumerate(head.labels):
            rows = np.flatnonzero(shown[:, place])
            others = np.delete(
                shown[rows], [place, background] if place != background else place, 1
            )
            if place != background and len(rows) and not others.any() and len(head.rows) > 1:
                where = ", ".join(plan.regions[head.rows[row]] for row in rows)
                found.append(
                    f"label confounded with place: {label} only ever stands at {where}, where no "
                    "other class does; this data cannot show that it is recognised elsewhere"
                )
    return found
