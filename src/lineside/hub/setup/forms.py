"""Forms of the plant file's entries: fields, kinds and units from the records' own types.

A key that a record gets later has a field at once; ``_HELP`` only says more about the important
ones. Values are those of the file, so that an empty field means the default. The hub's settings
have the same fields, to be read: they stand in a file of their own, which is decoded at a start.
"""

import dataclasses
import types
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from lineside.core import Plant, Rule, decode_toml, to_plain
from lineside.core.drivers import SecretUrl
from lineside.hub.config import HubConfig

FieldKind = Literal["text", "number", "choice", "yes", "words", "pairs", "rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """One field of a form.

    Attributes:
        key: in the plant file; dots lead into a table below.
        kind: ``yes``: true or false; ``words``: a list, by commas; ``pairs``: names with what they
            stand for; ``rows``: a list of tables.
        unit: of a number; "" for none.
        value: as the file has it, in words; "" for the default.
        default: which holds where nothing is written; "" for none.
        rows: of the kind ``rows`` the fields of each table, and of an empty one behind them.
    """

    key: str
    label: str
    kind: FieldKind
    help: str = ""
    unit: str = ""
    choices: tuple[str, ...] = ()
    required: bool = False
    value: str = ""
    default: str = ""
    rows: tuple[tuple["FormField", ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryForm:
    """One entry of a section, or a new one where ``id`` is ""; ``nth`` of that id, from 1.

    ``beyond``: keys of the entry that no field shows, to be edited as text.
    """

    id: str
    title: str
    detail: str
    fields: tuple[FormField, ...]
    nth: int = 1
    beyond: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """The entry's name within the page."""
        return f"{self.id}-{self.nth}" if self.nth > 1 else self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantSection:
    """A list of the plant file as a page shows it; ``key`` names its entries, "" of one table."""

    name: str
    title: str
    noun: str
    about: str
    key: str = "id"


SECTIONS = (
    PlantSection(
        name="camera", title="Cameras", noun="camera",
        about="Where pictures come from: a network or USB camera, a folder, MQTT, or HTTP push.",
    ),
    PlantSection(
        name="inspection", title="Inspections", noun="inspection",
        about="What is looked for in the pictures of a camera, and what rejects a part.",
    ),
    PlantSection(
        name="line", title="Lines", noun="line",
        about="Cameras that look at the same parts belong to one line.",
    ),
    PlantSection(
        name="rule", title="Rules", noun="rule",
        about="What is made of a sequence of answers: counts, durations, crossings, pairs.",
    ),
    PlantSection(
        name="route", title="Routes", noun="route", key="topic",
        about="Which MQTT topics the hub reads, and what their messages are.",
    ),
    PlantSection(
        name="shift", title="Shifts", noun="shift", key="name",
        about="When people work; figures are added up by shift.",
    ),
    PlantSection(
        name="webhook", title="Webhooks", noun="webhook", key="name",
        about="Addresses that events are posted to. Those of the hub's settings run beside them;"
        " one of the same name here stands for that one.",
    ),
    PlantSection(
        name="output", title="Outputs", noun="output",
        about="What a device switches on the verdicts of a line: a coil of a PLC, a node of its OPC"
        " UA server, a GPIO line, a topic.",
    ),
    PlantSection(
        name="retention", title="Retention", noun="retention", key="",
        about="When pictures that nothing pins are deleted. It holds in place of the retention of"
        " the hub's settings; 0: no limit.",
    ),
    PlantSection(
        name="twin", title="Twin", noun="twin", key="",
        about="The scene: places that an inspection sees, stations, and what may be ordered.",
    ),
)  # fmt: skip

_UNITS = {"_s": "s", "_px": "px", "_deg": "°", "_bytes": "bytes", "_us": "µs", "_days": "days"}
_LABELS = {
    "id": "Id", "camera.source": "Source", "no_signal_after_s": "No signal after",
    "camera.crop_px.x0_px": "Crop left", "camera.crop_px.y0_px": "Crop top",
    "camera.crop_px.x1_px": "Crop right", "camera.crop_px.y1_px": "Crop bottom",
    "webhook.url": "URL", "webhook.ca": "Authorities", "output.url": "URL",
}  # fmt: skip
_HELP = {
    "camera.source": "rtsp://user:password@host/path, http://user:password@host/path (snapshot or"
    " MJPEG stream), aravis://id (GigE or USB3 Vision), v4l:0 (USB), folder:path, video:file,"
    " mqtt:topic,"
    " or http-push://host:port/path, where the camera posts to."
    " … stands for a password that stays.",
    "camera.line": "Id of the line that it belongs to.",
    "camera.max_frame_bytes": "A larger picture is refused.",
    "camera.no_signal_after_s": "Without a picture for so long the camera counts as lost. Empty:"
    " 4 s, or no limit where pictures come on events (folder, http-push, mqtt, trigger).",
    "camera.dark_below": "Mean grey (0 to 255) below which its pictures are dark; 0: never.",
    "camera.blurred_below": "Sharpness, as small pictures, below which they are blurred; 0: never.",
    "camera.every_s": "How often a snapshot (http) is asked for, empty: each second; of aravis, the"
    " time from one picture to the next.",
    "camera.trigger": "software: a picture (http snapshot, aravis) is taken at each message on the"
    " trigger's topic of one of its inspections; of aravis also a line, such as Line1; empty: the"
    " camera gives pictures by itself.",
    "camera.exposure_us": "Of aravis, in microseconds; empty: as the camera is set.",
    "camera.gain": "Of aravis, in the camera's unit, mostly dB; empty: as the camera is set.",
    "camera.part_id": "Of aravis: the chunk whose value is the part id, such as ChunkCounterValue;"
    " empty: none.",
    "camera.rotate_deg": "Clockwise by 0, 90, 180 or 270; before the crop. Not of mqtt. The test"
    " picture is as the camera sends it.",
    "camera.crop_px.x0_px": "In whole pixels of the rotated picture; empty: nothing is cut off.",
    "camera.frozen_after": "So many equal pictures in a row are frozen; 0: never.",
    "line.limit_review": "Share of parts for review above which there is an alert.",
    "line.wait_s": "How long the verdict on a part waits for further answers.",
    "line.again_s": "A part id that comes again after so long is another part.",
    "line.max_age_s": "An older verdict is stale over OPC UA; empty: the limit of its inspections.",
    "inspection.task": "classify: one label; multilabel: each present or absent; detect: boxes;"
    " count: how many; segment: which pixels; anomaly: unlike good parts.",
    "inspection.labels": "Comma-separated.",
    "inspection.good": "Labels that mean a good part.",
    "inspection.reject": "Labels that reject a part; empty: every one that is not good.",
    "inspection.audit": "Share of the pictures that pass which people judge too, 0.01 say.",
    "inspection.audit_rejects": "The same of those that are rejected; empty: as audit.",
    "inspection.reviewers": "People who answer each picture in review, 1 or 2.",
    "inspection.expected": "Of the task multilabel: labels of a good part, such as A1/blue; every"
    " other one rejects it. []: a good part has none. Empty: only those of reject do.",
    "inspection.expected_count": "Another count rejects the part.",
    "inspection.policy.error_rate": "Wished share of wrong answers, 0 to 1.",
    ".time_zone": "Of shifts and days, such as Europe/Berlin; empty: that of the hub.",
    "shift.begin": "Local time in steps of five minutes, such as 06:00.",
    "shift.end": "One that is not later than the begin is on the following day.",
    "shift.days": "On which it begins: mon, tue, …; empty: every day.",
    "route.topic": "With MQTT wildcards, such as f/i/state/+.",
    "route.collection": "Document collection that its messages also appear in.",
    "route.say.inspection": "Devices say its answers on this topic; empty: nothing is said.",
    "route.say.fields": "Name in the message = what it says, comma-separated, such as"
    " image = label, probability = percent.",
    "route.say.form": "compatible: these fields alone; extended: all others behind them.",
    "route.say.unknown": "Said as label where the answer is unsure.",
    "rule.key": "Fields by whose values records are told apart, comma-separated, such as camera.",
    "rule.read.predictions": "Inspections whose answers are read, comma-separated.",
    "rule.read.event": "Rules whose events are read instead.",
    "rule.read.plant": "Kind of a route whose messages are read instead.",
    "rule.read.topic": "MQTT topic whose messages are read instead.",
    "rule.lateness_s": "How far a record may lie behind the newest of its source.",
    "webhook.name": "How far it came is kept under it, also where it is removed and added again.",
    "webhook.url": "https://host/path, without a name or password in it.",
    "webhook.secret_file": "File in secrets/<origin of the URL> of the hub's data_dir; it"
    " signs each post.",
    "webhook.types": "Types of events, comma-separated: lineside.verdict.v1, lineside.alert.v1;"
    " * stands for anything.",
    "webhook.rules": "Ids of rules, and of lines for their verdicts, comma-separated; empty: all.",
    "webhook.headers": "Further headers, name = value, comma-separated.",
    "webhook.header_files": "Headers that are secret, name = file in secrets/<origin of the URL>.",
    "webhook.ca": "File of authorities in secrets/<origin of the URL>; empty: the machine's.",
    "webhook.timeout_s": "For the connection, and for the answer.",
    "webhook.dead_after_s": "An event that was not taken for so long is given up.",
    "webhook.key": "Events of one key keep their order: id, source, subject, type or data.<field>.",
    "webhook.parallel": "So many keys are posted at a time, 1 to 32.",
    "output.url": "modbus://host:502?unit=1, gpio:///dev/gpiochip0, mqtt: (the plant's bus),"
    " mqtt://user:password@host:1883, or opc.tcp://host:4840.",
    "output.switch": "coil/12 or register/12, counted from 0; of GPIO the offset of the line;"
    " of MQTT a topic; of OPC UA the id of a node.",
    "output.fail_safe": "Value while the line cannot be relied on, and when the device stops.",
    "output.on": "Verdicts that switch it: ok, reject, review, incomplete.",
    "output.pulse_s": "How long the value stands; 0: until the next verdict.",
    "output.delay_s": "From image to switching; 0: at once. A later verdict does not switch.",
    "output.max_age_s": "Without a delay, how old the image may be.",
    "output.camera": "Whose images the delay counts from, where the line has several.",
    "output.device": "Which device drives it; empty: that which inspects the line.",
    "output.heartbeat": "A point that changes while the device is alive; empty: none.",
    "output.message.on": "Of MQTT: payload of the value 1.",
    "output.message.off": "Of MQTT: payload of the value 0.",
    "output.message.qos": "Of MQTT: 0, 1 or 2.",
    "output.message.retain": "Of MQTT: the broker keeps the last value for those that come later.",
    "retention.max_age_days": "Pictures that nothing pins go after so long.",
    "retention.max_bytes": "The most that the hub's data folder may take; the oldest go first.",
    "twin.inspection": "Sees what lies in the places.",
    "twin.slot": "Places. Empty a row to remove it.",
    "twin.station": "A code is the last level of the station's topic. Empty a row to remove it.",
    "twin.stale_after_s": "Without an answer for so long the stock is not known.",
    "twin.discrepancy_after_s": "So long picture and stock report may differ.",
    "twin.order.topic": "Orders are published there.",
    "twin.order.time_out_s": "A reservation ends after so long.",
}
_NAMED = {
    "camera.line": "line", "inspection.camera": "camera", "route.camera": "camera",
    "output.line": "line", "output.camera": "camera",
    "route.say.inspection": "inspection", "twin.inspection": "inspection",
}  # fmt: skip


def section_of(name: str) -> PlantSection | None:
    """Return the section of that name, where plant files have it."""
    declared = {one.name for one in dataclasses.fields(Plant)}
    return next((one for one in SECTIONS if one.name == name and name in declared), None)


def sections() -> tuple[PlantSection, ...]:
    """Return every section that plant files have."""
    return tuple(one for one in SECTIONS if section_of(one.name) is not None)


def entry_forms(text: str, section: PlantSection) -> tuple[EntryForm, ...]:
    """Return the entries of a section with their fields, in the file's order."""
    document = decode_toml(text.encode(), where="plant file")
    found, seen = document.get(section.name, ()), Counter[str]()
    made = []
    for one in [found] if isinstance(found, dict) else found:
        form = _form(one, section, document=document)
        seen[form.id] += 1
        made.append(dataclasses.replace(form, nth=seen[form.id]))
    return tuple(made)


def new_form(text: str, section: PlantSection, *, kind: str = "") -> EntryForm:
    """Return the empty form of a section; ``kind``: a step of ``rule_kinds``, for a rule."""
    document = decode_toml(text.encode(), where="plant file")
    entry: dict[str, Any] = {kind: {}} if kind in rule_kinds() else {}
    return _form(entry, section, document=document)


def rule_kinds() -> tuple[str, ...]:
    """Steps that a rule may have, of which it has one; each has fields of its own."""
    return tuple(name for name, hint in get_type_hints(Rule).items() if _is_optional_table(hint))


def _is_optional_table(hint: Any) -> bool:  # noqa: ANN401  a type
    return type(None) in get_args(hint) and dataclasses.is_dataclass(_plain(hint))


def site_fields(text: str) -> tuple[FormField, ...]:
    """Return the fields of the plant file itself, such as its name."""
    document = decode_toml(text.encode(), where="plant file")
    found = _fields(Plant, document, path="", document=document)
    return tuple(
        one for one in found if one.key not in _FIXED and "." not in one.key and not one.rows
    )


def setting_fields(config: HubConfig) -> Mapping[str, tuple[FormField, ...]]:
    """Return the hub's settings by what they are about, without the passwords of addresses."""
    groups: dict[str, list[FormField]] = {
        "Retention": [], "Addresses and ports": [], "Limits": [], "Everything else": [],
        "Webhooks": [], "Other lists": [],
    }  # fmt: skip
    for one in _fields(HubConfig, to_plain(config), path="hub", document={}):
        if one.key in _ADDRESSES:
            about = "Addresses and ports"
        elif one.rows:
            about = "Webhooks" if one.key == "webhook" else "Other lists"
        elif one.key.startswith("retention."):
            about = "Retention"
        else:
            about = "Limits" if one.kind == "number" else "Everything else"
        rows = tuple(tuple(map(_without_secret, row)) for row in one.rows[:-1])
        groups[about].append(dataclasses.replace(_without_secret(one), rows=rows))
    return {about: tuple(found) for about, found in groups.items()}


def _without_secret(field: FormField) -> FormField:
    key, value = field.key.rpartition(".")[2], str(SecretUrl(field.value))
    return dataclasses.replace(field, value="…" if key == "headers" and value else value)


_ADDRESSES = frozenset(
    {
        "allowed_hosts", "bus", "bus_broker", "bus_host", "bus_port", "bus_tls", "device_bus",
        "host", "inference_grpc", "iot_jobs_tls", "opcua", "port", "public_url", "tls",
    }
)  # fmt: skip


def _form(
    entry: Mapping[str, Any], section: PlantSection, *, document: Mapping[str, Any]
) -> EntryForm:
    hint = get_args(get_type_hints(Plant)[section.name])[0]
    found = tuple(_fields(hint, entry, path=section.name, document=document))
    told = [one.value for one in found if one.key in _DETAILS and one.value]
    name = str(entry.get(section.key) or (section.name if entry and not section.key else ""))
    shown = tuple(one.key for one in found)
    return EntryForm(
        id=name,
        title=str(entry.get("name") or (name if section.key else section.title)),
        detail=", ".join(told),
        fields=found,
        beyond=tuple(
            key for key in _keys(entry) if not any(f"{key}.".startswith(f"{one}.") for one in shown)
        ),
    )


def _keys(entry: Mapping[str, Any], *, path: str = "") -> Iterator[str]:
    """The keys of an entry that have a value, those of its tables behind dots."""
    for name, value in entry.items():
        if isinstance(value, Mapping):
            yield from _keys(value, path=f"{path}{name}.")
        else:
            yield f"{path}{name}"


_FIXED = frozenset({"schema", "site"})
_DETAILS = frozenset({"line", "source", "camera", "task", "kind", "begin", "end", "days", "url"})


def _fields(
    record: type, entry: Mapping[str, Any], *, path: str, document: Mapping[str, Any],
    table: str = "",
) -> Iterator[FormField]:  # fmt: skip
    """The fields of a record; ``table``: names of the tables that lead to it, in their labels."""
    hints = get_type_hints(record, include_extras=True)
    for field in dataclasses.fields(record):
        inner = _plain(hints[field.name])
        where, value = f"{path}.{field.name}", entry.get(field.name)
        if dataclasses.is_dataclass(inner) and isinstance(inner, type):
            if record is Rule and value is None and _is_optional_table(hints[field.name]):
                continue  # a rule has one step: the fields of the others would mislead
            below = value if isinstance(value, dict) else {}
            words = f"{table}{field.name} "
            yield from _fields(inner, below, path=where, document=document, table=words)
            continue
        kind = _kind(inner)
        if kind is not None:
            label = _LABELS.get(where) or _LABELS.get(field.name) or _words(table + field.name)
            yield _field(
                field, inner, kind=kind, where=where, label=label, value=value, document=document
            )


def _field(
    field: "dataclasses.Field[Any]", hint: Any, *, kind: FieldKind, where: str,  # noqa: ANN401  a type
    label: str, value: object, document: Mapping[str, Any],
) -> FormField:  # fmt: skip
    key = where.partition(".")[2]
    choices = _choices(hint)
    named = _NAMED.get(where)
    if named is not None:
        kind = "choice"
        choices = tuple(str(one.get("id", "")) for one in document.get(named, ()))
    unit = next((_UNITS[end] for end in _UNITS if field.name.endswith(end)), "")
    default = "" if field.default is MISSING else _written(field.default)
    is_none_of_any = value == [] and field.default is None  # another thing than the default
    rows = [*value, {}] if isinstance(value, list | tuple) else [{}]
    return FormField(
        key=key, label=label, kind=kind, help=_HELP.get(where, ""), unit=unit,
        choices=choices, required="." not in key and field.default is MISSING
        and field.default_factory is MISSING, default=default,
        value="" if kind == "rows" else "[]" if is_none_of_any else _written(value),
        rows=tuple(
            tuple(_fields(get_args(hint)[0], one, path=where, document=document)) for one in rows
        ) if kind == "rows" else (),
    )  # fmt: skip


def _plain(hint: Any) -> Any:  # noqa: ANN401  a type
    """The type without its annotations and without None."""
    if get_origin(hint) is Annotated:
        return _plain(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        parts = [one for one in get_args(hint) if one is not type(None)]
        several = [one for one in parts if get_origin(one) is tuple]  # one name, or several
        if len(parts) == 2 and str in parts and several:
            return several[0]
        return _plain(parts[0]) if len(parts) == 1 else object
    return hint


def _kind(hint: Any) -> FieldKind | None:  # noqa: ANN401  a type
    """Return the kind of field of a type; None for a type with a page of its own."""
    if _choices(hint):
        return "choice"
    if get_origin(hint) is tuple:
        item, *more = get_args(hint)
        is_text = bool(_choices(item)) or (isinstance(item, type) and issubclass(item, str))
        return "words" if is_text and more == [...] else "rows" if _is_row(item) else None
    if get_origin(hint) in (dict, Mapping):
        return "pairs" if get_args(hint)[1] is str else None
    known: dict[Any, FieldKind] = {
        bool: "yes", int: "number", float: "number", str: "text", SecretUrl: "text",
    }  # fmt: skip
    return known.get(hint)


def _is_row(item: Any) -> bool:  # noqa: ANN401  a type
    """True if each field of a record is one of a form."""
    if not dataclasses.is_dataclass(item):
        return False
    kinds = (_kind(_plain(one)) for one in get_type_hints(item, include_extras=True).values())
    return all(one not in {None, "rows"} for one in kinds)


def _choices(hint: Any) -> tuple[str, ...]:  # noqa: ANN401  a type
    if get_origin(hint) is Literal:
        return tuple(str(one) for one in get_args(hint))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return tuple(str(one) for one in hint)
    return ()


def _words(name: str) -> str:
    """``max_age_s`` as Max age."""
    bare = next((name.removesuffix(end) for end in _UNITS if name.endswith(end)), name)
    return bare.replace("_", " ").capitalize()


def _written(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(str(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} = {one}" for name, one in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
