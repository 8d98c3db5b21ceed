"""Rules and streams on which Spark is held against the embedded engine.

The streams are drawn from a seed: several cameras that run ahead of one another, fall silent and
come back; records out of order, some too late; fields that are missing or of another type; records
of one time; ticks. They are cut into files of odd lengths, which are Spark's micro-batches.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lineside.core import Plant, Rule, encode, parse_plant
from lineside.streams import encode_event, read_entries
from lineside.streams.rules.replay import run_rule
from lineside.streams.spark.sql import why_not_sql

START = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
_HEAD = """
schema = "lineside.plant/1"
site = "s"
[[line]]
id = "belt"
name = "Belt"
[[camera]]
id = "left"
line = "belt"
source = "folder:left"
[[camera]]
id = "right"
line = "belt"
source = "folder:right"
[[inspection]]
id = "socks"
camera = "left"
task = "classify"
labels = ["Google", "Github", "Blank"]
[[inspection]]
id = "socks-right"
camera = "right"
task = "classify"
labels = ["Google", "Github", "Blank"]
"""
RULES = {
    "tumbling": """
read = { topic = "sock/+" }
where = [{ field = "image", none_of = ["Blank"] }]
key = ["image"]
window = { size_s = 5 }
aggregate = [
  { name = "mean", of = "mean", field = "score" }, { name = "sum", of = "sum", field = "score" },
  { name = "least", of = "min", field = "score" }, { name = "most", of = "max", field = "score" },
  { name = "different", of = "distinct", field = "score" },
  { name = "first", of = "first", field = "score" },
  { name = "last", of = "last", field = "score" },
  { name = "good", of = "share", where = [{ field = "score", at_least = 0.5 }] },
  { name = "told", of = "count", where = [{ field = "note", like = "a*[?" }] },
  { name = "whole", of = "sum", field = "number" }, { name = "none", of = "sum", field = "no" },
]
lateness_s = 1.5
idle_s = 4
""",
    "keys of all kinds": """
read = { topic = "sock/+" }
key = ["number", "image"]
window = { size_s = 2.5 }
having = [{ field = "count", above = 1 }, { field = "top", none_of = [3] }]
aggregate = [{ name = "top", of = "max", field = "number" }]
lateness_s = 0.4
""",
    "hopping": """
read = { topic = "sock/one" }
key = ["image"]
window = { kind = "hopping", size_s = 5, every_s = 2 }
having = [{ field = "share", at_least = 0.2, below = 0.9 }, { field = "seconds", equals = 5 }]
aggregate = [
  { name = "share", of = "share", where = [
    { field = "flag", equals = true }, { field = "image", any_of = ["Google", 3] } ] },
  { name = "unknown", of = "count", where = [{ field = "note", known = false }] },
]
""",
    "sessions": """
read = { topic = "sock/+" }
key = ["image"]
window = { kind = "session", gap_s = 0.5 }
having = [{ field = "count", at_least = 2 }]
aggregate = [{ name = "mean", of = "mean", field = "score", where = [
  { field = "flag", none_of = [false] } ] }]
lateness_s = 1
late = "event"
idle_s = 3
""",
    "without key": """
read = { plant = "message" }
window = { size_s = 4 }
time = "arrival"
""",
    "of cameras": """
read = { predictions = "socks" }
where = [{ field = "label", none_of = ["Blank"] }]
key = ["camera", "label"]
window = { size_s = 3 }
aggregate = [{ name = "score", of = "mean", field = "probability" }]
late = "event"
idle_s = 6
""",
    "changes": """
read = { topic = "sock/one" }
key = ["image"]
window = { size_s = 5 }
having = [{ field = "count", above = 2 }]
emit = "changes"
""",
    "having on its key": """
read = { topic = "sock/one" }
key = ["image"]
window = { size_s = 5 }
having = [{ field = "image", like = "G*" }]
""",
    "sequence": """
read = { topic = "sock/+" }
key = ["number"]
lateness_s = 0.5
[rule.sequence]
first = [{ field = "image", equals = "Google" }]
then = [{ field = "image", equals = "Github" }]
within_s = 2
""",
    "missing": """
