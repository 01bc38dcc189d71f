import itertools

import pytest
import torch
import torch.nn.functional as F

from poolcore import lip2d, soft_pool2d, strided_pool2d
from poolcore.window import make_window
from tests.poolcore import truth
from tests.poolcore.cases import SIZES, WINDOWS, fits, near


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_output_sizes_are_those_of_torch(ceil_mode: bool) -> None:
    for n, k, s in itertools.product(range(1, 14), range(1, 8), range(1, 5)):
        for p in range(k // 2 + 1):
            window = make_window((k, 1), (s, 1), (p, 0), ceil_mode=ceil_mode)
            try:
                want = F.max_pool2d(torch.zeros(1, 1, n, 3), (k, 1), (s, 1), (p, 0), ceil_mode=ceil_mode).shape[2:]
            except RuntimeError:
                with pytest.raises(ValueError, match="kernel_size must fit into the padded input"):
                    window.output_size((n, 3))
                continue
            assert window.output_size((n, 3)) == tuple(want), (n, k, s, p)


@pytest.mark.parametrize(("window", "size"), [pair for pair in itertools.product(WINDOWS, SIZES) if fits(*pair)])
def test_coverage_is_average_pooling_summed_over_outputs(window: str, size: str) -> None:
    geometry, (height, width) = WINDOWS[window], SIZES[size]
    got = make_window(*geometry[:3], ceil_mode=geometry.ceil_mode).coverage((height, width))
    near(got, [a for row in truth.coverage(geometry, height, width) for a in row], 1e-12)


def test_worked_coverage() -> None:
    axis = torch.tensor([0.5, 0.83333333, 0.33333333, 0.33333333], dtype=torch.float64)
    near(make_window(3, 2, 1).coverage((4, 4)), torch.outer(axis, axis).flatten().tolist())


def test_sizes_of_the_worked_examples() -> None:
    assert [make_window(*w).output_size((5, 5))[0] for w in ((2, 2, 0), (3, 2, 1), (3, 2, 0))] == [2, 3, 2]
    assert [make_window(*w).output_size((8, 8))[0] for w in ((2, 2, 0), (3, 2, 1), (3, 2, 0))] == [4, 4, 3]


X = torch.zeros(1, 2, 6, 6)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: soft_pool2d(X, 0), ValueError, "kernel_size must be at least 1, got 0"),
        (lambda: soft_pool2d(X, (2, -1)), ValueError, r"kernel_size must be at least 1, got \(2, -1\)"),
        (lambda: soft_pool2d(X, 2, 0), ValueError, "stride must be at least 1, got 0"),
        (lambda: soft_pool2d(X, 2, 1, -1), ValueError, "padding must be at least 0, got -1"),
        (
            lambda: soft_pool2d(X, (3, 2), 1, (2, 0)),
            ValueError,
            r"padding must be at most half of kernel_size, got padding=\(2, 0\) with kernel_size=\(3, 2\)",
        ),
        (lambda: soft_pool2d(X, 2.0), TypeError, "kernel_size must be an int or a pair of ints.*got 2.0"),
        (lambda: soft_pool2d(X, True), TypeError, "kernel_size must be an int or a pair of ints.*got True"),
        (lambda: soft_pool2d(X, (2, 2, 2)), TypeError, r"kernel_size must be an int or a pair.*got \(2, 2, 2\)"),
        (lambda: soft_pool2d(X, 2, ceil_mode=1), TypeError, "ceil_mode must be a bool, got 1"),
        (lambda: soft_pool2d(X, 7), ValueError, r"must fit into the padded input, got kernel_size=\(7, 7\).* 6 x 6"),
        (lambda: soft_pool2d(X[..., :0], 2), ValueError, "must fit into the padded input.* 6 x 0"),
        (lambda: soft_pool2d(X[0, 0], 2), ValueError, r"x must have shape \(N, C, H, W\) or \(C, H, W\), got \(6, 6\)"),
        (lambda: soft_pool2d(X[None], 2), ValueError, r"got \(1, 1, 2, 6, 6\)"),
        (lambda: soft_pool2d([[1.0]], 2), TypeError, "x must be a torch.Tensor, got list"),
        (lambda: soft_pool2d(X.int(), 2), TypeError, "x must have a floating-point dtype, got torch.int32"),
        (lambda: soft_pool2d(X.to(torch.complex64), 2), TypeError, "floating-point dtype, got torch.complex64"),
        (lambda: lip2d(X, X[:, :1], 2), ValueError, r"logit must have the shape of x, got \(1, 1, 6, 6\) for x of"),
        (lambda: lip2d(X, X.double(), 2), TypeError, "logit must have the dtype of x, got torch.float64 for x of"),
        (lambda: lip2d(X, X.int(), 2), TypeError, "logit must have a floating-point dtype, got torch.int32"),
        (lambda: strided_pool2d(X, 0), ValueError, "kernel_size must be at least 1, got 0"),
        (lambda: strided_pool2d(X.int(), 2), TypeError, "x must have a floating-point dtype"),
    ],
)
def test_errors_say_what_came_and_what_is_allowed(call, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        call()
