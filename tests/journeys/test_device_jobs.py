"""Jobs from a real hub to a real device over the embedded broker; kill -9 where it hurts."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lineside.core import Digest, SystemClock, decode_json
from lineside.edge import EdgeConfig, run
from lineside.fleet import Execution, NewJob, Target
from lineside.hub import HubConfig, RunningHub, running
from lineside.links import open_bus
from lineside.models import build_package
from lineside.testing.fault_proxy import FaultProxy
from lineside.testing.links import LONG_S, wait_until
from tests.hub.conftest import DISC_PLANT
from tests.models.conftest import package_parts

HELD_BYTES = 100_000
"""More than the archive's end, which is asked for first, and less than what is new in it."""


@dataclass
class Site:
    """A hub that knows the thing ``edge-1``, and what stands on the device's disk."""

    hub: RunningHub
    way: FaultProxy
    folder: Path

    def publish(self, data: bytes) -> Target:
        """Sign a package; nobody is told to run it."""
        services = self.hub.services
        digest = services.packages.add(data, by="anna").digest
        services.releases.used(digest, inspection="stock", leaving=())
        found = services.releases.target_of(digest)
        assert found is not None
        return found

    def job(self, name: str, target: Target, **changes: object) -> None:
        custom = target.custom
        document = {
            "type": "new_model", "model_name": custom["group"], "model_version": custom["version"],
            "model_package_bucket": "lineside", "model_package_key": target.path,
            "inspection": "stock", "target": target.path, "digest": custom["digest"], **changes,
        }  # fmt: skip
        self.service.create(NewJob(job_id=name, targets=("edge-1",), document=document))

    @property
    def service(self):  # type: ignore[no-untyped-def]  # noqa: ANN201  the hub's
        return self.hub.services.job_requests.service

    def execution(self, name: str) -> Execution:
        found: Execution = self.service.executions(name)[0]
        return found

    def ended(self, name: str) -> Execution:
        wait_until(lambda: self.execution(name).status.value not in ("QUEUED", "IN_PROGRESS"))
        return self.execution(name)

    def config(self) -> EdgeConfig:
        return EdgeConfig(
            device="edge-1",
            bus=self.hub.bus_url,
            plant=str(self.folder / "plant.toml"),
            data_dir=str(self.folder / "edge"),
            hub=self.way.url,
            token_file=str(self.folder / "hub" / "tokens" / "device.token"),
            trust_root=str(self.folder / "hub" / "trust" / "root.json"),
            publish_logs=False,
        )

    def archive(self, target: Target) -> Path:
        digest = str(target.custom["digest"])
        return self.folder / "edge" / "packages" / f"{digest.removeprefix('sha256:')}.lspkg"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "plant.toml").write_bytes(DISC_PLANT)
    config = HubConfig(
        data_dir=str(tmp_path / "hub"), plant=str(tmp_path / "plant.toml"), port=0, bus_port=0
    )
    with running(config, clock=SystemClock()) as hub:
        hub.services.things.add("edge-1")
        with FaultProxy(hub.url) as way:
            yield Site(hub=hub, way=way, folder=tmp_path)


@pytest.fixture(scope="module")
def archives() -> tuple[bytes, bytes]:
    manifest, files = package_parts()
    padded = {**files, "notes.txt": os.urandom(100_000).hex().encode()}
    return build_package(manifest, files), build_package(replace(manifest, name="next"), padded)


@contextmanager
def device(site: Site) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(
        target=run,
        args=(site.config(),),
        kwargs={"clock": SystemClock(), "stop": stop},
        name="device",
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(LONG_S)
        assert not thread.is_alive()


def in_use(site: Site) -> list[Digest]:
    """What the device says it runs."""
    clock = SystemClock()
    watcher = open_bus(site.hub.bus_url, client_id="watcher", clock=clock)
    mailbox = watcher.subscribe(("lineside/+/device/edge-1/status",), name="status")
    message = mailbox.get(timeout_s=LONG_S)
    watcher.close()
    assert message is not None
    packages = decode_json(message.payload, where="status")["packages"]
    return [one["digest"] for one in packages]


def test_jobs_run_one_after_the_other_and_say_what_came_of_them(
    site: Site, archives: tuple[bytes, bytes]
) -> None:
    first, second = (site.publish(data) for data in archives)
    site.job("a", first)
    site.job("wrong", first, model_version="77")
    site.job("b", second)
    site.job("back", first, rollback=True)
    with device(site):
        assert site.ended("a").status.value == "SUCCEEDED"
        wrong = site.ended("wrong")
        assert wrong.status.value == "REJECTED"
        assert "signed is" in wrong.details["reason"]
        assert site.ended("b").status.value == "SUCCEEDED"
        assert site.ended("b").details["digest"] == second.custom["digest"]
        back = site.ended("back")
        assert (back.status.value, "no way back" in back.details["reason"]) == ("REJECTED", True)
        wait_until(lambda: in_use(site) == [second.custom["digest"]])


CHILD = """
import sys, threading
from pathlib import Path
from lineside.core import SystemClock, decode
from lineside.edge import EdgeConfig, run
config = decode(EdgeConfig, Path(sys.argv[1]).read_bytes(), where="config")
run(config, clock=SystemClock(), stop=threading.Event())
"""


class Child:
    """The device as a process of its own; killed at the end of the block."""

    def __init__(self, site: Site) -> None:
        from lineside.core import encode

        path = site.folder / "edge.json"
        path.write_bytes(encode(site.config()))
        self.process = subprocess.Popen([sys.executable, "-c", CHILD, str(path)])

    def __enter__(self) -> None:
        """Running already."""

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_kill_9_in_a_download_and_in_a_switch_only_costs_time(
    site: Site, archives: tuple[bytes, bytes]
) -> None:
    first, second = (site.publish(data) for data in archives)
    site.job("a", first)
    incoming = site.folder / "edge" / "incoming"
    with Child(site):
        assert site.ended("a").status.value == "SUCCEEDED"
        site.way.hold(after_bytes=HELD_BYTES)
        site.job("b", second)
        wait_until(lambda: [one.stat().st_size for one in incoming.iterdir()] >= [HELD_BYTES])
        wait_until(lambda: site.execution("b").status.value == "IN_PROGRESS")
    asked = len(site.way.begun)
    site.way.release()
    with Child(site):
        wait_until(site.archive(second).exists)
    # Killed between the archive's coming to the disk and the job's end.
    with Child(site):
        assert site.ended("b").status.value == "SUCCEEDED"
        wait_until(lambda: in_use(site) == [second.custom["digest"]])
    assert min(site.way.begun[asked:]) >= HELD_BYTES, "it went on where it broke off"
    assert [path.name for path in incoming.iterdir()] == []
