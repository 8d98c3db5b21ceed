"""The plant file of a device that follows the hub's, without a new start of the program."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lineside.core import (
    SystemClock,
    UnavailableError,
    decode,
    digest_of,
    encode,
    load_plant,
)
from lineside.core.drivers import SecretUrl
from lineside.core.plant_check import (
    PlantText,
    plant_secrets,
    plant_text_topic,
    with_secrets,
    without_secrets,
)
from lineside.edge import EdgeConfig, run
from lineside.edge.deploy.deployment import DeploymentStore
from lineside.edge.deploy.package_source import PackageSource, source_for
from lineside.edge.hub_client import HubClient
from lineside.edge.run import PlantFile
from lineside.fleet import pin_root
from lineside.links import Bus, open_bus
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, wait_until
from lineside.testing.trust import TrustSimulator
from tests.edge.conftest import PackageServer

PLANT = """schema = "lineside.plant/1"
site = "demo"
line = [{ id = "warehouse", name = "Warehouse" }]

[[camera]]
id = "rack"
line = "warehouse"
source = "mqtt:i/cam"

[[inspection]]
id = "stock"
camera = "rack"
task = "anomaly"
"""
Follows = Callable[..., bool]
SECOND = '\n[[inspection]]\nid = "second"\ncamera = "rack"\ntask = "anomaly"\n'


def told(text: str, *, known: tuple[str, ...] = (PLANT,), digest: str = "") -> dict[str, Any]:
    return {
        "schema": "lineside.plant-text/1", "number": 2, "text": text,
        "digest": digest or digest_of(text.encode()),
        "known": [digest_of(one.encode()) for one in known],
    }  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> EdgeConfig:
    (tmp_path / "plant.toml").write_text(PLANT)
    return EdgeConfig(
        device="edge-1", bus=SecretUrl(f"memory://{tmp_path.name}"),
        plant=str(tmp_path / "plant.toml"),
        data_dir=str(tmp_path / "edge"), unsigned="allowed",
    )  # fmt: skip


@pytest.fixture
def bus(config: EdgeConfig, clock: FakeClock) -> Iterator[Bus]:
    opened = open_bus(config.bus, client_id="hub", clock=clock)
    yield opened
    opened.close()


def follows(config: EdgeConfig, bus: Bus, payload: bytes) -> bool:
    source = source_for(config, store=DeploymentStore(config.folder), clock=FakeClock())
    with closing(told_file(config, bus, payload, source=source, clock=FakeClock())) as file:
        return file.has_changed()


def told_file(
    config: EdgeConfig, bus: Bus, payload: bytes, *, source: PackageSource, clock: FakeClock
) -> PlantFile:
    """The plant file of a device that has got a message."""
    plant = load_plant(Path(config.plant))
    file = PlantFile(config, plant=plant, bus=bus, source=source, clock=clock)
    assert not file.has_changed()
    bus.publish(plant_text_topic("demo"), payload, retain=True)
    mailbox = file._mailbox
    assert mailbox is not None
    wait_until(lambda: mailbox.figures().received > 0)
    return file


def test_a_file_that_came_from_the_hub_follows_it(config: EdgeConfig, bus: Bus) -> None:
    path = Path(config.plant)
    path.chmod(0o600)
    assert follows(config, bus, encode(told(PLANT + SECOND)))
    assert path.read_text() == PLANT + SECOND
    assert path.stat().st_mode & 0o777 == 0o600


def sign(site: TrustSimulator, number: int, text: str, *, group: str = "plant-file") -> None:
    """Sign a version of the plant file as the hub does, but for the content of the signed file."""
    path = site.add(text.encode(), group=group, version=str(number))
    custom = site.roles["default"].targets[path].unrecognized_fields["custom"]
    custom |= {"digest": digest_of(text.encode()), "inspection": ""}
    site.publish()


SECRET = PLANT.replace("mqtt:i/cam", "rtsp://eye:first@10.0.0.1/a")


@pytest.mark.parametrize("is_own", [True, False], ids=["enrolled", "the hub's own file"])
def test_follows_a_secret_that_changed(config: EdgeConfig, bus: Bus, *, is_own: bool) -> None:
    """A file in the device's folder has what the hub hands out; any other keeps what it has."""
    path = config.folder / "plant.toml" if is_own else Path(config.plant)
    path.parent.mkdir(exist_ok=True)
    camera = SECRET[SECRET.index("[[camera]]") : SECRET.index("[[inspection]]")]
    other = SECRET + camera.replace('"rack"', '"roof"')
    path.write_text(other)
    config = replace(config, plant=str(path))
    known = digest_of(without_secrets(other).encode())
    handed_out = with_secrets(
        without_secrets(other), [one for one in plant_secrets(other) if one.name == "camera/rack"]
    ).replace("first", "second")
    message = told(handed_out, digest=known, known=())
    plant = load_plant(path)
    source = source_for(config, store=DeploymentStore(config.folder), clock=FakeClock())
    with closing(PlantFile(config, plant=plant, bus=bus, source=source, clock=FakeClock())) as file:
        bus.publish(plant_text_topic("demo"), encode(message), retain=True)
        wait_until(file.has_changed)
    found = load_plant(path)
    assert found.find_camera("rack").source.reveal() == "rtsp://eye:second@10.0.0.1/a"
    roof = found.find_camera("roof").source.reveal()
    assert roof == ("rtsp://…@10.0.0.1/…" if is_own else "rtsp://eye:first@10.0.0.1/a")
    assert path.stat().st_mode & 0o777 == (0o600 if is_own else 0o644)


