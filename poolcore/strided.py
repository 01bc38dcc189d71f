"""Strided subsampling: keep the top-left pixel of each cell and drop the rest, as a strided 1x1 convolution does."""

from torch import Tensor, nn

from poolcore.window import IntOrTuple, Window, check_input, make_window

__all__ = ["StridedPool2d", "strided_pool2d"]


def strided_pool2d(x: Tensor, stride: IntOrTuple) -> Tensor:
    """Return every ``stride``-th pixel of each axis, beginning with the first.

    Shape:
        (N, C, H, W) or (C, H, W) -> the same with ``H_out = ceil(H / stride)``.

    Raises:
        TypeError: for an input that is no floating-point tensor, or a stride that is no int or pair.
        ValueError: for a shape or a stride that is not allowed.
    """
    window = make_window(stride)
    check_input(x)
    # A copy, so that no later in-place operation writes into x.
    return x[..., :: window.stride[0], :: window.stride[1]].clone()


class StridedPool2d(nn.Module):
    """Pool as `strided_pool2d` does."""

    def __init__(self, stride: IntOrTuple) -> None:
        super().__init__()
        self.window: Window = make_window(1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return strided_pool2d(x, self.window.stride)

    def extra_repr(self) -> str:
        return f"stride={self.window.stride}"
