"""A small warehouse, a package that sees bright discs, and a hub over memory."""

import base64
import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import cv2  # noqa: F401  sets LD_LIBRARY_PATH when it is first imported; here, not inside a test
import numpy as np
import pytest
import uvicorn
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from onnx import TensorProto, helper

from lineside.cli.app import _run
from lineside.core import (
    Clock,
    Json,
    Plant,
    Policy,
    SystemClock,
    digest_of,
    encode,
    frame_id,
    parse_plant,
    rfc3339,
)
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, Role, Services, build_services, create_app
from lineside.hub.eventlog.dead_letters import DeadLetters, FailurePolicy
from lineside.hub.eventlog.followers import Follower
from lineside.hub.eventlog.stats import Stats
from lineside.hub.learning.job_service import TOPICS as JOB_TOPICS
from lineside.hub.learning.job_service import JobRequestHandler
from lineside.hub.readers import Reader
from lineside.links import Bus, Message, open_bus, open_session
from lineside.models import (
    Engine,
    Golden,
    HealthLimits,
    Lineage,
    Manifest,
    OnnxEngine,
    build_package,
)
from lineside.store import Records, open_blobs, open_records
from lineside.streams import encode_event, prediction_event
from lineside.testing import FakeClock
from lineside.testing.bare import bare_prediction
from lineside.testing.links import wait_until
from lineside.vision import (
    Decision,
    FrameRef,
    HealthFigures,
    LabelAnswer,
    LabelRule,
    Prediction,
    Prepare,
    StageTimes,
    decode_picture,
    encode_jpeg,
    prepare,
)
from lineside.vision.prepare import crops_for
from lineside.web.connections import ConnectionFigures, ConnectionLimits, limited_http
from tests.hub.openapi import require_documented
from tests.links.conftest import patient_clients  # noqa: F401  of each test here, too

PLANT = b"""
schema = "lineside.plant/1"
site = "hall"
name = "Training hall"
[[line]]
id = "warehouse"
name = "Warehouse"
[[camera]]
id = "rack"
name = "Rack camera"
line = "warehouse"
source = "mqtt:i/cam"
[[camera]]
id = "gate"
line = "warehouse"
source = "folder:/nowhere"
[[inspection]]
id = "stock"
camera = "rack"
endpoint = "smart-factory-wh-stock-inference"
view = { width_px = 160, height_px = 120, register = false }
[[inspection.region]]
id = "top"
label = "blue"
box_px = { x0_px = 10, y0_px = 10, x1_px = 40, y1_px = 30 }
[[inspection.region]]
id = "middle"
label = "red"
box_px = { x0_px = 10, y0_px = 50, x1_px = 40, y1_px = 70 }
[[inspection.region]]
id = "bottom"
label = "white"
box_px = { x0_px = 10, y0_px = 90, x1_px = 40, y1_px = 110 }
[[route]]
topic = "i/cam"
kind = "frame"
camera = "rack"
collection = "factory_camera"
[[route]]
topic = "i/bme680"
kind = "sensor"
collection = "sensors"
[[route]]
topic = "i/ldr"
kind = "sensor"
collection = "sensors"
[[route]]
topic = "f/i/stock"
kind = "stock"
collection = "mqtt"
[[route]]
topic = "f/i/order"
kind = "order"
collection = "mqtt"
[[route]]
topic = "f/i/state/+"
kind = "station"
collection = "mqtt"
[[route]]
topic = "i/alert"
kind = "alert"
collection = "mqtt"
[twin]
inspection = "stock"
[[twin.slot]]
id = "A1"
region = "top"
colour = "blue"
[[twin.slot]]
id = "B1"
region = "middle"
colour = "red"
[[twin.slot]]
id = "C1"
region = "bottom"
colour = "white"
[[twin.station]]
id = "hbw"
name = "High-bay warehouse"
code = "hbw"
shape = "rack"
"""
# The same for the package that ``tests.models.conftest.package_parts`` makes: it says these labels.
DISC_PLANT = PLANT.replace(b'label = "blue"', b'label = "disc"').replace(
    b'label = "red"', b'label = "ring"'
)

PACKAGE = digest_of(b"package")
_COUNT = itertools.count()


@pytest.fixture(scope="session")
def plant() -> Plant:
    return parse_plant(PLANT, where="plant")


LIMITED = PLANT.replace(b'"mqtt:i/cam"', b'"mqtt:i/cam"\nno_signal_after_s = 4')


