"""One device on a bus in memory, its hub played by the test."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lineside.core import (
    Camera,
    Inspection,
    InvalidError,
    Plant,
    decode_json,
    digest_of,
    encode,
    parse_rfc3339,
)
from lineside.core.drivers import SecretUrl
from lineside.core.plant import Trigger
from lineside.fleet.contract import DeviceStatus
from lineside.links.contract import Shot
from lineside.streams import decode_event, read_prediction, read_verdict
from lineside.testing.links import LONG_S, nothing_more, take, wait_until
from lineside.vision import Frame
from tests.edge.conftest import (
    BETTER,
    DEVICE,
    GOOD,
    PREDICTION,
    Bench,
    PackageServer,
    StartBench,
    picture,
)  # fmt: skip


class TestAVerdict:
    def test_of_the_devices_own_line_is_said_before_its_prediction(self, bench: Bench) -> None:
        heard = bench.hub.subscribe(("lineside/demo/warehouse/#",), name="heard")
        bench.frame(1, part="p-7")
        bench.events(1)
        said = take(heard, 2)
        assert [one.topic for one in said] == ["lineside/demo/warehouse/verdict", PREDICTION]
        event = decode_event(said[0].payload, where="verdict")
        given = read_verdict(event)
        assert (event.source, event.subject) == ("/demo/line/warehouse", "warehouse")
        assert (given.part, given.verdict, given.device) == ("p-7", "ok", "edge-1")
        assert given.answers[0].event == decode_event(said[1].payload, where="said").id

    def test_of_a_line_that_others_inspect_too_is_left_to_the_hub(
        self, start: StartBench, plant: Plant
    ) -> None:
        other = replace(plant.camera[0], id="other")
        also = replace(plant.inspection[0], id="also", camera="other")
        bench = start(
            camera=(*plant.camera, other), inspection=(*plant.inspection, also), cameras=("rack",)
        )
        bench.wish()
        wait_until(bench.loaded)
        heard = bench.hub.subscribe(("lineside/demo/warehouse/verdict",), name="heard")
        bench.frame(1, part="p-7")
        bench.events(1)
        nothing_more(heard)


class TestAFrame:
    def test_becomes_a_prediction_event_as_documented(self, bench: Bench) -> None:
        at = bench.frame(1, sequence=12, part="p-7")
        (event,) = bench.events(1)
        assert event.source == "/demo/device/edge-1"
        assert (event.subject, event.time, event.type) == ("stock", at, "lineside.prediction.v1")
        assert (event.deviceseq, event.devicefirst) == (1, 1)
        prediction = read_prediction(event)
        assert prediction.frame.digest == digest_of(picture(1))
        assert (prediction.frame.sequence, prediction.frame.part) == (12, "p-7")
        assert (prediction.device, prediction.package) == ("edge-1", digest_of(GOOD))
        assert prediction.latency_ms.decode >= 0

    def test_gives_the_same_event_id_on_every_device(
        self, bench: Bench, start: StartBench, tmp_path: Path
    ) -> None:
        bench.frame(1)
        (first,) = bench.events(1)
        other = start(data_dir=str(tmp_path / "other"))
        other.wish()
        wait_until(other.loaded)
        other.frame(1)
        (second,) = other.events(1)
        assert first.id == second.id
        assert second.deviceseq == 1

    def test_of_sixty_seconds_is_judged_and_a_tenth_older_is_not(self, bench: Bench) -> None:
        bench.frame(1, age_s=60.1)
        bench.frame(2, age_s=60.0)
        assert bench.events(1)[0].data["frame"]["digest"] == digest_of(picture(2))
        assert bench.refused() == {"too old": 1}

    def test_from_the_future_is_judged_within_the_allowed_skew(self, bench: Bench) -> None:
        bench.frame(1, age_s=-5.1)
        bench.frame(2, age_s=-5.0)
        assert bench.events(1)[0].data["frame"]["digest"] == digest_of(picture(2))
        assert bench.refused() == {"from the future": 1}

    def test_delivered_twice_is_judged_once(self, bench: Bench) -> None:
        bench.frame(1)
        bench.events(1)
        bench.frame(1)
        wait_until(lambda: bench.refused() == {"delivered twice": 1})
        assert nothing_more(bench.said)

    def test_of_the_same_picture_later_is_another_frame(self, bench: Bench) -> None:
        bench.frame(1)
        bench.clock.advance(1)
        bench.frame(1)
        first, second = bench.events(2)
        assert first.id != second.id

    def test_in_a_burst_is_each_judged_for_itself(self, bench: Bench) -> None:
        for number in range(2):
            bench.clock.advance(0.01)
            bench.frame(number)
        found = {event.data["frame"]["digest"] for event in bench.events(2)}
        assert found == {digest_of(picture(0)), digest_of(picture(1))}

    def test_that_is_not_taken_in_time_is_dropped_oldest_first_and_counted(
        self, bench: Bench
    ) -> None:
        judge = bench.judges[GOOD]
        judge.hold.clear()
        bench.frame(0)
        wait_until(lambda: len(judge.seen) == 1)
        for number in range(1, 8):
            bench.clock.advance(0.1)
            bench.frame(number)
        judge.hold.set()
        digests = [event.data["frame"]["digest"] for event in bench.events(3)]
        assert digests == [digest_of(picture(number)) for number in (0, 6, 7)]
        wait_until(lambda: bench.refused() == {"not taken in time": 5})
        assert bench.agent.status().images_lost == {"rack": {"not taken in time": 5}}
        wait_until(lambda: bench.agent.status().predictions == 3)
        assert bench.agent.status().frames + 5 == 8

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            (b"", "fields not as documented"),
            (b'{"data":""}', "fields not as documented"),
            (b"\x00" * 100, "fields not as documented"),
            (b'{"ts":"2026-01-01T12:00:00Z","data":"data:image/jpeg;base64,AAAA"}',
             "picture cannot be read"),
        ],
    )  # fmt: skip
    def test_that_is_none_is_counted_and_the_next_one_is_judged(
        self, bench: Bench, payload: bytes, reason: str
    ) -> None:
        bench.hub.publish("i/cam", payload)
        bench.frame(1)
        bench.events(1)
        assert bench.refused() == {reason: 1}

    def test_that_breaks_the_package_does_not_end_the_camera(self, bench: Bench) -> None:
        judge = bench.judges[GOOD]
        judge.failing = True
        bench.frame(1)
        wait_until(lambda: bench.refused() == {"failed": 1})
        wait_until(lambda: "the network broke" in "".join(bench.agent.status().faults))
        judge.failing = False
        bench.frame(2)
        bench.events(1)


class TestForwarding:
    def test_bare_bytes_are_forwarded_with_the_time_they_were_given(self, bench: Bench) -> None:
        frames = bench.hub.subscribe(("lineside/demo/warehouse/rack/frame",), name="frames")
        bench.hub.publish("i/cam", picture(3))
        (event,) = bench.events(1)
        message = frames.get(timeout_s=LONG_S)
        assert message is not None
        at = decode_json(message.payload, where="frame")["ts"]
        assert parse_rfc3339(at) == event.time

    @pytest.mark.parametrize(
        ("shape", "topics", "missing"),
        [
            ((24, 32, 3), ["frame", "prediction"], ""),
            ((1000, 1000, 3), ["prediction"], "no room in the spool of the device"),
        ],
    )
    def test_an_image_of_a_time_without_the_bus_comes_before_its_prediction_or_that_says_why_not(
        self, start: StartBench, tmp_path: Path, shape: tuple[int, ...], topics: list[str],
        missing: str,
    ) -> None:  # fmt: skip
        camera = Camera(id="rack", line="warehouse", source=SecretUrl(f"folder:{tmp_path}"))
        inspections = tuple(
            Inspection(id=name, camera="rack", labels=("blue",), max_age_s=1e12, max_skew_s=1e12)
            for name in ("none", "stock")
        )
        bench = start(camera=(camera,), inspection=inspections, spool_max_bytes=1_000_000)
        bench.wish()
        wait_until(bench.loaded)
        heard = bench.hub.subscribe(("lineside/demo/warehouse/rack/#",), name="heard")
        bench.device.lose()
        (tmp_path / "one.jpg").write_bytes(picture(1, shape=shape))
        wait_until(lambda: bench.agent.status().spool_depth == 1)
        bench.device.regain()
        said = take(heard, len(topics))
        assert [one.topic.rpartition("/")[2] for one in said] == topics
        assert decode_event(said[-1].payload, where="said").imagemissing == missing
        bench.ack(1)
        wait_until(lambda: bench.agent.status().spool_depth == 0)
        assert nothing_more(heard)

    def test_an_image_without_a_prediction_goes_on_the_bus_alone(self, start: StartBench) -> None:
        bench = start()
        frames = bench.hub.subscribe(("lineside/demo/warehouse/rack/frame",), name="frames")
        bench.hub.publish("i/cam", picture(3))
        take(frames, 1)
        assert bench.refused() == {"no package": 1}

    def test_frames_that_are_on_the_bus_already_are_not(self, bench: Bench) -> None:
        frames = bench.hub.subscribe(("lineside/demo/warehouse/rack/frame",), name="frames")
        bench.frame(1)
        bench.events(1)
        assert nothing_more(frames)


class TestTriggers:
    def on(self, start: StartBench, trigger: Trigger) -> Bench:
        inspection = Inspection(id="stock", camera="rack", labels=("blue",), trigger=trigger)
        bench = start(inspection=(inspection,))
        bench.wish()
        wait_until(bench.loaded)
        return bench

    def test_a_message_on_the_topic_lets_one_frame_through(self, start: StartBench) -> None:
        bench = self.on(start, Trigger(on="topic", topic="gate/+/open"))
        bench.frame(1)
        wait_until(lambda: bench.refused() == {"not triggered": 1})
        bench.hub.publish("gate/2/open", b"")
        wait_until(lambda: bench.agent._workers[0]._seen["stock"].armed)
        bench.clock.advance(1)
        bench.frame(2)
        bench.events(1)
        bench.clock.advance(1)
        bench.frame(3)
        wait_until(lambda: bench.refused() == {"not triggered": 2})

    def test_a_message_on_the_topic_has_one_snapshot_taken(
        self, start: StartBench, packages: PackageServer
    ) -> None:
        packages.answers["/cam.jpg"] = (200, picture(7), {})
        camera = Camera(
            id="rack",
            line="warehouse",
            source=SecretUrl(f"{packages.url}/cam.jpg"),
            trigger="software",
        )
        trigger = Trigger(on="topic", topic="gate/open")
        inspections = tuple(
            Inspection(id=name, camera="rack", labels=("blue",), trigger=trigger)
            for name in ("stock", "lid")
        )
        bench = start(camera=(camera,), inspection=inspections)
        bench.wish()
        wait_until(bench.loaded)
        wait_until(lambda: bench.agent._workers[0]._source is not None)
        bench.hub.publish("gate/open", b"")
        (event,) = bench.events(1)
        assert event.data["frame"]["digest"] == digest_of(picture(7))
        assert packages.requests.count(("/cam.jpg", "")) == 2  # the first when it was opened

    def test_an_interval_is_kept(self, start: StartBench) -> None:
        bench = self.on(start, Trigger(on="interval", interval_s=10))
        for number in range(4):
            bench.frame(number)
            wait_until(lambda seen=number: bench.agent.status().frames > seen)  # type: ignore[misc]  # a default of a lambda
            bench.clock.advance(5)
        assert len(bench.events(2)) == 2
        wait_until(lambda: bench.refused() == {"not triggered": 2})

    def test_an_interval_is_kept_before_there_is_a_package(self, start: StartBench) -> None:
        trigger = Trigger(on="interval", interval_s=10)
        inspection = Inspection(id="stock", camera="rack", labels=("blue",), trigger=trigger)
        bench = start(inspection=(inspection,))
        for number in range(4):
            bench.frame(number)
            wait_until(lambda seen=number: sum(bench.refused().values()) > seen)  # type: ignore[misc]  # a default of a lambda
            bench.clock.advance(5)
        assert bench.refused() == {"no package": 2, "not triggered": 2}

    def test_only_frames_with_a_part_are_judged(self, start: StartBench) -> None:
        bench = self.on(start, Trigger(on="part"))
        bench.frame(1)
        bench.frame(2, part="p-1")
        (event,) = bench.events(1)
        assert event.data["frame"]["part"] == "p-1"


class TestAcknowledgement:
    def test_forgets_what_the_hub_stored(self, bench: Bench) -> None:
        for number in range(3):
            bench.clock.advance(1)
            bench.frame(number)
            bench.events(1)
        bench.ack(2)
        wait_until(lambda: bench.agent.status().spool_depth == 1)
        bench.clock.advance(1)
        bench.frame(9)
        assert [e.devicefirst for e in bench.events(1)] == [3]

    def test_missing_makes_the_device_send_again_with_growing_waits(self, bench: Bench) -> None:
        bench.frame(1)
        (first,) = bench.events(1)
        for wait_s in (5.0, 10.0, 20.0, 40.0, 60.0, 60.0):
            bench.clock.advance(wait_s - 0.5)
            assert nothing_more(bench.said)
            bench.clock.advance(0.5)
            assert bench.events(1)[0].id == first.id
        bench.ack(1)
        wait_until(lambda: bench.agent.status().spool_depth == 0)
        bench.clock.advance(1000)
        assert nothing_more(bench.said)

    @pytest.mark.parametrize(
        "changes",
        [{"sequence": 99}, {"device": "edge-2"}, {"schema": "lineside.ack/2"}, {"sequence": "1"},
         {"sequence": -1}, {"more": 1}],
    )  # fmt: skip
    def test_of_another_kind_changes_nothing(self, bench: Bench, changes: dict[str, Any]) -> None:
        bench.frame(1)
        bench.events(1)
        bench.ack(**{"sequence": 1, **changes})
        bench.hub.publish(f"{DEVICE}/ack", b"\xff")
        wait_until(lambda: "message not as documented" in bench.refused())
        assert bench.agent.status().spool_depth == 1


def judged(status: DeviceStatus) -> bool:
    """Whether no picture is under work."""
    return status.frames == status.predictions + sum(status.refused.values())


class TestTheHubIsAway:
    def test_for_long_and_then_gets_every_event_once(self, bench: Bench) -> None:
        bench.device.lose()
        stored = set()
        bench.device.regain()
        wait_until(bench.device.connected)
        for number in range(20):
            if number == 3:
                bench.device.lose()
            if number == 15:
                bench.device.regain()
            bench.clock.advance(1)
            bench.frame(number)
            if bench.device.connected():
                wait_until(lambda: bench.said.figures().waiting > 0)
                for event in bench.events(1):
                    stored.add(event.deviceseq)
        bench.clock.advance(5)
        wait_until(lambda: judged(bench.agent.status()))
        expected = bench.agent.status().predictions
        while len(stored) < expected:
            stored |= {event.deviceseq for event in bench.events(1)}
        assert stored == set(range(1, expected + 1))

        def is_empty() -> bool:  # a last picture may have been judged since
            bench.ack(bench.agent.status().predictions)
            return bench.agent.status().spool_depth == 0

        wait_until(is_empty)

    def test_while_the_device_restarts_which_then_starts_from_its_disk(
        self, bench: Bench, start: StartBench
    ) -> None:
        bench.frame(1)
        (first,) = bench.events(1)
        bench.hub.publish(f"{DEVICE}/desired", b"", retain=True)
        again = start()
        wait_until(again.loaded)
        assert [event.id for event in again.events(1)] == [first.id]
        again.clock.advance(1)
        again.frame(2)
        assert [event.deviceseq for event in again.events(1)] == [2]

    def test_and_the_spool_is_full_so_the_oldest_go_and_it_says_so(self, start: StartBench) -> None:
        bench = start(spool_max_bytes=1_000_000)
        bench.wish()
        wait_until(bench.loaded)
        bench.spool._max_bytes = 10_000
        for number in range(20):
            bench.clock.advance(0.1)
            bench.frame(number)
            wait_until(lambda seen=number: bench.agent.status().predictions > seen)  # type: ignore[misc]  # a default of a lambda
        wait_until(lambda: bench.agent.status().spool_dropped > 0)
        wait_until(lambda: bench.spool.last == 20)
        bench.clock.advance(10)
        wait_until(lambda: bench.said.figures().received > 20)

        def is_whole() -> bool:
            status = bench.agent.status()
            return status.spool_depth + status.spool_dropped == 20

        wait_until(is_whole)


class TestStatus:
    def test_is_retained_and_told_when_something_changes(self, bench: Bench) -> None:
        wait_until(lambda: bool(bench.status()["packages"]))
        status = bench.status()
        assert (status["schema"], status["device"]) == ("lineside.device/1", "edge-1")
        assert status["state"] == "online"
        (package,) = status["packages"]
        assert package["digest"] == digest_of(GOOD)
        assert set(package) == {
            "inspection", "digest", "loaded_at", "operating_point", "refused_point",
            "engine_device",
        }  # fmt: skip

    def test_is_told_again_from_time_to_time(self, bench: Bench) -> None:
        bench.frame(1)
        bench.events(1)
        wait_until(lambda: bench.agent.status().predictions == 1)
        bench.clock.advance(11)
        wait_until(lambda: bench.status()["predictions"] == 1)

    def test_comes_before_the_first_event_of_a_connection(self, bench: Bench) -> None:
        everything = bench.hub.subscribe(("lineside/#",), name="everything")
        bench.frame(1)
        bench.events(1)
        bench.device.lose()
        bench.clock.advance(1)
        bench.device.regain()
        said: list[str] = []
        while sum(topic.endswith("prediction") for topic in said) < 2:
            message = everything.get(timeout_s=LONG_S)
            assert message is not None
            said.append(message.topic)
        between = said[said.index(PREDICTION) + 1 : -1]
        assert between.count(f"{DEVICE}/status") >= 2  # the last will, then the device itself

    def test_says_offline_when_the_device_vanishes_or_leaves(self, bench: Bench) -> None:
        bench.device.lose()
        assert bench.status()["state"] == "offline"
        bench.device.regain()
        wait_until(lambda: bench.status()["state"] == "online")
        bench.close()
        assert bench.status()["state"] == "offline"


class TestPackages:
    def test_are_swapped_without_losing_a_frame(self, bench: Bench) -> None:
        seen = 0
        for number in range(20):
            if number == 10:
                bench.wish(BETTER)
            bench.clock.advance(0.1)
            bench.frame(number)
            seen += len(bench.events(1))
        wait_until(lambda: bench.loaded(BETTER))
        assert seen == 20
        assert bench.refused() == {}

    @pytest.mark.parametrize("failing", [False, True])
    def test_that_are_new_have_seen_the_last_picture_before_the_line_waits_for_them(
        self, bench: Bench, *, failing: bool
    ) -> None:
        better = bench.judges[BETTER]
        better.failing = failing
        bench.frame(1)
        bench.events(1)
        bench.wish(BETTER)
        wait_until(lambda: bench.loaded(BETTER))
        assert [frame.digest for frame in better.seen] == [digest_of(picture(1))]
        assert nothing_more(bench.said), "nobody hears a rehearsal"
        wait_until(lambda: bench.agent.status().predictions == 1)
        assert bench.agent.status().faults == ()

    def test_that_cannot_be_had_leave_the_one_before_at_work(self, bench: Bench) -> None:
        bench.wish(b"unknown")
        wait_until(lambda: bool(bench.agent.status().faults))
        assert "hub" in bench.agent.status().faults[0]
        assert bench.loaded(GOOD)
        bench.frame(1)
        bench.events(1)
        bench.wish(BETTER)
        wait_until(lambda: bench.loaded(BETTER))
        wait_until(lambda: bench.agent.status().faults == ())

    @pytest.mark.parametrize(
        "payload",
        [b"", b"{}", b"[]", b"\xff" * 10, b'{"schema":"lineside.desired/9","packages":[]}',
         b'{"schema":"lineside.desired/1","packages":[{"inspection":"stock","digest":"x","url":""}]}',
         b"0" * 300_000],
    )  # fmt: skip
    def test_are_not_touched_by_a_wish_that_is_none(self, bench: Bench, payload: bytes) -> None:
        bench.hub.publish(f"{DEVICE}/desired", payload, retain=True)
        bench.frame(1)
        bench.events(1)
        assert bench.loaded(GOOD)

    def test_of_an_inspection_left_out_are_unloaded(self, bench: Bench) -> None:
        bench.hub.publish(
            f"{DEVICE}/desired", encode({"schema": "lineside.desired/1", "packages": []})
        )
        wait_until(lambda: bench.agent.status().packages == ())
        bench.frame(1)
        wait_until(lambda: bench.refused() == {"no package": 1})


class TestTheDisk:
    def test_being_full_is_a_fault_and_no_judged_event_is_lost(self, bench: Bench) -> None:
        pages = bench.spool._link.execute("PRAGMA page_count").fetchone()[0]
        bench.spool._link.execute(f"PRAGMA max_page_count = {pages}")
        sent = 0
        while not bench.agent.status().faults:
            bench.clock.advance(0.1)
            bench.frame(sent)
            wait_until(lambda seen=sent: bench.agent.status().predictions > seen)  # type: ignore[misc]  # a default of a lambda
            sent += 1
        assert "full" in bench.agent.status().faults[0]
        bench.spool._link.execute("PRAGMA max_page_count = 1000000")
        assert [event.deviceseq for event in bench.events(sent)] == list(range(1, sent + 1))
        wait_until(lambda: bench.agent.status().faults == ())


class TestCameras:
    def camera(self, source: str) -> Camera:
        return Camera(id="rack", line="warehouse", source=SecretUrl(source))

    def test_that_are_away_are_waited_for(self, start: StartBench) -> None:
        bench = start(camera=(self.camera("v4l:97"),))
        wait_until(lambda: bench.agent.status().faults != ())
        assert "plugged" in bench.agent.status().faults[0]
        (condition,) = bench.agent.status().cameras
        assert (condition.camera, condition.state) == ("rack", "lost")
        assert "plugged" in condition.reason
        parse_rfc3339(condition.since)

    def test_that_are_lost_and_return_are_told(self, start: StartBench, tmp_path: Path) -> None:
        watched = tmp_path / "share"
        watched.mkdir()
        (watched / "one.jpg").write_bytes(picture(1))
        bench = start(camera=(self.camera(f"folder:{watched}"),))
        wait_until(lambda: bench.agent.status().frames == 1)
        conditions = [bench.agent.status().cameras[0]]
        watched.rename(tmp_path / "away")
        wait_until(lambda: bench.agent.status().cameras[0].state == "lost")
        wait_until(lambda: "cannot be read" in "".join(bench.agent.status().faults))
        conditions.append(bench.agent.status().cameras[0])
        (tmp_path / "away").rename(watched)
        wait_until(lambda: bench.agent.status().cameras[0].state == "connected")
        wait_until(lambda: bench.agent.status().faults == ())
        conditions.append(bench.agent.status().cameras[0])
        assert [bool(each.since) for each in conditions] == [False, True, True]

    def test_that_do_not_work_are_a_fault_until_they_do(
        self, start: StartBench, tmp_path: Path
    ) -> None:
        bench = start(camera=(self.camera(f"folder:{tmp_path / 'later'}"),))
        wait_until(lambda: bench.agent.status().faults != ())
        assert "no folder" in bench.agent.status().faults[0]
        (tmp_path / "later").mkdir()
        wait_until(lambda: bench.agent.status().faults == ())

    def test_nobody_needs_are_refused_by_name(self, start: StartBench) -> None:
        with pytest.raises(InvalidError, match="'front'"):
            start(cameras=("front",))

    def test_of_other_inspections_are_refused(self, start: StartBench) -> None:
        mine = self.camera("folder:/does/not/exist")
        other = replace(mine, id="other", source=SecretUrl("mqtt:i/other"))
        with pytest.raises(InvalidError, match="no camera to look at"):
            start(camera=(mine, other), cameras=("other",))

    def test_without_inspection_send_the_hub_an_image_now_and_then(
        self, start: StartBench, tmp_path: Path
    ) -> None:
        bench = start(inspection=(), camera=(self.camera(f"folder:{tmp_path}"),))
        frames = bench.hub.subscribe(("lineside/demo/warehouse/rack/frame",), name="frames")
        for number in (1, 2):
            (tmp_path / f"{number}.jpg").write_bytes(picture(number))
        wait_until(lambda: frames.figures().received == 2)
        wait_until(lambda: bench.refused() == {"no inspection": 2})

    def test_without_inspection_go_on_after_an_image_that_fails(
        self, start: StartBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        open_shot, failed = Shot.open, threading.Event()

        def fail_once(shot: Shot) -> Frame:
            if not failed.is_set():
                failed.set()
                raise OSError("a driver's own error")
            return open_shot(shot)

        monkeypatch.setattr(Shot, "open", fail_once)
        bench = start(inspection=(), camera=(self.camera(f"folder:{tmp_path}"),))
        for number in (1, 2):
            (tmp_path / f"{number}.jpg").write_bytes(picture(number))
        wait_until(lambda: bench.refused() == {"failed": 1, "no inspection": 1})

    def test_of_a_plant_without_an_inspection_are_none_yet(self, start: StartBench) -> None:
        bench = start(inspection=())
        assert bench.agent.status().cameras == ()
