from collections.abc import Callable

import numpy as np
import pytest

from lineside.core import InvalidError
from lineside.datasets import Part, Sample
from lineside.datasets.leaks import crossing, find_leaks, parts_of, region_features
from lineside.datasets.splitting import split

Make = Callable[..., Sample]


def scene(rng: np.random.Generator, *, blob: int) -> np.ndarray:
    """Two 16 px regions before one fixed background, a blob in one of four places, noise."""
    image = np.random.default_rng(0).integers(40, 200, (2, 16, 16, 3)).astype(np.float64)
    region, place = divmod(blob, 2)
    if blob >= 0:
        image[region, 8 * place : 8 * place + 8, :8] += 60
    return np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def test_the_same_scene_twice_is_near_and_different_scenes_are_not_although_the_camera_stands() -> (
    None
):
    rng = np.random.default_rng(1)
    blobs = [-1, 0, 1, 2, 3, 0, -1]
    vectors = region_features(np.stack([scene(rng, blob=blob) for blob in blobs]))
    samples = [Sample(name=str(n), digest=f"sha256:{n:064x}") for n in range(len(blobs))]  # type: ignore[arg-type]  # a made-up digest
    found = find_leaks(samples, vectors)
    assert {(leak.a, leak.b) for leak in found} == {("0", "6"), ("1", "5")}
    assert all(leak.kind == "near-duplicate" and leak.similarity >= 0.95 for leak in found)


def test_whole_pictures_of_a_still_camera_would_all_look_alike() -> None:
    rng = np.random.default_rng(1)
    images = np.stack([scene(rng, blob=blob) for blob in range(4)]).astype(np.float32)
    flat = images.reshape(4, -1)
    cosine = flat @ flat.T / np.outer(*[np.linalg.norm(flat, axis=1)] * 2)
    assert cosine.min() > 0.95
    samples = [Sample(name=str(n), digest=f"sha256:{n:064x}") for n in range(4)]  # type: ignore[arg-type]  # a made-up digest
    assert find_leaks(samples, region_features(images.astype(np.uint8))) == ()


def test_the_same_digest_is_the_same_picture(sample: Make) -> None:
    (leak,) = find_leaks([sample(1, split="train"), sample(1, split="valid")])
    assert (leak.kind, leak.similarity, leak.splits) == ("same picture", 1.0, ("train", "valid"))
    assert leak.crosses


def test_a_group_on_both_sides_is_a_leak(sample: Make) -> None:
    given = [
        sample(1, group="tile", split="train"),
        sample(2, group="tile", split="train"),
        sample(3, group="tile", split="valid"),
    ]
    (leak,) = find_leaks(given)
    assert (leak.a, leak.b, leak.kind) == ("p1.png", "p3.png", "same group")


def test_crossing_pairs_come_first(sample: Make) -> None:
    features = np.zeros((3, 4), np.float32)
    features[2] = 0.1
    found = find_leaks([sample(1), sample(2), sample(3)], features, parts=("a", "a", "b"))
    assert [leak.crosses for leak in found] == [True, True, False]
    assert len(crossing(found)) == 2


def test_features_must_belong_to_the_samples(sample: Make) -> None:
    with pytest.raises(InvalidError, match="2 samples"):
        find_leaks([sample(1), sample(2)], np.zeros((3, 4), np.float32))


def test_many_near_pairs_are_cut_at_a_thousand(sample: Make) -> None:
    assert len(find_leaks([sample(n) for n in range(60)], np.zeros((60, 2), np.float32))) == 1000


def test_parts_are_given_in_the_order_of_samples(sample: Make) -> None:
    given = [sample(1, split="valid"), sample(2, split="train"), sample(3, split="valid")]
    assert parts_of(given, split(given)) == (Part.VALID, Part.TRAIN, Part.VALID)
