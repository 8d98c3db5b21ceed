"""What people have going on a site while faults are applied: a training, rollouts, a PLC.

Each begins before the faults. When everything is up again, ``settle`` waits for its end, and
``faults`` has a sentence for each promise that did not hold:

1. a training ends as done or failed, with a sentence; it leaves a whole package or none, and is
   one version of its models, however often it was killed and resumed;
2. a rollout ends; a device that was given a bad version goes back, and ends on a good one;
3. a client of OPC UA counts each event of a rule once.
"""

import asyncio
import base64
import contextlib
import http.client
import os
import signal
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from asyncua import Client

from lineside.cli.hub import accounts
from lineside.core import encode, rfc3339
from lineside.hub import NewToken, Role
from lineside.library.client import HubClient
from lineside.models import Package, Registry, build_package
from lineside.store import open_blobs, open_records
from lineside.streams import EVENT_TYPE
from lineside.testing.links import LONG_S
from lineside.vision import encode_jpeg
from tests.faults.site import CLOCK, DEVICE, Site, read_log, wait_for
from tests.links.opcua_client import node_of
from tests.models.conftest import package_parts, scene

_PICTURES = 12
_FRAMES = 8
"""Judged by both packages before a rollout goes on."""
_TRAINING_S = 240.0


class Work(Protocol):
    """Something that people have going; ``while_sending``: it is settled while senders send."""

    while_sending: bool

    def settle(self) -> None:
        """Wait for its end; everything is up again."""
        ...

    def faults(self) -> list[str]:
        """A sentence for each promise that did not hold; the hubs have ended."""
        ...


class Training:
    """One run on pictures of a camera, resumed once where it did not finish."""

    while_sending = False

    def __init__(self, site: Site) -> None:
        """Hand in pictures, label them, freeze a version, and start the run."""
        self._site = site
        client = site.hubs[0].client()
        for number in range(_PICTURES):
            self._send(encode_jpeg(scene(lit=number % 2 == 0, seed=number), quality=90))
        wait_for(lambda: len(client.items("/frames")) == _PICTURES, why="the pictures are there")
        frames = [frame["id"] for frame in reversed(client.items("/frames"))]
        for first, label in enumerate(("lit", "dark")):
            client.post("/datasets/lab/samples", {"frames": frames[first::2], "labels": [label]})
        client.post("/datasets/lab/freeze")
        body = {"dataset": "lab", "inspection": "lab", "register_as": "lab"}
        self._run = str(client.post("/runs", body)["id"])

    def _send(self, picture: bytes) -> None:
        token = (self._site.hubs[0].data / "tokens" / "ingest.token").read_text().strip()
        data = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
        body = encode({"topic": "lab/cam", "ts": rfc3339(CLOCK.now()), "data": data})
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        link = http.client.HTTPConnection("127.0.0.1", self._site.hubs[0].port, timeout=LONG_S)
        with closing(link):
            link.request("POST", "/mqttingest", body, headers)
            link.getresponse().read()

    def kill(self) -> bool:
        """End the trainer without a word; whether there was one.

        A process id that a stopped hub left behind may be that of another program by now.
        """
        with open_records(self._site.records, clock=CLOCK) as records:
            pid = int(records.documents.get("run", self._run).body["pid"])
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if self._run.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def settle(self) -> None:
        client = self._site.hubs[0].client()
        if self._ended(client)["state"] != "done":
            client.post(f"/runs/{self._run}/resume")
            self._ended(client)

    def _ended(self, client: HubClient) -> dict[str, Any]:
        view: dict[str, Any] = {}

        def is_over() -> bool:
            view.update(client.get(f"/runs/{self._run}"))
            return bool(view["state"] != "running")

        wait_for(is_over, why="the training ends", within_s=_TRAINING_S)
        return view

    def faults(self) -> list[str]:
        site, found = self._site, list[str]()
        with (
            open_records(site.records, clock=CLOCK) as records,
            closing(open_blobs(f"file://{site.hubs[0].data / 'blobs'}")) as blobs,
        ):
            view = records.documents.get("run", self._run).body["view"]
            registry = Registry(records, blobs, clock=CLOCK)
            packages = {record.digest: record for record in registry.list()}
            found += [
                f"package {digest} is not whole" for digest in packages
                if Package.read(registry.content(digest), where=digest).digest != digest
            ]  # fmt: skip
            versions = [
                one.body for one in records.documents.page("model-version")
                if one.body.get("evidence", {}).get("run") == self._run
            ]  # fmt: skip
        if view["state"] != "done" and not view["reason"]:
            found.append(f"the training is {view['state']} without a word")
        if view["state"] == "done" and view["package"] not in packages:
            found.append("the training is done, and its package is not there")
        if len(versions) != (view["state"] == "done"):
            found.append(f"the training is {view['state']} and {len(versions)} versions")
        return found