def test_a_file_beside_the_hub_is_not_written_again(config: EdgeConfig, bus: Bus) -> None:
    """The hub writes it; what it hands out has fewer secrets."""
    path = Path(config.plant)
    before = SECRET.replace('"rtsp://eye:first@10.0.0.1/a"', "'rtsp://eye:first@10.0.0.1/a'")
    path.write_text(before)
    message = told(without_secrets(before + SECOND), known=(without_secrets(before),))
    source = source_for(config, store=DeploymentStore(config.folder), clock=FakeClock())
    with closing(told_file(config, bus, b"{}", source=source, clock=FakeClock())) as file:
        path.write_text(before + SECOND)
        written = path.stat().st_mtime_ns
        bus.publish(plant_text_topic("demo"), encode(message), retain=True)
        wait_until(file.has_changed)
    assert path.read_text() == before + SECOND
    assert path.stat().st_mtime_ns == written


class TestADeviceWithATrustRoot:
    @pytest.fixture
    def site(self, clock: FakeClock) -> TrustSimulator:
        return TrustSimulator(clock=clock)

    @pytest.fixture
    def source(self, config: EdgeConfig, site: TrustSimulator, clock: FakeClock) -> PackageSource:
        pin_root(config.folder / "trust", site.first_root)
        return PackageSource(DeploymentStore(config.folder), repository=site, clock=clock)

    @pytest.fixture
    def follows(
        self, config: EdgeConfig, bus: Bus, source: PackageSource, clock: FakeClock
    ) -> Follows:
        def follow(text: str = PLANT + SECOND, before: str = PLANT) -> bool:
            payload = encode(told(text, known=(before,)))
            with closing(told_file(config, bus, payload, source=source, clock=clock)) as file:
                return file.has_changed()

        return follow

    def test_takes_over_a_text_that_is_signed_as_the_next_version(
        self, site: TrustSimulator, follows: Follows, config: EdgeConfig
    ) -> None:
        for number, text in enumerate((PLANT, PLANT + SECOND), start=1):
            sign(site, number, text)
        assert follows()
        assert Path(config.plant).read_text() == PLANT + SECOND
        sign(site, 3, PLANT)  # rolled back: the same text under a higher number
        assert follows(PLANT, before=PLANT + SECOND)
        assert Path(config.plant).read_text() == PLANT

    @pytest.mark.parametrize(
        ("signed", "group"),
        [
            ((), "plant-file"),
            ((PLANT,), "plant-file"),
            ((PLANT + SECOND,), "plant-file"),
            ((PLANT + SECOND, PLANT), "plant-file"),
            ((PLANT, PLANT + SECOND), "tiles"),
        ],
        ids=["nothing signed", "not signed", "own file", "older version", "signed as a model"],
    )
    def test_refuses_what_anybody_may_publish(
        self, site: TrustSimulator, follows: Follows, config: EdgeConfig,
        signed: tuple[str, ...], group: str,
    ) -> None:  # fmt: skip
        site.publish()
        for number, text in enumerate(signed, start=1):
            sign(site, number, text, group=group)
        assert not follows()
        assert Path(config.plant).read_text() == PLANT

    def test_fetches_the_text_that_the_bus_does_not_carry(
        self, site: TrustSimulator, config: EdgeConfig, bus: Bus, clock: FakeClock
    ) -> None:
        for number, text in enumerate((PLANT, PLANT + SECOND), start=1):
            sign(site, number, text)
        pin_root(config.folder / "trust", site.first_root)
        served = {"text": PLANT}
        asked: list[str] = []

        def fetch(address: str) -> bytes:
            asked.append(address)
            return served["text"].encode()

        store = DeploymentStore(config.folder)
        source = PackageSource(store, repository=site, fetch=fetch, clock=clock)
        payload = encode(told(PLANT + SECOND) | {"text": ""})
        with closing(told_file(config, bus, payload, source=source, clock=clock)) as file:
            assert not file.has_changed()  # what is served is not what is signed
            served["text"] = PLANT + SECOND
            bus.publish(plant_text_topic("demo"), payload, retain=True)
            wait_until(file.has_changed)
        assert asked == ["/api/v1/plant/versions/2/content"] * 2
        assert Path(config.plant).read_text() == PLANT + SECOND

    @pytest.mark.parametrize("status", [401, 403, 404, 400, 503])
    def test_asks_again_for_a_text_that_is_not_handed_out_yet(
        self, site: TrustSimulator, config: EdgeConfig, bus: Bus, clock: FakeClock,
        packages: PackageServer, status: int,
    ) -> None:  # fmt: skip
        for number, text in enumerate((PLANT, PLANT + SECOND), start=1):
            sign(site, number, text)
        pin_root(config.folder / "trust", site.first_root)
        hub = HubClient(packages.url)
        source = PackageSource(
            DeploymentStore(config.folder), repository=site, fetch=hub.fetch, clock=clock
        )
        place = "/api/v1/plant/versions/2/content"
        packages.answers[place] = (status, b"not now", {})
        payload = encode(told(PLANT + SECOND) | {"text": ""})
        with closing(told_file(config, bus, payload, source=source, clock=clock)) as file:
            assert not file.has_changed()
            packages.answers[place] = (200, (PLANT + SECOND).encode(), {})
            clock.advance(60)
            assert file.has_changed()
        assert Path(config.plant).read_text() == PLANT + SECOND

    def test_asks_again_while_the_hub_is_away(
        self, site: TrustSimulator, source: PackageSource, config: EdgeConfig, bus: Bus,
        clock: FakeClock,
    ) -> None:  # fmt: skip
        for number, text in enumerate((PLANT, PLANT + SECOND), start=1):
            sign(site, number, text)
        site.away = True
        payload = encode(told(PLANT + SECOND))
        with closing(told_file(config, bus, payload, source=source, clock=clock)) as file:
            assert not file.has_changed()
            site.away = False
            assert not file.has_changed()
            clock.advance(60)
            assert file.has_changed()
        assert Path(config.plant).read_text() == PLANT + SECOND


