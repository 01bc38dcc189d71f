"""The weighted family's kernels against its formula in float64."""

import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from poolcore.kernels import blocks
from poolcore.kernels import weighted as kernels
from poolcore.weighted import weighted_pool_reference
from poolcore.window import Window, make_window
from tests.poolcore.cases import DTYPES, assert_close, pairs, random_map, same_bits
from tests.poolcore.kernels.launches import count_launches

TILE = 1024  # places of a program

# Name -> kernel_size, stride, padding; a number stands for all axes of the rank.
WINDOWS = {
    "k1": (1, 1, 0),
    "k2s2": (2, 2, 0),
    "k3s2p1": (3, 2, 1),
    "k3s1p1": (3, 1, 1),
    "k5s3p2": (5, 3, 2),
    "k7s2p3": (7, 2, 3),
    "k2s3": (2, 3, 0),
    "k2s3p1": (2, 3, 1),
    "uneven": ((1, 2, 3), (2, 1, 2), (0, 0, 1)),
}
SIZES = {
    1: ((1,), (2,), (7,), (13,), (33,), (300,)),
    2: ((1, 1), (2, 7), (8, 8), (13, 17), (31, 33), (1, 13), (7, 2), (3, 65)),
    3: ((1, 1, 1), (2, 3, 2), (4, 4, 4), (5, 6, 7), (3, 9, 4)),
}
BATCHES = {"n1c1": (1, 1), "n3c3": (3, 3), "n1c67": (1, 67), "n0c3": (0, 3), "n1c130": (1, 130)}


def window_of(name: str, rank: int, ceil_mode: bool = False) -> Window:
    values = (v[-rank:] if isinstance(v, tuple) else (v,) * rank for v in WINDOWS[name])
    return make_window(*values, ceil_mode=ceil_mode, rank=rank)


def _field(x: Tensor) -> Tensor:
    """A view into a larger field of NaN that holds the values of ``x`` in their order."""
    return torch.full((x.numel() + 64,), math.nan, dtype=x.dtype, device=x.device)[32 : 32 + x.numel()].view(x.shape)


def _channels_last(x: Tensor) -> Tensor:
    return _field(x.movedim(1, -1).contiguous()).movedim(-1, 1).copy_(x)


def _transposed(x: Tensor) -> Tensor:
    return _field(x.transpose(1, -1).contiguous()).transpose(1, -1).copy_(x)


def _every_second(x: Tensor) -> Tensor:
    return _field(x.repeat_interleave(2, 2))[:, :, ::2].fill_(math.nan).copy_(x)


def _inside(x: Tensor) -> Tensor:
    wide = F.pad(x, (2, 3) * (x.dim() - 2), value=math.nan)
    return wide[(slice(None), slice(None), *[slice(2, -3)] * (x.dim() - 2))]


def _expanded(x: Tensor) -> Tensor:
    return x[:, :1].contiguous().expand(x.shape)


LAYOUTS = {
    "contiguous": lambda x: _field(x).copy_(x),
    "channels_last": _channels_last,
    "transposed": _transposed,
    "second": _every_second,
    "inside": _inside,
    "expanded": _expanded,
}


class Pooled(NamedTuple):
    """A pooling with its gradients, and the same sums with absolute values."""

    y: Tensor
    grad_x: Tensor
    grad_logit: Tensor
    y_scale: Tensor
    grad_x_scale: Tensor
    grad_logit_scale: Tensor


