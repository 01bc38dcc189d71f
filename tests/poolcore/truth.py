"""The truth that poolcore is held against: the papers' formulas as plain Python loops over lists of floats.

Nothing here calls torch's arithmetic or poolcore. Maps are nested lists, one level for each axis (a sequence is a list,
an image a list of rows, a volume a list of images); a scale is the same sum with absolute values.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

Line = list[float]
Map = list[Any]
Size = tuple[int, ...]
Index = tuple[int, ...]
Pixels = list[Index]

# The worked examples' inputs.
X = [[1.0, 2.0, 0.0, -1.0], [3.0, 4.0, 1.0, 2.0], [-2.0, 0.5, 2.5, 1.5], [0.0, 1.0, -3.0, 4.0]]
L = [[0.0, 1.0, 2.0, 0.0], [-1.0, 0.5, 0.0, 3.0], [2.0, 0.0, -2.0, 1.0], [0.0, 0.0, 1.5, -0.5]]
X1 = [1.0, 2.0, 0.0, -1.0, 3.0, 4.0, 1.0, 2.0]


def size_of(x: Map) -> Size:
    return (len(x), *size_of(x[0])) if isinstance(x, list) else ()


def at(x: Map, index: Index) -> float:
    for i in index:
        x = x[i]
    return x


def filled(size: Size, value: Callable[[Index], float], index: Index = ()) -> Map:
    """A map of ``size`` with ``value(index)`` at each index."""
    if len(index) == len(size):
        return value(index)
    return [filled(size, value, (*index, i)) for i in range(size[len(index)])]


class Geometry(NamedTuple):
    """A window's arguments, per axis."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] = (0, 0)
    ceil_mode: bool = False

    def starts(self, axis: int, n: int) -> list[int]:
        """Where each window of an axis begins: it lies in the padded axis, or with ceil_mode begins before its end."""
        k, s, p = self.kernel_size[axis], self.stride[axis], self.padding[axis]
        if self.ceil_mode:
            # There is one more as long as the last does not reach the end, unless it begins in the right padding.
            return [a for a in range(-p, n, s) if a - s + k < n + p]
        return list(range(-p, n + p - k + 1, s))

    def reads(self, size: Size, kernel_size: Size | None = None) -> Iterator[tuple[Index, Pixels]]:
        """Yield each output with the valid pixels that it reads, in row-major order; at will through another kernel."""
        starts = [list(enumerate(self.starts(axis, n))) for axis, n in enumerate(size)]
        for corner in itertools.product(*starts):
            axes = [
                [i for i in range(start, start + k) if 0 <= i < n]
                for (_, start), k, n in zip(corner, kernel_size or self.kernel_size, size, strict=True)
            ]
            yield tuple(o for o, _ in corner), list(itertools.product(*axes))

    def output_size(self, size: Size) -> Size:
        return tuple(len(self.starts(axis, n)) for axis, n in enumerate(size))


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
    size = size_of(x)
    out: dict[str, dict[Index, float]] = {name: dict.fromkeys(every_index(size), 0.0) for name in Pooled._fields}
    out["y"], out["y_scale"] = {}, {}
    for o, pixels in geometry.reads(size):
        values, logits = [at(x, i) for i in pixels], [at(logit, i) for i in pixels]
        weights, top = softmax(logits), max(logits)
        # A difference of logits is rounded too, which changes a weight by as many parts as it is large.
        doubts = [1 + (top - low if math.isfinite(top - low) else 0) for low in logits]
        y = total([w * v for w, v in zip(weights, values, strict=True)])
        y_scale = total([w * abs(v) * doubt for w, v, doubt in zip(weights, values, doubts, strict=True)])
        out["y"][o], out["y_scale"][o] = y, y_scale
        g = 1.0 if upstream is None else at(upstream, o)
        for i, v, w, doubt in zip(pixels, values, weights, doubts, strict=True):
            out["grad_x"][i] += g * w
            out["grad_logit"][i] += g * w * (v - y)
            out["grad_x_scale"][i] += abs(g) * w * doubt
            out["grad_logit_scale"][i] += abs(g) * w * doubt * (abs(v) + y_scale)
    sizes = {"y": geometry.output_size(size), "y_scale": geometry.output_size(size)}
    return Pooled(*(filled(sizes.get(name, size), values.__getitem__) for name, values in out.items()))


def every_index(size: Size) -> Iterator[Index]:
    return itertools.product(*map(range, size))


def coverage(geometry: Geometry, size: Size, kernel_size: Size | None = None) -> Map:
    """A: the sum of 1 / (valid pixels of the window) over the windows that read a pixel."""
    return weight_sums(lambda pixels: [1 / len(pixels)] * len(pixels), geometry, size, kernel_size)


def weight_sums(
    weigh: Callable[[Pixels], Sequence[float]], geometry: Geometry, size: Size, kernel_size: Size | None = None
) -> Map:
    """S: each pixel's weights, summed over outputs; ``weigh`` gives the weights of the pixels that an output reads."""
    sums = dict.fromkeys(every_index(size), 0.0)
    for _, pixels in geometry.reads(size, kernel_size):
        for weight, i in zip(weigh(pixels), pixels, strict=True):
            sums[i] += weight
    return filled(size, sums.__getitem__)


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


def lift1d(x: Line, predict: Filter, update: Filter, sign: float = -1) -> dict[str, Line]:
    return dict(zip(("low", "high"), lift_line(x, predict, update, sign), strict=True))


def scaled(x: Map, factor: float) -> Map:
    return filled(size_of(x), lambda index: factor * at(x, index))


def added(*maps: Map) -> Map:
    """The sum of maps of one size, element by element."""
    return filled(size_of(maps[0]), lambda index: math.fsum(at(x, index) for x in maps))
