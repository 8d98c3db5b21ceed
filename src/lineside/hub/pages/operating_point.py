"""Page of an inspection's operating point: its scores, two limits, and what they do."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import sqrt
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse

from lineside.core import NotFoundError
from lineside.hub.access.permissions import GRANTS, Right, roles_with
from lineside.hub.models.operating_points import Preview, PreviewRequest
from lineside.hub.pages.models import OpenDecisions
from lineside.hub.pages.site import Context, PageContext
from lineside.hub.services import Services
from lineside.models import PackageRecord, Status
from lineside.models.operating_point import (
    ANOMALY,
    Costs,
    Limits,
    PointVersion,
    UnseenEffect,
    UnseenScores,
    has_single_limits,
    own_limits,
    score_of,
)
from lineside.vision.metrics import wilson
from lineside.vision.verdict import PartVerdict
from lineside.web.answers import Mark, verdict_mark
from lineside.web.format import counted, number

router = APIRouter(prefix="/inspections")

_BARS = 25
_FEW_PARTS = 50
_HEIGHT = 100.0
"""Of the larger half of the histogram, in its own units; it is 1000 wide."""
_WIDTH = 1000.0
_STATES = {
    Status.PENDING: Mark(shape="triangle", word="awaiting approval", tone="warn"),
    Status.APPROVED: Mark(shape="tick", word="approved"),
    Status.REJECTED: Mark(shape="diamond", word="rejected", tone="bad"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar of the histogram, in its own units; ``zone``: ok, review or reject."""

    x: float
    width: float
    up: float
    down: float
    zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Scores of parts: good ones above the line, bad ones below it.

    Attributes:
        source: what the parts are, in words.
        low, high: of the limits, in its own units; ``was``: those in force.
        marks: place and text of the scale.
        upper, lower: what the parts above and below the line are.
    """

    source: str
    bars: tuple[Bar, ...]
    low: float
    high: float
    was: tuple[float, float]
    marks: tuple[tuple[float, str], ...]
    has_truth: bool
    upper: str
    lower: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A share of unseen parts as a sentence, and as 100 shapes.

    Attributes:
        shapes: kind of each of 100 parts: wrong, review or right.
    """

    before: str
    count: str
    after: str
    interval: str
    shapes: tuple[str, ...]
    legend: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KindOfChange:
    """Frames that change from one verdict to another, with a few of them; ``kept``: id → shown."""

    before: Mark
    after: Mark
    count: int
    frames: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectView:
    """Everything that moves with the limits.

    ``caution``: why the cheapest limits are uncertain; "" where many parts show them.
    """

    histogram: Histogram
    sentences: tuple[Sentence, ...]
    headline: str
    note: str
    kinds: tuple[KindOfChange, ...]
    cost: str
    cost_note: str
    cheapest: Limits | None
    cheapest_note: str
    caution: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PointForm:
    """The form's fields, as the address carries them; empty ones are as in force.

    ``package``: whose limits; "" for the one in use.
    """

    name: str = ""
    package: str = ""
    low: float | None = None
    high: float | None = None
    good_rejected: float | None = None
    bad_passed: float | None = None
    review: float | None = None
    bad_percent: float = 2.0


def point_form(
    *,
    name: str = "",
    package: str = "",
    low: Annotated[float | None, Query()] = None,
    high: Annotated[float | None, Query()] = None,
    good_rejected: Annotated[float | None, Query()] = None,
    bad_passed: Annotated[float | None, Query()] = None,
    review: Annotated[float | None, Query()] = None,
    bad_percent: Annotated[float, Query(ge=0, le=100)] = 2.0,
) -> PointForm:
    """Read the form from the address."""
    return PointForm(
        name=name, package=package, low=low, high=high, good_rejected=good_rejected,
        bad_passed=bad_passed, review=review, bad_percent=bad_percent,
    )  # fmt: skip


