"""Replays in the hub: asked for, made by a child process, kept, shown as evidence, cancelled."""

import re
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lineside import connect
from lineside.core import (
    ConflictError,
    InvalidError,
    Json,
    Plant,
    UnavailableError,
    decode_json,
    rfc3339,
    short,
)
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, Registration, Role, Services, create_app
from lineside.hub.children import ChildSettings
from lineside.hub.models.evidence import version_page
from lineside.hub.models.model_service import MODEL_TYPE
from lineside.hub.pages.replays import what_words
from lineside.hub.replay.repository import REPLAY_TYPE, ReplayOrder, ReplayRepository, ReplayView
from lineside.hub.replay.service import Replays
from lineside.models import ModelVersions, Registry, build_package
from lineside.store import Logged
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, wait_until
from tests.hub.conftest import serve_hub
from tests.hub.replayed import DARK, WINDOWS, Day, digest, recorded_day, shy

SHOWN = (("blue",), ("blue",), ("red",), ())
WAITS = "import sys, time; print('30 %', file=sys.stderr, flush=True); time.sleep(600)"
FAILS = "import sys; print('error: the disk is full', file=sys.stderr); sys.exit(6)"


@pytest.fixture
def day(
    config: HubConfig, plant: Plant, clock: FakeClock, *, archive: bytes,
    jpeg: Callable[..., bytes], tmp_path: Path,
) -> Iterator[Day]:  # fmt: skip
    """Over a store that a child can open."""
    (tmp_path / "blobs").mkdir()
    text = (tmp_path / "plant.toml").read_text()
    (tmp_path / "plant.toml").write_text(f"{text}[[rule]]\n{WINDOWS}\n[[rule]]\n{DARK}")
    stored = replace(
        config,
        records=SecretUrl(f"sqlite:///{tmp_path}/records.db"),
        blobs=SecretUrl(f"file://{tmp_path}/blobs"),
    )
    with recorded_day(stored, plant, clock, archive=archive, jpeg=jpeg) as made:
        made.record(SHOWN)
        yield made


@pytest.fixture
def other(day: Day) -> str:
    """A package of the registry that answers otherwise."""
    package = shy(day.package)
    files = {name: data for name, data in package.files.items() if name != "manifest.json"}
    return day.hub.packages.add(build_package(package.manifest, files), by="ada").digest


def order(day: Day, package: str = "") -> ReplayOrder:
    return ReplayOrder(since=day.since, until=day.until, package=package)


def heard(hub: Services) -> list[Logged]:
    return list(hub.records.log.read(type=REPLAY_TYPE, limit=200))


def told(hub: Services, kind: str = REPLAY_TYPE) -> list[dict[str, Any]]:
    page = hub.records.log.read(type=kind, limit=200)
    return [decode_json(one.entry.body, where="log")["data"] for one in page]


def with_child(day: Day, code: str, tmp_path: Path) -> Replays:
    """Replays of the same hub whose child does as ``code`` says."""
    import sys

    registry = Registry(day.hub.records, day.hub.blobs, clock=day.clock)
    settings = ChildSettings(
        folder=tmp_path / "made", records_url=SecretUrl("r"), blobs_url=SecretUrl("b"),
        command=(sys.executable, "-c", code),
    )  # fmt: skip
    return Replays(
        day.hub.replays.book, settings=settings, plant=day.hub.plant, registry=registry,
        versions=ModelVersions(day.hub.records, registry, clock=day.clock), plant_file="p",
    )  # fmt: skip


