"""In which memory format results lie: that of their input."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["format_of", "new_empty"]

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def format_of(x: Tensor) -> torch.memory_format:
    """Return the memory format of what is made of ``x``: channels_last if ``x`` is that alone, else contiguous."""
    channels_last = _CHANNELS_LAST.get(x.dim())
    if channels_last is None or x.is_contiguous() or not x.is_contiguous(memory_format=channels_last):
        return torch.contiguous_format
    return channels_last


def new_empty(x: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
    """Return a tensor that nobody wrote, of ``x``'s device and memory format."""
    return torch.empty(shape, dtype=dtype or x.dtype, device=x.device, memory_format=format_of(x))
