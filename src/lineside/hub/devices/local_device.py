"""The device on the hub's own machine: a child program that inspects the lines of nobody else.

1. It is enrolled like any other device, with the rights of its lines. Where the site has no
   certificate authority yet, one is made.
2. Its lines are those with a camera that no other enrolled device has; of two hubs' devices, the
   one that was enrolled first has them. When the plant file or the other devices change them, it is
   started again.
3. It starts with the hub where the settings say ``device_here``, or where somebody started it on
   the page, and ends with the hub.
"""

import logging
import re
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from lineside.core import (
    Clock,
    ConflictError,
    LinesideError,
    NotFoundError,
    Plant,
    RefusedError,
    UnavailableError,
    decode_toml,
    encode,
)
from lineside.core.files import replace_durably
from lineside.core.processes import SupervisedProgram, inherited_environment
from lineside.core.worker import Worker
from lineside.fleet import EnrolledDevice, NewInvitation
from lineside.hub.access.tls import REACHED_AT
from lineside.hub.children import ChildRunner, why_it_failed
from lineside.hub.config import HubConfig
from lineside.hub.devices.enrolment import HUB_HOST, Enrolment, IssuedInvitation
from lineside.hub.devices.registry import DeviceRegistry
from lineside.store import Documents

logger = logging.getLogger(__name__)

_KIND = "local-device"
_BY = "hub"
_ENROL_S = 120.0
_MOST_BYTES = 100_000
_LOOK_S = 2.0
_UNHEARD_S = 60.0
_MOST_LINES = 20
DeviceState = Literal["off", "starting", "running", "failing"]
_LINESIDE = (sys.executable, "-m", "lineside")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalDeviceState:
    """State of the device on the hub's own machine.

    Attributes:
        device: its name.
        state: ``off`` until somebody starts it; ``running`` when the hub has heard it on the bus.
        reason: why it does not run; "" where it does, or is off.
        lines: those that it inspects, or would.
        from_settings: whether the hub's settings start it.
    """

    device: str
    state: DeviceState
    reason: str
    lines: tuple[str, ...]
    from_settings: bool