def test_a_replay_is_answered_at_once_and_made_by_a_process_of_its_own(
    day: Day, other: str
) -> None:
    version = day.hub.models.register("discs", Registration(package=other), by="ada")
    asked = day.hub.replays.ask(order(day, other[7:17]), rules="", by="eve")
    assert (asked.state, asked.order.package, asked.package_name) == ("waiting", other, "shy")
    day.hub.replays.take(heard(day.hub))
    found = day.hub.replays.one(asked.id)
    assert (found.state, found.frames, found.counts.decisions_changed) == ("done", 4, 2)
    assert what_words(found).startswith(f"shy {short(other)}")
    assert [one.before for one in found.lines if one.kind == "decision"] == ["blue present"] * 2
    # the very result that is found in this process
    here = day.again(other)
    assert found.digest == here.digest == day.hub.replays.book.result(asked.id)["digest"]
    assert [one["action"] for one in told(day.hub)] == ["asked", "done"]
    assert told(day.hub)[-1]["digest"] == here.digest
    assert told(day.hub)[-1]["by"] == "eve"
    changed = [one.frame for one in here.decisions_changed]
    assert all(f"replay:{asked.id}" in day.hub.frames.row(frame).pins for frame in changed)
    # and what an approver sees, and signs
    evidence = day.hub.models.evidence("discs", 1)
    assert [one.id for one in evidence.replays] == [asked.id]
    page = version_page(evidence).decode()
    assert "4 frames: 2 decided otherwise" in page
    assert here.digest in page
    day.hub.models.approve("discs", version.number, by="bob", reason="seen")
    approved = told(day.hub, MODEL_TYPE)[-1]
    assert approved["replays"] == [{"replay": asked.id, "digest": here.digest}]
    # what a program of one's own reads of it
    with serve_hub(day.hub) as url:
        remote = connect(url, token=day.hub.auth.issue_token("notebook", kind="api"))
        assert [row["frame"] for row in remote.changes(asked.id)] == changed
        assert [row["digest"] for row in remote.versions("discs")] == [other]
        with pytest.raises(InvalidError, match=r"'labels' is not known.*fix: Known: "):
            list(remote.changes(asked.id, "labels"))  # type: ignore[arg-type]
    # a page of the log that comes once more makes nothing anew
    day.hub.replays.take(heard(day.hub))
    assert day.hub.replays.one(asked.id) == found


def test_what_a_child_fails_at_is_kept_as_its_sentence(day: Day, tmp_path: Path) -> None:
    replays = with_child(day, FAILS, tmp_path)
    asked = replays.ask(order(day, "recorded"), rules="", by="eve")
    replays.take(heard(day.hub))
    found = replays.one(asked.id)
    assert (found.state, found.reason) == ("failed", "the disk is full")
    assert told(day.hub)[-1]["reason"] == "the disk is full"


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_replay_that_its_hub_did_not_live_to_see_is_made_after_the_next_start(
    day: Day, tmp_path: Path, how: str
) -> None:
    replays = with_child(day, WAITS, tmp_path)
    asked = replays.ask(order(day, "recorded"), rules="", by="eve")
    ended: list[BaseException] = []

    def make() -> None:
        try:
            replays.take(heard(day.hub))
        except UnavailableError as error:
            ended.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    wait_until(lambda: replays.one(asked.id).percent == 30)
    child = replays._child.process
    assert child is not None
    if how == "stopped":
        replays.close()
    else:  # as if the whole hub had gone: nothing was written since
        replays._child.is_closing = True
        child.send_signal(signal.SIGKILL)
    thread.join(LONG_S)
    assert ended
    assert day.hub.replays.one(asked.id).state == "running"
    day.hub.replays.take(heard(day.hub))
    assert day.hub.replays.one(asked.id).bit_identical


def test_a_replay_at_work_can_be_cancelled_and_its_child_ends(day: Day, tmp_path: Path) -> None:
    replays = with_child(day, WAITS, tmp_path)
    asked = replays.ask(order(day, "recorded"), rules="", by="eve")
    thread = threading.Thread(target=replays.take, args=(heard(day.hub),))
    thread.start()
    wait_until(lambda: replays.one(asked.id).percent == 30)
    assert replays.cancel(asked.id, by="bob").state == "cancelled"
    thread.join(LONG_S)
    assert not thread.is_alive()
    assert replays.one(asked.id).reason == "cancelled by bob"
    assert [one["action"] for one in told(day.hub)] == ["asked", "cancelled"]
    with pytest.raises(ConflictError):
        replays.cancel(asked.id, by="bob")


def test_of_two_hubs_that_made_it_one_keeps_it(day: Day) -> None:
    book = day.hub.replays.book
    asked = day.hub.replays.ask(order(day, "recorded"), rules="", by="eve")
    found = day.again("recorded")
    book.keep(found, rules=b"", by="eve", view=asked)
    with pytest.raises(ConflictError, match="ended meanwhile"):
        book.keep(found, rules=b"", by="eve", view=asked)
    assert [one["action"] for one in told(day.hub)] == ["asked", "done"]


def test_two_hubs_that_begin_it_at_once_do_not_fail_it(day: Day) -> None:
    """One writes that it is at work; the other looks again, as its follower does."""

    class Beaten(ReplayRepository):
        beaten = False

        def run(self, view: ReplayView) -> ReplayView:
            if not self.beaten:
                self.beaten = True
                book.run(view)
                raise ConflictError("written by another meanwhile", where=view.id)
            return super().run(view)

    hub, book = day.hub, day.hub.replays.book
    asked = hub.replays.ask(order(day, "recorded"), rules="", by="eve")
    hub.replays.book = Beaten(hub.records, journal=hub.ledger, site=hub.plant.site, clock=day.clock)
    with pytest.raises(ConflictError):
        hub.replays.take(heard(hub))
    assert book.one(asked.id).state == "running"
    hub.replays.take(heard(hub))
    assert book.one(asked.id).state == "done"


