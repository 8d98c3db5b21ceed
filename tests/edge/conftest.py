"""A small plant, a judge that is quick, and an agent around both."""

import base64
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lineside.core import (
    Digest,
    InvalidError,
    LinesideError,
    Plant,
    decode_json,
    digest_of,
    encode,
    parse_plant,
    rfc3339,
)
from lineside.core.drivers import SecretUrl
from lineside.edge import Agent, EdgeConfig
from lineside.edge.agent import last_will
from lineside.edge.delivery.spool import Spool, open_spool
from lineside.edge.packages import LoadedPackage
from lineside.links import Bus, Mailbox, open_bus
from lineside.links.memory import MemoryBus
from lineside.models import build_package
from lineside.models.operating_point import OperatingPoint
from lineside.streams import Event, decode_event
from lineside.testing import FakeClock
from lineside.testing.bare import bare_label, bare_prediction
from lineside.testing.links import LONG_S, wait_until
from lineside.vision import (
    Frame,
    PictureState,
    Prediction,
    StageTimes,
    encode_jpeg,
)
from tests.models.conftest import package_parts

PLANT = """
schema = "lineside.plant/1"
site = "demo"
line = [{ id = "warehouse", name = "Warehouse" }]

[[camera]]
id = "rack"
line = "warehouse"
source = "mqtt:i/cam"

[[inspection]]
id = "stock"
camera = "rack"
labels = ["blue"]
"""

DEVICE = "lineside/demo/device/edge-1"
PREDICTION = "lineside/demo/warehouse/rack/prediction"
GOOD = b"a package"
BETTER = b"a better package"


@dataclass
class QuickJudge:
    """Answers without a network; steerable: it can fail, and it can be slow."""

    package: Digest
    clock: FakeClock
    inspection: str = "stock"
    failing: bool = False
    state: PictureState = PictureState.OK
    hold: threading.Event = field(default_factory=threading.Event)
    seen: list[Frame] = field(default_factory=list)
    point: OperatingPoint | None = None

    def __post_init__(self) -> None:
        self.hold.set()

    @property
    def operating_point(self) -> str:
        return self.point.digest if self.point is not None else ""

    def decide_by(self, point: OperatingPoint | None) -> None:
        self.point = point

    def predict(self, frame: Frame, *, device: str = "", decode_ms: float = 0.0) -> Prediction:
        self.seen.append(frame)
        self.hold.wait(LONG_S)
        if self.failing:
            raise RuntimeError("the network broke")
        return bare_prediction(
            frame.ref, inspection=self.inspection, task="multilabel", state=self.state,
            labels=(bare_label("blue"),), package=self.package,
            latency_ms=StageTimes(decode=decode_ms), device=device,
        )  # fmt: skip


