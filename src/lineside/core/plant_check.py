"""Cross references of a plant file: ids used once, names that point somewhere, boxes in view.

Beside them stand the file's text without its secrets, and the message that tells devices of it.

Faults of form do not hide faults of reference: what can be built of a faulty file is looked at
too, and the names of entries that could not be built still count as known.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from lineside.core.codec import (
    decode_toml,
    entries,
    faults_error,
    good_id,
    good_name,
    json_schema,
    known,
    read_part,
    salvage,
    twice,
)
from lineside.core.drivers import SecretUrl
from lineside.core.errors import Fault, InvalidError, NotFoundError
from lineside.core.outputs import check_outputs
from lineside.core.plant import PLANT_SCHEMA, Inspection, Plant, RouteKind, Slot, Twin
from lineside.core.plant_rules import read_dwell_times
from lineside.core.plant_say import ANSWER_FIELDS, UNSURE, Say, can_say
from lineside.core.rule_check import Declared, check_rules
from lineside.core.shifts import check_shifts
from lineside.core.topics import topics_meet
from lineside.core.webhooks import check_webhooks

_FILE_SOURCES = frozenset({"folder", "video"})
_ADDRESSES = ("all", "figures", "panels", "wall")
# A string or a comment of TOML; whatever stands before the @ of an address; a private character.
_TOKEN = re.compile(
    r"""\"{3}(?:\\.|[^\\])*?\"{3,5}|'{3}.*?'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|\#[^\n]*""",
    re.DOTALL,
)
_PASSWORD = re.compile(r"(?<=://)[^\s@\"']+(?=@)")
_MARK = "\ue000"
_LONG_QUOTES = ('"""', "'''")


