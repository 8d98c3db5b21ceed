"""Drawn defects: how they look, how they are judged, and the smallest that are found."""

import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from lineside.core import SystemClock, digest_of
from lineside.datasets import Sample
from lineside.training import JobCancelledError
from lineside.training.job import Steps
from lineside.training.tasks.anomaly.choice import WHOLE, Candidate, SyntheticBenchmark
from lineside.training.tasks.anomaly.power import (
    CONTRASTS,
    KINDS,
    Defect,
    Image,
    Judge,
    draw_defect,
    power_test,
    sizes_of,
)
from lineside.training.tasks.anomaly.scene import Patches, PatchExtractor, Scene, _framed
from lineside.training.tasks.anomaly.scorers import fit_mahalanobis, map_of
from lineside.training.tasks.contract import Work
from lineside.vision import AnomalyRule, HealthFigures, decode_picture

SIDE = 320
BENCH = SyntheticBenchmark(blur_cells=1.0, top_share=0.01)


def surface(seed: int, side: int = SIDE) -> Image:
    grey = 120 + np.random.default_rng(seed).normal(0, 3, (side, side, 1))
    return np.asarray(np.repeat(grey, 3, axis=2), np.uint8)


def inside() -> np.ndarray:
    found = np.zeros((SIDE, SIDE), np.bool_)
    found[40:280, 100:260] = True
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_is_local_of_its_contrast_and_drawn_the_same_again(kind: str) -> None:
    image, region = surface(1), inside()
    defect = Defect(kind=kind, size_px=30.0, contrast=40.0)
    made, box = draw_defect(image, defect, inside=region, rng=np.random.default_rng(4))
    again, _ = draw_defect(image, defect, inside=region, rng=np.random.default_rng(4))
    assert np.array_equal(made, again)
    change = np.abs(made.astype(int) - image).max(axis=2)
    outside = np.ones((SIDE, SIDE), np.bool_)
    outside[box] = False
    assert not change[outside].any()
    assert region[change > 10].mean() > 0.85
    assert 25 <= change.max() <= 55
    rows, columns = np.nonzero(change > 10)
    assert 8 <= max(np.ptp(rows), np.ptp(columns)) <= 75


def test_sizes_grow_up_to_half_of_the_region() -> None:
    assert sizes_of((160.0, 240.0), "scratch")[::6] == (4.0, 120.0)
    assert sizes_of((160.0, 240.0), "blob")[::6] == (4.0, 80.0)


def judge_of(tmp_path: Path, *, limit: float, cancelled: threading.Event, side: int) -> Judge:
    steps = Steps(clock=SystemClock(), progress=lambda _: None, cancelled=cancelled)
    work = Work(folder=tmp_path, steps=steps, training=(), files=lambda _: b"")
    scene: Scene = _framed(side, side)
    looker = PatchExtractor(scene=scene, work=work, folder=tmp_path)
    patches = []
    for number in range(3):
        pixels = surface(number, side)
        health = HealthFigures(sharpness=1.0, mean_grey=120.0, clipped_share=0.0)
        sample = Sample(name=str(number), digest=digest_of(pixels.tobytes()))
        patches.append(
            Patches(sample=sample, features=looker.features(pixels), pixels=pixels, health=health)
        )
    scorer = fit_mahalanobis([each.features for each in patches], channels=slice(None), seed=1)
    scores = np.array([BENCH.score(map_of(scorer, each.features)) for each in patches])
    candidate = Candidate(
        name="spread", scorer=scorer, scores=scores, changed=scores, kinds=("line",) * 3,
        held_out=lambda _picture, some, _cells: map_of(scorer, some),
    )  # fmt: skip
    rule = AnomalyRule(
        limit=limit * float(scores.max()), unsure_above=0.0, unit=1.0, false_reject_rate=0.25,
        calibration_pictures=3,
    )  # fmt: skip
    return Judge(looker=looker, patches=patches, candidate=candidate, rule=rule, benchmark=BENCH)


def test_a_window_around_the_defect_scores_as_the_whole_picture(tmp_path: Path) -> None:
    judge = judge_of(tmp_path, limit=2.0, cancelled=threading.Event(), side=SIDE)
    defect = Defect(kind="blob", size_px=8.0, contrast=40.0)
    region = np.zeros((SIDE, SIDE), np.bool_)
    region[20:60, 20:60] = True
    pixels = judge.patches[1].pixels
    image, box = draw_defect(pixels, defect, inside=region, rng=np.random.default_rng(2))
    whole = judge.candidate.held_out(1, judge.looker.features(image), WHOLE)
    assert judge.score(1, image, box) == pytest.approx(BENCH.score(whole), rel=0.02)
    assert judge.score(1, image, box) > 1.5 * judge.candidate.scores[1]


def test_larger_and_stronger_defects_are_found_and_faint_ones_are_told(tmp_path: Path) -> None:
    judge = judge_of(tmp_path, limit=3.0, cancelled=threading.Event(), side=96)
    test, pictures = power_test(judge, pictures=2, seed=7)
    assert (test.pictures, test.part_px) == (2, 96.0)
    assert set(pictures) == set(KINDS)
    assert decode_picture(pictures["blob"], max_bytes=10**6).shape[1] <= 240
    by_kind = {kind: [one for one in test.defects if one.kind == kind] for kind in KINDS}
    for mine in by_kind.values():
        assert [one.contrast for one in mine] == list(CONTRASTS)
        for stronger, fainter in pairwise(mine):
            assert all(a >= b for a, b in zip(stronger.found, fainter.found, strict=True))
    assert by_kind["blob"][0].at_80.size_px is not None


def test_nothing_is_drawn_where_that_is_asked_or_all_good_ones_are_rejected(
    tmp_path: Path,
) -> None:
    strict = judge_of(tmp_path, limit=0.1, cancelled=threading.Event(), side=128)
    assert not power_test(strict, pictures=2, seed=7)[0].defects
    mild = judge_of(tmp_path, limit=2.0, cancelled=threading.Event(), side=128)
    assert not power_test(mild, pictures=0, seed=7)[0].words


def test_drawing_stops_when_the_job_is_cancelled(tmp_path: Path) -> None:
    cancelled = threading.Event()
    judge = judge_of(tmp_path, limit=1e6, cancelled=cancelled, side=64)
    cancelled.set()
    with pytest.raises(JobCancelledError):
        power_test(judge, pictures=1, seed=7)
