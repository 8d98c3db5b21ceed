"""Groups of numbered versions, and the page on which somebody decides about one."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from lineside.hub.models.evidence import version_page
from lineside.hub.pages.common import Ask
from lineside.hub.pages.views import models as views
from lineside.hub.pages.views.replays import replay_row

router = APIRouter(prefix="/models/groups")

_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"


@router.get("/{group}")
def group(ask: Ask, *, group: str) -> HTMLResponse:
    """Every version of a group, and what follows an approval."""
    view = ask.hub.models.group(group)
    versions = reversed(ask.hub.models.versions(group))
    return ask.page(
        "model_group.html",
        title=group,
        active="models",
        sub=views.group_row(view).versions,
        group=view,
        versions=[(one, views.version_mark(one)) for one in versions],
        follows=views.follows_words(view),
        opening=views.opening_words(view),
        zone=ask.hub.config.time_zone,
        days=views.DAYS,
    )


@router.get("/{group}/{number}")
def version(ask: Ask, *, group: str, number: int) -> HTMLResponse:
    """What is known of a version, beside the one in use; approve or reject it."""
    evidence = ask.hub.models.evidence(group, number)
    found = evidence.version
    why_not = ask.hub.models.why_not(found, by=ask.who.name)
    return ask.page(
        "model_version.html",
        title=found.name,
        active="models",
        evidence=evidence,
        standing=views.version_mark(found),
        deciding=views.deciding(found, who=ask.who, why_not=why_not),
        used_by=ask.hub.packages.one(found.digest).used_by if found.digest else (),
        single_person=ask.hub.models.single_person,
        replays=[replay_row(one) for one in evidence.replays],
    )


@router.get("/{group}/{number}/report")
def report(ask: Ask, *, group: str, number: int) -> Response:
    """The same as one file."""
    page = version_page(ask.hub.models.evidence(group, number))
    headers = {"content-security-policy": _REPORT_POLICY}
    return Response(page, media_type="text/html; charset=utf-8", headers=headers)
