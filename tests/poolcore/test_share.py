"""What each pixel counts: the worked examples, sums by plain loops, gradients, and the exact Jacobian of LiftPool."""

import functools
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import poolcore.lift_share
from poolcore import (
    LiftDownPool1d,
    LiftDownPool2d,
    LIP1d,
    LIP2d,
    LIP3d,
    LogitHead,
    SoftPool1d,
    SoftPool2d,
    SoftPool3d,
    StridedPool1d,
    StridedPool2d,
    StridedPool3d,
    lip2d,
    share,
    soft_pool2d,
)
from poolcore.lift import LiftDownPool
from poolcore.share import window_of
from tests.poolcore import truth
from tests.poolcore.cases import DTYPES, LAYOUTS, WINDOWS, WINDOWS_OF_RANK, near, random_map, same_bits, tensor
from tests.poolcore.test_lift import random_layer
from tests.poolcore.truth import X1, Geometry, L, X, softmax

SIZES = [(8, 8), (7, 10), (9, 5)]
SIZES_OF_RANK = {1: [(8,), (13,)], 2: SIZES, 3: [(4, 5, 6)]}

MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVG_POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
SOFT_POOL = {1: SoftPool1d, 2: SoftPool2d, 3: SoftPool3d}
LIP = {1: LIP1d, 2: LIP2d, 3: LIP3d}
STRIDED_POOL = {1: StridedPool1d, 2: StridedPool2d, 3: StridedPool3d}
CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Fixed(nn.Module):
    """Logits given beforehand."""

    def __init__(self, logit: Tensor) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, x: Tensor) -> Tensor:
        return self.logit


def worked_lip(*window: int) -> LIP2d:
    return LIP2d(1, *window, logit=Fixed(tensor(L)))


def test_worked_shares() -> None:
    near(share(nn.MaxPool2d(2), tensor(X)), [0, 0, 0, 0, 0, 4, 0, 4] * 2)
    want = torch.zeros(4, 4).double()
    want[1, 1] = 5.76
    near(share(nn.MaxPool2d(3, 2, 1), tensor(X)), want.flatten().tolist())
    soft = share(SoftPool2d(2), tensor(X))[0, 0]
    near(soft[0], [0.12823441, 0.34857728, 0.34857728, 0.12823441])
    near(soft[1], [0.94753127, 2.57565704, 0.94753127, 2.57565704])
    near(share(SoftPool2d(3, 2, 1), tensor(X))[0, 0, 1], [1.16968696, 3.53799089, 0.20291561, 0.55158182])
    near(share(worked_lip(3, 2, 1), tensor(X))[0, 0, 1], [0.22512445, 0.74817507, 0.21655024, 4.34952793])
    haar = share(LiftDownPool2d(1, filters="haar", combine="sum"), tensor(X))
    near(haar, [0.25, 0.75, 0.25, 0.75, 0.75, 2.25, 0.75, 2.25] * 2)
    near(share(LiftDownPool2d(1, filters="haar", combine="ll"), tensor(X)), [1.0] * 16)
    cdf = share(LiftDownPool2d(1, filters="cdf53", combine="sum"), tensor(X))
    near(cdf[0, 0, 1], [0.47125, 2.1025, 1.41375, 1.8125])
    # In 1D the bands are (e + o) / 2 and o - e, so their sum is -e / 2 + 3 o / 2.
    near(share(LiftDownPool1d(1, filters="haar", combine="sum"), tensor(X1)), [0.5, 1.5] * 4)
    near(share(LiftDownPool1d(1, filters="haar", combine="low"), tensor(X1)), [1.0] * 8)


