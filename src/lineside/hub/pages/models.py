"""Pages of model groups and their versions."""

from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from lineside.hub.access.permissions import GRANTS, Identity, Right, roles_with
from lineside.hub.models.evidence import status_words, version_page
from lineside.hub.models.model_service import GroupView
from lineside.hub.pages.replays import REPLAY_WORDS
from lineside.hub.pages.site import Context
from lineside.models import ModelVersion, Status
from lineside.models.versions import Creation, Weekday
from lineside.web.answers import Mark
from lineside.web.format import counted

_TONES = {Status.PENDING: "warn", Status.APPROVED: "ok", Status.REJECTED: "bad"}
_SHAPES = {Status.PENDING: "triangle", Status.APPROVED: "tick", Status.REJECTED: "diamond"}
DAYS = tuple(Weekday)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDecisions:
    """Decisions that are open to a person; where none, ``why_not`` gives the reason."""

    approves: bool
    rejects: bool
    why_not: str


def version_mark(version: ModelVersion) -> Mark:
    """Where a version stands: shape, word and tone."""
    words = status_words(version)
    if version.creation is not Creation.COMPLETED:
        failed = version.creation in (Creation.FAILED, Creation.DELETING)
        return Mark(shape="bar" if failed else "ring", word=words, tone="bad" if failed else "")
    return Mark(shape=_SHAPES[version.status], word=words, tone=_TONES[version.status])


def open_decisions(version: ModelVersion, *, who: Identity, why_not: str) -> OpenDecisions:
    """Return the decisions about a version that are open to a person.

    Args:
        version: the one shown.
        who: looks.
        why_not: why this person may not approve it; "" where nothing speaks against.
    """
    releases = who.role is not None and Right.RELEASE in GRANTS[who.role]
    there = version.creation is Creation.COMPLETED
    if not there:
        why_not = "There is nothing to decide until the version is completed."
    elif not releases:
        able = " or ".join(roles_with(Right.RELEASE))
        why_not = f"Requires the role {able}."
    return OpenDecisions(
        approves=releases and there and not why_not and version.status is not Status.APPROVED,
        rejects=releases and there and version.status is not Status.REJECTED,
        why_not=why_not,
    )


def follows_words(view: GroupView) -> str:
    """Return the action after an approval as text."""
    if not view.settings.deploy_on_approval:
        return "nothing by itself"
    when = "; ".join(one.words for one in view.settings.windows) or "at any time"
    return f"rollout to {view.settings.device_group}, {when}"


router = APIRouter(prefix="/models/groups")

_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"


@router.get("/{group}")
def group_page(context: Context, *, group: str) -> HTMLResponse:
    """Every version of a group, and what follows an approval."""
    view = context.hub.models.group(group)
    versions = reversed(context.hub.models.versions(group))
    return context.page(
        "model_group.html",
        title=group,
        active="models",
        sub=counted(view.versions, "version"),
        group=view,
        versions=[(one, version_mark(one)) for one in versions],
        follows=follows_words(view),
        zone=context.hub.config.time_zone,
        days=DAYS,
    )


@router.get("/{group}/{number}")
def model_version_page(context: Context, *, group: str, number: int) -> HTMLResponse:
    """Page of a version beside the one in use, with approval and rejection."""
    evidence = context.hub.models.evidence(group, number, rule_of=context.hub.labelling.reject_rule)
    found = evidence.version
    why_not = context.hub.models.why_not(found, by=context.who.name)
    return context.page(
        "model_version.html",
        title=found.name,
        active="models",
        evidence=evidence,
        standing=version_mark(found),
        deciding=open_decisions(found, who=context.who, why_not=why_not),
        used_by=context.hub.packages.one(found.digest).used_by if found.digest else (),
        single_person=context.hub.models.single_person,
        replays=evidence.replays,
        inspections=context.hub.models.inspections(found),
        **REPLAY_WORDS,
    )


@router.get("/{group}/{number}/report")
def version_report(context: Context, *, group: str, number: int) -> Response:
    """The same as one file."""
    page = version_page(
        context.hub.models.evidence(group, number, rule_of=context.hub.labelling.reject_rule)
    )
    headers = {"content-security-policy": _REPORT_POLICY}
    return Response(page, media_type="text/html; charset=utf-8", headers=headers)
