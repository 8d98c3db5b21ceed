"""The hub's own figures: counters for ``/metrics`` and ``/api/v1/stats``, and latencies.

1. Latency publish → twin is the time from a frame's capture to the commit that moved the twin by
   its prediction; ``/api/v1/stats`` has the last 10 000, ``/metrics`` a histogram of all.
2. Of a mailbox that was full nobody knows which messages it dropped; all of them count as frames
   dropped, so that no lost frame is left out.
3. ``METRICS`` declares every series of ``/metrics``: seconds and bytes, counters that end in
   ``_total``.
4. Labels are names of the plant file, of devices (at most ``most_devices``), of the hub's own parts
   and of closed sets; never a frame, a part, a package or a person.
5. A figure that cannot be read, because the store is away, is left out of that scrape.
"""

import threading
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from importlib.metadata import version
from itertools import accumulate, product
from typing import Any, Literal, NamedTuple

from lineside.core import LinesideError
from lineside.core.worker import WorkerState, running_workers
from lineside.hub.eventlog.topics import Reason
from lineside.links import MailboxFigures
from lineside.vision import Prediction, StageTimes
from lineside.vision.verdict import PartVerdict

Figures = Mapping[str, Mapping[str, float]]
"""Thing → figure → value."""

_MOST_LATENCIES = 10_000
CAMERAS = "plant"
"""The mailbox that frames come through, among other messages of the plant."""
FULL = "mailbox full"
_DROPS: tuple[str, ...] = (
    Reason.NOT_JSON, Reason.BAD_TIME, Reason.FUTURE, Reason.FIELDS, Reason.TOO_LARGE,
    Reason.PICTURE,
)  # fmt: skip
"""Reasons for which a message of a camera is refused."""
BUCKETS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
_UNITS = (("_ms", 0.001), ("_s", 1.0))
_STAGES = tuple(one.name for one in fields(StageTimes))


class Metric(NamedTuple):
    """A series of ``/metrics``, declared under the figure that it shows.

    Where the figure ends in ``_``, what follows there is the value of the last label.
    """

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


