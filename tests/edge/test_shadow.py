"""A trial: the package before judges beside the one in use, bounded, and tells what differs."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from lineside.core import Digest, UnavailableError, decode, digest_of
from lineside.edge.deploy.shadow import ShadowDeployment
from lineside.edge.messages import Counters
from lineside.fleet import Evidence, JobDocument, TrialReport
from lineside.fleet.evidence import add_frame
from lineside.models.operating_point import OperatingPoint
from lineside.testing import FakeClock
from lineside.testing.bare import bare_label, bare_prediction
from lineside.testing.links import wait_until
from lineside.vision import (
    CountAnswer,
    Decision,
    Frame,
    LabelAnswer,
    Prediction,
    StageTimes,
    encode_jpeg,
    open_frame,
)
from lineside.vision.verdict import RejectRule

OLD, NEW = digest_of(b"old"), digest_of(b"new")
PICTURE = encode_jpeg(np.full((16, 16, 3), 90, np.uint8))
AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Fixed:
    """A judge that says one thing, in one time; it can fail, and it can be held."""

    package: Digest
    says: Decision = Decision.ABSENT
    took_ms: float = 5.0
    failing: Exception | None = None
    gate: threading.Event = field(default_factory=threading.Event)

    operating_point: str = ""

    def __post_init__(self) -> None:
        self.gate.set()

    def decide_by(self, point: OperatingPoint | None) -> None:
        del point

    def predict(self, frame: Frame, *, device: str = "", decode_ms: float = 0.0) -> Prediction:
        del decode_ms
        self.gate.wait()
        if self.failing is not None:
            raise self.failing
        return bare_prediction(
            frame.ref, inspection="stock", task="multilabel", device=device, package=self.package,
            labels=(bare_label("dent", 0.9, self.says),), latency_ms=StageTimes(total=self.took_ms),
        )  # fmt: skip


class Bench:
    """A device's trial with everything around it steerable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.counters = Counters()
        self.old, self.new = Fixed(OLD, took_ms=4.0), Fixed(NEW)
        self.told: list[TrialReport] = []
        self.loaded = 0
        self.away = False
        self.frames = 0
        self.rule = RejectRule()
        self.shadow = self.made()

    def made(self) -> ShadowDeployment:
        shadow = ShadowDeployment(
            self.folder, device="edge-1", find_old=self.find, tell=self.tell,
            counters=self.counters,
            clock=self.clock, most_per_s=10.0, find_rule=lambda _: self.rule,
        )  # fmt: skip
        shadow.start()
        return shadow

    def find(self, inspection: str, digest: str) -> Fixed:
        assert (inspection, digest) == ("stock", OLD)
        self.loaded += 1
        return self.old

    def tell(self, payload: bytes) -> bool:
        if not self.away:
            self.told.append(decode(TrialReport, payload, where="told"))
        return not self.away

    def see(self, count: int, *, wait_s: float = 1.0) -> None:
        """Frames come, judged by the package in use, and each is compared before the next."""
        for _ in range(count):
            self.frames += 1
            at = AT + timedelta(seconds=self.frames)
            before = self.seen()
            frame = open_frame(PICTURE, camera="rack", captured_at=at)
            try:
                prediction = self.new.predict(frame)
            except Exception as error:
                self.shadow.failed("stock", error)
                raise
            self.shadow.look(frame, prediction)
            if wait_s:
                wait_until(lambda before=before: self.seen() > before)  # type: ignore[misc]
                wait_until(lambda: self.shadow._given is None)
            self.clock.advance(wait_s)

    def seen(self) -> int:
        return sum(report.evidence.frames for report in self.shadow.reports())

    def last(self) -> TrialReport:
        wait_until(lambda: bool(self.told))
        return self.told[-1]


def order(*, frames: int = 5, rollout: str = "rol_1", digest: str = NEW) -> JobDocument:
    return JobDocument(
        model_name="discs", model_version="2", model_package_bucket="b", model_package_key="k",
        inspection="stock", digest=digest, rollout=rollout, trial_frames=frames,
    )  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.old.gate.set()
    bench.shadow.close()


