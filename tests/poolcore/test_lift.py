"""LiftPool: the worked examples, its inverse and losses, and the mistakes that public code made, one test each."""

import math
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import poolcore.blocks
import poolcore.lift
from poolcore import (
    Bands,
    Bands1d,
    LiftDownPool1d,
    LiftDownPool2d,
    LiftUpPool1d,
    LiftUpPool2d,
    lift_down_pool1d,
    lift_down_pool2d,
    lift_up_pool1d,
    lift_up_pool2d,
)
from poolcore.lift import LiftDownPool
from tests.poolcore import truth
from tests.poolcore.cases import (
    BATCHES,
    DTYPES,
    LAYOUTS,
    SIZES_OF_RANK,
    Case,
    assert_close,
    keeps_format,
    near,
    pairs,
    random_map,
    same_bits,
    tensor,
)
from tests.poolcore.truth import X1, X

# The learned worked example: taps, bias, scale, shift of P and of U.
P = ([0.1, -0.2, 0.7, 0.3, 0.1], 0.05, 0.8, -0.1)
U = ([-0.1, 0.2, 0.4, 0.2, -0.1], 0.0, 0.5, 0.1)

WAVELETS: list[Literal["haar", "cdf53"]] = ["haar", "cdf53"]


DOWN = {1: LiftDownPool1d, 2: LiftDownPool2d}
UP = {1: LiftUpPool1d, 2: LiftUpPool2d}


def worked_layer(combine: Literal["sum", "mean", "ll"] | None = None, rank: int = 2) -> LiftDownPool:
    layer = DOWN[rank](1, combine=combine, padding_mode="zeros").double()
    with torch.no_grad():
        for part, values in ((layer.predict, P), (layer.update, U)):
            for parameter, value in zip(part.parts, values, strict=True):
                parameter.copy_(torch.tensor([value], dtype=torch.float64))
    return layer


def random_layer(channels: int, kernel_size: int = 5, seed: int = 0, rank: int = 2, **options) -> LiftDownPool:
    layer = DOWN[rank](channels, kernel_size, **options).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.7, generator=generator)
    return layer


def loops(layer: LiftDownPool, channel: int) -> tuple[truth.Filter, truth.Filter]:
    replicate = layer.predict.padding_mode == "replicate"
    parts = [[part[channel].tolist() for part in half.parts] for half in (layer.predict, layer.update)]
    return truth.learned(*parts[0], replicate=replicate), truth.learned(*parts[1], replicate=replicate)


def magnitudes(layer: LiftDownPool, channel: int) -> tuple[truth.Filter, truth.Filter]:
    parts = [[part[channel].tolist() for part in half.parts] for half in (layer.predict, layer.update)]
    return truth.magnitude(*parts[0]), truth.magnitude(*parts[1])


def test_the_loops_hold_to_the_worked_lines() -> None:
    s, d = truth.lift_line(X1, *truth.haar())
    near(tensor([s, d]), [1.5, -0.5, 3.5, 1.5, 1, -1, 1, 1])
    s, d = truth.lift_line(X1, *truth.cdf53())
    near(tensor([s, d]), [1.75, -0.25, 2.875, 1.75, 1.5, -2.5, 2, 1])
    filters = truth.learned(*P, replicate=False), truth.learned(*U, replicate=False)
    s, d = truth.lift_line(X1, *filters)
    near(tensor(s), [1.09966799, 0.13673698, 3.59494393, 1.70450064])
    near(tensor(d), [1.37085484, -1.52266543, 3.04046599, 1.98000267])
    near(tensor(truth.unlift_line(s, d, *filters)), X1, 1e-14)


def test_worked_haar() -> None:
    bands = lift_down_pool2d(tensor(X), "haar")
    near(bands.ll, [2.5, 0.5, -0.125, 1.25])
    near(bands.lh, [2, 2, 1.25, -1.5])
    near(bands.hl, [1, 0, 1.75, 3])
    near(bands.hh, [0, 2, -1.5, 8])
    near(lift_down_pool2d(tensor(X), "haar", combine="sum"), [5.5, 4.5, 1.375, 10.75])
    near(lift_down_pool2d(tensor(X), "haar", combine="mean"), [1.375, 1.125, 0.34375, 2.6875])
    near(lift_down_pool2d(tensor(X), "haar", combine="ll"), [2.5, 0.5, -0.125, 1.25])