read = { topic = "sock/+" }
[rule.sequence]
first = [{ field = "image", equals = "Google" }]
then = [{ field = "flag", equals = true }]
missing = true
within_s = 0.6
""",
    "pair": """
read = { topic = "sock/one" }
key = ["image"]
pair = { within_s = 3, session = "sorting" }
""",
    "rate": """
read = { topic = "sock/+" }
key = ["image"]
rate = { per_s = 2, above = 6 }
lateness_s = 1
""",
    "steady": """
read = { topic = "sock/two" }
hold = { for_s = 0.3, field = "image" }
most_keys = 3
""",
    "lasting": """
read = { topic = "sock/+" }
where = [{ field = "score", above = 0.4 }]
key = ["flag"]
hold = { for_s = 0.3, gap_s = 0.6 }
""",
    "sighting": """
read = { predictions = "socks" }
key = ["camera"]
sighting = { blank = ["Blank"], labels = ["Google", "Github"], dwell_s = 0.3, gap_s = 0.6 }
""",
    "seen": """
read = { event = "sighting" }
key = ["label"]
window = { size_s = 8 }
aggregate = [{ name = "longest", of = "max", field = "dwell_s" }]
""",
    "pairs of windows": """
read = { event = "changes" }
key = ["image"]
pair = {}
emit = "changes"
""",
    "repeat": """
read = { topic = "sock/+" }
key = ["image"]
repeat = { times = 3, last = 5, within_s = 4, match = [{ field = "score", above = 0.3 }] }
lateness_s = 1
""",
    "join": """
read = { predictions = ["socks", "socks-right"] }
where = [{ field = "label", none_of = ["Blank"] }]
join = { within_s = 1.5, fields = ["label", "probability", "frame"], incomplete = true }
lateness_s = 0.5
""",
    "of two inspections": """
read = { predictions = ["socks", "socks-right"] }
key = ["inspection"]
window = { size_s = 4 }
""",
    "of two rules": """
read = { event = ["tumbling", "sessions"] }
key = ["image"]
join = { within_s = 6, fields = ["count", "mean"] }
""",
    "offset": """
read = { topic = "sock/+" }
key = ["image"]
window = { size_s = 5, offset_s = 11.25 }
""",
    "hopping with an offset": """
read = { topic = "sock/+" }
window = { kind = "hopping", size_s = 4, every_s = 1.5, offset_s = 0.7 }
""",
    "by the clock": """
read = { topic = "sock/+" }
key = ["image"]
window = { size_s = 7, offset_s = 2, zone = "Europe/Berlin" }
lateness_s = 1
""",
    "edges": """
read = { topic = "sock/+" }
key = ["image"]
window = { kind = "hopping", size_s = 2, every_s = 0.5 }
having = [{ field = "count", above = 2 }]
emit = "edges"
""",
}  # fmt: skip
"""Tables by the rule's id, without the first two lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A rule over lines; ``cuts`` are the places where a micro-batch ends."""

    rule: Rule
    plant: Plant
    lines: list[bytes]
    cuts: list[int]

    def embedded(self) -> list[bytes]:
        """What the engine says, as lines."""
        entries = read_entries(self.lines, plant=self.plant, where="lines")
        return sorted(map(encode_event, run_rule(self.rule, entries, plant=self.plant)))

    def batches(self) -> Iterator[list[bytes]]:
        """The lines of each micro-batch."""
        for begin, end in zip([0, *self.cuts], [*self.cuts, len(self.lines)], strict=True):
            yield self.lines[begin:end]


def plant_of(rules: dict[str, str]) -> Plant:
    tables = [f'[[rule]]\nid = "{name.replace(" ", "-")}"\n{text}' for name, text in rules.items()]
    return parse_plant((_HEAD + "\n".join(tables)).encode(), where="plant")


def cases(seed: int) -> dict[str, Case]:
    """Each rule over a stream of its own."""
    plant = plant_of(RULES)
    found = {}
    for place, rule in enumerate(plant.rule):
        draws = random.Random(seed * 1000 + place)  # noqa: S311  the same stream each time
        lines = list(stream(draws, count=240))
        batches = 2 if why_not_sql(rule) else 3  # a micro-batch takes Spark a second or more
        cuts = sorted(draws.sample(range(40, 200), batches - 1))
        found[rule.id] = Case(rule=rule, plant=plant, lines=lines, cuts=cuts)
    return found


