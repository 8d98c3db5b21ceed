"""Seeds of faults over real programs; ``benchmarks/faults.py`` runs as many as asked."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.driver import SHAPES, kinds_of, plan_of, run_seed
from tests.links.conftest import MOSQUITTO
from tests.store.conftest import PostgresServer, postgres_server

__all__ = ["postgres_server"]

SEEDS = (*range(1, 12), 14)


def test_a_seed_is_one_plan_and_these_seeds_have_every_shape() -> None:
    assert plan_of(7) == plan_of(7)
    assert {plan_of(seed)[0] for seed in SEEDS} == set(SHAPES)
    for seed in range(200):
        shape, faults = plan_of(seed)
        assert {fault.kind for fault in faults} <= set(kinds_of(shape))


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
