"""Seeds of faults over real programs; ``benchmarks/faults.py`` runs as many as asked."""

import json
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from lineside.core import encode
from lineside.edge.delivery.spool import Draft, open_spool
from tests.faults.driver import (
    BY_BROKER,
    SHAPES,
    kinds_of,
    plan_of,
    run_seed,
    spool_counts,
    summary,
)
from tests.faults.site import BrokerKind, note_commits, spooled
from tests.links.conftest import MOSQUITTO
from tests.store.conftest import PostgresServer, postgres_server

__all__ = ["postgres_server"]

SEEDS = (
    1, 2, 4, 8, 9, 11, 12, 16, 17, 246, 250, 254, 260, 261, 263, 265, 444, 453, 495, 498,
)  # fmt: skip
"""Twenty with every shape and every kind of fault, the shortest of ``results/faults.json``."""


def test_a_seed_is_one_plan_and_these_seeds_have_every_shape() -> None:
    assert plan_of(7) == plan_of(7)
    assert {plan_of(seed)[0] for seed in SEEDS} == set(SHAPES)
    kinds = {fault.kind for seed in SEEDS for fault in plan_of(seed)[1]}
    assert kinds == {kind for shape in SHAPES for kind in kinds_of(shape)}
    for seed in range(200):
        shape, faults = plan_of(seed)
        assert {fault.kind for fault in faults} <= set(kinds_of(shape))


def event_of(name: str, _sequence: int) -> bytes:
    return encode({"id": name})


def test_an_event_that_a_spool_let_go_is_lost_where_the_log_has_it_not(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with closing(open_spool(path, max_bytes=10_000)) as spool:
        note_commits(path)
        names = ("a", "b", "b", "c", "d")
        spool.append([Draft(topic="t", make=partial(event_of, name)) for name in names])
        spool.acknowledge(4)
    counts = spool_counts(*spooled(path), stored=Counter({"a": 2, "b": 1}))
    assert (counts.sent, counts.repeated, counts.acknowledged, counts.stored) == (4, 1, 3, 2)
    assert (counts.lost, counts.doubled) == (1, 1)  # c, which the hub never had; a


def test_the_results_add_up_and_name_every_way_in_by_both_brokers() -> None:
    found = json.loads((Path(__file__).parents[2] / "benchmarks/results/faults.json").read_bytes())
    assert {name: found[name] for name in summary(found["each"])} == summary(found["each"])
    assert found["runs"] >= 500
    assert (found["failed"], found["lost"], found["doubled"], found["stuck"]) == ([], 0, 0, 0)
    ways = {"HTTP", "Kafka", "push camera", *BY_BROKER}
    assert set(found["ways"]) == ways
    assert set(found["brokers"]) == set(BrokerKind)
    for counts in (found["ways"], *found["brokers"].values()):
        assert ways >= set(counts) >= set(BY_BROKER)
        assert all(one["runs"] and one["stored"] for one in counts.values())


@pytest.mark.service
@pytest.mark.slow
@pytest.mark.timeout(420)
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_acknowledged_is_lost_doubled_or_stuck(
    seed: int, tmp_path: Path, postgres_server: PostgresServer, absent: Callable[[str, str], None]
) -> None:
    if MOSQUITTO is None:
        absent("service", "mosquitto is not installed")
    run = run_seed(seed, folder=tmp_path, postgres=postgres_server)
    again = f"python benchmarks/faults.py --seeds 1 --from {seed} --dry"
    assert not run.broken, f"{run.shape}; {run.faults}; again: {again}; logs: {tmp_path}"
    assert all(way.stored for way in run.ways.values())
