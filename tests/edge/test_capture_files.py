"""What captures are written as, and that the importer of datasets reads all of it."""

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.compat.aws.edge_agent import DTYPES, Auxiliary, Capture, Encoding, TensorPart
from lineside.core import InvalidError, NotFoundError, UnavailableError
from lineside.datasets import load_source
from lineside.edge.capture.buffer import (
    DRIFT_PICTURES,
    Batch,
    DiskCaptures,
    SamplingState,
    capture_of,
    sample,
    stem_of,
)
from lineside.edge.capture.record import content_type, written
from lineside.edge.config import CaptureConfig
from lineside.testing.bare import bare_label, bare_prediction
from lineside.vision import (
    BoxAnswer,
    CountAnswer,
    Decision,
    Frame,
    HealthFigures,
    PictureState,
    Prediction,
    decode_picture,
    open_frame,
)
from tests.edge.conftest import picture

AT = datetime(2026, 1, 1, 12, 30, 5, 250_000, tzinfo=UTC)
SOURCE = {"fleet": "defect-detection", "device": "edge-1"}
ID = "3f0c9a52-6d5b-4d5e-9a57-0d3a5b1c7e21"


def line(capture: Capture, *, embed: int = 3072) -> tuple[dict[str, Any], dict[str, bytes]]:
    text, files = written(
        capture, **SOURCE, at=AT, embed_max_bytes=embed, address=lambda n: f"file:///c/{n}"
    )
    return json.loads(text), files


def part(size: int) -> TensorPart:
    return TensorPart(data=bytes(size), name="data", dtype="uint8", shape=(size,))


class TestARecord:
    def test_has_the_words_of_the_contract(self) -> None:
        record, files = line(
            Capture(
                model="unet-1-2",
                capture_id=ID,
                version="1.2",
                input_tensors=(
                    TensorPart(data=bytes(48), name="data", dtype="float32", shape=(1, 3, 2, 2)),
                ),
                output_tensors=(part(2),),
                inputs=(Auxiliary(name="p", encoding=Encoding.NONE, data=picture()),),
                outputs=(Auxiliary(name="said", encoding=Encoding.JSON, data=b"{}"),),
            )
        )
        assert not files
        assert record["eventVersion"] == "0"
        assert record["eventMetadata"] == {
            "deviceFleetName": "defect-detection", "deviceId": "edge-1", "eventId": ID,
            "inferenceTime": "2026-01-01T12:30:05", "modelName": "unet-1-2",
            "modelVersion": "1.2",
        }  # fmt: skip
        (item,) = record["deviceFleetInputs"]
        assert item["observedContentType"] == "Tensor[FLOAT32; 1, 3, 2, 2]"
        assert (item["name"], item["mode"], item["encoding"]) == ("data", "Input", "BASE64")
        assert record["deviceFleetOutputs"][0]["mode"] == "Output"
        tags = [
            record[f"deviceFleetAuxiliary{side}"][0]["observedContentType"]
            for side in ("Inputs", "Outputs")
        ]
        assert tags == ["jpg", "json"]

    @pytest.mark.parametrize(("size", "beside"), [(3072, False), (3073, True)])
    def test_has_what_is_longer_than_the_limit_beside_it(self, size: int, *, beside: bool) -> None:
        record, files = line(Capture(model="m", capture_id=ID, input_tensors=(part(size),)))
        (item,) = record["deviceFleetInputs"]
        assert ("data-ref" in item, "data" in item) == (beside, not beside)
        assert list(files.values()) == ([bytes(size)] if beside else [])
        if beside:
            assert item["data-ref"] == f"file:///c/{next(iter(files))}"
            assert item["encoding"] == "NONE"

    def test_gives_each_file_a_name_of_its_own(self) -> None:
        capture = Capture(
            model="m", capture_id=ID, input_tensors=(part(9), part(8)), output_tensors=(part(7),)
        )
        _, files = line(capture, embed=2)
        assert len(files) == 3

    @given(st.lists(st.integers(0, 40), max_size=4), st.integers(0, 30))
    def test_holds_every_byte_within_or_beside(self, sizes: list[int], limit: int) -> None:
        capture = Capture(
            model="m", capture_id=ID, input_tensors=tuple(part(size) for size in sizes)
        )
        record, files = line(capture, embed=limit)
        beside = {f"file:///c/{name}": len(data) for name, data in files.items()}
        import base64

        found = [
            beside[item["data-ref"]] if "data-ref" in item else len(base64.b64decode(item["data"]))
            for item in record["deviceFleetInputs"]
        ]
        assert found == sizes

    @pytest.mark.parametrize(
        ("name", "encoding", "data", "tag"),
        [
            ("x", Encoding.NONE, b"\xff\xd8\xff", "jpg"),
            ("x.bin", Encoding.NONE, b"\x89PNG\r\n\x1a\n", "png"),
            ("x.JPEG", Encoding.NONE, b"", "jpg"),
            ("x.txt", Encoding.BASE64, b"", "txt"),
            ("x.txt", Encoding.CSV, b"", "csv"),
            ("x", Encoding.JSON, b"", "json"),
            ("../../x", Encoding.NONE, b"", "bin"),
            ("a./../b", Encoding.NONE, b"", "bin"),
        ],
    )
    def test_tags_what_stands_beside_the_tensors(
        self, name: str, encoding: Encoding, data: bytes, tag: str
    ) -> None:
        assert content_type(Auxiliary(name=name, encoding=encoding, data=data)) == tag


