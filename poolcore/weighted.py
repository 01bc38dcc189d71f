"""The family: a mean over a window, weighted by the softmax of a logit.

    w_i = exp(l_i) / sum_j exp(l_j),    y = sum_i w_i x_i        (j over the window's valid pixels)

With logit 0 this is average pooling, with the input itself SoftPool (Stergiou et al. 2021, arXiv 2101.00440),
with a learned map G(x) LIP (Gao et al. 2019, arXiv 1908.04156), and with a large multiple of the input max pooling.

Windows span one, two or three axes: (N, C, L), (N, C, H, W) or (N, C, D, H, W); shapes are written in 2D below.

For the whole family: every sample and channel has its own weights; dtype and memory format of the input are kept;
fp16 and bf16 are computed in fp32 and rounded once; the result is deterministic; inputs are never written to. A logit
of -inf is weight 0, a window of only -inf gives NaN; any other non-finite logit gives NaN in the windows that read it
and nowhere else.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from poolcore.precision import compute_dtype
from poolcore.window import Window

__all__ = [
    "sum_weights",
    "weighted_pool_reference",
    "weighted_pool_reference_backward",
    "weighted_share",
]


def _weights(logit: Tensor, window: Window) -> list[Tensor]:
    """Return one (N, C, H_out, W_out) map of weights for each cell of the window."""
    size = logit.shape[2:]
    padded = F.pad(logit, window.margins(size), value=-torch.inf)
    cells = [padded[cell] for cell in window.cells(size)]
    top = torch.stack([cell.detach() for cell in cells]).amax(0) if len(cells) > 1 else cells[0].detach()
    terms = [torch.exp(cell - top) for cell in cells]
    total = sum(terms[1:], terms[0])
    return [term / total for term in terms]


def weighted_pool_reference(x: Tensor, logit: Tensor, window: Window) -> Tensor:
    """Return the weighted mean of each window, (N, C, H_out, W_out): the formula above, cell by cell.

    The window's own maximum is subtracted from its logits, so that no exponential overflows and a window whose
    logits lie far below all others keeps its weights.
    """
    size = x.shape[2:]
    padded = F.pad(x, window.margins(size))
    terms = [padded[cell] * weight for weight, cell in zip(_weights(logit, window), window.cells(size), strict=True)]
    return sum(terms[1:], terms[0])


def weighted_pool_reference_backward(
    grad: Tensor, x: Tensor, logit: Tensor, window: Window
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the reference: dy/dx_i = w_i and dy/dl_i = w_i (x_i - y).

    Shape:
        grad: (N, C, H_out, W_out), x and logit: (N, C, H, W). Both gradients: (N, C, H, W).
    """
    size, margins = x.shape[2:], window.margins(x.shape[2:])
    padded, cells = F.pad(x, margins), list(window.cells(x.shape[2:]))
    weights = _weights(logit, window)
    terms = [padded[cell] * weight for weight, cell in zip(weights, cells, strict=True)]
    y = sum(terms[1:], terms[0])
    grad_x = sum_weights((grad * weight for weight in weights), window, size)
    apart = (grad * weight * (padded[cell] - y) for weight, cell in zip(weights, cells, strict=True))
    return grad_x, sum_weights(apart, window, size)


def sum_weights(weights: Iterable[Tensor], window: Window, size: Sequence[int]) -> Tensor:
    """Return S, (N, C, H, W): of each input pixel, the sum of its weights over all outputs that read it.

    Args:
        weights: for each of the window's cells in row-major order, its weights, (N, C, H_out, W_out).
        window: that they belong to.
        size: (H, W) of the input.
    """
    margins = window.margins(size)
    total: Tensor | None = None
    for weight, cell in zip(weights, window.cells(size), strict=True):
        if total is None:
            total = F.pad(weight.new_zeros((*weight.shape[:2], *size)), margins)
        total[cell] += weight
    assert total is not None
    return F.pad(total, [-margin for margin in margins])


def weighted_share(logit: Tensor, window: Window) -> Tensor:
    """Return S, the sum of each input pixel's weights over all outputs, (N, C, H, W) in fp32 (fp64 for fp64)."""
    return sum_weights(_weights(logit.to(compute_dtype(logit.dtype)), window), window, logit.shape[2:])
