"""LiftPool's P and U: learned filters and fixed wavelets, one set of numbers and one formula for both.

A filter guesses one half of an axis from the other (`poolcore.lifting`). Learned, it is
tanh(scale * relu(conv(x) + bias) + shift), depthwise, with K taps along the axis; a wavelet's is conv(x) alone, the
same for every channel. Where Zhao & Snoek 2021 leave P and U open this is our choice: with depthwise convolutions the
layer is a stencil per channel.
"""

from typing import Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolcore.precision import autocast_off

__all__ = ["WAVELETS", "Filter", "FilterParts", "FixedFilter", "LiftFilter", "PaddingMode", "apply_filter"]

PaddingMode = Literal["replicate", "zeros"]

# Taps of P and of U, centred, the ends replicated.
WAVELETS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "haar": ((1.0,), (0.5,)),
    "cdf53": ((0.0, 0.5, 0.5), (0.25, 0.25, 0.0)),
}


class Filter(Protocol):
    """P or U: a map from one half of an axis to a guess of the other, of the same shape."""

    def __call__(self, x: Tensor, axis: int) -> Tensor: ...


class FilterParts(NamedTuple):
    """A filter's numbers: ``weight`` (C, K), or (1, K) for all channels alike; the others (C,), or None if linear."""

    weight: Tensor
    bias: Tensor | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None


def apply_filter(parts: FilterParts, padding_mode: PaddingMode, x: Tensor, axis: int) -> Tensor:
    """Return the filter's guess from ``x``, of its shape and dtype.

    Args:
        parts: of the filter.
        padding_mode: what lies beyond the ends, "replicate" (the last pixel) or "zeros".
        x: (N, C, L) or (N, C, H, W).
        axis: along which the taps lie, -1 or -2.
    """
    channels, rank, taps = x.shape[1], x.dim() - 2, parts.weight.shape[-1]
    amounts, size = [0] * (2 * rank), [1] * rank
    amounts[-2 * axis - 2 : -2 * axis] = taps // 2, taps // 2
    size[axis] = taps
    padded = F.pad(x, amounts, mode="replicate") if padding_mode == "replicate" else F.pad(x, amounts)
    kernel = parts.weight.to(x.dtype).expand(channels, taps).reshape(channels, 1, *size)
    with autocast_off(x.device.type):
        conv = (F.conv1d if rank == 1 else F.conv2d)(padded, kernel, groups=channels)
    if parts.bias is None or parts.scale is None or parts.shift is None:
        return conv
    bias, scale, shift = (part.to(x.dtype).view(-1, *[1] * rank) for part in parts[1:] if part is not None)
    # The bias is added after the convolution: as a part of it, its gradient is ten times as slow on a CPU.
    z = F.relu(conv + bias) * scale + shift
    return 2 * torch.sigmoid(2 * z) - 1  # tanh(z), at a sixth of its time on a CPU


class LiftFilter(nn.Module):
    """P or U of a learned LiftPool: ``tanh(scale * relu(conv(x) + bias) + shift)``, depthwise, K taps along an axis.

    ``scale`` and ``shift`` begin at 0, so that an untrained layer's bands are the pixels themselves and their mean is
    average pooling. Parameters: ``channels * (K + 3)``.

    Args:
        channels: of the input.
        kernel_size: K, odd.
        padding_mode: what lies beyond the ends, "replicate" (the last pixel) or "zeros".
    """

    def __init__(self, channels: int, kernel_size: int = 5, padding_mode: PaddingMode = "replicate") -> None:
        super().__init__()
        if type(kernel_size) is not int or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size of LiftPool's filters must be an odd int of at least 1, got {kernel_size!r}")
        if padding_mode not in ("replicate", "zeros"):
            raise ValueError(f'padding_mode must be "replicate" or "zeros", got {padding_mode!r}')
        self.padding_mode: PaddingMode = padding_mode
        self.weight = nn.Parameter(torch.empty(channels, kernel_size))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        nn.init.uniform_(self.weight, -(kernel_size**-0.5), kernel_size**-0.5)

    @property
    def parts(self) -> FilterParts:
        """The four parameters in the order of the formula."""
        return FilterParts(self.weight, self.bias, self.scale, self.shift)

    def forward(self, x: Tensor, axis: int) -> Tensor:
        return apply_filter(self.parts, self.padding_mode, x, axis)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, kernel_size={self.weight.shape[1]}, padding_mode={self.padding_mode}"


class FixedFilter(nn.Module):
    """P or U of a wavelet: a linear filter with the same taps for every channel, the ends replicated, not trained."""

    weight: Tensor
    padding_mode: PaddingMode = "replicate"

    def __init__(self, taps: tuple[float, ...]) -> None:
        super().__init__()
        # Not persistent: the wavelet's name says it all, so a state dict need not hold it.
        self.register_buffer("weight", torch.tensor([taps]), persistent=False)

    @property
    def parts(self) -> FilterParts:
        """The taps."""
        return FilterParts(self.weight)

    def forward(self, x: Tensor, axis: int) -> Tensor:
        return apply_filter(self.parts, self.padding_mode, x, axis)

    def extra_repr(self) -> str:
        return f"taps={self.weight[0].tolist()}"
