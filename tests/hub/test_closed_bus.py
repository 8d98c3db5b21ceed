"""An embedded broker that asks for passwords: the hub joins it, others need a line in the file."""

from dataclasses import replace
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from lineside.core import RefusedError, SystemClock
from lineside.hub import HubConfig, running
from lineside.links import open_bus
from lineside.testing.links import wait_until

CLOCK = SystemClock()


def test_the_hub_joins_a_broker_that_others_need_a_password_for(
    config: HubConfig, tmp_path: Path
) -> None:
    passwords = tmp_path / "bus.passwords"
    passwords.write_text(f"edge-1:{PasswordHasher().hash('geheim')}\n")
    closed = replace(config, bus_host="0.0.0.0", bus_password_file=str(passwords))  # noqa: S104  tested
    with running(closed, clock=CLOCK) as hub:
        assert "@" not in hub.bus_url
        assert "lineside-hub" not in (Path(closed.data_dir) / "hub.json").read_text()
        with pytest.raises(RefusedError):
            open_bus(hub.bus_url, client_id="stranger", clock=CLOCK)
        known = hub.bus_url.replace("//0.0.0.0", "//edge-1:geheim@127.0.0.1")
        bus = open_bus(known, client_id="edge-1", clock=CLOCK)
        bus.publish("i/unknown", b"{}")
        bus.close()
        wait_until(hub.services.dead_letters.counts)
        assert hub.services.dead_letters.counts() == {"unknown topic": 1}
