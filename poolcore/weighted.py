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

from poolcore.blocks import by_blocks
from poolcore.precision import compute_dtype
from poolcore.window import Window

__all__ = ["sum_weights", "weighted_pool", "weighted_pool_reference", "weighted_share"]

# Within these bounds logits need no shift: exp stays within [1e-13, 1e13], far from either end of fp32, so that even
# the lightest of a window's pixels keeps its full relative precision, and no product with a pixel overflows.
_LOGIT_BOUND = 30.0
_PIXEL_BOUND = 1e20


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


def _sum_pool(x: Tensor, window: Window) -> Tensor:
    if window.rank == 1:
        # torch's own 1D average takes no divisor, so a sequence is summed as an image of one row.
        row = Window((1, *window.kernel_size), (1, *window.stride), (0, *window.padding), window.ceil_mode)
        return _sum_pool(x.unsqueeze(2), row).squeeze(2)
    if window.rank == 3:
        # torch's own 3D average refuses an input that fits into the window only with its padding.
        padded = F.pad(x, window.margins(x.shape[2:]))
        return F.avg_pool3d(padded, window.kernel_size, window.stride, divisor_override=1)
    return F.avg_pool2d(x, window.kernel_size, window.stride, window.padding, window.ceil_mode, divisor_override=1)


def _weighted_pool_bounded(x: Tensor, logit: Tensor, window: Window) -> Tensor:
    """Return the same mean as two native sum poolings, sum(exp(l) x) / sum(exp(l)); for bounded logits only."""
    weight = torch.exp(logit)
    return _sum_pool(x * weight, window) / _sum_pool(weight, window)


def _is_within(x: Tensor, bound: float) -> bool:
    low, high = torch.aminmax(x.detach())
    return bool(low >= -bound) and bool(high <= bound)  # False for NaN


def _by_route(x: Tensor, logit: Tensor, window: Window) -> Tensor:
    if _is_within(logit, _LOGIT_BOUND) and (x is logit or _is_within(x, _PIXEL_BOUND)):
        return _weighted_pool_bounded(x, logit, window)
    if len(x) > 1:
        # Each image takes its own route, so that its result does not depend on its batch.
        return torch.cat([_by_route(x[i : i + 1], logit[i : i + 1], window) for i in range(len(x))])
    return weighted_pool_reference(x, logit, window)


def _format_of(x: Tensor) -> torch.memory_format:
    channels_last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
    if channels_last is None or x.is_contiguous() or not x.is_contiguous(memory_format=channels_last):
        return torch.contiguous_format
    return channels_last


def weighted_pool(x: Tensor, logit: Tensor, window: Window) -> Tensor:
    """Return the mean of each window of ``x``, weighted by the softmax of ``logit`` over the window.

    Two routes to one result: where the logits are small enough for a plain exponential (in trained networks they
    are), two native poolings, block by block through the processor's cache; otherwise the reference.

    Shape:
        x, logit: (N, C, H, W). Output: (N, C, H_out, W_out), see `Window.output_size`.
    """
    window.output_size(x.shape[2:])
    blocked = x.device.type == "cpu" and not torch.compiler.is_compiling() and x.numel() > 0
    dtype, pool = compute_dtype(x.dtype), _by_route if blocked else weighted_pool_reference

    # The other format's elementwise steps and poolings take twice the time, and some poolings return the other one.
    memory_format = _format_of(x)

    def soft(x: Tensor) -> Tensor:
        # One conversion, so that the gradient's two parts are added before they are rounded.
        wide = x.to(dtype)
        return pool(wide, wide, window).to(x.dtype).contiguous(memory_format=memory_format)

    def weighted(x: Tensor, logit: Tensor) -> Tensor:
        return pool(x.to(dtype), logit.to(dtype), window).to(x.dtype).contiguous(memory_format=memory_format)

    if logit is x:
        return by_blocks(soft, (x,)) if blocked else soft(x)
    if memory_format != torch.contiguous_format:
        logit = logit.contiguous(memory_format=memory_format)
    return by_blocks(weighted, (x, logit)) if blocked else weighted(x, logit)


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