def scene(*bright: str, seed: int = 3) -> NDArray[np.uint8]:
    """A busy picture; the named regions hold a bright disc."""
    rng = np.random.default_rng(seed)
    image = rng.integers(40, 120, (120, 160, 3)).astype(np.uint8)
    for label, top in (("blue", 10), ("red", 50), ("white", 90)):
        image[top : top + 20, 10:40] = 250 if label in bright else 20
    return image


@pytest.fixture(scope="session")
def jpeg() -> Callable[..., bytes]:
    """Encoded pictures; another seed is another picture."""

    def make(*bright: str, seed: int = 3) -> bytes:
        return encode_jpeg(scene(*bright, seed=seed))

    return make


def network(*, rows: int = 3, side: int = 16) -> bytes:
    """Logit = mean brightness of the crop; activation = brightness on a 4 x 4 grid."""
    weight = np.full((rows, 3, 1, 1), 4.0 / 3.0, np.float32)
    cell = side // 4
    nodes = [
        helper.make_node("Conv", ["crops", "weight"], ["bright"]),
        helper.make_node(
            "AveragePool", ["bright"], ["activation"], kernel_shape=[cell, cell],
            strides=[cell, cell],
        ),
        helper.make_node("ReduceMean", ["activation", "axes"], ["logits"], keepdims=0),
        helper.make_node("ReduceMax", ["crops", "all_axes"], ["distance"], keepdims=0),
    ]  # fmt: skip
    given = {
        "logits": [rows, rows], "activation": [rows, rows, 4, 4], "distance": [rows],
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, [rows, 3, side, side])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in given.items()],
        [
            helper.make_tensor("weight", TensorProto.FLOAT, weight.shape, weight.ravel()),
            helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]),
            helper.make_tensor("all_axes", TensorProto.INT64, [3], [1, 2, 3]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="session")
def archive(plant: Plant) -> bytes:
    """A package of inspection ``stock`` that sees bright discs."""
    regions = plant.find_inspection("stock").region
    settings = Prepare(
        crops=crops_for(regions, width_px=160, height_px=120, margin=0.0), width_px=16,
        height_px=16,
    )  # fmt: skip
    model, golden = network(), encode_jpeg(scene("blue"))
    crops = prepare(decode_picture(golden), settings)
    logits = OnnxEngine(model, crops=(3, 3, 16, 16), where="made here").run(
        crops, outputs=("logits",)
    )[0]
    rules = tuple(
        LabelRule(
            name=region.label, region=region.id, label=region.label, output=place, slope=2.0,
            offset=0.0, floor=0.05, low=0.4, high=0.6, error_rate=0.1, calibration_pictures=16,
        )
        for place, region in enumerate(regions)
    )  # fmt: skip
    manifest = Manifest(
        schema="lineside.manifest/1",
        name="bright",
        task="multilabel",
        inspection="stock",
        labels=("blue", "red", "white"),
        prepare=settings,
        rules=rules,
        policy=Policy(),
        health=HealthLimits(
            sharpness_min=1.0, mean_grey_min=10.0, mean_grey_max=240.0, clipped_share_max=0.5,
            residual_max_px=3.0, feature_distance_max=5.0,
        ),
        engine=Engine(file="network.onnx", digest=digest_of(model)),
        golden=(
            Golden(
                file="golden/0.jpg",
                digest=digest_of(golden),
                logits=tuple(tuple(float(x) for x in row) for row in logits),
            ),
        ),
        lineage=Lineage(
            dataset="rack/1", data_digest=digest_of(b"data"), pictures=16, seed=7,
            code_version="0.1.0", created_at="2026-01-01T12:00:00.000Z",
        ),
    )  # fmt: skip
    return build_package(manifest, {"network.onnx": model, "golden/0.jpg": golden})


@pytest.fixture
def config(tmp_path: Path) -> HubConfig:
    (tmp_path / "plant.toml").write_bytes(PLANT)
    return HubConfig(
        data_dir=str(tmp_path / "data"),
        plant=str(tmp_path / "plant.toml"),
        port=0,
        bus_port=0,
        records=SecretUrl("memory://"),
        blobs=SecretUrl("memory://"),
    )


@pytest.fixture
def bus_url() -> str:
    return f"memory://hub-{next(_COUNT)}"


