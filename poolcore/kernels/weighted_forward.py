"""The forward kernel of the weighted family."""

import triton
import triton.language as tl

from poolcore.kernels.weighted_window import find_tile, offset_of, sum_window

__all__ = ["weighted_forward_kernel"]


@triton.jit(do_not_specialize=["rows"])
def weighted_forward_kernel(
    x, logit, y, rows, places, size,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, CHECKED: tl.constexpr, HAS_LOGIT: tl.constexpr,
    SUMS_ONLY: tl.constexpr, UNROLLED: tl.constexpr, CHANNELS_INNER: tl.constexpr, COMPUTE: tl.constexpr,
    BLOCK_OUTER: tl.constexpr, BLOCK_INNER: tl.constexpr,
):  # fmt: skip
    """Pool a tile of windows, BLOCK_OUTER x BLOCK_INNER outputs.

    Reads stride^rank pixels (and logits) an output, those that windows share from cache; writes one pixel. With
    SUMS_ONLY it writes top, total and mean of each window instead, in COMPUTE, for the backward pass.

    Tensors come as (pointer, strides), ``y`` as (pointers, strides); ``places`` is (C, D, H, W) of the outputs.
    """
    n, c, at, exists = find_tile(rows, places, CHANNELS_INNER, BLOCK_OUTER, BLOCK_INNER)
    d, h, w = at
    first = d * STRIDE[0] - PADDING[0], h * STRIDE[1] - PADDING[1], w * STRIDE[2] - PADDING[2]
    top, total, weighted = sum_window(
        x, logit, n, c, first, size, exists, KERNEL, CHECKED, HAS_LOGIT, UNROLLED, COMPUTE
    )  # fmt: skip
    to = offset_of(n, c, at, y[1])
    if SUMS_ONLY:
        tl.store(y[0][0] + to, top, exists)
        tl.store(y[0][1] + to, total, exists)
        tl.store(y[0][2] + to, weighted / total, exists)
    else:
        tl.store(y[0][0] + to, (weighted / total).to(y[0][0].dtype.element_ty), exists)
