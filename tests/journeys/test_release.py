"""A release's whole way, by programs of their own: hub, three devices, a line.

Trained, quantised, approved by another person, tried on one device, brought to all; then a bad
version, which goes back by itself. The hub is killed while the first device is being updated, and
the second device in the middle of its own update.
"""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from lineside.cli.demo.stage import Program, Programs
from lineside.core import RefusedError, SystemClock, UnavailableError
from lineside.edge.delivery.spool import open_spool
from lineside.library.client import HubClient
from lineside.models import Package, Parity, build_package
from lineside.store import Records, open_records
from lineside.streams import PREDICTION_TYPE, decode_event
from lineside.testing.fault_proxy import FaultProxy
from lineside.testing.links import LONG_S
from tests.links.conftest import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

NAMES = ("edge-1", "edge-2", "edge-3")
MAKER, APPROVER = "R. Novak", "M. Keller"
PICTURES, FPS, FRAMES = 64, 4, 12
T = TypeVar("T")

PLANT = """
schema = "lineside.plant/1"
site = "metal"
line = [{ id = "belt", name = "Belt" }]

[[camera]]
id = "plate"
line = "belt"
source = "mqtt:surface/cam"

[[inspection]]
id = "surface"
camera = "plate"
task = "classify"
trigger = { on = "part" }
labels = ["normal", "anomalous"]
max_age_s = 60.0

[[route]]
topic = "surface/cam"
kind = "frame"
camera = "plate"
"""
PLAN = {
    "devices": list(NAMES),
    "steps": [{"canary": 1}, {"percent": 100}],
    # What a busy machine does to milliseconds is no matter of this journey.
    "limits": {"frames": FRAMES, "latency": 1000.0, "changed": 0.3, "score": 0.3},
}


