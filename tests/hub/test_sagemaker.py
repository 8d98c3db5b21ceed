"""The SageMaker runtime contract: an unmodified AWS client, and every way a signature can fail."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import boto3
import botocore.exceptions
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from fastapi.testclient import TestClient

from lineside.compat.aws.sigv4 import SignatureRefusedError, SignedRequest, verify
from lineside.core import SystemClock
from lineside.hub import AccessKey, Services, issue_access_key, revoke_access_key
from lineside.testing import FakeClock

ENDPOINT = "smart-factory-wh-stock-inference"
Pictures = Callable[..., bytes]


@pytest.fixture
def clock() -> FakeClock:
    """The clients sign with the machine's clock, so this one shows the same."""
    return FakeClock(start=SystemClock().now())


@pytest.fixture
def key(hub: Services, clock: FakeClock) -> AccessKey:
    return issue_access_key(hub.records, name="twin", clock=clock)


@pytest.fixture
def aws(served: str) -> Iterator[Callable[[AccessKey], Any]]:
    """boto3's own client; nothing but the endpoint's address is changed."""
    opened = []

    def make(key: AccessKey) -> Any:  # noqa: ANN401  boto3 has no types
        session = boto3.session.Session(
            aws_access_key_id=key.id, aws_secret_access_key=key.secret, region_name="eu-west-1"
        )
        config = Config(retries={"max_attempts": 0})
        opened.append(session.client("sagemaker-runtime", endpoint_url=served, config=config))
        return opened[-1]

    yield make
    for client in opened:
        client.close()


def test_an_unmodified_client_gets_the_array_in_the_order_of_the_reference(
    aws: Callable[[AccessKey], Any], key: AccessKey, package: str, jpeg: Pictures
) -> None:
    """Reference section 5.1: blue, red, white, independent of each other."""
    answer = aws(key).invoke_endpoint(
        EndpointName=ENDPOINT, ContentType="image/jpeg", Body=jpeg("blue", "white")
    )
    body = answer["Body"].read()
    blue, red, white = __import__("json").loads(body)
    assert blue > 0.85
    assert white > 0.85
    assert red < 0.15
    assert answer["ContentType"] == "application/json"
    assert answer["InvokedProductionVariant"] == package


@pytest.mark.parametrize("name", [ENDPOINT, "stock"])
def test_the_endpoint_answers_under_its_name_and_the_inspection_s(
    aws: Callable[[AccessKey], Any], key: AccessKey, package: str, jpeg: Pictures, name: str
) -> None:
    assert package
    answer = aws(key).invoke_endpoint(
        EndpointName=name, ContentType="application/x-image", Body=jpeg()
    )
    assert len(answer["Body"].read().split(b",")) == 3


def test_json_with_base64_is_taken_too(
    aws: Callable[[AccessKey], Any], key: AccessKey, package: str, jpeg: Pictures
) -> None:
    assert package
    body = b'{"image":"' + base64.b64encode(jpeg("red")) + b'"}'
    answer = aws(key).invoke_endpoint(
        EndpointName=ENDPOINT, ContentType="application/json", Body=body
    )
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"secret": "wrong"}, "InvalidSignatureException"),
        ({"id": "LSAK0000000000000000"}, "UnrecognizedClientException"),
    ],
)
def test_a_wrong_key_is_refused_in_the_words_of_aws(
    aws: Callable[[AccessKey], Any],
    key: AccessKey,
    jpeg: Pictures,
    changes: dict[str, Any],
    code: str,
) -> None:
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        aws(replace(key, **changes)).invoke_endpoint(
            EndpointName=ENDPOINT, ContentType="image/jpeg", Body=jpeg()
        )
    assert refused.value.response["Error"]["Code"] == code
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_a_revoked_key_is_refused_at_the_next_call(
    hub: Services, package: str, *, aws: Callable[[AccessKey], Any], key: AccessKey, jpeg: Pictures
) -> None:
    asked = {"EndpointName": ENDPOINT, "ContentType": "image/jpeg", "Body": jpeg()}
    for _ in range(2):  # the second call knows the key from the first
        assert aws(key).invoke_endpoint(**asked)["InvokedProductionVariant"] == package
    revoke_access_key(hub.records, key.id)
    with pytest.raises(botocore.exceptions.ClientError, match="UnrecognizedClient"):
        aws(key).invoke_endpoint(**asked)


