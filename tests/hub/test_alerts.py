"""Alerts of a hub: what its parts know becomes an alert, and a camera that is dark is not live."""

import json
import math
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from lineside.cli.app import _run
from lineside.core import ConflictError, UnavailableError, decode_json, parse_plant
from lineside.core.plant import Line as PlantLine
from lineside.hub import Services, init_site
from lineside.hub.alerts import service
from lineside.hub.alerts.observations import (
    HUB,
    MOST_DEVICES,
    WITHIN_HUB,
    look_at_certificate,
    look_at_followers,
    look_at_log,
    look_at_machine,
    rates_over,
)
from lineside.hub.alerts.service import Acknowledgement
from lineside.hub.eventlog.followers import Follower
from lineside.hub.ingest.line_figures import HOUR, LineFigures
from lineside.hub.rollouts.repository import ROLLOUT_TYPE
from lineside.hub.run import (
    _publish_alerts,
    _start_answers,
    _start_approvals,
    _start_drift,
    _start_replays,
    _start_rules,
)
from lineside.links import Bus
from lineside.streams import EVENT_TYPE, Event
from lineside.streams.alerts import ALERT_TYPE, AlertCause, Observation
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, wait_until
from lineside.vision import PictureState, encode_jpeg
from tests.hub.conftest import LIMITED, PACKAGE, PLANT, Line, another_hub, answered, open_hub

SMALL = parse_plant(PLANT, where="plant")


