"""Figures over answered pictures: each with count, 95 % interval and the trivial baseline.

Rates have Wilson's interval; the rest is bootstrapped over whole pictures, because the answers of
one picture go together. The baseline is a constant answer: for each name what the training pictures
show most often.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError
from lineside.datasets import Sample
from lineside.models import Manifest, Metric
from lineside.models.result import PRESENCE, Confusion, Mistake
from lineside.training.tasks.contract import MAJORITY, Case
from lineside.training.tasks.metrics import (
    ROUNDS,
    TaskMetrics,
    as_metric,
    bounded,
    confusion_table,
    limits_of,
    ranking,
    rarest,
    rate,
    reliability_of,
    share,
    slices,
    worst_first,
)
from lineside.training.tasks.multilabel.heads import (
    UNKNOWN,
    Head,
    HeadPlan,
    Output,
    Truth,
    truth_of,
)
from lineside.vision import Decision, LabelAnswer, LabelRule, PictureState
from lineside.vision.metrics import (
    UNSURE,
    balanced_accuracy,
    bootstrap,
    calibration_error,
    macro_f1,
)

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of one picture.

    Attributes:
        name: the presence label, or the region of classes.
        head: which head gave it; answers of one head are of one kind.
        classes: what truth and answer are places in; ``("absent", "present")`` for a label.
        truth, predicted: places in ``classes``; predicted is ``UNSURE`` (-1) where it is.
        chances: per class calibrated probability; empty for a refused picture.
    """

    name: str
    head: int
    classes: tuple[str, ...]
    truth: int
    predicted: int
    chances: tuple[float, ...] = ()

    @property
    def kind(self) -> str:
        """Key that answers are compared over: the label, or the class list."""
        return self.name if self.classes == PRESENCE else " / ".join(self.classes)

    @property
    def right(self) -> bool:
        """Return whether the answer is the truth."""
        return self.predicted == self.truth


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureAnswers:
    """One picture's judged answers."""

    sample: Sample
    answers: tuple[Answer, ...]
    state: PictureState = PictureState.OK
    reason: str = ""

    @property
    def exact(self) -> bool:
        """Return whether every answer is right."""
        return all(answer.right for answer in self.answers)


def answers_of(
    plan: HeadPlan,
    sample: Sample,
    labels: Sequence[LabelAnswer] = (),
    *,
    state: PictureState = PictureState.OK,
    reason: str = "",
) -> PictureAnswers:
    """A plan's label answers held against the sample's truth; no labels for a refused picture."""
    by_name = {label.name: label for label in labels}
    truth = truth_of(plan, [sample])[0]
    found: list[Answer] = []
    for number, head in enumerate(plan.heads):
        for row in head.rows:
            found += _of_row(plan, number, row=row, truth=truth, by_name=by_name)
    return PictureAnswers(sample=sample, answers=tuple(found), state=state, reason=reason)


def _of_row(
    plan: HeadPlan, number: int, *, row: int, truth: Truth, by_name: dict[str, LabelAnswer]
) -> list[Answer]:
    head = plan.heads[number]
    outputs = [output for output in plan.outputs if output.row == row]
    said = [by_name.get(output.name) for output in outputs]
    if head.exclusive:
        if (truth[row] != 1).all():
            return []
        answer = Answer(
            name=outputs[0].region,
            head=number,
            classes=head.labels,
            truth=int(np.flatnonzero(truth[row] == 1)[0]),
            predicted=_one_class(said),
            chances=tuple(each.probability for each in said if each is not None),
        )
        return [answer]
    return [
        Answer(
            name=output.name,
            head=number if len(head.labels) == 1 else -1 - output.place,
            classes=PRESENCE,
            truth=int(truth[row, output.place]),
            predicted=_presence(label),
            chances=() if label is None else (1 - label.probability, label.probability),
        )
        for output, label in zip(outputs, said, strict=True)
        if truth[row, output.place] != UNKNOWN
    ]


