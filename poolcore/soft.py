"""SoftPool: a mean weighted by the softmax of the input itself (Stergiou et al. 2021, arXiv 2101.00440).

See `poolcore.weighted` for what holds of the whole family. Any non-finite value gives NaN in the windows that read it.
"""

from typing import ClassVar

from torch import Tensor, nn

from poolcore.ops import soft_pool
from poolcore.window import IntOrTuple, Window, check_input, make_window

__all__ = ["SoftPool", "SoftPool1d", "SoftPool2d", "SoftPool3d", "soft_pool1d", "soft_pool2d", "soft_pool3d"]


def _soft_pool(x: Tensor, window: Window) -> Tensor:
    check_input(x, window.rank)
    if x.dim() == window.rank + 1:
        return _soft_pool(x[None], window)[0]
    window.output_size(x.shape[2:])
    return soft_pool(x, window)


def soft_pool1d(
    x: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    *,
    ceil_mode: bool = False,
) -> Tensor:
    """Pool each window of a sequence to its SoftPool mean: `soft_pool2d` over one axis.

    Shape:
        Input (N, C, L) or (C, L). Output (N, C, L_out) or (C, L_out), sizes as in `soft_pool2d`.

    Example:
        >>> soft_pool1d(torch.tensor([[1.0, 2.0, 0.0, -1.0, 3.0]]), 2)
        tensor([[ 1.7311, -0.2689]])
    """
    return _soft_pool(x, make_window(kernel_size, stride, padding, ceil_mode=ceil_mode, rank=1))


def soft_pool2d(
    x: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    *,
    ceil_mode: bool = False,
) -> Tensor:
    """Pool each window to the mean of its pixels, weighted by their softmax.

    ``y = sum_i w_i x_i`` with ``w_i = exp(x_i) / sum_j exp(x_j)`` (Stergiou et al. 2021). The gradient is the true
    derivative, ``dy/dx_i = w_i (1 + x_i - y)``; the authors' code drops the second term. Padded pixels have weight 0.

    Args:
        kernel_size, stride, padding, ceil_mode: as in ``torch.nn.MaxPool2d``, in pixels.

    Shape:
        Input (N, C, H, W) or (C, H, W). Output (N, C, H_out, W_out) or (C, H_out, W_out) with
        ``H_out = floor((H + 2 * padding - kernel_size) / stride) + 1`` (with ``ceil_mode`` the ceiling).

    Raises:
        TypeError: for an input that is no floating-point tensor, or a size that is no int or pair.
        ValueError: for a shape or a size that is not allowed.

    Example:
        >>> soft_pool2d(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), 2)
        tensor([[[3.4927]]])
    """
    return _soft_pool(x, make_window(kernel_size, stride, padding, ceil_mode=ceil_mode))


def soft_pool3d(
    x: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    *,
    ceil_mode: bool = False,
) -> Tensor:
    """Pool each window of a volume to its SoftPool mean: `soft_pool2d` over three axes.

    Shape:
        Input (N, C, D, H, W) or (C, D, H, W). Output (N, C, D_out, H_out, W_out) or (C, D_out, H_out, W_out), sizes as
        in `soft_pool2d`.

    Example:
        >>> soft_pool3d(torch.arange(8.0).view(1, 2, 2, 2), 2)
        tensor([[[[6.4207]]]])
    """
    return _soft_pool(x, make_window(kernel_size, stride, padding, ceil_mode=ceil_mode, rank=3))


class SoftPool(nn.Module):
    """What `SoftPool1d`, `SoftPool2d` and `SoftPool3d` have in common: the window and the call."""

    rank: ClassVar[int]

    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: IntOrTuple = 0,
        *,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.window = make_window(kernel_size, stride, padding, ceil_mode=ceil_mode, rank=self.rank)

    def forward(self, x: Tensor) -> Tensor:
        return _soft_pool(x, self.window)

    def extra_repr(self) -> str:
        return self.window.describe()


class SoftPool1d(SoftPool):
    """Pool as `soft_pool1d` does; stands where ``torch.nn.MaxPool1d`` stood."""

    rank = 1


class SoftPool2d(SoftPool):
    """Pool as `soft_pool2d` does; stands where ``torch.nn.MaxPool2d`` stood."""

    rank = 2


class SoftPool3d(SoftPool):
    """Pool as `soft_pool3d` does; stands where ``torch.nn.MaxPool3d`` stood."""

    rank = 3
