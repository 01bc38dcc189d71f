"""LiftPool's backward kernel: the gradients of one lifting pair along any axis."""

import triton
import triton.language as tl

from poolcore.kernels.lift_pair import advance, guess_backward, load_filter, load_place, pointers, tile, window_of


@triton.jit
def _spread(sums, arrived, numbers, grad, K: tl.constexpr):
    """Return K sums one place further: ``arrived`` the newest, and what a filter's taps send to each of them added."""
    moved = ()
    for t in tl.static_range(1, K):
        moved += (sums[t] + numbers[t - 1] * grad,)
    return moved + (arrived + numbers[K - 1] * grad,)  # noqa: RUF005  # Triton knows no unpacking


@triton.jit
def _oldest(sums, place, length, K: tl.constexpr, REPLICATE: tl.constexpr):
    """Return the sums and the oldest of them, now whole: that of ``place``.

    What was sent beyond an end belongs to the end, whose value was repeated there: before the axis it is handed on to
    the next place, behind it gathered by the last.
    """
    whole = sums[0]
    if REPLICATE and K > 1:
        for t in tl.static_range(1, K):
            whole += tl.where(place == length - 1, sums[t], 0.0)
        handed = sums[1] + tl.where(place < 0, sums[0], 0.0)
        kept = (sums[0], handed)
        for t in tl.static_range(2, K):
            kept += (sums[t],)
        sums = kept
    return sums, whole


@triton.jit
def _count(totals, window, FIRST: tl.constexpr, grads, is_mine, LEARNED: tl.constexpr, K: tl.constexpr):
    """Return the sums of a filter's gradients with those of one place added."""
    grad = tl.where(is_mine, grads[0], 0.0)
    added = ()
    for t in tl.static_range(K):
        added += (totals[t] + grad * window[FIRST + t],)
    if LEARNED:
        added += (totals[K] + grad,)
        for t in tl.static_range(1, 3):
            added += (totals[K + t] + tl.where(is_mine, grads[t], 0.0),)
    return added


