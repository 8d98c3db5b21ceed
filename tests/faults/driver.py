"""One run of faults: real programs, senders on every way in, faults drawn by a seed, a verdict.

``run_seed`` is one run. A seed says what the site consists of, which faults come when, and what the
senders say; when each thing happens inside the programs is the machine's matter. While faults are
applied, senders note what was acknowledged to them. Then everything is brought up again, the
senders finish, and these promises are checked:

1. nothing that was acknowledged is lost, and nothing is there twice, on each way in;
2. every chain of the log is whole;
3. the twin of each hub is the fold of the log;
4. what cannot be read stands among the dead letters, with its reason;
5. every event of a rule is posted to the webhook, and nothing else is;
6. a device judges with the verified package alone, and its spool drains;
7. nothing is stuck: all of it within a deadline, and programs end when they are told to;
8. trainings, rollouts and OPC UA keep theirs (``tests/faults/work.py``).
"""

import random
import signal
import sqlite3
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from subprocess import Popen
from threading import Event
from typing import Any

from lineside.core import decode_json, encode, load_plant
from lineside.store import Logged, open_records
from lineside.streams import EVENT_TYPE, PREDICTION_TYPE, decode_event
from lineside.testing.links import LONG_S
from lineside.twin import rebuild
from tests.faults.senders import (
    CameraSender,
    HttpSender,
    KafkaProducer,
    MqttSender,
    Sender,
    SensorSender,
)
from tests.faults.site import (
    CLOCK,
    DEVICE,
    BrokerKind,
    Shape,
    Site,
    read_log,
    spooled,
    wait_for,
)
from tests.faults.work import Plc, Rollouts, Training, Work
from tests.links.hooks import Hooks, hooks_server
from tests.links.mock_kafka import mock_cluster
from tests.store.conftest import PostgresServer

_SITES = (
    Shape(broker=BrokerKind.OUTSIDE, kafka=True),
    Shape(broker=BrokerKind.AMQTT),
    Shape(broker=BrokerKind.OUTSIDE, hubs=2, postgres=True),
    Shape(broker=BrokerKind.SUPERVISED, opcua=True),
    Shape(broker=BrokerKind.OUTSIDE, device=True),
    Shape(broker=BrokerKind.AMQTT, postgres=True, kafka=True),
    Shape(broker=BrokerKind.SUPERVISED, device=True),
    Shape(broker=BrokerKind.OUTSIDE, hubs=2, postgres=True, device=True),
    Shape(broker=BrokerKind.AMQTT, device=True),
    Shape(broker=BrokerKind.SUPERVISED, postgres=True, opcua=True),
)
SHAPES = (
    *_SITES,
    *_SITES[:1], Shape(broker=BrokerKind.AMQTT, training=True), *_SITES[2:4],
    Shape(broker=BrokerKind.OUTSIDE, device=True, rollouts=True), *_SITES[5:],
)  # fmt: skip
"""One after the other, by seed."""
PLAN = 2
"""Version of the plan: what a seed means. Only runs of the same plan are added up."""
SPOOL = "spool"
BY_BROKER = ("MQTT QoS 1", "MQTT QoS 2", SPOOL)
"""Ways in that pass a broker."""
_PAUSE = Event()
# A hub that was killed holds its leases for ten seconds, and its place in a group of Kafka for 45;
# a device waits for 60 at most before it sends again. Nothing waits so long where all is there.
_REST_S = 75.0
_BLOCK_BYTES = 1_000_000
_LONGEST_S = 8.0
"""Between faults over a training, which takes its time to begin and to end."""
# The server serves this run alone, except for the connection that asks.
_END_CONNECTIONS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname IS NOT NULL AND pid <> pg_backend_pid()"
)
_MOST_HELD = 4
"""Pictures that a device may hold: two wait, one is looked at, one came after its counts were read.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: after how long, what, of which program, and for how long."""

    after_s: float
    kind: str
    target: int
    lasts_s: float


