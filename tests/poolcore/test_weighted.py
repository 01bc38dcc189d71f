"""The family, SoftPool and LIP, on both of its routes, against plain loops."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import poolcore.blocks
import poolcore.processor
from poolcore import lip1d, lip2d, lip3d, soft_pool1d, soft_pool2d, soft_pool3d
from tests.poolcore import truth
from tests.poolcore.cases import (
    BATCHES,
    DTYPES,
    LAYOUTS,
    SIZES_OF_RANK,
    WINDOWS,
    WINDOWS_OF_RANK,
    assert_close,
    fits,
    keeps_format,
    near,
    pairs,
    random_map,
    same_bits,
    tensor,
)
from tests.poolcore.truth import Geometry, L, X


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the routes that were taken, in order."""
    taken: list[str] = []

    def recorded(name: str, route: str) -> Callable[..., object]:
        function = getattr(poolcore.processor, name)

        def call(*args: object) -> object:
            taken.append(route)
            return function(*args)

        return call

    for name, route in (("_bounded", "native"), ("weighted_pool_reference", "reference")):
        monkeypatch.setattr(poolcore.processor, name, recorded(name, route))
        monkeypatch.setattr(poolcore.processor, f"{name}_backward", recorded(f"{name}_backward", route))
    return taken


def force(monkeypatch: pytest.MonkeyPatch, route: str) -> None:
    monkeypatch.setattr(poolcore.processor, "_LOGIT_BOUND", {"native": math.inf, "reference": -1.0}[route])


SOFT = {1: soft_pool1d, 2: soft_pool2d, 3: soft_pool3d}
LIP = {1: lip1d, 2: lip2d, 3: lip3d}


def pool(x: Tensor, logit: Tensor | None, geometry: Geometry) -> Tensor:
    rank = len(geometry.kernel_size)
    if logit is None:
        return SOFT[rank](x, *geometry[:3], ceil_mode=geometry.ceil_mode)
    return LIP[rank](x, logit, *geometry[:3], ceil_mode=geometry.ceil_mode)


def cases(rank: int) -> list[str]:
    windows, sizes = WINDOWS_OF_RANK[rank], SIZES_OF_RANK[rank]

    def legal(case: tuple[str, ...]) -> bool:
        window, size, batch, *_ = case
        (n, c), geometry = BATCHES[batch], windows[window]
        reads = max(n, 1) * c * math.prod(sizes[size]) * math.prod(geometry.kernel_size) / math.prod(geometry.stride)
        return fits(window, size, rank) and reads < 25_000

    rest = (BATCHES, DTYPES, LAYOUTS, ("autocast", "plain"), ("random", "ones", "nhwc"), ("soft", "lip"))
    return [f"{rank}d-{'-'.join(case)}" for case in pairs([list(axis) for axis in (windows, sizes, *rest)], legal)]


CASES = [case for rank in (1, 2, 3) for case in cases(rank)]


