"""Bad versions go back, by themselves and by a person, whatever the rollouts before named.

Hub and devices are the programs as users start them; people use the command line.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from lineside.cli.demo.stage import Program, Programs
from lineside.core import SystemClock, UnavailableError
from lineside.library.client import HubClient
from lineside.testing.links import LONG_S
from tests.hub.conftest import DISC_PLANT
from tests.journeys.test_rollout import BAD, camera_running, discs, package
from tests.links.conftest import free_port

T = TypeVar("T")
NAMES = ("edge-1", "edge-2", "edge-3")
FRAMES = 10
EVERY_S = 0.2


@dataclass
class Site:
    """A folder and the programs that run on it."""

    folder: Path
    programs: Programs
    port: int = field(default_factory=free_port)
    bus_port: int = field(default_factory=free_port)
    running: dict[str, Program] = field(default_factory=dict)
    clients: dict[str, HubClient] = field(default_factory=dict)
    tokens: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.base, self.bus = f"http://127.0.0.1:{self.port}", f"mqtt://127.0.0.1:{self.bus_port}"
        (self.folder / "plant.toml").write_bytes(DISC_PLANT)
        (self.folder / "hub.toml").write_text(
            f'data_dir = "{self.folder}/hub"\nplant = "{self.folder}/plant.toml"\n'
            f'port = {self.port}\nbus = "embedded"\nbus_port = {self.bus_port}\n'
        )
        for name in NAMES:
            (self.folder / f"{name}.toml").write_text(
                f'device = "{name}"\nbus = "{self.bus}"\nhub = "{self.base}"\n'
                f'token_file = "{self.folder}/hub/tokens/device.token"\n'
                f'plant = "{self.folder}/plant.toml"\ndata_dir = "{self.folder}/{name}"\n'
                f'trust_root = "{self.folder}/hub/trust/root.json"\nstatus_every_s = 1.0\n'
                "publish_logs = false\n"
            )

    def start(self, name: str) -> None:
        room = "hub" if name == "hub" else "edge"
        config = str(self.folder / f"{name}.toml")
        self.running[name] = self.programs.start(name, room, "--config", config)

    def kill(self, name: str) -> None:
        program = self.running.pop(name)
        program.process.kill()
        program.process.wait()
        self.programs.stop(program)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lineside", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=False)

    def told(self, *words: str) -> str:
        done = self.command(*words)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def begin(self) -> None:
        self.start("hub")
        self.until(HubClient(self.base, token="").ready, "the hub")
        for name, role in (("mika", "engineer"), ("eve", "approver")):
            config = f"--config={self.folder}/hub.toml"
            token = self.told("token", "issue", name, f"--role={role}", config).split()[-1]
            self.clients[name] = HubClient(self.base, token=token)
            self.tokens[name] = self.folder / f"{name}.token"
            self.tokens[name].write_text(token)
        for name in NAMES:
            self.start(name)
        self.until(lambda: len(self.get("/devices")) == len(NAMES), "three devices")

    def until(self, ask: Callable[[], T | None], what: str) -> T:
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
            pause.wait(EVERY_S)
        raise AssertionError(f"{what} did not come; logs: {self.folder}")

    # ---- what people do and see

    def get(self, path: str) -> list[dict[str, Any]]:
        return list(self.clients["eve"].items(path))

    def approve(self, archive: bytes) -> str:
        mika, eve = self.clients["mika"], self.clients["eve"]
        digest = str(mika.upload("/packages", archive)["digest"])
        made = mika.post("/models/discs/versions", {"package": digest})
        eve.post(f"/models/discs/versions/{made['number']}/approve", {"reason": "good on the part"})
        return digest

    def rollout(self, *words: str) -> subprocess.CompletedProcess[str]:
        to = (f"--hub={self.base}", f"--token={self.tokens['eve']}", "--json")
        return self.command("rollout", *words, *to)

    def start_rollout(self, version: int, devices: tuple[str, ...], *more: str) -> str:
        named = [f"--device={name}" for name in devices]
        plan = self.folder / "plan.json"
        plan.write_text(json.dumps({
            "steps": [{"percent": 100}],
            # What a busy machine does to milliseconds is no matter of this journey.
            "limits": {"frames": FRAMES, "latency": 1000.0},
        }))  # fmt: skip
        done = self.rollout("start", f"discs/{version}", f"--plan={plan}", *named, *more)
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["id"])

    def ended(self, rollout: str) -> dict[str, Any]:
        def settled() -> dict[str, Any] | None:
            found = next(one for one in self.get("/rollouts") if one["id"] == rollout)
            return found if found["settled"] else None

        return self.until(settled, f"the end of {rollout}")

    def runs(self) -> dict[str, str]:
        """What devices report, as the hub shows it."""
        return {
            str(device["id"]): str(one["digest"])
            for device in self.get("/devices")
            for one in device["packages"]
        }

    def all_run(self, digest: str, names: tuple[str, ...] = NAMES) -> None:
        def so() -> bool:
            runs = self.runs()
            return all(runs.get(name) == digest for name in names)

        self.until(so, f"{digest} on {names}")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        programs = stack.enter_context(Programs(tmp_path))
        made = Site(folder=tmp_path, programs=programs)
        made.begin()
        stack.enter_context(camera_running(made.bus, discs()))
        yield made


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_bad_version_goes_back_by_itself_and_a_person_goes_back_by_hand(site: Site) -> None:
    good = site.approve(package("first"))
    better = site.approve(package("second", low=0.41, high=0.61))
    bad = site.approve(package("third", low=0.001, high=0.002))  # everything is present
    assert site.ended(site.start_rollout(1, NAMES))["state"] == "done"
    site.all_run(good)

    # A bad version on two of the three: both go back by themselves, one of them through a kill.
    rollout = site.start_rollout(3, NAMES[:2])
    # The one that runs it is killed: a crash speaks against the version that a device runs.
    killed = site.until(
        lambda: next((name for name, digest in site.runs().items() if digest == bad), ""),
        "the bad version on a device",
    )
    site.kill(killed)
    site.until(
        lambda: (
            next(one for one in site.get("/rollouts") if one["id"] == rollout)["state"]
            == "going back"
        ),
        "the way back",
    )
    site.start(killed)
    ended = site.ended(rollout)
    assert ended["state"] == "rolled back", ended
    reasons = (*BAD, "crashes since it runs")  # the kill may be told before enough frames are
    assert any(words in one["why"] for one in ended["history"] for words in reasons)
    site.all_run(good)

    # A person goes back: by rollback, and by starting the older version.
    second = site.start_rollout(2, NAMES)
    assert site.ended(second)["state"] == "done"
    site.all_run(better)
    assert site.rollout("rollback", second, "--reason=drill").returncode == 0
    assert site.ended(second)["state"] == "rolled back"
    site.all_run(good)
    again = site.start_rollout(2, NAMES[:1])
    assert site.ended(again)["state"] == "done"
    site.all_run(better, NAMES[:1])
    refused = site.rollout("start", "discs/1", "--device=edge-1")
    assert refused.returncode not in (0, 1)
    assert "edge-1 runs discs 2, which is newer than 1" in refused.stderr
    assert "lineside rollout start discs/1 --rollback" in refused.stderr
    back = site.start_rollout(1, NAMES[:1], "--rollback")
    assert site.ended(back)["state"] == "done"
    site.all_run(good)

    # The hub says what devices report: of packages, and of each device.
    def used() -> list[list[str]]:
        found = {one["digest"]: one["used_by"] for one in site.get("/packages")}
        return [found[good], found[better], found[bad]]

    site.until(lambda: used() == [["stock"], [], []], "the one package in use")
    site.until(lambda: {device["state"] for device in site.get("/devices")} == {"online"}, "all")