def test_too_many_are_refused(day: Day) -> None:
    for _ in range(20):
        day.clock.advance(1)
        day.hub.replays.ask(order(day, "recorded"), rules="", by="eve")
    with pytest.raises(ConflictError, match="20 replays wait"):
        day.hub.replays.ask(order(day, "recorded"), rules="", by="eve")


# ---- over HTTP


def client_of(day: Day, role: Role) -> TestClient:
    token = day.hub.auth.issue_token("eve", kind="api", role=role)
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/html, application/json"}
    return TestClient(create_app(day.hub), base_url="http://127.0.0.1", headers=headers)


def body(day: Day, **more: Json) -> dict[str, Json]:
    return {"since": rfc3339(day.since), "until": rfc3339(day.until), **more}


def test_engineers_ask_and_everybody_looks(day: Day, other: str) -> None:
    with client_of(day, Role.VIEWER) as viewer:
        assert viewer.post("/api/v1/replays", json=body(day, package=other)).status_code == 403
        assert re.search(r"disabled>\s*Replay</button>", viewer.get(f"/models/{other}").text)
    with client_of(day, Role.APPROVER) as approver:
        assert approver.post("/api/v1/replays", json=body(day, package=other)).status_code == 403
    with client_of(day, Role.ENGINEER) as engineer:
        page = engineer.get(f"/models/{other}").text
        assert "Replay of a recorded span" in page
        assert 'data-json="/api/v1/replays"' in page
        made = engineer.post("/api/v1/replays", json=body(day, package=other))
        assert made.status_code == 202
        name = made.json()["id"]
        waiting = engineer.get(f"/replays/{name}").text
        assert "One replay is made at a time" in waiting
        assert engineer.get(f"/api/v1/replays/{name}/result").status_code == 404
        view = day.hub.replays.book.one(name)
        day.hub.replays.book.keep(day.again(other), rules=b"", by="eve", view=view)
        page = engineer.get(f"/replays/{name}").text
        assert "Decisions changed: 2" in page
        assert page.count("blue present") == 2
        assert f'href="/frames/{day.again(other).decisions_changed[0].frame}"' in page
        assert engineer.get(f"/replays/{name}/progress").headers["hx-refresh"] == "true"
        result = engineer.get(f"/api/v1/replays/{name}/result").json()
        assert (result["frames"], len(result["decisions_changed"])) == (4, 2)
        listed = engineer.get("/api/v1/replays", params={"package": other}).json()["items"]
        assert [one["id"] for one in listed] == [name]
        assert name in engineer.get(f"/models/{other}").text


def test_a_span_may_begin_where_times_begin(day: Day) -> None:
    day.since = datetime.min.replace(tzinfo=UTC)
    assert day.again("recorded").frames == len(SHOWN)
    span = {"since": "0001-01-01T00:00:00Z", "until": rfc3339(day.until)}
    with client_of(day, Role.ENGINEER) as engineer:
        tried = engineer.post("/api/v1/rules/try", json={**span, "rule": "windows"})
    assert tried.status_code == 200, tried.text


def test_what_cannot_be_replayed_is_said_at_once(day: Day, other: str) -> None:
    wrong: tuple[tuple[dict[str, Json], int, str], ...] = (
        (body(day, package=digest("nobody")), 404, "no package"),
        (body(day, package="abcdefabcdef"), 404, "no package"),
        (body(day, package="abc"), 400, "names no one package"),
        (body(day, package="tiles/9"), 404, "no version 9 of 'tiles'"),
        (body(day, package="tiles/" + "9" * 5000), 404, "no package"),
        (body(day), 400, "nothing is tried"),
        (body(day, package=other, inspection="nothing"), 400, "no inspection"),
        (body(day, rules="site = 3"), 400, "no [[rule]] tables"),
        (body(day, rules='[[rule]]\nid = "a"'), 400, "read"),
        (body(day, package=other, until=rfc3339(day.since)), 400, "before it has begun"),
        (body(day, package=other, since="yesterday"), 400, "since"),
        (body(day, package=other, warm_up_s=-1), 400, "warm-up"),
        (body(day, package=other, speed=3), 400, "speed"),
    )
    with client_of(day, Role.ENGINEER) as engineer:
        for asked, status, words in wrong:
            refused = engineer.post("/api/v1/replays", json=asked)
            assert (refused.status_code, words in refused.text) == (status, True), refused.text
        assert engineer.get("/api/v1/replays/rpl_x").status_code == 404
        assert engineer.get("/replays/rpl_x").status_code == 404
