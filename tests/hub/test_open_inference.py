"""The Open Inference Protocol on the hub: approved packages only, over HTTP and gRPC alike."""

import base64
import json
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import numpy as np
import pytest
from fastapi.testclient import TestClient

from lineside.compat.open_inference import open_inference_pb2 as pb2
from lineside.compat.open_inference import open_inference_pb2_grpc
from lineside.core import InvalidError, UnavailableError
from lineside.hub import Services
from lineside.hub.access.permissions import Role
from lineside.hub.access.tls import ServerFiles
from lineside.hub.api.open_inference import InferenceServer
from lineside.hub.models.model_service import Registration
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S
from lineside.web import grpc_server

GROUP = "racks"


@pytest.fixture
def served(hub: Services, archive: bytes) -> Services:
    """One package: in use for ``stock``, version 1 of ``racks`` approved, version 1 of ``new``
    waiting."""
    digest = hub.packages.add(archive, by="ada").digest
    for group in (GROUP, "new"):
        hub.models.register(group, Registration(package=digest), by="ada")
    hub.models.approve(GROUP, 1, by="eve", reason="seen")
    hub.packages.use(digest, inspection="stock", by="eve", reason="seen")
    return hub


def infer_body(picture: bytes, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    data = [base64.b64encode(picture).decode()]
    return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": data}], **more}


# ---- HTTP


def test_health_answers_anybody_and_models_only_who_may(
    served: Services, nobody: TestClient
) -> None:
    assert served.away() == []
    assert nobody.get("/v2/health/live").json() == {"live": True}
    assert nobody.get("/v2/health/ready").json() == {"ready": True}
    refused = nobody.get("/v2/models/stock")
    assert refused.status_code == 401
    assert "error" in refused.json()


def test_the_server_names_its_models(served: Services, client: TestClient) -> None:
    facts = client.get("/v2").json()
    assert facts["name"] == "lineside"
    assert facts["extensions"] == ["binary_tensor_data"]
    assert sorted(facts["models"]) == sorted(served.inference.names()) == ["racks", "stock"]


def test_metadata_and_readiness_of_versions(served: Services, client: TestClient) -> None:
    meta = client.get("/v2/models/racks").json()
    assert (meta["name"], meta["versions"]) == ("racks", ["1"])
    assert client.get("/v2/models/racks/versions/1").json() == meta
    assert {"name": "crops", "datatype": "FP32", "shape": [3, 3, 16, 16]} in meta["inputs"]
    for path in ("/v2/models/racks/ready", "/v2/models/racks/versions/1/ready"):
        assert client.get(path).json()["ready"] is True
    (version,) = client.get("/v2/models/stock").json()["versions"]
    assert len(version) == 12
    assert served.packages.in_use("stock").startswith(f"sha256:{version}")


@pytest.mark.parametrize(
    "path", ["new", "new/ready", "nothing", "racks/versions/2", "racks/versions/2/ready"]
)
def test_what_nobody_approved_is_not_served(
    served: Services, client: TestClient, path: str
) -> None:
    assert served.models.one("new", 1).status == "PendingManualApproval"
    said = client.get(f"/v2/models/{path}")
    assert said.status_code == 404
    assert "approved" in said.json()["error"]


def test_a_version_rejected_later_is_no_longer_served(
    served: Services, client: TestClient, clock: FakeClock
) -> None:
    assert client.get("/v2/models/racks/ready").status_code == 200
    served.models.reject(GROUP, 1, by="eve", reason="worse")
    clock.advance(1)
    assert client.get("/v2/models/racks/ready").status_code == 404


@pytest.mark.usefixtures("served")
def test_a_picture_is_decided(client: TestClient, jpeg: Callable[..., bytes]) -> None:
    said = client.post("/v2/models/racks/infer", json=infer_body(jpeg("blue"), id="a7"))
    assert said.status_code == 200
    answer = said.json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("racks", "1", "a7")
    outputs = {each["name"]: each for each in answer["outputs"]}
    assert outputs["labels"]["data"] == ["blue", "red", "white"]
    assert outputs["decisions"]["data"][0] == "present"
    assert outputs["decisions"]["shape"] == [1, 3]


def test_raw_tensors_come_and_go_as_bytes(served: Services, client: TestClient) -> None:
    values = np.zeros((3, 3, 16, 16), np.float32)
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "crops", "datatype": "FP32", "shape": [3, 3, 16, 16],
                    "parameters": {"binary_data_size": values.nbytes},
                }
            ],
            "outputs": [{"name": "logits", "parameters": {"binary_data": True}}],
        }
    ).encode()  # fmt: skip
    said = client.post(
        "/v2/models/racks/versions/1/infer",
        content=head + values.tobytes(),
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    length = int(said.headers["Inference-Header-Content-Length"])
    (output,) = json.loads(said.content[:length])["outputs"]
    raw = said.content[length:]
    assert output["parameters"] == {"binary_data_size": len(raw)}
    assert np.frombuffer(raw, np.float32).shape == (9,)
    assert served.inference.names()


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"{}", {"Inference-Header-Content-Length": "-1"}, 400),
        (b"{}", {"Content-Encoding": "gzip"}, 400),
        (b"x" * 70_000_000, {}, 413),
    ],
)
def test_what_is_no_call_is_named(
    served: Services, client: TestClient, content: bytes, headers: dict[str, str], status: int
) -> None:
    assert served.inference.names()
    said = client.post("/v2/models/racks/infer", content=content, headers=headers)
    assert said.status_code == status
    assert said.json()["error"]


