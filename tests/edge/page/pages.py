"""A page served for real, told of made-up pictures and answers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.core import Clock, Digest, Plant, parse_plant, rfc3339
from lineside.edge.config import PageConfig
from lineside.edge.packages import Judge
from lineside.edge.page.facts import Device, HubContact, ModelRow, RunningUpdate
from lineside.edge.page.gallery import Gallery
from lineside.edge.page.server import PageServer
from lineside.fleet.contract import DeviceStatus, InUse
from lineside.testing.bare import bare_label, bare_prediction
from lineside.vision import (
    AnomalyAnswer,
    BoxAnswer,
    CountAnswer,
    Decision,
    Frame,
    HealthFigures,
    MaskAnswer,
    Prediction,
    StageTimes,
    encode_jpeg,
    open_frame,
)
from lineside.vision.masks import rle_of

PLANT = """
schema = "lineside.plant/1"
site = "demo"
name = "Werk <2>"
line = [{ id = "line-1", name = "Line 1" }]
camera = [
    { id="surface", line="line-1", source="mqtt:i/surface", name="Surface", no_signal_after_s=4 },
    { id = "bin", line = "line-1", source = "mqtt:i/bin", no_signal_after_s = 4 },
]
inspection = [
    { id = "defect", camera = "surface", task = "classify", labels = ["normal", "anomalous"] },
    { id = "where", camera = "surface", task = "segment", labels = ["scratch"] },
    { id = "fill", camera = "bin", task = "count" },
    { id = "odd", camera = "bin", task = "anomaly" },
]
"""
PACKAGE = Digest("sha256:" + "ab12" * 16)
OK = HealthFigures(sharpness=90.0, mean_grey=100.0, clipped_share=0.0)


def picture(*, seed: int = 0, width: int = 320, height: int = 240) -> NDArray[np.uint8]:
    """A grey plate with a brighter patch; the seed shifts it."""
    image = np.full((height, width, 3), 92, np.uint8)
    noise = np.random.default_rng(seed).integers(0, 24, (height, width, 1), dtype=np.uint8)
    image += noise
    image[60:120, 80 + 5 * (seed % 20) : 160 + 5 * (seed % 20)] = (150, 158, 166)
    return image


@dataclass
class Shown:
    """A page, and what steers it."""

    url: str
    gallery: Gallery
    clock: Clock
    config: PageConfig
    device: Device
    server: PageServer
    faults: list[str] = field(default_factory=list)
    judges: dict[str, Judge] = field(default_factory=dict)
    contact: list[HubContact] = field(default_factory=list)
    jobs: list[RunningUpdate] = field(default_factory=list)
    asked: int = 0

    def frame(self, camera: str = "surface", *, seed: int = 0, **more: Any) -> Frame:  # noqa: ANN401  fields of the frame
        """A picture as a camera gives it."""
        at = self.clock.now() + timedelta(milliseconds=seed)
        frame = open_frame(encode_jpeg(picture(seed=seed)), camera=camera, captured_at=at)
        return replace(frame, **more) if more else frame

    def see(self, frame: Frame, *said: Prediction) -> None:
        """What the camera's thread does with a picture."""
        for prediction in said:
            self.gallery.look(frame, prediction)
        self.gallery.show(frame)


def said_of(frame: Frame, inspection: str, **more: Any) -> Prediction:  # noqa: ANN401  fields of the record
    """An answer to a picture."""
    settings: dict[str, Any] = {
        "package": PACKAGE, "health": OK, "latency_ms": StageTimes(total=12.4), "device": "edge-1",
        **more,
    }  # fmt: skip
    return bare_prediction(frame.ref, inspection=inspection, **settings)


def classified(frame: Frame) -> Prediction:
    labels = (bare_label("normal", 0.02, Decision.ABSENT), bare_label("anomalous", 0.98))
    return said_of(frame, "defect", labels=labels)


def segmented(frame: Frame) -> Prediction:
    mask = np.zeros((240, 320), np.bool_)
    mask[70:100, 90:150] = True
    said = MaskAnswer(
        rle=rle_of(mask), width_px=320, height_px=240, share=float(mask.mean()), areas_px=(1800,)
    )
    return said_of(frame, "where", task="segment", labels=(bare_label("scratch", 0.91),), mask=said)


def counted(frame: Frame) -> Prediction:
    boxes = tuple(
        BoxAnswer(
            label="item", x0_px=20.0 + 60 * n, y0_px=150.0, x1_px=60.0 + 60 * n, y1_px=200.0,
            probability=0.9,
        )
        for n in range(3)
    )  # fmt: skip
    return said_of(
        frame, "fill", task="count", boxes=boxes, count=CountAnswer(value=3, low=3, high=4)
    )


def odd(frame: Frame) -> Prediction:
    answer = AnomalyAnswer(score=1.4, limit=1.0, decision=Decision.PRESENT)
    return said_of(frame, "odd", task="anomaly", anomaly=answer)


def plant() -> Plant:
    return parse_plant(PLANT.encode(), where="plant")


@contextmanager
def shown(
    folder: Path, *, clock: Clock, named: Sequence[ModelRow] = (), open_inference: bool = True,
    **settings: Any,  # noqa: ANN401  of the page
) -> Iterator[Shown]:  # fmt: skip
    """A page on a free port, until the block ends."""
    config = PageConfig(**{"listen": "127.0.0.1:0", **settings})
    site, steered = plant(), Shown.__new__(Shown)
    judges: dict[str, Judge] = {}
    inspections = tuple(one.id for one in site.inspection)
    gallery = Gallery({one.id: one.camera for one in site.inspection}, clock=clock)

    def status() -> DeviceStatus:
        steered.asked += 1
        return DeviceStatus(
            device="edge-1", state="online", version="0.1.0", at=rfc3339(clock.now()),
            packages=(InUse(inspection="defect", digest=PACKAGE, loaded_at=rfc3339(clock.now())),),
            spool_depth=12, frames=40, predictions=38, refused={"not fresh": 2},
            faults=tuple(steered.faults),
        )  # fmt: skip

    device = Device(
        name="edge-1",
        plant=site,
        inspections=inspections,
        status=status,
        judge=judges.get,
        hub=lambda: steered.contact[-1],
        loaded=lambda: named,
        versions=lambda: {PACKAGE: ("img-classification", "1.2")},
        updates=lambda: tuple(steered.jobs),
    )
    server = PageServer(
        config, device=device, gallery=gallery, folder=folder, clock=clock,
        open_inference=open_inference,
    )  # fmt: skip
    Shown.__init__(
        steered, url=server.url, gallery=gallery, clock=clock, config=config, device=device,
        server=server, contact=[HubContact(connected=True)], judges=judges,
    )  # fmt: skip
    try:
        server.start()
        yield steered
    finally:
        server.close()
