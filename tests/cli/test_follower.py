"""``lineside follower`` against a running hub."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from lineside.cli.app import _run
from lineside.core import InvalidError, SystemClock, encode, rfc3339
from lineside.hub import HubConfig, Services, running
from lineside.hub.eventlog.followers import Follower
from lineside.store import Logged
from lineside.testing.links import wait_until
from tests.hub.conftest import PLANT

FILE = "hub.toml"


def refuse(entries: Sequence[Logged]) -> None:
    raise InvalidError("a key begins with $", where=entries[0].entry.subject)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Services]:
    """With two records in the quarantine of ``sink``."""
    (tmp_path / "plant.toml").write_bytes(PLANT)
    plant, data = str(tmp_path / "plant.toml"), str(tmp_path / "data")
    (tmp_path / FILE).write_text(f'data_dir = "{data}"\nplant = "{plant}"\n')
    clock = SystemClock()
    config = HubConfig(data_dir=data, plant=plant, port=0, bus_port=0)
    with ExitStack() as stack:
        services = stack.enter_context(running(config, clock=clock)).services
        for value in (1, 2):
            body = {"topic": "i/ldr", "ts": rfc3339(clock.now()), "ldr": value}
            services.plant_ingest.take_http(encode(body))
        sink = Follower(
            "sink", records=services.records, ledger=services.ledger, handle=refuse,
            type="lineside.plant.sensor.v1",
        )  # fmt: skip
        services.followers.start(sink, stack=stack)
        wait_until(lambda: len(sink.quarantine) == 2)
        # Each takes its part in a thread of its own.
        wait_until(lambda: {one.state for one in services.followers.views()} == {"running"})
        yield services


def test_records_are_listed_tried_again_and_discarded(
    hub: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--config", str(tmp_path / FILE)]
    assert _run(["follower", "list", *at, "--json"]) == 0
    followers = {one["name"]: one for one in json.loads(capsys.readouterr().out)["followers"]}
    assert followers["sink"]["quarantined"] == 2
    assert followers["drift"]["state"] == "running"
    assert _run(["follower", "list", *at]) == 0
    assert "quarantined" in capsys.readouterr().out
    assert _run(["follower", "quarantine", "sink", *at, "--json"]) == 0
    records = json.loads(capsys.readouterr().out)["records"]
    assert [one["reason"] for one in records] == ["i/ldr: a key begins with $"] * 2
    position = records[0]["position"]
    assert _run(["follower", "retry", "sink", "--position", str(position), *at]) == 0
    wait_until(lambda: hub.followers.quarantined("sink")[0].tries == 2)
    assert _run(["follower", "quarantine", "sink", *at]) == 0
    assert "2x" in capsys.readouterr().out
    assert _run(["follower", "discard", "sink", "--position", str(position), *at]) == 0
    assert _run(["follower", "discard", "sink", *at]) == 2
    assert "--yes" in capsys.readouterr().err
    assert _run(["follower", "discard", "sink", "--yes", *at]) == 0
    assert _run(["follower", "quarantine", "sink", *at]) == 0
    assert "Nothing is quarantined" in capsys.readouterr().out
    assert _run(["follower", "retry", "none", *at]) == 3
