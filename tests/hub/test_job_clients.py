"""Clients of the job contract that were written by others, unchanged, over real brokers."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from awscrt import mqtt
from awscrt.io import ClientBootstrap
from awscrt.mqtt_request_response import ClientOptions
from awsiot import ServiceStreamOptions, V2ServiceException, iotjobs, mqtt_connection_builder
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion

from lineside.core import SystemClock
from lineside.fleet import CertificateAuthority, JobService, NewJob, ThingDirectory
from lineside.hub.learning.job_service import TOPICS, JobRequestHandler
from lineside.links import (
    AuthenticatedDevice,
    DeviceListener,
    EmbeddedBroker,
    device_access,
    open_bus,
)
from lineside.store import open_records
from lineside.testing.links import LONG_S, wait_until
from tests.hub.conftest import job_reader
from tests.links.conftest import MOSQUITTO, Mosquitto, free_port
from tests.links.test_topic_access import PLANT

DOCUMENT = {"type": "new_model", "model_name": "unet", "model_version": "4"}
T = "$aws/things/edge-1/jobs"


@dataclass
class Hub:
    """A job service on a bus."""

    service: JobService
    port: int = 0

    def create(self, job_id: str, *, document: dict[str, Any] | None = None) -> None:
        self.service.create(
            NewJob(job_id=job_id, targets=("edge-1",), document=document or DOCUMENT)
        )

    def state(self, job_id: str) -> str:
        return self.service.executions(job_id)[0].status.value


def serving(url: str) -> Iterator[Hub]:
    """A service with thing ``edge-1`` on this bus."""
    clock = SystemClock()
    with open_records("memory://", clock=clock) as records:
        directory = ThingDirectory(records)
        directory.add("edge-1")
        directory.add("edge-2")
        bus = open_bus(url, client_id="hub", clock=clock)
        desk = JobRequestHandler(JobService(records, clock=clock, directory=directory))
        desk.bus = bus
        reader = job_reader(url, desk=desk, records=records)
        reader.start()
        yield Hub(service=desk.service)
        reader.stop()
        bus.close()


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(answered=TOPICS) as running:
        yield running


@pytest.fixture
def hub(broker: EmbeddedBroker) -> Iterator[Hub]:
    for running in serving(broker.own_url):
        running.port = broker.port
        yield running


class Heard:
    """What came to a callback, one after the other."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.messages: list[Any] = []

    def put(self, message: object) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def take(self) -> Any:  # noqa: ANN401  whatever the client's record is
        with self._changed:
            assert self._changed.wait_for(lambda: self.messages, timeout=LONG_S)
            return self.messages.pop(0)


def done(asked: "Future[Any]") -> Any:  # noqa: ANN401  whatever the client answers
    return asked.result(LONG_S)


@pytest.fixture
def plain(hub: Hub) -> Iterator[mqtt.Connection]:
    """AWS' transport without encryption, as thing ``edge-1``."""
    client = mqtt.Client(ClientBootstrap.get_or_create_static_default())
    connection = mqtt.Connection(
        client=client, host_name="127.0.0.1", port=hub.port, client_id="edge-1",
        clean_session=True,
    )  # fmt: skip
    done(connection.connect())
    yield connection
    done(connection.disconnect())


