import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from lineside.core import SystemClock, digest_of
from lineside.datasets import Sample
from lineside.models import OnnxEngine
from lineside.models.engines import BANK_OUTPUT, LABEL_OUTPUTS, BareEngine
from lineside.training.common.backbone import (
    STRIDE_8_CHANNELS,
    STRIDE_16_CHANNELS,
    lite0_backbone,
)
from lineside.training.common.export import onnx_bytes
from lineside.training.common.methods import DescribingNetwork, picture_bank, remember
from lineside.training.job import JobCancelledError, Progress, Steps
from lineside.training.tasks.multilabel.heads import (
    CELLS,
    Heads,
    RegionNetwork,
    grid_features,
    pooled_of,
)

POOLED = STRIDE_8_CHANNELS + STRIDE_16_CHANNELS
FEATURES = POOLED * CELLS


def heads(*, regions: int, outputs: int, seed: int = 0) -> Heads:
    rng = np.random.default_rng(seed)

    def drawn(*shape: int) -> np.ndarray:
        return rng.normal(0, 1, shape).astype(np.float32)

    return Heads(
        weight=drawn(regions, outputs, FEATURES) * np.float32(0.01),
        bias=drawn(regions, outputs),
        mean=drawn(regions, FEATURES),
        bank=drawn(regions, 5, POOLED),
        spread=np.abs(drawn(regions, POOLED)) + np.float32(0.5),
        unit=np.abs(drawn(regions)) + np.float32(1),
    )


def crops(regions: int, *, side_px: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (regions, 3, side_px, side_px)).astype(np.float32)


def write_onnx(made: Heads, *, side_px: int) -> bytes:
    network = RegionNetwork(made, backbone=lite0_backbone()).eval()
    outputs = (*LABEL_OUTPUTS, BANK_OUTPUT)
    return onnx_bytes(network, crops(len(made.bias), side_px=side_px), outputs=outputs)


@pytest.mark.parametrize(("regions", "outputs", "side_px"), [(1, 1, 48), (3, 2, 96), (2, 4, 144)])
def test_the_file_says_what_the_network_says(*, regions: int, outputs: int, side_px: int) -> None:
    made = heads(regions=regions, outputs=outputs)
    file = write_onnx(made, side_px=side_px)
    engine = OnnxEngine(file, crops=(regions, 3, side_px, side_px), where="test")
    batch = crops(regions, side_px=side_px)
    said = engine.run(batch, outputs=(*LABEL_OUTPUTS, BANK_OUTPUT))
    with torch.inference_mode():
        wanted = RegionNetwork(made, backbone=lite0_backbone())(torch.from_numpy(batch))
    assert said[1].shape == (regions, outputs, side_px // 8, side_px // 8)
    bare = BareEngine(file, where="test")  # clients that name no outputs get the usual ones
    assert tuple(slot.name for slot in bare.outputs) == LABEL_OUTPUTS
    assert [one.shape for one in bare.run({"crops": batch})] == [one.shape for one in said[:3]]
    for ours, theirs, most in zip(wanted, said, (1e-4, 1e-3, 1e-4, 1e-4), strict=True):
        assert float(np.abs(ours.numpy() - theirs).max()) < most


def test_the_same_heads_give_the_same_bytes() -> None:
    made = heads(regions=2, outputs=1)
    first = write_onnx(made, side_px=48)
    assert first == write_onnx(made, side_px=48)
    other = replace(made, bias=made.bias + np.float32(1))
    assert first != write_onnx(other, side_px=48)


def test_activation_averages_to_the_logit_above_that_of_an_average_picture() -> None:
    made = heads(regions=2, outputs=3)
    file = write_onnx(made, side_px=96)
    engine = OnnxEngine(file, crops=(2, 3, 96, 96), where="test")
    logits, activation = engine.run(crops(2, side_px=96), outputs=("logits", "activation"))
    average = np.einsum("rof,rf->ro", made.weight, made.mean) + made.bias
    evidence = activation.mean(axis=(2, 3))
    assert np.abs(evidence + average - logits).max() < 1e-3


def test_logits_are_linear_in_the_grid_features_that_heads_are_fitted_to() -> None:
    made = heads(regions=2, outputs=1)
    batch = crops(2, side_px=48)
    file = write_onnx(made, side_px=48)
    engine = OnnxEngine(file, crops=(2, 3, 48, 48), where="test")
    logits, distance = engine.run(batch, outputs=("logits", "distance"))
    features = grid_features(batch, backbone=lite0_backbone())
    assert features.shape == (2, FEATURES)
    expected = np.einsum("rf,rof->ro", features, made.weight) + made.bias
    assert np.abs(expected - logits).max() < 1e-3
    apart = pooled_of(features) / made.spread - made.bank[:, 0]
    nearest = np.linalg.norm(apart, axis=1) / made.unit
    assert (distance <= nearest + 1e-4).all()


def test_features_of_a_crop_do_not_depend_on_its_neighbours() -> None:
    batch = crops(4, side_px=48)
    alone = np.concatenate(
        [grid_features(batch[place : place + 1], backbone=lite0_backbone()) for place in range(4)]
    )
    assert np.abs(alone - grid_features(batch, backbone=lite0_backbone())).max() < 1e-3


def test_the_published_weights_are_frozen() -> None:
    assert not any(parameter.requires_grad for parameter in lite0_backbone().parameters())


class Means(DescribingNetwork):
    """Describes a picture by its mean colours."""

    def describe(self, x: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        return (x,), x.mean(dim=(2, 3))


def test_remembering_pictures_tells_its_progress_and_stops_when_cancelled() -> None:
    samples = [Sample(name=str(n), digest=digest_of(bytes([n]))) for n in range(9)]
    told: list[Progress] = []
    steps = Steps(clock=SystemClock(), progress=told.append, cancelled=threading.Event())

    def crop(sample: Sample) -> torch.Tensor:
        if len(told) == 5:
            steps.cancelled.set()
        return torch.full((1, 3, 4, 4), float(sample.name))

    with pytest.raises(JobCancelledError):
        remember(Means(), samples, crops=crop, steps=steps)
    assert [one.stage for one in told] == ["remembering pictures"] * 6
    steps.cancelled.clear()
    assert len(remember(Means(), samples, crops=crop, steps=steps)[1]) == 9


def test_pictures_are_compared_with_those_of_other_groups_in_the_unit_of_the_network() -> None:
    steps = Steps(clock=SystemClock(), progress=lambda _: None, cancelled=threading.Event())
    samples = [
        Sample(name=str(n), digest=digest_of(bytes([n])), group=f"g{n % 2}") for n in range(8)
    ]

    def crop(sample: Sample) -> torch.Tensor:
        return torch.full((1, 3, 4, 4), int(sample.name) % 2 + int(sample.name) / 1000)

    network, _ = remember(Means(), samples, crops=crop, steps=steps)
    nearest = [float(network(crop(one))[-1].max()) for one in samples]
    assert network.farthest == pytest.approx(max(nearest), abs=0.02)  # that of the other group
    still = np.concatenate([np.zeros((199, 3)), np.full((1, 3), 0.015)])
    bank = picture_bank(still, owners=range(200))
    assert bank.unit == 1.0
    assert bank.farthest == pytest.approx(0.015 / 0.02 * 3**0.5)
