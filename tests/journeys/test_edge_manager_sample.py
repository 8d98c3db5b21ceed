"""The calls of the edge-manager sample's programs, in their order, against a real hub and device.

``run.py`` and ``ota.py`` (Defect detection using computer vision at the edge with Amazon SageMaker)
ask for credentials by certificate, describe device and bus, take a job over MQTT, fetch and unpack
its archive, load it into the agent, and hand the network pixels. Each request is one of theirs.
"""

import contextlib
import io
import json
import os
import shutil
import ssl
import subprocess
import tarfile
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import paho.mqtt.client as paho
import pytest
from botocore.exceptions import ClientError
from paho.mqtt.enums import CallbackAPIVersion

from lineside.compat.aws import agent_pb2
from lineside.core import NotFoundError, SystemClock, encode
from lineside.edge import HubClient
from lineside.edge.hub_client import Access
from lineside.edge.identity.enrolment import IdentityFiles
from lineside.edge.identity.trust import SignedPackages
from lineside.fleet import NewJob, Release, Target
from lineside.fleet.agent import installed_of
from lineside.hub.access.auth import access_key, issue_temporary_key, revoke_keys_of_thing
from lineside.hub.models.model_service import Registration
from lineside.hub.rollouts.jobs import document_of
from lineside.models.wrap import read_wrapping, wrapped
from lineside.testing import FakeClock
from lineside.testing.engines import shades
from lineside.testing.links import LONG_S, wait_until
from lineside.vision import encode_png
from tests.edge.serving import STARTED_S, Client, edge_config, refused, served
from tests.journeys.test_enrolment import Site, settings_of, started
from tests.links.conftest import free_port
from tests.models.test_wrap import SHADES

pytestmark = pytest.mark.slow
CLOCK = SystemClock()
SIDE_PX = 224
T = "$aws/things/edge-1/jobs"
WIRE = Path(agent_pb2.__file__).parent
ENDPOINTS = {"iot": "", "s3": "/s3", "sagemaker": "/sagemaker"}
Boto = Callable[[str], Any]


@pytest.fixture
def site(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Site]:
    """A hub that devices reach by certificate, and a device that is enrolled."""
    broker, port = getattr(request, "param", ("amqtt", 0))
    address = f"127.0.0.1:{port or free_port()}"
    where = {"bus_tls": address}
    if broker == "mosquitto":
        where = {"bus_tls": "127.0.0.1:0", "iot_jobs_tls": address}
    settings = settings_of(tmp_path, bus_broker=broker, **where)
    with started(settings, tmp_path) as found:
        assert found.enrol("edge-1", found.invite(capsys, "edge-1")) == 0
        yield found


@pytest.fixture
def identity(site: Site) -> IdentityFiles:
    return IdentityFiles(site.settings("edge-1").folder)


@pytest.fixture
def boto(site: Site, identity: IdentityFiles) -> Iterator[Boto]:
    """``app.get_client``: temporary credentials by certificate, then a client of that service."""
    opened = []

    def get_client(service: str) -> Any:  # noqa: ANN401  boto3 has no types
        given = credentials(site.hub.url, identity)
        opened.append(
            boto3.client(
                service, "eu-west-1", aws_access_key_id=given["accessKeyId"],
                aws_secret_access_key=given["secretAccessKey"],
                aws_session_token=given["sessionToken"], verify=str(identity.ca),
                endpoint_url=site.hub.url + ENDPOINTS[service],
            )
        )  # fmt: skip
        return opened[-1]

    yield get_client
    for one in opened:
        one.close()


def fetched(address: str, identity: IdentityFiles, *, shown: bool) -> bytes:
    """Read an address of the hub, with or without the device's certificate."""
    context = ssl.create_default_context(cafile=str(identity.ca))
    if shown:
        context.load_cert_chain(identity.pair)
    handler = urllib.request.HTTPSHandler(context=context)
    with urllib.request.build_opener(handler).open(address, timeout=STARTED_S) as answer:
        data: bytes = answer.read()
    return data


