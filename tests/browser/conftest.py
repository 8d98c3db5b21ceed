"""Chromium and a whole line: the simulated factory, a real hub, a device, a small package.

The package is a linear map of 4 x 4 mean colours for each place, fitted on pictures that the
simulator taught: enough to be right, made in a second, and with true activation maps.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2  # noqa: F401  sets LD_LIBRARY_PATH when it is first imported; here, not inside a test
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from lineside.core import Clock, Inspection, Plant, SystemClock, digest_of, load_plant, to_plain
from lineside.core.drivers import SecretUrl
from lineside.core.factory import CameraMessage, StockMessage, read_message
from lineside.edge import EdgeConfig
from lineside.edge import run as run_edge
from lineside.hub import Accounts, HubConfig, Role, RunningHub, running
from lineside.hub.learning.datasets import Teaching
from lineside.hub.services import Services
from lineside.hub.views import RunView
from lineside.links import Message, open_bus
from lineside.models import (
    Engine,
    Golden,
    HealthLimits,
    Lineage,
    Manifest,
    Metric,
    OnnxEngine,
    build_package,
)
from lineside.simulator import SimulateSettings, simulate
from lineside.store import open_records
from lineside.streams import PREDICTION_TYPE
from lineside.testing.links import LONG_S, wait_until
from lineside.vision import LabelRule, Prepare, decode_picture, prepare
from lineside.vision.metrics import LimitRow
from lineside.vision.prepare import crops_for

PLANT = Path(__file__).parents[2] / "examples" / "warehouse" / "plant.toml"
RUNS = ("run_01J9ZQ00000000000000000001", "run_01J9ZQ00000000000000000002")
SIDE = 16
GRID = 4
CELL = SIDE // GRID
CLASSES = ("empty", "blue", "red", "white")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A taught picture with what stands in each place."""

    picture: bytes
    places: tuple[str, ...]


def taught(count: int, *, seed: int) -> list[Shot]:
    """Pictures of random racks with their truth, as the simulator says it on a bus in memory."""
    clock = SystemClock()
    shots: list[Shot] = []
    places: tuple[str, ...] = ()
    with (
        closing(open_bus("memory://teach", client_id="sim", clock=clock)) as bus,
        closing(open_bus("memory://teach", client_id="pupil", clock=clock)) as ear,
    ):
        mailbox = ear.subscribe(("i/cam", "f/i/stock"), size=4 * count + 16, name="taught")
        settings = SimulateSettings(seed=seed, teach=count, fps=100.0)
        simulate(settings, bus=bus, clock=clock, stop=threading.Event())
        for message in mailbox.get_many(most=4 * count, timeout_s=5.0):
            if message.topic == "i/cam":
                shot = read_message(CameraMessage, message.payload, where="i/cam")
                shots.append(Shot(picture=shot.picture(), places=places))
            else:
                stock = read_message(StockMessage, message.payload, where="f/i/stock")
                places = tuple(
                    item.workpiece.type.lower() if item.workpiece else "empty"
                    for item in stock.stock_items
                )
        mailbox.close()
    return shots


def settings_of(inspection: Inspection) -> Prepare:
    view = inspection.view
    assert view is not None
    size = {"width_px": view.width_px, "height_px": view.height_px}
    crops = crops_for(inspection.region, margin=0.15, **size)
    return Prepare(crops=crops, width_px=SIDE, height_px=SIDE, view=view)


