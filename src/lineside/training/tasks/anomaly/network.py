"""The whole network, in torch and as an ONNX file: trunk, patches, scorer."""

from torch import Tensor, nn

from lineside.training.common.backbone import Lite0Backbone
from lineside.training.tasks.anomaly.patches import taps
from lineside.training.tasks.anomaly.scorers import Scorer

MAP = "map"


class AnomalyNetwork(nn.Module):
    """(1, 3, height, width) prepared crops → (1, 1, height / 8, width / 8) distances."""

    def __init__(self, scorer: Scorer, *, trunk: Lite0Backbone) -> None:
        super().__init__()
        self.trunk = trunk
        self.scorer = scorer

    def forward(self, crops: Tensor) -> Tensor:
        found: Tensor = self.scorer(taps(self.trunk, crops))
        return found