def test_both_judge_the_same_frames_and_what_differs_is_told_until_there_are_enough(
    bench: Bench,
) -> None:
    bench.new.says = Decision.PRESENT
    bench.shadow.begin(order(), before=OLD)
    bench.see(5)
    wait_until(lambda: bench.last().ended)
    report = bench.last()
    found = report.evidence
    assert (report.rollout, report.old, report.new) == ("rol_1", OLD, NEW)
    assert (found.frames, found.changed, found.rejects_gained, found.rejects_lost) == (5, 5, 5, 0)
    assert (found.latency_ms_old, found.latency_ms_new) == (4.0, 5.0)
    assert bench.loaded == 1
    bench.see(1, wait_s=0)
    assert bench.seen() == 5


def test_a_label_of_a_good_part_is_a_change_and_no_rejection(bench: Bench) -> None:
    bench.rule = RejectRule(good=("dent",))
    bench.new.says = Decision.PRESENT
    bench.shadow.begin(order(frames=2), before=OLD)
    bench.see(2)
    wait_until(lambda: bench.last().ended)
    found = bench.last().evidence
    assert (found.frames, found.changed, found.rejects_gained, found.rejects_old) == (2, 2, 0, 0)


def test_verdicts_are_counted_by_the_plant_file_and_not_by_what_is_found() -> None:
    frame = open_frame(PICTURE, camera="rack", captured_at=AT)
    empty = replace(Fixed(OLD).predict(frame), labels=())

    def labels(*names: str) -> Prediction:
        found = (
            LabelAnswer(
                name=name, region="", label=name, probability=0.9, decision=Decision.PRESENT
            )
            for name in names
        )
        return replace(empty, labels=tuple(found))

    def count(value: int, *, said: int | None = None) -> Prediction:
        answer = CountAnswer(
            value=value, low=value, high=value, decision=Decision.PRESENT, expected=said
        )
        return replace(empty, task="count", count=answer)

    rule = RejectRule(expected_labels=(), expected_count=12)
    pairs = [
        (labels("dent", "scratch"), labels("dent"), (1, 1)),  # fewer findings, rejected still
        (labels("dent"), labels(), (1, 0)),
        (count(12), count(11), (0, 1)),
        (count(11), count(10), (1, 1)),
        (count(7), count(7, said=7), (0, 0)),  # the trigger's message is about both
    ]
    found = Evidence(device="edge-1", inspection="stock")
    for old, new, expected in pairs:
        before = found
        found = add_frame(found, old=old, new=new, rule=rule)
        assert found.verdicts == before.verdicts + 1
        more = (
            found.verdict_rejects_old - before.verdict_rejects_old,
            found.verdict_rejects_new - before.verdict_rejects_new,
        )
        assert more == expected


def test_latencies_after_a_restart_wait_until_they_stand_for_the_frames(bench: Bench) -> None:
    def restart() -> None:
        bench.shadow.close()
        bench.shadow = bench.made()

    def times() -> tuple[float, float]:
        found = bench.shadow.reports()[0].evidence
        return found.latency_ms_new, found.latency_p95_ms

    bench.shadow.begin(order(frames=500), before=OLD)
    bench.see(10)
    assert times() == (5.0, 5.0)
    restart()
    bench.new.took_ms = 90.0
    bench.see(1)
    assert times() == (0.0, 0.0)  # ten frames do not stand for what follows
    bench.new.took_ms = 5.0
    bench.see(49)
    assert times() == (5.0, 5.0)
    restart()
    bench.new.took_ms = 90.0
    bench.see(49)
    assert times() == (5.0, 5.0)
    bench.see(1)
    assert times() == (90.0, 90.0)