def _cells(crops: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, 3, 16, 16) crops as (n, 48) mean colours of 4 x 4 cells."""
    n = crops.shape[0]
    cells = crops.reshape(n, 3, GRID, CELL, GRID, CELL).mean(axis=(3, 5))
    return np.asarray(cells.reshape(n, -1), np.float64)


def fitted(shots: Sequence[Shot], settings: Prepare) -> tuple[NDArray[np.float64], float]:
    """Ridge regression from cells to +-4 for each class: (48 + 1, 4) weights; right share."""
    rows, wanted = [], []
    for shot in shots:
        rows.append(_cells(prepare(decode_picture(shot.picture), settings)))
        wanted += [[8.0 if name == c else -8.0 for c in CLASSES] for name in shot.places]
    x = np.vstack(rows)
    x = np.hstack([x, np.ones((len(x), 1))])
    y = np.array(wanted)
    weights = np.linalg.solve(x.T @ x + 0.5 * np.eye(x.shape[1]), x.T @ y)
    right = float(((x @ weights).argmax(axis=1) == y.argmax(axis=1)).mean())
    return weights, right


def network(weights: NDArray[np.float64], *, rows: int) -> bytes:
    """Cells times weights is the activation; its sum and the bias are the logits."""
    import onnx
    from onnx import TensorProto, helper

    classes = len(CLASSES)
    kernel = weights[:-1].T.reshape(1, classes, 3, GRID, GRID).astype(np.float32)
    bias = weights[-1].astype(np.float32)
    nodes = [
        helper.make_node(
            "AveragePool", ["crops"], ["cells"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]
        ),
        helper.make_node("Unsqueeze", ["cells", "one"], ["cells5"]),
        helper.make_node("Mul", ["cells5", "kernel"], ["parts"]),
        helper.make_node("ReduceSum", ["parts", "two"], ["activation"], keepdims=0),
        helper.make_node("ReduceSum", ["activation", "two_three"], ["sums"], keepdims=0),
        helper.make_node("Add", ["sums", "bias"], ["logits"]),
        helper.make_node("Mul", ["crops", "zero"], ["nothing"]),
        helper.make_node("ReduceMax", ["nothing", "all_axes"], ["distance"], keepdims=0),
    ]
    shape = [rows, 3, SIDE, SIDE]
    maps = [rows, classes, GRID, GRID]
    numbers = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "mean colours",
        [helper.make_tensor_value_info("crops", numbers, shape)],
        [
            helper.make_tensor_value_info("logits", numbers, [rows, classes]),
            helper.make_tensor_value_info("activation", numbers, maps),
            helper.make_tensor_value_info("distance", numbers, [rows]),
        ],
        [
            helper.make_tensor("kernel", numbers, kernel.shape, kernel.ravel()),
            helper.make_tensor("bias", numbers, bias.shape, bias.ravel()),
            helper.make_tensor("zero", numbers, [1], [0.0]),
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("two", TensorProto.INT64, [1], [2]),
            helper.make_tensor("two_three", TensorProto.INT64, [2], [2, 3]),
            helper.make_tensor("all_axes", TensorProto.INT64, [3], [1, 2, 3]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _rules(inspection: Inspection) -> tuple[LabelRule, ...]:
    limits = tuple(
        LimitRow(cut=cut / 10, escapes=cut, over_rejects=10 - cut, cost=float(abs(cut - 5) + 5))
        for cut in range(1, 10)
    )
    return tuple(
        LabelRule(
            name=f"{region.id}/{name}",
            region=region.id,
            label=name,
            output=output,
            slope=1.0,
            offset=0.0,
            floor=0.005,
            low=0.3,
            high=0.6,
            error_rate=0.01,
            calibration_pictures=60,
            limits=limits if region.id == "A1" else (),
        )
        for region in inspection.region
        for output, name in enumerate(CLASSES)
    )


def package_for(plant: Plant, *, pictures: int = 60, seed: int = 5) -> bytes:
    """The archive of a package that answers the warehouse's inspection."""
    inspection = plant.find_inspection("stock")
    settings = settings_of(inspection)
    shots = taught(pictures, seed=seed)
    weights, right = fitted(shots, settings)
    model = network(weights, rows=len(inspection.region))
    golden = shots[0].picture
    shape = (len(inspection.region), 3, SIDE, SIDE)
    engine = OnnxEngine(model, crops=shape, where="made here")
    logits = engine.run(prepare(decode_picture(golden), settings), outputs=("logits",))[0]
    n = pictures * len(inspection.region)
    manifest = Manifest(
        schema="lineside.manifest/1",
        name="colours",
        task="multilabel",
        inspection=inspection.id,
        labels=tuple(f"{region.id}/{c}" for region in inspection.region for c in CLASSES),
        prepare=settings,
        rules=_rules(inspection),
        policy=inspection.policy,
        health=HealthLimits(
            sharpness_min=5.0,
            mean_grey_min=10.0,
            mean_grey_max=240.0,
            clipped_share_max=0.8,
            residual_max_px=3.0,
            feature_distance_max=1.5,
        ),
        engine=Engine(file="network.onnx", digest=digest_of(model)),
        golden=(
            Golden(
                file="golden/0.jpg",
                digest=digest_of(golden),
                logits=tuple(tuple(float(x) for x in row) for row in logits),
                matrix=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
            ),
        ),
        lineage=Lineage(
            dataset="rack/1",
            data_digest=digest_of(b"taught"),
            pictures=pictures,
            seed=seed,
            code_version="0.1.0",
            created_at="2026-01-01T12:00:00.000Z",
            warnings=("Colours were seen in two lightings only.",),
        ),
        metrics={
            "accuracy": Metric(value=right, low=right - 0.02, high=1.0, n=n, baseline=0.4),
            "accuracy/A1": Metric(value=right, low=right - 0.1, high=1.0, n=60, baseline=0.4),
            "unsure_rate": Metric(value=0.01, low=0.0, high=0.02, n=n, baseline=0.0),
        },
        reference_file="reference.jpg",
        reference_digest=digest_of(golden),
    )
    files = {"network.onnx": model, "golden/0.jpg": golden, "reference.jpg": golden}
    return build_package(manifest, files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A running line."""

    hub: RunningHub
    package: str
    folder: Path

    @property
    def url(self) -> str:
        return self.hub.url


@contextmanager
def line_running(
    folder: Path, *, archive: bytes, speed: float = 20.0, fps: float = 1.0
) -> Iterator[Line]:
    """Hub, device and factory, each on threads of this process, over the hub's own broker."""
    clock = SystemClock()
    config = HubConfig(data_dir=str(folder / "hub"), plant=str(PLANT), port=0, bus_port=0)
    stop = threading.Event()
    _write_runs(config, clock=clock)
    with running(config, clock=clock) as hub:
        package = hub.services.packages.add(archive, by="test")
        use = hub.services.packages.use
        use(package.digest, inspection="stock", by="M. Keller", reason="first package")
        edge = EdgeConfig(
            device="edge-1",
            bus=SecretUrl(hub.bus_url),
            plant=str(PLANT),
            data_dir=str(folder / "edge"),
            hub=hub.url,
            token_file=str(folder / "hub" / "tokens" / "device.token"),
            trust_root=str(folder / "hub" / "trust"),
        )
        device = threading.Thread(
            target=run_edge, args=(edge,), kwargs={"clock": clock, "stop": stop}, name="edge"
        )
        factory = threading.Thread(
            target=_simulate,
            args=(hub.bus_url, stop),
            kwargs={"speed": speed, "fps": fps},
            name="factory",
        )
        device.start()
        factory.start()
        try:
            _furnish(hub)
            yield Line(hub=hub, package=package.digest, folder=folder)
        finally:
            stop.set()
            factory.join()
            device.join()


def _write_runs(config: HubConfig, *, clock: Clock) -> None:
    """A run that ended well and one that a dead hub left behind, as its records say."""
    now = clock.now()
    done = RunView(
        id=RUNS[0], state="done", task="multilabel", dataset="rack", version=1,
        inspection="stock", seed=7, started_at=now, started_by="M. Keller", ended_at=now,
        percent=100.0, stage="done", loss=0.02, held_out=0.98,
        metrics={"accuracy": {"value": 0.98, "low": 0.95, "high": 0.99, "n": 540, "baseline": 0.4}},
        history=((10.0, 0.9, None), (50.0, 0.3, 0.9), (100.0, 0.02, 0.98)),
        log=("features 60 of 60", "heads 36 of 36"),
    )  # fmt: skip
    left = replace(done, id=RUNS[1], state="running", percent=40.0, ended_at=None, metrics={})
    Path(config.data_dir).mkdir(parents=True, exist_ok=True)
    with open_records(config.records_url, clock=clock) as records:
        for view in (done, left):
            records.documents.put("run", view.id, body={"view": to_plain(view), "pid": 0})


def _furnish(hub: RunningHub) -> None:
    """Wait for answered frames, teach two of them, freeze, and send what nobody can read."""
    services = hub.services
    wait_until(lambda: len(services.events.page(kind=PREDICTION_TYPE, limit=3)) == 3)
    rows = services.frames.page(camera="rack", limit=2)
    teaching = Teaching(
        frames=tuple(row.id for row in rows), labels=("A1/red",), known=("A1/blue",)
    )
    services.datasets.teach("rack", teaching, by="M. Keller")
    services.datasets.freeze("rack", by="M. Keller")
    services.plant_ingest.take([Message(topic="i/cam", payload=b"{")])
    people = {"M. Keller": Role.ADMIN, "A. Weber": Role.ENGINEER, "T. Otto": Role.OPERATOR}
    add_people(services, people=people)


def _simulate(bus_url: str, stop: threading.Event, *, speed: float, fps: float) -> None:
    clock = SystemClock()
    settings = SimulateSettings(seed=11, fps=fps, speed=speed, drift_px=3.0)
    with closing(open_bus(bus_url, client_id="factory", clock=clock)) as bus:
        simulate(settings, bus=bus, clock=clock, stop=stop)


CHROMIUM = Path("/usr/bin/chromium")
LONG_MS = 1000 * LONG_S
"""How long a page and what stands on it is waited for; only a failure takes so long."""
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]


