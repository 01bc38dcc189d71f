"""The smallest kernel, to see whether Triton works on a machine."""

import torch
import triton
import triton.language as tl

__all__ = ["run_probe"]


@triton.jit
def _probe_kernel(y_ptr):
    """Write a one."""
    tl.store(y_ptr, 1)


def run_probe() -> None:
    """Compile and launch a kernel.

    Raises:
        RuntimeError: if it did not do what it should, or Triton finds no C compiler.
        OSError: if Triton has no folder to keep what it compiles.
        subprocess.CalledProcessError: if the compiler fails.
    """
    y = torch.zeros(1, dtype=torch.int32, device="cuda")
    _probe_kernel[(1,)](y)
    if y.item() != 1:
        raise RuntimeError("a kernel that writes a one did not")
