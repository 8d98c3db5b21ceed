"""Events as the parts of a small warehouse would send them, for tests of those who fold them.

The plant has the nine places A1 … C3, each a region of four classes, and five stations. Times are
seconds after ``NOON``. Every id is made of the content, as the hub makes it. The tables ``PARTS``
declare a line whose parts three inspections judge.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from lineside.core import (
    Digest,
    Plant,
    digest_of,
    encode,
    parse_plant,
    rfc3339,
    stable_id,
)
from lineside.core.factory import SLOTS
from lineside.streams import Event, prediction_event
from lineside.testing.bare import PACKAGE, bare_frame, bare_label, bare_prediction
from lineside.testing.clock import NOON
from lineside.vision import (
    AnomalyAnswer,
    Decision,
    HealthFigures,
    LabelAnswer,
    PictureState,
    Prediction,
    RegistrationFigures,
    StageTimes,
)

COLOURS = ("blue", "red", "white")
CLASSES = ("empty", *COLOURS)

_STATIONS = (
    ("hbw", "High-bay warehouse", "rack"),
    ("vgr", "Vacuum gripper", "gripper"),
    ("mpo", "Processing", "oven"),
    ("sld", "Sorting", "sorter"),
    ("dso", "Delivery", "output"),
)
_TOPICS = {
    "stock": "f/i/stock", "order": "f/i/order", "alert": "i/alert", "sensor": "i/bme680",
}  # fmt: skip


SIDES = ("top", "side", "back")
PARTS = '[[line]]\nid = "press"\nname = "Press"\n' + "".join(
    f'[[camera]]\nid = "{one}"\nline = "press"\nsource = "mqtt:cam/{one}"\n'
    f'[[inspection]]\nid = "{one}"\ncamera = "{one}"\ntask = "anomaly"\n'
    'trigger = { on = "part" }\n'
    for one in SIDES
)


def small_plant(*, slots: tuple[str, ...] = SLOTS) -> Plant:
    """A warehouse of those places, named ``hall``."""
    regions = "\n".join(
        f'[[inspection.region]]\nid = "{slot}"\nclasses = ["empty", "blue", "red", "white"]\n'
        f"box_px = {{ x0_px = {10 * place}, y0_px = 0, x1_px = {10 * place + 9}, y1_px = 9 }}"
        for place, slot in enumerate(slots)
    )
    places = "\n".join(f'[[twin.slot]]\nid = "{slot}"\nregion = "{slot}"' for slot in slots)
    stations = "\n".join(
        f'[[twin.station]]\nid = "{code}"\ncode = "{code}"\nname = "{name}"\nshape = "{shape}"'
        for code, name, shape in _STATIONS
    )
    text = f"""
        schema = "lineside.plant/1"
        site = "hall"
        [[line]]
        id = "factory"
        name = "Factory"
        [[camera]]
        id = "rack"
        line = "factory"
        source = "mqtt:i/cam"
        [[inspection]]
        id = "stock"
        camera = "rack"
        [inspection.view]
        width_px = 320
        height_px = 240
        {regions}
        [twin]
        inspection = "stock"
        {places}
        {stations}
    """
    return parse_plant(text.encode(), where="small plant")


def after(seconds: float) -> datetime:
    """A moment, counted from ``NOON``."""
    return NOON + timedelta(seconds=seconds)


def prediction_of(
    shown: Mapping[str, str],
    *,
    at_s: float,
    state: PictureState = PictureState.OK,
    package: Digest = PACKAGE,
    inspection: str = "stock",
) -> Prediction:
    """Return a package's prediction of one frame.

    Args:
        shown: place → class; ``"?"`` or ``"?blue"`` for unsure (of any colour, of blue).
        at_s: capture time.
        state: anything but ``ok`` carries no answers.
        package: digest of the package.
        inspection: whose answer it is.
    """
    frame = bare_frame(at=after(at_s), digest=digest_of(f"picture {at_s}".encode()))
    return bare_prediction(
        frame,
        inspection=inspection,
        task="multilabel",
        state=state,
        labels=tuple(
            answer
            for place, name in shown.items()
            for answer in _answers(place, name)
            if state is PictureState.OK
        ),
        package=package,
        dataset="rack/1",
        registration=RegistrationFigures(state="still"),
        health=HealthFigures(sharpness=120.0, mean_grey=100.0, clipped_share=0.0),
        latency_ms=StageTimes(total=12.5),
        device="edge-1",
        reason="" if state is PictureState.OK else f"{state} by 40 px",
    )


def part_prediction(
    inspection: str, part: str, *, verdict: str = "ok", at_s: float = 0.0, camera: str = ""
) -> Prediction:
    """An answer of one of ``SIDES`` that is judged as ``verdict`` (ok, reject or review) says."""
    camera = camera or inspection
    digest = digest_of(f"{camera} {part} {at_s}".encode())
    decision = {"ok": "absent", "reject": "present", "review": "unsure"}[verdict]
    return bare_prediction(
        bare_frame(camera=camera, at=after(at_s), digest=digest, part=part),
        inspection=inspection, task="anomaly", package=PACKAGE, device="edge-1",
        anomaly=AnomalyAnswer(score=2.41, limit=1.1, decision=Decision(decision)),
    )  # fmt: skip


def part_event(inspection: str, part: str, *, verdict: str = "ok", at_s: float = 0.0) -> Event:
    """The same as the event of a device."""
    of = part_prediction(inspection, part, verdict=verdict, at_s=at_s)
    return prediction_event(of, site="hall", device="edge-1", sequence=1, first=1)


def _answers(place: str, name: str) -> list[LabelAnswer]:
    unsure = name.startswith("?")
    among = (name[1:],) if len(name) > 1 and unsure else COLOURS if unsure else (name,)
    said = (0.5, Decision.UNSURE) if unsure else (0.97, Decision.PRESENT)
    return [
        bare_label(label, *(said if label in among else (0.01, Decision.ABSENT)), region=place)
        for label in CLASSES
    ]


def picture_event(
    shown: Mapping[str, str],
    *,
    at_s: float,
    state: PictureState = PictureState.OK,
    package: Digest = PACKAGE,
    inspection: str = "stock",
) -> Event:
    """A prediction on its way from device to hub; arguments as ``prediction_of``."""
    return prediction_event(
        prediction_of(shown, at_s=at_s, state=state, package=package, inspection=inspection),
        site="hall",
        device="edge-1",
        sequence=int(at_s * 1000) + 1,
        first=1,
    )


def plant_event(kind: str, *, at_s: float, topic: str = "", **fields: object) -> Event:
    """A message of the plant, kept as the hub keeps it."""
    topic = topic or _TOPICS.get(kind, kind)
    data: dict[str, object] = {"ts": rfc3339(after(at_s)), **fields, "topic": topic}
    return Event(
        id=stable_id("evt", topic, digest_of(encode(data))),
        source="/hall/plant",
        type=f"lineside.plant.{kind}.v1",
        subject=topic,
        time=after(at_s),
        data=data,
    )


def stock_event(reported: Mapping[str, str], *, at_s: float) -> Event:
    """``f/i/stock``: place → colour, "" for an empty place."""
    items = [
        {"location": place, "workpiece": _piece(colour) if colour else None}
        for place, colour in reported.items()
    ]
    return plant_event("stock", at_s=at_s, stockItems=items)


def _piece(colour: str) -> dict[str, str]:
    return {"id": "04a1b2c3d4e5f6", "type": colour.upper(), "state": "RAW"}


def factory_event(state: str, colour: str = "none", *, at_s: float) -> Event:
    """``f/i/order``."""
    return plant_event("order", at_s=at_s, state=state, type=colour.upper())


def station_event(code: str, *, active: bool, at_s: float, target: str = "") -> Event:
    """``f/i/state/<code>``."""
    return plant_event(
        "station", at_s=at_s, topic=f"f/i/state/{code}", station=code, code=2 if active else 1,
        description="", active=int(active), target=target,
    )  # fmt: skip
