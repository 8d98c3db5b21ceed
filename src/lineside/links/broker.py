"""The embedded broker in this process, on a thread of its own with its own event loop.

For machines without mosquitto, demonstrations and small sites. Without a password file it serves
loopback addresses only; devices elsewhere come in by a listener of their own, with certificates
(``DeviceListener``). Retained messages and sessions live in memory: after a restart, who needs a
retained message says it again, and who was not answered sends again.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Unpack

from lineside.core import need
from lineside.core.worker import Worker
from lineside.links.broker_contract import (
    NO_FIGURES,
    OWN_NAME,
    AuthenticatedDevice,
    Broker,
    BrokerFigures,
    BrokerOptions,
)
from lineside.links.bus_access import read_bus_passwords

if TYPE_CHECKING:
    from lineside.links.amqtt_broker import AmqttBroker

logger = logging.getLogger(__name__)


class EmbeddedBroker(Broker):
    """An MQTT 3.1.1 broker in this process; ``with`` starts and stops it."""

    def __init__(
        self,
        *,
        answered: tuple[str, ...] = (),
        certificates_only: bool = False,
        **options: Unpack[BrokerOptions],
    ) -> None:
        """Take the settings.

        Args:
            answered: below these topics who asked hears the answer without subscribing.
            certificates_only: without a certificate nobody but this process comes in.
            options: as of every broker.
        """
        super().__init__(**options)
        self._answered = answered
        self._certificates_only = certificates_only
        self._worker: Worker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._broker: AmqttBroker | None = None
        self._started = threading.Event()
        self._failure: Exception | None = None

    @property
    def own_url(self) -> str:
        """This process's own address, with a password that only it knows; never shown."""
        near = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self._host)  # noqa: S104  compared with
        address = f"{near}:{self.port}" if near else self.url.removeprefix("mqtt://")
        return f"mqtt://{OWN_NAME}:{self._own_password}@{address}"

    def admit_clients(self) -> None:
        """Let others in, now that ``topics`` are subscribed to."""
        broker, loop = self._broker, self._loop
        if broker is not None and loop is not None:
            loop.call_soon_threadsafe(broker.admits.set)

    def cut_off(self, over: Callable[[AuthenticatedDevice], bool]) -> None:
        """End the connections of devices that are out, soon; no matter where it is called."""
        broker, loop = self._broker, self._loop
        if broker is not None and loop is not None:
            loop.call_soon_threadsafe(broker.cut_off, over)

    def start(self) -> None:
        """Listen; returns when clients can connect.

        Raises:
            UnavailableError: the address is in use, or not this machine's.
            NotFoundError: there is no such password file.
        """
        if self._worker is not None:
            return
        need("amqtt", extra="hub")
        passwords = read_bus_passwords(self._password_file) if self._password_file else None
        if self._certificates_only:
            passwords = {}
        self._started.clear()
        self._failure = None
        self._worker = Worker("broker", lambda: self._run(passwords), every_s=None)
        self._worker.start()
        self._started.wait()  # set when it listens, or ends
        failure = self._last_failure()
        if failure is None:
            logger.info("broker started bus=%s", self.url)
            return
        self.stop()
        raise self._not_started(failure) from failure

    def stop(self) -> None:
        """Close every connection and join the thread."""
        if self._worker is None:
            return
        if self._loop is not None and self._stop is not None:
            with suppress(RuntimeError):  # its loop is closed: it ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        self._worker.join()
        self._worker = None
        self._broker = None

    def figures(self) -> BrokerFigures:
        """Return the broker's contents and counters; zeros while it does not run."""
        broker = self._broker
        return NO_FIGURES if broker is None else broker.figures()

    def _last_failure(self) -> Exception | None:
        return self._failure

    def _run(self, passwords: dict[str, str] | None) -> None:
        try:
            asyncio.run(self._serve(passwords))
        except Exception as error:  # boundary: the thread must not die silently
            logger.exception("broker thread ended")
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self, passwords: dict[str, str] | None) -> None:
        from lineside.links.amqtt_broker import AmqttBroker

        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        broker = AmqttBroker(
            passwords=passwords,
            own_password=self._own_password,
            limits=self._limits,
            clock=self._clock,
            answered=self._answered,
            devices=self._devices,
            oversized=self._note_oversized,
        )
        if not self._topics:
            broker.admits.set()
        try:
            self.port, self.device_port = await broker.listen(self._host, self.port)
        except OSError as error:
            self._failure = error
            await broker.shutdown()
            return
        self._broker = broker
        self._started.set()
        await self._stop.wait()
        await broker.shutdown()