def test_a_viewer_looks_and_does_not_infer(served: Services, nobody: TestClient) -> None:
    token = served.auth.issue_token("v", kind="api", role=Role.VIEWER)
    headers = {"Authorization": f"Bearer {token}"}
    assert nobody.get("/v2/models/racks", headers=headers).status_code == 200
    refused = nobody.post("/v2/models/racks/infer", json={}, headers=headers)
    assert refused.status_code == 403
    assert "error" in refused.json()


# ---- gRPC


@pytest.fixture
def stub(served: Services) -> Iterator[Any]:
    server = InferenceServer("127.0.0.1:0", services=served, files=None)
    with grpc.insecure_channel(server.address) as channel:
        yield open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
    server.close()


def credentials(hub: Services, *, role: Role = Role.ENGINEER) -> tuple[tuple[str, str], ...]:
    token = hub.auth.issue_token("program", kind="api", role=role)
    return (("authorization", f"Bearer {token}"),)


def picture_request(picture: bytes, *, model: str = GROUP, raw: bool) -> pb2.ModelInferRequest:
    message = pb2.ModelInferRequest(model_name=model, id="b2")
    tensor = message.inputs.add(name="image", datatype="BYTES", shape=[1])
    if raw:
        message.raw_input_contents.append(struct.pack("<I", len(picture)) + picture)
    else:
        tensor.contents.bytes_contents.append(picture)
    return message


def test_the_six_calls(served: Services, stub: Any, jpeg: Callable[..., bytes]) -> None:  # noqa: ANN401
    who = credentials(served)
    assert stub.ServerLive(pb2.ServerLiveRequest()).live
    assert stub.ServerReady(pb2.ServerReadyRequest()).ready
    facts = stub.ServerMetadata(pb2.ServerMetadataRequest(), metadata=who)
    assert (facts.name, list(facts.extensions)) == ("lineside", ["binary_tensor_data"])
    assert stub.ModelReady(pb2.ModelReadyRequest(name=GROUP), metadata=who).ready
    meta = stub.ModelMetadata(pb2.ModelMetadataRequest(name=GROUP, version="1"), metadata=who)
    assert list(meta.versions) == ["1"]
    assert [each.name for each in meta.inputs] == ["image", "crops"]
    for raw in (True, False):
        said = stub.ModelInfer(picture_request(jpeg("blue"), raw=raw), metadata=who)
        assert (said.model_version, said.id) == ("1", "b2")
        assert bool(said.raw_output_contents) == raw
        names = [each.name for each in said.outputs]
        if not raw:
            decisions = said.outputs[names.index("decisions")]
            assert next(iter(decisions.contents.bytes_contents)) == b"present"


