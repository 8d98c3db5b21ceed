"""Faults over real programs: nothing acknowledged lost, nothing doubled, nothing stuck.

    python benchmarks/faults.py [--seeds 500] [--from 1] [--fresh] [--dry] [--keep FOLDER]

Each seed is one run of ``tests/faults/driver.py``: a site of real programs (hubs, brokers,
database, device), senders on every way in, two to four faults, then a check of what was promised.
Runs are added up in ``results/faults.json`` after each seed, and seeds that stand there are passed
over, so that 500 can be done in parts; those of an older plan are forgotten. ``--fresh`` begins
anew, ``--dry`` writes nothing. A seed that fails is printed with the command that runs it again,
and its logs stay in the folder named. The exit status is 1 when one failed.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import measure

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.faults.driver import PLAN, plan_of, run_seed, summary
from tests.links.conftest import MOSQUITTO
from tests.store.conftest import PostgresServer, postgres_binaries

NAME = "faults"


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--seeds", type=int, default=500)
    asked.add_argument("--from", dest="first", type=int, default=1)
    asked.add_argument("--fresh", action="store_true")
    asked.add_argument("--dry", action="store_true", help="run the seeds, and write no results")
    asked.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()))
    given = asked.parse_args()
    if MOSQUITTO is None:
        print("mosquitto is not installed")
        return 2
    # A program that does not end writes what its threads do to its log.
    os.environ.setdefault("PYTHONFAULTHANDLER", "1")  # noqa: TID251  handed on to children
    runs = {} if given.fresh or given.dry else known()
    with ExitStack() as stack:
        servers: list[PostgresServer] = []
        for seed in range(given.first, given.first + given.seeds):
            if seed in runs:
                continue
            if plan_of(seed)[0].postgres and not servers:
                servers.append(started(stack))
            runs[seed] = run_one(seed, keep=given.keep, server=servers[0] if servers else None)
            if not given.dry:
                # Another part of the seeds may be run beside this one.
                runs = ({} if given.fresh else known()) | runs
                at = datetime.now(tz=UTC).isoformat(timespec="seconds")
                measure.write(NAME, {"at": at, **summary(list(runs.values()))}, answer)
    return 1 if any(run["broken"] for run in runs.values()) else 0


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    lost, doubled, stuck = result["lost"], result["doubled"], result["stuck"]
    wrong = f"{lost:,} lost and {doubled:,} stored twice" if lost or doubled else "Nothing"
    failed = f"; failed runs: {len(result['failed']):,}" if result["failed"] else ""
    return (
        f"{wrong} in {result['runs']:,} runs with {result['events']:,} events,"
        f" and {f'{stuck:,}' if stuck else 'nothing'} stuck{failed}."
    )


def known() -> dict[int, dict[str, Any]]:
    """The runs of this plan that were done before, by seed."""
    path = measure.RESULTS / f"{NAME}.json"
    kept = json.loads(path.read_bytes()) if path.is_file() else {}
    return {int(run["seed"]): run for run in kept["each"]} if kept.get("plan") == PLAN else {}


def started(stack: ExitStack) -> PostgresServer:
    """A PostgreSQL server that ends with the stack."""
    folder = Path(tempfile.mkdtemp(prefix="lineside-postgres-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    server = PostgresServer(folder=folder, binaries=postgres_binaries()[0])
    server.make()
    server.start()
    stack.callback(server.stop)
    return server


def run_one(seed: int, *, keep: Path, server: PostgresServer | None) -> dict[str, Any]:
    """One seed; its folder stays where it failed."""
    folder = Path(tempfile.mkdtemp(prefix=f"lineside-faults-{seed}-", dir=keep))
    run = run_seed(seed, folder=folder, postgres=server)
    verdict = "; ".join(run.broken) or "holds"
    print(f"{seed}: {run.shape}: {', '.join(run.faults)}: {verdict} ({run.seconds} s)", flush=True)
    if run.broken:
        print(f"  again: python benchmarks/faults.py --seeds 1 --from {seed} --dry")
        print(f"  logs: {folder}", flush=True)
    else:
        shutil.rmtree(folder)
    return run.plain()


if __name__ == "__main__":
    sys.exit(main())
