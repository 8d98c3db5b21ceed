"""Inventory of the devices: reports, certificates, groups and jobs together."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from lineside.core import Clock, InvalidError, NotFoundError, load_plant
from lineside.fleet import EnrolledDevice, JobQuery, JobService, Presence
from lineside.hub.config import HubConfig
from lineside.hub.devices.enrolment import Enrolment
from lineside.hub.devices.registry import DeviceRegistry
from lineside.hub.eventlog.ledger import RecordsJournal
from lineside.hub.views import DeviceView
from lineside.store import open_records

STATES = (*(str(one) for one in Presence), "revoked")
_MOST_JOBS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceQuery:
    """Filter of a list; ``state`` is one of ``STATES``, or "" for all."""

    after: str = ""
    group: str = ""
    state: str = ""
    text: str = ""
    limit: int = 100

    def __post_init__(self) -> None:
        if self.state and self.state not in STATES:
            raise InvalidError(
                f"no state {self.state!r}", where="state", fix=f"Use one of: {', '.join(STATES)}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSummary:
    """A device in a list.

    Attributes:
        certified: whether it was enrolled; ``certificate_ends_at`` of its newest certificate.
        revoked_at: None while it may work.
    """

    id: str
    state: str
    at: datetime | None
    version: str
    packages: tuple[dict[str, Any], ...]
    spool_depth: int
    clock_offset_s: float | None
    groups: tuple[str, ...]
    certified: bool
    certificate_ends_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePage:
    """Some devices by name; ``following`` is the cursor behind a full page."""

    items: tuple[DeviceSummary, ...]
    following: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceJob:
    """One job on a device."""

    job_id: str
    status: str
    queued_at: datetime
    last_updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDetails:
    """Everything of one device; ``told``, its last report, is None where there is none."""

    line: DeviceSummary
    told: DeviceView | None
    enrolled: EnrolledDevice | None
    jobs: tuple[DeviceJob, ...]


class DeviceInventory:
    """Devices of a site: their reports, their enrolment and their jobs."""

    def __init__(self, devices: DeviceRegistry, *, enrolment: Enrolment, jobs: JobService) -> None:
        self.devices = devices
        self.enrolment = enrolment
        self.jobs = jobs

    def page(self, query: DeviceQuery) -> DevicePage:
        """Return a page of the list.

        Raises:
            NotFoundError: no such group.
        """
        rows = {one.device: one for one in self.enrolment.inventory.all()}
        names = list(islice(self._matching(query, rows=rows), query.limit + 1))
        shown = names[: query.limit]
        views = {one.id: one for one in self.devices.some(shown)}
        items = tuple(self._line(name, view=views.get(name), row=rows.get(name)) for name in shown)
        return DevicePage(items=items, following=shown[-1] if len(names) > query.limit else "")

    def one(self, device: str) -> DeviceDetails:
        """``NotFoundError`` for a name that was neither enrolled nor heard."""
        view = next(iter(self.devices.some((device,))), None)
        row = self.enrolment.inventory.find(device)
        if view is None and row is None:
            raise NotFoundError(
                f"no device {device!r}", where="device", fix="List them: lineside device list."
            )
        line = self._line(device, view=view, row=row)
        return DeviceDetails(line=line, told=view, enrolled=row, jobs=self._jobs(device))

    def _matching(self, query: DeviceQuery, *, rows: Mapping[str, EnrolledDevice]) -> Iterator[str]:
        """Names in order, behind the cursor, of enrolled devices and of those only heard."""
        heard = self.devices.presences()
        known = {*heard, *rows}
        if query.group:
            known &= set(self.enrolment.inventory.things.members(query.group))
        for name in sorted(known):
            if name <= query.after or query.text.casefold() not in name.casefold():
                continue
            is_out = name in rows and not rows[name].active
            state = "revoked" if is_out else heard.get(name, Presence.NEVER).value
            if not query.state or state == query.state:
                yield name

    def _line(
        self, name: str, *, view: DeviceView | None, row: EnrolledDevice | None
    ) -> DeviceSummary:
        is_out = row is not None and not row.active
        return DeviceSummary(
            id=name,
            state="revoked" if is_out else view.state if view else Presence.NEVER.value,
            at=view.at if view else None,
            version=view.version if view else "",
            packages=view.packages if view else (),
            spool_depth=view.spool_depth if view else 0,
            clock_offset_s=view.clock_offset_s if view else None,
            groups=tuple(self.enrolment.inventory.things.groups(name)),
            certified=row is not None,
            certificate_ends_at=row.ends_at if row else None,
            revoked_at=row.revoked_at if row else None,
        )

    def _jobs(self, device: str) -> tuple[DeviceJob, ...]:
        """Some jobs that were for this device; none for one that may take none any longer."""
        if not self.enrolment.inventory.things.has(device):
            return ()
        page = self.jobs.runs_of_thing(device, JobQuery(limit=_MOST_JOBS))
        return tuple(
            DeviceJob(
                job_id=run.job_id, status=str(run.status), queued_at=run.queued_at,
                last_updated_at=run.last_updated_at,
            )
            for run in page.items
        )  # fmt: skip


@contextmanager
def open_inventory(config: HubConfig, *, clock: Clock) -> Iterator[DeviceInventory]:
    """Open the devices for a command beside the hub, whether or not it runs."""
    plant = load_plant(Path(config.plant))
    with open_records(config.records_url, clock=clock) as records:
        enrolment = Enrolment(
            records, journal=RecordsJournal(records), plant=plant, config=config, clock=clock
        )
        devices = DeviceRegistry(
            records, plant=plant, clock=clock, most=config.most_devices,
            silent_after_s=config.device_silent_s,
        )  # fmt: skip
        yield DeviceInventory(
            devices,
            enrolment=enrolment,
            jobs=JobService(records, clock=clock, directory=enrolment.inventory.things),
        )
