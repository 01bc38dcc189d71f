"""Lifting: splitting each axis into a coarse half and a detail, and undoing it (Zhao & Snoek 2021, arXiv 2104.00996).

One step along an axis splits it into even and odd pixels and predicts one from the other:

    d = x_odd - P(x_even),    s = x_even + U(d)          undone by    x_even = s - U(d),    x_odd = d + P(x_even)

which is exact for any P and U. An image is split along its width first, then along the height of both halves. An odd
axis is extended by its last pixel and cropped again by the inverse.

`split` and `merge` take any two filters. `lift_down` and `lift_up` take a filter's numbers instead, for the filters of
`poolcore.lift_filters`: tensors and plain values alone, so that another implementation may stand in their place
(`poolcore.lift_ops`). All four are plain operations, which autograd differentiates as often as one likes;
`poolcore.lifting_gradients` has the first derivatives of the latter two written out.
"""

import functools
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from poolcore.lift_filters import Filter, FilterParts, PaddingMode, apply_filter
from poolcore.precision import compute_dtype

__all__ = ["Combine", "analyse", "extended", "halves", "lift_down", "lift_up", "merge", "split"]

Combine = Literal["sum", "mean", "ll", "low"]


def halves(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return the even and the odd pixels of the last axis (-1) or the one before it (-2)."""
    return (x[..., 0::2], x[..., 1::2]) if axis == -1 else (x[..., 0::2, :], x[..., 1::2, :])


def analyse(x: Tensor, axis: int, predict: Filter, update: Filter) -> tuple[Tensor, Tensor]:
    """Return (s, d) of an axis of even length."""
    even, odd = halves(x, axis)
    d = odd - predict(even, axis)
    return even + update(d, axis), d


def _synthesise(s: Tensor, d: Tensor, axis: int, predict: Filter, update: Filter) -> Tensor:
    even = s - update(d, axis)
    odd = d + predict(even, axis)
    stacked = torch.stack((even, odd), dim=even.dim() + axis + 1)
    return stacked.flatten(stacked.dim() + axis - 1, stacked.dim() + axis)


def extended(x: Tensor) -> Tensor:
    """Return a batch in the dtype that LiftPool computes in, with axes of even length: the last pixel repeated."""
    amounts = [amount for n in reversed(x.shape[2:]) for amount in (0, n % 2)]
    x = x.to(compute_dtype(x.dtype))
    return F.pad(x, amounts, mode="replicate") if any(amounts) else x


def split(x: Tensor, predict: Filter, update: Filter, combine: Combine | None) -> tuple[Tensor, ...]:
    """Return the bands of a batch, or what they combine to as the only one.

    Args:
        x: (N, C, L) or (N, C, H, W).
        predict, update: P and U.
        combine: None for the bands, in the order low, high or LL, LH, HL, HH; "sum" or "mean" of them; "low" or "ll"
            for the first.

    Shape:
        Each (N, C, ceil(L / 2)) or (N, C, ceil(H / 2), ceil(W / 2)), in the dtype of ``x``.
    """
    bands: tuple[Tensor, ...] = (extended(x),)
    for axis in range(-1, 1 - x.dim(), -1):
        bands = tuple(half for band in bands for half in analyse(band, axis, predict, update))
    if combine in ("ll", "low"):
        bands = bands[:1]
    elif combine is not None:
        total = sum(bands[1:], bands[0])
        bands = (total / len(bands) if combine == "mean" else total,)
    return tuple(band.to(x.dtype) for band in bands)


def merge(bands: Sequence[Tensor], size: Sequence[int], predict: Filter, update: Filter) -> Tensor:
    """Return the batch of ``size``, such as (H, W), whose bands these are: the inverse of `split` with its P and U."""
    dtype = bands[0].dtype
    parts = [band.to(compute_dtype(dtype)) for band in bands]
    for axis in range(-len(size), 0):
        parts = [_synthesise(s, d, axis, predict, update) for s, d in zip(parts[::2], parts[1::2], strict=True)]
    x = parts[0]
    for axis, n in enumerate(size):
        x = x.narrow(2 + axis, 0, n)
    return x.to(dtype)


def _as_filter(parts: FilterParts, padding_mode: PaddingMode) -> Filter:
    return functools.partial(apply_filter, parts, padding_mode)


def lift_down(
    x: Tensor, predict: FilterParts, update: FilterParts, padding_mode: PaddingMode, combine: Combine | None
) -> tuple[Tensor, ...]:
    """Do as `split` does with built-in filters."""
    return split(x, _as_filter(predict, padding_mode), _as_filter(update, padding_mode), combine)


def lift_up(
    bands: Sequence[Tensor], size: Sequence[int], predict: FilterParts, update: FilterParts, padding_mode: PaddingMode
) -> Tensor:
    """Do as `merge` does with built-in filters."""
    return merge(bands, size, _as_filter(predict, padding_mode), _as_filter(update, padding_mode))
