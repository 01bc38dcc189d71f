"""Kernels of the weighted family: means of windows weighted by the softmax of a logit, and their gradients.

One pair of kernels serves SoftPool (the logit is the input itself) and LIP (a second tensor) in one, two and three
dimensions: tensors of fewer dimensions get axes of one pixel. Any strides are read and written as they are. A
program's tile lies along the axis that is densest in memory: columns, or channels in channels_last.

Backward gathers: a program owns pixels and adds up what the windows that read them send back, so that nothing is added
atomically and every run gives the same bits. It needs the inputs alone; the windows' sums are computed again.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from poolcore.kernels.blocks import Row, channels_are_inner, choose_block
from poolcore.kernels.weighted_backward import weighted_backward_kernel
from poolcore.kernels.weighted_forward import weighted_forward_kernel
from poolcore.layout import new_empty
from poolcore.precision import compute_dtype
from poolcore.window import Window

__all__ = ["weighted_pool", "weighted_pool_backward"]

# A window of so many pixels is written out pixel by pixel, and so is a backward pass in which so many pairs of a pixel
# and a window meet; the compiler then reads each pixel once. Beyond, loops keep programs and compile times small.
MOST_UNROLLED = 36

# Where windows share rows, a program of the backward pass goes through so many rows of cells, which spares it most of
# the windows' sums; but only from so many cells on, for it leaves fewer programs to fill a GPU with.
MARCH, MARCHED_FROM = 8, 2**21


class Block(NamedTuple):
    """A program's tile: elements across rows, elements along the densest axis, and how many warps share them."""

    outer: int
    inner: int
    warps: int


class _Geometry(NamedTuple):
    """A pooling brought to three dimensions."""

    size: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    is_whole: bool  # no window reaches beyond the input
    reach: tuple[int, ...]  # windows that read one pixel, on each axis
    cells: tuple[int, ...]  # cells of ``stride`` pixels, the first of which begins where the first window does


def _three(values: Sequence[int], fill: int) -> tuple[int, ...]:
    return (fill,) * (3 - len(values)) + tuple(values)


