"""mosquitto as a site's broker: its configuration, and the program under supervision.

1. One generator makes the configuration, for the hub's own mosquitto and for one that somebody
   else starts (mosquitto.conf(5)). Every listener has settings of its own.
2. ``user`` names the owner of the files: started as root, mosquitto can still read them after it
   has given up its rights.
3. On the devices' listener the certificate's name is user name and client id: nobody can throw out
   another device by its id, and a device has one connection.
4. ``max_packet_size`` and not ``message_size_limit``: the second acknowledges a message and drops
   it. A client of MQTT 5 learns the limit when it connects; an older one is disconnected.
5. What is under way is bounded by bytes, not by count: of the QoS 2 messages that a sender has
   under way beyond the count, mosquitto 2.0.11 acknowledges all and drops some; and after a cut a
   client sends at once all that waits in it (found by ``tests/faults``).
6. ``set_tcp_nodelay``: with TLS a small message waits 40 ms otherwise (measured).
7. Everything is saved every two seconds and at a regular end, so the loss of the program alone
   costs at most what it acknowledged since and nobody has taken over yet.
8. A supervised program ends with this one, also when this one is killed. One that is left over all
   the same is ended before the next start; one that dies is started again.
"""

import contextlib
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from lineside.core import InvalidError, LinesideError
from lineside.core.files import replace_durably
from lineside.core.processes import SupervisedProgram
from lineside.links.broker_contract import (
    NO_FIGURES,
    OWN_NAME,
    Broker,
    BrokerFigures,
    BrokerLimits,
    BrokerOptions,
    OversizedPacket,
)
from lineside.links.bus_access import hash_bus_password
from lineside.links.contract import Bus, Mailbox
from lineside.links.opening import open_bus

logger = logging.getLogger(__name__)

