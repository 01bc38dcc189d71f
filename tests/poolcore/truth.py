"""The truth that poolcore is held against: the papers' formulas as plain Python loops over lists of floats.

Nothing here calls torch's arithmetic or poolcore. Maps are lists of rows; a scale is the same sum with absolute values.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

Map = list[list[float]]
Line = list[float]
Pixels = list[tuple[int, int]]
Read = tuple[int, int, Pixels]

# The worked examples' inputs.
X = [[1.0, 2.0, 0.0, -1.0], [3.0, 4.0, 1.0, 2.0], [-2.0, 0.5, 2.5, 1.5], [0.0, 1.0, -3.0, 4.0]]
L = [[0.0, 1.0, 2.0, 0.0], [-1.0, 0.5, 0.0, 3.0], [2.0, 0.0, -2.0, 1.0], [0.0, 0.0, 1.5, -0.5]]
X1 = [1.0, 2.0, 0.0, -1.0, 3.0, 4.0, 1.0, 2.0]


def zeros(height: int, width: int) -> Map:
    return [[0.0] * width for _ in range(height)]


class Geometry(NamedTuple):
    """A window's arguments, per axis."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    ceil_mode: bool = False

    def starts(self, axis: int, n: int) -> list[int]:
        """Where each window of an axis begins: it lies in the padded axis, or with ceil_mode begins before its end."""
        k, s, p = self.kernel_size[axis], self.stride[axis], self.padding[axis]
        if self.ceil_mode:
            # There is one more as long as the last does not reach the end, unless it begins in the right padding.
            return [a for a in range(-p, n, s) if a - s + k < n + p]
        return list(range(-p, n + p - k + 1, s))

    def reads(self, height: int, width: int, kernel_size: tuple[int, int] | None = None) -> Iterator[Read]:
        """Yield each output with the valid pixels that it reads, in row-major order; at will through another kernel."""
        kernel_height, kernel_width = kernel_size or self.kernel_size
        for a, top in enumerate(self.starts(0, height)):
            for b, left in enumerate(self.starts(1, width)):
                rows = [i for i in range(top, top + kernel_height) if 0 <= i < height]
                columns = [j for j in range(left, left + kernel_width) if 0 <= j < width]
                yield a, b, [(i, j) for i in rows for j in columns]

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        return len(self.starts(0, height)), len(self.starts(1, width))


def softmax(logits: Sequence[float]) -> list[float]:
    """NaN in, NaN out; -inf is weight 0; only -inf, or +inf, gives NaN."""
    if any(math.isnan(logit) for logit in logits) or math.isinf(max(logits)):
        return [math.nan] * len(logits)
    terms = [math.exp(logit - max(logits)) for logit in logits]
    return [term / math.fsum(terms) for term in terms]


def total(terms: list[float]) -> float:
    """An exact sum; fsum itself refuses infinities of both signs."""
    return math.fsum(terms) if all(math.isfinite(term) for term in terms) else sum(terms)


class Pooled(NamedTuple):
    """A weighted pooling of one map, with its gradients for an upstream gradient, and the scales of all three."""

    y: Map
    grad_x: Map
    grad_logit: Map
    y_scale: Map
    grad_x_scale: Map
    grad_logit_scale: Map


def weighted_pool(x: Map, logit: Map, geometry: Geometry, upstream: Map | None = None) -> Pooled:
    """y = sum_i w_i x_i with w the softmax of the logits; dy/dx_i = w_i, dy/dl_i = w_i (x_i - y)."""
    height, width = len(x), len(x[0])
    sizes = (geometry.output_size(height, width), (height, width), (height, width)) * 2
    pooled = Pooled(*(zeros(*size) for size in sizes))
    for a, b, pixels in geometry.reads(height, width):
        logits = [logit[i][j] for i, j in pixels]
        weights, top = softmax(logits), max(logits)
        # A difference of logits is rounded too, which changes a weight by as many parts as it is large.
        doubts = [1 + (top - low if math.isfinite(top - low) else 0) for low in logits]
        y = total([w * x[i][j] for w, (i, j) in zip(weights, pixels, strict=True)])
        pooled.y[a][b] = y
        pooled.y_scale[a][b] = total(
            [w * abs(x[i][j]) * doubt for w, (i, j), doubt in zip(weights, pixels, doubts, strict=True)]
        )
        g = 1.0 if upstream is None else upstream[a][b]
        for w, (i, j), doubt in zip(weights, pixels, doubts, strict=True):
            pooled.grad_x[i][j] += g * w
            pooled.grad_logit[i][j] += g * w * (x[i][j] - y)
            pooled.grad_x_scale[i][j] += abs(g) * w * doubt
            pooled.grad_logit_scale[i][j] += abs(g) * w * doubt * (abs(x[i][j]) + pooled.y_scale[a][b])
    return pooled


