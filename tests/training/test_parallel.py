"""Two processes with half a batch each take the step of one process with the whole batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lineside.testing.links import LONG_S
from lineside.training.common.loop import Parallel

BATCH = 7

WORKER = """
import sys
import torch
from torch import distributed, nn
from lineside.training.common.loop import ProcessGroup

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
)
together = ProcessGroup()
torch.manual_seed(3)
layer = nn.Linear(4, 2)
batch = torch.randn(7, 4)
own = together.share(list(range(7)))
layer(batch[own]).square().mean(dim=1).mean().backward()
together.average(layer.parameters(), own=len(own), batch=7)
if rank == 0:
    torch.save([one.grad for one in layer.parameters()], f"{folder}/gradients.pt")
distributed.barrier()
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_gradients_of_two_are_those_of_one(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), str(tmp_path)])
        for rank in range(2)
    ]
    assert [worker.wait(LONG_S) for worker in workers] == [0, 0]
    torch.manual_seed(3)
    layer = torch.nn.Linear(4, 2)
    batch = torch.randn(BATCH, 4)
    layer(batch).square().mean(dim=1).mean().backward()
    found = torch.load(tmp_path / "gradients.pt", weights_only=True)
    for one, theirs in zip(layer.parameters(), found, strict=True):
        assert one.grad is not None
        assert torch.allclose(one.grad, theirs, atol=1e-6)


def test_alone_the_batch_is_ones_own_and_gradients_stay() -> None:
    alone = Parallel()
    assert alone.share([1, 2, 3]) == [1, 2, 3]
    layer = torch.nn.Linear(2, 1)
    layer(torch.ones(1, 2)).sum().backward()
    before = [one.grad for one in layer.parameters()]
    alone.average(layer.parameters(), own=1, batch=1)
    after = [one.grad for one in layer.parameters()]
    assert all(left is right for left, right in zip(before, after, strict=True))
