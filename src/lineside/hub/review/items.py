"""Items in review, and the effect of an answer on them: decisions without a store.

1. Each answer of an inspection that is for review is an item. Of the others a share is drawn at
   random (``is_drawn``): by a keyed hash of frame and inspection. So retries, restarts and several
   hubs draw the same ones, and nobody without the hub's key can tell which.
2. One person settles an item, or two who answer alike. Two who differ make it a disagreement,
   which any person settles by saying so.
3. The same answer of the same person counts once. Before another one it is taken back.
4. People take back their own answer, as long as nobody answered behind it.
5. Of an audited item nothing that was judged is told before it is settled (``may_see``), and of
   two people neither is told the other's answer: until nobody is led by it, events say neither
   answer nor frame (``may_tell``).
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal

from lineside.core import ConflictError, Inspection, InvalidError, NotFoundError
from lineside.core.plant import Task
from lineside.vision.verdict import PartVerdict, reject_rule

REVIEW_TYPE = "lineside.review.v1"
REVIEW_SCHEMA: Literal["lineside.review/1"] = "lineside.review/1"
OK, REJECT = "ok", "reject"
_BITS = 64


class ReviewStatus(StrEnum):
    """State of an item: it waits for answers, for somebody to settle two, or for nothing."""

    OPEN = "open"
    DISAGREEMENT = "disagreement"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewChoice:
    """An answer on offer; ``verdict``: what it means for the part, ``ok`` or ``reject``."""

    value: str
    verdict: PartVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewAnswer:
    """A person's answer; ``event``: the event that keeps it, ``dataset``: where it went too."""

    by: str
    at: datetime
    answer: str
    verdict: PartVerdict
    event: str
    dataset: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewItem:
    """A picture in review, as it is kept.

    Attributes:
        event: id of the prediction event.
        verdict, label, score, reasons: what the inspection said.
        share: with which the picture was drawn for the audit; 0 for one that was for review.
        doubt: how unsure the inspection was, 0 (sure) to 1, as lists of frames sort by it; None of
            an item of schema 1, which had none.
        revision: number of answers and withdrawals so far.
    """

    id: str
    frame: str
    camera: str
    inspection: str
    part: str
    captured_at: datetime
    package: str
    event: str
    verdict: PartVerdict
    label: str
    score: float
    reasons: tuple[str, ...] = ()
    share: float = 0.0
    doubt: float | None = None
    status: ReviewStatus = ReviewStatus.OPEN
    answers: tuple[ReviewAnswer, ...] = ()
    revision: int = 0
    schema: Literal["lineside.review/1", "lineside.review/2"] = "lineside.review/2"

    @property
    def is_audit(self) -> bool:
        """Return whether it was drawn at random."""
        return self.share > 0.0


