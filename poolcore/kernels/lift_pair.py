"""What LiftPool's kernels are made of: filters, windows that move along an axis, and one lifting pair.

A lifting pair is b' = b - F(a), a' = a + G(b'), with F and G filters of K taps (`poolcore.lift_filters`). It serves
both ways: with (a, b) = (even, odd), F = P and G = U it is the analysis, a' = s and b' = d; with (a, b) = (d, s), F = U
and G = P the synthesis, b' = even and a' = odd (Zhao & Snoek 2021, arXiv 2104.00996).

Kernels compute it in two ways. `lift_places` takes any places at once and computes b' again for each tap of G: every
lane reads neighbouring memory whatever the axis, and what is read again lies in cache. `advance` goes along an axis
step by step with the last few a and b' in registers (a window), so that each stencil is computed once; it is for what
would need many times K stencils otherwise: two axes at once, and gradients.

A tile is (BLOCK_L, BLOCK_C), lines by channels; a filter's numbers are (1, BLOCK_C).
"""

import triton
import triton.language as tl


@triton.jit
def tile(C, lines, BLOCK_C: tl.constexpr, BLOCK_L: tl.constexpr):
    """Return this program's channels (1, BLOCK_C) and lines (BLOCK_L, 1), and which of them exist."""
    c_blocks = tl.cdiv(C, BLOCK_C)
    program = tl.program_id(0)
    c = (program % c_blocks) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    # Lines are counted in int64 where their number asks for it.
    line = (program // c_blocks).to(lines.dtype) * BLOCK_L + tl.arange(0, BLOCK_L)[:, None]
    return c.to(tl.int64), line, (c < C) & (line < lines)


@triton.jit
def pointers(line_tensor, n, c, other):
    """Return where lines begin; a line tensor is (pointer, strides along n, c and the other axis, (stride, first))."""
    pointer, strides, _ = line_tensor
    return pointer + n * strides[0] + c * strides[1] + other * strides[2]


@triton.jit
def load_filter(parts, c, C, LEARNED: tl.constexpr, K: tl.constexpr, COMPUTE: tl.constexpr):
    """Return the numbers of a filter, its K taps, then bias, scale and shift if it has them."""
    weight, stride_c, stride_k = parts[0]
    numbers = ()
    for t in tl.static_range(K):
        numbers += (tl.load(weight + c * stride_c + t * stride_k, c < C, 0.0).to(COMPUTE),)
    if LEARNED:
        for part in tl.static_range(1, 4):
            numbers += (tl.load(parts[part][0] + c * parts[part][1], c < C, 0.0).to(COMPUTE),)
    return numbers


@triton.jit
def _tanh(z):
    # No cancellation but that of the result itself, no overflow, and NaN stays.
    return 1 - 2 / (1 + tl.exp(2 * z))


@triton.jit
def _convolved(window, FIRST: tl.constexpr, numbers, LEARNED: tl.constexpr, K: tl.constexpr):
    total = numbers[0] * window[FIRST]
    for t in tl.static_range(1, K):
        total += numbers[t] * window[FIRST + t]
    if LEARNED:
        total += numbers[K]
    return total


@triton.jit
def guess(window, FIRST: tl.constexpr, numbers, LEARNED: tl.constexpr, K: tl.constexpr):
    """Return what a filter makes of the K values of ``window`` from FIRST on."""
    z = _convolved(window, FIRST, numbers, LEARNED, K)
    if LEARNED:
        # Not maximum(), which swallows NaN.
        z = _tanh(numbers[K + 1] * tl.where(z <= 0, 0.0, z) + numbers[K + 2])
    return z


@triton.jit
def guess_backward(window, FIRST: tl.constexpr, numbers, grad, LEARNED: tl.constexpr, K: tl.constexpr):
    """Return the gradients of a filter's convolution, of its scale and of its shift, at one place."""
    grads = (grad, grad, grad)
    if LEARNED:
        z = _convolved(window, FIRST, numbers, LEARNED, K)
        rectified = tl.where(z <= 0, 0.0, z)
        y = _tanh(numbers[K + 1] * rectified + numbers[K + 2])
        at_shift = grad * (1 - y * y)
        grads = (tl.where(z <= 0, 0.0, at_shift * numbers[K + 1]), at_shift * rectified, at_shift)
    return grads


@triton.jit
def window_of(value, SIZE: tl.constexpr):
    """Return a window of SIZE equal values."""
    window = ()
    for _ in tl.static_range(SIZE):
        window += (value,)
    return window


@triton.jit
def push(window, value, place, length, SIZE: tl.constexpr, REPLICATE: tl.constexpr):
    """Return the window one place further, ``value`` its newest; beyond an axis's ends the end's value, or zero."""
    moved = ()
    if REPLICATE:
        value = tl.where(place < length, value, window[SIZE - 1])
        for t in tl.static_range(1, SIZE):
            moved += (tl.where(place <= 0, value, window[t]),)
    else:
        value = tl.where((place >= 0) & (place < length), value, 0.0)
        for t in tl.static_range(1, SIZE):
            moved += (window[t],)
    return moved + (value,)  # noqa: RUF005  # Triton knows no unpacking


@triton.jit
def advance(
    a_window, b_window, a, b, place, length, f, g,
    K: tl.constexpr, A_SIZE: tl.constexpr, LEARNED: tl.constexpr, REPLICATE: tl.constexpr,
):  # fmt: skip
    """Return the windows of a, to ``place``, and of b', to K // 2 places before, one step further.

    ``a`` is of ``place``, ``b`` of K // 2 places before.
    """
    a_window = push(a_window, a, place, length, A_SIZE, REPLICATE)
    b_new = b - guess(a_window, A_SIZE - K, f, LEARNED, K)
    return a_window, push(b_window, b_new, place - K // 2, length, K, REPLICATE)


@triton.jit
def load_place(start, along, place, lone, exists, COMPUTE: tl.constexpr):
    """Return the values at a place of lines that begin at ``start``.

    ``along`` is (stride, first): how far places lie apart, and the first from the start; at ``lone`` it is not added.
    """
    stride, first = along
    return tl.load(start + place * stride + tl.where(place == lone, 0, first), exists, 0.0).to(COMPUTE)


@triton.jit
def lift_places(
    a, a_along, b, b_along, place, length, lone, exists, f, g,
    K: tl.constexpr, LEARNED: tl.constexpr, REPLICATE: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """Return (a', b') at places of lines that begin at ``a`` and ``b``.

    It reads 2 K - 1 values of a and K of b, all but one of each shared with the places beside.

    Args:
        lone: the place whose odd pixel does not exist and is taken to be its even one, or -1.
    """
    REACH: tl.constexpr = K // 2
    near = ()
    for t in tl.static_range(4 * REACH + 1):
        at = place + (t - 2 * REACH)
        within = tl.minimum(tl.maximum(at, 0), length - 1)
        # What replaces nothing is not read.
        is_read = exists if REPLICATE else exists & (at == within)
        near += (load_place(a, a_along, within, -1, is_read, COMPUTE),)
    middle = load_place(b, b_along, place, lone, exists, COMPUTE) - guess(near, REACH, f, LEARNED, K)
    window = (middle,)
    # Outwards, so that beyond an end the end's own value is there to be repeated.
    for t in tl.static_range(1, REACH + 1):
        before, after = place - t, place + t
        is_before, is_after = before >= 0, after < length
        low = load_place(b, b_along, before, lone, exists & is_before, COMPUTE)
        high = load_place(b, b_along, after, lone, exists & is_after, COMPUTE)
        low -= guess(near, REACH - t, f, LEARNED, K)
        high -= guess(near, REACH + t, f, LEARNED, K)
        if REPLICATE:
            low, high = tl.where(is_before, low, window[0]), tl.where(is_after, high, window[2 * t - 2])
        else:
            low, high = tl.where(is_before, low, 0.0), tl.where(is_after, high, 0.0)
        window = (low,) + window + (high,)  # noqa: RUF005  # Triton knows no unpacking
    return near[2 * REACH] + guess(window, 0, g, LEARNED, K), middle
