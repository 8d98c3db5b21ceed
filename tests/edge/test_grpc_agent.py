"""``AWS.SageMaker.Edge.Agent`` over a real channel on a Unix socket (reference, 9 and 16)."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from lineside.compat.aws import agent_pb2
from lineside.core import decode_json, encode
from lineside.edge.local_api.models import LoadedModels
from lineside.edge.machine import this_platform
from lineside.models import build_package
from lineside.models.engines import BareEngine
from lineside.models.wrap import read_wrapping, wrapped
from lineside.testing import FakeClock
from lineside.testing.engines import shades, spots
from tests.compat.aws.agent_client import moment_to_wire
from tests.edge.serving import STARTED_S, Served, connected, edge_config, refused, served
from tests.models.conftest import SIDE, network, package_parts
from tests.models.test_wrap import SHADES, SPOTS

UUID = "3f0c9a52-6d5b-4d5e-9a57-0d3a5b1c7e21"
FLOAT32 = 5


@pytest.fixture
def folder(tmp_path: Path, archive: bytes) -> Path:
    """As a deployed model lies: <home>/model/dev/<name>/<version>."""
    place = tmp_path / "data" / "model" / "dev" / "unet" / "1.2"
    place.mkdir(parents=True)
    (place / "package.lspkg").write_bytes(archive)
    return place


@pytest.fixture
def device(tmp_path: Path, clock: FakeClock) -> Iterator[Served]:
    with served(edge_config(tmp_path), clock=clock) as found:
        yield found


@pytest.fixture
def loaded(device: Served, folder: Path) -> Served:
    load(device, folder)
    return device


def load(device: Served, folder: Path | str, name: str = "unet-1-2") -> agent_pb2.Model:
    request = agent_pb2.LoadModelRequest(url=str(folder), name=name)
    answer = device.client.agent.LoadModel(request, timeout=STARTED_S)
    model: agent_pb2.Model = answer.model
    return model


def crops() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).random((2, 3, SIDE, SIDE), dtype=np.float32)


def tensor(values: np.ndarray[Any, Any], **facts: Any) -> agent_pb2.Tensor:  # noqa: ANN401  any of its fields
    metadata = agent_pb2.TensorMetadata(
        **{"name": "crops", "data_type": FLOAT32, "shape": values.shape, **facts}
    )
    return agent_pb2.Tensor(tensor_metadata=metadata, byte_data=values.tobytes())


def predict(*tensors: agent_pb2.Tensor, name: str = "unet-1-2") -> agent_pb2.PredictRequest:
    return agent_pb2.PredictRequest(name=name, tensors=tensors)


def capture(**more: Any) -> agent_pb2.CaptureDataRequest:  # noqa: ANN401  any of its fields
    return agent_pb2.CaptureDataRequest(**{"model_name": "unet-1-2", "capture_id": UUID, **more})


class TestModels:
    def test_a_loaded_model_says_what_it_takes_and_gives(
        self, device: Served, folder: Path
    ) -> None:
        model = load(device, folder)
        assert (model.name, model.url) == ("unet-1-2", str(folder))
        (taken,) = model.input_tensor_metadatas
        assert (taken.name, taken.data_type, list(taken.shape)) == (
            "crops", FLOAT32, [2, 3, SIDE, SIDE]
        )  # fmt: skip
        given = [(each.name, list(each.shape)) for each in model.output_tensor_metadatas]
        assert given == [("logits", [2, 2]), ("activation", [2, 2, 4, 4]), ("distance", [2])]
        described = device.client.agent.DescribeModel(
            agent_pb2.DescribeModelRequest(name="unet-1-2")
        )
        listed = device.client.agent.ListModels(agent_pb2.ListModelsRequest())
        assert described.model == model
        assert list(listed.models) == [model]

    def test_loading_twice_under_one_name_is_told(self, loaded: Served, folder: Path) -> None:
        request = agent_pb2.LoadModelRequest(url=str(folder), name="unet-1-2")
        code, sentence = refused(loaded.client.agent.LoadModel, request)
        assert code == "ALREADY_EXISTS"
        assert "unet-1-2 is loaded already" in sentence

    def test_several_are_loaded_and_one_goes(self, loaded: Served, folder: Path) -> None:
        load(loaded, folder, "other")
        agent = loaded.client.agent
        agent.UnLoadModel(agent_pb2.UnLoadModelRequest(name="unet-1-2"))
        names = [each.name for each in agent.ListModels(agent_pb2.ListModelsRequest()).models]
        assert names == ["other"]
        assert refused(agent.Predict, predict(tensor(crops())))[0] == "NOT_FOUND"

    @pytest.mark.parametrize("call", ["UnLoadModel", "DescribeModel", "Predict"])
    def test_an_unknown_name_is_told(self, loaded: Served, call: str) -> None:
        kind = getattr(agent_pb2, f"{call}Request")
        code, sentence = refused(getattr(loaded.client.agent, call), kind(name="none"))
        assert code == "NOT_FOUND"
        assert "Loaded: unet-1-2." in sentence

    @pytest.mark.parametrize("name", ["", "unet.1", "unet_1", "-unet", "unet-", "u/n", "../u"])
    def test_a_name_against_the_rule_is_refused(
        self, device: Served, folder: Path, name: str
    ) -> None:
        request = agent_pb2.LoadModelRequest(url=str(folder), name=name)
        code, sentence = refused(device.client.agent.LoadModel, request)
        assert code == "INVALID_ARGUMENT"
        assert "no dots or underscores" in sentence

    @pytest.mark.parametrize(
        "url", ["/not/there", "", "relative", "s3://bucket/model", "/\0", "/" + "x" * 5000]
    )
    def test_a_place_where_nothing_is_is_told(self, device: Served, url: str) -> None:
        request = agent_pb2.LoadModelRequest(url=url, name="unet-1")
        assert refused(device.client.agent.LoadModel, request)[0] == "NOT_FOUND"

    def test_an_empty_folder_holds_nothing(self, device: Served, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        request = agent_pb2.LoadModelRequest(url=str(tmp_path / "empty"), name="unet-1")
        assert refused(device.client.agent.LoadModel, request)[0] == "NOT_FOUND"

    @pytest.mark.parametrize(
        ("files", "why"),
        [
            ({"compiled.so": b"\x7fELF"}, "0 packages in the folder"),
            ({"a.lspkg": b"x", "b.lspkg": b"x"}, "2 packages in the folder"),
            ({"a.lspkg": b"no archive"}, "cannot be loaded: not a package archive"),
        ],
    )
    def test_what_is_no_package_cannot_be_loaded(
        self, device: Served, tmp_path: Path, files: dict[str, bytes], why: str
    ) -> None:
        place = tmp_path / "other"
        place.mkdir()
        for name, data in files.items():
            (place / name).write_bytes(data)
        request = agent_pb2.LoadModelRequest(url=str(place), name="unet-1")
        code, sentence = refused(device.client.agent.LoadModel, request)
        assert code == "FAILED_PRECONDITION"
        assert why in sentence

    def test_a_package_whose_golden_answers_differ_is_refused(
        self, device: Served, folder: Path
    ) -> None:
        manifest, files = package_parts()
        golden = replace(manifest.golden[0], logits=((9.0, 9.0), (9.0, 9.0)))
        (folder / "package.lspkg").write_bytes(
            build_package(replace(manifest, golden=(golden,)), files)
        )
        request = agent_pb2.LoadModelRequest(url=str(folder), name="unet-1-2")
        code, sentence = refused(device.client.agent.LoadModel, request)
        assert code == "FAILED_PRECONDITION"
        assert "golden pictures' answers differ" in sentence
        assert device.serving.packages.all() == ()

    def test_a_package_of_another_machine_is_refused(self, device: Served, folder: Path) -> None:
        manifest, files = package_parts()
        other = next(each for each in ("linux/x86_64", "linux/aarch64") if each != this_platform())
        (folder / "package.lspkg").write_bytes(
            build_package(replace(manifest, schema="lineside.manifest/3", targets=(other,)), files)
        )
        request = agent_pb2.LoadModelRequest(url=str(folder), name="unet-1-2")
        code, sentence = refused(device.client.agent.LoadModel, request)
        assert code == "FAILED_PRECONDITION"
        assert f"built for {other}, this is {this_platform()}" in sentence

    def test_more_than_memory_allows_is_refused_and_fits_after_unloading(
        self, tmp_path: Path, folder: Path, archive: bytes, clock: FakeClock
    ) -> None:
        config = edge_config(tmp_path, max_loaded_bytes=len(archive) + 10)
        with served(config, clock=clock) as device:
            load(device, folder)
            request = agent_pb2.LoadModelRequest(url=str(folder), name="second")
            code, sentence = refused(device.client.agent.LoadModel, request)
            assert code == "RESOURCE_EXHAUSTED"
            assert "max_loaded_bytes" in sentence
            device.client.agent.UnLoadModel(agent_pb2.UnLoadModelRequest(name="unet-1-2"))
            load(device, folder, "second")

    def test_more_packages_than_allowed_are_refused(
        self, tmp_path: Path, folder: Path, clock: FakeClock
    ) -> None:
        with served(edge_config(tmp_path, max_loaded_packages=1), clock=clock) as device:
            load(device, folder)
            request = agent_pb2.LoadModelRequest(url=str(folder), name="second")
            assert refused(device.client.agent.LoadModel, request)[0] == "RESOURCE_EXHAUSTED"


class TestPredict:
    def test_answers_what_the_bare_network_answers(self, loaded: Served) -> None:
        values = crops()
        answer = loaded.client.agent.Predict(predict(tensor(values)))
        wanted = BareEngine(network(), where="test").run({"crops": values})
        assert len(answer.tensors) == 3
        for message, array in zip(answer.tensors, wanted, strict=True):
            assert message.WhichOneof("data") == "byte_data"
            assert message.byte_data == array.tobytes()
            assert tuple(message.tensor_metadata.shape) == array.shape

    def test_facts_of_the_tensor_may_be_left_out(self, loaded: Served) -> None:
        values = crops()
        told = loaded.client.agent.Predict(predict(tensor(values)))
        bare = agent_pb2.Tensor(byte_data=values.tobytes())
        named = tensor(values, data_type=0, shape=())
        assert loaded.client.agent.Predict(predict(bare)) == told
        assert loaded.client.agent.Predict(predict(named)) == told
        open_side = tensor(values, shape=(-1, 3, -1, SIDE))
        assert loaded.client.agent.Predict(predict(open_side)) == told

    @pytest.mark.parametrize(
        ("tensors", "why"),
        [
            ([], "0 tensors for 1 inputs"),
            ([tensor(crops()), tensor(crops())], "2 tensors for 1 inputs"),
            ([tensor(crops(), name="data")], "'data' is no input"),
            ([tensor(crops(), data_type=6)], "takes float32, the tensor is float64"),
            ([tensor(crops(), data_type=99)], "data type 99 is none"),
            ([tensor(crops(), shape=(1, 3, 224, 224))], "do not fit the input"),
            ([tensor(crops(), shape=(2**31 - 1,) * 4)], "do not fit the input"),
            ([tensor(crops(), shape=(2, 3, -2, SIDE))], "a tensor of shape"),
            ([tensor(crops()[:1], shape=(2, 3, SIDE, SIDE))], "bytes, float32 of"),
            ([agent_pb2.Tensor(byte_data=b"abc")], "bytes, float32 of"),
            ([agent_pb2.Tensor()], "no data"),
            ([tensor(crops() * np.float32("nan"))], "no finite numbers"),
            ([tensor(crops() * np.float32("inf"))], "no finite numbers"),
            (
                [agent_pb2.Tensor(shared_memory_handle=agent_pb2.SharedMemoryHandle(size=9))],
                "shared memory is not taken",
            ),
        ],
    )
    def test_a_tensor_that_does_not_fit_is_refused_with_a_sentence(
        self, loaded: Served, tensors: list[agent_pb2.Tensor], why: str
    ) -> None:
        code, sentence = refused(loaded.client.agent.Predict, predict(*tensors))
        assert code == "INVALID_ARGUMENT"
        assert why in sentence
        loaded.client.agent.Predict(predict(tensor(crops())))

    def test_a_message_beyond_the_bound_is_refused_and_the_next_is_answered(
        self, loaded: Served
    ) -> None:
        huge = agent_pb2.Tensor(byte_data=bytes(65_000_000))
        assert refused(loaded.client.agent.Predict, predict(huge))[0] == "RESOURCE_EXHAUSTED"
        loaded.client.agent.Predict(predict(tensor(crops())))

    def test_calls_at_once_are_all_answered(self, loaded: Served) -> None:
        values = [crops() * np.float32(number) for number in range(8)]
        calls = [loaded.client.agent.Predict.future(predict(tensor(each))) for each in values]
        answers = [call.result(timeout=STARTED_S).tensors[0].byte_data for call in calls]
        engine = BareEngine(network(), where="test")
        assert answers == [engine.run({"crops": each})[0].tobytes() for each in values]

    def test_a_call_waits_for_the_one_before(self, loaded: Served) -> None:
        with loaded.serving.packages._running:
            call = loaded.client.agent.Predict.future(predict(tensor(crops())))
            with pytest.raises(grpc.FutureTimeoutError):
                call.result(timeout=0.1)
            loaded.client.agent.ListModels(agent_pb2.ListModelsRequest(), timeout=STARTED_S)
        assert call.result(timeout=STARTED_S).tensors


class TestProbabilities:
    """First output of networks that were wrapped, as the edge-manager sample's page reads it."""

    def test_of_classes_sum_to_one(self, device: Served, tmp_path: Path) -> None:
        model = self.wrapped(device, tmp_path, network=shades(), toml=SHADES)
        assert [each.name for each in model.output_tensor_metadatas][:2] == [
            "probabilities", "logits",
        ]  # fmt: skip
        assert list(model.output_tensor_metadatas[0].shape)[-1] == 2
        for value, wanted in ((10, 0), (250, 1)):
            values = np.full((1, 3, 16, 16), value, np.float32)
            request = agent_pb2.PredictRequest(
                name="unet-1-2",
                tensors=[agent_pb2.Tensor(byte_data=values.tobytes())],
            )
            first, logits = device.client.agent.Predict(request).tensors[:2]
            found = np.frombuffer(first.byte_data, np.float32)
            assert list(first.tensor_metadata.shape) == [1, 2]
            assert found.sum() == pytest.approx(1.0)
            assert found.argmax() == wanted
            assert found.argmax() == np.frombuffer(logits.byte_data, np.float32).argmax()

    def test_of_a_map_lie_between_0_and_1(self, device: Served, tmp_path: Path) -> None:
        self.wrapped(
            device,
            tmp_path,
            network=spots(form="logits"),
            toml=SPOTS.replace("probabilities", "logits"),
        )
        values = np.full((1, 3, 32, 32), 30.0, np.float32)
        values[:, :, 8:16, 8:16] = 255.0
        request = agent_pb2.PredictRequest(
            name="unet-1-2", tensors=[agent_pb2.Tensor(byte_data=values.tobytes())]
        )
        first, logits = device.client.agent.Predict(request).tensors[:2]
        found = np.frombuffer(first.byte_data, np.float32).reshape(first.tensor_metadata.shape)
        assert first.tensor_metadata.name == "probabilities"
        said = np.frombuffer(logits.byte_data, np.float32).reshape(found.shape)
        assert np.allclose(found, 1 / (1 + np.exp(-said)))
        assert np.unique(found).size > 1

    def wrapped(
        self, device: Served, tmp_path: Path, *, network: bytes, toml: str
    ) -> agent_pb2.Model:
        place = tmp_path / "wrapped"
        place.mkdir()
        wrapping = read_wrapping(toml.encode(), where="wrap.toml")
        made = wrapped(network, wrapping, pictures=[], clock=device.clock)
        (place / "package.lspkg").write_bytes(made)
        return load(device, place)


