"""LiftPool's gradients written out (Zhao & Snoek 2021, arXiv 2104.00996), for what saves inputs alone.

Analysis and synthesis are made of one lifting pair,

    b' = b - F(a),    a' = a + G(b'),

with (a, b) = (even, odd), F = P and G = U on the way down, and (a, b) = (d, s), F = U and G = P on the way up. With F_a
and G_b the filters' derivatives at a and at b', the pair's gradient is again a pair, run backwards:

    grad_b = grad_b' + G_b^T grad_a',    grad_a = grad_a' - F_a^T grad_b.

Each function computes a few images at a time on a processor (`poolcore.blocks`), the forward pass of these again, and
adds up the gradients of the filters' numbers in the dtype that is computed in.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from poolcore.blocks import in_blocks
from poolcore.layout import new_empty
from poolcore.lift_filters import FilterParts, PaddingMode
from poolcore.lift_forward import Guess, PlainFilter, convolve
from poolcore.lifting import Combine, halves
from poolcore.precision import compute_dtype

__all__ = ["lift_down_backward", "lift_up_backward"]


class _Filter(PlainFilter):
    """P or U, and the sums of the gradients of its numbers."""

    def __init__(self, parts: FilterParts, padding_mode: PaddingMode, x: Tensor, needs_grads: bool) -> None:
        super().__init__(parts, padding_mode, x)
        self.parts = [part for part in parts if part is not None]
        self.all_but_channels = (0, *range(2, x.dim()))
        self.sums = [self.weight.new_zeros(x.shape[1], *part.shape[1:]) for part in self.parts] if needs_grads else None

    def backward(self, guess: Guess, grad: Tensor, axis: int) -> Tensor:
        """Return the gradient of the filter's input, and add up those of its numbers."""
        if guess.hidden is not None:
            by_shift = torch.ops.aten.tanh_backward(grad, guess.value)
            self._add(3, by_shift)
            if self.sums is not None:
                self._add(2, by_shift * guess.hidden)
            grad = torch.ops.aten.threshold_backward(by_shift.mul_(self.scale), guess.hidden, 0)
            self._add(1, grad)
        if self.sums is not None:
            # Tap by tap: a convolution's own gradient takes twice the time along the width.
            for tap, total in enumerate(self.sums[0].unbind(1)):
                seen = guess.padded.narrow(axis, tap, grad.shape[axis])
                total.add_((grad * seen).sum(self.all_but_channels))
        padded = convolve(grad, self.weight.flip(1), None, axis, 2 * self.reach)
        return self._unpad(padded, axis)

    def _add(self, index: int, terms: Tensor) -> None:
        if self.sums is not None:
            self.sums[index].add_(terms.sum(self.all_but_channels))

    def _unpad(self, padded: Tensor, axis: int) -> Tensor:
        """Return the gradient of what was padded: an end that was replicated takes its copies' gradients too."""
        reach, size = self.reach, padded.shape[axis] - 2 * self.reach
        inside = padded.narrow(axis, reach, size)
        if reach and self.replicates:
            for end, copies in ((0, 0), (size - 1, reach + size)):
                inside.narrow(axis, end, 1).add_(padded.narrow(axis, copies, reach).sum(axis, keepdim=True))
        return inside

    def grads(self) -> list[Tensor]:
        """Return the sums as gradients of the filter's numbers: of taps that all channels share, the sum over these."""
        sums = zip(self.sums or [], self.parts, strict=True)
        return [total.sum_to_size(part.shape).to(part.dtype) for total, part in sums]