def credentials(url: str, identity: IdentityFiles, *, shown: bool = True) -> dict[str, str]:
    address = f"{url}/role-aliases/SageMakerEdge-defect-detection/credentials"
    found: dict[str, str] = json.loads(fetched(address, identity, shown=shown))["credentials"]
    return found


@pytest.fixture
def published(site: Site) -> Target:
    """A classifier of 224 x 224 pixels that the site signed."""
    toml = SHADES.replace("_px = 16", f"_px = {SIDE_PX}").encode()
    wrapping = read_wrapping(toml, where="wrap.toml")
    data = wrapped(shades(side=SIDE_PX), wrapping, pictures=[], clock=CLOCK)
    services = site.hub.services
    digest = services.packages.add(data, by="anna").digest
    services.releases.used(digest, inspection="stock", leaving=())
    found = services.releases.target_of(digest)
    assert found is not None
    return found


@contextmanager
def agent(site: Site, tmp_path: Path, **more: object) -> Iterator[Client]:
    """The device's socket; what it trusts was believed at its last refresh."""
    folder = site.settings("edge-1").folder
    settings = site.settings("edge-1")
    access = Access(token_file=settings.token_file, ca=settings.ca)
    source = HubClient(site.hub.url, token=access.token, tls=access.tls)
    SignedPackages(folder, clock=CLOCK, source=source).refresh()
    config = edge_config(tmp_path, data_dir=str(folder), unsigned="refused", **more)
    with served(config, clock=FakeClock(start=CLOCK.now())) as found:
        yield found.client


class Ota:
    """``ota.py``: subscribes to what it believes the answers are, takes a job, unpacks, reports."""

    def __init__(
        self, *, identity: IdentityFiles, address: tuple[str, int], boto: Boto, home: Path
    ) -> None:
        self._boto, self._home = boto, home
        self._seen: list[str] = []
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        context = ssl.create_default_context(cafile=str(identity.ca))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(identity.pair)
        self.client.tls_set_context(context)
        self.client.on_connect = self._on_connect
        self.client.on_message = self._on_message
        self.client.connect(*address, keepalive=45)
        self.client.loop_start()

    def close(self) -> None:
        self.client.loop_stop()
        self.client.disconnect()

    def _on_connect(self, *_: object) -> None:
        for last in ("notify", "accepted", "rejected"):
            self.client.subscribe(f"{T}/{last}")
        self.client.publish(f"{T}/get")

    def _on_message(self, _client: object, _given: object, message: paho.MQTTMessage) -> None:
        if message.topic.endswith("notify"):
            self.client.publish(f"{T}/get")
        elif message.topic.endswith("accepted"):
            answer = json.loads(message.payload)
            if answer.get("queuedJobs") is not None:
                for job in answer["queuedJobs"][:1]:
                    self.client.publish(f"{T}/{job['jobId']}/get")
            elif answer.get("execution") is not None:
                execution = answer["execution"]
                self._update(execution["jobId"], "IN_PROGRESS", "Trying to get/load the model")
                self._process(execution["jobId"], execution["jobDocument"])

    def _update(self, job: str, status: str, info: str) -> None:
        payload = {
            "status": status, "statusDetails": {"info": info}, "includeJobExecutionState": False,
            "includeJobDocument": False, "stepTimeoutInMinutes": 2,
        }  # fmt: skip
        self.client.publish(f"{T}/{job}/update", json.dumps(payload))

    def _process(self, job: str, document: dict[str, str]) -> None:
        if job in self._seen:
            return
        self._seen.append(job)
        try:
            got = self._boto("s3").get_object(
                Bucket=document["model_package_bucket"], Key=document["model_package_key"]
            )
            place = self._home / document["model_name"] / document["model_version"]
            with tarfile.open(fileobj=io.BytesIO(got["Body"].read())) as packed:
                packed.extractall(place, filter="data")
            self._update(job, "SUCCEEDED", "Model deployed")
        except Exception as error:  # noqa: BLE001  as the sample does it
            self._update(job, "FAILED", str(error))