def test_worked_cdf53() -> None:
    bands = LiftDownPool2d(1, filters="cdf53")(tensor(X))
    near(bands.ll, [3.78125, 0.390625, -0.078125, 1.7109375])
    near(bands.lh, [4.0625, 0.53125, 3.125, -2.9375])
    near(bands.hl, [2.0625, 0, 1.09375, 1.5])
    near(bands.hh, [1.125, 2, 2.25, 8])
    near(lift_down_pool2d(tensor(X), "cdf53", combine="sum"), [11.03125, 2.921875, 6.390625, 8.2734375])


def test_worked_learned() -> None:
    bands = worked_layer()(tensor(X))
    near(bands.ll, [2.00660629, 0.19933599, -1.19906275, 2.86693974])
    near(bands.lh, [3.46852900, 1.08610984, 0.72267241, -3.12641733])
    near(bands.hl, [2.12216643, -0.19010667, 1.09640105, 1.35212341])
    near(bands.hh, [2.30974866, 2.07967066, 1.06992395, 3.71704279])
    near(worked_layer("sum")(tensor(X)), [9.90705038, 3.17500982, 1.68993465, 4.80968862])
    near(lift_up_pool2d(bands.ll, worked_layer().filters)[0, 0, 0], [1.80727030, 0.64105137, 0, -0.19933599])
    assert (LiftUpPool2d(worked_layer())(bands) - tensor(X)).abs().max() < 1e-15


def test_worked_sequences() -> None:
    x = tensor(X1)
    for filters, low, high in (
        ("haar", [1.5, -0.5, 3.5, 1.5], [1, -1, 1, 1]),
        ("cdf53", [1.75, -0.25, 2.875, 1.75], [1.5, -2.5, 2, 1]),
        (
            worked_layer(rank=1).filters,
            [1.09966799, 0.13673698, 3.59494393, 1.70450064],
            [1.37085484, -1.52266543, 3.04046599, 1.98000267],
        ),
    ):
        bands = lift_down_pool1d(x, filters)
        near(bands.low, low)
        near(bands.high, high)
        assert bands.size == (8,)
        near(lift_down_pool1d(x, filters, combine="sum"), [a + b for a, b in zip(low, high, strict=True)], 2e-8)
        near(lift_down_pool1d(x, filters, combine="mean"), [(a + b) / 2 for a, b in zip(low, high, strict=True)])
        near(lift_down_pool1d(x, filters, combine="low"), low)
        near(lift_up_pool1d(bands, filters), X1, 1e-14)


def test_an_untrained_layer_splits_pixels_and_its_mean_is_average_pooling() -> None:
    near(LiftDownPool2d(1, combine="sum").double()(tensor(X)), [10, 2, -0.5, 5])
    x = random_map(1, 2, 3, 8, 6)
    near(LiftDownPool2d(3, combine="mean").double()(x), F.avg_pool2d(x, 2).flatten().tolist(), 1e-14)
    line = x[..., 0]
    near(LiftDownPool1d(3, combine="mean").double()(line), F.avg_pool1d(line, 2).flatten().tolist(), 1e-14)


def cases(rank: int) -> list[str]:
    sizes = SIZES_OF_RANK[rank]

    def legal(case: Case) -> bool:
        return math.prod(BATCHES[case[0]]) * math.prod(sizes[case[1]]) < 5000

    axes = (
        BATCHES,
        sizes,
        DTYPES,
        LAYOUTS,
        ("k1", "k3", "k5", "k7"),
        ("replicate", "zeros"),
        ("sum", "mean", "low" if rank == 1 else "ll", "bands"),
        ("autocast", "plain"),
    )
    return [f"{rank}d-{'-'.join(case)}" for case in pairs([list(axis) for axis in axes], legal)]


NAMES = {1: ("low", "high"), 2: ("ll", "lh", "hl", "hh")}


