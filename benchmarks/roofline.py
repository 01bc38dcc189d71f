"""What a pooling must move and compute at least: the bytes of its tensors, and the operations of its formula.

Pure functions of shapes. Bytes count every tensor once: of the input only the pixels that some window reads, of a
gradient every pixel. Operations are counted for one lane each: an addition, a multiplication, a maximum or a
multiply-add in fp32; a special function (2^x, 1 / x); an element loaded or stored, neighbours from cache included.
Changes of dtype and the arithmetic of addresses are left out, and so are a learned filter's few numbers.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

from poolcore.window import Window, make_window

__all__ = ["LANES", "OPERATIONS", "Clocks", "Direction", "Work", "lift_work", "weighted_work"]

Direction = Literal["forward", "backward"]

# Results of a multiprocessor in one clock, from NVIDIA's capability 8.6 on and for 9.0; the table of the CUDA manual.
LANES = {"fp32": 128, "special": 16, "access": 32}


class Clocks(NamedTuple):
    """How long each kind of lane of one multiprocessor is busy."""

    fp32: float
    special: float
    access: float


class Work(NamedTuple):
    """What one call must do; ``outputs`` are elements of the pooled result (of LiftPool's, places of its bands)."""

    outputs: int
    moved_bytes: int
    fp32: int
    special: int
    access: int

    @property
    def clocks(self) -> Clocks:
        """Clocks of one multiprocessor that did everything by itself."""
        return Clocks(self.fp32 / LANES["fp32"], self.special / LANES["special"], self.access / LANES["access"])

    @property
    def break_even(self) -> float:
        """Bytes a clock and multiprocessor: a device whose memory is faster is held back by its lanes, not by it.

        Loads are left out, for a wide one moves many elements in the time of one.
        """
        return self.moved_bytes / max(self.clocks.fp32, self.clocks.special)

    def floor_ms(self, copy_gb_s: float) -> float:
        """Milliseconds that the bytes take at the speed of a copy."""
        return self.moved_bytes / copy_gb_s / 1e6


class _Axis(NamedTuple):
    outputs: int
    read: int
    """Pixels that some window reads."""
    cells: int
    """Valid pixels of all windows together."""
    gathered: int
    """Pairs of a cell of ``stride`` pixels and a window that may read it."""


def _axis(n: int, outputs: int, kernel: int, stride: int, padding: int) -> _Axis:
    spans = [(max(a * stride - padding, 0), min(a * stride - padding + kernel, n)) for a in range(outputs)]
    read, end = 0, 0
    for first, last in spans:
        read += max(last - max(first, end), 0)
        end = max(end, last)
    cells = (n - 1 + padding) // stride + 1
    return _Axis(outputs, read, sum(last - first for first, last in spans), cells * -(-kernel // stride))


def weighted_work(
    direction: Direction,
    shape: Sequence[int],
    itemsize: int,
    *,
    window: Window,
    has_logit: bool,
    gathers: bool = False,
) -> Work:
    """Return the work of SoftPool, or of LIP with its logits given.

    Forward, a window of k valid pixels takes k - 1 maxima, k subtractions and k multiplications for the exponents, k
    exponentials, k - 1 additions, k multiply-adds (the first a multiplication) and a division: a reciprocal and a
    multiplication. Backward it takes that again, one multiplication more for the gradient's share, and four operations
    for each pixel: w g, its sum, x - y, and the sum of w g (x - y).

    Args:
        shape: (N, C, *spatial).
        itemsize: bytes of an element.
        gathers: count what a backward pass does in which each pixel's program sums the windows for itself, so that a
            window is summed once for every cell of ``stride`` pixels that it may reach.
    """
    maps, size = shape[0] * shape[1], shape[2:]
    sizes = size, window.output_size(size), window.kernel_size, window.stride, window.padding
    axes = [_axis(*values) for values in zip(*sizes, strict=True)]
    outputs, read, cells, gathered = (maps * math.prod(values) for values in zip(*axes, strict=True))
    tensors = 2 if has_logit else 1
    moved = read * tensors + outputs
    fp32, special, access = 5 * cells - outputs, cells + outputs, cells * tensors + outputs
    if direction == "backward":
        pixels = maps * math.prod(size)
        moved += pixels * tensors
        if gathers:
            k = math.prod(window.kernel_size)
            fp32, special, access = gathered * (5 * k - 1), gathered * (k + 1), gathered * (k * tensors + 1)
        fp32 += outputs + 4 * cells
        access += pixels * tensors
    return Work(outputs, moved * itemsize, fp32, special, access)


def lift_work(
    direction: Direction,
    shape: Sequence[int],
    itemsize: int,
    *,
    taps: int,
    combine: str | None = None,
    upwards: bool = False,
) -> Work:
    """Return the work of LiftPool with learned filters, of a sequence or an image.

    A filter's guess takes K multiply-adds, a maximum, a multiply-add, and for tanh(z) = 1 - 2 / (1 + exp(2 z)) three
    operations and two special functions. A lifting pair is two guesses and two additions; an image has one pair for
    each two pixels along its width, and one along its height for each two of both halves. Backward, each guess is made
    again; four operations lead through it, K send its gradient on, and K + 3 add up those of the filter's numbers.

    A pair's loads are those of neighbouring lanes that each read their own stencil along the width, 2 K - 1 values of
    one half and K of the other; along the height, and backward, values stay in registers.

    Args:
        shape: of the image, (N, C, L) or (N, C, H, W), also for LiftUp, ``upwards``, which makes it.
        taps: K.
        combine: as `lift_down_pool2d` has it; None for all bands.
    """
    maps, size = shape[0] * shape[1], shape[2:]
    pixels, halves = maps * math.prod(size), [(n + 1) // 2 for n in size]
    places, bands = maps * math.prod(halves), 2 ** len(size)
    along_width = maps * math.prod(size[:-1]) * halves[-1]
    along_height = 0 if len(size) == 1 else 2 * places
    if combine in ("ll", "low"):
        along_height //= 2
    pairs = along_width + along_height
    ends = places * (bands if combine is None else 1)
    moved = pixels + ends
    if direction == "forward":
        fp32, special = pairs * (2 * (taps + 5) + 2), pairs * 4
        access = (along_width + (along_height if upwards else 0)) * (3 * taps - 1) + (pixels if upwards else ends)
        if combine in ("sum", "mean"):
            fp32 += places * (bands - 1 + (combine == "mean"))
    else:
        # What the gradient is sent through is computed again from the forward pass's input.
        moved += ends if upwards else pixels
        fp32, special, access = pairs * (2 * (3 * taps + 12) + 2), pairs * 4, pairs * 6
    return Work(places, moved * itemsize, fp32, special, access)


def _weighted(kernel: int, stride: int, padding: int, has_logit: bool, rank: int = 2) -> Callable[..., Work]:
    return partial(weighted_work, window=make_window(kernel, stride, padding, rank=rank), has_logit=has_logit)


OPERATIONS: dict[str, Callable[[Direction, Sequence[int], int], Work]] = {
    "soft_pool2d 2/2/0": _weighted(2, 2, 0, False),
    "soft_pool2d 3/2/1": _weighted(3, 2, 1, False),
    "lip2d 2/2/0": _weighted(2, 2, 0, True),
    "lip2d 3/2/1": _weighted(3, 2, 1, True),
    "lift_down_pool2d mean": partial(lift_work, taps=5, combine="mean"),
    "lift_down_pool2d bands": partial(lift_work, taps=5),
    "lift_up_pool2d": partial(lift_work, taps=5, upwards=True),
    "soft_pool1d 2/2/0": _weighted(2, 2, 0, False, rank=1),
    "soft_pool3d 2/2/0": _weighted(2, 2, 0, False, rank=3),
}
"""The operations that `gpu_ops` times, by name: (direction, shape, itemsize) -> Work; LiftPool with K = 5."""