def keep(disk: DiskCaptures, capture: Capture, *, at: datetime = AT, embed: int = 3072) -> Batch:
    folder = f"defect-detection/{capture.model}/{at:%Y/%m/%d/%H}"
    stem = stem_of(at, capture.capture_id)
    text, files = written(
        capture,
        **SOURCE,
        at=at,
        embed_max_bytes=embed,
        address=lambda name: disk.address(f"{folder}/{stem}/{name}"),
    )
    batch = Batch(folder=folder, stem=stem, lines=(text,), files=files)
    disk.keep(batch)
    return batch


def named(number: int) -> str:
    return str(uuid.UUID(int=number))


class TestReadingBack:
    @pytest.mark.parametrize("embed", [2, 3072])
    @pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
    def test_a_tensor_of_a_picture_becomes_a_sample(
        self, tmp_path: Path, kind: str, embed: int
    ) -> None:
        image = np.random.default_rng(1).integers(0, 256, (8, 10, 3)).astype(np.uint8)
        values = np.moveaxis(image, 2, 0)[None].astype(kind)
        tensor = TensorPart(
            data=values.tobytes(), name="data", dtype=kind, shape=tuple(values.shape)
        )
        disk = DiskCaptures(tmp_path, max_bytes=10_000_000)
        keep(disk, Capture(model="unet-1", capture_id=ID, input_tensors=(tensor,)), embed=embed)
        found = load_source(tmp_path)
        assert found.format == "captures"
        (one,) = found.samples
        assert np.array_equal(decode_picture(found.read(one)), image)
        assert one.facts["model"] == "unet-1"
        assert one.captured_at == AT.replace(microsecond=0)

    @pytest.mark.parametrize("embed", [2, 3072])
    def test_a_decision_becomes_a_sample_with_what_was_said(
        self, tmp_path: Path, embed: int
    ) -> None:
        frame = shot(1)
        disk = DiskCaptures(tmp_path, max_bytes=10_000_000)
        keep(disk, capture_of(frame, said(frame, Decision.PRESENT)), embed=embed)
        found = load_source(tmp_path, format="captures")
        (one,) = found.samples
        assert found.skipped == ()
        assert found.read(one) == frame.encoded
        assert (one.facts["said"], one.facts["confidence"]) == ("blue", "0.9")
        assert one.labels == ()

    def test_every_hour_and_model_is_found(self, tmp_path: Path) -> None:
        disk = DiskCaptures(tmp_path, max_bytes=10_000_000)
        for number, model in enumerate(("unet-1", "stock", "stock")):
            frame = shot(number)
            at = AT.replace(hour=number)
            capture = Capture(
                model=model,
                capture_id=named(number),
                inputs=(Auxiliary(name="a.jpg", encoding=Encoding.NONE, data=frame.encoded),),
            )
            keep(disk, capture, at=at, embed=2)
        found = load_source(tmp_path)
        assert len(found.samples) == 3
        assert found.skipped == ()

    @given(st.data())
    def test_records_of_any_tensor_break_nothing(self, data: st.DataObject) -> None:
        from lineside.datasets.formats.captures import read_capture

        shape = data.draw(st.lists(st.integers(0, 4), max_size=5).map(tuple))
        dtype = data.draw(st.sampled_from(DTYPES))
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        tensor = TensorPart(data=bytes(size), name="x", dtype=dtype, shape=shape)
        text, _ = written(
            Capture(model="m", capture_id=ID, input_tensors=(tensor,)),
            **SOURCE, at=AT, embed_max_bytes=3072, address=str,
        )  # fmt: skip
        try:
            row = read_capture(text, where="test")
            assert row.picture is not None
            row.picture()
        except (InvalidError, NotFoundError) as error:
            assert error.message  # noqa: PT017  what is no picture is said, nothing else gets out