class TestCaptures:
    def test_a_capture_is_under_way_then_kept(self, loaded: Served) -> None:
        agent = loaded.client.agent
        values = crops()
        agent.CaptureData(capture(input_tensors=[tensor(values)]))
        assert status(loaded) == "IN_PROGRESS"
        loaded.captured()
        wait_for(loaded, "SUCCESS")
        (manifest,) = (Path(loaded.config.data_dir) / "captures").rglob("*.jsonl")
        record = json.loads(manifest.read_text())
        assert record["eventMetadata"]["modelVersion"] == "1.2"
        data = Path(record["deviceFleetInputs"][0]["data-ref"].removeprefix("file://"))
        assert data.read_bytes() == values.tobytes()

    def test_a_model_that_is_not_loaded_has_no_captures(self, loaded: Served) -> None:
        agent = loaded.client.agent
        code, sentence = refused(agent.CaptureData, capture(model_name="other-1"))
        assert code == "NOT_FOUND"
        assert "other-1" in sentence
        agent.UnLoadModel(agent_pb2.UnLoadModelRequest(name="unet-1-2"))
        assert refused(agent.CaptureData, capture())[0] == "NOT_FOUND"
        assert loaded.capturer.waiting == 0

    def test_the_same_id_twice_is_told(self, loaded: Served) -> None:
        loaded.client.agent.CaptureData(capture())
        code, _ = refused(loaded.client.agent.CaptureData, capture(capture_id=UUID.upper()))
        assert code == "ALREADY_EXISTS"

    @pytest.mark.parametrize(
        ("request_", "code"),
        [
            (capture(capture_id="capture-1"), "INVALID_ARGUMENT"),
            (capture(capture_id=""), "INVALID_ARGUMENT"),
            (capture(capture_id=UUID + "0"), "INVALID_ARGUMENT"),
            (capture(model_name="../other"), "INVALID_ARGUMENT"),
            (capture(input_tensors=[agent_pb2.Tensor()]), "INVALID_ARGUMENT"),
            (capture(output_tensors=[tensor(crops(), shape=(7,))]), "INVALID_ARGUMENT"),
            (capture(inputs=[agent_pb2.AuxilaryData(name="x")]), "INVALID_ARGUMENT"),
            (capture(inference_timestamp=agent_pb2.Timestamp(nanos=-1)), "INVALID_ARGUMENT"),
            (capture(inference_timestamp=agent_pb2.Timestamp(seconds=-1)), "INVALID_ARGUMENT"),
            (
                capture(inference_timestamp=agent_pb2.Timestamp(seconds=-(10**10))),
                "INVALID_ARGUMENT",
            ),
            (capture(inference_timestamp=agent_pb2.Timestamp(seconds=2**40)), "OUT_OF_RANGE"),
            (capture(inference_timestamp=agent_pb2.Timestamp(seconds=2**62)), "OUT_OF_RANGE"),
        ],
    )
    def test_what_is_not_well_formed_is_refused(
        self, device: Served, request_: agent_pb2.CaptureDataRequest, code: str
    ) -> None:
        assert refused(device.client.agent.CaptureData, request_)[0] == code
        assert device.capturer.waiting == 0

    def test_a_moment_ahead_is_out_of_range_and_now_is_not(self, loaded: Served) -> None:
        now = moment_to_wire(loaded.clock.now())
        loaded.client.agent.CaptureData(capture(inference_timestamp=now))
        ahead = agent_pb2.Timestamp(seconds=now.seconds, nanos=1000)
        late = capture(capture_id="0" + UUID[1:], inference_timestamp=ahead)
        assert refused(loaded.client.agent.CaptureData, late)[0] == "OUT_OF_RANGE"

    def test_more_than_the_buffer_holds_is_refused(
        self, tmp_path: Path, folder: Path, clock: FakeClock
    ) -> None:
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / "blocked").write_bytes(b"")
        config = edge_config(tmp_path)
        config = replace(config, capture=replace(config.capture, buffer_size=3, batch_size=2))
        with served(config, clock=clock) as device:
            root = Path(config.data_dir) / "captures" / "default"
            root.write_bytes(b"")  # nothing can be written below it
            load(device, folder)
            ids = [f"{number:08d}{UUID[8:]}" for number in range(4)]
            for each in ids[:3]:
                device.client.agent.CaptureData(capture(capture_id=each))
            code, sentence = refused(device.client.agent.CaptureData, capture(capture_id=ids[3]))
            assert code == "RESOURCE_EXHAUSTED"
            assert "3 captures wait" in sentence
            assert status(device, ids[0]) == "IN_PROGRESS"

    def test_an_unknown_capture_is_told(self, device: Served) -> None:
        request = agent_pb2.GetCaptureDataStatusRequest(capture_id=UUID)
        assert refused(device.client.agent.GetCaptureDataStatus, request)[0] == "NOT_FOUND"


