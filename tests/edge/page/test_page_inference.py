"""The Open Inference Protocol over HTTP on the device: what is at work there answers."""

import base64
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from lineside.compat.open_inference.tensors import InferRequest
from lineside.core import SystemClock, UnavailableError
from lineside.edge.page import app
from lineside.edge.page.app import PageInference
from lineside.models import Package, Predictor, build_package
from lineside.testing.links import LONG_S, wait_until
from lineside.vision import encode_jpeg, open_frame, picture_size
from tests.edge.page.asking import Answer, ask
from tests.edge.page.pages import Shown, shown
from tests.models.conftest import package_parts, scene


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(Package.read(build_package(*package_parts())), clock=SystemClock())


@pytest.fixture
def page(tmp_path: Path, predictor: Predictor) -> Iterator[Shown]:
    with shown(tmp_path, clock=SystemClock()) as served:
        served.judges["defect"] = predictor
        yield served


def infer(page: Shown, body: dict[str, Any], *, model: str = "defect") -> Answer:
    path = f"/v2/models/{model}/infer"
    return ask(page.url, path, method="POST", body=json.dumps(body).encode())


def pictured(picture: bytes) -> dict[str, Any]:
    text = base64.b64encode(picture).decode()
    one = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [text]}
    return {"inputs": [one], "outputs": [{"name": "labels"}, {"name": "probabilities"}]}


def test_an_inspection_is_a_model_with_the_package_in_use_as_its_version(
    page: Shown, predictor: Predictor
) -> None:
    digits = predictor.package.digest.removeprefix("sha256:")[:12]
    assert ask(page.url, "/v2").json["models"] == ["defect"]
    assert ask(page.url, "/v2/health/ready").json["ready"]
    meta = ask(page.url, "/v2/models/defect").json
    assert meta["versions"] == [digits]
    assert {one["name"] for one in meta["inputs"]} == {"image", "crops"}
    assert ask(page.url, f"/v2/models/defect/versions/{digits}/ready").status == 200
    for path in ("/v2/models/where", "/v2/models/none/ready", "/v2/models/defect/versions/9"):
        answer = ask(page.url, path)
        assert answer.status == 404
        assert "error" in answer.json


def test_pictures_and_tensors_are_answered_by_the_package_at_work(page: Shown) -> None:
    crops = np.zeros((2, 3, 16, 16), np.float32)
    given = {"name": "crops", "shape": list(crops.shape), "datatype": "FP32"}
    answer = infer(page, {"inputs": [{**given, "data": crops.ravel().tolist()}]})
    assert answer.status == 200, answer.body
    assert {one["name"] for one in answer.json["outputs"]} >= {"logits"}
    answer = infer(page, {"inputs": [{**given, "data": [1.0]}]})
    assert answer.status == 400


def test_a_picture_is_answered_again_and_again_as_on_the_line(
    page: Shown, predictor: Predictor
) -> None:
    encoded = encode_jpeg(scene(), quality=95)
    frame = open_frame(encoded, camera="other", captured_at=page.clock.now())
    wanted = [one.probability for one in predictor.predict(frame).labels]
    body = pictured(encoded)
    for _ in range(3):
        answer = infer(page, body)
        assert answer.status == 200, answer.body
        names = {one["name"]: one["data"] for one in answer.json["outputs"]}
        assert names["labels"] == ["disc", "ring"]
        assert names["probabilities"] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff" * 100, b'{"inputs":7}'])
def test_what_is_no_request_of_the_protocol_is_refused(page: Shown, body: bytes) -> None:
    answer = ask(page.url, "/v2/models/defect/infer", method="POST", body=body)
    assert answer.status == 400
    assert "error" in answer.json


def test_few_may_wait(predictor: Predictor) -> None:
    models = PageInference(("stock",), judge=lambda _: predictor, clock=SystemClock())
    for _ in range(4):
        assert models._places.acquire(blocking=False)
    with pytest.raises(UnavailableError, match="4 calls wait"):
        models.infer("stock", version="", request=InferRequest(inputs=()))
    with pytest.raises(UnavailableError):
        models.metadata("stock", version="")


def test_bodies_that_dawdle_hold_few_places_and_not_for_long(
    page: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_UNREAD_S", 1.0)
    place = urlsplit(page.url)
    head = f"POST /v2/models/defect/infer HTTP/1.1\r\nHost: {place.netloc}\r\n"
    asked = f"{head}Content-Length: 1000\r\n\r\n{{".encode()
    with ExitStack() as stack:

        def is_full() -> bool:
            for _ in range(4):
                lazy = socket.create_connection((place.hostname or "", place.port or 0), LONG_S)
                stack.enter_context(lazy).sendall(asked)
            return infer(page, {}).status == 503

        wait_until(is_full)
        wait_until(lambda: infer(page, {}).status == 400)


def test_a_heat_map_of_the_latest_answer_is_made_on_request(
    page: Shown, predictor: Predictor
) -> None:
    at = page.clock.now()
    frame = open_frame(encode_jpeg(scene(), quality=95), camera="surface", captured_at=at)
    said = predictor.predict(frame)
    page.see(frame, replace(said, inspection="defect"))
    answer = ask(page.url, "/api/latest/defect/heat")
    assert answer.status == 200, answer.body
    assert answer.headers["x-lineside-frame"] == frame.id
    assert picture_size(answer.body) == (160, 120)
    assert answer.body != frame.encoded


def test_a_page_without_the_contract_has_none_of_its_addresses(tmp_path: Path) -> None:
    with shown(tmp_path, clock=SystemClock(), open_inference=False) as page:
        assert [ask(page.url, path).status for path in ("/v2", "/health")] == [404, 200]