class TestTheDisk:
    def test_drops_the_oldest_whole_and_counts_them(self, tmp_path: Path) -> None:
        first = Capture(model="m", capture_id=named(1), input_tensors=(part(500_000),))
        disk = DiskCaptures(tmp_path, max_bytes=1_100_000)
        keep(disk, first, at=AT.replace(hour=1))
        keep(disk, Capture(model="m", capture_id=named(2), input_tensors=(part(500_000),)))
        assert disk.dropped == 0
        later = AT.replace(minute=31)
        keep(
            disk,
            Capture(model="m", capture_id=named(3), input_tensors=(part(500_000),)),
            at=later,
        )
        assert disk.dropped == 1
        assert disk.newest_ids(9) == [named(3), named(2)]
        assert [path.name for path in tmp_path.glob("*/*/*/*/*/*")] == [
            "12"
        ]  # nor is the empty hour left
        assert disk.held_bytes <= 1_100_000

    def test_counts_the_same_after_a_restart(self, tmp_path: Path) -> None:
        disk = DiskCaptures(tmp_path, max_bytes=1_100_000)
        for number in (1, 2):
            capture = Capture(model="m", capture_id=named(number), input_tensors=(part(500_000),))
            keep(disk, capture, at=AT.replace(second=number))
        again = DiskCaptures(tmp_path, max_bytes=1_100_000)
        assert again.held_bytes == disk.held_bytes
        assert again.newest_ids(1) == [named(2)]

    def test_refuses_a_batch_above_the_bound_and_keeps_the_rest(self, tmp_path: Path) -> None:
        disk = DiskCaptures(tmp_path, max_bytes=1_000_000)
        keep(disk, Capture(model="m", capture_id=named(1)))
        with pytest.raises(InvalidError, match="at most 1000000 are kept"):
            keep(disk, Capture(model="m", capture_id=ID, input_tensors=(part(2_000_000),)))
        assert disk.newest_ids(9) == [named(1)]

    def test_clears_what_was_not_finished_and_nothing_else(self, tmp_path: Path) -> None:
        disk = DiskCaptures(tmp_path, max_bytes=1_000_000)
        batch = keep(disk, Capture(model="m", capture_id=ID, input_tensors=(part(9),)), embed=2)
        hour = tmp_path / batch.folder
        unfinished = hour / stem_of(AT.replace(second=9), named(9))
        unfinished.mkdir()
        (unfinished / "x.tensor").write_bytes(b"x")
        (hour / ".abc.new").write_bytes(b"half")
        (hour / "notes").mkdir()
        DiskCaptures(tmp_path, max_bytes=1_000_000)
        assert sorted(path.name for path in hour.iterdir()) == sorted(
            [batch.stem, f"{batch.stem}.jsonl", "notes"]
        )

    def test_passes_over_lines_that_were_damaged(self, tmp_path: Path) -> None:
        disk = DiskCaptures(tmp_path, max_bytes=1_000_000)
        batch = keep(disk, Capture(model="m", capture_id=ID))
        path = tmp_path / batch.folder / f"{batch.stem}.jsonl"
        path.write_bytes(b"\xff{\n" + path.read_bytes() + b'{"eventMetadata":3}\n')
        assert DiskCaptures(tmp_path, max_bytes=1_000_000).newest_ids(9) == [ID]

    def test_uploads_the_oldest_and_removes_it(self, tmp_path: Path) -> None:
        from lineside.store import open_place

        disk = DiskCaptures(tmp_path / "disk", max_bytes=1_000_000)
        for number in (1, 2):
            capture = Capture(model="m", capture_id=named(number), input_tensors=(part(9),))
            keep(disk, capture, at=AT.replace(second=number), embed=2)
        place = open_place(f"file://{tmp_path}/bucket")
        before = {p.relative_to(tmp_path / "disk") for p in files_in(tmp_path / "disk")}
        assert disk.upload_oldest(place)
        assert disk.newest_ids(9) == [named(2)]
        assert disk.upload_oldest(place)
        assert not disk.upload_oldest(place)
        after = {p.relative_to(tmp_path / "bucket") for p in files_in(tmp_path / "bucket")}
        assert after == before
        assert (disk.held_bytes, list((tmp_path / "disk").iterdir())) == (0, [])

    def test_keeps_what_could_not_be_uploaded(self, tmp_path: Path) -> None:
        from lineside.store import open_place

        disk = DiskCaptures(tmp_path / "disk", max_bytes=1_000_000)
        keep(disk, Capture(model="m", capture_id=ID))
        (tmp_path / "bucket").write_bytes(b"")
        with pytest.raises(UnavailableError):
            disk.upload_oldest(open_place(f"file://{tmp_path}/bucket"))
        assert disk.newest_ids(9) == [ID]

    def test_that_cannot_be_written_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(UnavailableError, match="cannot be used"):
            DiskCaptures(tmp_path / "file" / "captures", max_bytes=1_000_000)


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def shot(number: int) -> Frame:
    return open_frame(picture(number), camera="rack", captured_at=AT)


