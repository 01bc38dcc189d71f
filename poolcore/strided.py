"""Strided subsampling: keep the first pixel of each cell and drop the rest, as a strided 1x1 convolution does."""

from types import EllipsisType
from typing import ClassVar

from torch import Tensor, nn

from poolcore.window import IntOrTuple, Window, check_input, make_window

__all__ = [
    "StridedPool",
    "StridedPool1d",
    "StridedPool2d",
    "StridedPool3d",
    "strided_pool1d",
    "strided_pool2d",
    "strided_pool3d",
]


def _strided_pool(x: Tensor, window: Window) -> Tensor:
    check_input(x, window.rank)
    kept: tuple[EllipsisType | slice, ...] = (..., *(slice(None, None, step) for step in window.stride))
    # A copy, so that no later in-place operation writes into x.
    return x[kept].clone()


def strided_pool1d(x: Tensor, stride: IntOrTuple) -> Tensor:
    """Return every ``stride``-th pixel of a sequence, beginning with the first.

    Shape:
        (N, C, L) or (C, L) -> the same with ``L_out = ceil(L / stride)``.

    Example:
        >>> strided_pool1d(torch.arange(5.0)[None], 2)
        tensor([[0., 2., 4.]])
    """
    return _strided_pool(x, make_window(1, stride, rank=1))


def strided_pool2d(x: Tensor, stride: IntOrTuple) -> Tensor:
    """Return every ``stride``-th pixel of each axis, beginning with the first.

    Shape:
        (N, C, H, W) or (C, H, W) -> the same with ``H_out = ceil(H / stride)``.

    Raises:
        TypeError: for an input that is no floating-point tensor, or a stride that is no int or pair.
        ValueError: for a shape or a stride that is not allowed.

    Example:
        >>> strided_pool2d(torch.arange(9.0).view(1, 3, 3), 2)
        tensor([[[0., 2.],
                 [6., 8.]]])
    """
    return _strided_pool(x, make_window(1, stride))


def strided_pool3d(x: Tensor, stride: IntOrTuple) -> Tensor:
    """Return every ``stride``-th pixel of each axis of a volume, beginning with the first.

    Shape:
        (N, C, D, H, W) or (C, D, H, W) -> the same with ``D_out = ceil(D / stride)``, and so on.

    Example:
        >>> strided_pool3d(torch.arange(8.0).view(1, 2, 2, 2), (1, 2, 2))
        tensor([[[[0.]],
        <BLANKLINE>
                 [[4.]]]])
    """
    return _strided_pool(x, make_window(1, stride, rank=3))


class StridedPool(nn.Module):
    """What `StridedPool1d`, `StridedPool2d` and `StridedPool3d` have in common: the stride and the call."""

    rank: ClassVar[int]

    def __init__(self, stride: IntOrTuple) -> None:
        super().__init__()
        self.window = make_window(1, stride, rank=self.rank)

    def forward(self, x: Tensor) -> Tensor:
        return _strided_pool(x, self.window)

    def extra_repr(self) -> str:
        return f"stride={self.window.stride}"


class StridedPool1d(StridedPool):
    """Pool as `strided_pool1d` does."""

    rank = 1


class StridedPool2d(StridedPool):
    """Pool as `strided_pool2d` does."""

    rank = 2


class StridedPool3d(StridedPool):
    """Pool as `strided_pool3d` does."""

    rank = 3