def status(device: Served, capture_id: str = UUID) -> str:
    request = agent_pb2.GetCaptureDataStatusRequest(capture_id=capture_id)
    answer = device.client.agent.GetCaptureDataStatus(request)
    name: str = agent_pb2.CaptureDataStatus.Name(answer.status)
    return name


def wait_for(device: Served, wanted: str, capture_id: str = UUID) -> None:
    from lineside.testing.links import wait_until

    wait_until(lambda: status(device, capture_id) == wanted)


class TestARestart:
    def test_loads_what_was_loaded_in_order_without_a_clean_stop(
        self, tmp_path: Path, folder: Path, clock: FakeClock
    ) -> None:
        config = edge_config(tmp_path)
        other = tmp_path / "elsewhere" / "7"
        other.mkdir(parents=True)
        (other / "a.lspkg").write_bytes((folder / "package.lspkg").read_bytes())
        with served(config, clock=clock) as device:
            load(device, folder)
            load(device, other, "img-classification-7")
            load(device, folder, "without-version")
            kept = decode_json(config.models_path.read_bytes(), where="models")
        assert kept["models"] == [
            {"name": "unet", "version": "1.2", "identifier": "unet-1-2"},
            {
                "name": "img-classification", "version": "7",
                "identifier": "img-classification-7", "url": str(other),
            },
        ]  # fmt: skip
        with served(config, clock=clock) as device:
            names = [each.name for each in device.serving.packages.all()]
            assert names == ["unet-1-2", "img-classification-7"]
            device.client.agent.UnLoadModel(agent_pb2.UnLoadModelRequest(name="unet-1-2"))
            kept = decode_json(config.models_path.read_bytes(), where="models")
        assert [each["name"] for each in kept["models"]] == ["img-classification"]

    def test_a_model_that_is_away_is_told_and_stays_in_the_list(
        self, tmp_path: Path, folder: Path, clock: FakeClock
    ) -> None:
        config = edge_config(tmp_path)
        models = [
            {"name": "away", "version": "1", "identifier": "away-1"},
            {"name": "unet", "version": "1.2", "identifier": "unet-1-2"},
        ]
        config.models_path.parent.mkdir(parents=True, exist_ok=True)
        config.models_path.write_bytes(encode({"mappings": {"page": "unet"}, "models": models}))
        with served(config, clock=clock) as device:
            assert [each.name for each in device.serving.packages.all()] == ["unet-1-2"]
            (fault,) = device.counters.read().faults
            assert fault.startswith("model away-1: no folder")
            load(device, folder, "more-1-2")
        kept = decode_json(config.models_path.read_bytes(), where="models")
        assert kept["mappings"] == {"page": "unet"}
        names = [each["identifier"] for each in kept["models"]]
        assert names == ["away-1", "unet-1-2", "more-1-2"]

    def test_a_kept_capture_is_known_after_it(
        self, tmp_path: Path, folder: Path, clock: FakeClock
    ) -> None:
        config = edge_config(tmp_path)
        with served(config, clock=clock) as device:
            load(device, folder)
            device.client.agent.CaptureData(capture())
        with served(config, clock=clock) as device:
            assert status(device) == "SUCCESS"
            assert refused(device.client.agent.CaptureData, capture())[0] == "ALREADY_EXISTS"


