"""LiftPool by Triton kernels: analysis, synthesis and their gradients (Zhao & Snoek 2021, arXiv 2104.00996).

The arithmetic is that of `poolcore.lifting`, in fp32 (fp64 for fp64) with one rounding at the end; what lies between
two kernels is kept in that precision. Any strides are read as they are. Everything is gathered in a fixed order: every
run gives the same bits. An image's analysis is one pass over memory, its synthesis two along the height and one along
the width, and gradients follow the same steps backwards after computing again what they need from the inputs.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from poolcore.kernels.blocks import Row, channels_are_inner, choose_block
from poolcore.kernels.lift_backward import lift_backward_kernel
from poolcore.kernels.lift_forward import lift_image_kernel, lift_kernel
from poolcore.layout import new_empty
from poolcore.lift_filters import FilterParts, PaddingMode
from poolcore.lifting import Combine
from poolcore.precision import compute_dtype

__all__ = ["lift_down", "lift_down_backward", "lift_up", "lift_up_backward"]

_COMPUTE = {torch.float32: tl.float32, torch.float64: tl.float64}
_COMBINED = {None: "all", "sum": "sum", "mean": "mean", "ll": "low", "low": "low"}


class Block(NamedTuple):
    """A program's tile, channels by lines, the most places that it goes along an axis (else 1), and its warps."""

    channels: int
    lines: int
    segment: int
    warps: int


_Kernel = Literal["image", "pair_w", "pair_h", "backward_w", "backward_h"]


def pick_block(kernel: _Kernel, x: Tensor, length: int, taps: int) -> Block:
    """Return the tile of a kernel: by itself two elements a lane, or one where windows fill the registers.

    With the channels densest in memory the lanes lie along them, else along the lines of one channel. A segment holds
    ``length`` places, by itself up to 64: what is read twice at its ends then counts little, and few kernels are
    compiled.

    Args:
        kernel: its name, and the axis that it lifts along if that is one alone.
    """
    is_pair = kernel.startswith("pair")
    elements = 256 if is_pair and x.dtype != torch.float64 and taps < 7 else 128
    plain = (elements, 64, 4) if is_pair else (elements, 64, 4, 64)
    return choose_block(f"lift_{kernel}{taps}", x, plain, lambda row: _fit(row, x, length))