def held_to_loops(layer: nn.Module, x: Tensor, geometry: Geometry, weigh) -> None:
    """Hold ``share(layer, x)`` to S / A by loops; ``weigh(n, c, pixels)`` gives an output's weights."""
    got = share(layer, x)
    size = tuple(x.shape[2:])
    a = truth.coverage(geometry, size)
    for n, c in itertools.product(range(x.shape[0]), range(x.shape[1])):
        sums = truth.weight_sums(functools.partial(weigh, n, c), geometry, size)
        want = [truth.at(sums, i) / truth.at(a, i) if truth.at(a, i) else math.nan for i in truth.every_index(size)]
        covered = torch.tensor(want).isnan().logical_not()
        assert torch.equal(got[n, c].flatten().isnan(), ~covered)
        near(got[n, c].flatten()[covered], [w for w in want if not math.isnan(w)], 1e-12)


def first_largest(values: list[float]) -> list[float]:
    return [float(index == values.index(max(values))) for index in range(len(values))]


@pytest.mark.parametrize(
    ("window", "size"),
    [
        (window, size)
        for rank, sizes in SIZES_OF_RANK.items()
        for window, size in itertools.product(WINDOWS_OF_RANK[rank], sizes)
    ],
)
def test_shares_by_loops(window: str, size: tuple[int, ...]) -> None:
    rank = len(size)
    geometry = WINDOWS_OF_RANK[rank][window]
    arguments, options = geometry[:3], {"ceil_mode": geometry.ceil_mode}
    # Few values, so that there are ties.
    x = random_map(1, 2, 3, *size).mul(1.5).round()
    logit = 3 * random_map(2, 2, 3, *size)

    def values(source: Tensor):
        return lambda n, c, pixels: [source[n, c][pixel].item() for pixel in pixels]

    held_to_loops(MAX_POOL[rank](*arguments, **options), x, geometry, lambda *a: first_largest(values(x)(*a)))
    held_to_loops(SOFT_POOL[rank](*arguments, **options), x, geometry, lambda *a: softmax(values(x)(*a)))
    lip = LIP[rank](3, *arguments, **options, logit=Fixed(logit))
    held_to_loops(lip, x, geometry, lambda *a: softmax(values(logit)(*a)))
    average = AVG_POOL[rank](*arguments, **options, count_include_pad=True)
    held_to_loops(average, x, geometry, lambda n, c, pixels: [1 / len(pixels)] * len(pixels))


