"""The backward kernel of the weighted family."""

import triton
import triton.language as tl

from poolcore.kernels.weighted_window import find_tile, is_inside, load_pixel, offset_of, sum_window, weigh

__all__ = ["weighted_backward_kernel"]


@triton.jit
def _open_row(
    grad, x, logit, n, c, at, size, outputs, exists, BACK: tl.constexpr,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, REACH: tl.constexpr, HAS_LOGIT: tl.constexpr,
    COMPUTE: tl.constexpr,
):  # fmt: skip
    """Return of the windows BACK rows before ``at`` that may read its cells: is it one, top, grad / total, mean / 2."""
    d, h, w = at
    origin = d * STRIDE[0] - PADDING[0], h * STRIDE[1] - PADDING[1], w * STRIDE[2] - PADDING[2]
    windows = ()
    for j in tl.static_range(REACH[0] * REACH[2]):
        back_d, back_w = j // REACH[2], j % REACH[2]
        first = origin[0] - back_d * STRIDE[0], origin[1] - BACK * STRIDE[1], origin[2] - back_w * STRIDE[2]
        top, total, weighted = sum_window(
            x, logit, n, c, first, size, exists, KERNEL, True, HAS_LOGIT, True, COMPUTE
        )  # fmt: skip
        output = d - back_d, h - BACK, w - back_w
        is_read = is_inside(output, outputs, exists)
        g = tl.load(grad[0] + offset_of(n, c, output, grad[1]), is_read, 0.0).to(COMPUTE)
        windows += ((is_read, top, g / total, weighted / total * 0.5),)
    return windows