def take_one_job(connection: mqtt.Connection, hub: Hub) -> None:
    """What AWS' jobs sample does: hear of a job, start it, tell of it, end it."""
    jobs = iotjobs.IotJobsClient(connection)
    listed, following, started, updated, refused = (Heard() for _ in range(5))
    once = mqtt.QoS.AT_LEAST_ONCE
    thing = {"thing_name": "edge-1"}
    for subscribed, _ in (
        jobs.subscribe_to_job_executions_changed_events(
            iotjobs.JobExecutionsChangedSubscriptionRequest(**thing), once, listed.put
        ),
        jobs.subscribe_to_next_job_execution_changed_events(
            iotjobs.NextJobExecutionChangedSubscriptionRequest(**thing), once, following.put
        ),
        jobs.subscribe_to_start_next_pending_job_execution_accepted(
            iotjobs.StartNextPendingJobExecutionSubscriptionRequest(**thing), once, started.put
        ),
        jobs.subscribe_to_update_job_execution_accepted(
            iotjobs.UpdateJobExecutionSubscriptionRequest(**thing, job_id="+"), once, updated.put
        ),
        jobs.subscribe_to_update_job_execution_rejected(
            iotjobs.UpdateJobExecutionSubscriptionRequest(**thing, job_id="+"), once, refused.put
        ),
    ):
        done(subscribed)
    hub.create("job1")
    assert listed.take().jobs["QUEUED"][0].job_id == "job1"
    assert following.take().execution.job_document == DOCUMENT
    request = iotjobs.StartNextPendingJobExecutionRequest(**thing, status_details={"a": "b"})
    done(jobs.publish_start_next_pending_job_execution(request, once))
    execution = started.take().execution
    assert (execution.job_id, execution.status) == ("job1", "IN_PROGRESS")
    assert execution.status_details == {"a": "b"}

    def update(status: str, version: int) -> None:
        request = iotjobs.UpdateJobExecutionRequest(
            **thing, job_id="job1", status=status, expected_version=version,
            include_job_execution_state=True, client_token=f"token-{version}",
        )  # fmt: skip
        done(jobs.publish_update_job_execution(request, once))

    update("IN_PROGRESS", 2)
    assert updated.take().execution_state.version_number == 3
    update("SUCCEEDED", 2)
    error = refused.take()
    assert error.code == "VersionMismatch"
    assert error.client_token == "token-2"  # noqa: S105  a label
    assert error.execution_state.version_number == 3
    update("SUCCEEDED", 3)
    assert updated.take().execution_state.status == "SUCCEEDED"
    assert following.take().execution is None
    assert hub.state("job1") == "SUCCEEDED"


class TestAwsDeviceClient:
    def test_it_takes_a_job_over_the_embedded_broker(
        self, plain: mqtt.Connection, hub: Hub
    ) -> None:
        take_one_job(plain, hub)

    def test_the_second_generation_takes_a_job_over_the_embedded_broker(
        self, plain: mqtt.Connection, hub: Hub
    ) -> None:
        options = ClientOptions(
            max_request_response_subscriptions=4, max_streaming_subscriptions=2,
            operation_timeout_in_seconds=int(LONG_S),
        )  # fmt: skip
        jobs = iotjobs.IotJobsClientV2(plain, options)
        following, subscribed = Heard(), Heard()
        stream = jobs.create_next_job_execution_changed_stream(
            iotjobs.NextJobExecutionChangedSubscriptionRequest(thing_name="edge-1"),
            ServiceStreamOptions(
                incoming_event_listener=following.put,
                subscription_status_listener=subscribed.put,
            ),
        )
        stream.open()
        subscribed.take()
        thing = {"thing_name": "edge-1"}
        pending = iotjobs.GetPendingJobExecutionsRequest(**thing)
        assert done(jobs.get_pending_job_executions(pending)).queued_jobs == []
        hub.create("job1")
        assert following.take().execution.job_id == "job1"
        start = iotjobs.StartNextPendingJobExecutionRequest(**thing)
        execution = done(jobs.start_next_pending_job_execution(start)).execution
        assert execution.job_document == DOCUMENT
        describe = iotjobs.DescribeJobExecutionRequest(**thing, job_id="$next")
        assert done(jobs.describe_job_execution(describe)).execution.job_id == "job1"
        update = iotjobs.UpdateJobExecutionRequest(**thing, job_id="job1", status="SUCCEEDED")
        done(jobs.update_job_execution(update))
        assert hub.state("job1") == "SUCCEEDED"
        with pytest.raises(V2ServiceException) as error:
            done(jobs.update_job_execution(update))
        assert error.value.modeled_error.code == "InvalidStateTransition"
        del stream, jobs

    def test_it_takes_a_job_with_certificates_on_both_sides(self, secured: "Secured") -> None:
        connection = secured.connect("edge-1")
        take_one_job(connection, secured.hub)
        done(connection.disconnect())

    def test_another_thing_s_certificate_hears_nothing_and_changes_nothing(
        self, secured: "Secured"
    ) -> None:
        stranger, heard, own = secured.connect("edge-2"), Heard(), Heard()
        mine = T.replace("edge-1", "edge-2")
        for topic, kept in ((f"{T}/#", heard), (f"{mine}/#", own)):
            asked, _ = stranger.subscribe(
                topic, mqtt.QoS.AT_LEAST_ONCE, lambda kept=kept, **message: kept.put(message)
            )
            if kept is own:
                done(asked)
            else:
                with suppress(mqtt.SubscribeError):  # mosquitto grants it, and says nothing there
                    done(asked)
        secured.hub.create("job1")
        for topic in (f"{T}/get", f"{T}/job1/update", f"{mine}/get"):
            sent, _ = stranger.publish(topic, b'{"status":"FAILED"}', mqtt.QoS.AT_LEAST_ONCE)
            done(sent)
        while own.take()["topic"] != f"{mine}/get/accepted":
            pass  # the hub answers in order: what was sent before has been looked at
        done(stranger.disconnect())
        assert secured.hub.state("job1") == "QUEUED"
        assert heard.messages == []