# Kernel size, stride, padding and groups, by rank.
CONVOLUTIONS = {
    1: [(3, 2, 1, 1), (1, 2, 0, 2), (2, 3, 1, 4)],
    2: [
        (3, 2, 1, 1),
        (1, 2, 0, 1),
        (3, 2, 1, 2),
        (3, 2, 0, 4),
        ((2, 3), (1, 3), (1, 0), 1),
        (2, 3, 1, 2),
        (7, 2, 3, 1),
    ],
    3: [(3, 2, 1, 1), (1, 2, 0, 2), ((2, 3, 1), (1, 2, 3), (1, 1, 0), 1)],
}


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "padding", "groups"),
    [
        (size, *convolution)
        for rank, convolutions in CONVOLUTIONS.items()
        for size, convolution in itertools.product(SIZES_OF_RANK[rank], convolutions)
    ],
)
def test_share_of_a_strided_convolution_by_loops(size, kernel_size, stride, padding, groups: int) -> None:
    conv = CONVOLUTION[len(size)](4, 8, kernel_size, stride, padding, groups=groups).double()
    nn.init.normal_(conv.weight, generator=torch.Generator().manual_seed(0))
    geometry = Geometry(conv.kernel_size, conv.stride, conv.padding)
    weights, per_group = conv.weight.tolist(), 4 // groups

    def counts(c: int, cell: truth.Index) -> float:
        outs = range(c // per_group * 8 // groups, (c // per_group + 1) * 8 // groups)
        return math.fsum(abs(truth.at(weights[out][c % per_group], cell)) for out in outs)

    def sums(c: int) -> dict[truth.Index, float]:
        found = dict.fromkeys(truth.every_index(size), 0.0)
        for corner in itertools.product(*(geometry.starts(axis, n) for axis, n in enumerate(size))):
            cells = {
                tuple(start + i for start, i in zip(corner, cell, strict=True)): counts(c, cell)
                for cell in truth.every_index(conv.kernel_size)
            }
            inside = {pixel: count for pixel, count in cells.items() if pixel in found}
            for pixel, count in inside.items():
                found[pixel] += count / math.fsum(inside.values())
        return found

    got = share(conv, random_map(1, 2, 4, *size))
    a = truth.coverage(geometry, size, tuple(map(max, conv.kernel_size, conv.stride)))
    for c in range(4):
        want = [s / truth.at(a, i) if truth.at(a, i) else math.nan for i, s in sums(c).items()]
        want = torch.tensor(want, dtype=torch.float64)
        assert torch.allclose(got[0, c].flatten(), want, rtol=1e-12, atol=1e-13, equal_nan=True)
    assert same_bits(got[0], got[1])
    assert same_bits(got, share(conv, random_map(2, 2, 4, *size)))


def test_share_of_a_strided_1x1_convolution_is_four_or_nothing() -> None:
    got = share(nn.Conv2d(3, 5, 1, 2), random_map(1, 1, 3, 4, 6))
    near(got[0, 1], [4, 0, 4, 0, 4, 0, 0, 0, 0, 0, 0, 0] * 2)


@pytest.mark.parametrize("stride", [1, 2, 3, (2, 1)])
def test_share_of_subsampling_is_the_stride_squared_or_nothing(stride) -> None:
    got = share(StridedPool2d(stride), random_map(1, 2, 3, 6, 6))
    rows, columns = (stride, stride) if isinstance(stride, int) else stride
    assert (got[..., ::rows, ::columns] == rows * columns).all()
    assert got.count_nonzero() == got[..., ::rows, ::columns].numel()
    # A last cell that is cut off is an average of fewer pixels.
    near(share(StridedPool2d(2), random_map(1, 1, 1, 3, 3)), [4, 0, 2, 0, 0, 0, 2, 0, 1])
    near(share(StridedPool1d(3), random_map(1, 1, 1, 5)), [3, 0, 0, 2, 0])
    near(share(StridedPool3d((1, 2, 2)), random_map(1, 1, 1, 2, 2, 3)), [4, 0, 2, 0, 0, 0] * 2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ties_go_to_the_first_in_row_major_order(layout: str) -> None:
    x = LAYOUTS[layout](torch.zeros(2, 3, 4, 4))
    near(share(nn.MaxPool2d(2), x)[1, 2], [4, 0, 4, 0, 0, 0, 0, 0] * 2)
    near(share(nn.MaxPool2d(3, 2, 1), x)[0, 0, 1], [2.4, 1.44, 0, 0], 1e-6)
    near(share(nn.MaxPool1d(2), LAYOUTS[layout](torch.zeros(2, 3, 4)))[1, 2], [2, 0, 2, 0])
    near(share(nn.MaxPool3d(2), LAYOUTS[layout](torch.zeros(2, 3, 2, 2, 2)))[1, 2], [8, 0, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("window", ["k2s2p0", "k3s2p1", "k5s3p2", "k3s2p1-ceil"])
def test_sums_are_the_gradient_of_the_weighted_mean(window: str) -> None:
    geometry = WINDOWS[window]
    options = {"ceil_mode": geometry.ceil_mode}
    x, logit = random_map(1, 2, 3, 9, 8).requires_grad_(), random_map(2, 2, 3, 9, 8)
    a = torch.tensor(truth.coverage(geometry, (9, 8)), dtype=torch.float64)
    for weights, layer in (
        (x.detach(), SoftPool2d(*geometry[:3], **options)),
        (logit, LIP2d(3, *geometry[:3], **options, logit=Fixed(logit))),
    ):
        sums = torch.autograd.grad(lip2d(x, weights, *geometry[:3], **options).sum(), x)[0]
        near((share(layer, x) * a)[a.expand_as(x) > 0], sums[a.expand_as(x) > 0].flatten().tolist(), 1e-12)


def every_layer() -> list[nn.Module]:
    head = LogitHead(3, 3).double()
    nn.init.normal_(head[0].weight)
    return [
        nn.MaxPool2d(3, 2, 1),
        nn.AvgPool2d(3, 2, 1),
        SoftPool2d(3, 2, 1),
        LIP2d(3, 3, 2, 1, logit=head),
        LiftDownPool2d(3, filters="cdf53"),
        random_layer(3, combine="mean"),
        StridedPool2d(2),
        nn.Conv2d(3, 4, 3, 2, 1),
        nn.Conv2d(3, 4, 1, 2),
        SoftPool1d(3, 2, 1),
        random_layer(3, rank=1, combine="mean"),
        nn.Conv1d(3, 4, 3, 2, 1),
        nn.MaxPool3d(3, 2, 1),
        LIP3d(3, 3, 2, 1, logit="projection").double(),
        StridedPool3d(2),
    ]


def sample(layer: nn.Module, batch: int = 2) -> Tensor:
    return random_map(1, batch, 3, *(9, 8, 5)[: window_of(layer).rank])


@pytest.mark.parametrize("layer", every_layer(), ids=lambda layer: type(layer).__name__)
def test_the_mean_weighted_by_coverage_is_one(layer: nn.Module) -> None:
    rank = window_of(layer).rank
    cells = isinstance(layer, StridedPool2d | StridedPool3d | LiftDownPool)
    cells = cells or getattr(layer, "kernel_size", 0) == (1,) * rank
    geometry = Geometry((2,) * rank, (2,) * rank, (0,) * rank, ceil_mode=True)
    geometry = geometry if cells else WINDOWS_OF_RANK[rank]["k3s2p1"]
    for size in SIZES_OF_RANK[rank]:
        a = torch.tensor(truth.coverage(geometry, size), dtype=torch.float64)
        mean = (share(layer, random_map(1, 2, 3, *size)) * a).flatten(2).sum(2) / a.sum()
        near(mean, [1.0] * 6, 1e-12)


@pytest.mark.parametrize("layer", every_layer(), ids=lambda layer: type(layer).__name__)
def test_dtype_shape_and_mode(layer: nn.Module) -> None:
    x = sample(layer)
    assert share(layer, x).dtype == torch.float64
    near(share(layer, x[1]), share(layer, x)[1].flatten().tolist(), 1e-12)
    layer = layer.float().train()
    for dtype in ("fp32", "bf16", "fp16"):
        part = x.to(DTYPES[dtype]).requires_grad_()
        if isinstance(layer, LIP2d | LIP3d) and dtype != "fp32":
            part = part.detach()
            layer = layer.to(DTYPES[dtype])
        before = part.detach().clone()
        got = share(layer, part)
        assert got.dtype == torch.float32
        assert got.shape == part.shape
        assert not got.requires_grad
        assert same_bits(part.detach(), before)
    assert layer.training
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("layer", every_layer(), ids=lambda layer: type(layer).__name__)
def test_autocast_changes_no_share_but_through_lips_own_convolutions(layer: nn.Module) -> None:
    x, layer = sample(layer).float(), layer.float()
    want = share(layer, x)
    with torch.autocast("cpu"):
        got = share(layer, x)
    assert got.dtype == torch.float32
    assert torch.allclose(got, want, rtol=0.1) if isinstance(layer, LIP2d | LIP3d) else same_bits(got, want)


def test_an_empty_batch() -> None:
    for layer in every_layer():
        x = sample(layer, 0)
        assert share(layer, x).shape == x.shape


def test_logits_of_a_shared_trunk() -> None:
    x, features = random_map(1, 2, 3, 8, 8), random_map(2, 2, 4, 8, 8)
    head = LogitHead(4, 3).double()
    nn.init.normal_(head[0].weight)
    layer = LIP2d(3, 3, 2, 1, logit=head)
    want = share(LIP2d(3, 3, 2, 1, logit=Fixed(head(features).detach())), x)
    assert same_bits(share(layer, x, features), want)
    assert same_bits(share(layer, x, logit_from=features), want)


def test_a_gates_weights_differ_by_e_to_the_twelfth_at_most() -> None:
    head = LogitHead(3, 3).double()
    nn.init.constant_(head[1].weight, 1e4)
    nn.init.normal_(head[0].weight)
    got = share(LIP2d(3, 2, logit=head), random_map(1, 2, 3, 8, 8))
    assert got.max() > 3.9
    assert got.max() <= 4 / (1 + 3 * math.exp(-12)) + 1e-12
    assert 0 < got.min() < 1e-4
    assert got.min() >= 4 / (1 + 3 * math.exp(12)) - 1e-12


@pytest.mark.parametrize("combine", ["sum", "ll", None])
@pytest.mark.parametrize("padding_mode", ["replicate", "zeros"])
@pytest.mark.parametrize(
    ("size", "taps"), [((8, 8), 5), ((7, 9), 5), ((1, 5), 5), ((4, 3), 7), ((5, 6), 3), ((3, 2), 1)]
)
def test_share_of_lift_is_its_jacobian(
    size: tuple[int, int], taps: int, padding_mode: str, combine: str | None
) -> None:
    check_jacobian(random_layer(2, taps, combine=combine, padding_mode=padding_mode), size)


@pytest.mark.parametrize("combine", ["sum", "low", None])
@pytest.mark.parametrize("padding_mode", ["replicate", "zeros"])
@pytest.mark.parametrize(("length", "taps"), [(8, 5), (7, 5), (1, 5), (3, 7), (2, 3), (6, 1)])
def test_share_of_a_sequences_lift_is_its_jacobian(
    length: int, taps: int, padding_mode: str, combine: str | None
) -> None:
    check_jacobian(random_layer(2, taps, rank=1, combine=combine, padding_mode=padding_mode), (length,))


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 1), (8,), (7,), (1,)])
@pytest.mark.parametrize("filters", ["haar", "cdf53"])
def test_share_of_wavelets_is_their_jacobian(filters: str, size: tuple[int, ...]) -> None:
    layer = (LiftDownPool1d, LiftDownPool2d)[len(size) - 1]
    check_jacobian(layer(2, filters=filters, combine="sum"), size)


def check_jacobian(layer: LiftDownPool, size: tuple[int, ...]) -> None:
    x = random_map(1, 2, 2, *size)

    def call(x: Tensor) -> Tensor:
        out = layer(x)
        return out if isinstance(out, Tensor) else sum(out[:-1])

    # By output (N, C, outputs), then by input (N, C, pixels).
    jacobian = torch.autograd.functional.jacobian(call, x).abs()
    rank, pixels = len(size), math.prod(size)
    jacobian = jacobian.reshape(2, 2, -1, 2, 2, pixels)
    geometry = Geometry((2,) * rank, (2,) * rank, (0,) * rank, ceil_mode=True)
    a = torch.tensor(truth.coverage(geometry, size), dtype=torch.float64)
    got = share(layer, x)
    for n, c in itertools.product(range(2), range(2)):
        own = jacobian[n, c, :, n, c]  # (outputs, pixels)
        assert own.count_nonzero() == jacobian[n, c].count_nonzero()
        sums = (own / own.sum(1, keepdim=True)).sum(0).view(size)
        near(got[n, c], (sums / a).flatten().tolist(), 1e-11)


def test_share_of_lift_is_the_same_in_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    x, layer = random_map(1, 3, 5, 7, 8), random_layer(5, combine="mean")
    whole = share(layer, x)
    for block in (1, 4 * 14 * 14 * 16):
        monkeypatch.setattr(poolcore.lift_share, "_BLOCK_ELEMENTS", block)
        near(share(layer, x), whole.flatten().tolist(), 1e-14)


def test_share_of_lift_where_no_pixel_moves_the_output_is_the_average() -> None:
    # Of one pixel e = o: y = s + d with d = o, s = e - 2 o, so y = 0 whatever the pixel is.
    layer = LiftDownPool2d(1, 1, combine="sum")
    with torch.no_grad():
        layer.predict.weight.zero_()
        layer.update.weight.fill_(1.0)
        layer.update.bias.fill_(1.0)
        layer.update.scale.fill_(-2.0)
        layer.update.shift.fill_(2.0)
    x = torch.zeros(1, 1, 1, 1)
    jacobian = torch.autograd.functional.jacobian(layer, x)
    assert not jacobian.any()
    near(share(layer, x), [1.0])


def test_nan_shares_are_where_lift_reads_nan() -> None:
    x = random_map(1, 1, 1, 32, 32)
    x[0, 0, 16, 16] = math.nan
    got = share(random_layer(1, 3, combine="sum"), x)[0, 0]
    assert got[16, 16].isnan()
    assert not got[0].isnan().any()


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda x: share(nn.MaxPool2d(3, dilation=2), x), ValueError, "dilation must be 1 for a share, got dilation=2"),
        (lambda x: share(nn.Conv2d(3, 3, 3, 2, dilation=2), x), ValueError, r"got dilation=\(2, 2\)"),
        (lambda x: share(nn.Conv2d(3, 3, 3, padding="same"), x), ValueError, "given in pixels.* got padding='same'"),
        (
            lambda x: share(nn.Conv2d(3, 3, 3, 2, 1, padding_mode="circular"), x),
            ValueError,
            "padding must be of zeros.*padding_mode='circular'",
        ),
        (
            lambda x: share(nn.ReLU(), x),
            TypeError,
            "layer must be a MaxPool, AvgPool, SoftPool, LIP, StridedPool or Conv of 1d, 2d or 3d, .* got ReLU",
        ),
        (lambda x: share(SoftPool2d(2), x, x), TypeError, "logit_from is for LIP alone, got it for SoftPool2d"),
        (lambda x: share(SoftPool2d(2), x.int()), TypeError, "x must have a floating-point dtype"),
        (lambda x: share(nn.MaxPool2d(2), x[0, 0]), ValueError, "x must have shape"),
        (lambda x: share(nn.MaxPool3d(2), x[0]), ValueError, r"\(N, C, D, H, W\) or \(C, D, H, W\), got \(3, 8, 8\)"),
        (lambda x: share(SoftPool1d(2), x), ValueError, r"x must have shape \(N, C, L\) or \(C, L\), got"),
        (lambda x: share(nn.MaxPool1d(3, dilation=2), x[0]), ValueError, "dilation must be 1 for a share"),
        (lambda x: share(nn.Conv3d(3, 3, 3, dilation=(1, 2, 1)), x), ValueError, r"got dilation=\(1, 2, 1\)"),
        (lambda x: share(nn.MaxPool2d(9), x), ValueError, "kernel_size must fit into the padded input"),
    ],
)
def test_errors_say_what_came_and_what_is_allowed(call, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        call(torch.zeros(1, 3, 8, 8))


def test_a_valid_convolution_has_no_padding() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, 2, padding="valid")
    plain = nn.Conv2d(3, 4, 3, 2)
    plain.load_state_dict(conv.state_dict())
    x = random_map(1, 1, 3, 9, 9)
    assert same_bits(share(conv, x), share(plain, x))


def test_plain_means_are_one_only_without_overlap() -> None:
    near(share(nn.MaxPool2d(3, 2, 1), tensor(X)).mean()[None], [0.36])
    near(share(nn.MaxPool2d(2), tensor(X)).mean()[None], [1.0])


def test_without_overlap_the_shares_average_their_pixels_to_the_output() -> None:
    x = random_map(1, 2, 3, 8, 8)
    near(F.avg_pool2d(share(SoftPool2d(2), x) * x, 2), soft_pool2d(x, 2).flatten().tolist(), 1e-14)
    near(F.avg_pool2d(share(nn.MaxPool2d(2), x) * x, 2), F.max_pool2d(x, 2).flatten().tolist(), 1e-14)
