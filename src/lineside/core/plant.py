"""The plant file: everything a site declares, as frozen records.

These are declarations only; the rooms give them meaning. Cross references (a route naming a
camera, a slot naming a region) are checked by ``lineside.core.plant_check``.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeVar

from lineside.core.clock import Seconds
from lineside.core.codec import above_zero, entries, nearest, refuse, unless, within, zero_or_more
from lineside.core.drivers import SecretUrl
from lineside.core.errors import Fault, InvalidError
from lineside.core.outputs import OutputConfig
from lineside.core.plant_rules import Rule, known_zone
from lineside.core.plant_say import Say
from lineside.core.shifts import Shift
from lineside.core.webhooks import WebhookConfig

PLANT_SCHEMA = "lineside.plant/1"
_SOURCES = {
    "aravis": "//id", "folder": "a path", "http": "//host/path", "http-push": "//host:port",
    "https": "//host/path", "mqtt": "a topic", "rtsp": "//host", "v4l": "a number",
    "video": "a file",
}  # fmt: skip
_SNAPSHOTS = ("http", "https")
_ON_EVENTS = ("folder:", "http-push:", "mqtt:")
_TRIGGER = re.compile(r"[A-Za-z0-9]{0,40}")
_CHUNK = re.compile(r"(?:Chunk\w{1,80})?", re.ASCII)
_MOST_BYTES = 1_000_000
_ENVELOPE_BYTES = 4096
_HALF_TURN_DEG = 180
_WHITE = 255
_Named = TypeVar("_Named", "Camera", "Inspection")


class Task(StrEnum):
    """Kind of answer that an inspection gives.

    ``multilabel``: each label present or absent; ``classify``: exactly one of the labels;
    ``detect``: boxes of each label; ``count``: how many; ``segment``: which pixels are defect;
    ``anomaly``: whether it differs from good parts.
    """

    MULTILABEL = "multilabel"
    CLASSIFY = "classify"
    DETECT = "detect"
    COUNT = "count"
    SEGMENT = "segment"
    ANOMALY = "anomaly"

    @property
    def teaches_network(self) -> bool:
        """True where a training may teach the network itself, not only what stands behind it."""
        return self not in (Task.ANOMALY, Task.MULTILABEL)


_NAMED = (Task.MULTILABEL, Task.CLASSIFY)
_THRESHOLDED = (Task.MULTILABEL, Task.CLASSIFY, Task.SEGMENT)
_LABELLESS = (Task.COUNT, Task.ANOMALY)


class RouteKind(StrEnum):
    """Kind of a routed message, which chooses its decoder."""

    FRAME = "frame"
    SENSOR = "sensor"
    STOCK = "stock"
    ORDER = "order"
    STATION = "station"
    ALERT = "alert"
    MESSAGE = "message"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """An upright rectangle in pixels; x1 and y1 lie outside it."""

    x0_px: float
    y0_px: float
    x1_px: float
    y1_px: float

    def __post_init__(self) -> None:
        refuse(
            self,
            unless(
                self.x0_px < self.x1_px and self.y0_px < self.y1_px,
                expected="a box with x0_px < x1_px and y0_px < y1_px",
                fix="Swap the two corners.",
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A place on the reference view that answers one presence label, or one of several classes.

    Attributes:
        id: name; names the place.
        box_px: table; ``{ x0_px, y0_px, x1_px, y1_px }`` in pixels of the reference view, inside
            it; ``x1_px`` and ``y1_px`` lie just outside the box.
        label: name; presence: this label is present or absent here.
        classes: two or more names; exactly one of these holds here; the label names in datasets are
            ``<id>/<class>``.
    """

    id: str
    box_px: Box
    label: str = ""
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        different = len(set(self.classes)) == len(self.classes) != 1
        refuse(
            self,
            unless(
                bool(self.label) != bool(self.classes),
                expected="a region with either label or classes",
                fix='Write label = "…" for presence, or classes = ["…", "…"].',
            ),
            unless(
                different, key="classes", value=self.classes,
                expected="two or more different classes", fix="Name each class once.",
            ),
        )  # fmt: skip

    @property
    def answers(self) -> tuple[str, ...]:
        """The names this region can give: its label, or its classes."""
        return self.classes or (self.label,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """When a frame is inspected.

    Attributes:
        on: ``frame``: each one; ``interval``: at most every ``interval_s``; ``topic``: the next one
            after a message; ``part``: those that carry a part id.
        interval_s: needed with ``interval``; seconds above 0.
        topic: needed with ``topic``.
    """

    on: Literal["frame", "interval", "topic", "part"] = "frame"
    interval_s: Seconds = 0.0
    topic: str = ""

    def __post_init__(self) -> None:
        timed = self.on == "interval"
        refuse(
            self,
            above_zero(self, "interval_s") if timed else zero_or_more(self, "interval_s"),
            unless(
                self.on != "topic" or self.topic, key="topic", value=self.topic,
                expected="a topic", fix='Add topic = "…".',
            ),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The reference view: its size and how the camera may have moved from it.

    Attributes:
        width_px: whole number above 0; width of the reference image.
        height_px: whole number above 0; its height.
        register: find how the camera has moved before regions are cut; ``false`` cuts at once.
        max_shift_share: 0-1; of the image's side; a larger shift is "camera moved".
        max_rotation_deg: 0-180 degrees; a larger turn is "camera moved".
    """

    width_px: int
    height_px: int
    register: bool = True
    max_shift_share: float = 0.25
    max_rotation_deg: float = 20.0

    def __post_init__(self) -> None:
        refuse(
            self,
            above_zero(self, "width_px", "height_px"),
            within(self, "max_shift_share"),
            within(self, "max_rotation_deg", high=_HALF_TURN_DEG),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Policy that turns scores into decisions.

    Attributes:
        error_rate: 0-1; wished share of wrong answers among those given; what cannot be answered at
            this rate is "unsure". Few images may not show so small a rate: the package states the
            one that it holds.
        escape_cost: above 0; price of saying absent where the label is present.
        over_reject_cost: above 0; price of saying present where it is not.
        present_above: 0-1; replaces the learned cuts: present if and only if the score is strictly
            greater; there is then no "unsure".
    """

    error_rate: float = 0.05
    escape_cost: float = 1.0
    over_reject_cost: float = 1.0
    present_above: float | None = None

    def __post_init__(self) -> None:
        refuse(
            self,
            within(self, "error_rate", "present_above"),
            above_zero(self, "escape_cost", "over_reject_cost"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """One task on one camera.

    Attributes:
        id: id; names the inspection everywhere.
        camera: id of a camera; whose frames are judged.
        task: ``multilabel``, ``classify``, ``detect``, ``count``, ``segment`` or ``anomaly``; what
            is answered.
        trigger: table; when a frame is judged.
        view: table; needed with regions; the reference view.
        region: tables; places on the view, each with an answer of its own.
        labels: list of text; labels of the whole image; only where no region is named.
        policy: table; how scores become decisions.
        max_age_s: seconds above 0; older frames are not judged; exactly this old still is.
        max_skew_s: seconds, 0 or more; frames from further in the future are not judged.
        endpoint: id; name under ``/endpoints/<name>/invocations``; used once in the file.
        good: labels; those that mean a good part, in [training](training.md#labels-of-a-good-part),
            a [verdict](#verdicts), [review](../how-to/review.md), and where two packages are
            [compared](rollouts.md#evidence). Without ``labels`` or regions any label can be named.
            Empty: good, normal, ok, free, none, no defect, defect-free, functional.
        reject: labels; those that [reject](#verdicts) a part, of classes, masks, boxes and presence
            labels. Empty: every label of a class or mask that is not good, and no box.
        expected: names; of ``multilabel``: the labels of a good part (``"blue"``, ``"A1/blue"``);
            one that lacks or one too many rejects. ``[]``: none may be there. Left out: none is
            expected.
        expected_count: whole number; of ``count``: the number of objects of a good part; another
            number rejects.
        expected_field: of ``count`` with a trigger on a topic: the field of the trigger's message
            (a JSON object) that holds the number of objects of this part, ``"pieces"`` for
            ``{"pieces": 12}``. A message without it, or with anything but a whole number there,
            leaves ``expected_count``.
        verdict: ``false``: its answers do not count for the verdict on a part.
        audit: 0-1; share of the pictures that it says ok of which people judge too, drawn at
            random: the [audit](../how-to/review.md#the-random-audit) of the review queue.
        audit_rejects: 0-1; the same of the pictures that it rejects. Left out: as ``audit``.
        reviewers: 1 or 2; how many people answer each picture in
            [review](../how-to/review.md#two-people), neither seeing the other's answer.
        endpoint_answer: ``"probabilities"`` or ``"logits"``; of the task count: what the endpoint
            answers; logits are the logarithms of the probabilities, for clients that expect them.
        endpoint_threshold: number above 0 and below 1; of ``multilabel``, ``classify`` and
            ``segment``: the one fixed cut of clients that ask whether a number is greater. Their
            endpoint answers [scores](http.md#scores-for-a-clients-own-cut) in which each label's
            own cut lies there; without it, calibrated probabilities.
    """

    id: str
    camera: str
    task: Task = Task.MULTILABEL
    trigger: Trigger = field(default_factory=Trigger)
    view: View | None = None
    region: tuple[Region, ...] = ()
    labels: tuple[str, ...] = ()
    policy: Policy = field(default_factory=Policy)
    max_age_s: Seconds = 60.0
    max_skew_s: Seconds = 5.0
    endpoint: str = ""
    endpoint_answer: Literal["probabilities", "logits"] = "probabilities"
    endpoint_threshold: float | None = None
    good: tuple[str, ...] = ()
    reject: tuple[str, ...] = ()
    expected: tuple[str, ...] | None = None
    expected_count: int | None = None
    expected_field: str = ""
    verdict: bool = True
    audit: float = 0.0
    audit_rejects: float | None = None
    reviewers: int = 1

    def __post_init__(self) -> None:
        refuse(
            self,
            within(self, "audit", "audit_rejects"),
            unless(
                self.reviewers in {1, 2}, key="reviewers", value=self.reviewers,
                expected="1 or 2", fix="Write reviewers = 2 where two people judge each picture.",
            ),
            unless(
                not self.known_labels or set(self.good) <= self.known_labels,
                key="good", value=self.good,
                expected="labels of this inspection", fix="Name those that mean a good part.",
                needs=("labels", "region"),
            ),
            self._check_reject(),
            above_zero(self, "max_age_s"),
            zero_or_more(self, "max_skew_s"),
            unless(
                self.region or self.labels or self.task not in _NAMED,
                expected="an inspection that answers something",
                fix="Add [[inspection.region]] tables, or labels for the whole picture.",
            ),
            unless(
                not self.region or self.task is Task.MULTILABEL, key="task", value=str(self.task),
                expected="regions with the task multilabel",
                fix='Write task = "multilabel"; other tasks answer for the whole picture.',
            ),
            unless(
                not (self.region and self.labels), key="labels", value=self.labels,
                expected="labels only where no region is named", fix="Remove labels.",
            ),
            unless(
                self.task is Task.COUNT or self.endpoint_answer == "probabilities",
                key="endpoint_answer", value=self.endpoint_answer,
                expected="logits of the task count only",
                fix='Remove it, or write task = "count".', needs=("task",),
            ),
            unless(
                self.endpoint_threshold is None or 0.0 < self.endpoint_threshold < 1.0,
                key="endpoint_threshold", value=self.endpoint_threshold,
                expected="above 0 and below 1", fix="Write the client's own cut, 0.85 say.",
            ),
            unless(
                self.endpoint_threshold is None or self.task in _THRESHOLDED,
                key="endpoint_threshold", value=self.endpoint_threshold,
                expected="of the tasks multilabel, classify and segment only",
                fix="Remove it.", needs=("task",),
            ),
            unless(
                self.view or not self.region, key="view", value=None,
                expected="regions with a view", fix="Add [inspection.view] with its size.",
            ),
        )  # fmt: skip

    def _check_reject(self) -> Iterator[Fault]:
        """Faults of what rejects a part."""
        known, names = self.known_labels, self.answer_names
        yield from unless(
            self.task not in _LABELLESS or not self.reject, key="reject", value=self.reject,
            expected="of a task that answers labels",
            fix="Remove it; a score above its limit and a wrong count reject by themselves.",
            needs=("task",),
        )  # fmt: skip
        yield from unless(
            not known or set(self.reject) <= known, key="reject", value=self.reject,
            expected="labels of this inspection", fix=f"Known: {', '.join(sorted(known))}.",
            needs=("labels", "region"),
        )  # fmt: skip
        yield from unless(
            not set(self.reject) & set(self.good), key="reject", value=self.reject,
            expected="labels that are not good", fix="Remove them from good or from reject.",
            needs=("good",),
        )  # fmt: skip
        yield from unless(
            self.expected is None or self.task is Task.MULTILABEL, key="expected",
            value=self.expected, expected="of the task multilabel only",
            fix="Name the labels that reject a part: reject.", needs=("task",),
        )  # fmt: skip
        yield from unless(
            self.expected is None or set(self.expected) <= names, key="expected",
            value=self.expected, expected="names that this inspection answers",
            fix=f"Known: {', '.join(sorted(names))}.", needs=("labels", "region"),
        )  # fmt: skip
        yield from unless(
            self.expected_count is None or self.task is Task.COUNT, key="expected_count",
            value=self.expected_count, expected="of the task count only", fix="Remove it.",
            needs=("task",),
        )  # fmt: skip
        yield from zero_or_more(self, "expected_count")
        counts = self.task is Task.COUNT and self.trigger.on == "topic"
        yield from unless(
            not self.expected_field or counts, key="expected_field", value=self.expected_field,
            expected="of the task count with a trigger on a topic",
            fix='Remove it, or write trigger = { on = "topic", topic = "…" }.',
            needs=("task", "trigger"),
        )  # fmt: skip

    @property
    def answer_names(self) -> frozenset[str]:
        """The names of its presence labels: those of the image, ``blue``, ``A1/blue``."""
        return frozenset(self.labels).union(
            f"{one.id}/{answer}" if one.classes else answer
            for _, one in entries(self.region)
            for answer in one.answers
        )

    @property
    def known_labels(self) -> frozenset[str]:
        """Every label it can answer, without its region; empty where it takes any."""
        return frozenset(self.labels).union(*(one.answers for _, one in entries(self.region)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A production line: cameras and stations that belong together.

    Attributes:
        id: id; third level of lineside's own topics; not ``all``, ``figures``, ``panels`` or
            ``wall``, which are addresses of pages.
        name: what people call it.
        wait_s: seconds above 0; how long the [verdict](#verdicts) on a part waits for the other
            inspections after the first answer.
        again_s: seconds above 0; a part id that was not captured for so long and comes again is
            another part, with a verdict of its own.
        max_age_s: seconds above 0; left out, the largest of its inspections; an older verdict has
            the status ``UncertainLastUsableValue`` over [OPC UA](opcua.md#time-and-quality).
        limit_reject: share from 0 to 1; above this share of rejects the line's
            [figures](pages.md#figures-of-lines) are red.
        limit_review: share from 0 to 1; above this share of parts for review in an hour there is an
            [alert](../how-to/alerts.md); so there is above ``limit_reject``.
        goal_yield: share from 0 to 1; the first-pass yield that the line is to reach.
        limit_latency_ms: above 0; from the capture of a part's last image to its verdict, p99.
    """

    id: str
    name: str
    wait_s: Seconds = 2.0
    again_s: Seconds = 60.0
    max_age_s: Seconds | None = None
    limit_reject: float | None = None
    limit_review: float | None = None
    goal_yield: float | None = None
    limit_latency_ms: float | None = None

    def __post_init__(self) -> None:
        refuse(
            self,
            above_zero(self, "wait_s", "again_s", "max_age_s", "limit_latency_ms"),
            within(self, "limit_reject", "limit_review", "goal_yield"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """Where frames come from.

    Attributes:
        id: id; names the camera everywhere.
        line: id of a line; where it stands.
        source: ``mqtt:<topic>`` on the site's bus, [``folder:<path>``](#folders), ``video:<file>``
            (paths as seen from the plant file's folder), ``v4l:<number>``, an ``rtsp://`` URL, an
            ``http://`` or ``https://`` URL of a [snapshot or MJPEG
            stream](#snapshots-and-mjpeg-streams),
            [``aravis://<id>``](#gige-vision-and-usb3-vision), or ``http-push://host:port/path``
            where the camera posts its images to; nothing else.
        name: what people call it.
        max_frame_bytes: above 0; larger images are refused before they are decoded.
        no_signal_after_s: seconds above 0; without a frame for so long, the camera is shown as "no
            signal"; left out 4, and no limit for ``folder:``, ``http-push://`` and ``mqtt:`` and
            with a ``trigger``, whose images come on events.
        dark_below: 0 to 255; its pictures are dark below this mean grey; 0: never
            ([alerts](../how-to/alerts.md)).
        blurred_below: 0 and above; they are blurred below this sharpness: the variance of the
            Laplacian of the grey picture at most 160 px wide; 0: never.
        frozen_after: whole number; so many pictures in a row with the same bytes are frozen; 0:
            never.
        every_s: seconds above 0; how often a snapshot (``http://``, ``https://``) is asked for;
            left out, each second. Of ``aravis://`` the time from one image to the next; left out,
            as the camera is set.
        trigger: ``""``, ``"software"``, or a line such as ``"Line1"``; ``software``: an image
            (``http://`` snapshot, ``aravis://``) is taken at each message on the topic of a
            [trigger](#trigger) of the camera's inspections, and at no other time. A line, of
            ``aravis://`` alone: at each signal on that input of the camera.
        exposure_us: microseconds above 0; of ``aravis://``; left out, as the camera is set.
        gain: number; of ``aravis://``, in the camera's unit, mostly dB; left out, as the camera is
            set.
        part_id: name; of ``aravis://``: the chunk whose value is the [id of the
            part](#part-ids-from-the-camera), ``"ChunkCounterValue"`` say.
        rotate_deg: 0, 90, 180 or 270; images are rotated clockwise by so much. Not of ``mqtt:``,
            whose images the hub takes as they are sent.
        crop_px: table; ``{ x0_px, y0_px, x1_px, y1_px }``, whole pixels of the rotated image: the
            part that is kept, ``x1_px`` and ``y1_px`` just outside it; not of ``mqtt:``. An image
            that is smaller is refused, which is a fault of the device.
    """

    id: str
    line: str
    source: SecretUrl
    name: str = ""
    max_frame_bytes: int = 8_000_000
    no_signal_after_s: Seconds | None = None
    dark_below: float = 12.0
    blurred_below: float = 1.0
    frozen_after: int = 30
    every_s: Seconds | None = None
    trigger: str = ""
    exposure_us: float | None = None
    gain: float | None = None
    part_id: str = ""
    rotate_deg: int = 0
    crop_px: Box | None = None

    def __post_init__(self) -> None:
        scheme, _, rest = self.source.reveal().partition(":")
        known = scheme in _SOURCES
        needed = _SOURCES.get(scheme, "something")
        usable = rest.isdigit() if scheme == "v4l" else rest not in {"", "//"}
        refuse(
            self,
            unless(
                known, key="source", value=self.source,
                expected="a source that lineside can open", fix=nearest(scheme, list(_SOURCES)),
            ),
            unless(
                usable or not known, key="source", value=self.source,
                expected=f"a source with {needed} after {scheme}:",
                fix=f'Write source = "{scheme}:…" with it.',
            ),
            above_zero(self, "max_frame_bytes", "no_signal_after_s", "every_s", "exposure_us"),
            *(
                unless(
                    value in {None, ""} or scheme in schemes, key=key, value=value,
                    expected=f"{key} with a source {' or '.join(schemes)} only",
                    fix=f"Remove {key}.",
                )
                for key, value, schemes in (
                    ("every_s", self.every_s, ("aravis", *_SNAPSHOTS)),
                    ("trigger", self.trigger, ("aravis", *_SNAPSHOTS)),
                    ("exposure_us", self.exposure_us, ("aravis",)),
                    ("gain", self.gain, ("aravis",)),
                    ("part_id", self.part_id, ("aravis",)),
                )
            ),
            unless(
                self.rotate_deg in {0, 90, 180, 270}, key="rotate_deg", value=self.rotate_deg,
                expected="0, 90, 180 or 270", fix="Rotate clockwise by quarters of a turn.",
            ),
            unless(
                scheme != "mqtt" or not (self.rotate_deg or self.crop_px), key="source",
                value=self.source, expected="a source whose images are rotated or cropped here",
                fix="Remove rotate_deg and crop_px; the sender rotates and crops.",
            ),
            *(
                unless(
                    corner >= 0 and corner % 1 == 0, key=f"crop_px.{key}", value=corner,
                    expected="a whole number from 0 on", fix="Write a whole number of pixels.",
                )
                for key in ("x0_px", "y0_px", "x1_px", "y1_px")
                for corner in (getattr(self.crop_px, key, 0.0),)
            ),
            unless(
                _TRIGGER.fullmatch(self.trigger)
                and (scheme not in _SNAPSHOTS or self.trigger in {"", "software"}),
                key="trigger", value=self.trigger,
                expected="software, or the name of a line of an aravis camera",
                fix='Write trigger = "software".',
            ),
            unless(
                _CHUNK.fullmatch(self.part_id), key="part_id", value=self.part_id,
                expected="the name of a chunk feature", fix='Write "ChunkCounterValue", say.',
            ),
            within(self, "dark_below", high=_WHITE),
            zero_or_more(self, "blurred_below", "frozen_after"),
        )  # fmt: skip

    @property
    def silent_after_s(self) -> float:
        """Seconds without an image after which it counts as lost.

        Infinite where its images come on events, a file or a message say, unless somebody set it.
        """
        is_on_event = self.trigger or self.source.startswith(_ON_EVENTS)
        return self.no_signal_after_s or (math.inf if is_on_event else 4.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A topic pattern (MQTT wildcards) and what its messages are.

    Attributes:
        topic: MQTT pattern; ``+`` for one level, ``#`` as the whole last level; used once.
        kind: ``frame``, ``sensor``, ``stock``, ``order``, ``station``, ``alert`` or ``message``.
        camera: id of a camera; needed with ``frame``.
        collection: the document collection of the [reference](glossary.md) in which the message
            also appears.
        max_bytes: above 0; left out 1000000, with ``frame`` what the camera needs; larger payloads
            become dead letters. Left out with ``frame``, it follows ``max_frame_bytes`` of the
            camera: four thirds of it, as base64 needs, and 4096 bytes for the rest.
        time: ``"ts"`` or ``"arrival"``; ``arrival``: a message that names no time is dated when it
            comes; otherwise it becomes a dead letter.
        say: table; devices say answers of an inspection there; with ``kind = "message"`` and a
            topic without wildcards.
    """

    topic: str
    kind: RouteKind
    camera: str = ""
    collection: str = ""
    max_bytes: int | None = None
    time: Literal["ts", "arrival"] = "ts"
    say: Say | None = None

    def __post_init__(self) -> None:
        levels = self.topic.split("/")
        wild = [level for level in levels[:-1] if "#" in level]
        mixed = [level for level in levels if len(level) > 1 and ("+" in level or "#" in level)]
        refuse(
            self,
            unless(
                self.topic and not wild and not mixed, key="topic", value=self.topic,
                expected="a topic pattern",
                fix='Write levels as in "f/i/state/+"; "#" only as the whole last level.',
            ),
            unless(
                self.say is None or not {"+", "#"} & set(self.topic), key="topic", value=self.topic,
                expected="a topic without wildcards, where devices say something",
                fix="Name the one topic.",
            ),
            unless(
                self.say is None or self.kind is RouteKind.MESSAGE, key="kind",
                value=str(self.kind), expected="message, where devices say something",
                fix='Write kind = "message".',
            ),
            above_zero(self, "max_bytes"),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """A station of the twin; ``code`` is the last level of its ``f/i/state/<code>`` topic.

    Attributes:
        id: name; names the station.
        name: what people call it.
        code: id; last level of its topic ``f/i/state/<code>``.
        shape: how it is drawn: ``rack``, ``gripper``, ``oven``, ``sorter``, ``output``, ``input``.
    """

    id: str
    name: str
    code: str
    shape: Literal["rack", "gripper", "oven", "sorter", "output", "input"] = "oven"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A storage place: which region sees it, and which colour a bare presence label means.

    Attributes:
        id: name; as in the plant's stock message.
        region: id of a region; which region shows it.
        colour: one of ``colours``; what presence means there; needed with a region that has a
            ``label``, left out with one that has ``classes``.
        empty_class: which class is the free place; the other classes are colours.
    """

    id: str
    region: str
    colour: str = ""
    empty_class: str = "empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPolicy:
    """Delivery of orders to the factory, and the end of their reservations.

    Attributes:
        topic: topic without wildcards; where an accepted order is published.
        time_out_s: seconds above 0; without progress for so long, the reservation ends.
    """

    topic: str = "f/o/order"
    time_out_s: Seconds = 300.0

    def __post_init__(self) -> None:
        refuse(
            self,
            unless(
                self.topic and not {"+", "#"} & set(self.topic), key="topic", value=self.topic,
                expected="a topic to publish on", fix='Write topic = "f/o/order", say.',
            ),
            above_zero(self, "time_out_s"),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """The scene: stock seen by one inspection, stations, what may be ordered.

    Attributes:
        inspection: id of an inspection; whose answers are the stock.
        colours: list; what may be ordered, in the order shown.
        slot: tables; storage places.
        station: tables; stations, in the order of the work.
        order: table; how orders reach the plant.
        stale_after_s: seconds above 0; values older than this are shown as such, and an order for
            them is refused.
        discrepancy_after_s: seconds, 0 or more; image and plant may differ so long before an event
            is raised.
    """

    inspection: str
    colours: tuple[str, ...] = ("blue", "red", "white")
    slot: tuple[Slot, ...] = ()
    station: tuple[Station, ...] = ()
    order: OrderPolicy = field(default_factory=OrderPolicy)
    stale_after_s: Seconds = 10.0
    discrepancy_after_s: Seconds = 3.0

    def __post_init__(self) -> None:
        refuse(self, above_zero(self, "stale_after_s"), zero_or_more(self, "discrepancy_after_s"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """When what nothing pins goes; 0 switches a limit off.

    Attributes:
        max_age_days: 0 or more; images that nothing pins go after so many days; 0: never by age.
        max_bytes: 0 or more; the most that the hub's ``data_dir`` may take, images, thumbnails,
            records and packages together. While it takes more, the oldest images that nothing pins
            go; where all else takes more than half of it, the oldest history goes too: entries of
            the log behind an [anchor](../adr/0003-event-log.md) (every chain still verifies from
            its checkpoint on) and frames whose image went. What a follower has not handled, pinned
            frames, dataset versions and packages stay; where these alone are too large, the log
            says so. A new image stays for half a minute in any case; millions of images are
            measured every few minutes. ``/metrics`` has ``lineside_data_bytes``. 0: no limit.
    """

    max_age_days: float = 0.0
    max_bytes: int = 0

    def __post_init__(self) -> None:
        refuse(self, zero_or_more(self, "max_age_days", "max_bytes"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """A whole plant file.

    Attributes:
        schema: ``"lineside.plant/1"``.
        site: id; the site; second level of lineside's own topics.
        name: what people call it.
        line: tables; production lines.
        camera: tables; where frames come from.
        inspection: tables; what is judged on them.
        route: tables; what the plant's messages are.
        twin: table; the scene.
        rule: tables; what follows from what was seen and said.
        time_zone: IANA name such as ``"Europe/Berlin"``; of shifts and days; empty: that of the
            [hub's settings](configuration.md).
        shift: tables; [shifts](#shift), by which figures are counted.
        webhook: tables; [webhooks](#webhook): URLs that events are posted to.
        output: tables; [outputs](#output): what devices switch on verdicts.
        retention: table; [what may age out](#retention).
    """

    schema: Literal["lineside.plant/1"]
    site: str
    name: str = ""
    line: tuple[Line, ...] = ()
    camera: tuple[Camera, ...] = ()
    inspection: tuple[Inspection, ...] = ()
    route: tuple[Route, ...] = ()
    twin: Twin | None = None
    rule: tuple[Rule, ...] = ()
    time_zone: str = ""
    shift: tuple[Shift, ...] = ()
    webhook: tuple[WebhookConfig, ...] = ()
    output: tuple[OutputConfig, ...] = ()
    retention: Retention | None = None

    def __post_init__(self) -> None:
        refuse(self, known_zone(self.time_zone, key="time_zone"))

    def find_camera(self, camera_id: str) -> Camera:
        """The camera of that id; ``InvalidError`` lists the known ones."""
        return _find(self.camera, camera_id, noun="camera")

    def limit_bytes(self, route: Route) -> int:
        """The largest payload a route takes: what it says, or enough for its camera's pictures."""
        if route.max_bytes is not None:
            return route.max_bytes
        sizes = [camera.max_frame_bytes for camera in self.camera if camera.id == route.camera]
        return message_bytes(sizes[0]) if sizes and route.kind is RouteKind.FRAME else _MOST_BYTES

    def find_inspection(self, inspection_id: str) -> Inspection:
        """The inspection of that id; ``InvalidError`` lists the known ones."""
        return _find(self.inspection, inspection_id, noun="inspection")


def message_bytes(frame_bytes: int) -> int:
    """Return the longest message for an image of so many bytes: base64, and the rest of it."""
    return 4 * math.ceil(frame_bytes / 3) + _ENVELOPE_BYTES


def _find(items: tuple[_Named, ...], wanted: str, *, noun: str) -> _Named:
    for item in items:
        if item.id == wanted:
            return item
    fix = nearest(wanted, [item.id for item in items])
    raise InvalidError(f"no {noun} {wanted!r}", where="plant file", fix=fix)
