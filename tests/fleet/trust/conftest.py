"""A repository turned by the test, and a device that believes its first root."""

from pathlib import Path

import pytest

from lineside.core import RefusedError
from lineside.fleet import Source, UpdateClient, pin_root
from lineside.fleet.trust.download import UpdateLimits
from lineside.testing import FakeClock
from lineside.testing.trust import TrustSimulator

DAY_S = 86_400.0
ARCHIVE = bytes(range(256)) * 40


@pytest.fixture
def site(clock: FakeClock) -> TrustSimulator:
    return TrustSimulator(clock)


class Device:
    """A device's folder; every ``client`` is the device started anew."""

    def __init__(self, folder: Path, *, source: Source, clock: FakeClock) -> None:
        self.folder, self.source, self.clock = folder, source, clock

    def client(self, limits: UpdateLimits | None = None) -> UpdateClient:
        return UpdateClient(self.folder, source=self.source, clock=self.clock, limits=limits)

    def refreshed(self) -> UpdateClient:
        client = self.client()
        client.refresh()
        return client

    def kept(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.folder / "metadata").glob("*")}


@pytest.fixture
def device(tmp_path: Path, site: TrustSimulator, clock: FakeClock) -> Device:
    folder = tmp_path / "device"
    pin_root(folder, site.first_root)
    return Device(folder, source=site, clock=clock)


def silent(there: int, whole: int) -> None:
    assert 0 <= there <= whole


def refused(device: Device, match: str) -> None:
    """The device refuses, says so, and what it believed it still does.

    A timestamp that holds is kept though what it names does not (TUF 5.4.5): it guards.
    """
    before = device.kept()
    with pytest.raises(RefusedError, match=match) as told:
        device.client().refresh()
    assert told.value.fix
    after = device.kept()
    guards = ("timestamp.json", "snapshot.json")
    assert all(after[name] == data for name, data in before.items() if name not in guards)
    if before:
        device.client().recall()
