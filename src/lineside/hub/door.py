"""The embedded broker's listener for devices: who is let in, and who has to go.

A certificate is looked at when a device connects. What is revoked, or over, afterwards ends its
connection within a second or two: the list is read again and again, because a command beside the
hub may have written it.
"""

import logging
import ssl
import threading
from contextlib import ExitStack

from lineside.core import Clock, Plant, RefusedError
from lineside.fleet import SiteAuthority
from lineside.hub.enrolment import HUB_HOST, Enrolment
from lineside.hub.services import Services
from lineside.hub.tls import device_server_files
from lineside.links import Admit, Admitted, DeviceDoor, EmbeddedBroker, device_access

logger = logging.getLogger(__name__)

_LOOK_S = 1.0


def door_of(services: Services) -> DeviceDoor | None:
    """As the settings say; None: devices come in as everybody does.

    Raises:
        NotFoundError: there is no authority yet.
    """
    config, enrolment = services.config, services.enrolment
    if not config.bus_tls:
        return None
    files = device_server_files(config, clock=services.clock)
    host, _, port = config.bus_tls.rpartition(":")
    return DeviceDoor(
        host=host.strip("[]"),
        port=int(port),
        certificate=files.certificate,
        key=files.key,
        authority=config.authority_folder / "authority.crt",
        admit=_admitting(enrolment, authority=enrolment.authority(), plant=services.plant),
    )


def _admitting(enrolment: Enrolment, *, authority: SiteAuthority, plant: Plant) -> Admit:
    def admit(certificate: bytes) -> Admitted:
        told = authority.check(ssl.DER_cert_to_PEM_cert(certificate).encode())
        row = enrolment.inventory.find(told.device)
        if row is None or not row.active:
            raise RefusedError(
                f"{told.device} is not enrolled",
                where=told.device,
                fix="Enrol it with a code of lineside device invite.",
            )
        access = device_access(plant, device=told.device, lines=row.lines)
        return Admitted(
            identity=told.device, serial=told.serial, ends_at=told.ends_at, access=access
        )

    return admit


def watch_door(broker: EmbeddedBroker, services: Services, *, stack: ExitStack) -> None:
    """Tell devices where it is, and cut off those that are out, until the stack ends."""
    enrolment = services.enrolment
    if not broker.door_port:
        enrolment.bus_url = enrolment.bus_url or f"mqtt://{HUB_HOST}:{broker.port}"
        return
    enrolment.bus_url = enrolment.bus_url or f"mqtts://{HUB_HOST}:{broker.door_port}"
    watch = DoorWatch(broker, authority=enrolment.authority(), clock=services.clock)
    enrolment.revoked.append(lambda _: watch.look())
    watch.start()
    stack.callback(watch.stop)


class DoorWatch:
    """A thread that ends connections whose certificate holds no longer."""

    def __init__(self, broker: EmbeddedBroker, *, authority: SiteAuthority, clock: Clock) -> None:
        self._broker = broker
        self._authority = authority
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="door")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Cut off whose certificate is revoked or over now."""
        revoked, now = self._authority.revoked(), self._clock.now()
        self._broker.cut_off(lambda one: one.serial in revoked or one.ends_at <= now)

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_S):
            try:
                self.look()
            except Exception:  # boundary: the next look may succeed
                logger.exception("list of revoked devices not read")