def coverage(geometry: Geometry, height: int, width: int, kernel_size: tuple[int, int] | None = None) -> Map:
    """A: the sum of 1 / (valid pixels of the window) over the windows that read a pixel."""
    return weight_sums(lambda pixels: [1 / len(pixels)] * len(pixels), geometry, (height, width), kernel_size)


def weight_sums(
    weigh: Callable[[Pixels], Sequence[float]],
    geometry: Geometry,
    size: tuple[int, int],
    kernel_size: tuple[int, int] | None = None,
) -> Map:
    """S: each pixel's weights, summed over outputs; ``weigh`` gives the weights of the pixels that an output reads."""
    sums = zeros(*size)
    for _, _, pixels in geometry.reads(*size, kernel_size):
        for weight, (i, j) in zip(weigh(pixels), pixels, strict=True):
            sums[i][j] += weight
    return sums


Filter = Callable[[Line], Line]


def haar() -> tuple[Filter, Filter]:
    return (lambda e: list(e)), (lambda d: [v / 2 for v in d])


def cdf53() -> tuple[Filter, Filter]:
    def predict(e: Line) -> Line:
        return [(e[n] + e[min(n + 1, len(e) - 1)]) / 2 for n in range(len(e))]

    def update(d: Line) -> Line:
        return [(d[max(n - 1, 0)] + d[n]) / 4 for n in range(len(d))]

    return predict, update


def nothing() -> tuple[Filter, Filter]:
    return (lambda e: [0.0] * len(e)), (lambda d: [0.0] * len(d))


def learned(taps: Sequence[float], bias: float, scale: float, shift: float, *, replicate: bool) -> Filter:
    """tanh(scale * relu(conv(x) + bias) + shift)."""

    def apply(x: Line) -> Line:
        out, reach = [], len(taps) // 2
        for n in range(len(x)):
            terms = [bias]
            for k, tap in enumerate(taps):
                m = n + k - reach
                if 0 <= m < len(x):
                    terms.append(tap * x[m])
                elif replicate:
                    terms.append(tap * x[0 if m < 0 else -1])
            out.append(math.tanh(scale * max(math.fsum(terms), 0.0) + shift))
        return out

    return apply


def magnitude(taps: Sequence[float], bias: float, scale: float, shift: float) -> Filter:
    """An upper bound of the sums with absolute values in `learned`, the tanh (which adds at most 1) passed over."""

    def apply(x: Line) -> Line:
        largest, reach = max(x), len(taps) // 2
        around = [max(x[max(n - reach, 0) : n + reach + 1], default=largest) for n in range(len(x))]
        weight = math.fsum(abs(tap) for tap in taps)
        return [1 + abs(scale) * (weight * near + abs(bias)) + abs(shift) for near in around]

    return apply


def lift_line(x: Line, predict: Filter, update: Filter, sign: float = -1) -> tuple[Line, Line]:
    """d = x_odd - P(x_even), s = x_even + U(d); with sign 1 the bound of the sums with absolute values."""
    x = x + x[-1:] if len(x) % 2 else x
    even, odd = x[0::2], x[1::2]
    d = [o + sign * p for o, p in zip(odd, predict(even), strict=True)]
    return [e + u for e, u in zip(even, update(d), strict=True)], d


def unlift_line(s: Line, d: Line, predict: Filter, update: Filter) -> Line:
    even = [a - u for a, u in zip(s, update(d), strict=True)]
    odd = [b + p for b, p in zip(d, predict(even), strict=True)]
    return [value for pair in zip(even, odd, strict=True) for value in pair]


def transposed(x: Map) -> Map:
    return [list(column) for column in zip(*x, strict=True)]


def lift(x: Map, predict: Filter, update: Filter, sign: float = -1) -> dict[str, Map]:
    """Width first, then height on both halves."""
    halves = [lift_line(row, predict, update, sign) for row in x]
    bands = {}
    for low, high, half in (("ll", "lh", 0), ("hl", "hh", 1)):
        columns = [lift_line(column, predict, update, sign) for column in transposed([pair[half] for pair in halves])]
        bands[low], bands[high] = transposed([c[0] for c in columns]), transposed([c[1] for c in columns])
    return bands


def added(*maps: Map) -> Map:
    return [[math.fsum(values) for values in zip(*rows, strict=True)] for rows in zip(*maps, strict=False)]