@dataclass(slots=True, kw_only=True)
class WayCounts:
    """What became of the messages of one way in; ``unjudged``: pictures that a device let go."""

    sent: int = 0
    repeated: int = 0
    acknowledged: int = 0
    stored: int = 0
    refused: int = 0
    lost: int = 0
    doubled: int = 0
    unjudged: int = 0


@dataclass(slots=True, kw_only=True)
class Run:
    """What came of one seed; ``broken`` has a sentence for each promise that did not hold."""

    seed: int
    shape: str
    faults: list[str] = field(default_factory=list)
    ways: dict[str, WayCounts] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    stuck: int = 0
    events: int = 0
    posted_twice: int = 0
    seconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def spool_counts(
    committed: dict[int, str], waiting: set[int], *, stored: Counter[str]
) -> WayCounts:
    """What became of a device's events: ids by number, numbers not let go, ids in the log."""
    ids = set(committed.values())
    let_go = {name for number, name in committed.items() if number not in waiting}
    return WayCounts(
        sent=len(ids),
        repeated=len(committed) - len(ids),
        acknowledged=len(let_go),
        stored=sum(1 for name in ids if stored[name]),
        lost=sum(1 for name in let_go if not stored[name]),
        doubled=sum(1 for name in ids if stored[name] > 1),
    )


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs added up, and each of them.

    Each way in, and each broker with what came in by it, has the count of the runs that it was
    counted in: the spool was counted later than the rest.
    """
    each = sorted(runs, key=lambda run: int(run["seed"]))
    ways, brokers = dict[str, Counter[str]](), dict[str, dict[str, Counter[str]]]()
    for run in each:
        own = brokers.setdefault(str(run["shape"]).partition(",")[0], {})
        for way, counts in run["ways"].items():
            found = Counter({"runs": 1, **counts})
            ways.setdefault(way, Counter()).update(found)
            if way in BY_BROKER:
                own.setdefault(way, Counter()).update(found)
    return {
        "plan": PLAN,
        "runs": len(each),
        "failed": [run["seed"] for run in each if run["broken"]],
        "lost": sum(way["lost"] for way in ways.values()),
        "doubled": sum(way["doubled"] for way in ways.values()),
        "stuck": sum(run["stuck"] for run in each),
        "faults": dict(Counter(kind for run in each for kind in run["faults"]).most_common()),
        "shapes": dict(Counter(run["shape"] for run in each).most_common()),
        "ways": _plain(ways),
        "brokers": {broker: _plain(own) for broker, own in sorted(brokers.items())},
        "events": sum(run["events"] for run in each),
        "seconds": round(sum(run["seconds"] for run in each), 1),
        "each": each,
    }


def _plain(ways: dict[str, Counter[str]]) -> dict[str, dict[str, int]]:
    return {way: dict(counts) for way, counts in sorted(ways.items())}


def plan_of(seed: int) -> tuple[Shape, list[Fault]]:
    """The site and the faults of a seed."""
    draw = random.Random(seed)  # noqa: S311  the same plan each time
    shape = SHAPES[seed % len(SHAPES)]
    kinds = kinds_of(shape)
    faults = [
        Fault(
            after_s=round(draw.uniform(0.2, _LONGEST_S if shape.training else 1.2), 2),
            kind=draw.choice(kinds),
            target=draw.randrange(shape.hubs),
            lasts_s=round(draw.uniform(0.1, 1.5), 2),
        )
        for _ in range(draw.randint(2, 4))
    ]
    return shape, faults


def kinds_of(shape: Shape) -> list[str]:
    """The faults that a site can have; the hub's end comes most often."""
    kinds = ["kill hub"] * 3 + [
        "restart hub", "pause hub", "cut senders", "hold senders", "delay senders", "cut http",
        "set clocks back", "lock store",
    ]  # fmt: skip
    if shape.broker is BrokerKind.OUTSIDE:
        kinds += ["restart broker", "pause broker", "cut hub from broker", "hold hub from broker"]
    if shape.device:
        kinds += ["kill device", "restart device", "pause device", "change package"]
    if not shape.postgres:
        kinds += ["fill disk"]
    if shape.kafka:
        kinds += ["take kafka away"]
    if shape.training:
        kinds += ["kill trainer"] * 3
    return kinds


