"""The hub's own broker: which program it is, its listener for devices, and who has to go.

1. ``bus_broker = "auto"`` takes a mosquitto of this machine, and amqtt where there is none or where
   the password file was written for amqtt alone.
2. Others come in when the hub has subscribed to all it takes, so that nothing is acknowledged that
   nobody keeps. mosquitto has to be started again for that, so the hub's sessions are begun, and
   left again, before the hub joins it.
3. Clients of AWS IoT Jobs that ask without subscribing get an amqtt of their own, which takes
   their jobs' topics alone, whatever the bus is.
4. A certificate is looked at when a device connects. What is revoked, or over, afterwards ends its
   connection within a second or two: the list is read again and again, because a command beside
   the hub may have written it.
"""

import logging
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from lineside.core import Clock, InvalidError, Plant, UnavailableError, load_plant
from lineside.core.files import replace_durably
from lineside.core.worker import Worker
from lineside.fleet import CertificateAuthority
from lineside.hub.access.tls import device_server_files
from lineside.hub.config import HubConfig
from lineside.hub.devices.enrolment import HUB_HOST, Enrolment
from lineside.hub.devices.registry import open_inventory
from lineside.hub.eventlog.topics import DeadLetterError, Reason
from lineside.hub.learning.job_service import BRIDGED, JobBridge
from lineside.hub.learning.job_service import TOPICS as JOB_TOPICS
from lineside.hub.readers import begin_sessions, bus_sessions
from lineside.hub.services import Services
from lineside.links import (
    AuthenticatedDevice,
    BrokerLimits,
    Bus,
    DeviceListener,
    EmbeddedBroker,
    device_access,
)
from lineside.links.broker_contract import AuthenticateDevice, OversizedPacket
from lineside.links.bus_access import (
    TopicAccess,
    access_list,
    is_identity,
    job_access,
    mosquitto_reads,
)
from lineside.links.mosquitto import (
    MosquittoBroker,
    MosquittoFiles,
    MosquittoListener,
    find_mosquitto,
    mosquitto_config,
    owner_of,
)

logger = logging.getLogger(__name__)

SiteBroker = EmbeddedBroker | MosquittoBroker

_Access = Callable[[str, tuple[str, ...]], TopicAccess]
"""From a device and its lines: what it may publish and hear."""

_LOOK_S = 1.0
_CERTIFICATES_S = 60.0
_LIST_FILE = "crl.pem"
_MOST_JOB_PACKET_BYTES = 1_000_000  # an answer that lists a thousand jobs fits
# For one absent client of mosquitto: ten minutes of pictures of 100 kB, three each second.
_MOSQUITTO_LIMITS = BrokerLimits(outbox_bytes=200_000_000, in_flight=256, session_s=14 * 24 * 3600)


# ---- the broker of a running hub


def open_broker(services: Services, *, stack: ExitStack) -> SiteBroker:
    """Start the broker that the settings name; it ends with the stack.

    Args:
        services: of the hub, which subscribes to ``bus_sessions`` before ``admit_clients``.
        stack: closes what is opened.

    Raises:
        UnavailableError: the address is in use, or there is no mosquitto where one is demanded.
        NotFoundError: devices are to come in by certificate, and there is no authority yet.
    """
    config = services.config
    program = broker_program(config, found=find_mosquitto())
    passwords = Path(config.bus_password_file) if config.bus_password_file else None
    listener = _device_listener(
        services, config.bus_tls,
        access=lambda name, lines: device_access(services.plant, device=name, lines=lines),
    )  # fmt: skip
    noted = partial(_note_oversized, services)
    broker: SiteBroker
    if program is None:
        broker = EmbeddedBroker(
            host=config.bus_host, port=config.bus_port, password_file=passwords, devices=listener,
            limits=BrokerLimits(connections=config.bus_connections), answered=JOB_TOPICS,
            topics=[*chain(*bus_sessions(services).values())], oversized=noted,
        )  # fmt: skip
    else:
        broker = MosquittoBroker(
            program, folder=config.folder / "bus", host=config.bus_host, port=config.bus_port,
            password_file=passwords, devices=listener, oversized=noted,
            topics=[*chain(*bus_sessions(services).values())],
            limits=replace(_MOSQUITTO_LIMITS, connections=config.bus_connections),
        )  # fmt: skip
    stack.enter_context(broker)
    # Once the hub has joined, a restart of mosquitto to let others in would throw it out again.
    is_new = isinstance(broker, MosquittoBroker) and not broker.admits
    if is_new and begin_sessions(broker.own_url, services=services):
        broker.admit_clients()
    _watch_devices(broker, services, stack=stack)
    stats = services.stats
    stats.watch("broker_waiting_bytes", lambda: broker.figures().waiting_bytes)
    stats.watch("broker_clients", lambda: broker.figures().clients)
    stats.watch("broker_dropped", lambda: broker.figures().dropped)
    stats.watch("broker_packets_oversized", lambda: broker.figures().oversized)
    return broker