class _Pair:
    """One lifting pair of (a, b) along an axis by F and G: its results, and the gradients of a and b from theirs."""

    def __init__(self, a: Tensor, b: Tensor, axis: int, f: _Filter, g: _Filter) -> None:
        self.axis, self.f, self.g, self.source = axis, f, g, a
        self.f_guess = f(a, axis)
        self.b = b - self.f_guess.value
        self.g_guess = g(self.b, axis)

    @property
    def a(self) -> Tensor:
        return self.source + self.g_guess.value

    def backward(self, grad_a: Tensor, grad_b: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the gradients of the pair's sources from those of its results; None stands for zeros."""
        through = self.g.backward(self.g_guess, grad_a, self.axis)
        grad_b = through if grad_b is None else grad_b + through
        return self.f.backward(self.f_guess, -grad_b, self.axis).add_(grad_a), grad_b


def _split(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return the even and the odd pixels of an axis, after its last one again where it is odd."""
    even, odd = halves(x, axis)
    return even, torch.cat((odd, even.narrow(axis, -1, 1)), axis) if x.shape[axis] % 2 else odd


def _join(x: Tensor, even: Tensor, odd: Tensor, axis: int) -> Tensor:
    """Write both halves of an axis to their places in ``x``, which may have an odd pixel less, and return it."""
    even_pixels, odd_pixels = halves(x, axis)
    even_pixels.copy_(even)
    odd_pixels.copy_(odd.narrow(axis, 0, odd_pixels.shape[axis]))
    return x


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
    """Return the gradients of ``x``, in its memory format, and of P's numbers, then U's, each if needed.

    Args:
        grad: of what `lift_down` makes of the other arguments: a map, or all bands stacked where ``combine`` is None.
    """
    p, u = (_Filter(parts, padding_mode, x, need_filters) for parts in (predict, update))
    grad_x = new_empty(x, x.shape)
    if x.numel():
        for block, out, *grads in in_blocks(x, grad_x, *(grad if combine is None else [grad])):
            dtype = compute_dtype(block.dtype)
            _analysis_backward(out, block.to(dtype), _grads_of_bands(grads, combine, x.dim() - 2, dtype), -1, p, u)
    return grad_x if need_x else None, p.grads() + u.grads() if need_filters else None


def _grads_of_bands(
    grads: Sequence[Tensor], combine: Combine | None, rank: int, dtype: torch.dtype
) -> list[Tensor | None]:
    wide, count = [grad.to(dtype) for grad in grads], 2**rank
    if combine is None:
        return list(wide)
    if combine in ("ll", "low"):
        return [wide[0], *[None] * (count - 1)]
    return [wide[0] / count if combine == "mean" else wide[0]] * count


def _analysis_backward(
    grad_x: Tensor, x: Tensor, grads: Sequence[Tensor | None], axis: int, p: _Filter, u: _Filter
) -> Tensor | None:
    """Write the gradient of ``x`` from those of its bands, the first axis of whose splitting is ``axis``; None if 0."""
    if all(grad is None for grad in grads):
        return None
    pair = _Pair(*_split(x, axis), axis, p, u)
    if len(grads) > 2:
        grads = [
            _analysis_backward(new_empty(grad_x, half.shape, half.dtype), half, half_grads, axis - 1, p, u)
            for half, half_grads in ((pair.a, grads[:2]), (pair.b, grads[2:]))
        ]
    grad_s, grad_d = grads
    assert grad_s is not None  # every combination has the coarse band
    grad_even, grad_odd = pair.backward(grad_s, grad_d)
    if x.shape[axis] % 2:
        grad_even.narrow(axis, -1, 1).add_(grad_odd.narrow(axis, -1, 1))
    return _join(grad_x, grad_even, grad_odd, axis)


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
    """Return the gradients of the bands, in the first one's memory format, and of P's numbers, then U's, if needed.

    Args:
        grad: of what `lift_up` makes of the other arguments, (N, C, *size).
    """
    first = bands[0]
    p, u = (_Filter(parts, padding_mode, first, need_filters) for parts in (predict, update))
    results = [new_empty(first, first.shape) for _ in bands]
    if first.numel():
        dtype, count = compute_dtype(first.dtype), len(bands)
        for grad_block, *block in in_blocks(grad, *bands, *results):
            wide = [band.to(dtype) for band in block[:count]]
            for out, found in zip(
                block[count:], _synthesis_backward(grad_block.to(dtype), wide, size, p, u), strict=True
            ):
                out.copy_(found)
    return results if need_bands else None, p.grads() + u.grads() if need_filters else None


def _synthesis_backward(
    grad: Tensor, bands: Sequence[Tensor], size: Sequence[int], p: _Filter, u: _Filter
) -> list[Tensor]:
    if len(size) == 1:
        return _halves_backward(grad, _Pair(bands[1], bands[0], -1, u, p))
    columns = [_Pair(d, s, -2, u, p) for s, d in zip(bands[::2], bands[1::2], strict=True)]
    shape = *grad.shape[:3], bands[0].shape[-1]
    low, high = (_join(new_empty(pair.b, shape), pair.b, pair.a, -2) for pair in columns)
    grads = _halves_backward(grad, _Pair(high, low, -1, u, p))
    return [band for grad, pair in zip(grads, columns, strict=True) for band in _halves_backward(grad, pair)]


def _halves_backward(grad: Tensor, pair: _Pair) -> list[Tensor]:
    """Return the gradients of s and d, which a pair puts together along its axis."""
    even, odd = halves(grad, pair.axis)
    if grad.shape[pair.axis] % 2:  # the last odd pixel was left out
        odd = torch.cat((odd, torch.zeros_like(even.narrow(pair.axis, -1, 1))), pair.axis)
    grad_d, grad_s = pair.backward(odd, even)
    return [grad_s, grad_d]