def said(frame: Frame, decision: Decision, **more: Any) -> Prediction:  # noqa: ANN401  any of its fields
    blue = bare_label("blue", decision=decision)
    fields = {"inspection": "stock", "task": "multilabel", "labels": (blue,), **more}
    return bare_prediction(frame.ref, **fields)


class TestThePolicy:
    def wanted(self, policy: str, *predictions: Prediction) -> list[bool]:
        sampling, found = SamplingState(), []
        for prediction in predictions:
            sampling, wanted = sample(
                prediction, sampling, config=CaptureConfig(inspections=policy)
            )
            found.append(wanted)
        return found

    def test_takes_all_none_or_each_nth(self) -> None:
        predictions = [said(shot(1), Decision.PRESENT)] * 7
        assert self.wanted("none", *predictions) == [False] * 7
        assert self.wanted("all", *predictions) == [True] * 7
        assert self.wanted("every:3", *predictions) == [
            True, False, False, True, False, False, True
        ]  # fmt: skip

    def test_takes_the_unsure_alone(self) -> None:
        sure, unsure = said(shot(1), Decision.PRESENT), said(shot(1), Decision.UNSURE)
        assert self.wanted("unsure", sure, unsure, sure) == [False, True, False]

    def test_takes_those_after_a_drift(self) -> None:
        usual = [said(shot(1), Decision.PRESENT)] * 400
        dark = said(
            shot(1),
            Decision.PRESENT,
            health=HealthFigures(sharpness=1.0, mean_grey=30.0, clipped_share=0.0),
        )
        found = self.wanted("drift", *usual, *[dark] * 300)
        assert not any(found[:400])
        assert sum(found) == DRIFT_PICTURES

    def test_names_the_same_decision_alike_and_another_one_otherwise(self) -> None:
        one, other = shot(1), shot(2)
        first = capture_of(one, said(one, Decision.PRESENT))
        assert first.capture_id == capture_of(one, said(one, Decision.ABSENT)).capture_id
        assert first.capture_id != capture_of(other, said(other, Decision.PRESENT)).capture_id
        assert str(uuid.UUID(first.capture_id)) == first.capture_id

    @pytest.mark.parametrize(
        ("more", "result"),
        [
            ({}, "none"),
            ({"state": PictureState.BLACK, "labels": ()}, "black"),
            ({"count": CountAnswer(value=3, low=3, high=3)}, "3"),
            (
                {"boxes": (BoxAnswer(label="dent", x0_px=0, y0_px=0, x1_px=1, y1_px=1,
                                     probability=0.5),)},
                "dent",
            ),
        ],
    )  # fmt: skip
    def test_says_the_result_in_one_word(self, more: dict[str, Any], result: str) -> None:
        frame = shot(1)
        (told,) = capture_of(frame, said(frame, Decision.ABSENT, **more)).outputs
        assert json.loads(told.data)["Inference result"] == result

    def test_makes_a_folder_name_of_any_inspection(self) -> None:
        frame = shot(1)
        odd = said(frame, Decision.PRESENT, inspection="../été_1")
        assert capture_of(frame, odd).model == "t-1"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"batch_size": 30}, "batch_size"),
        ({"batch_size": 0}, "batch_size"),
        ({"embed_max_bytes": 3073}, "embed_max_bytes"),
        ({"push_period_s": 0}, "push_period_s"),
        ({"destination": "Cloud"}, "upload"),
        ({"upload_period_s": 5.0}, "upload_period_s"),
        ({"prefix": "../out"}, "prefix"),
        ({"fleet": "a/b"}, "fleet"),
        ({"inspections": "every:0"}, "inspections"),
        ({"max_bytes": 5}, "max_bytes"),
    ],
)
def test_settings_that_cannot_work_are_named(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidError) as refused:
        CaptureConfig(**changes)
    assert [fault.path for fault in refused.value.faults] == [key]
