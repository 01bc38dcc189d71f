"""SoftPool: the worked examples, and the mistakes that public code made, one test each."""

import ast
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import poolcore
from poolcore import SoftPool1d, SoftPool2d, SoftPool3d, soft_pool1d, soft_pool2d, soft_pool3d
from tests.poolcore import truth
from tests.poolcore.cases import WINDOWS, assert_close, near, random_map, same_bits, tensor
from tests.poolcore.truth import X

SOFT_OF_X = [3.49265273, 1.49265273, 0.59465116, 3.58174749]
NINE = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]


def gradient(x: Tensor, upstream: list[list[float]] | None = None) -> Tensor:
    x = x.clone().requires_grad_()
    y = soft_pool2d(x, 2)
    grad = torch.ones_like(y) if upstream is None else tensor(upstream)
    return torch.autograd.grad(y, x, grad)[0]


@pytest.mark.parametrize(
    ("x", "window", "want"),
    [
        (X, (2, 2, 0), SOFT_OF_X),
        (X, (3, 2, 0), [3.21903930]),
        (NINE, (2, 1, 0), [4.58878096, 5.58878096, 7.58878096, 8.58878096]),
        # A map of one row is the 1D example: the absent rows of its windows count nothing.
        ([[1.0, 2.0, 0.0, -1.0, 3.0]], ((1, 2), (1, 2), 0), [1.73105858, -0.26894142]),
        ([[1.0, 2.0, 0.0, -1.0, 3.0]], ((1, 3), (1, 2), 0), [1.57521038, 2.79157083]),
        ([[1.0], [2.0], [0.0], [-1.0], [3.0]], ((3, 1), (2, 1), 0), [1.57521038, 2.79157083]),
    ],
)
def test_worked_values(x: list[list[float]], window: tuple, want: list[float]) -> None:
    near(soft_pool2d(tensor(x), *window), want)
    values = truth.weighted_pool(x, x, truth.Geometry(*((v, v) if isinstance(v, int) else v for v in window))).y
    near(tensor(values), want)


def test_worked_sequences() -> None:
    x = [1.0, 2.0, 0.0, -1.0, 3.0]
    for window, want in (((2, 2, 0), [1.73105858, -0.26894142]), ((3, 2, 0), [1.57521038, 2.79157083])):
        near(soft_pool1d(tensor(x), *window), want)
        near(tensor(truth.weighted_pool(x, x, truth.Geometry(*((v,) for v in window))).y), want)


def test_worked_volume() -> None:
    x = [X, truth.transposed(X)]
    want = [3.49265273, 1.20161505, 1.20161505, 3.58174749]
    near(soft_pool3d(tensor(x), 2), want)
    near(tensor(truth.weighted_pool(x, x, truth.Geometry((2, 2, 2), (2, 2, 2), (0, 0, 0))).y), want)


def test_worked_gradient() -> None:
    want = [-0.04785236, -0.04293189, -0.04293189, -0.04785236, 0.12018185, 0.97060240, 0.12018185, 0.97060240]
    want += [-0.03922197, 0.27127883, -0.01396520, -0.06798362, 0.07366847, 0.69427468, -0.00389694, 1.08584576]
    near(gradient(tensor(X)), want)


def test_a_windows_gradients_sum_to_one() -> None:
    grad = gradient(random_map(1, 2, 3, 8, 8))
    near(torch.nn.functional.avg_pool2d(grad, 2) * 4, [1.0] * 96, 1e-12)


@pytest.mark.parametrize(
    ("layer", "function", "size"),
    [(SoftPool1d, soft_pool1d, (9,)), (SoftPool2d, soft_pool2d, (9, 8)), (SoftPool3d, soft_pool3d, (9, 8, 5))],
)
def test_the_module_is_the_function(layer: type[SoftPool2d], function, size: tuple[int, ...]) -> None:
    x, kernel_size, padding = random_map(1, 2, 3, *size), (3, 2, 4)[: len(size)], (1, 0, 2)[: len(size)]
    pool = layer(kernel_size, 2, padding, ceil_mode=True)
    assert same_bits(pool(x), function(x, kernel_size, 2, padding, ceil_mode=True))
    stride = (2,) * len(size)
    assert repr(pool) == f"{layer.__name__}({kernel_size=}, {stride=}, {padding=}, ceil_mode=True)"
    assert not list(pool.parameters())


# Mistakes of public code.


def test_weights_are_not_summed_over_channels() -> None:
    rotated = [row[::-1] for row in X[::-1]]
    x = torch.cat((tensor(X), tensor(rotated)), 1)
    near(soft_pool2d(x, 2)[0, 0], SOFT_OF_X)


def test_negative_features_are_not_clamped_at_zero() -> None:
    near(soft_pool2d(-tensor(X).abs() - 0.5, 2), [-2.00734727, -1.03788284, -0.94641185, -2.54257971])


def test_large_values_do_not_overflow() -> None:
    near(soft_pool2d(tensor([[1000.0, 1001.0], [999.0, 998.0]]), 2), [1000.49265273])
    for value in (11.2, 89.0, 60000.0):
        x = torch.full((1, 1, 3, 3), value, dtype=torch.float16)
        assert soft_pool2d(x, 3).item() == x[0, 0, 0, 0].item()


def test_nan_is_not_turned_into_zero() -> None:
    x = tensor(X).requires_grad_()
    values = torch.tensor(X, dtype=torch.float64)
    values[0, 1] = math.nan
    y = soft_pool2d(x * values[None, None], 2)
    assert y.isnan().flatten().tolist() == [True, False, False, False]
    assert torch.autograd.grad(y.sum(), x)[0][0, 0, :2, :2].isnan().all()