@dataclass
class Site:
    """A folder, the programs that run on it, and what people do."""

    folder: Path
    programs: Programs
    stack: ExitStack
    running: dict[str, Program] = field(default_factory=dict)
    ways: dict[str, FaultProxy] = field(default_factory=dict)
    clients: dict[str, HubClient] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    bus_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.base, self.bus = f"http://127.0.0.1:{self.port}", f"mqtt://127.0.0.1:{self.bus_port}"
        (self.folder / "plant.toml").write_text(PLANT)
        (self.folder / "hub.toml").write_text(
            f'data_dir = "{self.folder}/hub"\nplant = "{self.folder}/plant.toml"\n'
            f'port = {self.port}\nbus = "embedded"\nbus_port = {self.bus_port}\n'
        )

    # ---- programs

    def told(self, *words: str) -> str:
        """What a command that ends by itself prints."""
        command = [sys.executable, "-m", "lineside", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def start(self, name: str) -> None:
        words = {"line": ["simulate", "surface", f"--bus={self.bus}", f"--fps={FPS}", "--seed=5"]}
        config = "hub.toml" if name == "hub" else f"{name}.toml"
        room = "hub" if name == "hub" else "edge"
        given = words.get(name, [room, "--config", str(self.folder / config)])
        self.running[name] = self.programs.start(name, *given)

    def kill(self, name: str) -> None:
        """Without a word, as a power cut would."""
        program = self.running.pop(name)
        program.process.kill()
        program.process.wait()
        self.programs.stop(program)

    def stop(self, name: str) -> None:
        self.programs.stop(self.running.pop(name))

    def until(self, ask: Callable[[], T | None], what: str) -> T:
        """What it answers, once that is something; a hub that is away is asked again."""
        clock, pause = SystemClock(), threading.Event()
        until_s = clock.monotonic() + LONG_S
        while clock.monotonic() < until_s:
            self.programs.check()
            try:
                found = ask()
            except UnavailableError:
                found = None
            if found:
                return found
            pause.wait(0.1)
        raise AssertionError(f"{what} did not come; logs: {self.folder}")

    def begin(self) -> None:
        """Hub, two people, three devices without a package, each with its own way to the hub."""
        self.start("hub")
        self.until(HubClient(self.base, token="").ready, "the hub")
        config = f"--config={self.folder}/hub.toml"
        for name, role in ((MAKER, "engineer"), (APPROVER, "approver")):
            token = self.told("token", "issue", name, f"--role={role}", config).split()[-1]
            self.clients[name] = HubClient(self.base, token=token)
        for name in NAMES:
            way = self.ways[name] = self.stack.enter_context(FaultProxy(self.base))
            (self.folder / f"{name}.toml").write_text(
                f'device = "{name}"\nbus = "{self.bus}"\nhub = "{way.url}"\n'
                f'token_file = "{self.folder}/hub/tokens/device.token"\n'
                f'plant = "{self.folder}/plant.toml"\ndata_dir = "{self.folder}/{name}"\n'
                f'trust_root = "{self.folder}/hub/trust/root.json"\nstatus_every_s = 1.0\n'
                "publish_logs = false\n"
            )
            self.start(name)

    # ---- what people do

    @property
    def maker(self) -> HubClient:
        return self.clients[MAKER]

    @property
    def approver(self) -> HubClient:
        return self.clients[APPROVER]

    def learn(self) -> tuple[Path, Path]:
        """A data set version from simulated pictures, a package of it, and its int8 variant."""
        pictures, config = self.folder / "plates", f"--config={self.folder}/hub.toml"
        drawn = (f"--pictures={PICTURES}", "--seed=7", "--faulty-share=0.5")
        self.told("simulate", "surface", f"--folder={pictures}", *drawn)
        labelled = str(pictures / "img-classification")
        self.told("dataset", "import", labelled, "--into=plates", f"--by={MAKER}", config)
        self.told("dataset", "freeze", "plates", f"--by={MAKER}", config)
        whole, variant = self.folder / "whole.lspkg", self.folder / "int8.lspkg"
        data = ("--data=dataset://plates/1", config)
        asked = ("--task=classify", f"--plant={self.folder}/plant.toml", "--inspection=surface")
        short = ("--setting=input_px=96", "--setting=epochs=2")
        self.told("train", *asked, *data, *short, f"--out={whole}")
        self.told("package", "quantize", str(whole), *data, "--calibrate=16", f"--out={variant}")
        return whole, variant

    def register(self, package: bytes) -> dict[str, Any]:
        digest = self.maker.upload("/packages", package)["digest"]
        made = self.maker.post("/models/surface/versions", {"package": digest})
        return dict(made)

    def approve(self, number: int) -> None:
        said = {"reason": "looked at its report"}
        self.approver.post(f"/models/surface/versions/{number}/approve", said)

    def roll_out(self, number: int) -> str:
        asked = {"group": "surface", "version": number, "plan": PLAN, "reason": "journey"}
        return str(self.approver.post("/rollouts", asked)["id"])

    def rollout(self, name: str) -> dict[str, Any]:
        return dict(self.maker.get(f"/rollouts/{name}"))

    def ended(self, name: str) -> dict[str, Any]:
        over = ("done", "aborted", "rolled back")

        def ask() -> dict[str, Any] | None:
            found = self.rollout(name)
            return found if found["state"] in over else None

        return self.until(ask, f"the end of {name}")

    def job_of(self, rollout: str, device: str) -> str:
        found = {one["id"]: one["status"] for one in self.rollout(rollout)["devices"]}
        return str(found[device])

    # ---- what devices and the hub know

    def runs(self) -> dict[str, str]:
        return {
            one["id"]: package["digest"]
            for one in self.maker.get("/devices")["items"]
            for package in one["packages"]
        }

    def wait_for(self, digest: str) -> None:
        self.until(lambda: self.runs() == dict.fromkeys(NAMES, digest), f"{digest} on all devices")

    def answer_of(self, digest: str) -> str:
        """The newest event that a package said."""
        found = self.maker.get("/events", type=PREDICTION_TYPE, newest_first=True, limit=30)
        return next((one["id"] for one in found["items"] if one["data"]["package"] == digest), "")


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What came of it."""

    folder: Path
    registered: dict[str, Any]
    refused: str
    parity: Parity | None
    digests: tuple[str, str, str]
    good: dict[str, Any]
    bad: dict[str, Any]
    runs_after: dict[str, str]
    trace: dict[str, Any]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """One journey; its programs have ended."""
    folder = tmp_path_factory.mktemp("release")
    with ExitStack() as stack:
        programs = stack.enter_context(Programs(folder))
        yield journey(Site(folder=folder, programs=programs, stack=stack))


def journey(site: Site) -> Ran:
    site.begin()
    whole, variant = (path.read_bytes() for path in site.learn())
    first = site.register(whole)
    site.approve(first["number"])
    use = {"inspection": "surface", "reason": "the first one"}
    site.approver.post(f"/packages/{first['digest']}/use", use)
    site.wait_for(first["digest"])
    site.start("line")
    site.until(lambda: site.answer_of(first["digest"]), "the first answer")

    second = site.register(variant)
    with pytest.raises(RefusedError) as refused:
        site.maker.post("/models/surface/versions/2/approve", {"reason": "mine is good"})
    site.approve(2)
    good = with_two_kills(site)
    site.wait_for(second["digest"])

    third = site.register(swapped(whole))
    site.approve(3)
    bad = site.ended(site.roll_out(3))
    site.wait_for(second["digest"])
    event = site.until(lambda: site.answer_of(second["digest"]), "an answer of the variant")
    trace = json.loads(site.told("trace", event, f"--config={site.folder}/hub.toml", "--json"))
    runs_after = site.runs()
    end(site)
    return Ran(
        folder=site.folder,
        registered=second,
        refused=str(refused.value),
        parity=Package.read(variant).manifest.parity,
        digests=(first["digest"], second["digest"], third["digest"]),
        good=good,
        bad=bad,
        runs_after=runs_after,
        trace=trace,
    )


def with_two_kills(site: Site) -> dict[str, Any]:
    """The good version's rollout: the hub dies in its first job, the second device in its own."""
    for name in NAMES[:2]:
        site.ways[name].hold()
    rollout = site.roll_out(2)
    site.until(lambda: site.ways["edge-1"].held, "the canary's download")
    site.until(lambda: site.job_of(rollout, "edge-1") == "IN_PROGRESS", "the canary's job")
    site.kill("hub")
    site.ways["edge-1"].release()
    site.start("hub")
    site.until(lambda: site.ways["edge-2"].held, "the second device's download")
    assert site.job_of(rollout, "edge-1") == "SUCCEEDED"
    site.until(lambda: site.job_of(rollout, "edge-2") == "IN_PROGRESS", "the second device's job")
    site.kill("edge-2")
    site.ways["edge-2"].release()
    site.start("edge-2")
    return site.ended(rollout)


def swapped(archive: bytes) -> bytes:
    """The same network, whose classes somebody named the wrong way round: golden answers agree."""
    package = Package.read(archive)
    files = {name: data for name, data in package.files.items() if name != "manifest.json"}
    rule = package.manifest.classes
    assert rule is not None
    turned = replace(rule, labels=rule.labels[::-1])
    return build_package(replace(package.manifest, classes=turned), files)


def end(site: Site) -> None:
    """Stop the line, let the last answers arrive, stop the rest."""
    site.stop("line")

    def arrived() -> bool:
        return all(one["spool_depth"] == 0 for one in site.maker.get("/devices")["items"])

    site.until(arrived, "the last answers")
    for name in (*NAMES, "hub"):
        site.stop(name)


def test_a_variant_is_registered_with_its_parity_and_waits_for_another_person(ran: Ran) -> None:
    assert ran.registered["number"] == 2
    assert ran.registered["status"] == "PendingManualApproval"
    assert MAKER in ran.refused
    assert ran.parity is not None
    assert ran.parity.original == ran.digests[0]
    assert ran.parity.loss.high <= ran.parity.bound


def test_the_canary_comes_first_and_kills_only_cost_time(ran: Ran) -> None:
    assert (ran.good["state"], ran.good["why"]) == ("done", "3 of 3 devices run it")
    assert {one["id"]: (one["step"], one["status"]) for one in ran.good["devices"]} == {
        "edge-1": (1, "SUCCEEDED"), "edge-2": (2, "SUCCEEDED"), "edge-3": (2, "SUCCEEDED"),
    }  # fmt: skip
    assert len(ran.good["jobs"]) == 2, "one for each step, also after the hub came back"
    states = [one["state"] for one in ran.good["history"]]
    assert states == ["planned", "running", "widening", "running", "done"]


def test_the_bad_version_goes_back_from_the_canary_alone(ran: Ran) -> None:
    assert ran.bad["state"] == "rolled back"
    (why,) = [one["why"] for one in ran.bad["history"] if one["state"] == "going back"]
    assert "edge-1/surface" in why
    statuses = {one["id"]: one["status"] for one in ran.bad["devices"]}
    assert statuses["edge-2"] == statuses["edge-3"] == "WAITING"
    assert ran.runs_after == dict.fromkeys(NAMES, ran.digests[1])


def test_an_answer_leads_to_frame_package_data_set_and_approver(ran: Ran) -> None:
    assert ran.trace["chain_ok"] is True
    steps = {one["kind"]: one for one in ran.trace["steps"]}
    assert steps["frame"]["id"].startswith("frm_")
    assert steps["package"]["id"] == ran.digests[1]
    assert steps["dataset"]["id"] == "plates/1"
    assert steps["approval"]["text"].startswith(f"approved by {APPROVER} as surface/2")


def test_no_event_is_lost_and_none_is_there_twice(ran: Ran) -> None:
    with open_records(f"sqlite:///{ran.folder}/hub/records.db", clock=SystemClock()) as records:
        for name in NAMES:
            spool = open_spool(ran.folder / name / "spool.db", max_bytes=1_000_000_000)
            first, last, dropped = spool.first, spool.last, spool.dropped
            spool.close()
            stored = sequences(records, source=f"/metal/device/{name}")
            assert dropped == 0
            assert first > FRAMES
            assert set(stored.values()) == {1}
            assert set(range(1, first)) <= set(stored), "what was acknowledged is there"
            assert max(stored) <= last
        chains = [records.log.verify(source) for source in records.log.heads()]
    assert all(one.ok for one in chains), chains


def sequences(records: Records, *, source: str) -> Counter[int]:
    """How often each of a device's numbers stands in the hub's log."""
    found: Counter[int] = Counter()
    after = 0
    while page := records.log.read(after=after, source=source, limit=1000):
        found.update(decode_event(one.entry.body, where=one.entry.id).deviceseq for one in page)
        after = page[-1].position
    return found
