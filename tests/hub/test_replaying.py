"""A recorded span once more: to the last bit where nothing changed, what differs where it did."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from lineside.core import InvalidError, NotFoundError, Plant, RefusedError, decode_json, encode
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig
from lineside.hub.replay.answers import RecordedPredictor
from lineside.hub.replay.repository import AS_RECORDED, ReplayOrder
from lineside.models import EngineDevice, Package
from lineside.streams import PREDICTION_TYPE, decode_event, read_prediction
from lineside.testing import FakeClock
from lineside.vision import StageTimes
from tests.hub.replayed import (
    DARK,
    SHOWN,
    WINDOWS,
    Day,
    digest,
    laid_out_otherwise,
    plain,
    rebuilt,
    recorded_day,
    shy,
)


@pytest.fixture
def day(
    config: HubConfig, plant: Plant, clock: FakeClock, *, archive: bytes,
    jpeg: Callable[..., bytes],
) -> Iterator[Day]:  # fmt: skip
    with recorded_day(config, plant, clock, archive=archive, jpeg=jpeg) as made:
        made.record()
        yield made


def test_the_same_package_says_the_same_to_the_last_bit(day: Day) -> None:
    found = day.again(day.package)
    assert found.frames == found.counts.frames == found.counts.identical == len(SHOWN)
    assert found.bit_identical
    assert (found.decisions_changed, found.events_changed, found.twin_changed) == ((), (), ())
    assert found.counts.events_same > 3
    assert (found.record.differ, found.record.only, found.record.absent) == (0, 0, 0)
    assert found.record.same > 0


def test_every_answer_is_the_recorded_one_byte_for_byte_but_for_its_times(day: Day) -> None:
    answers = RecordedPredictor(
        day.hub.records, day.hub.blobs, find=lambda _: day.package, clock=day.clock,
        device=EngineDevice.AUTO,
    )  # fmt: skip
    seen = 0
    for logged in day.hub.records.log.read(type=PREDICTION_TYPE):
        recorded = read_prediction(decode_event(logged.entry.body, where="log"))
        again = answers.again(recorded, package=day.package.digest, position=logged.position)
        untimed = [encode(replace(one, latency_ms=StageTimes())) for one in (recorded, again)]
        assert untimed[0] == untimed[1]
        seen += 1
    assert seen == len(SHOWN)
    assert answers.device is EngineDevice.CPU  # for the result to name


def test_a_replay_of_a_replay_says_the_same_and_has_the_same_digest(day: Day) -> None:
    other = shy(day.package)
    first, second = day.again(other), day.again(other)
    assert plain(first) == plain(second)
    assert first.digest == second.digest != day.again(day.package).digest


def test_another_package_changes_what_it_decides_otherwise(day: Day) -> None:
    found = day.again(shy(day.package))
    wanted = [place for place, shown in enumerate(SHOWN) if "blue" in shown]
    assert found.counts.decisions_changed == len(found.decisions_changed) == len(wanted)
    assert found.counts.identical == len(SHOWN) - len(wanted)
    seconds = [(one.at - day.since).total_seconds() for one in found.decisions_changed]
    assert seconds == wanted
    for one in found.decisions_changed:
        labels = [{each["name"]: each["decision"] for each in said["labels"]}
                  for said in (one.before, one.after)]  # fmt: skip
        assert (labels[0].pop("blue"), labels[1].pop("blue")) == ("present", "absent")
        assert labels[0] == labels[1]
        assert (one.package_before, one.package_after) == (day.package.digest, found.package)
        assert day.hub.records.log.get(one.event).entry.subject == "stock"
    assert not found.bit_identical


def test_events_differ_where_an_independent_count_says_so(day: Day) -> None:
    found = day.again(shy(day.package))
    stretches = [SHOWN[place : place + 5] for place in range(0, len(SHOWN), 5)]
    wanted = sum(sum("blue" in shown for shown in stretch) > 1 for stretch in stretches)
    changed = [one for one in found.events_changed if one.rule == "windows"]
    assert {one.change for one in changed} == {"removed"}
    assert {one.before.data["key"]["label"] for one in changed if one.before} == {"blue"}
    assert len(changed) == found.counts.events_changed == wanted
    assert all(one.after is None and one.before is not None for one in changed)
    assert found.counts.events_same > 0


def test_the_twin_leads_back_to_both_packages(day: Day) -> None:
    found = day.again(shy(day.package))
    places = {one.path: one for one in found.twin_changed}
    assert set(places) == {"slots/A1", "colours/blue"}
    slot = places["slots/A1"]
    assert (slot.before["seen"], slot.after["seen"]) == ("present", "absent")
    assert slot.before_evidence.package == day.package.digest
    assert slot.after_evidence.package == found.package
    assert slot.before_evidence.frame == slot.after_evidence.frame
    assert (slot.times, slot.stands) == (2, False)


def test_pictures_that_a_package_cannot_judge_are_events_of_the_hub_on_its_side(day: Day) -> None:
    strict = replace(day.package.manifest.health, mean_grey_min=239.0)
    found = day.again(rebuilt(day.package, name="strict", health=strict))
    assert found.counts.decisions_changed == len(SHOWN)
    assert {one.after["state"] for one in found.decisions_changed} == {"black"}
    parts = {(one.before, one.after.partition(": ")[0]) for one in found.verdicts_changed}
    assert parts == {("ok", "review")}
    assert found.counts.verdicts_changed == len(found.verdicts_changed) == len(SHOWN)
    assert {one.frame for one in found.verdicts_changed} == {
        one.frame for one in found.decisions_changed
    }
    added = [one for one in found.events_changed if one.change == "added" and one.after]
    assert {one.rule for one in added} == {"picture", "dark"}
    begun = next(one.after for one in added if one.rule == "picture" and one.after)
    assert (begun.data["action"], begun.data["state"]) == ("begun", "black")
    places = {one.path: one for one in found.twin_changed}
    assert (places["picture"].before, places["picture"].after) == (
        {"state": "ok"},
        {"state": "black"},
    )
    assert places["picture"].stands


def test_other_rules_are_tried_without_asking_any_package(day: Day) -> None:
    text = f"[[rule]]\n{WINDOWS.replace('above = 1', 'above = 2')}".encode()
    found = day.again(rules=text)
    assert (found.frames, found.counts.frames, found.counts.answers_kept) == (16, 0, 16)
    assert {one.change for one in found.events_changed} == {"removed"}
    assert all(
        one.before.data["values"]["count"] == 2 for one in found.events_changed if one.before
    )
    assert found.rules.startswith("sha256:")
    assert not found.decisions_changed
    assert not found.verdicts_changed
    assert not found.twin_changed


def test_the_plants_own_rules_from_a_file_change_nothing(day: Day) -> None:
    found = day.again(rules=f"[[rule]]\n{WINDOWS}\n[[rule]]\n{DARK}".encode())
    assert found.bit_identical
    assert found.rules == ""


def test_rules_that_read_what_is_not_there_are_refused_with_every_fault(day: Day) -> None:
    text = b'[[rule]]\nid = "a"\nread = { predictions = "nothing" }\nwindow = { size_s = 5 }\n'
    with pytest.raises(InvalidError, match="nothing"):
        day.again(rules=text)
    with pytest.raises(InvalidError, match=r"no \[\[rule\]\] tables"):
        day.again(rules=b'site = "hall"\n')


def test_a_picture_that_is_gone_keeps_its_answer_and_is_counted(day: Day) -> None:
    later = day.since + timedelta(seconds=3)
    day.hub.records.frames.age_out(older_than=later)
    found = day.again(shy(day.package))
    assert (found.frames, found.counts.frames_missing, found.counts.frames) == (16, 3, 13)
    assert all(one.at >= later for one in found.decisions_changed)
    assert "3 frames have no picture any more" in found.remarks[0]


def test_a_picture_that_was_never_stored_is_missing(day: Day) -> None:
    row = day.hub.frames.page(camera="rack", limit=1)[0]
    day.hub.blobs.delete(row.digest)
    found = day.again(day.package)
    assert (found.counts.frames_missing, found.counts.identical) == (1, 15)


def test_a_corrupted_picture_is_said_and_the_rest_goes_on(
    config: HubConfig, plant: Plant, clock: FakeClock, *, archive: bytes,
    jpeg: Callable[..., bytes], tmp_path: Path,
) -> None:  # fmt: skip
    (tmp_path / "blobs").mkdir()
    stored = replace(config, blobs=SecretUrl(f"file://{tmp_path}/blobs"))
    with recorded_day(stored, plant, clock, archive=archive, jpeg=jpeg) as day:
        day.record((("blue",), ("red",)))
        picture = jpeg("red", seed=2)
        for path in (one for one in (tmp_path / "blobs").rglob("*") if one.is_file()):
            if picture in (held := path.read_bytes()):
                path.write_bytes(held.replace(picture, picture[:200] + bytes(50) + picture[250:]))
        found = day.again(day.package)
    assert (found.counts.frames_damaged, found.counts.identical) == (1, 1)
    assert "could not be answered" in found.remarks[0]
    assert not found.decisions_changed


def test_who_answered_then_is_asked_once_more(day: Day) -> None:
    assert day.again(AS_RECORDED).bit_identical


def test_a_span_that_holds_nothing_or_ends_before_it_begins(day: Day) -> None:
    begun = day.since
    day.since, day.until = day.until + timedelta(hours=1), day.until + timedelta(hours=2)
    day.clock.advance(7200)
    with pytest.raises(NotFoundError, match="nothing arrived") as caught:
        day.again(day.package)
    assert "The log holds what arrived from" in caught.value.fix
    with pytest.raises(InvalidError, match="before it has begun"):
        ReplayOrder(since=day.until, until=begun)


def test_a_package_that_nobody_has(day: Day) -> None:
    with pytest.raises(NotFoundError):
        day.again(digest("nobody"))


def test_an_inspection_that_the_package_was_not_made_for(day: Day) -> None:
    with pytest.raises(InvalidError, match="no inspection 'nothing'"):
        day.again(day.package, inspection="nothing")


def test_the_log_is_left_as_it_was(day: Day) -> None:
    before = day.hub.records.log.read(newest_first=True, limit=1)[0].position
    day.again(shy(day.package))
    assert day.hub.records.log.read(newest_first=True, limit=1)[0].position == before


def test_a_span_in_the_middle_begins_with_the_memory_that_it_had(day: Day) -> None:
    day.since += timedelta(seconds=7)
    found = day.again(day.package)
    assert found.bit_identical
    assert found.frames == len(SHOWN) - 7
    assert (found.record.differ, found.record.only) == (0, 0)


def test_what_a_replay_says_is_plain_json(day: Day) -> None:
    told = decode_json(plain(day.again(shy(day.package))), where="replay")
    assert {"frames", "decisions_changed", "events_changed", "twin_changed"} <= set(told)


def test_of_two_inspections_of_a_camera_only_the_packages_own_is_asked(
    config: HubConfig, plant: Plant, clock: FakeClock, *, archive: bytes,
    jpeg: Callable[..., bytes],
) -> None:  # fmt: skip
    stock = plant.find_inspection("stock")
    both = replace(plant, inspection=(stock, replace(stock, id="rear")))
    rear = rebuilt(Package.read(archive), inspection="rear")
    with recorded_day(config, both, clock, archive=archive, jpeg=jpeg) as day:
        day.record(SHOWN[:4], beside=(rear,))
        found = day.again(shy(day.package))
        assert (found.frames, found.counts.answers_kept) == (4, 4)
        assert found.inspections == ("stock",)
        assert {one.inspection for one in found.decisions_changed} == {"stock"}
        assert day.again(rear).bit_identical
        assert day.again(rear, inspection="stock").inspections == ("stock",)
        moved = laid_out_otherwise(rear.manifest, inspection="rear")
        elsewhere = rebuilt(rear, prepare=moved.prepare)
        with pytest.raises(RefusedError, match="made for inspection 'rear'"):
            day.again(elsewhere, inspection="stock")
        with pytest.raises(InvalidError, match="fits any inspection"):
            day.again(rebuilt(rear, inspection=""))
        with pytest.raises(NotFoundError, match="no package sha256"):
            day.again(AS_RECORDED)  # the one of the other inspection is in no registry


def test_an_answer_that_a_second_device_gave_is_asked_as_that_devices(day: Day) -> None:
    day.clock.advance(60)
    day.device = "edge-2"
    day.record((("blue",), ("red",)))
    found = day.again(AS_RECORDED)
    assert found.frames == len(SHOWN) + 2
    assert found.bit_identical
