"""How much each pixel moves LiftPool's outputs: the layer's Jacobian, exact and in banded form.

A channel of an image's LiftPool is two lifting steps, each of which reads a few neighbours along one axis, so its
Jacobian is a product of two bands; of a sequence's it is one of them. Per step along an axis, output n depends on the
even pixels ``n - 2r ... n + 2r`` and the odd pixels ``n - r ... n + r`` (r = K // 2): these are its slots.
With S and D for the width step's s and d, and A_s and A_d for the height step's combined output,

    J(m, n; row, column) = A_s[m, n, row] S[row, n, column] + A_d[m, n, row] D[row, n, column].

Slots that mean one pixel (beyond the ends, where the last pixel is replicated) are summed with their signs.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from poolcore.lift import LiftDownPool
from poolcore.lift_filters import FixedFilter, LiftFilter, PaddingMode
from poolcore.precision import autocast_off

__all__ = ["lift_share"]

# Elements of the Jacobian that are worked on at a time: 4 MiB in fp32, so that they stay in the processor's cache.
_BLOCK_ELEMENTS = 2**20


class _Stencil(NamedTuple):
    """P or U of P planes, ``f(taps * x)``: f is the identity where ``parts`` is None, else a learned filter's."""

    taps: Tensor  # (P, K)
    parts: tuple[Tensor, Tensor, Tensor] | None  # bias, scale, shift, each (P, 1, 1)
    padding_mode: PaddingMode

    def rows(self, rows: slice) -> "_Stencil":
        parts = self.parts and (self.parts[0][rows], self.parts[1][rows], self.parts[2][rows])
        return _Stencil(self.taps[rows], parts, self.padding_mode)

    def linearise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return f of L lines of n pixels, (P, L, n), and its derivatives by the K pixels around each, (K, P, L, n)."""
        n, k = x.shape[-1], self.taps.shape[1]
        reach = k // 2
        replicate = self.padding_mode == "replicate"
        padded = F.pad(x, (reach, reach), mode="replicate") if replicate else F.pad(x, (reach, reach))
        value = padded[..., :n] * self.taps[:, 0, None, None]
        for tap in range(1, k):
            value = value.addcmul(padded[..., tap : tap + n], self.taps[:, tap, None, None])
        slope = torch.ones_like(value)
        if self.parts is not None:
            bias, scale, shift = self.parts
            hidden = F.relu(value + bias)
            value = torch.tanh(hidden * scale + shift)
            slope = scale * (hidden > 0) * (1 - value.square())
        return value, self._taps_by_pixel(n)[:, :, None] * slope

    def _taps_by_pixel(self, n: int) -> Tensor:
        """Return (K, P, n): the tap with which output n reads pixel n + k - K // 2, that pixel's replicas included."""
        k = self.taps.shape[1]
        centre = torch.arange(n, device=self.taps.device)[:, None]
        read = centre + torch.arange(k, device=self.taps.device) - k // 2  # (n, K)
        pixel = read.clamp(0, n - 1)
        slot = F.one_hot(pixel - centre + k // 2, k).to(self.taps.dtype)  # (n, K, K)
        if self.padding_mode == "zeros":
            slot = slot * (read == pixel)[..., None]
        return torch.einsum("pk,nks->spn", self.taps, slot)


class _Step(NamedTuple):
    """One lifting step: s and d, (P, L, n), and their derivatives, (slots, P, L, n): 4r + 1 even, 2r + 1 odd pixels."""

    s: Tensor
    d: Tensor
    s_by_pixel: Tensor
    d_by_pixel: Tensor


def _step(x: Tensor, predict: _Stencil, update: _Stencil, *, last_is_copy: bool) -> _Step:
    """Lift the last axis of (P, L, 2n); ``last_is_copy`` says that its last pixel repeats the one before."""
    even, odd = x[..., 0::2], x[..., 1::2]
    guess, guess_by_even = predict.linearise(even)
    d = odd - guess
    change, change_by_d = update.linearise(d)
    taps, n = len(guess_by_even), even.shape[-1]
    r = taps // 2

    by_pixel = x.new_zeros((2, 6 * r + 2, *d.shape))
    (s_by_even, d_by_even), (s_by_odd, d_by_odd) = by_pixel[:, : 4 * r + 1], by_pixel[:, 4 * r + 1 :]
    d_by_odd[r] = 1
    d_by_even[r : 3 * r + 1] = -guess_by_even
    s_by_odd.copy_(change_by_d)
    s_by_even[2 * r] = 1
    around = F.pad(guess_by_even, (r, r))
    for tap in range(taps):
        s_by_even[tap : tap + taps].addcmul_(around[..., tap : tap + n], change_by_d[tap], value=-1)
    if last_is_copy:
        for slot in range(r, min(2 * r, n - 1 + r) + 1):
            reader = n - 1 + r - slot
            by_pixel[:, slot + r, ..., reader] += by_pixel[:, 4 * r + 1 + slot, ..., reader]
            by_pixel[:, 4 * r + 1 + slot, ..., reader] = 0
    return _Step(even + change, d, by_pixel[0], by_pixel[1])


def _slots(count: int) -> list[tuple[int, int]]:
    """Return where output n's slots lie: pixel 2 * (n + offset - 2r) + parity, as (parity, offset) with r = K // 2."""
    r = (count - 2) // 6
    return [(0, offset) for offset in range(4 * r + 1)] + [(1, r + offset) for offset in range(2 * r + 1)]


def _by_column(by_slot: Tensor) -> Tensor:
    """Return, from what L lines of n outputs give their slots, (slots, P, L, n), the sum at each pixel, (P, L, 2n)."""
    count, planes, lines, n = by_slot.shape
    r = (count - 2) // 6
    columns = by_slot.new_zeros((2, planes, lines, n + 4 * r))
    for slot, (parity, offset) in enumerate(_slots(count)):
        columns[parity, ..., offset : offset + n] += by_slot[slot]
    return columns[..., 2 * r : 2 * r + n].permute(1, 2, 3, 0).flatten(2)


def _sums_of_lines(
    x: Tensor, predict: _Stencil, update: _Stencil, *, last_is_copy: bool, coarse: bool
) -> tuple[Tensor, Tensor]:
    """Return S of sequences, (P, 1, 2n), and which outputs no pixel moves, (P, 1, n)."""
    step = _step(x, predict, update, last_is_copy=last_is_copy)
    jacobian = (step.s_by_pixel if coarse else step.s_by_pixel + step.d_by_pixel).abs()
    total = jacobian.sum(0)
    return _by_column(jacobian * torch.where(total == 0, total, 1 / total)), total == 0


def _sums_of_images(
    x: Tensor, predict: _Stencil, update: _Stencil, *, last_is_copy: tuple[bool, bool], coarse: bool
) -> tuple[Tensor, Tensor]:
    """Return S of images, (P, 2h, 2w), and which outputs no pixel moves, (P, h, w)."""
    width = _step(x, predict, update, last_is_copy=last_is_copy[1])
    on_s = _step(width.s.transpose(1, 2), predict, update, last_is_copy=last_is_copy[0])
    by_s = (on_s.s_by_pixel if coarse else on_s.s_by_pixel + on_s.d_by_pixel).transpose(2, 3).contiguous()
    by_d = None
    if not coarse:
        on_d = _step(width.d.transpose(1, 2), predict, update, last_is_copy=last_is_copy[0])
        by_d = (on_d.s_by_pixel + on_d.d_by_pixel).transpose(2, 3).contiguous()

    count, planes, h, w = by_s.shape
    r, slots = (count - 2) // 6, _slots(count)
    s_rows, d_rows = (
        [F.pad(by_pixel[:, :, parity::2], (0, 0, 2 * r, 2 * r)) for parity in (0, 1)]
        for by_pixel in (width.s_by_pixel, width.d_by_pixel)
    )
    jacobian = x.new_empty((count, count, planes, h, w))  # by slot of rows, then slot of columns
    for slot, (parity, offset) in enumerate(slots):
        torch.mul(s_rows[parity][:, :, offset : offset + h], by_s[slot], out=jacobian[slot])
        if by_d is not None:
            jacobian[slot].addcmul_(d_rows[parity][:, :, offset : offset + h], by_d[slot])
    total = jacobian.abs_().sum((0, 1))
    scale = torch.where(total == 0, total, 1 / total)

    rows = x.new_zeros((2, count, planes, h + 4 * r, w))
    for slot, (parity, offset) in enumerate(slots):
        rows[parity, :, :, offset : offset + h].addcmul_(jacobian[slot], scale)
    by_row = rows[..., 2 * r : 2 * r + h, :].permute(1, 2, 3, 0, 4).flatten(2, 3)  # (slots, P, 2h, w)
    return _by_column(by_row), total == 0


def _stencil(layer_filter: LiftFilter | FixedFilter, dtype: torch.dtype, planes: int) -> _Stencil:
    taps, *rest = (part.detach().to(dtype) for part in layer_filter.parts if part is not None)
    repeats = planes // len(taps)
    parts = None
    if rest:
        bias, scale, shift = (part.repeat(repeats)[:, None, None] for part in rest)
        parts = bias, scale, shift
    return _Stencil(taps.repeat(repeats, 1), parts, layer_filter.padding_mode)


def lift_share(layer: LiftDownPool, x: Tensor, coverage: Tensor) -> Tensor:
    """Return S, the sum of each pixel's weights ``|J| / sum |J|`` over all outputs, of x's shape in fp32 or fp64.

    J is the Jacobian of the layer's combined output, of the bands' sum where it returns the bands.

    Args:
        layer: the pooling.
        x: its input, (N, C, L) or (N, C, H, W).
        coverage: A, (L,) or (H, W): what each pixel counts in an output that no pixel moves.
    """
    if layer.rank == 1:  # a sequence is an image of one row, whose height is not split
        x, coverage = x.unsqueeze(2), coverage[None]
    n, c, height, width = x.shape
    odd = (layer.rank == 2 and height % 2 == 1, width % 2 == 1)
    planes = F.pad(x.to(coverage.dtype), (0, odd[1], 0, odd[0]), mode="replicate").flatten(0, 1)
    predict, update = (_stencil(part, planes.dtype, n * c) for part in (layer.predict, layer.update))
    slots = 6 * (predict.taps.shape[1] // 2) + 2
    length = max(1, 4 * _BLOCK_ELEMENTS // max(1, slots**layer.rank * height * width))
    coarse = layer.combine in ("ll", "low")
    sums = planes.new_empty((n * c, height, width))
    for start in range(0, n * c, length):
        rows = slice(start, start + length)
        block = planes[rows], predict.rows(rows), update.rows(rows)
        with autocast_off(x.device.type):
            if layer.rank == 1:
                total, unmoved = _sums_of_lines(*block, last_is_copy=odd[1], coarse=coarse)
            else:
                total, unmoved = _sums_of_images(*block, last_is_copy=odd, coarse=coarse)
        as_average = unmoved.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :height, :width]
        sums[rows] = total[:, :height, :width] + as_average * coverage
    return sums.view(n, c, *((width,) if layer.rank == 1 else (height, width)))
