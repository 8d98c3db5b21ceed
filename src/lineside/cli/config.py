"""``lineside config show`` and ``schema``: settings with their origins, messages of the bus.

The schemas and the AsyncAPI document are generated from the records that hub and device send.
"""

import os
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from lineside.cli.output import JsonFlag, show, table
from lineside.core import InvalidError, NotFoundError, Plant, load_plant, to_plain
from lineside.core.codec import json_schema, json_schemas, without_links
from lineside.core.config import Loaded, load_config

if TYPE_CHECKING:
    from lineside.edge import EdgeConfig
    from lineside.hub import HubConfig


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Settings and their origins.", no_args_is_help=True)
    group.command("show")(show_config)
    app.add_typer(group, name="config")
    app.command("schema")(schema)


def show_config(
    program: Annotated[Literal["hub", "edge"], typer.Argument(help="Whose settings.")],
    config: Annotated[Path | None, typer.Option(help="The program's TOML file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show each setting, its value, and whether file, environment or default gave it."""
    loaded = load_hub(config) if program == "hub" else load_edge(config)
    show(
        {"settings": setting_rows(loaded)},
        as_json=as_json,
        text=lambda found: table(
            [(row["key"], row["value"], row["origin"]) for row in found["settings"]]
        ),
    )


def setting_rows(loaded: "Loaded[HubConfig] | Loaded[EdgeConfig]") -> list[dict[str, str]]:
    """Each setting with its value, without secrets, and its origin."""
    return [
        {"key": key, "value": value, "origin": loaded.origins.get(key, "default")}
        for key, value in _flat(to_plain(loaded.config))
    ]


def load_hub(path: Path | None, **flags: object) -> "Loaded[HubConfig]":
    """The hub's settings from file, environment and flags."""
    from lineside.hub import HubConfig

    return load_config(HubConfig, program="hub", path=path, environ=os.environ, flags=flags)  # noqa: TID251  handed in here


def load_edge(path: Path | None, **flags: object) -> "Loaded[EdgeConfig]":
    """The edge agent's settings from file, environment and flags."""
    from lineside.edge import EdgeConfig

    return load_config(EdgeConfig, program="edge", path=path, environ=os.environ, flags=flags)  # noqa: TID251  handed in here


def _flat(document: dict[str, object], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in document.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", str(value)))
    return rows


# ---- messages of the bus

_REQUESTS = "lineside.fleet.jobs.requests:"
_WIRE = "lineside.fleet.jobs.wire:"
JOB_MESSAGES = {
    "job-list-request": f"{_REQUESTS}ListRequest",
    "job-list-answer": f"{_WIRE}ListAnswer",
    "job-start-request": f"{_REQUESTS}StartRequest",
    "job-describe-request": f"{_REQUESTS}DescribeRequest",
    "job-execution-answer": f"{_WIRE}ExecutionAnswer",
    "job-update-request": f"{_REQUESTS}UpdateRequest",
    "job-update-answer": f"{_WIRE}UpdateAnswer",
    "job-rejection": f"{_WIRE}Rejection",
    "job-notice": f"{_WIRE}JobNotice",
    "job-next-notice": f"{_WIRE}NextJobNotice",
    "job-event": f"{_WIRE}JobEvent",
    "job-execution-event": f"{_WIRE}ExecutionEvent",
}
"""Messages of the job service."""

HUB_EVENT_DATA = (
    "lineside.hub.devices.registry:CameraData",
    "lineside.twin.orders:DiscrepancyData",
    "lineside.hub.learning.drift:DriftData",
    "lineside.twin.predictions:PictureData",
)
"""Rule events that the hub sends without a rule of the plant file."""

MESSAGES = {
    "ack": "lineside.fleet.contract:Ack",
    "alerts": "lineside.hub.alerts.service:OpenAlerts",
    "desired": "lineside.fleet.contract:Desired",
    "device": "lineside.fleet.contract:DeviceStatus",
    "event": "lineside.streams.rules.contract:RuleData",
    "evidence": "lineside.fleet.contract:TrialReport",
    "frame": "lineside.links.camera_mqtt:FrameMessage",
    "log": "lineside.edge.delivery.publisher:LogMessage",
    "plant-text": "lineside.core.plant_check:PlantText",
    "prediction": "lineside.vision:Prediction",
    "verdict": "lineside.streams.verdicts:VerdictData",
    **JOB_MESSAGES,
}
"""Messages of the bus and their records; of an event its ``data``."""

_FACTORY = "lineside.core.factory:"
_PLANT_MESSAGES = {
    "frame": (f"{_FACTORY}CameraMessage",),
    "sensor": (f"{_FACTORY}ClimateMessage", f"{_FACTORY}BrightnessMessage"),
    "stock": (f"{_FACTORY}StockMessage",),
    "order": (f"{_FACTORY}OrderMessage",),
    "station": (f"{_FACTORY}StationMessage",),
    "alert": (f"{_FACTORY}AlertMessage",),
    "command": (f"{_FACTORY}OrderCommand",),
    "message": (),
}
"""Messages of the plant by the kind of their route; one of no record is any JSON object."""

_EVENTS = {
    "prediction": "lineside.prediction.v1",
    "event": "lineside.event.v1",
    "verdict": "lineside.verdict.v1",
}
"""Messages that are CloudEvents, and their type."""

_CONTENT_TYPES = {"sparkplug": "application/octet-stream", "output": "text/plain"}
"""Of the messages that are no JSON."""

_JOB_REQUESTS = frozenset(name for name in JOB_MESSAGES if name.endswith("-request"))
_EXTENSIBLE = _JOB_REQUESTS | {"frame"}
"""Messages that may have further fields, such as what firmware adds: readers ignore them."""

_IMAGES = frozenset({"frame", "plant-frame"})
"""Messages in whose place the bytes of a JPEG or PNG may stand."""


class _Channel(NamedTuple):
    """A topic.

    Attributes:
        hub: what the hub does there, "" for nothing.
        who: sends to whom.
        says: what is sent, in a sentence; its links are those of docs/reference/messages.md.
    """

    address: str
    message: str
    hub: Literal["send", "receive", "both", ""]
    title: str
    who: str = ""
    says: str = ""
    qos: int = 1
    retain: bool = False


_DEVICE = "lineside/{site}/device/{device}"
_JOBS = "$aws/things/{device}/jobs"
_JOB = {
    "receive": (
        "device → hub",
        "Request of a device to the [job service](jobs.md), to get, start or update jobs.",
    ),
    "send": (
        "hub → device",
        "Answer of the [job service](jobs.md) to a request, or news of the device's jobs.",
    ),
}
CHANNELS = {
    "frame": _Channel(
        "lineside/{site}/{line}/{camera}/frame", "frame", "receive", "Images",
        who="device → hub",
        says="An [image](#image) as the factory's ``i/cam``. Raw JPEG or PNG bytes are taken too; "
        "capture time is then arrival time, and the event says so.",
    ),
    "prediction": _Channel(
        "lineside/{site}/{line}/{camera}/prediction", "prediction", "receive", "Predictions",
        who="device → hub",
        says="CloudEvents 1.0, type ``lineside.prediction.v1``: [prediction "
        "event](#prediction-event).",
    ),
    "event": _Channel(
        "lineside/{site}/{line}/event/{rule}", "event", "send", "Rule events", who="hub → all",
        says="CloudEvents 1.0, type ``lineside.event.v1``: what [rules "
        "say](rules.md#what-a-rule-says).",
    ),
    "verdict": _Channel(
        "lineside/{site}/{line}/verdict", "verdict", "both", "Verdicts on parts",
        who="hub → all, or device → all and hub",
        says="CloudEvents 1.0, type ``lineside.verdict.v1``, one for each part: [verdict "
        "event](#verdict-event).",
    ),
    "alerts": _Channel(
        "lineside/{site}/alerts", "alerts", "send", "Open alerts", retain=True, who="hub → all",
        says="[``lineside.alerts/1``](#linesidealerts1): every alert that is open.",
    ),
    "status": _Channel(
        f"{_DEVICE}/status", "device", "receive", "Device status", retain=True,
        who="device → hub",
        says="Status of a device, [``lineside.device/1``](#linesidedevice1); also its last will.",
    ),
    "evidence": _Channel(
        f"{_DEVICE}/evidence", "evidence", "receive", "Figures of a trial", who="device → hub",
        says="[``lineside.evidence/1``](#linesideevidence1): figures of a "
        "[trial](rollouts.md#evidence), all of them each time.",
    ),
    "plant": _Channel(
        "lineside/{site}/plant", "plant-text", "send", "Plant file", retain=True,
        who="hub → every device",
        says="Version of the plant file in force, "
        "[``lineside.plant-text/1``](#linesideplant-text1), from its first change on.",
    ),
    "desired": _Channel(
        f"{_DEVICE}/desired", "desired", "send", "Desired state", retain=True,
        who="hub → device",
        says="Packages that the device should run, [``lineside.desired/1``](#linesidedesired1).",
    ),
    "ack": _Channel(
        f"{_DEVICE}/ack", "ack", "send", "Acknowledged events", who="hub → device",
        says="Number up to which the device's events are stored, "
        "[``lineside.ack/1``](#linesideack1).",
    ),
    **{
        f"jobs-{name}": _Channel(f"{_JOBS}/{name}", message, "send", "Changed jobs", *_JOB["send"])
        for name, message in (("notify", "job-notice"), ("notify-next", "job-next-notice"))
    },
    **{
        f"jobs-{path.replace('/', '-').replace('{job}', 'job')}": _Channel(
            f"{_JOBS}/{path}", message, "receive" if path == request else "send", "Job service",
            *_JOB["receive" if path == request else "send"],
        )
        for request, asks, answer in (
            ("get", "job-list-request", "job-list-answer"),
            ("start-next", "job-start-request", "job-execution-answer"),
            ("{job}/get", "job-describe-request", "job-execution-answer"),
            ("{job}/update", "job-update-request", "job-update-answer"),
        )
        for path, message in (
            (request, asks),
            (f"{request}/accepted", answer),
            (f"{request}/rejected", "job-rejection"),
        )
    },
    **{
        f"{kind}-events": _Channel(
            f"$aws/events/{kind}/{{job}}/{{status}}", message, "send", title, who="hub → all",
            says="State that a job, or its execution on a device, came to "
            "([events of jobs](jobs.md#events)).",
        )
        for kind, message, title in (
            ("job", "job-event", "Events of jobs"),
            ("jobExecution", "job-execution-event", "Events of executions"),
        )
    },
    "home-assistant": _Channel(
        "homeassistant/device/{identity}/config", "discovery", "send", "Discovery", retain=True,
        who="hub → Home Assistant",
        says="[Discovery](../how-to/bus-tools.md#home-assistant) of the site's devices by Home "
        "Assistant, where the setting ``homeassistant`` names the first level.",
    ),
    "sparkplug-node": _Channel(
        "spBv1.0/{group}/{kind}/{site}", "sparkplug", "both", "Sparkplug B of the hub", qos=0,
        who="hub ↔ SCADA",
        says="Messages of the hub in [Sparkplug B](../how-to/bus-tools.md#sparkplug-b-ignition), "
        "where the setting ``sparkplug`` names the group. Its will and NCMD have QoS 1.",
    ),
    "sparkplug-device": _Channel(
        "spBv1.0/{group}/{kind}/{site}/{device}", "sparkplug", "send", "Sparkplug B of devices",
        qos=0,
        who="hub → SCADA",
        says="Messages of the Sparkplug devices ``device-<device>`` and ``line-<line>``, one for "
        "each device and line of the site.",
    ),
    "log": _Channel(
        "edge-manager-app/logs/{device}", "log", "", "Log of a device",
        who="device → whoever listens",
        says="Lines of the [device's log](edge-agent.md#the-log-on-the-bus), as a [log](#log).",
    ),
}  # fmt: skip
"""Every topic of lineside; those of the plant itself are in its file."""

PARAMETERS = {
    "site": "Site, of the plant file.",
    "line": "Line of the plant file.",
    "camera": "Camera of the plant file.",
    "rule": "Rule of the plant file, or a subject of the hub's own events.",
    "device": "Name of a device; of Sparkplug the name of a Sparkplug device.",
    "job": "Id of a job.",
    "status": "State of a job or of its execution.",
    "identity": "Id of a device in Home Assistant.",
    "kind": "Message type of Sparkplug: NBIRTH, DBIRTH, NDATA, DDATA, NDEATH, DDEATH, NCMD.",
    "group": "Group id of Sparkplug, of the hub's settings.",
}
"""Levels of topics that differ."""

_SPECIFICATIONS = {
    "discovery": "https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery",
    "sparkplug": "https://sparkplug.eclipse.org/specification/",
    **dict.fromkeys(
        JOB_MESSAGES, "https://docs.aws.amazon.com/iot/latest/developerguide/jobs-mqtt-api.html"
    ),
}
"""Messages of other people's contracts."""


def schema(
    name: Annotated[str, typer.Argument(help="Of a message; without it, all names.")] = "",
    asyncapi: Annotated[
        bool, typer.Option("--asyncapi", help="Print an AsyncAPI 3.0 document of the whole bus.")
    ] = False,
    plant: Annotated[
        Path | None, typer.Option(help="With --asyncapi: add this plant file's names and topics.")
    ] = None,
) -> None:
    """Print the JSON Schema of a message of the bus, or of an event's data."""
    if asyncapi and not name:
        show(bus_document(load_plant(plant) if plant else None), as_json=True, text=str)
    elif asyncapi or plant:
        raise InvalidError(
            "a NAME, --asyncapi and --plant do not go together", where="NAME",
            fix="Write lineside schema NAME, or lineside schema --asyncapi [--plant FILE].",
        )  # fmt: skip
    elif not name:
        show("\n".join(MESSAGES), as_json=False, text=str)
    elif name in MESSAGES:
        document = json_schema(*map(resolve_name, forms(name)))
        if name in _EXTENSIBLE:
            for one in document["$defs"].values():
                one.pop("additionalProperties", None)
        show(document, as_json=True, text=str)
    else:
        raise NotFoundError(
            f"no message {name!r}", where="NAME", fix=f"Known: {', '.join(MESSAGES)}."
        )


def forms(name: str) -> tuple[str, ...]:
    """Records that a message may be."""
    return (MESSAGES[name], *(HUB_EVENT_DATA if name == "event" else ()))


def bus_document(plant: "Plant | None") -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document of the bus, as the hub sends and receives on it.

    With a plant its names are the parameters' values, and its own topics are channels too.
    """
    channels = CHANNELS | (dict(_plant_channels(plant)) if plant else {})
    schemas, payloads = _payloads()
    messages = {one.message for one in channels.values()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": f"Bus of {plant.name or plant.site}" if plant else "Bus of a lineside site",
            "version": version("lineside"),
            "description": "MQTT 3.1.1 and 5. The application is the hub.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(one, plant) for name, one in channels.items()},
        "operations": {
            f"{action}-{name}": _operation(name, one, action)
            for name, one in channels.items()
            for action in (("send", "receive") if one.hub == "both" else (one.hub,))
            if action
        },
        "components": {
            "messages": {name: _message(name, payloads[name]) for name in sorted(messages)},
            "schemas": schemas,
        },
    }


def _channel(channel: _Channel, plant: "Plant | None") -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", channel.address)
    found: dict[str, Any] = {
        "address": channel.address,
        "title": channel.title,
        "messages": {channel.message: {"$ref": f"#/components/messages/{channel.message}"}},
    }
    found |= {"description": without_links(channel.says)} if channel.says else {}
    values = _values(plant) if plant else {}
    parameters = {
        name: {"description": PARAMETERS.get(name, "Any level of the topic.")}
        | ({"enum": values[name]} if values.get(name) else {})
        for name in names
    }
    return found | ({"parameters": parameters} if parameters else {})


def _values(plant: Plant) -> dict[str, list[str]]:
    return {
        "site": [plant.site],
        "line": [one.id for one in plant.line],
        "camera": [one.id for one in plant.camera],
    }


def _operation(name: str, channel: _Channel, action: str) -> dict[str, Any]:
    quality = {"qos": channel.qos, "bindingVersion": "0.2.0"}
    retain = {"retain": channel.retain} if action == "send" else {}
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{name}"},
        "bindings": {"mqtt": quality | retain},
    }


def _message(name: str, payload: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "payload": payload}
    if name in _EVENTS:
        found["contentType"] = "application/cloudevents+json"
    if name in _CONTENT_TYPES:
        found["contentType"] = _CONTENT_TYPES[name]
    if name in _SPECIFICATIONS:
        found["externalDocs"] = {"url": _SPECIFICATIONS[name]}
    if name in _IMAGES:
        found["description"] = "Or the bytes of a JPEG or PNG."
    return found


def _payloads() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Schemas by name, and the payload of each message, which refers to them."""
    plant = sorted({one for kinds in _PLANT_MESSAGES.values() for one in kinds})
    names = [*MESSAGES.values(), *HUB_EVENT_DATA, *plant]
    kinds = [resolve_name(name) for name in (*names, "lineside.streams:Event")]
    references, schemas = json_schemas(kinds, "#/components/schemas/{name}")
    of = dict(zip(names, references, strict=False))
    for name in (*plant, *(MESSAGES[one] for one in _EXTENSIBLE)):
        for one in _structs(of[name], schemas):
            schemas[one].pop("additionalProperties", None)
    event = schemas.pop("Event")
    for own in ("prediction", "data"):
        del event["properties"][own]
    event["required"] = ["specversion", *(one for one in event["required"] if one != "data")]
    event["properties"]["specversion"] = {"const": "1.0"}
    text = {"title": "CloudEvent", "description": "CloudEvents 1.0 in JSON."}
    schemas["CloudEvent"] = event | text | {"additionalProperties": True}
    payloads = {name: of[path] for name, path in MESSAGES.items()}
    payloads["event"] = {"anyOf": [of[path] for path in forms("event")]}
    for name, type_ in _EVENTS.items():
        payloads[name] = _enveloped(payloads[name], type_)
    payloads |= {"discovery": {"type": "object"}, "sparkplug": {}}
    payloads["output"] = {"type": "string"}
    for kind, paths in _PLANT_MESSAGES.items():
        found = [of[path] for path in paths]
        payloads[f"plant-{kind}"] = {"anyOf": found} if found else {"type": "object"}
    return schemas, payloads


def _structs(reference: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    """Names of a schema and of those that it refers to."""
    text, seen = str(reference), set[str]()
    while left := set(re.findall(r"#/components/schemas/(\w+)", text)) - seen:
        seen |= left
        text = "".join(str(schemas[one]) for one in left)
        yield from left


def _enveloped(data: dict[str, Any], type_: str) -> dict[str, Any]:
    own = {"type": {"const": type_}, "data": data}
    return {
        "allOf": [
            {"$ref": "#/components/schemas/CloudEvent"},
            {"type": "object", "required": ["data"], "properties": own},
        ]
    }


def _plant_channels(plant: Plant) -> Iterator[tuple[str, _Channel]]:
    """The plant's own topics: its routes, what devices say there, outputs, the factory's orders."""
    for number, route in enumerate(plant.route, start=1):
        name = f"route-{number}"
        if route.say is not None:
            yield name, _Channel(route.topic, "plant-message", "receive", "Answers", qos=0)
        else:
            kind, topic = f"plant-{route.kind}", _address(route.topic)
            yield name, _Channel(topic, kind, "receive", f"{route.kind} of the plant".capitalize())
    for output in plant.output:
        for name, topic in zip(("", "-heartbeat"), output.bus_topics, strict=False):
            yield (
                f"output-{output.id}{name}",
                _Channel(topic, "output", "", "Output of a device that looks at the line"),
            )
    if plant.twin is not None and plant.twin.order is not None:
        yield "order", _Channel(plant.twin.order.topic, "plant-command", "send", "Orders", qos=2)


def _address(pattern: str) -> str:
    """A pattern with a parameter in the place of each wildcard."""
    levels = pattern.split("/")
    return "/".join(
        f"{{level{place}}}" if level in {"+", "#"} else level for place, level in enumerate(levels)
    )