def dark(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    return encode_jpeg(rng.integers(0, 4, (120, 160, 3)).astype(np.uint8))


def covered(line: Line, *, pictures: int = 3) -> None:
    """The camera ``rack`` sends dark pictures, each another one."""
    for seed in range(pictures):
        line.wait(0.5)
        line.send(line.camera(dark(seed)))


def looked(hub: Services, line: Line, *, times: int = 1, wait_s: float = 2.0) -> None:
    for _ in range(times):
        hub.alert_watch.tick()
        line.wait(wait_s)


def causes(hub: Services) -> list[tuple[str, str]]:
    return [(str(one.cause), one.object) for one in hub.alerts.open()]


def test_a_dark_camera_is_not_live_and_is_one_alert_with_its_picture(
    hub: Services, line: Line, jpeg: Callable[..., bytes], browser: TestClient
) -> None:
    line.send(line.camera(jpeg("blue")))
    assert hub.cameras.state("rack")[0] == "live"
    covered(line, pictures=2)
    assert hub.cameras.state("rack")[0] == "live"  # two pictures may be a shadow
    covered(line)
    assert hub.cameras.state("rack")[0] == "dark"
    looked(hub, line, times=3, wait_s=0.5)
    assert causes(hub) == [("camera dark", "rack")]
    (alert,) = hub.alerts.open()
    assert alert.reason.startswith("Rack camera: mean grey ")
    assert alert.reason.endswith("is below 12.0")
    assert alert.frame == hub.cameras.fault("rack").frame  # type: ignore[union-attr]
    page = browser.get("/lines").text
    for part in (
        "2 cameras, 1 dark, 1 without signal",
        "<span data-live>0</span> of <span data-cameras-known>2</span> live",
        "<b data-alerts-open>1</b>",
    ):
        assert part in page
    assert f"/api/v1/frames/{alert.frame}/thumbnail" in browser.get("/alerts").text


def test_the_twin_says_that_its_camera_sees_nothing_until_it_sees_again(
    hub: Services, line: Line, jpeg: Callable[..., bytes], browser: TestClient
) -> None:
    covered(line)
    looked(hub, line)
    (found,) = hub.ledger.state.discrepancies
    assert (found.camera, found.seen, found.slot) == ("rack", "camera dark", "")
    assert "Camera dark (rack): its places are not seen" in browser.get("/twin").text
    for _ in range(8):
        line.send(line.camera(jpeg("blue")))
        looked(hub, line)
    assert hub.ledger.state.discrepancies == ()
    assert causes(hub) == []
    assert [str(one.cause) for one in hub.alerts.history()] == ["camera dark"]
    hub.ledger.rebuild()
    assert hub.ledger.state.discrepancies == ()


def test_what_a_device_says_of_a_picture_is_the_state_of_its_camera(
    hub: Services, line: Line
) -> None:
    line.send(line.status())
    for seed in range(3):
        line.wait(0.5)
        rng = np.random.default_rng(seed)
        line.send(line.camera(encode_jpeg(rng.integers(0, 255, (120, 160, 3)).astype(np.uint8))))
        ref = hub.cameras.one("rack").newest
        assert ref is not None
        frame = hub.frames.open(ref.id).ref
        said = replace(
            answered(frame, (), package=PACKAGE), state=PictureState.CAMERA_MOVED, labels=(),
            reason="shifted by 31 px",
        )  # fmt: skip
        hub.cameras.prediction(said, "evt")
    assert hub.cameras.state("rack")[0] == "moved"
    looked(hub, line)
    assert causes(hub) == [("camera moved", "rack")]
    assert hub.alerts.open()[0].reason == "Rack camera: shifted by 31 px"


@pytest.mark.parametrize(
    ("plant", "lost"),
    [(parse_plant(LIMITED, where="plant"), [("camera lost", "rack")]),
     (parse_plant(PLANT, where="plant"), [])],
    ids=["with a limit", "images on events"],
)  # fmt: skip
def test_a_silent_camera_is_lost_past_its_limit_and_one_that_never_sent_is_not(
    hub: Services, line: Line, jpeg: Callable[..., bytes], lost: list[tuple[str, str]]
) -> None:
    line.send(line.camera(jpeg("blue")))
    looked(hub, line, times=20)
    assert causes(hub) == lost


def test_an_alert_is_acknowledged_once_with_who_when_and_why(
    hub: Services, line: Line, client: TestClient, browser: TestClient
) -> None:
    covered(line)
    looked(hub, line)
    (found,) = client.get("/api/v1/alerts").json()["items"]
    path = f"/api/v1/alerts/{found['id']}"
    done = client.post(f"{path}/acknowledge", json={"note": "cover left on"})
    assert done.status_code == 200
    assert client.get(path).json()["acknowledged_by"] == "tester"
    assert client.post(f"{path}/acknowledge", json={}).status_code == 409
    assert client.post("/api/v1/alerts/alr_no/acknowledge", json={}).status_code == 404
    assert client.post(f"{path}/acknowledge", json={"note": "x" * 1001}).status_code == 400
    page = browser.get("/alerts").text
    for part in (
        "Acknowledged by tester",
        "cover left on",
        "<b data-alerts-open>0</b>",
    ):
        assert part in page
    told = [one.event["data"]["action"] for one in hub.events.page(kind=ALERT_TYPE)]
    assert told == ["opened", "acknowledged"]


def test_the_command_lists_and_acknowledges(
    hub: Services, line: Line, served: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    covered(line)
    looked(hub, line)
    token = tmp_path / "token"
    token.write_text(hub.auth.issue_token("ada", kind="api"))
    at = ["--hub", served, "--token", str(token)]
    assert _run(["alert", "list", *at, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["alerts"]
    assert _run(["alert", "acknowledge", told["id"], "--note", "lens cap", *at]) == 0
    assert _run(["alert", "acknowledge", told["id"], *at]) == ConflictError.exit_code
    assert _run(["alert", "list", *at]) == 0
    assert "camera dark" in capsys.readouterr().out
    assert hub.alerts.one(told["id"]).note == "lens cap"
    assert _run(["alert", "list", "--closed", *at]) == 0
    assert "No alerts." in capsys.readouterr().out


def test_alerts_survive_a_restart_and_end_there(
    hub: Services, line: Line, clock: FakeClock, jpeg: Callable[..., bytes]
) -> None:
    covered(line)
    looked(hub, line)
    before = hub.alerts.open()
    again = another_hub(hub)
    assert again.alerts.open() == before
    there = Line(again, clock)
    looked(again, there)
    assert again.alerts.open() == before  # nothing was heard of the camera yet
    for _ in range(7):
        there.send(there.camera(jpeg("blue")))
        looked(again, there)
    assert again.alerts.open() == ()
    (over,) = again.alerts.history()
    assert over.id == before[0].id


def test_a_camera_that_left_the_plant_file_leaves_no_alert(hub: Services, line: Line) -> None:
    covered(line)
    looked(hub, line)
    left = tuple(one for one in hub.plant.camera if one.id != "rack")
    hub.plant.become(replace(SMALL, camera=left, line=hub.plant.line))
    looked(hub, line, times=7)
    assert causes(hub) == []


def test_devices_that_do_not_report_are_alerts_and_many_of_them_one(
    hub: Services, line: Line
) -> None:
    line.send(line.status("edge-1"), line.status("edge-2"))
    line.wait(200)
    line.send(line.status("edge-2"))
    looked(hub, line, wait_s=11)
    assert causes(hub) == [("device lost", "edge-1")]
    for number in range(MOST_DEVICES):
        line.send(line.status(f"more-{number}"))
    line.wait(200)
    looked(hub, line, wait_s=11)
    assert ("device lost", "all devices") in causes(hub)
    assert len(causes(hub)) == 2


def test_rates_are_held_against_the_limits_of_the_line(hub: Services) -> None:
    limited = PlantLine(id="warehouse", name="Warehouse", limit_reject=0.02, limit_review=0.1)
    now = hub.clock.now()

    def found(parts: int, rejects: float, review: float) -> list[str]:
        figures = LineFigures(
            line="warehouse", period=HOUR, begin=now, end=now, parts=parts, verdicts={},
            reject_rate=rejects, review_share=review,
        )  # fmt: skip
        seen = rates_over(limited, figures, now=now)
        return [one.reason.replace("\xa0", " ") for one in seen]

    assert found(100, 0.02, 0.1) == []
    assert found(10, 1.0, 1.0) == []
    assert found(100, 0.05, 0.0) == [
        "Warehouse: 5.0 % of 100 parts in the last hour rejected, limit 2.0 %"
    ]
    assert found(100, 0.0, 0.2) == [
        "Warehouse: 20.0 % of 100 parts in the last hour for review, limit 10.0 %"
    ]


def test_drift_and_a_rollback_open_from_the_log_and_end_with_what_follows(
    hub: Services, clock: FakeClock
) -> None:
    def written(kind: str, subject: str, number: int, **data: str) -> None:
        clock.advance(1)
        event = Event(
            id=f"evt_{subject}{number}", source="/hall/hub", type=kind, time=clock.now(),
            subject=subject, data=dict(data),
        )  # fmt: skip
        hub.ledger.record([event])

    def found() -> list[tuple[str, str]]:
        look = look_at_log(hub.records.log, cameras=hub.cameras, now=clock.now())
        return [(str(one.cause), one.reason) for one in look.present]

    assert found() == []
    written(EVENT_TYPE, "drift", 1, inspection="stock", package=PACKAGE, reason="grey fell")
    written(ROLLOUT_TYPE, "rol_1", 1, inspection="stock", action="running", group="discs")
    assert found() == [("drift", "stock: grey fell")]
    written(
        ROLLOUT_TYPE, "rol_1", 2, inspection="stock", action="going back", group="discs",
        version="2", reason="too many rejects",
    )  # fmt: skip
    assert ("rollback", "discs/2: too many rejects") in found()
    written(ROLLOUT_TYPE, "rol_2", 1, inspection="stock", action="planned", group="discs")
    clock.advance(8 * 86_400)
    assert found() == []


def test_each_rollback_is_an_alert_until_its_inspection_has_a_newer_rollout(
    hub: Services, line: Line, clock: FakeClock
) -> None:
    def rolled(number: int, *actions: str, inspection: str = "stock") -> None:
        for action in actions:
            clock.advance(1)
            event = Event(
                id=f"evt_{number}_{action}", source="/hall/hub", type=ROLLOUT_TYPE,
                time=clock.now(), subject=f"rol_{number}",
                data={
                    "inspection": inspection, "action": action, "group": "discs",
                    "version": str(number), "reason": "too many rejects",
                },
            )  # fmt: skip
            hub.ledger.record([event])

    rolled(1, "running", "going back", "rolled back")
    looked(hub, line, wait_s=11)
    (first,) = hub.alerts.open()
    hub.alerts.acknowledge(first.id, Acknowledgement(), by="ada")
    rolled(2, "planned", "running", "going back", "rolled back")
    looked(hub, line, wait_s=11)
    (second,) = hub.alerts.open()
    assert second.reason == "discs/2: too many rejects"
    for number in range(3, 63):
        rolled(number, "running", inspection="other")
    looked(hub, line, times=3, wait_s=11)
    assert hub.alerts.open() == (second,)
    rolled(70, "planned")
    looked(hub, line, times=3, wait_s=11)
    assert hub.alerts.open() == ()


def refuse(_: object) -> None:
    raise UnavailableError("the broker is away")


def test_a_follower_is_an_alert_by_what_keeps_it(hub: Services, clock: FakeClock) -> None:
    gate = threading.Event()

    def wait(_: object) -> None:
        gate.wait(LONG_S)

    def found() -> dict[str, tuple[str, str]]:
        present = look_at_followers(hub.followers, now=clock.now()).present
        return {one.object: (one.reason, one.consequence) for one in present}

    with ExitStack() as stack:
        for name in ("kafka-out", "rules"):
            hub.followers.follow(name, refuse, stack=stack)
        hub.followers.follow("webhook", wait, stack=stack)
        hub.followers.follow("replays", wait, stack=stack, stuck_s=math.inf)
        Line(hub, clock).see("red")
        hub.followers.follow("rule-sums", wait, stack=stack, fills=True)  # with a log that is there
        stack.callback(gate.set)
        wait_until(lambda: len(found()) == 2)
        wait_until(lambda: all(one._oldest for one in hub.followers))
        clock.advance(301)
        seen = found()
    assert seen["kafka-out"] == ("kafka-out waits: the broker is away", "")
    assert seen["rules"][1].startswith("What the hub derives from events stands still")
    assert seen["webhook"] == ("webhook waits: 301 s behind", "")
    assert not {"replays", "rule-sums"} & seen.keys()  # these work


def test_a_follower_that_hubs_share_is_looked_at_by_each_of_them(hub: Services, line: Line) -> None:
    shared = Follower("kafka-out", records=hub.records, ledger=hub.ledger, handle=refuse)
    shared.share(hub.leases.lease("kafka-out"))
    hub.followers._all["kafka-out"] = shared
    looked(hub, line, times=7, wait_s=11)
    assert causes(hub) == []
    for _ in range(7):
        hub.alert_watch.tick_shared()
        line.wait(11)
    assert causes(hub) == [("sink stalled", "kafka-out")]
    looked(hub, line, times=3, wait_s=11)
    assert causes(hub) == [("sink stalled", "kafka-out")]


def test_the_followers_within_the_hub_are_those_that_it_starts(hub: Services) -> None:
    with ExitStack() as stack:
        for begin in (_start_answers, _start_drift, _start_rules, _start_approvals, _start_replays):
            begin(hub, stack=stack)
        assert {one.name for one in hub.followers} == WITHIN_HUB


def test_a_certificate_that_is_due_is_an_alert(hub: Services, clock: FakeClock) -> None:
    site = replace(hub.config, tls="site")
    assert look_at_certificate(site, now=clock.now()).unknown == (HUB,)
    init_site(site, password=lambda: "correct horse battery", clock=clock)
    assert look_at_certificate(site, now=clock.now()).present == []
    clock.advance(396 * 86_400)
    (due,) = look_at_certificate(site, now=clock.now()).present
    assert due.reason == "the hub's certificate expires in 1 days"
    with open_hub(site, plant=SMALL, clock=clock) as watching:
        for _ in range(2):
            watching.alert_watch.tick()
            clock.advance(11)
        assert causes(watching) == [("certificate expires", HUB)]
    clock.advance(2 * 86_400)
    (over,) = look_at_certificate(site, now=clock.now()).present
    assert over.reason == "the hub's certificate has expired"


def test_a_sink_that_stopped_and_a_full_disk_are_alerts(hub: Services, line: Line) -> None:
    follower = Follower("kafka-out", records=hub.records, ledger=hub.ledger, handle=refuse)
    hub.followers._all["kafka-out"] = follower
    looked(hub, line, times=7, wait_s=11)
    assert causes(hub) == [("sink stalled", "kafka-out")]
    full = replace(hub.config, min_free_bytes=2**62)
    (disk,) = look_at_machine(full, now=hub.clock.now()).present
    assert disk.reason.endswith("GB it is not ready")
    assert look_at_machine(replace(hub.config, min_free_bytes=0), now=hub.clock.now()).present == []
    assert look_at_certificate(hub.config, now=hub.clock.now()).present == []


def test_the_open_alerts_stand_on_the_bus_retained(
    hub: Services, line: Line, bus: Bus, factory: Bus
) -> None:
    covered(line)
    looked(hub, line)
    _publish_alerts(hub, bus)
    mailbox = factory.subscribe(("lineside/hall/alerts",), size=4, name="alerts")
    (message,) = mailbox.get_many(most=1, timeout_s=5.0)
    told = decode_json(message.payload, where="alerts")
    assert told["schema"] == "lineside.alerts/1"
    assert [one["cause"] for one in told["open"]] == ["camera dark"]
    mailbox.close()


def test_the_history_is_paged_and_its_oldest_are_forgotten(
    hub: Services, clock: FakeClock, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_KEPT", 5)
    drift = Observation(cause=AlertCause.DRIFT, object="stock", at=clock.now(), reason="x")
    (opened,) = hub.alerts.feed([drift])
    hub.alerts.acknowledge(opened.alert.id, Acknowledgement(), by="ada")
    for number in range(10):
        seen = Observation(
            cause=AlertCause.CAMERA_DARK, object=f"i-{number}", at=clock.now(), reason="x"
        )
        for holds in (True, False, False):
            clock.advance(11)
            hub.alerts.feed([replace(seen, holds=holds)])
    kept = [one.object for one in hub.alerts.history()]
    assert kept == ["i-9", "i-8", "i-7", "i-6", "i-5", "i-4", "stock"]
    again = another_hub(hub)
    assert again.alerts.feed([drift]) == ()  # it was acknowledged, however long ago
    assert another_hub(hub).alerts.history() == hub.alerts.history()
    page = client.get("/api/v1/alerts?state=closed&limit=2").json()
    assert [one["object"] for one in page["items"]] == ["i-9", "i-8"]
    more = client.get(f"/api/v1/alerts?state=closed&limit=1&after={page['next']}").json()
    assert more["items"][0]["object"] == "i-7"
    assert client.get("/api/v1/alerts?state=closed&after=alr_no").status_code == 404


def test_the_newest_of_a_cause_is_the_open_one_whenever_it_began(
    hub: Services, clock: FakeClock
) -> None:
    begin = clock.now()
    clock.advance(60)
    fleet = Observation(cause=AlertCause.DEVICE_LOST, object="all devices", at=clock.now())
    for holds in (True, False, False):
        clock.advance(11)
        hub.alerts.feed([replace(fleet, holds=holds)])
    clock.advance(600)
    (opened,) = hub.alerts.feed([replace(fleet, at=begin)])  # a device lost long ago is among them
    again = another_hub(hub)
    entry = again.alerts.book[fleet.key]
    assert entry.alert == opened.alert
    assert again.alerts.feed([replace(fleet, at=begin)]) == ()


def test_what_another_hub_wrote_is_read_a_page_at_a_time_and_counted(
    hub: Services, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = another_hub(hub)
    clock.advance(1)
    dark = [
        Observation(cause=AlertCause.CAMERA_DARK, object=f"c{n}", at=clock.now()) for n in range(5)
    ]
    hub.alerts.feed(dark)
    monkeypatch.setattr(service, "_PAGE", 2)
    assert (hub.alerts.count(), other.alerts.count()) == (5, 0)
    other.alerts.load()
    assert other.alerts.count() == 5
    hub.alerts.acknowledge(hub.alerts.open()[0].id, Acknowledgement(), by="ada")
    other.alerts.load()
    assert (hub.alerts.count(), other.alerts.count()) == (4, 4)
    assert set(other.alerts.open()) == set(hub.alerts.open())