PLANT_TEXT_SCHEMA: Literal["lineside.plant-text/1"] = "lineside.plant-text/1"
PLANT_GROUP = "plant-file"
"""Group of the update repository that signs each version's number and digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantText:
    """A version of the plant file, as a hub tells it to the devices of its site.

    Attributes:
        schema: name and version of this message.
        number: number of the version.
        digest: digest of the text without its [secrets](../adr/0052-addresses-with-secrets.md), in
            UTF-8.
        text: the text itself, where the hub is an older one; empty: the device fetches it.
        known: such digests of the versions before it: a device whose file is one of these takes
            over the text, any other file is the device's own.
    """

    schema: Literal["lineside.plant-text/1"]
    number: int
    digest: str
    text: str = ""
    known: tuple[str, ...] = ()


def plant_text_topic(site: str) -> str:
    """Where a hub tells the plant file in force, retained."""
    return f"lineside/{site}/plant"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantSecret:
    """A place in a plant file's text that holds a secret, or shows that one was there.

    Attributes:
        name: of the entry, such as ``camera/rack`` or ``webhook/mes/X-Key``; of any other string
            and of a comment its text without the secret.
        whole: the text there.
        shown: the same without its secret.
        token: the text there as TOML writes it.
        start: where it stands, in characters.
    """

    name: str
    whole: str
    shown: str
    token: str
    start: int


@lru_cache(maxsize=512)
def plant_secrets(text: str) -> tuple[PlantSecret, ...]:
    """Find addresses and headers of webhooks, and passwords of other addresses and in comments.

    Raises:
        InvalidError: no TOML.
    """
    tokens = list(_TOKEN.finditer(text))
    names = _names_of_secrets(text, tokens)
    found = []
    for number, token in enumerate(tokens):
        name, whole = names.get(number, ("", token[0]))
        if not name and token[0][0] != "#" and ("://" in whole or "…" in whole):
            whole = str(decode_toml(f"x = {token[0]}".encode(), where="plant file")["x"])
        shown = _PASSWORD.sub("…", whole)
        if name:
            shown = "…" if name.count("/") > 1 else str(SecretUrl(whole))
        if "…" in shown:
            secret = PlantSecret(
                name=name or shown, whole=whole, shown=shown, token=token[0], start=token.start()
            )
            found.append(secret)
    return tuple(found)


def without_secrets(text: str) -> str:
    """Return the text of a plant file with ``…`` in place of its secrets; as ``plant_secrets``."""

    def token(one: PlantSecret) -> str:
        written = one.shown if one.token[0] == "#" else _toml(one.shown)
        return one.token if one.shown == one.whole else written

    return _rewritten(text, token)


def with_secrets(text: str, secrets: Iterable[PlantSecret]) -> str:
    """Return a text that has ``…`` with the secrets that stand there in another one.

    What differs in more than the secret stays as it is. Raises as ``plant_secrets``.
    """
    tokens = {(one.name, one.shown): one.token for one in secrets}
    return _rewritten(text, lambda one: tokens.get((one.name, one.whole), one.token))


def _rewritten(text: str, token_of: Callable[[PlantSecret], str]) -> str:
    for one in reversed(plant_secrets(text)):
        text = text[: one.start] + token_of(one) + text[one.start + len(one.token) :]
    return text


def _names_of_secrets(text: str, tokens: list[re.Match[str]]) -> dict[int, tuple[str, str]]:
    """Names and texts of the addresses and headers of a plant file, by the number of their token.

    The file is read with its number behind each string: so it is known where each one stands.
    """
    marked, end = "", 0
    for number, token in enumerate(tokens):
        if token[0][0] != "#":
            closing = token.end() - (3 if token[0][:3] in _LONG_QUOTES else 1)
            marked, end = f"{marked}{text[end:closing]}{_MARK}{number}", closing
    try:
        document = _with_plain_keys(decode_toml((marked + text[end:]).encode(), where="plant file"))
    except InvalidError:
        decode_toml(text.encode(), where="plant file")  # names the place in the file
        raise
    names: dict[int, tuple[str, str]] = {}
    for section, key in (("camera", "source"), ("output", "url"), ("webhook", "url")):
        listed = document.get(section)
        for entry in listed if isinstance(listed, list) else ():
            if not isinstance(entry, dict):
                continue
            known_as = str(entry.get("name" if section == "webhook" else "id")).partition(_MARK)[0]
            headers = entry.get("headers") if section == "webhook" else None
            named = headers.items() if isinstance(headers, dict) else ()
            for name, value in (("", entry.get(key)), *((f"/{one}", text) for one, text in named)):
                if isinstance(value, str):
                    whole, _, place = value.rpartition(_MARK)
                    names[int(place)] = f"{section}/{known_as}{name}", whole
    return names


def _with_plain_keys(value: Any) -> Any:  # noqa: ANN401  TOML
    if isinstance(value, dict):
        return {key.partition(_MARK)[0]: _with_plain_keys(one) for key, one in value.items()}
    return list(map(_with_plain_keys, value)) if isinstance(value, list) else value


def _toml(text: str) -> str:
    """A text as a string of TOML, on one line."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def load_plant(path: Path, *, folder: Path | None = None) -> Plant:
    """Read a plant file, and what its sighting rules learned.

    Args:
        path: of the file.
        folder: where its relative paths start; None: its own.

    Raises:
        NotFoundError: no such file.
        InvalidError: every fault at once, of form first, then of reference.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"cannot read the plant file: {error.strerror}", where=str(path), fix="Name a file."
        ) from error
    return plant_of(raw, path=path, folder=folder)


def plant_of(raw: bytes, *, path: Path, folder: Path | None = None) -> Plant:
    """Read the bytes of a plant file as if they stood at ``path``; see ``load_plant``.

    Raises:
        InvalidError: every fault at once, of form first, then of reference.
    """
    folder = (folder or path.parent).absolute()
    plant = _with_absolute_paths(parse_plant(raw, where=str(path)), folder=folder)
    return _with_dwell_times(plant, folder=folder, path=path)


def _with_absolute_paths(plant: Plant, *, folder: Path) -> Plant:
    """The plant with camera files and folders as seen from a folder."""

    def source(url: SecretUrl) -> SecretUrl:
        scheme, _, name = url.reveal().partition(":")
        if scheme not in _FILE_SOURCES:
            return url
        return SecretUrl(f"{scheme}:{folder / name}")

    cameras = tuple(replace(camera, source=source(camera.source)) for camera in plant.camera)
    return replace(plant, camera=cameras)


def _with_dwell_times(plant: Plant, *, folder: Path, path: Path) -> Plant:
    """The plant with the files that ``learned`` names."""
    rules, faults = list(plant.rule), []
    for place, rule in enumerate(rules):
        step = rule.sighting
        if step is not None and step.learned:
            try:
                habits = read_dwell_times(folder / step.learned)
            except InvalidError as error:
                faults.append(_not_learned(place, error))
            else:
                rules[place] = replace(rule, sighting=replace(step, habits=habits))
    if faults:
        raise faults_error(tuple(faults), where=str(path))
    return replace(plant, rule=tuple(rules))


def _not_learned(place: int, error: InvalidError) -> Fault:
    return Fault(
        path=f"$.rule[{place}].sighting.learned", value=repr(error.where),
        expected=f"a file that was learned: {error.message}", fix=error.fix,
    )  # fmt: skip


def parse_plant(raw: bytes, *, where: str) -> Plant:
    """Decode and check the bytes of a plant file."""
    document = decode_toml(raw, where=where)
    plant, faults = read_part(Plant, document, path="$")
    if plant is not None:
        faults = tuple(check_references(plant))
    else:
        faults += tuple(_further_faults(document, faults))
    if plant is None or faults:
        raise faults_error(faults, where=where)
    return plant


def plant_schema() -> dict[str, Any]:
    """JSON Schema of the plant file, for editors; references it cannot check."""
    return {"title": "lineside plant file", **json_schema(Plant)}


def check_references(plant: Plant) -> Iterator[Fault]:
    """Every reference that leads nowhere, every id used twice, every box outside its view."""
    names = _Names(
        line={place: line.id for place, line in enumerate(plant.line)},
        camera={place: camera.id for place, camera in enumerate(plant.camera)},
        inspection={place: inspection.id for place, inspection in enumerate(plant.inspection)},
        rule={place: rule.id for place, rule in enumerate(plant.rule)},
        route=tuple(route.topic for route in plant.route),
    )
    return _check(plant, names)


def _further_faults(document: Mapping[str, Any], faults: tuple[Fault, ...]) -> Iterator[Fault]:
    """Faults of reference in a file that has faults of form."""
    stand_ins = {"schema": PLANT_SCHEMA, "site": "site"}
    nothing = Plant(schema="lineside.plant/1", site="site")
    plant = salvage(Plant, {**document, **stand_ins}) or nothing
    known = [fault.path for fault in faults]
    for fault in _check(plant, _Names.of_document(document)):
        if not any(path.startswith(fault.path) for path in known):
            yield fault


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """The ids of a file by place, those of entries that could not be built included."""

    line: dict[int, str]
    camera: dict[int, str]
    inspection: dict[int, str]
    rule: dict[int, str]
    route: tuple[str, ...]

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> "_Names":
        ids = {
            section: {
                place: str(entry["id"])
                for place, entry in enumerate(_list(document.get(section)))
                if isinstance(entry, Mapping) and "id" in entry
            }
            for section in ("line", "camera", "inspection", "rule")
        }
        topics = [one.get("topic") for one in _tables(document.get("route"))]
        return cls(**ids, route=tuple(topic for topic in topics if isinstance(topic, str)))

    def declared(self, plant: Plant) -> Declared:
        """Names that rules may refer to."""
        return Declared(
            lines=list(self.line.values()), cameras=list(self.camera.values()),
            inspections=list(self.inspection.values()), rules=list(self.rule.values()),
            routes=self.route, pictures=tuple(_pictures(plant)),
            built={one.id: one for _, one in entries(plant.inspection)},
        )  # fmt: skip


def _pictures(plant: Plant) -> Iterator[str]:
    for _, camera in entries(plant.camera):
        yield f"lineside/{plant.site}/{camera.line}/{camera.id}/frame"
        if camera.source.startswith("mqtt:"):
            yield camera.source.reveal().removeprefix("mqtt:")


def _tables(value: object) -> list[Mapping[str, Any]]:
    return [entry for entry in _list(value) if isinstance(entry, Mapping)]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _check(plant: Plant, names: _Names) -> Iterator[Fault]:
    yield from good_id(plant.site, "$.site")
    yield from _check_names(names)
    for place, camera in entries(plant.camera):
        path = f"$.camera[{place}].line"
        yield from known(camera.line, names.line.values(), path=path, noun="line")
    for place, inspection in entries(plant.inspection):
        path = f"$.inspection[{place}]"
        yield from known(
            inspection.camera, names.camera.values(), path=f"{path}.camera", noun="camera"
        )
        if inspection.endpoint:
            yield from good_id(inspection.endpoint, f"{path}.endpoint")
        yield from _check_labels(inspection, path)
        yield from _check_regions(inspection, path)
    endpoints = (inspection.endpoint for _, inspection in entries(plant.inspection))
    yield from twice((name for name in endpoints if name), "$.inspection")
    yield from _check_routes(plant, names.camera.values())
    yield from _check_messages(plant, names.inspection.values())
    if plant.twin is not None:
        yield from _check_twin(plant, plant.twin, inspections=names.inspection.values())
    yield from check_rules(plant.rule, names.declared(plant))
    yield from check_shifts(plant.shift)
    yield from check_webhooks(plant.webhook)
    yield from check_outputs(
        plant.output, lines=names.line.values(), cameras=_counting_cameras(plant),
        topics=tuple(_own_topics(plant)),
    )  # fmt: skip


def _own_topics(plant: Plant) -> Iterator[str]:
    """Patterns of topics that hub and devices say or read."""
    yield from ("lineside/#", "edge-manager-app/#")
    yield from _pictures(plant)
    yield from (one.topic for _, one in entries(plant.route))
    yield from (one.trigger.topic for _, one in entries(plant.inspection) if one.trigger.topic)
    if plant.twin is not None:
        yield plant.twin.order.topic


def _counting_cameras(plant: Plant) -> dict[str, set[str]]:
    """Line → its cameras with an inspection that counts for the verdict."""
    counting = {one.camera for _, one in entries(plant.inspection) if one.verdict}
    found: dict[str, set[str]] = {}
    for _, camera in entries(plant.camera):
        if camera.id in counting:
            found.setdefault(camera.line, set()).add(camera.id)
    return found


def _check_names(names: _Names) -> Iterator[Fault]:
    for section in ("line", "camera", "inspection"):
        ids: dict[int, str] = getattr(names, section)
        yield from twice(ids.values(), f"$.{section}")
        for place, name in ids.items():
            yield from good_id(name, f"$.{section}[{place}].id")
    for place, name in names.line.items():
        if name in _ADDRESSES:
            yield Fault(
                path=f"$.line[{place}].id", value=repr(name),
                expected="an id that is no address of the pages of lines",
                fix=f"Use another id than {', '.join(_ADDRESSES)}.",
            )  # fmt: skip


def _check_labels(inspection: Inspection, path: str) -> Iterator[Fault]:
    yield from twice((label for _, label in entries(inspection.labels)), f"{path}.labels")
    for place, label in entries(inspection.labels):
        yield from good_name(label, f"{path}.labels[{place}]")
    for place, region in entries(inspection.region):
        yield from good_name(region.id, f"{path}.region[{place}].id")
        for _, name in entries(region.answers):
            key = "classes" if region.classes else "label"
            yield from good_name(name, f"{path}.region[{place}].{key}")


def _check_regions(inspection: Inspection, path: str) -> Iterator[Fault]:
    regions = [region for _, region in entries(inspection.region)]
    yield from twice((region.id for region in regions), f"{path}.region")
    yield from twice((region.label for region in regions if region.label), f"{path}.region")
    view = inspection.view
    if view is None:
        return
    for place, region in entries(inspection.region):
        box = region.box_px
        if min(box.x0_px, box.y0_px) < 0 or box.x1_px > view.width_px or box.y1_px > view.height_px:
            yield Fault(
                path=f"{path}.region[{place}].box_px",
                value=f"{box.x0_px:g},{box.y0_px:g}..{box.x1_px:g},{box.y1_px:g}",
                expected=f"inside the view of {view.width_px}x{view.height_px} px",
                fix="Move the box, or correct the view's size.",
            )


def _check_routes(plant: Plant, cameras: Iterable[str]) -> Iterator[Fault]:
    yield from twice((route.topic for _, route in entries(plant.route)), "$.route")
    for place, route in entries(plant.route):
        if route.kind is RouteKind.FRAME:
            path = f"$.route[{place}].camera"
            yield from known(route.camera, cameras, path=path, noun="camera")


def _check_messages(plant: Plant, inspections: Iterable[str]) -> Iterator[Fault]:
    known_inspections = {one.id: one for _, one in entries(plant.inspection)}
    for place, route in entries(plant.route):
        if route.say is None:
            continue
        path, say = f"$.route[{place}].say", route.say
        yield from known(say.inspection, inspections, path=f"{path}.inspection", noun="inspection")
        inspection = known_inspections.get(say.inspection)
        if inspection is not None:
            yield from _check_words(say, inspection, path=path)
            yield from _check_loopback(plant, place, say, task=str(inspection.task))
    yield from _check_message_loops(plant)


def _check_words(say: Say, inspection: Inspection, *, path: str) -> Iterator[Fault]:
    """Return the faults of an answer that the inspection cannot give, or not tell apart."""
    task = str(inspection.task)
    for name, told in say.fields.items():
        if not can_say(told, task=task):
            could = [one for one in ANSWER_FIELDS if can_say(one, task=task)]
            yield Fault(
                path=f"{path}.fields.{name}", value=repr(told),
                expected=f"what an answer of the task {task} has",
                fix=f"Known: {', '.join(could)}.",
            )  # fmt: skip
    if "label" in say.fields.values() and say.unknown in inspection.known_labels:
        yield Fault(
            path=f"{path}.unknown", value=repr(say.unknown),
            expected="a word that is none of the inspection's labels",
            fix=f"Write another word for the unsure, {UNSURE!r} say.",
        )  # fmt: skip


def _check_loopback(plant: Plant, place: int, say: Say, *, task: str) -> Iterator[Fault]:
    """Messages that the hub takes in again, and could not read: each would be a dead letter."""
    topic = plant.route[place].topic
    fields = say.all_fields(task)
    if topic.startswith("lineside/") or topic in _pictures(plant):
        yield Fault(
            path=f"$.route[{place}].topic", value=repr(topic),
            expected="a topic of its own, where neither lineside's messages nor pictures come",
            fix="Say it on another topic.",
        )  # fmt: skip
    # As the hub does: the first route whose pattern fits takes the message.
    at, taking = next(
        (at, one) for at, one in entries(plant.route) if topics_meet(one.topic, topic)
    )
    by = f"{taking.topic!r} ($.route[{at}])"
    if taking.kind is not RouteKind.MESSAGE:
        yield Fault(
            path=f"$.route[{place}].topic", value=repr(topic),
            expected=f"a topic that no other route takes in first; it loops back by {by}, which "
            f"reads messages of kind {taking.kind}",
            fix="Move this route before that one, or say it on another topic.",
        )  # fmt: skip
    elif fields.get("ts", "ts") != "ts" or ("ts" not in fields and taking.time == "ts"):
        lacks = f"name {fields['ts']} as ts" if "ts" in fields else "name no ts"
        yield Fault(
            path=f"$.route[{at}].time", value=repr(taking.time),
            expected=f"a time that can be read of what devices say on {topic!r}: they {lacks}, and "
            f"each message that loops back by {by} would become a dead letter",
            fix='Write time = "arrival", or say ts = "ts" among the fields.'
            if "ts" not in fields else 'Say ts = "ts" among the fields.',
        )  # fmt: skip


def _check_message_loops(plant: Plant) -> Iterator[Fault]:
    """Answers that, said on a topic, let an inspection look that is said there in the end."""
    said = {
        (place, route.topic): route.say.inspection
        for place, route in entries(plant.route) if route.say is not None
    }  # fmt: skip
    looks = {
        one.id: one.trigger.topic for _, one in entries(plant.inspection)
        if one.trigger.on == "topic"
    }  # fmt: skip
    for (place, topic), inspection in said.items():
        way, heard, ahead = [inspection], {topic}, [topic]
        while ahead and inspection not in way[1:]:
            at = ahead.pop()
            following = [one for one, wanted in looks.items() if topics_meet(wanted, at)]
            way += [one for one in following if one not in way[1:]]
            further = {other for (_, other), of in said.items() if of in following} - heard
            heard |= further
            ahead += sorted(further)
        if inspection in way[1:]:
            yield Fault(
                path=f"$.route[{place}].topic", value=repr(topic),
                expected=f"a topic that does not let inspection {inspection!r} look again; it "
                f"loops over {' → '.join(map(repr, way))}",
                fix="Say it on another topic, or let another topic trigger the inspection.",
            )  # fmt: skip


def _check_twin(plant: Plant, twin: Twin, *, inspections: Iterable[str]) -> Iterator[Fault]:
    yield from twice((slot.id for _, slot in entries(twin.slot)), "$.twin.slot")
    yield from twice((station.id for _, station in entries(twin.station)), "$.twin.station")
    yield from twice((station.code for _, station in entries(twin.station)), "$.twin.station")
    for place, station in entries(twin.station):
        yield from good_id(station.code, f"$.twin.station[{place}].code")
    yield from known(twin.inspection, inspections, path="$.twin.inspection", noun="inspection")
    for _, inspection in entries(plant.inspection):
        if inspection.id == twin.inspection and None not in inspection.region:
            for place, slot in entries(twin.slot):
                path = f"$.twin.slot[{place}]"
                colours = [colour for _, colour in entries(twin.colours)]
                yield from _check_slot(slot, inspection, colours=colours, path=path)


def _check_slot(
    slot: Slot, inspection: Inspection, *, colours: list[str], path: str
) -> Iterator[Fault]:
    regions = {region.id: region for region in inspection.region}
    yield from known(slot.region, list(regions), path=f"{path}.region", noun="region")
    region = regions.get(slot.region)
    if region is None:
        return
    if slot.colour:
        yield from known(slot.colour, colours, path=f"{path}.colour", noun="colour")
    elif region.label:
        yield Fault(
            path=f"{path}.colour",
            value="nothing",
            expected="the colour that presence here means",
            fix=f'Add colour = "{next(iter(colours), "")}".',
        )
    for _, name in entries(region.classes):
        if name != slot.empty_class:
            yield from known(name, colours, path=f"{path}.region", noun="colour")
