"""Connect to a Ray cluster, or start one on this machine, for as long as a block.

``ray`` starts one here and ends it afterwards; ``ray://host:10001`` is a cluster that stands
already, whose machines have lineside with the extras ``train`` and ``ray``.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from lineside.core import InvalidError, UnavailableError, need

HERE = "ray"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where and on how many.

    Attributes:
        on: ``ray`` or ``ray://host:port``.
        workers: processes at work at once, one core each.
        storage: where checkpoints of a run are kept: ``s3://bucket/prefix`` for a cluster of
            several machines; "" is a folder on the machine that leads the run.
        retries: how often a run whose worker died is taken up again.
    """

    on: str = HERE
    workers: int = 2
    storage: str = ""
    retries: int = 3

    def __post_init__(self) -> None:
        if self.on != HERE and not self.on.startswith("ray://"):
            raise InvalidError(
                f"{self.on!r} names no cluster", where="on", fix="Write ray, or ray://host:10001."
            )
        if self.workers < 1:
            raise InvalidError("at least 1", where="workers", fix="Write 2.")

    @property
    def is_here(self) -> bool:
        """Return whether the cluster is this machine alone, which sees this machine's files."""
        return self.on == HERE


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """The ``ray`` module with a cluster behind it.

    Raises:
        UnavailableError: nobody answers at that address.
        MissingExtraError: ray is not installed.
    """
    ray = need("ray", extra="ray")
    with redirect_stdout(sys.stderr):  # what Ray tells is no result
        _join(ray, cluster)
        try:
            yield ray
        finally:
            ray.shutdown()


def _join(ray: Any, cluster: Cluster) -> None:  # noqa: ANN401  untyped library
    try:
        if cluster.is_here:
            # One core more than workers: the task that leads the run takes none, others may wait.
            ray.init(
                address="local",
                num_cpus=cluster.workers + 1,
                include_dashboard=False,
                logging_level="ERROR",
                log_to_driver=False,
                configure_logging=False,
            )
        else:
            ray.init(address=cluster.on, logging_level="ERROR", log_to_driver=False)
    except (ConnectionError, TimeoutError, RuntimeError) as error:
        raise UnavailableError(
            f"no Ray cluster answers: {error}", where=cluster.on, fix="Start it, or use --on ray."
        ) from error


def check_reachable(cluster: Cluster, *, data: str, blobs_url: str) -> None:
    """Refuse data that workers on other machines could not read."""
    if cluster.is_here:
        return
    if not data.startswith(("dataset://", "version://", "s3://")):
        raise InvalidError(
            f"workers on other machines cannot read {data!r}",
            where="data",
            fix="Import it and name dataset://NAME/N, or a bucket.",
        )
    if not data.startswith("s3://") and blobs_url.startswith(("file:", "memory:")):
        raise InvalidError(
            "workers on other machines cannot read these blobs",
            where=blobs_url,
            fix="Keep blobs in a bucket: s3://….",
        )