def formula(x: Tensor, logit: Tensor, window: Window, grad: Tensor) -> Pooled:
    """The equations in float64, window cell by window cell; nothing of the kernels' way to compute them."""
    size = x.shape[2:]
    x, logit, grad = x.double().cpu(), logit.double().cpu(), grad.double().cpu()
    margins = window.margins(size)
    cells = list(window.cells(size))
    padded, logits = F.pad(x, margins), F.pad(logit, margins, value=-math.inf)
    pixels = torch.stack([padded[cell] for cell in cells])
    levels = torch.stack([logits[cell] for cell in cells])
    weights = torch.softmax(levels, 0)
    # A difference of logits is rounded too, which changes a weight by as many parts as it is large.
    gap = levels.amax(0) - levels
    doubted = weights * (1 + torch.where(gap.isfinite(), gap, 0))
    y, y_scale = (weights * pixels).sum(0), (doubted * pixels.abs()).sum(0)

    def spread(values: Tensor) -> Tensor:
        total = torch.zeros_like(padded)
        for cell, value in zip(cells, values, strict=True):
            total[cell] += value
        inside = [slice(b, b + n) for b, n in zip(margins[::2][::-1], size, strict=True)]
        return total[(slice(None), slice(None), *inside)]

    return Pooled(
        y,
        spread(grad * weights),
        spread(grad * weights * (pixels - y)),
        y_scale,
        spread(grad.abs() * doubted),
        spread(grad.abs() * doubted * (pixels.abs() + y_scale)),
    )


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    def way(flags: dict[str, object]) -> str:
        return "unrolled" if flags["UNROLLED"] else "looped"

    return count_launches(
        monkeypatch,
        kernels,
        {
            "weighted_forward_kernel": lambda flags: f"sums-{way(flags)}" if flags["SUMS_ONLY"] else way(flags),
            "weighted_backward_kernel": lambda flags: f"back-{way(flags)}",
        },
    )