def test_frames_that_come_too_fast_are_left_and_counted_and_hold_nobody_up(bench: Bench) -> None:
    bench.old.gate.clear()
    bench.shadow.begin(order(), before=OLD)
    bench.see(20, wait_s=0)
    assert bench.shadow.reports()[0].left == 19
    assert bench.seen() == 0
    bench.old.gate.set()
    wait_until(lambda: bench.seen() == 1)


def test_without_a_package_before_frames_are_counted_and_nothing_is_compared(bench: Bench) -> None:
    bench.shadow.begin(order(), before="")
    bench.see(5)
    assert (bench.last().old, bench.loaded) == ("", 0)
    assert bench.shadow.reports()[0].evidence.changed == 0


def test_a_package_before_that_cannot_be_loaded_counts_nothing_and_is_told(bench: Bench) -> None:
    bench.old.failing = UnavailableError("the engine is gone")
    bench.shadow.begin(order(), before=OLD)
    bench.see(1, wait_s=0)
    wait_until(lambda: any("the engine is gone" in fault for fault in bench.counters.read().faults))
    assert bench.seen() == 0
    bench.old.failing = None
    wait_until(lambda: bench.shadow._given is None)
    bench.clock.advance(31)
    bench.see(1)
    assert bench.counters.read().faults == ()


def test_figures_go_on_after_a_clean_end_and_another_is_a_crash(bench: Bench) -> None:
    bench.shadow.begin(order(), before=OLD)
    bench.see(2)
    bench.shadow.close()
    bench.shadow = bench.made()
    assert (bench.seen(), bench.shadow.reports()[0].evidence.crashes) == (2, 0)
    killed = bench.shadow
    bench.shadow = bench.made()
    assert bench.shadow.reports()[0].evidence.crashes == 1
    # Who was killed may still tell its own, later.
    wait_until(lambda: any(one.evidence.crashes == 1 for one in bench.told))
    killed.close()
    bench.shadow.close()
    path = bench.folder / "trials.json"
    text = path.read_text().replace('"boot":""', '"boot":"of-another-day"')
    path.write_text(text)
    bench.shadow = bench.made()
    assert bench.shadow.reports()[0].evidence.crashes == 1  # the power was cut: no crash


def test_a_frame_on_which_the_new_one_fails_is_a_crash_and_a_refused_picture_is_none(
    bench: Bench,
) -> None:
    bench.shadow.begin(order(), before=OLD)
    bench.new.failing = UnavailableError("not now")
    with pytest.raises(UnavailableError):
        bench.see(1)
    bench.new.failing = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        bench.see(1)
    assert bench.shadow.reports()[0].evidence.crashes == 1


def test_what_the_bus_does_not_take_is_told_later_in_all(bench: Bench) -> None:
    bench.away = True
    bench.shadow.begin(order(), before=OLD)
    bench.see(3)
    assert bench.told == []
    bench.away = False
    wait_until(lambda: bool(bench.told))
    assert bench.told[0].evidence.frames == 3


def test_the_same_job_again_goes_on_and_another_ends_it(bench: Bench) -> None:
    bench.shadow.begin(order(), before=OLD)
    bench.see(2)
    bench.shadow.begin(order(), before=OLD)
    assert bench.seen() == 2
    bench.shadow.begin(order(rollout="rol_2"), before=OLD)
    assert bench.seen() == 0
    bench.shadow.begin(order(frames=0, digest=OLD), before=NEW)
    assert bench.shadow.reports() == ()


def test_frames_of_another_package_are_not_of_the_trial(bench: Bench) -> None:
    bench.shadow.begin(order(), before=OLD)
    bench.new = replace(bench.new, package=digest_of(b"third"))
    bench.see(1, wait_s=0)
    assert (bench.seen(), bench.shadow.reports()[0].left) == (0, 0)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"trials":[{}]}', b"\xff" * 100])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "trials.json").write_bytes(content)
    bench = Bench(tmp_path)
    assert bench.shadow.reports() == ()
    bench.shadow.close()