@triton.jit
def _send_row(
    earlier, grad, x, logit, grad_x, grad_logit, n, c, at, size, outputs, exists,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, REACH: tl.constexpr, HAS_LOGIT: tl.constexpr,
    NEEDS_X: tl.constexpr, NEEDS_LOGIT: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """Write the gradients of a row of cells; return its windows and ``earlier`` ones, as many as the next row needs."""
    d, h, w = at
    origin = d * STRIDE[0] - PADDING[0], h * STRIDE[1] - PADDING[1], w * STRIDE[2] - PADDING[2]
    IN_ROW: tl.constexpr = REACH[0] * REACH[2]
    PIXELS: tl.constexpr = STRIDE[0] * STRIDE[1] * STRIDE[2]
    row = _open_row(
        grad, x, logit, n, c, at, size, outputs, exists, 0, KERNEL, STRIDE, PADDING, REACH, HAS_LOGIT, COMPUTE
    )  # fmt: skip
    windows = row + earlier
    gradients = ()
    for r in tl.static_range(PIXELS):
        step = r // (STRIDE[1] * STRIDE[2]), r // STRIDE[2] % STRIDE[1], r % STRIDE[2]
        place = origin[0] + step[0], origin[1] + step[1], origin[2] + step[2]
        value, level = load_pixel(x, logit, n, c, place, size, exists, True, HAS_LOGIT, COMPUTE)
        sent = tl.zeros(exists.shape, COMPUTE)
        sent_apart = tl.zeros(exists.shape, COMPUTE)
        for j in tl.static_range(IN_ROW * REACH[1]):
            cell_d = step[0] + j // REACH[2] % REACH[0] * STRIDE[0]
            cell_h = step[1] + j // IN_ROW * STRIDE[1]
            cell_w = step[2] + j % REACH[2] * STRIDE[2]
            if cell_d < KERNEL[0] and cell_h < KERNEL[1] and cell_w < KERNEL[2]:
                is_read, top, scale, half_mean = windows[j]
                # No product with a NaN that the window does not read; half the difference cannot overflow.
                flow = scale * weigh(level, top, KERNEL)
                sent += tl.where(is_read, flow, 0.0)
                sent_apart += tl.where(is_read, flow * (value * 0.5 - half_mean), 0.0)
        gradients += ((sent, sent_apart * 2.0),)
    for r in tl.static_range(PIXELS):
        step = r // (STRIDE[1] * STRIDE[2]), r // STRIDE[2] % STRIDE[1], r % STRIDE[2]
        place = origin[0] + step[0], origin[1] + step[1], origin[2] + step[2]
        sent, sent_apart = gradients[r]
        _store(grad_x, grad_logit, n, c, place, size, exists, sent, sent_apart, HAS_LOGIT, NEEDS_X, NEEDS_LOGIT)
    kept = ()
    for j in tl.static_range(IN_ROW * (REACH[1] - 1)):
        kept += (windows[j],)
    return kept


@triton.jit(do_not_specialize=["rows"])
def weighted_backward_kernel(
    grad, x, logit, grad_x, grad_logit, sums, rows, places, size, outputs,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, REACH: tl.constexpr, STEPS: tl.constexpr,
    HAS_LOGIT: tl.constexpr, NEEDS_X: tl.constexpr, NEEDS_LOGIT: tl.constexpr, UNROLLED: tl.constexpr,
    CHANNELS_INNER: tl.constexpr, COMPUTE: tl.constexpr, BLOCK_OUTER: tl.constexpr, BLOCK_INNER: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of a tile of cells; a cell is the pixels from where a window begins to where the next does.

    The windows that read cell b are b, b - 1 ... b - REACH + 1 on each axis. With w the weight of a pixel x in a window
    of mean y that got the gradient g, the pixel's gradient is the sum of g w, the logit's of g w (x - y).

    Per pixel it reads the pixel (its logit) and the gradient of stride^-rank outputs, and writes one gradient (two).
    With UNROLLED the windows' sums are computed here, for STEPS rows of cells one after the other, so that a row of
    windows is summed once and not by each row that it reads; else they are read from ``sums``.

    Tensors come as (pointer, strides), ``sums`` as (pointers, strides); ``places`` is (C, D, H, W) of the cells, H
    divided by STEPS.
    """
    n, c, at, exists = find_tile(rows, places, CHANNELS_INNER, BLOCK_OUTER, BLOCK_INNER)
    d, h, w = at
    if UNROLLED:
        ROWS: tl.constexpr = REACH[1]
        earlier = ()
        for back in tl.static_range(1, ROWS):
            earlier += _open_row(
                grad, x, logit, n, c, (d, h * STEPS, w), size, outputs, exists, back,
                KERNEL, STRIDE, PADDING, REACH, HAS_LOGIT, COMPUTE,
            )  # fmt: skip
        if STEPS == 1:
            _send_row(
                earlier, grad, x, logit, grad_x, grad_logit, n, c, at, size, outputs, exists,
                KERNEL, STRIDE, PADDING, REACH, HAS_LOGIT, NEEDS_X, NEEDS_LOGIT, COMPUTE,
            )  # fmt: skip
        else:
            for step in range(STEPS):
                earlier = _send_row(
                    earlier, grad, x, logit, grad_x, grad_logit, n, c, (d, h * STEPS + step, w), size, outputs, exists,
                    KERNEL, STRIDE, PADDING, REACH, HAS_LOGIT, NEEDS_X, NEEDS_LOGIT, COMPUTE,
                )  # fmt: skip
    else:
        origin = d * STRIDE[0] - PADDING[0], h * STRIDE[1] - PADDING[1], w * STRIDE[2] - PADDING[2]
        WINDOWS: tl.constexpr = REACH[0] * REACH[1] * REACH[2]
        PIXELS: tl.constexpr = STRIDE[0] * STRIDE[1] * STRIDE[2]
        for r in range(PIXELS):
            step_d, step_h, step_w = r // (STRIDE[1] * STRIDE[2]), r // STRIDE[2] % STRIDE[1], r % STRIDE[2]
            at = origin[0] + step_d, origin[1] + step_h, origin[2] + step_w
            value, level = load_pixel(x, logit, n, c, at, size, exists, True, HAS_LOGIT, COMPUTE)
            sent = tl.zeros(exists.shape, COMPUTE)
            sent_apart = tl.zeros(exists.shape, COMPUTE)
            for j in range(WINDOWS):
                back_d, back_h, back_w = j // (REACH[1] * REACH[2]), j // REACH[2] % REACH[1], j % REACH[2]
                output = d - back_d, h - back_h, w - back_w
                is_read = is_inside(output, outputs, exists)
                is_read &= step_d + back_d * STRIDE[0] < KERNEL[0]
                is_read &= step_h + back_h * STRIDE[1] < KERNEL[1]
                is_read &= step_w + back_w * STRIDE[2] < KERNEL[2]
                g = tl.load(grad[0] + offset_of(n, c, output, grad[1]), is_read, 0.0).to(COMPUTE)
                summed = offset_of(n, c, output, sums[1])
                top = tl.load(sums[0][0] + summed, is_read, 0.0)
                total = tl.load(sums[0][1] + summed, is_read, 1.0)
                mean = tl.load(sums[0][2] + summed, is_read, 0.0)
                flow = g / total * weigh(level, top, KERNEL)
                sent += tl.where(is_read, flow, 0.0)
                sent_apart += tl.where(is_read, flow * (value * 0.5 - mean * 0.5), 0.0)
            _store(grad_x, grad_logit, n, c, at, size, exists, sent, sent_apart * 2.0, HAS_LOGIT, NEEDS_X, NEEDS_LOGIT)


@triton.jit
def _store(
    grad_x, grad_logit, n, c, at, size, exists, sent, sent_apart,
    HAS_LOGIT: tl.constexpr, NEEDS_X: tl.constexpr, NEEDS_LOGIT: tl.constexpr,
):  # fmt: skip
    """Write a pixel's gradient; the logit's apart from it, or with it where the pixel is its own logit."""
    inside = is_inside(at, size, exists)
    if HAS_LOGIT:
        if NEEDS_X:
            tl.store(grad_x[0] + offset_of(n, c, at, grad_x[1]), sent.to(grad_x[0].dtype.element_ty), inside)
        if NEEDS_LOGIT:
            to = offset_of(n, c, at, grad_logit[1])
            tl.store(grad_logit[0] + to, sent_apart.to(grad_logit[0].dtype.element_ty), inside)
    else:
        both = sent + sent_apart
        tl.store(grad_x[0] + offset_of(n, c, at, grad_x[1]), both.to(grad_x[0].dtype.element_ty), inside)
