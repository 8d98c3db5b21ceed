"""The ratios of ``benchmarks/budget.toml``: hot paths beside another way to do the same.

Each is processor time of this process, or of the programs that it starts, in rounds by turns:
a core whose other thread works, or another machine, slows both alike.
"""

import base64
import hashlib
import json
import resource
import runpy
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import process_time

import jsonpatch
import numpy as np
import pytest
from onnx import helper

from lineside.core import SystemClock, decode, decode_toml, encode, parse_plant, rfc3339, to_plain
from lineside.core.factory import SLOTS
from lineside.hub import HubConfig
from lineside.hub.devices.registry import DeviceRegistry
from lineside.links import Message
from lineside.models import Package, Predictor
from lineside.models.wrap import read_wrapping, wrapped
from lineside.store import open_records
from lineside.streams import Entry, RuleEngine, decode_event, encode_event
from lineside.testing import FakeClock
from lineside.testing.engines import file_of
from lineside.testing.events import after, picture_event, small_plant
from lineside.twin import LineState, apply, order_event, patch, replay
from lineside.vision import PictureState, encode_jpeg, open_frame
from tests.hub.conftest import PLANT, open_hub

ROOT = Path(__file__).parents[1]
BUDGET_FILE = "benchmarks/budget.toml"
TWIN = small_plant()
Work = Callable[[int], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much more processor time a path takes than its peer: usually, and at most."""

    path: str
    peer: str
    usual: float
    most: float
    look: str


BUDGETS = decode(
    dict[str, Budget],
    decode_toml((ROOT / BUDGET_FILE).read_bytes(), where=BUDGET_FILE),
    where=BUDGET_FILE,
)

pytestmark = pytest.mark.skipif(
    sys.gettrace() is not None, reason="a tracer (coverage) is part of what would be measured"
)


def own_s(work: Callable[[], object]) -> float:
    """Seconds of the processor that some work takes in this process, all its threads."""
    began_s = process_time()
    work()
    return process_time() - began_s


def programs_s(work: Callable[[], object]) -> float:
    """The same of the programs that some work starts and waits for."""

    def used_s() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    began_s = used_s()
    work()
    return used_s() - began_s


def excess(name: str, ratio: float) -> str:
    """A sentence where a ratio is above its budget, else ""."""
    budget = BUDGETS[name]
    if ratio <= budget.most:
        return ""
    return (
        f"{name}: {budget.path} takes {ratio:.2f} times the processor time of {budget.peer}; "
        f"usual is {budget.usual}, the budget {budget.most} ({BUDGET_FILE}). "
        f"To look closer: {budget.look}"
    )


def hold(
    name: str, path: Work, peer: Work, *, rounds: int, spent: Callable[..., float] = own_s
) -> None:
    """Run both by turns; compare medians. The first round of each does not count."""
    taken = [(spent(partial(path, n)), spent(partial(peer, n))) for n in range(rounds + 1)][1:]
    ratio = median(one for one, _ in taken) / median(other for _, other in taken)
    assert not (said := excess(name, ratio)), said


def test_a_ratio_above_its_budget_is_said_with_both_and_how_to_look_closer() -> None:
    assert not excess("twin_fold", 20.0)
    said = excess("twin_fold", 31.5)
    assert said.startswith("twin_fold: ")
    assert "takes 31.50 times" in said
    assert "the budget 20.0" in said
    assert said.endswith(
        "To look closer: python benchmarks/twin.py --history 2000 --out /tmp/twin.json"
    )


@pytest.mark.parametrize("name", BUDGETS)
def test_a_budget_is_at_most_twice_what_is_usual_and_names_a_file_to_look_closer(name: str) -> None:
    budget = BUDGETS[name]
    assert budget.usual < budget.most <= 2 * budget.usual
    python, file, *_ = budget.look.split()
    assert python == "python"
    assert (ROOT / file).is_file() or file == "-X"
    assert f'"{name}"' in Path(__file__).read_text().partition("# ---- a picture")[2], "measured"


# ---- a picture


def network(side: int) -> bytes:
    """Scores of ten classes, of three convolutions: some milliseconds."""
    rng = np.random.default_rng(0)
    widths = (3, 32, 64, 64)
    constants = {
        f"w{n}": rng.normal(0, 0.1, (out, into, 3, 3)).astype(np.float32)
        for n, (into, out) in enumerate(pairwise(widths))
    } | {"head": rng.normal(0, 0.1, (64, 10)).astype(np.float32)}
    names = ["crops", "v0", "v1", "v2"]
    nodes = [
        helper.make_node("Conv", [before, f"w{n}"], [behind], strides=[2, 2])
        for n, (before, behind) in enumerate(pairwise(names))
    ] + [
        helper.make_node("GlobalAveragePool", ["v2"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["scores"]),
    ]
    return file_of(
        nodes,
        shape=("crops", ("n", 3, side, side)),
        given={"scores": ("n", 10)},
        constants=constants,
    )


def picture() -> bytes:
    coarse = np.random.default_rng(1).integers(0, 255, (30, 40, 3)).astype(np.uint8)
    return encode_jpeg(np.repeat(np.repeat(coarse, 16, axis=0), 16, axis=1))


def test_predictor_beside_decoding_resizing_and_onnx_runtime_by_hand(tmp_path: Path) -> None:
    side, jpeg, clock = 320, picture(), SystemClock()
    (tmp_path / "network.onnx").write_bytes(network(side))
    toml = (
        f'name = "parts"\ntask = "classify"\nlabels = {json.dumps(list("abcdefghij"))}\n'
        f'[licence]\nweights = "Apache-2.0"\n'
        f"[input]\nwidth_px = {side}\nheight_px = {side}\nmean = [127]\nscale = [128]\n"
    )
    wrapping = read_wrapping(toml.encode(), where="test")
    archive = wrapped(network(side), wrapping, pictures=[jpeg], clock=clock)
    predictor = Predictor(Package.read(archive), clock=clock)
    by_hand = runpy.run_path(str(ROOT / "benchmarks/serving_systems/answer.py"))["Answerer"](
        str(tmp_path / "network.onnx"), side=side
    )

    def judge(_: int) -> None:
        frame = open_frame(jpeg, camera="c", captured_at=clock.now())
        assert predictor.predict_single(frame).state is PictureState.OK

    hold("predictor", judge, lambda _: by_hand.scores(jpeg), rounds=40)


# ---- the twin


@pytest.fixture(scope="module")
def busy() -> LineState:
    """Nine places, a hundred closed orders, three open ones."""
    state = replay([picture_event(dict.fromkeys(SLOTS, "red"), at_s=1)], plant=TWIN)
    for number in range(103):
        name = f"ord_{number}"
        slot = SLOTS[number % 9]
        events = [
            order_event(name, "placed", at=after(2), site="hall", colour="red", slot=slot),
            order_event(name, "released", at=after(3), site="hall", reason="done"),
        ]
        state = replay(events[: 1 if number > 99 else 2], plant=TWIN, state=state)
    return state


def test_a_prediction_of_nine_regions_folds_in_beside_reading_it(busy: LineState) -> None:
    names, states = ("red", "blue", "empty"), [busy]
    events = [
        picture_event({slot: names[(number + place) % 3] for place, slot in enumerate(SLOTS)},
                      at_s=10 + number)
        for number in range(301)
    ]  # fmt: skip
    raw = [encode_event(event) for event in events]
    hold(
        "twin_fold",
        lambda n: states.append(apply(states[-1], events[n], plant=TWIN).state),
        lambda n: decode_event(raw[n], where="event"),
        rounds=300,
    )
    assert states[-1].revision == busy.revision + 301


def test_patches_of_a_full_state_beside_jsonpatch(busy: LineState) -> None:
    event = picture_event(dict.fromkeys(SLOTS, "blue"), at_s=10)
    moved = apply(busy, event, plant=TWIN).state
    released = order_event("ord_102", "released", at=after(20), site="hall", reason="x")
    closed = apply(moved, released, plant=TWIN).state

    def both(name: str, begin: LineState, end: LineState) -> None:
        def by_library(_: int) -> object:
            return jsonpatch.make_patch(to_plain(begin), to_plain(end))

        hold(name, lambda _: patch(begin, end), by_library, rounds=50)

    both("twin_patch", busy, moved)
    both("twin_patch_order", moved, closed)


def test_encoding_an_event_beside_the_standard_library() -> None:
    event = picture_event(dict.fromkeys(SLOTS, "red"), at_s=1)
    plain = json.loads(encode_event(event))
    hold(
        "encode_event",
        lambda _: [encode_event(event) for _ in range(20)],
        lambda _: [json.dumps(plain, sort_keys=True).encode() for _ in range(20)],
        rounds=100,
    )


# ---- the hub


def test_ingest_beside_a_subscriber_with_files_and_sqlite_by_hand(tmp_path: Path) -> None:
    """In batches as they come when much comes; each image of its own by a comment in the JPEG."""
    (tmp_path / "plant.toml").write_bytes(PLANT)
    config = HubConfig(data_dir=str(tmp_path / "hub"), plant=str(tmp_path / "plant.toml"))
    (tmp_path / "hub").mkdir()
    clock, jpeg = SystemClock(), picture()
    start = clock.now()

    def frame(number: int) -> Message:
        mark = f"{number:08d}".encode()
        unique = jpeg[:2] + b"\xff\xfe" + (len(mark) + 2).to_bytes(2, "big") + mark + jpeg[2:]
        data = "data:image/jpeg;base64," + base64.b64encode(unique).decode()
        at = rfc3339(start + timedelta(milliseconds=number))
        return Message(topic="i/cam", payload=encode({"ts": at, "data": data}), qos=1)

    def reading(number: int) -> Message:
        at = rfc3339(start + timedelta(milliseconds=number))
        return Message(topic="i/bme680", payload=encode({"ts": at, "t": number % 7}), qos=1)

    base = sqlite3.connect(tmp_path / "by_hand.db")
    base.execute("PRAGMA journal_mode = WAL")
    base.execute("CREATE TABLE log (ts TEXT, digest TEXT, body BLOB)")

    def write(number: int, batch: list[Message]) -> None:
        images, rows = [], []
        for message in batch:
            said = json.loads(message.payload)
            image = base64.b64decode(said.get("data", "").partition(",")[2])
            images.append(image)
            body = b"" if image else message.payload
            rows.append((said["ts"], hashlib.sha256(image).hexdigest(), body))
        (tmp_path / f"{number}.pack").write_bytes(b"".join(images))
        with base:
            base.executemany("INSERT INTO log VALUES (?, ?, ?)", rows)

    with (
        closing(base),
        open_hub(config, plant=parse_plant(PLANT, where="plant"), clock=clock) as hub,
    ):

        def both(name: str, make: Callable[[int], Message]) -> None:
            batches = [[make(50 * n + one) for one in range(50)] for n in range(13)]
            hold(
                name,
                lambda n: hub.plant_ingest.take(batches[n]),
                lambda n: write(n, batches[n]),
                rounds=12,
            )

        both("ingest_frame", frame)
        both("ingest_message", reading)
        assert hub.stats.plain()["frames_stored"] == hub.stats.plain()["frames_published"] == 650


def test_heartbeats_of_many_devices_beside_reading_them(tmp_path: Path) -> None:
    """With what changes in each message; none says something new that must be written."""
    clock = FakeClock()
    names = [f"edge-{number:04}" for number in range(100)]
    with open_records(f"sqlite:///{tmp_path / 'records.db'}", clock=clock) as records:
        devices = DeviceRegistry(records, plant=TWIN, clock=clock)
        with records.transaction():
            for name in names:
                devices.enrol(name)

        def take(number: int) -> None:
            for name, beat in zip(names, beats[number], strict=True):
                devices.take_status(name, beat)
            devices.flush()

        beats = [
            [
                encode({
                    "schema": "lineside.device/1", "device": name, "state": "online",
                    "version": "0.1.0", "at": rfc3339(clock.now()), "frames": number,
                    "packages": [{"inspection": "a", "digest": "sha256:0", "loaded_at": "x"}],
                })
                for name in names
            ]
            for number in range(16)
        ]  # fmt: skip
        hold("heartbeat", take, lambda n: [json.loads(one) for one in beats[n]], rounds=15)


def test_a_window_of_a_rule_beside_reading_its_events() -> None:
    feed = runpy.run_path(str(ROOT / "benchmarks/stream_feed.py"))
    engine, labels = RuleEngine(feed["plant_of"]().rule[0]), feed["LABELS"]
    batches = [
        [
            Entry(type=feed["KIND"], subject=feed["TOPIC"], arrived_us=one,
                  body=feed["line"](one, labels[one % len(labels)]))
            for one in range(500 * n, 500 * n + 500)
        ]
        for n in range(21)
    ]  # fmt: skip
    hold(
        "rule",
        lambda n: engine.take(batches[n]),
        lambda n: [json.loads(one.body) for one in batches[n]],
        rounds=20,
    )


# ---- programs


@pytest.mark.parametrize(
    ("name", "words"),
    [("import", ("-c", "import lineside")), ("help", ("-m", "lineside", "--help"))],
)
def test_start_of_a_program_beside_an_empty_python(name: str, words: tuple[str, ...]) -> None:
    def run(*words: str) -> None:
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)

    hold(name, lambda _: run(*words), lambda _: run("-c", "pass"), rounds=5, spent=programs_s)
