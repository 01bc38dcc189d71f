"""The family: a mean over a window, weighted by the softmax of a logit.

    w_i = exp(l_i) / sum_j exp(l_j),    y = sum_i w_i x_i        (j over the window's valid pixels)

With logit 0 this is average pooling, with the input itself SoftPool (Stergiou et al. 2021, arXiv 2101.00440),
with a learned map G(x) LIP (Gao et al. 2019, arXiv 1908.04156), and with a large multiple of the input max pooling.

For the whole family: every sample and channel has its own weights; dtype and memory format of the input are kept;
fp16 and bf16 are computed in fp32 and rounded once; the result is deterministic; inputs are never written to. A logit of
-inf is weight 0, a window of only -inf gives NaN; any other non-finite logit gives NaN in the windows that read it and
nowhere else.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from poolcore.blocks import by_blocks
from poolcore.window import Window

__all__ = ["weighted_pool2d", "weighted_pool2d_reference", "weighted_share"]

# Logits within [-_BOUND, _BOUND] need no shift: exp stays within [1e-13, 1e13], far from either end of fp32,
# so that even the lightest of a window's pixels keeps its full relative precision.
_BOUND = 30.0


def _compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _weights(logit: Tensor, window: Window) -> list[Tensor]:
    """Return one (N, C, H_out, W_out) map of weights for each cell of the window."""
    size = logit.shape[-2:]
    padded = F.pad(logit, window.margins(size), value=-torch.inf)
    cells = [padded[cell] for cell in window.cells(size)]
    top = torch.stack([cell.detach() for cell in cells]).amax(0) if len(cells) > 1 else cells[0].detach()
    terms = [torch.exp(cell - top) for cell in cells]
    total = sum(terms[1:], terms[0])
    return [term / total for term in terms]


def weighted_pool2d_reference(x: Tensor, logit: Tensor, window: Window) -> Tensor:
    """Return the weighted mean of each window, (N, C, H_out, W_out): the formula above, cell by cell.

    The window's own maximum is subtracted from its logits, so that no exponential overflows and a window whose
    logits lie far below all others keeps its weights.
    """
    dtype = _compute_dtype(x.dtype)
    size = x.shape[-2:]
    padded = F.pad(x.to(dtype), window.margins(size))
    weights = _weights(logit.to(dtype), window)
    return sum(w * padded[cell] for w, cell in zip(weights, window.cells(size), strict=True)).to(x.dtype)


def _sum_pool(x: Tensor, window: Window) -> Tensor:
    return F.avg_pool2d(x, window.kernel_size, window.stride, window.padding, window.ceil_mode, divisor_override=1)


def _weighted_pool2d_bounded(x: Tensor, logit: Tensor, window: Window) -> Tensor:
    """Return the same mean as two native sum poolings, sum(exp(l) x) / sum(exp(l)); for bounded logits only."""
    dtype = _compute_dtype(x.dtype)
    weight = torch.exp(logit.to(dtype))
    return (_sum_pool(weight * x.to(dtype), window) / _sum_pool(weight, window)).to(x.dtype)


def _is_bounded(logit: Tensor) -> bool:
    low, high = torch.aminmax(logit.detach())
    return bool(low >= -_BOUND) and bool(high <= _BOUND)  # False for NaN


def weighted_pool2d(x: Tensor, logit: Tensor, window: Window) -> Tensor:
    """Return the mean of each window of ``x``, weighted by the softmax of ``logit`` over the window.

    Two routes to one result: where the logits are small enough for a plain exponential (in trained networks they
    are), two native poolings, block by block through the processor's cache; otherwise the reference.

    Shape:
        x, logit: (N, C, H, W). Output: (N, C, H_out, W_out), see `Window.output_size`.
    """
    window.output_size(x.shape[-2:])
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not x.numel():
        return weighted_pool2d_reference(x, logit, window)

    def route(x: Tensor, logit: Tensor) -> Tensor:
        pool = _weighted_pool2d_bounded if _is_bounded(logit) else weighted_pool2d_reference
        return pool(x, logit, window)

    if logit is x:
        return by_blocks(lambda x: route(x, x), (x,))
    return by_blocks(route, (x, logit))


def weighted_share(logit: Tensor, window: Window) -> Tensor:
    """Return S, the sum of each input pixel's weights over all outputs, (N, C, H, W) in fp32 (fp64 for fp64)."""
    dtype = _compute_dtype(logit.dtype)
    n, c, *size = logit.shape
    left, right, top, bottom = window.margins(size)
    total = logit.new_zeros((n, c, size[0] + top + bottom, size[1] + left + right), dtype=dtype)
    for weight, cell in zip(_weights(logit.to(dtype), window), window.cells(size), strict=True):
        total[cell] += weight
    return total[..., top : top + size[0], left : left + size[1]]
