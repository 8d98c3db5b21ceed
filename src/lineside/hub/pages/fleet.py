"""Device pages: every device in a list, and one device."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from lineside.core import NotFoundError
from lineside.hub.devices.enrolment import DEVICE_TYPE
from lineside.hub.devices.registry import STATES, DeviceQuery, DeviceSummary
from lineside.hub.pages.site import Context
from lineside.hub.services import Services
from lineside.hub.views import DeviceView
from lineside.web.answers import Mark
from lineside.web.format import DASH, counted, number, span

LOCAL_MARKS = {
    "off": Mark(shape="bar", word="off"),
    "starting": Mark(shape="triangle", word="starting"),
    "running": Mark(shape="ring", word="running"),
    "failing": Mark(shape="square", word="failing", tone="bad"),
}
_SOON = timedelta(days=122)
_OFFSET_TOLD_S = 0.05
_OFFSET_BAD_S = 2.0
MARKS = {
    "online": Mark(shape="ring", word="online"),
    "silent": Mark(shape="triangle", word="silent", tone="warn"),
    "offline": Mark(shape="bar", word="offline", tone="warn"),
    "never": Mark(shape="bar", word="never reported", tone="warn"),
    "revoked": Mark(shape="square", word="revoked", tone="bad"),
}


def clock_mark(offset_s: float | None) -> Mark:
    """Return the offset of a device's clock; offsets within network delay count as in sync."""
    if offset_s is None:
        return Mark(shape="bar", word="not measured")
    if abs(offset_s) < _OFFSET_TOLD_S:
        return Mark(shape="ring", word="in sync")
    side = "ahead" if offset_s > 0 else "behind"
    bad = abs(offset_s) > _OFFSET_BAD_S
    return Mark(
        shape="triangle" if bad else "ring",
        word=f"{_length(abs(offset_s))} {side}",
        tone="warn" if bad else "",
    )


def _length(seconds: float) -> str:
    return span(seconds) if seconds >= 60 else f"{seconds:.1f}\u00a0s"


def certificate_mark(line: DeviceSummary, *, now: datetime) -> Mark:
    """Until when a certificate holds."""
    if line.revoked_at is not None:
        return Mark(shape="square", word="revoked", tone="bad")
    if line.certificate_ends_at is None:
        return Mark(shape="bar", word="none")
    ends = f"{line.certificate_ends_at:%Y-%m-%d}"
    if line.certificate_ends_at <= now:
        return Mark(shape="square", word=f"over since {ends}", tone="bad")
    if line.certificate_ends_at - now < _SOON:
        return Mark(shape="triangle", word=f"renews before {ends}", tone="warn")
    return Mark(shape="ring", word=f"until {ends}")


def device_facts(device: DeviceView) -> tuple[tuple[str, str], ...]:
    """Facts that a device reported of itself."""
    return (
        ("Version", device.version or "not told"),
        ("Frames judged", number(int(device.status.get("predictions", 0)))),
        ("Passed over", _refused(device.status.get("refused", {}))),
        ("Waiting to be sent", counted(device.spool_depth, "event")),
        ("Stored here up to", number(device.acked)),
    )


def device_packages(device: DeviceView) -> tuple[tuple[str, str, str, str, Mark], ...]:
    """Inspection, running package, its processor, desired package, and how the two agree."""
    runs = {
        str(one["inspection"]): (str(one["digest"]), str(one.get("engine_device", "")))
        for one in device.packages
    }
    desired = {str(one["inspection"]): str(one["digest"]) for one in device.desired}
    return tuple(
        (name, *runs.get(name, ("", "")), desired.get(name, ""),
         _swap(runs.get(name, ("",))[0], desired.get(name, "")))
        for name in sorted(runs.keys() | desired.keys())
    )  # fmt: skip


def _refused(refused: Mapping[str, int]) -> str:
    return ", ".join(f"{number(n)} {reason}" for reason, n in sorted(refused.items())) or "none"


def _swap(runs: str, wanted: str) -> Mark:
    if runs == wanted:
        return Mark(shape="ring", word="up to date")
    if not wanted:
        return Mark(shape="square", word="unexpected version")
    return Mark(shape="triangle", word="loading" if not runs else "swapping", tone="warn")


def list_address(query: DeviceQuery, *, after: str) -> str:
    """The list with the same filters behind a cursor."""
    wanted = replace(query, after=after)
    told = {
        "q": wanted.text, "group": wanted.group, "state": wanted.state, "after": wanted.after,
    }  # fmt: skip
    return "/devices?" + urlencode({key: value for key, value in told.items() if value})


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentNews:
    """One thing that happened at enrolment, and when."""

    at: datetime
    device: str
    mark: Mark
    detail: str