@dataclass
class Secured:
    """A mosquitto that lets in whoever has a certificate of the site's authority."""

    hub: Hub
    folder: Path
    port: int

    def connect(self, name: str) -> mqtt.Connection:
        connection = mqtt_connection_builder.mtls_from_path(
            cert_filepath=str(self.folder / f"{name}.pem"),
            pri_key_filepath=str(self.folder / f"{name}.key"),
            ca_filepath=str(self.folder / "ca.pem"), endpoint="localhost", port=self.port,
            client_id=name, clean_session=True,
        )  # fmt: skip
        done(connection.connect())
        return connection


ACCESS = """
topic readwrite $aws/#
pattern read $aws/things/%u/jobs/#
pattern write $aws/things/%u/jobs/get
pattern write $aws/things/%u/jobs/start-next
pattern write $aws/things/%u/jobs/+/get
pattern write $aws/things/%u/jobs/+/update
"""


def write_certificates(folder: Path) -> CertificateAuthority:
    """The authority's, the broker's, and those of two things."""
    authority = CertificateAuthority.create(folder / "authority", site="hall", clock=SystemClock())
    (folder / "ca.pem").write_bytes(authority.certificate)
    pair = authority.issue_server(["localhost", "127.0.0.1"])
    (folder / "server.pem").write_bytes(pair.certificate)
    (folder / "server.key").write_bytes(pair.key)
    for name in ("edge-1", "edge-2"):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject)
        pem = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        (folder / f"{name}.pem").write_bytes(authority.sign_device(pem, device=name))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    return authority


@pytest.fixture(params=["embedded", "mosquitto"])
def secured(
    request: pytest.FixtureRequest, tmp_path: Path, absent: Callable[[str, str], None]
) -> Iterator[Secured]:
    authority = write_certificates(tmp_path)
    if request.param == "embedded":
        yield from by_the_door(tmp_path, authority)
    elif MOSQUITTO is None:
        absent("service", "mosquitto is not installed")
    else:
        yield from by_mosquitto(tmp_path)


def by_the_door(folder: Path, authority: CertificateAuthority) -> Iterator[Secured]:
    """The embedded broker's own listener for devices."""

    def admit(certificate: bytes) -> AuthenticatedDevice:
        told = authority.check(ssl.DER_cert_to_PEM_cert(certificate).encode())
        access = device_access(PLANT, device=told.device, lines=())
        return AuthenticatedDevice(
            identity=told.device, serial=told.serial, ends_at=told.ends_at, access=access
        )

    door = DeviceListener(
        host="127.0.0.1", port=0, certificate=folder / "server.pem", key=folder / "server.key",
        ca_file=folder / "ca.pem", admit=admit, revoked=folder / "crl.pem",
        access_list=lambda: "",
    )  # fmt: skip
    with EmbeddedBroker(answered=TOPICS, devices=door) as broker:
        for hub in serving(broker.own_url):
            yield Secured(hub=hub, folder=folder, port=broker.device_port)


def by_mosquitto(tmp_path: Path) -> Iterator[Secured]:
    (tmp_path / "access").write_text(ACCESS)
    (tmp_path / "access").chmod(0o600)
    port = free_port()
    server = Mosquitto(
        folder=tmp_path,
        settings=(
            "allow_anonymous true",
            f"acl_file {tmp_path / 'access'}",
            f"listener {port} 127.0.0.1",
            f"cafile {tmp_path / 'ca.pem'}",
            f"certfile {tmp_path / 'server.pem'}",
            f"keyfile {tmp_path / 'server.key'}",
            "require_certificate true",
            "use_identity_as_username true",
        ),
    )
    server.start()
    try:
        for hub in serving(server.url):
            yield Secured(hub=hub, folder=tmp_path, port=port)
    finally:
        server.stop()


