"""What the operators are tried on, and how near they must come: windows, sizes, layouts, poison, tolerance."""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tests.poolcore.truth import Geometry

WINDOWS = {
    "k1s1p0": Geometry((1, 1), (1, 1)),
    "k2s2p0": Geometry((2, 2), (2, 2)),
    "k2s2p0-ceil": Geometry((2, 2), (2, 2), ceil_mode=True),
    "k3s2p1": Geometry((3, 3), (2, 2), (1, 1)),
    "k3s2p1-ceil": Geometry((3, 3), (2, 2), (1, 1), ceil_mode=True),
    "k3s1p1": Geometry((3, 3), (1, 1), (1, 1)),
    "k5s3p2": Geometry((5, 5), (3, 3), (2, 2)),
    "k7s2p3": Geometry((7, 7), (2, 2), (3, 3)),
    "k23s12p01": Geometry((2, 3), (1, 2), (0, 1)),
    "k2s3p0": Geometry((2, 2), (3, 3)),
    "k2s3p1-ceil": Geometry((2, 2), (3, 3), (1, 1), ceil_mode=True),
}
# By the number of axes; the last of the volumes' windows tells every axis from every other.
WINDOWS_OF_RANK = {
    1: {
        "k1s1p0": Geometry((1,), (1,), (0,)),
        "k2s2p0": Geometry((2,), (2,), (0,)),
        "k2s2p0-ceil": Geometry((2,), (2,), (0,), ceil_mode=True),
        "k3s2p1": Geometry((3,), (2,), (1,)),
        "k3s1p1": Geometry((3,), (1,), (1,)),
        "k5s3p2": Geometry((5,), (3,), (2,)),
        "k7s2p3": Geometry((7,), (2,), (3,)),
        "k2s3p1-ceil": Geometry((2,), (3,), (1,), ceil_mode=True),
    },
    2: WINDOWS,
    3: {
        "k1s1p0": Geometry((1, 1, 1), (1, 1, 1), (0, 0, 0)),
        "k2s2p0": Geometry((2, 2, 2), (2, 2, 2), (0, 0, 0)),
        "k3s2p1": Geometry((3, 3, 3), (2, 2, 2), (1, 1, 1)),
        "k3s2p1-ceil": Geometry((3, 3, 3), (2, 2, 2), (1, 1, 1), ceil_mode=True),
        "k2s3p1-ceil": Geometry((2, 2, 2), (3, 3, 3), (1, 1, 1), ceil_mode=True),
        "k231s123p010": Geometry((2, 3, 1), (1, 2, 3), (0, 1, 0)),
    },
}
SIZES = {f"{h}x{w}": (h, w) for h, w in ((1, 1), (2, 7), (8, 8), (13, 17), (31, 33), (64, 65), (1, 13), (7, 2))}
SIZES_OF_RANK = {
    1: {str(n): (n,) for n in (1, 2, 7, 8, 13, 65)},
    2: SIZES,
    3: {"x".join(map(str, size)): size for size in ((1, 1, 1), (2, 3, 5), (4, 4, 4), (5, 7, 6), (1, 1, 9), (7, 2, 3))},
}
BATCHES = {"n1c1": (1, 1), "n3c3": (3, 3), "n1c67": (1, 67), "n3c1": (3, 1), "n0c3": (0, 3)}
DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def fits(window: str, size: str, rank: int = 2) -> bool:
    geometry, sizes = WINDOWS_OF_RANK[rank][window], SIZES_OF_RANK[rank][size]
    return all(n + 2 * p >= k for n, k, p in zip(sizes, geometry.kernel_size, geometry.padding, strict=True))


def _field(x: Tensor, room: int) -> Tensor:
    return torch.full((room,), math.nan, dtype=x.dtype)


def _contiguous(x: Tensor) -> Tensor:
    view = _field(x, x.numel() + 64)[32 : 32 + x.numel()].view(x.shape)
    return view.copy_(x)


def _channels_last(x: Tensor) -> Tensor:
    return _contiguous(x.movedim(1, -1)).movedim(-1, 1)


def _transposed(x: Tensor) -> Tensor:
    return _contiguous(x.transpose(-2, -1)).transpose(-2, -1)


def _every_second_row(x: Tensor) -> Tensor:
    *rest, h, w = x.shape
    return _field(x, 2 * x.numel()).view(*rest, 2 * h, w)[..., ::2, :].copy_(x)