_START_S = 30.0
_END_S = 10.0
_PROGRAM = "mosquitto"
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_RUNS = re.compile(r"mosquitto version \S+ running")
_OVERSIZED = re.compile(r"Client (.*) disconnected due to oversize packet\.")
_VERSION = re.compile(r"mosquitto version (\d+)\.")
_FIGURES = {
    "$SYS/broker/clients/connected": "clients",
    "$SYS/broker/clients/total": "sessions",
    "$SYS/broker/retained messages/count": "retained",
    "$SYS/broker/store/messages/count": "waiting_messages",
    "$SYS/broker/store/messages/bytes": "waiting_bytes",
    "$SYS/broker/publish/messages/received": "received",
    "$SYS/broker/publish/messages/sent": "delivered",
    "$SYS/broker/publish/messages/dropped": "dropped",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MosquittoFiles:
    """Files of the devices' listener; absolute paths.

    Attributes:
        ca_file: certificate that devices' certificates are checked against.
        certificate, key: of the broker.
        revoked: the revocation list.
        access: the access list.
    """

    ca_file: Path
    certificate: Path
    key: Path
    revoked: Path
    access: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class MosquittoListener:
    """One address that mosquitto listens on.

    Attributes:
        host: address; "" for all of this machine.
        passwords: file of who may come in; None: everybody, or devices by certificate.
        devices: files of mutual TLS; None: without encryption.
    """

    host: str
    port: int
    passwords: Path | None = None
    devices: MosquittoFiles | None = None


def find_mosquitto() -> str | None:
    """Return the path of a mosquitto of version 2 or newer; None where there is none."""
    found = shutil.which(_PROGRAM) or shutil.which(_PROGRAM, path=_SBIN)
    if found is None:
        return None
    try:
        told = subprocess.run([found, "-h"], capture_output=True, timeout=_START_S, check=False)  # noqa: S603  found above
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = _VERSION.search((told.stdout + told.stderr).decode(errors="replace"))
    return found if version is not None and int(version[1]) >= 2 else None


def mosquitto_config(
    listeners: Sequence[MosquittoListener], *, folder: Path, user: str, limits: BrokerLimits
) -> str:
    """Return the text of ``mosquitto.conf``.

    Args:
        listeners: where it listens.
        folder: of its saved sessions and messages.
        user: owner of all files that are named.
        limits: what clients may cost.

    Raises:
        InvalidError: a path with a line break.
    """
    parts = [
        f"""\
# Written by lineside; written anew, it is the same for the same site.
per_listener_settings true
user {user}
set_tcp_nodelay true
persistence true
persistence_location {_checked(folder)}/
autosave_interval 1
sys_interval 5
persistent_client_expiration {max(1, limits.session_s // 3600)}h
max_packet_size {limits.packet_bytes}
max_inflight_messages 0
max_inflight_bytes {limits.outbox_bytes}
max_queued_messages {limits.outbox_messages}
max_queued_bytes {limits.outbox_bytes}
log_dest stderr
log_timestamp false
"""
    ]
    parts += [_listener(one, connections=limits.connections) for one in listeners]
    return "\n".join(parts)


def _listener(one: MosquittoListener, *, connections: int) -> str:
    rows = [f"listener {one.port} {one.host}".rstrip(), f"max_connections {connections}"]
    if one.devices is not None:
        files = one.devices
        rows += [
            "allow_anonymous false",
            "require_certificate true",
            "use_identity_as_username true",
            "use_username_as_clientid true",
            f"cafile {_checked(files.ca_file)}",
            f"certfile {_checked(files.certificate)}",
            f"keyfile {_checked(files.key)}",
            f"crlfile {_checked(files.revoked)}",
            f"acl_file {_checked(files.access)}",
            "tls_version tlsv1.2",
        ]
    elif one.passwords is not None:
        rows += ["allow_anonymous false", f"password_file {_checked(one.passwords)}"]
    else:
        rows += ["allow_anonymous true"]
    return "\n".join(rows) + "\n"


def _checked(path: Path) -> Path:
    if "\n" in str(path) or "\r" in str(path):
        raise InvalidError("a line break", where=repr(str(path)), fix="Name another folder.")
    return path


# ---- the program


class MosquittoBroker(Broker):
    """A mosquitto that this process starts and supervises; ``with`` starts and ends it.

    Attributes:
        admits: whether others may come in.
    """

    def __init__(self, program: str, *, folder: Path, **options: Unpack[BrokerOptions]) -> None:
        """Take the settings.

        Args:
            program: path of mosquitto.
            folder: of its configuration and of what it saves.
            options: as of every broker.
        """
        super().__init__(**options)
        self._program = program
        self._folder = folder
        self._own_port = 0
        self.admits = False
        command = [program, "-c", str(folder / "mosquitto.conf")]
        self._process = SupervisedProgram(
            "broker", command=lambda: command, hear=self._hear, clock=self._clock,
            began=self._note_process, ended=self._note_end,
        )  # fmt: skip
        self._is_started = False
        self._changed = threading.Condition()
        self._runs = False
        self._failed = False
        self._packets_oversized = 0
        self._watch: tuple[Bus, Mailbox] | None = None
        self._figures = NO_FIGURES

    @property
    def own_url(self) -> str:
        """This process's own address, with a password that only it knows; never shown."""
        return f"mqtt://{OWN_NAME}:{self._own_password}@127.0.0.1:{self._own_port}"

    def start(self) -> None:
        """Begin; returns when clients can connect.

        Raises:
            UnavailableError: the address is in use, or the program does not run.
        """
        if self._is_started:
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._end_left_over()
        self.port = self.port or _free_port(self._host)
        if self._devices is not None:
            self.device_port = (
                self.device_port or self._devices.port or _free_port(self._devices.host)
            )
        self._own_port = self._saved_port()
        self.admits = not self._topics or self._subscribed()
        self._write_files()
        self._begin()
        logger.info("broker started bus=%s program=%s", self.url, self._program)

    def admit_clients(self) -> None:
        """Let others in, now that ``topics`` are subscribed to.

        Where an earlier run subscribed to the same, they came in at the start: the session that
        mosquitto kept has taken their messages since.
        """
        if not self.admits:
            self._end()
            self.admits = True
            self._write_files()
            self._begin()
        (self._folder / "topics").write_text(self._topic_list())

    def reload(self) -> None:
        """Read the lists of devices and passwords again."""
        if self._devices is not None:
            self._put("access.list", self._devices.access_list())
        self._process.send(signal.SIGHUP)

    def end_sessions(self, client_ids: Iterable[str]) -> None:
        """End the connections of these clients; what waits for them is forgotten.

        A second connection of the same id ends the first (MQTT 3.1.1, 3.1.4-2).
        """
        for client_id in client_ids:
            with contextlib.suppress(LinesideError):
                open_bus(self.own_url, client_id=client_id, clock=self._clock).close()

    def stop(self) -> None:
        """End the program; what it holds is saved."""
        if not self._is_started:
            return
        if self._watch is not None:
            self._watch[0].close()
            self._watch = None
        self._end()

    def figures(self) -> BrokerFigures:
        """Return the broker's contents and counters, as it publishes them every five seconds."""
        if not self._is_started:
            return NO_FIGURES
        if self._watch is None:
            bus = open_bus(self.own_url, client_id=f"{OWN_NAME}-figures", clock=self._clock)
            self._watch = bus, bus.subscribe(tuple(_FIGURES), qos=0, name="figures")
        counted: dict[str, int] = {}
        for message in self._watch[1].get_many(most=1000, timeout_s=0):
            with contextlib.suppress(ValueError):
                counted[_FIGURES[message.topic]] = int(message.payload)
        self._figures = replace(self._figures, **counted, oversized=self._packets_oversized)
        return self._figures

    # files

    def _write_files(self) -> None:
        own = f"{OWN_NAME}:{hash_bus_password(self._own_password, iterations=1)}\n"
        listeners = [
            MosquittoListener(
                host="127.0.0.1", port=self._own_port, passwords=self._put("own", own)
            )
        ]
        if self.admits:
            passwords = self._password_file.absolute() if self._password_file else None
            listeners.append(
                MosquittoListener(host=self._host, port=self.port, passwords=passwords)
            )
        listener = self._devices
        if self.admits and listener is not None:
            files = MosquittoFiles(
                ca_file=listener.ca_file, certificate=listener.certificate, key=listener.key,
                revoked=listener.revoked, access=self._put("access.list", listener.access_list()),
            )  # fmt: skip
            listeners.append(
                MosquittoListener(host=listener.host, port=self.device_port, devices=files)
            )
        text = mosquitto_config(
            listeners, folder=self._folder, user=owner_of(self._folder), limits=self._limits
        )
        self._put("mosquitto.conf", text)

    def _put(self, name: str, text: str) -> Path:
        path = self._folder / name
        replace_durably(path, text.encode(), mode=0o600)
        return path

    def _saved_port(self) -> int:
        """The port of the listener for this process.

        mosquitto finds the rights of a session that it saved by the port it came in at.
        """
        path = self._folder / "own.port"
        with contextlib.suppress(OSError, ValueError):
            kept = int(path.read_text())
            if _is_free("127.0.0.1", kept):
                return kept
        port = _free_port("127.0.0.1")
        path.write_text(str(port))
        return port

    def _subscribed(self) -> bool:
        """Return whether the session that mosquitto saved has all subscriptions."""
        told = self._folder / "topics"
        saved = (self._folder / "mosquitto.db").exists()
        return saved and told.exists() and told.read_text() == self._topic_list()

    def _topic_list(self) -> str:
        return "\n".join([str(self._own_port), *self._topics])

    # the process

    def _begin(self) -> None:
        self._runs = self._failed = False
        self._is_started = True
        self._process.start()
        with self._changed:
            self._changed.wait_for(lambda: self._runs or self._failed, timeout=_START_S)
            if self._runs:
                return
        self.stop()
        raise self._not_started(self._process.last_words)

    def _end(self) -> None:
        """End the program and the thread; the saved session goes on with the next."""
        self._is_started = False
        self._process.stop()

    def _note_process(self, number: int) -> None:
        (self._folder / "mosquitto.pid").write_text(str(number))

    def _note_end(self, _code: int) -> bool:
        """Return whether it is not to be started again, because it never ran."""
        with self._changed:
            self._failed = not self._runs
            self._changed.notify_all()
        return self._failed

    def _hear(self, line: str) -> None:
        """One line of mosquitto's log: its faults are ours, at most once a minute each."""
        if _RUNS.fullmatch(line):
            with self._changed:
                self._runs = True
                self._changed.notify_all()
        oversized = _OVERSIZED.fullmatch(line)
        if oversized is not None:
            self._packets_oversized += 1
            self._note_oversized(
                OversizedPacket(client_id=oversized[1], limit_bytes=self._limits.packet_bytes)
            )
        elif line.startswith("Error"):
            self._process.last_words = line
            self._say(logging.ERROR, line)
        elif line.startswith("Warning") and "run as root" not in line:
            self._say(logging.WARNING, line)
        else:
            logger.debug("mosquitto: %s", line)

    def _say(self, level: int, line: str) -> None:
        if self._log_limit.allows(line):
            logger.log(level, "mosquitto: %.500s", line)

    def _end_left_over(self) -> None:
        """End a program of an earlier run of this process that still uses the folder."""
        with contextlib.suppress(OSError, ValueError):
            number = int((self._folder / "mosquitto.pid").read_text())
            command = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
            if str(self._folder / "mosquitto.conf").encode() not in command:
                return
            logger.warning("broker of an earlier run is ended pid=%d", number)
            handle = os.pidfd_open(number)
            try:
                _end_left(handle)
            finally:
                os.close(handle)


def owner_of(folder: Path) -> str:
    """Return the name of who owns a folder, or its number where it has none."""
    try:
        return folder.owner()
    except KeyError:
        return str(folder.stat().st_uid)


def _end_left(handle: int) -> None:
    import select

    for sent in (signal.SIGTERM, signal.SIGKILL):
        signal.pidfd_send_signal(handle, sent)
        if select.select([handle], [], [], _END_S)[0]:
            return


def _free_port(host: str) -> int:
    with _bound(host, 0) as probe:
        number: int = probe.getsockname()[1]
        return number


def _is_free(host: str, port: int) -> bool:
    try:
        _bound(host, port).close()
    except OSError:
        return False
    return True


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    probe = socket.socket(family, socket.SOCK_STREAM)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((host, port))
    except OSError:
        probe.close()
        raise
    return probe
