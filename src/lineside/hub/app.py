"""The application: middleware, API and pages over one set of services."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from lineside.core import need
from lineside.hub.middleware import Authentication, BodyLimit, HostCheck, SecureHeaders
from lineside.hub.services import Services

if TYPE_CHECKING:
    from fastapi import FastAPI

_SMALL = 2_000_000
_PICTURE = 16_000_000
_MESSAGE = 12_000_000
_TENSORS = 64_000_000


def create_app(services: Services) -> "FastAPI":
    """An ASGI application; the caller opens and closes the services."""
    need("fastapi", extra="hub")
    from fastapi import FastAPI

    from lineside.hub.api import mount_api
    from lineside.hub.pages import mount_pages

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        services.live.start()
        yield
        services.live.stop()

    app = FastAPI(
        title="lineside", version=version("lineside"), docs_url=None, redoc_url=None,
        openapi_url=None, lifespan=lifespan,
    )  # fmt: skip
    app.state.services = services
    config = services.config
    # The last added stands outermost: headers are on every response, refusals included.
    app.add_middleware(Authentication, auth=services.auth)
    app.add_middleware(BodyLimit, limit_of=_limit_of(config.max_body_bytes), folder=config.folder)
    app.add_middleware(
        HostCheck,
        names=(config.host, *config.allowed_hosts),
        any_name=not config.loopback_only and not config.allowed_hosts,
    )
    app.add_middleware(SecureHeaders)
    mount_api(app)
    mount_pages(app, services)
    return app


def _limit_of(most: int) -> Callable[[str], int]:
    def limit(path: str) -> int:
        if path == "/api/v1/packages":
            return most
        if path == "/mqttingest":
            return min(most, _MESSAGE)
        if path.startswith("/v2/models/"):
            return min(most, _TENSORS)
        if path.endswith(("/predict", "/invocations", "/counts/uploaded")):
            return min(most, _PICTURE)
        return min(most, _SMALL)

    return limit
