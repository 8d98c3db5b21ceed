"""The whole program with its socket, its captures and its log; and what becomes of captures."""

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from lineside.compat.aws import agent_pb2
from lineside.core import SystemClock, decode_json
from lineside.core.drivers import SecretUrl
from lineside.edge import CaptureConfig, EdgeConfig, run
from lineside.edge.delivery.publisher import log_topic
from lineside.edge.local_api import lineside_edge_v1_pb2 as edge_pb2
from lineside.links import Bus, EmbeddedBroker, open_bus
from lineside.models import Package, build_package
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, wait_until
from lineside.vision import encode_jpeg
from tests.edge.conftest import DEVICE, PackageServer
from tests.edge.serving import STARTED_S, connected, edge_config, served
from tests.edge.test_run import PLANT, desired, shown
from tests.models.conftest import package_parts, scene


@contextmanager
def program(config: EdgeConfig) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(
        target=run, args=(config,), kwargs={"clock": SystemClock(), "stop": stop}, name="program"
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(LONG_S)
    assert not thread.is_alive()


def ready(hub: Bus) -> None:
    status = hub.subscribe((f"{DEVICE}/status",), name="status")
    while message := status.get(timeout_s=LONG_S):
        if decode_json(message.payload, where="status")["packages"]:
            return
    raise AssertionError("no package came into use")


def test_a_device_without_the_gpu_of_its_settings_says_so_in_its_status(
    packages: PackageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    archive = build_package(*package_parts())
    packages.answers["/package"] = (200, archive, {})
    (tmp_path / "plant.toml").write_text(PLANT)
    with (
        EmbeddedBroker() as broker,
        closing(open_bus(broker.url, client_id="hub", clock=SystemClock())) as hub,
    ):
        wish = desired(Package.read(archive).digest, "http://x/package")
        hub.publish(f"{DEVICE}/desired", wish, retain=True)
        config = edge_config(
            tmp_path, bus=broker.url, plant=str(tmp_path / "plant.toml"), hub=packages.url,
            engine_device="cuda",
        )  # fmt: skip
        status = hub.subscribe((f"{DEVICE}/status",), name="status")
        said: dict[str, Any] = {}
        with program(config):
            while not said.get("faults") and (message := status.get(timeout_s=LONG_S)):
                said = decode_json(message.payload, where="status")
    assert said["packages"] == []
    assert "is built without CUDAExecutionProvider" in said["faults"][0]


def test_frames_are_captured_watched_and_imported_as_samples(
    packages: PackageServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lineside")
    archive = build_package(*package_parts())
    packages.answers["/package"] = (200, archive, {})
    (tmp_path / "plant.toml").write_text(PLANT)
    with EmbeddedBroker() as broker:
        hub = open_bus(broker.url, client_id="hub", clock=SystemClock())
        log = hub.subscribe((log_topic("edge-1"),), name="log")
        wish = desired(Package.read(archive).digest, "http://x/package")
        hub.publish(f"{DEVICE}/desired", wish, retain=True)
        config = EdgeConfig(
            device="edge-1",
            bus=SecretUrl(broker.url),
            plant=str(tmp_path / "plant.toml"),
            data_dir=str(tmp_path / "edge"),
            hub=packages.url,
            grpc=f"unix://{tmp_path}/agent.sock",
            log_period_s=0.1,
            unsigned="allowed",
            capture=CaptureConfig(inspections="all", batch_size=2, fleet="demo", embed_max_bytes=2),
        )
        with program(config):
            ready(hub)
            wait_until((tmp_path / "agent.sock").exists)
            with connected(config.grpc) as client:
                stream = client.edge.Watch(edge_pb2.WatchRequest(), timeout=LONG_S)
                stream.initial_metadata()
                hub.publish("i/cam", shown(lit=True), retain=True)  # also for a later camera
                first = next(stream).prediction
                hub.publish("i/cam", shown(lit=False))
                next(stream)
                stream.cancel()
                asked = edge_pb2.PredictRequest(
                    inspection="stock", picture=encode_jpeg(scene(), quality=95)
                )
                assert client.edge.Predict(asked, timeout=LONG_S).package == first.package
                listed = client.edge.ListPackages(edge_pb2.ListPackagesRequest()).packages
                assert [each.inspection for each in listed] == ["stock"]
                assert not client.agent.ListModels(agent_pb2.ListModelsRequest()).models
            captures = tmp_path / "edge" / "captures"
            wait_until(lambda: len(list(captures.rglob("*.jsonl"))) == 1)
            message = log.get(timeout_s=LONG_S)
            assert message is not None
            assert "logs" in decode_json(message.payload, where="log")
        assert not (tmp_path / "agent.sock").exists()
        hub.close()
    found = imported(captures, tmp_path / "store")
    assert found["samples"] == 2


def imported(captures: Path, store: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "lineside", "dataset", "import", str(captures), "--into", "seen",
         "--format", "captures", "--store", str(store), "--json"],
        capture_output=True, text=True, check=False, timeout=LONG_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_device_without_socket_or_captures_needs_neither_library(tmp_path: Path) -> None:
    code = (
        "import sys, lineside.edge, lineside.edge.run; "
        "print(sorted({'grpc', 'google.protobuf', 'tuf'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        timeout=LONG_S,
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("deferred", [False, True])
def test_captures_come_to_another_place(
    tmp_path: Path, clock: FakeClock, *, deferred: bool
) -> None:
    bucket = tmp_path / "bucket"
    settings = CaptureConfig(
        fleet="demo", prefix="line/a", upload=f"file://{bucket}", batch_size=1,
        embed_max_bytes=2, destination="Disk" if deferred else "Cloud",
        upload_period_s=60 if deferred else 0,
    )  # fmt: skip
    config = replace(edge_config(tmp_path), capture=settings)
    name = "3f0c9a52-6d5b-4d5e-9a57-0d3a5b1c7e21"
    model = tmp_path / "data" / "model" / "dev" / "unet" / "1"
    model.mkdir(parents=True)
    (model / "package.lspkg").write_bytes(build_package(*package_parts()))
    with served(config, clock=clock) as device:
        load = agent_pb2.LoadModelRequest(url=str(model), name="unet-1")
        device.client.agent.LoadModel(load, timeout=STARTED_S)
        tensor = agent_pb2.Tensor(byte_data=b"12345")
        device.client.agent.CaptureData(
            agent_pb2.CaptureDataRequest(
                model_name="unet-1", capture_id=name, input_tensors=[tensor]
            )
        )
        if deferred:
            wait_until(lambda: device.capturer.waiting == 0)
            clock.advance(60)
            device.serving._captures.uploader.tick()  # type: ignore[union-attr]  # there is one
        wait_until(lambda: len(list(bucket.rglob("*.jsonl"))) == 1)
    (manifest,) = bucket.rglob("*.jsonl")
    folder = manifest.parent.relative_to(bucket)
    assert str(folder) == "line/a/demo/unet-1/2026/01/01/12"
    (beside,) = bucket.rglob("*.tensor")
    assert beside.read_bytes() == b"12345"
    assert beside.parent == manifest.with_suffix("")
    (item,) = json.loads(manifest.read_text())["deviceFleetInputs"]
    wanted = tmp_path / "data" / "captures" if deferred else bucket
    assert item["data-ref"] == f"file://{wanted / beside.relative_to(bucket)}"
