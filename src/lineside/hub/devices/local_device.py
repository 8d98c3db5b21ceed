"""The device on the hub's own machine: a child program that inspects the lines of nobody else.

1. It is enrolled like any other device, with the rights of its lines. Where the site has no
   certificate authority yet, one is made.
2. Its lines are those with a camera that no other enrolled device has. When the plant file or the
   other devices change them, it is started again.
3. It starts with the hub where the settings say ``device_here``, or where somebody started it on
   the page, and ends with the hub.
"""

import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lineside.core import (
    Clock,
    ConflictError,
    LinesideError,
    NotFoundError,
    Plant,
    RefusedError,
    decode_toml,
    encode,
)
from lineside.core.files import replace_durably
from lineside.core.processes import SupervisedProgram
from lineside.core.worker import Worker
from lineside.fleet import NewInvitation
from lineside.hub.children import ChildRunner
from lineside.hub.config import HubConfig
from lineside.hub.devices.enrolment import HUB_HOST, Enrolment, IssuedInvitation
from lineside.store import Documents

logger = logging.getLogger(__name__)

_KIND = "local-device"
_BY = "hub"
_ENROL_S = 120.0
_MOST_BYTES = 100_000
_LOOK_S = 2.0
DeviceState = Literal["off", "starting", "running", "failing"]
_LINESIDE = (sys.executable, "-m", "lineside")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalDeviceState:
    """State of the device on the hub's own machine.

    Attributes:
        device: its name.
        state: ``off`` until somebody starts it.
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
        self, enrolment: Enrolment, *, config: HubConfig, plant: Plant, documents: Documents,
        hub: str, plant_text: Callable[[Collection[str]], str],
        make_ca: Callable[[], object], clock: Clock,
        command: Sequence[str] = _LINESIDE,
    ) -> None:  # fmt: skip
        """Start nothing yet.

        Args:
            enrolment: of the site.
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
        self._wanted = self._may_return = False
        self._cameras: tuple[str, ...] = ()
        self._issued: IssuedInvitation | None = None
        self._enrolling = ChildRunner(most_bytes=_MOST_BYTES, limit_s=_ENROL_S)
        self._program = SupervisedProgram(
            "local-device", command=self._command, environment=self._environment,
            hear=self._hear, clock=clock,
        )  # fmt: skip
        self._watch = Worker("local-device-watch", self.refresh, every_s=_LOOK_S)

    def begin(self, url: str) -> None:
        """Start it where it is wanted, now that the hub answers at ``url``.

        Another hub, or a command beside this one, may enrol and revoke devices, so the lines that
        are left are looked for again and again.
        """
        self._url = url
        self._wanted = self._config.device_here or self._was_started()
        if self._wanted:
            self._program.start()
        self._watch.start()

    def start(self, *, by: str) -> LocalDeviceState:
        """Start it, now and with each start of the hub, until ``stop``.

        Raises:
            NotFoundError: no camera is left for it.
        """
        self._look_for_cameras()
        self._documents.put(_KIND, self._hub, body={"by": by})
        with self._turn:
            self._may_return = True
            if not self._wanted:
                self._wanted = True
                self._program.start()
            else:
                self._program.restart()
        return self.state()

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
        runs, failure = self._program.pid > 0, self._program.failure
        reason = str(failure) if failure else "" if runs else self._program.last_words
        if not self._wanted:
            state: DeviceState = "off"
        else:
            state = "running" if runs else "failing" if reason else "starting"
        return LocalDeviceState(
            device=self._name(), state=state, reason=reason if state == "failing" else "",
            lines=self._lines(), from_settings=self._config.device_here,
        )  # fmt: skip

    # ---- the program

    def _command(self) -> list[str]:
        """Enrol it where it is not, give it its plant file, and return how it is called."""
        self._program.last_words = ""
        self._look_for_cameras()
        self._cameras, lines, name = self._own_cameras(), self._lines(), self._name()
        row = self._enrolment.inventory.find(name)
        if row is not None and not row.active and not self._may_return:
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
        bus = self._enrolment.bus_url.replace(HUB_HOST, self._url.split("/")[2].rpartition(":")[0])
        told = {
            "HUB": self._url, "BUS": bus, "CAMERAS": encode(self._cameras).decode(),
            "PLANT_FOLDER": str(Path(self._config.plant).absolute().parent),
        }  # fmt: skip
        return {f"LINESIDE_EDGE__{key}": value for key, value in told.items()}

    def _enrol(self, name: str, lines: tuple[str, ...]) -> None:
        self._make_ca()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._settings.unlink(missing_ok=True)
        issued, now = self._issued, self._clock.now()
        if issued is None or issued.invitation.lines != lines or issued.invitation.ends_at <= now:
            with suppress(NotFoundError):
                self._enrolment.withdraw(name, by=_BY)
            issued = self._enrolment.invite(NewInvitation(device=name, lines=lines), by=_BY)
            self._issued = issued
        command = (*self._lineside, "device", "enrol", "--hub", self._url)
        self._enrolling.run(
            [*command, "--data-dir", str(self._folder)], folder=self._folder,
            environment={**os.environ, "LINESIDE_ENROLMENT_CODE": issued.code},  # noqa: TID251  as of every child
        )  # fmt: skip
        self._issued = None

    def _hear(self, line: str) -> None:
        self._program.last_words = line
        logger.debug("local device: %s", line)

    # ---- what it inspects

    @property
    def _settings(self) -> Path:
        return self._folder / "edge.toml"

    def _name(self) -> str:
        """As it was enrolled; before, by the name of this machine."""
        with suppress(OSError, LinesideError, KeyError):
            return str(decode_toml(self._settings.read_bytes(), where="edge.toml")["device"])
        return re.sub("[^A-Za-z0-9_-]", "-", f"hub-{socket.gethostname()}")[:64]

    def _lines(self) -> tuple[str, ...]:
        name, rows = self._name(), self._enrolment.inventory.all()
        taken = {line for row in rows if row.active and row.device != name for line in row.lines}
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