class AsThePublishedClient:
    """A client that behaves as the reference's: wrong topics, QoS 0, no token, no client id."""

    def __init__(self, port: int) -> None:
        self._seen: set[str] = set()
        self.got: list[dict[str, Any]] = []
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id="")
        self.client.on_connect = self._on_connect
        self.client.on_message = self._on_message
        self.client.connect("127.0.0.1", port, keepalive=45)
        self.client.loop_start()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _on_connect(self, *_: object) -> None:
        for last in ("notify", "accepted", "rejected"):
            self.client.subscribe(f"{T}/{last}", qos=0)
        self.client.publish(f"{T}/get", b"", qos=0)

    def _on_message(self, _client: object, _given: object, message: paho.MQTTMessage) -> None:
        last = message.topic.rpartition("/")[2]
        body = json.loads(message.payload)
        if last == "notify":
            self.client.publish(f"{T}/get", b"", qos=0)
        elif last == "accepted" and body.get("queuedJobs"):
            self.client.publish(f"{T}/{body['queuedJobs'][0]['jobId']}/get", b"", qos=0)
        elif last == "accepted" and "execution" in body:
            self._work(body["execution"])

    def _work(self, execution: dict[str, Any]) -> None:
        if execution["jobId"] in self._seen:
            return
        self._seen.add(execution["jobId"])
        self.got.append(execution["jobDocument"])
        for status in ("IN_PROGRESS", "SUCCEEDED"):
            update = {
                "status": status, "statusDetails": {"info": "Model deployed"},
                "includeJobExecutionState": False, "includeJobDocument": False,
                "stepTimeoutInMinutes": 2,
            }  # fmt: skip
            self.client.publish(f"{T}/{execution['jobId']}/update", json.dumps(update), qos=0)


@pytest.mark.parametrize("early", [True, False])
def test_a_client_with_wrong_subscriptions_gets_its_job(hub: Hub, *, early: bool) -> None:
    if early:
        hub.create("job1")
    client = AsThePublishedClient(hub.port)
    try:
        if not early:
            wait_until(client.client.is_connected)
            hub.create("job1")
        wait_until(lambda: hub.state("job1") == "SUCCEEDED")
        assert client.got == [DOCUMENT]
        assert hub.service.executions("job1")[0].details == {"info": "Model deployed"}
    finally:
        client.close()


def test_only_the_one_who_asked_is_answered(hub: Hub) -> None:
    hub.create("job1")
    asking, other = (paho.Client(CallbackAPIVersion.VERSION2) for _ in range(2))
    heard = {"asking": Heard(), "other": Heard()}
    clients = {"asking": asking, "other": other}
    try:
        for name, client in clients.items():
            client.on_message = lambda *given, name=name: heard[name].put(given[2].topic)
            client.connect("127.0.0.1", hub.port)
            client.loop_start()
            wait_until(client.is_connected)
        asking.publish(f"{T}/get", b"", qos=1)
        assert heard["asking"].take() == f"{T}/get/accepted"
        asking.publish(f"{T}/nonsense", b"", qos=1)
        assert heard["asking"].take() == f"{T}/nonsense/rejected"
        assert heard["other"].messages == []
    finally:
        for client in clients.values():
            client.disconnect()
            client.loop_stop()


def test_who_asked_and_subscribed_is_answered_once(hub: Hub) -> None:
    heard = Heard()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda *given: heard.put(given[2].topic)
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", hub.port)
    client.loop_start()
    try:
        client.subscribe(f"{T}/get/+", qos=1)
        assert subscribed.wait(LONG_S)
        for _ in range(2):
            client.publish(f"{T}/get", b"", qos=1)
        assert [heard.take(), heard.take()] == [f"{T}/get/accepted"] * 2
        client.publish(f"{T}/start-next", b"", qos=1)
        assert heard.take() == f"{T}/start-next/accepted"
    finally:
        client.disconnect()
        client.loop_stop()
