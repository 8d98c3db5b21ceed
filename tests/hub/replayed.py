"""A recorded stretch for tests of replays: pictures on the bus, answers by a real package."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from lineside.core import Digest, Plant, digest_of, encode, to_plain
from lineside.hub import HubConfig, Services
from lineside.hub.eventlog.followers import Follower
from lineside.hub.replay.repository import ReplayOrder, ReplayResult
from lineside.hub.replay.run import replay
from lineside.hub.rules.service import FOLLOWER
from lineside.links import Message
from lineside.models import Manifest, Package, Predictor, build_package
from lineside.streams import encode_event, prediction_event
from lineside.testing import FakeClock
from lineside.testing.rules import rule_of
from lineside.vision import open_frame
from tests.hub.conftest import Line, drain, open_hub

WINDOWS = """
id = "windows"
read = { predictions = "stock", answers = "each" }
where = [{ field = "decision", equals = "present" }]
key = ["label"]
window = { size_s = 5 }
having = [{ field = "count", above = 1 }]
"""
DARK = """
id = "dark"
read = { event = "picture" }
key = ["action"]
window = { size_s = 60 }
"""
SHOWN: tuple[tuple[str, ...], ...] = (
    ("blue",), ("blue",), ("blue", "red"), ("blue", "red"), ("red",), ("red",), (), ("white",),
    ("white",), ("white",), ("blue", "white"), ("blue",), (), (), ("red",), ("red",),
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Day:
    """A hub with a recorded day in it."""

    hub: Services
    clock: FakeClock
    package: Package
    jpeg: Callable[..., bytes]
    since: datetime
    until: datetime
    device: str = "edge-1"
    sequence: int = 0

    def record(
        self, shown: tuple[tuple[str, ...], ...] = SHOWN, *, every_s: float = 1.0,
        beside: tuple[Package, ...] = (),
    ) -> None:  # fmt: skip
        """Pictures, a second apart, each answered by the device's package, and those beside it."""
        line = Line(self.hub, self.clock)
        line.send(line.status(self.device))
        judges = [Predictor(one, clock=self.clock) for one in (self.package, *beside)]
        self.sequence = 1
        for place, present in enumerate(shown, start=1):
            data = self.jpeg(*present, seed=place)
            line.send(line.camera(data))
            frame = open_frame(data, camera="rack", captured_at=self.clock.now())
            for judge in judges:
                said = judge.predict(frame, device=self.device)
                event = prediction_event(
                    said, site="hall", device=self.device, sequence=self.sequence, first=1
                )
                topic = "lineside/hall/warehouse/rack/prediction"
                line.send(Message(topic=topic, payload=encode_event(event), qos=1))
                self.sequence += 1
            self.follow()
            self.clock.advance(every_s)
        self.until = self.clock.now()
        self.clock.advance(every_s)

    def follow(self) -> None:
        """Let the hub's rules read what came."""
        rules = self.hub.rules
        made = Follower(
            FOLLOWER, records=self.hub.records, ledger=self.hub.ledger, handle=rules.take,

        )  # fmt: skip
        made.position = max(made.position, rules.load())
        drain(made)

    def again(
        self, package: Package | str = "", *, rules: bytes = b"", inspection: str = ""
    ) -> ReplayResult:
        """The day once more, by another package or other rules."""
        given = package if isinstance(package, Package) else None
        order = ReplayOrder(
            since=self.since, until=self.until, inspection=inspection,
            package=given.digest if given is not None else str(package),
        )  # fmt: skip
        return replay(
            order, self.hub.records, self.hub.blobs, plant=self.hub.plant, clock=self.clock,
            tell=lambda _: None, package=given, rules=rules,
        )  # fmt: skip


def shy(package: Package, *, label: str = "blue") -> Package:
    """The package with one label never present: its cuts lie above what it ever says."""
    rules = tuple(
        replace(rule, low=0.9999, high=0.99999) if rule.name == label else rule
        for rule in package.manifest.rules
    )
    return rebuilt(package, name="shy", rules=rules)


def laid_out_otherwise(manifest: Manifest, *, inspection: str) -> Manifest:
    """Of another inspection, whose regions have each other's places."""
    crops = manifest.prepare.crops
    pairs = zip(crops, reversed(crops), strict=True)
    moved = tuple(replace(one, region=other.region) for one, other in pairs)
    return replace(manifest, inspection=inspection, prepare=replace(manifest.prepare, crops=moved))


def rebuilt(package: Package, **changes: Any) -> Package:  # noqa: ANN401  manifest fields
    """The package with another manifest."""
    files = {name: data for name, data in package.files.items() if name != "manifest.json"}
    return Package.read(build_package(replace(package.manifest, **changes), files))


@contextmanager
def recorded_day(
    config: HubConfig, plant: Plant, clock: FakeClock, *, archive: bytes,
    jpeg: Callable[..., bytes],
) -> Iterator[Day]:  # fmt: skip
    """A hub over the config's store, its rules, and a package in use."""
    ruled = replace(plant, rule=(rule_of(WINDOWS), rule_of(DARK)))
    with open_hub(config, plant=ruled, clock=clock) as hub:
        hub.rules.load()
        hub.packages.add(archive, by="ada")
        yield Day(
            hub=hub,
            clock=clock,
            package=Package.read(archive),
            jpeg=jpeg,
            since=clock.now(),
            until=clock.now(),
        )


def plain(result: ReplayResult) -> bytes:
    """All that a replay says, as bytes."""
    return encode(to_plain(replace(result, seconds=0.0, ms_per_frame=0.0)))


def digest(name: str) -> Digest:
    """A digest that is nobody's."""
    return digest_of(name.encode())
