"""The hub's own figures: counters for ``/metrics`` and ``/api/v1/stats``, and latencies.

Latency publish → twin is the time from a frame's capture to the commit that moved the twin by its
prediction; the last 10 000 are kept. Of a mailbox that was full nobody knows which messages it
dropped; all of them count as frames dropped, so that no lost frame is left out.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

from lineside.core.worker import WorkerState, running_workers
from lineside.links import MailboxFigures

Table = Callable[[], Mapping[str, Mapping[str, float]]]

_MOST_LATENCIES = 10_000
CAMERAS = "plant"
"""The mailbox that frames come through, among other messages of the plant."""
FULL = "mailbox full"


class Stats:
    """Counts since the hub started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._skew: Counter[str] = Counter()
        self._latencies_s: deque[float] = deque(maxlen=_MOST_LATENCIES)
        self._gauges: dict[str, Callable[[], float]] = {}
        self._tables: dict[str, tuple[str, Table]] = {}
        self._mailboxes: dict[str, Callable[[], MailboxFigures]] = {}

    def count(self, name: str, *, by: int = 1) -> None:
        """Add to a counter; see ``NAMES``."""
        with self._lock:
            self._counts[name] += by

    def refuse(self, reason: str, *, frame: bool) -> None:
        """A message that became a dead letter; ``frame``: it came from a camera."""
        with self._lock:
            self._refused[reason] += 1
            if frame:
                self._dropped[reason] += 1

    def skewed(self, kind: str) -> None:
        """``late`` or ``future``."""
        with self._lock:
            self._skew[kind] += 1

    def latency(self, seconds: float) -> None:
        """One publish → twin."""
        with self._lock:
            self._latencies_s.append(seconds)

    def watch(self, name: str, read: Callable[[], float]) -> None:
        """A figure read when asked for."""
        self._gauges[name] = read

    def watch_each(self, name: str, label: str, *, read: Table) -> None:
        """Figures of several things, read when asked for: ``label`` → figure → value."""
        self._tables[name] = (label, read)

    def watch_mailbox(self, name: str, figures: Callable[[], MailboxFigures]) -> None:
        """Count what a mailbox drops; what waits in it is a gauge."""
        self._mailboxes[name] = figures
        self.watch(f"mailbox_{name}_waiting", lambda: figures().waiting)
        self.watch(f"mailbox_{name}_dropped", lambda: figures().dropped)

    def dropped(self) -> dict[str, int]:
        """Messages of cameras that were refused or lost, by reason."""
        with self._lock:
            dropped = dict(self._dropped)
        if CAMERAS in self._mailboxes and (lost := self._mailboxes[CAMERAS]().dropped):
            dropped[FULL] = lost
        return dropped

    def plain(self) -> dict[str, Any]:
        """Everything, as ``GET /api/v1/stats`` answers."""
        with self._lock:
            counts = {name: self._counts[name] for name in NAMES}
            skew = dict(self._skew)
            refused = dict(self._refused)
            latencies = sorted(self._latencies_s)
        gauges = {name: read() for name, read in sorted(self._gauges.items())}
        return {
            **counts, "frames_dropped": self.dropped(), "refused": refused,
            "skew": {"late": 0, "future": 0, **skew},
            "latency_ms": quantiles_ms(latencies), "gauges": gauges,
            "each": {
                name: {"label": label, "figures": read()}
                for name, (label, read) in sorted(self._tables.items())
            },
        }  # fmt: skip

    def exposition(self) -> bytes:
        """The same in Prometheus' text format, from a registry of its own."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(_Collector(self.plain()))
        return generate_latest(registry)


NAMES = (
    "frames_published", "frames_stored", "frames_duplicate", "messages_received",
    "messages_duplicate", "predictions", "predictions_duplicate", "events", "orders",
    "status_messages", "frames_aged_out",
)  # fmt: skip


def worker_figures() -> dict[str, dict[str, float]]:
    """Return the figures of every running worker, for ``/metrics``; of those of one name the worst.

    ``state``: 0 waiting for its next turn, 1 busy, 2 failing, 3 stuck.
    """
    states = list(WorkerState)
    figures: dict[str, dict[str, float]] = {}
    for worker in running_workers():
        figure = {
            "age_s": round(worker.age_s, 3), "failures": worker.failures,
            "state": states.index(worker.state),
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


def _each(tables: Mapping[str, Any]) -> list[Any]:
    """Gauges ``lineside_<table>_<figure>`` with the thing as label."""
    from prometheus_client.core import GaugeMetricFamily

    families: dict[str, Any] = {}
    for name, table in tables.items():
        for thing, figures in sorted(table["figures"].items()):
            for figure, value in figures.items():
                full = f"lineside_{name}_{figure}"
                family = families.setdefault(
                    full, GaugeMetricFamily(full, f"{name} {figure}", labels=[table["label"]])
                )
                family.add_metric([thing], value)
    return list(families.values())


class _Collector:
    """Turns the plain figures into metric families, at each scrape anew."""

    def __init__(self, plain: Mapping[str, Any]) -> None:
        self._plain = plain

    def collect(self) -> list[Any]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
        )

        families: list[Any] = [
            CounterMetricFamily(f"lineside_{name}", name, self._plain[name]) for name in NAMES
        ]
        for name, label in (("frames_dropped", "reason"), ("refused", "reason"), ("skew", "kind")):
            family = CounterMetricFamily(f"lineside_{name}", name, labels=[label])
            for key, value in sorted(self._plain[name].items()):
                family.add_metric([key], value)
            families.append(family)
        for name, value in self._plain["gauges"].items():
            families.append(GaugeMetricFamily(f"lineside_{name}", name, value))
        families += _each(self._plain["each"])
        latency = GaugeMetricFamily(
            "lineside_publish_to_twin_ms", "capture to twin", labels=["quantile"]
        )
        for key in ("p50", "p95", "p99"):
            if self._plain["latency_ms"][key] is not None:
                latency.add_metric([key], self._plain["latency_ms"][key])
        return [*families, latency]
