"""Jobs from a real hub to a real device over the embedded broker; kill -9 where it hurts."""

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from lineside.core import Digest, SystemClock, decode_json, load_plant
from lineside.core.drivers import SecretUrl
from lineside.edge import EdgeConfig, run
from lineside.fleet import Execution, NewJob, Target
from lineside.hub import HubConfig, RunningHub, running
from lineside.links import Mailbox, Message, open_bus, otlp
from lineside.models import build_package
from lineside.testing.fault_proxy import FaultProxy
from lineside.testing.links import LONG_S, wait_until
from lineside.vision import encode_jpeg
from tests.hub.asyncapi import documented
from tests.hub.conftest import DISC_PLANT
from tests.models.conftest import package_parts, scene

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
            bus=SecretUrl(self.hub.bus_url),
            plant=str(self.folder / "plant.toml"),
            data_dir=str(self.folder / "edge"),
            hub=self.way.url,
            token_file=str(self.folder / "hub" / "tokens" / "device.token"),
            trust_root=str(self.folder / "hub" / "trust" / "root.json"),
            publish_logs=False,
            otlp=self.hub.services.config.otlp,
        )

    def archive(self, target: Target) -> Path:
        digest = str(target.custom["digest"])
        return self.folder / "edge" / "packages" / f"{digest.removeprefix('sha256:')}.lspkg"


@contextmanager
def opened_site(folder: Path, *, otlp: str = "") -> Iterator[Site]:
    (folder / "plant.toml").write_bytes(DISC_PLANT)
    config = HubConfig(
        data_dir=str(folder / "hub"), plant=str(folder / "plant.toml"), port=0, bus_port=0,
        otlp=SecretUrl(otlp),
    )  # fmt: skip
    with running(config, clock=SystemClock()) as hub:
        hub.services.things.add("edge-1")
        with FaultProxy(hub.url) as way:
            yield Site(hub=hub, way=way, folder=folder)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with opened_site(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def archives() -> tuple[bytes, bytes]:
    manifest, files = package_parts()
    padded = {**files, "notes.txt": os.urandom(100_000).hex().encode()}
    return build_package(manifest, files), build_package(replace(manifest, name="next"), padded)


@contextmanager
def listening(site: Site) -> Iterator[Mailbox]:
    """Everything that is said on the bus."""
    listener = open_bus(site.hub.bus_url, client_id="listener", clock=SystemClock())
    yield listener.subscribe(("#", "$aws/#"), size=10_000, name="everything")
    listener.close()


@pytest.fixture
def heard(site: Site) -> Iterator[Mailbox]:
    with listening(site) as mailbox:
        yield mailbox


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
    site: Site, archives: tuple[bytes, bytes], heard: Mailbox
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
        messages = seen_and_judged(site, heard)
    assert heard.figures().dropped == 0
    # What hub and device really said is in the document of the bus, in the documented shape.
    plant = load_plant(site.folder / "plant.toml")
    assert documented(messages, plant=plant) >= {
        "ack", "desired", "prediction", "status", "verdict", "route-1", "job-events",
        "jobExecution-events", "jobs-notify", "jobs-notify-next", "jobs-job-update-accepted",
    }  # fmt: skip


def seen_and_judged(site: Site, heard: Mailbox) -> list[Message]:
    """All messages of the bus, up to the hub's word that a picture's prediction is stored."""
    camera = open_bus(site.hub.bus_url, client_id="camera", clock=SystemClock())
    camera.publish("i/cam", encode_jpeg(scene(seed=3)), timeout_s=LONG_S)
    camera.close()
    messages: list[Message] = []
    while message := heard.get(timeout_s=LONG_S):
        messages.append(message)
        if message.topic.endswith("/ack"):
            return messages
    raise AssertionError("the hub acknowledged no prediction")


class Collector:
    """A collector of OpenTelemetry that keeps the spans it gets."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        self.status = 200
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                body = gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
                collector.take(self.path, body)
                self.send_response(collector.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Tests are quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="collector")
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        for part in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {one.key: one.value.string_value for one in part.resource.attributes}
            for scope in part.scope_spans:
                self.spans += [(about["service.name"], span) for span in scope.spans]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def test_a_collector_that_takes_no_spans_is_logged_once_and_its_return(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    now = SystemClock().now()
    with Collector() as collector:
        tracing = otlp.Tracing(collector.url, service="lineside-edge", instance="edge-1")
        for collector.status in (400, 400, 200, 200):
            tracing.span("frame", start=now, end=now, attributes={})
            tracing._provider.force_flush()
        tracing.close()
    own = [one.message for one in caplog.records if not one.name.startswith("urllib3")]
    said = [one.partition(" url=")[0] for one in own]
    assert said == [
        "the collector takes no spans, they are dropped", "the collector takes spans again",
    ]  # fmt: skip


def test_an_image_is_one_trace_from_its_frame_to_the_twin(
    tmp_path: Path, archives: tuple[bytes, bytes]
) -> None:
    with Collector() as collector:
        with opened_site(tmp_path, otlp=collector.url) as site, listening(site) as heard:
            site.job("a", site.publish(archives[0]))
            with device(site):
                site.ended("a")
                messages = seen_and_judged(site, heard)
        spans = {span.name: (service, span) for service, span in collector.spans}
    events = [decode_json(one.payload, where=one.topic) for one in messages
              if one.topic.endswith("/prediction")]  # fmt: skip
    assert {name: service for name, (service, _) in spans.items()} == {
        "frame": "lineside-edge", "decision": "lineside-edge",
        "event": "lineside-hub", "twin": "lineside-hub",
    }  # fmt: skip
    frame, decision, event, twin = (
        spans[name][1] for name in ("frame", "decision", "event", "twin")
    )
    assert {one.trace_id for _, one in collector.spans} == {frame.trace_id}
    assert [one.parent_span_id for one in (frame, decision, event, twin)] == [
        b"", frame.span_id, decision.span_id, event.span_id,
    ]  # fmt: skip
    context = f"00-{frame.trace_id.hex()}-{decision.span_id.hex()}"
    assert [one["traceparent"][:-3] for one in events] == [context]
    assert all(
        one.start_time_unix_nano <= one.end_time_unix_nano for one in (frame, decision, event, twin)
    )


CHILD = """
import sys, threading
from pathlib import Path
from time import monotonic
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
