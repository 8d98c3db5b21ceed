"""Learn what good parts look like, from good parts alone.

Defective pictures among the training part are left aside: neither scorer, limit nor choice looks at
them. Scenes, patches and scorers are fitted by the modules beside this one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError, Policy
from lineside.datasets import Sample, shows_defect
from lineside.models.engines import BANK_OUTPUT
from lineside.models.result import ErrorBound, example_file
from lineside.training.common.export import CELLS, PICTURE, export, golden_of, limits_of
from lineside.training.common.loop import Fold, fold_rows
from lineside.training.common.methods import CONFIDENCE, calibrated_limit, limit_bound
from lineside.training.common.torch_backbone import open_backbone
from lineside.training.job import TrainJob
from lineside.training.tasks.anomaly.choice import (
    USABLE_AUROC,
    ScorerChoice,
    SyntheticBenchmark,
    choose,
    fold_numbers,
)
from lineside.training.tasks.anomaly.power import PICTURES, Judge, power_test
from lineside.training.tasks.anomaly.scene import (
    STRIDE_PX,
    Patches,
    PatchExtractor,
    Scene,
    patches_of,
    scene_of,
)
from lineside.training.tasks.anomaly.scorers import (
    AnomalyNetwork,
    ScaledScorer,
    remembered_pictures,
)
from lineside.training.tasks.contract import Case, Trained, Work, held_out_case
from lineside.vision import AnomalyRule, prepare
from lineside.vision.anomaly import decide_anomaly
from lineside.vision.metrics import conformal_cut

LEAST_GOOD = 5
_MOST_LEARNED = 400
_UNSURE_SHARE = 2.0
_POSED = SyntheticBenchmark(blur_cells=1.0, top_share=0.01)
_SURFACE = SyntheticBenchmark(blur_cells=1.5, top_share=0.01)

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _GoodPictures:
    """The training part by what is said of it, with the sentences that follow.

    Attributes:
        good: to learn from.
        left: the others, good and defective.
    """

    good: tuple[Sample, ...]
    defective: int
    left: tuple[Sample, ...]
    warnings: tuple[str, ...]


def learn(job: TrainJob, work: Work) -> Trained:
    """See ``Learner``."""
    known = _good_pictures(work, job)
    scene = scene_of(work, known.good)
    away = {sample.digest for sample, _ in scene.left_out}
    good = [sample for sample in known.good if sample.digest not in away]
    looker = PatchExtractor(
        scene=scene,
        work=work,
        folder=work.folder / "anomaly",
        backbone=open_backbone(job.backbone),
    )
    patches = patches_of(looker, good)
    benchmark = _SURFACE if scene.template is None else _POSED
    chosen = choose(looker, patches, seed=job.seed, benchmark=benchmark)
    rule = rule_of(chosen, policy=job.inspection.policy, benchmark=benchmark)
    power, examples = power_test(
        Judge(
            looker=looker, patches=patches, candidate=chosen.best, rule=rule, benchmark=benchmark
        ),
        pictures=int(job.setting("power_pictures", PICTURES)),
        seed=job.seed,
    )
    work.steps.at(84, "writing the network")
    order = np.argsort(chosen.best.scores, kind="stable").tolist()
    golden = golden_of([patches[place].sample for place in order])
    scorer = ScaledScorer(chosen.best.scorer, unit=rule.unit)
    remembered = remembered_pictures([each.features for each in patches])
    exported = export(
        AnomalyNetwork(scorer, backbone=looker.backbone, known=remembered).eval(),
        [_crops(looker, sample) for sample in golden],
        outputs=("map", BANK_OUTPUT),
        varies={"crops": PICTURE, "map": CELLS} if scene.prepare.fit == "zoom" else None,
        fold=False,  # banks stay in half precision
    )
    trained = Trained(
        network=exported.network,
        max_abs_diff=exported.max_abs_diff,
        prepare=scene.prepare,
        error_bound=bound_of(chosen, rule, target=job.inspection.policy.error_rate),
        health=limits_of([each.health for each in patches]),
        golden=golden,
        labels=(),
        remembered=(tuple(patches[row].sample.digest for row in remembered.rows),),
        anomaly=replace(rule, unit=1.0),  # the network's map is in units
        files=scene.files | {example_file(kind): jpeg for kind, jpeg in examples.items()},
        baseline={"defect_share": known.defective / len(work.training)},
        warnings=(
            *known.warnings,
            *warnings_for(scene, rule, target=job.inspection.policy.error_rate),
            *power.gaps,
        ),
        sections=_sections(scene, chosen, rule=rule),
        power=power,
        cases=_good_cases(job, chosen, patches, work=work, rule=rule, benchmark=benchmark),
    )
    unseen = (*known.left, *(sample for sample, _ in scene.left_out))
    return replace(trained, folds=(Fold(samples=unseen, trained=lambda: trained),))


def _good_cases(
    job: TrainJob,
    chosen: ScorerChoice,
    patches: Sequence[Patches],
    *,
    work: Work,
    rule: AnomalyRule,
    benchmark: SyntheticBenchmark,
) -> list[Case]:
    """Every good picture, scored as held out and decided by the limit of other folds' scores."""
    found = []
    scores = chosen.best.scores / rule.unit
    for inside, outside in fold_rows(fold_numbers([p.sample for p in patches], seed=job.seed)):
        others = replace(
            chosen,
            best=replace(chosen.best, scores=scores[inside]),
            owners=[chosen.owners[place] for place in inside],
        )
        own = rule_of(others, policy=job.inspection.policy, benchmark=benchmark)
        own = replace(own, limit=own.limit * own.unit, unsure_above=own.unsure_above * own.unit)
        found += [
            held_out_case(
                job,
                patches[place].sample,
                health=patches[place].health,
                anomaly=decide_anomaly(float(scores[place]), own),
                mask=work.mask(patches[place].sample),
            )
            for place in outside
        ]
    return found


