"""Simulated devices of ``fleet.py``: a process of its own that is told what to do by lines of JSON.

What of a device is real and what is not stands in ``fleet.py``.
"""

import argparse
import asyncio
import json
import random
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any
from urllib.parse import urlsplit

import aiomqtt
import measure

from lineside.core import LinesideError, SystemClock, UnavailableError, encode, rfc3339
from lineside.edge import HubClient
from lineside.edge.deploy.jobs import pause_s
from lineside.edge.hub_client import BusyError
from lineside.fleet import DevicePolicy, ExecutionStatus, JobDocument, Part, UpdateClient, pin_root
from lineside.fleet.agent import (
    Abandon,
    Begin,
    Continue,
    JobsClient,
    Outcome,
    Transition,
    Work,
    advance_time,
    check_signed,
    confirm,
    read_order,
    receive,
    report_end,
    report_progress,
    start_session,
    subscriptions,
)
from lineside.fleet.contract import DeviceStatus
from lineside.fleet.jobs.wire import JobMessage

CLOCK = SystemClock()
FETCHERS = 8
TURN_S = 0.5
PATIENCE_S = 60.0
POLICY = DevicePolicy(inspections=frozenset({"stock"}), allows=lambda _: True, signed=True)


@dataclass(kw_only=True)
class Site:
    """Where the hub is, and what all devices of this process share.

    Archives are fetched and verified by processes of their own: beside the connections of hundreds
    of devices they would hold the interpreter, and the bus would wait for answers.
    """

    hub: str
    bus: str
    site: str
    token: str
    root: bytes
    folder: Path
    previous: Path | None = None
    cut_share: float = 0.0
    pool: ProcessPoolExecutor = field(
        default_factory=lambda: ProcessPoolExecutor(FETCHERS, mp_context=get_context("spawn"))
    )


