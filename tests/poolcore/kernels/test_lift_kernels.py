"""LiftPool's kernels: values against the loops in float64, gradients against autograd over the reference in float64."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from poolcore.kernels import blocks
from poolcore.kernels import lift as kernels
from poolcore.lift_filters import WAVELETS, FilterParts, PaddingMode, apply_filter
from poolcore.lifting import Combine, lift_down, lift_up, merge, split
from tests.poolcore import truth
from tests.poolcore.cases import DTYPES, LAYOUTS, assert_close, keeps_format, pairs, random_map, same_bits
from tests.poolcore.kernels.launches import count_launches

SIZES = {
    "1": (1,), "2": (2,), "7": (7,), "8": (8,), "21": (21,), "37": (37,),
    "1x1": (1, 1), "2x7": (2, 7), "3x1": (3, 1), "7x6": (7, 6), "8x8": (8, 8), "18x3": (18, 3), "13x17": (13, 17),
    "31x33": (31, 33), "3x40": (3, 40),
}  # fmt: skip
BATCHES = {"n1c1": (1, 1), "n3c3": (3, 3), "n1c67": (1, 67), "n0c3": (0, 3)}
FILTERS = ("k1", "k3", "k5", "k7", "haar", "cdf53")
MODES = ("replicate", "zeros")
COMBINES = ("all", "sum", "mean", "low")
# Channels x lines of a program, segments of four places; few lines and channels as well as many of both.
TILES = {"1x64": (1, 64), "4x16": (4, 16), "64x4": (64, 4), "32x32": (32, 32)}
SEGMENT = 4


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    names = {"lift_kernel": "pair", "lift_image_kernel": "image", "lift_backward_kernel": "backward"}
    return count_launches(monkeypatch, kernels, {name: lambda _, label=label: label for name, label in names.items()})


def use_tile(monkeypatch: pytest.MonkeyPatch, tile: str) -> None:
    block = kernels.Block(*TILES[tile], SEGMENT, 4)
    monkeypatch.setattr(kernels, "choose_block", lambda *_: block)


def make_filters(name: str, channels: int, dtype: torch.dtype, seed: int = 10) -> tuple[FilterParts, FilterParts]:
    """P and U, in fp32 where half precision is pooled."""
    dtype = torch.promote_types(dtype, torch.float32)
    if name in WAVELETS:
        predict, update = (FilterParts(torch.tensor([taps], dtype=dtype)) for taps in WAVELETS[name])
        return predict, update
    taps = int(name[1:])

    def part(seed: int) -> FilterParts:
        others = (random_map(seed + i, channels, dtype=dtype) for i in range(3))
        return FilterParts(random_map(seed + 3, channels, taps, dtype=dtype) / taps**0.5, *others)

    return part(seed), part(seed + 5)


def numbers(predict: FilterParts, update: FilterParts) -> list[Tensor]:
    return [part for part in (*predict, *update) if part is not None]


def mapped(parts: FilterParts, leaves: Sequence[Tensor]) -> FilterParts:
    """The filter with other numbers in the place of its own."""
    return FilterParts(*leaves[: len([part for part in parts if part is not None])])


def on(device: torch.device, parts: FilterParts) -> FilterParts:
    return FilterParts(*(None if part is None else part.to(device) for part in parts))


def combine_of(name: str, rank: int) -> Combine | None:
    return {"all": None, "sum": "sum", "mean": "mean", "low": "low" if rank == 1 else "ll"}[name]  # type: ignore[return-value]


class Bound:
    """What bounds the sums in P or U: all numbers positive, the rectifier and the tanh passed over."""

    def __init__(self, parts: FilterParts, mode: PaddingMode, sign: float) -> None:
        self.parts, self.mode, self.sign = parts, mode, sign

    def __call__(self, x: Tensor, axis: int) -> Tensor:
        y = apply_filter(FilterParts(self.parts.weight), self.mode, x, axis)
        if self.parts.bias is not None:
            bias, scale, shift = (part.view(-1, *[1] * (x.dim() - 2)) for part in self.parts[1:])
            # A tanh is rounded to an ulp of 1.
            y = (y + bias) * scale + shift + 1
        return self.sign * y


def gradients(outputs: Sequence[Tensor], leaves: Sequence[Tensor], grads: Sequence[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(outputs, leaves, grads, allow_unused=True)
    return [torch.zeros_like(leaf) if one is None else one for leaf, one in zip(leaves, found, strict=True)]


def loops(x: Tensor, name: str, predict: FilterParts, update: FilterParts, mode: str) -> Tensor:
    """All bands of a batch by the loops, (bands, N, C, ...)."""

    def filters(channel: int) -> tuple[truth.Filter, truth.Filter]:
        if name in WAVELETS:
            return getattr(truth, name)()
        both = ([part[channel].tolist() for part in one if part is not None] for one in (predict, update))
        p, u = (truth.learned(*one, replicate=mode == "replicate") for one in both)
        return p, u

    lift = truth.lift1d if x.dim() == 3 else truth.lift
    bands = [[list(lift(image.tolist(), *filters(c)).values()) for c, image in enumerate(batch)] for batch in x]
    return torch.tensor(bands, dtype=torch.float64).movedim(2, 0)


def combined(bands: Tensor, combine: str) -> Tensor:
    by_name = {"all": bands, "sum": bands.sum(0), "mean": bands.mean(0), "low": bands[0]}
    return by_name[combine]


def legal(case: tuple[str, ...], most_pixels: int, most_programs: int) -> bool:
    """Whether the filters know the padding, and the interpreter has not too much to do."""
    size, name, mode, batch, tile = case[:5]
    if name in WAVELETS and mode != "replicate":
        return False
    (n, c), spatial = BATCHES[batch], SIZES[size]
    places = n * math.prod((side + 1) // 2 for side in spatial)
    c_block, line_block = TILES[tile][:2]
    programs = -(-c // c_block) * -(-places // line_block)
    return n * c * math.prod(spatial) <= most_pixels and programs <= most_programs


VALUE_SIZES = ("1", "2", "7", "8", "37", "1x1", "2x7", "8x8", "13x17", "31x33", "3x40")
VALUE_AXES = (VALUE_SIZES, FILTERS, MODES, tuple(BATCHES), tuple(TILES), tuple(DTYPES), tuple(LAYOUTS), COMBINES)
VALUE_CASES = ["-".join(case) for case in pairs(VALUE_AXES, lambda case: legal(case, 2200, 24))]


@pytest.mark.parametrize("case", VALUE_CASES)
def test_values(case: str, device: torch.device, launches: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    size, name, mode, batch, tile, dtype_name, layout, combine = case.split("-")
    dtype, rank = DTYPES[dtype_name], len(SIZES[size])
    use_tile(monkeypatch, tile)
    shape = (*BATCHES[batch], *SIZES[size])
    x = LAYOUTS[layout](random_map(1, *shape, dtype=dtype)).to(device)
    before = x.clone()
    predict, update = make_filters(name, shape[1], dtype)
    y = kernels.lift_down(x, on(device, predict), on(device, update), mode, combine_of(combine, rank))
    assert same_bits(x, before)
    assert y.dtype == dtype
    assert launches == ({"pair" if rank == 1 else "image": 1} if shape[0] else {})
    bands = loops(x.double().cpu(), name, predict, update, mode) if shape[0] else torch.zeros(y.shape)
    want = combined(bands, combine) if shape[0] else y.double().cpu()
    absolute = [FilterParts(*(part.double().abs() for part in one if part is not None)) for one in (predict, update)]
    p, u = Bound(absolute[0], mode, -1), Bound(absolute[1], mode, 1)
    scales = split(x.double().cpu().abs(), p, u, combine_of(combine, rank)) if shape[0] else (want,)
    assert_close(y.cpu(), want, torch.stack(scales) if combine == "all" else scales[0], 8, case)


GRADIENT_SIZES = ("1", "7", "8", "21", "1x1", "2x7", "7x6", "18x3")
GRADIENT_AXES = (
    GRADIENT_SIZES, ("k1", "k3", "k5", "cdf53"), MODES, tuple(BATCHES), tuple(TILES), tuple(DTYPES), tuple(LAYOUTS),
    COMBINES, ("random", "ones", "nhwc"),
)  # fmt: skip
GRADIENT_CASES = ["-".join(case) for case in pairs(GRADIENT_AXES, lambda case: legal(case, 600, 2))]
GRADIENT_CASES += [
    "8-k7-replicate-n3c3-4x16-fp64-inside-all-random",
    "7-k7-zeros-n1c1-1x64-fp32-nchw-mean-random",
    "1-k7-replicate-n1c1-1x64-fp64-nchw-low-random",
    "3x1-haar-replicate-n3c3-4x16-fp64-nhwc-sum-random",
]


def upstream(kind: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    if kind == "ones":
        return torch.ones((), dtype=dtype).expand(tuple(shape))
    grad = random_map(3, *shape, dtype=dtype)
    return grad.movedim(-3, -1).contiguous().movedim(-1, -3) if kind == "nhwc" and len(shape) > 3 else grad


@pytest.mark.parametrize("case", GRADIENT_CASES)
def test_gradients(case: str, device: torch.device, launches: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    size, name, mode, batch, tile, dtype_name, layout, combine_name, kind = case.split("-")
    dtype, rank = DTYPES[dtype_name], len(SIZES[size])
    combine = combine_of(combine_name, rank)
    use_tile(monkeypatch, tile)
    shape = (*BATCHES[batch], *SIZES[size])
    x = LAYOUTS[layout](random_map(1, *shape, dtype=dtype))
    predict, update = make_filters(name, shape[1], dtype)
    parts = numbers(predict, update)

    leaves = [one.detach().double().requires_grad_() for one in (x, *parts)]
    half = len(parts) // 2
    p, u = mapped(predict, leaves[1 : 1 + half]), mapped(update, leaves[1 + half :])
    wanted = lift_down(leaves[0], p, u, mode, combine) if shape[0] else ()
    stacked_shape = (2**rank, *shape[:2]) if combine is None else shape[:2]
    grad = upstream(kind, (*stacked_shape, *((n + 1) // 2 for n in SIZES[size])), dtype)
    grads = [one.double() for one in (grad if combine is None else [grad])]

    got_x, got_parts = kernels.lift_down_backward(
        grad.to(device), x.to(device), on(device, predict), on(device, update), mode, combine, True, True
    )
    assert got_x is not None
    assert got_parts is not None
    if not shape[0]:
        assert not launches
        assert got_x.shape == shape
        assert all(not one.any() for one in got_parts)
        return
    assert launches == ({"backward": 1} if rank == 1 else {"pair": 1, "backward": 3})
    want = gradients(wanted, leaves, grads)

    positive = [leaf.detach().abs().requires_grad_() for leaf in leaves]
    bounds = (
        Bound(mapped(predict, positive[1 : 1 + half]), mode, -1),
        Bound(mapped(update, positive[1 + half :]), mode, 1),
    )
    scales = gradients(split(positive[0], *bounds, combine), positive, [one.abs() for one in grads])
    labels = ["x", *(f"number {i}" for i in range(len(parts)))]
    for label, got, like, right, scale in zip(labels, [got_x, *got_parts], [x, *parts], want, scales, strict=True):
        assert got.dtype == like.dtype
        assert_close(got.cpu(), right, scale, 32, f"gradient of {label} in {case}")


UP_AXES = (
    ("1", "8", "21", "1x1", "2x7", "7x6"), ("k1", "k3", "k5", "cdf53"), MODES, tuple(BATCHES), tuple(TILES),
    tuple(DTYPES), tuple(LAYOUTS),
)  # fmt: skip
UP_CASES = ["-".join(case) for case in pairs(UP_AXES, lambda case: legal(case, 600, 2))]


@pytest.mark.parametrize("case", UP_CASES)
def test_synthesis(case: str, device: torch.device, launches: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients of `lift_up`, of bands that need not be any image's."""
    size_name, name, mode, batch, tile, dtype_name, layout = case.split("-")
    dtype, size = DTYPES[dtype_name], SIZES[size_name]
    use_tile(monkeypatch, tile)
    shape = (*BATCHES[batch], *((n + 1) // 2 for n in size))
    bands = [LAYOUTS[layout](random_map(i, *shape, dtype=dtype)) for i in range(2 ** len(size))]
    predict, update = make_filters(name, shape[1], dtype)
    parts = numbers(predict, update)
    on_device = [band.to(device) for band in bands]
    filters = on(device, predict), on(device, update)
    x = kernels.lift_up(on_device, size, *filters, mode)
    assert x.dtype == dtype
    assert x.shape == (*shape[:2], *size)
    assert launches == ({} if not shape[0] else {"pair": 1} if len(size) == 1 else {"pair": 3})
    launches.clear()
    grad = random_map(9, *x.shape, dtype=dtype)
    got_bands, got_parts = kernels.lift_up_backward(grad.to(device), on_device, size, *filters, mode, True, True)
    assert got_bands is not None
    assert got_parts is not None
    if not shape[0]:
        assert not launches
        return
    assert launches == ({"backward": 1} if len(size) == 1 else {"pair": 2, "backward": 3})

    leaves = [one.detach().double().requires_grad_() for one in (*bands, *parts)]
    own, half = leaves[len(bands) :], len(parts) // 2
    wanted = lift_up(leaves[: len(bands)], size, mapped(predict, own[:half]), mapped(update, own[half:]), mode)
    want = gradients([wanted], leaves, [grad.double()])
    positive = [leaf.detach().abs().requires_grad_() for leaf in leaves]
    own = positive[len(bands) :]
    bounds = Bound(mapped(predict, own[:half]), mode, 1), Bound(mapped(update, own[half:]), mode, -1)
    scale = merge(positive[: len(bands)], size, *bounds)
    assert_close(x.cpu(), wanted.detach(), scale.detach(), 8, case)
    scales = gradients([scale], positive, [grad.double().abs()])
    labels = [*(f"band {i}" for i in range(len(bands))), *(f"number {i}" for i in range(len(parts)))]
    for label, got, right, bound in zip(labels, [*got_bands, *got_parts], want, scales, strict=True):
        assert_close(got.cpu(), right, bound, 32, f"gradient of {label} in {case}")


@pytest.mark.parametrize("size", [(7,), (8,), (5, 6), (7, 3), (1, 1)])
@pytest.mark.parametrize("name", ["k5", "haar", "cdf53"])
def test_synthesis_undoes_analysis(name: str, size: tuple[int, ...], device: torch.device) -> None:
    """With the tiles that are used outside of tests."""
    x = random_map(1, 2, 1, *size).to(device)
    filters = [on(device, part) for part in make_filters(name, 1, x.dtype)]
    bands = kernels.lift_down(x, *filters, "replicate", None)
    again = kernels.lift_up(list(bands), size, *filters, "replicate")
    assert (again - x).abs().max() < 1e-14


def test_worked_example(device: torch.device) -> None:
    """The learned K = 5 case of the papers' notes, with zeros beyond the ends."""
    x = torch.tensor(truth.X, dtype=torch.float64, device=device)[None, None]

    def part(taps: Sequence[float], *others: float) -> FilterParts:
        values = [taps], *([one] for one in others)
        return FilterParts(*(torch.tensor(value, dtype=x.dtype, device=device) for value in values))

    filters = part([0.1, -0.2, 0.7, 0.3, 0.1], 0.05, 0.8, -0.1), part([-0.1, 0.2, 0.4, 0.2, -0.1], 0.0, 0.5, 0.1)
    y = kernels.lift_down(x, *filters, "zeros", "sum").flatten().tolist()
    assert y == pytest.approx([9.90705038, 3.17500982, 1.68993465, 4.80968862], abs=1e-8)


@pytest.mark.parametrize("rank", [1, 2])
def test_only_what_is_needed_is_computed(rank: int, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tile(monkeypatch, "4x16")
    size = (4, 3)[:rank]
    x = random_map(1, 1, 2, *size).to(device)
    filters = [on(device, part) for part in make_filters("k3" if rank == 1 else "k1", 2, x.dtype)]
    bands = list(kernels.lift_down(x, *filters, "replicate", None))
    grad = random_map(2, *bands[0].shape).to(device)
    backward = {
        "down": lambda *needs: kernels.lift_down_backward(grad, x, *filters, "replicate", "mean", *needs),
        "up": lambda *needs: kernels.lift_up_backward(x, bands, size, *filters, "replicate", *needs),
    }
    for run in backward.values():
        inputs, parts = run(True, True)
        only_inputs, no_parts = run(True, False)
        no_inputs, only_parts = run(False, True)
        assert no_parts is None
        assert no_inputs is None
        assert run(False, False) == (None, None)
        as_list = [inputs, only_inputs] if isinstance(inputs, Tensor) else [*inputs, *only_inputs]
        count = len(as_list) // 2
        for a, b in zip([*as_list[:count], *parts], [*as_list[count:], *only_parts], strict=True):
            assert same_bits(a, b)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_memory_format_follows_the_input(layout: str, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tile(monkeypatch, "4x16")
    x = LAYOUTS[layout](random_map(1, 2, 3, 6, 4)).to(device)
    filters = [on(device, part) for part in make_filters("k1", 3, x.dtype)]
    bands = kernels.lift_down(x, *filters, "replicate", None)
    pooled = kernels.lift_down(x, *filters, "replicate", "sum")
    again = kernels.lift_up(list(bands), (6, 4), *filters, "replicate")
    grad_x, _ = kernels.lift_down_backward(bands, x, *filters, "replicate", None, True, False)
    grads, _ = kernels.lift_up_backward(x, list(bands), (6, 4), *filters, "replicate", True, False)
    assert all(keeps_format(one, layout) for one in (*bands, pooled, again, grad_x, *(grads or ())))


@pytest.mark.parametrize(("size", "name"), [((9,), "k3"), ((3, 5), "k1")])
def test_two_runs_and_one_image_alone_give_the_same_bits(
    size: tuple[int, ...], name: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tile(monkeypatch, "64x4")
    x = random_map(1, 2, 2, *size, dtype=torch.bfloat16).to(device)
    filters = [on(device, part) for part in make_filters(name, 2, x.dtype)]
    y = kernels.lift_down(x, *filters, "replicate", "mean")
    grad_x, parts = kernels.lift_down_backward(y, x, *filters, "replicate", "mean", True, True)
    assert same_bits(kernels.lift_down(x[1:], *filters, "replicate", "mean"), y[1:])
    alone, _ = kernels.lift_down_backward(y[1:], x[1:], *filters, "replicate", "mean", True, True)
    assert same_bits(alone, grad_x[1:])
    again, parts_again = kernels.lift_down_backward(y, x, *filters, "replicate", "mean", True, True)
    assert all(same_bits(a, b) for a, b in zip([again, *parts_again], [grad_x, *parts], strict=True))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_nothing_outside_the_results_is_written(
    layout: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    margin, fields = 64, []

    def guarded(x: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
        field = torch.full((math.prod(shape) + 2 * margin,), 42.0, dtype=dtype or x.dtype, device=device)
        fields.append(field)
        inner = field[margin:-margin].fill_(math.nan)
        if layout == "nchw":
            return inner.view(*shape)
        return inner.view(shape[0], *shape[2:], shape[1]).movedim(-1, 1)

    use_tile(monkeypatch, "32x32")
    monkeypatch.setattr(kernels, "new_empty", guarded)
    x = LAYOUTS[layout](random_map(1, 1, 3, 5, 3, dtype=torch.float32)).to(device)
    filters = [on(device, part) for part in make_filters("cdf53", 3, x.dtype)]
    bands = kernels.lift_down(x, *filters, "replicate", None)
    again = kernels.lift_up(list(bands), (5, 3), *filters, "replicate")
    grad_x, _ = kernels.lift_down_backward(bands, x, *filters, "replicate", None, True, True)
    grads, _ = kernels.lift_up_backward(x, list(bands), (5, 3), *filters, "replicate", True, True)
    assert not any(one.isnan().any() for one in (bands, again, grad_x, *grads))
    assert len(fields) > 8
    for field in fields:
        assert (field[:margin] == 42).all()
        assert (field[-margin:] == 42).all()


def test_nan_spreads_as_far_as_the_filters_reach(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A NaN pixel is not swallowed by the rectifier, nor by what lies beyond an end."""
    use_tile(monkeypatch, "1x64")
    for at in ((0, 0), (5, 9), (11, 15)):
        x = random_map(1, 1, 1, 12, 16)
        x[0, 0, at[0], at[1]] = math.nan
        filters = make_filters("k3", 1, x.dtype)
        y = kernels.lift_down(x.to(device), *(on(device, part) for part in filters), "replicate", None)
        want = torch.stack(lift_down(x, *filters, "replicate", None))
        assert torch.equal(y.cpu().isnan(), want.isnan())
        assert want.isnan().any()


def test_tiles_are_of_a_power_of_two_and_hold_the_channels() -> None:
    for channels, dtype in itertools.product((1, 2, 3, 16, 17, 48, 67, 512), (torch.bfloat16, torch.float64)):
        for layout in ("nchw", "nhwc"):
            x = torch.empty(2, channels, 4, 4, dtype=dtype)
            x = x.to(memory_format=torch.channels_last) if layout == "nhwc" else x
            for kernel, length in itertools.product(("pair_w", "image", "backward_h"), (1, 9, 1000)):
                block = kernels.pick_block(kernel, x, length, 5)
                assert all(value & (value - 1) == 0 for value in block)
                assert block.channels <= 64
                assert (block.channels > 1) == (layout == "nhwc" and channels > 1)
    assert kernels.pick_block("pair_h", torch.empty(1, 4, 4, 48).movedim(-1, 1), 8, 5).channels == 16


@pytest.mark.parametrize(("layout", "tiles"), [("nchw", ("1-16", "1-64")), ("nhwc", ("1-16", "2-32"))])
def test_rows_of_a_table_are_followed_and_change_no_bits(
    layout: str, tiles: tuple[str, str], device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole numbers and the wavelet's halves and quarters are added exactly, so that no order of a sum shows."""

    def label(flags: dict[str, object]) -> str:
        return "-".join(str(flags[key]) for key in ("BLOCK_C", "BLOCK_L", "SEGMENT", "num_warps") if key in flags)

    names = ("lift_kernel", "lift_image_kernel", "lift_backward_kernel")
    launches = count_launches(monkeypatch, kernels, dict.fromkeys(names, label))
    x = LAYOUTS[layout](torch.round(4 * random_map(1, 1, 2, 9, 2))).to(device)
    filters = [on(device, part) for part in make_filters("cdf53", 2, x.dtype)]
    results = []
    for tile, row, segment in zip(tiles, ((16, 1, 2), (64, 64, 1)), (4, 8), strict=True):
        table = {f"lift_{kernel}3-float64-{layout}": row for kernel in ("pair_w", "pair_h")}
        for kernel in ("image", "backward_w", "backward_h"):
            table[f"lift_{kernel}3-float64-{layout}"] = (*row, segment)
        monkeypatch.setattr(blocks, "find_row", lambda name, *_, table=table: table[name])
        launches.clear()
        bands = kernels.lift_down(x, *filters, "replicate", None)
        again = kernels.lift_up(list(bands), (9, 2), *filters, "replicate")
        grad_x, parts = kernels.lift_down_backward(bands, x, *filters, "replicate", None, True, True)
        assert launches == {f"{tile}-{row[-1]}": 4, f"{tile}-{segment}-{row[-1]}": 4}
        results.append([bands, again, grad_x, *(parts or ())])
    assert all(same_bits(a, b) for a, b in zip(*results, strict=True))
