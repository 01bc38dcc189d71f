"""Which implementation serves: Triton kernels on a GPU, the plain PyTorch reference everywhere else.

Nothing here is imported that a machine may lack until it is known to be there. Kernels are tried once, by running the
smallest of all: Triton builds its launcher with a C compiler at the first call and keeps what it compiles in a folder
on disk, and a machine may have neither the one nor a place for the other.
"""

import importlib.util
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

__all__ = ["Backend", "backend", "kernels_serve", "use_reference"]

# The oldest GPU that the kernels are compiled for and checked: Turing.
_LEAST_CAPABILITY = (7, 5)


class Backend(NamedTuple):
    """What serves tensors on a GPU, and why."""

    name: Literal["triton", "reference"]
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


# The blocks of `use_reference` that are open. They hold for all threads: backward passes run on one of autograd's own.
_open_blocks: list[Backend] = []


def backend() -> Backend:
    """Return which implementation poolcore uses on this machine's GPU, and why.

    Tensors on a processor are always served by the reference. The answer is found at the first call and kept.

    Example:
        >>> print(backend())  # doctest: +SKIP
        reference: PyTorch sees no CUDA device
    """
    return _open_blocks[-1] if _open_blocks else _found()


def kernels_serve(x: Tensor) -> bool:
    """Return whether the kernels compute what is asked for this tensor."""
    return x.is_cuda and backend().name == "triton"


@contextmanager
def use_reference() -> Iterator[None]:
    """Let the reference serve everything, in all threads, within the ``with`` block, to hold the kernels against it."""
    _open_blocks.append(Backend("reference", "asked for by use_reference()"))
    try:
        yield
    finally:
        _open_blocks.pop()


@cache
def _found() -> Backend:
    if not torch.cuda.is_available():
        return Backend("reference", "PyTorch sees no CUDA device")
    if torch.version.hip is not None:
        return Backend("reference", "the kernels are checked on NVIDIA's GPUs alone, this is AMD's")
    name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    if capability < _LEAST_CAPABILITY:
        return Backend("reference", f"kernels need compute capability 7.5, {name} has {capability[0]}.{capability[1]}")
    if importlib.util.find_spec("triton") is None:
        return Backend("reference", "Triton is not installed")
    try:
        from poolcore.kernels.probe import run_probe

        run_probe()
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        return Backend("reference", f"Triton cannot run a kernel here: {error}")
    return Backend("triton", f"{name}, compute capability {capability[0]}.{capability[1]}")