class PackageServer:
    """The hub's downloads: ``answers`` maps a path to status and body; requests are kept."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        self.requests: list[tuple[str, str]] = []
        self.ranges: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append((self.path, self.headers.get("Authorization", "")))
                server.ranges.append(self.headers.get("Range", ""))
                status, body, headers = server.answers.get(self.path, (404, b"", {}))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(
            target=self.http.serve_forever, args=(0.02,), name="package-server"
        )
        self.thread.start()

    def offer(self, data: bytes) -> None:
        self.answers[f"/{digest_of(data)}"] = (200, data, {})

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture(scope="session")
def archive() -> bytes:
    """A package of two regions, as a file."""
    return build_package(*package_parts())


@pytest.fixture
def packages() -> Iterator[PackageServer]:
    server = PackageServer()
    yield server
    server.close()


@dataclass
class Bench:
    """An agent, its hub played by the test, and everything in between."""

    config: EdgeConfig
    plant: Plant
    clock: FakeClock
    device: MemoryBus
    hub: Bus
    spool: Spool
    agent: Agent
    said: Mailbox
    judges: dict[bytes, QuickJudge]
    closed: bool = False

    def frame(self, number: int = 0, *, age_s: float = 0.0, **more: Any) -> datetime:  # noqa: ANN401  fields of the message
        """Publish a picture as the camera does; its capture time."""
        at = self.clock.now() - timedelta(seconds=age_s)
        text = base64.b64encode(picture(number)).decode()
        document = {"ts": rfc3339(at), "data": f"data:image/jpeg;base64,{text}", **more}
        self.hub.publish("i/cam", encode(document), qos=0)
        return at

    def wish(self, data: bytes = GOOD, **more: Any) -> None:  # noqa: ANN401  fields of the message
        wanted = {
            "inspection": "stock",
            "digest": digest_of(data),
            "url": f"http://hub/{digest_of(data)}",
            **more,
        }
        document = {"schema": "lineside.desired/1", "packages": [wanted]}
        self.hub.publish(f"{DEVICE}/desired", encode(document), retain=True)

    def ack(self, sequence: int, **more: Any) -> None:  # noqa: ANN401  fields of the message
        document = {
            "schema": "lineside.ack/1", "device": "edge-1", "sequence": sequence, **more
        }  # fmt: skip
        self.hub.publish(f"{DEVICE}/ack", encode(document))

    def events(self, count: int) -> list[Event]:
        """The next predictions the device says."""
        found: list[Event] = []
        while len(found) < count:
            message = self.said.get(timeout_s=LONG_S)
            assert message is not None, f"{len(found)} events of {count} came"
            found.append(decode_event(message.payload, where=message.topic))
        return found

    def refused(self) -> dict[str, int]:
        return dict(self.agent.status().refused)

    def looks(self) -> bool:
        """Whether the cameras on the bus are subscribed to: earlier images are lost."""
        workers = self.agent._workers
        return all(one._source for one in workers if one.camera.source.startswith("mqtt:"))

    def loaded(self, data: bytes = GOOD) -> bool:
        return [item.digest for item in self.agent.status().packages] == [digest_of(data)]

    def status(self) -> dict[str, Any]:
        """The retained status, as a new client sees it."""
        mailbox = self.hub.subscribe((f"{DEVICE}/status",), name="status")
        message = mailbox.get(timeout_s=LONG_S)
        mailbox.close()
        assert message is not None
        found: dict[str, Any] = decode_json(message.payload, where="status")
        return found

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.agent.close()
            self.device.close()
            self.spool.close()


def picture(number: int = 0, *, shape: tuple[int, ...] = (24, 32, 3)) -> bytes:
    rng = np.random.default_rng(number)
    return encode_jpeg(rng.integers(0, 255, shape, dtype=np.uint8))


StartBench = Callable[..., Bench]


@pytest.fixture
def plant() -> Plant:
    return parse_plant(PLANT.encode(), where="plant")


@pytest.fixture
def config(tmp_path: Path, packages: PackageServer) -> EdgeConfig:
    for data in (GOOD, BETTER):
        packages.offer(data)
    return EdgeConfig(
        device="edge-1",
        bus=SecretUrl("memory://edge"),
        plant="plant.toml",
        data_dir=str(tmp_path / "edge"),
        hub=packages.url,
        unsigned="allowed",
    )


@pytest.fixture
def start(clock: FakeClock, plant: Plant, config: EdgeConfig) -> Iterator[StartBench]:
    """Starts a bench; a second call starts the device again on the same folder."""
    hub = open_bus("memory://edge", client_id="hub", clock=clock)
    benches: list[Bench] = []
    said = hub.subscribe((PREDICTION,), size=10_000, name="said")

    def start_one(**changes: Any) -> Bench:  # noqa: ANN401  of plant or config
        for bench in benches:
            bench.close()
        here = replace(plant, **{k: v for k, v in changes.items() if hasattr(plant, k)})
        settings = replace(config, **{k: v for k, v in changes.items() if hasattr(config, k)})
        settings.folder.mkdir(parents=True, exist_ok=True)
        judges = {data: QuickJudge(digest_of(data), clock) for data in (GOOD, BETTER)}

        def make_ready(data: bytes, inspection: str) -> LoadedPackage:
            if data not in judges:
                raise InvalidError("no package", where="archive", fix="Send another.")
            name = inspection or "stock"
            return LoadedPackage(digest=digest_of(data), inspection=name, judge=judges[data])

        device = open_bus(
            "memory://edge",
            client_id="device",
            clock=clock,
            will=last_will(here, device="edge-1", clock=clock),
        )
        assert isinstance(device, MemoryBus)
        spool = open_spool(settings.folder / "spool.db", max_bytes=settings.spool_max_bytes)
        try:
            agent = Agent(
                settings, plant=here, bus=device, spool=spool, clock=clock, make_ready=make_ready
            )
        except LinesideError:
            device.close()
            spool.close()
            raise
        agent.start()
        benches.append(
            Bench(
                config=settings,
                plant=here,
                clock=clock,
                device=device,
                hub=hub,
                spool=spool,
                agent=agent,
                said=said,
                judges=judges,
            )
        )
        wait_until(benches[-1].looks)
        return benches[-1]

    yield start_one
    for bench in benches:
        bench.close()
    hub.close()


@pytest.fixture
def bench(start: StartBench) -> Bench:
    """An agent that has its package."""
    bench = start()
    bench.wish()
    wait_until(bench.loaded)
    return bench
