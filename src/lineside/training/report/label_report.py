"""The report of a training: records that become ``report.json``, and what they warn of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import NDArray

from lineside.core import Digest
from lineside.datasets import Leak, Sample, Skipped, crossing
from lineside.models import FEW_PICTURES, Metric
from lineside.training.evaluation.shortcuts import Controls
from lineside.training.report.page_parts import (
    Beside,
    confusion_table,
    controls_part,
    leaks_part,
    limits_part,
    metrics_table,
    page,
    reliability_row,
    section,
    short_words,
    skipped_part,
    table,
    warnings,
)
from lineside.training.tasks.metrics import Confusion
from lineside.training.tasks.multilabel.heads import HeadPlan, Truth, logits_of
from lineside.training.tasks.multilabel.metrics import PRESENCE, Answered
from lineside.training.tasks.multilabel.network import Heads
from lineside.vision import LabelRule, LimitRow, ReliabilityBin, reliability, wilson

_MOST_MISTAKES = 20
_MOST_LEAKS = 50

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """An answer that was not right, the surest first; ``said`` may be ``unsure``."""

    picture: str
    name: str
    truth: str
    said: str
    probability: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelEvidence:
    """What stands behind one label's decisions."""

    name: str
    low: float
    high: float
    floor: float
    error_rate: float
    calibration_pictures: int
    limits: tuple[LimitRow, ...]
    reliability: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherPlace:
    """How a presence head answers what stands in another region: ``yes`` of ``n`` that are held."""

    head: str
    region: str
    yes: int
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything a training has to show for itself.

    Attributes:
        evidence: where ``metrics`` come from: ``validation part`` or ``cross-validation``.
        cross_validation: figures on training pictures by heads and cuts that had not seen them.
        left_out: accuracy on each group by heads that had seen none of it; empty without groups.
        slices: accuracy per group of the validation part.
        controls: what a shortcut would reach on the same pictures.
        stability: share of changed copies (light, move, blur, compression) of held-out pictures
            that are answered as the picture itself.
    """

    package: str
    inspection: str
    dataset: str
    data_digest: Digest
    reference: str
    evidence: str
    training_pictures: int
    validation_pictures: int
    metrics: Mapping[str, Metric]
    per_class: Mapping[str, Metric]
    confusion: Mapping[str, Confusion]
    cross_validation: Mapping[str, Metric]
    left_out: Mapping[str, Metric]
    slices: Mapping[str, Metric]
    stability: Metric | None
    labels: tuple[LabelEvidence, ...]
    mistakes: tuple[Mistake, ...]
    other_places: tuple[OtherPlace, ...]
    refused: tuple[Skipped, ...]
    skipped: tuple[Skipped, ...]
    leaks: tuple[Leak, ...]
    warnings: tuple[str, ...]
    seed: int
    controls: Controls = field(default_factory=Controls)
    schema: str = field(default="lineside.training-report/1")


def mistakes_of(pictures: Sequence[Answered]) -> tuple[Mistake, ...]:
    """The worst answers first: wrong before unsure, the surer the worse."""
    found = []
    for picture in pictures:
        for answer in picture.answers:
            if answer.right:
                continue
            unsure = answer.predicted < 0
            found.append(
                Mistake(
                    picture=picture.sample.name,
                    name=answer.name,
                    truth=answer.classes[answer.truth],
                    said="unsure" if unsure else answer.classes[answer.predicted],
                    probability=max(answer.chances, default=0.0),
                    reason=f"{picture.state}: {picture.reason}" if picture.reason else "",
                )
            )
    found.sort(key=lambda m: (m.said == "unsure", -m.probability, m.picture, m.name))
    return tuple(found[:_MOST_MISTAKES])


def label_evidence(
    rules: Sequence[LabelRule], pictures: Sequence[Answered]
) -> tuple[LabelEvidence, ...]:
    """Cuts, limit table and reliability of each label; of a class, over all regions."""
    found: dict[str, LabelEvidence] = {}
    for rule in rules:
        key = rule.label if rule.is_class else rule.name
        if key in found:
            continue
        truth, chance = _said(rule, pictures)
        found[key] = LabelEvidence(
            name=key,
            low=rule.low,
            high=rule.high,
            floor=rule.floor,
            error_rate=rule.error_rate,
            calibration_pictures=rule.calibration_pictures,
            limits=rule.limits,
            reliability=reliability(truth, chance, bins=10) if len(truth) else (),
        )
    return tuple(found.values())


def _said(
    rule: LabelRule, pictures: Sequence[Answered]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    truth, chance = [], []
    for picture in pictures:
        for answer in picture.answers:
            if not answer.chances:
                continue
            if answer.classes == PRESENCE and answer.name == rule.name:
                truth.append(answer.truth == 1)
                chance.append(answer.chances[1])
            elif rule.is_class and rule.label in answer.classes:
                place = answer.classes.index(rule.label)
                truth.append(answer.truth == place)
                chance.append(answer.chances[place])
    return np.array(truth, bool), np.array(chance, np.float64)


def other_places(
    plan: HeadPlan, heads: Heads, *, features: Sequence[Floats], truth: Truth
) -> tuple[OtherPlace, ...]:
    """Ask every presence head about what lies in the other presence regions.

    A head that says yes there recognises that something lies, not what.
    """
    single = [head for head in plan.heads if not head.exclusive and plan.regions != ("",)]
    found = []
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
                OtherPlace(head=head.labels[0], region=other.labels[0], yes=yes, n=len(held))
            )
    return tuple(found)


def warnings_for(
    plan: HeadPlan,
    truth: Truth,
    *,
    answered: Sequence[Answered],
    rules: Sequence[LabelRule],
    leaks: Sequence[Leak],
    refused: int,
    validated: bool,
    note: str = "",
) -> tuple[str, ...]:
    """Sentences that stand beside every figure."""
    found = []
    fewest = min((rule.calibration_pictures for rule in rules), default=0)
    if rules and fewest < FEW_PICTURES:
        rate = max(rule.error_rate for rule in rules)
        found.append(
            f"few pictures: calibrated on {fewest}; an error rate below {rate:.3f} cannot be "
            f"promised, and no probability leaves {rules[0].floor:.3f} to {1 - rules[0].floor:.3f}"
        )
    found += confounded(plan, truth)
    if crossing(leaks):
        found.append(
            f"the split leaks: {len(crossing(leaks))} pairs stand on both sides; figures on it are "
            "too good"
        )
    if refused:
        found.append(f"{refused} training pictures could not be placed and were not learned from")
    found += [f"{name}: held-out pictures get one answer only" for name in monotonous(answered)]
    if one_group([picture.sample for picture in answered]):
        found.append(
            "all training pictures are of one group; held-out figures are of pictures much like "
            "those learned from"
        )
    if not validated:
        found.append(
            "no validation part: figures are of cross-validation; pictures of another day, light "
            "or camera position may do worse"
        )
    return (*found, note) if note else tuple(found)


def one_group(samples: Sequence[Sample]) -> bool:
    """Whether all samples say they belong together, so that no group can be held out."""
    return len({sample.group for sample in samples}) == 1 and bool(samples[0].group)


def monotonous(answered: Sequence[Answered]) -> list[str]:
    """Kinds of answers of which several are true and only one is ever given."""
    true: dict[str, set[int]] = {}
    said: dict[str, set[int]] = {}
    for answer in (answer for picture in answered for answer in picture.answers):
        true.setdefault(answer.kind, set()).add(answer.truth)
        said.setdefault(answer.kind, set()).add(answer.predicted)
    return [kind for kind in true if len(true[kind]) > 1 and len(said[kind]) == 1]


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


def shown_leaks(leaks: Sequence[Leak]) -> tuple[Leak, ...]:
    """The leaks a report lists: the crossing ones and the nearest."""
    return tuple(leaks[:_MOST_LEAKS])


def share_metric(successes: int, n: int, *, baseline: float) -> Metric:
    """A counted share with Wilson's interval."""
    share = wilson(successes, n)
    value = share.value if n else 0.0
    return Metric(value=value, low=share.low, high=share.high, n=n, baseline=baseline)