def open_job_listener(services: Services, bus: Bus, *, stack: ExitStack) -> EmbeddedBroker | None:
    """Start the listener for clients of AWS IoT Jobs that the settings name; None without one.

    Args:
        services: of the hub.
        bus: of the site, where the job service answers.
        stack: closes what is opened.

    Raises:
        UnavailableError: the address is in use.
        NotFoundError: there is no authority that could sign devices' certificates.
    """
    limits = BrokerLimits(
        connections=services.config.bus_connections, packet_bytes=_MOST_JOB_PACKET_BYTES
    )
    listener = _device_listener(
        services, services.config.iot_jobs_tls, access=lambda name, _: job_access(name)
    )
    if listener is None:
        return None
    broker = EmbeddedBroker(
        devices=listener, limits=limits, answered=JOB_TOPICS, topics=BRIDGED,
        certificates_only=True, oversized=partial(_note_oversized, services),
    )  # fmt: skip
    stack.enter_context(broker)
    bridge = JobBridge(bus, listener_url=broker.own_url, clock=services.clock)
    stack.callback(bridge.stop)
    bridge.start()
    _watch_certificates(
        "job-client-watch", _cut_off(services, broker), enrolment=services.enrolment, stack=stack
    )
    broker.admit_clients()
    logger.info("listener for AWS IoT Jobs started port=%d", broker.device_port)
    return broker


def broker_program(config: HubConfig, *, found: str | None) -> str | None:
    """Return the path of the mosquitto to start; None for amqtt.

    Args:
        config: the settings.
        found: where a mosquitto is; None: nowhere.

    Raises:
        UnavailableError: the settings demand a mosquitto, and there is none.
        InvalidError: they do, and it cannot read the password file.
    """
    file, demanded = config.bus_password_file, config.bus_broker == "mosquitto"
    if config.bus_broker == "amqtt":
        return None
    if found is None and demanded:
        raise UnavailableError(
            "no mosquitto of version 2 or newer on this machine", where="bus_broker",
            fix='Install mosquitto, or write bus_broker = "amqtt".',
        )  # fmt: skip
    if found is None or not file or mosquitto_reads(Path(file)):
        return found
    sentence = "mosquitto cannot check passwords that are hashed by argon2"
    fix = "Write each line anew: lineside hub bus-password NAME."
    if demanded:
        raise InvalidError(sentence, where=file, fix=fix)
    logger.warning("broker is amqtt: %s file=%s fix=%s", sentence, file, fix)
    return None


def _note_oversized(services: Services, packet: OversizedPacket) -> None:
    """One dead letter without bytes, so that somebody learns of it."""
    refusal = DeadLetterError(Reason.TOO_LARGE, str(packet))
    services.failures.refuse(refusal, b"", topic=packet.topic or f"client {packet.client_id}")


# ---- devices


def _device_listener(services: Services, address: str, *, access: _Access) -> DeviceListener | None:
    """Return where devices with certificates connect; None for the address ""."""
    config, enrolment = services.config, services.enrolment
    if not address:
        return None
    files = device_server_files(config, clock=services.clock)
    authority = enrolment.certificate_authority()
    authority.crl()
    host, _, port = address.rpartition(":")
    return DeviceListener(
        host=host.strip("[]"),
        port=int(port),
        certificate=files.certificate,
        key=files.key,
        ca_file=config.ca_folder / "authority.crt",
        admit=_authenticator(enrolment, ca=authority, access=access),
        revoked=config.ca_folder / _LIST_FILE,
        access_list=lambda: access_list(services.plant, devices=_lines(enrolment)),
    )


def _authenticator(
    enrolment: Enrolment, *, ca: CertificateAuthority, access: _Access
) -> AuthenticateDevice:
    def admit(certificate: bytes) -> AuthenticatedDevice:
        told, row = enrolment.authenticate(certificate, ca=ca)
        return AuthenticatedDevice(
            identity=told.device, serial=told.serial, ends_at=told.ends_at,
            access=access(told.device, row.lines) if is_identity(told.device) else TopicAccess(),
        )  # fmt: skip

    return admit


def _lines(enrolment: Enrolment) -> dict[str, tuple[str, ...]]:
    return {one.device: one.lines for one in enrolment.inventory.all() if one.active}


