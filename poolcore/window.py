"""Geometry of pooling windows: argument checks, output sizes, coverage. One place, for every layer.

A window is anchored at its top-left corner: output ``a`` of an axis reads the input rows
``a * stride - padding ... a * stride - padding + kernel_size - 1``. Padded positions are absent: they enter
neither a weighted mean nor its normaliser. Arguments mean what they mean in ``torch.nn.MaxPool2d``.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["IntOrPair", "Window", "check_input", "make_window"]

IntOrPair = int | tuple[int, int]
Index = tuple[slice, ...]


class Window(NamedTuple):
    """Kernel size, stride, padding (in input pixels, per axis: height, width) and ceil mode of a pooling."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    ceil_mode: bool = False

    def describe(self) -> str:
        """Return the arguments as a module's repr shows them."""
        kernel, stride, padding, ceil_mode = self
        return f"kernel_size={kernel}, stride={stride}, padding={padding}, ceil_mode={ceil_mode}"

    def output_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Return ``(H_out, W_out)`` for an input of ``size = (H, W)``.

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
                    f"padding={self.padding} for an input of {size[0]} x {size[1]} pixels"
                )
            out.append(o)
        return out[0], out[1]

    def margins(self, size: Sequence[int]) -> tuple[int, int, int, int]:
        """Return what ``torch.nn.functional.pad`` must add (left, right, top, bottom) so that every window is whole."""
        height, width = (
            (p, max(0, (o - 1) * s + k - n - p))
            for n, o, k, s, p in zip(
                size, self.output_size(size), self.kernel_size, self.stride, self.padding, strict=True
            )
        )
        return *width, *height

    def cells(self, size: Sequence[int]) -> Iterator[Index]:
        """Yield, for each of the window's kernel_size cells in row-major order, the index of that cell in all windows.

        The index applies to an input of ``size = (H, W)`` to which ``margins(size)`` were added and gives
        ``(..., H_out, W_out)``.
        """
        h_out, w_out = self.output_size(size)
        (kh, kw), (sh, sw) = self.kernel_size, self.stride
        for i in range(kh):
            for j in range(kw):
                yield (
                    slice(None),
                    slice(None),
                    slice(i, i + (h_out - 1) * sh + 1, sh),
                    slice(j, j + (w_out - 1) * sw + 1, sw),
                )

    def coverage(self, size: Sequence[int], outputs: Sequence[int] | None = None) -> Tensor:
        """Return A, (H, W) in float64: each input pixel's weights in average pooling, summed over the outputs.

        The average is taken over valid pixels, so A is the outer product of the two axes' sums of ``1 / n_valid``; it
        is 0 where no window reads.

        Args:
            size: (H, W) of the input.
            outputs: (H_out, W_out) where another window decides how many there are; None takes `output_size`.
        """
        axes = []
        outputs = self.output_size(size) if outputs is None else outputs
        for n, o, k, s, p in zip(size, outputs, self.kernel_size, self.stride, self.padding, strict=True):
            start = torch.arange(o)[:, None] * s - p
            pixel = torch.arange(n)
            reads = ((pixel >= start) & (pixel < start + k)).to(torch.float64)  # (o, n)
            axes.append((reads / reads.sum(1, keepdim=True)).sum(0))
        return torch.outer(axes[0], axes[1])


def _pair(name: str, value: IntOrPair, least: int) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else value
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(type(v) is int for v in pair):
        raise TypeError(f"{name} must be an int or a pair of ints (height, width), got {value!r}")
    if min(pair) < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")
    return pair[0], pair[1]


def make_window(
    kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0, *, ceil_mode: bool = False
) -> Window:
    """Check the arguments of a 2D pooling and return its `Window`.

    Args:
        kernel_size: pixels, at least 1.
        stride: pixels, at least 1; None takes ``kernel_size``.
        padding: absent pixels on each side, at most half of ``kernel_size``.
        ceil_mode: keep a last window that is cut off by the input's end.

    Raises:
        TypeError: if a size is neither an int nor a pair of ints.
        ValueError: if a size is too small, or padding is more than half of kernel_size.
    """
    kernel = _pair("kernel_size", kernel_size, 1)
    step = kernel if stride is None else _pair("stride", stride, 1)
    pad = _pair("padding", padding, 0)
    if any(2 * p > k for p, k in zip(pad, kernel, strict=True)):
        raise ValueError(f"padding must be at most half of kernel_size, got padding={pad} with kernel_size={kernel}")
    if not isinstance(ceil_mode, bool):
        raise TypeError(f"ceil_mode must be a bool, got {ceil_mode!r}")
    return Window(kernel, step, pad, ceil_mode)


def check_input(x: Tensor, name: str = "x") -> None:
    """Raise unless ``x`` is a floating-point tensor of shape (N, C, H, W) or (C, H, W).

    Raises:
        TypeError: if it is no tensor or its dtype is not floating point.
        ValueError: if it has neither three nor four dimensions.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{name} must have a floating-point dtype, got {x.dtype}")
    if x.dim() not in (3, 4):
        raise ValueError(f"{name} must have shape (N, C, H, W) or (C, H, W), got {tuple(x.shape)}")
