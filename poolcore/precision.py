"""In what precision pooling is computed: fp64 for fp64, fp32 for everything else, under autocast too."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.amp.autocast_mode import is_autocast_available

__all__ = ["autocast_off", "compute_dtype"]


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which a tensor of ``dtype`` is pooled: fp64 for fp64, else fp32."""
    return torch.promote_types(dtype, torch.float32)


def autocast_off(device_type: str) -> AbstractContextManager[object]:
    """Return a context in which autocast changes no dtype; devices that know no autocast need none."""
    return torch.autocast(device_type, enabled=False) if is_autocast_available(device_type) else nullcontext()