Form = Annotated[PointForm, Depends(point_form)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PointPage:
    """An inspection with the limits that are looked at.

    Attributes:
        own: the package's limits; ``used``: those in force; ``limits``: those of the form, and
            those in force of the other names.
        most: end of the scale of the score.
        in_use: whether the package is in use; limits of another one go with it when it is rolled
            out.
    """

    inspection: str
    package: PackageRecord
    version: PointVersion | None
    own: tuple[Limits, ...]
    used: tuple[Limits, ...]
    chosen: Limits
    limits: tuple[Limits, ...]
    costs: Costs
    bad_percent: float
    most: float
    in_use: bool = True

    @property
    def address(self) -> str:
        """Of the page."""
        place = f"/inspections/{self.inspection}/operating-point"
        return place if self.in_use else f"{place}?package={self.package.digest}"

    @property
    def before(self) -> Limits:
        """The chosen name's limits in force."""
        return next(one for one in self.used if one.name == self.chosen.name)

    @property
    def counts(self) -> bool:
        """Return whether the limit is that of the objects that are counted."""
        return self.package.manifest.task == "count"

    @property
    def single(self) -> bool:
        """Return whether low and high are one number."""
        return has_single_limits(self.package.manifest)

    @property
    def step(self) -> float:
        """Of the sliders."""
        return self.most / 1000


def point_page(hub: Services, inspection: str, form: PointForm) -> PointPage:
    """Return what the page shows.

    Raises:
        NotFoundError: no such inspection or limit, or no package is in use.
    """
    package = hub.points.package(inspection, form.package)
    own = own_limits(package.manifest)
    version = hub.points.in_force(inspection, package.digest)
    given = {one.name: one for one in version.limits} if version is not None else {}
    used = tuple(given.get(one.name, one) for one in own)
    names = [one.name for one in own]
    if not names or form.name not in ("", *names):
        raise NotFoundError(
            f"this package of the task {package.manifest.task} has no limit {form.name!r} to set",
            where=inspection,
            fix=f"It has {', '.join(names) or 'none'}.",
        )
    base = used[names.index(form.name) if form.name else 0]
    chosen = replace(
        base,
        low=base.low if form.low is None else form.low,
        high=base.high if form.high is None else form.high,
    )
    kept = [one for one in used if one.name in given and one.name != chosen.name]
    costs = version.costs if version is not None else Costs()
    fields = {"good_rejected": form.good_rejected, "bad_passed": form.bad_passed,
              "review": form.review}  # fmt: skip
    most = 1.0
    if chosen.name == ANOMALY:
        scores = hub.points.unseen(package.digest).get(chosen.name)
        most = max(2 * base.high, scores.cuts[-1] if scores else 0.0)
    return PointPage(
        inspection=inspection, package=package, version=version, own=own, used=used,
        chosen=chosen, limits=(*kept, chosen),
        costs=replace(costs, **{name: one for name, one in fields.items() if one is not None}),
        bad_percent=form.bad_percent, most=most,
        in_use=inspection in hub.packages.one(package.digest).used_by,
    )  # fmt: skip


def effect_view(hub: Services, page: PointPage) -> EffectView:
    """Return the effect of the page's limits; ``InvalidError`` where they cannot be set."""
    found = hub.points.preview(
        page.inspection,
        PreviewRequest(
            limits=page.limits, package=page.package.digest, costs=page.costs,
            bad_share=page.bad_percent / 100,
        ),
    )  # fmt: skip
    unseen = next((one for one in found.unseen if one.name == page.chosen.name), None)
    scores = hub.points.unseen(page.package.digest).get(page.chosen.name)
    cost, note, cheap, caution = "", "", "", ""
    if unseen is not None:
        cost = number(unseen.cost_after, digits=1)
        more = unseen.cost_after - unseen.cost_before
        other = f"version {found.version}" if found.version else "the package's own limits"
        note = (
            f"{number(abs(more), digits=1)} {'more' if more > 0 else 'less'} than {other}"
            f"{'' if page.counts else f', at {page.bad_percent:g} % bad parts'}."
        )
        reviews = scores.effect(unseen.cheapest) if scores else unseen.after
        words = (
            f"counted above {unseen.cheapest.high:.4g}."
            if page.counts
            else f"review from {unseen.cheapest.low:.4g}, reject above {unseen.cheapest.high:.4g}; "
            f"{_reviews(page, reviews)} of 100 parts go to review then, "
            f"{_reviews(page, unseen.after)} with these limits."
        )
        cheap = f"Lowest: {number(unseen.cost_cheapest, digits=1)}, {words}"
        fewest = min(unseen.after.bad, unseen.after.good)
        caution = (
            ""
            if fewest >= _FEW_PARTS
            else (
                f"Were all {counted(fewest, 'part')} of one kind right, up to"
                f" {round(100 * wilson(0, fewest).high)} of 100 could still be wrong."
            )
        )
    return EffectView(
        histogram=_histogram(
            page, None if page.counts else scores, recorded=_recorded_scores(hub, page)
        ),
        sentences=_sentences(page, unseen.after) if unseen else (),
        headline=_headline(found), note=found.recorded.note, kinds=_kinds(hub, found),
        cost=cost, cost_note=note, cheapest=unseen.cheapest if unseen else None,
        cheapest_note=cheap, caution=caution,
    )  # fmt: skip


def _reviews(page: PointPage, effect: UnseenEffect) -> str:
    """Return the reviews of a hundred parts of the line, which has its own share of bad ones."""
    each = Costs(good_rejected=0.0, bad_passed=0.0, review=0.1)  # its cost is of a thousand parts
    return number(effect.cost(each, bad_share=page.bad_percent / 100))


def _recorded_scores(hub: Services, page: PointPage) -> list[float]:
    answers = hub.points.recorded(page.inspection, page.package.digest)
    if page.counts:
        return [box.probability for one in answers for box in one.boxes]
    scores = (score_of(one, page.chosen.name) for one in answers)
    return [one for one in scores if one is not None]


def _histogram(
    page: PointPage, scores: UnseenScores | None, *, recorded: Sequence[float]
) -> Histogram:
    """Bars that end where a limit stands, so that each lies in one zone."""
    low, high, most = page.chosen.low, page.chosen.high, page.most
    even = [most * place / _BARS for place in range(_BARS + 1)]
    edges = sorted({*even, min(low, most), min(high, most)})
    if scores is not None:
        counts = scores.bars(edges)
        source = (
            f"{counted(scores.good_above[0], 'part')} without and"
            f" {number(scores.bad_below[-1])} with {page.chosen.name}, which the package had not"
            " learned from"
            f"{f'; {scores.scope}' if scores.scope else ''}"
        )
    else:
        counts = tuple(
            (sum(one < score <= other or (score == one == 0) for score in recorded), 0)
            for one, other in pairwise(edges)
        )
        source = (
            f"{counted(len(recorded), 'object')} in recorded frames, above the limit of their time"
            if page.counts
            else f"{counted(len(recorded), 'recorded frame')}; the package carries no scores of"
            " unseen parts, so that nothing is known of their truth"
        )
    # The square root keeps the few mistakes visible beside many right answers.
    tallest = sqrt(max([1, *(count for pair in counts for count in pair)]))
    bars = [
        Bar(
            x=one / most * _WIDTH, width=(other - one) / most * _WIDTH,
            up=sqrt(up) / tallest * _HEIGHT, down=sqrt(down) / tallest * _HEIGHT,
            zone="ok" if other <= low or page.counts else "review" if other <= high else "reject",
        )
        for (one, other), (up, down) in zip(pairwise(edges), counts, strict=True)
    ]  # fmt: skip
    scale = _WIDTH / most
    return Histogram(
        source=source, bars=tuple(one for one in bars if one.up or one.down),
        low=min(low, most) * scale, high=min(high, most) * scale,
        was=(min(page.before.low, most) * scale, min(page.before.high, most) * scale),
        marks=tuple((most * place / 5 * scale, f"{most * place / 5:.2g}") for place in range(6)),
        has_truth=scores is not None,
        upper=f"without {page.chosen.name}" if _is_presence(page) else "good",
        lower=f"with {page.chosen.name}" if _is_presence(page) else "bad",
    )  # fmt: skip


def _is_presence(page: PointPage) -> bool:
    """Return whether the label may well stand on a good part."""
    return page.package.manifest.task == "multilabel"


def _sentences(page: PointPage, effect: UnseenEffect) -> tuple[Sentence, ...]:
    """Both kinds of mistake, of parts that the package had not learned from."""
    if page.counts:
        return tuple(
            _sentence("Of 100 parts about", after, counts=(count, 0, effect.bad), reviews=False)
            for after, count in (
                ("are counted too low", effect.escapes),
                ("are counted too high", effect.false_rejects),
            )
        )
    presence = _is_presence(page)
    name = page.chosen.name
    bad = f"parts with {name}" if presence else "bad parts"
    good = f"parts without {name}" if presence else "good parts"
    missed = "are missed" if presence else "slip through"
    wrong = "are said to have it" if presence else "are rejected"
    return (
        _sentence(
            f"Of 100 {bad} about", missed,
            counts=(effect.escapes, effect.bad_review, effect.bad),
        ),
        _sentence(
            f"Of 100 {good} about", wrong,
            counts=(effect.false_rejects, effect.good_review, effect.good),
        ),
    )  # fmt: skip


def _sentence(
    before: str, after: str, *, counts: tuple[int, int, int], reviews: bool = True
) -> Sentence:
    mistakes, review, whole = counts
    if not whole:
        return Sentence(
            before=before, count="?", after=after, interval="no such part was held out",
            shapes=(), legend=(),
        )  # fmt: skip
    between = wilson(mistakes, whole)
    wrong = round(100 * mistakes / whole)
    reviewed = min(round(100 * review / whole), 100 - wrong)
    right = 100 - wrong - reviewed
    return Sentence(
        before=before, count=str(wrong), after=after,
        interval=f"{round(100 * between.low)} to {round(100 * between.high)}, of {whole} parts",
        shapes=("wrong",) * wrong + ("review",) * reviewed + ("right",) * right,
        legend=(
            ("wrong", f"{wrong} {after}"),
            *([("review", f"{reviewed} go to review")] if reviews else []),
            ("right", f"{right} {'correct' if reviews else 'not'}"),
        ),
    )  # fmt: skip


def _headline(found: Preview) -> str:
    recorded = found.recorded
    if not recorded.frames:
        return "No recorded frame was answered by this package yet."
    more = [
        f"{number(abs(change))} {'more' if change > 0 else 'fewer'} {word}"
        for verdict, word in ((PartVerdict.REJECT, "rejects"), (PartVerdict.REVIEW, "reviews"))
        if (change := recorded.after[verdict] - recorded.before[verdict])
    ]
    words = ", ".join(more) or "as many rejects and reviews"
    changed = f"{number(recorded.changed)} of {counted(recorded.frames, 'frame')} change"
    return f"On the last {counted(recorded.frames, 'frame')}: {words} ({changed})"


def _kinds(hub: Services, found: Preview) -> tuple[KindOfChange, ...]:
    return tuple(
        KindOfChange(
            before=verdict_mark(one.before), after=verdict_mark(one.after), count=one.count,
            frames=tuple((frame, _is_stored(hub, frame)) for frame in one.frames),
        )
        for one in found.recorded.changes
    )  # fmt: skip


def _is_stored(hub: Services, frame: str) -> bool:
    try:
        hub.frames.view(frame)
    except NotFoundError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """A version in the list, with what this person may do about it."""

    version: PointVersion
    mark: Mark
    limits: str
    decisions: OpenDecisions
    can_return: bool


def version_rows(context: PageContext, page: PointPage) -> tuple[VersionRow, ...]:
    """The versions, newest first."""
    hub, rows = context.hub, []
    used = page.version.number if page.version is not None else 0
    releases = context.who.role is not None and Right.RELEASE in GRANTS[context.who.role]
    for one in reversed(hub.points.versions(page.inspection)):
        waits = one.status is Status.PENDING
        why_not = hub.points.why_not(one, by=context.who.name)
        if not releases:
            why_not = f"Requires the role {' or '.join(roles_with(Right.RELEASE))}."
        mark = Mark(shape="tick", word="in use", tone="ok") if one.number == used else None
        rows.append(
            VersionRow(
                version=one, mark=mark or _STATES[one.status], limits=limits_text(one.limits),
                decisions=OpenDecisions(
                    approves=waits and not why_not, rejects=waits and releases,
                    why_not=why_not if waits else "",
                ),
                can_return=releases
                and page.in_use
                and one.status is Status.APPROVED
                and one.number != used
                and one.package == page.package.digest,
            )
        )  # fmt: skip
    return tuple(rows)


def limits_text(limits: Sequence[Limits]) -> str:
    """``scratch 0.36 / 0.56``; of many, the first few."""
    shown = [f"{one.name} {one.low:.3g} / {one.high:.3g}" for one in limits[:3]]
    more = f" and {len(limits) - 3} more" if len(limits) > 3 else ""
    return ", ".join(shown) + more


@router.get("/{inspection}/operating-point")
def operating_point_page(context: Context, *, inspection: str, form: Form) -> HTMLResponse:
    """The page of an inspection's operating point."""
    page = point_page(context.hub, inspection, form)
    found = context.hub.plant.find_inspection(inspection)
    return context.page(
        "operating_point.html",
        title="Operating point",
        active="models",
        page=page,
        camera=found.camera,
        effect=effect_view(context.hub, page),
        versions=version_rows(context, page),
    )


@router.get("/{inspection}/operating-point/preview")
def operating_point_preview(context: Context, *, inspection: str, form: Form) -> HTMLResponse:
    """The part of the page that moves with the limits."""
    page = point_page(context.hub, inspection, form)
    effect = effect_view(context.hub, page)
    return context.site.fragment("operating_point_effect.html", page=page, effect=effect)