@pytest.mark.parametrize("case", cases(1) + cases(2))
def test_values(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rank_name, batch, size, dtype_name, layout, taps, padding_mode, combine, cast = case.split("-")
    rank = int(rank_name[0])
    shape, dtype = (*BATCHES[batch], *SIZES_OF_RANK[rank][size]), DTYPES[dtype_name]
    monkeypatch.setattr(poolcore.blocks, "_BLOCK_ELEMENTS", max(1, math.prod(shape) // 2))
    options = {"combine": None if combine == "bands" else combine, "padding_mode": padding_mode}
    layer = random_layer(shape[1], int(taps[1]), rank=rank, **options).to(dtype)
    x = LAYOUTS[layout](random_map(1, *shape, dtype=dtype))
    before = x.clone()
    with torch.no_grad(), torch.autocast("cpu", enabled=cast == "autocast"):
        out = layer(x)
    results = dict(zip(NAMES[rank], out[:-1], strict=True)) if combine == "bands" else {combine: out}
    assert same_bits(x, before)

    want: dict[str, list[truth.Map]] = {name: [] for name in results}
    scale: dict[str, list[truth.Map]] = {name: [] for name in results}
    lift = truth.lift1d if rank == 1 else truth.lift
    for n, c in ((n, c) for n in range(shape[0]) for c in range(shape[1])):
        bands = lift(x[n, c].tolist(), *loops(layer, c))
        sizes = lift(x[n, c].abs().tolist(), *magnitudes(layer, c), sign=1)
        for kind, found in ((want, bands), (scale, sizes)):
            every = truth.added(*found.values())
            found |= {"sum": every, "mean": truth.scaled(every, 1 / len(NAMES[rank]))}
            for name in results:
                kind[name].append(found[name])
    for name, result in results.items():
        assert result.dtype == dtype
        if rank == 2 and layout in ("nchw", "nhwc") and len(x):
            assert keeps_format(result, layout)
        assert_close(result, want[name], scale[name], 8, f"{name} of {case}")


GRADCHECK_SHAPES = {1: (2, 2, 7), 2: (2, 2, 3, 4)}


@pytest.mark.parametrize("block", [1, 2**19])
@pytest.mark.parametrize("padding_mode", ["replicate", "zeros"])
@pytest.mark.parametrize("rank", GRADCHECK_SHAPES)
def test_gradcheck(rank: int, padding_mode: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poolcore.blocks, "_BLOCK_ELEMENTS", block)
    layer = random_layer(2, 3, rank=rank, combine="mean", padding_mode=padding_mode)
    x = random_map(1, *GRADCHECK_SHAPES[rank]).requires_grad_()
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def call(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *parameters))


@pytest.mark.parametrize("rank", GRADCHECK_SHAPES)
def test_gradcheck_of_the_inverse(rank: int) -> None:
    layer, kind = random_layer(2, 3, rank=rank), {1: Bands1d, 2: Bands}[rank]
    size = GRADCHECK_SHAPES[rank][2:]
    bands = [random_map(seed, 2, 2, *(-(-n // 2) for n in size)).requires_grad_() for seed in range(2**rank)]
    up = UP[rank](layer)
    names, parameters = zip(*up.named_parameters(), strict=True)

    def call(*tensors: Tensor) -> Tensor:
        given = kind(*tensors[: len(bands)], size=size)
        return torch.func.functional_call(up, dict(zip(names, tensors[len(bands) :], strict=True)), (given,))

    assert torch.autograd.gradcheck(call, (*bands, *parameters))


def test_blocks_and_threads_change_no_more_than_roundings(monkeypatch: pytest.MonkeyPatch) -> None:
    # torch's sigmoid rounds differently where a vector of pixels does not fill up, so the bits are not the same.
    layer = random_layer(6, combine="mean").float()
    x = random_map(1, 5, 6, 13, 17, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    threads, whole = torch.get_num_threads(), layer(x).detach()
    assert same_bits(layer(x).detach(), whole)
    monkeypatch.setattr(poolcore.blocks, "_BLOCK_ELEMENTS", 1)
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert (layer(x).detach() - whole).abs().max() <= 8 * torch.finfo(torch.float32).eps * whole.abs().max()
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1), (1, 6), (5, 2), (31, 33), (1,), (2,), (7,), (65,)])
@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16", "bf16"])
@pytest.mark.parametrize("filters", ["learned", "haar", "cdf53"])
def test_the_inverse_is_exact_up_to_rounding(filters: str, dtype: str, size: tuple[int, ...]) -> None:
    rank = len(size)
    layer = DOWN[rank](3, filters=filters) if filters != "learned" else random_layer(3, rank=rank)
    layer = layer.to(DTYPES[dtype])
    x = random_map(1, 2, 3, *size, dtype=DTYPES[dtype])
    bands = layer(x)
    again = UP[rank](layer)(bands)
    assert bands.size == size
    assert bands[0].shape[2:] == tuple(-(-n // 2) for n in size)
    assert again.shape == x.shape
    assert again.dtype == x.dtype
    # Bands in half precision are rounded once each; what is rebuilt from them errs by some of their roundings.
    assert (again - x).abs().max() <= 32 * torch.finfo(DTYPES[dtype]).eps * max(1, x.abs().max())


def test_details_of_zero_upsample() -> None:
    ll = tensor([[1.0, 3.0], [5.0, 9.0]])
    near(lift_up_pool2d(ll, "haar"), ll.repeat_interleave(2, 2).repeat_interleave(2, 3).flatten().tolist())
    near(lift_up_pool2d(ll, "cdf53")[0, 0, 0], [1, 2, 3, 3])
    near(lift_up_pool2d(ll, "cdf53")[0, 0, 1], [3, 4.5, 6, 6])
    low = tensor([1.0, 3.0, 9.0])
    near(lift_up_pool1d(low, "haar"), [1, 1, 3, 3, 9, 9])
    near(LiftUpPool1d(LiftDownPool1d(1, filters="cdf53").double())(low[0]), [1, 2, 3, 6, 9, 9])


def test_unbatched_is_a_batch_of_one() -> None:
    x, layer = random_map(1, 3, 7, 8), random_layer(3)
    for one, batch in zip(layer(x)[:4], layer(x[None])[:4], strict=True):
        assert same_bits(one.detach(), batch[0].detach())
    near(LiftUpPool2d(layer)(layer(x)), x.flatten().tolist(), 1e-13)
    pooled = random_layer(3, combine="sum")
    near(pooled(x), pooled(x[None]).flatten().tolist(), 1e-13)
    line, layer = x[..., 0], random_layer(3, rank=1)
    for one, batch in zip(layer(line)[:2], layer(line[None])[:2], strict=True):
        assert same_bits(one.detach(), batch[0].detach())
    near(LiftUpPool1d(layer)(layer(line)), line.flatten().tolist(), 1e-13)


@pytest.mark.parametrize("filters", WAVELETS)
def test_columns_go_into_hl_and_rows_into_lh(filters: Literal["haar", "cdf53"]) -> None:
    columns = (torch.arange(8).double() % 2).expand(1, 1, 6, 8)
    for image, detail in ((columns, "hl"), (columns.transpose(2, 3), "lh")):
        energy = {
            name: band.square().sum().item()
            for name, band in zip(Bands._fields, image_bands(image, filters), strict=False)
        }
        assert energy[detail] > 1
        assert all(energy[name] == 0 for name in ("lh", "hl", "hh") if name != detail)


def image_bands(image: Tensor, filters: Literal["haar", "cdf53"]) -> tuple[Tensor, ...]:
    return lift_down_pool2d(image, filters)[:4]


def test_the_sum_of_bands_is_within_eight_of_the_sum_of_pixels() -> None:
    x = 100 * random_map(1, 2, 4, 8, 8)
    for seed in range(5):
        layer = random_layer(4, seed=seed, combine="sum")
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter *= 10
        assert (layer(x) - 4 * F.avg_pool2d(x, 2)).abs().max() < 8


def test_nan_spreads_along_its_row_and_column_alone() -> None:
    x = random_map(1, 1, 1, 32, 32)
    x[0, 0, 16, 16] = math.nan
    y = random_layer(1, combine="sum")(x)[0, 0]
    assert y[8, 8].isnan()
    assert not y[:4].isnan().any()
    assert not y[13:].isnan().any()
    assert not y[:, :4].isnan().any()
    assert not y[:, 13:].isnan().any()


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (
            lambda: LiftDownPool2d(3, combine="max"),
            ValueError,
            'combine must be None, "sum", "mean" or "ll", got \'max\'',
        ),
        (lambda: LiftDownPool2d(3, 4), ValueError, "must be an odd int of at least 1, got 4"),
        (lambda: LiftDownPool2d(3, -1), ValueError, "must be an odd int of at least 1, got -1"),
        (lambda: LiftDownPool2d(3, filters="db2"), ValueError, 'filters must be "learned", "haar" or "cdf53", got'),
        (lambda: LiftDownPool2d(3, padding_mode="reflect"), ValueError, 'padding_mode must be "replicate" or "zeros"'),
        (lambda: LiftDownPool2d(3)(torch.zeros(1, 4, 8, 8)), ValueError, "x must have 3 channels.* got 4"),
        (lambda: LiftDownPool2d(3)(torch.zeros(8, 8)), ValueError, r"x must have shape .* got \(8, 8\)"),
        (lambda: LiftDownPool2d(3)(torch.zeros(1, 3, 8, 8).int()), TypeError, "floating-point dtype, got torch.int32"),
        (lambda: LiftDownPool2d(3, combine="sum")("x"), TypeError, "x must be a torch.Tensor, got str"),
        (lambda: lift_down_pool2d(torch.zeros(1, 3, 8, 8), "db2"), ValueError, 'filters must be "haar", "cdf53" or a'),
        (lambda: lift_down_pool2d(torch.zeros(1, 3, 8, 8), None), ValueError, "pair of callables .* got None"),
        (
            lambda: lift_up_pool2d(Bands(*(torch.zeros(1, 3, 4, 4 + i // 3) for i in range(4)), size=(8, 8))),
            ValueError,
            "the bands must have one shape",
        ),
        (
            lambda: lift_up_pool2d(Bands(*(torch.zeros(1, 3, 4, 4) for _ in range(4)), size=(8, 6))),
            ValueError,
            r"size must be twice the bands' or one less, got size=\(8, 6\) for \(1, 3, 4, 4\)",
        ),
        (
            lambda: lift_up_pool1d(lift_down_pool2d(torch.zeros(1, 3, 8, 8))),
            TypeError,
            "bands must be Bands1d or the coarse band as a tensor, got Bands",
        ),
        (
            lambda: lift_up_pool2d(lift_down_pool1d(torch.zeros(1, 3, 8))),
            TypeError,
            "bands must be Bands or LL alone as a tensor, got Bands1d",
        ),
        (lambda: lift_up_pool1d(torch.zeros(8)), ValueError, r"low must have shape .* got \(8,\)"),
        (
            lambda: LiftDownPool1d(3, combine="ll"),
            ValueError,
            'combine must be None, "sum", "mean" or "low", got \'ll\'',
        ),
        (lambda: LiftDownPool1d(3, combine="sum")(torch.zeros(1, 4, 8)), ValueError, "x must have 3 channels.* got 4"),
        (lambda: LiftDownPool1d(3)(torch.zeros(1, 3, 8, 8)), ValueError, r"x must have shape \(N, C, L\) or \(C, L\)"),
        (lambda: LiftDownPool1d(3)(torch.zeros(1, 3, 0)), ValueError, r"x must have at least one pixel.* \(1, 3, 0\)"),
    ],
)
def test_errors_say_what_came_and_what_is_allowed(call, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        call()


def test_filters_of_ones_own() -> None:
    own = (lambda x, axis: x, lambda x, axis: x / 2)
    x = random_map(1, 1, 2, 6, 6)
    for got, want in zip(lift_down_pool2d(x, own)[:4], lift_down_pool2d(x, "haar")[:4], strict=True):
        near(got, want.flatten().tolist(), 1e-14)
    near(lift_up_pool2d(lift_down_pool2d(x, own), own), x.flatten().tolist(), 1e-14)
    line = x[..., 0]
    for got, want in zip(lift_down_pool1d(line, own)[:2], lift_down_pool1d(line, "haar")[:2], strict=True):
        near(got, want.flatten().tolist(), 1e-14)
    near(lift_up_pool1d(lift_down_pool1d(line, own), own), line.flatten().tolist(), 1e-14)


def test_every_built_in_filter_goes_through_one_function_and_a_callers_own_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[str] = []

    def recorded(name: str):
        function = getattr(poolcore.lift, name)
        return lambda *args: (taken.append(name), function(*args))[1]

    for name in ("lift_down", "lift_up"):
        monkeypatch.setattr(poolcore.lift, name, recorded(name))
    x = random_map(1, 1, 2, 6, 6)
    for down in (random_layer(2), LiftDownPool2d(2, filters="haar"), LiftDownPool2d(2, filters="cdf53")):
        LiftUpPool2d(down)(down(x))
    lift_up_pool1d(lift_down_pool1d(x[0], "cdf53"), "cdf53")
    random_layer(2, combine="sum")(x)
    assert taken == ["lift_down", "lift_up"] * 4 + ["lift_down"]
    own = (lambda x, axis: x, random_layer(2).update)
    # An operator takes one number of taps and one padding for P and U.
    shorter, padded = random_layer(2, 3), random_layer(2, padding_mode="zeros")
    for mixed in (own, (shorter.predict, random_layer(2).update), (padded.predict, random_layer(2).update)):
        near(lift_up_pool2d(lift_down_pool2d(x, mixed), mixed), x.flatten().tolist(), 1e-13)
    assert len(taken) == 9


def test_parameters_are_as_many_as_documented() -> None:
    layer = LiftDownPool2d(64)
    assert sum(p.numel() for p in layer.parameters()) == 2 * 64 * (5 + 3)
    assert set(layer.state_dict()) == {
        f"{f}.{p}" for f in ("predict", "update") for p in ("weight", "bias", "scale", "shift")
    }
    assert not LiftDownPool2d(64, filters="haar").state_dict()
    assert LiftDownPool1d(64).state_dict().keys() == layer.state_dict().keys()


# Mistakes of public code.


def test_u_acts_on_the_detail_and_not_on_the_odd_pixels() -> None:
    # U(x_o) would give 10.12537150, 3.32795521, 1.80207783, 4.96136409.
    near(worked_layer("sum")(tensor(X)), [9.90705038, 3.17500982, 1.68993465, 4.80968862])


def test_ll_is_the_approximation_and_lh_the_detail() -> None:
    flat = torch.full((1, 1, 6, 6), 2.5, dtype=torch.float64)
    for filters in WAVELETS:
        bands = lift_down_pool2d(flat, filters)
        near(bands.lh, [0.0] * 9)
        near(bands.hl, [0.0] * 9)
        near(bands.hh, [0.0] * 9)
    x = random_map(1, 1, 2, 6, 8)
    near(lift_down_pool2d(x, "haar").ll, F.avg_pool2d(x, 2).flatten().tolist(), 1e-14)


def losses(lines: list[tuple[list[float], list[float], list[float]]]) -> tuple[float, float]:
    """c_u and c_p of one pass as mean squares, from its lines' (source, s, d)."""
    update = [(s - o) ** 2 for source, smooth, _ in lines for s, o in zip(smooth, source[1::2], strict=True)]
    predict = [v**2 for _, _, detail in lines for v in detail]
    return math.fsum(update) / len(update), math.fsum(predict) / len(predict)


def test_the_detail_is_kept_small_and_not_near_the_even_pixels() -> None:
    filters = truth.learned(*P, replicate=False), truth.learned(*U, replicate=False)
    width = [(row, *truth.lift_line(row, *filters)) for row in X]
    near(torch.tensor(losses(width)).double() * 8, [6.88227359**2, 5.92309545**2], 1e-5)
    passes = [losses(width)]
    for half in (1, 2):
        columns = truth.transposed([lines[half] for lines in width])
        passes.append(losses([(column, *truth.lift_line(column, *filters)) for column in columns]))
    c_u, c_p = worked_layer().lift_losses(tensor(X))
    near(torch.stack((c_u, c_p)), [math.fsum(p[k] for p in passes) / 3 for k in (0, 1)], 1e-12)


def test_losses_of_a_sequence_are_those_of_its_one_step() -> None:
    filters = truth.learned(*P, replicate=False), truth.learned(*U, replicate=False)
    want = losses([(X1, *truth.lift_line(X1, *filters))])
    near(torch.stack(worked_layer(rank=1).lift_losses(tensor(X1))), list(want), 1e-12)


def test_losses_do_not_grow_with_the_batch_and_reach_the_filters() -> None:
    layer, x = random_layer(2), random_map(1, 1, 2, 7, 8)
    once, four = layer.lift_losses(x), layer.lift_losses(x.repeat(4, 1, 1, 1))
    near(torch.stack(four), [value.item() for value in once], 1e-13)
    sum(once).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in layer.parameters())
    half = layer.to(torch.bfloat16).lift_losses(x.bfloat16())
    assert half[0].dtype == torch.float32


def test_odd_sizes_do_not_crash_and_nothing_is_lost() -> None:
    x, layer = random_map(1, 1, 2, 5, 3), random_layer(2)
    bands = layer(x)
    assert bands.hh.shape == (1, 2, 3, 2)
    near(LiftUpPool2d(layer)(bands), x.flatten().tolist(), 1e-13)
    # The last row and column stand beside their own copies.
    extended = F.pad(x, (0, 1, 0, 1), mode="replicate")
    for got, want in zip(bands[:4], layer(extended)[:4], strict=True):
        assert same_bits(got.detach(), want.detach())
