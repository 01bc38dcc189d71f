"""LiftPool's analysis where no graph is needed: in place, and both halves of the width as one batch.

The arithmetic is `poolcore.lifting`'s, with half of its steps: what lies between two convolutions is written over
itself, and the two halves that the width was split into go through the height's filters together.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from poolcore.layout import new_empty
from poolcore.lift_filters import FilterParts, PaddingMode
from poolcore.lifting import Combine, extended, halves
from poolcore.precision import compute_dtype

__all__ = ["Guess", "PlainFilter", "convolve", "lift_down"]


class Guess(NamedTuple):
    """What a filter made of its input, and what its gradient needs: the input padded, and the rectifier's output."""

    value: Tensor
    padded: Tensor
    hidden: Tensor | None


class PlainFilter:
    """P or U with its numbers in the dtype that is computed in: see `poolcore.lift_filters.apply_filter`."""

    def __init__(self, parts: FilterParts, padding_mode: PaddingMode, x: Tensor) -> None:
        dtype, rank = compute_dtype(x.dtype), x.dim() - 2
        self.weight = parts.weight.to(dtype).expand(x.shape[1], -1)  # (C, K)
        self.reach = self.weight.shape[1] // 2
        self.replicates = padding_mode == "replicate"
        self.bias = self.scale = self.shift = None
        if parts.bias is not None and parts.scale is not None and parts.shift is not None:
            self.bias = parts.bias.to(dtype)
            self.scale, self.shift = (part.to(dtype).view(-1, *[1] * rank) for part in (parts.scale, parts.shift))
            self._scale2, self._shift2, self._minus_one = 2 * self.scale, 2 * self.shift, x.new_tensor(-1, dtype=dtype)

    def __call__(self, x: Tensor, axis: int) -> Guess:
        amounts = [0] * (2 * (x.dim() - 2))
        amounts[-2 * axis - 2 : -2 * axis] = self.reach, self.reach
        padded = F.pad(x, amounts, mode="replicate") if self.replicates else F.pad(x, amounts)
        conv = convolve(padded, self.weight, self.bias, axis)
        if self.bias is None:
            return Guess(conv, padded, None)
        hidden = conv.relu_()
        half = torch.addcmul(self._shift2, hidden, self._scale2).sigmoid_()
        value = torch.add(self._minus_one, half, alpha=2, out=half)  # tanh, as in `apply_filter`
        return Guess(value, padded, hidden)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, axis: int, padding: int = 0) -> Tensor:
    """Return the channels' convolutions along an axis with their taps (C, K), zeros beyond the ends."""
    channels, rank = x.shape[1], x.dim() - 2
    size, paddings = [1] * rank, [0] * rank
    size[axis], paddings[axis] = weight.shape[1], padding
    kernel = weight.reshape(channels, 1, *size)
    return (F.conv1d if rank == 1 else F.conv2d)(x, kernel, bias, padding=paddings, groups=channels)


def _analyse(x: Tensor, axis: int, predict: PlainFilter, update: PlainFilter) -> Tensor:
    """Return s and d of an axis of even length, (2 N, C, ...): s of every image, then d of every image."""
    even, odd = halves(x, axis)
    bands = new_empty(x, (2 * len(x), *even.shape[1:]), x.dtype)
    s, d = bands[: len(x)], bands[len(x) :]
    torch.sub(odd, predict(even, axis).value, out=d)
    torch.add(even, update(d, axis).value, out=s)
    return bands


def lift_down(
    x: Tensor, predict: FilterParts, update: FilterParts, padding_mode: PaddingMode, combine: Combine | None
) -> tuple[Tensor, ...]:
    """Do as `poolcore.lifting.lift_down` does, without a graph."""
    count, is_coarse, wide = len(x), combine in ("ll", "low"), extended(x)
    p, u = PlainFilter(predict, padding_mode, wide), PlainFilter(update, padding_mode, wide)
    maps = _analyse(wide, -1, p, u)
    if x.dim() == 4:
        # From s and d of the width: LL and HL, then LH and HH.
        maps = _analyse(maps[:count] if is_coarse else maps, -2, p, u)
    if is_coarse:
        return (maps[:count].to(x.dtype),)
    bands = torch.split(maps, count)
    if combine is None:
        order = (0, 1) if x.dim() == 3 else (0, 2, 1, 3)
        return tuple(bands[place].to(x.dtype) for place in order)
    while len(maps) > count:
        maps = maps[: len(maps) // 2] + maps[len(maps) // 2 :]
    return ((maps / len(bands) if combine == "mean" else maps).to(x.dtype),)