def _presence(label: LabelAnswer | None) -> int:
    if label is None or label.decision is Decision.UNSURE:
        return UNSURE
    return int(label.decision is Decision.PRESENT)


def _one_class(answers: Sequence[LabelAnswer | None]) -> int:
    present = [
        place
        for place, label in enumerate(answers)
        if label is not None and label.decision is Decision.PRESENT
    ]
    return present[0] if len(present) == 1 else UNSURE


def plan_of(manifest: Manifest) -> HeadPlan:
    """The heads behind a manifest's rules."""
    regions = tuple(crop.region for crop in manifest.prepare.crops)
    outputs = tuple(
        Output(
            row=regions.index(rule.region),
            place=rule.output,
            name=rule.name,
            region=rule.region,
            label=rule.label,
        )
        for rule in manifest.rules
    )
    classes: dict[tuple[str, ...], list[int]] = {}
    heads: list[Head] = []
    for row, region in enumerate(regions):
        rules = [rule for rule in manifest.rules if rule.region == region]
        labels = tuple(rule.label for rule in rules)
        if rules and rules[0].is_class:
            classes.setdefault(labels, []).append(row)
        else:
            heads.append(Head(rows=(row,), labels=labels, exclusive=False))
    heads += [Head(rows=tuple(r), labels=c, exclusive=True) for c, r in classes.items()]
    return HeadPlan(heads=tuple(heads), outputs=outputs, regions=regions)


def answered_pictures(cases: Sequence[Case], manifest: Manifest) -> list[PictureAnswers]:
    """Hold what a package said of each picture against its labels, refused pictures included."""
    plan = plan_of(manifest)
    return [
        answers_of(plan, case.sample, case.prediction.labels)
        if case.prediction.state is PictureState.OK
        else answers_of(
            plan, case.sample, state=case.prediction.state, reason=case.prediction.reason
        )
        for case in cases
    ]


Majority = Mapping[str, int]


def majority_of(pictures: Sequence[PictureAnswers]) -> Majority:
    """The commonest truth of each name, for the baseline; the smaller place on a tie."""
    observed: dict[str, Counter[int]] = {}
    for picture in pictures:
        for answer in picture.answers:
            observed.setdefault(answer.name, Counter())[answer.truth] += 1
    return {name: min(c, key=lambda place: (-c[place], place)) for name, c in observed.items()}


def figures(pictures: Sequence[PictureAnswers], *, majority: Majority) -> dict[str, Metric]:
    """Every figure of a set of answered pictures.

    Args:
        pictures: answered, refused ones included.
        majority: of the training pictures (``majority_of``).
    """
    judged = [picture for picture in pictures if picture.answers]
    answers = [answer for picture in judged for answer in picture.answers]
    if not answers:
        return {}
    found = _rates(judged, answers, majority=majority)
    found |= _scores(judged, majority)
    found |= _curves(judged)
    return found


def accuracy_of(pictures: Sequence[PictureAnswers], *, majority: Majority) -> Metric:
    """Share of right answers."""
    answers = [answer for picture in pictures for answer in picture.answers]
    constant = [majority.get(answer.name, 0) == answer.truth for answer in answers]
    baseline = float(np.mean(constant)) if constant else 0.0
    return rate([answer.right for answer in answers], baseline=baseline)


def _rates(
    judged: Sequence[PictureAnswers], answers: Sequence[Answer], *, majority: Majority
) -> dict[str, Metric]:
    all_constant = [
        all(majority.get(a.name, 0) == a.truth for a in picture.answers) for picture in judged
    ]
    unsure = sum(answer.predicted == UNSURE for answer in answers)
    refused = sum(picture.state is not PictureState.OK for picture in judged)
    found = {
        "accuracy": accuracy_of(judged, majority=majority),
        "exact": rate([p.exact for p in judged], baseline=float(np.mean(all_constant))),
        "unsure_rate": share(unsure, len(answers), baseline=0.0),
        "coverage": share(len(answers) - unsure, len(answers), baseline=1.0),
        "refused_rate": share(refused, len(judged), baseline=0.0),
    }
    for name in dict.fromkeys(answer.name for answer in answers):
        mine = [answer for answer in answers if answer.name == name]
        often = [majority.get(name, 0) == answer.truth for answer in mine]
        found[f"accuracy/{name}"] = rate([a.right for a in mine], baseline=float(np.mean(often)))
    return found


