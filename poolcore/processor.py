"""The weighted family on a processor: two routes to one result, block by block through the processor's cache.

Where the logits are small enough for a plain exponential (in trained networks they are) the mean is the quotient of
two native sum poolings, else it is the reference's. Each image takes its own route, so that its result does not depend
on the batch that it came in.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from poolcore.blocks import in_blocks
from poolcore.layout import format_of
from poolcore.precision import compute_dtype
from poolcore.weighted import weighted_pool_reference, weighted_pool_reference_backward
from poolcore.window import Window

__all__ = ["weighted_pool", "weighted_pool_backward"]

# Within these bounds logits need no shift: exp stays within [1e-13, 1e13], far from either end of fp32, so that even
# the lightest of a window's pixels keeps its full relative precision, and no product with a pixel overflows.
_LOGIT_BOUND = 30.0
_PIXEL_BOUND = 1e20


def _is_within(x: Tensor, bound: float) -> bool:
    # In the order that they lie in memory: aminmax would copy a tensor in any other.
    low, high = torch.aminmax(x.permute(sorted(range(x.dim()), key=x.stride, reverse=True)))
    return bool(low >= -bound) and bool(high <= bound)  # False for NaN


def _is_bounded(x: Tensor, logit: Tensor) -> bool:
    return _is_within(logit, _LOGIT_BOUND) and (x is logit or _is_within(x, _PIXEL_BOUND))


def _as_image(window: Window) -> Window:
    """Return a sequence's window as that of an image of one row: torch's own 1D average takes no divisor."""
    return Window((1, *window.kernel_size), (1, *window.stride), (0, *window.padding), window.ceil_mode)


def _sum_pool(x: Tensor, window: Window) -> Tensor:
    if window.rank == 1:
        return _sum_pool(x.unsqueeze(2), _as_image(window)).squeeze(2)
    if window.rank == 3:
        # torch's own 3D average refuses an input that fits into the window only with its padding.
        padded = F.pad(x, window.margins(x.shape[2:]))
        return F.avg_pool3d(padded, window.kernel_size, window.stride, divisor_override=1)
    return F.avg_pool2d(x, *window, divisor_override=1)


def _sum_pool_backward(grad: Tensor, x: Tensor, window: Window) -> Tensor:
    """Return, for each pixel of ``x``, the sum of ``grad`` over the windows that read it."""
    if window.rank == 1:
        return _sum_pool_backward(grad.unsqueeze(2), x.unsqueeze(2), _as_image(window)).squeeze(2)
    total: Tensor
    if window.rank == 3:
        margins = window.margins(x.shape[2:])
        total = torch.ops.aten.avg_pool3d_backward(
            grad, F.pad(x, margins), window.kernel_size, window.stride, (0, 0, 0), False, True, 1
        )
        return F.pad(total, [-margin for margin in margins])
    total = torch.ops.aten.avg_pool2d_backward(grad, x, *window, True, 1)
    return total


def _bounded(x: Tensor, logit: Tensor, window: Window) -> Tensor:
    weight = torch.exp(logit)
    return _sum_pool(x * weight, window) / _sum_pool(weight, window)


def _bounded_backward(grad: Tensor, x: Tensor, logit: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    weight = torch.exp(logit)
    total = _sum_pool(weight, window)
    y = _sum_pool(x * weight, window) / total
    sent = _sum_pool_backward(grad / total, x, window)
    sent_mean = _sum_pool_backward(grad / total * y, x, window)
    return weight * sent, weight * (x * sent - sent_mean)


def _forward(x: Tensor, logit: Tensor, window: Window) -> Tensor:
    if _is_bounded(x, logit):
        return _bounded(x, logit, window)
    if len(x) > 1:
        return torch.cat([_forward(x[i : i + 1], logit[i : i + 1], window) for i in range(len(x))])
    return weighted_pool_reference(x, logit, window)


def _backward(grad: Tensor, x: Tensor, logit: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    if _is_bounded(x, logit):
        return _bounded_backward(grad, x, logit, window)
    if len(x) > 1:
        rows = [slice(i, i + 1) for i in range(len(x))]
        grad_x, grad_logit = zip(*(_backward(grad[r], x[r], logit[r], window) for r in rows), strict=True)
        return torch.cat(grad_x), torch.cat(grad_logit)
    return weighted_pool_reference_backward(grad, x, logit, window)


def weighted_pool(x: Tensor, logit: Tensor | None, window: Window) -> Tensor:
    """Return the mean of each window of ``x``, weighted by the softmax of ``logit``; of ``x`` itself for None.

    Shape:
        x, logit: (N, C, *spatial). Output: (N, C, *outputs) in the memory format of ``x``.
    """
    memory_format = format_of(x)

    def pool(x: Tensor, logit: Tensor | None = None) -> Tensor:
        x, logit = _widened(x, logit, memory_format)
        return _forward(x, logit, window)

    images = (x,) if logit is None else (x, logit)
    return _joined([pool(*block).to(x.dtype) for block in in_blocks(*images)], memory_format)


def weighted_pool_backward(
    grad: Tensor, x: Tensor, logit: Tensor | None, window: Window
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of ``x`` and of ``logit``; without a logit all goes to ``x``.

    Shape:
        grad: (N, C, *outputs). Gradients: (N, C, *spatial) in the memory format of ``x``.
    """
    memory_format = format_of(x)

    def back(grad: Tensor, x: Tensor, logit: Tensor | None = None) -> tuple[Tensor, ...]:
        dtype, is_own = x.dtype, logit is None
        grad = grad.to(compute_dtype(dtype)).contiguous(memory_format=memory_format)
        x, logit = _widened(x, logit, memory_format)
        grad_x, grad_logit = _backward(grad, x, logit, window)
        # The gradient's two parts are added before they are rounded.
        return ((grad_x + grad_logit).to(dtype),) if is_own else (grad_x.to(dtype), grad_logit.to(dtype))

    images = (grad, x) if logit is None else (grad, x, logit)
    parts = zip(*(back(*block) for block in in_blocks(*images)), strict=True)
    grad_x, *rest = (_joined(part, memory_format) for part in parts)
    return grad_x, rest[0] if rest else None


def _joined(blocks: Sequence[Tensor], memory_format: torch.memory_format) -> Tensor:
    """Return one batch of blocks; a lone one is that batch, without a copy."""
    joined = blocks[0] if len(blocks) == 1 else torch.cat(list(blocks))
    return joined.contiguous(memory_format=memory_format)


def _widened(x: Tensor, logit: Tensor | None, memory_format: torch.memory_format) -> tuple[Tensor, Tensor]:
    """Return pixels and logits in the dtype that is computed in and in one format; mixed ones take twice the time."""
    wide = x.to(compute_dtype(x.dtype))
    if logit is None:
        return wide, wide
    return wide, logit.to(wide.dtype).contiguous(memory_format=memory_format)