def report_page(report: Report) -> bytes:
    """UTF-8 HTML."""
    beside = Beside(every=_leaking(report), of=short_words(report.controls))
    parts = [
        _summary(report),
        warnings(report.warnings),
        section(
            "Figures",
            metrics_table(report.metrics, beside=beside),
            note=f"From the {report.evidence}. Unsure counts as not right. The interval is 95 %; "
            "the baseline always says what the training pictures show most.",
        ),
        controls_part(report.controls),
        _mistakes(report),
        section("Per label", metrics_table(report.per_class, beside=beside)),
        section(
            "Confusion", *(confusion_table(name, one) for name, one in report.confusion.items())
        ),
        _slices(report),
        _labels(report.labels),
        _places(report),
        skipped_part("Training pictures that could not be placed", report.refused),
        skipped_part("Left out or merged when the data was read", report.skipped),
        leaks_part(report.leaks, by="regions of the registered view"),
    ]
    return page(f"Training of {report.package}", parts)


def _leaking(report: Report) -> tuple[str, ...]:
    return ("the split leaks",) if any(leak.crosses for leak in report.leaks) else ()


def _summary(report: Report) -> str:
    facts = {
        "Inspection": report.inspection,
        "Data": report.dataset,
        "Data digest": report.data_digest,
        "Reference view": report.reference,
        "Learned from": f"{report.training_pictures} pictures",
        "Validation part": f"{report.validation_pictures} pictures",
        "Seed": str(report.seed),
    }
    return table((), facts.items())


