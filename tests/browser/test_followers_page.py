"""Records that a follower of the log set aside: seen, tried again and discarded on the page."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from lineside.core import InvalidError, SystemClock, UnavailableError, encode, rfc3339
from lineside.hub import HubConfig, RunningHub, running
from lineside.hub.eventlog.followers import Follower
from lineside.store import Logged
from lineside.testing.links import wait_until
from tests.browser.conftest import PLANT, sign_in_by_link
from tests.browser.test_pages import faults, settle

pytestmark = pytest.mark.browser
WRONG = "mqtt: two keys become one"


class Sink:
    """It refuses some entries until it is mended."""

    def __init__(self) -> None:
        self.mended = False

    def take(self, entries: Sequence[Logged]) -> None:
        if entries and not self.mended:
            raise InvalidError(WRONG.partition(": ")[2], where="mqtt")

    def never(self, _entries: Sequence[Logged]) -> None:
        raise UnavailableError("the broker is away", where="kafka:9092")


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def hub(tmp_path: Path, sink: Sink) -> Iterator[RunningHub]:
    """A hub with three quarantined records of one sink, and another sink that waits."""
    clock = SystemClock()
    config = HubConfig(data_dir=str(tmp_path / "hub"), plant=str(PLANT), port=0, bus_port=0)
    with ExitStack() as stack:
        one = stack.enter_context(running(config, clock=clock))
        services = one.services
        for value in range(3):
            body = {"topic": "i/ldr", "ts": rfc3339(clock.now()), "ldr": value, "br": "1.0"}
            services.plant_ingest.take_http(encode(body))
        for name, handle in (("mongo", sink.take), ("kafka-events", sink.never)):
            follower = Follower(
                name, records=services.records, ledger=services.ledger, handle=handle,
                type="lineside.plant.sensor.v1",
            )  # fmt: skip
            services.followers.start(follower, stack=stack)
        views = services.followers.one
        wait_until(lambda: views("mongo").view().quarantined == 3)
        wait_until(lambda: views("kafka-events").view().reason)
        yield one


def test_quarantined_records_are_tried_again_and_discarded(
    hub: RunningHub, sink: Sink, chromium: Browser
) -> None:
    context = chromium.new_context()
    page = context.new_page()
    sign_in_by_link(page, hub, name="M. Keller")
    page.goto(f"{hub.url}/rejected-messages")
    records = page.locator("#quarantine tbody tr")
    expect(records).to_have_count(3)
    expect(records.first).to_contain_text(WRONG)
    followers = page.locator("#followers tbody tr")
    expect(followers.filter(has_text="mongo")).to_contain_text("running")
    expect(followers.filter(has_text="kafka-events")).to_contain_text("the broker is away")
    settle(page)
    assert faults(page) == []
    page.set_viewport_size({"width": 1440, "height": 900})
    records.first.get_by_role("button", name="Discard").click()
    expect(records).to_have_count(2)
    sink.mended = True
    with page.expect_navigation():  # the page is read again once the hub has taken the request
        followers.filter(has_text="mongo").get_by_role("button", name="Retry all").click()
    wait_until(lambda: not hub.services.followers.one("mongo").view().quarantined)
    page.goto(f"{hub.url}/rejected-messages")
    expect(followers.filter(has_text="mongo")).to_contain_text("running")
    expect(records).to_have_count(0)
    context.close()
