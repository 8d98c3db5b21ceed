"""Ray Data: a store's frames through a package, many at a time, in the order they were taken.

Each worker loads the package once and reads frames from the blobs by digest. The plain loop is the
same function on one process, and what the cluster's rate is held against.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from lineside.core import Digest, LinesideError, SystemClock, encode
from lineside.models import Package, Predictor
from lineside.store import Blobs, open_blobs
from lineside.training.distributed.cluster import Cluster, check_reachable, connected
from lineside.vision import open_frame

_BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredFrame:
    """A frame to score, as the frame index names it."""

    id: str
    digest: Digest
    camera: str
    captured_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreJob:
    """Pictures to score and the package that scores them.

    Attributes:
        package: the archive's bytes.
        blobs_url: where the frames' pictures are.
    """

    package: bytes
    frames: Sequence[ScoredFrame]
    blobs_url: str


class Scorer:
    """A package with the blobs it reads from; one per worker."""

    def __init__(self, package: bytes, blobs_url: str) -> None:
        self._clock = SystemClock()
        self._predictor = Predictor(Package.read(package), clock=self._clock)
        self._blobs: Blobs = open_blobs(blobs_url)

    def close(self) -> None:
        """Let go of the blobs."""
        self._blobs.close()

    def line(self, frame: ScoredFrame) -> bytes:
        """One JSON document: the prediction, or why there is none."""
        try:
            opened = open_frame(
                self._blobs.get(frame.digest), camera=frame.camera, captured_at=frame.captured_at
            )
            return encode({"frame": frame.id, "prediction": self._predictor.predict(opened)})
        except LinesideError as error:
            return encode({"frame": frame.id, "error": error.message})

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Ray Data's form: columns in, columns out."""
        rows = zip(batch["id"], batch["digest"], batch["camera"], batch["captured_at"], strict=True)
        lines = [
            self.line(
                ScoredFrame(
                    id=str(name),
                    digest=Digest(str(digest)),
                    camera=str(camera),
                    captured_at=datetime.fromisoformat(str(moment)),
                )
            )
            for name, digest, camera, moment in rows
        ]
        return {"line": np.array(lines, dtype=object)}


def score_here(job: ScoreJob) -> Iterator[bytes]:
    """Every frame's line, on this process."""
    scorer = Scorer(job.package, job.blobs_url)
    try:
        for frame in job.frames:
            yield scorer.line(frame)
    finally:
        scorer.close()


def score_on(cluster: Cluster, job: ScoreJob) -> Iterator[bytes]:
    """Every frame's line, from a cluster, in the order of the frames.

    Raises:
        InvalidError: blobs that other machines cannot read.
        UnavailableError: the cluster is away.
    """
    check_reachable(cluster, data="dataset://", blobs_url=job.blobs_url)
    with connected(cluster) as ray:
        data = need_data(ray)
        context = data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        rows = [_row(frame) for frame in job.frames]
        blocks = max(1, min(len(rows) // _BATCH, 8 * cluster.workers))
        scored = data.from_items(rows, override_num_blocks=blocks).map_batches(
            Scorer,
            fn_constructor_args=(job.package, job.blobs_url),
            batch_size=_BATCH,
            compute=data.ActorPoolStrategy(size=cluster.workers),
            num_cpus=1,
        )
        for row in scored.iter_rows():
            yield bytes(row["line"])


def need_data(ray: Any) -> Any:  # noqa: ANN401  untyped library
    """``ray.data``, quiet."""
    import logging

    from ray import data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return data if ray.is_initialized() else None


def _row(frame: ScoredFrame) -> dict[str, str]:
    return {
        "id": frame.id,
        "digest": frame.digest,
        "camera": frame.camera,
        "captured_at": frame.captured_at.isoformat(),
    }
