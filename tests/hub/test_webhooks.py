"""Webhooks of the hub: order, retries, restarts, and events that are given up."""

import base64
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from lineside.core import InvalidError, SystemClock
from lineside.core.drivers import SecretUrl
from lineside.core.webhooks import WebhookConfig
from lineside.hub import HubConfig, RunningHub, Services
from lineside.hub.eventlog.dead_letters import Quarantine
from lineside.hub.eventlog.followers import Follower
from lineside.hub.run import running
from lineside.hub.setup.toml_edit import PlantEdit
from lineside.hub.sinks.webhooks import WEBHOOK_TYPE, Webhook, Webhooks
from lineside.links.webhook import WebhookSender
from lineside.streams import EVENT_TYPE, Event, decode_event
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, wait_until
from tests.hub.conftest import drain
from tests.links.hooks import Hooks


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lineside.hub.sinks.webhooks._FIRST_S", 0.0)
    monkeypatch.setattr("lineside.hub.sinks.webhooks._MOST_S", 0.0)


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    path = tmp_path / "secret"
    path.write_text("whsec_" + base64.b64encode(b"s" * 32).decode())
    return str(path)


def rule_event(hub: Services, number: int, *, rule: str = "pair") -> Event:
    return Event(
        id=f"evt_{number}", source="/hall/hub", type=EVENT_TYPE, subject=rule,
        time=hub.clock.now(), data={"rule": rule, "number": number},
    )  # fmt: skip


class Runs:
    """A webhook and its follower, made anew as after a restart; one post at a time."""

    def __init__(self, hub: Services, config: WebhookConfig) -> None:
        self._config = config
        name = f"webhook-{config.name}"
        quarantine = Quarantine(hub.records.documents, follower=name)
        self.webhook = Webhook(config, services=hub, quarantine=quarantine)
        self.follower = Follower(
            name, records=hub.records, ledger=hub.ledger, handle=self.webhook.read,
            quarantine=quarantine, retry=self.webhook.retry,
            outside=self.webhook.trouble,
        )  # fmt: skip

    def read(self) -> None:
        drain(self.follower)

    def step(self) -> None:
        self.read()
        with closing(WebhookSender(self._config)) as sender:
            while self.webhook.turn(sender):
                pass


def test_events_come_in_order_and_each_until_it_is_taken(hub: Services, hooks: Hooks) -> None:
    hooks.answers = [500, 204, 429, 503, 204]
    hub.ledger.record([rule_event(hub, n) for n in range(3)])
    runs = Runs(hub, WebhookConfig(name="mes", url=SecretUrl(hooks.url)))
    runs.step()
    assert hooks.ids == ["evt_0", "evt_0", "evt_1", "evt_1", "evt_1", "evt_2"]
    figures = runs.webhook
    assert (figures.sent, figures.retried, figures.dead) == (3, 3, 0)
    assert decode_event(hooks.came[-1][1], where="hook") == rule_event(hub, 2)


