"""What every route of the pages needs: the hub's parts, the site, and small look-ups."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse

from lineside.core import Inspection, LinesideError
from lineside.hub.access.permissions import Identity, allows
from lineside.hub.pages.site import Site
from lineside.hub.services import Services
from lineside.hub.views import PackageView


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request for a page."""

    request: Request
    hub: Services
    site: Site

    @property
    def who(self) -> Identity:
        """Who asks; the gate has checked it."""
        return cast("Identity", self.request.state.identity)

    def may(self, path: str) -> bool:
        """Whether whoever asks may send something to this address."""
        return allows(self.who, method="POST", path=path)

    def page(self, template: str, **context: object) -> HTMLResponse:
        """A whole page."""
        return self.site.page(self.request, template, **context)


def asked(request: Request) -> Asked:
    """The request with what answers it."""
    state = request.app.state
    return Asked(
        request=request, hub=cast("Services", state.services), site=cast("Site", state.site)
    )


Ask = Annotated[Asked, Depends(asked)]


class NoPageError(LinesideError):
    """An address that leads nowhere."""

    exit_code = 3
    http_status = 404
    title = "Not found"


def packages_by_digest(hub: Services) -> dict[str, PackageView]:
    """Every package, by its digest."""
    return {package.digest: package for package in hub.packages.all()}


def names_of(packages: Mapping[str, PackageView]) -> dict[str, str]:
    """The name of each package, by digest."""
    return {digest: package.name for digest, package in packages.items()}


def inspections_of(hub: Services) -> dict[str, Inspection]:
    """Every inspection, by id."""
    return {one.id: one for one in hub.plant.inspection}
