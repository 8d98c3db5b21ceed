"""Data-parallel training: each process takes its share of every batch, gradients are averaged.

A learner draws each batch as if it were alone, keeps ``share`` of it, and calls ``average`` between
``backward`` and the optimiser's step. With several processes the sums are those of one process, up
to rounding: batch normalisation is folded into the trunk, so no statistic of a batch is left.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch.nn import Parameter

T = TypeVar("T")


class Parallel:
    """One process alone; the shape of ``Together`` without it."""

    rank = 0
    size = 1

    def share(self, batch: Sequence[T]) -> list[T]:
        """This process's part of a batch; possibly empty."""
        return list(batch)

    def average(self, parameters: Iterable[Parameter], *, own: int, batch: int) -> None:
        """Make every gradient that of the whole batch.

        Args:
            parameters: after ``backward`` of the mean loss over this process's share.
            own: how many items that share had.
            batch: how many the whole batch had.
        """


class Together(Parallel):
    """One of several processes of a ``torch.distributed`` group that stands already."""

    def __init__(self) -> None:
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()

    def share(self, batch: Sequence[T]) -> list[T]:
        return list(batch[self.rank :: self.size])

    def average(self, parameters: Iterable[Parameter], *, own: int, batch: int) -> None:
        wanting = [one for one in parameters if one.requires_grad]
        flat = torch.cat([_gradient(one).reshape(-1) for one in wanting]) * (own / batch)
        torch.distributed.all_reduce(flat)
        start = 0
        for one in wanting:
            one.grad = flat[start : start + one.numel()].reshape(one.shape).clone()
            start += one.numel()


def _gradient(parameter: Parameter) -> torch.Tensor:
    """Zero where the share was empty."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
