"""One training by several processes, as torchrun starts them on one machine or many.

Every process draws the same order of samples and takes its own equal part of each batch, so that a step sees the
samples that one process alone would have seen; gradients are averaged by PyTorch's DistributedDataParallel. Processes
talk through gloo on processors and NCCL on NVIDIA GPUs. Without torchrun nothing here changes anything.

Batch norm in training is where the number of processes may show. On GPUs it becomes SyncBatchNorm, with the statistics
of the whole batch. PyTorch has none for processors: there each process normalises by the statistics of its own part,
and the running ones are averaged over the processes after every step. Their variances, taken without bias in each
part, average to one without bias, but it is not to the last digit that of the whole batch.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["Processes", "join_processes", "own_device"]

# The others wait while the first looks at the validation images; PyTorch's ten minutes are few for ImageNet's 50,000.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this one is; the first, of rank 0, is the one that writes."""

    rank: int
    count: int

    @classmethod
    def here(cls) -> Self:
        """Return this process's place in the default process group; alone where there is none."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls(0, 1)

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files and shows progress."""
        return self.rank == 0

    def spread(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return a module to call in place of ``network``, whose backward pass averages the gradients.

        All processes then hold the first one's parameters. On a GPU the network's batch norms become SyncBatchNorm, of
        the same keys and in place.
        """
        if self.count == 1:
            return network
        if device.type != "cpu":
            # torch leaves its types out.
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return DistributedDataParallel(network, broadcast_buffers=False)

    def part_of(self, batches: Tensor, *, with_previous: bool = False) -> Tensor:
        """Return this process's part of each batch: (batches, N) -> (batches, N / count), or one more.

        Args:
            batches: indices of samples; N is a multiple of the number of processes.
            with_previous: put first the sample before the part in the batch, before the batch's first its last.
        """
        size = batches.shape[1] // self.count
        first = self.rank * size
        part = batches[:, first : first + size]
        return torch.cat((batches[:, [first - 1]], part), dim=1) if with_previous else part

    def agree_on(self, number: int, device: torch.device) -> bool:
        """Return whether all processes hold the same number."""
        if self.count == 1:
            return True
        extremes = torch.tensor([number, -number], device=device)
        dist.all_reduce(extremes, dist.ReduceOp.MAX)
        return extremes.tolist() == [number, -number]

    @torch.no_grad()
    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over the processes, in one message."""
        if self.count == 1:
            return
        values = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(values)
        values /= self.count
        for tensor, mean in zip(tensors, torch.split(values, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))


def _torchrun_started_this() -> bool:
    return dist.is_available() and dist.is_torchelastic_launched()


def own_device(name: str) -> str:
    """Return the name of this process's device: under torchrun "cuda" is "cuda:1" in a machine's second process.

    Raises:
        ValueError: if the name has a number that torchrun's processes would share.
    """
    if name == "cpu" or not _torchrun_started_this():
        return name
    if ":" in name:
        raise ValueError(f"device must have no number under torchrun, which gives each process its own, got {name!r}")
    return f"{name}:{os.environ['LOCAL_RANK']}"


@contextmanager
def join_processes(device: torch.device) -> Iterator[None]:
    """Form the process group of all that torchrun started, for as long as the block lasts; without torchrun, none."""
    if not _torchrun_started_this():
        yield
        return
    if device.type != "cpu":
        torch.accelerator.set_device_index(device)
    dist.init_process_group(dist.get_default_backend_for_device(device), timeout=_PATIENCE)
    yield
    # Not after an error: the others may never answer. torchrun ends them.
    dist.destroy_process_group()