def _mistakes(report: Report) -> str:
    if not report.mistakes:
        return section("Mistakes", "<p>None.</p>")
    rows = [
        (m.picture, m.name, m.truth, m.said, f"{m.probability:.2f}", m.reason)
        for m in report.mistakes
    ]
    header = ("picture", "answer", "truth", "said", "probability", "reason")
    return section("Mistakes, the surest first", table(header, rows))


def _slices(report: Report) -> str:
    found = [
        section("Groups left out, one by one", metrics_table(report.left_out, first="group")),
        section("Groups", metrics_table(report.slices, first="group")),
    ]
    if report.evidence != "cross-validation":
        found.append(
            section("Cross-validation on the training part", metrics_table(report.cross_validation))
        )
    if report.stability is not None:
        metric = report.stability
        found.append(
            f"<p>Changed copies (light, move, blur, compression) answered like the picture itself: "
            f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f}, {metric.n} copies).</p>"
        )
    return "".join(found)


def _labels(labels: Sequence[LabelEvidence]) -> str:
    found = []
    for label in labels:
        found.append(
            f"<h3>{escape(label.name)}</h3>"
            f"<p>Present above {label.high:.3f}, absent below {label.low:.3f}, else unsure; for an "
            f"error rate of {label.error_rate:.3f} on each side, from "
            f"{label.calibration_pictures} pictures. Probabilities stay within {label.floor:.3f} "
            f"and {1 - label.floor:.3f}.</p>"
        )
        found.append(reliability_row({label.name: label.reliability}))
        found.append(limits_part(f"Cuts of {label.name}", label.limits))
    return section("Cuts and calibration", *found)


def _places(report: Report) -> str:
    rows = [(p.head, p.region, f"{p.yes} of {p.n}") for p in report.other_places]
    return section(
        "What a head says of other places",
        table(("head", "shown the region of", "says yes"), rows),
        note="A head that says yes to what lies elsewhere recognises that something lies there, "
        "not what it is.",
    )