def reach_of(window: Window) -> list[int]:
    return [-(-k // s) for k, s in zip(window.kernel_size, window.stride, strict=True)]


def legal(case: tuple[str, ...]) -> bool:
    rank, window, size, batch, *_ = case
    spatial = SIZES[int(rank)][int(size)] if int(size) < len(SIZES[int(rank)]) else None
    if spatial is None:
        return False
    geometry = window_of(window, int(rank))
    fits = all(n + 2 * p >= k for n, k, p in zip(spatial, geometry.kernel_size, geometry.padding, strict=True))
    n, c = BATCHES[batch]
    cells, reach = math.prod(geometry.kernel_size), math.prod(reach_of(geometry))
    # An interpreted program takes about a millisecond for each pixel that a window visits.
    programs = 1 + max(1, n) * c * math.prod(spatial) // math.prod(geometry.stride) // TILE
    return fits and programs * (cells * reach if cells * reach <= kernels.MOST_UNROLLED else 2 * cells + reach) < 120


AXES = (
    ("1", "2", "3"),
    tuple(WINDOWS),
    tuple(map(str, range(8))),
    tuple(BATCHES),
    tuple(DTYPES),
    tuple(LAYOUTS),
    ("ceil", "floor"),
    ("random", "ones", "nhwc"),
    ("soft", "lip"),
)
CASES = ["-".join(case) for case in pairs(AXES, legal)]


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(
    case: str, device: torch.device, launches: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rank_name, window_name, size, batch, dtype_name, layout, rounding, upstream, kind = case.split("-")
    rank, dtype = int(rank_name), DTYPES[dtype_name]
    monkeypatch.setattr(kernels, "_elements", lambda _visits: TILE)
    if upstream == "random":
        monkeypatch.setattr(kernels, "MARCHED_FROM", 0)
    window = window_of(window_name, rank, rounding == "ceil")
    shape = (*BATCHES[batch], *SIZES[rank][int(size)])
    x = LAYOUTS[layout](random_map(1, *shape, dtype=dtype).to(device))
    logit = LAYOUTS[layout](2 * random_map(2, *shape, dtype=dtype).to(device)) if kind == "lip" else None
    before = x.clone(), None if logit is None else logit.clone()

    y = kernels.weighted_pool(x, logit, window)
    assert y.dtype == dtype
    assert y.shape == (*shape[:2], *window.output_size(shape[2:]))
    if upstream == "ones":
        grad = torch.ones((), dtype=dtype, device=device).expand(y.shape)
    else:
        grad = random_map(3, *y.shape, dtype=dtype).to(device)
        grad = _channels_last(grad) if upstream == "nhwc" else grad
    grad_x, grad_logit = kernels.weighted_pool_backward(grad, x, logit, window)

    cells, reach = math.prod(window.kernel_size), math.prod(reach_of(window))
    limit = kernels.MOST_UNROLLED
    if not y.numel():
        assert not launches
    elif cells * reach <= limit:
        assert launches == {"unrolled": 1, "back-unrolled": 1}
    else:
        way = "unrolled" if cells <= limit else "looped"
        assert launches == {way: 1, f"sums-{way}": 1, "back-looped": 1}

    want = formula(x, x if logit is None else logit, window, grad)
    assert_close(y.cpu(), want.y, want.y_scale, 8, f"y of {case}")
    assert grad_x is not None
    if logit is None:
        assert grad_logit is None
        both, scale = want.grad_x + want.grad_logit, want.grad_x_scale + want.grad_logit_scale
        assert_close(grad_x.cpu(), both, scale, 32, f"grad_x of {case}")
    else:
        assert grad_logit is not None
        assert_close(grad_x.cpu(), want.grad_x, want.grad_x_scale, 32, f"grad_x of {case}")
        assert_close(grad_logit.cpu(), want.grad_logit, want.grad_logit_scale, 32, f"grad_logit of {case}")
        assert before[1] is not None
        assert same_bits(logit, before[1])
    assert same_bits(x, before[0])

    # As a second guard, at most twice the error of plain torch in the same dtype, or one unit in the last place.
    plain = weighted_pool_reference(x, x if logit is None else logit, window)
    if y.numel() and dtype != torch.float64:
        unit = torch.finfo(dtype).eps * want.y.abs().max()
        allowed = torch.maximum(2 * (plain.double().cpu() - want.y).abs().max(), unit)
        assert (y.double().cpu() - want.y).abs().max() <= allowed


def test_the_cases_reach_every_way_through_the_kernels() -> None:
    reached = set()
    for case in CASES:
        rank, window, *_, kind = case.split("-")
        geometry = window_of(window, int(rank))
        cells = math.prod(geometry.kernel_size)
        visits = cells * math.prod(reach_of(geometry))
        reached.add((kind, cells <= kernels.MOST_UNROLLED, visits <= kernels.MOST_UNROLLED))
    ways = ((True, True), (True, False), (False, False))
    assert reached == {(kind, *way) for kind in ("soft", "lip") for way in ways}


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_memory_format_follows_the_input(rank: int, layout: str, device: torch.device) -> None:
    x = LAYOUTS[layout](random_map(1, 2, 3, *(6,) * rank).to(device))
    window = make_window(2, rank=rank)
    y = kernels.weighted_pool(x, None, window)
    grad_x, _ = kernels.weighted_pool_backward(y, x, None, window)
    wanted = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim()) if layout == "channels_last" else None
    for result in (y, grad_x):
        assert result.is_contiguous(memory_format=wanted or torch.contiguous_format)


@pytest.mark.parametrize("window_name", ["k2s2", "k3s2p1", "k7s2p3"])
@pytest.mark.parametrize("needs", [(True, False), (False, True), (False, False)])
def test_only_needed_gradients(needs: tuple[bool, bool], window_name: str, device: torch.device) -> None:
    x, logit = (random_map(seed, 2, 3, 9, 8).to(device) for seed in (1, 2))
    window = window_of(window_name, 2)
    grad = random_map(3, *kernels.weighted_pool(x, logit, window).shape).to(device)
    all_of_them = kernels.weighted_pool_backward(grad, x, logit, window)
    some = kernels.weighted_pool_backward(grad, x, logit, window, needs)
    for got, want, needed in zip(some, all_of_them, needs, strict=True):
        assert (got is not None) == needed
        assert got is None or same_bits(got, want)


EXTREMES = {
    "large": [1e4, -1e4, 1.0, 0.0],
    "equal": [7.25, 7.25, 7.25, 7.25],
    "one-huge": [1e30, 1.0, -1.0, 0.5],
    "all-low": [-1e4, -1e4 - 1, -1e4 - 2, -1e4 + 1],
    "largest": [torch.finfo(torch.float32).max, torch.finfo(torch.float32).max, -torch.finfo(torch.float32).max, 3.0],
    "tiny": [1e-40, -1e-40, 2e-45, 0.0],
    "nan": [math.nan, 1.0, 2.0, 3.0],
    "inf": [math.inf, 1.0, 2.0, 3.0],
    "minus-inf": [-math.inf, 1.0, 2.0, 3.0],
}


@pytest.mark.parametrize("window_name", ["k2s2", "k3s2p1", "k7s2p3"])
@pytest.mark.parametrize("name", list(EXTREMES))
def test_extreme_pixels(name: str, window_name: str, device: torch.device) -> None:
    """Four extreme pixels among ordinary ones, as input and as logit: finite where the formula is, NaN where it is."""
    window = window_of(window_name, 2)
    x = random_map(4, 1, 2, 8, 8, dtype=torch.float32)
    x[0, 0, 4:6, 4:6] = torch.tensor(EXTREMES[name]).view(2, 2)
    ordinary = random_map(5, 1, 2, 8, 8, dtype=torch.float32)
    for pixels, logit in ((x, None), (ordinary, x), (x, ordinary)):
        want = weighted_pool_reference(pixels.double(), (pixels if logit is None else logit).double(), window)
        on_device = None if logit is None else logit.to(device)
        y = kernels.weighted_pool(pixels.to(device), on_device, window).cpu()
        assert torch.equal(y.isnan(), want.isnan())
        scale = torch.where(want.isnan(), 0, F.max_pool2d(pixels.double().nan_to_num().abs(), *window[:3]))
        gap = 1 + F.max_pool2d((pixels if logit is None else logit).double().nan_to_num(0, 0, 0).abs(), *window[:3])
        assert_close(y, want, scale * gap.clamp(max=1e9), 8, name)


@pytest.mark.parametrize("window_name", ["k2s2", "k3s2p1", "k7s2p3"])
@pytest.mark.parametrize("value", [-1e4, 1e4, torch.finfo(torch.float32).max / 4])
def test_gradients_stay_finite_at_extremes(value: float, window_name: str, device: torch.device) -> None:
    window = window_of(window_name, 2)
    x = random_map(4, 1, 1, 8, 8, dtype=torch.float32)
    x[0, 0, 4, 4], x[0, 0, 4, 5] = value, -value
    grad = torch.ones(1, 1, *window.output_size((8, 8)), device=device)
    for logit in (None, random_map(5, 1, 1, 8, 8, dtype=torch.float32), x):
        grads = kernels.weighted_pool_backward(grad, x.to(device), None if logit is None else logit.to(device), window)
        assert all(g.isfinite().all() for g in grads if g is not None)


def test_window_of_logits_of_minus_infinity_is_nan(device: torch.device) -> None:
    x, logit = (torch.zeros(1, 1, 2, 6, device=device) for _ in range(2))
    logit[..., :2], logit[..., 2] = -math.inf, -math.inf
    y = kernels.weighted_pool(x, logit, make_window(2)).flatten().tolist()
    assert math.isnan(y[0])
    assert y[1:] == [0, 0]


@pytest.mark.parametrize("case", ["k2s2", "k3s2p1", "k7s2p3"])
def test_two_runs_and_one_image_alone_give_the_same_bits(case: str, device: torch.device) -> None:
    window = window_of(case, 2)
    x, logit = (random_map(seed, 2, 3, 7, 9, dtype=torch.bfloat16).to(device) for seed in (1, 2))
    y = kernels.weighted_pool(x, logit, window)
    grad = random_map(3, *y.shape, dtype=torch.bfloat16).to(device)
    grads = kernels.weighted_pool_backward(grad, x, logit, window)
    for rows in (slice(None), slice(1, 2)):
        assert same_bits(kernels.weighted_pool(x[rows], logit[rows], window), y[rows])
        again = kernels.weighted_pool_backward(grad[rows], x[rows], logit[rows], window)
        assert all(same_bits(a, b[rows]) for a, b in zip(again, grads, strict=True))


@pytest.mark.parametrize("case", ["k2s2", "k3s2p1", "k7s2p3", "k2s3"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_nothing_outside_the_results_is_written(
    case: str, layout: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    margin = 256
    fields = []

    def guarded(x: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
        field = torch.full((math.prod(shape) + 2 * margin,), 42.0, dtype=dtype or x.dtype, device=device)
        fields.append(field)
        inner = field[margin:-margin]
        if layout == "contiguous":
            return inner.view(shape).fill_(math.nan)
        return inner.view(shape[0], *shape[2:], shape[1]).movedim(-1, 1).fill_(math.nan)

    monkeypatch.setattr(kernels, "new_empty", guarded)
    x = LAYOUTS[layout](random_map(1, 2, 3, 13, 9, dtype=torch.float32).to(device))
    window = window_of(case, 2)
    y = kernels.weighted_pool(x, None, window)
    grad_x, _ = kernels.weighted_pool_backward(torch.ones_like(y), x, None, window)
    assert not y.isnan().any()
    assert not grad_x.isnan().any()
    for field in fields:
        assert (field[:margin] == 42).all()
        assert (field[-margin:] == 42).all()


@pytest.mark.parametrize("case", ["k2s2", "k3s2p1", "k5s3p2"])
def test_rows_of_a_table_are_followed_and_change_no_bits(
    case: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = window_of(case, 2)
    x = random_map(1, 1, 1, 9, 11).to(device)
    names, results = ("weighted_forward_kernel", "weighted_backward_kernel"), []
    launches = count_launches(monkeypatch, kernels, dict.fromkeys(names, lambda flags: str(flags["BLOCK_INNER"])))
    for outer, inner in ((32, 2), (8, 4)):
        row = outer * inner, inner, 4
        monkeypatch.setattr(blocks, "find_row", lambda *_, row=row: row)
        y = kernels.weighted_pool(x, None, window)
        results.append((y, kernels.weighted_pool_backward(y, x, None, window)[0]))
        assert set(launches) == {str(inner)}
        launches.clear()
    for y, grad_x in results[1:]:
        assert same_bits(y, results[0][0])
        assert same_bits(grad_x, results[0][1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU the same is tried with real memory")
def test_offsets_beyond_32_bits(tmp_path: Path, device: torch.device) -> None:
    """Three images, the last of which begins beyond what an int32 counts, in a file that is all holes else."""
    apart = 2**30 + 24
    storage = torch.UntypedStorage.from_file(str(tmp_path / "sparse"), shared=True, nbytes=2 * (2 * apart + 64))
    x = torch.empty(0, dtype=torch.bfloat16).set_(storage, 0, (3, 1, 4, 6), (apart, 24, 6, 1))
    x.copy_(random_map(1, 3, 1, 4, 6, dtype=torch.bfloat16))
    window = make_window(3, 2, 1)
    y = kernels.weighted_pool(x, None, window)
    near = x.clone()
    assert same_bits(y, kernels.weighted_pool(near, None, window))
    grads = (kernels.weighted_pool_backward(y, image, None, window)[0] for image in (x, near))
    first, second = (grad for grad in grads if grad is not None)
    assert same_bits(first, second)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with 16 GiB free")
def test_more_than_two_to_the_31_elements() -> None:
    x = torch.randn(33, 64, 1024, 1024, dtype=torch.bfloat16, device="cuda")
    window = make_window(2)
    y = kernels.weighted_pool(x, None, window)
    assert same_bits(y[-1:], kernels.weighted_pool(x[-1:].clone(), None, window))
    grad_x, _ = kernels.weighted_pool_backward(y, x, None, window)
    assert grad_x is not None
    assert same_bits(grad_x[-1:], kernels.weighted_pool_backward(y[-1:], x[-1:].clone(), None, window)[0])


@pytest.mark.parametrize("limit", ["unrolled", "marched", "looped"])
def test_a_pixel_that_no_window_reads_spoils_no_gradient(
    limit: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window that would come next, were there room, reads it together with pixels of the last one."""
    monkeypatch.setattr(kernels, "MARCHED_FROM", 0 if limit == "marched" else math.inf)
    monkeypatch.setattr(kernels, "MOST_UNROLLED", 0 if limit == "looped" else 36)
    x = random_map(1, 1, 1, 6, 6, dtype=torch.float32).to(device)
    x[0, 0, 5, 5] = math.nan
    window = make_window(3, 2)
    grad_x, _ = kernels.weighted_pool_backward(torch.ones(1, 1, 2, 2, device=device), x, None, window)
    assert grad_x is not None
    assert grad_x.isfinite().all()
    assert not grad_x[0, 0, 5].any()
    assert not grad_x[0, 0, :, 5].any()
    assert grad_x[0, 0, 4, 4] != 0