class LocalDevice:
    """Safe from several threads; made with the hub, which calls ``begin`` when it answers."""

    def __init__(
        self, enrolment: Enrolment, *, devices: DeviceRegistry, config: HubConfig, plant: Plant,
        documents: Documents, hub: str, plant_text: Callable[[Collection[str]], str],
        make_ca: Callable[[], object], clock: Clock,
        command: Sequence[str] = _LINESIDE,
    ) -> None:  # fmt: skip
        """Start nothing yet.

        Args:
            enrolment: of the site.
            devices: that the site has heard.
            config: of the hub.
            plant: in force.
            documents: where it stands that somebody started it.
            hub: id of this hub among those of its site.
            plant_text: text of the plant file with the secrets of some lines.
            make_ca: makes the site's certificate authority where there is none.
            clock: of certificates.
            command: of the program ``lineside``.
        """
        self._enrolment = enrolment
        self._devices = devices
        self._config = config
        self._plant = plant
        self._documents = documents
        self._hub = hub
        self._plant_text = plant_text
        self._make_ca = make_ca
        self._clock = clock
        self._lineside = tuple(command)
        self._folder = config.folder / "device"
        self._url = ""
        self._turn = threading.Lock()
        self._wanted = self._may_return = self._is_closed = False
        self._began_at: datetime | None = None
        self._output: deque[str] = deque(maxlen=_MOST_LINES)
        self._cameras: tuple[str, ...] = ()
        self._issued: IssuedInvitation | None = None
        self._enrolling = ChildRunner(most_bytes=_MOST_BYTES, limit_s=_ENROL_S)
        self._program = SupervisedProgram(
            "local-device", command=self._command, environment=self._environment,
            hear=self._hear, began=self._note_start, clock=clock,
        )  # fmt: skip
        self._watch = Worker("local-device-watch", self.refresh, every_s=_LOOK_S)

    def begin(self, url: str) -> None:
        """Start it where it is wanted, now that the hub answers at ``url``.

        Another hub, or a command beside this one, may enrol and revoke devices, so the lines that
        are left are looked for again and again.
        """
        wanted = self._config.device_here or self._was_started()
        with self._turn:
            self._url = url
            self._set_going(wanted=wanted)
        self._watch.start()

    def start(self, *, by: str) -> LocalDeviceState:
        """Start it, now and with each start of the hub, until ``stop``.

        Raises:
            NotFoundError: no camera is left for it.
            RefusedError: the bus asks for a password, which no device has.
            UnavailableError: the hub starts, or stops.
        """
        self._check_bus()
        self._look_for_cameras()
        with self._turn:
            if self._is_closed or not self._url:
                raise UnavailableError(
                    f"the hub {'stops' if self._is_closed else 'starts'}", fix="Try again."
                )
            if not self._config.device_here:
                self._documents.put(_KIND, self._hub, body={"by": by})
            self._may_return = True
            if self._wanted:
                self._program.restart()
            self._set_going(wanted=True)
        return self.state()

    def _set_going(self, *, wanted: bool) -> None:
        """Start it where it is wanted and was not; the lock is held."""
        if wanted and not self._wanted:
            self._wanted = True
            self._program.start()

    def stop(self) -> LocalDeviceState:
        """End it, and start it no more.

        Raises:
            ConflictError: the hub's settings ask for it.
        """
        if self._config.device_here:
            raise ConflictError(
                "the hub's settings start the device on this machine", where="device_here",
                fix="Take device_here out of the settings, or --with-device away.",
            )  # fmt: skip
        self._documents.delete(_KIND, self._hub)
        with self._turn:
            self._wanted = False
            self._end()
        return self.state()

    def close(self) -> None:
        """End it with the hub."""
        self._watch.stop()
        with self._turn:
            self._is_closed = True
            self._end()

    def _end(self) -> None:
        self._enrolling.end()
        self._program.stop()

    def refresh(self) -> None:
        """Start it again where it has other cameras now, or was revoked."""
        if not self._wanted or not self._program.pid:
            return
        row = self._enrolment.inventory.find(self._name())
        if self._own_cameras() != self._cameras or (row is not None and not row.active):
            self._program.restart()

    def state(self) -> LocalDeviceState:
        """Return whether it runs, and why not."""
        heard, reason = self._presence()
        if not self._wanted:
            state: DeviceState = "off"
        else:
            state = "running" if heard else "failing" if reason else "starting"
        return LocalDeviceState(
            device=self._name(), state=state, reason=reason if state == "failing" else "",
            lines=self._lines(), from_settings=self._config.device_here,
        )  # fmt: skip

    def _presence(self) -> tuple[bool, str]:
        """Return whether it runs and the hub has heard it, and what to say if not."""
        if not self._program.pid:
            return False, str(self._program.failure or self._program.last_words)
        began_at = self._began_at or self._clock.now()
        found = self._devices.some((self._name(),))
        if any(one.state == "online" and one.at and one.at >= began_at for one in found):
            return True, ""
        is_late = (self._clock.now() - began_at).total_seconds() > _UNHEARD_S
        return False, f"it runs, and does not report on the bus {self._bus}" if is_late else ""

    # ---- the program

    def _command(self) -> list[str]:
        """Enrol it where it is not, give it its plant file, and return how it is called."""
        self._output.clear()
        self._program.last_words = ""
        name = self._name()
        row = self._enrolment.inventory.find(name)
        if row is not None and row.active and row.lines and not self._own_cameras():
            self._enrolment.set_lines(name, (), by=_BY)
        self._check_bus()
        self._look_for_cameras()
        self._cameras, lines = self._own_cameras(), self._lines()
        is_out = row is not None and not row.active and row.revoked_by != _BY
        if row is not None and is_out and not self._may_return:
            raise RefusedError(
                f"{name} was revoked: {row.reason}", where=name,
                fix="Start it again on the page Devices.",
            )  # fmt: skip
        is_over = row is not None and row.ends_at <= self._clock.now()
        if row is None or not row.active or is_over or not self._settings.exists():
            if row is not None and row.active:
                self._enrolment.revoke(name, by=_BY, reason="it is enrolled anew")
            self._enrol(name, lines)
        elif row.lines != lines:
            self._enrolment.set_lines(name, lines, by=_BY)
        self._may_return = False
        text = self._plant_text(lines)
        replace_durably(self._folder / "plant.toml", text.encode(), mode=0o600)
        return [*self._lineside, "edge", "--config", str(self._settings)]

    def _environment(self) -> Mapping[str, str]:
        """Return the settings that may have changed since it was enrolled."""
        told = {
            "HUB": self._url, "BUS": self._bus, "CAMERAS": encode(self._cameras).decode(),
            "PLANT_FOLDER": str(Path(self._config.plant).absolute().parent),
        }  # fmt: skip
        return {f"LINESIDE_EDGE__{key}": value for key, value in told.items()}

    @property
    def _bus(self) -> str:
        """Address of the bus; that of the hub's own broker may be another than its pages'."""
        host = urlsplit(self._url).hostname or ""
        if self._config.bus == "embedded":
            tls = self._config.bus_tls
            host = tls.rpartition(":")[0].strip("[]") if tls else self._config.bus_host
        host = REACHED_AT.get(host, host) or "127.0.0.1"
        return self._enrolment.bus_url.replace(HUB_HOST, f"[{host}]" if ":" in host else host)

    def _check_bus(self) -> None:
        config = self._config
        if config.bus == "embedded" and config.bus_password_file and not config.bus_tls:
            raise RefusedError(
                "the bus asks for a password, and a device comes in by certificate only",
                where="bus_tls", fix='Set bus_tls = "127.0.0.1:8883" among the hub\'s settings.',
            )  # fmt: skip

    def _enrol(self, name: str, lines: tuple[str, ...]) -> None:
        self._make_ca()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._settings.exists():
            before = self._settings.replace(self._settings.with_name("edge.toml.before"))
            logger.warning("device here is enrolled anew, its settings before are in %s", before)
        issued, now = self._issued, self._clock.now()
        if issued is None or issued.invitation.lines != lines or issued.invitation.ends_at <= now:
            with suppress(NotFoundError):
                self._enrolment.withdraw(name, by=_BY)
            issued = self._enrolment.invite(NewInvitation(device=name, lines=lines), by=_BY)
            self._issued = issued
        command = (*self._lineside, "device", "enrol", "--hub", self._url)
        self._enrolling.run(
            [*command, "--data-dir", str(self._folder)], folder=self._folder,
            environment={**inherited_environment(), "LINESIDE_ENROLMENT_CODE": issued.code},
        )  # fmt: skip
        self._issued = None

    def _note_start(self, _: int) -> None:
        self._began_at = self._clock.now()

    def _hear(self, line: str) -> None:
        self._output.append(line)
        self._program.last_words = why_it_failed(self._output, code=1)
        logger.debug("local device: %s", line)

    # ---- what it inspects

    @property
    def _settings(self) -> Path:
        return self._folder / "edge.toml"

    def _name(self) -> str:
        """As it was enrolled; before, by this machine and hub: a machine may have several hubs."""
        with suppress(OSError, LinesideError, KeyError):
            return str(decode_toml(self._settings.read_bytes(), where="edge.toml")["device"])
        return re.sub("[^A-Za-z0-9_-]", "-", f"hub-{socket.gethostname()[:48]}-{self._hub[-6:]}")

    def _lines(self) -> tuple[str, ...]:
        rows = [row for row in self._enrolment.inventory.all() if row.active]
        name = self._name()
        own = next((_rank(row) for row in rows if row.device == name), None)
        taken = {
            line for row in rows for line in row.lines
            if row.device != name and (row.enrolled_by != _BY or own is None or _rank(row) < own)
        }  # fmt: skip
        return tuple(dict.fromkeys(c.line for c in self._plant.camera if c.line not in taken))

    def _own_cameras(self) -> tuple[str, ...]:
        lines = self._lines()
        return tuple(one.id for one in self._plant.camera if one.line in lines)

    def _look_for_cameras(self) -> None:
        if not self._own_cameras():
            raise NotFoundError(
                "no camera is left for the device on this machine", where="plant file",
                fix="Add a camera, or revoke the device that has its line.",
            )  # fmt: skip

    def _was_started(self) -> bool:
        try:
            self._documents.get(_KIND, self._hub)
        except NotFoundError:
            return False
        return True


def _rank(row: EnrolledDevice) -> tuple[datetime, str]:
    """Return its rank: of two hubs' devices, the lower one keeps a line."""
    return row.enrolled_at, row.device