_NEWS = {
    "invited": Mark(shape="ring", word="code made"),
    "enrolled": Mark(shape="tick", word="enrolled", tone="ok"),
    "renewed": Mark(shape="ring", word="renewed"),
    "withdrawn": Mark(shape="bar", word="code taken back"),
    "revoked": Mark(shape="square", word="revoked", tone="bad"),
}
_REFUSED = Mark(shape="square", word="refused", tone="bad")
_MOST_NEWS = 10


def enrolment_news(hub: Services) -> list[EnrolmentNews]:
    """The newest enrolments of the log, and refusals of this hub since its start."""
    news = [
        EnrolmentNews(at=one.at, device=one.device or DASH, mark=_REFUSED,
                      detail=f"{one.reason} (from {one.address})")
        for one in hub.enrolment.refusals
    ]  # fmt: skip
    for event in hub.events.page(kind=DEVICE_TYPE, limit=_MOST_NEWS * 2, newest_first=True):
        data = event.event["data"]
        mark = _NEWS.get(str(data.get("action")))
        if mark is None:
            continue
        parts = [f"by {data['by']}"]
        parts += [f"from {data['address']}"] if data.get("address") else []
        parts += [str(data["reason"])] if data.get("reason") else []
        news.append(
            EnrolmentNews(at=event.time, device=event.subject, mark=mark, detail=", ".join(parts))
        )
    return sorted(news, key=lambda one: one.at, reverse=True)[:_MOST_NEWS]


def enrolment_gaps(hub: Services) -> list[str]:
    """Sentences on what still keeps devices from enrolling, once there is an authority."""
    gaps = []
    if not hub.config.secure:
        gaps.append(
            "Pages are served without TLS, and a device sends its code by TLS only: set"
            ' tls = "site"'
            " and the public_url in the hub's settings, and start it again."
        )
    if not hub.enrolment.bus_url.startswith("mqtts:"):
        gaps.append(
            'The bus asks for no certificate: set bus_tls = "0.0.0.0:8883" in the hub\'s settings,'
            " and start it again."
        )
    return gaps


def has_ca(hub: Services) -> bool:
    """Return whether codes can be made."""
    try:
        hub.enrolment.certificate_authority()
    except NotFoundError:
        return False
    return True


def points_used(hub: Services, device: DeviceView) -> dict[str, int]:
    """Return by inspection which operating point a device reported; 0: the package's own limits."""
    inspections = {one.id for one in hub.plant.inspection}
    found: dict[str, int] = {}
    for package in device.packages:
        name, digest = str(package["inspection"]), package.get("operating_point")
        versions = hub.points.versions(name) if digest and name in inspections else ()
        numbers = {str(one.point.digest): one.number for one in versions if one.point is not None}
        if (number := 0 if digest == "" else numbers.get(str(digest))) is not None:
            found[name] = number
    return found


router = APIRouter(prefix="/devices")

_PAGE = 50


@router.get("")
def fleet_page(
    context: Context,
    *,
    q: str = "",
    group: str = "",
    state: str = "",
    after: Annotated[str, Query(description="the cursor of the page before")] = "",
) -> HTMLResponse:
    """Devices by name, with filters; fifty a page."""
    query = DeviceQuery(after=after, group=group, state=state, text=q, limit=_PAGE)
    page = context.hub.fleet.page(query)
    online, known = context.hub.devices.count()
    return context.page(
        "fleet.html",
        title="Devices",
        active="fleet",
        sub=f"{online} of {known} reporting",
        devices=page.items,
        now=context.hub.clock.now(),
        marks=MARKS,
        clock_mark=clock_mark,
        certificate_mark=certificate_mark,
        query=query,
        filtered=bool(q or group or state or after),
        states=STATES,
        groups=context.hub.things.all_groups(),
        further=list_address(query, after=page.following) if page.following else "",
        first=list_address(query, after="") if after else "",
        invitations=context.hub.enrolment.invitations(),
        ready=has_ca(context.hub),
        gaps=enrolment_gaps(context.hub),
        news=enrolment_news(context.hub),
        root_keys=str(keys) if (keys := context.hub.config.keys_folder).exists() else "",
        hub_url=context.hub.config.public_url or str(context.request.base_url).rstrip("/"),
        lines=context.hub.plant.line,
        local=context.hub.local_device.state(),
        local_marks=LOCAL_MARKS,
        unenrolled=[
            one.id for one in page.items if one.state == "online" and not one.certificate_ends_at
        ],
    )


@router.get("/{device}")
def device_detail_page(context: Context, *, device: str) -> HTMLResponse:
    """One device: certificate, packages, jobs, clock, groups."""
    found = context.hub.fleet.one(device)
    return context.page(
        "device.html",
        title=device,
        active="fleet",
        found=found,
        marks=(
            MARKS[found.line.state],
            clock_mark(found.line.clock_offset_s),
            certificate_mark(found.line, now=context.hub.clock.now()),
        ),
        facts=device_facts(found.report) if found.report is not None else (),
        packages=device_packages(found.report) if found.report is not None else (),
        points=points_used(context.hub, found.report) if found.report is not None else {},
    )
