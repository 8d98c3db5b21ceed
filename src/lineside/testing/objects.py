"""Packages of objects whose network has learned nothing, and still answers exactly."""

from dataclasses import replace

import numpy as np
import torch

from lineside.core import Box
from lineside.models import (
    Package,
    build_package,
)
from lineside.testing.bare import bare_manifest
from lineside.training.common.backbone import channels_last, lite0_backbone
from lineside.training.common.export import onnx_bytes
from lineside.training.tasks.detect.network import OUTPUTS, TEMPLATE_CHANNELS, VARIES, CentreNetwork
from lineside.vision import CountRule, Crop, DetectRule, Prepare

UNTRAINED_RULE = DetectRule(
    labels=("disc", "square"), stride_px=4, cut=0.5, unsure_below=0.6, slope=30.0, offset=120.0
)  # what has learned nothing says about -4 everywhere


def untrained_network(*, template: bool, labels: int = 2) -> CentreNetwork:
    """Always the same one."""
    backbone = lite0_backbone()  # which draws when it is read first
    torch.manual_seed(3)
    network = CentreNetwork(backbone=backbone, labels=labels, template=template)
    return channels_last(network).eval()


def untrained(
    *,
    template: bool = False,
    zoom: float = 1.0,
    count: CountRule | None = None,
    rule: DetectRule = UNTRAINED_RULE,
) -> Package:
    """A package of a network that has learned nothing, which still answers exactly."""
    return Package.read(untrained_bytes(template=template, zoom=zoom, count=count, rule=rule))


def untrained_bytes(
    *,
    template: bool = False,
    zoom: float = 1.0,
    count: CountRule | None = None,
    rule: DetectRule = UNTRAINED_RULE,
) -> bytes:
    """The same as a file."""
    encoded = onnx_bytes(
        untrained_network(template=template, labels=len(rule.labels)),
        np.zeros((1, TEMPLATE_CHANNELS if template else 3, 96, 96), np.float32),
        outputs=OUTPUTS,
        varies=VARIES,
    )
    look = Prepare(
        crops=(Crop(region="", box_px=Box(x0_px=0, y0_px=0, x1_px=96, y1_px=96)),),
        width_px=96,
        height_px=96,
        fit="zoom",
        zoom=zoom,
    )
    task = "count" if count else "detect"
    manifest = replace(
        bare_manifest(task, labels=rule.labels, prepare=look, network=encoded),
        detect=rule,
        count=count,
        template=template,
    )
    return build_package(manifest, {"network.onnx": encoded})
