from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.datasets import Sample
from lineside.datasets.leaks import Appearance, NearLimits, check_leaks, near_pairs
from lineside.vision import encode_png

Make = Callable[..., Sample]


def crowd(count: int, *, twins: int, seed: int = 0) -> NDArray[np.float32]:
    """Vectors far from one another, the first ``twins`` with a near copy at the end."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(0, 20, (count, 24)).astype(np.float32)
    vectors[count - twins :] = vectors[:twins] + rng.normal(0, 0.2, (twins, 24))
    return vectors


def test_every_pair_is_compared_where_that_can_be_done() -> None:
    found = near_pairs(crowd(700, twins=9), above=0.95, parts=[""] * 700)
    assert {(one, other) for one, other, _ in found.pairs} == {(n, 691 + n) for n in range(9)}
    assert (found.found, found.compared, found.possible) == (9, 700 * 699 // 2, 700 * 699 // 2)


def test_beyond_the_likely_pairs_are_compared_and_find_nearly_all() -> None:
    vectors = crowd(4000, twins=100)
    limits = NearLimits(all_pairs=1000)
    found = near_pairs(vectors, above=0.95, parts=[""] * 4000, limits=limits)
    true = {(n, 3900 + n) for n in range(100)}
    assert {(one, other) for one, other, _ in found.pairs} <= true
    assert len(found.pairs) >= 95
    assert found.compared < found.possible / 4


def test_neighbours_in_order_are_always_compared() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(0, 20, (300, 24)).astype(np.float32)
    vectors[201] = vectors[200]
    limits = NearLimits(all_pairs=10, block=2)
    found = near_pairs(vectors, above=0.95, parts=[""] * 300, limits=limits)
    assert [(one, other) for one, other, _ in found.pairs] == [(200, 201)]


def test_pairs_between_parts_are_kept_although_others_are_nearer() -> None:
    vectors = np.zeros((100, 4), np.float32)
    vectors[99] = 0.4
    parts = ["train"] * 99 + ["test"]
    found = near_pairs(vectors, above=0.8, parts=parts, limits=NearLimits(most_listed=5))
    assert [(one, other) for one, other, _ in found.pairs][:5] == [(n, 99) for n in range(5)]
    assert len(found.pairs) == 10
    assert found.found == 100 * 99 // 2


def test_what_differs_in_its_fine_structure_is_no_near_duplicate(sample: Make) -> None:
    dull = np.zeros(4, np.float32)
    stripes = np.array([0.5, -0.5, 0.5, -0.5], np.float16)
    looks = {
        sample(1).digest: Appearance(vector=dull, fine=stripes),
        sample(2).digest: Appearance(vector=dull, fine=stripes),
        sample(3).digest: Appearance(vector=dull, fine=-stripes),
    }
    report = check_leaks([sample(n) for n in (1, 2, 3)], looks)
    assert [(leak.a, leak.b) for leak in report.leaks] == [("p1.png", "p2.png")]


def part(kind: int, *, seed: int) -> bytes:
    """PNG of a part whose grains lie where ``kind`` says, a little moved and in other noise."""
    grains, noise = np.random.default_rng(kind), np.random.default_rng(seed)
    image = np.full((120, 160), 110, np.uint8)
    for x, y, shade in zip(
        grains.integers(10, 150, 90), grains.integers(10, 110, 90), grains.integers(30, 220, 90),
        strict=True,
    ):  # fmt: skip
        cv2.rectangle(image, (int(x), int(y)), (int(x) + 5, int(y) + 3), int(shade), -1)
    moved = np.roll(image, noise.integers(-3, 4, 2), (0, 1)) + noise.normal(0, 2, image.shape)
    return encode_png(np.asarray(np.clip(moved, 0, 255), np.uint8)[..., None].repeat(3, axis=2))


def test_two_objects_of_one_kind_are_alike_and_no_leak(sample: Make) -> None:
    samples = [sample(n, split=name) for n, name in enumerate(("train", "test", "test", "train"))]
    plain = encode_png(np.full((120, 160, 3), 110, np.uint8))
    pictures = {
        one.name: content
        for one, content in zip(
            samples, [part(7, seed=1), part(7, seed=2), part(8, seed=3), plain], strict=True
        )
    }
    alike = Appearance(vector=np.zeros(4, np.float32), fine=np.full(4, 0.5, np.float16))
    looks = {one.digest: alike for one in samples}

    report = check_leaks(samples, looks, read=lambda one: pictures[one.name])

    across = [(leak.a, leak.b) for leak in report.leaks if leak.crosses]
    # a picture without features says nothing of its objects
    assert across == [("p0.png", "p1.png"), ("p1.png", "p3.png"), ("p2.png", "p3.png")]
    assert (report.check.similar, report.check.found) == (1, 5)
    assert report.check.gaps[-1].startswith("1 pairs between parts are alike and show different")
    assert [leak.words for leak in report.leaks[2:4]] == [
        "near-duplicate, leaks", "near-duplicate, harmless in one part",
    ]  # fmt: skip
    assert len(check_leaks(samples, looks).leaks) == 6


def test_the_report_says_what_was_not_compared(sample: Make) -> None:
    samples = [sample(n, split="train" if n % 2 else "test") for n in range(41)]
    vectors = np.random.default_rng(0).normal(0, 20, (41, 24)).astype(np.float32)
    looks = {s.digest: Appearance(vector=v) for s, v in zip(samples[1:], vectors[1:], strict=True)}
    limits = NearLimits(all_pairs=2, neighbours=1, block=2)
    check = check_leaks(samples, looks, limits=limits).check
    assert (check.pictures, check.looked_at, check.pairs) == (41, 40, 780)
    assert check.compared < 780
    assert (check.neighbours, check.neighbours_across) == (40, 40)
    assert [gap.split()[0] for gap in check.gaps] == ["1", str(check.compared), "40"]


def test_numbers_of_different_folders_or_series_are_no_neighbours() -> None:
    names = ["a/x1.png", "b/x2.png", "a/y2.png", "a/x2.jpg", "a/x2.png", "a/x3.png", "a/z.png"]
    given = [Sample(name=name, digest=f"sha256:{n:064x}") for n, name in enumerate(names)]  # type: ignore[arg-type]  # a made-up digest
    assert check_leaks(given, {}).check.neighbours == 2


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare_is_no_leak(sample: Make, count: int) -> None:
    given = [sample(n) for n in range(count)]
    looks = {s.digest: Appearance(vector=np.zeros(4, np.float32)) for s in given}
    report = check_leaks(given, looks)
    assert (report.leaks, report.check.gaps) == ((), ())