class TestTheSocket:
    def test_may_be_opened_by_owner_and_group_alone(self, device: Served) -> None:
        path = Path(device.config.grpc.removeprefix("unix://"))
        assert path.stat().st_mode & 0o777 == 0o660

    def test_of_a_device_that_was_killed_is_taken_over(
        self, tmp_path: Path, clock: FakeClock
    ) -> None:
        import socket

        config = edge_config(tmp_path)
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(config.grpc.removeprefix("unix://"))
        with served(config, clock=clock):
            pass
        assert not Path(config.grpc.removeprefix("unix://")).exists()

    def test_that_somebody_answers_on_is_not_taken(
        self, device: Served, clock: FakeClock, tmp_path: Path
    ) -> None:
        from lineside.core import ConflictError
        from lineside.edge.local_api.grpc_server import SocketServer

        del clock, tmp_path
        with pytest.raises(ConflictError, match="another program answers"):
            SocketServer(device.config.grpc, agent=None, edge=None)
        device.client.agent.ListModels(agent_pb2.ListModelsRequest())

    def test_serves_two_clients(self, loaded: Served) -> None:
        with connected(loaded.config.grpc) as other:
            assert other.agent.ListModels(agent_pb2.ListModelsRequest()).models[0].name


def test_a_package_that_is_not_proved_is_not_loaded(folder: Path, clock: FakeClock) -> None:
    from lineside.core import RefusedError

    asked: list[str] = []

    def prove(data: bytes, where: str) -> None:
        asked.append(where)
        if data:
            raise RefusedError("not signed", where=where)

    packages = LoadedModels(clock=clock, most=2, max_bytes=10_000_000, verify=prove)
    with pytest.raises(RefusedError, match="not signed"):
        packages.load(url=str(folder), name="unet-1-2")
    assert asked == [str(folder / "package.lspkg")]


def test_unloading_waits_for_the_call_under_way(folder: Path, clock: FakeClock) -> None:
    packages = LoadedModels(clock=clock, most=2, max_bytes=10_000_000)
    packages.load(url=str(folder), name="unet-1-2")
    gone = threading.Event()

    def unload() -> None:
        packages.unload("unet-1-2")
        gone.set()

    with packages._running:
        thread = threading.Thread(target=unload)
        thread.start()
        assert not gone.wait(0.05)
        assert packages.all()
    thread.join()
    assert packages.all() == ()