@lru_cache(4096)
def _geometry(size: tuple[int, ...], window: Window) -> _Geometry:
    values = size, window.output_size(size), window.kernel_size, window.stride, window.padding
    size, outputs, kernel, stride, padding = map(_three, values, (1, 1, 1, 1, 0))
    axes = list(zip(size, outputs, kernel, stride, padding, strict=True))
    return _Geometry(
        *(size, outputs, kernel, stride, padding),
        is_whole=all(p == 0 and (o - 1) * s + k <= n for n, o, k, s, p in axes),
        reach=tuple(-(-k // s) for _, _, k, s, _ in axes),
        cells=tuple((n - 1 + p) // s + 1 for n, _, _, s, p in axes),
    )


def _strided(x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Return a tensor as kernels take it: with its strides along n, c, d, h, w."""
    return x, (*x.stride()[:2], *_three(x.stride()[2:], 0))


def _fit(row: Row, inner_size: int) -> Block:
    """Return a row's tile, as long as the densest axis has use for."""
    elements, longest, warps = row
    inner = min(triton.next_power_of_2(inner_size), longest, elements)
    return Block(elements // inner, inner, warps)


class _Tiling(NamedTuple):
    """How programs share the places (N, C, D, H, W) that a kernel counts."""

    grid: tuple[int]
    rows: int
    flags: dict[str, object]


def _tiling(kernel: str, x: Tensor, places: Sequence[int], elements: int) -> _Tiling:
    """Tile ``places`` along the densest axis of ``x``, ``elements`` of them a program unless a table says otherwise."""
    channels_inner = channels_are_inner(x)
    inner_size = places[0] if channels_inner else places[-1]
    rows = x.shape[0] * math.prod(places) // inner_size
    plain = elements, 128, max(1, min(4, elements // 64))
    block = choose_block(kernel, x, plain, lambda row: _fit(row, inner_size))
    programs = -(-rows // block.outer) * -(-inner_size // block.inner)
    flags = {
        "CHANNELS_INNER": channels_inner,
        "COMPUTE": _COMPUTE[compute_dtype(x.dtype)],
        "BLOCK_OUTER": block.outer,
        "BLOCK_INNER": block.inner,
        "num_warps": block.warps,
    }
    return _Tiling((programs,), rows, flags)


_COMPUTE = {torch.float32: tl.float32, torch.float64: tl.float64}


def _forward(x: Tensor, logit: Tensor | None, into: tuple[Tensor, ...], geometry: _Geometry) -> None:
    n_cells = math.prod(geometry.kernel)
    places = (x.shape[1], *geometry.outputs)
    tiling = _tiling(f"forward{n_cells}", x, places, _elements(n_cells))
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]  # torch leaves it untyped
        weighted_forward_kernel[tiling.grid](
            _strided(x),
            _strided(x if logit is None else logit),
            (into, _strided(into[0])[1]),
            tiling.rows,
            places,
            geometry.size,
            KERNEL=geometry.kernel,
            STRIDE=geometry.stride,
            PADDING=geometry.padding,
            CHECKED=not geometry.is_whole,
            HAS_LOGIT=logit is not None,
            SUMS_ONLY=len(into) > 1,
            UNROLLED=n_cells <= MOST_UNROLLED,
            **tiling.flags,
        )


def weighted_pool(x: Tensor, logit: Tensor | None, window: Window) -> Tensor:
    """Return the mean of each window of ``x``, weighted by the softmax of ``logit``; of ``x`` itself for None.

    Shape:
        x, logit: (N, C, *spatial) of any strides. Output: (N, C, *outputs) in the memory format of ``x``.
    """
    y = new_empty(x, (*x.shape[:2], *window.output_size(x.shape[2:])))
    if y.numel():
        _forward(x, logit, (y,), _geometry(x.shape[2:], window))
    return y


def weighted_pool_backward(
    grad: Tensor, x: Tensor, logit: Tensor | None, window: Window, needs: tuple[bool, bool] = (True, True)
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of ``x`` and of ``logit``, each if it is needed; without a logit all goes to ``x``.

    Shape:
        grad: (N, C, *outputs) of any strides. Gradients: (N, C, *spatial) in the memory format of ``x``.
    """
    needs_x, needs_logit = (True, False) if logit is None else needs
    grad_x = new_empty(x, x.shape) if needs_x else None
    grad_logit = new_empty(x, x.shape) if needs_logit else None
    some = grad_x if grad_x is not None else grad_logit
    if some is None or not some.numel():
        return grad_x, grad_logit
    geometry = _geometry(x.shape[2:], window)
    is_unrolled = math.prod(geometry.kernel) * math.prod(geometry.reach) <= MOST_UNROLLED
    sums: tuple[Tensor, ...] = (grad,) * 3
    if not is_unrolled:
        sums = tuple(new_empty(x, grad.shape, compute_dtype(x.dtype)) for _ in range(3))
        _forward(x, logit, sums, geometry)
    d, h, w = geometry.cells
    shares_rows = is_unrolled and geometry.reach[1] > 1 and x.shape[0] * x.shape[1] * d * h * w >= MARCHED_FROM
    steps = MARCH if shares_rows else 1
    places = (x.shape[1], d, -(-h // steps), w)
    n_visits = math.prod(geometry.kernel) * math.prod(geometry.reach)
    tiling = _tiling(f"backward{n_visits}", x, places, _elements(n_visits if is_unrolled else 1))
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]  # torch leaves it untyped
        weighted_backward_kernel[tiling.grid](
            _strided(grad),
            _strided(x),
            _strided(x if logit is None else logit),
            _strided(some if grad_x is None else grad_x),
            _strided(some if grad_logit is None else grad_logit),
            (sums, _strided(sums[0])[1]),
            tiling.rows,
            places,
            geometry.size,
            geometry.outputs,
            KERNEL=geometry.kernel,
            STRIDE=geometry.stride,
            PADDING=geometry.padding,
            REACH=geometry.reach,
            STEPS=steps,
            HAS_LOGIT=logit is not None,
            NEEDS_X=needs_x,
            NEEDS_LOGIT=needs_logit,
            UNROLLED=is_unrolled,
            **tiling.flags,
        )
    return grad_x, grad_logit


def _elements(visits: int) -> int:
    """Return how many places a program takes: fewer where each holds many pixels in registers."""
    return 1024 if visits <= 4 else 512 if visits <= 9 else 128