class Rollouts:
    """Two rollouts to the device, one after the other: a good version and a bad one."""

    while_sending = True  # without pictures no version is judged

    def __init__(self, site: Site, *, bad_first: bool) -> None:
        """Approve both, and start the first rollout."""
        self._site = site
        config = site.folder / f"{site.hubs[0].name}.toml"
        with accounts(config) as opened:
            token = opened.issue(NewToken(name="eve", role=Role.APPROVER), by="test")
        self._eve_token = token
        self._good = self._approved("good", low=0.41, high=0.61)
        # Everything is present.
        self._bad = self._approved("bad", low=0.001, high=0.002)
        first, second = (self._bad, self._good) if bad_first else (self._good, self._bad)
        self._waiting = [first, second]
        self._begun: dict[str, str] = {}
        self._ends: dict[str, dict[str, Any]] = {}
        self._start_next()

    def _eve(self) -> HubClient:
        return HubClient(f"http://127.0.0.1:{self._site.hubs[0].port}", token=self._eve_token)

    def _approved(self, name: str, *, low: float, high: float) -> str:
        manifest, files = package_parts()
        rules = tuple(replace(rule, low=low, high=high) for rule in manifest.rules)
        client = self._site.hubs[0].client()
        archive = build_package(replace(manifest, name=name, rules=rules), files)
        digest = str(client.upload("/packages", archive)["digest"])
        client.post(f"/models/{name}/versions", {"package": digest})
        self._eve().post(f"/models/{name}/versions/1/approve", {"reason": "looks right"})
        self._site.packages.add(digest)
        return digest

    def _start_next(self) -> None:
        digest = self._waiting.pop(0)
        plan = {
            "devices": [DEVICE], "steps": [{"percent": 100}],
            # What a busy machine does to milliseconds is no matter of a run of faults.
            "limits": {"frames": _FRAMES, "latency": 1000.0},
        }  # fmt: skip
        name = "bad" if digest == self._bad else "good"
        body = {"group": name, "version": 1, "plan": plan, "reason": "faults"}
        self._begun[digest] = str(self._eve().post("/rollouts", body)["id"])

    def settle(self) -> None:
        while True:
            digest, rollout = list(self._begun.items())[-1]

            def is_settled(rollout: str = rollout, digest: str = digest) -> bool:
                view = self._eve().get(f"/rollouts/{rollout}")
                self._ends[digest] = view
                return bool(view["settled"])

            wait_for(is_settled, why="the rollout ends")
            if not self._waiting:
                break
            self._start_next()
        wait_for(self._runs_what_it_should, why="the device runs what it should")

    def _runs_what_it_should(self) -> bool:
        reported = {one["digest"] for one in self._site.device_packages()}
        state = self._ends[self._good]["state"]
        wanted = {self._good} if state == "done" else {self._good, self._site.package}
        return len(reported) == 1 and reported <= wanted

    def faults(self) -> list[str]:
        found = []
        for digest, view in self._ends.items():
            name = "bad" if digest == self._bad else "good"
            if view["state"] == "done" and name == "bad":
                found.append("the bad version was rolled out to its end")
            if view["state"] != "done" and not view["why"]:
                found.append(f"the rollout of the {name} version is {view['state']} without a word")
        return found


class Plc:
    """A client of OPC UA that reads how many events the rule had."""

    while_sending = False

    def __init__(self, site: Site) -> None:
        self._site = site

    def settle(self) -> None:
        wait_for(self._is_counted, why="OPC UA counts the events of the rule")

    def _is_counted(self) -> bool:
        with open_records(self._site.records, clock=CLOCK) as records:
            logged = sum(1 for _ in read_log(records, EVENT_TYPE))
        return asyncio.run(_read(self._site.opcua, "Rules/pairs/Count")) == logged

    def faults(self) -> list[str]:
        return []


async def _read(url: str, path: str) -> object:
    async with Client(url) as client:
        return await (await node_of(client, path)).read_value()