def is_drawn(share: float, *, key: str, inspection: str, frame: str) -> bool:
    """Return whether the random audit takes this picture; see rule 1."""
    if share <= 0.0:
        return False
    digest = hmac.digest(key.encode(), f"audit\n{inspection}\n{frame}".encode(), "sha256")
    return int.from_bytes(digest[: _BITS // 8], "big") < share * 2.0**_BITS


def review_share(inspection: Inspection, verdict: PartVerdict) -> float:
    """Return the share of the pictures of that verdict that are audited."""
    if verdict is PartVerdict.REJECT and inspection.audit_rejects is not None:
        return inspection.audit_rejects
    return inspection.audit if verdict in (PartVerdict.OK, PartVerdict.REJECT) else 0.0


def choices_of(inspection: Inspection) -> tuple[ReviewChoice, ...]:
    """Return the answers that people choose from, good ones first.

    They are the labels of a class or mask, with ``ok`` or ``reject`` where no label means that;
    of any other task ``ok`` and ``reject``.
    """
    rule = reject_rule(inspection)
    named = inspection.labels if inspection.task in (Task.CLASSIFY, Task.SEGMENT) else ()
    good = [name for name in named if not rule.rejects(name)] or [OK]
    bad = [name for name in named if rule.rejects(name)] or [REJECT]
    return tuple(
        ReviewChoice(value=name, verdict=verdict)
        for names, verdict in ((good, PartVerdict.OK), (bad, PartVerdict.REJECT))
        for name in names
    )


def choice_of(inspection: Inspection, answer: str) -> ReviewChoice:
    """Return the choice of that value; ``InvalidError`` names those on offer."""
    choices = choices_of(inspection)
    for one in choices:
        if one.value == answer:
            return one
    known = ", ".join(one.value for one in choices)
    raise InvalidError(f"no answer {answer!r}", where="answer", fix=f"Known: {known}.")


def status_of(answers: Sequence[ReviewAnswer], *, reviewers: int) -> ReviewStatus:
    """Return the status after these answers; see rule 2."""
    if len(answers) < min(reviewers, 2):
        return ReviewStatus.OPEN
    if len(answers) == 2 and reviewers > 1 and answers[0].answer != answers[1].answer:
        return ReviewStatus.DISAGREEMENT
    return ReviewStatus.DONE


def answered(
    item: ReviewItem, answer: ReviewAnswer, *, reviewers: int, settles: bool = False
) -> ReviewItem:
    """Return the item with one answer more; itself where that answer was counted already.

    Raises:
        ConflictError: the person gave another answer before, or the item is settled.
    """
    own = [one.answer for one in item.answers if one.by == answer.by]
    decides = settles and item.status is ReviewStatus.DISAGREEMENT
    if answer.answer in own and not decides:
        return item
    if item.status is ReviewStatus.DONE:
        others = " and ".join(dict.fromkeys(one.by for one in item.answers))
        raise ConflictError(
            f"it was answered by {others}", where=item.id,
            fix="Take your own answer back first, or go on with the next picture.",
        )  # fmt: skip
    if item.status is ReviewStatus.DISAGREEMENT and not settles:
        raise ConflictError(
            "two people answered differently", where=item.id,
            fix="Look at both answers, and settle it: settles = true.",
        )  # fmt: skip
    if settles and item.status is ReviewStatus.OPEN:
        raise ConflictError(
            "no two answers differ", where=item.id, fix="Answer it: settles = false."
        )
    if own and not decides:
        raise ConflictError(
            f"you answered {own[0]!r} before", where=item.id, fix="Take that back first."
        )
    answers = (*item.answers, answer)
    return replace(
        item, answers=answers, revision=item.revision + 1,
        status=status_of(answers, reviewers=reviewers),
    )  # fmt: skip


def withdrawn(item: ReviewItem, *, by: str, reviewers: int) -> ReviewItem:
    """Return the item without the person's newest answer.

    Raises:
        NotFoundError: the person gave no answer.
        ConflictError: somebody else answered behind it.
    """
    if all(one.by != by for one in item.answers):
        raise NotFoundError(f"no answer of {by}", where=item.id, fix="Answer the picture.")
    if item.answers[-1].by != by:
        raise ConflictError(
            f"{item.answers[-1].by} answered behind it", where=item.id,
            fix="Ask them to take theirs back first.",
        )  # fmt: skip
    answers = item.answers[:-1]
    return replace(
        item, answers=answers, revision=item.revision + 1,
        status=status_of(answers, reviewers=reviewers),
    )  # fmt: skip


def may_see(item: ReviewItem) -> bool:
    """Return whether what the inspection said of the picture may be told; see rule 5."""
    return not item.is_audit or item.status is ReviewStatus.DONE


def may_tell(item: ReviewItem) -> bool:
    """Return whether an event may say everything of the item; see rule 5."""
    return item.status is not ReviewStatus.OPEN and may_see(item)


def visible_answers(item: ReviewItem, *, by: str) -> tuple[ReviewAnswer, ...]:
    """Return the answers that this person may see: before the status says more, their own."""
    if item.status is not ReviewStatus.OPEN:
        return item.answers
    return tuple(one for one in item.answers if one.by == by)
