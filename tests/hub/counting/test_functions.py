"""The function contract: AWS' own client and a plain address, and what they may not read."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import botocore.exceptions
import numpy as np
import pytest
from fastapi.testclient import TestClient

from lineside.core import InvalidError, NotFoundError, Plant, RefusedError
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, Services
from lineside.hub.config import FunctionConfig
from lineside.hub.inference.functions import Functions, PictureStore, picture_name
from lineside.testing import FakeClock
from tests.hub.counting.conftest import FUNCTION
from tests.hub.counting.squares import MOST, bin_jpeg

Aws = Callable[..., Any]
ASKED = {
    "s3_bucket": "amazon-bin-images-sub",
    "s3_prefix": "bin-images/",
    "endpoint_name": "bin-counter",
    "image_name": "00004.jpg",
}


def call(aws: Aws, document: object, *, name: str = FUNCTION) -> dict[str, Any]:
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    answer = aws("lambda").invoke(FunctionName=name, Payload=payload)
    assert answer["StatusCode"] == 200
    assert answer["ExecutedVersion"] == "$LATEST"
    told: dict[str, Any] = json.loads(answer["Payload"].read())
    assert ("FunctionError" in answer) == (told["statusCode"] != 200)
    return told


def test_an_unmodified_client_gets_picture_and_prediction(aws: Aws, used: str) -> None:
    assert used
    told = call(aws, ASKED)
    assert told["statusCode"] == 200
    assert base64.b64decode(told["body"]["image"]) == bin_jpeg(3)
    (row,) = told["body"]["prediction"]
    assert len(row) == MOST + 2
    assert int(np.argmax(row)) == 3


def test_a_reply_tells_nothing_of_the_machine_and_lets_no_foreign_page_read_it(
    aws: Aws, used: str
) -> None:
    assert used
    told = call(aws, ASKED)
    assert set(told) == {"statusCode", "headers", "body"}
    assert set(told["body"]) == {"image", "prediction"}
    assert not [name for name in told["headers"] if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "name", [f"arn:aws:lambda:eu-west-1:123456789012:function:{FUNCTION}", f"{FUNCTION}:$LATEST"]
)
def test_an_arn_and_a_qualified_name_mean_the_same_function(aws: Aws, used: str, name: str) -> None:
    assert used
    assert call(aws, ASKED, name=name)["statusCode"] == 200


@pytest.mark.parametrize("missing", sorted(ASKED))
def test_every_field_is_needed(aws: Aws, used: str, missing: str) -> None:
    assert used
    told = call(aws, {key: value for key, value in ASKED.items() if key != missing})
    assert told["statusCode"] == 400
    assert missing in json.dumps(told["body"])


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("s3_bucket", "other-bucket", 403),
        ("s3_bucket", "", 403),
        ("s3_prefix", "metadata/", 403),
        ("s3_prefix", "../", 403),
        ("endpoint_name", "other", 403),
        ("image_name", "../metadata/00004.json", 403),
        ("image_name", "/etc/hostname", 403),
        ("image_name", "..", 403),
        ("image_name", "a\\b.jpg", 403),
        ("image_name", "", 400),
        ("image_name", "00999.jpg", 404),
        ("image_name", "00008.jpg", 400),
        ("image_name", "00009.jpg", 400),
        ("image_name", 4, 400),
    ],
)
def test_nothing_but_what_is_configured_is_read(
    aws: Aws, used: str, *, field: str, value: object, status: int
) -> None:
    assert used
    told = call(aws, {**ASKED, field: value})
    assert told["statusCode"] == status
    assert told["body"]["error"]
    assert "prediction" not in told["body"]
    assert "image" not in told["body"]


def test_without_a_package_in_use_the_reply_says_so(aws: Aws) -> None:
    told = call(aws, ASKED)
    assert told["statusCode"] == 404
    assert "no package is in use" in told["body"]["error"]


@pytest.mark.parametrize(
    ("name", "payload", "kind", "code", "status"),
    [
        ("other", b"{}", "RequestResponse", "ResourceNotFoundException", 404),
        (FUNCTION, b"{", "RequestResponse", "InvalidRequestContentException", 400),
        (FUNCTION, b"{}", "Event", "InvalidParameterValueException", 400),
    ],
)
def test_what_stands_before_the_function_is_an_error_in_aws_own_words(
    aws: Aws, used: str, *, name: str, payload: bytes, kind: str, code: str, status: int
) -> None:
    assert used
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        aws("lambda").invoke(FunctionName=name, Payload=payload, InvocationType=kind)
    assert refused.value.response["Error"]["Code"] == code
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_a_dry_run_says_whether_one_may(aws: Aws, used: str) -> None:
    assert used
    answer = aws("lambda").invoke(FunctionName=FUNCTION, InvocationType="DryRun")
    assert answer["StatusCode"] == 204


def test_a_call_without_or_with_a_wrong_signature_is_refused(
    aws: Aws, used: str, nobody: TestClient
) -> None:
    assert used
    answer = nobody.post(f"/2015-03-31/functions/{FUNCTION}/invocations", json=ASKED)
    assert answer.status_code == 403
    assert answer.headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"
    with pytest.raises(botocore.exceptions.ClientError, match="InvalidSignature"):
        aws("lambda", secret="wrong").invoke(FunctionName=FUNCTION, Payload=b"{}")  # noqa: S106  a wrong one


# ---- the plain address


def test_the_plain_address_gives_the_body_and_real_statuses(client: TestClient, used: str) -> None:
    assert used
    address = f"/api/v1/functions/{FUNCTION}/call"
    answer = client.post(address, json=ASKED)
    assert answer.status_code == 200
    assert set(answer.json()) == {"image", "prediction"}
    for key, value, status in (
        ("s3_bucket", "other", 403),
        ("image_name", "00999.jpg", 404),
        ("image_name", "00008.jpg", 400),
    ):
        refused = client.post(address, json={**ASKED, key: value})
        assert refused.status_code == status
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["detail"]
    assert client.post(address, json={}).status_code == 400
    assert client.post("/api/v1/functions/other/call", json=ASKED).status_code == 404


def test_the_plain_address_is_for_those_who_are_signed_in(nobody: TestClient) -> None:
    assert nobody.post(f"/api/v1/functions/{FUNCTION}/call", json=ASKED).status_code == 401


def test_functions_and_their_pictures_are_listed(client: TestClient) -> None:
    (row,) = client.get("/api/v1/functions").json()["items"]
    assert row == {
        "name": FUNCTION, "endpoint": "bin-counter", "bucket": "amazon-bin-images-sub",
        "prefix": "bin-images/", "counts": True,
    }  # fmt: skip
    page = client.get(f"/api/v1/functions/{FUNCTION}/pictures", params={"limit": 4}).json()
    assert page["items"] == [f"{number:05d}.jpg" for number in range(1, 5)]
    rest = client.get(
        f"/api/v1/functions/{FUNCTION}/pictures", params={"after": page["next"]}
    ).json()
    assert rest["items"][0] == "00005.jpg"
    assert rest["next"] is None


# ---- settings and store


@pytest.mark.parametrize(
    ("asked", "name"), [("2", "00002.jpg"), ("523", "00523.jpg"), ("499993", "499993.jpg")]
)
def test_numbers_name_files_of_five_digits(asked: str, name: str) -> None:
    assert picture_name(asked) == name


def test_an_unpadded_file_is_found_too(function: FunctionConfig, store: Path) -> None:
    (store / "bin-images" / "523.jpg").write_bytes(b"picture")
    (store / "metadata" / "523.json").write_text('{"EXPECTED_QUANTITY": 17}')
    shelf = PictureStore(function, clock=FakeClock())
    assert shelf.read("00523.jpg") == b"picture"
    assert shelf.inventory_record("00523.jpg").quantity == 17
    assert shelf.offered("523") == shelf.offered("523.jpg") == "523.jpg"


def test_the_list_is_read_again_after_half_a_minute(function: FunctionConfig, store: Path) -> None:
    clock = FakeClock()
    shelf = PictureStore(function, clock=clock)
    assert len(shelf.names()) == 9
    (store / "bin-images" / "00010.jpg").write_bytes(b"new")
    (store / "bin-images" / "note.txt").write_bytes(b"no picture")
    assert len(shelf.names()) == 9
    clock.advance(31)
    assert len(shelf.names()) == 10


@pytest.mark.parametrize("text", ["3\n5\n", "id,count\n3,2\n5,4\n", "00003.jpg\n00005.jpg\n"])
def test_a_list_says_what_is_on_offer(function: FunctionConfig, tmp_path: Path, text: str) -> None:
    (tmp_path / "ids").write_text(text)
    shelf = PictureStore(replace(function, ids=str(tmp_path / "ids")), clock=FakeClock())
    assert shelf.names() == ("00003.jpg", "00005.jpg")
    assert shelf.offered("3") == "00003.jpg"
    with pytest.raises(RefusedError, match="not among the pictures on offer"):
        shelf.offered("4")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"{", "cannot be read"),
        (b"[]", "no EXPECTED_QUANTITY"),
        (b"{}", "no EXPECTED_QUANTITY"),
        (b'{"EXPECTED_QUANTITY": true}', "no EXPECTED_QUANTITY"),
        (b'{"EXPECTED_QUANTITY": "3"}', "no EXPECTED_QUANTITY"),
        (b'{"EXPECTED_QUANTITY": -1}', "-1"),
    ],
)
def test_a_record_that_says_nothing_usable_is_no_quantity(
    function: FunctionConfig, store: Path, *, record: bytes, reason: str
) -> None:
    (store / "metadata" / "00001.json").write_bytes(record)
    found = PictureStore(function, clock=FakeClock()).inventory_record("00001.jpg")
    assert found.quantity is None
    assert reason in found.reason


def test_a_link_does_not_lead_out_of_the_store(function: FunctionConfig, store: Path) -> None:
    (store / "bin-images" / "00077.jpg").symlink_to("/etc/hostname")
    with pytest.raises((RefusedError, InvalidError, NotFoundError)):
        PictureStore(function, clock=FakeClock()).read("00077.jpg")


def test_a_store_that_is_away_says_so(function: FunctionConfig, tmp_path: Path) -> None:
    gone = replace(function, store=SecretUrl((tmp_path / "gone").as_uri()))
    with pytest.raises(NotFoundError):
        PictureStore(gone, clock=FakeClock()).names()
    missing = replace(function, ids=str(tmp_path / "gone.txt"))
    with pytest.raises(NotFoundError, match="list of pictures"):
        PictureStore(missing, clock=FakeClock()).names()


def test_settings_that_cannot_work_are_refused_at_the_start(
    hub: Services, function: FunctionConfig, plant: Plant, config: HubConfig
) -> None:
    for wrong in (
        replace(function, endpoint="other"),
        replace(function, store=SecretUrl("ftp://store/pictures")),
        replace(function, store=SecretUrl("relative")),
    ):
        with pytest.raises((InvalidError, NotFoundError)):
            Functions((wrong,), plant=plant, packages=hub.packages, clock=FakeClock())
    with pytest.raises(InvalidError, match="a name of its own"):
        replace(config, function=(function, function))
