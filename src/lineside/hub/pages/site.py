"""Shared parts of all pages: the request, the templates, their files and the page header.

Files are served below ``/static/<release>/`` where the release is the package's version and eight
digits over all files' bytes: a browser may keep them for ever, and after an upgrade no page mixes
its modules with older ones.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, cast

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse

from lineside.core import Inspection, LinesideError, NotFoundError, encode, rfc3339
from lineside.hub.access.permissions import Identity, is_allowed, roles_allowed
from lineside.hub.models.evidence import change_words, figure, figure_groups, interval
from lineside.hub.pages.frames import (
    class_table,
    finding_rows,
    health_rows,
    registration_rows,
    step_href,
    time_rows,
)
from lineside.hub.services import Services
from lineside.hub.views import PackageView
from lineside.vision.metrics import metric_words
from lineside.web import format as written
from lineside.web.answers import SHARED_STATIC, SILENT, region_mark

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
NO_STORE = {"cache-control": "no-store"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NavEntry:
    """One entry of the navigation; ``key`` names its icon.

    Attributes:
        heading: of the group that begins with it.
        is_tab: it stands in the tab bar of a phone; the others stand in a menu there.
    """

    key: str
    name: str
    href: str
    heading: str = ""
    is_tab: bool = False


NAV = (
    NavEntry(key="lines", name="Lines", href="/", heading="Production", is_tab=True),
    NavEntry(key="review", name="Review", href="/review", is_tab=True),
    NavEntry(key="pictures", name="Pictures", href="/pictures", is_tab=True),
    NavEntry(key="events", name="Events", href="/events", is_tab=True),
    NavEntry(key="twin", name="Twin", href="/twin"),
    NavEntry(key="new", name="New inspection", href="/inspections/new", heading="Inspections"),
    NavEntry(key="data", name="Datasets", href="/datasets"),
    NavEntry(key="runs", name="Training", href="/training"),
    NavEntry(key="models", name="Models", href="/models"),
    NavEntry(key="try", name="Try", href="/try"),
    NavEntry(key="count", name="Count", href="/count"),
    NavEntry(key="regions", name="Regions", href="/regions"),
    NavEntry(key="fleet", name="Devices", href="/devices", heading="Site"),
    NavEntry(key="rollouts", name="Rollouts", href="/rollouts"),
    NavEntry(key="setup", name="Set-up", href="/setup"),
    NavEntry(key="alerts", name="Alerts", href="/alerts"),
    NavEntry(key="dead", name="Rejected messages", href="/rejected-messages"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageHeader:
    """Header of every page of a signed-in person.

    Attributes:
        live, cameras: cameras that send usable pictures, and all of them.
        alerts: open alerts that nobody acknowledged.
        reviews: pictures that wait for people.
    """

    plant: str
    name: str
    role: str
    reporting: int
    devices: int
    live: int
    cameras: int
    alerts: int
    reviews: int


def release(folders: Sequence[Path] = (STATIC, SHARED_STATIC)) -> str:
    """The package's version and a digest over every file of ``folders``: ``0.1.0-3f2a91c0``."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                digest.update(path.relative_to(folder).as_posix().encode() + b"\n")
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{version('lineside')}-{digest.hexdigest()[:8]}"