def refusal(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.details()
    code: grpc.StatusCode = caught.value.code()
    return code


def test_each_refusal_has_its_code(
    served: Services, stub: Any, jpeg: Callable[..., bytes]  # noqa: ANN401
) -> None:  # fmt: skip
    who, viewer = credentials(served), credentials(served, role=Role.VIEWER)
    device = (("authorization", f"Bearer {served.auth.issue_token('d', kind='device')}"),)
    asked = picture_request(jpeg("blue"), raw=True)
    codes = grpc.StatusCode
    assert refusal(lambda: stub.ModelInfer(asked)) is codes.UNAUTHENTICATED
    wrong = (("authorization", "Bearer nobody"),)
    assert refusal(lambda: stub.ModelInfer(asked, metadata=wrong)) is codes.UNAUTHENTICATED
    assert refusal(lambda: stub.ModelInfer(asked, metadata=viewer)) is codes.PERMISSION_DENIED
    assert refusal(lambda: stub.ModelInfer(asked, metadata=device)) is codes.PERMISSION_DENIED
    unknown = picture_request(jpeg("blue"), model="new", raw=True)
    assert refusal(lambda: stub.ModelInfer(unknown, metadata=who)) is codes.NOT_FOUND
    nothing = picture_request(b"no picture", raw=False)
    assert refusal(lambda: stub.ModelInfer(nothing, metadata=who)) is codes.INVALID_ARGUMENT
    asked.raw_input_contents.append(b"")
    assert refusal(lambda: stub.ModelInfer(asked, metadata=who)) is codes.INVALID_ARGUMENT


def test_a_revoked_token_is_refused_at_the_next_call(
    served: Services, stub: Any, nobody: TestClient, *, jpeg: Callable[..., bytes]  # noqa: ANN401
) -> None:  # fmt: skip
    who = credentials(served)
    asked, body = picture_request(jpeg("blue"), raw=True), infer_body(jpeg("blue"))

    def status() -> int:
        headers = {"Authorization": who[0][1]}
        return nobody.post("/v2/models/racks/infer", json=body, headers=headers).status_code

    for _ in range(2):  # the second call knows the token from the first
        assert stub.ModelInfer(asked, metadata=who).id == "b2"
        assert status() == 200
    served.auth.revoke("program")
    assert refusal(lambda: stub.ModelInfer(asked, metadata=who)) is grpc.StatusCode.UNAUTHENTICATED
    assert status() == 401


@pytest.fixture
def halves(served: Services, jpeg: Callable[..., bytes]) -> Iterator[tuple[Any, ...]]:
    """A stub, a function that begins calls which send no message, a request, and a caller."""
    asked, who = picture_request(jpeg("blue"), raw=True), credentials(served)
    server, over = InferenceServer("127.0.0.1:0", services=served, files=None), threading.Event()

    def half() -> Iterator[bytes]:
        over.wait()
        yield from ()

    with ExitStack() as stack:
        stack.callback(server.close)
        channel = stack.enter_context(grpc.insecure_channel(server.address))
        stack.callback(over.set)
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ServerLive(pb2.ServerLiveRequest(), timeout=LONG_S).live

        def begin(count: int, method: str = "ModelInfer", **more: Any) -> list[Any]:  # noqa: ANN401
            call = channel.stream_unary(f"/inference.GRPCInferenceService/{method}")
            return [call.future(half(), **more) for _ in range(count)]

        yield stub, begin, asked, who


def test_clients_that_send_half_a_call_hold_up_no_other_and_never_health(
    halves: Any,  # noqa: ANN401
) -> None:
    stub, begin, asked, who = halves
    begun = begin(7, metadata=who)
    assert stub.ModelInfer(asked, metadata=who, timeout=LONG_S).id == "b2"
    begun += begin(20, metadata=who)
    of_health = begin(20, "ServerReady")
    assert stub.ServerLive(pb2.ServerLiveRequest(), timeout=LONG_S).live
    assert stub.ServerReady(pb2.ServerReadyRequest(), timeout=LONG_S).ready
    assert not any(call.done() for call in begun)
    assert {call.code() for call in of_health} == {grpc.StatusCode.OK}


def test_half_calls_of_nobody_are_refused_and_hold_up_no_other(
    halves: Any,  # noqa: ANN401
) -> None:
    stub, begin, asked, who = halves
    begun = begin(20)
    assert stub.ModelInfer(asked, metadata=who, timeout=LONG_S).id == "b2"
    assert {call.code() for call in begun} == {grpc.StatusCode.UNAUTHENTICATED}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_server, "_MESSAGE_S", 0.2)


@pytest.mark.usefixtures("impatient")
def test_a_call_whose_message_does_not_come_is_cancelled(
    halves: Any,  # noqa: ANN401
) -> None:
    stub, begin, asked, who = halves
    begun = begin(20, metadata=who)
    assert stub.ModelInfer(asked, metadata=who, timeout=LONG_S).id == "b2"
    assert {call.code() for call in begun} == {grpc.StatusCode.CANCELLED}


def test_addresses_beyond_this_machine_need_encryption(served: Services) -> None:
    for address in ("0.0.0.0:0", "8001", "127.0.0.1:x", "127.0.0.1:99999"):
        with pytest.raises(InvalidError, match=r"is no address|can be reached"):
            InferenceServer(address, services=served, files=None)


def test_a_port_in_use_is_named(served: Services) -> None:
    first = InferenceServer("127.0.0.1:0", services=served, files=None)
    try:
        with pytest.raises(UnavailableError, match="cannot listen"):
            InferenceServer(first.address, services=served, files=None)
    finally:
        first.close()


def test_over_tls_the_certificate_is_the_hubs(served: Services, tmp_path: Any) -> None:  # noqa: ANN401
    pem = _pair()
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_bytes(pem[0])
    key.write_bytes(pem[1])
    files = ServerFiles(certificate=certificate, key=key)
    server = InferenceServer("localhost:0", services=served, files=files)
    trusted = grpc.ssl_channel_credentials(pem[0])
    try:
        with grpc.secure_channel(server.address, trusted) as channel:
            stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
            assert stub.ServerLive(pb2.ServerLiveRequest()).live
    finally:
        server.close()


def _pair() -> tuple[bytes, bytes]:
    """A certificate of its own making for localhost."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        made.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )  # fmt: skip