def test_the_gradient_does_not_lack_its_second_term() -> None:
    # Under an even upstream gradient both rules sum to 1 per window; the weights alone begin .03205860, .08714432.
    grad = gradient(tensor(X), [[1.0, -2.0], [0.5, 3.0]])[0, 0]
    near(grad[1], [0.12018185, 0.97060240, -0.24036370, -1.94120480])
    near(grad[3], [0.03683423, 0.34713734, -0.01169081, 3.25753728])
    assert abs(gradient(tensor(X))[0, 0, 0, 0].item() - 0.03205860) > 0.05


def test_windows_are_not_centred() -> None:
    # Rows 2a - 1 and 2a would give 1, 1.76159416, 2.96653575, 3.54743253.
    near(soft_pool2d(tensor(X), 2), SOFT_OF_X)


@pytest.mark.parametrize("spread", [1, 40])
@pytest.mark.parametrize("shape", [(1, 1, 12, 5), (1, 2, 5, 12)])
def test_height_is_not_taken_for_width(shape: tuple[int, ...], spread: int) -> None:
    # Either way of computing: the larger spread is beyond what a plain exponential is used for.
    x = (spread * random_map(1, *shape)).requires_grad_()
    y = soft_pool2d(x, (3, 2), (1, 2), (1, 0))
    assert y.shape[2:] == (shape[2], (shape[3] - 2) // 2 + 1)
    upstream = random_map(2, *y.shape)
    grad = torch.autograd.grad(y, x, upstream)[0]
    for c in range(shape[1]):
        values = x[0, c].tolist()
        want = truth.weighted_pool(values, values, truth.Geometry((3, 2), (1, 2), (1, 0)), upstream[0, c].tolist())
        assert_close(y[0, c].detach(), want.y, want.y_scale, 8)
        scale = truth.added(want.grad_x_scale, want.grad_logit_scale)
        assert_close(grad[0, c], truth.added(want.grad_x, want.grad_logit), scale, 32)


def test_rows_are_not_sheared_where_the_size_is_no_multiple_of_the_stride() -> None:
    # 3/2 on 112 pixels gives 55 outputs, not 112 / 2.
    x = torch.arange(112, dtype=torch.float64).expand(1, 1, 112, 112) * 0.01
    y = soft_pool2d(x, 3, 2)
    assert y.shape == (1, 1, 55, 55)
    assert (y == y[..., :1, :]).all()
    column = torch.arange(55, dtype=torch.float64) * 0.02
    near(y[0, 0, 54] - column, [y[0, 0, 0, 0].item()] * 55, 1e-12)


def test_no_output_is_left_out_on_odd_sizes() -> None:
    # batch * height / stride * width / stride from left to right counts 12 outputs for 2 x 5 x 5, and 8 are there.
    x = random_map(1, 2, 1, 5, 5)
    y = soft_pool2d(x, 2)
    for n in range(2):
        want = truth.weighted_pool(x[n, 0].tolist(), x[n, 0].tolist(), WINDOWS["k2s2p0"])
        assert_close(y[n, 0], want.y, want.y_scale, 8)


def test_gradients_of_overlapping_windows_have_a_fixed_order() -> None:
    x = random_map(1, 4, 8, 33, 31, dtype=torch.float32).requires_grad_()
    grads = [torch.autograd.grad(soft_pool2d(x, 3, 1, 1).square().sum(), x)[0] for _ in range(3)]
    assert same_bits(grads[0], grads[1])
    assert same_bits(grads[0], grads[2])


def test_the_callers_tensor_keeps_its_shape_and_values() -> None:
    x = torch.tensor([X, X], dtype=torch.float64)
    before = x.clone()
    assert soft_pool2d(x, 2).shape == (2, 2, 2)
    assert x.shape == (2, 4, 4)
    assert same_bits(x, before)


def test_channels_last_goes_backward() -> None:
    x = random_map(1, 2, 3, 8, 8)
    last = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    y = soft_pool2d(last, 3, 2, 1)
    upstream = random_map(2, *y.shape).transpose(2, 3)
    grad = torch.autograd.grad(y, last, upstream)[0]
    plain = x.requires_grad_()
    want = torch.autograd.grad(soft_pool2d(plain, 3, 2, 1), plain, upstream.contiguous())[0]
    near(grad, want.flatten().tolist(), 1e-14)


def test_padding_has_no_weight() -> None:
    # A padding of zeros in x would have weight e^0 and give 3.29816488, 3.27349325, 3.38904499.
    want = [3.49265273, 3.40717356, 3.51583934, 3.52498497]
    near(soft_pool2d(tensor(X), 3, 2, 1), want)
    # So far down a padding of zeros would have all the weight.
    near(soft_pool2d(tensor(X) - 100, 3, 2, 1), [value - 100 for value in want])


def test_nothing_is_added_to_the_divisor() -> None:
    # avg(exp(x) x) / (avg(exp(x)) + 1e-8) of four pixels at -20 gives -3.42.
    near(soft_pool2d(torch.full((1, 1, 2, 2), -20.0, dtype=torch.float64), 2), [-20.0], 1e-14)
    near(soft_pool2d(torch.full((1, 1, 2, 2), -200.0, dtype=torch.float64), 2), [-200.0], 1e-13)


def imports(path: Path) -> set[str]:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    return imported


def test_nothing_is_compiled_and_torch_alone_is_needed() -> None:
    package = Path(poolcore.__file__).parent
    for path in package.rglob("*.py"):
        # The kernels are written in Triton, which not every build of torch brings; nobody else imports it.
        allowed = {"torch", "poolcore"} | ({"triton"} if path.is_relative_to(package / "kernels") else set())
        imported = imports(path)
        assert {name.split(".")[0] for name in imported} - set(sys.stdlib_module_names) <= allowed, path
        assert not any("cpp_extension" in name for name in imported)
