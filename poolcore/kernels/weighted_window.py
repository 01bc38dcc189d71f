"""What the forward and the backward kernel of the weighted family share: tiles, pixels, and a window's sums.

A tensor comes as (pointer, strides), strides along n, c, d, h, w; a place as (d, h, w). Offsets are int64.
"""

import triton
import triton.language as tl

__all__ = ["cell_of", "find_tile", "is_inside", "load_pixel", "offset_of", "sum_window", "weigh"]


@triton.jit
def find_tile(rows, size, CHANNELS_INNER: tl.constexpr, BLOCK_OUTER: tl.constexpr, BLOCK_INNER: tl.constexpr):
    """Return n, c, (d, h, w) of this program's tile and which of its places exist.

    ``size`` is (C, D, H, W) of the places that are counted, ``rows`` how many there are along the tile's outer axis.
    """
    C, D, H, W = size
    if CHANNELS_INNER:
        inner_size = C
    else:
        inner_size = W
    inner_blocks = tl.cdiv(inner_size, BLOCK_INNER)
    program = tl.program_id(0)
    # Rows are counted in int64 where their number asks for it.
    outer = (program // inner_blocks).to(rows.dtype) * BLOCK_OUTER + tl.arange(0, BLOCK_OUTER)[:, None]
    inner = (program % inner_blocks) * BLOCK_INNER + tl.arange(0, BLOCK_INNER)[None, :]
    exists = (outer < rows) & (inner < inner_size)
    rest = outer
    if CHANNELS_INNER:
        c = inner
        w = rest % W
        rest = rest // W
    else:
        w = inner
    h = rest % H
    rest = rest // H
    d = rest % D
    n = rest // D
    if not CHANNELS_INNER:
        c = n % C
        n = n // C
    return n.to(tl.int64), c.to(tl.int64), (d.to(tl.int64), h.to(tl.int64), w.to(tl.int64)), exists


@triton.jit
def is_inside(at, size, exists):
    """Return which of the places lie in a map of this size."""
    d, h, w = at
    D, H, W = size
    return exists & (d >= 0) & (d < D) & (h >= 0) & (h < H) & (w >= 0) & (w < W)


@triton.jit
def offset_of(n, c, at, strides):
    """Return how many elements from a tensor's first the places lie."""
    d, h, w = at
    stride_n, stride_c, stride_d, stride_h, stride_w = strides
    return n * stride_n + c * stride_c + d * stride_d + h * stride_h + w * stride_w


@triton.jit
def load_pixel(x, logit, n, c, at, size, exists, CHECKED: tl.constexpr, HAS_LOGIT: tl.constexpr, COMPUTE: tl.constexpr):
    """Return a pixel and its logit; beyond the input 0 and -inf, so that it weighs nothing."""
    if CHECKED:
        exists = is_inside(at, size, exists)
    value = tl.load(x[0] + offset_of(n, c, at, x[1]), exists, 0.0).to(COMPUTE)
    if HAS_LOGIT:
        weight = tl.load(logit[0] + offset_of(n, c, at, logit[1]), exists, 0.0).to(COMPUTE)
    else:
        weight = value
    if CHECKED:
        weight = tl.where(exists, weight, float("-inf"))
    return value, weight


@triton.jit
def cell_of(first, cell, KERNEL: tl.constexpr):
    """Return where the window that begins at ``first`` has its cell of this number, in row-major order."""
    d, h, w = first
    return d + cell // (KERNEL[1] * KERNEL[2]), h + cell // KERNEL[2] % KERNEL[1], w + cell % KERNEL[2]


@triton.jit
def weigh(level, top, KERNEL: tl.constexpr):
    """Return exp(level - top), scaled down by a power of two so that no window's sum of pixels can overflow."""
    SCALE: tl.constexpr = 6 if KERNEL[0] * KERNEL[1] * KERNEL[2] <= 32 else 20
    return tl.exp2((level - top) * 1.4426950408889634 - SCALE)


@triton.jit
def sum_window(
    x, logit, n, c, first, size, exists,
    KERNEL: tl.constexpr, CHECKED: tl.constexpr, HAS_LOGIT: tl.constexpr, UNROLLED: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """Return (top, total, weighted) of the windows at ``first``: the largest logit, sum(weight), sum(weight x)."""
    CELLS: tl.constexpr = KERNEL[0] * KERNEL[1] * KERNEL[2]
    top = tl.full(exists.shape, float("-inf"), COMPUTE)
    total = tl.zeros(exists.shape, COMPUTE)
    weighted = tl.zeros(exists.shape, COMPUTE)
    if UNROLLED:
        for cell in tl.static_range(CELLS):
            at = cell_of(first, cell, KERNEL)
            _, level = load_pixel(x, logit, n, c, at, size, exists, CHECKED, HAS_LOGIT, COMPUTE)
            top = tl.maximum(top, level)
        for cell in tl.static_range(CELLS):
            at = cell_of(first, cell, KERNEL)
            value, level = load_pixel(x, logit, n, c, at, size, exists, CHECKED, HAS_LOGIT, COMPUTE)
            weight = weigh(level, top, KERNEL)
            total += weight
            weighted += weight * value
    else:
        for cell in range(CELLS):
            at = cell_of(first, cell, KERNEL)
            _, level = load_pixel(x, logit, n, c, at, size, exists, CHECKED, HAS_LOGIT, COMPUTE)
            top = tl.maximum(top, level)
        for cell in range(CELLS):
            at = cell_of(first, cell, KERNEL)
            value, level = load_pixel(x, logit, n, c, at, size, exists, CHECKED, HAS_LOGIT, COMPUTE)
            weight = weigh(level, top, KERNEL)
            total += weight
            weighted += weight * value
    return top, total, weighted
