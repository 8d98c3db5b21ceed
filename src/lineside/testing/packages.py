"""The least manifest there is, for tests of what reads one: figures, task heads, archives."""

from lineside.core import Policy, digest_of
from lineside.models import MANIFEST_SCHEMA, Engine, HealthLimits, Lineage, Manifest
from lineside.vision import Prepare

NETWORK_FILE = "network.onnx"
NO_LIMITS = HealthLimits(
    sharpness_min=0.0,
    mean_grey_min=0.0,
    mean_grey_max=255.0,
    clipped_share_max=1.0,
    residual_max_px=4.0,
    feature_distance_max=10.0,
)


def bare_manifest(
    task: str,
    *,
    labels: tuple[str, ...] = (),
    prepare: Prepare | None = None,
    network: bytes = b"",
) -> Manifest:
    """A manifest without rules, golden pictures and figures; ``replace`` gives it what is tested.

    Args:
        task: what it answers.
        labels: what it can say.
        prepare: of the whole picture at 96 x 96 pixels, unless it is given.
        network: ONNX bytes, to stand in the package as ``NETWORK_FILE``.
    """
    return Manifest(
        schema=MANIFEST_SCHEMA,
        name="parts",
        task=task,
        inspection="parts",
        labels=labels,
        prepare=prepare or Prepare(crops=(), width_px=96, height_px=96),
        rules=(),
        policy=Policy(),
        health=NO_LIMITS,
        engine=Engine(file=NETWORK_FILE, digest=digest_of(network)),
        golden=(),
        lineage=Lineage(
            dataset="parts/1",
            data_digest=digest_of(b""),
            pictures=1,
            seed=0,
            code_version="",
            created_at="",
        ),
    )
