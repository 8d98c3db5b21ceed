"""Every parser of bytes from outside, with a few good ones of each, and how bytes are spoilt.

A parser is handed bytes and a folder of its own. Whatever the bytes are, it returns, or raises a
``LinesideError``; it neither hangs nor takes memory without bound.
"""

import io
import json
import random
import socket
import tempfile
import threading
import zipfile
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from tuf.api.metadata import Metadata, Root

from lineside.compat.aws.sagemaker_runtime import invocation_picture
from lineside.compat.aws.sigv4 import SignedRequest, plain_body, verify
from lineside.compat.open_inference import open_inference_pb2 as pb2
from lineside.compat.open_inference.grpc import infer_from_wire
from lineside.compat.open_inference.tensors import read_request as read_inference
from lineside.core import (
    Camera,
    InvalidError,
    LinesideError,
    NotFoundError,
    Plant,
    RouteKind,
    decode,
    decode_json,
    decode_toml,
    encode,
    parse_digest,
    parse_plant,
    parse_rfc3339,
)
from lineside.core.clock import parse_duration
from lineside.core.drivers import SecretUrl
from lineside.core.ids import CameraId
from lineside.core.plant import Route
from lineside.core.plant_rules import read_dwell_times
from lineside.core.webhooks import WebhookConfig
from lineside.datasets import load_source
from lineside.datasets.formats.captures import read_capture
from lineside.datasets.formats.lst import read_lst
from lineside.datasets.formats.rle import mask_of_runs, uncompressed
from lineside.datasets.formats.table import read_table
from lineside.datasets.recordio import (
    ImageRecord,
    framed,
    pack_image,
    parse_classes,
    read_index,
    read_records,
    unpack_image,
)
from lineside.datasets.trees import ArchiveTree
from lineside.datasets.versions import decode_version
from lineside.edge import EdgeConfig
from lineside.edge.config import read_agent_file
from lineside.edge.identity.enrolment import read_identity
from lineside.edge.local_api.models_config import read_models
from lineside.edge.messages import read_ack, read_desired
from lineside.fleet import TrialReport
from lineside.fleet.agent import DevicePolicy, read_order
from lineside.fleet.enrolment import read_code
from lineside.fleet.jobs.requests import place_of, read_body, read_request
from lineside.fleet.jobs.settings import parse_cron
from lineside.fleet.trust.bundle import open_bundle
from lineside.fleet.trust.certificate_authority import CertificateAuthority, read_device_certificate
from lineside.fleet.trust.download import read_directory
from lineside.fleet.trust.verify import check_root
from lineside.hub import HubConfig
from lineside.hub.devices.registry import DeviceRegistry
from lineside.hub.downloads import parse_range
from lineside.hub.eventlog.topics import read_picture, read_plant, split_document
from lineside.hub.inference.functions import FunctionRequest
from lineside.hub.rules.text import read_rule
from lineside.hub.sinks.kafka import event_of
from lineside.links import Message
from lineside.links.camera_http import HttpSource
from lineside.links.camera_mqtt import read_shot
from lineside.links.camera_rtsp import ask
from lineside.links.kafka import ReceivedRecord
from lineside.links.mqtt import parse_address
from lineside.links.webhook import WebhookSender, read_secrets
from lineside.models import Package
from lineside.models.operating_point import OperatingPoint
from lineside.models.wrap import read_wrapping
from lineside.store import open_records
from lineside.store.archive import ArchiveLimits, read_members
from lineside.streams import decode_event, read_entries, read_prediction
from lineside.testing import FakeClock
from lineside.testing.events import small_plant
from lineside.vision import decode_picture, encode_jpeg
from lineside.vision.masks import mask_of
from tests.fuzz.labels import BIN, CVAT, LABELME, PICTURE_NOTE, VOC, YOLO

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests" / "data" / "formats"
Read = Callable[[bytes, Path], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parser:
    """One parser, by the words that people would call it.

    Attributes:
        seeds: good ones, which it takes; made by us.
        refused: they are good but for what only their owner can make, such as a signature.
    """

    name: str
    read: Read
    seeds: Callable[[], Sequence[bytes]]
    refused: bool = False


class Edit(NamedTuple):
    """A change of bytes: what, where (a share of the length), how much, and with what."""

    what: int
    place: float
    length: int
    bytes: bytes


TOKENS = (
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"-1",
    b"1e999",
    b"NaN",
    b"9" * 400,
    b"null",
    b"{}",
    b"[",
    b"[" * 2000,
    b'"',
    b"\\u0000",
    b"\\ud800",
    b"../../../etc/passwd",
    b"\r\n\r\n",
    b"%00",
    b"0",
    b"-9223372036854775809",
    b"18446744073709551616",
    b"1969-12-31T23:59:60Z",
    b"9999-12-31T23:59:59Z",
    b"inf",
    b"\xf0\x9f\x98\x80",
    b"true",
    b"=",
    b",",
    b"\t",
    b"\n",
    b"' OR 1=1 --",
    b"<!ENTITY a 'b'>",
)
EDITS = 6


def spoilt(seed: bytes, edits: Sequence[Edit]) -> bytes:
    """The bytes after the edits, one after the other; never much longer than they were."""
    found = bytearray(seed)
    for edit in edits:
        place = int(edit.place * len(found))
        part = found[place : place + edit.length]
        if edit.what == 0:  # cut out
            del found[place : place + edit.length]
        elif edit.what == 1:  # cut short
            del found[place:]
        elif edit.what == 2:  # put in
            found[place:place] = edit.bytes
        elif edit.what == 3:  # put in its place
            found[place : place + len(edit.bytes)] = edit.bytes
        elif edit.what == 4:  # twice and again
            found[place:place] = part * (1 + edit.length % 5)
        elif part:  # one bit
            found[place] ^= 1 << edit.length % 8
    return bytes(found)


def drawn(draws: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Spoilt bytes of one of the seeds; now and then any bytes at all."""
    if draws.random() < 0.05:
        return draws.randbytes(draws.randrange(300))
    edits = [
        Edit(draws.randrange(6), draws.random(), draws.choice((1, 2, 4, 9, 40, 300)),
             draws.choice((*TOKENS, draws.randbytes(4))))
        for _ in range(draws.randint(1, EDITS))
    ]  # fmt: skip
    return spoilt(draws.choice(seeds), edits)


# ---- seeds


@cache
def plant() -> Plant:
    return small_plant()


@cache
def jpeg() -> bytes:
    shape = np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3)
    return encode_jpeg(shape)


def files(*names: str) -> Callable[[], Sequence[bytes]]:
    return lambda: [(ROOT / name).read_bytes() for name in names]


def said(*documents: object) -> Callable[[], Sequence[bytes]]:
    """Documents as JSON, text as it stands."""
    return lambda: [
        one if isinstance(one, bytes) else one.encode() if isinstance(one, str)
        else json.dumps(one).encode()
        for one in documents
    ]  # fmt: skip


def zipped() -> Sequence[bytes]:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/one.jpg", jpeg())
        archive.writestr("b/two.txt", "2\t0\tb.jpg\n" * 50)
    return [held.getvalue()]


def recorded() -> Sequence[bytes]:
    packed = pack_image(ImageRecord(id=7, labels=(1.0, 2.0), picture=jpeg()))
    return [framed(packed) * 2, framed(b"x" * 40)]


def called() -> Sequence[bytes]:
    call = pb2.ModelInferRequest(model_name="m", id="1")
    one = call.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    one.contents.fp32_contents.extend([0.5, 1.5])
    raw = pb2.ModelInferRequest(model_name="m", raw_input_contents=[b"\x00" * 8])
    raw.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    return [call.SerializeToString(), raw.SerializeToString()]


def root() -> Sequence[bytes]:
    expires = datetime(2030, 1, 1, tzinfo=UTC)
    return [Metadata(Root(version=1, expires=expires)).to_bytes()]


@cache
def certificate() -> Sequence[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        site = CertificateAuthority.create(Path(folder) / "a", site="s", clock=FakeClock())
        return [site.certificate]


EVENT = {
    "specversion": "1.0", "id": "e1", "source": "/s/device/d", "type": "lineside.prediction.v1",
    "subject": "stock", "time": "2026-05-15T12:41:07.318Z", "deviceseq": 3,
    "recordedtime": "2026-05-15T12:41:08Z",
    "data": {
        "frame": {"id": "f", "camera": "rack", "captured_at": "2026-05-15T12:41:07.318Z",
                  "digest": "sha256:" + "0" * 64, "sequence": 3},
        "inspection": "stock", "task": "classify", "state": "ok", "labels": [
            {"name": "a", "region": "all", "label": "dent", "probability": 0.9,
             "decision": "present"}],
        "package": "sha256:" + "1" * 64, "dataset": "d/1", "registration": {"state": "none"},
        "health": {"sharpness": 1.0, "mean_grey": 1.0, "clipped_share": 0.0}, "latency_ms": {},
    },
}  # fmt: skip
CAMERA_MESSAGE = {"ts": "2026-05-15T12:41:07.318Z", "data": "data:image/jpeg;base64,/9j/4AAQ"}
CAPTURE = {
    "eventVersion": "0",
    "eventMetadata": {"deviceFleetName": "f", "eventId": "c", "modelName": "cube",
                      "modelVersion": "1.0", "inferenceTime": "2023-04-10T16:25:17Z"},
    "deviceFleetInputs": [{"data": "AAAAAAAAAAA=", "observedContentType": "Tensor[float32; 1, 2]"}],
    "deviceFleetAuxiliaryInputs": [
        {"data-ref": "file:///a.jpg", "encoding": "NONE", "observedContentType": "jpg"}],
}  # fmt: skip
SIGNED = (
    "POST\n/2015-03-31/functions/x?a=1\nhost: hub\nx-amz-date: 20260515T124107Z\n"
    "authorization: AWS4-HMAC-SHA256 Credential=AKIA/20260515/eu-west-1/lambda/aws4_request, "
    "SignedHeaders=host;x-amz-date, Signature=" + "0" * 64 + "\n\n{}"
)
CHUNKED = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"
RULE = (
    '[[rule]]\nid = "windows"\nread = { topic = "sockfound" }\nkey = ["image"]\n'
    "window = { size_s = 5 }\nhaving = [{ field = 'count', above = 3 }]\n"
)
DIGEST = "sha256:" + "1" * 64
STATUS = {
    "schema": "lineside.device/1", "device": "edge-1", "state": "online", "version": "0.1.0",
    "at": "2026-01-01T12:00:00Z", "spool_depth": 1, "frames": 4, "refused": {"too old": 1},
    "packages": [{"inspection": "stock", "digest": DIGEST, "loaded_at": "2026-01-01T11:00:00Z"}],
    "cameras": [{"camera": "top", "state": "lost", "since": "2026-01-01T11:00:00Z"}],
    "faults": ["dark"], "desired": {"stock": 4}, "every_s": 10.0, "reads": ["operating_point"],
}  # fmt: skip
EVIDENCE = {
    "schema": "lineside.evidence/1", "rollout": "rol_1", "old": "", "new": DIGEST,
    "evidence": {"device": "edge-1", "inspection": "stock", "frames": 3, "changed": 1},
}  # fmt: skip
POINT = {
    "schema": "lineside.operating_point/1", "inspection": "stock", "package": DIGEST, "version": 2,
    "limits": [{"name": "A1/blue", "low": 0.2, "high": 0.9}], "by": "ann", "reason": "fewer",
    "at": "2026-01-01T00:00:00Z", "approved_by": "eve", "approved_at": "2026-01-01T01:00:00Z",
}  # fmt: skip
CALL = {"s3_bucket": "b", "s3_prefix": "", "endpoint_name": "e", "image_name": "1.jpg"}
ORDER = {
    "type": "new_model", "model_name": "unet", "model_version": "4", "size_bytes": 10,
    "model_package_bucket": "b", "model_package_key": "k", "trial_frames": 3, "rollback": False,
}  # fmt: skip
HUB = 'plant = "plant.toml"\ndata_dir = "d"\n'
EDGE = 'device = "edge-1"\nbus = "mqtt://h"\nplant = "plant.toml"\ndata_dir = "d"\n'
WRAPPING = (
    'name = "m"\ntask = "classify"\nlabels = ["a", "b"]\n[licence]\nweights = "MIT"\n'
    "[input]\nwidth_px = 8\nheight_px = 8\n"
)
PEM = "-----BEGIN {0}-----\nAAAA\n-----END {0}-----\n"
MESSAGES = (
    {"ts": "2026-05-15T12:41:07.318Z", "br": 55.5, "ldr": 1200, "t": 22.5, "rt": 23, "h": 40,
     "rh": 41, "p": 1000, "iaq": 25, "aq": 3, "gr": 10},
    {"ts": "2026-05-15T12:41:07Z", "hardwareId": "1", "location": "0", "station": "hbw", "code": 1,
     "description": "", "active": 1, "target": "dso", "type": "RED"},
    {"ts": "2026-05-15T12:41:07Z", "stockItems": [{"workpiece": {"id": "1", "type": "RED",
     "state": "RAW"}, "location": "A1"}]},
    {"ts": "2026-05-15T12:41:07Z", "id": "cam", "code": 100, "data": "x"},
)  # fmt: skip


# ---- parsers


def text_of(raw: bytes) -> str:
    return raw.decode(errors="replace")


def written(raw: bytes, folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path


def labelled(name: str, *, format: str, **others: bytes) -> Read:  # noqa: A002  the reader's word
    """A labelled folder of which one file is spoilt; every mask in it is drawn."""

    def read(raw: bytes, folder: Path) -> None:
        for path, content in {"images/a.jpg": jpeg(), **others}.items():
            if not (folder / path).exists():
                written(content, folder, path)
        written(raw, folder, name)
        for sample in load_source(folder, format=format).samples:
            assert sample.name

    return read


def camera() -> Camera:
    return next(one for one in plant().camera)


def plant_message(raw: bytes, _folder: Path) -> None:
    for kind in RouteKind:
        if kind is not RouteKind.FRAME:
            route = Route(topic="t", kind=kind, max_bytes=100_000)
            refused(lambda route=route: read_plant(route, raw, topic="t", site="s"))  # type: ignore[misc]  # bound now
    refused(lambda: split_document(raw))


def refused(call: Callable[[], object]) -> None:
    """Call it; a sentence is as good as a result."""
    with suppress(LinesideError):
        call()


def camera_message(raw: bytes, _folder: Path) -> None:
    route = Route(topic="i/cam", kind=RouteKind.FRAME, camera=CameraId("rack"), max_bytes=100_000)
    refused(lambda: read_picture(route, raw, topic="i/cam"))
    message = Message(topic="i/cam", payload=raw, arrived_s=0.0)
    refused(lambda: read_shot(message, camera=camera(), clock=FakeClock()))


def kafka(raw: bytes, _folder: Path) -> None:
    route = Route(topic="t", kind=RouteKind.MESSAGE, max_bytes=100_000)
    for headers in ((), (("content-type", b"application/cloudevents+json"),)):
        taken = ReceivedRecord(topic="k", partition=0, offset=1, at=FakeClock().now(), value=raw,
                           headers=headers)  # fmt: skip
        refused(lambda taken=taken: event_of(taken, route, topic="t", site="s"))  # type: ignore[misc]  # bound now


def signed(raw: bytes, _folder: Path) -> str:
    head, _, body = text_of(raw).partition("\n\n")
    method, _, rest = head.partition("\n")
    target, *lines = rest.split("\n")
    path, _, query = target.partition("?")
    pairs = (line.partition(": ") for line in lines)
    headers = {name.lower(): value for name, _, value in pairs}
    request = SignedRequest(
        method=method, path=path, query=query, headers=headers, body=body.encode()
    )
    return verify(request, secret_of=_secret, now=datetime(2026, 5, 15, 12, 41, 7, tzinfo=UTC))


def _secret(key: str) -> str:
    if key != "AKIA":
        raise NotFoundError("no such key")
    return "secret"


def chunked(raw: bytes, _folder: Path) -> bytes:
    headers = {"content-encoding": "aws-chunked", "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    return plain_body(raw, headers)


def jobs(raw: bytes, _folder: Path) -> None:
    for tail in ("get", "start-next", "j1/get", "j1/update"):
        place = place_of(f"$aws/things/t/jobs/{tail}")
        assert place is not None
        refused(lambda place=place: read_request(place, raw))  # type: ignore[misc]  # bound now


def order(raw: bytes, _folder: Path) -> object:
    policy = DevicePolicy(inspections=frozenset({"stock"}), allows=bool, signed=False)
    return read_order(read_body(raw), policy=policy)


def image_records(raw: bytes, _folder: Path) -> None:
    for record in read_records(io.BytesIO(raw), where="rec"):
        refused(lambda record=record: unpack_image(record.payload, where="rec"))  # type: ignore[misc]  # bound now


def runs(raw: bytes, _folder: Path) -> None:
    refused(lambda: mask_of(text_of(raw), width_px=16, height_px=12))
    refused(lambda: mask_of_runs(uncompressed(text_of(raw)), width=16, height=12))


def members(raw: bytes, _folder: Path) -> object:
    limits = ArchiveLimits(members=100, total_bytes=1_000_000)
    return list(read_members(io.BytesIO(raw), limits=limits))


def tree(suffix: str) -> Read:
    def read(raw: bytes, folder: Path) -> None:
        found = ArchiveTree(written(raw, folder, f"a{suffix}"))
        for name in [*found.files(), *(one for sub in found.folders() for one in found.files(sub))]:
            refused(lambda name=name: found.read(name, most=100_000))  # type: ignore[misc]  # bound now

    return read


def bundle(raw: bytes, folder: Path) -> None:
    with open_bundle(written(raw, folder, "a.lsbundle")):
        pass


def inference_call(raw: bytes, _folder: Path) -> object:
    try:
        call = pb2.ModelInferRequest.FromString(raw)
    except DecodeError as error:  # gRPC itself answers these
        raise InvalidError("no message") from error
    return infer_from_wire(call)


def prediction(raw: bytes, _folder: Path) -> object:
    return read_prediction(decode_event(raw, where="event"))


def words(raw: bytes, _folder: Path) -> None:
    """What stands in addresses, headers and fields of forms."""
    said_ = text_of(raw)
    parse_range(said_, 1000)
    for read in (parse_rfc3339, parse_duration, parse_digest, parse_cron, parse_address, read_code):
        refused(lambda read=read: read(said_))  # type: ignore[misc]  # bound now


def answered(ask: Callable[[int], object]) -> Read:
    """Ask a server on this machine, which says the bytes and hangs up."""

    def read(raw: bytes, _folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as door:
            saying = threading.Thread(target=_say, args=(door, raw))
            saying.start()
            try:
                refused(lambda: ask(door.getsockname()[1]))
            finally:
                with suppress(OSError):  # it still waits where nobody asked
                    socket.create_connection(door.getsockname(), timeout=1).close()
                saying.join()

    return read


def _say(door: socket.socket, raw: bytes) -> None:
    link, _ = door.accept()
    with link, suppress(OSError):
        link.recv(65_536)
        link.sendall(raw)


def posted(port: int) -> object:
    url = SecretUrl(f"http://127.0.0.1:{port}/hook")
    sender = WebhookSender(WebhookConfig(name="mes", url=url, timeout_s=2.0))
    try:
        return sender.post("msg", b"{}", at=FakeClock().now(), content="application/json")
    finally:
        sender.close()


def asked_by_http(port: int) -> object:
    source = SecretUrl(f"http://u:p@127.0.0.1:{port}/x")
    camera = Camera(id="c", line="l", source=source, max_frame_bytes=99)
    with closing(HttpSource(camera, clock=FakeClock(), timeout_s=0.2)) as opened:
        return opened.connect()()


def entries(raw: bytes, _folder: Path) -> object:
    return list(read_entries(raw.splitlines(), plant=plant(), where="events"))


def acknowledged(raw: bytes, _folder: Path) -> None:
    refused(lambda: read_ack(raw, device="edge-1", where="ack"))
    refused(lambda: read_desired(raw, where="desired"))


@cache
def registry() -> DeviceRegistry:
    clock = FakeClock()
    return DeviceRegistry(open_records("memory://", clock=clock), plant=plant(), clock=clock)


def device_status(raw: bytes, _folder: Path) -> None:
    """A status as the hub takes it, and what it makes of it for pages, events and metrics."""
    known = registry()
    known.take_status("edge-1", raw)
    known.camera_events("edge-1")
    encode([known.all(), known.camera_figures(), known.presences()])
    known.save_new()
    known.flush()
    known.reads_points("edge-1")


def document_of(kind: Any) -> Read:  # noqa: ANN401  of a record
    return lambda raw, _folder: decode(kind, raw, where="document")


def of_file(read: Callable[[Path], object], name: str) -> Read:
    return lambda raw, folder: read(written(raw, folder, name))


def toml(kind: Any) -> Read:  # noqa: ANN401  of a config
    return lambda raw, _folder: decode(kind, decode_toml(raw, where="toml"), where="toml")


PARSERS = (
    Parser(
        name="plant file",
        read=lambda raw, _: parse_plant(raw, where="plant"),
        seeds=files(
            "examples/socks/plant.toml", "examples/socks/ksql.toml", "examples/warehouse/watch.toml"
        ),
    ),
    Parser(name="hub settings", read=toml(HubConfig), seeds=said(HUB)),
    Parser(name="device settings", read=toml(EdgeConfig), seeds=said(EDGE)),
    Parser(
        name="rule", read=lambda raw, _: read_rule(text_of(raw), plant=plant()), seeds=said(RULE)
    ),
    Parser(name="JSON", read=lambda raw, _: decode_json(raw, where="json"), seeds=said(EVENT)),
    Parser(name="CloudEvent", read=prediction, seeds=said(EVENT)),
    Parser(
        name="recorded events",
        read=entries,
        seeds=said(
            EVENT,
            {"topic": "sockfound", "payload": {"image": "Google"}, "time": "2026-05-15T12:41:07Z"},
        ),
    ),
    Parser(name="plant message", read=plant_message, seeds=said(*MESSAGES)),
    Parser(
        name="camera message", read=camera_message, seeds=lambda: [*said(CAMERA_MESSAGE)(), jpeg()]
    ),
    Parser(name="Kafka record", read=kafka, seeds=said(EVENT, *MESSAGES)),
    Parser(name="picture", read=lambda raw, _: decode_picture(raw), seeds=lambda: [jpeg()]),
    Parser(
        name="AWS jobs",
        read=jobs,
        seeds=said(
            {
                "status": "SUCCEEDED",
                "statusDetails": {"a": "b"},
                "expectedVersion": 2,
                "clientToken": "t",
                "stepTimeoutInMinutes": 5,
                "includeJobDocument": True,
            }
        ),
    ),
    Parser(name="job document", read=order, seeds=said(ORDER)),
    Parser(name="SigV4", read=signed, seeds=said(SIGNED), refused=True),
    Parser(name="aws-chunked", read=chunked, seeds=lambda: [CHUNKED]),
    Parser(
        name="addresses, times and headers",
        read=words,
        seeds=said(
            "bytes=0-10",
            "2026-05-15T12:41:07.318Z",
            "10 min",
            "sha256:" + "0" * 64,
            "0 5 * * 1-5",
            "mqtt://u:p@127.0.0.1:1883?tls=1",
        ),
    ),
    Parser(
        name="CSV table",
        read=lambda raw, _: read_table(raw, where="t"),
        seeds=said("file,dent,rust\na.jpg,1,0\nb.jpg,0,1\n", "file,label\na.jpg,dent\n"),
    ),
    Parser(
        name="list file",
        read=lambda raw, _: read_lst(raw, where="l"),
        seeds=said("0\t1.0\t0.0\ta.jpg\n1\t0.000000\tb.jpg\n"),
    ),
    Parser(name="RecordIO", read=image_records, seeds=recorded),
    Parser(
        name="RecordIO index",
        read=lambda raw, _: read_index(raw, where="i"),
        seeds=said("0\t0\n1\t640\n"),
    ),
    Parser(name="COCO", read=labelled("instances.json", format="coco"), seeds=said(PICTURE_NOTE)),
    Parser(name="labelme", read=labelled("a.json", format="labelme"), seeds=said(LABELME)),
    Parser(name="CVAT", read=labelled("annotations.xml", format="cvat"), seeds=said(CVAT)),
    Parser(
        name="VOC",
        read=labelled("Annotations/a.xml", format="voc", **{"JPEGImages/a.jpg": jpeg()}),
        seeds=said(VOC),
    ),
    Parser(
        name="YOLO",
        read=labelled("data.yaml", format="yolo", **{"labels/a.txt": b"1 0.5 0.5 0.25 0.5\n"}),
        seeds=said(YOLO),
    ),
    Parser(
        name="YOLO labels",
        read=labelled("labels/a.txt", format="yolo", **{"data.yaml": YOLO.encode()}),
        seeds=said("1 0.5 0.5 0.25 0.5\n0 0.1 0.1 0.5 0.1 0.5 0.5\n"),
    ),
    Parser(
        name="ABID",
        read=labelled("metadata/523.json", format="abid", **{"bin-images/523.jpg": jpeg()}),
        seeds=said(BIN),
    ),
    Parser(name="masks", read=labelled("masks/a.png", format="masks"), seeds=lambda: [jpeg()]),
    Parser(name="captures", read=lambda raw, _: read_capture(raw, where="c"), seeds=said(CAPTURE)),
    Parser(name="run lengths", read=runs, seeds=said("0`6", "0 10 182")),
    Parser(
        name="class names", read=lambda raw, _: parse_classes(raw, where="c"), seeds=said("a\nb\n")
    ),
    Parser(
        name="dataset version",
        read=lambda raw, _: decode_version(raw, where="v"),
        seeds=files("tests/data/formats/dataset-version-1.json"),
    ),
    Parser(
        name="package",
        read=lambda raw, _: Package.read(raw),
        seeds=files(
            "tests/data/formats/package-manifest-1.lspkg",
            "tests/data/formats/package-manifest-2.lspkg",
        ),
    ),
    Parser(name="backup", read=members, seeds=files("tests/data/formats/backup-1.tar")),
    Parser(name="zip of pictures", read=tree(".zip"), seeds=zipped),
    Parser(
        name="tar of pictures", read=tree(".tar"), seeds=files("tests/data/formats/backup-1.tar")
    ),
    Parser(name="bundle", read=bundle, seeds=zipped, refused=True),
    Parser(
        name="package directory",
        read=lambda raw, _: read_directory(raw, size=len(raw)),
        seeds=lambda: [*zipped(), *files("tests/data/formats/package-manifest-2.lspkg")()],
    ),
    Parser(name="TUF root", read=lambda raw, _: check_root(raw), seeds=root, refused=True),
    Parser(
        name="certificate",
        read=lambda raw, _: read_device_certificate(raw, where="c"),
        seeds=certificate,
    ),
    Parser(
        name="edge agent file",
        read=of_file(read_agent_file, "config_edge_device.json"),
        seeds=said(
            {
                "sagemaker_edge_core_device_name": "d",
                "sagemaker_edge_core_device_fleet_name": "f",
                "sagemaker_edge_core_region": "eu-west-1",
                "sagemaker_edge_core_capture_data_buffer_size": 30,
            }
        ),
    ),
    Parser(
        name="models file",
        read=of_file(read_models, "models_config.json"),
        seeds=said(
            {"models": [{"name": "m", "version": "1", "identifier": "m-1", "url": "m.tar.gz"}]}
        ),
    ),
    Parser(
        name="desired and acknowledged",
        read=acknowledged,
        seeds=said(
            {"schema": "lineside.ack/1", "device": "edge-1", "sequence": 3},
            {"schema": "lineside.desired/1", "packages": {}},
        ),
    ),
    Parser(name="device status", read=device_status, seeds=said(STATUS)),
    Parser(name="evidence of a device", read=document_of(TrialReport), seeds=said(EVIDENCE)),
    Parser(name="operating point", read=document_of(OperatingPoint), seeds=said(POINT)),
    Parser(
        name="SageMaker invocation",
        read=lambda raw, _: invocation_picture(raw, content_type="application/json"),
        seeds=said({"image": "data:image/jpeg;base64,/9j/4AAQ"}),
    ),
    Parser(name="function call", read=document_of(FunctionRequest), seeds=said(CALL)),
    Parser(name="gRPC inference", read=inference_call, seeds=called),
    Parser(
        name="Open Inference",
        read=lambda raw, _: read_inference(raw, header_bytes=None),
        seeds=said(
            {
                "id": "1",
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2]}],
                "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
            }
        ),
    ),
    Parser(
        name="wrapping", read=lambda raw, _: read_wrapping(raw, where="w"), seeds=said(WRAPPING)
    ),
    Parser(
        name="webhook secrets",
        read=of_file(read_secrets, "secret"),
        seeds=said("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"),
    ),
    Parser(
        name="RTSP answer",
        read=answered(lambda port: ask(f"rtsp://u:p@127.0.0.1:{port}/x", timeout_s=2.0)),
        seeds=said(
            "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n",
            'RTSP/1.0 401 No\r\nWWW-Authenticate: Digest realm="r", nonce="n"\r\n\r\n',
        ),
    ),
    Parser(
        name="HTTP camera",
        read=answered(asked_by_http),
        seeds=said(
            "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=--b\r\n\r\n"
            "--b\r\nContent-Type: image/jpeg\r\nContent-Length: 2\r\n\r\nxy\r\n--b\r\n\r\nx\r\n--b",
            "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n\xff\xd8\xff\xe0",
        ),
    ),
    Parser(
        name="webhook answer",
        read=answered(posted),
        seeds=said(
            "HTTP/1.1 503 Later\r\nRetry-After: 5\r\nContent-Length: 2\r\n\r\nno",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
    ),
    Parser(
        name="learned habits",
        read=of_file(read_dwell_times, "habits.json"),
        seeds=said({"schema": "lineside.sighting/1", "dwell_s": 0.5, "gap_s": 1.0}),
    ),
    Parser(
        name="identity",
        read=of_file(read_identity, "identity.json"),
        seeds=said(PEM.format("PRIVATE KEY") + PEM.format("CERTIFICATE")),
    ),
)

FOUND: tuple[tuple[str, Callable[[], bytes]], ...] = (
    ("plant file", lambda: b"a = " + b"[" * 3000),
    ("camera message", lambda: b'{"ts":"","data":"","x":' + b"[" * 3000),
    ("addresses, times and headers", lambda: b"mqtt://[host"),
    ("list file", lambda: b"0\t" + b"9" * 400 + b"\ta.jpg\n"),
    ("VOC", lambda: VOC.replace("16", "9" * 400).encode()),
    ("YOLO", lambda: b"train: 2026-05-15 12:41:99\n"),
    ("YOLO labels", lambda: b"9" * 400 + b" 0.5 0.5 0.25 0.5\n"),
    ("zip of pictures", lambda: zipped()[0][1:]),
)
"""Bytes that once did more than they may."""
