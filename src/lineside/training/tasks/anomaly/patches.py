"""Patch features of good images by the frozen network, cached in the job's folder.

Features at strides 8 and 16, each averaged over 3 x 3 neighbours (Roth et al. 2022, section 3.1),
the coarse ones laid over the fine ones bilinearly. They are kept as float16.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.core import encode
from lineside.datasets import Sample
from lineside.training.common.backbone import (
    STRIDE_8_CHANNELS,
    STRIDE_16_CHANNELS,
    Lite0Backbone,
    fast_backbone,
)
from lineside.training.job import load_arrays, save_arrays
from lineside.training.tasks.anomaly.scene import Pictures, Scene
from lineside.vision import HealthFigures, Matrix, fitted, grey_of
from lineside.vision.masks import inside_picture
from lineside.vision.picture import grey_health
from lineside.vision.prepare import cut, levelled, normalise

CHANNELS = STRIDE_8_CHANNELS + STRIDE_16_CHANNELS
STRIDE_PX = 8

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Image = NDArray[np.uint8]


def taps(trunk: Lite0Backbone, crops: Tensor) -> Tensor:
    """(n, 3, h, w) prepared crops → (n, CHANNELS, h / 8, w / 8)."""
    fine, coarse = trunk(crops)
    near, far = (_averaged(each) for each in (fine, coarse))
    laid = nn.functional.interpolate(far, scale_factor=2, mode="bilinear")
    return torch.cat([near, laid], dim=1)


def _averaged(tap: Tensor) -> Tensor:
    return nn.functional.avg_pool2d(tap, 3, 1, 1, count_include_pad=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patches:
    """Patch features of one picture.

    Attributes:
        features: (CHANNELS, rows, columns) float16, only cells that lie in the picture.
        pixels: (height, width, 3) uint8, what was cut out of the picture.
    """

    sample: Sample
    features: Halves
    pixels: Image
    health: HealthFigures


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchExtractor:
    """Looks at pictures of one scene, all in the same way."""

    scene: Scene
    work: Pictures
    folder: Path

    def look(self, sample: Sample) -> Patches:
        """The picture's patches, from the folder where they are there."""
        path = self.folder / f"{self._key(sample)}.npz"
        kept = load_arrays(path)
        if kept is None:
            kept = self._look(sample)
            save_arrays(path, kept)
        sharpness, grey, clipped = (float(v) for v in np.asarray(kept["health"], np.float64))
        return Patches(
            sample=sample,
            features=np.asarray(kept["features"], np.float16),
            pixels=np.asarray(kept["pixels"], np.uint8),
            health=HealthFigures(sharpness=sharpness, mean_grey=grey, clipped_share=clipped),
        )

    def _key(self, sample: Sample) -> str:
        template = b"" if self.scene.template is None else self.scene.template.tobytes()
        facts = encode([sample.digest, self.scene.prepare])
        return hashlib.sha256(facts + template).hexdigest()[:40]

    def _look(self, sample: Sample) -> dict[str, NDArray[np.generic]]:
        image = self.work.picture(sample)
        matrix = self.placed(image)
        pixels = cut(image, self.scene.prepare, matrix=matrix)[0]
        health = grey_health(grey_of(image))
        features = self.features(pixels)
        rows, columns = self._cells(image)
        return {
            "features": features[:, :rows, :columns],
            "pixels": pixels,
            "health": np.array([health.sharpness, health.mean_grey, health.clipped_share]),
        }

    def placed(self, image: Image) -> Matrix | None:
        """Where the part lies; None without a pose."""
        finder = self.scene.finder()
        return None if finder is None else finder.find(grey_of(image)).matrix

    def features(self, pixels: Image) -> Halves:
        """(CHANNELS, rows, columns) float16 of (height, width, 3) uint8 cut pixels."""
        settings = self.scene.prepare
        crops = normalise(levelled(pixels[None], settings), settings)
        with torch.inference_mode():
            x = torch.from_numpy(crops).contiguous(memory_format=torch.channels_last)
            found = taps(fast_backbone(), x)[0].contiguous().numpy()
        return np.asarray(np.clip(found, -6e4, 6e4), np.float16)

    def _cells(self, image: Image) -> tuple[int, int]:
        """Rows and columns of the map whose cells lie in the picture."""
        settings = self.scene.prepare
        own = fitted(settings, width_px=image.shape[1], height_px=image.shape[0])
        whole = np.zeros((own.height_px // STRIDE_PX, own.width_px // STRIDE_PX), np.float32)
        if settings.fit != "zoom":
            return whole.shape
        return inside_picture(
            whole, settings, width_px=image.shape[1], height_px=image.shape[0]
        ).shape


def patches_of(looker: PatchExtractor, samples: Sequence[Sample]) -> list[Patches]:
    """Every picture's patches, in order."""
    found = []
    for number, sample in enumerate(samples):
        found.append(looker.look(sample))
        looker.work.steps.at(20 + 35 * (number + 1) / len(samples), "looking at patches")
    return found
