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

from poolcore.lift import LiftDownPool2d
from poolcore.lift_share import lift_share
from poolcore.lip import LIP2d
from poolcore.precision import compute_dtype
from poolcore.soft import SoftPool2d
from poolcore.strided import StridedPool2d
from poolcore.weighted import sum_weights, weighted_share
from poolcore.window import Window, check_input, make_window

__all__ = ["POOLING_LAYERS", "share", "window_of"]

POOLING_LAYERS = (nn.MaxPool2d, nn.AvgPool2d, SoftPool2d, LIP2d, LiftDownPool2d, StridedPool2d)


def window_of(layer: nn.Module) -> Window:
    """Return the window through which a pooling layer or a convolution reads.

    Raises:
        TypeError: for any other layer.
        ValueError: for a dilation, and for a convolution whose padding is not of zeros on all sides alike.
    """
    if isinstance(layer, SoftPool2d | LIP2d | StridedPool2d):
        return layer.window
    if isinstance(layer, LiftDownPool2d):
        return make_window(2, ceil_mode=True)
    if isinstance(layer, nn.AvgPool2d):
        return make_window(layer.kernel_size, layer.stride, layer.padding, ceil_mode=layer.ceil_mode)
    if not isinstance(layer, nn.MaxPool2d | nn.Conv2d):
        allowed = ", ".join(kind.__name__ for kind in (*POOLING_LAYERS, nn.Conv2d))
        raise TypeError(f"layer must be one of {allowed}, got {type(layer).__name__}")
    if layer.dilation not in (1, (1, 1)):
        raise ValueError(f"dilation must be 1 for a share, got dilation={layer.dilation}")
    if isinstance(layer, nn.MaxPool2d):
        return make_window(layer.kernel_size, layer.stride, layer.padding, ceil_mode=layer.ceil_mode)
    if layer.padding == "same" or layer.padding_mode != "zeros":
        raise ValueError(
            "a convolution's padding must be of zeros and given in pixels for a share, "
            f"got padding={layer.padding!r} with padding_mode={layer.padding_mode!r}"
        )
    (kh, kw), (sh, sw) = layer.kernel_size, layer.stride
    ph, pw = (0, 0) if isinstance(layer.padding, str) else layer.padding
    return make_window((kh, kw), (sh, sw), (ph, pw))


def _max_sums(x: Tensor, window: Window) -> Tensor:
    kernel_size, stride, padding, ceil_mode = window
    _, chosen = F.max_pool2d(x, kernel_size, stride, padding, ceil_mode=ceil_mode, return_indices=True)
    ones = x.new_ones(chosen.shape).flatten(2)
    return torch.zeros_like(x).flatten(2).scatter_add_(2, chosen.flatten(2), ones).view(x.shape)


def _conv_sums(conv: nn.Conv2d, x: Tensor, window: Window) -> Tensor:
    size = x.shape[-2:]
    kernel = conv.weight.detach().to(x.dtype).abs()
    kernel = kernel.view(conv.groups, -1, *kernel.shape[1:]).sum(1).flatten(0, 1).flatten(1)  # (C, cells)
    inside = F.pad(x.new_ones(1, 1, *size), window.margins(size))
    cells = list(window.cells(size))
    weights = [kernel[:, cell, None, None] * inside[index] for cell, index in enumerate(cells)]
    total = sum(weights[1:], weights[0])
    return sum_weights([weight / total for weight in weights], window, size).repeat(len(x), 1, 1, 1)


@torch.no_grad()
def share(layer: nn.Module, x: Tensor, logit_from: Tensor | None = None) -> Tensor:
    """Return the share of each input pixel in what ``layer`` makes of ``x``.

    Args:
        layer: a pooling layer of this library, or torch's ``MaxPool2d``, ``AvgPool2d`` or ``Conv2d``, undilated.
        x: the layer's input.
        logit_from: for LIP, the tensor that its logits come from, as in the layer's call; None takes ``x``.

    Shape:
        (N, C, H, W) or (C, H, W) -> the same, in fp32 (fp64 for fp64).

    Raises:
        TypeError: for another layer, an ``x`` that is no floating-point tensor, or ``logit_from`` where no LIP is.
        ValueError: for a shape or a layer's option that is not allowed.

    Example:
        >>> share(torch.nn.MaxPool2d(2), torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
        tensor([[[0., 0.],
                 [0., 4.]]])
    """
    window = window_of(layer)
    check_input(x)
    if logit_from is not None and not isinstance(layer, LIP2d):
        raise TypeError(f"logit_from is for LIP2d alone, got it for {type(layer).__name__}")
    if x.dim() == 3:
        return share(layer, x[None], None if logit_from is None else logit_from[None])[0]

    size, outputs = x.shape[-2:], window.output_size(x.shape[-2:])
    if isinstance(layer, nn.Conv2d | StridedPool2d):
        # Pixels between the windows count as dropped.
        kernel, stride = window.kernel_size, window.stride
        window_of_average = window._replace(kernel_size=(max(kernel[0], stride[0]), max(kernel[1], stride[1])))
    else:
        window_of_average = window
    coverage = window_of_average.coverage(size, outputs).to(x.device, compute_dtype(x.dtype))

    logit = layer.logits(x, logit_from) if isinstance(layer, LIP2d) else x
    x = x.to(coverage.dtype)
    if isinstance(layer, SoftPool2d | LIP2d):
        sums = weighted_share(logit, window)
    elif isinstance(layer, nn.MaxPool2d):
        sums = _max_sums(x, window)
    elif isinstance(layer, nn.Conv2d):
        sums = _conv_sums(layer, x, window)
    elif isinstance(layer, LiftDownPool2d):
        sums = lift_share(layer, x, coverage)
    elif isinstance(layer, StridedPool2d):
        sums = torch.zeros_like(x)
        sums[..., :: window.stride[0], :: window.stride[1]] = 1
    else:
        sums = coverage.expand(x.shape)
    return sums / coverage
