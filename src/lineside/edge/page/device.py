"""The device's own page, put together from the parts of the agent, where one is configured."""

import logging
from typing import TYPE_CHECKING

from lineside.core import Clock, LinesideError, Plant, rfc3339
from lineside.edge.agent import Agent, chosen_cameras
from lineside.edge.config import EdgeConfig
from lineside.edge.counters import Counters
from lineside.edge.deploy.deployment import DeploymentStore
from lineside.edge.identity.certificates import page_settings, wants_site
from lineside.edge.page.facts import Device, HubContact, ModelRow, RunningUpdate
from lineside.edge.page.gallery import Gallery
from lineside.edge.page.server import PageServer
from lineside.links import Bus

if TYPE_CHECKING:
    from lineside.edge.local_api.models import LoadedModel
    from lineside.edge.local_api.serving import Serving

logger = logging.getLogger(__name__)


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