@triton.jit(do_not_specialize=["lines"])
def lift_backward_kernel(
    a, b, grad_a_new, grad_b_new, grad_a, grad_b, totals, f, g, lines, C, others, length, lone, gain,
    K: tl.constexpr, LEARNED: tl.constexpr, REPLICATE: tl.constexpr, SYNTHESIS: tl.constexpr, NEEDS_X: tl.constexpr,
    NEEDS_FILTERS: tl.constexpr, COMPUTE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_L: tl.constexpr,
    SEGMENT: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of a and b along a segment of a tile of lines, and its part of the filters' gradients.

    One step loads a at ``i`` and follows the formula backwards in the wake of it, K // 2 places apart: b' at ``j``, the
    gradient of G at ``k``, of b' (which is that of b) and of F at ``m``, of a at ``n``. A filter's gradient is sent on
    to the places that its taps read, so that nothing is computed twice and nothing added atomically.

    Reads four values (a, b and the gradients of a' and b') for two that it writes, and 4 (K - 1) places more at either
    end of a segment; the parts of the filters' gradients go to ``totals``, (programs, numbers of F and G, C).

    Arguments as in `lift_kernel`; ``lines`` is N * others; the gradients of a' and b' count ``gain``.
    """
    REACH: tl.constexpr = K // 2
    LONG: tl.constexpr = 4 * REACH + 1
    NUMBERS: tl.constexpr = K + 3 if LEARNED else K
    c, line, exists = tile(C, lines, BLOCK_C, BLOCK_L)
    other, n = (line % others).to(tl.int64), (line // others).to(tl.int64)
    f_numbers, g_numbers = load_filter(f, c, C, LEARNED, K, COMPUTE), load_filter(g, c, C, LEARNED, K, COMPUTE)
    from_a, from_b = pointers(a, n, c, other), pointers(b, n, c, other)
    from_a_new, from_b_new = pointers(grad_a_new, n, c, other), pointers(grad_b_new, n, c, other)
    to_a, to_b = pointers(grad_a, n, c, other), pointers(grad_b, n, c, other)
    begin = tl.program_id(1).to(tl.int64) * SEGMENT
    zero = tl.zeros((BLOCK_L, BLOCK_C), COMPUTE)
    a_window, b_window = window_of(zero, LONG), window_of(zero, K)
    b_sums, a_sums = window_of(zero, K), window_of(zero, K)
    f_totals, g_totals = window_of(zero, NUMBERS), window_of(zero, NUMBERS)
    for step in range(SEGMENT + 8 * REACH):
        i = begin + step - 4 * REACH
        j, k, m, n_place = i - REACH, i - 2 * REACH, i - 3 * REACH, i - 4 * REACH
        at_i, at_j, at_k = (i >= 0) & (i < length), (j >= 0) & (j < length), (k >= 0) & (k < length)
        value_a = load_place(from_a, a[2], i, -1, exists & at_i, COMPUTE)
        value_b = load_place(from_b, b[2], j, -1 if SYNTHESIS else lone, exists & at_j, COMPUTE)
        if SYNTHESIS:
            a_arrives = exists & at_k & (k != lone)
        else:
            a_arrives = exists & at_k
        arrived_a = load_place(from_a_new, grad_a_new[2], k, -1, a_arrives, COMPUTE) * gain
        arrived_b = load_place(from_b_new, grad_b_new[2], j, -1, exists & at_j, COMPUTE) * gain

        a_window, b_window = advance(
            a_window, b_window, value_a, value_b, i, length, f_numbers, g_numbers, K, LONG, LEARNED, REPLICATE
        )  # fmt: skip
        g_grads = guess_backward(b_window, 0, g_numbers, arrived_a, LEARNED, K)
        b_sums = _spread(b_sums, arrived_b, g_numbers, tl.where(at_k, g_grads[0], 0.0), K)
        b_sums, grad_of_b = _oldest(b_sums, m, length, K, REPLICATE)
        at_m = (m >= 0) & (m < length)
        f_grads = guess_backward(a_window, 0, f_numbers, -grad_of_b, LEARNED, K)
        a_sums = _spread(a_sums, arrived_a, f_numbers, tl.where(at_m, f_grads[0], 0.0), K)
        if not SYNTHESIS:
            # The pixel that the last b was taken from is the last a.
            shared = tl.where(at_m & (m == lone), grad_of_b, 0.0)
            with_shared = ()
            for t in tl.static_range(K):
                with_shared += (a_sums[t] + shared if t == REACH else a_sums[t],)
            a_sums = with_shared
        a_sums, grad_of_a = _oldest(a_sums, n_place, length, K, REPLICATE)

        if NEEDS_FILTERS:
            g_totals = _count(g_totals, b_window, 0, g_grads, at_k & (k >= begin) & (k < begin + SEGMENT), LEARNED, K)
            f_totals = _count(f_totals, a_window, 0, f_grads, at_m & (m >= begin) & (m < begin + SEGMENT), LEARNED, K)
        if NEEDS_X:
            to = to_b + m * grad_b[2][0] + grad_b[2][1]
            b_is_mine = at_m & (m >= begin) & (m < begin + SEGMENT)
            if not SYNTHESIS:
                b_is_mine &= m != lone
            tl.store(to, grad_of_b.to(to.dtype.element_ty), exists & b_is_mine)
            to = to_a + n_place * grad_a[2][0] + grad_a[2][1]
            a_is_mine = (n_place >= begin) & (n_place < length)
            tl.store(to, grad_of_a.to(to.dtype.element_ty), exists & a_is_mine)
    if NEEDS_FILTERS:
        program = tl.program_id(0).to(tl.int64) // tl.cdiv(C, BLOCK_C) * tl.num_programs(1) + tl.program_id(1)
        to = totals + program * (2 * NUMBERS) * C + c
        for t in tl.static_range(NUMBERS):
            tl.store(to + t * C, tl.sum(f_totals[t], 0)[None, :], c < C)
            tl.store(to + (NUMBERS + t) * C, tl.sum(g_totals[t], 0)[None, :], c < C)
