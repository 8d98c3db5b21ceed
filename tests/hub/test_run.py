"""The hub as a program: its own broker, its port, its death."""

import json
import os
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lineside.cli.app import app
from lineside.core import (
    ConflictError,
    SystemClock,
    UnavailableError,
    digest_of,
    encode,
    frame_id,
    rfc3339,
)
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, RunningHub, running, sign_in_link
from lineside.hub.run import run
from lineside.links import Bus, open_bus
from lineside.streams import encode_event, prediction_event
from lineside.testing.links import LONG_S, wait_until
from lineside.vision import FrameRef
from tests.hub.conftest import PACKAGE, answered

Pictures = Callable[..., bytes]
CLOCK = SystemClock()


@pytest.fixture
def stored(config: HubConfig) -> HubConfig:
    """Settings that keep everything in the data folder."""
    return replace(config, records=SecretUrl(""), blobs=SecretUrl(""))


@contextmanager
def client(url: str) -> Iterator[Bus]:
    opened = open_bus(url, client_id=f"test-{os.urandom(4).hex()}", clock=CLOCK)
    try:
        yield opened
    finally:
        opened.close()


def camera_message(picture: bytes) -> bytes:
    import base64

    data = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
    return encode({"ts": rfc3339(CLOCK.now()), "data": data})


def prediction_message(picture: bytes, *, sequence: int) -> bytes:
    now, digest = CLOCK.now().replace(microsecond=0), digest_of(picture)
    named = frame_id(camera="rack", captured_at=now, digest=digest)
    ref = FrameRef(id=named, camera="rack", captured_at=now, digest=digest)
    prediction = answered(ref, ("red",), package=PACKAGE)
    event = prediction_event(prediction, site="hall", device="edge-1", sequence=sequence, first=1)
    return encode_event(event)


STATUS = encode(
    {"schema": "lineside.device/1", "device": "edge-1", "state": "online", "packages": []}
)


def ask(hub: RunningHub, path: str) -> Any:  # noqa: ANN401  JSON
    token = (Path(hub.services.config.data_dir) / "tokens" / "admin.token").read_text().strip()
    return get(hub.url + path, token=token)


def get(url: str, *, token: str) -> Any:  # noqa: ANN401  JSON
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # noqa: S310  ours
    with urllib.request.urlopen(request, timeout=LONG_S) as answer:  # noqa: S310  ours
        return json.loads(answer.read())


def test_messages_on_the_embedded_broker_are_kept_answered_and_acknowledged(
    stored: HubConfig, jpeg: Pictures
) -> None:
    with running(stored, clock=CLOCK) as hub, client(hub.bus_url) as bus:
        acks = bus.subscribe(("lineside/hall/device/edge-1/ack",))
        bus.publish("i/cam", camera_message(jpeg("red")))
        bus.publish("i/unknown", b"{}")
        bus.publish("lineside/hall/device/edge-1/status", STATUS, retain=True)
        bus.publish(
            "lineside/hall/warehouse/rack/prediction", prediction_message(jpeg("red"), sequence=1)
        )
        ack = acks.get(timeout_s=LONG_S)
        assert ack is not None
        assert json.loads(ack.payload)["sequence"] == 1
        wait_until(lambda: ask(hub, "/api/v1/stats")["frames_stored"] == 1)
        assert ask(hub, "/api/v1/twin/slots/B1/seen") == "present"
        wait_until(lambda: ask(hub, "/api/v1/dead-letters")["counts"] == {"unknown topic": 1})
        told = ask(hub, "/readyz")
        assert (told["ready"], told["away"]) == (True, [])
        states = {one["name"]: one["state"] for one in told["followers"]}
        assert states == dict.fromkeys(
            (
                "events",
                "verdicts",
                "pictures",
                "line-figures",
                "alerts",
                "operating-points",
                "drift",
                "rule-sums",
                "rules",
                "approvals",
                "comparisons",
                "replays",
            ),
            "running",
        )  # fmt: skip


def test_an_order_reaches_the_factory_over_the_embedded_broker(
    stored: HubConfig, jpeg: Pictures
) -> None:
    with running(stored, clock=CLOCK) as hub, client(hub.bus_url) as bus:
        orders = bus.subscribe(("f/o/order",), qos=2)
        bus.publish("lineside/hall/device/edge-1/status", STATUS, retain=True)
        bus.publish(
            "lineside/hall/warehouse/rack/prediction", prediction_message(jpeg("red"), sequence=1)
        )
        wait_until(lambda: hub.services.ledger.state.revision >= 1)  # the verdict counts too
        hub.services.orders.place("red", by="anna")
        message = orders.get(timeout_s=LONG_S)
        assert message is not None
        assert json.loads(message.payload)["type"] == "RED"
        assert orders.get(timeout_s=1.5) is None


def test_a_second_hub_on_the_same_data_is_refused(stored: HubConfig) -> None:
    with running(stored, clock=CLOCK), pytest.raises(ConflictError), running(stored, clock=CLOCK):
        pass


def test_a_port_that_is_taken_is_said(stored: HubConfig) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = replace(stored, port=taken.getsockname()[1])
        with pytest.raises(UnavailableError, match="cannot listen"), running(busy, clock=CLOCK):
            pass


def test_run_announces_link_and_bus_and_stops_when_told(stored: HubConfig, tmp_path: Path) -> None:
    said: list[str] = []
    stop = threading.Event()
    program = threading.Thread(
        target=run, args=(stored,), kwargs={"clock": CLOCK, "stop": stop, "announce": said.append}
    )
    program.start()
    wait_until(lambda: len(said) == 2)
    assert said[0].startswith("bus mqtt://127.0.0.1:")
    link = said[1].split()[-1]
    with urllib.request.urlopen(link, timeout=LONG_S) as answer:  # noqa: S310  ours
        assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(link, timeout=LONG_S)  # noqa: S310  ours
    further = sign_in_link(stored, name="bob", clock=CLOCK)
    with urllib.request.urlopen(further, timeout=LONG_S) as answer:  # noqa: S310  ours
        assert answer.status == 200
    settings = tmp_path / "hub.toml"
    settings.write_text(f'data_dir = "{stored.folder}"\nplant = "{stored.plant}"\n')
    piped = CliRunner().invoke(app, ["hub", "link", "--config", str(settings)])
    assert piped.stdout.startswith("http://127.0.0.1:")
    stop.set()
    program.join(timeout=LONG_S)
    assert not program.is_alive()
    with pytest.raises(UnavailableError, match="no hub runs"):
        sign_in_link(stored, name="bob", clock=CLOCK)


def test_the_data_folder_and_its_tokens_are_for_their_owner_only(stored: HubConfig) -> None:
    with running(stored, clock=CLOCK):
        assert stored.folder.stat().st_mode & 0o777 == 0o700
        tokens = sorted((stored.folder / "tokens").iterdir())
        assert [path.name for path in tokens] == ["admin.token", "device.token", "ingest.token"]
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in tokens)
