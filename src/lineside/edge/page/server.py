"""The page's web server, on a thread of its own.

The device's own page, put together from the parts of the agent, where one is configured.
"""

import contextlib
import logging
import socket
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from lineside.compat.open_inference.models import InferenceModels
from lineside.core import (
    Clock,
    InvalidError,
    LinesideError,
    NotFoundError,
    Plant,
    UnavailableError,
    encode,
    need,
    replace_durably,
    rfc3339,
)
from lineside.core.worker import Worker
from lineside.edge.agent import Agent, chosen_cameras
from lineside.edge.config import EdgeConfig, PageConfig
from lineside.edge.deploy.deployment import DeploymentStore
from lineside.edge.identity.enrolment import page_settings, wants_site
from lineside.edge.messages import Counters
from lineside.edge.page.access import PageSignIn, read_password_line, read_token_line
from lineside.edge.page.app import PageInference
from lineside.edge.page.facts import Device, HubContact, ModelRow, RunningUpdate
from lineside.edge.page.gallery import Gallery, Viewers
from lineside.links import Bus

if TYPE_CHECKING:
    from lineside.edge.local_api.models import LoadedModel
    from lineside.edge.local_api.serving import Serving

logger = logging.getLogger(__name__)

ADDRESS_FILE = "page.json"
_MOST_CONNECTIONS = 64
_MOST_PER_ADDRESS = 48
_BACKLOG = 64
_GRACE_S = 1.0
_LAST_S = 10
_START_S = 30.0
_SEND_BYTES = 262_144
_UNREAD_MS = 20_000


class PageServer:
    """Listens from the start, answers after ``start``; close it."""

    def __init__(
        self,
        config: PageConfig,
        *,
        device: Device,
        gallery: Gallery,
        folder: Path,
        clock: Clock,
        named: InferenceModels | None = None,
        open_inference: bool = True,
    ) -> None:
        """Bind the address.

        Args:
            config: where, and who may see it.
            device: the rest of the agent.
            gallery: what is shown.
            folder: where ``page.json`` says the page's address.
            clock: of ages and sessions.
            named: packages that are loaded by name, for the Open Inference Protocol.
            open_inference: whether the page answers that protocol.

        Raises:
            NotFoundError: a file of the settings is not there.
            InvalidError: password, token or certificate cannot be used.
            UnavailableError: the port is taken.
            MissingExtraError: the web server is not installed.
        """
        need("starlette", extra="edge")
        uvicorn = need("uvicorn", extra="edge")
        from lineside.edge.page.app import PageServices, create_app
        from lineside.web.connections import ConnectionFigures, ConnectionLimits, limited_http

        access = PageSignIn(
            password=read_password_line(Path(config.password_file)) if config.password_file else "",
            token=read_token_line(Path(config.token_file)) if config.token_file else "",
            clock=clock,
        )
        _check_pair(config)
        self._watching = Viewers(gallery, plant=device.plant, most=config.most_viewers, clock=clock)
        inference = PageInference(device.inspections, judge=device.judge, clock=clock, named=named)
        behind = PageServices(
            device=device,
            gallery=gallery,
            watching=self._watching,
            inference=inference if open_inference else None,
            access=access,
            clock=clock,
            secure=bool(config.tls_cert),
        )
        self._listener = _listening(config)
        host, port = config.address[0], self._listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if config.tls_cert else 'http'}://{shown}:{port}"
        self._address = folder / ADDRESS_FILE
        limits = ConnectionLimits(most=_MOST_CONNECTIONS, most_per_address=_MOST_PER_ADDRESS)
        settings = uvicorn.Config(
            create_app(behind, hosts=config.hosts), log_config=None, access_log=False,
            server_header=False, lifespan="off", ws="none", loop="asyncio",
            http=limited_http(limits, ConnectionFigures()), backlog=limits.backlog(),
            log_level="error", timeout_graceful_shutdown=_LAST_S,
            ssl_certfile=config.tls_cert or None, ssl_keyfile=config.tls_key or None,
        )  # fmt: skip
        settings.load()
        if settings.ssl is not None:
            settings.ssl.sni_callback = _CertificateReload(config).look
        self._server = uvicorn.Server(settings)
        self._worker = Worker(
            "page", lambda: self._server.run(sockets=[self._listener]), every_s=None
        )

    def start(self) -> None:
        """Answer; returns once it does."""
        self._worker.start()
        pause, waited_s = threading.Event(), 0.0
        while not self._server.started:
            if not self._worker.is_alive or waited_s > _START_S:
                raise UnavailableError("the page did not start", fix="Read the log above.")
            pause.wait(0.01)
            waited_s += 0.01
        replace_durably(self._address, encode({"url": self.url}))

    def close(self) -> None:
        """End the streams, then the connections; join the thread."""
        self._watching.close()
        self._server.should_exit = True
        if self._worker.is_alive:
            self._worker.join(_GRACE_S)
            self._let_go()
            self._worker.join()
        self._listener.close()
        self._address.unlink(missing_ok=True)

    def _let_go(self) -> None:
        """Whoever does not take what is left: the web server would wait for them, and complain."""
        for one in list(self._server.server_state.connections):
            with contextlib.suppress(RuntimeError):  # the loop is closed: it ended meanwhile
                one.loop.call_soon_threadsafe(one.transport.abort)