@dataclass(slots=True, kw_only=True)
class Watched:
    """A page and everything it complained about or asked other hosts for."""

    page: Page
    complaints: list[str]
    strangers: list[str]

    def quiet(self, *, but: str | Sequence[str] = ()) -> None:
        """Nothing but these things was complained about, and no other host was asked."""
        expected = (but,) if isinstance(but, str) else but
        assert not [said for said in self.complaints if not any(one in said for one in expected)]
        assert not self.strangers


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Off here: the hub runs in this process, and its pools of threads grow while it answers."""


@pytest.fixture(scope="session")
def archive() -> bytes:
    return package_for(load_plant(PLANT))


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser that reaches this machine only; a machine that does much else is no failure."""
    expect.set_options(timeout=LONG_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        browser.on("context", lambda context: context.set_default_timeout(LONG_MS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def chromium(absent: Callable[[str, str], None]) -> Iterator[Browser]:
    if not CHROMIUM.exists():
        absent("browser", f"no Chromium at {CHROMIUM}")
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def line(archive: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    with line_running(tmp_path_factory.mktemp("line"), archive=archive) as running_line:
        yield running_line


@pytest.fixture(scope="module")
def signed_in(chromium: Browser, line: Line) -> str:
    """Cookies of a signed-in browser, as a file that contexts start from."""
    context = chromium.new_context()
    page = context.new_page()
    sign_in_by_link(page, line.hub, name="M. Keller")
    state = str(line.folder / "state.json")
    context.storage_state(path=state)
    context.close()
    return state


def watch(context: BrowserContext, url: str) -> Watched:
    """A new page under watch."""
    watched = Watched(page=context.new_page(), complaints=[], strangers=[])
    page = watched.page

    def heard(kind: str, text: str) -> None:
        if kind in ("error", "warning") and "GL Driver Message" not in text:
            watched.complaints.append(f"{kind}: {text}")

    page.on(
        "console",
        lambda message: heard(message.type, f"{message.text} {message.location['url']}"),
    )
    page.on("pageerror", lambda error: heard("error", str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((url, "data:", "blob:"))
            else watched.strangers.append(request.url)
        ),
    )
    return watched


PASSWORD = "correct horse battery"  # noqa: S105  of nobody
PEOPLE = {"Ada Engine": Role.ENGINEER, "Eve Approve": Role.APPROVER, "Vic View": Role.VIEWER}


def add_people(services: Services, *, people: Mapping[str, Role] = PEOPLE) -> None:
    """Give each of these people an account."""
    clock = SystemClock()
    site, journal = services.plant.site, services.ledger
    accounts = Accounts(services.records, journal=journal, site=site, clock=clock)
    for name, role in people.items():
        accounts.add(name, role=role, password=PASSWORD, by="command line")


def sign_in_by_link(page: Page, hub: RunningHub, *, name: str) -> None:
    """Open a one-time link and wait for the first page: the link's own page goes on to it."""
    page.goto(f"{hub.url}/sign-in?token={hub.services.auth.issue_link(name=name)}")
    page.wait_for_url(f"{hub.url}/")


def sign_in(page: Page, url: str, *, name: str, password: str = PASSWORD) -> None:
    """Ask for the first page without a session, and fill in the form that it leads to."""
    page.goto(url)
    page.wait_for_url("**/welcome")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


@contextmanager
def person(chromium: Browser, url: str, name: str) -> Iterator[Watched]:
    """A browser of its own in which somebody signed in by name and password."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    try:
        watched = watch(context, url)
        sign_in(watched.page, url, name=name)
        expect(watched.page.locator(".who b")).to_have_text(name)
        yield watched
    finally:
        context.close()


@pytest.fixture
def open_page(chromium: Browser, line: Line, signed_in: str) -> Iterator[Callable[..., Watched]]:
    """Open a page of the running line, signed in; each theme and size is one browser context."""
    contexts: dict[tuple[str, tuple[int, int]], BrowserContext] = {}

    def opened(path: str, *, theme: str = "dark", size: tuple[int, int] = (1440, 900)) -> Watched:
        if (theme, size) not in contexts:
            contexts[theme, size] = chromium.new_context(
                color_scheme="dark" if theme == "dark" else "light",
                viewport={"width": size[0], "height": size[1]},
                storage_state=signed_in,
            )
        watched = watch(contexts[theme, size], line.url)
        watched.page.goto(line.url + path)
        return watched

    yield opened
    for context in contexts.values():
        context.close()


@pytest.fixture
def page(open_page: Callable[..., Any]) -> Iterator[Callable[..., Page]]:
    """Open pages that have to stay quiet to the end."""
    opened: list[Any] = []

    def go(path: str, **more: str) -> Page:
        opened.append(open_page(path, **more))
        page: Page = opened[-1].page
        return page

    yield go
    for watched in opened:
        watched.quiet()