def _fit(row: Row, x: Tensor, length: int) -> Block:
    """Return a row's tile, in the largest of three numbers of channels that leaves the fewest lanes idle."""
    elements, most, warps, *segment = row
    C, channels, places = x.shape[1], 1, triton.next_power_of_2(length)
    if channels_are_inner(x):
        sizes = (64, 32, 16) if C > 16 else (triton.next_power_of_2(C),)
        channels = min((min(size, most, elements) for size in sizes), key=lambda size: -(-C // size) * size)
    # A grid has room for fewer than 2^16 segments.
    along = max(min(segment[0], max(8, places)), places >> 15) if segment else 1
    return Block(channels, elements // channels, along, warps)


_Line = tuple[Tensor, tuple[int, int, int], tuple[int, int]]


class _Pair(NamedTuple):
    """Two line tensors (`lift_pair.pointers`): a and b, or their gradients, of all lines along an axis."""

    a: _Line
    b: _Line

    @property
    def swapped(self) -> "_Pair":
        return _Pair(self.b, self.a)


def _line(x: Tensor, axis: int, first: int, step: int) -> _Line:
    other = 0 if x.dim() == 3 else x.stride(-3 - axis)
    return x, (x.stride(0), x.stride(1), other), (x.stride(axis) * step, x.stride(axis) * first)


def _pixels(x: Tensor, axis: int) -> _Pair:
    """The even and the odd pixels of an axis."""
    return _Pair(_line(x, axis, 0, 2), _line(x, axis, 1, 2))


def _bands(a: Tensor, b: Tensor, axis: int) -> _Pair:
    return _Pair(_line(a, axis, 0, 1), _line(b, axis, 0, 1))


class _Lifting(NamedTuple):
    """Everything that the lifting pairs of one call have in common."""

    predict: FilterParts
    update: FilterParts
    padding_mode: PaddingMode
    dtype: torch.dtype

    @property
    def taps(self) -> int:
        return self.predict.weight.shape[-1]

    @property
    def flags(self) -> dict[str, object]:
        return {
            "K": self.taps,
            "LEARNED": self.predict.bias is not None,
            "REPLICATE": self.padding_mode == "replicate",
            "COMPUTE": _COMPUTE[self.dtype],
        }

    def filters(self, synthesis: bool) -> tuple[tuple[tuple[object, ...], ...], ...]:
        """F and G, as kernels take them."""
        f, g = _filter(self.predict), _filter(self.update)
        return (g, f) if synthesis else (f, g)

    def run(
        self, sources: _Pair, results: _Pair, size: int, axis: int, synthesis: bool, combine: str = "all"
    ) -> None:
        """Lift all lines along an axis of ``size`` pixels."""
        shape, length = sources.a[0].shape, (size + 1) // 2
        others = 1 if len(shape) == 3 else shape[-3 - axis]
        block = pick_block("pair_w" if axis == -1 else "pair_h", sources.a[0], length, self.taps)
        lines = shape[0] * others * length
        with torch.cuda.device_of(sources.a[0]):  # type: ignore[no-untyped-call]  # torch leaves it untyped
            lift_kernel[(_programs(lines, shape[1], block),)](
                *sources,
                *results,
                *self.filters(synthesis),
                lines,
                shape[1],
                others,
                length,
                length - 1 if size % 2 else -1,
                SYNTHESIS=synthesis,
                COMBINE=combine,
                AXIS_INNER=axis == -1,
                BLOCK_C=block.channels,
                BLOCK_L=block.lines,
                num_warps=block.warps,
                **self.flags,
            )

    def run_backward(
        self, sources: _Pair, grads: _Pair, results: _Pair | None, size: int, axis: int, synthesis: bool,
        gain: float, needs_filters: bool,
    ) -> Tensor | None:  # fmt: skip
        """Write the gradients of a pair's sources, if results are given, and return those of P and U, if needed.

        They come as (numbers of P and U, C): of each the taps, then bias, scale and shift.
        """
        shape, length = sources.a[0].shape, (size + 1) // 2
        others = 1 if len(shape) == 3 else shape[-3 - axis]
        block = pick_block("backward_w" if axis == -1 else "backward_h", sources.a[0], length, self.taps)
        lines, segments = shape[0] * others, -(-length // block.segment)
        numbers = 2 * sum(1 if part.dim() == 1 else part.shape[-1] for part in self.predict if part is not None)
        programs = _programs(lines, 1, block) * segments
        totals = torch.empty(
            (programs if needs_filters else 0, numbers, shape[1]), dtype=self.dtype, device=sources.a[0].device
        )
        with torch.cuda.device_of(sources.a[0]):  # type: ignore[no-untyped-call]  # torch leaves it untyped
            lift_backward_kernel[(_programs(lines, shape[1], block), segments)](
                *sources,
                *grads,
                *(results or sources),
                totals,
                *self.filters(synthesis),
                lines,
                shape[1],
                others,
                length,
                length - 1 if size % 2 else -1,
                gain,
                SYNTHESIS=synthesis,
                NEEDS_X=results is not None,
                NEEDS_FILTERS=needs_filters,
                BLOCK_C=block.channels,
                BLOCK_L=block.lines,
                SEGMENT=block.segment,
                num_warps=block.warps,
                **self.flags,
            )
        if not needs_filters:
            return None
        total = totals.sum(0)
        return total.roll(numbers // 2, 0) if synthesis else total


def _programs(lines: int, channels: int, block: Block) -> int:
    return -(-lines // block.lines) * -(-channels // block.channels)


def _filter(parts: FilterParts) -> tuple[tuple[object, ...], ...]:
    weight = parts.weight
    others = ((part, part.stride(0)) for part in parts[1:] if part is not None)
    return ((weight, weight.stride(0) if weight.shape[0] > 1 else 0, weight.stride(1)), *others)


def _lifting(x: Tensor, predict: FilterParts, update: FilterParts, padding_mode: PaddingMode) -> _Lifting:
    return _Lifting(predict, update, padding_mode, compute_dtype(x.dtype))


def lift_down(
    x: Tensor, predict: FilterParts, update: FilterParts, padding_mode: PaddingMode, combine: Combine | None
) -> Tensor:
    """Return the bands of ``x``, or what they combine to.

    Args:
        x: (N, C, L) or (N, C, H, W), of any strides.
        predict, update: P and U, learned or fixed both.
        padding_mode: of both.
        combine: None for all bands in one tensor; "sum", "mean", or "ll" and "low" for the first band alone.

    Shape:
        (2, N, C, ceil(L / 2)) in the order low, high; (4, N, C, ceil(H / 2), ceil(W / 2)) in the order LL, LH, HL, HH;
        combined without the first axis. In the dtype and memory format of ``x``, each band.
    """
    N, C, *size = x.shape
    lifting, bands = _lifting(x, predict, update, padding_mode), 2 ** len(size) if combine is None else 1
    halves = [(n + 1) // 2 for n in size]
    y = new_empty(x, (bands * N, C, *halves)).view(bands, N, C, *halves)
    if y.numel() and len(size) == 1:
        lifting.run(_pixels(x, -1), _bands(y[0], y[-1], -1), size[0], -1, False, _COMBINED[combine])
    elif y.numel():
        block = pick_block("image", x, y.shape[-2], lifting.taps)
        lines = N * y.shape[-1]
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]  # torch leaves it untyped
            lift_image_kernel[(_programs(lines, C, block), -(-y.shape[-2] // block.segment))](
                (x, x.stride()),
                (y, y.stride()),
                *lifting.filters(synthesis=False),
                lines,
                C,
                *size,
                COMBINE=_COMBINED[combine],
                BLOCK_C=block.channels,
                BLOCK_L=block.lines,
                SEGMENT=block.segment,
                num_warps=block.warps,
                **lifting.flags,
            )
    return y if combine is None else y[0]


def lift_down_backward(
    grad: Tensor,
    x: Tensor,
    predict: FilterParts,
    update: FilterParts,
    padding_mode: PaddingMode,
    combine: Combine | None,
    need_x: bool,
    need_filters: bool,
) -> tuple[Tensor | None, list[Tensor] | None]:
    """Return the gradients of ``x``, in its memory format, and of P's tensors, then U's, each if needed.

    Args:
        grad: of `lift_down`'s result, of any strides; the other arguments are those of `lift_down`.
    """
    lifting, size = _lifting(x, predict, update, padding_mode), x.shape[2:]
    grad_x = new_empty(x, x.shape) if need_x else None
    if not x.numel() or not (need_x or need_filters):
        return grad_x, _split(None, lifting) if need_filters else None
    nothing = grad.new_zeros(()).expand(grad.shape)
    count = 2 ** len(size)
    grads = list(grad) if combine is None else [grad, *[nothing if combine in ("ll", "low") else grad] * (count - 1)]
    gain = 1 / count if combine == "mean" else 1.0
    totals = []
    if len(size) == 2:
        s, d, grad_s, grad_d = (new_empty(x, (*x.shape[:3], (size[1] + 1) // 2), lifting.dtype) for _ in range(4))
        lifting.run(_pixels(x, -1), _bands(s, d, -1), size[1], -1, False)
        for half, grad_half, ends in ((s, grad_s, grads[:2]), (d, grad_d, grads[2:])):
            results = _pixels(grad_half, -2)
            totals.append(
                lifting.run_backward(
                    _pixels(half, -2), _bands(ends[0], ends[1], -2), results, size[0], -2, False, gain, need_filters
                )
            )
        grads, gain = [grad_s, grad_d], 1.0
    results_x = None if grad_x is None else _pixels(grad_x, -1)
    totals.append(
        lifting.run_backward(
            _pixels(x, -1), _bands(grads[0], grads[1], -1), results_x, size[-1], -1, False, gain, need_filters
        )
    )
    return grad_x, _split(totals, lifting) if need_filters else None


def lift_up(
    bands: Sequence[Tensor],
    size: Sequence[int],
    predict: FilterParts,
    update: FilterParts,
    padding_mode: PaddingMode,
) -> Tensor:
    """Return what `lift_down` made these bands of.

    Args:
        bands: low, high of a sequence, or LL, LH, HL, HH of an image; each of any strides.
        size: (L,) or (H, W) of the result.

    Shape:
        (N, C, L) or (N, C, H, W), in the dtype and memory format of the first band.
    """
    first = bands[0]
    lifting = _lifting(first, predict, update, padding_mode)
    x = new_empty(first, (*first.shape[:2], *size))
    if x.numel():
        low, high = _halves(bands, size, lifting)
        lifting.run(_bands(high, low, -1), _pixels(x, -1).swapped, size[-1], -1, True)
    return x


def lift_up_backward(
    grad: Tensor,
    bands: Sequence[Tensor],
    size: Sequence[int],
    predict: FilterParts,
    update: FilterParts,
    padding_mode: PaddingMode,
    need_bands: bool,
    need_filters: bool,
) -> tuple[list[Tensor] | None, list[Tensor] | None]:
    """Return the gradients of the bands, in the memory format of the first, and of P's tensors, then U's, if needed.

    Args:
        grad: of `lift_up`'s result, of any strides; the other arguments are those of `lift_up`.
    """
    first = bands[0]
    lifting = _lifting(first, predict, update, padding_mode)
    grads = [new_empty(first, first.shape) for _ in bands] if need_bands else None
    if not first.numel() or not (need_bands or need_filters):
        return grads, _split(None, lifting) if need_filters else None
    low, high = _halves(bands, size, lifting)
    last = list(grads) if grads else None
    if len(bands) == 4:
        last = [new_empty(first, low.shape, lifting.dtype) for _ in range(2)]
    to = None if last is None else _bands(last[1], last[0], -1)
    width = _bands(high, low, -1), _pixels(grad, -1).swapped, to
    totals = [lifting.run_backward(*width, size[-1], -1, True, 1.0, need_filters)]
    if len(bands) == 4 and last is not None:
        for half, grad_half in enumerate(last):
            coarse, detail = bands[2 * half : 2 * half + 2]
            to = None if grads is None else _bands(grads[2 * half + 1], grads[2 * half], -2)
            height = _bands(detail, coarse, -2), _pixels(grad_half, -2).swapped, to
            totals.append(lifting.run_backward(*height, size[0], -2, True, 1.0, need_filters))
    return grads, _split(totals, lifting) if need_filters else None


def _halves(bands: Sequence[Tensor], size: Sequence[int], lifting: _Lifting) -> tuple[Tensor, Tensor]:
    """Return the two halves of the width: the bands themselves, or an image's after its height is put together."""
    if len(bands) == 2:
        return bands[0], bands[1]
    first = bands[0]
    shape = (*first.shape[:2], size[0], first.shape[-1])
    low, high = (new_empty(first, shape, lifting.dtype) for _ in range(2))
    for half, coarse, detail in ((low, bands[0], bands[1]), (high, bands[2], bands[3])):
        lifting.run(_bands(detail, coarse, -2), _pixels(half, -2).swapped, size[0], -2, True)
    return low, high


def _split(totals: Sequence[Tensor | None] | None, lifting: _Lifting) -> list[Tensor]:
    """Return the gradients of P's tensors and U's from the sums over all pairs; zeros where there were no pixels."""
    parts = [part for part in (*lifting.predict, *lifting.update) if part is not None]
    if totals is None:
        return [torch.zeros_like(part) for part in parts]
    total = sum(one for one in totals if one is not None)
    assert isinstance(total, Tensor)
    grads, at = [], 0
    for part in parts:
        count = part.shape[-1] if part.dim() == 2 else 1
        rows = total[at : at + count].t() if part.dim() == 2 else total[at]
        grads.append((rows.sum(0, keepdim=True) if part.shape[0] == 1 else rows).to(part.dtype).contiguous())
        at += count
    return grads