def _good_pictures(work: Work, job: TrainJob) -> _GoodPictures:
    named = job.inspection.good
    answer = [
        (sample, shows_defect(sample, mask=work.mask(sample), good=named))
        for sample in work.training
    ]
    good = [sample for sample, is_defective in answer if is_defective is False]
    defective = sum(is_defective is True for _, is_defective in answer)
    if len(good) < LEAST_GOOD:
        raise InvalidError(
            f"{len(good)} good pictures, {LEAST_GOOD} are needed",
            where="data",
            fix="Label good pictures 'good' or 'normal', name other labels as good, or add some.",
        )
    warnings = []
    if defective:
        warnings.append(
            f"{defective} pictures of the training part show defects and were not learned from"
        )
    if len(good) > _MOST_LEARNED:
        rng = np.random.default_rng(job.seed)
        stored = np.sort(rng.choice(len(good), _MOST_LEARNED, replace=False))
        warnings.append(f"{_MOST_LEARNED} of {len(good)} good pictures were drawn to learn from")
        good = [good[place] for place in stored]
    learned = {sample.digest for sample in good}
    return _GoodPictures(
        good=tuple(good),
        defective=defective,
        left=tuple(s for s, known in answer if known is not None and s.digest not in learned),
        warnings=tuple(warnings),
    )


def rule_of(chosen: ScorerChoice, *, policy: Policy, benchmark: SyntheticBenchmark) -> AnomalyRule:
    """Unit, limit and band from held-out good pictures; whether it is usable from made-up ones."""
    best = chosen.best
    unit = max(1e-6, float(np.median(best.scores)))
    scores = best.scores / unit
    rate = min(max(policy.error_rate, 1e-6), 0.5)
    limit = calibrated_limit(scores, owners=chosen.owners or range(len(scores)), rate=rate)
    usual = max(rate, 1 / (len(scores) + 1))
    band = conformal_cut(scores, error_rate=min(0.5, _UNSURE_SHARE * usual))
    usable = best.auroc >= USABLE_AUROC
    reason = (
        ""
        if usable
        else f"good pictures differ from each other nearly as much as made-up defects differ from "
        f"them (AUROC {best.auroc:.2f}, {USABLE_AUROC} is needed); label some defects and train "
        "classify or segment"
    )
    return AnomalyRule(
        limit=limit.cut,  # to the last digit: rounded down, the picture that made it lies above
        unsure_above=min(band.cut, limit.cut),
        unit=unit,
        false_reject_rate=limit.rate,
        calibration_pictures=len(scores),
        top_share=benchmark.top_share,
        stride_px=STRIDE_PX,
        usable=usable,
        reason=reason,
        blur_cells=benchmark.blur_cells,
    )


def bound_of(chosen: ScorerChoice, rule: AnomalyRule, *, target: float) -> ErrorBound | None:
    """Return how many good pictures are rejected at most; None where every answer is unsure."""
    if not rule.usable:
        return None
    return limit_bound(
        chosen.best.scores / rule.unit,
        limit=rule.limit,
        unsure_above=rule.unsure_above,
        owners=chosen.owners or range(len(chosen.best.scores)),
        target=target,
        shown=rule.false_reject_rate,
    )


def _crops(looker: PatchExtractor, sample: Sample) -> NDArray[np.float32]:
    image = looker.work.picture(sample)
    return prepare(image, looker.scene.prepare, matrix=looker.pose_matrix(image))


def warnings_for(scene: Scene, rule: AnomalyRule, *, target: float) -> list[str]:
    """Sentences that stand beside every figure; ``target``: error rate of the policy."""
    found = []
    if not rule.usable:
        found.append(f"not usable: {rule.reason}")
    if scene.left_out:
        sample, reason = scene.left_out[0]
        found.append(
            f"{len(scene.left_out)} good pictures could not be placed and were left out, such as "
            f"{sample.name}: {reason}"
        )
    if rule.false_reject_rate > target:
        found.append(
            f"few pictures or parts (groups): {rule.calibration_pictures} good ones show no"
            f" false-reject rate of {target:g} with {CONFIDENCE:.0%} confidence: the limit holds"
            f" {rule.false_reject_rate:.3g}"
        )
    return found


def _sections(scene: Scene, chosen: ScorerChoice, *, rule: AnomalyRule) -> dict[str, object]:
    observed = "one frame" if scene.one_frame else "a surface"
    if scene.template is not None:
        observed = "a part laid into one place"
    return {
        "Good pictures": {
            "seen as": observed,
            "compared by": chosen.best.name,
            "tried": dict(chosen.compared),
            "made-up changes told apart": chosen.best.auroc_by_kind(),
            "limit": round(rule.limit, 6),
            "unsure above": round(rule.unsure_above, 6),
            "false rejects promised": round(rule.false_reject_rate, 4),
            "calibration pictures": rule.calibration_pictures,
        }
    }
