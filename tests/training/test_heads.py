import numpy as np
import pytest

from lineside.core import Box, Digest, Inspection, InvalidError, Region, View
from lineside.datasets import Sample
from lineside.training.tasks.multilabel.heads import (
    UNKNOWN,
    check_enough,
    distances_of,
    fit_heads,
    logits_of,
    plan_heads,
    truth_of,
)

FEATURES = 152 * 9
BOX = Box(x0_px=0.0, y0_px=0.0, x1_px=8.0, y1_px=8.0)
VIEW = View(width_px=32, height_px=32)


def inspection(*regions: Region, labels: tuple[str, ...] = ()) -> Inspection:
    view = VIEW if regions else None
    return Inspection(id="i", camera="c", view=view, region=regions, labels=labels)


MIXED = inspection(
    Region(id="A1", box_px=BOX, classes=("empty", "blue")),
    Region(id="lid", box_px=BOX, label="closed"),
    Region(id="A2", box_px=BOX, classes=("empty", "blue")),
)


def sample(number: int, *labels: str, known: tuple[str, ...] = ()) -> Sample:
    digest = Digest(f"sha256:{number:064x}")
    return Sample(name=f"{number}", digest=digest, labels=labels, known=known)


def test_regions_of_one_class_list_share_a_head_and_presence_has_its_own() -> None:
    plan = plan_heads(MIXED)
    assert [(head.rows, head.labels, head.exclusive) for head in plan.heads] == [
        ((1,), ("closed",), False),
        ((0, 2), ("empty", "blue"), True),
    ]
    assert [o.name for o in plan.outputs] == [
        "A1/empty",
        "A1/blue",
        "closed",
        "A2/empty",
        "A2/blue",
    ]
    assert plan.width == 2


def test_without_regions_one_head_answers_every_label() -> None:
    plan = plan_heads(inspection(labels=("dent", "scratch")))
    assert plan.heads[0].labels == ("dent", "scratch")
    assert not plan.heads[0].exclusive
    assert plan.regions == ("",)


def test_truth_knows_what_was_not_judged() -> None:
    plan = plan_heads(MIXED)
    truth = truth_of(plan, [sample(1, "A1/blue", known=("closed", "A2/blue"))])
    assert truth[0, 0].tolist() == [0, 1]
    assert truth[0, 1].tolist() == [0, UNKNOWN]
    assert truth[0, 2].tolist() == [UNKNOWN, UNKNOWN]


def test_what_is_lacking_is_named() -> None:
    plan = plan_heads(MIXED)
    given = [sample(n, "A1/empty", "closed", known=("closed",)) for n in range(4)]
    with pytest.raises(InvalidError) as caught:
        check_enough(plan, truth_of(plan, given))
    text = str(caught.value)
    assert "closed: 4 pictures show it, 0 do not" in text
    assert "blue: 0 pictures show it, 4 do not" in text


def drawn(count: int, *, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Features of which the first says blue, and their truth, for two rows."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (count, 2))
    features = []
    for row in truth:
        values = rng.normal(0, 1, (3, 2, FEATURES)).astype(np.float32)
        values[:, :, :40] += 3.0 * row[None, :, None]
        features.append(values)
    wide = np.stack([1 - truth, truth], axis=-1).astype(np.int8)
    return features, wide


def test_a_shared_head_learns_from_every_place_and_gives_each_the_same_weights() -> None:
    regions = [Region(id=f"A{n}", box_px=BOX, classes=("empty", "blue")) for n in (1, 2)]
    plan = plan_heads(inspection(*regions))
    features, truth = drawn(12)
    fitted = fit_heads(plan, features, truth=truth)
    assert np.array_equal(fitted.heads.weight[0], fitted.heads.weight[1])
    seen, held = drawn(12, seed=1)
    logits = logits_of(fitted.heads, np.stack([each[0] for each in seen]))
    assert ((logits > 0) == (held == 1)).mean() > 0.95
    assert 0 < fitted.loss < 0.7


def test_a_fold_without_one_side_still_answers_weakly() -> None:
    plan = plan_heads(inspection(Region(id="lid", box_px=BOX, label="closed")))
    features, _ = drawn(4)
    one_side = [each[:, :1] for each in features]
    fitted = fit_heads(plan, one_side, truth=np.ones((4, 1, 1), np.int8))
    assert logits_of(fitted.heads, one_side[0]).tolist() == [[[2.0]]] * 3


def test_distance_is_about_one_among_the_training_pictures_and_grows_with_strangeness() -> None:
    plan = plan_heads(inspection(*[Region(id="lid", box_px=BOX, label="closed")]))
    features = [each[:, :1] for each in drawn(20)[0]]
    truth = np.arange(20).reshape(20, 1, 1).astype(np.int8) % 2
    heads = fit_heads(plan, features, truth=truth).heads
    own = [float(distances_of(heads, each[0])[0]) for each in features]
    assert max(own) < 1e-3  # each is in the bank itself
    near = drawn(20, seed=2)[0][0][0, :1]
    assert 0.3 < float(distances_of(heads, near)[0]) < 2.0
    assert float(distances_of(heads, near + np.float32(20))[0]) > 5.0
