"""Geometry of pooling windows: argument checks, output sizes, coverage. One place, for every layer and rank.

The rank is the number of axes that a window spans: 1 for (N, C, L), 2 for (N, C, H, W), 3 for (N, C, D, H, W). A window
is anchored at its corner of least indices: output ``a`` of an axis reads the input rows
``a * stride - padding ... a * stride - padding + kernel_size - 1``. Padded positions are absent: they enter
neither a weighted mean nor its normaliser. Arguments mean what they mean in torch's ``MaxPool1d``, ``2d`` and ``3d``.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["IntOrTuple", "Window", "check_input", "make_window"]

IntOrTuple = int | tuple[int, ...]
Index = tuple[slice, ...]

_SIZES = {
    1: "an int or a tuple of one int (length,)",
    2: "an int or a pair of ints (height, width)",
    3: "an int or a triple of ints (depth, height, width)",
}
_SHAPES = {1: "(N, C, L) or (C, L)", 2: "(N, C, H, W) or (C, H, W)", 3: "(N, C, D, H, W) or (C, D, H, W)"}


class Window(NamedTuple):
    """Kernel size, stride, padding (in input pixels, per axis in the order of the shape) and ceil mode of a pooling."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    ceil_mode: bool = False

    @property
    def rank(self) -> int:
        """How many axes the window spans: 1, 2 or 3."""
        return len(self.kernel_size)

    def describe(self) -> str:
        """Return the arguments as a module's repr shows them."""
        kernel, stride, padding, ceil_mode = self
        return f"kernel_size={kernel}, stride={stride}, padding={padding}, ceil_mode={ceil_mode}"

    def output_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the output's size, such as (H_out, W_out), for an input of ``size``, such as (H, W).

        Per axis ``floor((n + 2 * padding - kernel_size) / stride) + 1``; with ``ceil_mode`` the ceiling instead,
        less a last window that would begin beyond the input and its left padding.

        Raises:
            ValueError: if the window does not fit into the padded input.
        """
        out = []
        for n, k, s, p in zip(size, self.kernel_size, self.stride, self.padding, strict=True):
            span = n + 2 * p - k
            o = (-(-span // s) if self.ceil_mode else span // s) + 1
            if self.ceil_mode and (o - 1) * s >= n + p:
                o -= 1
            if o < 1 or n < 1:
                raise ValueError(
                    f"kernel_size must fit into the padded input, got kernel_size={self.kernel_size} and "
                    f"padding={self.padding} for an input of {' x '.join(map(str, size))} pixels"
                )
            out.append(o)
        return tuple(out)

    def margins(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return what ``torch.nn.functional.pad`` must add, last axis first, so that every window is whole."""
        axes = zip(size, self.output_size(size), self.kernel_size, self.stride, self.padding, strict=True)
        both = [(p, max(0, (o - 1) * s + k - n - p)) for n, o, k, s, p in axes]
        return tuple(itertools.chain(*reversed(both)))

    def cells(self, size: Sequence[int]) -> Iterator[Index]:
        """Yield, for each of the window's kernel_size cells in row-major order, the index of that cell in all windows.

        The index applies to an input (N, C, ...) of ``size`` to which ``margins(size)`` were added and gives that cell
        of every window: (N, C, H_out, W_out) in 2D.
        """
        outputs = self.output_size(size)
        for cell in itertools.product(*map(range, self.kernel_size)):
            reads = (slice(i, i + (o - 1) * s + 1, s) for i, o, s in zip(cell, outputs, self.stride, strict=True))
            yield slice(None), slice(None), *reads

    def coverage(self, size: Sequence[int], outputs: Sequence[int] | None = None) -> Tensor:
        """Return A, float64 of shape ``size``: each input pixel's weights in average pooling, summed over the outputs.

        The average is taken over valid pixels, so A is the outer product of the axes' sums of ``1 / n_valid``; it is 0
        where no window reads.

        Args:
            size: of the input, such as (H, W).
            outputs: the output's size where another window decides how many there are; None takes `output_size`.
        """
        axes = []
        outputs = self.output_size(size) if outputs is None else outputs
        for n, o, k, s, p in zip(size, outputs, self.kernel_size, self.stride, self.padding, strict=True):
            start = torch.arange(o)[:, None] * s - p
            pixel = torch.arange(n)
            reads = ((pixel >= start) & (pixel < start + k)).to(torch.float64)  # (o, n)
            axes.append((reads / reads.sum(1, keepdim=True)).sum(0))
        return functools.reduce(lambda product, axis: product[..., None] * axis, axes)


def _per_axis(name: str, value: IntOrTuple, least: int, rank: int) -> tuple[int, ...]:
    sizes = (value,) * rank if isinstance(value, int) else value
    if not isinstance(sizes, tuple | list) or len(sizes) != rank or not all(type(v) is int for v in sizes):
        raise TypeError(f"{name} must be {_SIZES[rank]}, got {value!r}")
    if min(sizes) < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")
    return tuple(sizes)


def make_window(
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    *,
    ceil_mode: bool = False,
    rank: int = 2,
) -> Window:
    """Check the arguments of a pooling over ``rank`` axes and return its `Window`.

    Args:
        kernel_size: pixels, at least 1; one int for all axes or one for each.
        stride: pixels, at least 1; None takes ``kernel_size``.
        padding: absent pixels on each side, at most half of ``kernel_size``.
        ceil_mode: keep a last window that is cut off by the input's end.
        rank: 1, 2 or 3.

    Raises:
        TypeError: if a size is neither an int nor a tuple of ``rank`` ints.
        ValueError: if a size is too small, or padding is more than half of kernel_size.
    """
    kernel = _per_axis("kernel_size", kernel_size, 1, rank)
    step = kernel if stride is None else _per_axis("stride", stride, 1, rank)
    pad = _per_axis("padding", padding, 0, rank)
    if any(2 * p > k for p, k in zip(pad, kernel, strict=True)):
        raise ValueError(f"padding must be at most half of kernel_size, got padding={pad} with kernel_size={kernel}")
    if not isinstance(ceil_mode, bool):
        raise TypeError(f"ceil_mode must be a bool, got {ceil_mode!r}")
    return Window(kernel, step, pad, ceil_mode)


def check_input(x: Tensor, rank: int = 2, name: str = "x") -> None:
    """Raise unless ``x`` is a floating-point tensor with ``rank`` axes after its channels, batched or not.

    Raises:
        TypeError: if it is no tensor or its dtype is not floating point.
        ValueError: if it has another number of dimensions than (N, C, ...) or (C, ...).
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{name} must have a floating-point dtype, got {x.dtype}")
    if x.dim() not in (rank + 1, rank + 2):
        raise ValueError(f"{name} must have shape {_SHAPES[rank]}, got {tuple(x.shape)}")
