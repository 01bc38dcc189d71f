"""LiftPool's forward kernels: one lifting pair along any axis, and both axes of an image at once."""

import triton
import triton.language as tl

from poolcore.kernels.lift_pair import advance, guess, lift_places, load_filter, pointers, tile, window_of


@triton.jit(do_not_specialize=["lines"])
def lift_kernel(
    a, b, a_new, b_new, f, g, lines, C, others, length, lone,
    K: tl.constexpr, LEARNED: tl.constexpr, REPLICATE: tl.constexpr, SYNTHESIS: tl.constexpr, COMBINE: tl.constexpr,
    AXIS_INNER: tl.constexpr, COMPUTE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    """Compute a' and b' at a tile of places, or what they combine to in the place of a'.

    Reads two values for two that it writes (combined: one), the neighbours' from cache.

    Tensors come as line tensors (`pointers`), filters as ((weight, strides), (bias, stride), ...); ``lines`` is N *
    others * length. ``lone`` is the place whose odd pixel does not exist, or -1: the analysis reads the even one there,
    the synthesis does not write it.
    """
    c, line, exists = tile(C, lines, BLOCK_C, BLOCK_L)
    if AXIS_INNER:
        place, other, n = line % length, line // length % others, line // length // others
    else:
        other, place, n = line % others, line // others % length, line // others // length
    place, other, n = place.to(tl.int64), other.to(tl.int64), n.to(tl.int64)
    s, d = lift_places(
        pointers(a, n, c, other), a[2], pointers(b, n, c, other), b[2],
        place, length, -1 if SYNTHESIS else lone, exists,
        load_filter(f, c, C, LEARNED, K, COMPUTE), load_filter(g, c, C, LEARNED, K, COMPUTE),
        K, LEARNED, REPLICATE, COMPUTE,
    )  # fmt: skip
    if COMBINE == "sum":
        s += d
    if COMBINE == "mean":
        s = (s + d) / 2
    to = pointers(a_new, n, c, other) + place * a_new[2][0] + a_new[2][1]
    tl.store(to, s.to(to.dtype.element_ty), exists & (place != lone) if SYNTHESIS else exists)
    if COMBINE == "all":
        to = pointers(b_new, n, c, other) + place * b_new[2][0] + b_new[2][1]
        tl.store(to, d.to(to.dtype.element_ty), exists)


@triton.jit(do_not_specialize=["lines"])
def lift_image_kernel(
    x, y, predict, update, lines, C, H, W,
    K: tl.constexpr, LEARNED: tl.constexpr, REPLICATE: tl.constexpr, COMBINE: tl.constexpr, COMPUTE: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_L: tl.constexpr, SEGMENT: tl.constexpr,
):  # fmt: skip
    """Lift images along both axes: a segment of rows of the bands, or of what they combine to, for a tile of columns.

    It goes down the rows, lifts each along its width on the spot, and lifts both halves along the height as they come.
    Reads four pixels for the four it writes (combined: one), the neighbours' from cache, and K - 1 rows of the image
    more at either end of a segment.

    ``x`` is (pointer, strides along n, c, h, w), ``y`` (pointer, strides along band, n, c, h, w); ``lines`` is N times
    the bands' width.
    """
    REACH: tl.constexpr = K // 2
    h, w = (H + 1) // 2, (W + 1) // 2
    c, line, exists = tile(C, lines, BLOCK_C, BLOCK_L)
    n, column = (line // w).to(tl.int64), (line % w).to(tl.int64)
    p, u = load_filter(predict, c, C, LEARNED, K, COMPUTE), load_filter(update, c, C, LEARNED, K, COMPUTE)
    image = x[0] + n * x[1][0] + c * x[1][1]
    pooled = y[0] + n * y[1][1] + c * y[1][2] + column * y[1][4]
    stride_h, stride_w = x[1][2], x[1][3]
    even, odd = (2 * stride_w, 0), (2 * stride_w, stride_w)
    # The column whose odd pixel does not exist.
    lone = W % 2 * w - 1
    begin = tl.program_id(1).to(tl.int64) * SEGMENT
    zero = tl.zeros((BLOCK_L, BLOCK_C), COMPUTE)
    low_a, low_b, high_a, high_b = window_of(zero, K), window_of(zero, K), window_of(zero, K), window_of(zero, K)
    for step in range(SEGMENT + 4 * REACH):
        at = begin + step - 2 * REACH
        odd_at = at - REACH
        s_even, d_even, s_odd, d_odd = zero, zero, zero, zero
        if (at >= 0) & (at < h):
            row = image + 2 * at * stride_h
            s_even, d_even = lift_places(
                row, even, row, odd, column, w, lone, exists, p, u,
                K, LEARNED, REPLICATE, COMPUTE,
            )  # fmt: skip
        if (odd_at >= 0) & (odd_at < h):
            row = image + tl.minimum(2 * odd_at + 1, H - 1) * stride_h
            s_odd, d_odd = lift_places(
                row, even, row, odd, column, w, lone, exists, p, u,
                K, LEARNED, REPLICATE, COMPUTE,
            )  # fmt: skip
        low_a, low_b = advance(low_a, low_b, s_even, s_odd, at, h, p, u, K, K, LEARNED, REPLICATE)
        high_a, high_b = advance(high_a, high_b, d_even, d_odd, at, h, p, u, K, K, LEARNED, REPLICATE)
        done = at - 2 * REACH
        is_mine = exists & (done >= begin) & (done < h)
        to = pooled + done * y[1][3]
        ll = low_a[0] + guess(low_b, 0, u, LEARNED, K)
        if COMBINE == "low":
            tl.store(to, ll.to(to.dtype.element_ty), is_mine)
        else:
            lh, hl, hh = low_b[REACH], high_a[0] + guess(high_b, 0, u, LEARNED, K), high_b[REACH]
            if COMBINE == "all":
                stride = y[1][0]
                tl.store(to, ll.to(to.dtype.element_ty), is_mine)
                tl.store(to + stride, lh.to(to.dtype.element_ty), is_mine)
                tl.store(to + 2 * stride, hl.to(to.dtype.element_ty), is_mine)
                tl.store(to + 3 * stride, hh.to(to.dtype.element_ty), is_mine)
            else:
                total = ll + lh + hl + hh
                if COMBINE == "mean":
                    total = total / 4
                tl.store(to, total.to(to.dtype.element_ty), is_mine)