class Line:
    """The way to the hub: counts what comes over it, and breaks off once where it is told to."""

    def __init__(self, source: HubClient, *, cut_after: int | None) -> None:
        self._source = source
        self._cut_after = cut_after
        self.bytes = 0
        self.resumed = 0

    @contextmanager
    def open(
        self, path: str, *, start_byte: int = 0, end_byte: int | None = None
    ) -> Iterator[Part]:
        with self._source.open(path, start_byte=start_byte, end_byte=end_byte) as part:
            is_target = path.startswith("targets/")
            self.resumed += int(is_target and part.start_byte > 0)
            chunks = self._counted(part.chunks) if is_target else part.chunks
            yield Part(start_byte=part.start_byte, chunks=chunks)

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.bytes += len(chunk)
            yield chunk
            if self._cut_after is not None and self.bytes > self._cut_after:
                self._cut_after = None
                raise UnavailableError("the line was cut", where="benchmark", fix="Go on.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What a device wants fetched; ``attempt`` counts from 0."""

    hub: str
    token: str
    folder: Path
    order: JobDocument
    previous: Path | None
    cut_after: int | None
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What came of a try; without ``again_s`` it is over."""

    bytes: int
    resumed: int
    again_s: float | None = None
    is_busy: bool = False
    reason: str = ""


def fetch_once(errand: Errand) -> Fetched:
    """The archive, as signed; what a device does after it is not simulated."""
    token = errand.token
    line = Line(HubClient(errand.hub, token=lambda: token), cut_after=errand.cut_after)
    client = UpdateClient(errand.folder / "trust", source=line, clock=CLOCK)
    try:
        client.refresh()
        target = client.target(errand.order.target)
        check_signed(errand.order, target)
        into = errand.folder / "incoming"
        path = client.fetch(target, into=into, progress=lambda *_: None, previous=errand.previous)
        path.unlink()
    except UnavailableError as error:
        return Fetched(
            bytes=line.bytes, resumed=line.resumed, is_busy=isinstance(error, BusyError),
            again_s=pause_s(error, attempt=errand.attempt),
        )  # fmt: skip
    except LinesideError as error:
        return Fetched(bytes=line.bytes, resumed=line.resumed, reason=str(error))
    return Fetched(bytes=line.bytes, resumed=line.resumed)


@dataclass(kw_only=True)
class Told:
    """What one device did for one job."""

    seconds: float = 0.0
    bytes: int = 0
    requests_by_range: int = 0
    busy: int = 0
    tries: int = 0
    outcome: str = ""


class Device:
    """One device; everything of it runs on the loop but the fetching."""

    def __init__(self, name: str, *, site: Site) -> None:
        self.name = name
        self._site = site
        self._folder = site.folder / name
        self._talk = JobsClient(thing=name, prefix=name)
        self._confirmed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.ready = asyncio.Event()
        self.done = asyncio.Event()
        self.told = Told()
        self.lost = 0
        self.client: aiomqtt.Client | None = None

    async def run(self) -> None:
        """Stay on the bus, as the agent does."""
        pin_root(self._folder / "trust", self._site.root)
        place = urlsplit(self._site.bus)
        assert place.hostname is not None
        while True:
            try:
                client = aiomqtt.Client(
                    place.hostname, port=place.port or 1883, identifier=self.name,
                    timeout=PATIENCE_S, keepalive=60, max_queued_outgoing_messages=1000,
                )  # fmt: skip
                async with client:
                    await self._stay(client)
            except aiomqtt.MqttError:
                self.lost += 1
                await asyncio.sleep(random.uniform(0.5, 5.0))  # noqa: S311

    async def _stay(self, client: aiomqtt.Client) -> None:
        self.client = client
        await client.subscribe([(topic, 1) for topic in subscriptions(self.name)])
        await self.say_status()
        self._act(lambda session, now_s: start_session(session, now_s=now_s))
        self.ready.set()
        async for message in client.messages:
            self._hear(str(message.topic), bytes(message.payload))

    def _hear(self, topic: str, payload: bytes) -> None:
        self._act(lambda session, now_s: receive(session, topic, payload=payload, now_s=now_s))

    async def say_status(self) -> float:
        """Tell ``lineside.device/1``; seconds until the broker took it."""
        status = DeviceStatus(
            device=self.name, state="online", version="0", at=rfc3339(CLOCK.now())
        )
        topic = f"lineside/{self._site.site}/device/{self.name}/status"
        before_s = perf_counter()
        assert self.client is not None
        await self.client.publish(topic, encode(status), qos=1, retain=True)
        return perf_counter() - before_s

    def begin_phase(self) -> None:
        """Forget what the last job was like."""
        self.told = Told()
        self.done.clear()

    def tick(self) -> None:
        """Time passed."""
        if self.client is not None:
            self._act(lambda session, now_s: advance_time(session, now_s=now_s))

    def _act(self, change: Callable[[JobsClient, float], Transition]) -> None:
        self._talk, steps = change(self._talk, monotonic())
        for step in steps:
            match step:
                case JobMessage():
                    self._soon(self._publish(step))
                case Begin():
                    self._soon(self._carry_out(step.work))
                case Continue():
                    self._confirmed.set()
                case Abandon():
                    self.told.outcome = f"left: {step.reason}"
                    self.done.set()
        if self.told.outcome and self._talk.work is None:
            self.done.set()

    def _soon(self, what: Awaitable[None]) -> None:
        task = asyncio.ensure_future(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self, step: JobMessage) -> None:
        assert self.client is not None
        try:
            await self.client.publish(step.topic, step.payload, qos=1)
        except aiomqtt.MqttError:
            self.lost += 1  # the talk says it again

    async def _carry_out(self, work: Work) -> None:
        self._confirmed.clear()
        begun_s = perf_counter()
        self._act(lambda session, now_s: report_progress(session, {"step": "begun"}, now_s=now_s))
        try:
            outcome = await self._verified(work)
        except LinesideError as error:
            outcome = Outcome(status=ExecutionStatus.FAILED, details={"reason": str(error)})
        self.told.outcome = outcome.status.value
        self.told.seconds = perf_counter() - begun_s
        self._act(lambda session, now_s: report_end(session, work, outcome=outcome, now_s=now_s))

    async def _verified(self, work: Work) -> Outcome:
        """The archive, verified, once the service says that it is still wanted."""
        order = read_order(work.document, policy=POLICY)
        site = self._site
        cut = random.random() < site.cut_share  # noqa: S311
        errand = Errand(
            hub=site.hub, token=site.token, folder=self._folder, order=order,
            previous=site.previous,
            cut_after=random.randrange(1_000_000, 10_000_000) if cut else None,  # noqa: S311
        )  # fmt: skip
        reason = await self._patiently(errand)
        if reason:
            return Outcome(status=ExecutionStatus.FAILED, details={"reason": reason})
        self._act(lambda session, now_s: confirm(session, work, now_s=now_s))
        await self._confirmed.wait()
        details = {"step": "done", "digest": order.digest}
        return Outcome(status=ExecutionStatus.SUCCEEDED, details=details)

    async def _patiently(self, errand: Errand) -> str:
        """As ``edge.deploying`` waits; why it failed, "" where it did not."""
        loop = asyncio.get_running_loop()
        while True:
            found = await loop.run_in_executor(self._site.pool, fetch_once, errand)
            self.told.bytes += found.bytes
            self.told.requests_by_range += found.resumed
            if found.again_s is None:
                return found.reason
            self.told.busy += found.is_busy
            self.told.tries += not found.is_busy
            await asyncio.sleep(found.again_s)
            cut_after = errand.cut_after if found.is_busy else None
            errand = replace(errand, attempt=errand.attempt + 1, cut_after=cut_after)


# ---- what the process is told to do


class Fleet:
    """All devices of this process."""

    def __init__(self, names: list[str], *, site: Site) -> None:
        self.site = site
        self.devices = [Device(name, site=site) for name in names]

    async def join(self, group: asyncio.TaskGroup) -> dict[str, Any]:
        """On the bus, some at a time."""
        began_s = perf_counter()
        for first in range(0, len(self.devices), 20):
            some = self.devices[first : first + 20]
            for device in some:
                group.create_task(device.run())
            await asyncio.gather(*(device.ready.wait() for device in some))
        group.create_task(self._tick())
        return {"seconds": perf_counter() - began_s}

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TURN_S)
            for device in self.devices:
                device.tick()

    def prepare(self, *, previous: str, cut_share: float) -> dict[str, Any]:
        """What the next job meets."""
        self.site.previous = Path(previous) if previous else None
        self.site.cut_share = cut_share
        for device in self.devices:
            device.begin_phase()
            device.lost = 0
        return {}

    async def finish(self) -> dict[str, Any]:
        """Wait for the end of the job on every device."""
        await asyncio.gather(*(device.done.wait() for device in self.devices))
        told = [device.told for device in self.devices]
        return {
            "outcomes": Counter(one.outcome for one in told),
            "bytes": sum(one.bytes for one in told),
            "went_on_by_range": sum(one.requests_by_range > 0 for one in told),
            "sent_away_busy": sum(one.busy for one in told),
            "other_tries": sum(one.tries for one in told),
            "device": measure.percentiles([one.seconds for one in told]),
            "lost_connections": sum(device.lost for device in self.devices),
        }

    async def beat(self, *, per_s: float, seconds: float) -> dict[str, Any]:
        """Heartbeats, evenly spaced over devices and time; late ones are not left out."""
        wanted = int(per_s * seconds)
        began_s, times_s, behind_s = perf_counter(), [], 0.0
        async with asyncio.TaskGroup() as group:

            async def one(device: Device) -> None:
                try:
                    times_s.append(await device.say_status())
                except aiomqtt.MqttError:
                    device.lost += 1

            for number in range(wanted):
                wait_s = began_s + number / per_s - perf_counter()
                behind_s = max(behind_s, -wait_s)
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                elif number % 50 == 0:
                    await asyncio.sleep(0)
                group.create_task(one(self.devices[number % len(self.devices)]))
            said_s = perf_counter() - began_s
        return {
            "sent": wanted, "lost": wanted - len(times_s), "said_s": said_s, "behind_s": behind_s,
            "acknowledged": measure.percentiles(times_s),
        }  # fmt: skip


async def obey(fleet: Fleet) -> None:
    """Lines in, lines out, until the input ends."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=read, daemon=True).start()
    print(json.dumps({"ready": len(fleet.devices)}), flush=True)
    async with asyncio.TaskGroup() as group:
        while line := await lines.get():
            asked = json.loads(line)
            match asked.pop("do"):
                case "join":
                    found = await fleet.join(group)
                case "prepare":
                    found = fleet.prepare(**asked)
                case "finish":
                    found = await fleet.finish()
                case "beat":
                    found = await fleet.beat(**asked)
                case other:
                    raise SystemExit(f"{other!r} is not known")
            print(json.dumps(found), flush=True)
        raise SystemExit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings")
    settings = json.loads(parser.parse_args().settings)
    names = settings.pop("names")
    root, folder = Path(settings.pop("root")).read_bytes(), Path(settings.pop("folder"))
    site = Site(root=root, folder=folder, **settings)

    async def run() -> None:
        await obey(Fleet(names, site=site))

    with site.pool:
        list(site.pool.map(abs, range(FETCHERS)))  # they have started
        asyncio.run(run())


if __name__ == "__main__":
    main()