@pytest.mark.parametrize("route", ["native", "reference"])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case: str, route: str, routes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    parts = case.replace("-ceil", "+ceil").split("-")
    rank_name, window, size, batch, dtype_name, layout, cast, upstream, kind = parts
    rank = int(rank_name[0])
    geometry, dtype = WINDOWS_OF_RANK[rank][window.replace("+", "-")], DTYPES[dtype_name]
    shape = (*BATCHES[batch], *SIZES_OF_RANK[rank][size])
    force(monkeypatch, route)
    monkeypatch.setattr(poolcore.blocks, "_BLOCK_ELEMENTS", max(1, math.prod(shape) // 2))
    x = LAYOUTS[layout](random_map(1, *shape, dtype=dtype))
    logit = LAYOUTS[layout](2 * random_map(2, *shape, dtype=dtype)) if kind == "lip" else None
    before = x.clone(), None if logit is None else logit.clone()

    inputs = [t.requires_grad_() for t in (x, logit) if t is not None]
    with torch.autocast("cpu", enabled=cast == "autocast"):
        y = pool(x, logit, geometry)
    assert y.dtype == dtype
    assert keeps_format(y, layout) or not len(x)
    if upstream == "ones":
        grad = torch.ones((), dtype=dtype).expand(y.shape)
    else:
        grad = random_map(3, *y.shape, dtype=dtype)
        grad = LAYOUTS["nhwc"](grad) if upstream == "nhwc" else grad
    grads = torch.autograd.grad(y, inputs, grad)
    if shape[0]:
        assert set(routes) == {route}

    want: dict[str, list[truth.Map]] = {name: [] for name in truth.Pooled._fields}
    soft_grad, soft_scale = [], []
    for n, c in ((n, c) for n in range(shape[0]) for c in range(shape[1])):
        values = x[n, c].tolist()
        logits = values if logit is None else logit[n, c].tolist()
        pooled = truth.weighted_pool(values, logits, geometry, grad[n, c].tolist())
        for name, value in zip(pooled._fields, pooled, strict=True):
            want[name].append(value)
        soft_grad.append(truth.added(pooled.grad_x, pooled.grad_logit))
        soft_scale.append(truth.added(pooled.grad_x_scale, pooled.grad_logit_scale))
    assert_close(y.detach(), want["y"], want["y_scale"], 8, f"y of {case}")
    if logit is None:
        assert_close(grads[0], soft_grad, soft_scale, 32, f"grad_x of {case}")
    else:
        assert_close(grads[0], want["grad_x"], want["grad_x_scale"], 32, f"grad_x of {case}")
        assert_close(grads[1], want["grad_logit"], want["grad_logit_scale"], 32, f"grad_logit of {case}")
    assert same_bits(x.detach(), before[0])
    assert logit is None or same_bits(logit.detach(), before[1])


@pytest.mark.parametrize("window", WINDOWS)
def test_each_gradient_alone_is_the_one_of_both_together(window: str) -> None:
    x, logit = random_map(1, 2, 3, 8, 8).requires_grad_(), random_map(2, 2, 3, 8, 8).requires_grad_()
    y = pool(x, logit, WINDOWS[window])
    both = torch.autograd.grad(y.square().sum(), (x, logit))
    for index, inputs in enumerate(((x, logit.detach()), (x.detach(), logit))):
        alone = torch.autograd.grad(pool(*inputs, WINDOWS[window]).square().sum(), inputs[index])
        assert same_bits(alone[0], both[index])


GRADCHECKS = {
    "1d": ((3, 1, 7), WINDOWS_OF_RANK[1]["k3s2p1"]),
    "2d": ((3, 1, 4, 3), WINDOWS["k3s2p1"]),
    "2d-rows": ((3, 1, 4, 3), WINDOWS["k23s12p01"]),
    "3d": ((2, 1, 3, 4, 3), WINDOWS_OF_RANK[3]["k231s123p010"]),
}


@pytest.mark.parametrize("case", GRADCHECKS)
@pytest.mark.parametrize("block", [1, 2**19])
@pytest.mark.parametrize("route", ["native", "reference"])
def test_gradcheck(case: str, block: int, route: str, routes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, route)
    monkeypatch.setattr(poolcore.blocks, "_BLOCK_ELEMENTS", block)
    shape, geometry = GRADCHECKS[case]
    x, logit = random_map(1, *shape).requires_grad_(), random_map(2, *shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pool(x, None, geometry), (x,))
    assert torch.autograd.gradcheck(lambda x, logit: pool(x, logit, geometry), (x, logit))
    assert set(routes) == {route}


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("route", ["native", "reference"])
def test_second_derivative_in_one_block(route: str, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, route)
    shape = (1, 1, 4, 3, 2)[: 2 + rank]
    x, logit = random_map(1, *shape).requires_grad_(), random_map(2, *shape).requires_grad_()
    geometry = WINDOWS_OF_RANK[rank]["k2s2p0"]
    assert torch.autograd.gradgradcheck(lambda x, logit: pool(x, logit, geometry), (x, logit))


EXTREMES = {
    "constant": torch.full((1, 2, 6, 7), 3.25, dtype=torch.float64),
    "1e4": 1e4 * random_map(5, 1, 2, 6, 7).sign(),
    "one-huge": torch.where(torch.arange(84).view(1, 2, 6, 7) == 17, 3e4, random_map(6, 1, 2, 6, 7)),
    "denormal": 1e-40 * random_map(7, 1, 2, 6, 7),
    "far-below": torch.where(torch.arange(84).view(1, 2, 6, 7) % 42 < 21, 50.0, -9000.0) + random_map(8, 1, 2, 6, 7),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["soft", "lip", "lip-values"])
@pytest.mark.parametrize("values", EXTREMES)
def test_extreme_values(values: str, kind: str, dtype: str) -> None:
    extreme, other = EXTREMES[values].to(DTYPES[dtype]), random_map(9, 1, 2, 6, 7, dtype=DTYPES[dtype])
    x, logit = {"soft": (extreme, None), "lip": (other, extreme), "lip-values": (extreme, other)}[kind]
    want = [
        truth.weighted_pool(x[0, c].tolist(), (x if logit is None else logit)[0, c].tolist(), WINDOWS["k3s2p1"])
        for c in range(2)
    ]
    got = pool(x, logit, WINDOWS["k3s2p1"])
    assert_close(got, [p.y for p in want], [p.y_scale for p in want], 8, f"{kind} of {values}")


def test_largest_finite_pixels_do_not_overflow() -> None:
    largest = torch.finfo(torch.float32).max
    x = torch.full((1, 1, 4, 4), largest).requires_grad_()
    logit = torch.full((1, 1, 4, 4), 20.0).requires_grad_()
    y = lip2d(x, logit, 2)
    assert_close(y.detach(), [[[[largest] * 2] * 2]], [[[[largest] * 2] * 2]], 8)
    grad_x, grad_logit = torch.autograd.grad(y.sum(), (x, logit))
    near(grad_x, [0.25] * 16)
    assert (grad_logit.abs() <= 32 * torch.finfo(torch.float32).eps * largest).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("window", ["k2s2p0", "k3s2p1", "k2s3p0"])
def test_softpool_of_a_non_finite_pixel_is_nan_in_the_windows_that_see_it(window: str, bad: float, dtype: str) -> None:
    x = random_map(1, 2, 2, 7, 8, dtype=DTYPES[dtype])
    clean, geometry = pool(x, None, WINDOWS[window]), WINDOWS[window]
    x[1, 0, 2, 3] = bad
    got = pool(x, None, geometry)
    for o, pixels in geometry.reads((7, 8)):
        clean[1, 0][o] = math.nan if (2, 3) in pixels else clean[1, 0][o]
    assert torch.allclose(got.double(), clean.double(), rtol=0.01, equal_nan=True)
    assert torch.equal(got.isnan(), clean.isnan())


@pytest.mark.parametrize("window", ["k2s2p0", "k3s2p1", "k3s2p1-ceil"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_lip_of_a_bad_logit_is_nan_in_the_windows_that_see_it(window: str, bad: float) -> None:
    x, logit = random_map(1, 1, 1, 7, 8), random_map(2, 1, 1, 7, 8)
    logit[0, 0, 2, 3] = bad
    want = truth.weighted_pool(x[0, 0].tolist(), logit[0, 0].tolist(), WINDOWS[window])
    assert_close(pool(x, logit, WINDOWS[window]), want.y, want.y_scale, 8)


def test_a_logit_of_minus_infinity_is_weight_zero() -> None:
    logit = tensor(L)
    logit[0, 0, 0, 1] = -math.inf
    want = truth.weighted_pool(X, logit[0, 0].tolist(), WINDOWS["k3s2p1"])
    assert not any(math.isnan(v) for row in want.y for v in row)
    assert_close(lip2d(tensor(X), logit, 3, 2, 1), want.y, want.y_scale, 8)


def test_a_window_of_only_minus_infinity_is_nan() -> None:
    logit = tensor(L)
    logit[0, 0, :2, :2] = -math.inf
    y = lip2d(tensor(X), logit, 2)
    assert y.isnan().flatten().tolist() == [True, False, False, False]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_non_finite_pixel_under_bounded_logits_reaches_only_its_windows(bad: float) -> None:
    x, logit = tensor(X), tensor(L)
    x[0, 0, 1, 2] = bad
    y = lip2d(x, logit, 2)[0, 0]
    near(torch.stack((y[0, 0], y[1, 0], y[1, 1])), [2.46475616, -1.27808649, -0.83144287])
    assert math.isnan(y[0, 1]) if math.isnan(bad) else y[0, 1] == bad


def test_a_window_far_below_all_others_keeps_its_weights(routes: list[str]) -> None:
    # Under the whole map's maximum as the shift, the left half's weights would be 0 / 0.
    x = random_map(1, 1, 1, 4, 8, dtype=torch.float32)
    logit = random_map(2, 1, 1, 4, 8, dtype=torch.float32)
    want = truth.weighted_pool(x[0, 0].tolist(), logit[0, 0].tolist(), WINDOWS["k2s2p0"])
    assert_close(lip2d(x, logit, 2), want.y, want.y_scale, 8)
    assert routes == ["native"]
    logit[..., :4] -= 2048
    want = truth.weighted_pool(x[0, 0].tolist(), logit[0, 0].tolist(), WINDOWS["k2s2p0"])
    assert_close(lip2d(x, logit, 2), want.y, want.y_scale, 8)
    assert routes[1:] == ["reference"]


@pytest.mark.parametrize(("logit", "route"), [(29.0, "native"), (31.0, "reference")])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_native_route_serves_bounded_logits_alone(logit: float, sign: int, route: str, routes: list[str]) -> None:
    logits = torch.zeros(1, 1, 4, 4)
    logits[0, 0, 1, 2] = sign * logit
    lip2d(torch.ones(1, 1, 4, 4), logits, 2)
    assert routes == [route]


AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
EVERY_WINDOW = [(rank, window) for rank, windows in WINDOWS_OF_RANK.items() for window in windows]


@pytest.mark.parametrize(("rank", "window"), EVERY_WINDOW)
def test_logit_zero_is_average_pooling_without_the_padding(rank: int, window: str) -> None:
    geometry = WINDOWS_OF_RANK[rank][window]
    x = random_map(1, 2, 3, *(9, 10, 7)[:rank])
    want = AVG_POOL[rank](x, *geometry[:3], ceil_mode=geometry.ceil_mode, count_include_pad=False)
    near(pool(x, torch.zeros_like(x), geometry), want.flatten().tolist(), 1e-14)


@pytest.mark.parametrize(("rank", "window"), EVERY_WINDOW)
def test_a_large_multiple_of_x_is_max_pooling(rank: int, window: str) -> None:
    geometry, shape = WINDOWS_OF_RANK[rank][window], (2, 1, *(9, 10, 4)[:rank])
    # Values that differ by at least 0.01, so that 1e4 times them differ by 100.
    count = math.prod(shape)
    x = (torch.randperm(count, generator=torch.Generator().manual_seed(0)) - count // 2).view(shape).double() / 100
    want = MAX_POOL[rank](x, *geometry[:3], ceil_mode=geometry.ceil_mode)
    near(pool(x, 1e4 * x, geometry), want.flatten().tolist(), 1e-14)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", ["soft", "lip"])
def test_a_mean_lies_within_its_window_and_softpool_above_the_average(kind: str, window: str) -> None:
    geometry = WINDOWS[window]
    x = 3 * random_map(1, 2, 3, 9, 10)
    options = {"ceil_mode": geometry.ceil_mode}
    y = pool(x, None if kind == "soft" else random_map(2, 2, 3, 9, 10), geometry)
    assert (y <= F.max_pool2d(x, *geometry[:3], **options) + 1e-12).all()
    assert (y >= -F.max_pool2d(-x, *geometry[:3], **options) - 1e-12).all()
    if kind == "soft":
        assert (y >= F.avg_pool2d(x, *geometry[:3], **options, count_include_pad=False) - 1e-12).all()


def test_a_constant_added_to_the_logit_changes_nothing() -> None:
    x, logit = random_map(1, 2, 3, 9, 10), random_map(2, 2, 3, 9, 10)
    want = lip2d(x, logit, 3, 2, 1)
    for constant in (5.0, -200.0, 1e4):
        near(lip2d(x, logit + constant, 3, 2, 1), want.flatten().tolist(), 1e-10)


def test_softpool_follows_a_shift_of_values_but_not_a_scale() -> None:
    x = random_map(1, 2, 3, 9, 10)
    near(soft_pool2d(x + 7, 3, 2, 1), (soft_pool2d(x, 3, 2, 1) + 7).flatten().tolist(), 1e-12)
    assert (soft_pool2d(2 * x, 2) - 2 * soft_pool2d(x, 2)).abs().min() > 1e-4


@pytest.mark.parametrize("kind", ["soft", "lip"])
def test_shift_by_a_stride_shifts_the_output(kind: str) -> None:
    x, logit = random_map(1, 1, 2, 11, 13), random_map(2, 1, 2, 11, 13)
    geometry = Geometry((3, 3), (2, 3))
    logits, shifted = (None, None) if kind == "soft" else (logit, logit[..., 2:, 3:])
    near(pool(x[..., 2:, 3:], shifted, geometry), pool(x, logits, geometry)[..., 1:, 1:].flatten().tolist(), 1e-14)


def test_constant_in_constant_out() -> None:
    x = torch.full((1, 2, 6, 7), -2.7, dtype=torch.float64)
    for logit in (random_map(1, 1, 2, 6, 7), 100 * random_map(1, 1, 2, 6, 7)):
        near(lip2d(x, logit, 3, 2, 1), [-2.7] * 24, 1e-14)


def test_unbatched_is_a_batch_of_one() -> None:
    for rank in (1, 2, 3):
        x, logit = random_map(1, 3, *(7, 8, 5)[:rank]), random_map(2, 3, *(7, 8, 5)[:rank])
        assert same_bits(SOFT[rank](x, 3, 2, 1), SOFT[rank](x[None], 3, 2, 1)[0])
        assert same_bits(LIP[rank](x, logit, 3, 2, 1), LIP[rank](x[None], logit[None], 3, 2, 1)[0])


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_an_image_gives_the_same_bits_alone_in_a_batch_and_in_any_block(
    dtype: str, layout: str, routes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, logit = (random_map(seed, 5, 3, 13, 17, dtype=DTYPES[dtype]) for seed in (1, 2))
    logit[2] *= 100  # one image that cannot take the native route
    x, logit = LAYOUTS[layout](x), LAYOUTS[layout](logit)
    batch = lip2d(x, logit, 3, 2, 1)
    assert set(routes) == {"native", "reference"}
    for i in range(5):
        assert same_bits(lip2d(x[i : i + 1], logit[i : i + 1], 3, 2, 1)[0], batch[i])
    for block in (1, 3 * 13 * 17 * 2):
        monkeypatch.setattr(poolcore.blocks, "_BLOCK_ELEMENTS", block)
        assert same_bits(lip2d(x, logit, 3, 2, 1), batch)


@pytest.mark.parametrize("kind", ["soft", "lip"])
def test_any_number_of_threads_and_any_run_gives_the_same_bits(kind: str) -> None:
    x, logit = (random_map(seed, 3, 9, 40, 41, dtype=torch.float32).requires_grad_() for seed in (1, 2))

    def run() -> list[Tensor]:
        y = pool(x, logit if kind == "lip" else None, WINDOWS["k3s2p1"])
        return [y, *torch.autograd.grad(y.square().sum(), [x, logit] if kind == "lip" else [x])]

    threads, first = torch.get_num_threads(), run()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert all(same_bits(a.detach(), b.detach()) for a, b in zip(run(), first, strict=True))
    finally:
        torch.set_num_threads(threads)


def test_no_operator_waits_for_the_device() -> None:
    # A meta tensor has no values: whatever asks for one, as isnan().any() does, raises.
    x = torch.empty(2, 3, 7, 8, device="meta").requires_grad_()
    soft_pool2d(x, 3, 2, 1).sum().backward()
    assert lip2d(x, x + 1, 3, 2, 1).shape == (2, 3, 4, 4)


def test_the_tolerance_tells_softpool_from_average_pooling_and_from_a_constant() -> None:
    # The authors' own test accepts both: a mean error below 0.2 on U(0, 1).
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    want = truth.weighted_pool(x[0, 0].tolist(), x[0, 0].tolist(), WINDOWS["k2s2p0"])
    assert_close(soft_pool2d(x, 2), want.y, want.y_scale, 8)
    for wrong in (F.avg_pool2d(x, 2), torch.full((1, 1, 4, 4), 0.5)):
        with pytest.raises(AssertionError, match="wrong"):
            assert_close(wrong, want.y, want.y_scale, 8)
