"""``/endpoints/<name>/invocations`` of a count: every content type, every fault."""

import base64
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import botocore.exceptions
import cv2
import numpy as np
import pytest

from lineside.core import Inspection, Plant, parse_plant
from lineside.hub import Services
from lineside.hub.inference.endpoints import endpoint_values, predict_endpoint
from tests.hub.counting.squares import MOST, PLANT, bin_jpeg, bin_picture

ENDPOINT = "bin-counter"
Aws = Callable[..., Any]


def ask(aws: Aws, body: bytes, *, kind: str = "image/jpeg", name: str = ENDPOINT) -> Any:  # noqa: ANN401  JSON
    client = aws("sagemaker-runtime")
    answer = client.invoke_endpoint(EndpointName=name, ContentType=kind, Body=body)
    assert answer["ContentType"] == "application/json"
    return json.loads(answer["Body"].read())


@pytest.mark.parametrize("count", range(MOST + 1))
def test_an_unmodified_client_gets_a_row_of_probabilities(aws: Aws, used: str, count: int) -> None:
    assert used
    (row,) = ask(aws, bin_jpeg(count))
    assert len(row) == MOST + 2
    assert sum(row) == pytest.approx(1, abs=1e-4)
    assert int(np.argmax(row)) == count


def test_more_than_the_package_can_tell_is_the_last_number(aws: Aws, used: str) -> None:
    assert used
    (row,) = ask(aws, bin_jpeg(9))
    assert row[-1] == max(row)


@pytest.mark.parametrize("kind", ["image/jpeg", "image/*", "application/x-image"])
def test_bare_bytes_are_taken_under_every_picture_type(aws: Aws, used: str, kind: str) -> None:
    assert used
    assert int(np.argmax(ask(aws, bin_jpeg(2), kind=kind)[0])) == 2


@pytest.mark.parametrize("head", ["", "data:image/jpeg;base64,"])
def test_json_with_base64_gives_the_same_row(aws: Aws, used: str, head: str) -> None:
    assert used
    text = head + base64.b64encode(bin_jpeg(4)).decode()
    body = json.dumps({"image": text}).encode()
    assert ask(aws, body, kind="application/json") == ask(aws, bin_jpeg(4))


def test_a_grey_a_turned_and_a_png_picture_are_counted(aws: Aws, used: str) -> None:
    assert used
    grey = cv2.cvtColor(bin_picture(3), cv2.COLOR_RGB2GRAY)
    for encoded in (cv2.imencode(".jpg", grey)[1], cv2.imencode(".png", bin_picture(3))[1]):
        assert int(np.argmax(ask(aws, encoded.tobytes(), kind="image/*")[0])) == 3


@pytest.mark.parametrize(
    ("kind", "body", "status", "said"),
    [
        ("text/plain", b"x", 415, "content type 'text/plain'"),
        ("application/xml", b"<x/>", 415, "application/json"),
        ("image/jpeg", b"", 400, "empty body"),
        ("image/jpeg", b"GIF89a", 400, "neither JPEG nor PNG"),
        ("image/jpeg", bin_jpeg(3)[:400], 400, ""),
        ("application/json", b"{}", 400, "no picture"),
        ("application/json", b'{"image":"%%%"}', 400, "not base64"),
        ("application/json", b"[", 400, ""),
    ],
)
def test_what_is_no_picture_is_refused_with_its_status_and_a_sentence(
    aws: Aws, used: str, *, kind: str, body: bytes, status: int, said: str
) -> None:
    assert used
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        ask(aws, body, kind=kind)
    answer = refused.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == status
    assert answer["Error"]["Code"] == "ValidationError"
    assert said in answer["Error"]["Message"]


def test_a_picture_that_cannot_be_judged_has_no_numbers(aws: Aws, used: str) -> None:
    assert used
    black = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    with pytest.raises(botocore.exceptions.ClientError, match="cannot be judged, black"):
        ask(aws, black)


def test_an_unknown_endpoint_is_named(aws: Aws, used: str) -> None:
    assert used
    with pytest.raises(botocore.exceptions.ClientError, match="Endpoint other not found"):
        ask(aws, bin_jpeg(1), name="other")


def test_a_wrong_secret_is_refused(aws: Aws, used: str) -> None:
    assert used
    client = aws("sagemaker-runtime", secret="wrong")  # noqa: S106  a wrong one
    with pytest.raises(botocore.exceptions.ClientError, match="InvalidSignature"):
        client.invoke_endpoint(EndpointName=ENDPOINT, ContentType="image/jpeg", Body=b"x")


def logits(plant: Plant) -> Plant:
    one: Inspection = replace(plant.inspection[0], endpoint_answer="logits")
    return replace(plant, inspection=(one,))


def test_logits_are_given_where_the_endpoint_asks_for_them_only(
    hub: Services, used: str, plant: Plant
) -> None:
    """Their largest and their softmax are those of the probabilities."""
    assert used
    found = predict_endpoint(hub.packages, plant, endpoint=ENDPOINT, picture=bin_jpeg(4))
    (row,) = endpoint_values(plant, found)
    asked = logits(plant)
    found = predict_endpoint(hub.packages, asked, endpoint=ENDPOINT, picture=bin_jpeg(4))
    (told,) = endpoint_values(asked, found)
    assert isinstance(row, list)
    assert isinstance(told, list)
    assert max(told) <= 0
    assert math.isfinite(min(told))
    softmax = np.exp(told) / np.exp(told).sum()
    assert softmax == pytest.approx(row, abs=1e-5)


def test_the_plant_file_knows_the_setting_for_counts_alone() -> None:
    line = b'endpoint_answer = "logits"\n'
    good = PLANT.replace(b'endpoint = "bin-counter"\n', b'endpoint = "bin-counter"\n' + line)
    assert parse_plant(good, where="plant").inspection[0].endpoint_answer == "logits"
    bad = good.replace(b'task = "count"', b'task = "anomaly"')
    with pytest.raises(Exception, match="task count only"):
        parse_plant(bad, where="plant")