def _watch_devices(broker: SiteBroker, services: Services, *, stack: ExitStack) -> None:
    """Tell devices where the bus is, and end connections of those that are out."""
    enrolment = services.enrolment
    if not broker.device_port:
        enrolment.bus_url = enrolment.bus_url or f"mqtt://{HUB_HOST}:{broker.port}"
        return
    enrolment.bus_url = enrolment.bus_url or f"mqtts://{HUB_HOST}:{broker.device_port}"
    if isinstance(broker, MosquittoBroker):
        lists = MosquittoLists(
            broker, enrolment=enrolment, plant=services.plant, clock=services.clock
        )
        check = lists.check
    else:
        check = _cut_off(services, broker)
    _watch_certificates("device-watch", check, enrolment=enrolment, stack=stack)


def _watch_certificates(
    name: str, check: Callable[[], None], *, enrolment: Enrolment, stack: ExitStack
) -> None:
    """Check now and then, and after each enrolment and revocation."""
    watch = Worker(name, check, every_s=_LOOK_S, delay_s=_LOOK_S)
    enrolment.revoked.append(lambda _: check())
    enrolment.enrolled.append(lambda _: check())
    watch.start()
    stack.callback(watch.stop)


def _cut_off(services: Services, broker: EmbeddedBroker) -> Callable[[], None]:
    """Return a function that ends connections of devices whose certificate holds no longer."""
    authority, clock = services.enrolment.certificate_authority(), services.clock

    def check() -> None:
        revoked, now = authority.revoked(), clock.now()
        broker.cut_off(lambda one: one.serial in revoked or one.ends_at <= now)

    return check


class MosquittoLists:
    """Revocation list and access list of a supervised mosquitto, kept as the site stands."""

    def __init__(
        self, broker: MosquittoBroker, *, enrolment: Enrolment, plant: Plant, clock: Clock
    ) -> None:
        self._broker = broker
        self._enrolment = enrolment
        self._plant = plant
        self._clock = clock
        self._lock = threading.Lock()
        self._lists = self._read()
        self._over = set(self._certificates_over())
        self._read_s = clock.monotonic()

    def check(self) -> None:
        """Hand changed lists over, and end connections whose certificate holds no longer."""
        with self._lock:
            lists, now_s = self._read(), self._clock.monotonic()
            changed = lists != self._lists
            if changed:
                self._lists = lists
                self._broker.reload()
            if changed or now_s - self._read_s > _CERTIFICATES_S:
                self._read_s = now_s
                over = self._certificates_over()
                self._broker.end_sessions({over[serial] for serial in set(over) - self._over})
                self._over = set(over)

    def _read(self) -> tuple[bytes, str]:
        lines = _lines(self._enrolment)
        return self._enrolment.certificate_authority().crl(), access_list(
            self._plant, devices=lines
        )

    def _certificates_over(self) -> dict[str, str]:
        """Serial and device of each certificate that was revoked or has run out."""
        now = self._clock.now()
        issued = self._enrolment.certificate_authority().issued()
        return {one.serial: one.device for one in issued if one.revoked or one.ends_at <= now}


# ---- files for a mosquitto that somebody else starts


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFiles:
    """Files that were written, and the number of devices in them."""

    config: Path
    access: Path
    devices: int


def mosquitto_files(config: HubConfig, *, to: Path, port: int, clock: Clock) -> BrokerFiles:
    """Write ``mosquitto.conf`` and ``access.list``; the same again for the same site.

    Raises:
        NotFoundError: there is no authority yet.
    """
    server = device_server_files(config, clock=clock)
    with open_inventory(config, clock=clock) as inventory:
        inventory.enrolment.certificate_authority().crl()
        lines = _lines(inventory.enrolment)
    folder, user = to.absolute(), owner_of(config.ca_folder)
    files = MosquittoFiles(
        ca_file=config.ca_folder / "authority.crt", certificate=server.certificate,
        key=server.key, revoked=config.ca_folder / _LIST_FILE,
        access=folder / "access.list",
    )  # fmt: skip
    listeners = (
        MosquittoListener(host="", port=port, devices=files),
        MosquittoListener(host="127.0.0.1", port=1883),
    )
    text = mosquitto_config(listeners, folder=folder, user=user, limits=_MOSQUITTO_LIMITS)
    folder.mkdir(parents=True, exist_ok=True)
    replace_durably(
        files.access, access_list(load_plant(Path(config.plant)), devices=lines).encode()
    )
    replace_durably(folder / "mosquitto.conf", text.encode())
    if os.geteuid() == 0:  # the broker gives up its rights, and saves here
        for path in (folder, files.access, folder / "mosquitto.conf"):
            shutil.chown(path, user)
    return BrokerFiles(config=folder / "mosquitto.conf", access=files.access, devices=len(lines))
