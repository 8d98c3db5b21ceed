import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import Box, Digest, Inspection, Region, View, digest_of
from lineside.datasets import Library, Sample, plan_freeze
from lineside.datasets.leaks import find_leaks, inspection_of, leak_features
from lineside.vision import encode_png

WIDTH, HEIGHT = 120, 90
INSPECTION = Inspection(
    id="stock",
    camera="rack",
    view=View(width_px=WIDTH, height_px=HEIGHT),
    region=(
        Region(id="left", label="left", box_px=Box(x0_px=20, y0_px=30, x1_px=50, y1_px=60)),
        Region(id="right", label="right", box_px=Box(x0_px=70, y0_px=30, x1_px=100, y1_px=60)),
    ),
)


def scene(*, left: bool, right: bool, seed: int, shift_px: int = 0) -> bytes:
    room = np.random.default_rng(0)
    image = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    for _ in range(50):
        x, y = int(room.integers(0, WIDTH)), int(room.integers(0, HEIGHT))
        shade = tuple(int(v) for v in room.integers(20, 230, 3))
        cv2.rectangle(image, (x, y), (x + 12, y + 9), shade, -1)
    for place, shown in ((35, left), (85, right)):
        cv2.rectangle(image, (place - 14, 31), (place + 14, 59), (30, 30, 30), -1)
        if shown:
            cv2.circle(image, (place, 45), 11, (200, 60, 50), -1)
    moved = np.roll(image, shift_px, axis=1)
    rng = np.random.default_rng(seed)
    noisy: NDArray[np.float64] = moved + rng.normal(0, 1.5, moved.shape)
    return encode_png(np.asarray(np.clip(noisy, 0, 255), np.uint8))


def sample(encoded: bytes, name: str) -> Sample:
    return Sample(name=name, digest=digest_of(encoded), known=("left", "right"))


@pytest.fixture
def shown() -> dict[str, bytes]:
    return {
        "none": scene(left=False, right=False, seed=1),
        "left": scene(left=True, right=False, seed=2),
        "left again": scene(left=True, right=False, seed=3, shift_px=3),
        "right": scene(left=False, right=True, seed=4),
        "both": scene(left=True, right=True, seed=5),
    }


def test_the_same_scene_is_near_although_the_camera_moved_and_others_are_not(
    shown: dict[str, bytes],
) -> None:
    samples = [sample(encoded, name) for name, encoded in shown.items()]
    kept = {digest_of(encoded): encoded for encoded in shown.values()}
    vectors = leak_features(samples, read=lambda s: kept[s.digest], inspection=INSPECTION)
    features = np.stack([vectors[s.digest].vector for s in samples])
    near = find_leaks(samples, features, above=0.9)
    assert [(leak.a, leak.b) for leak in near] == [("left", "left again")]


def test_a_frozen_version_names_near_duplicates_of_its_inspection(
    library: Library, shown: dict[str, bytes]
) -> None:
    content = {**shown, "left twice": scene(left=True, right=False, seed=9)}
    library.add("rack", ((sample(e, name), e) for name, e in content.items()), by="ann")
    plan = plan_freeze(library, "rack", inspections=[INSPECTION])
    version = library.freeze("rack", by="ann", plan=plan)
    assert version.leaks_by == "regions of inspection stock"
    assert ("left", "left twice") in {(min(x.a, x.b), max(x.a, x.b)) for x in version.leaks}


def test_labels_of_no_inspection_leave_whole_pictures_less_their_camera(
    library: Library, shown: dict[str, bytes]
) -> None:
    content = {**shown, "left twice": scene(left=True, right=False, seed=9)}
    samples = [
        Sample(name=name, digest=digest_of(encoded), labels=("odd",))
        for name, encoded in content.items()
    ]
    library.add("rack", zip(samples, content.values(), strict=True), by="ann")
    plan = plan_freeze(library, "rack", inspections=[INSPECTION])
    version = library.freeze("rack", by="ann", plan=plan)
    assert version.leaks_by.startswith("whole pictures")
    assert [{leak.a, leak.b} for leak in version.leaks] == [{"left", "left twice"}]
    assert inspection_of(samples, [INSPECTION]) is None


def test_pictures_of_another_size_or_damaged_ones_take_no_part(shown: dict[str, bytes]) -> None:
    kept = [*shown.values()]
    broken = kept[0][:-30]
    samples = [sample(e, str(n)) for n, e in enumerate([*kept[1:], broken])]
    bytes_of = dict(zip([s.digest for s in samples], [*kept[1:], broken], strict=True))
    vectors = leak_features(samples, read=lambda s: bytes_of[s.digest], inspection=INSPECTION)
    assert len(vectors) == len(samples) - 1
    small = [Sample(name=str(n), digest=Digest(f"sha256:{n:064x}")) for n in range(3)]
    tiny = encode_png(np.zeros((16, 24, 3), np.uint8))
    assert leak_features(small, read=lambda _: tiny, inspection=INSPECTION) == {}