def test_a_loss_and_a_return_are_said_once(
    hub: Services, hooks: Hooks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    hooks.answers = [500, 500, 500]
    hub.ledger.record([rule_event(hub, 1)])
    Runs(hub, WebhookConfig(name="mes", url=SecretUrl(hooks.url))).step()
    assert caplog.text.count("webhook waits name=mes") == 1
    assert caplog.text.count("webhook goes on name=mes") == 1


def test_only_what_is_wanted_goes_out(hub: Services, hooks: Hooks) -> None:
    hub.ledger.record(
        [rule_event(hub, 1), rule_event(hub, 2, rule="alert"), rule_event(hub, 3, rule="pair")]
    )
    Runs(hub, WebhookConfig(name="mes", url=SecretUrl(hooks.url), rules=("pair",))).step()
    assert hooks.ids == ["evt_1", "evt_3"]


def test_an_event_nobody_takes_is_given_up_after_its_time_and_told(
    hub: Services, hooks: Hooks, clock: FakeClock
) -> None:
    hooks.answers = [500] * 3
    config = WebhookConfig(name="mes", url=SecretUrl(hooks.url), types=("*",), dead_after_s=60)
    hub.ledger.record([rule_event(hub, 1), rule_event(hub, 2)])

    def later(handler: BaseHTTPRequestHandler) -> None:
        clock.advance(61)
        handler.send_response(500)
        handler.send_header("content-length", "0")
        handler.end_headers()

    hooks.answers = [500, later]
    runs = Runs(hub, config)
    runs.step()
    assert hooks.ids == ["evt_1", "evt_1", "evt_2"]
    (told,) = hub.events.page(kind=WEBHOOK_TYPE)
    said = told.event["data"]
    assert (said["action"], said["event"], said["why"]) == ("dead", "evt_1", "answered 500")
    assert said["tries"] == 2
    assert runs.webhook.dead == 1
    (record,) = runs.follower.quarantine.page()
    assert (record.event, record.reason) == ("evt_1", "answered 500")
    runs.follower.quarantine.request_retry(record.position)
    hooks.answers = [503, 204]
    runs.step()
    (record,) = runs.follower.quarantine.page()
    assert (record.reason, record.tries) == ("answered 503", 2)
    runs.follower.quarantine.request_retry()
    runs.step()
    assert hooks.ids == ["evt_1", "evt_1", "evt_2", "evt_1", "evt_1"]
    assert runs.follower.quarantine.page() == []


def test_the_time_an_event_is_tried_for_goes_on_over_a_restart(
    hub: Services, hooks: Hooks, clock: FakeClock
) -> None:
    config = WebhookConfig(name="mes", url=SecretUrl(hooks.url), dead_after_s=60)
    hub.ledger.record([rule_event(hub, 1)])
    first = Runs(hub, config)

    hooks.answers = [503, 503]
    first.read()
    with closing(WebhookSender(config)) as sender:
        first.webhook.turn(sender)
    clock.advance(60)
    Runs(hub, config).step()
    assert hub.events.page(kind=WEBHOOK_TYPE)
    assert hooks.ids == ["evt_1", "evt_1"]


class KilledError(Exception):
    """The hub's end."""


class Killed(Webhook):
    """Ends after a post, before it is written down, for the second event of each life."""

    posts = 0

    def _keep_later(self) -> None:
        self.posts += 1
        if self.posts > 1:
            raise KilledError
        super()._keep_later()


def test_after_a_crash_at_most_one_event_comes_twice(hub: Services, hooks: Hooks) -> None:
    """Of one key; of several, as many as were under way."""
    config = WebhookConfig(name="mes", url=SecretUrl(hooks.url))
    hub.ledger.record([rule_event(hub, n) for n in range(5)])
    for _ in range(3):
        runs = Runs(hub, config)
        runs.webhook = Killed(config, services=hub, quarantine=runs.follower.quarantine)
        runs.follower = Follower(
            "webhook-mes", records=hub.records, ledger=hub.ledger, handle=runs.webhook.read,
        )  # fmt: skip
        with pytest.raises(KilledError):
            runs.step()
    Runs(hub, config).step()
    wanted = [f"evt_{n}" for n in (0, 1, 1, 2, 2, 3, 3, 4)]
    assert hooks.ids == wanted


def test_a_receiver_that_hangs_holds_up_no_stop_and_gets_its_event_again(
    hub: Services, hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lineside.hub.sinks.webhooks._END_S", 0.05)
    go_on, waited = threading.Event(), threading.Event()

    def hang(_handler: BaseHTTPRequestHandler) -> None:
        go_on.wait(LONG_S)
        waited.set()

    hooks.answers = [204, hang]
    config = WebhookConfig(name="mes", url=SecretUrl(hooks.url), timeout_s=3600, parallel=1)
    hub.ledger.record([rule_event(hub, 1), rule_event(hub, 2)])
    runs = Runs(hub, config)
    runs.read()
    runs.webhook.start()
    wait_until(lambda: hooks.ids == ["evt_1", "evt_2"])
    runs.webhook.stop()
    assert not waited.is_set()
    go_on.set()
    Runs(hub, config).step()
    assert hooks.ids == ["evt_1", "evt_2", "evt_2"]
    assert not hub.events.page(kind=WEBHOOK_TYPE)


def test_a_key_that_is_not_taken_holds_up_no_other(hub: Services, hooks: Hooks) -> None:
    """Sixty events of one rule wait behind its first; those of another go out meanwhile."""
    events = [rule_event(hub, n, rule=("stuck", "pair")[n % 2]) for n in range(120)]
    hub.ledger.record(events)
    refused: list[str] = []

    def judge(handler: BaseHTTPRequestHandler) -> None:
        found = handler.headers["webhook-id"]
        fails = found == "evt_0" and len(refused) < 3
        refused.extend([found] * fails)
        handler.send_response(500 if fails else 204)
        handler.send_header("content-length", "0")
        handler.end_headers()

    hooks.answers = [judge] * 200
    config = WebhookConfig(name="mes", url=SecretUrl(hooks.url))
    runs = Runs(hub, config)
    runs.read()
    with closing(WebhookSender(config)) as sender:
        runs.webhook.turn(sender)
    assert (hooks.ids, runs.webhook.waiting) == (["evt_0"], 2)
    Runs(hub, config).step()  # another life
    for parity in (0, 1):
        mine = [name for name in hooks.ids if int(name[4:]) % 2 == parity]
        assert list(dict.fromkeys(mine)) == [f"evt_{n}" for n in range(parity, 120, 2)]
    assert hooks.ids.count("evt_0") == 4
    assert len(hooks.ids) == 123


@pytest.mark.parametrize("parallel", [1, 3])
def test_several_keys_are_posted_at_a_time_and_no_more_than_allowed(
    config: HubConfig, hooks: Hooks, parallel: int
) -> None:
    """A meeting of three posts comes about with three at a time, and not with one."""
    meeting = threading.Barrier(3)
    waits_s = LONG_S if parallel == 3 else 0.2
    met: list[bool] = []

    def meet(handler: BaseHTTPRequestHandler) -> None:
        try:
            meeting.wait(waits_s)
            met.append(True)
        except threading.BrokenBarrierError:
            met.append(False)
        handler.send_response(204)
        handler.send_header("content-length", "0")
        handler.end_headers()

    hooks.answers = [meet] * 3
    hook = WebhookConfig(
        name="mes", url=SecretUrl(hooks.url), parallel=parallel, timeout_s=2 * LONG_S
    )
    settings = replace(config, records=SecretUrl(""), blobs=SecretUrl(""), webhook=(hook,))
    with running(settings, clock=SystemClock()) as hub:
        rules = ("a", "b", "c")
        events = [rule_event(hub.services, n, rule=rule) for n, rule in enumerate(rules)]
        hub.services.ledger.record(events)
        wait_until(lambda: len(met) == 3)
        wait_until(lambda: figures(hub, "mes")["waiting"] == 0)
        names = [thread.name for thread in threading.enumerate()]
        assert sum(name.startswith("webhook-mes-") for name in names) == parallel
    assert met == [parallel == 3] * 3


def figures(hub: RunningHub, name: str) -> dict[str, float]:
    found: dict[str, float] = hub.services.stats.plain()["each"]["webhook"]["figures"][name]
    return found


def test_a_hub_posts_what_happens_from_now_on_and_goes_on_after_a_restart(
    config: HubConfig, hooks: Hooks, secret_file: str
) -> None:
    hook = WebhookConfig(
        name="line-mes",
        url=SecretUrl(hooks.url),
        secret_file=secret_file,
        types=("lineside.event.v1",),
    )
    settings = replace(config, records=SecretUrl(""), blobs=SecretUrl(""))
    with running(settings, clock=SystemClock()) as hub:
        hub.services.ledger.record([rule_event(hub.services, 1)])
    settings = replace(settings, webhook=(hook,))
    for number in (2, 3):
        with running(settings, clock=SystemClock()) as hub:
            hub.services.ledger.record([rule_event(hub.services, number)])
            wait_until(lambda: len(hooks.came) == number - 1)  # noqa: B023  waited for here
            wait_until(lambda: figures(hub, "line-mes")["sent"] == 1)
            sent = b'lineside_webhook_sent_total{webhook="line-mes"} 1.0'
            assert sent in hub.services.stats.exposition()
    assert hooks.ids == ["evt_2", "evt_3"]
    assert all("webhook-signature" in headers for headers, _ in hooks.came)


@pytest.mark.slow
def test_a_webhook_follows_the_plant_file_in_force(
    config: HubConfig, hooks: Hooks, caplog: pytest.LogCaptureFixture
) -> None:
    """One of the same name stands for that of the settings, which is back when it goes."""
    caplog.set_level("INFO", logger="lineside.hub.sinks.webhooks")
    nobody = WebhookConfig(name="mes", url=SecretUrl("http://127.0.0.1:9/"))
    settings = replace(config, records=SecretUrl(""), blobs=SecretUrl(""), webhook=(nobody,))
    with running(settings, clock=SystemClock()) as hub:
        services = hub.services

        def change(edit: PlantEdit, *, starts: int) -> set[str]:
            """Its name, and the followers when so many were started."""
            services.plants.change(edits=[edit], by="anna", reason="try")
            wait_until(lambda: caplog.text.count("webhook runs") == starts)
            return {one.name for one in services.followers.views()}

        for number, name in enumerate(("", "mes")):
            values = {"name": "mes", "url": f"{hooks.url}/{number}"}
            change(PlantEdit(section="webhook", id=name, values=values), starts=number + 2)
            services.ledger.record([rule_event(services, number)])
            wait_until(lambda: figures(hub, "mes")["sent"] == 1)  # one not answered comes again
            assert hooks.came[-1][0]["path"] == f"/hook/{number}"
        renamed = PlantEdit(section="webhook", id="mes", values={"name": "erp"})
        assert {"webhook-erp", "webhook-mes"} <= change(renamed, starts=5)
        assert b'lineside_webhook_sent_total{webhook="erp"} 0.0' in services.stats.exposition()
        services.plants.roll_back(1, by="anna", reason="as before")
        wait_until(lambda: b'webhook="erp"' not in services.stats.exposition())
        wait_until(lambda: "webhook-erp" not in {one.name for one in services.followers.views()})
    assert hooks.ids == ["evt_0", "evt_1"]


def test_a_changed_webhook_goes_on_where_hubs_share_the_followers(
    hub: Services, hooks: Hooks
) -> None:
    hub.leases.alone = False
    webhooks = Webhooks(hub)
    try:
        for number, name in enumerate(("", "mes")):
            values = {"name": "mes", "url": f"{hooks.url}/{number}"}
            edit = PlantEdit(section="webhook", id=name, values=values)
            hub.plants.change(edits=[edit], by="anna", reason="try")
            webhooks.step()
            hub.leases.step()
            hub.ledger.record([rule_event(hub, number)])
            wait_until(lambda: webhooks._figures()["mes"]["sent"] == 1)
            assert hooks.came[-1][0]["path"] == f"/hook/{number}"
    finally:
        webhooks.stop()
    assert hooks.ids == ["evt_0", "evt_1"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: WebhookConfig(name="A b", url=SecretUrl("https://a/b")),
        lambda: WebhookConfig(name="a", url=SecretUrl("https://a/b"), types=()),
        lambda: WebhookConfig(name="a", url=SecretUrl("https://a/b"), dead_after_s=0),
        lambda: WebhookConfig(name="a", url=SecretUrl("nowhere")),
        lambda: WebhookConfig(name="a", url=SecretUrl("https://a/b"), key="colour"),
        lambda: WebhookConfig(name="a", url=SecretUrl("https://a/b"), parallel=0),
        lambda: WebhookConfig(name="a", url=SecretUrl("https://a/b"), parallel=33),
        lambda: HubConfig(
            data_dir="d",
            plant="p",
            webhook=(WebhookConfig(name="a", url=SecretUrl("https://a/b")),) * 2,
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidError) as raised:
        make()
    assert raised.value.fix
