"""``started`` of ``benchmarks/serving_peers.py``, with servers that end by themselves."""

import runpy
import sys
from pathlib import Path

PEERS = Path(__file__).parents[1] / "benchmarks" / "serving_peers.py"


def test_a_server_that_ended_by_itself_is_no_error_at_the_end() -> None:
    with runpy.run_path(str(PEERS))["started"]([sys.executable, "-c", ""]) as child:
        assert child.wait() == 0
