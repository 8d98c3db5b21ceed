"""The job service on the hub's bus: takes what devices ask, says what is to be said.

1. Requests come through a session of the bus; each is acknowledged after the commit of what it
   changed.
2. Messages wait in a bounded queue while the bus is away or busy, in the order of the commits; the
   oldest are dropped and counted. Devices are told their pending jobs again after a restart.
3. The topics are protected by the broker's access lists: here a request is believed to come from
   the thing that its topic names.
4. Clients that were written for AWS' broker, which answers whoever asked, have a listener of their
   own where the settings name one. ``JobBridge`` passes their requests to the bus, and what the bus
   says of jobs to them.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from functools import partial

from lineside.core import Clock, LinesideError, UnavailableError
from lineside.core.worker import Worker, retry
from lineside.fleet import JobService
from lineside.fleet.jobs.requests import MOST_PAYLOAD_BYTES
from lineside.fleet.jobs.wire import JobMessage
from lineside.links import Bus, Delivery, Message, open_bus, open_session

logger = logging.getLogger(__name__)

TOPICS = ("$aws/things/+/jobs/#",)
"""What devices ask at; answers and notifications stand below it too."""
BRIDGED = (*TOPICS, "edge-manager-app/logs/+")
"""What the listener for AWS' clients takes: their requests, and the logs that they publish."""
_MOST_WAITING = 20_000
_PATIENCE_S = 5.0
_TICK_PATIENCE_S = 0.5  # other duties wait for this one
_OWN = ("/accepted", "/rejected", "/notify", "/notify-next")
_BATCH = 100
_LOOK_S = 0.5


class JobRequestHandler:
    """Between the service and the bus; safe from several threads."""

    def __init__(self, service: JobService) -> None:
        self.service = service
        self.bus: Bus | None = None
        self._waiting: deque[JobMessage] = deque()
        self._sending = threading.Lock()
        self._dropped = 0
        service.deliver = self._deliver

    @property
    def waiting(self) -> int:
        """Messages that were not handed to the bus yet."""
        return len(self._waiting)

    @property
    def dropped(self) -> int:
        """Messages that were given up since the start."""
        return self._dropped

    def prepare(self, messages: Sequence[Message]) -> list[tuple[str, bytes]]:
        """Return the requests of a batch; our own messages, which come back here, are none."""
        return [
            (message.topic, message.payload)
            for message in messages
            if not message.topic.endswith(_OWN)
        ]

    def commit(self, requests: Sequence[tuple[str, bytes]]) -> None:
        """Answer a batch and say everything that waits."""
        if not requests:
            return
        with self.service.turn:
            self._deliver(self.service.answers(requests))
        self._say_patiently()

    def tick(self) -> None:
        """Publish what is due by time; called about once a second."""
        self.service.due()
        self._say_patiently(_TICK_PATIENCE_S)

    def say_waiting(self) -> None:
        """Say what could not be said at once; about once a second."""
        self._say_patiently(_TICK_PATIENCE_S)

    def tell_again(self) -> None:
        """Every thing with jobs is told of them; once after the start."""
        for messages in self.service.again():
            self._deliver(messages)
        self._say_patiently()

    def _deliver(self, messages: Sequence[JobMessage]) -> None:
        """Line up, and hand over what goes without waiting; never blocks."""
        self._waiting.extend(messages)
        while len(self._waiting) > _MOST_WAITING:
            self._waiting.popleft()
            self._dropped += 1
        if self._sending.acquire(blocking=False):
            try:
                self._say(0.0)
            finally:
                self._sending.release()

    def _say_patiently(self, timeout_s: float = _PATIENCE_S) -> None:
        with self._sending:
            self._say(timeout_s)

    def _say(self, timeout_s: float) -> None:
        """Hand over what waits, in order; the lock is held."""
        bus = self.bus
        while self._waiting and bus is not None and bus.connected():
            message = self._waiting.popleft()
            if not bus.publish_soon(message.topic, message.payload, qos=1) and not _took(
                bus, message, timeout_s=timeout_s
            ):
                self._waiting.appendleft(message)
                return


def _took(bus: Bus, message: JobMessage, *, timeout_s: float) -> bool:
    """Return True where a busy bus took the message in time."""
    if timeout_s == 0.0:
        return False
    try:
        bus.publish(message.topic, message.payload, timeout_s=timeout_s)
    except UnavailableError:
        return False  # the bus says so itself, once
    return True


class JobBridge:
    """Between the listener for AWS' clients and the bus; made when both take connections.

    1. A request is acknowledged when the bus has it, so none is lost while the bus is away.
    2. Answers and notifications of all hubs of a site come from the bus; the listener passes on
       what its clients subscribed to, and each answer to the client that asked.
    """

    def __init__(self, bus: Bus, *, listener_url: str, clock: Clock) -> None:
        """Subscribe on both sides.

        Args:
            bus: of the site; stays open.
            listener_url: this process's own address of the listener.
            clock: gives times of arrival.

        Raises:
            RefusedError: the bus lets the hub hear no jobs.
        """
        self._bus = bus
        self._answers = bus.subscribe(TOPICS, size=_MOST_WAITING, name="job answers")
        self._clients = open_bus(listener_url, client_id="hub-answers", clock=clock)
        self._session = open_session(
            listener_url, client_id="hub-requests", patterns=BRIDGED, clock=clock
        )
        self._inbound = Worker("job-requests", self.pass_requests)
        self._outbound = Worker("job-answers", self.pass_answers)

    def start(self) -> None:
        """Begin."""
        self._inbound.start()
        self._outbound.start()

    def stop(self) -> None:
        """End; requests that the bus does not have yet were not acknowledged."""
        self._session.stop()
        self._answers.close()
        self._inbound.stop()
        self._outbound.stop()
        self._session.close()
        self._clients.close()

    def pass_requests(self) -> None:
        """Hand what clients said to the bus."""
        for one in self._session.take(most=_BATCH, timeout_s=_LOOK_S):
            retry(partial(self._pass_request, one), stop=self._inbound.stopping)
            self._session.acknowledge([one])

    def pass_answers(self) -> None:
        """Hand what the job service said to the clients."""
        for message in self._answers.get_many(most=_BATCH, timeout_s=_LOOK_S):
            if message.topic.endswith(_OWN):
                publish = partial(self._clients.publish, message.topic, message.payload)
                retry(publish, stop=self._outbound.stopping)

    def _pass_request(self, delivery: Delivery) -> None:
        message = delivery.message
        if message.topic.endswith(_OWN):
            return  # one of ours, which comes back here
        if len(message.payload) > MOST_PAYLOAD_BYTES:
            logger.warning(
                "job request not passed on topic=%s bytes=%d, %d at most",
                message.topic, len(message.payload), MOST_PAYLOAD_BYTES,
            )  # fmt: skip
            return
        try:
            self._bus.publish(message.topic, message.payload)
        except UnavailableError:
            raise
        except LinesideError as error:
            logger.warning("job request not passed on topic=%s reason=%s", message.topic, error)
