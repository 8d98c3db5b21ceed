"""Log entries and frame rows as the suites write them."""

from datetime import datetime, timedelta

from lineside.core import digest_of, encode, frame_id, rfc3339
from lineside.store import FrameAnswer, FrameRow, LogEntry
from lineside.testing.clock import NOON
from lineside.vision.verdict import PartVerdict

HUB = "/site/hub"


def log_entry(
    number: int,
    *,
    source: str = HUB,
    kind: str = "lineside.event.v1",
    subject: str = "",
    at: datetime = NOON,
) -> LogEntry:
    """An event as the log takes it; ``number`` makes its id."""
    event_id = f"evt_{number:06d}"
    body = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": kind,
        "time": rfc3339(at),
        "data": {"number": number},
    } | ({"subject": subject} if subject else {})
    return LogEntry(
        id=event_id, source=source, type=kind, subject=subject, captured_at=at, body=encode(body)
    )


def frame_row(
    second: float,
    *,
    camera: str = "rack",
    picture: bytes = b"",
    size_bytes: int = 100,
    pins: tuple[str, ...] = (),
) -> FrameRow:
    """A frame captured so many seconds after noon; its picture is its own unless given."""
    captured_at = NOON + timedelta(seconds=second)
    digest = digest_of(picture or f"{camera} {second}".encode())
    return FrameRow(
        id=frame_id(camera=camera, captured_at=captured_at, digest=digest),
        camera=camera,
        captured_at=captured_at,
        arrived_at=captured_at + timedelta(seconds=0.25),
        digest=digest,
        size_bytes=size_bytes,
        width_px=320,
        height_px=240,
        thumbnail=digest_of(b"small " + digest.encode()),
        pins=pins,
    )


def frame_answer(
    row: FrameRow,
    *,
    verdict: PartVerdict,
    inspection: str = "plates",
    package: str = "sha256:0",
    label: str = "",
    labels: tuple[str, ...] = (),
    score: float = 0.0,
    doubt: float = 0.0,
    unsure: bool = False,
) -> FrameAnswer:
    """Answer a frame."""
    return FrameAnswer(
        frame=row.id,
        camera=row.camera,
        captured_at=row.captured_at,
        inspection=inspection,
        package=package,
        verdict=verdict,
        label=label,
        labels=labels,
        score=score,
        doubt=doubt,
        unsure=unsure,
    )
