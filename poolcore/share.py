"""What each input pixel counts in a pooling layer's output.

For outputs o with weights w(i, o) >= 0 that sum to 1, S(i) is the sum of pixel i's weights over all outputs and A(i)
the same sum for average pooling over the same window's valid pixels. The share is S / A: 1 as average, 0 dropped, above
1 kept; NaN where no window reads (A = 0). Weighted by A, the shares' mean is 1: A and S both add up to the outputs.

The weights are, of

* max pooling: 1 at the largest pixel of a window, the first in row-major order where several are equal;
* SoftPool and LIP: their own;
* strided subsampling: 1 at the pixel that is kept, held against the average of its stride x stride cell;
* a strided convolution, per input channel: its kernel's absolute values, summed over output channels; held against the
  average of a window of max(kernel_size, stride). They are the same for every input;
* LiftPool: the absolute values of the combined output's derivatives (see `poolcore.lift_share`), signs lost.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolcore.lift import LiftDownPool
from poolcore.lift_share import lift_share
from poolcore.lip import LIP
from poolcore.precision import compute_dtype
from poolcore.soft import SoftPool
from poolcore.strided import StridedPool
from poolcore.weighted import sum_weights, weighted_share
from poolcore.window import Window, check_input, make_window

__all__ = ["POOLING_LAYERS", "share", "window_of"]

MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
AVG_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
POOLING_LAYERS = (*MAX_POOLS, *AVG_POOLS, SoftPool, LIP, LiftDownPool, StridedPool)


def _rank_of(layer: nn.Module) -> int | None:
    kinds = zip(MAX_POOLS, AVG_POOLS, CONVOLUTIONS, strict=True)
    return next((rank for rank, same_rank in enumerate(kinds, 1) if isinstance(layer, same_rank)), None)


def window_of(layer: nn.Module) -> Window:
    """Return the window through which a pooling layer or a convolution reads.

    Raises:
        TypeError: for any other layer.
        ValueError: for a dilation, and for a convolution whose padding is not of zeros on all sides alike.
    """
    if isinstance(layer, SoftPool | LIP | StridedPool):
        return layer.window
    if isinstance(layer, LiftDownPool):
        return make_window(2, ceil_mode=True, rank=layer.rank)
    rank = _rank_of(layer)
    if rank is None:
        raise TypeError(
            "layer must be a MaxPool, AvgPool, SoftPool, LIP, StridedPool or Conv of 1d, 2d or 3d, or a LiftDownPool "
            f"of 1d or 2d, got {type(layer).__name__}"
        )
    if isinstance(layer, AVG_POOLS):
        return make_window(layer.kernel_size, layer.stride, layer.padding, ceil_mode=layer.ceil_mode, rank=rank)
    assert isinstance(layer, (*MAX_POOLS, *CONVOLUTIONS))
    if layer.dilation not in (1, (1,) * rank):
        raise ValueError(f"dilation must be 1 for a share, got dilation={layer.dilation}")
    if isinstance(layer, MAX_POOLS):
        return make_window(layer.kernel_size, layer.stride, layer.padding, ceil_mode=layer.ceil_mode, rank=rank)
    if layer.padding == "same" or layer.padding_mode != "zeros":
        raise ValueError(
            "a convolution's padding must be of zeros and given in pixels for a share, "
            f"got padding={layer.padding!r} with padding_mode={layer.padding_mode!r}"
        )
    padding = 0 if isinstance(layer.padding, str) else layer.padding
    return make_window(layer.kernel_size, layer.stride, padding, rank=rank)


def _max_sums(x: Tensor, window: Window) -> Tensor:
    kernel_size, stride, padding, ceil_mode = window
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[window.rank - 1]
    _, chosen = pool(x, kernel_size, stride, padding, ceil_mode=ceil_mode, return_indices=True)
    ones = x.new_ones(chosen.shape).flatten(2)
    return torch.zeros_like(x).flatten(2).scatter_add_(2, chosen.flatten(2), ones).view(x.shape)


def _conv_sums(conv: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor, window: Window) -> Tensor:
    size, ones = x.shape[2:], [1] * window.rank
    kernel = conv.weight.detach().to(x.dtype).abs()
    kernel = kernel.view(conv.groups, -1, *kernel.shape[1:]).sum(1).flatten(0, 1).flatten(1)  # (C, cells)
    inside = F.pad(x.new_ones(1, 1, *size), window.margins(size))
    cells = list(window.cells(size))
    weights = [kernel[:, cell].view(-1, *ones) * inside[index] for cell, index in enumerate(cells)]
    total = sum(weights[1:], weights[0])
    return sum_weights([weight / total for weight in weights], window, size).repeat(len(x), 1, *ones)


@torch.no_grad()
def share(layer: nn.Module, x: Tensor, logit_from: Tensor | None = None) -> Tensor:
    """Return the share of each input pixel in what ``layer`` makes of ``x``.

    Args:
        layer: a pooling layer of this library, or torch's max pooling, average pooling or convolution, undilated.
        x: the layer's input.
        logit_from: for LIP, the tensor that its logits come from, as in the layer's call; None takes ``x``.

    Shape:
        (N, C, H, W) or (C, H, W), or with one or three axes as the layer asks -> the same, in fp32 (fp64 for fp64).

    Raises:
        TypeError: for another layer, an ``x`` that is no floating-point tensor, or ``logit_from`` where no LIP is.
        ValueError: for a shape or a layer's option that is not allowed.

    Example:
        >>> share(torch.nn.MaxPool2d(2), torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
        tensor([[[0., 0.],
                 [0., 4.]]])
    """
    window = window_of(layer)
    check_input(x, window.rank)
    if logit_from is not None and not isinstance(layer, LIP):
        raise TypeError(f"logit_from is for LIP alone, got it for {type(layer).__name__}")
    if x.dim() == window.rank + 1:
        return share(layer, x[None], None if logit_from is None else logit_from[None])[0]

    size, outputs = x.shape[2:], window.output_size(x.shape[2:])
    window_of_average = window
    if isinstance(layer, (StridedPool, *CONVOLUTIONS)):
        # Pixels between the windows count as dropped.
        window_of_average = window._replace(kernel_size=tuple(map(max, window.kernel_size, window.stride)))
    coverage = window_of_average.coverage(size, outputs).to(x.device, compute_dtype(x.dtype))

    logit = layer.logits(x, logit_from) if isinstance(layer, LIP) else x
    x = x.to(coverage.dtype)
    if isinstance(layer, SoftPool | LIP):
        sums = weighted_share(logit, window)
    elif isinstance(layer, MAX_POOLS):
        sums = _max_sums(x, window)
    elif isinstance(layer, CONVOLUTIONS):
        sums = _conv_sums(layer, x, window)
    elif isinstance(layer, LiftDownPool):
        sums = lift_share(layer, x, coverage)
    elif isinstance(layer, StridedPool):
        sums = sum_weights([x.new_ones((*x.shape[:2], *outputs))], window, size)
    else:
        sums = coverage.expand(x.shape)
    return sums / coverage