def image_values(value: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """An image as ``run.py`` prepares it: float32, channel-first, 0 to 255."""
    image = np.full((SIDE_PX, SIDE_PX, 3), value, np.uint8)
    return np.expand_dims(image.astype(np.float32).transpose((2, 0, 1)), axis=0)


@pytest.mark.parametrize("site", [("amqtt", 0), ("mosquitto", 0)], indirect=True)
def test_the_programs_of_the_sample_run_from_start_to_answer(
    site: Site, identity: IdentityFiles, boto: Boto, published: Target, tmp_path: Path
) -> None:
    iot, sagemaker = boto("iot"), boto("sagemaker")
    told = sagemaker.describe_device(DeviceName="edge-1", DeviceFleetName="defect-detection")
    assert told["IotThingName"] == "edge-1"
    host = iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
    assert host == "127.0.0.1"
    port = int((site.config.iot_jobs_tls or site.config.bus_tls).rpartition(":")[2])

    home = tmp_path / "model" / "dev"
    ota = Ota(identity=identity, address=(host, port), boto=boto, home=home)
    service = site.hub.services.job_requests.service
    told = installed_of(published, inspection="stock")
    release = Release(
        group=told.group, version=told.version, inspection="stock", digest=told.digest,
        sha256=published.sha256, size_bytes=0,
    )  # fmt: skip
    document = document_of(release, rollout="", back=False, trial_frames=0)
    job = str(uuid.uuid4())
    try:
        service.create(NewJob(job_id=job, targets=("edge-1",), document=document))
        wait_until(lambda: service.executions(job)[0].status.value not in ("QUEUED", "IN_PROGRESS"))
    finally:
        ota.close()
    ended = service.executions(job)[0]
    assert (ended.status.value, ended.details) == ("SUCCEEDED", {"info": "Model deployed"})

    with agent(site, tmp_path) as client:
        stub, name = client.agent, "img-classification-1-2"
        folder = home / told.group / told.version
        stub.LoadModel(agent_pb2.LoadModelRequest(url=str(folder), name=name))
        (model,) = stub.ListModels(agent_pb2.ListModelsRequest()).models
        meta = model.input_tensor_metadatas[0]
        for value, wanted in ((10, "dark"), (250, "bright")):
            tensor = agent_pb2.Tensor(byte_data=image_values(value).tobytes())
            tensor.tensor_metadata.CopyFrom(meta)
            got = stub.Predict(agent_pb2.PredictRequest(name=name, tensors=[tensor])).tensors[0]
            found = np.frombuffer(got.byte_data, np.float32).reshape(got.tensor_metadata.shape)
            assert found.ravel().sum() == pytest.approx(1.0)
            assert ("dark", "bright")[int(found.argmax())] == wanted
        said = np.array([[0.25, 0.75]], np.float32)
        capture = agent_pb2.CaptureDataRequest(model_name=name, capture_id=str(uuid.uuid4()))
        for tensors, label, values in (
            (capture.input_tensors, "input", image_values(9)),
            (capture.output_tensors, "output", said),
        ):
            given = tensors.add(byte_data=values.tobytes())
            given.tensor_metadata.name = label
            given.tensor_metadata.data_type = agent_pb2.FLOAT32
            given.tensor_metadata.shape.extend(values.shape)
        stub.CaptureData(capture)
        stub.UnLoadModel(agent_pb2.UnLoadModelRequest(name=name))
        assert not stub.ListModels(agent_pb2.ListModelsRequest()).models


@pytest.mark.parametrize("site", [("mosquitto", 0)], indirect=True)
def test_a_client_whose_packet_is_too_large_costs_the_hub_nothing(
    site: Site, identity: IdentityFiles
) -> None:
    client, gone = paho.Client(CallbackAPIVersion.VERSION2, client_id="edge-1"), threading.Event()
    client.tls_set(ca_certs=str(identity.ca), certfile=str(identity.pair))
    client.on_disconnect = lambda *_: gone.set()
    client.connect("127.0.0.1", int(site.config.iot_jobs_tls.rpartition(":")[2]))
    client.loop_start()
    wait_until(client.is_connected)
    bus = site.hub.services.desired.bus
    assert bus is not None
    client.publish("edge-manager-app/logs/edge-1", b"x" * 1_000_000)
    assert gone.wait(LONG_S)
    client.loop_stop()
    assert bus.connected()


def test_an_archive_from_a_presigned_link_is_proved_when_it_is_loaded(
    site: Site, published: Target, identity: IdentityFiles, tmp_path: Path
) -> None:
    key = published.path.removesuffix(".lspkg") + ".tar.gz"
    link = site.hub.services.bucket.link(f"s3://lineside/{key}", seconds=60)
    data = fetched(link, identity, shown=False)
    with tarfile.open(fileobj=io.BytesIO(data)) as packed:
        packed.extractall(tmp_path / "signed", filter="data")
    (package,) = (tmp_path / "signed").iterdir()
    other = tmp_path / "other"
    other.mkdir()
    (other / package.name).write_bytes(package.read_bytes() + b" ")
    with agent(site, tmp_path) as client:
        load = client.agent.LoadModel
        assert load(agent_pb2.LoadModelRequest(url=str(tmp_path / "signed"), name="a-1")).model.name
        code, sentence = refused(load, agent_pb2.LoadModelRequest(url=str(other), name="b-1"))
        assert (code, "not signed" in sentence) == ("FAILED_PRECONDITION", True)


def test_a_key_by_certificate_is_its_devices_alone_and_over_in_an_hour(
    site: Site, identity: IdentityFiles, boto: Boto
) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        credentials(site.hub.url, identity, shown=False)
    sagemaker, iot = boto("sagemaker"), boto("iot")
    for name in ("edge-2", "nobody"):
        with pytest.raises(ClientError, match="ResourceNotFound"):
            sagemaker.describe_device(DeviceName=name, DeviceFleetName="any")
    with pytest.raises(ClientError, match="InvalidRequest"):
        sagemaker.list_devices()
    with pytest.raises(ClientError, match="AccessDenied"):
        iot.list_jobs()
    records = site.hub.services.records
    issued = [issue_temporary_key(records, thing="edge-1", clock=CLOCK) for _ in range(15)]
    key, ends_at = issued[-1]
    assert access_key(records, key.id, now=CLOCK.now()).thing == "edge-1"
    with pytest.raises(NotFoundError, match="over"):
        access_key(records, key.id, now=ends_at)
    assert revoke_keys_of_thing(records, "edge-1") == 10
    site.hub.services.enrolment.revoke("edge-1", by="anna", reason="lost")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        credentials(site.hub.url, identity)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A copy of the folder of ``run.py``, with the agent's stubs and an image to answer."""
    named = os.environ.get("LINESIDE_TEST_EDGE_MANAGER", "")  # noqa: TID251  of this test alone
    if not named:
        pytest.skip("LINESIDE_TEST_EDGE_MANAGER names no folder of the sample's run.py")
    folder = tmp_path / "app"
    shutil.copytree(named, folder, ignore=shutil.ignore_patterns("venv"))
    stubs = ["-m", "grpc_tools.protoc", f"-I{WIRE}", "--python_out=app", "--grpc_python_out=app"]
    python = Path(named, "venv", "bin", "python")
    subprocess.run([python, *stubs, f"{WIRE}/agent.proto"], cwd=folder, check=True)
    (folder / "static" / "images").mkdir(parents=True)
    image = np.full((SIDE_PX, SIDE_PX, 3), 250, np.uint8)
    (folder / "static" / "images" / "bright.png").write_bytes(encode_png(image))
    return folder


@pytest.mark.parametrize("site", [("mosquitto", 8883)], indirect=True)
def test_the_samples_own_programs_take_a_rollouts_job_and_answer(
    site: Site, identity: IdentityFiles, programs: Path, tmp_path: Path
) -> None:
    """``run.py`` and ``ota.py`` unmodified; ``venv`` beside them has their requirements."""
    release = approved(site, group="img-classification")
    service = site.hub.services.job_requests.service
    document = document_of(release, rollout="", back=False, trial_frames=0)
    service.create(NewJob(job_id="job1", targets=("edge-1",), document=document))
    home = tmp_path / "home"
    (home / "conf").mkdir(parents=True)
    (home / "conf" / "config_edge_device.json").write_bytes(
        encode(settings_of_the_sample(site, identity))
    )
    with (
        agent(site, tmp_path, grpc="unix:///tmp/edge_agent"),
        started_program(programs, site=site, identity=identity, home=home) as page,
    ):
        wait_until(lambda: service.executions("job1")[0].status.value == "SUCCEEDED")
        wait_until(lambda: b"normal=0.0 / anomalous=1.0" in page())


def approved(site: Site, *, group: str) -> Release:
    """A version that somebody approved, signed into the update repository."""
    toml = SHADES.replace("_px = 16", f"_px = {SIDE_PX}").encode()
    data = wrapped(
        shades(side=SIDE_PX), read_wrapping(toml, where="wrap.toml"), pictures=[], clock=CLOCK
    )
    services = site.hub.services
    digest = services.packages.add(data, by="anna").digest
    services.models.register(group, Registration(package=digest), by="anna")
    version = services.models.approve(group, 1, by="ben", reason="good")
    release = services.models.release(version)
    services.releases.publish(release)
    return release


def settings_of_the_sample(site: Site, identity: IdentityFiles) -> dict[str, str]:
    provider = "sagemaker_edge_provider_aws"
    return {
        "sagemaker_edge_core_device_name": "edge-1",
        "sagemaker_edge_core_device_fleet_name": "any",
        "sagemaker_edge_core_region": "eu-west-1",
        f"{provider}_ca_cert_file": str(identity.ca),
        f"{provider}_cert_file": str(identity.pair),
        f"{provider}_cert_pk_file": str(identity.pair),
        f"{provider}_iot_cred_endpoint": f"{site.hub.url}/role-aliases/any/credentials",
    }


@contextmanager
def started_program(
    folder: Path, *, site: Site, identity: IdentityFiles, home: Path
) -> Iterator[Callable[[], bytes]]:
    """``run.py``; gives a function that reads its page, empty before it answers."""
    found = {
        f"AWS_ENDPOINT_URL_{service.upper()}": site.hub.url + path
        for service, path in (*ENDPOINTS.items(), ("iot_data_plane", ""))
    }
    environment = {
        **os.environ, **found, "AWS_CA_BUNDLE": str(identity.ca),  # noqa: TID251  handed on
        "REQUESTS_CA_BUNDLE": str(identity.ca), "SM_EDGE_AGENT_HOME": str(home),
        "SM_APP_ENV": "prod", "PYTHONPATH": str(folder / "app"),
    }  # fmt: skip
    python = Path(os.environ["LINESIDE_TEST_EDGE_MANAGER"], "venv", "bin", "python")  # noqa: TID251
    log = (folder / "run.log").open("wb")
    program = subprocess.Popen(
        [python, "run.py"], cwd=folder, env=environment, stdout=log, stderr=log
    )

    def page() -> bytes:
        assert program.poll() is None, (folder / "run.log").read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen("http://127.0.0.1:8080/") as said:
            return bytes(said.read())
        return b""

    try:
        yield page
    finally:
        program.terminate()
        program.wait()
        log.close()
