"""Local Importance-based Pooling, LIP: a mean weighted by the softmax of learned logits.

Gao et al. 2019, arXiv 1908.04156. See `poolcore.weighted` for what holds of the whole family. The logit modules end in
the gate ``12 * sigmoid``, so a pixel weighs at most e^12 times as much as its neighbour, and begin with a last
convolution of zeros, so that an untrained layer is average pooling.
"""

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolcore.ops import lip
from poolcore.window import IntOrTuple, Window, check_input, make_window

__all__ = ["LIP", "LIP1d", "LIP2d", "LIP3d", "LogitHead", "LogitTrunk", "lip1d", "lip2d", "lip3d"]

GATE = 12.0

LogitForm = Literal["projection", "simplified", "bottleneck"]


def _lip(x: Tensor, logit: Tensor, window: Window) -> Tensor:
    check_input(x, window.rank)
    check_input(logit, window.rank, "logit")
    if logit.shape != x.shape:
        raise ValueError(f"logit must have the shape of x, got {tuple(logit.shape)} for x of {tuple(x.shape)}")
    if logit.dtype != x.dtype:
        raise TypeError(f"logit must have the dtype of x, got {logit.dtype} for x of {x.dtype}")
    if x.dim() == window.rank + 1:
        return _lip(x[None], logit[None], window)[0]
    window.output_size(x.shape[2:])
    return lip(x, logit, window)


def lip1d(
    x: Tensor,
    logit: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    *,
    ceil_mode: bool = False,
) -> Tensor:
    """Pool each window of a sequence to the mean weighted by the softmax of its logits: `lip2d` over one axis.

    Shape:
        x, logit: (N, C, L) or (C, L). Output (N, C, L_out) or (C, L_out), sizes as in `lip2d`.

    Example:
        >>> lip1d(torch.tensor([[1.0, 2.0, 0.0, -1.0]]), torch.zeros(1, 4), 2)
        tensor([[ 1.5000, -0.5000]])
    """
    return _lip(x, logit, make_window(kernel_size, stride, padding, ceil_mode=ceil_mode, rank=1))


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
    return _lip(x, logit, make_window(kernel_size, stride, padding, ceil_mode=ceil_mode))


def lip3d(
    x: Tensor,
    logit: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    *,
    ceil_mode: bool = False,
) -> Tensor:
    """Pool each window of a volume to the mean weighted by the softmax of its logits: `lip2d` over three axes.

    Shape:
        x, logit: (N, C, D, H, W) or (C, D, H, W). Output (N, C, D_out, H_out, W_out) or (C, D_out, H_out, W_out), sizes
        as in `lip2d`.

    Example:
        >>> lip3d(torch.arange(8.0).view(1, 2, 2, 2), torch.zeros(1, 2, 2, 2), 2)
        tensor([[[[3.5000]]]])
    """
    return _lip(x, logit, make_window(kernel_size, stride, padding, ceil_mode=ceil_mode, rank=3))


class _Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return GATE * torch.sigmoid(x)


class _InstanceNorm(nn.Module):
    """Affine instance norm that takes an empty batch, and says of a map of one pixel why it has no variance."""

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-self.rank :]
        if math.prod(size) == 1:
            got = " x ".join(map(str, size))
            raise ValueError(f"LIP's logits need a map of more than one pixel (one has no variance), got {got}")
        if not x.numel():
            return x
        if x.dim() == self.rank + 1:
            return self.forward(x[None])[0]
        return F.instance_norm(x, weight=self.weight, bias=self.bias)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, rank={self.rank}"


_CONVOLUTIONS: dict[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def _conv(c_in: int, c_out: int, kernel_size: int, rank: int) -> nn.Conv1d | nn.Conv2d | nn.Conv3d:
    return _CONVOLUTIONS[rank](c_in, c_out, kernel_size, padding=kernel_size // 2, bias=False)


def _to_logits(c_in: int, channels: int, kernel_size: int, rank: int) -> tuple[nn.Module, ...]:
    conv = _conv(c_in, channels, kernel_size, rank)
    nn.init.zeros_(conv.weight)
    return conv, _InstanceNorm(channels, rank), _Gate()


class LogitTrunk(nn.Sequential):
    """Compute the features from which `LogitHead` draws logits; one trunk may serve several poolings.

    1x1 conv to ``width``, instance norm, ReLU, 3x3 conv, instance norm, ReLU: the "bottleneck" of Gao et al. 2019.
    Parameters: ``width * in_channels + 3**rank * width**2 + 4 * width``.

    Args:
        in_channels: of the input.
        width: of the features; the paper's is 128.
        rank: how many axes a map has; sequences 1, images 2, volumes 3.

    Shape:
        (N, in_channels, H, W) -> (N, width, H, W), or as many axes as the rank says; more than one pixel.
    """

    def __init__(self, in_channels: int, width: int = 128, *, rank: int = 2) -> None:
        super().__init__(
            _conv(in_channels, width, 1, rank),
            _InstanceNorm(width, rank),
            nn.ReLU(),
            _conv(width, width, 3, rank),
            _InstanceNorm(width, rank),
            nn.ReLU(),
        )


class LogitHead(nn.Sequential):
    """Draw logits for ``channels`` from ``width`` features: 1x1 conv (starting at 0), instance norm, gate.

    Parameters: ``width * channels + 2 * channels``.
    """

    def __init__(self, width: int, channels: int, *, rank: int = 2) -> None:
        super().__init__(*_to_logits(width, channels, 1, rank))


def _logit_module(form: str, channels: int, width: int, rank: int) -> nn.Module:
    match form:
        case "projection":
            return LogitHead(channels, channels, rank=rank)
        case "simplified":
            return nn.Sequential(*_to_logits(channels, channels, 3, rank))
        case "bottleneck":
            return nn.Sequential(LogitTrunk(channels, width, rank=rank), LogitHead(width, channels, rank=rank))
    raise ValueError(f'logit must be "projection", "simplified", "bottleneck" or a module, got {form!r}')


class LIP(nn.Module):
    """What `LIP1d`, `LIP2d` and `LIP3d` have in common: the window, the logits' network and the call."""

    rank: ClassVar[int]

    def __init__(
        self,
        channels: int,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: IntOrTuple = 0,
        *,
        ceil_mode: bool = False,
        logit: LogitForm | nn.Module = "bottleneck",
        logit_width: int = 128,
    ) -> None:
        super().__init__()
        self.window = make_window(kernel_size, stride, padding, ceil_mode=ceil_mode, rank=self.rank)
        if not isinstance(logit, nn.Module):
            logit = _logit_module(logit, channels, logit_width, self.rank)
        self.logit = logit

    def logits(self, x: Tensor, logit_from: Tensor | None = None) -> Tensor:
        """Return the logits of ``x``'s pixels, in the dtype of ``x``, from ``x`` or from another tensor."""
        logit: Tensor = self.logit(x if logit_from is None else logit_from)
        return logit.to(x.dtype)

    def forward(self, x: Tensor, logit_from: Tensor | None = None) -> Tensor:
        return _lip(x, self.logits(x, logit_from), self.window)

    def extra_repr(self) -> str:
        return self.window.describe()


class LIP1d(LIP):
    """Pool sequences with learned importance: `LIP2d` over one axis, its convolutions and norms 1D.

    Shape:
        (N, C, L) -> (N, C, L_out), see `lip1d`.
    """

    rank = 1


class LIP2d(LIP):
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

    rank = 2


class LIP3d(LIP):
    """Pool volumes with learned importance: `LIP2d` over three axes, its convolutions and norms 3D.

    Shape:
        (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), see `lip3d`.
    """

    rank = 3