class Stats:
    """Counts since the hub started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: defaultdict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
        self._counts.update({name: Counter({(): 0}) for name in NAMES})
        self._latencies_s: deque[float] = deque(maxlen=_MOST_LATENCIES)
        self._buckets: defaultdict[tuple[str, ...], Counter[int]] = defaultdict(Counter)
        self._sums_s: defaultdict[tuple[str, ...], float] = defaultdict(float)
        self._gauges: dict[str, Callable[[], float]] = {}
        self._tables: dict[str, tuple[str, Callable[[], Figures]]] = {}
        self._mailboxes: dict[str, Callable[[], MailboxFigures]] = {}
        self._cameras: Callable[[], Iterable[str]] = lambda: ()

    def count(self, name: str, *labels: str, by: int = 1) -> None:
        """Add to a counter of ``METRICS``, given the values of its labels."""
        with self._lock:
            self._counts[name][labels] += by

    def refuse(self, reason: str, *, camera: str) -> None:
        """A message that became a dead letter; ``camera``: that its frame is of, "" for others."""
        self.count("refused", reason)
        if camera:
            self.count("frames_dropped", camera, reason)

    def count_answer(
        self, prediction: Prediction, *, verdict: PartVerdict, unsure: bool, latency_s: float
    ) -> None:
        """Count a stored prediction; ``latency_s``: from its frame's capture to the commit."""
        inspection, times = prediction.inspection, prediction.latency_ms
        self.count("predictions")
        self.count("inspection_answers", inspection, str(verdict))
        self.count("inspection_unsure", inspection, by=unsure)
        with self._lock:
            self._latencies_s.append(latency_s)
            self._observe(latency_s, "inspection_capture_to_twin_s", inspection)
            for stage in _STAGES:
                if (seconds := getattr(times, stage) / 1000) > 0:  # its package may lack the stage
                    self._observe(seconds, "inspection_stage_s", inspection, stage)

    def count_commit(self, seconds: float) -> None:
        """Count a transaction of the event log, which took so long."""
        with self._lock:
            self._observe(seconds, "log_commit_s")

    def _observe(self, seconds: float, *series: str) -> None:
        self._buckets[series][bisect_left(BUCKETS_S, seconds)] += 1
        self._sums_s[series] += max(0.0, seconds)

    def watch(self, name: str, read: Callable[[], float]) -> None:
        """A figure read when asked for; ``KeyError`` where ``METRICS`` has none of that name."""
        declared(name)
        self._gauges[name] = read

    def watch_each(self, name: str, label: str, *, read: Callable[[], Figures]) -> None:
        """Figures of several things, read when asked for: ``label`` → figure → value."""
        self._tables[name] = (label, read)

    def watch_mailbox(self, name: str, figures: Callable[[], MailboxFigures]) -> None:
        """Count what a mailbox drops, and what waits in it."""
        self._mailboxes[name] = figures
        self.watch_each("mailbox", "mailbox", read=self._of_mailboxes)

    def watch_drops(self, cameras: Callable[[], Iterable[str]]) -> None:
        """Export dropped frames of these cameras from 0 on: a first one is an increase."""
        self._cameras = cameras

    def _of_mailboxes(self) -> Figures:
        read = {name: figures() for name, figures in self._mailboxes.items()}
        return {
            name: {"waiting": one.waiting, "dropped": one.dropped} for name, one in read.items()
        }

    def dropped(self) -> dict[str, int]:
        """Messages of cameras that were refused or lost, by reason."""
        found: Counter[str] = Counter()
        for (_, reason), count in self._dropped_frames().items():
            found[reason] += count
        return dict(found)

    def _dropped_frames(self) -> dict[tuple[str, ...], int]:
        """The same by camera, "" where nobody knows, and reason."""
        with self._lock:
            dropped = dict(self._counts["frames_dropped"])
        if CAMERAS in self._mailboxes and (lost := self._mailboxes[CAMERAS]().dropped):
            dropped["", FULL] = lost
        return dropped

    def plain(self) -> dict[str, Any]:
        """Everything, as ``GET /api/v1/stats`` answers."""
        with self._lock:
            counts = {name: self._counts[name][()] for name in NAMES}
            skew, refused = (
                {one: count for (one,), count in self._counts[name].items()}
                for name in ("skew", "refused")
            )
            latencies = sorted(self._latencies_s)
        gauges = {name: _while_there(read) for name, read in sorted(self._gauges.items())}
        return {
            **counts, "frames_dropped": self.dropped(), "refused": refused,
            "skew": {"late": 0, "future": 0, **skew},
            "latency_ms": quantiles_ms(latencies),
            "gauges": {name: value for name, value in gauges.items() if value is not None},
            "each": {
                name: {"label": label, "figures": _while_there(read) or {}}
                for name, (label, read) in sorted(self._tables.items())
            },
        }  # fmt: skip

    # ---- for Prometheus

    def exposition(self) -> bytes:
        """The same in Prometheus' text format, from a registry of its own."""
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        return generate_latest(registry)

    def collect(self) -> list[Any]:
        """Return the metric families of the library, as its registry asks for them."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        kinds = {
            "counter": CounterMetricFamily, "gauge": GaugeMetricFamily,
            "histogram": HistogramMetricFamily,
        }  # fmt: skip
        families: dict[str, Any] = {
            key: kinds[metric.kind](series_name(key)[0], metric.help, labels=metric.labels)
            for key, metric in METRICS.items()
        }
        for figure, labels, value in self._samples():
            key, _, more = declared(figure)
            families[key].add_metric((*labels, *more), value * series_name(key)[1])
        bounds = (*map(str, BUCKETS_S), "+Inf")
        with self._lock:
            for (key, *where), counts in self._buckets.items():
                below = accumulate(counts[place] for place in range(len(bounds)))
                families[key].add_metric(
                    where, buckets=list(zip(bounds, below, strict=True)),
                    sum_value=self._sums_s[key, *where],
                )  # fmt: skip
        return [family for family in families.values() if family.samples]

    def _samples(self) -> Iterator[tuple[str, tuple[str, ...], float]]:
        """Yield each figure, the values of its labels, its value."""
        yield "build_info", (version("lineside"),), 1.0
        with self._lock:
            counts = {name: dict(series) for name, series in self._counts.items()}
        drops: dict[tuple[str, ...], int] = dict.fromkeys(product(self._cameras(), _DROPS), 0)
        if CAMERAS in self._mailboxes:
            drops["", FULL] = 0
        counts["frames_dropped"] = drops | self._dropped_frames()
        for name, series in counts.items():
            for labels, count in series.items():
                yield name, labels, count
        for name, read in self._gauges.items():
            if (value := _while_there(read)) is not None:
                yield name, (), value
        for name, (_, read_all) in self._tables.items():
            for thing, figures in sorted((_while_there(read_all) or {}).items()):
                for figure, value in figures.items():
                    yield f"{name}_{figure}", (thing,), value


NAMES = (
    "frames_published", "frames_stored", "frames_duplicate", "messages_received",
    "messages_duplicate", "predictions", "predictions_duplicate", "events", "orders",
    "status_messages", "frames_aged_out",
)  # fmt: skip


def worker_figures() -> dict[str, dict[str, float]]:
    """Return the figures of every running worker, for ``/metrics``; of those of one name the worst.

    ``state``: 0 waiting for its next turn, 1 busy, 2 failing, 3 stuck.
    """
    figures: dict[str, dict[str, float]] = {}
    for worker in running_workers():
        figure = {
            "age_s": round(worker.age_s, 3), "failures": worker.failures,
            "state": list(WorkerState).index(worker.state),
        }  # fmt: skip
        worst = figures.setdefault(worker.name, figure)
        worst.update({name: max(value, worst[name]) for name, value in figure.items()})
    return figures


def quantiles_ms(ordered_s: list[float]) -> dict[str, float | int | None]:
    """p50, p95 and p99 in milliseconds (nearest rank) of sorted seconds; None without any."""
    return {
        "n": len(ordered_s),
        **{f"p{share}": _rank_ms(ordered_s, share) for share in (50, 95, 99)},
    }


def _rank_ms(ordered_s: list[float], percent: int) -> float | None:
    if not ordered_s:
        return None
    place = max(0, -(-percent * len(ordered_s) // 100) - 1)
    return round(ordered_s[place] * 1000, 3)


def _while_there(read: Callable[[], Any]) -> Any:  # noqa: ANN401  what it reads
    try:
        return read()
    except LinesideError:
        return None


@cache
def declared(figure: str) -> tuple[str, Metric, tuple[str, ...]]:
    """Return the key of a figure in ``METRICS``, its metric, and the label that its name holds.

    Raises:
        KeyError: it is not declared.
    """
    if figure in METRICS:
        return figure, METRICS[figure], ()
    name, _, value = figure.rpartition("_")
    return f"{name}_", METRICS[f"{name}_"], (value,)


@cache
def series_name(key: str) -> tuple[str, float]:
    """Return the name of a metric, without ``_total``, and the factor to its base unit."""
    name = f"lineside_{key.removesuffix('_')}"
    for unit, factor in _UNITS:
        if name.endswith(unit):
            return f"{name.removesuffix(unit)}_seconds", factor
    return name, 1.0


METRICS: Mapping[str, Metric] = {
    "build_info": Metric("gauge", "Always 1; the version is the label", ("version",)),
    "frames_published": Metric("counter", "Messages of cameras that came"),
    "frames_stored": Metric("counter", "Frames stored for the first time"),
    "frames_duplicate": Metric("counter", "Frames that came a second time"),
    "frames_aged_out": Metric("counter", "Images that retention deleted"),
    "frames_dropped": Metric(
        "counter", "Messages of cameras refused or lost; no camera: the mailbox was full",
        ("camera", "reason"),
    ),
    "frames_unfinished": Metric("gauge", "Frames that wait for their thumbnail"),
    "messages_received": Metric("counter", "Messages of the plant that came"),
    "messages_duplicate": Metric("counter", "Messages of the plant that came a second time"),
    "predictions": Metric("counter", "Predictions stored for the first time"),
    "predictions_duplicate": Metric("counter", "Predictions that came a second time"),
    "events": Metric("counter", "Entries written to the event log"),
    "orders": Metric("counter", "Orders placed"),
    "status_messages": Metric("counter", "Status messages of devices"),
    "refused": Metric("counter", "Messages that became dead letters", ("reason",)),
    "skew": Metric("counter", "Messages whose time is late or in the future", ("kind",)),
    "camera_frames": Metric("counter", "Frames stored for the first time", ("camera",)),
    "camera_frame_age_s": Metric(
        "gauge", "Time since the newest frame was captured; none before the first", ("camera",)
    ),
    "camera_state_": Metric(
        "gauge", "1 for the state that its tile shows: live, no signal, never, moved, dark, "
        "overexposed, blurred or frozen", ("camera", "state"),
    ),
    "camera_lost": Metric("gauge", "1 while no device that reports reaches it", ("camera",)),
    "camera_images_lost_": Metric(
        "counter", "Its images that its devices lost or could not judge, since their start",
        ("camera", "reason"),
    ),
    "inspection_answers": Metric(
        "counter", "Predictions by the verdict that each alone gives", ("inspection", "verdict")
    ),
    "inspection_unsure": Metric(
        "counter", "Predictions with an unsure answer, or of an image that was not judged",
        ("inspection",),
    ),
    "inspection_stage_s": Metric(
        "histogram", "Time of each stage on the device; total: all of them and what is between",
        ("inspection", "stage"),
    ),
    "inspection_capture_to_twin_s": Metric(
        "histogram", "Time from a frame's capture to the commit of its prediction", ("inspection",)
    ),
    "inspection_drift_": Metric(
        "gauge", "How near a figure's test is to telling drift; at 1 it tells it and begins anew",
        ("inspection", "figure"),
    ),
    "inspection_drifts_": Metric(
        "counter", "How often a figure's drift was told", ("inspection", "figure")
    ),
    "verdicts_": Metric("counter", "Parts by verdict, since the first", ("line", "verdict")),
    "verdicts_waiting": Metric("gauge", "Parts that wait for answers", ("line",)),
    "verdicts_late": Metric("counter", "Answers that came after the verdict", ("line",)),
    "shift_parts": Metric("gauge", "Parts of the shift that runs", ("line",)),
    "shift_reject_rate": Metric("gauge", "Share of its parts rejected (0-1)", ("line",)),
    "shift_review_share": Metric("gauge", "Share of its parts for review (0-1)", ("line",)),
    "shift_first_pass_yield": Metric("gauge", "Share of its parts ok at once (0-1)", ("line",)),
    "shift_latency_p50_ms": Metric("gauge", "Capture to verdict, median of the shift", ("line",)),
    "shift_latency_p99_ms": Metric("gauge", "Capture to verdict, p99 of the shift", ("line",)),
    "shift_limit_reject": Metric("gauge", "Limit of the reject rate (0-1)", ("line",)),
    "rule_records_": Metric(
        "counter", "Records of a rule since its declaration: read, passed, late, keyless, "
        "unreadable, evicted, hurried, given", ("rule", "outcome"),
    ),
    "rule_records_held": Metric("gauge", "Held back until no earlier one can come", ("rule",)),
    "rule_records_behind": Metric("gauge", "Entries of the log not read yet", ("rule",)),
    "device_online": Metric("gauge", "1 while it reports", ("device",)),
    "device_heard_timestamp_s": Metric("gauge", "Unix time of its last message", ("device",)),
    "device_clock_offset_s": Metric("gauge", "Its clock against ours; above 0: ahead", ("device",)),
    "device_spool_depth": Metric("gauge", "Events that wait on it for the hub", ("device",)),
    "device_spool_dropped": Metric("counter", "Events it gave up for space", ("device",)),
    "device_frames": Metric("counter", "Frames it captured since its start", ("device",)),
    "device_predictions": Metric("counter", "Predictions it made since its start", ("device",)),
    "device_outputs_fail_safe": Metric(
        "gauge", "Outputs of it with a fault: fail-safe, or out of reach", ("device",)
    ),
    "device_outputs_late": Metric(
        "counter", "Verdicts that came too late to switch its outputs", ("device",)
    ),
    "follower_position": Metric("gauge", "Position in the log up to which it came", ("follower",)),
    "follower_lag": Metric("gauge", "Records of the log before it", ("follower",)),
    "follower_lag_s": Metric("gauge", "Age of the oldest record before it", ("follower",)),
    "follower_quarantined": Metric("gauge", "Records it set aside", ("follower",)),
    "follower_state_": Metric(
        "gauge", "1 for its state: running, waiting, standby or stopped", ("follower", "state")
    ),
    "webhook_sent": Metric("counter", "Events posted", ("webhook",)),
    "webhook_retried": Metric("counter", "Posts that were tried again", ("webhook",)),
    "webhook_dead": Metric("counter", "Events given up", ("webhook",)),
    "webhook_waiting": Metric("gauge", "Keys with something to post", ("webhook",)),
    "kafka_sent": Metric("counter", "Events sent to Kafka"),
    "kafka_bridged": Metric("counter", "Messages of the bus sent to Kafka"),
    "kafka_bridge_waiting": Metric("gauge", "Messages that wait for Kafka"),
    "kafka_bridge_dropped": Metric("counter", "Messages of QoS 0 dropped before Kafka"),
    "kafka_taken": Metric("counter", "Records read from Kafka"),
    "kafka_dead": Metric("counter", "Records of Kafka that could not be taken"),
    "opcua_clients": Metric("gauge", "Clients of the OPC UA server"),
    "opcua_dropped": Metric("counter", "Notifications dropped for slow OPC UA clients"),
    "sparkplug_dropped": Metric("counter", "Verdicts that waited for Sparkplug and went"),
    "broker_clients": Metric("gauge", "Clients of the hub's own broker"),
    "broker_waiting_bytes": Metric("gauge", "Bytes that wait in it for clients"),
    "broker_dropped": Metric("counter", "Messages that the broker dropped"),
    "broker_packets_oversized": Metric("counter", "Packets above the limit"),
    "mailbox_waiting": Metric("gauge", "Messages of the bus that wait in the hub", ("mailbox",)),
    "mailbox_dropped": Metric("counter", "Messages of QoS 0 dropped in the hub", ("mailbox",)),
    "system_up": Metric(
        "gauge", "1 while it can be used: records, bus, disk (as much free as min_free_bytes)",
        ("system",),
    ),
    "log_position": Metric("gauge", "Position of the newest entry of the event log"),
    "log_commit_s": Metric("histogram", "Time of a transaction that writes to the event log"),
    "disk_free_bytes": Metric("gauge", "Free on the disk of data_dir"),
    "disk_least_bytes": Metric("gauge", "min_free_bytes of the settings"),
    "data_bytes": Metric("gauge", "What data_dir takes, where retention has a limit"),
    "certificate_ends_timestamp_s": Metric("gauge", "Unix time at which the hub's own is over"),
    "alerts_open": Metric("gauge", "Open alerts"),
    "worker_age_s": Metric("gauge", "Time since its last turn succeeded", ("worker",)),
    "worker_failures": Metric("gauge", "Turns that failed since then", ("worker",)),
    "worker_state": Metric("gauge", "0 waiting, 1 busy, 2 failing, 3 stuck", ("worker",)),
    "part_held": Metric("gauge", "1 while this hub does that part of the work", ("part",)),
    "job_messages_waiting": Metric("gauge", "Messages of jobs that wait for the bus"),
    "job_messages_dropped": Metric("counter", "Messages of jobs dropped"),
    "job_requests_refused": Metric("counter", "Requests of things above their allowance"),
    "job_requests_ignored": Metric("counter", "Of these, without an answer"),
    "trial_reports_refused": Metric("counter", "Reports of trials that were refused"),
    "downloads_now": Metric("gauge", "Packages on their way to devices"),
    "downloads_sent_away": Metric("counter", "Downloads asked to come again"),
    "inference_waiting": Metric("gauge", "Calls of inference that wait"),
    "inference_refused": Metric("counter", "Calls of inference refused with 429"),
    "http_connections_refused": Metric("counter", "Connections above the limit"),
    "http_connections_too_slow": Metric("counter", "Connections closed because they were slow"),
}  # fmt: skip
"""Every series, by figure, in the order of ``docs/reference/metrics.md``."""