_TABLE = re.compile(r"<table\b.*?</table>", re.DOTALL)
_HEAD = re.compile(r"<th\b[^>]*>(.*?)</th>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_CELL = re.compile(r"<(tr|td|th)\b(?![^>]*\bcolspan=)")


def label_cells(html: str) -> str:
    """Return the page with the name of its column on every cell (``data-label``).

    A narrow window shows a row as a card, in which a value stands beside its name. A cell that
    spans columns, or stands in a table without a head, has none.
    """
    return _TABLE.sub(lambda table: _labelled(table[0]), html)


def _labelled(table: str) -> str:
    head, end, body = table.partition("</thead>")
    names = [" ".join(_TAG.sub("", cell).split()) for cell in _HEAD.findall(head)]
    column = 0

    def label(cell: re.Match[str]) -> str:
        nonlocal column
        column = 0 if cell[1] == "tr" else column + 1
        if cell[1] != "td" or column > len(names):
            return cell[0]
        return f"""{cell[0]} data-label="{names[column - 1].replace('"', "&quot;")}\""""

    return head + end + _CELL.sub(label, body) if end else table


def by_region(labels: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Group labels by their region: ``{"A1": [("A1/red", "red")]}``; "" for whole pictures."""
    found: dict[str, list[tuple[str, str]]] = {}
    for label in labels:
        region, _, name = label.rpartition("/")
        found.setdefault(region, []).append((label, name))
    return found


_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)")


def _by_times(sentence: str) -> list[str]:
    """Split a sentence at its times (RFC 3339): each second part is one."""
    return _TIME.split(sentence)


def _json(value: object) -> str:
    return encode(value).decode()


_FILTERS = {
    "number": written.number,
    "percent": written.percent,
    "probability": written.probability,
    "milliseconds": written.milliseconds,
    "span": written.span,
    "size": written.size,
    "day_time": written.day_time,
    "tail": written.tail,
    "json": _json,
    "by_region": by_region,
    "by_times": _by_times,
    "region_mark": region_mark,
    "step_href": step_href,
    "class_table": class_table,
    "finding_rows": finding_rows,
    "registration_rows": registration_rows,
    "health_rows": health_rows,
    "time_rows": time_rows,
    "figure": figure,
    "interval": interval,
    "figure_groups": figure_groups,
    "metric_words": metric_words,
    "change_words": change_words,
}


class Site:
    """Renders pages: one environment, autoescaped, in which a missing name is an error."""

    def __init__(self) -> None:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        self.release = release()
        self._templates = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {**_FILTERS, "iso": _iso}
        self._templates.globals |= {
            "static": f"/static/{self.release}",
            "program_version": version("lineside"),
            "nav": NAV,
            "counted": written.counted,
            "silent": SILENT,
        }

    def text(self, template: str, context: Mapping[str, Any]) -> str:
        """The template filled in."""
        blank = {
            "chrome": None, "active": "", "sub": "", "title": "", "wall": False, "may": _nobody,
            "who_may": _who_may,
        }  # fmt: skip
        return label_cells(self._templates.get_template(template).render({**blank, **context}))

    def fragment(self, template: str, **context: Any) -> HTMLResponse:  # noqa: ANN401  a template's own names
        """A part of a page, for what reads itself anew."""
        return HTMLResponse(self.text(template, context), headers=NO_STORE)

    def page(self, request: Request, template: str, **context: Any) -> HTMLResponse:  # noqa: ANN401  a template's own names
        """A whole page; never kept by browser or proxy."""
        identity = getattr(request.state, "identity", None)

        def may(path: str, method: str = "POST") -> bool:
            return is_allowed(identity, method=method, path=path)

        text = self.text(template, {"chrome": page_header(request), "may": may, **context})
        return HTMLResponse(text, headers=NO_STORE)


def _nobody(_path: str, _method: str = "POST") -> bool:
    """Deny every right: a part of a page that is rendered without its requester."""
    return False


def _who_may(path: str, method: str = "POST") -> str:
    return roles_allowed(method=method, path=path)


def page_header(request: Request) -> PageHeader | None:
    """The header's facts; None for someone who is not signed in."""
    identity = getattr(request.state, "identity", None)
    services = getattr(request.app.state, "services", None)
    if identity is None or services is None:
        return None
    reporting, devices = services.devices.count()
    plant, (live, cameras) = services.plant, services.cameras.count()
    return PageHeader(
        plant=plant.name or plant.site,
        name=identity.name,
        role=str(identity.role or ""),
        reporting=reporting,
        devices=devices,
        live=live,
        cameras=cameras,
        alerts=services.alerts.count(),
        reviews=services.reviews.count(),
    )


def _iso(at: datetime) -> str:
    return rfc3339(at)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContext:
    """One request for a page."""

    request: Request
    hub: Services
    site: Site

    @property
    def who(self) -> Identity:
        """Who asks; the gate has checked it."""
        return cast("Identity", self.request.state.identity)

    def may(self, path: str) -> bool:
        """Return True where the requester may post to this address."""
        return is_allowed(self.who, method="POST", path=path)

    def page(self, template: str, **context: object) -> HTMLResponse:
        """A whole page."""
        return self.site.page(self.request, template, **context)


def page_context(request: Request) -> PageContext:
    """The request with what answers it."""
    state = request.app.state
    return PageContext(
        request=request, hub=cast("Services", state.services), site=cast("Site", state.site)
    )


Context = Annotated[PageContext, Depends(page_context)]


class NoPageError(LinesideError):
    """An address that leads nowhere."""

    exit_code = 3
    http_status = 404
    title = "Not found"


def packages_by_digest(hub: Services) -> dict[str, PackageView]:
    """Every package, by its digest."""
    return {package.digest: package for package in hub.packages.all()}


def package_names(hub: Services) -> Callable[[str], str]:
    """Return a function from a digest to the package's name, "" where it is not known here."""
    known: dict[str, str] = {}

    def name_of(digest: str) -> str:
        if digest not in known:
            try:
                known[digest] = hub.packages.one(digest).name
            except NotFoundError:
                return ""
        return known[digest]

    return name_of


def inspections_of(hub: Services) -> dict[str, Inspection]:
    """Every inspection, by id."""
    return {one.id: one for one in hub.plant.inspection}