def _inside(x: Tensor) -> Tensor:
    *rest, h, w = x.shape
    shape = (*rest, h + 5, w + 4)
    return _field(x, math.prod(shape)).view(shape)[..., 3:-2, 1:-3].copy_(x)


def _expanded(x: Tensor) -> Tensor:
    return _contiguous(x[:, :1]).expand(x.shape)


# Each puts a tensor's values (of the first channel alone, where it is expanded) into a view of a larger field of NaN.
# "nhwc" has the channels last at any rank; the rows of a sequence are its channels.
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "nchw": _contiguous,
    "nhwc": _channels_last,
    "transposed": _transposed,
    "rows2": _every_second_row,
    "inside": _inside,
    "expanded": _expanded,
}


Case = tuple[str, ...]


def pairs(axes: Sequence[Sequence[str]], legal: Callable[[Case], bool], seed: int = 0) -> list[Case]:
    """Return few cases such that every pair of values of two axes occurs in one, if any legal case has it."""
    rng = random.Random(seed)

    def covered(case: Case) -> set[tuple[tuple[int, str], ...]]:
        return set(itertools.combinations(enumerate(case), 2))

    numbered = [[(axis, value) for value in values] for axis, values in enumerate(axes)]
    missing = {pair for two in itertools.combinations(numbered, 2) for pair in itertools.product(*two)}
    chosen = []
    while missing:
        wanted = min(missing)
        drawn = [tuple({**dict(enumerate(map(rng.choice, axes))), **dict(wanted)}.values()) for _ in range(40)]
        case = max(filter(legal, drawn), key=lambda case: len(covered(case) & missing), default=None)
        if case is None:
            missing.remove(wanted)
        else:
            chosen.append(case)
            missing -= covered(case)
    return chosen


def compute_eps(dtype: torch.dtype) -> float:
    return torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps


def assert_close(got: Tensor, want: Any, scale: Any, c: float, case: str = "") -> None:
    """Hold every element of ``got`` to ``want`` (nested lists), NaN exactly where NaN is wanted.

    The tolerance is half a unit in the last place of the result, ``c * eps`` of the sum with absolute values ``scale``
    (eps of the dtype that is computed in), and ``c`` of the least numbers that either dtype knows.
    """
    want, scale = (torch.as_tensor(value, dtype=torch.float64).reshape(got.shape) for value in (want, scale))
    assert want.shape == got.shape, f"{case}: {tuple(got.shape)} instead of {tuple(want.shape)}"
    info, eps = torch.finfo(got.dtype), compute_eps(got.dtype)
    least = info.smallest_normal * info.eps
    tolerance = info.eps / 2 * want.abs() + c * eps * scale + c * least
    # What rounds to infinity in the result's dtype, or is infinite, must be so.
    same = (got.double() == want) | (want.isnan() & got.isnan()) | (got == want.to(got.dtype))
    wrong = ~(same | ((got.double() - want).abs() <= tolerance))
    if wrong.any():
        index = tuple(int(i) for i in wrong.nonzero()[0])
        raise AssertionError(
            f"{case} at {index}: got {got[index].item()!r}, want {want[index].item()!r} "
            f"within {tolerance[index].item():.3g}; {int(wrong.sum())} of {wrong.numel()} wrong"
        )


def same_bits(a: Tensor, b: Tensor) -> bool:
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    return a.shape == b.shape and torch.equal(a.contiguous().view(integer), b.contiguous().view(integer))


def keeps_format(y: Tensor, layout: str) -> bool:
    """Whether a result lies as its input's layout asks: channels last at two and three axes, else contiguous."""
    channels_last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(y.dim(), torch.contiguous_format)
    return y.is_contiguous(memory_format=channels_last if layout == "nhwc" else torch.contiguous_format)


def random_map(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def tensor(values: object) -> Tensor:
    """A map of the worked examples as (1, 1, ...) in float64."""
    return torch.tensor(values, dtype=torch.float64)[None, None]


def near(got: Tensor, want: Sequence[float], tolerance: float = 1e-8) -> None:
    """Hold a result to a worked example, printed to eight places."""
    want_tensor = torch.tensor(want, dtype=torch.float64)
    error = (got.detach().double().flatten() - want_tensor).abs().max().item()
    assert error <= tolerance, f"off by {error:.3g}: got {got.flatten().tolist()}, want {list(want)}"
