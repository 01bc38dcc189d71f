"""SoftPool: a mean weighted by the softmax of the input itself (Stergiou et al. 2021, arXiv 2101.00440).

See `poolcore.weighted` for what holds of the whole family. Any non-finite value gives NaN in the windows that read it.
"""

from torch import Tensor, nn

from poolcore.weighted import weighted_pool2d
from poolcore.window import IntOrTuple, check_input, make_window

__all__ = ["SoftPool2d", "soft_pool2d"]


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
    window = make_window(kernel_size, stride, padding, ceil_mode=ceil_mode)
    check_input(x)
    if x.dim() == 3:
        x = x[None]
        return weighted_pool2d(x, x, window)[0]
    return weighted_pool2d(x, x, window)


class SoftPool2d(nn.Module):
    """Pool as `soft_pool2d` does; stands where ``torch.nn.MaxPool2d`` stood."""

    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: IntOrTuple = 0,
        *,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.window = make_window(kernel_size, stride, padding, ceil_mode=ceil_mode)

    def forward(self, x: Tensor) -> Tensor:
        return soft_pool2d(x, *self.window[:3], ceil_mode=self.window.ceil_mode)

    def extra_repr(self) -> str:
        return self.window.describe()
