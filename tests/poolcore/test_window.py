import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from poolcore import lip2d, soft_pool2d, strided_pool2d
from poolcore.window import check_input, make_window
from tests.poolcore import truth
from tests.poolcore.cases import SIZES_OF_RANK, WINDOWS_OF_RANK, fits, near

MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("rank", MAX_POOL)
def test_output_sizes_are_those_of_torch(rank: int, ceil_mode: bool) -> None:
    rest = (3,) * (rank - 1)
    ones, zeros = (1,) * (rank - 1), (0,) * (rank - 1)
    for n, k, s in itertools.product(range(1, 14), range(1, 8), range(1, 5)):
        for p in range(k // 2 + 1):
            arguments = (k, *ones), (s, *ones), (p, *zeros)
            window = make_window(*arguments, ceil_mode=ceil_mode, rank=rank)
            try:
                want = MAX_POOL[rank](torch.zeros(1, 1, n, *rest), *arguments, ceil_mode=ceil_mode).shape[2:]
            except RuntimeError:
                with pytest.raises(ValueError, match="kernel_size must fit into the padded input"):
                    window.output_size((n, *rest))
                continue
            assert window.output_size((n, *rest)) == tuple(want), (n, k, s, p)


CASES = [
    (rank, window, size)
    for rank, windows in WINDOWS_OF_RANK.items()
    for window, size in itertools.product(windows, SIZES_OF_RANK[rank])
    if fits(window, size, rank)
]


@pytest.mark.parametrize(("rank", "window", "size"), CASES)
def test_coverage_is_average_pooling_summed_over_outputs(rank: int, window: str, size: str) -> None:
    geometry, sizes = WINDOWS_OF_RANK[rank][window], SIZES_OF_RANK[rank][size]
    got = make_window(*geometry[:3], ceil_mode=geometry.ceil_mode, rank=rank).coverage(sizes)
    assert got.shape == sizes
    near(got, torch.tensor(truth.coverage(geometry, sizes), dtype=torch.float64).flatten().tolist(), 1e-12)


def test_worked_coverage() -> None:
    axis = torch.tensor([0.5, 0.83333333, 0.33333333, 0.33333333], dtype=torch.float64)
    near(make_window(3, 2, 1).coverage((4, 4)), torch.outer(axis, axis).flatten().tolist())


def test_sizes_of_the_worked_examples() -> None:
    assert [make_window(*w).output_size((5, 5))[0] for w in ((2, 2, 0), (3, 2, 1), (3, 2, 0))] == [2, 3, 2]
    assert [make_window(*w).output_size((8, 8))[0] for w in ((2, 2, 0), (3, 2, 1), (3, 2, 0))] == [4, 4, 3]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_one_int_stands_for_every_axis(rank: int) -> None:
    window = make_window(3, 2, 1, rank=rank)
    assert window == make_window((3,) * rank, (2,) * rank, (1,) * rank, rank=rank)
    assert window.rank == rank


@pytest.mark.parametrize("size", [(7,), (5, 6), (2, 5, 6)])
def test_cells_of_the_padded_input_are_the_pixels_of_each_window(size: tuple[int, ...]) -> None:
    window = make_window(2, 3, 1, ceil_mode=True, rank=len(size))
    x = torch.arange(1.0, 1 + math.prod(size)).view(1, 1, *size)
    padded = F.pad(x, window.margins(size))
    largest = torch.stack([padded[cell] for cell in window.cells(size)]).amax(0)
    assert torch.equal(largest, MAX_POOL[len(size)](x, 2, 3, 1, ceil_mode=True))


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
        (
            lambda: make_window((2, 2), rank=1),
            TypeError,
            r"kernel_size must be an int or a tuple of one int \(length,\), got \(2, 2\)",
        ),
        (
            lambda: make_window(2, (2, 2), rank=3),
            TypeError,
            r"stride must be an int or a triple of ints \(depth, height, width\), got \(2, 2\)",
        ),
        (lambda: make_window(7, rank=1).output_size((6,)), ValueError, r"kernel_size=\(7,\).* an input of 6 pixels"),
        (lambda: make_window(7, rank=3).output_size((9, 6, 9)), ValueError, "for an input of 9 x 6 x 9 pixels"),
        (
            lambda: check_input(X[0, 0, 0], 1),
            ValueError,
            r"x must have shape \(N, C, L\) or \(C, L\), got \(6,\)",
        ),
        (
            lambda: check_input(X[None, None], 3, "logit"),
            ValueError,
            r"logit must have shape \(N, C, D, H, W\) or \(C, D, H, W\), got \(1, 1, 1, 2, 6, 6\)",
        ),
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
        (lambda: strided_pool2d(X, 0), ValueError, "stride must be at least 1, got 0"),
        (lambda: strided_pool2d(X.int(), 2), TypeError, "x must have a floating-point dtype"),
    ],
)
def test_errors_say_what_came_and_what_is_allowed(call, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        call()