def _codes(answers: Sequence[Answer], places: Sequence[int]) -> NDArray[np.int64]:
    """One number per kind of answer and class, so that means run over all of them alike."""
    kinds = {key: rank for rank, key in enumerate(sorted({_kind(a) for a in answers}))}
    return np.array(
        [
            UNSURE if place == UNSURE else kinds[_kind(answer)] * 1000 + place
            for answer, place in zip(answers, places, strict=True)
        ]
    )


def _kind(answer: Answer) -> tuple[int, str]:
    return answer.head, answer.name if answer.classes == PRESENCE else ""


def _scores(judged: Sequence[PictureAnswers], majority: Majority) -> dict[str, Metric]:
    answers = [answer for picture in judged for answer in picture.answers]
    owner = _owners(judged, lambda _: True)
    truth = _codes(answers, [answer.truth for answer in answers])
    said = _codes(answers, [answer.predicted for answer in answers])
    constant = _codes(answers, [majority.get(answer.name, 0) for answer in answers])
    found = {}
    for name, statistic in (("balanced_accuracy", balanced_accuracy), ("macro_f1", macro_f1)):
        baseline = statistic(truth, constant)
        found[name] = bounded(
            statistic, truth, said, groups=owner, baseline=baseline, pictures=rarest(truth, owner)
        )
    return found


def _curves(judged: Sequence[PictureAnswers]) -> dict[str, Metric]:
    """Ranking figures per label; a class is ranked over all regions that can show it."""
    found: dict[str, Metric] = {}
    for head, label, place in _ranked(judged):
        mine = partial(_ranks, head=head, label=label, place=place)
        chosen = [a for picture in judged for a in picture.answers if mine(a)]
        truth = np.array([answer.truth == place for answer in chosen])
        score = np.array([answer.chances[place] for answer in chosen])
        owner = _owners(judged, mine)
        if not (truth.any() and not truth.all()):
            continue
        holding = float(truth.mean())
        found |= ranking(truth, score, groups=owner, ending=f"/{label}")
        error = bootstrap(calibration_error, truth, score, groups=owner, rounds=ROUNDS)
        found[f"calibration_error/{label}"] = as_metric(error, baseline=abs(0.5 - holding))
    return found


def _ranked(judged: Sequence[PictureAnswers]) -> list[tuple[int, str, int]]:
    """(head, label, place in classes) of everything that can be ranked."""
    observed: dict[tuple[int, str, int], None] = {}
    for picture in judged:
        for answer in picture.answers:
            if answer.classes == PRESENCE:
                observed[(answer.head, answer.name, 1)] = None
            else:
                for place, label in enumerate(answer.classes):
                    observed[(answer.head, label, place)] = None
    return list(observed)


def _ranks(answer: Answer, *, head: int, label: str, place: int) -> bool:
    return bool(answer.chances) and _is_of(answer, head=head, label=label, place=place)


def _is_of(answer: Answer, *, head: int, label: str, place: int) -> bool:
    """Return whether an answer can show that label or class."""
    same = answer.name if answer.classes == PRESENCE else answer.classes[place]
    return answer.head == head and same == label


def _owners(judged: Sequence[PictureAnswers], mine: Callable[[Answer], bool]) -> NDArray[np.int64]:
    """Number of the picture of each chosen answer."""
    return np.array([place for place, p in enumerate(judged) for a in p.answers if mine(a)])


