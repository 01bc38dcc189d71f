"""Local Importance-based Pooling, LIP: a mean weighted by the softmax of learned logits.

Gao et al. 2019, arXiv 1908.04156. See `poolcore.weighted` for what holds of the whole family. The logit modules end in
the gate ``12 * sigmoid``, so a pixel weighs at most e^12 times as much as its neighbour, and begin with a last
convolution of zeros, so that an untrained layer is average pooling.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from poolcore.weighted import weighted_pool2d
from poolcore.window import IntOrTuple, check_input, make_window

__all__ = ["LIP2d", "LogitHead", "LogitTrunk", "lip2d"]

GATE = 12.0


def lip2d(
    x: Tensor,
    logit: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    *,
    ceil_mode: bool = False,
) -> Tensor:
    """Pool each window to the mean of its pixels, weighted by the softmax of their logits.

    ``y = sum_i w_i x_i`` with ``w_i = exp(l_i) / sum_j exp(l_j)`` (Gao et al. 2019, section 3). Padded pixels have
    weight 0. Unlike the authors' code it subtracts each window's maximum where that matters, honours ``padding``,
    and leaves ``logit`` as it was.

    Args:
        x: pixels.
        logit: their logits, of the shape and dtype of ``x``.
        kernel_size, stride, padding, ceil_mode: as in ``torch.nn.MaxPool2d``, in pixels.

    Shape:
        x, logit: (N, C, H, W) or (C, H, W). Output (N, C, H_out, W_out) or (C, H_out, W_out) with
        ``H_out = floor((H + 2 * padding - kernel_size) / stride) + 1`` (with ``ceil_mode`` the ceiling).

    Raises:
        TypeError: for inputs that are no floating-point tensors of one dtype, or a size that is no int or pair.
        ValueError: for shapes that differ or a size that is not allowed.

    Example:
        >>> lip2d(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.zeros(1, 2, 2), 2)
        tensor([[[2.5000]]])
    """
    window = make_window(kernel_size, stride, padding, ceil_mode=ceil_mode)
    check_input(x)
    check_input(logit, name="logit")
    if logit.shape != x.shape:
        raise ValueError(f"logit must have the shape of x, got {tuple(logit.shape)} for x of {tuple(x.shape)}")
    if logit.dtype != x.dtype:
        raise TypeError(f"logit must have the dtype of x, got {logit.dtype} for x of {x.dtype}")
    if x.dim() == 3:
        return weighted_pool2d(x[None], logit[None], window)[0]
    return weighted_pool2d(x, logit, window)


class _Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return GATE * torch.sigmoid(x)


class _InstanceNorm2d(nn.InstanceNorm2d):
    """Affine instance norm that takes an empty batch, and says of a map of one pixel why it has no variance."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2] * x.shape[-1] == 1:
            raise ValueError("LIP's logits need a map of more than one pixel (one has no variance), got 1 x 1")
        return super().forward(x) if x.numel() else x


def _norm_gate(conv: nn.Conv2d) -> tuple[nn.Module, ...]:
    nn.init.zeros_(conv.weight)
    return conv, _InstanceNorm2d(conv.out_channels), _Gate()


class LogitTrunk(nn.Sequential):
    """Compute the features from which `LogitHead` draws logits; one trunk may serve several poolings.

    1x1 conv to ``width``, instance norm, ReLU, 3x3 conv, instance norm, ReLU: the "bottleneck" of Gao et al. 2019.
    Parameters: ``width * in_channels + 9 * width**2 + 4 * width``.

    Shape:
        (N, in_channels, H, W) -> (N, width, H, W); more than one pixel.
    """

    def __init__(self, in_channels: int, width: int = 128) -> None:
        super().__init__(
            nn.Conv2d(in_channels, width, 1, bias=False),
            _InstanceNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            _InstanceNorm2d(width),
            nn.ReLU(),
        )


class LogitHead(nn.Sequential):
    """Draw logits for ``channels`` from ``width`` features: 1x1 conv (starting at 0), instance norm, gate.

    Parameters: ``width * channels + 2 * channels``.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__(*_norm_gate(nn.Conv2d(width, channels, 1, bias=False)))


def _logit_module(form: str, channels: int, width: int) -> nn.Module:
    match form:
        case "projection":
            return LogitHead(channels, channels)
        case "simplified":
            return nn.Sequential(*_norm_gate(nn.Conv2d(channels, channels, 3, padding=1, bias=False)))
        case "bottleneck":
            return nn.Sequential(LogitTrunk(channels, width), LogitHead(width, channels))
    raise ValueError(f'logit must be "projection", "simplified", "bottleneck" or a module, got {form!r}')


class LIP2d(nn.Module):
    """Pool with learned importance: logits from a small network, then `lip2d`.

    Args:
        channels: of the input.
        kernel_size, stride, padding, ceil_mode: as in ``torch.nn.MaxPool2d``, in pixels.
        logit: the network that gives the logits. "projection" (1x1 conv), "simplified" (3x3 conv, the authors'
            stem form) or "bottleneck" (`LogitTrunk` and `LogitHead`); or a module of your own.
        logit_width: width of the bottleneck; the paper's is 128.

    Shape:
        (N, C, H, W) -> (N, C, H_out, W_out), see `lip2d`.

    Raises:
        ValueError: for an unknown form of logits, or (at the call) a map of one pixel.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: IntOrTuple = 0,
        *,
        ceil_mode: bool = False,
        logit: Literal["projection", "simplified", "bottleneck"] | nn.Module = "bottleneck",
        logit_width: int = 128,
    ) -> None:
        super().__init__()
        self.window = make_window(kernel_size, stride, padding, ceil_mode=ceil_mode)
        self.logit = logit if isinstance(logit, nn.Module) else _logit_module(logit, channels, logit_width)

    def logits(self, x: Tensor, logit_from: Tensor | None = None) -> Tensor:
        """Return the logits of ``x``'s pixels, in the dtype of ``x``, from ``x`` or from another tensor."""
        logit: Tensor = self.logit(x if logit_from is None else logit_from)
        return logit.to(x.dtype)

    def forward(self, x: Tensor, logit_from: Tensor | None = None) -> Tensor:
        return lip2d(x, self.logits(x, logit_from), *self.window[:3], ceil_mode=self.window.ceil_mode)

    def extra_repr(self) -> str:
        return self.window.describe()