def stream(draws: random.Random, *, count: int) -> Iterator[bytes]:
    """Lines of events in the order in which they arrived."""
    clock_s = {"one": 0.0, "two": 0.7, "three": 1.1, "left": 0.0, "right": 0.3}
    arrived_s = 0.0
    for number in range(count):
        arrived_s += draws.choice((0.0, 0.05, 0.1, 0.1, 0.25, 0.5)) + 9 * (draws.random() < 0.01)
        source = draws.choice(["one", "one", "two", "left"] + ["three", "right"] * (number > 80))
        clock_s[source] = max(
            clock_s[source] + draws.choice((0, 0.1, 0.25, 0.5, 0.500001)), arrived_s - 2
        )
        late_s = draws.choice((0, 0, 0, 0, 0.3, 1.0, 4.0))
        at_s = round(max(0.0, clock_s[source] - late_s), 6)
        if draws.random() < 0.02:
            yield line(f"t{number}", "lineside.tick.v1", "", at_s=arrived_s, arrived_s=arrived_s,
                       data={})  # fmt: skip
        elif draws.random() < 0.02:
            yield line(f"s{number}", "lineside.plant.message.v1", "sorting", at_s=at_s,
                       arrived_s=arrived_s, data={"topic": "sorting"})  # fmt: skip
        elif source in {"left", "right"}:
            yield picture(draws, number, camera=source, at_s=at_s, arrived_s=arrived_s)
        else:
            data = {"topic": f"sock/{source}", **fields(draws)}
            yield line(f"e{number}", "lineside.plant.message.v1", f"sock/{source}", at_s=at_s,
                       arrived_s=arrived_s, data=data)  # fmt: skip


def fields(draws: random.Random) -> dict[str, object]:
    """Fields of a message, some of them missing or of another type."""
    told: dict[str, object] = {
        "image": draws.choice(("Google", "Google", "Github", "Blank", 3)),
        "score": draws.choice((draws.random(), draws.random() * 1e-9, 0, 1, 1.0, "high", True)),
        "number": draws.choice((1, 1, 2, 3)), "flag": draws.choice((True, False, 1)),
        "note": draws.choice(("ab[c", "a[", "a\\['\"`", "Äß\n[x", None)),
    }  # fmt: skip
    if draws.random() < 0.3:
        told["number"] = draws.choice((1.0, True, "1", 2.0))
    for name in list(told):
        if draws.random() < 0.08:
            del told[name]
    return told


def picture(
    draws: random.Random, number: int, *, camera: str, at_s: float, arrived_s: float
) -> bytes:
    """A prediction of a picture."""
    label = draws.choice(("Google", "Google", "Google", "Github", "Blank"))
    inspection = draws.choice(("socks", "socks-right")) if camera == "right" else "socks"
    data: dict[str, object] = {
        "frame": {"id": f"frm_{number}", "camera": camera, "sequence": number},
        "inspection": inspection, "task": "classify", "state": "ok", "package": "p",
        "labels": [
            {"name": label, "region": "all", "label": label, "decision": "present",
             "probability": draws.random()},
        ],
    }  # fmt: skip
    return line(f"p{number}", "lineside.prediction.v1", inspection, at_s=at_s,
                arrived_s=arrived_s, data=data)  # fmt: skip


def line(
    name: str, kind: str, subject: str, *, at_s: float, arrived_s: float, data: dict[str, object]
) -> bytes:  # fmt: skip
    """A CloudEvent as a line."""
    document = {
        "specversion": "1.0", "id": name, "source": "/s/plant", "type": kind,
        "time": written(at_s), "arrivedat": written(arrived_s), "data": data,
    }  # fmt: skip
    return encode(document | ({"subject": subject} if subject else {}))


def written(at_s: float) -> str:
    return (START + timedelta(seconds=at_s)).isoformat(timespec="microseconds")
