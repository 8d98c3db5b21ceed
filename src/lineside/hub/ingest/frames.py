"""Frames: their rows, their bytes, what was said of them and what names them."""

from datetime import datetime

from lineside.core import (
    Digest,
    FrameId,
    InvalidError,
    NotFoundError,
    Plant,
    rfc3339,
    stable_id,
)
from lineside.hub.ingest.thumbnails import THUMBNAIL_PX, needs_thumbnail
from lineside.hub.models.packages import Packages
from lineside.hub.views import EventView, FrameView, Picture, view_of
from lineside.store import Blobs, FrameRow, Records
from lineside.vision import Frame, check_picture, encode_png, open_frame
from lineside.vision.draw import heat_layer

_PNG = b"\x89PNG"
_MOST_PAGE = 1000


class GoneError(NotFoundError):
    """The picture aged out; ``row`` is what is left of it."""

    http_status = 410
    title = "Gone"

    def __init__(self, row: FrameRow) -> None:
        at = rfc3339(row.aged_out_at) if row.aged_out_at else "some time"
        super().__init__(
            f"the picture aged out at {at}; its digest, thumbnail and answers are kept",
            where=row.id,
            fix="Pin frames that must stay: add them to a dataset.",
        )
        self.row = row


class Frames:
    """Stored frames."""

    def __init__(self, records: Records, blobs: Blobs, *, plant: Plant, packages: Packages) -> None:
        self._records = records
        self._blobs = blobs
        self._plant = plant
        self._packages = packages

    def row(self, frame: str) -> FrameRow:
        """``NotFoundError`` if it was never stored."""
        return self._records.frames.get(FrameId(frame))

    def page(
        self, *, camera: str = "", since: datetime | None = None, until: datetime | None = None,
        before: str = "", limit: int = 100,
    ) -> list[FrameRow]:  # fmt: skip
        """Newest first, strictly older than the frame ``before``."""
        return self._records.frames.page(
            camera=camera, since=since, until=until, before=FrameId(before) if before else None,
            limit=min(limit, _MOST_PAGE),
        )  # fmt: skip

    def view(self, frame: str) -> FrameView:
        """The row and everything that names the frame."""
        row = self.row(frame)
        named = [pin.partition(":") for pin in row.pins]
        predictions = self._entries(self._prediction_ids(row))
        events = self._entries([name for kind, _, name in named if kind == "event"])
        own = self._entries([stable_id("evt", row.id)])
        return FrameView(
            row=row,
            predictions=tuple(predictions),
            events=(*own, *events),
            orders=tuple(name for kind, _, name in named if kind == "order"),
            datasets=tuple(name for kind, _, name in named if kind == "dataset"),
        )

    def picture(self, frame: str) -> Picture:
        """The bytes as they came; ``GoneError`` when they aged out."""
        row = self.row(frame)
        if row.aged_out_at is not None:
            raise GoneError(row)
        return picture_of_bytes(self._blobs.get(row.digest))

    def thumbnail(self, frame: str) -> Picture:
        """A small JPEG; it outlives the picture."""
        row = self.row(frame)
        kept = self._blobs.get(Digest(row.thumbnail))
        if needs_thumbnail(row):
            kept = check_picture(kept, width_px=THUMBNAIL_PX, max_bytes=len(kept)).thumbnail
        return picture_of_bytes(kept)

    def open(self, frame: str) -> Frame:
        """The decoded frame, for a predictor."""
        row = self.row(frame)
        return open_frame(
            self.picture(frame).data, camera=row.camera, captured_at=row.captured_at,
            sequence=row.sequence, part=row.part, max_bytes=row.size_bytes,
        )  # fmt: skip

    def activation(self, frame: str, *, label: str, package: str = "") -> Picture:
        """Where the network looked for a label, as a transparent PNG over the picture.

        ``package`` empty: the one that answered this frame, newest answer first.
        """
        digest = package or self._answered_by(frame)
        heat = self._packages.explain(digest, self.open(frame))
        if label not in heat:
            known = ", ".join(heat) or "none"
            raise InvalidError(f"no label {label!r}", where="label", fix=f"Known: {known}.")
        return Picture(data=encode_png(heat_layer(heat[label])), media_type="image/png")

    def _answered_by(self, frame: str) -> str:
        answers = self._entries(self._prediction_ids(self.row(frame)))
        if not answers:
            raise NotFoundError(
                "nothing was said of this frame yet", where=frame, fix="Name a package."
            )
        newest = max(answers, key=lambda view: view.position)
        return str(newest.event["data"]["package"])

    def _prediction_ids(self, row: FrameRow) -> list[str]:
        """Ids of every answer there can be: a hash of frame, inspection and package."""
        inspections = [item.id for item in self._plant.inspection if item.camera == row.camera]
        digests = self._packages.digests()
        return [
            stable_id("evt", row.id, inspection, digest)
            for inspection in inspections
            for digest in digests
        ]

    def _entries(self, event_ids: list[str]) -> list[EventView]:
        found = []
        for event_id in event_ids:
            try:
                found.append(view_of(self._records.log.get(event_id)))
            except NotFoundError:
                continue
        return found


def picture_of_bytes(data: bytes) -> Picture:
    """Encoded bytes with the media type that their beginning tells."""
    return Picture(data=data, media_type="image/png" if data.startswith(_PNG) else "image/jpeg")