def per_class(pictures: Sequence[PictureAnswers]) -> dict[str, Metric]:
    """``recall/<label>`` and ``precision/<label>`` of every label and class; unsure is no hit."""
    answers = [answer for picture in pictures for answer in picture.answers]
    found: dict[str, Metric] = {}
    for head, label, place in _ranked(pictures):
        mine = [a for a in answers if _is_of(a, head=head, label=label, place=place)]
        holding = [a.right for a in mine if a.truth == place]
        said = [a.right for a in mine if a.predicted == place]
        often = len(holding) / max(len(mine), 1)
        found[f"recall/{label}"] = rate(holding, baseline=often)
        found[f"precision/{label}"] = rate(said, baseline=often)
    return found


def confusion_of(pictures: Sequence[PictureAnswers]) -> dict[str, Confusion]:
    """Counts per presence label, and per class list over all regions that share it."""
    answers: dict[str, list[Answer]] = {}
    for answer in (answer for picture in pictures for answer in picture.answers):
        answers.setdefault(answer.kind, []).append(answer)
    return {
        kind: confusion_table(
            some[0].classes, [one.truth for one in some], [one.predicted for one in some]
        )
        for kind, some in answers.items()
    }


def measure(
    cases: Sequence[Case], *, manifest: Manifest, baseline: Mapping[str, float]
) -> TaskMetrics:
    """See ``Evaluator``; the baseline has ``majority/<name>``."""
    answered = answered_pictures(cases, manifest)
    judged = [picture for picture in answered if picture.answers]
    if not judged:
        raise InvalidError(
            "none of the pictures is labelled with what this package answers",
            where="data",
            fix=f"It answers {', '.join(manifest.labels)}.",
        )
    majority = {
        name.removeprefix(MAJORITY): int(value)
        for name, value in baseline.items()
        if name.startswith(MAJORITY)
    }
    known = [case for case, one in zip(cases, answered, strict=True) if one.answers]
    truths = _by_label(manifest.rules, judged)
    return TaskMetrics(
        metrics=figures(judged, majority=majority),
        per_class=per_class(judged),
        confusion=confusion_of(judged),
        reliability={key: reliability_of(*columns) for key, columns in truths.items()},
        limits={key: limits_of(*columns) for key, columns in truths.items()},
        mistakes=mistakes_of(judged),
        pictures=tuple(answered),
        slices=slices(
            known, lambda some: accuracy_of(answered_pictures(some, manifest), majority=majority)
        ),
    )


def _by_label(
    rules: Sequence[LabelRule], pictures: Sequence[PictureAnswers]
) -> dict[str, tuple[list[bool], list[float]]]:
    """Truth and probability of each label; of a class, over all regions that can show it."""
    found: dict[str, tuple[list[bool], list[float]]] = {}
    for rule in rules:
        key = rule.label if rule.is_class else rule.name
        if key in found:
            continue
        truth, chance = found.setdefault(key, ([], []))
        for answer in (answer for picture in pictures for answer in picture.answers):
            classes = answer.classes
            if not answer.chances:
                continue
            if classes == PRESENCE and answer.name == rule.name:
                truth.append(answer.truth == 1)
                chance.append(answer.chances[1])
            elif rule.is_class and rule.label in classes:
                place = classes.index(rule.label)
                truth.append(answer.truth == place)
                chance.append(answer.chances[place])
    return {key: columns for key, columns in found.items() if columns[0]}


def mistakes_of(pictures: Sequence[PictureAnswers]) -> tuple[Mistake, ...]:
    """The worst answers first: wrong before unsure, the surer the worse."""
    return worst_first(
        Mistake(
            picture=picture.sample.name,
            truth=f"{answer.name}: {answer.classes[answer.truth]}",
            said="unsure" if answer.predicted == UNSURE else answer.classes[answer.predicted],
            probability=max(answer.chances, default=0.0),
            reason=f"{picture.state}: {picture.reason}" if picture.reason else "",
        )
        for picture in pictures
        for answer in picture.answers
        if not answer.right
    )