@pytest.fixture
def bus(clock: FakeClock, bus_url: str) -> Iterator[Bus]:
    opened = open_bus(bus_url, client_id="hub", clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def factory(clock: FakeClock, bus: Bus, bus_url: str) -> Iterator[Bus]:
    """The other side of the bus."""
    assert bus.connected()
    opened = open_bus(bus_url, client_id="factory", clock=clock)
    yield opened
    opened.close()


def drain(follower: Follower) -> None:
    """Let a follower go on to the end of its log."""
    while follower.step():
        pass


@contextmanager
def open_hub(
    config: HubConfig, *, plant: Plant, clock: Clock, run_command: tuple[str, ...] = ()
) -> Iterator[Services]:
    """The parts of a hub over the stores of its settings; nothing runs in the background."""
    with (
        open_records(config.records_url, clock=clock) as records,
        closing(open_blobs(config.blobs_url, clock=clock)) as blobs,
    ):
        services = build_services(
            config, plant=plant, records=records, blobs=blobs, clock=clock, run_command=run_command
        )
        services.load()
        with closing(services.runs):
            yield services


def another_hub(hub: Services, **changes: Any) -> Services:  # noqa: ANN401  arguments of build_services
    """A hub started over the stores of another one."""
    stores = {"records": hub.records, "blobs": hub.blobs, "plant": hub.plant, "clock": hub.clock}
    services = build_services(hub.config, **{**stores, **changes})
    services.load()
    return services


@contextmanager
def serve_hub(hub: Services, *, tls: Path | None = None, port: int = 0) -> Iterator[str]:
    """The hub's own server on a free port, by TLS with ``crt`` and ``key`` of a folder; its URL."""
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(hub), log_config=None, access_log=False,
            http=limited_http(ConnectionLimits(), ConnectionFigures()),
            ssl_certfile=tls and tls / "crt", ssl_keyfile=tls and str(tls / "key"),
        )
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", port)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_until(lambda: server.started)
        hub.bucket.base_url = (
            f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        )
        try:
            yield hub.bucket.base_url
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def hub(config: HubConfig, plant: Plant, clock: FakeClock, bus: Bus) -> Iterator[Services]:
    with open_hub(config, plant=plant, clock=clock) as services:
        services.join(bus, base_url="http://hub.test")
        yield services


@pytest.fixture
def trusted(hub: Services) -> Services:
    """A hub that made its repository, as ``running`` does."""
    hub.releases.ensure(keys=hub.config.keys_folder)
    return hub


def use_package(hub: Services, data: bytes, *, inspection: str = "stock") -> str:
    """Put a package in use; its digest."""
    digest = hub.packages.add(data, by="ada").digest
    hub.packages.use(digest, inspection=inspection, by="eve", reason="good")
    return digest


@pytest.fixture
def package(hub: Services, archive: bytes) -> str:
    """The package in use for ``stock``."""
    return use_package(hub, archive)


@pytest.fixture
def served(hub: Services) -> Iterator[str]:
    """The hub on a socket of its own."""
    with serve_hub(hub) as url:
        yield url