def _listening(config: PageConfig) -> socket.socket:
    host, port = config.address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # asyncio leaves this out for sockets it did not make: 40 ms for each answer of two writes.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Connections inherit both: little is buffered for who does not read, and not for long.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MS)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UnavailableError(
            f"cannot listen: {error.strerror}", where=f"page.listen {config.listen}",
            fix="Choose a free port of this machine.",
        ) from error  # fmt: skip
    listener.listen(_BACKLOG)
    return listener


class _CertificateReload:
    """Takes a certificate that was replaced on the disk; connections from then on see it."""

    def __init__(self, config: PageConfig) -> None:
        self._config = config
        self._seen_ns = Path(config.tls_cert).stat().st_mtime_ns

    def look(self, link: ssl.SSLObject | ssl.SSLSocket, name: str | None, held: object) -> None:
        """At the beginning of a connection."""
        del name
        try:
            stamp_ns = Path(self._config.tls_cert).stat().st_mtime_ns
            if stamp_ns != self._seen_ns and isinstance(held, ssl.SSLContext):
                held.load_cert_chain(self._config.tls_cert, self._config.tls_key)
                self._seen_ns = stamp_ns
                link.context = held
        except OSError as error:  # what was loaded before goes on
            logger.debug("the page's certificate was not read again: %s", error)


def _check_pair(config: PageConfig) -> None:
    if not config.tls_cert:
        return
    where = f"{config.tls_cert}, {config.tls_key}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(config.tls_cert, config.tls_key)
    except FileNotFoundError as error:
        raise NotFoundError(
            "no certificate or no key", where=where, fix="Name files that are there."
        ) from error
    except (ssl.SSLError, OSError) as error:
        raise InvalidError(
            f"certificate and key do not fit: {getattr(error, 'reason', error)}",
            where=where,
            fix="Name the key that the certificate was made for, without a password.",
        ) from error


def gallery_for(config: EdgeConfig, *, plant: Plant, clock: Clock) -> Gallery | None:
    """Images that the page shows; None without a page."""
    if not config.page.listen:
        return None
    cameras = {camera.id for camera in chosen_cameras(plant, config.cameras)}
    looked_at = {one.id: one.camera for one in plant.inspection if one.camera in cameras}
    return Gallery(looked_at, clock=clock, width_px=config.page.width_px)


def page_for(
    agent: Agent,
    *,
    config: EdgeConfig,
    plant: Plant,
    bus: Bus,
    clock: Clock,
    gallery: Gallery | None,
    serving: "Serving | None",
    counters: Counters,
) -> PageServer | None:
    """The page, listening and not answering yet; None without one.

    The line goes on where the site gives the page no certificate yet; that is a fault.

    Raises:
        LinesideError: as ``PageServer``.
    """
    if gallery is None:
        return None
    try:
        settings = page_settings(config, clock=clock)
    except LinesideError as error:
        if not wants_site(config):
            raise
        counters.fault("page", error)
        logger.warning("no page before the next start: %s", error)
        return None
    agent.show_to(gallery.show)
    device = Device(
        name=config.device,
        plant=plant,
        inspections=agent.inspections,
        status=agent.status,
        judge=agent.judge,
        hub=lambda: _contact(agent, bus),
        loaded=lambda: [_row(one) for one in serving.packages.all()] if serving else [],
        versions=lambda: _versions(config),
        updates=lambda: _updates(agent),
    )
    return PageServer(
        settings,
        device=device,
        gallery=gallery,
        folder=config.folder,
        clock=clock,
        named=serving.inference if serving else None,
        open_inference="open-inference" in config.contracts,
    )


def _contact(agent: Agent, bus: Bus) -> HubContact:
    heard_at = agent.contact.heard_at
    return HubContact(
        connected=bus.connected(),
        heard_at=rfc3339(heard_at) if heard_at is not None else "",
        clock_offset_s=agent.contact.offset_s,
    )


def _versions(config: EdgeConfig) -> dict[str, tuple[str, str]]:
    try:
        known = DeploymentStore(config.folder).installed()
    except LinesideError:
        return {}  # the loader tells of it
    return {one.digest: (one.group, one.version) for one in known.values()}


def _updates(agent: Agent) -> list[RunningUpdate]:
    doing = agent.doing()
    if doing is None:
        return []
    document = doing.work.document
    return [
        RunningUpdate(
            job=doing.work.job_id,
            model=str(document.get("model_name", ""))[:200],
            version=str(document.get("model_version", ""))[:200],
            details=doing.details,
        )
    ]


def _row(one: "LoadedModel") -> ModelRow:
    told = "-" + one.version.replace(".", "-")
    return ModelRow(
        name=one.name.removesuffix(told),
        version=one.version,
        identifier=one.name,
        digest=one.digest,
        inspection="",
        task=one.task,
        since=rfc3339(one.loaded_at),
    )