def run_seed(seed: int, *, folder: Path, postgres: PostgresServer | None) -> Run:
    """Do it, and say what came of it; ``folder`` keeps the programs' logs."""
    shape, faults = plan_of(seed)
    run = Run(seed=seed, shape=str(shape))
    began_s = CLOCK.monotonic()
    try:
        with ExitStack() as stack:
            hooks = stack.enter_context(hooks_server())
            cluster = stack.enter_context(mock_cluster()) if shape.kafka else None
            site = stack.enter_context(
                Site(
                    shape=shape, folder=folder, hook=hooks.url, postgres=postgres,
                    kafka=cluster.brokers if cluster else "",
                )
            )  # fmt: skip
            Driver(site, run, hooks=hooks, cluster=cluster).go(faults)
    except TimeoutError as error:
        run.stuck += 1
        run.broken.append(f"stuck: {error}")
    except Exception as error:  # noqa: BLE001  of this seed; the others go on
        where = traceback.format_exc().strip().splitlines()[-3:]
        run.broken.append(f"{type(error).__name__}: {error} {where}")
    run.seconds = round(CLOCK.monotonic() - began_s, 1)
    return run


class Driver:
    """One run over one site."""

    def __init__(self, site: Site, run: Run, *, hooks: Hooks, cluster: Any) -> None:  # noqa: ANN401  MockKafka
        self._site = site
        self._run = run
        self._hooks = hooks
        self._cluster = cluster
        self._senders: list[Sender] = []
        self._work: list[Work] = []
        self._training: Training | None = None
        self._let_go = 0
        self._paused_s = 0.0

    def go(self, faults: list[Fault]) -> None:
        """Start, break, mend, drain, check."""
        self._site.begin()
        self._begin_work()
        self._senders = self._opened()
        try:
            for sender in self._senders:
                sender.start()
            for fault in faults:
                _PAUSE.wait(fault.after_s)
                # One that this machine cannot apply is not counted.
                if self._apply(fault):
                    self._run.faults.append(fault.kind)
            _PAUSE.wait(0.5)
            self._mend()
            self._settle(while_sending=True)
            self._drain()
            self._settle(while_sending=False)
        finally:
            for sender in self._senders:
                sender.close()
        self._check()

    def _begin_work(self) -> None:
        site = self._site
        if site.shape.opcua:
            self._work.append(Plc(site))
        if site.shape.training:
            self._training = Training(site)
            self._work.append(self._training)
        if site.shape.rollouts:
            self._work.append(Rollouts(site, bad_first=self._run.seed % 2 == 0))

    def _opened(self) -> list[Sender]:
        site, seed = self._site, self._run.seed
        token = (site.hubs[0].data / "tokens" / "ingest.token").read_text().strip()
        line, doors = site.line.port, [door.port for door in site.doors]
        senders: list[Sender] = [
            SensorSender("MQTT QoS 1", topic="i/ldr", pause_s=0.02, seed=seed, port=line, qos=1),
            MqttSender("MQTT QoS 2", topic="ways/qos2", pause_s=0.02, seed=seed, port=line, qos=2),
            HttpSender(
                "HTTP", topic="ways/http", pause_s=0.04, seed=seed, ports=doors, token=token
            ),
        ]
        if site.shape.kafka:
            senders.append(
                KafkaProducer("Kafka", topic="numbers", pause_s=0.04, seed=seed, brokers=site.kafka)
            )
        if site.shape.device:
            senders.append(
                CameraSender("push camera", pause_s=0.5, seed=seed, port=site.camera_port)
            )
        return senders

    # ---- faults: whether each could be applied; over when it returns

    def _apply(self, fault: Fault) -> bool:
        method: Callable[[Fault], bool | None] = getattr(self, "_" + fault.kind.replace(" ", "_"))
        return method(fault) is not False

    def _kill_hub(self, fault: Fault, *, by: signal.Signals = signal.SIGKILL) -> None:
        hub = self._site.hubs[fault.target]
        hub.end(by)
        _PAUSE.wait(fault.lasts_s)
        hub.start()
        if fault.lasts_s < 1:  # else the next fault may come while it starts
            wait_for(hub.is_ready, why=f"hub {hub.name} is ready after {fault.kind}")

    def _restart_hub(self, fault: Fault) -> None:
        self._kill_hub(fault, by=signal.SIGTERM)

    def _pause_hub(self, fault: Fault) -> None:
        program = self._site.hubs[fault.target].program
        assert program is not None
        _pause(program.process, fault)

    def _cut_senders(self, _fault: Fault) -> None:
        self._site.line.cut()

    def _hold_senders(self, fault: Fault) -> None:
        self._site.line.hold()
        _PAUSE.wait(fault.lasts_s)
        self._site.line.release()

    def _delay_senders(self, fault: Fault) -> None:
        self._site.line.delay(0.1)
        _PAUSE.wait(fault.lasts_s)
        self._site.line.release()

    def _cut_http(self, fault: Fault) -> None:
        self._site.doors[fault.target].cut()

    def _cut_hub_from_broker(self, fault: Fault) -> None:
        self._site.hub_lines[fault.target].cut()

    def _hold_hub_from_broker(self, fault: Fault) -> None:
        self._site.hub_lines[fault.target].hold()
        _PAUSE.wait(fault.lasts_s)
        self._site.hub_lines[fault.target].release()

    def _set_clocks_back(self, fault: Fault) -> None:
        for sender in self._senders:
            sender.clock_error = timedelta(seconds=-3600 * fault.lasts_s)
        _PAUSE.wait(fault.lasts_s)
        for sender in self._senders:
            sender.clock_error = timedelta()

    def _lock_store(self, fault: Fault) -> None:
        """Let another writer hold the file; PostgreSQL ends every connection."""
        site = self._site
        if site.shape.postgres:
            assert site.postgres is not None
            site.postgres.tell(_END_CONNECTIONS)
            return
        path = site.hubs[0].data / "records.db"
        with closing(sqlite3.connect(path, timeout=LONG_S, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            _PAUSE.wait(2 * fault.lasts_s)
            other.execute("ROLLBACK")

    def _fill_disk(self, fault: Fault) -> bool:
        """Leave no byte free below the hub's folder."""
        site = self._site
        if not site.has_own_disk:
            return False
        for hub in site.hubs:
            hub.starts_on_full_disk = hub.is_starting()
        filler = site.hubs[0].data.parent / "full"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(_BLOCK_BYTES)) == _BLOCK_BYTES:
                pass
        _PAUSE.wait(fault.lasts_s)
        filler.unlink()
        return True

    def _restart_broker(self, fault: Fault) -> None:
        site = self._site
        site.stop_broker()
        _PAUSE.wait(fault.lasts_s)
        assert site.broker is not None
        site.broker.start()

    def _pause_broker(self, fault: Fault) -> None:
        assert self._site.broker is not None
        assert self._site.broker.process is not None
        _pause(self._site.broker.process, fault)

    def _kill_device(self, fault: Fault, *, by: signal.Signals = signal.SIGKILL) -> None:
        self._end_device(by)
        _PAUSE.wait(fault.lasts_s)
        self._site.start_device()

    def _end_device(self, by: signal.Signals) -> None:
        self._let_go += self._site.device_let_go() + _MOST_HELD
        self._site.end_device(by)

    def _restart_device(self, fault: Fault) -> None:
        self._kill_device(fault, by=signal.SIGTERM)

    def _pause_device(self, fault: Fault) -> None:
        assert self._site.device is not None
        _pause(self._site.device.process, fault)

    def _change_package(self, fault: Fault) -> None:
        """Turn a byte of the package that lies on the device, while it is away."""
        self._end_device(signal.SIGKILL)
        for path in (self._site.folder / DEVICE / "packages").glob("*.lspkg"):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(bytes(data))
        _PAUSE.wait(fault.lasts_s)
        self._site.start_device()

    def _take_kafka_away(self, fault: Fault) -> None:
        self._cluster.go_away()
        _PAUSE.wait(fault.lasts_s)
        self._cluster.come_back()

    def _kill_trainer(self, _fault: Fault) -> bool:
        assert self._training is not None
        return self._training.kill()

    # ---- the end

    def _mend(self) -> None:
        """Everything is there again, and each way in has brought something to the log."""
        site = self._site
        for relay in (site.line, *site.hub_lines, *site.doors):
            relay.release()
        for hub in site.hubs:
            wait_for(hub.is_ready, why=f"hub {hub.name} is ready again")
        # Else a killed device may start after the last picture was sent.
        wait_for(
            lambda: all(way.stored for way in self._count(self._logged()).values()),
            why="each way in has a message in the log",
        )

    def _settle(self, *, while_sending: bool) -> None:
        for work in self._work:
            if work.while_sending is while_sending:
                work.settle()

    def _drain(self) -> None:
        """Wait until nothing is under way."""
        site = self._site
        for sender in self._senders:
            sender.finish()
        for sender in self._senders:
            wait_for(
                partial(getattr, sender, "is_settled"),
                why=f"all of {sender.way} is acknowledged",
            )
        wait_for(self._is_quiet, why="the log is at rest")
        self._await_refusals()
        wait_for(self._is_posted, why="every event of a rule is posted")
        wait_for(self._is_folded, why="the twin is the fold of the log")
        if site.shape.device:
            wait_for(lambda: self._device_told()["spool_depth"] == 0, why="the spool is empty")
            wait_for(site.device_runs, why="the device runs the package")

    def _device_told(self) -> Any:  # noqa: ANN401  JSON
        return self._site.hubs[0].client().get(f"/devices/{DEVICE}")["told"]

    def _is_quiet(self) -> bool:
        """Whether the log has all that was acknowledged, or has not grown for long."""
        before, until_s = -1, CLOCK.monotonic() + _REST_S
        while CLOCK.monotonic() < until_s:
            found = self._logged()
            if not any(way.lost for way in self._count(found).values()):
                return True
            if len(found) != before:
                before, until_s = len(found), CLOCK.monotonic() + _REST_S
            _PAUSE.wait(0.3)
        return True

    def _await_refusals(self) -> None:
        """Wait until each bad message that was acknowledged is refused, or for as long."""
        until_s = CLOCK.monotonic() + _REST_S
        while any(self._unrefused().values()) and CLOCK.monotonic() < until_s:
            _PAUSE.wait(0.3)

    def _is_posted(self) -> bool:
        events = {one.entry.id for one in self._logged(EVENT_TYPE)}
        return events == set(self._hooks.ids)

    def _is_folded(self) -> bool:
        plant = load_plant(self._site.folder / "plant.toml")
        with open_records(self._site.records, clock=CLOCK) as records:
            built = decode_json(encode(rebuild(records.log, plant=plant).state), where="fold")
        return all(hub.client().get("/twin") == built for hub in self._site.hubs)

    def _logged(self, kind: str = "") -> list[Logged]:
        with open_records(self._site.records, clock=CLOCK) as records:
            return list(read_log(records, kind))

    def _count(self, logged: list[Logged]) -> dict[str, WayCounts]:
        """What became of each way's messages."""
        stored: dict[str, Counter[int]] = {sender.way: Counter() for sender in self._senders}
        by_topic: dict[str, Sender | None] = {sender.topic: sender for sender in self._senders}
        by_topic["ways/kafka"] = by_topic.get("numbers")
        camera = next((one for one in self._senders if isinstance(one, CameraSender)), None)
        for one in logged:
            data = decode_event(one.entry.body, where=one.entry.id).data
            sender = by_topic.get(str(data.get("topic", "")))
            if sender is not None:
                stored[sender.way][sender.number_of(data)] += 1
            elif camera is not None and one.entry.type == PREDICTION_TYPE:
                stored[camera.way][camera.digests.get(_digest_of(data), -1)] += 1
        for sender in self._senders:
            there, acknowledged = stored[sender.way], sender.acknowledged()
            lost = sum(1 for number in acknowledged - sender.spoilt if not there[number])
            let_go = lost if sender is camera else 0
            self._run.ways[sender.way] = WayCounts(
                sent=len(sender.sent),
                repeated=sender.repeated,
                acknowledged=len(acknowledged),
                stored=len(there),
                refused=len(acknowledged & sender.spoilt),
                lost=max(0, lost - self._allowed()) if let_go else lost,
                doubled=sum(1 for count in there.values() if count > 1),
                unjudged=let_go,
            )
        if self._site.shape.device:
            events = Counter(one.entry.id for one in logged if one.entry.type == PREDICTION_TYPE)
            self._run.ways[SPOOL] = spool_counts(*spooled(self._site.spool), stored=events)
        return self._run.ways

    def _allowed(self) -> int:
        """Pictures that the device let go by its own counts, and those it held as it ended."""
        return self._let_go + self._site.device_let_go() + _MOST_HELD

    def _check(self) -> None:
        run, site = self._run, self._site
        unrefused = self._unrefused()
        for hub in site.hubs:
            if code := hub.end(signal.SIGTERM):
                run.broken.append(f"hub {hub.name} ended with code {code}")
        logged = self._logged()
        run.events = len(logged)
        self._count(logged)
        for name, way in run.ways.items():
            if way.lost or way.doubled:
                run.broken.append(f"{name}: {way.lost} lost, {way.doubled} doubled")
        for name, numbers in unrefused.items():
            if numbers:
                run.broken.append(f"{name}: {len(numbers)} refused without a word")
        with open_records(site.records, clock=CLOCK) as records:
            broken = [one for one in records.log.heads() if not records.log.verify(one).ok]
        if broken:
            run.broken.append(f"chains broken: {broken}")
        ids = Counter(one.entry.id for one in logged)
        if twice := sum(1 for count in ids.values() if count > 1):
            run.broken.append(f"{twice} ids are in the log twice")
        run.posted_twice = len(self._hooks.ids) - len(set(self._hooks.ids))
        run.broken += self._package_faults(logged)
        run.broken += [fault for work in self._work for fault in work.faults()]

    def _package_faults(self, logged: list[Logged]) -> list[str]:
        packages = {
            decode_event(one.entry.body, where=one.entry.id).data.get("package")
            for one in logged
            if one.entry.type == PREDICTION_TYPE
        }
        strange = packages - self._site.packages
        return [f"packages ran that nobody took into use: {strange}"] if strange else []

    def _unrefused(self) -> dict[str, set[int]]:
        """Of each way, the bad messages that were acknowledged and have no dead letter."""
        refused = self._refused_numbers()
        return {
            one.way: (one.spoilt & one.acknowledged()) - refused[one.way] for one in self._senders
        }

    def _refused_numbers(self) -> dict[str, set[int]]:
        """Of each way, the messages that stand among the dead letters with a reason."""
        topics = {one.topic: one for one in self._senders}
        found: dict[str, set[int]] = {one.way: set() for one in self._senders}
        clients = [hub.client() for hub in self._site.hubs]
        letters = [(one, letter) for one in clients for letter in one.items("/dead-letters")]
        for client, letter in letters:
            if not letter["reason"] or not letter["detail"]:
                self._run.broken.append(f"dead letter {letter['id']} says no reason")
            if sender := topics.get("numbers" if "kafka:" in letter["topic"] else letter["topic"]):
                data = client.get(f"/dead-letters/{letter['id']}/payload")
                found[sender.way].add(sender.number_of(data))
        for sender in self._senders:
            if isinstance(sender, CameraSender):  # refused by the device, to the camera's face
                found[sender.way] = {number for number, answer in sender.answers if answer}
        return found


def _pause(process: Popen[bytes], fault: Fault) -> None:
    """Stop a program where it stands, and let it go on."""
    process.send_signal(signal.SIGSTOP)
    _PAUSE.wait(fault.lasts_s)
    process.send_signal(signal.SIGCONT)


def _digest_of(data: dict[str, Any]) -> str:
    frame: Callable[[str], Any] = data.get("frame", {}).get
    return str(frame("digest"))
