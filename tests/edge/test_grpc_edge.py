"""``lineside.edge.v1`` over a real channel, and decisions as the cameras' threads take them."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from lineside.compat.aws import agent_pb2
from lineside.core import digest_of
from lineside.edge.local_api import lineside_edge_v1_pb2 as edge_pb2
from lineside.edge.local_api.grpc_edge import (
    MOST_WATCHERS,
    Watchers,
    prediction_to_wire,
    time_from_wire,
    time_to_wire,
)
from lineside.edge.messages import Counters
from lineside.edge.packages import notify
from lineside.models import Package, Predictor, build_package
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, wait_until
from lineside.vision import decode_picture, encode_jpeg, open_frame
from tests.edge.conftest import QuickJudge, picture
from tests.edge.serving import STARTED_S, Served, edge_config, refused, served
from tests.models.conftest import package_parts, scene

NAME = "bright-1"


@pytest.fixture
def predictor(archive: bytes, clock: FakeClock) -> Predictor:
    return Predictor(Package.read(archive), clock=clock)


@pytest.fixture
def folder(tmp_path: Path, archive: bytes) -> Path:
    place = tmp_path / "bright" / "1"
    place.mkdir(parents=True)
    (place / "package.lspkg").write_bytes(archive)
    return place


@pytest.fixture
def device(
    tmp_path: Path, folder: Path, predictor: Predictor, clock: FakeClock
) -> Iterator[Served]:
    """With a package by name, and one in use for the inspection ``stock``."""
    judges = {"stock": predictor}
    with served(edge_config(tmp_path), clock=clock, find_judge=judges.get) as found:
        request = agent_pb2.LoadModelRequest(url=str(folder), name=NAME)
        found.client.agent.LoadModel(request, timeout=STARTED_S)
        yield found


def asked(**more: Any) -> edge_pb2.PredictRequest:  # noqa: ANN401  any of its fields
    fields = {"picture": encode_jpeg(scene(), quality=95), **more}
    if "inspection" not in fields:
        fields.setdefault("model", NAME)
    return edge_pb2.PredictRequest(**fields)


class TestPredict:
    @pytest.mark.parametrize("who", [{"model": NAME}, {"inspection": "stock"}])
    def test_decides_as_the_package_does_everywhere(
        self, device: Served, predictor: Predictor, who: dict[str, str]
    ) -> None:
        at = datetime(2026, 1, 1, 11, tzinfo=UTC)
        request = asked(camera="rack", captured_at=time_to_wire(at), part="p-7", sequence=12, **who)
        found = device.client.edge.Predict(request, timeout=STARTED_S)
        frame = open_frame(request.picture, camera="rack", captured_at=at, part="p-7", sequence=12)
        wanted = prediction_to_wire(predictor.predict(frame, device="edge-1"))
        for message in (found, wanted):
            message.ClearField("latency")
            message.ClearField("registration")
        assert found == wanted
        assert [answer.name for answer in found.labels] == ["disc", "ring"]
        assert found.frame.digest == digest_of(request.picture)

    def test_dates_a_picture_without_a_time_and_calls_it_not_frozen(self, device: Served) -> None:
        for _ in range(8):
            device.clock.advance(1)
            found = device.client.edge.Predict(asked())
            assert found.state == edge_pb2.PictureState.Value("PICTURE_STATE_OK")
            assert found.frame.captured_at == time_to_wire(device.clock.now())

    @pytest.mark.parametrize(
        ("request_", "code", "why"),
        [
            (asked(picture=b""), "INVALID_ARGUMENT", ""),
            (asked(picture=b"\xff\xd8\xff" + bytes(100)), "INVALID_ARGUMENT", ""),
            (asked(picture=b"GIF89a" + bytes(50)), "INVALID_ARGUMENT", ""),
            (asked(model="none"), "NOT_FOUND", f"Loaded: {NAME}."),
            (asked(inspection="none"), "NOT_FOUND", "ListPackages"),
            (edge_pb2.PredictRequest(picture=picture()), "INVALID_ARGUMENT", "nobody is asked"),
            (asked(camera="c" * 201), "INVALID_ARGUMENT", "201 characters"),
            (asked(captured_at={"seconds": 2**60}), "INVALID_ARGUMENT", "are no time"),
            (asked(template=b"none"), "INVALID_ARGUMENT", ""),
        ],
    )
    def test_refuses_what_it_cannot_answer(
        self, device: Served, request_: edge_pb2.PredictRequest, code: str, why: str
    ) -> None:
        found, sentence = refused(device.client.edge.Predict, request_)
        assert (found, why in sentence) == (code, True)
        assert device.client.edge.Predict(asked()).task == "multilabel"

    def test_refuses_a_package_that_changed_on_the_disk_since(
        self, device: Served, folder: Path
    ) -> None:
        manifest, files = package_parts()
        other = build_package(replace(manifest, name="other"), files)
        (folder / "package.lspkg").write_bytes(other)
        code, sentence = refused(device.client.edge.Predict, asked())
        assert code == "FAILED_PRECONDITION"
        assert "changed on the disk since it was loaded" in sentence
        data = bytearray(other)
        data[len(data) // 2] ^= 1
        (folder / "package.lspkg").write_bytes(data)
        assert refused(device.client.edge.Predict, asked())[0] == "FAILED_PRECONDITION"


def test_reasons_are_pictures_of_the_pictures_size(device: Served) -> None:
    found = device.client.edge.Explain(asked(), timeout=STARTED_S)
    assert set(found.heat_png) == {"disc", "ring"}
    image = decode_picture(found.heat_png["disc"])
    assert image.shape == scene().shape


def test_packages_are_listed_by_inspection_and_by_name(device: Served, archive: bytes) -> None:
    found = device.client.edge.ListPackages(edge_pb2.ListPackagesRequest()).packages
    digest = Package.read(archive).digest
    assert [(each.model, each.inspection, each.digest) for each in found] == [
        ("", "stock", digest), (NAME, "stock", digest)
    ]  # fmt: skip
    loaded_at = time_from_wire(found[1].loaded_at, where="loaded_at")
    assert loaded_at == device.clock.now()


class TestWatching:
    def look(self, device: Served, number: int, *, inspection: str = "stock") -> None:
        """A decision, as a camera's thread takes it."""
        judge = QuickJudge(digest_of(b"a package"), device.clock, inspection=inspection)
        frame = open_frame(picture(number), camera="rack", captured_at=device.clock.now())
        prediction = judge.predict(frame, device="edge-1")
        notify(device.serving.observers, frame, prediction, counters=device.counters)

    def test_a_client_sees_each_decision_in_order(self, device: Served) -> None:
        stream = device.client.edge.Watch(edge_pb2.WatchRequest(), timeout=STARTED_S)
        stream.initial_metadata()
        for number in range(3):
            self.look(device, number)
        digests = [next(stream).prediction.frame.digest for _ in range(3)]
        assert digests == [digest_of(picture(number)) for number in range(3)]
        stream.cancel()
        wait_until(lambda: device.serving._watchers._open == ())

    def test_of_one_inspection_sees_that_alone(self, device: Served) -> None:
        stream = device.client.edge.Watch(
            edge_pb2.WatchRequest(inspection="stock"), timeout=STARTED_S
        )
        stream.initial_metadata()
        self.look(device, 1, inspection="other")
        self.look(device, 2)
        assert next(stream).prediction.inspection == "stock"
        stream.cancel()

    def test_is_bounded_in_clients(self, device: Served) -> None:
        streams = [
            device.client.edge.Watch(edge_pb2.WatchRequest(), timeout=STARTED_S)
            for _ in range(MOST_WATCHERS)
        ]
        for stream in streams:
            stream.initial_metadata()
        with pytest.raises(grpc.RpcError) as error:
            next(device.client.edge.Watch(edge_pb2.WatchRequest(), timeout=STARTED_S))
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert device.client.edge.Predict(asked(), timeout=STARTED_S).task == "multilabel"
        for stream in streams:
            stream.cancel()

    def test_ends_when_the_device_stops(self, tmp_path: Path, clock: FakeClock) -> None:
        ended = threading.Event()
        with served(edge_config(tmp_path), clock=clock) as device:
            stream = device.client.edge.Watch(edge_pb2.WatchRequest(), timeout=LONG_S)
            stream.initial_metadata()
            device.serving._watchers.close()
            assert list(stream) == []
            ended.set()
        assert ended.is_set()


def test_a_slow_watcher_loses_its_oldest_and_is_told(clock: FakeClock) -> None:
    watchers = Watchers()
    watcher = watchers.join()
    judge = QuickJudge(digest_of(b"a package"), clock)
    frame = open_frame(picture(), camera="rack", captured_at=clock.now())
    for number in range(130):
        watchers.look(frame, replace(judge.predict(frame), reason=str(number)))
    seen = watcher.decisions()
    first = next(seen)
    assert (first.missed, first.prediction.reason) == (30, "30")
    assert next(seen).missed == 0
    watchers.leave(watcher)
    assert list(seen) == []


def test_an_onlooker_that_fails_holds_nothing_up(clock: FakeClock) -> None:
    counters = Counters()
    seen: list[str] = []

    def broken(*_: object) -> None:
        raise ZeroDivisionError("bug")

    judge = QuickJudge(digest_of(b"a package"), clock)
    frame = open_frame(picture(), camera="rack", captured_at=clock.now())
    observers = (broken, lambda _, prediction: seen.append(prediction.inspection))
    notify(observers, frame, judge.predict(frame), counters=counters)
    assert seen == ["stock"]
    assert counters.read().faults == ("onlooker: ZeroDivisionError('bug')",)