@pytest.fixture
def lineside(
    hub: Services, served: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """A command asks the hub over HTTP, in a role.

    It gives its JSON, its text where that is wanted, or its exit code and what it says.
    """

    def run(*words: str, role: Role = Role.ADMIN, at: str = served, text: bool = False) -> Any:  # noqa: ANN401  JSON
        token = tmp_path / f"{role}.token"
        if not token.exists():
            token.write_text(hub.auth.issue_token(f"some {role}", kind="api", role=role))
        code = _run([*words, "--hub", at, "--token", str(token), *(() if text else ("--json",))])
        told = capsys.readouterr()
        if code:
            return code, told.err
        return told.out.strip() if text else json.loads(told.out)

    return run


@pytest.fixture
def client(hub: Services) -> Iterator[TestClient]:
    """A program with a token; every answer that it gets must be as the OpenAPI document says."""
    token = hub.auth.issue_token("tester", kind="api")
    with TestClient(
        create_app(hub),
        base_url="http://127.0.0.1",
        headers={"Authorization": f"Bearer {token}"},
        raise_server_exceptions=False,
    ) as opened:
        opened.event_hooks["response"] = [require_documented]
        yield opened


@pytest.fixture
def people(hub: Services) -> Callable[..., TestClient]:
    """A person's client by role and name; who is asked for twice is one person."""
    app = create_app(hub)

    def client(role: Role, name: str = "") -> TestClient:
        token = hub.auth.issue_token(name or f"some {role}", kind="api", role=role)
        headers = {"Authorization": f"Bearer {token}"}
        made = TestClient(
            app, base_url="http://127.0.0.1", headers=headers, raise_server_exceptions=False
        )
        made.event_hooks["response"] = [require_documented]
        return made

    return client


@pytest.fixture
def ada(people: Callable[..., TestClient]) -> TestClient:
    """An engineer."""
    return people(Role.ENGINEER, "ada")


@pytest.fixture
def eve(people: Callable[..., TestClient]) -> TestClient:
    """An approver."""
    return people(Role.APPROVER, "eve")


@pytest.fixture
def nobody(hub: Services) -> Iterator[TestClient]:
    """Somebody without token or session."""
    with TestClient(
        create_app(hub), base_url="http://127.0.0.1", raise_server_exceptions=False
    ) as opened:
        yield opened


@pytest.fixture
def browser(hub: Services) -> Iterator[TestClient]:
    """A signed-in browser."""
    with TestClient(
        create_app(hub), base_url="http://127.0.0.1", raise_server_exceptions=False
    ) as opened:
        token = hub.auth.issue_link(name="anna")
        assert opened.get("/sign-in", params={"token": token}).status_code == 200
        yield opened


class Line:
    """What the factory and a device would send, at the clock's time."""

    def __init__(self, hub: Services, clock: FakeClock) -> None:
        self._hub = hub
        self._clock = clock
        self._sequence = 0

    def camera(
        self, picture: bytes, *, at: datetime | None = None, topic: str = "i/cam", **more: Json
    ) -> Message:
        data = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
        body = {"ts": rfc3339(at or self._clock.now()), "data": data, **more}
        return Message(topic=topic, payload=encode(body), qos=1)

    def said(self, topic: str, *, at: datetime | None = None, **fields: Json) -> Message:
        body = {"ts": rfc3339(at or self._clock.now()), **fields}
        return Message(topic=topic, payload=encode(body), qos=1)

    def status(self, device: str = "edge-1", **more: Json) -> Message:
        body = {
            "schema": "lineside.device/1", "device": device, "state": "online",
            "version": "0.1.0", "at": rfc3339(self._clock.now()), "packages": [],
            "spool_depth": 0, **more,
        }  # fmt: skip
        return Message(topic=f"lineside/hall/device/{device}/status", payload=encode(body))

    def prediction(
        self, *present: str, at: datetime | None = None, picture: bytes = b"",
        device: str = "edge-1", sequence: int = 0, first: int = 1, package: str = PACKAGE,
        camera: str = "rack", inspection: str = "stock", imagemissing: str = "",
    ) -> Message:  # fmt: skip
        self._sequence += 1
        moment = at or self._clock.now()
        digest = digest_of(picture)
        ref = FrameRef(
            id=frame_id(camera=camera, captured_at=moment, digest=digest), camera=camera,
            captured_at=moment, digest=digest,
        )  # fmt: skip
        prediction = answered(ref, present, package=package)
        event = prediction_event(
            replace(prediction, device=device, inspection=inspection), site="hall",
            device=device, sequence=sequence or self._sequence, first=first,
        )  # fmt: skip
        topic = f"lineside/hall/warehouse/{camera}/prediction"
        return Message(
            topic=topic, payload=encode_event(replace(event, imagemissing=imagemissing)), qos=1
        )

    def send(self, *messages: Message) -> None:
        """Take them in as the readers do."""
        for message in messages:
            if message.topic.endswith(("/status", "/prediction", "/verdict")):
                self._hub.device_ingest.take([message])
            else:
                self._hub.plant_ingest.take([message])

    def see(self, *present: str) -> None:
        """The device is known and has just seen these colours."""
        self.send(self.status(), self.prediction(*present))

    def wait(self, seconds: float) -> None:
        self._clock.advance(seconds)

    def ago(self, seconds: float) -> datetime:
        return self._clock.now() - timedelta(seconds=seconds)


def answered(ref: FrameRef, present: tuple[str, ...], *, package: str) -> Prediction:
    """An answer of inspection ``stock``."""
    regions = (("blue", "top"), ("red", "middle"), ("white", "bottom"))
    labels = tuple(
        LabelAnswer(
            name=label,
            region=region,
            label=label,
            probability=0.97 if label in present else 0.03,
            decision=Decision.PRESENT if label in present else Decision.ABSENT,
        )
        for label, region in regions
    )
    return bare_prediction(
        ref, inspection="stock", task="multilabel", labels=labels, package=package,
        dataset="rack/1", latency_ms=StageTimes(total=5.0),
        health=HealthFigures(sharpness=100.0, mean_grey=100.0, clipped_share=0.0),
    )  # fmt: skip


@pytest.fixture
def line(hub: Services, clock: FakeClock) -> Line:
    return Line(hub, clock)


def job_reader(url: str, *, desk: JobRequestHandler, records: Records) -> Reader:
    """The reader of what devices ask the job service; not started."""
    clock = SystemClock()
    session = open_session(url, client_id="hub-jobs", patterns=JOB_TOPICS, clock=clock)
    dead = DeadLetters(records, open_blobs("memory://", clock=clock), clock=clock)
    return Reader("jobs", session=session, store=desk, failures=FailurePolicy(dead, stats=Stats()))