@pytest.mark.parametrize(
    ("name", "kind", "body", "said"),
    [
        ("other", "image/jpeg", b"x", "not found"),
        (ENDPOINT, "text/plain", b"x", "content type"),
        (ENDPOINT, "image/jpeg", b"GIF89a", "neither JPEG nor PNG"),
        (ENDPOINT, "application/json", b"{}", "no picture"),
    ],
)
def test_a_call_that_makes_no_sense_is_a_validation_error(
    aws: Callable[[AccessKey], Any],
    key: AccessKey,
    package: str,
    *,
    name: str,
    kind: str,
    body: bytes,
    said: str,
) -> None:
    assert package
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        aws(key).invoke_endpoint(EndpointName=name, ContentType=kind, Body=body)
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    assert said in refused.value.response["Error"]["Message"]


def test_without_a_package_in_use_the_call_says_so(
    aws: Callable[[AccessKey], Any], key: AccessKey, jpeg: Pictures
) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="no package is in use"):
        aws(key).invoke_endpoint(EndpointName=ENDPOINT, ContentType="image/jpeg", Body=jpeg())


def test_a_call_without_signature_is_refused(nobody: TestClient) -> None:
    answer = nobody.post(f"/endpoints/{ENDPOINT}/invocations", content=b"x")
    assert answer.status_code == 403
    assert answer.headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"


# ---- the signature alone

SECRET = "secret"  # noqa: S105  a test's own
PATH = "/endpoints/my%20end%2Fpoint/invocations"


def signed(*, path: str = PATH, query: str = "", body: bytes = b"p") -> SignedRequest:
    """A request as botocore signs it, now by the machine's clock."""
    url = f"http://127.0.0.1:8080{path}" + (f"?{query}" if query else "")
    request = AWSRequest("POST", url, data=body, headers={"Content-Type": "image/jpeg"})
    credentials = Credentials("LSAK1", SECRET)
    SigV4Auth(credentials, "sagemaker", "eu-west-1").add_auth(request)
    headers = {name.lower(): str(value) for name, value in request.headers.items()}
    headers["host"] = "127.0.0.1:8080"
    return SignedRequest(method="POST", path=path, query=query, headers=headers, body=body)


def refused(request: SignedRequest, clock: FakeClock) -> str:
    with pytest.raises(SignatureRefusedError) as caught:
        verify(request, secret_of=lambda _: SECRET, now=clock.now())
    return caught.value.code


@pytest.mark.parametrize("path", [PATH, "/", "/a/./b/../c", "/a//b/", "/ä?".replace("?", "%3F")])
@pytest.mark.parametrize("query", ["", "b=2&a=1", "a=&b=x%20y", "a=1&a=0"])
def test_what_botocore_signs_is_accepted(clock: FakeClock, path: str, query: str) -> None:
    path = "".join(letter if ord(letter) < 128 else "%C3%A4" for letter in path)
    request = signed(path=path, query=query)
    assert verify(request, secret_of=lambda _: SECRET, now=clock.now()) == "LSAK1"


@pytest.mark.parametrize(
    "change",
    [
        {"body": b"other"},
        {"path": "/endpoints/other/invocations"},
        {"query": "a=1"},
        {"method": "PUT"},
    ],
)
def test_anything_changed_after_signing_is_refused(
    clock: FakeClock, change: dict[str, Any]
) -> None:
    request = replace(signed(), **change)
    assert refused(request, clock) == "InvalidSignatureException"


def test_a_clock_may_differ_by_five_minutes_and_no_more(clock: FakeClock) -> None:
    request = signed()
    clock.advance(290)
    assert verify(request, secret_of=lambda _: SECRET, now=clock.now())
    clock.advance(20)
    assert refused(request, clock) == "InvalidSignatureException"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("authorization", lambda text: text.replace("x-amz-date", "x-amz-other")),
        ("authorization", lambda text: text.replace("aws4_request", "aws5_request")),
        ("authorization", lambda text: text.partition("Signature")[0]),
        ("authorization", lambda text: text.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-MD5")),
        ("x-amz-date", lambda _: "yesterday"),
    ],
)
def test_a_damaged_header_is_refused(
    clock: FakeClock, name: str, change: Callable[[str], str]
) -> None:
    request = signed()
    headers = {**request.headers, name: change(request.headers[name])}
    assert refused(replace(request, headers=headers), clock) == "IncompleteSignatureException"
