"""Jobs from a real hub to a real device over the embedded broker; kill -9 where it hurts."""

import http.client
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lineside.core import Digest, SystemClock, decode_json
from lineside.edge import EdgeConfig, run
from lineside.fleet import Execution, NewJob, Target
from lineside.hub import HubConfig, RunningHub, running
from lineside.links import open_bus
from lineside.models import build_package
from lineside.testing.links import LONG_S, wait_until
from tests.hub.conftest import DISC_PLANT
from tests.models.conftest import package_parts

SLOW_BYTES = 2000
SLOW_S = 0.02


@dataclass
class Way:
    """Between device and hub: passes requests on, slowly where it is told to."""

    hub: str
    slow: bool = False
    begun: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        way, place, pause = self, urlsplit(self.hub), threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                link = http.client.HTTPConnection(place.netloc, timeout=10)
                names = ("Range", "Authorization")
                link.request(
                    "GET", self.path, headers={n: self.headers[n] for n in names if self.headers[n]}
                )
                answer = link.getresponse()
                body = answer.read()
                link.close()
                self.send_response(answer.status)
                for name in ("Content-Range", "Content-Type"):
                    if answer.headers[name]:
                        self.send_header(name, answer.headers[name])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if "/targets/" not in self.path:
                    self.wfile.write(body)
                    return
                found = self.headers.get("Range", "bytes=0-")
                way.begun.append(int(found.removeprefix("bytes=").partition("-")[0]))
                for start in range(0, len(body), SLOW_BYTES):
                    if way.slow:
                        pause.wait(SLOW_S)
                    try:
                        self.wfile.write(body[start : start + SLOW_BYTES])
                    except OSError:
                        return  # the device was killed

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), name="way")
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@dataclass
class Site:
    """A hub that knows the thing ``edge-1``, and what stands on the device's disk."""

    hub: RunningHub
    way: Way
    folder: Path

    def publish(self, data: bytes) -> Target:
        """Sign a package; nobody is told to run it."""
        services = self.hub.services
        digest = services.packages.add(data, by="anna").digest
        services.releases.used(digest, inspection="stock", before=None)
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
        return self.hub.services.job_desk.service

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
        way = Way(hub=hub.url)
        yield Site(hub=hub, way=way, folder=tmp_path)
        way.close()


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
    """The device as a process of its own, for killing."""

    def __init__(self, site: Site) -> None:
        from lineside.core import encode

        path = site.folder / "edge.json"
        path.write_bytes(encode(site.config()))
        self.process = subprocess.Popen([sys.executable, "-c", CHILD, str(path)])

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_kill_9_in_a_download_and_in_a_switch_only_costs_time(
    site: Site, archives: tuple[bytes, bytes]
) -> None:
    first, second = (site.publish(data) for data in archives)
    site.job("a", first)
    child = Child(site)
    assert site.ended("a").status.value == "SUCCEEDED"
    site.way.slow = True
    site.job("b", second)
    incoming = site.folder / "edge" / "incoming"
    wait_until(lambda: any(path.stat().st_size > 60_000 for path in incoming.glob("*.part")))
    child.kill()
    asked = len(site.way.begun)
    assert site.execution("b").status.value == "IN_PROGRESS"
    site.way.slow = False
    child = Child(site)
    wait_until(site.archive(second).exists)
    child.kill()  # between the archive's coming to the disk and the job's end
    child = Child(site)
    try:
        assert site.ended("b").status.value == "SUCCEEDED"
        wait_until(lambda: in_use(site) == [second.custom["digest"]])
    finally:
        child.kill()
    assert min(site.way.begun[asked:]) > 60_000, "it went on where it broke off"
    assert [path.name for path in incoming.iterdir()] == []