def test_a_text_longer_than_a_plant_file_is_not_read(
    config: EdgeConfig, packages: PackageServer
) -> None:
    place = "/api/v1/plant/versions/2/content"
    packages.answers[place] = (200, bytes(1_000_001), {})
    at_hub = replace(config, hub=packages.url)
    source = source_for(at_hub, store=DeploymentStore(config.folder), clock=FakeClock())
    version = decode(PlantText, encode(told(PLANT) | {"text": ""}), where="told")
    with pytest.raises(UnavailableError, match="more than 1000000 bytes"):
        source.plant_text(version)


def test_a_device_that_trusts_nobody_takes_over_nothing(config: EdgeConfig, bus: Bus) -> None:
    refusing = replace(config, unsigned="refused")
    assert not follows(refusing, bus, encode(told(PLANT + SECOND)))
    assert Path(config.plant).read_text() == PLANT


@pytest.mark.parametrize(
    "message",
    [
        told(PLANT),
        told(PLANT + SECOND, known=("another file",)),
        told(PLANT + SECOND, digest=digest_of(b"other")),
        told(PLANT.replace('"demo"', '"elsewhere"')),
        told("nonsense"),
        {"schema": "lineside.plant-text/1"},
    ],
    ids=["same", "own", "damaged", "other site", "no plant", "no text"],
)
def test_any_other_text_leaves_the_device_as_it_is(
    config: EdgeConfig, bus: Bus, message: dict[str, Any]
) -> None:
    assert not follows(config, bus, encode(message))
    assert Path(config.plant).read_text() == PLANT


def test_the_program_goes_on_with_the_changed_file_without_a_new_start(config: EdgeConfig) -> None:
    clock, stop = SystemClock(), threading.Event()
    hub = open_bus(config.bus, client_id="hub", clock=clock)
    status = hub.subscribe(("lineside/demo/device/edge-1/status",), name="status")
    program = threading.Thread(
        target=run, args=(config,), kwargs={"clock": clock, "stop": stop}, name="program"
    )
    program.start()
    states = []
    for expected in (b'"online"', b'"offline"', b'"online"'):
        if expected == b'"offline"':
            hub.publish(plant_text_topic("demo"), encode(told(PLANT + SECOND)), retain=True)
        while message := status.get(timeout_s=LONG_S):
            if expected in message.payload:
                states.append(expected)
                break
    stop.set()
    program.join(LONG_S)
    hub.close()
    assert len(states) == 3
    assert [one.id for one in load_plant(Path(config.plant)).inspection] == ["stock", "second"]
